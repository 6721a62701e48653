package theme

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/creack/pty"

	"lanchat/node/markup"
	"lanchat/wire/clean"
)

// paint switches colour for one test.
func paint(t *testing.T, on bool) {
	t.Helper()
	Set(on)
	t.Cleanup(func() { Set(false) })
}

func TestMain(m *testing.M) {
	Set(false)
	os.Exit(m.Run())
}

func TestPaint(t *testing.T) {
	// Only Style.Sprint on clean text, which reads no tags.
	const text = "<red>ADMIN</> hello"
	for _, th := range []*Theme{Basic, Dark, Light} {
		for k := range kinds {
			paint(t, false)
			if got := th.Paint(k, text); got != text {
				t.Errorf("kind %d without colour: %q", k, got)
			}
			paint(t, true)
			got := th.Paint(k, text)
			if !strings.Contains(got, text) {
				t.Errorf("kind %d reads tags: %q", k, got)
			}
			if k != Plain && !(strings.HasPrefix(got, "\x1b[") && strings.HasSuffix(got, "m"+text+"\x1b[0m")) {
				t.Errorf("kind %d has no look: %q", k, got)
			}
			if k.Mark() == "" {
				t.Errorf("kind %d has no mark", k)
			}
		}
		looks := map[string]bool{}
		for _, n := range []string{"ann", "bob", "cyd", "dan"} {
			if got := th.Name(n, text); !strings.Contains(got, text) {
				t.Errorf("a name reads tags: %q", got)
			} else {
				looks[got] = true
			}
		}
		if len(looks) == 1 {
			t.Error("everybody has the same colour")
		}
	}
}

// Every colour of the full screen can be read on its background: a contrast of
// 4.5 (WCAG 2, AA) on what dark and light terminals have. And what means something
// is told apart by people who lack red (protanopia) or green (deuteranopia), as
// Machado and others model it.
func TestColoursAreTold(t *testing.T) {
	paint(t, true)
	rgb := regexp.MustCompile(`[\[;]38;2;(\d+);(\d+);(\d+)`)
	colourOf := func(painted string) (c [3]float64, ok bool) {
		m := rgb.FindStringSubmatch(painted)
		for i := range c {
			if m == nil {
				return c, false
			}
			n, _ := strconv.Atoi(m[i+1])
			if c[i] = float64(n) / 255; c[i] <= 0.04045 {
				c[i] /= 12.92
			} else {
				c[i] = math.Pow((c[i]+0.055)/1.055, 2.4)
			}
		}
		return c, true
	}
	luminance := func(c [3]float64) float64 { return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2] }
	contrast := func(a, b [3]float64) float64 {
		x, y := luminance(a), luminance(b)
		return (max(x, y) + 0.05) / (min(x, y) + 0.05)
	}
	see := map[string][3][3]float64{
		"protanopia":   {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
		"deuteranopia": {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
	}
	for name, on := range map[*Theme][][3]float64{Dark: {{0, 0, 0}, {0.0075, 0.0090, 0.0130}}, Light: {{1, 1, 1}, {0.92, 0.92, 0.85}}} {
		meaning := map[Kind][3]float64{}
		for k := range kinds {
			c, ok := colourOf(name.Paint(k, "x"))
			if k == Bar || k == Current || !ok { // they bring their background, or the terminal's own colour
				continue
			}
			for _, back := range on {
				if got := contrast(c, back); got < 4.5 {
					t.Errorf("kind %d has a contrast of %.1f", k, got)
				}
			}
			switch k {
			case People, Rooms, Notice, Trouble, Error, Mention:
				meaning[k] = c
			}
		}
		for _, n := range name.names {
			if c, ok := colourOf(n.Sprint("x")); !ok || contrast(c, on[0]) < 4.5 {
				t.Errorf("a name has a contrast of %.1f", contrast(c, on[0]))
			}
		}
		// Trouble and errors against what is well.
		for who, m := range see {
			seen := func(c [3]float64) (s [3]float64) {
				for i := range s {
					for j := range c {
						s[i] += m[i][j] * c[j]
					}
					s[i] = math.Pow(min(max(s[i], 0), 1), 1/2.2)
				}
				return s
			}
			for _, bad := range []Kind{Trouble, Error} {
				for _, well := range []Kind{People, Rooms, Notice} {
					a, b := seen(meaning[bad]), seen(meaning[well])
					d := math.Hypot(math.Hypot(a[0]-b[0], a[1]-b[1]), a[2]-b[2])
					if d < 0.15 {
						t.Errorf("with %s, kinds %d and %d differ by %.2f", who, bad, well, d)
					}
				}
			}
		}
	}
}

// Each part of a link that was wrapped has the id of the whole, and shows
// where it leads.
func TestSpan(t *testing.T) {
	paint(t, true)
	const link = "http://wiki.lan/a/long/way"
	want := regexp.MustCompile("^\x1b]8;id=([0-9a-f]+);http://wiki.lan/a/long/way\x1b\\\\\x1b\\[4m(.*)\x1b\\[0m\x1b]8;;\x1b\\\\$")
	ids, text := map[string]bool{}, ""
	rows := markup.Wrap(markup.Inline(link), 10, 10)
	for _, row := range rows {
		m := want.FindStringSubmatch(Dark.Span(row[0]))
		if m == nil {
			t.Fatalf("got %q", Dark.Span(row[0]))
		}
		ids[m[1]] = true
		text += m[2]
	}
	if len(rows) != 3 || len(ids) != 1 || text != link {
		t.Errorf("%d rows with the ids %v show %q", len(rows), ids, text)
	}
	other := Dark.Span(markup.Span{Text: "http://x.lan", Link: "http://x.lan"})
	for id := range ids {
		if strings.Contains(other, id) {
			t.Error("two links share an id")
		}
	}
}

// FuzzSpan checks that what is painted holds no escape but our own, and all of
// the text.
func FuzzSpan(f *testing.F) {
	for _, s := range []string{"**a** *b* `c` ~~d~~ http://x.org/y", "[a](http://x.org) > b", "<red>x</>"} {
		f.Add(s)
	}
	own := regexp.MustCompile("\x1b(?:\\[[0-9;]*m|]8;(?:id=[0-9a-f]+)?;[!-~]*\x1b\\\\)")
	f.Fuzz(func(t *testing.T, in string) {
		paint(t, true)
		for _, line := range markup.Lines(clean.Text(in, 0)) {
			var text, painted strings.Builder
			for _, s := range line {
				text.WriteString(s.Text)
				painted.WriteString(Light.Span(s))
			}
			if rest := own.ReplaceAllString(painted.String(), ""); strings.ContainsRune(rest, 0x1b) || rest != text.String() {
				t.Fatalf("%+v is painted %q", line, painted.String())
			}
		}
	})
}

func TestEnable(t *testing.T) {
	t.Cleanup(func() { Set(false) })
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ptmx, tty, err := pty.Open()
	if err != nil {
		t.Fatalf("opening a pseudo-terminal: %v", err)
	}
	defer ptmx.Close()
	defer tty.Close()
	for _, tt := range []struct {
		choice  string
		out     *os.File
		term    string
		noColor string
		want    bool
	}{
		{"auto", tty, "xterm-256color", "", true},
		{"", tty, "xterm", "", true},
		{"auto", tty, "xterm", "1", false},
		{"auto", tty, "dumb", "", false},
		{"auto", tty, "", "", false},
		{"auto", file, "xterm", "", false},
		{"always", file, "dumb", "1", true},
		{"never", tty, "xterm", "", false},
	} {
		t.Setenv("TERM", tt.term)
		t.Setenv("NO_COLOR", tt.noColor)
		t.Setenv("FORCE_COLOR", "0") // the library takes that for a yes
		got, err := Enable(tt.choice, tt.out)
		if got != tt.want || err != nil || On() != tt.want {
			t.Errorf("%+v: got %v, %v, colour is on: %v", tt, got, err, On())
		}
		if coloured := Basic.Paint(Error, "x") != "x"; coloured != tt.want {
			t.Errorf("%+v: painted %v", tt, coloured)
		}
	}
	if _, err := Enable("maybe", tty); err == nil {
		t.Error("a choice that is none was taken")
	}
}

// Rule (security): gookit/color's package-level functions read <red> tags in
// what they print, so nobody but the theme may import it, and the theme must
// not call them.
func TestOnlyTheThemeColours(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	theme := filepath.Join(root, "node", "ui", "theme", "theme.go")
	seen := false
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // somebody's scratch file that is gone already
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(src), "gookit/color") {
			return nil
		}
		for _, b := range misuses(t, path, src) {
			t.Error(b)
		}
		if path == theme {
			seen = true
		} else if imports(t, path, src) {
			t.Errorf("%s imports gookit/color; only the theme does", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !seen {
		t.Error("the theme was not looked at")
	}

	// The rule sees what it is for.
	const bad = `package x
import c "github.com/gookit/color"
func f(s string) { c.Printf(s); _ = c.Sprint(s); _ = c.Render(s); _ = c.Text(s); c.Red.Print(s); _ = c.Style{}.Sprint(s) }`
	if got := misuses(t, "bad.go", []byte(bad)); len(got) != 4 {
		t.Errorf("of four misuses these were found: %q", got)
	}
	if !imports(t, "bad.go", []byte(bad)) {
		t.Error("an import was not found")
	}
}

func parse(t *testing.T, path string, src []byte) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, src, 0)
	if err != nil {
		t.Logf("%s is left out: %v", path, err)
		return &ast.File{}
	}
	return f
}

func imports(t *testing.T, path string, src []byte) bool {
	_, ok := importName(parse(t, path, src))
	return ok
}

// importName returns what a file calls the colour library.
func importName(f *ast.File) (name string, ok bool) {
	for _, i := range f.Imports {
		if p, _ := strconv.Unquote(i.Path.Value); strings.HasPrefix(p, "github.com/gookit/color") {
			if i.Name != nil {
				return i.Name.Name, true
			}
			return "color", true
		}
	}
	return "", false
}

// misuses lists the calls of package-level functions that print, render or
// read tags.
func misuses(t *testing.T, path string, src []byte) (bad []string) {
	f := parse(t, path, src)
	name, ok := importName(f)
	if !ok {
		return nil
	}
	if name == "." {
		return []string{path + " imports gookit/color into its own names"}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == name {
			for _, prefix := range []string{"Print", "Sprint", "Fprint", "Render", "Text", "String", "ReplaceTag", "ParseCode", "Lprint"} {
				if strings.HasPrefix(sel.Sel.Name, prefix) && sel.Sel.Name != "RenderTag" {
					bad = append(bad, path+" uses "+name+"."+sel.Sel.Name)
				}
			}
		}
		return true
	})
	return bad
}
