package chat

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Summary is how one chat stands, as "/chats" lists it.
type Summary struct {
	Chat   string `json:"chat"`
	Unread int    `json:"unread"`
	Mode   string `json:"mode"`
	Notify string `json:"notify"`
	Muted  bool   `json:"muted"`
}

func (c *Core) doChats(k *call) {
	c.lookUp(Lookup{Unread: true, code: "chats", ref: k.ref})
}

// HandleUnread lists the chats, with what the store says is unread in them.
func (c *Core) HandleUnread(now time.Time, q Lookup, unread map[ChatID]int, err error) {
	c.awaited--
	if err != nil {
		c.refuse(q.ref, "failed", "looking it up: %v", err)
		return
	}
	list := []Summary{}
	var rows [][]string
	for _, id := range c.chatIDs() {
		s := c.settingsOf(id)
		v := Summary{Chat: c.chatName(id), Unread: unread[id], Mode: s.mode.String(), Notify: s.notify.String(), Muted: now.Before(s.mutedUntil)}
		list = append(list, v)
		rings := "rings: " + v.Notify
		if v.Muted {
			rings += ", muted"
		}
		rows = append(rows, []string{v.Chat, fmt.Sprintf("%d unread", v.Unread), v.Mode, rings})
	}
	lines := table(rows)
	if len(lines) == 0 {
		lines = []string{"no chats yet: /create #room, /join #room or /msg user text"}
	}
	c.show(Notice{Code: q.code, Text: strings.Join(lines, "\n"), Ref: q.ref, Data: list})
}

// chatIDs returns the rooms one is in and the people one has written with,
// each by name.
func (c *Core) chatIDs() (ids []ChatID) {
	for _, m := range c.sortedRooms() {
		ids = append(ids, ChatID{Room: m.id})
	}
	people := map[*person]bool{}
	for _, d := range c.direct {
		if d.person.account != c.self.account {
			people[d.person] = true
		}
	}
	for id := range c.received {
		if d := c.people.devices[id]; d != nil && d.person.account != c.self.account {
			people[d.person] = true
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(people), func(a, b *person) int { return cmp.Compare(a.name, b.name) }) {
		ids = append(ids, ChatID{Account: p.account})
	}
	return ids
}

// doRead notes that everything in a chat was read. It says nothing: a face
// does it whenever somebody looks.
func (c *Core) doRead(k *call) {
	chat := k.chat
	if len(k.args) > 0 {
		chat = k.args[0]
	}
	if id, name, ok := c.chatOf(chat, k.ref); ok {
		c.save(SaveRead{Chat: id})
		c.show(Notice{Code: "read", Text: "everything in " + name + " is read", Ref: k.ref, Data: map[string]any{"chat": name, "read": true}})
	}
}
