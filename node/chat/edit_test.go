package chat_test

import (
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// past returns what the history of a chat says, as a line for each message.
func (n *node) past(inChat string) (lines []string) {
	n.l.t.Helper()
	n.events = nil
	n.do("/history " + inChat)
	notices := shown[chat.Notice](n)
	if len(notices) != 1 {
		n.l.t.Fatalf("%s: /history is answered by %+v", n.name, n.events)
	}
	for _, p := range notices[0].Data.([]chat.Past) {
		line := p.From + ": " + p.Text
		switch {
		case p.Deleted:
			line += "(deleted)"
		case p.Edited:
			line += " (edited)"
		}
		lines = append(lines, line)
	}
	return lines
}

// edits returns what was shown as edited.
func (n *node) edits() (lines []string) {
	for _, m := range shown[chat.Message](n) {
		if m.Edited {
			line := m.ID + " " + m.Text
			if m.Deleted {
				line += "(deleted)"
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// Edits and deletions are applied to the history and shown, in rooms and
// directly; by n or by id.
func TestEditAndDelete(t *testing.T) {
	for _, to := range []string{"#lab", "@bob"} {
		l := newLAN(t, "ann", "bob").stored(t).room("#lab")
		ann, bob := l.node("ann"), l.node("bob")
		there := to
		if to == "@bob" {
			ann.do("/dm bob")
			there = "@ann"
		}
		l.clear()
		for _, text := range []string{"one", "two", "three"} {
			ann.say(to, "reliable", text)
		}
		ann.say(to, "fast", "four")
		l.pass(time.Second)
		var ids []string
		for _, s := range shown[chat.Sent](ann) {
			ids = append(ids, s.ID)
		}
		l.clear()
		ann.do("/edit 4!", "/edit 3 zwei", "/edit "+ids[0]+" eins", "/delete 2", "/edit 1 5 eggs")
		l.pass(time.Second)
		checkTexts(t, to+": bob is shown", bob.edits(), []string{ids[3] + " 4!", ids[1] + " zwei", ids[0] + " eins", ids[2] + " (deleted)", ids[3] + " 5 eggs"})
		for _, s := range shown[chat.Sent](ann) {
			if s.Edits == "" {
				t.Errorf("%s: sent %+v does not say what it edits", to, s)
			}
		}
		want := []string{"ann: eins", "ann: zwei", "ann: (deleted)", "ann: 5 eggs"}
		for i, deleted := range []bool{false, false, true, false} {
			if !deleted {
				want[i] += " (edited)"
			}
		}
		checkTexts(t, to+": bob's history", bob.past(there), want)
		checkTexts(t, to+": ann's history", ann.past(to), want)
		bob.do("/search zwei")
		if found := shown[chat.Notice](bob); len(found) != 2 || len(found[1].Data.([]chat.Past)) != 1 {
			t.Errorf("%s: searching finds %+v", to, found)
		}
	}
}

// What would change a message to nothing is refused, and nobody who is shut out
// changes or answers one.
func TestNothingToSay(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann := l.node("ann")
	for _, in := range []string{"#lab", "@bob"} {
		ann.say(in, "reliable", "mine")
		l.pass(time.Second)
		l.clear()
		for _, line := range []string{"/edit \x01\x02", "/edit 1 \u202e", "/quote \x1b", "/edit", "/me \x01"} {
			ann.core.Do(l.now, chat.Command{Line: line, Chat: in})
		}
		l.pass(time.Second)
		checkTexts(t, "in "+in, ann.errors(), slices.Repeat([]string{"bad_argument"}, 5))
	}
	l.clear()
	ann.core.HandleShutOut("you are shut out")
	for _, line := range []string{"/edit new", "/quote why", "/delete", "hello"} {
		ann.core.Do(l.now, chat.Command{Line: line, Chat: "#lab"})
	}
	l.pass(time.Second)
	checkTexts(t, "who is shut out", ann.errors(), slices.Repeat([]string{"not_authenticated"}, 4))
	if sent := shown[chat.Sent](ann); len(sent) > 0 {
		t.Errorf("who is shut out sends %+v", sent)
	}
}

// Only the author can edit: neither the command nor a message of somebody else
// that names it changes anything.
func TestOnlyTheAuthorEdits(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	l.clear()
	ann.say("#lab", "reliable", "mine")
	l.pass(time.Second)
	id := shown[chat.Sent](ann)[0].ID
	bob.do("/edit "+id+" his", "/delete "+id, "/delete", "/edit nobody's", "/delete zzz", "/edit 1", "/edit "+id)
	var codes []string
	for _, e := range shown[chat.Error](bob) {
		codes = append(codes, e.Code)
	}
	checkTexts(t, "bob is told", codes, []string{"not_yours", "not_yours", "no_such_message", "no_such_message", "bad_argument", "no_such_message", "bad_argument"})
	ref := [8]byte(decode(t, id))
	body := wire.AppendBody(nil, &wire.Message{Number: 1, Verb: wire.Edit, Ref: ref, Text: "his"})
	packet := bob.core.Seal("#lab", wire.KindMessage, true, body)
	for _, n := range []*node{ann, cat} {
		n.core.HandlePacket(l.now, append([]byte{}, packet...))
	}
	l.settle()
	checkTexts(t, "cat is shown", cat.edits(), nil)
	checkTexts(t, "ann is shown", ann.edits(), nil)
	checkTexts(t, "cat's history", cat.past("#lab"), []string{"ann: mine"})
	checkTexts(t, "ann's history", ann.past("#lab"), []string{"ann: mine"})
}

// An edit counts whichever way and in whatever order it comes: before what it
// edits, over a restart, and from another member.
func TestEditComesFirst(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.pass(time.Second)
	l.clear()
	l.asked = func(_, _ *node, q chat.Ask) bool { return q.Type != wire.FramePull }
	l.fate = func(from, to *node, _ []byte) []time.Duration { return nil }
	l.pushed = func(_, _ *node, p chat.Push) bool { return p.Type != wire.FramePacket }
	ann.say("#lab", "reliable", "frist")
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if to == ann {
			return nil
		}
		return []time.Duration{0}
	}
	ann.do("/edit first")
	l.pass(20 * time.Second) // what is missing is given up, and the edit's turn comes
	if m := shown[chat.Message](bob); len(m) != 0 {
		t.Errorf("bob is shown %+v of what he has not", m)
	}
	bob.start()
	l.fate, l.asked, l.pushed = nil, nil, nil
	l.link(ann, bob)
	l.pass(time.Minute)
	m := shown[chat.Message](bob)
	if len(m) != 1 || m[0].Text != "first" || !m[0].Edited {
		t.Errorf("bob is shown %+v", m)
	}
	checkTexts(t, "bob's history", bob.past("#lab"), []string{"ann: first (edited)"})
}

// A quote says which message it answers.
func TestQuote(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.clear()
	ann.say("#lab", "reliable", "shall we?")
	l.pass(time.Second)
	bob.do("/quote yes", "/quote 2 and more")
	l.pass(time.Second)
	id := shown[chat.Sent](ann)[0].ID
	var got []string
	for _, m := range shown[chat.Message](ann) {
		got = append(got, m.ReplyTo+" "+m.Text)
	}
	checkTexts(t, "ann sees", got, []string{id + " yes", id + " and more"})
}

func decode(t *testing.T, id string) []byte {
	t.Helper()
	b, err := hex.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
