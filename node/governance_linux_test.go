//go:build linux

package main_test

import (
	"testing"

	"lanchat/testdata/lan/emu"
)

// A room goes on while its admin is away and authd is dead: who stands in lets
// people in and carries out a co-admin's kick; the admin comes back to it. Then
// the network is cut in two, both halves act, and meet again.
func TestRoomGovernsItself(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(5)...)
	a := l.authd("h1", "authd")
	ann, bob, carol, dan := l.newcomer("h2", "ann"), l.newcomer("h3", "bob"), l.newcomer("h4", "carol"), l.newcomer("h5", "dan")
	for _, n := range []*node{ann, bob, carol, dan} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol, dan)
	gather("#lab", ann, bob, carol)
	ann.object("cmd", "do", "chat", "#lab", "line", "/op bob")
	bob.want("room", "chat", "#lab", "cause", "promoted", "whom", "bob", "admins", []string{"ann", "bob"})
	carol.want("room", "chat", "#lab", "cause", "promoted", "whom", "bob")
	a.kill()
	ann.quit()
	for _, n := range []*node{bob, carol, dan} {
		n.want("peer", "user", "ann", "state", "left", "cause", "goodbye")
	}

	dan.line("/join #lab")
	for _, n := range []*node{bob, carol, dan} {
		n.want("room", "chat", "#lab", "cause", "joined", "whom", "dan", "members", []string{"ann", "bob", "carol", "dan"})
	}
	bob.object("cmd", "do", "chat", "#lab", "line", "/kick carol too loud", "ref", "k1")
	bob.want("room", "chat", "#lab", "cause", "kicked", "by", "bob", "whom", "carol", "reason", "too loud", "ref", "k1")
	carol.want("room", "chat", "#lab", "cause", "kicked", "by", "bob", "whom", "carol", "reason", "too loud")
	dan.want("room", "chat", "#lab", "cause", "kicked", "members", []string{"ann", "bob", "dan"})
	tell("#lab", "fast", "without ann", bob, dan)
	tell("#lab", "fast", "indeed", dan, bob)
	bob.refuses("#lab", "/topic mine", "admin_away", "ann")

	ann = l.node("h2", "ann")
	ann.ready("ann", nil)
	ann.want("room", "chat", "#lab", "cause", "claimed", "by", "ann", "members", []string{"ann", "bob", "dan"})
	meet(ann, bob, dan)
	talk("#lab", "with ann", ann, bob, dan)

	// Two halves.
	for _, n := range []*node{ann, bob, dan} {
		n.fresh()
	}
	l.Cut(l.Host("h2"), nil)
	bob.want("peer", "user", "ann", "state", "lost")
	bob.object("cmd", "do", "chat", "#lab", "line", "/kick dan")
	bob.want("notice", "code", "waiting", "text", containing("ann"))
	ann.object("cmd", "do", "chat", "#lab", "line", "/topic alone")
	ann.want("room", "chat", "#lab", "topic", "alone")
	kicked := func() bool { // 45 s after ann was heard
		for _, e := range bob.events {
			if e.name == "room" && e.text("cause") == "kicked" && e.text("whom") == "dan" {
				return true
			}
		}
		return false
	}
	if !bob.until(kicked) && !bob.until(kicked) {
		t.Fatal("bob does not stand in")
	}
	l.Heal(nil, nil)
	bob.want("notice", "code", "merged", "text", containing("ann", "bob kicked dan"))
	for _, n := range []*node{ann, bob} {
		n.want("room", "chat", "#lab", "cause", "resolved", "whom", "dan", "members", []string{"ann", "bob"}, "topic", "alone")
	}
	talk("#lab", "again", ann, bob)
	dan.object("cmd", "say", "chat", "#lab", "text", "me?", "ref", "out")
	dan.want("error", "ref", "out", "code", "not_member")
}
