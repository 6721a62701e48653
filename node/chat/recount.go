package chat

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"lanchat/node/room"
	"lanchat/wire"
)

// The store may be an old copy that was put back. What this device has sent
// since is then known to others and not here: a new message would take a number
// that they know already and drop, and a new entry of a log would be a second
// signature beside the first. So before this device numbers anything in a room
// it has not just made, it asks a member for the log and for its own messages:
//
//	start ──► waits ──a member has answered──► done
//	          │   ▲ └──nobody there, or nobody answers──► goes on, not done
//	          │   └──link with a member, or it claims to know more── ┘
//
// What is believed is what this device has signed itself: a bare number is
// none, or a member could push anybody's numbers to the end. If somebody shows
// a message only after its number was used again (nobody was there before, or
// only who did not know it), what was said under it is said once more.
//
// Numbers of direct messages, of fast ones and of packets need none of this:
// they begin with the number of the start, which rises even so.

const (
	recountAlone = 3 * time.Second // after the start, for somebody to turn up
	recountFor   = 3 * time.Second // for an answer
	recountAgain = time.Second     // after one that did not help
	recountTries = 3               // that a device is waited for

	// A room's last messages, to be said once more.
	maxRemembered     = 256
	maxRememberedSize = 256 << 10 // bytes of text
)

// A recount is how sure it is that a room's numbers here are not old ones.
type recount struct {
	done   bool
	until  time.Time // nothing is numbered before; zero: no need to wait
	asking bool
	tries  map[wire.DeviceID]int
	older  bool                   // numbers came up that this device had used and did not know …
	told   map[wire.DeviceID]bool // … and who has said since what it knows of them
	start  uint64                 // the last number there was
	base   uint64                 // up to here the numbers are what this device has signed
	said   []said                 // with numbers behind that, the last of them
	size   int                    // bytes of text in said
	again  []said                 // whose numbers were taken
	then   []func(now time.Time)
}

// said is a reliable message as it was sent.
type said struct {
	number uint64
	raw    []byte
	saying saying
}

// waits reports whether nothing may be numbered or signed yet.
func (p *recount) waits() bool { return !p.done && !p.until.IsZero() }

func (c *Core) newRecount(now time.Time, m *membership) {
	m.recount = recount{until: now.Add(recountAlone), tries: map[wire.DeviceID]int{}, told: map[wire.DeviceID]bool{}, base: m.out.Last(), start: m.out.Last()}
}

// errUncounted says that this device can't write to a log yet; who asks it to
// asks again.
var errUncounted = &refusal{"not_writer", "this node has just started and compares the room's log with others: try again in a moment"}

// recountWith has a device that there is a link to now asked about the rooms that
// it is in.
func (c *Core) recountWith(now time.Time, d *device) {
	for _, m := range c.sortedRooms() {
		if _, member := m.log.State().Owner(d.key); member {
			c.recount(now, m, d)
		}
	}
}

// doubt notes that a device claims to know more of this device's messages in a
// room than there are.
func (c *Core) doubt(now time.Time, m *membership, d wire.DeviceID) {
	if known := c.people.devices[d]; known != nil && known.linked && m.recount.tries[d] < recountTries {
		m.recount.done = false
		c.recount(now, m, known)
	}
}

// recountNext asks the next member, if there is one.
func (c *Core) recountNext(now time.Time, m *membership) {
	if c.rooms[m.id] != m {
		return
	}
	for _, d := range c.linkedIn(m) {
		c.recount(now, m, d)
	}
}

// recount asks a device for the room's log, and then for this device's messages.
func (c *Core) recount(now time.Time, m *membership, d *device) {
	p := &m.recount
	if p.older && !p.told[d.id] {
		p.done = false
	}
	if p.done || p.asking || d.id == c.self.device || p.tries[d.id] >= recountTries {
		return
	}
	if p.tries[d.id]++; p.older {
		p.base = p.start // from the beginning: what others know of low numbers may differ
	}
	p.asking, p.until = true, now.Add(recountFor)
	c.schedule(m)
	q := wire.LogRange{Room: m.id, From: m.log.State().Seq - min(m.log.State().Seq, overlap)}
	c.ask(d.id, wire.FrameLog, q.Append(nil), func(now time.Time, frames []Frame, err error) {
		if c.rooms[m.id] != m {
			return
		}
		if err == nil {
			c.addEntries(now, m, entriesIn(frames), d.id)
		}
		if c.rooms[m.id] != m {
			return
		}
		if _, member := m.log.State().Owner(d.key); err != nil || !member {
			c.recountLater(now, m)
			return
		}
		c.askKey(m, d.id)
		c.recountOwn(now, m, d)
	})
}

// recountLater has somebody asked a moment later.
func (c *Core) recountLater(now time.Time, m *membership) {
	c.after(now, recountAgain, func(now time.Time) {
		m.recount.asking = false
		c.recountNext(now, m)
	})
}

// recountOwn asks a device for this device's messages, page by page.
func (c *Core) recountOwn(now time.Time, m *membership, d *device) {
	p, before := &m.recount, m.recount.base
	p.until = now.Add(recountFor)
	c.schedule(m)
	c.ask(d.id, wire.FramePull, c.ownVector(m).Append(nil), func(now time.Time, frames []Frame, err error) {
		if c.rooms[m.id] != m {
			return
		}
		_, strange := c.takePage(now, m, d, frames)
		switch {
		case p.base > before:
			c.recountOwn(now, m, d)
		case err != nil || strange:
			c.recountLater(now, m)
		default:
			p.asking, p.done, p.told[d.id] = false, true, true
			if p.older {
				c.recountNext(now, m) // others may know others
			}
			if p.done {
				c.goOn(now, m)
			}
		}
	})
}

// ownVector asks for this device's messages in a room and for nobody else's.
func (c *Core) ownVector(m *membership) *wire.Vector {
	v := &wire.Vector{Room: m.id}
	known := map[wire.DeviceID]bool{}
	add := func(d wire.DeviceID, n uint64) {
		if n > 0 && !known[d] && len(v.Has) < wire.MaxHave-1 {
			known[d] = true
			v.Has = append(v.Has, wire.Have{Device: d, Number: n})
		}
	}
	add(c.self.device, m.recount.base)
	known[c.self.device] = true
	for _, a := range m.authors {
		add(a.device, wire.HaveAll)
	}
	for _, p := range m.log.State().Members {
		for _, d := range p.Devices {
			add(d.ID, wire.HaveAll)
		}
	}
	sortHave(v.Has)
	return v
}

// goOn does what has waited.
func (c *Core) goOn(now time.Time, m *membership) {
	p := &m.recount
	p.until = time.Time{}
	if n := len(p.again); n > 0 {
		c.show(Notice{Code: "sent_again", Text: fmt.Sprintf("the others know older messages of yours in %s by the numbers of %d that you wrote while they were away: your data came from an older copy; those are sent again", m.chat(), n),
			Data: map[string]any{"chat": m.chat(), "messages": n}})
		var again []saying
		for _, s := range p.again {
			again = append(again, s.saying)
		}
		m.waiting, p.again = slices.Concat(again, m.waiting), nil
	}
	for _, r := range m.requests {
		if !r.asked && !r.done {
			r.next = now
		}
	}
	then := p.then
	p.then = nil
	for _, f := range then {
		f(now)
	}
	if c.rooms[m.id] == m {
		c.checkKey(now, m)
		c.schedule(m)
	}
}

// afterRecount does something that signs or numbers once that may be.
func (c *Core) afterRecount(now time.Time, m *membership, do func(now time.Time)) {
	if m.recount.waits() {
		m.recount.then = append(m.recount.then, do)
		return
	}
	do(now)
}

// remember keeps what was said under a number.
func (p *recount) remember(number uint64, raw []byte, s saying) {
	p.said = append(p.said, said{number, raw, s})
	p.size += len(s.text)
	drop := 0
	for ; len(p.said)-drop > maxRemembered || p.size > maxRememberedSize; drop++ {
		p.size -= len(p.said[drop].saying.text)
	}
	clear(p.said[:drop])
	p.said = p.said[drop:] // append moves them once in a while
}

// takeOwn takes a message that this very device has signed, from who has it, and
// reports whether it is not here.
func (c *Core) takeOwn(now time.Time, m *membership, o *room.Opened, msg wire.Message) (fresh bool) {
	if fresh = c.takeOwnNumber(now, m, o, msg.Number); fresh {
		c.deliverOwn(now, m, o, msg, false)
	}
	return fresh
}

func (c *Core) deliverOwn(now time.Time, m *membership, o *room.Opened, msg wire.Message, long bool) {
	c.deliver(now, m, arrival{from: o.From, clock: o.Clock, mode: Reliable, message: msg, raw: o.Signed, epoch: o.Epoch.Entry, replay: true, long: long}, false)
}

// takeOwnNumber goes on counting behind a message of this very device, and
// reports whether that is not the one it knows by the number.
func (c *Core) takeOwnNumber(now time.Time, m *membership, o *room.Opened, n uint64) bool {
	p := &m.recount
	if n > m.out.Last() {
		if !p.older && len(p.said) > 0 {
			p.older = true
			clear(p.told)
			c.after(now, 0, func(now time.Time) { c.recountNext(now, m) })
		}
		m.out.Jump(n)
		c.numbers[m.id] = n
		c.save(SaveNumber{Room: m.id, Number: n})
	}
	p.base = max(p.base, n)
	i := slices.IndexFunc(p.said, func(s said) bool { return s.number == n })
	if i < 0 {
		return true
	}
	if bytes.Equal(p.said[i].raw, o.Signed) {
		return false
	}
	s := p.said[i]
	p.size -= len(s.saying.text)
	p.said = slices.Delete(p.said, i, i+1)
	// What it changes may have another id from now on, too.
	switch j := slices.IndexFunc(p.again, func(o said) bool {
		return s.saying.verb != 0 && messageID(m.id[:], c.self.device, Reliable, o.number) == s.saying.replyTo
	}); {
	case j < 0:
		p.again = append(p.again, s)
	case s.saying.verb == wire.Delete:
		p.again = slices.Delete(p.again, j, j+1)
	default:
		p.again[j].saying.text = s.saying.text
	}
	m.tracked = slices.DeleteFunc(m.tracked, func(t tracked) bool { return t.number == n })
	c.save(DropMessage{ID: messageID(m.id[:], c.self.device, Reliable, n)})
	return true
}
