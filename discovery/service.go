package discovery

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lanchat/discovery/presence"
	"lanchat/wire"
)

// How often a Service does things that nothing asks for.
const (
	pollPeriod    = time.Second            // looks at the interfaces
	rejoinEvery   = 2 * time.Minute        // says that it is in the group; switches remember it for about four
	rejoinPause   = 5 * time.Second        // at least, when it is asked to
	sleepGap      = 3 * time.Second        // of the wall clock beyond the running time: the machine slept
	heardInterval = 500 * time.Millisecond // Heard of one device is handed on at most this often
)

// Config is what a Service needs to know.
type Config struct {
	Realm wire.RealmID
	Key   ed25519.PrivateKey // of the device, or authd's server key
	Boot  uint64             // strictly higher at each start of the device
	Role  wire.Role          // zero means RoleNode
	Port  uint16             // of the QUIC socket

	// TokenHash returns the hash of the token held now; nil means none. It is
	// called by the goroutine of Run.
	TokenHash func() wire.TokenHash

	// Ifaces names the only interfaces to be used; empty means every LAN.
	Ifaces []string

	// MDNS makes the device visible by mDNS, and a node ask for others. Of
	// networks only System has it.
	MDNS bool

	// Net is the network; nil means System.
	Net Net

	// Handle is told what happens, in order, by the goroutine of Run. It must
	// return at once. It may call the Service's methods.
	Handle func(presence.Event)

	// Packet is given the group's datagrams that are no presence packets,
	// one's own included, and owns data. from has a zone where it needs one.
	// It is called by the goroutines that read the sockets, several at a
	// time, with nothing in between; so it must return at once: post to a
	// queue with a bound, drop and count what does not fit. nil drops them.
	Packet func(data []byte, from netip.AddrPort, link int)

	// Logger is told what an operator can do something about; nil discards.
	Logger *slog.Logger

	// Rand is the source of jitter; nil means crypto/rand.
	Rand io.Reader
}

// A Service keeps saying that this device is there and tells who else is.
//
// One goroutine, that of Run, owns the presence.Tracker; each socket has a
// reader. Its methods may be called from any goroutine and never wait for the
// network.
type Service struct {
	c     Config
	group *group
	mdns  mdnsCounters
	skip  atomic.Pointer[[]presence.Skipped]
	links atomic.Pointer[[]presence.Link]

	authdUp atomic.Bool

	mu       sync.Mutex
	calls    []func(*presence.Tracker, time.Time) // waiting for the loop
	heard    map[heardKey]time.Time               // handed on lately
	tracked  presence.Stats
	rejoined time.Time     // when it was last said that this machine is in the group
	wake     chan struct{} // has a value when calls has
	ended    chan struct{} // closed when Run has ended
}

type heardKey struct {
	device wire.DeviceID
	via    presence.Via
}

// Stats counts what a Service did since it was made.
type Stats struct {
	Presence   presence.Stats
	Received   uint64 // datagrams from the group
	TooLong    uint64 // of them, over 1500 bytes
	Dropped    uint64 // of them, presence packets that the loop had no room for
	Overrun    uint64 // that the sockets had no room for
	Sent       uint64 // datagrams, one a link and family
	SendErrors uint64
	MDNS       MDNSStats
}

// New returns a Service that does nothing until Run.
func New(c Config) *Service {
	if c.Role == 0 {
		c.Role = wire.RoleNode
	}
	if c.Net == nil {
		c.Net = System{}
	}
	if c.Handle == nil {
		c.Handle = func(presence.Event) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	s := &Service{c: c, wake: make(chan struct{}, 1), ended: make(chan struct{}), heard: make(map[heardKey]time.Time)}
	s.group = newGroup(c.Net, c.Realm, c.Packet, c.Logger)
	s.links.Store(new([]presence.Link))
	s.skip.Store(new([]presence.Skipped))
	return s
}

// Run lives on the network until ctx ends, then says goodbye. It returns nil
// when everything it started has ended. It is called once.
func (s *Service) Run(ctx context.Context) error {
	defer close(s.ended)
	tracker := presence.New(presence.Config{Realm: s.c.Realm, Key: s.c.Key, Boot: s.c.Boot, Role: s.c.Role,
		Port: s.c.Port, Token: s.c.TokenHash, Rand: s.c.Rand})
	m := s.newMDNS()
	defer m.close()
	defer s.group.closeAll()

	poll := time.NewTicker(pollPeriod)
	defer poll.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	rejoin := time.NewTicker(rejoinEvery)
	defer rejoin.Stop()
	polled := time.Now()
	s.look(tracker, m, polled, false)
	for {
		s.perform(tracker)
		timer.Stop()
		if d := tracker.Deadline(); !d.IsZero() {
			timer.Reset(time.Until(d))
		}
		select {
		case p := <-s.group.inbound:
			tracker.Receive(time.Now(), p.data, p.from, p.link)
		case <-s.wake:
			now := time.Now()
			for _, f := range s.takeCalls() {
				f(tracker, now)
			}
		case <-timer.C:
			tracker.Advance(time.Now())
		case <-poll.C:
			now := time.Now()
			// The monotonic clock stands still while a machine sleeps.
			slept := now.Round(0).Sub(polled.Round(0))-now.Sub(polled) > sleepGap
			polled = now
			s.look(tracker, m, now, slept)
			s.forgetHeard(now)
		case <-rejoin.C:
			s.rejoin(time.Now())
		case <-ctx.Done():
			tracker.Stop(time.Now())
			s.perform(tracker)
			return nil
		}
	}
}

// perform does what the tracker wants done, in order.
func (s *Service) perform(t *presence.Tracker) {
	for _, o := range t.Take() {
		switch o := o.(type) {
		case presence.Packet:
			s.group.multicast(o.Data, o.Link)
		case presence.Event:
			s.c.Handle(o)
		}
	}
	now := time.Now()
	for _, gl := range *s.group.links.Load() {
		if need := t.NeedsIPv6(now, gl.Index); need != gl.both.Load() {
			gl.both.Store(need)
		}
	}
	s.mu.Lock()
	s.tracked = t.Stats()
	s.mu.Unlock()
}

// look looks at the interfaces and brings the sockets in line. After a sleep
// everything is made anew.
func (s *Service) look(t *presence.Tracker, m *mdnsLinks, now time.Time, slept bool) {
	all, err := s.c.Net.Interfaces()
	if err != nil {
		s.c.Logger.Warn("looking at the interfaces", "err", err)
		return
	}
	links, skipped := Usable(all, s.c.Ifaces)
	s.skip.Store(&skipped)
	if slept {
		t.SetLinks(now, nil)
	}
	same := slices.EqualFunc(links, s.Links(), presence.Link.Equal)
	changed := s.group.setLinks(links, slept)
	s.links.Store(&links)
	t.SetLinks(now, links)
	if changed && same && !slept {
		t.Probe(now) // a socket that failed works now
	}
	m.setLinks(links, slept)
	m.authdKnown.Store(s.authdUp.Load() || t.AuthdAlive())
}

// rejoin says on every link that this machine is in the group.
func (s *Service) rejoin(now time.Time) {
	s.mu.Lock()
	due := now.Sub(s.rejoined) >= rejoinPause
	if due {
		s.rejoined = now
	}
	s.mu.Unlock()
	if due {
		s.group.rejoin()
	}
}

// post has f called by the loop.
func (s *Service) post(f func(*presence.Tracker, time.Time)) {
	s.mu.Lock()
	s.calls = append(s.calls, f)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Service) takeCalls() []func(*presence.Tracker, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// Multicast sends a datagram of at most 1500 bytes to the realm's group, once
// on every link, and does not keep b.
func (s *Service) Multicast(b []byte) { s.group.multicast(b, 0) }

// Heard says that something authenticated came from the device, over QUIC or,
// in a room, by Multicast. It is cheap enough for every packet.
func (s *Service) Heard(device wire.DeviceID, via presence.Via) {
	now := time.Now()
	k := heardKey{device, via}
	s.mu.Lock()
	last, ok := s.heard[k]
	if ok && now.Sub(last) < heardInterval {
		s.mu.Unlock()
		return
	}
	s.heard[k] = now
	s.mu.Unlock()
	s.post(func(t *presence.Tracker, _ time.Time) { t.Heard(now, device, via) })
}

func (s *Service) forgetHeard(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, at := range s.heard {
		if now.Sub(at) >= heardInterval {
			delete(s.heard, k)
		}
	}
}

// Linked says that there is an authenticated QUIC connection with the device.
// Answer its Ping events from now on.
func (s *Service) Linked(device wire.DeviceID) {
	s.post(func(t *presence.Tracker, now time.Time) { t.Linked(now, device) })
}

// Unlinked says that there is none any more.
func (s *Service) Unlinked(device wire.DeviceID) {
	s.post(func(t *presence.Tracker, now time.Time) { t.Unlinked(now, device) })
}

// Goodbye says that the device said goodbye over QUIC.
func (s *Service) Goodbye(device wire.DeviceID) {
	s.post(func(t *presence.Tracker, now time.Time) { t.Goodbye(now, device) })
}

// Vouch says that tokens of these devices were checked, so that they are no
// strangers (see presence.Tracker). Call it for a roster: the realm's pace
// depends on it beyond a hundred nodes.
func (s *Service) Vouch(devices ...wire.DeviceID) {
	s.post(func(t *presence.Tracker, _ time.Time) {
		for _, d := range devices {
			t.Vouch(d)
		}
	})
}

// Unvouch takes Vouch back: the token was revoked or has expired.
func (s *Service) Unvouch(device wire.DeviceID) {
	s.post(func(t *presence.Tracker, _ time.Time) { t.Unvouch(device) })
}

// Hint says that a device may be found somewhere.
func (s *Service) Hint(h presence.Hint) {
	s.post(func(t *presence.Tracker, now time.Time) { t.Hint(now, h) })
}

// Probe asks on every link who is there, at most about every two seconds.
func (s *Service) Probe() {
	s.post(func(t *presence.Tracker, now time.Time) { t.Probe(now) })
}

// Rejoin says again that this machine is in the group, as it does every few minutes
// anyway: for who looks why nobody is heard. It is said when Rejoin returns.
func (s *Service) Rejoin() { s.rejoin(time.Now()) }

// AuthdUp says whether the program has a connection with authd. While it has
// none, and none is heard by multicast, mDNS is asked at least every 5 s.
func (s *Service) AuthdUp(up bool) { s.authdUp.Store(up) }

// Links returns the links in use. The caller must not change them.
func (s *Service) Links() []presence.Link { return *s.links.Load() }

// Addrs returns this machine's addresses on the links in use, those of loopback
// left out: where others can dial it.
func (s *Service) Addrs() (addrs []netip.Addr) {
	for _, l := range s.Links() {
		if l.Loopback {
			continue
		}
		for _, p := range l.Prefixes {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs
}

// Skipped returns the interfaces that are not used, and why.
func (s *Service) Skipped() []presence.Skipped { return *s.skip.Load() }

// Peers returns what is known of every device, in no order; nil when Run has
// ended or ctx does.
func (s *Service) Peers(ctx context.Context) []presence.Peer {
	answer := make(chan []presence.Peer, 1)
	s.post(func(t *presence.Tracker, now time.Time) { answer <- t.Peers(now) })
	select {
	case peers := <-answer:
		return peers
	case <-s.ended:
	case <-ctx.Done():
	}
	return nil
}

// Stats returns the counters.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	tracked := s.tracked
	s.mu.Unlock()
	g := s.group
	st := Stats{Presence: tracked, Received: g.received.Load(), TooLong: g.tooLong.Load(), Dropped: g.dropped.Load(),
		Overrun: g.overrun.Load(), Sent: g.sent.Load(), SendErrors: g.sendErrors.Load(), MDNS: s.mdns.stats()}
	for _, gl := range *g.links.Load() {
		for _, c := range []GroupConn{gl.v4.conn(), gl.v6.conn()} {
			if c != nil {
				st.Overrun += c.Overrun()
			}
		}
	}
	return st
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }
