package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lanchat/authd/serve"
	"lanchat/node/login"
)

func TestStatus(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authd")
	a := start(t, dir, "--name", "lab seven")
	get := func() (s serve.Status) {
		t.Helper()
		if err := json.Unmarshal([]byte(must(t, "", "status", "--json", "--data", dir)), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := get()
	want(t, "realm", s.Realm, "lab seven")
	want(t, "fingerprint", s.Fingerprint, a.block["fingerprint"])
	want(t, "address", s.Address, a.block["address"])
	if s.Accounts != 0 || s.Logins != 0 || len(s.Refusals) != 0 || s.Database < 4096 {
		t.Errorf("at first: got %+v", s)
	}
	alice := newDevice(t)
	alice.register(a, "alice")
	newDevice(t).with(a, func(session *login.Session) {
		if _, err := session.Login(t.Context(), "alice", testPassword+"?", "phone"); err == nil {
			t.Error("logged in with a wrong password")
		}
	})
	alice.with(a, func(*login.Session) {
		s = get()
		if s.Accounts != 1 || s.Online != 1 || s.Registrations != 1 || s.Refusals["bad_credentials"] != 1 || len(s.Refusals) != 1 {
			t.Errorf("got %+v, want one account, online, and one refusal", s)
		}
		out := must(t, "", "status", "--metrics", "--data", dir)
		for _, line := range []string{"authd_accounts 1", "authd_online 1", "authd_registrations_total 1", `authd_refusals_total{code="bad_credentials"} 1`} {
			if !strings.Contains(out, "\n"+line+"\n") {
				t.Errorf("no line %q in\n%s", line, out)
			}
		}
		out = must(t, "", "status", "--data", dir)
		for _, line := range []string{"accounts     1\n", "online       1 device, ", "1 registration,", "refusals     1 (bad_credentials 1)\n"} {
			if !strings.Contains(out, line) {
				t.Errorf("no %q in\n%s", line, out)
			}
		}
	})

	path := filepath.Join(dir, "authd.sock")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: got %v, %v, want 0600", info, err)
	}
	if got := a.stop(os.Interrupt); got != 0 || strings.Contains(a.stderr.String(), "level=WARN") {
		t.Errorf("got status %d, %q", got, &a.stderr)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	notRunning := func() {
		t.Helper()
		out, errs, status := runAuthd(t, "", "status", "--data", dir)
		if status != 1 || out != "" || errs != fmt.Sprintf("authd: authd is not running on %q\n", dir) {
			t.Errorf("not running: got status %d, %q, %q", status, out, errs)
		}
	}
	notRunning()

	// Killed, it leaves a dead socket, which the next takes over.
	a = start(t, dir)
	a.stop(os.Kill)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no dead socket to test with: %v", err)
	}
	notRunning()
	a = start(t, dir)
	get()
	a.stop(os.Interrupt)
}
