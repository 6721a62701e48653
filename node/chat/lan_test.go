package chat_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/node/store"
	"lanchat/wire"
	"lanchat/wire/realm"
)

// TestMain keeps the properties short unless -rapid.checks asks for more.
func TestMain(m *testing.M) {
	flag.Parse()
	time.Local = time.UTC // of the times in what is shown
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		if err := flag.Set("rapid.checks", "30"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

var (
	testRealm = wire.RealmID(sha256.Sum256([]byte("realm")))
	start     = time.UnixMilli(1_700_000_000_000)
)

// tb is what the helpers need of a test, a fuzz target or a property.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// A lan is cores wired to each other in memory, with a time of its own. It
// does what the host does: store, send, show.
type lan struct {
	t     tb
	now   time.Time
	nodes []*node
	// fate says when the copies of a packet arrive, from now on; nil: one, at
	// once.
	fate   func(from, to *node, packet []byte) []time.Duration
	flying []flying
	order  int
	pushed func(from, to *node, p chat.Push) bool  // false: it is lost
	asked  func(from, to *node, q chat.Ask) bool   // false: it is not answered
	mute   *node                                   // takes questions and answers none
	lies   func(to *node, q chat.Ask) []chat.Frame // what somebody answers instead of its core; nil: nothing else
	office *office                                 // authd, as far as mail goes; nil: there is none
}

// A node is one person's core and what surrounds it.
type node struct {
	l     *lan
	name  string
	core  *chat.Core
	token *realm.Token
	key   ed25519.PrivateKey
	boot  uint64
	store *store.Store // nil: none
	dead  bool         // killed
	told  func(chat.Record)

	fuse     int // steps of work until it is killed; 0: it is not
	links    map[*node]bool
	requests []chat.AskAuthd // not answered yet
	events   []chat.Event
	saved    int      // records
	packets  [][]byte // room packets that came
	asked    map[uint64]question
	question uint64
	network  chat.Network // what a survey finds
	deaf     bool         // to answers of pings
}

type question struct {
	by   *node
	life uint64 // of by: its boot
	id   uint64
	then func([]chat.Frame) // nil: by's core is answered
}

// flying is a packet on its way.
type flying struct {
	at     time.Time
	order  int
	to     *node
	packet []byte
}

// newLAN returns people who are linked with each other.
func newLAN(t tb, names ...string) *lan {
	t.Helper()
	l := &lan{t: t, now: start}
	for _, name := range names {
		l.add(name)
	}
	for i, a := range l.nodes {
		for _, b := range l.nodes[:i] {
			l.link(a, b)
		}
	}
	return l
}

// stored gives every node a store, for tests that restart one.
func (l *lan) stored(t *testing.T) *lan {
	for _, n := range l.nodes {
		st, err := store.OpenMemory()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		n.store = st
		n.start()
	}
	for i, a := range l.nodes {
		for _, b := range l.nodes[:i] {
			l.link(a, b)
		}
	}
	return l
}

func (l *lan) add(name string) *node {
	l.t.Helper()
	seed := sha256.Sum256([]byte("device " + name))
	n := &node{l: l, name: name, key: ed25519.NewKeyFromSeed(seed[:]), asked: map[uint64]question{}}
	person := strings.TrimRight(name, "0123456789") // "ann2" is a device of ann
	account := sha256.Sum256([]byte("account " + person))
	key := wire.KeyOf(n.key.Public().(ed25519.PublicKey))
	n.token = &realm.Token{Account: wire.AccountID(account[:16]), Device: key.Device(), Key: key, Name: person, NameSeq: 1, Leaf: []byte("token of " + name)}
	l.nodes = append(l.nodes, n)
	n.start()
	return n
}

// start makes the core anew, from what is stored.
func (n *node) start() {
	n.l.t.Helper()
	var state chat.State
	if n.store != nil {
		var err error
		if state, err = n.store.Load(); err != nil {
			n.l.t.Fatalf("%v", err)
		}
	}
	n.boot++
	var err error
	n.core, err = chat.New(n.l.now, chat.Config{Realm: testRealm, Key: n.key, Token: n.token, Boot: n.boot, State: state,
		Judge: n.l.judge, Rand: rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, n.name, n.boot)))})
	if err != nil {
		n.l.t.Fatalf("%v", err)
	}
	for _, other := range n.l.nodes {
		n.hangUp(other)
	}
	n.links = map[*node]bool{}
	n.dead, n.fuse = false, 0
	for _, other := range n.l.nodes {
		if other.links[n] {
			delete(other.links, n)
			other.core.LinkDown(n.l.now, n.token.Device)
			other.core.HandlePresence(n.l.now, n.token.Device, "left", "goodbye", nil)
		}
	}
	n.l.settle()
}

func (l *lan) link(a, b *node) {
	a.links[b], b.links[a] = true, true
	a.core.LinkUp(l.now, b.token, nil)
	b.core.LinkUp(l.now, a.token, nil)
	l.settle()
}

// hangUp ends what is being asked between two nodes: who asked is told, if it
// is still the one who asked.
func (n *node) hangUp(other *node) {
	for _, end := range [][2]*node{{n, other}, {other, n}} {
		by, at := end[0], end[1]
		for id, q := range at.asked {
			if q.by != by || q.then != nil {
				continue
			}
			delete(at.asked, id)
			if q.life == by.boot && !by.dead {
				by.core.HandleAnswer(n.l.now, q.id, nil, fmt.Errorf("no link"))
			}
		}
	}
}

func (l *lan) unlink(a, b *node) {
	a.hangUp(b)
	delete(a.links, b)
	delete(b.links, a)
	a.core.LinkDown(l.now, b.token.Device)
	b.core.LinkDown(l.now, a.token.Device)
	a.core.HandlePresence(l.now, b.token.Device, "lost", "silent", nil)
	b.core.HandlePresence(l.now, a.token.Device, "lost", "silent", nil)
	l.settle()
}

func (l *lan) node(name string) *node {
	return l.nodes[slices.IndexFunc(l.nodes, func(n *node) bool { return n.name == name })]
}

func (l *lan) of(device wire.DeviceID) *node {
	if i := slices.IndexFunc(l.nodes, func(n *node) bool { return n.token.Device == device }); i >= 0 {
		return l.nodes[i]
	}
	return nil
}

// settle does all work there is, and delivers what arrives by now.
func (l *lan) settle() {
	l.t.Helper()
	for turn := 0; ; turn++ {
		if turn > 100_000 {
			l.t.Fatalf("the cores never come to rest")
		}
		busy := false
		for _, n := range l.nodes {
			if n.dead {
				continue
			}
			w := n.core.Take()
			busy = busy || !w.Empty()
			n.perform(w)
		}
		if f, ok := l.land(); ok {
			busy = true
			if f.to.dead {
				continue
			}
			f.to.packets = append(f.to.packets, slices.Clone(f.packet))
			f.to.core.HandlePacket(l.now, f.packet)
		}
		if !busy {
			return
		}
	}
}

// land returns the next packet that has arrived.
func (l *lan) land() (flying, bool) {
	best := -1
	for i, f := range l.flying {
		if !f.at.After(l.now) && (best < 0 || f.at.Before(l.flying[best].at) || f.at.Equal(l.flying[best].at) && f.order < l.flying[best].order) {
			best = i
		}
	}
	if best < 0 {
		return flying{}, false
	}
	f := l.flying[best]
	l.flying = slices.Delete(l.flying, best, best+1)
	return f, true
}

// perform stores, sends and shows.
func (n *node) perform(w chat.Work) {
	l := n.l
	if n.dead || n.burn() {
		return
	}
	w.Sends = append(w.First, w.Sends...)
	n.saved += len(w.Save)
	for _, r := range w.Save {
		if n.told != nil {
			n.told(r)
		}
	}
	if n.store != nil {
		if err := n.store.Apply(w.Save); err != nil {
			l.t.Fatalf("storing: %v", err)
		}
	}
	for _, s := range w.Sends {
		if n.burn() {
			return
		}
		switch s := s.(type) {
		case chat.Multicast:
			for _, to := range l.nodes {
				n.fly(to, s.Packet)
			}
		case chat.Unicast:
			if to := l.of(s.To); to != nil && n.links[to] {
				n.fly(to, s.Packet)
			}
		case chat.Push:
			if to := l.of(s.To); to != nil && !to.dead && n.links[to] && (l.pushed == nil || l.pushed(n, to, s)) {
				to.core.HandleFrame(l.now, n.token.Device, s.Type, slices.Clone(s.Body))
			}
		case chat.Datagram:
			if to := l.of(s.To); to != nil && !to.dead && n.links[to] {
				to.core.HandleDatagram(l.now, n.token.Device, slices.Clone(s.Body))
			}
		case chat.Ask:
			to := l.of(s.To)
			if to == nil || to.dead || !n.links[to] || l.asked != nil && !l.asked(n, to, s) {
				n.core.HandleAnswer(l.now, s.Question, nil, fmt.Errorf("no link"))
				continue
			}
			if to == l.mute {
				continue
			}
			if l.lies != nil {
				if frames := l.lies(to, s); frames != nil {
					n.core.HandleAnswer(l.now, s.Question, frames, nil)
					continue
				}
			}
			to.question++
			to.asked[to.question] = question{by: n, life: n.boot, id: s.Question}
			to.core.HandleQuestion(l.now, n.token.Device, to.question, s.Type, slices.Clone(s.Body))
		case chat.Lookup:
			n.lookUp(s)
		case chat.Export: // writing the file is the host's business
			n.core.HandleExported(s, s.File, 0, nil)
		case chat.AskAuthd:
			n.requests = append(n.requests, s)
		case chat.AskMail:
			m, err := l.office.answer(n, s.Message)
			n.core.HandleMailAnswer(l.now, s.Question, m, err)
		case chat.Sweep:
			deleted, err := n.store.Sweep(s.Chat, s.Before, s.Bytes, 1000)
			n.core.HandleSwept(s, deleted, err)
		case chat.LongText:
			if n.store == nil {
				n.core.HandleLongText(s, nil, nil)
				continue
			}
			found, err := n.store.Long(s.Room, s.Message)
			n.core.HandleLongText(s, found, err)
		case chat.Missed:
			if n.store == nil {
				n.core.HandleMissed(s, nil, nil)
				continue
			}
			found, err := n.store.Missed(s.Room, s.After, s.Limit)
			if err != nil {
				l.t.Fatalf("looking up what was missed: %v", err)
			}
			n.core.HandleMissed(s, found, nil)
		case chat.Recall:
			if n.store == nil {
				continue
			}
			found, err := n.store.Signed(s.Room, s.Device, s.Ranges, s.Limit)
			if err != nil {
				l.t.Fatalf("recalling: %v", err)
			}
			n.core.HandleRecalled(s, found)
		case chat.Survey:
			n.core.HandleSurvey(s, n.network)
		case chat.PingDevice:
			if to := l.of(s.To); to != nil && n.links[to] && !n.deaf {
				n.core.HandlePong(s, chat.NetPeer{Device: s.To, Via: []string{"multicast", "quic"}}, 1500*time.Microsecond)
			}
		case chat.Answer:
			if q, ok := n.asked[s.Question]; ok {
				delete(n.asked, s.Question)
				if q.then != nil {
					q.then(s.Frames)
				} else if q.life == q.by.boot {
					q.by.core.HandleAnswer(l.now, q.id, s.Frames, nil)
				}
			}
		}
	}
	if !n.burn() {
		n.events = append(n.events, w.Events...)
	}
}

// burn shortens the fuse, and reports whether the node has just ended as by
// kill -9: in the middle of what it was doing.
func (n *node) burn() bool {
	if n.fuse == 0 {
		return false
	}
	n.fuse--
	n.dead = n.fuse == 0
	return n.dead
}

// fly sends a packet on its way.
func (n *node) fly(to *node, packet []byte) {
	l := n.l
	delays := []time.Duration{0}
	if l.fate != nil && to != n {
		delays = l.fate(n, to, packet)
	}
	for _, d := range delays {
		l.order++
		l.flying = append(l.flying, flying{l.now.Add(d), l.order, to, slices.Clone(packet)})
	}
}

// pass lets time pass: everything happens at its moment.
func (l *lan) pass(d time.Duration) {
	l.t.Helper()
	end := l.now.Add(d)
	for {
		l.settle()
		next := end
		for _, n := range l.nodes {
			if d := n.core.Deadline(); !n.dead && !d.IsZero() && d.Before(next) {
				next = d
			}
		}
		for _, f := range l.flying {
			if f.at.Before(next) {
				next = f.at
			}
		}
		if !next.Before(end) {
			l.now = end
			l.settle()
			return
		}
		if next.After(l.now) {
			l.now = next
		}
		for _, n := range l.nodes {
			// What is done at a moment may have to be followed by more at once.
			for turn := 0; !n.dead; turn++ {
				d := n.core.Deadline()
				if d.IsZero() || l.now.Before(d) {
					break
				}
				if turn > 100 {
					l.t.Fatalf("%s: Advance leaves the deadline at %v", n.name, d)
				}
				n.core.Advance(l.now)
			}
		}
	}
}

// lookUp answers a question to the node's store.
func (n *node) lookUp(q chat.Lookup) {
	if n.store == nil {
		n.core.HandleFound(n.l.now, q, nil, fmt.Errorf("no store"))
		return
	}
	switch {
	case q.Unread:
		unread, err := n.store.Unread()
		n.core.HandleUnread(n.l.now, q, unread, err)
	case q.Message != chat.MessageID{}:
		found, err := n.store.Message(q.Chat, q.Message)
		n.core.HandleFound(n.l.now, q, found, err)
	case q.Nth > 0:
		found, err := n.store.Nth(q.Chat, q.Of, q.Nth)
		n.core.HandleFound(n.l.now, q, found, err)
	case q.Text != "":
		found, err := n.store.Search(q.Text, q.Limit)
		n.core.HandleFound(n.l.now, q, found, err)
	default:
		found, err := n.store.History(q.Chat, q.Before, q.Limit)
		n.core.HandleFound(n.l.now, q, found, err)
	}
}

// do has the person type lines.
func (n *node) do(lines ...string) {
	n.l.t.Helper()
	for _, line := range lines {
		n.core.Do(n.l.now, chat.Command{Line: line})
		n.l.settle()
	}
}

func (n *node) say(to, mode, text string) {
	n.l.t.Helper()
	n.core.Do(n.l.now, chat.Command{Say: true, Text: text, Chat: to, Mode: mode})
	n.l.settle()
}

// shown returns the events of a type since the last clear.
func shown[E chat.Event](n *node) (events []E) {
	for _, e := range n.events {
		if e, ok := e.(E); ok {
			events = append(events, e)
		}
	}
	return events
}

func (l *lan) clear() {
	for _, n := range l.nodes {
		n.events, n.packets = nil, nil
	}
}

// texts returns what was shown of a person in a chat, in order.
func (n *node) texts(inChat, from string) (texts []string) {
	for _, m := range shown[chat.Message](n) {
		if m.Chat == inChat && m.From == from {
			texts = append(texts, m.Text)
		}
	}
	return texts
}

// room has the first node make a room and the others join it.
func (l *lan) room(name string) *lan {
	l.t.Helper()
	var who []string
	for i, n := range l.nodes {
		who = append(who, n.name)
		if i == 0 {
			n.do("/create " + name)
		} else {
			n.do("/join " + name)
		}
	}
	for _, n := range l.nodes {
		rooms := shown[chat.Room](n)
		if len(rooms) == 0 || !slices.Equal(rooms[len(rooms)-1].Members, who) {
			l.t.Fatalf("%s sees %+v, want a room with %v; all: %+v", n.name, rooms, who, n.events)
		}
	}
	return l
}

func checkTexts(t tb, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// ask puts a question of no core's to a node.
func (n *node) ask(to *node, typ uint8, body []byte, then func([]chat.Frame)) {
	n.l.t.Helper()
	to.question++
	to.asked[to.question] = question{by: n, then: then}
	to.core.HandleQuestion(n.l.now, n.token.Device, to.question, typ, body)
	n.l.settle()
}
