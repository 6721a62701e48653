package chat

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"

	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/clean"
	"lanchat/wire/realm"
)

// A MessageID names a message on every screen: a hash over the chat, the
// author's device, the mode and the number, so that all compute the same.
type MessageID [8]byte

func (id MessageID) String() string {
	if id == (MessageID{}) {
		return ""
	}
	return hex.EncodeToString(id[:])
}

// parseMessageID reads what String returns.
func parseMessageID(s string) (id MessageID, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return MessageID{}, false
	}
	return MessageID(b), true
}

func messageID(chat []byte, device wire.DeviceID, mode Mode, number uint64) MessageID {
	b := append(append(make([]byte, 0, 64), "lc1 id"...), chat...)
	b = append(b, device[:]...)
	b = append(b, byte(mode))
	b = binary.BigEndian.AppendUint64(b, number)
	sum := sha256.Sum256(b)
	return MessageID(sum[:8])
}

// Config is what a Core is made of.
type Config struct {
	Realm wire.RealmID
	Key   ed25519.PrivateKey // the device key
	Token *realm.Token       // whose node this is
	// Boot counts the starts of this device; it is the high half of the
	// numbers of packets and fast messages, so that none is used twice.
	Boot uint64
	// Mode is the mode of chats in which none was chosen.
	Mode Mode
	// Rand is the source of keys, nonces and jitter. It must be
	// cryptographically secure.
	Rand io.Reader
	// Judge says whose device a certificate is that came by way of authd, if it
	// is a token in force.
	Judge func(leaf, issuing []byte) (*realm.Token, error)
	// State is what the store holds.
	State State
	// Checks is how many signatures of room packets a second are checked in
	// vain before those who send bad ones are dropped unchecked; 0: no limit.
	Checks float64
}

// A Core is one person's chat on one device. See the package comment.
type Core struct {
	cfg    Config
	self   self
	people people
	rooms  map[wire.RoomID]*membership
	direct map[wire.AccountID]*direct
	chats  map[ChatID]*settings

	personal   map[string]string // what the person chose; see personal.go
	links      []string          // as they were numbered when they were shown
	linkNumber map[string]int

	received map[wire.DeviceID]uint64     // highest reliable direct message stored, by device
	numbers  map[wire.RoomID]uint64       // last of my reliable messages in every room I was ever in
	packets  map[wire.RoomID]uint64       // packets sealed since the start, in every room I was in
	fast     map[wire.RoomID]uint64       // fast messages sent since the start, likewise
	heard    map[wire.RoomID][]SaveAuthor // of rooms that were left
	early    map[earlyBase]uint64
	mirrors  map[*device]time.Time // who does not hear my multicast, until when it is served over its link
	offers   map[wire.RoomID]offer // rooms heard of and not a member of
	joinings map[wire.RoomID]*joining
	invites  map[inviteKey]*wire.Invite
	partings map[wire.RoomID]*parting
	renamed  []*membership             // told of by the next Take
	gone     map[wire.RoomID]*room.Log // of rooms one was removed from since the start
	lookedAt time.Time                 // when others were asked about a room that is not known
	current  string                    // the chat that text without a chat goes to
	lastFrom *person                   // who wrote to me directly last, for /r
	clock    wire.Clock
	started  time.Time
	authd    Authd
	trouble  Error  // the last one about authd
	muzzled  string // why nothing can be said any more; "": it can

	questions map[uint64]func(time.Time, []Frame, error)
	pinged    map[wire.DeviceID]string                // refs of pings under way
	busy      bool                                    // a command is being carried out that waits for others
	queued    []Command                               // typed meanwhile
	awaited   int                                     // questions whose answers a command is to show
	starting  bool                                    // the command being carried out may be about somebody not met yet
	unmet     bool                                    // it is
	requests  map[uint64]func(time.Time, AuthdAnswer) // to authd
	nextID    uint64
	timers    []timer
	mail      mail
	orphans   map[MessageID]bool // messages that are not there and were edited
	pages     int                // of history being looked up for others
	limbo     limbo
	active    []*membership // in which something has happened since the last settle
	now       time.Time     // when the last packet, command or moment came
	presence  uint64        // counts who comes and goes
	reader    *Reader       // the last
	stale     bool          // rooms, keys or authors changed since
	budget    *budget
	bursts    bursts
	dirty     []dirty
	stats     Stats
	work      Work
}

// self is what this device is to others.
type self struct {
	account wire.AccountID
	device  wire.DeviceID
	key     wire.DeviceKey
	name    string
}

// Stats counts what was dropped, for /net and for tests.
type Stats struct {
	Malformed  uint64 // packets and frames that do not parse or verify
	UnknownKey uint64 // room packets of an epoch we hold no key for
	Replayed   uint64 // room packets seen before
	Duplicates uint64 // messages that came again another way
	Forbidden  uint64 // well-formed, but the sender had no right
	Flooded    uint64 // fast messages beyond what one member may send
	Unchecked  uint64 // packets whose signature there was no time to check
}

// settings is what the person chose for a chat.
type settings struct {
	mode       Mode
	notify     Level
	mutedUntil time.Time
}

type timer struct {
	at time.Time
	do func(time.Time)
}

// New returns the core of a node that has just started. Its first Take tells
// of the rooms the person is in.
func New(now time.Time, cfg Config) (*Core, error) {
	c := &Core{
		cfg:       cfg,
		self:      self{account: cfg.Token.Account, device: cfg.Token.Device, key: cfg.Token.Key, name: cfg.Token.Name},
		people:    people{devices: map[wire.DeviceID]*device{}, accounts: map[wire.AccountID]*person{}, names: map[string]*person{}, former: map[string]*person{}, hints: map[wire.AccountID]string{}},
		rooms:     map[wire.RoomID]*membership{},
		direct:    map[wire.AccountID]*direct{},
		chats:     map[ChatID]*settings{},
		personal:  map[string]string{},
		received:  map[wire.DeviceID]uint64{},
		offers:    map[wire.RoomID]offer{},
		joinings:  map[wire.RoomID]*joining{},
		invites:   map[inviteKey]*wire.Invite{},
		partings:  map[wire.RoomID]*parting{},
		gone:      map[wire.RoomID]*room.Log{},
		numbers:   map[wire.RoomID]uint64{},
		packets:   map[wire.RoomID]uint64{},
		fast:      map[wire.RoomID]uint64{},
		heard:     map[wire.RoomID][]SaveAuthor{},
		early:     map[earlyBase]uint64{},
		mirrors:   map[*device]time.Time{},
		questions: map[uint64]func(time.Time, []Frame, error){},
		pinged:    map[wire.DeviceID]string{},
		requests:  map[uint64]func(time.Time, AuthdAnswer){},
		bursts:    bursts{known: map[room.Burst]*burst{}},
		started:   now,
		now:       now,
	}
	if cfg.Checks > 0 {
		c.budget = &budget{b: room.NewBudget(cfg.Checks)}
	}
	for _, p := range cfg.State.People {
		c.people.restore(p)
	}
	c.people.restore(SavePerson{Device: c.self.device, Key: c.self.key, Account: c.self.account, Name: c.self.name, NameSeq: cfg.Token.NameSeq, Serial: cfg.Token.Serial})
	for _, f := range cfg.State.Former {
		c.people.gave(f)
	}
	for _, s := range cfg.State.Settings {
		c.chats[s.Chat] = &settings{mode: s.Mode, notify: s.Notify, mutedUntil: s.MutedUntil}
	}
	for _, p := range cfg.State.Personal {
		c.personal[p.Name] = p.Value
	}
	for _, r := range cfg.State.Received {
		c.received[r.Device] = r.Number
	}
	c.orphans = map[MessageID]bool{}
	for _, id := range cfg.State.Orphans {
		c.orphans[id] = true
	}
	c.clock = c.clock.Merge(now, cfg.State.Clock)
	c.mail.asked = map[uint64]func(time.Time, wire.AuthMessage, error){}
	var err error
	if c.mail.private, err = c.mailKey(); err != nil {
		return nil, fmt.Errorf("deriving the mailbox key: %w", err)
	}
	c.restoreDirect(cfg.State)
	if err := c.restoreRooms(now, cfg.State); err != nil {
		return nil, err
	}
	c.after(now, sweepFirst, c.sweep)
	c.cfg.State = State{} // it may be large
	return c, nil
}

// Take returns the work that has come up and forgets it.
func (c *Core) Take() Work {
	c.tellNames()
	c.settle()
	c.flush()
	w := c.work
	c.work = Work{}
	return w
}

// Stats returns what was dropped so far.
func (c *Core) Stats() Stats { return c.stats }

// Pending returns how many reliable direct messages nobody has acknowledged.
func (c *Core) Pending() (n int) {
	for _, d := range c.direct {
		n += len(d.queue.After(d.confirmed))
	}
	return n
}

// Deadline returns when Advance next has work; zero: never. It is right after
// Take and Advance.
func (c *Core) Deadline() time.Time {
	var d time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (d.IsZero() || t.Before(d)) {
			d = t
		}
	}
	for _, t := range c.timers {
		earlier(t.at)
	}
	for _, r := range c.rooms {
		earlier(r.deadline)
	}
	return d
}

// Advance tells the core that time has passed.
func (c *Core) Advance(now time.Time) {
	c.now = now
	var due []timer
	c.timers = slices.DeleteFunc(c.timers, func(t timer) bool {
		if now.Before(t.at) {
			return false
		}
		due = append(due, t)
		return true
	})
	for _, t := range due {
		t.do(now)
	}
	for _, r := range c.rooms {
		if !r.deadline.IsZero() && !now.Before(r.deadline) {
			c.advanceRoom(now, r)
		}
	}
	c.settle()
}

// after has do called once, d from now.
func (c *Core) after(now time.Time, d time.Duration, do func(time.Time)) {
	c.timers = append(c.timers, timer{at: now.Add(d), do: do})
}

// jitter returns a random duration below d.
func (c *Core) jitter(d time.Duration) time.Duration {
	var b [8]byte
	c.random(b[:])
	return time.Duration(uint64(wire.NewReader(b[:]).Uint64()>>1) % uint64(max(d, 1)))
}

func (c *Core) random(b []byte) {
	if _, err := io.ReadFull(c.cfg.Rand, b); err != nil {
		panic(fmt.Sprintf("chat: reading randomness: %v", err)) // crypto/rand never fails
	}
}

func (c *Core) save(r ...Record) { c.work.Save = append(c.work.Save, r...) }
func (c *Core) send(s ...Send)   { c.work.Sends = append(c.work.Sends, s...) }

// lookUp has the host do or find something for a command; its answer is awaited
// before the program ends.
func (c *Core) lookUp(q Send) {
	c.awaited++
	c.send(q)
}

// sendFirst sends what depends on nothing that is stored in this turn.
func (c *Core) sendFirst(s ...Send) { c.work.First = append(c.work.First, s...) }

func (c *Core) show(e ...Event) {
	for i := range e {
		switch v := e[i].(type) {
		case Message:
			v.Links = c.numberLinks(v.Text)
			e[i] = v
		case Sent:
			v.Links = c.numberLinks(v.Text)
			e[i] = v
		}
	}
	c.work.Events = append(c.work.Events, e...)
}

// refuse shows an error; nothing else happens for the command it answers.
func (c *Core) refuse(ref, code, format string, args ...any) {
	c.show(Error{Code: code, Text: clean.Text(fmt.Sprintf(format, args...), maxErrorText), Ref: ref})
}

const maxErrorText = 1000 // bytes

// ask puts a question to a device; then is called once with the answer.
func (c *Core) ask(to wire.DeviceID, typ uint8, body []byte, then func(now time.Time, frames []Frame, err error)) {
	c.nextID++
	c.questions[c.nextID] = then
	c.send(Ask{Question: c.nextID, To: to, Type: typ, Body: body})
}

// HandleAnswer takes the answer to a question of ours, or why there is none.
func (c *Core) HandleAnswer(now time.Time, question uint64, frames []Frame, err error) {
	then, ok := c.questions[question]
	if !ok {
		return
	}
	delete(c.questions, question)
	if k := len(frames) - 1; err == nil && k >= 0 && frames[k].Type == wire.FrameRefused {
		m, perr := wire.ParseRefused(frames[k].Body)
		if perr != nil {
			err = perr
		} else {
			err = &refusal{code: clean.Line(m.Code, 64), text: clean.Line(m.Text, maxErrorText)}
		}
	}
	then(now, frames, err)
}

// A refusal is a peer's no to a question of ours.
type refusal struct{ code, text string }

func (r *refusal) Error() string { return r.text }

// HandleAuthd takes the news about the realm's authd: state is "up", "down"
// or "changed".
func (c *Core) HandleAuthd(e Authd) {
	c.authd = e
	c.show(e)
}

// HandleTrouble shows what went wrong with authd, once until it changes.
func (c *Core) HandleTrouble(e Error) {
	if e != c.trouble {
		c.trouble = e
		c.show(e)
	}
}

// HandleShutOut is told that the realm has shut this device out, in words for
// the person: nothing is said any more, as nobody would hear it.
func (c *Core) HandleShutOut(words string) { c.muzzled = words }

// refuseMuzzled reports whether nothing can be said any more, and says so.
func (c *Core) refuseMuzzled(ref string) bool {
	if c.muzzled != "" {
		c.refuse(ref, "not_authenticated", "%s", c.muzzled)
	}
	return c.muzzled != ""
}

// HandleToken takes the device's renewed token.
func (c *Core) HandleToken(now time.Time, t *realm.Token) {
	c.cfg.Token = t
	c.met(now, t)
}

// settingsOf returns the settings of a chat, the defaults if none were chosen.
func (c *Core) settingsOf(id ChatID) settings {
	if s, ok := c.chats[id]; ok {
		return *s
	}
	return settings{mode: c.cfg.Mode}
}

func (c *Core) setSettings(id ChatID, s settings) {
	c.chats[id] = &s
	c.save(SaveSettings{Chat: id, Mode: s.mode, Notify: s.notify, MutedUntil: s.mutedUntil})
}

// ring shows a Notify unless the chat is muted or its level says no.
func (c *Core) ring(now time.Time, id ChatID, chat string, message MessageID, why string) {
	s := c.settingsOf(id)
	switch {
	case now.Before(s.mutedUntil), s.notify == NotifyNone, c.undisturbed(now):
		return
	case s.notify == NotifyMentions && why == "message":
		return
	}
	c.show(Notify{Chat: chat, ID: message.String(), Why: why})
}
