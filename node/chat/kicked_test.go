package chat_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lanchat/node/chat"
	"lanchat/node/room"
	"lanchat/node/store"
	"lanchat/wire"
)

// A thief is a modified node: it was a member like others, and when it is
// removed it forgets nothing, records all that goes by, and asks everybody for
// everything.
type thief struct {
	*node
	room    wire.RoomID
	log     *room.Log // all it ever saw
	secrets []room.Secret
	heard   [][]byte // packets and frames, whoever they were for
	asked   int
	served  int // keys
}

// newThief has a member of #lab be one from now on. Its own core goes on as
// well: what that does is what is expected of a person who is kicked.
func newThief(n *node) *thief {
	th := &thief{node: n, room: n.core.RoomID("#lab")}
	th.log, _ = room.Load(testRealm, n.core.Log("#lab").Since(0), nil)
	l := n.l
	fate := l.fate
	l.fate = func(from, to *node, packet []byte) []time.Duration {
		if to == n { // it hears what nobody else of its part of the LAN does
			th.heard = append(th.heard, bytes.Clone(packet))
		}
		return fate(from, to, packet)
	}
	l.pushed = func(from, to *node, p chat.Push) bool {
		if to == n {
			th.take(p.Type, p.Body)
		}
		return true
	}
	n.told = func(r chat.Record) {
		if s, ok := r.(chat.SaveSecret); ok {
			th.secrets = append(th.secrets, s.Secret)
		}
	}
	state, err := n.store.Load()
	if err != nil {
		l.t.Fatalf("%v", err)
	}
	for _, s := range state.Secrets {
		th.secrets = append(th.secrets, s.Secret)
	}
	return th
}

// take keeps what somebody said over a link.
func (th *thief) take(typ uint8, body []byte) {
	switch typ {
	case wire.FrameKey:
		if k, err := wire.ParseKey(body); err == nil {
			th.secrets = append(th.secrets, k.Secret)
			th.served++
		}
	case wire.FrameEntry:
		if e, err := wire.ParseEntry(body); err == nil {
			th.log.Add(e)
		}
	default:
		th.heard = append(th.heard, bytes.Clone(body))
	}
}

// ask puts every question there is to a peer it has a link to.
func (th *thief) ask(peer *node, epochs []wire.Hash) {
	l := th.l
	question := func(typ uint8, body []byte) {
		th.asked++
		id := uint64(1<<40 + th.asked)
		peer.core.HandleQuestion(l.now, th.token.Device, id, typ, body)
		w := peer.core.Take()
		for _, s := range w.Sends {
			if a, ok := s.(chat.Answer); ok && a.Question == id {
				for _, f := range a.Frames {
					th.take(f.Type, f.Body)
				}
			}
		}
		peer.perform(w)
	}
	for _, e := range epochs {
		q := wire.KeyRequest{Room: th.room, Entry: e}
		question(wire.FrameKeyOf, q.Append(nil))
	}
	enter, all := wire.Enter{Room: th.room}, wire.LogRange{Room: th.room}
	question(wire.FrameEnter, enter.Append(nil))
	question(wire.FrameLog, all.Append(nil))
	question(wire.FrameRooms, nil)
	mirror := wire.Mirror{Seconds: 30}
	peer.core.HandleFrame(l.now, th.token.Device, wire.FrameMirror, mirror.Append(nil))
	// Repair, in every epoch it has the key of.
	for _, epoch := range th.epochs(th.log) {
		slot, ok := epoch.Info().Slot(th.token.Key)
		if !ok {
			continue
		}
		for i := range epoch.Info().Slots {
			body := wire.AppendBody(nil, &wire.RepairRequest{Slot: uint16(i), Ranges: []wire.Range{{First: 1, Last: 1000}}})
			th.asked++
			packet, _ := epoch.Seal(th.key, &wire.Plain{Slot: slot, Seq: uint64(1<<50 + th.asked), Kind: wire.KindRepairRequest, Body: body}, [wire.NonceSize]byte{byte(th.asked), byte(th.asked >> 8)})
			peer.core.HandlePacket(l.now, packet)
		}
	}
}

// epochs returns every epoch of a log that the secrets open, with those that
// follow from them by a step.
func (th *thief) epochs(log *room.Log) (epochs []*room.Epoch) {
	type held struct {
		entry  wire.Hash
		secret room.Secret
	}
	var known []held
	for _, e := range log.Since(0) {
		info := log.EpochInfo(e.Hash())
		if info == nil {
			continue
		}
		try := slices.Clone(th.secrets)
		for _, h := range known {
			try = append(try, room.Step(log.Room(), h.entry, h.secret, e.Args))
		}
		for _, s := range try {
			if epoch, err := room.NewEpoch(testRealm, log.Room(), info, s); err == nil {
				known = append(known, held{e.Hash(), s})
				epochs = append(epochs, epoch)
				break
			}
		}
	}
	return epochs
}

// reads returns every text the thief can make out, with a log that tells it
// more than it was ever told.
func (th *thief) reads(logs ...*room.Log) (texts []string) {
	var epochs []*room.Epoch
	for _, log := range append(logs, th.log) {
		if log != nil {
			epochs = append(epochs, th.epochs(log)...)
		}
	}
	for _, packet := range th.heard {
		texts = append(texts, string(packet)) // in clear
		for _, e := range epochs {
			if o, err := e.Open(packet); err == nil && o.Kind != wire.KindLogEntry {
				texts = append(texts, string(o.Body))
			}
		}
	}
	return texts
}

// "Kick, then the kicked node (modified binary) records and asks every peer for
// keys, with fresh and stale peers: decrypts nothing sent after the sender
// applied the kick", with the LAN in one piece or not.
func TestKickedNodeReadsNothing(t *testing.T) {
	reads := 0
	rapid.Check(t, func(t *rapid.T) {
		l := newLAN(t, "ann", "bob", "cat", "mal", "eve")
		var stores []*store.Store
		defer func() {
			for _, s := range stores {
				s.Close()
			}
		}()
		for _, n := range l.nodes {
			st, err := store.OpenMemory()
			if err != nil {
				t.Fatal(err)
			}
			stores = append(stores, st)
			n.store = st
			n.start()
		}
		for i, a := range l.nodes {
			for _, b := range l.nodes[:i] {
				l.link(a, b)
			}
		}
		var apart *node // cut off from ann; mal hears both sides
		nonces := map[string][]byte{}
		l.fate = func(from, to *node, packet []byte) []time.Duration {
			// No two packets of a run share a nonce; repair sends the same
			// packet again.
			nonce := string(packet[wire.PacketHeaderSize-wire.NonceSize : wire.PacketHeaderSize])
			if before, ok := nonces[nonce]; ok && !bytes.Equal(before, packet) {
				t.Fatalf("%s sends a second packet with the nonce %x", from.name, nonce)
			}
			nonces[nonce] = bytes.Clone(packet)
			if to != from && apart != nil && (from == apart || to == apart) && from.name != "mal" && to.name != "mal" {
				return nil
			}
			return []time.Duration{time.Millisecond}
		}
		ann, mal := l.node("ann"), l.node("mal")
		ann.do("/create #lab")
		for _, n := range l.nodes[1:4] {
			n.do("/join #lab")
			l.pass(10 * time.Millisecond)
		}
		th := newThief(mal)
		out := func(n *node) bool { // n has applied the removal
			log := n.core.Log("#lab")
			return log != nil && log.State().Member(mal.token.Account) == nil
		}
		honest := []*node{ann, l.node("bob"), l.node("cat"), l.node("eve")}
		said := 0
		for range rapid.IntRange(8, 30).Draw(t, "steps") {
			n := rapid.SampledFrom(honest).Draw(t, "who")
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2:
				if n.core.Log("#lab") == nil {
					n.do("/join #lab")
					continue
				}
				said++
				word := "open"
				if out(n) {
					word = "shut"
				}
				n.say("#lab", rapid.SampledFrom([]string{"reliable", "fast"}).Draw(t, "mode"), fmt.Sprint(word, " ", said))
			case 3, 4:
				if !out(ann) {
					ann.do(rapid.SampledFrom([]string{"/kick mal", "/ban mal"}).Draw(t, "removal"))
				}
			case 5:
				switch {
				case apart != nil:
					for _, o := range l.nodes {
						if o != apart && !o.links[apart] {
							l.link(o, apart)
						}
					}
					apart = nil
				case n != ann:
					apart = n
					for _, o := range l.nodes {
						if o != n && o != mal {
							l.unlink(o, n)
						}
					}
				}
			case 6, 7:
				l.pass(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond)
			default:
				// It knows all entries there are, from where ever.
				var epochs []wire.Hash
				for _, o := range honest {
					if log := o.core.Log("#lab"); log != nil {
						for _, e := range log.Since(0) {
							epochs = append(epochs, e.Hash())
						}
					}
				}
				for _, o := range honest {
					if mal.links[o] {
						th.ask(o, epochs)
					}
				}
			}
			l.settle()
		}
		l.pass(3 * time.Second)
		var logs []*room.Log
		for _, o := range honest {
			logs = append(logs, o.core.Log("#lab"))
		}
		for _, text := range th.reads(logs...) {
			if strings.Contains(text, "open ") {
				reads++
			}
			if i := strings.Index(text, "shut "); i >= 0 {
				t.Fatalf("mal reads %q", text[i:min(i+8, len(text))])
			}
		}
	})
	if reads == 0 {
		t.Error("the thief reads nothing at all, not even what it may: this test would see no leak")
	}
}

// A modified node that takes questions and answers none keeps nobody from
// hearing of a removal.
func TestSilentPeerHidesNothing(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "mal").room("#lab")
	ann, bob, cat, mal := l.nodes[0], l.nodes[1], l.nodes[2], l.nodes[3]
	apart := true
	l.fate = func(from, to *node, _ []byte) []time.Duration {
		if apart && (to == cat || from == cat) {
			return nil
		}
		return []time.Duration{time.Millisecond}
	}
	l.unlink(cat, ann)
	l.unlink(cat, bob)
	ann.do("/kick mal")
	l.pass(time.Second)
	l.mute = mal
	apart = false
	ann.say("#lab", "fast", "with a key that cat does not know") // and asks mal about, the only one there
	l.pass(10 * time.Millisecond)
	l.link(cat, ann)
	l.link(cat, bob)
	l.pass(time.Second)
	if cat.core.Head("#lab") != ann.core.Head("#lab") || !cat.core.CanSend("#lab") {
		t.Error("cat has not heard of the kick, or has not the key, a second after the heal")
	}
}
