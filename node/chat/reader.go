package chat

import (
	"net/netip"
	"sync"
	"time"

	"lanchat/node/delivery"
	"lanchat/node/room"
	"lanchat/wire"
)

// A Reader opens and verifies room packets against the rooms and keys of one
// moment. It never changes, and any number of goroutines may use it at once:
// they read on as many cores as there are and hand the Packets to the core in
// the order they came in. Core.Reader returns a new one when something changed.
type Reader struct {
	self   wire.DeviceID
	epochs map[wire.KeyID]*readable
	budget *budget
	bursts *bursts
}

// readable is an epoch and who has written in its room.
type readable struct {
	*room.Epoch
	marks map[wire.DeviceID]*marks
}

// A Packet is a room packet as a Reader found it.
type Packet struct {
	raw     []byte
	verdict verdict
	epoch   *readable
	opened  *room.Opened // verified; else nil
	body    wire.Body    // nil: does not parse
}

// From returns the device that signed the packet, once that was verified.
func (p *Packet) From() (device wire.DeviceID, ok bool) {
	if p.opened == nil {
		return device, false
	}
	return p.opened.From.Device, true
}

// A verdict is why a packet is not taken.
type verdict uint8

const (
	fine verdict = iota
	own          // this device's, looped back
	unknownKey
	malformed
	replayed
	duplicate  // of messages that came before
	overBudget // too many bad signatures from there
)

// marks is what is known to have come from a device in a room, for dropping what
// comes again before its signature is checked.
type marks struct {
	mu       sync.Mutex
	replay   room.Replay
	received uint64 // reliable messages: the highest number that misses none before it …
	ahead    []byte // … and a bit for each of the delivery.Window behind it, in a ring; nil: none waits
}

// again judges a packet that was opened and not verified.
func (k *marks) again(o *room.Opened) verdict {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !o.Reliable {
		if k.replay.Seen(o.Seq) {
			return replayed
		}
		return fine
	}
	// Reliable messages have numbers of their own to be told by. Their packets
	// are sent again for repair, perhaps much later than the window is long.
	if n, ok := o.LastNumber(); ok && (n <= k.received || n-k.received <= delivery.Window && k.ahead != nil && k.ahead[n/8%aheadSize]&(1<<(n%8)) != 0) {
		return duplicate
	}
	return fine
}

const aheadSize = delivery.Window / 8 // bytes

// came notes a reliable message that is there and waits for one before it.
func (k *marks) came(n uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n <= k.received || n-k.received > delivery.Window {
		return
	}
	if k.ahead == nil {
		k.ahead = make([]byte, aheadSize)
	}
	k.ahead[n/8%aheadSize] |= 1 << (n % 8)
}

// mark notes the sequence number of a packet that was verified and reports
// whether it is new.
func (k *marks) mark(seq uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.replay.Mark(seq)
}

// setReceived notes how far nothing is missing, and whether anything waits
// behind that.
func (k *marks) setReceived(n uint64, waits bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case !waits:
		k.ahead = nil
	case n-k.received >= delivery.Window:
		clear(k.ahead)
	case k.ahead != nil:
		for i := k.received + 1; i <= n; i++ {
			k.ahead[i/8%aheadSize] &^= 1 << (i % 8)
		}
	}
	k.received = n
}

func (k *marks) append(b []byte) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.replay.Append(b)
}

// budget is a room.Budget for many goroutines.
type budget struct {
	mu sync.Mutex
	b  *room.Budget
}

func (b *budget) allow(now time.Time, from netip.AddrPort, slot uint16) bool {
	if b == nil || !from.IsValid() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Allow(now, from, slot)
}

func (b *budget) done(from netip.AddrPort, slot uint16, good bool) {
	if b == nil || !from.IsValid() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Done(from, slot, good)
}

// bursts remembers the bursts whose signature was found good, so that one check
// serves all packets of a burst, as often as each of them comes.
type bursts struct {
	mu    sync.Mutex
	known map[room.Burst]*burst
	order []room.Burst // known ones, oldest first
}

type burst struct {
	mu   sync.Mutex // held while the signature is checked
	good bool
}

// maxBursts is how many are remembered. A bad one pushes out another, which is
// checked again then: the budget bounds how often.
const maxBursts = 1024

func (k *bursts) of(b room.Burst) *burst {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.known[b]
	if s == nil {
		if len(k.order) >= maxBursts {
			delete(k.known, k.order[0])
			k.order = k.order[1:]
		}
		s = new(burst)
		k.known[b] = s
		k.order = append(k.order, b)
	}
	return s
}

// check has a packet's signature checked, unless that of its burst was found
// good before. Who has another packet of a burst that is being checked waits for
// the outcome.
func (k *bursts) check(o *room.Opened, verify func() verdict) verdict {
	b, ok := o.Burst()
	if !ok {
		return verify()
	}
	s := k.of(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.good {
		return fine
	}
	v := verify()
	s.good = v == fine
	return v
}

// Read judges a packet, cheapest and least forgeable first (see room.Epoch.Open).
// from is the address it claims to come from, which the budget of signatures is
// shared by; it is zero for what came over a link. The packet keeps the bytes.
func (r *Reader) Read(now time.Time, from netip.AddrPort, packet []byte) *Packet {
	p := &Packet{raw: packet}
	p.verdict = r.judge(now, from, p)
	if p.verdict != fine {
		p.opened = nil
	}
	return p
}

func (r *Reader) judge(now time.Time, from netip.AddrPort, p *Packet) verdict {
	h, err := wire.ParsePacketHeader(p.raw)
	if err != nil {
		return malformed
	}
	p.epoch = r.epochs[h.KeyID]
	if p.epoch == nil {
		return unknownKey
	}
	if p.opened, err = p.epoch.Open(p.raw); err != nil {
		return malformed
	}
	o := p.opened
	if o.From.Device == r.self {
		return own
	}
	if k := p.epoch.marks[o.From.Device]; k != nil {
		if v := k.again(o); v != fine {
			return v
		}
	}
	if v := r.bursts.check(o, func() verdict {
		if !r.budget.allow(now, from, o.Slot) {
			return overBudget
		}
		err := o.Verify()
		r.budget.done(from, o.Slot, err == nil)
		if err != nil {
			return malformed
		}
		return fine
	}); v != fine {
		return v
	}
	if p.body, err = o.Parse(); err != nil {
		p.body = nil
	}
	return fine
}

// Reader returns the reader of this moment.
func (c *Core) Reader() *Reader { return c.read() }

func (c *Core) read() *Reader {
	if c.reader != nil && !c.stale {
		return c.reader
	}
	r := &Reader{self: c.self.device, epochs: map[wire.KeyID]*readable{}, budget: c.budget, bursts: &c.bursts}
	for _, m := range c.rooms {
		all := make(map[wire.DeviceID]*marks, len(m.authors))
		for d, a := range m.authors {
			all[d] = a.marks
		}
		for _, e := range m.keys.Epochs(c.now) {
			r.epochs[e.KeyID()] = &readable{e, all}
		}
	}
	c.reader, c.stale = r, false
	return r
}
