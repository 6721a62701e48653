package chat_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
)

// History goes after the time that the person chose, and what went does not
// come again.
func TestRetention(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	ann.say("#lab", "reliable", "old")
	ann.say("@bob", "reliable", "old, too")
	l.pass(3 * time.Hour)
	ann.say("#lab", "reliable", "new")
	l.pass(time.Second)
	for _, bad := range []string{"0d", "soon", "-1GB", "GB"} {
		l.clear()
		bob.do("/set retention " + bad)
		if e := shown[chat.Error](bob); len(e) != 1 || e[0].Code != "bad_argument" {
			t.Errorf("%q: %+v", bad, e)
		}
	}
	checkTexts(t, "before", bob.past("#lab"), []string{"ann: old", "ann: new"})
	bob.do("/set retention 2h")
	checkTexts(t, "in the room", bob.past("#lab"), []string{"ann: new"})
	checkTexts(t, "directly", bob.past("@ann"), nil)
	bob.start()
	l.link(ann, bob)
	l.clear()
	l.pass(3 * time.Hour)
	if m := shown[chat.Message](bob); len(m) != 0 {
		t.Errorf("what was forgotten comes again: %+v", m)
	}
	checkTexts(t, "three hours later", bob.past("#lab"), nil)
	checkTexts(t, "with ann, who keeps it", ann.past("#lab"), []string{"ann: old", "ann: new"})
}

// The history of one chat can be forgotten; the others stay.
func TestForget(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	ann.say("#lab", "reliable", "here")
	ann.say("@bob", "reliable", "there")
	l.pass(time.Second)
	l.clear()
	bob.do("/forget @ann")
	if n := shown[chat.Notice](bob); len(n) != 1 || n[0].Code != "forgotten" {
		t.Errorf("notices: %+v", n)
	}
	checkTexts(t, "directly", bob.past("@ann"), nil)
	checkTexts(t, "in the room", bob.past("#lab"), []string{"ann: here"})
}

// The program does not end before a command has had its answer, whatever came
// before it.
func TestBusyUntilAnswered(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann := l.node("ann")
	ann.say("#lab", "reliable", "hello")
	l.pass(time.Second)
	for _, line := range []string{"/edit hi", "/quote 1 ho", "/history", "/edit nothing of bob's", "/search h", "/export lab.txt", "/forget #lab", "/delete", "/history", "/ping bob", "/history"} {
		ann.core.Do(l.now, chat.Command{Line: line, Chat: "#lab"})
		w := ann.core.Take()
		if !ann.core.Busy() {
			t.Errorf("after %s, which was not answered, the program may end", line)
		}
		ann.perform(w)
		l.pass(5 * time.Second)
		if ann.core.Busy() {
			t.Errorf("%s: still busy after a while", line)
		}
	}
}

// What is exported is what was said, one message after the other.
func TestExportLines(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	m := &chat.SaveMessage{ID: chat.MessageID{1}, From: "ann", At: at, Text: "two\nlines\x1b[31m", Mode: chat.Reliable, Edited: true}
	text := chat.Export{}
	if got, want := string(text.Line(m)), "2026-11-27 12:00:00 ann: two\n    lines[31m (edited)\n"; got != want {
		t.Errorf("as text %q, want %q", got, want)
	}
	var past chat.Past
	lines := chat.Export{JSON: true}
	line := lines.Line(m)
	if err := json.Unmarshal(line, &past); err != nil || strings.Count(string(line), "\n") != 1 || past.Text != "two\nlines[31m" || !past.Edited || past.ID != m.ID.String() {
		t.Errorf("as JSON %q: %+v, %v", line, past, err)
	}
}

// Of a direct message it is told who has it, or where it waits.
func TestWhoGotDirect(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t)
	ann, bob := l.node("ann"), l.node("bob")
	o := l.open()
	o.stop()
	ann.do("/dm bob")
	ann.say("@bob", "reliable", "one")
	bob.goes()
	ann.say("@bob", "reliable", "two")
	l.pass(5 * time.Second)
	asked := func(line string) string {
		l.clear()
		ann.do(line)
		n := shown[chat.Notice](ann)
		if len(n) != 1 || n[0].Code != "who_got" {
			t.Fatalf("%s: %+v", line, ann.events)
		}
		return n[0].Text
	}
	for _, tt := range []struct{ line, want string }{{"/who-got 2", "bob has it"}, {"/who-got", "waits here"}} {
		if got := asked(tt.line); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.line, got, tt.want)
		}
	}
	o.start()
	l.pass(5 * time.Second)
	if got := asked("/who-got"); !strings.Contains(got, "authd keeps it") {
		t.Errorf("with authd: %q", got)
	}
	bob.comes()
	l.pass(5 * time.Second)
	if got := asked("/who-got"); !strings.Contains(got, "bob has it") {
		t.Errorf("in the end: %q", got)
	}
}

// "Unconfirmed apart from failed": who is there and does not confirm is told of.
func TestUnconfirmed(t *testing.T) {
	l := newLAN(t, "ann", "bob")
	ann := l.node("ann")
	l.pushed = func(_, _ *node, p chat.Push) bool { return false }
	l.clear()
	ann.say("@bob", "reliable", "hello?")
	l.pass(time.Minute)
	var codes []string
	for _, n := range shown[chat.Notice](ann) {
		codes = append(codes, n.Code)
	}
	checkTexts(t, "ann is told", codes, []string{"unconfirmed"})
	if e := shown[chat.Error](ann); len(e) != 0 {
		t.Errorf("errors: %v", e)
	}
}
