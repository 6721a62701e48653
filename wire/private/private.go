// Package private keeps what only its owner may read: directories, files of
// secrets that are replaced as a whole or not at all, the lock that says which
// process uses a directory, and the socket by which its owner talks to it.
//
// It has no idea what is in the files.
package private

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

var (
	// ErrTooOpen says that others can read or change what is secret.
	ErrTooOpen = errors.New("open to other users")
	// ErrLocked says that another process uses the directory.
	ErrLocked = errors.New("in use by another process")
)

// Dir makes a directory nobody else may enter, or checks that it is one. An
// empty directory, in which nothing was ever secret, it closes itself.
func Dir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	open := Check(dir)
	if !errors.Is(open, ErrTooOpen) {
		return open
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 || os.Chmod(dir, 0o700) != nil {
		return open
	}
	return nil
}

// Check refuses a file or directory that others can read or change, and says
// how to cure it (ErrTooOpen); one that does not exist is fine.
func Check(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return check(path, info)
}

func check(path string, info fs.FileInfo) error {
	if !tooOpen(info) {
		return nil
	}
	mode := "600"
	if info.IsDir() {
		mode = "700"
	}
	return fmt.Errorf("%q is %w (mode %04o): run chmod %s %s", path, ErrTooOpen, info.Mode().Perm(), mode, quoted(path))
}

// quoted returns path as a shell takes it.
func quoted(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// Create makes an empty file if there is none. It checks the file, and the
// directory it is in, which must be there.
func Create(path string) error {
	dir := filepath.Dir(path)
	if err := Check(dir); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return Check(path)
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(dir)
}

// Read reads a file of at most max bytes that nobody else may read. One that
// does not exist is fs.ErrNotExist.
func Read(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := check(path, info); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > max {
		return nil, fmt.Errorf("%q is damaged: not a file of at most %d bytes", path, max)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("reading %q: %w", path, err)
	}
	return b, nil
}

// Write replaces a file: after a power failure it is the old one or the new
// one, whole.
func Write(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // born 0600
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return syncDir(dir)
}

// Remove removes a file for good; one that does not exist is fine.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Lock takes the lock file at path, or returns ErrLocked. The lock ends with
// the process, however that ends.
func Lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, err
	}
	return f.Close, nil
}
