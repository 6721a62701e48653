package serve

import "testing"

func TestPercent(t *testing.T) {
	for _, tt := range []struct {
		inUse uint64
		want  int
	}{
		{0, maxPercent},
		{8 << 20, maxPercent},
		{16 << 20, 100},
		{32 << 20, 50},
		{60 << 20, 26},
		{64 << 20, minPercent},
		{1 << 40, minPercent},
	} {
		if got := percent(tt.inUse); got != tt.want {
			t.Errorf("%d bytes in use: got %d, want %d", tt.inUse, got, tt.want)
		}
	}
}
