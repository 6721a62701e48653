// Package clean makes text that came from somebody else fit to be stored and
// drawn: what is left can neither steer a terminal nor hide in a line.
//
// Every string from the network passes it at the boundary, before it is
// stored: message bodies through [Text]; names, topics, reasons and
// everything else that stands on one line through [Line]. The faces call it
// again before they draw. Cleaning twice changes nothing.
//
// What goes: control characters (C0 except the line feed, DEL and the C1
// set, in which one rune can start an escape sequence), line and paragraph
// separators, the bidirectional controls, whatever is invisible, tags,
// private use, non-characters, and what the Unicode edition of the Go
// release does not know. Bytes that are not UTF-8 become U+FFFD.
//
// What stays in its place only: joiners and emoji presentation within an
// emoji, the two joiners between letters of scripts that are spelled with
// them (Persian, Sinhala, Hindi and their neighbours would be misspelled
// without), and at most [MaxMarks] combining marks on a base.
//
// It is not a policy for account names: those are ASCII.
package clean

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/rangetable"
)

// MaxMarks is how many combining marks a base may carry; more would climb
// into the lines above and below.
const MaxMarks = 4

const (
	zwnj   = '\u200c' // zero width non-joiner
	zwj    = '\u200d' // zero width joiner
	vs15   = '\ufe0e' // text presentation
	vs16   = '\ufe0f' // emoji presentation
	keycap = '\u20e3' // combining enclosing keycap
)

// Text returns a message body fit to be stored and drawn, at most max bytes
// of it (0: all), cut between characters. It may have several lines, parted
// by \n; a tab becomes four spaces, so that pasted code keeps its shape.
func Text(s string, max int) string {
	if plain(s) {
		if max > 0 && len(s) > max {
			s = s[:max]
		}
		return s
	}
	c := cleaner{max: max}
	c.out.Grow(len(s))
	for _, r := range s {
		if r == '\t' {
			for range 4 {
				c.add(' ')
			}
			continue
		}
		c.add(r)
	}
	return c.out.String()
}

// plain reports whether s is printable ASCII and line feeds: most text is,
// and is left as it stands.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 0x20 || c > 0x7e) && c != '\n' {
			return false
		}
	}
	return true
}

// Line returns s on one line, at most max bytes of it (0: all), cut between
// characters: line feeds, tabs and runs of white space become one space, and
// none is left at the ends.
func Line(s string, max int) string {
	c := cleaner{max: max}
	c.out.Grow(len(s))
	for _, r := range s {
		if r == '\n' || r == '\t' || unicode.Is(unicode.Z, r) {
			if c.last == 0 || c.last == ' ' {
				continue
			}
			r = ' '
		}
		c.add(r)
	}
	return strings.TrimRight(c.out.String(), " ")
}

// Forbidden reports whether r is never let through, wherever it stands.
func Forbidden(r rune) bool {
	switch {
	case r == '\n':
		return false
	case r < 0x20:
		return true
	case r < 0x7f:
		return false
	case r <= 0x9f: // DEL and C1
		return true
	case r == zwnj, r == zwj, r == vs15, r == vs16, r == utf8.RuneError:
		return false
	case unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
		return true
	case unicode.Is(unicode.Co, r), !unicode.Is(assigned, r):
		return true
	case unicode.Is(unicode.Cf, r):
		// All but the Arabic, Syriac and Kaithi number signs, which are seen.
		return !unicode.Is(unicode.Prepended_Concatenation_Mark, r)
	}
	// Hangul fillers, the grapheme joiner, variation selectors: letters and
	// marks that nobody sees.
	return unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) ||
		unicode.Is(unicode.Variation_Selector, r)
}

// assigned holds what the Unicode edition of the Go release knows; it is
// without the non-characters.
var assigned = rangetable.Assigned(unicode.Version)

// A cleaner takes runes one by one and writes those that may stay.
type cleaner struct {
	out     strings.Builder
	max     int  // bytes, 0: no limit
	full    bool // something did not fit: nothing more is written
	last    rune // last rune written, 0 at the start
	emoji   bool // what was written last is an emoji
	marks   int  // combining marks since the last base
	pending rune // a joiner or selector that waits for what follows; 0: none
}

// add writes r, or drops it, or remembers it until the next rune shows
// whether it has a place here.
func (c *cleaner) add(r rune) {
	if c.full || Forbidden(r) {
		return
	}
	switch r {
	case zwj, zwnj:
		if c.pending == 0 && (r == zwj && c.emoji || joining(c.last) != nil) {
			c.pending = r
		}
		return
	case vs15, vs16:
		switch {
		case c.pending != 0:
		case c.emoji && c.last != vs15 && c.last != vs16:
			c.write(r)
		case r == vs16 && isKeycapBase(c.last):
			c.pending = r
		}
		return
	}

	mark := unicode.Is(unicode.M, r)
	if mark && (c.marks >= MaxMarks || c.last == 0 || c.last == '\n') {
		return // no base, or too many on it
	}

	if p := c.pending; p != 0 {
		c.pending = 0
		var fits bool
		switch {
		case p == vs16:
			fits = r == keycap
		case c.emoji:
			fits = isEmoji(r)
		default:
			script := joining(c.last)
			fits = script != nil && unicode.Is(script, r)
		}
		if fits {
			if c.max > 0 && c.out.Len()+utf8.RuneLen(p)+utf8.RuneLen(r) > c.max {
				c.full = true
				return
			}
			c.write(p)
		}
	}
	if !c.write(r) {
		return
	}
	if mark {
		c.marks++
	} else {
		c.marks = 0
	}
	c.emoji = isEmoji(r) || r == keycap
}

// write appends r unless it does not fit any more.
func (c *cleaner) write(r rune) bool {
	if c.max > 0 && c.out.Len()+utf8.RuneLen(r) > c.max {
		c.full = true
		return false
	}
	c.out.WriteRune(r)
	c.last = r
	return true
}

// joining returns the script of r if its spelling needs the joiners within
// words, else nil.
func joining(r rune) *unicode.RangeTable {
	if r < 0x600 {
		return nil
	}
	for _, t := range joiningScripts {
		if unicode.Is(t, r) {
			return t
		}
	}
	return nil
}

var joiningScripts = []*unicode.RangeTable{
	unicode.Arabic, unicode.Syriac, unicode.Devanagari, unicode.Bengali, unicode.Gurmukhi, unicode.Gujarati,
	unicode.Oriya, unicode.Tamil, unicode.Telugu, unicode.Kannada, unicode.Malayalam, unicode.Sinhala,
	unicode.Khmer, unicode.Myanmar,
}

func isKeycapBase(r rune) bool { return r >= '0' && r <= '9' || r == '#' || r == '*' }

func isEmoji(r rune) bool { return unicode.Is(emoji, r) }

// emoji is what may be joined and may ask for emoji presentation: Unicode's
// Extended_Pictographic, the skin tones and the regional indicators, as far
// as they are assigned (UTS #51, emoji-data.txt). The blocks of pictographs
// are taken whole.
var emoji = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x00a9, Hi: 0x00a9, Stride: 1}, {Lo: 0x00ae, Hi: 0x00ae, Stride: 1},
		{Lo: 0x203c, Hi: 0x203c, Stride: 1}, {Lo: 0x2049, Hi: 0x2049, Stride: 1},
		{Lo: 0x2122, Hi: 0x2122, Stride: 1}, {Lo: 0x2139, Hi: 0x2139, Stride: 1},
		{Lo: 0x2194, Hi: 0x2199, Stride: 1}, {Lo: 0x21a9, Hi: 0x21aa, Stride: 1},
		{Lo: 0x231a, Hi: 0x231b, Stride: 1}, {Lo: 0x2328, Hi: 0x2328, Stride: 1},
		{Lo: 0x23cf, Hi: 0x23cf, Stride: 1}, {Lo: 0x23e9, Hi: 0x23f3, Stride: 1},
		{Lo: 0x23f8, Hi: 0x23fa, Stride: 1}, {Lo: 0x24c2, Hi: 0x24c2, Stride: 1},
		{Lo: 0x25aa, Hi: 0x25ab, Stride: 1}, {Lo: 0x25b6, Hi: 0x25b6, Stride: 1},
		{Lo: 0x25c0, Hi: 0x25c0, Stride: 1}, {Lo: 0x25fb, Hi: 0x25fe, Stride: 1},
		{Lo: 0x2600, Hi: 0x27bf, Stride: 1}, {Lo: 0x2934, Hi: 0x2935, Stride: 1},
		{Lo: 0x2b05, Hi: 0x2b07, Stride: 1}, {Lo: 0x2b1b, Hi: 0x2b1c, Stride: 1},
		{Lo: 0x2b50, Hi: 0x2b50, Stride: 1}, {Lo: 0x2b55, Hi: 0x2b55, Stride: 1},
		{Lo: 0x3030, Hi: 0x3030, Stride: 1}, {Lo: 0x303d, Hi: 0x303d, Stride: 1},
		{Lo: 0x3297, Hi: 0x3297, Stride: 1}, {Lo: 0x3299, Hi: 0x3299, Stride: 1},
	},
	R32:         []unicode.Range32{{Lo: 0x1f000, Hi: 0x1faff, Stride: 1}},
	LatinOffset: 2,
}
