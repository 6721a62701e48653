package chat

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"lanchat/node/delivery"
	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/words"
)

// say sends text to a room: at once, unless what waits there is before it.
func (c *Core) say(now time.Time, m *membership, s saying) {
	switch {
	case len(s.text) > wire.MaxLongText:
		c.refuse(s.ref, "too_long", "the message has %d bytes or more, at most %d travel in one: send it in parts", len(s.text), wire.MaxLongText)
		return
	case s.mode == Fast && s.long():
		c.refuse(s.ref, "too_long", "the message has %d bytes, a fast one at most %d: shorten it or use /mode reliable", len(s.text), wire.MaxPacketText)
		return
	}
	if err := m.log.State().MaySpeak(now, c.self.account); err != nil {
		c.refuseRule(s.ref, m.chat(), err)
		return
	}
	if m.log.Held() {
		c.refuse(s.ref, "room_held", "%s stands still since somebody signed two histories of it: /decide and a number says which one counts: %s", m.chat(), c.numbered(m, m.log.Between()))
		return
	}
	if len(m.waiting) >= maxWaiting {
		c.refuse(s.ref, "waiting", "%d messages wait in %s already: try again when they are out", len(m.waiting), m.chat())
		return
	}
	if s.mode == Fast && !m.fastOut.Allow(now) {
		c.refuse(s.ref, "rate_limited", "others take %d fast messages a second of one person: slow down, or use /mode reliable", fastRate)
		return
	}
	if len(m.waiting) == 0 {
		m.patient = now.Add(keyPatience)
	}
	m.waiting = append(m.waiting, s)
	c.now = now
	c.schedule(m)
}

// Full reports whether so much waits to be sent that no more should be typed
// for now: whoever hands commands to the core lets them wait.
func (c *Core) Full() bool {
	for _, m := range c.rooms {
		if len(m.waiting) >= maxWaiting/2 && m.keys.Current() != nil {
			return true
		}
	}
	return false
}

const (
	// maxUnsent is how many packets may be sealed and wait for their turn. They
	// are on disk by then; what was said after them is sealed, many messages to
	// a packet, when there is room.
	maxUnsent = 64
	// slowAbove is how many messages wait when the person is told.
	slowAbove = 200
)

// pump seals what was said in a room and sends what its turn has come for.
// What waits at the same moment shares packets, and packets share a signature.
// While sealed packets wait for their turn, only full bursts are added.
func (c *Core) pump(now time.Time, m *membership) {
	c.turn(now, m)
	c.transmit(now, m)
	if m.keys.Current() != nil {
		m.patient = time.Time{}
		if err := m.log.State().MaySpeak(now, c.self.account); err != nil {
			for _, s := range m.waiting {
				c.refuseRule(s.ref, m.chat(), err)
			}
			m.waiting = nil
		}
		for len(m.waiting) > 0 && m.out.Waiting() < maxUnsent {
			if m.waiting[0].mode == Reliable && m.recount.waits() {
				break
			}
			packets, full := parts(m.waiting)
			if m.waiting[0].mode == Reliable && m.out.Waiting() > 0 && !full {
				break
			}
			c.sealMessages(now, m, packets)
			for _, said := range packets {
				m.waiting = m.waiting[len(said):]
			}
			c.transmit(now, m)
		}
	}
	switch n := len(m.waiting); {
	case n == 0 && m.out.Waiting() == 0 && m.slowed:
		m.slowed = false
		c.show(Notice{Code: "sent_all", Text: "everything you wrote in " + m.chat() + " is out", Data: map[string]any{"chat": m.chat()}})
	case n > slowAbove && !m.slowed && m.keys.Current() != nil:
		m.slowed = true
		c.show(Notice{Code: "slowed", Text: fmt.Sprintf("what you write in %s goes out as fast as the others can take it: %s waiting", m.chat(), words.Count(n, "message", "messages")),
			Data: map[string]any{"chat": m.chat(), "waiting": n}})
	}
}

// turn follows the room into another epoch, or into none. "A sender that has
// applied a removal never sends under the old epoch again": what is sealed for
// it and not out yet goes over the links of those who stayed.
func (c *Core) turn(now time.Time, m *membership) {
	var epoch wire.Hash
	if e := m.keys.Current(); e != nil {
		epoch = e.Entry()
	}
	if epoch == m.epoch {
		return
	}
	m.out.Seclude()
	if m.epoch != (wire.Hash{}) {
		m.turned, m.turnedAt = m.out.Last(), now
	}
	m.epoch = epoch
}

// parts divides sayings, from the front on, into what goes in one packet, or in 2,
// 4, 8 or 16 that are signed together. full is true if no more would fit.
func parts(waiting []saying) (packets [][]saying, full bool) {
	for rest := waiting; len(rest) > 0 && len(packets) < wire.MaxBurst && rest[0].mode == waiting[0].mode; {
		n, more := packed(rest, wire.MaxBurstBody)
		if n == 0 {
			break
		}
		packets, rest = append(packets, rest[:n]), rest[n:]
		full = more && len(packets) == wire.MaxBurst
	}
	if len(packets) < 2 {
		n, more := packed(waiting, wire.MaxBody)
		return [][]saying{waiting[:n]}, more
	}
	return packets[:1<<(bits.Len(uint(len(packets)))-1)], full
}

// packed returns how many sayings at the front fit in one packet with a body of
// size bytes, and whether more wait than do. Of one that is long its notice goes.
func packed(waiting []saying, size int) (n int, more bool) {
	left := size
	for _, s := range waiting {
		m := s.message(1)
		left -= wire.PackSize(&m)
		switch {
		case n == 0 && s.long():
			return 1, true
		case n == 0 && m.Len() > size, n > 0 && left < 0, s.mode != waiting[0].mode:
			return n, true
		}
		n++
	}
	return n, left < 0
}

// A packing is a packet of messages that is about to be sealed.
type packing struct {
	said     []saying
	messages []wire.Message
	plain    *wire.Plain
}

// sealMessages seals sayings of one mode, each part in a packet.
func (c *Core) sealMessages(now time.Time, m *membership, parts [][]saying) {
	mode := parts[0][0].mode
	packings := make([]packing, len(parts))
	plains := make([]*wire.Plain, len(parts))
	for i, said := range parts {
		c.clock = c.clock.Next(now)
		messages := make([]wire.Message, len(said))
		for i := range said {
			messages[i] = said[i].message(c.nextNumber(m, mode))
		}
		var body wire.Body = &messages[0]
		switch {
		case said[0].long():
			body = said[0].notice(messages[0].Number)
		case len(said) > 1:
			body = &wire.Pack{Messages: messages}
		}
		plains[i] = c.plain(m, m.keys.Current(), body.Kind(), mode == Reliable, wire.AppendBody(make([]byte, 0, wire.MaxBody), body))
		packings[i] = packing{said, messages, plains[i]}
	}
	packets, raws := c.sealAll(m, plains)
	for i, p := range packings {
		c.sealed(now, m, p, packets[i], raws[i])
	}
}

// sealed stores, shows and sends messages that were sealed.
func (c *Core) sealed(now time.Time, m *membership, p packing, packet, raw []byte) {
	mode := p.said[0].mode
	epoch, online, chat := m.keys.Current().Entry(), c.onlineIn(m), m.chat()
	for i, s := range p.said {
		n := p.messages[i].Number
		id := messageID(m.id[:], c.self.device, mode, n)
		kept := c.ownMessage(now, ChatID{Room: m.id}, id, s, n)
		kept.Clock, kept.Raw, kept.Epoch = p.plain.Clock, raw, epoch
		if s.long() {
			kept.Long = s.text
		}
		c.save(kept)
		c.show(s.sent(id, chat, online))
		if mode == Reliable {
			m.track(n, id, s.text)
			m.recount.remember(n, raw, s)
		}
	}
	first, last := p.messages[0].Number, p.messages[len(p.messages)-1].Number
	if mode == Fast {
		c.send(Multicast{Packet: packet})
		for _, d := range c.deaf(now, m) {
			if len(packet) <= maxDatagram {
				c.send(Datagram{To: d.id, Body: packet})
			} else {
				c.send(Push{To: d.id, Type: wire.FramePacket, Body: packet})
			}
		}
		return
	}
	c.save(SaveNumber{Room: m.id, Number: last})
	c.numbers[m.id] = last
	c.thereIn(m)
	m.out.Expect(now, m.there)
	m.out.Add(first, last, packet)
}

// nextNumber returns the number of the device's next message in a room.
func (c *Core) nextNumber(m *membership, mode Mode) uint64 {
	if mode == Reliable {
		return m.out.Next()
	}
	c.fast[m.id]++
	return c.cfg.Boot<<32 | c.fast[m.id]
}

// transmit sends what its turn has come for.
func (c *Core) transmit(now time.Time, m *membership) {
	for _, t := range m.out.Take(now) {
		send := c.send
		if t.Again {
			send = c.sendFirst // it has been stored
		}
		switch {
		case t.Link:
			send(Push{To: t.To, Type: wire.FramePacket, Body: t.Packet})
		case t.To != wire.DeviceID{} && c.reachable(t.To):
			send(Unicast{To: t.To, Packet: t.Packet})
		case t.Again:
			send(Multicast{Packet: t.Packet})
			for _, d := range c.deaf(now, m) {
				send(Push{To: d.id, Type: wire.FramePacket, Body: t.Packet})
			}
		default:
			c.multicast(now, m, t.Packet)
		}
	}
}

// sendRest sends all that waits in a room one is about to leave.
func (c *Core) sendRest(now time.Time, m *membership) {
	for before := -1; before != len(m.waiting); {
		before = len(m.waiting)
		m.out.Hurry()
		c.pump(now, m)
	}
}

// sent tells that the saying is on its way, as a message of a chat.
func (s *saying) sent(id MessageID, chat string, online int) Sent {
	e := Sent{ID: id.String(), Chat: chat, Mode: s.mode.String(), Ref: s.ref, Online: online, Text: s.text, Action: s.action, ReplyTo: s.replyTo.String()}
	if s.verb != 0 {
		e.Edits, e.Was, e.ReplyTo = e.ReplyTo, s.was, ""
	}
	return e
}

// message returns the saying as message n.
func (s *saying) message(n uint64) wire.Message {
	m := wire.Message{Number: n, Verb: s.verb, Ref: s.replyTo, Text: s.text}
	if s.action {
		m.Verb = wire.Action
	}
	return m
}

// seal makes a packet of the room's current epoch that is no message.
func (c *Core) seal(m *membership, kind wire.Kind, body []byte) (packet []byte) {
	return c.sealIn(m, m.keys.Current(), kind, body)
}

// sealIn is seal in an epoch that may be another.
func (c *Core) sealIn(m *membership, epoch *room.Epoch, kind wire.Kind, body []byte) (packet []byte) {
	packet, _ = epoch.Seal(c.cfg.Key, c.plain(m, epoch, kind, false, body), c.nonce())
	return packet
}

// sealAll makes packets of the room's current epoch, which share a signature if
// there are several.
func (c *Core) sealAll(m *membership, plains []*wire.Plain) (packets, signed [][]byte) {
	epoch := m.keys.Current()
	if len(plains) == 1 {
		packet, raw := epoch.Seal(c.cfg.Key, plains[0], c.nonce())
		return [][]byte{packet}, [][]byte{raw}
	}
	nonces := make([][wire.NonceSize]byte, len(plains))
	for i := range nonces {
		nonces[i] = c.nonce()
	}
	return epoch.SealBurst(c.cfg.Key, plains, nonces)
}

// plain returns what the next packet of this device has inside.
func (c *Core) plain(m *membership, epoch *room.Epoch, kind wire.Kind, reliable bool, body []byte) *wire.Plain {
	slot, ok := epoch.Info().Slot(c.self.key)
	if !ok {
		panic("chat: sealing in an epoch this device has no slot in") // keys.Current returns none of those
	}
	c.packets[m.id]++
	m.keys.Packet()
	return &wire.Plain{Slot: slot, Seq: c.cfg.Boot<<32 | c.packets[m.id], Clock: c.clock, Kind: kind, Reliable: reliable, Body: body}
}

func (c *Core) nonce() (n [wire.NonceSize]byte) {
	c.random(n[:])
	return n
}

// multicast sends a packet to the room: to all at once, and on the streams of
// their links to members who said that they do not hear that.
func (c *Core) multicast(now time.Time, m *membership, packet []byte) {
	c.send(Multicast{Packet: packet})
	for _, d := range c.deaf(now, m) {
		c.send(Push{To: d.id, Type: wire.FramePacket, Body: packet})
	}
}

// maxDatagram is how long a packet may be to go as a QUIC DATAGRAM on every
// path: longer ones go on the stream.
const maxDatagram = 1100

// deaf returns the members' devices that said they do not hear this one's
// multicast.
func (c *Core) deaf(now time.Time, m *membership) (deaf []*device) {
	for d, until := range c.mirrors {
		if !now.Before(until) {
			delete(c.mirrors, d)
		} else if _, member := m.log.State().Owner(d.key); member && d.linked {
			deaf = append(deaf, d)
		}
	}
	return deaf
}

// reachable reports whether a link says what a device's address is.
func (c *Core) reachable(to wire.DeviceID) bool {
	d := c.people.devices[to]
	return d != nil && d.linked
}

// handleMirror notes that a device does not hear this one's multicast.
func (c *Core) handleMirror(now time.Time, dev *device, body []byte) error {
	m, err := wire.ParseMirror(body)
	if err != nil {
		return err
	}
	c.mirrors[dev] = now.Add(min(time.Duration(m.Seconds)*time.Second, maxMirror))
	return nil
}

// onlineIn returns how many members other than oneself are online.
func (c *Core) onlineIn(m *membership) (n int) {
	for _, p := range m.log.State().Members {
		if who := c.people.accounts[p.Account]; who != nil && p.Account != c.self.account && who.online() {
			n++
		}
	}
	return n
}

// company is what the devices that are online in a room depend on.
type company struct {
	presence uint64 // Core.presence
	head     wire.Hash
}

// thereIn returns the other devices of a room that are online. The slice is
// the room's.
func (c *Core) thereIn(m *membership) []wire.DeviceID {
	s := m.log.State()
	if seen := (company{c.presence, s.Head}); m.seen != seen {
		m.seen = seen
		m.there = m.there[:0]
		for _, p := range s.Members {
			for _, d := range p.Devices {
				if known := c.people.devices[d.ID]; known != nil && known.online && d.ID != c.self.device {
					m.there = append(m.there, d.ID)
				}
			}
		}
	}
	return m.there
}

// track follows who acknowledges a reliable message.
func (m *membership) track(n uint64, id MessageID, text string) {
	m.tracked = append(m.tracked, tracked{number: n, id: id, text: text, of: len(m.log.State().Members) - 1})
	if len(m.tracked) > 2*maxTracked {
		m.tracked = slices.Clone(m.tracked[maxTracked:])
	}
}

// ---- fast messages that did not come

// fastIn is a device's fast messages as they come.
type fastIn struct {
	delivery.FastIn
	limit delivery.Bucket
	tell  bool // about to tell how many were lost
}

func newFastIn() fastIn {
	return fastIn{limit: delivery.Bucket{Rate: fastRate, Burst: fastBurst}}
}

// tellFast is how long losses of fast messages are gathered before the person
// is told of them: quietly, and not of each.
const tellFast = time.Second

// watchFast tells, a moment later, how many fast messages did not come.
func (c *Core) watchFast(now time.Time, m *membership, a *author) {
	if a.fast.tell || a.fast.Lost() == 0 {
		return
	}
	a.fast.tell = true
	c.after(now, tellFast, func(now time.Time) {
		a.fast.tell = false
		lost := a.fast.Told()
		if lost == 0 || c.rooms[m.id] != m {
			return
		}
		c.show(Gap{Chat: m.chat(), From: c.nameOfDevice(a.device), Missing: lost, Mode: Fast.String()})
	})
}
