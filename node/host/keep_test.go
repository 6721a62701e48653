package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
)

// An export is a new file that is closed to others, and never takes the place
// of one that is there.
func TestExport(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		l.inRoom("#lab", nodes)
		ann, bob := nodes[0], nodes[1]
		ann.say("#lab", "reliable", "for the record")
		bob.wait("the message", time.Second, message("#lab", "for the record"))
		dir := t.TempDir()
		file := filepath.Join(dir, "lab.json")
		bob.type_("/export #lab " + file)
		bob.wait("that it is done", 10*time.Second, code("exported"))
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(b), `"text":"for the record"`) || strings.Count(string(b), "\n") != 1 {
			t.Errorf("exported %q, %v", b, err)
		}
		bob.mark()
		bob.type_("/export #lab text " + file)
		bob.wait("that it is there", 10*time.Second, func(e chat.Event) bool {
			x, ok := e.(chat.Error)
			return ok && x.Code == "failed" && strings.Contains(x.Text, "already: choose another name")
		})
		if again, err := os.ReadFile(file); err != nil || string(again) != string(b) {
			t.Errorf("now it is %q, %v", again, err)
		}
	})
}
