package view

import (
	"github.com/charmbracelet/x/ansi"

	"lanchat/wire/clean"
)

// OnEarlier says of an answer that it is one, where the other message is not at
// hand.
const OnEarlier = " (on an earlier message)"

// On says which message one answers: of whom, and how it begins.
func On(who, text string) string { return " (on " + who + ": " + begin(text) + ")" }

// begin returns how a text begins.
func begin(text string) string { return ansi.Truncate(clean.Line(text, 0), maxQuoted, "…") }

const maxQuoted = 30 // columns

// Changed says what became of a message of one's own.
func Changed(was, text string) string {
	if text == "" {
		return "deleted: " + begin(was)
	}
	return "edited, was: " + begin(was)
}
