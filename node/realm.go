package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"syscall"

	"lanchat/authd/serve"
	"lanchat/discovery"
	"lanchat/wire/realm"
)

// hostAuthd starts an authd of one's own inside this process; its realm lives
// in the data directory.
func (n *node) hostAuthd() (netip.AddrPort, realm.Fingerprint, error) {
	name := "lanchat"
	if host := deviceName(); realm.CheckRealmName(host) == nil {
		name = host
	}
	a, err := startAuthd(serve.Config{Data: filepath.Join(n.opts.data, "authd"), Name: name, Listen: &net.UDPAddr{Port: discovery.AuthdPort},
		Ifaces: n.opts.ifaces, MDNS: true, Logger: n.config.Logger})
	if err != nil {
		return netip.AddrPort{}, realm.Fingerprint{}, err
	}
	n.closers = append(n.closers, a.close)
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

// startAuthd starts an authd inside this process; if its port is taken, at
// any other.
func startAuthd(c serve.Config) (*innerAuthd, error) {
	authd, err := serve.Open(c)
	if errors.Is(err, syscall.EADDRINUSE) {
		c.Listen = &net.UDPAddr{}
		authd, err = serve.Open(c)
	}
	if err != nil {
		return nil, fmt.Errorf("starting an authd: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	port := authd.Server.Addr().(*net.UDPAddr).Port
	a := &innerAuthd{
		addr:        netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)),
		fingerprint: authd.Keys.Realm.Fingerprint(), stop: stop, done: make(chan error, 1),
	}
	go func() { a.done <- errors.Join(authd.Run(ctx), authd.Close()) }()
	return a, nil
}
