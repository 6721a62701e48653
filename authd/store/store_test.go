package store

import (
	"bytes"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"
	"go.uber.org/goleak"

	"lanchat/authd/account"
	"lanchat/wire"
	"lanchat/wire/dbfile"
	"lanchat/wire/realm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testRealm = wire.RealmID{1, 2, 3}
	t0        = time.Unix(1_800_000_000, 0)
)

const month = 30 * 24 * time.Hour

func newStore(t testing.TB) *Store {
	t.Helper()
	return openAt(t, ":memory:")
}

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, testRealm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// newDir makes a directory as a data directory is.
func newDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func testAccount(n byte, name string) account.Account {
	return account.Account{
		ID: wire.AccountID{n}, Name: name, NameSeq: 1, Salt: [16]byte{n, 1}, Salt2: [16]byte{n, 2},
		Verifier: [32]byte{n, 3}, Created: t0,
	}
}

func testDevice(a account.Account, n byte) account.Device {
	return account.Device{Key: wire.DeviceKey{n}, Account: a.ID, Name: "laptop", Created: t0, Expires: t0.Add(month)}
}

func testCertificate(d account.Device, n byte, name string) realm.Grant {
	return realm.Grant{
		Serial: realm.Serial{0x40, n}, Account: d.Account, Key: d.Key, Name: name, NameSeq: 1,
		From: t0, NotAfter: t0.Add(month),
	}
}

// mustCreate stores an account with one device, numbered n throughout.
func mustCreate(t testing.TB, s *Store, n byte, name string) (account.Account, account.Device) {
	t.Helper()
	a := testAccount(n, name)
	d := testDevice(a, n)
	if err := s.Create(a, d, testCertificate(d, n, name)); err != nil {
		t.Fatal(err)
	}
	return a, d
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

func count(t testing.TB, s *Store, table string) (n int) {
	t.Helper()
	if err := s.db.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCreateAndFind(t *testing.T) {
	s := newStore(t)
	a, d := mustCreate(t, s, 1, "alice")

	got, err := s.Find("alice")
	if err != nil || got != a {
		t.Errorf("Find: got %+v, %v, want %+v", got, err, a)
	}
	got, err = s.Get(a.ID)
	if err != nil || got != a {
		t.Errorf("Get: got %+v, %v, want %+v", got, err, a)
	}
	gotD, err := s.Device(d.Key)
	if err != nil || gotD != d {
		t.Errorf("Device: got %+v, %v, want %+v", gotD, err, d)
	}
	devices, err := s.Devices(a.ID)
	if err != nil || len(devices) != 1 || devices[0] != d {
		t.Errorf("Devices: got %+v, %v, want one, %+v", devices, err, d)
	}
	if n, err := s.Count(); n != 1 || err != nil {
		t.Errorf("Count: got %d, %v, want 1", n, err)
	}

	_, err = s.Find("bob")
	wantErr(t, err, account.ErrNotFound)
	_, err = s.Find("ALICE") // names are compared byte by byte
	wantErr(t, err, account.ErrNotFound)
	_, err = s.Get(wire.AccountID{9})
	wantErr(t, err, account.ErrNotFound)
	_, err = s.Device(wire.DeviceKey{9})
	wantErr(t, err, account.ErrNotFound)
}

// "Every change one transaction": what is refused leaves nothing behind.
func TestCreateAllOrNothing(t *testing.T) {
	s := newStore(t)
	_, d := mustCreate(t, s, 1, "alice")

	bob := testAccount(2, "bob")
	for _, tt := range []struct {
		name string
		a    account.Account
		d    account.Device
		c    realm.Grant
		want error
	}{
		{"name taken", testAccount(2, "alice"), testDevice(bob, 2), testCertificate(d, 2, "alice"), account.ErrNameTaken},
		{"id taken", testAccount(1, "bob"), testDevice(bob, 2), testCertificate(d, 2, "bob"), account.ErrNameTaken},
		{"device taken", bob, testDevice(bob, 1), testCertificate(d, 2, "bob"), account.ErrDeviceTaken},
		{"serial used", bob, testDevice(bob, 2), testCertificate(d, 1, "bob"), sqlite3.ErrConstraintPrimaryKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := s.Create(tt.a, tt.d, tt.c)
			if e, ok := errors.AsType[sqlite3.Error](err); ok {
				err = e.ExtendedCode
			}
			wantErr(t, err, tt.want)
			for _, table := range []string{"account", "device", "certificate"} {
				if n := count(t, s, table); n != 1 {
					t.Errorf("%s: got %d rows, want 1", table, n)
				}
			}
		})
	}
}

func TestAdmitAndRenew(t *testing.T) {
	s := newStore(t)
	a, d := mustCreate(t, s, 1, "alice")
	b, _ := mustCreate(t, s, 2, "bob")

	// A known device logs in again, under a new name; failures are forgotten.
	if err := s.Fail(a.ID[:], t0); err != nil {
		t.Fatal(err)
	}
	d.Name, d.Expires = "desktop", t0.Add(2*month)
	if err := s.Admit(d, testCertificate(d, 10, "alice")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Device(d.Key); err != nil || got != d {
		t.Errorf("Device: got %+v, %v, want %+v", got, err, d)
	}
	if n, err := s.Failures(a.ID[:]); n != 0 || err != nil {
		t.Errorf("Failures: got %d, %v, want 0", n, err)
	}

	// A new device.
	d2 := testDevice(a, 11)
	if err := s.Admit(d2, testCertificate(d2, 11, "alice")); err != nil {
		t.Fatal(err)
	}
	if devices, _ := s.Devices(a.ID); len(devices) != 2 {
		t.Errorf("got %d devices, want 2", len(devices))
	}

	// Somebody else's device, and an account that is gone.
	theirs := testDevice(b, 11)
	wantErr(t, s.Admit(theirs, testCertificate(theirs, 12, "bob")), account.ErrDeviceTaken)
	orphan := testDevice(testAccount(9, "nobody"), 12)
	wantErr(t, s.Admit(orphan, testCertificate(orphan, 12, "nobody")), account.ErrNotFound)

	c := testCertificate(d, 13, "alice")
	c.NotAfter = t0.Add(3 * month)
	if err := s.Renew(c); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Device(d.Key); !got.Expires.Equal(c.NotAfter) {
		t.Errorf("after Renew the device expires %v, want %v", got.Expires, c.NotAfter)
	}
	c.Serial, c.Account = realm.Serial{0x40, 14}, b.ID
	wantErr(t, s.Renew(c), account.ErrNotFound)
	if n := count(t, s, "certificate"); n != 5 {
		t.Errorf("got %d certificates, want 5", n)
	}
}

func TestFailures(t *testing.T) {
	s := newStore(t)
	bucket := []byte{1, 2} // of unknown names: no account needed
	for range 3 {
		if err := s.Fail(bucket, t0); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Failures(bucket); n != 3 || err != nil {
		t.Errorf("got %d, %v, want 3", n, err)
	}
	if err := s.ForgetFailures(bucket); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Failures(bucket); n != 0 || err != nil {
		t.Errorf("forgotten: got %d, %v, want 0", n, err)
	}
	if n, err := s.Failures([]byte{1, 3}); n != 0 || err != nil {
		t.Errorf("another: got %d, %v, want 0", n, err)
	}
}

// "A released name is quarantined for at least one certificate life."
func TestRemove(t *testing.T) {
	s := newStore(t)
	a, d := mustCreate(t, s, 1, "alice")
	mustCreate(t, s, 2, "bob")

	now := t0.Add(time.Hour)
	if err := s.Remove(a.ID, now, now.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Find("alice")
	wantErr(t, err, account.ErrNotFound)
	_, err = s.Device(d.Key)
	wantErr(t, err, account.ErrNotFound)
	wantErr(t, s.Remove(a.ID, now, now), account.ErrNotFound)

	end := t0.Add(month) // the certificate outlives the time that was asked for
	for _, tt := range []struct {
		at   time.Time
		want bool
	}{{now, true}, {end.Add(-time.Second), true}, {end, false}} {
		if got, err := s.Taken("alice", tt.at); got != tt.want || err != nil {
			t.Errorf("Taken at %v: got %v, %v, want %v", tt.at, got, err, tt.want)
		}
	}
	again := testAccount(3, "alice")
	again.Created = end.Add(-time.Second)
	wantErr(t, s.Add(again), account.ErrNameTaken)
	again.Created = end
	if err := s.Add(again); err != nil {
		t.Errorf("after the quarantine: %v", err)
	}

	_, revoked, err := s.NextCRL(now, now)
	if err != nil || len(revoked) != 1 || revoked[0].Serial != (realm.Serial{0x40, 1}) || !revoked[0].At.Equal(now) {
		t.Errorf("revoked: got %+v, %v, want serial 40 01 at %v", revoked, err, now)
	}
	// Once it has ended by itself it leaves the list.
	_, revoked, err = s.NextCRL(end, end.Add(time.Second))
	if err != nil || len(revoked) != 0 {
		t.Errorf("after its end: got %+v, %v, want none", revoked, err)
	}

	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].Name != "alice" || list[0].Devices != 0 || list[1].Name != "bob" || list[1].Devices != 1 {
		t.Errorf("List: got %+v, %v", list, err)
	}
}

func TestRename(t *testing.T) {
	s := newStore(t)
	a, d := mustCreate(t, s, 1, "alice")
	b, _ := mustCreate(t, s, 2, "bob")

	now, until := t0.Add(time.Hour), t0.Add(2*month)
	wantErr(t, s.Rename(a.ID, "bob", now, until, nil), account.ErrNameTaken)
	wantErr(t, s.Rename(wire.AccountID{9}, "dave", now, until, nil), account.ErrNotFound)
	if got, err := s.Get(a.ID); err != nil || got != a {
		t.Errorf("after what was refused: got %+v, %v, want %+v", got, err, a)
	}

	if err := s.Rename(a.ID, "carol", now, until, nil); err != nil {
		t.Fatal(err)
	}
	want := a
	want.Name, want.NameSeq = "carol", a.NameSeq+1
	if got, err := s.Find("carol"); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	_, err := s.Find("alice")
	wantErr(t, err, account.ErrNotFound)
	if got, err := s.Device(d.Key); err != nil || got.Account != a.ID || got.Revoked {
		t.Errorf("device: got %+v, %v, want it unharmed", got, err)
	}
	wantErr(t, s.Rename(b.ID, "alice", until.Add(-time.Second), until, nil), account.ErrNameTaken)

	// The certificate outlives the time that is asked for.
	if err := s.Rename(b.ID, "dave", now, now, nil); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		at   time.Time
		want bool
	}{
		{"alice", until.Add(-time.Second), true}, {"alice", until, false},
		{"bob", t0.Add(month - time.Second), true}, {"bob", t0.Add(month), false},
	} {
		if got, err := s.Taken(tt.name, tt.at); got != tt.want || err != nil {
			t.Errorf("Taken(%q) at %v: got %v, %v, want %v", tt.name, tt.at, got, err, tt.want)
		}
	}
	if err := s.Rename(b.ID, "alice", until, until, nil); err != nil {
		t.Errorf("after the quarantine: %v", err)
	}
}

func TestShuttingOut(t *testing.T) {
	s := newStore(t)
	a, d := mustCreate(t, s, 1, "alice")
	b, _ := mustCreate(t, s, 2, "bob")
	revoked := func() (serials []realm.Serial) {
		t.Helper()
		_, all, err := s.NextCRL(t0, t0)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			serials = append(serials, r.Serial)
		}
		return serials
	}
	one, two := realm.Serial{0x40, 1}, realm.Serial{0x40, 2}

	// Disabled, all certificates are on the list; enabled, none is.
	for range 2 { // twice is the same as once
		if err := s.Disable(b.ID, t0); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := s.Get(b.ID); !got.Disabled {
		t.Error("bob is not disabled")
	}
	if got := revoked(); !slices.Equal(got, []realm.Serial{two}) {
		t.Errorf("bob disabled: got %v, want %v", got, two)
	}
	if err := s.Enable(b.ID); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Get(b.ID); got.Disabled || len(revoked()) != 0 {
		t.Errorf("bob enabled: got %+v, %v on the list", got, revoked())
	}

	if err := s.Revoke(d.Key, t0); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Device(d.Key); err != nil || !got.Revoked {
		t.Errorf("got %+v, %v, want it revoked", got, err)
	}
	if got := revoked(); !slices.Equal(got, []realm.Serial{one}) {
		t.Errorf("alice's device revoked: got %v, want %v", got, one)
	}
	wantErr(t, s.Renew(testCertificate(d, 3, "alice")), account.ErrNotFound)
	if list, err := s.List(); err != nil || list[0].Devices != 0 {
		t.Errorf("got %+v, %v, want alice without devices", list, err)
	}
	if err := s.Disable(a.ID, t0); err != nil { // each on the list once
		t.Fatal(err)
	}
	if got := revoked(); !slices.Equal(got, []realm.Serial{one}) {
		t.Errorf("got %v, want %v", got, one)
	}

	wantErr(t, s.Disable(wire.AccountID{9}, t0), account.ErrNotFound)
	wantErr(t, s.Enable(wire.AccountID{9}), account.ErrNotFound)
	wantErr(t, s.Revoke(wire.DeviceKey{9}, t0), account.ErrNotFound)
}

func TestSetPassword(t *testing.T) {
	s := newStore(t)
	a, _ := mustCreate(t, s, 1, "alice")
	if err := s.Fail(a.ID[:], t0); err != nil {
		t.Fatal(err)
	}
	if err := s.SetReset(a.ID, [32]byte{5}, t0.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	a.Salt, a.Salt2, a.Verifier = [16]byte{7}, [16]byte{8}, [32]byte{9}
	p := account.Password{Salt: a.Salt, Salt2: a.Salt2, Verifier: a.Verifier}
	if err := s.SetPassword(a.ID, p); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Find("alice"); err != nil || got != a {
		t.Errorf("got %+v, %v, want %+v", got, err, a)
	}
	if n, _ := s.Failures(a.ID[:]); n != 0 {
		t.Errorf("got %d failures, want none", n)
	}
	_, err := s.Reset(a.ID, t0)
	wantErr(t, err, account.ErrNotFound) // void with the password that it was to replace
	wantErr(t, s.SetPassword(wire.AccountID{9}, p), account.ErrNotFound)
}

// The others are out, their certificates on the list, and nobody else's.
func TestSignOut(t *testing.T) {
	s := newStore(t)
	a, here := mustCreate(t, s, 1, "alice")
	_, bobs := mustCreate(t, s, 2, "bob")
	there := testDevice(a, 3)
	if err := s.Admit(there, testCertificate(there, 3, "alice")); err != nil {
		t.Fatal(err)
	}
	p := account.Password{Salt: [16]byte{7}, Salt2: [16]byte{8}, Verifier: [32]byte{9}}
	wantErr(t, s.SignOut(wire.AccountID{9}, p, here.Key, t0), account.ErrNotFound)
	if err := s.SignOut(a.ID, p, here.Key, t0); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		key  wire.DeviceKey
		want bool
	}{{here.Key, false}, {there.Key, true}, {bobs.Key, false}} {
		if d, err := s.Device(tt.key); err != nil || d.Revoked != tt.want {
			t.Errorf("got %+v, %v, want revoked %v", d, err, tt.want)
		}
	}
	_, revoked, err := s.NextCRL(t0, t0)
	if err != nil || len(revoked) != 1 || revoked[0].Serial != (realm.Serial{0x40, 3}) {
		t.Errorf("got %+v, %v, want the other device's certificate", revoked, err)
	}
	if got, _ := s.Get(a.ID); got.Verifier != p.Verifier {
		t.Error("the password is the old one")
	}
}

func TestReset(t *testing.T) {
	s := newStore(t)
	a, d := mustCreate(t, s, 1, "alice")
	b, _ := mustCreate(t, s, 2, "bob")
	until := t0.Add(time.Hour)
	wantErr(t, s.SetReset(wire.AccountID{9}, [32]byte{5}, until), account.ErrNotFound)
	for _, code := range [][32]byte{{4}, {5}} { // the second takes the place of the first
		if err := s.SetReset(a.ID, code, until); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Reset(a.ID, until.Add(-time.Second)); err != nil || got != [32]byte{5} {
		t.Errorf("got %x, %v", got, err)
	}
	_, err := s.Reset(a.ID, until)
	wantErr(t, err, account.ErrNotFound)
	_, err = s.Reset(b.ID, t0)
	wantErr(t, err, account.ErrNotFound)

	p := account.Password{Salt: [16]byte{7}, Salt2: [16]byte{8}, Verifier: [32]byte{9}}
	n := testDevice(a, 3)
	wantErr(t, s.Recover([32]byte{4}, p, n, testCertificate(n, 3, "alice")), account.ErrNotFound)
	taken := testDevice(a, 2) // bob's
	wantErr(t, s.Recover([32]byte{5}, p, taken, testCertificate(taken, 4, "alice")), account.ErrDeviceTaken)
	if got, err := s.Get(a.ID); err != nil || got != a {
		t.Errorf("after what was refused: got %+v, %v, want %+v", got, err, a)
	}
	if err := s.Recover([32]byte{5}, p, n, testCertificate(n, 5, "alice")); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Get(a.ID); got.Verifier != p.Verifier || got.Salt != p.Salt || got.Salt2 != p.Salt2 {
		t.Errorf("got %+v, want the new password", got)
	}
	if got, err := s.Device(n.Key); err != nil || got.Account != a.ID {
		t.Errorf("got %+v, %v, want alice's second device", got, err)
	}
	wantErr(t, s.Recover([32]byte{5}, p, d, testCertificate(d, 6, "alice")), account.ErrNotFound)

	// A code goes with its account.
	if err := s.SetReset(a.ID, [32]byte{6}, until); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(a.ID, t0, until); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "reset"); n != 0 {
		t.Errorf("%d codes of nobody", n)
	}
}

// Name, quarantine and certificate come together or not at all.
func TestRenameWithGrant(t *testing.T) {
	s := newStore(t)
	a, d := mustCreate(t, s, 1, "alice")
	now, until := t0.Add(time.Hour), t0.Add(2*month)
	g := testCertificate(d, 3, "anna")
	g.NameSeq = a.NameSeq + 2 // somebody else renamed in between
	wantErr(t, s.Rename(a.ID, "anna", now, until, &g), account.ErrChanged)
	g.NameSeq, g.Key = a.NameSeq+1, wire.DeviceKey{9} // no such device
	wantErr(t, s.Rename(a.ID, "anna", now, until, &g), account.ErrNotFound)
	if got, err := s.Get(a.ID); err != nil || got != a {
		t.Errorf("after what was refused: got %+v, %v, want %+v", got, err, a)
	}
	if taken, _ := s.Taken("anna", now); taken {
		t.Error("the new name is taken by nobody")
	}
	if n := count(t, s, "quarantine"); n != 0 {
		t.Errorf("%d names in quarantine, want none", n)
	}

	g.Key = d.Key
	if err := s.Rename(a.ID, "anna", now, until, &g); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Find("anna"); got.ID != a.ID || got.NameSeq != a.NameSeq+1 {
		t.Errorf("got %+v", got)
	}
	if got, _ := s.Device(d.Key); !got.Expires.Equal(g.NotAfter) {
		t.Errorf("the device's token ends %v, want %v", got.Expires, g.NotAfter)
	}
	if n := count(t, s, "certificate"); n != 2 {
		t.Errorf("%d certificates, want 2", n)
	}
	for _, tt := range []struct {
		at   time.Time
		want int
	}{{now, 2}, {g.NotAfter, 0}} {
		if n, err := s.Names(a.ID, tt.at); n != tt.want || err != nil {
			t.Errorf("at %v: %d names, %v, want %d", tt.at, n, err, tt.want)
		}
	}
}

// "CRL number = max(stored+1, unix seconds)": it rises whatever the clock
// does, and whichever backup came back.
func TestCRLNumberRises(t *testing.T) {
	s := newStore(t)
	for _, tt := range []struct {
		now  time.Time
		want uint64
	}{
		{t0, uint64(t0.Unix())},
		{t0, uint64(t0.Unix()) + 1},
		{t0.Add(-month), uint64(t0.Unix()) + 2},
		{t0.Add(time.Hour), uint64(t0.Unix()) + 3600},
	} {
		if got, _, err := s.NextCRL(tt.now, tt.now); got != tt.want || err != nil {
			t.Errorf("at %v: got %d, %v, want %d", tt.now, got, err, tt.want)
		}
	}
}

func TestReopenKeepsAll(t *testing.T) {
	path := filepath.Join(newDir(t), "authd.db")
	s := openAt(t, path)
	a, _ := mustCreate(t, s, 1, "alice")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path)
	if got, err := s.Find("alice"); err != nil || got != a {
		t.Errorf("got %+v, %v, want %+v", got, err, a)
	}
}

// A store that is never closed stands for a process that was killed: what was
// acknowledged is there.
func TestCommitSurvivesWithoutClose(t *testing.T) {
	path := filepath.Join(newDir(t), "authd.db")
	killed := openAt(t, path)
	a, _ := mustCreate(t, killed, 1, "alice")
	copied := newDir(t)
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, "authd.db"+suffix), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := openAt(t, filepath.Join(copied, "authd.db"))
	if got, err := s.Find("alice"); err != nil || got != a {
		t.Errorf("got %+v, %v, want %+v", got, err, a)
	}
}

func TestFilesArePrivate(t *testing.T) {
	dir := newDir(t)
	path := filepath.Join(dir, "a b?c%d.db") // characters that a DSN would trip over
	s := openAt(t, path)
	mustCreate(t, s, 1, "alice")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 2 {
		t.Errorf("got %d files, want the database and its -wal", len(entries))
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(e.Name(), filepath.Base(path)) || info.Mode().Perm() != 0o600 {
			t.Errorf("%q has mode %v, want 0600", e.Name(), info.Mode())
		}
	}
	s.Close()

	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = Open(path, testRealm)
	if err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file others can read: got %v, want the chmod that cures it", err)
	}
}

//go:embed testdata/v1.sql
var v1 string

// writeVersion1 makes a database as version 1 of the schema left it.
func writeVersion1(t *testing.T) string {
	t.Helper()
	path := filepath.Join(newDir(t), "authd.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(v1); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpensVersion1(t *testing.T) {
	s := openAt(t, writeVersion1(t))
	var version int
	if err := s.db.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != len(format.Migrations) {
		t.Errorf("got version %d, %v, want %d", version, err, len(format.Migrations))
	}
	want := testAccount(1, "alice")
	if got, err := s.Find("alice"); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := s.Devices(want.ID); err != nil || len(got) != 1 || got[0] != testDevice(want, 1) {
		t.Errorf("got %+v, %v", got, err)
	}
	if taken, err := s.Taken("carol", t0); err != nil || !taken {
		t.Errorf("quarantine: got %v, %v, want taken", taken, err)
	}
	if err := s.SetReset(want.ID, [32]byte{1}, t0); err != nil { // of version 2
		t.Error(err)
	}
	if n, err := s.Failures(want.ID[:]); n != 7 || err != nil {
		t.Errorf("failures: got %d, %v, want 7", n, err)
	}
	if number, _, err := s.NextCRL(t0, t0); number != 1_900_000_001 || err != nil {
		t.Errorf("CRL number: got %d, %v, want 1900000001", number, err)
	}
	if boot, err := s.Boot(t0); boot != 1_900_000_501 || err != nil {
		t.Errorf("boot number: got %d, %v, want 1900000501", boot, err)
	}
}

func TestRefusesForeignFiles(t *testing.T) {
	dir := newDir(t)
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, bytes.Repeat([]byte("not a database\n"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(text, testRealm)
	wantErr(t, err, dbfile.ErrNotOurs)

	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", other)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec("CREATE TABLE t (a)")
	db.Close()
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(other, testRealm)
	wantErr(t, err, dbfile.ErrNotOurs)

	ours := filepath.Join(dir, "ours")
	s, err := Open(ours, testRealm)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	_, err = Open(ours, wire.RealmID{9})
	wantErr(t, err, dbfile.ErrNotOurs)

	damaged := filepath.Join(dir, "damaged")
	s, err = Open(damaged, testRealm)
	if err != nil {
		t.Fatal(err)
	}
	for n := range byte(100) {
		mustCreate(t, s, n, fmt.Sprintf("user%d", n))
	}
	s.Close()
	b, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(b); i++ {
		b[i] ^= 0x55
	}
	if err := os.WriteFile(damaged, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(damaged, testRealm)
	wantErr(t, err, dbfile.ErrCorrupt)
}

// "SQLITE_FULL ⇒ refuse the request, never issue a certificate that was not
// recorded", and recover by itself.
func TestFull(t *testing.T) {
	s := openAt(t, filepath.Join(newDir(t), "authd.db"))
	var pages int
	if err := s.db.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages+4)); err != nil {
		t.Fatal(err)
	}
	var err error
	n := byte(0)
	for ; err == nil && n < 255; n++ {
		a := testAccount(n, fmt.Sprintf("user%d", n))
		d := testDevice(a, n)
		err = s.Create(a, d, testCertificate(d, n, a.Name))
	}
	wantErr(t, err, account.ErrUnavailable)
	if e, _ := errors.AsType[sqlite3.Error](err); e.Code != sqlite3.ErrFull {
		t.Errorf("got %v, want SQLITE_FULL inside", err)
	}
	for _, table := range []string{"account", "device", "certificate"} {
		if got := count(t, s, table); got != int(n)-1 {
			t.Errorf("%s: got %d rows, want %d", table, got, n-1)
		}
	}
	if _, err := s.db.Exec("PRAGMA max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, s, 255, "latecomer")
}

func TestMappedErrors(t *testing.T) {
	s := newStore(t)
	for _, code := range []sqlite3.ErrNo{
		sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrReadonly, sqlite3.ErrBusy,
		sqlite3.ErrLocked, sqlite3.ErrCantOpen, sqlite3.ErrNomem,
	} {
		err := s.mapped(fmt.Errorf("doing it: %w", sqlite3.Error{Code: code}))
		if !errors.Is(err, account.ErrUnavailable) {
			t.Errorf("code %d: got %v, want ErrUnavailable", code, err)
		}
	}
	for _, tt := range []struct{ err, want error }{
		{sqlite3.Error{Code: sqlite3.ErrCorrupt}, dbfile.ErrCorrupt},
		{sqlite3.Error{Code: sqlite3.ErrNotADB}, dbfile.ErrNotOurs},
		{sql.ErrNoRows, account.ErrNotFound},
	} {
		wantErr(t, s.mapped(tt.err), tt.want)
	}
	if err := s.mapped(nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	plain := errors.New("plain")
	if err := s.mapped(plain); err != plain {
		t.Errorf("got %v, want it unchanged", err)
	}
}

func TestReadOnlyIsUnavailable(t *testing.T) {
	s := openAt(t, filepath.Join(newDir(t), "authd.db"))
	if _, err := s.db.Exec("PRAGMA query_only = 1"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.Add(testAccount(1, "alice")), account.ErrUnavailable)
}
