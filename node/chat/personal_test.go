package chat_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
)

// answer has the person type a line, and returns what was answered last.
func (n *node) answer(line string) (code, text string, data any) {
	n.l.t.Helper()
	n.events = nil
	n.do(line)
	for _, e := range n.events {
		switch e := e.(type) {
		case chat.Error:
			code, text, data = e.Code, e.Text, nil
		case chat.Notice:
			code, text, data = e.Code, e.Text, e.Data
		}
	}
	return code, text, data
}

func checkAnswer(t *testing.T, n *node, line, code, text string) {
	t.Helper()
	if c, got, _ := n.answer(line); c != code || !strings.Contains(got, text) {
		t.Errorf("%s: got %q %q, want %q with %q", line, c, got, code, text)
	}
}

// Settings have choices and defaults, outlive a restart, and are told to faces
// as data.
func TestSet(t *testing.T) {
	l := newLAN(t, "ann").stored(t)
	ann := l.node("ann")
	value := func(name string) string {
		t.Helper()
		_, _, data := ann.answer("/set")
		for _, s := range data.([]chat.Setting) {
			if s.Name == name {
				return s.Value
			}
		}
		return "none"
	}
	if got := value("theme"); got != "auto" {
		t.Errorf("the theme is %q at first", got)
	}
	checkAnswer(t, ann, "/set theme LIGHT", "set", "theme is light")
	checkAnswer(t, ann, "/set theme pink", "bad_argument", "auto, dark, light, not \"pink\"")
	checkAnswer(t, ann, "/set them", "bad_argument", "no setting \"them\": bell")
	checkAnswer(t, ann, "/set them", "bad_argument", "did you mean theme?")
	checkAnswer(t, ann, "/set theme drak", "bad_argument", "did you mean dark?")
	checkAnswer(t, ann, "/set bell", "set", "bell is on")
	for _, bad := range []string{"31d", "-1d", "week", "off", "721h"} {
		checkAnswer(t, ann, "/set outage_grace "+bad, "bad_argument", "at most 30d, or 0")
	}
	if got := ann.core.OutageGrace(); got != 0 {
		t.Errorf("outage_grace is %v at first", got)
	}
	checkAnswer(t, ann, "/set outage_grace 7D", "set", "outage_grace is 7d")
	ann.start()
	if got := ann.core.OutageGrace(); got != 7*24*time.Hour {
		t.Errorf("outage_grace is %v after a restart", got)
	}
	checkAnswer(t, ann, "/set outage_grace 0", "set", "outage_grace is 0")
	if got := ann.core.OutageGrace(); got != 0 {
		t.Errorf("outage_grace is %v again", got)
	}
	if got := value("theme"); got != "light" {
		t.Errorf("the theme is %q after a restart", got)
	}
}

func TestDND(t *testing.T) {
	at := func(clock string) time.Time {
		c, err := time.Parse("15:04", clock)
		if err != nil {
			t.Fatal(err)
		}
		return time.Date(2030, 5, 6, c.Hour(), c.Minute(), 0, 0, time.UTC)
	}
	for _, tt := range []struct {
		set, begin, now string
		rings           bool
	}{
		{"off", "12:00", "12:00", true},
		{"22:00-07:00", "12:00", "21:59", true},
		{"22:00-07:00", "12:00", "22:00", false},
		{"22:00-7:00", "12:00", "06:59", false},
		{"22:00-07:00", "12:00", "07:00", true},
		{"9:00-17:00", "12:00", "08:59", true},
		{"9:00-17:00", "12:00", "12:00", false},
		{"9:00-17:00", "12:00", "17:00", true},
		{"2h", "12:00", "13:59", false},
		{"2h", "12:00", "14:00", true},
	} {
		l := newLAN(t, "ann", "bob")
		l.now = at(tt.begin)
		ann, bob := l.node("ann"), l.node("bob")
		checkAnswer(t, bob, "/dnd "+tt.set, "dnd", "")
		l.now = at(tt.now)
		ann.say("@bob", "", "psst")
		if got := len(shown[chat.Notify](bob)) == 1; got != tt.rings {
			t.Errorf("%+v: rang: %v", tt, got)
		}
	}
	l := newLAN(t, "ann")
	for _, bad := range []string{"soon", "25:00-07:00", "7:00-7:00", "7-8"} {
		checkAnswer(t, l.node("ann"), "/dnd "+bad, "bad_argument", "/dnd 22:00-07:00")
	}
}

// What somebody ignored writes is kept and neither shown nor rings, in rooms
// and directly, until it is over.
func TestIgnore(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	speak := func() {
		l.clear()
		ann.say("#lab", "", "bob: in the room")
		ann.say("@bob", "", "directly")
		cat.say("#lab", "", "hi")
		l.pass(time.Second)
	}
	checkAnswer(t, bob, "/ignore ann 2h", "ignored", "you ignore ann for 2h")
	checkAnswer(t, bob, "/ignore", "ignored", "you ignore ann")
	for _, restart := range []bool{false, true} {
		if restart {
			bob.start()
			l.link(ann, bob)
			l.link(cat, bob)
			l.pass(5 * time.Second)
		}
		speak()
		if got := len(shown[chat.Message](bob)); got != 1 || len(shown[chat.Notify](bob)) != 1 {
			t.Errorf("bob is shown %d messages and %d alerts, want one of cat", got, len(shown[chat.Notify](bob)))
		}
		if got := len(shown[chat.Receipt](ann)); got == 0 {
			t.Error("ann got no receipt")
		}
	}
	_, _, data := bob.answer("/search directly")
	if got := data.([]chat.Past); len(got) != 2 || got[0].From != "ann" {
		t.Errorf("the history has %+v", got)
	}
	l.pass(2 * time.Hour)
	checkAnswer(t, bob, "/ignore", "ignored", "nobody")
	speak()
	if got := len(shown[chat.Message](bob)); got != 3 {
		t.Errorf("after two hours bob is shown %d messages", got)
	}
	checkAnswer(t, bob, "/ignore ann", "ignored", "/unignore ann")
	checkAnswer(t, bob, "/unignore ann", "unignored", "ann")
	speak()
	if got := len(shown[chat.Message](bob)); got != 3 {
		t.Errorf("unignored, bob is shown %d messages", got)
	}
	checkAnswer(t, bob, "/ignore bob", "bad_argument", "that is you")
	checkAnswer(t, bob, "/ignore ann soon", "bad_argument", "no duration")
}

func TestAlias(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t)
	ann, bob := l.node("ann"), l.node("bob")
	checkAnswer(t, ann, "/alias b /msg bob hey,", "alias", "/b stands for /msg bob hey,")
	ann.do("/B how  are you")
	checkAnswer(t, ann, "/alias b2 /b", "alias", "")
	checkAnswer(t, ann, "/b2 x", "unknown_command", "/b can be /ban, /bans")
	checkTexts(t, "bob sees", bob.texts("@ann", "ann"), []string{"hey, how  are you"})
	checkAnswer(t, ann, "/alias join /msg bob x", "bad_argument", "/join is a command already")
	checkAnswer(t, ann, "/alias B! x", "bad_argument", "letters, digits")
	ann.start()
	checkAnswer(t, ann, "/alias", "alias", "/b stands for /msg bob hey,\n/b2")
	checkAnswer(t, ann, "/unalias b", "alias", "nothing")
	checkAnswer(t, ann, "/unalias b", "bad_argument", "no alias /b")
	ann.do("/alias standup /msg bob done")
	checkAnswer(t, ann, "/stadup", "unknown_command", "did you mean /standup?")
	checkAnswer(t, ann, "/unalias standu", "bad_argument", "did you mean standup?")
	checkAnswer(t, ann, "/help standup", "help", "/standup stands for /msg bob done")
	if _, _, data := ann.answer("/alias"); !reflect.DeepEqual(data, chat.Aliases{"b2", "standup"}) {
		t.Errorf("faces are told of %v", data)
	}
}

// Chats are rooms and people written with, with what is unread; /history goes
// back from a message.
func TestChats(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	summary := func(n *node) (got []string) {
		t.Helper()
		_, _, data := n.answer("/chats")
		for _, s := range data.([]chat.Summary) {
			got = append(got, fmt.Sprint(s.Chat, " ", s.Unread, " ", s.Mode, " ", s.Notify, " ", s.Muted))
		}
		return got
	}
	checkTexts(t, "before", summary(bob), []string{"#lab 0 reliable all false"})
	for i := range 3 {
		ann.say("#lab", "", fmt.Sprint("see http://wiki.lan/", i, " and https://x.lan"))
		ann.say("@bob", "", fmt.Sprint("direct ", i))
	}
	l.pass(time.Second)
	bob.do("/mute @ann")
	checkTexts(t, "then", summary(bob), []string{"#lab 3 reliable all false", "@ann 3 reliable all true"})
	checkTexts(t, "ann's", summary(ann), []string{"#lab 0 reliable all false", "@bob 0 reliable all false"})
	bob.do("/read @ann")
	bob.start()
	checkTexts(t, "read", summary(bob), []string{"#lab 3 reliable all false", "@ann 0 reliable all true"})

	page := func(line string) (texts []string, first string) {
		t.Helper()
		_, _, data := bob.answer(line)
		for _, p := range data.([]chat.Past) {
			texts = append(texts, p.Text)
			first = data.([]chat.Past)[0].ID
		}
		return texts, first
	}
	all, _ := page("/history @ann")
	checkTexts(t, "history", all, []string{"direct 0", "direct 1", "direct 2"})
	_, _, data := bob.answer("/history @ann")
	last := data.([]chat.Past)[2].ID
	before, first := page("/history @ann " + last)
	checkTexts(t, "before the last", before, all[:2])
	none, _ := page("/history @ann " + first)
	checkTexts(t, "before the first", none, nil)
	checkAnswer(t, bob, "/history @ann 12", "bad_argument", "16 hexadecimal digits")

	bob.do("/dm cat")
	bob.core.Do(l.now, chat.Command{Line: "/links", Chat: "#lab"})
	l.settle()
	bob.core.Do(l.now, chat.Command{Line: "/links", Chat: "#lab"})
	bob.events = nil
	l.settle()
	i := slices.IndexFunc(bob.events, func(e chat.Event) bool { return e.Name() == "notice" })
	var urls []string
	for _, f := range bob.events[i].(chat.Notice).Data.([]chat.FoundLink) {
		urls = append(urls, fmt.Sprint(f.N, " ", f.URL, " ", f.From))
	}
	checkTexts(t, "links", urls, []string{"1 http://wiki.lan/2 ann", "2 https://x.lan ann", "3 http://wiki.lan/1 ann", "4 http://wiki.lan/0 ann"})
	checkAnswer(t, bob, "/open 2", "open", "open https://x.lan ?")
	checkAnswer(t, bob, "/open 5", "bad_argument", "from 1 to 4")
	checkAnswer(t, ann, "/open 1", "open", "http://wiki.lan/0") // what ann wrote
	checkAnswer(t, l.node("cat"), "/open 9", "bad_argument", "/links")

	// A link keeps the number that it has where it is shown.
	l.link(ann, bob)
	bob.events = nil
	ann.say("@bob", "", "new http://new.lan, old https://x.lan")
	i = slices.IndexFunc(bob.events, func(e chat.Event) bool { return e.Name() == "message" })
	if got := bob.events[max(i, 0)]; i < 0 || !slices.Equal(got.(chat.Message).Links, []int{5, 2}) {
		t.Errorf("the links of %+v are not 5 and 2", got)
	}
	checkAnswer(t, bob, "/open 5", "open", "open http://new.lan ?")
}

// Both see the same sixty digits; the mark is kept with the name it was earned
// under, and a device that turns up later undoes it, once and with a warning.
func TestVerify(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t)
	ann, bob := l.node("ann"), l.node("bob")
	digits := func(n *node, of string) string {
		t.Helper()
		_, _, data := n.answer("/verify " + of)
		d, _ := data.(map[string]string)
		return d["digits"]
	}
	a, b := digits(ann, "bob"), digits(bob, "ann")
	if a != b || len(strings.ReplaceAll(a, " ", "")) != 60 || strings.Trim(a, "0123456789 ") != "" {
		t.Errorf("ann sees %q, bob %q", a, b)
	}
	if c := digits(ann, "cat"); c == a {
		t.Error("the digits of two people are equal")
	}
	checkAnswer(t, bob, "/whois ann", "whois", "keys not compared: /verify ann")
	checkAnswer(t, bob, "/verify ann yes", "verified", "these are the keys of ann")
	checkAnswer(t, bob, "/whois ann", "whois", "\nkeys compared")
	checkAnswer(t, bob, "/verify ann perhaps", "bad_argument", "usage: /verify user [yes|no]")
	checkAnswer(t, bob, "/verify bob", "bad_argument", "that is you")

	bob.start()
	bob.events = nil
	ann.token.Name, ann.token.NameSeq = "anna", 2
	l.link(ann, bob)
	checkAnswer(t, bob, "/whois anna", "whois", "keys compared with ann, who is called anna now")

	bob.events = nil
	other := l.add("ann2")
	other.token.Name, other.token.NameSeq = "anna", 2
	l.link(other, bob)
	warned := 0
	for _, n := range shown[chat.Notice](bob) {
		if n.Code == "keys_changed" && strings.Contains(n.Text, "anna has another device than those you compared with ann") {
			warned++
		}
	}
	if warned != 1 {
		t.Errorf("%d warnings: %+v", warned, bob.events)
	}
	checkAnswer(t, bob, "/whois anna", "whois", "the keys changed")
	l.unlink(other, bob)
	bob.events = nil
	l.link(other, bob)
	if got := shown[chat.Notice](bob); len(got) != 0 {
		t.Errorf("warned again: %+v", got)
	}
	if now := digits(bob, "anna"); now == b {
		t.Error("the digits did not change with the devices")
	}
	checkAnswer(t, bob, "/verify anna no", "verified", "forgotten")
	checkAnswer(t, bob, "/whois anna", "whois", "not compared")
}
