package wire

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"time"
)

// The conversation with authd over QUIC (ALPN lanchat-auth/1).
//
// Every request has a bidirectional stream of its own, opened by the node: one
// frame, the answer's frame, the end of the stream. Logging in is the one
// longer conversation, four frames on one stream:
//
//	node                                    authd
//	START (register or log in, name)  ──►
//	                                  ◄──   CHALLENGE (salt, time, policy)
//	FINISH (prehash, device name)     ──►
//	                                  ◄──   GRANT (certificates, CRL, time)
//
//	RENEW ──► GRANT      ROSTER ──► ROSTER PAGE      PING ──► PONG
//
// What a person does with their account is in owner.go, mail for devices that
// are away in mailbox.go. Any request may be answered by REFUSAL. authd pushes,
// each on a unidirectional stream of its own, one frame and then the end: CRL at
// connect and whenever it changes, RENEW when the certificate says something of
// the account that is not so any more, and MAILBOX. A connection with a
// self-signed certificate may only register or log in; one with a certificate of
// the realm may do the rest.
//
// The numbers are only added to.
const (
	FrameAuthStart      = 0x01
	FrameAuthChallenge  = 0x02
	FrameAuthFinish     = 0x03
	FrameAuthGrant      = 0x04
	FrameAuthRenew      = 0x05
	FrameAuthRefusal    = 0x06
	FrameAuthCRL        = 0x07
	FrameAuthPing       = 0x08
	FrameAuthPong       = 0x09
	FrameAuthRoster     = 0x0a
	FrameAuthRosterPage = 0x0b
	FrameAuthRename     = 0x0c
	FrameAuthPassword   = 0x0d
	FrameAuthDevices    = 0x0e
	FrameAuthRevoke     = 0x0f

	FrameAuthMailbox    = 0x10
	FrameAuthChange     = 0x11
	FrameAuthDone       = 0x12
	FrameAuthDeviceList = 0x13
	FrameAuthMail       = 0x14
	FrameAuthMailKey    = 0x15
	FrameAuthRecipient  = 0x16
	FrameAuthMailKeys   = 0x17
	FrameAuthDeposit    = 0x18
	FrameAuthTaken      = 0x19
)

// Limits of the conversation with authd, in bytes unless said otherwise. They
// are chosen so that every message that keeps to them fits a frame.
const (
	MaxAuthName        = 64       // a user name as asked for; realm.CheckName is stricter
	MaxInvite          = 16       // an invite (8) or the proof of a one-time code (16)
	MaxDeviceName      = 64       // what a person calls a device
	MaxCertificate     = 1024     // one certificate, DER
	MaxCRL             = 56 << 10 // a revocation list, DER: 1,500 devices
	MaxRosterEntries   = 48       // in one page
	MaxRosterIssuers   = 4        // issuing certificates in one page
	MaxRosterAddresses = 8        // candidate addresses of one device
	maxRefusalText     = 512
	authPadding        = 56 // makes PING and PONG 64 bytes or longer, so that they can draw a stateless reset
)

// An AuthMessage is one of the messages below: *AuthStart, *AuthChallenge,
// *AuthFinish, *AuthGrant, *AuthRenew, *AuthRefusal, *AuthCRL, *AuthPing,
// *AuthPong, *AuthRoster, *AuthRosterPage, or one of owner.go
// and mailbox.go.
type AuthMessage interface {
	// FrameType returns the type byte of the message's frame.
	FrameType() byte
	// Append appends the message's body. It panics when a field is longer than
	// its limit or has an impossible value: such a message could not be parsed.
	Append(b []byte) []byte

	parse(r *Reader)
}

func (*AuthStart) FrameType() byte      { return FrameAuthStart }
func (*AuthChallenge) FrameType() byte  { return FrameAuthChallenge }
func (*AuthFinish) FrameType() byte     { return FrameAuthFinish }
func (*AuthGrant) FrameType() byte      { return FrameAuthGrant }
func (*AuthRenew) FrameType() byte      { return FrameAuthRenew }
func (*AuthRefusal) FrameType() byte    { return FrameAuthRefusal }
func (*AuthCRL) FrameType() byte        { return FrameAuthCRL }
func (*AuthPing) FrameType() byte       { return FrameAuthPing }
func (*AuthPong) FrameType() byte       { return FrameAuthPong }
func (*AuthRoster) FrameType() byte     { return FrameAuthRoster }
func (*AuthRosterPage) FrameType() byte { return FrameAuthRosterPage }

// ParseAuth reads the body of a frame of the conversation with authd.
func ParseAuth(frameType byte, body []byte) (AuthMessage, error) {
	var m AuthMessage
	var name string
	switch frameType {
	case FrameAuthStart:
		m, name = &AuthStart{}, "START"
	case FrameAuthChallenge:
		m, name = &AuthChallenge{}, "CHALLENGE"
	case FrameAuthFinish:
		m, name = &AuthFinish{}, "FINISH"
	case FrameAuthGrant:
		m, name = &AuthGrant{}, "GRANT"
	case FrameAuthRenew:
		m, name = &AuthRenew{}, "RENEW"
	case FrameAuthRefusal:
		m, name = &AuthRefusal{}, "REFUSAL"
	case FrameAuthCRL:
		m, name = &AuthCRL{}, "CRL"
	case FrameAuthPing:
		m, name = &AuthPing{}, "PING"
	case FrameAuthPong:
		m, name = &AuthPong{}, "PONG"
	case FrameAuthRoster:
		m, name = &AuthRoster{}, "ROSTER"
	case FrameAuthRosterPage:
		m, name = &AuthRosterPage{}, "ROSTER PAGE"
	case FrameAuthRename:
		m, name = &AuthRename{}, "RENAME"
	case FrameAuthPassword:
		m, name = &AuthPassword{}, "PASSWORD"
	case FrameAuthChange:
		m, name = &AuthChange{}, "CHANGE"
	case FrameAuthDevices:
		m, name = &AuthDevices{}, "DEVICES"
	case FrameAuthDeviceList:
		m, name = &AuthDeviceList{}, "DEVICE LIST"
	case FrameAuthRevoke:
		m, name = &AuthRevoke{}, "REVOKE"
	case FrameAuthDone:
		m, name = &AuthDone{}, "DONE"
	case FrameAuthMailbox:
		m, name = &AuthMailbox{}, "MAILBOX"
	case FrameAuthMail:
		m, name = &AuthMail{}, "MAIL"
	case FrameAuthMailKey:
		m, name = &AuthMailKey{}, "MAIL KEY"
	case FrameAuthRecipient:
		m, name = &AuthRecipient{}, "RECIPIENT"
	case FrameAuthMailKeys:
		m, name = &AuthMailKeys{}, "MAIL KEYS"
	case FrameAuthDeposit:
		m, name = &AuthDeposit{}, "DEPOSIT"
	case FrameAuthTaken:
		m, name = &AuthTaken{}, "TAKEN"
	default:
		return nil, fmt.Errorf("frame of the log-in conversation, type %#02x: %w", frameType, ErrType)
	}
	r := NewReader(body)
	m.parse(r)
	if err := r.Done(); err != nil {
		return nil, named(name, err)
	}
	return m, nil
}

// A Kind of START says what the person wants.
const (
	AuthRegister = 1 // make the account
	AuthLogin    = 2 // add this device to the account
	AuthRecover  = 3 // the same, with a one-time code (in Invite) and a new password
)

// AuthPrehash is the authentication method of this version: an Argon2id
// prehash of the password (realm.Prehash). 2 is reserved for OPAQUE.
const AuthPrehash = 1

// An AuthStart begins to register or log in.
type AuthStart struct {
	Kind   uint8  // AuthRegister, AuthLogin or AuthRecover
	Method uint8  // AuthPrehash; authd refuses what it does not know
	Name   string // at most MaxAuthName bytes
	Invite []byte // the invite, or realm.ResetCode.Proof; at most MaxInvite bytes, nil: none
}

func (m *AuthStart) Append(b []byte) []byte {
	if m.Kind < AuthRegister || m.Kind > AuthRecover {
		panic(fmt.Sprintf("wire: START of kind %d", m.Kind))
	}
	b = append(b, m.Kind, m.Method)              // Kind (8), Method (8)
	b = AppendString8(b, m.Name, MaxAuthName)    // Name Length (8), Name (..)
	return AppendBytes16(b, m.Invite, MaxInvite) // Invite Length (16), Invite (..)
}

func (m *AuthStart) parse(r *Reader) {
	m.Kind, m.Method = r.Uint8(), r.Uint8()
	m.Name = r.String8(MaxAuthName)
	m.Invite = r.Bytes16(MaxInvite)
	if m.Kind < AuthRegister || m.Kind > AuthRecover {
		r.Fail(ErrValue)
	}
}

// An AuthChallenge gives what the prehash needs.
type AuthChallenge struct {
	Salt [16]byte
	Time int64 // authd's clock, Unix milliseconds
	// The realm's password policy for new passwords. A node never goes below
	// its own minimum, so a realm can only ask for more.
	MinLength uint8 // characters
	MinScore  uint8 // zxcvbn, 0 to 4
}

func (m *AuthChallenge) Append(b []byte) []byte {
	mustFit(int(m.MinScore), 4)
	b = append(b, m.Salt[:]...)               // Salt (128)
	b = appendTime(b, m.Time)                 // Time (64)
	return append(b, m.MinLength, m.MinScore) // Minimum Length (8), Minimum Score (8)
}

func (m *AuthChallenge) parse(r *Reader) {
	r.Fill(m.Salt[:])
	m.Time = r.time()
	m.MinLength, m.MinScore = r.Uint8(), r.Uint8()
	if m.MinScore > 4 {
		r.Fail(ErrValue)
	}
}

// An AuthFinish proves the password. Prehash is a secret.
type AuthFinish struct {
	Prehash [32]byte
	Device  string // what the person calls this device, at most MaxDeviceName bytes
}

func (m *AuthFinish) Append(b []byte) []byte {
	b = append(b, m.Prehash[:]...)                   // Prehash (256)
	return AppendString8(b, m.Device, MaxDeviceName) // Device Name Length (8), Device Name (..)
}

func (m *AuthFinish) parse(r *Reader) {
	r.Fill(m.Prehash[:])
	m.Device = r.String8(MaxDeviceName)
}

// String, GoString and LogValue keep the prehash out of logs.
func (AuthFinish) String() string       { return "FINISH{[redacted]}" }
func (AuthFinish) GoString() string     { return "FINISH{[redacted]}" }
func (AuthFinish) LogValue() slog.Value { return slog.StringValue("FINISH{[redacted]}") }

// An AuthGrant carries the device's certificate, all in DER. The revocation
// list is signed by Issuing.
type AuthGrant struct {
	Leaf    []byte
	Issuing []byte
	Root    []byte
	CRL     []byte // nil: nothing was ever revoked
	Time    int64  // authd's clock, Unix milliseconds
}

func (m *AuthGrant) Append(b []byte) []byte {
	b = AppendBytes16(b, m.Leaf, MaxCertificate)    // Leaf Length (16), Leaf (..)
	b = AppendBytes16(b, m.Issuing, MaxCertificate) // Issuing Length (16), Issuing (..)
	b = AppendBytes16(b, m.Root, MaxCertificate)    // Root Length (16), Root (..)
	b = AppendBytes16(b, m.CRL, MaxCRL)             // CRL Length (16), CRL (..)
	return appendTime(b, m.Time)                    // Time (64)
}

func (m *AuthGrant) parse(r *Reader) {
	m.Leaf = r.Bytes16(MaxCertificate)
	m.Issuing = r.Bytes16(MaxCertificate)
	m.Root = r.Bytes16(MaxCertificate)
	m.CRL = r.Bytes16(MaxCRL)
	m.Time = r.time()
}

// An AuthRenew asks for a new certificate of the connection's device key.
type AuthRenew struct{}

func (m *AuthRenew) Append(b []byte) []byte { return b }
func (m *AuthRenew) parse(*Reader)          {}

// An AuthRefusal answers a request that a rule said no to.
type AuthRefusal struct {
	Code       Code
	RetryAfter uint32 // seconds; 0: trying again is up to the person
	Text       string // for people, at most 512 bytes; sanitised by who shows it
}

func (m *AuthRefusal) Append(b []byte) []byte {
	if m.Code == 0 {
		panic("wire: REFUSAL without a code")
	}
	b = binary.BigEndian.AppendUint16(b, uint16(m.Code)) // Code (16)
	b = binary.BigEndian.AppendUint32(b, m.RetryAfter)   // Retry After (32)
	return AppendString16(b, m.Text, maxRefusalText)     // Text Length (16), Text (..)
}

func (m *AuthRefusal) parse(r *Reader) {
	m.Code = Code(r.Uint16())
	m.RetryAfter = r.Uint32()
	m.Text = r.String16(maxRefusalText)
	if m.Code == 0 {
		r.Fail(ErrValue)
	}
}

// An AuthCRL is a revocation list that authd pushes. It brings its issuer,
// which after a change of the issuing certificate need not be the node's own.
type AuthCRL struct {
	Issuing []byte // DER, signed CRL
	CRL     []byte // DER
	Time    int64  // authd's clock, Unix milliseconds
}

func (m *AuthCRL) Append(b []byte) []byte {
	b = AppendBytes16(b, m.Issuing, MaxCertificate) // Issuing Length (16), Issuing (..)
	b = AppendBytes16(b, m.CRL, MaxCRL)             // CRL Length (16), CRL (..)
	return appendTime(b, m.Time)                    // Time (64)
}

func (m *AuthCRL) parse(r *Reader) {
	m.Issuing = r.Bytes16(MaxCertificate)
	m.CRL = r.Bytes16(MaxCRL)
	m.Time = r.time()
}

// An AuthPing asks whether authd is there and accepts the connection's
// certificate.
type AuthPing struct {
	Nonce uint64 // comes back in the PONG
}

func (m *AuthPing) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, m.Nonce)  // Nonce (64)
	return append(b, make([]byte, authPadding)...) // Padding (448), zero
}

func (m *AuthPing) parse(r *Reader) {
	m.Nonce = r.Uint64()
	r.zeros(authPadding)
}

// An AuthPong answers AuthPing.
type AuthPong struct {
	Nonce uint64
	Time  int64 // authd's clock, Unix milliseconds
}

func (m *AuthPong) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, m.Nonce)  // Nonce (64)
	b = appendTime(b, m.Time)                      // Time (64)
	return append(b, make([]byte, authPadding)...) // Padding (448), zero
}

func (m *AuthPong) parse(r *Reader) {
	m.Nonce = r.Uint64()
	m.Time = r.time()
	r.zeros(authPadding)
}

// An AuthRoster asks who is connected to authd.
type AuthRoster struct {
	// After is the last device of the page before; zero asks for the first.
	After DeviceID
	// Since is the Serial of an earlier roster: only what is new after it is
	// wanted. Zero: everybody.
	Since uint64
	// Addrs is where the asker says it can be dialled: other nodes may reach
	// it where authd does not, and authd sees one address of several. Those of
	// the last request count.
	Addrs []netip.AddrPort
}

func (m *AuthRoster) Append(b []byte) []byte {
	b = append(b, m.After[:]...)                  // After (64)
	b = binary.BigEndian.AppendUint64(b, m.Since) // Since (64)
	return appendAddrPorts(b, m.Addrs)            // Addresses (8), Address (..) each
}

func (m *AuthRoster) parse(r *Reader) {
	r.Fill(m.After[:])
	m.Since = r.Uint64()
	m.Addrs = r.addrPorts()
}

// appendAddrPorts appends the candidate addresses of one device.
func appendAddrPorts(b []byte, addrs []netip.AddrPort) []byte {
	mustFit(len(addrs), MaxRosterAddresses)
	b = append(b, uint8(len(addrs))) // Addresses (8)
	for _, a := range addrs {
		b = appendAddrPort(b, a) // Family (8), Address (32 or 128), Port (16)
	}
	return b
}

func (r *Reader) addrPorts() (addrs []netip.AddrPort) {
	for range r.count8(MaxRosterAddresses) {
		addrs = append(addrs, r.addrPort())
	}
	return addrs
}

// An AuthRosterPage answers AuthRoster with the next devices in ascending
// order of their ids.
type AuthRosterPage struct {
	// Issuers are the certificates that issued the entries' leaves, DER.
	Issuers [][]byte
	Entries []RosterEntry
	More    bool // devices follow after the last entry
	// Serial rises with every device that connects or has new addresses or a
	// new token. That of the first page is the Since to ask with next time; it
	// starts anew when authd does.
	Serial uint64
}

// A RosterEntry is one device that is connected to authd.
type RosterEntry struct {
	Leaf []byte // the token: the device's certificate, DER
	// Addrs are candidates, never facts: where authd sees the device, then
	// where it says it is. They are sent without zone and with IPv4 addresses
	// unmapped; a link-local one may be on any link.
	Addrs []netip.AddrPort
}

func (m *AuthRosterPage) Append(b []byte) []byte {
	mustFit(len(m.Issuers), MaxRosterIssuers)
	mustFit(len(m.Entries), MaxRosterEntries)
	b = AppendBool(b, m.More)                      // More (8)
	b = binary.BigEndian.AppendUint64(b, m.Serial) // Serial (64)
	b = append(b, uint8(len(m.Issuers)))           // Issuers (8)
	for _, der := range m.Issuers {
		b = AppendBytes16(b, der, MaxCertificate) // Issuer Length (16), Issuer (..)
	}
	b = append(b, uint8(len(m.Entries))) // Entries (8)
	for _, e := range m.Entries {
		b = AppendBytes16(b, e.Leaf, MaxCertificate) // Leaf Length (16), Leaf (..)
		b = appendAddrPorts(b, e.Addrs)              // Addresses (8), Address (..) each
	}
	return b
}

func (m *AuthRosterPage) parse(r *Reader) {
	m.More = r.Bool()
	m.Serial = r.Uint64()
	for range r.count8(MaxRosterIssuers) {
		m.Issuers = append(m.Issuers, r.Bytes16(MaxCertificate))
	}
	for range r.count8(MaxRosterEntries) {
		m.Entries = append(m.Entries, RosterEntry{Leaf: r.Bytes16(MaxCertificate), Addrs: r.addrPorts()})
	}
}

// A Code says which rule refused a request. Codes are only appended to; one
// that is not known here is shown by its number.
type Code uint16

const (
	CodeBadCredentials       Code = 1
	CodeNameTaken            Code = 2
	CodeWeakPassword         Code = 3
	CodeBadName              Code = 4
	CodeRateLimited          Code = 5
	CodeNotAuthenticated     Code = 6
	CodeUnavailable          Code = 7  // try later: disk full, shutting down
	CodeRegistrationClosed   Code = 8  // only the operator makes accounts
	CodeInviteNeeded         Code = 9  // no invite, or not a good one
	CodeTooManyDevices       Code = 10 // revoke one first
	CodeAccountLocked        Code = 11 // the operator unlocks it
	CodeBadRequest           Code = 12 // not understood, or not at this point
	CodeMethodUnknown        Code = 13 // the authentication method
	CodeRevoked              Code = 14 // the device's token
	CodeUnknownAccount       Code = 15 // a valid token of an account that is not on record
	CodeDeviceOfOtherAccount Code = 16 // the device key belongs to somebody else's account
	CodeNoSuchDevice         Code = 17 // the account has no such device, or none can be sent mail
	CodeMailboxFull          Code = 18 // as much waits for the account, or of the sender, as may
)

var codeNames = [...]string{
	CodeBadCredentials:       "bad_credentials",
	CodeNameTaken:            "name_taken",
	CodeWeakPassword:         "weak_password",
	CodeBadName:              "bad_name",
	CodeRateLimited:          "rate_limited",
	CodeNotAuthenticated:     "not_authenticated",
	CodeUnavailable:          "unavailable",
	CodeRegistrationClosed:   "registration_closed",
	CodeInviteNeeded:         "invite_needed",
	CodeTooManyDevices:       "too_many_devices",
	CodeAccountLocked:        "account_locked",
	CodeBadRequest:           "bad_request",
	CodeMethodUnknown:        "method_unknown",
	CodeRevoked:              "revoked",
	CodeUnknownAccount:       "unknown_account",
	CodeDeviceOfOtherAccount: "device_of_other_account",
	CodeNoSuchDevice:         "no_such_device",
	CodeMailboxFull:          "mailbox_full",
}

// String returns the code as scripts see it, in snake case.
func (c Code) String() string {
	if int(c) < len(codeNames) && codeNames[c] != "" {
		return codeNames[c]
	}
	return fmt.Sprintf("code_%d", uint16(c))
}

// UnixMilli returns t as messages of this conversation carry it. Times before
// 1970 are sent as 0.
func UnixMilli(t time.Time) int64 { return max(t.UnixMilli(), 0) }

func appendTime(b []byte, ms int64) []byte {
	if ms < 0 {
		panic(fmt.Sprintf("wire: time %d before 1970", ms))
	}
	return binary.BigEndian.AppendUint64(b, uint64(ms))
}

func (r *Reader) time() int64 {
	v := r.Uint64()
	if v > math.MaxInt64 {
		r.Fail(ErrValue)
		return 0
	}
	return int64(v)
}

// count8 reads a number (8) of things, at most max of them.
func (r *Reader) count8(max int) int {
	n := int(r.Uint8())
	if n > max {
		r.Fail(ErrTooLong)
		return 0
	}
	return n
}

// zeros reads n bytes that must be zero.
func (r *Reader) zeros(n int) {
	for _, p := range r.next(n) {
		if p != 0 {
			r.Fail(ErrReserved)
			return
		}
	}
}

func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().Unmap().WithZone("")
	switch {
	case ip.Is4():
		b = append(b, 4)
	case ip.Is6():
		b = append(b, 6)
	default:
		panic("wire: no address")
	}
	b = append(b, ip.AsSlice()...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}

func (r *Reader) addrPort() netip.AddrPort {
	var ip netip.Addr
	switch r.Uint8() {
	case 4:
		var a [4]byte
		r.Fill(a[:])
		ip = netip.AddrFrom4(a)
	case 6:
		var a [16]byte
		r.Fill(a[:])
		ip = netip.AddrFrom16(a)
		if ip.Is4In6() {
			r.Fail(ErrValue)
		}
	default:
		r.Fail(ErrValue)
	}
	port := r.Uint16()
	if r.err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, port)
}
