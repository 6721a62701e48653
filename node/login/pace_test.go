package login

import (
	"testing"
	"time"
)

// Everybody comes back within seconds, and not all at the same moment.
func TestPause(t *testing.T) {
	for failures, about := range map[int]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 1000: 4 * time.Second} {
		first, differ := Pause(failures), false
		for range 100 {
			d := Pause(failures)
			if d < about/2 || d >= about*3/2 {
				t.Fatalf("after %d failures: %v, want about %v", failures, d, about)
			}
			differ = differ || d != first
		}
		if !differ {
			t.Errorf("after %d failures: always %v", failures, first)
		}
	}
}
