package screen

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"lanchat/node/chat"
)

// A second in which a thousand messages come, gathered for 40 ms and drawn
// each time, as node/ui does it; ns/op is what of that second it takes.
func BenchmarkFlood(b *testing.B) {
	d := newDesk(b, 120, 40)
	d.room("#lab", "bob")
	n := 0
	for b.Loop() {
		for range 25 {
			var items []Item
			for range 40 {
				n++
				items = append(items, Item{d.now, chat.Message{ID: fmt.Sprintf("%016x", n), Chat: "#lab", From: "bob", Mode: "reliable",
					Text: fmt.Sprint("message ", n, " with **bold** words, and a link to http://wiki.lan/page of some length")}})
			}
			d.Show(d.now, items, 0)
			d.take()
			d.View()
		}
	}
}

// A key press and the picture after it, among many messages.
func BenchmarkKey(b *testing.B) {
	d := full(b, 1)
	for b.Loop() {
		d.press("x", "backspace")
		d.View()
	}
}

// full returns a screen of as many chats, with as much in each as is kept.
func full(t testing.TB, chats int) *desk {
	d := newDesk(t, 120, 40)
	for c := range chats {
		name := fmt.Sprint("#room", c)
		d.room(name, "bob")
		for i := range maxRead {
			d.show(chat.Message{ID: fmt.Sprintf("%016x", c<<32|i), Chat: name, From: "bob", Mode: "reliable",
				Text: fmt.Sprint("message ", i, " of two hundred bytes: ", "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 012345")})
		}
		d.View()
		d.press("alt+home")
	}
	return d
}

// "Memory with 20 chats under 60 MB": what the screen holds of it, with as much
// in each chat as it keeps and everything read once.
func TestMemory(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const part = 4 // a quarter of them will tell
	d := full(t, 20/part)
	d.pass(time.Minute)
	if got := part * (int64(heap()) - int64(before)); got > 25<<20 {
		t.Errorf("20 full chats take %d MiB", got>>20)
	} else {
		t.Logf("20 full chats take %.1f MiB", float64(got)/(1<<20))
	}
	runtime.KeepAlive(d)
}
