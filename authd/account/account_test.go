package account_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"go.uber.org/goleak"

	"lanchat/authd/account"
	"lanchat/authd/store"
	"lanchat/wire"
	"lanchat/wire/realm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

var (
	t0   = time.Unix(1_800_000_000, 0)
	home = netip.MustParseAddr("192.168.1.7")
	away = netip.MustParseAddr("192.168.1.8")
)

// A desk is a Registrar with its store, and the time.
type desk struct {
	*account.Registrar
	t   testing.TB
	st  *store.Store
	now time.Time
}

func newDesk(t testing.TB, cfg account.Config) *desk {
	t.Helper()
	st, err := store.Open(":memory:", wire.RealmID{1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	cfg.Pepper = [32]byte{1, 2, 3}
	return &desk{Registrar: account.New(cfg, st), t: t, st: st, now: t0}
}

func hash(password string) (h [32]byte) {
	copy(h[:], password)
	return h
}

// attempt does both halves from home.
func (d *desk) attempt(q account.Request, password string, device byte) (*account.Grant, error) {
	if !q.Source.IsValid() {
		q.Source = home
	}
	a, err := d.Start(d.now, q)
	if err != nil {
		return nil, err
	}
	return d.Finish(d.now, a, hash(password), wire.DeviceKey{device}, "laptop")
}

func (d *desk) register(name, password string, device byte) *account.Grant {
	d.t.Helper()
	g, err := d.attempt(account.Request{Register: true, Name: name}, password, device)
	if err != nil {
		d.t.Fatalf("registering %q: %v", name, err)
	}
	return g
}

// renew is what the server does: it asks whether the device may, then renews.
func (d *desk) renew(id wire.AccountID, key wire.DeviceKey) (*account.Grant, error) {
	a, err := d.Allowed(d.now, id, key)
	if err != nil {
		return nil, err
	}
	return d.Renew(d.now, a, key, home)
}

func (d *desk) login(name, password string, device byte) (*account.Grant, error) {
	return d.attempt(account.Request{Name: name}, password, device)
}

// want checks that err is a refusal with the code, or nil for 0.
func want(t testing.TB, err error, code wire.Code) *account.Refusal {
	t.Helper()
	if code == 0 {
		if err != nil {
			t.Fatalf("got %v, want none", err)
		}
		return nil
	}
	r, ok := errors.AsType[*account.Refusal](err)
	if !ok || r.Code != code {
		t.Fatalf("got error %v, want a refusal, %v", err, code)
	}
	return r
}

func TestNames(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	d.register("alice", "secret", 1)
	for name, code := range map[string]wire.Code{
		"alice":                  wire.CodeNameTaken,
		"bob":                    0,
		"a-b.c_9":                0,
		strings.Repeat("x", 24):  0,
		strings.Repeat("x", 25):  wire.CodeBadName,
		"":                       wire.CodeBadName,
		"x":                      wire.CodeBadName,
		"Alice":                  wire.CodeBadName,
		"9lives":                 wire.CodeBadName,
		"al ice":                 wire.CodeBadName,
		"аlice":                  wire.CodeBadName, // Cyrillic а
		"admin":                  wire.CodeBadName,
		"everyone":               wire.CodeBadName,
		"here":                   wire.CodeBadName,
		"administrator":          0,
		"bell\a":                 wire.CodeBadName,
		"\xff\xfe":               wire.CodeBadName,
		"alice\x00":              wire.CodeBadName,
		"'; DROP TABLE account;": wire.CodeBadName,
	} {
		_, err := d.Start(d.now, account.Request{Register: true, Name: name, Source: home})
		if code == 0 && err == nil {
			continue
		}
		if r, ok := errors.AsType[*account.Refusal](err); !ok || r.Code != code {
			t.Errorf("%q: got %v, want %v", name, err, code)
		} else if strings.ContainsFunc(r.Text, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("%q: the answer repeats it: %q", name, r.Text)
		}
	}
}

// Two people register one name side by side: one gets it.
func TestNameTakenMeanwhile(t *testing.T) {
	d := newDesk(t, account.Config{})
	q := account.Request{Register: true, Name: "alice", Source: home}
	a, err := d.Start(d.now, q)
	want(t, err, 0)
	b, err := d.Start(d.now, q)
	want(t, err, 0)
	if a.Salt == b.Salt {
		t.Error("both registrations have the same salt")
	}
	_, err = d.Finish(d.now, a, hash("one"), wire.DeviceKey{1}, "")
	want(t, err, 0)
	_, err = d.Finish(d.now, b, hash("two"), wire.DeviceKey{2}, "")
	want(t, err, wire.CodeNameTaken)
}

func TestRegistration(t *testing.T) {
	invite := []byte("inviteme")
	for _, tt := range []struct {
		name   string
		cfg    account.Config
		invite []byte
		want   wire.Code
	}{
		{"open", account.Config{}, nil, 0},
		{"open, with an invite all the same", account.Config{}, invite, 0},
		{"closed", account.Config{Registration: account.Closed, Invite: invite}, invite, wire.CodeRegistrationClosed},
		{"invite", account.Config{Registration: account.Invite, Invite: invite}, invite, 0},
		{"wrong invite", account.Config{Registration: account.Invite, Invite: invite}, []byte("inviteMe"), wire.CodeInviteNeeded},
		{"no invite", account.Config{Registration: account.Invite, Invite: invite}, nil, wire.CodeInviteNeeded},
		{"no invite exists", account.Config{Registration: account.Invite}, nil, wire.CodeInviteNeeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t, tt.cfg)
			_, err := d.attempt(account.Request{Register: true, Name: "alice", Invite: tt.invite}, "secret", 1)
			want(t, err, tt.want)
		})
	}
	for _, s := range []string{"open", "invite", "closed"} {
		if r, err := account.ParseRegistration(s); err != nil || r.String() != s {
			t.Errorf("%q: got %v, %v", s, r, err)
		}
	}
	if _, err := account.ParseRegistration("Open"); err == nil {
		t.Error("Open with a capital passed")
	}
}

func TestGrant(t *testing.T) {
	d := newDesk(t, account.Config{TokenLife: 2 * time.Minute})
	d.now = t0.Add(123 * time.Millisecond)
	g := d.register("alice", "secret", 1)
	if !g.Registered || g.Name != "alice" || g.NameSeq != 1 || g.Key != (wire.DeviceKey{1}) || g.Account.IsZero() || g.Serial.IsZero() {
		t.Errorf("got %+v", g)
	}
	if !g.From.Equal(t0) || !g.NotAfter.Equal(t0.Add(2*time.Minute)) {
		t.Errorf("valid %v to %v, want from %v for two minutes", g.From, g.NotAfter, t0)
	}
	again, err := d.login("alice", "secret", 1)
	want(t, err, 0)
	if again.Registered || again.Account != g.Account || again.Serial == g.Serial {
		t.Errorf("logged in: got %+v after %+v", again, g)
	}
	a, err := d.st.Find("alice")
	want(t, err, 0)
	if bytes.Contains(a.Verifier[:], []byte("secret")) || a.Salt == a.Salt2 {
		t.Errorf("stored: %+v", a)
	}
}

// A pepper of another authd opens nothing: who has the database alone cannot
// even guess.
func TestPepper(t *testing.T) {
	d := newDesk(t, account.Config{})
	d.register("alice", "secret", 1)
	d.Registrar = account.New(account.Config{Pepper: [32]byte{9}}, d.st)
	_, err := d.login("alice", "secret", 1)
	want(t, err, wire.CodeBadCredentials)
}

// "Unknown names: fake but stable salt", of this authd's own.
func TestUnknownNameSalt(t *testing.T) {
	d := newDesk(t, account.Config{})
	salt := func(name string) [16]byte {
		t.Helper()
		a, err := d.Start(d.now, account.Request{Name: name, Source: home})
		want(t, err, 0)
		return a.Salt
	}
	bob, carol := salt("bob"), salt("carol")
	if bob == carol || bob == ([16]byte{}) {
		t.Errorf("got salts %x and %x", bob, carol)
	}
	d.Registrar = account.New(account.Config{Pepper: [32]byte{1, 2, 3}}, d.st) // restarted
	if got := salt("bob"); got != bob {
		t.Errorf("after a restart: got %x, want %x", got, bob)
	}
	d.Registrar = account.New(account.Config{Pepper: [32]byte{9}}, d.st)
	if salt("bob") == bob {
		t.Error("another authd makes up the same salt")
	}
}

// "After 5 failures exponential delay 2 s … 15 min per (account, source)."
func TestDelays(t *testing.T) {
	for _, name := range []string{"alice", "nobody"} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, account.Config{StartsPerMinute: -1})
			d.register("alice", "secret", 1)
			for range 5 {
				_, err := d.login(name, "wrong", 1)
				want(t, err, wire.CodeBadCredentials)
			}
			for _, delay := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900} {
				delay *= time.Second
				r := want(t, second(d.login(name, "secret", 1)), wire.CodeRateLimited)
				if r.RetryAfter != delay {
					t.Fatalf("got %v to wait, want %v", r.RetryAfter, delay)
				}
				d.now = d.now.Add(delay - 1)
				want(t, second(d.login(name, "wrong", 1)), wire.CodeRateLimited)
				d.now = d.now.Add(1)
				want(t, second(d.login(name, "wrong", 1)), wire.CodeBadCredentials)
			}
			_, err := d.attempt(account.Request{Name: name, Source: away}, "wrong", 1)
			want(t, err, wire.CodeBadCredentials) // another source does not wait
			_, err = d.login("bob", "wrong", 1)
			want(t, err, wire.CodeBadCredentials) // nor another account
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestSuccessForgetsFailures(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1, LockAfter: 12})
	d.register("alice", "secret", 1)
	for range 5 {
		for range 4 {
			want(t, second(d.login("alice", "wrong", 1)), wire.CodeBadCredentials)
		}
		want(t, second(d.login("alice", "secret", 1)), 0)
	}
}

// A hundred attempts started side by side have no more tries than one after
// the other.
func TestParallelAttempts(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	d.register("alice", "secret", 1)
	var started []*account.Attempt
	for range 100 {
		a, err := d.Start(d.now, account.Request{Name: "alice", Source: home})
		want(t, err, 0)
		started = append(started, a)
	}
	judged := 0
	for _, a := range started {
		_, err := d.Finish(d.now, a, hash("wrong"), wire.DeviceKey{1}, "")
		if r, ok := errors.AsType[*account.Refusal](err); ok && r.Code == wire.CodeBadCredentials {
			judged++
		}
	}
	if judged != 5 {
		t.Errorf("got %d passwords tried, want 5", judged)
	}
}

// "100 failures of one account over all sources need unlock", and unknown
// names end the same way.
// A Registrar may be asked side by side: neither guesses nor devices get past
// what they are counted against.
func TestSideBySide(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	d.register("alice", "secret", 1)
	sideBySide := func(n int, f func(i int) error) (codes map[wire.Code]int) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		codes = make(map[wire.Code]int)
		for i := range n {
			wg.Go(func() {
				var code wire.Code
				err := f(i)
				if r, ok := errors.AsType[*account.Refusal](err); ok {
					code = r.Code
				} else if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				codes[code]++
			})
		}
		wg.Wait()
		return codes
	}
	got := sideBySide(20, func(i int) error { return second(d.login("alice", "secret", byte(i+2))) })
	if got[0] != 7 || got[wire.CodeTooManyDevices] != 13 {
		t.Errorf("20 devices beside the first: got %v, want 7 let in", got)
	}
	got = sideBySide(50, func(int) error { return second(d.login("alice", "wrong", 1)) })
	if got[wire.CodeBadCredentials] != 5 || got[wire.CodeRateLimited] != 45 {
		t.Errorf("50 wrong guesses: got %v, want 5 judged", got)
	}
	got = sideBySide(20, func(i int) error {
		_, err := d.attempt(account.Request{Register: true, Name: "bob"}, "secret", byte(100+i))
		return err
	})
	if got[0] != 1 || got[wire.CodeNameTaken] != 19 {
		t.Errorf("20 who want one name: got %v, want one who has it", got)
	}
}

func TestLock(t *testing.T) {
	for _, name := range []string{"alice", "nobody"} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, account.Config{StartsPerMinute: -1})
			d.register("alice", "secret", 1)
			try := func(i int, password string) error {
				source := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
				_, err := d.attempt(account.Request{Name: name, Source: source}, password, 1)
				return err
			}
			for i := range 100 {
				want(t, try(i, "wrong"), wire.CodeBadCredentials)
			}
			want(t, try(100, "secret"), wire.CodeAccountLocked)
			d.now = d.now.Add(365 * day)
			want(t, try(100, "secret"), wire.CodeAccountLocked)
			d.Registrar = account.New(account.Config{Pepper: [32]byte{1, 2, 3}}, d.st) // restarted
			want(t, try(100, "secret"), wire.CodeAccountLocked)
			if name != "alice" {
				return
			}
			a, err := d.st.Find("alice")
			want(t, err, 0)
			// "A device with a token renews without a password, so a locked
			// account never disturbs who is already in."
			d.now = t0
			_, err = d.renew(a.ID, wire.DeviceKey{1})
			want(t, err, 0)
			if err := d.Unlock("alice"); err != nil {
				t.Fatal(err)
			}
			want(t, try(101, "secret"), 0)
		})
	}
}

// "60 login starts a minute per source."
func TestStartsPerMinute(t *testing.T) {
	d := newDesk(t, account.Config{})
	start := func(source netip.Addr) error {
		_, err := d.Start(d.now, account.Request{Name: "nobody", Source: source})
		return err
	}
	for range 60 {
		want(t, start(home), 0)
	}
	if r := want(t, start(home), wire.CodeRateLimited); r.RetryAfter != time.Second {
		t.Errorf("got %v to wait, want 1 s", r.RetryAfter)
	}
	want(t, start(netip.MustParseAddr("::ffff:192.168.1.7")), wire.CodeRateLimited) // the same address
	want(t, start(away), 0)
	d.now = d.now.Add(time.Second)
	want(t, start(home), 0)
	want(t, start(home), wire.CodeRateLimited)

	// Addresses of one IPv6 /64 share ten times as much.
	passed := 0
	for i := range 1000 {
		a := netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})
		if start(a) == nil {
			passed++
		}
	}
	if passed != 600 {
		t.Errorf("got %d starts from one /64, want 600", passed)
	}
	want(t, start(netip.MustParseAddr("fd00:0:0:1::1")), 0)
	want(t, start(netip.MustParseAddr("fe80::1%eth0")), 0)
}

// "Devices ≤ 8 per account"; those that could not renew any more do not
// count.
func TestDevices(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	d.register("alice", "secret", 1)
	for i := byte(2); i <= 8; i++ {
		want(t, second(d.login("alice", "secret", i)), 0)
	}
	want(t, second(d.login("alice", "secret", 9)), wire.CodeTooManyDevices)
	want(t, second(d.login("alice", "secret", 8)), 0) // is one already

	d.now = t0.Add(120*day - time.Second)
	want(t, second(d.login("alice", "secret", 9)), wire.CodeTooManyDevices)
	d.now = t0.Add(120 * day)
	want(t, second(d.login("alice", "secret", 9)), 0)
	want(t, second(d.login("alice", "secret", 1)), 0) // comes back as one of eight

	d.register("bob", "secret2", 50)
	want(t, second(d.login("bob", "secret2", 1)), wire.CodeDeviceOfOtherAccount)
	_, err := d.attempt(account.Request{Register: true, Name: "carol"}, "secret3", 50)
	want(t, err, wire.CodeDeviceOfOtherAccount)
}

func TestRenew(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	g := d.register("alice", "secret", 1)
	bob := d.register("bob", "secret2", 2)
	renew := func(id wire.AccountID, device byte) (*account.Grant, error) {
		return d.renew(id, wire.DeviceKey{device})
	}
	d.now = t0.Add(day)
	again, err := renew(g.Account, 1)
	want(t, err, 0)
	if again.Serial == g.Serial || !again.NotAfter.Equal(g.NotAfter.Add(day)) {
		t.Errorf("got %+v after %+v", again, g)
	}
	want(t, second(renew(bob.Account, 1)), wire.CodeNotAuthenticated)
	want(t, second(renew(g.Account, 9)), wire.CodeNotAuthenticated)
	want(t, second(renew(wire.AccountID{9}, 1)), wire.CodeUnknownAccount)

	// "Renew after expiry with the device key alone for 90 days."
	d.now = again.NotAfter.Add(90*day - time.Second)
	want(t, second(renew(g.Account, 1)), 0)
	want(t, second(renew(bob.Account, 2)), wire.CodeNotAuthenticated)

	want(t, d.Remove(d.now, "alice"), 0)
	want(t, second(renew(g.Account, 1)), wire.CodeUnknownAccount)
}

func TestShutOut(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	g := d.register("alice", "secret", 1)
	renew := func() error {
		_, err := d.renew(g.Account, wire.DeviceKey{1})
		return err
	}
	want(t, d.Disable(d.now, "alice"), 0)
	want(t, second(d.login("alice", "secret", 1)), wire.CodeBadCredentials) // like an unknown name
	want(t, renew(), wire.CodeNotAuthenticated)
	want(t, d.Enable("alice"), 0)
	want(t, second(d.login("alice", "secret", 1)), 0)
	want(t, renew(), 0)

	want(t, d.st.Revoke(wire.DeviceKey{1}, d.now), 0)
	want(t, second(d.login("alice", "secret", 1)), wire.CodeRevoked)
	want(t, renew(), wire.CodeRevoked)
	want(t, second(d.login("alice", "secret", 2)), 0)
	for _, err := range []error{d.Disable(d.now, "nobody"), d.Enable("nobody"), d.Unlock("nobody")} {
		if !errors.Is(err, account.ErrNotFound) {
			t.Errorf("nobody: got %v, want ErrNotFound", err)
		}
	}
}

func TestSetPassword(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	d.register("alice", "secret", 1)
	salt, err := d.Salt()
	want(t, err, 0)
	want(t, d.SetPassword("alice", salt, hash("changed")), 0)
	want(t, second(d.login("alice", "secret", 1)), wire.CodeBadCredentials)
	want(t, second(d.login("alice", "changed", 1)), 0)
}

// "Released names are quarantined for at least one certificate life, so no two
// valid certificates for different accounts ever carry the same name."
func TestQuarantine(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	g := d.register("alice", "secret", 1)
	d.now = t0.Add(day)
	want(t, d.Remove(d.now, "alice"), 0)
	if err := d.Remove(d.now, "alice"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("removed twice: got %v, want ErrNotFound", err)
	}
	want(t, second(d.login("alice", "secret", 1)), wire.CodeBadCredentials)
	number, revoked, err := d.CRL(d.now)
	if err != nil || number != uint64(d.now.Unix()) || len(revoked) != 1 || revoked[0].Serial != g.Serial {
		t.Errorf("got list %d of %v, %v, want %d with %v", number, revoked, err, d.now.Unix(), g.Serial)
	}
	register := func() error {
		_, err := d.attempt(account.Request{Register: true, Name: "alice"}, "other", 2)
		return err
	}
	d.now = t0.Add(31*day - time.Second)
	want(t, register(), wire.CodeNameTaken)
	_, err = d.Add(d.now, "alice", [16]byte{}, hash("other"))
	want(t, err, wire.CodeNameTaken)
	d.now = t0.Add(31 * day)
	want(t, register(), 0)
	if _, revoked, err := d.CRL(d.now); err != nil || len(revoked) != 0 {
		t.Errorf("ended by itself, and still on the list: %v, %v", revoked, err)
	}
}

func TestRename(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	g := d.register("alice", "secret", 1)
	d.register("bob", "secret", 2)
	if err := d.Rename(d.now, "nobody", "carol"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("nobody: got %v, want ErrNotFound", err)
	}
	want(t, d.Rename(d.now, "alice", "bob"), wire.CodeNameTaken)
	want(t, d.Rename(d.now, "alice", "root"), wire.CodeBadName)
	want(t, d.Rename(d.now, "alice", "Carol"), wire.CodeBadName)
	want(t, d.Rename(d.now, "alice", "carol"), 0)

	renewed, err := d.renew(g.Account, wire.DeviceKey{1})
	want(t, err, 0)
	if renewed.Name != "carol" || renewed.NameSeq != g.NameSeq+1 {
		t.Errorf("renewed: got %q, %d, want carol, %d", renewed.Name, renewed.NameSeq, g.NameSeq+1)
	}
	want(t, second(d.login("alice", "secret", 1)), wire.CodeBadCredentials)
	want(t, second(d.login("carol", "secret", 1)), 0)

	d.now = t0.Add(30*day + time.Minute - time.Second)
	want(t, d.Rename(d.now, "bob", "alice"), wire.CodeNameTaken)
	want(t, d.Rename(d.now, "carol", "alice"), wire.CodeNameTaken)
	d.now = t0.Add(30*day + time.Minute)
	want(t, d.Rename(d.now, "bob", "alice"), 0)
}

func TestAdd(t *testing.T) {
	d := newDesk(t, account.Config{Registration: account.Closed})
	salt, err := d.Salt()
	want(t, err, 0)
	_, err = d.Add(d.now, "alice", salt, hash("secret"))
	want(t, err, 0)
	a, err := d.Start(d.now, account.Request{Name: "alice", Source: home})
	want(t, err, 0)
	if a.Salt != salt {
		t.Errorf("got salt %x, want %x", a.Salt, salt)
	}
	_, err = d.Finish(d.now, a, hash("secret"), wire.DeviceKey{1}, "")
	want(t, err, 0)
	_, err = d.Add(d.now, "root", salt, hash("secret"))
	want(t, err, wire.CodeBadName)
}

// failing is a store that cannot write.
type failing struct{ account.Store }

func (failing) Create(account.Account, account.Device, realm.Grant) error {
	return account.ErrUnavailable
}
func (failing) Admit(account.Device, realm.Grant) error { return account.ErrUnavailable }
func (failing) Renew(realm.Grant) error                 { return account.ErrUnavailable }
func (failing) Readmit(account.Account, account.Device, realm.Grant, time.Time) error {
	return account.ErrUnavailable
}
func (failing) Recover([32]byte, account.Password, account.Device, realm.Grant) error {
	return account.ErrUnavailable
}
func (failing) Rename(wire.AccountID, string, time.Time, time.Time, *realm.Grant) error {
	return account.ErrUnavailable
}
func (failing) Fail([]byte, time.Time) error { return account.ErrUnavailable }

// "Never a certificate that was not recorded." Nor is a guess answered that
// could not be counted.
func TestNothingGrantedUnrecorded(t *testing.T) {
	d := newDesk(t, account.Config{})
	g := d.register("alice", "secret", 1)
	want(t, d.SetReset(d.now, "alice", [16]byte{7}), 0)
	d.Registrar = account.New(account.Config{Pepper: [32]byte{1, 2, 3}}, failing{d.st})
	for name, f := range map[string]func() (*account.Grant, error){
		"register": func() (*account.Grant, error) {
			return d.attempt(account.Request{Register: true, Name: "bob"}, "secret", 2)
		},
		"login": func() (*account.Grant, error) { return d.login("alice", "secret", 1) },
		"wrong": func() (*account.Grant, error) { return d.login("alice", "wrong", 1) },
		"renew": func() (*account.Grant, error) { return d.renew(g.Account, wire.DeviceKey{1}) },
		"rename": func() (*account.Grant, error) {
			return d.RenameOwn(d.now, g.Account, wire.DeviceKey{1}, "alina", home)
		},
		"recover": func() (*account.Grant, error) { return nil, d.recover("alice", [16]byte{7}, "new", 1) },
		"readmit": func() (*account.Grant, error) {
			gone := g.Grant
			gone.Account, gone.Key, gone.Name = wire.AccountID{9}, wire.DeviceKey{9}, "gone"
			_, err := d.Readmit(d.now, gone)
			return nil, err
		},
	} {
		if got, err := f(); got != nil || !errors.Is(err, account.ErrUnavailable) {
			t.Errorf("%s: got %+v, %v, want nothing, ErrUnavailable", name, got, err)
		}
	}
}

func TestDeviceNames(t *testing.T) {
	d := newDesk(t, account.Config{StartsPerMinute: -1})
	for i, tt := range []struct{ in, want string }{
		{"Ann's laptop", "Ann's laptop"},
		{"\x1b]0;owned\a", "]0;owned"},
		{"a\u202eb", "ab"},
		{"\xffx", "x"},
		{strings.Repeat("é", 40), strings.Repeat("é", 32)},
	} {
		a, err := d.Start(d.now, account.Request{Register: true, Name: fmt.Sprintf("user%d", i), Source: home})
		want(t, err, 0)
		key := wire.DeviceKey{byte(i)}
		_, err = d.Finish(d.now, a, hash("x"), key, tt.in)
		want(t, err, 0)
		got, err := d.st.Device(key)
		want(t, err, 0)
		if got.Name != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got.Name, tt.want)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"alice", "Alice", "аlice", "x", "root", "a\x1b[31m"} {
		f.Add(s)
	}
	d := newDesk(f, account.Config{})
	f.Fuzz(func(t *testing.T, name string) {
		err := d.NameFree(t0, name)
		if _, refused := errors.AsType[*account.Refusal](err); refused {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if realm.CheckName(name) != nil {
			t.Errorf("%q passed", name)
		}
	})
}

// A ledger is a store that notes what it is asked.
type ledger struct {
	account.Store
	asked []string
}

func (l *ledger) Find(name string) (account.Account, error) {
	l.asked = append(l.asked, "Find")
	return l.Store.Find(name)
}

func (l *ledger) Failures(who []byte) (int, error) {
	l.asked = append(l.asked, "Failures")
	return l.Store.Failures(who)
}

func (l *ledger) Fail(who []byte, now time.Time) error {
	l.asked = append(l.asked, "Fail")
	return l.Store.Fail(who, now)
}

// "Unknown names cost the same work, delay and answer", counted in hashes and
// in what the store is asked, through all of a guesser's attempts.
func TestUnknownNameCostsTheSame(t *testing.T) {
	type cost struct {
		hashes int
		asked  []string
		answer string
	}
	guess := func(name string) (all []cost) {
		d := newDesk(t, account.Config{StartsPerMinute: -1, LockAfter: 12})
		d.register("alice", "secret", 1)
		l := &ledger{Store: d.st}
		d.Registrar = account.New(account.Config{Pepper: [32]byte{1, 2, 3}, StartsPerMinute: -1, LockAfter: 12}, l)
		var hashes int
		d.CountHashes(&hashes)
		for range 40 {
			hashes, l.asked = 0, nil
			_, err := d.login(name, "wrong", 1)
			r, ok := errors.AsType[*account.Refusal](err)
			if !ok {
				t.Fatalf("guessing at %q: %v", name, err)
			}
			all = append(all, cost{hashes, l.asked, fmt.Sprintf("%v %v %s", r.Code, r.RetryAfter, r.Text)})
			d.now = d.now.Add(r.RetryAfter)
		}
		return all
	}
	known, unknown := guess("alice"), guess("nobody")
	for i := range known {
		if !reflect.DeepEqual(known[i], unknown[i]) {
			t.Errorf("attempt %d: a known name costs %+v, an unknown one %+v", i+1, known[i], unknown[i])
		}
	}
	if last := known[len(known)-1]; !strings.Contains(last.answer, wire.CodeAccountLocked.String()) || known[0].hashes == 0 {
		t.Errorf("the first attempt cost %+v, the last %+v", known[0], last)
	}
}
