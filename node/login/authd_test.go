package login_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"

	"lanchat/authd/account"
	"lanchat/authd/server"
	"lanchat/authd/store"
	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

const password = "vexed-otter-plinth"

// TestWithAuthd has two people log in at the real authd, on a simulated
// network, with tokens that live two minutes.
func TestWithAuthd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &simnet.Simnet{Router: &simnet.PerfectRouter{}}
		socket := func(addr string) net.PacketConn {
			sim := n.NewEndpoint(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)), simnet.NodeBiDiLinkSettings{Latency: time.Millisecond})
			t.Cleanup(func() { sim.Close() })
			return sim
		}
		authdAddr := netip.MustParseAddrPort("10.0.0.1:4747")
		authdConn := socket(authdAddr.String())
		var transports []*quic.Transport
		for _, addr := range []string{"10.0.0.2:5000", "10.0.0.3:5000"} {
			tr := link.NewTransport(socket(addr), nil)
			t.Cleanup(func() { tr.Close() })
			transports = append(transports, tr)
		}
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })

		var logged strings.Builder
		dir := t.TempDir()
		keys, err := server.OpenKeys(filepath.Join(dir, "authd"), "test realm", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { keys.Close() })
		st, err := store.Open(filepath.Join(dir, "authd", server.DatabaseFile), keys.Realm.ID)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		srv, err := server.New(server.Config{
			Keys: keys, Store: st, Conn: authdConn,
			Rules:  account.Config{TokenLife: 2 * time.Minute},
			Logger: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- srv.Run(ctx) }()
		stop := func() {
			cancel()
			if err := <-ran; err != nil {
				t.Errorf("authd: %v", err)
			}
		}

		fingerprint := keys.Realm.Fingerprint()
		open := func(name string) *login.Profile {
			p, err := login.Open(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		dial := func(i int, c login.Config) *login.Session {
			t.Helper()
			c.Trust.Fingerprint = &fingerprint
			s, err := login.Dial(t.Context(), transports[i], authdAddr, c)
			if err != nil {
				t.Fatalf("dialling authd: %v", err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		}
		refused := func(err error, code wire.Code) *login.RefusedError {
			t.Helper()
			e, ok := errors.AsType[*login.RefusedError](err)
			if !ok || e.Code != code {
				t.Fatalf("got %v, want %v", err, code)
			}
			return e
		}

		alice, bob := open("alice"), open("bob")
		s := dial(0, login.Config{Profile: alice})
		if _, err := s.Register(t.Context(), "admin", password, nil, "laptop"); err == nil {
			t.Error("registered as admin")
		}
		token, err := s.Register(t.Context(), "alice", password, nil, "Küche")
		if err != nil {
			t.Fatal(err)
		}
		if token.Name != "alice" || token.Device != alice.DeviceKey().Device() {
			t.Errorf("token %+v", token)
		}
		s.Close()

		s = dial(1, login.Config{Profile: bob})
		_, err = s.Register(t.Context(), "alice", password, nil, "laptop")
		refused(err, wire.CodeNameTaken)
		_, err = s.Login(t.Context(), "alice", password+"?", "laptop")
		refused(err, wire.CodeBadCredentials)
		s.Close()
		s = dial(1, login.Config{Profile: bob})
		if _, err := s.Register(t.Context(), "bob", password, nil, "laptop"); err != nil {
			t.Fatal(err)
		}
		s.Close()

		// With a token: ping, who else is here, renewal.
		sa, sb := dial(0, login.Config{Profile: alice}), dial(1, login.Config{Profile: bob})
		if _, err := sa.Ping(t.Context()); err != nil {
			t.Errorf("ping: %v", err)
		}
		contacts, _, err := sa.Roster(t.Context(), 0, nil)
		if err != nil || len(contacts) != 1 || contacts[0].Token.Name != "bob" || len(contacts[0].Addrs) != 1 || contacts[0].Addrs[0].String() != "10.0.0.3:5000" {
			t.Errorf("roster: %+v, %v", contacts, err)
		}
		renewed, err := sa.Renew(t.Context())
		if err != nil || renewed.Serial == token.Serial || renewed.Account != token.Account {
			t.Errorf("renewed: %+v, %v", renewed, err)
		}
		sa.Close()
		sb.Close()

		// Two minutes and the tolerance later the token is good for renewal only.
		time.Sleep(2*time.Minute + realm.Tolerance + time.Second)
		if err := alice.Verifier().Check(alice.Token(), alice.Now()); !errors.Is(err, realm.ErrExpired) {
			t.Errorf("token after its life: %v", err)
		}
		s = dial(0, login.Config{Profile: alice})
		if s.Token() == nil {
			t.Fatal("an expired token is not presented")
		}
		if _, err := s.Renew(t.Context()); err != nil {
			t.Errorf("renewing an expired token: %v", err)
		}
		if err := alice.Verifier().Check(alice.Token(), alice.Now()); err != nil {
			t.Errorf("the renewed token: %v", err)
		}
		s.Close()

		// A second device, and the same one again after logging out.
		laptop := open("alice's laptop")
		for range 2 {
			s = dial(1, login.Config{Profile: laptop})
			token, err := s.Login(t.Context(), "alice", password, "laptop")
			if err != nil || token.Account != renewed.Account || token.Device == renewed.Device {
				t.Errorf("on a second device: %+v, %v", token, err)
			}
			s.Close()
			if err := laptop.Forget(); err != nil {
				t.Error(err)
			}
		}

		// Guessing is slowed down.
		for {
			s = dial(1, login.Config{Profile: laptop, Fresh: true})
			_, err := s.Login(t.Context(), "bob", "not-his-password", "laptop")
			s.Close()
			if e, ok := errors.AsType[*login.RefusedError](err); ok && e.Code == wire.CodeRateLimited {
				if e.RetryAfter <= 0 {
					t.Errorf("rate limited for %v", e.RetryAfter)
				}
				break
			}
			refused(err, wire.CodeBadCredentials)
		}

		// authd stops: sessions end with a goodbye, and what is held stays good.
		s = dial(0, login.Config{Profile: alice})
		stop()
		<-s.Done()
		if code, ok := link.Closed(s.Err()); !ok || code != link.CloseGoodbye {
			t.Errorf("the session ended with %v", s.Err())
		}
		if _, err := login.Dial(t.Context(), transports[0], authdAddr, login.Config{Profile: alice}); !errors.Is(err, login.ErrNoAnswer) {
			t.Errorf("dialling an authd that has stopped: %v", err)
		}
		if err := alice.Verifier().Check(alice.Token(), alice.Now()); err != nil {
			t.Errorf("the token without authd: %v", err)
		}
		if strings.Contains(logged.String(), password) {
			t.Error("authd logs a password")
		}
	})
}
