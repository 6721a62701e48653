package server

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/authd/account"
	"lanchat/authd/store"
	"lanchat/wire"
	"lanchat/wire/link"
)

// mustAsk is ask that must be answered.
func mustAsk(t testing.TB, conn *quic.Conn, m wire.AuthMessage) wire.AuthMessage {
	t.Helper()
	answer, err := ask(conn, m)
	if err != nil {
		t.Fatalf("asking %T: %v", m, err)
	}
	return answer
}

// another returns a second device of the account, logged in.
func (c *client) another(name, password string) *client {
	c.l.t.Helper()
	d := c.newDevice()
	wantGrant(c.l.t, d.login(name, password))
	return d
}

// pushed returns the next message that authd pushes and is not a CRL.
func pushed(t testing.TB, conn *quic.Conn) wire.AuthMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		stream, err := conn.AcceptUniStream(ctx)
		if err != nil {
			t.Fatalf("waiting for a push: %v", err)
		}
		m, err := link.ReadAuth(stream)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := m.(*wire.AuthCRL); !ok {
			return m
		}
	}
}

// wantRevoked waits until authd closes a connection for a revocation, at most
// five seconds from begin.
func wantRevoked(t testing.TB, conn *quic.Conn, begin time.Time) {
	t.Helper()
	select {
	case <-conn.Context().Done():
	case <-time.After(time.Minute):
		t.Fatal("the connection stays")
	}
	if code, ok := link.Closed(context.Cause(conn.Context())); !ok || code != link.CloseRevoked {
		t.Errorf("closed by %v, want the code revoked", context.Cause(conn.Context()))
	}
	if got := time.Since(begin); got > 5*time.Second {
		t.Errorf("after %v, want 5 s at most", got)
	}
}

func TestRename(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("ann", "correct"))
		wantGrant(t, c.newDevice().register("bob", "correct"))
		before := c.token()
		phone := c.another("ann", "correct")
		conn, phones := c.mustDial(), phone.mustDial()
		wantRefusal(t, mustAsk(t, conn, &wire.AuthRename{Name: "bob"}), wire.CodeNameTaken)
		wantRefusal(t, mustAsk(t, conn, &wire.AuthRename{Name: "root"}), wire.CodeBadName)

		begin := time.Now()
		c.grant = wantGrant(t, mustAsk(t, conn, &wire.AuthRename{Name: "anna"}))
		if got := c.token(); got.Name != "anna" || got.NameSeq != before.NameSeq+1 || got.Account != before.Account || got.Device != before.Device {
			t.Errorf("got %+v after %+v", got, before)
		}
		// The person's other device is told at once, and gets the name.
		if m := pushed(t, phones); m.FrameType() != wire.FrameAuthRenew || time.Since(begin) > 5*time.Second {
			t.Errorf("the other device is told %T after %v", m, time.Since(begin))
		}
		phone.grant = wantGrant(t, mustAsk(t, phones, new(wire.AuthRenew)))
		if got := phone.token(); got.Name != "anna" || got.NameSeq != before.NameSeq+1 {
			t.Errorf("the other device renews to %+v", got)
		}
		if log := l.logged.String(); !strings.Contains(log, "msg=renamed user=anna before=ann ") {
			t.Errorf("the log does not tell: %s", log)
		}
	})
}

// "What they change reaches running nodes within 5 s": a rename by the
// operator, too, also if the node comes later.
func TestOperatorRenames(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("ann", "correct"))
		conn := c.mustDial()
		mustAsk(t, conn, new(wire.AuthPing))
		operator, err := store.Open(filepath.Join(l.dir, DatabaseFile), l.srv.Realm().ID)
		if err != nil {
			t.Fatal(err)
		}
		defer operator.Close()
		begin := time.Now()
		if err := account.New(account.Config{}, operator).Rename(begin, "ann", "anna"); err != nil {
			t.Fatal(err)
		}
		if m := pushed(t, conn); m.FrameType() != wire.FrameAuthRenew || time.Since(begin) > 5*time.Second {
			t.Errorf("told %T after %v", m, time.Since(begin))
		}
		later := c.mustDial() // with the old token
		mustAsk(t, later, new(wire.AuthPing))
		if m := pushed(t, later); m.FrameType() != wire.FrameAuthRenew {
			t.Errorf("told %T", m)
		}
	})
}

// change has the whole conversation.
func change(t testing.TB, conn *quic.Conn, present, next string, signOut bool) wire.AuthMessage {
	t.Helper()
	stream, err := conn.OpenStreamSync(conn.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := link.WriteAuth(stream, new(wire.AuthPassword)); err != nil {
		t.Fatal(err)
	}
	m, err := link.ReadAuth(stream)
	if err != nil {
		t.Fatal(err)
	}
	challenge, ok := m.(*wire.AuthChallenge)
	if !ok {
		return m
	}
	salt := [16]byte{1, 2, 3}
	if err := link.WriteAuth(stream, &wire.AuthChange{
		Present: prehash(present, challenge.Salt), Salt: salt, Prehash: prehash(next, salt), SignOut: signOut}); err != nil {
		t.Fatal(err)
	}
	stream.Close()
	if m, err = link.ReadAuth(stream); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestChangePassword(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("ann", "correct"))
		phone := c.another("ann", "correct")
		conn, phones := c.mustDial(), phone.mustDial()
		mustAsk(t, phones, new(wire.AuthPing))
		wantRefusal(t, change(t, conn, "wrong", "changed", true), wire.CodeBadCredentials)
		if m := change(t, conn, "correct", "changed", false); m.FrameType() != wire.FrameAuthDone {
			t.Fatalf("got %T %+v", m, m)
		}
		mustAsk(t, phones, new(wire.AuthPing)) // nobody was signed out
		tablet := c.newDevice()
		wantRefusal(t, tablet.login("ann", "correct"), wire.CodeBadCredentials)
		wantGrant(t, tablet.login("ann", "changed"))
		tablets := tablet.mustDial()
		mustAsk(t, tablets, new(wire.AuthPing))

		begin := time.Now()
		if m := change(t, conn, "changed", "third", true); m.FrameType() != wire.FrameAuthDone {
			t.Fatalf("got %T %+v", m, m)
		}
		wantRevoked(t, phones, begin)
		wantRevoked(t, tablets, begin)
		mustAsk(t, conn, new(wire.AuthPing))
		if log := l.logged.String(); strings.Contains(log, "third/") {
			t.Error("the log has a prehash")
		}
	})
}

func TestOwnDevices(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("ann", "correct"))
		first := c.token()
		time.Sleep(time.Hour)
		phone := c.another("ann", "correct")
		conn, phones := c.mustDial(), phone.mustDial()
		mustAsk(t, phones, new(wire.AuthPing))
		list, ok := mustAsk(t, conn, new(wire.AuthDevices)).(*wire.AuthDeviceList)
		if !ok || len(list.Devices) != 2 {
			t.Fatalf("got %+v, want two devices", list)
		}
		if d := list.Devices[0]; d.Device != phone.deviceKey().Device() || d.Name != "laptop" || d.Revoked {
			t.Errorf("got %+v, want the newer device first", d)
		}
		if d := list.Devices[1]; d.Device != first.Device || d.Ends != first.NotAfter.UnixMilli() || d.Created > d.Ends || d.Created < first.NotBefore.UnixMilli() {
			t.Errorf("got %+v, want that of %+v", d, first)
		}
		wantRefusal(t, mustAsk(t, conn, &wire.AuthRevoke{Device: first.Device}), wire.CodeBadRequest)
		wantRefusal(t, mustAsk(t, conn, &wire.AuthRevoke{Device: wire.DeviceID{1}}), wire.CodeNoSuchDevice)
		begin := time.Now()
		if m := mustAsk(t, conn, &wire.AuthRevoke{Device: phone.deviceKey().Device()}); m.FrameType() != wire.FrameAuthDone {
			t.Fatalf("got %T %+v", m, m)
		}
		wantRevoked(t, phones, begin)
		list = mustAsk(t, conn, new(wire.AuthDevices)).(*wire.AuthDeviceList)
		if !list.Devices[1].Revoked || list.Devices[0].Revoked {
			t.Errorf("got %+v, want the phone revoked, and last", list.Devices)
		}
	})
}

func TestRecover(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		wantGrant(t, c.register("ann", "correct"))
		operator, err := store.Open(filepath.Join(l.dir, DatabaseFile), l.srv.Realm().ID)
		if err != nil {
			t.Fatal(err)
		}
		defer operator.Close()
		pepper, err := ReadPepper(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		proof := [16]byte{1, 2, 3}
		if err := account.New(account.Config{Pepper: pepper}, operator).SetReset(time.Now(), "ann", proof); err != nil {
			t.Fatal(err)
		}
		phone := c.newDevice()
		recover := func(proof [16]byte, password string) wire.AuthMessage {
			_, m := phone.logIn(wire.AuthRecover, "ann", password, proof[:])
			return m
		}
		wantRefusal(t, recover([16]byte{9}, "changed"), wire.CodeBadCredentials)
		wantGrant(t, recover(proof, "changed"))
		wantRefusal(t, recover(proof, "again"), wire.CodeBadCredentials)
		wantRefusal(t, phone.login("ann", "correct"), wire.CodeBadCredentials)
		wantGrant(t, phone.login("ann", "changed"))
	})
}

// A stranger can do none of it.
func TestOwnersOnly(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, c *client) {
		conn := c.mustDial()
		for _, m := range []wire.AuthMessage{&wire.AuthRename{Name: "x"}, new(wire.AuthPassword), new(wire.AuthDevices), &wire.AuthRevoke{}} {
			wantRefusal(t, mustAsk(t, conn, m), wire.CodeNotAuthenticated)
		}
		wantGrant(t, c.register("ann", "correct"))
		for _, m := range []wire.AuthMessage{new(wire.AuthChange), new(wire.AuthDone), new(wire.AuthDeviceList)} {
			wantRefusal(t, mustAsk(t, c.mustDial(), m), wire.CodeBadRequest)
		}
	})
}
