package realm

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"slices"
	"time"

	"lanchat/wire"
)

// A CA is a certificate that issues others, with its key: the realm's root or
// its issuing CA. authd keeps it; nobody else has one. A CA is not changed
// once made and may be used from several goroutines.
type CA struct {
	Realm wire.RealmID
	Cert  *x509.Certificate
	Key   ed25519.PrivateKey
}

// ErrKeyMismatch says that a certificate and a key do not belong together.
var ErrKeyMismatch = errors.New("the key does not belong to the certificate")

// NewRoot makes a realm: a key and its self-signed certificate, valid for
// RootLife.
func NewRoot(rand io.Reader, name string, now time.Time) (*CA, error) {
	if err := CheckRealmName(name); err != nil {
		return nil, err
	}
	key, err := newKey(rand)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject:    pkix.Name{CommonName: name},
		KeyUsage:   x509.KeyUsageCertSign,
		IsCA:       true,
		MaxPathLen: 1,
	}
	cert, err := create(rand, t, t, key, key.Public().(ed25519.PublicKey), Serial{}, now, now.Add(RootLife))
	if err != nil {
		return nil, fmt.Errorf("making the root certificate: %w", err)
	}
	return &CA{Realm: IDOf(cert), Cert: cert, Key: key}, nil
}

// IssueCA makes an issuing CA under the root: a key of its own and a
// certificate valid for life, or IssuingLife if 0.
func (root *CA) IssueCA(rand io.Reader, now time.Time, life time.Duration) (*CA, error) {
	key, err := newKey(rand)
	if err != nil {
		return nil, err
	}
	pub := key.Public().(ed25519.PublicKey)
	t := &x509.Certificate{
		// Two issuing CAs of a realm differ in their names.
		Subject:        pkix.Name{CommonName: "lanchat issuing " + wire.KeyOf(pub).Device().String()},
		KeyUsage:       x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:           true,
		MaxPathLenZero: true,
	}
	cert, err := create(rand, t, root.Cert, root.Key, pub, Serial{}, now, now.Add(orDefault(life, IssuingLife)))
	if err != nil {
		return nil, fmt.Errorf("making the issuing certificate: %w", err)
	}
	return &CA{Realm: root.Realm, Cert: cert, Key: key}, nil
}

// IssueAuthd makes authd's own certificate, under the root: valid for life, or
// AuthdLife if 0.
func (root *CA) IssueAuthd(rand io.Reader, pub ed25519.PublicKey, now time.Time, life time.Duration) (*x509.Certificate, error) {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "authd"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		URIs:        []*url.URL{mustURL(authdURI(root.Realm))},
	}
	cert, err := create(rand, t, root.Cert, root.Key, pub, Serial{}, now, now.Add(orDefault(life, AuthdLife)))
	if err != nil {
		return nil, fmt.Errorf("making the certificate of authd: %w", err)
	}
	return cert, nil
}

// A Grant is what a token is to say. authd puts it on record before it has
// the certificate made.
type Grant struct {
	Serial   Serial // zero: a random one
	Account  wire.AccountID
	Key      wire.DeviceKey
	Name     string
	NameSeq  uint64    // from 1
	From     time.Time // NotBefore is 10 minutes earlier
	NotAfter time.Time // zero: From + TokenLife; never later than the CA's own
}

// IssueToken makes a device certificate under the issuing CA.
func (issuing *CA) IssueToken(rand io.Reader, g Grant) (*x509.Certificate, error) {
	ext, err := appendNameExtension(g.Name, g.NameSeq)
	if err != nil {
		return nil, err
	}
	until := g.NotAfter
	if until.IsZero() {
		until = g.From.Add(TokenLife)
	}
	t := &x509.Certificate{
		Subject:         pkix.Name{CommonName: g.Account.String()},
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:            []*url.URL{mustURL(deviceURI(issuing.Realm, g.Account, g.Key.Device()))},
		ExtraExtensions: []pkix.Extension{ext},
	}
	cert, err := create(rand, t, issuing.Cert, issuing.Key, g.Key.Public(), g.Serial, g.From, until)
	if err != nil {
		return nil, fmt.Errorf("making a token: %w", err)
	}
	return cert, nil
}

// Token returns the token that IssueToken has just made of g.
func (issuing *CA) Token(g Grant, leaf *x509.Certificate) *Token {
	t := &Token{
		Account: g.Account, Device: g.Key.Device(), Key: g.Key, Name: g.Name, NameSeq: g.NameSeq,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Leaf: leaf.Raw, Issuing: issuing.Cert.Raw,
	}
	t.Serial, _ = serialOf(leaf.SerialNumber) // create has made it
	return t
}

// A Revoked certificate is on the revocation list until it has ended by itself:
// who shows it then is refused for that, and by authd for what it has on record.
type Revoked struct {
	Serial  Serial
	Account wire.AccountID // whose, and of which device. Zero: a list names it by Serial
	Key     wire.DeviceKey
	At      time.Time
}

// entry is the number by which a revocation list names it. One entry is for all
// certificates of a device of an account: there is one for every day, and none
// of them is good when one is not.
func (r *Revoked) entry() Serial {
	if r.Key == (wire.DeviceKey{}) {
		return r.Serial
	}
	return entryOf(r.Account, r.Key)
}

// entryOf returns SHA-256("lc1 revoked" ‖ account id ‖ device key)[:16], its
// first bit zero. The account belongs there, as a key may come back with another
// one.
func entryOf(account wire.AccountID, key wire.DeviceKey) Serial {
	h := sha256.Sum256(slices.Concat([]byte("lc1 revoked"), account[:], key[:]))
	h[0] &= 0x7f
	return Serial(h[:16])
}

// MaxRevoked is how many devices a revocation list names: as many as one frame
// has room for.
const MaxRevoked = 1500

// Entries returns how many entries the certificates take on a list.
func Entries(revoked []Revoked) int { return len(entries(revoked)) }

// entries returns what stands on the list for the certificates, the newest first.
func entries(revoked []Revoked) (list []x509.RevocationListEntry) {
	newest := slices.Clone(revoked)
	slices.SortStableFunc(newest, func(a, b Revoked) int { return b.At.Compare(a.At) })
	named := make(map[Serial]bool)
	for _, r := range newest {
		if e := r.entry(); !named[e] {
			named[e] = true
			list = append(list, x509.RevocationListEntry{SerialNumber: e.big(), RevocationTime: r.At})
		}
	}
	return list
}

// RevocationList makes the realm's revocation list, in DER. number must be
// higher than that of every list before: max(last+1, Unix seconds) stays so
// even when authd is restored from a backup. Where there are more than MaxRevoked
// devices it names those that were revoked last.
func (issuing *CA) RevocationList(number uint64, revoked []Revoked, now time.Time) ([]byte, error) {
	if number == 0 || int64(number) < 0 {
		return nil, fmt.Errorf("revocation list number %d: %w", number, wire.ErrValue)
	}
	list := entries(revoked)
	der, err := x509.CreateRevocationList(nil, &x509.RevocationList{
		Number:     new(big.Int).SetUint64(number),
		ThisUpdate: now,
		// Nothing reads NextUpdate: an old list is better than none while
		// authd is away.
		NextUpdate:                now.Add(IssuingLife),
		RevokedCertificateEntries: list[:min(len(list), MaxRevoked)],
	}, issuing.Cert, issuing.Key)
	if err != nil {
		return nil, fmt.Errorf("making the revocation list: %w", err)
	}
	if len(der) > wire.MaxCRL {
		return nil, fmt.Errorf("making the revocation list: %d entries: %w", len(list), wire.ErrTooLong)
	}
	return der, nil
}

// SelfSigned makes the certificate of a device that has no token yet. It says
// nothing but that its holder has the key. It is valid at any time.
func SelfSigned(key ed25519.PrivateKey) (*x509.Certificate, error) {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "lanchat device"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	cert, err := create(nil, t, t, key, key.Public().(ed25519.PublicKey), Serial{15: 1},
		time.Unix(0, 0).Add(Backdate), time.Unix(253402300799, 0)) // 9999-12-31: RFC 5280 4.1.2.5
	if err != nil {
		return nil, fmt.Errorf("making a self-signed certificate: %w", err)
	}
	return cert, nil
}

// create signs a certificate and parses it again, so that what is handed out
// is what others will read.
func create(rand io.Reader, t, parent *x509.Certificate, key ed25519.PrivateKey, pub ed25519.PublicKey,
	serial Serial, from, until time.Time) (*x509.Certificate, error) {
	if serial.IsZero() {
		var err error
		if serial, err = NewSerial(rand); err != nil {
			return nil, err
		}
	}
	t.SerialNumber = serial.big()
	t.BasicConstraintsValid = true
	t.NotBefore = from.Add(-Backdate)
	t.NotAfter = until
	if parent != t {
		if parent.NotAfter.Before(until) {
			t.NotAfter = parent.NotAfter
		}
		if !parent.PublicKey.(ed25519.PublicKey).Equal(key.Public()) {
			return nil, ErrKeyMismatch
		}
	}
	if !t.NotBefore.Before(t.NotAfter) {
		return nil, fmt.Errorf("valid from %v to %v: %w", t.NotBefore, t.NotAfter, wire.ErrValue)
	}
	der, err := x509.CreateCertificate(rand, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	if len(der) > wire.MaxCertificate {
		return nil, fmt.Errorf("certificate of %d bytes: %w", len(der), wire.ErrTooLong)
	}
	return x509.ParseCertificate(der)
}

func newKey(rand io.Reader) (ed25519.PrivateKey, error) {
	var seed [ed25519.SeedSize]byte
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		return nil, fmt.Errorf("drawing a key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed[:]), nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
