//go:build linux

package main_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"lanchat/testdata/lan/emu"
)

// A data directory of yesterday is put back, that of a room's admin: whatever is
// said then comes to everybody, nothing that was said since is lost to the others
// or here, and nobody is told that the admin signed two histories.
func TestOlderCopy(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(4)...)
	a := l.authd("h1", "authd")
	ann, bob, carol := l.newcomer("h2", "ann"), l.newcomer("h3", "bob"), l.newcomer("h4", "carol")
	for _, n := range []*node{ann, bob, carol} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol)
	gather("#lab", ann, bob, carol)
	talk("#lab", "before", ann, bob, carol)
	whisper("reliable", "before", ann, bob)
	back := func() {
		t.Helper()
		ann = l.node("h2", "ann")
		ann.ready("ann", a)
	}
	ann.quit()
	yesterday := l.copyOf("ann")

	back()
	meet(ann, bob, carol)
	const since = 20
	for i := range since {
		tell("#lab", "reliable", fmt.Sprint("since then ", i), ann, bob, carol)
		whisper("reliable", fmt.Sprint("since then ", i), ann, bob)
	}
	ann.line("/topic since then")
	ann.line("/op carol")
	for _, n := range []*node{ann, bob, carol} {
		n.want("room", "chat", "#lab", "cause", "promoted", "whom", "carol", "topic", "since then")
	}
	ann.quit()
	if err := os.RemoveAll(l.path("ann")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(yesterday, l.path("ann")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{bob, carol} {
		n.want("peer", "user", "ann", "state", "left")
		n.fresh()
	}

	back()
	ann.object("cmd", "do", "chat", "#lab", "line", "/topic today")
	first, direct := ann.say("#lab", "reliable", "first"), ann.say("@bob", "reliable", "first")
	for _, n := range []*node{bob, carol} {
		n.want("message", "chat", "#lab", "from", "ann", "text", "first", "id", first)
		n.want("room", "chat", "#lab", "cause", "topic", "by", "ann", "topic", "today", "admins", []string{"ann", "carol"})
	}
	bob.want("message", "chat", "@ann", "from", "ann", "text", "first", "id", direct)
	ann.want("receipt", "id", first, "got", 2, "of", 2)
	ann.want("receipt", "id", direct)
	meet(ann, bob, carol)
	talk("#lab", "today", ann, bob, carol)
	whisper("reliable", "today", ann, bob)
	whisper("reliable", "today", bob, ann)

	file := l.path("history.json")
	ann.line("/export #lab %s", file)
	ann.want("notice", "code", "exported")
	history, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range since {
		if text := fmt.Sprintf("%q", fmt.Sprint("since then ", i)); strings.Count(string(history), text) != 1 {
			t.Errorf("%s is %d times in ann's history, want once", text, strings.Count(string(history), text))
		}
	}
	for _, n := range []*node{ann, bob, carol} {
		for _, code := range []string{"double_signing", "merged"} {
			if got := n.all("notice", "code", code); len(got) > 0 {
				t.Errorf("%s is told: %v", n.name, got[0].fields)
			}
		}
	}
}
