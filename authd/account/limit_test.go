package account

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(i))))
}

// The tables stay bounded, and what is idle goes first.
func TestTablesAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const max = 64
	b := newBackoff(1, time.Second, time.Minute, max)
	th := newThrottle(1, max)
	for i := range 10 * max {
		b.fail(now, delayKey{"alice", addr(i)})
		th.take(now, addr(i))
		if len(b.failed) > max || len(th.buckets) > max {
			t.Fatalf("%d entries and %d, want at most %d", len(b.failed), len(th.buckets), max)
		}
	}

	idle := newBackoff(1, time.Second, time.Minute, max)
	for i := range max - 1 {
		idle.fail(now, delayKey{"old", addr(i)})
	}
	later := now.Add(2 * time.Minute)
	kept := delayKey{"kept", addr(0)}
	idle.fail(later, kept)
	idle.fail(later, delayKey{"one more", addr(0)})
	if idle.wait(later, kept) == 0 {
		t.Error("a fresh entry went while there were idle ones")
	}
	if len(idle.failed) != 2 {
		t.Errorf("got %d entries, want the 2 fresh ones", len(idle.failed))
	}
}

// What is older than the longest delay is forgotten.
func TestBackoffForgets(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b := newBackoff(2, time.Second, time.Minute, 10)
	k := delayKey{"alice", addr(1)}
	for range 4 {
		b.fail(now, k)
	}
	if got := b.wait(now, k); got != 4*time.Second {
		t.Errorf("got %v to wait, want 4 s", got)
	}
	now = now.Add(4*time.Second + time.Minute)
	b.fail(now, k)
	if got := b.wait(now, k); got != 0 {
		t.Errorf("got %v to wait after a pause, want none", got)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("Ann's laptop")
	f.Add("\x1b[31mred\u202e\xff")
	f.Add(strings.Repeat("é", 100))
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if len(got) > MaxDeviceName || !utf8.ValidString(got) || printable(got) != got || strings.ContainsAny(got, "\x1b\n\u202e\u009b") {
			t.Errorf("%q became %q", s, got)
		}
	})
}
