//go:build linux

package main_test

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"

	"lanchat/testdata/lan/emu"
)

// keyBytes is what a terminal sends for the keys of the full screen, by the names
// that /help gives them and that readline's users know.
var keyBytes = map[string]string{
	"Alt+1": "\x1b1", "Alt+2": "\x1b2", "Alt+3": "\x1b3", "Alt+9": "\x1b9", "Alt+0": "\x1b0", "Alt+A": "\x1ba",
	"Ctrl+N": "\x0e", "Ctrl+P": "\x10", "Alt+Down": "\x1b[1;3B", "Alt+Up": "\x1b[1;3A",
	"PgUp": "\x1b[5~", "PgDn": "\x1b[6~", "Alt+End": "\x1b[1;3F", "Alt+Home": "\x1b[1;3H", "Ctrl+End": "\x1b[1;5F", "Ctrl+Home": "\x1b[1;5H",
	"Tab": "\t", "Enter": "\r", "Esc": "\x1b", "up": "\x1b[A", "down": "\x1b[B", "Left": "\x1b[D", "Right": "\x1b[C",
	"Home": "\x1b[H", "End": "\x1b[F", "Backspace": "\x7f", "Delete": "\x1b[3~", "Alt+Enter": "\x1b\r", "Alt+Backspace": "\x1b\x7f",
	"Alt+B": "\x1bb", "Alt+F": "\x1bf", "Alt+D": "\x1bd", "Ctrl+Left": "\x1b[1;5D", "Ctrl+Right": "\x1b[1;5C", "Alt+Left": "\x1b[1;3D", "Alt+Right": "\x1b[1;3C",
	"Ctrl+A": "\x01", "Ctrl+B": "\x02", "Ctrl+C": "\x03", "Ctrl+D": "\x04", "Ctrl+E": "\x05", "Ctrl+F": "\x06", "Ctrl+G": "\x07", "Ctrl+H": "\x08", "Ctrl+J": "\n",
	"Ctrl+K": "\x0b", "Ctrl+L": "\x0c", "Ctrl+R": "\x12", "Ctrl+T": "\x14", "Ctrl+U": "\x15", "Ctrl+W": "\x17", "Ctrl+Y": "\x19",
	"F1": "\x1bOP", "F7": "\x1b[18~", "F8": "\x1b[19~",
}

// A typist sits at a full screen and keeps account of what was typed and pressed.
type typist struct {
	*person
	commands, keys map[string]bool
}

// key presses keys by their names, parted by spaces.
func (y *typist) key(names string) {
	y.t.Helper()
	for name := range strings.FieldsSeq(names) {
		if keyBytes[name] == "" {
			y.t.Fatalf("there is no key %s", name)
		}
		y.keys[name] = true
		y.press(keyBytes[name])
	}
}

// command types a command and waits for what the screen says to it.
func (y *typist) command(line string, words ...string) {
	y.t.Helper()
	name, _, _ := strings.Cut(line, " ")
	y.commands[name] = true
	y.types(line)
	y.sees(words...)
}

// input waits until the line being typed is so.
func (y *typist) input(want string) {
	y.t.Helper()
	y.until(func(screen string) bool {
		rows := strings.Split(strings.TrimRight(screen, "\n "), "\n")
		return strings.TrimRight(rows[len(rows)-1], " ") == want
	}, "have %q typed", want)
}

// same waits until the screen is as it was.
func (y *typist) same(before string) {
	y.t.Helper()
	y.until(func(screen string) bool { return screen == before }, "see what was there before:\n%s\nbut", before)
}

func (y *typist) screen() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.terminal.String()
}

// resize makes the terminal another size and tells the program.
func (y *typist) resize(width, height int) {
	y.t.Helper()
	y.mu.Lock()
	y.terminal.Resize(width, height)
	y.mu.Unlock()
	if err := pty.Setsize(y.tty, &pty.Winsize{Rows: uint16(height), Cols: uint16(width)}); err != nil {
		y.t.Fatal(err)
	}
	y.cmd.Process.Signal(syscall.SIGWINCH)
}

// received waits until the terminal was sent something.
func (y *typist) received(what string) {
	y.t.Helper()
	y.until(func(string) bool {
		y.mu.Lock()
		defer y.mu.Unlock()
		return strings.Contains(string(y.raw), what)
	}, "receive %q", what)
}

// Every command is typed, every key pressed, at the real program on the emulated
// LAN. /help names them, and one that it names and that was not typed or pressed
// here fails the test.
func TestEverythingTyped(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(4)...)
	a := l.authd("h1", "authd")
	bob, carol := l.newcomer("h2", "bob"), l.newcomer("h4", "carol")
	bob.ready("bob", a)
	carol.ready("carol", a)

	// Programs that a desktop has, which note how they are started.
	if err := os.Mkdir(l.path("bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"xdg-open", "notify-send"} {
		script := "#!/bin/sh\nfor a; do echo \"$a\"; done > " + l.path(program+".new") + " && mv " + l.path(program+".new") + " " + l.path(program) + "\n"
		if err := os.WriteFile(l.path("bin/"+program), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	started := func(program string) func(string) bool {
		return func(string) bool { _, err := os.Stat(l.path(program)); return err == nil }
	}
	p := l.sitWith("h3", "ann", 130, 40, []string{"PATH=" + l.path("bin") + ":" + os.Getenv("PATH"), "TERM_PROGRAM=iTerm.app", "DBUS_SESSION_BUS_ADDRESS=unix:path=" + l.path("nobus")},
		"--register", "--user", "ann", "--password-file", l.pw, "--trust", "first")
	ann := &typist{p, map[string]bool{}, map[string]bool{}}
	ann.sees("you are ann on", "● bob", "● carol")

	// Rooms.
	ann.command("/create #lab", "#lab created; you are the admin")
	bob.line("/join #lab")
	carol.line("/join #lab")
	ann.sees("bob joined #lab", "carol joined #lab", "3 of 3 here")
	ann.command("/rooms", "#lab")
	ann.command("/names", "bob", "member, online")
	ann.command("/topic paper is out", "you set the topic of #lab: paper is out")
	ann.command("/op bob", "you made bob a co-admin of #lab")
	ann.command("/deop bob", "you made bob an ordinary member of #lab")
	ann.command("/promote bob", "co-admin of #lab")
	ann.command("/silence carol 1h", "you silenced carol in #lab")
	ann.command("/unsilence carol", "you let carol speak again in #lab")
	ann.command("/kick carol too loud", "you kicked carol from #lab: too loud")
	ann.command("/ban carol 1h", "you banned carol from #lab")
	ann.command("/bans", "carol")
	ann.command("/unban carol", "you lifted the ban on carol in #lab")
	ann.command("/invite carol", "carol is invited to #lab")
	ann.command("/resolve carol uphold", "!")
	ann.command("/decide 1", "!")
	ann.command("/device bob", "bob")
	ann.command("/refound #nowhere", "no room #nowhere")
	ann.command("/audit", "kicked", "carol")
	ann.command("/clear")
	ann.misses("kicked")
	ann.command("/rename #hall", "you renamed #lab to #hall", "#hall>")
	ann.command("/transfer bob", "you handed #hall over to bob")

	// Messages. Bob says something with a link, twice, and a hundred lines.
	bob.say("#hall", "reliable", "the wiki is [here](http://wiki.lan/a)")
	ann.sees("bob: the wiki is here (http://wiki.lan/a)")
	ann.command("/links", "1 http://wiki.lan/a (bob)")
	ann.command("/open 1", "open http://wiki.lan/a ? y/n")
	ann.press("y")
	ann.until(started("xdg-open"), "start the opener")
	if got, _ := os.ReadFile(l.path("xdg-open")); string(got) != "http://wiki.lan/a\n" {
		t.Errorf("the opener was started with %q", got)
	}
	ann.types("teh first")
	ann.sees("you: teh first ✓")
	ann.command("/who-got", "bob")
	ann.command("/edit the first", "you (edited): the first", "edited, was: teh first")
	ann.command("/quote 1 indeed", "indeed", "(on ")
	ann.command("/delete", "deleted: indeed")
	ann.command("/me waves", "* ann waves")
	ann.command("/search wiki", "the wiki is [here]")
	ann.command("/history", "the first (edited)")
	ann.command("/export "+l.path("hall.json"), "hall.json")
	ann.command("/msg bob psst", "sent to @bob: psst")
	ann.command("/dm bob", "@bob>", "you: psst")
	bob.say("@ann", "reliable", "what?")
	ann.sees("bob: what?")
	ann.command("/r nothing", "you: nothing ✓")
	ann.command("/chats", "unread  reliable  rings: all")
	ann.command("/read #hall", "everything in #hall is read")
	ann.command("/forget @bob", "forgot")

	// How, and how loud.
	ann.key("Alt+2")
	ann.sees("#hall>")
	ann.command("/clear")
	ann.command("/mode", "round trip")
	ann.command("/mode fast", "are fast", "#hall · fast")
	ann.command("/mute 2h", "#hall is muted for 2h", "· muted")
	ann.command("/unmute", "#hall rings again")
	ann.command("/notify mentions", "what rings of #hall: mentions")
	ann.command("/dnd 22:00-07:00", "do not disturb: 22:00-07:00")
	ann.command("/dnd off", "at all hours")
	ann.command("/ignore bob 2h", "you ignore bob for 2h")
	ann.command("/unignore bob", "you see what bob writes again")
	ann.command("/set theme light", "theme is light")
	ann.command("/alias hi /me says hi", "/hi stands for /me says hi")
	ann.types("/hi")
	ann.sees("* ~ann says hi")
	ann.command("/unalias hi", "stands for nothing")

	// People, the account, the network.
	ann.command("/clear")
	ann.command("/users", "carol  online")
	ann.command("/whois bob", "bob (account ")
	ann.command("/verify bob", "bob")
	ann.command("/fingerprint", "this device ")
	ann.command("/sessions", "this")
	ann.command("/net", "eth0", "by multicast")
	ann.command("/ping bob", "bob answers after")
	ann.command("/nick anna", "you are now called anna (before: ann)")
	ann.command("/passwd", "present password")
	ann.press(password + "\r")
	ann.sees("new password")
	ann.press("short")
	ann.sees("[")
	ann.key("Esc")
	ann.sees("your password stays as it is")
	ann.command("/help verify", "/verify user [yes|no]")
	ann.types("/vrify bob")
	ann.sees("did you mean /verify?")
	ann.types("/join")
	ann.sees("usage: /join #room")

	// The line being typed.
	const prompt = "#hall> "
	for _, row := range []struct{ text, keys, want string }{
		{"hello world", "", "hello world"},
		{"", "Ctrl+A", "hello world"},
		{"X", "", "Xhello world"},
		{"", "Ctrl+E", "Xhello world"},
		{"Y", "Alt+B", "Xhello worldY"},
		{"Z", "", "Xhello ZworldY"},
		{"", "Ctrl+W", "Xhello worldY"},
		{"", "Ctrl+Y", "Xhello ZworldY"},
		{"", "Ctrl+K", "Xhello Z"},
		{"", "Ctrl+Y", "Xhello ZworldY"},
		{"", "Home Delete", "hello ZworldY"},
		{"", "Alt+F Right Alt+D", "hello "},
		{"", "Ctrl+Y Backspace", "hello Zworld"},
		{"", "Ctrl+H Left Left Ctrl+D", "hello Zwol"},
		{"", "Ctrl+T", "hello Zwlo"},
		{"", "Ctrl+B Ctrl+B Ctrl+D", "hello Zwo"},
		{"", "Ctrl+Left Ctrl+Right Alt+Left Alt+Right Alt+Backspace", "hello"},
		{"", "End Ctrl+U", ""},
		{"", "Ctrl+Y", "hello"},
		{"", "Ctrl+C", ""},
		{"", "up", "/join"},
		{"", "up", "/vrify bob"},
		{"", "down down", ""},
		{"/noti", "Tab", "/notify"},
		{"no", "Tab", "/notify none"},
		{"", "Ctrl+U", ""},
		{"bo", "Tab", "bob:"},
		{"", "Ctrl+U Ctrl+R", ""},
	} {
		ann.press(row.text)
		ann.key(row.keys)
		ann.input(strings.TrimRight(prompt+row.want, " "))
	}
	ann.press("topic")
	ann.sees("search what you typed: topic", "#hall> /topic paper is out")
	ann.key("Ctrl+R Ctrl+G")
	ann.misses("search what you typed")
	ann.key("Ctrl+U")
	ann.press("two")
	ann.key("Alt+Enter")
	ann.press("rows")
	ann.key("Ctrl+J")
	ann.press("and three")
	ann.sees("#hall> two", "and three")
	ann.key("Ctrl+C")
	ann.misses("and three")

	// What is pasted is asked about, above a few lines; nothing of it runs.
	ann.press("\x1b[200~/quit\r\x1b[201~")
	ann.input(prompt + "/quit")
	ann.key("Ctrl+U")
	ann.press("\x1b[200~one\rtwo\rthree\rfour\rfive\r\x1b[201~")
	ann.sees("paste 5 lines")
	ann.press("y")
	ann.sees("#hall> one", "five")
	ann.key("Enter")
	bob.want("message", "chat", "#hall", "text", "one\ntwo\nthree\nfour\nfive")

	// Chats, and back and forth in one.
	for range 40 {
		bob.object("cmd", "say", "chat", "#hall", "text", "line of bob")
	}
	bob.say("#hall", "reliable", "last of bob")
	ann.sees("last of bob")
	bob.want("receipt", "chat", "#hall", "got", 1, "of", 1)
	ann.key("Ctrl+L")
	ann.sees("last of bob")
	rest := ann.screen()
	for _, row := range []struct{ there, sees, misses, back string }{
		{"PgUp", "rows further down", "last of bob", "PgDn"},
		{"PgUp PgUp", "rows further down", "last of bob", "Alt+End"},
		{"Alt+Home", "rows further down", "last of bob", "Ctrl+End"},
		{"Ctrl+Home", "rows further down", "last of bob", "Alt+End"},
		{"F7", "last of bob", "1 lanchat", "F7"},
		{"F8", "last of bob", "● bob", "F8"},
		{"Alt+1", "you are anna on", "last of bob", "Alt+2"},
		{"Alt+3", "@bob>", "last of bob", "Ctrl+P"},
		{"Ctrl+N", "@bob>", "last of bob", "Alt+A"}, // back to where one was
		{"Alt+Down", "@bob>", "last of bob", "Alt+Up"},
		{"Ctrl+F", "find in this chat", "nothing", "Esc"},
		{"Alt+9", "last of bob", "nothing", "Alt+0"}, // there are no such chats
	} {
		ann.key(row.there)
		ann.sees(row.sees)
		ann.misses(row.misses)
		ann.key(row.back)
		ann.same(rest)
	}
	ann.key("Ctrl+F")
	ann.press("wiki")
	ann.key("Enter")
	ann.sees("found in what bob wrote", "the wiki is here")
	ann.key("Esc") // alone: with another key behind it, it would be Alt
	ann.misses("find in this chat")
	ann.key("Alt+End")
	ann.same(rest)
	ann.press("\x1b[<64;40;10M") // the wheel, up
	ann.sees("rows further down")
	ann.press("\x1b[<65;40;10M")
	ann.same(rest)
	ann.press("\x1b[<0;5;4M\x1b[<0;5;4m") // a click on the third chat
	ann.sees("@bob>")
	ann.press("\x1b[<0;5;3M\x1b[<0;5;3m")
	ann.same(rest)
	ann.press("\x1b[<0;115;2M\x1b[<0;115;2m") // a click on the first member
	ann.input(prompt + "bob:")
	ann.key("Ctrl+U")
	for _, size := range [][2]int{{60, 12}, {20, 5}, {130, 40}} {
		ann.resize(size[0], size[1])
		if size[0] > 20 {
			ann.sees("last of bob")
		}
	}
	ann.same(rest)

	// Elsewhere: the terminal is asked to notify, then the desktop's service.
	ann.press("\x1b[O")
	bob.say("@anna", "reliable", "are you there?")
	ann.received("\x1b]9;lanchat: @bob: bob: are you there?\x1b\\")
	ann.received("(1!) lanchat")
	ann.sees("new (Alt+A): 3:@bob 1!")
	ann.command("/set content hide", "content is hide")
	ann.command("/set desktop service", "desktop is service")
	bob.say("@anna", "reliable", "secret")
	ann.until(started("notify-send"), "ask notify-send")
	if got, _ := os.ReadFile(l.path("notify-send")); !strings.HasPrefix(string(got), "lanchat: @bob\nbob wrote\n") {
		t.Errorf("notify-send was started with %q", got)
	}
	ann.press("\x1b[I")
	ann.key("Alt+A")
	ann.sees("@bob>", "── new ──", "are you there?", "secret")
	ann.command("/join #other", "!")
	carol.line("/create #other")
	carol.want("room", "chat", "#other", "cause", "created")
	ann.command("/join #other", "you joined #other")
	ann.command("/part", "you left #other")

	// What /help names was all here.
	bob.line("/help")
	for _, line := range strings.Split(bob.want("notice", "code", "help").text("text"), "\n") {
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "/") && !ann.commands[name] && name != "/quit" && name != "/help" {
			t.Errorf("%s was not typed", name)
		}
	}
	ann.resize(130, 90)
	ann.key("F1")
	ann.sees("keys: ", "/whois user")
	_, help, _ := strings.Cut(ann.screen(), "keys: ")
	help, _, _ = strings.Cut(help, "behind your messages")
	named := regexp.MustCompile(`(?:Ctrl|Alt)\+[A-Za-z0-9]+|F\d+|PgUp|PgDn|Tab|Esc|\bup\b|\bdown\b`).FindAllString(help, -1)
	if len(named) < 15 {
		t.Errorf("/help names the keys %q only", named)
	}
	for _, name := range named {
		if !ann.keys[name] {
			t.Errorf("%s was not pressed", name)
		}
	}
	for name := range keyBytes {
		if !ann.keys[name] {
			t.Errorf("%s was not pressed", name)
		}
	}
	ann.key("Alt+3")
	ann.sees("@bob>")
	ann.key("Esc")                                         // never ends the program
	for _, text := range []string{"one", "two", "three"} { // it is known to be no Alt once these were drawn, one after the other
		bob.say("@anna", "reliable", "after Esc, "+text)
		ann.sees("after Esc, " + text)
	}

	// The end: Ctrl+C asks; what is typed goes on; /quit.
	ann.key("Ctrl+C")
	ann.sees("press Ctrl+C once more")
	ann.press("/quit")
	ann.misses("press Ctrl+C once more")
	ann.key("Enter")
	<-ann.done
	if code := ann.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("/quit exits %d", code)
	}
	bob.want("peer", "user", "anna", "state", "left", "cause", "goodbye")
}
