// Package store keeps authd's accounts in one SQLite file.
//
// It knows no rules: authd/account decides, and every change it asks for is
// one transaction here. What is acknowledged is on disk (WAL with
// synchronous=FULL) and survives a power failure.
//
// Start reading at [Open] and schema.sql.
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
	"time"

	"github.com/mattn/go-sqlite3"

	"lanchat/authd/account"
	"lanchat/wire"
)

// Why a database was not opened.
var (
	ErrNewer   = errors.New("made by a newer version of this program")
	ErrNotOurs = errors.New("not an authd database")
	ErrCorrupt = errors.New("database is damaged")
)

// A Store is an open database. It is safe for concurrent use; changes go
// through one connection, one after the other.
type Store struct {
	db *sql.DB
}

var _ account.Store = (*Store)(nil)

// Open opens the database of the realm at path, making it if there is none;
// ":memory:" is one that lives until Close. It checks the file before use and
// brings an older one up to date. The caller closes the Store, and holds the
// data directory's lock until then.
func Open(path string, id wire.RealmID) (*Store, error) {
	s, err := open(path, migrations)
	if err != nil {
		return nil, fmt.Errorf("opening database %q: %w", path, err)
	}
	if err := s.bind(id); err != nil {
		s.db.Close()
		return nil, fmt.Errorf("opening database %q: %w", path, err)
	}
	return s, nil
}

// settings go into the DSN rather than into statements: they then hold for
// every connection the pool may ever make. The driver ignores names it does
// not know without a word, so wanted is read back.
const settings = "_journal_mode=WAL&_synchronous=FULL&_foreign_keys=on&_busy_timeout=5000&_txlock=immediate&_secure_delete=on"

var wanted = []struct{ pragma, value string }{
	{"synchronous", "2"}, // FULL
	{"foreign_keys", "1"},
	{"busy_timeout", "5000"},
	{"secure_delete", "1"},
	{"trusted_schema", "0"},
}

func open(path string, migrations []string) (*Store, error) {
	journal, dsn := "memory", "file::memory:?"+settings
	if path != ":memory:" {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		if err := create(abs); err != nil {
			return nil, err
		}
		journal, dsn = "wal", (&url.URL{Scheme: "file", Path: abs, RawQuery: settings}).String()
	}
	db := sql.OpenDB(connector{dsn})
	db.SetMaxOpenConns(1) // one writer; and ":memory:" is one database per connection
	db.SetConnMaxLifetime(0)
	s := &Store{db: db}
	if err := s.prepare(journal, migrations); err != nil {
		db.Close()
		return nil, mapped(err)
	}
	return s, nil
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
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("others may read it (mode %04o): chmod 600 %q", mode, path)
	}
	return nil
}

func (s *Store) prepare(journal string, migrations []string) error {
	for _, w := range append(wanted, struct{ pragma, value string }{"journal_mode", journal}) {
		var got string
		if err := s.db.QueryRow("PRAGMA " + w.pragma).Scan(&got); err != nil {
			return err
		}
		if got != w.value {
			return fmt.Errorf("setting %s: got %q, want %q", w.pragma, got, w.value)
		}
	}
	if err := s.check(); err != nil {
		return err
	}
	return s.migrate(migrations)
}

func (s *Store) check() error {
	rows, err := s.db.Query("PRAGMA quick_check(1)")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if line != "ok" {
			return fmt.Errorf("%w: %s", ErrCorrupt, line)
		}
	}
	return rows.Err()
}

// bind ties a new database to the realm, and refuses one of another realm.
func (s *Store) bind(id wire.RealmID) error {
	return s.update(func(tx *sql.Tx) error {
		var got []byte
		switch err := tx.QueryRow("SELECT id FROM realm").Scan(&got); {
		case errors.Is(err, sql.ErrNoRows):
			_, err = tx.Exec("INSERT INTO realm (one, id) VALUES (1, ?)", id[:])
			return err
		case err != nil:
			return err
		case string(got) != string(id[:]):
			return fmt.Errorf("%w: it belongs to another realm, whose root.crt is not in this directory", ErrNotOurs)
		}
		return nil
	})
}

// Boot returns a number that is higher at each start: max(last+1, unix seconds
// of now).
func (s *Store) Boot(now time.Time) (n uint64, err error) {
	err = s.update(func(tx *sql.Tx) error {
		return tx.QueryRow("UPDATE realm SET boot = max(boot + 1, ?) RETURNING boot", toUnix(now)).Scan(&n)
	})
	return n, err
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// update runs f in one immediate transaction.
func (s *Store) update(f func(tx *sql.Tx) error) error {
	tx, err := s.db.Begin()
	if err != nil {
		return mapped(err)
	}
	if err := f(tx); err != nil {
		tx.Rollback()
		return mapped(err)
	}
	return mapped(tx.Commit())
}

// mapped gives the driver's errors the meaning they have for account.
func mapped(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return account.ErrNotFound
	}
	e, ok := errors.AsType[sqlite3.Error](err)
	if !ok {
		return err
	}
	switch e.Code {
	case sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrReadonly, sqlite3.ErrBusy,
		sqlite3.ErrLocked, sqlite3.ErrCantOpen, sqlite3.ErrNomem:
		return fmt.Errorf("%w: %w", account.ErrUnavailable, err)
	case sqlite3.ErrCorrupt:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case sqlite3.ErrNotADB:
		return fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	return err
}

// unique returns said if err is a broken UNIQUE or PRIMARY KEY constraint,
// else err.
func unique(err, said error) error {
	e, ok := errors.AsType[sqlite3.Error](err)
	if ok && (e.ExtendedCode == sqlite3.ErrConstraintUnique || e.ExtendedCode == sqlite3.ErrConstraintPrimaryKey) {
		return said
	}
	return err
}

// missing returns ErrNotFound if err is a broken foreign key, else err.
func missing(err error) error {
	e, ok := errors.AsType[sqlite3.Error](err)
	if ok && e.ExtendedCode == sqlite3.ErrConstraintForeignKey {
		return account.ErrNotFound
	}
	return err
}

func toUnix(t time.Time) int64     { return t.Unix() }
func fromUnix(sec int64) time.Time { return time.Unix(sec, 0) }
