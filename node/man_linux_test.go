//go:build linux

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Manual pages and completion come from the commands as they are.
func TestManAndCompletion(t *testing.T) {
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "man", "man1") // which is made
	if out, err := exec.Command(filepath.Join(bin, "node"), "man", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for page, words := range map[string][]string{
		"node.1":         {"--plain", "node-send(1)", "LANCHAT_PASSWORD"},
		"node-send.1":    {"--timeout", "node send"},
		"node-history.1": {"node history"},
	} {
		b, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), `\-`, "-")
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%s does not have %q:\n%s", page, w, text)
			}
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		out, err := exec.Command(filepath.Join(bin, "node"), "completion", shell).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "node") {
			t.Errorf("%s: %v: %.200s", shell, err, out)
		}
	}
	out, err := exec.Command(filepath.Join(bin, "node"), "__complete", "se").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "send\t") {
		t.Errorf("completing se: %v: %s", err, out)
	}
}
