package screen

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"lanchat/node/chat"
	"lanchat/node/ui/theme"
	"lanchat/node/ui/view"
	"lanchat/wire/clean"
)

var update = flag.Bool("update", false, "rewrite the golden screens")

var start = time.Date(2030, 5, 6, 14, 2, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	flag.Parse()
	theme.Set(true)
	os.Exit(m.Run())
}

// A desk is a screen with somebody at it, and a clock.
type desk struct {
	*Screen
	t   testing.TB
	now time.Time
	did []chat.Command
	raw string
	w   Work // the rest of what was wanted last
}

func newDesk(t testing.TB, width, height int) *desk {
	d := &desk{Screen: New(Config{Commands: []string{"help", "join", "msg", "mute", "unmute"}, Notifier: view.NotifierOf(func(k string) string {
		if k == "TERM" {
			return "foot"
		}
		return ""
	})}), t: t, now: start}
	d.Resize(width, height)
	d.take()
	d.show(chat.Ready{User: "me", Realm: "workshop", Fingerprint: "ABCD-EFGH"})
	return d
}

func (d *desk) take() {
	d.w = d.Take()
	d.did = append(d.did, d.w.Commands...)
	d.raw += d.w.Raw
	for _, a := range d.w.Alerts {
		d.raw += "(" + a.Title + "|" + a.Text + ")"
	}
}

func (d *desk) show(events ...chat.Event) {
	var items []Item
	for _, e := range events {
		items = append(items, Item{d.now, e})
	}
	d.Show(d.now, items, 0)
	d.take()
}

// press presses keys, named as terminals' libraries have them.
func (d *desk) press(keys ...string) {
	for _, k := range keys {
		text := ""
		if len(signsOf(k)) == 1 {
			text = k
		}
		d.Key(d.now, k, text)
		d.take()
	}
}

// types types a text, and Enter.
func (d *desk) types(text string) {
	d.press(signsOf(text)...)
	d.press("enter")
}

func (d *desk) pass(by time.Duration) {
	d.now = d.now.Add(by)
	d.Advance(d.now)
	d.take()
}

// text returns the picture without its colours.
func (d *desk) text() string { return ansi.Strip(d.View().Content) }

func (d *desk) sees(words ...string) {
	d.t.Helper()
	for _, w := range words {
		if !strings.Contains(d.text(), w) {
			d.t.Errorf("%q is not on the screen:\n%s", w, d.text())
		}
	}
}

func (d *desk) misses(words ...string) {
	d.t.Helper()
	for _, w := range words {
		if strings.Contains(d.text(), w) {
			d.t.Errorf("%q is on the screen:\n%s", w, d.text())
		}
	}
}

// last returns the last command, without its ref.
func (d *desk) last() chat.Command {
	d.t.Helper()
	if len(d.did) == 0 {
		d.t.Fatal("nothing was done")
	}
	c := d.did[len(d.did)-1]
	c.Ref = ""
	return c
}

func (d *desk) ref() string { return d.did[len(d.did)-1].Ref }

// answer answers the last command.
func (d *desk) answer(code, text string, data any) {
	d.show(chat.Notice{Code: code, Text: text, Data: data, Ref: d.ref()})
}

// room puts one into a room with some people.
func (d *desk) room(name string, members ...string) {
	d.show(chat.Room{Chat: name, Members: append([]string{"me"}, members...), Admins: []string{"me"}, Cause: "created", By: "me"})
}

func (d *desk) hears(in, from, text string) {
	d.t.Helper()
	d.show(chat.Message{ID: fmt.Sprintf("%016x", len(text)), Chat: in, From: from, Text: text, Mode: "reliable"})
}

// afternoon shows a bit of everything.
func afternoon(d *desk) {
	d.show(chat.Peer{User: "bob", Device: "1", State: "online", Via: []string{"multicast", "quic"}}, chat.Authd{State: "up", Addr: "10.0.0.1:4747"})
	d.room("#lab", "bob", "anna", "cyd")
	d.show(chat.Renamed{Old: "ann", New: "anna"}, chat.Peer{User: "anna", Device: "2", State: "away"})
	d.show(chat.Room{Chat: "#lab", Members: []string{"me", "bob", "anna", "cyd"}, Admins: []string{"me", "bob"}, Topic: "the **printer**", Cause: "topic", By: "bob"})
	d.show(chat.Room{Chat: "#ops", Members: []string{"me", "cyd"}, Admins: []string{"cyd"}, Private: true, Cause: "restored"})
	d.hears("#lab", "bob", "the **printer** works `again`, see [the wiki](http://wiki.lan/printer) or <red>ask</>")
	d.hears("#lab", "anna", "a\n> quote\n```\ncode {\n  x\n}\n```\nand 你好 👩\u200d👧 Z\u0301")
	d.types("hooray")
	d.show(chat.Sent{ID: "a1", Chat: "#lab", Mode: "reliable", Ref: d.ref(), Online: 2, Text: "hooray"}, chat.Receipt{ID: "a1", Chat: "#lab", By: "bob", Got: 1, Of: 3})
	d.types("/frob")
	d.show(chat.Error{Code: "unknown_command", Text: "there is no command /frob; /help lists them", Ref: d.ref()})
	d.show(chat.Gap{Chat: "#lab", From: "cyd", Missing: 2})
	d.hears("#ops", "cyd", "me: are you there?")
	d.hears("@bob", "bob", "coffee?")
	d.pass(time.Minute)
	d.show(chat.Authd{State: "down", Addr: "10.0.0.1:4747"})
	d.press("t", "y", "p", "e", "d")
}

// The screens people see, at three sizes and in both themes. A diff of a
// golden file is looked at as a picture is: cat it.
func TestGolden(t *testing.T) {
	for _, size := range []struct{ w, h int }{{120, 30}, {80, 24}, {40, 12}} {
		for _, dark := range []bool{true, false} {
			name := fmt.Sprintf("%dx%d-%s.golden", size.w, size.h, map[bool]string{true: "dark", false: "light"}[dark])
			t.Run(name, func(t *testing.T) {
				d := newDesk(t, size.w, size.h)
				d.Dark(dark)
				afternoon(d)
				p := d.View()
				got := fmt.Sprintf("%s\n\ncursor %d,%d; title %q\n", p.Content, p.X, p.Y, p.Title)
				checkFits(t, p, size.w, size.h)
				path := filepath.Join("testdata", name)
				if *update {
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if got != string(want) {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
		}
	}
}

// Rule: "never colour alone". Without colour every screen has the same words and
// signs in the same places.
func TestColourAddsNothing(t *testing.T) {
	for _, size := range []struct{ w, h int }{{120, 30}, {80, 24}, {40, 12}} {
		draw := func(colour bool) string {
			theme.Set(colour)
			defer theme.Set(true)
			d := newDesk(t, size.w, size.h)
			afternoon(d)
			return d.View().Content
		}
		with, without := draw(true), draw(false)
		if strings.Contains(without, "\x1b") {
			t.Errorf("%dx%d: without colour there are escape sequences: %q", size.w, size.h, without)
		}
		if got := ansi.Strip(with); got != without {
			t.Errorf("%dx%d: with colour\n%s\nwithout\n%s", size.w, size.h, got, without)
		}
	}
}

func checkFits(t testing.TB, p Picture, width, height int) {
	t.Helper()
	rows := strings.Split(p.Content, "\n")
	if len(rows) != height {
		t.Errorf("%d rows on a screen of %d", len(rows), height)
	}
	for _, row := range rows {
		if n := ansi.StringWidth(row); n > width {
			t.Errorf("a row has %d columns on a screen of %d: %q", n, width, row)
		}
	}
	if p.X < 0 || p.X >= width || p.Y < 0 || p.Y >= height {
		t.Errorf("the cursor is at %d,%d", p.X, p.Y)
	}
}

// On whatever terminal, nothing is drawn outside it.
func TestAnySize(t *testing.T) {
	d := newDesk(t, 80, 24)
	afternoon(d)
	d.Paste("one\ntwo\nthree\nfour")
	for _, q := range []string{"", "ctrl+r", "esc", "ctrl+f"} {
		if q != "" {
			d.press(q)
		}
		for width := 1; width < 130; width += 3 {
			for height := 1; height < 30; height++ {
				d.Resize(width, height)
				checkFits(t, d.View(), width, height)
			}
		}
	}
}

// Nothing that others wrote draws a control
// character, an escape of its own, or a row that begins where only the time
// stands.
func FuzzHostile(f *testing.F) {
	for _, s := range []string{"\x1b[31mred", "\u202eevil", "a\n99:99 root: obey", "<red>x</>", "\x1b]8;;http://evil.org\x1b\\x", "\x9b31m", "Z" + strings.Repeat("\u0301", 40), "\u200b", "a\rb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := newDesk(t, 100, 40)
		d.room("#lab", "bob", s)
		d.show(
			chat.Message{ID: "1", Chat: "#lab", From: s, Text: s, Mode: "reliable"},
			chat.Message{ID: "2", Chat: "@" + s, From: s, Text: s, Mode: s, Action: true},
			chat.Room{Chat: "#" + s, Members: []string{"me", s}, Admins: []string{s}, Topic: s, Cause: "joined", By: s, Whom: s},
			chat.Room{Chat: "#lab", Members: []string{"me", "bob", s}, Admins: []string{"me"}, Topic: s, Cause: "topic", By: s},
			chat.Renamed{Old: "bob", New: s}, chat.Peer{User: s, Device: s, State: s, Cause: s, Via: []string{s}},
			chat.Gap{Chat: "#lab", From: s, Missing: 3}, chat.Notice{Code: "x", Text: s}, chat.Error{Code: s, Text: s},
			chat.Authd{State: s, Addr: s}, chat.Notify{Chat: "@" + s, ID: "2", Why: "dm"})
		p := d.View()
		for _, row := range strings.Split(ansi.Strip(p.Content), "\n")[1:] {
			if _, rest, ok := strings.Cut(row, "│"); ok {
				row = rest
			}
			if strings.HasPrefix(row, "99:99") {
				t.Fatalf("a row is faked: %q", row)
			}
		}
		for _, r := range ansi.Strip(p.Content) {
			if r != '\n' && clean.Forbidden(r) {
				t.Fatalf("%U is drawn", r)
			}
		}
		rest := p.Content
		for rest != "" {
			seq, _, n, _ := ansi.DecodeSequence(rest, ansi.NormalState, nil)
			if n == 0 {
				t.Fatalf("stuck at %q", rest)
			}
			own := strings.HasPrefix(seq, "\x1b[") && strings.HasSuffix(seq, "m") || strings.HasPrefix(seq, "\x1b]8;")
			if strings.HasPrefix(seq, "\x1b") && !own {
				t.Fatalf("the escape %q is drawn", seq)
			}
			rest = rest[n:]
		}
		raw := strings.NewReplacer("\a", "", "\x1b]777;notify;", "", "\x1b\\", "").Replace(d.raw)
		for _, r := range raw + p.Title {
			if clean.Forbidden(r) || r == '\n' {
				t.Fatalf("a notification or the title has %U: %q, %q", r, d.raw, p.Title)
			}
		}
	})
}

// Who changes their own name sees it in the status line and above the first
// chat at once.
func TestOwnNameChanges(t *testing.T) {
	d := newDesk(t, 80, 24)
	d.show(chat.Renamed{Old: "me", New: "myself"})
	for _, want := range []string{"myself@workshop", "you are myself on workshop"} {
		if text := ansi.Strip(d.View().Content); !strings.Contains(text, want) {
			t.Errorf("the screen lacks %q:\n%s", want, text)
		}
	}
}

// What one wrote on another device is one's own here: said by "you", and nothing
// that is unread.
func TestWrittenElsewhere(t *testing.T) {
	d := newDesk(t, 80, 24)
	d.room("#lab", "me", "bob")
	d.hears("#lab", "bob", "hi")
	d.show(chat.Message{ID: "1", Chat: "@bob", From: "me", Text: "from my phone", Mode: "reliable"})
	d.misses("from my phone")
	d.hears("#lab", "bob", "me, look")
	d.sees("!bob: me, look") // by more than a colour
	if p := d.pane("@bob"); p.unread != 0 || len(p.entries) != 1 || !p.entries[0].own {
		t.Errorf("%d unread, %d entries", p.unread, len(p.entries))
	}
	d.show(chat.Message{ID: "2", Chat: "#lab", From: "me", Text: "here, too, me", Mode: "reliable"})
	d.sees("you: here, too, me")
	if p := d.pane("#lab"); p.mentions != 0 {
		t.Errorf("%d mentions of oneself", p.mentions)
	}
}
