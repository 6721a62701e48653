package host

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/realm"
)

const (
	authdPing   = 5 * time.Second
	authdAnswer = 3 * time.Second
	takeOver    = 700 * time.Millisecond // before an authd that has just gone is spoken of: another may be there
	rosterEvery = 5 * time.Second        // for what is new
	rosterWhole = 2 * time.Minute        // for everybody: hints of them do not last longer
	renewEvery  = 24 * time.Hour         // at the latest; a short-lived token at half its life
	renewSpread = 10 * time.Minute
)

// keepAuthd keeps a connection with an authd of the realm until ctx ends: it
// tells the core when authd comes and goes, renews the token, and passes on
// who else is connected. The chat needs none of it.
//
// The news is calm: "down" once after a while without any authd, "up" once one
// answers. "changed" says that the one that answers is not where authd was
// before: it has moved, or another of the realm has taken over; that it answers
// at another of its addresses is no news. It comes after "up" if there was a
// "down", and alone if the other took over at once.
func (h *Host) keepAuthd(ctx context.Context) {
	told := ""               // the state last told, up or down
	var where netip.AddrPort // where authd answered last
	met := false             // the realm's own authd has answered since the start
	tell := func(state, addr string) {
		h.post(func(time.Time) {
			e := chat.Authd{State: state, Addr: addr, Fingerprint: h.cfg.Profile.Pin().Fingerprint().String()}
			h.core.HandleAuthd(e)
			if state == "changed" {
				e.State = "up" // for who asks how things stand
			}
			h.authd = e
			h.discovery.AuthdUp(e.State == "up")
		})
	}
	for ctx.Err() == nil {
		looking, cancel := context.WithCancel(ctx)
		missed := make(chan struct{})
		grace := lookFor
		if told == "up" {
			grace = takeOver
		}
		miss := time.AfterFunc(grace, func() {
			if told != "down" {
				told = "down"
				tell("down", h.lastAuthd())
			}
			close(missed)
		})
		s, err := h.find(looking)
		if !miss.Stop() {
			<-missed
		}
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				if refused, ok := errors.AsType[*login.RefusedError](err); ok && refused.Code == wire.CodeNotAuthenticated && h.revoked() {
					refused.Code = wire.CodeRevoked // the handshake says no more; the person was told
				}
				h.trouble(refusedEvent(err))
				if !met && errors.Is(err, login.ErrFingerprintChanged) {
					h.post(func(time.Time) { // a hard stop: this is not the realm
						if other, ok := errors.AsType[*login.FingerprintChangedError](err); ok {
							h.show(chat.Authd{State: "changed", Addr: other.Address.String(), Fingerprint: other.Found.String(), Other: true})
						}
						h.failed = err
					})
					return
				}
				select {
				case <-time.After(tryEvery):
				case <-ctx.Done():
				}
			}
			continue
		}
		met = true
		if told != "up" {
			told = "up"
			tell("up", s.Addr().String())
		}
		if where.IsValid() && !h.samePlace(where, s.Addr()) {
			tell("changed", s.Addr().String())
		}
		where = s.Addr()
		h.session.Store(s)
		h.post(func(now time.Time) { h.core.MailUp(now) })
		h.compareClocks()
		h.stay(ctx, s)
		h.session.Store(nil)
		h.post(func(time.Time) { h.core.MailDown() })
		if refused, ok := errors.AsType[*login.RefusedError](s.Err()); ok && refused.Code == wire.CodeRevoked {
			h.post(func(time.Time) { h.selfRevoked("") })
		}
		s.Close()
	}
}

// samePlace reports whether two addresses lead to one authd, as far as this
// machine and the presence of authds can tell.
func (h *Host) samePlace(a, b netip.AddrPort) bool {
	own := h.discovery.Addrs()
	h.mu.Lock()
	defer h.mu.Unlock()
	return samePlace(a, b, own, h.authdAddrs)
}

func samePlace(a, b netip.AddrPort, own []netip.Addr, heard map[wire.DeviceID][]netip.AddrPort) bool {
	here := func(a netip.AddrPort) bool {
		return a.Addr().IsLoopback() || slices.Contains(own, a.Addr().WithZone(""))
	}
	if a == b || a.Port() == b.Port() && here(a) && here(b) {
		return true
	}
	for _, addrs := range heard {
		if slices.Contains(addrs, a) && slices.Contains(addrs, b) {
			return true
		}
	}
	return false
}

// stay uses a session with authd until it ends.
func (h *Host) stay(ctx context.Context, s *login.Session) {
	ping := time.NewTicker(authdPing)
	defer ping.Stop()
	ctx, cancel := context.WithCancel(ctx)
	var passing sync.WaitGroup
	defer passing.Wait()
	defer cancel()
	passing.Go(func() { h.passOn(ctx, s) })
	renew := time.NewTimer(renewAfter(h.cfg.Profile.Token(), h.cfg.Profile.Now()))
	defer renew.Stop()
	for {
		select {
		case <-renew.C:
			t, err := s.Renew(ctx)
			if err != nil {
				h.log.Warn("renewing the token", "err", err)
				wait := authdPing
				if refused, ok := errors.AsType[*login.RefusedError](err); ok {
					wait = max(wait, refused.RetryAfter)
					h.trouble(refusedEvent(err))
				}
				renew.Reset(wait + rand.N(authdPing))
				continue
			}
			h.post(func(now time.Time) { h.newToken(now, t) })
			renew.Reset(renewAfter(t, h.cfg.Profile.Now()))
		case <-s.Mailed():
			h.post(func(now time.Time) { h.core.HandleMailbox(now) })
		case <-s.Stale():
			renew.Reset(0)
		case <-h.authdLost:
			if !answers(ctx, s) {
				return
			}
		case <-ping.C:
			if !answers(ctx, s) {
				return
			}
			h.compareClocks()
			if early(h.cfg.Profile.Token(), h.cfg.Profile.Now()) {
				renew.Reset(0)
			}
		case <-s.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

func answers(ctx context.Context, s *login.Session) bool {
	ctx, cancel := context.WithTimeout(ctx, authdAnswer)
	defer cancel()
	_, err := s.Ping(ctx)
	return err == nil
}

// early reports whether the token is not valid yet: authd's clock was ahead
// when it was made.
func early(t *realm.Token, now time.Time) bool { return now.Before(t.NotBefore.Add(-realm.Tolerance)) }

// renewAfter returns how long to wait before a token is renewed: until it is a
// day old, or has had half of a shorter life, and then up to ten minutes more
// (a twentieth of the life, if that is less), so that not everybody comes at
// once when authd has been away. One that is about to end, or not valid yet, does
// not wait.
// NotBefore lies realm.Tolerance before the start.
func renewAfter(t *realm.Token, now time.Time) time.Duration {
	begin := t.NotBefore.Add(realm.Tolerance)
	life := t.NotAfter.Sub(begin)
	spread := min(renewSpread, life/20)
	wait := max(begin.Add(min(renewEvery, life/2)).Sub(now), 0)
	if now.Add(wait+2*spread).After(t.NotAfter) || early(t, now) {
		return 0
	}
	return wait + rand.N(max(spread, 1))
}

// passOn hints at the devices that are connected to authd, for those that
// neither multicast nor mDNS shows, and tells authd where this one is, until
// ctx or the session ends.
func (h *Host) passOn(ctx context.Context, s *login.Session) {
	var known uint64
	var whole time.Time // when everybody was last asked for
	for {
		if now := time.Now(); now.Sub(whole) >= rosterWhole {
			known, whole = 0, now
		}
		var mine []netip.AddrPort
		for _, a := range h.discovery.Addrs() {
			mine = append(mine, netip.AddrPortFrom(a, h.port))
		}
		if contacts, next, err := s.Roster(ctx, known, mine); err != nil {
			h.log.Debug("asking authd for the roster", "err", err)
		} else {
			known = next
			h.hint(contacts)
		}
		select {
		case <-time.After(rosterEvery):
		case <-s.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

func (h *Host) hint(contacts []login.Contact) {
	var tokens []*realm.Token
	for _, c := range contacts {
		tokens = append(tokens, c.Token)
	}
	h.post(func(now time.Time) { h.core.HandleRoster(now, tokens) })
	for _, c := range contacts {
		if c.Token.Device != h.self {
			h.discovery.Vouch(c.Token.Device)
			h.discovery.Hint(presence.Hint{Device: c.Token.Device, Addrs: append([]netip.AddrPort{}, c.Addrs...), Via: presence.Authd})
		}
	}
}
