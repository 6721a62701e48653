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
		chat.Notice{Code: "set", Data: []chat.Setting{{Name: "bell", Choices: []string{"on", "off"}}, {Name: "theme", Choices: []string{"auto", "dark", "light"}}}},
		chat.Notice{Code: "rooms", Data: []chat.RoomSummary{{Chat: "#lab", Joined: true}, {Chat: "#museum"}}},
		chat.Notice{Code: "alias", Data: chat.Aliases{"hello", "standup"}},
	} {
		m.Apply(e)
	}
	usages := strings.Split("help [command],join #room,invite user,unban user,unsilence user,unmute [chat],msg user text,mode [reliable|fast],notify all|mentions|none,"+
		"mute [chat] [duration],ban user [duration] [reason],dnd [22:00-07:00|duration|off],verify user [yes|no],create #room [--private],set [name [value]],unalias name", ",")
	for _, tt := range []struct {
		in      string // | is the cursor
		want    string
		choices []string
	}{
		{"/in|", "/invite |", nil},
		{"/in| x", "/invite| x", nil},
		{"/j|", "/join |", nil},
		{"/un|", "/un|", []string{"/unban", "/unsilence", "/unmute", "/unalias"}},
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
		{"/st|", "/standup |", nil},
		{"/hel|", "/hel|", []string{"/help", "/hello"}},
		{"/unalias s|", "/unalias standup |", nil},
		{"/help inv|", "/help invite |", nil},
		{"/join #m|", "/join #museum |", nil},
		{"/set |", "/set |", []string{"bell", "theme"}},
		{"/set th|", "/set theme |", nil},
		{"/SET THEME d|", "/SET THEME dark |", nil},
		{"/set bell o|", "/set bell o|", []string{"on", "off"}},
		{"/set nothing o|", "/set nothing o|", nil},
		{"/mode f|", "/mode fast |", nil},
		{"/mode |", "/mode |", []string{"reliable", "fast"}},
		{"/notify m|", "/notify mentions |", nil},
		{"/mute #z|", "/mute #zoo |", nil},
		{"/mute @c|", "/mute @cyd |", nil},
		{"/mute 3|", "/mute 30m |", nil},
		{"/mute #zoo |", "/mute #zoo |", []string{"30m", "2h", "7d"}},
		{"/ban bob |", "/ban bob |", []string{"30m", "2h", "7d"}},
		{"/dnd o|", "/dnd off |", nil},
		{"/verify cyd y|", "/verify cyd yes |", nil},
		{"/create #new --|", "/create #new --private |", nil},
		{"/create #l|", "/create #la|", nil},
		{"/msg cyd c|", "/msg cyd cyd |", nil}, // a person in a text
		{"//mode f|", "//mode f|", nil},
	} {
		line, pos, choices := m.Complete(usages, strings.Replace(tt.in, "|", "", 1), strings.Index(tt.in, "|"))
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
