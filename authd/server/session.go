package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/authd/account"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

// A session is one connection. What it may ask for depends on how it came:
//
//	self-signed certificate          token, or one that ended ≤ 90 days ago
//	(a stranger, for 15 s)           (for as long as it likes)
//	  START … FINISH ─► GRANT          RENEW ─► GRANT
//	                                   PING ─► PONG
//	                                   ROSTER ─► ROSTER PAGE
//	                                   RENAME, PASSWORD, DEVICES, REVOKE (owner.go)
//	                                   ◄─ CRL, at once and whenever it changes
//	                                   MAIL KEY, RECIPIENT, DEPOSIT, MAILBOX, TAKEN (mailbox.go)
//	                                   ◄─ RENEW, when the account has another name
//	                                   ◄─ MAILBOX, when something comes for the device
type session struct {
	s      *Server
	conn   *quic.Conn
	key    wire.DeviceKey
	device wire.DeviceID
	token  atomic.Pointer[realm.Token] // nil for a stranger; RENEW replaces it

	mu      sync.Mutex
	owed    news // to the other side
	pushing bool // somebody is at that

	// With Server.mu:
	serial uint64           // of the roster, when this was last news
	addrs  []netip.AddrPort // where the device says it is
}

// news is what authd says unasked: any of these.
type news uint8

const (
	newList news = 1 << iota // there is a new revocation list
	newName                  // the account has another name than the token says
	newMail                  // something waits in the mailbox
)

// errMalformed says that a request was not understood.
var errMalformed = errors.New("request not understood")

// answer answers one request: one stream.
func (ses *session) answer(stream *quic.Stream) {
	defer stream.CancelRead(0) // nothing more is wanted, whatever was asked
	stream.SetDeadline(time.Now().Add(requestTime))

	reply, err := ses.reply(stream)
	if err != nil {
		reply = ses.refusal(err)
	}
	if err := link.WriteAuth(stream, reply); err != nil {
		stream.CancelWrite(0)
		return
	}
	stream.Close()
}

// reply reads a request, and for a log-in the rest of the conversation, and
// returns the answer.
func (ses *session) reply(stream *quic.Stream) (wire.AuthMessage, error) {
	m, err := link.ReadAuth(stream)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	token := ses.token.Load()
	switch m := m.(type) {
	case *wire.AuthStart:
		if token != nil {
			return nil, &account.Refusal{Code: wire.CodeBadRequest, Text: "this device is logged in: log out first"}
		}
		return ses.logIn(stream, m)
	case *wire.AuthRenew, *wire.AuthPing, *wire.AuthRoster, *wire.AuthRename, *wire.AuthPassword, *wire.AuthDevices, *wire.AuthRevoke,
		*wire.AuthMailKey, *wire.AuthRecipient, *wire.AuthDeposit, *wire.AuthMailbox, *wire.AuthTaken:
		if token == nil {
			return nil, &account.Refusal{Code: wire.CodeNotAuthenticated, Text: "log in first"}
		}
		now := ses.s.cfg.Now()
		acct, err := ses.allowed(now, token)
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *wire.AuthRenew:
			return ses.renew(now, acct)
		case *wire.AuthPing:
			return &wire.AuthPong{Nonce: m.Nonce, Time: wire.UnixMilli(now)}, nil
		case *wire.AuthRoster:
			return ses.s.page(ses, m, now), nil
		case *wire.AuthRename:
			return ses.rename(now, token, m)
		case *wire.AuthPassword:
			return ses.changePassword(stream, token)
		case *wire.AuthDevices:
			return ses.devices(now, token)
		case *wire.AuthRevoke:
			return ses.revoke(now, token, m)
		default:
			return ses.mailed(now, token, m)
		}
	}
	return nil, fmt.Errorf("%w: type %#02x at this point", errMalformed, m.FrameType())
}

// refusal puts an error into words for the other side, and into the log.
func (ses *session) refusal(err error) *wire.AuthRefusal {
	s := ses.s
	from := addrOf(ses.conn.RemoteAddr())
	m := &wire.AuthRefusal{}
	if r, ok := errors.AsType[*account.Refusal](err); ok {
		m.Code, m.Text = r.Code, r.Text
		if r.RetryAfter > 0 { // rounded up: a second too early is refused again
			m.RetryAfter = uint32(min(math.Ceil(r.RetryAfter.Seconds()), math.MaxUint32))
		}
		s.log.Info("refused", "code", m.Code, "from", from, "device", ses.device)
	} else if errors.Is(err, errMalformed) {
		m.Code, m.Text = wire.CodeBadRequest, "the request was not understood"
		s.stats.malformed.Add(1)
		s.log.Debug("malformed request", "from", from, "device", ses.device, "err", err)
	} else {
		m.Code, m.RetryAfter, m.Text = wire.CodeUnavailable, unavailable, "authd can't do this just now, try again later"
		level := slog.LevelError
		if errors.Is(err, account.ErrUnavailable) {
			s.stored(s.cfg.Now(), err) // which says it once
			level = slog.LevelDebug
		}
		s.log.Log(context.Background(), level, "answering a request", "from", from, "device", ses.device, "err", err)
	}
	s.stats.refuse(m.Code)
	return m
}

func (ses *session) source() netip.Addr { return addrOf(ses.conn.RemoteAddr()).Addr() }

// allowed returns the token's account if that and the device are still good. A
// token with an old name is, and the other side is told to renew it.
func (ses *session) allowed(now time.Time, token *realm.Token) (account.Account, error) {
	s := ses.s
	acct, err := s.reg.Allowed(now, token.Account, ses.key)
	_, refused := errors.AsType[*account.Refusal](err)
	if (refused || err == nil && token.NameSeq > acct.NameSeq) && s.verifier.Check(token, now) == nil {
		// Our own signature says more than the database: it may be an old one,
		// put back, or another authd's.
		again, aerr := s.reg.Readmit(now, realm.Grant{
			Serial: token.Serial, Account: token.Account, Key: ses.key, Name: token.Name, NameSeq: token.NameSeq,
			From: token.NotBefore.Add(realm.Backdate), NotAfter: token.NotAfter,
		})
		if aerr == nil {
			s.log.Warn("put on record again by its certificate", "user", again.Name, "before", token.Name, "device", ses.device, "from", ses.source())
			acct, err = again, nil
		} else if _, refused := errors.AsType[*account.Refusal](aerr); !refused {
			return account.Account{}, aerr
		}
	}
	if err == nil && acct.NameSeq > token.NameSeq {
		ses.tell(newName)
	}
	return acct, err
}

// logIn has the longer conversation: START is m, then CHALLENGE, FINISH, and
// the GRANT that it returns.
func (ses *session) logIn(stream *quic.Stream, m *wire.AuthStart) (wire.AuthMessage, error) {
	s := ses.s
	if m.Method != wire.AuthPrehash {
		return nil, &account.Refusal{Code: wire.CodeMethodUnknown, Text: "this realm does not know that way to log in: a newer authd is needed"}
	}
	stream.SetDeadline(time.Now().Add(strangerLife)) // the client hashes meanwhile

	now := s.cfg.Now()
	attempt, err := s.reg.Start(now, account.Request{
		Register: m.Kind == wire.AuthRegister, Recover: m.Kind == wire.AuthRecover, Name: m.Name, Invite: m.Invite, Source: ses.source(),
	})
	if err != nil {
		return nil, err
	}
	finish, err := challenged[*wire.AuthFinish](ses, stream, attempt, now)
	if err != nil {
		return nil, err
	}

	now = s.cfg.Now()
	grant, err := s.reg.Finish(now, attempt, finish.Prehash, ses.key, finish.Device)
	if err != nil {
		return nil, err
	}
	reply, err := ses.sign(now, grant)
	if err != nil {
		return nil, err
	}
	if grant.Registered {
		s.stats.registered.Add(1)
		s.log.Info("registered", "user", grant.Name, "device", ses.device, "from", ses.source())
	} else {
		s.stats.loggedIn.Add(1)
		s.log.Info("logged in", "user", grant.Name, "device", ses.device, "from", ses.source(), "with_code", m.Kind == wire.AuthRecover)
	}
	return reply, nil
}

func (ses *session) renew(now time.Time, acct account.Account) (wire.AuthMessage, error) {
	s := ses.s
	grant, err := s.reg.Renew(now, acct, ses.key, ses.source())
	if err != nil {
		return nil, err
	}
	reply, err := ses.sign(now, grant)
	if err != nil {
		return nil, err
	}
	s.stats.renewed.Add(1)
	s.log.Info("renewed", "user", grant.Name, "device", ses.device, "from", ses.source())
	return reply, nil
}

// sign makes the certificate that is on record.
func (ses *session) sign(now time.Time, grant *account.Grant) (*wire.AuthGrant, error) {
	s := ses.s
	ca := s.keys.issuer()
	cert, err := ca.IssueToken(nil, grant.Grant)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	if ses.token.Load() != nil {
		ses.token.Store(ca.Token(grant.Grant, cert)) // the roster shows it from now on
		s.mu.Lock()
		s.news(ses)
		s.mu.Unlock()
	}
	return &wire.AuthGrant{
		Leaf:    cert.Raw,
		Issuing: ca.Cert.Raw,
		Root:    s.keys.Realm.Root.Raw,
		CRL:     s.verifier.CRL().DER,
		Time:    wire.UnixMilli(now),
	}, nil
}

// tell has the other side told. It does not wait for that. A goroutine does it
// only while there is something to say: most of the time there is not.
func (ses *session) tell(n news) {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	ses.owed |= n
	if !ses.pushing {
		ses.pushing = true
		ses.s.work.Go(ses.push)
	}
}

// push says what is owed until nothing is.
func (ses *session) push() {
	for {
		ses.mu.Lock()
		owed := ses.owed
		ses.owed, ses.pushing = 0, owed != 0
		ses.mu.Unlock()
		if owed == 0 {
			return
		}
		for _, p := range []struct {
			of   news
			push func() error
		}{{newList, ses.pushCRL}, {newName, ses.pushRenew}, {newMail, ses.pushMailbox}} {
			if owed&p.of == 0 {
				continue
			}
			if err := p.push(); err != nil && ses.conn.Context().Err() == nil {
				ses.s.log.Debug("pushing news", "of", p.of, "device", ses.device, "err", err)
			}
		}
	}
}

func (ses *session) pushCRL() error {
	crl := ses.s.verifier.CRL()
	if crl.Number == 0 {
		return nil // none could be made so far; it will come
	}
	return ses.pushMessage(&wire.AuthCRL{Issuing: crl.Issuing, CRL: crl.DER, Time: wire.UnixMilli(ses.s.cfg.Now())})
}

// pushMessage sends a message on a stream of its own.
func (ses *session) pushMessage(m wire.AuthMessage) error {
	ctx, cancel := context.WithTimeout(ses.conn.Context(), pushTime)
	defer cancel()
	stream, err := ses.conn.OpenUniStreamSync(ctx)
	if err != nil {
		return err
	}
	stream.SetWriteDeadline(time.Now().Add(pushTime))
	if err := link.WriteAuth(stream, m); err != nil {
		stream.CancelWrite(0)
		return err
	}
	return stream.Close()
}

// page notes where the asker says it is, and returns the devices that are
// connected, after the given one, new since the serial and without the asker's
// own.
func (s *Server) page(asker *session, q *wire.AuthRoster, now time.Time) *wire.AuthRosterPage {
	var local []netip.Addr
	if s.cfg.LocalAddrs != nil {
		local = s.cfg.LocalAddrs()
	}
	askerLocal := asker.source().IsLoopback()

	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(asker.addrs, q.Addrs) {
		asker.addrs = q.Addrs
		s.news(asker)
	}
	p := &wire.AuthRosterPage{Serial: s.serial}
	_, i := s.find(q.After)
	for i < len(s.roster) {
		d := s.roster[i].device
		_, next := s.find(d)
		same := s.roster[i:next]
		i = next
		token := same[len(same)-1].token.Load()
		isNew := slices.ContainsFunc(same, func(ses *session) bool { return ses.serial > q.Since })
		if d == asker.device || !isNew || s.verifier.Check(token, now) != nil {
			continue
		}
		known := slices.ContainsFunc(p.Issuers, func(der []byte) bool { return slices.Equal(der, token.Issuing) })
		if len(p.Entries) == wire.MaxRosterEntries || !known && len(p.Issuers) == wire.MaxRosterIssuers {
			p.More = true
			break
		}
		if !known {
			p.Issuers = append(p.Issuers, token.Issuing)
		}
		p.Entries = append(p.Entries, wire.RosterEntry{Leaf: token.Leaf, Addrs: candidates(same, local, askerLocal)})
	}
	return p
}

// news gives a session the next serial, so that everybody hears of it who asks
// what is new. s.mu must be held.
func (s *Server) news(ses *session) {
	s.serial++
	ses.serial = s.serial
}

// candidates returns where the device of these sessions may be found, the
// newest first: where it was seen, then where it says it is. One that came over
// loopback is on this host, which has other addresses for askers elsewhere.
func candidates(sessions []*session, local []netip.Addr, askerLocal bool) []netip.AddrPort {
	var all []netip.AddrPort
	add := func(a netip.Addr, port uint16) {
		ap := netip.AddrPortFrom(a.WithZone(""), port)
		if len(all) < wire.MaxRosterAddresses && ap.IsValid() && !slices.Contains(all, ap) {
			all = append(all, ap)
		}
	}
	for _, ses := range slices.Backward(sessions) {
		ap := addrOf(ses.conn.RemoteAddr())
		if ap.Addr().IsLoopback() && !askerLocal {
			for _, a := range local {
				add(a.Unmap(), ap.Port())
			}
			continue
		}
		add(ap.Addr(), ap.Port())
	}
	for _, ses := range slices.Backward(sessions) {
		for _, ap := range ses.addrs {
			if a := ap.Addr(); a.IsGlobalUnicast() || a.IsLinkLocalUnicast() {
				add(a, ap.Port())
			}
		}
	}
	return all
}
