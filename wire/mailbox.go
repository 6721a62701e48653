package wire

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
)

// Reliable direct messages for a device that is not there, which authd keeps
// until it fetches them; on a connection with a token, as auth.go says: a
// stream for each. authd cannot read them, since they are sealed to the
// device, nor make them, since they are signed inside.
//
//	node                                      authd
//	MAIL KEY (public key, signed)       ──►
//	                                    ◄──   DONE
//
//	RECIPIENT (account, or name)        ──►
//	                                    ◄──   MAIL KEYS (of the account's devices)
//
//	DEPOSIT (device, number, sealed)    ──►
//	                                    ◄──   DONE: it is on authd's disk
//
//	MAILBOX (after)                     ──►
//	                                    ◄──   MAIL (a page of what waits)
//	TAKEN (ids)                         ──►   once they are on the node's disk
//	                                    ◄──   DONE
//
// authd pushes MAILBOX, with After zero, when something comes for a device that
// is connected.

// Limits of the mailbox, in bytes unless said otherwise.
const (
	MaxMailKey    = 1216                // a public key of MLKEM768-X25519
	MaxSealed     = 60 << 10            // one sealed Mail
	MaxMailKeys   = 16                  // devices of an account
	MaxMailItems  = 64                  // in one page
	MaxTaken      = 255                 // ids in one TAKEN
	MaxMailedBody = MaxSealed - sealing // of a Mail
	mailHeader    = 41
	sealing       = 1120 + tagSize + mailHeader + SignatureSize // what sealing adds to a body
)

// Contexts of Ed25519ctx.
const (
	MailKeyContext = "lanchat mailbox v1" // over realm id ‖ public key
	MailContext    = "lanchat mail v1"    // over realm id ‖ device key of the receiver ‖ the Mail before it
)

func (*AuthMailbox) FrameType() byte   { return FrameAuthMailbox }
func (*AuthMail) FrameType() byte      { return FrameAuthMail }
func (*AuthMailKey) FrameType() byte   { return FrameAuthMailKey }
func (*AuthRecipient) FrameType() byte { return FrameAuthRecipient }
func (*AuthMailKeys) FrameType() byte  { return FrameAuthMailKeys }
func (*AuthDeposit) FrameType() byte   { return FrameAuthDeposit }
func (*AuthTaken) FrameType() byte     { return FrameAuthTaken }

// An AuthMailKey says which key what is meant for the device is sealed to.
type AuthMailKey struct {
	Public    []byte // at most MaxMailKey bytes
	Signature [SignatureSize]byte
}

func (m *AuthMailKey) Append(b []byte) []byte {
	b = AppendBytes16(b, m.Public, MaxMailKey) // Public Length (16), Public (..)
	return append(b, m.Signature[:]...)        // Signature (512)
}

func (m *AuthMailKey) parse(r *Reader) {
	m.Public = r.Bytes16(MaxMailKey)
	r.Fill(m.Signature[:])
}

// An AuthRecipient asks for the mail keys of an account's devices.
type AuthRecipient struct {
	Account AccountID // zero: the one that goes by Name
	Name    string    // at most MaxAuthName bytes
}

func (m *AuthRecipient) Append(b []byte) []byte {
	b = append(b, m.Account[:]...)               // Account (128)
	return AppendString8(b, m.Name, MaxAuthName) // Name Length (8), Name (..)
}

func (m *AuthRecipient) parse(r *Reader) {
	r.Fill(m.Account[:])
	m.Name = r.String8(MaxAuthName)
}

// An AuthMailKeys answers AuthRecipient: the devices that are not revoked and
// have said which key to seal to.
type AuthMailKeys struct {
	Devices []MailDevice
}

// A MailDevice is a device that can be sent mail: the token says whose it is.
type MailDevice struct {
	Leaf      []byte // the token, DER
	Issuing   []byte // its issuer, DER
	Public    []byte
	Signature [SignatureSize]byte
}

func (m *AuthMailKeys) Append(b []byte) []byte {
	mustFit(len(m.Devices), MaxMailKeys)
	b = append(b, uint8(len(m.Devices))) // Devices (8)
	for _, d := range m.Devices {
		b = AppendBytes16(b, d.Leaf, MaxCertificate)    // Leaf Length (16), Leaf (..)
		b = AppendBytes16(b, d.Issuing, MaxCertificate) // Issuing Length (16), Issuing (..)
		b = AppendBytes16(b, d.Public, MaxMailKey)      // Public Length (16), Public (..)
		b = append(b, d.Signature[:]...)                // Signature (512)
	}
	return b
}

func (m *AuthMailKeys) parse(r *Reader) {
	for range r.count8(MaxMailKeys) {
		d := MailDevice{Leaf: r.Bytes16(MaxCertificate), Issuing: r.Bytes16(MaxCertificate), Public: r.Bytes16(MaxMailKey)}
		r.Fill(d.Signature[:])
		m.Devices = append(m.Devices, d)
	}
}

// An AuthDeposit leaves a sealed Mail for a device.
type AuthDeposit struct {
	To DeviceKey
	// Number is the sender's own: the same of the same sender for the same
	// device is kept once.
	Number uint64
	Sealed []byte // at most MaxSealed bytes
}

func (m *AuthDeposit) Append(b []byte) []byte {
	b = append(b, m.To[:]...)                      // To (256)
	b = binary.BigEndian.AppendUint64(b, m.Number) // Number (64)
	return AppendBytes16(b, m.Sealed, MaxSealed)   // Sealed Length (16), Sealed (..)
}

func (m *AuthDeposit) parse(r *Reader) {
	r.Fill(m.To[:])
	m.Number = r.Uint64()
	m.Sealed = r.Bytes16(MaxSealed)
}

// An AuthMailbox asks for what waits for the device that asks.
type AuthMailbox struct {
	After uint64 // id of the last item of the page before; zero asks for the first
}

func (m *AuthMailbox) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(b, m.After) // After (64)
}

func (m *AuthMailbox) parse(r *Reader) { m.After = r.Uint64() }

// An AuthMail answers AuthMailbox with the next items, oldest first.
type AuthMail struct {
	More  bool // items follow after the last one
	Items []MailItem
}

// A MailItem is one sealed Mail that waits.
type MailItem struct {
	ID      uint64
	Leaf    []byte // the sender's token, DER
	Issuing []byte // its issuer, DER
	Sealed  []byte
}

// Len returns the size of the item in a page, in bytes.
func (m *MailItem) Len() int { return 8 + 3*2 + len(m.Leaf) + len(m.Issuing) + len(m.Sealed) }

func (m *AuthMail) Append(b []byte) []byte {
	mustFit(len(m.Items), MaxMailItems)
	n := len(b)
	b = AppendBool(b, m.More)          // More (8)
	b = append(b, uint8(len(m.Items))) // Items (8)
	for _, i := range m.Items {
		b = binary.BigEndian.AppendUint64(b, i.ID)      // ID (64)
		b = AppendBytes16(b, i.Leaf, MaxCertificate)    // Leaf Length (16), Leaf (..)
		b = AppendBytes16(b, i.Issuing, MaxCertificate) // Issuing Length (16), Issuing (..)
		b = AppendBytes16(b, i.Sealed, MaxSealed)       // Sealed Length (16), Sealed (..)
	}
	mustFit(len(b)-n, MaxFrame)
	return b
}

func (m *AuthMail) parse(r *Reader) {
	m.More = r.Bool()
	for range r.count8(MaxMailItems) {
		m.Items = append(m.Items, MailItem{ID: r.Uint64(), Leaf: r.Bytes16(MaxCertificate), Issuing: r.Bytes16(MaxCertificate), Sealed: r.Bytes16(MaxSealed)})
	}
}

// An AuthTaken says that items are on the node's disk and need not be kept.
type AuthTaken struct {
	IDs []uint64 // at most MaxTaken
}

func (m *AuthTaken) Append(b []byte) []byte {
	mustFit(len(m.IDs), MaxTaken)
	b = append(b, uint8(len(m.IDs))) // IDs (8)
	for _, id := range m.IDs {
		b = binary.BigEndian.AppendUint64(b, id) // ID (64)
	}
	return b
}

func (m *AuthTaken) parse(r *Reader) {
	for range r.count8(MaxTaken) {
		m.IDs = append(m.IDs, r.Uint64())
	}
}

// A Mail is what is sealed: HPKE (RFC 9180) in base mode with MLKEM768-X25519
// (0x647a), HKDF-SHA256 (1) and ChaCha20Poly1305 (3), info MailContext ‖ realm id
// ‖ device key of the receiver, no additional data; the encapsulated key of 1,120
// bytes, then the ciphertext.
type Mail struct {
	From DeviceKey // of the sender
	Kind uint8     // MailMessage, MailAck or MailCopy
	// After is, of a message or a copy, the number of the one before it that
	// this device is to have first; 0: none. It counts only when that is there.
	After uint64
	Body  []byte // DirectMessage, DirectAck or Copy
}

const (
	MailMessage = 1
	MailAck     = 2
	MailCopy    = 3 // between devices of one account
)

// Sign appends the mail with the signature of the sender's device key.
func (m *Mail) Sign(b []byte, key ed25519.PrivateKey, realm RealmID, to DeviceKey) []byte {
	if m.Kind < MailMessage || m.Kind > MailCopy {
		panic(fmt.Sprintf("wire: mail of kind %d", m.Kind))
	}
	n := len(b)
	b = append(b, m.From[:]...)                   // From (256)
	b = append(b, m.Kind)                         // Kind (8)
	b = binary.BigEndian.AppendUint64(b, m.After) // After (64)
	b = append(b, m.Body...)                      // Body (..)
	sig, err := key.Sign(nil, mailSigned(realm, to, b[n:]), &ed25519.Options{Context: MailContext})
	if err != nil {
		panic(fmt.Sprintf("wire: signing mail: %v", err)) // cannot fail with a good key
	}
	return append(b, sig...) // Signature (512)
}

// ParseMail reads a Mail that was unsealed, and verifies that the device in From
// wrote it to the receiver.
func ParseMail(b []byte, realm RealmID, to DeviceKey) (*Mail, error) {
	if len(b) < mailHeader+SignatureSize {
		return nil, named("mail", ErrTruncated)
	}
	signed, sig := b[:len(b)-SignatureSize], b[len(b)-SignatureSize:]
	r := NewReader(signed)
	m := &Mail{}
	r.Fill(m.From[:])
	m.Kind = r.Uint8()
	m.After = r.Uint64()
	m.Body = r.Rest()
	switch {
	case m.Kind < MailMessage || m.Kind > MailCopy:
		r.Fail(ErrValue)
	case ed25519.VerifyWithOptions(m.From.Public(), mailSigned(realm, to, signed), sig, &ed25519.Options{Context: MailContext}) != nil:
		r.Fail(ErrSignature)
	}
	return parsed("mail", m, r)
}

func mailSigned(realm RealmID, to DeviceKey, b []byte) []byte {
	s := append([]byte{}, realm[:]...)
	s = append(s, to[:]...)
	return append(s, b...)
}

// SignMailKey returns the device key's word for a mailbox key.
func SignMailKey(key ed25519.PrivateKey, realm RealmID, public []byte) [SignatureSize]byte {
	sig, err := key.Sign(nil, append(realm[:], public...), &ed25519.Options{Context: MailKeyContext})
	if err != nil {
		panic(fmt.Sprintf("wire: signing a mail key: %v", err)) // cannot fail with a good key
	}
	return [SignatureSize]byte(sig)
}

// VerifyMailKey returns nil or ErrSignature.
func VerifyMailKey(key DeviceKey, realm RealmID, public []byte, sig [SignatureSize]byte) error {
	if ed25519.VerifyWithOptions(key.Public(), append(realm[:], public...), sig[:], &ed25519.Options{Context: MailKeyContext}) != nil {
		return ErrSignature
	}
	return nil
}
