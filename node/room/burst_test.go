package room

import (
	"bytes"
	"errors"
	"testing"

	"lanchat/testdata/vectors"
	"lanchat/wire"
)

// testBurst returns n packets of bob's as testPlain, numbered on, and their nonces.
func testBurst(n int) (ps []*wire.Plain, nonces [][wire.NonceSize]byte) {
	for i := range n {
		p := testPlain()
		p.Seq += uint64(i)
		p.Body = wire.AppendBody(nil, &wire.Message{Number: 1 + uint64(i), Text: "hi"})
		nonce := testNonce()
		nonce[0] = byte(i)
		ps, nonces = append(ps, p), append(nonces, nonce)
	}
	return ps, nonces
}

// Each packet of a burst can be opened and verified without the others, in any
// order, and from history.
func TestBurst(t *testing.T) {
	e := testEpoch(t)
	for _, n := range []int{2, 4, 8, 16} {
		ps, nonces := testBurst(n)
		packets, signed := e.SealBurst(who("bob").Key, ps, nonces)
		var burst Burst
		for i := n - 1; i >= 0; i-- {
			o, err := e.Open(packets[i])
			if err != nil {
				t.Fatalf("packet %d of %d: %v", i, n, err)
			}
			if err := o.Verify(); err != nil || !bytes.Equal(o.Signed, signed[i]) || o.Seq != ps[i].Seq {
				t.Errorf("packet %d of %d: %+v, %v", i, n, o, err)
			}
			b, ok := o.Burst()
			if !ok || i < n-1 && b != burst {
				t.Errorf("packet %d of %d is of another burst", i, n)
			}
			burst = b
			h, err := OpenSigned(testRealm, e.Room(), e.Info(), signed[i])
			if err != nil || h.Verify() != nil {
				t.Errorf("packet %d of %d from history: %v, %v", i, n, err, h.Verify())
			}
		}
	}
	packet, _ := e.Seal(who("bob").Key, testPlain(), testNonce())
	if o, err := e.Open(packet); err != nil {
		t.Fatal(err)
	} else if b, ok := o.Burst(); ok {
		t.Errorf("a packet signed by itself is of %+v", b)
	}
}

// What an insider can seal in another's name: any part of a burst, changed.
func TestBurstForged(t *testing.T) {
	e := testEpoch(t)
	ps, nonces := testBurst(4)
	_, signed := e.SealBurst(who("bob").Key, ps, nonces)
	good, err := OpenSigned(testRealm, e.Room(), e.Info(), signed[1])
	if err != nil {
		t.Fatal(err)
	}
	burst, _ := good.Burst()
	refused, same := 0, 0
	for i := range signed[1] {
		bad := bytes.Clone(signed[1])
		bad[i] ^= 1
		o, err := OpenSigned(testRealm, e.Room(), e.Info(), bad)
		if err != nil {
			refused++
			continue
		}
		if err := o.Verify(); !errors.Is(err, ErrSignature) {
			t.Errorf("byte %d changed: %v, want %v", i, err, ErrSignature)
		}
		if b, ok := o.Burst(); ok && b == burst {
			same++
		}
	}
	if refused == 0 || same > 0 {
		t.Errorf("%d changes refused by their form, %d taken for what was verified", refused, same)
	}
	// One's own packet beside the path of another's, and an inner node as a leaf.
	ps, nonces = testBurst(4)
	ps[1].Body = wire.AppendBody(nil, &wire.Message{Number: 2, Text: "ho"})
	_, forged := e.SealBurst(who("ann").Key, ps, nonces)
	mixed := append(bytes.Clone(forged[1][:62]), signed[1][62:]...)
	if o, err := OpenSigned(testRealm, e.Room(), e.Info(), mixed); err != nil || !errors.Is(o.Verify(), ErrSignature) {
		t.Errorf("another text with the proof of a burst: %v, want %v", err, ErrSignature)
	}
	if o, err := OpenSigned(testRealm, e.Room(), e.Info(), forged[1]); err != nil || !errors.Is(o.Verify(), ErrSignature) {
		t.Errorf("signed by ann as bob: %v, want %v", err, ErrSignature)
	}
	other := *e.info
	other.Entry[0]++
	if o, err := OpenSigned(testRealm, e.Room(), &other, signed[1]); err != nil || !errors.Is(o.Verify(), ErrSignature) {
		t.Errorf("in another epoch: %v, want %v", err, ErrSignature)
	} else if b, _ := o.Burst(); b == burst {
		t.Error("in another epoch, taken for what was verified")
	}
}

func TestSealBurstPanics(t *testing.T) {
	e := testEpoch(t)
	for _, n := range []int{0, 1, 3, 32} {
		ps, nonces := testBurst(n)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a burst of %d packets was sealed", n)
				}
			}()
			e.SealBurst(who("bob").Key, ps, nonces)
		}()
	}
	ps, nonces := testBurst(2)
	e.SealBurst(who("bob").Key, ps, nonces)
	defer func() {
		if recover() == nil {
			t.Error("a packet of a burst was sealed by itself")
		}
	}()
	e.Seal(who("bob").Key, ps[0], nonces[0])
}

func TestBurstVectors(t *testing.T) {
	e := testEpoch(t)
	ps, nonces := testBurst(4)
	packets, signed := e.SealBurst(who("bob").Key, ps, nonces)
	o, err := e.Open(packets[2])
	if err != nil {
		t.Fatal(err)
	}
	burst, _ := o.Burst()
	path := o.Proof.Path
	vectors.Check(t, "room-burst.hex", `The third of four packets that were signed together, in the epoch and by the
sender of room-keys.hex: the packets have the nonces 0i 0102…17, slot 1, seq 7+i, clock 8
and the reliable message 1+i "hi", for i from 0 to 3.`, []vectors.Vector{
		{Name: "leaf", Bytes: leafOf(signed[2], 2)},
		{Name: "beside-0", Bytes: path[0][:]},
		{Name: "beside-1", Bytes: path[1][:]},
		{Name: "root", Bytes: burst.Root[:]},
		{Name: "signed-plaintext", Bytes: signed[2]},
		{Name: "packet", Bytes: packets[2]},
	})
}

func leafOf(signed []byte, depth int) []byte {
	h := leaf(signed[:len(signed)-wire.SignatureSize-1-32*depth])
	return h[:]
}
