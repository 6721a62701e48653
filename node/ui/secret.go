package ui

import (
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"lanchat/node/ui/view"
	"lanchat/wire/clean"
)

// A Meter judges a new password: zxcvbn's score, 0 to 4, and what would make
// the password better.
type Meter func(password string) (score int, advice string)

// A secret is a line that is typed without being shown, on a terminal in raw
// mode. With a meter it says at every key how good it is as a password:
//
//	New password: [###-] good
//
// What is typed is edited by Backspace, Ctrl+W and Ctrl+U alone.
type secret struct {
	question string
	out      io.Writer
	meter    Meter // nil: none

	mu    sync.Mutex // around what follows, and out
	text  []byte
	ended bool
}

const (
	ctrlD     = 0x04
	ctrlH     = 0x08
	ctrlU     = 0x15
	ctrlW     = 0x17
	escape    = 0x1b
	backspace = 0x7f
)

// maxSecret is the longest line kept, in bytes; what is typed beyond it is
// dropped. It is longer than any password may be, so that one that is too long
// is refused rather than cut.
const maxSecret = 1024

// read reads the line from in, a byte at a time: what is typed ahead belongs to
// whoever reads next. Ctrl+C gives [ErrQuit], Ctrl+D on an empty line io.EOF.
func (s *secret) read(in io.Reader) (string, error) {
	s.draw()
	var b [1]byte
	var keys escapes
	for {
		n, err := in.Read(b[:])
		if n == 0 && err == nil {
			continue
		}
		if err != nil {
			s.end()
			return "", err
		}
		if keys.skip(b[0]) {
			continue
		}
		switch c := b[0]; c {
		case ctrlC, keyInterrupt:
			s.end()
			return "", ErrQuit
		case ctrlD:
			if len(s.text) == 0 {
				s.end()
				return "", io.EOF
			}
		case '\r', '\n':
			s.end()
			return string(s.text), nil
		default:
			s.key(c)
		}
	}
}

// key edits the line.
func (s *secret) key(c byte) {
	s.mu.Lock()
	switch {
	case c == backspace, c == ctrlH:
		if len(s.text) > 0 {
			_, n := utf8.DecodeLastRune(s.text)
			s.text = s.text[:len(s.text)-n]
		}
	case c == ctrlU, c == ctrlW: // there are no words in what is not seen
		s.text = s.text[:0]
	case c < ' ':
		s.mu.Unlock()
		return
	case len(s.text) < maxSecret:
		s.text = append(s.text, c)
	}
	whole := len(s.text) == 0 || utf8.Valid(s.text)
	s.mu.Unlock()
	if s.meter != nil && whole { // not in the middle of a character
		s.draw()
	}
}

// draw draws the line anew.
func (s *secret) draw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	io.WriteString(s.out, s.line())
}

// over writes finished lines above the secret one, unless that has ended.
func (s *secret) over(b []byte) (ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false, nil
	}
	_, err = s.out.Write([]byte("\r\x1b[K" + strings.ReplaceAll(string(b), "\n", "\r\n") + s.line()))
	return true, err
}

func (s *secret) line() string {
	if s.meter == nil {
		return clean.Line(s.question, 0) + ": "
	}
	bar := ""
	if len(s.text) > 0 {
		score, _ := s.meter(string(s.text))
		bar = view.StrengthBar(score)
	}
	return "\r\x1b[K" + clean.Line(s.question, 0) + ": " + bar
}

func (s *secret) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		io.WriteString(s.out, "\r\n")
	}
}

// escapes leaves out the escape sequences that keys such as the arrows send,
// and the marks of a paste: ESC, then [ or O and what follows to a letter or ~.
type escapes struct{ state byte }

// skip reports whether c belongs to a sequence.
func (e *escapes) skip(c byte) bool {
	switch {
	case c == escape:
		e.state = escape
	case e.state == escape && (c == '[' || c == 'O'):
		e.state = '['
	case e.state == '[':
		if c >= 0x40 && c <= 0x7e {
			e.state = 0
		}
	case e.state == escape: // ESC and a key: the key alone
		e.state = 0
		return false
	default:
		return false
	}
	return true
}
