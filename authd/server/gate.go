package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
)

// A gate counts connections, from the first packet of a handshake whose
// sender has proved its address to the end. Those that have not shown a token,
// as nobody has at first, are counted apart, so that they take no places of those
// who have. Half of theirs are for the first of an address: who floods has few
// addresses, and keeps nobody out who comes with a token from another.
//
// Loopback addresses have no share to keep to: what they could keep out are
// programs of the same machine.
type gate struct {
	perAddr   int // connections of one address
	perNet    int // of them strangers of one IPv6 /64
	strangers int
	known     int

	mu                 sync.Mutex
	addrs              map[netip.Addr]int   // connections
	strange            map[netip.Addr]int   // of them strangers
	nets               map[netip.Prefix]int // strangers
	nStrangers, nKnown int
}

var errFull = errors.New("too many connections")

// A ticket is one connection's place. It begins as a stranger's.
type ticket struct {
	g    *gate
	addr netip.Addr
	net  netip.Prefix // valid for IPv6

	// Under g.mu:
	known, gone bool
}

type ticketKey struct{}

// admit is the transport's ConnContext.
func (g *gate) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	t := &ticket{g: g, addr: addrOf(info.RemoteAddr).Addr()}
	if t.addr.Is6() {
		t.net, _ = t.addr.Prefix(64) // cannot fail
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	room := g.strangers
	if g.strange[t.addr] > 0 {
		room /= 2
	}
	switch local := t.addr.IsLoopback(); {
	case g.nStrangers >= g.strangers,
		!local && g.nStrangers >= room,
		!local && g.addrs[t.addr] >= g.perAddr,
		!local && t.net.IsValid() && g.nets[t.net] >= g.perNet:
		return nil, errFull
	}
	g.nStrangers++
	g.strange[t.addr]++
	g.addrs[t.addr]++
	if t.net.IsValid() {
		g.nets[t.net]++
	}
	context.AfterFunc(ctx, t.leave)
	return context.WithValue(ctx, ticketKey{}, t), nil
}

// showToken says that the connection has a token. It reports false if there
// is no room.
func (t *ticket) showToken() bool {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	if t.gone || t.g.nKnown >= t.g.known {
		return false
	}
	t.known = true
	t.g.nKnown++
	t.dropStranger()
	return true
}

// leave gives the place back. It is called once, when the connection's
// context ends, which it does for failed handshakes too.
func (t *ticket) leave() {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	t.gone = true
	if less(t.g.addrs, t.addr); t.known {
		t.g.nKnown--
	} else {
		t.dropStranger()
	}
}

func (t *ticket) dropStranger() {
	t.g.nStrangers--
	less(t.g.strange, t.addr)
	if t.net.IsValid() {
		less(t.g.nets, t.net)
	}
}

func less[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}

// addrOf returns a connection's address with an IPv4 one in its plain form.
func addrOf(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
