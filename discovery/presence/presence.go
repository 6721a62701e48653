// Package presence knows who is here: it says by multicast that this device
// is there, listens to who else says so, and tells when somebody comes,
// restarts, leaves or falls silent.
//
// It is a core: it does no I/O, starts no goroutine and never reads the clock.
// It is not a transport and decides nothing about trust: that a packet's
// signature fits its own key says only that the same device sent it as the
// last time. Whether that device has a token of the realm is found out over
// QUIC by who uses this package, and told by [Tracker.Linked] and
// [Tracker.Vouch].
//
// Start reading at [Tracker].
package presence

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"lanchat/wire"
)

// A Link is one network interface of this machine that is used as a LAN.
type Link struct {
	Index    int
	Name     string
	Prefixes []netip.Prefix // own addresses, each with its network's length; no zones
	Loopback bool
}

// StoodStill reports whether this machine slept, or this process was stopped,
// between two looks at the clock that are meant to be every so often. The
// monotonic clock may stand still meanwhile; the other goes on.
func StoodStill(last, now time.Time, every time.Duration) bool {
	return now.Round(0).Sub(last.Round(0)) > every+3*time.Second
}

// A Skipped interface is one that is not used as a LAN, and why.
type Skipped struct {
	Name   string
	Reason string // for people
}

// OnLink reports whether a is an address that somebody on the link itself can
// have: one in a network of the link's, or a link-local IPv6 address if the
// link has one, too. An address with the zone of another link is not.
func (l Link) OnLink(a netip.Addr) bool {
	a = a.Unmap()
	if z := a.Zone(); z != "" && z != l.Name {
		return false
	}
	a = a.WithZone("")
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() != l.Loopback {
		return false
	}
	for _, p := range l.Prefixes {
		if p.Contains(a) {
			return true
		}
		if a.Is6() && a.IsLinkLocalUnicast() && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}

// HasIPv4 reports whether the link has an IPv4 address, by which it is sent to
// then.
func (l Link) HasIPv4() bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() })
}

// HasIPv6 reports whether the link has an IPv6 address.
func (l Link) HasIPv6() bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// Equal reports whether nothing about the link differs.
func (l Link) Equal(m Link) bool {
	return l.Index == m.Index && l.Name == m.Name && l.Loopback == m.Loopback && slices.Equal(l.Prefixes, m.Prefixes)
}

// Zoned returns a with the zone that link-local addresses need to be dialled.
func (l Link) Zoned(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() && a.IsLinkLocalUnicast() {
		return a.WithZone(l.Name)
	}
	return a
}

// addrs returns own addresses for a packet on the link: IPv4, then link-local
// IPv6, then the rest, at most wire.MaxPresenceAddrs.
func (l Link) addrs() []netip.Addr {
	var out []netip.Addr
	rank := func(a netip.Addr) int {
		switch {
		case a.Is4():
			return 0
		case a.IsLinkLocalUnicast():
			return 1
		}
		return 2
	}
	for _, p := range l.Prefixes {
		a := p.Addr().Unmap().WithZone("")
		if !a.IsUnspecified() && !a.IsMulticast() {
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return rank(a) - rank(b) })
	return out[:min(len(out), wire.MaxPresenceAddrs)]
}

// A Via is a set of ways in which a device is heard of.
type Via uint8

const (
	Multicast Via = 1 << iota // presence or room packets
	MDNS                      // a hint
	Authd                     // a hint of authd's or a peer's roster
	QUIC                      // a connection
	Memory                    // a hint of one's own, of an earlier run; it has no name
)

// Strings returns the names of the ways, in a fixed order; never nil.
func (v Via) Strings() []string {
	names := []string{}
	for i, name := range []string{"multicast", "mdns", "authd", "quic"} {
		if v&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

func (v Via) String() string { return strings.Join(v.Strings(), "+") }

// A State is what is known about a device's being here.
//
//	          hint                 packet, QUIC
//	(unknown) ────► Hinted ──────────────────► Alive ──goodbye──► Left
//	    ▲              │                       │ ▲ ▲                │
//	    └──────────────┘                silence│ │ └────────────────┘
//	       hint ran out                        ▼ │      packet, new link
//	                                         Lost ──packet, QUIC
type State uint8

const (
	StateHinted State = iota + 1 // somebody said so, unproven
	StateAlive                   // heard by signed packet or over QUIC
	StateLeft                    // said goodbye
	StateLost                    // went silent
)

func (s State) String() string {
	switch s {
	case StateHinted:
		return "hinted"
	case StateAlive:
		return "alive"
	case StateLeft:
		return "left"
	case StateLost:
		return "lost"
	}
	return "unknown"
}

// A Peer is what is known of one device other than this one.
type Peer struct {
	Device  wire.DeviceID
	Key     wire.DeviceKey // zero until a signed packet was heard
	Role    wire.Role      // zero while unknown
	State   State
	Vouched bool             // a token of it was checked; see Tracker
	Boot    uint64           // of the last signed packet, zero if there was none
	Token   wire.TokenHash   // as the device claims; zero: unknown or none
	Addrs   []netip.AddrPort // candidates to be dialled, the best first, at most MaxCandidates
	Via     Via              // ways it is heard of at present
}

// A Kind says what an Event is about.
type Kind uint8

const (
	// Seen: the device is here, newly or again, or has new candidate
	// addresses or a new token; or there is a hint of one that is not Alive
	// (State tells), worth a dial.
	Seen Kind = iota + 1
	// Restarted: the device's boot number rose, and it is Alive. What the
	// earlier start left behind (connections) is dead.
	Restarted
	// Left: the device said goodbye.
	Left
	// Lost: the device went silent.
	Lost
	// Ping: the device is linked by QUIC and not heard by multicast; say
	// something to it that it must answer, and call Heard for the answer.
	Ping
	// Expired: a hint that nothing confirmed ran out.
	Expired
	// Cloned: another machine uses this device's key. Addrs tells where.
	Cloned
)

func (k Kind) String() string {
	switch k {
	case Seen:
		return "seen"
	case Restarted:
		return "restarted"
	case Left:
		return "left"
	case Lost:
		return "lost"
	case Ping:
		return "ping"
	case Expired:
		return "expired"
	case Cloned:
		return "cloned"
	}
	return "unknown"
}

// An Event is something that the node or authd is told. The receiver owns it.
type Event struct {
	Kind Kind
	Peer
}

// A Packet is something to be multicast on one link.
type Packet struct {
	Link int // Link.Index
	Data []byte
}

// An Output is work for the shell: a Packet to be sent or an Event to be told.
type Output interface{ output() }

func (Packet) output() {}
func (Event) output()  {}

// A Hint is an unproven word that a device can be found at some addresses.
type Hint struct {
	Device wire.DeviceID
	Role   wire.Role // zero: unknown
	Addrs  []netip.AddrPort
	Via    Via // MDNS, Authd or Memory
}
