package screen

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"lanchat/node/chat"
	"lanchat/node/ui/view"
	"lanchat/wire/clean"
)

// A Notifier makes the escape sequence by which a terminal is asked to show a
// notification; nil: it knows none. title and text have been cleaned, are short
// and have no semicolon.
type Notifier func(title, text string) string

// NotifierOf returns how the terminal that the environment names is asked: OSC
// 99 (kitty), 777 (foot, urxvt, Ghostty, WezTerm) or 9 (iTerm2, Windows
// Terminal and others), through tmux where that is between.
func NotifierOf(getenv func(string) string) Notifier {
	term, program := getenv("TERM"), getenv("TERM_PROGRAM")
	var n Notifier
	switch {
	case strings.Contains(term, "kitty"):
		n = func(title, text string) string {
			e := base64.StdEncoding.EncodeToString
			return "\x1b]99;i=lanchat:d=0:e=1;" + e([]byte(title)) + "\x1b\\\x1b]99;i=lanchat:p=body:e=1;" + e([]byte(text)) + "\x1b\\"
		}
	case strings.Contains(term, "foot"), strings.Contains(term, "rxvt"), strings.Contains(term, "ghostty"), program == "WezTerm", program == "ghostty":
		n = func(title, text string) string { return "\x1b]777;notify;" + title + ";" + text + "\x1b\\" }
	case program == "iTerm.app", getenv("WT_SESSION") != "", program == "vscode":
		n = func(title, text string) string { return "\x1b]9;" + title + ": " + text + "\x1b\\" }
	default:
		return nil
	}
	if getenv("TMUX") == "" {
		return n
	}
	return func(title, text string) string {
		return "\x1bPtmux;" + strings.ReplaceAll(n(title, text), "\x1b", "\x1b\x1b") + "\x1b\\"
	}
}

const maxAlert = 160 // bytes of a notification's text

// harmless makes text fit for a notification.
func harmless(text string) string {
	return strings.ReplaceAll(clean.Line(text, maxAlert), ";", ",")
}

// ring tells of a message that rings, unless the person looks at it. The core
// rings for nothing replayed, muted or ignored, and not at hours of rest.
func (s *Screen) ring(now time.Time, e chat.Notify) {
	p := s.known(e.Chat)
	if p == nil || s.focus == focused || s.focus == unknown && p == s.current {
		return
	}
	if s.setting("bell", "on") == "on" {
		s.work.Raw += "\a"
	}
	if s.cfg.Notifier == nil || s.setting("desktop", "on") == "off" {
		return
	}
	title, text := "lanchat: "+p.name, "a new message"
	if m := p.find(e.ID); m != nil {
		text = view.Name(m.from) + " wrote"
		if s.setting("content", "show") == "show" {
			text = view.Name(m.from) + ": " + m.text
		}
	}
	s.work.Raw += s.cfg.Notifier(harmless(title), harmless(text))
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
