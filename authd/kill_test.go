package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/authd/server"
	"lanchat/testdata/bench/light"
	"lanchat/wire"
	"lanchat/wire/link"
)

// How often TestKilledAtAnyMoment kills authd; the environment can ask for
// more.
const (
	killRounds = 15
	killsVar   = "LANCHAT_KILLS"
)

// An asking is what became of something that a person wanted.
type asking int

const (
	no           asking = iota
	asked               // it may be so afterwards, or not
	acknowledged        // it must
)

// A person has one account with one device.
type person struct {
	*light.Node
	name, newName    string // at first, and after the renaming
	renamed, revoked asking
}

// A ledger is what people were told by an authd that was killed again and
// again, and hold it to.
type ledger struct {
	mu      sync.Mutex
	people  []*person
	serials [][]byte // of every token that was granted
	crl     int64    // the highest number of a revocation list
}

func (l *ledger) joined(p *person) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.people = append(l.people, p)
}

func (l *ledger) granted(t *testing.T, d *light.Node) {
	leaf, err := x509.ParseCertificate(d.Grant.Leaf)
	if err != nil {
		t.Error(err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serials = append(l.serials, leaf.SerialNumber.FillBytes(make([]byte, 16)))
}

// listed notes the number of a revocation list.
func (l *ledger) listed(t *testing.T, der []byte) (number int64) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Error(err)
		return 0
	}
	number = list.Number.Int64()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.crl = max(l.crl, number)
	return number
}

// TestKilledAtAnyMoment kills authd, and the operator's commands beside it, at
// random moments while people register, renew, are renamed and are revoked.
// What was acknowledged is so afterwards, nothing was granted that is not on
// record, and the revocation list's number never falls.
func TestKilledAtAnyMoment(t *testing.T) {
	rounds := killRounds
	if s := os.Getenv(killsVar); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("%s=%q: want a number", killsVar, s)
		}
		rounds = n
	}
	dir := filepath.Join(t.TempDir(), "authd")
	l := new(ledger)
	for round := range rounds {
		a := start(t, dir)
		l.check(t, dir, a)
		if t.Failed() {
			return
		}
		l.untilKilled(t, dir, a, round)
	}
	a := start(t, dir)
	l.check(t, dir, a)
	if got := a.stop(syscall.SIGTERM); got != 0 {
		t.Errorf("got status %d, %q", got, &a.stderr)
	}
	var renamed, revoked int
	for _, p := range l.people {
		if p.renamed == acknowledged {
			renamed++
		}
		if p.revoked == acknowledged {
			revoked++
		}
	}
	t.Logf("killed %d times; acknowledged: %d registrations, %d renamings, %d revocations, %d tokens",
		rounds, len(l.people), renamed, revoked, len(l.serials))
	if len(l.people) < rounds || renamed == 0 || revoked == 0 {
		t.Error("that is too little to have tested anything")
	}
}

// untilKilled has people at work from three addresses until authd is killed.
func (l *ledger) untilKilled(t *testing.T, dir string, a *running, round int) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	begun := make(chan struct{}, 3)
	for worker := range 3 {
		wg.Go(func() {
			pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, byte(1+worker), byte(round/250), byte(1+round%250))})
			if err != nil {
				t.Error(err)
				return
			}
			defer pc.Close()
			tr := link.NewTransport(pc, nil)
			defer tr.Close()
			dial := func(ctx context.Context, d *light.Node) (*quic.Conn, error) {
				return d.Dial(ctx, tr, netip.MustParseAddrPort(a.block["address"]))
			}
			for i := 0; ctx.Err() == nil; i++ {
				d, err := light.New(fmt.Sprintf("p%d.%d.%d", round, worker, i))
				if err != nil {
					t.Error(err)
					return
				}
				if err := l.live(ctx, t, dir, d, dial, i); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", d.Name, err)
				}
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	<-begun
	select { // the moment of death; nothing that is checked depends on it
	case <-time.After(time.Duration(rand.IntN(150)) * time.Millisecond):
	case <-t.Context().Done():
	}
	cancel() // first: then nobody takes the death for a fault
	a.stop(os.Kill)
	wg.Wait()
}

// live is the i-th person's life: registered, back with the token, renewed;
// every other one renamed, by themselves or by the operator, every other one's
// device shut out by the operator or from another device. The first person's
// life has all that the operator can do in it, the second's the rest.
func (l *ledger) live(ctx context.Context, t *testing.T, dir string, d *light.Node, dial func(context.Context, *light.Node) (*quic.Conn, error), i int) error {
	on := func(d *light.Node, f func(*quic.Conn) error) error {
		conn, err := dial(ctx, d)
		if err != nil {
			return err
		}
		defer conn.CloseWithError(link.CloseGoodbye, "")
		return f(conn)
	}
	if err := on(d, func(conn *quic.Conn) error { return d.LogIn(ctx, conn, wire.AuthRegister) }); err != nil {
		return err
	}
	p := &person{Node: d, name: d.Name, newName: "n" + d.Name}
	l.joined(p)
	l.granted(t, d)
	own := i%2 == 1 // themselves, rather than the operator
	name := d.Name
	if err := on(d, func(conn *quic.Conn) error {
		list, err := light.Revocations(ctx, conn)
		if err != nil {
			return err
		}
		l.listed(t, list.CRL)
		if err := d.Renew(ctx, conn); err != nil {
			return err
		}
		l.granted(t, d)
		if i%4 > 1 {
			return nil
		}
		name = p.newName
		if !own {
			return p.renamed.by(operator(ctx, dir, "user", "rename", p.name, p.newName))
		}
		if err := p.renamed.by(func() error { return d.Rename(ctx, conn, p.newName) }); err != nil {
			return err
		}
		l.granted(t, d)
		return nil
	}); err != nil {
		return err
	}
	switch {
	case i%8 > 3:
		return nil
	case !own:
		return p.revoked.by(operator(ctx, dir, "device", "revoke", name, d.ID().String()))
	}
	second, err := light.New(name)
	if err != nil {
		return err
	}
	second.Password = d.Password
	if err := on(second, func(conn *quic.Conn) error { return second.LogIn(ctx, conn, wire.AuthLogin) }); err != nil {
		return err
	}
	l.granted(t, second)
	return on(second, func(conn *quic.Conn) error {
		return p.revoked.by(func() error {
			_, err := light.Ask(ctx, conn, &wire.AuthRevoke{Device: d.ID()})
			return err
		})
	})
}

// by has something asked for, and notes what became of it.
func (a *asking) by(ask func() error) error {
	*a = asked
	if err := ask(); err != nil {
		return err
	}
	*a = acknowledged
	return nil
}

// operator returns how to run a command in a process of its own, which is
// killed when ctx ends.
func operator(ctx context.Context, dir string, args ...string) func() error {
	return func() error {
		cmd := exec.CommandContext(ctx, os.Args[0], append(args, "--data", dir)...)
		cmd.Env = append(os.Environ(), asAuthd+"=1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("authd %v: %w: %s", args, err, &stderr)
		}
		return nil
	}
}

// check compares what people were told with what authd has on record since it
// was started again.
func (l *ledger) check(t *testing.T, dir string, a *running) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, server.DatabaseFile)+"?_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var ok string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&ok); err != nil || ok != "ok" {
		t.Fatalf("integrity_check: got %q, %v", ok, err)
	}
	for _, serial := range l.serials {
		var n int
		if err := db.QueryRow("SELECT count(*) FROM certificate WHERE serial = ?", serial).Scan(&n); err != nil || n != 1 {
			t.Errorf("a token was granted that is not on record: serial %x, %v", serial, err)
		}
	}
	var shutOut *person
	for _, p := range l.people {
		key := p.PublicKey()
		var name string
		var revoked bool
		if err := db.QueryRow(`SELECT account.name, device.revoked IS NOT NULL FROM device JOIN account ON account.id = device.account
			WHERE device.key = ?`, key[:]).Scan(&name, &revoked); err != nil {
			t.Errorf("%s was registered: %v", p.name, err)
			continue
		}
		if want := p.newName; name != want && (name != p.name || p.renamed == acknowledged) || name == want && p.renamed == no {
			t.Errorf("%s: on record as %q, renamed to %q: %v", p.name, name, want, p.renamed)
		}
		if revoked && p.revoked == no || !revoked && p.revoked == acknowledged {
			t.Errorf("%s: revoked on record: %v, asked for: %v", p.name, revoked, p.revoked)
		}
		if p.revoked == acknowledged {
			shutOut = p
		}
		if p.revoked == asked { // from now on it is known
			if p.revoked = no; revoked {
				p.revoked = acknowledged
			}
		}
		if p.renamed == asked {
			if p.renamed = no; name == p.newName {
				p.renamed = acknowledged
			}
		}
	}

	// What the new authd says to those who come back.
	before := l.crl
	d, err := light.New(fmt.Sprintf("check%d", before))
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	tr := link.NewTransport(pc, nil)
	defer tr.Close()
	dial := func(ctx context.Context, d *light.Node) (*quic.Conn, error) {
		return d.Dial(ctx, tr, netip.MustParseAddrPort(a.block["address"]))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := dial(ctx, d)
	if err == nil {
		defer conn.CloseWithError(link.CloseGoodbye, "")
		err = d.LogIn(ctx, conn, wire.AuthRegister)
	}
	if err != nil {
		t.Fatalf("registering after the start: %v", err)
	}
	if number := l.listed(t, d.Grant.CRL); number <= before {
		t.Errorf("revocation list %d after %d", number, before)
	}
	if shutOut != nil {
		if conn, err := dial(ctx, shutOut.Node); err == nil {
			err = shutOut.Renew(ctx, conn)
			if _, closed := errors.AsType[*quic.TransportError](err); !closed {
				t.Errorf("%s was revoked, and may try to renew: %v", shutOut.name, err)
			}
			conn.CloseWithError(link.CloseGoodbye, "")
		}
	}
}
