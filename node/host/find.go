package host

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"lanchat/node/chat"
	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/realm"
)

const (
	lookFor  = 2500 * time.Millisecond // before a missing authd is spoken of, or started here
	tryEvery = 2 * time.Second         // what is known of addresses is looked at again
	spread   = 5 * time.Millisecond    // for each known device: when authd is heard, all of them come

	maxAuthds = 16 // addresses tried at a time, of those that presence tells: anybody can
)

// ErrNoAuthd says that no authd was found in time.
var ErrNoAuthd = errors.New("no authd was found on this network: node doctor says why")

// A search looks for the realm's authd: it dials every address it is offered,
// and again after a pause, until one answers. Its fields are owned by the
// goroutine of Host.find.
type search struct {
	h       *Host
	ctx     context.Context // of the search
	tries   sync.WaitGroup  // everything that goes on beside that goroutine
	offered chan netip.AddrPort
	results chan tried

	attempts map[netip.AddrPort]*attempt
	hinted   targets // those that anybody can make up, of which hopeful are being dialled
	hopeful  int

	late       bool            // lookFor is over
	refused    error           // by an authd, for the person to decide
	wrongClock bool            // was spoken of
	unanswered context.Context // ends when an authd is there; the person may be asked about it
	answered   func()          // ends it
	deciding   bool            // the person is asked whether to start an authd here
	decided    chan bool       // what the person said
}

// An attempt is what became of an address so far.
type attempt struct {
	trying   bool
	failures int
	next     time.Time // not before
}

// tried is the end of a dial.
type tried struct {
	session *login.Session
	addr    netip.AddrPort
	err     error
	hint    bool // the address is one that anybody can make up
}

// find looks for the realm's authd, or one that may be trusted, until one
// answers.
func (h *Host) find(ctx context.Context) (*login.Session, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &search{h: h, ctx: ctx, offered: make(chan netip.AddrPort), results: make(chan tried), decided: make(chan bool),
		attempts: map[netip.AddrPort]*attempt{}, hinted: targets{}}
	s.unanswered, s.answered = context.WithCancel(ctx)
	defer s.tries.Wait()
	defer cancel()
	heard := make(chan struct{})
	s.tries.Go(func() {
		h.browse(ctx, s.offer, func() {
			select {
			case heard <- struct{}{}:
			case <-ctx.Done():
			}
		})
	})
	missing := time.NewTimer(lookFor)
	defer missing.Stop()
	var patience <-chan time.Time
	if h.cfg.Enter.Patience > 0 {
		patience = time.After(h.cfg.Enter.Patience)
	}
	for {
		select {
		case a := <-s.offered:
			s.try(time.Now(), a)
		case <-heard:
			for _, t := range s.attempts { // what it did before it was heard tells nothing any more
				t.failures, t.next = 0, time.Time{}
			}
		case r := <-s.results:
			if r.err == nil {
				return r.session, nil
			}
			if err := s.failed(time.Now(), r); err != nil {
				return nil, err
			}
		case <-missing.C:
			if err := s.missing(); err != nil {
				return nil, err
			}
		case start := <-s.decided:
			s.deciding = false
			if err := s.alone(start); err != nil {
				return nil, err
			}
		case <-patience:
			if s.deciding {
				patience = time.After(time.Second)
				continue
			}
			return nil, cmp.Or(s.refused, ErrNoAuthd)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// offer has an address tried; it may be called from any goroutine.
func (s *search) offer(a netip.AddrPort) {
	select {
	case s.offered <- a:
	case <-s.ctx.Done():
	}
}

// try dials an address, unless that goes on or has to wait.
func (s *search) try(now time.Time, a netip.AddrPort) {
	t := s.attempts[a]
	if t == nil {
		if len(s.attempts) >= maxTargets {
			maps.DeleteFunc(s.attempts, func(_ netip.AddrPort, t *attempt) bool { return !t.trying })
		}
		t = new(attempt)
		s.attempts[a] = t
	}
	if t.trying || now.Before(t.next) {
		return
	}
	hint := !a.Addr().IsLoopback() && !slices.Contains(s.h.knownAuthds(), a)
	if hint {
		if s.hopeful >= maxStrangers || len(s.hinted.choose(now, []netip.AddrPort{a})) == 0 {
			return
		}
		s.hopeful++
	}
	t.trying = true
	trust := s.h.cfg.Enter.Trust
	if ask := trust.Ask; ask != nil {
		trust.Ask = func(r realm.Realm) bool {
			s.answered()
			return s.h.hosted.is(r) || ask(r)
		}
	}
	s.tries.Go(func() { s.dial(a, trust, hint) })
}

func (s *search) dial(a netip.AddrPort, trust login.Trust, hint bool) {
	ctx := s.ctx
	if trust.Ask == nil { // else people take their time
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, login.Patience)
		defer cancel()
	}
	session, err := login.Dial(ctx, s.h.transport, a, login.Config{Profile: s.h.cfg.Profile, Trust: trust,
		OnCRL: func() { s.h.tryPost(s.h.newList) }, Logger: s.h.log})
	if err == nil {
		s.answered()
	}
	select {
	case s.results <- tried{session, a, err, hint}:
	case <-s.ctx.Done():
		if session != nil {
			session.Close()
		}
	}
}

// failed notes that a dial was in vain. It returns what ends the search, if it
// has to.
func (s *search) failed(now time.Time, r tried) error {
	if r.hint {
		answered := r.addr.Addr()
		if timeout, ok := errors.AsType[net.Error](r.err); ok && timeout.Timeout() || errors.Is(r.err, login.ErrNoAnswer) {
			answered = netip.Addr{}
		}
		s.hinted.done(now, []netip.AddrPort{r.addr}, answered)
		s.hopeful--
	}
	t := s.attempts[r.addr]
	t.trying = false
	t.failures++
	pause := login.Pause(t.failures)
	t.next = now.Add(pause)
	s.h.log.Debug("trying an authd", "addr", r.addr, "err", r.err, "again", pause)
	if slices.Contains(s.h.knownAuthds(), r.addr) {
		s.tries.Go(func() {
			select {
			case <-time.After(pause):
				s.offer(r.addr)
			case <-s.ctx.Done():
			}
		})
	}
	if _, ok := errors.AsType[*realm.TimeError](r.err); ok && !s.wrongClock {
		s.wrongClock = true
		s.h.trouble(refusedEvent(r.err))
	}
	if fatal := s.h.judge(r); fatal != nil {
		s.refused = fatal
		// With a code or a fingerprint the right realm may yet answer.
		if trust := s.h.cfg.Enter.Trust; s.late || trust.Code == nil && trust.Fingerprint == nil {
			return fatal
		}
	}
	return nil
}

// missing is called once authd had lookFor to answer: one is started here, if the
// person wants it, or the person is told that there is none. It returns what ends
// the search, if it has to.
func (s *search) missing() error {
	s.late = true
	enter := &s.h.cfg.Enter
	switch {
	case s.refused != nil:
		return s.refused
	case s.unanswered.Err() != nil:
		return nil
	case s.h.cfg.Host == nil || enter.Offer != nil && s.h.core != nil:
		return s.alone(false)
	case enter.Offer == nil:
		return s.alone(true)
	}
	s.deciding = true
	s.tries.Go(func() {
		yes := enter.Offer(s.unanswered)
		select {
		case s.decided <- yes:
		case <-s.ctx.Done():
		}
	})
	return nil
}

// alone has an authd started here or not, where none answers.
func (s *search) alone(start bool) error {
	if s.unanswered.Err() != nil { // one does by now
		return nil
	}
	if start {
		own, err := s.h.hostAuthd()
		if err == nil {
			s.tries.Go(func() { s.offer(own) })
		}
		return err
	}
	s.h.cfg.Host = nil
	if s.h.core == nil {
		s.h.show(chat.Authd{State: "down", Addr: s.h.lastAuthd()})
		if s.h.revoked() {
			s.h.show(refusedEvent(&login.RefusedError{Code: wire.CodeRevoked}))
		}
	}
	return nil
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
