package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layers is who may know whom: for each package the packages of this module
// that it may import. Imports point down: mains know shells and adapters,
// those know cores, all know the ground. Shells and adapters do not know each
// other; a main introduces them.
var layers = map[string][]string{
	// ground
	"wire":         {},
	"wire/clean":   {},
	"wire/private": {},
	"wire/words":   {},
	"wire/usage":   {"wire/words"},
	"wire/dbfile":  {"wire/private"},
	"wire/realm":   {"wire"},
	"wire/link":    {"wire", "wire/realm"},

	// cores
	"discovery/presence": {"wire"},
	"authd/account":      {"wire", "wire/realm"},
	"authd/mailbox":      {"authd/account", "wire"},
	"node/room":          {"wire"},
	"node/delivery":      {"wire"},
	"node/markup":        {},
	"node/chat":          {"node/delivery", "node/markup", "node/room", "wire", "wire/clean", "wire/realm", "wire/words"},

	// adapters
	"discovery":               {"discovery/presence", "wire"},
	"discovery/memnet":        {"discovery", "discovery/presence"},
	"authd/account/storetest": {"authd/account", "wire", "wire/realm"}, // for tests only
	"authd/store":             {"authd/account", "authd/mailbox", "wire", "wire/dbfile", "wire/realm"},
	"node/store":              {"node/chat", "wire", "wire/dbfile"},
	"node/ui/theme":           {"node/markup"},
	"node/ui/view":            {"node/chat", "node/ui/theme", "wire/clean", "wire/words"},
	"node/ui/screen":          {"node/chat", "node/markup", "node/ui/theme", "node/ui/view", "wire/clean"},
	"node/ui":                 {"node/chat", "node/markup", "node/ui/screen", "node/ui/theme", "node/ui/view", "wire/clean"},
	"node/doctor":             {},

	// shells
	"authd/server": {"authd/account", "authd/mailbox", "wire", "wire/clean", "wire/link", "wire/private", "wire/realm"},
	"node/login":   {"wire", "wire/link", "wire/private", "wire/realm"},
	"node/host":    {"discovery/presence", "node/chat", "node/login", "wire", "wire/clean", "wire/link", "wire/realm"},

	// mains
	"authd/serve":  {"authd/account", "authd/server", "authd/store", "discovery", "discovery/presence", "wire", "wire/private", "wire/realm"},
	"authd":        {"authd/serve", "authd/account", "authd/server", "authd/store", "discovery", "wire", "wire/private", "wire/realm", "wire/usage", "wire/words"},
	"node/checkup": {"discovery", "discovery/presence", "node/doctor", "node/login", "wire", "wire/clean", "wire/link", "wire/realm"},
	"node": {"authd/serve", "discovery", "discovery/presence", "node/chat", "node/checkup", "node/doctor", "node/host",
		"node/login", "node/store", "node/ui", "node/ui/theme", "wire", "wire/clean", "wire/private", "wire/realm", "wire/usage"},
}

// cores do no I/O, start no goroutine and never read the clock.
var cores = []string{"discovery/presence", "authd/account", "authd/mailbox", "node/room", "node/delivery", "node/markup", "node/chat", "node/ui/view", "node/ui/screen"}

// ioPackages are what a core may not import; net/netip is fine.
var ioPackages = []string{"net", "os", "os/exec", "os/signal", "database/sql", "io/ioutil", "net/http", "syscall"}

// owners are the only packages that may import a library.
var owners = map[string][]string{
	"github.com/hashicorp/mdns":   {"discovery"},
	"github.com/quic-go/quic-go":  {"wire/link", "authd/server", "node/login", "node/host", "node/checkup"},
	"github.com/mattn/go-sqlite3": {"wire/dbfile"},
	"github.com/gookit/color":     {"node/ui/theme"},
	"github.com/spf13/cobra":      {"wire/usage", "authd", "node"},
	"github.com/gen2brain/beeep":  {"node"},
}

type goPackage struct {
	ImportPath string
	Dir        string
	Imports    []string
	GoFiles    []string
}

// modulePackages returns the module's packages by their path in it.
func modulePackages(t *testing.T) map[string]goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json", "lanchat/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string]goPackage{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[strings.TrimPrefix(p.ImportPath, "lanchat/")] = p
	}
}

func TestImports(t *testing.T) {
	packages := modulePackages(t)
	for name, p := range packages {
		allowed, known := layers[name]
		if !known {
			t.Errorf("package %s is not in the picture: say who may know it", name)
		}
		for _, imp := range p.Imports {
			if inner, ok := strings.CutPrefix(imp, "lanchat/"); ok && !slices.Contains(allowed, inner) {
				t.Errorf("%s imports %s", name, inner)
			}
			for library, users := range owners {
				if (imp == library || strings.HasPrefix(imp, library+"/")) && !slices.Contains(users, name) {
					t.Errorf("%s imports %s, which is for %v", name, imp, users)
				}
			}
			if slices.Contains(cores, name) && slices.Contains(ioPackages, imp) {
				t.Errorf("%s is a core and imports %s", name, imp)
			}
		}
	}
	for name := range layers {
		if _, ok := packages[name]; !ok {
			t.Errorf("the picture has a package %s that does not exist", name)
		}
	}
}

// Cores never read the clock and start no goroutine; nobody listens or dials
// TCP; crypto needs crypto/rand.
func TestForbiddenText(t *testing.T) {
	inCores := []string{"time.Now(", "time.Sleep(", "time.After(", "time.NewTimer(", "time.Since(", "\tgo func", "\"math/rand"}
	everywhere := []string{"net.Listen(\"tcp", "net.Dial(\"tcp", "net.ListenTCP(", "net.DialTCP(", "http.ListenAndServe", "\"math/rand\"", "KeyLogWriter:"}
	for name, p := range modulePackages(t) {
		for _, file := range p.GoFiles {
			b, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			words := everywhere
			if slices.Contains(cores, name) {
				words = slices.Concat(words, inCores)
			}
			for _, w := range words {
				if bytes.Contains(b, []byte(w)) {
					t.Errorf("%s/%s: %q has no place there", name, file, w)
				}
			}
		}
	}
}
