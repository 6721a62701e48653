package chat

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lanchat/wire"
	"lanchat/wire/realm"
)

// people is who was ever met: devices, whose they are, and what those people
// are called now.
type people struct {
	devices  map[wire.DeviceID]*device
	accounts map[wire.AccountID]*person
	names    map[string]*person        // by user name now
	former   map[string]*person        // by user name they gave up; one that is in use again is in names, too
	hints    map[wire.AccountID]string // what rooms' logs call people who were never met
}

type person struct {
	account wire.AccountID
	name    string
	nameSeq uint64
	was     string    // the name before, "" if none is known
	renamed time.Time // when this node heard of it
	devices []*device
}

// wasFor is how long after a rename people are shown by both names.
const wasFor = 7 * 24 * time.Hour

// before returns the name before if that is to be shown, "" if not.
func (p *person) before(now time.Time) string {
	if p.was == "" || now.Sub(p.renamed) >= wasFor {
		return ""
	}
	return p.was
}

// shown returns what the person is called in lists: "anna (was ann)".
func (p *person) shown(now time.Time) string {
	if was := p.before(now); was != "" {
		return p.name + " (was " + was + ")"
	}
	return p.name
}

// gave notes that the person gave a name up.
func (p *people) gave(s SaveFormer) {
	who := p.accounts[s.Account]
	if who == nil {
		return
	}
	p.former[s.Name] = who
	if !s.At.Before(who.renamed) {
		who.was, who.renamed = s.Name, s.At
	}
}

type device struct {
	id     wire.DeviceID
	key    wire.DeviceKey
	cert   wire.Hash // SHA-256 of the certificate last seen; zero: none since the start
	person *person
	online bool
	away   bool // there, as somebody says or as is heard, and no link with it comes about; not online then
	linked bool
	told   telling

	since time.Time // when it came online last
	heard time.Time // when it was heard last; zero: not since the start
	gone  time.Time // when it said goodbye; zero: it did not, or came back

	seen    time.Time    // when a token of it was last shown
	serial  realm.Serial // of the newest token seen; zero: unknown
	revoked bool         // the newest revocation list names that token
}

// online reports whether any device of the person is online.
func (p *person) online() bool {
	return slices.ContainsFunc(p.devices, func(d *device) bool { return d.online })
}

// linked returns the person's devices there is a link to.
func (p *person) linked() (linked []*device) {
	for _, d := range p.devices {
		if d.linked {
			linked = append(linked, d)
		}
	}
	return linked
}

// restore takes over what the store knows, or a verified token says, of a
// device. It returns the device and the old name if the person was renamed.
func (p *people) restore(s SavePerson) (d *device, renamedFrom string) {
	who := p.accounts[s.Account]
	if who == nil {
		who = &person{account: s.Account}
		p.accounts[s.Account] = who
	}
	if who.name == "" || s.NameSeq > who.nameSeq {
		if who.name != "" && who.name != s.Name {
			renamedFrom = who.name
		}
		if p.names[who.name] == who {
			delete(p.names, who.name)
		}
		who.name, who.nameSeq = s.Name, s.NameSeq
		p.names[who.name] = who
	}
	d = p.devices[s.Device]
	if d == nil {
		d = &device{id: s.Device, key: s.Key, person: who}
		p.devices[s.Device] = d
		who.devices = append(who.devices, d)
	}
	d.serial, d.seen = s.Serial, s.Seen
	return d, renamedFrom
}

// nameOf returns what an account is called: its user name or, if it was never
// met, what a room's log calls it. That is only the word of who wrote it: it
// gives nobody the name of somebody who was met, and nothing is sent by it.
func (p *people) nameOf(a wire.AccountID) string {
	if who := p.accounts[a]; who != nil && who.name != "" {
		return who.name
	}
	if hint := p.hints[a]; hint != "" && p.names[hint] == nil {
		return hint
	}
	return "unknown-" + a.String()[:6]
}

// hear notes what a room's log calls an account.
func (p *people) hear(a wire.AccountID, name string) {
	if realm.CheckName(name) == nil && len(p.hints) < maxHints {
		p.hints[a] = name
	}
}

const maxHints = 1 << 14

// LinkUp says that a device is authenticated: its Hello was answered on a
// QUIC link.
func (c *Core) LinkUp(now time.Time, t *realm.Token, via []string) {
	d := c.met(now, t)
	d.cert = sha256.Sum256(t.Leaf)
	c.presence++
	d.linked, d.revoked = true, false // the token was judged by the newest list
	d.heard, d.gone = now, time.Time{}
	if !d.online {
		d.online, d.away, d.since = true, false, now
		c.showPeer(now, d, "online", "hello", via)
	}
	c.flushDirect(d)
	c.recountWith(now, d)
	c.pullFromLinked(now, d)
	c.oweAgain(now, d)
	c.askRooms(d.id, func(time.Time) {}) // and whether it has more of our rooms' logs
	c.greet(now, d)
	c.proveLater(now, d)
}

// LinkDown says that the link with a device is gone. Whether the device is
// gone too, HandlePresence tells.
func (c *Core) LinkDown(now time.Time, id wire.DeviceID) {
	d := c.people.devices[id]
	if d == nil {
		return
	}
	d.linked = false
	if with := c.direct[d.person.account]; with != nil {
		c.planMail(now, with, mailSoon)
	}
}

// HandleRestarted says that a device that is online has started anew: it was
// never gone, as far as people are concerned.
func (c *Core) HandleRestarted(now time.Time, id wire.DeviceID, via []string) {
	if d := c.people.devices[id]; d != nil && d.online {
		c.showPeer(now, d, "online", "restarted", via)
	}
}

// HandleRoster takes verified tokens of devices that authd knows to be
// connected: whose they are is known before there is a link.
func (c *Core) HandleRoster(now time.Time, tokens []*realm.Token) {
	for _, t := range tokens {
		if d := c.people.devices[t.Device]; d == nil || d.serial != t.Serial {
			c.met(now, t)
		}
	}
}

// HandleAway says that a device is there, as authd or a peer says or as is
// heard by multicast, and that no link with it comes about.
func (c *Core) HandleAway(now time.Time, id wire.DeviceID, via []string) {
	d := c.people.devices[id]
	if d == nil || d.away || d.linked || d.revoked {
		return
	}
	d.online, d.away = false, true
	c.showPeer(now, d, "away", "unreachable", via)
}

// HandlePresence says that a device is no longer there: state is "left" or
// "lost".
func (c *Core) HandlePresence(now time.Time, id wire.DeviceID, state, cause string, via []string) {
	d := c.people.devices[id]
	if d == nil || !d.online && !d.away {
		return
	}
	d.online, d.away = false, false
	if state == "lost" {
		d.heard = later(d.heard, now.Add(-lostAfter))
	} else {
		d.gone = now
	}
	c.presence++
	c.showPeer(now, d, state, cause, via)
}

// A device that falls silent again and again is spoken of calmTurns times within
// calmSpan; after that only of how it is, once that has held for calmSettle. A
// goodbye is no silence: it is told at once, however often.
const (
	calmTurns  = 3
	calmSpan   = time.Minute
	calmSettle = 10 * time.Second
)

// telling is what was said of a device's coming and going.
type telling struct {
	turns []time.Time // when it fell silent, the last calmTurns
	last  Peer        // what is true
	shown Peer        // what was said
	wait  uint64      // counts the changes: only the last is waited for
}

// showPeer says that a device came or went, calmly.
func (c *Core) showPeer(now time.Time, d *device, state, cause string, via []string) {
	t := &d.told
	t.last = c.peer(now, d, state, cause, via)
	if state == "left" {
		t.turns = nil
	}
	restless := len(t.turns) == calmTurns && now.Sub(t.turns[0]) < calmSpan
	if state == "lost" || state == "away" {
		if t.turns = append(t.turns, now); len(t.turns) > calmTurns {
			t.turns = t.turns[1:]
		}
	}
	t.wait++
	if !restless {
		t.shown = t.last
		c.show(t.last)
		return
	}
	this := t.wait
	c.after(now, calmSettle, func(time.Time) {
		if t.wait == this && t.last.State != t.shown.State {
			t.shown = t.last
			c.show(t.last)
		}
	})
}

func (c *Core) peer(now time.Time, d *device, state, cause string, via []string) Peer {
	return Peer{User: d.person.name, Was: d.person.before(now), Device: d.id.String(), State: state, Cause: cause, Via: via}
}

// HandlePeerToken takes the new token of a device there is a link to: it was
// verified like the one in the handshake, and is for the same key and account.
func (c *Core) HandlePeerToken(now time.Time, t *realm.Token) {
	c.met(now, t).cert = sha256.Sum256(t.Leaf)
}

// greet does what waits for a device that there is a link to now.
func (c *Core) greet(now time.Time, d *device) {
	for k, inv := range c.invites {
		if k.account == d.person.account && k.account != c.self.account {
			c.hand(d, inv)
		}
	}
	for _, p := range c.partings {
		if slices.Contains(p.members, d.person.account) {
			c.sayFarewell(now, p, 0)
		}
	}
	for _, m := range c.sortedRooms() {
		if m.log.State().Member(d.person.account) == nil {
			continue
		}
		m.keys.Restore(d.id)
		if d.person.account == c.self.account {
			c.letDevicesIn(now, m)
		}
		if m.keys.Current() == nil {
			c.sync(now, m)
		}
		c.tend(now, m)
		c.schedule(m)
	}
}

// HandleRevoked takes a new revocation list: revoked says whose tokens it
// names. A list can also take somebody back in.
func (c *Core) HandleRevoked(now time.Time, revoked func(*realm.Token) bool) {
	for _, d := range c.people.devices {
		was := d.revoked
		d.revoked = !d.serial.IsZero() && revoked(&realm.Token{Serial: d.serial, Account: d.person.account, Key: d.key})
		if d.revoked && !was {
			c.HandlePresence(now, d.id, "left", "revoked", []string{})
		}
	}
	for _, m := range c.sortedRooms() {
		c.shutOut(now, m)
		c.checkKey(now, m)
		if c.rooms[m.id] == m {
			c.schedule(m)
		}
	}
}

// shutOut has a room's keys do without devices whose tokens are revoked. Who
// may remove a person that has no other device is told of that once.
func (c *Core) shutOut(now time.Time, m *membership) {
	s := m.log.State()
	told := c.shutTold(m)
	for _, p := range s.Members {
		out := 0
		for _, d := range p.Devices {
			known := c.people.devices[d.ID]
			switch {
			case known == nil:
			case known.revoked:
				m.keys.Revoke(d.ID)
				out++
			default:
				m.keys.Restore(d.ID)
			}
		}
		if out < len(p.Devices) {
			continue
		}
		key := shutKey(m, p.Account)
		if told = slices.DeleteFunc(told, func(k string) bool { return k == key }); c.personal[key] == "" && c.mayRemove(now, m, p.Account) {
			c.setPersonal(key, "told")
			name := c.people.nameOf(p.Account)
			c.show(Notice{Code: "shut_out", Text: fmt.Sprintf("authd has shut out %s, who gets no keys of %s any more and stays a member: /kick %[1]s removes %[1]s", name, m.chat()),
				Data: map[string]string{"chat": m.chat(), "user": name}})
		}
	}
	for _, key := range told { // of who is gone, or has a device again
		c.setPersonal(key, "")
	}
}

// shutKey is under what it is kept that the person here was told of a member
// who is shut out.
func shutKey(m *membership, a wire.AccountID) string { return shutPrefix(m) + a.String() }

func shutPrefix(m *membership) string { return "shut/" + m.id.String() + "/" }

func (c *Core) shutTold(m *membership) (told []string) {
	for key := range c.personal {
		if strings.HasPrefix(key, shutPrefix(m)) {
			told = append(told, key)
		}
	}
	slices.Sort(told)
	return told
}

// mayRemove reports whether this device is the one to remove somebody now.
func (c *Core) mayRemove(now time.Time, m *membership, a wire.AccountID) bool {
	s := m.log.State()
	who, from := c.acting(now, m)
	return who == c.self.account && !from.After(now) && s.Seat(a) > s.Seat(who)
}

// met notes whose device a verified token says it is.
func (c *Core) met(now time.Time, t *realm.Token) *device {
	s := SavePerson{Device: t.Device, Key: t.Key, Account: t.Account, Name: t.Name, NameSeq: t.NameSeq, Seen: now, Serial: t.Serial}
	changed := false
	if t.Account == c.self.account && t.Device != c.self.device && c.people.devices[t.Device] == nil {
		c.show(Notice{Code: "own_device_new", Text: fmt.Sprintf("another device of yours, which this one has not met before, is here: %s. It gets what you write to people from now on; if it is not yours, /sessions revoke %[1]s shuts it out", t.Device),
			Data: map[string]string{"device": t.Device.String()}})
	}
	if p := c.people.accounts[t.Account]; p != nil {
		_, changed = c.verified(p)
	}
	d, was := c.people.restore(s)
	c.warnOfKey(d.person, changed)
	if was != "" {
		former := SaveFormer{Name: was, Account: t.Account, At: now}
		c.people.gave(former)
		c.save(former)
		if c.current == "@"+was {
			c.current = "@" + d.person.name
		}
		if t.Account == c.self.account {
			c.self.name = d.person.name
		}
		c.show(Renamed{Old: was, New: d.person.name})
	}
	s.Name, s.NameSeq = d.person.name, d.person.nameSeq
	c.save(s)
	return d
}

// others returns everybody but oneself, by name.
func (c *Core) others() []*person {
	all := slices.Collect(maps.Values(c.people.accounts))
	all = slices.DeleteFunc(all, func(p *person) bool { return p.account == c.self.account })
	slices.SortFunc(all, func(a, b *person) int { return cmp.Compare(a.name, b.name) })
	return all
}

// findPerson returns the person a command names, with or without "@".
func (c *Core) findPerson(name string) *person {
	return c.people.names[strings.ToLower(strings.TrimPrefix(name, "@"))]
}
