package store

import (
	"os"
	"path/filepath"
	"testing"

	"lanchat/testdata/lan/disk"
)

func TestFullDisk(t *testing.T) {
	disk.Small(t, func(d disk.Disk) {
		ballast := filepath.Join(d.Dir, "ballast")
		fillsUp(t, d.Dir, openAt(t, d.Dir), func() {
			if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
				t.Fatal(err)
			}
		}, func() {
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		})
	})
}
