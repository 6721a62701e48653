package screen

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
)

// What keys do to the text being typed; | is the cursor.
func TestInput(t *testing.T) {
	for _, tt := range []struct {
		in   string
		keys string
		want string
	}{
		{"|", "a b", "ab|"},
		{"one two|", "left left x", "one tx|wo"},
		{"one two|", "home x end y", "xone twoy|"},
		{"one two|", "ctrl+a ctrl+k", "|"},
		{"one two|", "alt+b ctrl+k ctrl+y ctrl+y", "one twotwo|"},
		{"one two three|", "ctrl+w ctrl+w", "one |"},
		{"one | two", "alt+d", "one |"},
		{"one two|", "ctrl+u x", "x|"},
		{"one two|", "alt+left ctrl+left ctrl+right x", "onex| two"},
		{"ab|", "ctrl+t", "ba|"},
		{"你好|", "left x backspace delete", "你|"},
		{"👩\u200d👧e\u0301|", "backspace", "👩\u200d👧|"},
		{"👩\u200d👧|", "left", "|👩\u200d👧"},
		{"e|", "\u0301 left", "|e\u0301"},
		{"ab|", "left alt+enter", "a\n|b"},
		{"one\ntwo|", "up home", "|one\ntwo"},
		{"one\nlonger|", "up", "one|\nlonger"},
		{"one|\ntwo", "down x", "one\ntwox|"},
		{"|", "backspace delete left right ctrl+w ctrl+k ctrl+y", "|"},
	} {
		var in input
		i := strings.Index(tt.in, "|")
		in.set(tt.in[:i]+tt.in[i+1:], i)
		for _, k := range strings.Fields(tt.keys) {
			if !in.edit(k) {
				in.insert(k)
			}
		}
		if got := in.before() + "|" + strings.Join(in.signs[in.pos:], ""); got != tt.want {
			t.Errorf("%q, %s: got %q, want %q", tt.in, tt.keys, got, tt.want)
		}
	}
}

// Where the cursor stands in a text that takes several rows.
func TestInputRows(t *testing.T) {
	for _, tt := range []struct {
		text        string // | is the cursor
		rows        string // parted by /
		y, x, width int
	}{
		{"|", "", 0, 2, 10},
		{"abcdefgh|", "abcdefgh/", 1, 0, 10},
		{"abcdefgh|i", "abcdefgh/i", 1, 0, 10},
		{"ab\ncd|", "ab/cd", 1, 2, 10},
		{"ab|\ncd", "ab/cd", 0, 4, 10},
		{"你好你好|你", "你好你好/你", 1, 0, 10},
	} {
		var in input
		i := strings.Index(tt.text, "|")
		in.set(tt.text[:i]+tt.text[i+1:], i)
		rows, y, x := in.rows(tt.width, 2)
		if got := strings.Join(rows, "/"); got != tt.rows || y != tt.y || x != tt.x {
			t.Errorf("%q: got %q with the cursor at %d,%d, want %q, %d,%d", tt.text, got, y, x, tt.rows, tt.y, tt.x)
		}
	}
}

func TestChangingChats(t *testing.T) {
	d := newDesk(t, 100, 30)
	d.room("#lab", "bob")
	d.room("#ops", "bob")
	d.show(chat.Notice{Code: "current", Data: "@bob"})
	at := func(want string) {
		t.Helper()
		if d.current.name != want {
			t.Errorf("in %q, want %q", d.current.name, want)
		}
	}
	at("@bob")
	d.press("d", "r", "alt+2") // what is typed stays with its chat
	at("#lab")
	d.press("ctrl+n")
	at("#ops")
	d.press("ctrl+p", "ctrl+p")
	at("")
	d.press("ctrl+p")
	at("@bob")
	d.sees("@bob> dr")
	d.press("alt+9") // there is none
	at("@bob")

	// Alt+A: where somebody means me first, then what is new, then back.
	d.press("alt+1")
	d.hears("#lab", "bob", "hello")
	d.hears("#ops", "bob", "me: look")
	d.sees("2 #lab", "new (Alt+A): 2:#lab 1, 3:#ops 1!")
	d.press("alt+a")
	at("#ops")
	d.press("alt+a")
	at("#lab")
	d.press("alt+a")
	at("#ops")
	d.misses("new (Alt+A)")

	// The mouse: the third row of the list.
	d.Click(d.now, 3, 1)
	at("")
	d.Click(d.now, 3, 4)
	at("@bob")
	d.press("ctrl+u")
	d.Click(d.now, 95, 1)
	d.sees("@bob> bob: ")
	d.Click(d.now, 3, 25)
	d.Click(d.now, 300, 1)
	d.Click(d.now, 0, 0)
	at("@bob")

	// Left rooms are gone from the list.
	d.press("alt+2")
	d.show(chat.Room{Chat: "#lab", Cause: "kicked", By: "bob", Whom: "me", Reason: "noise"})
	at("#ops")
	d.sees("bob kicked you from #lab: noise")
	d.misses("2 #lab")

	d.show(chat.Room{Chat: "#den", Was: "#ops", Cause: "renamed", By: "bob", Members: []string{"me", "bob"}})
	at("#den")
	d.show(chat.Renamed{Old: "bob", New: "rob"})
	d.press("alt+3")
	at("@rob")
	d.sees("@rob (was bob)")
}

// What was new first is marked until one looks away again, and noted as read.
func TestUnread(t *testing.T) {
	d := newDesk(t, 100, 30)
	d.show(chat.Room{Chat: "#lab", Cause: "restored", Members: []string{"me", "bob"}})
	d.hears("#lab", "bob", "one")
	d.hears("#lab", "bob", "me, two")
	if p := d.View(); !strings.HasPrefix(p.Title, "(2!) ") {
		t.Errorf("the title is %q", p.Title)
	}
	d.press("alt+2")
	d.sees("── new ──", "one")
	if i, j := strings.Index(d.text(), "new ──"), strings.Index(d.text(), "one"); i > j {
		t.Error("the mark stands behind what is new")
	}
	if title := d.View().Title; title != "lanchat #lab" {
		t.Errorf("the title is %q", title)
	}
	d.hears("@bob", "bob", "three")
	d.types("/read @bob")
	d.answer("read", "everything in @bob is read", map[string]any{"chat": "@bob", "read": true})
	d.sees("everything in @bob is read")
	if title := d.View().Title; title != "lanchat #lab" {
		t.Errorf("the title is %q after all was read", title)
	}
	before := len(d.did)
	d.pass(readEvery)
	if d.last().Line != "/read #lab" || len(d.did) != before+1 {
		t.Errorf("did %+v", d.did[before:])
	}
	d.press("alt+1", "alt+2")
	d.misses("── new ──")

	// What comes while one looks is read; while one does not, it is not.
	d.hears("#lab", "bob", "three")
	d.pass(readEvery)
	if d.last().Line != "/read #lab" {
		t.Errorf("did %+v", d.last())
	}
	n := len(d.did)
	d.Focus(d.now, false)
	d.pass(time.Hour) // a look at the figures that was due is let be
	d.hears("#lab", "bob", "four")
	d.pass(time.Hour)
	if len(d.did) != n || !strings.HasPrefix(d.View().Title, "(1) ") {
		t.Errorf("read unseen: %+v, %q", d.did[n:], d.View().Title)
	}
	d.sees("── new ──")
	d.Focus(d.now, true)
	d.pass(readEvery)
	if d.last().Line != "/read #lab" {
		t.Errorf("did %+v", d.did[n:])
	}

	// What was seen is noted on leaving it, too, however soon that is.
	leave := map[string]func(){
		"another chat": func() { d.press("alt+1") },
		"blurred":      func() { d.Focus(d.now, false); d.pass(0) },
		"quitting":     func() { d.press("ctrl+c", "ctrl+c") },
	}
	for how, leave := range leave {
		d.Focus(d.now, true)
		d.press("alt+2")
		d.pass(readEvery)
		d.hears("#lab", "bob", "five")
		n := len(d.did)
		if leave(); len(d.did) != n+1 || d.last().Line != "/read #lab" {
			t.Errorf("%s: did %+v", how, d.did[n:])
		}
	}
	d.Focus(d.now, true)
	d.press("alt+1")
	d.pass(time.Hour)
	if d.Deadline() != (time.Time{}) {
		t.Errorf("there is still something to do at %v", d.Deadline())
	}
}

// Rule: "only when the window is not focused"; and what is said in it.
func TestRinging(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(d *desk)
		want   string
	}{
		{"the terminal never told", func(d *desk) { d.press("alt+1") }, "\a\x1b]777;notify;lanchat: #lab;bob: hi, there\x1b\\"},
		{"and the chat is in view", func(d *desk) {}, ""},
		{"focused elsewhere", func(d *desk) { d.Focus(d.now, false) }, "\a\x1b]777;notify;lanchat: #lab;bob: hi, there\x1b\\"},
		{"focused", func(d *desk) { d.Focus(d.now, true); d.press("alt+1") }, ""},
		{"content hidden", func(d *desk) { d.Focus(d.now, false); d.set("content", "hide") }, "\a\x1b]777;notify;lanchat: #lab;bob wrote\x1b\\"},
		{"no bell", func(d *desk) { d.Focus(d.now, false); d.set("bell", "off") }, "\x1b]777;notify;lanchat: #lab;bob: hi, there\x1b\\"},
		{"bell only", func(d *desk) { d.Focus(d.now, false); d.set("desktop", "off") }, "\a"},
		{"the desktop's service", func(d *desk) { d.Focus(d.now, false); d.set("desktop", "service") }, "\a(lanchat: #lab|bob: hi, there)"},
		{"and content hidden", func(d *desk) { d.Focus(d.now, false); d.set("desktop", "service"); d.set("content", "hide") }, "\a(lanchat: #lab|bob wrote)"},
	} {
		d := newDesk(t, 80, 24)
		d.room("#lab", "bob")
		tt.before(d)
		d.raw = ""
		d.show(chat.Message{ID: "1", Chat: "#lab", From: "bob", Text: "hi;\nthere"}, chat.Notify{Chat: "#lab", ID: "1", Why: "message"})
		if d.raw != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, d.raw, tt.want)
		}
	}
}

func (d *desk) set(name, value string) {
	d.show(chat.Notice{Code: "set", Data: []chat.Setting{{Name: name, Value: value}}})
}

// Who takes tokens for longer than they last is told so all the time.
func TestOutageGraceIsShown(t *testing.T) {
	d := newDesk(t, 100, 24)
	d.room("#lab", "bob")
	for value, want := range map[string]bool{"0": false, "7d": true} {
		d.set("outage_grace", value)
		if got := strings.Contains(d.status(), "outage_grace 7d"); got != want {
			t.Errorf("outage_grace %s: shown %v, want %v: %s", value, got, want, d.status())
		}
	}
}

// Each state of one's own message has a sign of its own.
func TestStates(t *testing.T) {
	d := newDesk(t, 80, 24)
	d.room("#lab", "bob", "cyd")
	d.types("hi")
	if c := d.last(); c != (chat.Command{Line: "hi", Chat: "#lab"}) {
		t.Errorf("did %+v", c)
	}
	d.sees("you: hi …")
	ref := d.ref()
	d.show(chat.Sent{ID: "1", Chat: "#lab", Mode: "reliable", Ref: ref, Online: 2, Text: "hi"})
	d.sees("you: hi →")
	d.show(chat.Receipt{ID: "1", Chat: "#lab", By: "bob", Got: 1, Of: 2})
	d.sees("you: hi 1/2")
	d.pass(unconfirmedAfter)
	d.sees("you: hi ? 1/2")
	d.show(chat.Receipt{ID: "1", Chat: "#lab", By: "cyd", Got: 2, Of: 2})
	d.sees("you: hi ✓")

	d.types("too much")
	d.show(chat.Error{Code: "too_long", Text: "the message is too long", Ref: d.ref()})
	d.sees("you: too much ✗ failed", "! the message is too long")

	d.types("alone")
	d.show(chat.Sent{ID: "2", Chat: "#lab", Mode: "reliable", Ref: d.ref(), Text: "alone"})
	d.pass(unconfirmedAfter)
	d.sees("you: alone ? unconfirmed")

	d.answerMode("fast")
	d.types("quick")
	d.show(chat.Sent{ID: "3", Chat: "#lab", Mode: "fast", Ref: d.ref(), Text: "quick"})
	d.sees("~you: quick", "#lab · fast")

	d.types("/msg bob psst")
	d.show(chat.Sent{ID: "4", Chat: "@bob", Mode: "reliable", Ref: d.ref(), Text: "psst"})
	d.sees("sent to @bob: psst", "@bob")
	d.types("//x")
	d.sees("you: /x …")
	if strings.Count(d.text(), "you:") != 5 {
		t.Errorf("something was shown twice:\n%s", d.text())
	}
}

func (d *desk) answerMode(mode string) {
	d.show(chat.Notice{Code: "mode", Text: "so", Data: map[string]any{"chat": d.current.name, "mode": mode}})
}

// A gap heals where it was told of.
func TestGapHeals(t *testing.T) {
	d := newDesk(t, 80, 24)
	d.room("#lab", "bob")
	d.show(chat.Gap{Chat: "#lab", From: "bob", Missing: 2})
	d.sees("2 messages are missing from bob", "· 2 missing")
	d.hears("#lab", "bob", "more")
	d.show(chat.Gap{Chat: "#lab", From: "bob", Healed: true})
	d.sees("the missing messages of bob came")
	d.misses("2 missing", "are missing from")
}

// What authors change is changed where it stands; an answer says to what.
func TestEdits(t *testing.T) {
	d := newDesk(t, 100, 24)
	d.room("#lab", "bob")
	d.show(chat.Message{ID: "1", Chat: "#lab", From: "bob", Text: "frist"}, chat.Message{ID: "2", Chat: "#lab", From: "bob", Text: "second"})
	d.show(chat.Message{ID: "1", Chat: "#lab", From: "bob", Text: "first", Edited: true}, chat.Message{ID: "2", Chat: "#lab", From: "bob", Edited: true, Deleted: true})
	d.sees("bob (edited): first", "bob (deleted): ")
	d.misses("frist", "second")
	d.types("mine")
	d.show(chat.Sent{ID: "3", Chat: "#lab", Mode: "reliable", Ref: d.ref(), Text: "mine"})
	d.show(chat.Message{ID: "4", Chat: "#lab", From: "bob", Text: "yes", ReplyTo: "3"}, chat.Message{ID: "5", Chat: "#lab", From: "bob", Text: "no", ReplyTo: "9"})
	d.sees("bob (on you: mine): yes", "bob (on an earlier message): no")
	d.types("/edit better")
	d.show(chat.Sent{ID: "6", Edits: "3", Chat: "#lab", Mode: "reliable", Ref: d.ref(), Text: "better", Was: "mine"})
	d.sees("you (edited): better", "- edited, was: mine")
	d.misses("14:02 you: mine")
}

// One's own: an answer says to what, and an action is told as others see it.
func TestOwnWords(t *testing.T) {
	d := newDesk(t, 80, 24)
	d.room("#lab", "bob")
	d.show(chat.Message{ID: "1", Chat: "#lab", From: "bob", Text: "tea?"})
	d.types("/quote yes")
	d.show(chat.Sent{ID: "2", Chat: "#lab", Ref: d.ref(), Text: "yes", ReplyTo: "1"})
	d.types("/me waves")
	d.show(chat.Sent{ID: "3", Chat: "#lab", Ref: d.ref(), Text: "waves", Action: true})
	d.types("/delete 1")
	d.show(chat.Sent{ID: "4", Chat: "#lab", Ref: d.ref(), Edits: "2", Was: "yes"})
	d.sees("you (deleted) (on bob: tea?):", "* me waves", "- deleted: yes")
	d.show(chat.Message{ID: "5", Chat: "#lab", From: "bob", Text: "no", ReplyTo: "1"}, chat.Message{ID: "5", Chat: "#lab", From: "bob", Text: "now", ReplyTo: "1", Edited: true})
	d.sees("bob (edited) (on bob: tea?): now")
}

// Links have the numbers of /open where the terminal is not known to open them.
func TestNumberedLinks(t *testing.T) {
	d := newDesk(t, 80, 24)
	d.room("#lab", "bob")
	d.show(chat.Message{ID: "1", Chat: "#lab", From: "bob", Text: "see http://x.lan", Links: []int{3}})
	d.sees("see http://x.lan [3]")
	d.set("links", "plain")
	d.misses("[3]")
	d.set("links", "numbered")
	d.sees("[3]")
	d.set("links", "auto")
	d.cfg.Hyperlinks = true
	d.Resize(81, 24)
	d.misses("[3]")
}

// The figures of the room in view are asked for while somebody looks.
func TestFigures(t *testing.T) {
	d := newDesk(t, 120, 24)
	d.room("#lab", "bob")
	d.pass(surveyEvery)
	if d.last() != (chat.Command{Line: "/mode", Chat: "#lab"}) {
		t.Fatalf("did %+v", d.last())
	}
	d.answer("mode", "many words", chat.ModeReport{Chat: "#lab", Mode: "reliable", Loss: 4.25, LossOut: 1, Repairs: 7})
	d.sees("loss 4.2 % in, 1.0 % out, 7 repaired")
	d.misses("many words")
	n := len(d.did)
	d.Focus(d.now, false)
	d.pass(surveyEvery)
	if len(d.did) != n {
		t.Errorf("unseen, did %+v", d.last())
	}
	d.types("/mode")
	d.answer("mode", "many words", chat.ModeReport{Chat: "#lab", Mode: "fast"})
	d.sees("many words", "#lab · fast")
	d.show(chat.Gap{Chat: "#lab", From: "bob", Missing: 2, Mode: "fast"})
	d.sees("2 fast messages of bob did not come")
	d.misses("2 missing")
}

// Scrolling up loads the history; what comes meanwhile moves nothing.
func TestScrollback(t *testing.T) {
	d := newDesk(t, 80, 14)
	d.room("#lab", "bob")
	if d.last().Line != "/history #lab" {
		t.Fatalf("did %+v", d.last())
	}
	page := func(from, to int) (list []chat.Past) {
		for i := from; i < to; i++ {
			list = append(list, chat.Past{ID: fmt.Sprintf("%016d", i), At: start.Add(time.Duration(i-1000) * time.Minute), Chat: "#lab", From: "bob", Text: fmt.Sprint("line ", i), Read: true})
		}
		return list
	}
	d.answer("history", "", page(100, 130))
	d.sees("line 129")
	d.misses("line 110")
	for range 3 {
		d.press("pgup")
	}
	d.sees("line 100", "rows further down: PgDn")
	d.press("pgup")
	if want := fmt.Sprintf("/history #lab %016d", 100); d.last().Line != want {
		t.Fatalf("did %+v, want %s", d.last(), want)
	}
	before := d.text()
	d.answer("history", "", page(70, 100))
	d.hears("#lab", "bob", "news")
	row := func(screen string) string {
		_, row, _ := strings.Cut(strings.Split(screen, "\n")[6], "│")
		return row
	}
	if row(before) != row(d.text()) {
		t.Errorf("the view moved from\n%s\nto\n%s", before, d.text())
	}
	d.press("pgup")
	d.sees("line 95")
	d.misses("news")

	// Find goes up, through the history too.
	d.press("alt+end")
	d.sees("news")
	d.press(append([]string{"ctrl+f"}, signsOf("LINE 12")...)...)
	d.press("enter")
	d.sees("line 129", "found in what bob wrote")
	d.press("enter", "enter")
	d.sees("line 127")
	d.press("esc", "alt+end", "ctrl+f")
	d.press(signsOf("line 33")...)
	d.press("enter")
	d.sees("looking in the history")
	d.answer("history", "", page(20, 70))
	d.sees("line 33", "found")
	d.press("esc", "alt+home")
	d.answer("history", "", []chat.Past{})
	n := len(d.did)
	d.press("alt+home")
	if len(d.did) != n {
		t.Errorf("the history was asked for beyond its beginning: %+v", d.last())
	}
	d.Wheel(d.now, false)
	d.Wheel(d.now, true)
	d.types("answer")
	d.sees("answer", "news")
}

func TestQuestions(t *testing.T) {
	d := newDesk(t, 80, 24)
	d.room("#lab", "bob")
	d.Paste("one\ntwo")
	d.sees("#lab> one", "two")
	d.press("ctrl+c")
	d.misses("two")
	long := strings.Repeat("x\r\n", 6)
	d.Paste(long)
	d.sees("paste 6 lines")
	d.press("n")
	d.misses("paste 6", "x")
	d.Paste(long)
	d.press("y", "enter")
	if c := d.last(); c.Line != "x\nx\nx\nx\nx\nx" {
		t.Errorf("did %+v", c)
	}

	for _, yes := range []bool{false, true} {
		d.answer("open", "open http://x.lan ?", chat.Opening{URL: "http://x.lan"})
		d.sees("open http://x.lan ? y/n")
		opened := ""
		key := "esc"
		if yes {
			key = "y"
		}
		d.press(key)
		opened = d.w.Open
		if (opened == "http://x.lan") != yes {
			t.Errorf("%s opened %q", key, opened)
		}
		d.misses("y/n")
	}

	// Ctrl+R
	d.types("first words")
	d.types("second words")
	d.press("ctrl+r", "w", "o")
	d.sees("#lab> second words")
	d.press("ctrl+r")
	d.sees("#lab> first words")
	d.press("enter", "!", "enter")
	if c := d.last(); c.Line != "first words!" {
		t.Errorf("did %+v", c)
	}
	d.press("up", "up")
	d.sees("#lab> second words")
	d.press("down", "down")
	d.misses("#lab> second words")

	// Ctrl+C clears and twice asks; Esc never quits.
	d.press("x", "ctrl+c", "esc", "esc", "ctrl+c")
	d.sees("press Ctrl+C once more to quit")
	d.press("a", "ctrl+c", "ctrl+c")
	if d.w.Quit {
		t.Error("it quit though something was typed between")
	}
	d.pass(quitWithin)
	d.misses("once more")
	d.press("ctrl+c")
	if d.w.Quit {
		t.Error("it quit though the first was long ago")
	}
	d.press("ctrl+c")
	if !d.w.Quit {
		t.Error("twice Ctrl+C does not quit")
	}
}

// /passwd asks without showing anything.
func TestPasswd(t *testing.T) {
	d := newDesk(t, 100, 24)
	d.cfg.Meter = func(p string) (int, string) { return min(len(p)/3, 4), "" }
	d.room("#lab", "bob")
	d.types("/passwd --sign-out-others")
	d.sees("present password")
	d.types("zzold")
	d.sees("new password")
	d.press("z", "z", "z")
	d.sees("[#---] weak")
	d.press("enter")
	d.sees("strength: weak; another one.")
	d.types("zzzzzzzzzzzz")
	d.sees("once more")
	d.types("zzz")
	d.sees("the two differ. new password")
	for range 2 {
		d.Paste("zzzzzzzzzzzz")
		d.misses("z")
		d.press("enter")
	}
	c := d.last()
	if c.Passwd == nil || *c.Passwd != (chat.Passwd{Present: "zzold", New: "zzzzzzzzzzzz", SignOut: true}) || c.Line != "" {
		t.Errorf("did %+v", c)
	}
	d.misses("z", "password")
	n := len(d.did)
	d.types("/passwd")
	d.press("z", "esc")
	d.sees("your password stays as it is")
	d.press("up", "up")
	d.misses("zz")
	if len(d.did) != n {
		t.Errorf("did %+v", d.last())
	}
}

func TestCompletion(t *testing.T) {
	d := newDesk(t, 80, 24)
	d.room("#lab", "bob", "bodo")
	d.press("b", "o", "d", "tab")
	d.sees("#lab> bodo: ")
	d.press("ctrl+u", "/", "m", "tab")
	d.sees("/msg  /mute")
	d.press("s", "tab", "b", "tab", "tab")
	d.sees("#lab> /msg bo", "bob  bodo")
}

// The program's own page takes commands, and says so.
func TestHome(t *testing.T) {
	d := newDesk(t, 80, 24)
	n := len(d.did)
	d.types("hello?")
	d.sees("there is no chat yet", "type /create")
	if len(d.did) != n {
		t.Errorf("did %+v", d.last())
	}
	d.show(chat.Message{ID: "1", Chat: "@bob", From: "bob", Text: "hi"})
	d.types("hello?")
	d.sees("choose a chat with", "Alt+2, or type")
	d.types("/rooms")
	if c := d.last(); c.Line != "/rooms" {
		t.Errorf("did %+v", c)
	}
	d.answer("rooms", "no rooms", nil)
	d.sees("no rooms")
	d.types("/help")
	d.answer("help", strings.Repeat("/x\n", 10), nil)
	d.sees("Alt+1…9", "means you")
	d.types("/clear")
	d.answer("clear", "empty", nil)
	d.misses("no rooms", "empty")
}

// "First start shows five lines and no more."
func TestFirstStart(t *testing.T) {
	d := &desk{Screen: New(Config{First: true}), t: t, now: start}
	d.Resize(140, 30)
	d.take()
	d.show(chat.Ready{User: "me", Realm: "workshop"})
	rows := 0
	for _, row := range strings.Split(d.text(), "\n")[1:28] {
		_, row, _ = strings.Cut(row, "│")
		if row, _, _ = strings.Cut(row, "│"); strings.TrimSpace(row) != "" { // between the chats and the people
			rows++
		}
	}
	if rows != 6 { // with the day
		t.Errorf("%d rows:\n%s", rows, d.text())
	}
	d.sees("nobody else yet", "/users says why")
	d.show(chat.Peer{User: "bob", State: "online"})
	d.misses("nobody else yet")
	d.show(chat.Ready{User: "me"})
	if strings.Count(d.text(), "/create #lab") != 1 {
		t.Error("the help came twice")
	}
}

// Chats of the last run are there at the start, the first with news in view.
func TestChatsAtStart(t *testing.T) {
	d := newDesk(t, 80, 24)
	ref := ""
	for _, c := range d.did {
		if c.Line == "/chats" {
			ref = c.Ref
		}
	}
	d.show(chat.Notice{Code: "chats", Text: "…", Ref: ref, Data: []chat.Summary{
		{Chat: "#lab", Mode: "fast", Notify: "all"}, {Chat: "@bob", Unread: 2, Mode: "reliable", Notify: "mentions", Muted: true}}})
	if d.last().Line != "/history @bob" {
		t.Errorf("did %+v", d.last())
	}
	d.sees("@bob · reliable · muted", "2 #lab")
	d.misses("…")
	d.answer("history", "", []chat.Past{{ID: "1", At: start, Chat: "@bob", From: "bob", Text: "old", Read: true}, {ID: "2", At: start, Chat: "@bob", From: "bob", Text: "new one"}})
	rows := strings.Split(d.text(), "\n")
	for i, row := range rows {
		if strings.Contains(row, "── new ──") && !strings.Contains(rows[i+1], "new one") {
			t.Errorf("the mark stands in the wrong place:\n%s", d.text())
		}
	}
	d.sees("── new ──")
}

// Lines about people coming and going are as wanted.
func TestPresenceLines(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  int
	}{{"all", 1}, {"spoke", 0}, {"none", 0}} {
		d := newDesk(t, 80, 24)
		d.room("#lab", "bob", "cyd")
		d.set("presence", tt.value)
		d.show(chat.Peer{User: "bob", Device: "1", State: "online"})
		if got := strings.Count(d.text(), "bob is online"); got != tt.want {
			t.Errorf("%s: %d lines", tt.value, got)
		}
		d.hears("#lab", "bob", "hi")
		d.show(chat.Peer{User: "bob", Device: "1", State: "left"})
		want := tt.want
		if tt.value == "spoke" {
			want = 1
		}
		if got := strings.Count(d.text(), "bob left"); got != want {
			t.Errorf("%s: %d lines of who spoke", tt.value, got)
		}
	}
}
