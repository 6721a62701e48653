//go:build !windows

package private

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func newDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "it's $HOME")
	if err := Dir(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("%q has mode %04o, want %04o", path, got, want)
	}
}

func TestDir(t *testing.T) {
	dir := newDir(t)
	wantMode(t, dir, 0o700)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Dir(dir); err != nil { // empty
		t.Error(err)
	}
	wantMode(t, dir, 0o700)
	path := filepath.Join(dir, "file")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	if err := Dir(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file as directory: got %v", err)
	}
}

// The error names the deed that cures it, as a shell takes it.
func TestTooOpenNamesTheCure(t *testing.T) {
	dir := newDir(t)
	path := filepath.Join(dir, "file")
	if err := Write(path, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	read := func(path string) error { _, err := Read(path, 10); return err }
	for _, tt := range []struct {
		path  string
		right fs.FileMode
		use   map[string]func(string) error
	}{
		{dir, 0o700, map[string]func(string) error{
			"Dir": Dir, "Check": Check, "Create": func(dir string) error { return Create(filepath.Join(dir, "new")) },
		}},
		{path, 0o600, map[string]func(string) error{"Create": Create, "Check": Check, "Read": read}},
	} {
		for name, use := range tt.use {
			for _, more := range []fs.FileMode{0o040, 0o020, 0o010, 0o004, 0o002, 0o001, 0o077} {
				if err := os.Chmod(tt.path, tt.right|more); err != nil {
					t.Fatal(err)
				}
				err := use(tt.path)
				if !errors.Is(err, ErrTooOpen) {
					t.Fatalf("%s, mode %04o: got %v", name, tt.right|more, err)
				}
				_, cure, _ := strings.Cut(err.Error(), ": run ")
				if out, err := exec.Command("sh", "-c", cure).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v, %s", cure, err, out)
				}
				wantMode(t, tt.path, tt.right)
			}
		}
	}
	if err := Check(filepath.Join(dir, "new")); err != nil {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made in a directory that is open to others: %v", err)
	}
}

func TestFiles(t *testing.T) {
	dir := newDir(t)
	path := filepath.Join(dir, "file")
	if _, err := Read(path, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	wantMode(t, path, 0o600)
	for _, content := range []string{"old", "", "0123456789"} {
		if err := Write(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		wantMode(t, path, 0o600)
		if err := Create(path); err != nil { // keeps what is there
			t.Fatal(err)
		}
		if got, err := Read(path, 10); err != nil || string(got) != content {
			t.Errorf("got %q, %v, want %q", got, err, content)
		}
	}
	if got, err := Read(path, 9); err == nil {
		t.Errorf("got %q, which is too long", got)
	}
	if got, err := Read(dir, 1<<20); err == nil {
		t.Errorf("got %q of a directory", got)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("got %v, %v, want nothing left", left, err)
	}
	if err := Create(filepath.Join(dir, "missing", "file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: got %v", err)
	}
}

// What can't be written leaves the old file, and nothing beside it.
func TestWriteFails(t *testing.T) {
	dir := newDir(t)
	path := filepath.Join(dir, "busy")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new")); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("got %v, want what was not written", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("got %v, %v, want no temporary file", left, err)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(newDir(t), "lock")
	for range 2 {
		unlock, err := Lock(path)
		if err != nil {
			t.Fatal(err)
		}
		wantMode(t, path, 0o600)
		if _, err := Lock(path); !errors.Is(err, ErrLocked) {
			t.Errorf("got %v, want ErrLocked", err)
		}
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
	}
}
