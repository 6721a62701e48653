package realm

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"

	"lanchat/wire"
)

// How long things are valid. What authd issues is configurable between its
// own bounds; these are the defaults.
const (
	RootLife      = 20 * 365 * 24 * time.Hour
	IssuingLife   = 365 * 24 * time.Hour
	AuthdLife     = 90 * 24 * time.Hour
	TokenLife     = 30 * 24 * time.Hour
	RenewGrace    = 90 * 24 * time.Hour // an expired token can be renewed that long
	MaxGrace      = 30 * 24 * time.Hour // a verifier can be told to accept it that long
	Tolerance     = 10 * time.Minute    // how far clocks may disagree, either way
	Backdate      = 10 * time.Minute    // NotBefore is set back by that
	MaxRealmName  = 64                  // characters
	MaxName       = 24                  // characters of a user name
	serialMaxBits = 128

	// maxChain is how many certificates anybody may present: a leaf, and in a
	// roster the issuers of all.
	maxChain = 1 + wire.MaxRosterIssuers
)

// A Token is a device certificate that was verified: who holds the device key,
// by which name, until when. It is not changed once made.
type Token struct {
	Account   wire.AccountID
	Device    wire.DeviceID
	Key       wire.DeviceKey
	Name      string // fits CheckName
	NameSeq   uint64 // counts the account's names; the highest is the newest
	NotBefore time.Time
	NotAfter  time.Time
	Serial    Serial
	Leaf      []byte // the certificate, DER; not to be changed
	Issuing   []byte // its issuer, DER; not to be changed
}

// A Serial is a certificate's number: up to 128 random bits, big endian, never
// zero.
type Serial [16]byte

func (s Serial) String() string { return hex.EncodeToString(s[:]) }

// IsZero reports whether the serial was never set.
func (s Serial) IsZero() bool { return s == Serial{} }

func (s Serial) big() *big.Int { return new(big.Int).SetBytes(s[:]) }

// serialOf returns n as a Serial; ok is false if it can't be one.
func serialOf(n *big.Int) (s Serial, ok bool) {
	if n == nil || n.Sign() <= 0 || n.BitLen() > serialMaxBits {
		return Serial{}, false
	}
	n.FillBytes(s[:])
	return s, true
}

// NewSerial returns a random serial. rand fails only if the machine does.
func NewSerial(rand io.Reader) (Serial, error) {
	var s Serial
	for s.IsZero() {
		if _, err := io.ReadFull(rand, s[:]); err != nil {
			return Serial{}, fmt.Errorf("drawing a serial number: %w", err)
		}
	}
	return s, nil
}

const scheme = "lanchat"

// authdURI is the name of authd's own certificate. Tokens allow serving TLS
// too (peers are servers), so without this form any user could pass as authd.
func authdURI(id wire.RealmID) string {
	return scheme + "://" + id.String() + "/authd"
}

// deviceURI is the name of a token.
func deviceURI(id wire.RealmID, a wire.AccountID, d wire.DeviceID) string {
	return scheme + "://" + id.String() + "/u/" + a.String() + "/d/" + d.String()
}

// parseDeviceURI reads what deviceURI writes, in that one spelling.
func parseDeviceURI(s string) (id wire.RealmID, a wire.AccountID, d wire.DeviceID, err error) {
	fail := fmt.Errorf("%w: certificate name %q", ErrRole, s)
	p := strings.Split(s, "/")
	if len(p) != 7 || len(p[2]) != 2*len(id) || len(p[4]) != 2*len(a) || len(p[6]) != 2*len(d) {
		return id, a, d, fail
	}
	for i, dst := range map[int][]byte{2: id[:], 4: a[:], 6: d[:]} {
		if _, err := hex.Decode(dst, []byte(p[i])); err != nil {
			return wire.RealmID{}, wire.AccountID{}, wire.DeviceID{}, fail
		}
	}
	if deviceURI(id, a, d) != s {
		return wire.RealmID{}, wire.AccountID{}, wire.DeviceID{}, fail
	}
	return id, a, d, nil
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err) // made of hexadecimal digits
	}
	return u
}

// nameOID marks the extension with the user name: 2.25.N.1 with N a random
// number, fixed for ever.
var nameOID = asn1.ObjectIdentifier{2, 25, 971095372, 1}

// nameExtension is the extension's value in DER:
//
//	SEQUENCE { name UTF8String, nameSeq INTEGER }
type nameExtension struct {
	Name    string `asn1:"utf8"`
	NameSeq int64
}

func appendNameExtension(name string, seq uint64) (pkix.Extension, error) {
	if err := CheckName(name); err != nil {
		return pkix.Extension{}, err
	}
	if int64(seq) <= 0 {
		return pkix.Extension{}, fmt.Errorf("name number %d: %w", seq, wire.ErrValue)
	}
	der, err := asn1.Marshal(nameExtension{name, int64(seq)})
	return pkix.Extension{Id: nameOID, Value: der}, err
}

func parseNameExtension(der []byte) (name string, seq uint64, err error) {
	var v nameExtension
	rest, err := asn1.Unmarshal(der, &v)
	if err != nil {
		return "", 0, fmt.Errorf("%w: user name: %v", ErrProfile, err)
	}
	if len(rest) > 0 {
		return "", 0, fmt.Errorf("%w: user name: %w", ErrProfile, wire.ErrTrailing)
	}
	if again, err := asn1.Marshal(v); err != nil || !bytes.Equal(again, der) {
		return "", 0, fmt.Errorf("%w: user name: not in its one spelling", ErrProfile)
	}
	if err := CheckName(v.Name); err != nil {
		return "", 0, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	if v.NameSeq <= 0 {
		return "", 0, fmt.Errorf("%w: name number %d", ErrProfile, v.NameSeq)
	}
	return v.Name, uint64(v.NameSeq), nil
}

// ErrRealmName is what CheckRealmName refuses with.
var ErrRealmName = errors.New("a realm name is 1 to 64 printable characters")

// CheckRealmName reports whether name can be a realm's name.
func CheckRealmName(name string) error {
	s, err := precis.Nickname.String(name)
	if err != nil || s != name || utf8.RuneCountInString(name) > MaxRealmName {
		return fmt.Errorf("%q: %w", name, ErrRealmName)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%q: %w", name, ErrRealmName)
		}
	}
	return nil
}

// onlyURI returns the one name a leaf may have.
func onlyURI(c *x509.Certificate) (string, error) {
	if len(c.URIs) != 1 || len(c.DNSNames)+len(c.EmailAddresses)+len(c.IPAddresses) != 0 {
		return "", fmt.Errorf("%w: a certificate has exactly one name, a URI", ErrRole)
	}
	return c.URIs[0].String(), nil
}

func keyOf(c *x509.Certificate) (wire.DeviceKey, error) {
	pub, ok := c.PublicKey.(ed25519.PublicKey)
	if !ok || len(pub) != ed25519.PublicKeySize {
		return wire.DeviceKey{}, fmt.Errorf("%w: the key is not Ed25519", ErrProfile)
	}
	return wire.KeyOf(pub), nil
}
