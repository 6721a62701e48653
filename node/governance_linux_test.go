//go:build linux

package main_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lanchat/node/login"
	"lanchat/node/room"
	"lanchat/testdata/lan/emu"
	"lanchat/wire"
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
	bob.wantAfterSilence("room", "cause", "kicked", "whom", "dan")
	l.Heal(nil, nil)
	bob.want("notice", "code", "merged", "text", containing("ann", "bob kicked dan"))
	ann.want("notice", "code", "merged", "text", containing("ann", "undone there: bob kicked dan"))
	for _, n := range []*node{ann, bob} {
		n.want("room", "chat", "#lab", "cause", "resolved", "whom", "dan", "members", []string{"ann", "bob"}, "topic", "alone")
	}
	talk("#lab", "again", ann, bob)
	dan.object("cmd", "say", "chat", "#lab", "text", "me?", "ref", "out")
	dan.want("error", "ref", "out", "code", "not_member")

	// The history tells who did what, and its signatures need no authd.
	bob.object("cmd", "do", "chat", "#lab", "line", "/audit", "ref", "audit")
	bob.want("notice", "code", "audit", "ref", "audit", "text", containing("promoted   by ann: bob", "claimed    by bob", "kicked     by bob: carol (too loud)"))
	bob.quit()
	profile, err := login.Open(l.path("bob"))
	if err != nil {
		t.Fatal(err)
	}
	stored, _ := l.roomOf(l.path("bob"), profile)
	entries := stored.Audit()
	log, err := room.NewLog(profile.Pin().ID, entries[0])
	if err == nil {
		_, err = log.Add(entries[1:]...)
	}
	if err != nil || log.State().Head != stored.State().Head {
		t.Errorf("the history does not verify: %v", err)
	}
	raw := entries[1].Append(nil)
	raw[len(raw)-1] ^= 1
	if entries[1], err = wire.ParseEntry(raw); err != nil {
		t.Fatal(err)
	}
	log, err = room.NewLog(profile.Pin().ID, entries[0])
	if err == nil {
		_, err = log.Add(entries[1:]...)
	}
	if err == nil || log.State().Head == stored.State().Head {
		t.Error("a history that was tampered with verifies")
	}
}

// wantAfterSilence is want for what happens when the admin has been silent for
// 45 s.
func (n *node) wantAfterSilence(name string, fields ...any) event {
	n.t.Helper()
	n.until(func() bool {
		for _, e := range n.events[n.from:] {
			if !e.claimed && e.matches(name, fields) {
				return true
			}
		}
		return false
	})
	return n.want(name, fields...)
}

const roguePort = 5747 // where a node listens that a rogue dials

// at returns where a node started with --port roguePort listens.
func (l *lan) at(host string) string {
	return netip.AddrPortFrom(l.Host(host).Port(0).IPv4().Addr(), roguePort).String()
}

// Somebody is kicked while carol is cut off together with him. His modified
// program records everything, and asks carol, who has not heard of it, and
// after the heal everybody, for keys: it gets none, and reads nothing that was
// sent by who had applied the kick.
func TestKickedAsksInVain(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(5)...)
	a := l.authd("h1", "authd")
	port := fmt.Sprint(roguePort)
	ann, bob, carol := l.newcomer("h2", "ann", "--port", port), l.newcomer("h3", "bob", "--port", port), l.newcomer("h4", "carol", "--port", port)
	mal := l.newcomer("h5", "mal")
	for _, n := range []*node{ann, bob, carol, mal} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol, mal)
	gather("#lab", ann, bob, carol, mal)
	mal.quit()
	for _, n := range []*node{ann, bob, carol} {
		n.want("peer", "user", "mal", "state", "left")
	}
	r := l.rogue("h5", l.copyOf("mal"))
	tell("#lab", "fast", "open: all together", ann, bob, carol)
	for _, here := range []string{"h4", "h5"} {
		for _, there := range []string{"h1", "h2", "h3"} {
			l.Cut(l.Host(here), l.Host(there))
		}
	}
	carol.want("peer", "user", "ann", "state", "lost")
	carol.want("peer", "user", "bob", "state", "lost")
	bob.want("peer", "user", "carol", "state", "lost")

	ann.object("cmd", "do", "chat", "#lab", "line", "/kick mal listens too much")
	for _, n := range []*node{ann, bob} {
		n.want("room", "chat", "#lab", "cause", "kicked", "by", "ann", "whom", "mal", "members", []string{"ann", "bob", "carol"})
	}
	tell("#lab", "fast", "shut: he is out", ann, bob)
	tell("#lab", "fast", "shut: indeed", bob, ann)
	carol.say("#lab", "fast", "open: carol has not heard of it")
	epochs := ann.hashes("#lab")
	stale := r.dial(l.at("h4"))
	if stale == nil {
		t.Fatal("carol does not talk to the rogue, who is a member for her")
	}
	r.askAll(stale, epochs) // she may give it the key she has

	l.Heal(nil, nil)
	healed := carol.want("room", "chat", "#lab", "cause", "kicked", "by", "ann", "whom", "mal", "members", []string{"ann", "bob", "carol"})
	meet(ann, bob, carol)
	talk("#lab", "shut: after the heal", ann, bob, carol)
	if ours := ann.all("room", "chat", "#lab", "cause", "kicked")[0]; ours.fields["epoch"] != healed.fields["epoch"] {
		t.Errorf("carol is in epoch %v, ann in %v", healed.fields["epoch"], ours.fields["epoch"])
	}
	stale.CloseWithError(0, "")
	for name, addr := range map[string]string{"ann": l.at("h2"), "bob": l.at("h3"), "carol": l.at("h4")} {
		conn := r.dial(addr)
		if conn == nil {
			t.Fatalf("%s does not talk to the rogue, who is a person of the realm still", name)
		}
		if n := r.askAll(conn, epochs); n > 0 {
			t.Errorf("%s gives the rogue %d keys", name, n)
		}
		conn.CloseWithError(0, "")
	}
	tell("#lab", "reliable", "shut: and after it asked", carol, ann, bob)

	// The person's own program hears of it, once.
	mal = l.node("h5", "mal")
	mal.ready("mal", a)
	mal.want("room", "chat", "#lab", "cause", "kicked", "by", "ann", "whom", "mal", "reason", "listens too much")
	mal.object("cmd", "say", "chat", "#lab", "text", "me?", "ref", "out")
	mal.want("error", "ref", "out", "code", "not_member")
	for _, n := range []*node{ann, bob, carol, mal} {
		if times := len(n.all("room", "chat", "#lab", "cause", "kicked")); times != 1 {
			t.Errorf("%s is told of the kick %d times", n.name, times)
		}
	}

	ann.quit()
	log, _ := l.roomOf(l.path("ann"), r.profile)
	if _, in := log.State().Epoch.Slot(r.profile.DeviceKey()); in {
		t.Error("the epoch after the heal is for mal too")
	}
	text := r.reads(log)
	for _, open := range []string{"open: all together", "open: carol has not heard of it"} {
		if !strings.Contains(text, open) {
			t.Errorf("the rogue does not read %q, which it may: it would not see a leak either", open)
		}
	}
	if i := strings.Index(text, "shut: "); i >= 0 {
		t.Errorf("the rogue reads %q", text[i:min(i+40, len(text))])
	}
}

// "A disabled account's devices are out of every room's keys": at the
// operator's command the room's key changes without them, and a program that is
// modified to stay gets nothing more.
func TestDisabled(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(4)...)
	a := l.authd("h1", "authd")
	port := fmt.Sprint(roguePort)
	ann, bob, mal := l.newcomer("h2", "ann", "--port", port), l.newcomer("h3", "bob", "--port", port), l.newcomer("h4", "mal")
	for _, n := range []*node{ann, bob, mal} {
		n.ready(n.name, a)
	}
	meet(ann, bob, mal)
	gather("#lab", ann, bob, mal)
	mal.quit()
	ann.want("peer", "user", "mal", "state", "left")
	bob.want("peer", "user", "mal", "state", "left")
	r := l.rogue("h4", l.copyOf("mal"))
	stays := r.dial(l.at("h2"))
	if stays == nil || r.dial(l.at("h3")) == nil {
		t.Fatal("the rogue is not let in before it is disabled")
	}
	tell("#lab", "fast", "open: before", ann, bob)

	began := time.Now()
	l.run("h1", "", "authd", "user", "disable", "mal", "--data", l.path("authd")).exits(0)
	for _, n := range []*node{ann, bob} {
		n.want("room", "chat", "#lab", "cause", "rekeyed", "by", "ann", "members", []string{"ann", "bob", "mal"})
	}
	t.Logf("the room had another key %v after the command", time.Since(began))
	tell("#lab", "fast", "shut: after", ann, bob)
	tell("#lab", "fast", "shut: indeed", bob, ann)
	epochs := ann.hashes("#lab")
	for _, e := range epochs {
		q := wire.KeyRequest{Room: r.log.Room(), Entry: e}
		if n, _ := r.ask(stays, wire.FrameKeyOf, q.Append(nil)); n > 0 {
			t.Errorf("ann gives the rogue the key of %v", e)
		}
	}
	for _, host := range []string{"h2", "h3"} {
		if r.dial(l.at(host)) != nil {
			t.Errorf("the node of %s lets in who is disabled", host)
		}
	}

	// It is for the admin to decide whether the person stays a member.
	ann.want("notice", "code", "shut_out", "text", containing("mal", "/kick mal"))
	ann.object("cmd", "do", "chat", "#lab", "line", "/kick mal")
	for _, n := range []*node{ann, bob} {
		n.want("room", "chat", "#lab", "cause", "kicked", "whom", "mal", "members", []string{"ann", "bob"})
	}
	talk("#lab", "shut: without mal", ann, bob)
	if n := len(bob.all("notice", "code", "shut_out")); n > 0 {
		t.Error("bob is offered what only ann may do")
	}

	ann.quit()
	log, _ := l.roomOf(l.path("ann"), r.profile)
	text := r.reads(log)
	if !strings.Contains(text, "open: before") {
		t.Error("the rogue does not read what it may: it would not see a leak either")
	}
	if i := strings.Index(text, "shut: "); i >= 0 {
		t.Errorf("the rogue reads %q", text[i:min(i+40, len(text))])
	}
}

// An admin is killed, in two rooms, in one of them after an act that nobody
// heard of. bob stands in after 45 s, does what a regent may and no more; the
// admin comes back to one history, and merges the other. In a third room, whose
// admin is there, mal claims to stand in and kicks carol: that is undone at once.
func TestAdminKilled(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(6)...)
	a := l.authd("h1", "authd")
	ann, bob, carol := l.newcomer("h2", "ann"), l.newcomer("h3", "bob"), l.newcomer("h4", "carol")
	dan, mal := l.newcomer("h5", "dan"), l.newcomer("h6", "mal")
	for _, n := range []*node{ann, bob, carol, dan, mal} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol, dan, mal)
	gather("#lab", ann, bob, mal, carol)
	gather("#den", dan, bob, carol)
	gather("#pit", dan, bob, carol)
	mal.quit()
	r := l.rogue("h6", l.copyOf("mal"))
	mal = l.node("h6", "mal")
	mal.ready("mal", a)
	meet(mal, ann, bob, carol)

	l.Cut(l.Host("h5"), nil)
	dan.object("cmd", "do", "chat", "#pit", "line", "/topic alone")
	dan.want("room", "chat", "#pit", "topic", "alone")
	dan.kill()
	bob.want("peer", "user", "dan", "state", "lost")
	for _, chat := range []string{"#den", "#pit"} {
		bob.object("cmd", "do", "chat", chat, "line", "/kick carol", "ref", chat)
		bob.want("notice", "code", "waiting", "ref", chat, "text", containing("dan"))
	}
	bob.refuses("#den", "/op carol", "not_admin", "dan")
	for _, chat := range []string{"#den", "#pit"} {
		bob.wantAfterSilence("room", "chat", chat, "cause", "kicked", "whom", "carol", "ref", chat, "members", []string{"dan", "bob"})
		carol.want("room", "chat", chat, "cause", "kicked", "by", "bob", "whom", "carol")
	}
	bob.refuses("#den", "/topic mine", "not_admin", "dan")

	// Before dan has heard of the kick carol is a member to him, and may be told so.
	l.Heal(nil, nil)
	dan = l.node("h5", "dan")
	dan.ready("dan", nil)
	bob.want("notice", "code", "merged", "text", containing("#pit", "dan", "bob kicked carol"))
	for _, n := range []*node{dan, bob} {
		n.want("room", "chat", "#den", "cause", "claimed", "by", "dan", "members", []string{"dan", "bob"})
		n.want("room", "chat", "#pit", "cause", "resolved", "whom", "carol", "members", []string{"dan", "bob"}, "topic", "alone")
	}
	meet(dan, bob)
	talk("#den", "dan is back", dan, bob)
	talk("#pit", "dan is back", dan, bob)
	for _, chat := range []string{"#den", "#pit"} {
		if n := len(bob.all("room", "chat", chat, "cause", "joined", "whom", "carol")); n != 1 {
			t.Errorf("carol came into %s %d times", chat, n)
		}
	}

	// ann has heard mal for longer than 45 s by now.
	claim, err := r.log.Claim(r.identity(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	behind := r.log.State()
	if _, err := r.log.Add(claim.Entry); err != nil {
		t.Fatal(err)
	}
	kick, err := r.log.Kick(r.identity(), time.Now(), behind.Members[len(behind.Members)-1].Account, "", func(wire.DeviceKey) uint64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.multicast(claim.Entry, kick.Entry)
	ann.want("notice", "code", "false_claim", "text", containing("mal"))
	all := []string{"ann", "bob", "mal", "carol"}
	for _, n := range []*node{ann, bob, carol} {
		n.want("room", "chat", "#lab", "cause", "claimed", "by", "ann", "members", all)
	}
	t.Logf("the false claim was undone after %v", time.Since(began))
	ann.want("notice", "code", "resolve", "text", containing("carol"))
	ann.object("cmd", "do", "chat", "#lab", "line", "/resolve carol dismiss")
	for _, n := range []*node{ann, bob, carol} {
		n.want("room", "chat", "#lab", "cause", "resolved", "by", "ann", "whom", "carol", "members", all)
	}
	tell("#lab", "fast", "still here", carol, ann, bob)
	tell("#lab", "fast", "indeed", ann, bob, carol)
	for _, n := range []*node{ann, bob, carol, mal} {
		if len(n.all("room", "chat", "#lab", "whom", "carol", "cause", "kicked")) > 0 {
			t.Errorf("%s took the false kick for true", n.name)
		}
	}
}

// An ex-admin's modified program, with what it had before the room was handed over,
// signs a kick from before that, and then hands the room over to somebody else.
// Who knows of the first is told and goes on; who was away stands still, is told
// of both, and decides.
func TestOldAdmin(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(5)...)
	a := l.authd("h1", "authd")
	ann, bob, carol, dan := l.newcomer("h2", "ann"), l.newcomer("h3", "bob", "--port", fmt.Sprint(roguePort)), l.newcomer("h4", "carol"), l.newcomer("h5", "dan")
	for _, n := range []*node{ann, bob, carol, dan} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol, dan)
	gather("#lab", ann, bob, carol, dan)
	ann.quit()
	r := l.rogue("h2", l.copyOf("ann"))
	ann = l.node("h2", "ann")
	ann.ready("ann", a)
	dan.quit()
	meet(ann, bob, carol)
	ann.object("cmd", "do", "chat", "#lab", "line", "/transfer bob")
	for _, n := range []*node{ann, bob, carol} {
		n.want("room", "chat", "#lab", "cause", "transferred", "by", "ann", "whom", "bob", "admins", []string{"bob", "ann"})
	}
	ann.quit()

	// Backdated.
	member := r.log.State().Members[2] // carol
	kick, err := r.log.Kick(r.identity(), time.Now(), member.Account, "", func(wire.DeviceKey) uint64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	r.multicast(kick.Entry)
	for _, n := range []*node{bob, carol} {
		n.want("notice", "code", "double_signing", "text", containing("ann signed two histories of #lab", "ann handed the room over to bob", "ann kicked carol"))
	}
	all := []string{"bob", "ann", "carol", "dan"}
	bob.object("cmd", "do", "chat", "#lab", "line", "/topic nobody is kicked")
	for _, n := range []*node{bob, carol} {
		n.want("room", "chat", "#lab", "cause", "topic", "topic", "nobody is kicked", "members", all)
	}

	// A second resignation.
	again, err := r.log.Transfer(r.identity(), time.Now(), member.Account)
	if err != nil {
		t.Fatal(err)
	}
	conn := r.dial(l.at("h3"))
	if conn == nil {
		t.Fatal("the rogue is not let in")
	}
	r.push(conn, again.Entry) // bob spreads the proof
	for _, n := range []*node{bob, carol} {
		n.want("notice", "code", "double_signing", "text", containing("ann handed the room over to bob", "ann handed the room over to carol", "the one that came first counts here"))
	}
	carol.refuses("#lab", "/topic mine", "not_admin", "bob")
	tell("#lab", "fast", "under bob", bob, carol)

	dan = l.node("h5", "dan")
	dan.ready("dan", a)
	told := dan.want("notice", "code", "double_signing", "text", containing("stands still here until you decide", "ann handed the room over to bob", "ann handed the room over to carol"))
	dan.object("cmd", "say", "chat", "#lab", "text", "hello?", "ref", "held")
	dan.want("error", "ref", "held", "code", "room_held")
	choice := 1
	if strings.Contains(told.text("text"), "2. ann handed the room over to bob") {
		choice = 2
	}
	dan.object("cmd", "do", "chat", "#lab", "line", fmt.Sprint("/decide ", choice))
	dan.want("room", "chat", "#lab", "topic", "nobody is kicked", "members", all, "admins", []string{"bob", "ann"})
	tell("#lab", "fast", "of one mind", bob, carol, dan)
	tell("#lab", "fast", "we are", dan, bob, carol)
	for _, n := range []*node{bob, carol, dan} {
		if len(n.all("room", "chat", "#lab", "cause", "kicked"))+len(n.all("room", "chat", "#lab", "cause", "transferred", "whom", "carol")) > 0 {
			t.Errorf("%s took what ann signed afterwards for true", n.name)
		}
	}
}
