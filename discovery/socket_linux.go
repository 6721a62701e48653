package discovery

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"lanchat/discovery/presence"
)

// ListenGroup opens a socket bound to the group's own address, so that the
// kernel passes neither unicast nor other groups' datagrams; package net binds
// the wildcard instead. IP_MULTICAST_ALL is off: else it would get what other
// sockets of the machine joined the group for on other interfaces.
func (System) ListenGroup(link presence.Link, group netip.AddrPort) (GroupConn, error) {
	fail := func(doing string, err error) (GroupConn, error) {
		return nil, fmt.Errorf("%s %v on %s: %w", doing, group, link.Name, err)
	}
	family, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(group.Port()), Addr: as4(group.Addr())})
	if group.Addr().Is6() {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: int(group.Port()), Addr: group.Addr().As16(), ZoneId: uint32(link.Index)}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return fail("opening a socket for", err)
	}
	file := os.NewFile(uintptr(fd), "group")
	defer file.Close() // FilePacketConn has its own
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fail("sharing", err)
	}
	if family == unix.AF_INET6 {
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		// Since Linux 4.20; the socket is bound to the interface anyway.
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
	} else if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0); err != nil {
		return fail("restricting", err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, groupBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, groupBuffer) // as much as the system allows
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, groupBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, groupBuffer)
	}
	if err := unix.Bind(fd, to); err != nil {
		return fail("binding", err)
	}
	pc, err := net.FilePacketConn(file)
	if err != nil {
		return fail("opening", err)
	}
	c := pc.(*net.UDPConn)
	if err := joinGroup(c, link, group.Addr()); err != nil {
		c.Close()
		return fail("joining", err)
	}
	return &systemConn{c: c, link: link, to: group}, nil
}

// systemConn is a GroupConn of the kernel's.
type systemConn struct {
	c       *net.UDPConn
	link    presence.Link
	to      netip.AddrPort
	oob     [64]byte // used by the reader
	overrun atomic.Uint64
}

func (s *systemConn) ReadFrom(b []byte) (int, netip.AddrPort, error) {
	n, oobn, _, from, err := s.c.ReadMsgUDPAddrPort(b, s.oob[:])
	if oobn > 0 {
		s.count(s.oob[:oobn])
	}
	return n, from, err
}

// count reads SO_RXQ_OVFL, which the kernel adds once it had to drop something:
// the number of datagrams dropped since the socket was opened, modulo 2³².
func (s *systemConn) count(oob []byte) {
	h, data, _, err := unix.ParseOneSocketControlMessage(oob)
	if err == nil && h.Level == unix.SOL_SOCKET && h.Type == unix.SO_RXQ_OVFL && len(data) >= 4 {
		s.overrun.Store(uint64(binary.NativeEndian.Uint32(data)))
	}
}

func (s *systemConn) Send(b []byte) error {
	_, err := s.c.WriteToUDPAddrPort(b, s.to)
	return err
}

func (s *systemConn) Rejoin() error   { return rejoinGroup(s.c, s.link, s.to.Addr()) }
func (s *systemConn) Overrun() uint64 { return s.overrun.Load() }
func (s *systemConn) Close() error    { return s.c.Close() }

func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		return a.As4()
	}
	return b
}
