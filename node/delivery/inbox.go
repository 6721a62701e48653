package delivery

import (
	"cmp"
	"slices"
	"time"

	"lanchat/wire"
)

const (
	// A gap is asked for again after max(askMin, smoothed round trip + 4 × its
	// variance); from the askSteady-th time in vain on the pause grows by half, to
	// askMax.
	askMin    = 1500 * time.Microsecond
	askSteady = 6
	askMax    = 200 * time.Millisecond
	// askFirst is the pause while no round trip was measured.
	askFirst = 3 * time.Millisecond
	// reorderMax bounds how long a gap waits to be closed by a packet that was
	// merely overtaken. It is less than copyAfter: who waits for second copies
	// would never ask.
	reorderMax = time.Millisecond
	// askOthers is how often the author is asked in vain before another member is;
	// one that answers other requests, four times as often.
	askOthers = 6
	// When a gap is worth telling the person about.
	gapTold = 300 * time.Millisecond
	// When what waits behind a gap is shown all the same. What was missing
	// is still wanted after that.
	holdMax = 10 * time.Second
	// What was given up is asked for again, more and more rarely.
	wantFirst = 5 * time.Second
	wantMost  = 5 * time.Minute
	// maxHeld bounds the messages that wait behind a gap, per sender. It is also
	// the sender's window: more than that is never on its way.
	maxHeld = Window
	// maxGiven bounds those that were given up and are still wanted.
	maxGiven = 4096
	// maxRanges bounds one request, which is one packet.
	maxRanges = wire.MaxRanges
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
// A gap is asked for as soon as it is seen, or after a moment where that pays:
// packets overtake each other on the way (which the Inbox notices by itself),
// or the room is so large that somebody else will have asked (Path.Spread).
//
// It does no I/O, starts no goroutine and never reads the clock.
type Inbox[M any] struct {
	path  *Path
	next  uint64          // lowest number not handed over and not given up
	known uint64          // highest number known to exist
	held  map[uint64]M    // arrived, waiting for a predecessor; > next
	given map[uint64]bool // given up: < next, still wanted
	gaps  []gap           // what is missing from next to known, lowest first, none empty

	answered time.Time // when the latest request was sent that is known to be answered

	due  time.Time // not after any time at which Advance has work; zero: never
	told uint64    // how many missing the person was last told of

	want     time.Time     // when to ask for what was given up; zero: nothing was
	wantWait time.Duration // before the request after that
}

// A gap is numbers that are missing side by side and were asked for together.
type gap struct {
	first, last uint64
	since       time.Time // when it was seen
	begun       time.Time // when it was asked for first; zero: never
	asked       time.Time // and last
	tries       int
	vain        int       // of those, the last ones, of which nothing shows that the author is there
	ask         time.Time // when to ask for it next
}

// A Request is what is to be asked for now. Author goes to the author of the
// messages; Other, which the author has not answered for some time, to any
// member that may have them.
type Request struct {
	Author, Other []wire.Range
}

// All returns all that is to be asked for, for when the author is away.
func (r Request) All() (all []wire.Range) {
	both := slices.Concat(r.Author, r.Other)
	slices.SortFunc(both, func(a, b wire.Range) int { return cmp.Compare(a.First, b.First) })
	for _, g := range both {
		all = join(all, g)
	}
	return all
}

// NewInbox returns the inbox of a device whose messages up to and including
// done were handed over before, but for the missing ones: see Position. The
// path may be shared by inboxes whose packets come the same way; nil: its own.
func NewInbox[M any](path *Path, done uint64, missing ...wire.Range) *Inbox[M] {
	if path == nil {
		path = &Path{}
	}
	in := &Inbox[M]{path: path, next: done + 1, known: done, held: map[uint64]M{}, given: map[uint64]bool{}}
	for _, r := range missing {
		for n := r.First; n <= r.Last && n <= done && len(in.given) < maxGiven; n++ {
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
		in.sooner(in.want)
	}
}

// sooner has Advance called at t or before.
func (in *Inbox[M]) sooner(t time.Time) {
	if in.due.IsZero() || t.Before(in.due) {
		in.due = t
	}
}

// Skip says that the messages up to n are not for this receiver: they were
// sent before it was let in. It returns what can be handed over now, in order.
func (in *Inbox[M]) Skip(n uint64) (ready []M) {
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
	in.gaps = slices.DeleteFunc(in.gaps, func(g gap) bool { return g.last <= n })
	if len(in.gaps) > 0 && in.gaps[0].first <= n {
		in.gaps[0].first = n + 1
	}
	in.next, in.known = n+1, max(in.known, n)
	return in.drain()
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

// Has reports whether message n was handed over or waits to be.
func (in *Inbox[M]) Has(n uint64) bool {
	if n < in.next {
		return !in.given[n]
	}
	_, held := in.held[n]
	return held
}

// Handle takes message n, which has arrived, and returns what can be handed
// over now, in order. fresh is false for a duplicate. late is true when later
// messages were handed over before.
func (in *Inbox[M]) Handle(now time.Time, n uint64, m M) (ready []M, fresh, late bool) {
	if in.given[n] {
		delete(in.given, n)
		return []M{m}, true, true
	}
	if n == 0 || n > maxNumber || in.Has(n) {
		return nil, false, false
	}
	if n > in.next && len(in.held) >= maxHeld {
		return nil, false, false // it will be asked for again
	}
	if n > in.known {
		in.Exists(now, n-1)
		in.known = n
	} else {
		in.fill(now, n)
	}
	if n > in.next {
		in.held[n] = m
		return nil, true, false
	}
	in.next++
	return append([]M{m}, in.drain()...), true, false
}

// fill takes n out of the gap it closes, or part of it.
func (in *Inbox[M]) fill(now time.Time, n uint64) {
	i, _ := slices.BinarySearchFunc(in.gaps, n, func(g gap, n uint64) int {
		if g.last < n {
			return -1
		}
		return 1 // the first that ends at n or later
	})
	g := &in.gaps[i]
	in.path.closed(now, g)
	if g.tries > 0 && g.begun.After(in.answered) {
		in.answered = g.begun
	}
	switch {
	case g.first == g.last:
		in.gaps = slices.Delete(in.gaps, i, i+1)
	case n == g.first:
		g.first++
	case n == g.last:
		g.last--
	default:
		before := *g
		before.last = n - 1
		g.first = n + 1
		in.gaps = slices.Insert(in.gaps, i, before)
	}
	if len(in.gaps) > 0 && in.gaps[0].tries > 0 {
		in.sooner(in.again(&in.gaps[0])) // what was just learned may make that now
	}
}

// again returns when to ask once more for what was asked for and has not come.
// The author answers in the order it was asked in: where a later request is
// answered, the answer to this one was lost.
func (in *Inbox[M]) again(g *gap) time.Time {
	switch {
	case !in.passedOver(g):
		return g.asked.Add(in.path.pause(g.vain))
	case g.tries < askSteady:
		return g.asked.Add(askMin)
	}
	return g.asked.Add(in.path.pause(0))
}

// passedOver reports whether a later request than the last one for this gap was
// answered: the author is there, and it was lost, or its answer.
func (in *Inbox[M]) passedOver(g *gap) bool { return g.asked.Before(in.answered) }

// Exists says that the device has sent messages up to n.
func (in *Inbox[M]) Exists(now time.Time, n uint64) {
	n = min(n, maxNumber)
	if n <= in.known {
		return
	}
	g := gap{first: in.known + 1, last: n, since: now, ask: now.Add(in.path.patience())}
	in.known = n
	in.path.missed += g.last - g.first + 1
	if k := len(in.gaps) - 1; k >= 0 && in.gaps[k].last == g.first-1 && in.gaps[k].tries == 0 {
		in.gaps[k].last = n
		return
	}
	if len(in.gaps) == 0 {
		in.due = in.want // nothing else is left of it
	}
	in.gaps = append(in.gaps, g)
	in.sooner(g.ask)
	if in.told == 0 {
		in.sooner(g.since.Add(gapTold))
	}
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

// Missing returns how many messages are known to exist and have not come.
func (in *Inbox[M]) Missing() uint64 {
	n := uint64(len(in.given))
	for _, g := range in.gaps {
		n += g.last - g.first + 1
	}
	return n
}

// Open reports whether any message is missing that is still waited for.
func (in *Inbox[M]) Open() bool { return len(in.gaps) > 0 }

// Told returns the number of missing messages when it has changed in a way
// worth telling: a gap that lasts, or its end.
func (in *Inbox[M]) Told(now time.Time) (missing uint64, changed bool) {
	if in.told == 0 && len(in.gaps) == 0 && len(in.given) == 0 {
		return 0, false
	}
	missing = in.Missing()
	switch {
	case missing == in.told:
		return 0, false
	case missing > 0 && missing < in.told:
		return 0, false // it is healing; say so once
	case missing > in.told && len(in.gaps) > 0 && now.Sub(in.gaps[0].since) < gapTold:
		return 0, false
	}
	in.told = missing
	return missing, true
}

// Deadline returns when Advance next has work; zero: never.
func (in *Inbox[M]) Deadline() time.Time {
	switch {
	case len(in.gaps) > 0:
		return in.due
	case len(in.given) > 0:
		return in.want
	}
	return time.Time{}
}

// Advance tells the time. It returns what to ask for now, and, once a gap was
// given up, the messages that waited behind it.
func (in *Inbox[M]) Advance(now time.Time) (ask Request, ready []M) {
	if d := in.Deadline(); d.IsZero() || now.Before(d) {
		return ask, nil
	}
	for len(in.gaps) > 0 && !now.Before(in.gaps[0].since.Add(holdMax)) {
		ready = append(ready, in.giveUp(now)...)
	}
	switch {
	case len(in.given) == 0:
		in.want = time.Time{}
	case !in.want.IsZero() && !now.Before(in.want):
		in.want = now.Add(in.wantWait)
		in.wantWait = min(2*in.wantWait, wantMost)
		ask.Author = in.wanted()
		ask.Author = ask.Author[:min(len(ask.Author), maxRanges)]
		ask.Other = ask.Author
	}
	in.due = in.want
	slack := min(in.path.pause(0)/8, time.Millisecond) // what is nearly due goes along
	for i := range in.gaps {
		g := &in.gaps[i]
		if g.tries > 0 {
			g.ask = in.again(g)
		}
		if !now.Before(g.ask.Add(-slack)) {
			to := &ask.Author
			if in.passedOver(g) {
				g.vain = 0
			}
			if max(g.vain, g.tries/4) >= askOthers && g.tries%2 == 0 {
				to = &ask.Other
			}
			if len(*to) < maxRanges {
				*to = join(*to, wire.Range{First: g.first, Last: g.last})
				if g.tries++; g.tries == 1 {
					g.begun = now
				}
				g.vain++
				g.asked, g.ask = now, now.Add(in.path.pause(g.vain))
			} else {
				g.ask = now.Add(askMin) // in a request of its own
			}
		}
		in.sooner(g.ask)
		if in.told == 0 && now.Before(g.since.Add(gapTold)) {
			in.sooner(g.since.Add(gapTold))
		}
	}
	if len(in.gaps) > 0 {
		in.sooner(in.gaps[0].since.Add(holdMax))
	}
	return ask, ready
}

// giveUp gives up the first gap and returns what waited behind it.
func (in *Inbox[M]) giveUp(now time.Time) (ready []M) {
	g := in.gaps[0]
	in.gaps = slices.Delete(in.gaps, 0, 1)
	for n := g.first; n <= g.last && len(in.given) < maxGiven; n++ {
		in.given[n] = true
	}
	in.next = g.last + 1
	in.want, in.wantWait = now.Add(wantFirst), wantFirst
	return in.drain()
}

// wanted returns the numbers that were given up, lowest first.
func (in *Inbox[M]) wanted() (ranges []wire.Range) {
	if len(in.given) == 0 {
		return nil
	}
	numbers := make([]uint64, 0, len(in.given))
	for n := range in.given {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		ranges = join(ranges, wire.Range{First: n, Last: n})
	}
	return ranges
}

// join appends a range that begins behind the start of the last one.
func join(ranges []wire.Range, r wire.Range) []wire.Range {
	if k := len(ranges) - 1; k >= 0 && r.First <= ranges[k].Last+1 {
		ranges[k].Last = max(ranges[k].Last, r.Last)
		return ranges
	}
	return append(ranges, r)
}
