package room

import (
	"net/netip"
	"time"
)

// A Budget says which signatures are worth checking. Who holds a room's key can
// send packets whose signatures are wrong as fast as the network allows, in the
// name of any slot and from any address; checking them all would leave no time
// for the good ones.
//
// A check that succeeds costs nothing in the end: only failures use the budget
// up. While it is more than half full everything is checked. Below, it is shared
// fairly over the pairs of address and slot that failures come from: a pair that
// has used its share is dropped unchecked until the next second. What is dropped
// of honest people comes back by repair over QUIC, which nobody can forge.
//
// One goroutine at a time may use it.
type Budget struct {
	rate   float64 // checks a second
	left   float64
	at     time.Time
	second time.Time // when failures was begun
	failed map[source]float64
}

// A source is who a packet claims to come from.
type source struct {
	from netip.AddrPort
	slot uint16
}

// maxSources bounds the sources that are told apart in one second; beyond, all
// new ones share.
const maxSources = 4096

// NewBudget returns a budget of so many checks a second.
func NewBudget(perSecond float64) *Budget {
	return &Budget{rate: perSecond, left: perSecond, failed: map[source]float64{}}
}

// Allow takes a check out of the budget for a packet that came from an address
// in the name of a slot, or refuses it.
func (b *Budget) Allow(now time.Time, from netip.AddrPort, slot uint16) bool {
	if !b.at.IsZero() {
		b.left = min(b.left+b.rate*max(now.Sub(b.at), 0).Seconds(), b.rate)
	}
	b.at = now
	if now.Sub(b.second) >= time.Second {
		b.second = now
		clear(b.failed)
	}
	if b.left < b.rate/2 {
		share := b.rate / float64(len(b.failed)+1)
		if b.left < 1 || b.failed[b.source(from, slot)] >= share {
			return false
		}
	}
	b.left--
	return true
}

// Done says how a check that was allowed ended.
func (b *Budget) Done(from netip.AddrPort, slot uint16, good bool) {
	if good {
		b.left = min(b.left+1, b.rate)
		return
	}
	b.failed[b.source(from, slot)]++
}

func (b *Budget) source(from netip.AddrPort, slot uint16) source {
	s := source{from, slot}
	if _, known := b.failed[s]; !known && len(b.failed) >= maxSources {
		return source{}
	}
	return s
}
