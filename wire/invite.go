package wire

import (
	"crypto"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"slices"
)

// An Invite is a member's signed word that somebody may come into a room. Who
// holds it shows it in a Join, to whoever lets people in then: its author
// needs not be there. It counts while the author may ask for an ADMIT, and
// until the person was in the room and removed from it, or left.
//
//	 0  32  room id
//	32  16  account that is invited
//	48   8  seq of the log's head then
//	56  32  id of a room that this one takes the place of, zero: none
//	88  32  device key of who invites
//	120  1  length of the name
//	121  …  the room's name, a hint
//	 …  64  Ed25519ctx "lanchat request v1" over realm id ‖ everything before it
type Invite struct {
	Room    RoomID
	Account AccountID
	Seq     uint64
	Instead RoomID
	From    DeviceKey
	Name    string // at most MaxRoomName bytes

	raw []byte
}

// RequestContext is the Ed25519ctx context of what members sign for a room's
// writer.
const RequestContext = "lanchat request v1"

// SignInvite completes m: it sets From and signs. It panics on one that could
// not be parsed again.
func SignInvite(realm RealmID, key ed25519.PrivateKey, m Invite) *Invite {
	m.From = KeyOf(key.Public().(ed25519.PublicKey))
	b := append([]byte(nil), m.Room[:]...)      // Room (256)
	b = append(b, m.Account[:]...)              // Account (128)
	b = binary.BigEndian.AppendUint64(b, m.Seq) // Seq (64)
	b = append(b, m.Instead[:]...)              // Instead (256)
	b = append(b, m.From[:]...)                 // From (256)
	b = AppendString8(b, m.Name, MaxRoomName)   // Name Length (8), Name (..)
	sig, err := key.Sign(nil, realmMessage(realm, b), &ed25519.Options{Context: RequestContext})
	if err != nil {
		panic(fmt.Sprintf("wire: signing an invite: %v", err)) // cannot fail with a good key
	}
	m.raw = append(b, sig...) // Signature (512)
	return &m
}

// ParseInvite reads an invite. It does not look at the signature: see Verify.
func ParseInvite(b []byte) (*Invite, error) {
	r := NewReader(b)
	m := &Invite{}
	r.Fill(m.Room[:])
	r.Fill(m.Account[:])
	m.Seq = r.Uint64()
	r.Fill(m.Instead[:])
	m.From = r.deviceKey()
	m.Name = r.String8(MaxRoomName)
	r.Bytes(SignatureSize)
	m.raw = slices.Clone(b)
	return parsed("invite", m, r)
}

// Verify checks the signature: ErrSignature, or nil.
func (m *Invite) Verify(realm RealmID) error {
	n := len(m.raw) - SignatureSize
	err := ed25519.VerifyWithOptions(m.From.Public(), realmMessage(realm, m.raw[:n]), m.raw[n:], &ed25519.Options{Hash: crypto.Hash(0), Context: RequestContext})
	if err != nil {
		return named("invite", ErrSignature)
	}
	return nil
}

// Append appends the invite as it was signed.
func (m *Invite) Append(b []byte) []byte { return append(b, m.raw...) }
