package dbfile

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/mattn/go-sqlite3"
	"go.uber.org/goleak"

	"lanchat/wire/private"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Which foreign and damaged files Open refuses is tested with the schemas, in
// the stores.
var format = Format{
	ApplicationID: 7,
	Migrations:    []string{"PRAGMA application_id = 7; CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER REFERENCES t); CREATE TABLE node (closed); INSERT INTO node VALUES (1)"},
	Readers:       2,
	Mark:          "node",
	Cure:          "mend it",
}

func openAt(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path, format)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func newPath(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	if err := private.Dir(dir); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "x.db")
}

// "The driver ignores unknown parameters silently: read the pragmas back."
func TestSettingsAreReadBack(t *testing.T) {
	for _, path := range []string{Memory, newPath(t)} {
		f := openAt(t, path)
		for _, db := range []*sql.DB{f.DB, f.Read} {
			if err := readBack(db, wanted); err != nil {
				t.Error(err)
			}
			if err := readBack(db, []setting{{"cell_size_check", "1"}}); err == nil {
				t.Error("a setting that was not made passed")
			}
		}
	}
	for _, list := range []*[]setting{&wantedOfWriter, &wantedOfReader} {
		saved := *list
		*list = append(saved[:len(saved):len(saved)], setting{"cell_size_check", "1"})
		if f, err := Open(newPath(t), format); err == nil {
			f.Close()
			t.Error("a setting that was not made passed Open")
		}
		*list = saved
	}
}

func TestReadersDoNotWrite(t *testing.T) {
	f := openAt(t, newPath(t))
	if _, err := f.Read.Exec("DELETE FROM t"); err == nil {
		t.Error("a reader wrote")
	}
	alone := format
	alone.Readers = 0
	g, err := Open(newPath(t), alone)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if g.Read != g.DB {
		t.Error("without readers, look-ups do not go through the writer")
	}
}

func TestMigration(t *testing.T) {
	path := newPath(t)
	f := openAt(t, path)
	if _, err := f.Exec("INSERT INTO t VALUES (1, 1)"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	good, bad := format, format
	good.Migrations = append(format.Migrations[:1:1], "ALTER TABLE t ADD COLUMN colour TEXT; UPDATE t SET colour = 'red';")
	bad.Migrations = append(good.Migrations[:2:2], "ALTER TABLE t ADD COLUMN size TEXT; UPDATE nothing SET size = 1;")

	if f, err := Open(path, bad); err == nil {
		f.Close()
		t.Fatal("a failing migration passed")
	}
	f, err := Open(path, good)
	if err != nil {
		t.Fatal(err)
	}
	var version, columns int
	var colour string
	err = f.QueryRow("SELECT (SELECT user_version FROM pragma_user_version), colour, (SELECT count(*) FROM pragma_table_info('t') WHERE name = 'size') FROM t").
		Scan(&version, &colour, &columns)
	f.Close()
	if err != nil || version != 2 || colour != "red" || columns != 0 {
		t.Errorf("got version %d, colour %q, %d columns of the failed step, %v; want 2, red, 0", version, colour, columns, err)
	}

	f, err = Open(path, format)
	if err == nil {
		f.Close()
	}
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "version 2, this one knows 1") {
		t.Errorf("got %v, want ErrNewer with both versions", err)
	}
}

// The directory is the other half of what keeps the file from others.
func TestDirectoryMustBeClosed(t *testing.T) {
	path := newPath(t)
	dir := filepath.Dir(path)
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path, format)
	if !errors.Is(err, private.ErrTooOpen) || !strings.Contains(err.Error(), "chmod 700 "+dir) {
		t.Errorf("got %v, want the chmod that cures it", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made all the same: %v", err)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	f := openAt(t, Memory)
	no := errors.New("no")
	err := f.Update(func(tx *sql.Tx) error {
		if _, err := tx.Exec("INSERT INTO t VALUES (1, 1)"); err != nil {
			return err
		}
		return no
	})
	var n int
	if scan := f.Read.QueryRow("SELECT count(*) FROM t").Scan(&n); err != no || n != 0 || scan != nil {
		t.Errorf("got %v, %d rows, %v, want %v and none", err, n, scan, no)
	}
}

func TestConstraints(t *testing.T) {
	f := openAt(t, Memory)
	for _, tt := range []struct {
		statement         string
		duplicate, orphan bool
	}{
		{"INSERT INTO t VALUES (1, 1)", false, false},
		{"INSERT INTO t VALUES (1, 1)", true, false},
		{"INSERT INTO t VALUES (2, 9)", false, true},
		{"no SQL", false, false},
	} {
		_, err := f.Exec(tt.statement)
		if IsDuplicate(err) != tt.duplicate || IsOrphan(err) != tt.orphan {
			t.Errorf("%s: got duplicate %v, orphan %v for %v", tt.statement, IsDuplicate(err), IsOrphan(err), err)
		}
	}
}

func TestMappedErrors(t *testing.T) {
	f := &File{dir: "/there", format: format}
	for _, tt := range []struct {
		err  sqlite3.Error
		code string
	}{
		{sqlite3.Error{Code: sqlite3.ErrFull}, "disk_full"},
		{sqlite3.Error{Code: sqlite3.ErrIoErr, SystemErrno: syscall.EDQUOT}, "disk_full"},
		{sqlite3.Error{Code: sqlite3.ErrIoErr, SystemErrno: syscall.EIO}, "disk_failed"},
		{sqlite3.Error{Code: sqlite3.ErrCantOpen}, "disk_failed"},
		{sqlite3.Error{Code: sqlite3.ErrNomem}, "disk_failed"},
		{sqlite3.Error{Code: sqlite3.ErrReadonly}, "disk_read_only"},
		{sqlite3.Error{Code: sqlite3.ErrPerm}, "disk_read_only"},
		{sqlite3.Error{Code: sqlite3.ErrBusy}, "disk_busy"},
		{sqlite3.Error{Code: sqlite3.ErrLocked}, "disk_busy"},
	} {
		got := f.Mapped(fmt.Errorf("doing it: %w", tt.err))
		d, ok := errors.AsType[*DiskError](got)
		if inner, _ := errors.AsType[sqlite3.Error](got); !ok || d.Code != tt.code || inner != tt.err {
			t.Errorf("%v: got %v, want a DiskError with code %q", tt.err.Code, got, tt.code)
		}
		if full := errors.Is(got, ErrFull); full != (tt.code == "disk_full") {
			t.Errorf("%v: is full: %v", tt.err.Code, full)
		}
		if again := f.Mapped(got); again != got {
			t.Errorf("got %v, want it mapped once", again)
		}
		if !strings.Contains(fmt.Sprint(got), `"/there"`) {
			t.Errorf("got %v, want where in it", got)
		}
	}
	for code, want := range map[sqlite3.ErrNo]error{sqlite3.ErrCorrupt: ErrCorrupt, sqlite3.ErrNotADB: ErrNotOurs} {
		got := f.Mapped(sqlite3.Error{Code: code})
		if !errors.Is(got, want) || f.Mapped(got) != got {
			t.Errorf("code %d: got %v, want %v, once", code, got, want)
		}
	}
	if got := f.Mapped(sqlite3.Error{Code: sqlite3.ErrCorrupt}); !strings.Contains(got.Error(), "mend it") {
		t.Errorf("got %v, want what to do", got)
	}
	if err := f.Mapped(nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	plain := errors.New("plain")
	if err := f.Mapped(plain); err != plain {
		t.Errorf("got %v, want it unchanged", err)
	}
}

// Changes that come while one is being written share a transaction; one that
// fails takes back nothing but its own.
func TestChangesShareATransaction(t *testing.T) {
	f := openAt(t, newPath(t))
	begun, finish := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := f.Update(func(*sql.Tx) error {
			close(begun)
			<-finish
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-begun
	const n = 20
	boom := errors.New("boom")
	var mu sync.Mutex
	transactions := map[*sql.Tx]int{}
	for i := range n {
		wg.Go(func() {
			err := f.Update(func(tx *sql.Tx) error {
				mu.Lock()
				transactions[tx]++
				mu.Unlock()
				if _, err := tx.Exec("INSERT INTO t VALUES (?, NULL)", i); err != nil {
					return err
				}
				switch i % 4 {
				case 2:
					return boom
				case 3: // breaks a constraint after something else was stored
					_, err := tx.Exec("INSERT INTO t VALUES (?, -1)", n+i)
					return err
				}
				return nil
			})
			switch i % 4 {
			case 2:
				if err != boom {
					t.Errorf("change %d: got %v, want its own error", i, err)
				}
			case 3:
				if !IsOrphan(err) {
					t.Errorf("change %d: got %v, want a broken foreign key", i, err)
				}
			default:
				if err != nil {
					t.Errorf("change %d: %v", i, err)
				}
			}
		})
	}
	for waiting := 0; waiting < n; runtime.Gosched() {
		f.queue.Lock()
		waiting = len(f.waiting)
		f.queue.Unlock()
	}
	close(finish)
	wg.Wait()
	if len(transactions) != 1 {
		t.Errorf("%d transactions for %d changes, want 1", len(transactions), n)
	}
	var stored, sum int
	if err := f.Read.QueryRow("SELECT count(*), sum(a) FROM t").Scan(&stored, &sum); err != nil || stored != n/2 || sum != 0+1+4+5+8+9+12+13+16+17 {
		t.Errorf("got %d rows, sum %d, %v; want those of changes that did not fail", stored, sum, err)
	}
}

// When SQLite gives up a whole transaction, each change is stored alone, and
// only who is to blame hears of it.
func TestSharedTransactionIsGivenUp(t *testing.T) {
	f := openAt(t, newPath(t))
	runs := make([]int, 3)
	change := func(i int) *pending {
		return &pending{change: func(tx *sql.Tx) error {
			runs[i]++
			if i == 1 { // as SQLite does itself on a full disk
				tx.Exec("ROLLBACK")
				return sqlite3.Error{Code: sqlite3.ErrFull}
			}
			_, err := tx.Exec("INSERT INTO t VALUES (?, NULL)", i)
			return err
		}}
	}
	batch := []*pending{change(0), change(1), change(2)}
	f.store(batch)
	for i, c := range batch {
		if want := i == 1; errors.Is(c.err, ErrFull) != want || (c.err != nil) != want {
			t.Errorf("change %d: got %v", i, c.err)
		}
	}
	if want := []int{2, 2, 1}; !slices.Equal(runs, want) {
		t.Errorf("run %v times, want %v", runs, want)
	}
	var stored int
	if err := f.Read.QueryRow("SELECT count(*) FROM t").Scan(&stored); err != nil || stored != 2 {
		t.Errorf("got %d rows, %v, want 2", stored, err)
	}
}
