// Package dbfile opens a SQLite file the way both programs keep what they
// have acknowledged: it survives a power failure (WAL, synchronous=FULL),
// nobody else can read it, and a file that is damaged, foreign or made by a
// newer program is refused.
//
// It knows no tables: schemas are the stores', who describe theirs by a
// [Format]. Start at [Open].
package dbfile

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mattn/go-sqlite3"

	"lanchat/wire/private"
)

// A Format is what a program's files are.
type Format struct {
	// ApplicationID marks a file as the program's; the first migration sets it.
	ApplicationID int32
	// Migrations bring a file from version i to i+1, each in a transaction of
	// its own. Entries are only appended.
	Migrations []string
	// Readers is how many look-ups run beside each other and the writer. 0:
	// they wait their turn at the one connection.
	Readers int
	// Mark names a table of one row, there from version 1 on, whose column
	// closed is 1 if the last run ended with Close. It is for files that one
	// process uses at a time. "": there is none.
	Mark string
	// Large are tables that Open does not look through if Mark says that all is
	// well. Damage there is told of when it is read.
	Large []string
	// Cure says what a person can do about a file that is damaged.
	Cure string
}

// Memory is the path of a database that lives until it is closed.
const Memory = ":memory:"

// A File is an open database. It is safe for concurrent use.
type File struct {
	// DB is the writer. It has one connection: writers queue in the program,
	// not in SQLite.
	*sql.DB
	// Read is for look-ups, which do not wait for the writer; it can't write.
	// In memory, or without Format.Readers, it is DB.
	Read *sql.DB

	dir    string // for people
	format Format

	queue   sync.Mutex
	waiting []*pending // changes for the next transaction; the first may be told to write it
	writing bool       // an Update is at it

	// wipe is set while something secret that was deleted may still stand in
	// the write-ahead log.
	wipe atomic.Bool
}

// The settings go into the DSN rather than into statements: they then hold for
// every connection the pool may ever make. The driver ignores names it does
// not know without a word, so wanted is read back; _stmt_cache_size has it keep
// that many prepared statements, by their text, and is not needed for
// correctness.
const (
	common       = "?_synchronous=FULL&_foreign_keys=on&_busy_timeout=5000&_stmt_cache_size=64"
	settings     = common + "&_journal_mode=WAL&_txlock=immediate&_secure_delete=on"
	readSettings = common + "&mode=ro&_query_only=1"
)

type setting struct{ pragma, value string }

var (
	wanted = []setting{
		{"synchronous", "2"}, // FULL
		{"foreign_keys", "1"},
		{"busy_timeout", "5000"},
		{"trusted_schema", "0"},
	}
	wantedOfWriter = slices.Concat(wanted, []setting{{"secure_delete", "1"}})
	wantedOfReader = slices.Concat(wanted, []setting{{"query_only", "1"}})
)

// Open opens the file at path, making it if there is none; Memory is one
// without a file. It checks the file before use and brings an older one up to
// date. The directory must be there and closed to others (0700), as the file
// is (private.ErrTooOpen). Other errors are those of this package. The caller
// closes the File.
func Open(path string, format Format) (*File, error) {
	f := &File{dir: path, format: format}
	var err error
	if path == Memory {
		f.DB = sql.OpenDB(connector("file::memory:" + settings)) // each connection is a database of its own
		f.Read = f.DB
		err = f.prepare("memory")
	} else if err = f.connect(path); err == nil {
		err = f.prepare("wal")
	}
	if err != nil {
		f.shut()
		return nil, f.Mapped(err)
	}
	return f, nil
}

func (f *File) connect(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	f.dir = filepath.Dir(path)
	// SQLite would make it readable by everybody; the -wal and -shm files take
	// over its mode.
	if err := private.Create(path); err != nil {
		return err
	}
	dsn := "file:" + url.PathEscape(filepath.ToSlash(path)) // in which nothing of the path has a meaning
	f.DB = sql.OpenDB(connector(dsn + settings))
	f.Read = f.DB
	if n := f.format.Readers; n > 0 {
		f.Read = sql.OpenDB(connector(dsn + readSettings))
		f.Read.SetMaxOpenConns(n)
		f.Read.SetMaxIdleConns(n)
	}
	return nil
}

// A connector makes connections to a DSN with the one setting that it can't
// express.
type connector string

func (c connector) Driver() driver.Driver {
	return &sqlite3.SQLiteDriver{ConnectHook: func(conn *sqlite3.SQLiteConn) error {
		_, err := conn.Exec("PRAGMA trusted_schema=OFF", nil)
		return err
	}}
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.Driver().Open(string(c)) }

func (f *File) prepare(journal string) error {
	f.SetMaxOpenConns(1)
	if err := readBack(f.DB, slices.Concat(wantedOfWriter, []setting{{"journal_mode", journal}})); err != nil {
		return err
	}
	if err := f.migrate(); err != nil {
		return err
	}
	if f.format.Mark != "" {
		if _, err := f.Exec("UPDATE " + f.format.Mark + " SET closed = 0"); err != nil {
			return err
		}
		f.Wipe() // what the last run may have left
		f.scrub()
	}
	if f.Read == f.DB {
		return nil
	}
	return readBack(f.Read, wantedOfReader)
}

func readBack(db *sql.DB, wanted []setting) error {
	for _, w := range wanted {
		var got string
		if err := db.QueryRow("PRAGMA " + w.pragma).Scan(&got); err != nil {
			return err
		}
		if got != w.value {
			return fmt.Errorf("setting %s: got %q, want %q", w.pragma, got, w.value)
		}
	}
	return nil
}

func (f *File) migrate() error {
	var app, version, tables int
	err := f.QueryRow(`SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id, pragma_user_version`).Scan(&app, &version, &tables)
	if err != nil {
		return err
	}
	migrations := f.format.Migrations
	if empty := app == 0 && version == 0 && tables == 0; !empty && app != int(f.format.ApplicationID) {
		return ErrNotOurs
	}
	if version > len(migrations) {
		return fmt.Errorf("%w: version %d, this one knows %d; use the newer program", ErrNewer, version, len(migrations))
	}
	if err := f.check(version); err != nil {
		return err
	}
	for i := version; i < len(migrations); i++ {
		err := f.Update(func(tx *sql.Tx) error {
			if _, err := tx.Exec(migrations[i]); err != nil {
				return err
			}
			_, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d", i+1))
			return err
		})
		if err != nil {
			return fmt.Errorf("migrating to version %d: %w", i+1, err)
		}
	}
	return nil
}

// check has SQLite look for damage: everywhere, or in all but the large tables
// if the last run ended with Close rather than, for instance, by a power
// failure. For 200,000 messages that takes 200 ms of a start, for the rest 1 ms.
func (f *File) check(version int) error {
	closed := false
	if version > 0 && f.format.Mark != "" {
		if err := f.QueryRow("SELECT closed FROM " + f.format.Mark).Scan(&closed); err != nil {
			return err
		}
	}
	if !closed {
		return f.quickCheck("1") // of all, until the first damage
	}
	var names string
	if err := f.QueryRow("SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table'").Scan(&names); err != nil {
		return err
	}
	for name := range strings.SplitSeq(names, ",") {
		if slices.Contains(f.format.Large, name) {
			continue
		}
		if err := f.quickCheck(name); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) quickCheck(of string) error {
	var line string
	if err := f.QueryRow("PRAGMA quick_check(" + of + ")").Scan(&line); err != nil {
		return err
	}
	if line != "ok" {
		return f.damaged(errors.New(line))
	}
	return nil
}

// Update runs change in an immediate transaction, which is on disk when Update
// returns nil; else nothing of it is stored. Changes that come while others are
// being written share the next transaction, and so its wait for the disk; one
// that fails takes back nothing but its own. A change may be run again after a
// run of which nothing was stored. Errors are Mapped.
func (f *File) Update(change func(tx *sql.Tx) error) error {
	c := &pending{change: change, told: make(chan bool, 1)}
	f.queue.Lock()
	f.waiting = append(f.waiting, c)
	mine := !f.writing
	f.writing = true
	f.queue.Unlock()
	if !mine && !<-c.told { // another's Update has stored it
		return c.err
	}

	f.queue.Lock()
	batch := f.waiting
	f.waiting = nil
	f.queue.Unlock()
	f.store(batch)
	f.queue.Lock()
	if f.writing = len(f.waiting) > 0; f.writing {
		f.waiting[0].told <- true
	}
	f.queue.Unlock()
	for _, other := range batch {
		if other != c {
			other.told <- false
		}
	}
	return c.err
}

// A pending change waits to be stored, or to be told (true) that its Update is
// to store what waits.
type pending struct {
	change func(tx *sql.Tx) error
	told   chan bool
	err    error // belongs to who stores it, until told
}

// store stores the changes and says in each what became of it.
func (f *File) store(batch []*pending) {
	if len(batch) == 1 || !f.together(batch) {
		for _, c := range batch {
			c.err = f.alone(c.change)
		}
	}
}

// alone stores one change.
func (f *File) alone(change func(tx *sql.Tx) error) error {
	tx, err := f.Begin()
	if err != nil {
		return f.Mapped(err)
	}
	if err := change(tx); err != nil {
		tx.Rollback() // SQLite may have done so already
		return f.Mapped(err)
	}
	if err := tx.Commit(); err != nil {
		return f.Mapped(err)
	}
	f.scrub()
	return nil
}

// together stores the changes in one transaction. It reports false if SQLite
// gave that up: then nothing is stored.
func (f *File) together(batch []*pending) bool {
	tx, err := f.Begin()
	if err != nil {
		return false
	}
	defer tx.Rollback() // in vain after Commit
	for _, c := range batch {
		if _, err := tx.Exec("SAVEPOINT change"); err != nil {
			return false
		}
		end := "RELEASE change"
		if c.err = f.Mapped(c.change(tx)); c.err != nil {
			end = "ROLLBACK TO change; RELEASE change"
		}
		if _, err := tx.Exec(end); err != nil { // such as after a full disk
			return false
		}
	}
	if tx.Commit() != nil {
		return false
	}
	f.scrub()
	return true
}

// Wipe says that the running Update deletes something secret: once it is done
// nothing of that is left in the files, as far as a file system overwrites what
// a program overwrites.
func (f *File) Wipe() { f.wipe.Store(true) }

// scrub empties the write-ahead log if something secret may stand there:
// secure_delete overwrites it in the database only. Where a look-up is in the
// way, or the disk is full, it is tried again after the next Update.
func (f *File) scrub() {
	if !f.wipe.Swap(false) {
		return
	}
	var busy, frames, done int
	err := f.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &done)
	if err != nil || busy != 0 {
		f.wipe.Store(true)
	}
}

// Close closes the database. What Update stored needs no Close to be safe.
func (f *File) Close() error {
	if f.format.Mark != "" {
		f.Exec("UPDATE " + f.format.Mark + " SET closed = 1") // if not, the next start checks more
	}
	return f.shut()
}

func (f *File) shut() error {
	if f.DB == nil {
		return nil
	}
	var err error
	if f.Read != f.DB {
		err = f.Read.Close() // first: the last to close takes the write-ahead log away, and must be able to
	}
	return errors.Join(err, f.DB.Close())
}
