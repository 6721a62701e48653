package markup

import (
	"reflect"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"lanchat/wire/clean"
)

func TestInline(t *testing.T) {
	link := func(s string) Span { return Span{Text: s, Link: s} }
	for _, tt := range []struct {
		in   string
		want []Span
	}{
		{"", nil},
		{"plain", []Span{{Text: "plain"}}},
		{"  two  spaces ", []Span{{Text: "  two  spaces "}}},
		{"   ", []Span{{Text: "   "}}},
		{"**bold** x", []Span{{Text: "bold", Bold: true}, {Text: " x"}}},
		{"*it* and **bo*th***", []Span{{Text: "it", Italic: true}, {Text: " and "}, {Text: "bo", Bold: true}, {Text: "th", Bold: true, Italic: true}}},
		{"`a*b*` ~~no~~", []Span{{Text: "a*b*", Code: true}, {Text: " "}, {Text: "no", Strike: true}}},
		{"see [the *wiki*](http://wiki.lan/a) now", append([]Span{{Text: "see the *wiki* ("}}, link("http://wiki.lan/a"), Span{Text: ") now"})},
		{"[x](javascript:alert) [y](http://a@b.lan) [z] (http://", []Span{{Text: "[x](javascript:alert) [y](http://a@b.lan) [z] (http://"}}},
		{"2 * 3 * 4", []Span{{Text: "2 * 3 * 4"}}},
		{"**open", []Span{{Text: "**open"}}},
		{"snake_case _x_ __init__ ~user~", []Span{{Text: "snake_case _x_ __init__ ~user~"}}},
		{`C:\*.txt \*no\*`, []Span{{Text: `C:\*.txt \*no\*`}}},
		{"# no heading", []Span{{Text: "# no heading"}}},
		{"- no list", []Span{{Text: "- no list"}}},
		{"> no quote", []Span{{Text: "> no quote"}}},
		{"1. no list", []Span{{Text: "1. no list"}}},
		{"```", []Span{{Text: "```"}}},
		{"---", []Span{{Text: "---"}}},
		{"<red>x</> <b>&amp;", []Span{{Text: "<red>x</> <b>&amp;"}}},
		{"[a](http://b.c)", []Span{{Text: "[a]"}, {Text: "("}, link("http://b.c"), {Text: ")"}}},
		{"see https://go.dev/x?a=b#c, ok", []Span{{Text: "see "}, link("https://go.dev/x?a=b#c"), {Text: ", ok"}}},
		{"(http://10.0.0.5:8080/a)", []Span{{Text: "("}, link("http://10.0.0.5:8080/a"), {Text: ")"}}},
		{"http://printer/", []Span{link("http://printer/")}},
		{"**http://a.b/c**", []Span{{Text: "http://a.b/c", Link: "http://a.b/c", Bold: true}}},
		{"mailto:bob@x.org", []Span{link("mailto:bob@x.org")}},
		{"bob@x.org www.x.org", []Span{{Text: "bob@x.org www.x.org"}}},
		{"ftp://a.b file:///etc javascript:x", []Span{{Text: "ftp://a.b file:///etc javascript:x"}}},
		{"http://good.org@evil.org/", []Span{{Text: "http://good.org@evil.org/"}}},
		{"http://аpple.com/ä", []Span{link("http://xn--pple-43d.com/%C3%A4")}},
	} {
		got := Inline(tt.in)
		if tt.in == "[a](http://b.c)" { // where its plain text is cut does not matter
			if got[len(got)-2] != link("http://b.c") {
				t.Errorf("Inline(%q) = %+v", tt.in, got)
			}
			continue
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Inline(%q)\n got %+v\nwant %+v", tt.in, got, tt.want)
		}
	}
}

func TestLink(t *testing.T) {
	long := "http://x.org/" + strings.Repeat("a", maxLink)
	for in, want := range map[string]string{
		"http://x.org":              "http://x.org",
		"HTTP://x.org":              "HTTP://x.org",
		"https://[::1]:8080/":       "https://[::1]:8080/",
		"http://bücher.example:80/": "http://xn--bcher-kva.example:80/",
		"mailto:a@b.c":              "mailto:a@b.c",
		"mailto:a":                  "", "http://": "", "http:///x": "", "http:x": "", "x.org": "", "": "",
		"ftp://x.org": "", "javascript:alert(1)": "", "file:///etc/passwd": "", "data:text/html,x": "",
		"http://a:b@x.org/": "", "http://x.org/\x1b]8;;": "", "http://x.org/a b": "", "http://x.org/\u0007": "",
		long: "",
	} {
		got, ok := Link(in)
		if got != want || ok != (want != "") {
			t.Errorf("Link(%q) = %q, %v, want %q", in, got, ok, want)
		}
	}
}

func TestLinks(t *testing.T) {
	got := Links("a http://x.org\nb *https://y.org/1* `http://code.org`")
	if want := []string{"http://x.org", "https://y.org/1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNumbered(t *testing.T) {
	const message = "see http://x.org, [the wiki](http://w.lan/a) and http://x.org\n`http://code.org` or mailto:a@b.lan"
	numbers := []int{1, 7, 1, 12}
	var got strings.Builder
	for _, line := range Numbered(Lines(message), numbers) {
		for _, s := range line {
			got.WriteString(s.Text)
		}
		got.WriteString("\n")
	}
	if want := "see http://x.org [1], the wiki (http://w.lan/a [7]) and http://x.org [1]\nhttp://code.org or mailto:a@b.lan [12]\n"; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
	typed := NumberedText(message, numbers)
	if want := "see http://x.org [1], [the wiki](http://w.lan/a) [7] and http://x.org [1]\n`http://code.org` or mailto:a@b.lan [12]"; typed != want {
		t.Errorf("got %q, want %q", typed, want)
	}
	if got, want := NumberedText(message, numbers[:1]), "see http://x.org [1], [the wiki](http://w.lan/a) and"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLines(t *testing.T) {
	plain := func(s string) []Span { return []Span{{Text: s}} }
	code := func(s string) []Span { return []Span{{Text: s, Code: true}} }
	for _, tt := range []struct {
		in   string
		want [][]Span
	}{
		{"", [][]Span{nil}},
		{"a\n\nb", [][]Span{plain("a"), nil, plain("b")}},
		{"x\n```go\n**a**\n\n  b\n```\ny", [][]Span{plain("x"), code("**a**"), code(""), code("  b"), plain("y")}},
		{"```\nnever closed", [][]Span{plain("```"), plain("never closed")}},
		{"```\n```", [][]Span{nil}},
		{"> a **b**\nc", [][]Span{{{Text: "> a ", Quote: true}, {Text: "b", Bold: true, Quote: true}}, plain("c")}},
	} {
		if got := Lines(tt.in); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", tt.in, got, tt.want)
		}
	}
}

// FuzzInline checks that nothing of a line is invented, and that a link is
// what it shows.
func FuzzInline(f *testing.F) {
	for _, s := range []string{"**a** *b* `c` ~~d~~ http://x.org/y", "*a **b* c**", "\\*", "``a` b``", "http://é.org", "((http://x.org/)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		line := clean.Line(in, 0)
		links := false
		var text strings.Builder
		for _, s := range Inline(line) {
			if s.Link != "" {
				links = true
				if got, ok := Link(s.Link); !ok || got != s.Link || s.Text != s.Link || !ascii(s.Link) {
					t.Fatalf("%q has the link %+v", line, s)
				}
			}
			text.WriteString(s.Text)
		}
		if !links && !subsequence(text.String(), line) {
			t.Fatalf("%q became %q", line, text.String())
		}
	})
}

// subsequence reports whether a is b with runes left out.
func subsequence(a, b string) bool {
	rest := []rune(b)
	for _, r := range a {
		for len(rest) > 0 && rest[0] != r {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return false
		}
		rest = rest[1:]
	}
	return true
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		in          string
		first, rest int
		want        []string
	}{
		{"", 5, 5, []string{""}},
		{"one two three", 0, 0, []string{"one two three"}},
		{"one two three", 7, 9, []string{"one two", "three"}},
		{"one two three", 8, 9, []string{"one two ", "three"}},
		{"one two", 2, 9, []string{"", "one two"}},
		{"longword", 3, 9, []string{"", "longword"}},
		{"longword", -3, 4, []string{"", "long", "word"}},
		{"ab longword", 5, 4, []string{"ab lo", "ngwo", "rd"}},
		{"你好吗", 4, 4, []string{"你好", "吗"}},
		{"👩\u200d👧👩\u200d👧", 4, 4, []string{"👩\u200d👧", "👩\u200d👧"}}, // drawn in four columns by some
		{"a   b", 2, 8, []string{"a", "b"}},
	} {
		var got []string
		for _, row := range Wrap(Typed(tt.in)[0], tt.first, tt.rest) {
			text := ""
			for _, s := range row {
				text += s.Text
			}
			got = append(got, text)
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Wrap(%q, %d, %d) = %q, want %q", tt.in, tt.first, tt.rest, got, tt.want)
		}
	}
}

// FuzzWrap checks that no row is wider than it may be, and that nothing but
// spaces at breaks is lost.
func FuzzWrap(f *testing.F) {
	f.Add("one two three", uint8(5), uint8(9))
	f.Add("  indented, and averyveryverylongword behind it", uint8(0), uint8(10))
	f.Add("你好吗 👩\u200d👧 Z\u0301\u0301 \U00029b26\u0b48", uint8(3), uint8(0))
	f.Fuzz(func(t *testing.T, in string, f, r uint8) {
		line := clean.Line(in, 0)
		first, rest := int(f%40), 2+int(r%40)
		all := ""
		for i, row := range Wrap([]Span{{Text: line, Bold: true}, {Text: line}}, first, rest) {
			text := ""
			for _, s := range row {
				text += s.Text
			}
			all += text
			limit := rest
			if i == 0 {
				limit = first
			}
			if Cells(text) > limit && limit >= widestSign(text) {
				t.Fatalf("%q in %d columns", text, limit)
			}
		}
		if strings.ReplaceAll(all, " ", "") != strings.ReplaceAll(line+line, " ", "") {
			t.Fatalf("%q became %q", line+line, all)
		}
	})
}

// widestSign returns the columns of the widest sign in s, which is never
// broken.
func widestSign(s string) (n int) {
	for s != "" {
		sign, _ := ansi.FirstGraphemeCluster(s, ansi.GraphemeWidth)
		n = max(n, Cells(sign))
		s = s[len(sign):]
	}
	return n
}

// A hostile line must not cost more than its length is worth.
func BenchmarkInlineHostile(b *testing.B) {
	s := strings.Repeat("*a_`[", maxMarkup/5)
	b.SetBytes(int64(len(s)))
	for b.Loop() {
		Inline(s)
	}
}
