package presence

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net/netip"
	"slices"
	"time"

	"lanchat/wire"
)

// Bounds of a Tracker.
const (
	MaxDevices    = 16384
	MaxCandidates = 16   // addresses of one device
	maxHinted     = 1024 // devices that were only hinted at
	maxStrangers  = 4096 // devices that were heard and nobody vouches for
)

// The pace of a realm. (All that is due to a number of nodes uses
// Tracker.population.)
const (
	basePeriod  = 2 * time.Second         // between HEREs while the realm is small
	smallRealm  = 100                     // nodes that all keep the base period
	perNode     = 21 * time.Millisecond   // of period beyond: under 50 packets/s in the realm
	maxPeriod   = 360 * time.Second       // what a packet may promise: MaxDevices × perNode, rounded up
	baseSilence = 6500 * time.Millisecond // after which a device of the base period is lost
	hintLife    = 130 * time.Second       // a hint is forgotten after this

	answerSpread  = 100 * time.Millisecond // a PROBE is answered within this or …
	answerPerNode = 20 * time.Millisecond  // … this for each node, at random
	enoughAnswers = 8                      // heard on the link make one's own superfluous
	hintPause     = 5 * time.Second        // between events for hints of one device that is not Alive
	cloneNotice   = time.Minute            // between events about one's own key
)

// probeAgain is when a PROBE on a link is repeated while nobody was heard there.
var probeAgain = []time.Duration{250 * time.Millisecond, 750 * time.Millisecond}

// Config says who this device is.
type Config struct {
	Realm wire.RealmID
	Key   ed25519.PrivateKey
	Boot  uint64 // strictly higher at each start of the device
	Role  wire.Role
	Port  uint16 // of the QUIC socket

	// Token returns the hash of the token held now; nil means none.
	Token func() wire.TokenHash

	// Rand is the source of jitter; nil means crypto/rand.
	Rand io.Reader
}

// A Tracker knows who is here.
//
// It does no I/O, starts no goroutine and never reads the clock: one goroutine
// owns it and tells it the time. Who calls any of its methods takes the
// outputs with Take afterwards, and calls Advance at Deadline.
//
// # Who counts
//
// Anybody can make a key and sign packets with it. Devices whose token was
// checked by others (Linked, Heard, Vouch) are vouched for; the rest are
// strangers. Strangers are tracked, so that they can be dialled and asked, but
// no number of them can push a vouched device that is alive out of the table,
// use up its share of signature checks, or slow the realm's pace by more than
// the number of vouched devices and a hundred.
//
// # Silence
//
// A packet promises when the next one comes, and a device's silence is
// measured by its own promise: 6.5 s for the base period of 2 s, else 3.5
// periods. Any word over QUIC counts as well. A device that is linked by QUIC
// but was not heard by multicast for two periods is pinged (an Event) every
// 2 s; so silence is noticed within 7 s on any path, and a living path of
// either kind keeps a device alive.
type Tracker struct {
	c       Config
	self    wire.DeviceID
	selfKey wire.DeviceKey
	counter uint64
	stopped bool

	links    []*link
	nextHere time.Time // zero before there was a link

	lastPeriod time.Duration // when nextHere was set

	devices map[wire.DeviceID]*device
	due     dueHeap // every device that has something to wait for
	vouched map[wire.DeviceID]struct{}
	hinted  int    // devices in state Hinted
	strange int    // strangers in another state
	alive   [2]int // devices in state Alive: strangers, vouched

	strangers budget // signature checks for keys not in the table
	known     budget // signature checks for all others together
	probes    budget // PROBEs asked for by Probe
	cloned    time.Time

	out   []Output
	stats Stats
}

// Stats counts packets since the start.
type Stats struct {
	Sent      uint64 // presence packets, one a link
	Accepted  uint64
	Malformed uint64 // refused by the parser
	Foreign   uint64 // of other realms
	Stale     uint64 // replayed or overtaken
	Forged    uint64 // signature wrong
	Dropped   uint64 // for want of budget or room
}

type link struct {
	Link
	heard   bool      // anybody, since the link came
	probes  int       // sent so far
	probeAt time.Time // the next PROBE; zero: none
	answer  time.Time // when a HERE answers a PROBE; zero: no PROBE waits
	answers int       // HEREs heard since that PROBE
	budget  budget    // of answers
	v6only  time.Time // until then somebody there has no IPv4
}

// New returns a Tracker without links: SetLinks makes it speak.
func New(c Config) *Tracker {
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	key := wire.KeyOf(c.Key.Public().(ed25519.PublicKey))
	return &Tracker{
		c:         c,
		self:      key.Device(),
		selfKey:   key,
		devices:   make(map[wire.DeviceID]*device),
		vouched:   make(map[wire.DeviceID]struct{}),
		strangers: budget{rate: 200, burst: 2000},
		known:     budget{rate: 4000, burst: 4000},
		probes:    budget{rate: 0.5, burst: 4},
	}
}

// Take returns what is to be done, in order, and forgets it.
func (t *Tracker) Take() []Output {
	out := t.out
	t.out = nil
	return out
}

// Stats returns the counters.
func (t *Tracker) Stats() Stats { return t.stats }

// SetLinks says which links there are now. On those that are new or changed
// it asks who is there.
func (t *Tracker) SetLinks(now time.Time, links []Link) {
	if t.stopped {
		return
	}
	old := t.links
	t.links = nil
	for _, l := range links {
		i := slices.IndexFunc(old, func(o *link) bool { return o.Link.Equal(l) })
		if i >= 0 {
			t.links = append(t.links, old[i])
			continue
		}
		t.links = append(t.links, &link{Link: l, probeAt: now, budget: budget{rate: 2, burst: 8}})
	}
	for _, d := range t.devices {
		d.candidates = slices.DeleteFunc(d.candidates, func(c candidate) bool {
			if c.link == 0 {
				return false
			}
			l := t.link(c.link)
			return l == nil || !l.OnLink(c.addr.Addr())
		})
	}
	if t.nextHere.IsZero() && len(links) > 0 {
		t.nextHere = now.Add(t.pause())
	}
	t.Advance(now)
}

// Probe asks on every link who is there, unless that was done a moment ago.
func (t *Tracker) Probe(now time.Time) {
	if t.stopped || !t.probes.take(now) {
		return
	}
	for _, l := range t.links {
		t.send(l, wire.Probe)
	}
}

// Stop says goodbye, twice since no one repairs it. The Tracker is dead
// thereafter.
func (t *Tracker) Stop(time.Time) {
	if t.stopped {
		return
	}
	for range 2 {
		for _, l := range t.links {
			t.send(l, wire.Bye)
		}
	}
	t.stopped = true
}

// Deadline returns when Advance next has work; zero: never.
func (t *Tracker) Deadline() time.Time {
	var d time.Time
	earlier := func(at time.Time) {
		if !at.IsZero() && (d.IsZero() || at.Before(d)) {
			d = at
		}
	}
	if t.stopped {
		return d
	}
	if len(t.links) > 0 {
		earlier(t.nextHere)
	}
	for _, l := range t.links {
		earlier(l.probeAt)
		earlier(l.answer)
	}
	if len(t.due) > 0 {
		earlier(t.due[0].due)
	}
	return d
}

// Advance does what is due.
func (t *Tracker) Advance(now time.Time) {
	if t.stopped {
		return
	}
	due := func(at time.Time) bool { return !at.IsZero() && !at.After(now) }
	for _, l := range t.links {
		if due(l.probeAt) {
			l.probeAt = time.Time{}
			if l.probes == 0 || !l.heard {
				if l.probes < len(probeAgain) {
					l.probeAt = now.Add(probeAgain[l.probes])
				}
				l.probes++
				t.send(l, wire.Probe)
			}
		}
	}
	if due(t.nextHere) {
		t.nextHere = now.Add(t.pause())
		for _, l := range t.links {
			t.send(l, wire.Here)
		}
	}
	for _, l := range t.links {
		if due(l.answer) {
			t.send(l, wire.Here)
		}
	}
	for len(t.due) > 0 && due(t.due[0].due) {
		t.expire(now, t.due[0])
	}
}

// Receive takes a packet that came from the group on a link. It keeps nothing
// of b.
func (t *Tracker) Receive(now time.Time, b []byte, from netip.AddrPort, linkIndex int) {
	l := t.link(linkIndex)
	if t.stopped || l == nil {
		return
	}
	p, err := wire.ParsePresence(b, t.c.Realm)
	switch {
	case err == nil:
	case isForeign(err):
		t.stats.Foreign++
		return
	default:
		t.stats.Malformed++
		return
	}
	if p.Key == t.selfKey {
		t.receiveOwn(now, b, p, from, l)
		return
	}
	id := p.Key.Device()
	d := t.devices[id]
	_, vouched := t.vouched[id]
	switch {
	case d == nil && vouched, d != nil && !d.keyed() && d.vouched:
		if !t.known.take(now) {
			t.stats.Dropped++
			return
		}
	case d == nil || !d.keyed():
		if !t.strangers.take(now) {
			t.stats.Dropped++
			return
		}
	case p.Key != d.key || !d.fresh(p.Boot, p.Counter):
		t.stats.Stale++
		return
	case !d.checks.take(now) || !t.known.take(now):
		t.stats.Dropped++
		return
	}
	if wire.VerifyPresence(b, t.c.Realm, p.Key) != nil {
		t.stats.Forged++
		return
	}
	if d == nil {
		if d = t.add(now, id, StateAlive); d == nil {
			t.stats.Dropped++
			return
		}
	}
	t.stats.Accepted++
	t.apply(now, d, p, from, l)
}

// receiveOwn looks at a packet with this device's own key: its own, come back
// by the loop, or an old one replayed, unless it is ahead of what was sent.
func (t *Tracker) receiveOwn(now time.Time, b []byte, p *wire.Presence, from netip.AddrPort, l *link) {
	if p.Boot < t.c.Boot || p.Boot == t.c.Boot && p.Counter <= t.counter || p.Kind == wire.Bye ||
		!t.cloned.IsZero() && now.Sub(t.cloned) < cloneNotice || !t.strangers.take(now) {
		return
	}
	if wire.VerifyPresence(b, t.c.Realm, p.Key) != nil {
		t.stats.Forged++
		return
	}
	t.cloned = now
	t.out = append(t.out, Event{Cloned, Peer{Device: t.self, Key: p.Key, Role: p.Role, State: StateAlive, Boot: p.Boot,
		Addrs: []netip.AddrPort{netip.AddrPortFrom(l.Zoned(from.Addr()), p.Port)}, Via: Multicast}})
}

// apply believes a packet.
func (t *Tracker) apply(now time.Time, d *device, p *wire.Presence, from netip.AddrPort, l *link) {
	restarted := d.keyed() && p.Boot > d.boot && (d.state == StateAlive || d.state == StateLost)
	news := !d.keyed() || d.role != p.Role || d.token != p.Token
	d.key, d.role, d.token = p.Key, p.Role, p.Token
	d.accept(p.Boot, p.Counter)
	if p.Kind == wire.Bye {
		t.leave(now, d)
		return
	}
	d.multicast = now
	d.period = min(max(p.Period, basePeriod), maxPeriod)
	if restarted {
		d.candidates = slices.DeleteFunc(d.candidates, func(c candidate) bool { return c.via == Multicast })
	}
	if d.listen(now, l.Link, from.Addr(), p) {
		news = true
	}
	if !slices.ContainsFunc(p.Addrs, netip.Addr.Is4) && from.Addr().Unmap().Is6() {
		l.v6only = now.Add(silence(d.period))
	}
	news = t.become(d, StateAlive) || news
	switch {
	case restarted:
		t.tell(now, Restarted, d)
	case news:
		t.tell(now, Seen, d)
	}
	t.schedule(d)
	t.answer(now, l, p.Kind)
}

// answer sees to it that a PROBE on the link is answered, unless enough others
// do.
func (t *Tracker) answer(now time.Time, l *link, kind wire.PresenceKind) {
	l.heard = true
	switch {
	case kind == wire.Probe && l.answer.IsZero() && l.budget.take(now):
		l.answers = 0
		l.answer = now.Add(t.random(max(answerSpread, time.Duration(t.population())*answerPerNode)))
	case kind == wire.Here && !l.answer.IsZero():
		if l.answers++; l.answers >= enoughAnswers {
			l.answer = time.Time{}
		}
	}
}

// Heard says that something authenticated came from the device: over QUIC, or
// by Multicast in a room.
func (t *Tracker) Heard(now time.Time, id wire.DeviceID, via Via) {
	if t.stopped || id == t.self || via&(QUIC|Multicast) == 0 {
		return
	}
	d := t.devices[id]
	if d != nil && d.state == StateLeft {
		return // an echo of who said goodbye; who comes back says so by a packet or a new link
	}
	if d == nil {
		if d = t.addVouched(now, id); d == nil {
			return
		}
	}
	t.vouch(d)
	if via&QUIC != 0 {
		d.quic = now
	}
	if via&Multicast != 0 {
		d.multicast = now
	}
	if t.become(d, StateAlive) {
		t.tell(now, Seen, d)
	}
	t.schedule(d)
}

// Linked says that there is an authenticated QUIC connection with the device.
func (t *Tracker) Linked(now time.Time, id wire.DeviceID) {
	if t.stopped || id == t.self {
		return
	}
	d := t.devices[id]
	if d == nil {
		if d = t.addVouched(now, id); d == nil {
			return
		}
	}
	t.vouch(d)
	d.linked = true
	d.quic = now
	if t.become(d, StateAlive) {
		t.tell(now, Seen, d)
	}
	t.schedule(d)
}

// Unlinked says that there is no QUIC connection with the device any more.
func (t *Tracker) Unlinked(_ time.Time, id wire.DeviceID) {
	if d := t.devices[id]; d != nil {
		d.linked = false
		t.schedule(d)
	}
}

// Goodbye says that the device said goodbye over QUIC.
func (t *Tracker) Goodbye(now time.Time, id wire.DeviceID) {
	if d := t.devices[id]; d != nil && !t.stopped {
		d.linked = false
		t.leave(now, d)
	}
}

// Vouch says that the device's token was checked: it is no stranger.
func (t *Tracker) Vouch(id wire.DeviceID) {
	if d := t.devices[id]; d != nil {
		t.vouch(d)
	}
	if len(t.vouched) < MaxDevices {
		t.vouched[id] = struct{}{}
	}
}

// Unvouch takes it back: the token was revoked or has expired.
func (t *Tracker) Unvouch(id wire.DeviceID) {
	delete(t.vouched, id)
	if d := t.devices[id]; d != nil {
		t.count(d, -1)
		d.vouched = false
		t.count(d, +1)
	}
}

// Hint says that the device may be found somewhere. Addresses that nobody can
// dial are left out.
func (t *Tracker) Hint(now time.Time, h Hint) {
	if t.stopped || h.Device == t.self || h.Device.IsZero() {
		return
	}
	d := t.devices[h.Device]
	if d == nil {
		if d = t.add(now, h.Device, StateHinted); d == nil {
			t.stats.Dropped++
			return
		}
	}
	if d.role == 0 {
		d.role = h.Role
	}
	heardOf := &d.authd
	switch h.Via {
	case MDNS:
		heardOf = &d.mdns
	case Memory:
		heardOf = &d.memory
	}
	newWay := heardOf.IsZero()
	*heardOf = now
	news := false
	for _, a := range t.zoned(h.Addrs) {
		if index, ok := t.diallable(a); ok && d.hint(now, a, h.Via, index) {
			news = true
		}
	}
	if d.state != StateAlive {
		news = newWay || d.told.IsZero() || now.Sub(d.told) >= hintPause
	}
	if news && len(d.candidates) > 0 {
		t.tell(now, Seen, d)
	}
	t.schedule(d)
}

// zoned gives link-local addresses that came without a zone, as those of a
// roster do, the zone of each link where they may be.
func (t *Tracker) zoned(addrs []netip.AddrPort) (zoned []netip.AddrPort) {
	for _, a := range addrs {
		if ip := a.Addr(); !ip.Is6() || !ip.IsLinkLocalUnicast() || ip.Zone() != "" {
			zoned = append(zoned, a)
			continue
		}
		for _, l := range t.links {
			if l.OnLink(a.Addr()) {
				zoned = append(zoned, netip.AddrPortFrom(l.Link.Zoned(a.Addr()), a.Port()))
			}
		}
	}
	return zoned
}

// diallable reports whether a can be dialled from here, and by which link if
// it is bound to one.
func (t *Tracker) diallable(a netip.AddrPort) (linkIndex int, ok bool) {
	ip := a.Addr()
	switch {
	case a.Port() == 0 || !ip.IsValid() || ip.Is4In6() || ip.IsUnspecified() || ip.IsMulticast():
		return 0, false
	case ip.IsLoopback():
		for _, l := range t.links {
			if l.Loopback {
				return l.Index, true
			}
		}
		return 0, false
	case ip.IsLinkLocalUnicast():
		for _, l := range t.links {
			if ip.Is6() && ip.Zone() == l.Name || ip.Is4() && l.OnLink(ip) {
				return l.Index, true
			}
		}
		return 0, false
	}
	return 0, ip.Zone() == ""
}

// Peer returns what is known of a device.
func (t *Tracker) Peer(now time.Time, id wire.DeviceID) (Peer, bool) {
	d := t.devices[id]
	if d == nil {
		return Peer{}, false
	}
	return d.peer(now), true
}

// Peers returns what is known of every device, in no order.
func (t *Tracker) Peers(now time.Time) []Peer {
	out := make([]Peer, 0, len(t.devices))
	for _, d := range t.devices {
		out = append(out, d.peer(now))
	}
	return out
}

// AuthdAlive reports whether an authd of the realm is heard.
func (t *Tracker) AuthdAlive() bool {
	for _, d := range t.devices {
		if d.role == wire.RoleAuthd && d.state == StateAlive {
			return true
		}
	}
	return false
}

// NeedsIPv6 reports whether somebody on the link was heard lately who has no
// IPv4 address. One packet a link goes out by IPv4 where there is IPv4; as
// long as such a device is there it goes out by IPv6 too.
func (t *Tracker) NeedsIPv6(now time.Time, linkIndex int) bool {
	l := t.link(linkIndex)
	return l != nil && now.Before(l.v6only)
}

// population returns for how many nodes, this one included, the pace is made.
// Strangers count only as far as the vouched and smallRealm more: a realm whose
// nodes vouch for each other (rosters do) keeps its pace at any size, and an
// outsider who makes up keys cannot slow it down much.
func (t *Tracker) population() int {
	return 1 + t.alive[1] + min(t.alive[0], t.alive[1]+smallRealm)
}

// period returns the time between two HEREs.
func (t *Tracker) period() time.Duration {
	n := t.population()
	if n <= smallRealm {
		return basePeriod
	}
	p := time.Duration(n) * perNode
	return p.Truncate(100*time.Millisecond) + 100*time.Millisecond
}

// pause returns the time to the next HERE: the period ± 10 %. When the period
// rose by a leap, because many came at once, it is any time up to the period:
// they would all speak at the same time for ever.
func (t *Tracker) pause() time.Duration {
	last := t.lastPeriod
	t.lastPeriod = t.period()
	if last != 0 && t.lastPeriod > last*3/2 {
		return t.random(t.lastPeriod)
	}
	return t.jitter(t.lastPeriod)
}

// silence returns how long a device that promised the period may be silent.
func silence(period time.Duration) time.Duration {
	if period <= basePeriod {
		return baseSilence
	}
	return period * 7 / 2
}

// send makes a packet for the link. It tells the link's own addresses only:
// others are worth nothing to who listens there.
func (t *Tracker) send(l *link, kind wire.PresenceKind) {
	t.counter++
	p := wire.Presence{Key: t.selfKey, Boot: t.c.Boot, Counter: t.counter, Kind: kind, Role: t.c.Role,
		Period: t.period(), Port: t.c.Port, Addrs: l.addrs()}
	if t.c.Token != nil {
		p.Token = t.c.Token()
	}
	if kind == wire.Here {
		l.answer = time.Time{} // whoever asked has it now
	}
	t.stats.Sent++
	t.out = append(t.out, Packet{l.Index, p.Append(nil, t.c.Realm, t.c.Key)})
}

func (t *Tracker) link(index int) *link {
	for _, l := range t.links {
		if l.Index == index {
			return l
		}
	}
	return nil
}

// random returns a duration in [0, d).
func (t *Tracker) random(d time.Duration) time.Duration {
	var b [8]byte
	if _, err := io.ReadFull(t.c.Rand, b[:]); err != nil || d <= 0 {
		return 0
	}
	return time.Duration(binary.BigEndian.Uint64(b[:])>>1) % d
}

// jitter returns d ± 10 %.
func (t *Tracker) jitter(d time.Duration) time.Duration {
	return d - d/10 + t.random(d/5)
}
