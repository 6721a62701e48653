package private

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

func lock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return err
}

// tooOpen knows nothing of access control lists: the profile's directories,
// where the data lies, are closed to others by default.
func tooOpen(fs.FileInfo) bool { return false }

// syncDir has nothing to do: a rename is in the journal.
func syncDir(string) error { return nil }

// NoCoreDumps has nothing to do: none are written unless the operator asks.
func NoCoreDumps() {}
