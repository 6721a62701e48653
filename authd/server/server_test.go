package server

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"
	"go.uber.org/goleak"

	"lanchat/authd/account"
	"lanchat/authd/store"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A lab is an authd and its clients on a simulated network, inside a synctest
// bubble: time passes when everybody waits.
type lab struct {
	t      testing.TB
	net    *simnet.Simnet
	dir    string
	cfg    Config
	srv    *Server
	st     *store.Store
	stop   func()
	pc     net.PacketConn
	logged *logBuffer
}

// A logBuffer is what was logged, for several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var authdAddr = netip.MustParseAddrPort("10.0.0.1:4747")

// newLab starts an authd. Clients' sockets must be made before start: simnet
// wants it so.
func newLab(t *testing.T, cfg Config) *lab {
	t.Helper()
	return &lab{t: t, net: &simnet.Simnet{Router: &simnet.PerfectRouter{}}, dir: t.TempDir(), cfg: cfg, logged: new(logBuffer)}
}

func (l *lab) socket(addr netip.AddrPort) net.PacketConn {
	pc := l.net.NewEndpoint(net.UDPAddrFromAddrPort(addr), simnet.NodeBiDiLinkSettings{Latency: time.Millisecond})
	l.t.Cleanup(func() { pc.Close() })
	return pc
}

// start runs authd on the simulated network; the test's end stops it.
func (l *lab) start() {
	l.t.Helper()
	l.pc = l.socket(authdAddr)
	if err := l.net.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { l.net.Close() })
	l.run(l.pc)
}

// away stops authd for some time.
func (l *lab) away(d time.Duration) {
	l.t.Helper()
	l.stop()
	time.Sleep(d)
	l.run(l.pc)
}

func (l *lab) run(pc net.PacketConn) {
	l.t.Helper()
	keys, err := OpenKeys(l.dir, "test realm", time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	if l.st, err = store.Open(filepath.Join(l.dir, DatabaseFile), keys.Realm.ID); err != nil {
		l.t.Fatal(err)
	}
	cfg := l.cfg
	cfg.Keys, cfg.Conn = keys, pc
	if failing, ok := cfg.Store.(*failingStore); ok {
		failing.Store = l.st
	} else {
		cfg.Store = l.st
	}
	cfg.Mail = l.st
	cfg.Logger = slog.New(slog.NewTextHandler(l.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if l.srv, err = New(cfg); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- l.srv.Run(ctx) }()
	stopped := false
	l.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ran; err != nil {
			l.t.Errorf("Run: %v", err)
		}
		if err := l.st.Close(); err != nil {
			l.t.Errorf("closing the store: %v", err)
		}
		if err := keys.Close(); err != nil {
			l.t.Errorf("closing the keys: %v", err)
		}
	}
	l.t.Cleanup(l.stop)
}

// A client is a device. It does what node/login does, with the frames in
// hand.
type client struct {
	l     *lab
	tr    *quic.Transport
	to    netip.AddrPort
	key   ed25519.PrivateKey
	grant *wire.AuthGrant
}

func (l *lab) client(addr string) *client {
	l.t.Helper()
	return l.clientOn(l.socket(netip.MustParseAddrPort(addr)), authdAddr)
}

func (l *lab) clientOn(pc net.PacketConn, to netip.AddrPort) *client {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	tr := link.NewTransport(pc, nil)
	l.t.Cleanup(func() { tr.Close() })
	return &client{l: l, tr: tr, to: to, key: key}
}

// newDevice returns a client on the same socket with another key.
func (c *client) newDevice() *client {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		c.l.t.Fatal(err)
	}
	d := *c
	d.key, d.grant = key, nil
	return &d
}

func (c *client) deviceKey() wire.DeviceKey { return wire.KeyOf(c.key.Public().(ed25519.PublicKey)) }

// dial connects with the token if there is one, else self-signed.
func (c *client) dial() (*quic.Conn, error) {
	c.l.t.Helper()
	var id link.Identity
	if c.grant == nil {
		cert, err := realm.SelfSigned(c.key)
		if err != nil {
			c.l.t.Fatal(err)
		}
		id = link.Fixed(c.key, cert)
	} else {
		id = link.Fixed(c.key, parse(c.l.t, c.grant.Leaf), parse(c.l.t, c.grant.Issuing))
	}
	v, err := realm.NewVerifier(c.l.srv.Realm().Root)
	if err != nil {
		c.l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return link.DialAuthd(ctx, c.tr, c.to, id, func(certs []*x509.Certificate) error { return v.Authd(certs, time.Now()) })
}

func (c *client) mustDial() *quic.Conn {
	c.l.t.Helper()
	conn, err := c.dial()
	if err != nil {
		c.l.t.Fatalf("dialling: %v", err)
	}
	c.l.t.Cleanup(func() { conn.CloseWithError(link.CloseGoodbye, "") })
	return conn
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// ask has one request answered.
func ask(conn *quic.Conn, m wire.AuthMessage) (wire.AuthMessage, error) {
	stream, err := conn.OpenStreamSync(conn.Context())
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	if err := link.WriteAuth(stream, m); err != nil {
		return nil, err
	}
	return link.ReadAuth(stream)
}

// prehash stands for the slow one, which is tested where it is.
func prehash(password string, salt [16]byte) (h [32]byte) {
	copy(h[:], fmt.Sprintf("%s/%x", password, salt[:4]))
	return h
}

// logIn has the whole conversation on a connection of its own. It returns the
// challenge and the last answer.
func (c *client) logIn(kind uint8, name, password string, invite []byte) (*wire.AuthChallenge, wire.AuthMessage) {
	c.l.t.Helper()
	c.grant = nil
	conn := c.mustDial()
	defer conn.CloseWithError(link.CloseGoodbye, "")
	stream, err := conn.OpenStreamSync(conn.Context())
	if err != nil {
		c.l.t.Fatal(err)
	}
	if err := link.WriteAuth(stream, &wire.AuthStart{Kind: kind, Method: wire.AuthPrehash, Name: name, Invite: invite}); err != nil {
		c.l.t.Fatal(err)
	}
	m, err := link.ReadAuth(stream)
	if err != nil {
		c.l.t.Fatalf("after START: %v", err)
	}
	challenge, ok := m.(*wire.AuthChallenge)
	if !ok {
		return nil, m
	}
	if err := link.WriteAuth(stream, &wire.AuthFinish{Prehash: prehash(password, challenge.Salt), Device: "laptop"}); err != nil {
		c.l.t.Fatal(err)
	}
	stream.Close()
	if m, err = link.ReadAuth(stream); err != nil {
		c.l.t.Fatalf("after FINISH: %v", err)
	}
	c.grant, _ = m.(*wire.AuthGrant)
	return challenge, m
}

func (c *client) register(name, password string) wire.AuthMessage {
	c.l.t.Helper()
	_, m := c.logIn(wire.AuthRegister, name, password, nil)
	return m
}

func (c *client) login(name, password string) wire.AuthMessage {
	c.l.t.Helper()
	_, m := c.logIn(wire.AuthLogin, name, password, nil)
	return m
}

func (c *client) token() *realm.Token {
	c.l.t.Helper()
	v, err := realm.NewVerifier(parse(c.l.t, c.grant.Root))
	if err != nil {
		c.l.t.Fatal(err)
	}
	token, err := v.Device([]*x509.Certificate{parse(c.l.t, c.grant.Leaf), parse(c.l.t, c.grant.Issuing)}, time.Now())
	if err != nil {
		c.l.t.Fatal(err)
	}
	return token
}

func wantGrant(t testing.TB, m wire.AuthMessage) *wire.AuthGrant {
	t.Helper()
	g, ok := m.(*wire.AuthGrant)
	if !ok {
		t.Fatalf("got %T %+v, want a GRANT", m, m)
	}
	return g
}

func wantRefusal(t testing.TB, m wire.AuthMessage, code wire.Code) *wire.AuthRefusal {
	t.Helper()
	r, ok := m.(*wire.AuthRefusal)
	if !ok || r.Code != code {
		t.Fatalf("got %T %+v, want a refusal, %v", m, m, code)
	}
	return r
}

// bubble runs f with an authd and a client on a simulated network.
func bubble(t *testing.T, cfg Config, f func(t *testing.T, l *lab, c *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, cfg)
		c := l.client("10.0.0.2:5000")
		l.start()
		f(t, l, c)
	})
}

func TestRegisterAndLogIn(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		challenge, m := c.logIn(wire.AuthRegister, "alice", "correct", nil)
		g := wantGrant(t, m)
		if challenge.MinLength != realm.DefaultMinLength || challenge.MinScore != realm.DefaultMinScore {
			t.Errorf("policy: got %d and %d, want the defaults", challenge.MinLength, challenge.MinScore)
		}
		if got, want := g.Time, wire.UnixMilli(time.Now()); got > want || got < want-1000 {
			t.Errorf("time: got %d, want about %d", got, want)
		}
		token := c.token()
		if token.Name != "alice" || token.NameSeq != 1 || token.Key != c.deviceKey() {
			t.Errorf("got a token of %q, %d, key %v, want alice, 1, key %v", token.Name, token.NameSeq, token.Key, c.deviceKey())
		}
		if got := token.NotAfter.Sub(token.NotBefore); got < realm.TokenLife || got > realm.TokenLife+time.Hour {
			t.Errorf("valid for %v, want 30 days", got)
		}

		// The same device again, as after an answer that was lost.
		_, m = c.logIn(wire.AuthLogin, "alice", "correct", nil)
		wantGrant(t, m)
		if again := c.token(); again.Account != token.Account || again.Serial == token.Serial {
			t.Errorf("logged in as account %v serial %v, want %v and a new serial", again.Account, again.Serial, token.Account)
		}
		// Another device of hers.
		wantGrant(t, c.newDevice().login("alice", "correct"))
		if devices, err := l.st.Devices(token.Account); err != nil || len(devices) != 2 || devices[0].Name != "laptop" {
			t.Errorf("on record: %+v, %v, want two laptops", devices, err)
		}
		if st := l.srv.Stats(); st.Registered != 1 || st.LoggedIn != 2 {
			t.Errorf("counted %d registered, %d logged in, want 1 and 2", st.Registered, st.LoggedIn)
		}
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, Config{Rules: account.Config{StartsPerMinute: -1}}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("alice", "correct"))
		d := c.newDevice()
		wantRefusal(t, d.login("alice", "wrong"), wire.CodeBadCredentials)
		wantRefusal(t, d.login("nobody", "wrong"), wire.CodeBadCredentials)
		wantRefusal(t, d.register("alice", "other"), wire.CodeNameTaken)
		wantRefusal(t, d.register("Alice", "other"), wire.CodeBadName)
		wantRefusal(t, d.register("\x1b[31mred", "other"), wire.CodeBadName)
		wantRefusal(t, d.register("admin", "other"), wire.CodeBadName)
		wantRefusal(t, c.register("bob", "other"), wire.CodeDeviceOfOtherAccount)
		if n, err := l.st.Count(); n != 1 || err != nil {
			t.Errorf("got %d accounts, %v, want 1", n, err)
		}
		if strings.Contains(l.logged.String(), "nobody") || strings.Contains(l.logged.String(), "\x1b") {
			t.Errorf("names that were tried are in the log:\n%s", l.logged)
		}
		if st := l.srv.Stats(); st.Refused[wire.CodeBadName] != 3 || st.Refused[wire.CodeBadCredentials] != 2 {
			t.Errorf("counted %v", st.Refused)
		}
	})
}

func TestRegistrationPolicies(t *testing.T) {
	bubble(t, Config{Rules: account.Config{Registration: account.Closed}}, func(t *testing.T, l *lab, c *client) {
		wantRefusal(t, c.register("alice", "correct"), wire.CodeRegistrationClosed)
	})
	bubble(t, Config{Rules: account.Config{Registration: account.Invite}}, func(t *testing.T, l *lab, c *client) {
		_, code, err := ReadRealm(l.dir)
		if err != nil || len(code.Invite) != realm.InviteSize {
			t.Fatalf("got code %v, %v, want one with an invite", code, err)
		}
		wantRefusal(t, c.register("alice", "correct"), wire.CodeInviteNeeded)
		_, m := c.logIn(wire.AuthRegister, "alice", "correct", []byte("12345678"))
		wantRefusal(t, m, wire.CodeInviteNeeded)
		_, m = c.logIn(wire.AuthRegister, "alice", "correct", code.Invite)
		wantGrant(t, m)
	})
}

// "Unknown names cost the same work, delay and answer": fake but stable salt,
// same refusals after as many tries.
func TestUnknownNameIndistinguishable(t *testing.T) {
	bubble(t, Config{Rules: account.Config{StartsPerMinute: -1, LockAfter: 12}}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("alice", "correct"))
		d := c.newDevice()
		salts := make(map[string][16]byte)
		var last string
		for try := range 20 {
			var got [2]string
			for i, name := range []string{"alice", "nobody"} {
				challenge, m := d.logIn(wire.AuthLogin, name, "wrong", nil)
				got[i] = fmt.Sprintf("%T %+v", m, m)
				if challenge == nil {
					continue
				}
				if first, ok := salts[name]; ok && first != challenge.Salt {
					t.Errorf("salt of %q changed", name)
				}
				salts[name] = challenge.Salt
			}
			if got[0] != got[1] {
				t.Fatalf("try %d: known name got %s, unknown %s", try, got[0], got[1])
			}
			last = got[0]
			if r := wantRefusalOf(t, d, "alice"); r != nil && r.Code == wire.CodeRateLimited {
				time.Sleep(time.Duration(r.RetryAfter) * time.Second)
			}
		}
		if salts["alice"] == salts["nobody"] {
			t.Error("both names have the same salt")
		}
		if !strings.Contains(last, wire.CodeAccountLocked.String()) {
			t.Errorf("at the end: %s, want the lock", last)
		}
	})
}

// wantRefusalOf begins a log-in and returns the refusal of START, or nil.
func wantRefusalOf(t testing.TB, c *client, name string) *wire.AuthRefusal {
	t.Helper()
	conn := c.mustDial()
	defer conn.CloseWithError(link.CloseGoodbye, "")
	m, err := ask(conn, &wire.AuthStart{Kind: wire.AuthLogin, Method: wire.AuthPrehash, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := m.(*wire.AuthRefusal)
	return r
}

// "60 login starts a minute per source."
func TestThrottledBySource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, Config{Rules: account.Config{StartsPerMinute: 3}})
		c, other := l.client("10.0.0.2:5000"), l.client("10.0.0.3:5000")
		l.start()
		for i := range 3 {
			wantGrant(t, c.newDevice().register(fmt.Sprintf("user%d", i), "correct"))
		}
		r := wantRefusal(t, c.newDevice().register("user3", "correct"), wire.CodeRateLimited)
		if r.RetryAfter < 1 || r.RetryAfter > 20 {
			t.Errorf("retry after %d s, want at most 20", r.RetryAfter)
		}
		wantGrant(t, other.register("other", "correct"))
		time.Sleep(time.Duration(r.RetryAfter) * time.Second)
		wantGrant(t, c.newDevice().register("user3", "correct"))
	})
}

// "After 5 failures an exponential delay of 2 s … 15 min per (account,
// source)"; it binds the right password too, and nobody else.
func TestDelayAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, Config{Rules: account.Config{StartsPerMinute: -1}})
		c, other := l.client("10.0.0.2:5000"), l.client("10.0.0.3:5000")
		l.start()
		wantGrant(t, c.register("alice", "correct"))
		for range 5 {
			wantRefusal(t, c.login("alice", "wrong"), wire.CodeBadCredentials)
		}
		for _, want := range []uint32{2, 4, 8} {
			r := wantRefusal(t, c.login("alice", "correct"), wire.CodeRateLimited)
			if r.RetryAfter != want {
				t.Errorf("retry after %d s, want %d", r.RetryAfter, want)
			}
			time.Sleep(time.Duration(r.RetryAfter) * time.Second)
			wantRefusal(t, c.login("alice", "wrong"), wire.CodeBadCredentials)
		}
		wantGrant(t, other.login("alice", "correct"))
		time.Sleep(16 * time.Second)
		wantGrant(t, c.login("alice", "correct"))
	})
}

func TestRenew(t *testing.T) {
	bubble(t, Config{Rules: account.Config{TokenLife: 2 * time.Minute}}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("alice", "correct"))
		first := c.token()
		if got := time.Until(first.NotAfter); got > 2*time.Minute || got < time.Minute {
			t.Fatalf("valid for another %v, want two minutes", got)
		}
		renew := func() {
			t.Helper()
			conn := c.mustDial()
			defer conn.CloseWithError(link.CloseGoodbye, "")
			m, err := ask(conn, new(wire.AuthRenew))
			if err != nil {
				t.Fatal(err)
			}
			c.grant = wantGrant(t, m)
		}
		renew()
		if got := c.token(); got.Serial == first.Serial || got.Account != first.Account {
			t.Errorf("renewed to %+v, from %+v", got, first)
		}
		// "Renew after expiry with the device key alone for 90 days."
		l.away(89 * 24 * time.Hour)
		renew()
		c.token() // is valid now
		l.away(91 * 24 * time.Hour)
		conn, err := c.dial()
		if err == nil {
			_, err = ask(conn, new(wire.AuthRenew))
		}
		if e, ok := errors.AsType[*quic.TransportError](err); !ok || !e.ErrorCode.IsCryptoError() {
			t.Errorf("91 days after its end a token was met with %v, want a TLS alert", err)
		}
		wantGrant(t, c.login("alice", "correct"))
	})
}

// What a connection may ask for depends on its certificate.
func TestRoles(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		stranger := c.newDevice().mustDial()
		for _, m := range []wire.AuthMessage{new(wire.AuthPing), new(wire.AuthRenew), new(wire.AuthRoster)} {
			got, err := ask(stranger, m)
			if err != nil {
				t.Fatal(err)
			}
			wantRefusal(t, got, wire.CodeNotAuthenticated)
		}
		got, err := ask(stranger, new(wire.AuthPong))
		if err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, got, wire.CodeBadRequest)
		got, err = ask(stranger, &wire.AuthStart{Kind: wire.AuthLogin, Method: 2, Name: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, got, wire.CodeMethodUnknown)

		wantGrant(t, c.register("alice", "correct"))
		conn := c.mustDial()
		got, err = ask(conn, &wire.AuthPing{Nonce: 42})
		if pong, ok := got.(*wire.AuthPong); err != nil || !ok || pong.Nonce != 42 || pong.Time == 0 {
			t.Errorf("PING got %T %+v, %v", got, got, err)
		}
		got, err = ask(conn, &wire.AuthStart{Kind: wire.AuthLogin, Method: wire.AuthPrehash, Name: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, got, wire.CodeBadRequest)
	})
}

// "A connection with a self-signed certificate has a life of 15 s", and one
// with a token outlives it.
func TestStrangersLife(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("alice", "correct"))
		known := c.mustDial()
		stranger := c.newDevice().mustDial()
		if _, err := ask(stranger, new(wire.AuthPing)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		<-stranger.Context().Done()
		if code, ok := link.Closed(context.Cause(stranger.Context())); !ok || code != link.CloseIdle {
			t.Errorf("closed by %v, want the code idle", context.Cause(stranger.Context()))
		}
		if got := time.Since(begin); got < 14*time.Second || got > 16*time.Second {
			t.Errorf("after %v, want 15 s", got)
		}
		time.Sleep(time.Minute)
		if err := known.Context().Err(); err != nil {
			t.Errorf("the known one ended too: %v", context.Cause(known.Context()))
		}
		if st := l.srv.Stats(); st.Strangers != 0 || st.Online != 1 {
			t.Errorf("got %d strangers, %d online, want 0 and 1", st.Strangers, st.Online)
		}
	})
}

func TestStalledConversation(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("alice", "correct"))
		conn := c.mustDial()
		stream, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Write([]byte{0, 0}); err != nil { // half a length
			t.Fatal(err)
		}
		begin := time.Now()
		if m, err := link.ReadAuth(stream); err == nil {
			t.Errorf("got %T, want the stream's end", m)
		}
		if got := time.Since(begin); got < requestTime/2 || got > 2*requestTime {
			t.Errorf("given up after %v, want %v", got, requestTime)
		}
	})
}

func TestPushesCRL(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("alice", "correct"))
		bob := c.newDevice()
		wantGrant(t, bob.register("bob", "correct"))
		conn, bobs := c.mustDial(), bob.mustDial()
		v, err := realm.NewVerifier(l.srv.Realm().Root)
		if err != nil {
			t.Fatal(err)
		}
		next := func() uint64 {
			t.Helper()
			stream, err := conn.AcceptUniStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			m, err := link.ReadAuth(stream)
			crl, ok := m.(*wire.AuthCRL)
			if err != nil || !ok {
				t.Fatalf("got %T, %v, want a CRL", m, err)
			}
			if _, err := v.SetCRL(crl.Issuing, crl.CRL); err != nil {
				t.Fatal(err)
			}
			return v.CRL().Number
		}
		first := next()
		token := bob.token()
		if err := v.Check(token, time.Now()); err != nil {
			t.Fatalf("bob before: %v", err)
		}

		// The operator removes bob, by another program on the same database.
		operator, err := store.Open(filepath.Join(l.dir, DatabaseFile), l.srv.Realm().ID)
		if err != nil {
			t.Fatal(err)
		}
		defer operator.Close()
		reg := account.New(account.Config{}, operator)
		begin := time.Now()
		if err := reg.Remove(begin, "bob"); err != nil {
			t.Fatal(err)
		}
		if second := next(); second <= first {
			t.Errorf("list %d after %d, want a higher number", second, first)
		}
		// "What they change reaches running nodes within 5 s."
		if got := time.Since(begin); got > 5*time.Second {
			t.Errorf("after %v, want 5 s at most", got)
		}
		if err := v.Check(token, time.Now()); !errors.Is(err, realm.ErrRevoked) {
			t.Errorf("bob after: %v, want revoked", err)
		}
		<-bobs.Context().Done()
		if code, ok := link.Closed(context.Cause(bobs.Context())); !ok || code != link.CloseRevoked {
			t.Errorf("bob was closed by %v, want the code revoked", context.Cause(bobs.Context()))
		}
		if conn.Context().Err() != nil {
			t.Errorf("alice was closed too: %v", context.Cause(conn.Context()))
		}
		again, err := bob.dial()
		if err == nil {
			_, err = ask(again, new(wire.AuthPing))
		}
		if e, ok := errors.AsType[*quic.TransportError](err); !ok || !e.ErrorCode.IsCryptoError() {
			t.Errorf("bob comes back: %v, want a TLS alert", err)
		}
	})
}

func TestRoster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 60 // more than a page
		l := newLab(t, Config{
			Rules:      account.Config{StartsPerMinute: -1},
			LocalAddrs: func() []netip.Addr { return []netip.Addr{authdAddr.Addr()} },
		})
		var clients []*client
		for i := range n {
			clients = append(clients, l.client(fmt.Sprintf("10.0.1.%d:5000", i+1)))
		}
		local := l.client("127.0.0.1:6000")
		l.start()
		conns := make(map[wire.DeviceID]*quic.Conn)
		var want []wire.DeviceID
		for i, c := range append(clients, local) {
			wantGrant(t, c.register(fmt.Sprintf("user%d", i), "correct"))
			d := c.deviceKey().Device()
			conns[d] = c.mustDial()
			want = append(want, d)
		}
		time.Sleep(100 * time.Millisecond) // the last handshake ends for the client first
		if st := l.srv.Stats(); st.Online != n+1 {
			t.Errorf("got %d online, want %d", st.Online, n+1)
		}
		asker := clients[0].deviceKey().Device()
		want = slices.DeleteFunc(want, func(d wire.DeviceID) bool { return d == asker })
		slices.SortFunc(want, func(a, b wire.DeviceID) int { return slices.Compare(a[:], b[:]) })

		var serial uint64
		since := func(old uint64) (got []wire.DeviceID, addrs map[wire.DeviceID][]netip.AddrPort) {
			t.Helper()
			v, _ := realm.NewVerifier(l.srv.Realm().Root)
			addrs = make(map[wire.DeviceID][]netip.AddrPort)
			m := &wire.AuthRoster{Since: old}
			for {
				reply, err := ask(conns[asker], m)
				p, ok := reply.(*wire.AuthRosterPage)
				if err != nil || !ok {
					t.Fatalf("got %T, %v, want a page", reply, err)
				}
				for _, e := range p.Entries {
					token, err := v.Device([]*x509.Certificate{parse(t, e.Leaf), parse(t, p.Issuers[0])}, time.Now())
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, token.Device)
					addrs[token.Device] = e.Addrs
				}
				serial = p.Serial
				if !p.More {
					return got, addrs
				}
				m.After = got[len(got)-1]
			}
		}
		all := func() ([]wire.DeviceID, map[wire.DeviceID][]netip.AddrPort) { return since(0) }
		got, addrs := all()
		if !slices.Equal(got, want) {
			t.Errorf("got %d devices %v, want %d %v", len(got), got, len(want), want)
		}
		seven := clients[7].deviceKey().Device()
		if a := netip.MustParseAddrPort("10.0.1.8:5000"); !slices.Equal(addrs[seven], []netip.AddrPort{a}) {
			t.Errorf("got addresses %v, want %v", addrs[seven], a)
		}
		// A node on authd's own host is found at the host's address.
		if a := netip.MustParseAddrPort("10.0.0.1:6000"); !slices.Equal(addrs[local.deviceKey().Device()], []netip.AddrPort{a}) {
			t.Errorf("got addresses %v of the local node, want %v", addrs[local.deviceKey().Device()], a)
		}

		// What is new: who says that it is elsewhere too, and who comes.
		if got, _ := since(serial); len(got) > 0 {
			t.Errorf("got %v as new, want nobody", got)
		}
		said := []netip.AddrPort{netip.MustParseAddrPort("[fe80::8]:5000"), netip.MustParseAddrPort("127.0.0.1:5000"), netip.MustParseAddrPort("10.7.0.8:5000")}
		for range 2 { // the second time it is no news
			if reply, err := ask(conns[seven], &wire.AuthRoster{Addrs: said}); err != nil {
				t.Fatalf("got %v, %v, want a page", reply, err)
			}
		}
		got, addrs = since(serial)
		if want := []netip.AddrPort{netip.MustParseAddrPort("10.0.1.8:5000"), said[0], said[2]}; !slices.Equal(got, []wire.DeviceID{seven}) || !slices.Equal(addrs[seven], want) {
			t.Errorf("got %v at %v as new, want %v at %v", got, addrs[seven], seven, want)
		}
		late := clients[8]
		late.mustDial()
		time.Sleep(100 * time.Millisecond)
		if got, _ := since(serial); !slices.Equal(got, []wire.DeviceID{late.deviceKey().Device()}) {
			t.Errorf("got %v as new, want who came: %v", got, late.deviceKey().Device())
		}

		conns[seven].CloseWithError(link.CloseGoodbye, "")
		time.Sleep(time.Second)
		if got, _ := all(); slices.Contains(got, seven) || len(got) != n-1 {
			t.Errorf("who left is still there: %v", got)
		}
	})
}

func TestOldestConnectionOfDeviceGivesWay(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("alice", "correct"))
		var conns []*quic.Conn
		for range maxPerDevice + 1 {
			conns = append(conns, c.mustDial())
			time.Sleep(100 * time.Millisecond)
		}
		<-conns[0].Context().Done()
		if code, ok := link.Closed(context.Cause(conns[0].Context())); !ok || code != link.CloseReplaced {
			t.Errorf("closed by %v, want the code replaced", context.Cause(conns[0].Context()))
		}
		for _, conn := range conns[1:] {
			if conn.Context().Err() != nil {
				t.Errorf("another was closed: %v", context.Cause(conn.Context()))
			}
		}
		if st := l.srv.Stats(); st.Online != 1 {
			t.Errorf("got %d online, want 1 device", st.Online)
		}
	})
}

// Strangers fill their own places, never those of who has a token.
func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, Config{MaxPerAddress: 4, MaxStrangers: 10})
		a, b, member := l.client("10.0.0.2:5000"), l.client("10.0.0.3:5000"), l.client("10.0.0.4:5000")
		var more [6]*client
		for i := range more {
			more[i] = l.client(fmt.Sprintf("10.0.0.%d:5000", 10+i))
		}
		l.start()
		wantGrant(t, member.register("alice", "correct"))
		refused := func(c *client) {
			t.Helper()
			_, err := c.newDevice().dial()
			if e, ok := errors.AsType[*quic.TransportError](err); !ok || e.ErrorCode != quic.ConnectionRefused {
				t.Errorf("got %v, want the connection refused", err)
			}
		}
		for range 4 {
			a.newDevice().mustDial()
		}
		refused(a) // four from one address
		b.newDevice().mustDial()
		refused(b) // five, and not its first
		member.mustDial()
		for _, c := range more[:5] {
			c.mustDial()
		}
		time.Sleep(time.Second)
		refused(more[5]) // ten altogether
		time.Sleep(strangerLife)
		b.newDevice().mustDial()
		for range 2 {
			member.mustDial()
		}
	})
}

// "On shutdown a goodbye on every connection."
func TestGoodbye(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("alice", "correct"))
		conn := c.mustDial()
		if _, err := ask(conn, new(wire.AuthPing)); err != nil {
			t.Fatal(err)
		}
		l.stop()
		synctest.Wait()
		time.Sleep(10 * time.Millisecond)
		if code, ok := link.Closed(context.Cause(conn.Context())); !ok || code != link.CloseGoodbye {
			t.Errorf("closed by %v, want a goodbye", context.Cause(conn.Context()))
		}
	})
}

// "What the operator disables or revokes reaches running nodes within 5 s."
func TestShutOutWhileConnected(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		bob := c.newDevice()
		wantGrant(t, c.register("alice", "correct"))
		wantGrant(t, bob.register("bob", "correct"))
		operator, err := store.Open(filepath.Join(l.dir, DatabaseFile), l.srv.Realm().ID)
		if err != nil {
			t.Fatal(err)
		}
		defer operator.Close()
		reg := account.New(account.Config{}, operator)
		for _, tt := range []struct {
			c   *client
			out func() error
		}{
			{c, func() error { return operator.Revoke(c.deviceKey(), time.Now()) }},
			{bob, func() error { return reg.Disable(time.Now(), "bob") }},
		} {
			conn := tt.c.mustDial()
			if m, err := ask(conn, new(wire.AuthPing)); err != nil || m.FrameType() != wire.FrameAuthPong {
				t.Fatalf("before: got %T, %v", m, err)
			}
			begin := time.Now()
			if err := tt.out(); err != nil {
				t.Fatal(err)
			}
			<-conn.Context().Done()
			if got := time.Since(begin); got > 5*time.Second {
				t.Errorf("after %v, want 5 s at most", got)
			}
			if code, ok := link.Closed(context.Cause(conn.Context())); !ok || code != link.CloseRevoked {
				t.Errorf("closed by %v, want the code revoked", context.Cause(conn.Context()))
			}
		}
		if err := reg.Enable("bob"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		m, err := ask(bob.mustDial(), new(wire.AuthPing))
		if err != nil || m.FrameType() != wire.FrameAuthPong {
			t.Errorf("enabled again: got %T, %v", m, err)
		}
	})
}

// A muted socket's packets go nowhere, as after kill -9.
type muted struct {
	net.PacketConn
	off atomic.Bool
}

func (c *muted) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.off.Load() {
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, to)
}

// "StatelessResetKey kept on disk, so peers notice a restarted authd at once."
func TestRestartIsNoticedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, Config{})
		c := l.client("10.0.0.2:5000")
		pc := &muted{PacketConn: l.socket(authdAddr)}
		if err := l.net.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.net.Close() })
		l.run(pc)
		wantGrant(t, c.register("alice", "correct"))
		conn := c.mustDial()
		if _, err := ask(conn, new(wire.AuthPing)); err != nil {
			t.Fatal(err)
		}
		pc.off.Store(true)
		l.stop()
		pc.off.Store(false)
		l.run(pc)
		begin := time.Now()
		_, err := ask(conn, new(wire.AuthPing))
		if _, ok := errors.AsType[*quic.StatelessResetError](err); !ok {
			t.Errorf("got %v, want a stateless reset", err)
		}
		if got := time.Since(begin); got > time.Second {
			t.Errorf("after %v, want at once", got)
		}
	})
}

type failingStore struct {
	account.Store
	err error
}

func (s *failingStore) Create(account.Account, account.Device, realm.Grant) error { return s.err }

// "Refuse the request (try later), never issue a certificate that was not
// recorded."
func TestStoreFull(t *testing.T) {
	failing := &failingStore{err: fmt.Errorf("%w: disk full", account.ErrUnavailable)}
	bubble(t, Config{Store: failing}, func(t *testing.T, l *lab, c *client) {
		r := wantRefusal(t, c.register("alice", "correct"), wire.CodeUnavailable)
		if r.RetryAfter == 0 {
			t.Error("no time given to try again after")
		}
		if !strings.Contains(l.logged.String(), "disk full") {
			t.Errorf("the log does not say why:\n%s", l.logged)
		}
	})
}

// The loopback interface, files on disk.

func startLoopback(t testing.TB, dir string) (*lab, *client) {
	t.Helper()
	l := newLoopback(t, dir, Config{})
	return l, l.loopbackClient()
}

func newLoopback(t testing.TB, dir string, cfg Config) *lab {
	t.Helper()
	l := &lab{t: t, dir: dir, cfg: cfg, logged: new(logBuffer)}
	l.run(l.loopbackSocket())
	return l
}

func (l *lab) loopbackClient() *client {
	l.t.Helper()
	return l.clientOn(l.loopbackSocket(), addrOf(l.srv.Addr()))
}

func (l *lab) loopbackSocket() net.PacketConn {
	l.t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { pc.Close() })
	return pc
}

func TestRestartKeepsRealm(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "authd") // does not exist
	l, c := startLoopback(t, dir)
	wantGrant(t, c.register("alice", "correct"))
	first, grant, key := l.srv.Realm(), c.grant, c.key
	l.stop()

	l, c = startLoopback(t, dir)
	if got := l.srv.Realm(); got.ID != first.ID || got.Name != "test realm" {
		t.Fatalf("got realm %v %q, want %v", got.ID, got.Name, first.ID)
	}
	c.grant, c.key = grant, key // the token is still good
	m, err := ask(c.mustDial(), &wire.AuthPing{Nonce: 1})
	if _, ok := m.(*wire.AuthPong); !ok || err != nil {
		t.Errorf("got %T %+v, %v, want a PONG", m, m, err)
	}
	wantGrant(t, c.newDevice().login("alice", "correct"))

	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v, %v, want 0700", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want 0600", e.Name(), info.Mode(), err)
		}
	}
}

// A server that is killed after the commit and before the answer: the account
// is there, and the same person gets in with the same device.
func TestAnswerLost(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		conn := c.mustDial()
		stream, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := link.WriteAuth(stream, &wire.AuthStart{Kind: wire.AuthRegister, Method: wire.AuthPrehash, Name: "alice"}); err != nil {
			t.Fatal(err)
		}
		m, err := link.ReadAuth(stream)
		if err != nil {
			t.Fatal(err)
		}
		hash := prehash("correct", m.(*wire.AuthChallenge).Salt)
		if err := link.WriteAuth(stream, &wire.AuthFinish{Prehash: hash, Device: "laptop"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Microsecond) // it is on its way, its answer is not
		c.tr.Close()
		synctest.Wait()
		time.Sleep(time.Second)

		acct, err := l.st.Find("alice")
		if err != nil {
			t.Fatalf("committed, and then gone: %v", err)
		}
		if devices, err := l.st.Devices(acct.ID); err != nil || len(devices) != 1 {
			t.Errorf("got %d devices, %v, want 1", len(devices), err)
		}
		// The person tries again: the name is taken, by themselves.
		a, err := l.srv.reg.Start(time.Now(), account.Request{Name: "alice", Source: authdAddr.Addr()})
		if err != nil {
			t.Fatal(err)
		}
		g, err := l.srv.reg.Finish(time.Now(), a, hash, c.deviceKey(), "laptop")
		if err != nil || g.Account != acct.ID {
			t.Errorf("got %+v, %v, want account %v", g, err, acct.ID)
		}
	})
}

func chainOf(t testing.TB, ders [][]byte) (chain []*x509.Certificate) {
	t.Helper()
	for _, der := range ders {
		chain = append(chain, parse(t, der))
	}
	return chain
}

func TestMalformedRequests(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		conn := c.mustDial()
		requests := map[string][]byte{
			"no type":       {0, 0, 0, 0},
			"too long":      {0xff, 0xff, 0xff, 0xff, wire.FrameAuthStart},
			"unknown type":  link.AppendFrame(nil, 0xee, nil),
			"reserved type": link.AppendFrame(nil, 0x0c, nil),
			"empty START":   link.AppendFrame(nil, wire.FrameAuthStart, nil),
			"GRANT":         link.AppendFrame(nil, wire.FrameAuthGrant, new(wire.AuthGrant).Append(nil)),
			"FINISH first":  link.AppendFrame(nil, wire.FrameAuthFinish, new(wire.AuthFinish).Append(nil)),
			"cut off":       link.AppendFrame(nil, wire.FrameAuthRenew, nil)[:4],
			"nothing":       {},
		}
		for name, b := range requests {
			stream, err := conn.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			stream.Write(b) // it may be refused before the end
			stream.Close()
			m, err := link.ReadAuth(stream)
			if r, ok := m.(*wire.AuthRefusal); err != nil || !ok || r.Code != wire.CodeBadRequest {
				t.Errorf("%s: got %T %+v, %v, want a refusal, bad_request", name, m, m, err)
			}
		}
		if got := l.srv.Stats().Malformed; got != uint64(len(requests)) {
			t.Errorf("counted %d malformed, want %d", got, len(requests))
		}
		wantGrant(t, c.register("alice", "correct")) // it goes on
	})
}

// A log-in is a handshake, four frames and a commit that is on disk.
func BenchmarkLogIn(b *testing.B) {
	l := newLoopback(b, b.TempDir(), Config{Rules: account.Config{StartsPerMinute: -1}})
	c := l.loopbackClient()
	wantGrant(b, c.register("alice", "correct"))
	for b.Loop() {
		wantGrant(b, c.login("alice", "correct"))
	}
}

// fakeDiscovery records what it is told.
type fakeDiscovery struct {
	mu  sync.Mutex
	got []string
}

func (d *fakeDiscovery) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, fmt.Sprintf(format, args...))
}

func (d *fakeDiscovery) Run(ctx context.Context) error {
	d.note("run")
	<-ctx.Done()
	d.note("goodbye")
	return nil
}

func (d *fakeDiscovery) Vouch(devices ...wire.DeviceID) { d.note("vouch %v", devices) }
func (d *fakeDiscovery) Unvouch(device wire.DeviceID)   { d.note("unvouch %v", device) }

func TestTellsDiscovery(t *testing.T) {
	disc := new(fakeDiscovery)
	bubble(t, Config{Discovery: disc}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("alice", "correct"))
		conn := c.mustDial()
		if _, err := ask(conn, new(wire.AuthPing)); err != nil {
			t.Fatal(err)
		}
		operator, err := store.Open(filepath.Join(l.dir, DatabaseFile), l.srv.Realm().ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(operator.Revoke(c.deviceKey(), time.Now()), operator.Close()); err != nil {
			t.Fatal(err)
		}
		<-conn.Context().Done()
		l.stop()
		d := c.deviceKey().Device()
		want := []string{"run", fmt.Sprintf("vouch [%v]", d), fmt.Sprintf("unvouch %v", d), "goodbye"}
		if !slices.Equal(disc.got, want) {
			t.Errorf("got %q, want %q", disc.got, want)
		}
	})
}

// A thousand guesses, first from one source and then from many, get as far as
// the limits say, and the owner, who has a token, does not notice. Machines count
// once for each of their addresses, of both families: the account counts them
// all.
func TestThousandGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, Config{})
		owner := l.client("10.0.0.2:5000")
		one := l.client("10.0.1.1:5000")
		var many []*client
		for i := range 50 {
			many = append(many, l.client(fmt.Sprintf("10.0.2.%d:5000", i+1)), l.client(fmt.Sprintf("[fd00::2:%x]:5000", i+1)))
		}
		l.start()
		wantGrant(t, owner.register("alice", "correct"))
		session := owner.mustDial()
		undisturbed := func() {
			t.Helper()
			for _, m := range []wire.AuthMessage{new(wire.AuthPing), new(wire.AuthRenew)} {
				answer, err := ask(session, m)
				if r, refused := answer.(*wire.AuthRefusal); err != nil || refused {
					t.Fatalf("the owner's %T: %+v, %v", m, r, err)
				}
			}
			again, err := owner.dial() // with the token
			if err != nil {
				t.Fatalf("the owner connects again: %v", err)
			}
			defer again.CloseWithError(link.CloseGoodbye, "")
			if answer, err := ask(again, new(wire.AuthPing)); err != nil {
				t.Fatalf("the owner asks again: %+v, %v", answer, err)
			}
		}
		guesses := 0
		guess := func(c *client) wire.Code {
			t.Helper()
			if guesses++; guesses%100 == 0 {
				undisturbed()
			}
			r, ok := c.newDevice().login("alice", fmt.Sprint("guess ", guesses)).(*wire.AuthRefusal)
			if !ok {
				t.Fatal("a guess was right")
			}
			return r.Code
		}

		// One source, a guess a second: after five the delays double.
		got := map[wire.Code]int{}
		for range 500 {
			got[guess(one)]++
			time.Sleep(time.Second)
		}
		tried := got[wire.CodeBadCredentials]
		if tried < 5 || tried > 14 || tried+got[wire.CodeRateLimited] != 500 {
			t.Errorf("from one source %d passwords were tried; the answers were %v", tried, got)
		}

		// Many sources, five guesses each: together a hundred.
		clear(got)
		for range 5 {
			for _, c := range many {
				got[guess(c)]++
			}
		}
		if got[wire.CodeBadCredentials] != 100-tried || got[wire.CodeAccountLocked] != 400+tried {
			t.Errorf("from many sources the answers were %v, after %d", got, tried)
		}
		undisturbed()
		wantRefusal(t, many[0].newDevice().login("alice", "correct"), wire.CodeAccountLocked)
		if err := l.srv.reg.Unlock("alice"); err != nil {
			t.Fatal(err)
		}
		wantGrant(t, many[0].newDevice().login("alice", "correct"))
	})
}

// Certificates that are stolen, foreign, forged, no leaves or ended too
// long ago get nobody in, and nothing of them is seen.
func TestImpostors(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, owner *client) {
		old := owner.newDevice()
		wantGrant(t, old.register("oldie", "correct"))
		l.away(realm.TokenLife + realm.RenewGrace + time.Hour)
		wantGrant(t, owner.register("alice", "correct"))
		mallory := owner.newDevice()
		wantGrant(t, mallory.register("mallory", "correct"))
		now := time.Now()
		leaf, issuing := parse(t, owner.grant.Leaf), parse(t, owner.grant.Issuing)
		root, err := realm.NewRoot(rand.Reader, l.srv.Realm().Name, now)
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := root.IssueCA(rand.Reader, now, 0)
		if err != nil {
			t.Fatal(err)
		}
		// forged is a token of alice's account for mallory's key, signed by ca.
		forged := func(ca *realm.CA) *x509.Certificate {
			cert, err := ca.IssueToken(rand.Reader, realm.Grant{Account: owner.token().Account, Key: mallory.deviceKey(), Name: "alice", NameSeq: 9, From: now})
			if err != nil {
				t.Fatal(err)
			}
			return cert
		}
		own := parse(t, mallory.grant.Leaf)
		bare, err := realm.SelfSigned(mallory.key)
		if err != nil {
			t.Fatal(err)
		}
		authd, err := l.srv.keys.identity()
		if err != nil {
			t.Fatal(err)
		}
		issuer := l.srv.keys.issuer()
		for name, id := range map[string]link.Identity{
			"a token without its key":                  link.Fixed(mallory.key, leaf, issuing),
			"a token of a realm of the same name":      link.Fixed(mallory.key, forged(foreign), foreign.Cert, root.Cert),
			"the same with the right issuer beside it": link.Fixed(mallory.key, forged(foreign), issuing),
			"a token that a token has signed":          link.Fixed(mallory.key, forged(&realm.CA{Realm: issuer.Realm, Cert: own, Key: mallory.key}), own, issuing),
			"a token without its issuer":               link.Fixed(mallory.key, own),
			"a token that ended long ago":              link.Fixed(old.key, parse(t, old.grant.Leaf), parse(t, old.grant.Issuing)),
			"two certificates of its own":              link.Fixed(mallory.key, bare, bare),
			"the issuing CA":                           link.Fixed(issuer.Key, issuer.Cert, l.srv.Realm().Root),
			"authd itself":                             func() (*tls.Certificate, error) { return authd, nil },
			"nothing":                                  func() (*tls.Certificate, error) { return new(tls.Certificate), nil },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			conn, err := link.DialAuthd(ctx, mallory.tr, mallory.to, id, func([]*x509.Certificate) error { return nil })
			if err == nil {
				_, err = ask(conn, new(wire.AuthRenew))
				conn.CloseWithError(link.CloseGoodbye, "")
			}
			cancel()
			if e, ok := errors.AsType[*quic.TransportError](err); !ok || !e.Remote || !e.ErrorCode.IsCryptoError() {
				t.Errorf("%s: got %v, want a refusal in the handshake", name, err)
			}
			if st := l.srv.Stats(); st.Online != 0 || st.Renewed != 0 {
				t.Errorf("%s: %d online, %d renewed", name, st.Online, st.Renewed)
			}
		}
		if answer, err := ask(owner.mustDial(), new(wire.AuthRenew)); err != nil {
			t.Errorf("the owner renews: %v", err)
		} else {
			wantGrant(t, answer)
		}
	})
}

// However many certificates of one's devices are good, and whoever is shut out,
// there is a revocation list, which names them.
func TestManyShutOut(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		bob := c.newDevice()
		wantGrant(t, c.register("alice", "correct"))
		wantGrant(t, bob.register("bob", "correct"))
		token := bob.token()
		for i := range realm.MaxRevoked + 100 { // as fifty devices have in a month
			g := realm.Grant{Serial: realm.Serial{1, byte(i >> 8), byte(i)}, Account: token.Account, Key: token.Key,
				Name: token.Name, NameSeq: token.NameSeq, From: token.NotBefore.Add(realm.Backdate), NotAfter: token.NotAfter}
			if err := l.st.Renew(g); err != nil {
				t.Fatal(err)
			}
		}
		conn := c.mustDial()
		v, err := realm.NewVerifier(l.srv.Realm().Root)
		if err != nil {
			t.Fatal(err)
		}
		if err := account.New(account.Config{}, l.st).Disable(time.Now(), "bob"); err != nil {
			t.Fatal(err)
		}
		l.srv.look()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for v.Check(token, time.Now()) == nil {
			stream, err := conn.AcceptUniStream(ctx)
			if err != nil {
				t.Fatalf("no list names bob: %v\n%s", err, l.logged)
			}
			m, err := link.ReadAuth(stream)
			if crl, ok := m.(*wire.AuthCRL); err != nil || !ok {
				t.Fatalf("got %T, %v, want a CRL", m, err)
			} else if _, err := v.SetCRL(crl.Issuing, crl.CRL); err != nil {
				t.Fatal(err)
			}
		}
		if got := v.CRL().Len(); got != 1 {
			t.Errorf("the list has %d entries, want one", got)
		}
	})
}
