package realm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"lanchat/wire"
)

// A ResetCode lets a person who has forgotten the password set a new one, once
// and within ResetLife. The operator makes it (authd user reset); the person
// types it where the password is asked for. It is a secret and prints as
// [redacted]; Text is what the operator hands on.
type ResetCode [16]byte

// resetVersion begins every code. No password that people think of begins so,
// and the check behind it makes sure.
const resetVersion = "LR1"

// ErrResetCode is what ParseResetCode refuses with. It does not repeat the
// code.
var ErrResetCode = errors.New("a one-time code is LR1- and 30 letters and digits (A–Z, 2–7), as authd user reset prints it")

// NewResetCode returns a random code. rand fails only if the machine does.
func NewResetCode(rand io.Reader) (c ResetCode, err error) {
	if _, err := io.ReadFull(rand, c[:]); err != nil {
		return c, fmt.Errorf("reading random bytes: %w", err)
	}
	return c, nil
}

// Text returns the code in groups of four behind "LR1-", in the characters of
// a join code; the last four are a check, the first 20 bits of SHA-256 over
// "lc1 reset code" and the code.
func (c ResetCode) Text() string { return resetVersion + "-" + grouped(base32Of(c[:])+c.check()) }

func (c ResetCode) check() string {
	sum := sha256.Sum256(append([]byte("lc1 reset code"), c[:]...))
	return base32Of(sum[:])[:checkChars]
}

func (ResetCode) String() string   { return "[redacted]" }
func (ResetCode) GoString() string { return "[redacted]" }

// ParseResetCode reads a code as a person types it, with the tolerance of
// ParseFingerprint.
func ParseResetCode(s string) (ResetCode, error) {
	rest, ok := strings.CutPrefix(strings.ToUpper(unspaced(s)), resetVersion)
	rest = typed(rest)
	n := base32Len(len(ResetCode{}))
	if !ok || len(rest) != n+checkChars {
		return ResetCode{}, ErrResetCode
	}
	b, ok := fromBase32(rest[:n], len(ResetCode{}))
	if !ok || ResetCode(b).check() != rest[n:] {
		return ResetCode{}, ErrResetCode
	}
	return ResetCode(b), nil
}

// Proof returns what a node shows authd instead of the code: bound to the
// realm, so that a false authd can do nothing with it at the true one.
func (c ResetCode) Proof(id wire.RealmID) [16]byte {
	h := sha256.New()
	h.Write([]byte("lc1 reset"))
	h.Write(id[:])
	h.Write(c[:])
	return [16]byte(h.Sum(nil))
}
