package wire

import (
	"encoding/binary"
	"net/netip"
)

// The conversation between two nodes over QUIC (ALPN lanchat-peer/1). The
// dialler opens one bidirectional stream, the control stream, and says Hello;
// the other answers Hello. Both are authenticated from then on, and frames go
// either way on that stream, in order. A question has a bidirectional stream
// of its own: one frame, then the answer's frames, then the end of the stream.
//
// Numbers are only added. 0x40 and up are questions and their answers.
const (
	FrameHello     = 0x01 // control stream, first in either direction
	FramePing      = 0x02 // Ping
	FramePong      = 0x03 // Ping, echoed
	FrameDirect    = 0x04 // DirectMessage, reliable
	FrameDirectAck = 0x05 // DirectAck
	FrameKey       = 0x06 // Key
	FramePacket    = 0x07 // a room packet, for who asked for a Mirror
	FrameSigned    = 0x08 // Signed
	FrameMirror    = 0x09 // Mirror
	FrameToken     = 0x0a // Token
	FrameNewCRL    = 0x0b // NewCRL
	FrameCopy      = 0x0c // Copy, to another device of one's own

	FrameRooms    = 0x40 // question: empty; answer: RoomInfo frames
	FrameRoomInfo = 0x41 // on the control stream too: the receiver is in the room
	FrameJoin     = 0x42 // question: Join; answer: Entry frames, Key, Base, Bases
	FrameEntry    = 0x43 // a log entry as it stands in the log
	FrameBase     = 0x44 // Base; on the control stream too
	FrameLog      = 0x45 // question: LogRange; answer: Entry frames
	FrameKeyOf    = 0x46 // question: KeyRequest; answer: Key
	FramePart     = 0x47 // question: Part; answer: Done
	FrameDone     = 0x48 // empty: the question was granted
	FrameAskCRL   = 0x49 // question: empty; answer: CRL, or nothing where there is none
	FrameCRL      = 0x4a // CRL
	FramePull     = 0x4b // question: Vector; answer: Signed frames, a page of what the asker lacks
	FrameBases    = 0x4c // Vector: where others' messages begin, in the answer to Join
	FrameAskText  = 0x4d // question: AskText; answer: Text
	FrameText     = 0x4e // the text of a long message, as it was written
	FrameRefused  = 0x4f // Refused ends any answer
	FrameAct      = 0x50 // question: Act; answer: Done
	FrameInvite   = 0x51 // question: Invite; answer: Done
	FrameAskPeers = 0x52 // question: empty; answer: Peers frames, who is linked with the one asked
	FramePeers    = 0x53 // Peers
	FrameEnter    = 0x54 // question: Enter; answer: Entry frames, Key, Base
)

// Limits of the conversation, in bytes unless said otherwise.
const (
	MaxFrame      = 64 << 10                                            // body of one frame
	MaxDirectText = MaxFrame - copyHeader - 8 - messageHeader - refSize // text of a reliable direct message, of which a Copy fits a frame
	MaxPacketText = MaxBody - messageHeader - refSize                   // text of a message in one datagram or room packet
	MaxDatagram   = 1100                                                // a QUIC DATAGRAM's payload
	MaxPeers      = 64                                                  // devices in one Peers
	pingPadding   = 48                                                  // makes a ping long enough to draw a stateless reset
)

// A Hello is the first frame in either direction.
type Hello struct {
	Version   uint16 // 1; the ALPN decides what may be said, so any is taken
	Boot      uint64 // counts this device's starts
	Time      uint64 // Unix time, milliseconds, for the warning about clocks
	CRLNumber uint64 // of the newest revocation list held, 0: none
	Features  uint32 // reserved: sent as 0, not looked at
}

func (m *Hello) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, m.Version)     // Version (16)
	b = binary.BigEndian.AppendUint64(b, m.Boot)        // Boot (64)
	b = binary.BigEndian.AppendUint64(b, m.Time)        // Time (64)
	b = binary.BigEndian.AppendUint64(b, m.CRLNumber)   // CRL Number (64)
	return binary.BigEndian.AppendUint32(b, m.Features) // Features (32)
}

// ParseHello reads a Hello. Bytes behind the known fields are refused, as
// everywhere else.
func ParseHello(b []byte) (*Hello, error) {
	r := NewReader(b)
	m := &Hello{Version: r.Uint16(), Boot: r.Uint64(), Time: r.Uint64(), CRLNumber: r.Uint64(), Features: r.Uint32()}
	return parsed("hello", m, r)
}

// A Ping asks for the same bytes back. It is padded, since QUIC answers only
// packets of some length with a stateless reset.
type Ping struct {
	Nonce uint64
}

func (m *Ping) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, m.Nonce)  // Nonce (64)
	return append(b, make([]byte, pingPadding)...) // Padding (384), zero
}

func ParsePing(b []byte) (*Ping, error) {
	r := NewReader(b)
	m := &Ping{Nonce: r.Uint64()}
	for _, p := range r.Bytes(pingPadding) {
		if p != 0 {
			r.Fail(ErrReserved)
		}
	}
	return parsed("ping", m, r)
}

// A DirectMessage goes to one person: on the control stream when reliable, in
// a DATAGRAM when fast. The numbers of reliable ones from the device to the
// account rise, at each start to boot (32) ‖ 0 (30) at least; a fast one's is the
// device's boot number (32) and a count (32).
type DirectMessage struct {
	Clock   Clock
	Message Message // text of at most MaxDirectText bytes, MaxPacketText in a datagram
}

func (m *DirectMessage) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(m.Clock)) // Clock (64)
	mustFit(m.Message.Len(), MaxFrame-8)
	return m.Message.appendBody(b) // Message (..)
}

func ParseDirectMessage(b []byte) (*DirectMessage, error) {
	r := NewReader(b)
	m := &DirectMessage{Clock: Clock(r.Uint64())}
	m.Message.parseBody(r)
	return parsed("direct message", m, r)
}

// A Copy tells another device of the same account what this one wrote to
// somebody, so that all of them show both sides of a chat. It is delivered like
// a reliable direct message to oneself.
type Copy struct {
	Number uint64    // of the device's copies; they rise like those of reliable messages
	To     AccountID // who it was written to
	Fast   bool      // how it went there
	DirectMessage
}

const copyHeader = 8 + 16 + 1

func (m *Copy) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, m.Number) // Number (64)
	b = append(b, m.To[:]...)                      // To (128)
	b = AppendBool(b, m.Fast)                      // Fast (8)
	mustFit(m.Message.Len(), MaxFrame-copyHeader-8)
	return m.DirectMessage.Append(b) // Direct Message (..)
}

func ParseCopy(b []byte) (*Copy, error) {
	r := NewReader(b)
	m := &Copy{Number: r.Uint64()}
	if m.Number == 0 {
		r.Fail(ErrValue)
	}
	r.Fill(m.To[:])
	m.Fast = r.Bool()
	m.Clock = Clock(r.Uint64())
	m.Message.parseBody(r)
	return parsed("copy", m, r)
}

// A DirectAck says that every reliable direct message, or Copy, of the receiving
// device up to Number is on the sender's disk.
type DirectAck struct {
	Number uint64
}

func (m *DirectAck) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(b, m.Number) // Number (64)
}

func ParseDirectAck(b []byte) (*DirectAck, error) {
	r := NewReader(b)
	m := &DirectAck{Number: r.Uint64()}
	return parsed("direct ack", m, r)
}

// A Key hands on the secret of a room's epoch. The receiver believes it only
// if it fits the commitment in the entry.
type Key struct {
	Room   RoomID
	Entry  Hash // the entry that began the epoch
	Secret [32]byte
}

func (m *Key) Append(b []byte) []byte {
	b = append(b, m.Room[:]...)      // Room (256)
	b = append(b, m.Entry[:]...)     // Entry (256)
	return append(b, m.Secret[:]...) // Secret (256)
}

func ParseKey(b []byte) (*Key, error) {
	r := NewReader(b)
	m := &Key{}
	r.Fill(m.Room[:])
	r.Fill(m.Entry[:])
	r.Fill(m.Secret[:])
	return parsed("key", m, r)
}

// A RoomInfo describes one room in the answer to FrameRooms. Private rooms
// are described to their members only.
type RoomInfo struct {
	Room    RoomID
	Admin   AccountID // seat 1
	Writer  AccountID // who lets people in now: the admin, or who stands in
	Seq     uint64    // of the head of the log
	Head    Hash
	Members uint16 // people
	Private bool
	Member  bool // whether the one who asked is a member
	Name    string
	Topic   string
}

func (m *RoomInfo) Append(b []byte) []byte {
	b = append(b, m.Room[:]...)                     // Room (256)
	b = append(b, m.Admin[:]...)                    // Admin (128)
	b = append(b, m.Writer[:]...)                   // Writer (128)
	b = binary.BigEndian.AppendUint64(b, m.Seq)     // Seq (64)
	b = append(b, m.Head[:]...)                     // Head (256)
	b = binary.BigEndian.AppendUint16(b, m.Members) // Members (16)
	b = AppendBool(b, m.Private)                    // Private (8)
	b = AppendBool(b, m.Member)                     // Member (8)
	b = AppendString8(b, m.Name, MaxRoomName)       // Name Length (8), Name (..)
	return AppendString16(b, m.Topic, MaxTopic)     // Topic Length (16), Topic (..)
}

func ParseRoomInfo(b []byte) (*RoomInfo, error) {
	r := NewReader(b)
	m := &RoomInfo{}
	r.Fill(m.Room[:])
	r.Fill(m.Admin[:])
	r.Fill(m.Writer[:])
	m.Seq = r.Uint64()
	r.Fill(m.Head[:])
	m.Members = r.Uint16()
	m.Private = r.Bool()
	m.Member = r.Bool()
	m.Name = r.String8(MaxRoomName)
	m.Topic = r.String16(MaxTopic)
	return parsed("room info", m, r)
}

// A Join is a person's wish to be let into a room: it asks the room's writer to
// admit the person, or a member for what a member's device needs to take part.
type Join struct {
	Room   RoomID
	Invite []byte // Invite, appended; empty: none
}

func (m *Join) Append(b []byte) []byte {
	b = append(b, m.Room[:]...)   // Room (256)
	return append(b, m.Invite...) // Invite (..)
}

func ParseJoin(b []byte) (*Join, error) {
	r := NewReader(b)
	m := &Join{}
	r.Fill(m.Room[:])
	m.Invite = r.Rest()
	return parsed("join", m, r)
}

// An Enter asks a member for what the asking device needs to take part in a
// room, as it was told that it is in it. It is what a node asks by itself: nobody
// is admitted for it, so that it can't undo a removal that it had not heard of,
// or that was confirmed in the meantime.
type Enter struct {
	Room RoomID
}

func (m *Enter) Append(b []byte) []byte { return append(b, m.Room[:]...) } // Room (256)

func ParseEnter(b []byte) (*Enter, error) {
	r := NewReader(b)
	m := &Enter{}
	r.Fill(m.Room[:])
	return parsed("enter", m, r)
}

// An Act asks the room's writer to append an entry with these arguments for
// the member that asks. Marks are the writer's to fill in.
type Act struct {
	Room RoomID
	Args Args
}

func (m *Act) Append(b []byte) []byte {
	b = append(b, m.Room[:]...)      // Room (256)
	b = append(b, byte(m.Args.Op())) // Op (8)
	return AppendArgs(b, m.Args)     // Arguments (..)
}

func ParseAct(b []byte) (*Act, error) {
	r := NewReader(b)
	m := &Act{}
	r.Fill(m.Room[:])
	op := Op(r.Uint8())
	args := r.Rest()
	if err := r.Done(); err != nil {
		return nil, named("act", err)
	}
	if len(args) > MaxArgs {
		return nil, named("act", ErrTooLong)
	}
	var err error
	if m.Args, err = ParseArgs(op, args); err != nil {
		return nil, named("act", err)
	}
	return m, nil
}

// A Part tells the room's writer that the person who asks leaves the room.
// The signed leave travels by multicast too; this is the copy that arrives,
// and is sent until somebody has recorded it.
type Part struct {
	Room   RoomID
	Packet []byte // the sealed room packet of kind leave; empty when said again
}

func (m *Part) Append(b []byte) []byte {
	b = append(b, m.Room[:]...)   // Room (256)
	return append(b, m.Packet...) // Packet (..)
}

func ParsePart(b []byte) (*Part, error) {
	r := NewReader(b)
	m := &Part{}
	r.Fill(m.Room[:])
	m.Packet = r.Rest()
	return parsed("part", m, r)
}

// A Base tells a device that was let into a room where the sender's reliable
// messages begin for it: those up to Number were sent before.
type Base struct {
	Room   RoomID
	Number uint64 // the sender's last rseq then
}

func (m *Base) Append(b []byte) []byte {
	b = append(b, m.Room[:]...)                       // Room (256)
	return binary.BigEndian.AppendUint64(b, m.Number) // Number (64)
}

func ParseBase(b []byte) (*Base, error) {
	r := NewReader(b)
	m := &Base{}
	r.Fill(m.Room[:])
	m.Number = r.Uint64()
	return parsed("base", m, r)
}

// A Signed is a room packet's plaintext with its author's signature, as
// history keeps it: what a member missed and can no longer get as a packet. It
// is sent only to devices of the packet's own epoch, which is named by the
// entry that began it.
type Signed struct {
	Room   RoomID
	Entry  Hash
	Signed []byte
}

func (m *Signed) Append(b []byte) []byte {
	b = append(b, m.Room[:]...)   // Room (256)
	b = append(b, m.Entry[:]...)  // Entry (256)
	return append(b, m.Signed...) // Signed (..)
}

func ParseSigned(b []byte) (*Signed, error) {
	r := NewReader(b)
	m := &Signed{}
	r.Fill(m.Room[:])
	r.Fill(m.Entry[:])
	m.Signed = r.Rest()
	return parsed("signed", m, r)
}

// A Mirror asks for the sender's room packets over the link, beside multicast,
// for some time: they do not arrive otherwise. It is asked for again as long
// as that is so.
type Mirror struct {
	Seconds uint16 // 0 ends it
}

func (m *Mirror) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint16(b, m.Seconds) // Seconds (16)
}

func ParseMirror(b []byte) (*Mirror, error) {
	r := NewReader(b)
	m := &Mirror{Seconds: r.Uint16()}
	return parsed("mirror", m, r)
}

// A Token is the sender's new token, for the one it showed in the handshake:
// renewed, or with another name. It counts if the handshake would have taken
// it: issued by the realm, in force, and for the same key and account.
type Token struct {
	Leaf    []byte // certificate, DER, at most MaxCertificate bytes
	Issuing []byte // its issuer, DER, at most MaxCertificate bytes
}

func (m *Token) Append(b []byte) []byte {
	b = AppendBytes16(b, m.Leaf, MaxCertificate)       // Leaf Length (16), Leaf (..)
	return AppendBytes16(b, m.Issuing, MaxCertificate) // Issuing Length (16), Issuing (..)
}

func ParseToken(b []byte) (*Token, error) {
	r := NewReader(b)
	m := &Token{Leaf: r.Bytes16(MaxCertificate), Issuing: r.Bytes16(MaxCertificate)}
	return parsed("token", m, r)
}

// A NewCRL says that the sender holds a revocation list of this number since
// its Hello. Whoever holds an older one asks for it (FrameAskCRL).
type NewCRL struct {
	Number uint64
}

func (m *NewCRL) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(b, m.Number) // Number (64)
}

func ParseNewCRL(b []byte) (*NewCRL, error) {
	r := NewReader(b)
	m := &NewCRL{Number: r.Uint64()}
	return parsed("new crl", m, r)
}

// A CRL is the realm's revocation list as a node hands it on. It brings its
// issuer, by which everybody can verify it: who handed it on does not matter.
type CRL struct {
	Issuing []byte // DER, signed List; at most MaxCertificate bytes
	List    []byte // DER, at most MaxCRL bytes
}

func (m *CRL) Append(b []byte) []byte {
	b = AppendBytes16(b, m.Issuing, MaxCertificate) // Issuing Length (16), Issuing (..)
	return AppendBytes16(b, m.List, MaxCRL)         // List Length (16), List (..)
}

func ParseCRL(b []byte) (*CRL, error) {
	r := NewReader(b)
	m := &CRL{Issuing: r.Bytes16(MaxCertificate), List: r.Bytes16(MaxCRL)}
	return parsed("crl", m, r)
}

// A LogRange asks for the entries of a room's log, on every branch, whose
// number is From or higher.
type LogRange struct {
	Room RoomID
	From uint64
}

func (m *LogRange) Append(b []byte) []byte {
	b = append(b, m.Room[:]...)                     // Room (256)
	return binary.BigEndian.AppendUint64(b, m.From) // From (64)
}

func ParseLogRange(b []byte) (*LogRange, error) {
	r := NewReader(b)
	m := &LogRange{}
	r.Fill(m.Room[:])
	m.From = r.Uint64()
	return parsed("log range", m, r)
}

// A KeyRequest asks for the secret of a room's epoch.
type KeyRequest struct {
	Room  RoomID
	Entry Hash
}

func (m *KeyRequest) Append(b []byte) []byte {
	b = append(b, m.Room[:]...)     // Room (256)
	return append(b, m.Entry[:]...) // Entry (256)
}

func ParseKeyRequest(b []byte) (*KeyRequest, error) {
	r := NewReader(b)
	m := &KeyRequest{}
	r.Fill(m.Room[:])
	r.Fill(m.Entry[:])
	return parsed("key request", m, r)
}

// Peers tells of devices that the sender has links with: where it reaches them
// and where they say they are. It is a hint, as nobody vouches for it.
type Peers struct {
	Entries []PeerEntry // at most MaxPeers
}

// A PeerEntry is a device and its candidate addresses, without zones, at most
// MaxRosterAddresses.
type PeerEntry struct {
	Device DeviceID
	Addrs  []netip.AddrPort
}

func (m *Peers) Append(b []byte) []byte {
	mustFit(len(m.Entries), MaxPeers)
	b = append(b, uint8(len(m.Entries))) // Entries (8)
	for _, e := range m.Entries {
		b = append(b, e.Device[:]...)   // Device (64)
		b = appendAddrPorts(b, e.Addrs) // Addresses (8), Address (..) each
	}
	return b
}

func ParsePeers(b []byte) (*Peers, error) {
	r := NewReader(b)
	m := &Peers{}
	for range r.count8(MaxPeers) {
		var e PeerEntry
		r.Fill(e.Device[:])
		e.Addrs = r.addrPorts()
		m.Entries = append(m.Entries, e)
	}
	return parsed("peers", m, r)
}

// A Refused says why a question was not granted.
type Refused struct {
	Code string // snake case, as in the program's contract
	Text string // for people; sanitised by who shows it
}

func (m *Refused) Append(b []byte) []byte {
	b = AppendString8(b, m.Code, 64)            // Code Length (8), Code (..)
	return AppendString16(b, m.Text, MaxReason) // Text Length (16), Text (..)
}

func ParseRefused(b []byte) (*Refused, error) {
	r := NewReader(b)
	m := &Refused{Code: r.String8(64), Text: r.String16(MaxReason)}
	return parsed("refused", m, r)
}

func parsed[T any](name string, m *T, r *Reader) (*T, error) {
	if err := r.Done(); err != nil {
		return nil, named(name, err)
	}
	return m, nil
}
