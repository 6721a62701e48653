package ui

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"lanchat/node/chat"
	"lanchat/node/markup"
	"lanchat/node/ui/theme"
	"lanchat/node/ui/view"
	"lanchat/wire/clean"
)

// look is how lines look.
var look = theme.Basic

const (
	bellEvery  = time.Second // between two alerts
	linesLimit = 4 << 20     // bytes of events that may wait for a terminal
	maxSaid    = 60 << 10    // bytes of a pasted text that go into one message
	gutter     = 6           // columns of "14:02 "; what continues a line is indented by them
)

// A LineConfig says where line mode reads and writes. Every field may be
// left zero.
type LineConfig struct {
	// In is where lines come from; nil: nowhere, and the face only shows. Out
	// is where events go; nil: nowhere. Where both are terminals that
	// understand escape sequences (*os.File, TERM), the person gets a line
	// editor; else lines are read as they come.
	In  io.Reader
	Out io.Writer

	Commands []string       // for completion: how each is written, as in chat.Usages
	Location *time.Location // of the times shown; nil: time.Local
	First    bool           // the first start of all: begin with a few lines of help
	Receipts bool           // show who has got one's messages
	// Meter judges the new password of /passwd, which is asked for where there
	// is a line editor; nil: it is not, and the core says what to do instead.
	Meter Meter
	// Open starts the platform's opener with a link, and returns at once. It is
	// called where there is a line editor, after the person said yes.
	Open func(link string) error
	// Notify shows a notification through the desktop's service, and returns when
	// it has; nil: there is none.
	Notify func(title, text string) error
}

// refOwn marks what the line asks for by itself: the person's settings and
// commands, and to have noted what was read.
const refOwn = "line-own"

// Line is the face of lines: one event is one line, a person types one line.
// It says everything in words, fit for a screen reader and a pipe.
//
//	14:02 #lab bob: hi            a message; further lines of it are indented,
//	      and bye                 so that no text can pass for another line
//	14:02 #lab ~bob: quick        a fast one
//	14:02 #lab bob (late): …      or (earlier): from the history; (edited)
//	14:02 #lab * bob waves        /me waves
//	14:02 @bob → you: hi          a direct message
//	14:02 #lab you: hi            one's own, once it is stored and on its way
//	14:02 * bob is online         people and rooms
//	14:02 - mode: fast            what the program says
//	14:02 ! no such room          errors and trouble
//
// On a terminal the typed line stays below what comes in, Tab completes,
// Ctrl+C clears the line and, on an empty line or twice, ends the face. A
// message of several lines can be pasted; it is sent with Enter. Two notices
// are for the face: "current" moves the prompt to the chat in its Data, and
// "clear" empties the screen. What stands on a terminal when a line is typed, or
// the end is, was read, as far as it is of the current chat.
type Line struct {
	cfg   LineConfig
	feed  *feed
	model *view.Model

	// Only touched by the goroutine that writes.
	day      string // of the last line shown
	lastBell time.Time
	said     []quoted      // the last messages, for what answers them
	clicks   bool          // the terminal opens links by a click
	notifier view.Notifier // how the terminal is asked to notify; nil: it can't be
	alerts   alerts

	tty     *os.File               // the terminal written to, nil if there is none
	editor  *term.Terminal         // nil without a line editor
	quit    atomic.Bool            // Ctrl+C twice
	cleared bool                   // the key before was a Ctrl+C; only touched by the editor's callback
	saved   *term.State            // of the terminal before Run; only touched by Run and Close
	focused atomic.Bool            // the terminal said that the person looks at it
	opening atomic.Pointer[string] // the link that is asked about; nil: none
	keys    *keys                  // what the editor reads from
	unread  atomic.Pointer[string] // the current chat, where it has messages that no line was typed behind
	secret  atomic.Pointer[secret] // the line that is being asked for in place of the editor's, nil: none
}

var _ Face = (*Line)(nil)

// NewLine returns a face of lines. Close ends the goroutine it starts. The
// terminal is changed by Run, not before: ask questions first.
func NewLine(cfg LineConfig) *Line {
	if cfg.Location == nil {
		cfg.Location = time.Local
	}
	if cfg.Out == nil {
		cfg.Out = io.Discard
	}
	l := &Line{cfg: cfg, model: view.NewModel(), day: dayOf(time.Now().In(cfg.Location))}
	if out, ok := cfg.Out.(*os.File); ok && term.IsTerminal(int(out.Fd())) {
		l.tty = out
	}
	if theme.Terminal(l.tty) {
		l.notifier = view.NotifierOf(os.Getenv)
		l.clicks = theme.On() && view.Hyperlinks(os.Getenv)
	}
	l.alerts = alerts{notify: cfg.Notify, show: l.Show}
	if in, ok := cfg.In.(*os.File); ok && term.IsTerminal(int(in.Fd())) && theme.Terminal(l.tty) {
		l.keys = &keys{r: in, quit: l.quit.Load, focus: l.focused.Store}
		l.editor = term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{l.keys, l.tty}, l.prompt())
		l.editor.AutoCompleteCallback = l.key
	}
	limit := feedLimit
	if l.tty != nil {
		limit = linesLimit
	}
	l.feed = newFeed(limit, l.tty != nil, l.write)
	return l
}

// Show implements [Face].
func (l *Line) Show(e chat.Event) { l.feed.show(e) }

// Close implements [Face].
func (l *Line) Close() error {
	err := l.feed.close()
	if l.saved != nil && err == nil { // a terminal that stands still takes nothing more
		l.editor.SetBracketedPasteMode(false)
		io.WriteString(l.tty, focusOff+"\r\x1b[K")
	}
	if l.saved != nil {
		err = errors.Join(err, term.Restore(int(l.cfg.In.(*os.File).Fd()), l.saved))
		l.saved = nil
	}
	return err
}

// Run implements [Face].
func (l *Line) Run(ctx context.Context, do func(chat.Command)) error {
	if l.cfg.First {
		l.Show(chat.Notice{Code: "help", Text: strings.Join(view.Help, "\n")})
	}
	if l.editor != nil {
		return l.runEditor(ctx, do)
	}
	return l.feed.runLines(ctx, l.cfg.In, func(in input) {
		switch {
		case in.long:
			l.Show(tooLong(nil))
		case len(bytes.TrimSpace(in.line)) > 0:
			l.noteRead(do)
			do(chat.Command{Line: string(in.line)})
		}
	})
}

func (l *Line) runEditor(ctx context.Context, do func(chat.Command)) error {
	in := int(l.cfg.In.(*os.File).Fd())
	saved, err := term.MakeRaw(in)
	if err != nil {
		return fmt.Errorf("preparing the terminal: %w", err)
	}
	l.saved = saved
	l.editor.SetBracketedPasteMode(true)
	io.WriteString(l.tty, focusOn)

	resized := make(chan os.Signal, 1)
	notifyResize(resized)
	defer signal.Stop(resized)
	l.resize()

	do(chat.Command{Line: "/set", Ref: refOwn})
	do(chat.Command{Line: "/alias", Ref: refOwn})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	commands := make(chan []chat.Command)
	ended := make(chan error, 1)
	go func() {
		for {
			line, err := l.editor.ReadLine()
			if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
				ended <- err
				return
			}
			select {
			case commands <- l.commands(line):
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case list := <-commands:
			l.noteRead(do)
			for _, c := range list {
				do(c)
			}
		case err := <-ended:
			l.noteRead(do)
			switch {
			case l.quit.Load():
				return ErrQuit
			case errors.Is(err, io.EOF):
				return io.EOF
			}
			return fmt.Errorf("reading the terminal: %w", err)
		case <-resized:
			l.resize()
		case <-l.feed.down:
			return l.feed.failure()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// noteRead has it noted that the person has read what was shown of the current
// chat.
func (l *Line) noteRead(do func(chat.Command)) {
	if name := l.unread.Swap(nil); name != nil {
		do(chat.Command{Line: "/read " + *name, Ref: refOwn})
	}
}

// shown remembers that there is something new in a chat, if the person is in it
// and sees it.
func (l *Line) shown(name string) {
	if l.tty != nil && name != "" && name == l.model.Chat() {
		l.unread.Store(&name)
	}
}

// commands returns what an edited line stands for. /passwd asks for the
// passwords first.
func (l *Line) commands(line string) (list []chat.Command) {
	name, args := chat.CommandOf(line)
	if name == "passwd" && l.cfg.Meter != nil && (len(args) == 0 || len(args) == 1 && args[0] == signOutOthers) {
		p, err := l.askPasswd()
		if err != nil {
			l.Show(chat.Notice{Code: "password_kept", Text: "your password stays as it is"})
			return nil
		}
		p.SignOut = len(args) == 1
		return []chat.Command{{Passwd: p}}
	}
	if link := l.opening.Swap(nil); link != nil {
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			if err := l.cfg.Open(*link); err != nil {
				l.Show(chat.Error{Code: "failed", Text: fmt.Sprintf("opening the link: %v", err)})
			}
			return nil
		case "n", "no":
			return nil
		}
	}
	for _, text := range said(line) {
		list = append(list, chat.Command{Line: text})
	}
	return list
}

const signOutOthers = "--sign-out-others"

// askPasswd asks for the present and the new password. Lines that come in
// meanwhile stand above the question.
func (l *Line) askPasswd() (*chat.Passwd, error) {
	ask := func(question string, meter Meter) (string, error) {
		s := &secret{question: question, out: l.tty, meter: meter}
		l.secret.Store(s)
		defer l.secret.Store(nil)
		return s.read(l.keys)
	}
	present, err := ask("Present password", nil)
	if err != nil {
		return nil, err
	}
	say := func(text string) { l.Show(chat.Notice{Code: "password", Text: text}) }
	next, err := newPassword(say, "New password", l.cfg.Meter, true, ask)
	return &chat.Passwd{Present: present, New: next}, err
}

// resize tells the editor how wide the terminal is.
func (l *Line) resize() {
	if w, h, err := term.GetSize(int(l.tty.Fd())); err == nil && w > 0 {
		l.editor.SetSize(w, h)
	}
}

// said returns what an edited line stands for: nothing if it is blank, else
// the text with its pasted line ends, in parts where one message could not
// hold it. Only text for the chat is parted, and no part becomes a command.
func said(line string) []string {
	text := strings.ReplaceAll(line, string(newline), "\n")
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var parts []string
	for len(text) > maxSaid && (text[0] != '/' || len(parts) > 0) {
		i := strings.LastIndexByte(text[:maxSaid], '\n')
		if i < 1 {
			break // one long line: the core says that it is too long
		}
		parts = append(parts, text[:i])
		text = text[i+1:]
		if strings.HasPrefix(text, "/") {
			text = "/" + text
		}
	}
	return append(parts, text)
}

// key is called by the editor for keys that it has no use for.
func (l *Line) key(line string, pos int, key rune) (newLine string, newPos int, ok bool) {
	cleared := l.cleared
	l.cleared = false
	switch key {
	case keyInterrupt:
		switch {
		case cleared:
			l.quit.Store(true) // keys ends the input at its next read
		case line == "":
			fmt.Fprintln(l.editor, look.Paint(theme.Quiet, view.OnceMore))
		}
		l.cleared = true
		return "", 0, true
	case '\t':
		newLine, newPos, choices := l.model.Complete(l.cfg.Commands, line, pos)
		if len(choices) > 0 {
			fmt.Fprintln(l.editor, look.Paint(theme.Quiet, strings.Join(choices, "  ")))
		}
		return newLine, newPos, true
	}
	return "", 0, false
}

// prompt shows the current chat.
func (l *Line) prompt() string { return view.One(l.model.Chat()) + "> " }

// write draws a batch of events.
func (l *Line) write(batch []item, dropped int) error {
	width := 0
	if l.tty != nil {
		if w, _, err := term.GetSize(int(l.tty.Fd())); err == nil {
			width = w
		}
	}
	var b bytes.Buffer
	if dropped > 0 {
		l.line(&b, width, batch[0].at, theme.Trouble, view.Skipped(dropped))
	}
	before := l.prompt()
	for _, it := range batch {
		l.event(&b, width, it)
	}
	if l.editor == nil {
		if b.Len() == 0 {
			return nil
		}
		_, err := l.cfg.Out.Write(b.Bytes())
		return err
	}
	if s := l.secret.Load(); s != nil {
		if ok, err := s.over(b.Bytes()); ok {
			l.editor.SetPrompt(l.prompt()) // for when the editor draws again
			return err
		}
	}
	if after := l.prompt(); after != before {
		l.editor.SetPrompt(after)
	} else if b.Len() == 0 {
		return nil
	}
	_, err := l.editor.Write(b.Bytes()) // draws the prompt again even if there is nothing else
	return err
}

// event draws one event.
func (l *Line) event(b *bytes.Buffer, width int, it item) {
	news := l.model.Apply(it.e)
	switch e := it.e.(type) {
	case chat.Message:
		l.speech(b, width, it.at, speech{chat: e.Chat, mode: e.Mode, text: e.Text, links: e.Links, action: e.Action, from: e.From, own: e.From == l.model.Self(), marks: view.Marks(e) + l.on(e.ReplyTo)})
		l.remember(quoted{e.ID, view.Name(e.From), e.Text})
		l.shown(e.Chat)
	case chat.Sent:
		// Who types into a pipe knows; on a terminal it says that the
		// message is on its way.
		marks := l.on(e.ReplyTo)
		if e.Edits != "" {
			marks = " (" + view.Changed(e.Was, e.Text) + ")"
		}
		if l.tty != nil {
			l.speech(b, width, it.at, speech{chat: e.Chat, mode: e.Mode, text: e.Text, links: e.Links, action: e.Action, own: true, from: l.model.Self(), marks: marks})
		}
		l.remember(quoted{cmp.Or(e.Edits, e.ID), "you", e.Text})
	case chat.Notify:
		l.ring(b, it.at, e)
	case chat.Receipt:
		if l.cfg.Receipts && l.model.Setting("receipts", "on") == "on" {
			l.words(b, width, it.at, e)
		}
	case chat.Peer:
		if news && l.model.Setting("presence", "all") != "none" {
			l.words(b, width, it.at, e)
		}
	case chat.Error:
		if e.Ref != refOwn {
			l.words(b, width, it.at, e)
		}
	default:
		if n, ok := e.(chat.Notice); ok && n.Ref == refOwn { // nobody asked
			if g := l.model.Setting("outage_grace", "0"); n.Code == "set" && g != "0" {
				l.words(b, width, it.at, chat.Notice{Code: "outage_grace", Text: "outage_grace is " + g + ": tokens that ended so long ago count here"})
			}
			return
		}
		if n, ok := e.(chat.Notice); ok && l.editor != nil {
			if data, ok := n.Data.(chat.Opening); ok {
				l.opening.Store(&data.URL)
				n.Text += " Type y to do it."
				e = n
			}
			switch n.Code {
			case "current":
				l.shown(l.model.Chat())
				return // the prompt says it
			case "clear":
				b.WriteString("\x1b[2J\x1b[H")
				return
			}
		}
		if news {
			l.words(b, width, it.at, e)
		}
	}
}

// words draws what an event says in words.
func (l *Line) words(b *bytes.Buffer, width int, at time.Time, e chat.Event) {
	k, text := view.Words(e, l.model.Self())
	l.line(b, width, at, k, text)
}

// ring tells of a message that rings, unless the person looks at the terminal.
func (l *Line) ring(b *bytes.Buffer, at time.Time, e chat.Notify) {
	if l.tty == nil || l.focused.Load() || at.Sub(l.lastBell) < bellEvery {
		return
	}
	l.lastBell = at
	if l.model.Setting("bell", "on") == "on" {
		b.WriteByte('\a')
	}
	m := l.find(e.ID)
	alert := view.AlertOf(e.Chat, m.from, m.text, l.model.Setting("content", "show") == "show")
	switch desktop := l.model.Setting("desktop", "on"); {
	case desktop == "service":
		l.alerts.send(alert)
	case desktop == "on" && l.notifier != nil:
		b.WriteString(l.notifier(alert.Title, alert.Text))
	}
}

// A quoted message is what is remembered of one.
type quoted struct{ id, from, text string }

const (
	maxRemembered = 1000 // messages
	maxQuoted     = 200  // bytes of each
)

func (l *Line) remember(q quoted) {
	if q.id == "" {
		return
	}
	if len(l.said) >= 2*maxRemembered {
		l.said = slices.Clone(l.said[maxRemembered:])
	}
	q.text = clean.Line(q.text, maxQuoted)
	l.said = append(l.said, q)
}

// find returns a message that is remembered, else nothing.
func (l *Line) find(id string) quoted {
	for _, q := range slices.Backward(l.said) {
		if q.id == id {
			return q
		}
	}
	return quoted{}
}

// on says which message one answers.
func (l *Line) on(id string) string {
	q := l.find(id)
	switch {
	case id == "":
		return ""
	case q.id == "":
		return view.OnEarlier
	}
	return view.On(q.from, q.text)
}

// A speech is a message on its way to the screen.
type speech struct {
	chat, mode, text string
	links            []int // numbers of those in text
	action           bool
	from, marks      string
	own              bool
}

// speech draws a message.
func (l *Line) speech(b *bytes.Buffer, width int, at time.Time, s speech) {
	plain, painted := l.head(b, at)
	put := func(k theme.Kind, text string) {
		if text == "" {
			return
		}
		plain += text
		painted += look.Paint(k, text)
	}
	putName := func() {
		plain += view.Name(s.from)
		painted += look.Name(s.from, view.Name(s.from))
	}
	place := view.One(s.chat)
	direct := strings.HasPrefix(place, "@")
	if !direct {
		put(theme.Chat, place)
		put(theme.Plain, " ")
	}
	if s.action {
		put(theme.Rooms, "*")
		put(theme.Plain, " ")
	}
	if s.mode == chat.Fast.String() {
		put(theme.Fast, "~")
	}
	switch {
	case s.own && s.action: // "* ann waves", as all others see it
		put(theme.Own, view.Name(s.from))
		if direct {
			put(theme.Private, " → "+place)
		}
	case s.own && direct:
		put(theme.Own, "you")
		put(theme.Private, " → "+place)
	case s.own:
		put(theme.Own, "you")
	case direct:
		put(theme.Private, "@")
		putName()
		put(theme.Private, " → you")
	default:
		putName()
	}
	put(theme.Marks, s.marks)
	if s.action {
		put(theme.Plain, " ")
	} else {
		put(theme.Plain, ": ")
	}

	text, links := clean.Text(s.text, 0), s.links
	if !l.model.NumberLinks(l.clicks) {
		links = nil
	}
	lines := markup.Typed(markup.NumberedText(text, links))
	if theme.On() {
		lines = markup.Numbered(markup.Lines(text), links)
	}
	rows(b, width, plain, painted, lines, look.Span)
}

// line draws what is no message.
func (l *Line) line(b *bytes.Buffer, width int, at time.Time, k theme.Kind, text string) {
	if text == "" {
		return
	}
	plain, painted := l.head(b, at)
	plain += k.Mark() + " "
	painted += look.Paint(k, k.Mark()) + " "
	rows(b, width, plain, painted, markup.Typed(text), func(s markup.Span) string { return look.Paint(k, s.Text) })
}

// head begins a line with its time, after a line for the day if that is
// another one than before.
func (l *Line) head(b *bytes.Buffer, at time.Time) (plain, painted string) {
	at = at.In(l.cfg.Location)
	if day := dayOf(at); day != l.day {
		l.day = day
		b.WriteString(look.Paint(theme.Date, "-- "+day) + "\n")
	}
	clock := at.Format("15:04")
	return clock + " ", look.Paint(theme.Time, clock) + " "
}

func dayOf(t time.Time) string { return t.Format("Monday, 2 January 2006") }

// rows draws text behind a head, its further lines, and on a terminal what
// does not fit into its width, under the gutter: text that reached the left
// margin could pass for a line of its own.
func rows(b *bytes.Buffer, width int, plain, painted string, text [][]markup.Span, paint func(markup.Span) string) {
	b.WriteString(painted)
	first := true
	for _, line := range text {
		room := width - gutter
		if first {
			room = width - markup.Cells(plain)
		}
		for _, row := range markup.Wrap(line, room, width-gutter) {
			if !first {
				b.WriteString(strings.Repeat(" ", gutter))
			}
			first = false
			for _, s := range row {
				b.WriteString(paint(s))
			}
			b.WriteString(theme.Reset())
			b.WriteByte('\n')
		}
	}
}
