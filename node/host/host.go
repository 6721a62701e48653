// Package host is the node's shell: the one loop that owns the chat core, the
// QUIC links to other nodes, the connection to authd, and the control socket
// of one-shot commands.
//
// It holds no rule of the chat: bytes, commands and the time go into
// chat.Core, and the work that comes out is done here in its promised order,
// store, then send, then show. Start with Host.loop; links.go and link.go are
// the way to peers, find.go and authd.go the way to authd, enter.go what happens
// before there is a token, control.go the local socket.
package host

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

// A Store keeps what the core wants kept.
type Store interface {
	Load() (chat.State, error)
	Apply([]chat.Record) error
	NextBoot() (uint64, error)
	History(chat chat.ChatID, before chat.MessageID, limit int) ([]chat.SaveMessage, error)
	Search(text string, limit int) ([]chat.SaveMessage, error)
	Message(chat chat.ChatID, id chat.MessageID) ([]chat.SaveMessage, error)
	Nth(chat chat.ChatID, of wire.AccountID, n int) ([]chat.SaveMessage, error)
	Unread() (map[chat.ChatID]int, error)
	Each(chat chat.ChatID, f func(*chat.SaveMessage) error) error
	Sweep(chat chat.ChatID, before time.Time, bytes int64, limit int) (int, error)
	Long(room wire.RoomID, id chat.MessageID) ([]chat.SaveMessage, error)
	Missed(room wire.RoomID, after []wire.Have, limit int) ([]chat.SaveMessage, error)
	Signed(room wire.RoomID, device wire.DeviceID, ranges []wire.Range, limit int) ([]chat.SaveMessage, error)
}

// A Face shows events and takes commands; see ui.Face.
type Face interface {
	Show(e chat.Event)
	Run(ctx context.Context, do func(chat.Command)) error
	Close() error
}

// Discovery finds other nodes and carries room packets.
type Discovery interface {
	Run(ctx context.Context) error
	Multicast(packet []byte)
	Heard(device wire.DeviceID, via presence.Via)
	Linked(device wire.DeviceID)
	Unlinked(device wire.DeviceID)
	Goodbye(device wire.DeviceID)
	Hint(h presence.Hint)
	Vouch(devices ...wire.DeviceID)
	Unvouch(device wire.DeviceID)
	AuthdUp(up bool)
	// Rejoin has a network that forgot who is in the group hear it again.
	Rejoin()
	// Links and Skipped return which interfaces are used, and which are not;
	// Peers what is known of every device.
	Links() []presence.Link
	Skipped() []presence.Skipped
	Peers(ctx context.Context) []presence.Peer
	// Addrs returns the addresses at which this machine can be dialled, the
	// loopback ones left out.
	Addrs() []netip.Addr
}

// A Network is the ways of this machine to find others; main fills it with
// package discovery, tests with one in memory.
type Network struct {
	// Browse looks for authds until ctx ends and returns then.
	Browse func(ctx context.Context, found func(addr netip.AddrPort))
	// Discover makes the node's discovery, which calls event in order and
	// packet from any goroutine; both return at once.
	Discover func(self Self, event func(presence.Event), packet func(b []byte, from netip.AddrPort)) Discovery
}

// Config is what a Host is made of.
type Config struct {
	Profile *login.Profile // identity, pin, token
	Store   Store
	// Conn is the node's UDP socket, for every QUIC connection.
	Conn    net.PacketConn
	Network Network
	Face    Face
	// Authds is where authd is, without looking for it. Empty: look.
	Authds []netip.AddrPort
	// Peers are addresses, HOST:PORT, of nodes to dial besides those discovered.
	Peers []string
	// Enter is how to get a token when there is none.
	Enter Enter
	// Host starts an authd inside this process when none answers, and says
	// where it is and whose; nil: it does not. It runs until the process ends.
	Host func() (netip.AddrPort, realm.Fingerprint, error)
	// Mode is the mode of chats in which none was chosen.
	Mode chat.Mode
	// Started is when the program started; zero: now.
	Started time.Time
	// Control is the local socket for one-shot commands; nil: none. ControlFace
	// makes the face of one connection to it.
	Control     net.Listener
	ControlFace func(net.Conn) Face
	// Logger gets what goes wrong; nil discards.
	Logger *slog.Logger
}

// Self is what a node's discovery says of it.
type Self struct {
	Realm wire.RealmID
	Key   ed25519.PrivateKey // the device key
	Token func() wire.TokenHash
	Boot  uint64
	Port  uint16
}

// A Host runs one node.
type Host struct {
	cfg       Config
	log       *slog.Logger
	transport *quic.Transport
	discovery Discovery
	hosted    hosted
	core      *chat.Core
	self      wire.DeviceID
	boot      uint64
	port      uint16 // of cfg.Conn

	inbox     chan func(now time.Time) // what the loop does next
	commands  chan chat.Command        // of faces; not taken while too much waits to be sent
	packets   *packets
	seen      chan *presence.Event // what discovery tells; by pointer: a queue of values takes 400 KB
	authdLost chan struct{}        // authd's presence went away: see whether it answers
	authdSeen chan struct{}        // authd's presence is there, or elsewhere
	met       atomic.Int64         // devices in contacts
	quit      chan struct{}        // closed when the loop has ended
	stop      <-chan struct{}      // closed when the loop is to end
	ended     chan error           // the end of the face's Run
	reading   bool                 // the face's Run was called; only touched by Run
	leave     func()               // ends what enterWithFace does; nil: it was not called

	session atomic.Pointer[login.Session] // with authd, nil: it is away

	mu         sync.Mutex
	authdAddrs map[wire.DeviceID][]netip.AddrPort // where the presence of authds says they are

	// Owned by the loop.
	contacts map[wire.DeviceID]*contact
	targets  targets
	links    int
	answers  map[uint64]*quic.Stream // open questions of peers
	saves    []chat.Record           // to be stored with the core's next

	known      []chat.SaveAddress               // where devices were reached in earlier runs
	remembered map[wire.DeviceID]netip.AddrPort // where devices were reached last
	network    []presence.Link                  // when a peer was asked for others last
	watched    []presence.Link                  // when the links were last suspected
	looked     time.Time                        // when the network was looked at last
	peersLeft  int                              // so many new peers are still asked
	peersNext  time.Time                        // when one at random is asked; zero: none was yet

	lastID   uint64
	pings    map[uint64]pinged // that a command asked for, by nonce
	pulling  bool              // a revocation list is being asked for
	badLists int               // lists that peers offered and did not have
	shutOut  bool              // the person was told that this device is revoked
	ahead    bool              // the person was told that the clock is wrong; owned by keepAuthd
	warned   time.Time         // when one's own token ends, once the person was told
	faces    map[Face]bool
	renewed  time.Time  // when this device got its newest token
	authd    chat.Authd // the last news
	failed   error      // why the node has to end
	ready    chat.Ready
}

// Run runs a node until the person leaves (nil), ctx ends (nil) or something
// breaks. Conn and Control are the caller's to close.
func Run(ctx context.Context, cfg Config) error {
	h, err := open(cfg)
	if err != nil {
		return err
	}
	defer h.transport.Close()
	state, err := cfg.Store.Load()
	if err != nil {
		return fmt.Errorf("loading the chats: %w", err)
	}
	if v := cfg.Profile.Verifier(); v != nil {
		v.SetGrace(state.OutageGrace()) // which decides whether the token is good
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := h.enterWithFace(ctx); err != nil {
		close(h.quit)
		if ctx.Err() != nil || errors.Is(err, errLeft) {
			return nil
		}
		return err
	}
	if err := h.start(state); err != nil {
		return err
	}
	return h.loop(ctx)
}

// runFace has the face read what is typed, which nothing can interrupt on a
// terminal.
func (h *Host) runFace(ctx context.Context) {
	h.reading = true
	go func() { h.ended <- h.cfg.Face.Run(ctx, h.do) }()
}

// enterWithFace enters. Where nobody is asked for anything the face reads
// already: its commands wait, but /quit ends the program, and so does the end
// of the input, once authd had time to be found.
func (h *Host) enterWithFace(ctx context.Context) error {
	if h.cfg.Enter.Asks {
		return h.enter(ctx)
	}
	entering, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h.leave = func() { cancel(errLeft) }
	h.runFace(ctx)
	entered := make(chan struct{})
	defer close(entered)
	go func() {
		select {
		case err := <-h.ended:
			h.ended <- err // for the loop
			select {
			case <-time.After(leaveAfter):
				cancel(ErrNoAuthd)
			case <-entered:
			}
		case <-entered:
		}
	}()
	err := h.enter(entering)
	if cause := context.Cause(entering); err != nil && cause != nil {
		return cause
	}
	return err
}

// leaveAfter is how long authd is looked for once nothing more is typed.
const leaveAfter = 10 * time.Second

// errLeft says that the person has left before the node had its token.
var errLeft = errors.New("left")

// open returns a host that does nothing yet. The caller closes its transport.
func open(cfg Config) (*Host, error) {
	h := &Host{
		cfg:        cfg,
		log:        cfg.Logger,
		inbox:      make(chan func(time.Time), 1024),
		commands:   make(chan chat.Command, maxTurn),
		packets:    newPackets(),
		seen:       make(chan *presence.Event, 4096),
		authdLost:  make(chan struct{}, 1),
		authdSeen:  make(chan struct{}, 1),
		quit:       make(chan struct{}),
		ended:      make(chan error, 1),
		contacts:   map[wire.DeviceID]*contact{},
		targets:    targets{},
		authdAddrs: map[wire.DeviceID][]netip.AddrPort{},
		answers:    map[uint64]*quic.Stream{},
		remembered: map[wire.DeviceID]netip.AddrPort{},
		peersLeft:  peersFirst,
		pings:      map[uint64]pinged{},
		faces:      map[Face]bool{cfg.Face: true},
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Started.IsZero() {
		h.cfg.Started = time.Now()
	}
	var err error
	h.transport, err = transport(cfg)
	return h, err
}

// LogIn gets a token, unless the profile has one that is good, and returns.
func LogIn(ctx context.Context, cfg Config) error {
	h, err := open(cfg)
	if err != nil {
		return err
	}
	defer h.transport.Close()
	return h.enter(ctx)
}

// Trust finds the realm that cfg.Enter.Trust names, pins it, and returns.
func Trust(ctx context.Context, cfg Config) error {
	return withSession(ctx, cfg, func(*login.Session) error { return nil })
}

// withSession finds authd, calls do with a session, and closes everything.
func withSession(ctx context.Context, cfg Config, do func(*login.Session) error) error {
	h, err := open(cfg)
	if err != nil {
		return err
	}
	defer h.transport.Close()
	s, err := h.find(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s)
}

// transport makes the node's side of every QUIC connection. Its stateless
// resets, which make peers notice a restart at once, need a secret that
// outlives the process: it is derived from the device key.
func transport(cfg Config) (*quic.Transport, error) {
	b, err := hkdf.Key(sha256.New, cfg.Profile.Key().Seed(), nil, "lc1 stateless reset", len(quic.StatelessResetKey{}))
	if err != nil {
		return nil, fmt.Errorf("deriving the reset key: %w", err)
	}
	reset := quic.StatelessResetKey(b)
	t := link.NewTransport(cfg.Conn, &reset)
	t.VerifySourceAddress = link.RetryAbove(20)
	return t, nil
}

// start makes the core and the discovery of a node that has its token.
func (h *Host) start(state chat.State) error {
	token := h.cfg.Profile.Token()
	h.self = token.Device
	boot, err := h.cfg.Store.NextBoot()
	if err != nil {
		return fmt.Errorf("counting the start: %w", err)
	}
	h.boot = boot
	id := h.cfg.Profile.Pin().ID
	h.core, err = chat.New(time.Now(), chat.Config{Realm: id, Key: h.cfg.Profile.Key(), Token: token, Boot: boot,
		Mode: h.cfg.Mode, Rand: rand.Reader, Judge: h.tokenOf, State: state, Checks: checksPerSecond(h.cfg.Profile.Key()) / 2})
	if err != nil {
		return err
	}
	h.packets.reader.Store(h.core.Reader())
	h.known = state.Addresses
	h.port = uint16(h.cfg.Conn.LocalAddr().(*net.UDPAddr).Port)
	h.discovery = h.cfg.Network.Discover(Self{Realm: id, Key: h.cfg.Profile.Key(), Token: h.tokenHash, Boot: boot, Port: h.port},
		h.presence, func(b []byte, from netip.AddrPort) { h.packets.offer(b, from, true) })
	return nil
}

// loop is the node's life: the only place where the core is touched and, for
// the core, the clock is read.
func (h *Host) loop(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	h.stop = ctx.Done()
	var running sync.WaitGroup
	defer func() {
		close(h.quit)
		for _, c := range h.contacts {
			if c.link != nil {
				c.link.close(link.CloseGoodbye, "goodbye")
			}
		}
		cancel()
		running.Wait()
	}()
	ln, err := link.ListenPeers(h.transport, h.cfg.Profile.Identity, h.cfg.Profile.Verifier(), h.now)
	if err != nil {
		return fmt.Errorf("listening for peers: %w", err)
	}
	defer ln.Close()
	failed := make(chan error, 1)
	running.Go(func() { h.accept(ctx, ln) })
	running.Go(func() { h.readUnicast(ctx) })
	for range workers() {
		running.Go(func() { h.packets.work(ctx) })
	}
	running.Go(func() {
		if err := h.discovery.Run(ctx); err != nil && ctx.Err() == nil {
			failed <- fmt.Errorf("discovery: %w", err)
		}
	})
	h.showReady()
	h.newList(time.Now()) // the one on disk
	running.Go(func() { h.keepAuthd(ctx) })
	h.dialPeers(ctx)
	h.tryRemembered(time.Now())
	if !h.reading {
		h.runFace(ctx)
	}
	if h.cfg.Control != nil {
		running.Go(func() { h.control(ctx) })
	}

	check := time.NewTicker(checkEvery)
	defer check.Stop()
	network := time.NewTicker(networkEvery)
	defer network.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	leaving := false
	for {
		w := h.core.Take()
		if err := h.perform(&w); err != nil {
			return err
		}
		if w.Quit || h.failed != nil || leaving && len(h.commands) == 0 && !h.core.Busy() {
			return h.failed
		}
		if r := h.core.Reader(); r != h.packets.reader.Load() {
			h.packets.reader.Store(r)
		}
		now := time.Now()
		if slices.ContainsFunc(w.Save, isSetting) && h.cfg.Profile.Verifier().SetGrace(h.core.OutageGrace()) {
			h.checkTokens(now)
		}
		again := earlier(h.dialDue(ctx, now), h.askPeersDue(now))
		if d := h.core.Deadline(); !d.IsZero() {
			if !now.Before(d) {
				h.core.Advance(now)
				h.drain()
				continue
			}
			again = earlier(again, d)
		}
		timer.Stop()
		if !again.IsZero() {
			timer.Reset(time.Until(again))
		}
		commands := h.commands
		if h.core.Full() {
			commands = nil // they wait
		}
		select {
		case do := <-h.inbox:
			do(time.Now())
			h.drain()
		case j := <-h.packets.order:
			h.take(j)
			h.drain()
		case cmd := <-commands:
			h.core.Do(time.Now(), cmd)
			h.drain()
		case <-timer.C:
			h.core.Advance(time.Now())
		case e := <-h.seen:
			h.handlePresence(time.Now(), *e)
		case <-network.C:
			h.watchNetwork(time.Now())
		case <-check.C:
			h.checkTokens(time.Now())
		case err := <-failed:
			return err
		case err := <-h.ended:
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
				h.failed = err
			}
			h.drain()
			leaving = true // once what was typed is done and on disk
		case <-ctx.Done():
			return nil
		}
	}
}

// isSetting reports whether a record is of what the person chose.
func isSetting(r chat.Record) bool {
	_, ok := r.(chat.SavePersonal)
	return ok
}

// drain does what else waits, up to a bound, so that one commit of the store
// serves all of it.
func (h *Host) drain() {
	for range maxTurn {
		select {
		case j := <-h.packets.order:
			h.take(j)
			continue
		default:
		}
		break
	}
	for range maxTurn {
		select {
		case do := <-h.inbox:
			do(time.Now())
			continue
		default:
		}
		break
	}
	for range maxTurn {
		if h.core.Full() {
			break
		}
		select {
		case cmd := <-h.commands:
			h.core.Do(time.Now(), cmd)
			continue
		default:
		}
		break
	}
}

// maxTurn is how many packets, and commands, one turn of the loop takes.
const maxTurn = 256

// post has the loop call f; it waits while the inbox is full.
func (h *Host) post(f func(now time.Time)) {
	select {
	case h.inbox <- f:
	case <-h.quit:
	}
}

// tryPost has the loop call f, soon and without waiting for it.
func (h *Host) tryPost(f func(now time.Time)) { go h.post(f) }

// do hands a command of a face to the core. It waits while so much waits to be
// sent that no more is taken.
func (h *Host) do(cmd chat.Command) {
	if h.leave != nil && chat.Quits(cmd) {
		h.leave() // of no effect once the node has its token
	}
	select {
	case h.commands <- cmd:
	case <-h.quit:
	}
}

// now is the realm's time, for judging certificates.
func (h *Host) now() time.Time { return h.cfg.Profile.Now() }

// tokenHash says which token this device has, in presence packets.
func (h *Host) tokenHash() wire.TokenHash {
	sum := sha256.Sum256(h.cfg.Profile.Token().Leaf)
	return wire.TokenHash(sum[:len(wire.TokenHash{})])
}

// perform does the core's work: what waits for nothing, then store, then send,
// then show.
func (h *Host) perform(w *chat.Work) error {
	for _, s := range w.First {
		h.send(s)
	}
	if saves := append(w.Save, h.saves...); len(saves) > 0 {
		if err := h.store(saves); err != nil {
			return err
		}
		h.saves = nil
	}
	for _, s := range w.Sends {
		h.send(s)
	}
	for _, e := range w.Events {
		h.show(e)
	}
	return nil
}

// store applies records. While the disk does not take them (it is full, say)
// nothing is sent or shown that is not stored: the person is told once, and
// the node waits until there is room.
func (h *Host) store(records []chat.Record) error {
	told := false
	for {
		err := h.cfg.Store.Apply(records)
		if err == nil {
			if told {
				h.show(chat.Notice{Code: "store_ok", Text: "storing works again; everything goes on"})
			}
			return nil
		}
		if !told {
			told = true
			h.show(chat.Error{Code: "store_full", Text: fmt.Sprintf("nothing can be stored, so nothing is sent or shown until it can: %v", err)})
		}
		select {
		case <-time.After(storeRetry):
		case <-h.stop:
			return fmt.Errorf("storing: %w", err)
		}
	}
}

const storeRetry = 500 * time.Millisecond

func (h *Host) send(s chat.Send) {
	switch s := s.(type) {
	case chat.Multicast:
		h.discovery.Multicast(s.Packet)
	case chat.Unicast:
		h.unicast(s)
	case chat.Push:
		if l := h.linkTo(s.To); l != nil {
			l.push(chat.Frame{Type: s.Type, Body: s.Body})
		}
	case chat.Datagram:
		if l := h.linkTo(s.To); l != nil {
			l.datagram(s.Body)
		}
	case chat.Ask:
		h.ask(s)
	case chat.AskAuthd:
		h.askAuthd(s)
	case chat.AskMail:
		h.askMail(s)
	case chat.Lookup:
		go h.lookUp(s)
	case chat.Export:
		go h.export(s)
	case chat.Sweep:
		go h.sweep(s)
	case chat.LongText:
		go func() {
			found, err := h.cfg.Store.Long(s.Room, s.Message)
			h.post(func(time.Time) { h.core.HandleLongText(s, found, err) })
		}()
	case chat.Missed:
		go func() {
			found, err := h.cfg.Store.Missed(s.Room, s.After, s.Limit)
			h.post(func(time.Time) { h.core.HandleMissed(s, found, err) })
		}()
	case chat.Recall:
		go h.recall(s)
	case chat.Survey:
		go h.survey(s)
	case chat.PingDevice:
		h.ping(s)
	case chat.Answer:
		if stream := h.answers[s.Question]; stream != nil {
			delete(h.answers, s.Question)
			go answer(stream, s.Frames)
		}
	}
}

// lookUp asks the store, which readers do not hold up.
func (h *Host) lookUp(q chat.Lookup) {
	if q.Unread {
		unread, err := h.cfg.Store.Unread()
		h.post(func(now time.Time) { h.core.HandleUnread(now, q, unread, err) })
		return
	}
	var found []chat.SaveMessage
	var err error
	switch {
	case q.Message != chat.MessageID{}:
		found, err = h.cfg.Store.Message(q.Chat, q.Message)
	case q.Nth > 0:
		found, err = h.cfg.Store.Nth(q.Chat, q.Of, q.Nth)
	case q.Text != "":
		found, err = h.cfg.Store.Search(q.Text, q.Limit)
		slices.Reverse(found) // newest last, like history
	default:
		found, err = h.cfg.Store.History(q.Chat, q.Before, q.Limit)
	}
	h.post(func(now time.Time) { h.core.HandleFound(now, q, found, err) })
}

// recall looks up what a member missed.
func (h *Host) recall(q chat.Recall) {
	found, err := h.cfg.Store.Signed(q.Room, q.Device, q.Ranges, q.Limit)
	if err != nil {
		h.log.Warn("looking up messages for a member", "err", err)
		return
	}
	h.post(func(time.Time) { h.core.HandleRecalled(q, found) })
}

var errNoLink = errors.New("there is no link to the device")

func (h *Host) ask(q chat.Ask) {
	l := h.linkTo(q.To)
	if l == nil {
		go h.post(func(now time.Time) { h.core.HandleAnswer(now, q.Question, nil, errNoLink) })
		return
	}
	go func() {
		frames, err := l.ask(q.Type, q.Body)
		h.post(func(now time.Time) { h.core.HandleAnswer(now, q.Question, frames, err) })
	}()
}

func (h *Host) linkTo(device wire.DeviceID) *peerLink {
	if c := h.contacts[device]; c != nil {
		return c.link
	}
	return nil
}

// hello is what this node says first on every link.
func (h *Host) hello() wire.Hello {
	return wire.Hello{Version: 1, Boot: h.boot, Time: uint64(time.Now().UnixMilli()), CRLNumber: h.cfg.Profile.Verifier().CRL().Number}
}

func (h *Host) show(e chat.Event) {
	for f := range h.faces {
		f.Show(e)
	}
}

func (h *Host) showReady() {
	token, pin := h.cfg.Profile.Token(), h.cfg.Profile.Pin()
	h.ready = chat.Ready{User: token.Name, Device: token.Device.String(), Realm: pin.Name, Fingerprint: pin.Fingerprint().String(),
		Authd: h.lastAuthd(), MS: time.Since(h.cfg.Started).Milliseconds()}
	h.show(h.ready)
}
