// Package store keeps what a node must not forget in one SQLite file, node.db
// in the data directory: history, the outbox, room logs, epoch secrets, and
// what was received from whom.
//
// It knows no rules: node/chat makes records, and those of one turn of the
// node's loop are one transaction here (Apply). When Apply returns, they are on
// disk (WAL with synchronous=FULL) and survive a power failure. Beside that it
// answers what people ask of history.
//
// Start at [Open], [Store.Apply] and schema.sql.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-sqlite3"
)

// file is the database's name in the data directory.
const file = "node.db"

// readers is how many look-ups run beside each other and the writer.
const readers = 4

// A Store is an open database. It is safe for concurrent use: changes go
// through one connection, one after the other; look-ups do not wait for them.
type Store struct {
	dir  string
	db   *sql.DB // the writer: one connection
	read *sql.DB // read-only connections; db in memory
	// wipe is set while something secret that was deleted may still stand in
	// the write-ahead log.
	wipe atomic.Bool

	applying sync.Mutex
	tails    map[sender]tail // guarded by applying; see saveMessage
}

// Open opens the database in the data directory dir, making it if there is
// none. It checks the file before use and brings an older one up to date. The
// directory must be there and closed to others (0700), as the file is. The
// caller closes the Store, and holds the directory's lock until then.
func Open(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the message store: %w", err)
	}
	s, err := open(abs, migrations)
	if err != nil {
		return nil, fmt.Errorf("opening the message store %q: %w", filepath.Join(abs, file), err)
	}
	return s, nil
}

// OpenMemory opens a database in memory that lives until Close.
func OpenMemory() (*Store, error) {
	s := &Store{dir: ":memory:", tails: map[sender]tail{}}
	s.db = sql.OpenDB(connector{"file::memory:?" + settings})
	s.db.SetMaxOpenConns(1) // a second connection would be a second database
	s.read = s.db
	if err := s.prepare("memory", migrations); err != nil {
		s.shut()
		return nil, fmt.Errorf("opening a message store in memory: %w", s.mapped(err))
	}
	return s, nil
}

// The settings go into the DSN rather than into statements: they then hold for
// every connection the pool may ever make. The driver ignores names it does
// not know without a word, so wanted is read back; _stmt_cache_size has it keep
// that many prepared statements, by their text, and is not needed for
// correctness.
const (
	common       = "_synchronous=FULL&_foreign_keys=on&_busy_timeout=5000&_stmt_cache_size=64"
	settings     = common + "&_journal_mode=WAL&_txlock=immediate&_secure_delete=on"
	readSettings = common + "&mode=ro&_query_only=1"
)

type setting struct{ pragma, value string }

var wanted = []setting{
	{"synchronous", "2"}, // FULL
	{"foreign_keys", "1"},
	{"busy_timeout", "5000"},
	{"trusted_schema", "0"},
}

func open(dir string, migrations []string) (*Store, error) {
	if err := create(dir); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, tails: map[sender]tail{}}
	s.db = sql.OpenDB(connector{dsn(dir) + "?" + settings})
	s.db.SetMaxOpenConns(1)
	s.read = sql.OpenDB(connector{dsn(dir) + "?" + readSettings})
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	if err := s.prepare("wal", migrations); err != nil {
		s.shut()
		return nil, s.mapped(err)
	}
	return s, nil
}

// dsn returns the name of the database in dir, without settings: a URI in which
// nothing of the path has a meaning.
func dsn(dir string) string {
	return "file:" + url.PathEscape(filepath.ToSlash(filepath.Join(dir, file)))
}

// A connector makes connections with the one setting that the DSN can't
// express.
type connector struct{ dsn string }

func (c connector) Driver() driver.Driver {
	return &sqlite3.SQLiteDriver{ConnectHook: func(conn *sqlite3.SQLiteConn) error {
		_, err := conn.Exec("PRAGMA trusted_schema=OFF", nil)
		return err
	}}
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.Driver().Open(c.dsn) }

// create makes the file before SQLite does, which would make it readable by
// everybody; the -wal and -shm files take over its mode.
func create(dir string) error {
	if err := private(dir, "700"); err != nil {
		return err
	}
	path := filepath.Join(dir, file)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return private(path, "600")
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(dir)
}

// private refuses a file or directory that others can get at. Windows has
// access control lists instead, by which a person's profile is private.
func private(path, mode string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("%w (mode %04o): run chmod %s %q", ErrTooOpen, perm, mode, path)
	}
	return nil
}

// syncDir has the directory remember a new file; Windows does so by itself.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (s *Store) prepare(journal string, migrations []string) error {
	if err := readBack(s.db, append(wanted, setting{"journal_mode", journal}, setting{"secure_delete", "1"})); err != nil {
		return err
	}
	version, err := s.version()
	if err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("%w: version %d, this one knows %d; use the newer program", ErrNewer, version, len(migrations))
	}
	if err := s.check(version); err != nil {
		return err
	}
	if err := s.migrate(version, migrations); err != nil {
		return err
	}
	if _, err := s.db.Exec("UPDATE node SET closed = 0"); err != nil {
		return err
	}
	if s.read == s.db {
		return nil
	}
	s.wipe.Store(true) // what the last run may have left
	s.scrub()
	return readBack(s.read, append(wanted, setting{"query_only", "1"}))
}

func readBack(db *sql.DB, wanted []setting) error {
	for _, w := range wanted {
		var got string
		if err := db.QueryRow("PRAGMA " + w.pragma).Scan(&got); err != nil {
			return err
		}
		if !strings.EqualFold(got, w.value) {
			return fmt.Errorf("setting %s: got %q, want %q", w.pragma, got, w.value)
		}
	}
	return nil
}

// check has SQLite look for damage: in all tables if the last run ended without
// Close, by a power failure for instance, else in all but that of messages. For
// 200,000 messages that takes 200 ms of a start, for the rest 1 ms, and history
// that is damaged is told of when it is read.
func (s *Store) check(version int) error {
	closed := true
	if version > 0 {
		if err := s.db.QueryRow("SELECT closed FROM node").Scan(&closed); err != nil {
			return err
		}
	}
	tables, err := collect(s.db, func(scan func(...any) error, name *string) error { return scan(name) },
		"SELECT name FROM sqlite_schema WHERE type = 'table'")
	if err != nil {
		return err
	}
	for _, t := range tables {
		if t == "message" && closed {
			continue
		}
		var line string
		if err := s.db.QueryRow("PRAGMA quick_check(" + t + ")").Scan(&line); err != nil {
			return err
		}
		if line != "ok" {
			return fmt.Errorf("%w (%s)", ErrCorrupt, line)
		}
	}
	return nil
}

// Close closes the database. What Apply stored needs no Close to be safe.
func (s *Store) Close() error {
	s.db.Exec("UPDATE node SET closed = 1") // if not, the next start checks more
	return s.shut()
}

func (s *Store) shut() error {
	var err error
	if s.read != s.db {
		err = s.read.Close() // first: the last to close takes the write-ahead log away, and must be able to
	}
	return errors.Join(err, s.db.Close())
}

// maxStart is the last second that NextBoot takes from the clock: the year
// 2100. It leaves room for starts to be counted should a clock ever be wrong.
var maxStart = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix()

// NextBoot returns a number below 2^32 that is higher at each start of the
// device: the last one and one more, or the Unix time in seconds if that is
// higher. By the latter it rises even if the file was lost or an old copy of it
// came back; else peers, who remember the last number, would take all this
// device sends for old.
func (s *Store) NextBoot() (boot uint64, err error) {
	err = s.update(func(tx *sql.Tx) error {
		return tx.QueryRow("UPDATE node SET boot = max(boot + 1, ?) RETURNING boot", min(time.Now().Unix(), maxStart)).Scan(&boot)
	})
	if err != nil {
		return 0, fmt.Errorf("numbering the start: %w", err)
	}
	return boot, nil
}

// update runs f in one immediate transaction.
func (s *Store) update(f func(tx *sql.Tx) error) error {
	tx, err := s.db.Begin()
	if err != nil {
		return s.mapped(err)
	}
	if err := f(tx); err != nil {
		tx.Rollback() // SQLite may have done so already
		return s.mapped(err)
	}
	return s.mapped(tx.Commit())
}

// scrub empties the write-ahead log, so that nothing deleted is left in the
// files: secure_delete overwrites it in the database only. Where a look-up is
// in the way, or the disk is full, it is tried again after the next Apply.
func (s *Store) scrub() {
	var busy, frames, done int
	err := s.db.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &done)
	if err == nil && busy == 0 {
		s.wipe.Store(false)
	}
}
