package view

import (
	"encoding/base64"
	"strings"

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

// An Alert is what a notification says, fit for a [Notifier].
type Alert struct{ Title, Text string }

// AlertOf returns the alert for a message in a chat. from is "" where the message
// is not at hand; text is told only with content.
func AlertOf(place, from, text string, content bool) Alert {
	a := Alert{"lanchat: " + place, "a new message"}
	switch {
	case from == "":
	case content:
		a.Text = Name(from) + ": " + text
	default:
		a.Text = Name(from) + " wrote"
	}
	return Alert{harmless(a.Title), harmless(a.Text)}
}
