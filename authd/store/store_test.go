package store

import (
	"bytes"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mattn/go-sqlite3"
	"go.uber.org/goleak"

	"lanchat/authd/account"
	"lanchat/authd/account/storetest"
	"lanchat/wire"
	"lanchat/wire/dbfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testRealm = wire.RealmID{1, 2, 3}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) account.Store { return newStore(t) })
}

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

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

func TestReopenKeepsAll(t *testing.T) {
	path := filepath.Join(newDir(t), "authd.db")
	s := openAt(t, path)
	a, _ := storetest.MustCreate(t, s, 1, "alice")
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
	a, _ := storetest.MustCreate(t, killed, 1, "alice")
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
	storetest.MustCreate(t, s, 1, "alice")
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
	want := storetest.Account(1, "alice")
	if got, err := s.Find("alice"); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := s.Devices(want.ID); err != nil || len(got) != 1 || got[0] != storetest.Device(want, 1) {
		t.Errorf("got %+v, %v", got, err)
	}
	if taken, err := s.Taken("carol", storetest.T0); err != nil || !taken {
		t.Errorf("quarantine: got %v, %v, want taken", taken, err)
	}
	if err := s.SetReset(want.ID, [32]byte{1}, storetest.T0); err != nil { // of version 2
		t.Error(err)
	}
	if n, err := s.Failures(want.ID[:]); n != 7 || err != nil {
		t.Errorf("failures: got %d, %v, want 7", n, err)
	}
	if number, _, err := s.NextCRL(storetest.T0, storetest.T0); number != 1_900_000_001 || err != nil {
		t.Errorf("CRL number: got %d, %v, want 1900000001", number, err)
	}
	if boot, err := s.Boot(storetest.T0); boot != 1_900_000_501 || err != nil {
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
		storetest.MustCreate(t, s, n, fmt.Sprintf("user%d", n))
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
		a := storetest.Account(n, fmt.Sprintf("user%d", n))
		d := storetest.Device(a, n)
		err = s.Create(a, d, storetest.Certificate(d, n, a.Name))
	}
	wantErr(t, err, account.ErrUnavailable)
	if e, _ := errors.AsType[sqlite3.Error](err); e.Code != sqlite3.ErrFull {
		t.Errorf("got %v, want SQLITE_FULL inside", err)
	}
	for _, table := range []string{"account", "device", "certificate"} {
		var got int
		if err := s.db.QueryRow("SELECT count(*) FROM " + table).Scan(&got); err != nil || got != int(n)-1 {
			t.Errorf("%s: got %d rows, %v, want %d", table, got, err, n-1)
		}
	}
	if _, err := s.db.Exec("PRAGMA max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	storetest.MustCreate(t, s, 255, "latecomer")
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
	wantErr(t, s.Add(storetest.Account(1, "alice")), account.ErrUnavailable)
}
