package clean

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// What an adversary would put into a message, a name or a reason, each with
// what may be left of it.
var hostile = []struct {
	name, in, text, line string
}{
	{"plain", "hi, Grüße, 你好", "hi, Grüße, 你好", "hi, Grüße, 你好"},
	{"lines", "a\nb\r\nc", "a\nb\nc", "a b c"},
	{"tab", "a\tb", "a    b", "a b"},
	{"carriage return", "ann: hi\rbob: yo", "ann: hibob: yo", "ann: hibob: yo"},
	{"csi", "\x1b[2J\x1b[Hgone", "[2J[Hgone", "[2J[Hgone"},
	{"osc 52", "\x1b]52;c;cm0gLXJm\x07x", "]52;c;cm0gLXJmx", "]52;c;cm0gLXJmx"},
	{"osc 8", "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", `]8;;http://evil\click]8;;\`, `]8;;http://evil\click]8;;\`},
	{"dcs", "\x1bP1$r\x1b\\", `P1$r\`, `P1$r\`},
	{"c1 csi", "\u009b31mred", "31mred", "31mred"},
	{"c1 as one byte", "\x9b31mred", "\ufffd31mred", "\ufffd31mred"},
	{"c1 osc and st", "\u009d0;title\u009c.", "0;title.", "0;title."},
	{"nul, bell, backspace, del", "a\x00b\ac\bd\x7fe", "abcde", "abcde"},
	{"line separators", "a\u2028b\u2029c\u0085d", "abcd", "a b cd"},
	{"bidi override", "file\u202egpj.exe", "filegpj.exe", "filegpj.exe"},
	{"bidi isolates", "\u2066a\u2067b\u2068c\u2069", "abc", "abc"},
	{"bidi marks", "a\u200eb\u200fc\u061cd", "abcd", "abcd"},
	{"zero width", "ad\u200bm\u2060i\ufeffn", "admin", "admin"},
	{"soft hyphen", "ad\u00admin", "admin", "admin"},
	{"tags", "hi\U000e0001\U000e0041\U000e007f", "hi", "hi"},
	{"private use", "a\ue000b\U000f0000c\U0010fffdd", "abcd", "abcd"},
	{"unassigned", "a\u0378b\U000e0080c", "abc", "abc"},
	{"non-characters", "a\ufffeb\uffffc\ufdd0d\U0001fffee", "abcde", "abcde"},
	{"hangul fillers", "a\u3164b\u115fc\uffa0d", "abcd", "abcd"},
	{"not utf-8", "a\xff\xc3(b", "a\ufffd\ufffd(b", "a\ufffd\ufffd(b"},
	{"overlong and surrogate", "\xc0\xaf\xed\xa0\x80", strings.Repeat("\ufffd", 5), strings.Repeat("\ufffd", 5)},
	{"colour tags stay text", "<red>ADMIN</> hello", "<red>ADMIN</> hello", "<red>ADMIN</> hello"},
	{"zalgo", "Z" + strings.Repeat("\u0301", 20) + "x", "Z" + strings.Repeat("\u0301", 4) + "x", "Z" + strings.Repeat("\u0301", 4) + "x"},
	{"zalgo around a zero width", "Z\u0301\u0301\u0301\u200b\u0301\u0301", "Z\u0301\u0301\u0301\u0301", "Z\u0301\u0301\u0301\u0301"},
	{"mark without a base", "\u0301a\n\u0301b", "a\nb", "a \u0301b"},
	{"mark after a dropped space", " \u0301a", " \u0301a", "a"},
	{"family", "👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"},
	{"heart on fire", "❤\ufe0f\u200d🔥!", "❤\ufe0f\u200d🔥!", "❤\ufe0f\u200d🔥!"},
	{"skin tone", "👩🏽\u200d💻", "👩🏽\u200d💻", "👩🏽\u200d💻"},
	{"keycap", "1\ufe0f\u20e3 2\ufe0f", "1\ufe0f\u20e3 2", "1\ufe0f\u20e3 2"},
	{"flag", "🇩🇪", "🇩🇪", "🇩🇪"},
	{"joiner in a word", "ad\u200dmin\u200cs", "admins", "admins"},
	{"joiner at the end", "👩\u200d", "👩", "👩"},
	{"joiner before text", "👩\u200dx", "👩x", "👩x"},
	{"selector on a letter", "a\ufe0f\ufe00", "a", "a"},
	{"two selectors", "❤\ufe0f\ufe0f", "❤\ufe0f", "❤\ufe0f"},
	{"persian", "می\u200cخواهم", "می\u200cخواهم", "می\u200cخواهم"},
	{"sinhala", "ශ්\u200dරී", "ශ්\u200dරී", "ශ්\u200dරී"},
	{"persian, then latin", "می\u200cx", "میx", "میx"},
	{"spaces", "  a \u00a0\u3000 b  ", "  a \u00a0\u3000 b  ", "a b"},
	{"spaces around a joiner", "x \u200d y", "x  y", "x y"},
	{"nothing", "\x1b\u202e", "", ""},
}

func TestHostile(t *testing.T) {
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			if got := Text(tt.in, 0); got != tt.text {
				t.Errorf("Text(%q) = %q, want %q", tt.in, got, tt.text)
			}
			if got := Line(tt.in, 0); got != tt.line {
				t.Errorf("Line(%q) = %q, want %q", tt.in, got, tt.line)
			}
		})
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		in   string
		max  int
		want string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "abc"},
		{"aüb", 2, "a"},
		{"aüb", 3, "aü"},
		{"a\xffb", 3, "a"},
		{"👩\u200d👧", 10, "👩"},
		{"👩\u200d👧", 11, "👩\u200d👧"},
		{"aé你", 5, "aé"},  // once something did not fit, nothing shorter
		{"aé你b", 5, "aé"}, // from behind it moves up
	} {
		if got := Text(tt.in, tt.max); got != tt.want {
			t.Errorf("Text(%q, %d) = %q, want %q", tt.in, tt.max, got, tt.want)
		}
	}
	if got := Line("a b", 2); got != "a" {
		t.Errorf("Line(%q, 2) = %q, want no space at the end", "a b", got)
	}
}

// Every rune is let through alone or is not; what Forbidden says and what
// the functions do must agree, and the rules of the terminal hold.
func TestEveryRune(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		got := Text("a"+string(r)+"a", 0)
		if Forbidden(r) && r != '\t' && got != "aa" {
			t.Errorf("%U is forbidden but comes through as %q", r, got)
		}
		switch {
		case r == '\n' || r >= ' ' && r < 0x7f:
			if Forbidden(r) {
				t.Errorf("%U is forbidden", r)
			}
		case r < 0xa0,
			r >= 0x200b && r <= 0x200f && r != zwj && r != zwnj,
			r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0x061c, r == 0xfeff,
			r >= 0xe000 && r <= 0xf8ff, r >= 0xe0000:
			if !Forbidden(r) {
				t.Errorf("%U is let through", r)
			}
		}
	}
}

// check fails the test unless s obeys every rule of the package.
func check(t *testing.T, in, s string, line bool) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Fatalf("%q became %q, which is not UTF-8", in, s)
	}
	marks := 0
	for i, r := range s {
		if Forbidden(r) || line && r == '\n' {
			t.Fatalf("%q became %q with %U", in, s, r)
		}
		switch r {
		case zwj, zwnj:
			rest := []rune(s[i:])
			if len(rest) < 2 || i == 0 {
				t.Fatalf("%q became %q with a joiner at an end", in, s)
			}
			if !isEmoji(rest[1]) && joining(rest[1]) == nil {
				t.Fatalf("%q became %q with a joiner before %U", in, s, rest[1])
			}
			continue
		case vs15, vs16:
			continue
		}
		if strings.ContainsRune("\u0301\u0302\u0489", r) {
			if marks++; marks > MaxMarks {
				t.Fatalf("%q became %q with more than %d marks", in, s, MaxMarks)
			}
		} else {
			marks = 0
		}
	}
}

func FuzzText(f *testing.F) {
	for _, tt := range hostile {
		f.Add(tt.in, 0)
		f.Add(tt.in, 7)
	}
	f.Fuzz(func(t *testing.T, in string, max int) {
		s := Text(in, max)
		check(t, in, s, false)
		if max > 0 && len(s) > max {
			t.Fatalf("Text(%q, %d) has %d bytes", in, max, len(s))
		}
		if again := Text(s, max); again != s {
			t.Fatalf("Text(%q) = %q, cleaned again %q", in, s, again)
		}
	})
}

func FuzzLine(f *testing.F) {
	for _, tt := range hostile {
		f.Add(tt.in, 0)
		f.Add(tt.in, 7)
	}
	f.Fuzz(func(t *testing.T, in string, max int) {
		s := Line(in, max)
		check(t, in, s, true)
		if max > 0 && len(s) > max {
			t.Fatalf("Line(%q, %d) has %d bytes", in, max, len(s))
		}
		if strings.HasPrefix(s, " ") || strings.HasSuffix(s, " ") || strings.Contains(s, "  ") {
			t.Fatalf("Line(%q) = %q has spaces to spare", in, s)
		}
		if again := Line(s, max); again != s {
			t.Fatalf("Line(%q) = %q, cleaned again %q", in, s, again)
		}
		if text := Text(s, max); text != s {
			t.Fatalf("Line(%q) = %q, which Text makes %q", in, s, text)
		}
	})
}

func TestRoomName(t *testing.T) {
	for in, want := range map[string]string{
		"#lab": "#lab", "lab": "#lab", "#Lab": "#lab", "#a": "#a", "#7": "#7", "#c++": "", "#go.1_x-y": "#go.1_x-y",
		"": "", "#": "", "##lab": "", "#.lab": "", "#-": "", "#_a": "", "#la b": "", "#lab\n": "", "#lаb": "", // Cyrillic а
		"#\x1b[31m": "", "#é": "", "@bob": "", "#\u212aelvin": "", // Kelvin sign folds to k elsewhere
		"#" + strings.Repeat("a", 32): "#" + strings.Repeat("a", 32),
		"#" + strings.Repeat("a", 33): "",
	} {
		got, err := RoomName(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("RoomName(%q) = %q, %v, want %q", in, got, err, want)
		}
		if err != nil && !errors.Is(err, ErrRoomName) {
			t.Errorf("RoomName(%q): %v, want ErrRoomName", in, err)
		}
	}
}

func FuzzRoomName(f *testing.F) {
	f.Add("#lab")
	f.Add("Lab-1")
	f.Fuzz(func(t *testing.T, in string) {
		name, err := RoomName(in)
		if err != nil {
			return
		}
		if again, err := RoomName(name); again != name || err != nil {
			t.Fatalf("RoomName(%q) = %q, then %q, %v", in, name, again, err)
		}
		if Line(name, 0) != name {
			t.Fatalf("RoomName(%q) = %q, which is not clean", in, name)
		}
	})
}

func TestTopic(t *testing.T) {
	if got, err := Topic(" exam\non \u202eMonday "); got != "exam on Monday" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := Topic(""); got != "" || err != nil {
		t.Errorf("the empty topic: got %q, %v", got, err)
	}
	if got, err := Topic(strings.Repeat("é", 64)); got == "" || err != nil {
		t.Errorf("64 runes: got %q, %v", got, err)
	}
	if got, err := Topic(strings.Repeat("é", 65)); got != "" || !errors.Is(err, ErrTopic) {
		t.Errorf("65 runes: got %q, %v", got, err)
	}
}

func BenchmarkText(b *testing.B) {
	s := strings.Repeat("The quick brown fox, Grüße und so weiter. ", 5)
	b.SetBytes(int64(len(s)))
	b.ReportAllocs()
	for b.Loop() {
		Text(s, 0)
	}
}
