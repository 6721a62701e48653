package chat_test

import (
	"slices"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire/realm"
)

// revoke gives a person's node a revocation list that names these tokens.
func (n *node) revoke(serials ...realm.Serial) {
	n.core.HandleRevoked(n.l.now, func(t *realm.Token) bool {
		for _, r := range serials {
			if r == t.Serial {
				return true
			}
		}
		return false
	})
	n.l.settle()
}

func TestRevoked(t *testing.T) {
	l := newLAN(t)
	for i, name := range []string{"ann", "bob", "cat"} {
		n := l.add(name)
		n.token.Serial = realm.Serial{byte(i + 1)}
	}
	l.stored(t)
	ann, bob := l.node("ann"), l.node("bob")

	left := func(n *node) (users []string) {
		for _, p := range shown[chat.Peer](n) {
			if p.State == "left" && p.Cause == "revoked" {
				users = append(users, p.User)
			}
		}
		return users
	}
	l.clear()
	ann.revoke(realm.Serial{9})
	checkTexts(t, "nobody's token", left(ann), nil)
	ann.revoke(realm.Serial{9}, bob.token.Serial)
	checkTexts(t, "bob's token", left(ann), []string{"bob"})
	ann.revoke(realm.Serial{9}, bob.token.Serial)
	checkTexts(t, "the next list, with bob's still", left(ann), []string{"bob"})

	// Taken back in, and shut out again.
	l.unlink(ann, bob)
	ann.revoke()
	l.link(ann, bob)
	if n := len(shown[chat.Peer](ann)); n != 2 {
		t.Errorf("ann saw %d events of peers, want bob left and back", n)
	}
	ann.revoke(bob.token.Serial)
	checkTexts(t, "shut out again", left(ann), []string{"bob", "bob"})

	// Who is not there is not spoken of, and is known after a restart.
	cat := l.node("cat")
	l.unlink(ann, cat)
	l.clear()
	ann.start()
	ann.revoke(cat.token.Serial)
	checkTexts(t, "cat was not there", left(ann), nil)
	l.pass(time.Second)
	if !ann.core.Revoked(cat.token.Device) || ann.core.Revoked(bob.token.Device) {
		t.Error("after a restart the list names cat's device only")
	}
}

// Whoever joins a room sees its members by name, those that were never met
// too, and can act on them; a name in a log is nobody's who was met, and no
// direct message goes by it.
func TestNeverMet(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "dan")
	ann, bob, cat, dan := l.nodes[0], l.nodes[1], l.nodes[2], l.nodes[3]
	for _, n := range []*node{bob, dan} {
		for _, o := range []*node{bob, cat, dan} {
			if n != o && n.links[o] {
				l.unlink(n, o)
			}
		}
		n.start() // knows nobody
		l.link(n, ann)
	}
	for i, n := range l.nodes {
		n.do([]string{"/create #lab", "/join #lab"}[min(i, 1)])
		l.pass(100 * time.Millisecond)
	}
	for _, n := range l.nodes {
		rooms := shown[chat.Room](n)
		checkTexts(t, n.name+" sees", rooms[len(rooms)-1].Members, []string{"ann", "bob", "cat", "dan"})
	}
	bob.say("#lab", "reliable", "who is this")
	l.pass(3 * time.Second)
	checkTexts(t, "dan", dan.texts("#lab", "bob"), []string{"who is this"})
	l.clear()
	bob.do("/msg dan psst")
	checkTexts(t, "bob", bob.errors(), []string{"no_such_user"})
	ann.do("/op bob")
	l.pass(100 * time.Millisecond)
	bob.do("/kick dan")
	l.pass(time.Second)
	if got := len(ann.core.Log("#lab").State().Members); got != 3 {
		t.Errorf("ann sees %d members after bob kicked dan, want 3", got)
	}
}

// Whoever goes and comes back on purpose is told of each time and at once; a
// device that only falls silent, three times, and then once it has settled.
func TestCalm(t *testing.T) {
	l := newLAN(t, "ann", "bob")
	ann, bob := l.node("ann"), l.node("bob")
	states := func() (states []string) {
		for _, p := range shown[chat.Peer](ann) {
			states = append(states, p.State)
		}
		l.clear()
		return states
	}
	turn := func(state string) {
		ann.core.LinkDown(l.now, bob.token.Device)
		ann.core.HandlePresence(l.now, bob.token.Device, state, "", nil)
		l.pass(time.Second)
		ann.core.LinkUp(l.now, bob.token, nil)
		l.pass(time.Second)
	}
	l.clear()
	for range 5 {
		turn("left")
	}
	checkTexts(t, "goodbyes", states(), slices.Repeat([]string{"left", "online"}, 5))
	for range 5 {
		turn("lost")
	}
	checkTexts(t, "silences", states(), []string{"lost", "online", "lost", "online", "lost"})
	l.pass(20 * time.Second)
	checkTexts(t, "settled", states(), []string{"online"})
	turn("left")
	checkTexts(t, "a goodbye after that", states(), []string{"left", "online"})
}
