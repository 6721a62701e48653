package chat

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lanchat/node/delivery"
	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/clean"
)

const (
	ackDelay    = 50 * time.Millisecond // before reliable messages are acknowledged, plus …
	ackJitter   = 150 * time.Millisecond
	ackPerSec   = 20 // acknowledgement packets a room takes per second, of all members
	beaconEvery = 5 * time.Second
	beaconRate  = 20               // beacons a room takes per second, of all members
	keyRetry    = time.Second      // between questions for a missing secret or entry
	keyPatience = 30 * time.Second // before the person is told that a message waits for the key
	ackAgain    = time.Minute      // an author that goes on asking is told again
	maxWaiting  = 1000             // messages that wait for the room's key
	keepTracked = 256              // of them, those that everybody has
	maxTracked  = 16384            // own messages whose receipts are followed, per room
	maxMirror   = 30 * time.Second // that a device is served over its link without asking again
	maxRecall   = 256              // messages looked up for one repair request
	recallEvery = time.Second      // between look-ups for the same device
	reordering  = 2 * time.Second  // a packet may come behind its sender's goodbye
	maxResend   = 64               // packets sent for one repair request
)

// A membership is a room as one of its members sees it.
type membership struct {
	id      wire.RoomID
	log     *room.Log
	keys    *room.Keyring
	out     *delivery.Outgoing
	authors map[wire.DeviceID]*author
	waiting []saying // until the room's key is there
	patient time.Time
	tracked []tracked
	pull    pull

	requests []*request
	tendAt   time.Time              // when to look again at what a writer would do; zero: nothing is
	due      time.Time              // since when something is
	wantedAt time.Time              // since when others want something done here
	knocked  map[wire.DeviceID]bool // new devices of members that want in
	told     map[wire.Hash]bool     // removals that the person was asked about

	// CLAIMs that are not believed yet, with what is built on them.
	delayed   []*wire.Entry
	delayedAt time.Time // when the first one came
	adoptAt   time.Time // when they are looked at again

	name     string // what it is called here; see nameRooms
	was      string // and before, until that was told
	decided  bool   // between two signed histories
	replaced bool   // by a room of the same name

	ackAt    time.Time // when to acknowledge next; zero: nothing new
	beaconAt time.Time
	asking   bool      // a question about the log is under way
	syncAt   time.Time // when to ask again for what is missing; zero: nothing is
	deadline time.Time // the earliest of all
}

// An author is a device as its messages in one room are received.
type author struct {
	device wire.DeviceID
	inbox  *delivery.Inbox[arrival]
	replay room.Replay
	fast   uint64    // highest fast number heard
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
}

// tracked is a reliable message of one's own and who has it.
type tracked struct {
	number uint64
	id     MessageID
	text   string
	of     int // people
	got    map[wire.AccountID]bool
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

func (m *membership) author(d wire.DeviceID) *author {
	a := m.authors[d]
	if a == nil {
		a = &author{device: d, inbox: delivery.NewInbox[arrival](0)}
		m.authors[d] = a
	}
	return a
}

// newMembership returns a room one has just entered or restored.
func (c *Core) newMembership(now time.Time, log *room.Log, keys *room.Keyring) *membership {
	m := &membership{id: log.State().Room, log: log, keys: keys, authors: map[wire.DeviceID]*author{}, knocked: map[wire.DeviceID]bool{}, told: map[wire.Hash]bool{}}
	m.out = delivery.NewOutgoing(c.numbers[m.id])
	m.beaconAt = now.Add(c.jitter(beaconEvery))
	c.rooms[m.id] = m
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
		if m := c.rooms[a.Room]; m != nil {
			au := &author{device: a.Device, inbox: delivery.NewInbox[arrival](a.Received, a.Missing...), since: a.Since}
			au.inbox.Want(now)
			au.acked = au.inbox.Received()
			var err error
			if au.replay, err = room.ParseReplay(a.Replay); err != nil {
				return err
			}
			m.authors[a.Device] = au
		}
	}
	for _, m := range c.sortedRooms() {
		c.show(c.roomEvent(m, "restored", wire.AccountID{}, wire.AccountID{}, ""))
		if m.log.Held() {
			for _, q := range m.log.Equivocations() {
				c.alarm(m, q)
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

// ---- sending

// say sends text to a room.
func (c *Core) say(now time.Time, m *membership, s saying) {
	if len(s.text) > wire.MaxPacketText {
		c.refuse(s.ref, "too_long", "the message has %d bytes, at most %d fit in a room: send it in parts", len(s.text), wire.MaxPacketText)
		return
	}
	if err := m.log.State().MaySpeak(now, c.self.account); err != nil {
		c.refuseRule(s.ref, m.chat(), err)
		return
	}
	if m.log.Held() {
		c.refuse(s.ref, "room_held", "%s stands still since somebody signed two histories of it: /decide 1 or /decide 2 says which one counts", m.chat())
		return
	}
	if m.keys.Current() == nil {
		if len(m.waiting) >= maxWaiting {
			c.refuse(s.ref, "waiting_for_key", "%d messages wait for the key of %s already: try again when they are out", len(m.waiting), m.chat())
			return
		}
		if len(m.waiting) == 0 {
			m.patient = now.Add(keyPatience)
		}
		m.waiting = append(m.waiting, s)
		c.schedule(m)
		return
	}
	c.clock = c.clock.Next(now)
	var n uint64
	if s.mode == Reliable {
		n = m.out.Next()
		c.save(SaveNumber{Room: m.id, Number: n})
		c.numbers[m.id] = n
	} else {
		c.fast[m.id]++
		n = c.cfg.Boot<<32 | c.fast[m.id]
	}
	msg := s.message(n)
	packet, raw := c.seal(m, wire.KindMessage, s.mode == Reliable, wire.AppendBody(nil, &msg))
	id := messageID(m.id[:], c.self.device, s.mode, n)
	own := c.ownMessage(now, ChatID{Room: m.id}, id, s, n)
	own.Raw, own.Epoch = raw, m.keys.Current().Entry()
	c.save(own)
	c.multicast(now, m, packet)
	c.show(Sent{ID: id.String(), Chat: m.chat(), Mode: s.mode.String(), Ref: s.ref, Online: c.onlineIn(m), Text: s.text, Action: s.action})
	if s.mode == Reliable {
		c.track(now, m, n, id, s.text, packet)
	}
	c.schedule(m)
}

// message returns the saying as message n.
func (s *saying) message(n uint64) wire.Message {
	m := wire.Message{Number: n, Ref: s.replyTo, Text: s.text}
	if s.action {
		m.Verb = wire.Action
	}
	return m
}

// seal makes a packet of the room's current epoch.
func (c *Core) seal(m *membership, kind wire.Kind, reliable bool, body []byte) (packet, signed []byte) {
	return c.sealIn(m, m.keys.Current(), kind, reliable, body)
}

func (c *Core) sealIn(m *membership, epoch *room.Epoch, kind wire.Kind, reliable bool, body []byte) (packet, signed []byte) {
	slot, ok := epoch.Info().Slot(c.self.key)
	if !ok {
		panic("chat: sealing in an epoch this device has no slot in") // keys.Current returns none of those
	}
	c.packets[m.id]++
	m.keys.Packet()
	var nonce [wire.NonceSize]byte
	c.random(nonce[:])
	return epoch.Seal(c.cfg.Key, &wire.Plain{Slot: slot, Seq: c.cfg.Boot<<32 | c.packets[m.id], Clock: c.clock, Kind: kind, Reliable: reliable, Body: body}, nonce)
}

// multicast sends a packet to the room: to all at once, and over their links
// to members who said that they do not hear that.
func (c *Core) multicast(now time.Time, m *membership, packet []byte) {
	c.send(Multicast{Packet: packet})
	for d, until := range c.mirrors {
		if !now.Before(until) {
			delete(c.mirrors, d)
		} else if _, member := m.log.State().Owner(d.key); member && d.linked {
			c.send(Push{To: d.id, Type: wire.FramePacket, Body: packet})
		}
	}
}

// handleMirror notes that a device does not hear this one's multicast.
func (c *Core) handleMirror(now time.Time, dev *device, body []byte) error {
	m, err := wire.ParseMirror(body)
	if err != nil {
		return err
	}
	c.mirrors[dev] = now.Add(min(time.Duration(m.Seconds)*time.Second, maxMirror))
	return nil
}

// onlineIn returns how many members other than oneself are online.
func (c *Core) onlineIn(m *membership) (n int) {
	for _, p := range m.log.State().Members {
		if who := c.people.accounts[p.Account]; who != nil && p.Account != c.self.account && who.online() {
			n++
		}
	}
	return n
}

// track follows who acknowledges a reliable message.
func (c *Core) track(now time.Time, m *membership, n uint64, id MessageID, text string, packet []byte) {
	var online []wire.DeviceID
	s := m.log.State()
	for _, p := range s.Members {
		for _, d := range p.Devices {
			if known := c.people.devices[d.ID]; known != nil && known.online {
				online = append(online, d.ID)
			}
		}
	}
	m.out.Sent(now, n, packet, online)
	m.tracked = append(m.tracked, tracked{number: n, id: id, text: clean.Line(text, 60), of: len(s.Members) - 1, got: map[wire.AccountID]bool{}})
	if len(m.tracked) > maxTracked {
		m.tracked = slices.Clone(m.tracked[len(m.tracked)-maxTracked:])
	}
}

// ---- receiving

// HandlePacket takes a room packet that came by multicast, mirror or repair.
// The bytes are the core's from now on.
func (c *Core) HandlePacket(now time.Time, packet []byte) {
	h, err := wire.ParsePacketHeader(packet)
	if err != nil {
		c.stats.Malformed++
		return
	}
	if c.tryPacket(now, h.KeyID, packet) {
		return
	}
	c.stats.UnknownKey++
	c.limbo.hold(now, h.KeyID, packet)
	if c.limbo.strange(h.KeyID) {
		for _, m := range c.rooms {
			c.sync(now, m)
		}
	}
}

// tryPacket opens a packet if its epoch is known, and reports whether it is.
func (c *Core) tryPacket(now time.Time, id wire.KeyID, packet []byte) bool {
	for _, m := range c.rooms {
		if epoch := m.keys.Lookup(now, id); epoch != nil {
			c.openPacket(now, m, epoch, packet)
			return true
		}
	}
	return false
}

func (c *Core) openPacket(now time.Time, m *membership, epoch *room.Epoch, packet []byte) {
	o, err := epoch.Open(packet)
	if err != nil {
		c.stats.Malformed++
		return
	}
	if o.From.Device == c.self.device {
		return // our own, looped back
	}
	if m.keys.Readable(now, o.Epoch.Entry, o.From) != nil {
		c.stats.Forbidden++
		return
	}
	a := m.author(o.From.Device)
	// Reliable messages have numbers of their own to be told by. Their packets
	// are sent again for repair, perhaps much later than the window is long.
	if a.replay.Seen(o.Seq) && !o.Reliable {
		c.stats.Replayed++
		return
	}
	if err := o.Verify(); err != nil {
		c.stats.Malformed++
		return
	}
	fresh := a.replay.Mark(o.Seq)
	c.touch(m, a)
	m.keys.Packet()
	if d := c.people.devices[o.From.Device]; d != nil && fresh && (d.gone.IsZero() || now.Sub(d.gone) > reordering) {
		d.heard, d.gone = now, time.Time{}
	}
	body, err := o.Parse()
	if err != nil {
		c.stats.Malformed++
		return
	}
	c.clock = c.clock.Merge(now, o.Clock)
	switch body := body.(type) {
	case *wire.Message:
		c.handleMessage(now, m, a, o, *body, false)
	case *wire.Pack:
		for _, msg := range body.Messages {
			c.handleMessage(now, m, a, o, msg, false)
		}
	case *wire.LogEntry:
		c.addEntries(now, m, [][]byte{body.Entry}, o.From.Device)
	case *wire.Beacon:
		c.handleBeacon(now, m, a, o, body)
	case *wire.Leave:
		c.handleLeave(now, m, o.From.Account)
	case *wire.Acks:
		c.handleAcks(m, o, body)
	case *wire.RepairRequest:
		c.handleRepair(now, m, o, body)
	}
	c.schedule(m)
}

// handleMessage takes a verified message and reports whether it is new.
func (c *Core) handleMessage(now time.Time, m *membership, a *author, o *room.Opened, msg wire.Message, replay bool) (fresh bool) {
	if _, silenced := m.log.State().Silenced(now, o.From.Account); silenced {
		c.stats.Forbidden++ // the number still counts, so no gap stays open
		msg.Verb = silent
	}
	x := arrival{from: o.From, clock: o.Clock, mode: Reliable, message: msg, raw: o.Signed, epoch: o.Epoch.Entry, replay: replay}
	if !o.Reliable {
		x.mode = Fast
		late := msg.Number <= a.fast
		a.fast = max(a.fast, msg.Number)
		c.deliver(now, m, x, late)
		return true
	}
	ready, fresh, late := a.inbox.Handle(now, msg.Number, x)
	if !fresh {
		c.stats.Duplicates++
	}
	for _, r := range ready {
		c.deliver(now, m, r, late)
	}
	c.tellGap(now, m, a)
	c.owe(now, m, a)
	return fresh
}

// silent marks a message that is counted and not shown.
const silent = wire.Verb(0xff)

// deliver stores and shows a message whose turn it is.
func (c *Core) deliver(now time.Time, m *membership, x arrival, late bool) {
	if x.message.Verb != wire.Say && x.message.Verb != wire.Action {
		return // silenced; edits and deletions are a later version's
	}
	text := clean.Text(x.message.Text, wire.MaxPacketText)
	from := c.people.nameOf(x.from.Account)
	id := messageID(m.id[:], x.from.Device, x.mode, x.message.Number)
	action := x.message.Verb == wire.Action
	chat := ChatID{Room: m.id}
	c.save(SaveMessage{ID: id, Chat: chat, Account: x.from.Account, Device: x.from.Device, From: from, Mode: x.mode,
		Number: x.message.Number, Clock: x.clock, At: now, Text: text, Action: action, ReplyTo: x.message.Ref, Raw: x.raw, Epoch: x.epoch})
	if c.ignored(now, x.from.Account) {
		return
	}
	c.show(Message{ID: id.String(), Chat: m.chat(), From: from, Text: text, Mode: x.mode.String(), ReplyTo: MessageID(x.message.Ref).String(),
		Action: action, Late: late, Replay: x.replay})
	if x.replay {
		return // what was said while one was away does not ring
	}
	why := "message"
	if Mentions(text, c.self.name) {
		why = "mention"
	}
	c.ring(now, chat, m.chat(), id, why)
}

// Mentions reports whether text names a user as a word of its own.
func Mentions(text, name string) bool {
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

// tellGap shows that messages are missing, or no longer.
func (c *Core) tellGap(now time.Time, m *membership, a *author) {
	if missing, changed := a.inbox.Told(now); changed {
		from := c.people.devices[a.device]
		name := "unknown-" + a.device.String()[:6]
		if from != nil {
			name = from.person.name
		}
		c.show(Gap{Chat: m.chat(), From: name, Missing: missing, Healed: missing == 0})
		if missing > 0 {
			c.pullMissing(now, m)
		}
	}
}

func (c *Core) handleBeacon(now time.Time, m *membership, a *author, o *room.Opened, b *wire.Beacon) {
	a.inbox.Exists(now, b.Reliable)
	c.owe(now, m, a)
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
		spread := max(ackJitter, time.Duration(len(m.log.State().Members))*time.Second/ackPerSec)
		m.ackAt = now.Add(ackDelay + c.jitter(spread))
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
		if a == nil || !a.owes || len(acks.Acks) == wire.MaxAcks {
			continue
		}
		a.owes, a.acked = false, a.inbox.Received()
		acks.Acks = append(acks.Acks, wire.Ack{Slot: uint16(slot), Number: a.acked})
	}
	if len(acks.Acks) > 0 {
		packet, _ := c.seal(m, wire.KindAcks, false, wire.AppendBody(nil, &acks))
		c.multicast(now, m, packet)
	}
}

func (c *Core) handleAcks(m *membership, o *room.Opened, acks *wire.Acks) {
	from := o.From
	slot, ok := o.Epoch.Slot(c.self.key)
	if !ok {
		return
	}
	for _, a := range acks.Acks {
		if a.Slot != slot {
			continue
		}
		news := m.out.HandleAck(from.Device, a.Number)
		for i := range m.tracked {
			t := &m.tracked[i]
			if t.number < news.First || t.number > news.Last || t.got[from.Account] || from.Account == c.self.account {
				continue
			}
			t.got[from.Account] = true
			c.show(Receipt{ID: t.id.String(), Chat: m.chat(), By: c.people.nameOf(from.Account), Got: len(t.got), Of: t.of})
		}
	}
	for len(m.tracked) > keepTracked && len(m.tracked[0].got) >= m.tracked[0].of {
		m.tracked = m.tracked[1:]
	}
}

// askRepair asks a device for messages of its own that did not come.
func (c *Core) askRepair(now time.Time, m *membership, a *author, ranges []wire.Range) {
	epoch := m.keys.Current()
	if epoch == nil || len(ranges) == 0 {
		return
	}
	slot := slices.IndexFunc(epoch.Info().Slots, func(s room.Slot) bool { return s.Device == a.device })
	if slot < 0 {
		return
	}
	packet, _ := c.seal(m, wire.KindRepairRequest, false, wire.AppendBody(nil, &wire.RepairRequest{Slot: uint16(slot), Ranges: ranges}))
	c.multicast(now, m, packet)
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
	a := m.author(device)
	for _, x := range a.inbox.Skip(now, n) {
		c.deliver(now, m, x, false)
	}
	c.touch(m, a)
	c.tellGap(now, m, a)
	c.schedule(m)
}

// earlyBase is a Base that came before its room was entered.
type earlyBase struct {
	room   wire.RoomID
	device wire.DeviceID
}

const maxEarly = 4096

func (c *Core) handleRepair(now time.Time, m *membership, o *room.Opened, r *wire.RepairRequest) {
	if slot, ok := o.Epoch.Slot(c.self.key); !ok || slot != r.Slot {
		return
	}
	a := m.author(o.From.Device)
	if r.Ranges[0].First <= a.since {
		c.sendBase(m, a)
	}
	if old := m.out.Forgotten(r.Ranges, a.since); len(old) > 0 && !now.Before(a.recallAt) {
		a.recallAt = now.Add(recallEvery)
		c.send(Recall{Room: m.id, Device: c.self.device, Ranges: old, Limit: maxRecall, to: a.device})
	}
	packets := m.out.Repair(r.Ranges)
	for _, p := range packets[:min(len(packets), maxResend)] {
		c.multicast(now, m, p)
	}
}

// ---- time

// schedule works out when the room needs attention next.
func (c *Core) schedule(m *membership) {
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
	for _, r := range m.requests {
		earlier(r.next)
	}
	earlier(m.out.Deadline())
	earlier(m.keys.Deadline())
	for _, a := range m.authors {
		earlier(a.inbox.Deadline())
	}
}

func (c *Core) advanceRoom(now time.Time, m *membership) {
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	for _, a := range m.authors {
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
	if due(m.adoptAt) {
		c.addEntries(now, m, nil, wire.DeviceID{})
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

// beacon tells the members what this device has, and when to do so again.
func (c *Core) beacon(now time.Time, m *membership) {
	s := m.log.State()
	every := max(beaconEvery, time.Duration(len(s.Members))*time.Second/beaconRate)
	m.beaconAt = now.Add(every - every/4 + c.jitter(every/2))
	if c.checkKey(now, m); c.rooms[m.id] != m { // R6: the writer rotates
		return
	}
	s = m.log.State()
	if m.keys.Current() == nil || len(s.Members) < 2 {
		return
	}
	b := wire.Beacon{LogSeq: s.Seq, Head: s.Head, Reliable: m.out.Last(), Fast: c.cfg.Boot<<32 | c.fast[m.id]}
	packet, _ := c.seal(m, wire.KindBeacon, false, wire.AppendBody(nil, &b))
	c.multicast(now, m, packet)
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
		d.a.dirty = false
		if c.rooms[d.m.id] == d.m {
			done, missing := d.a.inbox.Position()
			c.save(SaveAuthor{Room: d.m.id, Device: d.a.device, Replay: d.a.replay.Append(nil), Received: done, Missing: missing, Since: d.a.since})
		}
	}
	c.dirty = nil
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
	if len(r.Who) > 0 {
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
