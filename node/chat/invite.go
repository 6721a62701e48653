package chat

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/clean"
)

// Invites, and rooms that are made anew, whose members are invited.

const (
	refoundGrace = 5 * time.Second // before the founder leaves the old room
	maxInvites   = 256             // that wait to be used
)

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
	c.invite(m, p.account, wire.RoomID{})
	text := p.name + " is invited to " + m.chat() + " and is told now"
	if len(p.linked()) == 0 {
		text = p.name + " is invited to " + m.chat() + " and is told when " + p.name + " is back"
	}
	c.show(Notice{Code: "invited", Text: text, Ref: k.ref})
}

// invite signs an invite and has it delivered.
func (c *Core) invite(m *membership, to wire.AccountID, instead wire.RoomID) {
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
			c.invite(m, p.Account, old.id)
		}
	}
	// The others judge the invite by the seat of its author in the old room.
	c.after(k.now, refoundGrace, func(now time.Time) {
		if c.rooms[old.id] == old {
			c.leave(now, old, "")
		}
	})
}
