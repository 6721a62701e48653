package ui

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// paint switches colour for one test.
func paint(t *testing.T, on bool) {
	t.Helper()
	setColor(on)
	t.Cleanup(func() { setColor(false) })
}

func TestMain(m *testing.M) {
	setColor(false)
	os.Exit(m.Run())
}

func TestPaint(t *testing.T) {
	// Rule (security): only Style.Sprint on clean text, which reads no tags.
	const text = "<red>ADMIN</> hello"
	for k := range kinds {
		paint(t, false)
		if got := k.Paint(text); got != text {
			t.Errorf("kind %d without colour: %q", k, got)
		}
		paint(t, true)
		got := k.Paint(text)
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
	if PaintName("ann") == PaintName("bob") && PaintName("bob") == PaintName("cyd") && PaintName("cyd") == PaintName("dan") {
		t.Error("everybody has the same colour")
	}
}

func TestEnableColor(t *testing.T) {
	t.Cleanup(func() { setColor(false) })
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, tty := openPTY(t)
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
		got, err := EnableColor(tt.choice, tt.out)
		if got != tt.want || err != nil || colorOn() != tt.want {
			t.Errorf("%+v: got %v, %v, colour is on: %v", tt, got, err, colorOn())
		}
		if coloured := Error.Paint("x") != "x"; coloured != tt.want {
			t.Errorf("%+v: painted %v", tt, coloured)
		}
	}
	if _, err := EnableColor("maybe", tty); err == nil {
		t.Error("a choice that is none was taken")
	}
}

// Rule (security): gookit/color's package-level functions read <red> tags in
// what they print, so nobody but the theme may import it, and the theme must
// not call them.
func TestOnlyTheThemeColours(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	theme := filepath.Join(root, "node", "ui", "theme.go")
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
