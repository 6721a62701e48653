package delivery

import (
	"slices"
	"time"

	"lanchat/wire"
)

const (
	// maxCache bounds the sealed packets a sender keeps for repair, in bytes
	// per room.
	maxCache = 8 << 20
	// The first heartbeat follows the last message when every member had the
	// time to acknowledge it; then they thin out. The room's beacon goes on
	// carrying the number after the last one.
	heartbeatMin = 250 * time.Millisecond
	heartbeatMax = time.Second
	heartbeats   = 4
)

// Outgoing is the sending side of a device's reliable messages in one room:
// it keeps what was sent for repair, knows how far each member's device has
// acknowledged, and says when to remind them of the last number.
//
// It does no I/O, starts no goroutine and never reads the clock.
type Outgoing struct {
	last    uint64
	packets map[uint64][]byte
	oldest  uint64 // lowest number in packets
	size    int

	acked  map[wire.DeviceID]uint64
	beat   time.Time
	pause  time.Duration
	beats  int
	expect []wire.DeviceID // who has to acknowledge before heartbeats stop
}

// NewOutgoing returns the sending side of a room in which last was the last
// number used.
func NewOutgoing(last uint64) *Outgoing {
	return &Outgoing{last: last, oldest: last + 1, packets: map[uint64][]byte{}, acked: map[wire.DeviceID]uint64{}}
}

// Last returns the last number used.
func (o *Outgoing) Last() uint64 { return o.last }

// Next returns the number of the next message and counts it as used.
func (o *Outgoing) Next() uint64 {
	o.last++
	return o.last
}

// Sent keeps the sealed packet of message n, which Next returned, and expects
// an acknowledgement from the devices that are online now.
func (o *Outgoing) Sent(now time.Time, n uint64, packet []byte, online []wire.DeviceID) {
	o.packets[n] = packet
	o.size += len(packet)
	for o.size > maxCache {
		o.size -= len(o.packets[o.oldest])
		delete(o.packets, o.oldest)
		o.oldest++
	}
	o.expect = online
	o.beats, o.pause = 0, heartbeatMin
	o.beat = now.Add(o.pause)
}

// Repair returns the packets of the ranges that are still kept.
func (o *Outgoing) Repair(ranges []wire.Range) (packets [][]byte) {
	for _, r := range ranges {
		for n := max(r.First, o.oldest); n <= min(r.Last, o.last); n++ {
			if p, ok := o.packets[n]; ok {
				packets = append(packets, p)
			}
		}
	}
	return packets
}

// Forgotten returns the parts of the ranges that were sent and are not kept
// any more, above number since.
func (o *Outgoing) Forgotten(ranges []wire.Range, since uint64) (forgotten []wire.Range) {
	for _, r := range ranges {
		r.First, r.Last = max(r.First, since+1), min(r.Last, o.oldest-1, o.last)
		if r.First <= r.Last {
			forgotten = append(forgotten, r)
		}
	}
	return forgotten
}

// HandleAck notes that a device has everything up to n and returns the range
// of numbers that is news; an empty one has First > Last.
func (o *Outgoing) HandleAck(from wire.DeviceID, n uint64) wire.Range {
	before := o.acked[from]
	n = min(n, o.last) // nobody has what was not sent
	if n <= before {
		return wire.Range{First: 1, Last: 0}
	}
	o.acked[from] = n
	if !slices.ContainsFunc(o.expect, func(d wire.DeviceID) bool { return o.acked[d] < o.last }) {
		o.beat = time.Time{}
	}
	return wire.Range{First: before + 1, Last: n}
}

// Acked returns how far a device has acknowledged.
func (o *Outgoing) Acked(device wire.DeviceID) uint64 { return o.acked[device] }

// Deadline returns when Advance next has work; zero: never.
func (o *Outgoing) Deadline() time.Time { return o.beat }

// Advance tells the time and reports whether a heartbeat is due.
func (o *Outgoing) Advance(now time.Time) (heartbeat bool) {
	if o.beat.IsZero() || now.Before(o.beat) {
		return false
	}
	o.beats++
	o.pause = min(2*o.pause, heartbeatMax)
	o.beat = now.Add(o.pause)
	if o.beats >= heartbeats {
		o.beat = time.Time{}
	}
	return true
}
