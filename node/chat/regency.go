package chat

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"lanchat/node/delivery"
	"lanchat/node/room"
	"lanchat/wire"
)

// Who may append to a room's log is the admin or, once the admin was silent
// for a while, the front-most person who is there: the regent, who claims that
// when there is something to do and not before. Everybody else asks.

const (
	// lostAfter is how long a device was silent when presence calls it lost.
	lostAfter = 6500 * time.Millisecond

	requestAgain = 500 * time.Millisecond // between tries of a request
	requestLife  = 90 * time.Second       // longer than a silent admin is waited for
	requestDone  = 5 * time.Second        // after the answer, for its entry to come
	tendAgain    = time.Second
)

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// devicesIn returns what is known of a member's devices; an entry is nil for
// one that was never met.
func (c *Core) devicesIn(m *membership, a wire.AccountID) (devices []*device) {
	if p := m.log.State().Member(a); p != nil {
		for _, d := range p.Devices {
			devices = append(devices, c.people.devices[d.ID])
		}
	}
	return devices
}

// here reports whether a member can be reached, with a device of the room.
func (c *Core) here(m *membership, a wire.AccountID) bool {
	return a == c.self.account || slices.ContainsFunc(c.devicesIn(m, a), (*device).here)
}

func (d *device) here() bool { return d != nil && d.online && !d.revoked }

// present reports whether a member was heard in the last 45 s and has not said
// goodbye.
func (c *Core) present(now time.Time, m *membership, a wire.AccountID) bool {
	return a == c.self.account || slices.ContainsFunc(c.devicesIn(m, a), func(d *device) bool { return d.present(now) })
}

func (d *device) present(now time.Time) bool {
	return d.here() || d != nil && !d.revoked && d.gone.IsZero() && !d.heard.IsZero() && now.Before(d.heard.Add(room.RegencyAfter))
}

// silentFrom returns when a member who is not here counts as silent: at once
// after a goodbye or a revocation, else 45 s after it was heard last, counted
// from one's own start at the earliest.
func (c *Core) silentFrom(m *membership, a wire.AccountID) (from time.Time) {
	for _, d := range c.devicesIn(m, a) {
		switch {
		case d == nil:
			from = later(from, c.started.Add(room.RegencyAfter))
		case d.revoked:
		case !d.gone.IsZero():
			from = later(from, d.gone)
		default:
			from = later(from, later(d.heard, c.started).Add(room.RegencyAfter))
		}
	}
	return from
}

// inCharge returns who is to be asked for a change of a room: the admin or,
// while the admin is not here, the front-most member who is. It is the admin if
// nobody is.
func (c *Core) inCharge(m *membership) wire.AccountID {
	s := m.log.State()
	for _, p := range s.Members {
		if c.here(m, p.Account) {
			return p.Account
		}
	}
	return s.Admin()
}

// acting returns who is in charge and from when on: who stands in has to wait
// until the admin counts as silent.
func (c *Core) acting(now time.Time, m *membership) (who wire.AccountID, from time.Time) {
	s := m.log.State()
	if who = c.inCharge(m); who == s.Regent || c.here(m, s.Admin()) {
		return who, now
	}
	return who, later(now, c.silentFrom(m, s.Admin()))
}

// takeOver makes sure that this device may append an entry that does op, if
// need be by a CLAIM; since is when the need for it arose. Otherwise it says
// why not, and from when on it may; never if that is zero.
func (c *Core) takeOver(now time.Time, m *membership, op wire.Op, since time.Time) (at time.Time, err error) {
	s, self := m.log.State(), c.self.account
	switch {
	case m.log.HeldFor(self):
		return at, room.ErrHeld
	case s.Member(self) == nil:
		return at, room.ErrNotMember
	case s.Admin() != self && (!room.RegentMay(op) || c.here(m, s.Admin())):
		return at, c.notWriter(now, m)
	case m.recount.waits():
		return m.recount.until, errUncounted
	case s.Admin() == self || s.Regent == self:
		return now, nil
	}
	wait, _ := s.ClaimAfter(self, func(a wire.AccountID) bool { return c.present(now, m, a) })
	if !s.Regent.IsZero() && s.Seat(s.Regent) < s.Seat(self) && c.present(now, m, s.Regent) {
		wait += room.ClaimStep // the regent in front does it
	}
	if at = later(c.silentFrom(m, s.Admin()), since).Add(wait); now.Before(at) {
		return at, c.notWriter(now, m)
	}
	act, err := m.log.Claim(c.identity(), now)
	if err == nil {
		err = c.act(now, m, act, "")
	}
	return now, err
}

// notWriter says who is to be asked instead.
func (c *Core) notWriter(now time.Time, m *membership) *refusal {
	who, from := c.acting(now, m)
	admin := c.people.nameOf(m.log.State().Admin())
	name := c.people.nameOf(who)
	switch {
	case who == m.log.State().Admin() && c.here(m, who):
		return &refusal{"not_writer", name + " is the admin of " + m.chat() + " and is to be asked"}
	case who == m.log.State().Admin():
		return &refusal{"not_writer", name + ", the admin of " + m.chat() + ", is away, and nobody is there to stand in"}
	case from.After(now):
		return &refusal{"not_writer", fmt.Sprintf("%s, the admin of %s, went silent: %s stands in from %s on", admin, m.chat(), name, from.Format("15:04:05"))}
	}
	return &refusal{"not_writer", fmt.Sprintf("%s, the admin of %s, is away: %s stands in", admin, m.chat(), name)}
}

// ---- requests

// A request is something that this person, or this node by itself, wants done
// in a room, until its writer has done it.
type request struct {
	args  wire.Args
	ref   string
	quiet bool // nobody typed it: a refusal is not shown
	since time.Time
	next  time.Time // when to try again
	tries int
	asked bool // the question is under way
	done  bool // granted; the entry is on its way
	told  bool // that it waits
}

// govern has the writer of a room do something for the person, or says why not.
func (c *Core) govern(k *call, m *membership, args wire.Args) {
	c.request(k.now, m, args, k.ref, false)
}

func (c *Core) request(now time.Time, m *membership, args wire.Args, ref string, quiet bool) {
	r := &request{args: args, ref: ref, quiet: quiet, since: now}
	m.requests = append(m.requests, r)
	c.pursue(now, m, r)
	if c.rooms[m.id] == m {
		c.schedule(m)
	}
}

// mayAsk returns nil if the rules allow the request, of a member or, while the
// admin is away, of who stands in.
func (c *Core) mayAsk(m *membership, args wire.Args) error {
	if m.log.HeldFor(c.self.account) {
		return room.ErrHeld
	}
	s := m.log.State()
	err := s.May(c.self.account, args)
	switch {
	case err == nil, !room.RegentMay(args.Op()), c.inCharge(m) != c.self.account:
		return err
	case s.Seat(room.Whom(args)) < len(s.Members):
		return s.Behind(c.self.account, room.Whom(args))
	}
	return nil
}

// pursue does what a request asks for, if that is for this device to do, or
// asks who may.
func (c *Core) pursue(now time.Time, m *membership, r *request) {
	r.next = time.Time{}
	if r.done || r.asked {
		if r.done {
			c.finish(m, r, nil)
		}
		return
	}
	if err := c.mayAsk(m, r.args); err != nil {
		c.finish(m, r, err)
		return
	}
	op := r.args.Op()
	at, err := c.takeOver(now, m, op, r.since)
	if err == nil {
		err = c.carryOut(now, m, c.self.account, r.args, r.ref)
		c.finish(m, r, err)
		return
	}
	if err == errUncounted {
		r.next = later(at, now.Add(requestAgain))
		return
	}
	s := m.log.State()
	admin := c.people.nameOf(s.Admin())
	switch who, from := c.acting(now, m); {
	case !room.RegentMay(op) && !c.here(m, s.Admin()) && now.Sub(c.started) >= lookPatient:
		c.finish(m, r, &refusal{"admin_away", fmt.Sprintf("%s is away, and nobody but the admin of %s can do that: try again when %s is back", admin, m.chat(), admin)})
	case now.Sub(r.since) > requestLife:
		c.finish(m, r, &refusal{"admin_away", "nobody who could do that in " + m.chat() + " has answered: try again"})
	case who == c.self.account || from.After(now):
		if !at.IsZero() && who == c.self.account {
			from = later(from, at)
		}
		if !r.told && !r.quiet {
			r.told = true
			c.show(Notice{Code: "waiting", Ref: r.ref, Text: fmt.Sprintf("%s, the admin of %s, went silent: what you asked for is done at %s, when %s may stand in", admin, m.chat(), from.Format("15:04:05"), c.people.nameOf(who))})
		}
		r.next = later(from, now.Add(requestAgain))
	default:
		c.put(now, m, r)
	}
}

// put asks a member's device for what a request wants: the one in charge or,
// after that was in vain, the next one that is here.
func (c *Core) put(now time.Time, m *membership, r *request) {
	var able []*device
	for _, p := range m.log.State().Members {
		for _, d := range c.devicesIn(m, p.Account) {
			if d.here() && d.linked && d.id != c.self.device {
				able = append(able, d)
			}
		}
	}
	r.next = now.Add(requestAgain)
	if len(able) == 0 {
		return
	}
	r.asked, r.next = true, time.Time{}
	q := wire.Act{Room: m.id, Args: r.args}
	c.ask(able[r.tries%len(able)].id, wire.FrameAct, q.Append(nil), func(now time.Time, _ []Frame, err error) {
		r.asked = false
		if c.rooms[m.id] != m || !slices.Contains(m.requests, r) {
			return
		}
		no, refused := err.(*refusal)
		switch {
		case err == nil:
			r.done, r.next = true, now.Add(requestDone)
		case refused && no.code != "not_writer" && no.code != "no_such_room":
			c.finish(m, r, err)
		default:
			r.tries++
			r.next = now.Add(requestAgain)
		}
		c.schedule(m)
	})
}

// finish ends a request.
func (c *Core) finish(m *membership, r *request, err error) {
	m.requests = slices.DeleteFunc(m.requests, func(o *request) bool { return o == r })
	if err == nil || r.quiet {
		return
	}
	if no, ok := err.(*refusal); ok {
		c.refuse(r.ref, no.code, "%s", no.text)
		return
	}
	c.refuseRule(r.ref, m.chat(), err)
}

// granted returns the ref of the request that an entry fulfils, which is done.
func (c *Core) granted(m *membership, e *wire.Entry) (ref string) {
	if e.For != c.self.account {
		return ""
	}
	for _, r := range m.requests {
		if r.args.Op() == e.Op() && room.Whom(r.args) == room.Whom(e.Args) {
			c.finish(m, r, nil)
			return r.ref
		}
	}
	return ""
}

// carryOut appends what a person asked for.
func (c *Core) carryOut(now time.Time, m *membership, who wire.AccountID, args wire.Args, ref string) error {
	id := c.identity()
	if who != c.self.account {
		id.For = who
	}
	if b, banned := m.log.State().Ban(room.Whom(args)); args.Op() == wire.OpAdmit && banned && !b.Until.IsZero() && !now.Before(b.Until) && m.log.State().Admin() == c.self.account {
		if err := c.append(now, m)(m.log.Unban(c.identity(), now, room.Whom(args))); err != nil {
			return err
		}
	}
	act, err := m.log.Act(id, now, m.keys, args, m.mark)
	if errors.Is(err, room.ErrRekeyFirst) {
		if err := c.append(now, m)(m.log.Rekey(c.identity(), now, m.keys.Without())); err != nil {
			return err
		}
		act, err = m.log.Act(id, now, m.keys, args, m.mark)
	}
	if err != nil {
		return err
	}
	return c.act(now, m, act, ref)
}

// append returns what adds an entry that could be made.
func (c *Core) append(now time.Time, m *membership) func(room.Act, error) error {
	return func(act room.Act, err error) error {
		if err != nil {
			return err
		}
		return c.act(now, m, act, "")
	}
}

// answerAct does what a member asks for.
func (c *Core) answerAct(now time.Time, dev *device, body []byte) ([]Frame, error) {
	q, err := wire.ParseAct(body)
	if err != nil {
		return nil, err
	}
	m, err := c.roomFor(dev, q.Room)
	if err != nil {
		return nil, err
	}
	who := dev.person.account
	if err := m.log.State().May(who, q.Args); err != nil {
		return nil, c.ruleRefusal(m, err)
	}
	if a, ok := q.Args.(*wire.LogAdmit); ok && wasRemoved(m.log, a.Account) {
		return nil, &refusal{"not_member", c.people.nameOf(a.Account) + " was in " + m.chat() + " before: whoever left or was removed asks to be let in again"}
	}
	if _, err := c.takeOver(now, m, q.Args.Op(), c.wanted(now, m)); err != nil {
		return nil, c.ruleRefusal(m, err)
	}
	if err := c.wishes(now, m, who); err != nil {
		return nil, err
	}
	if err := c.carryOut(now, m, who, q.Args, ""); err != nil {
		return nil, c.ruleRefusal(m, err)
	}
	return []Frame{{wire.FrameDone, nil}}, nil
}

// What others have this device write into a room's log, by the person: a burst,
// and then so many a second. Otherwise who comes and goes all day would fill it.
const (
	wishRate       = 1.0 / 60 // of anybody, in and out included
	wishBurst      = 20
	adminWishRate  = 1.0 / 5 // of co-admins
	adminWishBurst = 200
	maxWishers     = 4096
)

// wishes reports whether a person may have something more written now.
func (c *Core) wishes(now time.Time, m *membership, who wire.AccountID) error {
	b := m.wishes[who]
	if b == nil {
		b = &delivery.Bucket{}
		if len(m.wishes) >= maxWishers {
			clear(m.wishes)
		}
		m.wishes[who] = b
	}
	b.Rate, b.Burst = wishRate, wishBurst
	if m.log.State().CoAdmin(who) {
		b.Rate, b.Burst = adminWishRate, adminWishBurst
	}
	if !b.Allow(now) {
		return &refusal{"rate_limited", m.chat() + ": you have asked for a lot in a short time: try again in a minute"}
	}
	return nil
}

// wanted returns since when others ask this device for something in the room:
// those in front, who should have done it, are given their time.
func (c *Core) wanted(now time.Time, m *membership) time.Time {
	if now.Sub(m.wantedAt) > room.RegencyAfter {
		m.wantedAt = now
	}
	return m.wantedAt
}

// ---- what a writer has to do by itself

// tend does what is for the writer to do without being asked: a new key where
// one is due, the record of who left, the end of bans that have lapsed and of
// a regency, removals on a side that lost. Who is not the writer does it too,
// where a regent may and nobody in front does.
func (c *Core) tend(now time.Time, m *membership) {
	m.tendAt = time.Time{}
	s := m.log.State()
	if c.rooms[m.id] != m || m.log.HeldFor(c.self.account) || s.Member(c.self.account) == nil || m.log.IsSuspended(c.self.account) {
		return
	}
	op, do := c.chore(now, m)
	if do == nil {
		m.due = time.Time{}
		return
	}
	if m.due.IsZero() {
		m.due = now
	}
	at, err := c.takeOver(now, m, op, m.due)
	if err != nil {
		if !at.IsZero() {
			m.tendAt = later(at, now.Add(tendAgain))
		}
		return // and each beacon looks again
	}
	if m.log.State().Head != s.Head {
		return // the CLAIM has led here again
	}
	m.due = time.Time{}
	if err := c.append(now, m)(do()); err != nil {
		c.stats.Forbidden++
		m.tendAt = now.Add(tendAgain)
	}
}

// chore returns what is to be done next; nil: nothing.
func (c *Core) chore(now time.Time, m *membership) (op wire.Op, do func() (room.Act, error)) {
	s, id := m.log.State(), c.identity()
	admin := s.Admin() == c.self.account
	if m.log.Held() && admin { // by two signatures of somebody behind
		return wire.OpClaim, func() (room.Act, error) { return m.log.Claim(id, now) }
	}
	if m.log.Held() || m.keys.RekeyDue(now) {
		return wire.OpRekey, func() (room.Act, error) { return m.log.Rekey(id, now, m.keys.Without()) }
	}
	for a := range m.told {
		if !m.log.IsSuspended(a) {
			delete(m.told, a) // settled
		}
	}
	for _, q := range m.log.Suspended() {
		if s.Seat(q.Account) > s.Seat(c.self.account) && c.upholds(now, m, q) {
			return wire.OpResolve, func() (room.Act, error) { return m.log.Resolve(id, now, q.Removal.Hash(), true, m.mark) }
		}
	}
	for _, who := range m.keys.Leavers() {
		switch {
		case s.Seat(who) <= s.Seat(c.self.account):
		case admin:
			return wire.OpLeft, func() (room.Act, error) { return m.log.Left(id, now, who, m.mark) }
		default: // a regent may not record a leave, but remove for who asks for it
			id.For = who
			return wire.OpKick, func() (room.Act, error) { return m.log.Kick(id, now, who, "", m.mark) }
		}
	}
	if !admin {
		return 0, nil
	}
	for _, who := range s.Lapsed(now) {
		return wire.OpUnban, func() (room.Act, error) { return m.log.Unban(id, now, who) }
	}
	if !s.Regent.IsZero() {
		return wire.OpClaim, func() (room.Act, error) { return m.log.Claim(id, now) }
	}
	return 0, nil
}
