package ui

import (
	"bytes"
	"io"
	"unicode/utf8"

	"lanchat/wire/clean"
)

const (
	ctrlC = 0x03

	// keyInterrupt is what keys turns Ctrl+C into: the editor would take
	// Ctrl+C for the end of the input, this (Ctrl+]) it offers to its
	// callback.
	keyInterrupt = 0x1d

	// newline stands for a line end in a pasted text while it is edited: the
	// editor knows single lines only, and pasted text must not send itself.
	newline = '␤'
)

// The terminal is told to say when the person looks at it, and when elsewhere.
const (
	focusOn  = "\x1b[?1004h"
	focusOff = "\x1b[?1004l"
)

var (
	pasteStart = []byte("\x1b[200~")
	pasteEnd   = []byte("\x1b[201~")
	focusIn    = []byte("\x1b[I")
	focusOut   = []byte("\x1b[O")
)

// keys stands between the terminal and the line editor. It makes Ctrl+C a
// key like others and pasted text one line without control characters, so
// that nothing pasted is run before the person pressed Enter, and nothing of
// it steers the terminal when the editor echoes it.
type keys struct {
	r     io.Reader
	in    []byte // not yet understood
	out   []byte // for the editor
	err   error  // of r, for when out is empty
	paste bool
	cr    bool // the last thing pasted was \r: a \n now belongs to it
	ends  int  // line ends pasted that nothing followed yet
	quit  func() bool
	focus func(in bool)
}

// Read gives the editor its next bytes, io.EOF once quit says so.
func (k *keys) Read(p []byte) (int, error) {
	for len(k.out) == 0 {
		if k.quit() {
			return 0, io.EOF
		}
		if k.err != nil {
			return 0, k.err
		}
		var buf [1024]byte
		n, err := k.r.Read(buf[:])
		k.in = append(k.in, buf[:n]...)
		k.err = err
		k.translate()
	}
	// No further than a line: the editor would keep what follows, and it may be
	// a password that is for somebody else to read.
	n := copy(p, k.out)
	if i := bytes.IndexByte(p[:n], '\r'); i >= 0 {
		n = i + 1
	}
	k.out = k.out[n:]
	return n, nil
}

// translate moves what can be understood from in to out.
func (k *keys) translate() {
	for len(k.in) > 0 {
		mark := pasteStart
		if k.paste {
			mark = pasteEnd
		}
		if bytes.HasPrefix(k.in, mark) {
			k.in = k.in[len(mark):]
			k.paste, k.ends, k.cr = !k.paste, 0, false // line ends at the end of a paste are nobody's
			k.out = append(k.out, mark...)
			continue
		}
		if in := bytes.HasPrefix(k.in, focusIn); !k.paste && (in || bytes.HasPrefix(k.in, focusOut)) {
			k.in = k.in[len(focusIn):]
			k.focus(in)
			continue
		}
		if bytes.HasPrefix(mark, k.in) || bytes.HasPrefix(focusIn, k.in) {
			return // perhaps the rest of the mark comes
		}
		if !utf8.FullRune(k.in) {
			return
		}
		r, n := utf8.DecodeRune(k.in)
		k.in = k.in[n:]
		if k.paste {
			k.pasted(r)
		} else {
			k.typed(r)
		}
	}
}

func (k *keys) typed(r rune) {
	switch {
	case r == ctrlC:
		k.out = append(k.out, keyInterrupt)
	case r == keyInterrupt:
	case r < 0x80, !clean.Forbidden(r):
		k.out = utf8.AppendRune(k.out, r)
	}
}

func (k *keys) pasted(r rune) {
	switch {
	case r == '\n' && k.cr:
		k.cr = false
		return
	case r == '\r', r == '\n':
		k.cr = r == '\r'
		k.ends++
		return
	case r == '\t':
		k.pasted(' ')
		k.pasted(' ')
		k.pasted(' ')
		r = ' '
	case clean.Forbidden(r):
		return
	}
	k.cr = false
	for ; k.ends > 0; k.ends-- {
		k.out = utf8.AppendRune(k.out, newline)
	}
	k.out = utf8.AppendRune(k.out, r)
}
