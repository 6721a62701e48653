package chat_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// answer returns the only notice of that code, or the only error.
func answer(t *testing.T, n *node, code string) (text string) {
	t.Helper()
	for _, e := range shown[chat.Notice](n) {
		if e.Code == code {
			text += e.Text
		}
	}
	for _, e := range shown[chat.Error](n) {
		text += e.Code + ": " + e.Text
	}
	return text
}

// An empty list of people carries the reason, as far as it can be known.
func TestUsersSayWhyNobodyIsHere(t *testing.T) {
	eth0 := chat.NetInterface{Name: "eth0", Used: true, Addrs: []string{"10.77.0.1/24"}}
	down := chat.NetInterface{Name: "eth1", Reason: "down"}
	for _, tt := range []struct {
		name string
		net  chat.Network
		authd,
		want string
	}{
		{"no interface", chat.Network{}, "", "this machine has no network"},
		{"none that can be used", chat.Network{Interfaces: []chat.NetInterface{down}}, "", "no network can be used (eth1 is down)"},
		{"nobody heard, authd not found yet", chat.Network{Interfaces: []chat.NetInterface{eth0, down}}, "", "nobody was heard on eth0, and authd, which would know of others, is not found"},
		{"nobody heard, authd away", chat.Network{Interfaces: []chat.NetInterface{eth0, down}}, "down", "nobody was heard on eth0, and authd, which would know of others, is not found"},
		{"really alone", chat.Network{Interfaces: []chat.NetInterface{eth0}, Peers: []chat.NetPeer{{Device: wire.DeviceID{9}, Authd: true, Here: true}}}, "up", "authd knows of nobody else"},
		{"known and not reached", chat.Network{Interfaces: []chat.NetInterface{eth0}, Peers: []chat.NetPeer{{Device: wire.DeviceID{7}}}}, "up", "who is known of (1) cannot be reached"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, "ann")
			l.pass(3 * time.Second)
			ann := l.node("ann")
			ann.network = tt.net
			if tt.authd != "" {
				ann.core.HandleAuthd(chat.Authd{State: tt.authd})
			}
			ann.do("/users")
			data, err := json.Marshal(shown[chat.Notice](ann)[0].Data)
			if err != nil || !strings.Contains(string(data), `"self":true`) || !strings.Contains(string(data), `"reason":"nobody else is here`) {
				t.Errorf("machines get %s, want the reason with oneself", data)
			}
			if got := answer(t, ann, "users"); !strings.HasPrefix(got, "ann  you\n") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want it to say %q", got, tt.want)
			}
		})
	}
}

func TestNet(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	ann.network = chat.Network{
		Interfaces: []chat.NetInterface{{Name: "eth0", Used: true, Addrs: []string{"10.77.0.1/24"}}, {Name: "docker0", Reason: "virtual (containers' bridge)"}},
		Peers: []chat.NetPeer{
			{Device: bob.token.Device, Here: true, Via: []string{"multicast", "quic"}, Link: &chat.NetLink{Addr: "10.77.0.2:4000", RTT: 300 * time.Microsecond, Sent: 200, Lost: 3}},
			{Device: cat.token.Device, Here: true, Via: []string{"authd", "quic"}, Link: &chat.NetLink{Addr: "10.77.0.3:4000"}},
			{Device: wire.DeviceID{0xee}, Via: []string{"authd"}, Addrs: []string{"10.77.0.9:4000"}},
			{Device: wire.DeviceID{0xaa}, Authd: true, Here: true, Via: []string{"multicast"}},
		},
	}
	ann.core.HandleAuthd(chat.Authd{State: "up", Addr: "10.77.0.100:4747"})
	ann.do("/net")
	got := answer(t, ann, "net")
	for _, want := range []string{
		"eth0       used: 10.77.0.1/24",
		"docker0    not used: virtual (containers' bridge)",
		"authd      up, 10.77.0.100:4747",
		"bob        by multicast, quic; connected with 10.77.0.2:4000, round trip 0.30 ms, lost 1.5 %\n",
		"cat        by authd, quic; connected with 10.77.0.3:4000, round trip 0.00 ms, lost 0.0 %; not heard by multicast",
		"device ee00000000000000 by authd; not heard itself, tried at 10.77.0.9:4000",
		"dropped    0 malformed",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwithout %q", got, want)
		}
	}
	if strings.Contains(got, "device aa") {
		t.Errorf("authd is listed among the people: %s", got)
	}
}

// A flood of made-up devices does not fill the screen.
func TestNetOfStrangers(t *testing.T) {
	ann := newLAN(t, "ann").node("ann")
	for n := range 4000 {
		ann.network.Peers = append(ann.network.Peers, chat.NetPeer{Device: wire.DeviceID{1, byte(n >> 8), byte(n)}, Here: true, Via: []string{"multicast"}})
	}
	ann.do("/net")
	if got := answer(t, ann, "net"); strings.Count(got, "\n") > 12 || !strings.Contains(got, "and 3992 more devices") {
		t.Errorf("got %q", got)
	}
}

func TestPing(t *testing.T) {
	l := newLAN(t, "ann", "bob")
	ann, bob := l.node("ann"), l.node("bob")
	ann.do("/ping bob")
	l.pass(5 * time.Second)
	if got := answer(t, ann, "ping"); !strings.HasPrefix(got, "bob answers after 1.50 ms") {
		t.Errorf("got %q", got)
	}
	l.clear()
	ann.deaf = true
	ann.do("/ping bob")
	l.pass(5 * time.Second)
	if got := answer(t, ann, "ping"); !strings.HasPrefix(got, "unreachable: bob does not answer") {
		t.Errorf("got %q, want that there is no answer", got)
	}
	l.clear()
	ann.core.LinkDown(l.now, bob.token.Device)
	ann.do("/ping bob", "/ping nobody")
	if got := answer(t, ann, "ping"); !strings.Contains(got, "unreachable: there is no connection with bob") || !strings.Contains(got, "no_such_user") {
		t.Errorf("got %q", got)
	}
}
