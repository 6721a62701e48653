package wire

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"reflect"
	"strings"
	"testing"

	"lanchat/testdata/vectors"
)

// A fixed realm and key, so that signatures are known answers too.
var (
	entryRealm = RealmID(hash(0xa0))
	entryKey   = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
)

func deviceKey(n byte) DeviceKey { return DeviceKey(hash(n)) }

func account(n byte) (a AccountID) {
	for i := range a {
		a[i] = n
	}
	return a
}

var argsTable = []struct {
	name string
	args Args
	hex  string
}{
	{"create", &LogCreate{Policy: PolicyPrivate | PolicyTopic, Account: account(1), Creator: "ann", Keys: []DeviceKey{deviceKey(0x20)}, Name: "lab"},
		"05 01010101010101010101010101010101 03 616e6e 01" + key20 + "03 6c6162"},
	{"admit", &LogAdmit{Account: account(2), Name: "bob", Devices: []Device{{Key: deviceKey(0x20), Cert: hash(0x40)}}},
		two + "03 626f62 01" + key20 + hash40},
	{"admit-eight", &LogAdmit{Account: account(2), Devices: eightDevices()}, ""},
	{"kick", &LogKick{Account: account(2), Reason: "rude", Marks: []Mark{{Key: deviceKey(0x20), Number: 9}}},
		two + "04 72756465 01" + key20 + "0000000000000009"},
	{"ban", &LogBan{Account: account(2), Until: 5, Reason: "x"}, two + "0000000000000005 01 78 00"},
	{"unban", &LogUnban{Account: account(2)}, two},
	{"leave", &LogLeave{}, ""},
	{"left", &LogLeft{Account: account(2), Marks: []Mark{{Key: deviceKey(0x20), Number: 9}}}, two + "01" + key20 + "0000000000000009"},
	{"transfer", &LogTransfer{Account: account(2)}, two},
	{"promote", &LogPromote{Account: account(2)}, two},
	{"demote", &LogDemote{Account: account(2)}, two},
	{"silence", &LogSilence{Account: account(2), Until: 6}, two + "0000000000000006"},
	{"unsilence", &LogUnsilence{Account: account(2)}, two},
	{"claim", &LogClaim{}, ""},
	{"rekey", &LogRekey{}, "00"},
	{"rekey-without", &LogRekey{Without: []DeviceID{{1}, {2}}}, "02 0100000000000000 0200000000000000"},
	{"settings", &LogSettings{Policy: PolicyHistory, Name: "lab", Topic: "today"}, "02 03 6c6162 0005 746f646179"},
	{"device-add", &LogDevice{Account: account(2), Key: deviceKey(0x20), Cert: hash(0x40)}, two + "00" + key20 + hash40 + "0000000000000000"},
	{"device-remove", &LogDevice{Account: account(2), Remove: true, Key: deviceKey(0x20), Number: 3}, two + "01" + key20 + strings.Repeat("00", 32) + "0000000000000003"},
	{"resolve-uphold", &LogResolve{Removal: hash(0x40), Account: account(2), Uphold: true, Marks: []Mark{{Key: deviceKey(0x20), Number: 9}}},
		hash40 + two + "01 01" + key20 + "0000000000000009"},
	{"resolve-dismiss", &LogResolve{Removal: hash(0x40), Account: account(2)}, hash40 + two + "00 00"},
}

const (
	two    = "02020202020202020202020202020202"
	key20  = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
	hash40 = "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
)

func eightDevices() (devices []Device) {
	for i := range byte(MaxDevices) {
		devices = append(devices, Device{Key: deviceKey(i), Cert: hash(0x80 + i)})
	}
	return devices
}

// entryOf returns an entry with args whose other fields are fixed.
func entryOf(args Args) *Entry {
	e := Entry{AuthorN: 1, Time: 1_700_000_000_000, Args: args}
	if args.Op() != OpCreate {
		e.Room, e.Seq, e.Prev, e.AuthorN = RoomID(hash(0x60)), 7, hash(0x61), 3
	}
	if args.Op() == OpKick {
		e.Commit = hash(0x62)
	}
	return SignEntry(entryRealm, entryKey, e)
}

func TestEntries(t *testing.T) {
	var got []vectors.Vector
	for _, tt := range argsTable {
		args := AppendArgs([]byte("before"), tt.args)[len("before"):]
		if want := strings.ReplaceAll(tt.hex, " ", ""); tt.name != "admit-eight" && !bytes.Equal(args, packetHex(t, want)) {
			t.Errorf("%s: arguments %x, want %s", tt.name, args, want)
		}
		e := entryOf(tt.args)
		b := e.Append([]byte("before"))[len("before"):]
		got = append(got, vectors.Vector{Name: tt.name, Bytes: b})
		if len(b) != 220+len(args) || !bytes.Equal(b[156:156+len(args)], args) {
			t.Errorf("%s: entry of %d bytes, want 220 + %d with the arguments at 156", tt.name, len(b), len(args))
		}
		if e.Hash() != sha256.Sum256(b) {
			t.Errorf("%s: hash %v, want SHA-256 of the entry", tt.name, e.Hash())
		}
		p, err := ParseEntry(b)
		if err != nil || !reflect.DeepEqual(p, e) {
			t.Errorf("%s: parsed %+v, %v; want %+v", tt.name, p, err, e)
			continue
		}
		if err := p.Verify(entryRealm); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		for n := range b {
			if p, err := ParseEntry(b[:n]); err == nil || p != nil {
				t.Errorf("%s: %d of %d bytes parsed", tt.name, n, len(b))
			}
		}
		if p, err := ParseEntry(append(bytes.Clone(b), 0)); err == nil || p != nil {
			t.Errorf("%s: one byte more parsed", tt.name)
		}
		for n := range args {
			if a, err := ParseArgs(tt.args.Op(), args[:n]); err == nil || a != nil {
				t.Errorf("%s: %d of %d bytes of arguments parsed", tt.name, n, len(args))
			}
		}
		if a, err := ParseArgs(tt.args.Op(), append(bytes.Clone(args), 0)); err == nil || a != nil {
			t.Errorf("%s: arguments with one byte more parsed", tt.name)
		}
	}
	vectors.Check(t, "log-entry.hex", `Entries of a room's log, signed by the key with seed 07 … 07 (32 times)
in the realm a0a1a2…bf.`, got)
}

// "Where the author acts for another who asked for it, that person's account id."
func TestEntryFor(t *testing.T) {
	base := Entry{Room: RoomID(hash(0x60)), Seq: 7, Prev: hash(0x61), AuthorN: 3, Commit: hash(0x62), Args: &LogKick{Account: account(2), Reason: "rude"}}
	plain := SignEntry(entryRealm, entryKey, base)
	base.For = account(9)
	e := SignEntry(entryRealm, entryKey, base)
	b := e.Append(nil)
	if len(b) != len(plain.Append(nil))+16 {
		t.Errorf("%d bytes, %d without", len(b), len(plain.Append(nil)))
	}
	if p, err := ParseEntry(b); err != nil || !reflect.DeepEqual(p, e) || p.For != account(9) {
		t.Errorf("parsed %+v, %v", p, err)
	}
	for n := range b {
		if p, err := ParseEntry(b[:n]); err == nil || p != nil {
			t.Errorf("%d of %d bytes parsed", n, len(b))
		}
	}
	// Nobody has one spelling: nothing.
	zero := bytes.Clone(b)
	clear(zero[len(b)-SignatureSize-16 : len(b)-SignatureSize])
	if _, err := ParseEntry(zero); !errors.Is(err, ErrValue) {
		t.Errorf("for account zero: %v", err)
	}
	// A CREATE is nobody else's.
	first := entryOf(argsTable[0].args).Append(nil)
	long := append(bytes.Clone(first[:len(first)-SignatureSize]), make([]byte, 16+SignatureSize)...)
	long[len(first)-SignatureSize] = 1
	long[155] += 16
	if _, err := ParseEntry(long); err == nil {
		t.Error("a CREATE for somebody else parsed")
	}
}

func TestEntryRoomID(t *testing.T) {
	first := entryOf(argsTable[0].args)
	if got := first.RoomID(); got != RoomID(first.Hash()) {
		t.Errorf("CREATE: %v, want the entry's hash", got)
	}
	if got := entryOf(&LogClaim{}).RoomID(); got != RoomID(hash(0x60)) {
		t.Errorf("CLAIM: %v, want the room in it", got)
	}
}

func TestEntrySignature(t *testing.T) {
	e := entryOf(&LogClaim{})
	if err := e.Verify(RealmID{}); !errors.Is(err, ErrSignature) {
		t.Errorf("another realm: %v, want %v", err, ErrSignature)
	}
	// Everything but the signature itself is covered by it.
	b := e.Append(nil)
	for i := range b {
		changed := bytes.Clone(b)
		changed[i] ^= 0x10
		p, err := ParseEntry(changed)
		if err != nil {
			continue
		}
		if err := p.Verify(entryRealm); !errors.Is(err, ErrSignature) {
			t.Errorf("byte %d changed: %v, want %v", i, err, ErrSignature)
		}
	}
	// A signature under another context is none here.
	unsigned := b[:len(b)-SignatureSize]
	sig, err := entryKey.Sign(nil, realmMessage(entryRealm, unsigned), &ed25519.Options{Context: PacketContext})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParseEntry(append(bytes.Clone(unsigned), sig...))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(entryRealm); !errors.Is(err, ErrSignature) {
		t.Errorf("another context: %v, want %v", err, ErrSignature)
	}
}

func TestEntriesRefused(t *testing.T) {
	claim := entryOf(&LogClaim{})
	create := entryOf(argsTable[0].args)
	zero := func(from, to int) func([]byte) []byte {
		return func(b []byte) []byte { clear(b[from:to]); return b }
	}
	for _, tt := range []struct {
		name   string
		entry  *Entry
		change func([]byte) []byte
		want   error
	}{
		{"version 0", claim, setByte(0, 0), ErrVersion},
		{"version 2", claim, setByte(0, 2), ErrVersion},
		{"op 0", claim, setByte(1, 0), ErrType},
		{"VACATE", claim, setByte(1, 18), ErrType},
		{"notary", claim, setByte(1, 19), ErrType},
		{"no room", claim, zero(2, 34), ErrValue},
		{"seq 0", claim, zero(34, 42), ErrValue},
		{"no predecessor", claim, zero(42, 74), ErrValue},
		{"author_n 0", claim, zero(106, 114), ErrValue},
		{"CREATE in a room", create, setByte(2, 1), ErrValue},
		{"CREATE with a number", create, setByte(41, 1), ErrValue},
		{"CREATE with a predecessor", create, setByte(42, 1), ErrValue},
		{"arguments too long", claim, setByte(154, 4), ErrTooLong},
		{"arguments cut short", claim, setByte(155, 65), ErrTruncated},
	} {
		p, err := ParseEntry(tt.change(tt.entry.Append(nil)))
		if p != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
	for _, tt := range []struct {
		name string
		op   Op
		hex  string
		want error
	}{
		{"CREATE with a reserved policy", OpCreate, "08" + two + "00 01" + key20 + "01 61", ErrReserved},
		{"CREATE without devices", OpCreate, "00" + two + "00 00 01 61", ErrValue},
		{"CREATE without a name", OpCreate, "00" + two + "00 01" + key20 + "00", ErrValue},
		{"CREATE with a device twice", OpCreate, "00" + two + "00 02" + key20 + key20 + "01 61", ErrValue},
		{"CREATE with nine devices", OpCreate, "00" + two + "00 09", ErrTooLong},
		{"name not UTF-8", OpCreate, "00" + two + "00 01" + key20 + "01 ff", ErrUTF8},
		{"ADMIT without devices", OpAdmit, two + "00 00", ErrValue},
		{"ADMIT with a device twice", OpAdmit, two + "00 02" + key20 + hash40 + key20 + hash40, ErrValue},
		{"KICK with a long reason", OpKick, two + "c9" + strings.Repeat("61", 201) + "00", ErrTooLong},
		{"KICK with nine marks", OpKick, two + "00 09", ErrTooLong},
		{"REKEY without a device twice", OpRekey, "02 0100000000000000 0100000000000000", ErrValue},
		{"REKEY out of order", OpRekey, "02 0200000000000000 0100000000000000", ErrValue},
		{"REKEY without too many", OpRekey, "65", ErrTooLong},
		{"SETTINGS without a name", OpSettings, "00 00 0000", ErrValue},
		{"SETTINGS with a reserved policy", OpSettings, "80 01 61 0000", ErrReserved},
		{"DEVICE added with a mark", OpDevice, two + "00" + key20 + hash40 + "0000000000000001", ErrValue},
		{"DEVICE removed with a certificate", OpDevice, two + "01" + key20 + hash40 + "0000000000000001", ErrValue},
		{"DEVICE neither added nor removed", OpDevice, two + "02" + key20 + hash40 + "0000000000000000", ErrValue},
		{"RESOLVE dismissed with marks", OpResolve, hash40 + two + "00 01" + key20 + "0000000000000001", ErrValue},
	} {
		a, err := ParseArgs(tt.op, packetHex(t, tt.hex))
		if a != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestEntriesAppendPanics(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, a := range map[string]Args{
		"CREATE without devices": &LogCreate{Name: "a"},
		"CREATE without a name":  &LogCreate{Keys: []DeviceKey{deviceKey(1)}},
		"CREATE with a policy":   &LogCreate{Policy: 8, Keys: []DeviceKey{deviceKey(1)}, Name: "a"},
		"ADMIT without devices":  &LogAdmit{},
		"ADMIT with nine":        &LogAdmit{Devices: append(eightDevices(), Device{Key: deviceKey(99)})},
		"KICK with a reason":     &LogKick{Reason: long},
		"KICK with nine marks":   &LogKick{Marks: make([]Mark, 9)},
		"REKEY out of order":     &LogRekey{Without: []DeviceID{{2}, {1}}},
		"SETTINGS with a topic":  &LogSettings{Name: "a", Topic: long},
		"DEVICE with a mark":     &LogDevice{Number: 1},
		"RESOLVE with marks":     &LogResolve{Marks: make([]Mark, 1)},
	} {
		if !panics(func() { AppendArgs(nil, a) }) {
			t.Errorf("%s: appended, want a panic", name)
		}
	}
}

func TestSignEntryPanics(t *testing.T) {
	in := Entry{Room: RoomID(hash(1)), Seq: 1, Prev: hash(2), AuthorN: 1}
	for name, change := range map[string]func(e *Entry){
		"no room":          func(e *Entry) { e.Room = RoomID{} },
		"seq 0":            func(e *Entry) { e.Seq = 0 },
		"author_n 0":       func(e *Entry) { e.AuthorN = 0 },
		"reason not UTF-8": func(e *Entry) { e.Args = &LogKick{Reason: "\xff"} },
		"CREATE in a room": func(e *Entry) { e.Args = &LogCreate{Keys: []DeviceKey{deviceKey(1)}, Name: "a"} },
	} {
		e := in
		e.Args = &LogClaim{}
		change(&e)
		if !panics(func() { SignEntry(entryRealm, entryKey, e) }) {
			t.Errorf("%s: signed, want a panic", name)
		}
	}
}

func TestLargestEntryFitsAPacket(t *testing.T) {
	if MaxEntry > MaxBody {
		t.Errorf("an entry has up to %d bytes, a body %d", MaxEntry, MaxBody)
	}
	name, reason, topic := strings.Repeat("x", MaxRoomName), strings.Repeat("x", MaxReason), strings.Repeat("x", MaxTopic)
	hint := strings.Repeat("x", MaxNameHint)
	var keys []DeviceKey
	var marks []Mark
	for _, d := range eightDevices() {
		keys = append(keys, d.Key)
		marks = append(marks, Mark{Key: d.Key})
	}
	without := make([]DeviceID, MaxWithout)
	for i := range without {
		without[i][0] = byte(i)
	}
	for _, a := range []Args{
		&LogCreate{Creator: hint, Keys: keys, Name: name}, &LogAdmit{Name: hint, Devices: eightDevices()},
		&LogBan{Reason: reason, Marks: marks}, &LogSettings{Name: name, Topic: topic}, &LogRekey{Without: without},
		&LogResolve{Uphold: true, Marks: marks},
	} {
		if n := len(AppendArgs(nil, a)); n > MaxArgs {
			t.Errorf("%v: %d bytes of arguments, at most %d fit", a.Op(), n, MaxArgs)
		}
	}
}

func FuzzEntry(f *testing.F) {
	for _, tt := range argsTable {
		f.Add(entryOf(tt.args).Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b)
		if err != nil {
			return
		}
		again := e.appendUnsigned(nil)
		if !bytes.Equal(again, b[:len(b)-SignatureSize]) || !bytes.Equal(e.Append(nil), b) {
			t.Fatalf("appended again:\n got %x\nwant %x", again, b)
		}
	})
}
