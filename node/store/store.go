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
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"lanchat/wire/dbfile"
)

// File is the database's name in the data directory.
const File = "node.db"

// readers is how many look-ups run beside each other and the writer.
const readers = 4

// A Store is an open database. It is safe for concurrent use: changes go
// through one connection, one after the other; look-ups do not wait for them.
type Store struct {
	db *dbfile.File

	applying sync.Mutex
	tails    map[sender]tail // guarded by applying; see saveMessage
	early    *early          // guarded by applying; nil: not read yet
	packet   packet          // likewise; during Apply
}

// Open opens the database in the data directory dir, making it if there is
// none. It checks the file before use and brings an older one up to date; see
// dbfile.Open. The caller closes the Store, and holds the directory's lock until
// then.
func Open(dir string) (*Store, error) {
	path := filepath.Join(dir, File)
	db, err := dbfile.Open(path, format)
	if err != nil {
		return nil, fmt.Errorf("opening the message store %q: %w", path, err)
	}
	return newStore(db), nil
}

// OpenMemory opens a database in memory that lives until Close.
func OpenMemory() (*Store, error) {
	db, err := dbfile.Open(dbfile.Memory, format)
	if err != nil {
		return nil, fmt.Errorf("opening a message store in memory: %w", err)
	}
	return newStore(db), nil
}

func newStore(db *dbfile.File) *Store { return &Store{db: db, tails: map[sender]tail{}} }

// Close closes the database. What Apply stored needs no Close to be safe.
func (s *Store) Close() error { return s.db.Close() }

// maxStart is the last second that NextBoot takes from the clock: the year
// 2100. It leaves room for starts to be counted should a clock ever be wrong.
var maxStart = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix()

// NextBoot returns a number below 2^32 that is higher at each start of the
// device: the last one and one more, or the Unix time in seconds if that is
// higher. By the latter it rises even if the file was lost or an old copy of it
// came back; else peers, who remember the last number, would take all this
// device sends for old.
func (s *Store) NextBoot() (boot uint64, err error) {
	err = s.db.Update(func(tx *sql.Tx) error {
		return tx.QueryRow("UPDATE node SET boot = max(boot + 1, ?) RETURNING boot", min(time.Now().Unix(), maxStart)).Scan(&boot)
	})
	if err != nil {
		return 0, fmt.Errorf("numbering the start: %w", err)
	}
	return boot, nil
}
