package ui

import (
	"strings"
	"testing"
)

func TestAnswer(t *testing.T) {
	const text = "2030-01-01 10:00  #lab  bob    hi  there\n                  #a    cyd-x  two\n                                lines\nnothing"
	if got := Answer(text, ColumnTime, ColumnChat, ColumnName); got != text {
		t.Errorf("without colour: %q", got)
	}
	paint(t, true)
	got := Answer(text, ColumnTime, ColumnChat, ColumnName)
	if plain := ownEscapes.ReplaceAllString(got, ""); plain != text {
		t.Errorf("the words are %q", plain)
	}
	if n := strings.Count(strings.SplitAfter(got, "\n")[0], "\x1b[0m"); n != 3 || !strings.Contains(got, "\x1b[0m    hi  there\n") {
		t.Errorf("got %q", got)
	}
}
