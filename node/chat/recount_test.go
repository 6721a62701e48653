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

// aside returns a copy of what a node has stored.
func (n *node) aside() chat.State {
	n.l.t.Helper()
	had, err := n.store.Load()
	if err != nil {
		n.l.t.Fatalf("%v", err)
	}
	return had
}

// back starts a node with an older copy of its store, away from all others.
func (n *node) back(t *testing.T, had chat.State) {
	t.Helper()
	n.apart()
	n.restore(t, had)
	n.start()
}

// "Store restored from old backup: peers report higher own seq ⇒ jump": what
// was said since the copy was made comes back, whatever is said then is new to
// everybody, and no acknowledgement of the older ones counts for it.
func TestOlderCopyGoesOnCounting(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	ann.say("#lab", "reliable", "before")
	l.pass(time.Second)
	had := ann.aside()
	const lost = 1300 // some pages
	for i := range lost {
		ann.say("#lab", "reliable", fmt.Sprint("since ", i))
	}
	l.pass(3 * time.Second)
	ann.back(t, had)
	l.clear()
	l.fate = nil
	ann.say("#lab", "reliable", "first")
	if sent := shown[chat.Sent](ann); len(sent) > 0 {
		t.Fatalf("a message was numbered before anybody was asked: %+v", sent)
	}
	l.pass(time.Second)
	l.link(ann, bob)
	ann.say("#lab", "reliable", "second")
	l.pass(3 * time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"first", "second"})
	sent := shown[chat.Sent](ann)
	if len(sent) != 2 {
		t.Fatalf("ann sent %+v, want two messages", sent)
	}
	for _, r := range shown[chat.Receipt](ann) {
		if r.ID != sent[0].ID && r.ID != sent[1].ID {
			t.Errorf("a receipt of %s, which was not sent now", r.ID)
		}
	}
	if got := len(shown[chat.Receipt](ann)); got != 2 {
		t.Errorf("%d receipts, want 2", got)
	}
	if got := len(shown[chat.Message](ann)); got != 0 {
		t.Errorf("ann is shown %d messages of her own", got)
	}
	found, err := ann.store.Search("since", 2*lost)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != lost || !found[0].Own || found[0].Account != ann.token.Account {
		t.Errorf("ann has %d messages back, want %d of her own", len(found), lost)
	}
	// Another start, and nothing comes or goes again.
	l.clear()
	ann.start()
	l.link(ann, bob)
	ann.say("#lab", "reliable", "third")
	l.pass(5 * time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"third"})
	if notices := shown[chat.Notice](ann); slices.ContainsFunc(notices, func(n chat.Notice) bool { return n.Code == "sent_again" }) {
		t.Errorf("something was sent again: %+v", notices)
	}
}

// What was written while only who had missed the older messages was there is
// sent again as soon as somebody shows those.
func TestTakenNumbersAreFoundLater(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	l.pass(time.Second)
	had := ann.aside()
	bob.apart()
	for i := range 3 {
		ann.say("#lab", "reliable", fmt.Sprint("only for cat ", i+1))
	}
	l.pass(2 * time.Second)
	checkTexts(t, "cat sees", cat.texts("#lab", "ann"), numbered("only for cat", 1, 3))
	cat.apart()
	ann.back(t, had)
	l.fate = nil
	l.link(ann, bob)
	l.clear()
	ann.say("#lab", "reliable", "cat is away")
	l.pass(2 * time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"cat is away"})
	l.link(ann, cat)
	l.link(bob, cat)
	l.pass(10 * time.Second)
	if got := cat.texts("#lab", "ann"); !slices.Contains(got, "cat is away") {
		t.Errorf("cat sees %q, and not what was said while she was away", got)
	}
	l.clear()
	ann.say("#lab", "reliable", "all are here")
	l.pass(2 * time.Second)
	for _, n := range []*node{bob, cat} {
		checkTexts(t, n.name+" sees", n.texts("#lab", "ann"), []string{"all are here"})
	}
}

// "A bare number must not be trusted": a member that says it has more of this
// device's messages than there are, and shows none, moves nothing, and holds
// nothing up for long.
func TestBareNumbersMoveNothing(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	ann.say("#lab", "reliable", "one")
	l.pass(time.Second)
	numbers := map[uint64]bool{}
	ann.told = func(r chat.Record) {
		if n, ok := r.(chat.SaveNumber); ok {
			numbers[n.Number] = true
		}
	}
	for range 20 {
		v := wire.Vector{Room: ann.core.RoomID("#lab"), Has: []wire.Have{{Device: ann.token.Device, Number: 1 << 60}}}
		bob.ask(ann, wire.FramePull, v.Append(nil), func([]chat.Frame) {})
		slot, _ := bob.core.Keys("#lab").Current().Info().Slot(ann.token.Key)
		acks := wire.Acks{Acks: []wire.Ack{{Slot: slot, Number: 1 << 60}}}
		ann.core.HandlePacket(l.now, bob.core.Seal("#lab", wire.KindAcks, false, wire.AppendBody(nil, &acks)))
		l.settle()
	}
	l.clear()
	ann.say("#lab", "reliable", "two")
	l.pass(10 * time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"two"})
	if len(numbers) != 1 || !numbers[2] {
		t.Errorf("ann's numbers went to %v, want 2", numbers)
	}
	if got := len(shown[chat.Receipt](ann)); got != 1 {
		t.Errorf("%d receipts, want one", got)
	}
}

// Who is alone may write, and who gets no answer too, a little later.
func TestNoAnswerHoldsNobodyUp(t *testing.T) {
	for _, alone := range []bool{true, false} {
		l := newLAN(t, "ann", "bob").stored(t).room("#lab")
		ann, bob := l.node("ann"), l.node("bob")
		l.pass(time.Second)
		ann.start()
		l.asked = func(from, _ *node, _ chat.Ask) bool { return from != ann }
		if !alone {
			l.link(ann, bob)
		}
		ann.say("#lab", "reliable", "hello")
		ann.do("/topic on my own")
		l.pass(20 * time.Second)
		if got := len(shown[chat.Sent](ann)); got != 1 {
			t.Errorf("alone %v: %d messages went out, want 1", alone, got)
		}
		if got := ann.core.Log("#lab").State().Topic; got != "on my own" {
			t.Errorf("alone %v: the topic is %q", alone, got)
		}
	}
}

// "After start asks peers for its highest own counter (so a restored backup
// does not double-sign)": an admin who has something done before any link is
// there has signed nothing twice.
func TestOlderCopySignsNothingTwice(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	l.pass(time.Second)
	had := ann.aside()
	ann.do("/topic since")
	ann.do("/op cat")
	l.pass(time.Second)
	for _, line := range []string{"/topic now", "/kick bob", "/part #lab"} {
		ann.back(t, had)
		l.fate = nil
		ann.do(line)
		if got := ann.core.Log("#lab").State().Seq; got != 2 {
			t.Fatalf("%s: signed entry %d before anybody was asked", line, got)
		}
		l.pass(time.Second)
		l.link(ann, bob)
		l.link(ann, cat)
		l.pass(5 * time.Second)
		for _, n := range []*node{bob, cat} {
			if log := n.core.Log("#lab"); log != nil && len(log.Equivocations()) > 0 {
				t.Errorf("%s: %s has a proof that ann signed twice", line, n.name)
			}
		}
	}
	s := cat.core.Log("#lab").State()
	if s.Topic != "now" || s.Member(bob.token.Account) != nil || s.Admin() != cat.token.Account {
		t.Errorf("not all was done: topic %q, bob in: %v, cat admin: %v", s.Topic, s.Member(bob.token.Account) != nil, s.Admin() == cat.token.Account)
	}
}

// Direct messages are numbered by the start, so a copy of the store uses none
// again, over a link or by mail; what waited in it is sent, and told apart.
func TestOlderCopyWritesDirectly(t *testing.T) {
	for _, mail := range []bool{false, true} {
		l := newLAN(t, "ann", "bob").stored(t)
		ann, bob := l.node("ann"), l.node("bob")
		l.open()
		ann.do("/msg bob one")
		l.unlink(ann, bob)
		l.office.stop()
		ann.do("/msg bob waits in the copy")
		had := ann.aside()
		l.office.start()
		l.link(ann, bob)
		ann.do("/msg bob since one", "/msg bob since two")
		l.pass(time.Second)
		checkTexts(t, "bob sees", bob.texts("@ann", "ann"), []string{"one", "waits in the copy", "since one", "since two"})
		l.clear()
		ann.back(t, had)
		l.fate = nil
		ann.do("/msg bob after")
		if mail {
			ann.core.MailUp(l.now)
			l.settle()
		} else {
			l.link(ann, bob)
		}
		l.pass(3 * time.Second)
		checkTexts(t, fmt.Sprint("mail ", mail, ": bob sees"), bob.texts("@ann", "ann"), []string{"after"})
		if got := len(shown[chat.Receipt](ann)); got != 2 {
			t.Errorf("mail %v: %d receipts, want 2, of what waited and of the new one", mail, got)
		}
		if n := ann.core.Pending(); n != 0 {
			t.Errorf("mail %v: %d messages wait still", mail, n)
		}
	}
}

// What is sent again is what it had become; a long text and an edit that were
// forgotten come back like others.
func TestOlderCopyAndEdits(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.pass(time.Second)
	had := ann.aside()
	long := strings.Repeat("long ", 1000) + "text"
	for i := range 4 {
		ann.say("#lab", "reliable", fmt.Sprint("forgotten ", i))
	}
	ann.do("/edit remembered")
	ann.say("#lab", "reliable", long)
	l.pass(3 * time.Second)
	ann.back(t, had)
	l.pass(5 * time.Second)
	ann.say("#lab", "reliable", "wrong")
	ann.do("/edit right")
	ann.say("#lab", "reliable", "gone")
	ann.do("/delete")
	l.pass(time.Second)
	l.clear()
	l.fate = nil
	l.link(ann, bob)
	l.pass(5 * time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"right"})
	ann.say("#lab", "reliable", "and on")
	l.pass(3 * time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"right", "and on"})
	for _, n := range l.nodes {
		found, err := n.store.History(chat.ChatID{Room: n.core.RoomID("#lab")}, chat.MessageID{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, m := range found {
			if m.Verb == 0 {
				texts = append(texts, m.Text)
			}
		}
		checkTexts(t, n.name+" has", texts, []string{"forgotten 0", "forgotten 1", "forgotten 2", "remembered", long, "right", "and on"})
	}
}
