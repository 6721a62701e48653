package realm

import (
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ccojocar/zxcvbn-go/data"
)

func TestScore(t *testing.T) {
	tests := map[string]int{
		"dragonfly":          0,
		"Margaret1958":       0, // a name and a year
		"alice2026":          0, // one's own
		"lanchat1":           0,
		"p4ssw0rd!":          0, // signs for letters
		"|i77|e-d0g5":        1,
		"zaq1xsw2cde3":       1, // keys side by side
		"zxcvbnm,./":         0,
		"aaaAAAaaaAAAaaa":    0, // repeats, also of what takes more than a byte
		"ééééééééééééé":      0,
		"jklmnop9876":        0, // sequences
		"1991-03-02":         0, // dates
		"19910302":           0,
		"vexed-otter-plinth": 4,
		"Tr0ub4dor&3":        4,
		"x7!kQpw2":           4,
		"日本語日本語":             4,
	}
	for password, want := range tests {
		if got := Score(password, "Alice"); got != want {
			t.Errorf("Score(%q) = %d, want %d", password, got, want)
		}
	}
}

// The lists are read as what they are.
func TestEachWord(t *testing.T) {
	for _, name := range wordLists {
		b, err := data.Asset("data/" + name + ".json")
		var want struct{ List []string }
		if err == nil {
			err = json.Unmarshal(b, &want)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		eachWord(name, func(word []byte, rank int) {
			if got = append(got, string(word)); rank != len(got) {
				t.Fatalf("%s: %q has rank %d, want %d", name, word, rank, len(got))
			}
		})
		if len(got) == 0 || !slices.Equal(got, want.List) {
			t.Errorf("%s: %d words, want %d, the same", name, len(got), len(want.List))
		}
		for _, w := range got {
			if len(w) > longestWord || lower(w) != w {
				t.Errorf("%s: %q is longer than %d, or not small", name, w, longestWord)
			}
		}
	}
}

// Whoever waits, and whoever judged a password long ago, has no words in memory.
func TestWordsAreNotKept(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	Score("vexed-otter-plinth")
	if kept := heap() - before; before > 4<<20 || kept > 256<<10 {
		t.Errorf("%d bytes before a password was judged, %d more after it", before, kept)
	}
}

// A password of nothing but signs that stand for several letters takes no longer.
func TestReadings(t *testing.T) {
	if read := readings("1|7"); !slices.Contains(read, "lit") || !slices.Contains(read, "1|7") || len(read) != 9 {
		t.Errorf("1|7 is read as %q", read)
	}
	if read := readings(strings.Repeat("1|7", 24)); len(read) != 9 {
		t.Errorf("many signs are read in %d ways", len(read))
	}
}
