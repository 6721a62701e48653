package chat

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"lanchat/node/delivery"
	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/clean"
)

const (
	ackDelay    = 50 * time.Millisecond // before reliable messages are acknowledged, plus …
	ackJitter   = 150 * time.Millisecond
	ackMost     = delivery.Window / 4 // messages of an author that are not acknowledged at once, in rooms up to spreadAbove
	ackPerSec   = 20                  // acknowledgement packets a room takes per second, of all members
	spreadAbove = 8                   // devices in a room; in larger ones requests for repair are spread in time
	spreadEach  = 250 * time.Microsecond
	spreadMost  = 100 * time.Millisecond
	beaconEvery = 5 * time.Second
	beaconRate  = 20               // beacons a room takes per second, of all members
	keyRetry    = time.Second      // between questions for a missing secret or entry
	keyPatience = 30 * time.Second // before the person is told that a message waits for the key
	ackAgain    = time.Minute      // an author that goes on asking is told again
	maxWaiting  = 4096             // messages that wait in a room, for its key or for their turn
	keepTracked = 256              // of them, those that everybody has
	maxTracked  = 16384            // own messages whose receipts are followed, per room
	maxMirror   = 30 * time.Second // that a device is served over its link without asking again
	maxRecall   = 256              // messages looked up for one repair request
	recallEvery = time.Second      // between look-ups for the same device
	reordering  = 2 * time.Second  // a packet may come behind its sender's goodbye
	fastRate    = 500              // fast messages a member may send per second
	fastBurst   = 2000             // and at once
)

// A membership is a room as one of its members sees it.
type membership struct {
	id       wire.RoomID
	log      *room.Log
	keys     *room.Keyring
	out      *delivery.Outgoing
	authors  map[wire.DeviceID]*author
	gaps     map[*author]bool // those whose inbox has a deadline
	there    []wire.DeviceID  // devices of other members that are online; see Core.thereIn
	seen     company          // when there was filled in
	waiting  []saying         // to be sealed: until the room's key is there, or what was sealed before is out
	slowed   bool             // the person was told that messages wait
	leaving  bool             // the person wants to leave; see Core.leave
	patient  time.Time
	tracked  []tracked // by number
	pull     pull
	recount  recount
	fetching map[MessageID]*fetch // long messages whose text is being asked for
	fastOut  delivery.Bucket
	received uint64 // reliable messages of others since the start

	epoch    wire.Hash // entry of the epoch sent in last; zero: none
	turned   uint64    // my last message before the room turned to it …
	turnedAt time.Time // and when

	requests []*request
	tendAt   time.Time                           // when to look again at what a writer would do; zero: nothing is
	due      time.Time                           // since when something is
	wantedAt time.Time                           // since when others want something done here
	wishes   map[wire.AccountID]*delivery.Bucket // see Core.wishes
	knocked  map[wire.DeviceID]bool              // new devices of members that want in
	told     map[wire.AccountID]bool             // suspended people that the person was asked about
	asks     delivery.Bucket                     // how often that may be

	// CLAIMs that are not believed yet, with what is built on them.
	delayed   []*wire.Entry
	delayedAt time.Time // when the first one came
	adoptAt   time.Time // when they are looked at again
	overruled delivery.Bucket

	// What others did in vain on the other side of a split, to be told of.
	lost     []*wire.Entry
	lostAt   time.Time
	lostTold delivery.Bucket

	name     string                              // what it is called here; see nameRooms
	was      string                              // and before, until that was told
	alarms   map[wire.DeviceKey]*delivery.Bucket // of devices that sign twice
	vain     map[wire.DeviceID]*delivery.Bucket  // what devices may hand on that comes to nothing
	decided  bool                                // between two signed histories
	replaced bool                                // by a room of the same name

	ackAt    time.Time // when to acknowledge next; zero: nothing new
	beaconAt time.Time
	active   bool                   // in Core.active
	wonders  delivery.Bucket        // see Core.wonder
	asking   map[wire.DeviceID]bool // whom a question about the log is under way to
	askNext  wire.DeviceID          // who is to be asked then; zero: nobody
	syncAt   time.Time              // when to ask again for what is missing; zero: nothing is
	deadline time.Time              // the earliest of all
}

// An author is a device as its messages in one room are received.
type author struct {
	device wire.DeviceID
	inbox  *delivery.Inbox[arrival]
	path   *delivery.Path
	marks  *marks // what came, for readers in other goroutines too
	fast   fastIn
	since  uint64    // my last number when the device was let in
	acked  uint64    // what was acknowledged last
	ackEnd time.Time // until when it is said again
	// recallAt is when the device may next have messages looked up for it.
	recallAt time.Time
	owes     bool // an acknowledgement
	dirty    bool // to be saved; in Core.dirty
}

// An arrival is a verified message that waits for its turn.
type arrival struct {
	from    room.Slot
	clock   wire.Clock
	mode    Mode
	message wire.Message
	raw     []byte
	epoch   wire.Hash
	replay  bool // handed on from history
	long    bool // its text was announced by a notice
}

// tracked is a reliable message of one's own and who has it.
type tracked struct {
	number uint64
	id     MessageID
	text   string
	of     int // people
	got    []wire.AccountID
}

// chat returns what the room is called here, "#name".
func (m *membership) chat() string { return m.name }

// plainName returns the name in the room's log, "#name". It is the admin's
// word: one that is no room name is not shown.
func (m *membership) plainName() string {
	name, err := clean.RoomName(m.log.State().Name)
	if err != nil {
		return "#room-" + m.id.String()[:8]
	}
	return name
}

// tagged returns a room's name with four letters of its id, by which it is
// told from another one of that name.
func tagged(name string, id wire.RoomID) string { return name + "~" + id.String()[:4] }

// splitName takes a name that may be tagged apart.
func splitName(chat string) (name, tag string, err error) {
	name, tag, _ = strings.Cut(chat, "~")
	name, err = clean.RoomName(name)
	return name, strings.ToLower(tag), err
}

// nameRooms works out what each room is called, and tells of those that are
// called differently from now on: a room of the same name came, or went.
func (c *Core) nameRooms() {
	count := map[string]int{}
	for _, m := range c.rooms {
		if !m.replaced {
			count[m.plainName()]++
		}
	}
	for _, m := range c.rooms {
		name := m.plainName()
		if count[name] > 1 || m.replaced {
			name = tagged(name, m.id)
		}
		old := m.name
		if m.name = name; old == "" || old == name {
			continue
		}
		if c.current == old {
			c.current = name
		}
		m.was = old
		c.renamed = append(c.renamed, m)
	}
}

// tellNames tells of rooms that are called differently, unless an entry that
// did it has told so.
func (c *Core) tellNames() {
	for _, m := range c.renamed {
		if c.rooms[m.id] == m && m.was != "" {
			e := c.roomEvent(m, "renamed", wire.AccountID{}, wire.AccountID{}, "")
			e.Was, m.was = m.was, ""
			c.show(e)
			if c.current == m.name {
				c.show(Notice{Code: "current", Text: "you are talking in " + m.name, Data: m.name})
			}
		}
	}
	c.renamed = nil
}

func (c *Core) author(m *membership, d wire.DeviceID) *author {
	a := m.authors[d]
	if a == nil {
		a = c.newAuthor(m, d, 0)
	}
	return a
}

// newAuthor adds a device whose messages up to done were handed over before.
func (c *Core) newAuthor(m *membership, d wire.DeviceID, done uint64, missing ...wire.Range) *author {
	a := &author{device: d, path: &delivery.Path{}, marks: &marks{received: done}, fast: newFastIn()}
	a.path.Spread = func() time.Duration {
		n := len(c.thereIn(m)) + 1
		if n <= spreadAbove {
			return 0
		}
		return c.jitter(min(time.Duration(n-spreadAbove)*spreadEach, spreadMost))
	}
	a.inbox = delivery.NewInbox[arrival](a.path, done, missing...)
	m.authors[d] = a
	c.stale = true
	return a
}

// newMembership returns a room one has just entered or restored.
func (c *Core) newMembership(now time.Time, log *room.Log, keys *room.Keyring) *membership {
	m := &membership{id: log.State().Room, log: log, keys: keys, authors: map[wire.DeviceID]*author{}, gaps: map[*author]bool{}, fetching: map[MessageID]*fetch{},
		wishes: map[wire.AccountID]*delivery.Bucket{}, knocked: map[wire.DeviceID]bool{}, told: map[wire.AccountID]bool{}, alarms: map[wire.DeviceKey]*delivery.Bucket{}, vain: map[wire.DeviceID]*delivery.Bucket{}, asking: map[wire.DeviceID]bool{}, fastOut: delivery.Bucket{Rate: fastRate, Burst: fastBurst},
		wonders: delivery.Bucket{Rate: wonderRate, Burst: wonderBurst}, asks: delivery.Bucket{Rate: askRate, Burst: askBurst}, overruled: delivery.Bucket{Rate: overruleRate, Burst: overruleBurst}, lostTold: delivery.Bucket{Rate: sideRate, Burst: sideBurst}}
	for _, p := range log.State().Members {
		c.people.hear(p.Account, p.Name)
	}
	m.pull.claims, m.pull.vain = map[wire.DeviceID]claim{}, map[wire.DeviceID]time.Time{}
	m.out = delivery.NewOutgoing(c.numbers[m.id])
	c.newRecount(now, m)
	m.beaconAt = now.Add(c.jitter(beaconEvery))
	c.rooms[m.id] = m
	c.stale = true
	c.schedule(m)
	return m
}

// restoreRooms takes over the rooms of the store.
func (c *Core) restoreRooms(now time.Time, s State) error {
	for _, n := range s.Numbers {
		c.numbers[n.Room] = n.Number
	}
	entries := map[wire.RoomID][][]byte{}
	for _, e := range s.Entries {
		entries[e.Room] = append(entries[e.Room], e.Entry)
	}
	secrets := map[wire.RoomID][]room.EpochSecret{}
	for _, e := range s.Secrets {
		secrets[e.Room] = append(secrets[e.Room], room.EpochSecret{Entry: e.Epoch, Secret: e.Secret})
	}
	applied := map[wire.RoomID][]wire.Hash{}
	for _, a := range s.Applied {
		applied[a.Room] = append(applied[a.Room], a.Hash)
	}
	for _, r := range s.Rooms {
		parsed, err := parseEntries(entries[r.Room])
		if err != nil {
			return fmt.Errorf("the log of room %v: %w", r.Room, err)
		}
		log, err := room.Load(c.cfg.Realm, parsed, applied[r.Room])
		if err != nil {
			return fmt.Errorf("the log of room %v: %w", r.Room, err)
		}
		keys, changed := room.NewKeyring(now, log, c.self.key, secrets[r.Room])
		m := c.newMembership(now, log, keys)
		m.decided = applied[r.Room] != nil
		c.keep(m, changed)
	}
	c.nameRooms()
	for _, a := range s.Authors {
		if m := c.rooms[a.Room]; m == nil {
			c.heard[a.Room] = append(c.heard[a.Room], a)
		} else if err := c.restoreAuthor(now, m, a); err != nil {
			return err
		}
	}
	for _, m := range c.sortedRooms() {
		c.show(c.roomEvent(m, "restored", wire.AccountID{}, wire.AccountID{}, ""))
		if m.log.Held() {
			for _, q := range m.log.Equivocations() {
				c.alarm(now, m, q)
			}
		}
		c.checkKey(now, m)
	}
	if len(c.rooms) == 1 {
		c.open(c.sortedRooms()[0].chat(), "")
	}
	for _, p := range s.Partings {
		c.partings[p.Room] = &parting{room: p.Room, members: p.Members}
	}
	return c.restoreInvites(now, s.Invites)
}

// restoreAuthor goes on where a device was heard last.
func (c *Core) restoreAuthor(now time.Time, m *membership, s SaveAuthor) (err error) {
	a := c.newAuthor(m, s.Device, s.Received, s.Missing...)
	a.since = s.Since
	a.inbox.Want(now)
	c.watch(m, a)
	a.acked = a.inbox.Received()
	a.marks.replay, err = room.ParseReplay(s.Replay)
	return err
}

// restoreInvites takes over the invites of the store and tells of those that
// this person has not used.
func (c *Core) restoreInvites(now time.Time, stored []SaveInvite) error {
	for _, s := range stored {
		inv, err := wire.ParseInvite(s.Invite)
		if err != nil {
			return fmt.Errorf("an invite to room %v: %w", s.Room, err)
		}
		c.invites[inviteKey{s.Room, s.Account}] = inv
		name, err := clean.RoomName(inv.Name)
		if from := c.people.devices[inv.From.Device()]; err == nil && from != nil && s.Account == c.self.account && c.rooms[s.Room] == nil {
			c.tellInvite(now, from.person, inv, name)
		}
	}
	return nil
}

func (c *Core) identity() room.Identity {
	return room.Identity{Realm: c.cfg.Realm, Account: c.self.account, Name: c.self.name, Key: c.cfg.Key, Rand: c.cfg.Rand}
}

// roomEvent returns the state of a room as an event.
func (c *Core) roomEvent(m *membership, cause string, by, whom wire.AccountID, ref string) Room {
	s := m.log.State()
	e := Room{Chat: m.chat(), Seq: s.Seq, Members: []string{}, Admins: []string{}, Topic: clean.Line(s.Topic, wire.MaxTopic), Private: s.Private(), Cause: cause, Ref: ref}
	if s.Epoch != nil {
		e.Epoch = s.Epoch.Number
	}
	for i, p := range s.Members {
		name := c.people.nameOf(p.Account)
		e.Members = append(e.Members, name)
		if i <= s.Mods {
			e.Admins = append(e.Admins, name)
		}
	}
	if !by.IsZero() {
		e.By = c.people.nameOf(by)
	}
	if !whom.IsZero() {
		e.Whom = c.people.nameOf(whom)
	}
	return e
}

// Snapshot returns how things stand, for a face that has just come: who is
// online, the rooms, the current chat.
func (c *Core) Snapshot(now time.Time) (events []Event) {
	for _, p := range c.others() {
		for _, d := range p.devices {
			if d.online {
				events = append(events, c.peer(now, d, "online", "hello", []string{}))
			}
		}
	}
	for _, m := range c.sortedRooms() {
		events = append(events, c.roomEvent(m, "restored", wire.AccountID{}, wire.AccountID{}, ""))
	}
	if c.current != "" {
		events = append(events, Notice{Code: "current", Text: "you are talking in " + c.current, Data: c.current})
	}
	return events
}

// findRoom returns the room one is in that is called chat ("#name"); of
// several with that name the one that is called so, if any.
func (c *Core) findRoom(chat string) *membership {
	name, tag, err := splitName(chat)
	if err != nil {
		return nil
	}
	var found []*membership
	for _, m := range c.rooms {
		if m.plainName() != name || !strings.HasPrefix(m.id.String(), tag) {
			continue
		}
		if tag == "" && m.chat() == name {
			return m
		}
		found = append(found, m)
	}
	if len(found) != 1 {
		return nil
	}
	return found[0]
}

// sameName returns what the rooms one is in with a name are called.
func (c *Core) sameName(chat string) (names []string) {
	name, _, err := splitName(chat)
	for _, m := range c.sortedRooms() {
		if err == nil && m.plainName() == name {
			names = append(names, m.chat())
		}
	}
	return names
}

// ---- receiving

// HandlePacket takes a room packet that came by multicast, mirror or repair.
// The bytes are the core's from now on.
func (c *Core) HandlePacket(now time.Time, packet []byte) {
	c.HandleRead(now, c.read().Read(now, netip.AddrPort{}, packet))
}

// HandleRead takes a room packet that a Reader has opened and verified.
func (c *Core) HandleRead(now time.Time, p *Packet) {
	c.now = now
	switch {
	case p.opened != nil:
		if m := c.rooms[p.epoch.Room()]; m != nil {
			c.takePacket(now, m, p)
		}
	case p.verdict == unknownKey:
		if !c.tryPacket(now, p.raw) {
			c.hold(now, p.raw)
		}
	default:
		c.count(p.verdict)
	}
}

func (c *Core) count(v verdict) {
	switch v {
	case malformed:
		c.stats.Malformed++
	case replayed:
		c.stats.Replayed++
	case duplicate:
		c.stats.Duplicates++
	case overBudget:
		c.stats.Unchecked++
	}
}

// hold keeps a packet of an unknown epoch for a moment.
func (c *Core) hold(now time.Time, packet []byte) {
	h, err := wire.ParsePacketHeader(packet)
	if err != nil {
		return // the reader judged it
	}
	c.stats.UnknownKey++
	c.limbo.hold(now, h.KeyID, packet)
	if c.limbo.strange(h.KeyID) {
		for _, m := range c.rooms {
			c.wonder(now, m)
		}
	}
}

// tryPacket reads a packet once more if its epoch is known now, and reports
// whether it is.
func (c *Core) tryPacket(now time.Time, packet []byte) bool {
	p := c.read().Read(now, netip.AddrPort{}, packet)
	if p.verdict == unknownKey {
		return false
	}
	c.HandleRead(now, p)
	return true
}

// takePacket takes a packet whose signature is good. A reader may have had an
// older view of the room: what may have changed since is judged here again.
func (c *Core) takePacket(now time.Time, m *membership, p *Packet) {
	o := p.opened
	if m.keys.Readable(now, o.Epoch.Entry, o.From) != nil {
		c.stats.Forbidden++
		return
	}
	a := c.author(m, o.From.Device)
	fresh := a.marks.mark(o.Seq)
	if !fresh && !o.Reliable {
		c.stats.Replayed++
		return
	}
	m.keys.Packet()
	if d := c.people.devices[o.From.Device]; d != nil && fresh && (d.gone.IsZero() || now.Sub(d.gone) > reordering) {
		d.heard, d.gone = now, time.Time{}
	}
	if p.body == nil {
		c.stats.Malformed++
		return
	}
	c.clock = c.clock.Merge(now, o.Clock)
	switch body := p.body.(type) {
	case *wire.Message:
		c.handleMessages(now, m, a, o, []wire.Message{*body}, false)
	case *wire.Pack:
		c.handleMessages(now, m, a, o, body.Messages, false)
	case *wire.Notice:
		c.handleNotice(now, m, a, o, body, false, wire.DeviceID{})
	case *wire.LogEntry:
		c.addEntries(now, m, [][]byte{body.Entry}, o.From.Device)
	case *wire.Beacon:
		c.handleBeacon(now, m, a, o, body)
	case *wire.Leave:
		c.handleLeave(now, m, o.From.Account)
	case *wire.Acks:
		c.handleAcks(now, m, o, body)
	case *wire.RepairRequest:
		c.handleRepair(now, m, o, body)
	}
	c.schedule(m)
}

// handleMessage takes a verified message and reports whether it is new.
func (c *Core) handleMessage(now time.Time, m *membership, a *author, o *room.Opened, msg wire.Message, replay bool) (fresh bool) {
	return c.handleMessages(now, m, a, o, []wire.Message{msg}, replay)
}

// handleMessages takes the messages of a verified packet and reports whether any
// is new.
func (c *Core) handleMessages(now time.Time, m *membership, a *author, o *room.Opened, messages []wire.Message, replay bool) (fresh bool) {
	_, silenced := m.log.State().Silenced(now, o.From.Account)
	c.touch(m, a)
	for _, msg := range messages {
		if silenced {
			c.stats.Forbidden++ // the number still counts, so no gap stays open
			msg.Verb = Hidden
		}
		x := arrival{from: o.From, clock: o.Clock, mode: Reliable, message: msg, raw: o.Signed, epoch: o.Epoch.Entry, replay: replay, long: o.Kind == wire.KindNotice}
		if o.Reliable {
			fresh = c.handleReliable(now, m, a, x) || fresh
		} else if a.fast.limit.Allow(now) {
			x.mode, fresh = Fast, true
			late := a.fast.Handle(msg.Number)
			c.watchFast(now, m, a)
			c.deliver(now, m, x, late)
		} else {
			c.stats.Flooded++
		}
	}
	if o.Reliable {
		c.tellGap(now, m, a)
		c.owe(now, m, a)
		c.watch(m, a)
	}
	return fresh
}

func (c *Core) handleReliable(now time.Time, m *membership, a *author, x arrival) (fresh bool) {
	ready, fresh, late := a.inbox.Handle(now, x.message.Number, x)
	if fresh {
		m.received++
		if len(ready) == 0 {
			a.marks.came(x.message.Number)
		}
	} else {
		c.stats.Duplicates++
	}
	for _, r := range ready {
		c.deliver(now, m, r, late)
	}
	return fresh
}

// watch notes whether the inbox of an author wants to be told the time.
func (c *Core) watch(m *membership, a *author) {
	a.marks.setReceived(a.inbox.Received(), a.inbox.Open())
	if a.inbox.Deadline().IsZero() {
		delete(m.gaps, a)
	} else {
		m.gaps[a] = true
	}
}

// deliver stores and shows a message whose turn it is.
func (c *Core) deliver(now time.Time, m *membership, x arrival, late bool) {
	text, long := clean.Text(x.message.Text, wire.MaxLongText), ""
	if x.long {
		long = x.message.Text
	}
	own, why := x.from.Device == c.self.device, "message"
	if Mentions(text, c.self.name) {
		why = "mention"
	}
	c.take(now, told{
		SaveMessage: SaveMessage{ID: messageID(m.id[:], x.from.Device, x.mode, x.message.Number), Chat: ChatID{Room: m.id},
			Account: x.from.Account, Device: x.from.Device, From: c.people.nameOf(x.from.Account), Mode: x.mode, Number: x.message.Number,
			Clock: x.clock, At: now, Text: text, ReplyTo: x.message.Ref, Raw: x.raw, Epoch: x.epoch, Long: long, Own: own, Read: own},
		verb: x.message.Verb, chat: m.chat(), late: late, replay: x.replay, why: why,
	})
}

// Mentions reports whether text names a user as a word of its own.
func Mentions(text, name string) bool {
	if name == "" || !mayMention(text, name) {
		return false
	}
	word := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.')
	}
	for _, w := range strings.FieldsFunc(strings.ToLower(text), word) {
		if strings.Trim(w, ".-_") == name || w == name {
			return true
		}
	}
	return false
}

// mayMention reports whether text has the letters of a name anywhere, or any that
// are not ASCII: most texts can be told from those that mention somebody so.
func mayMention(text, name string) bool {
	for i := range len(text) {
		switch b := text[i]; {
		case b >= utf8.RuneSelf:
			return true
		case b|0x20 == name[0]|0x20 && len(text)-i >= len(name) && strings.EqualFold(text[i:i+len(name)], name):
			return true
		}
	}
	return false
}

// tellGap shows that messages are missing, or no longer.
func (c *Core) tellGap(now time.Time, m *membership, a *author) {
	if missing, changed := a.inbox.Told(now); changed {
		c.show(Gap{Chat: m.chat(), From: c.nameOfDevice(a.device), Missing: missing, Healed: missing == 0, Mode: Reliable.String()})
		if missing > 0 {
			c.pullMissing(now, m)
		}
	}
}

// nameOfDevice returns what the owner of a device is called.
func (c *Core) nameOfDevice(d wire.DeviceID) string {
	if known := c.people.devices[d]; known != nil {
		return known.person.name
	}
	return "unknown-" + d.String()[:6]
}

func (c *Core) handleBeacon(now time.Time, m *membership, a *author, o *room.Opened, b *wire.Beacon) {
	a.inbox.Exists(now, b.Reliable)
	a.fast.Exists(b.Fast)
	c.watchFast(now, m, a)
	c.owe(now, m, a)
	c.watch(m, a)
	if !m.log.Has(b.Head) {
		c.askLog(now, m, o.From.Device)
	}
}

// ---- acknowledgements and repair

// owe plans an acknowledgement of what has come from a device: at a random
// moment, later in large rooms so that all members together send about
// ackPerSec. An author that goes on asking (a message or heartbeat that
// brings nothing new) is told again, a few times.
func (c *Core) owe(now time.Time, m *membership, a *author) {
	switch n := a.inbox.Received(); {
	case n == 0 || n == a.acked && now.After(a.ackEnd):
		return
	case n != a.acked:
		a.ackEnd = now.Add(ackAgain)
	}
	a.owes = true
	if m.ackAt.IsZero() {
		mean := time.Duration(len(c.thereIn(m))+1) * time.Second / ackPerSec
		m.ackAt = now.Add(ackDelay + c.jitter(max(ackJitter, 2*(mean-ackDelay))))
	}
	if a.inbox.Received() > a.acked+ackMost && len(c.thereIn(m)) <= spreadAbove {
		m.ackAt = now // else the author's window is full before it hears of it
	}
}

// oweAgain has an author who is back told what has come of it, by whatever way.
func (c *Core) oweAgain(now time.Time, dev *device) {
	for _, m := range c.rooms {
		if a := m.authors[dev.id]; a != nil {
			a.ackEnd = now.Add(ackAgain)
			c.owe(now, m, a)
			c.schedule(m)
		}
	}
}

func (c *Core) acknowledge(now time.Time, m *membership) {
	m.ackAt = time.Time{}
	epoch := m.keys.Current()
	if epoch == nil {
		return
	}
	var acks wire.Acks
	for slot, s := range epoch.Info().Slots {
		a := m.authors[s.Device]
		if a == nil || !a.owes {
			continue
		}
		if len(acks.Acks) == wire.MaxAcks { // the rest next time
			c.owe(now, m, a)
			break
		}
		a.owes, a.acked = false, a.inbox.Received()
		acks.Acks = append(acks.Acks, wire.Ack{Slot: uint16(slot), Number: a.acked})
	}
	if len(acks.Acks) > 0 {
		packet, _ := c.seal(m, wire.KindAcks, false, wire.AppendBody(nil, &acks))
		c.multicast(now, m, packet)
	}
}

func (c *Core) handleAcks(now time.Time, m *membership, o *room.Opened, acks *wire.Acks) {
	from := o.From
	slot, ok := o.Epoch.Slot(c.self.key)
	if !ok || m.recount.waits() {
		return // of what was sent before an older copy of the store came back, perhaps
	}
	since := c.author(m, from.Device).since // what was said before is not for it
	for _, a := range acks.Acks {
		if a.Slot != slot {
			if int(a.Slot) < len(o.Epoch.Slots) {
				c.claimed(now, m, from.Device, o.Epoch.Slots[a.Slot].Device, a.Number)
			}
			continue
		}
		if a.Number > m.out.Last() {
			c.doubt(now, m, from.Device)
			continue
		}
		news := m.out.HandleAck(now, from.Device, a.Number)
		i, _ := slices.BinarySearchFunc(m.tracked, news.First, func(t tracked, n uint64) int { return cmp.Compare(t.number, n) })
		for ; i < len(m.tracked) && m.tracked[i].number <= news.Last && from.Account != c.self.account; i++ {
			t := &m.tracked[i]
			if t.number <= since || slices.Contains(t.got, from.Account) {
				continue
			}
			t.got = append(t.got, from.Account)
			c.show(Receipt{ID: t.id.String(), Chat: m.chat(), By: c.people.nameOf(from.Account), Got: len(t.got), Of: t.of})
		}
	}
	for len(m.tracked) > keepTracked && len(m.tracked[0].got) >= m.tracked[0].of {
		m.tracked = m.tracked[1:]
	}
}

// askRepair asks for messages of a device that did not come: the device
// itself, by unicast, or another member when it has not answered.
func (c *Core) askRepair(now time.Time, m *membership, a *author, ask delivery.Request) {
	epoch := m.keys.Current()
	if epoch == nil || len(ask.Author)+len(ask.Other) == 0 {
		return
	}
	slot := slices.IndexFunc(epoch.Info().Slots, func(s room.Slot) bool { return s.Device == a.device })
	if slot < 0 {
		return
	}
	request := func(ranges []wire.Range, to wire.DeviceID) {
		packet, _ := c.seal(m, wire.KindRepairRequest, false, wire.AppendBody(nil, &wire.RepairRequest{Slot: uint16(slot), Ranges: ranges}))
		if c.reachable(to) {
			c.sendFirst(Unicast{To: to, Packet: packet})
		} else {
			c.sendFirst(Multicast{Packet: packet})
		}
	}
	if author := c.people.devices[a.device]; author == nil || !author.online {
		ask = delivery.Request{Other: ask.All()} // only others can answer
	}
	if len(ask.Author) > 0 {
		request(ask.Author, a.device)
	}
	if others := slices.DeleteFunc(slices.Clone(c.thereIn(m)), func(d wire.DeviceID) bool { return d == a.device }); len(ask.Other) > 0 && len(others) > 0 {
		request(ask.Other[:min(len(ask.Other), wire.MaxRanges)], others[int(c.jitter(time.Duration(len(others))))])
	}
}

// sendBase tells a device that was let in where my messages begin for it.
func (c *Core) sendBase(m *membership, a *author) {
	base := wire.Base{Room: m.id, Number: a.since}
	c.send(Push{To: a.device, Type: wire.FrameBase, Body: base.Append(nil)})
}

// handleBase takes a device's word where its messages begin for this one.
func (c *Core) handleBase(now time.Time, from wire.DeviceID, body []byte) error {
	b, err := wire.ParseBase(body)
	if err != nil {
		return err
	}
	m := c.rooms[b.Room]
	if m == nil {
		if len(c.early) < maxEarly {
			c.early[earlyBase{b.Room, from}] = b.Number // the answer to our Join may be on its way
		}
		return nil
	}
	known := c.people.devices[from]
	if known == nil {
		return nil
	}
	if _, member := m.log.State().Owner(known.key); !member {
		c.stats.Forbidden++
		return nil
	}
	c.skip(now, m, from, b.Number)
	return nil
}

// skip passes over the messages of a device up to number n: they are not for
// this one.
func (c *Core) skip(now time.Time, m *membership, device wire.DeviceID, n uint64) {
	a := c.author(m, device)
	for _, x := range a.inbox.Skip(n) {
		c.deliver(now, m, x, false)
	}
	c.touch(m, a)
	c.watch(m, a)
	c.tellGap(now, m, a)
	c.schedule(m)
}

// earlyBase is a Base that came before its room was entered.
type earlyBase struct {
	room   wire.RoomID
	device wire.DeviceID
}

const maxEarly = 4096

// handleRepair answers a device that misses messages: of this one's own with
// the packets that are kept, of others and older ones from the store.
func (c *Core) handleRepair(now time.Time, m *membership, o *room.Opened, r *wire.RepairRequest) {
	if int(r.Slot) >= len(o.Epoch.Slots) {
		c.stats.Forbidden++
		return
	}
	of, a, ranges := o.Epoch.Slots[r.Slot].Device, c.author(m, o.From.Device), r.Ranges
	if of == c.self.device {
		if ranges[0].First <= a.since {
			c.sendBase(m, a)
		}
		if !m.turnedAt.IsZero() && now.Sub(m.turnedAt) > room.ReadPrevious/2 {
			m.out.Forget(m.turned) // soon nobody can open those packets any more
		}
		m.out.HandleRequest(now, o.From.Device, ranges)
		ranges = m.out.Forgotten(ranges, a.since)
	}
	if len(ranges) > 0 && !now.Before(a.recallAt) {
		a.recallAt = now.Add(recallEvery)
		c.send(Recall{Room: m.id, Device: of, Ranges: ranges, Limit: maxRecall, to: a.device})
	}
}

// ---- time

// schedule has the room looked at before the next work is taken: something
// has happened in it.
func (c *Core) schedule(m *membership) {
	if !m.active {
		m.active = true
		c.active = append(c.active, m)
	}
}

// settle does what waits in the rooms that something has happened in, and
// works out when they need attention next.
func (c *Core) settle() {
	for len(c.active) > 0 {
		active := c.active
		c.active = nil
		for _, m := range active {
			m.active = false
			if c.rooms[m.id] != m {
				continue
			}
			c.pump(c.now, m)
			m.deadline = time.Time{}
			earlier := func(t time.Time) {
				if !t.IsZero() && (m.deadline.IsZero() || t.Before(m.deadline)) {
					m.deadline = t
				}
			}
			earlier(m.ackAt)
			earlier(m.beaconAt)
			earlier(m.syncAt)
			earlier(m.patient)
			earlier(m.pull.at)
			earlier(m.tendAt)
			earlier(m.adoptAt)
			earlier(m.lostAt)
			earlier(m.recount.until)
			for _, r := range m.requests {
				earlier(r.next)
			}
			earlier(m.out.Deadline())
			earlier(m.keys.Deadline())
			for a := range m.gaps {
				earlier(a.inbox.Deadline())
			}
		}
	}
}

func (c *Core) advanceRoom(now time.Time, m *membership) {
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	for a := range m.gaps {
		if due(a.inbox.Deadline()) {
			ask, ready := a.inbox.Advance(now)
			c.askRepair(now, m, a, ask)
			for _, x := range ready {
				c.deliver(now, m, x, false)
			}
			if len(ready) > 0 {
				c.touch(m, a)
			}
			c.tellGap(now, m, a)
			c.watch(m, a)
		}
	}
	if due(m.ackAt) {
		c.acknowledge(now, m)
	}
	if m.out.Advance(now) || due(m.beaconAt) {
		c.beacon(now, m)
	}
	c.keep(m, m.keys.Advance(now))
	if due(m.syncAt) {
		c.sync(now, m)
	}
	if due(m.pull.at) {
		c.askPull(now, m)
	}
	if due(m.recount.until) {
		c.goOn(now, m)
	}
	if due(m.adoptAt) {
		c.addEntries(now, m, nil, wire.DeviceID{})
	}
	if due(m.lostAt) {
		c.tellLost(now, m)
	}
	for _, r := range slices.Clone(m.requests) {
		if due(r.next) {
			c.pursue(now, m, r)
		}
	}
	if due(m.tendAt) {
		c.checkKey(now, m)
	}
	if c.rooms[m.id] != m {
		return
	}
	if due(m.patient) {
		m.patient = time.Time{}
		c.show(Notice{Code: "waiting_for_key", Text: "what you wrote in " + m.chat() + " waits for the room's key; it goes out as soon as a member hands it on"})
	}
	c.schedule(m)
}

// beacon tells the members what this device has. The next one is due when no
// other has been sent for some time.
func (c *Core) beacon(now time.Time, m *membership) {
	every := max(beaconEvery, time.Duration(len(c.thereIn(m))+1)*time.Second/beaconRate)
	m.beaconAt = now.Add(every - every/4 + c.jitter(every/2))
	if c.checkKey(now, m); c.rooms[m.id] != m { // R6: the writer rotates
		return
	}
	s := m.log.State()
	if m.keys.Current() == nil || len(s.Members) < 2 {
		return
	}
	b := wire.Beacon{LogSeq: s.Seq, Head: s.Head, Reliable: m.out.Told(), Fast: c.cfg.Boot<<32 | c.fast[m.id]}
	packet, _ := c.seal(m, wire.KindBeacon, false, wire.AppendBody(nil, &b))
	c.multicast(now, m, packet)
	for _, a := range m.authors {
		if now.Before(a.ackEnd) {
			c.owe(now, m, a) // once more: others may miss what this one has
		}
	}
}

// touch has the next Take save what changed of an author.
func (c *Core) touch(m *membership, a *author) {
	if !a.dirty {
		a.dirty = true
		c.dirty = append(c.dirty, dirty{m, a})
	}
}

// dirty is an author whose state has changed since it was saved.
type dirty struct {
	m *membership
	a *author
}

// flush saves what was touched.
func (c *Core) flush() {
	for _, d := range c.dirty {
		if c.rooms[d.m.id] == d.m && d.a.dirty {
			c.save(d.m.heard(d.a))
		}
		d.a.dirty = false
	}
	c.dirty = nil
}

// heard returns how far a device was heard.
func (m *membership) heard(a *author) SaveAuthor {
	done, missing := a.inbox.Position()
	return SaveAuthor{Room: m.id, Device: a.device, Replay: a.marks.append(nil), Received: done, Missing: missing, Since: a.since}
}

// refuseRule turns a room's refusal into an error for people.
func (c *Core) refuseRule(ref, chat string, err error) {
	var r *room.Refusal
	if !errors.As(err, &r) {
		c.refuse(ref, "failed", "%s: %v", chat, err)
		return
	}
	c.refuse(ref, r.Code, "%s: %s", chat, c.ruleText(r))
}

// ruleText says a rule's refusal in words, with who may do it instead.
func (c *Core) ruleText(r *room.Refusal) string {
	text := r.Rule
	switch {
	case errors.Is(r, room.ErrBehind) && len(r.Who) == 0:
		text += "; nobody may do that to the admin"
	case len(r.Who) > 0:
		names := make([]string, len(r.Who))
		for i, a := range r.Who {
			names[i] = c.people.nameOf(a)
		}
		text += "; ask " + strings.Join(names, " or ")
	}
	if !r.Until.IsZero() {
		text += " until " + r.Until.Format("2006-01-02 15:04")
	}
	return text
}
