package chat

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"lanchat/node/delivery"
	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/clean"
)

// The other way of sending.go: from a packet whose signature a Reader has
// checked, by the inbox that puts its author's messages in order, to what is
// stored and shown; and what is asked and acknowledged about that.

const (
	ackDelay    = 50 * time.Millisecond // before reliable messages are acknowledged, plus …
	ackJitter   = 150 * time.Millisecond
	ackMost     = delivery.Window / 4    // messages of an author that are not acknowledged at once, in rooms up to spreadAbove
	ackPerSec   = 20                     // acknowledgement packets a room takes per second, of all members
	spreadAbove = 8                      // devices in a room; in larger ones requests for repair are spread in time
	spreadEach  = 250 * time.Microsecond // for each device more, they are later by up to so much …
	spreadMost  = 100 * time.Millisecond // … and at most
	ackAgain    = time.Minute            // an author that goes on asking is told again
	keepTracked = 256                    // own messages that everybody has and whose receipts are followed all the same, per room
	maxRecall   = 256                    // messages looked up for one repair request
	recallEvery = time.Second            // between look-ups for the same device
	reordering  = 2 * time.Second        // a packet may come behind its sender's goodbye
)

// An author is a device as its messages in one room are received.
type author struct {
	device wire.DeviceID
	inbox  *delivery.Inbox[arrival]
	path   *delivery.Path
	marks  *marks // what came, for readers in other goroutines too
	fast   fastIn
	since  uint64    // my last number when the device was let in
	acked  uint64    // what was acknowledged last
	ackEnd time.Time // until when it is said again
	// recallAt is when the device may next have messages looked up for it.
	recallAt time.Time
	owes     bool // an acknowledgement
	dirty    bool // to be saved; in Core.dirty
}

// An arrival is a verified message that waits for its turn.
type arrival struct {
	from    room.Slot
	clock   wire.Clock
	mode    Mode
	message wire.Message
	raw     []byte
	epoch   wire.Hash
	replay  bool // handed on from history
	long    bool // its text was announced by a notice
}

func (c *Core) author(m *membership, d wire.DeviceID) *author {
	a := m.authors[d]
	if a == nil {
		a = c.newAuthor(m, d, 0)
	}
	return a
}

// newAuthor adds a device whose messages up to done were handed over before.
func (c *Core) newAuthor(m *membership, d wire.DeviceID, done uint64, missing ...wire.Range) *author {
	a := &author{device: d, path: &delivery.Path{}, marks: &marks{received: done}, fast: newFastIn()}
	a.path.Spread = func() time.Duration {
		n := len(c.thereIn(m)) + 1
		if n <= spreadAbove {
			return 0
		}
		return c.jitter(min(time.Duration(n-spreadAbove)*spreadEach, spreadMost))
	}
	a.inbox = delivery.NewInbox[arrival](a.path, done, missing...)
	m.authors[d] = a
	c.stale = true
	return a
}

// HandlePacket takes a room packet that came by multicast, mirror or repair.
// The bytes are the core's from now on.
func (c *Core) HandlePacket(now time.Time, packet []byte) {
	c.HandleRead(now, c.read().Read(now, netip.AddrPort{}, packet))
}

// HandleRead takes a room packet that a Reader has opened and verified.
func (c *Core) HandleRead(now time.Time, p *Packet) {
	c.now = now
	switch {
	case p.opened != nil:
		if m := c.rooms[p.epoch.Room()]; m != nil {
			c.takePacket(now, m, p)
		}
	case p.verdict == unknownKey:
		if !c.tryPacket(now, p.raw) {
			c.hold(now, p.raw)
		}
	default:
		c.count(p.verdict)
	}
}

func (c *Core) count(v verdict) {
	switch v {
	case malformed:
		c.stats.Malformed++
	case replayed:
		c.stats.Replayed++
	case duplicate:
		c.stats.Duplicates++
	case overBudget:
		c.stats.Unchecked++
	}
}

// hold keeps a packet of an unknown epoch for a moment.
func (c *Core) hold(now time.Time, packet []byte) {
	h, err := wire.ParsePacketHeader(packet)
	if err != nil {
		return // the reader judged it
	}
	c.stats.UnknownKey++
	c.limbo.hold(now, h.KeyID, packet)
	if c.limbo.strange(h.KeyID) {
		for _, m := range c.rooms {
			c.wonder(now, m)
		}
	}
}

// tryPacket reads a packet once more if its epoch is known now, and reports
// whether it is.
func (c *Core) tryPacket(now time.Time, packet []byte) bool {
	p := c.read().Read(now, netip.AddrPort{}, packet)
	if p.verdict == unknownKey {
		return false
	}
	c.HandleRead(now, p)
	return true
}

// takePacket takes a packet whose signature is good. A reader may have had an
// older view of the room: what may have changed since is judged here again.
func (c *Core) takePacket(now time.Time, m *membership, p *Packet) {
	o := p.opened
	if m.keys.Readable(now, o.Epoch.Entry, o.From) != nil {
		c.stats.Forbidden++
		return
	}
	a := c.author(m, o.From.Device)
	fresh := a.marks.mark(o.Seq)
	if !fresh && !o.Reliable {
		c.stats.Replayed++
		return
	}
	m.keys.Packet()
	if d := c.people.devices[o.From.Device]; d != nil && fresh && (d.gone.IsZero() || now.Sub(d.gone) > reordering) {
		d.heard, d.gone = now, time.Time{}
	}
	if p.body == nil {
		c.stats.Malformed++
		return
	}
	c.clock = c.clock.Merge(now, o.Clock)
	switch body := p.body.(type) {
	case *wire.Message:
		c.handleMessages(now, m, a, o, []wire.Message{*body}, false)
	case *wire.Pack:
		c.handleMessages(now, m, a, o, body.Messages, false)
	case *wire.Notice:
		c.handleNotice(now, m, a, o, body, false, wire.DeviceID{})
	case *wire.LogEntry:
		c.addEntries(now, m, [][]byte{body.Entry}, o.From.Device)
	case *wire.Beacon:
		c.handleBeacon(now, m, a, o, body)
	case *wire.Leave:
		// One from before the author came back is late, or played back.
		if p := m.log.State().Member(o.From.Account); p != nil && p.Admitted <= o.Epoch.Seq {
			c.handleLeave(now, m, o.From.Account)
		}
	case *wire.Acks:
		c.handleAcks(now, m, o, body)
	case *wire.RepairRequest:
		c.handleRepair(now, m, o, body)
	}
	c.schedule(m)
}

// handleMessage takes a verified message and reports whether it is new.
func (c *Core) handleMessage(now time.Time, m *membership, a *author, o *room.Opened, msg wire.Message, replay bool) (fresh bool) {
	return c.handleMessages(now, m, a, o, []wire.Message{msg}, replay)
}

// handleMessages takes the messages of a verified packet and reports whether any
// is new.
func (c *Core) handleMessages(now time.Time, m *membership, a *author, o *room.Opened, messages []wire.Message, replay bool) (fresh bool) {
	_, silenced := m.log.State().Silenced(now, o.From.Account)
	c.touch(m, a)
	for _, msg := range messages {
		if silenced {
			c.stats.Forbidden++ // the number still counts, so no gap stays open
			msg.Verb = Hidden
		}
		x := arrival{from: o.From, clock: o.Clock, mode: Reliable, message: msg, raw: o.Signed, epoch: o.Epoch.Entry, replay: replay, long: o.Kind == wire.KindNotice}
		if o.Reliable {
			fresh = c.handleReliable(now, m, a, x) || fresh
		} else if a.fast.limit.Allow(now) {
			x.mode, fresh = Fast, true
			late := a.fast.Handle(msg.Number)
			c.watchFast(now, m, a)
			c.deliver(now, m, x, late)
		} else {
			c.stats.Flooded++
		}
	}
	if o.Reliable {
		c.tellGap(now, m, a)
		c.owe(now, m, a)
		c.watch(m, a)
	}
	return fresh
}

func (c *Core) handleReliable(now time.Time, m *membership, a *author, x arrival) (fresh bool) {
	ready, fresh, late := a.inbox.Handle(now, x.message.Number, x)
	if fresh {
		m.received++
		if len(ready) == 0 {
			a.marks.came(x.message.Number)
		}
	} else {
		c.stats.Duplicates++
	}
	for _, r := range ready {
		c.deliver(now, m, r, late)
	}
	return fresh
}

// watch notes whether the inbox of an author wants to be told the time.
func (c *Core) watch(m *membership, a *author) {
	a.marks.setReceived(a.inbox.Received(), a.inbox.Open())
	if a.inbox.Deadline().IsZero() {
		delete(m.gaps, a)
	} else {
		m.gaps[a] = true
	}
}

// deliver stores and shows a message whose turn it is.
func (c *Core) deliver(now time.Time, m *membership, x arrival, late bool) {
	text, long := clean.Text(x.message.Text, wire.MaxLongText), ""
	if x.long {
		long = x.message.Text
	}
	own, why := x.from.Device == c.self.device, "message"
	if Mentions(text, c.self.name) {
		why = "mention"
	}
	c.take(now, told{
		SaveMessage: SaveMessage{ID: messageID(m.id[:], x.from.Device, x.mode, x.message.Number), Chat: ChatID{Room: m.id},
			Account: x.from.Account, Device: x.from.Device, From: c.people.nameOf(x.from.Account), Mode: x.mode, Number: x.message.Number,
			Clock: x.clock, At: now, Text: text, ReplyTo: x.message.Ref, Raw: x.raw, Epoch: x.epoch, Long: long, Own: own, Read: own},
		verb: x.message.Verb, chat: m.chat(), late: late, replay: x.replay, why: why,
	})
}

// Mentions reports whether text names a user as a word of its own.
func Mentions(text, name string) bool {
	if name == "" || !mayMention(text, name) {
		return false
	}
	word := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.')
	}
	for _, w := range strings.FieldsFunc(strings.ToLower(text), word) {
		if strings.Trim(w, ".-_") == name || w == name {
			return true
		}
	}
	return false
}

// mayMention reports whether text has the letters of a name anywhere, or any that
// are not ASCII: most texts can be told from those that mention somebody so.
func mayMention(text, name string) bool {
	for i := range len(text) {
		switch b := text[i]; {
		case b >= utf8.RuneSelf:
			return true
		case b|0x20 == name[0]|0x20 && len(text)-i >= len(name) && strings.EqualFold(text[i:i+len(name)], name):
			return true
		}
	}
	return false
}

// tellGap shows that messages are missing, or no longer.
func (c *Core) tellGap(now time.Time, m *membership, a *author) {
	if missing, changed := a.inbox.Told(now); changed {
		c.show(Gap{Chat: m.chat(), From: c.nameOfDevice(a.device), Missing: missing, Healed: missing == 0, Mode: Reliable.String()})
		if missing > 0 {
			c.pullMissing(now, m)
		}
	}
}

// nameOfDevice returns what the owner of a device is called.
func (c *Core) nameOfDevice(d wire.DeviceID) string {
	if known := c.people.devices[d]; known != nil {
		return known.person.name
	}
	return "unknown-" + d.String()[:6]
}

func (c *Core) handleBeacon(now time.Time, m *membership, a *author, o *room.Opened, b *wire.Beacon) {
	a.inbox.Exists(now, b.Reliable)
	a.fast.Exists(b.Fast)
	c.watchFast(now, m, a)
	c.owe(now, m, a)
	c.watch(m, a)
	if !m.log.Has(b.Head) {
		c.askLog(now, m, o.From.Device)
	}
}

// ---- acknowledgements and repair

// owe plans an acknowledgement of what has come from a device: at a random
// moment, later in large rooms so that all members together send about
// ackPerSec. An author that goes on asking (a message or heartbeat that
// brings nothing new) is told again, a few times.
func (c *Core) owe(now time.Time, m *membership, a *author) {
	switch n := a.inbox.Received(); {
	case n == 0 || n == a.acked && now.After(a.ackEnd):
		return
	case n != a.acked:
		a.ackEnd = now.Add(ackAgain)
	}
	a.owes = true
	if m.ackAt.IsZero() {
		mean := time.Duration(len(c.thereIn(m))+1) * time.Second / ackPerSec
		m.ackAt = now.Add(ackDelay + c.jitter(max(ackJitter, 2*(mean-ackDelay))))
	}
	if a.inbox.Received() > a.acked+ackMost && len(c.thereIn(m)) <= spreadAbove {
		m.ackAt = now // else the author's window is full before it hears of it
	}
}

// oweAgain has an author who is back told what has come of it, by whatever way.
func (c *Core) oweAgain(now time.Time, dev *device) {
	for _, m := range c.rooms {
		if a := m.authors[dev.id]; a != nil {
			a.ackEnd = now.Add(ackAgain)
			c.owe(now, m, a)
			c.schedule(m)
		}
	}
}

func (c *Core) acknowledge(now time.Time, m *membership) {
	m.ackAt = time.Time{}
	epoch := m.keys.Current()
	if epoch == nil {
		return
	}
	var acks wire.Acks
	for slot, s := range epoch.Info().Slots {
		a := m.authors[s.Device]
		if a == nil || !a.owes {
			continue
		}
		if len(acks.Acks) == wire.MaxAcks { // the rest next time
			c.owe(now, m, a)
			break
		}
		a.owes, a.acked = false, a.inbox.Received()
		acks.Acks = append(acks.Acks, wire.Ack{Slot: uint16(slot), Number: a.acked})
	}
	if len(acks.Acks) > 0 {
		packet := c.seal(m, wire.KindAcks, wire.AppendBody(nil, &acks))
		c.multicast(now, m, packet)
	}
}

func (c *Core) handleAcks(now time.Time, m *membership, o *room.Opened, acks *wire.Acks) {
	from := o.From
	slot, ok := o.Epoch.Slot(c.self.key)
	if !ok {
		return
	}
	since := c.author(m, from.Device).since // what was said before is not for it
	for _, a := range acks.Acks {
		if a.Slot != slot {
			if int(a.Slot) < len(o.Epoch.Slots) {
				c.claimed(now, m, from.Device, o.Epoch.Slots[a.Slot].Device, a.Number)
			}
			continue
		}
		if m.recount.waits() {
			continue // of what was sent before an older copy of the store came back, perhaps
		}
		if a.Number > m.out.Last() {
			c.doubt(now, m, from.Device)
			continue
		}
		news := m.out.HandleAck(now, from.Device, a.Number)
		i, _ := slices.BinarySearchFunc(m.tracked, news.First, func(t tracked, n uint64) int { return cmp.Compare(t.number, n) })
		for ; i < len(m.tracked) && m.tracked[i].number <= news.Last && from.Account != c.self.account; i++ {
			t := &m.tracked[i]
			if t.number <= since || slices.Contains(t.got, from.Account) {
				continue
			}
			t.got = append(t.got, from.Account)
			c.show(Receipt{ID: t.id.String(), Chat: m.chat(), By: c.people.nameOf(from.Account), Got: len(t.got), Of: t.of})
		}
	}
	for len(m.tracked) > keepTracked && len(m.tracked[0].got) >= m.tracked[0].of {
		m.tracked = m.tracked[1:]
	}
}

// askRepair asks for messages of a device that did not come: the device
// itself, by unicast, or another member when it has not answered.
func (c *Core) askRepair(m *membership, a *author, ask delivery.Request) {
	epoch := m.keys.Current()
	if epoch == nil || len(ask.Author)+len(ask.Other) == 0 {
		return
	}
	slot := slices.IndexFunc(epoch.Info().Slots, func(s room.Slot) bool { return s.Device == a.device })
	if slot < 0 {
		return
	}
	request := func(ranges []wire.Range, to wire.DeviceID) {
		packet := c.seal(m, wire.KindRepairRequest, wire.AppendBody(nil, &wire.RepairRequest{Slot: uint16(slot), Ranges: ranges}))
		if c.reachable(to) {
			c.sendFirst(Unicast{To: to, Packet: packet})
		} else {
			c.sendFirst(Multicast{Packet: packet})
		}
	}
	if author := c.people.devices[a.device]; author == nil || !author.online {
		ask = delivery.Request{Other: ask.All()} // only others can answer
	}
	if len(ask.Author) > 0 {
		request(ask.Author, a.device)
	}
	if others := slices.DeleteFunc(slices.Clone(c.thereIn(m)), func(d wire.DeviceID) bool { return d == a.device }); len(ask.Other) > 0 && len(others) > 0 {
		request(ask.Other[:min(len(ask.Other), wire.MaxRanges)], others[int(c.jitter(time.Duration(len(others))))])
	}
}

// sendBase tells a device that was let in where my messages begin for it.
func (c *Core) sendBase(m *membership, a *author) {
	base := wire.Base{Room: m.id, Number: a.since}
	c.send(Push{To: a.device, Type: wire.FrameBase, Body: base.Append(nil)})
}

// handleBase takes a device's word where its messages begin for this one.
func (c *Core) handleBase(now time.Time, from wire.DeviceID, body []byte) error {
	b, err := wire.ParseBase(body)
	if err != nil {
		return err
	}
	m := c.rooms[b.Room]
	if m == nil {
		if len(c.early) < maxEarly {
			c.early[earlyBase{b.Room, from}] = b.Number // the answer to our Join may be on its way
		}
		return nil
	}
	known := c.people.devices[from]
	if known == nil {
		return nil
	}
	if _, member := m.log.State().Owner(known.key); !member {
		c.stats.Forbidden++
		return nil
	}
	c.skip(now, m, from, b.Number)
	return nil
}

// skip passes over the messages of a device up to number n: they are not for
// this one.
func (c *Core) skip(now time.Time, m *membership, device wire.DeviceID, n uint64) {
	a := c.author(m, device)
	for _, x := range a.inbox.Skip(n) {
		c.deliver(now, m, x, false)
	}
	c.touch(m, a)
	c.watch(m, a)
	c.tellGap(now, m, a)
	c.schedule(m)
}

// earlyBase is a Base that came before its room was entered.
type earlyBase struct {
	room   wire.RoomID
	device wire.DeviceID
}

const maxEarly = 4096

// handleRepair answers a device that misses messages: of this one's own with
// the packets that are kept, of others and older ones from the store.
func (c *Core) handleRepair(now time.Time, m *membership, o *room.Opened, r *wire.RepairRequest) {
	if int(r.Slot) >= len(o.Epoch.Slots) {
		c.stats.Forbidden++
		return
	}
	of, a, ranges := o.Epoch.Slots[r.Slot].Device, c.author(m, o.From.Device), r.Ranges
	if of == c.self.device {
		if ranges[0].First <= a.since {
			c.sendBase(m, a)
		}
		if !m.turnedAt.IsZero() && now.Sub(m.turnedAt) > room.ReadPrevious/2 {
			m.out.Forget(m.turned) // soon nobody can open those packets any more
		}
		m.out.HandleRequest(now, o.From.Device, ranges)
		ranges = m.out.Forgotten(ranges, a.since)
	}
	if len(ranges) > 0 && !now.Before(a.recallAt) {
		a.recallAt = now.Add(recallEvery)
		c.send(Recall{Room: m.id, Device: of, Ranges: ranges, Limit: maxRecall, to: a.device})
	}
}
