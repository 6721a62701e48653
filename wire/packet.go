package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"
)

// Room packets: what members of a room send each other by multicast, by
// unicast for repair, and by QUIC to whom multicast does not reach. All have
// one of four sizes, so that a listener learns little from their length.
//
// Outside:
//
//	 0   1  type and version: 0x11
//	 1   1  reserved, 0
//	 2   8  key id
//	10  24  nonce, random
//	34   …  XChaCha20-Poly1305 ciphertext, additional data = bytes 0–33
//	-16 16  its tag
//
// Inside:
//
//	 0   2  slot of the sending device in the device table of the epoch's entry
//	 2   8  seq: counts every packet of the device in the room, never reused
//	10   8  clock
//	18   1  kind
//	19   1  flags, only of kinds with messages (1, 6, 8): bit 0 reliable,
//	        bit 1 of a burst
//	20   2  length L of the body
//	22   L  body
//	  …     zeros, as few as make 22+L+… one of 128, 256, 512, 1086, with the
//	        proof, if there is one
//	  …     proof, in a packet of a burst
//	-64 64  Ed25519ctx "lanchat room packet v1" over
//	        realm id ‖ room id ‖ hash of the epoch's entry ‖ everything before it;
//	        in a packet of a burst: see Proof
//
// Sealing, opening and signatures are the business of node/room.
const (
	PacketType = 0x11 // room packet, version 1

	PacketHeaderSize = 34
	NonceSize        = 24
	SignatureSize    = 64

	MaxPacket     = 1200 // bytes of a datagram
	MaxBody       = MaxPacket - PacketHeaderSize - plainHeader - SignatureSize - tagSize
	MaxLongText   = 64 << 10 // bytes of a message that is announced by a Notice
	plainHeader   = 22
	tagSize       = 16
	messageHeader = 9
	refSize       = 8
	ackSize       = 10
	rangeSize     = 16
	packHeader    = 2
)

// plainSizes are the sizes of a plaintext with its padding, without its
// signature.
var plainSizes = [...]int{128, 256, 512, MaxPacket - PacketHeaderSize - SignatureSize - tagSize}

// The Ed25519ctx contexts of room packets.
const (
	PacketContext = "lanchat room packet v1"
	BurstContext  = "lanchat room burst v1"
)

// A PacketHeader is the part of a room packet that is not encrypted.
type PacketHeader struct {
	KeyID KeyID
	Nonce [NonceSize]byte
}

// Append appends the PacketHeaderSize bytes of the header.
func (h *PacketHeader) Append(b []byte) []byte {
	b = append(b, PacketType, 0)    // Type (8), Reserved (8)
	b = append(b, h.KeyID[:]...)    // Key ID (64)
	return append(b, h.Nonce[:]...) // Nonce (192)
}

// ParsePacketHeader reads the header of a whole room packet and refuses one
// that has none of the four sizes. The ciphertext is packet[PacketHeaderSize:].
func ParsePacketHeader(packet []byte) (PacketHeader, error) {
	h, err := parsePacketHeader(packet)
	if err != nil {
		return PacketHeader{}, named("room packet", err)
	}
	return h, nil
}

func parsePacketHeader(packet []byte) (h PacketHeader, err error) {
	if len(packet) > MaxPacket {
		return h, ErrTooLong
	}
	if plainSize(len(packet)-PacketHeaderSize-SignatureSize-tagSize) < 0 {
		return h, ErrTruncated
	}
	r := NewReader(packet[:PacketHeaderSize])
	switch t := r.Uint8(); {
	case t&0x0f != PacketType&0x0f:
		return h, ErrVersion
	case t != PacketType:
		return h, ErrType
	}
	r.zeros(1)
	r.Fill(h.KeyID[:])
	r.Fill(h.Nonce[:])
	return h, r.Done()
}

// plainSize returns n if it is one of the sizes of a plaintext, else -1.
func plainSize(n int) int {
	for _, size := range plainSizes {
		if n == size {
			return n
		}
	}
	return -1
}

// paddedSize returns the size of a plaintext with a body and a proof of n bytes.
func paddedSize(n int) int {
	for _, size := range plainSizes {
		if plainHeader+n <= size {
			return size
		}
	}
	panic(fmt.Sprintf("wire: body of %d bytes, at most %d fit", n, MaxBody))
}

// A Kind says what the body of a room packet is.
type Kind uint8

const (
	KindMessage       Kind = 1
	KindLogEntry      Kind = 2
	KindBeacon        Kind = 3
	KindLeave         Kind = 4
	KindAcks          Kind = 5
	KindNotice        Kind = 6
	KindRepairRequest Kind = 7
	KindPack          Kind = 8
)

var kindNames = [...]string{
	KindMessage:       "message",
	KindLogEntry:      "log entry",
	KindBeacon:        "beacon",
	KindLeave:         "leave",
	KindAcks:          "acknowledgements",
	KindNotice:        "notice of a long message",
	KindRepairRequest: "repair request",
	KindPack:          "pack",
}

func (k Kind) known() bool { return k >= KindMessage && k <= KindPack }

// mayBeReliable reports whether packets of the kind carry messages, which are
// what the reliable bit is about.
func (k Kind) mayBeReliable() bool {
	return k == KindMessage || k == KindNotice || k == KindPack
}

func (k Kind) String() string {
	if k.known() {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

const (
	flagReliable = 1 << 0
	flagBurst    = 1 << 1
)

// A Plain is what is inside a room packet, without its signature and with its
// body still in one piece: the body is parsed after the signature was checked.
type Plain struct {
	Slot     uint16
	Seq      uint64 // from 1
	Clock    Clock
	Kind     Kind
	Reliable bool // the numbers in the body are rseq, else fseq
	Body     []byte
	Proof    *Proof // in a packet of a burst, else nil
}

// Append appends the plaintext with its padding and its proof, without the
// signature. It panics if body and proof are over MaxBody bytes, or on a value
// that ParsePlain would refuse.
func (p *Plain) Append(b []byte) []byte {
	if !p.Kind.known() || p.Seq == 0 || (p.Reliable || p.Proof != nil) && !p.Kind.mayBeReliable() {
		panic(fmt.Sprintf("wire: packet of %v, seq %d, reliable %v, burst %v", p.Kind, p.Seq, p.Reliable, p.Proof != nil))
	}
	var flags byte
	if p.Reliable {
		flags |= flagReliable
	}
	if p.Proof != nil {
		flags |= flagBurst
	}
	end := len(b) + paddedSize(len(p.Body)+p.Proof.Len()) - p.Proof.Len()
	b = binary.BigEndian.AppendUint16(b, p.Slot)              // Slot (16)
	b = binary.BigEndian.AppendUint64(b, p.Seq)               // Seq (64)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Clock))     // Clock (64)
	b = append(b, byte(p.Kind), flags)                        // Kind (8), Flags (8)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.Body))) // Length (16)
	b = append(b, p.Body...)                                  // Body (..)
	b = append(b, make([]byte, end-len(b))...)                // Padding (..)
	if p.Proof == nil {
		return b
	}
	return p.Proof.Append(b) // Proof (..)
}

// ParsePlain reads a plaintext without its signature. Padding that is not
// zero, or more of it than needed, is refused: a packet has one spelling.
func ParsePlain(b []byte) (*Plain, error) {
	size := len(b)
	var proof *Proof
	if len(b) >= plainHeader && b[19]&flagBurst != 0 {
		var err error
		if proof, b, err = cutProof(b); err != nil {
			return nil, named("room plaintext", err)
		}
	}
	r := NewReader(b)
	p := &Plain{Slot: r.Uint16(), Seq: r.Uint64(), Clock: Clock(r.Uint64()), Kind: Kind(r.Uint8()), Proof: proof}
	flags := r.Uint8()
	n := int(r.Uint16())
	if n > MaxBody-proof.Len() {
		r.Fail(ErrTooLong)
	}
	p.Body = r.Bytes(n)
	r.zeros(r.Len())
	switch {
	case r.Err() != nil:
	case paddedSize(n+proof.Len()) != size:
		r.Fail(ErrValue)
	case !p.Kind.known():
		r.Fail(ErrType)
	case flags&^(flagReliable|flagBurst) != 0 || flags != 0 && !p.Kind.mayBeReliable():
		r.Fail(ErrReserved)
	case p.Seq == 0:
		r.Fail(ErrValue)
	}
	p.Reliable = flags&flagReliable != 0
	return parsed("room plaintext", p, r)
}

// MaxBurst is how many packets are signed together at most; MaxBurstBody is what
// fits into each of so many.
const (
	MaxBurst     = 1 << maxDepth
	MaxBurstBody = MaxBody - maxDepth*len(Hash{}) - 1
	maxDepth     = 4
)

// A Proof is in packets that were signed together: 2, 4, 8 or 16, a burst. Their
// plaintexts are the leaves of a binary tree of hashes, and what is signed is its
// root, so that each packet can be verified, repaired and handed on without the
// others:
//
//	leaf      = SHA-256(0 ‖ plaintext before the proof)
//	node      = SHA-256(1 ‖ left ‖ right)
//	signature = Ed25519ctx "lanchat room burst v1" over
//	            realm id ‖ room id ‖ hash of the epoch's entry ‖ root
//
// The proof leads from the leaf to the root:
//
//	0  32·d  the hashes that stand beside the way, from the leaf up
//	…  1     place: bits 0–3 index of the packet in the burst, bits 4–7 d, 1 to 4
type Proof struct {
	Index uint8  // less than 2^d
	Path  []Hash // d of them
}

// Len returns the size of the proof in bytes, 0 of none.
func (p *Proof) Len() int {
	if p == nil {
		return 0
	}
	return len(p.Path)*len(Hash{}) + 1
}

func (p *Proof) valid() bool {
	return len(p.Path) >= 1 && len(p.Path) <= maxDepth && p.Index>>len(p.Path) == 0
}

// Append appends the proof. It panics on one that could not be parsed again.
func (p *Proof) Append(b []byte) []byte {
	if !p.valid() {
		panic(fmt.Sprintf("wire: proof of packet %d, %d hashes", p.Index, len(p.Path)))
	}
	for _, h := range p.Path {
		b = append(b, h[:]...) // Hash (256)
	}
	return append(b, p.Index|byte(len(p.Path)<<4)) // Place (8)
}

// cutProof takes the proof from the end of a plaintext of at least plainHeader
// bytes.
func cutProof(b []byte) (*Proof, []byte, error) {
	place := b[len(b)-1]
	p := &Proof{Index: place & 0x0f, Path: make([]Hash, place>>4)}
	rest := len(b) - p.Len()
	switch {
	case !p.valid():
		return nil, nil, ErrValue
	case rest < plainHeader:
		return nil, nil, ErrTruncated
	}
	for i := range p.Path {
		copy(p.Path[i][:], b[rest+i*len(Hash{}):])
	}
	return p, b[:rest], nil
}

// A Body is what a room packet carries: *Message, *LogEntry, *Beacon, *Leave,
// *Acks, *Notice, *RepairRequest or *Pack.
type Body interface {
	Kind() Kind
	appendBody(b []byte) []byte
	parseBody(r *Reader)
}

func (*Message) Kind() Kind       { return KindMessage }
func (*LogEntry) Kind() Kind      { return KindLogEntry }
func (*Beacon) Kind() Kind        { return KindBeacon }
func (*Leave) Kind() Kind         { return KindLeave }
func (*Acks) Kind() Kind          { return KindAcks }
func (*Notice) Kind() Kind        { return KindNotice }
func (*RepairRequest) Kind() Kind { return KindRepairRequest }
func (*Pack) Kind() Kind          { return KindPack }

// AppendBody appends the body of a room packet. It panics on one that could
// not be parsed again.
func AppendBody(b []byte, m Body) []byte {
	n := len(b)
	b = m.appendBody(b)
	mustFit(len(b)-n, MaxBody)
	return b
}

// ParseBody reads the body of a room packet of kind k.
func ParseBody(k Kind, b []byte) (Body, error) {
	var m Body
	switch k {
	case KindMessage:
		m = &Message{}
	case KindLogEntry:
		m = &LogEntry{}
	case KindBeacon:
		m = &Beacon{}
	case KindLeave:
		m = &Leave{}
	case KindAcks:
		m = &Acks{}
	case KindNotice:
		m = &Notice{}
	case KindRepairRequest:
		m = &RepairRequest{}
	case KindPack:
		m = &Pack{}
	default:
		return nil, named(k.String(), ErrType)
	}
	r := NewReader(b)
	if len(b) > MaxBody {
		r.Fail(ErrTooLong)
	}
	m.parseBody(r)
	if err := r.Done(); err != nil {
		return nil, named(k.String(), err)
	}
	return m, nil
}

// A Verb says what a message does. It takes two bits.
type Verb uint8

const (
	Say    Verb = 0 // a line of text; Ref: what it answers
	Action Verb = 1 // "/me waves"; Ref: what it answers
	Edit   Verb = 2 // new text of the author's message Ref
	Delete Verb = 3 // takes back the author's message Ref; no text
)

const (
	verbMask = 0x03
	refBit   = 1 << 2
)

// A Message is what somebody wrote. Ref costs its 8 bytes only where it is
// set, which is why the second byte group is a set of bits:
//
//	0  8  number: rseq of a reliable packet, fseq of a fast one
//	8  1  bits 0–1 verb, bit 2 ref follows
//	9  8  ref, if so
//	…     text, UTF-8, to the end
type Message struct {
	Number uint64 // counts the device's messages in the room, from 1; fast ones by themselves
	Verb   Verb
	Ref    [8]byte // id of another message, zero: none
	Text   string  // empty in Delete only
}

// MaxText returns how many bytes of text fit into one packet.
func (m *Message) MaxText() int { return MaxBody - (m.Len() - len(m.Text)) }

// Len returns the size of the body in bytes.
func (m *Message) Len() int {
	n := messageHeader + len(m.Text)
	if m.Ref != [8]byte{} {
		n += refSize
	}
	return n
}

func (m *Message) valid() bool {
	return validMessage(m.Number, m.Verb, m.Ref) && (m.Text == "") == (m.Verb == Delete) && utf8.ValidString(m.Text)
}

func validMessage(number uint64, verb Verb, ref [8]byte) bool {
	return number > 0 && verb <= Delete && (verb < Edit || ref != [8]byte{})
}

func (m *Message) appendBody(b []byte) []byte {
	if !m.valid() {
		panic(fmt.Sprintf("wire: message %d, verb %d, text %q", m.Number, m.Verb, m.Text))
	}
	b = appendMessageHeader(b, m.Number, m.Verb, m.Ref) // Number (64), Bits (8), Ref (0 or 64)
	return append(b, m.Text...)                         // Text (..)
}

func (m *Message) parseBody(r *Reader) {
	m.Number, m.Verb, m.Ref = r.messageHeader()
	m.Text = string(r.next(r.Len()))
	if !utf8.ValidString(m.Text) {
		r.Fail(ErrUTF8)
	} else if !m.valid() {
		r.Fail(ErrValue)
	}
}

func appendMessageHeader(b []byte, number uint64, verb Verb, ref [8]byte) []byte {
	b = binary.BigEndian.AppendUint64(b, number)
	if ref == [8]byte{} {
		return append(b, byte(verb))
	}
	b = append(b, byte(verb)|refBit)
	return append(b, ref[:]...)
}

func (r *Reader) messageHeader() (number uint64, verb Verb, ref [8]byte) {
	number = r.Uint64()
	bits := r.Uint8()
	if bits&^(verbMask|refBit) != 0 {
		r.Fail(ErrReserved)
	}
	if bits&refBit != 0 {
		r.Fill(ref[:])
		if ref == [8]byte{} {
			r.Fail(ErrValue)
		}
	}
	return number, Verb(bits & verbMask), ref
}

// A LogEntry carries an entry of the room's log as it stands there.
type LogEntry struct {
	Entry []byte
}

func (m *LogEntry) appendBody(b []byte) []byte { return append(b, m.Entry...) }

// The entry has a parser of its own; only its size is looked at here.
func (m *LogEntry) parseBody(r *Reader) {
	if r.Len() < entryHeader+SignatureSize {
		r.Fail(ErrTruncated)
	}
	m.Entry = r.Rest()
}

// A Beacon says what its sender has: of the log, and of its own messages.
type Beacon struct {
	LogSeq   uint64 // of the head
	Head     Hash
	Reliable uint64 // the highest rseq the sender has used
	Fast     uint64 // the highest fseq
}

func (m *Beacon) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, m.LogSeq)   // Log Seq (64)
	b = append(b, m.Head[:]...)                      // Head (256)
	b = binary.BigEndian.AppendUint64(b, m.Reliable) // Reliable (64)
	return binary.BigEndian.AppendUint64(b, m.Fast)  // Fast (64)
}

func (m *Beacon) parseBody(r *Reader) {
	m.LogSeq = r.Uint64()
	r.Fill(m.Head[:])
	m.Reliable = r.Uint64()
	m.Fast = r.Uint64()
}

// A Leave is a plain member's goodbye for good. The room's writer records it
// in the log; until then it already stops the person's keys.
type Leave struct {
	Reliable uint64 // the highest rseq the leaving device has used
}

func (m *Leave) appendBody(b []byte) []byte {
	return binary.BigEndian.AppendUint64(b, m.Reliable) // Reliable (64)
}

func (m *Leave) parseBody(r *Reader) { m.Reliable = r.Uint64() }

// Acks acknowledges reliable messages, cumulatively and for many authors.
type Acks struct {
	Acks []Ack // by Slot, rising; at least one, at most MaxAcks
}

// An Ack says that every reliable message of the device in Slot up to and
// including Number is on the sender's disk.
type Ack struct {
	Slot   uint16
	Number uint64
}

// MaxAcks is how many Acks fit into one packet.
const MaxAcks = MaxBody / ackSize

func (m *Acks) valid() bool {
	for i := 1; i < len(m.Acks); i++ {
		if m.Acks[i].Slot <= m.Acks[i-1].Slot {
			return false
		}
	}
	return len(m.Acks) > 0
}

func (m *Acks) appendBody(b []byte) []byte {
	if !m.valid() {
		panic("wire: acknowledgements: none, or slots out of order")
	}
	for _, a := range m.Acks {
		b = binary.BigEndian.AppendUint16(b, a.Slot)   // Slot (16)
		b = binary.BigEndian.AppendUint64(b, a.Number) // Number (64)
	}
	return b
}

func (m *Acks) parseBody(r *Reader) {
	for r.Len() > 0 {
		m.Acks = append(m.Acks, Ack{Slot: r.Uint16(), Number: r.Uint64()})
	}
	if !m.valid() {
		r.Fail(ErrValue)
	}
}

// A Notice announces a message whose text is too long for a packet. The text
// is fetched by QUIC and must have this length and hash.
type Notice struct {
	Number uint64 // as in Message
	Verb   Verb   // not Delete
	Ref    [8]byte
	Hash   Hash   // SHA-256 of the text
	Length uint32 // of the text in bytes, at most MaxLongText
}

func (m *Notice) valid() bool {
	return validMessage(m.Number, m.Verb, m.Ref) && m.Verb != Delete && m.Length > 0 && m.Length <= MaxLongText
}

// Fits reports whether a text is the one announced.
func (m *Notice) Fits(text []byte) bool {
	return len(text) == int(m.Length) && sha256.Sum256(text) == m.Hash && utf8.Valid(text)
}

func (m *Notice) appendBody(b []byte) []byte {
	if !m.valid() {
		panic(fmt.Sprintf("wire: notice of message %d, verb %d, of %d bytes", m.Number, m.Verb, m.Length))
	}
	b = appendMessageHeader(b, m.Number, m.Verb, m.Ref) // Number (64), Bits (8), Ref (0 or 64)
	b = append(b, m.Hash[:]...)                         // Hash (256)
	return binary.BigEndian.AppendUint32(b, m.Length)   // Length (32)
}

func (m *Notice) parseBody(r *Reader) {
	m.Number, m.Verb, m.Ref = r.messageHeader()
	r.Fill(m.Hash[:])
	m.Length = r.Uint32()
	if !m.valid() {
		r.Fail(ErrValue)
	}
}

// A RepairRequest asks for reliable messages of the device in Slot.
type RepairRequest struct {
	Slot   uint16
	Ranges []Range // rising, apart from each other; at least one, at most MaxRanges
}

// A Range is the numbers from First to Last, both included.
type Range struct{ First, Last uint64 }

// MaxRanges is how many ranges fit into one RepairRequest.
const MaxRanges = (MaxBody - 2) / rangeSize

func (m *RepairRequest) valid() bool {
	for i, g := range m.Ranges {
		if g.First == 0 || g.Last < g.First {
			return false
		}
		if i > 0 && g.First-1 <= m.Ranges[i-1].Last {
			return false
		}
	}
	return len(m.Ranges) > 0
}

func (m *RepairRequest) appendBody(b []byte) []byte {
	if !m.valid() {
		panic(fmt.Sprintf("wire: repair request of ranges %v", m.Ranges))
	}
	b = binary.BigEndian.AppendUint16(b, m.Slot) // Slot (16)
	for _, g := range m.Ranges {
		b = binary.BigEndian.AppendUint64(b, g.First) // First (64)
		b = binary.BigEndian.AppendUint64(b, g.Last)  // Last (64)
	}
	return b
}

func (m *RepairRequest) parseBody(r *Reader) {
	m.Slot = r.Uint16()
	for r.Len() > 0 {
		m.Ranges = append(m.Ranges, Range{First: r.Uint64(), Last: r.Uint64()})
	}
	if !m.valid() {
		r.Fail(ErrValue)
	}
}

// A Pack is several messages that waited at the same moment and share one
// packet and one signature: repeated {Length (16), Message}. A Message whose
// Len is n takes n+2 bytes of MaxBody.
type Pack struct {
	Messages []Message // at least one
}

// PackSize returns what a message takes of MaxBody in a Pack.
func PackSize(m *Message) int { return packHeader + m.Len() }

func (m *Pack) appendBody(b []byte) []byte {
	if len(m.Messages) == 0 {
		panic("wire: empty pack")
	}
	for i := range m.Messages {
		mustFit(m.Messages[i].Len(), MaxBody-packHeader)
		b = binary.BigEndian.AppendUint16(b, uint16(m.Messages[i].Len())) // Length (16)
		b = m.Messages[i].appendBody(b)                                   // Message (..)
	}
	return b
}

func (m *Pack) parseBody(r *Reader) {
	for r.Len() > 0 {
		one := NewReader(r.next16(MaxBody))
		var msg Message
		msg.parseBody(one)
		if err := one.Done(); err != nil {
			r.Fail(err)
		}
		m.Messages = append(m.Messages, msg)
	}
	if len(m.Messages) == 0 {
		r.Fail(ErrTruncated)
	}
}

// LastNumber returns the highest number in a body of messages without parsing
// it: enough to tell that all of it came before. ok is false for other kinds.
func (p *Plain) LastNumber() (n uint64, ok bool) {
	body := p.Body
	switch p.Kind {
	case KindMessage, KindNotice:
	case KindPack:
		for r := NewReader(p.Body); r.Len() > 0; {
			body = r.next16(MaxBody)
		}
	default:
		return 0, false
	}
	r := NewReader(body)
	n = r.Uint64()
	return n, r.Err() == nil
}

// A Clock is a hybrid logical clock: 48 bits of Unix time in milliseconds
// above a 16-bit counter. It orders what people wrote, cause before effect,
// whatever their machines' clocks say (Kulkarni et al., "Logical Physical
// Clocks", 2014). The time in it is advisory.
type Clock uint64

// MaxClockAhead is how far the clock of another may be ahead of one's own
// time and still be followed. A wrong or lying clock beyond that does not
// drag the others along.
const MaxClockAhead = 10 * time.Minute

const maxClockMillis = 1<<48 - 1

// ClockAt returns the clock of an event at a time, counter 0.
func ClockAt(now time.Time) Clock {
	return Clock(min(max(now.UnixMilli(), 0), maxClockMillis)) << 16
}

// Next returns the clock of a new event of one's own: later than every one
// seen, and not earlier than now.
func (c Clock) Next(now time.Time) Clock {
	if c == ^Clock(0) {
		return c
	}
	return max(c+1, ClockAt(now))
}

// Merge returns the clock after other was seen.
func (c Clock) Merge(now time.Time, other Clock) Clock {
	if other > ClockAt(now.Add(MaxClockAhead)) {
		return c
	}
	return max(c, other)
}

// Time returns the wall time in the clock.
func (c Clock) Time() time.Time { return time.UnixMilli(int64(c >> 16)) }
