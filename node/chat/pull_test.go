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

// "The middle one": of two LANs that meet in one member's machine, members hear
// each other's words by way of that member, as news, in both directions, and
// nobody sees anything twice when they meet.
func TestTwoLANs(t *testing.T) {
	l := newLAN(t, "ann", "bob", "mid", "cat", "dan").stored(t).room("#lab")
	ann, bob, mid, cat, dan := l.nodes[0], l.nodes[1], l.nodes[2], l.nodes[3], l.nodes[4]
	l.pass(time.Second)
	side := map[*node]int{ann: 1, bob: 1, cat: 2, dan: 2}
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if side[from]+side[to] == 3 && from != mid && to != mid {
			return nil
		}
		return []time.Duration{0}
	}
	for _, a := range []*node{ann, bob} {
		for _, b := range []*node{cat, dan} {
			l.unlink(a, b)
		}
	}
	l.pass(10 * time.Second)
	l.clear()
	ann.say("#lab", "reliable", "who is over there?")
	l.pass(3 * time.Second)
	dan.say("#lab", "reliable", "I am")
	l.pass(3 * time.Second)
	for _, n := range []*node{cat, dan} {
		checkTexts(t, n.name+" sees", n.texts("#lab", "ann"), []string{"who is over there?"})
	}
	for _, n := range []*node{ann, bob} {
		checkTexts(t, n.name+" sees", n.texts("#lab", "dan"), []string{"I am"})
	}
	for _, n := range l.nodes {
		for _, m := range shown[chat.Message](n) {
			if m.Replay {
				t.Errorf("%s sees %q as history", n.name, m.Text)
			}
		}
	}
	asked := 0
	l.asked = func(from, to *node, q chat.Ask) bool {
		if q.Type == wire.FramePull {
			asked++
		}
		return true
	}
	l.pass(5 * time.Minute)
	if asked > 0 {
		t.Errorf("%d questions about what everybody has", asked)
	}
	l.heal()
	l.pass(5 * time.Second)
	if got := len(shown[chat.Message](cat)) + len(shown[chat.Message](ann)); got != 3 {
		t.Errorf("ann and cat see %d messages, want 3", got)
	}
}

// A member that says to have what nobody wrote is asked now and then, and no
// more; nobody else is.
func TestVainClaims(t *testing.T) {
	l := newLAN(t, "ann", "bob", "mal").stored(t).room("#lab")
	ann, bob, mal := l.node("ann"), l.node("bob"), l.node("mal")
	ann.say("#lab", "reliable", "one")
	l.pass(time.Second)
	asked := map[*node]int{}
	l.asked = func(from, to *node, q chat.Ask) bool {
		if q.Type == wire.FramePull {
			asked[to]++
		}
		return true
	}
	for i := range 600 {
		acks := wire.Acks{Acks: []wire.Ack{{Slot: 0, Number: uint64(i) + 2}, {Slot: 1, Number: 1<<64 - 600 + uint64(i)}}}
		p := mal.core.Seal("#lab", wire.KindAcks, false, wire.AppendBody(nil, &acks))
		ann.core.HandlePacket(l.now, slices.Clone(p))
		bob.core.HandlePacket(l.now, slices.Clone(p))
		l.pass(time.Second)
	}
	if asked[mal] == 0 || asked[mal] > 40 || asked[ann]+asked[bob] > 4 {
		t.Errorf("mal is asked %d times in ten minutes, ann %d, bob %d", asked[mal], asked[ann], asked[bob])
	}
	if g := shown[chat.Gap](bob); len(g) > 0 {
		t.Errorf("bob is told of a gap: %+v", g)
	}
	l.clear()
	ann.say("#lab", "reliable", "two")
	l.pass(time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"two"})
}

// Who said to have what it had not is believed again before long.
func TestVainClaimsAreForgotten(t *testing.T) {
	l := newLAN(t, "ann", "bob", "mid").stored(t).room("#lab")
	ann, bob, mid := l.node("ann"), l.node("bob"), l.node("mid")
	l.pass(time.Second)
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if from != mid && to != mid {
			return nil
		}
		return []time.Duration{0}
	}
	l.unlink(ann, bob)
	bob.core.HandlePacket(l.now, mid.core.Seal("#lab", wire.KindAcks, false, wire.AppendBody(nil, &wire.Acks{Acks: []wire.Ack{{Slot: 0, Number: 1}}})))
	l.pass(2 * time.Second)
	ann.say("#lab", "reliable", "one") // mid says so while it is not believed, and goes on saying it
	l.pass(5 * time.Second)
	ann.say("#lab", "reliable", "two")
	l.pass(2 * time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"one", "two"})
}

// What is handed on is news if it was said while its author was here, or just
// now and who hands it on was here; else it is history.
func TestSaidHere(t *testing.T) {
	const long, moment = time.Hour, time.Second
	for _, tt := range []struct {
		name         string
		author, from time.Duration // for how long they have been here; 0: they are not
		ago          time.Duration // when it was said; negative: a clock that is ahead
		news         bool
	}{
		{"the author is here, and was then", long, long, moment, true},
		{"the author is here, and was then, long ago", long, long, long / 2, true},
		{"the author has just come back", moment, long, 2 * moment, true}, // who hands it on heard it
		{"the author has just come back, and said it long before", moment, long, long / 2, false},
		{"all have just come", moment, moment, 2 * moment, false},
		{"the author is away, and said it just now", 0, long, moment, true},
		{"the author is away, and said it a while ago", 0, long, time.Minute, false},
		{"who hands it on has just come", 0, moment, 2 * moment, false},
		{"nobody is here", 0, 0, moment, false},
		{"the author's clock is ahead", long, moment, -time.Minute, true},
		{"the author's clock is ahead, and the author away", 0, long, -time.Minute, true},
	} {
		l := newLAN(t, "ann")
		bob, cat := l.add("bob"), l.add("cat") // without a link
		for _, n := range l.nodes[1:] {
			if d := map[*node]time.Duration{bob: tt.author, cat: tt.from}[n]; d > 0 {
				l.nodes[0].core.LinkUp(l.now.Add(-d), n.token, nil)
			}
		}
		if got := l.nodes[0].core.SaidHere(l.now, l.now.Add(-tt.ago), bob.token.Device, cat.token.Device); got != tt.news {
			t.Errorf("%s: news %v, want %v", tt.name, got, tt.news)
		}
	}
}
