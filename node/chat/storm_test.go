package chat_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/node/room"
	"lanchat/wire"
)

// What a hostile member can sign all day, and what it costs the others. Nothing
// of it may fill the room's log, or keep the admin from ending it by a command.

// vandal is a member's node that signs what it likes, as often as it likes.
type vandal struct {
	*node
	signed uint64
	by     *node // who hands it on, if it is not the vandal
}

// sign makes a valid entry by the vandal behind h, an entry of its core's log or
// of those in more, and hands it to others over their links.
func (v *vandal) sign(behind *room.Log, args wire.Args, to ...*node) *wire.Entry {
	v.l.t.Helper()
	s := behind.State()
	v.signed++
	e := wire.Entry{Room: s.Room, Seq: s.Seq + 1, Prev: s.Head, AuthorN: s.AuthorN(v.token.Key) + 1, Time: uint64(v.l.now.UnixMilli()) + v.signed, Args: args}
	switch args.(type) {
	case *wire.LogKick, *wire.LogRekey, *wire.LogAdmit:
		e.Commit = wire.Hash(sha256.Sum256(fmt.Append(nil, v.name, v.signed)))
	}
	entry := wire.SignEntry(testRealm, v.key, e)
	by := v.node
	if v.by != nil {
		by = v.by
	}
	for _, n := range to {
		n.core.HandleFrame(v.l.now, by.token.Device, wire.FrameEntry, entry.Append(nil))
	}
	v.l.settle()
	return entry
}

// until returns the log as far as an entry with a number.
func until(t tb, log *room.Log, seq int) *room.Log {
	t.Helper()
	short, err := room.Load(testRealm, log.Audit()[:seq+1], nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return short
}

// A member claims to stand in again and again, though the admin is there, with or
// without coming anew each time. The admin's log hardly grows, everybody is told
// a few times, and the admin ends it with a kick.
func TestClaimStorm(t *testing.T) {
	for _, anew := range []bool{false, true} {
		t.Run(fmt.Sprint("anew ", anew), func(t *testing.T) {
			l := newLAN(t, "ann", "bob", "mal", "cat").stored(t).room("#lab")
			ann, mal := l.node("ann"), &vandal{node: l.node("mal")}
			l.pass(2 * time.Minute)
			l.clear()
			others := []*node{ann, l.node("bob"), l.node("cat")}
			before := ann.core.Log("#lab").Len()
			for range 100 {
				mal.sign(ann.core.Log("#lab"), &wire.LogClaim{}, others...)
				if anew {
					l.unlink(mal.node, ann)
					l.link(mal.node, ann)
				}
				l.pass(100 * time.Millisecond)
			}
			if got := ann.core.Log("#lab").Len() - before; got > 20 {
				t.Errorf("ten seconds of claims, ten a second: the log grew by %d", got)
			}
			if got := len(ann.notices("false_claim")); got > 10 {
				t.Errorf("ann is told %d times", got)
			}
			ann.do("/kick mal")
			l.pass(5 * time.Second)
			l.agree(t, "#lab", "ann", "bob", "cat")
			l.clear()
			ann.say("#lab", "reliable", "quiet at last")
			l.pass(time.Second)
			checkTexts(t, "cat hears", l.node("cat").texts("#lab", "ann"), []string{"quiet at last"})
			checkTexts(t, "mal hears", mal.texts("#lab", "ann"), nil)
		})
	}
}

// An entry that only looks like the admin's does not have members believe a
// claim that they would not believe without it.
func TestForgedWordOfTheAdmin(t *testing.T) {
	l := newLAN(t, "ann", "bob", "mal", "cat").room("#lab")
	ann, bob, mal := l.node("ann"), l.node("bob"), &vandal{node: l.node("mal")}
	l.pass(2 * time.Minute)
	l.unlink(ann, mal.node) // ann does not hear of it before long
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if (from == ann) != (to == ann) {
			return nil
		}
		return []time.Duration{time.Millisecond}
	}
	log := ann.core.Log("#lab")
	head := log.Head().Hash()
	forged := wire.SignEntry(testRealm, ed25519.NewKeyFromSeed(make([]byte, 32)), wire.Entry{Room: log.Room(), Seq: log.State().Seq + 1, Prev: head, AuthorN: 9, Args: &wire.LogClaim{}})
	raw := forged.Append(nil)
	copy(raw[74:], ann.token.Key[:]) // the author
	claim := mal.sign(log, &wire.LogClaim{})
	for _, body := range [][]byte{raw, claim.Append(nil), raw} {
		bob.core.HandleFrame(l.now, mal.token.Device, wire.FrameEntry, body)
	}
	answer := [][]byte{claim.Append(nil), raw}
	bob.core.Answered(l.now, "#lab", answer, mal.token.Device)
	l.settle()
	if bob.core.Log("#lab").State().Head != head {
		t.Error("bob believes the claim")
	}
}

// A member fills branches beside the one that counts with new keys. The admin
// makes a new one after the first, as after any merge, and not after each.
func TestRekeyStorm(t *testing.T) {
	l := newLAN(t, "ann", "bob", "mal", "cat").stored(t).room("#lab")
	ann, mal := l.node("ann"), &vandal{node: l.node("mal")}
	ann.do("/topic something newer")
	l.pass(2 * time.Minute)
	l.clear()
	others := []*node{ann, l.node("bob"), l.node("cat")}
	before := ann.core.Log("#lab").State().Seq
	branch := until(t, ann.core.Log("#lab"), 3)
	add := func(args wire.Args) {
		e := mal.sign(branch, args, others...)
		if _, err := branch.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	add(&wire.LogClaim{})
	for range 100 {
		add(&wire.LogRekey{})
		l.pass(200 * time.Millisecond)
	}
	if got := ann.core.Log("#lab").State().Seq - before; got > 5 {
		t.Errorf("twenty seconds of keys on a branch that does not count: the admin wrote %d entries", got)
	}
	l.agree(t, "#lab", "ann", "bob", "mal", "cat")
}

// Who was removed, and had sat in front of others, signs their removal behind an
// old entry, and a friend hands it in: they get no keys until the admin decides,
// one by one, and again. A ban of that person ends it.
func TestRemovalsByTheBanned(t *testing.T) {
	l := newLAN(t, "ann", "mal", "bob", "cat", "dan", "eve").stored(t).room("#lab")
	ann, mal := l.node("ann"), &vandal{node: l.node("mal"), by: l.node("eve")}
	l.pass(time.Minute)
	behind := until(t, ann.core.Log("#lab"), 5)
	ann.do("/kick mal")
	l.pass(time.Minute)
	l.clear()
	storm := func() {
		branch := until(t, behind, 5)
		for i, args := range []wire.Args{&wire.LogClaim{}, l.removal(behind, "bob"), l.removal(behind, "cat"), l.removal(behind, "dan")} {
			if i == 0 {
				mal.signed += 1000
			}
			e := mal.sign(branch, args, ann)
			if _, err := branch.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		l.pass(5 * time.Second)
	}
	storm()
	if got := ann.core.Log("#lab").Suspended(); len(got) != 3 {
		t.Fatalf("suspended: %v; want bob, cat and dan", got)
	}
	if s := ann.core.Log("#lab").State(); len(s.Members) != 5 {
		t.Errorf("%d members: ann's node upheld by itself what somebody did who is out", len(s.Members))
	}
	asked := ann.notices("resolve")
	if len(asked) != 3 || !strings.Contains(asked[0], "/ban mal") {
		t.Errorf("ann is asked %q", asked)
	}
	ann.do("/ban mal")
	l.pass(5 * time.Second)
	storm()
	if got := ann.core.Log("#lab").Suspended(); len(got) != 0 {
		t.Errorf("after the ban there are suspended: %v", got)
	}
	l.agree(t, "#lab", "ann", "bob", "cat", "dan", "eve")
	l.clear()
	ann.say("#lab", "reliable", "all together")
	l.pass(time.Second)
	for _, n := range []string{"bob", "cat", "dan"} {
		checkTexts(t, n+" hears", l.node(n).texts("#lab", "ann"), []string{"all together"})
	}
	checkTexts(t, "mal hears", mal.texts("#lab", "ann"), nil)
}

// removal is a KICK of a member.
func (l *lan) removal(log *room.Log, name string) *wire.LogKick {
	a := &wire.LogKick{Account: l.node(name).token.Account}
	for _, d := range log.State().Member(a.Account).Devices {
		a.Marks = append(a.Marks, wire.Mark{Key: d.Key})
	}
	return a
}

// A member answers every question about the log with entries of its own making,
// as many as an answer holds, and says with each beacon that it knows more; and
// pushes what does not even verify. It is not asked, nor listened to, for long;
// what others say comes through meanwhile.
func TestEndlessAnswers(t *testing.T) {
	l := newLAN(t, "ann", "bob", "mal").stored(t).room("#lab")
	ann, mal := l.node("ann"), &vandal{node: l.node("mal")}
	l.pass(time.Minute)
	log := ann.core.Log("#lab")
	var forks [][]byte
	for range 2200 {
		forks = append(forks, mal.sign(log, &wire.LogClaim{}).Append(nil))
	}
	l.clear()
	asked := 0
	l.asked = func(from, to *node, q chat.Ask) bool {
		if to != mal.node || q.Type != wire.FrameLog {
			return true
		}
		asked++
		from.core.HandleAnswer(l.now, q.Question, frames(forks[asked*100%len(forks):]), nil)
		return false
	}
	bad := slices.Clone(forks[0])
	bad[len(bad)-1] ^= 1
	before := ann.core.Stats()
	for range 200 {
		beacon := wire.AppendBody(nil, &wire.Beacon{LogSeq: 1000, Head: wire.Hash{byte(asked), byte(asked >> 8), 1}})
		ann.core.HandlePacket(l.now, mal.core.Seal("#lab", wire.KindBeacon, false, beacon))
		for range 10 {
			ann.core.HandleFrame(l.now, mal.token.Device, wire.FrameEntry, bad)
		}
		l.pass(100 * time.Millisecond)
	}
	after := ann.core.Stats()
	if asked > 20 {
		t.Errorf("in 20 s ann asked mal %d times", asked)
	}
	if got := after.Flooded - before.Flooded; got < 1000 {
		t.Errorf("of 2,000 bad entries %d were dropped unchecked", got)
	}
	if got := log.Len(); got > 40 {
		t.Errorf("the log has %d entries", got)
	}
	l.clear()
	ann.say("#lab", "reliable", "are you there?")
	l.node("bob").say("#lab", "reliable", "yes")
	ann.do("/kick mal")
	l.pass(5 * time.Second)
	checkTexts(t, "bob hears", l.node("bob").texts("#lab", "ann"), []string{"are you there?"})
	checkTexts(t, "ann hears", ann.texts("#lab", "bob"), []string{"yes"})
	l.agree(t, "#lab", "ann", "bob")
}

// frames has entries as an answer has them.
func frames(entries [][]byte) (answer []chat.Frame) {
	for _, e := range entries {
		answer = append(answer, chat.Frame{Type: wire.FrameEntry, Body: e})
	}
	return answer
}

// Packets under keys that nobody knows, which anybody on the LAN can send, and
// keys of entries that there are not, have nobody ask others all day. A key that
// is there is asked for as before.
func TestUnknownKeysAskLittle(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "mal").stored(t).room("#lab")
	ann, bob, mal := l.node("ann"), l.node("bob"), l.node("mal")
	l.pass(time.Minute)
	asked := 0
	l.asked = func(from, to *node, q chat.Ask) bool {
		if from == bob && q.Type == wire.FrameLog {
			asked++
		}
		return true
	}
	packet := ann.core.Seal("#lab", wire.KindMessage, false, wire.AppendBody(nil, &wire.Message{Text: "x", Number: 1}))
	for i := range 2000 {
		copy(packet[2:], fmt.Sprintf("%08d", i))
		bob.core.HandlePacket(l.now, slices.Clone(packet))
		k := wire.Key{Room: bob.core.RoomID("#lab"), Entry: wire.Hash{byte(i), byte(i >> 8), 7}}
		bob.core.HandleFrame(l.now, mal.token.Device, wire.FrameKey, k.Append(nil))
		l.pass(10 * time.Millisecond)
	}
	if asked > 40 {
		t.Errorf("in 20 s of nonsense bob asked for the log %d times", asked)
	}
	ann.do("/kick mal")
	l.pass(time.Second)
	bob.say("#lab", "reliable", "with the new key")
	l.pass(time.Second)
	checkTexts(t, "ann hears", ann.texts("#lab", "bob"), []string{"with the new key"})
	l.agree(t, "#lab", "ann", "bob", "cat")
}

// Who comes and goes all day, and who has devices of their own let in and out,
// does not fill a room's log with it, and is told to wait.
func TestComingAndGoing(t *testing.T) {
	l := newLAN(t, "ann", "bob", "mal").stored(t)
	ann, mal := l.node("ann"), l.node("mal")
	ann.do("/create #lab")
	l.node("bob").do("/join #lab")
	l.pass(time.Minute)
	l.clear()
	before := ann.core.Log("#lab").Len()
	for range 200 {
		mal.do("/join #lab")
		l.pass(50 * time.Millisecond)
		if mal.core.Log("#lab") != nil {
			mal.do("/part #lab")
		}
		l.pass(50 * time.Millisecond)
	}
	if got := ann.core.Log("#lab").Len() - before; got > 60 {
		t.Errorf("in 20 s somebody who came and went made the log grow by %d", got)
	}
	if e := mal.errors(); len(e) == 0 || e[len(e)-1] != "rate_limited" {
		t.Errorf("mal is told %q", e)
	}
	l.pass(2 * time.Minute)
	mal.do("/join #lab")
	l.pass(time.Second)
	l.agree(t, "#lab", "ann", "bob", "mal")
}
