package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/testdata/bench/light"
	"lanchat/wire"
	"lanchat/wire/link"
)

// After a power cut everybody comes back at once: first without an account,
// then with a token. Each has an address of their own, as on a LAN, and nobody
// is refused. A signal ends authd cleanly while all are connected.
func TestStorm(t *testing.T) {
	const nodes = 200
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	a := start(t, dir)
	address := a.block["address"]
	to := netip.MustParseAddrPort(address)
	all := make([]*light.Node, nodes)
	transports := make([]*quic.Transport, nodes)
	for i := range all {
		pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 2, 0, byte(1+i))})
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		transports[i] = link.NewTransport(pc, nil)
		defer transports[i].Close()
		all[i] = newLight(t, "user"+strconv.Itoa(i))
	}
	// rush has all of them do f on a connection of their own, again where that
	// came to nothing, and returns the connections.
	rush := func(f func(context.Context, *light.Node, *quic.Conn) error) []*quic.Conn {
		t.Helper()
		conns := make([]*quic.Conn, nodes)
		var wg sync.WaitGroup
		for i, n := range all {
			wg.Go(func() {
				for ctx.Err() == nil {
					conn, err := n.Dial(ctx, transports[i], to)
					if err == nil {
						if err = f(ctx, n, conn); err == nil {
							conns[i] = conn
							return
						}
						conn.CloseWithError(link.CloseGoodbye, "")
					}
					if _, refused := errors.AsType[*light.Refusal](err); refused {
						t.Errorf("%s: %v", n.Name, err)
						return
					}
				}
				t.Errorf("%s: %v", n.Name, ctx.Err())
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		return conns
	}
	for _, conn := range rush(func(ctx context.Context, n *light.Node, conn *quic.Conn) error {
		err := n.LogIn(ctx, conn, wire.AuthRegister)
		if r, ok := errors.AsType[*light.Refusal](err); ok && r.Code == wire.CodeNameTaken { // by themselves: the answer was lost
			err = n.LogIn(ctx, conn, wire.AuthLogin)
		}
		return err
	}) {
		conn.CloseWithError(link.CloseGoodbye, "")
	}
	a.stop(os.Kill)

	a = start(t, dir, "--listen", address)
	want(t, "accounts", a.block["accounts"], strconv.Itoa(nodes))
	conns := rush(func(ctx context.Context, n *light.Node, conn *quic.Conn) error { return n.Renew(ctx, conn) })
	if got := a.stop(syscall.SIGTERM); got != 0 {
		t.Errorf("with %d nodes connected: got status %d, %q", nodes, got, &a.stderr)
	}
	for i, conn := range conns {
		<-conn.Context().Done()
		if code, ok := link.Closed(context.Cause(conn.Context())); !ok || code != link.CloseGoodbye {
			t.Errorf("%s: the connection ended with %v, want a goodbye", all[i].Name, context.Cause(conn.Context()))
		}
	}
}
