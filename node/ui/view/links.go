package view

import "strings"

// Hyperlinks reports whether the terminal that the environment names is known to
// open a link by a click (OSC 8). Behind tmux or screen nothing is known.
func Hyperlinks(getenv func(string) string) bool {
	if getenv("TMUX") != "" || getenv("STY") != "" {
		return false
	}
	for _, name := range []string{"kitty", "foot", "alacritty", "ghostty", "wezterm", "contour"} {
		if strings.Contains(getenv("TERM"), name) {
			return true
		}
	}
	switch getenv("TERM_PROGRAM") {
	case "iTerm.app", "WezTerm", "vscode", "ghostty", "Hyper", "Tabby", "rio":
		return true
	}
	vte := getenv("VTE_VERSION") // since 0.50
	return getenv("WT_SESSION") != "" || getenv("KONSOLE_VERSION") != "" || len(vte) >= 4 && vte >= "5000"
}

// NumberLinks reports whether links get numbers, by the setting and by whether
// the terminal opens them itself.
func (m *Model) NumberLinks(hyperlinks bool) bool {
	switch m.Setting("links", "auto") {
	case "numbered":
		return true
	case "plain":
		return false
	}
	return !hyperlinks
}
