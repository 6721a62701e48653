package wire

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// A presence packet says that a device is there. It travels by multicast in
// the realm's group, in clear and signed; it holds no name, token or room.
//
//	offset  bytes  field
//	     0      1  type, 0x21
//	     1      1  reserved, 0
//	     2      8  realm, the first 8 bytes of the realm id
//	    10     32  device key
//	    42      8  boot, counts the device's starts
//	    50      8  counter, counts the packets since that start, from 1
//	    58      1  kind: 1 PROBE, 2 HERE, 3 BYE
//	    59      1  role: 1 node, 2 authd
//	    60      2  period, the time to the next HERE, in tenths of a second
//	    62      2  port of the QUIC socket
//	    64      1  number of candidate addresses, at most 8
//	    65  5, 17  per address: family (8), 4 or 6, then 4 or 16 bytes; none
//	               that is unspecified, multicast or an IPv4 one in IPv6
//	    65+…    8  token, the first 8 bytes of SHA-256 over the token; 0: none
//	    end    64  Ed25519ctx("lanchat presence v1") over the whole realm id
//	               and everything before
//
// The period is there so that who listens need not guess how many nodes the
// sender believes in: what a packet promises, its silence is measured by.
const (
	TypePresence = 0x21

	MaxPresence      = 65 + 17*MaxPresenceAddrs + 8 + ed25519.SignatureSize // bytes: 273
	MaxPresenceAddrs = 8

	minPresence     = 65 + 8 + ed25519.SignatureSize
	presenceContext = "lanchat presence v1"
	presenceTick    = 100 * time.Millisecond // unit of the period
)

// ErrRealm means that a packet belongs to another realm, which is no fault.
var ErrRealm = errors.New("another realm's")

// A PresenceKind says what a presence packet is for.
type PresenceKind uint8

const (
	Probe PresenceKind = 1 // I am here, who else is?
	Here  PresenceKind = 2 // I am here
	Bye   PresenceKind = 3 // I am leaving
)

func (k PresenceKind) String() string {
	switch k {
	case Probe:
		return "PROBE"
	case Here:
		return "HERE"
	case Bye:
		return "BYE"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// A Role says which of the two programs holds a key.
type Role uint8

const (
	RoleNode  Role = 1
	RoleAuthd Role = 2
)

func (r Role) String() string {
	switch r {
	case RoleNode:
		return "node"
	case RoleAuthd:
		return "authd"
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// A TokenHash is the first 8 bytes of SHA-256 over a token's DER; zero stands
// for none.
type TokenHash [8]byte

// A RealmPrefix is the first 8 bytes of a realm id: enough to pass by the
// traffic of other realms, and proof of nothing.
type RealmPrefix [8]byte

// Prefix returns the first 8 bytes of the realm id.
func (id RealmID) Prefix() RealmPrefix { return RealmPrefix(id[:8]) }

func (p RealmPrefix) String() string { return fmt.Sprintf("%x", p[:]) }

// A Presence is the content of a presence packet.
type Presence struct {
	Key     DeviceKey
	Boot    uint64
	Counter uint64 // from 1
	Kind    PresenceKind
	Role    Role
	Period  time.Duration // whole tenths of a second, 0 to 6553.5 s
	Port    uint16        // not 0
	Addrs   []netip.Addr  // at most MaxPresenceAddrs, without zones, no IPv4 in IPv6
	Token   TokenHash
}

// Append appends the packet, signed with the private half of p.Key. It panics
// if p could not be parsed again.
func (p *Presence) Append(b []byte, realm RealmID, key ed25519.PrivateKey) []byte {
	if err := p.check(); err != nil {
		panic(fmt.Sprintf("wire: appending presence: %v", err))
	}
	start := len(b)
	b = append(b, TypePresence, 0)                                      // Type (8), Reserved (8)
	b = append(b, realm[:8]...)                                         // Realm (64)
	b = append(b, p.Key[:]...)                                          // Device Key (256)
	b = binary.BigEndian.AppendUint64(b, p.Boot)                        // Boot (64)
	b = binary.BigEndian.AppendUint64(b, p.Counter)                     // Counter (64)
	b = append(b, byte(p.Kind), byte(p.Role))                           // Kind (8), Role (8)
	b = binary.BigEndian.AppendUint16(b, uint16(p.Period/presenceTick)) // Period (16)
	b = binary.BigEndian.AppendUint16(b, p.Port)                        // Port (16)
	b = append(b, byte(len(p.Addrs)))                                   // Count (8)
	for _, a := range p.Addrs {
		b = appendAddr(b, a) // Family (8), Address (32 or 128)
	}
	b = append(b, p.Token[:]...) // Token (64)
	sig, err := key.Sign(nil, presenceSigned(realm, b[start:]), &ed25519.Options{Context: presenceContext})
	if err != nil {
		panic(fmt.Sprintf("wire: signing presence: %v", err)) // only for a key of the wrong length
	}
	return append(b, sig...) // Signature (512)
}

// ParsePresence reads a packet and does not look at the signature, which
// costs a hundred times as much: call VerifyPresence before believing any of
// it.
func ParsePresence(b []byte, realm RealmID) (*Presence, error) {
	p, err := parsePresence(b, realm)
	if err != nil {
		return nil, named("presence", err)
	}
	return p, nil
}

func parsePresence(b []byte, realm RealmID) (*Presence, error) {
	switch {
	case len(b) < minPresence:
		return nil, ErrTruncated
	case len(b) > MaxPresence:
		return nil, ErrTooLong
	case b[0] != TypePresence:
		return nil, ErrType
	case b[1] != 0:
		return nil, ErrReserved
	case !bytes.Equal(b[2:10], realm[:8]):
		return nil, ErrRealm
	}
	r := NewReader(b[10 : len(b)-ed25519.SignatureSize])
	p := &Presence{}
	r.Fill(p.Key[:])
	p.Boot = r.Uint64()
	p.Counter = r.Uint64()
	p.Kind = PresenceKind(r.Uint8())
	p.Role = Role(r.Uint8())
	p.Period = time.Duration(r.Uint16()) * presenceTick
	p.Port = r.Uint16()
	n := int(r.Uint8())
	if n > MaxPresenceAddrs {
		r.Fail(ErrTooLong)
	}
	for i := 0; i < n && r.Err() == nil; i++ {
		p.Addrs = append(p.Addrs, readAddr(r))
	}
	r.Fill(p.Token[:])
	if err := r.Done(); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

// VerifyPresence checks the signature of a packet that ParsePresence accepted.
func VerifyPresence(b []byte, realm RealmID, key DeviceKey) error {
	cut := len(b) - ed25519.SignatureSize
	if cut < 0 {
		return named("presence", ErrTruncated)
	}
	err := ed25519.VerifyWithOptions(key.Public(), presenceSigned(realm, b[:cut]), b[cut:],
		&ed25519.Options{Hash: crypto.Hash(0), Context: presenceContext})
	if err != nil {
		return named("presence", ErrSignature)
	}
	return nil
}

// presenceSigned returns what the signature is over.
func presenceSigned(realm RealmID, packet []byte) []byte {
	return append(realm[:], packet...)
}

// check holds the rules on values, for both directions.
func (p *Presence) check() error {
	switch {
	case p.Counter == 0, p.Port == 0,
		p.Kind < Probe || p.Kind > Bye,
		p.Role < RoleNode || p.Role > RoleAuthd,
		p.Period < 0 || p.Period%presenceTick != 0 || p.Period/presenceTick > 1<<16-1:
		return ErrValue
	case len(p.Addrs) > MaxPresenceAddrs:
		return ErrTooLong
	}
	for _, a := range p.Addrs {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() {
			return ErrValue
		}
	}
	return nil
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		b = append(b, 4)
	} else {
		b = append(b, 6)
	}
	return append(b, a.AsSlice()...)
}

func readAddr(r *Reader) netip.Addr {
	switch r.Uint8() {
	case 4:
		var a [4]byte
		r.Fill(a[:])
		return netip.AddrFrom4(a)
	case 6:
		var a [16]byte
		r.Fill(a[:])
		return netip.AddrFrom16(a)
	}
	r.Fail(ErrType)
	return netip.Addr{}
}
