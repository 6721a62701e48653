package chat_test

import (
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// Who was removed may read the room's log up to that, so as to know how, and
// nothing of what happened afterwards.
func TestLogOfTheRemoved(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	ann.do("/create #lab")
	bob.do("/join #lab")
	l.pass(time.Second)
	read := func(n *node) (ops []string) {
		t.Helper()
		room := ann.core.RoomID("#lab")
		q := wire.LogRange{Room: room}
		ann.core.HandleQuestion(l.now, n.token.Device, 999, wire.FrameLog, q.Append(nil))
		for _, s := range ann.core.Take().Sends {
			if a, ok := s.(chat.Answer); ok {
				for _, f := range a.Frames {
					if f.Type != wire.FrameEntry {
						ops = append(ops, "refused")
						continue
					}
					e, err := wire.ParseEntry(f.Body)
					if err != nil {
						t.Fatal(err)
					}
					ops = append(ops, e.Op().String())
				}
			}
		}
		return ops
	}
	checkTexts(t, "a member reads", read(bob), []string{"CREATE", "ADMIT"})
	checkTexts(t, "a stranger reads", read(cat), []string{"refused"})
	ann.do("/kick bob")
	l.pass(time.Second)
	cat.do("/join #lab")
	l.pass(time.Second)
	checkTexts(t, "who was kicked reads", read(bob), []string{"CREATE", "ADMIT", "KICK"})
	checkTexts(t, "the new member reads", read(cat), []string{"CREATE", "ADMIT", "KICK", "ADMIT"})
}

// The name and the topic in a room's log are its admin's words: they are shown
// sanitised, and a name that is none is not shown at all.
func TestHostileSettings(t *testing.T) {
	l := newLAN(t, "ann", "bob").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.clear()
	if err := ann.core.Settings(l.now, "#lab", "#\x1b[31mlab", "a\x1b]0;x\u202etopic"); err != nil {
		t.Fatal(err)
	}
	l.settle()
	rooms := shown[chat.Room](bob)
	if len(rooms) != 1 {
		t.Fatalf("bob is told %d times", len(rooms))
	}
	if got := rooms[0].Topic; got != "a]0;xtopic" {
		t.Errorf("topic %q", got)
	}
	if got := rooms[0].Chat; !strings.HasPrefix(got, "#room-") || len(got) != len("#room-")+8 {
		t.Errorf("chat %q", got)
	}
}
