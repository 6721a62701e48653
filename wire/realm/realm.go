// Package realm is what a realm is made of: its id and fingerprint, the join
// code, the rules for user names and passwords, and the token, which is an
// X.509 certificate: how authd issues one, how everybody verifies it, and how
// one is revoked.
//
// It is not a network and not a disk: it does no I/O, starts no goroutine and
// never reads the clock. TLS with tokens is in wire/link; authd's accounts are
// in authd/account.
//
// Start at [Verifier] for what a token must be, at [CA] for how it is made.
//
//	realm root       Ed25519; realm id = SHA-256 of its SubjectPublicKeyInfo
//	 ├─ authd        URI lanchat://<realm id>/authd
//	 └─ issuing CA   path length 0
//	     ├─ tokens   URI lanchat://<realm id>/u/<account>/d/<device>, name and its number in an extension
//	     └─ CRL
package realm

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"lanchat/wire"
)

// A Realm is one authd and all it vouches for, as its root certificate
// describes it.
type Realm struct {
	ID   wire.RealmID
	Name string // at most MaxRealmName bytes; chosen by others: sanitise before showing
	Root *x509.Certificate
}

// Fingerprint returns what people compare.
func (r Realm) Fingerprint() Fingerprint { return FingerprintOf(r.ID) }

// IDOf returns the id of the realm that root is the root of.
func IDOf(root *x509.Certificate) wire.RealmID {
	return sha256.Sum256(root.RawSubjectPublicKeyInfo)
}

// A Fingerprint is the part of a realm id that people see and compare: its
// first 128 bits.
type Fingerprint [16]byte

// FingerprintOf returns the fingerprint of a realm.
func FingerprintOf(id wire.RealmID) Fingerprint { return Fingerprint(id[:16]) }

// String returns 26 base32 characters in groups of four.
func (f Fingerprint) String() string { return grouped(base32Of(f[:])) }

// Matches reports whether the realm has the fingerprint.
func (f Fingerprint) Matches(id wire.RealmID) bool { return f == FingerprintOf(id) }

// ErrFingerprint is what ParseFingerprint refuses with.
var ErrFingerprint = errors.New("a fingerprint is 26 letters and digits (A–Z, 2–7)")

// ParseFingerprint reads a fingerprint as a person types it: upper or lower
// case, with any dashes and spaces; 0, 1 and 8, which base32 does not use, are
// read as O, I and B.
func ParseFingerprint(s string) (Fingerprint, error) {
	b, ok := fromBase32(typed(s), len(Fingerprint{}))
	if !ok {
		return Fingerprint{}, fmt.Errorf("%q: %w", s, ErrFingerprint)
	}
	return Fingerprint(b), nil
}

// InviteSize is the size of the secret in a join code, in bytes.
const InviteSize = 8

// joinVersion begins every join code.
const joinVersion = "LC1"

// checkChars is the length of a join code's check: 20 bits, so that one typing
// mistake in a million passes.
const checkChars = 4

// A JoinCode is what a person types to enter a realm for the first time. It
// carries so much of the realm's id that first contact can't be intercepted.
//
//	LC1  realm id, 26 characters  [invite, 13 characters]  check, 4 characters
//
// The characters are base32 (RFC 4648, without padding); the check is the
// first 20 bits of SHA-256 over "lc1 code", the realm's 16 bytes and the
// invite's.
type JoinCode struct {
	Realm  Fingerprint
	Invite []byte // InviteSize bytes, nil: none
}

// String returns the code in groups of four behind "LC1-". It panics when the
// invite has another size than InviteSize or 0.
func (c JoinCode) String() string {
	if n := len(c.Invite); n != 0 && n != InviteSize {
		panic(fmt.Sprintf("realm: invite of %d bytes", n))
	}
	return joinVersion + "-" + grouped(base32Of(c.Realm[:])+base32Of(c.Invite)+c.check())
}

func (c JoinCode) check() string {
	h := sha256.New()
	h.Write([]byte("lc1 code"))
	h.Write(c.Realm[:])
	h.Write(c.Invite)
	return base32Of(h.Sum(nil))[:checkChars]
}

// Why a join code is refused.
var (
	ErrJoinCode    = errors.New("a join code is LC1- and 30 or 43 letters and digits (A–Z, 2–7)")
	ErrJoinTypo    = errors.New("the join code has a typing mistake: compare it with what authd code prints")
	ErrJoinVersion = errors.New("the join code is of a later version: a newer program is needed")
)

// ParseJoinCode reads a join code as a person types it, with the tolerance of
// ParseFingerprint. The code is a secret when it has an invite, so errors do
// not repeat it.
func ParseJoinCode(s string) (JoinCode, error) {
	var c JoinCode
	s = strings.ToUpper(unspaced(s))
	rest, ok := strings.CutPrefix(s, joinVersion)
	if !ok {
		if len(s) > 3 && s[:2] == joinVersion[:2] && s[2] >= '2' && s[2] <= '9' {
			return JoinCode{}, ErrJoinVersion
		}
		return JoinCode{}, ErrJoinCode
	}
	rest = typed(rest)
	realmChars, inviteChars := base32Len(len(c.Realm)), base32Len(InviteSize)
	switch len(rest) {
	case realmChars + checkChars:
	case realmChars + inviteChars + checkChars:
		if c.Invite, ok = fromBase32(rest[realmChars:realmChars+inviteChars], InviteSize); !ok {
			return JoinCode{}, ErrJoinTypo
		}
	default:
		return JoinCode{}, ErrJoinCode
	}
	id, ok := fromBase32(rest[:realmChars], len(c.Realm))
	if !ok {
		return JoinCode{}, ErrJoinTypo
	}
	c.Realm = Fingerprint(id)
	if c.check() != rest[len(rest)-checkChars:] {
		return JoinCode{}, ErrJoinTypo
	}
	return c, nil
}

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

func base32Of(b []byte) string { return encoding.EncodeToString(b) }

func base32Len(bytes int) int { return encoding.EncodedLen(bytes) }

// fromBase32 decodes exactly n bytes; their spelling must be the one base32Of
// gives.
func fromBase32(s string, n int) ([]byte, bool) {
	b, err := encoding.DecodeString(s)
	return b, err == nil && len(b) == n && base32Of(b) == s
}

// typed undoes what people do to base32 when they type it.
func typed(s string) string {
	return strings.NewReplacer("0", "O", "1", "I", "8", "B").Replace(strings.ToUpper(unspaced(s)))
}

func unspaced(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n', '-', '‐', '‑', '–', '—', '\u00a0':
			return -1
		}
		return r
	}, s)
}

// grouped puts a dash after every fourth character.
func grouped(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
