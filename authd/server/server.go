// Package server is authd's network side: it takes QUIC connections in, asks
// authd/account, and answers.
//
// It knows no rules about people and no SQL. It owns the realm's keys
// (keys.go) and signs what is on record, never the other way round. It has no
// TCP and no port of its own: the socket comes in, so that tests and
// `node --host` can run it inside their process.
//
// Start reading at [New] and [Server.Run]; session.go has the conversation.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/authd/account"
	"lanchat/authd/mailbox"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

// Discovery makes this authd known on the network and says goodbye at the end.
type Discovery interface {
	Run(ctx context.Context) error
	// Vouch says that tokens of these devices were verified, Unvouch that one
	// was revoked: how often everybody speaks up depends on how many there are.
	Vouch(devices ...wire.DeviceID)
	Unvouch(device wire.DeviceID)
}

// Config says what a Server works with.
type Config struct {
	// Keys are the realm's. Required. The caller closes them after Run.
	Keys *Keys
	// Store holds the accounts. Required. The caller closes it after Run.
	Store account.Store
	// Conn is the socket, bound to the wildcard address. Required. The caller
	// closes it after Run; nobody else uses it meanwhile.
	Conn net.PacketConn

	// Mail keeps what waits for devices that are away. Nil: nothing is kept.
	Mail mailbox.Store
	// Mailbox are the bounds of that.
	Mailbox mailbox.Config

	// Rules are those for accounts; Pepper and Invite are taken from Keys.
	Rules account.Config
	// MinPassword is how many characters a password must have, MinScore how
	// hard it must be to guess (zxcvbn, 0 to 4). Zero: 8 and 3, which is also
	// the least.
	MinPassword, MinScore int

	// Discovery runs beside the server. Nil: people are told the address.
	Discovery Discovery
	// LocalAddrs returns this host's addresses on the LAN, for the roster: a
	// node that came over loopback is to be found there by others. Nil: none.
	LocalAddrs func() []netip.Addr

	// MaxPerAddress is how many connections one address may have, MaxStrangers
	// how many may be open that have not shown a token (half of them are for the
	// first of an address), MaxKnown how many that have. Zero: 64, 512 and 16,384.
	MaxPerAddress, MaxStrangers, MaxKnown int

	// Now is the machine's clock. Nil: time.Now. Tests set it wrong.
	Now func() time.Time

	// Logger gets what happens. Nil discards.
	Logger *slog.Logger
}

// Time limits of the conversations.
const (
	strangerLife = 15 * time.Second // of a connection without a token
	requestTime  = 10 * time.Second // from the first byte of a request to its answer; a log-in has strangerLife
	pushTime     = 10 * time.Second // to take in a revocation list
	lookEvery    = 2 * time.Second  // for what the operator changed in the database
	retryCRL     = 5 * time.Second  // after a revocation list could not be made
	maintain     = time.Hour        // the certificates
	askAgain     = 24 * time.Hour   // for the root's key
	freshCRL     = 24 * time.Hour   // a new list at least, for the time it carries
	unavailable  = 30               // seconds until a client should try again
	maxPerDevice = 4                // connections of one device; the oldest gives way
)

// A Server serves one realm.
type Server struct {
	cfg      Config
	log      *slog.Logger
	keys     *Keys
	verifier *realm.Verifier
	gate     *gate
	stats    counters
	health   health
	reg      *account.Registrar
	mail     *mailbox.Mailbox // nil: no mail is kept

	changed chan struct{}  // accounts or devices have, by who is connected
	work    sync.WaitGroup // Run's goroutines; once it waits only they add to it

	mu     sync.Mutex
	roster []*session // with a token, in ascending order of device ids, older ones first
	serial uint64     // of the last news in roster
}

// New checks what a server needs and makes certificates that are missing or
// old. It starts nothing.
func New(cfg Config) (*Server, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	rules := cfg.Rules
	rules.Pepper = cfg.Keys.pepper
	rules.Invite = nil
	if rules.Registration == account.Invite {
		var err error
		if rules.Invite, err = cfg.Keys.Invite(); err != nil {
			return nil, err
		}
	}
	v, err := realm.NewVerifier(cfg.Keys.Realm.Root)
	if err != nil {
		return nil, fmt.Errorf("verifying the realm's root: %w", err)
	}
	s := &Server{
		cfg:      cfg,
		log:      log,
		keys:     cfg.Keys,
		verifier: v,
		changed:  make(chan struct{}, 1),
		reg:      account.New(rules, cfg.Store),
		gate: &gate{
			perAddr:   cmp.Or(cfg.MaxPerAddress, 64),
			strangers: cmp.Or(cfg.MaxStrangers, 512),
			known:     cmp.Or(cfg.MaxKnown, 16384),
			addrs:     make(map[netip.Addr]int),
			strange:   make(map[netip.Addr]int),
			nets:      make(map[netip.Prefix]int),
		},
	}
	if cfg.Mail != nil {
		s.mail = mailbox.New(cfg.Mailbox, cfg.Mail)
	}
	s.gate.perNet = max(s.gate.strangers/2, 1)
	if _, err := s.keys.Maintain(cfg.Now(), s.reg.TokenLife()); err != nil {
		return nil, err
	}
	s.askForRoot()
	return s, nil
}

// Realm returns the realm that is served.
func (s *Server) Realm() realm.Realm { return s.keys.Realm }

// Addr returns the socket's address.
func (s *Server) Addr() net.Addr { return s.cfg.Conn.LocalAddr() }

// Run serves until ctx is done; it then says goodbye to everybody and returns
// nil. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	reset := s.keys.reset
	tr := link.NewTransport(s.cfg.Conn, &reset)
	tr.VerifySourceAddress = link.RetryAlways
	tr.ConnContext = s.gate.admit
	s.publish(s.cfg.Now()) // a failure was logged and is tried again
	ln, err := link.ListenAuthd(tr, s.keys.identity, s.verifier, s.cfg.Now)
	if err != nil {
		tr.Close()
		return fmt.Errorf("listening: %w", err)
	}

	s.work.Go(func() { s.watch(ctx) })
	if s.cfg.Discovery != nil {
		s.work.Go(func() {
			if err := s.cfg.Discovery.Run(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("discovery stopped: nodes need --authd to find this server", "err", err)
			}
		})
	}

	for {
		var conn *quic.Conn
		if conn, err = ln.Accept(ctx); err != nil {
			break
		}
		s.work.Go(func() { s.serve(ctx, conn) })
	}
	if ctx.Err() != nil {
		err = nil
	}
	cancel()
	s.work.Wait() // every session says goodbye
	ln.Close()    // those that were not accepted yet
	if cerr := tr.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// serve looks after one connection until it ends.
func (s *Server) serve(ctx context.Context, conn *quic.Conn) {
	key, token, err := link.AuthdClient(conn, s.verifier, s.cfg.Now())
	if err != nil {
		conn.CloseWithError(link.CloseRevoked, "") // by a list that came during the handshake
		return
	}
	ses := &session{s: s, conn: conn, key: key, device: key.Device()}
	ses.token.Store(token)
	var streams sync.WaitGroup
	defer streams.Wait()
	if token == nil {
		t := time.AfterFunc(strangerLife, func() { conn.CloseWithError(link.CloseIdle, "") })
		defer t.Stop()
		s.stats.strangers.Add(1)
		defer s.stats.strangers.Add(-1)
	} else {
		if t, ok := conn.Context().Value(ticketKey{}).(*ticket); !ok || !t.showToken() {
			conn.CloseWithError(link.CloseRefused, "")
			return
		}
		s.enter(ses)
		defer s.leave(ses)
		ses.tell(newList)
	}
	for {
		stream, err := conn.AcceptStream(ctx)
		if err != nil {
			conn.CloseWithError(link.CloseGoodbye, "") // nothing, unless it is us who end
			return
		}
		streams.Go(func() { ses.answer(stream) })
	}
}

// enter puts a session on the roster.
func (s *Server) enter(ses *session) {
	s.mu.Lock()
	first, after := s.find(ses.device)
	s.roster = slices.Insert(s.roster, after, ses)
	s.news(ses)
	var oldest *session
	if after+1-first > maxPerDevice {
		oldest = s.roster[first]
	}
	s.mu.Unlock()
	if s.cfg.Discovery != nil {
		s.cfg.Discovery.Vouch(ses.device)
	}
	if oldest != nil {
		oldest.conn.CloseWithError(link.CloseReplaced, "")
	}
}

func (s *Server) leave(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.roster, ses); i >= 0 {
		s.roster = slices.Delete(s.roster, i, i+1)
	}
}

// find returns where the device's sessions begin and end on the roster. s.mu
// must be held.
func (s *Server) find(d wire.DeviceID) (first, after int) {
	first, _ = slices.BinarySearchFunc(s.roster, d, func(ses *session, d wire.DeviceID) int {
		return slices.Compare(ses.device[:], d[:])
	})
	for after = first; after < len(s.roster) && s.roster[after].device == d; after++ {
	}
	return first, after
}

// sessions returns who is connected with a token.
func (s *Server) sessions() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.roster)
}

// look has the revocation list and those who are connected looked at at once.
func (s *Server) look() {
	select {
	case s.changed <- struct{}{}:
	default: // watch will see this one too
	}
}

// watch keeps certificates and revocation list current.
func (s *Server) watch(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	seen, _ := s.cfg.Store.Version()
	// By the wall clock, so that setting that right mends at once what was
	// signed while it was wrong.
	maintained := s.cfg.Now().Round(0)
	published, asked := maintained, maintained
	owed := s.verifier.CRL().Number == 0
	for {
		due := false
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-s.changed:
			due = true // somebody's own doing
		}
		now := s.cfg.Now().Round(0)
		if now.Sub(maintained).Abs() >= maintain {
			maintained = now
			changed, err := s.keys.Maintain(now, s.reg.TokenLife())
			if err != nil {
				s.log.Error("keeping the certificates current", "err", err)
			}
			due = due || changed
			s.sweepMail(now)
			if now.Sub(asked).Abs() >= askAgain {
				asked = now
				s.askForRoot()
			}
		}
		if v, err := s.cfg.Store.Version(); err == nil && v != seen {
			seen, due = v, true // the operator's doing
		}
		since := now.Sub(published).Abs()
		trouble, _ := s.health.state() // a list is numbered in the store, so one shows whether it works
		if due || since >= freshCRL || (owed || trouble != "") && since >= retryCRL {
			published = now
			owed = s.publish(now) != nil
			s.recheck(now)
		}
	}
}

// askForRoot says when the root's key, which is kept elsewhere, is needed.
func (s *Server) askForRoot() {
	if by := s.keys.RootNeeded(); !by.IsZero() {
		s.log.Warn("the realm's root key is needed soon: put root.pem with its key back and restart authd, then take the key out again", "before", by)
	}
}

// publish makes a new revocation list and gives it to who is connected. An
// error has been logged.
func (s *Server) publish(now time.Time) error {
	number, revoked, err := s.reg.CRL(now)
	s.stored(now, err)
	var der []byte
	ca := s.keys.issuer()
	if err == nil {
		der, err = ca.RevocationList(number, revoked, now)
	}
	if err == nil {
		_, err = s.verifier.SetCRL(ca.Cert.Raw, der)
	}
	if err != nil {
		if !errors.Is(err, account.ErrUnavailable) {
			s.log.Error("making the revocation list", "err", err)
		}
		return err
	}
	s.log.Debug("revocation list", "number", number, "revoked", len(revoked))
	if n := realm.Entries(revoked); n > realm.MaxRevoked {
		s.log.Warn("more devices were shut out than the revocation list names: authd refuses all of them, nodes only those shut out last", "shut_out", n, "named", realm.MaxRevoked)
	}
	for _, ses := range s.sessions() {
		ses.tell(newList)
	}
	return nil
}

// recheck closes the connections of who may not have one any more, and has
// those renew whose name has changed.
func (s *Server) recheck(now time.Time) {
	for _, ses := range s.sessions() {
		_, err := ses.allowed(now, ses.token.Load())
		if _, refused := errors.AsType[*account.Refusal](err); refused {
			ses.conn.CloseWithError(link.CloseRevoked, "")
			if s.cfg.Discovery != nil {
				s.cfg.Discovery.Unvouch(ses.device)
			}
		}
	}
}

// Stats are numbers about a running server, for metrics and status.
type Stats struct {
	Online     int // devices connected with a token
	Strangers  int // connections without one
	Registered uint64
	LoggedIn   uint64
	Renewed    uint64
	Malformed  uint64               // requests that were not understood
	Refused    map[wire.Code]uint64 // requests that a rule said no to
	Mail       mailbox.Usage        // what waits for devices that are away
	// Trouble is why the store takes nothing just now, "" while it does, and
	// TroubleSince since when.
	Trouble      string
	TroubleSince time.Time
	// RootNeeded is when authd ends to work unless the root's key, which is
	// kept elsewhere, is put back; zero while that is far away.
	RootNeeded time.Time
}

// counters are Stats as they are counted.
type counters struct {
	strangers                                atomic.Int64
	registered, loggedIn, renewed, malformed atomic.Uint64

	mu      sync.Mutex
	refused map[wire.Code]uint64
}

func (c *counters) refuse(code wire.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = make(map[wire.Code]uint64)
	}
	c.refused[code]++
}

// Stats returns how the server is doing. It may be called from any goroutine.
func (s *Server) Stats() Stats {
	st := Stats{
		Strangers:  int(s.stats.strangers.Load()),
		Registered: s.stats.registered.Load(),
		LoggedIn:   s.stats.loggedIn.Load(),
		Renewed:    s.stats.renewed.Load(),
		Malformed:  s.stats.malformed.Load(),
		Refused:    make(map[wire.Code]uint64),
		RootNeeded: s.keys.RootNeeded(),
	}
	if st.Trouble, st.TroubleSince = s.health.state(); st.Trouble == "" {
		st.TroubleSince = time.Time{}
	}
	st.Mail = s.mailUsage()
	s.mu.Lock()
	for i, ses := range s.roster {
		if i == 0 || s.roster[i-1].device != ses.device {
			st.Online++
		}
	}
	s.mu.Unlock()
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	for code, n := range s.stats.refused {
		st.Refused[code] = n
	}
	return st
}
