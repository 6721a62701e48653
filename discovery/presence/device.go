package presence

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"lanchat/wire"
)

// A device is one entry of a Tracker's table.
type device struct {
	id         wire.DeviceID
	key        wire.DeviceKey
	role       wire.Role
	token      wire.TokenHash
	state      State
	vouched    bool
	heardOf    bool // was Alive before
	linked     bool
	boot       uint64
	window     window
	period     time.Duration // as the last packet promised
	multicast  time.Time     // last heard by each way
	quic       time.Time
	mdns       time.Time
	authd      time.Time
	memory     time.Time
	pinged     time.Time
	told       time.Time // last Seen
	candidates []candidate
	checks     budget // of signatures

	due   time.Time // next work; zero: none
	index int       // in dueHeap; -1: not there
}

// A candidate is an address at which a device may be dialled.
type candidate struct {
	addr   netip.AddrPort
	via    Via       // Multicast: from a signed packet or its source
	link   int       // that it is good on; 0: any
	at     time.Time // last told
	source bool      // a packet really came from there
}

// keyed reports whether a signed packet was ever accepted.
func (d *device) keyed() bool { return d.window.high != 0 }

// fresh reports whether a packet with these numbers was not seen before.
func (d *device) fresh(boot, counter uint64) bool {
	return boot > d.boot || boot == d.boot && d.window.fresh(counter)
}

func (d *device) accept(boot, counter uint64) {
	if boot > d.boot {
		d.boot, d.window = boot, window{}
	}
	d.window.accept(counter)
}

// listen replaces what is known of the device's addresses on a link by what a
// packet says, and reports whether there is a new one.
func (d *device) listen(now time.Time, l Link, from netip.Addr, p *wire.Presence) (news bool) {
	var list []candidate
	add := func(a netip.Addr, source bool) {
		if !l.OnLink(a) {
			return
		}
		ap := netip.AddrPortFrom(l.Zoned(a), p.Port)
		if slices.ContainsFunc(list, func(c candidate) bool { return c.addr == ap }) {
			return
		}
		list = append(list, candidate{ap, Multicast, l.Index, now, source})
	}
	add(from, true)
	for _, a := range p.Addrs {
		add(a, false)
	}
	if d.confirm(list, l) {
		return false
	}
	for _, c := range list {
		if !slices.ContainsFunc(d.candidates, func(o candidate) bool { return o.addr == c.addr }) {
			news = true
		}
	}
	for _, o := range d.candidates {
		same := slices.ContainsFunc(list, func(c candidate) bool { return c.addr == o.addr })
		if !same && !(o.via == Multicast && o.link == l.Index) {
			list = append(list, o)
		}
	}
	// What came by signed packets is at the front, newest first; a full list
	// loses hints first.
	slices.SortStableFunc(list, func(a, b candidate) int {
		if (a.via == Multicast) != (b.via == Multicast) {
			if a.via == Multicast {
				return -1
			}
			return 1
		}
		return 0
	})
	d.candidates = list[:min(len(list), MaxCandidates)]
	return news
}

// confirm takes a list that says of a link what is known already, and reports
// whether it does. The order stays: a device that speaks by IPv4 and by IPv6 is at
// the same place, whichever packet was faster.
func (d *device) confirm(list []candidate, l Link) bool {
	known := 0
	for _, o := range d.candidates {
		if o.via == Multicast && o.link == l.Index {
			known++
			if !slices.ContainsFunc(list, func(c candidate) bool { return c.addr == o.addr }) {
				return false
			}
		}
	}
	if known != len(list) {
		return false
	}
	for i := range d.candidates {
		o := &d.candidates[i]
		for _, c := range list {
			if c.addr == o.addr {
				o.at, o.source = c.at, o.source || c.source
			}
		}
	}
	return true
}

// hint adds an unproven address and reports whether it is new. It never pushes
// out what came by a signed packet.
func (d *device) hint(now time.Time, a netip.AddrPort, via Via, linkIndex int) bool {
	d.candidates = slices.DeleteFunc(d.candidates, func(c candidate) bool {
		return c.via != Multicast && now.Sub(c.at) >= hintLife
	})
	for i := range d.candidates {
		if c := &d.candidates[i]; c.addr == a {
			c.at = now
			return false
		}
	}
	if len(d.candidates) >= MaxCandidates {
		oldest := -1
		for i, c := range d.candidates {
			if c.via != Multicast && (oldest < 0 || c.at.Before(d.candidates[oldest].at)) {
				oldest = i
			}
		}
		if oldest < 0 {
			return false
		}
		d.candidates = slices.Delete(d.candidates, oldest, oldest+1)
	}
	d.candidates = append(d.candidates, candidate{addr: a, via: via, link: linkIndex, at: now})
	return true
}

// silentAt returns when a device that is Alive will have been silent too long.
func (d *device) silentAt() time.Time {
	var at time.Time
	if !d.multicast.IsZero() {
		at = d.multicast.Add(silence(d.period))
	}
	if !d.quic.IsZero() {
		at = later(at, d.quic.Add(baseSilence))
	}
	return at
}

// pingAt returns when the host has to ping a device that is linked.
func (d *device) pingAt() time.Time {
	at := later(d.quic, d.pinged).Add(basePeriod)
	if !d.multicast.IsZero() {
		at = later(at, d.multicast.Add(2*d.period))
	}
	return at
}

func (d *device) hintedUntil() time.Time {
	return later(later(d.mdns, d.authd), d.memory).Add(hintLife)
}

// next returns when there is work for the device; zero: never.
func (d *device) next() time.Time {
	switch {
	case d.state == StateHinted:
		return d.hintedUntil()
	case d.state == StateAlive && d.linked:
		if at := d.pingAt(); at.Before(d.silentAt()) {
			return at
		}
		return d.silentAt()
	case d.state == StateAlive:
		return d.silentAt()
	}
	return time.Time{}
}

func (d *device) lastHeard() time.Time {
	return later(later(d.multicast, d.quic), later(d.mdns, d.authd))
}

// What a device is worth when there is no room; see Tracker.add.
const worthMost = 4

func (d *device) worth() int {
	switch {
	case d.state == StateHinted && !d.vouched:
		return 0
	case d.state == StateHinted: // no number of made-up ones drives it out
		return 1
	case d.vouched && d.state == StateAlive:
		return worthMost
	case d.vouched:
		return 3
	case d.state == StateAlive:
		return 2
	}
	return 1
}

func (d *device) peer(now time.Time) Peer {
	p := Peer{Device: d.id, Key: d.key, Role: d.role, State: d.state, Vouched: d.vouched, Boot: d.boot, Token: d.token}
	for _, source := range []bool{true, false} {
		for _, c := range d.candidates {
			if c.source == source && (c.via == Multicast || now.Sub(c.at) < hintLife) {
				p.Addrs = append(p.Addrs, c.addr)
			}
		}
	}
	within := func(at time.Time, d time.Duration) bool { return !at.IsZero() && now.Sub(at) < d }
	if within(d.multicast, silence(d.period)) {
		p.Via |= Multicast
	}
	if within(d.mdns, hintLife) {
		p.Via |= MDNS
	}
	if within(d.authd, hintLife) {
		p.Via |= Authd
	}
	if within(d.quic, baseSilence) {
		p.Via |= QUIC
	}
	return p
}

// A window knows which of the last 64 counters were seen. Packets on several
// links may overtake each other, so being lower than the last is no proof of a
// replay.
type window struct {
	high uint64 // zero: none seen
	seen uint64 // bit i: high - i
}

func (w *window) fresh(n uint64) bool {
	switch {
	case n > w.high:
		return true
	case w.high-n >= 64:
		return false
	}
	return w.seen&(1<<(w.high-n)) == 0
}

func (w *window) accept(n uint64) {
	if n > w.high {
		w.seen = w.seen<<min(n-w.high, 64) | 1 // a shift by 64 leaves nothing
		w.high = n
		return
	}
	w.seen |= 1 << (w.high - n)
}

// close makes everything up to the highest counter seen.
func (w *window) close() { w.seen = ^uint64(0) }

// A budget allows a number of things a second.
type budget struct {
	rate, burst float64 // a second; at once
	left        float64
	at          time.Time // zero: never used, full
}

func (b *budget) take(now time.Time) bool {
	if b.at.IsZero() {
		b.left = b.burst
	} else if d := now.Sub(b.at); d > 0 {
		b.left = min(b.burst, b.left+d.Seconds()*b.rate)
	}
	if b.at.IsZero() || now.After(b.at) {
		b.at = now
	}
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// A dueHeap orders devices by their next work.
type dueHeap []*device

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *dueHeap) Push(x any) {
	d := x.(*device)
	d.index = len(*h)
	*h = append(*h, d)
}
func (h *dueHeap) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	d.index = -1
	return d
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func isForeign(err error) bool { return errors.Is(err, wire.ErrRealm) }
