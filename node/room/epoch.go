package room

import (
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/crypto/chacha20poly1305"

	"lanchat/wire"
)

// What is wrong with a room packet beyond its form (see package wire).
var (
	ErrSealed    = errors.New("room: packet does not open")
	ErrSlot      = errors.New("room: no such slot in the epoch")
	ErrSignature = wire.ErrSignature
	ErrCommitted = errors.New("room: secret does not fit the commitment")
)

// A Secret is the secret of one epoch. It prints as [redacted].
type Secret [32]byte

const redacted = "[redacted]"

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) Format(f fmt.State, _ rune)   { fmt.Fprint(f, redacted) }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Wipe overwrites the secret.
func (s *Secret) Wipe() { clear(s[:]) }

// Commit binds an entry to the secret of the epoch it begins, without
// revealing it. In a CREATE, room is zero.
func Commit(room wire.RoomID, secret Secret) wire.Hash {
	h := sha256.New()
	h.Write([]byte("lc1 commit"))
	h.Write(room[:])
	h.Write(secret[:])
	return wire.Hash(h.Sum(nil))
}

// fits reports whether a secret is the one an epoch is bound to. A CREATE is
// bound with a zero room id: the room's own is the hash of that entry.
func fits(room wire.RoomID, info *EpochInfo, secret Secret) bool {
	if info.Seq == 0 {
		room = wire.RoomID{}
	}
	c := Commit(room, secret)
	return subtle.ConstantTimeCompare(c[:], info.Commit[:]) == 1
}

// Step returns the secret of the epoch that an ADMIT, or a DEVICE that adds
// one, begins: everybody in the epoch of entry computes it, and who gets it
// cannot go back. It is bound to the arguments, so that two entries side by
// side which let different people in have different secrets.
func Step(room wire.RoomID, entry wire.Hash, secret Secret, args wire.Args) Secret {
	join := expand(secret[:], "lc1 join", room[:], entry[:], 32)
	defer clear(join)
	op := sha256.Sum256(wire.AppendArgs([]byte{byte(args.Op())}, args))
	return Secret(expand(join, "lc1 next", op[:], nil, 32))
}

// expand is HKDF-Expand with SHA-256 and the info label ‖ a ‖ b.
func expand(secret []byte, label string, a, b []byte, n int) []byte {
	key, err := hkdf.Expand(sha256.New, secret, label+string(a)+string(b), n)
	if err != nil {
		panic(fmt.Sprintf("room: deriving %d bytes: %v", n, err)) // n is 8 or 32
	}
	return key
}

// An Epoch seals, opens and verifies the packets of one epoch. It never
// changes and any number of goroutines may use it: readers open and verify
// packets in parallel and hand them over in order.
type Epoch struct {
	realm  wire.RealmID
	room   wire.RoomID
	info   *EpochInfo
	secret Secret
	aead   cipher.AEAD
	keyID  wire.KeyID
}

// NewEpoch returns the epoch that info describes, or ErrCommitted if the
// secret is not its secret.
func NewEpoch(realm wire.RealmID, room wire.RoomID, info *EpochInfo, secret Secret) (*Epoch, error) {
	if !fits(room, info, secret) {
		return nil, ErrCommitted
	}
	return newEpoch(realm, room, info, secret), nil
}

func newEpoch(realm wire.RealmID, room wire.RoomID, info *EpochInfo, secret Secret) *Epoch {
	key := expand(secret[:], "lc1 msg", room[:], info.Entry[:], chacha20poly1305.KeySize)
	defer clear(key)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(fmt.Sprintf("room: making a cipher: %v", err)) // the key has its size
	}
	return &Epoch{
		realm: realm, room: room, info: info, secret: secret, aead: aead,
		keyID: wire.KeyID(expand(secret[:], "lc1 kid", room[:], info.Entry[:], len(wire.KeyID{}))),
	}
}

// Room returns the epoch's room.
func (e *Epoch) Room() wire.RoomID { return e.room }

// KeyID returns what packets of the epoch begin with.
func (e *Epoch) KeyID() wire.KeyID { return e.keyID }

// Info returns what the log says of the epoch.
func (e *Epoch) Info() *EpochInfo { return e.info }

// Entry returns the hash of the entry that began the epoch.
func (e *Epoch) Entry() wire.Hash { return e.info.Entry }

// Seal signs and encrypts a packet that is of no burst. key is the device key of
// the one in p.Slot; nonce must be random and is never used twice. It returns the
// packet and the signed plaintext in it, which history keeps. It panics on a p
// that could not be parsed again.
func (e *Epoch) Seal(key ed25519.PrivateKey, p *wire.Plain, nonce [wire.NonceSize]byte) (packet, signed []byte) {
	if p.Proof != nil {
		panic("room: sealing a packet of a burst by itself")
	}
	prefix := packetPrefix(e.realm, e.room, e.info.Entry)
	message := p.Append(prefix)
	signed = append(message, signPacket(key, wire.PacketContext, message)...)[len(prefix):]
	return e.encrypt(signed, nonce), signed
}

func signPacket(key ed25519.PrivateKey, context string, message []byte) []byte {
	sig, err := key.Sign(nil, message, &ed25519.Options{Context: context})
	if err != nil {
		panic(fmt.Sprintf("room: signing a packet: %v", err)) // cannot fail with a good key
	}
	return sig
}

// encrypt returns the packet of a signed plaintext.
func (e *Epoch) encrypt(signed []byte, nonce [wire.NonceSize]byte) []byte {
	h := wire.PacketHeader{KeyID: e.keyID, Nonce: nonce}
	packet := h.Append(make([]byte, 0, wire.MaxPacket))
	return e.aead.Seal(packet, nonce[:], signed, packet)
}

// packetPrefix returns what the signature of a packet covers before the
// plaintext: realm id ‖ room id ‖ hash of the epoch's entry.
func packetPrefix(realm wire.RealmID, room wire.RoomID, entry wire.Hash) []byte {
	b := make([]byte, 0, len(realm)+len(room)+len(entry)+wire.MaxPacket)
	b = append(b, realm[:]...)
	b = append(b, room[:]...)
	return append(b, entry[:]...)
}

// An Opened is a packet that was decrypted. Nobody has said it yet: that
// needs Verify.
type Opened struct {
	wire.Plain
	From Slot
	// Signed is the plaintext with its signature, as history keeps it.
	Signed []byte
	Epoch  *EpochInfo

	realm wire.RealmID
	room  wire.RoomID
}

// Open decrypts a packet whose key id is the epoch's. A packet is judged in
// this order, cheapest and least forgeable first:
//
//	size, version, reserved   wire.ParsePacketHeader
//	key id                    Keyring.Lookup
//	AEAD, form, slot          Open
//	replay                    Replay.Seen
//	signature                 Opened.Verify
//	replay                    Replay.Mark
//	body                      Opened.Parse
//
// Open and Verify need nothing that changes, the other steps belong to the
// loop. The result does not alias packet.
func (e *Epoch) Open(packet []byte) (*Opened, error) {
	h, err := wire.ParsePacketHeader(packet)
	if err != nil {
		return nil, err
	}
	if h.KeyID != e.keyID {
		return nil, ErrSealed
	}
	signed, err := e.aead.Open(nil, h.Nonce[:], packet[wire.PacketHeaderSize:], packet[:wire.PacketHeaderSize])
	if err != nil {
		return nil, ErrSealed
	}
	return parseSigned(e.realm, e.room, e.info, signed)
}

// OpenSigned takes a signed plaintext that a member handed on from history:
// Opened.Signed of a packet of the epoch info. Like Open it does not verify.
func OpenSigned(realm wire.RealmID, room wire.RoomID, info *EpochInfo, signed []byte) (*Opened, error) {
	return parseSigned(realm, room, info, append([]byte(nil), signed...))
}

func parseSigned(realm wire.RealmID, room wire.RoomID, info *EpochInfo, signed []byte) (*Opened, error) {
	if len(signed) < wire.SignatureSize {
		return nil, fmt.Errorf("room plaintext: %w", wire.ErrTruncated)
	}
	p, err := wire.ParsePlain(signed[:len(signed)-wire.SignatureSize])
	if err != nil {
		return nil, err
	}
	if int(p.Slot) >= len(info.Slots) {
		return nil, ErrSlot
	}
	return &Opened{Plain: *p, From: info.Slots[p.Slot], Signed: signed, Epoch: info, realm: realm, room: room}, nil
}

// Verify checks the signature of the device in the packet's slot, over the
// packet or the burst it is of: ErrSignature, or nil.
func (o *Opened) Verify() error {
	n := len(o.Signed) - wire.SignatureSize
	context, message := wire.PacketContext, packetPrefix(o.realm, o.room, o.Epoch.Entry)
	if b, ok := o.Burst(); ok {
		context, message = wire.BurstContext, append(message, b.Root[:]...)
	} else {
		message = append(message, o.Signed[:n]...)
	}
	if ed25519.VerifyWithOptions(o.From.Key.Public(), message, o.Signed[n:], &ed25519.Options{Context: context}) != nil {
		return ErrSignature
	}
	return nil
}

// Parse reads the body. It comes after Verify.
func (o *Opened) Parse() (wire.Body, error) { return wire.ParseBody(o.Kind, o.Body) }
