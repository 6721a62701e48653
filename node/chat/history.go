package chat

import (
	"strings"
	"time"

	"lanchat/wire"
	"lanchat/wire/clean"
)

// A Lookup is a question to the node's own store, whose answer comes back by
// HandleFound, or by HandleUnread where Unread is set. Otherwise exactly one
// of Text and Chat is.
type Lookup struct {
	Chat   ChatID    // the last messages of a chat
	Before MessageID // of them, those before this one; zero: up to the end
	Text   string    // the last messages of all chats that contain it
	Limit  int
	Unread bool // how many messages of each chat were not read
	// Message is one message of Chat, Nth the n-th last that is shown and not
	// deleted: of an account, or of anybody if Of is zero.
	Message MessageID
	Nth     int
	Of      wire.AccountID
	code    string
	ref     string
	then    func(now time.Time, found []SaveMessage) // what becomes of it; nil: it is listed
	fail    func(now time.Time)                      // called after an error was shown; nil: nothing
}

// A Past is a message of the history: "/history", "/search" and "/links" list
// them in their notice's Data.
type Past struct {
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	Chat   string    `json:"chat"`
	From   string    `json:"from"`
	Text   string    `json:"text"`
	Mode   string    `json:"mode"`
	Own    bool      `json:"own"`    // sent by this device
	Action bool      `json:"action"` // "/me waves"
	Read   bool      `json:"read"`
	// ReplyTo is the message that it answers, "" if none. Deleted ones have no
	// text.
	ReplyTo string `json:"reply_to"`
	Edited  bool   `json:"edited"`
	Deleted bool   `json:"deleted"`
	Links   []int  `json:"-"` // as in Message
}

func (c *Core) past(m *SaveMessage) Past {
	return Past{ID: m.ID.String(), At: m.At.UTC().Truncate(time.Second), Chat: c.chatName(m.Chat), From: clean.Line(m.From, wire.MaxNameHint), Text: clean.Text(m.Text, 0),
		Mode: m.Mode.String(), Own: m.Own, Action: m.Action, Read: m.Read,
		ReplyTo: m.ReplyTo.String(), Edited: m.Edited || m.Deleted, Deleted: m.Deleted, Links: c.numberLinks(m.Text)}
}

const historyLimit = 100

func (Lookup) send() {}

func (c *Core) doHistory(k *call) {
	chat, before := k.chat, MessageID{}
	if len(k.args) > 0 {
		chat = k.args[0]
	}
	if len(k.args) > 1 {
		var ok bool
		if before, ok = parseMessageID(k.args[1]); !ok {
			c.refuse(k.ref, "bad_argument", "%q is no message: its id has %d hexadecimal digits", k.args[1], 2*len(before))
			return
		}
	}
	if id, _, ok := c.chatOf(chat, k.ref); ok {
		c.lookUp(Lookup{Chat: id, Before: before, Limit: historyLimit, code: "history", ref: k.ref})
	}
}

func (c *Core) doSearch(k *call) {
	c.lookUp(Lookup{Text: k.rest, Limit: historyLimit, code: "search", ref: k.ref})
}

// HandleFound shows what the store answered, in the order it is given.
func (c *Core) HandleFound(now time.Time, q Lookup, found []SaveMessage, err error) {
	c.awaited--
	if err != nil {
		c.refuse(q.ref, "failed", "looking it up: %v", err)
		if q.fail != nil {
			q.fail(now)
		}
		return
	}
	if q.then != nil {
		q.then(now, found)
		return
	}
	if q.code == "links" {
		c.foundLinks(q, found)
		return
	}
	list := []Past{}
	var rows [][]string
	for i := range found {
		v := c.past(&found[i])
		list = append(list, v)
		text := v.Text
		if v.Action {
			text = "* " + text
		}
		switch {
		case v.Deleted:
			text = "(deleted)"
		case v.Edited:
			text += " (edited)"
		}
		rows = append(rows, []string{found[i].At.Format("2006-01-02 15:04"), v.Chat, v.From, text})
	}
	lines := table(rows)
	if len(lines) == 0 {
		lines = []string{"nothing was found"}
	}
	c.show(Notice{Code: q.code, Text: strings.Join(lines, "\n"), Ref: q.ref, Data: list})
}

// chatName returns what a chat is called.
func (c *Core) chatName(id ChatID) string {
	if !id.IsRoom() {
		return "@" + c.people.nameOf(id.Account)
	}
	if m := c.rooms[id.Room]; m != nil {
		return m.chat()
	}
	return "#" + id.Room.String()[:4]
}

// A Recall asks the node's own store for reliable messages of a device in a
// room, with their signatures; the answer comes back by HandleRecalled.
type Recall struct {
	Room   wire.RoomID
	Device wire.DeviceID
	Ranges []wire.Range
	Limit  int
	to     wire.DeviceID // who misses them
}

func (Recall) send() {}

// HandleRecalled gives a member's device what it missed, as far as it was in
// the epoch of each message: "old messages only to devices of that message's
// epoch".
func (c *Core) HandleRecalled(q Recall, found []SaveMessage) {
	m, to := c.rooms[q.Room], c.people.devices[q.to]
	if m == nil || to == nil {
		return
	}
	for _, f := range signedFor(m, to, found) {
		c.send(Push{To: to.id, Type: f.Type, Body: f.Body})
	}
}

// handleSigned takes a message from history on a link's control stream.
func (c *Core) handleSigned(now time.Time, from *device, body []byte) error {
	s, err := wire.ParseSigned(body)
	if err != nil {
		return err
	}
	if m := c.rooms[s.Room]; m != nil {
		_, err = c.takeSigned(now, m, s, from.id)
	}
	return err
}
