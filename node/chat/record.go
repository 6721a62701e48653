package chat

import (
	"net/netip"
	"time"

	"lanchat/wire"
	"lanchat/wire/realm"
)

// A Record is one change to what the node keeps on disk. The core makes
// records, the store applies those of one turn of the loop in one
// transaction, in order, before anything of that turn is sent or shown.
type Record interface{ record() }

// A ChatID says which chat a record belongs to: a room, or the direct
// messages with one account. Exactly one of the two is set.
type ChatID struct {
	Room    wire.RoomID
	Account wire.AccountID
}

// IsRoom reports whether the chat is a room.
func (c ChatID) IsRoom() bool { return !c.Room.IsZero() }

// SaveMessage adds a message to history. A second one with the same ID
// changes nothing.
type SaveMessage struct {
	ID      MessageID
	Chat    ChatID
	Account wire.AccountID // the author
	Device  wire.DeviceID  // the author's device
	From    string         // the author's user name then
	Mode    Mode
	Number  uint64     // rseq or fseq, per device and chat
	Clock   wire.Clock // hybrid logical clock of the author
	At      time.Time  // when this node stored it
	Text    string
	Action  bool
	// Verb is wire.Edit or wire.Delete for what changes the author's message
	// ReplyTo, Hidden for what is only kept to be handed on, else 0. None of
	// them is history that is shown; the store applies the first two, in
	// whatever order they come.
	Verb    wire.Verb
	Edited  bool // as read back: Text is not the first one, or Deleted
	Deleted bool // as read back: Text is gone
	ReplyTo MessageID
	Own     bool   // sent by this device
	Raw     []byte // the signed plaintext of a room packet, nil in direct messages
	Epoch   wire.Hash
	Read    bool
	Long    string // the text as it was written if Raw is a wire.Notice of it, for others to fetch
}

// Hidden is the Verb of what somebody wrote who was silenced: it counts, it is
// handed on to who misses it, and nobody is shown it.
const Hidden = wire.Verb(0xff)

// DropMessage takes a message out of history, with what edits or deletes it: its
// number, and so its ID, is another message's.
type DropMessage struct{ ID MessageID }

// SavePerson remembers a device of a person: who it belongs to and what that
// account is called. It replaces what was known of the device.
type SavePerson struct {
	Device  wire.DeviceID
	Key     wire.DeviceKey
	Account wire.AccountID
	Name    string
	NameSeq uint64
	Seen    time.Time
	Serial  realm.Serial // of its newest token seen; zero: unknown
}

// SaveAddress remembers where a device was reached last. It is a hint.
type SaveAddress struct {
	Device wire.DeviceID
	Addr   netip.AddrPort // without a zone
	At     time.Time
}

// SaveFormer remembers a user name that an account gave up, and when this node
// heard of it. It replaces what was known of the name.
type SaveFormer struct {
	Name    string
	Account wire.AccountID
	At      time.Time
}

// SaveSettings keeps what the person here chose for a chat.
type SaveSettings struct {
	Chat       ChatID
	Mode       Mode
	Notify     Level
	MutedUntil time.Time // zero: not muted
}

// SaveRead notes that all messages of a chat were read.
type SaveRead struct{ Chat ChatID }

// SavePersonal keeps a choice of the person here that is not of one chat; an
// empty value forgets it.
type SavePersonal struct{ Name, Value string }

// SaveOutbox keeps a reliable direct message until the account's devices have
// acknowledged it; it must be on disk before it is sent.
type SaveOutbox struct {
	Account wire.AccountID
	Number  uint64
	ID      MessageID
	Body    []byte // wire.DirectMessage, appended
}

// DropOutbox forgets the outbox of an account up to and including Number.
type DropOutbox struct {
	Account wire.AccountID
	Number  uint64
}

// SaveDirect keeps the numbers of the direct messages with an account: Sent
// is the last number used towards it.
type SaveDirect struct {
	Account wire.AccountID
	Sent    uint64
}

// SaveReceived keeps the highest number of a reliable direct message stored
// from a device: what comes again at or below it is a duplicate.
type SaveReceived struct {
	Device wire.DeviceID
	Number uint64
}

// SaveAcked keeps how far a device has acknowledged the reliable direct messages
// to its person.
type SaveAcked struct {
	Device wire.DeviceID
	Number uint64
}

// SaveRoom adds a room one has entered.
type SaveRoom struct {
	Room   wire.RoomID
	Joined time.Time
}

// SaveNumber keeps the last number of this device's reliable messages in a
// room. It outlives DropRoom: who comes back goes on counting.
type SaveNumber struct {
	Room   wire.RoomID
	Number uint64
}

// DropRoom forgets a room that was left: log and secrets. Its messages, the
// number and the authors stay.
type DropRoom struct{ Room wire.RoomID }

// SaveEntry adds an entry of a room's log, as it stands on the wire.
type SaveEntry struct {
	Room  wire.RoomID
	Hash  wire.Hash
	Entry []byte
}

// DropEntry forgets an entry of a losing branch for which there is no room.
type DropEntry struct {
	Room wire.RoomID
	Hash wire.Hash
}

// SaveApplied adds, in order, to the entries of a room's log that ever counted
// here. It is kept once the person has decided between two histories.
type SaveApplied struct {
	Room wire.RoomID
	Hash wire.Hash
}

// SaveInvite keeps an invite: one's own until it is used or void, or one for
// somebody who has not got it yet.
type SaveInvite struct {
	Room    wire.RoomID
	Account wire.AccountID // who is invited
	Invite  []byte
}

// DropInvite forgets an invite.
type DropInvite struct {
	Room    wire.RoomID
	Account wire.AccountID
}

// SaveParting keeps that a room was left, and who was in it: members who come
// later may have to be told.
type SaveParting struct {
	Room    wire.RoomID
	Members []wire.AccountID // in seat order
	Entries [][]byte         // of the log, that they may not have
}

// DropParting says that the person is in the room again.
type DropParting struct{ Room wire.RoomID }

// SaveSecret keeps an epoch secret; Epoch is the hash of the entry it belongs to.
type SaveSecret struct {
	Room   wire.RoomID
	Epoch  wire.Hash
	Secret [32]byte
}

// DropSecret wipes an epoch secret.
type DropSecret struct {
	Room  wire.RoomID
	Epoch wire.Hash
}

// SaveAuthor keeps what was received from a device in a room. It outlives
// DropRoom: who comes back is shown nothing again.
type SaveAuthor struct {
	Room     wire.RoomID
	Device   wire.DeviceID
	Replay   []byte       // the replay window, marshalled
	Received uint64       // rseq up to which messages were shown, or given up
	Missing  []wire.Range // of them, those given up and still wanted
	Since    uint64       // this device's last rseq when that one was let in
}

func (SaveMessage) record()  {}
func (DropMessage) record()  {}
func (SavePerson) record()   {}
func (SaveAddress) record()  {}
func (SaveFormer) record()   {}
func (SaveSettings) record() {}
func (SaveRead) record()     {}
func (SavePersonal) record() {}
func (SaveOutbox) record()   {}
func (DropOutbox) record()   {}
func (SaveDirect) record()   {}
func (SaveReceived) record() {}
func (SaveAcked) record()    {}
func (SaveRoom) record()     {}
func (SaveNumber) record()   {}
func (DropRoom) record()     {}
func (SaveEntry) record()    {}
func (DropEntry) record()    {}
func (SaveApplied) record()  {}
func (SaveInvite) record()   {}
func (DropInvite) record()   {}
func (SaveParting) record()  {}
func (DropParting) record()  {}
func (SaveSecret) record()   {}
func (DropSecret) record()   {}
func (SaveAuthor) record()   {}

// A State is what the store holds when the node starts: the sum of the
// records applied so far, without the messages.
type State struct {
	People   []SavePerson
	Former   []SaveFormer // oldest first
	Settings []SaveSettings
	Personal []SavePersonal // by name
	Outbox   []SaveOutbox   // by account and number
	Direct   []SaveDirect
	Received []SaveReceived
	Acked    []SaveAcked
	Rooms    []SaveRoom
	Numbers  []SaveNumber
	Entries  []SaveEntry   // in the order they were saved
	Applied  []SaveApplied // likewise
	Invites  []SaveInvite
	Partings []SaveParting
	Secrets  []SaveSecret
	Authors  []SaveAuthor
	// Orphans are messages that are not there and were edited or deleted.
	Orphans []MessageID
	// Clock is later than that of every message but of those that lie.
	Clock wire.Clock
	// Addresses are where devices were reached, the newest first.
	Addresses []SaveAddress
}

// A Level says what of a chat rings.
type Level uint8

const (
	NotifyAll Level = iota
	NotifyMentions
	NotifyNone
)

func (l Level) String() string {
	switch l {
	case NotifyMentions:
		return "mentions"
	case NotifyNone:
		return "none"
	}
	return "all"
}
