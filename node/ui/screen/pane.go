package screen

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"lanchat/node/chat"
	"lanchat/node/markup"
	"lanchat/node/ui/theme"
	"lanchat/node/ui/view"
	"lanchat/wire/clean"
)

const (
	maxEntries = 1000 // of a chat that is not in view
	maxRead    = 5000 // of the one in view, where somebody reads back
	timeWidth  = 6    // columns of "14:02 "
	indent     = 8    // what continues a message stands deeper than any name
)

// A pane is one chat as it is shown. Its name is "" for the program's own.
type pane struct {
	name    string
	entries []*entry
	waiting []*entry // own ones that receipts are expected for
	pages   pages    // of the history
	scroll  int      // rows below the last one in view
	draft   string   // typed here and not sent

	unread, mentions int
	unreadAt         *entry // what was new first when one looked away; nil: nothing

	mode, notify    string
	muted           bool
	topic           string
	private         bool
	members, admins []string
	report          chat.ModeReport   // how the network treats it, measured
	gaps            map[string]uint64 // missing messages, by author
	spoke           map[string]time.Time
}

// pages is how much of a chat's history was loaded.
type pages uint8

const (
	untouched pages = iota
	asking
	more
	whole
)

// A state is what is known of one's own message.
type state uint8

const (
	others      state = iota // not one's own
	sending                  // not stored yet
	sent                     // stored and on its way
	unconfirmed              // not everybody who was there has said so
	failed                   // refused
)

// An entry is a message or a line.
type entry struct {
	at   time.Time
	kind theme.Kind // of a line
	line bool
	text string // clean

	id, from     string
	own          bool
	action, fast bool
	marks        string // that it was edited, came late
	on           string // which message it answers
	mention      bool
	state        state
	got, of      int
	online       int
	links        []int // numbers of those in text
	rows         []string
	drawn        *theme.Theme // rows were drawn with it, for width
	width        int
}

func (e *entry) forget() { e.rows, e.drawn = nil, nil }

func (p *pane) forget() {
	for _, e := range p.entries {
		e.forget()
	}
}

// urgent reports whether somebody means oneself.
func (p *pane) urgent() bool { return p.mentions > 0 || strings.HasPrefix(p.name, "@") }

// cut forgets all but the newest entries; the history has them.
func (p *pane) cut(limit int) {
	p.entries = slices.Clone(p.entries[len(p.entries)-limit:])
	if p.pages == whole {
		p.pages = more
	}
}

// trim gives back the memory of a chat that is no longer in view.
func (p *pane) trim() {
	if len(p.entries) > maxEntries {
		p.scroll = 0
		p.cut(maxEntries)
	}
	p.forget()
}

// oldest returns the id of the first message.
func (p *pane) oldest() string {
	for _, e := range p.entries {
		if e.id != "" {
			return e.id
		}
	}
	return ""
}

// find returns a message by its id.
func (p *pane) find(id string) *entry {
	for _, e := range slices.Backward(p.entries) {
		if e.id == id {
			return e
		}
	}
	return nil
}

// head returns what stands in front of a message's text, plain and painted.
func (s *Screen) head(e *entry) (plain, painted string) {
	put := func(k theme.Kind, text string) {
		if text != "" {
			plain += text
			painted += s.theme.Paint(k, text)
		}
	}
	put(theme.Time, e.at.In(s.cfg.Location).Format("15:04"))
	put(theme.Plain, " ")
	if e.line {
		put(e.kind, e.kind.Mark())
		put(theme.Plain, " ")
		return plain, painted
	}
	if e.action {
		put(theme.Rooms, "*")
		put(theme.Plain, " ")
	}
	if e.mention {
		put(theme.Mention, "!") // as in the list of chats
	}
	if e.fast {
		put(theme.Fast, "~")
	}
	if name := view.Name(e.from); e.own && e.action { // "* ann waves", as all others see it
		put(theme.Own, view.Name(s.model.Self()))
	} else if e.own {
		put(theme.Own, "you")
	} else {
		plain += name
		painted += s.theme.Name(e.from, name)
	}
	put(theme.Marks, e.marks+e.on)
	if e.action {
		put(theme.Plain, " ")
	} else {
		put(theme.Plain, ": ")
	}
	return plain, painted
}

// tail returns what is known of one's own message. /help explains the signs.
func (e *entry) tail() (theme.Kind, string) {
	switch {
	case !e.own, e.line:
		return theme.Quiet, ""
	case e.state == failed:
		return theme.Error, " ✗ failed"
	case e.state == sending:
		return theme.Quiet, " …"
	case e.fast:
		return theme.Quiet, ""
	case e.of > 0 && e.got >= e.of:
		return theme.Quiet, " ✓"
	case e.state == unconfirmed && e.of > 0:
		return theme.Trouble, fmt.Sprintf(" ? %d/%d", e.got, e.of)
	case e.state == unconfirmed:
		return theme.Trouble, " ? unconfirmed"
	case e.of > 0:
		return theme.Quiet, fmt.Sprintf(" %d/%d", e.got, e.of)
	case e.state == sent:
		return theme.Quiet, " →"
	}
	return theme.Quiet, ""
}

// draw returns the rows of an entry, each no wider than width.
func (s *Screen) draw(e *entry, width int) []string {
	if e.drawn == s.theme && e.width == width {
		return e.rows
	}
	plain, painted := s.head(e)
	lines := markup.Typed(e.text)
	paint := func(m markup.Span) string { return s.theme.Paint(e.kind, m.Text) }
	if !e.line {
		lines, paint = markup.Lines(e.text), s.theme.Span
		if s.model.NumberLinks(s.cfg.Hyperlinks) {
			lines = markup.Numbered(lines, e.links)
		}
	}
	in := min(indent, max(0, width-20)) // a narrow terminal has no room for it
	margin := strings.Repeat(" ", in)
	var rows []string
	row, used := painted, markup.Cells(plain)
	first := true
	for _, line := range lines {
		for _, spans := range markup.Wrap(line, width-used, max(width-in, 1)) {
			if !first {
				rows = append(rows, row)
				row, used = margin, in
			}
			first = false
			for _, m := range spans {
				row += paint(m)
				used += markup.Cells(m.Text)
			}
		}
		if !first { // the next line begins a row of its own
			rows = append(rows, row)
			row, used = margin, in
			first = true
		}
	}
	if k, tail := e.tail(); tail != "" {
		last := len(rows) - 1
		if ansi.StringWidth(rows[last])+markup.Cells(tail) > width {
			rows, last = append(rows, margin), last+1
		}
		rows[last] += s.theme.Paint(k, tail)
	}
	e.rows, e.drawn, e.width = rows, s.theme, width
	return rows
}

// speech returns an entry for what somebody said.
func speech(at time.Time, text string) *entry { return &entry{at: at, text: clean.Text(text, 0)} }

// note returns an entry for a line that is no message.
func note(at time.Time, k theme.Kind, text string) *entry {
	return &entry{at: at, line: true, kind: k, text: text}
}

// change takes an edit or a deletion.
func (e *entry) change(text, marks string, links []int) {
	e.text, e.marks, e.links = clean.Text(text, 0), marks, links
	e.forget()
}

// receipt notes who has a message.
func (e *entry) receipt(got, of int) {
	e.got, e.of = max(e.got, got), cmp.Or(of, e.of)
	if e.state == sending {
		e.state = sent
	}
	if e.state == unconfirmed && e.got >= e.of {
		e.state = sent
	}
	e.forget()
}
