package room

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"

	"lanchat/wire"
)

// SealBurst signs 2, 4, 8 or 16 packets of messages with one signature and
// encrypts each: see wire.Proof. Whoever has verified one of them knows that the
// signature is good for all, and still each can be verified, repaired and kept by
// itself. It sets the proofs of ps; key, nonces and results are as in Seal.
func (e *Epoch) SealBurst(key ed25519.PrivateKey, ps []*wire.Plain, nonces [][wire.NonceSize]byte) (packets, signed [][]byte) {
	depth := 0
	for 1<<depth < len(ps) {
		depth++
	}
	if depth == 0 || 1<<depth != len(ps) || len(ps) > wire.MaxBurst {
		panic(fmt.Sprintf("room: burst of %d packets", len(ps)))
	}
	level := make([]wire.Hash, len(ps))
	for i, p := range ps {
		p.Proof = &wire.Proof{Index: uint8(i), Path: make([]wire.Hash, depth)}
		b := p.Append(make([]byte, 0, wire.MaxPacket))
		b = b[:len(b)-p.Proof.Len()]
		level[i] = leaf(b)
		signed = append(signed, b)
	}
	for d := range depth {
		for i, p := range ps {
			p.Proof.Path[d] = level[i>>d^1]
		}
		above := make([]wire.Hash, len(level)/2)
		for i := range above {
			above[i] = inner(level[2*i], level[2*i+1])
		}
		level = above
	}
	sig := signPacket(key, wire.BurstContext, append(packetPrefix(e.realm, e.room, e.info.Entry), level[0][:]...))
	for i, p := range ps {
		signed[i] = append(p.Proof.Append(signed[i]), sig...)
		packets = append(packets, e.encrypt(signed[i], nonces[i]))
	}
	return packets, signed
}

// A Burst names what one signature vouches for: packets of one device in one
// epoch. Bursts that are equal have one signature, so it needs to be checked once.
type Burst struct {
	Entry     wire.Hash
	Key       wire.DeviceKey
	Root      wire.Hash
	Signature [wire.SignatureSize]byte
}

// Burst returns the burst that the packet says to be of; ok is false for a
// packet that was signed by itself. That it is true, Verify says, of any packet
// of the burst.
func (o *Opened) Burst() (b Burst, ok bool) {
	if o.Proof == nil {
		return b, false
	}
	n := len(o.Signed) - wire.SignatureSize
	b = Burst{Entry: o.Epoch.Entry, Key: o.From.Key, Root: leaf(o.Signed[:n-o.Proof.Len()]), Signature: [wire.SignatureSize]byte(o.Signed[n:])}
	for d, beside := range o.Proof.Path {
		if o.Proof.Index>>d&1 == 0 {
			b.Root = inner(b.Root, beside)
		} else {
			b.Root = inner(beside, b.Root)
		}
	}
	return b, true
}

// leaf and inner hash differently, so that neither can stand for the other.
func leaf(plaintext []byte) wire.Hash {
	b := make([]byte, 0, wire.MaxPacket)
	return sha256.Sum256(append(append(b, 0), plaintext...))
}

func inner(left, right wire.Hash) wire.Hash {
	var b [1 + 2*len(left)]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+len(left):], right[:])
	return sha256.Sum256(b[:])
}
