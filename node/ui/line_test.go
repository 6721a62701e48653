package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"

	"lanchat/node/chat"
	"lanchat/node/markup"
	"lanchat/node/ui/theme"
	"lanchat/node/ui/view"
	"lanchat/wire/clean"
)

// showAll returns what a Line face writes to a pipe. It runs in a bubble,
// where it is midnight, 1 January 2000.
func showAll(t *testing.T, events ...chat.Event) (out string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := NewLine(LineConfig{Out: &b, Location: time.UTC})
		for _, e := range events {
			l.Show(e)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		out = b.String()
	})
	return out
}

func TestLineOnAPipe(t *testing.T) {
	got := showAll(t,
		chat.Ready{User: "ann", Realm: "LAB", Fingerprint: "AB"},
		chat.Peer{User: "bob", Device: "1", State: "online"},
		chat.Peer{User: "bob", Device: "2", State: "online"},
		chat.Peer{User: "bob", Device: "1", State: "left"},
		chat.Room{Chat: "#lab", Cause: "joined", By: "ann", Members: []string{"bob", "ann"}, Admins: []string{"bob"}},
		chat.Notice{Code: "current", Text: "you are talking in #lab", Data: "#lab"},
		chat.Message{Chat: "#lab", From: "bob", Text: "hi **all**", Mode: "reliable"},
		chat.Message{Chat: "#lab", From: "bob", Text: "two\n00:00 #lab ann: lines\n<admin> x", Mode: "reliable"},
		chat.Message{Chat: "#lab", From: "bob", Text: "quick", Mode: "fast"},
		chat.Message{Chat: "#lab", From: "bob", Text: "waves", Mode: "reliable", Action: true},
		chat.Message{Chat: "#lab", From: "bob", Text: "old", Mode: "reliable", Replay: true, Edited: true},
		chat.Message{Chat: "#lab", From: "bob", Text: "yes", Mode: "reliable", ReplyTo: "0010917aa468e3b6"},
		chat.Message{Chat: "@bob", From: "bob", Text: "psst", Mode: "reliable", Late: true},
		chat.Message{Chat: "@bob", From: "bob", Text: "waves", Mode: "fast", Action: true},
		chat.Message{Chat: "@bob", From: "ann", Text: "from my phone", Mode: "reliable"},
		chat.Message{Chat: "#lab", From: "ann", Text: "from there too", Mode: "reliable"},
		chat.Sent{Chat: "#lab", Text: "mine"},
		chat.Notify{Chat: "#lab"},
		chat.Receipt{Chat: "#lab", By: "bob", Got: 1, Of: 1},
		chat.Notice{Code: "users", Text: "bob\ncyd"},
		chat.Error{Code: "no_such_room", Text: "there is no room #x"},
		chat.Peer{User: "bob", Device: "2", State: "lost", Cause: "silent"},
	)
	want := `00:00 - you are ann on LAB (fingerprint AB)
00:00 * bob is online
00:00 * you joined #lab: 2 members, the admin is bob
00:00 - you are talking in #lab
00:00 #lab bob: hi **all**
00:00 #lab bob: two
      00:00 #lab ann: lines
      <admin> x
00:00 #lab ~bob: quick
00:00 #lab * bob waves
00:00 #lab bob (earlier, edited): old
00:00 #lab bob (on an earlier message): yes
00:00 @bob → you (late): psst
00:00 * ~@bob → you waves
00:00 you → @bob: from my phone
00:00 #lab you: from there too
00:00 - bob
      cyd
00:00 ! there is no room #x
00:00 ! bob is lost (no sign for 7 s)
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDayChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := NewLine(LineConfig{Out: &b, Location: time.UTC})
		l.Show(chat.Renamed{Old: "a", New: "b"})
		time.Sleep(25 * time.Hour)
		l.Show(chat.Renamed{Old: "b", New: "c"})
		l.Show(chat.Renamed{Old: "c", New: "d"})
		l.Close()
		want := "00:00 * a is now called b\n-- Sunday, 2 January 2000\n01:00 * b is now called c\n01:00 * c is now called d\n"
		if got := b.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestLineColours(t *testing.T) {
	paint(t, true)
	got := showAll(t, chat.Message{Chat: "#lab", From: "bob", Text: "**b** http://x.org <red>x</>", Mode: "reliable"})
	for _, want := range []string{
		"\x1b[1mb\x1b[0m",
		"\x1b]8;id=cd9e5d39;http://x.org\x1b\\\x1b[4mhttp://x.org\x1b[0m\x1b]8;;\x1b\\",
		" <red>x</>\x1b[0m\n", // the line ends with a reset
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if got := ownEscapes.ReplaceAllString(got, ""); got != "00:00 #lab bob: b http://x.org <red>x</>\n" {
		t.Errorf("without colours: %q", got)
	}
}

func TestLineCommandsFromAPipe(t *testing.T) {
	var b bytes.Buffer
	l := NewLine(LineConfig{In: strings.NewReader("hi\n\n/join #lab\r\n{\"cmd\":\"say\"}\nlast"), Out: &b, First: true})
	var got []string
	if err := l.Run(t.Context(), func(c chat.Command) { got = append(got, c.Line) }); err != io.EOF {
		t.Errorf("Run returned %v, want io.EOF", err)
	}
	l.Close()
	if want := []string{"hi", "/join #lab", `{"cmd":"say"}`, "last"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := strings.Count(b.String(), "\n"); n != len(view.Help) {
		t.Errorf("the first start shows %d lines:\n%s", n, b.String())
	}
}

func TestSaid(t *testing.T) {
	nl := string(newline)
	half := strings.Repeat("x", maxSaid/2)
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{" " + nl + " ", nil},
		{"hi", []string{"hi"}},
		{"a" + nl + "b", []string{"a\nb"}},
		{half + nl + half + nl + "/quit", []string{half, half + "\n/quit"}},
		{half + nl + half[:10] + nl + "/" + half, []string{half + "\n" + half[:10], "//" + half}},
		{half + half + half, []string{half + half + half}},
		{"/me " + half + nl + half + nl + half, []string{"/me " + half + "\n" + half + "\n" + half}},
	} {
		if got := said(tt.in); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%.20q…: got %d parts, want %d", tt.in, len(got), len(tt.want))
		}
	}
}

func TestKeys(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
	}{
		{"typed", "hi é你\t\r", "hi é你\t\r"},
		{"arrow", "\x1b[A\x1b[1;3C", "\x1b[A\x1b[1;3C"},
		{"ctrl+c", "a\x03", "a\x1d"},
		{"ctrl+]", "a\x1db", "ab"},
		{"c1", "a\u009bb\u202ec", "abc"},
		{"paste", "\x1b[200~a\rb\n\rc\r\nd\x1b[201~e", "\x1b[200~a␤b␤␤c␤d\x1b[201~e"},
		{"paste ends a line", "\x1b[200~/quit\r\n\x1b[201~\r", "\x1b[200~/quit\x1b[201~\r"},
		{"paste with controls", "\x1b[200~a\x03b\x1b[31mc\x07\td\x9b\x1b[201~", "\x1b[200~ab[31mc    d\ufffd\x1b[201~"},
		{"focus", "a\x1b[Ib\x1b[Oc\x1b[I", "abc (in out in)"},
		{"focus pasted", "\x1b[200~a\x1b[Ib\x1b[201~", "\x1b[200~a[Ib\x1b[201~"},
		{"paste in a paste", "\x1b[200~a\x1b[200~b\x1b[201~c", "\x1b[200~a[200~b\x1b[201~c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 1000} { // however the terminal cuts it
				var focus []string
				k := &keys{r: &pieces{tt.in, size}, quit: func() bool { return false }, focus: func(in bool) {
					focus = append(focus, map[bool]string{true: "in", false: "out"}[in])
				}}
				got, err := io.ReadAll(k)
				if focus != nil {
					got = append(got, " ("+strings.Join(focus, " ")+")"...)
				}
				if string(got) != tt.want || err != nil {
					t.Errorf("in pieces of %d: got %q, %v, want %q", size, got, err, tt.want)
				}
			}
		})
	}
}

// pieces reads a string n bytes at a time.
type pieces struct {
	s string
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.s == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(p.n, len(b))], p.s)
	p.s = p.s[n:]
	return n, nil
}

// --- on a terminal ---

// ownEscapes are the escape sequences that this package and the line editor
// write: styles, cursor movements, erasing, paste mode, links.
var ownEscapes = regexp.MustCompile("\x1b\\[[0-9;]*m|\x1b\\[[0-9]*[ABCDK]|\x1b\\[\\?(?:1004|2004)[hl]|\x1b\\]8;(?:id=[0-9a-f]+)?;(?:(?:https?://|mailto:)[!-~]*)?\x1b\\\\")

// A terminal is the person's side of a terminal.
type terminal struct {
	t   *testing.T
	pty *os.File

	mu   sync.Mutex
	cond *sync.Cond
	got  []byte
	eof  bool
}

// paint switches colour for one test.
func paint(t *testing.T, on bool) {
	t.Helper()
	theme.Set(on)
	t.Cleanup(func() { theme.Set(false) })
}

func TestMain(m *testing.M) {
	theme.Set(false)
	os.Exit(m.Run())
}

func openPTY(t *testing.T) (*terminal, *os.File) {
	t.Helper()
	p, tty, err := pty.Open()
	if err != nil {
		t.Fatalf("opening a pseudo-terminal: %v", err)
	}
	s := &terminal{t: t, pty: p}
	s.cond = sync.NewCond(&s.mu)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		var buf [4096]byte
		for {
			n, err := p.Read(buf[:])
			s.mu.Lock()
			s.got = append(s.got, buf[:n]...)
			s.eof = err != nil
			s.cond.Broadcast()
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		tty.Close()
		p.Close()
		<-gone
	})
	return s, tty
}

// wait waits until text has been drawn and takes everything up to it.
func (s *terminal) wait(text string) (before string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if i := bytes.Index(s.got, []byte(text)); i >= 0 {
			before = string(s.got[:i])
			s.got = s.got[i+len(text):]
			return before
		}
		if s.eof {
			s.t.Fatalf("the terminal closed before it showed %q: %q", text, s.got)
		}
		s.cond.Wait()
	}
}

func (s *terminal) press(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.pty, keys); err != nil {
		s.t.Fatal(err)
	}
}

// A session is a Line face on a terminal.
type session struct {
	*terminal
	line  *Line
	did   chan chat.Command
	own   chan chat.Command // what the face asks for by itself
	ended chan error
}

func startLine(t *testing.T) *session {
	t.Helper()
	t.Setenv("TERM", "xterm")
	s, tty := openPTY(t)
	pty.Setsize(s.pty, &pty.Winsize{Rows: 24, Cols: 60})
	x := &session{
		terminal: s,
		line:     NewLine(LineConfig{Commands: strings.Fields("help join unban unsilence unmute"), In: tty, Out: tty, Location: time.UTC}),
		did:      make(chan chat.Command, 100),
		own:      make(chan chat.Command, 100),
		ended:    make(chan error, 1),
	}
	if x.line.editor == nil {
		t.Fatal("no line editor on a terminal")
	}
	go func() {
		x.ended <- x.line.Run(t.Context(), func(c chat.Command) {
			if c.Ref == refOwn {
				x.own <- c
			} else {
				x.did <- c
			}
		})
	}()
	s.wait("> ") // the prompt
	return x
}

func (x *session) end(want error) {
	x.t.Helper()
	if err := <-x.ended; err != want {
		x.t.Errorf("Run returned %v, want %v", err, want)
	}
	if err := x.line.Close(); err != nil {
		x.t.Errorf("Close: %v", err)
	}
	x.wait("\x1b[?2004l")
}

func TestEditor(t *testing.T) {
	x := startLine(t)
	x.line.Show(chat.Ready{User: "ann", Realm: "LAB"})
	x.line.Show(chat.Room{Chat: "#lab", Cause: "created", By: "ann", Members: []string{"ann", "bodo"}})
	x.wait("#lab created; you are the admin")
	x.wait("#lab> ") // the prompt follows the chat

	x.press("hel")
	x.wait("hel")
	x.line.Show(chat.Message{Chat: "#lab", From: "bodo", Text: "hi", Mode: "reliable"})
	x.wait("#lab bodo: hi")
	x.wait("#lab> hel") // what was typed is drawn again below
	x.press("lo\r")
	if c := <-x.did; c != (chat.Command{Line: "hello"}) {
		t.Errorf("got %+v", c)
	}
	x.line.Show(chat.Sent{Chat: "#lab", Text: "hello", Mode: "reliable"})
	x.wait("#lab you: hello")

	x.press("/he\t\r")
	if c := <-x.did; c.Line != "/help " {
		t.Errorf("completed to %q", c.Line)
	}
	x.press("bo\tyes\r")
	if c := <-x.did; c.Line != "bodo: yes" {
		t.Errorf("completed to %q", c.Line)
	}
	x.press("/un\t")
	x.wait("/unban  /unsilence  /unmute")
	x.press("\x03") // Ctrl+C clears
	x.press("\x1b[A\x1b[A\r")
	if c := <-x.did; c.Line != "/help " {
		t.Errorf("from the history came %q", c.Line)
	}

	x.press("\x1b[200~one\r\x1b[2Jtwo\r\n/quit\r\x1b[201~")
	x.wait("one␤[2Jtwo␤/quit")
	x.press("\r")
	if c := <-x.did; c.Line != "one\n[2Jtwo\n/quit" {
		t.Errorf("pasted %q", c.Line)
	}

	x.line.Show(chat.Notify{Chat: "#lab", Why: "mention"})
	x.wait("\a")
	x.line.Show(chat.Notice{Code: "clear"})
	x.wait("\x1b[2J\x1b[H")
	x.wait("#lab> ")
	x.press("\x04") // Ctrl+D
	x.end(io.EOF)
}

func TestCtrlC(t *testing.T) {
	x := startLine(t)
	x.press("secret\x03")
	x.press("a\x03b\r") // not twice in a row
	if c := <-x.did; c.Line != "b" {
		t.Errorf("got %q", c.Line)
	}
	x.press("\x03")
	x.wait(view.OnceMore)
	x.press("c\r")
	if c := <-x.did; c.Line != "c" {
		t.Errorf("got %q", c.Line)
	}
	x.press("\x03\x03")
	x.end(ErrQuit)
	if len(x.did) != 0 {
		t.Errorf("something was sent: %+v", <-x.did)
	}
}

func TestResize(t *testing.T) {
	x := startLine(t)
	text := strings.Repeat("word ", 20)
	x.line.Show(chat.Message{Chat: "#lab", From: "bob", Text: text})
	x.wait("word")
	for row := range strings.SplitSeq("00:00 #lab bob: word"+x.wait("\r\n> "), "\r\n") {
		if n := markup.Cells(ownEscapes.ReplaceAllString(row, "")); n > 60 {
			t.Errorf("%q takes %d columns of 60", row, n)
		}
	}
	pty.Setsize(x.pty, &pty.Winsize{Rows: 24, Cols: 30})
	x.line.Show(chat.Message{Chat: "#lab", From: "bob", Text: text})
	x.wait("word")
	for row := range strings.SplitSeq("00:00 #lab bob: word"+x.wait("\r\n> "), "\r\n") {
		if n := markup.Cells(ownEscapes.ReplaceAllString(row, "")); n > 30 {
			t.Errorf("%q takes %d columns of 30", row, n)
		}
	}
	x.press("\x04")
	x.end(io.EOF)
}

// A link is opened after a yes, and what the person set is heeded.
func TestLineSettings(t *testing.T) {
	x := startLine(t)
	var opened []string
	x.line.cfg.Open = func(link string) error {
		opened = append(opened, link)
		return nil
	}
	x.line.cfg.Receipts = true
	for _, answer := range []string{"n", "y"} {
		x.line.Show(chat.Notice{Code: "open", Text: "open http://x.lan ?", Data: chat.Opening{URL: "http://x.lan"}})
		x.wait("open http://x.lan ? Type y to do it.")
		x.press(answer + "\ry\r") // the second y answers nothing, and is said
		if c := <-x.did; c.Line != "y" {
			t.Errorf("did %+v", c)
		}
	}
	if !reflect.DeepEqual(opened, []string{"http://x.lan"}) {
		t.Errorf("opened %q", opened)
	}
	set := []chat.Setting{{Name: "bell", Value: "off"}, {Name: "receipts", Value: "off"}, {Name: "presence", Value: "none"}}
	x.line.Show(chat.Notice{Code: "set", Text: "hidden", Ref: refOwn, Data: set})
	x.line.Show(chat.Notice{Code: "set", Text: "hidden", Ref: refOwn, Data: []chat.Setting{{Name: "outage_grace", Value: "7d"}}})
	x.wait("outage_grace is 7d:")
	x.line.Show(chat.Notify{Chat: "#lab"})
	x.line.Show(chat.Receipt{Chat: "#lab", By: "bob", Got: 1, Of: 1})
	x.line.Show(chat.Peer{User: "bob", Device: "1", State: "online"})
	x.line.Show(chat.Notice{Code: "set", Text: "shown", Data: set})
	if got := x.wait("shown"); strings.Contains(got, "\a") || strings.Contains(got, "bob") || strings.Contains(got, "hidden") {
		t.Errorf("got %q", got)
	}
	x.press("\x04")
	x.end(io.EOF)
}

// What was shown of the current chat when a line is typed, or at the end, is read;
// what others said elsewhere is not. Nobody is told.
func TestLineNotesWhatWasRead(t *testing.T) {
	x := startLine(t)
	asked := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if c := <-x.own; c.Line != w {
				t.Errorf("asked for %q, want %q", c.Line, w)
			}
		}
		if len(x.own) > 0 {
			t.Errorf("asked for %q, too", (<-x.own).Line)
		}
	}
	typed := func(line string) {
		t.Helper()
		x.press(line + "\r")
		if c := <-x.did; c.Line != line {
			t.Errorf("did %q, want %q", c.Line, line)
		}
	}
	hears := func(in, text string) {
		t.Helper()
		x.line.Show(chat.Message{Chat: in, From: "bob", Text: text, Mode: "reliable"})
		x.wait(text)
	}
	asked("/set", "/alias")
	x.line.Show(chat.Notice{Code: "alias", Text: "hidden", Ref: refOwn, Data: chat.Aliases{"wave"}})
	x.line.Show(chat.Notice{Code: "current", Data: "#lab"})
	x.wait("#lab> ")
	x.press("/wa\t")
	x.wait("/wave ")
	x.press("\x15")
	typed("hi")
	asked("/read #lab") // what stood there before it became the current chat

	hears("@bob", "psst")
	typed("what?")
	asked()
	hears("#lab", "hooray")
	hears("#lab", "again")
	asked()
	typed("yes")
	asked("/read #lab")
	typed("yes again")
	asked()
	x.line.Show(chat.Notice{Code: "current", Data: "@bob"})
	x.wait("@bob> ")
	typed("psst what?")
	asked("/read @bob")

	hears("@bob", "bye")
	x.line.Show(chat.Notice{Code: "read", Text: "hidden", Ref: refOwn})
	x.line.Show(chat.Error{Code: "no_such_user", Text: "hidden", Ref: refOwn})
	x.line.Show(chat.Error{Code: "no_such_user", Text: "shown", Ref: "r1"})
	if got := x.wait("shown"); strings.Contains(got, "hidden") {
		t.Errorf("got %q", got)
	}
	x.press("\x04")
	x.end(io.EOF)
	asked("/read @bob")
}

// What one says is shown as it will be read: what it answers, what it changes, and
// an action by name.
func TestLineOwnWords(t *testing.T) {
	x := startLine(t)
	for _, e := range []chat.Event{
		chat.Ready{User: "ann", Realm: "LAB"},
		chat.Message{ID: "1", Chat: "#lab", From: "bob", Text: "tea? http://x.lan", Links: []int{2}},
		chat.Sent{ID: "2", Chat: "#lab", Text: "yess", ReplyTo: "1"},
		chat.Sent{ID: "3", Chat: "#lab", Text: "yes", Edits: "2", Was: "yess"},
		chat.Message{ID: "4", Chat: "#lab", From: "bob", Text: "good", ReplyTo: "2"},
		chat.Sent{ID: "5", Chat: "#lab", Edits: "2", Was: "yes"},
		chat.Sent{ID: "6", Chat: "@bob", Text: "waves", Action: true},
		chat.Notice{Text: "end"},
	} {
		x.line.Show(e)
	}
	for _, want := range []string{"#lab bob: tea? http://x.lan [2]", "#lab you (on bob: tea? http://x.lan): yess", "#lab you (edited, was: yess): yes",
		"#lab bob (on you: yes): good", "#lab you (deleted: yes): ", "* ann → @bob waves", "end"} {
		x.wait(want)
	}
	x.press("\x04")
	x.end(io.EOF)
}

// Rule: "only when the window is not focused", by the bell and as the person set.
func TestLineRings(t *testing.T) {
	t.Setenv("TERM_PROGRAM", "iTerm.app")
	t.Setenv("TMUX", "")
	x := startLine(t)
	asked := make(chan string, 10)
	x.line.alerts.notify = func(title, text string) error {
		asked <- title + "|" + text
		return errors.New("there is no bus")
	}
	n := 0
	rings := func(want string) {
		t.Helper()
		n++
		id := fmt.Sprint(n)
		now := time.Now().Add(time.Duration(n) * 2 * bellEvery) // as if they came later
		x.line.feed.mu.Lock()
		for _, e := range []chat.Event{chat.Message{ID: id, Chat: "#lab", From: "bob", Text: "hi;\nann"}, chat.Notify{Chat: "#lab", ID: id}, chat.Notice{Text: "end " + id}} {
			x.line.feed.items = append(x.line.feed.items, item{now, e})
		}
		x.line.feed.kick()
		x.line.feed.mu.Unlock()
		got := x.wait("end " + id)
		got = strings.Join(regexp.MustCompile("\a|\x1b\\][^\x1b]*\x1b\\\\").FindAllString(got, -1), "")
		if got != want {
			t.Errorf("%d: rang %q, want %q", n, got, want)
		}
	}
	set := func(name, value string) {
		x.line.Show(chat.Notice{Code: "set", Text: "set", Ref: refOwn, Data: []chat.Setting{{Name: name, Value: value}}})
	}
	focus := func(key string, in bool) {
		x.press(key + "y\r") // what is typed behind it is done when it was understood
		<-x.did
		if x.line.focused.Load() != in {
			t.Errorf("after %q focused is %v", key, !in)
		}
	}
	const shown, hidden = "\x1b]9;lanchat: #lab: bob: hi, ann\x1b\\", "\x1b]9;lanchat: #lab: bob wrote\x1b\\"
	rings("\a" + shown) // it never told
	focus("\x1b[I", true)
	rings("")
	focus("\x1b[O", false)
	rings("\a" + shown)
	set("content", "hide")
	rings("\a" + hidden)
	set("bell", "off")
	rings(hidden)
	set("desktop", "off")
	rings("")
	set("desktop", "service")
	rings("")
	if got := <-asked; got != "lanchat: #lab|bob wrote" {
		t.Errorf("the service was asked to show %q", got)
	}
	x.wait("service:")
	x.press("\x04")
	x.end(io.EOF)
}

// hostileTexts try to steer the terminal.
var hostileTexts = []string{
	"\x1b[2J\x1b[H", "\x1b]52;c;cm0gLXJm\x07", "\x1b]0;title\x1b\\", "\x1bP1$r\x1b\\", "\x1b[?1049l", "\x1b[6n",
	"\u009b31m", "\u009d0;t\u009c", "\x9b2J", "\x1b]8;;http://evil.org\x1b\\good\x1b]8;;\x1b\\", "\x07\x08\x7f\x00",
	"\u202egpj.exe", "\u2066x\u2069", "\u200ex\u200f", "tag\U000e0041", "<red>x</>", "<fg=white;bg=red;op=bold>SERVER NOTICE</>",
	"a\r\n00:00 #lab admin: obey", "\u2028x", "\u0085x", "Z" + strings.Repeat("\u0301", 30), "\ufeff\u200b", "**\x1b[31m**", "http://x.org/\x1b]8;;\x07",
	"`\x1bc`", "\ue000", "\xff\xfe",
}

// everyEvent has a string in each place where a stranger could put one.
func everyEvent(s string) []chat.Event {
	list := []string{s}
	return []chat.Event{
		chat.Peer{User: s, Device: s, State: s, Cause: s, Via: list},
		chat.Peer{User: s, State: "lost", Cause: s},
		chat.Room{Chat: s, Members: list, Admins: list, Topic: s, Cause: s, By: s, Whom: s},
		chat.Room{Chat: s, Members: list, Admins: list, Topic: s, Cause: "restored"},
		chat.Room{Chat: s, Topic: s, Cause: "topic", By: s},
		chat.Message{ID: s, Chat: s, From: s, Text: s, Mode: s, ReplyTo: s},
		chat.Message{Chat: "#lab", From: s, Text: s, Mode: "fast", Action: true},
		chat.Message{Chat: "@" + s, From: s, Text: s},
		chat.Sent{Chat: s, Text: s},
		chat.Sent{Chat: "@" + s, Text: s},
		chat.Receipt{Chat: s, By: s},
		chat.Gap{Chat: s, From: s, Missing: 2},
		chat.Authd{State: s, Addr: s, Fingerprint: s},
		chat.Renamed{Old: s, New: s},
		chat.Notice{Code: s, Text: s, Data: s},
		chat.Notice{Code: "current", Text: s, Data: s}, // even in the prompt
		chat.Error{Code: s, Text: s},
		chat.Ready{User: s, Realm: s, Fingerprint: s},
	}
}

// What a terminal receives has no escape sequence
// but our own, whatever others wrote into names, topics, reasons and text.
func TestHostileTranscript(t *testing.T) {
	for _, colour := range []bool{false, true} {
		paint(t, colour)
		x := startLine(t)
		for _, s := range hostileTexts {
			for _, e := range everyEvent(s) {
				x.line.Show(e)
			}
		}
		x.line.Show(chat.Notice{Code: "current", Data: "#end"})
		got := x.wait("#end> ")
		x.press("\x04")
		x.end(io.EOF)
		checkTranscript(t, got)

		// The same through a pipe.
		var events []chat.Event
		for _, s := range hostileTexts {
			events = append(events, everyEvent(s)...)
		}
		out := showAll(t, events...)
		checkTranscript(t, out)
		for line := range strings.Lines(out) {
			line = ownEscapes.ReplaceAllString(line, "")
			if !regexp.MustCompile(`^(\d\d:\d\d |      )`).MatchString(line) {
				t.Errorf("a line begins with something else than a time or the gutter: %q", line)
			}
			if strings.HasPrefix(line, "00:00 #lab admin: obey") {
				t.Errorf("a line was faked: %q", line)
			}
		}
	}
}

func checkTranscript(t *testing.T, got string) {
	t.Helper()
	rest := ownEscapes.ReplaceAllString(got, "")
	for i, r := range rest {
		if r == '\r' || r == '\n' {
			continue
		}
		if clean.Forbidden(r) {
			t.Fatalf("the terminal received %U: %q", r, rest[max(0, i-40):min(len(rest), i+20)])
		}
	}
	if strings.Contains(got, ";http://evil.org\x1b\\good") {
		t.Error("a stranger's link came through")
	}
}

func TestPrompter(t *testing.T) {
	t.Setenv("TERM", "dumb")
	s, tty := openPTY(t)
	p, err := NewPrompter(tty, tty)
	if err != nil {
		t.Fatal(err)
	}
	step := func(question, answer string, ask func() (any, error)) any {
		t.Helper()
		type result struct {
			v   any
			err error
		}
		got := make(chan result, 1)
		go func() {
			v, err := ask()
			got <- result{v, err}
		}()
		s.wait(question)
		s.press(answer)
		r := <-got
		if r.err != nil {
			t.Errorf("%s: %v", question, r.err)
		}
		return r.v
	}
	ask := func(q, fallback string) func() (any, error) {
		return func() (any, error) { return p.Ask(t.Context(), q, fallback) }
	}
	if got := step("name: ", " bob \n", ask("name", "")); got != "bob" {
		t.Errorf("got %q", got)
	}
	if got := step("name [ann]: ", "\n", ask("name", "ann")); got != "ann" {
		t.Errorf("got %q", got)
	}
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "\n": false, "n\n": false, "yep\n": false} {
		if got := step("trust it? [y/N] ", answer, func() (any, error) { return p.Confirm(t.Context(), "trust it?") }); got != want {
			t.Errorf("%q is %v, want %v", answer, got, want)
		}
	}

	meter := func(pw string) (int, string) {
		if len(pw) < 8 {
			return 1, "add a word"
		}
		return 4, ""
	}
	got := make(chan string, 1)
	go func() {
		pw, err := p.NewPassword(t.Context(), "password", meter)
		if err != nil {
			t.Error(err)
		}
		got <- pw
	}()
	shown := s.wait("password: ")
	s.press("short\n")
	shown += s.wait("strength: weak; add a word")
	shown += s.wait("password: ")
	s.press("correct horse\n")
	shown += s.wait("strength: strong")
	shown += s.wait("once more: ")
	s.press("battery staple\n")
	shown += s.wait("differ")
	shown += s.wait("password: ")
	s.press("correct horse\n")
	shown += s.wait("once more: ")
	s.press("correct horse\n")
	if pw := <-got; pw != "correct horse" {
		t.Errorf("got %q", pw)
	}
	if strings.Contains(shown, "horse") || strings.Contains(shown, "short") || strings.Contains(shown, "staple") {
		t.Errorf("a password was echoed: %q", shown)
	}

	// Typed ahead, each answer goes to its own question.
	s.press("first one\nsecond one\nthird\n")
	for _, want := range []string{"first one", "second one"} {
		if got, err := p.AskPassword(t.Context(), "password"); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if got, err := p.Ask(t.Context(), "name", ""); got != "third" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}

	failed := make(chan error, 1)
	for key, want := range map[string]error{"abc\x03": ErrQuit, "\x04": io.EOF} {
		go func() {
			_, err := p.AskPassword(t.Context(), "last")
			failed <- err
		}()
		s.wait("last: ")
		s.press(key)
		if err := <-failed; !errors.Is(err, want) {
			t.Errorf("%q returned %v, want %v", key, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := p.AskPassword(ctx, "forever")
		failed <- err
	}()
	s.wait("forever: ")
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.press("\n") // lets the read end that could not be interrupted

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := NewPrompter(r, w); err != ErrNoTerminal {
		t.Errorf("a pipe was taken for a terminal: %v", err)
	}
}
