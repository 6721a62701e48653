package host_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/authd/account"
	"lanchat/authd/server"
	authdstore "lanchat/authd/store"
	"lanchat/discovery"
	"lanchat/discovery/memnet"
	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/node/host"
	"lanchat/node/login"
	"lanchat/node/store"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

// A lab is the real authd and real nodes on a network in memory, in a bubble
// of virtual time. Only what is below the sockets is not real.
type lab struct {
	t      *testing.T
	dir    string
	net    *memnet.Network
	life   time.Duration // of tokens; 0: authd's default
	authd  *authd        // the first
	authds []*authd
	nodes  []*node
}

const (
	authdPort = 4747
	password  = "vexed-otter-plinth"
)

// names is who there is in a lab, at most; the fixture has registered them.
var names = []string{"ann", "bob", "cat", "dan"}

// run gives f a lab in a bubble, in which the people named have tokens already.
// At the end everything is stopped; the bubble fails the test when a goroutine
// stays behind.
func run(t *testing.T, f func(l *lab)) {
	t.Helper()
	registered := fixture(t)
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, t.TempDir())
		if err := os.CopyFS(l.dir, registered); err != nil {
			t.Fatal(err)
		}
		closeDirs(t, l.dir)
		defer l.close()
		l.startAuthd()
		f(l)
	})
}

func newLab(t *testing.T, dir string) *lab {
	return &lab{t: t, dir: filepath.Join(dir, "lab"), net: memnet.New()}
}

// closeDirs takes what is in dir from everybody else again: the copy of a
// directory is open to the group.
func closeDirs(t *testing.T, dir string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

var registered struct {
	once sync.Once
	dir  string
}

// fixture returns an authd's and everybody's directories after all have
// registered: hashing a password takes a good part of a second, by design.
// Every bubble begins at the same moment, so the tokens are good in all.
func fixture(t *testing.T) fs.FS {
	registered.once.Do(func() {
		dir, err := os.MkdirTemp("", "lanchat-host-")
		if err != nil {
			t.Fatal(err)
		}
		registered.dir = dir
		t.Run("register", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, dir)
				defer l.close()
				l.startAuthd()
				for _, name := range names {
					l.node(name).start()
				}
				for _, n := range l.nodes {
					for _, p := range names {
						if p != n.name {
							n.wait(p, 20*time.Second, peer(p, "online"))
						}
					}
				}
			})
		})
	})
	if registered.dir == "" || t.Failed() {
		t.Fatal("nobody could register")
	}
	return os.DirFS(filepath.Join(registered.dir, "lab"))
}

func TestMain(m *testing.M) {
	status := m.Run()
	os.RemoveAll(registered.dir)
	os.Exit(status)
}

func (l *lab) close() {
	for _, n := range l.nodes {
		n.stop()
		n.closeStore()
	}
	for _, a := range l.authds {
		a.halt()
	}
}

// ---- authd

// An authd is one machine that serves the realm.
type authd struct {
	l           *lab
	host        *memnet.Host
	dir         string
	port        uint16
	addr        string // of host
	fingerprint realm.Fingerprint
	clock       clock
	stop        func() error // nil: it does not run
}

// A clock is a machine's, which may be wrong.
type clock struct{ ahead atomic.Int64 } // a time.Duration

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

// startAuthd starts the lab's first authd, at the address that nodes are told.
func (l *lab) startAuthd() {
	l.t.Helper()
	if l.authd == nil {
		l.authd = l.newAuthd("authd", "10.77.0.100")
	}
	l.authd.start()
}

// newAuthd returns a machine that can serve from the directory of that name in
// the lab's.
func (l *lab) newAuthd(name, addr string) *authd {
	a := &authd{l: l, host: l.net.Host(name, addr+"/24"), dir: filepath.Join(l.dir, name), port: authdPort, addr: addr}
	l.authds = append(l.authds, a)
	return a
}

func (a *authd) start() {
	l := a.l
	l.t.Helper()
	must := func(err error) {
		l.t.Helper()
		if err != nil {
			l.t.Fatal(err)
		}
	}
	keys, err := server.OpenKeys(a.dir, "test realm", a.clock.now())
	must(err)
	st, err := authdstore.Open(filepath.Join(a.dir, server.DatabaseFile), keys.Realm.ID)
	must(err)
	conn, err := a.host.ListenPacket(a.port)
	must(err)
	_, err = keys.Maintain(a.clock.now(), cmp.Or(l.life, realm.TokenLife))
	must(err)
	boot, err := st.Boot(a.clock.now())
	must(err)
	svc := discovery.New(discovery.Config{Realm: keys.Realm.ID, Key: keys.AuthdKey(), Boot: boot, Role: wire.RoleAuthd, Port: a.port, Net: a.host})
	srv, err := server.New(server.Config{Keys: keys, Store: st, Mail: st, Conn: conn, Rules: account.Config{TokenLife: l.life}, Discovery: svc, Now: a.clock.now})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	a.fingerprint = keys.Realm.Fingerprint()
	a.stop = func() error {
		cancel()
		return errors.Join(<-ran, conn.Close(), st.Close(), keys.Close())
	}
}

func (l *lab) stopAuthd() { l.authd.halt() }

// halt ends an authd as SIGTERM does.
func (a *authd) halt() {
	if a == nil || a.stop == nil {
		return
	}
	if err := a.stop(); err != nil {
		a.l.t.Errorf("authd: %v", err)
	}
	a.stop = nil
}

// operate does an operator's work in the database, whether or not the authd
// runs.
func (a *authd) operate(f func(*authdstore.Store) error) {
	a.l.t.Helper()
	r, _, err := server.ReadRealm(a.dir)
	if err != nil {
		a.l.t.Fatal(err)
	}
	st, err := authdstore.Open(filepath.Join(a.dir, server.DatabaseFile), r.ID)
	if err != nil {
		a.l.t.Fatal(err)
	}
	if err := errors.Join(f(st), st.Close()); err != nil {
		a.l.t.Fatal(err)
	}
}

// revoke shuts a node's device out.
func (a *authd) revoke(n *node) {
	a.l.t.Helper()
	a.operate(func(st *authdstore.Store) error { return st.Revoke(n.profile.DeviceKey(), time.Now()) })
}

// ---- nodes

// A node is one person's machine: what stays when the program ends, the
// program, and the person, who is its face.
type node struct {
	l        *lab
	name     string
	host     *memnet.Host
	disk     *disk
	loss     float64          // of what comes by multicast
	user     string           // whose further device it is; "": the first of the one it is named after
	peers    []string         // named, as by --peer
	patience time.Duration    // with which authd is looked for; 0: for ever
	own      bool             // only what it holds is asked for
	look     bool             // for authd by itself: it is not told where that is
	hints    []netip.AddrPort // what mDNS says of authd, every second

	clock   clock
	profile *login.Profile // of the program that was started last
	addr    netip.AddrPort // likewise: its UDP socket
	logs    bytes.Buffer

	control *pipeListener  // nil: none
	piped   []chat.Command // typed at once, and the input ends with them unless it is nil

	asked  int    // how often for name and password
	typing func() // what happens while they are typed; nil: nothing
	cancel func()
	ended  chan error

	mu     sync.Mutex
	events []seen
	news   chan struct{} // has a value when events grew
	begun  chan struct{} // closed when Run was called
	do     func(chat.Command)
	links  map[wire.DeviceID]int // that are up
	linked int                   // links that were ever up
	shakes map[string]bool       // QUIC handshakes: the other's address and my connection id
	marked int                   // wait and count look at events from here
}

type seen struct {
	at time.Time
	e  chat.Event
}

// disk is a store that can fail for a while.
type disk struct {
	*store.Store
	mu   sync.Mutex
	full bool
}

var errFull = errors.New("no space left on device")

func (d *disk) Apply(r []chat.Record) error {
	d.mu.Lock()
	full := d.full
	d.mu.Unlock()
	if full {
		return errFull
	}
	return d.Store.Apply(r)
}

func (d *disk) fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// node returns a machine that is switched off.
func (l *lab) node(name string) *node {
	l.t.Helper()
	st, err := store.OpenMemory()
	if err != nil {
		l.t.Fatal(err)
	}
	n := &node{l: l, name: name, host: l.net.Host(name, ip(name)+"/24"), disk: &disk{Store: st}, news: make(chan struct{}, 1)}
	l.nodes = append(l.nodes, n)
	return n
}

// ip returns the address of a person's machine.
func ip(name string) string { return fmt.Sprintf("10.77.0.%d", slices.Index(names, name)+1) }

// start runs the node as main does.
func (n *node) start() *node {
	l := n.l
	l.t.Helper()
	profile, err := login.Open(filepath.Join(l.dir, n.name))
	if err != nil {
		l.t.Fatal(err)
	}
	conn, err := n.host.ListenPacket(0)
	if err != nil {
		l.t.Fatal(err)
	}
	profile.Machine = n.clock.now
	n.profile = profile
	n.addr = netip.AddrPortFrom(netip.MustParseAddr(ip(n.name)), conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	n.begun = make(chan struct{})
	n.mu.Lock()
	n.links, n.linked, n.shakes = map[wire.DeviceID]int{}, 0, map[string]bool{}
	n.mu.Unlock()
	fingerprint := l.authd.fingerprint
	cfg := host.Config{
		Profile: profile, Store: n.disk, Conn: shakeCounter{conn, n}, Face: n, Network: n.network(),
		Authds: []netip.AddrPort{netip.MustParseAddrPort(fmt.Sprintf("10.77.0.100:%d", authdPort))},
		Enter: host.Enter{
			Trust:    login.Trust{Fingerprint: &fingerprint},
			Asks:     n.piped == nil,
			Own:      n.own,
			Patience: n.patience,
			Credentials: func(_ context.Context, _ realm.Realm, problem error) (host.Credentials, error) {
				n.asked++ // before Run is called
				if n.typing != nil {
					n.typing()
				}
				c := host.Credentials{Name: n.name, Password: password, Device: "test", Register: true, LogIn: true}
				if n.user != "" {
					c.Name, c.Register = n.user, false
				}
				return c, problem
			},
		},
		Logger: n.logger(), Peers: n.peers,
	}
	if n.look {
		cfg.Authds = nil
	}
	if n.control != nil {
		cfg.Control = n.control
		cfg.ControlFace = func(net.Conn) host.Face { return n.control.face(l) }
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.ended = cancel, make(chan error, 1)
	go func() {
		err := host.Run(ctx, cfg)
		n.ended <- errors.Join(err, conn.Close())
	}()
	return n
}

// logger keeps what the node logs, and prints it too if LANCHAT_TEST_LOG is
// set.
func (n *node) logger() *slog.Logger {
	w := io.Writer(&n.logs)
	if os.Getenv("LANCHAT_TEST_LOG") != "" {
		w = io.MultiWriter(w, os.Stderr)
	}
	return slog.New(slog.NewTextHandler(locked{w, &n.mu}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// locked writes under a lock.
type locked struct {
	io.Writer
	mu *sync.Mutex
}

func (w locked) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Writer.Write(b)
}

// logged returns the lines of the log that contain s.
func (n *node) logged(s string) (lines []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for line := range strings.Lines(n.logs.String()) {
		if strings.Contains(line, s) {
			lines = append(lines, line)
		}
	}
	return lines
}

func (n *node) network() host.Network {
	return host.Network{
		Browse: func(ctx context.Context, found func(netip.AddrPort)) {
			for ctx.Err() == nil {
				for _, a := range n.hints {
					found(a)
				}
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
		},
		Discover: func(self host.Self, event func(presence.Event), packet func([]byte, netip.AddrPort)) host.Discovery {
			return &linkCounter{n: n, Service: discovery.New(discovery.Config{Realm: self.Realm, Key: self.Key, Boot: self.Boot, Role: wire.RoleNode, Port: self.Port, TokenHash: self.Token,
				Net: lossy{n.host, n}, Handle: event, Packet: func(b []byte, from netip.AddrPort, _ int) { packet(b, from) }})}
		},
	}
}

// A linkCounter is a discovery that counts the links the host speaks of.
type linkCounter struct {
	*discovery.Service
	n *node
}

func (c *linkCounter) Linked(d wire.DeviceID) {
	c.n.mu.Lock()
	c.n.links[d]++
	c.n.linked++
	c.n.mu.Unlock()
	c.Service.Linked(d)
}

func (c *linkCounter) Unlinked(d wire.DeviceID) {
	c.n.mu.Lock()
	c.n.links[d]--
	c.n.mu.Unlock()
	c.Service.Unlinked(d)
}

// A pipeListener is a control socket in memory. Its connections' faces are one
// node's with nothing but a person.
type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}

	mu     sync.Mutex
	script *node
}

func (p *pipeListener) face(l *lab) *node {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.script == nil {
		p.script = &node{l: l, name: "script", news: make(chan struct{}, 1), begun: make(chan struct{}), ended: make(chan error, 1)}
	}
	return p.script
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipeListener) Addr() net.Addr { return nil }

// A shakeCounter is a socket that counts the handshakes its owner takes part
// in, by the source connection ids of long headers (RFC 8999, section 5.1).
type shakeCounter struct {
	net.PacketConn
	n *node
}

func (c shakeCounter) WriteTo(b []byte, to net.Addr) (int, error) {
	if len(b) > 6 && b[0]&0x80 != 0 {
		if at := 6 + int(b[5]); at < len(b) && at+1+int(b[at]) <= len(b) {
			c.n.mu.Lock()
			c.n.shakes[to.String()+" "+string(b[at+1:at+1+int(b[at])])] = true
			c.n.mu.Unlock()
		}
	}
	return c.PacketConn.WriteTo(b, to)
}

func (c shakeCounter) SetReadBuffer(int) error  { return nil } // quic-go complains without
func (c shakeCounter) SetWriteBuffer(int) error { return nil }

// shakesWith returns how many handshakes there were with another node.
func (n *node) shakesWith(p *node) (k int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for s := range n.shakes {
		if strings.HasPrefix(s, ip(p.name)+":") {
			k++
		}
	}
	return k
}

// stop ends the node as SIGTERM does, and waits until it has.
func (n *node) stop() {
	n.l.t.Helper()
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.cancel = nil
	if err := <-n.ended; err != nil {
		n.l.t.Errorf("%s ended with %v", n.name, err)
	}
}

func (n *node) closeStore() {
	if err := n.disk.Close(); err != nil {
		n.l.t.Errorf("closing the store of %s: %v", n.name, err)
	}
}

// lossy is a network of which a node hears only a part of what is sent to
// groups.
type lossy struct {
	*memnet.Host
	n *node
}

func (l lossy) ListenGroup(link presence.Link, group netip.AddrPort) (discovery.GroupConn, error) {
	c, err := l.Host.ListenGroup(link, group)
	if err != nil {
		return nil, err
	}
	return &lossyGroup{GroupConn: c, n: l.n, state: uint64(len(l.n.name))*7919 + uint64(l.n.name[0])}, nil
}

type lossyGroup struct {
	discovery.GroupConn
	n     *node
	state uint64
}

func (c *lossyGroup) ReadFrom(b []byte) (int, netip.AddrPort, error) {
	for {
		n, from, err := c.GroupConn.ReadFrom(b)
		c.state = c.state*6364136223846793005 + 1442695040888963407 // the same losses every time
		lucky := float64(c.state>>40)/(1<<24) >= c.n.lossNow()
		if err != nil || lucky {
			return n, from, err
		}
	}
}

func (n *node) lossNow() float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.loss
}

func (n *node) setLoss(percent float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = percent / 100
}

// ---- the person

func (n *node) Show(e chat.Event) {
	if n.host != nil {
		n.host.Wait() // so that the loop stands still when the host does
	}
	n.mu.Lock()
	n.events = append(n.events, seen{time.Now(), e})
	n.mu.Unlock()
	select {
	case n.news <- struct{}{}:
	default:
	}
}

func (n *node) Run(ctx context.Context, do func(chat.Command)) error {
	n.mu.Lock()
	n.do = do
	close(n.begun)
	n.mu.Unlock()
	if n.piped != nil {
		for _, c := range n.piped {
			do(c)
		}
		return io.EOF
	}
	<-ctx.Done()
	return ctx.Err()
}

func (n *node) Close() error { return nil }

// type_ types lines, in a chat or in none.
func (n *node) type_(lines ...string) {
	n.l.t.Helper()
	<-n.begun
	for _, line := range lines {
		n.do(chat.Command{Line: line})
	}
}

// say sends a message.
func (n *node) say(to, mode, text string) {
	<-n.begun
	n.do(chat.Command{Say: true, Text: text, Chat: to, Mode: mode})
}

// mark has wait and count forget what was shown so far.
func (n *node) mark() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.marked = len(n.events)
}

func (n *node) since() []seen {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.events[n.marked:])
}

// wait waits for an event and returns when it was shown; it fails the test
// after the time given.
func (n *node) wait(what string, within time.Duration, match func(chat.Event) bool) time.Time {
	n.l.t.Helper()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		for _, s := range n.since() {
			if match(s.e) {
				return s.at
			}
		}
		select {
		case <-n.news:
		case err := <-n.ended:
			n.ended <- err
			n.l.t.Fatalf("%s waits for %s and has ended: %v; it saw\n%s", n.name, what, err, n.log())
		case <-timeout.C:
			n.l.t.Fatalf("%s waits for %s; it saw\n%s", n.name, what, n.log())
		}
	}
}

// waitTimes waits until so many events match.
func (n *node) waitTimes(what string, times int, within time.Duration, match func(chat.Event) bool) {
	n.l.t.Helper()
	for end := time.Now().Add(within); n.count(match) < times; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			n.l.t.Fatalf("%s waits for %s; it saw\n%s", n.name, what, n.log())
		}
	}
}

// log is what was shown, for failures.
func (n *node) log() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	events := n.events
	if len(events) > 60 {
		events = events[len(events)-60:]
	}
	var b strings.Builder
	for _, s := range events {
		fmt.Fprintf(&b, "  %s %T %+v\n", s.at.Format("15:04:05.000"), s.e, s.e)
	}
	return b.String()
}

// count returns how many events match.
func (n *node) count(match func(chat.Event) bool) (k int) {
	for _, s := range n.since() {
		if match(s.e) {
			k++
		}
	}
	return k
}

// texts returns the texts of the messages shown in a chat, in order.
func (n *node) texts(inChat, from string) (texts []string) {
	for _, s := range n.since() {
		if m, ok := s.e.(chat.Message); ok && m.Chat == inChat && m.From == from {
			texts = append(texts, m.Text)
		}
	}
	return texts
}

func peer(user, state string) func(chat.Event) bool {
	return func(e chat.Event) bool {
		p, ok := e.(chat.Peer)
		return ok && p.User == user && p.State == state
	}
}

func message(inChat, text string) func(chat.Event) bool {
	return func(e chat.Event) bool {
		m, ok := e.(chat.Message)
		return ok && m.Chat == inChat && m.Text == text
	}
}

func members(inChat string, want ...string) func(chat.Event) bool {
	return func(e chat.Event) bool {
		r, ok := e.(chat.Room)
		return ok && r.Chat == inChat && slices.Equal(r.Members, want)
	}
}

func authdIs(state string) func(chat.Event) bool {
	return func(e chat.Event) bool {
		a, ok := e.(chat.Authd)
		return ok && a.State == state
	}
}

func code(c string) func(chat.Event) bool {
	return func(e chat.Event) bool {
		switch e := e.(type) {
		case chat.Error:
			return e.Code == c
		case chat.Notice:
			return e.Code == c
		}
		return false
	}
}

// transport is the socket of a program on the LAN that is no node. done closes it.
func (l *lab) transport(who, addr string) (tr *quic.Transport, done func()) {
	l.t.Helper()
	conn, err := l.net.Host(who, addr+"/24").ListenPacket(0)
	if err != nil {
		l.t.Fatal(err)
	}
	tr = link.NewTransport(conn, nil)
	return tr, func() {
		tr.Close()
		conn.Close()
	}
}

// hello dials a node as its peers do, with any identity, and says Hello on the
// control stream. The caller closes the connection.
func hello(ctx context.Context, tr *quic.Transport, id link.Identity, to *node, m wire.Hello) (*quic.Conn, *quic.Stream, error) {
	c, _, err := link.DialPeer(ctx, tr, to.addr, id, to.profile.Verifier(), time.Now, to.profile.DeviceKey().Device())
	if err != nil {
		return nil, nil, err
	}
	control, err := c.OpenStreamSync(ctx)
	if err == nil {
		err = link.WriteFrame(control, wire.FrameHello, m.Append(nil))
	}
	if err != nil {
		c.CloseWithError(link.CloseGoodbye, "")
		return nil, nil, err
	}
	return c, control, nil
}

// together starts nodes and waits until everybody sees everybody.
func (l *lab) together(who ...string) []*node {
	l.t.Helper()
	nodes := make([]*node, len(who))
	for i, name := range who {
		nodes[i] = l.node(name).start()
	}
	for _, n := range nodes {
		for _, p := range nodes {
			if p != n {
				n.wait(p.name, 10*time.Second, peer(p.name, "online"))
			}
		}
	}
	return nodes
}

// pause lets time pass while the nodes do not run: idle days take their time
// even when it is virtual.
func (l *lab) pause(d time.Duration, nodes []*node) {
	for _, n := range nodes {
		n.stop()
		n.mark()
	}
	time.Sleep(d)
	for _, n := range nodes {
		n.start()
	}
}

// inRoom has the first node make a room and the others join, one after the
// other, and waits until all know all.
func (l *lab) inRoom(room string, nodes []*node) {
	l.t.Helper()
	var who []string
	for i, n := range nodes {
		who = append(who, n.name)
		if i == 0 {
			n.type_("/create " + room)
		} else {
			n.type_("/join " + room)
		}
		for _, m := range nodes[:i+1] {
			m.wait(fmt.Sprintf("%s with %v", room, who), 20*time.Second, members(room, who...))
		}
	}
}
