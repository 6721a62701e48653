package view

import (
	"slices"
	"strings"
	"testing"

	"lanchat/node/chat"
	"lanchat/node/ui/theme"
)

func TestWords(t *testing.T) {
	room := func(cause, by, whom string) chat.Room {
		return chat.Room{Chat: "#lab", Epoch: 4, Members: []string{"ann", "bob"}, Admins: []string{"ann"}, Cause: cause, By: by, Whom: whom}
	}
	for _, tt := range []struct {
		e    chat.Event
		kind theme.Kind
		want string
	}{
		{chat.Ready{User: "me", Realm: "LAB", Fingerprint: "ABCD"}, theme.Notice, "you are me on LAB (fingerprint ABCD)"},
		{chat.Authd{State: "up", Addr: "10.0.0.1:4747"}, theme.Notice, "authd is up at 10.0.0.1:4747"},
		{chat.Authd{State: "down"}, theme.Trouble, "authd is away: no new accounts until it is back; everything else goes on"},
		{chat.Authd{State: "changed", Addr: "10.0.0.3:4747", Fingerprint: "AAAA-BBBB", Other: true}, theme.Trouble, "another realm answers at 10.0.0.3:4747, fingerprint AAAA-BBBB"},
		{chat.Authd{State: "changed", Addr: "10.0.0.2:4747"}, theme.Notice, "authd is now at 10.0.0.2:4747"},
		{chat.Peer{User: "bob", State: "online"}, theme.People, "bob is online"},
		{chat.Peer{User: "me", State: "online"}, theme.People, "your other device is online"},
		{chat.Peer{User: "bob", State: "away"}, theme.People, "bob is away"},
		{chat.Peer{User: "bob", State: "left", Cause: "goodbye"}, theme.People, "bob left"},
		{chat.Peer{User: "bob", State: "left", Cause: "revoked"}, theme.Trouble, "bob left: the device was revoked"},
		{chat.Peer{User: "bob", State: "lost", Cause: "silent"}, theme.Trouble, "bob is lost (no sign for 7 s)"},
		{chat.Peer{User: "bob", State: "lost", Cause: "link down"}, theme.Trouble, "bob is lost (link down)"},
		{chat.Renamed{Old: "bob", New: "rob"}, theme.People, "bob is now called rob"},
		{chat.Renamed{Old: "ann", New: "me"}, theme.People, "you are now called me (before: ann)"},
		{room("restored", "", ""), theme.Rooms, "#lab: 2 members, the admin is ann"},
		{chat.Room{Chat: "#lab", Cause: "restored", Private: true, Topic: "exam", Members: []string{"me"}, Admins: []string{"me"}}, theme.Rooms,
			"#lab (private): 1 member, you are the admin; topic: exam"},
		{room("created", "me", ""), theme.Rooms, "#lab created; you are the admin"},
		{room("created", "ann", ""), theme.Rooms, "ann created #lab"},
		{room("joined", "ann", "bob"), theme.Rooms, "bob joined #lab"},
		{room("joined", "bob", ""), theme.Rooms, "bob joined #lab"},
		{chat.Room{Chat: "#lab", Cause: "joined", Whom: "me", Members: []string{"ann", "me"}, Admins: []string{"ann"}, Again: true}, theme.Rooms, "you are in #lab: 2 members, the admin is ann"},
		{room("joined", "ann", "me"), theme.Rooms, "you joined #lab: 2 members, the admin is ann"},
		{room("left", "bob", ""), theme.Rooms, "bob left #lab"},
		{room("left", "me", ""), theme.Rooms, "you left #lab"},
		{room("kicked", "ann", "bob"), theme.Rooms, "ann kicked bob from #lab"},
		{room("kicked", "ann", "me"), theme.Rooms, "ann kicked you from #lab"},
		{room("banned", "me", "bob"), theme.Rooms, "you banned bob from #lab"},
		{room("unbanned", "ann", "bob"), theme.Rooms, "ann lifted the ban on bob in #lab"},
		{room("invited", "ann", "bob"), theme.Rooms, "ann invited bob to #lab"},
		{room("promoted", "ann", "bob"), theme.Rooms, "ann made bob a co-admin of #lab"},
		{room("demoted", "ann", "bob"), theme.Rooms, "ann made bob an ordinary member of #lab"},
		{room("transferred", "ann", "bob"), theme.Rooms, "ann handed #lab over to bob"},
		{room("succeeded", "bob", ""), theme.Rooms, "bob is the admin of #lab now"},
		{room("succeeded", "ann", "me"), theme.Rooms, "you are the admin of #lab now"},
		{room("silenced", "ann", "bob"), theme.Rooms, "ann silenced bob in #lab"},
		{room("unsilenced", "ann", "bob"), theme.Rooms, "ann let bob speak again in #lab"},
		{room("rekeyed", "ann", ""), theme.Rooms, "#lab has a new key (epoch 4)"},
		{room("merged", "", ""), theme.Rooms, "after the merge #lab has 2 members"},
		{room("topic", "ann", ""), theme.Rooms, "ann removed the topic of #lab"},
		{chat.Room{Chat: "#lab", Cause: "topic", By: "ann", Topic: "exam\nnow"}, theme.Rooms, "ann set the topic of #lab: exam now"},
		{chat.Room{Chat: "#lab", Cause: "kicked", By: "ann", Whom: "me", Reason: "too\nloud"}, theme.Rooms, "ann kicked you from #lab: too loud"},
		{chat.Room{Chat: "#lab~1a2b", Cause: "renamed", Was: "#lab"}, theme.Rooms, "#lab is called #lab~1a2b here now"},
		{chat.Room{Chat: "#den", Cause: "renamed", Was: "#lab", By: "ann"}, theme.Rooms, "ann renamed #lab to #den"},
		{room("claimed", "bob", ""), theme.Rooms, "bob stands in for the admin of #lab"},
		{room("claimed", "me", ""), theme.Rooms, "you stand in for the admin of #lab"},
		{room("claimed", "ann", ""), theme.Rooms, "ann is back and in charge of #lab"},
		{room("device", "me", "me"), theme.Rooms, "your devices in #lab have changed"},
		{room("device", "bob", "bob"), theme.Rooms, "the devices of bob in #lab have changed"},
		{room("resolved", "me", "bob"), theme.Rooms, "you took back that bob was removed from #lab"},
		{room("resolved", "bob", "me"), theme.Rooms, "bob upheld that you were removed from #lab"},
		{chat.Room{Chat: "#lab", Cause: "resolved", By: "ann", Whom: "me", Reason: "too loud"}, theme.Rooms, "ann upheld that you were removed from #lab: too loud"},
		{room("double_signing", "ann", "bob"), theme.Rooms, "#lab: double signing by ann (bob)"},
		{chat.Receipt{Chat: "#lab", By: "bob", Got: 2, Of: 3}, theme.Quiet, "#lab: bob has it (2 of 3)"},
		{chat.Gap{Chat: "#lab", From: "bob", Missing: 3}, theme.Trouble, "#lab: 3 messages are missing from bob; asking for them"},
		{chat.Gap{Chat: "#lab", From: "bob", Missing: 2, Mode: "fast"}, theme.Quiet, "#lab: 2 fast messages of bob did not come"},
		{chat.Gap{Chat: "#lab", From: "bob", Missing: 1}, theme.Trouble, "#lab: 1 message is missing from bob; asking for it"},
		{chat.Gap{Chat: "#lab", From: "bob", Healed: true}, theme.Rooms, "#lab: the missing messages of bob came"},
		{chat.Notice{Code: "users", Text: "bob\ncyd"}, theme.Notice, "bob\ncyd"},
		{chat.Error{Code: "no_such_user", Text: "nobody is called bo"}, theme.Error, "nobody is called bo"},
		{chat.Error{Code: "not_admin"}, theme.Error, "not_admin"},
		{chat.Message{Text: "hi"}, theme.Plain, ""},
		{chat.Sent{Text: "hi"}, theme.Plain, ""},
		{chat.Notify{Chat: "#lab"}, theme.Plain, ""},

		// What came from others has no line of its own to fake.
		{chat.Peer{User: "bob\n14:02 * ann", State: "online"}, theme.People, "bob 14:02 * ann is online"},
		{chat.Peer{User: "\x1b[31m", State: "x\x1b\ny"}, theme.People, "[31m: x y"},
		{chat.Peer{State: "online"}, theme.People, "somebody is online"},
	} {
		if kind, got := Words(tt.e, "me"); kind != tt.kind || got != tt.want {
			t.Errorf("%+v:\n got %d %q\nwant %d %q", tt.e, kind, got, tt.kind, tt.want)
		}
	}
}

// Before there is a token nothing goes on without authd.
func TestWordsWithoutToken(t *testing.T) {
	if _, got := Words(chat.Authd{State: "down", Addr: "10.0.0.1:4747"}, ""); got != "no authd answers at 10.0.0.1:4747; looking for it goes on, Ctrl+C ends it" {
		t.Errorf("got %q", got)
	}
}

func TestStrengthWords(t *testing.T) {
	for score, want := range map[int]string{-1: "very weak", 0: "very weak", 1: "weak", 2: "fair", 3: "good", 4: "strong", 9: "strong"} {
		if got := StrengthWords(score, ""); got != "strength: "+want {
			t.Errorf("score %d: %q", score, got)
		}
	}
	if got := StrengthWords(1, "add another word"); got != "strength: weak; add another word" {
		t.Errorf("got %q", got)
	}
}

func TestHelpIsShort(t *testing.T) {
	if len(Help) > 5 || len(HelpScreen) > 5 {
		t.Errorf("the first help has %d and %d lines", len(Help), len(HelpScreen))
	}
	for _, line := range append(slices.Clone(Help), HelpScreen...) {
		if limit := map[bool]int{true: 53, false: 72}[slices.Contains(HelpScreen, line)]; len(line) > limit || strings.TrimSpace(line) == "" {
			t.Errorf("%q does not fit a narrow terminal", line)
		}
	}
}
