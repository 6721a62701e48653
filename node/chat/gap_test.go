package chat_test

import (
	"fmt"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// What was held behind a gap when the node ended comes after the restart.
func TestRestartWithGap(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	ann.say("#lab", "reliable", "one")
	l.pass(time.Second)
	l.clear()
	l.fate = func(from, to *node, _ []byte) []time.Duration { return nil }
	ann.say("#lab", "reliable", "two")
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if to == ann {
			return nil
		}
		return []time.Duration{0}
	}
	ann.say("#lab", "reliable", "three") // held
	l.pass(100 * time.Millisecond)
	l.fate = nil
	bob.start()
	l.link(ann, bob)
	l.pass(30 * time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"two", "three"})
}

// More than a replay window of packets were sent while a member was away.
func TestAwayForLong(t *testing.T) {
	l := newLAN(t, "ann", "bob").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.pass(10 * time.Second)
	l.clear()
	l.fate = func(from, to *node, _ []byte) []time.Duration { return nil }
	var want []string
	for i := range 2100 {
		text := fmt.Sprint(i)
		want = append(want, text)
		ann.say("#lab", "reliable", text)
	}
	l.fate = nil
	l.pass(30 * time.Second)
	if got := bob.texts("#lab", "ann"); len(got) != len(want) {
		t.Errorf("bob sees %d of %d", len(got), len(want))
	}
}

// A gap given up is still wanted.
func TestGivenUpIsStillAskedFor(t *testing.T) {
	l := newLAN(t, "ann", "bob").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.clear()
	l.fate = func(from, to *node, _ []byte) []time.Duration { return nil }
	ann.say("#lab", "reliable", "one")
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if to == ann {
			return nil
		}
		return []time.Duration{0}
	}
	ann.say("#lab", "reliable", "two")
	l.pass(15 * time.Second)
	l.fate = nil
	l.pass(time.Minute)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"two", "one"})
}

// What was shown past a gap that was given up is not shown again after a
// restart, and the gap is still wanted.
func TestRestartPastGap(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.fate = func(from, to *node, _ []byte) []time.Duration { return nil }
	ann.say("#lab", "reliable", "one")
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if to == ann {
			return nil
		}
		return []time.Duration{0}
	}
	l.asked = func(_, _ *node, q chat.Ask) bool { return q.Type != wire.FramePull }
	l.clear()
	ann.say("#lab", "reliable", "two")
	l.pass(15 * time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"two"})
	l.clear()
	bob.start()
	l.link(ann, bob)
	l.pass(30 * time.Second)
	checkTexts(t, "bob sees again", bob.texts("#lab", "ann"), nil)
	l.fate, l.asked = nil, nil
	l.pass(time.Minute)
	checkTexts(t, "bob sees at last", bob.texts("#lab", "ann"), []string{"one"})
}

// What the author holds no packet of any more comes from its store, marked as
// replay, and nothing waits long for it.
func TestAuthorRestarted(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	ann.say("#lab", "reliable", "one")
	l.pass(time.Second)
	l.clear()
	l.fate = func(from, to *node, _ []byte) []time.Duration { return nil }
	ann.say("#lab", "reliable", "two")
	ann.say("#lab", "reliable", "three")
	l.fate = nil
	ann.start()
	l.link(ann, bob)
	ann.say("#lab", "reliable", "four")
	l.pass(time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"two", "three", "four"})
	var replayed []string
	for _, m := range shown[chat.Message](bob) {
		if m.Replay {
			replayed = append(replayed, m.Text)
		}
	}
	checkTexts(t, "as replay", replayed, []string{"two", "three"})
	l.pass(time.Second)
	got := 0
	for _, r := range shown[chat.Receipt](ann) {
		if r.By == "bob" {
			got++
		}
	}
	if got != 1 { // two and three were said before the restart, and are not followed any more
		t.Errorf("%d receipts of bob, want 1", got)
	}
}

// "Old messages only to devices of that message's epoch": who joined later is
// not given what was said before.
func TestRecallIsForTheEpoch(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t)
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	ann.do("/create #lab")
	bob.do("/join #lab")
	ann.say("#lab", "reliable", "before cat")
	l.pass(time.Second)
	cat.do("/join #lab")
	l.pass(time.Second)
	ann.start()
	for _, n := range []*node{bob, cat} {
		l.link(ann, n)
	}
	l.clear()
	ann.say("#lab", "reliable", "with cat")
	l.pass(20 * time.Second)
	checkTexts(t, "cat sees", cat.texts("#lab", "ann"), []string{"with cat"})
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"with cat"})
}

// Who has a message is told by name.
func TestWhoGot(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	ann := l.node("ann")
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if to.name == "cat" {
			return nil
		}
		return []time.Duration{0}
	}
	ann.say("#lab", "reliable", "hello")
	l.pass(time.Second)
	l.clear()
	ann.do("/who-got")
	ann.do("/who-got 2")
	var told []string
	for _, n := range shown[chat.Notice](ann) {
		if n.Code == "who_got" {
			told = append(told, n.Text)
		}
	}
	checkTexts(t, "ann is told", told, []string{"\"hello\"\ngot it: bob\nnot confirmed: cat"})
	var refused []string
	for _, e := range shown[chat.Error](ann) {
		refused = append(refused, e.Code)
	}
	checkTexts(t, "of the one before", refused, []string{"bad_argument"})
}
