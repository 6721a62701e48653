package room

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// The replay window equals a slow set-based model.
func TestReplayEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w Replay
		seen := map[uint64]bool{}
		top := uint64(0)
		for range rapid.IntRange(1, 300).Draw(t, "packets") {
			var seq uint64
			switch rapid.IntRange(0, 5).Draw(t, "where") {
			case 0: // far ahead
				seq = top + rapid.Uint64Range(0, 5000).Draw(t, "ahead")
			case 1: // anywhere
				seq = rapid.Uint64().Draw(t, "seq")
				if seq > 1<<40 && top < 1<<39 {
					seq %= 4096
				}
			case 2: // around the edge of the window
				seq = top - min(top, ReplayWindow-3+rapid.Uint64Range(0, 6).Draw(t, "edge"))
			default: // close by
				seq = top + 3 - min(top+3, rapid.Uint64Range(0, 40).Draw(t, "back"))
			}
			fresh := seq > 0 && !seen[seq] && (seq > top || top-seq < ReplayWindow)
			if got := w.Seen(seq); got == fresh {
				t.Fatalf("Seen(%d) with top %d: %v, want %v", seq, top, got, !fresh)
			}
			if got := w.Mark(seq); got != fresh {
				t.Fatalf("Mark(%d) with top %d: %v, want %v", seq, top, got, fresh)
			}
			if fresh {
				seen[seq] = true
				top = max(top, seq)
			}
			if w.Top() != top {
				t.Fatalf("top %d, want %d", w.Top(), top)
			}
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				b := w.Append(nil)
				var err error
				if w, err = ParseReplay(b); err != nil || len(b) != ReplaySize || !bytes.Equal(w.Append(nil), b) {
					t.Fatalf("stored and read: %v, %d bytes", err, len(b))
				}
			}
		}
	})
}

func TestReplaySize(t *testing.T) {
	if ReplaySize != 264 {
		t.Errorf("%d bytes, want 264", ReplaySize)
	}
	var w Replay
	w.Mark(5)
	b := w.Append([]byte("before"))[len("before"):]
	for n := range b {
		if _, err := ParseReplay(b[:n]); err == nil {
			t.Errorf("%d of %d bytes parsed", n, len(b))
		}
	}
	if _, err := ParseReplay(append(b, 0)); err == nil {
		t.Error("one byte more parsed")
	}
}

func FuzzReplay(f *testing.F) {
	var w Replay
	w.Mark(5000)
	f.Add(w.Append(nil), uint64(4999))
	f.Fuzz(func(t *testing.T, b []byte, seq uint64) {
		w, err := ParseReplay(b)
		if err != nil {
			return
		}
		if again := w.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("appended again:\n got %x\nwant %x", again, b)
		}
		w.Mark(seq)
		if !w.Seen(seq) {
			t.Fatalf("%d is marked and not seen", seq)
		}
	})
}
