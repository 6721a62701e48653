package ui

import (
	"strings"

	"lanchat/node/ui/theme"
)

// A Column is what stands in a column of an answer.
type Column uint8

const (
	ColumnTime Column = iota
	ColumnChat
	ColumnName
)

// Answer returns the lines of an answer with its first columns, which two spaces
// or more part, in their looks; without colour it returns them as they are.
func Answer(text string, columns ...Column) string {
	if !theme.On() {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		for _, c := range columns {
			word, rest, ok := strings.Cut(line, "  ")
			if !ok || word == "" { // the next line of a text
				break
			}
			switch c {
			case ColumnTime:
				b.WriteString(look.Paint(theme.Time, word))
			case ColumnChat:
				b.WriteString(look.Paint(theme.Chat, word))
			case ColumnName:
				b.WriteString(look.Name(word, word))
			}
			line = strings.TrimLeft(rest, " ")
			b.WriteString("  " + strings.Repeat(" ", len(rest)-len(line)))
		}
		b.WriteString(line)
	}
	return b.String()
}
