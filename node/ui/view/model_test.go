package view

import (
	"reflect"
	"strings"
	"testing"

	"lanchat/node/chat"
)

func TestComplete(t *testing.T) {
	m := NewModel()
	for _, e := range []chat.Event{
		chat.Ready{User: "me"},
		chat.Room{Chat: "#lab", Cause: "restored", Members: []string{"me", "bob", "bodo"}},
		chat.Room{Chat: "#lager", Cause: "restored", Members: []string{"me"}},
		chat.Room{Chat: "#zoo", Cause: "restored"},
		chat.Peer{User: "cyd", Device: "1", State: "online"},
	} {
		m.Apply(e)
	}
	for _, tt := range []struct {
		in      string // | is the cursor
		want    string
		choices []string
	}{
		{"/he|", "/help |", nil},
		{"/he| x", "/help| x", nil},
		{"/j|", "/join |", nil},
		{"/un|", "/un|", []string{"/unban", "/unsilence", "/unmute"}},
		{"/uns|", "/unsilence |", nil},
		{"/nothing|", "/nothing|", nil},
		{"/join #z|", "/join #zoo |", nil},
		{"/join #l|", "/join #la|", nil},
		{"/join #la|", "/join #la|", []string{"#lab", "#lager"}},
		{"/msg c|", "/msg cyd |", nil},
		{"/msg b|", "/msg bo|", nil},
		{"c|", "cyd: |", nil},
		{"c| hi", "cyd:| hi", nil},
		{"hi C|", "hi cyd |", nil},
		{"hi @c| there", "hi @cyd| there", nil},
		{"hi |", "hi |", nil},
		{"|", "|", nil},
		{"you m|", "you m|", nil}, // not oneself
	} {
		line, pos, choices := m.Complete(strings.Fields("help join invite unban unsilence unmute"), strings.Replace(tt.in, "|", "", 1), strings.Index(tt.in, "|"))
		if got := line[:pos] + "|" + line[pos:]; got != tt.want || !reflect.DeepEqual(choices, tt.choices) {
			t.Errorf("%q: got %q %q, want %q %q", tt.in, got, choices, tt.want, tt.choices)
		}
	}
}

func TestModelFollowsTheChat(t *testing.T) {
	m := NewModel()
	for _, tt := range []struct {
		e    chat.Event
		want string
	}{
		{chat.Room{Chat: "#old", Cause: "restored"}, ""},
		{chat.Ready{User: "me"}, ""},
		{chat.Room{Chat: "#lab", Cause: "created", By: "me"}, "#lab"},
		{chat.Room{Chat: "#lab", Cause: "joined", By: "me", Whom: "bob"}, "#lab"},
		{chat.Room{Chat: "#zoo", Cause: "joined", By: "bob", Whom: "cyd"}, "#lab"},
		{chat.Notice{Code: "current", Data: "@bob"}, "@bob"},
		{chat.Renamed{Old: "bob", New: "rob"}, "@rob"},
		{chat.Notice{Code: "other", Data: "#x"}, "@rob"},
		{chat.Room{Chat: "#zoo", Cause: "joined", By: "bob", Whom: "me"}, "#zoo"},
		{chat.Renamed{Old: "me", New: "i"}, "#zoo"},
		{chat.Room{Chat: "#lab", Cause: "left", By: "i"}, "#zoo"},
		{chat.Room{Chat: "#zoo", Cause: "kicked", By: "bob", Whom: "i"}, ""},
	} {
		m.Apply(tt.e)
		if m.Chat() != tt.want {
			t.Errorf("after %+v: current chat %q, want %q", tt.e, m.Chat(), tt.want)
		}
	}
	if got := m.Rooms(); !reflect.DeepEqual(got, []string{"#old"}) {
		t.Errorf("rooms: %q", got)
	}
}
