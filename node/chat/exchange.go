package chat

import (
	"math"
	"slices"
	"time"

	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/clean"
)

// What nodes ask each other about rooms, and answer: the log, keys, and what waits
// for a key that is not known yet.

const (
	wonderRate  = 1 // questions a second because of what nobody has proved …
	wonderBurst = 8 // … after so many
)

// wonder asks a member for what may be missing here: somebody uses a key that is
// not known. Anybody on the LAN can say so, all day.
func (c *Core) wonder(now time.Time, m *membership) {
	if m.wonders.Allow(now) {
		c.sync(now, m)
	}
}

// sync asks a member for entries and the key that are missing here, and does
// so again until they are there.
func (c *Core) sync(now time.Time, m *membership) {
	m.syncAt = time.Time{}
	c.planSync(now, m)
	if linked := c.linkedIn(m); len(linked) > 0 {
		c.askLog(now, m, linked[int(c.jitter(time.Duration(len(linked))))].id)
	}
	c.schedule(m)
}

// planSync has a member asked for what is missing here, unless that is planned:
// soon for a key, which somebody has; later each time for entries, which a member
// can have signed so that nobody ever has what is in front of them, and for the
// key by who is suspended, whom nobody may give it.
func (c *Core) planSync(now time.Time, m *membership) {
	soon, noKey := now.Add(keyRetry), m.keys.Current() == nil
	switch {
	case noKey && !m.log.IsSuspended(c.self.account) && (m.syncAt.IsZero() || soon.Before(m.syncAt)):
		m.syncAt = soon
	case !m.syncAt.IsZero():
	case noKey || len(m.log.Missing()) > 0:
		m.syncPause = min(max(2*m.syncPause, keyRetry), syncMost)
		m.syncAt = now.Add(m.syncPause)
	default:
		m.syncPause = 0
	}
}

// askLog asks a device for what it has of the room's log, and for the key of
// the head if that is missing then. Some are asked side by side, so that one
// who does not answer keeps nobody from what the others know.
func (c *Core) askLog(now time.Time, m *membership, from wire.DeviceID) {
	known := c.people.devices[from]
	if vain := m.vain[from]; known == nil || !known.linked || m.asking[from] || vain != nil && !vain.Has(now, vainBurst/8) {
		return
	}
	if len(m.asking) >= maxAsking {
		m.askNext = from
		return
	}
	m.asking[from] = true
	// Another branch may begin before the head: the entries of the last while are asked for too.
	seq := m.log.State().Seq
	if seq > overlap && len(m.log.Missing()) == 0 {
		seq -= overlap
	} else {
		seq = 0
	}
	q := wire.LogRange{Room: m.id, From: seq}
	c.ask(from, wire.FrameLog, q.Append(nil), func(now time.Time, frames []Frame, err error) {
		delete(m.asking, from)
		if c.rooms[m.id] != m {
			return
		}
		if next := m.askNext; !next.IsZero() {
			m.askNext = wire.DeviceID{}
			defer c.askLog(now, m, next)
		}
		if err != nil {
			return
		}
		news := c.takeEntries(now, m, entriesIn(frames), from)
		if c.rooms[m.id] != m {
			return
		}
		if news && len(m.log.Missing()) > 0 {
			c.askLog(now, m, from)
		}
		c.planSync(now, m) // it may not have them either
		c.askKey(m, from)
		c.schedule(m)
	})
}

const (
	overlap   = 64 // entries
	pushTo    = 64 // links
	maxAsking = 3  // devices at once about a room's log
)

func entriesIn(frames []Frame) (entries [][]byte) {
	for _, f := range frames {
		if f.Type == wire.FrameEntry {
			entries = append(entries, f.Body)
		}
	}
	return entries
}

func (c *Core) askKey(m *membership, from wire.DeviceID) {
	entry, missing := m.keys.Missing()
	if !missing {
		return
	}
	known := c.people.devices[from]
	if known == nil {
		return
	}
	q := wire.KeyRequest{Room: m.id, Entry: entry}
	c.ask(from, wire.FrameKeyOf, q.Append(nil), func(now time.Time, frames []Frame, err error) {
		if c.rooms[m.id] != m || err != nil || len(frames) != 1 || frames[0].Type != wire.FrameKey {
			return
		}
		if err := c.handleKey(now, known, frames[0].Body); err != nil {
			c.stats.Malformed++
		}
	})
}

// ---- packets of unknown epochs

// limbo keeps packets whose epoch is not known yet: the entry that begins it,
// or its secret, may be a moment behind.
type limbo struct {
	packets []stray
	foreign map[wire.KeyID]bool // epochs that were asked about
}

type stray struct {
	at     time.Time
	id     wire.KeyID
	packet []byte
}

const (
	limboTime = 2 * time.Second
	maxLimbo  = 256
	maxAlien  = 4096
)

func (l *limbo) hold(now time.Time, id wire.KeyID, packet []byte) {
	if l.foreign[id] && len(l.packets) > maxLimbo/2 {
		return
	}
	l.packets = slices.DeleteFunc(l.packets, func(s stray) bool { return now.Sub(s.at) > limboTime })
	if len(l.packets) >= maxLimbo {
		l.packets = slices.Delete(l.packets, 0, 1)
	}
	l.packets = append(l.packets, stray{now, id, packet})
}

// strange reports whether an epoch was not asked about before. Rooms one is
// not in have epochs one never learns of.
func (l *limbo) strange(id wire.KeyID) bool {
	if l.foreign[id] {
		return false
	}
	if l.foreign == nil || len(l.foreign) >= maxAlien {
		l.foreign = map[wire.KeyID]bool{}
	}
	l.foreign[id] = true
	return true
}

// retry tries the packets in limbo once more: a key or an entry has come.
func (c *Core) retry(now time.Time) {
	packets := c.limbo.packets
	c.limbo.packets = nil
	for _, s := range packets {
		if now.Sub(s.at) <= limboTime && !c.tryPacket(now, s.packet) {
			c.limbo.packets = append(c.limbo.packets, s)
		}
	}
}

// ---- questions of others

// HandleQuestion takes a question of a device; the core answers each one.
func (c *Core) HandleQuestion(now time.Time, from wire.DeviceID, question uint64, typ uint8, body []byte) {
	dev := c.people.devices[from]
	var frames []Frame
	var err error
	switch {
	case dev == nil || !dev.linked:
		err = &refusal{"not_authenticated", "say hello first"}
	case typ == wire.FrameRooms:
		frames = c.answerRooms(dev)
	case typ == wire.FrameLog:
		frames, err = c.answerLog(dev, body)
	case typ == wire.FrameKeyOf:
		frames, err = c.answerKey(dev, body)
	case typ == wire.FrameJoin:
		frames, err = c.answerJoin(now, dev, body)
	case typ == wire.FrameEnter:
		frames, err = c.answerEnter(dev, body)
	case typ == wire.FramePart:
		frames, err = c.answerPart(now, dev, body)
	case typ == wire.FramePull:
		var later bool
		if later, err = c.answerPull(now, dev, question, body); later {
			return
		}
	case typ == wire.FrameAskText:
		if err = c.answerText(dev, question, body); err == nil {
			return
		}
	case typ == wire.FrameAct:
		frames, err = c.answerAct(now, dev, body)
	case typ == wire.FrameInvite:
		frames, err = c.answerInvite(now, dev, body)
	default:
		err = &refusal{"unknown_question", "this version does not know the question"}
	}
	if err != nil {
		r, ok := err.(*refusal)
		if !ok {
			c.stats.Malformed++
			r = &refusal{"bad_argument", "the question does not parse"}
		}
		m := wire.Refused{Code: r.code, Text: clean.Line(r.text, wire.MaxReason)}
		frames = append(frames, Frame{wire.FrameRefused, m.Append(nil)})
	}
	c.send(Answer{Question: question, Frames: frames})
}

var errNoSuchRoom = &refusal{"no_such_room", "that room is not known here"}

func (c *Core) answerRooms(dev *device) (frames []Frame) {
	for _, m := range c.sortedRooms() {
		s := m.log.State()
		member := s.Member(dev.person.account) != nil
		if s.Private() && !member {
			continue
		}
		info := c.roomInfo(m, member)
		frames = append(frames, Frame{wire.FrameRoomInfo, info.Append(nil)})
	}
	return frames
}

// roomInfo describes a room to somebody.
func (c *Core) roomInfo(m *membership, member bool) wire.RoomInfo {
	s := m.log.State()
	return wire.RoomInfo{Room: m.id, Admin: s.Admin(), Writer: c.inCharge(m), Seq: s.Seq, Head: s.Head, Members: uint16(len(s.Members)),
		Private: s.Private(), Member: member, Name: m.plainName(), Topic: s.Topic}
}

// roomFor returns the room a member's device asks about.
func (c *Core) roomFor(dev *device, id wire.RoomID) (*membership, error) {
	m := c.rooms[id]
	if m == nil || m.log.State().Member(dev.person.account) == nil {
		return nil, errNoSuchRoom
	}
	return m, nil
}

func (c *Core) answerLog(dev *device, body []byte) ([]Frame, error) {
	q, err := wire.ParseLogRange(body)
	if err != nil {
		return nil, err
	}
	m := c.rooms[q.Room]
	if m == nil {
		return nil, errNoSuchRoom
	}
	last, ok := mayRead(m.log, dev.person.account)
	if !ok {
		return nil, errNoSuchRoom
	}
	var frames []Frame
	for _, e := range m.log.Since(q.From) {
		if e.Seq <= last {
			frames = append(frames, Frame{wire.FrameEntry, e.Append(nil)})
		}
	}
	return frames, nil
}

// mayRead returns up to which number a person may read the log: a member all
// of it, somebody who was removed or left the part up to that.
func mayRead(log *room.Log, who wire.AccountID) (last uint64, ok bool) {
	if log.State().Member(who) != nil {
		return math.MaxUint64, true
	}
	mine := map[wire.DeviceKey]bool{} // the person's devices
	for _, e := range log.Audit() {
		switch a := e.Args.(type) {
		case *wire.LogCreate:
			if a.Account == who {
				ok = true
				mine[e.Author] = true
			}
		case *wire.LogAdmit:
			if a.Account == who {
				ok = true
				for _, d := range a.Devices {
					mine[d.Key] = true
				}
			}
		case *wire.LogLeave:
			if mine[e.Author] {
				last = e.Seq
			}
		case *wire.LogKick, *wire.LogBan, *wire.LogLeft:
			if room.Whom(e.Args) == who {
				last = e.Seq
			}
		case *wire.LogResolve: // of a removal on a side that lost
			if a.Uphold && a.Account == who {
				last = e.Seq
			}
		}
	}
	return last, ok
}

// wasRemoved reports whether somebody who is no member was one before, and left
// or was removed. Only who that is asks to be let in again.
func wasRemoved(log *room.Log, who wire.AccountID) bool {
	last, was := mayRead(log, who)
	return was && last > 0
}

func (c *Core) answerKey(dev *device, body []byte) ([]Frame, error) {
	q, err := wire.ParseKeyRequest(body)
	if err != nil {
		return nil, err
	}
	m, err := c.roomFor(dev, q.Room)
	if err != nil {
		return nil, err
	}
	secret, err := m.keys.Serve(dev.key, q.Entry)
	if err != nil {
		return nil, &refusal{"room_key", "that key is not here, or not for this device"}
	}
	k := wire.Key{Room: m.id, Entry: q.Entry, Secret: secret}
	return []Frame{{wire.FrameKey, k.Append(nil)}}, nil
}

func (c *Core) ruleRefusal(m *membership, err error) *refusal {
	switch r := err.(type) {
	case *refusal:
		return r
	case *room.Refusal:
		return &refusal{r.Code, m.chat() + ": " + c.ruleText(r)}
	}
	return &refusal{"failed", err.Error()}
}
