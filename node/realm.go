package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"lanchat/authd/account"
	"lanchat/authd/server"
	authdstore "lanchat/authd/store"
	"lanchat/discovery"
	"lanchat/wire"
	"lanchat/wire/realm"
)

// hostAuthd starts an authd of one's own inside this process; its realm lives
// in the data directory.
func (n *node) hostAuthd() (netip.AddrPort, realm.Fingerprint, error) {
	name := "lanchat"
	if host := deviceName(); realm.CheckRealmName(host) == nil {
		name = host
	}
	a, err := startAuthd(filepath.Join(n.opts.data, "authd"), authdConfig{ifaces: n.opts.ifaces, name: name, port: discovery.AuthdPort, mdns: true})
	if err != nil {
		return netip.AddrPort{}, realm.Fingerprint{}, err
	}
	n.closers = append(n.closers, a.close)
	if n.ask != nil {
		n.ask.Say("An authd runs inside this program now. Others join by starting node; compare its fingerprint:\n  " + a.fingerprint.String())
	}
	return a.addr, a.fingerprint, nil
}

// An innerAuthd is an authd inside this process.
type innerAuthd struct {
	addr        netip.AddrPort // on loopback
	fingerprint realm.Fingerprint
	stop        context.CancelFunc
	done        chan error
}

// close stops it as SIGTERM stops the program.
func (a *innerAuthd) close() error {
	a.stop()
	return <-a.done
}

// authdConfig says how an inner authd serves.
type authdConfig struct {
	name   string   // of the realm, for the first start
	ifaces []string // nil: every LAN
	port   int      // 0, or if it is taken: any
	mdns   bool
}

// startAuthd does what authd's own main does, for a data directory.
func startAuthd(data string, c authdConfig) (*innerAuthd, error) {
	keys, err := server.OpenKeys(data, c.name, time.Now())
	if err != nil {
		return nil, fmt.Errorf("starting an authd: %w", err)
	}
	closers := []func() error{keys.Close}
	fail := func(err error) (*innerAuthd, error) {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
		return nil, fmt.Errorf("starting an authd: %w", err)
	}
	st, err := authdstore.Open(filepath.Join(data, server.DatabaseFile), keys.Realm.ID)
	if err != nil {
		return fail(err)
	}
	closers = append(closers, st.Close)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: c.port})
	if err != nil {
		conn, err = net.ListenUDP("udp", nil)
	}
	if err != nil {
		return fail(err)
	}
	closers = append(closers, conn.Close)
	now := time.Now()
	if _, err := keys.Maintain(now, realm.TokenLife); err != nil {
		return fail(err)
	}
	boot, err := st.Boot(now)
	if err != nil {
		return fail(err)
	}
	bound := uint16(conn.LocalAddr().(*net.UDPAddr).Port)
	svc := discovery.New(discovery.Config{Realm: keys.Realm.ID, Key: keys.AuthdKey(), Boot: boot, Role: wire.RoleAuthd, Port: bound, Ifaces: c.ifaces, MDNS: c.mdns})
	srv, err := server.New(server.Config{
		Keys: keys, Store: st, Conn: conn, Rules: account.Config{Registration: account.Open}, Discovery: svc,
		LocalAddrs: func() (all []netip.Addr) {
			for _, l := range svc.Links() {
				for _, p := range l.Prefixes {
					all = append(all, p.Addr())
				}
			}
			return all
		},
	})
	if err != nil {
		return fail(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	a := &innerAuthd{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), bound), fingerprint: keys.Realm.Fingerprint(), stop: stop, done: make(chan error, 1)}
	go func() {
		err := srv.Run(ctx)
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
		a.done <- err
	}()
	return a, nil
}
