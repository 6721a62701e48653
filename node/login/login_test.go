package login

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"
	"go.uber.org/goleak"

	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const goodPassword = "vexed-otter-plinth"

var (
	authdAddr  = netip.MustParseAddrPort("10.0.0.1:4747")
	rogueAddr  = netip.MustParseAddrPort("10.0.0.2:4747")
	nobodyAddr = netip.MustParseAddrPort("10.0.0.3:4747")
	nodeAddr   = netip.MustParseAddrPort("10.0.0.9:5000")
)

// A lan is a simulated network with a node, an authd and a second host that
// can be anything. It lives in a synctest bubble.
type lan struct {
	t       *testing.T
	node    *quic.Transport
	authd   *authd
	second  *quic.Transport
	profile *Profile
	dir     string
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{t: t, dir: filepath.Join(t.TempDir(), "node")}
	n := &simnet.Simnet{Router: &simnet.PerfectRouter{}}
	host := func(addr netip.AddrPort) *quic.Transport {
		sim := n.NewEndpoint(net.UDPAddrFromAddrPort(addr), simnet.NodeBiDiLinkSettings{Latency: time.Millisecond})
		t.Cleanup(func() { sim.Close() })
		tr := link.NewTransport(sim, nil)
		t.Cleanup(func() { tr.Close() })
		return tr
	}
	host(nobodyAddr)
	l.node, l.second = host(nodeAddr), host(rogueAddr)
	first := host(authdAddr)
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	l.authd = newAuthd(t)
	l.authd.serve(first)
	l.open()
	return l
}

// open opens the profile, as a program that is started anew does.
func (l *lan) open() {
	l.t.Helper()
	p, err := Open(l.dir)
	if err != nil {
		l.t.Fatal(err)
	}
	l.profile = p
}

func (l *lan) config() Config { return Config{Profile: l.profile, Trust: Trust{First: true}} }

func (l *lan) dial(c Config) *Session {
	l.t.Helper()
	s, err := Dial(l.t.Context(), l.node, authdAddr, c)
	if err != nil {
		l.t.Fatalf("dialling authd: %v", err)
	}
	l.t.Cleanup(func() { s.Close() })
	return s
}

// register registers and dials again.
func (l *lan) register(name string) *Session {
	l.t.Helper()
	s := l.dial(l.config())
	if _, err := s.Register(l.t.Context(), name, goodPassword, nil, "laptop"); err != nil {
		l.t.Fatalf("registering: %v", err)
	}
	s.Close()
	return l.dial(l.config())
}

// files returns what the profile has on disk, to see whether it changes.
func (l *lan) files() string {
	l.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s:\n%s\n", d.Name(), data)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return b.String()
}

// An authd is a small server that keeps to the protocol, or not, as a test
// wants.
type authd struct {
	t        testing.TB
	root     *realm.CA
	issuing  *realm.CA
	key      ed25519.PrivateKey
	chain    []*x509.Certificate
	verifier *realm.Verifier
	ahead    time.Duration // of its clock

	mu       sync.Mutex
	accounts map[string]*account
	said     []wire.AuthMessage // all that it was asked
	conns    []*quic.Conn
	number   uint64
	revoked  []realm.Revoked
	// answer, if set, has the last word on every answer. nil says nothing.
	answer func(asked, answer wire.AuthMessage) wire.AuthMessage
	close  func()
}

type account struct {
	id      wire.AccountID
	salt    [16]byte
	prehash [32]byte
}

func newAuthd(t testing.TB) *authd {
	t.Helper()
	a := &authd{t: t, accounts: make(map[string]*account)}
	now := time.Now()
	var err error
	if a.root, err = realm.NewRoot(rand.Reader, "testing", now); err != nil {
		t.Fatal(err)
	}
	if a.issuing, err = a.root.IssueCA(rand.Reader, now, 0); err != nil {
		t.Fatal(err)
	}
	if a.verifier, err = realm.NewVerifier(a.root.Cert); err != nil {
		t.Fatal(err)
	}
	a.certify(now, 0)
	return a
}

// certify makes authd's own certificate.
func (a *authd) certify(from time.Time, life time.Duration) {
	a.t.Helper()
	pub, key, _ := ed25519.GenerateKey(nil)
	cert, err := a.root.IssueAuthd(rand.Reader, pub, from, life)
	if err != nil {
		a.t.Fatal(err)
	}
	a.key, a.chain = key, []*x509.Certificate{cert, a.root.Cert}
}

func (a *authd) now() time.Time { return time.Now().Add(a.ahead) }

// serve serves on tr until close or the end of the test.
func (a *authd) serve(tr *quic.Transport) {
	a.t.Helper()
	ln, err := link.ListenAuthd(tr, link.Fixed(a.key, a.chain...), a.verifier, a.now)
	if err != nil {
		a.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			a.mu.Lock()
			a.conns = append(a.conns, conn)
			a.mu.Unlock()
			running.Go(func() { a.talk(conn) })
		}
	})
	a.close = sync.OnceFunc(func() {
		ln.Close()
		a.mu.Lock()
		for _, c := range a.conns {
			c.CloseWithError(link.CloseGoodbye, "")
		}
		a.mu.Unlock()
		running.Wait()
	})
	a.t.Cleanup(a.close)
}

func (a *authd) talk(conn *quic.Conn) {
	key, token, err := link.AuthdClient(conn, a.verifier, a.now())
	if err != nil {
		conn.CloseWithError(link.CloseRevoked, "")
		return
	}
	var streams sync.WaitGroup
	defer streams.Wait()
	for {
		s, err := conn.AcceptStream(context.Background())
		if err != nil {
			return
		}
		streams.Go(func() {
			defer s.Close()
			var start *wire.AuthStart
			for {
				m, err := link.ReadAuth(s)
				if err != nil {
					return
				}
				a.mu.Lock()
				a.said = append(a.said, m)
				answer := a.reply(m, start, key, token)
				if a.answer != nil {
					answer = a.answer(m, answer)
				}
				a.mu.Unlock()
				if answer == nil {
					<-conn.Context().Done() // leaves the node waiting
					return
				}
				link.WriteAuth(s, answer)
				var again bool
				if start, again = m.(*wire.AuthStart); !again {
					return
				}
			}
		})
	}
}

// reply keeps to the protocol. mu is held.
func (a *authd) reply(m wire.AuthMessage, start *wire.AuthStart, key wire.DeviceKey, token *realm.Token) wire.AuthMessage {
	switch m := m.(type) {
	case *wire.AuthStart:
		acc := a.accounts[m.Name]
		if m.Kind == wire.AuthRegister && acc != nil {
			return &wire.AuthRefusal{Code: wire.CodeNameTaken, Text: "not available"}
		}
		c := &wire.AuthChallenge{Time: wire.UnixMilli(a.now()), MinLength: 8, MinScore: 3}
		if acc != nil {
			c.Salt = acc.salt
		}
		return c
	case *wire.AuthFinish:
		acc := a.accounts[start.Name]
		if start.Kind == wire.AuthRegister {
			acc = &account{id: wire.AccountID{byte(len(a.accounts) + 1)}, prehash: m.Prehash}
			a.accounts[start.Name] = acc
		}
		if acc == nil || subtle.ConstantTimeCompare(acc.prehash[:], m.Prehash[:]) == 0 {
			return &wire.AuthRefusal{Code: wire.CodeBadCredentials, RetryAfter: 2, Text: "wrong name or password"}
		}
		return a.grant(realm.Grant{Account: acc.id, Key: key, Name: start.Name, NameSeq: 1, From: a.now()})
	case *wire.AuthRenew:
		if token == nil {
			return &wire.AuthRefusal{Code: wire.CodeNotAuthenticated}
		}
		return a.grant(realm.Grant{Account: token.Account, Key: key, Name: token.Name, NameSeq: token.NameSeq, From: a.now()})
	case *wire.AuthPing:
		return &wire.AuthPong{Nonce: m.Nonce, Time: wire.UnixMilli(a.now())}
	case *wire.AuthRoster:
		return &wire.AuthRosterPage{}
	}
	return &wire.AuthRefusal{Code: wire.CodeBadRequest}
}

func (a *authd) grant(g realm.Grant) *wire.AuthGrant {
	leaf, err := a.issuing.IssueToken(rand.Reader, g)
	if err != nil {
		a.t.Error(err)
		return nil
	}
	return &wire.AuthGrant{Leaf: leaf.Raw, Issuing: a.issuing.Cert.Raw, Root: a.root.Cert.Raw, CRL: a.list(), Time: wire.UnixMilli(a.now())}
}

// list makes the revocation list; nil if there is none.
func (a *authd) list() []byte {
	if a.number == 0 {
		return nil
	}
	der, err := a.issuing.RevocationList(a.number, a.revoked, a.now())
	if err != nil {
		a.t.Error(err)
	}
	return der
}

// revoke pushes a list with one more token on it to everybody.
func (a *authd) revoke(t *realm.Token) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	a.revoked = append(a.revoked, realm.Revoked{Serial: t.Serial, At: a.now()})
	a.push(&wire.AuthCRL{Issuing: a.issuing.Cert.Raw, CRL: a.list(), Time: wire.UnixMilli(a.now())})
}

func (a *authd) push(m wire.AuthMessage) {
	for _, c := range a.conns {
		if s, err := c.OpenUniStream(); err == nil {
			link.WriteAuth(s, m)
			s.Close()
		}
	}
}

// asked returns how many messages of m's type authd was asked.
func asked[M wire.AuthMessage](a *authd) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.said {
		if _, ok := m.(M); ok {
			n++
		}
	}
	return n
}

func wantRefusal(t *testing.T, err error, code wire.Code) *RefusedError {
	t.Helper()
	e, ok := errors.AsType[*RefusedError](err)
	if !ok || e.Code != code {
		t.Errorf("got %v, want refusal %v", err, code)
		return new(RefusedError)
	}
	return e
}

func TestRegisterAndRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		s := l.dial(l.config())
		if s.Token() != nil || l.profile.Token() != nil {
			t.Error("there is a token before there can be one")
		}
		if _, err := s.Renew(t.Context()); err != ErrNoToken {
			t.Errorf("renewing nothing: %v", err)
		}
		if _, _, err := s.Roster(t.Context(), 0, nil); err != ErrNoToken {
			t.Errorf("roster without a token: %v", err)
		}
		token, err := s.Register(t.Context(), "alice", goodPassword, nil, "laptop")
		if err != nil {
			t.Fatal(err)
		}
		if token.Name != "alice" || token.Key != l.profile.DeviceKey() || token != l.profile.Token() {
			t.Errorf("token %+v", token)
		}
		s.Close()

		// A program that is started anew is logged in.
		l.open()
		if got := l.profile.Token(); got == nil || got.Serial != token.Serial || got.Name != "alice" {
			t.Fatalf("token after a restart: %+v", got)
		}
		if pin := l.profile.Pin(); pin == nil || pin.ID != l.authd.root.Realm || pin.Name != "testing" || pin.Address != authdAddr || pin.Since.IsZero() {
			t.Errorf("pin after a restart: %+v", pin)
		}
		s = l.dial(Config{Profile: l.profile}) // the realm is trusted by now
		if s.Token() == nil || s.Token().Serial != token.Serial {
			t.Errorf("token presented: %+v", s.Token())
		}
		if rtt, err := s.Ping(t.Context()); err != nil || rtt != 2*time.Millisecond {
			t.Errorf("ping: %v, %v", rtt, err)
		}
		time.Sleep(time.Hour)
		renewed, err := s.Renew(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if renewed.Serial == token.Serial || !renewed.NotAfter.After(token.NotAfter) || renewed.Account != token.Account {
			t.Errorf("renewed %+v from %+v", renewed, token)
		}
		if cert, err := l.profile.Identity(); err != nil || string(cert.Certificate[0]) != string(renewed.Leaf) {
			t.Errorf("the renewed token is not the one presented: %v", err)
		}
		l.open()
		if got := l.profile.Token(); got == nil || got.Serial != renewed.Serial {
			t.Errorf("token after a restart: %+v", got)
		}
		if err := l.profile.Forget(); err != nil {
			t.Error(err)
		}
		if _, err := l.profile.Identity(); err != ErrNoToken {
			t.Errorf("identity after logging out: %v", err)
		}
		l.open()
		if l.profile.Token() != nil || l.profile.Pin() == nil {
			t.Error("logging out: the token is still there, or the realm is gone")
		}
	})
}

// An expired token is good for renewal for 90 days, and for nothing at peers.
func TestRenewAfterExpiry(t *testing.T) {
	for _, tt := range []struct {
		away time.Duration
		want bool
	}{{119 * 24 * time.Hour, true}, {121 * 24 * time.Hour, false}} {
		synctest.Test(t, func(t *testing.T) {
			l := newLAN(t)
			l.register("alice").Close()
			time.Sleep(tt.away)
			l.authd.close()
			l.authd.certify(time.Now(), 0)
			l.authd.serve(l.second)
			s, err := Dial(t.Context(), l.node, rogueAddr, l.config()) // authd has moved
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if (s.Token() != nil) != tt.want {
				t.Fatalf("after %v the token presented is %+v", tt.away, s.Token())
			}
			if err := l.profile.Verifier().Check(l.profile.Token(), l.profile.Now()); !errors.Is(err, realm.ErrExpired) {
				t.Errorf("after %v: %v", tt.away, err)
			}
			if tt.want {
				if _, err := s.Renew(t.Context()); err != nil {
					t.Errorf("renewing: %v", err)
				}
				if got := l.profile.Pin().Address; got != rogueAddr {
					t.Errorf("authd was last found at %v", got)
				}
			} else if _, err := s.Login(t.Context(), "alice", goodPassword, "laptop"); err != nil {
				t.Errorf("logging in again: %v", err)
			}
			if err := l.profile.Verifier().Check(l.profile.Token(), l.profile.Now()); err != nil {
				t.Errorf("the new token: %v", err)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		l.register("alice").Close()
		if err := l.profile.Forget(); err != nil {
			t.Fatal(err)
		}
		s := l.dial(l.config())
		before := l.files()
		_, err := s.Login(t.Context(), "alice", goodPassword+"!", "laptop")
		if e := wantRefusal(t, err, wire.CodeBadCredentials); e.RetryAfter != 2*time.Second || e.Text != "wrong name or password" {
			t.Errorf("refusal %+v", e)
		}
		_, err = s.Login(t.Context(), "nobody", goodPassword, "laptop")
		wantRefusal(t, err, wire.CodeBadCredentials)
		_, err = s.Register(t.Context(), "alice", goodPassword, nil, "laptop")
		wantRefusal(t, err, wire.CodeNameTaken)
		if l.files() != before || l.profile.Token() != nil {
			t.Error("refused log-ins leave something behind")
		}
		token, err := s.Login(t.Context(), "alice", goodPassword, "laptop")
		if err != nil || token.Name != "alice" {
			t.Errorf("logging in: %+v, %v", token, err)
		}
	})
}

// What can be refused here is: the password of a refused registration does not
// leave the machine, hashed or not.
func TestRefusedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		s := l.dial(l.config())
		for _, name := range []string{"", "Alice", "a", "al ice", "аlice"} {
			_, err := s.Register(t.Context(), name, goodPassword, nil, "laptop")
			wantRefusal(t, err, wire.CodeBadName)
			_, err = s.Login(t.Context(), name, goodPassword, "laptop")
			wantRefusal(t, err, wire.CodeBadName)
		}
		if n := asked[*wire.AuthStart](l.authd); n != 0 {
			t.Errorf("authd was asked %d times for impossible names", n)
		}
		for password, want := range map[string]error{
			"short":                realm.ErrPasswordShort,
			"password1":            realm.ErrPasswordWeak,
			"carlotta":             realm.ErrPasswordWeak,
			"an \x1b escape in it": realm.ErrPasswordChars,
		} {
			_, err := s.Register(t.Context(), "carlotta", password, nil, "laptop")
			if e := wantRefusal(t, err, wire.CodeWeakPassword); !errors.Is(e, want) {
				t.Errorf("password %q: %v, want %v", password, err, want)
			}
		}
		// A realm may ask for more.
		l.authd.mu.Lock()
		l.authd.answer = func(_, a wire.AuthMessage) wire.AuthMessage {
			if c, ok := a.(*wire.AuthChallenge); ok {
				c.MinLength = 30
			}
			return a
		}
		l.authd.mu.Unlock()
		_, err := s.Register(t.Context(), "carlotta", goodPassword, nil, "laptop")
		if e, ok := errors.AsType[*realm.PasswordError](err); !ok || e.MinLength != 30 {
			t.Errorf("a realm that wants 30 characters: %v", err)
		}
		if n := asked[*wire.AuthFinish](l.authd); n != 0 {
			t.Errorf("%d prehashes were sent", n)
		}
	})
}

func TestTrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		right := realm.FingerprintOf(l.authd.root.Realm)
		wrong := right
		wrong[0] ^= 1
		var shown []realm.Realm
		say := func(answer bool) func(realm.Realm) bool {
			return func(r realm.Realm) bool {
				shown = append(shown, r)
				time.Sleep(time.Minute) // people take their time
				return answer
			}
		}
		tests := []struct {
			name  string
			trust Trust
			ok    bool
			asks  int
		}{
			{"nothing", Trust{}, false, 0},
			{"code", Trust{Code: &realm.JoinCode{Realm: right}}, true, 0},
			{"code with invite", Trust{Code: &realm.JoinCode{Realm: right, Invite: []byte("12345678")}}, true, 0},
			{"wrong code", Trust{Code: &realm.JoinCode{Realm: wrong}}, false, 0},
			{"wrong code, though first", Trust{Code: &realm.JoinCode{Realm: wrong}, First: true}, false, 0},
			{"wrong code, though asked", Trust{Code: &realm.JoinCode{Realm: wrong}, Ask: say(true)}, false, 0},
			{"fingerprint", Trust{Fingerprint: &right}, true, 0},
			{"wrong fingerprint", Trust{Fingerprint: &wrong}, false, 0},
			{"first", Trust{First: true}, true, 0},
			{"yes", Trust{Ask: say(true)}, true, 1},
			{"no", Trust{Ask: say(false)}, false, 1},
		}
		for _, tt := range tests {
			shown = nil
			l.dir = filepath.Join(t.TempDir(), "node")
			l.open()
			s, err := Dial(t.Context(), l.node, authdAddr, Config{Profile: l.profile, Trust: tt.trust})
			if (err == nil) != tt.ok {
				t.Errorf("%s: %v", tt.name, err)
			}
			if err == nil {
				s.Close()
			} else if e, ok := errors.AsType[*UntrustedError](err); !ok || !errors.Is(err, ErrUntrusted) ||
				e.Realm.Fingerprint() != right || e.Realm.Name != "testing" || e.Address != authdAddr || e.Declined != (tt.asks > 0) {
				t.Errorf("%s: %#v", tt.name, err)
			}
			if len(shown) != tt.asks || tt.asks > 0 && shown[0].ID != l.authd.root.Realm {
				t.Errorf("%s: asked %d times: %v", tt.name, len(shown), shown)
			}
			l.open()
			if pin := l.profile.Pin(); (pin != nil) != tt.ok {
				t.Errorf("%s: pinned %v", tt.name, pin)
			}
		}
		if n := len(l.authd.said); n != 0 {
			t.Errorf("authd was asked %d times", n)
		}
	})
}

// Another realm of the same name answers. Nobody who has pinned the true
// one says anything to it.
func TestAnotherRealm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		l.register("alice").Close()
		rogue := newAuthd(t)
		rogue.serve(l.second)
		right, wrong := realm.FingerprintOf(l.authd.root.Realm), realm.FingerprintOf(rogue.root.Realm)
		since := l.profile.Pin().Since
		time.Sleep(48 * time.Hour)
		before := l.files()

		yes := func(realm.Realm) bool { t.Error("a person is asked"); return true }
		for name, trust := range map[string]Trust{
			"nothing": {}, "first": {First: true}, "ask": {Ask: yes},
			"its code, without being told to replace": {Code: &realm.JoinCode{Realm: wrong}},
			"its fingerprint":                         {Fingerprint: &wrong},
			"the right code":                          {Code: &realm.JoinCode{Realm: right}},
			"replacing by the right code":             {Code: &realm.JoinCode{Realm: right}, Replace: true},
			"replacing by nothing in particular":      {First: true, Replace: true},
		} {
			_, err := Dial(t.Context(), l.node, rogueAddr, Config{Profile: l.profile, Trust: trust})
			e, ok := errors.AsType[*FingerprintChangedError](err)
			if !ok || !errors.Is(err, ErrFingerprintChanged) {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if e.Pinned != right || e.Found != wrong || !e.Since.Equal(since) || e.At.Sub(since) < 48*time.Hour || e.Address != rogueAddr || e.SameAddress {
				t.Errorf("%s: %+v", name, e)
			}
			if flags := strings.HasPrefix(name, "its "); strings.Contains(err.Error(), "answers") == flags {
				t.Errorf("%s: nobody was asked, %v; said %q", name, flags, err)
			}
		}
		if l.files() != before {
			t.Error("the profile has changed")
		}
		// At the address where the true one was last.
		l.authd.close()
		rogue.close()
		l.authd, rogue = newAuthd(t), l.authd
		l.authd.serve(l.second)
		if err := l.profile.found(rogueAddr); err != nil {
			t.Fatal(err)
		}
		before = l.files()
		_, err := Dial(t.Context(), l.node, rogueAddr, Config{Profile: l.profile})
		if e, ok := errors.AsType[*FingerprintChangedError](err); !ok || !e.SameAddress {
			t.Errorf("at the same address: %v", err)
		}
		if len(rogue.said)+len(l.authd.said) != len(rogue.said) {
			t.Errorf("the rogue was asked: %v", l.authd.said)
		}
		if l.files() != before || l.profile.Token() == nil {
			t.Error("the profile has changed")
		}

		// The way out: the person names the new realm.
		wrong = realm.FingerprintOf(l.authd.root.Realm)
		s, err := Dial(t.Context(), l.node, rogueAddr, Config{Profile: l.profile, Trust: Trust{Code: &realm.JoinCode{Realm: wrong}, Replace: true}})
		if err != nil {
			t.Fatalf("replacing: %v", err)
		}
		defer s.Close()
		if l.profile.Pin().Fingerprint() != wrong || l.profile.Token() != nil || s.Token() != nil {
			t.Errorf("after replacing: pin %v, token %v", l.profile.Pin(), l.profile.Token())
		}
		if _, err := s.Register(t.Context(), "alice", goodPassword, nil, "laptop"); err != nil {
			t.Errorf("registering in the new realm: %v", err)
		}
	})
}

// What answers is not authd, or its certificate is no good.
func TestNotAuthd(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(l *lan, a *authd)
		want  error
	}{
		{"a member", func(l *lan, a *authd) {
			pub, key, _ := ed25519.GenerateKey(nil)
			leaf, err := a.issuing.IssueToken(rand.Reader, realm.Grant{Account: wire.AccountID{1}, Key: wire.KeyOf(pub), Name: "mallory", NameSeq: 1, From: time.Now()})
			if err != nil {
				l.t.Fatal(err)
			}
			a.key, a.chain = key, []*x509.Certificate{leaf, a.issuing.Cert, a.root.Cert}
		}, realm.ErrRole},
		{"expired", func(l *lan, a *authd) { a.certify(time.Now(), time.Hour); time.Sleep(2 * time.Hour) }, realm.ErrExpired},
		{"not yet valid", func(l *lan, a *authd) { a.certify(time.Now().Add(time.Hour), 0) }, realm.ErrNotYetValid},
		{"the issuing CA", func(l *lan, a *authd) {
			a.key, a.chain = a.issuing.Key, []*x509.Certificate{a.issuing.Cert, a.root.Cert}
		}, realm.ErrRole},
		{"the root itself", func(l *lan, a *authd) { a.key, a.chain = a.root.Key, []*x509.Certificate{a.root.Cert} }, realm.ErrRole},
		{"of another realm, with this root", func(l *lan, a *authd) {
			other := newAuthd(l.t)
			a.key, a.chain = other.key, []*x509.Certificate{other.chain[0], a.root.Cert}
		}, realm.ErrForeign},
		{"without root", func(l *lan, a *authd) { a.chain = a.chain[:1] }, realm.ErrProfile},
		{"copied without its key", func(l *lan, a *authd) { _, a.key, _ = ed25519.GenerateKey(nil) }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLAN(t)
				l.authd.close()
				tt.spoil(l, l.authd)
				l.authd.serve(l.second)
				_, err := Dial(t.Context(), l.node, rogueAddr, l.config()) // at first contact
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("at first contact: %v, want %v", err, tt.want)
				}
				if l.profile.Pin() != nil {
					t.Errorf("pinned %v", l.profile.Pin())
				}
				r, err := realm.OfRoot(l.authd.root.Cert)
				if err != nil {
					t.Fatal(err)
				}
				if err := l.profile.trust(r, rogueAddr, time.Now()); err != nil {
					t.Fatal(err)
				}
				_, err = Dial(t.Context(), l.node, rogueAddr, l.config())
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("pinned: %v, want %v", err, tt.want)
				}
				if n := len(l.authd.said); n != 0 {
					t.Errorf("it was asked %d times", n)
				}
			})
		})
	}
}

// A grant that is not exactly what was asked for changes nothing.
func TestBadGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		s := l.register("alice")
		mine, foreign := l.profile.Token(), newAuthd(t)
		stranger := wire.KeyOf(foreign.key.Public().(ed25519.PublicKey))
		fresh := l.config()
		fresh.Fresh = true
		log := l.dial(fresh)
		before := l.files()
		grant := func(a *authd, change func(*realm.Grant)) func() wire.AuthMessage {
			return func() wire.AuthMessage {
				g := realm.Grant{Account: mine.Account, Key: mine.Key, Name: "alice", NameSeq: 1, From: time.Now()}
				change(&g)
				return a.grant(g)
			}
		}
		bend := func(change func(*wire.AuthGrant)) func() wire.AuthMessage {
			return func() wire.AuthMessage {
				g := grant(l.authd, func(*realm.Grant) {})().(*wire.AuthGrant)
				change(g)
				return g
			}
		}
		tests := []struct {
			name  string
			grant func() wire.AuthMessage
			renew bool // refused at renewal
			login bool // refused at log-in
		}{
			{"another key", grant(l.authd, func(g *realm.Grant) { g.Key = stranger }), true, true},
			{"another account", grant(l.authd, func(g *realm.Grant) { g.Account[0] ^= 1 }), true, false},
			{"another name", grant(l.authd, func(g *realm.Grant) { g.Name = "bob" }), false, true},
			{"another realm", grant(foreign, func(*realm.Grant) {}), true, true},
			{"expired", grant(l.authd, func(g *realm.Grant) { g.From, g.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour) }), true, true},
			{"rubbish", bend(func(g *wire.AuthGrant) { g.Leaf = []byte("rubbish") }), true, true},
			{"no issuer", bend(func(g *wire.AuthGrant) { g.Issuing = g.Root }), true, true},
			{"authd's own", bend(func(g *wire.AuthGrant) { g.Leaf = l.authd.chain[0].Raw }), true, true},
			{"rubbish as revocation list", bend(func(g *wire.AuthGrant) { g.CRL = []byte("rubbish") }), true, true},
			{"another message", func() wire.AuthMessage { return &wire.AuthPong{} }, true, true},
		}
		var next func() wire.AuthMessage
		l.authd.mu.Lock()
		l.authd.answer = func(_, a wire.AuthMessage) wire.AuthMessage {
			if _, ok := a.(*wire.AuthGrant); ok && next != nil {
				return next()
			}
			return a
		}
		l.authd.mu.Unlock()
		for _, tt := range tests {
			next = tt.grant
			if tt.renew {
				if token, err := s.Renew(t.Context()); err == nil || token != nil {
					t.Errorf("renewal: %s: %+v, %v", tt.name, token, err)
				}
			}
			if tt.login {
				if token, err := log.Login(t.Context(), "alice", goodPassword, "laptop"); err == nil || token != nil {
					t.Errorf("log-in: %s: %+v, %v", tt.name, token, err)
				}
			}
			if l.files() != before || l.profile.Token() != mine {
				t.Fatalf("%s: the profile has changed", tt.name)
			}
		}
		next = nil
		if _, err := s.Renew(t.Context()); err != nil {
			t.Errorf("after all that, a good renewal: %v", err)
		}
		if _, err := log.Login(t.Context(), "alice", goodPassword, "laptop"); err != nil {
			t.Errorf("after all that, a good log-in: %v", err)
		}
	})
}

func TestRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		l.register("alice").Close()
		pushed := make(chan struct{}, 10)
		c := l.config()
		c.OnCRL = func() { pushed <- struct{}{} }
		s := l.dial(c)
		other := &realm.Token{Serial: realm.Serial{1}}
		l.authd.revoke(other)
		<-pushed
		if got := l.profile.Verifier().CRL(); got.Number != 1 || got.Len() != 1 {
			t.Errorf("list number %d with %d entries", got.Number, got.Len())
		}
		// Rubbish, a foreign list and the same again change nothing, and harm nothing.
		foreign := newAuthd(t)
		foreign.number = 50
		l.authd.mu.Lock()
		l.authd.push(&wire.AuthCRL{Issuing: []byte("x"), CRL: []byte("y")})
		l.authd.push(&wire.AuthCRL{Issuing: foreign.issuing.Cert.Raw, CRL: foreign.list()})
		l.authd.push(&wire.AuthPong{})
		l.authd.push(&wire.AuthCRL{Issuing: l.authd.issuing.Cert.Raw, CRL: l.authd.list()})
		l.authd.mu.Unlock()
		synctest.Wait()
		if len(pushed) != 0 || l.profile.Verifier().CRL().Number != 1 {
			t.Errorf("list number %d after bad pushes, %d calls", l.profile.Verifier().CRL().Number, len(pushed))
		}
		if _, err := s.Ping(t.Context()); err != nil {
			t.Errorf("ping after bad pushes: %v", err)
		}
		l.authd.revoke(s.Token())
		<-pushed
		if err := l.profile.Verifier().Check(s.Token(), l.profile.Now()); !errors.Is(err, realm.ErrRevoked) {
			t.Errorf("the own token: %v", err)
		}
		s.Close()
		// It stays so after a restart.
		l.open()
		if got := l.profile.Verifier().CRL(); got.Number != 2 || got.Len() != 2 {
			t.Errorf("after a restart: list number %d with %d entries", got.Number, got.Len())
		}
		// authd refuses the certificate, after the dial has succeeded for TLS.
		list := l.authd.list()
		if _, err := l.authd.verifier.SetCRL(l.authd.issuing.Cert.Raw, list); err != nil {
			t.Fatal(err)
		}
		_, err := Dial(t.Context(), l.node, authdAddr, l.config())
		wantRefusal(t, err, wire.CodeNotAuthenticated)
		// With the password one can log in again.
		c = l.config()
		c.Fresh = true
		s = l.dial(c)
		if _, err := s.Login(t.Context(), "alice", goodPassword, "laptop"); err != nil {
			t.Errorf("logging in again: %v", err)
		}
	})
}

func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		start := time.Now()
		if _, err := Dial(t.Context(), l.node, nobodyAddr, l.config()); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("dialling nobody: %v", err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("dialling nobody took %v", took)
		}
		s := l.register("alice")
		l.authd.mu.Lock()
		l.authd.answer = func(_, _ wire.AuthMessage) wire.AuthMessage { return nil }
		l.authd.mu.Unlock()
		start = time.Now()
		if _, err := s.Ping(t.Context()); !errors.Is(err, ErrNoAnswer) || time.Since(start) != 10*time.Second {
			t.Errorf("ping of a silent authd: %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("enough"))
		defer cancel()
		start = time.Now()
		if _, err := s.Renew(ctx); err == nil || err.Error() != "enough" || time.Since(start) != time.Second {
			t.Errorf("renewal given up by the caller: %v after %v", err, time.Since(start))
		}
		if _, err := Dial(ctx, l.node, authdAddr, l.config()); err == nil {
			t.Error("dialling with a context that is over")
		}
		// A silent authd costs a dialler with a token its time, not the program.
		if _, err := Dial(t.Context(), l.node, authdAddr, l.config()); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("dialling a silent authd: %v", err)
		}
		l.authd.close()
		<-s.Done()
		if code, ok := link.Closed(s.Err()); !ok || code != link.CloseGoodbye {
			t.Errorf("the session ended with %v", s.Err())
		}
		if _, err := s.Ping(t.Context()); err == nil {
			t.Error("ping after the end")
		}
	})
}

func TestVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		ln, err := link.ListenPeers(l.second, link.Fixed(l.authd.key, l.authd.chain...), l.authd.verifier, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		if _, err := Dial(t.Context(), l.node, rogueAddr, l.config()); !errors.Is(err, ErrVersion) {
			t.Errorf("dialling what is no authd of this version: %v", err)
		}
	})
}

// The realm's time: what authd answers overrules the machine's clock, and what
// it has signed sets a floor.
func TestClock(t *testing.T) {
	const year = 365 * 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		l.authd.ahead = 50 * 24 * time.Hour
		l.authd.close()
		l.authd.certify(time.Now(), 0)
		l.authd.serve(l.second)
		dial := func() *Session {
			t.Helper()
			s, err := Dial(t.Context(), l.node, rogueAddr, l.config())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := dial()
		if _, err := s.Register(t.Context(), "alice", goodPassword, nil, "laptop"); err != nil {
			t.Fatalf("authd is 50 days ahead: %v", err)
		}
		s.Close()
		about := func(what string, got, want time.Time) {
			t.Helper()
			if d := got.Sub(want).Abs(); d > time.Minute {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		about("with authd's answer", l.profile.Now(), l.authd.now())
		if ahead := l.profile.Clock().Ahead() + 50*24*time.Hour; ahead.Abs() > time.Second {
			t.Errorf("ahead by %v", l.profile.Clock().Ahead())
		}
		// After a restart the floor is what authd has signed.
		l.open()
		about("after a restart", l.profile.Now(), l.authd.now())
		// authd's clock is set right, as its certificate is: nobody is shut out,
		// though the floor is later than all of it.
		l.authd.close()
		l.authd.ahead = 0
		l.authd.certify(time.Now(), 40*24*time.Hour)
		l.authd.serve(l.second)
		c := l.config()
		c.Fresh = true
		s, err := Dial(t.Context(), l.node, rogueAddr, c)
		if err != nil {
			t.Fatalf("authd's clock was set right: %v", err)
		}
		defer s.Close()
		if _, err := s.Login(t.Context(), "alice", goodPassword, "laptop"); err != nil {
			t.Fatalf("authd's clock was set right: %v", err)
		}
		about("downwards", l.profile.Now(), l.authd.now())

		// A clock that is years off says so, with both times.
		l.dir = filepath.Join(t.TempDir(), "node")
		l.open()
		l.authd.close()
		l.authd.certify(time.Now().Add(2*year), 0)
		l.authd.serve(l.second)
		_, err = Dial(t.Context(), l.node, rogueAddr, l.config())
		if e, ok := errors.AsType[*realm.TimeError](err); !ok || e.Now.IsZero() || e.NotBefore.IsZero() {
			t.Errorf("two years off: %v", err)
		}
	})
}

func TestRoster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		s := l.register("alice")
		foreign := newAuthd(t)
		// Tokens in ascending order of devices, one of them the node's own, one
		// of another realm.
		type entry struct {
			device wire.DeviceID
			leaf   []byte
		}
		var entries []entry
		for i := range 100 {
			a, key := l.authd, l.profile.DeviceKey()
			if i > 0 {
				pub, _, _ := ed25519.GenerateKey(nil)
				key = wire.KeyOf(pub)
			}
			if i == 1 {
				a = foreign
			}
			g := a.grant(realm.Grant{Account: wire.AccountID{byte(i)}, Key: key, Name: "user" + fmt.Sprint(i), NameSeq: 1, From: time.Now()})
			entries = append(entries, entry{key.Device(), g.Leaf})
		}
		slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.device[:], b.device[:]) })
		addr := netip.MustParseAddrPort("10.0.0.77:1234")
		spoil := func(*wire.AuthRosterPage) {}
		l.authd.mu.Lock()
		l.authd.answer = func(q, a wire.AuthMessage) wire.AuthMessage {
			m, ok := q.(*wire.AuthRoster)
			if !ok {
				return a
			}
			if m.Since != 3 {
				t.Errorf("asked for what is new since %d, want 3", m.Since)
			}
			page := &wire.AuthRosterPage{Serial: 17, Issuers: [][]byte{foreign.issuing.Cert.Raw, l.authd.issuing.Cert.Raw}}
			for _, e := range entries {
				if bytes.Compare(e.device[:], m.After[:]) <= 0 {
					continue
				}
				if len(page.Entries) == 40 {
					page.More = true
					break
				}
				page.Entries = append(page.Entries, wire.RosterEntry{Leaf: e.leaf, Addrs: []netip.AddrPort{addr}})
			}
			if !m.After.IsZero() {
				page.Serial++ // somebody came meanwhile
			}
			spoil(page)
			return page
		}
		l.authd.mu.Unlock()
		contacts, next, err := s.Roster(t.Context(), 3, nil)
		if err != nil {
			t.Fatal(err)
		}
		if next != 17 {
			t.Errorf("got the serial %d, want that of the first page, 17", next)
		}
		got := make(map[string]bool)
		for _, c := range contacts {
			got[c.Token.Name] = true
			if len(c.Addrs) != 1 || c.Addrs[0] != addr {
				t.Errorf("%s is at %v", c.Token.Name, c.Addrs)
			}
		}
		if len(contacts) != 98 || len(got) != 98 || got["user0"] || got["user1"] {
			t.Errorf("%d contacts, %d names; self %v, foreign %v", len(contacts), len(got), got["user0"], got["user1"])
		}
		// An authd that leads nowhere is not followed for ever.
		for name, f := range map[string]func(*wire.AuthRosterPage){
			"the same page again": func(p *wire.AuthRosterPage) { p.More, p.Entries = true, []wire.RosterEntry{{Leaf: entries[50].leaf}} },
			"empty pages":         func(p *wire.AuthRosterPage) { p.More, p.Entries = true, nil },
			"rubbish":             func(p *wire.AuthRosterPage) { p.Entries[0].Leaf = []byte("rubbish") },
			"rubbish as issuer":   func(p *wire.AuthRosterPage) { p.Issuers[0] = []byte("rubbish") },
		} {
			l.authd.mu.Lock()
			spoil = f
			l.authd.mu.Unlock()
			if contacts, _, err := s.Roster(t.Context(), 3, nil); !errors.Is(err, ErrProtocol) {
				t.Errorf("%s: %d contacts, %v", name, len(contacts), err)
			}
		}
	})
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		s    string
		n    int
		want string
	}{
		{"laptop", 64, "laptop"}, {"laptop", 3, "lap"}, {"Küche", 2, "K"}, {"Küche", 3, "Kü"}, {"", 0, ""}, {"a\xffb", 5, "ab"}, {"日本", 5, "日"},
	} {
		if got := cut(tt.s, tt.n); got != tt.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tt.s, tt.n, got, tt.want)
		}
	}
}
