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
	beaconEvery = 5 * time.Second
	beaconRate  = 20               // beacons a room takes per second, of all members
	keyRetry    = time.Second      // between questions for a missing secret, and the first for a missing entry
	syncMost    = 5 * time.Minute  // between those for an entry, in the end
	keyPatience = 30 * time.Second // before the person is told that a message waits for the key
	maxWaiting  = 4096             // messages that wait in a room, for its key or for their turn
	maxTracked  = 16384            // own messages whose receipts are followed, per room
	maxMirror   = 30 * time.Second // that a device is served over its link without asking again
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
	tendAt   time.Time               // when to look again at what a writer would do; zero: nothing is
	due      time.Time               // since when something is
	wantedAt time.Time               // since when others want something done here
	knocked  map[wire.DeviceID]bool  // new devices of members that want in
	told     map[wire.AccountID]bool // suspended people that the person was asked about

	// CLAIMs that are not believed yet, with what is built on them.
	delayed   []*wire.Entry
	delayedAt time.Time // when the first one came
	adoptAt   time.Time // when they are looked at again
	overruled delivery.Bucket

	// What others did in vain on the other side of a split, to be told of.
	lost     []*wire.Entry
	lostAt   time.Time
	lostTold delivery.Bucket

	// How often something may happen that others can bring about all day.
	alarms  map[wire.DeviceKey]*delivery.Bucket // of devices that sign twice
	vain    map[wire.DeviceID]*delivery.Bucket  // what devices may hand on that comes to nothing
	wishes  map[wire.AccountID]*delivery.Bucket // see Core.wishes
	wonders delivery.Bucket                     // see Core.wonder
	asks    delivery.Bucket                     // what the person is asked about suspended people

	name     string // what it is called here; see nameRooms
	was      string // and before, until that was told
	decided  bool   // between two signed histories
	replaced bool   // by a room of the same name

	ackAt     time.Time // when to acknowledge next; zero: nothing new
	beaconAt  time.Time
	active    bool                   // in Core.active
	asking    map[wire.DeviceID]bool // whom a question about the log is under way to
	askNext   wire.DeviceID          // who is to be asked then; zero: nobody
	syncAt    time.Time              // when to ask again for what is missing; zero: nothing is
	syncPause time.Duration          // before the last question for what nobody may have or give
	deadline  time.Time              // the earliest of all
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

// newMembership returns a room one has just entered or restored.
func (c *Core) newMembership(now time.Time, log *room.Log, keys *room.Keyring) *membership {
	m := &membership{id: log.State().Room, log: log, keys: keys,
		authors: map[wire.DeviceID]*author{}, gaps: map[*author]bool{}, fetching: map[MessageID]*fetch{}, asking: map[wire.DeviceID]bool{},
		knocked: map[wire.DeviceID]bool{}, told: map[wire.AccountID]bool{},
		wishes: map[wire.AccountID]*delivery.Bucket{}, alarms: map[wire.DeviceKey]*delivery.Bucket{}, vain: map[wire.DeviceID]*delivery.Bucket{},
		fastOut:   delivery.Bucket{Rate: fastRate, Burst: fastBurst},
		wonders:   delivery.Bucket{Rate: wonderRate, Burst: wonderBurst},
		asks:      delivery.Bucket{Rate: askRate, Burst: askBurst},
		overruled: delivery.Bucket{Rate: overruleRate, Burst: overruleBurst},
		lostTold:  delivery.Bucket{Rate: sideRate, Burst: sideBurst},
		pull:      pull{claims: map[wire.DeviceID]claim{}, vain: map[wire.DeviceID]doubts{}}}
	for _, p := range log.State().Members {
		c.people.hear(p.Account, p.Name)
	}
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
		c.partings[p.Room] = &parting{room: p.Room, members: p.Members, entries: p.Entries}
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
			c.askRepair(m, a, ask)
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
	packet := c.seal(m, wire.KindBeacon, wire.AppendBody(nil, &b))
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
	case len(r.Who) == 0 && (errors.Is(r, room.ErrBehind) || errors.Is(r, room.ErrNotAdmin)):
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
