// Package mailbox keeps sealed messages for devices that are away, within
// bounds. It cannot read them and knows nothing of their content.
//
// It does no I/O, starts no goroutine and never reads the clock: a Store keeps
// what it decides to keep.
package mailbox

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"lanchat/authd/account"
	"lanchat/wire"
)

// Config sets the bounds. Zero is the default.
type Config struct {
	// Items and Bytes bound what waits for all devices of one account
	// together: 1,000 and 8 MiB.
	Items int
	Bytes int64
	// Sent and SentBytes bound what waits of one account, wherever, so that one
	// person cannot fill the mailboxes of others: 500 and 4 MiB.
	Sent      int
	SentBytes int64
	// Age is how long something waits before it is given up: 21 days.
	Age time.Duration
}

// A Key is what mail for a device is sealed to, with the token that says whose
// the device is. authd passes it on; who seals verifies it.
type Key struct {
	Device    wire.DeviceKey
	Leaf      []byte // DER
	Issuing   []byte // DER
	Public    []byte
	Signature [wire.SignatureSize]byte
}

// An Item is one sealed message that waits.
type Item struct {
	ID      uint64 // rises
	From    Key    // of the sender: Device, Leaf and Issuing
	Number  uint64 // the sender's
	At      time.Time
	Sealed  []byte
	To      wire.DeviceKey
	Account wire.AccountID // whom To belongs to
	Sender  wire.AccountID // whom From belongs to
}

// A Usage is how much waits.
type Usage struct {
	Items int
	Bytes int64
}

// A Store keeps keys and items. Every method that changes something is one
// transaction, on disk when it returns nil.
type Store interface {
	// SetMailKey keeps the key of a device that is on record, in place of an
	// older one.
	SetMailKey(k Key) error
	// MailKeys returns the keys of an account's devices that are not revoked;
	// none if the account is disabled.
	MailKeys(id wire.AccountID) ([]Key, error)
	// MailOwner returns the account of a device that has a key and is not shut
	// out, or account.ErrNotFound.
	MailOwner(device wire.DeviceKey) (wire.AccountID, error)
	// MailFor returns how much waits for an account, MailOf how much of it.
	MailFor(id wire.AccountID) (Usage, error)
	MailOf(id wire.AccountID) (Usage, error)
	// PutMail keeps an item, unless one with its sender, receiver and number is
	// kept: fresh says which.
	PutMail(i Item) (fresh bool, err error)
	// Mail returns items for a device behind an id, oldest first, at most limit.
	Mail(device wire.DeviceKey, after uint64, limit int) ([]Item, error)
	// TakeMail forgets items of a device, DropMail those older than before and
	// those for and of devices that are shut out.
	TakeMail(device wire.DeviceKey, ids []uint64) error
	DropMail(before time.Time) (dropped int, err error)
	// AllMail returns how much waits in all.
	AllMail() (Usage, error)
}

// A Mailbox applies the bounds. It is safe for concurrent use if its Store is.
type Mailbox struct {
	cfg     Config
	store   Store
	deposit sync.Mutex // what waits is counted, then added to
}

// New returns the mailbox of a realm.
func New(cfg Config, store Store) *Mailbox {
	cfg.Items, cfg.Bytes = cmp.Or(cfg.Items, 1000), cmp.Or(cfg.Bytes, 8<<20)
	cfg.Sent, cfg.SentBytes = cmp.Or(cfg.Sent, 500), cmp.Or(cfg.SentBytes, 4<<20)
	cfg.Age = cmp.Or(cfg.Age, 21*24*time.Hour)
	return &Mailbox{cfg: cfg, store: store}
}

// SetKey keeps what mail for a device is to be sealed to.
func (b *Mailbox) SetKey(k Key) error { return b.store.SetMailKey(k) }

// Keys returns what mail for an account is to be sealed to.
func (b *Mailbox) Keys(id wire.AccountID) ([]Key, error) {
	keys, err := b.store.MailKeys(id)
	return keys[:min(len(keys), wire.MaxMailKeys)], err
}

// Deposit keeps a sealed message of one device for another. fresh is false if
// it was kept before. The error is a *account.Refusal, or a failure of the
// store.
func (b *Mailbox) Deposit(now time.Time, sender wire.AccountID, from, to wire.DeviceKey, number uint64, sealed []byte) (fresh bool, err error) {
	b.deposit.Lock()
	defer b.deposit.Unlock()
	if _, err := b.store.MailOwner(from); err != nil {
		return false, refused(err, "say first which key your own mail is sealed to")
	}
	owner, err := b.store.MailOwner(to)
	if err != nil {
		return false, refused(err, "no mail is kept for that device")
	}
	waiting, err := b.store.MailFor(owner)
	if err != nil {
		return false, err
	}
	sent, err := b.store.MailOf(sender)
	if err != nil {
		return false, err
	}
	n := int64(len(sealed))
	switch {
	case waiting.Items >= b.cfg.Items || waiting.Bytes+n > b.cfg.Bytes:
		return false, full("as much waits for that person as may")
	case sent.Items >= b.cfg.Sent || sent.Bytes+n > b.cfg.SentBytes:
		return false, full("as much of yours waits for others as may")
	}
	return b.store.PutMail(Item{From: Key{Device: from}, Number: number, At: now, Sealed: sealed, To: to, Account: owner, Sender: sender})
}

// fullFor is when one may try again, for what is in the way may be fetched at
// any time.
const fullFor = 10 * time.Minute

func full(why string) error {
	return &account.Refusal{Code: wire.CodeMailboxFull, RetryAfter: fullFor, Text: why}
}

func refused(err error, why string) error {
	if errors.Is(err, account.ErrNotFound) {
		return &account.Refusal{Code: wire.CodeNoSuchDevice, Text: why}
	}
	return err
}

// pageBytes bounds a page, so that it fits a frame with at least one item.
const pageBytes = wire.MaxFrame - 2

// Page returns what waits for a device behind an id, oldest first, as much as
// fits a frame, and whether there is more.
func (b *Mailbox) Page(device wire.DeviceKey, after uint64) (m *wire.AuthMail, err error) {
	items, err := b.store.Mail(device, after, wire.MaxMailItems+1)
	if err != nil {
		return nil, fmt.Errorf("reading a mailbox: %w", err)
	}
	m = &wire.AuthMail{}
	size := 0
	for _, i := range items {
		w := wire.MailItem{ID: i.ID, Leaf: i.From.Leaf, Issuing: i.From.Issuing, Sealed: i.Sealed}
		if size += w.Len(); size > pageBytes || len(m.Items) == wire.MaxMailItems {
			m.More = true
			break
		}
		m.Items = append(m.Items, w)
	}
	return m, nil
}

// Take forgets what a device has on its disk.
func (b *Mailbox) Take(device wire.DeviceKey, ids []uint64) error {
	return b.store.TakeMail(device, ids)
}

// Sweep forgets what has waited too long, and what is for or of devices that
// were shut out.
func (b *Mailbox) Sweep(now time.Time) (dropped int, err error) {
	return b.store.DropMail(now.Add(-b.cfg.Age))
}

// Usage returns how much waits in all.
func (b *Mailbox) Usage() (Usage, error) { return b.store.AllMail() }
