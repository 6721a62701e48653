package view

import (
	"strings"
	"unicode/utf8"

	"lanchat/wire/clean"
)

// Complete extends the word in front of pos, a byte index into line: a
// command at the start of the line, a room behind #, a person anywhere else.
// choices are the possibilities when there is more than one and the word got
// no longer.
func (m *Model) Complete(commands []string, line string, pos int) (newLine string, newPos int, choices []string) {
	start := strings.LastIndexByte(line[:pos], ' ') + 1
	word, tail := line[start:pos], line[pos:]
	var list []string
	sign, end := "", " "
	switch {
	case start == 0 && strings.HasPrefix(word, "/"):
		sign, list = "/", commands
	case strings.HasPrefix(word, "#"):
		list = m.Rooms()
	case strings.HasPrefix(word, "@"):
		sign, list = "@", m.Users()
	case word == "":
		return line, pos, nil
	case start == 0:
		list, end = m.Users(), ": " // speaking to somebody
	default:
		list = m.Users()
	}
	var fits []string
	for _, w := range list {
		w = sign + clean.Line(w, 0)
		if len(w) >= len(word) && strings.EqualFold(w[:len(word)], word) {
			fits = append(fits, w)
		}
	}
	switch len(fits) {
	case 0:
		return line, pos, nil
	case 1:
		if strings.HasPrefix(tail, " ") {
			end = strings.TrimSuffix(end, " ")
		}
		return line[:start] + fits[0] + end + tail, start + len(fits[0]) + len(end), nil
	}
	common := fits[0]
	for _, w := range fits[1:] {
		for !strings.HasPrefix(w, common) {
			_, n := utf8.DecodeLastRuneInString(common)
			common = common[:len(common)-n]
		}
	}
	if len(common) <= len(word) {
		return line, pos, fits
	}
	return line[:start] + common + tail, start + len(common), nil
}
