package account_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"lanchat/authd/account"
	"lanchat/wire"
)

var (
	laptop = wire.DeviceKey{1}
	phone  = wire.DeviceKey{2}
)

// Name, number and certificate change together; the old name is nobody's.
func TestRenameOwn(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	g := d.register("ann", "secret", 1)
	d.register("bob", "secret", 2)
	for name, code := range map[string]wire.Code{"ann": wire.CodeNameTaken, "bob": wire.CodeNameTaken, "root": wire.CodeBadName, "Anna": wire.CodeBadName} {
		_, err := d.RenameOwn(d.now, g.Account, laptop, name, home)
		want(t, err, code)
	}
	_, err := d.RenameOwn(d.now, g.Account, phone, "anna", home) // bob's device
	want(t, err, wire.CodeNotAuthenticated)

	got, err := d.RenameOwn(d.now, g.Account, laptop, "anna", home)
	want(t, err, 0)
	if got.Name != "anna" || got.NameSeq != g.NameSeq+1 || got.Account != g.Account || got.Key != laptop || got.Serial == g.Serial {
		t.Errorf("got %+v after %+v", got.Grant, g.Grant)
	}
	want(t, second(d.login("ann", "secret", 1)), wire.CodeBadCredentials)
	want(t, second(d.login("anna", "secret", 1)), 0)
	bob, err := d.st.Find("bob")
	want(t, err, 0)
	_, err = d.RenameOwn(d.now, bob.ID, phone, "ann", home)
	want(t, err, wire.CodeNameTaken)
}

// Two people who take each other's name at once: the quarantine keeps both
// from it until no certificate with the old name is in force.
func TestSwappedNames(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	ann, bob := d.register("ann", "secret", 1), d.register("bob", "secret", 2)
	var last time.Time
	for _, r := range []struct {
		g    *account.Grant
		name string
	}{{ann, "x1"}, {bob, "x2"}} {
		g, err := d.RenameOwn(d.now, r.g.Account, r.g.Key, r.name, home)
		want(t, err, 0)
		last = r.g.NotAfter
		_ = g
	}
	d.now = last.Add(-time.Second)
	_, err := d.RenameOwn(d.now, ann.Account, ann.Key, "bob", home)
	want(t, err, wire.CodeNameTaken)
	_, err = d.RenameOwn(d.now, bob.Account, bob.Key, "ann", home)
	want(t, err, wire.CodeNameTaken)
	d.now = last.Add(2 * time.Minute)
	_, err = d.RenameOwn(d.now, ann.Account, ann.Key, "bob", home)
	want(t, err, 0)
}

// Nobody can put all good names into quarantine.
func TestMaxNames(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	g := d.register("name1", "secret", 1)
	rename := func(n int) error {
		_, err := d.RenameOwn(d.now, g.Account, laptop, fmt.Sprintf("name%d", n), home)
		return err
	}
	for n := 2; n <= 5; n++ {
		want(t, rename(n), 0)
	}
	if r := want(t, rename(6), wire.CodeRateLimited); r.RetryAfter == 0 {
		t.Error("it is not said that waiting helps")
	}
	want(t, d.Rename(d.now, "name5", "name6"), 0) // the operator may
	d.now = t0.Add(31 * day)
	want(t, rename(7), 0)
}

func (d *desk) change(id wire.AccountID, key wire.DeviceKey, present, next string, signOut bool) error {
	a, err := d.StartChange(d.now, id, key, home)
	if err != nil {
		return err
	}
	acct, err := d.st.Get(id)
	want(d.t, err, 0)
	if a.Salt != acct.Salt {
		d.t.Errorf("got salt %x, want that of the present password, %x", a.Salt, acct.Salt)
	}
	return d.FinishChange(d.now, a, id, key, account.Change{Present: hash(present), Salt: [16]byte{42}, Prehash: hash(next), SignOut: signOut})
}

func TestChangePassword(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	g := d.register("ann", "secret", 1)
	want(t, second(d.login("ann", "secret", 2)), 0)
	want(t, d.change(g.Account, wire.DeviceKey{9}, "secret", "changed", false), wire.CodeNotAuthenticated)
	want(t, d.change(g.Account, laptop, "wrong", "changed", true), wire.CodeBadCredentials)
	want(t, second(d.login("ann", "secret", 1)), 0)

	want(t, d.change(g.Account, laptop, "secret", "changed", false), 0)
	want(t, second(d.login("ann", "secret", 1)), wire.CodeBadCredentials)
	want(t, second(d.login("ann", "changed", 2)), 0) // nobody was signed out

	want(t, d.change(g.Account, laptop, "changed", "third", true), 0)
	_, err := d.renew(g.Account, phone)
	want(t, err, wire.CodeRevoked)
	want(t, second(d.login("ann", "third", 2)), wire.CodeRevoked)
	_, err = d.renew(g.Account, laptop)
	want(t, err, 0)
}

// A thief of a device guesses no faster than anybody.
func TestChangeIsThrottled(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	g := d.register("ann", "secret", 1)
	for range 5 {
		want(t, d.change(g.Account, laptop, "guess", "changed", false), wire.CodeBadCredentials)
	}
	if r := want(t, d.change(g.Account, laptop, "secret", "changed", false), wire.CodeRateLimited); r.RetryAfter == 0 {
		t.Error("not said how long to wait")
	}
	want(t, second(d.login("ann", "secret", 1)), wire.CodeRateLimited) // from the same source
	d.now = d.now.Add(time.Minute)
	want(t, d.change(g.Account, laptop, "secret", "changed", false), 0)

	d = newDesk(t, account.Config{StartsPerMinute: -1, FreeFailures: -1, LockAfter: 3})
	g = d.register("ann", "secret", 1)
	for range 3 {
		want(t, d.change(g.Account, laptop, "guess", "changed", false), wire.CodeBadCredentials)
	}
	want(t, d.change(g.Account, laptop, "secret", "changed", false), wire.CodeAccountLocked)

	d = newDesk(t, account.Config{StartsPerMinute: 2})
	g = d.register("ann", "secret", 1)
	_, err := d.DevicesOf(d.now, g.Account, laptop, home)
	want(t, err, 0)
	_, err = d.DevicesOf(d.now, g.Account, laptop, home)
	want(t, err, wire.CodeRateLimited)
}

func TestOwnDevices(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	g := d.register("ann", "secret", 1)
	for n := byte(2); n <= 3; n++ {
		d.now = d.now.Add(time.Hour)
		want(t, second(d.login("ann", "secret", n)), 0)
	}
	d.register("bob", "secret", 9)
	list := func() (keys []wire.DeviceKey) {
		t.Helper()
		devices, err := d.DevicesOf(d.now, g.Account, laptop, home)
		want(t, err, 0)
		for _, dev := range devices {
			keys = append(keys, dev.Key)
		}
		return keys
	}
	if got := fmt.Sprint(list()); got != fmt.Sprint([]wire.DeviceKey{{3}, {2}, {1}}) {
		t.Errorf("got %v, want the newest first", got)
	}

	revoke := func(device wire.DeviceKey) error {
		return d.RevokeOwn(d.now, g.Account, laptop, device.Device(), home)
	}
	want(t, revoke(laptop), wire.CodeBadRequest)
	want(t, revoke(wire.DeviceKey{9}), wire.CodeNoSuchDevice) // bob's
	want(t, revoke(wire.DeviceKey{3}), 0)
	want(t, revoke(wire.DeviceKey{3}), 0) // it is
	if got := fmt.Sprint(list()); got != fmt.Sprint([]wire.DeviceKey{{2}, {1}, {3}}) {
		t.Errorf("got %v, want what is revoked last", got)
	}
	_, err := d.renew(g.Account, wire.DeviceKey{3})
	want(t, err, wire.CodeRevoked)
	// What is revoked can do nothing any more.
	_, err = d.DevicesOf(d.now, g.Account, wire.DeviceKey{3}, home)
	want(t, err, wire.CodeRevoked)
	err = d.RevokeOwn(d.now, g.Account, wire.DeviceKey{3}, laptop.Device(), home)
	want(t, err, wire.CodeRevoked)
	_, err = d.RenameOwn(d.now, g.Account, wire.DeviceKey{3}, "anna", home)
	want(t, err, wire.CodeRevoked)
}

// recover logs in with a one-time code and a new password.
func (d *desk) recover(name string, proof [16]byte, password string, device byte) error {
	_, err := d.attempt(account.Request{Recover: true, Name: name, Invite: proof[:]}, password, device)
	return err
}

func TestRecovery(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	d.register("ann", "secret", 1)
	d.register("bob", "secret", 9)
	code := [16]byte{7}
	if err := d.SetReset(d.now, "nobody", code); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("nobody: got %v, want ErrNotFound", err)
	}
	want(t, d.SetReset(d.now, "ann", code), 0)
	want(t, second(d.login("ann", "secret", 1)), 0) // the password is good until then

	a, err := d.Start(d.now, account.Request{Recover: true, Name: "ann", Invite: code[:], Source: home})
	want(t, err, 0)
	b, err := d.Start(d.now, account.Request{Recover: true, Name: "ann", Invite: code[:], Source: home})
	want(t, err, 0)
	if a.Salt == b.Salt {
		t.Error("two new passwords have one salt")
	}
	_, err = d.Finish(d.now, a, hash("new"), phone, "phone")
	want(t, err, 0)
	_, err = d.Finish(d.now, b, hash("other"), wire.DeviceKey{3}, "")
	want(t, err, wire.CodeBadCredentials) // it works once, however many began
	want(t, d.recover("ann", code, "other", 1), wire.CodeBadCredentials)
	want(t, second(d.login("ann", "secret", 1)), wire.CodeBadCredentials)
	d.now = d.now.Add(time.Hour)
	want(t, second(d.login("ann", "new", 1)), 0)
}

// A wrong code, another's code, an old one, nobody's and a disabled account
// have one answer, which names none of them.
func TestRecoveryRefuses(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1, FreeFailures: -1})
	d.register("ann", "secret", 1)
	d.register("bob", "secret", 9)
	code := [16]byte{7}
	want(t, d.SetReset(d.now, "ann", code), 0)
	texts := map[string]bool{}
	no := func(name string, proof [16]byte) {
		t.Helper()
		texts[want(t, d.recover(name, proof, "new", 2), wire.CodeBadCredentials).Text] = true
	}
	no("ann", [16]byte{8})
	no("bob", code)
	no("nobody", code)
	no("nobody", [16]byte{})
	no("bob", [16]byte{})
	want(t, d.Disable(d.now, "ann"), 0)
	no("ann", code)
	want(t, d.Enable("ann"), 0)
	want(t, d.recover("ann", code, "new", 9), wire.CodeDeviceOfOtherAccount) // and the code is not used up
	d.now = d.now.Add(account.ResetLife)
	no("ann", code)
	if len(texts) != 1 {
		t.Errorf("the answers differ: %v", texts)
	}
}

// The revocation list is everybody's: nobody fills it with devices that they make
// and revoke.
func TestMaxShutOut(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1, MaxShutOut: 3})
	ann := d.register("ann", "secret", 1)
	for i := range byte(3) {
		want(t, second(d.login("ann", "secret", 10+i)), 0)
		want(t, d.RevokeOwn(d.now, ann.Account, wire.DeviceKey{1}, wire.DeviceKey{10 + i}.Device(), home), 0)
	}
	want(t, second(d.login("ann", "secret", 20)), wire.CodeTooManyDevices)
	want(t, second(d.renew(ann.Account, wire.DeviceKey{1})), 0) // who is there stays
	want(t, second(d.login("ann", "secret", 1)), 0)
	d.now = d.now.Add(30 * day)
	want(t, second(d.login("ann", "secret", 20)), 0)
}

// Guessers are slowed; whoever locked the account does not shut its owner out.
func TestRecoveryOfLocked(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1, LockAfter: 1})
	d.register("ann", "secret", 1)
	want(t, second(d.login("ann", "wrong", 1)), wire.CodeBadCredentials)
	want(t, second(d.login("ann", "secret", 1)), wire.CodeAccountLocked)
	want(t, d.SetReset(d.now, "ann", [16]byte{7}), 0)
	for range 4 { // one failed already
		want(t, d.recover("ann", [16]byte{8}, "new", 1), wire.CodeBadCredentials)
	}
	want(t, d.recover("ann", [16]byte{7}, "new", 1), wire.CodeRateLimited)
	d.now = d.now.Add(time.Minute)
	want(t, d.recover("ann", [16]byte{7}, "new", 1), 0)
	want(t, second(d.login("ann", "new", 1)), 0)
}
