package ui

import (
	"strings"
	"testing"

	"lanchat/node/chat"
)

func TestWords(t *testing.T) {
	room := func(cause, by, whom string) chat.Room {
		return chat.Room{Chat: "#lab", Epoch: 4, Members: []string{"ann", "bob"}, Admins: []string{"ann"}, Cause: cause, By: by, Whom: whom}
	}
	for _, tt := range []struct {
		e    chat.Event
		kind Kind
		want string
	}{
		{chat.Ready{User: "me", Realm: "LAB", Fingerprint: "ABCD"}, Notice, "you are me on LAB (fingerprint ABCD)"},
		{chat.Authd{State: "up", Addr: "10.0.0.1:4747"}, Notice, "authd is up at 10.0.0.1:4747"},
		{chat.Authd{State: "down"}, Trouble, "authd is away; the chat goes on without it"},
		{chat.Authd{State: "changed", Addr: "10.0.0.2:4747"}, Notice, "authd has moved to 10.0.0.2:4747"},
		{chat.Peer{User: "bob", State: "online"}, People, "bob is online"},
		{chat.Peer{User: "me", State: "online"}, People, "your other device is online"},
		{chat.Peer{User: "bob", State: "away"}, People, "bob is away"},
		{chat.Peer{User: "bob", State: "left", Cause: "goodbye"}, People, "bob left"},
		{chat.Peer{User: "bob", State: "left", Cause: "revoked"}, Trouble, "bob left: the device was revoked"},
		{chat.Peer{User: "bob", State: "lost", Cause: "silent"}, Trouble, "bob is lost (no sign for 7 s)"},
		{chat.Peer{User: "bob", State: "lost", Cause: "link down"}, Trouble, "bob is lost (link down)"},
		{chat.Renamed{Old: "bob", New: "rob"}, People, "bob is now called rob"},
		{chat.Renamed{Old: "ann", New: "me"}, People, "you are now called me (before: ann)"},
		{room("restored", "", ""), Rooms, "#lab: 2 members, the admin is ann"},
		{chat.Room{Chat: "#lab", Cause: "restored", Private: true, Topic: "exam", Members: []string{"me"}, Admins: []string{"me"}}, Rooms,
			"#lab (private): 1 member, you are the admin; topic: exam"},
		{room("created", "me", ""), Rooms, "#lab created; you are the admin"},
		{room("created", "ann", ""), Rooms, "ann created #lab"},
		{room("joined", "ann", "bob"), Rooms, "bob joined #lab"},
		{room("joined", "bob", ""), Rooms, "bob joined #lab"},
		{room("joined", "ann", "me"), Rooms, "you joined #lab: 2 members, the admin is ann"},
		{room("left", "bob", ""), Rooms, "bob left #lab"},
		{room("left", "me", ""), Rooms, "you left #lab"},
		{room("kicked", "ann", "bob"), Rooms, "ann kicked bob from #lab"},
		{room("kicked", "ann", "me"), Rooms, "ann kicked you from #lab"},
		{room("banned", "me", "bob"), Rooms, "you banned bob from #lab"},
		{room("unbanned", "ann", "bob"), Rooms, "ann lifted the ban on bob in #lab"},
		{room("invited", "ann", "bob"), Rooms, "ann invited bob to #lab"},
		{room("promoted", "ann", "bob"), Rooms, "ann made bob a co-admin of #lab"},
		{room("demoted", "ann", "bob"), Rooms, "ann made bob an ordinary member of #lab"},
		{room("transferred", "ann", "bob"), Rooms, "ann handed #lab over to bob"},
		{room("succeeded", "bob", ""), Rooms, "bob is the admin of #lab now"},
		{room("succeeded", "ann", "me"), Rooms, "you are the admin of #lab now"},
		{room("silenced", "ann", "bob"), Rooms, "ann silenced bob in #lab"},
		{room("unsilenced", "ann", "bob"), Rooms, "ann let bob speak again in #lab"},
		{room("rekeyed", "ann", ""), Rooms, "#lab has a new key (epoch 4)"},
		{room("merged", "", ""), Rooms, "the history of #lab was merged: 2 members"},
		{room("topic", "ann", ""), Rooms, "ann removed the topic of #lab"},
		{chat.Room{Chat: "#lab", Cause: "topic", By: "ann", Topic: "exam\nnow"}, Rooms, "ann set the topic of #lab: exam now"},
		{room("double_signing", "ann", "bob"), Rooms, "#lab: double signing by ann (bob)"},
		{chat.Receipt{Chat: "#lab", By: "bob", Got: 2, Of: 3}, Quiet, "#lab: bob has it (2 of 3)"},
		{chat.Gap{Chat: "#lab", From: "bob", Missing: 3}, Trouble, "#lab: 3 messages are missing from bob; asking for them"},
		{chat.Gap{Chat: "#lab", From: "bob", Missing: 1}, Trouble, "#lab: 1 message is missing from bob; asking for it"},
		{chat.Gap{Chat: "#lab", From: "bob", Healed: true}, Rooms, "#lab: the missing messages of bob came"},
		{chat.Notice{Code: "users", Text: "bob\ncyd"}, Notice, "bob\ncyd"},
		{chat.Error{Code: "no_such_user", Text: "nobody is called bo"}, Error, "nobody is called bo"},
		{chat.Error{Code: "not_admin"}, Error, "not_admin"},
		{chat.Message{Text: "hi"}, Plain, ""},
		{chat.Sent{Text: "hi"}, Plain, ""},
		{chat.Notify{Chat: "#lab"}, Plain, ""},

		// What came from others has no line of its own to fake.
		{chat.Peer{User: "bob\n14:02 * ann", State: "online"}, People, "bob 14:02 * ann is online"},
		{chat.Peer{User: "\x1b[31m", State: "x\x1b\ny"}, People, "[31m: x y"},
		{chat.Peer{State: "online"}, People, "somebody is online"},
	} {
		if kind, got := Words(tt.e, "me"); kind != tt.kind || got != tt.want {
			t.Errorf("%+v:\n got %d %q\nwant %d %q", tt.e, kind, got, tt.kind, tt.want)
		}
	}
}

func TestStrengthWords(t *testing.T) {
	for score, want := range map[int]string{-1: "very weak", 0: "very weak", 1: "weak", 2: "fair", 3: "good", 4: "strong", 9: "strong"} {
		if got := strengthWords(score, ""); got != "strength: "+want {
			t.Errorf("score %d: %q", score, got)
		}
	}
	if got := strengthWords(1, "add another word"); got != "strength: weak; add another word" {
		t.Errorf("got %q", got)
	}
}

func TestHelpIsShort(t *testing.T) {
	if len(help) > 5 {
		t.Errorf("the first help has %d lines", len(help))
	}
	for _, line := range help {
		if len(line) > 72 || strings.TrimSpace(line) == "" {
			t.Errorf("%q does not fit a narrow terminal", line)
		}
	}
}
