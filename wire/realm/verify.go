package realm

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lanchat/wire"
)

// Why a certificate is refused. Errors wrap one of these.
var (
	ErrForeign     = errors.New("certificate of another realm")
	ErrProfile     = errors.New("certificate not of the form the realm issues")
	ErrRole        = errors.New("certificate for another role")
	ErrExpired     = errors.New("certificate expired")
	ErrNotYetValid = errors.New("certificate not valid yet")
	ErrRevoked     = errors.New("certificate revoked")
	ErrNone        = errors.New("no certificate")
)

// A TimeError is ErrExpired or ErrNotYetValid with what people need to see
// whose clock is wrong.
type TimeError struct {
	Err                 error  // ErrExpired or ErrNotYetValid
	Name                string // whose token it is, "" for authd's certificate
	Now                 time.Time
	NotBefore, NotAfter time.Time
}

func (e *TimeError) Error() string {
	at := e.NotAfter
	if e.Err == ErrNotYetValid {
		at = e.NotBefore
	}
	return fmt.Sprintf("%v: %s, and the clock says %s", e.Err,
		at.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

func (e *TimeError) Unwrap() error { return e.Err }

// A Verifier judges certificates for one realm, whose root it has pinned, and
// holds the realm's newest revocation list. It may be used from several
// goroutines.
//
// The time that its methods are given should be Clock's.
type Verifier struct {
	realm Realm
	roots *x509.CertPool

	grace atomic.Int64 // a Duration: tokens are in force so much longer

	mu     sync.RWMutex
	crl    CRL // replaced as a whole, its fields never changed
	tokens map[[sha256.Size]byte]*Token
}

// maxRemembered is how many tokens a verifier remembers the signatures of, by
// the hash of the certificate: the same come again and again, in handshakes and
// rosters. Whether one is in force is asked each time.
const maxRemembered = 1024

// A CRL is a revocation list that was verified. The zero CRL revokes nothing.
type CRL struct {
	Number  uint64    // of the list, strictly rising; 0: there is none
	Time    time.Time // when the realm signed it
	DER     []byte    // not to be changed
	Issuing []byte    // the certificate that signed it, DER; not to be changed

	revoked map[Serial]bool
}

// Len returns how many entries the list has.
func (l CRL) Len() int { return len(l.revoked) }

// Revokes reports whether the list names the token, or its device.
func (l CRL) Revokes(t *Token) bool {
	return len(l.revoked) > 0 && (l.revoked[t.Serial] || l.revoked[entryOf(t.Account, t.Key)])
}

// NewVerifier returns a verifier of the realm that root is the root of.
func NewVerifier(root *x509.Certificate) (*Verifier, error) {
	r, err := OfRoot(root)
	if err != nil {
		return nil, err
	}
	v := &Verifier{realm: r, roots: x509.NewCertPool(), tokens: make(map[[sha256.Size]byte]*Token)}
	v.roots.AddCert(root)
	return v, nil
}

// OfRoot returns the realm that root is the root of, if it is formed like one.
func OfRoot(root *x509.Certificate) (Realm, error) {
	if _, err := keyOf(root); err != nil {
		return Realm{}, fmt.Errorf("root: %w", err)
	}
	switch {
	case !root.IsCA || !root.BasicConstraintsValid || root.KeyUsage != x509.KeyUsageCertSign,
		!bytes.Equal(root.RawSubject, root.RawIssuer), len(root.Raw) > wire.MaxCertificate:
		return Realm{}, fmt.Errorf("root: %w", ErrProfile)
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return Realm{}, fmt.Errorf("root: %w: %v", ErrProfile, err)
	}
	if err := CheckRealmName(root.Subject.CommonName); err != nil {
		return Realm{}, fmt.Errorf("root: %w: %w", ErrProfile, err)
	}
	return Realm{ID: IDOf(root), Name: root.Subject.CommonName, Root: root}, nil
}

// Realm returns the realm that the verifier has pinned.
func (v *Verifier) Realm() Realm { return v.realm }

// Device judges the certificates of a device, leaf first, as TLS presents
// them, and returns the token, which others may be given too.
func (v *Verifier) Device(certs []*x509.Certificate, now time.Time) (*Token, error) {
	t, err := v.token(certs)
	if err != nil {
		return nil, err
	}
	return v.inForce(t, now, Tolerance, v.late(t.NotAfter))
}

// SetGrace says how long after its end a token is still accepted, at most
// MaxGrace, and reports whether that is another time than before. It is for
// nodes, whose person can so decide to go on while authd is away for longer than
// a token lasts.
//
// It holds for tokens that ended after the newest revocation list was signed.
// Since that list authd may have been there, and then who is still welcome has
// another token; and a list leaves out what has ended by itself, so a newer one
// would not tell that an old token was revoked, nor is its name still kept free.
func (v *Verifier) SetGrace(d time.Duration) (changed bool) {
	d = min(max(d, 0), MaxGrace)
	return v.grace.Swap(int64(d)) != int64(d)
}

// Grace returns what SetGrace has said; 0: nothing.
func (v *Verifier) Grace() time.Duration { return time.Duration(v.grace.Load()) }

func (v *Verifier) late(notAfter time.Time) time.Duration {
	if v.CRL().Time.After(notAfter) {
		return Tolerance
	}
	return max(Tolerance, v.Grace())
}

// Renewable is Device for authd alone: it accepts tokens that expired within
// RenewGrace, whose holder can still have them renewed, and ones that are not
// valid yet: authd made them while its clock was ahead.
func (v *Verifier) Renewable(certs []*x509.Certificate, now time.Time) (*Token, error) {
	t, err := v.token(certs)
	if err != nil {
		return nil, err
	}
	return v.inForce(t, now, RootLife, RenewGrace)
}

func (v *Verifier) inForce(t *Token, now time.Time, early, late time.Duration) (*Token, error) {
	if err := v.current(t, now, early, late); err != nil {
		if te, ok := errors.AsType[*TimeError](err); ok {
			te.Name = t.Name
		}
		return nil, err
	}
	return t, nil
}

// token is parseToken with a memory of what it has said yes to.
func (v *Verifier) token(certs []*x509.Certificate) (*Token, error) {
	if len(certs) == 0 {
		return nil, ErrNone
	}
	hash := sha256.Sum256(certs[0].Raw)
	v.mu.RLock()
	t := v.tokens[hash]
	v.mu.RUnlock()
	if t != nil && len(certs) <= maxChain && slices.ContainsFunc(certs[1:], func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, t.Issuing) }) {
		return t, nil
	}
	t, err := v.parseToken(certs)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.tokens) >= maxRemembered {
		for any := range v.tokens {
			delete(v.tokens, any)
			break
		}
	}
	v.tokens[hash] = t
	return t, nil
}

// parseToken judges all of a token but whether it is in force.
func (v *Verifier) parseToken(certs []*x509.Certificate) (*Token, error) {
	chain, err := v.chain(certs, 3)
	if err != nil {
		return nil, err
	}
	leaf := chain[0]
	t := &Token{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Leaf: leaf.Raw, Issuing: chain[1].Raw}

	// Who: the name and the key say the same, and nothing else is said.
	uri, err := onlyURI(leaf)
	if err != nil {
		return nil, err
	}
	id, account, device, err := parseDeviceURI(uri)
	if err != nil {
		return nil, err
	}
	if t.Key, err = keyOf(leaf); err != nil {
		return nil, err
	}
	t.Account, t.Device = account, device
	switch {
	case id != v.realm.ID:
		return nil, fmt.Errorf("%w: certificate name %q", ErrForeign, uri)
	case device != t.Key.Device():
		return nil, fmt.Errorf("%w: device %v has another key", ErrProfile, device)
	case leaf.Subject.CommonName != account.String():
		return nil, fmt.Errorf("%w: subject %q", ErrProfile, leaf.Subject.CommonName)
	case !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}):
		return nil, fmt.Errorf("%w: key usage", ErrRole)
	}
	found := false
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(nameOID) {
			continue
		}
		if t.Name, t.NameSeq, err = parseNameExtension(e.Value); err != nil {
			return nil, err
		}
		found = true
	}
	if !found {
		return nil, fmt.Errorf("%w: no user name", ErrProfile)
	}
	t.Serial, _ = serialOf(leaf.SerialNumber) // chain has looked at it
	return t, nil
}

// Authd judges the certificates of authd: issued by the root itself, with
// authd's name.
func (v *Verifier) Authd(certs []*x509.Certificate, now time.Time) error {
	chain, err := v.chain(certs, 2)
	if err != nil {
		return err
	}
	leaf := chain[0]
	uri, err := onlyURI(leaf)
	if err != nil {
		return err
	}
	if uri != authdURI(v.realm.ID) || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		return fmt.Errorf("%w: certificate name %q is not that of authd", ErrRole, uri)
	}
	serial, _ := serialOf(leaf.SerialNumber) // chain has looked at it
	if v.CRL().revoked[serial] {
		return fmt.Errorf("%w: serial number %v", ErrRevoked, serial)
	}
	return within(leaf.NotBefore, leaf.NotAfter, now, Tolerance, Tolerance)
}

// Check judges a token that was verified before once more: whether it has been
// revoked or has expired since. Every live connection is checked when a new
// revocation list arrives.
func (v *Verifier) Check(t *Token, now time.Time) error {
	return v.current(t, now, Tolerance, v.late(t.NotAfter))
}

// chain returns the chain from the leaf to the pinned root, which must have
// exactly n certificates.
func (v *Verifier) chain(certs []*x509.Certificate, n int) ([]*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, ErrNone
	}
	if len(certs) > maxChain {
		return nil, fmt.Errorf("%w: %d certificates", ErrProfile, len(certs))
	}
	for _, c := range certs {
		if len(c.Raw) > wire.MaxCertificate {
			return nil, fmt.Errorf("%w: certificate of %d bytes", ErrProfile, len(c.Raw))
		}
	}
	leaf := certs[0]
	if _, err := keyOf(leaf); err != nil {
		return nil, err
	}
	if _, ok := serialOf(leaf.SerialNumber); !ok {
		return nil, fmt.Errorf("%w: serial number", ErrProfile)
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		return nil, fmt.Errorf("%w: not a leaf", ErrRole)
	}
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	// The library checks signatures, names, constraints and the validity of
	// what is above the leaf, at a time at which the leaf is valid: whether
	// that is now, current says.
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         v.roots,
		Intermediates: between,
		CurrentTime:   leaf.NotAfter,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrForeign, err)
	}
	for _, chain := range chains {
		if len(chain) == n {
			return chain, nil
		}
	}
	return nil, fmt.Errorf("%w: %d certificates from leaf to root, want %d", ErrRole, len(chains[0]), n)
}

// current says whether a token is in force, or will be in less than early, or was
// less than late ago.
func (v *Verifier) current(t *Token, now time.Time, early, late time.Duration) error {
	if err := within(t.NotBefore, t.NotAfter, now, early, late); err != nil {
		return err
	}
	if v.CRL().Revokes(t) {
		return fmt.Errorf("%w: serial number %v", ErrRevoked, t.Serial)
	}
	return nil
}

// within says whether now is in a certificate's time, widened by early and late.
func within(notBefore, notAfter, now time.Time, early, late time.Duration) error {
	switch {
	case now.Before(notBefore.Add(-early)):
		return &TimeError{Err: ErrNotYetValid, Now: now, NotBefore: notBefore, NotAfter: notAfter}
	case now.After(notAfter.Add(late)):
		return &TimeError{Err: ErrExpired, Now: now, NotBefore: notBefore, NotAfter: notAfter}
	}
	return nil
}

// ErrOldCRL says that a revocation list is not newer than the one held.
var ErrOldCRL = errors.New("revocation list not newer than the one held")

// CRL returns the newest revocation list.
func (v *Verifier) CRL() CRL {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.crl
}

// SetCRL takes in a revocation list, signed by issuing, a CA of the realm,
// both in DER. It reports whether the list is new; one that is older than what
// is held is refused with ErrOldCRL. A list is good for all certificates of
// the realm, whoever issued them: serial numbers are random.
func (v *Verifier) SetCRL(issuing, list []byte) (changed bool, err error) {
	if held := v.CRL(); bytes.Equal(held.DER, list) && held.Number > 0 {
		return false, nil
	}
	crl, err := v.parseCRL(issuing, list)
	if err != nil {
		return false, fmt.Errorf("revocation list: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if crl.Number <= v.crl.Number {
		return false, fmt.Errorf("number %d, held %d: %w", crl.Number, v.crl.Number, ErrOldCRL)
	}
	v.crl = crl
	return true, nil
}

func (v *Verifier) parseCRL(issuing, list []byte) (CRL, error) {
	if len(list) > wire.MaxCRL || len(issuing) > wire.MaxCertificate {
		return CRL{}, wire.ErrTooLong
	}
	ca, err := x509.ParseCertificate(issuing)
	if err != nil {
		return CRL{}, fmt.Errorf("%w: %v", ErrProfile, err)
	}
	l, err := x509.ParseRevocationList(list)
	if err != nil {
		return CRL{}, fmt.Errorf("%w: %v", ErrProfile, err)
	}
	// A list outlives its issuer: it is judged at the time it was signed.
	if _, err := ca.Verify(x509.VerifyOptions{
		Roots:       v.roots,
		CurrentTime: l.ThisUpdate,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return CRL{}, fmt.Errorf("%w: %v", ErrForeign, err)
	}
	if _, ok := ca.PublicKey.(ed25519.PublicKey); !ok || !ca.IsCA || !bytes.Equal(l.RawIssuer, ca.RawSubject) {
		return CRL{}, ErrProfile
	}
	if err := l.CheckSignatureFrom(ca); err != nil {
		return CRL{}, fmt.Errorf("%w: %v", ErrForeign, err)
	}
	if l.Number == nil || l.Number.Sign() <= 0 || !l.Number.IsInt64() {
		return CRL{}, fmt.Errorf("%w: number %v", ErrProfile, l.Number)
	}
	crl := CRL{
		Number:  l.Number.Uint64(),
		Time:    l.ThisUpdate,
		DER:     bytes.Clone(list),
		Issuing: bytes.Clone(issuing),
		revoked: make(map[Serial]bool, len(l.RevokedCertificateEntries)),
	}
	for _, e := range l.RevokedCertificateEntries {
		s, ok := serialOf(e.SerialNumber)
		if !ok {
			return CRL{}, fmt.Errorf("%w: serial number", ErrProfile)
		}
		crl.revoked[s] = true
	}
	return crl, nil
}

// Candidate judges the certificates of an authd whose realm is not pinned, the
// root being the last of them, and returns the realm it claims. Whether that
// is the right realm is for a join code, a fingerprint or the person to say.
func Candidate(certs []*x509.Certificate, now time.Time) (Realm, error) {
	if len(certs) == 0 {
		return Realm{}, ErrNone
	}
	v, err := NewVerifier(certs[len(certs)-1])
	if err != nil {
		return Realm{}, err
	}
	if err := v.Authd(certs, now); err != nil {
		return Realm{}, err
	}
	return v.realm, nil
}

// Newcomer returns the key of a device that has no token: certs is one
// certificate, signed by its own key. TLS has proven that the peer has it.
func Newcomer(certs []*x509.Certificate) (wire.DeviceKey, error) {
	key, err := NewcomerKey(certs)
	if err != nil {
		return wire.DeviceKey{}, err
	}
	c := certs[0]
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return wire.DeviceKey{}, fmt.Errorf("%w: not self-signed: %v", ErrForeign, err)
	}
	return key, nil
}

// NewcomerKey is Newcomer for certificates that it has accepted before: it
// leaves out the signature.
func NewcomerKey(certs []*x509.Certificate) (wire.DeviceKey, error) {
	if len(certs) == 0 {
		return wire.DeviceKey{}, ErrNone
	}
	c := certs[0]
	if len(certs) != 1 || len(c.Raw) > wire.MaxCertificate || !bytes.Equal(c.RawIssuer, c.RawSubject) {
		return wire.DeviceKey{}, fmt.Errorf("%w: not self-signed", ErrForeign)
	}
	return keyOf(c)
}
