package host_test

import (
	"crypto/ed25519"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"lanchat/discovery"
	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/wire"
)

// victim is a machine at 10.77.0.99 that counts the bytes it gets.
func (l *lab) victim() *atomic.Int64 {
	var got atomic.Int64
	host := l.net.Host("victim", "10.77.0.99/24")
	for port := range uint16(1000) {
		conn, err := host.ListenPacket(5000 + port)
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { conn.Close() })
		go func() {
			buf := make([]byte, 2000)
			for {
				n, _, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				got.Add(int64(n))
			}
		}()
	}
	return &got
}

// Somebody says by mDNS that authd is at every port of one who never asked for
// it: while there is no authd, little goes there, and authd is found once it is
// there.
func TestLyingHints(t *testing.T) {
	run(t, func(l *lab) {
		got := l.victim()
		ann := l.node("ann")
		ann.look = true
		for port := range uint16(1000) {
			ann.hints = append(ann.hints, netip.AddrPortFrom(netip.MustParseAddr("10.77.0.99"), 5000+port))
		}
		l.stopAuthd()
		ann.start()
		ann.wait("no authd", 10*time.Second, authdIs("down"))
		time.Sleep(time.Minute)
		if n := got.Load(); n == 0 || n > 100_000 {
			t.Errorf("the victim got %d bytes in a minute", n)
		}
		l.startAuthd()
		ann.wait("authd", 5*time.Second, authdIs("up"))
	})
}

// Somebody on the LAN makes up four hundred devices, all at the address of one
// who never asked for it, says bob's goodbye for him, and repeats whatever he
// said. The victim gets few packets, nobody is shown, bob stays, and the chat
// goes on.
func TestLyingPresence(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		l.inRoom("#lab", nodes)
		ann, bob := nodes[0], nodes[1]
		id := ann.profile.Pin().ID
		group, _ := discovery.GroupAddrs(id)

		got := l.victim()

		mallory := l.net.Host("mallory", "10.77.0.66/24")
		link := presence.Link{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.77.0.66/24")}}
		if all, err := mallory.Interfaces(); err != nil || len(all) != 2 {
			t.Fatal(all, err)
		} else {
			link.Index = all[1].Index
		}
		multicast, err := mallory.ListenGroup(link, netip.AddrPortFrom(group, discovery.GroupPort))
		if err != nil {
			t.Fatal(err)
		}
		defer multicast.Close()
		heard := make(chan []byte, 64) // what others say
		go func() {
			buf := make([]byte, 1500)
			for {
				n, _, err := multicast.ReadFrom(buf)
				if err != nil {
					return
				}
				if buf[0] == wire.TypePresence {
					select {
					case heard <- append([]byte{}, buf[:n]...):
					default:
					}
				}
			}
		}()
		for _, n := range nodes {
			n.mark()
		}
		say := func(b []byte) {
			if err := multicast.Send(b); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 400 {
			seed := make([]byte, ed25519.SeedSize)
			binary.BigEndian.PutUint32(seed, uint32(n))
			key := ed25519.NewKeyFromSeed(seed)
			p := wire.Presence{Key: wire.KeyOf(key.Public().(ed25519.PublicKey)), Boot: 1, Counter: 1, Kind: wire.Here, Role: wire.RoleNode,
				Period: 360 * time.Second, Port: 5000, Addrs: []netip.Addr{netip.MustParseAddr("10.77.0.99")}}
			say(p.Append(nil, id, key))
			bye := wire.Presence{Key: bob.profile.DeviceKey(), Boot: 1 << 60, Counter: uint64(n + 1), Kind: wire.Bye, Role: wire.RoleNode, Port: 5000}
			say(bye.Append(nil, id, key)) // not bob's signature
			select {
			case b := <-heard:
				say(b)
			default:
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if n := got.Load(); n == 0 || n > 200_000 {
			t.Errorf("the victim got %d bytes of two nodes in a minute", n)
		}
		for _, n := range nodes {
			if k := n.count(func(e chat.Event) bool { _, ok := e.(chat.Peer); return ok }); k > 0 {
				t.Errorf("%s was told %d times that somebody comes or goes:\n%s", n.name, k, n.log())
			}
		}
		ann.say("#lab", "reliable", "still here")
		bob.wait("the message", time.Second, message("#lab", "still here"))
		// A newcomer whom nobody knows finds everybody all the same.
		cat := l.node("cat").start()
		ann.wait("cat", 5*time.Second, peer("cat", "online"))
		cat.wait("bob", 5*time.Second, peer("bob", "online"))
	})
}
