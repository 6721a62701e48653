package room

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"lanchat/testdata/vectors"
	"lanchat/wire"
)

// testEpoch returns an epoch in which ann has slot 0 and bob slot 1, made of
// fixed values only.
func testEpoch(t testing.TB) *Epoch {
	room := wire.RoomID(bytes.Repeat([]byte{0x11}, 32))
	secret := Secret(bytes.Repeat([]byte{0x22}, 32))
	info := &EpochInfo{Number: 2, Seq: 1, Entry: wire.Hash(bytes.Repeat([]byte{0x33}, 32)), Commit: Commit(room, secret)}
	for _, n := range []string{"ann", "bob"} {
		id := who(n)
		info.Slots = append(info.Slots, Slot{Account: id.Account, Key: id.Device(), Device: id.Device().Device()})
	}
	e, err := NewEpoch(testRealm, room, info, secret)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func testPlain() *wire.Plain {
	return &wire.Plain{Slot: 1, Seq: 7, Clock: 8, Kind: wire.KindMessage, Reliable: true, Body: wire.AppendBody(nil, &wire.Message{Number: 1, Text: "hi"})}
}

func testNonce() (n [wire.NonceSize]byte) {
	for i := range n {
		n[i] = byte(i)
	}
	return n
}

// The derivations and layouts of the protocol, as known answers.
func TestKeyVectors(t *testing.T) {
	e := testEpoch(t)
	bob := who("bob")
	packet, signed := e.Seal(bob.Key, testPlain(), testNonce())
	keyID := e.KeyID()
	commit := Commit(e.room, e.secret)
	admit := &wire.LogAdmit{Account: who("cat").Account, Name: "cat", Devices: personOf("cat").Devices}
	next := Step(e.room, e.Entry(), e.secret, admit)
	key := bob.Device()
	vectors.Check(t, "room-keys.hex", `The keys of an epoch and a packet in it: room id 11…, epoch secret 22…, hash of
the epoch's entry 33… (32 bytes each), nonce 000102…17, slot 1, seq 7, clock 8, reliable.
bob-seed and bob-key are the sender's device key; admit are the arguments of an
ADMIT, next is the epoch secret it begins with.`, []vectors.Vector{
		{Name: "realm", Bytes: testRealm[:]},
		{Name: "bob-seed", Bytes: bob.Key.Seed()},
		{Name: "bob-key", Bytes: key[:]},
		{Name: "commit", Bytes: commit[:]},
		{Name: "k-msg", Bytes: expand(e.secret[:], "lc1 msg", e.room[:], e.info.Entry[:], 32)},
		{Name: "key-id", Bytes: keyID[:]},
		{Name: "join", Bytes: expand(e.secret[:], "lc1 join", e.room[:], e.info.Entry[:], 32)},
		{Name: "admit", Bytes: wire.AppendArgs(nil, admit)},
		{Name: "next", Bytes: next[:]},
		{Name: "signed-plaintext", Bytes: signed},
		{Name: "packet", Bytes: packet},
	})
}

func TestSealOpen(t *testing.T) {
	e := testEpoch(t)
	packet, signed := e.Seal(who("bob").Key, testPlain(), testNonce())
	if len(packet) != 242 {
		t.Errorf("%d bytes, want 242", len(packet))
	}
	o, err := e.Open(packet)
	if err != nil {
		t.Fatal(err)
	}
	if o.From.Account != who("bob").Account || o.Seq != 7 || o.Clock != 8 || !o.Reliable || !bytes.Equal(o.Signed, signed) {
		t.Errorf("opened %+v", o)
	}
	if err := o.Verify(); err != nil {
		t.Error(err)
	}
	m, err := o.Parse()
	if msg, ok := m.(*wire.Message); err != nil || !ok || msg.Text != "hi" {
		t.Errorf("body %+v, %v", m, err)
	}
	// History hands on the signed plaintext.
	h, err := OpenSigned(testRealm, e.Room(), e.Info(), signed)
	if err != nil || h.Verify() != nil || h.From != o.From {
		t.Errorf("from history: %+v, %v, %v", h, err, h.Verify())
	}
	clear(packet)
	if err := o.Verify(); err != nil {
		t.Error("the result aliases the packet")
	}
}

func TestOpenRefused(t *testing.T) {
	e := testEpoch(t)
	bob := who("bob")
	packet, signed := e.Seal(bob.Key, testPlain(), testNonce())
	// "bit flips, truncation": not one gets through.
	for i := range packet {
		bad := bytes.Clone(packet)
		bad[i] ^= 1
		if o, err := e.Open(bad); err == nil || o != nil {
			t.Errorf("byte %d changed: opened", i)
		}
		if o, err := e.Open(packet[:i]); err == nil || o != nil {
			t.Errorf("%d bytes: opened", i)
		}
	}
	// "insider signs as another": ann seals in bob's slot.
	ann := who("ann")
	forged, _ := e.Seal(ann.Key, testPlain(), testNonce())
	o, err := e.Open(forged)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Verify(); !errors.Is(err, ErrSignature) {
		t.Errorf("signed by ann as bob: %v, want %v", err, ErrSignature)
	}
	// A slot that is not in the device table.
	p := testPlain()
	p.Slot = 2
	wrong, _ := e.Seal(bob.Key, p, testNonce())
	if _, err := e.Open(wrong); !errors.Is(err, ErrSlot) {
		t.Errorf("slot 2 of 2: %v, want %v", err, ErrSlot)
	}
	// "re-encrypts another's packet with new nonce": the same seq, so the
	// replay window drops it; and in another epoch or room it is not signed.
	var w Replay
	again, _ := e.Open(packet)
	if !w.Mark(again.Seq) || w.Mark(again.Seq) {
		t.Error("the second packet with one seq is not a replay")
	}
	other := *e.info
	other.Entry[0]++
	if h, err := OpenSigned(testRealm, e.Room(), &other, signed); err != nil || !errors.Is(h.Verify(), ErrSignature) {
		t.Errorf("in another epoch: %v, want %v", err, ErrSignature)
	}
	if h, err := OpenSigned(testRealm, wire.RoomID{}, e.info, signed); err != nil || !errors.Is(h.Verify(), ErrSignature) {
		t.Errorf("in another room: %v, want %v", err, ErrSignature)
	}
	if h, err := OpenSigned(wire.RealmID{}, e.Room(), e.info, signed); err != nil || !errors.Is(h.Verify(), ErrSignature) {
		t.Errorf("in another realm: %v, want %v", err, ErrSignature)
	}
	for n := range signed {
		if _, err := OpenSigned(testRealm, e.Room(), e.info, signed[:n]); err == nil {
			t.Errorf("%d of %d bytes of a signed plaintext opened", n, len(signed))
		}
	}
	if _, err := NewEpoch(testRealm, e.Room(), e.info, Secret{1}); !errors.Is(err, ErrCommitted) {
		t.Errorf("another secret: %v, want %v", err, ErrCommitted)
	}
}

// "two concurrent ADMITs of different people give different secrets"
func TestStepIsBoundToWhoEnters(t *testing.T) {
	e := testEpoch(t)
	step := func(args wire.Args) Secret { return Step(e.room, e.Entry(), e.secret, args) }
	a := step(&wire.LogAdmit{Account: who("cat").Account, Devices: personOf("cat").Devices})
	b := step(&wire.LogAdmit{Account: who("dan").Account, Devices: personOf("dan").Devices})
	if a == b || a == e.secret {
		t.Error("two ADMITs step to one secret")
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	s := Secret{0xab, 0xcd}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "secret", s, "in", EpochSecret{Secret: s}, "ptr", &s)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "secret", s, "in", EpochSecret{Secret: s})
	fmt.Fprintf(&b, "%v %+v %#v %s %x %d %q %v %+v %#v", s, s, s, s, s, s, s, EpochSecret{Secret: s}, Act{Secret: s}, &Act{Secret: s})
	j, err := json.Marshal(map[string]any{"s": s, "a": []Secret{s}})
	if err != nil {
		t.Fatal(err)
	}
	b.Write(j)
	for _, leak := range []string{"abcd", "ABCD", "171", "0xab", "q80"} {
		if strings.Contains(b.String(), leak) {
			t.Errorf("%q in %s", leak, b.String())
		}
	}
	if s.Wipe(); s != (Secret{}) {
		t.Error("not wiped")
	}
}

func FuzzOpen(f *testing.F) {
	e := testEpoch(f)
	packet, signed := e.Seal(who("bob").Key, testPlain(), testNonce())
	f.Add(packet, false)
	f.Add(packet[:len(packet)-1], false)
	f.Add(signed, true)
	f.Add(signed[:len(signed)-64], true)
	ps, nonces := testBurst(4)
	packets, burst := e.SealBurst(who("bob").Key, ps, nonces)
	made := append(burst, signed)
	f.Add(packets[1], false)
	f.Add(burst[3], true)
	f.Fuzz(func(t *testing.T, b []byte, resealed bool) {
		before := slices.Clone(b)
		var o *Opened
		var err error
		if resealed { // what an insider can send: anything, properly sealed
			var h wire.PacketHeader
			h.KeyID = e.keyID
			head := h.Append(nil)
			o, err = e.Open(e.aead.Seal(head, h.Nonce[:], b, head))
		} else {
			o, err = e.Open(b)
		}
		if !bytes.Equal(before, b) {
			t.Fatal("Open changed the packet")
		}
		if err != nil {
			if o != nil {
				t.Fatal("a result beside an error")
			}
			return
		}
		if again := o.Plain.Append(nil); !bytes.Equal(again, o.Signed[:len(o.Signed)-wire.SignatureSize]) {
			t.Fatalf("appended again:\n got %x\nwant %x", again, o.Signed)
		}
		if o.Verify() == nil && !slices.ContainsFunc(made, func(b []byte) bool { return bytes.Equal(b, o.Signed) }) {
			t.Fatalf("a signature nobody made: %x", o.Signed)
		}
		if m, err := o.Parse(); err == nil && !bytes.Equal(wire.AppendBody(nil, m), o.Body) {
			t.Fatalf("body %x appended again is another", o.Body)
		}
	})
}

func BenchmarkOpenVerify(b *testing.B) {
	e := testEpoch(b)
	packet, _ := e.Seal(who("bob").Key, testPlain(), testNonce())
	for b.Loop() {
		o, err := e.Open(packet)
		if err != nil || o.Verify() != nil {
			b.Fatal(err)
		}
	}
}
