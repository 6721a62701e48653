package room

import (
	"net/netip"
	"testing"
	"time"
)

// Who signs badly uses up the budget, who signs well does not, and does not
// lose by the other.
func TestBudget(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	bad, good := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2")
	b := NewBudget(1000)
	for range 100_000 {
		if !b.Allow(now, good, 1) {
			t.Fatal("a good packet is not checked when all are good")
		}
		b.Done(good, 1, true)
	}
	checked, kept := 0, 0
	for i := range 10_000 { // in one second, beside each other
		now = now.Add(100 * time.Microsecond)
		for range 10 {
			if b.Allow(now, bad, 1) {
				checked++
				b.Done(bad, 1, false)
			}
		}
		if i%10 == 0 {
			if b.Allow(now, good, 1) {
				kept++
				b.Done(good, 1, true)
			}
		}
	}
	if checked > 2500 {
		t.Errorf("%d of 100,000 bad signatures were checked, with a budget of 1,000", checked)
	}
	if kept != 1000 {
		t.Errorf("%d of 1,000 good packets were checked", kept)
	}
}

// Neither changing the address nor the slot gets more than the budget, and
// telling the sources apart costs a bounded amount of memory.
func TestBudgetManySources(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	b := NewBudget(1000)
	checked := 0
	for i := range 200_000 {
		now = now.Add(5 * time.Microsecond)
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		if b.Allow(now, from, uint16(i)) {
			checked++
			b.Done(from, uint16(i), false)
		}
	}
	if checked > 2100 {
		t.Errorf("%d bad signatures were checked in a second, with a budget of 1,000", checked)
	}
	if len(b.failed) > maxSources+1 {
		t.Errorf("%d sources are remembered", len(b.failed))
	}
	now = now.Add(2 * time.Second)
	if !b.Allow(now, netip.AddrPort{}, 0) {
		t.Error("the budget does not come back")
	}
}
