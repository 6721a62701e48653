package link

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"
	"go.uber.org/goleak"

	"lanchat/wire"
	"lanchat/wire/realm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a realm that began an hour ago.
type house struct {
	t             testing.TB
	root, issuing *realm.CA
	*realm.Verifier
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t}
	ago := time.Now().Add(-time.Hour)
	var err error
	if h.root, err = realm.NewRoot(rand.Reader, "testing", ago); err != nil {
		t.Fatal(err)
	}
	if h.issuing, err = h.root.IssueCA(rand.Reader, ago, 0); err != nil {
		t.Fatal(err)
	}
	if h.Verifier, err = realm.NewVerifier(h.root.Cert); err != nil {
		t.Fatal(err)
	}
	return h
}

// member is a device with what it presents.
type member struct {
	key   ed25519.PrivateKey
	chain []*x509.Certificate
}

func (m member) identity() Identity { return Fixed(m.key, m.chain...) }
func (m member) device() wire.DeviceID {
	return wire.KeyOf(m.key.Public().(ed25519.PublicKey)).Device()
}

func (m member) serial() (s realm.Serial) {
	m.chain[0].SerialNumber.FillBytes(s[:])
	return s
}

// join makes a member whose token is what change makes of a good one.
func (h *house) join(change func(*realm.Grant)) member {
	h.t.Helper()
	m := member{key: newKey()}
	g := realm.Grant{Account: wire.AccountID{1}, Key: wire.KeyOf(m.key.Public().(ed25519.PublicKey)), Name: "alice", NameSeq: 1, From: time.Now()}
	if change != nil {
		change(&g)
	}
	leaf, err := h.issuing.IssueToken(rand.Reader, g)
	if err != nil {
		h.t.Fatal(err)
	}
	m.chain = []*x509.Certificate{leaf, h.issuing.Cert}
	return m
}

func (h *house) authd() member {
	h.t.Helper()
	m := member{key: newKey()}
	cert, err := h.root.IssueAuthd(rand.Reader, m.key.Public().(ed25519.PublicKey), time.Now(), 0)
	if err != nil {
		h.t.Fatal(err)
	}
	m.chain = []*x509.Certificate{cert, h.root.Cert}
	return m
}

func newKey() ed25519.PrivateKey {
	_, key, _ := ed25519.GenerateKey(nil)
	return key
}

func newcomer(t testing.TB) member {
	t.Helper()
	key := newKey()
	cert, err := realm.SelfSigned(key)
	if err != nil {
		t.Fatal(err)
	}
	return member{key, []*x509.Certificate{cert}}
}

// A cable is two hosts on a simulated network, each with a transport.
type cable struct {
	a, b *quic.Transport
	addr netip.AddrPort // of b
	cut  atomic.Int32   // syscall.Errno that sending fails with, 0: none
}

// breaking is a conn that fails to send while the cable is cut.
type breaking struct {
	*simnet.SimConn
	c *cable
}

func (b breaking) WriteTo(p []byte, to net.Addr) (int, error) {
	if errno := b.c.cut.Load(); errno != 0 {
		return 0, &net.OpError{Op: "write", Net: "udp", Err: &netError{syscall.Errno(errno)}}
	}
	return b.SimConn.WriteTo(p, to)
}

type netError struct{ error }

func (e *netError) Unwrap() error { return e.error }

func newCable(t testing.TB) *cable {
	t.Helper()
	n := &simnet.Simnet{Router: &simnet.PerfectRouter{}}
	c := new(cable)
	host := func(addr netip.AddrPort) *quic.Transport {
		sim := n.NewEndpoint(net.UDPAddrFromAddrPort(addr), simnet.NodeBiDiLinkSettings{Latency: time.Millisecond})
		t.Cleanup(func() { sim.Close() })
		return NewTransport(breaking{sim, c}, nil)
	}
	c.addr = netip.MustParseAddrPort("10.0.0.2:4747")
	c.a, c.b = host(netip.MustParseAddrPort("10.0.0.1:5000")), host(c.addr)
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	t.Cleanup(func() { c.a.Close(); c.b.Close() })
	return c
}

// echo accepts connections, which it counts, and answers every stream with its
// own bytes.
func echo(t testing.TB, ln *quic.Listener) *atomic.Int32 {
	var n atomic.Int32
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept(ctx)
			if err != nil {
				return
			}
			n.Add(1)
			go func() {
				for {
					s, err := conn.AcceptStream(ctx)
					if err != nil {
						return
					}
					s.ReleaseStreamCredit()
					b, _ := io.ReadAll(s)
					s.Write(b)
					s.Close()
				}
			}()
		}
	}()
	t.Cleanup(func() { cancel(); <-done; ln.Close() })
	return &n
}

// ask has an echo: until then the other side has not judged our certificate.
func ask(conn *quic.Conn) error {
	s, err := conn.OpenStreamSync(context.Background())
	if err != nil {
		return err
	}
	s.SetDeadline(time.Now().Add(14 * time.Second)) // less than the idle timeout
	if _, err := s.Write([]byte("hello")); err != nil {
		return err
	}
	s.Close()
	b, err := io.ReadAll(s)
	if err == nil && string(b) != "hello" {
		err = errors.New("echo of something else")
	}
	return err
}

func TestPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := newHouse(t), newCable(t)
		alice, bob := h.join(nil), h.join(func(g *realm.Grant) { g.Name = "bob" })
		ln, err := ListenPeers(c.b, bob.identity(), h.Verifier, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		conn, token, err := DialPeer(t.Context(), c.a, c.addr, alice.identity(), h.Verifier, time.Now, bob.device())
		if err != nil {
			t.Fatal(err)
		}
		if token.Name != "bob" || token.Device != bob.device() {
			t.Errorf("dialled %+v", token)
		}
		other, err := ln.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if token, err := PeerToken(other, h.Verifier, time.Now()); err != nil || token.Name != "alice" || token.Device != alice.device() {
			t.Errorf("accepted %+v, %v", token, err)
		}
		for _, conn := range []*quic.Conn{conn, other} {
			cs := conn.ConnectionState()
			if cs.TLS.Version != tls.VersionTLS13 || cs.TLS.NegotiatedProtocol != ALPNPeer || cs.TLS.DidResume || !cs.SupportsDatagrams.Local || !cs.SupportsDatagrams.Remote {
				t.Errorf("connection state %+v", cs)
			}
		}
		if err := conn.SendDatagram([]byte("fast")); err != nil {
			t.Errorf("sending a datagram: %v", err)
		}
		if b, err := other.ReceiveDatagram(t.Context()); err != nil || string(b) != "fast" {
			t.Errorf("receiving a datagram: %q, %v", b, err)
		}
		conn.CloseWithError(CloseReplaced, "")
		<-other.Context().Done()
		if code, ok := Closed(context.Cause(other.Context())); !ok || code != CloseReplaced {
			t.Errorf("closed by %v, %v", code, context.Cause(other.Context()))
		}
		if code, ok := Closed(context.Cause(conn.Context())); ok {
			t.Errorf("what we close ourselves is closed by the other with %v", code)
		}
	})
}

// Whatever is wrong with a certificate, it is
// refused whether its holder dials or is dialled.
func TestPeersRefuse(t *testing.T) {
	day := 24 * time.Hour
	tests := []struct {
		name string
		bad  func(h *house) member
		want error
	}{
		{"foreign realm", func(h *house) member { return newHouse(h.t).join(nil) }, realm.ErrForeign},
		{"expired", func(h *house) member {
			return h.join(func(g *realm.Grant) { g.From, g.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(-11*time.Minute) })
		}, realm.ErrExpired},
		{"not yet valid", func(h *house) member {
			return h.join(func(g *realm.Grant) { g.From, g.NotAfter = time.Now().Add(day), time.Now().Add(2*day) })
		}, realm.ErrNotYetValid},
		{"revoked", func(h *house) member {
			m := h.join(nil)
			list, err := h.issuing.RevocationList(1, []realm.Revoked{{Serial: m.serial(), At: time.Now()}}, time.Now())
			if err == nil {
				_, err = h.SetCRL(h.issuing.Cert.Raw, list)
			}
			if err != nil {
				h.t.Fatal(err)
			}
			return m
		}, realm.ErrRevoked},
		{"issuing CA as a device", func(h *house) member {
			return member{h.issuing.Key, []*x509.Certificate{h.issuing.Cert}}
		}, realm.ErrRole},
		{"authd as a device", func(h *house) member { return h.authd() }, realm.ErrRole},
		{"self-signed", func(h *house) member { return newcomer(h.t) }, realm.ErrForeign},
		{"without issuer", func(h *house) member {
			m := h.join(nil)
			return member{m.key, m.chain[:1]}
		}, realm.ErrForeign},
		{"copied without its key", func(h *house) member { return member{newKey(), h.join(nil).chain} }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, c := newHouse(t), newCable(t)
				good, bad := h.join(nil), tt.bad(h)

				// The bad one listens.
				ln, err := ListenPeers(c.b, bad.identity(), h.Verifier, time.Now)
				if err != nil {
					t.Fatal(err)
				}
				conn, token, err := DialPeer(t.Context(), c.a, c.addr, good.identity(), h.Verifier, time.Now, bad.device())
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("dialling it: %v, %v, want %v", conn, err, tt.want)
				}
				if token != nil {
					t.Errorf("dialling it gives %+v", token)
				}
				ln.Close()

				// The bad one dials.
				ln, err = ListenPeers(c.b, good.identity(), h.Verifier, time.Now)
				if err != nil {
					t.Fatal(err)
				}
				accepted := echo(t, ln)
				conn, _, err = DialPeer(t.Context(), c.a, c.addr, bad.identity(), h.Verifier, time.Now, good.device())
				if err == nil {
					err = ask(conn)
				}
				e, ok := errors.AsType[*quic.TransportError](err)
				if !ok || !e.Remote || !e.ErrorCode.IsCryptoError() {
					t.Errorf("it dials: %v, want a refusal by the other side", err)
				}
				if n := accepted.Load(); n != 0 {
					t.Errorf("it dials: %d connections accepted", n)
				}
			})
		})
	}
}

// A dialler that presents no certificate at all.
func TestPeersRefuseNoCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := newHouse(t), newCable(t)
		good := h.join(nil)
		ln, err := ListenPeers(c.b, good.identity(), h.Verifier, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		accepted := echo(t, ln)
		conf := PeerTLS(good.identity(), h.Verifier, time.Now, nil)
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
		conn, err := c.a.Dial(t.Context(), net.UDPAddrFromAddrPort(c.addr), conf, PeerConfig())
		if err == nil {
			err = ask(conn)
		}
		if e, ok := errors.AsType[*quic.TransportError](err); !ok || !e.Remote {
			t.Errorf("without a certificate: %v", err)
		}
		if n := accepted.Load(); n != 0 {
			t.Errorf("%d connections accepted", n)
		}
	})
}

// A valid member answers at the address of another.
func TestExpectedDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := newHouse(t), newCable(t)
		alice, bob, carol := h.join(nil), h.join(nil), h.join(nil)
		ln, err := ListenPeers(c.b, bob.identity(), h.Verifier, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		accepted := echo(t, ln)
		if _, _, err := DialPeer(t.Context(), c.a, c.addr, alice.identity(), h.Verifier, time.Now, carol.device()); !errors.Is(err, ErrWrongDevice) {
			t.Errorf("dialling carol where bob is: %v", err)
		}
		conn, _, err := DialPeer(t.Context(), c.a, c.addr, alice.identity(), h.Verifier, time.Now, bob.device())
		if err != nil {
			t.Fatalf("dialling bob where bob is: %v", err)
		}
		if err := ask(conn); err != nil {
			t.Errorf("asking bob: %v", err)
		}
		if n := accepted.Load(); n != 1 {
			t.Errorf("%d connections accepted", n)
		}
		conn.CloseWithError(CloseGoodbye, "")
	})
}

// The clock that certificates are judged by is the one that is given.
func TestClockIsGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := newHouse(t), newCable(t)
		alice, bob := h.join(nil), h.join(nil)
		ln, err := ListenPeers(c.b, bob.identity(), h.Verifier, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		later := func() time.Time { return time.Now().Add(31 * 24 * time.Hour) }
		_, _, err = DialPeer(t.Context(), c.a, c.addr, alice.identity(), h.Verifier, later, bob.device())
		if !errors.Is(err, realm.ErrExpired) {
			t.Errorf("31 days later: %v", err)
		}
		if e, ok := errors.AsType[*realm.TimeError](err); !ok || e.NotAfter.IsZero() {
			t.Errorf("31 days later: %v does not say both clocks", err)
		}
	})
}

// A token that was renewed is presented at the next handshake.
func TestRenewedIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := newHouse(t), newCable(t)
		alice, bob := h.join(nil), h.join(func(g *realm.Grant) { g.Name = "bob" })
		var cert atomic.Pointer[member]
		cert.Store(&bob)
		id := func() (*tls.Certificate, error) { return cert.Load().identity()() }
		ln, err := ListenPeers(c.b, id, h.Verifier, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		echo(t, ln)
		for _, name := range []string{"bob", "robert"} {
			conn, token, err := DialPeer(t.Context(), c.a, c.addr, alice.identity(), h.Verifier, time.Now, bob.device())
			if err != nil || token.Name != name {
				t.Fatalf("dialled %+v, %v, want %s", token, err, name)
			}
			conn.CloseWithError(CloseGoodbye, "")
			renewed := h.join(func(g *realm.Grant) {
				g.Name, g.NameSeq, g.Key = "robert", 2, wire.KeyOf(bob.key.Public().(ed25519.PublicKey))
			})
			renewed.key = bob.key
			cert.Store(&renewed)
		}
	})
}

func TestAuthdClient(t *testing.T) {
	h := newHouse(t)
	ago := func(d time.Duration) func(*realm.Grant) {
		return func(g *realm.Grant) { g.From, g.NotAfter = time.Now().Add(-d-30*time.Minute), time.Now().Add(-d) }
	}
	tests := []struct {
		name       string
		m          member
		ok, member bool
	}{
		{"newcomer", newcomer(t), true, false},
		{"member", h.join(nil), true, true},
		{"member of long ago", h.join(ago(20 * time.Minute)), true, true},
		{"foreign member", newHouse(t).join(nil), false, false},
		{"authd", h.authd(), false, false},
		{"nobody", member{newKey(), nil}, false, false},
	}
	for _, tt := range tests {
		key, token, err := authdClient(tt.m.chain, h.Verifier, time.Now(), realm.Newcomer)
		if (err == nil) != tt.ok || (token != nil) != tt.member {
			t.Errorf("%s: %v, %v", tt.name, token, err)
		}
		if err == nil && key.Device() != tt.m.device() {
			t.Errorf("%s: device %v, want %v", tt.name, key.Device(), tt.m.device())
		}
	}
	old := h.join(nil)
	if _, token, err := authdClient(old.chain, h.Verifier, time.Now().Add((30+90)*24*time.Hour-time.Minute), realm.Newcomer); err != nil || token == nil {
		t.Errorf("90 days after expiry: %v, %v", token, err)
	}
	if _, _, err := authdClient(old.chain, h.Verifier, time.Now().Add((30+91)*24*time.Hour), realm.Newcomer); !errors.Is(err, realm.ErrExpired) {
		t.Errorf("91 days after expiry: %v", err)
	}
}

// Both sides of a conversation with authd judge each other.
func TestAuthdHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := newHouse(t), newCable(t)
		c.b.VerifySourceAddress = RetryAlways
		authd, foreign := h.authd(), newHouse(t).join(nil)
		ln, err := ListenAuthd(c.b, authd.identity(), h.Verifier, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		accepted := echo(t, ln)
		verify := func(certs []*x509.Certificate) error { return h.Authd(certs, time.Now()) }
		for _, m := range []member{newcomer(t), h.join(nil)} {
			conn, err := DialAuthd(t.Context(), c.a, c.addr, m.identity(), verify)
			if err == nil {
				err = ask(conn)
				conn.CloseWithError(CloseGoodbye, "")
			}
			if err != nil {
				t.Errorf("dialling authd: %v", err)
			}
		}
		conn, err := DialAuthd(t.Context(), c.a, c.addr, foreign.identity(), verify)
		if err == nil {
			err = ask(conn)
		}
		if e, ok := errors.AsType[*quic.TransportError](err); !ok || !e.Remote || !e.ErrorCode.IsCryptoError() {
			t.Errorf("a foreign member dials authd: %v", err)
		}
		if n := accepted.Load(); n != 2 {
			t.Errorf("%d connections accepted, want 2", n)
		}
	})
}

// Any member can run a server; it must not pass as authd.
func TestMemberIsNotAuthd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := newHouse(t), newCable(t)
		mallory := h.join(nil)
		mallory.chain = append(mallory.chain, h.root.Cert)
		ln, err := ListenAuthd(c.b, mallory.identity(), h.Verifier, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		accepted := echo(t, ln)
		for name, verify := range map[string]func([]*x509.Certificate) error{
			"pinned": func(certs []*x509.Certificate) error { return h.Authd(certs, time.Now()) },
			"first contact": func(certs []*x509.Certificate) error {
				_, err := realm.Candidate(certs, time.Now())
				return err
			},
		} {
			if _, err := DialAuthd(t.Context(), c.a, c.addr, newcomer(t).identity(), verify); !errors.Is(err, realm.ErrRole) {
				t.Errorf("%s: %v, want %v", name, err, realm.ErrRole)
			}
		}
		if n := accepted.Load(); n != 0 {
			t.Errorf("%d connections accepted", n)
		}
	})
}

// Programs of different versions say so.
func TestVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := newHouse(t), newCable(t)
		ln, err := ListenPeers(c.b, h.join(nil).identity(), h.Verifier, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, err = DialAuthd(t.Context(), c.a, c.addr, newcomer(t).identity(), func([]*x509.Certificate) error { return nil })
		if !IsVersion(err) {
			t.Errorf("dialling a node as authd: %v", err)
		}
		if _, _, err := DialPeer(t.Context(), c.a, c.addr, newcomer(t).identity(), h.Verifier, time.Now, wire.DeviceID{}); err == nil || IsVersion(err) {
			t.Errorf("dialling the wrong device: %v", err)
		}
	})
}

// A connection survives that sending fails for a while.
func TestSoft(t *testing.T) {
	for _, tt := range []struct {
		errno    syscall.Errno
		survives bool
	}{
		{syscall.ENETUNREACH, true},
		{syscall.EHOSTUNREACH, true},
		{syscall.ENETDOWN, true},
		{syscall.EPERM, true},
		{syscall.ENOBUFS, true},
		{syscall.EADDRNOTAVAIL, false},
		{syscall.EINVAL, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, c := newHouse(t), newCable(t)
			bob := h.join(nil)
			ln, err := ListenPeers(c.b, bob.identity(), h.Verifier, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			echo(t, ln)
			conn, _, err := DialPeer(t.Context(), c.a, c.addr, h.join(nil).identity(), h.Verifier, time.Now, bob.device())
			if err != nil {
				t.Fatal(err)
			}
			// Before this, a lost packet may cost the handshake.
			if err := ask(conn); err != nil {
				t.Fatal(err)
			}
			c.cut.Store(int32(tt.errno))
			time.Sleep(6 * time.Second) // a keep-alive falls into it
			c.cut.Store(0)
			if err := ask(conn); (err == nil) != tt.survives {
				t.Errorf("after 6 s of %q: %v", tt.errno, err)
			}
			conn.CloseWithError(CloseGoodbye, "")
		})
	}
}

// quic-go makes more of a real UDP socket only if it sees one.
func TestSoftKeepsUDP(t *testing.T) {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Skip(err)
	}
	defer udp.Close()
	soft := Soft(udp)
	if _, ok := soft.(quic.OOBCapablePacketConn); !ok {
		t.Errorf("%T is no quic.OOBCapablePacketConn", soft)
	}
	if _, ok := soft.(net.Conn); !ok {
		t.Errorf("%T is no net.Conn", soft)
	}
	if _, ok := Soft(new(simnet.SimConn)).(quic.OOBCapablePacketConn); ok {
		t.Errorf("a simulated conn passes as a UDP socket")
	}
}

// Everything once over real sockets, with a megabyte each way.
func TestLoopback(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.join(nil), h.join(nil)
	transport := func() *quic.Transport {
		udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { udp.Close() })
		tr := NewTransport(udp, &quic.StatelessResetKey{1})
		t.Cleanup(func() { tr.Close() })
		return tr
	}
	a, b := transport(), transport()
	b.VerifySourceAddress = RetryAbove(20)
	ln, err := ListenPeers(b, bob.identity(), h.Verifier, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	echo(t, ln)
	conn, _, err := DialPeer(t.Context(), a, ln.Addr().(*net.UDPAddr).AddrPort(), alice.identity(), h.Verifier, time.Now, bob.device())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(CloseGoodbye, "")
	s, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	go func() {
		s.Write(want)
		s.Close()
	}()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("echo of %d bytes has %d, %v", len(want), len(got), err)
	}
}

func TestRetryAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		retry := RetryAbove(20)
		for range 3 {
			demanded := 0
			for range 50 {
				if retry(nil) {
					demanded++
				}
			}
			if demanded != 30 {
				t.Errorf("proof demanded of %d of 50 in one second, want 30", demanded)
			}
			time.Sleep(time.Second)
		}
	})
}
