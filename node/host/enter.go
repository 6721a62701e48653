package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lanchat/node/chat"
	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/clean"
	"lanchat/wire/realm"
)

const (
	lookFor  = 2500 * time.Millisecond // before a missing authd is spoken of, or started here
	tryEvery = 2 * time.Second         // what is known of addresses is looked at again
	spread   = 5 * time.Millisecond    // for each known device: when authd is heard, all of them come

	maxTries  = 5  // with the same name and password, where authd goes away meanwhile
	maxAuthds = 16 // addresses tried at a time, of those that presence tells: anybody can
)

// ErrNoAuthd says that no authd was found in time.
var ErrNoAuthd = errors.New("no authd was found on this network: node doctor says why")

// Enter says how a node without a token gets one.
type Enter struct {
	Trust login.Trust
	// Asks says that Trust, Credentials or Offer ask the person, by what the
	// face reads from.
	Asks bool
	// Credentials returns what to log in with. problem is why the last try was
	// refused, nil at first. An error ends the node: the refusal itself where
	// nobody can be asked.
	Credentials func(ctx context.Context, r realm.Realm, problem error) (Credentials, error)
	// Own says that only what this device holds is wanted, its history say: a
	// token that has ended or was revoked does, and authd is not needed.
	Own bool
	// Patience is how long to look for an authd; 0: for ever.
	Patience time.Duration
	// Offer asks the person, when no authd answers, whether to start one
	// inside this process (Config.Host); nil: without asking.
	Offer func(ctx context.Context) bool
}

// Credentials is a person's name and password. It prints as [redacted].
type Credentials struct {
	Name, Password string
	Code           *realm.ResetCode // sets Password as a new one; nil: Password is the one there is
	Invite         []byte
	Device         string // what to call this device
	// Register makes the account; LogIn logs in to it. With both it is made
	// if it does not exist.
	Register, LogIn bool
}

func (Credentials) String() string   { return "[redacted]" }
func (Credentials) GoString() string { return "[redacted]" }

// enter gets a token unless there is one that can be used.
func (h *Host) enter(ctx context.Context) error {
	p := h.cfg.Profile
	if t := p.Token(); t != nil && (h.cfg.Enter.Own || p.Verifier().Check(t, p.Now()) == nil) {
		return nil
	}
	s, err := h.find(ctx)
	if err == ErrNoAuthd && h.revoked() {
		err = &login.RefusedError{Code: wire.CodeRevoked} // for all that is known
	}
	if err != nil {
		if ctx.Err() == nil {
			h.show(refusedEvent(err))
		}
		return err
	}
	if s.Token() != nil { // expired, and authd accepts it for a new one
		defer s.Close()
		_, err := s.Renew(ctx)
		return err
	}
	var problem error
	for {
		c, err := h.cfg.Enter.Credentials(ctx, s.Realm(), problem)
		if err != nil {
			s.Close()
			return err
		}
		problem = h.logIn(ctx, s, c)
		for try := 1; try < maxTries && lost(s, problem); try++ {
			s.Close()
			if s, err = h.find(ctx); err != nil {
				return err
			}
			problem = h.logInAgain(ctx, s, c)
		}
		if refused, ok := errors.AsType[*login.RefusedError](problem); ok && refused.Code == wire.CodeRevoked {
			// The password is right and the key was revoked before: with another
			// key this is another device.
			s.Close()
			if err := p.ReplaceKey(); err != nil {
				return err
			}
			if s, err = h.find(ctx); err != nil {
				return err
			}
			problem = h.logIn(ctx, s, c)
		}
		debug.FreeOSMemory() // hashing a password takes 64 MiB, which nothing else here needs
		if problem == nil {
			return s.Close()
		}
		h.show(refusedEvent(problem))
		s.Close()
		// A conversation serves one try.
		if s, err = h.find(ctx); err != nil {
			return err
		}
	}
}

// revoked reports whether the newest revocation list names this device. authd may
// have taken that back since.
func (h *Host) revoked() bool {
	t := h.cfg.Profile.Token()
	return t != nil && h.cfg.Profile.Verifier().CRL().Revokes(t)
}

// lost reports whether a log-in came to nothing since authd has gone, or did not
// wait for as long as the person took to type.
func lost(s *login.Session, err error) bool {
	if err == nil {
		return false
	}
	if refused, ok := errors.AsType[*login.RefusedError](err); ok {
		return refused.Code == wire.CodeUnavailable && refused.Err != nil // by the connection: authd is ending, or full
	}
	select {
	case <-s.Done():
		return true
	default:
		return errors.Is(err, login.ErrNoAnswer)
	}
}

// logInAgain is logIn after one whose answer was lost: that may have made the
// account, or set the password.
func (h *Host) logInAgain(ctx context.Context, s *login.Session, c Credentials) error {
	err := h.logIn(ctx, s, c)
	refused, ok := errors.AsType[*login.RefusedError](err)
	if !ok || refused.Code != wire.CodeNameTaken && (refused.Code != wire.CodeBadCredentials || c.Code == nil) {
		return err
	}
	if _, lerr := s.Login(ctx, c.Name, c.Password, c.Device); lerr == nil {
		return nil
	}
	return err
}

func (h *Host) logIn(ctx context.Context, s *login.Session, c Credentials) error {
	if c.Code != nil {
		_, err := s.Recover(ctx, c.Name, *c.Code, c.Password, c.Device)
		if refused, ok := errors.AsType[*login.RefusedError](err); ok && refused.Code == wire.CodeBadCredentials {
			refused.Err = errBadCode
		}
		return err
	}
	if c.Register {
		_, err := s.Register(ctx, c.Name, c.Password, c.Invite, c.Device)
		var refused *login.RefusedError
		if !errors.As(err, &refused) || refused.Code != wire.CodeNameTaken || !c.LogIn {
			return err
		}
	}
	_, err := s.Login(ctx, c.Name, c.Password, c.Device)
	return err
}

var errBadCode = errors.New("the user name or the one-time code is wrong, or the code was used or is older than a day: " +
	"whoever runs authd makes another, with authd user reset")

// refusedEvent returns what went wrong with authd as an event.
func refusedEvent(err error) chat.Error {
	code, text := "no_authd", err.Error()
	var refused *login.RefusedError
	switch {
	case errors.As(err, &refused):
		code, text = refused.Code.String(), RefusalWords(refused)
	case errors.Is(err, login.ErrFingerprintChanged):
		code = "fingerprint_changed"
	case errors.Is(err, login.ErrUntrusted):
		code = "untrusted"
	}
	if wrong, ok := errors.AsType[*realm.TimeError](err); ok {
		code, text = "clock", clockWords(wrong)
	}
	return chat.Error{Code: code, Text: clean.Text(text, 1000)}
}

// RefusalWords says what authd refused, and what to do.
func RefusalWords(r *login.RefusedError) string {
	switch r.Code {
	case wire.CodeBadCredentials:
		if r.Err != nil {
			return r.Err.Error()
		}
		return "the user name or the password is wrong: try again, or make a new account"
	case wire.CodeNameTaken:
		return "that user name is not available: choose another, or log in if it is yours"
	case wire.CodeBadName:
		if r.Err == nil {
			return "that user name is reserved: choose another"
		}
	case wire.CodeRateLimited:
		return fmt.Sprintf("too many tries: wait %v and try again", max(r.RetryAfter, time.Second).Round(time.Second))
	case wire.CodeAccountLocked:
		return "the account is locked after too many wrong passwords: whoever runs authd unlocks it, with authd user unlock"
	case wire.CodeRegistrationClosed:
		return "new accounts are made by whoever runs authd: ask there, with authd user add"
	case wire.CodeInviteNeeded:
		return "an invitation is needed: ask who runs authd for a join code that has one, and start with --join CODE"
	case wire.CodeTooManyDevices:
		return "the account has as many devices as it may: on one of them /sessions (or node sessions) lists them, and /sessions revoke DEVICE shuts one out; " +
			"whoever runs authd can, too, with authd device list and authd device revoke"
	case wire.CodeRevoked:
		return revokedWords
	case wire.CodeNotAuthenticated:
		if r.Err != nil { // in the handshake, which says no more
			return "authd does not accept this device's token: it was revoked, or ended more than 90 days ago; node logout, then node login with the password gets a new one"
		}
	case wire.CodeUnavailable:
		return "authd cannot do that just now: try again in a moment"
	}
	if r.Err != nil {
		return r.Err.Error()
	}
	return strings.TrimPrefix(r.Error(), r.Code.String()+": ")
}

// find looks for the realm's authd, or one that may be trusted, until one
// answers.
func (h *Host) find(ctx context.Context) (*login.Session, error) {
	ctx, cancel := context.WithCancel(ctx)
	var tries sync.WaitGroup
	defer tries.Wait()
	defer cancel()
	candidates := make(chan netip.AddrPort)
	results := make(chan tried)
	offer := func(a netip.AddrPort) {
		select {
		case candidates <- a:
		case <-ctx.Done():
		}
	}
	heard := make(chan struct{})
	tries.Go(func() {
		h.browse(ctx, offer, func() {
			select {
			case heard <- struct{}{}:
			case <-ctx.Done():
			}
		})
	})

	type state struct {
		trying   bool
		failures int
		next     time.Time // not before
	}
	states := map[netip.AddrPort]*state{}
	hinted, hopeful := targets{}, 0 // those that anybody can make up
	late := false                   // lookFor is over
	var answered atomic.Bool        // an authd is there, and the person is asked about it
	missing := time.NewTimer(lookFor)
	defer missing.Stop()
	var patience <-chan time.Time
	if h.cfg.Enter.Patience > 0 {
		patience = time.After(h.cfg.Enter.Patience)
	}
	var refused error
	wrongClock := false // was spoken of
	for {
		select {
		case a := <-candidates:
			st := states[a]
			if st == nil {
				if len(states) >= maxTargets {
					maps.DeleteFunc(states, func(_ netip.AddrPort, st *state) bool { return !st.trying })
				}
				st = new(state)
				states[a] = st
			}
			now := time.Now()
			if st.trying || now.Before(st.next) {
				continue
			}
			hint := !a.Addr().IsLoopback() && !slices.Contains(h.knownAuthds(), a)
			if hint {
				if hopeful >= maxStrangers || len(hinted.choose(now, []netip.AddrPort{a})) == 0 {
					continue
				}
				hopeful++
			}
			st.trying = true
			t := h.cfg.Enter.Trust
			if ask := t.Ask; ask != nil {
				t.Ask = func(r realm.Realm) bool {
					answered.Store(true)
					return h.hosted.is(r) || ask(r)
				}
			}
			tries.Go(func() {
				dctx, cancel := context.WithTimeout(ctx, login.Patience)
				if t.Ask != nil {
					dctx, cancel = context.WithCancel(ctx) // people take their time
				}
				defer cancel()
				s, err := login.Dial(dctx, h.transport, a, login.Config{Profile: h.cfg.Profile, Trust: t, OnCRL: func() { h.tryPost(h.newList) }, Logger: h.log})
				select {
				case results <- tried{s, a, err, hint}:
				case <-ctx.Done():
					if s != nil {
						s.Close()
					}
				}
			})
		case <-heard:
			for _, st := range states { // what it did before it was heard tells nothing any more
				st.failures, st.next = 0, time.Time{}
			}
		case r := <-results:
			if r.err == nil {
				return r.session, nil
			}
			if r.hint {
				answered := r.addr.Addr()
				if timeout, ok := errors.AsType[net.Error](r.err); ok && timeout.Timeout() || errors.Is(r.err, login.ErrNoAnswer) {
					answered = netip.Addr{}
				}
				hinted.done(time.Now(), []netip.AddrPort{r.addr}, answered)
				hopeful--
			}
			st := states[r.addr]
			st.trying = false
			st.failures++
			pause := login.Pause(st.failures)
			st.next = time.Now().Add(pause)
			h.log.Debug("trying an authd", "addr", r.addr, "err", r.err, "again", pause)
			if slices.Contains(h.knownAuthds(), r.addr) {
				tries.Go(func() {
					select {
					case <-time.After(pause):
						offer(r.addr)
					case <-ctx.Done():
					}
				})
			}
			if _, ok := errors.AsType[*realm.TimeError](r.err); ok && !wrongClock {
				wrongClock = true
				h.trouble(refusedEvent(r.err))
			}
			if fatal := h.judge(r); fatal != nil {
				refused = fatal
				// With a code or a fingerprint the right realm may yet answer.
				if late || h.cfg.Enter.Trust.Code == nil && h.cfg.Enter.Trust.Fingerprint == nil {
					return nil, fatal
				}
			}
		case <-missing.C:
			late = true
			if refused != nil {
				return nil, refused
			}
			if answered.Load() {
				continue
			}
			switch own, err := h.hostAuthd(ctx); {
			case err != nil:
				return nil, err
			case own.IsValid():
				tries.Go(func() { offer(own) })
			case h.core == nil:
				h.show(chat.Authd{State: "down", Addr: h.lastAuthd()})
				if h.revoked() {
					h.show(refusedEvent(&login.RefusedError{Code: wire.CodeRevoked}))
				}
			}
		case <-patience:
			if refused != nil {
				return nil, refused
			}
			return nil, ErrNoAuthd
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// trouble shows what is wrong with authd, before and after there is a core.
func (h *Host) trouble(e chat.Error) {
	if h.core == nil {
		h.show(e)
		return
	}
	h.post(func(time.Time) { h.core.HandleTrouble(e) })
}

// hostAuthd starts an authd inside this process, once and if the person wants
// it, and returns where it is. Its realm is the one to trust.
func (h *Host) hostAuthd(ctx context.Context) (netip.AddrPort, error) {
	if h.cfg.Host == nil || h.core != nil && h.cfg.Enter.Offer != nil {
		return netip.AddrPort{}, nil
	}
	if h.cfg.Enter.Offer != nil && !h.cfg.Enter.Offer(ctx) {
		h.cfg.Host = nil
		return netip.AddrPort{}, nil
	}
	addr, f, err := h.hosted.start(h.cfg.Host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	h.cfg.Host = nil
	h.cfg.Enter.Trust = login.Trust{Fingerprint: &f}
	return addr, nil
}

// A hosted is the realm of the authd inside this process. What was dialled
// before it started may reach it, and asks then for a realm that needs no
// asking.
type hosted struct {
	mu          sync.Mutex // held while it starts: until then nobody can tell
	fingerprint realm.Fingerprint
	started     bool
}

func (o *hosted) start(host func() (netip.AddrPort, realm.Fingerprint, error)) (netip.AddrPort, realm.Fingerprint, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	addr, f, err := host()
	o.fingerprint, o.started = f, err == nil
	return addr, f, err
}

func (o *hosted) is(r realm.Realm) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.started && r.Fingerprint() == o.fingerprint
}

type tried struct {
	session *login.Session
	addr    netip.AddrPort
	err     error
	hint    bool // the address is one that anybody can make up
}

// judge returns the error if it is for the person to decide, and nil if
// another address may yet do.
func (h *Host) judge(r tried) error {
	var changed *login.FingerprintChangedError
	var untrusted *login.UntrustedError
	var refused *login.RefusedError
	switch {
	case errors.As(r.err, &changed) && (changed.SameAddress || slices.Contains(h.cfg.Authds, r.addr)):
		return r.err
	case errors.As(r.err, &untrusted):
		return r.err
	case errors.As(r.err, &refused) && refused.Code == wire.CodeUnavailable:
		return nil // it is ending, or full
	case errors.As(r.err, &refused) && refused.RetryAfter == 0:
		return r.err
	}
	return nil
}

// browse offers addresses at which authd may be, again and again, until ctx
// ends: the ones given, or else the last good one and what discovery finds. It
// calls heard when the presence of an authd is there again.
func (h *Host) browse(ctx context.Context, offer func(netip.AddrPort), heard func()) {
	if len(h.cfg.Authds) == 0 {
		var browsing sync.WaitGroup
		defer browsing.Wait()
		browsing.Go(func() { h.cfg.Network.Browse(ctx, offer) })
	}
	tick := time.NewTicker(tryEvery)
	defer tick.Stop()
	for {
		for i, a := range h.knownAuthds() {
			if i == 1 && len(h.cfg.Authds) == 0 { // the last good one is preferred
				select {
				case <-time.After(stagger):
				case <-ctx.Done():
				}
			}
			offer(a)
		}
		select {
		case <-tick.C:
		case <-h.authdSeen:
			select {
			case <-time.After(rand.N(1 + time.Duration(h.met.Load())*spread)):
			case <-ctx.Done():
				return
			}
			heard()
		case <-ctx.Done():
			return
		}
	}
}

// knownAuthds returns the addresses given, or else the last good one and then
// what the presence of authds says.
func (h *Host) knownAuthds() []netip.AddrPort {
	if len(h.cfg.Authds) > 0 {
		return h.cfg.Authds
	}
	var addrs []netip.AddrPort
	if pin := h.cfg.Profile.Pin(); pin != nil && pin.Address.IsValid() {
		addrs = append(addrs, pin.Address)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, of := range h.authdAddrs {
		for _, a := range of {
			if len(addrs) < maxAuthds && !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// lastAuthd returns where authd was last found, "" if never.
func (h *Host) lastAuthd() string {
	if pin := h.cfg.Profile.Pin(); pin != nil && pin.Address.IsValid() {
		return pin.Address.String()
	}
	if len(h.cfg.Authds) > 0 {
		return h.cfg.Authds[0].String()
	}
	return ""
}
