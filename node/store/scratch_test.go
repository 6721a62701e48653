package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

func TestScratch(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t0 := time.Now()
	const N = 50000
	raw := make([]byte, 330)
	for i := 0; i < N; i += 100 {
		var recs []chat.Record
		for j := i; j < i+100; j++ {
			m := chat.SaveMessage{Chat: chat.ChatID{Room: wire.RoomID{byte(j%7 + 1)}}, Device: wire.DeviceID{byte(j % 13)}, From: "alice", Number: uint64(j), At: t0, Clock: wire.ClockAt(t0.Add(-time.Hour)) + wire.Clock(j)<<8,
				Text: fmt.Sprintf("message %d: a rather usual text of about two hundred bytes, as people who have something to say write it to each other over the day, when they have the time to do so, which is seldom, %d", j, j), Raw: raw}
			sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(j)))
			copy(m.ID[:], sum[:])
			recs = append(recs, m)
		}
		if err := s.Apply(recs); err != nil {
			t.Fatal(err)
		}
	}
	d := time.Since(t0)
	t.Logf("insert %v, %v each", d, d/N)
	p := func(name string, f func() (int, error)) {
		b := time.Now()
		n, err := f()
		t.Logf("%s: %v %d %v", name, time.Since(b), n, err)
	}
	p("search none", func() (int, error) { m, err := s.Search("xyzzy", 20); return len(m), err })
	p("search many", func() (int, error) { m, err := s.Search("usual", 20); return len(m), err })
	p("search fold", func() (int, error) { m, err := s.Search("ÜSUAL", 20); return len(m), err })
	p("search one", func() (int, error) { m, err := s.Search("message 777:", 20); return len(m), err })
	p("history", func() (int, error) {
		m, err := s.History(chat.ChatID{Room: wire.RoomID{3}}, chat.MessageID{}, 100)
		return len(m), err
	})
	p("unread", func() (int, error) { m, err := s.Unread(); return len(m), err })
	p("markread", func() (int, error) {
		err := s.MarkRead(chat.ChatID{Room: wire.RoomID{3}}, chat.MessageID{})
		return 0, err
	})
	p("quick", func() (int, error) { return 0, s.check() })
	p("close", func() (int, error) { return 0, s.Close() })
	fi, _ := os.Stat(dir + "/node.db")
	t.Log(fi.Size()>>20, "MB")
	p("open", func() (int, error) { s, err = Open(dir); return 0, err })
	p("quick message", func() (int, error) {
		var l string
		err := s.db.QueryRow("PRAGMA quick_check(message)").Scan(&l)
		return 0, err
	})
	p("quick room", func() (int, error) {
		var l string
		err := s.db.QueryRow("PRAGMA quick_check(room)").Scan(&l)
		return 0, err
	})
	s.Close()
}
