// Package account holds authd's rules about people: which names may be taken,
// how a password is verified, how often one may try, how many devices a
// person has, and what must be on record before a certificate is signed.
//
// It is not the server and not the database. It does no network or file I/O
// of its own, starts no goroutine and never reads the clock: a [Registrar]
// reaches what is stored through the [Store] it is given, and the time comes
// in as an argument.
//
// Start reading at [Registrar.Start] and [Registrar.Finish]: the two halves of
// a log-in, with the client's slow hash between them.
package account

import (
	"errors"
	"time"

	"lanchat/wire"
	"lanchat/wire/realm"
)

// What a Store says no with. Anything else is a failure of the machine, to be
// answered with "try later".
var (
	ErrNotFound    = errors.New("not found")
	ErrNameTaken   = errors.New("name in use or in quarantine")
	ErrDeviceTaken = errors.New("device belongs to another account")
	ErrChanged     = errors.New("account changed meanwhile")
	// ErrUnavailable is what a store that cannot write just now wraps: disk
	// full, I/O error, read-only, busy for too long. Nothing was changed.
	ErrUnavailable = errors.New("database unavailable, try later")
)

// An Account is a person's record.
type Account struct {
	ID       wire.AccountID
	Name     string   // unique; see wire/realm.CheckName
	NameSeq  uint64   // counts the account's names, from 1
	Salt     [16]byte // the server salt: part of the salt of the client's hash
	Salt2    [16]byte
	Verifier [32]byte // HMAC-SHA-256(pepper, Salt2 ‖ prehash)
	Disabled bool
	Created  time.Time
}

// A Password is what a password is verified by.
type Password struct {
	Salt     [16]byte // part of the salt of the client's hash
	Salt2    [16]byte
	Verifier [32]byte // HMAC-SHA-256(pepper, Salt2 ‖ prehash)
}

// A Device is one key of an account.
type Device struct {
	Key     wire.DeviceKey
	Account wire.AccountID
	Name    string // what the person calls it, printable, at most MaxDeviceName bytes
	Created time.Time
	Expires time.Time // end of its newest certificate
	Revoked bool
}

// MaxDeviceName is the longest device name kept, in bytes.
const MaxDeviceName = 64

// A Summary is an account as an operator sees it.
type Summary struct {
	Account
	Devices int // not revoked
}

// MaxCertificates is how many certificates a store keeps of a device under one
// name: twice what comes together in a month of daily renewals. The one that ends
// last says all that the others do, and who renews all the time fills no disk.
const MaxCertificates = 64

// A Store keeps accounts and the certificates that were granted, each recorded
// before it is signed: what authd vouches for is always on record. Every method that changes something is one
// transaction, on disk when it returns nil, and without effect otherwise. No
// method takes a context: what has begun is finished whether or not the asker
// is still there, and none takes longer than the store's own time limit. Package storetest
// says all this as tests.
type Store interface {
	// Find returns the account that goes by name, or ErrNotFound.
	Find(name string) (Account, error)
	// Get returns the account with the id, or ErrNotFound.
	Get(id wire.AccountID) (Account, error)
	// Taken reports whether at now the name is in use or in quarantine.
	Taken(name string, now time.Time) (bool, error)
	// Device returns the device with the key, or ErrNotFound.
	Device(key wire.DeviceKey) (Device, error)
	// Devices returns the account's devices, oldest first.
	Devices(id wire.AccountID) ([]Device, error)

	// Create stores a new account, its first device and that device's
	// certificate: all three or nothing. ErrNameTaken (in quarantine at
	// a.Created counts), ErrDeviceTaken.
	Create(a Account, d Device, g realm.Grant) error
	// Admit stores a log-in: the device, new or known, and its certificate;
	// it forgets the account's failures. ErrDeviceTaken; ErrNotFound if the
	// account is gone.
	Admit(d Device, g realm.Grant) error
	// Renew stores a further certificate of a known device. ErrNotFound if
	// the device or its account is gone. As Admit and Rename do, it forgets all
	// but the MaxCertificates of the device that end last and have this name.
	Renew(g realm.Grant) error

	// Readmit puts on record what a certificate of the realm says that is not:
	// the account, if there is none of that id, or else its name, if a's NameSeq
	// is higher, the old one being quarantined as Rename does; the device, if it
	// is new; the certificate. ErrNotFound if the certificate is on record
	// already, or others of an account that is not: it was removed. ErrNameTaken
	// (in quarantine at d.Created counts), ErrDeviceTaken.
	Readmit(a Account, d Device, g realm.Grant, until time.Time) error

	// Failures returns how many log-ins failed for who since the last that
	// did not.
	Failures(who []byte) (int, error)
	// Fail counts one more.
	Fail(who []byte, now time.Time) error

	// ForgetFailures sets the count back to zero.
	ForgetFailures(who []byte) error

	// Add stores an account without devices. ErrNameTaken.
	Add(a Account) error
	// SetPassword replaces what the password is verified by, forgets the
	// failures and voids a one-time code. ErrNotFound.
	SetPassword(id wire.AccountID, p Password) error
	// SignOut is SetPassword that also revokes every device of the account but
	// one, as Revoke does. ErrNotFound.
	SignOut(id wire.AccountID, p Password, but wire.DeviceKey, now time.Time) error
	// SetReset keeps the hash of a one-time code that is good until then, in
	// place of an older one. ErrNotFound.
	SetReset(id wire.AccountID, code [32]byte, until time.Time) error
	// Reset returns the hash of the account's one-time code, if it has one that
	// is good at now, or ErrNotFound.
	Reset(id wire.AccountID, now time.Time) (code [32]byte, err error)
	// Recover uses the account's one-time code up, sets the password as
	// SetPassword does and admits the device as Admit does. ErrNotFound if the
	// account has not that code; ErrDeviceTaken.
	Recover(code [32]byte, p Password, d Device, g realm.Grant) error
	// Disable shuts an account out: its certificates count as revoked until
	// Enable. ErrNotFound.
	Disable(id wire.AccountID, now time.Time) error
	Enable(id wire.AccountID) error
	// Revoke shuts a device and all its certificates out, for ever.
	// ErrNotFound.
	Revoke(key wire.DeviceKey, now time.Time) error
	// Remove deletes an account and its devices, revokes its certificates and
	// keeps the name in quarantine until the given time or the end of its
	// last certificate, whichever is later. ErrNotFound.
	Remove(id wire.AccountID, now, until time.Time) error
	// Rename gives the account another name, counts its NameSeq up, and keeps
	// the old name in quarantine as Remove does. With a grant, which carries the
	// new name, it stores that as Renew does. ErrNameTaken (in quarantine at now
	// counts), ErrNotFound; ErrChanged if the grant has not the NameSeq that the
	// account gets.
	Rename(id wire.AccountID, name string, now, until time.Time, g *realm.Grant) error
	// Names returns how many names the account's certificates carry that end
	// after now.
	Names(id wire.AccountID, now time.Time) (int, error)
	// List returns all accounts by name.
	List() ([]Summary, error)
	// Count returns the number of accounts.
	Count() (int, error)

	// Version returns a number that differs from the last when another program
	// has changed something: the operator's commands.
	Version() (int64, error)

	// NextCRL takes the next number of the revocation list,
	// max(last+1, unix seconds of now), and returns it with the revoked
	// certificates that end after since.
	NextCRL(now, since time.Time) (number uint64, revoked []realm.Revoked, err error)
}
