package chat_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// kill ends programs without a goodbye; the others notice as presence does.
func (l *lan) kill(names ...string) {
	for _, name := range names {
		n := l.node(name)
		n.dead = true
		for _, o := range l.nodes {
			if n.links[o] {
				delete(n.links, o)
				delete(o.links, n)
				o.core.LinkDown(l.now, n.token.Device)
			}
		}
	}
	l.pass(6500 * time.Millisecond)
	for _, name := range names {
		for _, o := range l.nodes {
			if !o.dead {
				o.core.HandlePresence(l.now, l.node(name).token.Device, "lost", "silent", nil)
			}
		}
	}
	l.settle()
}

// quit has people say goodbye.
func (l *lan) quit(names ...string) {
	for _, name := range names {
		n := l.node(name)
		n.dead = true
		for _, o := range l.nodes {
			if n.links[o] {
				delete(n.links, o)
				delete(o.links, n)
				o.core.LinkDown(l.now, n.token.Device)
				o.core.HandlePresence(l.now, n.token.Device, "left", "goodbye", nil)
			}
		}
	}
	l.settle()
}

// back starts a program anew, from its store, and links it with all others.
func (l *lan) back(name string) *node {
	n := l.node(name)
	n.dead = false
	n.start()
	for _, o := range l.nodes {
		if o != n && !o.dead {
			l.link(n, o)
		}
	}
	return n
}

// split cuts the LAN into two: the people named and the others.
func (l *lan) split(names ...string) {
	side := func(n *node) bool { return slices.Contains(names, n.name) }
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if side(from) != side(to) {
			return nil
		}
		return []time.Duration{0}
	}
	for _, a := range l.nodes {
		for _, b := range l.nodes {
			if side(a) && !side(b) && a.links[b] {
				delete(a.links, b)
				delete(b.links, a)
				a.core.LinkDown(l.now, b.token.Device)
				b.core.LinkDown(l.now, a.token.Device)
			}
		}
	}
	l.pass(6500 * time.Millisecond)
	for _, a := range l.nodes {
		for _, b := range l.nodes {
			if side(a) != side(b) {
				a.core.HandlePresence(l.now, b.token.Device, "lost", "silent", nil)
			}
		}
	}
	l.settle()
}

// heal ends a split.
func (l *lan) heal() {
	l.fate = nil
	for i, a := range l.nodes {
		for _, b := range l.nodes[:i] {
			if !a.links[b] && !a.dead && !b.dead {
				l.link(a, b)
			}
		}
	}
}

// state returns the last event of a room that a person saw.
func (n *node) state(room string) (last chat.Room) {
	for _, r := range shown[chat.Room](n) {
		if r.Chat == room {
			last = r
		}
	}
	return last
}

// agree checks that the people named, and nobody else, are in a room, in this
// order, that all see it alike, and that what each says comes to all others.
func (l *lan) agree(t *testing.T, room string, names ...string) {
	t.Helper()
	first := l.node(names[slices.IndexFunc(names, func(name string) bool { return !l.node(name).dead })])
	head := first.core.Head(room)
	want := first.core.Log(room).State()
	for _, n := range l.nodes {
		if n.dead {
			continue
		}
		if !slices.Contains(names, n.name) {
			if h := n.core.Head(room); !h.IsZero() {
				t.Errorf("%s is in %s", n.name, room)
			}
			continue
		}
		if n.core.Head(room).IsZero() {
			t.Errorf("%s is not in %s", n.name, room)
			continue
		}
		s := n.core.Log(room).State()
		var members []string
		for _, m := range s.Members {
			members = append(members, m.Name)
		}
		if n.core.Head(room) != head || !slices.Equal(members, names) || s.Mods != want.Mods || s.Topic != want.Topic {
			t.Errorf("%s sees %v (%d co-admins, topic %q) at %d %v; %s sees %v at %d %v, want %v", n.name, members, s.Mods, s.Topic, s.Seq, s.Head.String()[:8], first.name, len(want.Members), want.Seq, head.String()[:8], names)
		}
	}
	for _, n := range l.nodes {
		if n.dead || !slices.Contains(names, n.name) {
			continue
		}
		text := fmt.Sprintf("%s at %v", n.name, l.now)
		n.say(room, "reliable", text)
		l.pass(500 * time.Millisecond)
		for _, o := range l.nodes {
			if o.dead || o == n {
				continue
			}
			heard := slices.Contains(o.texts(room, n.name), text)
			if heard != slices.Contains(names, o.name) {
				t.Errorf("%s hears %s: %v", o.name, n.name, heard)
			}
		}
	}
}

// errors returns the codes of the errors somebody was shown.
func (n *node) errors() (codes []string) {
	for _, e := range shown[chat.Error](n) {
		codes = append(codes, e.Code)
	}
	return codes
}

// ops returns what a room's log says was done, from a number on.
func (n *node) ops(room string, from uint64) (ops []string) {
	for _, e := range n.core.Log(room).Audit() {
		if e.Seq >= from {
			ops = append(ops, e.Op().String())
		}
	}
	return ops
}

// "If the writer has been silent for 45 s or said goodbye, the front-most
// person heard in the last 45 s may append CLAIM. CLAIM is made lazily."
func TestJoinWithAdminAway(t *testing.T) {
	for _, goodbye := range []bool{true, false} {
		t.Run(fmt.Sprintf("goodbye %v", goodbye), func(t *testing.T) {
			l := newLAN(t, "ann", "bob", "cat", "dan").stored(t)
			l.node("ann").do("/create #lab")
			l.node("bob").do("/join #lab")
			l.node("cat").do("/join #lab")
			if goodbye {
				l.quit("ann")
			} else {
				l.kill("ann")
			}
			l.pass(2 * time.Minute)
			if ops := l.node("bob").ops("#lab", 3); len(ops) != 0 {
				t.Errorf("with nothing to do the log goes on: %v", ops)
			}
			l.node("dan").do("/join #lab")
			l.pass(time.Second)
			checkTexts(t, "dan's errors", l.node("dan").errors(), nil)
			checkTexts(t, "what was done", l.node("bob").ops("#lab", 3), []string{"CLAIM", "ADMIT"})
			l.agree(t, "#lab", "ann", "bob", "cat", "dan")
		})
	}
}

// "Counted from one's own start": who has just come waits 45 s before standing
// in for an admin they never heard. The person who wants in waits, is told so,
// and gets in without asking again.
func TestJoinWithOneMemberJustStarted(t *testing.T) {
	l := newLAN(t, "ann", "bob", "dan").stored(t)
	l.node("ann").do("/create #lab")
	l.node("bob").do("/join #lab")
	l.quit("ann", "bob")
	l.pass(time.Hour)
	l.back("bob")
	dan := l.node("dan")
	l.pass(5 * time.Second)
	l.clear()
	dan.do("/join #lab")
	l.pass(30 * time.Second)
	if n := len(dan.state("#lab").Members); n != 0 {
		t.Errorf("after 35 s dan is in a room of %d", n)
	}
	if !slices.ContainsFunc(shown[chat.Notice](dan), func(n chat.Notice) bool { return n.Code == "waiting" }) {
		t.Errorf("dan is not told to wait: %+v", dan.events)
	}
	// Other commands do not wait for it.
	dan.do("/users")
	if !slices.ContainsFunc(shown[chat.Notice](dan), func(n chat.Notice) bool { return n.Code == "users" }) {
		t.Error("dan's other commands wait")
	}
	l.pass(15 * time.Second)
	l.agree(t, "#lab", "ann", "bob", "dan")
	checkTexts(t, "dan's errors", dan.errors(), nil)
}

// A co-admin's kick and ban are done at once by the admin's node, and by who
// stands in when the admin is away; the log and the person removed are told
// who asked.
func TestCoAdminKick(t *testing.T) {
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("away %v", away), func(t *testing.T) {
			l := newLAN(t, "ann", "bob", "cat", "dan", "eve").stored(t).room("#lab")
			ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
			ann.do("/op bob")
			l.pass(time.Second)
			if away {
				l.kill("ann")
				l.pass(time.Minute)
			}
			l.clear()
			bob.core.Do(l.now, chat.Command{Line: "/kick dan too loud", Ref: "k1"})
			l.settle()
			l.pass(time.Second)
			for _, n := range []*node{bob, cat, l.node("dan")} {
				s := n.state("#lab")
				if s.Cause != "kicked" && !away || s.By != "bob" && s.Cause == "kicked" || len(shown[chat.Room](n)) == 0 {
					t.Errorf("%s sees %+v", n.name, s)
				}
			}
			var told []chat.Room
			for _, r := range shown[chat.Room](l.node("dan")) {
				if r.Cause == "kicked" {
					told = append(told, r)
				}
			}
			if len(told) != 1 || told[0].By != "bob" || told[0].Whom != "dan" || told[0].Reason != "too loud" {
				t.Errorf("dan is told %+v", told)
			}
			if i := slices.IndexFunc(shown[chat.Room](bob), func(r chat.Room) bool { return r.Cause == "kicked" }); i < 0 || shown[chat.Room](bob)[i].Ref != "k1" {
				t.Errorf("bob sees %+v", shown[chat.Room](bob))
			}
			l.agree(t, "#lab", "ann", "bob", "cat", "eve")
			// A plain member may not, and hears who may.
			l.clear()
			cat.do("/kick eve")
			l.pass(time.Second)
			if e := shown[chat.Error](cat); len(e) != 1 || e[0].Code != "not_admin" || !strings.Contains(e[0].Text, "ann or bob") {
				t.Errorf("cat's kick: %+v", e)
			}
			// Nobody acts on those in front.
			bob.do("/kick ann")
			l.pass(time.Second)
			checkTexts(t, "bob kicks the admin", bob.errors(), []string{"not_admin"})
			l.agree(t, "#lab", "ann", "bob", "cat", "eve")
			if away {
				l.back("ann")
				l.pass(5 * time.Second)
				l.agree(t, "#lab", "ann", "bob", "cat", "eve")
				if s := ann.core.Log("#lab").State(); !s.Regent.IsZero() {
					t.Error("the regency did not end when ann came back")
				}
			}
		})
	}
}

// What only the admin may do is refused with a clear word while the admin is
// away.
func TestAdminAway(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	bob := l.node("bob")
	l.node("ann").do("/op bob")
	l.pass(5 * time.Second)
	l.quit("ann")
	l.clear()
	bob.do("/topic exam", "/silence cat", "/op cat")
	l.pass(time.Second)
	errors := shown[chat.Error](bob)
	checkTexts(t, "codes", bob.errors(), []string{"admin_away", "admin_away", "not_admin"})
	if len(errors) > 0 && !strings.Contains(errors[0].Text, "ann") {
		t.Errorf("the text names nobody: %q", errors[0].Text)
	}
	// As regent bob may kick, himself a co-admin; cat, a plain member and
	// alone, may do it too.
	l.quit("bob")
	l.node("cat").do("/kick bob")
	l.pass(time.Second)
	checkTexts(t, "cat kicks in front", l.node("cat").errors(), []string{"not_admin"})
}

// A plain member who stands in may kick those behind.
func TestPlainRegent(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	l.kill("ann")
	l.clear()
	bob := l.node("bob")
	bob.do("/kick cat") // ann may still be there
	l.pass(10 * time.Second)
	if bob.state("#lab").Cause == "kicked" {
		t.Error("bob kicked before ann was silent for 45 s")
	}
	l.pass(45 * time.Second)
	checkTexts(t, "errors", bob.errors(), nil)
	l.agree(t, "#lab", "ann", "bob")
}

// "False CLAIM with admin present: reverted < 1 s". cat claims although
// ann is there, and kicks dan.
func TestFalseClaim(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "dan").stored(t).room("#lab")
	l.pass(2 * time.Minute)
	l.clear()
	cat := l.node("cat")
	if err := cat.core.FalseClaim(l.now, "#lab", l.node("dan").token.Account); err != nil {
		t.Fatal(err)
	}
	l.pass(time.Second)
	s := l.node("ann").core.Log("#lab").State()
	if len(s.Members) != 4 || !s.Regent.IsZero() {
		t.Errorf("ann sees %d members, regent %v", len(s.Members), s.Regent)
	}
	if !slices.ContainsFunc(shown[chat.Notice](l.node("ann")), func(n chat.Notice) bool { return n.Code == "false_claim" }) {
		t.Errorf("ann is not told: %+v", l.node("ann").events)
	}
	for _, n := range []*node{l.node("bob"), l.node("dan")} {
		for _, r := range shown[chat.Room](n) {
			if r.Cause == "kicked" || r.Cause == "claimed" && r.By == "cat" {
				t.Errorf("%s acts on the false claim: %+v", n.name, r)
			}
		}
	}
	// dan is suspended until ann decides.
	if n := slices.IndexFunc(shown[chat.Notice](l.node("ann")), func(n chat.Notice) bool { return n.Code == "resolve" }); n < 0 {
		t.Errorf("ann is not asked: %+v", shown[chat.Notice](l.node("ann")))
	}
	l.node("ann").do("/resolve dan dismiss")
	l.pass(3 * time.Second)
	l.agree(t, "#lab", "ann", "bob", "cat", "dan")
}

// "The admin leaves ⇒ random, made by the successor in a REKEY; nobody sends
// until it is there"; and when the successor is away, too, by who stands in.
func TestAdminLeaves(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	l.node("ann").do("/part #lab")
	l.pass(time.Second)
	l.agree(t, "#lab", "bob", "cat")

	l = newLAN(t, "ann", "bob", "cat", "dan").stored(t).room("#lab")
	l.kill("bob")
	l.node("ann").do("/part #lab")
	l.pass(time.Second)
	cat := l.node("cat")
	if cat.core.CanSend("#lab") {
		t.Error("cat can send with the key that ann knows")
	}
	l.clear()
	cat.say("#lab", "reliable", "waits")
	l.pass(20 * time.Second)
	checkTexts(t, "ann hears", l.node("ann").texts("#lab", "cat"), nil)
	l.pass(15 * time.Second)
	if !slices.ContainsFunc(shown[chat.Notice](cat), func(n chat.Notice) bool { return n.Code == "waiting_for_key" }) {
		t.Errorf("cat is not told that the message waits: %+v", cat.events)
	}
	l.pass(20 * time.Second)
	checkTexts(t, "dan hears", l.node("dan").texts("#lab", "cat"), []string{"waits"})
	l.agree(t, "#lab", "bob", "cat", "dan")
	l.back("bob")
	l.pass(5 * time.Second)
	l.agree(t, "#lab", "bob", "cat", "dan")
}

// A leave is recorded even if nobody who could was there, and even if who left
// has restarted since.
func TestLeaveWithAdminAway(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	l.quit("ann", "bob")
	l.node("cat").do("/part #lab")
	l.pass(time.Minute)
	l.quit("cat")
	l.pass(time.Minute)
	l.back("cat")
	l.pass(time.Minute)
	l.back("bob")
	l.pass(time.Second)
	l.back("ann")
	l.pass(10 * time.Second)
	l.agree(t, "#lab", "ann", "bob")

	// With somebody there who stands in, at once.
	l = newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	l.quit("ann")
	l.node("cat").do("/part #lab")
	l.pass(time.Second)
	l.agree(t, "#lab", "ann", "bob")
	if s := l.node("bob").state("#lab"); s.Cause == "kicked" {
		t.Errorf("bob sees %+v, want that cat left", s)
	}
}

// "Whoever is removed is told once": also who was away then, at the next
// start, be the room private or not.
func TestKickedWhileAway(t *testing.T) {
	for _, private := range []bool{false, true} {
		l := newLAN(t, "ann", "bob").stored(t)
		ann := l.node("ann")
		if private {
			ann.do("/create #lab --private", "/invite bob")
		} else {
			ann.do("/create #lab")
		}
		l.node("bob").do("/join #lab")
		l.pass(time.Second)
		l.quit("bob")
		l.pass(time.Minute)
		ann.do("/kick bob was asleep")
		l.pass(time.Minute)
		l.clear()
		for range 2 {
			l.back("bob")
			l.pass(10 * time.Second)
		}
		var told []chat.Room
		for _, r := range shown[chat.Room](l.node("bob")) {
			if r.Cause == "kicked" {
				told = append(told, r)
			}
		}
		if len(told) != 1 || told[0].By != "ann" || told[0].Reason != "was asleep" {
			t.Errorf("private %v: bob is told %+v", private, told)
		}
		l.agree(t, "#lab", "ann")
	}
}

// A ban that has come to its end is lifted by the admin's node, at the latest
// when the person asks.
func TestBanLapses(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	ann.do("/ban bob 30m calm down")
	l.pass(time.Minute)
	l.clear()
	bob.do("/join #lab")
	l.pass(time.Second)
	if e := shown[chat.Error](bob); len(e) != 1 || e[0].Code != "banned" || !strings.Contains(e[0].Text, "until") {
		t.Errorf("bob's errors: %+v", e)
	}
	l.pass(30 * time.Minute)
	bob.do("/join #lab")
	l.pass(time.Second)
	l.agree(t, "#lab", "ann", "bob")
	ann.do("/bans")
	if n := shown[chat.Notice](ann); !strings.Contains(n[len(n)-1].Text, "nobody") {
		t.Errorf("bans: %+v", n[len(n)-1])
	}
}

// R6: a new key after 24 hours, also while the admin is away.
func TestRotation(t *testing.T) {
	for _, away := range []bool{false, true} {
		l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
		if away {
			l.quit("ann")
		}
		before := l.node("bob").core.Log("#lab").State().Epoch.Number
		l.pass(time.Minute)
		l.now = l.now.Add(24 * time.Hour) // nothing happens meanwhile
		l.pass(time.Minute)
		s := l.node("bob").core.Log("#lab").State()
		if s.Epoch.Number != before+1 {
			t.Errorf("away %v: epoch %d after a day, before %d", away, s.Epoch.Number, before)
		}
		l.agree(t, "#lab", "ann", "bob", "cat")
	}
}

var _ = wire.OpClaim
