package realm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go/scoring"
	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"

	"lanchat/wire"
)

// ErrName is what CheckName refuses with.
var ErrName = errors.New("a user name is 2 to 24 characters: a letter a–z, then a–z 0–9 . _ -")

// CheckName reports whether name can be a user name: [a-z][a-z0-9._-]{1,23}.
// ASCII only, since look-alikes of other scripts pass every other filter.
// Which names are reserved or taken is authd's to say.
func CheckName(name string) error {
	if len(name) < 2 || len(name) > MaxName || name[0] < 'a' || name[0] > 'z' {
		return fmt.Errorf("%q: %w", name, ErrName)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("%q: %w", name, ErrName)
		}
	}
	return nil
}

// A Policy is what a new password must be. A realm may ask for more than the
// defaults, never for less.
type Policy struct {
	MinLength int // characters; less than DefaultMinLength means that
	MinScore  int // zxcvbn score, 0 to 4; less than DefaultMinScore means that
}

// What every realm asks for at least, and the longest password, in bytes.
const (
	DefaultMinLength = 8
	DefaultMinScore  = 3
	MaxPassword      = 256
)

func (p Policy) minLength() int { return max(p.MinLength, DefaultMinLength) }
func (p Policy) minScore() int  { return min(max(p.MinScore, DefaultMinScore), 4) }

// Challenge returns the policy that authd stated.
func Challenge(m *wire.AuthChallenge) Policy {
	return Policy{MinLength: int(m.MinLength), MinScore: int(m.MinScore)}
}

// What is wrong with a password; a *PasswordError is one of them.
var (
	ErrPasswordShort = errors.New("password too short")
	ErrPasswordLong  = errors.New("password too long")
	ErrPasswordChars = errors.New("password with a character that can't be typed again reliably")
	ErrPasswordWeak  = errors.New("password too easy to guess")
)

// A PasswordError says why a password is not good enough and what to do. It
// never holds the password.
type PasswordError struct {
	Err       error // ErrPasswordShort, …
	MinLength int   // characters
	Score     int   // 0 to 4, when Err is ErrPasswordWeak
	MinScore  int
}

func (e *PasswordError) Error() string {
	switch e.Err {
	case ErrPasswordShort:
		return fmt.Sprintf("%v: use at least %d characters", e.Err, e.MinLength)
	case ErrPasswordLong:
		return fmt.Sprintf("%v: use at most %d bytes", e.Err, MaxPassword)
	case ErrPasswordWeak:
		return fmt.Sprintf("%v (strength %d of 4, %d needed): use more words, or a few that don't belong together", e.Err, e.Score, e.MinScore)
	}
	return fmt.Sprintf("%v: leave out control characters", e.Err)
}

func (e *PasswordError) Unwrap() error { return e.Err }

// CheckPassword reports how hard password is to guess (see Score), and whether it
// is good enough for a new account or a change. What else the person typed, such as the user name, makes a password
// that contains it weaker. The error is a *PasswordError.
func CheckPassword(password string, p Policy, inputs ...string) (score int, err error) {
	s, err := opaque(password)
	if err != nil {
		return 0, err
	}
	score = Score(password, inputs...)
	if utf8.RuneCountInString(s) < p.minLength() {
		return score, &PasswordError{Err: ErrPasswordShort, MinLength: p.minLength()}
	}
	if score < p.minScore() {
		return score, &PasswordError{Err: ErrPasswordWeak, Score: score, MinScore: p.minScore()}
	}
	return score, nil
}

// meterBytes is how much of a password the meter looks at: its work grows with
// the square of the length, and what follows can only make it harder to guess.
const meterBytes = 72

// Score returns how hard password is to guess, from 0 (at once) to 4 (zxcvbn).
// It takes some ten milliseconds: a meter may call it at every key.
func Score(password string, inputs ...string) int {
	s, err := opaque(password)
	if err != nil {
		return 0
	}
	if len(s) > meterBytes {
		s = strings.ToValidUTF8(s[:meterBytes], "")
	}
	known := append([]string{"lanchat", "authd"}, inputs...)
	for i := range known {
		known[i] = strings.ToLower(known[i])
	}
	return scoring.MinimumEntropyMatchSequence(s, guessed(s, known)).Score
}

// opaque returns the password in the one form that is hashed: PRECIS
// OpaqueString (RFC 8265), so that it does not matter how a keyboard composes
// an é.
func opaque(password string) (string, error) {
	if len(password) > MaxPassword {
		return "", &PasswordError{Err: ErrPasswordLong}
	}
	if password == "" {
		return "", &PasswordError{Err: ErrPasswordShort, MinLength: DefaultMinLength}
	}
	s, err := precis.OpaqueString.String(password)
	if err != nil || !utf8.ValidString(password) { // precis lets broken UTF-8 through
		return "", &PasswordError{Err: ErrPasswordChars}
	}
	return s, nil
}

// The parameters of Argon2id are fixed by the version, so that a server can't
// weaken them. (About 140 ms.)
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4
)

// Prehash returns what a node sends to prove that it knows the password. It is
// bound to the realm: what a rogue authd gets opens no other one. The result
// is a secret. It takes about 140 ms and 64 MiB.
func Prehash(password string, realm wire.RealmID, serverSalt [16]byte) ([32]byte, error) {
	s, err := opaque(password)
	if err != nil {
		return [32]byte{}, err
	}
	h := sha256.New()
	h.Write([]byte("lc1 pw"))
	h.Write(realm[:])
	h.Write(serverSalt[:])
	return [32]byte(argon2.IDKey([]byte(s), h.Sum(nil)[:16], argonTime, argonMemory, argonThreads, 32)), nil
}
