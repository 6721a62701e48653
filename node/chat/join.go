package chat

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/clean"
)

// The way into a room and out of it: which rooms others know, asking to be let
// in, invites, one's second device, leaving.

const (
	// A node that has just started asks again for a room that nobody knows:
	// its links to the others may not be up yet.
	lookAgain   = 250 * time.Millisecond
	lookPatient = 3 * time.Second

	knockAgain   = 500 * time.Millisecond // between rounds of asking to be let in
	joinLife     = 75 * time.Second       // longer than a silent admin is waited for
	joinInFront  = 2 * time.Second        // then other commands go on
	farewell     = 5 * time.Second        // between rounds of saying that one left
	refoundGrace = 5 * time.Second        // before the founder leaves the old room
	maxInvites   = 256                    // that wait to be used
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
		c.startJoin(now, &joining{room: info.Room, name: name, quiet: true})
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
		c.show(c.roomEvent(m, "joined", c.self.account, c.self.account, k.ref))
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

// startJoin begins an attempt, in place of one for the same room that nobody
// asked for.
func (c *Core) startJoin(now time.Time, j *joining) {
	if old := c.joinings[j.room]; old != nil {
		if j.quiet {
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
	q := wire.Join{Room: j.room}
	if inv != nil {
		q.Invite = inv.Append(nil)
	}
	c.ask(from, wire.FrameJoin, q.Append(nil), func(now time.Time, frames []Frame, err error) {
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
	if s.Member(c.self.account) == nil {
		return nil, room.ErrNotMember
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
	p := s.Member(who)
	if p != nil {
		if !slices.ContainsFunc(p.Devices, func(d room.Device) bool { return d.ID == dev.id }) {
			c.newDevice(m, dev)
			return nil, &refusal{"new_device", "you are in " + m.chat() + " with another device; this one comes in as soon as that one, or the admin, lets it in"}
		}
		c.schedule(m)
		return c.welcome(m, dev)
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

// ---- invites

// An inviteKey says for which room an invite is, and for whom: for oneself, or
// for somebody who has not got it yet.
type inviteKey struct {
	room    wire.RoomID
	account wire.AccountID
}

func (c *Core) doInvite(k *call) {
	m, p := c.target(k)
	if m == nil {
		return
	}
	if p.account == c.self.account {
		c.refuse(k.ref, "bad_argument", "that is you: invite somebody else")
		return
	}
	// The devices are filled in by who lets in.
	if err := m.log.State().May(c.self.account, &wire.LogAdmit{Account: p.account}); err != nil {
		c.refuseRule(k.ref, m.chat(), err)
		return
	}
	c.invite(k.now, m, p.account, wire.RoomID{})
	text := p.name + " is invited to " + m.chat() + " and is told now"
	if len(p.linked()) == 0 {
		text = p.name + " is invited to " + m.chat() + " and is told when " + p.name + " is back"
	}
	c.show(Notice{Code: "invited", Text: text, Ref: k.ref})
}

// invite signs an invite and has it delivered.
func (c *Core) invite(now time.Time, m *membership, to wire.AccountID, instead wire.RoomID) {
	s := m.log.State()
	inv := wire.SignInvite(c.cfg.Realm, c.cfg.Key, wire.Invite{Room: m.id, Account: to, Seq: s.Seq, Instead: instead, Name: m.plainName()})
	c.keepInvite(inv)
	for _, d := range c.linkedOf(to) {
		c.hand(d, inv)
	}
}

func (c *Core) keepInvite(inv *wire.Invite) {
	c.invites[inviteKey{inv.Room, inv.Account}] = inv
	c.save(SaveInvite{Room: inv.Room, Account: inv.Account, Invite: inv.Append(nil)})
}

func (c *Core) dropInvite(id wire.RoomID, a wire.AccountID) {
	if c.invites[inviteKey{id, a}] != nil {
		delete(c.invites, inviteKey{id, a})
		c.save(DropInvite{Room: id, Account: a})
	}
}

// hand gives an invite to a device of who is invited.
func (c *Core) hand(d *device, inv *wire.Invite) {
	c.ask(d.id, wire.FrameInvite, inv.Append(nil), func(_ time.Time, _ []Frame, err error) {
		if (err == nil || isRefusal(err, "")) && c.invites[inviteKey{inv.Room, inv.Account}] == inv {
			c.dropInvite(inv.Room, inv.Account)
		}
	})
}

// answerInvite takes an invite.
func (c *Core) answerInvite(now time.Time, dev *device, body []byte) ([]Frame, error) {
	inv, err := wire.ParseInvite(body)
	if err != nil {
		return nil, err
	}
	name, nerr := clean.RoomName(inv.Name)
	if err := inv.Verify(c.cfg.Realm); err != nil || nerr != nil || inv.From != dev.key || inv.Account != c.self.account {
		return nil, &refusal{"bad_argument", "the invite is not good"}
	}
	if c.rooms[inv.Room] == nil {
		waiting := 0
		for k := range c.invites {
			if k.account == c.self.account {
				waiting++
			}
		}
		if waiting >= maxInvites {
			return nil, &refusal{"busy", "too many invites wait already"}
		}
		c.keepInvite(inv)
		c.tellInvite(now, dev.person, inv, name)
	}
	return []Frame{{wire.FrameDone, nil}}, nil
}

// tellInvite shows an invite. One to a room in place of one that this person
// is in is followed, if its founder sits in front of all who are here.
func (c *Core) tellInvite(now time.Time, from *person, inv *wire.Invite, name string) {
	old := c.rooms[inv.Instead]
	if old == nil {
		c.show(Notice{Code: "invited", Text: fmt.Sprintf("%s invites you to %s: /join %s goes there", from.name, name, name),
			Data: map[string]string{"chat": name, "by": from.name}})
		return
	}
	s := old.log.State()
	for _, p := range s.Members[:s.Seat(from.account)] {
		if c.here(old, p.Account) {
			c.show(Notice{Code: "invited", Text: fmt.Sprintf("%s has made %s anew: /join %s goes there", from.name, old.chat(), tagged(name, inv.Room)),
				Data: map[string]string{"chat": tagged(name, inv.Room), "by": from.name}})
			return
		}
	}
	c.show(Notice{Code: "refounded", Text: fmt.Sprintf("%s has made %s anew with its members, and you move there", from.name, old.chat()),
		Data: map[string]string{"chat": name, "by": from.name}})
	c.startJoin(now, &joining{room: inv.Room, name: name, quiet: true})
}

// moved leaves the room that the one just entered takes the place of.
func (c *Core) moved(now time.Time, m *membership) {
	inv := c.invites[inviteKey{m.id, c.self.account}]
	if inv == nil {
		return
	}
	if old := c.rooms[inv.Instead]; old != nil {
		was := c.current == old.chat()
		c.leave(now, old, "")
		if was {
			c.open(m.chat(), "")
		}
	}
}

// inviteTo returns the invite to a room of that name.
func (c *Core) inviteTo(chat string) *wire.Invite {
	name, tag, err := splitName(chat)
	if err != nil {
		return nil
	}
	for k, inv := range c.invites {
		if n, err := clean.RoomName(inv.Name); k.account == c.self.account && err == nil && n == name && strings.HasPrefix(k.room.String(), tag) && c.rooms[k.room] == nil {
			return inv
		}
	}
	return nil
}

// inviterOf judges an invite that somebody shows: it counts if who signed it
// may still ask for the person to be let in, and the person was not removed
// and did not leave since.
func (c *Core) inviterOf(m *membership, who wire.AccountID, raw []byte, args *wire.LogAdmit) (inviter wire.AccountID, ok bool) {
	if len(raw) == 0 {
		return inviter, false
	}
	inv, err := wire.ParseInvite(raw)
	if err != nil || inv.Room != m.id || inv.Account != who || inv.Verify(c.cfg.Realm) != nil {
		c.stats.Forbidden++
		return inviter, false
	}
	s := m.log.State()
	inviter, ok = s.Owner(inv.From)
	if !ok {
		return inviter, false
	}
	if last, was := mayRead(m.log, who); was && last > inv.Seq {
		return inviter, false
	}
	err = s.May(inviter, args)
	return inviter, err == nil || errors.Is(err, room.ErrBanned) || errors.Is(err, room.ErrFull)
}

// doRefound makes a room anew, with the members of the current one: the cure
// for an admin who never comes back.
func (c *Core) doRefound(k *call) {
	old := c.myRoom(k)
	if old == nil {
		return
	}
	s := old.log.State()
	act, err := room.Create(c.identity(), k.now, old.plainName(), s.Policy)
	if err != nil {
		c.refuseRule(k.ref, old.chat(), err)
		return
	}
	old.replaced = true
	m, err := c.enter(k.now, []*wire.Entry{act.Entry}, act.Secret)
	if err != nil {
		c.refuseRule(k.ref, old.chat(), err)
		return
	}
	c.show(c.roomEvent(m, "created", c.self.account, wire.AccountID{}, k.ref))
	c.open(m.chat(), k.ref)
	if s.Topic != "" {
		err = c.append(k.now, m)(m.log.Settings(c.identity(), k.now, m.plainName(), s.Topic, s.Policy))
	}
	if err != nil {
		c.refuseRule(k.ref, m.chat(), err)
	}
	for _, p := range s.Members {
		if p.Account != c.self.account {
			c.invite(k.now, m, p.Account, old.id)
		}
	}
	// The others judge the invite by the seat of its author in the old room.
	c.after(k.now, refoundGrace, func(now time.Time) {
		if c.rooms[old.id] == old {
			c.leave(now, old, "")
		}
	})
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

// ---- leaving

// A parting is a room that was left. Members who come later may not have heard
// of it and are told, until the person comes back into the room.
type parting struct {
	room    wire.RoomID
	members []wire.AccountID // in seat order
	asking  bool
}

// doPart leaves a room for good: a plain member says so, and the writer
// records it; the admin's leaving is an entry of the log.
func (c *Core) doPart(k *call) {
	if m := c.myRoom(k); m != nil {
		c.leave(k.now, m, k.ref)
	}
}

// leave leaves a room, once what this device said in it has come to those who
// are there: it could not be asked for it afterwards.
func (c *Core) leave(now time.Time, m *membership, ref string) {
	m.leaving = true
	c.afterRecount(now, m, func(now time.Time) {
		if c.rooms[m.id] == m {
			c.sendRest(now, m)
			c.leaveBy(now, m, ref, now.Add(leaveWait))
		}
	})
}

const (
	leaveWait = 2 * time.Second // for acknowledgements, at most
	leaveLook = 10 * time.Millisecond
)

// leaveBy leaves a room by a time.
func (c *Core) leaveBy(now time.Time, m *membership, ref string, until time.Time) {
	if c.rooms[m.id] != m {
		return // thrown out meanwhile
	}
	m.out.Expect(now, c.thereIn(m))
	if m.out.Owed() && now.Before(until) {
		c.after(now, leaveLook, func(now time.Time) { c.leaveBy(now, m, ref, until) })
		return
	}
	m.leaving = false
	c.leaveNow(now, m, ref)
}

func (c *Core) leaveNow(now time.Time, m *membership, ref string) {
	c.sendRest(now, m) // typed meanwhile
	s := m.log.State()
	c.dropInvite(m.id, c.self.account)
	if s.Admin() == c.self.account && !m.log.HeldFor(c.self.account) {
		act, err := m.log.Leave(c.identity(), now)
		if err == nil {
			err = c.act(now, m, act, ref)
		}
		if err != nil {
			c.refuseRule(ref, m.chat(), err)
		}
		return
	}
	p := &parting{room: m.id}
	for _, o := range s.Members {
		if o.Account != c.self.account {
			p.members = append(p.members, o.Account)
		}
	}
	if m.keys.Current() != nil {
		leave := wire.Leave{Reliable: m.out.Last()}
		packet, _ := c.seal(m, wire.KindLeave, false, wire.AppendBody(nil, &leave))
		c.multicast(now, m, packet)
	}
	e := c.roomEvent(m, "left", c.self.account, c.self.account, ref)
	e.Members = slices.DeleteFunc(e.Members, func(n string) bool { return n == c.self.name })
	e.Admins = slices.DeleteFunc(e.Admins, func(n string) bool { return n == c.self.name })
	c.show(e)
	c.drop(m)
	if len(p.members) > 0 {
		c.partings[p.room] = p
		c.save(SaveParting{Room: p.room, Members: p.members})
		c.sayFarewell(now, p, 0)
	}
}

// sayFarewell tells the members of a room that this person left, one after
// the other, until one has recorded it.
func (c *Core) sayFarewell(now time.Time, p *parting, from int) {
	if c.partings[p.room] != p || p.asking {
		return
	}
	for i, a := range p.members[from:] {
		linked := c.linkedOf(a)
		if len(linked) == 0 {
			continue
		}
		p.asking = true
		q := wire.Part{Room: p.room}
		c.ask(linked[0].id, wire.FramePart, q.Append(nil), func(now time.Time, _ []Frame, err error) {
			p.asking = false
			if err != nil {
				c.sayFarewell(now, p, from+i+1)
			}
		})
		return
	}
	if from > 0 { // somebody was there
		c.after(now, farewell, func(now time.Time) { c.sayFarewell(now, p, 0) })
	}
}

func (c *Core) answerPart(now time.Time, dev *device, body []byte) ([]Frame, error) {
	q, err := wire.ParsePart(body)
	if err != nil {
		return nil, err
	}
	m := c.rooms[q.Room]
	if m == nil {
		return nil, errNoSuchRoom
	}
	// The packet proves it to everybody; that the link's owner says so is
	// enough for the writer.
	who := dev.person.account
	if _, was := mayRead(m.log, who); !was {
		return nil, errNoSuchRoom
	}
	c.handleLeave(now, m, who)
	if c.rooms[m.id] == m && m.log.State().Member(who) != nil {
		return nil, c.notWriter(now, m)
	}
	return []Frame{{wire.FrameDone, nil}}, nil
}

// handleLeave takes a member's signed goodbye: keys are no longer handed to
// that person, and the writer records it.
func (c *Core) handleLeave(now time.Time, m *membership, who wire.AccountID) {
	m.keys.Leaving(who)
	c.tend(now, m)
}
