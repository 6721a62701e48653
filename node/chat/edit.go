package chat

import (
	"strconv"
	"strings"
	"time"

	"lanchat/wire"
	"lanchat/wire/clean"
)

// Edits and deletions are messages like others, numbered, signed and kept, that
// name another of their author's. The store applies them to the history,
// whichever comes first; what is shown of them is read back from there.

// told is a message whose turn it is: somebody else's, one that another device
// of the person here wrote, or one of this device that it had forgotten.
type told struct {
	SaveMessage
	verb   wire.Verb
	chat   string
	late   bool
	replay bool
	why    string // it rings
}

// take stores a message and shows it, or what it changes.
func (c *Core) take(now time.Time, x told) {
	switch x.verb {
	case wire.Say, wire.Action:
		x.Action = x.verb == wire.Action
	default:
		x.Verb, x.Read = x.verb, true
	}
	mine := x.Account == c.self.account
	x.Read = x.Read || mine
	c.save(x.SaveMessage)
	switch {
	case x.Own || x.Verb == Hidden || c.ignored(now, x.Account):
		return
	case x.Verb != 0:
		c.showAgain(x.Chat, x.ReplyTo, x.replay, true, mine)
		return
	case c.orphans[x.ID]: // it was edited before it came
		c.showAgain(x.Chat, x.ID, x.replay, false, mine)
	default:
		e := x.message(x.chat)
		e.Late, e.Replay = x.late, x.replay
		c.show(e)
	}
	if !x.replay && !mine { // what was said while one was away does not ring
		c.ring(now, x.Chat, x.chat, x.ID, x.why)
	}
}

// message returns a message as an event.
func (m *SaveMessage) message(chat string) Message {
	return Message{ID: m.ID.String(), Chat: chat, From: m.From, Text: m.Text, Mode: m.Mode.String(), ReplyTo: m.ReplyTo.String(),
		Action: m.Action, Edited: m.Edited || m.Deleted, Deleted: m.Deleted}
}

// maxOrphans bounds the messages known to be edited that are not there.
const maxOrphans = 4096

// showAgain shows a message as it stands in the store now; one that was changed
// only if it was. mine says that the person here changed it, on another device.
func (c *Core) showAgain(in ChatID, id MessageID, replay, changed, mine bool) {
	c.lookUp(Lookup{Chat: in, Message: id, then: func(_ time.Time, found []SaveMessage) {
		if len(found) == 0 {
			if len(c.orphans) < maxOrphans {
				c.orphans[id] = true
			}
			return
		}
		delete(c.orphans, id)
		m := &found[0]
		if m.Own && !mine || changed && !m.Edited && !m.Deleted {
			return // another's word about it counts nothing
		}
		m.From, m.Text = c.people.nameOf(m.Account), clean.Text(m.Text, 0)
		e := m.message(c.chatName(in))
		e.Replay = replay
		c.show(e)
	}})
}

// ---- commands

// pick looks for the message that a command is about, by its id or by how many
// come after it, the last one if it says neither; only for one's own if mine.
// With text behind it, which is handed on clean, a word that is no number and no
// id is text.
func (c *Core) pick(k *call, mine, text bool, then func(now time.Time, m *SaveMessage, rest string)) {
	id, _, ok := c.chatOf(k.chat, k.ref)
	if !ok {
		return
	}
	q := Lookup{Chat: id, Nth: 1, ref: k.ref}
	if mine {
		q.Of = c.self.account
	}
	word, rest := cutWord(k.rest)
	n, err := strconv.Atoi(word)
	named, isID := parseMessageID(word)
	switch {
	case isID:
		q.Message, q.Nth = named, 0
	case err == nil && n > 0 && (rest != "" || !text):
		q.Nth = n
	case text:
		rest = k.rest
	case word != "":
		c.refuse(k.ref, "bad_argument", "%q is neither a message's id nor a number: /%s 2 is about the last but one", word, k.verb)
		return
	}
	if rest = clean.Text(rest, maxSaid); text && strings.TrimSpace(rest) == "" {
		c.refuse(k.ref, "bad_argument", "there is nothing to send: type some text")
		return
	}
	end := c.begin()
	q.fail = end
	q.then = func(now time.Time, found []SaveMessage) {
		switch {
		case len(found) == 0:
			c.refuse(k.ref, "no_such_message", "there is no such message in %s", k.chat)
		case mine && found[0].Account != c.self.account:
			c.refuse(k.ref, "not_yours", "that message is not yours: only its author can change it")
		default:
			then(now, &found[0], rest)
		}
		end(now)
	}
	c.lookUp(q)
}

func (c *Core) doEdit(k *call) {
	c.pick(k, true, true, func(now time.Time, m *SaveMessage, text string) { c.change(now, k, m, wire.Edit, text) })
}

func (c *Core) doDelete(k *call) {
	c.pick(k, true, false, func(now time.Time, m *SaveMessage, _ string) { c.change(now, k, m, wire.Delete, "") })
}

// change sends an edit or a deletion: always reliable, since all are to see the
// same.
func (c *Core) change(now time.Time, k *call, m *SaveMessage, verb wire.Verb, text string) {
	if m.Deleted {
		c.refuse(k.ref, "no_such_message", "that message is deleted already")
		return
	}
	c.sayIn(now, k.chat, saying{text: text, mode: Reliable, verb: verb, replyTo: m.ID, was: clean.Text(m.Text, maxSaid), ref: k.ref})
}

func (c *Core) doQuote(k *call) {
	c.pick(k, false, true, func(now time.Time, m *SaveMessage, text string) {
		s := saying{text: text, mode: c.settingsOf(m.Chat).mode, replyTo: m.ID, ref: k.ref}
		c.sayIn(now, k.chat, s)
	})
}

// maxSaid is how much of a text is looked at, in bytes: one more than travels.
const maxSaid = wire.MaxLongText + 1

// sayIn sends to the chat that is called so.
func (c *Core) sayIn(now time.Time, chat string, s saying) {
	if c.refuseMuzzled(s.ref) {
		return
	}
	switch m, p, ok := c.findChat(chat, s.ref); {
	case !ok:
	case m != nil:
		c.say(now, m, s)
	default:
		c.sayDirect(now, p, s)
	}
}
