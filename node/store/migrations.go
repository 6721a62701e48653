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

// applicationID marks the file as ours: "lcnd".
const applicationID = 0x6c636e64

// version returns the version of the schema, 0 for an empty database.
func (s *Store) version() (version int, err error) {
	var app, tables int
	err = s.db.QueryRow(`SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id, pragma_user_version`).Scan(&app, &version, &tables)
	if err != nil {
		return 0, err
	}
	if empty := app == 0 && version == 0 && tables == 0; app != applicationID && !empty {
		return 0, ErrNotOurs
	}
	return version, nil
}

func (s *Store) migrate(version int, migrations []string) error {
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
