package chat_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lanchat/node/chat"
	"lanchat/wire"
)

// A message has the same id on every screen, whichever way it came.
func TestMessageIDs(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	ann := l.node("ann")
	ids := map[string]bool{}
	for _, to := range []string{"#lab", "@bob"} {
		for _, mode := range []string{"reliable", "fast"} {
			for range 2 {
				l.clear()
				ann.say(to, mode, "hi")
				sent := shown[chat.Sent](ann)
				if len(sent) != 1 || sent[0].Chat != to || sent[0].Mode != mode || len(sent[0].ID) != 16 {
					t.Fatalf("%s to %s: sent %+v", mode, to, sent)
				}
				if ids[sent[0].ID] {
					t.Errorf("%s to %s: the id %s is used twice", mode, to, sent[0].ID)
				}
				ids[sent[0].ID] = true
				for _, n := range l.nodes[1:] {
					got := shown[chat.Message](n)
					if to == "@bob" && n.name != "bob" {
						if len(got) != 0 {
							t.Errorf("%s to %s: %s sees %+v", mode, to, n.name, got)
						}
						continue
					}
					if len(got) != 1 || got[0].ID != sent[0].ID || got[0].Mode != mode || got[0].From != "ann" {
						t.Errorf("%s to %s: %s sees %+v, sent %+v", mode, to, n.name, got, sent)
					}
				}
			}
		}
	}
}

// "k of n by name": a receipt for every reader, with everybody counted.
func TestReceipts(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	ann := l.node("ann")
	l.clear()
	ann.say("#lab", "reliable", "one")
	ann.say("#lab", "fast", "two")
	ann.say("#lab", "reliable", "three")
	l.pass(5 * time.Second)
	got := map[string][]string{}
	for _, r := range shown[chat.Receipt](ann) {
		got[r.ID] = append(got[r.ID], fmt.Sprintf("%d of %d", r.Got, r.Of))
	}
	for _, s := range shown[chat.Sent](ann) {
		var want []string
		if s.Mode == "reliable" {
			want = []string{"1 of 2", "2 of 2"}
		}
		checkTexts(t, s.Text, got[s.ID], want)
	}
	for _, n := range l.nodes[1:] {
		if r := shown[chat.Receipt](n); len(r) != 0 {
			t.Errorf("%s, who sent nothing, sees %+v", n.name, r)
		}
	}
}

// A receipt comes once even when it is acknowledged again and again, and it
// comes even when the first acknowledgements are lost.
func TestReceiptsWithLoss(t *testing.T) {
	l := newLAN(t, "ann", "bob").room("#lab")
	ann := l.node("ann")
	lost := 0
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if to == ann && lost < 3 {
			lost++
			return nil
		}
		return []time.Duration{0, 0}
	}
	l.clear()
	ann.say("#lab", "reliable", "one")
	l.pass(30 * time.Second)
	if r := shown[chat.Receipt](ann); len(r) != 1 || r[0].By != "bob" || r[0].Got != 1 || r[0].Of != 1 {
		t.Errorf("receipts: %+v", r)
	}
	checkTexts(t, "bob sees", l.node("bob").texts("#lab", "ann"), []string{"one"})
}

// A gap that lasts is told once, and its end; order is kept.
func TestGap(t *testing.T) {
	l := newLAN(t, "ann", "bob").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	ann.say("#lab", "reliable", "one")
	l.pass(time.Second)
	l.clear()
	l.fate = func(from, to *node, _ []byte) []time.Duration { return nil }
	ann.say("#lab", "reliable", "two")
	ann.say("#lab", "reliable", "three")
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if to == ann {
			return nil // no request comes through
		}
		return []time.Duration{0}
	}
	ann.say("#lab", "reliable", "four")
	l.pass(time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), nil)
	if g := shown[chat.Gap](bob); len(g) != 1 || g[0] != (chat.Gap{Chat: "#lab", From: "ann", Missing: 2, Mode: "reliable"}) {
		t.Errorf("gaps: %+v", g)
	}
	l.fate = nil
	l.pass(time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"two", "three", "four"})
	if g := shown[chat.Gap](bob); len(g) != 2 || g[1] != (chat.Gap{Chat: "#lab", From: "ann", Healed: true, Mode: "reliable"}) {
		t.Errorf("gaps: %+v", g)
	}
}

// "Never shown twice": room packets that come again, at once, in a later
// epoch, and after a restart.
func TestReplay(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	l.clear()
	for i := range 5 {
		ann.say("#lab", "reliable", fmt.Sprint("reliable ", i))
		ann.say("#lab", "fast", fmt.Sprint("fast ", i))
	}
	l.pass(2 * time.Second)
	if got := bob.texts("#lab", "ann"); len(got) != 10 {
		t.Fatalf("bob sees %q", got)
	}
	captured := bob.packets
	again := func(when string) {
		t.Helper()
		before := bob.core.Stats()
		l.clear()
		for range 2 {
			for _, p := range captured {
				bob.core.HandlePacket(l.now, slices.Clone(p))
			}
			l.settle()
		}
		l.pass(15 * time.Second)
		if m := shown[chat.Message](bob); len(m) != 0 {
			t.Errorf("%s bob sees %+v", when, m)
		}
		if m := shown[chat.Room](bob); len(m) != 0 {
			t.Errorf("%s bob sees %+v", when, m)
		}
		after := bob.core.Stats()
		if after.Replayed+after.UnknownKey+after.Forbidden == before.Replayed+before.UnknownKey+before.Forbidden {
			t.Errorf("%s nothing is counted: %+v", when, after)
		}
	}
	again("at once")
	bob.start()
	l.link(ann, bob)
	l.link(bob, cat)
	again("after a restart")
	cat.do("/part #lab") // others rekey
	again("in the next epoch")
	l.pass(5 * time.Minute)
	again("when the epoch is wiped")
	bob.start()
	l.link(ann, bob)
	again("after another restart")
	// The chat goes on.
	l.clear()
	ann.say("#lab", "reliable", "news")
	l.pass(time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"news"})
}

// A room survives a restart, messages go on where they were, and who was away
// gets what the sender still has.
func TestRestart(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	ann.say("#lab", "reliable", "one")
	ann.say("@bob", "reliable", "direct one")
	l.pass(time.Second)
	l.clear()
	bob.start()
	if r := shown[chat.Room](bob); len(r) != 1 || r[0].Cause != "restored" || !slices.Equal(r[0].Members, []string{"ann", "bob"}) {
		t.Fatalf("rooms: %+v", r)
	}
	l.fate = func(from, to *node, _ []byte) []time.Duration { return nil } // bob is not there
	ann.say("#lab", "reliable", "two")
	ann.say("@bob", "reliable", "direct two")
	ann.say("@bob", "reliable", "direct three")
	l.pass(time.Minute)
	l.fate = nil
	l.link(ann, bob)
	l.pass(10 * time.Second)
	ann.say("#lab", "reliable", "three")
	bob.say("#lab", "reliable", "from bob")
	l.pass(10 * time.Second)
	checkTexts(t, "in the room", bob.texts("#lab", "ann"), []string{"two", "three"})
	checkTexts(t, "directly", bob.texts("@ann", "ann"), []string{"direct two", "direct three"})
	checkTexts(t, "in the room", ann.texts("#lab", "bob"), []string{"from bob"})
	var ids []string
	for _, r := range shown[chat.Receipt](ann) {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	if len(ids) != 4 || len(slices.Compact(ids)) != 4 {
		t.Errorf("receipts of four messages: %+v", shown[chat.Receipt](ann))
	}
	if ann.core.Pending() != 0 {
		t.Errorf("%d messages wait", ann.core.Pending())
	}
	// Who starts anew goes on counting.
	ann.start()
	l.link(ann, bob)
	l.clear()
	ann.say("#lab", "reliable", "four")
	ann.say("#lab", "fast", "five")
	ann.say("@bob", "reliable", "direct four")
	l.pass(time.Second)
	checkTexts(t, "in the room", bob.texts("#lab", "ann"), []string{"four", "five"})
	checkTexts(t, "directly", bob.texts("@ann", "ann"), []string{"direct four"})
}

// What is said after a restart stands behind what was there before, whatever the
// machine's clock says meanwhile.
func TestClockGoesOn(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.now = l.now.Add(time.Minute)
	bob.say("#lab", "reliable", "before")
	l.pass(time.Second)
	l.now = l.now.Add(-time.Minute) // while ann's machine starts
	ann.start()
	l.link(ann, bob)
	l.pass(5 * time.Second)
	ann.say("#lab", "reliable", "after")
	l.pass(time.Second)
	for _, n := range l.nodes {
		found, err := n.store.History(chat.ChatID{Room: n.core.RoomID("#lab")}, chat.MessageID{}, 10)
		if err != nil || len(found) != 2 || found[0].Text != "before" || found[1].Clock <= found[0].Clock {
			t.Errorf("%s has %+v (%v)", n.name, found, err)
		}
	}
}

// The outbox outlives a restart of the sender, and an acknowledgement that is
// lost makes no second message.
func TestOutbox(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t)
	ann, bob := l.node("ann"), l.node("bob")
	l.unlink(ann, bob)
	l.clear()
	ann.say("@bob", "reliable", "one")
	ann.say("@bob", "fast", "not kept")
	if e := shown[chat.Error](ann); len(e) != 1 || e[0].Code != "unconfirmed" {
		t.Errorf("a fast message to somebody away: %+v", ann.events)
	}
	if n := shown[chat.Notice](ann); len(n) != 1 || n[0].Code != "waiting" {
		t.Errorf("a reliable message to somebody away: %+v", ann.events)
	}
	ann.start()
	ann.say("@bob", "reliable", "two")
	if ann.core.Pending() != 2 {
		t.Errorf("%d messages wait", ann.core.Pending())
	}
	l.pushed = func(from, to *node, p chat.Push) bool { return p.Type != wire.FrameDirectAck }
	l.link(ann, bob)
	checkTexts(t, "bob sees", bob.texts("@ann", "ann"), []string{"one", "two"})
	if ann.core.Pending() != 2 {
		t.Errorf("%d messages wait without an acknowledgement", ann.core.Pending())
	}
	l.pushed = nil
	for _, restart := range []*node{bob, ann} {
		restart.start()
		l.link(ann, bob)
		checkTexts(t, "bob sees", bob.texts("@ann", "ann"), []string{"one", "two"})
	}
	if r := shown[chat.Receipt](ann); len(r) != 2 || ann.core.Pending() != 0 {
		t.Errorf("receipts %+v, %d wait", r, ann.core.Pending())
	}
	if bob.core.Stats().Duplicates != 0 && len(bob.texts("@ann", "ann")) != 2 {
		t.Error("a duplicate was shown")
	}
}

// What was on its way when a link broke goes over the next one.
func TestBrokenLink(t *testing.T) {
	l := newLAN(t, "ann", "bob")
	ann, bob := l.node("ann"), l.node("bob")
	l.pushed = func(from, to *node, p chat.Push) bool { return p.Type != wire.FrameDirect }
	ann.say("@bob", "reliable", "one")
	ann.say("@bob", "reliable", "two")
	checkTexts(t, "bob sees", bob.texts("@ann", "ann"), nil)
	l.pushed = nil
	l.unlink(ann, bob)
	ann.say("@bob", "reliable", "three")
	l.link(ann, bob)
	checkTexts(t, "bob sees", bob.texts("@ann", "ann"), []string{"one", "two", "three"})
	var states []string
	for _, p := range shown[chat.Peer](ann) {
		states = append(states, p.State)
	}
	checkTexts(t, "ann sees bob", states, []string{"online", "lost", "online"})
}

// Who left hears nothing of what is said later, and what was said meanwhile
// stays unheard after coming back.
func TestPartAndJoin(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	cat.say("#lab", "reliable", "c1")
	ann.say("#lab", "reliable", "a1")
	l.pass(time.Second)
	l.clear()
	cat.do("/part #lab")
	for _, n := range l.nodes[:2] {
		rooms := shown[chat.Room](n)
		i := slices.IndexFunc(rooms, func(r chat.Room) bool { return r.Cause == "left" })
		if i < 0 || rooms[i].Whom != "cat" || !slices.Equal(rooms[i].Members, []string{"ann", "bob"}) {
			t.Errorf("%s sees %+v", n.name, rooms)
		}
	}
	before := cat.core.Stats()
	ann.say("#lab", "reliable", "a2")
	ann.say("#lab", "fast", "a3")
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"a2", "a3"})
	checkTexts(t, "cat sees", cat.texts("#lab", "ann"), nil)
	if after := cat.core.Stats(); after.UnknownKey < before.UnknownKey+2 {
		t.Errorf("cat's counters: %+v", after)
	}
	l.pass(time.Minute)
	l.clear()
	cat.do("/join #lab")
	for _, mode := range []string{"reliable", "fast"} {
		cat.say("#lab", mode, "c "+mode)
		ann.say("#lab", mode, "a "+mode)
	}
	l.pass(20 * time.Second)
	want := []string{"reliable", "fast"}
	for _, n := range l.nodes[:2] {
		checkTexts(t, n.name+" sees", n.texts("#lab", "cat"), []string{"c " + want[0], "c " + want[1]})
	}
	checkTexts(t, "cat sees", cat.texts("#lab", "ann"), []string{"a " + want[0], "a " + want[1]})
	for _, n := range l.nodes {
		if g := shown[chat.Gap](n); len(g) != 0 {
			t.Errorf("%s sees %+v", n.name, g)
		}
	}
}

// What somebody says just before leaving, of which packets are lost, comes to
// all: who has left could not be asked for it.
func TestLastWords(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	l.pass(4 * time.Second)
	l.clear()
	lost := 0
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if lost++; from == bob && lost < 5 {
			return nil
		}
		return []time.Duration{0}
	}
	bob.do("one", "two", "/part #lab", "/join #lab", "back")
	l.pass(10 * time.Second)
	for _, n := range []*node{ann, cat} {
		checkTexts(t, n.name+" sees", n.texts("#lab", "bob"), []string{"one", "two", "back"})
	}

	// Who does not answer keeps nobody from leaving.
	l.fate = func(from, to *node, _ []byte) []time.Duration { return nil }
	bob.do("three", "/part #lab")
	l.pass(3 * time.Second)
	if bob.core.Log("#lab") != nil {
		t.Error("bob has not left")
	}
}

// "Receivers accept the previous epoch for 10 s, from remaining members only."
func TestLeaverIsNotHeard(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	hi := wire.AppendBody(nil, &wire.Message{Number: 1, Text: "hi"})
	fromCat, fromAnn := cat.core.Seal("#lab", wire.KindMessage, false, hi), ann.core.Seal("#lab", wire.KindMessage, false, hi)
	tooLate := ann.core.Seal("#lab", wire.KindMessage, false, wire.AppendBody(nil, &wire.Message{Number: 2, Text: "late"}))
	cat.do("/part #lab")
	l.clear()
	forbidden := bob.core.Stats().Forbidden
	bob.core.HandlePacket(l.now, fromCat)
	bob.core.HandlePacket(l.now, fromAnn)
	l.settle()
	checkTexts(t, "from cat", bob.texts("#lab", "cat"), nil)
	checkTexts(t, "from ann", bob.texts("#lab", "ann"), []string{"hi"})
	if got := bob.core.Stats().Forbidden; got != forbidden+1 {
		t.Errorf("forbidden: %d more", got-forbidden)
	}
	l.pass(10 * time.Second)
	bob.core.HandlePacket(l.now, tooLate)
	l.settle()
	checkTexts(t, "after 10 s", bob.texts("#lab", "ann"), []string{"hi"})
}

// "Insider signs as another: rejected." cat seals with her own key what says
// it is in ann's slot.
func TestForgedSender(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	bob, cat := l.node("bob"), l.node("cat")
	l.clear()
	malformed := bob.core.Stats().Malformed
	hi := wire.AppendBody(nil, &wire.Message{Number: 1, Text: "I am ann"})
	bob.core.HandlePacket(l.now, cat.core.SealAs("#lab", l.node("ann").token.Key, wire.KindMessage, hi))
	l.settle()
	if got := bob.core.Stats().Malformed; got != malformed+1 || len(bob.events) != 0 {
		t.Errorf("malformed: %d more, events %+v", got-malformed, bob.events)
	}
	// The forgery does not use up ann's numbers.
	l.node("ann").say("#lab", "fast", "I am")
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"I am"})
}

// The oldest member succeeds an admin who leaves.
func TestAdminParts(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	bob, cat := l.node("bob"), l.node("cat")
	l.clear()
	l.node("ann").do("/part #lab")
	for _, n := range []*node{bob, cat} {
		var causes []string
		for _, r := range shown[chat.Room](n) {
			causes = append(causes, fmt.Sprintf("%s by %s whom %s, %v, admins %v", r.Cause, r.By, r.Whom, r.Members, r.Admins))
		}
		checkTexts(t, n.name+" sees", causes, []string{
			"left by ann whom ann, [bob cat], admins [bob]",
			"succeeded by ann whom bob, [bob cat], admins [bob]",
			"rekeyed by bob whom , [bob cat], admins [bob]",
		})
	}
	cat.say("#lab", "reliable", "hi")
	checkTexts(t, "bob sees", bob.texts("#lab", "cat"), []string{"hi"})
	checkTexts(t, "ann sees", l.node("ann").texts("#lab", "cat"), nil)
}

// What is no packet of a member changes nothing and is counted.
func TestGarbage(t *testing.T) {
	l := newLAN(t, "ann", "bob").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.pass(time.Minute)
	good := ann.core.Seal("#lab", wire.KindMessage, false, wire.AppendBody(nil, &wire.Message{Number: 1, Text: "hi"}))
	stranger := newLAN(t, "eve", "fay").room("#lab")
	foreign := stranger.node("eve").core.Seal("#lab", wire.KindMessage, false, wire.AppendBody(nil, &wire.Message{Number: 1, Text: "hi"}))
	flip := func(i int) []byte {
		p := slices.Clone(good)
		p[i] ^= 1
		return p
	}
	for _, tt := range []struct {
		name   string
		packet []byte
		count  func(chat.Stats) uint64
	}{
		{"nothing", nil, malformed},
		{"one byte", good[:1], malformed},
		{"half", good[:len(good)/2], malformed},
		{"one byte short", good[:len(good)-1], malformed},
		{"one byte more", append(slices.Clone(good), 0), malformed},
		{"65,507 bytes", make([]byte, 65507), malformed},
		{"another version", flip(0), malformed},
		{"another key", flip(4), unknownKey},
		{"a flipped bit", flip(len(good) - 1), malformed},
		{"another room's", foreign, unknownKey},
		{"a kind nobody knows", ann.core.Seal("#lab", wire.KindBeacon, false, []byte("no beacon")), malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l.clear()
			before, saved := tt.count(bob.core.Stats()), bob.saved
			bob.core.HandlePacket(l.now, slices.Clone(tt.packet))
			l.settle()
			if got := tt.count(bob.core.Stats()); got != before+1 {
				t.Errorf("counted %d, want %d: %+v", got, before+1, bob.core.Stats())
			}
			if len(bob.events) != 0 {
				t.Errorf("shown: %+v", bob.events)
			}
			if tt.name != "a kind nobody knows" && bob.saved != saved { // a member's packet is marked as seen
				t.Errorf("%d records", bob.saved-saved)
			}
		})
	}
	l.clear()
	bob.core.HandlePacket(l.now, good)
	l.settle()
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"hi"})
}

func malformed(s chat.Stats) uint64  { return s.Malformed }
func unknownKey(s chat.Stats) uint64 { return s.UnknownKey }

// Frames of devices there is no link to change nothing.
func TestFramesOfStrangers(t *testing.T) {
	l := newLAN(t, "ann", "bob")
	ann, bob := l.node("ann"), l.node("bob")
	m := wire.DirectMessage{Clock: 1, Message: wire.Message{Number: 1, Text: "hi"}}
	l.unlink(ann, bob)
	for _, from := range []wire.DeviceID{{1, 2, 3}, ann.token.Device} {
		l.clear()
		before, saved := bob.core.Stats().Forbidden, bob.saved
		bob.core.HandleFrame(l.now, from, wire.FrameDirect, m.Append(nil))
		bob.core.HandleDatagram(l.now, from, m.Append(nil))
		l.settle()
		if got := bob.core.Stats().Forbidden; got != before+2 || bob.saved != saved || len(bob.events) != 0 {
			t.Errorf("%v: forbidden %d, %d records, events %+v", from, got-before, bob.saved-saved, bob.events)
		}
		bob.core.HandleQuestion(l.now, from, 77, wire.FrameRooms, nil)
		w := bob.core.Take()
		if len(w.Sends) != 1 || !refused(w.Sends[0], 77, "not_authenticated") {
			t.Errorf("%v: a question is answered with %+v", from, w.Sends)
		}
	}
	if bob.core.HandleAnswer(l.now, 12345, nil, nil); !empty(bob.core) {
		t.Error("an answer to no question does something")
	}
}

func empty(c *chat.Core) bool {
	w := c.Take()
	return w.Empty()
}

func refused(s chat.Send, question uint64, code string) bool {
	a, ok := s.(chat.Answer)
	if !ok || a.Question != question || len(a.Frames) != 1 || a.Frames[0].Type != wire.FrameRefused {
		return false
	}
	m, err := wire.ParseRefused(a.Frames[0].Body)
	return err == nil && m.Code == code
}

// A private room is not told of, nor let into, nor handed out.
func TestPrivateRoom(t *testing.T) {
	l := newLAN(t, "ann", "bob")
	ann, bob := l.node("ann"), l.node("bob")
	ann.do("/create #secret --private")
	id := ann.core.RoomID("#secret")
	join, enter, log, key, part := wire.Join{Room: id}, wire.Enter{Room: id}, wire.LogRange{Room: id}, wire.KeyRequest{Room: id}, wire.Part{Room: id, Packet: []byte("x")}
	for i, q := range []struct {
		typ  uint8
		body []byte
	}{{wire.FrameJoin, join.Append(nil)}, {wire.FrameEnter, enter.Append(nil)}, {wire.FrameLog, log.Append(nil)}, {wire.FrameKeyOf, key.Append(nil)}, {wire.FramePart, part.Append(nil)}} {
		ann.core.HandleQuestion(l.now, bob.token.Device, uint64(i), q.typ, q.body)
		if w := ann.core.Take(); len(w.Sends) != 1 || !refused(w.Sends[0], uint64(i), "no_such_room") {
			t.Errorf("question %#x: %+v", q.typ, w.Sends)
		}
	}
	l.clear()
	bob.do("/rooms")
	l.pass(5 * time.Second)
	if n := shown[chat.Notice](bob); len(n) != 1 || strings.Contains(n[0].Text, "secret") {
		t.Errorf("bob sees %+v", n)
	}
	bob.do("/join #secret")
	l.pass(5 * time.Second)
	if e := shown[chat.Error](bob); len(e) != 1 || e[0].Code != "no_such_room" {
		t.Errorf("bob sees %+v", e)
	}
}

// However far a member claims to have counted, it hangs nobody.
func TestAbsurdNumbers(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	for _, n := range []uint64{1 << 40, 1 << 62, 1 << 63, math.MaxUint64} {
		bob.core.HandlePacket(l.now, ann.core.Seal("#lab", wire.KindBeacon, false, wire.AppendBody(nil, &wire.Beacon{Reliable: n, Fast: n})))
		bob.core.HandlePacket(l.now, ann.core.Seal("#lab", wire.KindMessage, true, wire.AppendBody(nil, &wire.Message{Number: n, Text: "far"})))
		ask := wire.AppendBody(nil, &wire.RepairRequest{Ranges: []wire.Range{{First: 1, Last: n}}})
		bob.core.HandlePacket(l.now, ann.core.Seal("#lab", wire.KindRepairRequest, false, ask))
		base := wire.Base{Room: bob.core.RoomID("#lab"), Number: n}
		bob.core.HandleFrame(l.now, ann.token.Device, wire.FrameBase, base.Append(nil))
		ack := wire.DirectAck{Number: n}
		bob.core.HandleFrame(l.now, ann.token.Device, wire.FrameDirectAck, ack.Append(nil))
		l.settle()
	}
	l.pass(time.Minute)
	l.clear()
	l.node("cat").say("#lab", "reliable", "hi")
	checkTexts(t, "bob sees", bob.texts("#lab", "cat"), []string{"hi"})
}

// Remote text passes the sanitiser before it is shown.
func TestTextIsClean(t *testing.T) {
	l := newLAN(t, "ann", "bob").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	const bad = "a\x1b[31mb\x07\u202ec\u0085d"
	l.clear()
	bob.core.HandlePacket(l.now, ann.core.Seal("#lab", wire.KindMessage, false, wire.AppendBody(nil, &wire.Message{Number: 1, Text: bad})))
	m := wire.DirectMessage{Clock: 1, Message: wire.Message{Number: 1, Text: bad}}
	bob.core.HandleFrame(l.now, ann.token.Device, wire.FrameDirect, m.Append(nil))
	bob.core.HandleDatagram(l.now, ann.token.Device, m.Append(nil))
	l.settle()
	got := shown[chat.Message](bob)
	if len(got) != 3 {
		t.Fatalf("bob sees %+v", got)
	}
	for _, m := range got {
		if strings.ContainsAny(m.Text, "\x1b\x07\u202e\u0085") {
			t.Errorf("shown: %q", m.Text)
		}
	}
}

// Whatever is lost, doubled or overtaken on the way, reliable messages are
// shown once and in their sender's order, to everybody.
func TestDeliveryProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLAN(rt, "ann", "bob", "cat").room("#lab")
		loss := rapid.IntRange(0, 60).Draw(rt, "loss")
		twice := rapid.IntRange(0, 50).Draw(rt, "twice")
		delay := rapid.IntRange(0, 200).Draw(rt, "delay")
		l.fate = func(from, to *node, _ []byte) (delays []time.Duration) {
			copies := 1
			if rapid.IntRange(0, 99).Draw(rt, "lost") < loss {
				copies = 0
			} else if rapid.IntRange(0, 99).Draw(rt, "doubled") < twice {
				copies = 2
			}
			for range copies {
				delays = append(delays, time.Duration(rapid.IntRange(0, delay).Draw(rt, "ms"))*time.Millisecond)
			}
			return delays
		}
		want := map[string][]string{}
		for i := range rapid.IntRange(1, 12).Draw(rt, "messages") {
			from := l.nodes[rapid.IntRange(0, len(l.nodes)-1).Draw(rt, "from")]
			text := fmt.Sprintf("%s %d", from.name, i)
			if rapid.IntRange(0, 4).Draw(rt, "fast") == 0 {
				from.say("#lab", "fast", "fast "+text)
			} else {
				want[from.name] = append(want[from.name], text)
				from.say("#lab", "reliable", text)
			}
			l.pass(time.Duration(rapid.IntRange(0, 300).Draw(rt, "pause")) * time.Millisecond)
		}
		l.pass(3 * time.Second) // with trouble
		l.fate = nil
		l.pass(20 * time.Second) // and without
		for _, n := range l.nodes {
			for _, from := range l.nodes {
				if n == from {
					continue
				}
				var got []string
				for _, text := range n.texts("#lab", from.name) {
					if !strings.HasPrefix(text, "fast ") {
						got = append(got, text)
					}
				}
				if !slices.Equal(got, want[from.name]) {
					rt.Fatalf("%s sees %q of %s, want %q", n.name, got, from.name, want[from.name])
				}
			}
			seen := map[string]bool{}
			for _, m := range shown[chat.Message](n) {
				if seen[m.ID] {
					rt.Fatalf("%s is shown %+v twice", n.name, m)
				}
				seen[m.ID] = true
			}
			open := map[string]bool{}
			for _, g := range shown[chat.Gap](n) {
				if g.Mode == "reliable" {
					open[g.From] = !g.Healed
				}
			}
			for from, still := range open {
				if still {
					rt.Fatalf("%s has an open gap of %s", n.name, from)
				}
			}
			receipts := map[string]int{}
			for _, r := range shown[chat.Receipt](n) {
				if receipts[r.ID]++; r.Got != receipts[r.ID] || r.Of != 2 || r.Got > r.Of {
					rt.Fatalf("%s sees %+v after %d receipts of the message", n.name, r, receipts[r.ID]-1)
				}
			}
			if len(receipts) != len(want[n.name]) || len(shown[chat.Receipt](n)) != 2*len(receipts) {
				rt.Fatalf("%s sees %d receipts of %d messages", n.name, len(shown[chat.Receipt](n)), len(want[n.name]))
			}
		}
	})
}
