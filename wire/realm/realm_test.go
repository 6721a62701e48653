package realm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"

	"lanchat/wire"
)

func TestFingerprint(t *testing.T) {
	tests := []struct{ id, want string }{
		{"00000000000000000000000000000000", "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AA"},
		{"ffffffffffffffffffffffffffffffff", "7777-7777-7777-7777-7777-7777-74"},
		{"0123456789abcdef0123456789abcdef", "AERU-KZ4J-VPG6-6AJD-IVTY-TK6N-54"},
	}
	for _, tt := range tests {
		var id wire.RealmID
		hex.Decode(id[:], []byte(tt.id))
		got := FingerprintOf(id)
		if got.String() != tt.want {
			t.Errorf("FingerprintOf(%s) = %v, want %v", tt.id, got, tt.want)
		}
		for _, typed := range []string{tt.want, strings.ToLower(tt.want), strings.ReplaceAll(tt.want, "-", ""),
			" " + strings.ReplaceAll(tt.want, "-", " ") + "\n", strings.ReplaceAll(tt.want, "I", "1")} {
			if f, err := ParseFingerprint(typed); err != nil || f != got {
				t.Errorf("ParseFingerprint(%q) = %v, %v", typed, f, err)
			}
		}
		if !got.Matches(id) {
			t.Errorf("%v does not match %v", got, id)
		}
		id[15] ^= 1
		if got.Matches(id) {
			t.Errorf("%v matches %v", got, id)
		}
	}
	for _, bad := range []string{"", "A", "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-A", "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAA",
		"AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AB", "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-A!", "9999-9999-9999-9999-9999-9999-99"} {
		if f, err := ParseFingerprint(bad); !errors.Is(err, ErrFingerprint) {
			t.Errorf("ParseFingerprint(%q) = %v, %v", bad, f, err)
		}
	}
}

func joinCodes() []JoinCode {
	var f Fingerprint
	hex.Decode(f[:], []byte("0123456789abcdef0123456789abcdef"))
	return []JoinCode{{}, {Realm: f}, {Realm: f, Invite: []byte{1, 2, 3, 4, 5, 6, 7, 255}}}
}

func TestJoinCode(t *testing.T) {
	for i, c := range joinCodes() {
		want := []string{
			"LC1-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAD7-JJ",
			"LC1-AERU-KZ4J-VPG6-6AJD-IVTY-TK6N-54HR-MD",
			"LC1-AERU-KZ4J-VPG6-6AJD-IVTY-TK6N-54AE-BAGB-AFAY-D76M-Q6Y",
		}[i]
		if got := c.String(); got != want {
			t.Errorf("code %d is %s, want %s", i, got, want)
		}
		s := c.String()
		for _, typed := range []string{s, strings.ToLower(s), strings.ReplaceAll(s, "-", ""),
			strings.ReplaceAll(s, "-", " "), "  " + s + "\n", strings.ReplaceAll(s, "-", "–"),
			"LC1" + strings.NewReplacer("O", "0", "I", "1", "B", "8").Replace(s[3:])} {
			got, err := ParseJoinCode(typed)
			if err != nil || got.Realm != c.Realm || !bytes.Equal(got.Invite, c.Invite) {
				t.Errorf("ParseJoinCode(%q) = %v, %v", typed, got, err)
			}
		}
	}
}

// A join code detects typing mistakes: every wrong, missing, doubled or
// swapped character of these codes.
func TestJoinCodeTypos(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	refused := func(typed string) {
		t.Helper()
		if c, err := ParseJoinCode(typed); err == nil {
			t.Errorf("ParseJoinCode(%q) = %v", typed, c)
		}
	}
	for _, c := range joinCodes() {
		s := strings.ReplaceAll(c.String(), "-", "")
		for i := 3; i < len(s); i++ {
			for _, a := range alphabet {
				if byte(a) != s[i] {
					refused(s[:i] + string(a) + s[i+1:])
				}
			}
			refused(s[:i] + s[i+1:])
			refused(s[:i] + s[i:i+1] + s[i:])
			if i+1 < len(s) && s[i] != s[i+1] {
				refused(s[:i] + s[i+1:i+2] + s[i:i+1] + s[i+2:])
			}
			refused(s[:i])
		}
	}
	for typed, want := range map[string]error{
		"":                              ErrJoinCode,
		"LC1":                           ErrJoinCode,
		"LC2-AAAA-AAAA":                 ErrJoinVersion,
		"AERU-KZ4J-VPG6-6AJD-IVTY-TK6N": ErrJoinCode,
	} {
		if _, err := ParseJoinCode(typed); !errors.Is(err, want) {
			t.Errorf("ParseJoinCode(%q): %v, want %v", typed, err, want)
		}
	}
}

func FuzzParseJoinCode(f *testing.F) {
	for _, c := range joinCodes() {
		f.Add(c.String())
	}
	f.Add("LC1-")
	f.Add("lc1 0018")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseJoinCode(s)
		if err != nil {
			return
		}
		again, err := ParseJoinCode(c.String())
		if err != nil || again.Realm != c.Realm || !bytes.Equal(again.Invite, c.Invite) {
			t.Errorf("%q is read as %v, which is read as %v, %v", s, c, again, err)
		}
		if canonical := strings.ReplaceAll(c.String(), "-", ""); canonical[:3]+typed(canonical[3:]) !=
			strings.ToUpper(unspaced(s))[:3]+typed(strings.ToUpper(unspaced(s))[3:]) {
			t.Errorf("%q is accepted as %q", s, canonical)
		}
	})
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"al", "alice", "a1", "bob.smith", "x_y-z", "abcdefghijklmnopqrstuvwx", "a--", "z.9"} {
		if err := CheckName(good); err != nil {
			t.Errorf("CheckName(%q): %v", good, err)
		}
	}
	for _, bad := range []string{"", "a", "1a", ".a", "-a", "_a", "Alice", "alIce", "al ice", "alice\n", "аlice", "alicé",
		"abcdefghijklmnopqrstuvwxy", "a\x00", "a/b", "a@b", "a#b", "\u202ealice", "ali\x1bce"} {
		if err := CheckName(bad); !errors.Is(err, ErrName) {
			t.Errorf("CheckName(%q): %v", bad, err)
		}
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"alice", "bob-1", "Éa", "a\x1b[m", "аlice"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckName(s) != nil {
			return
		}
		if len(s) < 2 || len(s) > 24 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" || strings.IndexByte("abcdefghijklmnopqrstuvwxyz", s[0]) < 0 {
			t.Errorf("%q is accepted", s)
		}
	})
}

func TestCheckPassword(t *testing.T) {
	tests := []struct {
		password string
		policy   Policy
		want     error
	}{
		{"", Policy{}, ErrPasswordShort},
		{"x7!kQ", Policy{}, ErrPasswordShort},
		{"éééé", Policy{}, ErrPasswordShort}, // characters, not bytes
		{"password", Policy{}, ErrPasswordWeak},
		{"alice2026", Policy{}, ErrPasswordWeak},
		{"aaaaaaaaaaaaaaaaaaaaaaaa", Policy{}, ErrPasswordWeak},
		{"lanchat1", Policy{}, ErrPasswordWeak},
		{"correct horse battery staple", Policy{}, nil},
		{"пароль зимой сорока лет", Policy{}, nil},
		{"vexed-otter-plinth", Policy{}, nil},
		{"vexed-otter-plinth", Policy{MinLength: 20}, ErrPasswordShort},
		{"x7!kQ", Policy{MinLength: 1, MinScore: 0}, ErrPasswordShort}, // a realm can't ask for less
		{"password", Policy{MinScore: 1}, ErrPasswordWeak},
		{"tab\tin the middle of it", Policy{}, ErrPasswordChars},
		{"escape \x1b[31m sequence", Policy{}, ErrPasswordChars},
		{"not \xff UTF-8 at all", Policy{}, ErrPasswordChars},
		{strings.Repeat("vexed otter ", 22)[:256], Policy{}, nil},
		{strings.Repeat("vexed otter ", 22)[:257], Policy{}, ErrPasswordLong},
	}
	for _, tt := range tests {
		_, err := CheckPassword(tt.password, tt.policy, "alice")
		if !errors.Is(err, tt.want) {
			t.Errorf("CheckPassword(%q, %v) = %v, want %v", tt.password, tt.policy, err, tt.want)
		}
		if err == nil {
			continue
		}
		if _, ok := errors.AsType[*PasswordError](err); !ok {
			t.Errorf("CheckPassword(%q, %v) = %T, want *PasswordError", tt.password, tt.policy, err)
		}
		if len(tt.password) > 8 && strings.Contains(err.Error(), tt.password) {
			t.Errorf("CheckPassword(%q, %v) says the password: %v", tt.password, tt.policy, err)
		}
	}
}

func FuzzScore(f *testing.F) {
	for _, s := range []string{"password", "qwerty12345", "1991-03-02", "ééééééééé", "p4ssw0rd!", "\xff\xfe", "日本語日本語", "𝒶𝒷𝒸", "//", "abcabcabc"} {
		f.Add(s, "alice")
	}
	f.Fuzz(func(t *testing.T, password, name string) {
		if s := Score(password, name); s < 0 || s > 4 {
			t.Errorf("Score(%q) = %d", password, s)
		}
	})
}

func TestPrehash(t *testing.T) {
	realm := wire.RealmID{0: 1, 31: 2}
	salt := [16]byte{3, 15: 4}
	hash := func(password string, realm wire.RealmID, salt [16]byte) string {
		t.Helper()
		h, err := Prehash(password, realm, salt)
		if err != nil {
			t.Fatalf("Prehash(%q): %v", password, err)
		}
		return hex.EncodeToString(h[:])
	}
	const want = "76c1cc18ad7328cfc1e093a14b6703cd700439d6cb090230f9ee14af60f25d8f"
	got := hash("caf\u00e9 au lait", realm, salt)
	if got != want {
		t.Errorf("Prehash = %s, want %s", got, want)
	}
	// Argon2id(64 MiB, 3, 4) of the UTF-8, with SHA-256("lc1 pw" ‖ realm ‖ salt)[:16].
	argonSalt, _ := hex.DecodeString("b1ab9778bbf37809d9be81582b62b720")
	if h := argon2.IDKey([]byte("caf\xc3\xa9 au lait"), argonSalt, 3, 64*1024, 4, 32); hex.EncodeToString(h) != want {
		t.Errorf("Argon2id = %x, want %s", h, want)
	}
	// OpaqueString: composition and the kind of space don't matter.
	if again := hash("cafe\u0301\u00a0au\u2003lait", realm, salt); again != got {
		t.Errorf("composed otherwise: %s, want %s", again, got)
	}
	// Realm, salt and password all do.
	for _, other := range []string{hash("Caf\u00e9 au lait", realm, salt),
		hash("caf\u00e9 au lait", wire.RealmID{0: 1}, salt), hash("caf\u00e9 au lait", realm, [16]byte{3})} {
		if other == got {
			t.Errorf("another input gives the same hash %s", got)
		}
	}
	for _, bad := range []string{"", "a\x00b", strings.Repeat("x", MaxPassword+1)} {
		if h, err := Prehash(bad, realm, salt); err == nil {
			t.Errorf("Prehash(%q) = %x", bad, h)
		}
	}
}
