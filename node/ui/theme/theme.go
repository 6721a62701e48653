// Package theme is the one place where colour is made: it alone imports
// gookit/color, and of that only methods of styles, which take text as it is.
// (The library's own functions read <red> in the text they print.)
//
// There is a look for each kind of text in three themes: [Basic] for lines on
// whatever background, [Dark] and [Light] for the full screen.
package theme

import (
	"fmt"
	"hash/fnv"
	"os"

	"github.com/gookit/color"
	"golang.org/x/term"

	"lanchat/node/markup"
)

// A Kind is what a piece of a line is; the theme gives each its look. No kind
// is told by its colour alone: the words or a mark (see [Kind.Mark]) say it
// too.
type Kind uint8

const (
	Plain   Kind = iota // text of others
	Time                // the time in front of a line
	Date                // a new day
	Chat                // "#lab" in front of a line
	Own                 // one's own name
	Private             // direct messages: "@bob → you"
	People              // somebody came or went
	Rooms               // something happened in a room
	Notice              // the program has something to say
	Trouble             // the connection suffers: authd away, somebody lost, messages missing
	Error               // a command was refused
	Fast                // the mark of a fast message
	Marks               // "(late)", "(earlier)", "(edited)"
	Quiet               // receipts, hints
	Bar                 // the lines above and below the messages of the full screen
	Current             // the chat one is in, in the list of chats
	Unread              // a chat with something new
	Mention             // one's own name in another's words
	Border              // between the parts of the full screen
	kinds
)

// A Theme is the look of each kind and of people's names.
type Theme struct {
	looks [kinds]look
	names []look // one of them for each name
}

// A look paints text. Those of the library that are methods of a style take
// text as it stands.
type look interface{ Sprint(a ...any) string }

// Basic keeps to the sixteen colours that every terminal maps to something
// legible on its own background, light or dark, and leaves out those that one
// of the two swallows (yellow, white, black).
var Basic = &Theme{
	looks: [kinds]look{
		Plain:   color.Style{},
		Time:    color.Style{color.OpFuzzy},
		Date:    color.Style{color.OpFuzzy, color.OpItalic},
		Chat:    color.Style{color.OpFuzzy},
		Own:     color.Style{color.OpBold},
		Private: color.Style{color.FgMagenta, color.OpBold},
		People:  color.Style{color.FgGreen},
		Rooms:   color.Style{color.FgCyan},
		Notice:  color.Style{color.FgBlue},
		Trouble: color.Style{color.FgRed},
		Error:   color.Style{color.FgRed, color.OpBold},
		Fast:    color.Style{color.FgCyan, color.OpBold},
		Marks:   color.Style{color.OpFuzzy, color.OpItalic},
		Quiet:   color.Style{color.OpFuzzy},
		Bar:     color.Style{color.OpReverse},
		Current: color.Style{color.OpReverse, color.OpBold},
		Unread:  color.Style{color.OpBold},
		Mention: color.Style{color.FgMagenta, color.OpBold},
		Border:  color.Style{color.OpFuzzy},
	},
	names: []look{
		color.Style{color.FgCyan}, color.Style{color.FgGreen}, color.Style{color.FgMagenta}, color.Style{color.FgBlue},
		color.Style{color.FgCyan, color.OpBold}, color.Style{color.FgGreen, color.OpBold}, color.Style{color.FgMagenta, color.OpBold}, color.Style{color.FgBlue, color.OpBold},
	},
}

// Dark and Light are for the full screen, in colours that people who see less
// of red or green tell apart (after Okabe and Ito), each with enough contrast
// on its background. A terminal with fewer colours gets the nearest ones.
var (
	Dark = rich(palette{text: "d7dae0", faint: "8b93a1", bar: "c8ccd4", barBack: "2b303b", link: "56b4e9", good: "4fc3a1",
		notice: "7fb4f0", trouble: "f08a5d", alarm: "ff7b72", mention: "f0a5d8", fast: "e6c34a",
		names: []string{"56b4e9", "e69f00", "4fc3a1", "f0e442", "d9a0ff", "f08a5d", "9ad1f5", "f0a5d8", "a8d08d", "c3b091"}})
	Light = rich(palette{text: "20242c", faint: "5f6773", bar: "20242c", barBack: "dfe3ea", link: "0059a8", good: "00695c",
		notice: "0b57a4", trouble: "a84300", alarm: "b00020", mention: "9c1f7a", fast: "7a5c00",
		names: []string{"0059a8", "8a4b00", "00695c", "6b5900", "6a2fb0", "a84300", "00607f", "9c1f7a", "3d6b1f", "6b4f2a"}})
)

// A palette is the colours of a theme, as hexadecimal RGB.
type palette struct {
	text, faint, bar, barBack, link, good, notice, trouble, alarm, mention, fast string
	names                                                                        []string
}

// rich returns the theme of a palette.
func rich(p palette) *Theme {
	fg := func(hex string, opts ...color.Color) look { return color.HEXStyle(hex).AddOpts(opts...) }
	t := &Theme{looks: [kinds]look{
		Plain:   color.Style{},
		Time:    fg(p.faint),
		Date:    fg(p.faint, color.OpItalic),
		Chat:    fg(p.faint),
		Own:     fg(p.text, color.OpBold),
		Private: fg(p.mention, color.OpBold),
		People:  fg(p.good),
		Rooms:   fg(p.link),
		Notice:  fg(p.notice),
		Trouble: fg(p.trouble),
		Error:   fg(p.alarm, color.OpBold),
		Fast:    fg(p.fast, color.OpBold),
		Marks:   fg(p.faint, color.OpItalic),
		Quiet:   fg(p.faint),
		Bar:     color.HEXStyle(p.bar, p.barBack),
		Current: color.HEXStyle(p.bar, p.barBack).AddOpts(color.OpBold),
		Unread:  fg(p.text, color.OpBold),
		Mention: fg(p.mention, color.OpBold),
		Border:  fg(p.faint),
	}}
	for _, n := range p.names {
		t.names = append(t.names, fg(n))
	}
	return t
}

// Mark returns the sign in front of a line that is no message.
func (k Kind) Mark() string {
	switch k {
	case People, Rooms:
		return "*"
	case Trouble, Error:
		return "!"
	}
	return "-"
}

// Paint returns s in the look of k. s must have passed wire/clean.
func (t *Theme) Paint(k Kind, s string) string { return t.looks[k].Sprint(s) }

// Name returns text, which is a user name or has it in it, in the colour that
// name has everywhere.
func (t *Theme) Name(name, text string) string {
	h := fnv.New32a()
	h.Write([]byte(name))
	return t.names[h.Sum32()%uint32(len(t.names))].Sprint(text)
}

// Span returns the span in its look, as a link where it is one: the parts of
// one that was wrapped have one id, so that terminals take them for one. The
// text must have passed wire/clean. A painted link shows its target.
func (t *Theme) Span(s markup.Span) string {
	if !On() {
		return s.Text
	}
	var look color.Style
	if s.Bold {
		look = append(look, color.OpBold)
	}
	if s.Italic || s.Quote {
		look = append(look, color.OpItalic)
	}
	if s.Quote {
		look = append(look, color.OpFuzzy)
	}
	if s.Strike {
		look = append(look, color.OpStrikethrough)
	}
	if s.Code {
		look = append(look, color.FgCyan)
	}
	if s.Link == "" {
		return look.Sprint(s.Text)
	}
	look = append(look, color.OpUnderscore)
	h := fnv.New32a()
	h.Write([]byte(s.Link))
	return fmt.Sprintf("\x1b]8;id=%x;%s\x1b\\%s\x1b]8;;\x1b\\", h.Sum32(), s.Link, look.Sprint(s.Text))
}

// Reset ends every line of a message, whatever was in it.
func Reset() string {
	if !On() {
		return ""
	}
	return color.ResetSet
}

// On reports whether the faces colour.
func On() bool { return color.Enable && color.SupportColor() }

// Enable decides once, before any face exists, whether output is
// coloured, and returns the decision. choice is "always", "never", or "auto":
// then out must be a terminal, TERM must name one that can do it, and
// NO_COLOR must be empty. The library's own guess is not asked: it never
// looks whether there is a terminal.
func Enable(choice string, out *os.File) (bool, error) {
	var on bool
	switch choice {
	case "always":
		on = true
	case "never":
	case "auto", "":
		on = os.Getenv("NO_COLOR") == "" && Terminal(out)
	default:
		return false, fmt.Errorf("no such choice of colour %q: auto, always or never", choice)
	}
	Set(on)
	return on, nil
}

// Set switches colour on or off; see [Enable]. No face may exist yet.
func Set(on bool) {
	color.NotRenderTag() // nothing here calls the tag renderer; should that change, tags stay text
	color.Enable = on
	level := color.LevelNo
	if on {
		level = color.LevelRgb
	}
	color.ForceSetColorLevel(level)
}

// Terminal reports whether f is a terminal that understands escape
// sequences.
func Terminal(f *os.File) bool {
	t := os.Getenv("TERM")
	return f != nil && t != "" && t != "dumb" && term.IsTerminal(int(f.Fd()))
}
