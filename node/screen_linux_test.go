//go:build linux

package main_test

import (
	"cmp"
	"context"
	"fmt"
	"html"
	"image/color"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"

	"lanchat/testdata/lan/emu"
)

// A person sits at a terminal: types, and sees the screen as a terminal shows
// what the program wrote.
type person struct {
	t    *testing.T
	name string
	tty  *os.File // the terminal's side of the line
	cmd  *emu.Cmd
	done chan struct{}

	mu       sync.Mutex
	changed  chan struct{}
	terminal *vt.Emulator
	raw      []byte // all that was received
}

// sit starts a node with the full screen in a host.
func (l *lan) sit(host, name string, width, height int, args ...string) *person {
	l.t.Helper()
	return l.sitWith(host, name, width, height, nil, args...)
}

// sitWith does so with more in the environment.
func (l *lan) sitWith(host, name string, width, height int, env []string, args ...string) *person {
	l.t.Helper()
	p := &person{t: l.t, name: name, done: make(chan struct{}), changed: make(chan struct{}), terminal: vt.NewEmulator(width, height)}
	p.cmd = l.command(context.Background(), host, "node", append([]string{"--data", l.path(name)}, args...)...)
	p.cmd.Env = append(p.cmd.Env, "TERM=xterm-256color", "COLORTERM=truecolor")
	p.cmd.Env = append(p.cmd.Env, env...)
	tty, line, err := pty.Open()
	if err != nil {
		l.t.Fatalf("opening a pseudo-terminal: %v", err)
	}
	if err := pty.Setsize(tty, &pty.Winsize{Rows: uint16(height), Cols: uint16(width)}); err != nil {
		l.t.Fatal(err)
	}
	p.tty = tty
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = line, line, line
	if err := p.cmd.Start(); err != nil {
		l.t.Fatalf("starting %s: %v", name, err)
	}
	line.Close()
	go io.Copy(tty, p.terminal) // what a terminal answers when it is asked
	go func() {
		defer close(p.done)
		var buf [4096]byte
		for {
			n, err := tty.Read(buf[:])
			p.mu.Lock()
			p.raw = append(p.raw, buf[:n]...)
			p.terminal.Write(buf[:n])
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
			if err != nil {
				p.cmd.Wait()
				return
			}
		}
	}()
	l.t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		tty.Close()
		clean(l.t, name, string(p.raw))
		if l.t.Failed() {
			l.t.Logf("%s sees:\n%s", name, p.terminal.String())
		}
	})
	return p
}

// sees waits until the screen has all the words.
func (p *person) sees(words ...string) {
	p.t.Helper()
	p.until(func(screen string) bool {
		for _, w := range words {
			if !strings.Contains(screen, w) {
				return false
			}
		}
		return true
	}, "see %q", words)
}

// misses waits until the screen has none of the words.
func (p *person) misses(words ...string) {
	p.t.Helper()
	p.until(func(screen string) bool {
		for _, w := range words {
			if strings.Contains(screen, w) {
				return false
			}
		}
		return true
	}, "no longer see %q", words)
}

func (p *person) until(ready func(screen string) bool, format string, args ...any) {
	p.t.Helper()
	late := time.After(patience)
	again := time.NewTicker(100 * time.Millisecond) // not all that is waited for changes the screen
	defer again.Stop()
	for {
		p.mu.Lock()
		screen, changed := p.terminal.String(), p.changed
		p.mu.Unlock()
		if ready(screen) {
			return
		}
		select {
		case <-changed:
		case <-again.C:
		case <-late:
			p.t.Fatalf(p.name+" does not "+format+":\n%s", append(args, screen)...)
		}
	}
}

// press sends keys as a terminal does.
func (p *person) press(keys string) {
	p.t.Helper()
	if _, err := io.WriteString(p.tty, keys); err != nil {
		p.t.Fatal(err)
	}
}

// types types a line and Enter. It waits for the text to be on the screen: what
// comes with Enter in one piece would not be typing.
func (p *person) types(text string) {
	p.t.Helper()
	p.press(text)
	p.sees(text)
	p.press("\r")
}

// svg draws the screen as a picture.
func (p *person) svg() string {
	const w, h = 8, 17 // of a cell
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.terminal
	hex := func(c color.Color, fallback string) string {
		if c == nil {
			return fallback
		}
		r, g, b, _ := c.RGBA()
		return fmt.Sprintf("#%02x%02x%02x", r>>8, g>>8, b>>8)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="monospace" font-size="13">`, e.Width()*w+16, e.Height()*h+16)
	fmt.Fprintf(&b, "\n<rect width=\"100%%\" height=\"100%%\" rx=\"6\" fill=\"#15181e\"/>\n")
	for y := range e.Height() {
		for x := 0; x < e.Width(); {
			first := e.CellAt(x, y)
			text, from := "", x
			for x < e.Width() { // a run of one style
				c := e.CellAt(x, y)
				if !c.Style.Equal(&first.Style) {
					break
				}
				text += cmp.Or(c.Content, " ")
				x += max(c.Width, 1)
			}
			if first.Style.Bg != nil {
				fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, 8+from*w, 8+y*h, (x-from)*w, h, hex(first.Style.Bg, ""))
			}
			if strings.TrimSpace(text) == "" {
				continue
			}
			look := ""
			if first.Style.Attrs&uv.AttrBold != 0 {
				look += ` font-weight="bold"`
			}
			if first.Style.Attrs&uv.AttrItalic != 0 {
				look += ` font-style="italic"`
			}
			if first.Style.Underline != 0 {
				look += ` text-decoration="underline"`
			}
			fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s" xml:space="preserve" textLength="%d"%s>%s</text>`+"\n",
				8+from*w, 8+y*h+13, hex(first.Style.Fg, "#d7dae0"), (x-from)*w, look, html.EscapeString(text))
		}
	}
	return b.String() + "</svg>\n"
}

// A newcomer's first day, with nothing but what the screen says: from the first
// question to a room, a direct message, a mute, a link, a search; and back the
// next day without a password.
func TestScreen(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(3)...)
	a := l.authd("h1", "authd")
	bob := l.newcomer("h2", "bob")
	bob.ready("bob", a)

	ann := l.sit("h3", "ann", 120, 30)
	ann.sees("Trust it?")
	ann.press("y\r")
	ann.sees("Your user name:")
	ann.press("ann\r")
	ann.sees("new account?")
	ann.press("y\r")
	ann.sees("New password:")
	ann.press(password + "\r")
	ann.sees("once more:")
	ann.press(password + "\r")
	ann.sees("you are ann on", "/create #lab makes a room", "/help lists everything", "● bob")

	ann.types("/create #lab")
	ann.sees("#lab created; you are the admin", "#lab>")
	bob.line("/join #lab")
	ann.sees("bob joined #lab", "2 of 2 here")
	ann.types("the **printer** works")
	bob.want("message", "chat", "#lab", "from", "ann", "text", "the **printer** works")
	ann.sees("you: the printer works ✓")
	bob.say("#lab", "reliable", "ann: see http://wiki.lan/printer")
	ann.sees("!bob: ann: see http://wiki.lan/printer")
	ann.types("/msg bob coffee?")
	bob.want("message", "chat", "@ann", "from", "ann", "text", "coffee?")
	ann.sees("sent to @bob: coffee?")
	bob.say("@ann", "fast", "in five minutes")
	ann.sees("new (Alt+A): 3:@bob 1!")
	ann.press("\x1ba")
	ann.sees("@bob>", "~bob: in five minutes")
	ann.press("\x1b2")
	ann.sees("#lab>")
	ann.types("/mute 2h")
	ann.sees("#lab is muted for 2h", "· muted ·")
	ann.types("/links")
	ann.sees("1 http://wiki.lan/printer (bob)")
	ann.types("/open 1")
	ann.sees("open http://wiki.lan/printer ? y/n")
	ann.press("n")
	ann.misses("y/n")
	ann.types("/search coffee")
	ann.sees("@bob  ann  coffee?")
	ann.types("/fro")
	ann.sees("there is no command /fro")
	ann.press("\x1bOP") // F1
	ann.sees("Ctrl+R", "/verify user")

	if path := os.Getenv("LANCHAT_PICTURE"); path != "" {
		ann.types("/clear")
		ann.misses("/verify")
		ann.press("\x1b1\x1b2")
		bob.say("#lab", "reliable", "the *second* one too, since `lpd` runs again:\n> have you tried turning it off?\nsee [the wiki](http://wiki.lan/printer)")
		bob.say("@ann", "reliable", "coffee is ready")
		ann.sees("lpd", "new (Alt+A): 3:@bob")
		ann.types("hooray!")
		ann.sees("hooray! ✓")
		if err := os.WriteFile(path, []byte(ann.svg()), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	// A paste, the mouse, another size, and what is typed stays.
	ann.press("\x1b[200~one\rtwo\rthree\rfour\rfive\rsix\x1b[201~")
	ann.sees("paste 6 lines")
	ann.press("n")
	ann.misses("paste 6 lines")
	ann.press("draft")
	ann.press("\x1b[<0;5;4M\x1b[<0;5;4m") // a click on the third chat
	ann.sees("@bob>")
	ann.press("\x1b2")
	ann.sees("#lab> draft")
	ann.press("\x15")
	ann.misses("draft")

	// authd goes; the chat goes on, and says what is missing.
	a.signal(os.Interrupt)
	ann.sees("authd away since")
	ann.types("still here?")
	bob.want("message", "chat", "#lab", "from", "ann", "text", "still here?")

	ann.press("\x03")
	ann.sees("press Ctrl+C once more")
	ann.press("\x03")
	<-ann.done
	if code := ann.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("Ctrl+C twice exits %d", code)
	}
	if got := string(ann.raw); !strings.Contains(got, "\x1b[?1049l") || !strings.Contains(got, "\x1b[?2004l") {
		t.Error("the terminal was not given back")
	}
	bob.want("peer", "user", "ann", "state", "left")
	bob.say("@ann", "reliable", "while you were away")

	// A terminal of sixteen colours is sent no others.
	again := l.sitWith("h3", "ann", 80, 24, []string{"TERM=xterm", "COLORTERM="})
	again.sees("3 @bob", "1!") // and no more: all the others were looked at
	again.press("\x1ba")
	again.sees("@bob>", "── new ──", "while you were away")
	again.press("\x1b2")
	again.sees("still here?", "the printer works")
	sgr := regexp.MustCompile("\x1b\\[(?:[0-9;]*;)?(?:[349][0-7]|10[0-7]|[34]8[;:][0-9;:]*)m")
	end := func(p *person) (colours []string) {
		p.press("\x03\x03")
		<-p.done
		return sgr.FindAllString(string(p.raw), -1)
	}
	if got := end(again); len(got) == 0 || strings.Contains(strings.Join(got, ""), "8;") {
		t.Errorf("a terminal of 16 colours was sent %q", got)
	}
	// None is sent where the person wants none, unless asked for all the same.
	for _, row := range []struct {
		env  string
		args []string
		want bool
	}{{"NO_COLOR=1", nil, false}, {"NO_COLOR=", []string{"--color", "never"}, false}, {"NO_COLOR=1", []string{"--color", "always"}, true}} {
		p := l.sitWith("h3", "ann", 80, 24, []string{row.env}, row.args...)
		p.sees("ann@", "#lab")
		if got := end(p); len(got) > 0 != row.want {
			t.Errorf("%s %q: was sent the colours %q, want any: %v", row.env, row.args, got, row.want)
		}
	}
}

// What a terminal really receives has no escape
// sequence but the program's own, whatever others write; checked on the bytes.
func TestScreenHostile(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	a := l.authd("h1", "authd")
	eve := l.newcomer("h1", "eve")
	eve.ready("eve", a)
	eve.line("/create #lab")
	eve.want("room", "chat", "#lab")
	ann := l.sit("h2", "ann", 100, 40, "--register", "--user", "ann", "--password-file", l.pw, "--trust", "first")
	ann.sees("you are ann on")
	ann.types("/join #lab")
	ann.sees("you joined #lab")
	texts := []string{
		"\x1b[2J\x1b[H", "\x1b]0;owned\x07", "\x1b]52;c;ZXZpbA==\x07", "\x1b]8;;http://evil.org\x1b\\good\x1b]8;;\x1b\\", "\x1bP1$r0m\x1b\\", "\x1b[?1049l", "\x1bc",
		"\u009b31m", "\u009d0;t\u009c", "\u202eevil\u202c", "\u2066x\u2069", "\u200b\ufeff\u2060", "\U000e0041", "Z" + strings.Repeat("\u0301", 40),
		"a\r99:99 root: obey", "a\n99:99 root: obey", "<red>ADMIN</> <fg=white;bg=red>NOTICE</>", "**\x1b[31m**", "```\n\x1b[31m\n```", "[x](http://evil.org/\x1b[31m)", "http://a@evil.org", "\a\a\a", "\x0e\x0f",
	}
	for i, text := range texts {
		eve.object("cmd", "say", "chat", "#lab", "text", text+" end", "mode", []string{"reliable", "fast"}[i%2])
	}
	eve.object("cmd", "do", "chat", "#lab", "line", "/topic \x1b[31m\u202etopic")
	eve.say("#lab", "reliable", "that is all")
	ann.sees("that is all", "<red>ADMIN</>")
	ann.mu.Lock()
	screen := ann.terminal.String()
	ann.mu.Unlock()
	for line := range strings.SplitSeq(screen, "\n") {
		if _, row, _ := strings.Cut(line, "│"); strings.HasPrefix(row, "99:99") {
			t.Errorf("a line was faked: %q", line)
		}
	}
	ann.press("\x1b[5~\x1b[5~")
	ann.press("\x1b[1;3F")
	ann.press("\x03\x03")
	<-ann.done

	// The program's own: SGR, cursor, erasing, scrolling, modes, queries, the
	// title, links; each in the one spelling that Bubble Tea and the theme write.
	own := regexp.MustCompile("\x1b\\[[0-9;:]*[mABCDEFGHJKLMPSTXZ@bdefghr`]|\x1b\\[[?>=<]?[0-9;]*(?:\\$p|[hlucqntW]|\\$y| q)|\x1b\\[[<>=][0-9;]*[um]|" +
		"\x1b\\](?:0|2);\\(?[ -~]*\x07|\x1b\\]1[012];?\\??(?:\x07|\x1b\\\\)|\x1b\\]11[0-9](?:\x07|\x1b\\\\)|\x1b\\]8;(?:id=[0-9a-f]+)?;(?:https?://[!-~]*)?(?:\x07|\x1b\\\\)|\x1b[M78=>]|\x1bP\\+q[0-9A-Fa-f;]*\x1b\\\\")
	rest := own.ReplaceAllString(string(ann.raw), "")
	for i, r := range rest {
		switch {
		case r == '\n', r == '\r', r == '\b', r == '\t':
			continue
		case r < 0x20, r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200b, r == 0xfeff, r == 0x2060, r >= 0xe0000 && r < 0xe0080:
			t.Fatalf("the terminal received %U: %q", r, rest[max(0, i-60):min(len(rest), i+40)])
		}
	}
	for _, bad := range []string{"]52;", "0;owned", ";http://evil.org\x1b\\good", "\x1bc", "\x1b[31m", "[2J\x1b[H end"} {
		if strings.Contains(string(ann.raw), bad) && strings.Contains(string(ann.raw), "\x1b"+strings.TrimPrefix(bad, "\x1b")) {
			t.Errorf("the terminal received %q", bad)
		}
	}
}
