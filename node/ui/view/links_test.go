package view

import (
	"strings"
	"testing"
)

func TestHyperlinks(t *testing.T) {
	for env, want := range map[string]bool{
		"TERM=xterm-256color": false,
		"TERM=linux":          false,
		"TERM=xterm-256color TERM_PROGRAM=Apple_Terminal":      false,
		"TERM=xterm-256color VTE_VERSION=4800":                 false,
		"TERM=xterm-256color VTE_VERSION=7600":                 true,
		"TERM=xterm-kitty":                                     true,
		"TERM=foot":                                            true,
		"TERM=xterm-256color TERM_PROGRAM=iTerm.app":           true,
		"TERM=tmux-256color TERM_PROGRAM=tmux TMUX=/tmp/x,1,0": false,
	} {
		got := Hyperlinks(func(key string) string {
			for _, kv := range strings.Fields(env) {
				if v, ok := strings.CutPrefix(kv, key+"="); ok {
					return v
				}
			}
			return ""
		})
		if got != want {
			t.Errorf("%s: got %v, want %v", env, got, want)
		}
	}
}
