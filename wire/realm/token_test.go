package realm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"lanchat/wire"
)

// noon is when the tests happen.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// house is a realm with an authd and one device.
type house struct {
	root, issuing *CA
	authd         *x509.Certificate
	device        ed25519.PrivateKey
	account       wire.AccountID
	rand          *mrand.ChaCha8
	*Verifier
}

func newHouse(t testing.TB, seed byte) *house {
	t.Helper()
	h := &house{account: wire.AccountID{seed, 15: 0xaa}, rand: mrand.NewChaCha8([32]byte{seed})}
	var err error
	if h.root, err = NewRoot(h.rand, "testing", noon.Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if h.issuing, err = h.root.IssueCA(h.rand, noon.Add(-time.Hour), 0); err != nil {
		t.Fatal(err)
	}
	key, _ := newKey(h.rand)
	if h.authd, err = h.root.IssueAuthd(h.rand, key.Public().(ed25519.PublicKey), noon.Add(-time.Hour), 0); err != nil {
		t.Fatal(err)
	}
	h.device, _ = newKey(h.rand)
	if h.Verifier, err = NewVerifier(h.root.Cert); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) key() wire.DeviceKey { return wire.KeyOf(h.device.Public().(ed25519.PublicKey)) }

func (h *house) grant() Grant {
	return Grant{Serial: Serial{1, 15: 2}, Account: h.account, Key: h.key(), Name: "alice", NameSeq: 1, From: noon}
}

func (h *house) token(t testing.TB) []*x509.Certificate {
	t.Helper()
	leaf, err := h.issuing.IssueToken(h.rand, h.grant())
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{leaf, h.issuing.Cert}
}

func (h *house) crl(t testing.TB, number uint64, revoked ...Serial) []byte {
	t.Helper()
	var list []Revoked
	for _, s := range revoked {
		list = append(list, Revoked{Serial: s, At: noon})
	}
	der, err := h.issuing.RevocationList(number, list, noon)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestDevice(t *testing.T) {
	h := newHouse(t, 1)
	chain := h.token(t)
	want := Token{
		Account: h.account, Device: h.key().Device(), Key: h.key(), Name: "alice", NameSeq: 1,
		NotBefore: noon.Add(-10 * time.Minute), NotAfter: noon.Add(TokenLife), Serial: Serial{1, 15: 2},
	}
	for _, certs := range [][]*x509.Certificate{
		chain,
		append(slices.Clone(chain), h.root.Cert),
		{chain[0], h.authd, h.issuing.Cert}, // what does not help does no harm
	} {
		got, err := h.Device(certs, noon)
		if err != nil {
			t.Fatalf("Device: %v", err)
		}
		if !bytes.Equal(got.Leaf, chain[0].Raw) || !bytes.Equal(got.Issuing, h.issuing.Cert.Raw) {
			t.Errorf("Device returns other certificates")
		}
		got.Leaf, got.Issuing = nil, nil
		if !tokenEqual(*got, want) {
			t.Errorf("Device = %+v, want %+v", *got, want)
		}
	}
	if cn := chain[0].Subject.CommonName; cn != h.account.String() {
		t.Errorf("subject is %q", cn)
	}
	if uri := chain[0].URIs[0].String(); uri != "lanchat://"+h.root.Realm.String()+"/u/"+h.account.String()+"/d/"+h.key().Device().String() {
		t.Errorf("name is %q", uri)
	}
	if n := len(chain[0].Raw); n > 640 {
		t.Errorf("a token has %d bytes", n)
	}
}

// A verifier remembers whom it has judged, but neither for how long that holds
// nor who vouched, and not without end.
func TestRemembered(t *testing.T) {
	h := newHouse(t, 1)
	certs := h.token(t)
	first, err := h.Device(certs, noon)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := h.Device(certs, noon); err != nil || again != first {
		t.Errorf("once more: %v, %v; want the same token", again, err)
	}
	if made := h.issuing.Token(h.grant(), certs[0]); !reflect.DeepEqual(made, first) {
		t.Errorf("authd took its token for %+v, everybody else reads %+v", made, first)
	}
	if _, err := h.Device(certs[:1], noon); !errors.Is(err, ErrForeign) {
		t.Errorf("without its issuer: %v", err)
	}
	if _, err := h.Device([]*x509.Certificate{certs[0], newHouse(t, 2).issuing.Cert}, noon); !errors.Is(err, ErrForeign) {
		t.Errorf("with another issuer: %v", err)
	}
	bent, err := x509.ParseCertificate(bend(certs[0].Raw))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Device([]*x509.Certificate{bent, certs[1]}, noon); !errors.Is(err, ErrForeign) {
		t.Errorf("with another signature: %v", err)
	}
	if _, err := h.Device(certs, first.NotAfter.Add(Tolerance+time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := h.SetCRL(h.issuing.Cert.Raw, h.crl(t, 1, first.Serial)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Device(certs, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	for range maxRemembered + 10 {
		g := h.grant()
		g.Serial = Serial{}
		leaf, err := h.issuing.IssueToken(h.rand, g)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Device([]*x509.Certificate{leaf, certs[1]}, noon); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.tokens); n != maxRemembered {
		t.Errorf("%d tokens are remembered, want %d", n, maxRemembered)
	}
}

func tokenEqual(a, b Token) bool {
	return a.Account == b.Account && a.Device == b.Device && a.Key == b.Key && a.Name == b.Name && a.NameSeq == b.NameSeq &&
		a.NotBefore.Equal(b.NotBefore) && a.NotAfter.Equal(b.NotAfter) && a.Serial == b.Serial
}

func TestAuthd(t *testing.T) {
	h := newHouse(t, 1)
	for _, certs := range [][]*x509.Certificate{{h.authd}, {h.authd, h.root.Cert}} {
		if err := h.Authd(certs, noon); err != nil {
			t.Errorf("Authd: %v", err)
		}
	}
	r, err := Candidate([]*x509.Certificate{h.authd, h.root.Cert}, noon)
	if err != nil || r.ID != h.root.Realm || r.Name != "testing" {
		t.Errorf("Candidate = %v, %v", r, err)
	}
	if got, want := r.Fingerprint(), FingerprintOf(IDOf(h.root.Cert)); got != want {
		t.Errorf("fingerprint %v, want %v", got, want)
	}
	if _, err := Candidate([]*x509.Certificate{h.authd}, noon); err == nil {
		t.Error("Candidate accepts authd's certificate as a root")
	}
	if _, err := Candidate(nil, noon); !errors.Is(err, ErrNone) {
		t.Errorf("Candidate of nothing: %v", err)
	}
}

// Tokens allow serving TLS too, so authd's certificate must be told apart, and
// the other way round.
func TestRole(t *testing.T) {
	h := newHouse(t, 1)
	token := h.token(t)
	for _, certs := range [][]*x509.Certificate{token, {token[0], token[1], h.root.Cert}} {
		if err := h.Authd(certs, noon); !errors.Is(err, ErrRole) {
			t.Errorf("a token as authd: %v", err)
		}
		if r, err := Candidate([]*x509.Certificate{token[0], token[1], h.root.Cert}, noon); !errors.Is(err, ErrRole) {
			t.Errorf("a token as authd of an unknown realm: %v, %v", r, err)
		}
	}
	if tok, err := h.Device([]*x509.Certificate{h.authd, h.root.Cert}, noon); !errors.Is(err, ErrRole) || tok != nil {
		t.Errorf("authd as a device: %v", err)
	}
	// The issuing CA's key is on line all day; it can't make an authd.
	if err := h.Authd([]*x509.Certificate{h.forge(t, func(c *x509.Certificate) {
		c.URIs = []*url.URL{mustURL(authdURI(h.root.Realm))}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}), h.issuing.Cert}, noon); !errors.Is(err, ErrRole) {
		t.Errorf("authd issued by the issuing CA: %v", err)
	}
	// Nor does the root issue tokens.
	direct, err := h.root.IssueToken(h.rand, h.grant())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Device([]*x509.Certificate{direct, h.issuing.Cert}, noon); !errors.Is(err, ErrRole) {
		t.Errorf("token issued by the root: %v", err)
	}
}

// forge makes a token that differs from a good one, signed by the issuing CA.
func (h *house) forge(t testing.TB, change func(*x509.Certificate)) *x509.Certificate {
	return h.forgeFor(t, h.device.Public(), change)
}

func (h *house) forgeFor(t testing.TB, pub any, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	ext, err := appendNameExtension("alice", 1)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber:          big.NewInt(7),
		Subject:               pkix.Name{CommonName: h.account.String()},
		NotBefore:             noon.Add(-Backdate),
		NotAfter:              noon.Add(TokenLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{mustURL(deviceURI(h.root.Realm, h.account, h.key().Device()))},
		ExtraExtensions:       []pkix.Extension{ext},
	}
	change(c)
	der, err := x509.CreateCertificate(nil, c, h.issuing.Cert, pub, h.issuing.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestDeviceRefuses(t *testing.T) {
	h, other := newHouse(t, 1), newHouse(t, 2)
	if _, err := h.Device([]*x509.Certificate{h.forge(t, func(*x509.Certificate) {}), h.issuing.Cert}, noon); err != nil {
		t.Fatalf("an unchanged forgery: %v", err)
	}
	setURI := func(s string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.URIs = []*url.URL{mustURL(s)} }
	}
	good := deviceURI(h.root.Realm, h.account, h.key().Device())
	setName := func(der []byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtraExtensions[0].Value = der }
	}
	nameDER := func(v any) []byte {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	tests := []struct {
		name   string
		change func(*x509.Certificate)
		want   error
	}{
		{"CA flag", func(c *x509.Certificate) { c.IsCA = true }, ErrRole},
		{"CA flag and usage", func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage |= x509.KeyUsageCertSign }, ErrRole},
		{"key usage more", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }, ErrRole},
		{"key usage less", func(c *x509.Certificate) { c.KeyUsage = 0 }, ErrRole},
		{"extended usage less", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }, ErrRole},
		{"extended usage any", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, ErrRole},
		{"extended usage none", func(c *x509.Certificate) { c.ExtKeyUsage = nil }, ErrRole},
		{"no name", func(c *x509.Certificate) { c.URIs = nil }, ErrRole},
		{"two names", func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }, ErrRole},
		{"a DNS name too", func(c *x509.Certificate) { c.DNSNames = []string{"alice.local"} }, ErrRole},
		{"an address too", func(c *x509.Certificate) { c.IPAddresses = []net.IP{{10, 0, 0, 1}} }, ErrRole},
		{"mail address too", func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b.c"} }, ErrRole},
		{"authd's name", setURI(authdURI(h.root.Realm)), ErrRole},
		{"another realm's name", setURI(deviceURI(other.root.Realm, h.account, h.key().Device())), ErrForeign},
		{"another device's name", setURI(deviceURI(h.root.Realm, h.account, other.key().Device())), ErrProfile},
		{"another account's name", setURI(deviceURI(h.root.Realm, other.account, h.key().Device())), ErrProfile},
		{"name in upper case", setURI(strings.Replace(good, h.account.String(), strings.ToUpper(h.account.String()), 1)), ErrRole},
		{"name with a query", setURI(good + "?x"), ErrRole},
		{"name with a fragment", setURI(good + "#x"), ErrRole},
		{"name with a slash", setURI(good + "/"), ErrRole},
		{"name with a port", setURI(strings.Replace(good, "/u/", ":1/u/", 1)), ErrRole},
		{"name with a user", setURI(strings.Replace(good, "//", "//x@", 1)), ErrRole},
		{"name with another scheme", setURI(strings.Replace(good, "lanchat", "https", 1)), ErrRole},
		{"name with an escape", setURI(strings.Replace(good, "/u/", "/%75/", 1)), ErrRole},
		{"another subject", func(c *x509.Certificate) { c.Subject.CommonName = other.account.String() }, ErrProfile},
		{"no user name", func(c *x509.Certificate) { c.ExtraExtensions = nil }, ErrProfile},
		{"user name of rubbish", setName([]byte{0xff, 0xff}), ErrProfile},
		{"user name empty", setName(nil), ErrProfile},
		{"user name with more behind", setName(append(nameDER(nameExtension{"alice", 1}), 0)), ErrProfile},
		{"user name in another type", setName(nameDER(struct {
			Name string `asn1:"printable"`
			Seq  int64
		}{"alice", 1})), ErrProfile},
		{"user name with a third field", setName(nameDER(struct {
			Name   string `asn1:"utf8"`
			Seq, X int64
		}{"alice", 1, 1})), ErrProfile},
		{"user name in Cyrillic", setName(nameDER(nameExtension{"аlice", 1})), ErrProfile},
		{"user name number 0", setName(nameDER(nameExtension{"alice", 0})), ErrProfile},
		{"user name number negative", setName(nameDER(nameExtension{"alice", -1})), ErrProfile},
		{"unknown critical extension", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 25, 1}, Critical: true, Value: []byte{5, 0}})
		}, ErrForeign},
		{"longer than its issuer", func(c *x509.Certificate) { c.NotAfter = noon.Add(2 * IssuingLife) }, ErrForeign},
		{"serial number too long", func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 128) }, ErrProfile},
		{"too big", func(c *x509.Certificate) { c.Subject.Organization = []string{strings.Repeat("x", 900)} }, ErrProfile},
		{"not yet valid", func(c *x509.Certificate) { c.NotBefore = noon.Add(Tolerance + time.Second) }, ErrNotYetValid},
		{"expired", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = noon.Add(-time.Hour), noon.Add(-Tolerance-time.Second)
		}, ErrExpired},
	}
	for _, tt := range tests {
		got, err := h.Device([]*x509.Certificate{h.forge(t, tt.change), h.issuing.Cert}, noon)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if got != nil {
			t.Errorf("%s: a token is returned with the error", tt.name)
		}
	}

	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	self, err := SelfSigned(h.device)
	if err != nil {
		t.Fatal(err)
	}
	foreign, mine := other.token(t), h.token(t)
	impostor, err := NewRoot(h.rand, "testing", noon) // the same name, another key
	if err != nil {
		t.Fatal(err)
	}
	sub, err := h.issuing.IssueCA(h.rand, noon, 0) // path length 0 forbids it
	if err != nil {
		t.Fatal(err)
	}
	subLeaf, err := sub.IssueToken(h.rand, h.grant())
	if err != nil {
		t.Fatal(err)
	}
	bent, err := x509.ParseCertificate(bend(mine[0].Raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		certs []*x509.Certificate
		want  error
	}{
		"none":                   {nil, ErrNone},
		"another realm's":        {foreign, ErrForeign},
		"another realm's root":   {append(slices.Clone(foreign), other.root.Cert), ErrForeign},
		"impostor root":          {[]*x509.Certificate{mine[0], impostor.Cert}, ErrForeign},
		"no issuer":              {mine[:1], ErrForeign},
		"self-signed":            {[]*x509.Certificate{self}, ErrForeign},
		"too many":               {slices.Repeat(mine, 3), ErrProfile},
		"below a second issuer":  {[]*x509.Certificate{subLeaf, sub.Cert, h.issuing.Cert}, ErrForeign},
		"issuer first":           {[]*x509.Certificate{mine[1], mine[0]}, ErrRole},
		"root alone":             {[]*x509.Certificate{h.root.Cert}, ErrRole},
		"signature bent":         {[]*x509.Certificate{bent, mine[1]}, ErrForeign},
		"another kind of key":    {[]*x509.Certificate{h.forgeFor(t, ec.Public(), func(*x509.Certificate) {}), h.issuing.Cert}, ErrProfile},
		"signed by the wrong CA": {[]*x509.Certificate{mine[0], other.issuing.Cert}, ErrForeign},
	} {
		if _, err := h.Device(tt.certs, noon); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if err := h.Authd(tt.certs, noon); err == nil {
			t.Errorf("%s: accepted as authd", name)
		}
	}
}

// bend changes the last byte: it belongs to the signature.
func bend(der []byte) []byte {
	der = bytes.Clone(der)
	der[len(der)-1] ^= 1
	return der
}

// With a grace tokens are in force longer, by at most MaxGrace, unless they are
// revoked or authd was there after their end. Nothing else is.
func TestGrace(t *testing.T) {
	h := newHouse(t, 1)
	chain := h.token(t)
	end := noon.Add(TokenLife)
	token, err := h.Device(chain, noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ set, want time.Duration }{
		{7 * 24 * time.Hour, 7 * 24 * time.Hour},
		{MaxGrace, MaxGrace},
		{MaxGrace + time.Hour, MaxGrace},
		{time.Second, Tolerance}, // clocks may differ by that in any case
		{-time.Hour, Tolerance},
		{0, Tolerance},
	} {
		h.SetGrace(tt.set)
		for now, want := range map[time.Time]error{end.Add(tt.want): nil, end.Add(tt.want + time.Second): ErrExpired} {
			if _, err := h.Device(chain, now); !errors.Is(err, want) {
				t.Errorf("with %v, Device at %v: %v, want %v", tt.set, now, err, want)
			}
			if err := h.Check(token, now); !errors.Is(err, want) {
				t.Errorf("with %v, Check at %v: %v, want %v", tt.set, now, err, want)
			}
		}
	}
	if h.SetGrace(0) || !h.SetGrace(MaxGrace) || h.SetGrace(2*MaxGrace) {
		t.Error("SetGrace is wrong about what changes")
	}
	if err := h.Authd([]*x509.Certificate{h.authd}, h.authd.NotAfter.Add(Tolerance+time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("authd's certificate: %v, want %v", err, ErrExpired)
	}
	if _, err := h.Renewable(chain, end.Add(RenewGrace+time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("renewing: %v, want %v", err, ErrExpired)
	}
	for i, tt := range []struct {
		revoked []Revoked
		at      time.Time
		want    error
	}{
		{nil, end, nil},
		{[]Revoked{{Serial: token.Serial, At: noon}}, end, ErrRevoked},
		// A list leaves out what has ended: it does not say that all is well.
		{nil, end.Add(time.Second), ErrExpired},
	} {
		list, err := h.issuing.RevocationList(uint64(i+1), tt.revoked, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.SetCRL(h.issuing.Cert.Raw, list); err != nil {
			t.Fatal(err)
		}
		if err := h.Check(token, end.Add(time.Hour)); !errors.Is(err, tt.want) {
			t.Errorf("with list %d: %v, want %v", i+1, err, tt.want)
		}
		if _, err := h.Device(chain, end.Add(time.Hour)); !errors.Is(err, tt.want) {
			t.Errorf("with list %d, Device: %v, want %v", i+1, err, tt.want)
		}
	}
}

// Times of validity are exact to the second, with ten minutes' tolerance.
func TestValidity(t *testing.T) {
	h := newHouse(t, 1)
	chain := h.token(t)
	day := 24 * time.Hour
	tests := []struct {
		now           time.Time
		device, renew error
	}{
		{noon.Add(-20*time.Minute - time.Second), ErrNotYetValid, nil}, // authd made it, with its clock ahead
		{noon.Add(-20 * time.Minute), nil, nil},
		{noon, nil, nil},
		{noon.Add(30 * day), nil, nil},
		{noon.Add(30*day + 10*time.Minute), nil, nil},
		{noon.Add(30*day + 10*time.Minute + time.Second), ErrExpired, nil},
		{noon.Add(120 * day), ErrExpired, nil},
		{noon.Add(120*day + time.Second), ErrExpired, ErrExpired},
	}
	for _, tt := range tests {
		if _, err := h.Device(chain, tt.now); !errors.Is(err, tt.device) {
			t.Errorf("Device at %v: %v, want %v", tt.now, err, tt.device)
		}
		if _, err := h.Renewable(chain, tt.now); !errors.Is(err, tt.renew) {
			t.Errorf("Renewable at %v: %v, want %v", tt.now, err, tt.renew)
		}
		token, err := h.Device(chain, noon)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Check(token, tt.now); !errors.Is(err, tt.device) {
			t.Errorf("Check at %v: %v, want %v", tt.now, err, tt.device)
		}
	}
	_, err := h.Device(chain, noon.Add(31*day))
	if e, ok := errors.AsType[*TimeError](err); !ok || !e.NotAfter.Equal(noon.Add(30*day)) || !e.Now.Equal(noon.Add(31*day)) {
		t.Errorf("the error does not say both clocks: %v", err)
	}
	for _, at := range []time.Time{noon.Add(-2 * time.Hour), noon.Add(91 * day)} {
		if err := h.Authd([]*x509.Certificate{h.authd}, at); err == nil {
			t.Errorf("authd's certificate is good at %v", at)
		}
	}
	// What a CA issues never outlives it.
	g := h.grant()
	g.NotAfter = noon.Add(10 * 365 * day)
	leaf, err := h.issuing.IssueToken(h.rand, g)
	if err != nil || !leaf.NotAfter.Equal(h.issuing.Cert.NotAfter) {
		t.Errorf("token until %v, %v; the CA's until %v", leaf.NotAfter, err, h.issuing.Cert.NotAfter)
	}
	g.From = g.NotAfter.Add(day)
	if leaf, err := h.issuing.IssueToken(h.rand, g); err == nil {
		t.Errorf("token from %v until %v", leaf.NotBefore, leaf.NotAfter)
	}
}

func TestIssueRefuses(t *testing.T) {
	h := newHouse(t, 1)
	g := h.grant()
	g.Name = "Alice"
	if _, err := h.issuing.IssueToken(h.rand, g); !errors.Is(err, ErrName) {
		t.Errorf("token for %q: %v", g.Name, err)
	}
	g = h.grant()
	g.NameSeq = 0
	if _, err := h.issuing.IssueToken(h.rand, g); err == nil {
		t.Error("token with name number 0")
	}
	ca := &CA{Realm: h.root.Realm, Cert: h.issuing.Cert, Key: h.device}
	if _, err := ca.IssueToken(h.rand, h.grant()); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("token signed with a key that is not the CA's: %v", err)
	}
	for _, name := range []string{"", " lab", "lab ", "la\nb", "\x1b[31m", strings.Repeat("x", 65), "a\u202eb"} {
		if _, err := NewRoot(h.rand, name, noon); !errors.Is(err, ErrRealmName) {
			t.Errorf("realm named %q: %v", name, err)
		}
	}
	for _, name := range []string{"lab", "Salle 3 – été", "実験室", strings.Repeat("x", 64)} {
		if _, err := NewRoot(h.rand, name, noon); err != nil {
			t.Errorf("realm named %q: %v", name, err)
		}
	}
	// A serial number that is not given is drawn.
	g = h.grant()
	g.Serial = Serial{}
	a, _ := h.issuing.IssueToken(h.rand, g)
	b, _ := h.issuing.IssueToken(h.rand, g)
	if a.SerialNumber.Cmp(b.SerialNumber) == 0 {
		t.Errorf("two tokens with number %v", a.SerialNumber)
	}
}

func TestRevocation(t *testing.T) {
	h, other := newHouse(t, 1), newHouse(t, 2)
	chain := h.token(t)
	token, err := h.Device(chain, noon)
	if err != nil {
		t.Fatal(err)
	}
	set := func(number uint64, wantChanged bool, want error, revoked ...Serial) {
		t.Helper()
		changed, err := h.SetCRL(h.issuing.Cert.Raw, h.crl(t, number, revoked...))
		if changed != wantChanged || !errors.Is(err, want) {
			t.Errorf("SetCRL number %d: %v, %v; want %v, %v", number, changed, err, wantChanged, want)
		}
	}
	set(5, true, nil)
	if err := h.Check(token, noon); err != nil {
		t.Errorf("token under an empty list: %v", err)
	}
	set(6, true, nil, Serial{9}, token.Serial)
	if _, err := h.Device(chain, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("Device: %v", err)
	}
	if _, err := h.Renewable(chain, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("Renewable: %v", err)
	}
	if err := h.Check(token, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("Check: %v", err)
	}
	// Numbers only rise, so nobody revives a token with an old list.
	set(6, false, nil, Serial{9}, token.Serial)
	set(6, false, ErrOldCRL)
	set(5, false, ErrOldCRL)
	if err := h.Check(token, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("Check after old lists: %v", err)
	}
	if got := h.CRL(); got.Number != 6 || got.Len() != 2 || !got.Time.Equal(noon) {
		t.Errorf("list held: number %d, %d entries, %v", got.Number, got.Len(), got.Time)
	}

	refuse := func(name string, issuing, list []byte) {
		t.Helper()
		if changed, err := h.SetCRL(issuing, list); changed || err == nil {
			t.Errorf("SetCRL %s: %v, %v", name, changed, err)
		}
	}
	mine := h.issuing.Cert.Raw
	refuse("of another realm", other.issuing.Cert.Raw, other.crl(t, 100))
	refuse("with the wrong issuer", mine, other.crl(t, 100))
	refuse("bent", mine, bend(h.crl(t, 100)))
	refuse("empty", mine, nil)
	refuse("without issuer", nil, h.crl(t, 100))
	refuse("of the root", h.root.Cert.Raw, h.crl(t, 100))
	refuse("signed by a leaf", chain[0].Raw, h.crl(t, 100))
	// Whoever holds authd's own key can't revoke either.
	leafCA := &CA{Realm: h.root.Realm, Cert: h.authd, Key: h.issuing.Key}
	if der, err := leafCA.RevocationList(100, nil, noon); err == nil {
		refuse("signed by authd's certificate", h.authd.Raw, der)
	}

	// A second issuing CA takes over: its list is good for the first one's tokens.
	second, err := h.root.IssueCA(h.rand, noon, 0)
	if err != nil {
		t.Fatal(err)
	}
	der, err := second.RevocationList(7, nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := h.SetCRL(second.Cert.Raw, der); !changed || err != nil {
		t.Errorf("SetCRL of the second issuing CA: %v, %v", changed, err)
	}
	if err := h.Check(token, noon); err != nil {
		t.Errorf("token that is no longer on the list: %v", err)
	}
	for _, number := range []uint64{0, 1 << 63} {
		if _, err := h.issuing.RevocationList(number, nil, noon); err == nil {
			t.Errorf("a list with number %d is made", number)
		}
	}
}

// One entry is for all tokens of a device of an account, for that account. A
// list that is full names those that were shut out last.
func TestRevocationNamesDevices(t *testing.T) {
	h := newHouse(t, 1)
	chain := h.token(t)
	token, err := h.Device(chain, noon)
	if err != nil {
		t.Fatal(err)
	}
	if got := entryOf(wire.AccountID{15: 1}, wire.DeviceKey{31: 2}); got.String() != "63022554a1d190fd79092d3ec1d8c419" {
		t.Errorf("the entry is %v", got)
	}
	set := func(number uint64, revoked []Revoked) CRL {
		t.Helper()
		der, err := h.issuing.RevocationList(number, revoked, noon)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.SetCRL(h.issuing.Cert.Raw, der); err != nil {
			t.Fatal(err)
		}
		return h.CRL()
	}
	var daily []Revoked // none of them the token that is shown
	for i := range 40 {
		daily = append(daily, Revoked{Serial: Serial{1, byte(i)}, Account: token.Account, Key: token.Key, At: noon})
	}
	if got := set(1, daily); got.Len() != 1 || Entries(daily) != 1 {
		t.Errorf("%d entries for the tokens of one device", got.Len())
	}
	if err := h.Check(token, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("another token of the device: %v, want %v", err, ErrRevoked)
	}
	if _, err := h.Device(chain, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("its handshake: %v, want %v", err, ErrRevoked)
	}
	again := *token
	again.Account[0]++ // registered again, after the account was removed
	if err := h.Check(&again, noon); err != nil {
		t.Errorf("the same key with another account: %v", err)
	}

	var many []Revoked
	for i := range MaxRevoked + 100 {
		many = append(many, Revoked{Account: wire.AccountID{2}, Key: wire.DeviceKey{byte(i >> 8), byte(i), 31: 1}, At: noon.Add(time.Duration(i) * time.Second)})
	}
	shuffled := slices.Concat(many[700:], daily, many[:700])
	got := set(2, shuffled)
	if got.Len() != MaxRevoked || Entries(shuffled) != MaxRevoked+101 {
		t.Errorf("%d entries on a full list, of %d", got.Len(), Entries(shuffled))
	}
	for i, want := range map[int]bool{0: false, 99: false, 100: true, len(many) - 1: true} {
		if named := got.Revokes(&Token{Account: many[i].Account, Key: many[i].Key}); named != want {
			t.Errorf("device %d of %d is named: %v, want %v", i, len(many), named, want)
		}
	}
}

func TestNewcomer(t *testing.T) {
	h := newHouse(t, 1)
	self, err := SelfSigned(h.device)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := Newcomer([]*x509.Certificate{self}); err != nil || key != h.key() {
		t.Errorf("Newcomer = %v, %v", key, err)
	}
	bent, err := x509.ParseCertificate(bend(self.Raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, certs := range map[string][]*x509.Certificate{
		"none":  nil,
		"two":   {self, self},
		"bent":  {bent},
		"token": h.token(t),
		"leaf":  h.token(t)[:1],
	} {
		if key, err := Newcomer(certs); err == nil {
			t.Errorf("%s: Newcomer = %v", name, key)
		}
	}
}

func TestOfRootRefuses(t *testing.T) {
	h := newHouse(t, 1)
	self, err := SelfSigned(h.device)
	if err != nil {
		t.Fatal(err)
	}
	bent, err := x509.ParseCertificate(bend(h.root.Cert.Raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*x509.Certificate{
		"issuing CA": h.issuing.Cert, "authd": h.authd, "token": h.token(t)[0], "self-signed device": self, "bent": bent,
	} {
		if r, err := OfRoot(c); err == nil {
			t.Errorf("%s is the root of %v", name, r)
		}
	}
}

func TestClock(t *testing.T) {
	var c Clock
	want := func(local, want time.Time) {
		t.Helper()
		if got := c.Now(local); !got.Equal(want) {
			t.Errorf("Now(%v) = %v, want %v", local, got, want)
		}
	}
	want(noon, noon)
	// Set back, the machine's clock can't revive what has expired.
	c.Signed(noon)
	c.Signed(noon.Add(-time.Hour))
	want(noon.Add(-2*365*24*time.Hour), noon)
	want(noon.Add(time.Hour), noon.Add(time.Hour))
	// What authd answers overrules both, downwards too, and goes on from there.
	c.Answer(noon.Add(72*time.Hour), noon.Add(-time.Minute))
	want(noon.Add(72*time.Hour), noon.Add(-time.Minute))
	want(noon.Add(73*time.Hour), noon.Add(59*time.Minute))
	if got, want := c.Ahead(), 72*time.Hour+time.Minute; got != want {
		t.Errorf("Ahead() = %v, want %v", got, want)
	}
	c.Signed(noon.Add(time.Hour))
	want(noon.Add(72*time.Hour), noon.Add(-time.Minute))
}

func FuzzParseDeviceURI(f *testing.F) {
	good := deviceURI(wire.RealmID{1}, wire.AccountID{2}, wire.DeviceID{3})
	f.Add(good)
	f.Add(strings.ToUpper(good))
	f.Add(good + "/")
	f.Add("lanchat://x/authd")
	f.Fuzz(func(t *testing.T, s string) {
		id, a, d, err := parseDeviceURI(s)
		if err == nil && deviceURI(id, a, d) != s {
			t.Errorf("%q is read as %q", s, deviceURI(id, a, d))
		}
		if err != nil && (!id.IsZero() || !a.IsZero() || !d.IsZero()) {
			t.Errorf("%q: something is returned with %v", s, err)
		}
	})
}

func FuzzParseNameExtension(f *testing.F) {
	ext, _ := appendNameExtension("alice", 1)
	f.Add(ext.Value)
	f.Add(append(bytes.Clone(ext.Value), 0))
	for i := range ext.Value {
		f.Add(ext.Value[:i])
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		name, seq, err := parseNameExtension(der)
		if err != nil {
			return
		}
		again, err := appendNameExtension(name, seq)
		if err != nil || !bytes.Equal(again.Value, der) {
			t.Errorf("%x is read as %q, %d, which is written %x, %v", der, name, seq, again.Value, err)
		}
	})
}

func TestNameExtensionPrefixes(t *testing.T) {
	ext, err := appendNameExtension("alice", 300)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(ext.Value), "300b"+"0c05"+"616c696365"+"0202012c"; got != want {
		t.Errorf("extension %s, want %s", got, want)
	}
	for i := range ext.Value {
		if name, _, err := parseNameExtension(ext.Value[:i]); err == nil {
			t.Errorf("the first %d bytes are read as %q", i, name)
		}
	}
}

// FuzzDevice gives the verifier what a network gives TLS: certificates that
// parse. Nothing but the realm's own tokens may pass.
func FuzzDevice(f *testing.F) {
	h := newHouse(f, 1)
	token := h.token(f)
	self, _ := SelfSigned(h.device)
	for _, c := range []*x509.Certificate{token[0], h.issuing.Cert, h.root.Cert, h.authd, self} {
		f.Add(c.Raw)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if got, err := h.Device([]*x509.Certificate{c, h.issuing.Cert}, noon); err == nil && !bytes.Equal(der, token[0].Raw) {
			t.Errorf("%x is accepted as %v", der, got)
		}
		if err := h.Authd([]*x509.Certificate{c, h.issuing.Cert}, noon); err == nil && !bytes.Equal(der, h.authd.Raw) {
			t.Errorf("%x is accepted as authd", der)
		}
		Candidate([]*x509.Certificate{h.authd, c}, noon)
		Newcomer([]*x509.Certificate{c})
	})
}

func FuzzSetCRL(f *testing.F) {
	h := newHouse(f, 1)
	lists := [][]byte{h.crl(f, 1), h.crl(f, 2, Serial{1}, Serial{2})}
	for _, l := range lists {
		f.Add(l)
		f.Add(l[:len(l)/2])
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		v, err := NewVerifier(h.root.Cert)
		if err != nil {
			t.Fatal(err)
		}
		if changed, err := v.SetCRL(h.issuing.Cert.Raw, der); (err == nil) != changed {
			t.Errorf("SetCRL: %v, %v", changed, err)
		} else if changed && !bytes.Equal(der, lists[0]) && !bytes.Equal(der, lists[1]) {
			t.Errorf("%x is accepted as a revocation list", der)
		}
	})
}
