package realm

import (
	"runtime"
	"testing"
)

// The meter's words take memory only once a password is judged, and are the same
// then.
func TestWordsAreDropped(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	want := map[string]int{"dragonfly": 0, "Margaret1958": 0, "zaq1xsw2cde3": 1, "vexed-otter-plinth": 4}
	dropWords()
	without := heap()
	for password, score := range want {
		if got := Score(password); got != score {
			t.Errorf("Score(%q) = %d, want %d", password, got, score)
		}
	}
	if with := heap(); with-without < 2<<20 {
		t.Errorf("the words take %d bytes: they were there all the time", with-without)
	}
	dropWords()
	if left := heap(); left-without > 1<<20 {
		t.Errorf("%d bytes of the words are left", left-without)
	}
	if got := Score("vexed-otter-plinth"); got != 4 {
		t.Errorf("the second time the score is %d", got)
	}
}
