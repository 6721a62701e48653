package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"lanchat/testdata/vectors"
)

func ref(n byte) (r [8]byte) {
	for i := range r {
		r[i] = n + byte(i)
	}
	return r
}

func hash(n byte) (h Hash) {
	for i := range h {
		h[i] = n + byte(i)
	}
	return h
}

var bodyTable = []struct {
	name string
	body Body
	hex  string // "" where it is long: the vector file has it
}{
	{"message", &Message{Number: 7, Text: "hi"}, "0000000000000007 00 6869"},
	{"message-answer", &Message{Number: 8, Ref: ref(1), Text: "ja"}, "0000000000000008 04 0102030405060708 6a61"},
	{"message-action", &Message{Number: 9, Verb: Action, Text: "waves"}, "0000000000000009 01 7761766573"},
	{"message-edit", &Message{Number: 10, Verb: Edit, Ref: ref(1), Text: "ho"}, "000000000000000a 06 0102030405060708 686f"},
	{"message-delete", &Message{Number: 11, Verb: Delete, Ref: ref(1)}, "000000000000000b 07 0102030405060708"},
	{"message-full", &Message{Number: 12, Text: strings.Repeat("x", MaxBody-9)}, ""},
	{"log-entry", &LogEntry{Entry: bytes.Repeat([]byte{0xee}, 220)}, ""},
	{"beacon", &Beacon{LogSeq: 3, Head: hash(0x40), Reliable: 5, Fast: 6},
		"0000000000000003 404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f 0000000000000005 0000000000000006"},
	{"leave", &Leave{Reliable: 513}, "0000000000000201"},
	{"acks", &Acks{Acks: []Ack{{Slot: 0, Number: 1}, {Slot: 258, Number: 2}}}, "0000 0000000000000001 0102 0000000000000002"},
	{"notice", &Notice{Number: 4, Hash: hash(0x40), Length: 2000},
		"0000000000000004 00 404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f 000007d0"},
	{"notice-answer", &Notice{Number: 4, Ref: ref(1), Verb: Action, Hash: hash(0x40), Length: MaxLongText},
		"0000000000000004 05 0102030405060708 404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f 00010000"},
	{"repair-request", &RepairRequest{Slot: 2, Ranges: []Range{{1, 1}, {3, 9}}},
		"0002 0000000000000001 0000000000000001 0000000000000003 0000000000000009"},
	{"pack", &Pack{Messages: []Message{{Number: 1, Text: "a"}, {Number: 2, Ref: ref(1), Text: "bc"}}},
		"000a 0000000000000001 00 61 0013 0000000000000002 04 0102030405060708 6263"},
}

func TestBodies(t *testing.T) {
	var got []vectors.Vector
	for _, tt := range bodyTable {
		k := tt.body.Kind()
		prefix := []byte("before")
		b := AppendBody(prefix, tt.body)
		if !bytes.HasPrefix(b, prefix) {
			t.Errorf("%s: overwrote what it was appended to", tt.name)
		}
		b = b[len(prefix):]
		got = append(got, vectors.Vector{Name: tt.name, Bytes: b})
		if want := strings.ReplaceAll(tt.hex, " ", ""); want != "" && fmt.Sprintf("%x", b) != want {
			t.Errorf("%s: got %x, want %s", tt.name, b, want)
		}
		m, err := ParseBody(k, b)
		if err != nil || !reflect.DeepEqual(m, tt.body) {
			t.Errorf("%s: parsed %+v, %v; want %+v", tt.name, m, err, tt.body)
		}
		for n := range b {
			m, err := ParseBody(k, b[:n])
			if whole, _ := prefixIsWhole(k, n); whole {
				continue
			}
			if err == nil || m != nil {
				t.Errorf("%s: %d of %d bytes: %+v, want an error", tt.name, n, len(b), m)
			}
		}
		switch k {
		case KindMessage, KindLogEntry: // run to the end
		default:
			if m, err := ParseBody(k, append(bytes.Clone(b), 0)); err == nil || m != nil {
				t.Errorf("%s: one byte more: %+v, want an error", tt.name, m)
			}
		}
	}
	vectors.Check(t, "room-bodies.hex", "Bodies of room packets, by kind.", got)
}

// prefixIsWhole reports whether a kind's bodies may end after n bytes: text
// runs to the end, and lists may be shorter.
func prefixIsWhole(k Kind, n int) (bool, string) {
	switch k {
	case KindMessage:
		return n > 9, "text"
	case KindLogEntry:
		return n >= 220, "entry"
	case KindAcks:
		return n > 0 && n%10 == 0, "list"
	case KindRepairRequest:
		return n > 2 && n%16 == 2, "list"
	case KindPack:
		return n == 12, "list"
	}
	return false, ""
}

func TestBodiesRefused(t *testing.T) {
	number := "0000000000000001"
	h := strings.Repeat("40", 32)
	for _, tt := range []struct {
		name string
		kind Kind
		hex  string
		want error
	}{
		{"kind 0", 0, "", ErrType},
		{"kind 9", 9, "", ErrType},
		{"message number 0", KindMessage, "0000000000000000 00 61", ErrValue},
		{"message without text", KindMessage, number + "00", ErrValue},
		{"message with a reserved bit", KindMessage, number + "08 61", ErrReserved},
		{"message with a zero ref", KindMessage, number + "04 0000000000000000 61", ErrValue},
		{"message not UTF-8", KindMessage, number + "00 ff", ErrUTF8},
		{"edit of nothing", KindMessage, number + "02 61", ErrValue},
		{"delete with text", KindMessage, number + "07 0102030405060708 61", ErrValue},
		{"log entry too short", KindLogEntry, strings.Repeat("00", 219), ErrTruncated},
		{"body too long", KindLogEntry, strings.Repeat("00", MaxBody+1), ErrTooLong},
		{"no acks", KindAcks, "", ErrValue},
		{"acks of one slot twice", KindAcks, "0001 0000000000000001 0001 0000000000000002", ErrValue},
		{"acks out of order", KindAcks, "0002 0000000000000001 0001 0000000000000002", ErrValue},
		{"notice of nothing", KindNotice, number + "00" + h + "00000000", ErrValue},
		{"notice too long", KindNotice, number + "00" + h + "00010001", ErrValue},
		{"notice of a delete", KindNotice, number + "07 0102030405060708" + h + "00000001", ErrValue},
		{"no ranges", KindRepairRequest, "0001", ErrValue},
		{"range backwards", KindRepairRequest, "0001 0000000000000002 0000000000000001", ErrValue},
		{"range from 0", KindRepairRequest, "0001 0000000000000000 0000000000000001", ErrValue},
		{"ranges that touch", KindRepairRequest, "0001 0000000000000001 0000000000000002 0000000000000003 0000000000000003", ErrValue},
		{"range behind the last number", KindRepairRequest, "0001 0000000000000001 ffffffffffffffff 0000000000000003 0000000000000003", ErrValue},
		{"empty pack", KindPack, "", ErrTruncated},
		{"pack of an empty message", KindPack, "0000", ErrTruncated},
		{"pack cut short", KindPack, "000a 0000000000000001 00", ErrTruncated},
	} {
		m, err := ParseBody(tt.kind, packetHex(t, tt.hex))
		if m != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, error %v; want %v", tt.name, m, err, tt.want)
		}
	}
}

func TestBodiesAppendPanics(t *testing.T) {
	for name, m := range map[string]Body{
		"message number 0":    &Message{Text: "a"},
		"message not UTF-8":   &Message{Number: 1, Text: "\xff"},
		"message too long":    &Message{Number: 1, Text: strings.Repeat("x", MaxBody-8)},
		"message verb 4":      &Message{Number: 1, Verb: 4, Text: "a"},
		"edit of nothing":     &Message{Number: 1, Verb: Edit, Text: "a"},
		"no acks":             &Acks{},
		"acks out of order":   &Acks{Acks: []Ack{{Slot: 2}, {Slot: 1}}},
		"too many acks":       &Acks{Acks: manyAcks(MaxAcks + 1)},
		"notice too long":     &Notice{Number: 1, Length: MaxLongText + 1},
		"range backwards":     &RepairRequest{Ranges: []Range{{2, 1}}},
		"empty pack":          &Pack{},
		"pack of an empty":    &Pack{Messages: []Message{{Number: 1}}},
		"pack over a packet":  &Pack{Messages: []Message{{Number: 1, Text: strings.Repeat("x", 600)}, {Number: 2, Text: strings.Repeat("x", 600)}}},
		"entry over a packet": &LogEntry{Entry: make([]byte, MaxBody+1)},
	} {
		if !panics(func() { AppendBody(nil, m) }) {
			t.Errorf("%s: appended, want a panic", name)
		}
	}
	if panics(func() { AppendBody(nil, &Acks{Acks: manyAcks(MaxAcks)}) }) {
		t.Errorf("%d acks: panic, want them to fit", MaxAcks)
	}
}

func manyAcks(n int) []Ack {
	acks := make([]Ack, n)
	for i := range acks {
		acks[i].Slot = uint16(i)
	}
	return acks
}

func panics(f func()) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	f()
	return
}

func packetHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("hex %q: %v", s, err)
	}
	return b
}

func TestMessageLenAndMaxText(t *testing.T) {
	for _, m := range []Message{{Number: 1, Text: "a"}, {Number: 1, Text: "ab", Ref: ref(1)}, {Number: 1, Verb: Delete, Ref: ref(1)}} {
		if got, want := m.Len(), len(AppendBody(nil, &m)); got != want {
			t.Errorf("%+v: Len %d, want %d", m, got, want)
		}
		if m.Verb == Delete {
			continue
		}
		m.Text = strings.Repeat("x", m.MaxText())
		if got := len(AppendBody(nil, &m)); got != MaxBody {
			t.Errorf("%+v with MaxText: %d bytes, want %d", m.Ref, got, MaxBody)
		}
	}
}

var plainTable = []struct {
	name  string
	plain Plain
	size  int
}{
	{"empty-leave", Plain{Slot: 1, Seq: 2, Clock: 3, Kind: KindLeave, Body: make([]byte, 8)}, 128},
	{"reliable", Plain{Slot: 0x0102, Seq: 0x030405060708090a, Clock: 0x0b0c0d0e0f101112, Kind: KindMessage, Reliable: true, Body: bytes.Repeat([]byte{0xaa}, 106)}, 128},
	{"fast", Plain{Seq: 1, Kind: KindMessage, Body: bytes.Repeat([]byte{0xaa}, 107)}, 256},
	{"reliable-pack", Plain{Seq: 1, Kind: KindPack, Reliable: true, Body: bytes.Repeat([]byte{0xaa}, 235)}, 512},
	{"reliable-notice", Plain{Seq: 1, Kind: KindNotice, Reliable: true, Body: bytes.Repeat([]byte{0xaa}, 491)}, 1086},
	{"full", Plain{Seq: ^uint64(0), Kind: KindLogEntry, Body: bytes.Repeat([]byte{0xaa}, MaxBody)}, 1086},
	{"burst-of-2", Plain{Seq: 1, Kind: KindMessage, Body: bytes.Repeat([]byte{0xaa}, 73), Proof: &Proof{Index: 1, Path: []Hash{hash(0x40)}}}, 128},
	{"burst-of-4", Plain{Seq: 1, Kind: KindPack, Reliable: true, Body: bytes.Repeat([]byte{0xaa}, 10), Proof: &Proof{Index: 2, Path: []Hash{hash(0x40), hash(0x60)}}}, 128},
	{"burst-of-16", Plain{Seq: 1, Kind: KindPack, Reliable: true, Body: bytes.Repeat([]byte{0xaa}, MaxBurstBody), Proof: &Proof{Index: 15, Path: []Hash{hash(1), hash(2), hash(3), hash(4)}}}, 1086},
}

func TestPlain(t *testing.T) {
	var got []vectors.Vector
	for _, tt := range plainTable {
		b := tt.plain.Append([]byte("before"))[len("before"):]
		got = append(got, vectors.Vector{Name: tt.name, Bytes: b})
		if len(b) != tt.size {
			t.Errorf("%s: %d bytes, want %d", tt.name, len(b), tt.size)
		}
		p, err := ParsePlain(b)
		if err != nil || !reflect.DeepEqual(p, &tt.plain) {
			t.Errorf("%s: parsed %+v, %v", tt.name, p, err)
		}
		for n := range b {
			if p, err := ParsePlain(b[:n]); err == nil || p != nil {
				t.Errorf("%s: %d of %d bytes parsed", tt.name, n, len(b))
			}
		}
		if p, err := ParsePlain(append(bytes.Clone(b), 0)); err == nil || p != nil {
			t.Errorf("%s: one byte more parsed", tt.name)
		}
	}
	vectors.Check(t, "room-plaintext.hex", "Plaintexts of room packets, without signature; bodies are filled with aa.", got)
}

func TestPlainRefused(t *testing.T) {
	base := Plain{Slot: 1, Seq: 2, Clock: 3, Kind: KindMessage, Body: []byte("123456789a")}
	for _, tt := range []struct {
		name   string
		change func([]byte) []byte
		want   error
	}{
		{"kind 0", setByte(18, 0), ErrType},
		{"kind 9", setByte(18, 9), ErrType},
		{"reserved flag", setByte(19, 4), ErrReserved},
		{"reliable beacon", func(b []byte) []byte { b[18], b[19] = byte(KindBeacon), 1; return b }, ErrReserved},
		{"seq 0", func(b []byte) []byte { clear(b[2:10]); return b }, ErrValue},
		{"padding not zero", setByte(127, 1), ErrReserved},
		{"length over the packet", setByte(21, 107), ErrTruncated},
		{"length over the limit", setByte(20, 0xff), ErrTooLong},
		{"more padding than needed", func(b []byte) []byte { return append(b, make([]byte, 128)...) }, ErrValue},
		{"no padding", func(b []byte) []byte { return b[:32] }, ErrValue},
		{"of a burst without a proof", setByte(19, 2), ErrValue},
	} {
		p, err := ParsePlain(tt.change(base.Append(nil)))
		if p != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, error %v; want %v", tt.name, p, err, tt.want)
		}
	}
	base.Proof = &Proof{Index: 3, Path: []Hash{hash(1), hash(2)}}
	for _, tt := range []struct {
		name   string
		change func([]byte) []byte
		want   error
	}{
		{"packet 4 of a burst of 4", setByte(127, 0x24), ErrValue},
		{"a burst of 1", setByte(127, 0x00), ErrValue},
		{"a burst of 32", setByte(127, 0x50), ErrValue},
		{"length into the proof", setByte(21, 42), ErrTruncated},
		{"length over the limit", func(b []byte) []byte { binary.BigEndian.PutUint16(b[20:], MaxBody-64); return b }, ErrTooLong},
		{"padding not zero", setByte(62, 1), ErrReserved},
		{"beacon", setByte(18, byte(KindBeacon)), ErrReserved},
		{"proof over the packet", func(b []byte) []byte { b[50] = 0x10; return b[:51] }, ErrTruncated},
		{"more padding than needed", func(b []byte) []byte { return slices.Insert(b, 62, make([]byte, 128)...) }, ErrValue},
		{"no proof", setByte(19, 0), ErrReserved},
	} {
		p, err := ParsePlain(tt.change(base.Append(nil)))
		if p != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, error %v; want %v", tt.name, p, err, tt.want)
		}
	}
	for name, p := range map[string]Plain{
		"kind 0":          {Seq: 1},
		"seq 0":           {Kind: KindMessage},
		"reliable beacon": {Seq: 1, Kind: KindBeacon, Reliable: true},
		"body too long":   {Seq: 1, Kind: KindMessage, Body: make([]byte, MaxBody+1)},
		"beacons at once": {Seq: 1, Kind: KindBeacon, Proof: &Proof{Path: make([]Hash, 1)}},
		"no burst":        {Seq: 1, Kind: KindMessage, Proof: &Proof{}},
		"burst of 32":     {Seq: 1, Kind: KindMessage, Proof: &Proof{Path: make([]Hash, 5)}},
		"third of two":    {Seq: 1, Kind: KindMessage, Proof: &Proof{Index: 2, Path: make([]Hash, 1)}},
		"no room for it":  {Seq: 1, Kind: KindMessage, Body: make([]byte, MaxBurstBody+1), Proof: &Proof{Path: make([]Hash, 4)}},
	} {
		if !panics(func() { p.Append(nil) }) {
			t.Errorf("%s: appended, want a panic", name)
		}
	}
}

func setByte(i int, v byte) func([]byte) []byte {
	return func(b []byte) []byte { b[i] = v; return b }
}

func TestPacketHeader(t *testing.T) {
	h := PacketHeader{KeyID: KeyID(ref(1)), Nonce: [24]byte{23: 9}}
	head := h.Append(nil)
	if want := "1100010203040506070800000000000000000000000000000000000000000000" + "0009"; fmt.Sprintf("%x", head) != want {
		t.Errorf("got %x, want %s", head, want)
	}
	for n := range 1500 {
		packet := append(bytes.Clone(head), make([]byte, 1500)...)[:n]
		got, err := ParsePacketHeader(packet)
		switch n {
		case 242, 370, 626, 1200: // 34 + {128, 256, 512, 1086} + 64 + 16
			if err != nil || got != h {
				t.Errorf("%d bytes: %+v, %v", n, got, err)
			}
		default:
			if err == nil || got != (PacketHeader{}) {
				t.Errorf("%d bytes accepted", n)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		change func([]byte) []byte
		want   error
	}{
		{"another type", setByte(0, 0x21), ErrType},
		{"another version", setByte(0, 0x12), ErrVersion},
		{"reserved byte", setByte(1, 1), ErrReserved},
	} {
		if _, err := ParsePacketHeader(tt.change(append(bytes.Clone(head), make([]byte, 242-34)...))); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestClock(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	at := Clock(1_000_000 << 16)
	if got := Clock(0).Next(now); got != at {
		t.Errorf("first: %x, want %x", got, at)
	}
	if got := at.Next(now); got != at+1 {
		t.Errorf("same millisecond: %x, want %x", got, at+1)
	}
	if got := at.Next(now.Add(-time.Hour)); got != at+1 {
		t.Errorf("clock set back: %x, want %x", got, at+1)
	}
	if got := (at | 0xffff).Next(now); got != ClockAt(now.Add(time.Millisecond)) {
		t.Errorf("counter full: %x, want the next millisecond", got)
	}
	if got := at.Merge(now, at+7); got != at+7 {
		t.Errorf("merge with a later one: %x, want %x", got, at+7)
	}
	if got := at.Merge(now, at-7); got != at {
		t.Errorf("merge with an earlier one: %x, want %x", got, at)
	}
	if got := at.Merge(now, ClockAt(now.Add(MaxClockAhead))); got != ClockAt(now.Add(MaxClockAhead)) {
		t.Errorf("merge with one %v ahead: %x, want to follow", MaxClockAhead, got)
	}
	if got := at.Merge(now, ClockAt(now.Add(MaxClockAhead))+1); got != at {
		t.Errorf("merge with one too far ahead: %x, want %x", got, at)
	}
	if got := Clock(^uint64(0)).Next(now); got != ^Clock(0) {
		t.Errorf("at the end: %x, want to stay", got)
	}
	if got := at.Time(); !got.Equal(now) {
		t.Errorf("time %v, want %v", got, now)
	}
	if got := ClockAt(time.UnixMilli(-5)); got != 0 {
		t.Errorf("before 1970: %x, want 0", got)
	}
}

func FuzzPlain(f *testing.F) {
	for _, tt := range plainTable {
		f.Add(tt.plain.Append(nil))
	}
	for _, tt := range bodyTable {
		f.Add((&Plain{Seq: 1, Kind: tt.body.Kind(), Body: AppendBody(nil, tt.body)}).Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePlain(b)
		if err != nil {
			return
		}
		if again := p.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("appended again:\n got %x\nwant %x", again, b)
		}
		m, err := ParseBody(p.Kind, p.Body)
		if err != nil {
			return
		}
		if again := AppendBody(nil, m); !bytes.Equal(again, p.Body) {
			t.Fatalf("body appended again:\n got %x\nwant %x", again, p.Body)
		}
	})
}

func FuzzPacketHeader(f *testing.F) {
	h := PacketHeader{KeyID: KeyID(ref(1))}
	f.Add(append(h.Append(nil), make([]byte, 242-34)...))
	f.Add(h.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParsePacketHeader(b)
		if err != nil {
			return
		}
		if again := h.Append(nil); !bytes.Equal(again, b[:PacketHeaderSize]) {
			t.Fatalf("appended again:\n got %x\nwant %x", again, b[:PacketHeaderSize])
		}
	})
}

// What tells that all of a body came before, without parsing it.
func TestLastNumber(t *testing.T) {
	message := func(n uint64) Message { return Message{Number: n, Text: "hi"} }
	one := message(7)
	for _, tt := range []struct {
		name string
		body Body
		want uint64
		ok   bool
	}{
		{"message", &one, 7, true},
		{"notice", &Notice{Number: 8, Length: 1}, 8, true},
		{"pack", &Pack{Messages: []Message{message(3), message(4), message(5)}}, 5, true},
		{"beacon", &Beacon{Reliable: 9}, 0, false},
	} {
		p := Plain{Kind: tt.body.Kind(), Body: AppendBody(nil, tt.body)}
		if n, ok := p.LastNumber(); n != tt.want || ok != tt.ok {
			t.Errorf("%s: got %d, %v, want %d, %v", tt.name, n, ok, tt.want, tt.ok)
		}
		if pack, is := tt.body.(*Pack); is {
			size := 0
			for i := range pack.Messages {
				size += PackSize(&pack.Messages[i])
			}
			if size != len(p.Body) {
				t.Errorf("%s: PackSize says %d of %d bytes", tt.name, size, len(p.Body))
			}
		}
	}
	for _, body := range [][]byte{nil, make([]byte, 7)} {
		if _, ok := (&Plain{Kind: KindMessage, Body: body}).LastNumber(); ok {
			t.Errorf("a body of %d bytes has a number", len(body))
		}
	}
	if _, ok := (&Plain{Kind: KindPack, Body: []byte{0, 99, 1}}).LastNumber(); ok {
		t.Error("a pack that is cut off has a number")
	}
}
