package words

import "testing"

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 entries", 1: "1 entry", 2: "2 entries", -1: "-1 entries"} {
		if got := Count(n, "entry", "entries"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	list := []string{"join", "users", "rooms", "me", "Standup"}
	for name, want := range map[string]string{
		"joinn": "join", "usres": "users", "ROOM": "rooms", "stadup": "Standup", "join": "join",
		"": "", "nothing": "", "xy": "", "mx": "me",
	} {
		if got := Nearest(name, list); got != want {
			t.Errorf("nearest to %q is %q, want %q", name, got, want)
		}
	}
	if got := Nearest("any", nil); got != "" {
		t.Errorf("got %q of nothing", got)
	}
}
