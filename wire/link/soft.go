package link

import (
	"errors"
	"net"
	"syscall"

	"github.com/quic-go/quic-go"
)

// Soft returns pc with passing failures to send turned into loss: no route, no
// address, link down, queue full, a firewall's no. To quic-go every other
// error than "message too long" is the end of the connection, though QUIC is
// made to survive a cable being pulled or a laptop changing networks.
//
// A *net.UDPConn keeps what quic-go makes of one: segmentation offload, batched
// reads, congestion marks. Any other conn is used as it is.
func Soft(pc net.PacketConn) net.PacketConn {
	if c, ok := pc.(udpConn); ok {
		return &softUDP{c}
	}
	return &softConn{pc}
}

// udpConn is what quic-go wants of a UDP socket in order to use all of it:
// *net.UDPConn, or what embeds one.
type udpConn interface {
	quic.OOBCapablePacketConn
	net.Conn // or else quic-go refuses the conn
	SetWriteBuffer(int) error
}

type softUDP struct{ udpConn }

func (c *softUDP) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := c.udpConn.WriteTo(b, to)
	if again(err) {
		n, err = c.udpConn.WriteTo(b, to)
	}
	if passing(err) {
		return len(b), nil
	}
	return n, err
}

func (c *softUDP) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = c.udpConn.WriteMsgUDP(b, oob, to)
	if again(err) {
		n, oobn, err = c.udpConn.WriteMsgUDP(b, oob, to)
	}
	if passing(err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

type softConn struct{ net.PacketConn }

func (c *softConn) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := c.PacketConn.WriteTo(b, to)
	if passing(err) {
		return len(b), nil
	}
	return n, err
}

// SetReadBuffer and SetWriteBuffer are looked for by quic-go, which complains
// on standard error where they are missing.
func (c *softConn) SetReadBuffer(n int) error {
	if s, ok := c.PacketConn.(interface{ SetReadBuffer(int) error }); ok {
		return s.SetReadBuffer(n)
	}
	return nil
}

func (c *softConn) SetWriteBuffer(n int) error {
	if s, ok := c.PacketConn.(interface{ SetWriteBuffer(int) error }); ok {
		return s.SetWriteBuffer(n)
	}
	return nil
}

// passing reports whether an error of sending may be over the next time.
// EADDRNOTAVAIL and EINVAL never are.
func passing(err error) bool {
	if err == nil {
		return false
	}
	for _, e := range [...]error{
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN,
		syscall.EPERM, syscall.ENOBUFS,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// again reports whether to try at once: the first datagram of a new socket is
// sometimes refused on Linux (golang.org/issue/63322).
func again(err error) bool { return err != nil && errors.Is(err, syscall.EPERM) }
