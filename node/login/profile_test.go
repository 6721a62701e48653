package login

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"lanchat/wire"
	"lanchat/wire/realm"
)

// loggedIn makes a profile with everything in it.
func loggedIn(t *testing.T) (dir string, p *Profile, a *authd) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "node")
	p, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a = newAuthd(t)
	r, err := realm.OfRoot(a.root.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.trust(r, netip.MustParseAddrPort("[fe80::1%eth0]:4747"), time.Now()); err != nil {
		t.Fatal(err)
	}
	leaf, err := a.issuing.IssueToken(rand.Reader, realm.Grant{Account: wire.AccountID{1}, Key: p.DeviceKey(), Name: "alice", NameSeq: 1, From: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.Verifier().Device(append(a.chain[:0:0], leaf, a.issuing.Cert), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.setToken(token); err != nil {
		t.Fatal(err)
	}
	a.number = 3
	if changed, err := p.SetCRL(a.issuing.Cert.Raw, a.list()); !changed || err != nil {
		t.Fatal(changed, err)
	}
	return dir, p, a
}

func TestProfile(t *testing.T) {
	dir, p, a := loggedIn(t)
	q, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !q.Key().Equal(p.Key()) || q.Token().Serial != p.Token().Serial || q.Verifier().CRL().Number != 3 {
		t.Errorf("opened again: another key, token %+v or list number %d", q.Token(), q.Verifier().CRL().Number)
	}
	if pin := q.Pin(); pin.ID != a.root.Realm || pin.Name != "testing" || pin.Address.String() != "[fe80::1%eth0]:4747" || time.Since(pin.Since) > time.Minute {
		t.Errorf("opened again: pin %+v", pin)
	}
	if cert, err := q.Identity(); err != nil || len(cert.Certificate) != 2 {
		t.Errorf("opened again: identity %v, %v", cert, err)
	}
	if runtime.GOOS != "windows" {
		err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; err == nil && info.Mode().Perm() != want {
				t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), "crl.pem device.key realm.json token.pem"; got != want {
		t.Errorf("files %s, want %s", got, want)
	}
	// The device's key is nowhere but in its file.
	for _, name := range []string{crlFile, pinFile, tokenFile} {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		if strings.Contains(string(b), "PRIVATE") {
			t.Errorf("%s has a private key", name)
		}
	}
}

// Like ssh: what others can read or change is not used, and the cure is named.
func TestTooOpen(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	dir, _, _ := loggedIn(t)
	for _, name := range []string{"", keyFile, pinFile, tokenFile, crlFile} {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		right := info.Mode().Perm()
		for _, more := range []fs.FileMode{0o040, 0o020, 0o004, 0o002, 0o001, 0o077} {
			if err := os.Chmod(path, right|more); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir)
			cure := "chmod 600 "
			if name == "" {
				cure = "chmod 700 "
			}
			if !errors.Is(err, ErrTooOpen) || !strings.Contains(err.Error()+" ", cure+path+" ") {
				t.Errorf("%q with mode %v: %v", name, right|more, err)
			}
		}
		if err := os.Chmod(path, right); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir); err != nil {
		t.Errorf("all modes right again: %v", err)
	}
	// An empty directory never held a secret.
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(empty); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	if info, err := os.Stat(empty); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("an empty directory: %v, %v", info.Mode(), err)
	}
}

func TestDamaged(t *testing.T) {
	for _, name := range []string{keyFile, pinFile, tokenFile, crlFile} {
		for how, damage := range map[string]func([]byte) []byte{
			"empty":   func([]byte) []byte { return nil },
			"half":    func(b []byte) []byte { return b[:len(b)/2] },
			"rubbish": func([]byte) []byte { return []byte("\x00\xff rubbish") },
			"longer":  func(b []byte) []byte { return append(b, "more"...) },
			"huge":    func(b []byte) []byte { return append(b, make([]byte, maxFile)...) },
		} {
			dir, _, _ := loggedIn(t)
			path := filepath.Join(dir, name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			if p, err := Open(dir); err == nil || !strings.Contains(err.Error(), name) || p != nil {
				t.Errorf("%s %s: %v", how, name, err)
			}
		}
	}
	// A token that belongs to another key or realm is not used either.
	dir, _, _ := loggedIn(t)
	other, _, _ := loggedIn(t)
	for _, name := range []string{keyFile, pinFile, tokenFile, crlFile} {
		path := filepath.Join(dir, name)
		mine, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, theirs, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil {
			t.Errorf("with another profile's %s", name)
		}
		if err := os.WriteFile(path, mine, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir); err != nil {
		t.Errorf("all put back: %v", err)
	}
}

// What can't be stored is not in force: after a restart it would be gone.
func TestUnwritable(t *testing.T) {
	dir, p, _ := loggedIn(t)
	before := p.Token()
	path := filepath.Join(dir, tokenFile)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	other := *before
	if err := p.setToken(&other); err == nil || p.Token() != before {
		t.Errorf("storing what can't be stored: %v", err)
	}
	if err := p.Forget(); err == nil || p.Token() != before {
		t.Errorf("removing what can't be removed: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// authd takes no key again that was revoked; with a new one this is another
// device of the same realm.
func TestReplaceKey(t *testing.T) {
	dir, p, a := loggedIn(t)
	old := p.DeviceKey()
	if err := p.ReplaceKey(); err != nil {
		t.Fatal(err)
	}
	if p.DeviceKey() == old || p.Token() != nil || p.Pin().ID != a.root.Realm {
		t.Errorf("key %v, token %v, realm %v", p.DeviceKey(), p.Token(), p.Pin().ID)
	}
	token, cert := p.present(false)
	if key, err := realm.Newcomer([]*x509.Certificate{cert.Leaf}); token != nil || err != nil || key != p.DeviceKey() {
		t.Errorf("presented: %v, key %v, %v", token, key, err)
	}
	q, err := Open(dir)
	if err != nil || q.DeviceKey() != p.DeviceKey() || q.Token() != nil {
		t.Errorf("opened again: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file); err == nil {
		t.Error("a file is opened as a profile")
	}
	p, err := Open(filepath.Join(t.TempDir(), "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Pin() != nil || p.Token() != nil || p.Verifier() != nil {
		t.Error("a new profile trusts somebody")
	}
	if _, err := p.SetCRL(nil, nil); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a revocation list without a realm: %v", err)
	}
}
