package view

import (
	"strings"
	"testing"
)

func TestNotifierOf(t *testing.T) {
	for _, tt := range []struct{ env, want string }{
		{"TERM=xterm-256color", ""},
		{"TERM=xterm-kitty", "\x1b]99;i=lanchat:d=0:e=1;YQ==\x1b\\\x1b]99;i=lanchat:p=body:e=1;Yg==\x1b\\"},
		{"TERM=foot", "\x1b]777;notify;a;b\x1b\\"},
		{"TERM=xterm-256color TERM_PROGRAM=iTerm.app", "\x1b]9;a: b\x1b\\"},
		{"TERM=foot TMUX=/tmp/x", "\x1bPtmux;\x1b\x1b]777;notify;a;b\x1b\x1b\\\x1b\\"},
	} {
		n := NotifierOf(func(key string) string {
			for _, kv := range strings.Fields(tt.env) {
				if v, ok := strings.CutPrefix(kv, key+"="); ok {
					return v
				}
			}
			return ""
		})
		got := ""
		if n != nil {
			got = n("a", "b")
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.env, got, tt.want)
		}
	}
}
