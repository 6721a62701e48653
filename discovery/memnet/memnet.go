// Package memnet is a network in memory, for tests: hosts with interfaces on
// LANs, multicast groups and UDP sockets, loss, delay and cuts. It needs no
// privileges and works in bubbles of testing/synctest, where its delays are
// virtual.
//
// A [Host] is a discovery.Net, so a Service runs on it; [Host.ListenPacket]
// gives the socket for QUIC on the same network:
//
//	lan := memnet.New()
//	ann := lan.Host("ann", "10.77.0.1/24")
//	bob := lan.Host("bob", "10.77.0.2/24")
//	s := discovery.New(discovery.Config{Net: ann, …})
//	lan.Cut(ann, bob)
//
// It is no model of a kernel: there is no fragmentation, no ARP, no routing
// from one LAN to another, and no mDNS.
package memnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"lanchat/discovery"
	"lanchat/discovery/presence"
)

// queueLen is how many datagrams wait in a socket; what comes beyond is lost.
const queueLen = 4096

// A Network is hosts and the LANs they meet on. Its methods and those of what
// is on it may be called from any goroutine.
type Network struct {
	mu    sync.Mutex
	rand  *rand.Rand
	loss  float64
	delay time.Duration
	hosts []*Host
	cut   map[[2]*Host]bool
	apart map[[2]*Host]bool // cut for unicast only

	sent     uint64 // datagrams sent to groups
	rejoined uint64
}

// New returns an empty network without loss or delay.
func New() *Network {
	return &Network{rand: rand.New(rand.NewPCG(1, 2)), cut: make(map[[2]*Host]bool), apart: make(map[[2]*Host]bool)}
}

// A Host is a machine on a Network.
type Host struct {
	net    *Network
	name   string
	ifaces []*iface
	conns  map[*conn]bool
	deaf   bool
	next   int           // index of the next interface
	frozen chan struct{} // closed when the host goes on; nil: it does
}

type iface struct {
	discovery.Interface
	lan string
}

// Host adds a machine with lo and, if there are prefixes (own addresses with
// the length of their network, as "10.77.0.1/24"), eth0 on the LAN "lan".
func (n *Network) Host(name string, prefixes ...string) *Host {
	h := &Host{net: n, name: name, conns: make(map[*conn]bool), next: 1}
	n.mu.Lock()
	n.hosts = append(n.hosts, h)
	n.mu.Unlock()
	h.Attach("lo", "lo of "+name, "127.0.0.1/8", "::1/128")
	if len(prefixes) > 0 {
		h.Attach("eth0", "lan", prefixes...)
	}
	return h
}

// SetLoss makes the network lose datagrams between hosts, each receiver for
// itself, in percent.
func (n *Network) SetLoss(percent float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = percent / 100
}

// SetDelay makes datagrams between hosts take a time.
func (n *Network) SetDelay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// Cut lets nothing pass between two hosts.
func (n *Network) Cut(a, b *Host) { n.setCut(a, b, true) }

// Mute lets nothing pass from the host a to b; what b sends arrives.
func (n *Network) Mute(a, b *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]*Host{a, b}] = true
}

// CutUnicast lets nothing but multicast pass between the two hosts, as an
// access point that keeps its clients apart.
func (n *Network) CutUnicast(a, b *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.apart[[2]*Host{a, b}], n.apart[[2]*Host{b, a}] = true, true
}

// Mend undoes Cut, Mute and CutUnicast.
func (n *Network) Mend(a, b *Host) { n.setCut(a, b, false) }

func (n *Network) setCut(a, b *Host, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]*Host{a, b}], n.cut[[2]*Host{b, a}] = cut, cut
	delete(n.apart, [2]*Host{a, b})
	delete(n.apart, [2]*Host{b, a})
}

// Multicasts returns how many datagrams were sent to groups so far.
func (n *Network) Multicasts() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent
}

// Rejoined returns how many times sockets joined their groups again so far.
func (n *Network) Rejoined() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rejoined
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// Deafen makes the host hear no multicast of others, or hear it again.
func (h *Host) Deafen(deaf bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.deaf = deaf
}

// frozenQueue is how many datagrams a socket keeps for a host that stands still,
// as what a kernel keeps by default.
const frozenQueue = 96

// Freeze has the host stand still, as a process that was stopped: what calls into
// the network waits until Thaw, and so does whoever calls Wait.
func (h *Host) Freeze() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.frozen == nil {
		h.frozen = make(chan struct{})
	}
}

// Thaw undoes Freeze.
func (h *Host) Thaw() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.frozen != nil {
		close(h.frozen)
		h.frozen = nil
	}
}

// Wait returns when the host does not stand still.
func (h *Host) Wait() {
	h.net.mu.Lock()
	frozen := h.frozen
	h.net.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

// Attach gives the host an interface on a LAN; LANs come by being named. One
// of that name is replaced, as a new interface.
func (h *Host) Attach(name, lan string, prefixes ...string) {
	h.Detach(name)
	flags := net.FlagUp | net.FlagRunning | net.FlagMulticast | net.FlagBroadcast
	if name == "lo" {
		flags = net.FlagUp | net.FlagRunning | net.FlagLoopback
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.ifaces = append(h.ifaces, &iface{discovery.Interface{Index: h.next, Name: name, Flags: flags, Prefixes: parse(prefixes)}, lan})
	h.next++
}

// Detach takes an interface away. Sockets in groups there hear nothing more.
func (h *Host) Detach(name string) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.ifaces = slices.DeleteFunc(h.ifaces, func(i *iface) bool { return i.Name == name })
}

// SetAddrs changes the addresses of an interface.
func (h *Host) SetAddrs(name string, prefixes ...string) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for _, i := range h.ifaces {
		if i.Name == name {
			i.Prefixes = parse(prefixes)
		}
	}
}

// SetUp takes an interface up or down.
func (h *Host) SetUp(name string, up bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for _, i := range h.ifaces {
		if i.Name != name {
			continue
		}
		i.Flags &^= net.FlagUp | net.FlagRunning
		if up {
			i.Flags |= net.FlagUp | net.FlagRunning
		}
	}
}

func parse(prefixes []string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// Interfaces is part of discovery.Net.
func (h *Host) Interfaces() ([]discovery.Interface, error) {
	h.Wait()
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	var out []discovery.Interface
	for _, i := range h.ifaces {
		c := i.Interface
		c.Prefixes = slices.Clone(c.Prefixes)
		out = append(out, c)
	}
	return out, nil
}

// ListenGroup is part of discovery.Net.
func (h *Host) ListenGroup(link presence.Link, group netip.AddrPort) (discovery.GroupConn, error) {
	h.Wait()
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.iface(link.Index) == nil {
		return nil, fmt.Errorf("joining %v on %s: no such interface", group, link.Name)
	}
	c := h.open(group)
	c.index = link.Index
	return groupConn{c}, nil
}

// ListenPacket opens a UDP socket on every address of the host; port 0 chooses
// one. It is closed by the caller.
func (h *Host) ListenPacket(port uint16) (net.PacketConn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	taken := func(p uint16) bool {
		for c := range h.conns {
			if c.index == 0 && c.local.Port() == p {
				return true
			}
		}
		return false
	}
	if port == 0 {
		for port = 40000; taken(port); port++ {
		}
	}
	if taken(port) {
		return nil, &net.OpError{Op: "listen", Net: "udp", Err: errors.New("address already in use")}
	}
	return packetConn{h.open(netip.AddrPortFrom(netip.IPv6Unspecified(), port))}, nil
}

func (h *Host) open(local netip.AddrPort) *conn {
	c := &conn{host: h, local: local, queue: make(chan datagram, queueLen), closed: make(chan struct{})}
	c.expired = make(chan struct{})
	h.conns[c] = true
	return c
}

func (h *Host) iface(index int) *iface {
	for _, i := range h.ifaces {
		if i.Index == index {
			return i
		}
	}
	return nil
}

func (i *iface) up() bool { return i.Flags&net.FlagUp != 0 }

func (i *iface) link() presence.Link {
	return presence.Link{Index: i.Index, Name: i.Name, Prefixes: i.Prefixes, Loopback: i.Flags&net.FlagLoopback != 0}
}

// source returns the address by which the interface sends to a.
func (i *iface) source(a netip.Addr) (netip.Addr, bool) {
	best, ok := netip.Addr{}, false
	for _, p := range i.Prefixes {
		if p.Addr().Is4() != a.Is4() {
			continue
		}
		if !ok || p.Contains(a.WithZone("")) {
			best, ok = p.Addr(), true
		}
	}
	return best, ok
}

type datagram struct {
	b    []byte
	from netip.AddrPort
}

// multicast sends b to a group by an interface. The network is locked.
func (n *Network) multicast(h *Host, index int, group netip.AddrPort, b []byte) error {
	i := h.iface(index)
	if i == nil || !i.up() {
		return &net.OpError{Op: "write", Net: "udp", Err: errors.New("network is unreachable")}
	}
	src, ok := i.source(group.Addr())
	if !ok {
		return &net.OpError{Op: "write", Net: "udp", Err: errors.New("cannot assign requested address")}
	}
	n.sent++
	for _, to := range n.hosts {
		for _, ti := range to.ifaces {
			if ti.lan != i.lan || !ti.up() || to != h && (to.deaf || n.lost(h, to)) {
				continue
			}
			for c := range to.conns {
				if c.index == ti.Index && c.local == group {
					n.deliver(c, b, netip.AddrPortFrom(zoned(src, ti.Name), group.Port()), to != h)
				}
			}
		}
	}
	return nil
}

// unicast sends b from a socket to an address. The network is locked.
func (n *Network) unicast(c *conn, to netip.AddrPort, b []byte) error {
	dst := netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	for _, i := range c.host.ifaces {
		if !i.up() || !i.link().OnLink(dst.Addr()) {
			continue
		}
		src, _ := i.source(dst.Addr())
		for _, h := range n.hosts {
			for _, ti := range h.ifaces {
				own := slices.ContainsFunc(ti.Prefixes, func(p netip.Prefix) bool { return p.Addr() == dst.Addr().WithZone("") })
				if ti.lan != i.lan || !ti.up() || !own || h != c.host && (n.lost(c.host, h) || n.apart[[2]*Host{c.host, h}]) {
					continue
				}
				for tc := range h.conns {
					if tc.index == 0 && tc.local.Port() == dst.Port() {
						n.deliver(tc, b, netip.AddrPortFrom(zoned(src, ti.Name), c.local.Port()), h != c.host)
					}
				}
			}
		}
		return nil
	}
	return &net.OpError{Op: "write", Net: "udp", Err: errors.New("network is unreachable")}
}

func (n *Network) lost(from, to *Host) bool {
	return n.cut[[2]*Host{from, to}] || n.loss > 0 && n.rand.Float64() < n.loss
}

func (n *Network) deliver(c *conn, b []byte, from netip.AddrPort, far bool) {
	if c.host.frozen != nil && len(c.queue) >= frozenQueue {
		return
	}
	d := datagram{slices.Clone(b), from}
	if far && n.delay > 0 {
		time.AfterFunc(n.delay, func() { c.put(d) })
		return
	}
	c.put(d)
}

func zoned(a netip.Addr, zone string) netip.Addr {
	if a.Is6() && a.IsLinkLocalUnicast() {
		return a.WithZone(zone)
	}
	return a
}

// A conn is a socket: in a group on the interface index, or, where that is 0,
// on all addresses of the host.
type conn struct {
	host   *Host
	local  netip.AddrPort
	index  int
	queue  chan datagram
	closed chan struct{}

	mu      sync.Mutex
	done    bool
	overrun uint64
	timer   *time.Timer   // of the read deadline
	expired chan struct{} // closed when it is over
}

func (c *conn) put(d datagram) {
	select {
	case c.queue <- d:
	default:
		c.mu.Lock()
		c.overrun++
		c.mu.Unlock()
	}
}

func (c *conn) read(b []byte) (int, netip.AddrPort, error) {
	c.mu.Lock()
	expired := c.expired
	c.mu.Unlock()
	select {
	case <-c.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	case <-expired:
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	default:
	}
	select {
	case d := <-c.queue:
		c.host.Wait()
		return copy(b, d.b), d.from, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	case <-expired:
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	}
}

func (c *conn) setReadDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	select {
	case <-c.expired:
		c.expired = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	d := time.Until(t)
	if d <= 0 {
		close(c.expired)
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.timer == timer { // else it was stopped too late
			close(c.expired)
			c.timer = nil
		}
	})
	c.timer = timer
}

func (c *conn) close() error {
	c.host.net.mu.Lock()
	delete(c.host.conns, c)
	c.host.net.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return net.ErrClosed
	}
	c.done = true
	if c.timer != nil {
		c.timer.Stop()
	}
	close(c.closed)
	return nil
}

func (c *conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

type groupConn struct{ *conn }

func (g groupConn) ReadFrom(b []byte) (int, netip.AddrPort, error) { return g.read(b) }
func (g groupConn) Close() error                                   { return g.close() }

func (g groupConn) Rejoin() error {
	g.host.net.mu.Lock()
	defer g.host.net.mu.Unlock()
	g.host.net.rejoined++
	return nil
}

func (g groupConn) Overrun() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.overrun
}

func (g groupConn) Send(b []byte) error {
	g.host.Wait()
	if g.isClosed() {
		return net.ErrClosed
	}
	g.host.net.mu.Lock()
	defer g.host.net.mu.Unlock()
	return g.host.net.multicast(g.host, g.index, g.local, b)
}

// packetConn is a net.PacketConn. Writes never wait, so their deadline does
// nothing.
type packetConn struct{ *conn }

func (p packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := p.read(b)
	if err != nil {
		return 0, nil, &net.OpError{Op: "read", Net: "udp", Err: err}
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

func (p packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	p.host.Wait()
	if p.isClosed() {
		return 0, &net.OpError{Op: "write", Net: "udp", Err: net.ErrClosed}
	}
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: "udp", Err: fmt.Errorf("address of type %T", to)}
	}
	p.host.net.mu.Lock()
	defer p.host.net.mu.Unlock()
	if err := p.host.net.unicast(p.conn, u.AddrPort(), b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (p packetConn) Close() error                       { return p.close() }
func (p packetConn) LocalAddr() net.Addr                { return net.UDPAddrFromAddrPort(p.local) }
func (p packetConn) SetDeadline(t time.Time) error      { p.setReadDeadline(t); return nil }
func (p packetConn) SetReadDeadline(t time.Time) error  { p.setReadDeadline(t); return nil }
func (p packetConn) SetWriteDeadline(t time.Time) error { return nil }

// quic-go asks for these and complains where they are missing.
func (p packetConn) SetReadBuffer(int) error  { return nil }
func (p packetConn) SetWriteBuffer(int) error { return nil }
