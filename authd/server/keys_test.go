package server

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lanchat/authd/store"
	"lanchat/wire/realm"
)

var t0 = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func openKeys(t testing.TB, dir string, now time.Time) *Keys {
	t.Helper()
	k, err := OpenKeys(dir, "test realm", now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	if _, err := k.Maintain(now, 0); err != nil {
		t.Fatal(err)
	}
	return k
}

// makeRealm fills a directory as a first start does, and leaves it.
func makeRealm(t testing.TB, dir string) realm.Realm {
	t.Helper()
	k := openKeys(t, dir, t0)
	if _, err := k.Invite(); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(filepath.Join(dir, DatabaseFile), k.Realm.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.Close(), k.Close()); err != nil {
		t.Fatal(err)
	}
	return k.Realm
}

func TestKeysOfTooOpenMode(t *testing.T) {
	for _, name := range []string{rootFile, pepperFile, issuingFile, authdFile, resetFile} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			makeRealm(t, dir)
			path := filepath.Join(dir, name)
			if err := os.Chmod(path, 0o640); err != nil {
				t.Fatal(err)
			}
			_, err := OpenKeys(dir, "", t0)
			if err == nil || !strings.Contains(err.Error(), "0640") || !strings.Contains(err.Error(), "chmod 600 "+path) {
				t.Errorf("got %v, want the mode and the chmod that cures it", err)
			}
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
			openKeys(t, dir, t0) // and the lock was given up
		})
	}
	t.Run("directory", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "it's here")
		makeRealm(t, dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := OpenKeys(dir, "", t0)
		if want := `chmod 700 '` + filepath.Dir(dir) + `/it'\''s here'`; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	})
	t.Run("empty directory made by hand", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		openKeys(t, dir, t0)
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("got %v, %v, want 0700", info.Mode(), err)
		}
	})
}

func TestOneAuthdPerDirectory(t *testing.T) {
	dir := t.TempDir()
	k := openKeys(t, dir, t0)
	if _, err := OpenKeys(dir, "", t0); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	openKeys(t, dir, t0)
}

func TestReadRealm(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := ReadRealm(dir); !errors.Is(err, ErrNoRealm) {
		t.Errorf("empty: got %v, want ErrNoRealm", err)
	}
	if _, _, err := ReadRealm(filepath.Join(dir, "none")); !errors.Is(err, ErrNoRealm) {
		t.Errorf("no directory: got %v, want ErrNoRealm", err)
	}
	if _, err := ReadPepper(dir); !errors.Is(err, ErrNoRealm) {
		t.Errorf("pepper: got %v, want ErrNoRealm", err)
	}
	k := openKeys(t, dir, t0) // running or not
	r, code, err := ReadRealm(dir)
	if err != nil || r.ID != k.Realm.ID || r.Name != "test realm" || !code.Realm.Matches(r.ID) || code.Invite != nil {
		t.Errorf("got %v %q, code %v, %v", r.ID, r.Name, code, err)
	}
	if pepper, err := ReadPepper(dir); err != nil || pepper != k.pepper || pepper == ([32]byte{}) {
		t.Errorf("pepper: got another one, %v", err)
	}
	invite, err := k.Invite()
	if err != nil || len(invite) != realm.InviteSize {
		t.Fatalf("got invite of %d bytes, %v", len(invite), err)
	}
	if again, err := k.Invite(); err != nil || !bytes.Equal(again, invite) {
		t.Errorf("the invite changed, %v", err)
	}
	if _, code, err := ReadRealm(dir); err != nil || !bytes.Equal(code.Invite, invite) {
		t.Errorf("the code is without the invite, %v", err)
	}
}

// What can't be made again is never replaced without a word.
func TestLostFiles(t *testing.T) {
	for _, tt := range []struct {
		lost string
		want string // in the error; "" for none
	}{
		{rootFile, "backup"},
		{pepperFile, "backup"},
		{issuingFile, ""},
		{authdFile, ""},
		{resetFile, ""},
		{inviteFile, ""},
	} {
		t.Run(tt.lost, func(t *testing.T) {
			dir := t.TempDir()
			before := makeRealm(t, dir)
			if err := os.Remove(filepath.Join(dir, tt.lost)); err != nil {
				t.Fatal(err)
			}
			k, err := OpenKeys(dir, "another name", t0)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.lost) {
					t.Errorf("got %v, want what is missing and %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			if k.Realm.ID != before.ID {
				t.Errorf("got realm %v, want %v", k.Realm.ID, before.ID)
			}
		})
	}
}

func TestDamagedFiles(t *testing.T) {
	for _, name := range []string{rootFile, pepperFile, issuingFile, authdFile, resetFile} {
		for what, damage := range map[string]func([]byte) []byte{
			"empty":   func([]byte) []byte { return nil },
			"half":    func(b []byte) []byte { return b[:len(b)/2] },
			"garbage": func(b []byte) []byte { return bytes.Repeat([]byte{0x5a}, len(b)) },
			"changed": func(b []byte) []byte { return bytes.Replace(b, []byte("LANCHAT"), []byte("LUNCHAT"), -1)[:len(b)-30] },
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				dir := t.TempDir()
				makeRealm(t, dir)
				path := filepath.Join(dir, name)
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage(b), 0o600); err != nil {
					t.Fatal(err)
				}
				if k, err := OpenKeys(dir, "", t0); err == nil {
					// The last block of a file may be gone: the root's key is
					// allowed to be elsewhere.
					if name != rootFile || k.root.Key != nil {
						t.Error("it passed")
					}
					k.Close()
				} else if !strings.Contains(err.Error(), path) {
					t.Errorf("got %v, want the file's name", err)
				}
			})
		}
	}
}

// "Renews its own certificate and the issuing CA in time", with the keys kept
// where others know them.
func TestMaintain(t *testing.T) {
	dir := t.TempDir()
	k := openKeys(t, dir, t0)
	v, err := realm.NewVerifier(k.Realm.Root)
	if err != nil {
		t.Fatal(err)
	}
	first := k.AuthdKey()
	issuers := 1
	for day := range 3 * 365 {
		now := t0.AddDate(0, 0, day)
		changed, err := k.Maintain(now, realm.TokenLife)
		if err != nil {
			t.Fatal(err)
		}
		if changed {
			issuers++
		}
		if got := k.authd.Cert.NotAfter.Sub(now); got < realm.AuthdLife/3-24*time.Hour {
			t.Fatalf("day %d: authd's certificate ends in %v", day, got)
		}
		if got := k.issuer().Cert.NotAfter; got.Before(now.Add(realm.TokenLife)) {
			t.Fatalf("day %d: a token would outlive its issuer, which ends %v", day, got)
		}
		cert, err := k.identity()
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Authd(chainOf(t, cert.Certificate), now); err != nil {
			t.Fatalf("day %d: %v", day, err)
		}
	}
	if !k.AuthdKey().Equal(first) {
		t.Error("authd's key changed")
	}
	if issuers < 3 || issuers > 5 {
		t.Errorf("got %d issuing CAs in three years", issuers)
	}
	issuer := k.issuer()
	k.Close()
	again := openKeys(t, dir, t0.AddDate(3, 0, 0))
	if !again.AuthdKey().Equal(first) || !again.issuing.Cert.Equal(issuer.Cert) {
		t.Error("after a restart other keys than before")
	}
}

// A clock that was wrong at the first start does no lasting harm.
func TestClockWasAhead(t *testing.T) {
	dir := t.TempDir()
	openKeys(t, dir, t0.AddDate(2, 0, 0)).Close()
	k := openKeys(t, dir, t0)
	v, err := realm.NewVerifier(k.Realm.Root)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := k.identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Authd(chainOf(t, cert.Certificate), t0); err != nil {
		t.Errorf("authd: %v", err)
	}
	if !valid(k.issuer(), t0, realm.TokenLife) {
		t.Errorf("issuing CA: valid from %v", k.issuer().Cert.NotBefore)
	}
}

// "The root key may be kept offline": authd goes on without it until something
// has to be signed.
func TestRootKeyElsewhere(t *testing.T) {
	dir := t.TempDir()
	makeRealm(t, dir)
	path := filepath.Join(dir, rootFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, []byte("-----BEGIN PRIVATE"))
	if err := os.WriteFile(path, b[:i], 0o600); err != nil {
		t.Fatal(err)
	}
	k := openKeys(t, dir, t0.Add(24*time.Hour))
	end := k.authd.Cert.NotAfter
	for _, tt := range []struct {
		days   int
		needed time.Time // zero: not yet
	}{{1, time.Time{}}, {59, time.Time{}}, {61, end}, {89, end}} {
		if _, err := k.Maintain(t0.AddDate(0, 0, tt.days), realm.TokenLife); err != nil || !k.RootNeeded().Equal(tt.needed) {
			t.Errorf("after %d days: %v, the key is needed before %v, want %v", tt.days, err, k.RootNeeded(), tt.needed)
		}
	}
	if _, err := k.Maintain(t0.AddDate(0, 0, 91), realm.TokenLife); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("after its end: got %v, want where the key is missing", err)
	}

	// In its last month authd serves on, and asks for the key in its log.
	now := t0.AddDate(0, 0, 80)
	var log bytes.Buffer
	st, err := store.Open(":memory:", k.Realm.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	s, err := New(Config{Keys: k, Store: st, Now: func() time.Time { return now }, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "root key") || !s.Stats().RootNeeded.Equal(end) {
		t.Errorf("got the log %q and %v, want to be asked for the key before %v", &log, s.Stats().RootNeeded, end)
	}

	// Put back, it is used.
	k.Close()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	k = openKeys(t, dir, now)
	if _, err := k.Maintain(now, realm.TokenLife); err != nil || !k.RootNeeded().IsZero() || !k.authd.Cert.NotAfter.After(end) {
		t.Errorf("with the key: %v, needed before %v, valid until %v", err, k.RootNeeded(), k.authd.Cert.NotAfter)
	}
}
