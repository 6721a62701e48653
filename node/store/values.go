package store

import (
	"bytes"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// How Go's values stand in columns; see schema.sql.

// A number is an unsigned 64-bit number: 8 bytes, big-endian.
type number uint64

func (n number) Value() (driver.Value, error) {
	return binary.BigEndian.AppendUint64(nil, uint64(n)), nil
}

func (n *number) Scan(src any) error {
	var b [8]byte
	if err := into(b[:]).Scan(src); err != nil {
		return err
	}
	*n = number(binary.BigEndian.Uint64(b[:]))
	return nil
}

// into takes a value of exactly its length.
type into []byte

func (b into) Scan(src any) error {
	v, ok := src.([]byte)
	if !ok || len(v) != len(b) {
		return fmt.Errorf("%T of %d bytes, want %d bytes", src, len(v), len(b))
	}
	copy(b, v)
	return nil
}

// Ranges of numbers: each 16 bytes, the first and the last.
type ranges []wire.Range

func (r ranges) Value() (driver.Value, error) {
	b := make([]byte, 0, 16*len(r))
	for _, g := range r {
		b = binary.BigEndian.AppendUint64(b, g.First)
		b = binary.BigEndian.AppendUint64(b, g.Last)
	}
	return b, nil
}

func (r *ranges) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok || len(b)%16 != 0 {
		return fmt.Errorf("%T of %d bytes, want ranges", src, len(b))
	}
	*r = nil
	for ; len(b) > 0; b = b[16:] {
		*r = append(*r, wire.Range{First: binary.BigEndian.Uint64(b), Last: binary.BigEndian.Uint64(b[8:])})
	}
	return nil
}

// Accounts, 16 bytes each.
type accounts []wire.AccountID

func (a accounts) Value() (driver.Value, error) {
	b := make([]byte, 0, 16*len(a))
	for _, id := range a {
		b = append(b, id[:]...)
	}
	return b, nil
}

func (a *accounts) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok || len(b)%16 != 0 {
		return fmt.Errorf("%T of %d bytes, want accounts", src, len(b))
	}
	*a = nil
	for ; len(b) > 0; b = b[16:] {
		*a = append(*a, wire.AccountID(b[:16]))
	}
	return nil
}

// blobs are stored one behind the other, each with its length before it.
type blobs [][]byte

func (v blobs) Value() (driver.Value, error) {
	b := []byte{}
	for _, one := range v {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(one))), one...)
	}
	return b, nil
}

func (v *blobs) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok {
		return fmt.Errorf("%T, want blobs", src)
	}
	*v = nil
	for len(b) > 0 {
		if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
			return fmt.Errorf("blobs that end too early")
		}
		n := 4 + int(binary.BigEndian.Uint32(b))
		*v = append(*v, bytes.Clone(b[4:n]))
		b = b[n:]
	}
	return nil
}

// A moment is a time in Unix milliseconds; 0 is the zero time.
type moment time.Time

func (m moment) Value() (driver.Value, error) {
	t := time.Time(m)
	if t.IsZero() {
		return int64(0), nil
	}
	return t.UnixMilli(), nil
}

func (m *moment) Scan(src any) error {
	ms, ok := src.(int64)
	if !ok {
		return fmt.Errorf("%T, want a time", src)
	}
	*m = moment{}
	if ms != 0 {
		*m = moment(time.UnixMilli(ms))
	}
	return nil
}

// An amendment is what became of a message: 0 nothing, 1 edited, 2 deleted.
type amendment struct{ edited, deleted bool }

func (a amendment) Value() (driver.Value, error) {
	switch {
	case a.deleted:
		return int64(2), nil
	case a.edited:
		return int64(1), nil
	}
	return int64(0), nil
}

// amended scans an amendment into a message.
type amendedInto struct{ m *chat.SaveMessage }

func (a amendedInto) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("%T, want what became of a message", src)
	}
	a.m.Edited, a.m.Deleted = n > 0, n > 1
	return nil
}

// A chatID is the id of a room or of an account, told apart by their lengths.
type chatID chat.ChatID

func (c chatID) Value() (driver.Value, error) {
	switch {
	case c.Room.IsZero() == c.Account.IsZero():
		return nil, errors.New("a chat is a room or an account")
	case c.Account.IsZero():
		return c.Room[:], nil
	}
	return c.Account[:], nil
}

func (c *chatID) Scan(src any) error {
	*c = chatID{}
	if b, _ := src.([]byte); len(b) == len(c.Account) {
		return into(c.Account[:]).Scan(src)
	}
	return into(c.Room[:]).Scan(src)
}
