//go:build linux

package main_test

import (
	"os/exec"
	"testing"
)

// TestTestdata tests the packages that ./... leaves out because they are under a
// testdata directory.
func TestTestdata(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	t.Parallel()
	test := []string{"test", "./..."}
	if raceEnabled() {
		test = []string{"test", "-race", "./..."}
	}
	for _, args := range [][]string{{"vet", "./..."}, test} {
		cmd := exec.Command("go", args...)
		cmd.Dir = "../testdata/lan"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go %v: %v\n%s", args, err, out)
		}
	}
}
