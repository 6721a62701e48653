package realm

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
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

// A Revoked certificate stands on the revocation list until it has ended by
// itself: who shows it then is refused for that, and by authd for what it has on
// record.
type Revoked struct {
	Serial Serial
	At     time.Time
}

// RevocationList makes the realm's revocation list, in DER. number must be
// higher than that of every list before: max(last+1, Unix seconds) stays so
// even when authd is restored from a backup. The list is at most wire.MaxCRL
// bytes.
func (issuing *CA) RevocationList(number uint64, revoked []Revoked, now time.Time) ([]byte, error) {
	if number == 0 || int64(number) < 0 {
		return nil, fmt.Errorf("revocation list number %d: %w", number, wire.ErrValue)
	}
	t := &x509.RevocationList{
		Number:     new(big.Int).SetUint64(number),
		ThisUpdate: now,
		// Nothing reads NextUpdate: an old list is better than none while
		// authd is away.
		NextUpdate: now.Add(IssuingLife),
	}
	for _, r := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber:   r.Serial.big(),
			RevocationTime: r.At,
		})
	}
	der, err := x509.CreateRevocationList(nil, t, issuing.Cert, issuing.Key)
	if err != nil {
		return nil, fmt.Errorf("making the revocation list: %w", err)
	}
	if len(der) > wire.MaxCRL {
		return nil, fmt.Errorf("making the revocation list: %d certificates: %w", len(revoked), wire.ErrTooLong)
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
