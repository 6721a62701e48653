package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"lanchat/authd/account/storetest"
)

// A copy is a database like any other, and what is there is not overwritten.
func TestBackup(t *testing.T) {
	dir := newDir(t)
	s := openAt(t, filepath.Join(dir, "a.db"))
	if err := s.Add(storetest.Account(1, "alice")); err != nil {
		t.Fatal(err)
	}
	number, _, err := s.NextCRL(storetest.T0, storetest.T0)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "it's a copy.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(path); err == nil {
		t.Error("a file was overwritten")
	}
	if err := s.Add(storetest.Account(2, "bob")); err != nil { // after a failed one, too
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); err == nil {
		t.Error("the copy is more than one file")
	}
	c := openAt(t, path)
	if n, err := c.Count(); err != nil || n != 1 {
		t.Errorf("got %d accounts, %v, want alice's", n, err)
	}
	if _, err := c.Find("alice"); err != nil {
		t.Error(err)
	}
	if got, _, err := c.NextCRL(storetest.T0.Add(-time.Hour), storetest.T0); err != nil || got != number+1 {
		t.Errorf("got revocation list %d, %v, want %d", got, err, number+1)
	}
}
