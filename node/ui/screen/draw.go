package screen

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"lanchat/node/ui/theme"
	"lanchat/node/ui/view"
)

// A Picture is what the terminal is to show.
type Picture struct {
	Content string // rows, parted by \n, each at most as wide as the terminal
	X, Y    int    // of the cursor
	Title   string // of the window
	Mouse   bool   // clicks are wanted
}

const (
	chatsWidth   = 18
	membersWidth = 20
	maxTyped     = 6 // rows of the text being typed
)

// A layout is how the terminal is divided. Columns of 0 are not shown.
type layout struct {
	chats, members int // columns
	middle         int // columns of the messages
	messages       int // rows of them
	typed          int // rows of the text being typed
}

func (s *Screen) layout() layout {
	l := layout{middle: s.width}
	if s.width >= 70 && !s.hideChats {
		l.chats = chatsWidth
		l.middle -= chatsWidth + 1
	}
	if s.width >= 96 && !s.hideMembers {
		l.members = membersWidth
		l.middle -= membersWidth + 1
	}
	rows, _, _ := s.input.rows(max(s.width-1, 1), ansi.StringWidth(s.promptText()))
	l.typed = min(len(rows), maxTyped, max(1, s.height-3))
	l.messages = max(0, s.height-2-l.typed)
	return l
}

func (s *Screen) messageWidth() int  { return s.layout().middle }
func (s *Screen) messageHeight() int { return max(1, s.layout().messages) }

// promptText stands in front of the text being typed.
func (s *Screen) promptText() string {
	name := view.One(s.current.name)
	if ansi.StringWidth(name) > s.width/3 {
		name = ansi.Truncate(name, s.width/3, "…")
	}
	return name + "> "
}

// View draws the picture.
func (s *Screen) View() Picture {
	l := s.layout()
	rows := make([]string, 0, s.height)
	rows = append(rows, s.bar(s.standing(s.current)))
	messages := s.messageRows(l)
	chats, members := s.chatRows(l), s.memberRows(l)
	border := s.theme.Paint(theme.Border, "│")
	for i := range l.messages {
		row := ""
		if l.chats > 0 {
			row += fit(at(chats, i), l.chats) + border
		}
		if l.members > 0 {
			row += fit(at(messages, i), l.middle) + border + fit(at(members, i), l.members)
		} else {
			row += ansi.Truncate(at(messages, i), l.middle, "")
		}
		rows = append(rows, row)
	}
	rows = append(rows, s.status())
	typed, x, y := s.typedRows(l)
	y += len(rows)
	rows = append(rows, typed...)
	if len(rows) > s.height {
		y -= len(rows) - s.height
		rows = rows[len(rows)-s.height:]
	}
	return Picture{Content: strings.Join(rows, "\n"), X: min(x, s.width-1), Y: max(y, 0), Title: s.title(), Mouse: s.model.Setting("mouse", "on") == "on"}
}

func at(rows []string, i int) string {
	if i < len(rows) {
		return rows[i]
	}
	return ""
}

// fit makes s exactly width columns wide.
func fit(s string, width int) string {
	n := ansi.StringWidth(s)
	if n > width {
		s = ansi.Truncate(s, width, "…")
		n = ansi.StringWidth(s)
	}
	return s + strings.Repeat(" ", max(0, width-n))
}

// bar is a row over the whole width.
func (s *Screen) bar(text string) string { return s.theme.Paint(theme.Bar, fit(" "+text, s.width)) }

// rowsOf returns how many rows entry i takes, with what stands in front of it.
func (s *Screen) rowsOf(p *pane, i, width int) int {
	return len(s.draw(p.entries[i], width)) + len(s.inFront(p, i))
}

// inFront returns the rows in front of entry i: the day if it is another one,
// and where what is new begins.
func (s *Screen) inFront(p *pane, i int) (rows []string) {
	e := p.entries[i]
	day := e.at.In(s.cfg.Location)
	if i == 0 || dateOf(p.entries[i-1].at.In(s.cfg.Location)) != dateOf(day) {
		rows = append(rows, s.theme.Paint(theme.Date, "── "+day.Format("Monday, 2 January 2006")+" ──"))
	}
	if e == p.unreadAt {
		rows = append(rows, s.theme.Paint(theme.Mention, "── new ──"))
	}
	return rows
}

// A date is a day of the calendar.
type date struct {
	year int
	day  int
}

func dateOf(t time.Time) date { return date{t.Year(), t.YearDay()} }

// messageRows returns the rows of messages in view, from the bottom up: what is
// not in view is not drawn.
func (s *Screen) messageRows(l layout) []string {
	p := s.current
	var rows []string // bottom first
	for i := len(p.entries) - 1; i >= 0 && len(rows) < p.scroll+l.messages; i-- {
		for _, row := range slices.Backward(s.draw(p.entries[i], l.middle)) {
			rows = append(rows, row)
		}
		for _, row := range slices.Backward(s.inFront(p, i)) {
			rows = append(rows, row)
		}
	}
	p.scroll = min(p.scroll, max(0, len(rows)-l.messages))
	rows = rows[p.scroll:]
	rows = rows[:min(len(rows), l.messages)]
	slices.Reverse(rows)
	if missing := l.messages - len(rows); missing > 0 {
		rows = append(make([]string, missing), rows...) // the newest stand at the bottom
	}
	return rows
}

// firstChat returns the first chat in the list, so that the current one is in
// it.
func (l layout) firstChat(s *Screen) int {
	return max(0, slices.Index(s.panes, s.current)-l.messages+1)
}

// chatRows lists the chats: number, name, what is new (! for what means
// oneself).
func (s *Screen) chatRows(l layout) (rows []string) {
	if l.chats == 0 {
		return nil
	}
	for i, p := range s.panes[l.firstChat(s):] {
		i += l.firstChat(s)
		name := view.One(p.name)
		if p.name == "" {
			name = "lanchat"
		}
		mark, kind := " ", theme.Plain
		count := ""
		if p.unread > 0 {
			kind, count = theme.Unread, fmt.Sprint(" ", p.unread)
			if p.urgent() {
				kind = theme.Mention
				count += "!"
			}
		}
		if p == s.current {
			mark, kind = "▸", theme.Current
		}
		if p.muted {
			count += "z"
		}
		left := fmt.Sprintf("%s%2d ", mark, i+1)
		rows = append(rows, s.theme.Paint(kind, fit(left+fit(name, max(1, l.chats-len(count)-4))+count, l.chats)))
	}
	return rows
}

// memberRows lists the people of the chat: here (●), away (◐) or not (○), the
// admin with @, co-admins with +.
func (s *Screen) memberRows(l layout) (rows []string) {
	if l.members == 0 {
		return nil
	}
	for _, user := range s.people(s.current) {
		sign := "○"
		switch state := s.model.Presence(user); {
		case state == "online" || user == s.model.Self():
			sign = "●"
		case state != "":
			sign = "◐"
		}
		role := " "
		switch i := slices.Index(s.current.admins, user); {
		case i == 0:
			role = "@"
		case i > 0:
			role = "+"
		}
		rows = append(rows, sign+role+s.theme.Name(user, fit(s.called(user), l.members-2)))
	}
	if s.current.name == "" && len(rows) == 0 { // an empty list carries its reason, or says where that is
		for _, line := range []string{"nobody else yet:", "/users says why"} {
			rows = append(rows, s.theme.Paint(theme.Quiet, fit(line, l.members)))
		}
	}
	if len(rows) > l.messages && l.messages > 0 {
		hidden := len(rows) - l.messages + 1
		rows = append(rows[:l.messages-1], s.theme.Paint(theme.Quiet, fmt.Sprintf("  and %d more", hidden)))
	}
	return rows
}

// status is the row above the input: a question, or how things stand.
func (s *Screen) status() string {
	switch {
	case s.prompt.kind == askHistory:
		return s.bar("search what you typed: " + s.prompt.typed + "▏  Ctrl+R older, Enter takes it, Esc ends")
	case s.prompt.kind == askFind:
		q := s.prompt.question
		if q == "" {
			q = "Enter finds upwards, Esc ends"
		}
		return s.bar("find in this chat: " + s.prompt.typed + "▏  " + q)
	case s.prompt.kind >= askPresent:
		return s.bar(s.secretWords())
	case s.prompt.kind != askNothing:
		return s.bar("? " + s.prompt.question)
	case !s.quitBy.IsZero():
		return s.bar(view.OnceMore)
	}
	parts := []string{}
	if me := s.model.Self(); me != "" {
		parts = append(parts, view.Name(me)+"@"+view.One(s.self.Realm))
	}
	away := len(parts)
	if !s.away.IsZero() {
		parts = append(parts, "! authd away since "+s.away.In(s.cfg.Location).Format("15:04")+awayMeans)
	}
	if g := s.model.Setting("outage_grace", "0"); g != "0" {
		parts = append(parts, "! outage_grace "+view.One(g)+": tokens that ended so long ago count")
	}
	if s.current.scroll > 0 {
		parts = append(parts, fmt.Sprintf("▲ %d rows further down: PgDn", s.current.scroll))
	}
	var fresh []string
	for i, p := range s.panes {
		if p.unread > 0 && p != s.current {
			f := fmt.Sprintf("%d:%s %d", i+1, view.One(p.name), p.unread)
			if p.urgent() {
				f += "!"
			}
			fresh = append(fresh, f)
		}
	}
	if len(fresh) > 0 {
		parts = append(parts, "new (Alt+A): "+strings.Join(fresh, ", "))
	}
	if !s.away.IsZero() && ansi.StringWidth(strings.Join(parts, " · "))+1 > s.width { // what comes behind it counts more
		parts[away] = strings.TrimSuffix(parts[away], awayMeans)
	}
	return s.bar(strings.Join(parts, " · "))
}

const awayMeans = ": no new accounts, everything else works"

// typedRows returns the rows of the text being typed, those around the cursor,
// and where the cursor is in them.
func (s *Screen) typedRows(l layout) (rows []string, x, y int) {
	prompt := s.promptText()
	all, y, x := s.input.rows(max(s.width-1, 1), ansi.StringWidth(prompt))
	all[0] = s.theme.Paint(theme.Chat, prompt) + all[0]
	first := max(0, min(y-l.typed+1, len(all)-l.typed))
	return all[first:min(len(all), first+l.typed)], x, y - first
}
