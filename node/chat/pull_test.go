package chat_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// apart takes a node off the network.
func (n *node) apart() {
	for _, other := range n.l.nodes {
		if n.links[other] {
			n.l.unlink(n, other)
		}
	}
	fate := n.l.fate
	n.l.fate = func(from, to *node, packet []byte) []time.Duration {
		if from == n || to == n {
			return nil
		}
		if fate != nil {
			return fate(from, to, packet)
		}
		return []time.Duration{0}
	}
}

// replays returns what was shown as replay of a person in a chat, in order.
func (n *node) replays(inChat, from string) (texts []string) {
	for _, m := range shown[chat.Message](n) {
		if m.Chat == inChat && m.From == from && m.Replay {
			texts = append(texts, m.Text)
		}
	}
	return texts
}

func numbered(what string, from, to int) (texts []string) {
	for i := from; i <= to; i++ {
		texts = append(texts, fmt.Sprint(what, " ", i))
	}
	return texts
}

// "Any member that has it hands it on": who was away gets all of it, in order
// and as replay, from a member that did not write it, over several pages.
func TestMissedComesFromAnyMember(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	l.pass(time.Second)
	cat.apart()
	const n = 1200
	for i := range n {
		ann.say("#lab", "reliable", fmt.Sprint("ann ", i+1))
		if i%10 == 0 {
			bob.say("#lab", "reliable", fmt.Sprint("bob ", i/10+1))
		}
		if i%100 == 0 {
			l.pass(time.Second)
		}
	}
	l.pass(3 * time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), numbered("ann", 1, n))
	l.fate = nil
	ann.apart()
	l.clear()
	l.link(bob, cat)
	l.pass(5 * time.Second)
	checkTexts(t, "cat sees of ann", cat.replays("#lab", "ann"), numbered("ann", 1, n))
	checkTexts(t, "cat sees of bob", cat.texts("#lab", "bob"), numbered("bob", 1, n/10))
	if got := len(shown[chat.Message](cat)); got != n+n/10 {
		t.Errorf("cat sees %d messages, want %d", got, n+n/10)
	}
	if g := shown[chat.Notify](cat); len(g) != 0 {
		t.Errorf("what was said while one was away rings: %v", g)
	}

	// Neither a restart nor the author's return brings any of it again, and
	// the author hears that cat has it.
	l.clear()
	cat.start()
	l.fate = nil
	for i, a := range l.nodes {
		for _, b := range l.nodes[:i] {
			l.link(a, b)
		}
	}
	l.pass(10 * time.Second)
	if got := shown[chat.Message](cat); len(got) != 0 {
		t.Errorf("cat sees %d messages again: %v", len(got), got[0])
	}
	if got := len(slices.DeleteFunc(shown[chat.Receipt](ann), func(r chat.Receipt) bool { return r.By != "cat" })); got != n {
		t.Errorf("ann has %d receipts of cat, want %d", got, n)
	}
}

// R5, "old messages only to devices of that message's epoch": whoever is asked,
// who joined later is not given what was said before, and does not miss it.
func TestMissedIsForTheEpoch(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t)
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	ann.do("/create #lab")
	bob.do("/join #lab")
	for i := range 600 { // more than a page
		bob.say("#lab", "reliable", fmt.Sprint("before ", i))
	}
	l.pass(time.Second)
	bob.apart() // so that he can't tell cat where his messages begin
	cat.do("/join #lab")
	l.clear()
	l.pass(5 * time.Second)
	l.fate = nil
	l.link(bob, ann)
	l.pass(time.Second)
	bob.say("#lab", "reliable", "after")
	l.pass(5 * time.Second)
	checkTexts(t, "cat sees", cat.texts("#lab", "bob"), []string{"after"})
	if g := shown[chat.Gap](cat); len(g) != 0 {
		t.Errorf("cat is told of gaps: %v", g)
	}

	// Asked outright, a member gives nothing either.
	v := wire.Vector{Room: ann.core.RoomID("#lab")}
	var got []chat.Frame
	cat.ask(ann, wire.FramePull, v.Append(nil), func(frames []chat.Frame) { got = frames })
	var texts []string
	for _, f := range got {
		s, err := wire.ParseSigned(f.Body)
		if err != nil {
			t.Fatal(err)
		}
		p, err := wire.ParsePlain(s.Signed[:len(s.Signed)-wire.SignatureSize])
		if err != nil {
			t.Fatal(err)
		}
		body, err := wire.ParseBody(p.Kind, p.Body)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, body.(*wire.Message).Text)
	}
	checkTexts(t, "cat is given", texts, []string{"after"})
}

// What somebody wrote before leaving, or being kicked, still counts; what comes
// under an old epoch after that does not.
func TestMissedOfWhoIsGone(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "dan").stored(t).room("#lab")
	ann, bob, cat, dan := l.node("ann"), l.node("bob"), l.node("cat"), l.node("dan")
	l.pass(time.Second)
	cat.apart()
	bob.say("#lab", "reliable", "bob's last words")
	dan.say("#lab", "reliable", "dan's last words")
	l.pass(time.Second)
	ann.do("/kick bob")
	dan.do("/part #lab")
	l.pass(time.Second)
	l.clear()
	l.fate = nil
	l.link(ann, cat)
	l.pass(5 * time.Second)
	checkTexts(t, "cat sees of bob", cat.texts("#lab", "bob"), []string{"bob's last words"})
	checkTexts(t, "cat sees of dan", cat.texts("#lab", "dan"), []string{"dan's last words"})
}

// Who does not belong to the room is told nothing.
func TestMissedIsForMembers(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t)
	ann, bob := l.node("ann"), l.node("bob")
	ann.do("/create #lab")
	ann.say("#lab", "reliable", "secret")
	v := wire.Vector{Room: ann.core.RoomID("#lab")}
	var got []chat.Frame
	bob.ask(ann, wire.FramePull, v.Append(nil), func(frames []chat.Frame) { got = frames })
	if len(got) != 1 || got[0].Type != wire.FrameRefused {
		t.Errorf("bob is given %v", got)
	}
}

// Not all ask the same member for the same thing: of many that come to know
// that one has something new, few are served at a time, and all get it.
func TestMissedIsNotAskedForByAllAtOnce(t *testing.T) {
	names := []string{"ann", "bob"}
	for i := range 24 {
		names = append(names, "p"+string(rune('a'+i)))
	}
	l := newLAN(t, names...).stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.pass(2 * time.Second)
	ann.apart()
	bob.say("#lab", "reliable", "before he goes")
	bobs := l.fate
	l.pass(time.Second)
	l.fate = bobs
	bob.apart()
	l.fate = nil
	asked := 0
	l.asked = func(from, to *node, q chat.Ask) bool {
		if q.Type == wire.FramePull && to == ann {
			asked++
		}
		return true
	}
	for _, n := range l.nodes[2:] {
		l.link(ann, n)
	}
	l.pass(20 * time.Second)
	checkTexts(t, "ann sees", ann.texts("#lab", "bob"), []string{"before he goes"})
	if asked > 2*len(names) {
		t.Errorf("ann was asked %d times by %d members", asked, len(names)-2)
	}
}
