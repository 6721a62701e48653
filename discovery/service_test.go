package discovery_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lanchat/discovery"
	"lanchat/discovery/memnet"
	"lanchat/discovery/presence"
	"lanchat/wire"
)

var testRealm = wire.RealmID(bytes.Repeat([]byte{9, 8, 7, 6}, 8))

func key(n int) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint32(seed, uint32(n))
	return ed25519.NewKeyFromSeed(seed)
}

func id(n int) wire.DeviceID { return wire.KeyOf(key(n).Public().(ed25519.PublicKey)).Device() }

// member is a running Service and what it told.
type member struct {
	*discovery.Service
	n    int
	quit func()

	mu      sync.Mutex
	events  []presence.Event
	packets []string // "from/link: text"
}

// start runs device n on a network; it is stopped by quit, or when the test
// ends.
func start(t *testing.T, on discovery.Net, n int, change ...func(*discovery.Config)) *member {
	t.Helper()
	m := &member{n: n}
	c := discovery.Config{Realm: testRealm, Key: key(n), Boot: uint64(time.Now().UnixNano()), Port: 5000, Net: on,
		Handle: func(e presence.Event) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.events = append(m.events, e)
		},
		Packet: func(b []byte, from netip.AddrPort, link int) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.packets = append(m.packets, fmt.Sprintf("%v/%d: %s", from, link, b))
		}}
	for _, f := range change {
		f(&c)
	}
	m.Service = discovery.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	m.quit = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run of device %d: %v", n, err)
		}
	})
	t.Cleanup(m.quit)
	return m
}

// take returns the events since the last call as "kind device", sorted.
func (m *member) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []string{}
	for _, e := range m.events {
		name := e.Device.String()
		for n := range 20 {
			if id(n) == e.Device {
				name = fmt.Sprint(n)
			}
		}
		out = append(out, fmt.Sprintf("%v %s", e.Kind, name))
	}
	m.events = nil
	slices.Sort(out)
	return out
}

// addrs returns the candidate addresses of device n as m knows them.
func (m *member) addrs(n int) string {
	var out []string
	for _, p := range m.Peers(context.Background()) {
		if p.Device == id(n) {
			for _, a := range p.Addrs {
				out = append(out, a.String())
			}
		}
	}
	return strings.Join(out, " ")
}

func (m *member) takePackets() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.packets
	m.packets = nil
	slices.Sort(p)
	return p
}

func want[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

func TestFindEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := memnet.New()
		lan.SetDelay(time.Millisecond)
		ann, bob := lan.Host("ann", "10.77.0.1/24", "fe80::1/64"), lan.Host("bob", "10.77.0.2/24", "fe80::2/64")
		a := start(t, ann, 1)
		b := start(t, bob, 2)
		time.Sleep(150 * time.Millisecond)
		// A newcomer knows everybody within 150 ms, and everybody it.
		want(t, "ann", a.take(), []string{"seen 2"})
		want(t, "bob", b.take(), []string{"seen 1"})
		want(t, "bob's addresses", a.addrs(2), "10.77.0.2:5000 [fe80::2%eth0]:5000")

		// On one host with bob: both receive, each other's packets too.
		c := start(t, bob, 3, func(c *discovery.Config) { c.Role = wire.RoleAuthd; c.Port = 4747 })
		time.Sleep(150 * time.Millisecond)
		want(t, "authd on bob's host", c.take(), []string{"seen 1", "seen 2"})
		want(t, "bob", b.take(), []string{"seen 3"})
		want(t, "ann", a.take(), []string{"seen 3"})

		// Room packets go to everybody in the realm, once a link.
		b.Multicast([]byte("\x11hello"))
		time.Sleep(10 * time.Millisecond)
		want(t, "room packet at ann", a.takePackets(), []string{"10.77.0.2:4748/2: \x11hello"})
		want(t, "at authd", c.takePackets(), []string{"10.77.0.2:4748/2: \x11hello"})
		want(t, "at its sender", b.takePackets(), []string{"10.77.0.2:4748/2: \x11hello"})

		// Another realm has another group.
		start(t, ann, 4, func(c *discovery.Config) { c.Realm[0]++ })
		time.Sleep(10 * time.Second)
		want(t, "another realm", a.take(), []string{})

		// A goodbye is known at once.
		b.quit()
		time.Sleep(50 * time.Millisecond)
		want(t, "goodbye", a.take(), []string{"left 2"})

		// A cut is noticed within 7 s, on both sides, and mended.
		c.take()
		lan.Cut(ann, bob)
		time.Sleep(7 * time.Second)
		want(t, "cut", a.take(), []string{"lost 3"})
		want(t, "cut", c.take(), []string{"lost 1"})
		lan.Mend(ann, bob)
		time.Sleep(2500 * time.Millisecond)
		want(t, "mended", a.take(), []string{"seen 3"})
		if st := a.Stats(); st.Presence.Sent == 0 || st.Received == 0 || st.Dropped+st.Overrun+st.TooLong != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// Nobody is taken for lost on a link that loses 2 %, in an hour.
func TestLossy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := memnet.New()
		lan.SetLoss(2)
		a := start(t, lan.Host("ann", "10.77.0.1/24"), 1)
		b := start(t, lan.Host("bob", "10.77.0.2/24"), 2)
		time.Sleep(time.Second)
		a.take()
		lost := 0
		for range 360 {
			time.Sleep(10 * time.Second)
			for _, e := range append(a.take(), b.take()...) {
				if strings.HasPrefix(e, "lost") {
					lost++
				}
			}
		}
		// Three in a row are lost 0.0008 % of the times, of which there are 3,600.
		if lost > 1 {
			t.Errorf("lost %d times", lost)
		}
	})
}

// Interfaces are watched; any change throws that interface's sockets away.
func TestInterfacesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := memnet.New()
		ann, bob := lan.Host("ann"), lan.Host("bob", "10.77.0.2/24")
		a, b := start(t, ann, 1), start(t, bob, 2)
		time.Sleep(time.Second)
		want(t, "links off-line", a.Links()[0].Name, "lo")
		local := start(t, ann, 3)
		time.Sleep(150 * time.Millisecond)
		want(t, "two programs off-line", a.take(), []string{"seen 3"})
		want(t, "their addresses", a.addrs(3), "127.0.0.1:5000 [::1]:5000")
		local.quit()
		time.Sleep(time.Second)
		want(t, "one leaves", a.take(), []string{"left 3"})

		ann.Attach("eth0", "lan", "10.77.0.1/24")
		time.Sleep(1200 * time.Millisecond)
		want(t, "cable plugged in", a.take(), []string{"seen 2"})
		want(t, "at bob", b.take(), []string{"seen 1"})
		want(t, "ann's address", b.addrs(1), "10.77.0.1:5000")

		ann.SetAddrs("eth0", "10.77.0.99/24")
		time.Sleep(1200 * time.Millisecond)
		want(t, "new address", b.take(), []string{"seen 1"})
		want(t, "ann's address", b.addrs(1), "10.77.0.99:5000")

		ann.Attach("eth0", "lan", "10.77.0.99/24") // re-created, as a USB adapter is
		time.Sleep(1200 * time.Millisecond)
		b.Multicast([]byte("\x11hi"))
		synctest.Wait()
		want(t, "after the adapter came back", len(a.takePackets()), 1)
		want(t, "bob's address on the new one", a.take(), []string{"seen 2"})

		ann.SetUp("eth0", false)
		time.Sleep(8 * time.Second)
		want(t, "unplugged", b.take(), []string{"lost 1"})
		want(t, "unplugged", a.take(), []string{"lost 2"})
		ann.SetUp("eth0", true)
		time.Sleep(1200 * time.Millisecond)
		want(t, "plugged in", a.take(), []string{"seen 2"})
		if s := a.Skipped(); len(s) != 1 || s[0].Name != "lo" {
			t.Errorf("skipped %v", s)
		}
	})
}

// A host with an IPv6 address only hears and is heard.
func TestIPv6Only(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := memnet.New()
		a := start(t, lan.Host("ann", "10.77.0.1/24", "fe80::1/64"), 1)
		b := start(t, lan.Host("bob", "10.77.0.2/24", "fe80::2/64"), 2)
		time.Sleep(time.Second)
		before := lan.Multicasts()
		a.Multicast([]byte("\x11"))
		want(t, "packets for one", lan.Multicasts()-before, 1)
		c := start(t, lan.Host("cem", "fe80::3/64"), 3)
		time.Sleep(150 * time.Millisecond)
		want(t, "cem", c.take(), []string{"seen 1", "seen 2"})
		time.Sleep(time.Second)
		want(t, "ann", a.take(), []string{"seen 2", "seen 3"})
		before = lan.Multicasts()
		a.Multicast([]byte("\x11"))
		want(t, "packets for one", lan.Multicasts()-before, 2)
		c.quit()
		time.Sleep(7 * time.Second)
		before = lan.Multicasts()
		a.Multicast([]byte("\x11"))
		want(t, "packets for one, later", lan.Multicasts()-before, 1)
		want(t, "bob", b.take(), []string{"left 3", "seen 1", "seen 3"})
	})
}

// A deaf host is kept alive over QUIC, and pinged.
func TestDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := memnet.New()
		ann := lan.Host("ann", "10.77.0.1/24")
		ann.Deafen(true)
		a := start(t, ann, 1)
		b := start(t, lan.Host("bob", "10.77.0.2/24"), 2)
		time.Sleep(time.Second)
		want(t, "ann hears nobody", a.take(), []string{})
		want(t, "bob hears ann", b.take(), []string{"seen 1"})
		a.Hint(presence.Hint{Device: id(2), Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.77.0.2:5000")}, Via: presence.Authd})
		a.Linked(id(2))
		time.Sleep(2100 * time.Millisecond)
		want(t, "a hint, a link, a ping", a.take(), []string{"ping 2", "seen 2", "seen 2"})
		for range 20 {
			time.Sleep(time.Second)
			a.Heard(id(2), presence.QUIC)
		}
		want(t, "heard over QUIC", a.take(), []string{})
		time.Sleep(6600 * time.Millisecond)
		want(t, "and no more", a.take(), []string{"lost 2", "ping 2", "ping 2", "ping 2"})
		a.Vouch(id(2), id(3))
		a.Unvouch(id(3))
		a.Unlinked(id(2))
		a.Goodbye(id(2))
		a.Probe()
		a.AuthdUp(true)
		time.Sleep(time.Second)
		want(t, "goodbye of one who was lost", a.take(), []string{})
	})
}

// What is posted from Handle itself, and after the end, blocks nobody.
func TestCallsFromHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := memnet.New()
		var a *member
		linked := make(chan *member, 1)
		a = start(t, lan.Host("ann", "10.77.0.1/24"), 1, func(c *discovery.Config) {
			next := c.Handle
			c.Handle = func(e presence.Event) {
				next(e)
				m := <-linked
				for range 1000 {
					m.Linked(e.Device)
				}
				linked <- m
			}
		})
		linked <- a
		start(t, lan.Host("bob", "10.77.0.2/24"), 2)
		time.Sleep(time.Second)
		want(t, "events", a.take(), []string{"seen 2"})
		a.quit()
		a.Linked(id(3))
		a.Multicast([]byte("\x11"))
		want(t, "peers after the end", a.Peers(context.Background()), []presence.Peer(nil))
	})
}

// A reader whose consumer is stuck reads on; presence is dropped and counted.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := memnet.New()
		stuck := make(chan struct{})
		a := start(t, lan.Host("ann", "10.77.0.1/24"), 1, func(c *discovery.Config) {
			c.Handle = func(presence.Event) { <-stuck }
		})
		b := start(t, lan.Host("bob", "10.77.0.2/24"), 2)
		time.Sleep(time.Second) // ann's loop is stuck in bob's event
		for range 3000 {
			b.Multicast([]byte{wire.TypePresence})
		}
		b.Multicast(make([]byte, 1501))
		b.Multicast([]byte("\x11still"))
		synctest.Wait()
		want(t, "others' packets", a.takePackets(), []string{"10.77.0.2:4748/2: \x11still"})
		st := a.Stats()
		if st.Dropped < 1900 || st.Dropped > 3000 || st.TooLong != 1 {
			t.Errorf("stats %+v", st)
		}
		close(stuck)
	})
}

// A switch that forgets after 260 s who is in a group, as they do, is told in time.
func TestRejoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := memnet.New()
		start(t, lan.Host("ann", "10.77.0.1/24", "fe80::1/64"), 1)
		for range 5 {
			before := lan.Rejoined()
			time.Sleep(125 * time.Second)
			want(t, "sockets that joined again", lan.Rejoined()-before, uint64(2))
		}
	})
}

func TestGroupAddrs(t *testing.T) {
	v4, v6 := discovery.GroupAddrs(testRealm)
	// Known answers, for other implementations.
	want(t, "IPv4", v4.String(), "239.195.75.175")
	want(t, "IPv6", v6.String(), "ff12:5412:94b7:a609:98da:991a:c94d:923")
	for n := range 200 {
		v4, v6 := discovery.GroupAddrs(wire.RealmID{byte(n)})
		if !netip.MustParsePrefix("239.192.0.0/14").Contains(v4) || !netip.MustParsePrefix("ff12::/16").Contains(v6) || v6.As16()[12]&0x80 == 0 {
			t.Errorf("%v, %v", v4, v6)
		}
	}
}
