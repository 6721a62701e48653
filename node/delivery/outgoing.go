package delivery

import (
	"slices"
	"sort"
	"time"

	"lanchat/wire"
)

const (
	// Window is how many messages may be on their way to the slowest member
	// that answers.
	Window = 32768
	// maxCache bounds the sealed packets a sender keeps for repair, in bytes
	// per room, those on their way included.
	maxCache = 8 << 20
	// silence is how long a member that owes an acknowledgement holds up the
	// others; in rooms so large that its turn comes more rarely, silenceEach
	// for every member.
	silence     = 2 * time.Second
	silenceEach = 150 * time.Millisecond
	// Heartbeats tell the last number heartbeatMin, twice that, four times that
	// … after the last packet. After heartbeatMax the room's beacon goes on.
	heartbeatMin = 4 * time.Millisecond
	heartbeatMax = 1024 * time.Millisecond
	// maxResend bounds the packets that one request brings.
	maxResend = 128
	// servedFor is how long a packet that was given to a link is not given to it
	// again: a link loses nothing.
	servedFor = time.Second
	// recent is how long a repair is likely to be wanted by others as well.
	recent = 5 * time.Millisecond
	// A second copy is sent copyAfter a packet where more than copyAbove is
	// lost on the way to the member that loses most.
	copyAfter = 1500 * time.Microsecond
	copyAbove = 0.03
)

// Outgoing is the sending side of a device's reliable messages in one room:
// what waits, what is on its way and what is kept for repair, how far each
// member's device has acknowledged, and when to remind them of the last number.
//
//	Add ──► waits ──pacer, window──► on its way ──all acknowledged──► kept ──► forgotten
//	                                     ▲ └──asked for──► sent again
//
// It does no I/O, starts no goroutine and never reads the clock.
type Outgoing struct {
	last  uint64
	base  uint64    // last, when this node started
	kept  []sealed  // by number, without gaps; kept[:sent] were sent
	sent  int       // index in kept
	size  int       // bytes in kept[:sent]
	stuck time.Time // while the window is full: when somebody's silence ends that
	pacer pacer

	members  map[wire.DeviceID]*member
	expected []*member // those who are there
	wanted   []uint64  // first numbers of packets asked for, in the order they were
	copies   []copyOf

	beat  time.Time // when the next heartbeat is due; zero: no more
	pause time.Duration

	resent uint64
}

// A sealed is one sealed packet and the messages in it.
type sealed struct {
	first, last uint64
	packet      []byte
	at          time.Time // sent; zero: it waits
	private     bool      // somebody left who could still read it: over links only

	wanted bool          // in Outgoing.wanted
	asker  wire.DeviceID // who asked last
	asked  time.Time     // and when
	many   bool          // others did a moment before
}

// copyOf is a packet that is sent a second time.
type copyOf struct {
	at    time.Time
	first uint64
}

// A member is a device as this one's messages reach it.
type member struct {
	device wire.DeviceID
	acked  uint64
	heard  time.Time // when it last acknowledged or asked for something, or came
	out    bool      // it holds up nobody: history serves it
	asked  int       // packets it asked for since the pacer last looked

	served   uint64 // the highest number given to its link …
	servedAt time.Time
}

// A Transmission is a packet to be sent now.
type Transmission struct {
	Packet []byte
	To     wire.DeviceID // zero: everybody
	Link   bool          // over the link with To, which loses nothing
	Again  bool          // it was sent before
}

// NewOutgoing returns the sending side of a room in which last was the last
// number used.
func NewOutgoing(last uint64) *Outgoing {
	return &Outgoing{last: last, base: last, pacer: newPacer(), members: map[wire.DeviceID]*member{}}
}

// Last returns the last number used.
func (o *Outgoing) Last() uint64 { return o.last }

// Told returns the highest number that was sent: what a beacon says.
func (o *Outgoing) Told() uint64 {
	if o.sent < len(o.kept) {
		return o.kept[o.sent].first - 1
	}
	return o.last
}

// Next returns the number of the next message and counts it as used.
func (o *Outgoing) Next() uint64 {
	o.last++
	return o.last
}

// Jump says that numbers up to n were used before: by this device, which does
// not remember it. What was sent under lower ones is forgotten, since others
// know other messages by those numbers.
func (o *Outgoing) Jump(n uint64) {
	if n <= o.last {
		return
	}
	o.last, o.base = n, n
	o.kept, o.sent, o.size = nil, 0, 0
	o.wanted, o.copies = nil, nil
	o.beat, o.stuck = time.Time{}, time.Time{}
}

// Add takes the sealed packet of the messages from first to last, numbers that
// Next returned. Take returns it when its turn has come.
func (o *Outgoing) Add(first, last uint64, packet []byte) {
	o.kept = append(o.kept, sealed{first: first, last: last, packet: packet})
}

// Waiting returns how many packets have not been sent yet.
func (o *Outgoing) Waiting() int { return len(o.kept) - o.sent }

// Expect says which devices of other members are there now and have to
// acknowledge.
func (o *Outgoing) Expect(now time.Time, devices []wire.DeviceID) {
	if slices.EqualFunc(o.expected, devices, func(m *member, d wire.DeviceID) bool { return m.device == d }) {
		return
	}
	was := map[*member]bool{}
	for _, m := range o.expected {
		was[m] = true
	}
	o.expected = o.expected[:0]
	for _, d := range devices {
		m := o.member(d)
		if !was[m] {
			m.heard = now
			m.out = o.behind(m) > Window/2
		}
		o.expected = append(o.expected, m)
	}
}

func (o *Outgoing) member(d wire.DeviceID) *member {
	m := o.members[d]
	if m == nil {
		m = &member{device: d}
		o.members[d] = m
	}
	return m
}

// behind returns how many messages sent since the start a member has not
// acknowledged.
func (o *Outgoing) behind(m *member) uint64 { return o.last - max(m.acked, o.base) }

// Owed reports whether a device that is there and answers has not acknowledged
// everything yet.
func (o *Outgoing) Owed() bool {
	return slices.ContainsFunc(o.expected, func(m *member) bool { return !m.out && o.behind(m) > 0 })
}

// find returns the index in kept of the packet with message n.
func (o *Outgoing) find(n uint64) (i int, ok bool) {
	i = sort.Search(len(o.kept), func(i int) bool { return o.kept[i].last >= n })
	return i, i < len(o.kept) && o.kept[i].first <= n
}

// oldest returns the lowest number of which a packet is kept.
func (o *Outgoing) oldest() uint64 {
	if len(o.kept) == 0 {
		return o.last + 1
	}
	return o.kept[0].first
}

// HandleRequest takes the ranges that a device asks for; Take returns those
// that were sent and are still kept.
func (o *Outgoing) HandleRequest(now time.Time, from wire.DeviceID, ranges []wire.Range) {
	m := o.member(from)
	m.heard = now
	n := 0
	for _, r := range ranges {
		i, _ := o.find(r.First)
		for ; i < o.sent && o.kept[i].first <= r.Last && n < maxResend; i++ {
			s := &o.kept[i]
			n++
			if s.asker != from || now.Sub(s.asked) > servedFor {
				m.asked++
			}
			s.many = now.Sub(s.asked) < recent && (s.many || s.asker != from)
			s.asker, s.asked = from, now
			if !s.wanted {
				s.wanted = true
				o.wanted = append(o.wanted, s.first)
			}
		}
	}
}

// Forgotten returns the parts of the ranges that were sent and are not kept
// any more, above number since.
func (o *Outgoing) Forgotten(ranges []wire.Range, since uint64) (forgotten []wire.Range) {
	for _, r := range ranges {
		r.First, r.Last = max(r.First, since+1), min(r.Last, o.oldest()-1, o.last)
		if r.First <= r.Last {
			forgotten = append(forgotten, r)
		}
	}
	return forgotten
}

// HandleAck notes that a device has everything up to n and returns the range
// of numbers that is news; an empty one has First > Last.
func (o *Outgoing) HandleAck(now time.Time, from wire.DeviceID, n uint64) wire.Range {
	m := o.member(from)
	before := m.acked
	m.heard = now
	n = min(n, o.last) // nobody has what was not sent
	if n > before {
		m.acked = n
	}
	if m.out && o.behind(m) <= Window/2 {
		m.out = false
	}
	if n <= before {
		return wire.Range{First: 1, Last: 0}
	}
	if !slices.ContainsFunc(o.expected, func(m *member) bool { return m.acked < o.last }) {
		o.beat = time.Time{}
	}
	return wire.Range{First: before + 1, Last: n}
}

// Acked returns how far a device has acknowledged.
func (o *Outgoing) Acked(device wire.DeviceID) uint64 {
	if m := o.members[device]; m != nil {
		return m.acked
	}
	return 0
}

// Loss returns the share of packets that the member who loses most asks for,
// smoothed, and how many were sent again.
func (o *Outgoing) Loss() (share float64, resent uint64) { return o.pacer.loss, o.resent }

// blocked reports whether the next packet would leave the window of a member
// that answers. A member that owes an acknowledgement and has been silent does
// not count from then on.
func (o *Outgoing) blocked(now time.Time) bool {
	o.stuck = time.Time{}
	next := &o.kept[o.sent]
	patience := max(silence, time.Duration(len(o.expected))*silenceEach)
	for _, m := range o.expected {
		acked := max(m.acked, o.base)
		if m.out || acked+1 >= next.first {
			continue
		}
		i, ok := o.find(acked + 1)
		if ok && next.last-acked <= Window && o.bytes(i) <= maxCache*3/4 {
			continue
		}
		since := m.heard
		if ok && o.kept[i].at.After(since) {
			since = o.kept[i].at
		}
		if end := since.Add(patience); !ok || !now.Before(end) {
			m.out = true
		} else if o.stuck.IsZero() || end.Before(o.stuck) {
			o.stuck = end
		}
	}
	return !o.stuck.IsZero()
}

// bytes returns the size of the packets from index i on that were sent, as far
// as that can be known without adding them up: all have about the same.
func (o *Outgoing) bytes(i int) int { return o.size / max(o.sent, 1) * (o.sent - i) }

// Seclude says that the room has another key because somebody left: what still
// waits was sealed for that one too, so it goes over the links of the others
// only.
func (o *Outgoing) Seclude() {
	for i := range o.kept[o.sent:] {
		o.kept[o.sent+i].private = true
	}
}

// Hurry lets everything out that waits: the device is about to leave the room.
func (o *Outgoing) Hurry() { o.pacer.tokens = max(o.pacer.tokens, float64(len(o.kept))) }

// Forget drops the packets up to message n: nobody can open them any more.
func (o *Outgoing) Forget(n uint64) {
	for o.sent > 0 && o.kept[0].last <= n {
		o.drop()
	}
}

// drop forgets the oldest packet that was sent.
func (o *Outgoing) drop() {
	o.size -= len(o.kept[0].packet)
	o.kept[0] = sealed{}
	o.kept = o.kept[1:]
	o.sent--
}

// Take returns what is to be sent now: repairs first, then what waits, then
// second copies, as the pacer allows.
func (o *Outgoing) Take(now time.Time) (out []Transmission) {
	o.pacer.advance(now, o.expected)
	for len(o.wanted) > 0 && o.pacer.allow() {
		i, ok := o.find(o.wanted[0])
		o.wanted = o.wanted[1:]
		if !ok {
			continue
		}
		if t, ok := o.repair(now, &o.kept[i]); ok {
			out = append(out, t)
		}
	}
	for o.sent < len(o.kept) && o.pacer.allow() && !o.blocked(now) {
		s := &o.kept[o.sent]
		s.at = now
		o.sent++
		o.size += len(s.packet)
		o.pacer.spend()
		o.pacer.sent++
		o.beat, o.pause = now.Add(heartbeatMin), heartbeatMin
		if s.private {
			for _, m := range o.expected {
				out = append(out, Transmission{Packet: s.packet, To: m.device, Link: true})
			}
			continue
		}
		out = append(out, Transmission{Packet: s.packet})
		if o.pacer.loss > copyAbove && o.pacer.roomy() {
			o.copies = append(o.copies, copyOf{now.Add(copyAfter), s.first})
		}
	}
	for len(o.copies) > 0 && !now.Before(o.copies[0].at) {
		if i, ok := o.find(o.copies[0].first); ok && o.pacer.roomy() {
			o.pacer.spend()
			out = append(out, Transmission{Packet: o.kept[i].packet, Again: true})
		}
		o.copies = o.copies[1:]
	}
	for o.size > maxCache && o.sent > 0 {
		o.drop()
	}
	return out
}

// repair returns how a packet is sent again: to all where several miss it,
// else to the one who does; over its link to one that is far behind.
func (o *Outgoing) repair(now time.Time, s *sealed) (t Transmission, ok bool) {
	s.wanted = false
	m := o.member(s.asker)
	t.Packet, t.Again = s.packet, true
	switch {
	case m.out || s.private:
		if s.last <= m.served && now.Sub(m.servedAt) < servedFor {
			return t, false
		}
		m.served, m.servedAt = s.last, now
		t.To, t.Link = m.device, true
	case !s.many && len(o.expected) > 1:
		t.To = m.device
	}
	o.pacer.spend()
	o.resent++
	return t, true
}

// Deadline returns when Advance or Take next has work; zero: never.
func (o *Outgoing) Deadline() (d time.Time) {
	d = o.beat
	sooner := func(t time.Time) {
		if d.IsZero() || t.Before(d) {
			d = t
		}
	}
	switch {
	case len(o.wanted) > 0 || o.sent < len(o.kept) && o.stuck.IsZero():
		sooner(o.pacer.next())
	case o.sent < len(o.kept):
		sooner(o.stuck)
	}
	if len(o.copies) > 0 {
		sooner(o.copies[0].at)
	}
	return d
}

// Advance tells the time and reports whether a heartbeat is due.
func (o *Outgoing) Advance(now time.Time) (heartbeat bool) {
	if o.beat.IsZero() || now.Before(o.beat) {
		return false
	}
	o.beat = o.beat.Add(o.pause)
	o.pause *= 2
	if o.pause > heartbeatMax {
		o.beat = time.Time{}
	}
	return true
}
