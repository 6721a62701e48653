package chat

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"lanchat/node/delivery"
	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/clean"
	"lanchat/wire/words"
)

// causes are what entries of a log are called in events.
var causes = map[wire.Op]string{
	wire.OpCreate: "created", wire.OpAdmit: "joined", wire.OpKick: "kicked", wire.OpBan: "banned", wire.OpUnban: "unbanned",
	wire.OpLeave: "left", wire.OpLeft: "left", wire.OpTransfer: "transferred", wire.OpPromote: "promoted", wire.OpDemote: "demoted",
	wire.OpSilence: "silenced", wire.OpUnsilence: "unsilenced", wire.OpClaim: "claimed", wire.OpRekey: "rekeyed",
	wire.OpSettings: "topic", wire.OpDevice: "device", wire.OpResolve: "resolved",
}

// ---- the log

const (
	maxTaken  = 2048 // entries of one answer; the rest comes with the next
	vainRate  = 4    // entries a second of one device that come to nothing …
	vainBurst = 2048 // … after so many
)

// addEntries takes entries of a room's log that came from a device, and asks it
// for those that are missing since then.
func (c *Core) addEntries(now time.Time, m *membership, raw [][]byte, from wire.DeviceID) {
	before := m.log.Missing()
	c.takeEntries(now, m, raw, from)
	if slices.ContainsFunc(m.log.Missing(), func(h wire.Hash) bool { return !slices.Contains(before, h) }) {
		c.askLog(now, m, from)
		c.planSync(now, m)
		c.schedule(m)
	}
}

// takeEntries takes entries of a room's log that came from a device, shows what
// they change, and reports whether any is new and stays. Each costs a signature to
// check, and some the log's evaluation: from a device whose entries come to
// nothing, again and again, none are taken for a while. What is good of them
// others have.
func (c *Core) takeEntries(now time.Time, m *membership, raw [][]byte, from wire.DeviceID) (news bool) {
	vain := m.vain[from]
	if vain != nil && !vain.Has(now, 1) {
		c.stats.Flooded += uint64(len(raw))
		return false
	}
	entries, err := parseEntries(raw)
	if err != nil {
		c.stats.Malformed++
		return false
	}
	entries = slices.DeleteFunc(entries, func(e *wire.Entry) bool { return m.log.Has(e.Hash()) })
	entries = entries[:min(len(entries), maxTaken)]
	change, err := m.log.Add(c.adopt(now, m, entries)...)
	if err != nil {
		c.stats.Forbidden++
	}
	lost := 0
	for _, e := range entries {
		if !m.log.Counts(e.Hash()) {
			lost++
		}
	}
	if lost > 0 {
		if vain == nil {
			vain = &delivery.Bucket{Rate: vainRate, Burst: vainBurst}
			m.vain[from] = vain
		}
		vain.Charge(now, lost)
	}
	c.changed(now, m, change, "")
	return slices.ContainsFunc(change.Added, func(e *wire.Entry) bool { return m.log.Has(e.Hash()) })
}

// changed does what follows from a change of a room's log: save, tell, keys.
func (c *Core) changed(now time.Time, m *membership, change room.Change, ref string) {
	for _, e := range change.Added {
		c.save(SaveEntry{Room: m.id, Hash: e.Hash(), Entry: e.Append(nil)})
	}
	for _, e := range change.Evicted {
		c.save(DropEntry{Room: m.id, Hash: e.Hash()})
	}
	if m.decided {
		for _, e := range change.Applied {
			c.save(SaveApplied{Room: m.id, Hash: e.Hash()})
		}
	} else if m.log.Held() {
		c.saveApplied(m)
	}
	for _, q := range change.Equivocations {
		c.alarm(now, m, q)
	}
	if len(change.Added) == 0 && len(change.Applied) == 0 && len(change.Dropped) == 0 {
		return
	}
	c.lost(now, m, change)
	c.keep(m, m.keys.Update(now, change)) // of a losing branch's entries, too: they may suspend somebody
	if len(change.Applied) == 0 && len(change.Dropped) == 0 {
		c.tend(now, m)
		return
	}
	m.wantedAt = time.Time{}
	c.nameRooms()
	if change.Merged() {
		c.merged(m, change)
	}
	in := m.log.State().Member(c.self.account) != nil
	for _, e := range change.Applied {
		c.letIn(m, e.Args)
		c.tell(m, e, cmp.Or(ref, c.granted(m, e)))
		if in {
			c.tellDevice(m, e)
		}
		for _, mark := range m.log.State().CutBy(e.Seq) {
			c.claimed(now, m, e.Author.Device(), mark.Key.Device(), mark.Number)
		}
	}
	if !in {
		c.removed(now, m, change)
		return
	}
	c.shutOut(now, m)
	c.checkKey(now, m)
	c.recountNext(now, m)
	if c.rooms[m.id] == m {
		c.reissue(now, m, change.Dropped)
	}
	if c.rooms[m.id] == m && len(change.Applied) == 1 && change.Applied[0].Author == c.self.key { // signed just now
		c.banUpheld(now, m, change.Applied[0])
	}
	c.retry(now)
}

// tell shows what an entry does.
func (c *Core) tell(m *membership, e *wire.Entry, ref string) {
	by, about, cause := c.byOf(m, e), room.Whom(e.Args), causes[e.Op()]
	switch {
	case e.Op() == wire.OpLeave, e.Op() == wire.OpLeft, e.Op() == wire.OpKick && e.For == about:
		about = cmp.Or(about, by)
		by, cause = about, "left"
	case e.Op() == wire.OpSettings && m.was != "":
		cause = "renamed"
	}
	event := c.roomEvent(m, cause, by, about, ref)
	switch e.Op() {
	case wire.OpKick, wire.OpBan:
		event.Reason = clean.Line(reasonOf(e.Args), wire.MaxReason)
	case wire.OpResolve:
		if removal := m.log.Get(e.Args.(*wire.LogResolve).Removal); removal != nil {
			event.Reason = clean.Line(reasonOf(removal.Args), wire.MaxReason)
		}
	case wire.OpSettings:
		event.Was, m.was = m.was, ""
	}
	c.show(event)
	if e.Op() == wire.OpLeave && !m.log.State().Ended() {
		c.show(c.roomEvent(m, "succeeded", by, m.log.State().Admin(), ""))
	}
}

// removed forgets a room that this person is no longer in. Who was let in on a
// side that lost asks again.
func (c *Core) removed(now time.Time, m *membership, change room.Change) {
	lapsed := slices.ContainsFunc(change.Dropped, func(e *wire.Entry) bool {
		return e.Op() == wire.OpAdmit && room.Whom(e.Args) == c.self.account
	})
	name := m.chat()
	if !lapsed {
		c.gone[m.id] = m.log
		c.dropInvite(m.id, c.self.account)
	}
	c.drop(m)
	if m.log.State().Ended() && !m.replaced {
		c.show(Notice{Code: "ended", Text: name + " has ended: you were its last member", Data: map[string]string{"chat": name}})
	}
	if lapsed {
		c.show(Notice{Code: "lapsed", Text: "who let you into " + name + " could not do so: that was undone, and you are asking again"})
		c.startJoin(now, &joining{room: m.id, name: name, quiet: true})
	}
}

// letIn notes where my messages begin for devices that an entry lets in.
func (c *Core) letIn(m *membership, args wire.Args) {
	var keys []wire.DeviceKey
	switch a := args.(type) {
	case *wire.LogAdmit:
		c.people.hear(a.Account, a.Name)
		for _, d := range a.Devices {
			keys = append(keys, d.Key)
		}
	case *wire.LogDevice:
		if !a.Remove {
			keys = append(keys, a.Key)
		}
	case *wire.LogResolve: // who stays was left out for a while
		if p := m.log.State().Member(a.Account); p != nil && !a.Uphold {
			for _, d := range p.Devices {
				keys = append(keys, d.Key)
			}
		}
	}
	for _, k := range keys {
		if k == c.self.key {
			continue
		}
		a := c.author(m, k.Device())
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
	c.stale = true
}

// drop forgets a room one is no longer in.
func (c *Core) drop(m *membership) {
	delete(c.rooms, m.id)
	c.stale = true
	if s := m.log.State(); !s.Private() && len(s.Members) > 0 { // it is there to be joined again
		o := offer{info: c.roomInfo(m, false)}
		for _, d := range c.linkedIn(m) {
			o.from = append(o.from, d.id)
		}
		c.offers[m.id] = o
	}
	for _, a := range m.authors {
		s := m.heard(a)
		if a.dirty {
			a.dirty = false
			c.save(s)
		}
		c.heard[m.id] = append(c.heard[m.id], s)
	}
	c.save(DropRoom{Room: m.id})
	for _, r := range m.requests {
		if !r.quiet && !r.done {
			c.refuse(r.ref, "not_member", "you are not in %s any more", m.chat())
		}
	}
	m.requests = nil
	for _, key := range c.shutTold(m) {
		c.setPersonal(key, "")
	}
	defer c.nameRooms()
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
		packet := c.sealIn(m, before, wire.KindLogEntry, wire.AppendBody(nil, &wire.LogEntry{Entry: act.Entry.Append(nil)}))
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
	if m := c.rooms[e.RoomID()]; m != nil && m.log.State().Member(dev.person.account) != nil {
		c.addEntries(now, m, [][]byte{body}, dev.id)
		c.schedule(m)
	}
	return nil
}

// handleKey takes an epoch's secret that a member pushed.
func (c *Core) handleKey(now time.Time, dev *device, body []byte) error {
	k, err := wire.ParseKey(body)
	if err != nil {
		return err
	}
	m := c.rooms[k.Room]
	if m == nil || m.log.State().Member(dev.person.account) == nil {
		return nil
	}
	keys, err := m.keys.Accept(now, k.Entry, k.Secret)
	c.keep(m, keys)
	if errors.Is(err, room.ErrUnknown) {
		c.wonder(now, m)
		return nil
	}
	if err != nil {
		return err
	}
	c.checkKey(now, m)
	c.retry(now)
	return nil
}

// checkKey sees to what is to be done in the room, sends what waits once the
// key of the head is there, and asks for it if it is missing.
func (c *Core) checkKey(now time.Time, m *membership) {
	c.tend(now, m)
	if c.rooms[m.id] != m {
		return
	}
	if m.keys.Current() == nil {
		if m.log.IsSuspended(c.self.account) { // whom nobody gives it
			c.planSync(now, m)
			c.schedule(m)
		} else {
			c.sync(now, m)
		}
		return
	}
	m.patient = time.Time{}
	if len(m.log.Missing()) == 0 {
		m.syncAt, m.syncPause = time.Time{}, 0
	}
	c.schedule(m)
}

// mark says how far this node has the messages of a device; it is a
// room.Marks.
func (m *membership) mark(key wire.DeviceKey) uint64 {
	if a := m.authors[key.Device()]; a != nil {
		return a.inbox.Received()
	}
	return 0
}

// ---- commands

// A RoomSummary is a room as "/rooms" tells of it, in its notice's Data.
type RoomSummary struct {
	Chat    string `json:"chat"`
	Members int    `json:"members"`
	Admin   string `json:"admin"`
	Topic   string `json:"topic"`
	Private bool   `json:"private"`
	Joined  bool   `json:"joined"`
}

func (c *Core) doRooms(k *call) {
	c.awaited++
	c.look(k.now, func() bool { return true }, func(now time.Time) {
		c.awaited--
		list := []RoomSummary{}
		for _, m := range c.sortedRooms() {
			s := m.log.State()
			list = append(list, RoomSummary{m.chat(), len(s.Members), c.people.nameOf(s.Admin()), clean.Line(s.Topic, wire.MaxTopic), s.Private(), true})
		}
		for _, o := range c.offers {
			list = append(list, RoomSummary{c.offerName(&o), int(o.info.Members), c.people.nameOf(o.info.Admin), o.info.Topic, o.info.Private, false})
		}
		for k, inv := range c.invites {
			if name, err := clean.RoomName(inv.Name); err == nil && k.account == c.self.account && c.rooms[k.room] == nil {
				if _, offered := c.offers[k.room]; !offered {
					list = append(list, RoomSummary{Chat: name, Admin: "", Topic: "you are invited", Private: true})
				}
			}
		}
		slices.SortFunc(list, func(a, b RoomSummary) int { return cmp.Compare(a.Chat, b.Chat) })
		var rows [][]string
		for _, i := range list {
			row := []string{i.Chat, "", "", "", i.Topic}
			if i.Members > 0 {
				row[1], row[2] = words.Count(i.Members, "member", "members"), "admin "+i.Admin
			}
			if i.Joined {
				row[3] = "joined"
			}
			rows = append(rows, row)
		}
		lines := table(rows)
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
	var rows [][]string
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
		rows = append(rows, []string{name, e.Role + ", " + state})
	}
	c.show(Notice{Code: "names", Text: strings.Join(table(rows), "\n"), Ref: k.ref, Data: list})
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
	taken := func() bool { return c.findRoom(name) != nil || c.offerOf(name) != nil }
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
