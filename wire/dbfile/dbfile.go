// Package dbfile opens a SQLite file the way both programs keep what they
// have acknowledged: it survives a power failure (WAL, synchronous=FULL),
// nobody else can read it, and a file that is damaged, foreign or made by a
// newer program is refused.
//
// It knows no tables: schemas are the stores'.
package dbfile

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

	"github.com/mattn/go-sqlite3"

	"lanchat/wire/private"
)

// What is wrong with a database, or with its disk.
var (
	ErrNewer       = errors.New("made by a newer version of this program")
	ErrNotOurs     = errors.New("not a database of this program")
	ErrCorrupt     = errors.New("database is damaged")
	ErrUnavailable = errors.New("the disk does not take it: free some space, or see that the directory is writable")
)

// A Format is what a program's files are.
type Format struct {
	// ApplicationID marks the file as the program's.
	ApplicationID int32
	// Migrations bring a file from version i to i+1, each in a transaction of
	// its own. Entries are only appended.
	Migrations []string
}

// Memory is the path of a database that lives until it is closed.
const Memory = ":memory:"

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

// Open opens the file at path, or makes it, and brings it up to date. The
// pool has one connection: writers queue in the program, not in SQLite.
func Open(path string, f Format) (*sql.DB, error) {
	db, err := open(path, f)
	if err != nil {
		return nil, fmt.Errorf("opening database %q: %w", path, Mapped(err))
	}
	return db, nil
}

func open(path string, f Format) (*sql.DB, error) {
	journal, dsn := "memory", "file::memory:?"+settings
	if path != Memory {
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
	db.SetMaxOpenConns(1) // and ":memory:" is one database per connection
	db.SetConnMaxLifetime(0)
	err := verify(db, journal)
	if err == nil {
		err = f.migrate(db)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
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
	if errors.Is(err, fs.ErrExist) {
		return private.Check(path)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func verify(db *sql.DB, journal string) error {
	for _, w := range append(wanted[:len(wanted):len(wanted)], struct{ pragma, value string }{"journal_mode", journal}) {
		var got string
		if err := db.QueryRow("PRAGMA " + w.pragma).Scan(&got); err != nil {
			return err
		}
		if got != w.value {
			return fmt.Errorf("setting %s: got %q, want %q", w.pragma, got, w.value)
		}
	}
	var line string
	if err := db.QueryRow("PRAGMA quick_check(1)").Scan(&line); err != nil {
		return err
	}
	if line != "ok" {
		return fmt.Errorf("%w: %s", ErrCorrupt, line)
	}
	return nil
}

func (f Format) migrate(db *sql.DB) error {
	var app, version, tables int
	err := db.QueryRow("SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)").
		Scan(&app, &version, &tables)
	if err != nil {
		return err
	}
	if empty := app == 0 && version == 0 && tables == 0; !empty && app != int(f.ApplicationID) {
		return ErrNotOurs
	}
	if version > len(f.Migrations) {
		return fmt.Errorf("%w: version %d, this one knows %d", ErrNewer, version, len(f.Migrations))
	}
	for i := version; i < len(f.Migrations); i++ {
		err := Update(db, func(tx *sql.Tx) error {
			if _, err := tx.Exec(f.Migrations[i]); err != nil {
				return err
			}
			_, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d; PRAGMA application_id = %d", i+1, f.ApplicationID))
			return err
		})
		if err != nil {
			return fmt.Errorf("migrating to version %d: %w", i+1, err)
		}
	}
	return nil
}

// Update runs f in one transaction, which is on disk when Update returns nil.
func Update(db *sql.DB, f func(tx *sql.Tx) error) error {
	tx, err := db.Begin()
	if err != nil {
		return Mapped(err)
	}
	if err := f(tx); err != nil {
		tx.Rollback()
		return Mapped(err)
	}
	return Mapped(tx.Commit())
}

// Mapped wraps the driver's errors with those above where they fit.
func Mapped(err error) error {
	e, ok := errors.AsType[sqlite3.Error](err)
	if !ok {
		return err
	}
	switch e.Code {
	case sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrReadonly, sqlite3.ErrBusy,
		sqlite3.ErrLocked, sqlite3.ErrCantOpen, sqlite3.ErrNomem:
		return fmt.Errorf("%w (%w)", ErrUnavailable, err)
	case sqlite3.ErrCorrupt:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case sqlite3.ErrNotADB:
		return fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	return err
}
