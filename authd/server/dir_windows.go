package server

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

var errLocked = errors.New("locked")

// lock takes the lock file; it is given up when the process ends, however.
func lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if err != nil {
		f.Close()
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
			return nil, errLocked
		}
		return nil, err
	}
	return f.Close, nil
}

// tooOpen knows nothing of access control lists: the profile's directories,
// where the data lies, are closed to others by default.
func tooOpen(fs.FileInfo) bool { return false }

// syncDir has nothing to do: a rename is in the journal.
func syncDir(string) error { return nil }
