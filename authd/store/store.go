// Package store keeps authd's accounts in one SQLite file.
//
// It knows no rules: authd/account decides, and every change it asks for is
// one transaction here. What is acknowledged is on disk (WAL with
// synchronous=FULL) and survives a power failure.
//
// Start reading at [Open] and schema.sql.
package store

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"lanchat/authd/account"
	"lanchat/wire"
	"lanchat/wire/dbfile"
)

// A Store is an open database. It is safe for concurrent use; changes go
// through one connection, one after the other.
type Store struct {
	db *dbfile.File
}

var _ account.Store = (*Store)(nil)

// Open opens the database of the realm at path, making it if there is none;
// dbfile.Memory is one that lives until Close. It checks the file before use
// and brings an older one up to date; see dbfile.Open. The caller closes the
// Store, and holds the data directory's lock until then.
func Open(path string, id wire.RealmID) (*Store, error) {
	db, err := dbfile.Open(path, format)
	if err != nil {
		return nil, fmt.Errorf("opening database %q: %w", path, mapped(err))
	}
	s := &Store{db}
	if err := s.bind(id); err != nil {
		s.Close()
		return nil, fmt.Errorf("opening database %q: %w", path, err)
	}
	return s, nil
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
			return fmt.Errorf("%w: it belongs to another realm, whose root.pem is not in this directory", dbfile.ErrNotOurs)
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

// update runs f in one transaction.
func (s *Store) update(f func(tx *sql.Tx) error) error { return mapped(s.db.Update(f)) }

// mapped gives errors the meaning they have for account.
func (s *Store) mapped(err error) error { return mapped(s.db.Mapped(err)) }

func mapped(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return account.ErrNotFound
	}
	if _, ok := errors.AsType[*dbfile.DiskError](err); ok {
		return fmt.Errorf("%w: %w", account.ErrUnavailable, err)
	}
	return err
}

func toUnix(t time.Time) int64     { return t.Unix() }
func fromUnix(sec int64) time.Time { return time.Unix(sec, 0) }
