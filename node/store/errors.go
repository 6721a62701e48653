package store

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/mattn/go-sqlite3"
)

// Why a database was not opened.
var (
	ErrTooOpen = errors.New("open to other users")
	ErrNewer   = errors.New("made by a newer version of this program")
	ErrNotOurs = errors.New("not a node's database")
	ErrCorrupt = errors.New("the database is damaged: move it away, and the node begins a new one")
)

// ErrNoMessage says that there is no message of that id in the chat.
var ErrNoMessage = errors.New("no such message")

// A DiskError says that the disk did not take what was to be stored, or give
// what was asked for. Nothing of the transaction was stored. The cause is
// outside the program; once it is gone the same Store works, and the same
// records can be applied.
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

// mapped gives the driver's errors their meaning.
func (s *Store) mapped(err error) error {
	e, ok := errors.AsType[sqlite3.Error](err)
	if !ok {
		return err
	}
	d := &DiskError{Err: err}
	switch e.Code {
	case sqlite3.ErrFull:
		d.Code, d.Problem = "disk_full", "the disk is full"
		d.Cure = fmt.Sprintf("free some space on the disk of %q", s.dir)
	case sqlite3.ErrReadonly, sqlite3.ErrPerm:
		d.Code, d.Problem = "disk_read_only", "the database can't be written"
		d.Cure = fmt.Sprintf("make %q writable for its owner and mount its disk for writing", s.dir)
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		d.Code, d.Problem = "disk_busy", "another program holds the database"
		d.Cure = fmt.Sprintf("end what else has %q open", s.dir)
	case sqlite3.ErrIoErr, sqlite3.ErrCantOpen, sqlite3.ErrNomem:
		if e.SystemErrno == syscall.EDQUOT {
			d.Code, d.Problem = "disk_full", "your share of the disk is full"
			d.Cure = fmt.Sprintf("free some space on the disk of %q, or have your quota raised", s.dir)
			break
		}
		d.Code, d.Problem = "disk_failed", "the disk can't be read or written"
		d.Cure = fmt.Sprintf("see that the disk of %q is there and sound, and has space", s.dir)
	case sqlite3.ErrCorrupt:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case sqlite3.ErrNotADB:
		return fmt.Errorf("%w: %w", ErrNotOurs, err)
	default:
		return err
	}
	return d
}
