// Package login is a person's way to a token: the files that hold the device's
// key, its token and the realm it belongs to, and the conversation with authd.
//
// It discovers nothing (addresses come in), asks nobody anything except
// through [Trust], and shows nothing. It is a shell: it reads the clock, the
// disk and the network.
//
// Start at [Open] and [Dial]. A node's life with authd is a loop:
//
//	s, err := login.Dial(ctx, transport, addr, config)
//	if s.Token() == nil {          // not logged in: the connection is good for that only
//		s.Register or s.Login      // stores the token
//		s.Close()                  // and Dial again, with it
//	}
//	s.Renew once a day, s.Roster, s.Ping, until <-s.Done()
package login

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"lanchat/wire"
	"lanchat/wire/private"
	"lanchat/wire/realm"
)

// The files of a profile, which a crash leaves as they were or as they become.
const (
	keyFile   = "device.key" // PEM, PKCS #8: the device's key, which never leaves the machine
	pinFile   = "realm.json" // the realm that is trusted; see pinJSON
	tokenFile = "token.pem"  // PEM certificates: the token and its issuer
	crlFile   = "crl.pem"    // PEM: the list's issuer (certificate), the revocation list
)

// maxFile bounds what is read of any of them, in bytes.
const maxFile = 256 << 10

var (
	// ErrNoToken says that the device is not logged in.
	ErrNoToken = errors.New("not logged in: node login and node register do that")
	// ErrTooOpen says that others can read or change the profile.
	ErrTooOpen = private.ErrTooOpen
)

// A Pin is the realm that a profile trusts, since when, and where its authd
// was last found.
type Pin struct {
	realm.Realm
	Since   time.Time
	Address netip.AddrPort // not valid: never
}

// A Profile is who the person at this node is: what the data directory holds
// of key, token and realm. It may be used from several goroutines, but only by
// one process at a time.
type Profile struct {
	// Machine is the machine's clock; nil: time.Now. It is set before use, by
	// tests of clocks that are wrong.
	Machine func() time.Time

	dir   string
	clock realm.Clock

	mu       sync.Mutex
	key      ed25519.PrivateKey
	self     *tls.Certificate // of key, self-signed, for before there is a token
	pin      *Pin             // replaced as a whole; nil: no realm is trusted yet
	verifier *realm.Verifier  // of pin
	token    *realm.Token     // replaced as a whole; nil: not logged in
	cert     *tls.Certificate // of token
}

// Open reads the profile in dir, and makes directory and device key if there
// are none. It refuses a directory or file that others can read (ErrTooOpen),
// as ssh does; only an empty directory, in which nothing was ever secret, it
// closes to others itself.
func Open(dir string) (*Profile, error) {
	if err := private.Dir(dir); err != nil {
		return nil, fmt.Errorf("opening the data directory: %w", err)
	}
	p := &Profile{dir: dir}
	if err := p.loadKey(); err != nil {
		return nil, fmt.Errorf("reading the device key: %w (or remove the file: this is another device then, which logs in anew)", err)
	}
	if err := p.loadPin(); err != nil {
		return nil, fmt.Errorf("reading the trusted realm: %w (or remove the file and say anew which realm to trust)", err)
	}
	if p.pin == nil {
		return p, nil
	}
	if err := p.loadToken(); err != nil {
		return nil, fmt.Errorf("reading the token: %w (or remove the file and log in again)", err)
	}
	if err := p.loadCRL(); err != nil {
		return nil, fmt.Errorf("reading the revocation list: %w (or remove the file: authd sends it again)", err)
	}
	return p, nil
}

// Key returns the device's key. It is a secret.
func (p *Profile) Key() ed25519.PrivateKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.key
}

// DeviceKey returns the public half of the device's key.
func (p *Profile) DeviceKey() wire.DeviceKey {
	return wire.KeyOf(p.Key().Public().(ed25519.PublicKey))
}

// Pin returns the realm that is trusted, or nil.
func (p *Profile) Pin() *Pin {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pin
}

// Verifier returns the verifier of the realm that is trusted, or nil.
func (p *Profile) Verifier() *realm.Verifier {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.verifier
}

// Token returns the token, or nil. It may have expired or been revoked;
// Verifier().Check says.
func (p *Profile) Token() *realm.Token {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.token
}

// Clock returns the realm's clock.
func (p *Profile) Clock() *realm.Clock { return &p.clock }

// Now returns the realm's time.
func (p *Profile) Now() time.Time { return p.clock.Now(p.machine()) }

func (p *Profile) machine() time.Time {
	if p.Machine != nil {
		return p.Machine()
	}
	return time.Now()
}

// Identity returns the token with its key, for connections with peers; it is a
// link.Identity.
func (p *Profile) Identity() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cert == nil {
		return nil, ErrNoToken
	}
	return p.cert, nil
}

// present returns what to show authd: the token if authd still accepts it, be
// it for renewal only; otherwise, and if bare is true, the device's key alone,
// and nil as the token.
func (p *Profile) present(bare bool) (*realm.Token, *tls.Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if bare || p.token == nil || p.Now().After(p.token.NotAfter.Add(realm.RenewGrace)) {
		return nil, p.self
	}
	return p.token, p.cert
}

// Forget removes the token: the person is logged out on this device. Key and
// realm stay, so logging in again makes it the same device.
func (p *Profile) Forget() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.forgetLocked()
}

// ReplaceKey removes the token and makes a new key, which makes this another
// device: authd takes no key again that was revoked.
func (p *Profile) ReplaceKey() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.forgetLocked(); err != nil {
		return err
	}
	return p.makeKeyLocked()
}

func (p *Profile) forgetLocked() error {
	if err := p.removeLocked(tokenFile); err != nil {
		return err
	}
	p.token, p.cert = nil, nil
	return nil
}

// trust pins a realm. What another realm issued is removed first, so that a
// crash leaves nothing that does not fit.
func (p *Profile) trust(r realm.Realm, at netip.AddrPort, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pin != nil && p.pin.ID == r.ID {
		return nil
	}
	v, err := realm.NewVerifier(r.Root)
	if err != nil {
		return err
	}
	for _, name := range []string{tokenFile, crlFile} {
		if err := p.removeLocked(name); err != nil {
			return err
		}
	}
	p.token, p.cert = nil, nil
	pin := &Pin{Realm: r, Since: now, Address: at}
	if err := p.writePinLocked(pin); err != nil {
		return err
	}
	p.pin, p.verifier = pin, v
	return nil
}

// found remembers where authd answered last.
func (p *Profile) found(at netip.AddrPort) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pin == nil || p.pin.Address == at {
		return nil
	}
	pin := *p.pin
	pin.Address = at
	if err := p.writePinLocked(&pin); err != nil {
		return err
	}
	p.pin = &pin
	return nil
}

// setToken stores a token that was verified.
func (p *Profile) setToken(t *realm.Token) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cert, err := p.certificateLocked(t)
	if err != nil {
		return err
	}
	var b []byte
	for _, der := range [][]byte{t.Leaf, t.Issuing} {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})...)
	}
	if err := p.writeLocked(tokenFile, b); err != nil {
		return fmt.Errorf("storing the token: %w", err)
	}
	p.token, p.cert = t, cert
	p.clock.Signed(t.NotBefore.Add(realm.Backdate))
	return nil
}

// SetCRL takes in a revocation list, from authd or a peer, and stores it if it
// is new. See realm.Verifier.SetCRL.
func (p *Profile) SetCRL(issuing, list []byte) (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verifier == nil {
		return false, ErrUntrusted
	}
	if changed, err = p.verifier.SetCRL(issuing, list); !changed || err != nil {
		return false, err
	}
	p.clock.Signed(p.verifier.CRL().Time)
	b := pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: issuing})
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemCRL, Bytes: list})...)
	if err := p.writeLocked(crlFile, b); err != nil {
		return true, fmt.Errorf("storing the revocation list: %w", err) // it is in force all the same
	}
	return true, nil
}

const (
	pemKey         = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
	pemCRL         = "X509 CRL"
)

func (p *Profile) loadKey() error {
	b, err := p.read(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return p.makeKeyLocked()
	}
	if err != nil {
		return err
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != pemKey || len(rest) > 0 {
		return p.damaged(keyFile)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return p.damaged(keyFile)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return p.damaged(keyFile)
	}
	return p.useKeyLocked(key)
}

func (p *Profile) makeKeyLocked() error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := p.writeLocked(keyFile, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})); err != nil {
		return fmt.Errorf("storing the device key: %w", err)
	}
	return p.useKeyLocked(key)
}

func (p *Profile) useKeyLocked(key ed25519.PrivateKey) error {
	cert, err := realm.SelfSigned(key)
	if err != nil {
		return err
	}
	p.key = key
	p.self = &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
	return nil
}

// pinJSON is the form of pinFile.
type pinJSON struct {
	Realm   string    `json:"realm"` // the realm id, hexadecimal
	Name    string    `json:"name"`
	Pinned  time.Time `json:"pinned"`
	Address string    `json:"address,omitempty"` // of authd, when it last answered
	Root    []byte    `json:"root"`              // the root certificate, DER in base64
}

// ReadPin returns the realm that the profile in dir trusts, nil if there is
// none. It changes nothing and may be called while the profile is in use.
func ReadPin(dir string) (*Pin, error) {
	p := &Profile{dir: dir}
	if err := p.loadPin(); err != nil {
		return nil, fmt.Errorf("reading the trusted realm: %w", err)
	}
	return p.pin, nil
}

// ReadToken returns the token of the profile in dir, nil if there is none, as
// ReadPin does.
func ReadToken(dir string) (*realm.Token, error) {
	p := &Profile{dir: dir}
	if err := p.loadPin(); err != nil {
		return nil, fmt.Errorf("reading the trusted realm: %w", err)
	}
	if p.pin == nil {
		return nil, nil
	}
	t, err := p.readToken()
	if err != nil {
		return nil, fmt.Errorf("reading the token: %w", err)
	}
	return t, nil
}

func (p *Profile) loadPin() error {
	b, err := p.read(pinFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var j pinJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return p.damaged(pinFile)
	}
	root, err := x509.ParseCertificate(j.Root)
	if err != nil {
		return p.damaged(pinFile)
	}
	v, err := realm.NewVerifier(root)
	if err != nil || v.Realm().ID.String() != j.Realm {
		return p.damaged(pinFile)
	}
	p.pin = &Pin{Realm: v.Realm(), Since: j.Pinned}
	if j.Address != "" {
		if p.pin.Address, err = netip.ParseAddrPort(j.Address); err != nil {
			return p.damaged(pinFile)
		}
	}
	p.verifier = v
	return nil
}

func (p *Profile) writePinLocked(pin *Pin) error {
	j := pinJSON{Realm: pin.ID.String(), Name: pin.Name, Pinned: pin.Since.UTC().Truncate(time.Second), Root: pin.Root.Raw}
	if pin.Address.IsValid() {
		j.Address = pin.Address.String()
	}
	b, err := json.MarshalIndent(j, "", "\t")
	if err == nil {
		err = p.writeLocked(pinFile, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("storing the trusted realm: %w", err)
	}
	return nil
}

func (p *Profile) loadToken() error {
	t, err := p.readToken()
	if t == nil || err != nil {
		return err
	}
	if p.cert, err = p.certificateLocked(t); err != nil {
		return fmt.Errorf("%s: %w", p.path(tokenFile), err)
	}
	p.token = t
	p.clock.Signed(t.NotBefore.Add(realm.Backdate))
	return nil
}

// readToken reads the token file, which need not be there. Whether the token is
// still good is asked when it is used; here it is judged at a time at which it
// was.
func (p *Profile) readToken() (*realm.Token, error) {
	b, err := p.read(tokenFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for len(b) > 0 {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil || block.Type != pemCertificate {
			return nil, p.damaged(tokenFile)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, p.damaged(tokenFile)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, p.damaged(tokenFile)
	}
	t, err := p.verifier.Device(chain, chain[0].NotAfter)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.path(tokenFile), err)
	}
	return t, nil
}

func (p *Profile) loadCRL() error {
	b, err := p.read(crlFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	issuing, b := pem.Decode(b)
	if issuing == nil || issuing.Type != pemCertificate {
		return p.damaged(crlFile)
	}
	list, b := pem.Decode(b)
	if list == nil || list.Type != pemCRL || len(b) > 0 {
		return p.damaged(crlFile)
	}
	if _, err := p.verifier.SetCRL(issuing.Bytes, list.Bytes); err != nil {
		return fmt.Errorf("%s: %w", p.path(crlFile), err)
	}
	p.clock.Signed(p.verifier.CRL().Time)
	return nil
}

// certificateLocked joins a token with the device's key.
func (p *Profile) certificateLocked(t *realm.Token) (*tls.Certificate, error) {
	if t.Key != wire.KeyOf(p.key.Public().(ed25519.PublicKey)) {
		return nil, fmt.Errorf("token of another device: %w", realm.ErrKeyMismatch)
	}
	leaf, err := x509.ParseCertificate(t.Leaf)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{t.Leaf, t.Issuing}, PrivateKey: p.key, Leaf: leaf}, nil
}

func (p *Profile) path(name string) string { return filepath.Join(p.dir, name) }

func (p *Profile) damaged(name string) error {
	return fmt.Errorf("%q is damaged: put back a copy of it", p.path(name))
}

func (p *Profile) read(name string) ([]byte, error) { return private.Read(p.path(name), maxFile) }

func (p *Profile) writeLocked(name string, b []byte) error { return private.Write(p.path(name), b) }

func (p *Profile) removeLocked(name string) error { return private.Remove(p.path(name)) }
