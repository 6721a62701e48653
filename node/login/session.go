package login

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/quic-go/quic-go"

	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

// A Trust says which realm to trust when a profile has none yet. The first
// field that is set decides; the zero Trust trusts none.
type Trust struct {
	Code        *realm.JoinCode
	Fingerprint *realm.Fingerprint
	First       bool                   // whichever answers first
	Ask         func(realm.Realm) bool // may take as long as a person does
	// Replace lets Code or Fingerprint take the place of the realm that the
	// profile trusts already. Its token is removed.
	Replace bool
}

// wants returns the fingerprint that the realm must have.
func (t *Trust) wants() (realm.Fingerprint, bool) {
	switch {
	case t.Code != nil:
		return t.Code.Realm, true
	case t.Fingerprint != nil:
		return *t.Fingerprint, true
	}
	return realm.Fingerprint{}, false
}

// A Config says how to talk to authd.
type Config struct {
	Profile *Profile
	Trust   Trust
	// Fresh presents the bare device key even though there is a token: to log
	// in again.
	Fresh bool
	// Timeout bounds each request; 0 means 10 seconds. (The prehash is not
	// counted.)
	Timeout time.Duration
	// OnCRL is called when authd has pushed a new revocation list, which is in
	// force and stored by then. It must not block. nil: nobody wants to know.
	OnCRL func()
	// Logger gets what is odd but no error; nil discards.
	Logger *slog.Logger
}

func (c *Config) timeout() time.Duration {
	if c.Timeout == 0 {
		return 10 * time.Second
	}
	return c.Timeout
}

func (c *Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// A Session is a connection with the realm's authd. Its methods may be used
// from several goroutines.
type Session struct {
	config   Config
	conn     *quic.Conn
	addr     netip.AddrPort
	realm    realm.Realm
	token    *realm.Token // presented at the handshake; nil: a bare key
	pushes   sync.WaitGroup
	granting sync.Mutex
	stale    chan struct{} // authd wants the token renewed
	mail     chan struct{} // authd has mail for this device
}

// Dial connects to the authd at addr, if it is the one that is trusted. With a
// token it returns once authd has accepted that; without one authd has not yet
// been asked for anything.
//
// The errors that a program must tell apart: *FingerprintChangedError,
// *UntrustedError, *RefusedError, ErrNoAnswer; what else is wrong with the
// certificates wraps one of realm's errors.
func Dial(ctx context.Context, t *quic.Transport, addr netip.AddrPort, c Config) (*Session, error) {
	p := c.Profile
	found, token, conn, err := c.dial(ctx, t, addr, c.Trust)
	if errors.Is(err, errAsk) {
		// Nobody keeps a connection open while a person thinks. What may be
		// connected to then is exactly what the person was shown.
		if !c.Trust.Ask(found) {
			return nil, &UntrustedError{Realm: found, Address: addr, Declined: true}
		}
		f := found.Fingerprint()
		found, token, conn, err = c.dial(ctx, t, addr, Trust{Fingerprint: &f})
	}
	if err != nil {
		return nil, dialError(err)
	}
	s := &Session{config: c, conn: conn, addr: addr, realm: found, token: token, stale: make(chan struct{}, 1), mail: make(chan struct{}, 1)}
	if err := p.trust(found, addr, time.Now()); err != nil {
		s.Close()
		return nil, err
	}
	s.pushes.Go(s.receive)
	if s.token != nil {
		if _, err := s.Ping(ctx); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// errAsk says that the realm is not known and a person is to be asked.
var errAsk = errors.New("the person is to be asked")

// dial connects to what trust or the profile trusts. It returns the realm that
// was found, also when it is not trusted, and the token it presented, if any.
func (c *Config) dial(ctx context.Context, t *quic.Transport, addr netip.AddrPort, trust Trust) (
	found realm.Realm, token *realm.Token, conn *quic.Conn, err error) {
	p := c.Profile
	pin := p.Pin()
	wants, definite := trust.wants()
	if pin != nil && definite && !wants.Matches(pin.ID) {
		if !trust.Replace {
			return realm.Realm{}, nil, nil, changed(pin, wants, "", addr)
		}
		pin = nil
	}
	token, cert := p.present(c.Fresh || pin == nil)
	id := func() (*tls.Certificate, error) { return cert, nil }
	// The verdict is sent rather than shared: the handshake may still run when
	// a dial has been given up.
	type verdict struct {
		realm.Realm
		err error
	}
	verdicts := make(chan verdict, 1)
	conn, err = link.DialAuthd(ctx, t, addr, id, func(certs []*x509.Certificate) error {
		r, err := candidate(certs, p.Now(), p.machine())
		switch {
		case err != nil && pin != nil && r.ID != pin.ID && r.Root != nil:
			err = changed(pin, r.Fingerprint(), r.Name, addr)
		case err != nil:
			err = fmt.Errorf("the certificate of authd at %v: %w", addr, err)
		case pin != nil && r.ID == pin.ID:
		case pin != nil:
			err = changed(pin, r.Fingerprint(), r.Name, addr)
		case definite && wants.Matches(r.ID), !definite && trust.First:
		case !definite && trust.Ask != nil:
			err = errAsk
		default:
			err = &UntrustedError{Realm: r, Address: addr}
		}
		select {
		case verdicts <- verdict{r, err}:
		default:
		}
		return err
	})
	select {
	case v := <-verdicts:
		found = v.Realm
		if err != nil && v.err != nil {
			err = v.err // stands for itself, without what TLS makes of it
		}
	default:
	}
	return found, token, conn, err
}

// candidate judges authd's certificates by the realm's time or the machine's.
// The machine's is enough: else an authd whose clock was once far ahead would
// shut out everybody who has something signed by it, even after its clock was
// set right. Tokens of members are judged by the realm's time alone.
//
// The root that authd sends is the realm that it claims; the pin, which is a
// hash of the root's key, says whether to believe it.
//
// With a *realm.TimeError it returns the realm nevertheless.
func candidate(certs []*x509.Certificate, now, machine time.Time) (realm.Realm, error) {
	r, err := realm.Candidate(certs, now)
	if _, ok := errors.AsType[*realm.TimeError](err); ok {
		r, err = realm.Candidate(certs, machine)
	}
	if _, ok := errors.AsType[*realm.TimeError](err); ok {
		r, _ = realm.OfRoot(certs[len(certs)-1]) // Candidate has looked at it
	}
	return r, err
}

// Realm returns the realm of the session.
func (s *Session) Realm() realm.Realm { return s.realm }

// Addr returns where authd answered.
func (s *Session) Addr() netip.AddrPort { return s.addr }

// Token returns the token that the session was begun with; nil: none, and the
// session is good for Register and Login only.
func (s *Session) Token() *realm.Token { return s.token }

// Done is closed when the connection has ended.
func (s *Session) Done() <-chan struct{} { return s.conn.Context().Done() }

// Err returns why the connection has ended, or nil.
func (s *Session) Err() error {
	if s.conn.Context().Err() == nil {
		return nil
	}
	return connError(context.Cause(s.conn.Context()))
}

// Close says goodbye and returns when nothing of the session runs any more.
func (s *Session) Close() error {
	err := s.conn.CloseWithError(link.CloseGoodbye, "")
	s.pushes.Wait()
	return err
}

// Register makes an account and logs this device in. invite may be nil. The
// token is stored when it returns.
func (s *Session) Register(ctx context.Context, name, password string, invite []byte, device string) (*realm.Token, error) {
	return s.login(ctx, &wire.AuthStart{Kind: wire.AuthRegister, Method: wire.AuthPrehash, Name: name, Invite: invite}, password, device)
}

// Login logs this device in to an account. The token is stored when it
// returns.
func (s *Session) Login(ctx context.Context, name, password, device string) (*realm.Token, error) {
	return s.login(ctx, &wire.AuthStart{Kind: wire.AuthLogin, Method: wire.AuthPrehash, Name: name}, password, device)
}

func (s *Session) login(ctx context.Context, start *wire.AuthStart, password, device string) (*realm.Token, error) {
	if err := realm.CheckName(start.Name); err != nil {
		return nil, refusedHere(wire.CodeBadName, err)
	}
	if len(start.Invite) > wire.MaxInvite {
		return nil, refusedHere(wire.CodeInviteNeeded, fmt.Errorf("invite of %d bytes", len(start.Invite)))
	}
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	challenge, err := ask[*wire.AuthChallenge](c, start, false)
	if err != nil {
		return nil, err
	}
	if start.Kind != wire.AuthLogin {
		// An old password may be weaker than the policy of today.
		if _, err := realm.CheckPassword(password, realm.Challenge(challenge), start.Name, s.realm.Name, device); err != nil {
			return nil, refusedHere(wire.CodeWeakPassword, err)
		}
	}
	prehash, err := realm.Prehash(password, s.realm.ID, challenge.Salt)
	if err != nil {
		return nil, refusedHere(wire.CodeBadCredentials, err)
	}
	c.extend() // what the prehash took on a slow machine
	grant, err := ask[*wire.AuthGrant](c, &wire.AuthFinish{Prehash: prehash, Device: cut(device, wire.MaxDeviceName)}, true)
	if err != nil {
		return nil, err
	}
	t, err := s.accept(grant)
	if err == nil && t.Name != start.Name {
		err = fmt.Errorf("%w: token for %q instead of %q", ErrProtocol, t.Name, start.Name)
	}
	if err == nil {
		err = s.store(grant, t)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Renew gets a new token for the one that the session was begun with, which
// may have expired.
func (s *Session) Renew(ctx context.Context) (*realm.Token, error) {
	return s.newToken(ctx, &wire.AuthRenew{})
}

// newToken asks for another token for the one that the session was begun with,
// and stores it.
func (s *Session) newToken(ctx context.Context, m wire.AuthMessage) (*realm.Token, error) {
	if s.token == nil {
		return nil, ErrNoToken
	}
	s.granting.Lock() // that which authd granted last is stored last
	defer s.granting.Unlock()
	grant, err := request[*wire.AuthGrant](ctx, s, m)
	if err != nil {
		return nil, err
	}
	t, err := s.accept(grant)
	if err == nil && t.Account != s.token.Account {
		err = fmt.Errorf("%w: token for account %v instead of %v", ErrProtocol, t.Account, s.token.Account)
	}
	if err == nil {
		err = s.store(grant, t)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// accept verifies a token that authd has granted: that it is of this realm,
// for this device, and in force.
func (s *Session) accept(g *wire.AuthGrant) (*realm.Token, error) {
	var chain []*x509.Certificate
	for _, der := range [][]byte{g.Leaf, g.Issuing, g.Root} {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate: %v", ErrProtocol, err)
		}
		chain = append(chain, cert)
	}
	p := s.config.Profile
	s.answered(g.Time)
	t, err := p.Verifier().Device(chain, p.Now())
	if err != nil {
		return nil, fmt.Errorf("the granted token: %w", err)
	}
	if t.Key != p.DeviceKey() {
		return nil, fmt.Errorf("the granted token: %w", realm.ErrKeyMismatch)
	}
	return t, nil
}

// store puts a token that was verified, and what came with it, on disk.
func (s *Session) store(g *wire.AuthGrant, t *realm.Token) error {
	p := s.config.Profile
	if g.CRL != nil {
		if err := s.takeCRL(g.Issuing, g.CRL); err != nil {
			return err
		}
	}
	if err := p.setToken(t); err != nil {
		return err
	}
	s.found()
	return nil
}

// takeCRL takes in a list from authd. One that is older than what a peer has
// handed on is no error.
func (s *Session) takeCRL(issuing, list []byte) error {
	changed, err := s.config.Profile.SetCRL(issuing, list)
	if changed && s.config.OnCRL != nil {
		s.config.OnCRL()
	}
	if errors.Is(err, realm.ErrOldCRL) {
		s.config.logger().Info("authd has an old revocation list", "error", err)
		return nil
	}
	return err
}

// A Contact is a member's device that is connected to authd.
type Contact struct {
	Token *realm.Token
	Addrs []netip.AddrPort // candidates, never facts
}

// maxContacts bounds a roster; as many peers as a node knows at most.
const maxContacts = 16384

// Roster tells authd where this node can be dialled (at most
// wire.MaxRosterAddresses of mine count) and returns the other devices that
// are connected to it. since is what an earlier call in the same session
// returned as next: only what is new after it is wanted; zero: everybody. What
// does not verify is left out.
func (s *Session) Roster(ctx context.Context, since uint64, mine []netip.AddrPort) (contacts []Contact, next uint64, err error) {
	if s.token == nil {
		return nil, 0, ErrNoToken
	}
	q := &wire.AuthRoster{Since: since, Addrs: mine[:min(len(mine), wire.MaxRosterAddresses)]}
	p := s.config.Profile
	v, now := p.Verifier(), p.Now()
	for n := 0; n <= maxContacts; {
		page, err := request[*wire.AuthRosterPage](ctx, s, q)
		if err != nil {
			return nil, 0, err
		}
		if q.After.IsZero() {
			next = page.Serial
		}
		chain := make([]*x509.Certificate, 1, 1+len(page.Issuers))
		for _, der := range page.Issuers {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, 0, fmt.Errorf("%w: roster: %v", ErrProtocol, err)
			}
			chain = append(chain, cert)
		}
		for _, e := range page.Entries {
			n++
			if chain[0], err = x509.ParseCertificate(e.Leaf); err != nil {
				return nil, 0, fmt.Errorf("%w: roster: %v", ErrProtocol, err)
			}
			pub, ok := chain[0].PublicKey.(ed25519.PublicKey)
			if !ok {
				return nil, 0, fmt.Errorf("%w: roster: key of type %T", ErrProtocol, chain[0].PublicKey)
			}
			// Whether it verifies or not, it must lead on.
			device := wire.KeyOf(pub).Device()
			if bytes.Compare(device[:], q.After[:]) <= 0 {
				return nil, 0, fmt.Errorf("%w: roster out of order", ErrProtocol)
			}
			q.After = device
			t, err := v.Device(chain, now)
			switch {
			case err != nil:
				s.config.logger().Debug("roster entry left out", "error", err)
			case t.Key != p.DeviceKey():
				contacts = append(contacts, Contact{t, e.Addrs})
			}
		}
		if !page.More {
			return contacts, next, nil
		}
		if len(page.Entries) == 0 {
			return nil, 0, fmt.Errorf("%w: roster: empty page", ErrProtocol)
		}
	}
	return contacts, next, nil
}

// Ping asks authd for a sign of life and for the time, and returns the round
// trip. A session that answers is one whose token authd accepts.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	var nonce [8]byte
	rand.Read(nonce[:]) // never fails
	m := &wire.AuthPing{Nonce: binary.BigEndian.Uint64(nonce[:])}
	start := time.Now()
	pong, err := request[*wire.AuthPong](ctx, s, m)
	if err != nil {
		return 0, err
	}
	if pong.Nonce != m.Nonce {
		return 0, fmt.Errorf("%w: PONG to another PING", ErrProtocol)
	}
	s.answered(pong.Time)
	s.found()
	return time.Since(start), nil
}

// found remembers the address. A disk that is full must not end the session.
func (s *Session) found() {
	if err := s.config.Profile.found(s.addr); err != nil {
		s.config.logger().Warn("the address of authd is not kept", "error", err)
	}
}

// answered tells the realm's clock what authd says.
func (s *Session) answered(ms int64) {
	s.config.Profile.clock.Answer(s.config.Profile.machine(), time.UnixMilli(ms))
}

// receive takes in what authd pushes until the connection ends.
func (s *Session) receive() {
	for {
		stream, err := s.conn.AcceptUniStream(s.conn.Context())
		if err != nil {
			return
		}
		stream.SetReadDeadline(time.Now().Add(s.config.timeout()))
		m, err := link.ReadAuth(stream)
		stream.CancelRead(0)
		if err == nil {
			switch m := m.(type) {
			case *wire.AuthCRL:
				s.answered(m.Time)
				err = s.takeCRL(m.Issuing, m.CRL)
			case *wire.AuthRenew:
				select {
				case s.stale <- struct{}{}:
				default: // it is known
				}
			case *wire.AuthMailbox:
				select {
				case s.mail <- struct{}{}:
				default: // it is known
				}
			default:
				err = fmt.Errorf("%w: %T pushed", ErrProtocol, m)
			}
		}
		if err != nil && s.conn.Context().Err() == nil {
			s.config.logger().Warn("what authd pushed is left out", "error", err)
		}
	}
}

// A conversation is one stream with authd.
type conversation struct {
	ctx    context.Context
	s      *Session
	stream *quic.Stream
	stop   func() bool
}

func (s *Session) open(ctx context.Context) (*conversation, error) {
	wait, cancel := context.WithTimeout(ctx, s.config.timeout())
	defer cancel()
	stream, err := s.conn.OpenStreamSync(wait)
	if err != nil {
		return nil, connError(err)
	}
	c := &conversation{ctx: ctx, s: s, stream: stream}
	c.extend()
	c.stop = context.AfterFunc(ctx, func() { stream.SetDeadline(time.Unix(1, 0)) })
	return c, nil
}

// extend gives the conversation its full time again.
func (c *conversation) extend() {
	c.stream.SetDeadline(time.Now().Add(c.s.config.timeout()))
	if c.ctx.Err() != nil { // it may just have ended the stream's time
		c.stream.SetDeadline(time.Unix(1, 0))
	}
}

// end gives the stream back, whatever state it is in.
func (c *conversation) end() {
	c.stop()
	c.stream.CancelRead(0)
	c.stream.CancelWrite(0) // nothing to cancel after the last frame
}

// request has a conversation of one question and one answer.
func request[A wire.AuthMessage](ctx context.Context, s *Session, m wire.AuthMessage) (A, error) {
	c, err := s.open(ctx)
	if err != nil {
		var none A
		return none, err
	}
	defer c.end()
	return ask[A](c, m, true)
}

// ask writes a message and reads the answer, which must be an A or a refusal.
func ask[A wire.AuthMessage](c *conversation, m wire.AuthMessage, last bool) (A, error) {
	var none A
	if err := link.WriteAuth(c.stream, m); err != nil {
		return none, c.failure(err)
	}
	if last {
		// An error would be that authd has answered already and wants no more.
		c.stream.Close()
	}
	answer, err := link.ReadAuth(c.stream)
	if err != nil {
		return none, c.failure(err)
	}
	switch a := answer.(type) {
	case A:
		return a, nil
	case *wire.AuthRefusal:
		return none, &RefusedError{Code: a.Code, RetryAfter: time.Duration(a.RetryAfter) * time.Second, Text: a.Text}
	}
	return none, fmt.Errorf("%w: %T answered by %T", ErrProtocol, m, answer)
}

func (c *conversation) failure(err error) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return connError(err)
}

// cut returns the beginning of s, at most n bytes, as valid UTF-8.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	for len(s) > n {
		_, last := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-last]
	}
	return s
}
