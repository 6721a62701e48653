package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lanchat/authd/server"
)

// A database that cannot be used is refused, by authd itself and by the
// operator's commands, with what to do; and is left as it is.
func TestDatabaseRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, path string) error
		want  []string // in standard error
	}{
		{"newer", func(t *testing.T, path string) error {
			db, err := sql.Open("sqlite3", path)
			if err != nil {
				return err
			}
			defer db.Close()
			_, err = db.Exec("PRAGMA user_version = 999")
			return err
		}, []string{"newer version", "999", "use the newer program"}},
		{"damaged", func(t *testing.T, path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for i := len(b) / 4; i < len(b); i++ {
				b[i] ^= 0xff
			}
			return os.WriteFile(path, b, 0o600)
		}, []string{"damaged", "put back a backup"}},
		{"no database", func(t *testing.T, path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("no database\n", 1000)), 0o600)
		}, []string{"not a database of this program"}},
		{"of another realm", func(t *testing.T, path string) error {
			other := filepath.Join(t.TempDir(), "authd")
			start(t, other).stop(syscall.SIGTERM)
			b, err := os.ReadFile(filepath.Join(other, server.DatabaseFile))
			if err != nil {
				return err
			}
			return os.WriteFile(path, b, 0o600)
		}, []string{"another realm"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "authd")
			start(t, dir).stop(syscall.SIGTERM)
			path := filepath.Join(dir, server.DatabaseFile)
			if err := tt.spoil(t, path); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range []string{"--listen 127.0.0.1:0 --iface lo --no-mdns", "user list", "backup " + filepath.Join(t.TempDir(), "x.tar")} {
				out, errs, status := runAuthd(t, "", append(strings.Fields(args), "--data", dir)...)
				if status != 1 || out != "" {
					t.Errorf("authd %s: got status %d, %q, %q", args, status, out, errs)
				}
				for _, want := range append(tt.want, fmt.Sprintf("%q", path)) {
					if !strings.Contains(errs, want) {
						t.Errorf("authd %s: no %q in %q", args, want, errs)
					}
				}
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
				t.Errorf("the file was changed, %v", err)
			}
		})
	}
}
