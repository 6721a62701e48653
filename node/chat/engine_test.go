package chat_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/node/room"
	"lanchat/wire"
)

// lines returns n different lines.
func lines(n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprintf("line %d of what was pasted", i))
	}
	return lines
}

// paste has a person type lines faster than anything can be sent.
func (n *node) paste(to, mode string, lines []string) {
	for _, line := range lines {
		n.core.Do(n.l.now, chat.Command{Say: true, Text: line, Chat: to, Mode: mode})
	}
}

// messagePackets returns how many packets of messages a node got; of the four
// sizes, theirs are the large ones here.
func (n *node) messagePackets() (count int) {
	for _, p := range n.packets {
		if len(p) > 600 {
			count++
		}
	}
	return count
}

// What waits at the same moment shares packets, and packets a signature; each
// message is stored, shown and confirmed by itself.
func TestPasteIsPacked(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.pass(time.Second)
	l.clear()
	want := lines(1000)
	ann.paste("#lab", "reliable", want)
	l.pass(2 * time.Second)
	for _, name := range []string{"bob", "cat"} {
		checkTexts(t, name+" sees", l.node(name).texts("#lab", "ann"), want)
	}
	if n := bob.messagePackets(); n > 50 {
		t.Errorf("1,000 short lines take %d packets", n)
	}
	bursts := map[room.Burst]bool{}
	for _, p := range bob.packets {
		if o, err := bob.core.Keys("#lab").Current().Open(p); err == nil {
			if b, ok := o.Burst(); ok {
				bursts[b] = true
			}
		}
	}
	if n := len(bursts); n == 0 || n > 12 {
		t.Errorf("1,000 short lines are signed in %d bursts", n)
	}
	if n := len(shown[chat.Sent](ann)); n != 1000 {
		t.Errorf("%d of 1,000 are sent", n)
	}
	if n := len(shown[chat.Receipt](ann)); n != 2000 {
		t.Errorf("%d of 2,000 receipts", n)
	}
	// Who missed them all gets them from the author's store, packs and all.
	l.fate = func(from, to *node, _ []byte) []time.Duration { return nil }
	want = lines(200)
	ann.paste("#lab", "reliable", want)
	l.settle()
	l.fate = nil
	l.clear()
	ann.start()
	for _, n := range []string{"bob", "cat"} {
		l.link(ann, l.node(n))
	}
	l.pass(20 * time.Second)
	checkTexts(t, "bob sees after ann's restart", bob.texts("#lab", "ann"), want)
	// And after a restart of his own nothing is shown again.
	l.clear()
	bob.start()
	l.link(ann, bob)
	l.pass(20 * time.Second)
	checkTexts(t, "bob sees after his restart", bob.texts("#lab", "ann"), nil)
}

// Who says more than can be sent is told once that it waits and once that it is
// out, commands are held back meanwhile, and nothing is lost.
func TestBotIsSlowed(t *testing.T) {
	l := newLAN(t, "ann", "bob").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	// bob stops reading, but is there.
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if to == bob {
			return nil
		}
		return []time.Duration{0}
	}
	l.clear()
	said := 0
	for range 200_000 {
		if ann.core.Full() {
			break
		}
		ann.core.Do(l.now, chat.Command{Say: true, Text: fmt.Sprint(said), Chat: "#lab"})
		said++
		if said%100 == 0 {
			l.settle()
		}
	}
	if !ann.core.Full() {
		t.Fatalf("%d messages, and more are taken", said)
	}
	if e := shown[chat.Error](ann); len(e) > 0 {
		t.Errorf("errors: %+v", e)
	}
	l.fate = nil
	l.pass(30 * time.Second)
	if ann.core.Full() {
		t.Error("still full when bob reads again")
	}
	if n := len(shown[chat.Sent](ann)); n != said {
		t.Errorf("%d of %d are sent", n, said)
	}
	got := bob.texts("#lab", "ann")
	if len(got) != said {
		t.Fatalf("bob sees %d of %d", len(got), said)
	}
	for i, text := range got {
		if text != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, text)
		}
	}
	codes := map[string]int{}
	for _, n := range shown[chat.Notice](ann) {
		codes[n.Code]++
	}
	if codes["slowed"] != 1 || codes["sent_all"] != 1 {
		t.Errorf("notices: %v", codes)
	}
}

// One who is there and never answers holds up the others for 2 s, not longer.
func TestSilentMemberHoldsNobodyUp(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.pass(time.Second)
	l.clear()
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if to.name == "cat" || from.name == "cat" {
			return nil
		}
		return []time.Duration{0}
	}
	const count = 60_000
	for said := 0; said < count; {
		if ann.core.Full() {
			l.pass(20 * time.Millisecond)
			if l.now.Sub(start) > time.Minute {
				t.Fatalf("%d messages in a minute", said)
			}
			continue
		}
		ann.core.Do(l.now, chat.Command{Say: true, Text: fmt.Sprint(said), Chat: "#lab"})
		if said++; said%50 == 0 {
			l.settle()
		}
	}
	l.pass(5 * time.Second)
	if n := len(bob.texts("#lab", "ann")); n != count {
		t.Errorf("bob sees %d of %d", n, count)
	}
}

// "At most 20 acknowledgement packets a second per room whatever its size".
func TestAcksDoNotImplode(t *testing.T) {
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("p%c%c", 'a'+i/26, 'a'+i%26))
	}
	l := newLAN(t, names...).room("#lab")
	l.pass(10 * time.Second)
	l.clear()
	first := l.nodes[0]
	const seconds = 4
	for range seconds * 10 {
		first.say("#lab", "reliable", "hello, this is a line as people write them")
		l.pass(100 * time.Millisecond)
	}
	// What the first hears besides acknowledgements: beacons, about one in 5 s of each.
	heard := len(first.packets) - seconds*10 - 9*seconds*10
	if most := seconds*20*5/4 + len(names)*seconds/3; heard > most {
		t.Errorf("the author hears about %d packets in %d s, want at most %d", heard, seconds, most)
	}
	l.pass(5 * time.Second)
	if n := len(shown[chat.Receipt](first)); n != 19*seconds*10 {
		t.Errorf("%d receipts, want %d", n, 19*seconds*10)
	}
}

// Fast messages that do not come are counted, quietly, and not repaired; too
// many of one person are refused to it, and dropped by others.
func TestFastLossIsCounted(t *testing.T) {
	l := newLAN(t, "ann", "bob").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	ann.say("#lab", "fast", "one")
	l.pass(2 * time.Second)
	l.clear()
	lost := 0
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if to == bob && lost < 2 {
			lost++
			return nil
		}
		return []time.Duration{0}
	}
	for _, text := range []string{"two", "three", "four"} {
		ann.say("#lab", "fast", text)
	}
	l.pass(2 * time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"four"})
	if g := shown[chat.Gap](bob); len(g) != 1 || g[0] != (chat.Gap{Chat: "#lab", From: "ann", Missing: 2, Mode: "fast"}) {
		t.Errorf("gaps: %+v", g)
	}
	// The last one is missed thanks to the beacon.
	l.clear()
	lost = 1
	ann.say("#lab", "fast", "five")
	l.pass(20 * time.Second)
	if g := shown[chat.Gap](bob); len(g) != 1 || g[0].Missing != 1 {
		t.Errorf("gaps: %+v", g)
	}
	l.clear()
	ann.paste("#lab", "fast", lines(2500))
	l.settle()
	refused := 0
	for _, e := range shown[chat.Error](ann) {
		if e.Code == "rate_limited" {
			refused++
		}
	}
	if got := len(bob.texts("#lab", "ann")); got+refused != 2500 || refused < 400 {
		t.Errorf("bob sees %d, %d are refused", got, refused)
	}
}

// A Reader drops what came before without checking its signature, and the core
// judges again what may have changed since the Reader was made.
func TestReader(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	l.pass(time.Second)
	l.clear()
	cat.say("#lab", "fast", "fast")
	cat.say("#lab", "reliable", "reliable")
	l.pass(10 * time.Second) // and a beacon
	from := netip.MustParseAddrPort("10.0.0.9:4748")
	old := bob.core.Reader()
	for _, p := range bob.packets {
		before := bob.core.Stats()
		bob.core.HandleRead(l.now, old.Read(l.now, from, p))
		after := bob.core.Stats()
		if after == before && len(p) < wire.MaxPacket {
			// Only bob's own packets are dropped without a count.
			if _, ok := ann.core.Reader().Read(l.now, from, p).From(); !ok {
				continue
			}
			t.Errorf("a packet of %d bytes was taken twice", len(p))
		}
	}
	if texts := bob.texts("#lab", "cat"); len(texts) != 2 {
		t.Errorf("bob sees %q", texts)
	}

	// What waits for one that is missing came, too.
	l.clear()
	l.fate = func(from, to *node, p []byte) []time.Duration {
		if from == cat && to == bob {
			return nil
		}
		return []time.Duration{0}
	}
	cat.say("#lab", "reliable", "missing")
	l.fate = nil
	cat.say("#lab", "reliable", "waits")
	packets := slices.Clone(bob.packets)
	reader := bob.core.Reader()
	for _, p := range packets {
		if device, ok := reader.Read(l.now, from, p).From(); ok && device == cat.token.Device {
			t.Error("the signature of what waits was checked again")
		}
	}
	l.pass(10 * time.Second)
	if got := bob.texts("#lab", "cat"); len(packets) == 0 || !slices.Equal(got, []string{"missing", "waits"}) {
		t.Errorf("bob sees %q, %d packets", got, len(packets))
	}

	// cat is kicked while a packet of hers is between a reader and the core.
	l.clear()
	var late []byte
	l.fate = func(from, to *node, p []byte) []time.Duration {
		if from == cat && to == bob {
			late = p
			return nil
		}
		return []time.Duration{0}
	}
	cat.say("#lab", "fast", "late")
	l.fate = nil
	read := bob.core.Reader().Read(l.now, from, late)
	if device, ok := read.From(); !ok || device != cat.token.Device {
		t.Fatal("the packet does not open")
	}
	ann.do("/kick cat")
	before := bob.core.Stats().Forbidden
	bob.core.HandleRead(l.now, read)
	l.settle()
	if len(bob.texts("#lab", "cat")) > 0 || bob.core.Stats().Forbidden != before+1 {
		t.Error("a packet of who was kicked is taken")
	}
}

// /mode alone shows what the network does to a chat.
func TestModeTells(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.pass(time.Second)
	i := 0
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if i++; to == bob && i%5 == 0 {
			return nil
		}
		return []time.Duration{2 * time.Millisecond}
	}
	for i := range 200 {
		ann.say("#lab", "reliable", fmt.Sprint("reliable ", i))
		ann.say("#lab", "fast", fmt.Sprint("fast ", i))
		l.pass(5 * time.Millisecond)
	}
	l.fate = nil
	l.pass(5 * time.Second)
	report := func(n *node) map[string]any {
		t.Helper()
		l.clear()
		n.core.Do(l.now, chat.Command{Line: "/mode", Chat: "#lab", Ref: "m"})
		l.settle()
		told := shown[chat.Notice](n)
		if len(told) != 1 || told[0].Code != "mode" || told[0].Ref != "m" {
			t.Fatalf("told %+v", told)
		}
		b, err := json.Marshal(told[0].Data)
		var data map[string]any
		if err == nil {
			err = json.Unmarshal(b, &data)
		}
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	got := report(bob)
	if got["chat"] != "#lab" || got["mode"] != "reliable" || got["received"].(float64) != 200 {
		t.Errorf("bob is told %v", got)
	}
	if v := got["loss"].(float64); v < 5 || v > 40 {
		t.Errorf("a loss of %v %%", v)
	}
	if v := got["rtt_ms"].(float64); v < 3 || v > 10 {
		t.Errorf("a round trip of %v ms, when each way takes 2", v)
	}
	if got["repairs"].(float64) < 10 || got["fast_lost"].(float64) < 10 {
		t.Errorf("bob is told %v", got)
	}
	got = report(ann)
	if got["resent"].(float64) < 10 || got["loss_out"].(float64) <= 0 {
		t.Errorf("ann is told %v", got)
	}
}

// Who does not hear multicast hears the room over links: reliable messages on
// the stream, fast ones as datagrams, and nothing twice when multicast is back.
func TestMirror(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.pass(time.Second)
	l.clear()
	pushed, deaf := 0, true
	l.pushed = func(from, to *node, p chat.Push) bool {
		if to == bob && p.Type == wire.FramePacket {
			pushed++
		}
		return true
	}
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if deaf && to == bob {
			return nil
		}
		return []time.Duration{0}
	}
	mirror := wire.Mirror{Seconds: 15}
	ann.core.HandleFrame(l.now, bob.token.Device, wire.FrameMirror, mirror.Append(nil))
	ann.say("#lab", "fast", "fast")
	if pushed > 0 {
		t.Error("a fast message went on the stream")
	}
	ann.say("#lab", "reliable", "reliable")
	if pushed == 0 {
		t.Error("a reliable message did not go on the stream")
	}
	l.pass(time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"fast", "reliable"})
	deaf = false // and the mirror is still open
	ann.say("#lab", "fast", "fast again")
	ann.say("#lab", "reliable", "reliable again")
	l.pass(20 * time.Second)
	pushed = 0
	ann.say("#lab", "reliable", "without a mirror")
	l.pass(time.Second)
	checkTexts(t, "bob sees", bob.texts("#lab", "ann"), []string{"fast", "reliable", "fast again", "reliable again", "without a mirror"})
	if pushed > 0 {
		t.Error("the mirror does not close")
	}
}
