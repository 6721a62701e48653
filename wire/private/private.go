// Package private keeps what only its owner may read: directories, files of
// secrets that are replaced as a whole or not at all, and the lock that says
// which process uses a directory.
//
// It has no idea what is in the files.
package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
		return fmt.Errorf("making the directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !tooOpen(info) {
		return nil
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) == 0 {
		return os.Chmod(dir, 0o700)
	}
	return fmt.Errorf("the directory %q is %w: run chmod 700 %q", dir, ErrTooOpen, dir)
}

// Check refuses a file that others may read; one that does not exist is fine.
func Check(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case tooOpen(info):
		return fmt.Errorf("the file %q is %w: run chmod 600 %q", path, ErrTooOpen, path)
	}
	return nil
}

// Read reads a file of at most max bytes that nobody else may read. One that
// does not exist is fs.ErrNotExist.
func Read(path string, max int64) ([]byte, error) {
	if err := Check(path); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > max {
		return nil, fmt.Errorf("the file %q has %d bytes, at most %d are expected", path, info.Size(), max)
	}
	return os.ReadFile(path)
}

// Write replaces a file: after a power failure it is the old one or the new
// one, whole.
func Write(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // born 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
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
