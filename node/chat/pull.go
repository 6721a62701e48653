package chat

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"lanchat/node/room"
	"lanchat/wire"
)

// Away and back: a member that missed messages of a room gets them from any
// other, whether or not their authors are there. It says how far it has them,
// and is given the next page of what lies behind that, each message with its
// author's signature. See wire.Vector.
//
//	a link comes up ──────┐
//	a member has more     │
//	messages are missing ─┴► wait ─► ask one member ─► something new: again
//	                          ▲                        nothing: the next, at most
//	                          └── still missing ◄───── pullDry in a row
//
// That a member has more it says by what it acknowledges, which all hear. So
// words come to those who don't hear their author, by way of somebody who does.
//
// One question of a room is under way at a time. Who asks when is left to
// chance, the more so the larger the room, and who is asked by many at once
// says so: not all ask the same member for the same thing.

const (
	pullSoon   = 100 * time.Millisecond // after a link came up, plus chance …
	pullSpread = 20 * time.Millisecond  // … of this for each member
	pullGap    = time.Second            // that repair is given before others than the author are asked
	pullDry    = 3                      // members asked in a row that have nothing new
	pullFirst  = 5 * time.Second        // between questions while messages are still missing
	pullMost   = 5 * time.Minute
	pullVain   = 5 * time.Second // that a member's word is not believed after it had nothing, each time twice as long …
	vainMost   = time.Minute     // … and at most
	pullPage   = 512             // messages in one answer
	maxPages   = 8               // answers being looked up at the same time
)

// A pull is how far a room is with what it missed.
type pull struct {
	at     time.Time       // when to ask next; zero: nothing to ask for
	from   []wire.DeviceID // whose link came up since they were last asked
	asking bool
	asked  time.Time                // last
	claims map[wire.DeviceID]claim  // by author: what is said to be there and is not here
	vain   map[wire.DeviceID]doubts // whose claims came to nothing
	dry    int                      // members in a row that had nothing new
	pause  time.Duration            // before the next question while messages are missing
}

// A claim is the word of a member that it has an author's messages up to a number.
type claim struct {
	by     wire.DeviceID
	number uint64
	heard  time.Time
}

// doubts is for how long a member's word is not believed.
type doubts struct {
	until time.Time
	wait  time.Duration
}

// claimed takes a member's word that it has messages, and plans to ask for those
// that are not here.
func (c *Core) claimed(now time.Time, m *membership, by, author wire.DeviceID, number uint64) {
	p := &m.pull
	if m.has(author, number) || number <= p.claims[author].number || author == c.self.device || now.Before(p.vain[by].until) {
		return
	}
	p.claims[author] = claim{by, number, now}
	if d := c.people.devices[author]; d != nil && d.online {
		c.planPull(now, m, pullGap+c.jitter(pullGap)) // the author repairs that sooner
	} else {
		c.planPull(now, m, c.pullWait(m))
	}
}

// pullWait returns how long to wait before asking a member that has more.
func (c *Core) pullWait(m *membership) time.Duration {
	return pullSoon + c.jitter(pullSoon+time.Duration(len(m.log.State().Members))*pullSpread)
}

// pullFromLinked plans to ask a device whose link has just come up what was
// missed of the rooms one shares with it.
func (c *Core) pullFromLinked(now time.Time, dev *device) {
	for _, m := range c.rooms {
		if _, member := m.log.State().Owner(dev.key); !member {
			continue
		}
		if !slices.Contains(m.pull.from, dev.id) {
			m.pull.from = append(m.pull.from, dev.id)
		}
		m.pull.dry, m.pull.pause = 0, pullFirst
		c.planPull(now, m, c.pullWait(m))
	}
}

// pullMissing plans to ask others for what does not come from its author.
func (c *Core) pullMissing(now time.Time, m *membership) {
	m.pull.dry, m.pull.pause = 0, pullFirst
	c.planPull(now, m, pullGap+c.jitter(pullGap))
}

// planPull has somebody asked, wait from now at the latest.
func (c *Core) planPull(now time.Time, m *membership, wait time.Duration) {
	if at := now.Add(wait); m.pull.at.IsZero() || at.Before(m.pull.at) {
		m.pull.at = at
	}
	c.schedule(m)
}

// missing reports whether messages of the room are known to exist and have not
// come.
func (m *membership) missing() bool {
	for _, a := range m.authors {
		if a.inbox.Missing() > 0 {
			return true
		}
	}
	return false
}

// has reports whether a device's messages up to n have come.
func (m *membership) has(author wire.DeviceID, n uint64) bool {
	a := m.authors[author]
	return a != nil && a.inbox.Received() >= n
}

// askPull asks the next member for what was missed, if there is one to ask.
func (c *Core) askPull(now time.Time, m *membership) {
	m.pull.at = time.Time{}
	if m.pull.asking {
		return
	}
	to := c.pullNext(m)
	if to == nil {
		return
	}
	m.pull.asking, m.pull.asked = true, now
	c.askPage(m, to, c.vector(m, wire.DeviceID{}))
}

// pullNext returns whom to ask: a member whose link came up, one that has more,
// or anybody as long as messages are missing; nil: nobody.
func (c *Core) pullNext(m *membership) *device {
	linked := c.linkedIn(m)
	for len(m.pull.from) > 0 {
		if i := slices.IndexFunc(linked, func(d *device) bool { return d.id == m.pull.from[0] }); i >= 0 {
			return linked[i]
		}
		m.pull.from = m.pull.from[1:]
	}
	for _, author := range slices.SortedFunc(maps.Keys(m.pull.claims), func(a, b wire.DeviceID) int { return bytes.Compare(a[:], b[:]) }) {
		claim := m.pull.claims[author]
		if m.has(author, claim.number) {
			delete(m.pull.claims, author)
		} else if i := slices.IndexFunc(linked, func(d *device) bool { return d.id == claim.by }); i >= 0 {
			return linked[i]
		}
	}
	if len(linked) == 0 || !m.missing() && len(m.pull.claims) == 0 {
		return nil
	}
	return linked[int(c.jitter(time.Duration(len(linked))))]
}

// vector says how far this node has the room's messages, of the devices above
// after, its own too.
func (c *Core) vector(m *membership, after wire.DeviceID) *wire.Vector {
	v := &wire.Vector{Room: m.id, After: after}
	add := func(d wire.DeviceID, n uint64) {
		if n > 0 && slices.Compare(d[:], after[:]) > 0 {
			v.Has = append(v.Has, wire.Have{Device: d, Number: n})
		}
	}
	for _, a := range m.authors {
		if a.device != c.self.device {
			add(a.device, a.inbox.Received())
		}
	}
	add(c.self.device, m.out.Last())
	sortHave(v.Has)
	v.Has = v.Has[:min(len(v.Has), wire.MaxHave)]
	return v
}

func (c *Core) askPage(m *membership, to *device, v *wire.Vector) {
	c.ask(to.id, wire.FramePull, v.Append(nil), func(now time.Time, frames []Frame, err error) {
		if c.rooms[m.id] != m {
			return
		}
		fresh, strange := c.takePage(now, m, to, frames)
		if full := len(v.Has) == wire.MaxHave; full && err == nil && !fresh {
			c.askPage(m, to, c.vector(m, v.Has[len(v.Has)-1].Device)) // of the other devices
			return
		}
		m.pull.asking = false
		c.pulled(now, m, to, fresh, strange, err)
	})
}

// takePage takes the messages of an answer. fresh reports whether one was new,
// strange whether one is of an epoch that is not in this node's log.
func (c *Core) takePage(now time.Time, m *membership, from *device, frames []Frame) (fresh, strange bool) {
	for _, f := range frames {
		if f.Type != wire.FrameSigned {
			continue
		}
		s, err := wire.ParseSigned(f.Body)
		if err != nil || s.Room != m.id {
			c.stats.Malformed++
			continue
		}
		if m.log.EpochInfo(s.Entry) == nil {
			strange = true
			continue
		}
		news, err := c.takeSigned(now, m, s, from.id)
		if err != nil {
			c.stats.Malformed++
		}
		fresh = fresh || news
	}
	return fresh, strange
}

// pulled decides whom to ask next, after an answer of a member.
func (c *Core) pulled(now time.Time, m *membership, from *device, fresh, strange bool, err error) {
	p := &m.pull
	if r, ok := err.(*refusal); ok && r.code == busy {
		c.planPull(now, m, pullGap+c.jitter(pullGap))
		return
	}
	if strange {
		c.askLog(now, m, from.id) // entries first
	}
	switch {
	case fresh:
		p.dry, p.pause = 0, pullFirst
		delete(p.vain, from.id)
		c.planPull(now, m, 0) // there may be more where that came from
		return
	case strange && p.dry < pullDry:
		p.dry++
		c.planPull(now, m, keyRetry)
		return
	}
	p.dry++
	p.from = slices.DeleteFunc(p.from, func(d wire.DeviceID) bool { return d == from.id })
	vain := false
	maps.DeleteFunc(p.claims, func(author wire.DeviceID, c claim) bool {
		answered := c.by == from.id && !c.heard.After(p.asked)
		vain = vain || answered && err == nil && !m.has(author, c.number)
		return answered
	})
	if vain {
		wait := min(max(2*p.vain[from.id].wait, pullVain), vainMost)
		p.vain[from.id] = doubts{now.Add(wait), wait}
	}
	if p.dry >= pullDry { // if these have nothing new, neither have the others
		p.from = nil
		clear(p.claims)
	}
	switch {
	case len(p.from)+len(p.claims) > 0:
		c.planPull(now, m, c.jitter(pullSoon))
	case m.missing():
		wait := cmp.Or(p.pause, pullFirst)
		p.pause = min(2*wait, pullMost)
		c.planPull(now, m, wait)
	}
}

// busy is the code of a refusal that asks to come back later.
const busy = "busy"

// Missed asks the node's own store for reliable messages of a room that come
// after what somebody has, with their signatures; the answer comes back by
// HandleMissed.
type Missed struct {
	Room     wire.RoomID
	After    []wire.Have // a device and the number after which its messages are wanted
	Limit    int
	to       wire.DeviceID // who misses them
	question uint64
}

func (Missed) send() {}

// answerPull looks for what a member misses, and reports whether there is any:
// then the store is asked, and the answer follows.
func (c *Core) answerPull(now time.Time, dev *device, question uint64, body []byte) (later bool, err error) {
	v, err := wire.ParseVector(body)
	if err != nil {
		return false, err
	}
	m, err := c.roomFor(dev, v.Room)
	if err != nil {
		return false, err
	}
	has := make(map[wire.DeviceID]uint64, len(v.Has))
	for _, h := range v.Has {
		has[h.Device] = h.Number
	}
	if n := has[c.self.device]; n > m.out.Last() && n < wire.HaveAll {
		c.doubt(now, m, dev.id)
	}
	var after []wire.Have
	look := func(d wire.DeviceID, mine uint64) {
		if n := has[d]; mine > n && v.Covers(d) && len(after) < wire.MaxHave {
			after = append(after, wire.Have{Device: d, Number: n})
		}
	}
	for _, a := range m.authors {
		done, _ := a.inbox.Position()
		look(a.device, done)
	}
	look(c.self.device, m.out.Last())
	if len(after) == 0 {
		return false, nil
	}
	if c.pages >= maxPages {
		return false, &refusal{busy, "others are being served: try again in a moment"}
	}
	c.pages++
	c.send(Missed{Room: m.id, After: after, Limit: pullPage, to: dev.id, question: question})
	return true, nil
}

// HandleMissed answers with what the store has, as far as the device was in the
// epoch of each message: R5, "old messages only to devices of that message's
// epoch".
func (c *Core) HandleMissed(q Missed, found []SaveMessage, err error) {
	var frames []Frame
	m, to := c.rooms[q.Room], c.people.devices[q.to]
	switch {
	case err != nil:
		r := wire.Refused{Code: "failed", Text: "the messages can't be read here"}
		frames = []Frame{{wire.FrameRefused, r.Append(nil)}}
	case m != nil && to != nil:
		frames = signedFor(m, to, found)
		if len(frames) == 0 && len(found) == q.Limit {
			q.After = behind(q.After, found) // none of these, but perhaps later ones
			c.send(q)
			return
		}
	}
	c.pages--
	c.send(Answer{Question: q.question, Frames: frames})
}

// signedFor returns the messages that a device is entitled to.
func signedFor(m *membership, to *device, found []SaveMessage) (frames []Frame) {
	epochs := map[wire.Hash]bool{}
	for i, f := range found {
		if i > 0 && bytes.Equal(f.Raw, found[i-1].Raw) {
			continue // of the same pack
		}
		may, known := epochs[f.Epoch]
		if !known {
			if info := m.log.EpochInfo(f.Epoch); info != nil {
				_, may = info.Slot(to.key)
			}
			epochs[f.Epoch] = may
		}
		if may && len(f.Raw) > 0 {
			s := wire.Signed{Room: m.id, Entry: f.Epoch, Signed: f.Raw}
			frames = append(frames, Frame{wire.FrameSigned, s.Append(nil)})
		}
	}
	return frames
}

// behind returns where to go on after what was found.
func behind(after []wire.Have, found []SaveMessage) []wire.Have {
	after = slices.Clone(after)
	for i := range after {
		for _, f := range found {
			if f.Device == after[i].Device {
				after[i].Number = max(after[i].Number, f.Number)
			}
		}
	}
	return after
}

// bases says, to who was just let in, where the messages of others begin.
func (c *Core) bases(m *membership, newcomer wire.DeviceID) Frame {
	v := wire.Vector{Room: m.id}
	for _, a := range m.authors {
		if done, _ := a.inbox.Position(); done > 0 && a.device != newcomer && len(v.Has) < wire.MaxHave {
			v.Has = append(v.Has, wire.Have{Device: a.device, Number: done})
		}
	}
	sortHave(v.Has)
	return Frame{wire.FrameBases, v.Append(nil)}
}

func sortHave(has []wire.Have) {
	slices.SortFunc(has, func(a, b wire.Have) int { return slices.Compare(a.Device[:], b.Device[:]) })
}

// handleBases takes the writer's word where the messages of members begin that
// were not there when it let this device in. Those that are say it themselves.
func (c *Core) handleBases(now time.Time, m *membership, body []byte) error {
	v, err := wire.ParseVector(body)
	if err != nil {
		return err
	}
	for _, h := range v.Has {
		if h.Device != c.self.device {
			c.skip(now, m, h.Device, h.Number)
		}
	}
	return nil
}

// takeSigned takes a message from history, which its author's signature vouches
// for, whoever hands it on. fresh reports whether it is new.
func (c *Core) takeSigned(now time.Time, m *membership, s *wire.Signed, from wire.DeviceID) (fresh bool, err error) {
	info := m.log.EpochInfo(s.Entry)
	if info == nil {
		return false, nil
	}
	o, err := room.OpenSigned(c.cfg.Realm, m.id, info, s.Signed)
	if err != nil {
		return false, err
	}
	if !o.Reliable {
		c.stats.Forbidden++
		return false, nil
	}
	if c.bursts.check(o, func() verdict {
		if err = o.Verify(); err != nil {
			return malformed
		}
		return fine
	}) != fine {
		return false, err
	}
	body, err := o.Parse()
	if err != nil {
		return false, err
	}
	c.clock = c.clock.Merge(now, o.Clock)
	var messages []wire.Message
	switch b := body.(type) {
	case *wire.Message:
		messages = []wire.Message{*b}
	case *wire.Pack:
		messages = b.Messages
	}
	take := func(msg wire.Message) bool { return c.takeOwn(now, m, o, msg) }
	if o.From.Device != c.self.device {
		a := c.author(m, o.From.Device)
		c.touch(m, a)
		take = func(msg wire.Message) bool { return c.handleMessage(now, m, a, o, msg, !c.saidHere(now, o, from)) }
	}
	if n, ok := body.(*wire.Notice); ok && mayCount(m.log.State(), o, n.Number) {
		fresh = c.takeNotice(now, m, o, n, from)
	}
	for _, msg := range messages {
		if !mayCount(m.log.State(), o, msg.Number) {
			c.stats.Forbidden++
			continue
		}
		fresh = take(msg) || fresh
	}
	c.schedule(m)
	return fresh, nil
}

// mayCount reports whether a message from history counts: its author is a
// member, or was one when it was written. "KICK, BAN and LEFT carry, for each
// device of the person, the highest rseq its author has: later messages of that
// device under old epochs are refused".
func mayCount(s *room.State, o *room.Opened, n uint64) bool {
	if cut, ok := s.Cut(o.From.Key); ok && o.Epoch.Seq < cut.Seq {
		return n <= cut.Number
	}
	return s.Member(o.From.Account) != nil
}

// saidHere reports whether a message from history is news all the same: it was
// said while its author was online here, and a look for what was missed brought
// it sooner than its packet, since who has just come asks while others go on
// talking; or a moment ago, and who hands it on was online here.
func (c *Core) saidHere(now time.Time, o *room.Opened, from wire.DeviceID) bool {
	said := o.Clock.Time()
	here := func(id wire.DeviceID) bool {
		d := c.people.devices[id]
		return d != nil && d.online && said.After(d.since)
	}
	return here(o.From.Device) || now.Sub(said) < newsFor && here(from)
}

// newsFor is how long what comes by way of others is news.
const newsFor = 5 * time.Second
