package chat

import (
	"slices"
	"time"

	"lanchat/wire"
)

// The way out of a room.

const (
	leaveWait = 2 * time.Second       // for acknowledgements, at most
	leaveLook = 10 * time.Millisecond // whether they have come
	farewell  = 5 * time.Second       // between rounds of saying that one left
)

// A parting is a room that was left. Members who come later may not have heard
// of it and are told, until the person comes back into the room.
type parting struct {
	room    wire.RoomID
	members []wire.AccountID // in seat order
	entries [][]byte         // see lastOwn
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
	p := &parting{room: m.id}
	for _, o := range s.Members {
		if o.Account != c.self.account {
			p.members = append(p.members, o.Account)
		}
	}
	if s.Admin() == c.self.account && !m.log.HeldFor(c.self.account) {
		act, err := m.log.Leave(c.identity(), now)
		if err == nil {
			err = c.act(now, m, act, ref)
		}
		if err != nil {
			c.refuseRule(ref, m.chat(), err)
			return
		}
		c.part(now, m, p)
		return
	}
	if m.keys.Current() != nil {
		leave := wire.Leave{Reliable: m.out.Last()}
		packet := c.seal(m, wire.KindLeave, wire.AppendBody(nil, &leave))
		c.multicast(now, m, packet)
	}
	e := c.roomEvent(m, "left", c.self.account, c.self.account, ref)
	e.Members = slices.DeleteFunc(e.Members, func(n string) bool { return n == c.self.name })
	e.Admins = slices.DeleteFunc(e.Admins, func(n string) bool { return n == c.self.name })
	c.show(e)
	c.drop(m)
	c.part(now, m, p)
}

// part has the members of a room that was left told of it.
func (c *Core) part(now time.Time, m *membership, p *parting) {
	if len(p.members) > 0 {
		p.entries = c.lastOwn(m)
		c.partings[p.room] = p
		c.save(SaveParting{Room: p.room, Members: p.members, Entries: p.entries})
		c.sayFarewell(now, p, 0)
	}
}

// lastOwn returns what this device has signed of a room's log of late, and what
// stands between: an admin's LEAVE and what an admin or a regent did alone, which
// nobody could ask this device for any more.
func (c *Core) lastOwn(m *membership) (entries [][]byte) {
	last := m.log.Audit()
	last = last[max(0, len(last)-overlap):]
	first := slices.IndexFunc(last, func(e *wire.Entry) bool { return e.Author == c.self.key })
	if first < 0 {
		return nil
	}
	for _, e := range last[first:] {
		entries = append(entries, e.Append(nil))
	}
	return entries
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
		for _, e := range p.entries {
			c.send(Push{To: linked[0].id, Type: wire.FrameEntry, Body: e})
		}
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
