package delivery

import (
	"maps"
	"slices"
	"time"

	"lanchat/wire"
)

const (
	// How long a gap stays open before the first request: a packet that was
	// merely overtaken on the way closes it by itself.
	reorderWait = 1500 * time.Microsecond
	// The pause between two requests for the same gap grows from repairMin
	// by half to repairMax.
	repairMin = 5 * time.Millisecond
	repairMax = 200 * time.Millisecond
	// When a gap is worth telling the person about.
	gapTold = 300 * time.Millisecond
	// When what waits behind a gap is shown all the same. What was missing
	// is still wanted after that.
	holdMax = 10 * time.Second
	// What was given up is asked for again, more and more rarely.
	wantFirst = 5 * time.Second
	wantMost  = 5 * time.Minute
	// maxHeld bounds the messages that wait behind a gap, per sender.
	maxHeld = 4096
	// maxRanges bounds one request.
	maxRanges = 32
	// maxNumber bounds what a sender can claim; nobody counts that far.
	maxNumber = 1 << 62
)

// An Inbox puts one device's reliable messages of one room in order: each is
// handed over once, none before its predecessors unless those stay away for
// holdMax.
//
//	missing ──arrives──► held? ──predecessors there──► handed over
//	   └──10 s──► given up ──arrives late──► handed over, gap heals
//
// It does no I/O, starts no goroutine and never reads the clock.
type Inbox[M any] struct {
	next  uint64          // lowest number not handed over and not given up
	known uint64          // highest number known to exist
	held  map[uint64]M    // arrived, waiting for a predecessor; > next
	given map[uint64]bool // given up: < next, still wanted

	since time.Time     // when the gap at next was first seen; zero: none
	ask   time.Time     // when to ask again
	pause time.Duration // before the request after that
	told  uint64        // how many missing the person was last told of

	want     time.Time     // when to ask for what was given up; zero: nothing was
	wantWait time.Duration // before the request after that
}

// NewInbox returns the inbox of a device whose messages up to and including
// done were handed over before, but for the missing ones: see Position.
func NewInbox[M any](done uint64, missing ...wire.Range) *Inbox[M] {
	in := &Inbox[M]{next: done + 1, known: done, held: map[uint64]M{}, given: map[uint64]bool{}}
	for _, r := range missing {
		for n := r.First; n <= r.Last && n <= done && len(in.given) < maxHeld; n++ {
			in.given[n] = true
		}
	}
	return in
}

// Position returns what NewInbox needs to go on after a restart: the number up
// to which everything was handed over or given up, and what was given up.
func (in *Inbox[M]) Position() (done uint64, missing []wire.Range) {
	return in.next - 1, in.wanted()
}

// Want has what was given up before a restart be asked for, soon.
func (in *Inbox[M]) Want(now time.Time) {
	if len(in.given) > 0 {
		in.want, in.wantWait = now.Add(wantFirst), wantFirst
	}
}

// Skip says that the messages up to n are not for this receiver: they were
// sent before it was let in. It returns what can be handed over now, in order.
func (in *Inbox[M]) Skip(now time.Time, n uint64) (ready []M) {
	if n > maxNumber {
		return nil
	}
	for m := range in.given {
		if m <= n {
			delete(in.given, m)
		}
	}
	if n < in.next {
		return nil
	}
	for m := range in.held {
		if m <= n {
			delete(in.held, m)
		}
	}
	in.next, in.known, in.since = n+1, max(in.known, n), time.Time{}
	ready = in.drain()
	in.watch(now)
	return ready
}

// Received returns the highest number that has no missing one before it: what
// an acknowledgement says.
func (in *Inbox[M]) Received() uint64 {
	lowest := in.next
	for n := range in.given {
		lowest = min(lowest, n)
	}
	return lowest - 1
}

// Handle takes message n, which has arrived, and returns what can be handed
// over now, in order. fresh is false for a duplicate. late is true when later
// messages were handed over before.
func (in *Inbox[M]) Handle(now time.Time, n uint64, m M) (ready []M, fresh, late bool) {
	if in.given[n] {
		delete(in.given, n)
		return []M{m}, true, true
	}
	if _, dup := in.held[n]; dup || n < in.next || n == 0 || n > maxNumber {
		return nil, false, false
	}
	if n > in.next && len(in.held) >= maxHeld {
		return nil, false, false // it will be asked for again
	}
	in.held[n] = m
	in.known = max(in.known, n)
	if ready = in.drain(); len(ready) > 0 && !in.since.IsZero() {
		in.since = now // another gap is at next now
	}
	in.watch(now)
	return ready, true, false
}

// Exists says that the device has sent messages up to n.
func (in *Inbox[M]) Exists(now time.Time, n uint64) {
	in.known = max(in.known, min(n, maxNumber))
	in.watch(now)
}

func (in *Inbox[M]) drain() (ready []M) {
	for {
		m, ok := in.held[in.next]
		if !ok {
			return ready
		}
		delete(in.held, in.next)
		in.next++
		ready = append(ready, m)
	}
}

// watch starts or stops the clock of the gap at next.
func (in *Inbox[M]) watch(now time.Time) {
	switch {
	case in.known < in.next:
		in.since, in.ask = time.Time{}, time.Time{}
	case in.since.IsZero():
		in.since, in.ask, in.pause = now, now.Add(reorderWait), repairMin
	}
}

// Missing returns how many messages are known to exist and have not come.
func (in *Inbox[M]) Missing() uint64 {
	n := uint64(len(in.given))
	if in.known >= in.next {
		n += in.known - in.next + 1 - uint64(len(in.held))
	}
	return n
}

// Told returns the number of missing messages when it has changed in a way
// worth telling: a gap that lasts, or its end.
func (in *Inbox[M]) Told(now time.Time) (missing uint64, changed bool) {
	missing = in.Missing()
	if missing == in.told {
		return 0, false
	}
	if missing > in.told && !in.since.IsZero() && now.Sub(in.since) < gapTold {
		return 0, false
	}
	if missing > 0 && missing < in.told {
		return 0, false // it is healing; say so once
	}
	in.told = missing
	return missing, true
}

// Deadline returns when Advance next has work; zero: never.
func (in *Inbox[M]) Deadline() time.Time {
	if in.since.IsZero() {
		return in.want
	}
	d := in.ask
	if !in.want.IsZero() && in.want.Before(d) {
		d = in.want
	}
	if t := in.since.Add(gapTold); in.told == 0 && t.Before(d) {
		d = t
	}
	if t := in.since.Add(holdMax); t.Before(d) {
		d = t
	}
	return d
}

// Advance tells the time. It returns the ranges to ask for now, and, once a
// gap was given up, the messages that waited behind it.
func (in *Inbox[M]) Advance(now time.Time) (ask []wire.Range, ready []M) {
	if len(in.given) == 0 {
		in.want = time.Time{}
	}
	if !in.want.IsZero() && !now.Before(in.want) {
		in.want = now.Add(in.wantWait)
		in.wantWait = min(2*in.wantWait, wantMost)
		ask = in.wanted()
		return ask[:min(len(ask), maxRanges)], nil
	}
	if in.since.IsZero() {
		return nil, nil
	}
	if !now.Before(in.since.Add(holdMax)) {
		for _, g := range in.gaps() {
			for n := g.First; n <= g.Last && len(in.given) < maxHeld; n++ {
				in.given[n] = true
			}
		}
		for _, n := range slices.Sorted(maps.Keys(in.held)) {
			ready = append(ready, in.held[n])
		}
		clear(in.held)
		in.next = in.known + 1
		in.Want(now)
		in.watch(now)
		return nil, ready
	}
	if now.Before(in.ask) {
		return nil, nil
	}
	in.ask = now.Add(in.pause)
	in.pause = min(in.pause+in.pause/2, repairMax)
	ask = in.gaps()
	return ask[:min(len(ask), maxRanges)], nil
}

// wanted returns the numbers that were given up, lowest first.
func (in *Inbox[M]) wanted() (ranges []wire.Range) {
	for _, n := range slices.Sorted(maps.Keys(in.given)) {
		if k := len(ranges); k > 0 && ranges[k-1].Last == n-1 {
			ranges[k-1].Last = n
		} else {
			ranges = append(ranges, wire.Range{First: n, Last: n})
		}
	}
	return ranges
}

// gaps returns the missing numbers at next and above, lowest first. However
// far a sender claims to have counted, it costs no more than what is held.
func (in *Inbox[M]) gaps() (gaps []wire.Range) {
	n := in.next
	for _, h := range slices.Sorted(maps.Keys(in.held)) {
		if n < h {
			gaps = append(gaps, wire.Range{First: n, Last: h - 1})
		}
		n = h + 1
	}
	if n <= in.known {
		gaps = append(gaps, wire.Range{First: n, Last: in.known})
	}
	return gaps
}
