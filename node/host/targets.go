package host

import (
	"net/netip"
	"time"
)

// Bounds of what is dialled for devices that nobody vouches for. Whoever is on
// the LAN can say in signed packets that any number of devices are at any
// address, so what is sent there must not be worth saying it: a dial is many
// times as long as such a packet, and every node makes one.
const (
	maxStrangers     = 32              // dials at a time
	maxStrangerAddrs = 4               // addresses of one that are tried
	dialsPerTarget   = 4               // at a time to one address, on whatever ports; one after a failure
	restFirst        = time.Second     // for an address where a dial failed
	restMost         = 2 * time.Minute // … and failed again
	maxTargets       = 1024            // addresses of which that is known
)

// targets knows where strangers were dialled, and with what success. The loop
// owns it.
type targets map[netip.Addr]*target

type target struct {
	dials    int // going on
	failures int // since somebody answered
	rest     time.Time
}

// choose returns those of the addresses that may be dialled now, at most
// maxStrangerAddrs, and counts them as being dialled until done.
func (t targets) choose(now time.Time, addrs []netip.AddrPort) (chosen []netip.AddrPort) {
	for _, a := range addrs {
		if len(chosen) == maxStrangerAddrs {
			break
		}
		ip := a.Addr()
		g := t[ip]
		if g == nil {
			if len(t) >= maxTargets && !t.sweep(now) {
				continue
			}
			g = new(target)
			t[ip] = g
		}
		most := dialsPerTarget
		if g.failures > 0 {
			most = 1
		}
		if g.dials < most && !now.Before(g.rest) {
			g.dials++
			chosen = append(chosen, a)
		}
	}
	return chosen
}

// done ends a dial to addresses of which the one answered, if it is valid.
func (t targets) done(now time.Time, chosen []netip.AddrPort, answered netip.Addr) {
	for _, a := range chosen {
		g := t[a.Addr()]
		g.dials--
		switch {
		case a.Addr() == answered:
			g.failures, g.rest = 0, time.Time{}
		case !answered.IsValid():
			g.rest = now.Add(min(restFirst<<min(g.failures, 10), restMost))
			g.failures++
		}
	}
}

// sweep forgets what is over and reports whether there is room now.
func (t targets) sweep(now time.Time) bool {
	for ip, g := range t {
		if g.dials == 0 && now.After(g.rest.Add(restMost)) {
			delete(t, ip)
		}
	}
	return len(t) < maxTargets
}

// isKnown reports whether a device is none of those that anybody can make up: a
// token of it was checked, or it was linked once.
func (h *Host) isKnown(c *contact) bool {
	_, met := h.remembered[c.device]
	return met || c.vouched
}
