package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// What is wrong with a packet. The sentinels are wrapped with the name of the
// message they were found in; a shell drops the packet and counts it.
var (
	ErrTruncated = errors.New("truncated")
	ErrTrailing  = errors.New("trailing bytes")
	ErrTooLong   = errors.New("field too long")
	ErrType      = errors.New("unknown type")
	ErrVersion   = errors.New("unknown version")
	ErrReserved  = errors.New("reserved bits set")
	ErrUTF8      = errors.New("text is not UTF-8")
	ErrValue     = errors.New("value out of range")
)

// A Reader takes a message apart. It remembers its first failure and returns
// zeros from then on, so that one check of Err or Done at the end suffices.
// What it returns never aliases the bytes it reads from.
type Reader struct {
	b   []byte
	err error
}

// NewReader returns a Reader of b, which it does not change or keep beyond
// the last call.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Fail makes err the reader's failure unless it already has one.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// Err returns the first failure, or nil.
func (r *Reader) Err() error { return r.err }

// Done returns the first failure; bytes left over are one.
func (r *Reader) Done() error {
	if r.err == nil && len(r.b) > 0 {
		r.Fail(ErrTrailing)
	}
	return r.err
}

// Len returns the number of bytes not yet read.
func (r *Reader) Len() int { return len(r.b) }

// next returns the next n bytes, aliasing the input, or nil after a failure.
func (r *Reader) next(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b) {
		r.Fail(ErrTruncated)
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

// Uint8 reads one byte.
func (r *Reader) Uint8() uint8 {
	if p := r.next(1); p != nil {
		return p[0]
	}
	return 0
}

// Uint16 reads two bytes, big endian like every number on the wire.
func (r *Reader) Uint16() uint16 {
	if p := r.next(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

// Uint32 reads four bytes.
func (r *Reader) Uint32() uint32 {
	if p := r.next(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

// Uint64 reads eight bytes.
func (r *Reader) Uint64() uint64 {
	if p := r.next(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// Bool reads one byte that must be 0 or 1.
func (r *Reader) Bool() bool {
	switch r.Uint8() {
	case 0:
		return false
	case 1:
		return true
	}
	r.Fail(ErrValue)
	return false
}

// Fill reads len(dst) bytes into dst.
func (r *Reader) Fill(dst []byte) {
	if p := r.next(len(dst)); p != nil {
		copy(dst, p)
	}
}

// Bytes reads n bytes into a slice of its own; nil when n is 0.
func (r *Reader) Bytes(n int) []byte {
	p := r.next(n)
	if len(p) == 0 {
		return nil
	}
	return append([]byte(nil), p...)
}

// Bytes16 reads a length (16) and that many bytes, at most max.
func (r *Reader) Bytes16(max int) []byte {
	return append([]byte(nil), r.next16(max)...)
}

// next16 is Bytes16, but aliases the input.
func (r *Reader) next16(max int) []byte {
	n := int(r.Uint16())
	if n > max {
		r.Fail(ErrTooLong)
		return nil
	}
	return r.next(n)
}

// String16 reads a length (16) and that many bytes of UTF-8, at most max.
func (r *Reader) String16(max int) string {
	return string(r.utf8(r.Bytes16(max)))
}

// String8 reads a length (8) and that many bytes of UTF-8, at most max.
func (r *Reader) String8(max int) string {
	n := int(r.Uint8())
	if n > max {
		r.Fail(ErrTooLong)
		return ""
	}
	return string(r.utf8(r.Bytes(n)))
}

// utf8 returns b if it is UTF-8.
func (r *Reader) utf8(b []byte) []byte {
	if !utf8.Valid(b) {
		r.Fail(ErrUTF8)
		return nil
	}
	return b
}

// Rest reads what is left.
func (r *Reader) Rest() []byte { return r.Bytes(len(r.b)) }

// AppendBytes16 appends a length (16) and p. It panics if p is longer than
// max: such a field could not be parsed again.
func AppendBytes16(b, p []byte, max int) []byte {
	mustFit(len(p), max)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	return append(b, p...)
}

// AppendString16 appends a length (16) and s, with the rule of AppendBytes16.
func AppendString16(b []byte, s string, max int) []byte {
	return AppendBytes16(b, []byte(s), max)
}

// AppendString8 appends a length (8) and s, with the rule of AppendBytes16.
func AppendString8(b []byte, s string, max int) []byte {
	mustFit(len(s), max)
	b = append(b, uint8(len(s)))
	return append(b, s...)
}

// AppendBool appends 1 for true and 0 for false.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func mustFit(n, max int) {
	if n > max {
		panic(fmt.Sprintf("wire: field of %d bytes, at most %d fit", n, max))
	}
}

// named wraps a parse failure with the name of the message.
func named(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}
