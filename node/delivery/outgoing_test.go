package delivery

import (
	"bytes"
	"math"
	"testing"
	"time"

	"lanchat/wire"
)

var (
	ann = wire.DeviceID{1}
	bob = wire.DeviceID{2}
)

// say adds messages of a packet each, with their number as content, and returns
// what is sent.
func say(o *Outgoing, ms float64, n int) []Transmission {
	for range n {
		k := o.Next()
		o.Add(k, k, []byte{byte(k)})
	}
	return o.Take(at(ms))
}

// contents returns the packets in one string of bytes.
func contents(sent []Transmission) (b []byte) {
	for _, t := range sent {
		b = append(b, t.Packet...)
	}
	return b
}

func TestOutgoingNumbers(t *testing.T) {
	o := NewOutgoing(7)
	check(t, "last", o.Last(), 7)
	check(t, "told", o.Told(), 7)
	check(t, "next", o.Next(), 8)
	check(t, "next", o.Next(), 9)
	check(t, "last", o.Last(), 9)
	o.Add(8, 9, nil)
	check(t, "told before it is sent", o.Told(), 7)
	o.Take(at(0))
	check(t, "told", o.Told(), 9)
}

// What is asked for is sent again, the same bytes, of what is kept.
// What was sent under numbers that turn out to be taken is given to nobody any
// more, and who had acknowledged the older ones holds nothing up.
func TestOutgoingJumps(t *testing.T) {
	o := NewOutgoing(7)
	o.Expect(at(0), []wire.DeviceID{ann})
	say(o, 0, 2)
	o.Jump(9) // known already
	check(t, "last", o.Last(), 9)
	o.Jump(20)
	check(t, "last", o.Last(), 20)
	check(t, "told", o.Told(), 20)
	o.HandleRequest(at(1), ann, []wire.Range{{First: 8, Last: 9}})
	check(t, "sent again", string(contents(o.Take(at(1)))), "")
	checkList(t, "not kept", o.Forgotten([]wire.Range{{First: 8, Last: 20}}, 0), []wire.Range{{First: 8, Last: 20}})
	check(t, "next", string(contents(say(o, 2, 1))), "\x15")
	check(t, "acknowledged", o.HandleAck(at(3), ann, 21), wire.Range{First: 1, Last: 21})
	check(t, "waiting", o.Waiting(), 0)
}

func TestOutgoingRepair(t *testing.T) {
	for _, tt := range []struct {
		name string
		ask  []wire.Range
		want []byte
	}{
		{"one", ranges(12, 12), []byte{12}},
		{"several ranges", ranges(11, 12, 15, 15), []byte{11, 12, 15}},
		{"before the restart", ranges(1, 11), []byte{11}},
		{"not sent yet", ranges(15, 99), []byte{15}},
		{"everything there is", ranges(1, math.MaxUint64), []byte{11, 12, 13, 14, 15}},
		{"nothing there is", ranges(1, 10), nil},
		{"the middle of a packet", ranges(17, 17), []byte{16}},
	} {
		o := NewOutgoing(10)
		say(o, 0, 5)
		o.Add(o.Next(), o.Next()+1, []byte{16})
		o.Next()
		o.Take(at(0))
		o.HandleRequest(at(1), ann, tt.ask)
		o.HandleRequest(at(1), ann, tt.ask) // at the same moment: once
		if got := contents(o.Take(at(1))); !bytes.Equal(got, tt.want) && tt.name != "not sent yet" && tt.name != "everything there is" {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
		if len(o.Take(at(2))) > 0 {
			t.Errorf("%s: sent again unasked", tt.name)
		}
		o.HandleRequest(at(3), ann, tt.ask) // "what is asked for twice is sent twice"
		if got := o.Take(at(3)); len(tt.want) > 0 && len(got) == 0 {
			t.Errorf("%s: not sent a second time", tt.name)
		}
	}
}

// "By multicast (or by unicast where one of many misses it)", and over its link
// to one that has fallen far behind.
func TestOutgoingRepairWay(t *testing.T) {
	everybody := wire.DeviceID{}
	way := func(o *Outgoing, ms float64) (to wire.DeviceID, link bool) {
		t.Helper()
		sent := o.Take(at(ms))
		if len(sent) != 1 {
			t.Fatalf("%d packets at %v ms", len(sent), ms)
		}
		return sent[0].To, sent[0].Link
	}
	o := NewOutgoing(0)
	o.Expect(at(0), []wire.DeviceID{ann, bob})
	say(o, 0, 1)
	o.HandleRequest(at(1), ann, ranges(1, 1))
	to, link := way(o, 1)
	check(t, "to the one who asks", to, ann)
	check(t, "over a link", link, false)
	o.HandleRequest(at(2), bob, ranges(1, 1))
	to, _ = way(o, 2)
	check(t, "a moment after another", to, everybody)
	o.HandleRequest(at(50), bob, ranges(1, 1))
	o.HandleRequest(at(50), ann, ranges(1, 1))
	to, _ = way(o, 50)
	check(t, "with another", to, everybody)

	o = NewOutgoing(0)
	o.Expect(at(0), []wire.DeviceID{ann})
	say(o, 0, 1)
	o.HandleRequest(at(1), ann, ranges(1, 1))
	to, _ = way(o, 1)
	check(t, "to the only one", to, everybody)

	o.members[ann].out = true
	o.HandleRequest(at(2), ann, ranges(1, 1))
	to, link = way(o, 2)
	check(t, "to one far behind", to, ann)
	check(t, "over a link", link, true)
	o.HandleRequest(at(3), ann, ranges(1, 1))
	check(t, "over a link once", len(o.Take(at(3))), 0)
}

// "Repair cache 8 MB per room", drop oldest.
func TestOutgoingForgets(t *testing.T) {
	o := NewOutgoing(0)
	const size = 1 << 10
	o.pacer.tokens = math.Inf(1)
	for range maxCache/size + 10 {
		n := o.Next()
		o.Add(n, n, make([]byte, size))
		o.Take(at(0))
	}
	if o.size > maxCache || len(o.kept) != maxCache/size {
		t.Errorf("%d packets of %d bytes are kept", len(o.kept), o.size)
	}
	repaired := func(n uint64) int {
		o.HandleRequest(at(1), ann, ranges(n, n))
		return len(o.Take(at(1)))
	}
	check(t, "the oldest gone", repaired(10), 0)
	check(t, "the oldest kept", repaired(11), 1)
	check(t, "the newest kept", repaired(o.Last()), 1)
	checkList(t, "forgotten", o.Forgotten(ranges(1, 12), 3), ranges(4, 10))
	o.Forget(20)
	checkList(t, "forgotten", o.Forgotten(ranges(12, 30), 3), ranges(12, 20))
}

// An acknowledgement says which numbers are news.
func TestOutgoingAcks(t *testing.T) {
	o := NewOutgoing(0)
	o.Expect(at(0), []wire.DeviceID{ann, bob})
	say(o, 0, 5)
	for _, tt := range []struct {
		from wire.DeviceID
		n    uint64
		want wire.Range
	}{
		{ann, 0, wire.Range{First: 1, Last: 0}},
		{ann, 2, wire.Range{First: 1, Last: 2}},
		{ann, 2, wire.Range{First: 1, Last: 0}},
		{ann, 1, wire.Range{First: 1, Last: 0}},
		{bob, 4, wire.Range{First: 1, Last: 4}},
		{ann, 99, wire.Range{First: 3, Last: 5}}, // nobody has what was not sent
		{ann, 99, wire.Range{First: 1, Last: 0}},
	} {
		if got := o.HandleAck(at(1), tt.from, tt.n); got != tt.want {
			t.Errorf("%v acknowledges %d: got %v, want %v", tt.from, tt.n, got, tt.want)
		}
	}
	check(t, "ann's", o.Acked(ann), 5)
	check(t, "bob's", o.Acked(bob), 4)
}

// "Heartbeats with the highest number 4, 8, 16 … ms after the last packet, up to
// 1 s"; acknowledgements by everybody end them before.
func TestOutgoingHeartbeats(t *testing.T) {
	beats := func(o *Outgoing, from float64) (ms []int64) {
		for !o.Deadline().IsZero() {
			now := o.Deadline()
			if o.Advance(now.Add(-1)) {
				t.Errorf("a heartbeat before its time")
			}
			if !o.Advance(now) {
				t.Fatalf("no heartbeat at %v", now)
			}
			ms = append(ms, now.Sub(at(from)).Milliseconds())
		}
		return ms
	}
	o := NewOutgoing(0)
	o.Expect(at(0), []wire.DeviceID{ann, bob})
	check(t, "deadline at first", o.Deadline(), time.Time{})
	say(o, 0, 1)
	checkList(t, "heartbeats", beats(o, 0), []int64{4, 8, 16, 32, 64, 128, 256, 512, 1024})
	check(t, "another", o.Advance(at(1e6)), false)

	say(o, 2000, 1)
	o.HandleAck(at(2001), ann, 2)
	check(t, "with one to go", o.Deadline(), at(2004))
	o.HandleAck(at(2001), bob, 1)
	check(t, "with one to go", o.Deadline(), at(2004))
	o.HandleAck(at(2001), bob, 2)
	check(t, "with all acknowledged", o.Deadline(), time.Time{})

	say(o, 3000, 1)
	o.Advance(at(3004))
	say(o, 3006, 1)
	check(t, "after another message", o.Deadline(), at(3010))
}

// "A window over the slowest member that answers; one that falls out of it, or
// is silent for 2 s, holds nobody up."
func TestOutgoingWindow(t *testing.T) {
	fill := func(o *Outgoing, ms float64, messages uint64) int {
		first := o.Last() + 1
		for range messages {
			o.Next()
		}
		o.Add(first, o.Last(), []byte{1})
		return len(o.Take(at(ms)))
	}
	o := NewOutgoing(1000)
	o.Expect(at(0), []wire.DeviceID{ann, bob})
	check(t, "up to the window", fill(o, 0, Window), 1)
	check(t, "beyond", fill(o, 1, 10), 0)
	check(t, "waiting", o.Waiting(), 1)
	o.HandleAck(at(100), ann, 1000+Window)
	check(t, "with ann's word", len(o.Take(at(100))), 0)
	check(t, "deadline", o.Deadline(), at(4)) // a heartbeat, so that bob answers
	for o.Advance(o.Deadline()) {
	}
	check(t, "deadline", o.Deadline(), at(2000))
	check(t, "just before", len(o.Take(at(1999))), 0)
	check(t, "bob is silent", len(o.Take(at(2000))), 1)
	check(t, "and out of it", o.members[bob].out, true)
	check(t, "ann is waited for", fill(o, 2001, Window), 0)
	o.HandleAck(at(2100), ann, o.Told())
	check(t, "no longer", len(o.Take(at(2100))), 1)
	o.HandleAck(at(2200), bob, 1000+Window)
	check(t, "bob is back", o.members[bob].out, true)
	o.HandleAck(at(2200), bob, o.Last())
	check(t, "bob has caught up", o.members[bob].out, false)

	// Who comes with a long way to go is not waited for from the beginning.
	o.Expect(at(3000), []wire.DeviceID{ann, bob, {3}})
	check(t, "a newcomer", o.members[wire.DeviceID{3}].out, true)
}

// What waited when the room turned to another key goes over links only.
func TestOutgoingSeclude(t *testing.T) {
	o := NewOutgoing(0)
	o.Expect(at(0), []wire.DeviceID{ann, bob})
	o.Add(o.Next(), 1, []byte{1})
	o.Seclude()
	sent := o.Take(at(0))
	if len(sent) != 2 || sent[0].To != ann || sent[1].To != bob || !sent[0].Link || !sent[1].Link {
		t.Errorf("sent %+v", sent)
	}
	o.HandleRequest(at(1), bob, ranges(1, 1))
	if sent := o.Take(at(1)); len(sent) != 1 || sent[0].To != bob || !sent[0].Link {
		t.Errorf("repaired by %+v", sent)
	}
}

// The pacer lets a burst out at once and the rest at its rate; the rate grows
// while members keep up, and shrinks while one loses too much.
func TestPacer(t *testing.T) {
	o := NewOutgoing(0)
	o.Expect(at(0), []wire.DeviceID{ann})
	rate := o.pacer.rate
	check(t, "the burst", len(say(o, 0, 10_000)), minBurst)
	sent := minBurst
	for now := 1.0; now <= 1000; now++ {
		sent += len(o.Take(at(now)))
		o.HandleAck(at(now), ann, uint64(sent))
	}
	if sent < 2*int(rate) || o.pacer.rate <= rate {
		t.Errorf("%d packets in a second, rate %v, when nothing is lost", sent, o.pacer.rate)
	}
	rate = o.pacer.rate
	now := 1000.0
	for now < 3000 {
		now++
		say(o, now, 20)
		told := o.Told()
		for n := told - 10; n <= told; n++ {
			o.HandleRequest(at(now), ann, ranges(n, n))
		}
		o.HandleAck(at(now), ann, told)
	}
	if o.pacer.rate >= rate/2 {
		t.Errorf("the rate is %v after %v when half is lost", o.pacer.rate, rate)
	}
	if o.pacer.rate < paceMin {
		t.Errorf("the rate is %v", o.pacer.rate)
	}
	if loss, resent := o.Loss(); loss < 0.2 || resent == 0 {
		t.Errorf("loss %v, resent %v", loss, resent)
	}
}

// Where much is lost and there is room, a second copy follows.
func TestSecondCopy(t *testing.T) {
	o := NewOutgoing(0)
	o.Expect(at(0), []wire.DeviceID{ann})
	o.pacer.loss = 0.1
	check(t, "the packet", len(say(o, 0, 1)), 1)
	check(t, "deadline", o.Deadline(), at(1.5))
	check(t, "too early", len(o.Take(at(1))), 0)
	check(t, "its copy", len(o.Take(at(1.5))), 1)
	check(t, "and no third", len(o.Take(at(3))), 0)
	o.pacer.loss = 0.01
	say(o, 10, 1)
	check(t, "where little is lost", len(o.Take(at(12))), 0)
}

func TestBucket(t *testing.T) {
	b := Bucket{Rate: 10, Burst: 3}
	allowed := func(ms float64, n int) (k int) {
		for range n {
			if b.Allow(at(ms)) {
				k++
			}
		}
		return k
	}
	check(t, "the burst", allowed(0, 5), 3)
	check(t, "a moment later", allowed(50, 5), 0)
	check(t, "then one in 100 ms", allowed(150, 5), 1)
	check(t, "and never more than the burst", allowed(1e6, 5), 3)
	b.Charge(at(2e6), 4)
	check(t, "after more was taken than there was", b.Has(at(2e6), 1), false)
	check(t, "until that is paid", allowed(2e6+150, 5), 0)
	check(t, "and then", allowed(2e6+250, 5), 1)
}

// What of fast messages did not come.
func TestFastIn(t *testing.T) {
	const boot = 3 << 32
	for _, tt := range []struct {
		name  string
		heard []uint64
		late  int
		lost  uint64
	}{
		{"in order", []uint64{boot + 1, boot + 2, boot + 3}, 0, 0},
		{"the first is where it begins", []uint64{boot + 7, boot + 8}, 0, 0},
		{"two lost", []uint64{boot + 1, boot + 4}, 0, 2},
		{"overtaken", []uint64{boot + 1, boot + 3, boot + 2}, 1, 0},
		{"started anew", []uint64{boot + 5, boot + 1<<32 + 3}, 0, 2},
		{"of the boot before", []uint64{boot + 1, boot + 3, boot - 1<<32 + 9}, 1, 1},
		{"absurd", []uint64{boot + 1, boot + 1<<31}, 0, maxJump},
	} {
		var f FastIn
		late := 0
		for _, n := range tt.heard {
			if f.Handle(n) {
				late++
			}
		}
		check(t, tt.name+": late", late, tt.late)
		check(t, tt.name+": lost", f.Lost(), tt.lost)
	}
	var f FastIn
	f.Exists(boot)
	check(t, "nothing sent", f.Lost(), 0)
	f.Handle(boot + 1)
	f.Exists(boot + 3)
	check(t, "told", f.Told(), 2)
	check(t, "told once", f.Told(), 0)
	f.Handle(boot + 2)
	check(t, "told of what came late", f.Told(), 0)
	check(t, "lost", f.Lost(), 1)
}

func TestQueue(t *testing.T) {
	q := NewQueue(3, []Queued{{Number: 2, Body: []byte("b")}, {Number: 3, Body: []byte("c")}})
	numbers := func(list []Queued) (n []uint64) {
		for _, m := range list {
			n = append(n, m.Number)
		}
		return n
	}
	check(t, "next", q.Next(), 4)
	q.Add(Queued{Number: 4})
	check(t, "length", q.Len(), 3)
	check(t, "last", q.Last(), 4)
	for _, tt := range []struct {
		after uint64
		want  []uint64
	}{{0, []uint64{2, 3, 4}}, {2, []uint64{3, 4}}, {3, []uint64{4}}, {4, nil}, {99, nil}} {
		checkList(t, "after", numbers(q.After(tt.after)), tt.want)
	}
	for n, want := range []uint64{0, 0, 0, 2, 3, 4, 4} {
		check(t, "before", q.Before(uint64(n)), want)
	}
	check(t, "first", q.Number(0), 2)
	checkList(t, "acknowledged before", numbers(q.HandleAck(1)), nil)
	checkList(t, "acknowledged", numbers(q.HandleAck(3)), []uint64{2, 3})
	checkList(t, "again", numbers(q.HandleAck(3)), nil)
	checkList(t, "left", numbers(q.After(0)), []uint64{4})
	done := q.HandleAck(math.MaxUint64)
	checkList(t, "all", numbers(done), []uint64{4})
	check(t, "length", q.Len(), 0)
	check(t, "next", q.Next(), 5)
	q.Add(Queued{Number: 5})
	check(t, "what was returned stays", done[0].Number, 4)
	checkList(t, "left", numbers(q.After(0)), []uint64{5})
}
