package store

import "fmt"

// Backup writes a copy of the database to path, an absolute one, where no
// file is or an empty one: the state at one moment, whatever others change
// meanwhile. Changes through s wait. The copy is one file, without a
// write-ahead log, and not synced to disk.
func (s *Store) Backup(path string) error {
	// Not mapped: what people are then told to cure is the database's disk,
	// and here it is that of the copy.
	if _, err := s.db.Exec("VACUUM INTO ?", path); err != nil {
		return fmt.Errorf("copying the database to %q: %w", path, err)
	}
	return nil
}
