//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/authd/serve"
	"lanchat/node/login"
	"lanchat/testdata/bench/light"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

const (
	authWorkers = 16   // side by side, for rates
	authNodes   = 1000 // connected, and in storms
	authAtOnce  = 500  // that log in at once while others renew
	authRenew   = 20   // who renew meanwhile
	storm       = 60 * time.Second
)

// serveAuthd is the helper that is an authd: DATA HOST:PORT PROFILE.
func serveAuthd(args []string) error {
	addr, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	a, err := serve.Open(serve.Config{
		Data: args[0], Name: "bench", Listen: net.UDPAddrFromAddrPort(addr), Ifaces: []string{"lo"},
		// As it is in life, log included.
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- a.Run(ctx) }()
	go serve.TendMemory(ctx)
	err = profiled(args[2], func() error { return answer(a.Server.Addr().String(), args[2]) })
	cancel()
	return errors.Join(err, <-ran, a.Close())
}

// serveBare is the helper that only accepts connections, by the TLS rules and
// with the certificates of the authd whose data directory it is given, and
// sends back the one byte that a client sends: DATA HOST:PORT PROFILE.
func serveBare(args []string) error {
	addr, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	load := func(name string) (*tls.Certificate, error) {
		path := filepath.Join(args[0], name) // certificate and key in one file
		c, err := tls.LoadX509KeyPair(path, path)
		return &c, err
	}
	root, err1 := load("root.pem")
	own, err2 := load("authd.pem")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	id := link.Fixed(own.PrivateKey, own.Leaf, root.Leaf)
	v, err := realm.NewVerifier(root.Leaf)
	if err != nil {
		return err
	}
	pc, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	defer pc.Close()
	tr := link.NewTransport(pc, nil)
	defer tr.Close()
	tr.VerifySourceAddress = link.RetryAlways
	ln, err := link.ListenAuthd(tr, id, v, time.Now)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				if stream, err := conn.AcceptStream(conn.Context()); err == nil {
					io.Copy(stream, stream)
					stream.Close()
				}
			}()
		}
	}()
	return profiled(args[2], func() error { return answer(pc.LocalAddr().String(), args[2]) })
}

// A place is where a node is: an address of its own, of which loopback has
// plenty. authd's limits by address then hold as on a LAN.
type place struct {
	pc *net.UDPConn
	tr *quic.Transport
}

// open takes the i-th place.
func open(i int) (place, error) {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 1, byte(i/250), byte(1+i%250))})
	if err != nil {
		return place{}, err
	}
	return place{pc, link.NewTransport(pc, nil)}, nil
}

func (p place) close() {
	p.tr.Close()
	p.pc.Close()
}

// An authBench has many nodes, each with an account and a place, and one
// authd.
type authBench struct {
	*bench
	data   string
	authd  *helper
	to     netip.AddrPort
	nodes  []*light.Node
	places []place
}

func benchAuth(ctx context.Context, b *bench) (err error) {
	fmt.Print(`  The nodes' slow hash of the password (Argon2id, 64 MiB) is replaced by one that takes no time: authd is
  measured, not the nodes. Every connection is a full handshake of TLS 1.3 with certificates on both sides,
  after a Retry. Nodes have addresses of their own, so that authd's limits hold as on a LAN.
`)
	a := &authBench{bench: b, data: filepath.Join(b.dir, "authd")}
	for i := range authNodes {
		p, err := open(i)
		if err != nil {
			return err
		}
		defer p.close()
		n, err := light.New(fmt.Sprintf("user%d", i))
		if err != nil {
			return err
		}
		a.places, a.nodes = append(a.places, p), append(a.nodes, n)
	}
	if err := a.startAuthd("127.0.0.1:0"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.authd.stop()) }()
	for _, step := range []func(context.Context) error{a.register, a.rates, a.memory, a.renewWhileOthersLogIn, a.storms} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (a *authBench) startAuthd(at string) (err error) {
	if a.authd, err = a.start("authd", a.data, at); err != nil {
		return err
	}
	a.to, err = netip.ParseAddrPort(a.authd.ready)
	return err
}

// all does f for n nodes, a few at a time.
func (a *authBench) all(n int, f func(i int) error) error {
	var next atomic.Int64
	errs := make([]error, authWorkers)
	var wg sync.WaitGroup
	for w := range authWorkers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = f(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// on does f on a connection of the i-th node.
func (a *authBench) on(ctx context.Context, i int, f func(*quic.Conn) error) error {
	conn, err := a.nodes[i].Dial(ctx, a.places[i].tr, a.to)
	if err != nil {
		return err
	}
	defer conn.CloseWithError(link.CloseGoodbye, "")
	return f(conn)
}

func (a *authBench) register(ctx context.Context) error {
	return a.all(len(a.nodes), func(i int) error {
		return a.on(ctx, i, func(conn *quic.Conn) error { return a.nodes[i].LogIn(ctx, conn, wire.AuthRegister) })
	})
}

// rate has f done side by side for a while, each time for another node, and
// returns how often in a second, and the processor time of h for one.
func (a *authBench) rate(h *helper, f func(i int) error) (perSecond float64, each time.Duration, err error) {
	before, err := h.usage()
	if err != nil {
		return 0, 0, err
	}
	var next, done atomic.Int64
	begin := time.Now()
	errs := make([]error, authWorkers)
	var wg sync.WaitGroup
	for w := range authWorkers {
		wg.Go(func() {
			for errs[w] == nil && time.Since(begin) < a.each {
				if errs[w] = f(int(next.Add(1)-1) % len(a.nodes)); errs[w] == nil {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	after, err := h.usage()
	if err = errors.Join(err, errors.Join(errs...)); err != nil || done.Load() == 0 {
		return 0, 0, err
	}
	return float64(done.Load()) / took.Seconds(), (after.CPU - before.CPU) / time.Duration(done.Load()), nil
}

// echo has one byte sent back.
func echo(ctx context.Context, conn *quic.Conn) error {
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	if _, err := stream.Write([]byte{1}); err != nil {
		return err
	}
	stream.Close()
	_, err = io.ReadAll(stream)
	return err
}

func (a *authBench) rates(ctx context.Context) error {
	bare, err := a.start("bare", a.data, "127.0.0.1:0")
	if err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(bare.ready)
	if err != nil {
		return err
	}
	for _, kind := range []struct {
		what  string
		token bool
		f     func(context.Context, *quic.Conn, *light.Node) error
	}{
		{"log-ins", false, func(ctx context.Context, conn *quic.Conn, n *light.Node) error {
			return n.LogIn(ctx, conn, wire.AuthLogin)
		}},
		{"renewals, each with a connection", true, func(ctx context.Context, conn *quic.Conn, n *light.Node) error {
			return n.Renew(ctx, conn)
		}},
	} {
		var busy [authNodes]sync.Mutex // a node does one thing at a time
		one := func(to netip.AddrPort, f func(*quic.Conn, *light.Node) error) func(i int) error {
			return func(i int) error {
				busy[i].Lock()
				defer busy[i].Unlock()
				n := *a.nodes[i]
				if !kind.token {
					if err := n.Forget(); err != nil {
						return err
					}
				}
				conn, err := n.Dial(ctx, a.places[i].tr, to)
				if err != nil {
					return err
				}
				defer conn.CloseWithError(link.CloseGoodbye, "")
				return f(conn, &n)
			}
		}
		plain, plainCPU, err := a.rate(bare, one(at, func(conn *quic.Conn, _ *light.Node) error { return echo(ctx, conn) }))
		if err != nil {
			return err
		}
		got, cpu, err := a.rate(a.authd, one(a.to, func(conn *quic.Conn, n *light.Node) error { return kind.f(ctx, conn, n) }))
		if err != nil {
			return err
		}
		say(kind.what, "%.0f/s, %v of processor time each", got, cpu.Round(time.Microsecond))
		say("  bare accept loop with the same TLS and certificates", "%.0f/s, %v", plain, plainCPU.Round(time.Microsecond))
		say("  ratio", "%.2f (of processor time %.2f)", got/plain, plainCPU.Seconds()/cpu.Seconds())
	}
	return bare.stop()
}

// connect has every node connect with its token, and returns how to end that.
func (a *authBench) connect(ctx context.Context) (end func(), err error) {
	conns := make([]*quic.Conn, len(a.nodes))
	end = func() {
		for _, c := range conns {
			if c != nil {
				c.CloseWithError(link.CloseGoodbye, "")
			}
		}
	}
	err = a.all(len(a.nodes), func(i int) (err error) {
		if conns[i], err = a.nodes[i].Dial(ctx, a.places[i].tr, a.to); err != nil {
			return err
		}
		if _, err = light.Revocations(ctx, conns[i]); err != nil {
			return err
		}
		_, err = light.Ask(ctx, conns[i], &wire.AuthPing{})
		return err
	})
	if err != nil {
		end()
	}
	return end, err
}

func (a *authBench) memory(ctx context.Context) error {
	before, err := a.authd.usage()
	if err != nil {
		return err
	}
	end, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	select {
	case <-time.After(2 * time.Second): // until what the handshakes needed is given up
	case <-ctx.Done():
	}
	after, err := a.authd.usage()
	if err != nil {
		return err
	}
	n := float64(len(a.nodes))
	each := func(after, before uint64) float64 { return (float64(after) - float64(before)) / n / 1024 }
	say("memory per connected node", "%.1f KiB of heap, %.1f KiB of %.1f stacks, %.1f KiB resident", each(after.Heap, before.Heap),
		each(after.Stacks, before.Stacks), float64(after.Goroutines-before.Goroutines)/n, each(after.RSS, before.RSS))
	say(fmt.Sprintf("  authd with %d of them", len(a.nodes)), "%.1f MiB resident, before %.1f MiB", float64(after.RSS)/(1<<20), float64(before.RSS)/(1<<20))
	return nil
}

// renewWhileOthersLogIn times the renewals of some who are connected while
// many log in at once.
func (a *authBench) renewWhileOthersLogIn(ctx context.Context) error {
	conns := make([]*quic.Conn, authRenew)
	for i := range conns {
		var err error
		if conns[i], err = a.nodes[i].Dial(ctx, a.places[i].tr, a.to); err != nil {
			return err
		}
		defer conns[i].CloseWithError(link.CloseGoodbye, "")
	}
	done := make(chan struct{})
	var ready result
	go func() {
		defer close(done)
		ready = a.rush(ctx, authRenew, authRenew+authAtOnce, false)
	}()
	var mu sync.Mutex
	var times []time.Duration
	var err error
	var wg sync.WaitGroup
	for i, conn := range conns {
		wg.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for range 50 { // less than authd's limit by address
				begin := time.Now()
				e := a.nodes[i].Renew(ctx, conn)
				mu.Lock()
				times, err = append(times, time.Since(begin)), errors.Join(err, e)
				mu.Unlock()
				select {
				case <-tick.C:
				case <-done:
					return
				}
			}
		})
	}
	wg.Wait()
	<-done
	if err = errors.Join(err, ready.err); err != nil {
		return err
	}
	n := len(times)
	say(fmt.Sprintf("renewal while %d nodes log in at once", authAtOnce), "p50 %v, p99 %v (%d renewals)",
		percentile(times, 0.5).Round(100*time.Microsecond), percentile(times, 0.99).Round(100*time.Microsecond), n)
	say("  those log-ins", "%v", &ready)
	return nil
}

// A result is how a rush went.
type result struct {
	times   []time.Duration // until each was ready
	away    int             // connections that authd had no room for; they were tried again
	late    int             // that took longer than a node waits, so too
	refused int             // requests that authd said no to
	err     error
}

func (r *result) String() string {
	return fmt.Sprintf("all ready after %v (half after %v); %d refusals; tried again: %d for want of room, %d too slow",
		percentile(r.times, 1).Round(10*time.Millisecond), percentile(r.times, 0.5).Round(10*time.Millisecond), r.refused, r.away, r.late)
}

// rush has the nodes of an interval come all at once, as after a power cut,
// and each try again as a node does until it is connected with a new token.
func (a *authBench) rush(ctx context.Context, from, to int, token bool) (r result) {
	ctx, cancel := context.WithTimeout(ctx, storm)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var hold []*quic.Conn
	defer func() {
		for _, c := range hold {
			c.CloseWithError(link.CloseGoodbye, "")
		}
	}()
	begin := time.Now()
	for i := from; i < to; i++ {
		n := a.nodes[i]
		if !token {
			if r.err = n.Forget(); r.err != nil {
				return r
			}
		}
		try := func() error {
			ctx, cancel := context.WithTimeout(ctx, login.Patience)
			defer cancel()
			if n.Grant == nil {
				if err := a.on(ctx, i, func(conn *quic.Conn) error { return n.LogIn(ctx, conn, wire.AuthLogin) }); err != nil {
					return err
				}
			}
			conn, err := n.Dial(ctx, a.places[i].tr, a.to)
			if err != nil {
				return err
			}
			mu.Lock()
			hold = append(hold, conn)
			mu.Unlock()
			if token {
				return n.Renew(ctx, conn)
			}
			_, err = light.Ask(ctx, conn, &wire.AuthPing{})
			return err
		}
		wg.Go(func() {
			for failures := 1; ; failures++ {
				err := try()
				_, refused := errors.AsType[*light.Refusal](err)
				mu.Lock()
				switch {
				case err == nil:
					r.times = append(r.times, time.Since(begin))
				case refused:
					r.refused++
				case noRoom(err):
					r.away++
				default:
					r.late++
				}
				mu.Unlock()
				if err == nil {
					return
				}
				select {
				case <-time.After(login.Pause(failures)):
				case <-ctx.Done():
					mu.Lock()
					r.err = fmt.Errorf("not ready after %v: %w", storm, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return r
}

// noRoom reports whether authd had no room for a connection.
func noRoom(err error) bool {
	e, ok := errors.AsType[*quic.TransportError](err)
	return ok && e.ErrorCode == quic.ConnectionRefused
}

// storms cuts authd's power and has everybody come back at once.
func (a *authBench) storms(ctx context.Context) error {
	for _, s := range []struct {
		what  string
		token bool
	}{{"power cut, %d nodes come back with tokens", true}, {"power cut, %d nodes log in", false}} {
		if err := a.authd.kill(); err != nil {
			return err
		}
		if err := a.startAuthd(a.to.String()); err != nil {
			return err
		}
		r := a.rush(ctx, 0, len(a.nodes), s.token)
		if r.err != nil {
			return r.err
		}
		say(fmt.Sprintf(s.what, len(a.nodes)), "%v", &r)
	}
	return nil
}
