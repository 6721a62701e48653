// Package serve puts an authd together: the realm's keys, the database, the
// socket, discovery and the server. It is the part that two mains share:
// authd's own, and node's, which can have an authd inside its process.
//
// It decides nothing; start at Open.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"lanchat/authd/account"
	"lanchat/authd/server"
	"lanchat/authd/store"
	"lanchat/discovery"
	"lanchat/discovery/presence"
	"lanchat/wire"
	"lanchat/wire/realm"
)

// Config says how an authd serves.
type Config struct {
	Data   string         // directory of keys and database, made if there is none
	Name   string         // of the realm, for the first start
	Listen *net.UDPAddr   // without an IP: every address; port 0: any
	Ifaces []string       // to be found on; nil: every LAN
	MDNS   bool           // advertise by mDNS too
	Rules  account.Config // for accounts
	Logger *slog.Logger   // nil discards
}

// An Authd is ready to run. Its fields are not changed.
type Authd struct {
	Keys   *server.Keys
	Store  *store.Store
	Server *server.Server

	data    string
	started time.Time
	conn    *net.UDPConn
	control *control // nil: none could be made
}

// Open opens everything an authd needs, and makes the realm at its first
// start. A socket that cannot be opened is an error of the operating system,
// such as EADDRINUSE. The caller closes what it returns.
func Open(c Config) (*Authd, error) {
	a := &Authd{data: c.Data, started: time.Now()}
	if err := a.open(c); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Authd) open(c Config) (err error) {
	now := a.started
	if a.Keys, err = server.OpenKeys(c.Data, c.Name, now); err != nil {
		return err
	}
	if a.Store, err = store.Open(filepath.Join(c.Data, server.DatabaseFile), a.Keys.Realm.ID); err != nil {
		return err
	}
	if a.conn, err = net.ListenUDP("udp", c.Listen); err != nil {
		return fmt.Errorf("opening the socket: %w", err)
	}
	if _, err := a.Keys.Maintain(now, realm.TokenLife); err != nil {
		return err
	}
	boot, err := a.Store.Boot(now)
	if err != nil {
		return err
	}
	found := discovery.New(discovery.Config{
		Realm:  a.Keys.Realm.ID,
		Key:    a.Keys.AuthdKey(),
		Boot:   boot,
		Role:   wire.RoleAuthd,
		Port:   uint16(a.conn.LocalAddr().(*net.UDPAddr).Port),
		Ifaces: c.Ifaces,
		MDNS:   c.MDNS,
		Handle: func(e presence.Event) {
			if e.Kind == presence.Cloned && c.Logger != nil {
				c.Logger.Warn("another authd has the same authd.pem, so nodes take the two for one that is in two places: remove authd.pem and reset.pem in one of the two data directories and start it again",
					"other", e.Addrs)
			}
		},
		Logger: c.Logger,
	})
	a.Server, err = server.New(server.Config{
		Keys: a.Keys, Store: a.Store, Mail: a.Store, Conn: a.conn, Rules: c.Rules, Discovery: found, Logger: c.Logger,
		LocalAddrs: found.Addrs,
	})
	if err != nil {
		return err
	}
	// Before anybody says that authd serves: who hears that may ask at once.
	if a.control, err = startControl(c.Data, a.answer); err != nil && c.Logger != nil {
		c.Logger.Warn("authd status will not reach this authd", "err", err)
	}
	return nil
}

// Run serves until ctx ends.
func (a *Authd) Run(ctx context.Context) error { return a.Server.Run(ctx) }

// Close closes what Open opened, in the opposite order: the data directory's
// lock goes last.
func (a *Authd) Close() (err error) {
	if a.control != nil {
		err = a.control.Close()
	}
	if a.conn != nil {
		err = errors.Join(err, a.conn.Close())
	}
	if a.Store != nil {
		err = errors.Join(err, a.Store.Close())
	}
	if a.Keys != nil {
		err = errors.Join(err, a.Keys.Close())
	}
	return err
}
