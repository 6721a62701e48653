package dbfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/mattn/go-sqlite3"
)

// Why a file is not opened or, ErrCorrupt, not read further.
var (
	ErrNewer   = errors.New("made by a newer version of this program")
	ErrNotOurs = errors.New("not a database of this program")
	ErrCorrupt = errors.New("the database is damaged")
)

// A DiskError says that the disk did not take what was to be stored, or give
// what was asked for. Nothing of the transaction was stored. The cause is
// outside the program; once it is gone the same File works, and the same can
// be tried again.
type DiskError struct {
	Code    string // for scripts: "disk_full", "disk_read_only", "disk_busy", "disk_failed"
	Problem string // what happened
	Cure    string // what to do
	Err     error  // the driver's error
}

func (e *DiskError) Error() string { return fmt.Sprintf("%s: %s (%v)", e.Problem, e.Cure, e.Err) }
func (e *DiskError) Unwrap() error { return e.Err }

// ErrFull is a DiskError with code "disk_full", for errors.Is.
var ErrFull error = &DiskError{Code: "disk_full"}

// Is reports whether target is a DiskError of the same code.
func (e *DiskError) Is(target error) bool {
	t, ok := target.(*DiskError)
	return ok && t.Code == e.Code
}

// Mapped gives the driver's errors their meaning: a *DiskError, ErrCorrupt or
// ErrNotOurs. All else, and what was mapped already, it returns as it is.
func (f *File) Mapped(err error) error {
	e, ok := errors.AsType[sqlite3.Error](err)
	if _, disk := errors.AsType[*DiskError](err); !ok || disk || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotOurs) {
		return err
	}
	d := &DiskError{Err: err}
	code := e.Code
	if code == sqlite3.ErrCantOpen && f.closedToWriting() {
		code = sqlite3.ErrReadonly // SQLite had fallen back to reading, and missed its log
	}
	if code == sqlite3.ErrIoErr && e.SystemErrno == syscall.EROFS {
		code = sqlite3.ErrReadonly // it has become so since the file was opened
	}
	switch code {
	case sqlite3.ErrFull:
		d.Code, d.Problem = "disk_full", "the disk is full"
		d.Cure = fmt.Sprintf("free some space on the disk of %q", f.dir)
	case sqlite3.ErrReadonly, sqlite3.ErrPerm:
		d.Code, d.Problem = "disk_read_only", "the database can't be written"
		d.Cure = fmt.Sprintf("make %q writable for its owner and mount its disk for writing", f.dir)
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		d.Code, d.Problem = "disk_busy", "another program holds the database"
		d.Cure = fmt.Sprintf("end what else has %q open", f.dir)
	case sqlite3.ErrIoErr, sqlite3.ErrCantOpen, sqlite3.ErrNomem:
		if e.SystemErrno == syscall.EDQUOT {
			d.Code, d.Problem = "disk_full", "your share of the disk is full"
			d.Cure = fmt.Sprintf("free some space on the disk of %q, or have your quota raised", f.dir)
			break
		}
		d.Code, d.Problem = "disk_failed", "the disk can't be read or written"
		d.Cure = fmt.Sprintf("see that the disk of %q is there and sound, and has space", f.dir)
	case sqlite3.ErrCorrupt:
		return f.damaged(err)
	case sqlite3.ErrNotADB:
		return fmt.Errorf("%w: %w", ErrNotOurs, err)
	default:
		return err
	}
	return d
}

// closedToWriting reports whether no file can be made beside the database. It
// does not open the database to find out: closing it again would drop the
// locks that this process has on it.
func (f *File) closedToWriting() bool {
	probe, err := os.CreateTemp(f.dir, ".probe-*")
	if err == nil {
		probe.Close()
		os.Remove(probe.Name())
	}
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

func (f *File) damaged(how error) error {
	return fmt.Errorf("%w: %s (%w)", ErrCorrupt, f.format.Cure, how)
}

// IsDuplicate reports whether err is a broken UNIQUE or PRIMARY KEY constraint.
func IsDuplicate(err error) bool {
	e, _ := errors.AsType[sqlite3.Error](err)
	return e.ExtendedCode == sqlite3.ErrConstraintUnique || e.ExtendedCode == sqlite3.ErrConstraintPrimaryKey
}

// IsOrphan reports whether err is a broken foreign key.
func IsOrphan(err error) bool {
	e, _ := errors.AsType[sqlite3.Error](err)
	return e.ExtendedCode == sqlite3.ErrConstraintForeignKey
}
