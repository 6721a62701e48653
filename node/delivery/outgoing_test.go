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

func TestOutgoingNumbers(t *testing.T) {
	o := NewOutgoing(7)
	check(t, "last", o.Last(), 7)
	check(t, "next", o.Next(), 8)
	check(t, "next", o.Next(), 9)
	check(t, "last", o.Last(), 9)
}

// Repair returns the same bytes, of what is kept.
func TestOutgoingRepair(t *testing.T) {
	o := NewOutgoing(10)
	for range 5 {
		n := o.Next()
		o.Sent(at(0), n, []byte{byte(n)}, nil)
	}
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
	} {
		if got := bytes.Join(o.Repair(tt.ask), nil); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// "Repair cache 8 MB per room", drop oldest.
func TestOutgoingForgets(t *testing.T) {
	o := NewOutgoing(0)
	const size = 1 << 10
	for range maxCache/size + 10 {
		o.Sent(at(0), o.Next(), make([]byte, size), nil)
	}
	if o.size > maxCache || len(o.packets) != maxCache/size {
		t.Errorf("%d packets of %d bytes are kept", len(o.packets), o.size)
	}
	check(t, "the oldest gone", len(o.Repair(ranges(1, 10))), 0)
	check(t, "the oldest kept", len(o.Repair(ranges(11, 11))), 1)
	check(t, "the newest kept", len(o.Repair(ranges(o.Last(), o.Last()))), 1)
}

// An acknowledgement says which numbers are news.
func TestOutgoingAcks(t *testing.T) {
	o := NewOutgoing(0)
	for range 5 {
		o.Sent(at(0), o.Next(), nil, []wire.DeviceID{ann, bob})
	}
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
		if got := o.HandleAck(tt.from, tt.n); got != tt.want {
			t.Errorf("%v acknowledges %d: got %v, want %v", tt.from, tt.n, got, tt.want)
		}
	}
	check(t, "ann's", o.Acked(ann), 5)
	check(t, "bob's", o.Acked(bob), 4)
}

// Heartbeats follow the last message, thin out and end; acknowledgements by
// everybody end them before.
func TestOutgoingHeartbeats(t *testing.T) {
	beats := func(o *Outgoing) (ms []int64) {
		for !o.Deadline().IsZero() {
			now := o.Deadline()
			if o.Advance(now.Add(-1)) {
				t.Errorf("a heartbeat before its time")
			}
			if !o.Advance(now) {
				t.Fatalf("no heartbeat at %v", now)
			}
			ms = append(ms, now.Sub(start).Milliseconds())
		}
		return ms
	}
	o := NewOutgoing(0)
	check(t, "deadline at first", o.Deadline(), time.Time{})
	o.Sent(at(0), o.Next(), nil, []wire.DeviceID{ann, bob})
	checkList(t, "heartbeats", beats(o), []int64{250, 750, 1750, 2750})
	check(t, "another", o.Advance(at(1e6)), false)

	o.Sent(at(0), o.Next(), nil, []wire.DeviceID{ann, bob})
	o.HandleAck(ann, 2)
	check(t, "with one to go", o.Deadline(), at(250))
	o.HandleAck(bob, 1)
	check(t, "with one to go", o.Deadline(), at(250))
	o.HandleAck(bob, 2)
	check(t, "with all acknowledged", o.Deadline(), time.Time{})

	o.Sent(at(0), o.Next(), nil, []wire.DeviceID{ann})
	o.Advance(at(250))
	o.Sent(at(600), o.Next(), nil, []wire.DeviceID{ann})
	check(t, "after another message", o.Deadline(), at(850))
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
