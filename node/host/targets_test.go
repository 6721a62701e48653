package host

import (
	"net/netip"
	"testing"
	"time"
)

// Whoever says that a thousand devices are at a victim's address has few packets
// sent there, and ever fewer.
func TestTargets(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	addrs := func(ip string, ports ...uint16) (out []netip.AddrPort) {
		for _, p := range ports {
			out = append(out, netip.AddrPortFrom(netip.MustParseAddr(ip), p))
		}
		return out
	}
	victim := addrs("10.77.0.9", 1, 2, 3, 4, 5, 6, 7, 8)
	ts := targets{}
	first := ts.choose(now, victim)
	if len(first) != dialsPerTarget {
		t.Errorf("%d dials at once, want %d", len(first), dialsPerTarget)
	}
	if more := ts.choose(now, victim); more != nil {
		t.Errorf("%v while those go on", more)
	}
	other := ts.choose(now, addrs("10.77.0.8", 1))
	if len(other) != 1 {
		t.Error("another address waits for the victim")
	}
	ts.done(now, first, netip.Addr{})

	// A dial takes four seconds, and fails.
	dials := 0
	for at := now; at.Before(now.Add(time.Hour)); at = at.Add(100 * time.Millisecond) {
		if chosen := ts.choose(at, victim[:1]); len(chosen) > 0 {
			dials++
			ts.done(at.Add(4*time.Second), chosen, netip.Addr{})
		}
	}
	if dials < 25 || dials > 45 {
		t.Errorf("%d dials in an hour, want about one in two minutes", dials)
	}

	// Who answers is dialled as often as need be.
	for range 100 {
		chosen := ts.choose(now, addrs("10.77.0.8", 2))
		if len(chosen) != 1 {
			t.Fatal("an address that answers rests")
		}
		ts.done(now, chosen, netip.MustParseAddr("10.77.0.8"))
	}
	ts.done(now, other, netip.Addr{})

	// Any number of addresses: a bounded table, and room again later.
	ip := netip.MustParseAddr("fd00::1")
	for range 3 * maxTargets {
		ip = ip.Next()
		ts.done(now, ts.choose(now, []netip.AddrPort{netip.AddrPortFrom(ip, 1)}), netip.Addr{})
	}
	if len(ts) > maxTargets {
		t.Errorf("%d addresses are known", len(ts))
	}
	later := now.Add(2 * time.Hour)
	if chosen := ts.choose(later, addrs("10.77.0.7", 1)); len(chosen) != 1 {
		t.Error("no room an hour later")
	}
}
