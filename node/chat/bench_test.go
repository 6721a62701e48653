package chat_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"lanchat/node/chat"
)

// What a listener spends on one of many messages of 200 bytes, from the packet
// to the event, and what their author does from the command to the packet.
func BenchmarkRoom(b *testing.B) {
	l := newLAN(b, "ann", "bob").room("#lab")
	ann, bob := l.node("ann"), l.node("bob")
	l.pass(time.Second)
	var packets [][]byte
	l.fate = func(from, to *node, p []byte) []time.Duration { return nil }
	said := 0
	say := func(n int) { // and let the window move
		for range n {
			ann.core.Do(l.now, chat.Command{Say: true, Text: fmt.Sprintf("%-200d", said), Chat: "#lab", Mode: "reliable"})
			said++
		}
		for {
			w := ann.core.Take()
			for _, s := range w.Sends {
				if m, ok := s.(chat.Multicast); ok {
					packets = append(packets, m.Packet)
				}
			}
			if ann.core.Waiting("#lab") == 0 {
				return
			}
			l.now = l.now.Add(time.Millisecond)
			ann.core.Advance(l.now)
		}
	}
	from := netip.MustParseAddrPort("10.0.0.9:4748")
	const batch = 1024
	b.Run("listener", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; n < b.N; n += batch {
			b.StopTimer()
			packets = nil
			say(batch)
			b.StartTimer()
			for i, p := range packets {
				bob.core.HandleRead(l.now, bob.core.Reader().Read(l.now, from, p))
				if i%16 == 15 {
					bob.core.Take()
				}
			}
			bob.core.Take()
			b.StopTimer()
			l.now = l.now.Add(time.Second)
			bob.core.Advance(l.now)
			for _, s := range bob.core.Take().Sends {
				if m, ok := s.(chat.Multicast); ok {
					ann.core.HandlePacket(l.now, m.Packet)
				}
			}
			b.StartTimer()
		}
	})
	b.Run("author", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; n < b.N; n += batch {
			packets = nil
			say(batch)
			b.StopTimer()
			for _, p := range packets {
				bob.core.HandlePacket(l.now, p)
			}
			l.now = l.now.Add(time.Second)
			bob.core.Advance(l.now)
			for _, s := range bob.core.Take().Sends {
				if m, ok := s.(chat.Multicast); ok {
					ann.core.HandlePacket(l.now, m.Packet)
				}
			}
			ann.core.Take()
			b.StartTimer()
		}
	})
}
