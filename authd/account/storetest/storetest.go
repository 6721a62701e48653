// Package storetest says what an account.Store does, as tests that any store
// can run: whatever takes SQLite's place has to pass them.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) account.Store { … })
//	}
//
// It is imported by tests only.
package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"lanchat/authd/account"
	"lanchat/wire"
	"lanchat/wire/realm"
)

// Run runs the suite. open returns a store that is empty, and closes it when
// the test ends; it is called once for every test.
func Run(t *testing.T, open func(t testing.TB) account.Store) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, account.Store)
	}{
		{"CreateAndFind", testCreateAndFind},
		{"CreateAllOrNothing", testCreateAllOrNothing},
		{"AdmitAndRenew", testAdmitAndRenew},
		{"Failures", testFailures},
		{"Remove", testRemove},
		{"Rename", testRename},
		{"ShuttingOut", testShuttingOut},
		{"SetPassword", testSetPassword},
		{"SignOut", testSignOut},
		{"Reset", testReset},
		{"RenameWithGrant", testRenameWithGrant},
		{"MaxCertificates", testMaxCertificates},
		{"CRLNumberRises", testCRLNumberRises},
		{"Readmit", testReadmit},
		{"AtOnce", testAtOnce},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

// T0 is when everything here begins.
var T0 = time.Unix(1_800_000_000, 0)

// Month is the life of certificates here.
const Month = 30 * 24 * time.Hour

// Account returns an account, numbered n throughout.
func Account(n byte, name string) account.Account {
	return account.Account{
		ID: wire.AccountID{n}, Name: name, NameSeq: 1, Salt: [16]byte{n, 1}, Salt2: [16]byte{n, 2},
		Verifier: [32]byte{n, 3}, Created: T0,
	}
}

// Device returns a device of the account.
func Device(a account.Account, n byte) account.Device {
	return account.Device{Key: wire.DeviceKey{n}, Account: a.ID, Name: "laptop", Created: T0, Expires: T0.Add(Month)}
}

// Certificate returns what a certificate of the device says.
func Certificate(d account.Device, n byte, name string) realm.Grant {
	return realm.Grant{
		Serial: realm.Serial{0x40, n}, Account: d.Account, Key: d.Key, Name: name, NameSeq: 1,
		From: T0, NotAfter: T0.Add(Month),
	}
}

// MustCreate stores an account with one device, numbered n throughout.
func MustCreate(t testing.TB, s account.Store, n byte, name string) (account.Account, account.Device) {
	t.Helper()
	a := Account(n, name)
	d := Device(a, n)
	if err := s.Create(a, d, Certificate(d, n, name)); err != nil {
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

func testCreateAndFind(t *testing.T, s account.Store) {
	a, d := MustCreate(t, s, 1, "alice")

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
func testCreateAllOrNothing(t *testing.T, s account.Store) {
	alice, d := MustCreate(t, s, 1, "alice")

	bob := Account(2, "bob")
	for _, tt := range []struct {
		name string
		a    account.Account
		d    account.Device
		c    realm.Grant
		want error
	}{
		{"name taken", Account(2, "alice"), Device(bob, 2), Certificate(d, 2, "alice"), account.ErrNameTaken},
		{"id taken", Account(1, "bob"), Device(bob, 2), Certificate(d, 2, "bob"), account.ErrNameTaken},
		{"device taken", bob, Device(bob, 1), Certificate(d, 2, "bob"), account.ErrDeviceTaken},
		{"serial used", bob, Device(bob, 2), Certificate(d, 1, "bob"), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := s.Create(tt.a, tt.d, tt.c)
			if tt.want != nil {
				wantErr(t, err, tt.want)
			} else if err == nil {
				t.Error("stored")
			}
			if n, err := s.Count(); n != 1 || err != nil {
				t.Errorf("%d accounts, %v, want 1", n, err)
			}
			if got, err := s.Devices(alice.ID); err != nil || len(got) != 1 || got[0] != d {
				t.Errorf("alice's devices are %+v, %v", got, err)
			}
			_, err = s.Device(wire.DeviceKey{2})
			wantErr(t, err, account.ErrNotFound)
			for _, id := range []wire.AccountID{alice.ID, bob.ID} {
				want := 0
				if id == alice.ID {
					want = 1
				}
				if n, err := s.Names(id, T0); n != want || err != nil {
					t.Errorf("%v has certificates of %d names, %v, want %d", id, n, err, want)
				}
			}
		})
	}
}

func testAdmitAndRenew(t *testing.T, s account.Store) {
	a, d := MustCreate(t, s, 1, "alice")
	b, _ := MustCreate(t, s, 2, "bob")

	// A known device logs in again, under a new name; failures are forgotten.
	if err := s.Fail(a.ID[:], T0); err != nil {
		t.Fatal(err)
	}
	d.Name, d.Expires = "desktop", T0.Add(2*Month)
	if err := s.Admit(d, Certificate(d, 10, "alice")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Device(d.Key); err != nil || got != d {
		t.Errorf("Device: got %+v, %v, want %+v", got, err, d)
	}
	if n, err := s.Failures(a.ID[:]); n != 0 || err != nil {
		t.Errorf("Failures: got %d, %v, want 0", n, err)
	}

	// A new device.
	d2 := Device(a, 11)
	if err := s.Admit(d2, Certificate(d2, 11, "alice")); err != nil {
		t.Fatal(err)
	}
	if devices, _ := s.Devices(a.ID); len(devices) != 2 {
		t.Errorf("got %d devices, want 2", len(devices))
	}

	// Somebody else's device, and an account that is gone.
	theirs := Device(b, 11)
	wantErr(t, s.Admit(theirs, Certificate(theirs, 12, "bob")), account.ErrDeviceTaken)
	orphan := Device(Account(9, "nobody"), 12)
	wantErr(t, s.Admit(orphan, Certificate(orphan, 12, "nobody")), account.ErrNotFound)

	c := Certificate(d, 13, "alice")
	c.NotAfter = T0.Add(3 * Month)
	if err := s.Renew(c); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Device(d.Key); !got.Expires.Equal(c.NotAfter) {
		t.Errorf("after Renew the device expires %v, want %v", got.Expires, c.NotAfter)
	}
	c.Serial, c.Account = realm.Serial{0x40, 14}, b.ID
	wantErr(t, s.Renew(c), account.ErrNotFound)
	for _, id := range []wire.AccountID{a.ID, b.ID} { // puts all certificates on the list
		if err := s.Disable(id, T0); err != nil {
			t.Fatal(err)
		}
	}
	if _, all, err := s.NextCRL(T0, T0); len(all) != 5 || err != nil {
		t.Errorf("got %d certificates, %v, want 5", len(all), err)
	}
}

func testFailures(t *testing.T, s account.Store) {
	bucket := []byte{1, 2} // of unknown names: no account needed
	for range 3 {
		if err := s.Fail(bucket, T0); err != nil {
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
func testRemove(t *testing.T, s account.Store) {
	a, d := MustCreate(t, s, 1, "alice")
	MustCreate(t, s, 2, "bob")

	now := T0.Add(time.Hour)
	if err := s.Remove(a.ID, now, now.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Find("alice")
	wantErr(t, err, account.ErrNotFound)
	_, err = s.Device(d.Key)
	wantErr(t, err, account.ErrNotFound)
	wantErr(t, s.Remove(a.ID, now, now), account.ErrNotFound)

	end := T0.Add(Month) // the certificate outlives the time that was asked for
	for _, tt := range []struct {
		at   time.Time
		want bool
	}{{now, true}, {end.Add(-time.Second), true}, {end, false}} {
		if got, err := s.Taken("alice", tt.at); got != tt.want || err != nil {
			t.Errorf("Taken at %v: got %v, %v, want %v", tt.at, got, err, tt.want)
		}
	}
	again := Account(3, "alice")
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

func testRename(t *testing.T, s account.Store) {
	a, d := MustCreate(t, s, 1, "alice")
	b, _ := MustCreate(t, s, 2, "bob")

	now, until := T0.Add(time.Hour), T0.Add(2*Month)
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
		{"bob", T0.Add(Month - time.Second), true}, {"bob", T0.Add(Month), false},
	} {
		if got, err := s.Taken(tt.name, tt.at); got != tt.want || err != nil {
			t.Errorf("Taken(%q) at %v: got %v, %v, want %v", tt.name, tt.at, got, err, tt.want)
		}
	}
	if err := s.Rename(b.ID, "alice", until, until, nil); err != nil {
		t.Errorf("after the quarantine: %v", err)
	}
}

func testShuttingOut(t *testing.T, s account.Store) {
	a, d := MustCreate(t, s, 1, "alice")
	b, _ := MustCreate(t, s, 2, "bob")
	revoked := func() (serials []realm.Serial) {
		t.Helper()
		_, all, err := s.NextCRL(T0, T0)
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
		if err := s.Disable(b.ID, T0); err != nil {
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

	if err := s.Revoke(d.Key, T0); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Device(d.Key); err != nil || !got.Revoked {
		t.Errorf("got %+v, %v, want it revoked", got, err)
	}
	if got := revoked(); !slices.Equal(got, []realm.Serial{one}) {
		t.Errorf("alice's device revoked: got %v, want %v", got, one)
	}
	wantErr(t, s.Renew(Certificate(d, 3, "alice")), account.ErrNotFound)
	if list, err := s.List(); err != nil || list[0].Devices != 0 {
		t.Errorf("got %+v, %v, want alice without devices", list, err)
	}
	if err := s.Disable(a.ID, T0); err != nil { // each on the list once
		t.Fatal(err)
	}
	if got := revoked(); !slices.Equal(got, []realm.Serial{one}) {
		t.Errorf("got %v, want %v", got, one)
	}

	wantErr(t, s.Disable(wire.AccountID{9}, T0), account.ErrNotFound)
	wantErr(t, s.Enable(wire.AccountID{9}), account.ErrNotFound)
	wantErr(t, s.Revoke(wire.DeviceKey{9}, T0), account.ErrNotFound)
}

func testSetPassword(t *testing.T, s account.Store) {
	a, _ := MustCreate(t, s, 1, "alice")
	if err := s.Fail(a.ID[:], T0); err != nil {
		t.Fatal(err)
	}
	if err := s.SetReset(a.ID, [32]byte{5}, T0.Add(time.Hour)); err != nil {
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
	_, err := s.Reset(a.ID, T0)
	wantErr(t, err, account.ErrNotFound) // void with the password that it was to replace
	wantErr(t, s.SetPassword(wire.AccountID{9}, p), account.ErrNotFound)
}

// The others are out, their certificates on the list, and nobody else's.
func testSignOut(t *testing.T, s account.Store) {
	a, here := MustCreate(t, s, 1, "alice")
	_, bobs := MustCreate(t, s, 2, "bob")
	there := Device(a, 3)
	if err := s.Admit(there, Certificate(there, 3, "alice")); err != nil {
		t.Fatal(err)
	}
	p := account.Password{Salt: [16]byte{7}, Salt2: [16]byte{8}, Verifier: [32]byte{9}}
	wantErr(t, s.SignOut(wire.AccountID{9}, p, here.Key, T0), account.ErrNotFound)
	if err := s.SignOut(a.ID, p, here.Key, T0); err != nil {
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
	_, revoked, err := s.NextCRL(T0, T0)
	if err != nil || len(revoked) != 1 || revoked[0].Serial != (realm.Serial{0x40, 3}) {
		t.Errorf("got %+v, %v, want the other device's certificate", revoked, err)
	}
	if got, _ := s.Get(a.ID); got.Verifier != p.Verifier {
		t.Error("the password is the old one")
	}
}

func testReset(t *testing.T, s account.Store) {
	a, d := MustCreate(t, s, 1, "alice")
	b, _ := MustCreate(t, s, 2, "bob")
	until := T0.Add(time.Hour)
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
	_, err = s.Reset(b.ID, T0)
	wantErr(t, err, account.ErrNotFound)

	p := account.Password{Salt: [16]byte{7}, Salt2: [16]byte{8}, Verifier: [32]byte{9}}
	n := Device(a, 3)
	wantErr(t, s.Recover([32]byte{4}, p, n, Certificate(n, 3, "alice")), account.ErrNotFound)
	taken := Device(a, 2) // bob's
	wantErr(t, s.Recover([32]byte{5}, p, taken, Certificate(taken, 4, "alice")), account.ErrDeviceTaken)
	if got, err := s.Get(a.ID); err != nil || got != a {
		t.Errorf("after what was refused: got %+v, %v, want %+v", got, err, a)
	}
	if err := s.Recover([32]byte{5}, p, n, Certificate(n, 5, "alice")); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Get(a.ID); got.Verifier != p.Verifier || got.Salt != p.Salt || got.Salt2 != p.Salt2 {
		t.Errorf("got %+v, want the new password", got)
	}
	if got, err := s.Device(n.Key); err != nil || got.Account != a.ID {
		t.Errorf("got %+v, %v, want alice's second device", got, err)
	}
	wantErr(t, s.Recover([32]byte{5}, p, d, Certificate(d, 6, "alice")), account.ErrNotFound)

	// A code goes with its account.
	if err := s.SetReset(a.ID, [32]byte{6}, until); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(a.ID, T0, until); err != nil {
		t.Fatal(err)
	}
	_, err = s.Reset(a.ID, T0)
	wantErr(t, err, account.ErrNotFound)
}

// Who renews all the time does not fill the disk: the newest are kept, and those
// of other names and devices.
func testMaxCertificates(t *testing.T, s account.Store) {
	a, d := MustCreate(t, s, 1, "alice")
	second := Device(a, 2)
	if err := s.Admit(second, Certificate(second, 2, "alice")); err != nil {
		t.Fatal(err)
	}
	g := Certificate(d, 3, "anna")
	g.NameSeq = 2
	if err := s.Rename(a.ID, "anna", T0, T0.Add(Month), &g); err != nil {
		t.Fatal(err)
	}
	for i := range account.MaxCertificates + 50 {
		g.Serial, g.NotAfter = realm.Serial{0x50, byte(i >> 8), byte(i)}, T0.Add(Month+time.Duration(i)*time.Minute)
		if err := s.Renew(g); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Names(a.ID, T0); n != 2 || err != nil {
		t.Errorf("certificates carry %d names, %v, want 2", n, err)
	}
	if err := s.Disable(a.ID, T0); err != nil {
		t.Fatal(err)
	}
	_, all, err := s.NextCRL(T0, T0)
	if err != nil || len(all) != account.MaxCertificates+2 {
		t.Errorf("%d certificates are kept, %v, want %d", len(all), err, account.MaxCertificates+2)
	}
	kept := make(map[realm.Serial]bool)
	for _, r := range all {
		kept[r.Serial] = true
	}
	for serial, want := range map[realm.Serial]bool{{0x40, 1}: true, {0x40, 2}: true, {0x50, 0, 0}: false, {0x50, 0, 49}: false, {0x50, 0, 50}: true, g.Serial: true} {
		if kept[serial] != want {
			t.Errorf("certificate %v is kept: %v, want %v", serial, kept[serial], want)
		}
	}
	if _, all, err := s.NextCRL(T0, T0.Add(Month+time.Hour)); err != nil || len(all) == 0 {
		t.Errorf("after the first have ended the list has %d, %v", len(all), err)
	}
}

// Name, quarantine and certificate come together or not at all.
func testRenameWithGrant(t *testing.T, s account.Store) {
	a, d := MustCreate(t, s, 1, "alice")
	now, until := T0.Add(time.Hour), T0.Add(2*Month)
	g := Certificate(d, 3, "anna")
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
func testCRLNumberRises(t *testing.T, s account.Store) {
	for _, tt := range []struct {
		now  time.Time
		want uint64
	}{
		{T0, uint64(T0.Unix())},
		{T0, uint64(T0.Unix()) + 1},
		{T0.Add(-Month), uint64(T0.Unix()) + 2},
		{T0.Add(time.Hour), uint64(T0.Unix()) + 3600},
	} {
		if got, _, err := s.NextCRL(tt.now, tt.now); got != tt.want || err != nil {
			t.Errorf("at %v: got %d, %v, want %d", tt.now, got, err, tt.want)
		}
	}
}

func testReadmit(t *testing.T, s account.Store) {
	until := T0.Add(2 * Month)
	a := Account(1, "alice")
	d := Device(a, 1)
	shown := Certificate(d, 1, "alice")

	// Nothing is known of alice, then of her second device.
	if err := s.Readmit(a, d, shown, until); err != nil {
		t.Fatal(err)
	}
	second := Device(a, 2)
	if err := s.Readmit(a, second, Certificate(second, 2, "alice"), until); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Find("alice"); err != nil || got != a {
		t.Errorf("got %+v, %v, want %+v", got, err, a)
	}
	if got, err := s.Devices(a.ID); err != nil || len(got) != 2 {
		t.Errorf("devices: got %+v, %v, want 2", got, err)
	}
	wantErr(t, s.Readmit(a, d, shown, until), account.ErrNotFound) // it is on record

	// A later name counts; an earlier one changes nothing.
	b := a
	b.Name, b.NameSeq = "anna", 3
	if err := s.Readmit(b, d, Certificate(d, 3, "anna"), until); err != nil {
		t.Fatal(err)
	}
	if err := s.Readmit(a, d, Certificate(d, 4, "alice"), until); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(a.ID); err != nil || got.Name != "anna" || got.NameSeq != 3 {
		t.Errorf("got %+v, %v, want anna, number 3", got, err)
	}
	if taken, err := s.Taken("alice", until.Add(-time.Second)); !taken || err != nil {
		t.Errorf("the old name: %v, %v, want it taken", taken, err)
	}

	// Nobody gets what is somebody else's, and nothing of it is stored.
	bob, bobs := MustCreate(t, s, 7, "bob")
	c := Account(8, "bob")
	cs := Device(c, 8)
	wantErr(t, s.Readmit(c, cs, Certificate(cs, 8, "bob"), until), account.ErrNameTaken)
	c.Name = "carol"
	theirs := Device(c, 7)
	wantErr(t, s.Readmit(c, theirs, Certificate(theirs, 8, "carol"), until), account.ErrDeviceTaken)
	if _, err := s.Get(c.ID); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("carol: %v", err)
	}

	// Who was shut out stays so.
	if err := s.Revoke(second.Key, T0); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.Readmit(b, second, Certificate(second, 9, "anna"), until), account.ErrDeviceTaken)
	if err := s.Remove(bob.ID, T0, until); err != nil {
		t.Fatal(err)
	}
	bob.Name = "robert"
	wantErr(t, s.Readmit(bob, bobs, Certificate(bobs, 10, "robert"), until), account.ErrNotFound)
}

// What is done at once is done one after the other: a name and a key have one
// owner, and no number of a list is given twice.
func testAtOnce(t *testing.T, s account.Store) {
	const n = 16
	var mu sync.Mutex
	var numbers []uint64
	created := 0
	var all sync.WaitGroup
	for i := range byte(n) {
		all.Go(func() {
			a := Account(i+1, "alice")
			d := Device(a, i+1)
			err := s.Create(a, d, Certificate(d, i+1, "alice"))
			number, _, lerr := s.NextCRL(T0, T0)
			ferr := s.Fail([]byte{1}, T0)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				created++
			} else if !errors.Is(err, account.ErrNameTaken) {
				t.Errorf("creating: %v", err)
			}
			if lerr != nil || ferr != nil || slices.Contains(numbers, number) {
				t.Errorf("list %d after %v: %v, %v", number, numbers, lerr, ferr)
			}
			numbers = append(numbers, number)
		})
	}
	all.Wait()
	if created != 1 {
		t.Errorf("%d accounts have one name", created)
	}
	if got, err := s.Failures([]byte{1}); got != n || err != nil {
		t.Errorf("%d failures, %v, want %d", got, err, n)
	}
	if list, err := s.List(); err != nil || len(list) != 1 || list[0].Devices != 1 {
		t.Errorf("List: %+v, %v", list, err)
	}
}
