package screen

import (
	"fmt"

	"lanchat/node/chat"
	"lanchat/node/ui/view"
)

// ring tells of a message that rings, unless the person looks at it. The core
// rings for nothing replayed, muted or ignored, and not at hours of rest.
func (s *Screen) ring(e chat.Notify) {
	p := s.known(e.Chat)
	if p == nil || s.focus == focused || s.focus == unknown && p == s.current {
		return
	}
	if s.model.Setting("bell", "on") == "on" {
		s.work.Raw += "\a"
	}
	from, text := "", ""
	if m := p.find(e.ID); m != nil {
		from, text = m.from, m.text
	}
	alert := view.AlertOf(p.name, from, text, s.model.Setting("content", "show") == "show")
	switch desktop := s.model.Setting("desktop", "on"); {
	case desktop == "service":
		s.work.Alerts = append(s.work.Alerts, alert)
	case desktop == "on" && s.cfg.Notifier != nil:
		s.work.Raw += s.cfg.Notifier(alert.Title, alert.Text)
	}
}

// title is the window's: how many messages wait, and where one is.
func (s *Screen) title() string {
	unread, urgent := 0, 0
	for _, p := range s.panes {
		unread += p.unread
		if p.urgent() {
			urgent += p.unread
		} else {
			urgent += p.mentions
		}
	}
	t := "lanchat"
	if s.current.name != "" {
		t += " " + view.One(s.current.name)
	}
	switch {
	case urgent > 0:
		return fmt.Sprintf("(%d!) %s", unread, t)
	case unread > 0:
		return fmt.Sprintf("(%d) %s", unread, t)
	}
	return t
}
