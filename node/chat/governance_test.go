package chat_test

import (
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// "A member who may not act gets not_admin (with who may); unknown people and
// rooms, acting on someone in front of you, the last member leaving, a name with
// control or look-alike characters, a topic too long: clear errors, no change."
func TestGoverningBadly(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "dan")
	for i, n := range l.nodes[:3] {
		n.do([]string{"/create #lab", "/join #lab", "/join #lab"}[i])
		l.pass(time.Second)
	}
	l.node("ann").do("/op bob")
	l.pass(time.Second)
	head := l.node("ann").core.Head("#lab")
	long := strings.Repeat("long ", 50)
	for _, tt := range []struct{ who, line, code, text string }{
		// Who may not act, and who may.
		{"cat", "/kick bob", "not_admin", "ask ann"},
		{"cat", "/ban dan", "not_admin", "ask ann or bob"},
		{"cat", "/unban dan", "not_admin", "ask ann or bob"},
		{"cat", "/silence bob", "not_admin", "ask ann"},
		{"cat", "/unsilence bob", "not_admin", "ask ann"},
		{"cat", "/topic mine", "not_admin", "ask ann"},
		{"cat", "/rename #mine", "not_admin", "ask ann"},
		{"cat", "/op cat", "not_admin", "ask ann"},
		{"cat", "/deop bob", "not_admin", "ask ann"},
		{"cat", "/transfer cat", "not_admin", "ask ann"},
		{"bob", "/op cat", "not_admin", "ask ann"},
		{"bob", "/transfer cat", "not_admin", "ask ann"},
		{"bob", "/resolve cat uphold", "bad_argument", "no removal of cat stands open in #lab"},
		{"cat", "/decide 1", "bad_argument", "nothing to decide in #lab"},

		// Who sits in front, and oneself.
		{"bob", "/kick ann", "not_admin", "nobody may do that to the admin"},
		{"cat", "/kick ann", "not_admin", "nobody may do that to the admin"},
		{"bob", "/ban ann 2h", "not_admin", "sits in front of you"},
		{"bob", "/silence ann", "not_admin", "sits in front of you"},
		{"ann", "/kick ann", "bad_argument", "that is you"},
		{"bob", "/ban bob", "bad_argument", "that is you"},
		{"ann", "/silence ann", "bad_argument", "that is you"},
		{"ann", "/op ann", "bad_argument", "that is you"},
		{"ann", "/deop ann", "bad_argument", "that is you"},
		{"ann", "/transfer ann", "bad_argument", "that is you"},
		{"ann", "/invite ann", "bad_argument", "that is you"},

		// People and rooms.
		{"ann", "/kick nobody", "no_such_user", `nobody called "nobody"`},
		{"ann", "/kick dan", "not_member", "is not a member"},
		{"ann", "/op dan", "not_member", "is not a member"},
		{"ann", "/transfer dan", "not_member", "is not a member"},
		{"ann", "/silence dan", "not_member", "is not a member"},
		{"ann", "/unban dan", "bad_argument", "not banned"},
		{"ann", "/unsilence cat", "bad_argument", "not silenced"},
		{"ann", "/op bob", "bad_argument", "has that role already"},
		{"ann", "/deop cat", "bad_argument", "has that role already"},
		{"ann", "/invite cat", "already_member", "is a member already"},
		{"dan", "/kick cat", "not_member", "you are not in #lab: /join #lab first"},
		{"dan", "/topic mine", "not_member", "/join #lab first"},
		{"dan", "/part", "not_member", "/join #lab first"},
		{"dan", "/audit #nowhere", "no_such_room", "no room #nowhere is known here"},
		{"ann", "/kick b\u043eb", "no_such_user", "nobody called"},
		{"ann", "/device cat", "bad_argument", "no new device of cat"},

		// Texts and names.
		{"ann", "/topic " + long, "too_long", "at most 64 characters"},
		{"ann", "/kick cat " + long, "too_long", "at most 200 bytes"},
		{"ann", "/ban cat " + long, "too_long", "at most 200 bytes"},
		{"ann", "/rename #l\u0430b", "bad_argument", "letters a-z, digits"},
		{"ann", "/rename #l\x1b[31m", "bad_argument", "letters a-z, digits"},
		{"ann", "/rename lab2", "bad_argument", "is no room name"},

		// What was meant for a duration: a ban for good would be its end.
		{"ann", "/ban cat 1x", "bad_argument", `"1x" is no duration: write 30m, 2h or 7d, or begin the reason with another word`},
		{"ann", "/ban cat 10 spam", "bad_argument", `"10" is no duration`},
		{"ann", "/ban cat 1h30m", "bad_argument", `"1h30m" is no duration`},
		{"ann", "/ban cat -1h", "bad_argument", `"-1h" is no duration`},
		{"ann", "/ban cat 0m", "bad_argument", `"0m" is no duration`},
		{"ann", "/silence cat 1x", "bad_argument", `"1x" is no duration: write 30m, 2h or 7d`},
		{"ann", "/silence cat soon", "bad_argument", `"soon" is no duration`},
	} {
		l.clear()
		n := l.node(tt.who)
		n.core.Do(l.now, chat.Command{Line: tt.line, Chat: "#lab", Ref: "r1"})
		l.pass(2 * time.Second)
		got := shown[chat.Error](n)
		if len(got) != 1 || got[0].Code != tt.code || !strings.Contains(got[0].Text, tt.text) || got[0].Ref != "r1" {
			t.Errorf("%s: %.60s: told %+v, want %s with %q", tt.who, tt.line, got, tt.code, tt.text)
		}
		if l.node("ann").core.Head("#lab") != head {
			t.Fatalf("%s: %.60s: changes the room", tt.who, tt.line)
		}
	}
	// A reason is a reason, and a duration one.
	l.node("ann").do("/ban dan for 3 days", "/ban cat 2h 3 strikes")
	l.pass(time.Second)
	bans := l.node("ann").core.Log("#lab").State().Bans()
	if b := bans[l.node("dan").token.Account]; b.Reason != "for 3 days" || !b.Until.IsZero() {
		t.Errorf("dan's ban: %+v", b)
	}
	if b := bans[l.node("cat").token.Account]; b.Reason != "3 strikes" || b.Until.IsZero() {
		t.Errorf("cat's ban: %+v", b)
	}

	// The last member's leaving is the end, and said to be.
	l.node("bob").do("/part")
	l.pass(time.Second)
	l.clear()
	l.node("ann").do("/part")
	l.pass(10 * time.Second)
	if got := l.node("ann").notices("ended"); len(got) != 1 || !strings.Contains(got[0], "#lab has ended") {
		t.Errorf("ann is told %q", got)
	}
	for _, n := range []string{"bob", "dan"} {
		l.node(n).do("/join #lab")
		l.pass(10 * time.Second)
		if e := l.node(n).errors(); len(e) == 0 || e[len(e)-1] != "no_such_room" {
			t.Errorf("%s joins a room that has ended: %q", n, e)
		}
	}
	l.node("dan").do("/create #lab") // another one, by the same name
	l.pass(time.Second)
	l.agree(t, "#lab", "dan")
}

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

// "/audit prints the signed history, and still verifies it when authd is gone":
// there is none here. An entry that was changed on the disk is seen.
func TestAuditVerifies(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	ann.do("/topic signed by ann")
	l.pass(time.Second)
	audit := func() string {
		t.Helper()
		l.clear()
		bob.do("/audit")
		text := bob.notices("audit")
		if len(text) != 1 {
			t.Fatalf("bob is told %q", text)
		}
		return text[0]
	}
	if got := audit(); !strings.HasSuffix(got, "\n3 entries, each signed by the device it names and linked to the one before") || strings.Contains(got, "NOT") {
		t.Errorf("the audit: %s", got)
	}
	had, err := bob.store.Load()
	if err != nil {
		t.Fatal(err)
	}
	last := had.Entries[len(had.Entries)-1].Entry
	last[len(last)-1] ^= 1
	bob.restore(t, had)
	bob.start()
	if got := audit(); !strings.Contains(got, "topic      by ann (signed by ann)  NOT SIGNED BY THAT DEVICE\n1 of 3 entries are NOT signed") {
		t.Errorf("the audit of what was changed: %s", got)
	}
}
