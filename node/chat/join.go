package chat

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/clean"
)

// The way into a room: which rooms others know, asking to be let in, one's
// second device.

const (
	// A node that has just started asks again for a room that nobody knows:
	// its links to the others may not be up yet.
	lookAgain   = 250 * time.Millisecond
	lookPatient = 3 * time.Second

	knockAgain  = 500 * time.Millisecond // between rounds of asking to be let in
	joinLife    = 75 * time.Second       // longer than a silent admin is waited for
	joinInFront = 2 * time.Second        // then other commands go on
)

// ---- rooms of others

// An offer is a room that others have told of.
type offer struct {
	info wire.RoomInfo
	from []wire.DeviceID // who told
}

const maxOffers = 4096

// askRooms asks a device which rooms it knows; then is called in any case.
func (c *Core) askRooms(from wire.DeviceID, then func(now time.Time)) {
	c.ask(from, wire.FrameRooms, nil, func(now time.Time, frames []Frame, err error) {
		for id, o := range c.offers { // what it does not tell of any more is gone
			o.from = slices.DeleteFunc(o.from, func(d wire.DeviceID) bool { return d == from })
			c.offers[id] = o
			if len(o.from) == 0 {
				delete(c.offers, id)
			}
		}
		told := map[wire.RoomID]bool{}
		for _, f := range frames {
			if f.Type != wire.FrameRoomInfo {
				continue
			}
			info, perr := wire.ParseRoomInfo(f.Body)
			if perr != nil {
				c.stats.Malformed++
				continue
			}
			told[info.Room] = true
			c.offered(now, *info, from)
		}
		if dev := c.people.devices[from]; err == nil && dev != nil {
			// A room of ours that it should know and does not tell of: we may
			// have been removed from it.
			for _, m := range c.sortedRooms() {
				if m.log.State().Member(dev.person.account) != nil && !told[m.id] {
					c.askLog(now, m, from)
				}
			}
		}
		then(now)
	})
}

// offered takes what a device told of a room.
func (c *Core) offered(now time.Time, info wire.RoomInfo, from wire.DeviceID) {
	if m := c.rooms[info.Room]; m != nil {
		if !m.log.Has(info.Head) {
			c.askLog(now, m, from)
		}
		return
	}
	name, err := clean.RoomName(info.Name)
	if err != nil || len(c.offers) >= maxOffers {
		return
	}
	info.Name, info.Topic = name, clean.Line(info.Topic, wire.MaxTopic)
	o := c.offers[info.Room]
	o.info = info
	if !slices.Contains(o.from, from) {
		o.from = append(o.from, from)
	}
	c.offers[info.Room] = o
	// The person is a member, this device is not: it is a second one, or was
	// thrown out on a side that lost. Who knows no more than it did has only not
	// heard of the removal.
	if gone := c.gone[info.Room]; info.Member && (gone == nil || !gone.Has(info.Head)) && c.partings[info.Room] == nil {
		c.startJoin(now, &joining{room: info.Room, name: name, quiet: true, member: true})
	}
}

// handleRoomInfo takes the word of a member that this device is in a room.
func (c *Core) handleRoomInfo(now time.Time, dev *device, body []byte) error {
	info, err := wire.ParseRoomInfo(body)
	if err != nil {
		return err
	}
	if info.Member {
		c.offered(now, *info, dev.id)
	}
	return nil
}

// look asks everybody which rooms there are, then calls then; again for a
// while as long as found says no and the node has only just started.
func (c *Core) look(now time.Time, found func() bool, then func(now time.Time)) {
	var linked []wire.DeviceID
	for id, d := range c.people.devices {
		if d.linked {
			linked = append(linked, id)
		}
	}
	finish := func(now time.Time) {
		if !found() && now.Sub(c.started) < lookPatient {
			c.after(now, lookAgain, func(now time.Time) { c.look(now, found, then) })
			return
		}
		then(now)
	}
	open := len(linked)
	if open == 0 {
		finish(now)
		return
	}
	for _, id := range linked {
		c.askRooms(id, func(now time.Time) {
			if open--; open == 0 {
				finish(now)
			}
		})
	}
}

// offerOf returns the room of that name one could join: of several, the one
// with the most members.
func (c *Core) offerOf(chat string) *offer {
	name, tag, err := splitName(chat)
	if err != nil {
		return nil
	}
	var best *offer
	for _, o := range c.offers {
		if o.info.Name != name || !strings.HasPrefix(o.info.Room.String(), tag) {
			continue
		}
		if best == nil || o.info.Members > best.info.Members ||
			o.info.Members == best.info.Members && bytes.Compare(o.info.Room[:], best.info.Room[:]) < 0 {
			best = &o
		}
	}
	return best
}

// offerName returns what an offered room is called: with letters of its id
// where another one that is known here has the same name.
func (c *Core) offerName(o *offer) string {
	for _, m := range c.rooms {
		if m.plainName() == o.info.Name {
			return tagged(o.info.Name, o.info.Room)
		}
	}
	for id, other := range c.offers {
		if other.info.Name == o.info.Name && id != o.info.Room {
			return tagged(o.info.Name, o.info.Room)
		}
	}
	return o.info.Name
}

// roomName returns the room name a command was given, or refuses it.
func (c *Core) roomName(k *call) (string, bool) {
	name, tag, err := splitName(k.args[0])
	if err != nil || !strings.HasPrefix(k.args[0], "#") {
		c.refuse(k.ref, "bad_argument", "%q is no room name: %v", k.args[0], clean.ErrRoomName)
		return "", false
	}
	if tag != "" {
		name += "~" + tag
	}
	return name, true
}

// ---- asking to be let in

// A joining is an attempt to get into a room.
type joining struct {
	room    wire.RoomID
	name    string
	ref     string
	quiet   bool            // nobody typed it: a refusal is not shown
	member  bool            // the device was told that it is in the room: nobody is to admit it
	end     func(time.Time) // lets the next command in; nil when it was called
	until   time.Time
	refused map[wire.DeviceID]bool // asked in this round
	why     error                  // the last refusal
	told    bool
	asking  bool
}

func (c *Core) doJoin(k *call) {
	name, ok := c.roomName(k)
	if !ok {
		return
	}
	if m := c.findRoom(name); m != nil {
		e := c.roomEvent(m, "joined", c.self.account, c.self.account, k.ref)
		e.Again = true
		c.show(e)
		c.open(m.chat(), k.ref)
		return
	}
	end := c.begin()
	// Just after the start the room may be known and who lets in on the way.
	found := func() bool {
		o := c.offerOf(name)
		return c.inviteTo(name) != nil || o != nil && len(c.linkedOf(o.info.Writer)) > 0
	}
	c.look(k.now, found, func(now time.Time) {
		if c.findRoom(name) != nil { // it came by itself meanwhile
			end(now)
			c.doJoin(&call{now: now, args: k.args, ref: k.ref})
			return
		}
		j := &joining{name: name, ref: k.ref, end: end}
		inv, o := c.inviteTo(name), c.offerOf(name)
		switch {
		case o != nil:
			j.room = o.info.Room
		case inv != nil:
			j.room = inv.Room
		default:
			defer end(now)
			c.refuse(k.ref, "no_such_room", "no room %s is known here: /rooms lists them, /create %s makes it", name, name)
			return
		}
		c.startJoin(now, j)
		c.after(now, joinInFront, j.release)
	})
}

// release lets the commands that wait go on.
func (j *joining) release(now time.Time) {
	if end := j.end; end != nil {
		j.end = nil
		end(now)
	}
}

// linkedOf returns the devices of an account there is a link to.
func (c *Core) linkedOf(a wire.AccountID) []*device {
	if p := c.people.accounts[a]; p != nil {
		return p.linked()
	}
	return nil
}

// startJoin begins an attempt, in place of one for the same room that wants less:
// that nobody asked for, or that only a member would be granted.
func (c *Core) startJoin(now time.Time, j *joining) {
	if old := c.joinings[j.room]; old != nil {
		if j.quiet && (j.member || !old.member) {
			return
		}
		old.release(now)
	}
	j.until, j.refused = now.Add(joinLife), map[wire.DeviceID]bool{}
	c.joinings[j.room] = j
	c.knock(now, j)
}

func (c *Core) endJoin(now time.Time, j *joining, err error) {
	if c.joinings[j.room] == j {
		delete(c.joinings, j.room)
	}
	if err != nil && !j.quiet {
		code := "failed"
		if r, ok := err.(*refusal); ok {
			code = r.code
		}
		if code == "not_writer" {
			code = "admin_away"
		}
		c.refuse(j.ref, code, "joining %s: %v", j.name, err)
	}
	j.release(now)
}

// knock asks the next one who may let this device in: whoever is said to do
// that now, then everybody else who knows the room.
func (c *Core) knock(now time.Time, j *joining) {
	if c.joinings[j.room] != j || j.asking {
		return
	}
	if c.rooms[j.room] != nil {
		c.endJoin(now, j, nil)
		return
	}
	var able []*device
	o, offered := c.offers[j.room]
	if offered {
		able = append(c.linkedOf(o.info.Writer), c.linkedOf(o.info.Admin)...)
		for _, id := range o.from {
			able = append(able, c.people.devices[id])
		}
	}
	inv := c.invites[inviteKey{j.room, c.self.account}]
	if inv != nil {
		able = append(able, c.people.devices[inv.From.Device()])
		if !offered { // a private room: others do not say that they know it
			for _, p := range c.others() {
				able = append(able, p.linked()...)
			}
		}
	}
	i := slices.IndexFunc(able, func(d *device) bool { return d != nil && d.linked && d.id != c.self.device && !j.refused[d.id] })
	if i < 0 {
		if j.quiet || now.After(j.until) || j.why != nil && !waits(j.why) {
			c.endJoin(now, j, cmp.Or(j.why, error(&refusal{"admin_away", "nobody who could let you in has answered: try again"})))
			return
		}
		clear(j.refused)
		c.after(now, knockAgain, func(now time.Time) { c.knock(now, j) })
		return
	}
	from := able[i].id
	j.refused[from], j.asking = true, true
	typ, body := uint8(wire.FrameEnter), (&wire.Enter{Room: j.room}).Append(nil)
	if !j.member {
		q := wire.Join{Room: j.room}
		if inv != nil {
			q.Invite = inv.Append(nil)
		}
		typ, body = wire.FrameJoin, q.Append(nil)
	}
	c.ask(from, typ, body, func(now time.Time, frames []Frame, err error) {
		j.asking = false
		if c.joinings[j.room] != j {
			return
		}
		for _, f := range frames {
			if info, perr := wire.ParseRoomInfo(f.Body); f.Type == wire.FrameRoomInfo && perr == nil && info.Room == j.room {
				c.offered(now, *info, from)
			}
		}
		if err == nil {
			err = c.welcomed(now, j, from, frames)
		}
		switch {
		case err == nil:
			c.endJoin(now, j, nil)
			return
		case waits(err):
			j.why = err
			if !j.told && !j.quiet && strings.Contains(err.Error(), "silent") {
				j.told = true
				c.show(Notice{Code: "waiting", Text: err.Error() + "; you are let in then", Ref: j.ref})
			}
		case inv != nil && !offered || isRefusal(err, "no_such_room"): // not a member
			j.why = cmp.Or(j.why, err)
		default:
			c.endJoin(now, j, err)
			return
		}
		c.knock(now, j)
	})
}

// waits reports whether a refusal means that others, or later, may say yes.
func waits(err error) bool { return isRefusal(err, "not_writer") || !isRefusal(err, "") }

// isRefusal reports whether err is a peer's no, with that code if one is given.
func isRefusal(err error, code string) bool {
	r, ok := err.(*refusal)
	return ok && (code == "" || r.code == code)
}

// welcomed enters a room with what a member answered.
func (c *Core) welcomed(now time.Time, j *joining, from wire.DeviceID, frames []Frame) error {
	if c.rooms[j.room] != nil {
		return nil
	}
	entries, err := parseEntries(entriesIn(frames))
	if err != nil {
		return err
	}
	if len(entries) == 0 || entries[0].RoomID() != j.room {
		return &refusal{"failed", "the answer is about another room"}
	}
	var key *wire.Key
	for _, f := range frames {
		if f.Type == wire.FrameKey {
			if key, err = wire.ParseKey(f.Body); err != nil {
				return err
			}
		}
	}
	if key == nil {
		return &refusal{"room_key", "the answer has no key"}
	}
	if inv := c.invites[inviteKey{j.room, c.self.account}]; inv != nil && c.rooms[inv.Instead] != nil {
		c.rooms[inv.Instead].replaced = true
	}
	m, err := c.enter(now, entries, key.Secret)
	if err != nil {
		return err
	}
	for _, f := range frames {
		var err error
		switch f.Type {
		case wire.FrameBase:
			err = c.handleBase(now, from, f.Body)
		case wire.FrameBases:
			err = c.handleBases(now, m, f.Body)
		}
		if err != nil {
			c.stats.Malformed++
		}
	}
	for e, n := range c.early {
		if e.room == m.id {
			base := wire.Base{Room: m.id, Number: n}
			if err := c.handleBase(now, e.device, base.Append(nil)); err != nil {
				c.stats.Malformed++
			}
		}
	}
	clear(c.early)
	by := m.log.State().Writer()
	if inv := c.invites[inviteKey{m.id, c.self.account}]; inv != nil {
		if a, ok := m.log.State().Owner(inv.From); ok {
			by = a
		}
	}
	c.show(c.roomEvent(m, "joined", by, c.self.account, j.ref))
	if !j.quiet || c.current == "" {
		c.open(m.chat(), j.ref)
	}
	c.moved(now, m)
	c.retry(now)
	return nil
}

// enter makes a room one has created or joined one's own: its log, which must
// have this person as a member, and the secret of its epoch.
func (c *Core) enter(now time.Time, entries []*wire.Entry, secret room.Secret) (*membership, error) {
	log, err := room.NewLog(c.cfg.Realm, entries[0])
	if err != nil {
		return nil, err
	}
	if _, err := log.Add(entries[1:]...); err != nil {
		return nil, err
	}
	if gone := c.gone[log.Room()]; gone != nil { // who lets in may not have heard of a removal
		_, _ = log.Add(gone.Since(0)...) // they were good
	}
	s := log.State()
	switch {
	case s.Member(c.self.account) == nil:
		return nil, room.ErrNotMember
	case log.IsSuspended(c.self.account):
		return nil, errSuspended
	}
	keys, _ := room.NewKeyring(now, log, c.self.key, nil)
	known, err := keys.Accept(now, s.Epoch.Entry, secret)
	if err != nil {
		return nil, err
	}
	m := c.newMembership(now, log, keys)
	c.save(SaveRoom{Room: m.id, Joined: now})
	for _, e := range log.Since(0) {
		c.save(SaveEntry{Room: m.id, Hash: e.Hash(), Entry: e.Append(nil)})
	}
	c.keep(m, known)
	for _, a := range c.heard[m.id] {
		if err := c.restoreAuthor(now, m, a); err != nil {
			return nil, err
		}
	}
	delete(c.heard, m.id)
	delete(c.offers, m.id)
	delete(c.gone, m.id)
	if c.partings[m.id] != nil {
		delete(c.partings, m.id)
		c.save(DropParting{Room: m.id})
	}
	c.nameRooms()
	if len(entries) == 1 { // made just now
		m.recount.done, m.recount.until = true, time.Time{}
	}
	c.shutOut(now, m)
	c.letDevicesIn(now, m)
	c.recountNext(now, m)
	return m, nil
}

// answerJoin admits a person, or says why not and who would.
func (c *Core) answerJoin(now time.Time, dev *device, body []byte) ([]Frame, error) {
	q, err := wire.ParseJoin(body)
	if err != nil {
		return nil, err
	}
	m := c.rooms[q.Room]
	if m == nil {
		return nil, errNoSuchRoom
	}
	who, s := dev.person.account, m.log.State()
	if s.Member(who) != nil {
		return c.letEnter(m, dev)
	}
	args := &wire.LogAdmit{Account: who, Name: dev.person.name, Devices: []wire.Device{{Key: dev.key, Cert: dev.cert}}}
	inviter, invited := c.inviterOf(m, who, q.Invite, args)
	if s.Private() && !invited {
		return nil, errNoSuchRoom
	}
	if b, banned := s.Ban(who); banned && (b.Until.IsZero() || now.Before(b.Until)) {
		r := &refusal{"banned", "you are banned from " + m.chat()}
		if !b.Until.IsZero() {
			r.text += " until " + b.Until.Format("2006-01-02 15:04")
		}
		return nil, r
	}
	if _, err := c.takeOver(now, m, wire.OpAdmit, c.wanted(now, m)); err != nil {
		info := c.roomInfo(m, false)
		return []Frame{{wire.FrameRoomInfo, info.Append(nil)}}, c.ruleRefusal(m, err)
	}
	if err := c.wishes(now, m, who); err != nil {
		return nil, err
	}
	if !invited {
		inviter = c.self.account
	}
	if err := c.carryOut(now, m, inviter, args, ""); err != nil {
		return nil, c.ruleRefusal(m, err)
	}
	c.schedule(m)
	frames, err := c.welcome(m, dev)
	if err == nil {
		frames = append(frames, c.bases(m, dev.id))
	}
	return frames, err
}

// answerEnter gives a member's device what it needs to take part. Who is no
// member is not let in: the device asks by itself, and may not have heard of a
// removal.
func (c *Core) answerEnter(dev *device, body []byte) ([]Frame, error) {
	q, err := wire.ParseEnter(body)
	if err != nil {
		return nil, err
	}
	m, err := c.roomFor(dev, q.Room)
	if err != nil {
		return nil, err
	}
	return c.letEnter(m, dev)
}

// errSuspended is what somebody is told who was removed on a side that lost.
var errSuspended = &refusal{"not_member", "you were removed while the network was split, and who is in charge of the room has not decided yet whether that stands"}

// letEnter welcomes a device of a member, if the room knows it.
func (c *Core) letEnter(m *membership, dev *device) ([]Frame, error) {
	if m.log.IsSuspended(dev.person.account) {
		return nil, errSuspended
	}
	p := m.log.State().Member(dev.person.account)
	if !slices.ContainsFunc(p.Devices, func(d room.Device) bool { return d.ID == dev.id }) {
		c.newDevice(m, dev)
		return nil, &refusal{"new_device", "you are in " + m.chat() + " with another device; this one comes in as soon as that one, or the admin, lets it in"}
	}
	c.schedule(m)
	return c.welcome(m, dev)
}

// welcome returns what a member needs to take part: the log, the key, and
// where each device's messages begin.
func (c *Core) welcome(m *membership, dev *device) (frames []Frame, err error) {
	for _, e := range m.log.Since(0) {
		frames = append(frames, Frame{wire.FrameEntry, e.Append(nil)})
	}
	info := m.log.State().Epoch
	if info != nil {
		if secret, err := m.keys.Serve(dev.key, info.Entry); err == nil {
			k := wire.Key{Room: m.id, Entry: info.Entry, Secret: secret}
			frames = append(frames, Frame{wire.FrameKey, k.Append(nil)})
		}
	}
	base := wire.Base{Room: m.id, Number: c.author(m, dev.id).since}
	frames = append(frames, Frame{wire.FrameBase, base.Append(nil)})
	return frames, nil
}

// ---- a person's other devices

// letDevicesIn asks for the other devices of this person that are here and not
// in the room yet.
func (c *Core) letDevicesIn(now time.Time, m *membership) {
	me := c.people.accounts[c.self.account]
	p := m.log.State().Member(c.self.account)
	if me == nil || p == nil {
		return
	}
	for _, d := range me.devices {
		in := slices.ContainsFunc(p.Devices, func(o room.Device) bool { return o.ID == d.id })
		if in || !d.linked || d.revoked || d.id == c.self.device || len(p.Devices) >= wire.MaxDevices {
			continue
		}
		asked := slices.ContainsFunc(m.requests, func(r *request) bool {
			a, ok := r.args.(*wire.LogDevice)
			return ok && a.Key == d.key
		})
		if !asked {
			c.show(Notice{Code: "own_device", Text: fmt.Sprintf("your device %s is let into %s; if it is not yours, /sessions revoke %[1]s shuts it out", d.id, m.chat()),
				Data: map[string]string{"chat": m.chat(), "device": d.id.String()}})
			c.request(now, m, &wire.LogDevice{Account: c.self.account, Key: d.key, Cert: d.cert}, "", true)
		}
	}
}

// newDevice notes that a device of a member wants in. Another device of the
// person that is here lets it in by itself; otherwise who is in charge of the
// room is asked.
func (c *Core) newDevice(m *membership, dev *device) {
	if c.inCharge(m) != c.self.account || m.knocked[dev.id] || slices.ContainsFunc(c.devicesIn(m, dev.person.account), (*device).here) {
		return
	}
	m.knocked[dev.id] = true
	name := dev.person.name
	c.show(Notice{Code: "new_device", Text: fmt.Sprintf("%s comes with a new device (%s) that %s does not know: if you know that it is %s, /device %s lets it in", name, dev.id, m.chat(), name, name),
		Data: map[string]string{"chat": m.chat(), "user": name, "device": dev.id.String()}})
}

// doDevice lets in the devices of a member that knocked.
func (c *Core) doDevice(k *call) {
	m, p := c.target(k)
	if m == nil {
		return
	}
	found := false
	for _, d := range p.devices {
		if m.knocked[d.id] {
			found = true
			delete(m.knocked, d.id)
			if _, err := c.takeOver(k.now, m, wire.OpDevice, k.now); err != nil {
				c.refuseGoverning(k.ref, m, err)
				return
			}
			if err := c.carryOut(k.now, m, c.self.account, &wire.LogDevice{Account: p.account, Key: d.key, Cert: d.cert}, k.ref); err != nil {
				c.refuseRule(k.ref, m.chat(), err)
			}
		}
	}
	if !found {
		c.refuse(k.ref, "bad_argument", "no new device of %s has asked to come into %s", p.name, m.chat())
	}
}

// tellDevice tells devices that an entry lets into a room, or takes back.
func (c *Core) tellDevice(m *membership, e *wire.Entry) {
	var in []*device
	switch a := e.Args.(type) {
	case *wire.LogDevice:
		if !a.Remove && (e.Author == c.self.key || a.Account == c.self.account) {
			in = append(in, c.people.devices[a.Key.Device()])
		}
	case *wire.LogResolve:
		if !a.Uphold && e.Author == c.self.key {
			in = c.devicesIn(m, a.Account)
		}
	}
	for _, d := range in {
		if d != nil && d.linked {
			info := c.roomInfo(m, true)
			c.send(Push{To: d.id, Type: wire.FrameRoomInfo, Body: info.Append(nil)})
		}
	}
}
