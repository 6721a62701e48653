package chat

import "testing"

func TestTable(t *testing.T) {
	got := table([][]string{{"#lab", "1 member", "a topic"}, {"#workshop", "", "of two\nlines"}, {"#x", "12 members", ""}})
	want := []string{
		"#lab       1 member    a topic",
		"#workshop              of two\n                       lines",
		"#x         12 members",
	}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("got %q, want %q", got, want)
			break
		}
	}
	if got := table(nil); len(got) != 0 {
		t.Errorf("no rows: %q", got)
	}
}
