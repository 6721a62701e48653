//go:build linux

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What can't be right is refused at once, in words for people, and nothing is
// done: no file is made, and nothing is printed where data would be.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "none")
	for _, tt := range []struct {
		args string
		want string // in standard error
	}{
		{"--nonsense", "--nonsense"},
		{"--regster", "did you mean --register?"},
		{"sned @ann hi", "did you mean send?"},
		{"nonsense", `"nonsense"`},
		{"help nonsense", `"nonsense"`},
		{"users ann", `takes no arguments, and was given "ann"`},
		{"--mode sideways", `"sideways"`},
		{"--color pink", "pink"},
		{"--port 70000", `--port "70000": want a number from 0 to 65535`},
		{"--json --plain", "choose one"},
		{"--user=", "--user"},
		{"--iface=", "--iface"},
		{"--peer ann", "want HOST:PORT"},
		{"--authd 10.0.0.1", "want HOST:PORT"},
		{"send lab hi", "lab"},
		{"send # hi", "no chat"},
		{"send #a\x1bb hi", "no chat"},
		{"send #lab hi --timeout -1s", "not negative"},
		{"send #lab hi --timeout 3", "10s"},
		{"send @ann \u00a0", "nothing to send"},
		{"trust", "want list or replace"},
		{"history lab", "lab"},
		{"tail lab", "lab"},
		{"search \u00a0", "nothing to look for"},
		{"demo --loss x", `--loss "x": want a whole number`},
		{"demo --loss 41", "0 to 40"},
		{"completion", "want bash, fish, powershell or zsh"},
		{"completion bsh", "did you mean bash or"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			cmd := exec.Command(filepath.Join(bin, "node"), append(strings.Split(tt.args, " "), "--data", data)...)
			var out, errs strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errs
			cmd.Run()
			if status := cmd.ProcessState.ExitCode(); status != 2 || out.Len() > 0 {
				t.Errorf("status %d, want 2; on standard output %q", status, &out)
			}
			if got := errs.String(); !strings.HasPrefix(got, "node: ") || !strings.Contains(got, tt.want) || strings.ContainsAny(got, "\x1b") || strings.Contains(got, "strconv") {
				t.Errorf("said %q, want it to have %q", got, tt.want)
			}
			if _, err := os.Stat(data); err == nil {
				t.Error("a data directory was made")
			}
		})
	}
	for _, args := range [][]string{{"--help"}, {"--version"}, {"help", "send"}, {"completion", "bash"}} {
		cmd := exec.Command(filepath.Join(bin, "node"), args...)
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil || out.Len() == 0 || errs.Len() > 0 {
			t.Errorf("%q: %v; %q on standard output, %q on standard error", args, err, &out, &errs)
		}
	}
}
