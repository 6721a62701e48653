package screen

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lanchat/node/chat"
	"lanchat/node/ui/theme"
	"lanchat/node/ui/view"
	"lanchat/wire/clean"
)

// Show shows events that happened, dropped of which before them could not be
// shown.
func (s *Screen) Show(now time.Time, items []Item, dropped int) {
	if dropped > 0 {
		s.note(s.current, note(now, theme.Trouble, view.Skipped(dropped)))
	}
	for _, it := range items {
		s.event(now, it.At, it.Event)
	}
	if !s.looking() {
		return
	}
	s.seen(now)
}

// note adds a line that makes nothing unread.
func (s *Screen) note(p *pane, e *entry) {
	if e.text == "" {
		return
	}
	s.add(p, e)
}

// add shows an entry at the end. Who reads further up keeps the rows in view.
func (s *Screen) add(p *pane, e *entry) {
	p.entries = append(p.entries, e)
	if p.scroll > 0 {
		p.scroll += s.rowsOf(p, len(p.entries)-1, s.messageWidth())
	}
	limit := maxEntries
	if p == s.current {
		limit = maxRead
	}
	if len(p.entries) > limit+limit/4 {
		p.cut(limit)
	}
}

func (s *Screen) event(now, at time.Time, e chat.Event) {
	news := s.model.Apply(e)
	me := s.model.Self()
	kind, words := view.Words(e, me)
	switch e := e.(type) {
	case chat.Ready:
		s.self = e
		if s.cfg.First {
			s.cfg.First = false
			s.note(s.panes[0], note(at, theme.Notice, strings.Join(view.HelpScreen, "\n")))
		}
	case chat.Authd:
		s.authd = e
		if e.State != "down" {
			s.away = time.Time{}
		} else if s.away.IsZero() {
			s.away = at
		}
		s.note(s.panes[0], note(at, kind, words))
	case chat.Peer:
		s.peer(now, at, e, news, kind, words)
	case chat.Renamed:
		s.renamed(at, e, kind, words)
	case chat.Room:
		s.room(now, at, e, me, kind, words)
	case chat.Message:
		s.message(now, at, e, me)
	case chat.Sent:
		s.sent(at, e)
	case chat.Receipt:
		if p := s.known(e.Chat); p != nil {
			if m := p.find(e.ID); m != nil {
				m.receipt(e.Got, e.Of)
			}
		}
	case chat.Gap:
		s.gap(at, e, kind, words)
	case chat.Notify:
		s.ring(e)
	case chat.Notice:
		s.notice(now, at, e, kind, words)
	case chat.Error:
		s.refused(at, e, kind, words)
	}
}

// known returns the chat of that name if there is one.
func (s *Screen) known(name string) *pane {
	for _, p := range s.panes {
		if p.name == name && name != "" {
			return p
		}
	}
	return nil
}

// peer tells of somebody who came or went, in the chats they are in and where
// the person wants to know.
func (s *Screen) peer(now, at time.Time, e chat.Peer, news bool, k theme.Kind, words string) {
	s.via[e.User] = e.Via
	if e.Was != "" {
		s.was[e.User] = e.Was
	}
	want := s.model.Setting("presence", "all")
	if !news || want == "none" {
		return
	}
	if want == "all" {
		s.note(s.panes[0], note(at, k, words))
	}
	for _, p := range s.panes[1:] {
		in := p.name == "@"+e.User || slices.Contains(p.members, e.User)
		if in && (want == "all" || now.Sub(p.spoke[e.User]) < spokeLately) {
			s.note(p, note(at, k, words))
		}
	}
}

func (s *Screen) renamed(at time.Time, e chat.Renamed, k theme.Kind, words string) {
	if old, ok := s.was[e.Old]; ok {
		delete(s.was, e.Old)
		s.was[e.New] = old
	} else {
		s.was[e.New] = e.Old
	}
	for _, p := range s.panes {
		if p.name == "@"+e.Old {
			p.name = "@" + e.New
		}
		for _, list := range [][]string{p.members, p.admins} {
			if i := slices.Index(list, e.Old); i >= 0 {
				list[i] = e.New
			}
		}
		if p.name == "" || p.name == "@"+e.New || slices.Contains(p.members, e.New) {
			s.note(p, note(at, k, words))
		}
	}
}

func (s *Screen) room(now, at time.Time, e chat.Room, me string, k theme.Kind, words string) {
	mine := e.By == me && e.Whom == "" || e.Whom == me
	switch e.Cause {
	case "left", "kicked", "banned":
		if mine {
			s.drop(now, e.Chat)
			s.note(s.panes[0], note(at, k, words))
			if s.current != s.panes[0] {
				s.note(s.current, note(at, k, words))
			}
			return
		}
	}
	if old := s.known(e.Was); old != nil && e.Cause == "renamed" && s.known(e.Chat) == nil {
		old.name = e.Chat
	}
	p := s.pane(e.Chat)
	p.topic, p.private = e.Topic, e.Private
	p.members, p.admins = slices.Clone(e.Members), slices.Clone(e.Admins)
	if e.Cause == "restored" {
		return // the topic line says it
	}
	if mine && (e.Cause == "created" || e.Cause == "joined") {
		s.enter(now, p)
	}
	s.note(p, note(at, k, words))
}

func (s *Screen) message(now, at time.Time, e chat.Message, me string) {
	p := s.pane(e.Chat)
	if e.Edited {
		if old := p.find(e.ID); old != nil {
			old.change(e.Text, view.Marks(e), e.Links)
			return
		}
	}
	m := speech(at, e.Text)
	m.id, m.from, m.action, m.fast, m.links = e.ID, e.From, e.Action, e.Mode == chat.Fast.String(), e.Links
	m.marks, m.on = view.Marks(e), s.answers(p, nil, e.ReplyTo)
	if m.own = e.From == me; m.own { // written on another device
		s.add(p, m)
		return
	}
	m.mention = strings.HasPrefix(e.Chat, "#") && chat.Mentions(e.Text, me)
	if p.unread == 0 && p.unreadAt == nil && (p != s.current || !s.looking()) {
		p.unreadAt = m
	}
	s.add(p, m)
	if p.spoke == nil {
		p.spoke = map[string]time.Time{}
	}
	p.spoke[e.From] = now
	p.unread++
	if m.mention {
		p.mentions++
	}
}

// sent takes a message of one's own that is stored: typed here, or by another
// face of this node.
func (s *Screen) sent(at time.Time, e chat.Sent) {
	a := s.refs[e.Ref]
	delete(s.refs, e.Ref)
	var m *entry
	p := s.pane(e.Chat)
	if e.Edits != "" {
		if old := p.find(e.Edits); old != nil {
			old.change(e.Text, view.Marks(chat.Message{Edited: true, Deleted: e.Text == ""}), e.Links)
		}
		s.note(p, note(at, theme.Quiet, view.Changed(e.Was, e.Text)))
		return
	}
	if a != nil && a.entry != nil {
		m = a.entry
	} else if p.find(e.ID) == nil {
		m = speech(at, e.Text)
		m.own, m.action = true, e.Action
		s.add(p, m)
	}
	if a != nil && a.pane != nil && a.pane != p {
		s.note(a.pane, note(at, theme.Quiet, "sent to "+view.One(e.Chat)+": "+view.One(e.Text)))
	}
	if m == nil {
		return
	}
	m.id, m.fast, m.online, m.links = e.ID, e.Mode == chat.Fast.String(), e.Online, e.Links
	m.on = s.answers(p, nil, e.ReplyTo)
	m.state = sent
	m.forget()
	if !m.fast {
		p.waiting = append(p.waiting, m)
	}
}

// answers says which message, of those a chat shows or of others, one answers.
func (s *Screen) answers(p *pane, others []*entry, id string) string {
	if id == "" {
		return ""
	}
	m := p.find(id)
	if m == nil {
		m = (&pane{entries: others}).find(id)
	}
	switch {
	case m == nil:
		return view.OnEarlier
	case m.own:
		return view.On("you", m.text)
	}
	return view.On(view.Name(m.from), m.text)
}

func (s *Screen) gap(at time.Time, e chat.Gap, k theme.Kind, words string) {
	p := s.pane(e.Chat)
	if e.Mode == chat.Fast.String() { // nothing heals
		s.note(p, note(at, k, words))
		return
	}
	if p.gaps == nil {
		p.gaps = map[string]uint64{}
	}
	p.gaps[e.From] = e.Missing
	if e.Healed {
		delete(p.gaps, e.From)
		// The line that told of it heals with it.
		for _, old := range slices.Backward(p.entries) {
			if old.line && old.from == e.From && old.kind == theme.Trouble {
				old.kind, old.text, old.from = k, words, ""
				old.forget()
				return
			}
		}
	}
	line := note(at, k, words)
	line.from = e.From
	s.note(p, line)
}

func (s *Screen) notice(now, at time.Time, e chat.Notice, k theme.Kind, words string) {
	a := s.refs[e.Ref]
	delete(s.refs, e.Ref)
	p := s.current
	if a != nil && a.pane != nil {
		p = a.pane
	}
	quiet := a != nil && a.pane == nil // asked by the screen itself
	switch data := e.Data.(type) {
	case []chat.Setting:
		for _, p := range s.panes {
			p.forget() // links may have numbers now, or none
		}
		if look := s.model.Setting("theme", "auto"); look != s.look {
			s.look = look
			s.dress()
		}
	case []chat.Summary:
		s.chats(now, data)
	case []chat.Past:
		if e.Code == "history" && a != nil && a.page {
			s.page(now, p, data)
			return
		}
	case chat.ModeReport:
		p := s.pane(data.Chat)
		p.mode, p.report = data.Mode, data
	case chat.Opening:
		s.prompt = prompt{kind: askOpen, question: e.Text + " y/n", value: data.URL}
		return
	case string:
		if e.Code == "current" {
			s.enter(now, s.pane(data))
			return
		}
	case map[string]any:
		if q, _ := data["chat"].(string); q != "" {
			p := s.pane(q)
			if mode, ok := data["mode"].(string); ok {
				p.mode = mode
			}
			if muted, ok := data["muted"].(bool); ok {
				p.muted = muted
			}
			if data["read"] == true && p != s.current {
				p.unread, p.mentions = 0, 0
			}
		}
	}
	if e.Code == "clear" {
		p.entries, p.waiting, p.scroll, p.unreadAt = nil, nil, 0, nil
		p.pages = more
		return
	}
	if quiet {
		return
	}
	if e.Code == "help" && strings.Contains(words, "\n//") || e.Code == "help" && strings.Count(words, "\n") > 5 {
		words += "\n" + keysHelp
	}
	s.note(p, note(at, k, words))
}

// chats makes the list of chats as the core has them.
func (s *Screen) chats(now time.Time, list []chat.Summary) {
	var first *pane
	for _, c := range list {
		p := s.pane(c.Chat)
		p.mode, p.notify, p.muted = c.Mode, c.Notify, c.Muted
		if p.unread == 0 {
			p.unread = c.Unread
		}
		if first == nil || first.unread == 0 && p.unread > 0 {
			first = p
		}
	}
	if s.current == s.panes[0] && first != nil && len(s.panes[0].entries) <= 2 {
		s.enter(now, first)
	}
}

// page puts a page of the history in front of what a chat shows.
func (s *Screen) page(now time.Time, p *pane, found []chat.Past) {
	have := map[string]bool{}
	for _, e := range p.entries {
		have[e.id] = true
	}
	var older []*entry
	for _, f := range found {
		if have[f.ID] {
			continue
		}
		m := speech(f.At, f.Text)
		m.marks, m.on = view.Marks(chat.Message{Edited: f.Edited, Deleted: f.Deleted}), s.answers(p, older, f.ReplyTo)
		m.links = f.Links
		m.id, m.from, m.own, m.action, m.fast = f.ID, f.From, f.Own || f.From == s.model.Self(), f.Action, f.Mode == chat.Fast.String()
		m.mention = !m.own && strings.HasPrefix(f.Chat, "#") && chat.Mentions(f.Text, s.model.Self())
		if !f.Read && !m.own {
			if p.unreadAt == nil || p.unreadAt.at.After(m.at) {
				p.unreadAt = m
			}
			if m.mention && p != s.current {
				p.mentions++
			}
		}
		older = append(older, m)
	}
	p.pages = more
	if len(older) == 0 {
		p.pages = whole
	}
	p.entries = append(older, p.entries...)
	if s.find != "" && p == s.current && s.prompt.kind == askFind {
		s.search()
	}
}

func (s *Screen) refused(at time.Time, e chat.Error, k theme.Kind, words string) {
	a := s.refs[e.Ref]
	delete(s.refs, e.Ref)
	p := s.current
	switch {
	case a == nil:
		s.note(s.panes[0], note(at, k, words))
	case a.pane == nil:
		return // the screen's own question
	default:
		p = a.pane
	}
	if a != nil && a.page {
		p.pages = whole
		return
	}
	if a != nil && a.entry != nil {
		a.entry.state = failed
		a.entry.forget()
	}
	if a == nil && p == s.panes[0] {
		return
	}
	s.note(p, note(at, k, words))
}

// people returns whom the members' list shows: those in the room, or those one
// writes with, or everybody.
func (s *Screen) people(p *pane) []string {
	switch {
	case strings.HasPrefix(p.name, "#"):
		return p.members
	case p.name != "":
		return []string{p.name[1:]}
	}
	return s.model.Users()
}

// called returns what a person is called, with the name before.
func (s *Screen) called(user string) string {
	name := view.Name(user)
	if was := s.was[user]; was != "" {
		name += " (was " + view.Name(was) + ")"
	}
	return name
}

// standing says how a chat stands, for its topic line.
func (s *Screen) standing(p *pane) string {
	if p.name == "" {
		me := s.model.Self()
		if me == "" {
			return "lanchat"
		}
		return fmt.Sprintf("you are %s on %s (fingerprint %s)", view.Name(me), view.One(s.self.Realm), view.One(s.self.Fingerprint))
	}
	parts := []string{p.mode}
	if p.private {
		parts = append(parts, "private")
	}
	if p.muted {
		parts = append(parts, "muted")
	} else if p.notify != "" && p.notify != chat.NotifyAll.String() {
		parts = append(parts, "rings: "+p.notify)
	}
	if strings.HasPrefix(p.name, "#") {
		here := 0
		for _, m := range p.members {
			if m == s.model.Self() || s.model.Presence(m) != "" {
				here++
			}
		}
		parts = append(parts, fmt.Sprintf("%d of %d here", here, len(p.members)))
	} else {
		user := p.name[1:]
		state := s.model.Presence(user)
		if state == "" {
			state = "not here; reliable messages wait"
		} else if via := s.via[user]; len(via) > 0 {
			state += " by " + strings.Join(via, ", ")
		}
		parts = append(parts, state)
	}
	var missing uint64
	for _, n := range p.gaps {
		missing += n
	}
	if r := p.report; r.Loss > 0 || r.LossOut > 0 || r.Repairs > 0 {
		parts = append(parts, fmt.Sprintf("loss %.1f %% in, %.1f %% out, %d repaired", r.Loss, r.LossOut, r.Repairs))
	}
	if missing > 0 {
		parts = append(parts, fmt.Sprintf("%d missing", missing))
	}
	if p.topic != "" {
		parts = append(parts, view.One(p.topic))
	}
	name := view.One(p.name)
	if strings.HasPrefix(p.name, "@") {
		name = "@" + s.called(p.name[1:])
	}
	return clean.Line(name+" · "+strings.Join(parts, " · "), 0)
}
