//go:build !linux

package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"lanchat/discovery/presence"
)

// ListenGroup opens a socket on the wildcard address, which is what systems
// other than Linux do surely, and looks at the destination and the interface
// of each datagram where the system tells them (Windows does not).
func (System) ListenGroup(link presence.Link, group netip.AddrPort) (GroupConn, error) {
	fail := func(doing string, err error) (GroupConn, error) {
		return nil, fmt.Errorf("%s %v on %s: %w", doing, group, link.Name, err)
	}
	network, wildcard := "udp4", "0.0.0.0:"
	if group.Addr().Is6() {
		network, wildcard = "udp6", "[::]:"
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) (err error) {
		if e := rc.Control(func(fd uintptr) { err = share(fd) }); e != nil {
			return e
		}
		return err
	}}
	pc, err := lc.ListenPacket(context.Background(), network, wildcard+strconv.Itoa(int(group.Port())))
	if err != nil {
		return fail("binding", err)
	}
	c := pc.(*net.UDPConn)
	c.SetReadBuffer(groupBuffer)
	c.SetWriteBuffer(groupBuffer)
	s := &systemConn{c: c, to: group, link: link, told: runtime.GOOS != "windows"}
	if err := joinGroup(c, link, group.Addr()); err != nil {
		c.Close()
		return fail("joining", err)
	}
	if group.Addr().Is4() {
		s.p4 = ipv4.NewPacketConn(c)
		if s.told {
			err = s.p4.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
		}
	} else {
		s.p6 = ipv6.NewPacketConn(c)
		if s.told {
			err = s.p6.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
		}
	}
	if err != nil {
		c.Close()
		return fail("restricting", err)
	}
	return s, nil
}

// systemConn is a GroupConn of the kernel's.
type systemConn struct {
	c    *net.UDPConn
	p4   *ipv4.PacketConn // one of them
	p6   *ipv6.PacketConn
	to   netip.AddrPort
	link presence.Link
	told bool // the system tells destination and interface
}

func (s *systemConn) ReadFrom(b []byte) (int, netip.AddrPort, error) {
	for {
		if !s.told {
			return s.c.ReadFromUDPAddrPort(b)
		}
		var n, index int
		var dst net.IP
		var src net.Addr
		var err error
		if s.p4 != nil {
			var cm *ipv4.ControlMessage
			if n, cm, src, err = s.p4.ReadFrom(b); cm != nil {
				index, dst = cm.IfIndex, cm.Dst
			}
		} else {
			var cm *ipv6.ControlMessage
			if n, cm, src, err = s.p6.ReadFrom(b); cm != nil {
				index, dst = cm.IfIndex, cm.Dst
			}
		}
		if err != nil {
			return 0, netip.AddrPort{}, err
		}
		to, _ := netip.AddrFromSlice(dst)
		if index != s.link.Index || to.Unmap() != s.to.Addr() {
			continue
		}
		return n, src.(*net.UDPAddr).AddrPort(), nil
	}
}

func (s *systemConn) Send(b []byte) error {
	to := s.to
	if s.p6 != nil {
		to = netip.AddrPortFrom(to.Addr().WithZone(strconv.Itoa(s.link.Index)), to.Port())
	}
	_, err := s.c.WriteToUDPAddrPort(b, to)
	return err
}

func (s *systemConn) Rejoin() error   { return rejoinGroup(s.c, s.link, s.to.Addr()) }
func (s *systemConn) Overrun() uint64 { return 0 } // not told
func (s *systemConn) Close() error    { return s.c.Close() }
