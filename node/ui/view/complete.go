package view

import (
	"slices"
	"strings"
	"unicode/utf8"

	"lanchat/wire/clean"
)

// Complete extends the word in front of pos, a byte index into line: a
// command at the start of the line, behind it what the command takes there, a
// room behind #, a person anywhere else. commands are how each is written,
// without the slash ("mode [reliable|fast]"). choices are the possibilities when
// there is more than one and the word got no longer.
func (m *Model) Complete(commands []string, line string, pos int) (newLine string, newPos int, choices []string) {
	start := strings.LastIndexByte(line[:pos], ' ') + 1
	word, tail := line[start:pos], line[pos:]
	list, end := m.candidates(commands, line[:start], word), " "
	if start == 0 && !strings.HasPrefix(word, "/") && !strings.HasPrefix(word, "#") && !strings.HasPrefix(word, "@") {
		end = ": " // speaking to somebody
	}
	var fits []string
	for _, w := range list {
		w = clean.Line(w, 0)
		if len(w) >= len(word) && strings.EqualFold(w[:len(word)], word) && !slices.Contains(fits, w) {
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

// candidates returns what a word may become, with what stands before it.
func (m *Model) candidates(commands []string, before, word string) (list []string) {
	words := strings.Fields(before)
	command := len(words) > 0 && strings.HasPrefix(words[0], "/") && !strings.HasPrefix(words[0], "//")
	switch {
	case len(words) == 0 && strings.HasPrefix(word, "/"):
		for _, usage := range commands {
			name, _, _ := strings.Cut(usage, " ")
			list = append(list, "/"+name)
		}
		for _, name := range m.Aliases() {
			list = append(list, "/"+name)
		}
		return list
	case command:
		if list = m.arguments(commands, words, word); list != nil {
			return list
		}
	}
	switch {
	case strings.HasPrefix(word, "#"):
		return m.Rooms()
	case strings.HasPrefix(word, "@"):
		return m.at()
	case word == "":
		return nil
	}
	return m.Users()
}

// at returns everybody as a chat.
func (m *Model) at() (list []string) {
	for _, user := range m.Users() {
		list = append(list, "@"+user)
	}
	return list
}

// arguments returns what a command takes behind the words typed, as its usage
// has it; nil: that is no matter of choice.
func (m *Model) arguments(commands, words []string, word string) (list []string) {
	name := strings.ToLower(words[0][1:])
	i := slices.IndexFunc(commands, func(usage string) bool { return usage == name || strings.HasPrefix(usage, name+" ") })
	if i < 0 {
		return nil
	}
	slots := strings.Fields(commands[i])
	for n := len(words); n < len(slots); n++ {
		all := strings.Split(strings.Trim(slots[n], "[]"), "|")
		for _, what := range all {
			if what == "text" && len(all) > 1 {
				list = append(list, what) // the kind of file
				continue
			}
			list = append(list, m.fill(commands, what, words, word)...)
		}
		if !strings.HasPrefix(slots[n], "[") || !strings.HasSuffix(slots[n], "]") {
			break // it comes before what stands behind it
		}
	}
	return list
}

// fill returns what may stand for a word of a usage.
func (m *Model) fill(commands []string, what string, words []string, word string) []string {
	command := strings.ToLower(words[0][1:])
	switch what {
	case "user":
		if strings.HasPrefix(word, "@") {
			return m.at()
		}
		return m.Users()
	case "chat":
		return slices.Concat(m.Rooms(), m.at())
	case "#room":
		switch command {
		case "create":
			return nil
		case "join":
			return slices.Concat(m.Rooms(), m.Offered())
		}
		return m.Rooms()
	case "duration":
		return []string{"30m", "2h", "7d"}
	case "command":
		var names []string
		for _, usage := range commands {
			name, _, _ := strings.Cut(usage, " ")
			names = append(names, name)
		}
		return names
	case "name", "value":
		switch command {
		case "set":
			return m.settingWords(what, words)
		case "unalias", "alias":
			return m.Aliases()
		}
		return nil
	case "id", "n", "text", "file", "reason", "DEVICE", "#name":
		return nil
	}
	return []string{what} // it stands for itself: reliable, --private
}

// settingWords returns the names of settings, or what the one named may be.
func (m *Model) settingWords(what string, words []string) (list []string) {
	for _, s := range m.Settings() {
		switch {
		case what == "name":
			list = append(list, s.Name)
		case len(words) > 1 && strings.EqualFold(s.Name, words[1]):
			list = s.Choices
		}
	}
	return list
}
