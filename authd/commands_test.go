package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every command that operators have, while authd runs and while it does not:
// exit status, what goes to standard output, what to standard error.
func TestCommands(t *testing.T) {
	for _, running := range []bool{true, false} {
		name := "stopped"
		if running {
			name = "running"
		}
		t.Run(name, func(t *testing.T) { walk(t, running) })
	}
}

func walk(t *testing.T, running bool) {
	dir, files := filepath.Join(t.TempDir(), "authd"), t.TempDir()
	backup, prom := filepath.Join(files, "backup.tar"), filepath.Join(files, "authd.prom")
	a := start(t, dir, "--name", "walk", "--log-format", "json", "--metrics-file", prom, "--registration", "open")
	dora := newDevice(t)
	dora.register(a, "dora")
	device := dora.profile.DeviceKey().Device().String()
	if !running {
		a.stop(os.Interrupt)
	}
	const none = "^$"
	one := func(line string) string { return "^" + line + "\n$" }
	either := func(ifRunning, ifNot string) string {
		if running {
			return ifRunning
		}
		return ifNot
	}
	exit := func(ifRunning, ifNot int) int {
		if running {
			return ifRunning
		}
		return ifNot
	}
	for _, step := range []struct {
		args   string // FILE is the backup's
		stdin  string
		status int
		stdout string // regular expressions
		stderr string
	}{
		{"fingerprint", "", 0, one(regexp.QuoteMeta(a.block["fingerprint"])), none},
		{"code", "", 0, one("LC1-[A-Z2-7-]+"), none},
		{"code now", "", 2, none, "takes no arguments"},

		{"user add ann", testPassword + "\n", 0, "", none},
		{"user add bob", testPassword, 0, "", none}, // without a newline
		{"user add ann", testPassword, 1, none, "ann.*not available"},
		{"user add eve", "", 1, none, "password"},
		{"user add eve", "12345678\n", 1, none, "password"},
		{"user add admin", testPassword, 1, none, "reserved"},
		{"user add Eve", testPassword, 1, none, "a-z"},
		{"user add", testPassword, 2, none, "usage: authd"},
		{"user list", "", 0, "^ann .*\nbob .*\ndora .*\n$", none},
		{"user passwd ann", "eighteen dry newts\n", 0, "", none},
		{"user passwd nobody", "eighteen dry newts\n", 1, none, "nobody"},
		{"user rename ann anna", "", 0, "", none},
		{"user rename bob anna", "", 1, none, "not available"},
		{"user rename nobody carl", "", 1, none, "nobody"},
		{"user disable bob", "", 0, "", none},
		{"user disable nobody", "", 1, none, "nobody"},
		{"user list --json", "", 0, `"bob"`, none},
		{"user enable bob", "", 0, "", none},
		{"user enable nobody", "", 1, none, "nobody"},
		{"user unlock bob", "", 0, "", none},
		{"user unlock nobody", "", 1, none, "nobody"},
		{"user reset anna", "", 0, one("[A-Z0-9-]+"), ""},
		{"user reset nobody", "", 1, none, "nobody"},
		{"user", "", 2, none, "add, disable"},
		{"user nonsense", "", 2, none, "nonsense"},

		{"device list dora", "", 0, "^" + device + " .*token until.*\n$", none},
		{"device list anna", "", 0, none, none},
		{"device list nobody", "", 1, none, "nobody"},
		{"device revoke anna " + device, "", 1, none, "no device"},
		{"device revoke dora " + strings.Repeat("0", len(device)), "", 1, none, "no device"},
		{"device revoke dora laptop", "", 2, none, "laptop"},
		{"device revoke dora " + device, "", 0, "", none},
		{"device list dora", "", 0, "revoked", none},
		{"device", "", 2, none, "list or revoke"},

		{"backup", "", 2, none, "usage: authd"},
		{"backup FILE", "", 0, "", ""},
		{"user remove bob", "", 0, "", none},
		{"user remove bob", "", 1, none, "bob"},
		{"restore FILE", "", 1, none, either("running", "--force")},
		{"restore --force FILE", "", exit(1, 0), "", either("running", "")},
		{"restore " + filepath.Join(files, "nothing"), "", 1, none, "nothing|running"},
		{"user list", "", 0, either("^anna .*\ndora .*\n$", "^anna .*\nbob .*\ndora .*\n$"), none},

		{"status", "", exit(0, 1), either("realm +walk\n", none), either(none, "not running")},
		{"status --json", "", exit(0, 1), either(`"accounts": 2`, none), either(none, "not running")},
		{"status --metrics", "", exit(0, 1), either("\nauthd_accounts 2\n", none), either(none, "not running")},
		{"status --json --metrics", "", 2, none, "not both"},

		{"user remove", "", 2, none, "NAME"},
		{"user remove anna --all --force", "", 2, none, "NAME"},
		{"user remove --all", "", 2, none, "anna.*dora.*Nothing was deleted"},
		{"user list", "", 0, "^anna ", none},
		{"user remove --all --force", "", 0, "^deleted .*anna.*dora.*\n$", none},
		{"user list", "", 0, none, none},
		{"user list --json", "", 0, one(`\[\]`), none},

		{"--listen 4747", "", 2, none, "--listen"},
		{"--registration sometimes", "", 2, none, "--registration"},
		{"--log-format xml", "", 2, none, "--log-format"},
		{"--name \x1b[31m", "", 2, none, "realm name"},
		{"--nonsense", "", 2, none, "nonsense"},
		{"nonsense", "", 2, none, "nonsense"},
	} {
		args := strings.Fields(strings.ReplaceAll(step.args, "FILE", backup))
		out, errs, status := runAuthd(t, step.stdin, append(args, "--data", dir)...)
		if status != step.status {
			t.Errorf("%s: exit status %d, want %d: %q, %q", step.args, status, step.status, out, errs)
		}
		if !regexp.MustCompile(step.stdout).MatchString(out) {
			t.Errorf("%s: standard output %q, want %q", step.args, out, step.stdout)
		}
		if !regexp.MustCompile("(?s)"+step.stderr).MatchString(errs) || strings.Contains(errs, testPassword) {
			t.Errorf("%s: standard error %q, want %q", step.args, errs, step.stderr)
		}
		if step.args == "user list --json" && step.stdout == `"bob"` {
			usersAreShaped(t, out)
		}
	}
	if !running {
		return
	}
	if got := a.stop(os.Interrupt); got != 0 {
		t.Errorf("after an interrupt: exit status %d", got)
	}
	for line := range strings.Lines(a.stderr.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("--log-format json: got %q", line)
		}
	}
	if b, err := os.ReadFile(prom); err != nil || !strings.Contains(string(b), "\nauthd_registrations_total 1\n") {
		t.Errorf("--metrics-file: got %q, %v", b, err)
	}
}

// usersAreShaped checks what scripts read: an array of {name, enabled, devices,
// created}.
func usersAreShaped(t *testing.T, out string) {
	t.Helper()
	var users []map[string]any
	if err := json.Unmarshal([]byte(out), &users); err != nil {
		t.Fatal(err)
	}
	type user struct {
		name    string
		enabled bool
		devices float64
	}
	var got []user
	for _, u := range users {
		name, _ := u["name"].(string)
		enabled, ok1 := u["enabled"].(bool)
		devices, ok2 := u["devices"].(float64)
		created, _ := u["created"].(string)
		at, err := time.Parse(time.RFC3339, created)
		if !ok1 || !ok2 || err != nil || time.Since(at).Abs() > time.Hour || len(u) != 4 {
			t.Errorf("got %v, want name, enabled, devices and created", u)
		}
		got = append(got, user{name, enabled, devices})
	}
	if want := []user{{"anna", true, 0}, {"bob", false, 0}, {"dora", true, 1}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
