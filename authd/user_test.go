package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/realm"
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

// A code is alone on standard output, new each time, good for one new
// password, whether authd runs when it is made or not.
func TestUserReset(t *testing.T) {
	dir := t.TempDir()
	a := start(t, dir)
	reset := func() realm.ResetCode {
		t.Helper()
		out, errs, status := runAuthd(t, "", "user", "reset", "--data", dir, "alice")
		code, err := realm.ParseResetCode(out)
		if status != 0 || err != nil || strings.Count(out, "\n") != 1 || strings.Contains(errs, code.Text()) {
			t.Fatalf("got status %d, %q, %q, %v", status, out, errs, err)
		}
		return code
	}
	const first, second, third = "seventeen wet herons", "eighteen dry newts", "nineteen odd otters"
	if _, errs, status := runAuthd(t, first, "user", "add", "--data", dir, "alice"); status != 0 {
		t.Fatalf("add: got status %d, %q", status, errs)
	}
	d := newDevice(t)
	recover := func(code realm.ResetCode, password string) (err error) {
		d.with(a, func(s *login.Session) { _, err = s.Recover(context.Background(), "alice", code, password, "laptop") })
		return err
	}
	refused := func(err error, code wire.Code) {
		t.Helper()
		if r, ok := errors.AsType[*login.RefusedError](err); !ok || r.Code != code {
			t.Errorf("got %v, want %v", err, code)
		}
	}
	old, code := reset(), reset()
	refused(recover(old, second), wire.CodeBadCredentials)
	refused(recover(code, "short"), wire.CodeWeakPassword)
	if err := recover(code, second); err != nil {
		t.Error(err)
	}
	if err := d.profile.Forget(); err != nil {
		t.Fatal(err)
	}
	refused(recover(code, third), wire.CodeBadCredentials)

	if got := a.stop(os.Interrupt); got != 0 {
		t.Fatalf("got status %d", got)
	}
	if strings.Contains(a.stderr.String(), code.Text()) {
		t.Error("the code is in the log")
	}
	code = reset()
	a = start(t, dir)
	if err := recover(code, third); err != nil {
		t.Error(err)
	}
}
