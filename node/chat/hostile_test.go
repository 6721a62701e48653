package chat_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// signed returns what a node has of an author on its disk, as it hands it on.
func (n *node) signed(room wire.RoomID, author *node) (frames []chat.Frame) {
	n.l.t.Helper()
	found, err := n.store.History(chat.ChatID{Room: room}, chat.MessageID{}, 1000)
	if err != nil {
		n.l.t.Fatalf("%v", err)
	}
	for _, m := range found {
		if m.Device == author.token.Device {
			s := wire.Signed{Room: room, Entry: m.Epoch, Signed: m.Raw}
			frames = append(frames, chat.Frame{Type: wire.FrameSigned, Body: s.Append(nil)})
		}
	}
	return frames
}

// A member that hands on history in any order and often, with signatures that are
// wrong, of other rooms, with numbers that nobody counts to, or no history at all:
// what its authors signed is shown, once and in order, and nothing else; and who
// has nothing is not asked for ever.
func TestHostileHistory(t *testing.T) {
	l := newLAN(t, "ann", "bob", "mal").stored(t).room("#lab")
	ann, bob, mal := l.node("ann"), l.node("bob"), l.node("mal")
	lab := ann.core.RoomID("#lab")
	mal.do("/create #den")
	den := mal.core.RoomID("#den")
	mal.say("#den", "reliable", "of another room")
	l.pass(time.Second)
	bob.apart()
	for i := range 5 {
		ann.say("#lab", "reliable", fmt.Sprint("ann ", i+1))
	}
	l.pass(2 * time.Second)
	l.fate = nil
	ann.apart()

	good := mal.signed(lab, ann)
	forge := func(change func(s *wire.Signed)) chat.Frame {
		s, err := wire.ParseSigned(good[len(good)-1].Body)
		if err != nil {
			t.Fatal(err)
		}
		s.Signed = bytes.Clone(s.Signed)
		change(s)
		return chat.Frame{Type: wire.FrameSigned, Body: s.Append(nil)}
	}
	epoch := mal.core.Keys("#lab").Current()
	slot := func(of *node) uint16 {
		i, _ := epoch.Info().Slot(of.token.Key)
		return uint16(i)
	}
	write := func(as *node, reliable bool, number uint64) chat.Frame {
		m := wire.Message{Number: number, Text: "forged"}
		_, raw := epoch.Seal(mal.key, &wire.Plain{Slot: slot(as), Seq: 1 << 40, Kind: wire.KindMessage, Reliable: reliable, Body: wire.AppendBody(nil, &m)}, [wire.NonceSize]byte{1})
		s := wire.Signed{Room: lab, Entry: epoch.Entry(), Signed: raw}
		return chat.Frame{Type: wire.FrameSigned, Body: s.Append(nil)}
	}
	foreign := mal.signed(den, mal)[0]
	bad := []chat.Frame{
		forge(func(s *wire.Signed) { s.Signed[len(s.Signed)-1] ^= 1 }),
		forge(func(s *wire.Signed) { s.Signed[40] ^= 1 }),
		forge(func(s *wire.Signed) { s.Signed = s.Signed[:len(s.Signed)-1] }),
		forge(func(s *wire.Signed) { s.Entry = bob.core.Log("#lab").Genesis().Hash() }), // of an epoch without bob
		forge(func(s *wire.Signed) { s.Entry = wire.Hash{7} }),
		forge(func(s *wire.Signed) { s.Room = den }),
		foreign,
		write(ann, true, 6),
		write(bob, true, 1),
		write(mal, false, 1),
		write(mal, true, math.MaxUint64),
		write(mal, true, 1<<63),
		{Type: wire.FrameSigned, Body: []byte("no history")},
		{Type: wire.FrameEntry, Body: []byte("no entry")},
		{Type: 0xee, Body: bytes.Repeat([]byte("x"), 1000)},
	}
	answer := slices.Concat(bad, []chat.Frame{good[3], good[1], good[3], good[0], good[4]}, bad, []chat.Frame{good[2]}, good, bad)
	asked := 0
	l.lies = func(to *node, q chat.Ask) []chat.Frame {
		if to != mal || q.Type != wire.FramePull {
			return nil
		}
		asked++
		return answer
	}
	l.clear()
	l.link(bob, mal)
	l.pass(10 * time.Minute)
	checkTexts(t, "bob sees of ann", bob.texts("#lab", "ann"), numbered("ann", 1, 5))
	if got := shown[chat.Message](bob); len(got) != 5 {
		t.Errorf("bob sees %+v", got)
	}
	if asked > 30 {
		t.Errorf("mal was asked %d times in ten minutes", asked)
	}
	l.lies, l.fate = nil, nil
	l.clear()
	l.link(bob, ann)
	ann.say("#lab", "reliable", "ann 6")
	bob.say("#lab", "reliable", "bob 1")
	l.pass(5 * time.Second)
	checkTexts(t, "bob sees of ann", bob.texts("#lab", "ann"), []string{"ann 6"})
	checkTexts(t, "ann sees of bob", ann.texts("#lab", "bob"), []string{"bob 1"})
}

// A member that acknowledges what nobody sent, and claims for ever that it misses
// everything: it is answered within bounds, nobody is told that it has what it
// can't have, and the others go on as if it were not there.
func TestHostileAcknowledgements(t *testing.T) {
	l := newLAN(t, "ann", "bob", "mal").stored(t).room("#lab")
	ann, bob, mal := l.node("ann"), l.node("bob"), l.node("mal")
	l.pass(4 * time.Second)
	for i := range 300 {
		ann.say("#lab", "reliable", fmt.Sprint("old ", i))
	}
	l.pass(5 * time.Second)
	l.clear()
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if from == mal {
			return nil // it says only what follows
		}
		return []time.Duration{0}
	}
	asked := 0
	l.asked = func(from, to *node, q chat.Ask) bool {
		if from == ann {
			asked++
		}
		return true
	}
	acks, all := wire.Acks{}, wire.RepairRequest{Ranges: []wire.Range{{First: 1, Last: 1 << 62}}}
	for _, n := range []uint64{1<<64 - 1, 1 << 63, 1 << 40, 5000} {
		acks.Acks = append(acks.Acks, wire.Ack{Slot: uint16(len(acks.Acks)), Number: n})
	}
	const seconds = 2
	for i := range seconds * 500 {
		acks.Acks[0].Number = 1<<64 - 1 - uint64(i)
		for slot := range uint16(4) {
			all.Slot = slot // the last is nobody's
			ann.core.HandlePacket(l.now, mal.core.Seal("#lab", wire.KindRepairRequest, false, wire.AppendBody(nil, &all)))
		}
		ann.core.HandlePacket(l.now, mal.core.Seal("#lab", wire.KindAcks, false, wire.AppendBody(nil, &acks)))
		if i%500 == 0 {
			ann.say("#lab", "reliable", fmt.Sprint("new ", i/500+1))
		}
		l.pass(2 * time.Millisecond)
	}
	l.pass(time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), numbered("new", 1, seconds))
	for _, r := range shown[chat.Receipt](ann) {
		if r.By == "mal" {
			t.Errorf("ann is told that mal has %v", r)
		}
	}
	if n := len(shown[chat.Receipt](ann)); n != seconds {
		t.Errorf("%d receipts of bob, want %d", n, seconds)
	}
	// 3,000 requests, each for all there is.
	if n := len(mal.packets); n > 30_000 {
		t.Errorf("mal is given %d packets in %d s", n, seconds)
	}
	if n := len(bob.packets); n > 2000 {
		t.Errorf("bob hears %d packets in %d s", n, seconds)
	}
	t.Logf("mal is given %d packets, bob hears %d, ann asked %d questions", len(mal.packets), len(bob.packets), asked)
	if asked > 100 {
		t.Errorf("ann asks %d questions because of that", asked)
	}
}

// An entry whose predecessor nobody has, as a modified member can sign, is asked
// about less and less often, and no new entry has the whole log asked for because
// of it. If the predecessor turns up after all, both are placed.
func TestEntryOfNoPlace(t *testing.T) {
	l := newLAN(t, "ann", "bob", "mal").room("#lab")
	ann, bob, mal := l.node("ann"), l.node("bob"), l.node("mal")
	l.pass(time.Minute)
	log := ann.core.Log("#lab")
	at := log.State()
	claim := wire.SignEntry(testRealm, mal.key, wire.Entry{Room: at.Room, Seq: at.Seq + 1, Prev: at.Head, AuthorN: 1, Args: &wire.LogClaim{}})
	behind := wire.SignEntry(testRealm, mal.key, wire.Entry{Room: at.Room, Seq: at.Seq + 2, Prev: claim.Hash(), AuthorN: 2, Args: &wire.LogClaim{}})
	asked := map[*node]int{}
	l.asked = func(from, _ *node, q chat.Ask) bool {
		if q.Type == wire.FrameLog {
			asked[from]++
		}
		return true
	}
	for _, to := range []*node{ann, bob} {
		to.core.HandleFrame(l.now, mal.token.Device, wire.FrameEntry, behind.Append(nil))
	}
	l.pass(15 * time.Minute)
	for _, n := range []*node{ann, bob} {
		if asked[n] < 2 || asked[n] > 20 {
			t.Errorf("%s asks %d times for what nobody has in a quarter of an hour, want 2 to 20", n.name, asked[n])
		}
	}
	clear(asked)
	for i := range 20 {
		ann.do(fmt.Sprint("/topic ", i))
		l.pass(time.Second)
	}
	if asked[bob] > 2 {
		t.Errorf("bob asks %d times because of 20 entries that came", asked[bob])
	}
	for _, to := range []*node{ann, bob} {
		to.core.HandleFrame(l.now, mal.token.Device, wire.FrameEntry, claim.Append(nil))
	}
	l.pass(time.Second)
	for _, n := range []*node{ann, bob} {
		if log := n.core.Log("#lab"); len(log.Missing()) > 0 || !log.Has(claim.Hash()) {
			t.Errorf("%s misses %v, has the one that was missing: %v", n.name, log.Missing(), log.Has(claim.Hash()))
		}
	}
}
