package chat_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
	"lanchat/wire/clean"
)

// Whatever comes as a room packet, nothing breaks and the chat goes on.
func FuzzHandlePacket(f *testing.F) {
	l := newLAN(f, "ann", "bob").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.clear()
	ann.say("#lab", "reliable", "hello")
	ann.say("#lab", "fast", "hello")
	l.pass(10 * time.Second)
	for _, p := range bob.packets {
		f.Add(p)
		f.Add(p[:len(p)/2])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, packet []byte) {
		l.t = t
		l.clear()
		bob.core.HandlePacket(l.now, slices.Clone(packet))
		l.pass(time.Second)
		if m := shown[chat.Message](bob); len(m) != 0 { // nobody said anything new
			t.Errorf("shown: %+v", m)
		}
		alive(t, l)
	})
}

// alive checks that what ann says comes to bob.
func alive(t *testing.T, l *lan) {
	t.Helper()
	ann, bob := l.node("ann"), l.node("bob")
	l.clear()
	ann.say("#lab", "fast", "still there?")
	ann.say("@bob", "reliable", "still there?")
	checkTexts(t, "bob sees", slices.Concat(bob.texts("#lab", "ann"), bob.texts("@ann", "ann")), []string{"still there?", "still there?"})
}

// Whatever a member seals, nothing breaks. cat's word still comes.
func FuzzMemberPacket(f *testing.F) {
	for _, m := range []wire.Body{
		&wire.Message{Number: 3, Text: "hi"}, &wire.Message{Number: 1 << 60, Text: "hi"}, &wire.Leave{Reliable: 3},
		&wire.Beacon{LogSeq: 9, Head: wire.Hash{1}, Reliable: 1 << 63}, &wire.Acks{Acks: []wire.Ack{{Slot: 1, Number: 77}}},
		&wire.RepairRequest{Slot: 1, Ranges: []wire.Range{{First: 1, Last: 1 << 62}}},
		&wire.Pack{Messages: []wire.Message{{Number: 4, Text: "a"}, {Number: 5, Text: "b"}}}, &wire.LogEntry{Entry: []byte("no entry")},
	} {
		for _, reliable := range []bool{false, true} {
			f.Add(byte(m.Kind()), reliable, wire.AppendBody(nil, m))
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, reliable bool, body []byte) {
		l := newLAN(t, "ann", "bob", "cat").room("#lab")
		if packet, ok := seal(l.node("cat").core, wire.Kind(kind), reliable, body); ok {
			l.node("bob").core.HandlePacket(l.now, packet)
		}
		l.pass(15 * time.Second)
		alive(t, l)
	})
}

// seal seals what can be sealed: wire panics on the rest.
func seal(c *chat.Core, kind wire.Kind, reliable bool, body []byte) (packet []byte, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return c.Seal("#lab", kind, reliable, body), true
}

// Whatever comes on a link, as a frame, a datagram, a question or an answer,
// nothing breaks.
func FuzzHandleFrame(f *testing.F) {
	id := newLAN(f, "ann", "bob").room("#lab").node("ann").core.RoomID("#lab")
	direct := wire.DirectMessage{Clock: 1, Message: wire.Message{Number: 9, Text: "hi"}}
	ack, key, base := wire.DirectAck{Number: 9}, wire.Key{Room: id, Entry: wire.Hash{1}}, wire.Base{Room: id, Number: 1 << 40}
	join, enter, part, log, keyOf := wire.Join{Room: id}, wire.Enter{Room: id}, wire.Part{Room: id, Packet: []byte("x")}, wire.LogRange{Room: id}, wire.KeyRequest{Room: id}
	info := wire.RoomInfo{Room: id, Members: 2, Name: "#lab"}
	other := wire.RoomInfo{Room: wire.RoomID{1}, Members: 2, Name: "#other", Topic: "t"}
	for _, s := range []struct {
		typ  byte
		body []byte
	}{
		{wire.FrameDirect, direct.Append(nil)}, {wire.FrameDirectAck, ack.Append(nil)}, {wire.FrameKey, key.Append(nil)}, {wire.FrameBase, base.Append(nil)},
		{wire.FrameJoin, join.Append(nil)}, {wire.FrameEnter, enter.Append(nil)}, {wire.FramePart, part.Append(nil)}, {wire.FrameLog, log.Append(nil)}, {wire.FrameKeyOf, keyOf.Append(nil)},
		{wire.FrameRoomInfo, info.Append(nil)}, {wire.FrameRoomInfo, other.Append(nil)}, {wire.FrameRooms, nil}, {wire.FrameEntry, []byte("no entry")},
	} {
		for way := range byte(4) {
			f.Add(way, s.typ, s.body)
		}
	}
	f.Fuzz(func(t *testing.T, way, typ byte, body []byte) {
		l := newLAN(t, "ann", "bob", "cat").room("#lab")
		bob, cat := l.node("bob"), l.node("cat").token.Device
		switch way % 4 {
		case 0:
			bob.core.HandleFrame(l.now, cat, typ, slices.Clone(body))
		case 1:
			bob.core.HandleDatagram(l.now, cat, slices.Clone(body))
		case 2:
			bob.core.HandleQuestion(l.now, cat, 1, typ, slices.Clone(body))
			answers := 0
			w := bob.core.Take()
			for _, s := range w.Sends {
				if a, ok := s.(chat.Answer); ok && a.Question == 1 {
					answers++
				}
			}
			if answers != 1 {
				t.Errorf("%d answers to a question", answers)
			}
			bob.perform(w)
		case 3: // as the answer to everything bob asks
			bob.core.Do(l.now, chat.Command{Line: "/join #other"})
			for range 20 {
				w := bob.core.Take()
				for _, s := range w.Sends {
					if q, ok := s.(chat.Ask); ok {
						bob.core.HandleAnswer(l.now, q.Question, []chat.Frame{{Type: typ, Body: slices.Clone(body)}}, nil)
					}
				}
			}
		}
		l.pass(15 * time.Second)
		alive(t, l)
	})
}

// Whatever stands behind a command, nothing breaks, and no control character
// comes back: what is too long, no number, nobody, or nothing once it is clean.
func TestCommandsTakeAnything(t *testing.T) {
	long := strings.Repeat("x", 3000)
	var args []string
	for _, first := range []string{"", "#lab ", "bob ", "1 ", "0123456789abcdef "} {
		for _, rest := range []string{"", long, "#" + long, "@" + long, strings.Repeat("ü", 1500), "-1", "0", "99999999999999999999d", "0123456789abcdef01", "7d", "\x01\x02", "\u202e", "--private", "🤦🏼‍♂️"} {
			args = append(args, first+rest)
		}
	}
	for _, usage := range append(chat.Usages(), "") {
		name, _, _ := strings.Cut(usage, " ")
		if name == "quit" {
			continue
		}
		l := newLAN(t, "ann", "bob").stored(t).room("#lab")
		ann := l.node("ann")
		ann.say("#lab", "reliable", "hello")
		ann.say("@bob", "reliable", "hello")
		l.pass(time.Second)
		for _, in := range []string{"#lab", "@bob", ""} {
			for _, a := range args {
				ann.core.Do(l.now, chat.Command{Line: "/" + name + " " + a, Chat: in})
				l.pass(time.Millisecond)
			}
		}
		l.pass(5 * time.Second)
		wantNoControls(t, l)
	}
}

// Whatever is typed, nothing breaks, and no control character comes back.
func FuzzDo(f *testing.F) {
	for _, line := range []string{"hi", "/help", "/join #x", "/create #x --private", "//x", "/msg ann hi", "/mute #lab 2h", "/me", "/\x1b", "/part", "/r a", "/mode fast", "/edit \x01", "/history #lab 0123456789abcdef01"} {
		f.Add(line, "#lab", "")
		f.Add(line, "@ann", "fast")
	}
	f.Fuzz(func(t *testing.T, line, inChat, mode string) {
		l := newLAN(t, "ann", "bob").stored(t).room("#lab")
		bob := l.node("bob")
		for _, say := range []bool{false, true} {
			bob.core.Do(l.now, chat.Command{Line: line, Text: line, Say: say, Chat: inChat, Mode: mode})
			w := bob.core.Take()
			if w.Quit {
				return
			}
			bob.perform(w)
			l.pass(4 * time.Second)
		}
		wantNoControls(t, l)
	})
}

// wantNoControls checks what all were shown.
func wantNoControls(t *testing.T, l *lan) {
	t.Helper()
	for _, n := range l.nodes {
		for _, e := range n.events {
			var text string
			switch e := e.(type) {
			case chat.Error:
				text = e.Text
			case chat.Notice:
				text = e.Text
			case chat.Message:
				text = e.Text
			}
			for _, r := range text {
				if clean.Forbidden(r) && r != '\n' && r != '\t' {
					t.Errorf("%s is shown %q", n.name, text)
				}
			}
		}
	}
}
