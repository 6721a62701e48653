package screen

import (
	"strings"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"lanchat/node/markup"
	"lanchat/wire/clean"
)

const (
	maxInput   = 64 << 10 // bytes of a text being typed
	maxHistory = 500      // texts typed before
)

// An input is the text being typed, as signs: what the cursor takes for one
// character, whatever it is made of.
type input struct {
	signs  []string
	pos    int    // the sign the cursor stands before
	killed string // by Ctrl+K, U or W, for Ctrl+Y

	past  []string // texts sent before, oldest first
	at    int      // which of past is shown; len(past): none
	draft string   // what was typed before looking at past
}

func signsOf(s string) (signs []string) {
	for s != "" {
		sign, _ := ansi.FirstGraphemeCluster(s, ansi.GraphemeWidth)
		if sign == "" {
			sign = s
		}
		signs = append(signs, sign)
		s = s[len(sign):]
	}
	return signs
}

func (in *input) text() string { return strings.Join(in.signs, "") }

// before returns the text in front of the cursor.
func (in *input) before() string { return strings.Join(in.signs[:in.pos], "") }

func (in *input) set(text string, bytePos int) {
	in.signs = signsOf(text)
	in.pos = len(signsOf(text[:bytePos]))
}

// insert puts text in at the cursor. Signs are counted anew: a combining mark
// belongs to what it was typed behind.
func (in *input) insert(text string) {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	before, after := in.before(), strings.Join(in.signs[in.pos:], "")
	if len(before)+len(after)+len(text) > maxInput {
		return
	}
	before = clean.Text(before+text, 0)
	in.signs = signsOf(before + after)
	in.pos = len(signsOf(before))
}

// delete removes the signs from a up to b.
func (in *input) delete(a, b int) {
	a, b = max(0, a), min(len(in.signs), b)
	if a < b {
		in.signs = append(in.signs[:a:a], in.signs[b:]...)
		in.pos = a
	}
}

// kill is delete that Ctrl+Y takes back.
func (in *input) kill(a, b int) {
	a, b = max(0, a), min(len(in.signs), b)
	if a < b {
		in.killed = strings.Join(in.signs[a:b], "")
		in.delete(a, b)
	}
}

func isSpace(sign string) bool { return strings.TrimFunc(sign, unicode.IsSpace) == "" }

// wordLeft returns where the word before the cursor begins.
func (in *input) wordLeft() int {
	i := in.pos
	for i > 0 && isSpace(in.signs[i-1]) {
		i--
	}
	for i > 0 && !isSpace(in.signs[i-1]) {
		i--
	}
	return i
}

// wordRight returns where the word behind the cursor ends.
func (in *input) wordRight() int {
	i := in.pos
	for i < len(in.signs) && isSpace(in.signs[i]) {
		i++
	}
	for i < len(in.signs) && !isSpace(in.signs[i]) {
		i++
	}
	return i
}

// lineStart and lineEnd bound the line the cursor is in.
func (in *input) lineStart() int {
	i := in.pos
	for i > 0 && in.signs[i-1] != "\n" {
		i--
	}
	return i
}

func (in *input) lineEnd() int {
	i := in.pos
	for i < len(in.signs) && in.signs[i] != "\n" {
		i++
	}
	return i
}

// upDown moves the cursor to the line above or below; false: there is none.
func (in *input) upDown(down bool) bool {
	start, end := in.lineStart(), in.lineEnd()
	column := in.pos - start
	if down {
		if end == len(in.signs) {
			return false
		}
		in.pos = end + 1
	} else {
		if start == 0 {
			return false
		}
		in.pos = start - 1
		in.pos = in.lineStart()
	}
	in.pos = min(in.pos+column, in.lineEnd())
	return true
}

// edit does what a key means to readline; false: nothing.
func (in *input) edit(key string) bool {
	switch key {
	case "left", "ctrl+b":
		in.pos = max(0, in.pos-1)
	case "right":
		in.pos = min(len(in.signs), in.pos+1)
	case "alt+b", "ctrl+left", "alt+left":
		in.pos = in.wordLeft()
	case "alt+f", "ctrl+right", "alt+right":
		in.pos = in.wordRight()
	case "home", "ctrl+a":
		in.pos = in.lineStart()
	case "end", "ctrl+e":
		in.pos = in.lineEnd()
	case "backspace", "ctrl+h":
		in.delete(in.pos-1, in.pos)
	case "delete", "ctrl+d":
		in.delete(in.pos, in.pos+1)
	case "ctrl+k":
		in.kill(in.pos, in.lineEnd())
	case "ctrl+u":
		in.kill(in.lineStart(), in.pos)
	case "ctrl+w", "alt+backspace", "ctrl+backspace":
		in.kill(in.wordLeft(), in.pos)
	case "alt+d":
		in.kill(in.pos, in.wordRight())
	case "ctrl+y":
		in.insert(in.killed)
	case "ctrl+t":
		if in.pos > 0 && len(in.signs) > 1 {
			i := min(in.pos, len(in.signs)-1)
			in.signs[i-1], in.signs[i] = in.signs[i], in.signs[i-1]
			in.pos = i + 1
		}
	case "alt+enter", "ctrl+j", "shift+enter":
		in.insert("\n")
	case "up":
		if !in.upDown(false) {
			in.recall(-1)
		}
	case "down":
		if !in.upDown(true) {
			in.recall(1)
		}
	default:
		return false
	}
	return true
}

// recall shows a text typed before.
func (in *input) recall(step int) {
	if in.at == len(in.past) {
		in.draft = in.text()
	}
	at := in.at + step
	if at < 0 || at > len(in.past) {
		return
	}
	in.at = at
	text := in.draft
	if at < len(in.past) {
		text = in.past[at]
	}
	in.set(text, len(text))
}

// take returns what was typed and begins anew.
func (in *input) take() string {
	text := in.text()
	in.clear()
	if text != "" && (len(in.past) == 0 || in.past[len(in.past)-1] != text) {
		in.past = append(in.past, text)
		if len(in.past) > maxHistory {
			in.past = in.past[1:]
		}
	}
	in.at = len(in.past)
	return text
}

func (in *input) clear() { in.signs, in.pos, in.at = nil, 0, len(in.past) }

// found returns the newest text typed before at that has word in it, and where
// it stands; -1 if there is none.
func (in *input) found(word string, before int) int {
	for i := min(before, len(in.past)) - 1; i >= 0; i-- {
		if strings.Contains(strings.ToLower(in.past[i]), strings.ToLower(word)) {
			return i
		}
	}
	return -1
}

// rows breaks the text into rows of width columns, and says in which row and
// column the cursor stands. first is what the first row has less.
func (in *input) rows(width, first int) (rows []string, y, x int) {
	used := first
	row := ""
	next := func() { rows, row, used = append(rows, row), "", 0 }
	for i, sign := range in.signs {
		n := markup.Cells(sign)
		if sign != "\n" && used+n > width && used > 0 {
			next()
		}
		if i == in.pos {
			y, x = len(rows), used
		}
		if sign == "\n" {
			next()
			continue
		}
		row, used = row+sign, used+n
	}
	if in.pos == len(in.signs) {
		if used >= width {
			next()
		}
		y, x = len(rows), used
	}
	return append(rows, row), y, x
}
