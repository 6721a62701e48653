package server

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/wire/private"
	"lanchat/wire/realm"
)

// The files of a data directory, all 0600 in a 0700 directory. The first
// three are to be backed up with the database; the others are made again when
// they are missing.
const (
	DatabaseFile = "authd.db"    // accounts; see authd/store
	rootFile     = "root.pem"    // the realm: its certificate and, unless kept elsewhere, its key
	pepperFile   = "pepper.pem"  // key of the password verifiers
	inviteFile   = "invite.pem"  // what the join code carries where registration is by invite
	issuingFile  = "issuing.pem" // key and certificate that sign tokens
	authdFile    = "authd.pem"   // key and certificate of authd itself
	resetFile    = "reset.pem"   // key of QUIC's stateless resets
	lockFile     = "lock"        // held while an authd serves
)

// maxFile bounds what is read of a file of keys, in bytes.
const maxFile = 64 << 10

// Types of PEM blocks.
const (
	typeKey    = "PRIVATE KEY" // PKCS #8
	typeCert   = "CERTIFICATE"
	typePepper = "LANCHAT PEPPER"
	typeReset  = "LANCHAT STATELESS RESET KEY"
	typeInvite = "LANCHAT INVITE"
)

var (
	// ErrNoRealm says that a data directory holds no realm yet.
	ErrNoRealm = errors.New("no realm here yet")
	// ErrInUse says that another authd serves from the data directory.
	ErrInUse = errors.New("another authd is running on this data directory")
)

// Keys are the realm's secrets, as they lie in the data directory. They may
// be used from several goroutines.
type Keys struct {
	// Realm is what everything here belongs to.
	Realm realm.Realm

	dir    string
	unlock func() error
	root   *realm.CA // its Key is nil when it is kept elsewhere
	pepper [32]byte
	reset  quic.StatelessResetKey

	mu      sync.Mutex
	issuing *realm.CA
	authd   *realm.CA // not one that issues anything: authd's certificate and key
	present *tls.Certificate
	needed  time.Time // see RootNeeded
}

// OpenKeys opens the data directory and makes what is missing, at first a
// realm of the given name. It holds the directory's lock until Close.
func OpenKeys(dir, name string, now time.Time) (*Keys, error) {
	if err := private.Dir(dir); err != nil {
		return nil, fmt.Errorf("opening the data directory: %w", err)
	}
	unlock, err := private.Lock(filepath.Join(dir, lockFile))
	if errors.Is(err, private.ErrLocked) {
		return nil, fmt.Errorf("%w: %q", ErrInUse, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	k := &Keys{dir: dir, unlock: unlock}
	if err := k.load(name, now); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// ReadRealm returns the realm in the data directory and its join code, whether
// or not an authd is running there. The code is a secret if it has an invite.
// The error is ErrNoRealm where none was made.
func ReadRealm(dir string) (realm.Realm, realm.JoinCode, error) {
	if _, err := os.Stat(filepath.Join(dir, rootFile)); errors.Is(err, fs.ErrNotExist) {
		return realm.Realm{}, realm.JoinCode{}, ErrNoRealm
	}
	root, err := readCA(dir, rootFile)
	if err != nil {
		return realm.Realm{}, realm.JoinCode{}, err
	}
	r, err := realm.OfRoot(root.Cert)
	if err != nil {
		return realm.Realm{}, realm.JoinCode{}, fmt.Errorf("%q: %w", filepath.Join(dir, rootFile), err)
	}
	code := realm.JoinCode{Realm: r.Fingerprint()}
	if err := readSecret(dir, inviteFile, typeInvite, &code.Invite); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return realm.Realm{}, realm.JoinCode{}, err
	}
	if n := len(code.Invite); n != 0 && n != realm.InviteSize {
		return realm.Realm{}, realm.JoinCode{}, fmt.Errorf("%q: damaged", filepath.Join(dir, inviteFile))
	}
	return r, code, nil
}

// ReadPepper returns the key of the password verifiers. ErrNoRealm where none
// was made.
func ReadPepper(dir string) (pepper [32]byte, err error) {
	var b []byte
	err = readSecret(dir, pepperFile, typePepper, &b)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return pepper, ErrNoRealm
	case err != nil:
		return pepper, err
	case len(b) != len(pepper):
		return pepper, fmt.Errorf("%q: damaged", filepath.Join(dir, pepperFile))
	}
	return [32]byte(b), nil
}

// Close gives up the directory's lock.
func (k *Keys) Close() error { return k.unlock() }

// Invite returns the secret that people need where registration is by invite,
// making it at first.
func (k *Keys) Invite() ([]byte, error) {
	var b []byte
	if err := k.secret(inviteFile, typeInvite, realm.InviteSize, &b); err != nil {
		return nil, err
	}
	return b, nil
}

func (k *Keys) load(name string, now time.Time) error {
	root, err := readCA(k.dir, rootFile)
	if errors.Is(err, fs.ErrNotExist) {
		if root, err = k.makeRealm(name, now); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	k.root = root
	if k.Realm, err = realm.OfRoot(root.Cert); err != nil {
		return fmt.Errorf("%q: %w", filepath.Join(k.dir, rootFile), err)
	}

	if k.missing(pepperFile) && !k.missing(DatabaseFile) {
		return fmt.Errorf("%q is missing, and without it no password can be verified: restore it from a backup, it belongs to %q",
			filepath.Join(k.dir, pepperFile), filepath.Join(k.dir, DatabaseFile))
	}
	var pepper, reset []byte
	if err := k.secret(pepperFile, typePepper, len(k.pepper), &pepper); err != nil {
		return err
	}
	if err := k.secret(resetFile, typeReset, len(k.reset), &reset); err != nil {
		return err
	}
	copy(k.pepper[:], pepper)
	copy(k.reset[:], reset)

	if k.issuing, err = k.optionalCA(issuingFile); err != nil {
		return err
	}
	k.authd, err = k.optionalCA(authdFile)
	return err
}

// rootEpoch is the latest beginning of a root's validity. A root made while
// the machine's clock was ahead would otherwise be not yet valid once it is
// set right.
var rootEpoch = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func (k *Keys) makeRealm(name string, now time.Time) (*realm.CA, error) {
	for _, f := range []string{DatabaseFile, pepperFile} {
		if !k.missing(f) {
			return nil, fmt.Errorf("%q is missing, but %q is there: restore it from a backup, or use another directory for a new realm",
				filepath.Join(k.dir, rootFile), filepath.Join(k.dir, f))
		}
	}
	if now.After(rootEpoch) {
		now = rootEpoch
	}
	root, err := realm.NewRoot(rand.Reader, name, now)
	if err != nil {
		return nil, err
	}
	return root, k.writeCA(rootFile, root)
}

// Maintain makes the certificates of the issuing CA and of authd, if there are
// none or their time is running out: a token must end before its issuer. It
// reports whether the issuing CA changed. It is to be called at start and now
// and then. Without the root's key what is there serves until its end; see
// RootNeeded.
func (k *Keys) Maintain(now time.Time, tokenLife time.Duration) (newIssuer bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.needed = time.Time{}
	switch {
	case valid(k.issuing, now, tokenLife+30*24*time.Hour):
	case k.root.Key == nil && valid(k.issuing, now, 0):
		k.needed = k.issuing.Cert.NotAfter
	case k.root.Key == nil:
		return false, k.rootAway("tokens can't be issued")
	default:
		ca, err := k.root.IssueCA(rand.Reader, now, max(realm.IssuingLife, 2*tokenLife))
		if err != nil {
			return false, err
		}
		if err := k.writeCA(issuingFile, ca); err != nil {
			return false, err
		}
		k.issuing, newIssuer = ca, true
	}
	switch {
	case valid(k.authd, now, realm.AuthdLife/3):
	case k.root.Key == nil && valid(k.authd, now, 0):
		if end := k.authd.Cert.NotAfter; k.needed.IsZero() || end.Before(k.needed) {
			k.needed = end
		}
	case k.root.Key == nil:
		return newIssuer, k.rootAway("authd can't prove who it is")
	default:
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return newIssuer, err
		}
		if k.authd != nil { // the same key: peers know authd by it
			key = k.authd.Key
			pub = key.Public().(ed25519.PublicKey)
		}
		cert, err := k.root.IssueAuthd(rand.Reader, pub, now, 0)
		if err != nil {
			return newIssuer, err
		}
		ca := &realm.CA{Realm: k.Realm.ID, Cert: cert, Key: key}
		if err := k.writeCA(authdFile, ca); err != nil {
			return newIssuer, err
		}
		k.authd, k.present = ca, nil
	}
	if k.present == nil {
		k.present = &tls.Certificate{
			Certificate: [][]byte{k.authd.Cert.Raw, k.root.Cert.Raw},
			PrivateKey:  k.authd.Key,
			Leaf:        k.authd.Cert,
		}
	}
	return newIssuer, nil
}

// RootNeeded returns when a certificate ends that only the root's key can
// replace, once that is due and the key is kept elsewhere; else the zero time.
func (k *Keys) RootNeeded() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.needed
}

func (k *Keys) rootAway(so string) error {
	return fmt.Errorf("the realm's key is not in %q, so %s any more: put it back", filepath.Join(k.dir, rootFile), so)
}

// valid reports whether the certificate holds now and for a while. Not yet is
// no either: it was made while the clock was ahead.
func valid(ca *realm.CA, now time.Time, remaining time.Duration) bool {
	return ca != nil && !now.Before(ca.Cert.NotBefore) && now.Add(remaining).Before(ca.Cert.NotAfter)
}

// AuthdKey returns authd's own key, which also signs its presence. It is a
// secret. Maintain must have been called.
func (k *Keys) AuthdKey() ed25519.PrivateKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.authd.Key
}

func (k *Keys) identity() (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.present, nil
}

func (k *Keys) issuer() *realm.CA {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.issuing
}

func (k *Keys) missing(name string) bool {
	_, err := os.Lstat(filepath.Join(k.dir, name))
	return errors.Is(err, fs.ErrNotExist)
}

// secret reads the n secret bytes of a file into b, drawing them at first.
func (k *Keys) secret(name, blockType string, n int, b *[]byte) error {
	err := readSecret(k.dir, name, blockType, b)
	if errors.Is(err, fs.ErrNotExist) {
		*b = make([]byte, n)
		if _, err := rand.Read(*b); err != nil {
			return err
		}
		return private.Write(filepath.Join(k.dir, name), pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: *b}))
	}
	if err == nil && len(*b) != n {
		return fmt.Errorf("%q: damaged", filepath.Join(k.dir, name))
	}
	return err
}

func readSecret(dir, name, blockType string, b *[]byte) error {
	data, err := private.Read(filepath.Join(dir, name), maxFile)
	if err != nil {
		return err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != blockType || len(bytes.TrimSpace(rest)) > 0 {
		return fmt.Errorf("%q: damaged", filepath.Join(dir, name))
	}
	*b = block.Bytes
	return nil
}

func (k *Keys) optionalCA(name string) (*realm.CA, error) {
	ca, err := readCA(k.dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if ca.Key == nil {
		return nil, fmt.Errorf("%q: damaged: no key", filepath.Join(k.dir, name))
	}
	if ca.Cert.CheckSignatureFrom(k.root.Cert) != nil {
		return nil, fmt.Errorf("%q does not belong to %q: remove it, it is made anew", filepath.Join(k.dir, name), rootFile)
	}
	ca.Realm = k.Realm.ID
	return ca, nil
}

// readCA reads a certificate and its key from one file, which is replaced as
// a whole. The key may be missing.
func readCA(dir, name string) (*realm.CA, error) {
	data, err := private.Read(filepath.Join(dir, name), maxFile)
	if err != nil {
		return nil, err
	}
	damaged := func(why string) error { return fmt.Errorf("%q: damaged: %s", filepath.Join(dir, name), why) }
	ca := new(realm.CA)
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		switch block.Type {
		case typeCert:
			if ca.Cert, err = x509.ParseCertificate(block.Bytes); err != nil {
				return nil, damaged("the certificate")
			}
		case typeKey:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			var ok bool
			if ca.Key, ok = key.(ed25519.PrivateKey); err != nil || !ok {
				return nil, damaged("the key")
			}
		}
	}
	if ca.Cert == nil {
		return nil, damaged("no certificate")
	}
	if pub, ok := ca.Cert.PublicKey.(ed25519.PublicKey); !ok || ca.Key != nil && !pub.Equal(ca.Key.Public()) {
		return nil, damaged("key and certificate don't belong together")
	}
	ca.Realm = realm.IDOf(ca.Cert)
	return ca, nil
}

func (k *Keys) writeCA(name string, ca *realm.CA) error {
	der, err := x509.MarshalPKCS8PrivateKey(ca.Key)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	pem.Encode(&b, &pem.Block{Type: typeCert, Bytes: ca.Cert.Raw}) // a Buffer does not fail
	pem.Encode(&b, &pem.Block{Type: typeKey, Bytes: der})
	return private.Write(filepath.Join(k.dir, name), b.Bytes())
}
