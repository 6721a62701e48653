package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"lanchat/node/chat"
	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/clean"
	"lanchat/wire/realm"
)

// maxTries is how often a log-in is tried with the same name and password, where
// authd goes away meanwhile.
const maxTries = 5

// Enter says how a node without a token gets one.
type Enter struct {
	Trust login.Trust
	// Asks says that Trust, Credentials or Offer ask the person, by what the
	// face reads from.
	Asks bool
	// Credentials returns what to log in with. problem is why the last try was
	// refused, nil at first: who is asked is to be told. An error ends the node:
	// the refusal itself where nobody can be asked.
	Credentials func(ctx context.Context, r realm.Realm, problem error) (Credentials, error)
	// Own says that only what this device holds is wanted, its history say: a
	// token that has ended or was revoked does, and authd is not needed.
	Own bool
	// Patience is how long to look for an authd; 0: for ever.
	Patience time.Duration
	// Offer asks the person, when no authd answers, whether to start one
	// inside this process (Config.Host); nil: without asking. ctx ends when one
	// answers meanwhile.
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
		if !h.cfg.Enter.Asks { // else Credentials says it
			h.show(refusedEvent(problem))
		}
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

// trouble shows what is wrong with authd, before and after there is a core.
func (h *Host) trouble(e chat.Error) {
	if h.core == nil {
		h.show(e)
		return
	}
	h.post(func(time.Time) { h.core.HandleTrouble(e) })
}

// hostAuthd starts an authd inside this process, once, and returns where it is.
// Its realm is the one to trust.
func (h *Host) hostAuthd() (netip.AddrPort, error) {
	addr, f, err := h.hosted.start(h.cfg.Host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	h.cfg.Host = nil
	h.cfg.Enter.Trust = login.Trust{Fingerprint: &f}
	e := chat.Notice{Code: "hosting", Data: f.String(), Text: "an authd runs inside this program now: others join by starting node, and compare its fingerprint, " + f.String()}
	if h.core == nil {
		h.show(e)
	} else {
		h.post(func(time.Time) { h.show(e) })
	}
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
