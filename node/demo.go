package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"lanchat/authd/serve"
	"lanchat/discovery"
	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/node/host"
	"lanchat/node/login"
	"lanchat/node/store"
	"lanchat/wire/realm"
	"lanchat/wire/usage"
)

const (
	demoWait  = 20 * time.Second // for each step; it ends as soon as the step is done
	demoGrace = time.Second      // for fast messages, which may be lost
	demoLoad  = 40               // messages in each mode from each node, with loss
)

func (o *options) demoCommand() *cobra.Command {
	var loss int
	cmd := &cobra.Command{
		Use: "demo", Short: "Shows an authd and three nodes at work, in itself",
		Long: "Starts an authd and three nodes with the real protocol on real sockets of the loopback interface, in a temporary\n" +
			"directory, has them talk, and prints what each node saw and when. It exits 0 only if everything arrived that had to.",
		Args: usage.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if loss < 0 || loss > 40 {
				return usage.Errorf("--loss %d: want 0 to 40 percent", loss)
			}
			ctx, stop := interruptible()
			defer stop()
			return demo(ctx, cmd.OutOrStdout(), loss)
		},
	}
	cmd.Flags().IntVar(&loss, "loss", 0, "percentage of received packets to lose, 0 to 40")
	return cmd
}

// A stage is where the demo plays: its players and what they were seen doing.
type stage struct {
	out     io.Writer
	begin   time.Time
	loss    int
	players []*player
	lines   []*line
}

// A player is one node of the demo. It is also the node's face.
type player struct {
	name  string
	node  *node
	ended chan error
	ready chan struct{} // closed when Run was called
	do    func(chat.Command)

	mu     sync.Mutex
	events []seen
	news   chan struct{} // one token when events grew
}

type seen struct {
	at time.Time
	e  chat.Event
}

// A line is one message of the conversation and when each player saw it.
type line struct {
	from *player
	to   string // "#demo" or "@name"
	mode string
	text string
	sent time.Time
	at   map[*player]time.Duration
}

func (p *player) Show(e chat.Event) {
	p.mu.Lock()
	p.events = append(p.events, seen{time.Now(), e})
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

func (p *player) Run(ctx context.Context, do func(chat.Command)) error {
	p.do = do
	close(p.ready)
	<-ctx.Done()
	return ctx.Err()
}

func (p *player) Close() error { return nil }

// has reports whether the player has seen an event that is wanted.
func (p *player) has(wanted func(chat.Event) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.events {
		if wanted(s.e) {
			return true
		}
	}
	return false
}

// demo plays the conversation and reports it.
func demo(ctx context.Context, out io.Writer, loss int) (err error) {
	dir, err := os.MkdirTemp("", "lanchat-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &stage{out: out, begin: time.Now(), loss: loss}
	fmt.Fprintf(out, "An authd and three nodes on this machine's loopback interface, in %s.\n", dir)
	if loss > 0 {
		fmt.Fprintf(out, "Each node loses %d %% of the packets it receives.\n", loss)
	}
	fmt.Fprintln(out)

	a, err := startAuthd(serve.Config{Data: filepath.Join(dir, "authd"), Name: "demo", Listen: &net.UDPAddr{}, Ifaces: []string{"lo"}})
	if err != nil {
		return err
	}
	stopped := false
	stopAuthd := func() error {
		if stopped {
			return nil
		}
		stopped = true
		return a.close()
	}
	defer stopAuthd()
	s.tell("authd", "serves the realm demo, fingerprint %s", a.fingerprint)

	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for _, p := range s.players {
			err = errors.Join(err, <-p.ended)
			p.node.close()
		}
	}()
	for _, name := range []string{"ann", "bob", "carol"} {
		p, err := enter(ctx, s, filepath.Join(dir, name), name, a)
		if err != nil {
			return err
		}
		s.players = append(s.players, p)
	}
	if err := s.play(ctx, stopAuthd); err != nil {
		return err
	}
	return s.report()
}

// enter starts a player's node, which registers.
func enter(ctx context.Context, s *stage, dir, name string, a *innerAuthd) (*player, error) {
	p := &player{name: name, ended: make(chan error, 1), ready: make(chan struct{}), news: make(chan struct{}, 1)}
	profile, err := login.Open(dir)
	if err != nil {
		return nil, err
	}
	n := &node{profile: profile}
	p.node = n
	st, err := store.Open(dir)
	if err != nil {
		return nil, err
	}
	n.closers = append(n.closers, st.Close)
	udp, err := net.ListenUDP("udp", nil)
	if err != nil {
		n.close()
		return nil, fmt.Errorf("opening a socket: %w", err)
	}
	n.closers = append(n.closers, udp.Close)
	var conn net.PacketConn = udp
	if s.loss > 0 {
		conn = lossyConn{udp, s.loss}
	}
	n.config = host.Config{
		Profile: profile, Store: st, Conn: conn, Network: demoNetwork(s.loss), Authds: []netip.AddrPort{a.addr}, Started: time.Now(),
		Enter: host.Enter{
			Trust: login.Trust{Fingerprint: &a.fingerprint},
			Credentials: func(_ context.Context, _ realm.Realm, problem error) (host.Credentials, error) {
				return host.Credentials{Name: name, Password: rand.Text(), Device: "demo", Register: true}, problem
			},
		},
	}
	go func() { p.ended <- n.run(ctx, p) }()
	err = s.until(ctx, name+" logs in", func() bool {
		select {
		case <-p.ready:
			return true
		default:
			return false
		}
	}, p)
	if err != nil {
		return p, err
	}
	s.tell(name, "registered, holds a token and is ready")
	return p, nil
}

// play is the conversation.
func (s *stage) play(ctx context.Context, stopAuthd func() error) error {
	ann, bob, carol := s.players[0], s.players[1], s.players[2]
	err := s.until(ctx, "everybody sees everybody", func() bool {
		for _, p := range s.players {
			for _, q := range s.players {
				online := func(e chat.Event) bool {
					peer, ok := e.(chat.Peer)
					return ok && peer.User == q.name && peer.State == "online"
				}
				if p != q && !p.has(online) {
					return false
				}
			}
		}
		return true
	}, s.players...)
	if err != nil {
		return err
	}
	s.tell("all", "found each other: everybody is online")

	in := func(p *player, members int) func() bool {
		return func() bool {
			return p.has(func(e chat.Event) bool { r, ok := e.(chat.Room); return ok && len(r.Members) == members })
		}
	}
	ann.do(chat.Command{Line: "/create #demo"})
	if err := s.until(ctx, "ann makes the room", in(ann, 1), ann); err != nil {
		return err
	}
	s.tell("ann", "made the room #demo and is its admin")
	for i, p := range []*player{bob, carol} {
		p.do(chat.Command{Line: "/join #demo"})
		if err := s.until(ctx, p.name+" joins", in(p, i+2), p); err != nil {
			return err
		}
		s.tell(p.name, "joined #demo")
	}
	everybody := func() bool { return in(ann, 3)() && in(bob, 3)() }
	if err := s.until(ctx, "all see all three in the room", everybody, s.players...); err != nil {
		return err
	}

	s.say(ann, "#demo", "reliable", "hello everybody")
	s.say(bob, "#demo", "fast", "hi ann, fast")
	s.say(carol, "#demo", "reliable", "hi both")
	s.say(ann, "@bob", "reliable", "just between us")
	s.say(bob, "@ann", "fast", "sure")
	if s.loss > 0 {
		for i := range demoLoad {
			for _, p := range s.players {
				s.say(p, "#demo", "reliable", fmt.Sprintf("reliable %d", i))
				s.say(p, "#demo", "fast", fmt.Sprintf("fast %d", i))
			}
			time.Sleep(2 * time.Millisecond) // people do not all talk in the same moment
		}
	}
	if err := s.arrived(ctx); err != nil {
		return err
	}
	s.tell("all", "talked in both modes, in the room and directly")

	if err := stopAuthd(); err != nil {
		return fmt.Errorf("stopping authd: %w", err)
	}
	err = s.until(ctx, "the nodes notice that authd is gone", func() bool {
		for _, p := range s.players {
			if !p.has(func(e chat.Event) bool { a, ok := e.(chat.Authd); return ok && a.State == "down" }) {
				return false
			}
		}
		return true
	}, s.players...)
	if err != nil {
		return err
	}
	s.tell("authd", "stopped; the chat goes on")
	s.say(carol, "#demo", "reliable", "still here?")
	s.say(ann, "#demo", "fast", "of course")
	s.say(bob, "@carol", "reliable", "no server needed")
	if err := s.arrived(ctx); err != nil {
		return err
	}
	s.tell("all", "talked without authd")
	if err := s.measured(ctx); err != nil {
		return err
	}
	fmt.Fprintln(s.out)
	return nil
}

// measured asks each node how the room's messages travelled.
func (s *stage) measured(ctx context.Context) error {
	for _, p := range s.players {
		p.do(chat.Command{Line: "/mode", Chat: "#demo", Ref: "measured"})
	}
	return s.until(ctx, "the nodes say how it went", func() bool {
		for _, p := range s.players {
			if p.measured() == nil {
				return false
			}
		}
		return true
	}, s.players...)
}

// measured returns what the player's node told of the room; nil: nothing yet.
func (p *player) measured() (m *chat.ModeReport) {
	p.has(func(e chat.Event) bool {
		n, ok := e.(chat.Notice)
		if !ok || n.Ref != "measured" {
			return false
		}
		r, ok := n.Data.(chat.ModeReport)
		if ok {
			m = &r
		}
		return ok
	})
	return m
}

// say has a player send a message; a line of the report follows it.
func (s *stage) say(from *player, to, mode, text string) {
	l := &line{from: from, to: to, mode: mode, text: text, sent: time.Now(), at: map[*player]time.Duration{}}
	s.lines = append(s.lines, l)
	from.do(chat.Command{Say: true, Chat: to, Text: text, Mode: mode})
}

// readers returns who is to see a line.
func (s *stage) readers(l *line) (readers []*player) {
	for _, p := range s.players {
		if p != l.from && (l.to == "#demo" || l.to == "@"+p.name) {
			readers = append(readers, p)
		}
	}
	return readers
}

// must reports whether a line has to arrive: a fast one need not where
// packets are lost.
func (s *stage) must(l *line) bool { return l.mode == "reliable" || s.loss == 0 }

// arrived waits until every line is where it has to be, and for the others
// for a moment.
func (s *stage) arrived(ctx context.Context) error {
	missing := func(all bool) (n int) {
		expected := 0
		s.match()
		for _, l := range s.lines {
			if all || s.must(l) {
				n += len(s.readers(l)) - len(l.at)
			}
			if l.mode == "reliable" {
				expected += len(s.readers(l))
			}
		}
		receipts, _ := s.receipts()
		return n + max(expected-receipts, 0)
	}
	deadline := time.Now().Add(demoWait)
	grace := time.Now().Add(demoGrace)
	for {
		now := time.Now()
		if missing(true) == 0 || missing(false) == 0 && now.After(grace) || now.After(deadline) {
			return nil // report says what is missing
		}
		if err := s.alive(); err != nil {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// match notes when each line was shown to whom.
func (s *stage) match() {
	lines := map[[4]string]*line{}
	for _, l := range s.lines {
		lines[[4]string{l.from.name, l.to, l.mode, l.text}] = l
	}
	for _, p := range s.players {
		p.mu.Lock()
		for _, v := range p.events {
			m, ok := v.e.(chat.Message)
			if !ok {
				continue
			}
			to := m.Chat
			if strings.HasPrefix(to, "@") {
				to = "@" + p.name
			}
			if l := lines[[4]string{m.From, to, m.Mode, m.Text}]; l != nil {
				if _, again := l.at[p]; !again {
					l.at[p] = v.at.Sub(l.sent)
				}
			}
		}
		p.mu.Unlock()
	}
}

// report prints the lines side by side and says whether all arrived.
func (s *stage) report() error {
	fmt.Fprintf(s.out, "%-34s %-9s", "who wrote what, and after how long", "mode")
	for _, p := range s.players {
		fmt.Fprintf(s.out, " %10s", p.name)
	}
	fmt.Fprintln(s.out)
	type count struct{ arrived, of int }
	counts := map[string]*count{"reliable": {}, "fast": {}}
	lost, worst := 0, time.Duration(0)
	for _, l := range s.lines {
		for _, p := range s.readers(l) {
			c := counts[l.mode]
			c.of++
			if d, ok := l.at[p]; ok {
				c.arrived++
				if l.mode == "reliable" {
					worst = max(worst, d)
				}
			} else if s.must(l) {
				lost++
			}
		}
		if s.loss > 0 && (strings.HasPrefix(l.text, "reliable ") || strings.HasPrefix(l.text, "fast ")) {
			continue // hundreds of them; the sum says it
		}
		row := fmt.Sprintf("%-34s %-9s", fmt.Sprintf("%s → %s: %s", l.from.name, l.to, l.text), l.mode)
		for _, p := range s.players {
			cell := ""
			if d, ok := l.at[p]; ok {
				cell = fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
			} else if p == l.from {
				cell = "wrote it"
			} else if l.to == "#demo" || l.to == "@"+p.name {
				cell = "lost"
			}
			row += fmt.Sprintf(" %10s", cell)
		}
		fmt.Fprintln(s.out, strings.TrimRight(row, " "))
	}
	receipts, gaps := s.receipts()
	r, f := counts["reliable"], counts["fast"]
	if s.loss > 0 {
		fmt.Fprintf(s.out, "and from each of the three %d more to #demo in each mode, too many to list\n", demoLoad)
	}
	fmt.Fprintf(s.out, "\ncounted at each who was to read them:\nreliable: %d of %d arrived, the slowest after %.1f ms; %d receipts came back", r.arrived, r.of, float64(worst.Microseconds())/1000, receipts)
	if gaps > 0 {
		fmt.Fprintf(s.out, "; of gaps %d lasted long enough to be shown, and healed", gaps)
	}
	fmt.Fprintf(s.out, "\nfast:     %d of %d arrived", f.arrived, f.of)
	if f.of > f.arrived {
		fmt.Fprintf(s.out, ", %d were lost and not repaired, as fast means", f.of-f.arrived)
	}
	fmt.Fprintln(s.out)
	s.compare()
	if lost > 0 {
		s.missing()
		return fmt.Errorf("what had to arrive did not (%d times)", lost)
	}
	fmt.Fprintln(s.out, "Everything arrived that had to.")
	return nil
}

// compare prints side by side what each node's network did to the room, and
// what became of it in the two modes.
func (s *stage) compare() {
	rows := []struct {
		what string
		cell func(r *chat.ModeReport) string
	}{
		{"reliable messages received", func(r *chat.ModeReport) string { return fmt.Sprint(r.Received) }},
		{"  did not come the first time", func(r *chat.ModeReport) string { return fmt.Sprintf("%.1f %%", r.Loss) }},
		{"  came by repair", func(r *chat.ModeReport) string { return fmt.Sprint(r.Repairs) }},
		{"  packets sent again for others", func(r *chat.ModeReport) string { return fmt.Sprint(r.Resent) }},
		{"  round trip", func(r *chat.ModeReport) string { return fmt.Sprintf("%.1f ms", r.RTT) }},
		{"fast messages that never came", func(r *chat.ModeReport) string { return fmt.Sprint(r.FastLost) }},
	}
	fmt.Fprintf(s.out, "\n%-44s", "in #demo, as each node measured it")
	for _, p := range s.players {
		fmt.Fprintf(s.out, " %10s", p.name)
	}
	fmt.Fprintln(s.out)
	for _, row := range rows {
		fmt.Fprintf(s.out, "%-44s", row.what)
		for _, p := range s.players {
			cell := ""
			if r := p.measured(); r != nil {
				cell = row.cell(r)
			}
			fmt.Fprintf(s.out, " %10s", cell)
		}
		fmt.Fprintln(s.out)
	}
	fmt.Fprintln(s.out)
}

// missing prints what did not arrive, and what the readers were told of it.
func (s *stage) missing() {
	for _, l := range s.lines {
		for _, p := range s.readers(l) {
			if _, ok := l.at[p]; !ok && s.must(l) {
				fmt.Fprintf(s.out, "missing at %s: %s → %s: %s\n", p.name, l.from.name, l.to, l.text)
			}
		}
	}
	for _, p := range s.players {
		p.has(func(e chat.Event) bool {
			switch e := e.(type) {
			case chat.Gap, chat.Error, chat.Peer:
				fmt.Fprintf(s.out, "%s was told: %+v\n", p.name, e)
			}
			return false
		})
	}
}

// receipts returns how many receipts came back and how many gaps healed.
func (s *stage) receipts() (receipts, gaps int) {
	for _, p := range s.players {
		p.has(func(e chat.Event) bool {
			switch e := e.(type) {
			case chat.Receipt:
				receipts++
			case chat.Gap:
				if e.Healed {
					gaps++
				}
			}
			return false
		})
	}
	return receipts, gaps
}

// tell prints what has happened.
func (s *stage) tell(who, format string, args ...any) {
	fmt.Fprintf(s.out, "%7.3f s  %-6s %s\n", time.Since(s.begin).Seconds(), who, fmt.Sprintf(format, args...))
}

// alive returns an error if a node has ended.
func (s *stage) alive() error {
	for _, p := range s.players {
		select {
		case err := <-p.ended:
			p.ended <- err
			return fmt.Errorf("the node of %s ended: %v", p.name, err)
		default:
		}
	}
	return nil
}

// until waits for a step of the play.
func (s *stage) until(ctx context.Context, what string, done func() bool, who ...*player) error {
	deadline := time.NewTimer(demoWait)
	defer deadline.Stop()
	for !done() {
		for _, p := range who {
			select {
			case err := <-p.ended:
				p.ended <- err
				return fmt.Errorf("%s: the node of %s ended: %v", what, p.name, err)
			default:
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline.C:
			return fmt.Errorf("%s: not within %v", what, demoWait)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// demoNetwork is the loopback interface, with loss.
func demoNetwork(loss int) host.Network {
	var system discovery.Net = discovery.System{}
	if loss > 0 {
		system = lossyNet{system, loss}
	}
	n := network([]string{"lo"}, slog.New(slog.DiscardHandler))
	n.Discover = discover(discovery.Config{Ifaces: []string{"lo"}, Net: system})
	n.Browse = func(ctx context.Context, _ func(netip.AddrPort)) { <-ctx.Done() }
	return n
}

// lossyNet loses packets of multicast groups on the way in.
type lossyNet struct {
	discovery.Net
	percent int
}

func (n lossyNet) ListenGroup(link presence.Link, group netip.AddrPort) (discovery.GroupConn, error) {
	c, err := n.Net.ListenGroup(link, group)
	if err != nil {
		return nil, err
	}
	return lossyGroup{c, n.percent}, nil
}

type lossyGroup struct {
	discovery.GroupConn
	percent int
}

func (c lossyGroup) ReadFrom(b []byte) (n int, from netip.AddrPort, err error) {
	for {
		n, from, err = c.GroupConn.ReadFrom(b)
		if err != nil || !unlucky(c.percent) {
			return n, from, err
		}
	}
}

// lossyConn loses packets of a socket on the way in.
type lossyConn struct {
	net.PacketConn
	percent int
}

func (c lossyConn) ReadFrom(b []byte) (n int, from net.Addr, err error) {
	for {
		n, from, err = c.PacketConn.ReadFrom(b)
		if err != nil || !unlucky(c.percent) {
			return n, from, err
		}
	}
}

// unlucky is true in percent of all calls.
func unlucky(percent int) bool {
	var b [4]byte
	rand.Read(b[:])
	hi, _ := bits.Mul32(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3]), 100)
	return int(hi) < percent
}
