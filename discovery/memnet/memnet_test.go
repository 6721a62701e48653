package memnet

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
)

func listen(t *testing.T, h *Host, port uint16) net.PacketConn {
	t.Helper()
	c, err := h.ListenPacket(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func udp(s string) *net.UDPAddr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

// read reads one datagram, or says why there is none within a second.
func read(c net.PacketConn) string {
	c.SetReadDeadline(time.Now().Add(time.Second))
	b := make([]byte, 100)
	n, from, err := c.ReadFrom(b)
	if err != nil {
		return err.Error()
	}
	return from.String() + " " + string(b[:n])
}

const nothing = "read udp: i/o timeout"

func TestUnicast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := New()
		ann, bob := lan.Host("ann", "10.77.0.1/24", "fe80::1/64"), lan.Host("bob", "10.77.0.2/24", "fe80::2/64")
		bob.Attach("eth1", "other", "10.78.0.2/24")
		cem := lan.Host("cem")
		cem.Attach("eth0", "other", "10.78.0.3/24")
		a, b, c := listen(t, ann, 5000), listen(t, bob, 5000), listen(t, cem, 5000)
		for _, tt := range []struct {
			from, at net.PacketConn
			to, want string
		}{
			{a, b, "10.77.0.2:5000", "10.77.0.1:5000 x"},
			{b, a, "10.77.0.1:5000", "10.77.0.2:5000 x"},
			{a, b, "[fe80::2%eth0]:5000", "[fe80::1%eth0]:5000 x"},
			{a, a, "127.0.0.1:5000", "127.0.0.1:5000 x"},
			{a, a, "10.77.0.1:5000", "10.77.0.1:5000 x"},
			{b, c, "10.78.0.3:5000", "10.78.0.2:5000 x"},
			{a, b, "10.77.0.2:5001", nothing},
			{a, b, "10.77.0.9:5000", nothing},
		} {
			if _, err := tt.from.WriteTo([]byte("x"), udp(tt.to)); err != nil {
				t.Errorf("to %s: %v", tt.to, err)
			}
			if got := read(tt.at); got != tt.want {
				t.Errorf("to %s: got %q, want %q", tt.to, got, tt.want)
			}
		}
		if _, err := a.WriteTo([]byte("x"), udp("10.78.0.3:5000")); err == nil {
			t.Error("routed to another LAN")
		}

		lan.Cut(ann, bob)
		a.WriteTo([]byte("x"), udp("10.77.0.2:5000"))
		if got := read(b); got != nothing {
			t.Errorf("cut: %q", got)
		}
		lan.Mend(ann, bob)
		lan.SetDelay(10 * time.Millisecond)
		begin := time.Now()
		a.WriteTo([]byte("x"), udp("10.77.0.2:5000"))
		if got, d := read(b), time.Since(begin); got != "10.77.0.1:5000 x" || d != 10*time.Millisecond {
			t.Errorf("delayed: %q after %v", got, d)
		}
		lan.SetLoss(100)
		a.WriteTo([]byte("x"), udp("10.77.0.2:5000"))
		if got := read(b); got != nothing {
			t.Errorf("lost: %q", got)
		}
		lan.SetLoss(0)
		bob.SetUp("eth0", false)
		a.WriteTo([]byte("x"), udp("10.77.0.2:5000"))
		if got := read(b); got != nothing {
			t.Errorf("down: %q", got)
		}
		if _, err := b.WriteTo([]byte("x"), udp("10.77.0.1:5000")); err == nil {
			t.Error("sent by an interface that is down")
		}
	})
}

func TestSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := New()
		ann := lan.Host("ann", "10.77.0.1/24")
		a := listen(t, ann, 5000)
		if _, err := ann.ListenPacket(5000); err == nil {
			t.Error("a port given twice")
		}
		b, c := listen(t, ann, 0), listen(t, ann, 0)
		if b.LocalAddr().String() == c.LocalAddr().String() {
			t.Errorf("both on %v", b.LocalAddr())
		}
		// A deadline that is moved while a read waits.
		a.SetReadDeadline(time.Now().Add(time.Hour))
		begin := time.Now()
		time.AfterFunc(time.Second, func() { a.SetReadDeadline(time.Now().Add(time.Second)) })
		if _, _, err := a.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		a.SetReadDeadline(time.Unix(1, 0))
		if _, _, err := a.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		a.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { a.Close() })
		if _, _, err := a.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := a.WriteTo(nil, udp("10.77.0.1:1")); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		listen(t, ann, 5000) // free again
	})
}

// QUIC works on it, through loss, in virtual time.
func TestQUIC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := New()
		lan.SetDelay(5 * time.Millisecond)
		lan.SetLoss(5)
		a, b := lan.Host("ann", "10.77.0.1/24"), lan.Host("bob", "10.77.0.2/24")
		key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
		cert := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(nil, cert, cert, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"x"}, InsecureSkipVerify: true}
		server, client := &quic.Transport{Conn: listen(t, a, 5000)}, &quic.Transport{Conn: listen(t, b, 0)}
		defer server.Close()
		defer client.Close()
		l, err := server.Listen(conf, nil)
		if err != nil {
			t.Fatal(err)
		}
		const size = 1 << 20
		go func() {
			c, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			s, err := c.OpenUniStream()
			if err != nil {
				return
			}
			s.Write(make([]byte, size))
			s.Close()
		}()
		c, err := client.Dial(context.Background(), udp("10.77.0.1:5000"), conf, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.AcceptUniStream(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.Copy(io.Discard, s); err != nil || got != size {
			t.Errorf("%d bytes, %v", got, err)
		}
		c.CloseWithError(0, "")
	})
}

// A host that stands still sends and takes nothing, and finds what a kernel kept.
func TestFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := New()
		ann, bob := lan.Host("ann", "10.77.0.1/24"), lan.Host("bob", "10.77.0.2/24")
		a, b := listen(t, ann, 5000), listen(t, bob, 5000)
		bob.Freeze()
		for range 2 * frozenQueue {
			a.WriteTo([]byte("x"), udp("10.77.0.2:5000"))
		}
		go b.WriteTo([]byte("y"), udp("10.77.0.1:5000"))
		if got := read(a); got != nothing {
			t.Errorf("it sent %q", got)
		}
		bob.Thaw()
		if got := read(a); got != "10.77.0.2:5000 y" {
			t.Errorf("in the end it sent %q", got)
		}
		kept := 0
		for read(b) != nothing {
			kept++
		}
		if kept != frozenQueue {
			t.Errorf("%d datagrams were kept, want %d", kept, frozenQueue)
		}
		lan.Mute(ann, bob)
		a.WriteTo([]byte("x"), udp("10.77.0.2:5000"))
		b.WriteTo([]byte("y"), udp("10.77.0.1:5000"))
		if got, heard := read(b), read(a); got != nothing || heard != "10.77.0.2:5000 y" {
			t.Errorf("from a muted host came %q, and to it %q", got, heard)
		}
	})
}
