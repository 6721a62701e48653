package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnit has systemd look at the unit, where there is one: that it knows
// every line, and how little the service may do.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	unit, err := os.ReadFile("lanchat-authd.service")
	if err != nil {
		t.Fatal(err)
	}
	const program = "/usr/local/bin/authd"
	if !strings.Contains(string(unit), "\nExecStart="+program+" --data %S/lanchat-authd ") {
		t.Error("the unit does not start authd on its state directory")
	}
	path := filepath.Join(t.TempDir(), "lanchat-authd.service") // with a program that is there
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(unit), program, os.Args[0])), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// The threshold is in tenths; 0 is a service that may do nothing.
	if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=20", path).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
