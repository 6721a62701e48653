package chat

import (
	"crypto/sha256"
	"slices"
	"time"

	"lanchat/node/room"
	"lanchat/wire"
)

// A text that does not fit a packet is announced by its hash and length
// (wire.Notice), as a reliable message with a number like others, and asked for
// over a link: of the author, or of any member that has it. The message has
// arrived when its text has; until then its number is missing, so order and
// acknowledgements are those of every message.

const (
	maxFetching = 64                     // texts of one room being asked for
	fetchFirst  = 250 * time.Millisecond // before the next member is asked; it doubles
	fetchMost   = 30 * time.Second
	fetchTries  = 10 // then it has to be announced again, as it is on repair
)

// A fetch is a long message whose text is being asked for.
type fetch struct {
	opened *room.Opened
	notice *wire.Notice
	id     MessageID
	replay bool
	tries  int
	asked  []wire.DeviceID // in this round
}

// notice returns a long message as it is announced.
func (s *saying) notice(n uint64) *wire.Notice {
	m := s.message(n)
	return &wire.Notice{Number: n, Verb: m.Verb, Ref: m.Ref, Hash: sha256.Sum256([]byte(s.text)), Length: uint32(len(s.text))}
}

// long reports whether the saying has to be announced.
func (s *saying) long() bool { return len(s.text) > wire.MaxPacketText }

// handleNotice asks for the text of a message that was announced. from is the
// device that handed it on; zero: nobody.
func (c *Core) handleNotice(now time.Time, m *membership, a *author, o *room.Opened, n *wire.Notice, replay bool, from wire.DeviceID) {
	switch id := messageID(m.id[:], o.From.Device, Reliable, n.Number); {
	case !o.Reliable:
		c.stats.Malformed++ // nothing would ever ask for it again
	case a.inbox.Has(n.Number):
		c.stats.Duplicates++
		c.owe(now, m, a)
	case m.fetching[id] == nil:
		c.fetch(now, m, &fetch{opened: o, notice: n, id: id, replay: replay}, from)
	}
}

func (c *Core) fetch(now time.Time, m *membership, f *fetch, from wire.DeviceID) {
	if len(m.fetching) < maxFetching {
		m.fetching[f.id] = f
		c.fetchText(now, m, f, from)
	}
}

// takeNotice takes a notice from history and reports whether it is new.
func (c *Core) takeNotice(now time.Time, m *membership, o *room.Opened, n *wire.Notice, from wire.DeviceID) (fresh bool) {
	id := messageID(m.id[:], o.From.Device, Reliable, n.Number)
	if o.From.Device == c.self.device {
		if fresh = c.takeOwnNumber(now, m, o, n.Number); fresh && m.fetching[id] == nil {
			c.fetch(now, m, &fetch{opened: o, notice: n, id: id, replay: true}, from)
		}
		return fresh
	}
	a := c.author(m, o.From.Device)
	fresh = !a.inbox.Has(n.Number) && m.fetching[id] == nil
	c.handleNotice(now, m, a, o, n, true, from)
	return fresh
}

// fetchText asks the next member: who handed the notice on, then the author,
// then anybody.
func (c *Core) fetchText(now time.Time, m *membership, f *fetch, first wire.DeviceID) {
	if c.rooms[m.id] != m || m.fetching[f.id] != f {
		return
	}
	to := c.fetchFrom(m, f, first)
	if to == nil {
		c.fetchLater(now, m, f)
		return
	}
	f.asked = append(f.asked, to.id)
	q := wire.AskText{Room: m.id, Message: f.id}
	c.ask(to.id, wire.FrameAskText, q.Append(nil), func(now time.Time, frames []Frame, err error) {
		if err == nil && len(frames) == 1 && frames[0].Type == wire.FrameText && f.notice.Fits(frames[0].Body) {
			c.fetched(now, m, f, string(frames[0].Body))
			return
		}
		c.fetchText(now, m, f, wire.DeviceID{})
	})
}

func (c *Core) fetchFrom(m *membership, f *fetch, first wire.DeviceID) *device {
	linked := slices.DeleteFunc(c.linkedIn(m), func(d *device) bool { return slices.Contains(f.asked, d.id) })
	for _, id := range []wire.DeviceID{first, f.opened.From.Device} {
		if i := slices.IndexFunc(linked, func(d *device) bool { return d.id == id }); i >= 0 {
			return linked[i]
		}
	}
	if len(linked) == 0 || len(f.asked) > pullDry {
		return nil
	}
	return linked[int(c.jitter(time.Duration(len(linked))))]
}

// fetchLater begins another round after a while.
func (c *Core) fetchLater(now time.Time, m *membership, f *fetch) {
	f.asked = nil
	f.tries++
	if f.tries > fetchTries {
		delete(m.fetching, f.id)
		return
	}
	c.after(now, min(fetchFirst<<f.tries, fetchMost), func(now time.Time) { c.fetchText(now, m, f, wire.DeviceID{}) })
}

// fetched takes a long message whose text has come.
func (c *Core) fetched(now time.Time, m *membership, f *fetch, text string) {
	if c.rooms[m.id] != m || m.fetching[f.id] != f {
		return
	}
	delete(m.fetching, f.id)
	msg := wire.Message{Number: f.notice.Number, Verb: f.notice.Verb, Ref: f.notice.Ref, Text: text}
	if f.opened.From.Device == c.self.device {
		c.deliverOwn(now, m, f.opened, msg, true)
		return
	}
	c.handleMessage(now, m, c.author(m, f.opened.From.Device), f.opened, msg, f.replay)
	c.schedule(m)
}

// A LongText asks the node's own store for the text of a long message, for a
// device that asked for it; the answer comes back by HandleLongText.
type LongText struct {
	Room     wire.RoomID
	Message  MessageID
	to       wire.DeviceID
	question uint64
}

func (LongText) send() {}

// answerText has the store asked for a text.
func (c *Core) answerText(dev *device, question uint64, body []byte) error {
	q, err := wire.ParseAskText(body)
	if err != nil {
		return err
	}
	m, err := c.roomFor(dev, q.Room)
	if err != nil {
		return err
	}
	if c.pages >= maxPages {
		return &refusal{busy, "others are being served: try again in a moment"}
	}
	c.pages++
	c.send(LongText{Room: m.id, Message: q.Message, to: dev.id, question: question})
	return nil
}

// HandleLongText answers with the text if the device was in the epoch of its
// message (R5).
func (c *Core) HandleLongText(q LongText, found []SaveMessage, err error) {
	c.pages--
	r := wire.Refused{Code: "no_such_message", Text: "that text is not here, or not for this device"}
	frame := Frame{wire.FrameRefused, r.Append(nil)}
	m, to := c.rooms[q.Room], c.people.devices[q.to]
	if err == nil && m != nil && to != nil && len(found) == 1 && found[0].Long != "" {
		if len(signedFor(m, to, found)) == 1 {
			frame = Frame{wire.FrameText, []byte(found[0].Long)}
		}
	}
	c.send(Answer{Question: q.question, Frames: []Frame{frame}})
}
