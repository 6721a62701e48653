//go:build linux

package main_test

import (
	"fmt"
	"testing"

	"lanchat/testdata/lan/emu"
)

// "Any member that has it hands it on": bob was away while ann spoke, and comes
// back when she is gone; carol has it, and gives it to him.
func TestAwayAndBack(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(4)...)
	a := l.authd("h1", "authd")
	ann, bob, carol := l.newcomer("h2", "ann"), l.newcomer("h3", "bob"), l.newcomer("h4", "carol")
	for _, n := range []*node{ann, bob, carol} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol)
	gather("#lab", ann, bob, carol)
	tell("#lab", "reliable", "all here", ann, bob, carol)
	bob.quit()
	carol.want("peer", "user", "bob", "state", "left")
	var ids []string
	const n = 30
	for i := range n {
		id := ann.say("#lab", "reliable", fmt.Sprint("while bob was away ", i))
		carol.want("message", "id", id)
		ids = append(ids, id)
	}
	ann.quit()
	carol.want("peer", "user", "ann", "state", "left")

	bob = l.node("h3", "bob")
	bob.ready("bob", a)
	for i, id := range ids {
		bob.want("message", "id", id, "from", "ann", "text", fmt.Sprint("while bob was away ", i), "replay", true)
	}
	got := bob.all("message")
	if len(got) != n {
		t.Errorf("bob sees %d messages, want %d", len(got), n)
	}
	for i, e := range got {
		if e.text("id") != ids[i] {
			t.Fatalf("bob sees %q as the message %d", e.text("text"), i)
		}
	}

	// The author hears of it when she is back, and nobody sees anything again.
	ann = l.node("h2", "ann")
	ann.ready("ann", a)
	meet(ann, bob)
	meet(ann, carol)
	tell("#lab", "reliable", "back", ann, bob, carol)
	if got := bob.all("message"); len(got) != n+1 {
		t.Errorf("bob sees %d messages in the end, want %d", len(got), n+1)
	}
	if got := carol.all("message"); len(got) != n+2 {
		t.Errorf("carol sees %d messages in the end, want %d", len(got), n+2)
	}
}
