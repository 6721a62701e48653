package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// A RealmID is SHA-256 of the realm root's SubjectPublicKeyInfo (DER): one
// authd and all it vouches for.
type RealmID [32]byte

// An AccountID names a person's record at authd for ever; the user name that
// people see can change.
type AccountID [16]byte

// A DeviceID is the first 8 bytes of SHA-256 over the device key's
// SubjectPublicKeyInfo (DER): one key on one machine.
type DeviceID [8]byte

// A RoomID is SHA-256 of the room's genesis entry.
type RoomID [32]byte

// A Hash is SHA-256 of a log entry as it stands on the wire.
type Hash [32]byte

// A KeyID says which epoch of which room a packet is sealed for; to others it
// is a random number.
type KeyID [8]byte

// A DeviceKey is a device's Ed25519 public key.
type DeviceKey [ed25519.PublicKeySize]byte

func (id RealmID) String() string   { return hex.EncodeToString(id[:]) }
func (id AccountID) String() string { return hex.EncodeToString(id[:]) }
func (id DeviceID) String() string  { return hex.EncodeToString(id[:]) }
func (id RoomID) String() string    { return hex.EncodeToString(id[:]) }
func (h Hash) String() string       { return hex.EncodeToString(h[:]) }
func (k DeviceKey) String() string  { return hex.EncodeToString(k[:]) }

// IsZero reports whether the id was never set.
func (id RealmID) IsZero() bool   { return id == RealmID{} }
func (id AccountID) IsZero() bool { return id == AccountID{} }
func (id DeviceID) IsZero() bool  { return id == DeviceID{} }
func (id RoomID) IsZero() bool    { return id == RoomID{} }
func (h Hash) IsZero() bool       { return h == Hash{} }

// KeyOf returns the wire form of an Ed25519 public key.
func KeyOf(pub ed25519.PublicKey) DeviceKey {
	return DeviceKey(pub)
}

// Public returns the key as crypto/ed25519 wants it.
func (k DeviceKey) Public() ed25519.PublicKey { return ed25519.PublicKey(k[:]) }

// spkiPrefix is what stands before an Ed25519 key in its SubjectPublicKeyInfo (RFC
// 8410). It never differs, and ids are asked for with every packet.
const spkiPrefix = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"

// Device returns the id of the device that holds the key.
func (k DeviceKey) Device() DeviceID {
	sum := sha256.Sum256(append([]byte(spkiPrefix), k[:]...))
	return DeviceID(sum[:8])
}

// ParseDeviceID reads the 16 hexadecimal digits of a device id.
func ParseDeviceID(s string) (DeviceID, error) {
	var id DeviceID
	if len(s) != 2*len(id) {
		return DeviceID{}, fmt.Errorf("device id %q: want %d hexadecimal digits", s, 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return DeviceID{}, fmt.Errorf("device id %q: %w", s, err)
	}
	return id, nil
}
