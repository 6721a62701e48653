package discovery

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"lanchat/discovery/presence"
	"lanchat/wire"
)

// GroupPort is the UDP port of every realm's group.
const GroupPort = 4748

const (
	maxDatagram   = 1500    // bytes; nothing of ours is longer, the rest is dropped
	presenceQueue = 1024    // presence packets waiting for the loop
	groupBuffer   = 8 << 20 // bytes of receive buffer asked of the kernel
)

// GroupAddrs returns the multicast addresses of a realm: with h = SHA-256 of
// "lanchat group v1" and the realm id,
//
//	IPv4  239.192.0.0/14 with its 18 free bits from the first 3 bytes of h
//	IPv6  ff12::/16 with its 112 free bits from bytes 3 to 16 of h, where the
//	      highest of the last 32 bits is set (a dynamic group, RFC 3307)
func GroupAddrs(realm wire.RealmID) (v4, v6 netip.Addr) {
	h := sha256.Sum256(append([]byte("lanchat group v1"), realm[:]...))
	a6 := [16]byte{0xff, 0x12}
	copy(a6[2:], h[3:17])
	a6[12] |= 0x80
	return netip.AddrFrom4([4]byte{239, 192 | h[0]&3, h[1], h[2]}), netip.AddrFrom16(a6)
}

// A Net is the network that a Service lives on: the system's, or one in memory.
type Net interface {
	// Interfaces returns all network interfaces.
	Interfaces() ([]Interface, error)

	// ListenGroup opens a socket that receives what is sent to the group on
	// this link, one's own datagrams included, and nothing else, and that
	// sends to the group by this link only.
	ListenGroup(link presence.Link, group netip.AddrPort) (GroupConn, error)
}

// A GroupConn is a socket in one group on one link.
type GroupConn interface {
	// ReadFrom reads one datagram; one longer than b is cut off to len(b).
	// One goroutine reads.
	ReadFrom(b []byte) (n int, from netip.AddrPort, err error)
	// Send sends b to the group, from any goroutine.
	Send(b []byte) error
	// Rejoin leaves the group and joins it again, at once, so that the network
	// hears again that this machine is in it.
	Rejoin() error
	// Overrun returns how many datagrams the socket had no room for.
	Overrun() uint64
	// Close makes ReadFrom return net.ErrClosed.
	Close() error
}

// System is the machine's network.
type System struct{}

// A group is the realm's group on all links: its sockets and who reads them.
type group struct {
	net    Net
	v4, v6 netip.AddrPort
	packet func(b []byte, from netip.AddrPort, link int) // may be nil
	log    *slog.Logger

	inbound chan inbound                 // presence packets
	links   atomic.Pointer[[]*groupLink] // replaced by the loop only
	readers sync.WaitGroup

	received, tooLong, dropped, sendErrors, sent atomic.Uint64
	overrun                                      atomic.Uint64 // of sockets that are closed
}

// An inbound is a presence packet on its way to the loop.
type inbound struct {
	data []byte
	from netip.AddrPort
	link int
}

// A groupLink is the group on one link.
type groupLink struct {
	presence.Link
	v4, v6 socket
	both   atomic.Bool // send by IPv6 too, where there is IPv4
	broken atomic.Bool // a socket died; to be remade
	failed string      // what was logged about it, so that it is logged once
}

// A socket is a GroupConn, or none: where the link lacks the family, or it
// could not be opened yet. The loop fills it while others send.
type socket struct{ p atomic.Pointer[GroupConn] }

func (s *socket) conn() GroupConn {
	if c := s.p.Load(); c != nil {
		return *c
	}
	return nil
}

func newGroup(n Net, realm wire.RealmID, packet func([]byte, netip.AddrPort, int), log *slog.Logger) *group {
	v4, v6 := GroupAddrs(realm)
	g := &group{net: n, v4: netip.AddrPortFrom(v4, GroupPort), v6: netip.AddrPortFrom(v6, GroupPort), packet: packet, log: log,
		inbound: make(chan inbound, presenceQueue)}
	g.links.Store(new([]*groupLink))
	return g
}

// setLinks makes the sockets those of the links: what did not change is kept,
// unless all is true. It reports whether sockets were made or closed.
func (g *group) setLinks(links []presence.Link, all bool) (changed bool) {
	old := *g.links.Load()
	var next []*groupLink
	kept := make(map[*groupLink]bool)
	for _, l := range links {
		var gl *groupLink
		for _, o := range old {
			if o.Link.Equal(l) && !o.broken.Load() && !all {
				gl = o
				kept[o] = true
			}
		}
		if gl == nil {
			gl = &groupLink{Link: l}
		}
		next = append(next, gl)
	}
	// Close before opening: a socket of the old address on the same link
	// would send with it.
	for _, o := range old {
		if !kept[o] {
			g.close(o)
			changed = true
		}
	}
	for _, gl := range next {
		if gl.missing() && g.open(gl) {
			changed = true
		}
	}
	g.links.Store(&next)
	return changed
}

// missing reports whether the link has an address of a family and no socket.
func (gl *groupLink) missing() bool {
	return gl.HasIPv4() && gl.v4.conn() == nil || gl.HasIPv6() && gl.v6.conn() == nil
}

// open opens what is missing and reports whether anything was opened. What
// fails is tried again at the next look at the interfaces.
func (g *group) open(gl *groupLink) (opened bool) {
	for _, f := range []struct {
		sock  *socket
		has   bool
		group netip.AddrPort
	}{{&gl.v4, gl.HasIPv4(), g.v4}, {&gl.v6, gl.HasIPv6(), g.v6}} {
		if !f.has || f.sock.conn() != nil {
			continue
		}
		c, err := g.net.ListenGroup(gl.Link, f.group)
		if err != nil {
			if gl.failed != err.Error() {
				gl.failed = err.Error()
				g.log.Warn("joining the group", "interface", gl.Name, "err", err)
			}
			continue
		}
		f.sock.p.Store(&c)
		opened = true
		g.readers.Go(func() { g.read(gl, c) })
	}
	return opened
}

func (g *group) close(gl *groupLink) {
	for _, c := range []GroupConn{gl.v4.conn(), gl.v6.conn()} {
		if c != nil {
			g.overrun.Add(c.Overrun())
			c.Close()
		}
	}
}

// rejoin says on every link again that this machine is in the group. A switch
// that snoops on IGMP forgets it after some minutes, unless somebody asks now and
// then who is in which group; on many a LAN nobody does.
func (g *group) rejoin() {
	for _, gl := range *g.links.Load() {
		for _, c := range []GroupConn{gl.v4.conn(), gl.v6.conn()} {
			if c == nil {
				continue
			}
			if err := c.Rejoin(); err != nil {
				gl.broken.Store(true) // made anew at the next look
				g.log.Warn("joining the group again", "interface", gl.Name, "err", err)
			}
		}
	}
}

// closeAll closes every socket and waits for the readers.
func (g *group) closeAll() {
	for _, gl := range *g.links.Swap(new([]*groupLink)) {
		g.close(gl)
	}
	g.readers.Wait()
}

// read hands on what comes by a socket until it is closed. It waits for
// nobody: a presence packet that the loop has no room for is dropped and
// counted, and the receiver of other packets promises to return at once. The
// socket's own buffer is the queue in front of both.
func (g *group) read(gl *groupLink, c GroupConn) {
	buf := make([]byte, maxDatagram+1)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				gl.broken.Store(true)
				g.log.Warn("reading from the group", "interface", gl.Name, "err", err)
			}
			return
		}
		g.received.Add(1)
		if n == 0 {
			continue
		}
		if n > maxDatagram {
			g.tooLong.Add(1)
			continue
		}
		addr := from.Addr().Unmap().WithZone("")
		if addr.Is6() && addr.IsLinkLocalUnicast() {
			addr = addr.WithZone(gl.Name)
		}
		from = netip.AddrPortFrom(addr, from.Port())
		data := append(make([]byte, 0, n), buf[:n]...)
		switch {
		case data[0] == wire.TypePresence:
			select {
			case g.inbound <- inbound{data, from, gl.Index}:
			default:
				g.dropped.Add(1)
			}
		case g.packet != nil:
			g.packet(data, from, gl.Index)
		}
	}
}

// multicast sends b once on every link, or on one if index is not 0. A failure
// is a loss: who needs the packet asks for it again.
func (g *group) multicast(b []byte, index int) {
	for _, gl := range *g.links.Load() {
		if index != 0 && gl.Index != index {
			continue
		}
		v4, v6 := gl.v4.conn(), gl.v6.conn()
		if v4 != nil {
			g.send(v4, b)
		}
		if v6 != nil && (v4 == nil || gl.both.Load()) {
			g.send(v6, b)
		}
	}
}

func (g *group) send(c GroupConn, b []byte) {
	if err := c.Send(b); err != nil {
		g.sendErrors.Add(1)
		return
	}
	g.sent.Add(1)
}

// joinGroup joins the group on the link and makes the socket send by it, one
// hop far, to this machine as well.
func joinGroup(c *net.UDPConn, link presence.Link, group netip.Addr) error {
	ifi := netInterface(link)
	addr := &net.UDPAddr{IP: group.AsSlice()}
	if group.Is4() {
		p := ipv4.NewPacketConn(c)
		return first(
			func() error { return p.JoinGroup(ifi, addr) },
			func() error { return p.SetMulticastInterface(ifi) },
			func() error { return p.SetMulticastTTL(1) },
			func() error { return p.SetMulticastLoopback(true) })
	}
	p := ipv6.NewPacketConn(c)
	return first(
		func() error { return p.JoinGroup(ifi, addr) },
		func() error { return p.SetMulticastInterface(ifi) },
		func() error { return p.SetMulticastHopLimit(1) },
		func() error { return p.SetMulticastLoopback(true) })
}

// rejoinGroup leaves the group on the link and joins it again.
func rejoinGroup(c *net.UDPConn, link presence.Link, group netip.Addr) error {
	leave := ipv6.NewPacketConn(c).LeaveGroup
	if group.Is4() {
		leave = ipv4.NewPacketConn(c).LeaveGroup
	}
	return first(
		func() error { return leave(netInterface(link), &net.UDPAddr{IP: group.AsSlice()}) },
		func() error { return joinGroup(c, link, group) })
}

// first returns the first error of steps done one after the other.
func first(steps ...func() error) error {
	for _, f := range steps {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}
