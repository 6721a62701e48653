package presence

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"lanchat/wire"
)

var (
	testRealm = wire.RealmID(bytes.Repeat([]byte{9, 8, 7, 6}, 8))
	t0        = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	eth0      = Link{Index: 2, Name: "eth0", Prefixes: prefixes("10.77.0.1/24", "fe80::1/64")}
	eth1      = Link{Index: 3, Name: "eth1", Prefixes: prefixes("10.78.0.1/24", "fd00:78::1/64", "fe80::2/64")}
	lo        = Link{Index: 1, Name: "lo", Prefixes: prefixes("127.0.0.1/8", "::1/128"), Loopback: true}
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func key(n int) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint32(seed, uint32(n))
	return ed25519.NewKeyFromSeed(seed)
}

func id(n int) wire.DeviceID { return wire.KeyOf(key(n).Public().(ed25519.PublicKey)).Device() }

// noise is a source of jitter that is the same in every run.
type noise struct{ *rand.ChaCha8 }

func newNoise(n int) noise {
	var seed [32]byte
	binary.BigEndian.PutUint32(seed[:], uint32(n))
	return noise{rand.NewChaCha8(seed)}
}

// self returns a Tracker, device 0, on eth0, whose first PROBE was taken.
func self(links ...Link) *Tracker {
	if links == nil {
		links = []Link{eth0}
	}
	t := New(Config{Realm: testRealm, Key: key(0), Boot: 5, Role: wire.RoleNode, Port: 4000, Rand: newNoise(0)})
	t.SetLinks(t0, links)
	t.Take()
	return t
}

// other is a device that the test speaks for.
type other struct {
	n       int
	boot    uint64
	counter uint64
	from    string // host address
	addrs   []netip.Addr
	role    wire.Role
	period  time.Duration
	token   wire.TokenHash
}

func (o *other) packet(kind wire.PresenceKind) []byte {
	o.counter++
	if o.role == 0 {
		o.role = wire.RoleNode
	}
	if o.boot == 0 {
		o.boot = 1
	}
	if o.period == 0 {
		o.period = 2 * time.Second
	}
	k := key(o.n)
	p := wire.Presence{Key: wire.KeyOf(k.Public().(ed25519.PublicKey)), Boot: o.boot, Counter: o.counter, Kind: kind, Role: o.role,
		Period: o.period, Port: 5000, Addrs: o.addrs, Token: o.token}
	return p.Append(nil, testRealm, k)
}

func (o *other) source() netip.AddrPort {
	if o.from == "" {
		o.from = fmt.Sprintf("10.77.0.%d", 10+o.n%200)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(o.from), 4748)
}

func (o *other) says(t *Tracker, now time.Time, kind wire.PresenceKind) {
	t.Receive(now, o.packet(kind), o.source(), eth0.Index)
}

// events takes the outputs and returns the events as "kind device-number".
func events(t *Tracker) (out []string) {
	for _, o := range t.Take() {
		if e, ok := o.(Event); ok {
			out = append(out, describe(e))
		}
	}
	return out
}

func describe(e Event) string {
	for n := range 40 {
		if e.Device == id(n) {
			return fmt.Sprintf("%v %d", e.Kind, n)
		}
	}
	return fmt.Sprintf("%v %v", e.Kind, e.Device)
}

// kinds takes the outputs and returns the kinds of the packets sent, with their links.
func kinds(t *Tracker) (out []string) {
	for _, o := range t.Take() {
		if p, ok := o.(Packet); ok {
			m, err := wire.ParsePresence(p.Data, testRealm)
			if err != nil {
				panic(err)
			}
			out = append(out, fmt.Sprintf("%v@%d", m.Kind, p.Link))
		}
	}
	return out
}

// run lets time pass until end and returns what happened, with the seconds
// since t0.
func run(t *Tracker, end time.Time) (out []string) {
	for {
		d := t.Deadline()
		if d.IsZero() || d.After(end) {
			return out
		}
		t.Advance(d)
		for _, e := range events(t) {
			out = append(out, fmt.Sprintf("%.1f %s", d.Sub(t0).Seconds(), e))
		}
	}
}

func want(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if !reflect.DeepEqual(got, want) {
		tb.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func at(d time.Duration) time.Time { return t0.Add(d) }

func TestOnLink(t *testing.T) {
	for _, tt := range []struct {
		link Link
		addr string
		want bool
	}{
		{eth0, "10.77.0.200", true},
		{eth0, "::ffff:10.77.0.200", true},
		{eth0, "10.78.0.1", false},
		{eth0, "fe80::77", true},
		{eth0, "fe80::77%eth0", true},
		{eth0, "fe80::77%eth1", false},
		{eth0, "fd00:78::5", false},
		{eth1, "fd00:78::5", true},
		{eth0, "127.0.0.1", false},
		{eth0, "224.0.0.251", false},
		{eth0, "0.0.0.0", false},
		{lo, "127.0.0.1", true},
		{lo, "::1", true},
		{lo, "10.77.0.1", false},
		{Link{Name: "v4", Prefixes: prefixes("10.0.0.1/8")}, "fe80::1", false},
	} {
		if got := tt.link.OnLink(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%s on %s: got %v", tt.addr, tt.link.Name, got)
		}
	}
}

// PROBE at start, again while nobody answers, and HERE every 2 s ± 10 %.
func TestSpeaks(t *testing.T) {
	s := New(Config{Realm: testRealm, Key: key(0), Boot: 5, Role: wire.RoleNode, Port: 4000, Rand: newNoise(0),
		Token: func() wire.TokenHash { return wire.TokenHash{1} }})
	want(t, "deadline without links", s.Deadline(), time.Time{})
	s.SetLinks(t0, []Link{eth0, eth1})
	out := s.Take()
	if len(out) != 2 {
		t.Fatalf("at start: %v", out)
	}
	p, err := wire.ParsePresence(out[1].(Packet).Data, testRealm)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "PROBE on eth1", *p, wire.Presence{Key: wire.KeyOf(key(0).Public().(ed25519.PublicKey)), Boot: 5, Counter: 2,
		Kind: wire.Probe, Role: wire.RoleNode, Period: 2 * time.Second, Port: 4000, Token: wire.TokenHash{1},
		Addrs: []netip.Addr{netip.MustParseAddr("10.78.0.1"), netip.MustParseAddr("fe80::2"), netip.MustParseAddr("fd00:78::1")}})

	var got []string
	var heres []time.Time
	for now := s.Deadline(); now.Before(at(20 * time.Second)); now = s.Deadline() {
		s.Advance(now)
		for _, k := range kinds(s) {
			got = append(got, k)
			if k == "HERE@2" {
				heres = append(heres, now)
			}
		}
	}
	want(t, "first packets", got[:6], []string{"PROBE@2", "PROBE@3", "PROBE@2", "PROBE@3", "HERE@2", "HERE@3"})
	for i := 1; i < len(heres); i++ {
		if d := heres[i].Sub(heres[i-1]); d < 1800*time.Millisecond || d > 2200*time.Millisecond {
			t.Errorf("HERE after %v", d)
		}
	}
	if len(heres) < 9 || len(heres) > 10 {
		t.Errorf("%d HEREs in 20 s", len(heres))
	}

	// PROBE when links change, on those that changed.
	s.SetLinks(at(20*time.Second), []Link{eth0, {Index: 3, Name: "eth1", Prefixes: prefixes("10.78.0.99/24")}})
	want(t, "after a new address on eth1", kinds(s), []string{"PROBE@3"})
	s.SetLinks(at(20*time.Second), []Link{eth0})
	want(t, "after eth1 went", kinds(s), []string(nil))

	s.Stop(at(21 * time.Second))
	want(t, "goodbye", kinds(s), []string{"BYE@2", "BYE@2"})
	want(t, "deadline after", s.Deadline(), time.Time{})
	(&other{n: 1}).says(s, at(22*time.Second), wire.Probe)
	want(t, "anything after", len(s.Take()), 0)
}

// A PROBE is answered after at most max(100 ms, n × 20 ms), once.
func TestAnswersProbe(t *testing.T) {
	s := self()
	a := &other{n: 1}
	a.says(s, at(300*time.Millisecond), wire.Probe)
	a.says(s, at(301*time.Millisecond), wire.Probe)
	want(t, "at once", kinds(s), []string(nil))
	s.Advance(at(400 * time.Millisecond))
	want(t, "after 100 ms", kinds(s), []string{"HERE@2"})
	s.Advance(at(1200 * time.Millisecond))
	want(t, "later", kinds(s), []string(nil)) // nor is the own PROBE repeated: somebody was heard
}

// Not at all once eight answers were heard.
func TestAnswerSuppressed(t *testing.T) {
	for _, n := range []int{enoughAnswers - 1, enoughAnswers} {
		s := self()
		var others []*other
		for i := range n {
			o := &other{n: i + 2}
			o.says(s, at(300*time.Millisecond), wire.Here)
			others = append(others, o)
		}
		s.Take()
		(&other{n: 1}).says(s, at(300*time.Millisecond), wire.Probe)
		for _, o := range others {
			o.says(s, at(300*time.Millisecond), wire.Here)
		}
		s.Advance(at(500 * time.Millisecond))
		answered := len(kinds(s)) == 1
		if wantAnswer := n < enoughAnswers; answered != wantAnswer {
			t.Errorf("after %d answers of others: answered %v", n, answered)
		}
	}
}

// A storm of PROBEs draws no storm of answers.
func TestProbeStorm(t *testing.T) {
	s := self()
	sent := 0
	for i := range 3000 { // 30 s, from 60 devices
		now := at(time.Duration(i) * 10 * time.Millisecond)
		(&other{n: 100 + i%60, counter: uint64(i)}).says(s, now, wire.Probe)
		s.Advance(now)
		sent += len(kinds(s))
	}
	if sent > 15+8+2*30 { // HEREs, burst and rate of answers
		t.Errorf("%d packets in 30 s", sent)
	}
}

// Silent for 6.5 s: lost. Heard again: seen.
func TestLostAndBack(t *testing.T) {
	s := self()
	a := &other{n: 1}
	a.says(s, at(0), wire.Here)
	want(t, "first packet", events(s), []string{"seen 1"})
	a.says(s, at(2*time.Second), wire.Here)
	want(t, "second", events(s), []string(nil))
	want(t, "silence", run(s, at(60*time.Second)), []string{"8.5 lost 1"})
	a.says(s, at(61*time.Second), wire.Here)
	want(t, "again", events(s), []string{"seen 1"})
	if p, ok := s.Peer(at(61*time.Second), id(1)); !ok || p.State != StateAlive || p.Via != Multicast {
		t.Errorf("peer %+v", p)
	}
}

// Beyond 100 nodes 3.5 periods, as the device itself promised.
func TestLostByOwnPromise(t *testing.T) {
	s := self()
	(&other{n: 1, period: 20 * time.Second}).says(s, t0, wire.Here)
	events(s)
	want(t, "silence", run(s, at(200*time.Second)), []string{"70.0 lost 1"})
	(&other{n: 2, period: 6553 * time.Second}).says(s, t0, wire.Here) // promises have a limit
	events(s)
	want(t, "silence", run(s, at(3*time.Hour)), []string{"1260.0 lost 2"})
}

// A goodbye at once, and nothing that was sent before it counts after it.
func TestGoodbye(t *testing.T) {
	s := self()
	a := &other{n: 1}
	a.says(s, t0, wire.Here)
	late := a.packet(wire.Here)
	events(s)
	a.says(s, at(time.Second), wire.Bye)
	a.says(s, at(time.Second), wire.Bye)
	want(t, "goodbye, twice", events(s), []string{"left 1"})
	s.Receive(at(time.Second), late, a.source(), eth0.Index)
	s.Heard(at(time.Second), id(1), QUIC)
	want(t, "echoes", events(s), []string(nil))
	want(t, "silence", run(s, at(time.Minute)), []string(nil))
	s.Linked(at(time.Minute), id(1))
	want(t, "new connection", events(s), []string{"seen 1"})
	s.Goodbye(at(61*time.Second), id(1))
	want(t, "goodbye over QUIC", events(s), []string{"left 1"})
	a.boot, a.counter = 2, 0
	a.says(s, at(62*time.Second), wire.Probe)
	want(t, "back", events(s), []string{"seen 1"})
	(&other{n: 7}).says(s, at(63*time.Second), wire.Bye)
	want(t, "goodbye of a stranger", events(s), []string(nil))
}

// Counter and boot number make replays worthless.
func TestReplay(t *testing.T) {
	s := self()
	a := &other{n: 1, boot: 3}
	var packets [][]byte
	for range 100 {
		packets = append(packets, a.packet(wire.Here))
	}
	receive := func(i int, now time.Time) uint64 {
		before := s.Stats().Accepted
		s.Receive(now, packets[i], a.source(), eth0.Index)
		return s.Stats().Accepted - before
	}
	want(t, "80", receive(80, t0), uint64(1))
	want(t, "80 again", receive(80, t0), uint64(0))
	want(t, "79, overtaken on another link", receive(79, t0), uint64(1))
	want(t, "79 again", receive(79, t0), uint64(0))
	want(t, "17, 63 before", receive(17, t0), uint64(1))
	want(t, "16, 64 before", receive(16, t0), uint64(0))
	want(t, "99", receive(99, t0), uint64(1))
	want(t, "79 once more", receive(79, t0), uint64(0))
	want(t, "30, before the window", receive(30, t0), uint64(0))
	events(s)

	a.boot, a.counter = 4, 0
	a.says(s, at(time.Second), wire.Here)
	want(t, "higher boot", events(s), []string{"restarted 1"})
	for i := range packets {
		if receive(i, at(2*time.Second)) != 0 {
			t.Fatalf("packet %d of the earlier start accepted", i)
		}
	}
	want(t, "silence in spite of replays", run(s, at(time.Minute)), []string{"7.5 lost 1"})
	a.boot, a.counter = 5, 0
	a.says(s, at(time.Minute), wire.Here)
	want(t, "restart of one who was lost", events(s), []string{"restarted 1"})
}

func TestForged(t *testing.T) {
	s := self()
	a := &other{n: 1}
	b := a.packet(wire.Here)
	for name, bad := range map[string][]byte{
		"signature": append(bytes.Clone(b[:len(b)-1]), b[len(b)-1]^1),
		"counter":   append(append(bytes.Clone(b[:57]), b[57]^2), b[58:]...),
		"cut":       b[:len(b)-1],
		"nothing":   nil,
	} {
		s.Receive(t0, bad, a.source(), eth0.Index)
		want(t, name, events(s), []string(nil))
	}
	s.Receive(t0, b, a.source(), 99)
	want(t, "link that is not", events(s), []string(nil))
	st := s.Stats()
	if st.Forged != 2 || st.Malformed != 2 || st.Accepted != 0 {
		t.Errorf("stats %+v", st)
	}
	s.Receive(t0, b, a.source(), eth0.Index)
	want(t, "the true one", events(s), []string{"seen 1"})
}

// An address in a packet or its source counts only when it is on-link for the
// interface it came by.
func TestCandidates(t *testing.T) {
	s := self(eth0, eth1)
	addrsOf := func(n int, now time.Time) (out []string) {
		p, _ := s.Peer(now, id(n))
		for _, a := range p.Addrs {
			out = append(out, a.String())
		}
		return out
	}
	ip := netip.MustParseAddr
	a := &other{n: 1, addrs: []netip.Addr{ip("10.77.0.11"), ip("10.77.0.12"), ip("10.78.0.11"), ip("8.8.8.8"), ip("127.0.0.1"), ip("fe80::11"), ip("fd00:78::11")}}
	a.says(s, t0, wire.Here)
	want(t, "on eth0", addrsOf(1, t0), []string{"10.77.0.11:5000", "10.77.0.12:5000", "[fe80::11%eth0]:5000"})
	s.Receive(t0, a.packet(wire.Here), netip.MustParseAddrPort("10.77.0.11:4748"), eth1.Index) // the source is of the other LAN
	want(t, "on eth1 too", addrsOf(1, t0), []string{"10.77.0.11:5000", "10.78.0.11:5000", "[fe80::11%eth1]:5000",
		"[fd00:78::11]:5000", "10.77.0.12:5000", "[fe80::11%eth0]:5000"})
	events(s)

	// A packet tells all of a link: what it does not tell any more is gone.
	a.addrs, a.from = nil, "10.77.0.99"
	a.says(s, t0, wire.Here)
	want(t, "new address", events(s), []string{"seen 1"})
	want(t, "moved", addrsOf(1, t0), []string{"10.77.0.99:5000", "10.78.0.11:5000", "[fe80::11%eth1]:5000", "[fd00:78::11]:5000"})
	s.SetLinks(t0, []Link{eth0})
	want(t, "eth1 unplugged", addrsOf(1, t0), []string{"10.77.0.99:5000"})

	// Hints fill what is left of 16 and push out nothing that was signed.
	for i := range 100 {
		s.Hint(t0, Hint{Device: id(1), Via: MDNS, Addrs: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 1, byte(i)}), 1)}})
	}
	got := addrsOf(1, t0)
	if len(got) != MaxCandidates || got[0] != "10.77.0.99:5000" || got[15] != "10.77.1.99:1" {
		t.Errorf("after a storm of hints: %v", got)
	}
	want(t, "hints run out", addrsOf(1, at(131*time.Second)), []string{"10.77.0.99:5000"})
	for _, bad := range []string{"0.0.0.0:1", "224.0.0.1:1", "127.0.0.1:1", "10.0.0.1:0", "[fe80::1]:0", "[fe80::1%eth7]:1", "[fd00::1%eth0]:1", "[::ffff:10.0.0.1]:1"} {
		s.Hint(t0, Hint{Device: id(2), Via: MDNS, Addrs: []netip.AddrPort{netip.MustParseAddrPort(bad)}})
	}
	want(t, "hints that nobody can dial", addrsOf(2, t0), []string(nil))

	// A roster tells link-local addresses without the link they are on.
	s.SetLinks(t0, []Link{eth0, eth1})
	s.Hint(t0, Hint{Device: id(3), Via: Authd, Addrs: []netip.AddrPort{netip.MustParseAddrPort("[fe80::7]:1")}})
	want(t, "on any link", addrsOf(3, t0), []string{"[fe80::7%eth0]:1", "[fe80::7%eth1]:1"})
}

// Who speaks by IPv4 and by IPv6 does not move back and forth, and is no news.
func TestBothFamilies(t *testing.T) {
	s := self(eth0)
	a := &other{n: 1, addrs: []netip.Addr{netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("fe80::11")}}
	addrs := []netip.AddrPort{netip.MustParseAddrPort("10.77.0.11:5000"), netip.MustParseAddrPort("[fe80::11%eth0]:5000")}
	for i, from := range []string{"10.77.0.11", "fe80::11%eth0", "fe80::11%eth0", "10.77.0.11", "fe80::11%eth0"} {
		b := a.packet(wire.Here)
		for _, from := range []string{from, "10.77.0.11", "fe80::11%eth0"} { // of several copies the first counts
			s.Receive(at(time.Duration(i)*2*time.Second), b, netip.AddrPortFrom(netip.MustParseAddr(from), 4748), eth0.Index)
		}
		p, _ := s.Peer(at(time.Duration(i)*2*time.Second), id(1))
		want(t, "packet "+from, p.Addrs, addrs)
	}
	want(t, "events", events(s), []string{"seen 1"})
}

func hint(n int, via Via, addrs ...string) Hint {
	h := Hint{Device: id(n), Role: wire.RoleNode, Via: via}
	for _, a := range addrs {
		h.Addrs = append(h.Addrs, netip.MustParseAddrPort(a))
	}
	return h
}

// A hint is worth a dial, never makes anybody alive, and runs out.
func TestHints(t *testing.T) {
	s := self()
	h := hint(1, MDNS, "10.77.0.5:5000", "[fe80::5%eth0]:5000")
	s.Hint(t0, h)
	out := s.Take()
	if len(out) != 1 {
		t.Fatalf("hint: %v", out)
	}
	want(t, "hint", out[0], Output(Event{Seen, Peer{Device: id(1), Role: wire.RoleNode, State: StateHinted, Addrs: h.Addrs, Via: MDNS}}))
	s.Hint(at(time.Second), h)
	want(t, "again soon", events(s), []string(nil))
	s.Hint(at(6*time.Second), h)
	want(t, "again later", events(s), []string{"seen 1"})
	want(t, "unconfirmed", run(s, at(time.Hour)), []string{"136.0 expired 1"})
	if _, ok := s.Peer(at(time.Hour), id(1)); ok {
		t.Error("still known")
	}

	now := at(time.Hour)
	s.Hint(now, h)
	s.Linked(now, id(1))
	want(t, "confirmed over QUIC", events(s), []string{"seen 1", "seen 1"})
	s.Hint(now, h)
	want(t, "hint of who is here", events(s), []string(nil))
	s.Hint(now, hint(1, Authd, "10.77.0.6:5000"))
	want(t, "new address of who is here", events(s), []string{"seen 1"})
	p, _ := s.Peer(now, id(1))
	want(t, "via", p.Via.Strings(), []string{"mdns", "authd", "quic"})
	s.Hint(now, hint(0, MDNS, "10.77.0.6:5000"))
	want(t, "hint of oneself", events(s), []string(nil))
}

// For a device not heard by multicast for two periods but linked by QUIC the
// host is asked to ping it each period; so lost is noticed within 7 s on any
// path, and a live QUIC path keeps it alive.
func TestPings(t *testing.T) {
	s := self()
	a := &other{n: 1}
	a.says(s, t0, wire.Here)
	s.Linked(t0, id(1))
	events(s)
	for now := at(2 * time.Second); now.Before(at(20 * time.Second)); now = now.Add(2 * time.Second) {
		want(t, "heard by multicast", run(s, now), []string(nil))
		a.says(s, now, wire.Here)
	}
	// Multicast dies at 18 s; every ping is answered until 30 s.
	var pings []string
	for now := at(18 * time.Second); now.Before(at(30 * time.Second)); now = now.Add(100 * time.Millisecond) {
		if p := run(s, now); p != nil {
			pings = append(pings, p...)
			s.Heard(now, id(1), QUIC)
		}
	}
	want(t, "pings", pings, []string{"22.0 ping 1", "24.0 ping 1", "26.0 ping 1", "28.0 ping 1"})
	want(t, "no more answers", run(s, at(time.Minute)), []string{"30.0 ping 1", "32.0 ping 1", "34.0 ping 1", "34.5 lost 1"})

	// Never heard by multicast at all.
	now := at(2 * time.Minute)
	s.Linked(now, id(2))
	events(s)
	want(t, "linked only", run(s, now.Add(time.Minute)), []string{"122.0 ping 2", "124.0 ping 2", "126.0 ping 2", "126.5 lost 2"})

	// Unlinked: nobody to ask.
	now = at(4 * time.Minute)
	s.Linked(now, id(3))
	s.Unlinked(now, id(3))
	events(s)
	want(t, "unlinked", run(s, now.Add(time.Minute)), []string{"246.5 lost 3"})

	// What members say in rooms counts as multicast.
	now = at(6 * time.Minute)
	s.Linked(now, id(4))
	s.Heard(now.Add(time.Second), id(4), Multicast)
	events(s)
	want(t, "heard in a room", run(s, now.Add(5*time.Second)), []string{"365.0 ping 4"})
}

// The tracker knows authd too.
func TestAuthd(t *testing.T) {
	s := self()
	want(t, "authd", s.AuthdAlive(), false)
	a := &other{n: 1, role: wire.RoleAuthd}
	a.says(s, t0, wire.Here)
	want(t, "authd", s.AuthdAlive(), true)
	run(s, at(time.Minute))
	want(t, "authd", s.AuthdAlive(), false)
}

// A new token is news.
func TestToken(t *testing.T) {
	s := self()
	a := &other{n: 1}
	a.says(s, t0, wire.Here)
	events(s)
	a.token = wire.TokenHash{1}
	a.says(s, t0, wire.Here)
	want(t, "renewed", events(s), []string{"seen 1"})
}

func TestOwnKey(t *testing.T) {
	s := self() // boot 5, has sent one packet
	own := &other{n: 0, boot: 5}
	own.says(s, t0, wire.Here)
	want(t, "the loop", events(s), []string(nil))
	(&other{n: 0, boot: 4, counter: 1000}).says(s, t0, wire.Here)
	want(t, "an earlier start replayed", events(s), []string(nil))
	clone := &other{n: 0, boot: 6}
	clone.says(s, t0, wire.Here)
	clone.says(s, at(time.Second), wire.Here)
	want(t, "a copied profile", events(s), []string{"cloned 0"})
	clone.says(s, at(61*time.Second), wire.Here)
	want(t, "a minute later", events(s), []string{"cloned 0"})
}

// One packet a link goes out by IPv4; by IPv6 too while somebody has no IPv4.
func TestNeedsIPv6(t *testing.T) {
	s := self()
	(&other{n: 1}).says(s, t0, wire.Here)
	want(t, "IPv4 only", s.NeedsIPv6(t0, 2), false)
	(&other{n: 2, from: "fe80::2%eth0", addrs: []netip.Addr{netip.MustParseAddr("fe80::2"), netip.MustParseAddr("10.77.0.2")}}).says(s, t0, wire.Here)
	want(t, "dual", s.NeedsIPv6(t0, 2), false)
	(&other{n: 3, from: "fe80::3%eth0", addrs: []netip.Addr{netip.MustParseAddr("fe80::3")}}).says(s, t0, wire.Here)
	want(t, "IPv6 only", s.NeedsIPv6(at(6*time.Second), 2), true)
	want(t, "on another link", s.NeedsIPv6(t0, 3), false)
	want(t, "gone", s.NeedsIPv6(at(7*time.Second), 2), false)
}

// Strangers can fill the table and can evict no vouched device that is alive,
// nor slow the realm down.
func TestStrangers(t *testing.T) {
	s := self()
	for n := 1; n <= 20; n++ {
		s.Vouch(id(n))
		(&other{n: n, period: 360 * time.Second}).says(s, t0, wire.Here)
	}
	now := t0
	add := func(n int) {
		now = now.Add(10 * time.Millisecond) // the budget for strangers is 200/s
		o := &other{n: n, period: 360 * time.Second}
		o.says(s, now, wire.Here)
	}
	for n := range 300 {
		add(1000 + n)
	}
	want(t, "population", s.population(), 1+20+120)
	want(t, "period", s.period(), 3*time.Second)
	if testing.Short() {
		return
	}
	// The rest by the back door: a signature takes its time.
	for n := 0; s.strange < maxStrangers; n++ {
		s.add(now, number(n), StateAlive).multicast = now
	}
	s.Take()
	for n := range 50 {
		add(3000 + n)
	}
	want(t, "devices", len(s.devices), 20+maxStrangers)
	gone := 0
	for _, o := range s.Take() {
		if e, ok := o.(Event); ok && e.Kind == Lost {
			gone++
		}
	}
	want(t, "told of those that were pushed out", gone, 50)
	for n := 1; n <= 20; n++ {
		if p, ok := s.Peer(now, id(n)); !ok || p.State != StateAlive {
			t.Fatalf("vouched device %d: %+v, %v", n, p, ok)
		}
	}
	if _, ok := s.Peer(now, id(3049)); !ok {
		t.Error("the newest stranger has no place")
	}
	for n := 0; len(s.devices) < MaxDevices; n++ { // of the realm, silent
		s.Vouch(number(1<<32 | n))
		s.add(now, number(1<<32|n), StateLost)
	}
	s.Hint(now, hint(21, MDNS, "10.77.0.3:1"))
	if _, ok := s.Peer(now, id(21)); ok {
		t.Error("a hint pushed out a device that was heard")
	}
	s.Linked(now, id(22))
	if p, ok := s.Peer(now, id(22)); !ok || p.State != StateAlive {
		t.Errorf("linked device in a full table: %+v, %v", p, ok)
	}
}

// number returns a device of which there is nothing but the id.
func number(n int) (d wire.DeviceID) {
	binary.BigEndian.PutUint64(d[:], uint64(n)+1)
	return d
}

// Hints are bounded, too, and of each that has to go it is told.
func TestHintStorm(t *testing.T) {
	s := self()
	s.Vouch(number(1 << 32))
	s.Hint(t0, Hint{Device: number(1 << 32), Via: Authd, Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.77.0.4:1")}})
	told := map[wire.DeviceID]int{}
	for n := range 4 * maxHinted {
		s.Hint(at(time.Duration(n)*time.Millisecond), Hint{Device: number(n), Via: MDNS, Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.77.0.3:1")}})
		for _, o := range s.Take() {
			if e, ok := o.(Event); ok && e.Kind == Expired {
				delete(told, e.Device)
			} else if ok {
				told[e.Device]++
			}
		}
	}
	want(t, "devices", len(s.devices), maxHinted)
	want(t, "devices told of and not taken back", len(told), maxHinted)
	if _, ok := s.Peer(t0, number(1<<32)); !ok {
		t.Error("a device of authd's roster was driven out")
	}
}

// A flood of packets that are not what they say uses up what their alleged
// sender is allowed, and nobody else's.
func TestFlood(t *testing.T) {
	s := self()
	a, b := &other{n: 1}, &other{n: 2}
	a.says(s, t0, wire.Here)
	b.says(s, t0, wire.Here)
	now := at(time.Second)
	forged := (&other{n: 1, counter: 1 << 32}).packet(wire.Here)
	forged[len(forged)-1] ^= 1
	for range 10000 {
		s.Receive(now, forged, a.source(), eth0.Index)
	}
	st := s.Stats()
	if st.Forged > 30 || st.Forged+st.Dropped != 10000 {
		t.Errorf("%+v", st)
	}
	b.says(s, now, wire.Here)
	want(t, "accepted", s.Stats().Accepted, st.Accepted+1)
}

// A realm of a thousand spends at most 50 packets a second, everybody is
// known, and nobody is taken for lost.
func TestThousand(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const nodes, watched = 1000, 1 // listening is dear: one does it in full
	var ids []wire.DeviceID
	for n := range nodes {
		ids = append(ids, id(n))
	}
	var trackers []*Tracker
	for n := range nodes {
		l := Link{Index: 2, Name: "eth0", Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(n >> 8), byte(n)}), 16)}}
		tr := New(Config{Realm: testRealm, Key: key(n), Boot: 1, Role: wire.RoleNode, Port: 1, Rand: newNoise(n)})
		for _, d := range ids {
			tr.Vouch(d)
		}
		tr.SetLinks(t0.Add(time.Duration(n)*3*time.Millisecond), []Link{l})
		trackers = append(trackers, tr)
	}
	started := 0
	sent := map[int]int{} // by second
	lost, seen := 0, 0    // by those who listen
	deliver := func(now time.Time, from int) {
		for _, o := range trackers[from].Take() {
			switch o := o.(type) {
			case Event:
				if from < watched && o.Kind == Lost {
					lost++
				}
				if from < watched && o.Kind == Seen {
					seen++
				}
			case Packet:
				sent[int(now.Sub(t0)/time.Second)]++
				p, err := wire.ParsePresence(o.Data, testRealm)
				if err != nil {
					t.Fatal(err)
				}
				src := netip.AddrPortFrom(p.Addrs[0], 4748)
				for to := range trackers {
					if to == from {
						continue
					}
					if to < watched {
						trackers[to].Receive(now, o.Data, src, 2)
						continue
					}
					// The rest only count who is there, and answer.
					trackers[to].alive[1] = started
					trackers[to].answer(now, trackers[to].links[0], p.Kind)
				}
			}
		}
	}
	for n := range trackers {
		started = n
		deliver(t0.Add(time.Duration(n)*3*time.Millisecond), n)
	}
	end := at(70 * time.Second)
	for {
		next, who := end, -1
		for n, tr := range trackers {
			if d := tr.Deadline(); !d.IsZero() && d.Before(next) {
				next, who = d, n
			}
		}
		if who < 0 {
			break
		}
		trackers[who].Advance(next)
		deliver(next, who)
	}
	// After the start, in which everybody asks, in windows of ten seconds.
	for from := 30; from+10 <= 70; from += 10 {
		n := 0
		for sec := from; sec < from+10; sec++ {
			n += sent[sec]
		}
		if n > 500 {
			t.Errorf("%d packets in seconds %d to %d", n, from, from+9)
		}
	}
	want(t, "lost", lost, 0)
	for n := range watched {
		alive := 0
		for _, p := range trackers[n].Peers(end) {
			if p.State == StateAlive {
				alive++
			}
		}
		want(t, "alive", alive, nodes-1)
	}
	t.Logf("packets in the first ten seconds: %d %d %d %d %d %d %d %d %d %d", sent[0], sent[1], sent[2], sent[3], sent[4], sent[5], sent[6], sent[7], sent[8], sent[9])
}

// Whatever comes from the network, in whatever order, nothing panics and the
// bounds hold.
func FuzzReceive(f *testing.F) {
	a := &other{n: 1, addrs: []netip.Addr{netip.MustParseAddr("10.77.0.3")}}
	f.Add(append(append(a.packet(wire.Probe), a.packet(wire.Here)...), a.packet(wire.Bye)...), uint8(1))
	f.Add([]byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		s := self()
		now := t0
		for len(b) > 0 {
			n := min(len(b), wire.MaxPresence-int(step)%200)
			s.Receive(now, b[:n], netip.MustParseAddrPort("10.77.0.3:4748"), int(step)%3)
			b = b[n:]
			now = now.Add(time.Duration(step) * 100 * time.Millisecond)
			s.Advance(now)
			if d := s.Deadline(); !d.After(now) {
				t.Fatalf("work left at %v, deadline %v", now, d)
			}
		}
		for _, p := range s.Peers(now) {
			if len(p.Addrs) > MaxCandidates {
				t.Fatalf("%+v", p)
			}
		}
	})
}

// A machine that slept knows it by the clock on the wall: the other one may have
// stood still, or gone on. One that had much to do did not sleep.
func TestStoodStill(t *testing.T) {
	last := time.Now()
	for _, tt := range []struct {
		what string
		now  time.Time
		want bool
	}{
		{"a look in time", last.Add(time.Second), false},
		{"a late one", last.Add(3 * time.Second), false},
		{"a stopped process", last.Add(time.Minute), true},
		{"a sleep without the running clock", last.Round(0).Add(time.Minute), true},
		{"a clock set back", last.Round(0).Add(-time.Minute), false},
	} {
		if got := StoodStill(last, tt.now, time.Second); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
}
