package chat

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lanchat/node/delivery"
	"lanchat/node/room"
	"lanchat/wire"
)

// What follows when the halves of a network that was split meet again, and
// when somebody claims, or signs, what is not theirs.

const (
	maxDelayed = 128 // entries behind claims that are not believed yet

	alarmRate     = 1.0 / 60         // alarms a second about one device …
	alarmBurst    = 3                // … after so many
	askRate       = 1.0 / 60         // questions a second about the suspended …
	askBurst      = 10               // … after so many
	overruleRate  = 1.0 / 30         // answers a second to claims of who has somebody in front …
	overruleBurst = 5                // … after so many
	overruleAgain = 10 * time.Second // until it is looked whether there may be another one
)

// adopt returns the entries to be added to a room's log now. "A CLAIM is not
// acted on while a signed beacon of somebody in front of the claimant was heard
// in the last 45 s", so such a claim waits here, with what is built on it;
// "a present admin answers a false CLAIM with any entry, at once".
func (c *Core) adopt(now time.Time, m *membership, entries []*wire.Entry) []*wire.Entry {
	first, waited := m.delayedAt, m.delayed
	m.delayed, m.delayedAt, m.adoptAt = nil, time.Time{}, time.Time{}
	s := m.log.State()
	claims := func(e *wire.Entry) bool { // and it may count
		who, ok := s.Owner(e.Author)
		return e.Op() == wire.OpClaim && ok && who != s.Admin() && who != c.self.account && !m.log.Outranked(e.Prev, who)
	}
	waited = slices.DeleteFunc(waited, func(e *wire.Entry) bool { return m.log.Has(e.Hash()) })
	if !slices.ContainsFunc(waited, claims) && !slices.ContainsFunc(entries, claims) {
		return slices.Concat(waited, entries)
	}
	fresh := c.signed(m, waited, entries)
	tried, allowed := false, false
	held := map[wire.Hash]bool{}
	for _, claim := range fresh {
		if !claims(claim) {
			continue
		}
		claimant, _ := s.Owner(claim.Author)
		seat := s.Seat(claimant)
		if slices.ContainsFunc(fresh, func(e *wire.Entry) bool {
			who, ok := s.Owner(e.Author)
			return ok && s.Seat(who) < seat
		}) {
			continue // somebody in front has spoken
		}
		var until time.Time
		if s.Seat(c.self.account) < seat {
			// Each answer is an entry: who claims all day does not get one each time.
			if !tried {
				tried, allowed = true, m.overruled.Allow(now)
				if allowed && c.overrule(now, m, claimant) {
					return fresh
				}
			}
			if !allowed {
				until = now.Add(overruleAgain)
			}
		}
		until = later(until, c.silentInFront(now, m, seat))
		if first.IsZero() {
			first = now
		}
		if until = earliest(until, first.Add(room.RegencyAfter)); until.After(now) {
			held[claim.Hash()] = true
			if m.adoptAt.IsZero() || until.Before(m.adoptAt) {
				m.adoptAt = until
			}
		}
	}
	if len(held) == 0 {
		return fresh
	}
	m.delayedAt = first
	return slices.DeleteFunc(fresh, func(e *wire.Entry) bool {
		if !held[e.Hash()] && !held[e.Prev] {
			return false
		}
		held[e.Hash()] = true
		if len(m.delayed) < maxDelayed {
			m.delayed = append(m.delayed, e)
		}
		return true
	})
}

// signed returns entries that were looked at before, and behind them those of
// others that are new and verify: what only looks like a word of somebody in
// front is none.
func (c *Core) signed(m *membership, before, entries []*wire.Entry) []*wire.Entry {
	all, seen := slices.Clone(before), map[wire.Hash]bool{}
	for _, e := range before {
		seen[e.Hash()] = true
	}
	for _, e := range entries {
		if seen[e.Hash()] || m.log.Has(e.Hash()) {
			continue
		}
		seen[e.Hash()] = true
		if e.Verify(c.cfg.Realm) != nil {
			c.stats.Malformed++
			continue
		}
		all = append(all, e)
	}
	return all
}

// silentInFront returns when everybody in front of a seat who is heard now will
// have been silent for long enough; zero if nobody is.
func (c *Core) silentInFront(now time.Time, m *membership, seat int) (until time.Time) {
	for _, p := range m.log.State().Members[:seat] {
		for _, d := range c.devicesIn(m, p.Account) {
			if d != nil && d.id != c.self.device && d.present(now) {
				until = later(until, later(d.heard, c.started).Add(room.RegencyAfter))
			}
		}
	}
	return until
}

// overrule answers the CLAIM of somebody behind and reports whether there is
// nothing to wait for: who had heard this device all the time knew that the
// claim was false, and loses what was built on it; others could not know better.
func (c *Core) overrule(now time.Time, m *membership, claimant wire.AccountID) bool {
	admin := m.log.State().Admin() == c.self.account
	if m.recount.waits() {
		return false
	}
	if c.hereFor(now, m, claimant) < room.RegencyAfter {
		return admin
	}
	var err error
	switch {
	case admin:
		err = c.append(now, m)(m.log.Claim(c.identity(), now))
	case m.log.State().Regent == c.self.account: // who stands in cannot claim that again
		err = c.append(now, m)(m.log.Rekey(c.identity(), now, m.keys.Without()))
	default:
		_, err = c.takeOver(now, m, wire.OpRekey, time.Time{})
	}
	if err == nil {
		c.show(Notice{Code: "false_claim", Text: fmt.Sprintf("%s acted as if nobody in front of %[1]s in %s were there: that was undone", c.people.nameOf(claimant), m.chat())})
	}
	return err == nil
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// hereFor returns how long a member has been here without a pause, as far as
// this node can tell.
func (c *Core) hereFor(now time.Time, m *membership, a wire.AccountID) (longest time.Duration) {
	for _, d := range c.devicesIn(m, a) {
		if d.here() {
			longest = max(longest, now.Sub(later(d.since, c.started)))
		}
	}
	return longest
}

// merged tells what the merge of two branches undid here and why.
func (c *Core) merged(m *membership, change room.Change) {
	text := fmt.Sprintf("the history of %s was merged", m.chat())
	if who := c.frontmost(m, change.Applied); !who.IsZero() {
		text += fmt.Sprintf(": both sides had gone on, and what %s did counts, who sits in front", c.people.nameOf(who))
	}
	if undone := c.describeAll(m, change.Dropped); undone != "" {
		text += "; undone: " + undone
	}
	c.show(Notice{Code: "merged", Text: text, Data: map[string]any{"chat": m.chat(), "undone": len(change.Dropped)}})
	c.show(c.roomEvent(m, "merged", wire.AccountID{}, wire.AccountID{}, ""))
}

const (
	sideAfter    = time.Second // for the rest of a branch to come, before it is told of
	sideRate     = 1.0 / 60    // notices a second of what others did in vain …
	sideBurst    = 3           // … after so many: somebody may make branches all day
	maxLost      = 256         // entries to be told of
	maxSpread    = 64          // of them, multicast
	maxDescribed = 10          // deeds in one notice
)

// lost notes entries that do not count and never did here: what the other side
// of a split had done. Who signed two histories is told of by the alarm.
func (c *Core) lost(now time.Time, m *membership, change room.Change) {
	for _, e := range change.Added {
		if len(m.lost) < maxLost && !m.log.Counts(e.Hash()) {
			m.lost = append(m.lost, e)
		}
	}
	if len(m.lost) > 0 && m.lostAt.IsZero() {
		m.lostAt = now.Add(sideAfter)
	}
}

// tellLost tells what the other side had done in vain, and why it was. Who is in
// charge of the room sees to it that everybody in it knows.
func (c *Core) tellLost(now time.Time, m *membership) {
	type side struct {
		why    string
		undone []*wire.Entry
	}
	var sides []*side
	for _, e := range m.lost {
		why, ok := c.overruled(m, e)
		if !ok || c.describe(m, e) == "" {
			continue
		}
		i := slices.IndexFunc(sides, func(s *side) bool { return s.why == why })
		if i < 0 {
			i, sides = len(sides), append(sides, &side{why: why})
		}
		sides[i].undone = append(sides[i].undone, e)
	}
	lost := m.lost
	m.lost, m.lostAt = nil, time.Time{}
	if len(sides) == 0 || !m.lostTold.Allow(now) {
		return
	}
	if c.inCharge(m) == c.self.account && m.keys.Current() != nil {
		for _, e := range lost[:min(len(lost), maxSpread)] { // who wants more of them asks
			packet := c.seal(m, wire.KindLogEntry, wire.AppendBody(nil, &wire.LogEntry{Entry: e.Append(nil)}))
			c.multicast(now, m, packet)
		}
	}
	for _, s := range sides {
		c.show(Notice{Code: "merged", Text: fmt.Sprintf("the history of %s was merged: others had gone on apart, and %s; undone there: %s", m.chat(), s.why, c.describeAll(m, s.undone)),
			Data: map[string]any{"chat": m.chat(), "undone": len(s.undone)}})
	}
}

// overruled says why an entry does not count; ok is false if it does after all,
// is gone, or stands on one of two histories that one device signed.
func (c *Core) overruled(m *membership, e *wire.Entry) (why string, ok bool) {
	loss, ok := m.log.Loss(e.Hash())
	switch {
	case !ok || loss.Front.IsZero(), slices.ContainsFunc(m.log.Equivocations(), func(q room.Equivocation) bool { return q.Fork == loss.Fork }):
		return "", false
	case loss.Resigned != nil:
		return c.describe(m, loss.Resigned) + " before", true
	}
	return fmt.Sprintf("what %s did counts, who sits in front", c.people.nameOf(loss.Front)), true
}

// describeAll says in words what entries do, of many the first.
func (c *Core) describeAll(m *membership, entries []*wire.Entry) string {
	var deeds []string
	for _, e := range entries {
		if text := c.describe(m, e); text != "" {
			deeds = append(deeds, text)
		}
	}
	if more := len(deeds) - maxDescribed; more > 0 {
		deeds = append(deeds[:maxDescribed], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(deeds, "; ")
}

// frontmost returns which author of the entries sits in front.
func (c *Core) frontmost(m *membership, entries []*wire.Entry) (who wire.AccountID) {
	s := m.log.State()
	seat := len(s.Members)
	for _, e := range entries {
		if a, ok := s.Owner(e.Author); ok && s.Seat(a) < seat {
			who, seat = a, s.Seat(a)
		}
	}
	return who
}

// describe says in words what an entry does; "" for what is nobody's concern.
func (c *Core) describe(m *membership, e *wire.Entry) string {
	by, on := c.people.nameOf(c.byOf(m, e)), c.people.nameOf(room.Whom(e.Args))
	switch e.Op() {
	case wire.OpClaim, wire.OpRekey, wire.OpCreate:
		return ""
	case wire.OpAdmit:
		return by + " let " + on + " in"
	case wire.OpLeft:
		return on + " left"
	case wire.OpLeave:
		return by + " left"
	case wire.OpSettings:
		return by + " changed the topic"
	case wire.OpTransfer:
		return by + " handed the room over to " + on
	case wire.OpDevice:
		return by + " changed the devices of " + on
	case wire.OpResolve:
		return by + " decided about " + on
	}
	return by + " " + causes[e.Op()] + " " + on
}

// byOf returns who an entry is to be ascribed to: who asked for it, or who
// wrote it. A person who left is a member no longer.
func (c *Core) byOf(m *membership, e *wire.Entry) wire.AccountID {
	if !e.For.IsZero() {
		return e.For
	}
	if a, ok := m.log.State().Owner(e.Author); ok {
		return a
	}
	if d := c.people.devices[e.Author.Device()]; d != nil {
		return d.person.account
	}
	return wire.AccountID{}
}

// reissue has what this device wrote on the side that lost done again, "where
// still allowed". Removals are the writer's to judge: see chore.
func (c *Core) reissue(now time.Time, m *membership, dropped []*wire.Entry) {
	for _, e := range dropped {
		if e.Author != c.self.key || c.rooms[m.id] != m {
			continue
		}
		switch a := e.Args.(type) {
		case *wire.LogBan:
			if m.log.State().Member(a.Account) != nil {
				continue
			}
		case *wire.LogAdmit:
			if wasRemoved(m.log, a.Account) {
				continue
			}
		case *wire.LogUnban, *wire.LogPromote, *wire.LogDemote, *wire.LogSilence, *wire.LogUnsilence, *wire.LogSettings:
		case *wire.LogDevice:
			if a.Remove {
				continue
			}
		default:
			continue
		}
		if m.log.State().May(c.self.account, e.Args) == nil {
			c.request(now, m, e.Args, "", true)
		}
	}
}

// ---- removals on a side that lost

// banUpheld has somebody kept out whose ban on a side that lost this device has
// upheld: the RESOLVE only removes.
func (c *Core) banUpheld(now time.Time, m *membership, e *wire.Entry) {
	a, ok := e.Args.(*wire.LogResolve)
	if !ok || !a.Uphold {
		return
	}
	removal := m.log.Get(a.Removal)
	if removal == nil {
		return
	}
	b, ok := removal.Args.(*wire.LogBan)
	if !ok {
		return
	}
	if until := room.TimeOf(b.Until); until.IsZero() || now.Before(until) {
		c.request(now, m, &wire.LogBan{Account: b.Account, Until: b.Until, Reason: b.Reason}, "", true)
	}
}

// upholds reports whether the writer's client settles a removal by itself: "if
// the author was a co-admin or the writer was offline then; otherwise asks". What
// somebody signed who is in the room no longer, it asks about in any case: that
// may have been signed at any time since, and says what its author likes.
func (c *Core) upholds(now time.Time, m *membership, q room.Suspension) bool {
	e, s := q.Removal, m.log.State()
	offline := room.TimeOf(e.Time).Before(c.started)
	asked := e.For == q.Account || e.Op() == wire.OpLeft // the person's own wish
	in := s.Member(q.By) != nil
	if in && (asked || offline || q.By == c.self.account || s.CoAdmin(q.By) || s.CoAdmin(e.For)) {
		return true
	}
	if c.inCharge(m) != c.self.account || m.told[q.Account] || !m.asks.Allow(now) {
		return false
	}
	m.told[q.Account] = true
	name, by := c.people.nameOf(q.Account), c.people.nameOf(q.By)
	text := fmt.Sprintf("%s in %s, on the side that does not count, while you were apart; %s gets no keys until you decide: /resolve %s uphold removes %s here too, /resolve %s dismiss takes %s back",
		c.describe(m, e), m.chat(), name, name, name, name, name)
	if !in {
		text += fmt.Sprintf("; %s is out of the room: /ban %s dismisses this and whatever %s signed there", by, by, by)
	}
	c.show(Notice{Code: "resolve", Text: text, Data: map[string]string{"chat": m.chat(), "user": name}})
	return false
}

func (c *Core) doResolve(k *call) {
	m, p := c.target(k)
	if m == nil {
		return
	}
	uphold := strings.EqualFold(k.args[1], "uphold")
	if !uphold && !strings.EqualFold(k.args[1], "dismiss") {
		c.refuse(k.ref, "bad_argument", "usage: /resolve user uphold|dismiss")
		return
	}
	suspended := m.log.Suspended()
	suspended = slices.DeleteFunc(suspended, func(q room.Suspension) bool { return q.Account != p.account })
	if len(suspended) == 0 {
		c.refuse(k.ref, "bad_argument", "no removal of %s stands open in %s", p.name, m.chat())
		return
	}
	if _, err := c.takeOver(k.now, m, wire.OpResolve, k.now); err != nil {
		c.refuseGoverning(k.ref, m, err)
		return
	}
	for i, q := range suspended {
		// Once a removal is upheld the others have nothing to remove.
		if uphold && i > 0 {
			break
		}
		act, err := m.log.Resolve(c.identity(), k.now, q.Removal.Hash(), uphold, m.mark)
		if err == nil {
			err = c.act(k.now, m, act, k.ref)
		}
		if err != nil {
			c.refuseRule(k.ref, m.chat(), err)
			return
		}
	}
}

// refuseGoverning turns what takeOver says into an error for people.
func (c *Core) refuseGoverning(ref string, m *membership, err error) {
	if no, ok := err.(*refusal); ok {
		c.refuse(ref, "not_admin", "%s", no.text)
		return
	}
	c.refuseRule(ref, m.chat(), err)
}

// ---- double signing

// alarm tells of a device that signed twice and spreads the proof. What it signs
// then makes it no guiltier: a branch that is pushed out by others and comes
// back from a member would be told of, and spread, without an end.
func (c *Core) alarm(now time.Time, m *membership, q room.Equivocation) {
	if m.alarms[q.A.Author] == nil {
		m.alarms[q.A.Author] = &delivery.Bucket{Rate: alarmRate, Burst: alarmBurst}
	}
	if !m.alarms[q.A.Author].Allow(now) {
		return
	}
	who := "device " + q.A.Author.Device().String()
	if d := c.people.devices[q.A.Author.Device()]; d != nil {
		who = d.person.name
	}
	text, held := fmt.Sprintf("%s signed two histories of %s: ", who, m.chat()), m.log.HeldFor(c.self.account)
	if held {
		text += fmt.Sprintf("%s; %s stands still here until you decide which one counts, after talking to the others: /decide 1, or another number", c.numbered(m, m.log.Between()), m.chat())
	} else {
		text += c.numbered(m, []*wire.Entry{q.A, q.B}) + "; the one that came first counts here"
	}
	c.show(Notice{Code: "double_signing", Text: text, Data: map[string]any{"chat": m.chat(), "user": who, "held": held,
		"entries": []string{q.A.Hash().String(), q.B.Hash().String()}}})
	for _, d := range c.linkedIn(m) {
		c.prove(d, q)
	}
}

// numbered describes entries, as "1. ann left; 2. ann kicked bob".
func (c *Core) numbered(m *membership, entries []*wire.Entry) string {
	var all []string
	for i, e := range entries {
		all = append(all, fmt.Sprintf("%d. %s", i+1, cmp.Or(c.describe(m, e), causes[e.Op()])))
	}
	return strings.Join(all, "; ")
}

// prove gives a device both entries of somebody who signed twice.
func (c *Core) prove(d *device, q room.Equivocation) {
	for _, e := range []*wire.Entry{q.A, q.B} {
		c.send(Push{To: d.id, Type: wire.FrameEntry, Body: e.Append(nil)})
	}
}

// maxProofs is how many double signatures of a room a device is told of when
// it comes: one is enough to know, and its log brings the others.
const maxProofs = 4

const proveAfter = 3 * time.Second // after the link came up

// proveLater tells a device that has come who signed twice in its rooms: it was
// away when the alarm went, and from where the logs agree it would not learn.
// What it had not applied of them it has got by then with the rest of the log,
// so that both come at once, and it decides which counts.
func (c *Core) proveLater(now time.Time, d *device) {
	for _, m := range c.sortedRooms() {
		if _, member := m.log.State().Owner(d.key); !member || len(m.log.Equivocations()) == 0 {
			continue
		}
		c.after(now, proveAfter, func(time.Time) {
			if c.rooms[m.id] != m || !d.linked {
				return
			}
			twice := m.log.Equivocations()
			for _, q := range twice[:min(len(twice), maxProofs)] {
				c.prove(d, q)
			}
		})
	}
}

func (c *Core) doDecide(k *call) {
	m := c.roomOf(k)
	if m == nil {
		return
	}
	n, err := strconv.Atoi(k.args[0])
	between := m.log.Between()
	if !m.log.Held() {
		c.refuse(k.ref, "bad_argument", "there is nothing to decide in %s", m.chat())
		return
	}
	if err != nil || n < 1 || n > len(between) {
		c.refuse(k.ref, "bad_argument", "usage: /decide and a number: %s", c.numbered(m, between))
		return
	}
	e := between[n-1]
	change, err := m.log.Decide(e.Hash())
	if err != nil {
		c.refuseRule(k.ref, m.chat(), err)
		return
	}
	c.saveApplied(m)
	c.show(Notice{Code: "decided", Text: fmt.Sprintf("in %s counts what %s", m.chat(), cmp.Or(c.describe(m, e), "you chose")), Ref: k.ref})
	c.changed(k.now, m, change, k.ref)
}

// saveApplied keeps what ever counted here of a log that does not depend on its
// entries alone.
func (c *Core) saveApplied(m *membership) {
	m.decided = true
	for _, h := range m.log.Applied() {
		c.save(SaveApplied{Room: m.id, Hash: h})
	}
}
