// Package vectors compares what the code makes with the known answers beside
// it: one file per conversation, a line "name hex" per answer, by which
// another implementation can check itself. It is for tests only.
//
//	go test ./wire ./node/room -update
//
// rewrites the files; the difference is to be read before it is kept.
package vectors

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the known answers in testdata/vectors")

// A Vector is one known answer. Name has no spaces.
type Vector struct {
	Name  string
	Bytes []byte
}

// Check compares vectors with the file of that name, which begins with about.
func Check(t testing.TB, file, about string, got []Vector) {
	t.Helper()
	_, self, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(self), file)
	if *update {
		var b bytes.Buffer
		for line := range strings.Lines(about) {
			fmt.Fprintf(&b, "# %s\n", strings.TrimSpace(line))
		}
		for _, v := range got {
			fmt.Fprintf(&b, "%s %x\n", v.Name, v.Bytes)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := load(t, path)
	if len(got) != len(want) {
		t.Errorf("%s: %d vectors, want %d", file, len(got), len(want))
	}
	for _, v := range got {
		w, ok := want[v.Name]
		if !ok {
			t.Errorf("%s: no vector %s", file, v.Name)
		} else if !bytes.Equal(v.Bytes, w) {
			t.Errorf("%s: %s:\n got %x\nwant %x", file, v.Name, v.Bytes, w)
		}
	}
}

func load(t testing.TB, path string) map[string][]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	vectors := map[string][]byte{}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, digits, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		b, err := hex.DecodeString(digits)
		if _, twice := vectors[name]; err != nil || twice {
			t.Fatalf("%s: line %q: error %v, twice %v", path, line, err, twice)
		}
		vectors[name] = b
	}
	return vectors
}
