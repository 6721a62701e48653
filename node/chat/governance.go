package chat

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/clean"
)

const (
	// A node that has just started asks again for a room that nobody knows:
	// its links to the others may not be up yet.
	lookAgain   = 250 * time.Millisecond
	lookPatient = 3 * time.Second
)

// causes are what entries of a log are called in events.
var causes = map[wire.Op]string{
	wire.OpCreate: "created", wire.OpAdmit: "joined", wire.OpKick: "kicked", wire.OpBan: "banned", wire.OpUnban: "unbanned",
	wire.OpLeave: "left", wire.OpLeft: "left", wire.OpTransfer: "transferred", wire.OpPromote: "promoted", wire.OpDemote: "demoted",
	wire.OpSilence: "silenced", wire.OpUnsilence: "unsilenced", wire.OpClaim: "claimed", wire.OpRekey: "rekeyed",
	wire.OpSettings: "topic", wire.OpDevice: "device", wire.OpResolve: "resolved",
}

// whom returns the account an entry is about; zero: nobody else.
func whom(args wire.Args) wire.AccountID {
	switch a := args.(type) {
	case *wire.LogAdmit:
		return a.Account
	case *wire.LogKick:
		return a.Account
	case *wire.LogBan:
		return a.Account
	case *wire.LogUnban:
		return a.Account
	case *wire.LogLeft:
		return a.Account
	case *wire.LogTransfer:
		return a.Account
	case *wire.LogPromote:
		return a.Account
	case *wire.LogDemote:
		return a.Account
	case *wire.LogSilence:
		return a.Account
	case *wire.LogUnsilence:
		return a.Account
	}
	return wire.AccountID{}
}

// ---- the log

// addEntries takes entries of a room's log that came from a device and shows
// what they change.
func (c *Core) addEntries(now time.Time, m *membership, raw [][]byte, from wire.DeviceID) {
	entries, err := parseEntries(raw)
	if err != nil {
		c.stats.Malformed++
		return
	}
	change, err := m.log.Add(entries...)
	if err != nil {
		c.stats.Forbidden++
	}
	c.changed(now, m, change, "")
	if len(m.log.Missing()) > 0 {
		c.askLog(now, m, from)
	}
}

// changed does what follows from a change of a room's log: save, tell, keys.
func (c *Core) changed(now time.Time, m *membership, change room.Change, ref string) {
	for _, e := range change.Added {
		c.save(SaveEntry{Room: m.id, Hash: e.Hash(), Entry: e.Append(nil)})
	}
	for _, e := range change.Evicted {
		c.save(DropEntry{Room: m.id, Hash: e.Hash()})
	}
	if len(change.Added) == 0 && len(change.Applied) == 0 && len(change.Dropped) == 0 {
		return
	}
	c.keep(m, m.keys.Update(now, change)) // of a losing branch's entries, too: they may suspend somebody
	if change.Merged() {
		c.show(Notice{Code: "merged", Text: fmt.Sprintf("the history of %s was merged: %d changes of one side do not count", m.chat(), len(change.Dropped))})
	}
	for _, e := range change.Applied {
		c.letIn(m, e.Args)
		by, ok := m.log.State().Owner(e.Author)
		if d := c.people.devices[e.Author.Device()]; !ok && d != nil {
			by = d.person.account // who left is a member no longer
		}
		about := whom(e.Args)
		if e.Op() == wire.OpLeave || e.Op() == wire.OpLeft {
			about = cmp.Or(about, by)
			by = about
		}
		c.show(c.roomEvent(m, causes[e.Op()], by, about, ref))
		if e.Op() == wire.OpLeave {
			c.show(c.roomEvent(m, "succeeded", by, m.log.State().Admin(), ""))
		}
	}
	if m.log.State().Member(c.self.account) == nil {
		c.drop(m)
		return
	}
	c.checkKey(now, m)
	c.retry(now)
}

// letIn notes where my messages begin for devices that an entry lets in.
func (c *Core) letIn(m *membership, args wire.Args) {
	var keys []wire.DeviceKey
	switch a := args.(type) {
	case *wire.LogAdmit:
		for _, d := range a.Devices {
			keys = append(keys, d.Key)
		}
	case *wire.LogDevice:
		if !a.Remove {
			keys = append(keys, a.Key)
		}
	}
	for _, k := range keys {
		if k == c.self.key {
			continue
		}
		a := m.author(k.Device())
		a.since = m.out.Last()
		c.touch(m, a)
		if a.since > 0 {
			c.sendBase(m, a)
		}
	}
}

// keep has the store follow the keyring.
func (c *Core) keep(m *membership, keys room.Keys) {
	for _, s := range keys.Save {
		c.save(SaveSecret{Room: m.id, Epoch: s.Entry, Secret: s.Secret})
	}
	for _, e := range keys.Drop {
		c.save(DropSecret{Room: m.id, Epoch: e})
	}
}

// drop forgets a room one is no longer in.
func (c *Core) drop(m *membership) {
	delete(c.rooms, m.id)
	if s := m.log.State(); !s.Private() && len(s.Members) > 0 { // it is there to be joined again
		o := offer{info: roomInfo(m, false)}
		for _, d := range c.linkedIn(m) {
			o.from = append(o.from, d.id)
		}
		c.offers[m.id] = o
	}
	c.save(DropRoom{Room: m.id})
	if c.current == m.chat() {
		c.current = ""
		c.show(Notice{Code: "current", Text: "no chat is open", Data: ""})
	}
}

// act adds an entry of one's own and sends it to the other members: by
// multicast, sealed with the epoch that was in use before it, and with the new
// secret, if they cannot compute it, to each device there is a link to.
func (c *Core) act(now time.Time, m *membership, act room.Act, ref string) error {
	before, linked := m.keys.Current(), c.linkedIn(m)
	change, err := m.log.Add(act.Entry)
	if err != nil {
		return err
	}
	if act.HasSecret {
		keys, err := m.keys.Accept(now, act.Entry.Hash(), act.Secret)
		if err != nil {
			return err
		}
		c.keep(m, keys)
	}
	if before != nil {
		packet, _ := c.sealIn(m, before, wire.KindLogEntry, false, wire.AppendBody(nil, &wire.LogEntry{Entry: act.Entry.Append(nil)}))
		c.multicast(now, m, packet)
	}
	c.push(m, act, linked)
	c.changed(now, m, change, ref)
	return nil
}

// push gives an entry of one's own to the members over their links too, since
// a packet can be lost: with its secret where they cannot compute it, else
// only in rooms so small that it costs little. Others pull it when a packet of
// the new epoch, or a beacon, tells them that they lack it.
// Who is removed by it gets the entry too, and no key.
func (c *Core) push(m *membership, act room.Act, linked []*device) {
	needed := act.HasSecret && !act.Stepped
	if !needed && len(linked) > pushTo {
		return
	}
	key := wire.Key{Room: m.id, Entry: act.Entry.Hash(), Secret: act.Secret}
	for _, d := range linked {
		c.send(Push{To: d.id, Type: wire.FrameEntry, Body: act.Entry.Append(nil)})
		if !needed {
			continue
		}
		if _, err := m.keys.Serve(d.key, key.Entry); err == nil {
			c.send(Push{To: d.id, Type: wire.FrameKey, Body: key.Append(nil)})
		}
	}
}

// linkedIn returns the members' devices there is a link to.
func (c *Core) linkedIn(m *membership) (linked []*device) {
	for _, p := range m.log.State().Members {
		for _, d := range p.Devices {
			if known := c.people.devices[d.ID]; known != nil && known.linked {
				linked = append(linked, known)
			}
		}
	}
	return linked
}

// handleEntry takes an entry that a member pushed over its link.
func (c *Core) handleEntry(now time.Time, dev *device, body []byte) error {
	e, err := wire.ParseEntry(body)
	if err != nil {
		return err
	}
	if m := c.rooms[e.RoomID()]; m != nil {
		c.addEntries(now, m, [][]byte{body}, dev.id)
		c.schedule(m)
	}
	return nil
}

// handleKey takes an epoch's secret that a member pushed.
func (c *Core) handleKey(now time.Time, body []byte) error {
	k, err := wire.ParseKey(body)
	if err != nil {
		return err
	}
	m := c.rooms[k.Room]
	if m == nil {
		return nil
	}
	keys, err := m.keys.Accept(now, k.Entry, k.Secret)
	c.keep(m, keys)
	if errors.Is(err, room.ErrUnknown) {
		c.sync(now, m)
		return nil
	}
	if err != nil {
		return err
	}
	c.checkKey(now, m)
	c.retry(now)
	return nil
}

// checkKey sends what waits once the key of the head is there, makes a new
// one when that is for this device to do, and else asks for it.
func (c *Core) checkKey(now time.Time, m *membership) {
	if m.log.State().Writer() == c.self.account && m.keys.RekeyDue(now) {
		act, err := m.log.Rekey(c.identity(), now, m.keys.Without())
		if err == nil {
			err = c.act(now, m, act, "")
		}
		if err == nil {
			return // changed called checkKey
		}
		c.stats.Forbidden++
	}
	if m.keys.Current() == nil {
		c.sync(now, m)
		return
	}
	m.syncAt, m.patient = time.Time{}, time.Time{}
	waiting := m.waiting
	m.waiting = nil
	for _, w := range waiting {
		c.say(now, m, w)
	}
	c.schedule(m)
}

// sync asks a member for entries and the key that are missing here, and does
// so again until they are there.
func (c *Core) sync(now time.Time, m *membership) {
	m.syncAt = time.Time{}
	if m.keys.Current() == nil || len(m.log.Missing()) > 0 {
		m.syncAt = now.Add(keyRetry)
	}
	if linked := c.linkedIn(m); len(linked) > 0 {
		c.askLog(now, m, linked[int(c.jitter(time.Duration(len(linked))))].id)
	}
	c.schedule(m)
}

// askLog asks a device for what it has of the room's log, and for the key of
// the head if that is missing then.
func (c *Core) askLog(now time.Time, m *membership, from wire.DeviceID) {
	if m.asking {
		return
	}
	known := c.people.devices[from]
	if known == nil || !known.linked {
		return
	}
	m.asking = true
	// Another branch may begin before the head: the entries of the last while are asked for too.
	seq := m.log.State().Seq
	if seq > overlap && len(m.log.Missing()) == 0 {
		seq -= overlap
	} else {
		seq = 0
	}
	q := wire.LogRange{Room: m.id, From: seq}
	c.ask(from, wire.FrameLog, q.Append(nil), func(now time.Time, frames []Frame, err error) {
		m.asking = false
		if c.rooms[m.id] != m || err != nil {
			return
		}
		c.addEntries(now, m, entriesIn(frames), from)
		if c.rooms[m.id] == m {
			c.askKey(now, m, from)
			c.schedule(m)
		}
	})
}

const (
	overlap = 64 // entries
	pushTo  = 64 // links
)

func entriesIn(frames []Frame) (entries [][]byte) {
	for _, f := range frames {
		if f.Type == wire.FrameEntry {
			entries = append(entries, f.Body)
		}
	}
	return entries
}

func (c *Core) askKey(now time.Time, m *membership, from wire.DeviceID) {
	entry, missing := m.keys.Missing()
	if !missing {
		return
	}
	q := wire.KeyRequest{Room: m.id, Entry: entry}
	c.ask(from, wire.FrameKeyOf, q.Append(nil), func(now time.Time, frames []Frame, err error) {
		if c.rooms[m.id] != m || err != nil || len(frames) != 1 || frames[0].Type != wire.FrameKey {
			return
		}
		if err := c.handleKey(now, frames[0].Body); err != nil {
			c.stats.Malformed++
		}
	})
}

// handleLeave takes a member's signed goodbye: keys are no longer handed to
// that person, and the writer records it.
func (c *Core) handleLeave(now time.Time, m *membership, who wire.AccountID) {
	m.keys.Leaving(who)
	if m.log.State().Writer() != c.self.account {
		return
	}
	act, err := m.log.Left(c.identity(), now, who, m.mark)
	if err == nil {
		err = c.act(now, m, act, "")
	}
	if err != nil {
		c.stats.Forbidden++
	}
}

// mark says how far this node has the messages of a device; it is a
// room.Marks.
func (m *membership) mark(key wire.DeviceKey) uint64 {
	if a := m.authors[key.Device()]; a != nil {
		return a.inbox.Received()
	}
	return 0
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
		if now.Sub(s.at) <= limboTime && !c.tryPacket(now, s.id, s.packet) {
			c.limbo.packets = append(c.limbo.packets, s)
		}
	}
}

// ---- rooms of others

// An offer is a room that others have told of.
type offer struct {
	info wire.RoomInfo
	from []wire.DeviceID // who told
}

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
		for _, f := range frames {
			if f.Type != wire.FrameRoomInfo || len(c.offers) >= maxOffers {
				continue
			}
			info, err := wire.ParseRoomInfo(f.Body)
			if err != nil {
				c.stats.Malformed++
				continue
			}
			if m := c.rooms[info.Room]; m != nil {
				if !m.log.Has(info.Head) {
					c.askLog(now, m, from)
				}
				continue
			}
			name, err := clean.RoomName(info.Name)
			if err != nil {
				continue
			}
			info.Name, info.Topic = name, clean.Line(info.Topic, wire.MaxTopic)
			o := c.offers[info.Room]
			o.info, o.from = *info, append(o.from, from)
			c.offers[info.Room] = o
		}
		then(now)
	})
}

const maxOffers = 4096

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

// offered returns the room of that name one could join: of several, the one
// with the most members.
func (c *Core) offered(chat string) *offer {
	name, err := clean.RoomName(chat)
	if err != nil {
		return nil
	}
	var best *offer
	for _, o := range c.offers {
		if o.info.Name != name {
			continue
		}
		if best == nil || o.info.Members > best.info.Members ||
			o.info.Members == best.info.Members && bytes.Compare(o.info.Room[:], best.info.Room[:]) < 0 {
			best = &o
		}
	}
	return best
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
		frames, err = c.answerKey(now, dev, body)
	case typ == wire.FrameJoin:
		frames, err = c.answerJoin(now, dev, body)
	case typ == wire.FramePart:
		frames, err = c.answerPart(now, dev, body)
	case typ == wire.FramePull:
		var later bool
		if later, err = c.answerPull(dev, question, body); later {
			return
		}
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
		info := roomInfo(m, member)
		frames = append(frames, Frame{wire.FrameRoomInfo, info.Append(nil)})
	}
	return frames
}

// roomInfo describes a room to somebody.
func roomInfo(m *membership, member bool) wire.RoomInfo {
	s := m.log.State()
	return wire.RoomInfo{Room: m.id, Admin: s.Admin(), Seq: s.Seq, Head: s.Head, Members: uint16(len(s.Members)),
		Private: s.Private(), Member: member, Name: m.chat(), Topic: s.Topic}
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
			if whom(e.Args) == who {
				last = e.Seq
			}
		}
	}
	return last, ok
}

func (c *Core) answerKey(now time.Time, dev *device, body []byte) ([]Frame, error) {
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

// answerJoin admits a person, or says why not. Only the writer can.
func (c *Core) answerJoin(now time.Time, dev *device, body []byte) ([]Frame, error) {
	q, err := wire.ParseJoin(body)
	if err != nil {
		return nil, err
	}
	m := c.rooms[q.Room]
	who := dev.person.account
	if m == nil || m.log.State().Private() && m.log.State().Member(who) == nil {
		return nil, errNoSuchRoom
	}
	s := m.log.State()
	p := s.Member(who)
	switch {
	case p == nil && s.Writer() != c.self.account:
		return nil, &refusal{"not_admin", "only the admin, " + c.people.nameOf(s.Writer()) + ", lets people in"}
	case p == nil:
		act, err := m.log.Admit(c.identity(), now, m.keys, room.Person{Account: who, Name: dev.person.name, Devices: []wire.Device{{Key: dev.key, Cert: dev.cert}}})
		if err == nil {
			err = c.act(now, m, act, "")
		}
		if err != nil {
			return nil, c.ruleRefusal(m, err)
		}
	case !slices.ContainsFunc(p.Devices, func(d room.Device) bool { return d.ID == dev.id }):
		return nil, &refusal{"new_device", "you are in " + m.chat() + " with another device; this one is not let in yet"}
	}
	c.schedule(m)
	frames, err := c.welcome(m, dev)
	if err == nil && p == nil {
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
	base := wire.Base{Room: m.id, Number: m.author(dev.id).since}
	frames = append(frames, Frame{wire.FrameBase, base.Append(nil)})
	return frames, nil
}

func (c *Core) answerPart(now time.Time, dev *device, body []byte) ([]Frame, error) {
	q, err := wire.ParsePart(body)
	if err != nil {
		return nil, err
	}
	m, err := c.roomFor(dev, q.Room)
	if err != nil {
		return nil, err
	}
	// The packet proves it to everybody; that the link's owner says so is
	// enough for the writer.
	c.handleLeave(now, m, dev.person.account)
	return []Frame{{wire.FrameDone, nil}}, nil
}

func (c *Core) ruleRefusal(m *membership, err error) *refusal {
	if r, ok := err.(*room.Refusal); ok {
		return &refusal{r.Code, m.chat() + ": " + r.Rule}
	}
	return &refusal{"failed", err.Error()}
}

// ---- commands

func (c *Core) doRooms(k *call) {
	c.look(k.now, func() bool { return true }, func(now time.Time) {
		type info struct {
			Chat    string `json:"chat"`
			Members int    `json:"members"`
			Admin   string `json:"admin"`
			Topic   string `json:"topic"`
			Private bool   `json:"private"`
			Joined  bool   `json:"joined"`
		}
		list := []info{}
		for _, m := range c.sortedRooms() {
			s := m.log.State()
			list = append(list, info{m.chat(), len(s.Members), c.people.nameOf(s.Admin()), clean.Line(s.Topic, wire.MaxTopic), s.Private(), true})
		}
		for _, o := range c.offers {
			list = append(list, info{o.info.Name, int(o.info.Members), c.people.nameOf(o.info.Admin), o.info.Topic, o.info.Private, false})
		}
		slices.SortFunc(list, func(a, b info) int { return cmp.Compare(a.Chat, b.Chat) })
		var lines []string
		for _, i := range list {
			line := fmt.Sprintf("%s  %d members, admin %s", i.Chat, i.Members, i.Admin)
			if i.Joined {
				line += ", joined"
			}
			if i.Topic != "" {
				line += ": " + i.Topic
			}
			lines = append(lines, line)
		}
		if len(lines) == 0 {
			lines = []string{"there are no rooms yet; /create #room makes one"}
		}
		c.show(Notice{Code: "rooms", Text: strings.Join(lines, "\n"), Ref: k.ref, Data: list})
	})
}

func (c *Core) doNames(k *call) {
	m := c.myRoom(k)
	if m == nil {
		return
	}
	type member struct {
		User   string `json:"user"`
		Role   string `json:"role"` // "admin", "co-admin", "member"
		Online bool   `json:"online"`
		Was    string `json:"was"`
	}
	s := m.log.State()
	list := []member{}
	var lines []string
	for i, p := range s.Members {
		who := c.people.accounts[p.Account]
		e := member{User: c.people.nameOf(p.Account), Role: "member", Online: p.Account == c.self.account || who != nil && who.online()}
		if i == 0 {
			e.Role = "admin"
		} else if i <= s.Mods {
			e.Role = "co-admin"
		}
		state := "away"
		if e.Online {
			state = "online"
		}
		name := e.User
		if who != nil {
			e.Was, name = who.before(k.now), who.shown(k.now)
		}
		list = append(list, e)
		lines = append(lines, name+"  "+e.Role+", "+state)
	}
	c.show(Notice{Code: "names", Text: strings.Join(lines, "\n"), Ref: k.ref, Data: list})
}

// roomName returns the room name a command was given, or refuses it.
func (c *Core) roomName(k *call) (string, bool) {
	name, err := clean.RoomName(k.args[0])
	if err != nil || !strings.HasPrefix(k.args[0], "#") {
		c.refuse(k.ref, "bad_argument", "%q is no room name: %v", k.args[0], clean.ErrRoomName)
		return "", false
	}
	return name, true
}

func (c *Core) doCreate(k *call) {
	name, ok := c.roomName(k)
	if !ok {
		return
	}
	private := len(k.args) == 2
	if private && k.args[1] != "--private" {
		c.refuse(k.ref, "bad_argument", "usage: /create #room [--private]")
		return
	}
	taken := func() bool { return c.findRoom(name) != nil || c.offered(name) != nil }
	end := c.begin()
	c.look(k.now, func() bool { return true }, func(now time.Time) {
		defer end(now)
		if taken() {
			c.refuse(k.ref, "name_taken", "there is a room %s: /join %s, or choose another name", name, name)
			return
		}
		var policy wire.Policy
		if private {
			policy = wire.PolicyPrivate
		}
		act, err := room.Create(c.identity(), now, name, policy)
		if err != nil {
			c.refuseRule(k.ref, name, err)
			return
		}
		m, err := c.enter(now, []*wire.Entry{act.Entry}, act.Secret)
		if err != nil {
			c.refuseRule(k.ref, name, err)
			return
		}
		c.show(c.roomEvent(m, "created", c.self.account, wire.AccountID{}, k.ref))
		c.open(m.chat(), k.ref)
	})
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
	delete(c.offers, m.id)
	return m, nil
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
	// Just after the start the room may be known and its admin on the way.
	found := func() bool { o := c.offered(name); return o != nil && len(c.adminOf(o)) > 0 }
	c.look(k.now, found, func(now time.Time) {
		o := c.offered(name)
		if o == nil {
			defer end(now)
			c.refuse(k.ref, "no_such_room", "no room %s is known here: /rooms lists them, /create %s makes it", name, name)
			return
		}
		c.joinOffer(now, *o, k.ref, end)
	})
}

// adminOf returns the devices of a room's admin there is a link to.
func (c *Core) adminOf(o *offer) []*device {
	if p := c.people.accounts[o.info.Admin]; p != nil {
		return p.linked()
	}
	return nil
}

// joinOffer asks the room's admin to be let in; end is called in the end.
func (c *Core) joinOffer(now time.Time, o offer, ref string, end func(time.Time)) {
	admin := c.adminOf(&o)
	if len(admin) == 0 {
		defer end(now)
		c.refuse(ref, "admin_away", "%s is away and lets people into %s: try again when %s is back", c.people.nameOf(o.info.Admin), o.info.Name, c.people.nameOf(o.info.Admin))
		return
	}
	q := wire.Join{Room: o.info.Room}
	c.ask(admin[0].id, wire.FrameJoin, q.Append(nil), func(now time.Time, frames []Frame, err error) {
		defer end(now)
		if err == nil {
			err = c.welcomed(now, o, admin[0].id, frames, ref)
		}
		if err != nil {
			code := "failed"
			if r, ok := err.(*refusal); ok {
				code = r.code
			}
			c.refuse(ref, code, "joining %s: %v", o.info.Name, err)
		}
	})
}

// welcomed enters a room with what its writer answered.
func (c *Core) welcomed(now time.Time, o offer, from wire.DeviceID, frames []Frame, ref string) error {
	if c.rooms[o.info.Room] != nil {
		return nil
	}
	entries, err := parseEntries(entriesIn(frames))
	if err != nil {
		return err
	}
	if len(entries) == 0 || entries[0].RoomID() != o.info.Room {
		return errors.New("the answer is about another room")
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
		return errors.New("the answer has no key")
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
	c.show(c.roomEvent(m, "joined", m.log.State().Writer(), c.self.account, ref))
	c.open(m.chat(), ref)
	c.retry(now)
	return nil
}

func parseEntries(raw [][]byte) (entries []*wire.Entry, err error) {
	for _, b := range raw {
		e, err := wire.ParseEntry(b)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// doPart leaves a room for good: a plain member says so, and the writer
// records it; the admin's leaving is an entry of the log.
func (c *Core) doPart(k *call) {
	m := c.myRoom(k)
	if m == nil {
		return
	}
	s := m.log.State()
	if s.Writer() == c.self.account {
		if len(s.Members) > 1 {
			act, err := m.log.Leave(c.identity(), k.now)
			if err == nil {
				err = c.act(k.now, m, act, k.ref)
			}
			if err != nil {
				c.refuseRule(k.ref, m.chat(), err)
				return
			}
		} else {
			c.leftAlone(m, k.ref)
		}
		return
	}
	leave := wire.Leave{Reliable: m.out.Last()}
	if m.keys.Current() != nil {
		packet, _ := c.seal(m, wire.KindLeave, false, wire.AppendBody(nil, &leave))
		c.multicast(k.now, m, packet)
		q := wire.Part{Room: m.id, Packet: packet}
		if w := c.people.accounts[s.Writer()]; w != nil {
			for _, d := range w.linked() {
				c.ask(d.id, wire.FramePart, q.Append(nil), func(time.Time, []Frame, error) {})
			}
		}
	}
	c.leftAlone(m, k.ref)
}

// leftAlone forgets a room without waiting for anybody to record it.
func (c *Core) leftAlone(m *membership, ref string) {
	e := c.roomEvent(m, "left", c.self.account, c.self.account, ref)
	e.Members = slices.DeleteFunc(e.Members, func(n string) bool { return n == c.self.name })
	e.Admins = slices.DeleteFunc(e.Admins, func(n string) bool { return n == c.self.name })
	c.show(e)
	c.drop(m)
}
