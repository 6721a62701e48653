package ui

import (
	"strings"
	"unicode/utf8"

	"lanchat/wire/clean"
)

// Commands are the contract's commands, for completion where the caller has
// no list of its own.
var Commands = strings.Fields(`join create part rooms names topic invite kick ban unban bans op promote deop silence
	unsilence transfer refound msg dm r me edit delete quote search links open export mode mute unmute notify dnd ignore
	users whois verify fingerprint nick passwd sessions who-got net ping audit help set clear quit`)

// complete extends the word in front of pos, a byte index into line: a
// command at the start of the line, a room behind #, a person anywhere else.
// choices are the possibilities when there is more than one and the word got
// no longer.
func (m *model) complete(commands []string, line string, pos int) (newLine string, newPos int, choices []string) {
	start := strings.LastIndexByte(line[:pos], ' ') + 1
	word, tail := line[start:pos], line[pos:]
	var list []string
	sign, end := "", " "
	switch {
	case start == 0 && strings.HasPrefix(word, "/"):
		sign, list = "/", commands
	case strings.HasPrefix(word, "#"):
		list = m.roomNames()
	case strings.HasPrefix(word, "@"):
		sign, list = "@", m.userNames()
	case word == "":
		return line, pos, nil
	case start == 0:
		list, end = m.userNames(), ": " // speaking to somebody
	default:
		list = m.userNames()
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
