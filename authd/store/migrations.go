package store

import (
	"database/sql"
	_ "embed"
	"fmt"
)

//go:embed schema.sql
var schema string

// migrations bring a database from version i to i+1, each in a transaction of
// its own. Entries are only appended.
var migrations = []string{schema}

// applicationID marks the file as ours: "lcad".
const applicationID = 0x6c636164

func (s *Store) migrate(migrations []string) error {
	var app, version, tables int
	if err := s.db.QueryRow("PRAGMA application_id").Scan(&app); err != nil {
		return err
	}
	if err := s.db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if err := s.db.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	empty := app == 0 && version == 0 && tables == 0
	if app != applicationID && !empty {
		return ErrNotOurs
	}
	if version > len(migrations) {
		return fmt.Errorf("%w: version %d, this one knows %d", ErrNewer, version, len(migrations))
	}
	for i := version; i < len(migrations); i++ {
		err := s.update(func(tx *sql.Tx) error {
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
