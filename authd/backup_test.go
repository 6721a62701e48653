package main

import (
	"archive/tar"
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lanchat/authd/account"
	"lanchat/authd/server"
	"lanchat/authd/store"
	"lanchat/node/login"
	"lanchat/testdata/bench/light"
	"lanchat/wire"
	"lanchat/wire/link"
)

const testPassword = "seventeen wet herons"

// must runs a command that has to succeed and returns what it prints.
func must(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, errs, status := runAuthd(t, stdin, args...)
	if status != 0 || errs != "" {
		t.Fatalf("authd %v: got status %d, %q", args, status, errs)
	}
	return out
}

// openStore opens the database beside whatever else uses it.
func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	r, _, err := server.ReadRealm(dir)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(filepath.Join(dir, server.DatabaseFile), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// A device is a node as far as authd sees one.
type device struct {
	t       testing.TB
	profile *login.Profile
}

func newDevice(t testing.TB) *device {
	t.Helper()
	p, err := login.Open(filepath.Join(t.TempDir(), "node"))
	if err != nil {
		t.Fatal(err)
	}
	return &device{t, p}
}

// with runs f on a session with the authd.
func (d *device) with(a *running, f func(*login.Session)) {
	d.t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	defer pc.Close()
	tr := link.NewTransport(pc, nil)
	defer tr.Close()
	s, err := login.Dial(d.t.Context(), tr, netip.MustParseAddrPort(a.block["address"]),
		login.Config{Profile: d.profile, Trust: login.Trust{First: true}})
	if err != nil {
		d.t.Fatalf("dialling: %v", err)
	}
	defer s.Close()
	f(s)
}

// newLight is a node without a disk and without the slow hash.
func newLight(t testing.TB, name string) *light.Node {
	t.Helper()
	n, err := light.New(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (d *device) register(a *running, name string) {
	d.t.Helper()
	d.with(a, func(s *login.Session) {
		if _, err := s.Register(d.t.Context(), name, testPassword, nil, "laptop"); err != nil {
			d.t.Fatalf("registering: %v", err)
		}
	})
}

// The realm in a backup is the realm: it takes tokens and passwords from
// before.
func TestBackupAndRestore(t *testing.T) {
	dir, file := filepath.Join(t.TempDir(), "authd"), filepath.Join(t.TempDir(), "realm.tar")
	a := start(t, dir, "--registration", "open")
	alice := newDevice(t)
	alice.register(a, "alice")
	crl := func(dir string, now time.Time) uint64 {
		t.Helper()
		n, _, err := openStore(t, dir).NextCRL(now, now)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	ahead := time.Now().Add(time.Hour) // of what the restored authd's clock says
	before := crl(dir, ahead)

	must(t, "", "backup", file, "--data", dir)
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 1 {
		t.Errorf("left beside the backup: %v, %v", entries, err)
	}
	if _, errs, status := runAuthd(t, "", "backup", file, "--data", dir); status != 1 || !strings.Contains(errs, "there already") {
		t.Errorf("a second to the same file: got status %d, %q", status, errs)
	}
	must(t, testPassword, "user", "add", "late", "--data", dir)
	if got := a.stop(syscall.SIGTERM); got != 0 {
		t.Errorf("got status %d, %q", got, &a.stderr)
	}

	// Elsewhere, and over the realm as it is now.
	for _, to := range []string{filepath.Join(t.TempDir(), "new", "authd"), dir} {
		must(t, "", "restore", file, "--force", "--data", to)
		if names, want := keyNames(t, to), keyNames(t, dir); !slices.Equal(names, want) {
			t.Errorf("got %v, want %v", names, want)
		}
		if got := crl(to, time.Now()); got <= before {
			t.Errorf("revocation list %d after %d", got, before)
		}
		b := start(t, to)
		want(t, "fingerprint", b.block["fingerprint"], a.block["fingerprint"])
		want(t, "realm", b.block["realm"], a.block["realm"])
		want(t, "accounts", b.block["accounts"], "1") // alice, not late
		alice.with(b, func(s *login.Session) {
			if s.Token() == nil || s.Token().Name != "alice" {
				t.Errorf("got the token %+v, want alice's", s.Token())
			}
			if _, err := s.Renew(t.Context()); err != nil {
				t.Errorf("renewing: %v", err)
			}
		})
		newDevice(t).with(b, func(s *login.Session) {
			if _, err := s.Login(t.Context(), "alice", testPassword, "phone"); err != nil {
				t.Errorf("logging in: %v", err)
			}
		})
		if got := b.stop(os.Interrupt); got != 0 {
			t.Errorf("got status %d, %q", got, &b.stderr)
		}
	}
}

// keyNames returns the names in a data directory but for what comes and goes.
func keyNames(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), server.DatabaseFile+"-") {
			names = append(names, e.Name())
		}
	}
	return names
}

// While others write, a backup is the state at one moment: of accounts made
// one after the other it has all up to some.
func TestBackupUnderLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authd")
	a := start(t, dir)
	st := openStore(t, dir)
	var made atomic.Int64
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := int64(1); ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			id := wire.AccountID{byte(i >> 8), byte(i), 1}
			if err := st.Add(account.Account{ID: id, Name: fmt.Sprintf("user%d", i), NameSeq: 1, Created: time.Now()}); err != nil {
				stopped <- err
				return
			}
			made.Store(i)
			for range 50 { // look-ups, as an authd makes: SQLite's lock is not handed on in turn
				if _, err := st.List(); err != nil {
					stopped <- err
					return
				}
			}
		}
	}()
	type backup struct {
		file          string
		before, after int64 // accounts known to be made, at its start and its end
	}
	var backups []backup
	for i := range 3 {
		b := backup{file: filepath.Join(t.TempDir(), fmt.Sprintf("%d.tar", i)), before: made.Load()}
		must(t, "", "backup", b.file, "--data", dir)
		b.after = made.Load() + 1 // one may be on disk and not counted yet
		backups = append(backups, b)
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if made.Load() == 0 {
		t.Fatal("nothing was written meanwhile")
	}
	if got := a.stop(os.Interrupt); got != 0 {
		t.Errorf("got status %d, %q", got, &a.stderr)
	}
	for _, b := range backups {
		to := filepath.Join(t.TempDir(), "restored")
		must(t, "", "restore", b.file, "--data", to)
		db, err := sql.Open("sqlite3", filepath.Join(to, server.DatabaseFile))
		if err != nil {
			t.Fatal(err)
		}
		var ok string
		var count, last int64
		err = errors.Join(
			db.QueryRow("PRAGMA integrity_check").Scan(&ok),
			db.QueryRow("SELECT count(*), coalesce(max(CAST(substr(name, 5) AS INTEGER)), 0) FROM account").Scan(&count, &last),
			db.Close())
		if err != nil || ok != "ok" || count != last || count < b.before || count > b.after {
			t.Errorf("got %d accounts, the last is %d, %q, %v; want all up to one of %d to %d", count, last, ok, err, b.before, b.after)
		}
	}
}

// A file in an archive.
type member struct {
	name    string
	content []byte
	kind    byte
}

func readTar(t testing.TB, path string) (all []member) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, member{h.Name, b, h.Typeflag})
	}
}

func makeTar(t testing.TB, all []member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range all {
		h := &tar.Header{Name: m.name, Typeflag: m.kind, Size: int64(len(m.content)), Mode: 0o600}
		if m.kind == tar.TypeSymlink {
			h.Linkname, h.Size, m.content = "/etc/passwd", 0, nil
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// snapshot returns all that is in a directory.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[path] = "directory"
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What is no whole backup is refused, and the realm that is there stays as it
// is, --force or not.
func TestRestoreRefuses(t *testing.T) {
	dir, other := filepath.Join(t.TempDir(), "authd"), filepath.Join(t.TempDir(), "authd")
	file, otherFile := filepath.Join(t.TempDir(), "a.tar"), filepath.Join(t.TempDir(), "b.tar")
	a := start(t, dir)
	must(t, "", "backup", file, "--data", dir)
	if _, errs, status := runAuthd(t, "", "restore", file, "--force", "--data", dir); status != 1 || !strings.Contains(errs, "authd is running") {
		t.Errorf("while authd runs: got status %d, %q", status, errs)
	}
	a.stop(os.Interrupt)
	start(t, other).stop(os.Interrupt)
	must(t, "", "backup", otherFile, "--data", other)
	before := snapshot(t, dir)

	good, foreign := readTar(t, file), readTar(t, otherFile)
	if n := len(good); n < 4 || good[0].name != server.DatabaseFile || good[n-1].name != rootFile {
		t.Fatalf("got %d files in the backup, want the database first, root.pem last", n)
	}
	without := func(name string) []member {
		return slices.DeleteFunc(slices.Clone(good), func(m member) bool { return m.name == name })
	}
	with := func(m member) []member { return append(slices.Clone(good), m) }
	instead := func(name string, content []byte) []member {
		return append(without(name), member{name, content, tar.TypeReg})
	}
	of := func(all []member, name string) []byte {
		return all[slices.IndexFunc(all, func(m member) bool { return m.name == name })].content
	}
	whole := makeTar(t, good)
	damaged := bytes.Clone(good[0].content)
	for i := 4096; i < len(damaged); i += 4096 { // all pages but the first
		copy(damaged[i:], "\xff\xff\xff\xff\xff\xff\xff\xff")
	}
	for _, tt := range []struct {
		name    string
		archive []byte
		want    string
	}{
		{"empty", nil, "lacks root.pem"},
		{"no archive", []byte(strings.Repeat("hello ", 200)), "tar"},
		{"cut in the database", whole[:2000], "EOF"},
		{"cut in root.pem", whole[:len(whole)-1500], ""},
		{"no root.pem", makeTar(t, without(rootFile)), "lacks root.pem"},
		{"no database", makeTar(t, without(server.DatabaseFile)), "lacks authd.db"},
		{"no pepper", makeTar(t, without("pepper.pem")), "pepper.pem"},
		{"database of another realm", makeTar(t, instead(server.DatabaseFile, of(foreign, server.DatabaseFile))), "another realm"},
		{"damaged database", makeTar(t, instead(server.DatabaseFile, damaged)), "damaged"},
		{"no database but text", makeTar(t, instead(server.DatabaseFile, bytes.Repeat([]byte("text"), 2000))), "not a database"},
		{"root.pem of another realm", makeTar(t, instead(rootFile, of(foreign, rootFile))), "belong"},
		{"damaged key", makeTar(t, instead("issuing.pem", []byte("x"))), "issuing.pem"},
		{"twice", makeTar(t, with(good[1])), "twice"},
		{"way out", makeTar(t, with(member{"../evil.pem", nil, tar.TypeReg})), "evil.pem"},
		{"absolute", makeTar(t, with(member{"/tmp/evil.pem", nil, tar.TypeReg})), "evil.pem"},
		{"something else", makeTar(t, with(member{"lock", nil, tar.TypeReg})), `"lock"`},
		{"link", makeTar(t, with(member{"evil.pem", nil, tar.TypeSymlink})), `"evil.pem"`},
		{"directory", makeTar(t, with(member{"evil.pem", nil, tar.TypeDir})), "evil.pem"},
		{"control characters", makeTar(t, with(member{"\x1b[31m.pem", nil, tar.TypeReg})), `\x1b`},
		{"large key", makeTar(t, with(member{"big.pem", make([]byte, maxKeyFile+1), tar.TypeReg})), "too large"},
		{"bomb", makeTar(t, with(member{strings.Repeat("x", 33) + ".pem", nil, tar.TypeReg})), "no place"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "bad.tar")
			if err := os.WriteFile(bad, tt.archive, 0o600); err != nil {
				t.Fatal(err)
			}
			_, errs, status := runAuthd(t, "", "restore", bad, "--force", "--data", dir)
			if status != 1 || !strings.Contains(errs, "nothing was changed") || !strings.Contains(errs, tt.want) || strings.Contains(errs, "\x1b") {
				t.Errorf("got status %d, %q, want %q", status, errs, tt.want)
			}
			for path, content := range snapshot(t, dir) {
				if content != before[path] {
					t.Errorf("%q was changed", path)
				}
			}
		})
	}

	if _, errs, status := runAuthd(t, "", "restore", otherFile, "--data", dir); status != 1 || !strings.Contains(errs, "--force") {
		t.Errorf("over a realm: got status %d, %q", status, errs)
	}
	// What is left of an interrupted one is a realm that does not start, and
	// can be restored.
	if err := os.Remove(filepath.Join(dir, rootFile)); err != nil {
		t.Fatal(err)
	}
	if _, errs, status := runAuthd(t, "", "--data", dir, "--listen", "127.0.0.1:0", "--iface", "lo", "--no-mdns"); status != 1 || !strings.Contains(errs, "root.pem") {
		t.Errorf("without root.pem: got status %d, %q", status, errs)
	}
	if _, errs, status := runAuthd(t, "", "restore", file, "--data", dir); status != 1 || !strings.Contains(errs, "--force") {
		t.Errorf("over the rest of a realm: got status %d, %q", status, errs)
	}
	// A write-ahead log and keys of the old realm must not get into the new one.
	for _, name := range []string{server.DatabaseFile + "-wal", "invite.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "", "restore", otherFile, "--force", "--data", dir)
	for path, content := range snapshot(t, dir) {
		if content == "old" {
			t.Errorf("%q is still there", path)
		}
	}
	b := start(t, dir)
	r, _, err := server.ReadRealm(other)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "fingerprint", b.block["fingerprint"], r.Fingerprint().String())
	b.stop(os.Interrupt)
}
