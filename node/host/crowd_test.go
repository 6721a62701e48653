package host_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/discovery"
	"lanchat/node/login"
	"lanchat/testdata/bench/light"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

// A crowd is people who do no more than to be there: connected with authd, in the
// group, and polite to who links with them.
type crowd struct {
	t        *testing.T
	verifier *realm.Verifier
	ctx      context.Context
	running  sync.WaitGroup
}

// join brings one more person to an address.
func (c *crowd) join(l *lab, name, addr string) {
	t := c.t
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	host := l.net.Host(name, addr+"/24")
	conn, err := host.ListenPacket(5000)
	must(err)
	transport := link.NewTransport(conn, nil)
	n, err := light.New(name)
	must(err)
	authd := netip.AddrPortFrom(netip.MustParseAddr(l.authd.addr), l.authd.port)
	first, err := n.Dial(c.ctx, transport, authd)
	must(err)
	must(n.LogIn(c.ctx, first, wire.AuthRegister))
	must(first.CloseWithError(link.CloseGoodbye, ""))
	session, err := n.Dial(c.ctx, transport, authd)
	must(err)
	_, err = light.Ask(c.ctx, session, &wire.AuthRoster{})
	must(err)
	listener, err := link.ListenPeers(transport, n.Identity(), c.verifier, time.Now)
	must(err)
	service := discovery.New(discovery.Config{Realm: l.realm(), Key: n.Key, Boot: 1, Port: 5000, Net: host})
	c.running.Go(func() {
		must(service.Run(c.ctx))
		session.CloseWithError(link.CloseGoodbye, "")
		listener.Close()
		transport.Close()
		conn.Close()
	})
	c.running.Go(func() {
		for {
			conn, err := listener.Accept(c.ctx)
			if err != nil {
				return
			}
			c.running.Go(func() { greet(c.ctx, conn) })
		}
	})
}

// greet says hello on a new link and keeps it.
func greet(ctx context.Context, conn *quic.Conn) {
	control, err := conn.AcceptStream(ctx)
	if err != nil {
		return
	}
	for {
		typ, body, err := link.ReadFrame(control)
		if err != nil {
			return
		}
		switch typ {
		case wire.FrameHello:
			err = link.WriteFrame(control, wire.FrameHello, (&wire.Hello{Boot: 1}).Append(nil))
		case wire.FramePing:
			err = link.WriteFrame(control, wire.FramePong, body)
		}
		if err != nil {
			return
		}
	}
}

// realm returns the id of the realm, which everybody has pinned.
func (l *lab) realm() wire.RealmID {
	p, err := login.Open(filepath.Join(l.dir, "bob"))
	if err != nil {
		l.t.Fatal(err)
	}
	return p.Pin().ID
}

// hundred is how many nodes there are; the race detector makes them dear.
var hundred = 100

// "First sight of every peer on a LAN of 100 nodes within 1 s": of a newcomer with
// a token, who has links with all of them then.
func TestHundred(t *testing.T) {
	run(t, func(l *lab) {
		bob, err := login.Open(filepath.Join(l.dir, "bob"))
		if err != nil {
			t.Fatal(err)
		}
		l.net.SetDelay(time.Millisecond)
		ctx, cancel := context.WithCancel(context.Background())
		c := &crowd{t: t, verifier: bob.Verifier(), ctx: ctx}
		defer c.running.Wait()
		defer cancel()
		others := hundred - 1
		for n := range others {
			c.join(l, fmt.Sprint("p", n), fmt.Sprintf("10.77.0.%d", 101+n))
		}
		time.Sleep(3 * time.Second)
		ann := l.node("ann")
		begin := time.Now()
		ann.start()
		var last time.Duration
		for n := range others {
			name := fmt.Sprint("p", n)
			last = max(last, ann.wait(name, 10*time.Second, peer(name, "online")).Sub(begin))
		}
		if last > time.Second {
			t.Errorf("everybody is seen %v after the start", last)
		}
		t.Log("everybody is seen after", last)
	})
}
