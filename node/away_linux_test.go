//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
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

// "A sealed mailbox at authd delivers a reliable DM even when sender and
// receiver are never online together": two programs that take turns.
func TestNeverTogether(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(3)...)
	a := l.authd("h1", "authd")
	ann, bob := l.newcomer("h2", "ann"), l.newcomer("h3", "bob")
	for _, n := range []*node{ann, bob} {
		n.ready(n.name, a)
	}
	meet(ann, bob)
	whisper("reliable", "we have met", ann, bob)
	bob.quit()
	ann.want("peer", "user", "bob", "state", "left")
	var ids []string
	for i := range 5 {
		ids = append(ids, ann.say("@bob", "reliable", fmt.Sprint("for later ", i)))
	}
	for range ids {
		ann.want("notice", "code", "kept")
	}
	l.run("h1", "", "authd", "status", "--data", a.data).exits(0).says("5 messages waiting")
	ann.quit()

	bob = l.node("h3", "bob")
	bob.ready("bob", a)
	for i, id := range ids {
		bob.want("message", "id", id, "chat", "@ann", "from", "ann", "text", fmt.Sprint("for later ", i), "mode", "reliable")
	}
	// His node says so to authd, for ann: that much waits now.
	for !strings.Contains(l.run("h1", "", "authd", "status", "--data", a.data).exits(0).out, "1 message waiting") {
	}
	bob.quit()

	ann = l.node("h2", "ann")
	ann.ready("ann", a)
	for _, id := range ids {
		ann.want("receipt", "id", id, "chat", "@bob", "by", "bob", "got", 1, "of", 1)
	}
	bob = l.node("h3", "bob")
	bob.ready("bob", a)
	meet(ann, bob)
	whisper("reliable", "together again", ann, bob)
	if got := bob.all("message"); len(got) != 1 {
		t.Errorf("bob sees %d messages the second time, want 1", len(got))
	}
	l.run("h1", "", "authd", "status", "--data", a.data).exits(0).says("0 messages waiting")
}

// "kill -9 of sender and receiver in loops: nothing acknowledged is lost, nothing
// shown twice": directly and in a room, whichever is killed when. LANCHAT_KILLS
// says how often; 10 where it does not.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	rounds := 10
	if s := os.Getenv("LANCHAT_KILLS"); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatalf("LANCHAT_KILLS: %v", err)
		}
	}
	l := newLAN(t, emu.Hosts(3)...)
	a := l.authd("h1", "authd")
	ann, bob := l.newcomer("h2", "ann"), l.newcomer("h3", "bob")
	for _, n := range []*node{ann, bob} {
		n.ready(n.name, a)
	}
	meet(ann, bob)
	gather("#lab", ann, bob)
	times := map[string]int{} // that bob was shown a text
	sent := []string{}        // what ann was told is on its way, by id
	note := func() {
		for _, e := range bob.all("message") {
			times[e.text("id")]++
		}
	}
	seed := rand.New(rand.NewPCG(1, 2))
	for round := range rounds {
		for i := range 5 {
			for _, chat := range []string{"#lab", "@bob"} {
				ann.object("cmd", "say", "chat", chat, "text", fmt.Sprintf("%s, round %d, %d", chat, round, i), "mode", "reliable")
			}
		}
		// Somewhere in the middle of that, one or both are killed.
		for range seed.IntN(8) {
			ann.want("sent")
		}
		if round%3 != 1 {
			ann.kill()
			for _, e := range ann.all("sent") {
				sent = append(sent, e.text("id"))
			}
			ann = l.node("h2", "ann")
			ann.ready("ann", a)
		}
		if round%3 != 0 {
			bob.kill()
			note()
			bob = l.node("h3", "bob")
			bob.ready("bob", a)
		}
		meet(ann, bob)
	}
	for _, e := range ann.all("sent") {
		sent = append(sent, e.text("id"))
	}
	last := ann.say("@bob", "reliable", "the end")
	end := ann.say("#lab", "reliable", "the end")
	bob.want("message", "id", last)
	bob.want("message", "id", end)
	note()
	history := map[string]int{}
	for i, chat := range []string{"#lab", "@ann"} {
		file := l.path(fmt.Sprintf("history%d.json", i))
		bob.line("/export %s %s", chat, file)
		bob.want("notice", "code", "exported")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			var m struct{ ID string }
			if err := json.Unmarshal(line, &m); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			history[m.ID]++
		}
	}
	bob.quit()
	for _, id := range sent {
		// What bob was killed over, between disk and screen, is in his history.
		if times[id] > 1 || history[id] != 1 {
			t.Errorf("%s was sent, and shown %d times, %d in the history", id, times[id], history[id])
		}
	}
}
