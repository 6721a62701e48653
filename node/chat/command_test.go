package chat_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// What a line does, for bob, who is in #lab with ann and has no chat open but
// where one is given.
func TestCommands(t *testing.T) {
	long := strings.Repeat("x", wire.MaxPacketText+1)
	for _, tt := range []struct {
		name string
		cmd  chat.Command
		code string // of the error or notice; "": none of either
		text string // is in it
		sent string // "#lab reliable: hi"
	}{
		{name: "nothing", cmd: chat.Command{Line: "  \r\n"}},
		{name: "text", cmd: chat.Command{Line: "hi\r\n", Chat: "#lab"}, sent: "#lab reliable: hi"},
		{name: "text in no chat", cmd: chat.Command{Line: "hi"}, code: "bad_argument", text: "no chat is open"},
		{name: "text with a mode", cmd: chat.Command{Line: "hi", Chat: "#lab", Mode: "fast"}, sent: "#lab fast: hi"},
		{name: "two slashes", cmd: chat.Command{Line: "//quit", Chat: "#lab"}, sent: "#lab reliable: /quit"},
		{name: "three slashes", cmd: chat.Command{Line: "///x", Chat: "#lab"}, sent: "#lab reliable: //x"},
		{name: "say", cmd: chat.Command{Say: true, Text: "/quit", Chat: "#lab"}, sent: "#lab reliable: /quit"},
		{name: "say, fast", cmd: chat.Command{Say: true, Text: "hi", Chat: "@ann", Mode: "fast"}, sent: "@ann fast: hi"},
		{name: "say over a line", cmd: chat.Command{Say: true, Text: "hi", Line: "/help", Chat: "@ann"}, sent: "@ann reliable: hi"},
		{name: "say nothing", cmd: chat.Command{Say: true, Text: " \t ", Chat: "#lab"}, code: "bad_argument", text: "nothing to send"},
		{name: "say what nobody sees", cmd: chat.Command{Say: true, Text: "\u200b\u202e", Chat: "#lab"}, code: "bad_argument", text: "nothing to send"},
		{name: "say in a bad mode", cmd: chat.Command{Say: true, Text: "hi", Chat: "#lab", Mode: "quick"}, code: "bad_argument", text: `"quick"`},
		{name: "say in a bad chat", cmd: chat.Command{Say: true, Text: "hi", Chat: "lab"}, code: "bad_argument", text: `#room or @user, not "lab"`},
		{name: "say in no room", cmd: chat.Command{Say: true, Text: "hi", Chat: "#nowhere"}, code: "no_such_room", text: "#nowhere"},
		{name: "say to nobody", cmd: chat.Command{Say: true, Text: "hi", Chat: "@nobody"}, code: "no_such_user", text: "nobody"},
		{name: "say to oneself", cmd: chat.Command{Say: true, Text: "hi", Chat: "@bob"}, code: "bad_argument", text: "that is you"},
		{name: "too long for a room", cmd: chat.Command{Say: true, Text: strings.Repeat("x", wire.MaxLongText+1), Chat: "#lab"}, code: "too_long", text: "at most 65536"},
		{name: "too long and fast for a room", cmd: chat.Command{Say: true, Text: long, Chat: "#lab", Mode: "fast"}, code: "too_long", text: "/mode reliable"},
		{name: "too long and fast", cmd: chat.Command{Say: true, Text: long, Chat: "@ann", Mode: "fast"}, code: "too_long", text: "/mode reliable"},
		{name: "long and direct", cmd: chat.Command{Say: true, Text: long, Chat: "@ann"}, sent: "@ann reliable: " + long},
		{name: "longer than that", cmd: chat.Command{Say: true, Text: strings.Repeat("x", wire.MaxDirectText+1), Chat: "@ann"}, code: "too_long"},
		{name: "as long as may be", cmd: chat.Command{Say: true, Text: long[1:], Chat: "#lab"}, sent: "#lab reliable: " + long[1:]},
		{name: "case of a room", cmd: chat.Command{Say: true, Text: "hi", Chat: "#LAB"}, sent: "#lab reliable: hi"},
		{name: "case of a person", cmd: chat.Command{Say: true, Text: "hi", Chat: "@Ann"}, sent: "@ann reliable: hi"},

		{name: "unknown", cmd: chat.Command{Line: "/frobnicate", Chat: "#lab"}, code: "unknown_command", text: "no command /frobnicate; /help"},
		{name: "a slash", cmd: chat.Command{Line: "/", Chat: "#lab"}, code: "unknown_command"},
		{name: "control characters", cmd: chat.Command{Line: "/\x1b[31mhelp"}, code: "unknown_command", text: "no command /"},
		{name: "near miss", cmd: chat.Command{Line: "/usres"}, code: "unknown_command", text: "did you mean /users?"},
		{name: "near miss of one letter more", cmd: chat.Command{Line: "/joinn #lab"}, code: "unknown_command", text: "did you mean /join?"},
		{name: "prefix", cmd: chat.Command{Line: "/us"}, code: "users", text: "bob  you\nann  online"},
		{name: "capitals", cmd: chat.Command{Line: "/USERS"}, code: "users", text: "ann  online"},
		{name: "prefix of several", cmd: chat.Command{Line: "/m"}, code: "unknown_command", text: "/me, /mode, /msg, /mute"},
		{name: "a whole name that begins others", cmd: chat.Command{Line: "/r hi"}, code: "bad_argument", text: "nobody has written to you"},

		{name: "usage", cmd: chat.Command{Line: "/join"}, code: "bad_argument", text: "usage: /join #room"},
		{name: "usage of the prefix", cmd: chat.Command{Line: "/whoi"}, code: "bad_argument", text: "usage: /whois user"},
		{name: "too many", cmd: chat.Command{Line: "/whois ann bob"}, code: "bad_argument", text: "usage: /whois user"},
		{name: "create what is there", cmd: chat.Command{Line: "/create #lab"}, code: "name_taken"},
		{name: "create no room", cmd: chat.Command{Line: "/create lab"}, code: "bad_argument", text: `"lab" is no room name`},
		{name: "create with a control character", cmd: chat.Command{Line: "/create #la\x1bb"}, code: "bad_argument", text: "is no room name: a room name is #"},
		{name: "create with a look-alike", cmd: chat.Command{Line: "/create #l\u0430b"}, code: "bad_argument", text: "letters a-z, digits"},
		{name: "create in other letters", cmd: chat.Command{Line: "/create #\uff4cab"}, code: "bad_argument", text: "letters a-z, digits"},
		{name: "create too long", cmd: chat.Command{Line: "/create #" + strings.Repeat("x", 33)}, code: "bad_argument", text: "1 to 32 letters"},
		{name: "join with a look-alike", cmd: chat.Command{Line: "/join #l\u0430b"}, code: "bad_argument", text: "letters a-z, digits"},
		{name: "create oddly", cmd: chat.Command{Line: "/create #new --public"}, code: "bad_argument", text: "usage: /create"},
		{name: "msg", cmd: chat.Command{Line: "/msg ann  hi  there "}, sent: "@ann reliable: hi  there"},
		{name: "msg with @", cmd: chat.Command{Line: "/msg @ann hi"}, sent: "@ann reliable: hi"},
		{name: "msg to nobody", cmd: chat.Command{Line: "/msg nobody hi"}, code: "no_such_user"},
		{name: "msg of nothing", cmd: chat.Command{Line: "/msg ann"}, code: "bad_argument", text: "usage: /msg user text"},
		{name: "me", cmd: chat.Command{Line: "/me  waves", Chat: "#lab"}, sent: "#lab reliable* waves"},
		{name: "dm to oneself", cmd: chat.Command{Line: "/dm bob"}, code: "bad_argument", text: "that is you"},
		{name: "dm", cmd: chat.Command{Line: "/dm ann"}, code: "current", text: "@ann"},
		{name: "dm with text", cmd: chat.Command{Line: "/dm ann how are you"}, code: "current", text: "@ann", sent: "@ann reliable: how are you"},
		{name: "mode", cmd: chat.Command{Line: "/mode", Chat: "#lab"}, code: "mode", text: "reliable"},
		{name: "mode, chosen", cmd: chat.Command{Line: "/mode FAST", Chat: "#lab"}, code: "mode", text: "fast"},
		{name: "mode, wrong", cmd: chat.Command{Line: "/mode slow", Chat: "#lab"}, code: "bad_argument", text: `"slow"`},
		{name: "mode of no chat", cmd: chat.Command{Line: "/mode fast"}, code: "bad_argument", text: "no chat is open"},
		{name: "mute", cmd: chat.Command{Line: "/mute", Chat: "#lab"}, code: "muted", text: "#lab is muted; /unmute #lab"},
		{name: "mute for a time", cmd: chat.Command{Line: "/mute 2h", Chat: "#lab"}, code: "muted", text: "for 2h"},
		{name: "mute another chat", cmd: chat.Command{Line: "/mute @ann 30m", Chat: "#lab"}, code: "muted", text: "@ann is muted for 30m"},
		{name: "mute badly", cmd: chat.Command{Line: "/mute soon", Chat: "#lab"}, code: "bad_argument", text: `"soon" is no duration`},
		{name: "mute for a slip", cmd: chat.Command{Line: "/mute 1x", Chat: "#lab"}, code: "bad_argument", text: `"1x" is no duration: write 30m, 2h or 7d`},
		{name: "unmute", cmd: chat.Command{Line: "/unmute @ann"}, code: "unmuted", text: "@ann"},
		{name: "notify", cmd: chat.Command{Line: "/notify mentions", Chat: "#lab"}, code: "notify", text: "mentions"},
		{name: "notify, the present level", cmd: chat.Command{Line: "/notify", Chat: "#lab"}, code: "notify", text: "what rings of #lab: all"},
		{name: "notify badly", cmd: chat.Command{Line: "/notify some", Chat: "#lab"}, code: "bad_argument", text: `"some" is none of all, mentions and none; did you mean none?`},
		{name: "mode badly", cmd: chat.Command{Line: "/mode fats", Chat: "#lab"}, code: "bad_argument", text: `neither reliable nor fast; did you mean fast?`},
		{name: "mute for hours", cmd: chat.Command{Line: "/mute 2hours", Chat: "#lab"}, code: "bad_argument", text: `write 30m, 2h or 7d; did you mean 2h?`},
		{name: "names", cmd: chat.Command{Line: "/names", Chat: "#lab"}, code: "names", text: "ann  admin, online\nbob  member, online"},
		{name: "names of no room", cmd: chat.Command{Line: "/names", Chat: "@ann"}, code: "bad_argument", text: "name a room: /names #room"},
		{name: "whois", cmd: chat.Command{Line: "/whois ann"}, code: "whois", text: "ann (account "},
		{name: "rooms", cmd: chat.Command{Line: "/rooms"}, code: "rooms", text: "#lab  2 members  admin ann  joined"},
		{name: "fingerprint", cmd: chat.Command{Line: "/fingerprint"}, code: "fingerprint", text: "this device "},
		{name: "aliases, none", cmd: chat.Command{Line: "/alias"}, code: "alias", text: "you have no commands of your own"},
		{name: "no such alias", cmd: chat.Command{Line: "/alias hi"}, code: "alias", text: "/hi is no command of your own"},
		{name: "who has nothing", cmd: chat.Command{Line: "/who-got", Chat: "#lab"}, code: "bad_argument", text: "you have sent nothing reliable to #lab"},
		{name: "read", cmd: chat.Command{Line: "/read ANN"}, code: "bad_argument", text: "a chat is #room or @user"},
		{name: "read a chat", cmd: chat.Command{Line: "/read @ann"}, code: "read", text: "everything in @ann is read"},
		{name: "help", cmd: chat.Command{Line: "/help"}, code: "help", text: "/create #room [--private]"},
		{name: "help on one", cmd: chat.Command{Line: "/help /jo"}, code: "help", text: "/join #room\n"},
		{name: "help on none", cmd: chat.Command{Line: "/help xyzzy"}, code: "unknown_command"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, "ann", "bob").room("#lab")
			bob := l.node("bob")
			// What "current" stands for is not the point here.
			bob.do("/dm ann", "/part #lab", "/join #lab", "/create #other", "/part #other")
			l.pass(5 * time.Second)
			l.clear()
			cmd := tt.cmd
			cmd.Ref = "r1"
			bob.core.Do(l.now, cmd)
			l.pass(5 * time.Second)
			var code, text, ref, sent string
			for _, e := range bob.events {
				switch e := e.(type) {
				case chat.Error:
					code, text, ref = e.Code, e.Text, e.Ref
				case chat.Notice:
					code, text, ref = e.Code, e.Text, e.Ref
				case chat.Sent:
					sent, ref = e.Chat+" "+e.Mode+": "+e.Text, e.Ref
					if e.Action {
						sent = e.Chat + " " + e.Mode + "* " + e.Text
					}
				}
			}
			if code != tt.code || !strings.Contains(text, tt.text) || sent != tt.sent {
				t.Errorf("got %q %q, sent %.60q; want %q with %q, sent %.60q", code, text, sent, tt.code, tt.text, tt.sent)
			}
			if len(bob.events) > 0 && ref != "r1" {
				t.Errorf("ref %q on %+v", ref, bob.events)
			}
			if strings.ContainsAny(text, "\x1b") {
				t.Errorf("text %q", text)
			}
			got := slices.Concat(l.node("ann").texts("#lab", "bob"), l.node("ann").texts("@bob", "bob"))
			if (len(got) == 1) != (tt.sent != "") || tt.sent != "" && !strings.HasSuffix(tt.sent, got[0]) {
				t.Errorf("ann sees %.60q", got)
			}
		})
	}
}

func TestQuit(t *testing.T) {
	l := newLAN(t, "ann")
	l.node("ann").core.Do(l.now, chat.Command{Line: "/q"})
	if w := l.node("ann").core.Take(); !w.Quit {
		t.Error("/q does not quit")
	}
}

// What was typed before /quit is answered first.
func TestQuitWaitsForAnswers(t *testing.T) {
	for _, line := range []string{"/users", "/chats", "/rooms", "/net"} {
		t.Run(line, func(t *testing.T) {
			l := newLAN(t, "ann", "bob")
			ann := l.node("ann")
			l.pass(5 * time.Second)
			l.unlink(ann, l.node("bob"))
			ann.core.Do(l.now, chat.Command{Line: line})
			if !ann.core.Busy() && line != "/rooms" { // with nobody to ask these answer at once
				t.Error("nothing is waited for")
			}
			ann.core.Do(l.now, chat.Command{Line: "/quit"})
			l.settle()
			l.pass(time.Second)
			if len(shown[chat.Notice](ann))+len(ann.errors()) == 0 {
				t.Error("there is no answer")
			}
			if ann.core.Busy() {
				t.Error("something is waited for still")
			}
		})
	}
}

// A node that has just started writes to people it has yet to meet, and does
// what is typed behind that after it.
func TestWritesToWhomItHasYetToMeet(t *testing.T) {
	l := newLAN(t, "ann", "bob")
	ann, bob := l.node("ann"), l.node("bob")
	l.unlink(ann, bob)
	ann.start() // knows nobody
	l.clear()
	ann.core.Do(l.now, chat.Command{Line: "/users"})
	ann.core.Do(l.now, chat.Command{Say: true, Chat: "@bob", Text: "one", Ref: "r1"})
	ann.core.Do(l.now, chat.Command{Say: true, Chat: "@bob", Text: "two", Ref: "r2"})
	l.pass(time.Second)
	checkTexts(t, "too early", ann.errors(), nil)
	if !ann.core.Busy() {
		t.Error("nothing is waited for")
	}
	l.link(ann, bob)
	l.pass(time.Second)
	checkTexts(t, "bob", bob.texts("@ann", "ann"), []string{"one", "two"})
	if got := ann.notice("users").Text; got != "ann  you\nbob  online" {
		t.Errorf("/users says %q", got)
	}

	ann.core.Do(l.now, chat.Command{Say: true, Chat: "@nobody", Text: "three", Ref: "r3"})
	l.pass(3 * time.Second)
	checkTexts(t, "nobody turned up", ann.errors(), []string{"no_such_user"})
	ann.core.Do(l.now, chat.Command{Say: true, Chat: "@nobody", Text: "four", Ref: "r4"})
	l.settle()
	checkTexts(t, "long after the start", ann.errors(), []string{"no_such_user", "no_such_user"})
}

func TestQuits(t *testing.T) {
	for line, want := range map[string]bool{"/quit": true, " /q\r\n": true, "/QUI": true, "/quit now": false, "//quit": false, "quit": false, "/": false, "": false} {
		if got := chat.Quits(chat.Command{Line: line}); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
	if chat.Quits(chat.Command{Say: true, Text: "/quit", Line: "/quit"}) {
		t.Error("what is said ends the program")
	}
}

func TestParseDuration(t *testing.T) {
	for _, tt := range []struct {
		s    string
		want time.Duration // 0: refused
	}{
		{"45s", 45 * time.Second}, {"30m", 30 * time.Minute}, {"2h", 2 * time.Hour}, {"7d", 7 * 24 * time.Hour},
		{"36500d", 36500 * 24 * time.Hour},
		{"", 0}, {"5", 0}, {"h", 0}, {"0m", 0}, {"-1h", 0}, {"36501d", 0}, {"1w", 0}, {"1hh", 0}, {"1h30m", 0}, {"1.5h", 0}, {"99999999999999999999d", 0},
	} {
		got, err := chat.ParseDuration(tt.s)
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%q: got %v, %v, want %v", tt.s, got, err, tt.want)
		}
	}
}

// The chosen mode is that of my messages in that chat only, and outlives a
// restart.
func TestMode(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	bob.core.Do(l.now, chat.Command{Line: "/mode fast", Chat: "#lab"})
	l.settle()
	modes := func(want ...string) {
		t.Helper()
		l.clear()
		bob.say("#lab", "", "x")
		bob.say("@ann", "", "x")
		ann.say("#lab", "", "x")
		bob.say("#lab", "reliable", "x")
		var got []string
		for _, s := range slices.Concat(shown[chat.Sent](bob), shown[chat.Sent](ann)) {
			got = append(got, s.Mode)
		}
		checkTexts(t, "modes", got, want)
	}
	modes("fast", "reliable", "reliable", "reliable")
	bob.start()
	l.link(ann, bob)
	modes("fast", "reliable", "reliable", "reliable")
}

// "What would ring; nothing when muted."
func TestNotify(t *testing.T) {
	for _, tt := range []struct {
		command string
		wait    time.Duration
		want    string // for a message, a mention and a direct message
	}{
		{"", 0, "message mention dm"},
		{"/notify mentions", 0, "mention dm"},
		{"/notify none", 0, "dm"},
		{"/mute", 0, "dm"},
		{"/mute 2h", time.Hour, "dm"},
		{"/mute 2h", 2 * time.Hour, "message mention dm"},
	} {
		l := newLAN(t, "ann", "bob").room("#lab")
		ann, bob := l.node("ann"), l.node("bob")
		if tt.command != "" {
			bob.core.Do(l.now, chat.Command{Line: tt.command, Chat: "#lab"})
			l.settle()
		}
		l.pass(tt.wait)
		l.clear()
		ann.say("#lab", "", "bobby, bo b and xbob")
		ann.say("#lab", "", "ask Bob, please")
		ann.say("@bob", "", "psst")
		var got []string
		for _, n := range shown[chat.Notify](bob) {
			got = append(got, n.Why)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s after %v: got %q, want %q", tt.command, tt.wait, got, tt.want)
		}
	}
}

func TestReply(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat")
	l.node("ann").say("@bob", "", "from ann")
	l.node("cat").say("@bob", "", "from cat")
	l.node("bob").do("/r yes")
	checkTexts(t, "cat sees", l.node("cat").texts("@bob", "bob"), []string{"yes"})
	checkTexts(t, "ann sees", l.node("ann").texts("@bob", "bob"), nil)
}

// The table of commands in the README lists what /help lists, spelled the same.
func TestReadmeListsCommands(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "\n## Commands in the chat\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`/.*?`\\)?) \\| ").FindAllStringSubmatch(table, -1) {
		for _, span := range regexp.MustCompile("`(/.*?)`").FindAllStringSubmatch(row[1], -1) {
			listed = append(listed, strings.ReplaceAll(span[1], `\|`, "|"))
		}
	}

	l := newLAN(t, "ann")
	ann := l.node("ann")
	ann.do("/help")
	var help string
	for _, e := range ann.events {
		if n, ok := e.(chat.Notice); ok && n.Code == "help" {
			help = n.Text
		}
	}
	var helped []string
	for line := range strings.Lines(help) {
		if !strings.HasPrefix(line, "/") {
			continue
		}
		usage, says := line[:32], line[32:] // columns
		helped = append(helped, strings.TrimSpace(usage))
		if _, also, ok := strings.Cut(says, "; also "); ok {
			helped = append(helped, strings.TrimSpace(also))
		}
	}
	if len(helped) < len(chat.Usages()) {
		t.Errorf("/help lists %d commands of %d", len(helped), len(chat.Usages()))
	}
	for _, usage := range helped {
		if !slices.Contains(listed, usage) {
			t.Errorf("the README does not list %s", usage)
		}
	}
	for _, usage := range listed {
		if !slices.Contains(helped, usage) {
			t.Errorf("/help does not list %s, which the README does", usage)
		}
	}
}
