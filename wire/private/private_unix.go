//go:build !windows

package private

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

func lock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		}
		return err
	}
}

// tooOpen reports whether others than the owner have any rights.
func tooOpen(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// NoCoreDumps keeps the kernel from writing the process's memory, which holds
// keys, to disk. It does what it can: a failure changes nothing.
func NoCoreDumps() {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
