package wire

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The entries of a room's log. An entry is signed by the device that wrote it
// and names its predecessor by hash; the room's id is the hash of the first.
//
//	  0   1  version: 1
//	  1   1  op
//	  2  32  room id, zero in CREATE
//	 34   8  seq: predecessor's + 1, 0 in CREATE
//	 42  32  hash of the predecessor, zero in CREATE
//	 74  32  author's device key
//	106   8  author_n: this device's own count of entries in this room, from 1
//	114   8  Unix time in milliseconds, advisory: validity never depends on it
//	122  32  commitment to the epoch secret, zero: the epoch does not change
//	154   2  length B of the arguments, at most 840
//	156   B  arguments, then, where the author acts for another who asked for
//	         it, that person's account id (16)
//	  …  64  Ed25519ctx "lanchat room log v1" over realm id ‖ everything before it
const (
	EntryVersion = 1

	MaxArgs  = 840 // bytes of arguments
	MaxEntry = entryHeader + MaxArgs + SignatureSize

	MaxDevices  = 8   // devices of an account
	MaxWithout  = 100 // devices left out by a REKEY
	MaxRoomName = 64  // bytes
	MaxTopic    = 256 // bytes
	MaxReason   = 200 // bytes
	MaxNameHint = 64  // bytes of a user name in the log
	entryHeader = 156
)

// LogContext is the Ed25519ctx context of log entries.
const LogContext = "lanchat room log v1"

// ErrSignature means that a signature does not fit.
var ErrSignature = errors.New("bad signature")

// An Op is what an entry does to its room. Numbers are only added.
type Op uint8

const (
	OpCreate    Op = 1
	OpAdmit     Op = 2
	OpKick      Op = 3
	OpBan       Op = 4
	OpUnban     Op = 5
	OpLeave     Op = 6 // the admin's own
	OpLeft      Op = 7 // records a member's signed leave
	OpTransfer  Op = 8
	OpPromote   Op = 9
	OpDemote    Op = 10
	OpSilence   Op = 11
	OpUnsilence Op = 12
	OpClaim     Op = 13
	OpRekey     Op = 14
	OpSettings  Op = 15
	OpDevice    Op = 16
	OpResolve   Op = 17
	// 18 is reserved for VACATE, 19 for a notary.
)

var opNames = [...]string{
	OpCreate: "CREATE", OpAdmit: "ADMIT", OpKick: "KICK", OpBan: "BAN", OpUnban: "UNBAN", OpLeave: "LEAVE", OpLeft: "LEFT",
	OpTransfer: "TRANSFER", OpPromote: "PROMOTE", OpDemote: "DEMOTE", OpSilence: "SILENCE", OpUnsilence: "UNSILENCE",
	OpClaim: "CLAIM", OpRekey: "REKEY", OpSettings: "SETTINGS", OpDevice: "DEVICE", OpResolve: "RESOLVE",
}

func (op Op) String() string {
	if op >= OpCreate && op <= OpResolve {
		return opNames[op]
	}
	return fmt.Sprintf("op %d", uint8(op))
}

// An Entry is one entry of a room's log. It is made by SignEntry or
// ParseEntry and not changed afterwards.
type Entry struct {
	Room    RoomID // zero in CREATE: see RoomID
	Seq     uint64
	Prev    Hash
	Author  DeviceKey
	AuthorN uint64
	Time    uint64 // Unix milliseconds, advisory
	Commit  Hash   // to the epoch secret this entry begins with; zero: none
	Args    Args
	// For is who asked the author for it, by the author's word: a co-admin
	// whose kick the writer carries out, say. Zero: nobody else.
	For AccountID

	raw  []byte
	hash Hash
}

// SignEntry completes e: it sets Author and signs. It panics on an entry that
// could not be parsed again: nobody would accept it.
func SignEntry(realm RealmID, key ed25519.PrivateKey, e Entry) *Entry {
	e.Author = KeyOf(key.Public().(ed25519.PublicKey))
	b := e.appendUnsigned(nil)
	sig, err := key.Sign(nil, realmMessage(realm, b), &ed25519.Options{Context: LogContext})
	if err != nil {
		panic(fmt.Sprintf("wire: signing an entry: %v", err)) // cannot fail with a good key
	}
	e.seal(append(b, sig...))
	if _, err := ParseEntry(e.raw); err != nil {
		panic(fmt.Sprintf("wire: signing %v: %v", e.Op(), err))
	}
	return &e
}

func (e *Entry) seal(raw []byte) {
	e.raw = raw
	e.hash = sha256.Sum256(raw)
}

func (e *Entry) appendUnsigned(b []byte) []byte {
	b = append(b, EntryVersion, byte(e.Args.Op()))  // Version (8), Op (8)
	b = append(b, e.Room[:]...)                     // Room (256)
	b = binary.BigEndian.AppendUint64(b, e.Seq)     // Seq (64)
	b = append(b, e.Prev[:]...)                     // Previous (256)
	b = append(b, e.Author[:]...)                   // Author (256)
	b = binary.BigEndian.AppendUint64(b, e.AuthorN) // Author N (64)
	b = binary.BigEndian.AppendUint64(b, e.Time)    // Time (64)
	b = append(b, e.Commit[:]...)                   // Commit (256)
	args := AppendArgs(nil, e.Args)
	if !e.For.IsZero() {
		args = append(args, e.For[:]...)
	}
	return AppendBytes16(b, args, MaxArgs) // Length (16), Arguments (..), For (0 or 128)
}

// ParseEntry reads an entry. It does not look at the signature: see Verify.
func ParseEntry(b []byte) (*Entry, error) {
	r := NewReader(b)
	e := &Entry{}
	if r.Uint8() != EntryVersion {
		r.Fail(ErrVersion)
	}
	op := Op(r.Uint8())
	r.Fill(e.Room[:])
	e.Seq = r.Uint64()
	r.Fill(e.Prev[:])
	r.Fill(e.Author[:])
	e.AuthorN = r.Uint64()
	e.Time = r.Uint64()
	r.Fill(e.Commit[:])
	body := r.Bytes16(MaxArgs)
	r.Bytes(SignatureSize)
	if err := r.Done(); err != nil {
		return nil, named("log entry", err)
	}
	r = NewReader(body)
	a, err := newArgs(op)
	if err != nil {
		return nil, named("log entry", err)
	}
	a.parseArgs(r)
	first := op == OpCreate
	if r.Len() > 0 && !first {
		r.Fill(e.For[:])
		if e.For.IsZero() {
			r.Fail(ErrValue)
		}
	}
	if err := r.Done(); err != nil {
		return nil, named("log entry", named(op.String(), err))
	}
	e.Args = a
	if first != (e.Room == RoomID{}) || first != (e.Prev == Hash{}) || first != (e.Seq == 0) || e.AuthorN == 0 {
		return nil, named("log entry", ErrValue)
	}
	e.seal(slices.Clone(b))
	return e, nil
}

// Verify checks the author's signature: ErrSignature, or nil. Whether the
// author may do this is the log's business.
func (e *Entry) Verify(realm RealmID) error {
	n := len(e.raw) - SignatureSize
	err := ed25519.VerifyWithOptions(e.Author.Public(), realmMessage(realm, e.raw[:n]), e.raw[n:], &ed25519.Options{Hash: crypto.Hash(0), Context: LogContext})
	if err != nil {
		return named("log entry", ErrSignature)
	}
	return nil
}

// realmMessage returns what a signature covers: realm id ‖ b.
func realmMessage(realm RealmID, b []byte) []byte {
	return append(realm[:len(realm):len(realm)], b...)
}

// Append appends the entry as it was signed.
func (e *Entry) Append(b []byte) []byte { return append(b, e.raw...) }

// Op returns what the entry does.
func (e *Entry) Op() Op { return e.Args.Op() }

// Hash returns SHA-256 of the entry.
func (e *Entry) Hash() Hash { return e.hash }

// RoomID returns the id of the entry's room, of a CREATE too.
func (e *Entry) RoomID() RoomID {
	if e.Op() == OpCreate {
		return RoomID(e.hash)
	}
	return e.Room
}

// Args are the arguments of an entry: a pointer to one of the Log… types.
type Args interface {
	Op() Op
	appendArgs(b []byte) []byte
	parseArgs(r *Reader)
}

// AppendArgs appends arguments as they stand in an entry.
func AppendArgs(b []byte, a Args) []byte { return a.appendArgs(b) }

// newArgs returns empty arguments of an entry that does op.
func newArgs(op Op) (a Args, err error) {
	switch op {
	case OpCreate:
		a = &LogCreate{}
	case OpAdmit:
		a = &LogAdmit{}
	case OpKick:
		a = &LogKick{}
	case OpBan:
		a = &LogBan{}
	case OpUnban:
		a = &LogUnban{}
	case OpLeave:
		a = &LogLeave{}
	case OpLeft:
		a = &LogLeft{}
	case OpTransfer:
		a = &LogTransfer{}
	case OpPromote:
		a = &LogPromote{}
	case OpDemote:
		a = &LogDemote{}
	case OpSilence:
		a = &LogSilence{}
	case OpUnsilence:
		a = &LogUnsilence{}
	case OpClaim:
		a = &LogClaim{}
	case OpRekey:
		a = &LogRekey{}
	case OpSettings:
		a = &LogSettings{}
	case OpDevice:
		a = &LogDevice{}
	case OpResolve:
		a = &LogResolve{}
	default:
		return nil, named(op.String(), ErrType)
	}
	return a, nil
}

// ParseArgs reads the arguments of an entry that does op.
func ParseArgs(op Op, b []byte) (Args, error) {
	a, err := newArgs(op)
	if err != nil {
		return nil, err
	}
	r := NewReader(b)
	a.parseArgs(r)
	if err := r.Done(); err != nil {
		return nil, named(op.String(), err)
	}
	return a, nil
}

// A Policy is a set of a room's rules.
type Policy uint8

const (
	PolicyPrivate Policy = 1 << 0 // listed to members only; only the admin and co-admins let people in
	PolicyHistory Policy = 1 << 1 // who joins may have messages of before
	PolicyTopic   Policy = 1 << 2 // members may ask for another topic

	policyAll = PolicyPrivate | PolicyHistory | PolicyTopic
)

func (r *Reader) policy() Policy {
	p := Policy(r.Uint8())
	if p&^policyAll != 0 {
		r.Fail(ErrReserved)
	}
	return p
}

// A Device is a device of a member as the writer saw it: its key, which is
// what counts from then on, and SHA-256 of the certificate it came with.
type Device struct {
	Key  DeviceKey
	Cert Hash
}

// A Mark says how far the author of a removal has a removed device's reliable
// messages: later ones under old epochs are refused.
type Mark struct {
	Key    DeviceKey
	Number uint64
}

// LogCreate begins a room. Its author's device must be among Keys.
type LogCreate struct {
	Policy  Policy
	Account AccountID   // the creator
	Creator string      // the creator's user name, a hint: the token is the authority
	Keys    []DeviceKey // the creator's devices, 1 to MaxDevices, each once
	Name    string      // of the room, not empty
}

// LogAdmit makes a person a member, behind all others.
type LogAdmit struct {
	Account AccountID
	Name    string   // user name, a hint
	Devices []Device // 1 to MaxDevices, each once
}

// LogKick removes a member.
type LogKick struct {
	Account AccountID
	Reason  string
	Marks   []Mark // one for each of the person's devices, in the log's order
}

// LogBan removes a member or keeps somebody else out.
type LogBan struct {
	Account AccountID
	Until   uint64 // Unix milliseconds when the writer may lift it, 0: never
	Reason  string
	Marks   []Mark // as in LogKick, none if not a member
}

// LogUnban lifts a ban.
type LogUnban struct{ Account AccountID }

// LogLeave is the admin leaving.
type LogLeave struct{}

// LogLeft records that a member left.
type LogLeft struct {
	Account AccountID
	Marks   []Mark // as in LogKick
}

// LogTransfer makes a member the admin.
type LogTransfer struct{ Account AccountID }

// LogPromote makes a member a co-admin, behind the others.
type LogPromote struct{ Account AccountID }

// LogDemote makes a co-admin a member again.
type LogDemote struct{ Account AccountID }

// LogSilence keeps a member from speaking.
type LogSilence struct {
	Account AccountID
	Until   uint64 // Unix milliseconds, 0: until lifted
}

// LogUnsilence lifts a silence.
type LogUnsilence struct{ Account AccountID }

// LogClaim makes its author the acting writer (regent).
type LogClaim struct{}

// LogRekey begins an epoch whose device table leaves Without out, as later
// ones do until the next LogRekey: devices of suspended people and devices
// whose token is revoked, which are not to be given its secret although
// nobody has removed them yet. Saying so in the log lets every sender see
// that the epoch is closed to them.
type LogRekey struct {
	Without []DeviceID // rising, at most MaxWithout
}

// LogSettings sets all three.
type LogSettings struct {
	Policy Policy
	Name   string // not empty
	Topic  string
}

// LogDevice adds a device to a member, or takes one away.
type LogDevice struct {
	Account AccountID
	Remove  bool
	Key     DeviceKey
	Cert    Hash   // of the certificate seen; zero if Remove
	Number  uint64 // as in Mark; 0 unless Remove
}

// LogResolve settles a removal that stands on a losing branch: Uphold removes
// Account as LogKick does, otherwise the person stays. The account is named
// beside the hash so that the entry can be judged by its own branch alone.
type LogResolve struct {
	Removal Hash // the entry on the losing branch
	Account AccountID
	Uphold  bool
	Marks   []Mark // as in LogKick; none unless Uphold
}

func (*LogCreate) Op() Op    { return OpCreate }
func (*LogAdmit) Op() Op     { return OpAdmit }
func (*LogKick) Op() Op      { return OpKick }
func (*LogBan) Op() Op       { return OpBan }
func (*LogUnban) Op() Op     { return OpUnban }
func (*LogLeave) Op() Op     { return OpLeave }
func (*LogLeft) Op() Op      { return OpLeft }
func (*LogTransfer) Op() Op  { return OpTransfer }
func (*LogPromote) Op() Op   { return OpPromote }
func (*LogDemote) Op() Op    { return OpDemote }
func (*LogSilence) Op() Op   { return OpSilence }
func (*LogUnsilence) Op() Op { return OpUnsilence }
func (*LogClaim) Op() Op     { return OpClaim }
func (*LogRekey) Op() Op     { return OpRekey }
func (*LogSettings) Op() Op  { return OpSettings }
func (*LogDevice) Op() Op    { return OpDevice }
func (*LogResolve) Op() Op   { return OpResolve }

func (a *LogCreate) appendArgs(b []byte) []byte {
	mustAppend(validKeys(a.Keys) && a.Name != "" && a.Policy&^policyAll == 0, a)
	b = append(b, byte(a.Policy))                // Policy (8)
	b = append(b, a.Account[:]...)               // Account (128)
	b = AppendString8(b, a.Creator, MaxNameHint) // Creator Length (8), Creator (..)
	b = append(b, uint8(len(a.Keys)))            // Keys (8)
	for _, k := range a.Keys {
		b = append(b, k[:]...) // Key (256)
	}
	return AppendString8(b, a.Name, MaxRoomName) // Name Length (8), Name (..)
}

func (a *LogCreate) parseArgs(r *Reader) {
	a.Policy = r.policy()
	r.Fill(a.Account[:])
	a.Creator = r.String8(MaxNameHint)
	for range r.count8(MaxDevices) {
		a.Keys = append(a.Keys, r.deviceKey())
	}
	a.Name = r.String8(MaxRoomName)
	if !validKeys(a.Keys) || a.Name == "" {
		r.Fail(ErrValue)
	}
}

func (a *LogAdmit) appendArgs(b []byte) []byte {
	mustAppend(validKeys(keysOf(a.Devices)), a)
	b = append(b, a.Account[:]...)            // Account (128)
	b = AppendString8(b, a.Name, MaxNameHint) // Name Length (8), Name (..)
	b = append(b, uint8(len(a.Devices)))      // Devices (8)
	for _, d := range a.Devices {
		b = append(b, d.Key[:]...)  // Key (256)
		b = append(b, d.Cert[:]...) // Certificate (256)
	}
	return b
}

func (a *LogAdmit) parseArgs(r *Reader) {
	r.Fill(a.Account[:])
	a.Name = r.String8(MaxNameHint)
	for range r.count8(MaxDevices) {
		d := Device{Key: r.deviceKey()}
		r.Fill(d.Cert[:])
		a.Devices = append(a.Devices, d)
	}
	if !validKeys(keysOf(a.Devices)) {
		r.Fail(ErrValue)
	}
}

func (a *LogKick) appendArgs(b []byte) []byte {
	b = append(b, a.Account[:]...)            // Account (128)
	b = AppendString8(b, a.Reason, MaxReason) // Reason Length (8), Reason (..)
	return appendMarks(b, a.Marks)            // Marks (..)
}

func (a *LogKick) parseArgs(r *Reader) {
	r.Fill(a.Account[:])
	a.Reason = r.String8(MaxReason)
	a.Marks = r.marks()
}

func (a *LogBan) appendArgs(b []byte) []byte {
	b = append(b, a.Account[:]...)                // Account (128)
	b = binary.BigEndian.AppendUint64(b, a.Until) // Until (64)
	b = AppendString8(b, a.Reason, MaxReason)     // Reason Length (8), Reason (..)
	return appendMarks(b, a.Marks)                // Marks (..)
}

func (a *LogBan) parseArgs(r *Reader) {
	r.Fill(a.Account[:])
	a.Until = r.Uint64()
	a.Reason = r.String8(MaxReason)
	a.Marks = r.marks()
}

func (a *LogLeft) appendArgs(b []byte) []byte {
	b = append(b, a.Account[:]...) // Account (128)
	return appendMarks(b, a.Marks) // Marks (..)
}

func (a *LogLeft) parseArgs(r *Reader) {
	r.Fill(a.Account[:])
	a.Marks = r.marks()
}

func (a *LogUnban) appendArgs(b []byte) []byte     { return append(b, a.Account[:]...) } // Account (128)
func (a *LogUnban) parseArgs(r *Reader)            { r.Fill(a.Account[:]) }
func (a *LogTransfer) appendArgs(b []byte) []byte  { return append(b, a.Account[:]...) } // Account (128)
func (a *LogTransfer) parseArgs(r *Reader)         { r.Fill(a.Account[:]) }
func (a *LogPromote) appendArgs(b []byte) []byte   { return append(b, a.Account[:]...) } // Account (128)
func (a *LogPromote) parseArgs(r *Reader)          { r.Fill(a.Account[:]) }
func (a *LogDemote) appendArgs(b []byte) []byte    { return append(b, a.Account[:]...) } // Account (128)
func (a *LogDemote) parseArgs(r *Reader)           { r.Fill(a.Account[:]) }
func (a *LogUnsilence) appendArgs(b []byte) []byte { return append(b, a.Account[:]...) } // Account (128)
func (a *LogUnsilence) parseArgs(r *Reader)        { r.Fill(a.Account[:]) }
func (a *LogLeave) appendArgs(b []byte) []byte     { return b }
func (a *LogLeave) parseArgs(*Reader)              {}
func (a *LogClaim) appendArgs(b []byte) []byte     { return b }
func (a *LogClaim) parseArgs(*Reader)              {}

func (a *LogSilence) appendArgs(b []byte) []byte {
	b = append(b, a.Account[:]...)                   // Account (128)
	return binary.BigEndian.AppendUint64(b, a.Until) // Until (64)
}

func (a *LogSilence) parseArgs(r *Reader) {
	r.Fill(a.Account[:])
	a.Until = r.Uint64()
}

func (a *LogRekey) valid() bool {
	for i := 1; i < len(a.Without); i++ {
		if string(a.Without[i-1][:]) >= string(a.Without[i][:]) {
			return false
		}
	}
	return len(a.Without) <= MaxWithout
}

func (a *LogRekey) appendArgs(b []byte) []byte {
	mustAppend(a.valid(), a)
	b = append(b, uint8(len(a.Without))) // Devices (8)
	for _, d := range a.Without {
		b = append(b, d[:]...) // Device (64)
	}
	return b
}

func (a *LogRekey) parseArgs(r *Reader) {
	for range r.count8(MaxWithout) {
		var d DeviceID
		r.Fill(d[:])
		a.Without = append(a.Without, d)
	}
	if !a.valid() {
		r.Fail(ErrValue)
	}
}

func (a *LogSettings) appendArgs(b []byte) []byte {
	mustAppend(a.Name != "" && a.Policy&^policyAll == 0, a)
	b = append(b, byte(a.Policy))               // Policy (8)
	b = AppendString8(b, a.Name, MaxRoomName)   // Name Length (8), Name (..)
	return AppendString16(b, a.Topic, MaxTopic) // Topic Length (16), Topic (..)
}

func (a *LogSettings) parseArgs(r *Reader) {
	a.Policy = r.policy()
	a.Name = r.String8(MaxRoomName)
	a.Topic = r.String16(MaxTopic)
	if a.Name == "" {
		r.Fail(ErrValue)
	}
}

func (a *LogDevice) valid() bool {
	if a.Remove {
		return a.Cert == Hash{}
	}
	return a.Number == 0
}

func (a *LogDevice) appendArgs(b []byte) []byte {
	mustAppend(a.valid(), a)
	b = append(b, a.Account[:]...)                    // Account (128)
	b = AppendBool(b, a.Remove)                       // Remove (8)
	b = append(b, a.Key[:]...)                        // Key (256)
	b = append(b, a.Cert[:]...)                       // Certificate (256)
	return binary.BigEndian.AppendUint64(b, a.Number) // Number (64)
}

func (a *LogDevice) parseArgs(r *Reader) {
	r.Fill(a.Account[:])
	a.Remove = r.Bool()
	a.Key = r.deviceKey()
	r.Fill(a.Cert[:])
	a.Number = r.Uint64()
	if !a.valid() {
		r.Fail(ErrValue)
	}
}

func (a *LogResolve) appendArgs(b []byte) []byte {
	mustAppend(a.Uphold || len(a.Marks) == 0, a)
	b = append(b, a.Removal[:]...) // Removal (256)
	b = append(b, a.Account[:]...) // Account (128)
	b = AppendBool(b, a.Uphold)    // Uphold (8)
	return appendMarks(b, a.Marks) // Marks (..)
}

func (a *LogResolve) parseArgs(r *Reader) {
	r.Fill(a.Removal[:])
	r.Fill(a.Account[:])
	a.Uphold = r.Bool()
	a.Marks = r.marks()
	if !a.Uphold && len(a.Marks) > 0 {
		r.Fail(ErrValue)
	}
}

func appendMarks(b []byte, marks []Mark) []byte {
	mustFit(len(marks), MaxDevices)
	b = append(b, uint8(len(marks))) // Marks (8)
	for _, m := range marks {
		b = append(b, m.Key[:]...)                     // Key (256)
		b = binary.BigEndian.AppendUint64(b, m.Number) // Number (64)
	}
	return b
}

func (r *Reader) marks() (marks []Mark) {
	for range r.count8(MaxDevices) {
		marks = append(marks, Mark{Key: r.deviceKey(), Number: r.Uint64()})
	}
	return marks
}

func (r *Reader) deviceKey() (k DeviceKey) {
	r.Fill(k[:])
	return k
}

func keysOf(devices []Device) []DeviceKey {
	keys := make([]DeviceKey, len(devices))
	for i, d := range devices {
		keys[i] = d.Key
	}
	return keys
}

// validKeys reports whether keys has at least one, at most MaxDevices, and
// none twice.
func validKeys(keys []DeviceKey) bool {
	for i, k := range keys {
		if slices.Contains(keys[:i], k) {
			return false
		}
	}
	return len(keys) > 0 && len(keys) <= MaxDevices
}

func mustAppend(ok bool, a Args) {
	if !ok {
		panic(fmt.Sprintf("wire: %v with arguments that could not be parsed", a.Op()))
	}
}
