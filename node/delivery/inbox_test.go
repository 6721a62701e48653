package delivery

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lanchat/wire"
)

// TestMain keeps the properties short unless -rapid.checks asks for more.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		if err := flag.Set("rapid.checks", "200"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

var start = time.UnixMilli(1_700_000_000_000)

// at returns a time some milliseconds after the start.
func at(ms float64) time.Time { return start.Add(time.Duration(ms * float64(time.Millisecond))) }

func check[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func checkList[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func ranges(n ...uint64) (r []wire.Range) {
	for i := 0; i < len(n); i += 2 {
		r = append(r, wire.Range{First: n[i], Last: n[i+1]})
	}
	return r
}

// What arrives, and what is handed over, in order.
func TestInboxOrder(t *testing.T) {
	type arrival struct {
		n     uint64
		ready []uint64
		fresh bool
	}
	for _, tt := range []struct {
		name     string
		received uint64
		arrivals []arrival
		want     uint64 // Received
		missing  uint64
	}{
		{"in order", 0, []arrival{{1, []uint64{1}, true}, {2, []uint64{2}, true}, {3, []uint64{3}, true}}, 3, 0},
		{"overtaken", 0, []arrival{{2, nil, true}, {1, []uint64{1, 2}, true}}, 2, 0},
		{"backwards", 0, []arrival{{3, nil, true}, {2, nil, true}, {1, []uint64{1, 2, 3}, true}}, 3, 0},
		{"twice", 0, []arrival{{1, []uint64{1}, true}, {1, nil, false}}, 1, 0},
		{"held twice", 0, []arrival{{2, nil, true}, {2, nil, false}}, 0, 1},
		{"two gaps", 0, []arrival{{2, nil, true}, {4, nil, true}, {1, []uint64{1, 2}, true}}, 2, 1},
		{"restored", 5, []arrival{{5, nil, false}, {6, []uint64{6}, true}}, 6, 0},
		{"restored with a gap", 5, []arrival{{7, nil, true}}, 5, 1},
		{"number zero", 0, []arrival{{0, nil, false}}, 0, 0},
		{"no number", 0, []arrival{{math.MaxUint64, nil, false}, {1, []uint64{1}, true}}, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := NewInbox[uint64](nil, tt.received)
			for _, a := range tt.arrivals {
				ready, fresh, late := in.Handle(at(0), a.n, a.n)
				checkList(t, fmt.Sprint("ready after ", a.n), ready, a.ready)
				check(t, fmt.Sprint("fresh ", a.n), fresh, a.fresh)
				check(t, fmt.Sprint("late ", a.n), late, false)
			}
			check(t, "received", in.Received(), tt.want)
			check(t, "missing", in.Missing(), tt.missing)
			check(t, "a deadline", !in.Deadline().IsZero(), tt.missing > 0)
		})
	}
}

// A gap is asked for at once, then again and again, at growing pauses from the
// sixth time on; later every other time of somebody else than the author.
func TestInboxAsks(t *testing.T) {
	in := NewInbox[uint64](nil, 0)
	in.Handle(at(0), 1, 1)
	check(t, "deadline without a gap", in.Deadline(), time.Time{})
	in.Handle(at(0), 3, 3)
	in.Handle(at(0), 6, 6)
	check(t, "first request", in.Deadline(), at(0))
	var asked []time.Time
	others := 0
	for now := in.Deadline(); len(asked) < 25; now = in.Deadline() {
		ask, ready := in.Advance(now)
		in.Told(now)
		checkList(t, "ready", ready, nil)
		if !in.Deadline().After(now) {
			t.Fatalf("the deadline stays at %v", now.Sub(start))
		}
		if len(ask.Author)+len(ask.Other) == 0 {
			continue
		}
		if len(ask.Other) > 0 {
			others++
			ask.Author, ask.Other = ask.Other, nil
		}
		checkList(t, "asked", ask.Author, ranges(2, 2, 4, 5))
		checkList(t, "of the others", ask.Other, nil)
		asked = append(asked, now)
	}
	for i := 1; i < len(asked); i++ {
		d := asked[i].Sub(asked[i-1])
		switch {
		case i < askSteady && d != askFirst:
			t.Errorf("request %d after %v, want %v", i+1, d, askFirst)
		case d > askMax:
			t.Errorf("request %d after %v", i+1, d)
		}
	}
	check(t, "the last pause", asked[24].Sub(asked[23]), askMax)
	check(t, "asked of others", others, (25-askOthers+1)/2)
	now := asked[24]
	ready, _, _ := in.Handle(now, 2, 2)
	checkList(t, "ready", ready, []uint64{2, 3})
	in.Handle(now, 4, 4)
	ready, _, _ = in.Handle(now, 5, 5)
	checkList(t, "ready", ready, []uint64{5, 6})
	ask, _ := in.Advance(now.Add(time.Hour))
	checkList(t, "asked after the gap", ask.Author, nil)
	check(t, "deadline after the gap", in.Deadline(), time.Time{})
}

// A gap that is new is asked for at once, and not again those asked for
// a moment ago.
func TestInboxAsksForEachGapByItself(t *testing.T) {
	in := NewInbox[uint64](nil, 0)
	in.Handle(at(0), 2, 2)
	ask, _ := in.Advance(at(0))
	checkList(t, "asked", ask.Author, ranges(1, 1))
	in.Handle(at(1), 4, 4)
	ask, _ = in.Advance(at(1))
	checkList(t, "asked", ask.Author, ranges(3, 3))
	ask, _ = in.Advance(at(3))
	checkList(t, "asked again", ask.Author, ranges(1, 1))
	in.Handle(at(3.5), 9, 9)
	in.Handle(at(3.6), 7, 7) // splits 5..8
	ask, _ = in.Advance(at(4))
	checkList(t, "asked", ask.Author, ranges(3, 3, 5, 6, 8, 8))
}

// "max(1.5 ms, smoothed round trip + 4 × its variance)"
func TestPathRoundTrip(t *testing.T) {
	p := &Path{}
	in := NewInbox[uint64](p, 0)
	lose := func(n uint64, now, rtt float64) {
		in.Handle(at(now), n+1, n+1)
		d := in.Deadline()
		in.Advance(d)
		in.Handle(d.Add(time.Duration(rtt*float64(time.Millisecond))), n, n)
	}
	check(t, "pause before any", p.pause(1), askFirst)
	lose(1, 0, 8)
	check(t, "round trip", p.RoundTrip(), 8*time.Millisecond)
	check(t, "pause", p.pause(1), 24*time.Millisecond)
	lose(3, 100, 8)
	check(t, "round trip", p.RoundTrip(), 8*time.Millisecond)
	check(t, "pause", p.pause(1), 20*time.Millisecond)
	for i := range uint64(100) {
		lose(5+2*i, 200+20*float64(i), 0.2)
	}
	check(t, "pause on a quick way", p.pause(1), askMin)
	// Karn: what was asked for twice says nothing.
	before := p.RoundTrip()
	in.Handle(at(10_000), 206, 206)
	in.Advance(in.Deadline())
	in.Advance(at(10_010))
	in.Handle(at(10_020), 205, 205)
	check(t, "round trip after two requests", p.RoundTrip(), before)
	if p.reorder > 10*time.Microsecond {
		t.Errorf("waits %v for what is overtaken, and nothing is", p.reorder)
	}
}

// What was learned of a way while queues stood on it is soon forgotten when they
// are gone.
func TestPathClears(t *testing.T) {
	p := &Path{srtt: 600 * time.Millisecond, rttvar: 500 * time.Millisecond}
	in := NewInbox[uint64](p, 0)
	for i := range uint64(10) {
		now := at(20 * float64(i))
		in.Handle(now, 2*i+2, 2*i+2)
		in.Advance(now)
		in.Handle(now.Add(time.Millisecond), 2*i+1, 2*i+1)
	}
	if d := p.pause(1); d > 10*time.Millisecond {
		t.Errorf("asks again after %v on a way of 1 ms", d)
	}
}

// A request is taken for lost, or its answer, when a later one is answered:
// however long the way was before.
func TestInboxAsksAgainWhenLaterOnesAreAnswered(t *testing.T) {
	in := NewInbox[uint64](&Path{srtt: 100 * time.Millisecond, rttvar: 20 * time.Millisecond}, 0)
	in.Handle(at(0), 2, 2)
	ask, _ := in.Advance(at(0))
	checkList(t, "asked", ask.Author, ranges(1, 1))
	in.Handle(at(5), 4, 4)
	ask, _ = in.Advance(at(5))
	checkList(t, "asked", ask.Author, ranges(3, 3))
	if d := in.Deadline(); d.Before(at(100)) {
		t.Errorf("asks again at %v, a round trip takes 100 ms", d.Sub(start))
	}
	in.Handle(at(6), 3, 3)
	ask, _ = in.Advance(at(6))
	checkList(t, "asked once a later one was answered", ask.Author, ranges(1, 1))
	ask, _ = in.Advance(at(8))
	checkList(t, "asked again at once", ask.Author, nil)
}

// Where packets overtake each other, a gap waits a moment before it is asked
// for; where they do no longer, that is forgotten.
func TestPathReorder(t *testing.T) {
	p := &Path{}
	in := NewInbox[uint64](p, 0)
	n := uint64(1)
	lose := func(now, after float64) (asked bool) {
		in.Handle(at(now), n+1, n+1)
		d := in.Deadline()
		in.Advance(d)
		in.Handle(at(now+after), n, n)
		n += 2
		return d.Equal(at(now))
	}
	check(t, "asked at once", lose(0, 1), true) // a round trip of 1 ms
	check(t, "asked at once", lose(100, 0.2), true)
	check(t, "after it was overtaken", lose(200, 1), false)
	check(t, "window", p.reorder > 0 && p.reorder <= reorderMax, true)
	for i := range 200 {
		lose(300+100*float64(i), 20)
	}
	if p.reorder > 10*time.Nanosecond {
		t.Errorf("still waits %v after 200 losses", p.reorder)
	}
}

// The second copy of a lost packet is none that was overtaken: who waits for
// those asks too late, and never learns better.
func TestPathSecondCopies(t *testing.T) {
	p := &Path{reorder: reorderMax}
	in := NewInbox[uint64](p, 0)
	for i := range uint64(50) {
		now := at(20 * float64(i))
		in.Handle(now, 2*i+2, 2*i+2)
		in.Advance(in.Deadline())
		in.Handle(now.Add(copyAfter), 2*i+1, 2*i+1)
	}
	if p.reorder > reorderMax/10 {
		t.Errorf("a gap waits %v before it is asked for", p.reorder)
	}
}

// Where a room is large, others are left the time to ask.
func TestPathSpread(t *testing.T) {
	p := &Path{Spread: func() time.Duration { return 7 * time.Millisecond }}
	in := NewInbox[uint64](p, 0)
	in.Handle(at(0), 2, 2)
	check(t, "asks", in.Deadline(), at(7))
	in.Handle(at(3), 1, 1) // somebody else did
	ask, _ := in.Advance(at(7))
	checkList(t, "asked", ask.Author, nil)
}

// What the sender says exists is asked for like what a later message shows.
func TestInboxExists(t *testing.T) {
	in := NewInbox[uint64](nil, 0)
	in.Exists(at(0), 0)
	check(t, "deadline", in.Deadline(), time.Time{})
	in.Exists(at(0), 2)
	in.Exists(at(0), 1) // an older word
	check(t, "missing", in.Missing(), 2)
	ask, _ := in.Advance(at(1.5))
	checkList(t, "asked", ask.Author, ranges(1, 2))
	in.Handle(at(2), 1, 1)
	in.Handle(at(2), 2, 2)
	in.Advance(at(5000))
	check(t, "deadline", in.Deadline(), time.Time{})
}

// However far a sender claims to have counted, it costs nothing.
func TestInboxAbsurdClaim(t *testing.T) {
	in := NewInbox[uint64](nil, 0)
	in.Exists(at(0), math.MaxUint64)
	in.Handle(at(0), 1, 1)
	in.Handle(at(0), 3, 3)
	ask, _ := in.Advance(at(1.5))
	checkList(t, "asked", ask.Author, ranges(2, 2, 4, maxNumber))
	_, ready := in.Advance(at(60_000))
	checkList(t, "ready", ready, []uint64{3})
	in.Skip(math.MaxUint64)
	check(t, "received", in.Received(), 1)
	ask, _ = in.Advance(at(120_000))
	if len(ask.Author) > maxRanges {
		t.Errorf("%d ranges", len(ask.Author))
	}
}

// One request is bounded however many gaps there are, and so is what is held.
func TestInboxBounds(t *testing.T) {
	in := NewInbox[uint64](nil, 0)
	for n := uint64(2); n <= 4*maxHeld; n += 2 {
		in.Handle(at(0), n, n)
	}
	check(t, "held", len(in.held), maxHeld)
	ask, _ := in.Advance(at(1.5))
	check(t, "ranges", len(ask.Author), maxRanges)
	check(t, "the first", ask.Author[0], wire.Range{First: 1, Last: 1})
	if _, fresh, _ := in.Handle(at(2), 4*maxHeld, 0); fresh {
		t.Error("more is held than may be")
	}
	if ready, fresh, _ := in.Handle(at(2), 1, 1); !fresh || !slices.Equal(ready, []uint64{1, 2}) {
		t.Errorf("what closes the gap is refused: %v, %v", ready, fresh)
	}
}

// What waits behind a gap is shown after holdMax all the same; what was
// missing is handed over late when it comes.
func TestInboxGivesUp(t *testing.T) {
	in := NewInbox[uint64](nil, 0)
	for _, n := range []uint64{1, 3, 4, 6} {
		in.Handle(at(0), n, n)
	}
	_, ready := in.Advance(at(9_999))
	checkList(t, "ready before", ready, nil)
	_, ready = in.Advance(at(10_000))
	checkList(t, "ready", ready, []uint64{3, 4, 6})
	check(t, "missing", in.Missing(), 2)
	check(t, "received", in.Received(), 1)
	ready, fresh, late := in.Handle(at(10_001), 7, 7)
	checkList(t, "the next", ready, []uint64{7})
	check(t, "late", late, false)
	check(t, "fresh", fresh, true)
	ready, fresh, late = in.Handle(at(11_000), 5, 5)
	checkList(t, "what was missing", ready, []uint64{5})
	check(t, "fresh", fresh, true)
	check(t, "late", late, true)
	check(t, "received", in.Received(), 1)
	if _, fresh, _ := in.Handle(at(11_000), 5, 5); fresh {
		t.Error("handed over twice")
	}
	in.Handle(at(12_000), 2, 2)
	check(t, "received", in.Received(), 7)
	check(t, "missing", in.Missing(), 0)
}

// Gaps that follow each other closely are as old as each of them, not as the
// first.
func TestInboxOverlappingGaps(t *testing.T) {
	in := NewInbox[uint64](nil, 0)
	in.Handle(at(0), 2, 2) // 1 is missing
	for n := uint64(3); n < 300; n += 2 {
		// The next gap opens before the last one is closed.
		now := at(float64(n) * 50)
		in.Handle(now, n+1, n+1)
		if _, ready := in.Advance(now); len(ready) > 0 {
			t.Fatalf("given up at %v, when %d is a moment old", now.Sub(start), n-2)
		}
		if ready, _, late := in.Handle(now, n-2, n-2); late || len(ready) != 2 {
			t.Fatalf("%d: ready %v, late %v", n-2, ready, late)
		}
	}
}

// A gap is told when it lasts, and its end; one that heals at once is not.
func TestInboxTold(t *testing.T) {
	in := NewInbox[uint64](nil, 0)
	told := func(ms float64, want uint64, changed bool) {
		t.Helper()
		n, c := in.Told(at(ms))
		if n != want || c != changed {
			t.Errorf("at %v ms told %d, %v, want %d, %v", ms, n, c, want, changed)
		}
	}
	in.Handle(at(0), 2, 2)
	told(0, 0, false)
	in.Handle(at(1), 1, 1)
	told(1, 0, false) // healed before anybody heard of it
	in.Handle(at(1000), 5, 5)
	told(1299, 0, false)
	told(1300, 2, true)
	told(1301, 0, false) // once
	in.Handle(at(1400), 3, 3)
	told(1400, 0, false) // it is healing
	in.Handle(at(1500), 4, 4)
	told(1500, 0, true)
	told(1501, 0, false)
}

// "Those up to Number were sent before" this receiver was let in.
func TestInboxSkip(t *testing.T) {
	in := NewInbox[uint64](nil, 0)
	for _, n := range []uint64{4, 5, 7} {
		in.Handle(at(0), n, n)
	}
	ready := in.Skip(3)
	checkList(t, "ready", ready, []uint64{4, 5})
	check(t, "received", in.Received(), 5)
	check(t, "missing", in.Missing(), 1)
	checkList(t, "skipped again", in.Skip(2), nil)
	check(t, "received", in.Received(), 5)
	checkList(t, "with what is held", in.Skip(7), nil)
	check(t, "received", in.Received(), 7)
	check(t, "deadline", in.Deadline(), time.Time{})
	in.Skip(100) // more than is known
	check(t, "received", in.Received(), 100)

	in = NewInbox[uint64](nil, 0)
	in.Handle(at(0), 3, 3)
	in.Advance(at(10_000)) // gives up 1 and 2
	in.Skip(1)
	check(t, "missing", in.Missing(), 1)
	in.Skip(2)
	check(t, "missing", in.Missing(), 0)
	check(t, "received", in.Received(), 3)
}

// In whatever order and however often messages come, each is handed over
// once, in order; and when all have come nothing is left to do.
func TestInboxProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint64Range(0, 1<<40).Draw(t, "received")
		count := rapid.IntRange(1, 40).Draw(t, "count")
		in := NewInbox[uint64](nil, first)
		var numbers []uint64
		for i := range count {
			for range rapid.IntRange(1, 3).Draw(t, "copies") {
				numbers = append(numbers, first+1+uint64(i))
			}
		}
		now := start
		var got []uint64
		for _, n := range rapid.Permutation(numbers).Draw(t, "order") {
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "ms")) * time.Millisecond)
			if rapid.Bool().Draw(t, "beacon") {
				in.Exists(now, first+uint64(rapid.IntRange(0, count).Draw(t, "exists")))
			}
			if d := in.Deadline(); !d.IsZero() && !now.Before(d) {
				ask, ready := in.Advance(now)
				got = append(got, ready...)
				for i, r := range ask.Author {
					if r.First > r.Last || r.First <= first || r.Last > first+uint64(count) || i > 0 && r.First <= ask.Author[i-1].Last+1 {
						t.Fatalf("asks for %v", ask)
					}
					for n := r.First; n <= r.Last; n++ {
						if slices.Contains(got, n) {
							t.Fatalf("asks for %d, which was handed over", n)
						}
					}
				}
			}
			before := len(got)
			ready, fresh, late := in.Handle(now, n, n)
			got = append(got, ready...)
			if len(ready) > 0 && !fresh {
				t.Fatalf("%d is no news and %v is ready", n, ready)
			}
			if !late && before > 0 && len(ready) > 0 && ready[0] != slices.Max(got[:before])+1 && in.Missing() == 0 {
				t.Fatalf("%v handed over after %v", ready, got[:before])
			}
		}
		// Nothing stayed away for holdMax in a row here unless it did.
		seen := map[uint64]bool{}
		for _, n := range got {
			if seen[n] {
				t.Fatalf("%d was handed over twice: %v", n, got)
			}
			seen[n] = true
		}
		if len(got) != count {
			t.Fatalf("%d of %d handed over: %v", len(got), count, got)
		}
		if now.Sub(start) < holdMax && !slices.IsSorted(got) {
			t.Fatalf("out of order: %v", got)
		}
		if in.Missing() != 0 || in.Received() != first+uint64(count) || !in.Deadline().IsZero() {
			t.Fatalf("missing %d, received %d, deadline %v", in.Missing(), in.Received(), in.Deadline())
		}
	})
}

// A way that takes longer than the pause between two requests is learned too.
func TestPathLongWay(t *testing.T) {
	p := &Path{}
	in := NewInbox[uint64](p, 0)
	requests := func(n uint64, now, rtt float64) (count int) {
		in.Handle(at(now), n+1, n+1)
		for d := in.Deadline(); d.Before(at(now + rtt)); d = in.Deadline() {
			if ask, _ := in.Advance(d); len(ask.Author) > 0 {
				count++
			}
		}
		in.Handle(at(now+rtt), n, n)
		return count
	}
	if n := requests(1, 0, 20); n < 2 {
		t.Errorf("%d requests in 20 ms when nothing is known", n)
	}
	check(t, "requests once it is known", requests(3, 100, 20), 1)
	for i := range uint64(30) {
		requests(5+2*i, 200+300*float64(i), 150) // it has become longer
	}
	check(t, "requests on the longer way", requests(65, 20_000, 150), 1)
}

// However fast its author talks, one who loses a fifth of all there is asks for
// everything at once and again as soon as it is known to be lost; it leaves the
// others alone, since the author answers.
func TestInboxKeepsUp(t *testing.T) {
	const (
		way      = 10 // ms, in each direction
		perMilli = 20
		talk     = 2000 // ms
	)
	dice := rand.New(rand.NewPCG(1, 2))
	lost := func() bool { return dice.Float64() < 0.2 }
	in := NewInbox[uint64](nil, 0)
	coming, asked := map[int][]uint64{}, map[int][]wire.Range{} // by when they arrive
	said, got, last, longest := uint64(0), uint64(0), 0, 0
	for ms := 0; got < perMilli*talk; ms++ {
		if ms > 2*talk {
			t.Fatalf("%d of %d after %d ms", got, said, ms)
		}
		say := func(n uint64) {
			if !lost() {
				coming[ms+way] = append(coming[ms+way], n)
			}
		}
		for range perMilli {
			if ms < talk {
				said++
				say(said)
			}
		}
		for _, r := range asked[ms] {
			for n := r.First; n <= r.Last; n++ {
				say(n)
			}
		}
		for _, n := range coming[ms] {
			ready, _, _ := in.Handle(at(float64(ms)), n, n)
			got += uint64(len(ready))
			if len(ready) > 0 {
				longest, last = max(longest, ms-last), ms
			}
		}
		if ms > talk {
			in.Exists(at(float64(ms)), said)
		}
		ask, _ := in.Advance(at(float64(ms)))
		for _, r := range ask.Author {
			if !lost() {
				asked[ms+way] = append(asked[ms+way], r)
			}
		}
		if ms < talk && len(ask.Other) > 0 {
			t.Fatalf("others are asked for %v while the author answers", ask.Other)
		}
	}
	if longest > 120 {
		t.Errorf("nothing was handed over for %d ms", longest)
	}
}
