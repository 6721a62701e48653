package chat

import (
	"fmt"
	"slices"
	"time"

	"lanchat/node/delivery"
	"lanchat/wire"
	"lanchat/wire/clean"
)

// direct is the one-to-one chat with a person.
//
// A reliable message stays in the queue until every device of the person that
// is still about has it, so that each of them gets it, from this queue or from
// authd. It is confirmed, and the receipt shown, when the first has it.
//
// The one with oneself holds, for one's own other devices, copies of what this
// device wrote to others. They are delivered in the same way, and nobody has to
// confirm them.
type direct struct {
	person    *person
	queue     *delivery.Queue
	acked     map[wire.DeviceID]uint64 // how far each device has acknowledged
	confirmed uint64                   // the highest of those
	sentTo    map[wire.DeviceID]uint64 // last number pushed on the device's link that is up now
	watched   uint64                   // the number that has to be confirmed in unconfirmedAfter; 0: none
	fast      uint64                   // count of fast messages sent since the start
	heard     map[wire.DeviceID]uint64 // highest fast number heard, by device
	mail      outgoing
}

const (
	// What a person's first device has confirmed is kept for the others, but no
	// more than maxKept messages, and not for devices that were not seen for long.
	maxKept = 1000
	about   = 30 * 24 * time.Hour
	// When somebody who is there has not confirmed a message, the person here is
	// told.
	unconfirmedAfter = 10 * time.Second
)

func (c *Core) restoreDirect(s State) {
	last := map[wire.AccountID]uint64{}
	for _, d := range s.Direct {
		last[d.Account] = d.Sent
	}
	wait := map[wire.AccountID][]delivery.Queued{}
	for _, m := range s.Outbox {
		wait[m.Account] = append(wait[m.Account], delivery.Queued{Number: m.Number, ID: m.ID, Body: m.Body})
	}
	for account, n := range last {
		if p := c.people.accounts[account]; p != nil {
			d := newDirect(p, delivery.NewQueue(max(n, c.directBase()), wait[account]))
			d.confirmed = d.queue.First() - 1
			if account == c.self.account {
				d.confirmed = d.queue.Last()
			}
			c.direct[account] = d
		}
	}
	for _, a := range s.Acked {
		if dev := c.people.devices[a.Device]; dev != nil {
			d := c.directWith(dev.person)
			d.acked[dev.id] = a.Number
			d.confirmed = max(d.confirmed, a.Number)
		}
	}
}

// directBase is what reliable direct messages are numbered behind: the number of
// the start in the bits from 30 on. So they rise even if an older copy of the
// store was put back, and who has a later one of a person than this node
// remembers does not take a new one for old.
func (c *Core) directBase() uint64 { return c.cfg.Boot << 30 }

func newDirect(p *person, q *delivery.Queue) *direct {
	return &direct{person: p, queue: q, acked: map[wire.DeviceID]uint64{}, sentTo: map[wire.DeviceID]uint64{}, heard: map[wire.DeviceID]uint64{},
		mail: newOutgoing(q.Last())}
}

func (c *Core) directWith(p *person) *direct {
	d := c.direct[p.account]
	if d == nil {
		d = newDirect(p, delivery.NewQueue(c.directBase(), nil))
		c.direct[p.account] = d
	}
	return d
}

// sayDirect sends text to a person.
func (c *Core) sayDirect(now time.Time, p *person, s saying) {
	if p.account == c.self.account {
		c.refuse(s.ref, "bad_argument", "that is you: choose somebody else to write to")
		return
	}
	if s.mode == Fast {
		c.sayDirectFast(now, p, s)
		return
	}
	if len(s.text) > wire.MaxDirectText {
		c.refuse(s.ref, "too_long", "the message has %d bytes, at most %d travel in one: send it in parts", len(s.text), wire.MaxDirectText)
		return
	}
	d := c.directWith(p)
	c.clock = c.clock.Next(now)
	n := d.queue.Next()
	id := messageID(p.account[:], c.self.device, Reliable, n)
	m := wire.DirectMessage{Clock: c.clock, Message: s.message(n)}
	body := m.Append(nil)
	d.queue.Add(delivery.Queued{Number: n, ID: id, Body: body})
	c.save(SaveDirect{Account: p.account, Sent: n},
		SaveOutbox{Account: p.account, Number: n, ID: id, Body: body},
		c.ownMessage(now, ChatID{Account: p.account}, id, s, n))
	for _, dev := range p.linked() {
		c.pushDirect(d, dev)
	}
	online := 0
	if p.online() {
		online = 1
	}
	c.show(s.sent(id, "@"+p.name, online))
	c.planMail(now, d, mailSoon)
	c.watchDirect(now, d)
	c.copyDirect(now, p, Reliable, m)
	if !p.online() {
		c.show(Notice{Code: "waiting", Text: p.name + " is away; the message is kept and goes out when " + p.name + " is back", Ref: s.ref})
	}
}

// sayDirectFast sends text once to every device of the person that is there.
func (c *Core) sayDirectFast(now time.Time, p *person, s saying) {
	if len(s.text) > wire.MaxPacketText {
		c.refuse(s.ref, "too_long", "the message has %d bytes, a fast one at most %d: shorten it or use /mode reliable", len(s.text), wire.MaxPacketText)
		return
	}
	linked := p.linked()
	if len(linked) == 0 {
		c.refuse(s.ref, "unconfirmed", "%s is not online and a fast message does not wait: use /mode reliable to have it delivered later", p.name)
		return
	}
	d := c.directWith(p)
	c.clock = c.clock.Next(now)
	d.fast++
	n := c.cfg.Boot<<32 | d.fast
	id := messageID(p.account[:], c.self.device, Fast, n)
	m := wire.DirectMessage{Clock: c.clock, Message: s.message(n)}
	c.save(c.ownMessage(now, ChatID{Account: p.account}, id, s, n))
	for _, dev := range linked {
		c.send(Datagram{To: dev.id, Body: m.Append(nil)})
	}
	c.show(s.sent(id, "@"+p.name, 1))
	c.copyDirect(now, p, Fast, m)
}

// copyDirect has the other devices of the person here get what was written to
// somebody, whichever way it went.
func (c *Core) copyDirect(now time.Time, to *person, mode Mode, m wire.DirectMessage) {
	me := c.people.accounts[c.self.account]
	d := c.directWith(me)
	if !slices.ContainsFunc(me.devices, func(dev *device) bool { return c.keptFor(now, dev) }) {
		c.settleDirect(now, d)
		return
	}
	n := d.queue.Next()
	cp := wire.Copy{Number: n, To: to.account, Fast: mode == Fast, DirectMessage: m}
	body := cp.Append(nil)
	d.queue.Add(delivery.Queued{Number: n, Body: body})
	d.confirmed = n
	c.save(SaveDirect{Account: me.account, Sent: n}, SaveOutbox{Account: me.account, Number: n, Body: body})
	for _, dev := range me.linked() {
		c.pushDirect(d, dev)
	}
	c.planMail(now, d, mailSoon)
	c.settleDirect(now, d)
}

// keptFor reports whether what is written is kept for a device until it has it:
// it is another one, not shut out, and was seen lately.
func (c *Core) keptFor(now time.Time, dev *device) bool {
	return dev.id != c.self.device && !dev.revoked && (dev.linked || now.Sub(dev.seen) < about)
}

func (c *Core) ownMessage(now time.Time, chat ChatID, id MessageID, s saying, n uint64) SaveMessage {
	return SaveMessage{ID: id, Chat: chat, Account: c.self.account, Device: c.self.device, From: c.self.name, Mode: s.mode,
		Number: n, Clock: c.clock, At: now, Text: s.text, Action: s.action, Verb: s.verb, ReplyTo: s.replyTo, Own: true, Read: true}
}

// flushDirect gives a link that has just come up everything that waits.
func (c *Core) flushDirect(dev *device) {
	if d := c.direct[dev.person.account]; d != nil {
		d.sentTo[dev.id] = d.acked[dev.id]
		c.pushDirect(d, dev)
	}
}

func (c *Core) pushDirect(d *direct, dev *device) {
	frame := uint8(wire.FrameDirect)
	if d.person.account == c.self.account {
		frame = wire.FrameCopy
	}
	for _, m := range d.queue.After(d.sentTo[dev.id]) {
		c.send(Push{To: dev.id, Type: frame, Body: m.Body})
		d.sentTo[dev.id] = m.Number
	}
}

// HandleFrame takes a frame of the control stream of a device's link.
func (c *Core) HandleFrame(now time.Time, from wire.DeviceID, typ uint8, body []byte) {
	dev := c.people.devices[from]
	if dev == nil || !dev.linked {
		c.stats.Forbidden++
		return
	}
	dev.heard = now
	var err error
	switch typ {
	case wire.FrameDirect:
		err = c.handleDirect(now, dev, body)
	case wire.FrameDirectAck:
		err = c.handleDirectAck(now, dev, body)
	case wire.FrameCopy:
		err = c.handleCopy(now, dev, body)
	case wire.FrameKey:
		err = c.handleKey(now, dev, body)
	case wire.FrameEntry:
		err = c.handleEntry(now, dev, body)
	case wire.FramePacket:
		c.HandlePacket(now, body)
	case wire.FrameMirror:
		err = c.handleMirror(now, dev, body)
	case wire.FrameSigned:
		err = c.handleSigned(now, dev, body)
	case wire.FrameBase:
		err = c.handleBase(now, dev.id, body)
	case wire.FrameRoomInfo:
		err = c.handleRoomInfo(now, dev, body)
	}
	if err != nil {
		c.stats.Malformed++
	}
}

func (c *Core) handleDirect(now time.Time, dev *device, body []byte) error {
	m, err := wire.ParseDirectMessage(body)
	if err != nil {
		return err
	}
	if dev.person.account == c.self.account {
		c.stats.Forbidden++
		return nil
	}
	c.receiveDirect(now, dev, m)
	c.oweDirectAck(now, dev)
	return nil
}

// receiveDirect takes a reliable message at its turn, whichever way it came.
func (c *Core) receiveDirect(now time.Time, dev *device, m *wire.DirectMessage) {
	if c.isNews(dev, m.Message.Number) {
		c.showDirect(now, dev, m, Reliable, false)
	}
}

// isNews counts a reliable message, or a copy, of a device and reports
// whether it is new.
func (c *Core) isNews(dev *device, n uint64) bool {
	if n <= c.received[dev.id] {
		c.stats.Duplicates++
		return false
	}
	c.received[dev.id] = n
	c.save(SaveReceived{Device: dev.id, Number: n})
	return true
}

func (c *Core) handleCopy(now time.Time, dev *device, body []byte) error {
	m, err := wire.ParseCopy(body)
	if err != nil {
		return err
	}
	if dev.person.account != c.self.account || m.To == c.self.account {
		c.stats.Forbidden++
		return nil
	}
	c.receiveCopy(now, dev, m)
	c.oweDirectAck(now, dev)
	return nil
}

// receiveCopy takes what another device of the person here wrote to somebody.
func (c *Core) receiveCopy(now time.Time, dev *device, m *wire.Copy) {
	if !c.isNews(dev, m.Number) {
		return
	}
	mode := Reliable
	if m.Fast {
		mode = Fast
	}
	if p := c.people.accounts[m.To]; p != nil && c.direct[m.To] == nil {
		c.save(SaveDirect{Account: m.To, Sent: c.directWith(p).queue.Last()}) // one of the chats from now on
	}
	c.takeDirect(now, ChatID{Account: m.To}, messageID(m.To[:], dev.id, mode, m.Message.Number), dev, &m.DirectMessage, mode, false)
}

// handleDirectAck takes a device's word that it has messages of this one, over
// its link or by mail.
func (c *Core) handleDirectAck(now time.Time, dev *device, body []byte) error {
	m, err := wire.ParseDirectAck(body)
	if err != nil {
		return err
	}
	d := c.direct[dev.person.account]
	if d == nil {
		return nil
	}
	n := min(m.Number, d.queue.Last()) // nobody has what was not sent
	if n <= d.acked[dev.id] {
		return nil
	}
	d.acked[dev.id] = n
	c.save(SaveAcked{Device: dev.id, Number: n})
	for _, q := range d.queue.After(d.confirmed) {
		if q.Number <= n {
			c.show(Receipt{ID: MessageID(q.ID).String(), Chat: "@" + d.person.name, By: d.person.name, Got: 1, Of: 1})
		}
	}
	d.confirmed = max(d.confirmed, n)
	c.settleDirect(now, d)
	return nil
}

// settleDirect forgets what every device of the person has that is about, and
// what is confirmed beyond the bounds.
func (c *Core) settleDirect(now time.Time, d *direct) {
	settled := d.confirmed
	for _, dev := range d.person.devices {
		if c.keptFor(now, dev) {
			settled = min(settled, d.acked[dev.id])
		}
	}
	if n := d.queue.Len() - len(d.queue.After(d.confirmed)); n > maxKept {
		settled = max(settled, d.queue.Number(n-maxKept-1))
	}
	if len(d.queue.HandleAck(settled)) > 0 {
		c.save(DropOutbox{Account: d.person.account, Number: settled})
	}
}

// watchDirect has the person told if what was just written to somebody who is
// there is not confirmed soon.
func (c *Core) watchDirect(now time.Time, d *direct) {
	if d.watched > 0 || !d.person.online() {
		return
	}
	d.watched = d.queue.Last()
	c.after(now, unconfirmedAfter, func(now time.Time) {
		n := d.watched
		d.watched = 0
		switch {
		case d.confirmed < n:
			c.show(Notice{Code: "unconfirmed", Text: fmt.Sprintf("%s has not confirmed your message yet; it is not lost, it is kept and goes on being sent", d.person.name),
				Data: map[string]any{"chat": "@" + d.person.name, "waiting": len(d.queue.After(d.confirmed))}})
		case d.confirmed < d.queue.Last():
			c.watchDirect(now, d)
		}
	})
}

// HandleDatagram takes a DATAGRAM of a device's link: a fast direct message, or
// a fast packet of a room whose multicast this node does not hear.
func (c *Core) HandleDatagram(now time.Time, from wire.DeviceID, body []byte) {
	dev := c.people.devices[from]
	if dev == nil || !dev.linked {
		c.stats.Forbidden++
		return
	}
	if len(body) > 0 && body[0] == wire.PacketType {
		c.HandlePacket(now, body) // a mirrored one; a direct message begins so in the year 2567
		return
	}
	m, err := wire.ParseDirectMessage(body)
	if err != nil {
		c.stats.Malformed++
		return
	}
	d := c.directWith(dev.person)
	late := m.Message.Number <= d.heard[dev.id]
	d.heard[dev.id] = max(d.heard[dev.id], m.Message.Number)
	c.showDirect(now, dev, m, Fast, late)
}

func (c *Core) showDirect(now time.Time, dev *device, m *wire.DirectMessage, mode Mode, late bool) {
	c.takeDirect(now, ChatID{Account: dev.person.account}, messageID(c.self.account[:], dev.id, mode, m.Message.Number), dev, m, mode, late)
	if m.Message.Verb == wire.Say || m.Message.Verb == wire.Action {
		c.lastFrom = dev.person
	}
}

// takeDirect stores and shows a message of one of the two people in a chat.
func (c *Core) takeDirect(now time.Time, in ChatID, id MessageID, dev *device, m *wire.DirectMessage, mode Mode, late bool) {
	c.clock = c.clock.Merge(now, m.Clock)
	c.take(now, told{
		SaveMessage: SaveMessage{ID: id, Chat: in, Account: dev.person.account, Device: dev.id, From: dev.person.name, Mode: mode,
			Number: m.Message.Number, Clock: m.Clock, At: now, Text: clean.Text(m.Message.Text, wire.MaxDirectText), ReplyTo: m.Message.Ref},
		verb: m.Message.Verb, chat: c.chatName(in), late: late, why: "dm",
	})
}

// whoGotDirect says whether a person has a message of one's own, and if not,
// where it waits.
func (c *Core) whoGotDirect(k *call) {
	c.pick(k, true, false, func(_ time.Time, m *SaveMessage, _ string) {
		_, p, ok := c.findChat(k.chat, k.ref)
		switch {
		case !ok:
			return
		case !m.Own || m.Mode != Reliable:
			c.refuse(k.ref, "bad_argument", "only what this device sent in reliable mode is confirmed")
			return
		}
		d := c.directWith(p)
		got, missing := []string{}, []string{p.name}
		text := fmt.Sprintf("%q\n", clean.Line(m.Text, 60))
		switch {
		case m.Number <= d.confirmed:
			got, missing = missing, got
			text += p.name + " has it"
		case slices.ContainsFunc(p.devices, func(dev *device) bool { return d.mail.left[dev.id] >= m.Number }):
			text += "not confirmed: authd keeps it, sealed, until " + p.name + " fetches it"
		case p.online():
			text += "not confirmed yet: " + p.name + " is there, and it goes on being sent"
		default:
			text += "not confirmed: it waits here until " + p.name + " is back"
		}
		c.show(Notice{Code: "who_got", Text: text, Ref: k.ref, Data: map[string]any{"id": m.ID.String(), "got": got, "missing": missing}})
	})
}
