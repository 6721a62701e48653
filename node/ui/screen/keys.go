package screen

import (
	"fmt"
	"strings"
	"time"

	"lanchat/node/chat"
	"lanchat/node/ui/theme"
	"lanchat/node/ui/view"
	"lanchat/wire/clean"
)

// keysHelp is what /help says of the full screen itself.
const keysHelp = `keys: Alt+1…9, Ctrl+N, Ctrl+P change the chat · Alt+A goes where something is new · PgUp, PgDn scroll, Alt+End goes to the end
Tab completes · up and down bring back what you typed, Ctrl+R searches it · Alt+Enter begins a new line · Ctrl+F finds in the chat
F7 hides the chats, F8 the people · Ctrl+L draws anew · Ctrl+C clears the line, twice it quits · Esc leaves a question, never the program
behind your messages: … being stored, → on its way, 2/3 who has it, ✓ all have it, ? not confirmed, ✗ refused · ~ is a fast one · !ann: ann means you`

// pasteAsk is from how many lines on a paste is asked about.
const pasteAsk = 5

// A prompt is a question that keys answer instead of going to the input.
type prompt struct {
	kind     ask
	question string
	value    string // what it is about
	typed    string // what to look for
	at       int    // of what was found in the texts typed before
	passwd   *chat.Passwd
}

type ask uint8

const (
	askNothing ask = iota
	askOpen        // y: open the link in value
	askPaste       // y: insert value
	askHistory     // look for a text typed before
	askFind        // look for words in the chat
	askPresent     // the present password
	askNew         // the new one
	askAgain       // and once more
)

// Key takes a key: its name as terminals' libraries have it ("ctrl+n", "enter",
// "a"), and the text it types, if any.
func (s *Screen) Key(now time.Time, name, text string) {
	if name != "ctrl+c" {
		s.quitBy = time.Time{}
	}
	if s.prompt.kind != askNothing && s.answer(now, name, text) {
		return
	}
	switch name {
	case "ctrl+c":
		switch {
		case len(s.input.signs) > 0:
			s.input.clear()
		case s.quitBy.IsZero():
			s.quitBy = now.Add(quitWithin)
		default:
			s.noteRead()
			s.work.Quit = true
		}
		return
	case "enter", "kpenter":
		s.submit(now)
	case "tab":
		s.complete(now)
	case "ctrl+n", "alt+down":
		s.step(now, 1)
	case "ctrl+p", "alt+up":
		s.step(now, -1)
	case "alt+a":
		s.active(now)
	case "pgup":
		s.scroll(now, s.messageHeight()-1)
	case "pgdown":
		s.scroll(now, 1-s.messageHeight())
	case "alt+end", "ctrl+end":
		s.scroll(now, -1<<30)
	case "alt+home", "ctrl+home":
		s.scroll(now, 1<<30)
	case "f1":
		s.ask("/help", &asked{pane: s.current})
	case "f7":
		s.hideChats = !s.hideChats
		s.Resize(s.width, s.height)
	case "f8":
		s.hideMembers = !s.hideMembers
		s.Resize(s.width, s.height)
	case "ctrl+l":
		s.work.Redraw = true
	case "ctrl+r":
		s.prompt = prompt{kind: askHistory, at: len(s.input.past)}
	case "ctrl+f":
		s.prompt = prompt{kind: askFind}
	case "esc":
	default:
		var n int
		if _, err := fmt.Sscanf(name, "alt+%d", &n); err == nil && len(name) == len("alt+1") {
			if n == 0 {
				n = 10
			}
			if n <= len(s.panes) {
				s.enter(now, s.panes[n-1])
			}
			return
		}
		if !s.input.edit(name) && text != "" {
			s.input.insert(text)
		}
	}
}

// answer takes a key for the question asked; false: the key means what it
// always does.
func (s *Screen) answer(now time.Time, name, text string) bool {
	p := s.prompt
	switch p.kind {
	case askOpen, askPaste:
		s.prompt = prompt{}
		if yes := name == "y" || name == "Y"; yes && p.kind == askOpen {
			s.work.Open = p.value
		} else if yes {
			s.input.insert(p.value)
		}
		return true
	case askPresent, askNew, askAgain:
		s.secret(now, name, text)
		return true
	}
	switch name {
	case "esc", "ctrl+g", "ctrl+c":
		s.prompt, s.find = prompt{}, ""
		return true
	case "backspace", "ctrl+h":
		signs := signsOf(p.typed)
		s.prompt.typed = strings.Join(signs[:max(0, len(signs)-1)], "")
		s.prompt.at = len(s.input.past)
		s.recallFound(len(s.input.past))
		return true
	case "enter":
		if p.kind == askHistory {
			s.prompt = prompt{}
			return true
		}
		s.find = p.typed
		s.search()
		return true
	case "ctrl+r":
		if p.kind == askHistory {
			s.recallFound(p.at)
			return true
		}
	case "ctrl+f":
		if p.kind == askFind {
			s.find = p.typed
			s.search()
			return true
		}
	case "pgup", "pgdown", "f1", "f7", "f8", "ctrl+l":
		return false
	default:
		if text != "" {
			s.prompt.typed += clean.Line(text, 200)
			if text == " " {
				s.prompt.typed += " "
			}
			s.prompt.question = ""
			s.recallFound(len(s.input.past))
			return true
		}
	}
	s.prompt = prompt{}
	return false
}

// recallFound shows the newest text typed before at that has what is looked for.
func (s *Screen) recallFound(before int) {
	if s.prompt.kind != askHistory || s.prompt.typed == "" {
		return
	}
	if i := s.input.found(s.prompt.typed, before); i >= 0 {
		s.prompt.at = i
		s.input.set(s.input.past[i], len(s.input.past[i]))
	}
}

// secret takes a key for a password, of which nothing is shown.
func (s *Screen) secret(now time.Time, name, text string) {
	p := &s.prompt
	switch name {
	case "esc", "ctrl+c", "ctrl+g":
		s.prompt = prompt{}
		s.note(s.current, note(now, theme.Notice, "your password stays as it is"))
	case "backspace", "ctrl+h":
		signs := signsOf(p.typed)
		p.typed = strings.Join(signs[:max(0, len(signs)-1)], "")
	case "ctrl+u", "ctrl+w":
		p.typed = ""
	case "enter":
		typed := p.typed
		p.typed, p.question = "", ""
		switch p.kind {
		case askPresent:
			p.passwd.Present, p.kind = typed, askNew
		case askNew:
			if score, advice := s.cfg.Meter(typed); view.Weak(score, advice) {
				p.question = view.StrengthWords(score, advice) + "; another one. "
				return
			}
			p.passwd.New, p.kind = typed, askAgain
		case askAgain:
			if typed != p.passwd.New {
				p.kind, p.question = askNew, "the two differ. "
				return
			}
			s.do(chat.Command{Passwd: p.passwd}, &asked{pane: s.current})
			s.prompt = prompt{}
		}
	default:
		if len(p.typed) < 1024 {
			p.typed += text
		}
	}
}

// secretWords asks for a password.
func (s *Screen) secretWords() string {
	switch s.prompt.kind {
	case askPresent:
		return "present password, which is not shown; Esc leaves it as it is"
	case askAgain:
		return s.prompt.question + "the new password once more"
	}
	words := s.prompt.question + "new password: "
	if s.prompt.typed == "" {
		return words
	}
	score, _ := s.cfg.Meter(s.prompt.typed)
	return words + view.StrengthBar(score)
}

// Paste takes what was pasted: nothing of it is run before Enter, and a long
// one is asked about.
func (s *Screen) Paste(text string) {
	text = strings.TrimRight(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n"), "\n")
	text = clean.Text(text, maxInput)
	if s.prompt.kind >= askHistory {
		s.prompt.typed += clean.Line(text, 200)
		return
	}
	if lines := strings.Count(text, "\n") + 1; lines >= pasteAsk {
		s.prompt = prompt{kind: askPaste, question: fmt.Sprintf("paste %d lines, %d bytes? y/n", lines, len(text)), value: text}
		return
	}
	s.input.insert(text)
}

// submit does what was typed.
func (s *Screen) submit(now time.Time) {
	text := s.input.take()
	p := s.current
	if strings.TrimSpace(text) == "" {
		return
	}
	command := strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//")
	if p.name == "" && !command {
		words := "this page is the program's own: choose a chat with Alt+2, or type /join #room, /msg user text"
		if len(s.panes) == 1 {
			words = "there is no chat yet to say that in: type /create #room, /join #room or /msg user text"
		}
		s.note(p, note(now, theme.Error, words))
		return
	}
	p.scroll = 0
	if name, args := chat.CommandOf(text); name == "passwd" && s.cfg.Meter != nil && (len(args) == 0 || len(args) == 1 && args[0] == "--sign-out-others") {
		s.prompt = prompt{kind: askPresent, passwd: &chat.Passwd{SignOut: len(args) == 1}}
		return
	}
	a := &asked{pane: p}
	if !command {
		e := speech(now, strings.TrimPrefix(text, "/"))
		if strings.HasPrefix(text, "//") {
			e.text = clean.Text(text[1:], 0)
		}
		e.own, e.state, e.fast = true, sending, p.mode == chat.Fast.String()
		p.unreadAt = nil
		s.add(p, e)
		a.entry = e
	}
	s.do(chat.Command{Line: text, Chat: p.name}, a)
}

// complete extends the word at the cursor.
func (s *Screen) complete(now time.Time) {
	line, pos, choices := s.model.Complete(s.cfg.Commands, s.input.text(), len(s.input.before()))
	s.input.set(line, pos)
	if len(choices) > 0 {
		s.note(s.current, note(now, theme.Quiet, strings.Join(choices, "  ")))
	}
}

// scroll moves the view up by rows, or down.
func (s *Screen) scroll(now time.Time, rows int) {
	p := s.current
	height, width := s.messageHeight(), s.messageWidth()
	total := 0
	for i := range p.entries {
		total += s.rowsOf(p, i, width)
	}
	top := max(0, total-height)
	want := p.scroll + rows
	p.scroll = min(max(0, want), top)
	if want >= top {
		s.older(p)
	}
	s.seen(now)
}

// search goes to the next message further up that has what is looked for.
func (s *Screen) search() {
	p := s.current
	if s.find == "" {
		return
	}
	word := strings.ToLower(s.find)
	below := 0 // rows under the entry
	height, width := s.messageHeight(), s.messageWidth()
	for i := len(p.entries) - 1; i >= 0; i-- {
		e := p.entries[i]
		below += s.rowsOf(p, i, width)
		// Only what stands above the middle of the view was not found before.
		if below <= p.scroll+height/2+1 && (p.scroll > 0 || s.prompt.at != 0) {
			continue
		}
		if !e.line && strings.Contains(strings.ToLower(e.text), word) {
			p.scroll = max(0, below-height/2-1)
			s.prompt.at = 1
			s.prompt.question = "found in what " + view.Name(e.from) + " wrote; Enter finds the next"
			if e.own {
				s.prompt.question = "found in what you wrote; Enter finds the next"
			}
			return
		}
	}
	s.prompt.question = "not found further up"
	if p.pages == more {
		s.prompt.question = "looking in the history"
		s.older(p)
	}
}

// Wheel scrolls.
func (s *Screen) Wheel(now time.Time, up bool) {
	if up {
		s.scroll(now, 3)
	} else {
		s.scroll(now, -3)
	}
}

// Click takes a click of the mouse: on a chat it enters that, on a person it
// begins to speak to them.
func (s *Screen) Click(now time.Time, x, y int) {
	l := s.layout()
	row := y - 1
	if row < 0 || row >= l.messages {
		return
	}
	switch {
	case l.chats > 0 && x < l.chats:
		if i := row + l.firstChat(s); i < len(s.panes) {
			s.enter(now, s.panes[i])
		}
	case l.members > 0 && x >= s.width-l.members:
		if people := s.people(s.current); row < len(people) {
			s.input.insert(people[row] + ": ")
		}
	}
}
