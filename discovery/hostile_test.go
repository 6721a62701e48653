package discovery_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"lanchat/discovery"
	"lanchat/discovery/memnet"
	"lanchat/discovery/presence"
	"lanchat/wire"
)

func publicKey(n int) ed25519.PublicKey { return key(n).Public().(ed25519.PublicKey) }

// heap returns what is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A hundred and twenty thousand packets that are nothing, in the group: cut
// short, with bits flipped, foreign, replayed, forged, noise. Nothing grows,
// nothing is logged, nobody comes and nobody goes.
func TestMalformedPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const batch = 600 // fewer at a time than the queue has room for
		count := 120_000 / discovery.Bulk
		lan := memnet.New()
		var log bytes.Buffer
		a := start(t, lan.Host("ann", "10.77.0.1/24"), 1, func(c *discovery.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		synctest.Wait() // it hears all that bob says
		b := start(t, lan.Host("bob", "10.77.0.2/24"), 2)
		mallory := lan.Host("mallory", "10.77.0.66/24")
		link := presence.Link{Index: 2, Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.77.0.66/24")}}
		group, _ := discovery.GroupAddrs(testRealm)
		c, err := mallory.ListenGroup(link, netip.AddrPortFrom(group, discovery.GroupPort))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		time.Sleep(5 * time.Second)
		var genuine []byte
		buf := make([]byte, 1500)
		for genuine == nil {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			if from.Addr() == netip.MustParseAddr("10.77.0.2") {
				genuine = bytes.Clone(buf[:n])
			}
		}
		want(t, "who is there", a.take(), []string{"seen 2"})

		foreign := wire.Presence{Key: wire.KeyOf(publicKey(9)), Boot: 1, Counter: 1, Kind: wire.Here, Role: wire.RoleNode, Port: 5}
		packets := [][]byte{foreign.Append(nil, wire.RealmID{1}, key(9)), genuine} // another realm's; replayed
		forged := foreign
		forged.Key, forged.Kind, forged.Boot = wire.KeyOf(publicKey(2)), wire.Bye, 1<<62
		packets = append(packets, forged.Append(nil, testRealm, key(9))) // a goodbye that is not bob's
		random := rand.New(rand.NewPCG(3, 4))
		before, goroutines := heap(), runtime.NumGoroutine()
		for n := range count {
			p := packets[n%len(packets)]
			switch n % 8 {
			case 0, 1:
				p = bytes.Clone(genuine)
				p[random.IntN(len(p))] ^= 1 << random.IntN(8)
			case 2:
				p = genuine[:random.IntN(len(genuine))]
			case 3:
				p = make([]byte, random.IntN(1501))
				for i := range p {
					p[i] = byte(random.Uint32())
				}
			case 4:
				p = append(bytes.Clone(genuine), genuine...)
			}
			if err := c.Send(p); err != nil {
				t.Fatal(err)
			}
			if n%batch == 0 {
				synctest.Wait()
				a.takePackets() // of rooms, as far as can be seen here
				b.takePackets()
			}
		}
		synctest.Wait()
		a.takePackets()
		b.takePackets()
		if grown := heap() - before; grown > 1<<20 {
			t.Errorf("memory grew by %d bytes", grown)
		}
		if now := runtime.NumGoroutine(); now > goroutines {
			t.Errorf("%d goroutines, %d before", now, goroutines)
		}
		if log.Len() > 0 {
			t.Errorf("it was logged:\n%.1000s", log.String())
		}
		want(t, "who comes and goes", a.take(), []string{})
		st := a.Stats()
		if st.Dropped > uint64(count/100) || st.Presence.Malformed < uint64(count/10) || st.Presence.Foreign < uint64(count/100) || st.Presence.Stale < uint64(count/100) || st.Presence.Forged == 0 {
			t.Errorf("the packets passed by: %+v", st)
		}
		if peers := a.Peers(context.Background()); len(peers) != 1 || peers[0].Device != id(2) || peers[0].State != presence.StateAlive {
			t.Errorf("got %+v, want bob", peers)
		}
		time.Sleep(time.Minute)
		want(t, "afterwards", a.take(), []string{})
	})
}
