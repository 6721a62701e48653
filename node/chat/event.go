package chat

// An Event is something the person at this node, or a script, is told. The
// concrete types below are the program's contract: their fields are only
// added to, and the JSON names never change. Text in events is raw UTF-8 that
// has passed the sanitiser, never styled.
type Event interface {
	// Name returns the event's name on the JSON stream.
	Name() string
}

// Ready says that a valid token is held and the sockets are open.
type Ready struct {
	User        string `json:"user"`
	Device      string `json:"device"` // 16 hexadecimal digits
	Realm       string `json:"realm"`
	Fingerprint string `json:"fingerprint"`
	Authd       string `json:"authd"` // last known address, "" if none
	MS          int64  `json:"ms"`    // since the program started, milliseconds
}

// Authd says that the realm's authd came, went or changed.
type Authd struct {
	State       string `json:"state"` // "up", "down", "changed"
	Addr        string `json:"addr"`
	Fingerprint string `json:"fingerprint"`
	Other       bool   `json:"-"` // the fingerprint is another realm's, and that ends the node
}

// Peer says that a person's device came or went.
type Peer struct {
	User   string   `json:"user"`
	Device string   `json:"device"`
	State  string   `json:"state"`         // "online", "away", "left", "lost"
	Cause  string   `json:"cause"`         // "hello", "goodbye", "silent", "revoked", …
	Via    []string `json:"via"`           // any of "multicast", "mdns", "authd", "quic"
	Was    string   `json:"was,omitempty"` // the user name before, for seven days after a rename
}

// Renamed says that a person goes by another user name now.
type Renamed struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// Room is the state of a room: one for every room one is in at start, and one
// after every change.
type Room struct {
	Chat    string   `json:"chat"` // "#name"
	Seq     uint64   `json:"seq"`  // of the log's head
	Epoch   uint64   `json:"epoch"`
	Members []string `json:"members"` // everybody in the log, in seat order
	Admins  []string `json:"admins"`  // the admin, then co-admins in seat order
	Topic   string   `json:"topic"`
	Private bool     `json:"private"`
	Cause   string   `json:"cause"` // "restored", "created", "joined", "left", "kicked", …
	By      string   `json:"by"`
	Whom    string   `json:"whom"`
	Reason  string   `json:"reason,omitempty"` // of a removal
	Was     string   `json:"was,omitempty"`    // the chat's name before, when it changed
	Ref     string   `json:"ref,omitempty"`
	Again   bool     `json:"-"` // joined: one was in it already
}

// Message is what somebody wrote to a chat one is in. A device's own messages
// never come back to it as Message.
type Message struct {
	ID      string `json:"id"`
	Chat    string `json:"chat"` // "#room", or "@user" of the other person
	From    string `json:"from"`
	Text    string `json:"text"`
	Mode    string `json:"mode"`   // "reliable" or "fast"
	Replay  bool   `json:"replay"` // history rather than news
	Edited  bool   `json:"edited"`
	ReplyTo string `json:"reply_to"`
	Action  bool   `json:"action,omitempty"`  // "/me waves"
	Late    bool   `json:"late,omitempty"`    // older than what was shown before it
	Deleted bool   `json:"deleted,omitempty"` // its author took it back: Edited, and Text is empty
	Links   []int  `json:"-"`                 // numbers of the links in Text, for "/open"
}

// Sent says that a message of one's own is stored (reliable) and on its way.
type Sent struct {
	ID     string `json:"id"`
	Chat   string `json:"chat"`
	Mode   string `json:"mode"`
	Ref    string `json:"ref"`
	Online int    `json:"online"`          // people it was for who were online, without the sender
	Edits  string `json:"edits,omitempty"` // id of the message that this one edits or deletes
	// For faces that echo what was sent.
	Text    string `json:"-"`
	Action  bool   `json:"-"`
	ReplyTo string `json:"-"`
	Was     string `json:"-"` // text of the message that this one edits or deletes
	Links   []int  `json:"-"` // as in Message
}

// Receipt says who has a reliable message of one's own on disk.
type Receipt struct {
	ID   string `json:"id"`
	Chat string `json:"chat"`
	By   string `json:"by"`
	Got  int    `json:"got"` // people who have it, without the sender
	Of   int    `json:"of"`  // people it was for, without the sender
}

// Gap says that messages are known to exist and were not received. Reliable
// ones are on their way: Missing is all that are, and it heals. Fast ones are
// lost: Missing is how many since the last such event.
type Gap struct {
	Chat    string `json:"chat"`
	From    string `json:"from"`
	Missing uint64 `json:"missing"`
	Healed  bool   `json:"healed"`
	Mode    string `json:"mode"` // "reliable" or "fast"
}

// Notify is what would ring; there is none for a muted chat.
type Notify struct {
	Chat string `json:"chat"`
	ID   string `json:"id"`
	Why  string `json:"why"` // "dm", "mention", "message"
}

// Notice is everything else worth saying, and the answer to a question
// ("/users"): Text for people, Data for machines.
type Notice struct {
	Code string `json:"code"` // snake case, stable
	Text string `json:"text"` // may have several lines
	Ref  string `json:"ref,omitempty"`
	Data any    `json:"data,omitempty"`
}

// Error says what was refused, why, and what to do next.
type Error struct {
	Code string `json:"code"` // snake case, stable
	Text string `json:"text"`
	Ref  string `json:"ref"`
}

func (Ready) Name() string   { return "ready" }
func (Authd) Name() string   { return "authd" }
func (Peer) Name() string    { return "peer" }
func (Renamed) Name() string { return "renamed" }
func (Room) Name() string    { return "room" }
func (Message) Name() string { return "message" }
func (Sent) Name() string    { return "sent" }
func (Receipt) Name() string { return "receipt" }
func (Gap) Name() string     { return "gap" }
func (Notify) Name() string  { return "notify" }
func (Notice) Name() string  { return "notice" }
func (Error) Name() string   { return "error" }

// A Mode is how messages of a chat travel.
type Mode uint8

const (
	Reliable Mode = iota // nothing lost, in order, confirmed
	Fast                 // sent once, never repaired, never waiting
)

func (m Mode) String() string {
	if m == Fast {
		return "fast"
	}
	return "reliable"
}

// ParseMode reads "reliable" or "fast".
func ParseMode(s string) (m Mode, ok bool) {
	switch s {
	case "reliable":
		return Reliable, true
	case "fast":
		return Fast, true
	}
	return 0, false
}

// A Command is what a person or a script asks for: one line as typed, in the
// chat it was typed in.
type Command struct {
	// Line is what was typed: "/command …", or text for the chat ("//x"
	// stands for the text "/x"). Ignored when Say is set.
	Line string
	// Say makes Text the text to send, whatever it begins with.
	Say  bool
	Text string
	// Chat is "#room" or "@user"; "" means the current chat.
	Chat string
	// Mode is "reliable", "fast" or "" (the chat's own).
	Mode string
	// Passwd changes the account's password; Line is ignored then. Faces that
	// can ask for passwords without showing them make it.
	Passwd *Passwd
	// Ref comes back on what the command caused.
	Ref string
}

// A Passwd is a change of password. It prints as [redacted].
type Passwd struct {
	Present, New string
	SignOut      bool // shut the account's other devices out
}

func (Passwd) String() string   { return "[redacted]" }
func (Passwd) GoString() string { return "[redacted]" }
