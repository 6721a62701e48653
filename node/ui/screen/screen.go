// Package screen is the full screen as a machine: events, keys and the time go
// in, commands and a picture come out. It does no I/O and never reads the
// clock; node/ui runs it on a terminal.
//
// Start with [Screen]. show.go takes events, keys.go keys, draw.go makes the
// picture, alert.go what rings; input.go is the line being typed, pane.go one
// chat.
package screen

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lanchat/node/chat"
	"lanchat/node/ui/theme"
	"lanchat/node/ui/view"
)

// Config is what a Screen is made of.
type Config struct {
	Commands []string       // for completion: how each is written, as in chat.Usages
	Location *time.Location // of the times shown; nil: UTC
	First    bool           // the first start of all: begin with five lines of help
	Notifier view.Notifier  // how this terminal is asked to notify
	// Hyperlinks says that this terminal opens links by a click; else they are
	// numbered for /open.
	Hyperlinks bool
	// Meter judges the new password of /passwd: zxcvbn's score, 0 to 4, and what
	// would make it better. nil: the core says where to change it.
	Meter func(password string) (score int, advice string)
}

// An Item is an event and when it happened.
type Item struct {
	At    time.Time
	Event chat.Event
}

// Work is what a Screen wants done.
type Work struct {
	Commands []chat.Command
	Raw      string       // escape sequences for the terminal, made here: bell, notifications
	Open     string       // a link to start the platform's opener with
	Alerts   []view.Alert // for the desktop's service
	Redraw   bool         // the terminal may show something else than was drawn
	Quit     bool
}

const (
	unconfirmedAfter = 10 * time.Second // without receipts from all who were online
	quitWithin       = 3 * time.Second  // between two Ctrl+C
	readEvery        = time.Second      // between notes of what was read
	surveyEvery      = 10 * time.Second // between looks at a room's figures
	spokeLately      = 10 * time.Minute
)

// A Screen is one person's full screen. One goroutine owns it.
type Screen struct {
	cfg   Config
	model *view.Model
	theme *theme.Theme
	look  string // the setting: "auto", "dark", "light"
	dark  bool   // what the terminal said of its background

	width, height int
	hideChats     bool
	hideMembers   bool
	focus         focus

	panes   []*pane // the first is the program's own
	current *pane
	last    *pane // where one was before
	input   input
	prompt  prompt
	find    string    // what Ctrl+F looks for
	quitBy  time.Time // a second Ctrl+C until then ends the program

	self   chat.Ready
	authd  chat.Authd
	away   time.Time // since when authd is
	was    map[string]string
	via    map[string][]string // how a person was last reached
	work   Work
	refs   map[string]*asked
	nextID int
	survey time.Time // when the figures of the room in view are next asked for; zero: never
	unread time.Time // when the chat in view is next noted as read; zero: never
}

// asked is what a command was about.
type asked struct {
	pane  *pane
	entry *entry // the text being sent; nil: none
	page  bool   // of the history
}

type focus uint8

const (
	unknown focus = iota // many terminals never tell
	focused
	blurred
)

// New returns a screen that nothing was shown on. Its first Take asks for what
// it needs to know.
func New(cfg Config) *Screen {
	if cfg.Location == nil {
		cfg.Location = time.UTC
	}
	home := &pane{}
	s := &Screen{cfg: cfg, model: view.NewModel(), dark: true, width: 80, height: 24,
		panes: []*pane{home}, current: home, was: map[string]string{}, via: map[string][]string{}, refs: map[string]*asked{}}
	s.dress()
	s.ask("/set", &asked{})
	s.ask("/alias", &asked{})
	s.ask("/chats", &asked{})
	return s
}

// Take returns the work that has come up and forgets it.
func (s *Screen) Take() Work {
	w := s.work
	s.work = Work{}
	return w
}

// ask has the core carry out a line.
func (s *Screen) ask(line string, a *asked) {
	s.do(chat.Command{Line: line}, a)
}

func (s *Screen) do(c chat.Command, a *asked) {
	s.nextID++
	c.Ref = fmt.Sprintf("screen-%d", s.nextID)
	if len(s.refs) > 10_000 {
		s.refs = map[string]*asked{} // answers that never come
	}
	s.refs[c.Ref] = a
	s.work.Commands = append(s.work.Commands, c)
}

// Resize says how large the terminal is.
func (s *Screen) Resize(width, height int) {
	s.width, s.height = max(width, 1), max(height, 1)
	for _, p := range s.panes {
		p.forget()
	}
}

// Focus says whether the person looks at this terminal.
func (s *Screen) Focus(now time.Time, in bool) {
	if !in {
		s.noteRead()
	}
	s.focus = blurred
	if in {
		s.focus = focused
		s.survey = now
		s.seen(now)
	}
}

// Dark says whether the terminal's background is dark.
func (s *Screen) Dark(dark bool) {
	s.dark = dark
	s.dress()
}

func (s *Screen) dress() {
	s.theme = theme.Dark
	if s.look == "light" || s.look != "dark" && !s.dark {
		s.theme = theme.Light
	}
	for _, p := range s.panes {
		p.forget()
	}
}

// Deadline returns when Advance next has work; zero: never.
func (s *Screen) Deadline() time.Time {
	d := s.unread
	earlier := func(t time.Time) {
		if !t.IsZero() && (d.IsZero() || t.Before(d)) {
			d = t
		}
	}
	earlier(s.quitBy)
	earlier(s.survey)
	for _, p := range s.panes {
		for _, e := range p.waiting {
			earlier(e.at.Add(unconfirmedAfter))
		}
	}
	return d
}

// Advance tells the screen that time has passed.
func (s *Screen) Advance(now time.Time) {
	if !s.quitBy.IsZero() && !now.Before(s.quitBy) {
		s.quitBy = time.Time{}
	}
	for _, p := range s.panes {
		p.waiting = slices.DeleteFunc(p.waiting, func(e *entry) bool {
			late := !now.Before(e.at.Add(unconfirmedAfter))
			if late && (e.state == sending || e.state == sent) && e.got < max(e.online, 1) {
				e.state = unconfirmed
				e.forget()
			}
			return late
		})
	}
	if !s.survey.IsZero() && !now.Before(s.survey) {
		s.survey = time.Time{}
		if s.focus != blurred && strings.HasPrefix(s.current.name, "#") {
			s.do(chat.Command{Line: "/mode", Chat: s.current.name}, &asked{})
			s.survey = now.Add(surveyEvery)
		}
	}
	if !s.unread.IsZero() && !now.Before(s.unread) {
		s.noteRead()
	}
}

// noteRead has it noted that what the person saw of the current chat is read.
func (s *Screen) noteRead() {
	if !s.unread.IsZero() && s.looking() && s.current.name != "" {
		s.ask("/read "+s.current.name, &asked{})
	}
	s.unread = time.Time{}
}

// looking reports whether the person sees the end of the current chat.
func (s *Screen) looking() bool { return s.focus != blurred && s.current.scroll == 0 }

// seen notes that the person sees the current chat.
func (s *Screen) seen(now time.Time) {
	p := s.current
	if !s.looking() || p.unread == 0 && p.mentions == 0 {
		return
	}
	p.unread, p.mentions = 0, 0
	if s.unread.IsZero() {
		s.unread = now.Add(readEvery)
	}
}

// pane returns the chat of that name, made if need be.
func (s *Screen) pane(name string) *pane {
	for _, p := range s.panes {
		if p.name == name {
			return p
		}
	}
	p := &pane{name: name, mode: chat.Reliable.String()}
	i := 1
	for i < len(s.panes) && rank(s.panes[i].name) <= rank(name) {
		i++
	}
	s.panes = slices.Insert(s.panes, i, p)
	return p
}

// rank puts rooms before people; within each, chats stand in the order they
// were opened, so that their numbers stay.
func rank(name string) int {
	if strings.HasPrefix(name, "#") {
		return 1
	}
	return 2
}

// drop forgets a chat.
func (s *Screen) drop(now time.Time, name string) {
	i := slices.IndexFunc(s.panes, func(p *pane) bool { return p.name == name })
	if i <= 0 {
		return
	}
	p := s.panes[i]
	s.panes = slices.Delete(s.panes, i, i+1)
	if s.last == p {
		s.last = nil
	}
	if s.current == p {
		s.enter(now, s.panes[min(i, len(s.panes)-1)])
	}
}

// enter makes a chat the current one.
func (s *Screen) enter(now time.Time, p *pane) {
	if s.current != p {
		s.noteRead()
		old := s.current
		old.draft = s.input.text()
		old.unreadAt = nil
		old.trim()
		s.last, s.current = old, p
		s.input.set(p.draft, len(p.draft))
		s.input.at = len(s.input.past)
		s.prompt = prompt{}
	}
	if strings.HasPrefix(p.name, "#") {
		s.survey = now.Add(surveyEvery)
	}
	s.load(p)
	s.seen(now)
}

// load asks for the history of a chat once, so that there is something to see.
func (s *Screen) load(p *pane) {
	if p.name != "" && p.pages == untouched {
		s.older(p)
	}
}

// older asks for what stands before all that a chat shows.
func (s *Screen) older(p *pane) {
	if p.name == "" || p.pages == asking || p.pages == whole {
		return
	}
	line := "/history " + p.name
	if id := p.oldest(); id != "" {
		line += " " + id
	}
	p.pages = asking
	s.ask(line, &asked{pane: p, page: true})
}

// step enters the chat n further down the list.
func (s *Screen) step(now time.Time, n int) {
	i := slices.Index(s.panes, s.current)
	s.enter(now, s.panes[(i+n+len(s.panes))%len(s.panes)])
}

// active enters the next chat with something new: mentions and direct messages
// first. Without any it goes back to where one was before.
func (s *Screen) active(now time.Time) {
	var best *pane
	i := slices.Index(s.panes, s.current)
	for k := 1; k < len(s.panes); k++ {
		p := s.panes[(i+k)%len(s.panes)]
		if p.unread > 0 && (best == nil || p.urgent() && !best.urgent()) {
			best = p
		}
	}
	switch {
	case best != nil:
		s.enter(now, best)
	case s.last != nil:
		s.enter(now, s.last)
	}
}
