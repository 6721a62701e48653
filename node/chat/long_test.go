package chat_test

import (
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

func longText(what string, n int) string { return strings.Repeat(what+" ", n/(len(what)+1)) }

// A text of up to 64 KiB reaches everybody in a room, in its place among the
// others, and is confirmed once it is there.
func TestLongMessage(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann := l.node("ann")
	l.clear()
	texts := []string{"before", longText("long", 2000), "between", longText("longer", wire.MaxLongText), "after"}
	for _, text := range texts {
		ann.say("#lab", "reliable", text)
	}
	l.pass(5 * time.Second)
	for _, n := range l.nodes[1:] {
		checkTexts(t, n.name+" sees", n.texts("#lab", "ann"), texts)
	}
	got := 0
	for _, r := range shown[chat.Receipt](ann) {
		if r.Got == 2 {
			got++
		}
	}
	if got != len(texts) {
		t.Errorf("%d of %d messages are confirmed by both", got, len(texts))
	}
	id := shown[chat.Sent](ann)[1].ID
	l.clear()
	ann.do("/edit " + id + " " + longText("edited", 3000))
	l.pass(5 * time.Second)
	for _, n := range l.nodes[1:] {
		if m := shown[chat.Message](n); len(m) != 1 || m[0].ID != id || !m[0].Edited || m[0].Text != strings.TrimSpace(longText("edited", 3000)) {
			t.Errorf("%s sees %+v", n.name, m)
		}
	}
}

// The text comes from any member that has it, also to who was away, also once
// its author has edited it; and after a first try that fails.
func TestLongMessageFromAnother(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	l.pass(time.Second)
	cat.apart()
	text := longText("long", 5000)
	ann.say("#lab", "reliable", text)
	ann.say("#lab", "reliable", "after")
	ann.do("/edit 2 short")
	l.pass(5 * time.Second)
	l.fate = nil
	ann.apart()
	failed := 0
	l.asked = func(_, _ *node, q chat.Ask) bool {
		if q.Type == wire.FrameAskText && failed == 0 {
			failed++
			return false
		}
		return true
	}
	l.clear()
	l.link(bob, cat)
	l.pass(20 * time.Second)
	if failed == 0 {
		t.Error("nobody was asked for the text")
	}
	checkTexts(t, "cat's history", cat.past("#lab"), []string{"ann: short (edited)", "ann: after"})
}

// R5: a text is for devices of its message's epoch, and for members only; a
// false one is not taken.
func TestLongMessageIsForTheEpoch(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t)
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	ann.do("/create #lab")
	bob.do("/join #lab")
	l.clear()
	ann.say("#lab", "reliable", longText("secret", 3000))
	l.pass(time.Second)
	q := wire.AskText{Room: ann.core.RoomID("#lab"), Message: [8]byte(decode(t, shown[chat.Sent](ann)[0].ID))}
	for _, join := range []bool{false, true} {
		if join {
			cat.do("/join #lab")
		}
		var got []chat.Frame
		cat.ask(ann, wire.FrameAskText, q.Append(nil), func(frames []chat.Frame) { got = frames })
		if len(got) != 1 || got[0].Type != wire.FrameRefused {
			t.Errorf("member %v: cat is given %+v", join, got)
		}
	}
	var got []chat.Frame
	bob.ask(ann, wire.FrameAskText, q.Append(nil), func(frames []chat.Frame) { got = frames })
	if len(got) != 1 || got[0].Type != wire.FrameText || string(got[0].Body) != longText("secret", 3000) {
		t.Errorf("bob is given %d frames", len(got))
	}
	n := wire.Notice{Number: 1, Hash: wire.Hash{1}, Length: 3}
	if n.Fits([]byte("abc")) || n.Fits([]byte("abcd")) {
		t.Error("a text that was not announced fits")
	}
}
