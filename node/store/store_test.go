package store

import (
	"bytes"
	"cmp"
	"database/sql"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"lanchat/node/chat"
	"lanchat/wire"
	"lanchat/wire/dbfile"
	"lanchat/wire/private"
	"lanchat/wire/realm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	t0    = time.UnixMilli(1_800_000_000_123)
	lab   = chat.ChatID{Room: wire.RoomID{1}}
	alice = chat.ChatID{Account: wire.AccountID{0xa}}
)

func newMemory(t testing.TB) *Store {
	t.Helper()
	s, err := OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a b?c%d#") // characters that a DSN would trip over
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func openAt(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustApply(t testing.TB, s *Store, records ...chat.Record) {
	t.Helper()
	if err := s.Apply(records); err != nil {
		t.Fatal(err)
	}
}

func mustLoad(t testing.TB, s *Store) chat.State {
	t.Helper()
	st, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func mustHistory(t testing.TB, s *Store, in chat.ChatID, before chat.MessageID, limit int) []chat.SaveMessage {
	t.Helper()
	m, err := s.History(in, before, limit)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func want(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

// message returns message n of a device, written n milliseconds after t0.
func message(in chat.ChatID, device byte, n uint64) chat.SaveMessage {
	m := chat.SaveMessage{Chat: in, Account: wire.AccountID{device}, Device: wire.DeviceID{device}, From: "alice", Number: n,
		Clock: wire.ClockAt(t0.Add(time.Duration(n) * time.Millisecond)), At: t0, Text: fmt.Sprintf("%d of %d", n, device)}
	binary.BigEndian.PutUint64(m.ID[:], n)
	m.ID[0] ^= device
	m.ID[1] ^= in.Room[0]
	return m
}

// texts returns what the messages say, in their order.
func texts(messages []chat.SaveMessage) []string {
	all := []string{}
	for _, m := range messages {
		all = append(all, m.Text)
	}
	return all
}

// someRecords returns a record of each kind that Load returns, with every
// field set, some to the extremes of what a number can be.
func someRecords() (chat.State, []chat.Record) {
	room, other := wire.RoomID{1}, wire.RoomID{31: 2}
	st := chat.State{
		People: []chat.SavePerson{
			{Device: wire.DeviceID{1}, Key: wire.DeviceKey{31: 1}, Account: wire.AccountID{2}, Name: "alice", NameSeq: math.MaxUint64, Seen: t0, Serial: realm.Serial{15: 3}},
			{Device: wire.DeviceID{2}, Account: wire.AccountID{2}, Name: "alice", NameSeq: 1 << 63},
		},
		Addresses: []chat.SaveAddress{ // the newest first
			{Device: wire.DeviceID{2}, Addr: netip.MustParseAddrPort("[fe80::1]:65535"), At: t0.Add(time.Hour)},
			{Device: wire.DeviceID{1}, Addr: netip.MustParseAddrPort("10.77.0.2:1"), At: t0},
		},
		Former: []chat.SaveFormer{ // by time, not by name
			{Name: "zoe", Account: wire.AccountID{2}, At: t0},
			{Name: "al", Account: wire.AccountID{2}, At: t0.Add(time.Hour)},
		},
		Settings: []chat.SaveSettings{ // direct messages of an account whose bytes a room's could begin with
			{Chat: chat.ChatID{Account: wire.AccountID{1}}, Notify: chat.NotifyNone},
			{Chat: chat.ChatID{Room: room}, Mode: chat.Fast, Notify: chat.NotifyMentions, MutedUntil: t0},
		},
		Personal: []chat.SavePersonal{{Name: "dnd", Value: "22:00-07:00"}, {Name: "set/theme", Value: "dark"}},
		Outbox: []chat.SaveOutbox{
			{Account: wire.AccountID{2}, Number: 255, ID: chat.MessageID{1}, Body: []byte("one")},
			{Account: wire.AccountID{2}, Number: 256, ID: chat.MessageID{2}, Body: []byte{0}},
			{Account: wire.AccountID{2}, Number: 1 << 63, ID: chat.MessageID{3}, Body: bytes.Repeat([]byte{0xff}, 65536)},
			{Account: wire.AccountID{3}, Number: 1, ID: chat.MessageID{4}, Body: []byte("four")},
		},
		Direct:   []chat.SaveDirect{{Account: wire.AccountID{2}, Sent: math.MaxUint64}, {Account: wire.AccountID{3}}},
		Received: []chat.SaveReceived{{Device: wire.DeviceID{1}, Number: math.MaxUint64}, {Device: wire.DeviceID{2}, Number: 1}},
		Acked:    []chat.SaveAcked{{Device: wire.DeviceID{1}, Number: math.MaxUint64}, {Device: wire.DeviceID{3}, Number: 2}},
		Rooms:    []chat.SaveRoom{{Room: other, Joined: t0}, {Room: room}},
		Numbers:  []chat.SaveNumber{{Room: other, Number: 1 << 63}, {Room: room}, {Room: wire.RoomID{9}, Number: 3}}, // the last was left
		Entries: []chat.SaveEntry{ // not in the order of their hashes, nor of their rooms
			{Room: room, Hash: wire.Hash{9}, Entry: []byte("genesis")},
			{Room: other, Hash: wire.Hash{9}, Entry: []byte("another genesis")},
			{Room: room, Hash: wire.Hash{1}, Entry: []byte("second")},
		},
		Applied: []chat.SaveApplied{{Room: other, Hash: wire.Hash{9}}, {Room: room, Hash: wire.Hash{9}}, {Room: room, Hash: wire.Hash{1}}},
		Invites: []chat.SaveInvite{
			{Room: wire.RoomID{7}, Account: wire.AccountID{2}, Invite: []byte("from somebody")},
			{Room: wire.RoomID{7}, Account: wire.AccountID{3}, Invite: []byte("for somebody")},
		},
		Partings: []chat.SaveParting{{Room: wire.RoomID{8}, Members: []wire.AccountID{{2}, {15: 1}}, Entries: [][]byte{{7}, {8, 9}}}},
		Secrets:  []chat.SaveSecret{{Room: room, Epoch: wire.Hash{8}, Secret: [32]byte{31: 7}}},
		Authors: []chat.SaveAuthor{
			{Room: other, Device: wire.DeviceID{1}, Replay: []byte{1, 2, 3}, Received: math.MaxUint64, Missing: []wire.Range{{First: 1, Last: 1}, {First: 3, Last: 1 << 63}}, Since: 1 << 63},
			{Room: room, Device: wire.DeviceID{2}, Replay: []byte{0}},
		},
	}
	var all []chat.Record
	for _, r := range st.Rooms {
		all = append(all, r)
	}
	v := reflect.ValueOf(st)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name == "Rooms" || name == "Orphans" || name == "Clock" {
			continue
		}
		for j := range v.Field(i).Len() {
			all = append(all, v.Field(i).Index(j).Interface().(chat.Record))
		}
	}
	return st, all
}

// wantAllSet fails unless each field of a slice of records is set in one: so
// that none is forgotten that chat adds.
func wantAllSet(t testing.TB, records reflect.Value) {
	t.Helper()
	typ := records.Type().Elem()
	for f := range typ.NumField() {
		set := false
		for i := range records.Len() {
			set = set || !records.Index(i).Field(f).IsZero()
		}
		if !set {
			t.Errorf("no %v here has its field %s set", typ, typ.Field(f).Name)
		}
	}
}

func TestStateRoundTrip(t *testing.T) {
	wanted, records := someRecords()
	v := reflect.ValueOf(wanted)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "Orphans" && name != "Clock" { // TestAmend, TestClock
			wantAllSet(t, v.Field(i))
		}
	}
	s := newMemory(t)
	want(t, "empty", mustLoad(t, s), chat.State{})
	mustApply(t, s, records...)
	want(t, "loaded", mustLoad(t, s), wanted)
	// Twice is the same.
	mustApply(t, s, records...)
	want(t, "applied again", mustLoad(t, s), wanted)

	dir := newDir(t)
	file := openAt(t, dir)
	mustApply(t, file, records...)
	want(t, "from the file", mustLoad(t, file), wanted)
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, "reopened", mustLoad(t, openAt(t, dir)), wanted)
}

// "It replaces what was known": the last record of a key counts.
func TestSaveReplaces(t *testing.T) {
	s := newMemory(t)
	_, records := someRecords()
	mustApply(t, s, records...)
	room := wire.RoomID{1}
	person := chat.SavePerson{Device: wire.DeviceID{1}, Key: wire.DeviceKey{5}, Account: wire.AccountID{6}, Name: "bob", NameSeq: 2, Seen: t0.Add(time.Hour), Serial: realm.Serial{4}}
	settings := chat.SaveSettings{Chat: chat.ChatID{Room: room}}
	address := chat.SaveAddress{Device: wire.DeviceID{1}, Addr: netip.MustParseAddrPort("10.77.0.9:2"), At: t0.Add(2 * time.Hour)}
	direct := chat.SaveDirect{Account: wire.AccountID{2}, Sent: 5}
	received := chat.SaveReceived{Device: wire.DeviceID{1}, Number: 6}
	rejoined := chat.SaveRoom{Room: room, Joined: t0.Add(time.Hour)}
	numbered := chat.SaveNumber{Room: room, Number: 7}
	author := chat.SaveAuthor{Room: room, Device: wire.DeviceID{2}, Replay: []byte{9}, Received: 8, Missing: []wire.Range{{First: 5, Last: 6}}, Since: 10}
	before := mustLoad(t, s)
	mustApply(t, s, person, address, settings, direct, received, rejoined, numbered, author)
	st := mustLoad(t, s)
	want(t, "person", st.People[0], person)
	want(t, "address", st.Addresses[0], address)
	want(t, "settings", st.Settings[1], settings)
	want(t, "direct", st.Direct[0], direct)
	want(t, "received", st.Received[0], received)
	want(t, "room", st.Rooms[1], rejoined)
	want(t, "number", st.Numbers[1], numbered)
	want(t, "author", st.Authors[1], author)
	want(t, "what else is kept of the room", []any{st.Entries, st.Secrets}, []any{before.Entries, before.Secrets})
}

func TestDrop(t *testing.T) {
	for _, tt := range []struct {
		name string
		drop chat.Record
		want func(st *chat.State)
	}{
		{"outbox, the first", chat.DropOutbox{Account: wire.AccountID{2}, Number: 255}, func(st *chat.State) { st.Outbox = st.Outbox[1:] }},
		{"outbox, numbers beyond 2^63", chat.DropOutbox{Account: wire.AccountID{2}, Number: 1<<63 - 1}, func(st *chat.State) { st.Outbox = st.Outbox[2:] }},
		{"outbox, all of one", chat.DropOutbox{Account: wire.AccountID{2}, Number: math.MaxUint64}, func(st *chat.State) { st.Outbox = st.Outbox[3:] }},
		{"outbox, none", chat.DropOutbox{Account: wire.AccountID{2}, Number: 254}, func(st *chat.State) {}},
		{"entry", chat.DropEntry{Room: wire.RoomID{1}, Hash: wire.Hash{9}}, func(st *chat.State) { st.Entries = st.Entries[1:] }},
		{"entry of another room", chat.DropEntry{Room: wire.RoomID{31: 2}, Hash: wire.Hash{1}}, func(st *chat.State) {}},
		{"secret", chat.DropSecret{Room: wire.RoomID{1}, Epoch: wire.Hash{8}}, func(st *chat.State) { st.Secrets = nil }},
		{"secret of another room", chat.DropSecret{Room: wire.RoomID{31: 2}, Epoch: wire.Hash{8}}, func(st *chat.State) {}},
		{"entry", chat.DropEntry{Room: wire.RoomID{1}, Hash: wire.Hash{1}}, func(st *chat.State) { st.Entries = st.Entries[:2] }},
		{"invite", chat.DropInvite{Room: wire.RoomID{7}, Account: wire.AccountID{2}}, func(st *chat.State) { st.Invites = st.Invites[1:] }},
		{"parting", chat.DropParting{Room: wire.RoomID{8}}, func(st *chat.State) { st.Partings = nil }},
		{"room", chat.DropRoom{Room: wire.RoomID{1}}, func(st *chat.State) {
			st.Rooms, st.Entries, st.Applied, st.Secrets = st.Rooms[:1], st.Entries[1:2], st.Applied[:1], nil
		}},
		{"room one is not in", chat.DropRoom{Room: wire.RoomID{7}}, func(st *chat.State) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newMemory(t)
			wanted, records := someRecords()
			mustApply(t, s, records...)
			tt.want(&wanted)
			mustApply(t, s, tt.drop)
			want(t, "state", mustLoad(t, s), wanted)
		})
	}
}

// "Its messages stay."
func TestDropRoomKeepsMessages(t *testing.T) {
	s := newMemory(t)
	mustApply(t, s, chat.SaveRoom{Room: lab.Room}, message(lab, 1, 1), chat.DropRoom{Room: lab.Room})
	want(t, "history", texts(mustHistory(t, s, lab, chat.MessageID{}, 10)), []string{"1 of 1"})
	want(t, "rooms", mustLoad(t, s).Rooms, []chat.SaveRoom(nil))
}

// Records apply in order: a room left and entered again in one turn is there.
func TestApplyInOrder(t *testing.T) {
	s := newMemory(t)
	a, b := chat.SaveEntry{Room: lab.Room, Hash: wire.Hash{1}, Entry: []byte("a")}, chat.SaveEntry{Room: lab.Room, Hash: wire.Hash{2}, Entry: []byte("b")}
	room := chat.SaveRoom{Room: lab.Room, Joined: t0}
	mustApply(t, s, room, a, chat.DropRoom{Room: lab.Room}, room, b)
	want(t, "entries", mustLoad(t, s).Entries, []chat.SaveEntry{b})
}

type strangeRecord struct{ chat.DropRoom }

// "One transaction": a record that fails takes those before it along.
func TestApplyIsAtomic(t *testing.T) {
	for _, tt := range []struct {
		name string
		bad  chat.Record
	}{
		{"entry of an unknown room", chat.SaveEntry{Room: wire.RoomID{77}, Hash: wire.Hash{1}, Entry: []byte("x")}},
		{"secret of an unknown room", chat.SaveSecret{Room: wire.RoomID{77}}},
		{"message of no chat", chat.SaveMessage{ID: chat.MessageID{9}}},
		{"message of two chats", chat.SaveMessage{ID: chat.MessageID{9}, Chat: chat.ChatID{Room: lab.Room, Account: alice.Account}}},
		{"outbox without a body", chat.SaveOutbox{}},
		{"a kind that the store does not know", strangeRecord{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newMemory(t)
			wanted, records := someRecords()
			mustApply(t, s, records...)
			mustApply(t, s, message(lab, 1, 1))
			wanted.Clock = message(lab, 1, 1).Clock
			ahead := message(lab, 1, 3)
			ahead.Clock += wire.ClockAt(time.UnixMilli(time.Minute.Milliseconds()))
			err := s.Apply([]chat.Record{chat.DropRoom{Room: wire.RoomID{1}}, ahead, chat.DropOutbox{Account: wire.AccountID{2}, Number: 9999},
				tt.bad, message(lab, 1, 4)})
			if err == nil || !strings.Contains(err.Error(), "record 4 of 5") {
				t.Errorf("got error %v, want one that names record 4 of 5", err)
			}
			want(t, "state", mustLoad(t, s), wanted)
			want(t, "messages", texts(mustHistory(t, s, lab, chat.MessageID{}, 10)), []string{"1 of 1"})
			// What was rolled back has left no trace in the order of what follows.
			mustApply(t, s, message(lab, 1, 4), message(lab, 2, 5))
			want(t, "messages", texts(mustHistory(t, s, lab, chat.MessageID{}, 10)), []string{"1 of 1", "4 of 1", "5 of 2"})
		})
	}
	if err := newMemory(t).Apply(nil); err != nil {
		t.Errorf("nothing to apply: %v", err)
	}
}

func TestMessageRoundTrip(t *testing.T) {
	s := newMemory(t)
	messages := []chat.SaveMessage{
		{ID: chat.MessageID{1}, Chat: lab, Account: wire.AccountID{15: 2}, Device: wire.DeviceID{7: 3}, From: "alice", Mode: chat.Fast, Number: math.MaxUint64,
			Clock: math.MaxUint64, At: t0, Text: "ü \n 🙂 'quoted'", Action: true, ReplyTo: chat.MessageID{7: 4}, Own: true, Raw: []byte{0, 1, 2}, Epoch: wire.Hash{31: 5}, Read: true, Long: "as it was"},
		{ID: chat.MessageID{2}, Chat: alice, Edited: true, Deleted: true},
		{ID: chat.MessageID{4}, Chat: chat.ChatID{Room: wire.RoomID{9}}, Device: wire.DeviceID{8}, Number: 1, Verb: chat.Hidden, Raw: []byte{1}},
		{ID: chat.MessageID{3}, Chat: chat.ChatID{Room: wire.RoomID{31: 1}}, Clock: 1 << 63, At: t0, Number: 1 << 63},
	}
	wantAllSet(t, reflect.ValueOf(messages))
	for _, m := range messages {
		mustApply(t, s, m)
		if m.Verb == 0 {
			want(t, "history", mustHistory(t, s, m.Chat, chat.MessageID{}, 10), []chat.SaveMessage{m})
			continue
		}
		want(t, "history of what is not shown", len(mustHistory(t, s, m.Chat, chat.MessageID{}, 10)), 0)
		got, err := s.Missed(m.Chat.Room, []wire.Have{{Device: m.Device}}, 10)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "to be handed on", got, []chat.SaveMessage{m})
	}
}

// "A second one with the same ID changes nothing."
func TestDuplicatesChangeNothing(t *testing.T) {
	s := newMemory(t)
	one, two := message(lab, 1, 1), message(lab, 1, 2)
	mustApply(t, s, one, two)
	again := two
	again.Clock = 0
	mustApply(t, s, again)
	want(t, "tail", s.tails[sender{lab, two.Device, two.Mode}], tail{2, number(two.Clock)})
	for _, m := range []chat.SaveMessage{one, two} {
		again := m
		again.Text, again.Read, again.Clock, again.From = "changed", true, m.Clock+wire.Clock(5)<<16, "mallory"
		mustApply(t, s, again, again)
		again.Number = 99
		mustApply(t, s, again)
	}
	want(t, "history", mustHistory(t, s, lab, chat.MessageID{}, 10), []chat.SaveMessage{one, two})
	unread, err := s.Unread()
	want(t, "unread", []any{unread, err}, []any{map[chat.ChatID]int{lab: 2}, nil})
	three := message(lab, 1, 3)
	three.Clock = one.Clock // kept behind two by the place of that alone
	mustApply(t, s, three)
	want(t, "with the next", mustHistory(t, s, lab, chat.MessageID{}, 10), []chat.SaveMessage{one, two, three})
}

// A message whose number is another's goes, and that one takes its place.
func TestDropMessage(t *testing.T) {
	s := newMemory(t)
	one, two := message(lab, 1, 1), message(lab, 1, 2)
	other := two
	other.Text, other.Raw = "the one that was first", []byte("signed")
	edit := message(lab, 1, 3)
	edit.Verb, edit.ReplyTo, edit.Text, edit.Read = wire.Edit, two.ID, "of what was dropped", true
	mustApply(t, s, one, two, edit, chat.DropMessage{ID: two.ID}, other, chat.DropMessage{ID: chat.MessageID{1}})
	want(t, "history", mustHistory(t, s, lab, chat.MessageID{}, 10), []chat.SaveMessage{one, other})
}

// "By clock, then device, then number."
func TestDisplayOrder(t *testing.T) {
	s := newMemory(t)
	same := message(lab, 2, 1) // as late as 1 of 1, by another device
	fast := message(lab, 1, 1)
	fast.Mode, fast.ID, fast.Text, fast.Clock = chat.Fast, chat.MessageID{0xff}, "fast", fast.Clock+1
	mustApply(t, s, same, message(lab, 1, 3), message(lab, 2, 2), message(lab, 1, 1), fast, message(alice, 1, 2), message(lab, 1, 2))
	want(t, "history", texts(mustHistory(t, s, lab, chat.MessageID{}, 10)), []string{"1 of 1", "1 of 2", "fast", "2 of 1", "2 of 2", "3 of 1"})
	want(t, "another chat", texts(mustHistory(t, s, alice, chat.MessageID{}, 10)), []string{"2 of 1"})
}

// "Per sender by number always", whatever its clocks say and in whatever
// order they come; and messages are stored once, unchanged.
func TestSendersStayInOrder(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		var messages []chat.SaveMessage
		for device := range byte(3) {
			for n := range uint64(8) {
				m := message(lab, device, n*(1<<61)) // of the whole range of numbers
				switch random.IntN(3) {
				case 0:
					m.Clock += wire.Clock(random.IntN(20)) << 16
				case 1:
					m.Clock = wire.Clock(random.Uint64())
				}
				messages = append(messages, m)
			}
		}
		random.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
		s := newMemory(t)
		for len(messages) > 0 {
			n := 1 + random.IntN(len(messages))
			var turn []chat.Record
			for _, m := range messages[:n] {
				turn = append(turn, m)
			}
			mustApply(t, s, turn...)
			messages = messages[n:]
		}
		got := mustHistory(t, s, lab, chat.MessageID{}, 100)
		if len(got) != 24 {
			t.Fatalf("seed %d: got %d messages, want 24", seed, len(got))
		}
		last := map[wire.DeviceID]chat.SaveMessage{}
		for _, m := range got {
			if l, ok := last[m.Device]; ok && l.Number >= m.Number {
				t.Fatalf("seed %d: number %d of %v stands behind %d", seed, m.Number, m.Device, l.Number)
			}
			last[m.Device] = m
		}
		// The order does not depend on what is remembered between turns.
		clear(s.tails)
		next := message(lab, 1, math.MaxUint64)
		mustApply(t, s, next)
		got = mustHistory(t, s, lab, chat.MessageID{}, 100)
		for i, m := range got {
			behind := func(m chat.SaveMessage) bool { return m.Device == next.Device }
			if m.ID == next.ID && slices.ContainsFunc(got[i+1:], behind) {
				t.Fatalf("seed %d: a message of the sender stands behind its last", seed)
			}
		}
		s.Close()
	}
}

// In whatever order messages come: where clocks rise with the numbers, as they
// should, the clocks are the order.
func TestLateMessagesFindTheirPlace(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		var messages []chat.SaveMessage
		for device := range byte(2) {
			for n := range uint64(8) {
				m := message(lab, device, n)
				m.Clock = wire.ClockAt(t0) + wire.Clock(2*n+uint64(device))<<20
				messages = append(messages, m)
			}
		}
		wanted := slices.Clone(messages)
		slices.SortFunc(wanted, func(a, b chat.SaveMessage) int { return cmp.Compare(a.Clock, b.Clock) })
		random.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
		s := newMemory(t)
		for _, m := range messages {
			mustApply(t, s, m)
		}
		want(t, fmt.Sprintf("seed %d", seed), texts(mustHistory(t, s, lab, chat.MessageID{}, 100)), texts(wanted))
		s.Close()
	}
}

// What is remembered of senders is bounded, and forgetting it changes nothing.
func TestTailsAreBounded(t *testing.T) {
	s := newMemory(t)
	var turn []chat.Record
	for i := range maxTails + 10 {
		m := message(lab, 0, 1)
		m.Device = wire.DeviceID{byte(i), byte(i >> 8)}
		m.ID = chat.MessageID{byte(i), byte(i >> 8)}
		turn = append(turn, m)
	}
	next := message(lab, 0, 2)
	next.Clock = 0
	mustApply(t, s, append(turn, next)...)
	if n := len(s.tails); n > maxTails {
		t.Errorf("%d senders are remembered, want at most %d", n, maxTails)
	}
	got := mustHistory(t, s, lab, chat.MessageID{}, maxTails+11)
	want(t, "the first", got[0].Device, wire.DeviceID{})
	want(t, "the second", got[1].Text, "2 of 0")
}

// A place is given once: what is shown does not move when something comes late.
func TestPlacesStay(t *testing.T) {
	s := newMemory(t)
	early, late := message(lab, 1, 5), message(lab, 1, 3)
	late.Clock = early.Clock + 100<<16
	mustApply(t, s, early, message(lab, 2, 6), late)
	want(t, "history", texts(mustHistory(t, s, lab, chat.MessageID{}, 10)), []string{"3 of 1", "5 of 1", "6 of 2"})
}

// "A wrong or lying clock does not drag the others along."
func TestLyingClock(t *testing.T) {
	s := newMemory(t)
	liar := message(lab, 1, 1)
	liar.Clock = math.MaxUint64
	honest := message(lab, 2, 1)
	honest.At = t0.Add(wire.MaxClockAhead + time.Second)
	honest.Clock = wire.ClockAt(honest.At)
	mustApply(t, s, liar, honest)
	want(t, "history", texts(mustHistory(t, s, lab, chat.MessageID{}, 10)), []string{"1 of 1", "1 of 2"})
}

// A node that starts goes on behind the clock of all it knows, but not behind a
// lying one.
func TestClock(t *testing.T) {
	s := newMemory(t)
	mustApply(t, s, message(lab, 1, 9), message(chat.ChatID{Account: wire.AccountID{1}}, 1, 70), message(chat.ChatID{Room: wire.RoomID{31: 9}}, 2, 8))
	want(t, "clock", mustLoad(t, s).Clock, wire.ClockAt(t0.Add(70*time.Millisecond)))
	liar := message(lab, 1, 10)
	liar.Clock = math.MaxUint64
	mustApply(t, s, liar)
	want(t, "clock beside a liar's", mustLoad(t, s).Clock, wire.ClockAt(t0.Add(wire.MaxClockAhead)))
}

func TestHistoryPages(t *testing.T) {
	s := newMemory(t)
	var all []string
	for n := range uint64(10) {
		m := message(lab, byte(n%2), n)
		m.Clock = 7 // so that device and number decide
		mustApply(t, s, m)
	}
	for device := range uint64(2) {
		for n := device; n < 10; n += 2 {
			all = append(all, fmt.Sprintf("%d of %d", n, device))
		}
	}
	for _, size := range []int{1, 3, 10, 11} {
		var got []string
		var before chat.MessageID
		for {
			page := mustHistory(t, s, lab, before, size)
			if len(page) == 0 {
				break
			}
			got = append(texts(page), got...)
			before = page[0].ID
		}
		want(t, fmt.Sprintf("pages of %d", size), got, all)
	}
	for _, limit := range []int{0, -1} {
		want(t, "limit", len(mustHistory(t, s, lab, chat.MessageID{}, limit)), 0)
	}
	_, err := s.History(lab, chat.MessageID{0xee}, 10)
	wantErr(t, err, ErrNoMessage)
	_, err = s.History(alice, message(lab, 1, 1).ID, 10)
	wantErr(t, err, ErrNoMessage)
	if _, err = s.History(chat.ChatID{}, chat.MessageID{}, 10); err == nil {
		t.Error("the history of no chat was read")
	}
}

func TestSearch(t *testing.T) {
	s := newMemory(t)
	for i, text := range []string{"Hello world", "hello again", "100% sure", "a_b", `back\slash`, "[x] done", "what? *that*", "ÜBER alles", "über",
		"ЖУК ползёт", "hello", "it's; DROP TABLE message", "κόσμος ΚΌΣΜΟΣ", "世界", "a]b^c-d"} {
		m := message(lab, 1, uint64(i+1))
		if i%2 == 1 {
			m.Chat = alice
		}
		m.Text = text
		mustApply(t, s, m)
	}
	for _, tt := range []struct {
		text  string
		limit int
		want  []string
	}{
		{"hello", 10, []string{"hello", "hello again", "Hello world"}},
		{"HELLO", 2, []string{"hello", "hello again"}},
		{"hello", 0, []string{}},
		{"hello", -1, []string{}},
		{"", 10, []string{}},
		{"nowhere", 10, []string{}},
		{"%", 10, []string{"100% sure"}},
		{"_", 10, []string{"a_b"}},
		{"a_b", 10, []string{"a_b"}},
		{`\`, 10, []string{`back\slash`}},
		{"[x]", 10, []string{"[x] done"}},
		{"[", 10, []string{"[x] done"}},
		{"?", 10, []string{"what? *that*"}},
		{"*", 10, []string{"what? *that*"}},
		{"]b^c-", 10, []string{"a]b^c-d"}},
		{"über", 10, []string{"über", "ÜBER alles"}},
		{"жук", 10, []string{"ЖУК ползёт"}},
		{"ПОЛЗЁТ", 10, []string{"ЖУК ползёт"}},
		{"κόσμος κόσμοσ", 10, []string{"κόσμος ΚΌΣΜΟΣ"}},
		{"界", 10, []string{"世界"}},
		{"'; drop table message", 10, []string{}},
		{"it's; drop table message", 10, []string{"it's; DROP TABLE message"}},
		{"\xff", 10, []string{}},
	} {
		got, err := s.Search(tt.text, tt.limit)
		if err != nil {
			t.Fatalf("%q: %v", tt.text, err)
		}
		want(t, fmt.Sprintf("%q, %d", tt.text, tt.limit), texts(got), tt.want)
	}
	if _, err := s.Search(strings.Repeat("ß", maxSearch/2), 1); err != nil {
		t.Errorf("the longest text: %v", err)
	}
	if _, err := s.Search(strings.Repeat("x", maxSearch+1), 1); err == nil {
		t.Error("a text that is too long was searched for")
	}
}

// What Search finds is what a plain comparison of folded text finds.
func FuzzSearch(f *testing.F) {
	for _, seed := range [][2]string{{"Hello", "hello"}, {"a*b?[c]", "*B?["}, {"[]^-", "]"}, {"ẞß", "ß"}, {"Kelvin", "kel"}, {"x", "\xff"}, {"ſ", "S"}} {
		f.Add(seed[0], seed[1])
	}
	s, err := OpenMemory()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, text, find string) {
		text, find = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), ""), strings.ToValidUTF8(strings.ReplaceAll(find, "\x00", ""), "")
		if find == "" || len(find) > maxSearch {
			return
		}
		if _, err := s.db.Exec("DELETE FROM message"); err != nil {
			t.Fatal(err)
		}
		clear(s.tails)
		m := message(lab, 1, 1)
		m.Text = text
		mustApply(t, s, m)
		found, err := s.Search(find, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(found) == 1, strings.Contains(upper(text), upper(find)); got != want {
			t.Errorf("%q in %q: got %v, want %v", find, text, got, want)
		}
		var g gist
		g.add(text)
		if len(found) == 1 && !g.mayHave(find) {
			t.Errorf("the gist of %q does not know of %q", text, find)
		}
	})
}

// upper writes a text so that its letters' cases do not count.
func upper(s string) string {
	return strings.Map(func(r rune) rune {
		for _, c := range cases(r) {
			r = min(r, c)
		}
		return r
	}, s)
}

func (g *gist) mayHave(text string) bool {
	may := true
	grams(text, true, func(bit uint32) { may = may && g[bit/8]&(1<<(bit%8)) != 0 })
	return may
}

// What Search finds is what stands in the history, whatever became of it: texts
// that changed, messages deleted, chats forgotten and their keys used again; and
// of a text that is gone no gist knows.
func TestSearchFollowsHistory(t *testing.T) {
	s := newMemory(t)
	words := strings.Fields("the printer on second floor is out of paper again ÜBER жук 世界 kelvin so what")
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		var b strings.Builder
		for range 1 + random.IntN(6) {
			b.WriteString(words[random.IntN(len(words))] + " ")
		}
		return b.String()
	}
	now := map[chat.MessageID]string{} // what is shown
	var n uint64
	check := func() {
		t.Helper()
		for _, find := range append(words, "over", "er o", "qqq", "q", "T", "ß", "PRINTER ON") {
			wanted := map[chat.MessageID]bool{}
			for id, text := range now {
				if strings.Contains(upper(text), upper(find)) {
					wanted[id] = true
				}
			}
			found, err := s.Search(find, 10_000)
			if err != nil {
				t.Fatal(err)
			}
			got := map[chat.MessageID]bool{}
			for _, m := range found {
				got[m.ID] = true
			}
			want(t, fmt.Sprintf("%q among %d", find, len(now)), len(got), len(found))
			want(t, fmt.Sprintf("%q among %d", find, len(now)), got, wanted)
		}
	}
	add := func(count int) {
		for range count {
			n++
			m := message(lab, 1, n)
			m.Text = text()
			mustApply(t, s, m)
			now[m.ID] = m.Text
		}
	}
	change := func(verb wire.Verb) {
		ids := slices.SortedFunc(maps.Keys(now), func(a, b chat.MessageID) int { return bytes.Compare(a[:], b[:]) })
		n++
		m := message(lab, 1, n)
		m.Verb, m.ReplyTo = verb, ids[random.IntN(len(ids))]
		if verb == wire.Edit {
			m.Text = text() + "qqq"
		}
		mustApply(t, s, m)
		now[m.ReplyTo] = m.Text
	}
	for range 4 {
		add(5 * gistBlock / 2)
		check()
		for range 5 {
			change(wire.Edit)
		}
		change(wire.Delete)
		check()
	}
	if _, err := s.Sweep(lab, time.Time{}, 0, 10_000); err != nil {
		t.Fatal(err)
	}
	clear(now)
	check()
	add(3 * gistBlock) // under the keys of those that are gone
	check()

	// Nothing is left of what was said: neither in a gist, nor as a gap that a
	// gist should fill.
	for _, find := range words {
		if _, err := s.Search(find, 1); err != nil {
			t.Fatal(err)
		}
	}
	var gists int
	if err := s.db.QueryRow("SELECT count(*) FROM gist").Scan(&gists); err != nil {
		t.Fatal(err)
	}
	want(t, "gists", gists, 3)
	if _, err := s.Sweep(lab, time.Time{}, 0, 10_000); err != nil {
		t.Fatal(err)
	}
	if err := s.db.QueryRow("SELECT count(*) FROM gist").Scan(&gists); err != nil {
		t.Fatal(err)
	}
	want(t, "gists of what was forgotten", gists, 0)
}

func TestUnread(t *testing.T) {
	s := newMemory(t)
	unread := func(wanted map[chat.ChatID]int) {
		t.Helper()
		got, err := s.Unread()
		if err != nil {
			t.Fatal(err)
		}
		want(t, "unread", got, wanted)
	}
	unread(map[chat.ChatID]int{})
	own := message(lab, 3, 1)
	own.Own, own.Read = true, true
	mustApply(t, s, own, message(lab, 1, 1), message(lab, 1, 2), message(lab, 2, 2), message(lab, 1, 3), message(alice, 1, 1), message(alice, 1, 2))
	unread(map[chat.ChatID]int{lab: 4, alice: 2})

	mustApply(t, s, chat.SaveRead{Chat: alice})
	unread(map[chat.ChatID]int{lab: 4})
	mustApply(t, s, chat.SaveRead{Chat: lab})
	unread(map[chat.ChatID]int{})
	mustApply(t, s, message(lab, 2, 3))
	unread(map[chat.ChatID]int{lab: 1})
	mustApply(t, s, chat.SaveRead{Chat: lab})
	for _, m := range mustHistory(t, s, lab, chat.MessageID{}, 10) {
		if !m.Read {
			t.Errorf("%q is unread in the history", m.Text)
		}
	}
}

// "Strictly rising per start, never less than before."
func TestNextBootRises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where the clock stands still
		dir := newDir(t)
		now := uint64(time.Now().Unix())
		var got []uint64
		for range 3 {
			s, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				boot, err := s.NextBoot()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, boot)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		boot, err := s.NextBoot()
		if err != nil {
			t.Fatal(err)
		}
		want(t, "boot numbers", append(got, boot), []uint64{now, now + 1, now + 2, now + 3, now + 4, now + 5, now + 3600})

		// A clock that is wrong by ages leaves room to count on.
		time.Sleep(150 * 365 * 24 * time.Hour)
		for i := range uint64(2) {
			if boot, err = s.NextBoot(); err != nil || boot != uint64(maxStart)+i {
				t.Errorf("got %d, %v, want %d", boot, err, uint64(maxStart)+i)
			}
		}
		if _, err := s.db.Exec("UPDATE node SET boot = 4294967294"); err != nil {
			t.Fatal(err)
		}
		if boot, err = s.NextBoot(); err != nil || boot != math.MaxUint32 {
			t.Errorf("got %d, %v, want %d", boot, err, uint32(math.MaxUint32))
		}
		if boot, err = s.NextBoot(); err == nil {
			t.Errorf("got %d, which does not fit 32 bits", boot)
		}
	})
}

// A store that is never closed stands for a process that was killed: what was
// acknowledged is there.
func TestApplySurvivesWithoutClose(t *testing.T) {
	dir := newDir(t)
	killed := openAt(t, dir)
	boot, err := killed.NextBoot()
	if err != nil {
		t.Fatal(err)
	}
	wanted, records := someRecords()
	mustApply(t, killed, records...)
	mustApply(t, killed, message(lab, 1, 1))
	wanted.Clock = message(lab, 1, 1).Clock
	copied := newDir(t)
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, File+suffix))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, File+suffix), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := openAt(t, copied)
	want(t, "state", mustLoad(t, s), wanted)
	want(t, "messages", len(mustHistory(t, s, lab, chat.MessageID{}, 10)), 1)
	if next, err := s.NextBoot(); err != nil || next <= boot {
		t.Errorf("boot number: got %d, %v, want more than %d", next, err, boot)
	}
}

// "Old epoch secrets are deleted": not a trace is left in the files.
func TestDroppedSecretsAreGone(t *testing.T) {
	dir := newDir(t)
	s := openAt(t, dir)
	random := rand.New(rand.NewPCG(1, 2))
	secret := func(i int) (b [32]byte) {
		binary.BigEndian.PutUint64(b[:], 0x5ec4e75ec4e70000)
		binary.BigEndian.PutUint64(b[8:], uint64(i))
		return b
	}
	found := func() (n int) {
		t.Helper()
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(filepath.Join(dir, File+suffix))
			if err != nil {
				t.Fatal(err)
			}
			n += bytes.Count(b, []byte{0x5e, 0xc4, 0xe7, 0x5e, 0xc4, 0xe7})
		}
		return n
	}
	mustApply(t, s, chat.SaveRoom{Room: lab.Room}, chat.SaveRoom{Room: wire.RoomID{2}})
	const n = 400
	for i := range n {
		room := wire.RoomID{byte(1 + i%2)}
		mustApply(t, s, chat.SaveSecret{Room: room, Epoch: wire.Hash{byte(random.Uint32()), byte(i), byte(i >> 8)}, Secret: secret(i)})
	}
	if found() == 0 {
		t.Fatal("no secret in the files: this test would see none")
	}
	for i, r := range mustLoad(t, s).Secrets {
		if r.Room == lab.Room && i%3 == 0 {
			mustApply(t, s, chat.DropSecret{Room: r.Room, Epoch: r.Epoch})
		}
	}
	mustApply(t, s, message(lab, 1, 1))
	left := map[[32]byte]bool{}
	for _, r := range mustLoad(t, s).Secrets {
		left[r.Secret] = true
	}
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, File+suffix))
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if sec := secret(i); !left[sec] && bytes.Contains(b, sec[:]) {
				t.Errorf("secret %d was dropped and stands in %s%s", i, File, suffix)
			}
		}
	}
	mustApply(t, s, chat.DropRoom{Room: lab.Room}, chat.DropRoom{Room: wire.RoomID{2}})
	if got := found(); got != 0 {
		t.Errorf("%d secrets are in the files after their rooms were dropped", got)
	}

	// A look-up that is under way keeps the log as it is; the next Apply
	// empties it. (Waiting for such a look-up is cut short here.)
	mustApply(t, s, chat.SaveRoom{Room: lab.Room}, chat.SaveSecret{Room: lab.Room, Secret: secret(1)})
	if _, err := s.db.Exec("PRAGMA busy_timeout = 0"); err != nil {
		t.Fatal(err)
	}
	rows, err := s.db.Read.Query("SELECT id FROM message UNION ALL SELECT id FROM room")
	if err != nil || !rows.Next() {
		t.Fatalf("nothing to look up: %v", err)
	}
	mustApply(t, s, chat.DropSecret{Room: lab.Room})
	rows.Close()
	mustApply(t, s, message(lab, 1, 2))
	if got := found(); got != 0 {
		t.Errorf("%d secrets are in the files after a look-up was in the way", got)
	}
}

func TestFilesArePrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("windows has access control lists instead of modes")
	}
	dir := newDir(t)
	s := openAt(t, dir)
	mustApply(t, s, message(lab, 1, 1))
	mustHistory(t, s, lab, chat.MessageID{}, 1)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name())
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%q has mode %v, want 0600", e.Name(), info.Mode())
		}
	}
	want(t, "files", names, []string{"node.db", "node.db-shm", "node.db-wal"})
	s.Close()

	for _, tt := range []struct {
		path string
		mode os.FileMode
		cure string
	}{
		{filepath.Join(dir, File), 0o640, "chmod 600"},
		{filepath.Join(dir, File), 0o604, "chmod 600"},
		{dir, 0o750, "chmod 700"},
		{dir, 0o701, "chmod 700"},
	} {
		info, err := os.Stat(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(tt.path, tt.mode); err != nil {
			t.Fatal(err)
		}
		_, err = Open(dir)
		wantErr(t, err, private.ErrTooOpen)
		if cure := fmt.Sprintf("%s '%s'", tt.cure, tt.path); err == nil || !strings.Contains(err.Error(), cure) {
			t.Errorf("mode %o: got %v, want the cure: %s", tt.mode, err, cure)
		}
		if err := os.Chmod(tt.path, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	openAt(t, dir)
	if _, err := Open(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: got %v", err)
	}
}

//go:embed testdata/v1.sql
var v1 string

// writeDatabase makes a database by hand.
func writeDatabase(t *testing.T, statements string) (dir string) {
	t.Helper()
	dir = newDir(t)
	path := filepath.Join(dir, File)
	if err := private.Create(path); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+url.PathEscape(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOpensVersion1(t *testing.T) {
	s := openAt(t, writeDatabase(t, v1))
	var version int
	err := s.db.QueryRow("PRAGMA user_version").Scan(&version)
	want(t, "version", []any{version, err}, []any{len(format.Migrations), nil})
	at := time.UnixMilli(1_800_000_000_000)
	room, account, device := wire.RoomID{1}, wire.AccountID{2}, wire.DeviceID{3}
	want(t, "state", mustLoad(t, s), chat.State{
		People:   []chat.SavePerson{{Device: device, Key: wire.DeviceKey{4}, Account: account, Name: "alice", NameSeq: 7, Seen: at}},
		Settings: []chat.SaveSettings{{Chat: chat.ChatID{Room: room}, Mode: chat.Fast, Notify: chat.NotifyNone, MutedUntil: at}},
		Outbox:   []chat.SaveOutbox{{Account: account, Number: 3, ID: chat.MessageID{3}, Body: []byte{0xff}}},
		Direct:   []chat.SaveDirect{{Account: account, Sent: 3}},
		Received: []chat.SaveReceived{{Device: device, Number: 9}},
		Rooms:    []chat.SaveRoom{{Room: room, Joined: at}},
		Numbers:  []chat.SaveNumber{{Room: room, Number: 5}},
		Entries:  []chat.SaveEntry{{Room: room, Hash: wire.Hash{6}, Entry: []byte{10, 11}}},
		Secrets:  []chat.SaveSecret{{Room: room, Epoch: wire.Hash{5}, Secret: [32]byte{0x5e}}},
		Authors:  []chat.SaveAuthor{{Room: room, Device: device, Replay: []byte{12}, Received: 4, Missing: []wire.Range{{First: 2, Last: 3}}, Since: 1}},
		Clock:    wire.ClockAt(at) + 1,
	})
	want(t, "room", mustHistory(t, s, chat.ChatID{Room: room}, chat.MessageID{}, 10), []chat.SaveMessage{{
		ID: chat.MessageID{1}, Chat: chat.ChatID{Room: room}, Account: account, Device: device, From: "alice", Number: 1,
		Clock: wire.ClockAt(at), At: at.Add(123 * time.Millisecond), Text: "waves", Action: true, Epoch: wire.Hash{5}, Raw: []byte{1, 2}}})
	want(t, "direct", mustHistory(t, s, chat.ChatID{Account: account}, chat.MessageID{}, 10), []chat.SaveMessage{{
		ID: chat.MessageID{2}, Chat: chat.ChatID{Account: account}, Account: account, Device: device, From: "alice", Mode: chat.Fast, Number: math.MaxUint64,
		Clock: wire.ClockAt(at) + 1, At: at.Add(456 * time.Millisecond), Text: "psst", ReplyTo: chat.MessageID{1}, Read: true}})
	boot, err := s.NextBoot()
	want(t, "boot", []any{boot, err}, []any{uint64(4_200_000_001), nil})
}

func TestRefusesForeignFiles(t *testing.T) {
	_, err := Open(writeDatabase(t, "CREATE TABLE t (a)"))
	wantErr(t, err, dbfile.ErrNotOurs)
	_, err = Open(writeDatabase(t, "PRAGMA application_id = 0x6c636164")) // authd's
	wantErr(t, err, dbfile.ErrNotOurs)

	dir := newDir(t)
	if err := os.WriteFile(filepath.Join(dir, File), bytes.Repeat([]byte("not a database\n"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	wantErr(t, err, dbfile.ErrNotOurs)
}

// "quick_check at start": of all but history always, of history too unless
// the last run ended with Close.
func TestRefusesDamage(t *testing.T) {
	root := func(s *Store, table string) (page int64) {
		if err := s.db.QueryRow("SELECT rootpage FROM sqlite_schema WHERE name = ?", table).Scan(&page); err != nil {
			t.Fatal(err)
		}
		return page
	}
	for _, tt := range []struct {
		name, table string
		closed      bool
		want        error
	}{
		{"entries", "entry", true, dbfile.ErrCorrupt},
		{"entries, not closed", "entry", false, dbfile.ErrCorrupt},
		{"history, not closed", "message", false, dbfile.ErrCorrupt},
		{"history", "message", true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := newDir(t)
			s := openAt(t, dir)
			_, records := someRecords()
			mustApply(t, s, records...)
			mustApply(t, s, message(lab, 1, 1))
			page := root(s, tt.table)
			if !tt.closed {
				s.db.Read.Close() // and no mark is set
				s.db.DB.Close()
			} else if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, File)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range b[(page-1)*4096 : page*4096] {
				b[(page-1)*4096+int64(i)] ^= 0x55
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err = Open(dir)
			wantErr(t, err, tt.want)
			if err != nil {
				return
			}
			defer s.Close()
			_, err = s.History(lab, chat.MessageID{}, 1)
			wantErr(t, err, dbfile.ErrCorrupt)
		})
	}
}

// Look-ups go on beside the writer, and see whole turns.
func TestReadsBesideWrites(t *testing.T) {
	s := openAt(t, newDir(t))
	const turns = 50
	done := make(chan struct{})
	var running sync.WaitGroup
	for range 2 * readers {
		running.Go(func() {
			for {
				found, err := s.History(lab, chat.MessageID{}, 10*turns)
				if err != nil || len(found)%2 != 0 {
					t.Errorf("got %d messages, %v, want whole turns of 2", len(found), err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for n := range uint64(turns) {
		mustApply(t, s, message(lab, 1, 2*n), message(lab, 1, 2*n+1))
	}
	close(done)
	running.Wait()
	want(t, "messages", len(mustHistory(t, s, lab, chat.MessageID{}, 10*turns)), 2*turns)
}

// "Disk full → typed error that says what happened and what to do; after space
// is freed the same Store works."
func TestFull(t *testing.T) {
	dir := newDir(t)
	s := openAt(t, dir)
	fillsUp(t, dir, s, func() {
		var pages int
		if err := s.db.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
			t.Fatal(err)
		}
		if _, err := s.db.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages+10)); err != nil {
			t.Fatal(err)
		}
	}, func() {
		if _, err := s.db.Exec("PRAGMA max_page_count = 1000000"); err != nil {
			t.Fatal(err)
		}
	})
}

// fillsUp stores messages until the disk is full, which it must be before long,
// and again after it was freed.
func fillsUp(t *testing.T, dir string, s *Store, fill, free func()) {
	t.Helper()
	fill()
	turn := func(n uint64) []chat.Record {
		var all []chat.Record
		for i := range uint64(10) {
			m := message(lab, 1, 10*n+i)
			m.Raw = make([]byte, 1000)
			all = append(all, m)
		}
		return append(all, chat.SaveNumber{Room: lab.Room, Number: n})
	}
	var err error
	n := uint64(1)
	for ; n < 1000; n++ {
		if err = s.Apply(turn(n)); err != nil {
			break
		}
	}
	wantErr(t, err, dbfile.ErrFull)
	d, ok := errors.AsType[*dbfile.DiskError](err)
	if !ok || d.Code != "disk_full" || !strings.Contains(err.Error(), "the disk is full: free some space on the disk of ") || !strings.Contains(err.Error(), fmt.Sprintf("%q", dir)) {
		t.Errorf("got %v, want what happened, and what to do where", err)
	}
	// All of the turn is missing, nothing else is, and look-ups go on.
	stored := int(10 * (n - 1))
	want(t, "messages", len(mustHistory(t, s, lab, chat.MessageID{}, 100000)), stored)
	want(t, "number", mustLoad(t, s).Numbers[0].Number, n-1)
	free()
	mustApply(t, s, turn(n)...)
	want(t, "messages after space was freed", len(mustHistory(t, s, lab, chat.MessageID{}, 100000)), stored+10)
	want(t, "number after space was freed", mustLoad(t, s).Numbers[0].Number, n)
	var line string
	if err := s.db.QueryRow("PRAGMA integrity_check").Scan(&line); err != nil || line != "ok" {
		t.Errorf("integrity: got %q, %v", line, err)
	}
}

func TestReadOnlyDisk(t *testing.T) {
	s := openAt(t, newDir(t))
	if _, err := s.db.Exec("PRAGMA query_only = 1"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.Apply([]chat.Record{message(lab, 1, 1)}), &dbfile.DiskError{Code: "disk_read_only"})
	_, err := s.NextBoot()
	wantErr(t, err, &dbfile.DiskError{Code: "disk_read_only"})
	wantErr(t, s.Apply([]chat.Record{chat.SaveRead{Chat: lab}}), &dbfile.DiskError{Code: "disk_read_only"})
}

func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("messages=%d", n), func(b *testing.B) {
			s := openAt(b, newDir(b))
			turn := make([]chat.Record, n)
			raw, text := make([]byte, 330), strings.Repeat("a message ", 20)
			number := uint64(0)
			for b.Loop() {
				for i := range turn {
					number++
					m := message(lab, byte(number%8), number)
					m.Raw, m.Text = raw, text
					turn[i] = m
				}
				mustApply(b, s, turn...)
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// What somebody missed: of each device what comes after a number, in the order
// it is shown in, page by page, and only what can be handed on.
func TestMissed(t *testing.T) {
	s := newMemory(t)
	room := chat.ChatID{Room: wire.RoomID{1}}
	add := func(device byte, n uint64, clock wire.Clock, mode chat.Mode, raw []byte) {
		m := message(room, device, n)
		m.ID = chat.MessageID{device, byte(n), byte(mode)}
		m.Clock, m.Mode, m.Raw, m.Text = clock, mode, raw, fmt.Sprint(device, ".", n)
		mustApply(t, s, m)
	}
	signed := []byte{1}
	for n := uint64(1); n <= 4; n++ {
		add(1, n, wire.Clock(10*n), chat.Reliable, signed)
		add(2, n, wire.Clock(10*n+5), chat.Reliable, signed)
		add(3, n, wire.Clock(10*n+6), chat.Reliable, signed)
	}
	add(1, 5, 50, chat.Reliable, nil) // as in a version that kept none
	add(1, 6, 60, chat.Fast, signed)
	after := []wire.Have{{Device: wire.DeviceID{1}, Number: 2}, {Device: wire.DeviceID{2}}}
	for _, tt := range []struct {
		limit int
		want  []string
	}{
		{100, []string{"2.1", "2.2", "1.3", "2.3", "1.4", "2.4"}},
		{3, []string{"2.1", "2.2", "1.3"}},
		{0, []string{}},
	} {
		got, err := s.Missed(room.Room, after, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		want(t, fmt.Sprint("at most ", tt.limit), texts(got), tt.want)
	}
	if got, err := s.Missed(wire.RoomID{2}, after, 100); err != nil || len(got) != 0 {
		t.Errorf("of another room: %v, %v", got, err)
	}
	many := make([]wire.Have, wire.MaxHave)
	for i := range many {
		many[i] = wire.Have{Device: wire.DeviceID{9, byte(i >> 8), byte(i)}, Number: 1}
	}
	many[7] = wire.Have{Device: wire.DeviceID{3}, Number: 3}
	got, err := s.Missed(room.Room, many, 100)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "of as many devices as a question may name", texts(got), []string{"3.4"})
}

// Edits and deletions of the author's own count, in whatever order they come:
// the last edit by its clock, and a deletion above all.
func TestAmend(t *testing.T) {
	room, other := chat.ChatID{Room: wire.RoomID{1}}, chat.ChatID{Room: wire.RoomID{2}}
	first := message(room, 1, 1)
	amending := func(in chat.ChatID, by byte, n uint64, verb wire.Verb, text string) chat.SaveMessage {
		m := message(in, by, n)
		m.Verb, m.ReplyTo, m.Text, m.Read = verb, first.ID, text, true
		return m
	}
	edit2, edit3 := amending(room, 1, 2, wire.Edit, "two"), amending(room, 1, 3, wire.Edit, "three")
	gone, hidden := amending(room, 1, 4, wire.Delete, ""), amending(room, 1, 5, chat.Hidden, "hidden")
	foreign, elsewhere := amending(room, 2, 9, wire.Edit, "foreign"), amending(other, 1, 9, wire.Edit, "elsewhere")
	for _, tt := range []struct {
		name    string
		records []chat.Record
		text    string
		edited  bool
		deleted bool
	}{
		{"nothing", []chat.Record{first}, first.Text, false, false},
		{"an edit", []chat.Record{first, edit2}, "two", true, false},
		{"an edit that comes first", []chat.Record{edit2, first}, "two", true, false},
		{"two edits", []chat.Record{first, edit2, edit3}, "three", true, false},
		{"two edits, the later first", []chat.Record{edit3, first, edit2}, "three", true, false},
		{"a deletion", []chat.Record{first, gone}, "", true, true},
		{"a deletion, and an edit after it", []chat.Record{gone, first, edit3}, "", true, true},
		{"somebody else's", []chat.Record{foreign, first, elsewhere, hidden}, first.Text, false, false},
	} {
		s := newMemory(t)
		for _, r := range tt.records {
			mustApply(t, s, r)
		}
		got := mustHistory(t, s, room, chat.MessageID{}, 10)
		if len(got) != 1 || got[0].Text != tt.text || got[0].Edited != tt.edited || got[0].Deleted != tt.deleted {
			t.Errorf("%s: got %+v", tt.name, got)
		}
		if one, err := s.Message(room, first.ID); err != nil || !reflect.DeepEqual(one, got) {
			t.Errorf("%s: alone: %+v, %v", tt.name, one, err)
		}
		if found, err := s.Search("t", 10); err != nil || tt.deleted && len(found) > 0 {
			t.Errorf("%s: searching finds %+v, %v", tt.name, found, err)
		}
		last, err := s.Nth(room, first.Account, 1)
		if err != nil || (len(last) == 0) != tt.deleted {
			t.Errorf("%s: the last one is %+v, %v", tt.name, last, err)
		}
		if unread, err := s.Unread(); err != nil || unread[room] != 1 {
			t.Errorf("%s: %d unread, %v", tt.name, unread[room], err)
		}
	}
	s := newMemory(t)
	mustApply(t, s, edit2, foreign, gone)
	want(t, "what is edited and not there", mustLoad(t, s).Orphans, []chat.MessageID{first.ID})
	mustApply(t, s, first)
	want(t, "what is edited and not there, once it is", mustLoad(t, s).Orphans, []chat.MessageID(nil))
	got, err := s.Missed(room.Room, []wire.Have{{Device: wire.DeviceID{1}}}, 10)
	if err != nil || len(got) != 0 {
		t.Errorf("without signatures nothing is handed on: %+v, %v", got, err)
	}
}

// History is forgotten a little at a time, and the rest stays.
// An edit that came before what it edits counts, even where there was a restart
// between them, or more such edits than are remembered.
func TestAmendedEarly(t *testing.T) {
	for _, many := range []int{0, maxEarly} {
		dir := newDir(t)
		s := openAt(t, dir)
		m := message(lab, 1, 1)
		m.ID[7] = 9
		edit := message(lab, 1, 2)
		edit.Verb, edit.ReplyTo, edit.Text = wire.Edit, m.ID, "better"
		mustApply(t, s, edit)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openAt(t, dir)
		mustApply(t, s, message(alice, 1, 3)) // has it read what is there
		for i := range many {
			s.early.add(chat.MessageID{1, 1, byte(i >> 8), byte(i)})
		}
		mustApply(t, s, m)
		want(t, fmt.Sprint("with ", many, " more"), texts(mustHistory(t, s, lab, chat.MessageID{}, 1)), []string{"better"})
	}
}

func TestSweep(t *testing.T) {
	s := newMemory(t)
	for n := uint64(1); n <= 10; n++ {
		for _, in := range []chat.ChatID{lab, alice} {
			m := message(in, 1, n)
			m.ID[3] = in.Account[0]
			m.At = t0.Add(time.Duration(n) * time.Hour)
			mustApply(t, s, m)
		}
	}
	sweep := func(in chat.ChatID, before time.Time, bytes int64, limit, wanted int) {
		t.Helper()
		if n, err := s.Sweep(in, before, bytes, limit); err != nil || n != wanted {
			t.Errorf("forgot %d, %v, want %d", n, err, wanted)
		}
	}
	sweep(lab, time.Time{}, 0, 3, 3)
	want(t, "one chat", len(mustHistory(t, s, lab, chat.MessageID{}, 100)), 7)
	want(t, "the other", len(mustHistory(t, s, alice, chat.MessageID{}, 100)), 10)
	sweep(chat.ChatID{}, t0.Add(5*time.Hour), 0, 100, 5)
	want(t, "old ones gone", texts(mustHistory(t, s, alice, chat.MessageID{}, 1)), []string{"10 of 1"})
	want(t, "new ones there", len(mustHistory(t, s, alice, chat.MessageID{}, 100)), 6)
	sweep(chat.ChatID{}, t0.Add(5*time.Hour), 0, 100, 0)
	sweep(chat.ChatID{}, time.Time{}, 1<<40, 100, 0)
	sweep(chat.ChatID{}, time.Time{}, 1, 4, 4)
	var got []string
	if err := s.Each(alice, func(m *chat.SaveMessage) error { got = append(got, m.Text); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) == 0 || got[len(got)-1] != "10 of 1" {
		t.Errorf("left: %q", got)
	}
}

// "History of a million messages opens in under 100 ms and searches in under
// 300 ms": its last page, a page far back, searches for what is everywhere, rare
// and nowhere, and the counts of what is unread.
func BenchmarkMillion(b *testing.B) {
	s := openAt(b, newDir(b))
	const total, turn = 1_000_000, 5000
	raw := make([]byte, 100)
	var far chat.MessageID
	for n := 0; n < total; n += turn {
		records := make([]chat.Record, turn)
		for i := range records {
			m := message(lab, byte((n+i)%8), uint64((n+i)/8+1))
			m.Raw, m.Text = raw, fmt.Sprintf("message %d: %s", n+i, prose(uint64(n+i)))
			m.Read = n+i < total-1000
			if n+i == total/2 {
				far = m.ID
			}
			records[i] = m
		}
		mustApply(b, s, records...)
	}
	for name, do := range map[string]func() (int, error){
		"last page": func() (int, error) { found, err := s.History(lab, chat.MessageID{}, 100); return len(found), err },
		"far back":  func() (int, error) { found, err := s.History(lab, far, 100); return len(found), err },
		"word":      func() (int, error) { found, err := s.Search("Printer", 100); return len(found), err },
		"rare":      func() (int, error) { found, err := s.Search("Message 777777:", 100); return len(found), err },
		"nowhere":   func() (int, error) { found, err := s.Search("xyzzy", 100); return len(found) + 1, err },
		"no phrase": func() (int, error) { found, err := s.Search("meeting printer monday", 100); return len(found) + 1, err },
		"no sign":   func() (int, error) { found, err := s.Search("ж", 100); return len(found) + 1, err },
		"unread":    func() (int, error) { found, err := s.Unread(); return len(found), err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if n, err := do(); err != nil || n == 0 {
					b.Fatalf("found %d, %v", n, err)
				}
			}
		})
	}
}

// prose returns a sentence of seven words out of many.
func prose(seed uint64) string {
	random := rand.New(rand.NewPCG(seed, 1))
	words := make([]string, 7)
	for i := range words {
		words[i] = vocabulary[int(float64(len(vocabulary))*math.Pow(random.Float64(), 2))] // some are common
	}
	return strings.Join(words, " ")
}

// vocabulary is 2000 words that are told apart: known ones, and those made of
// pieces.
var vocabulary = func() []string {
	list := strings.Fields("the a to of and is it you that in was on for are with as I his they be at one have this printer meeting monday lunch")
	begins := strings.Fields("ba be con de dis ex for gra hi in jo ka lo mo ne over pre qua re su tra un vi wo")
	ends := strings.Fields("ber cal der fer ger ing ion ket lan ment ness ous per quet ring sion tion ty ver wer")
	for _, b := range begins {
		for _, e := range ends {
			list = append(list, b+e, b+"s"+e, b+"n"+e+"s", b+e+"al")
		}
	}
	return list[:min(2000, len(list))]
}()

// packetRows returns how many plaintexts of packets are stored.
func packetRows(t testing.TB, s *Store) (n int) {
	t.Helper()
	if err := s.db.Read.QueryRow("SELECT count(*) FROM packet").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// The plaintext of a pack is stored once, read back with each of its messages, and
// goes with the last of them.
func TestPackIsStoredOnce(t *testing.T) {
	s := newMemory(t)
	var pack []chat.Record
	for n := range uint64(5) {
		m := message(lab, 1, n+1)
		m.Raw = []byte("five messages, signed")
		pack = append(pack, m)
	}
	alone := message(lab, 2, 1)
	alone.Raw = []byte("another")
	mustApply(t, s, append(slices.Clone(pack), message(chat.ChatID{Account: wire.AccountID{1}}, 3, 1), alone)...)
	want(t, "packets", packetRows(t, s), 2)
	mustApply(t, s, pack...) // again
	want(t, "packets, with what came again", packetRows(t, s), 2)
	for _, m := range mustHistory(t, s, lab, chat.MessageID{}, 10) {
		raw := "five messages, signed"
		if m.Device == alone.Device {
			raw = "another"
		}
		want(t, "raw", string(m.Raw), raw)
	}
	missed, err := s.Missed(lab.Room, []wire.Have{{Device: wire.DeviceID{1}, Number: 2}}, 10)
	if err != nil || len(missed) != 3 || string(missed[2].Raw) != "five messages, signed" {
		t.Errorf("missed: %+v, %v", missed, err)
	}
	for i, r := range pack {
		mustApply(t, s, chat.DropMessage{ID: r.(chat.SaveMessage).ID})
		want(t, "packets", packetRows(t, s), map[bool]int{true: 1, false: 2}[i == 4])
	}
	mustApply(t, s, pack[0], chat.DropMessage{ID: pack[0].(chat.SaveMessage).ID}, pack[1])
	want(t, "packets, with a message dropped in the same turn", packetRows(t, s), 2)
	if _, err := s.Sweep(lab, time.Time{}, 0, 100); err != nil {
		t.Fatal(err)
	}
	want(t, "packets of no message", packetRows(t, s), 0)
}

// A database from before that has each plaintext once afterwards, too.
func TestPacksOfVersion1(t *testing.T) {
	s := openAt(t, writeDatabase(t, v1+`
INSERT INTO message (id, chat, device, mode, number, place, clock, at, own, read, action, reply_to, account, name, text, epoch, raw)
	SELECT x'0900000000000009', chat, device, mode, x'0000000000000002', place, clock, at, own, read, action, reply_to, account, name, 'more', epoch, raw
	FROM message WHERE raw IS NOT NULL;`))
	got := mustHistory(t, s, chat.ChatID{Room: wire.RoomID{1}}, chat.MessageID{}, 10)
	if len(got) != 2 || !bytes.Equal(got[0].Raw, []byte{1, 2}) || !bytes.Equal(got[1].Raw, []byte{1, 2}) || packetRows(t, s) != 1 {
		t.Errorf("got %+v, %d packets", got, packetRows(t, s))
	}
}
