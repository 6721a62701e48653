package main

import (
	"strings"
	"testing"
)

func TestUserRename(t *testing.T) {
	dir := t.TempDir()
	start(t, dir) // the commands work beside it
	user := func(stdin string, args ...string) (string, string, int) {
		t.Helper()
		return runAuthd(t, stdin, append([]string{"user", "--data", dir}, args...)...)
	}
	for _, name := range []string{"alice", "bob"} {
		if _, errs, status := user("seventeen wet herons\n", "add", name); status != 0 {
			t.Fatalf("add %s: got status %d, %q", name, status, errs)
		}
	}
	for _, tt := range []struct {
		old, name string
		status    int
		want      string
	}{
		{"nobody", "carol", 1, `"nobody"`},
		{"alice", "bob", 1, `"bob": this user name is not available`},
		{"alice", "admin", 1, "reserved"},
		{"alice", "Carol", 1, "a-z"},
		{"alice", "carol", 0, ""},
		{"bob", "alice", 1, "not available"}, // in quarantine
	} {
		_, errs, status := user("", "rename", tt.old, tt.name)
		if status != tt.status || !strings.Contains(errs, tt.want) {
			t.Errorf("rename %s %s: got status %d, %q, want %d, %q", tt.old, tt.name, status, errs, tt.status, tt.want)
		}
	}
	out, _, _ := user("", "list")
	if lines := strings.Split(out, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "bob ") || !strings.HasPrefix(lines[1], "carol ") {
		t.Errorf("list: got %q, want bob and carol", out)
	}
}
