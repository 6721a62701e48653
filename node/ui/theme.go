package ui

import (
	"fmt"
	"hash/fnv"
	"os"

	"github.com/gookit/color"
	"golang.org/x/term"
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
	kinds
)

// theme is the look of each kind. It keeps to the sixteen colours that every
// terminal maps to something legible on its own background, light or dark,
// and leaves out those that one of the two swallows (yellow, white, black).
var theme = [kinds]color.Style{
	Plain:   {},
	Time:    {color.OpFuzzy},
	Date:    {color.OpFuzzy, color.OpItalic},
	Chat:    {color.OpFuzzy},
	Own:     {color.OpBold},
	Private: {color.FgMagenta, color.OpBold},
	People:  {color.FgGreen},
	Rooms:   {color.FgCyan},
	Notice:  {color.FgBlue},
	Trouble: {color.FgRed},
	Error:   {color.FgRed, color.OpBold},
	Fast:    {color.FgCyan, color.OpBold},
	Marks:   {color.OpFuzzy, color.OpItalic},
	Quiet:   {color.OpFuzzy},
}

// names are the colours of people, one for each name.
var names = []color.Style{
	{color.FgCyan}, {color.FgGreen}, {color.FgMagenta}, {color.FgBlue},
	{color.FgCyan, color.OpBold}, {color.FgGreen, color.OpBold}, {color.FgMagenta, color.OpBold}, {color.FgBlue, color.OpBold},
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
func (k Kind) Paint(s string) string { return theme[k].Sprint(s) }

// PaintName returns a user name in the colour it has everywhere.
func PaintName(name string) string {
	h := fnv.New32a()
	h.Write([]byte(name))
	return names[h.Sum32()%uint32(len(names))].Sprint(name)
}

// Paint returns the span in its look, as a link where it is one. Its text
// must have passed wire/clean. A painted link shows its target.
func (s Span) Paint() string {
	if !colorOn() {
		return s.Text
	}
	var look color.Style
	if s.Bold {
		look = append(look, color.OpBold)
	}
	if s.Italic {
		look = append(look, color.OpItalic)
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
	return "\x1b]8;;" + s.Link + "\x1b\\" + look.Sprint(s.Text) + "\x1b]8;;\x1b\\"
}

// reset ends every line of a message, whatever was in it.
func reset() string {
	if !colorOn() {
		return ""
	}
	return color.ResetSet
}

// colorOn reports whether the faces colour.
func colorOn() bool { return color.Enable && color.SupportColor() }

// EnableColor decides once, before any face exists, whether output is
// coloured, and returns the decision. choice is "always", "never", or "auto":
// then out must be a terminal, TERM must name one that can do it, and
// NO_COLOR must be empty. The library's own guess is not asked: it never
// looks whether there is a terminal.
func EnableColor(choice string, out *os.File) (bool, error) {
	var on bool
	switch choice {
	case "always":
		on = true
	case "never":
	case "auto", "":
		on = os.Getenv("NO_COLOR") == "" && ableTerminal(out)
	default:
		return false, fmt.Errorf("no such choice of colour %q: auto, always or never", choice)
	}
	setColor(on)
	return on, nil
}

func setColor(on bool) {
	color.NotRenderTag() // nothing here calls the tag renderer; should that change, tags stay text
	color.Enable = on
	level := color.LevelNo
	if on {
		level = color.Level16
	}
	color.ForceSetColorLevel(level)
}

// ableTerminal reports whether f is a terminal that understands escape
// sequences.
func ableTerminal(f *os.File) bool {
	t := os.Getenv("TERM")
	return f != nil && t != "" && t != "dumb" && term.IsTerminal(int(f.Fd()))
}
