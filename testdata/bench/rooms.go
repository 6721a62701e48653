//go:build linux

package main

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"lanchat/node/chat"
	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/realm"
)

const (
	roomMembers = 256
	roomCrowd   = 1000
	roomJoins   = 200
	roomEntries = room.MaxEntries
	roomLinks   = 512 // that a node keeps at most
	crowdLinks  = 16  // with so many cores in one process
	idleRooms   = 32
	latency     = 200 * time.Microsecond // of the LAN in a hall

	disabledNodes = 6 // whole programs, of which the last …
	disabledTimes = 3 // … so many are disabled in turn
)

var benchRealm = wire.RealmID(sha256.Sum256([]byte("bench")))

// benchRooms measures rooms: cores wired to each other in memory, in virtual
// time, which is what a quiet LAN adds; what the processor adds is printed
// beside it, for all members together on one. How soon somebody is shut out is
// measured with whole programs as well, from the operator's command on.
func benchRooms(ctx context.Context, b *bench) error {
	profile := ""
	if b.profile != "" {
		profile = filepath.Join(b.profile, "rooms.pprof")
	}
	if err := profiled(profile, func() error { return rooms(ctx) }); err != nil {
		return err
	}
	return disable(ctx, b)
}

func rooms(ctx context.Context) error {
	for _, part := range []func() error{
		func() error { return kickIn(roomMembers, roomLinks) },
		func() error { return shutOut(roomMembers, roomLinks) },
		joinAll,
		joinAtOnce,
		evaluateLogs,
		idleMemory,
		func() error { return kickIn(roomCrowd, crowdLinks) },
	} {
		if err := part(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// kickIn removes the last one of a room's members, and has the admin speak at
// once and another one when all have applied it.
func kickIn(n, links int) error {
	what := fmt.Sprintf("room of %d: ", n)
	h := newHall(n)
	began := time.Now()
	if err := h.furnish(links); err != nil {
		return err
	}
	h.pass(time.Second)
	say(what+"all nodes started from their stores, one processor", "%.1f s", time.Since(began).Seconds())
	admin, other, out := h.people[0], h.people[1], h.people[n-1]
	start := h.now
	began = time.Now()
	admin.do("/kick " + out.name)
	admin.do("the key is new")
	applied, err := h.until(10*time.Second, func() bool {
		return h.all(func(g *guest) bool { return g.room.Cause == "kicked" })
	})
	if err != nil {
		return fmt.Errorf("%sthe kick: %w", what, err)
	}
	other.do("mine too")
	read, err := h.until(10*time.Second, func() bool {
		return h.all(func(g *guest) bool { return g == out || g.heard >= 2 || (g == admin || g == other) && g.heard >= 1 })
	})
	if err != nil {
		return fmt.Errorf("%sthe new key: %w", what, err)
	}
	if out.heard > 0 {
		return errors.New(what + "who was kicked reads on")
	}
	busy := time.Since(began)
	say(what+"kick applied by all", "%v", applied.Sub(start))
	say(what+"two messages with the new key read by all", "%v", read.Sub(start))
	say(what+"the work of all members for that, one processor", "%v, %v each", busy.Round(time.Millisecond), (busy / time.Duration(n)).Round(time.Microsecond))
	return nil
}

// shutOut has a revocation list that names the last one's device reach all of a
// room's members. What comes before that, from the operator's command on, is in
// disable.
func shutOut(n, links int) error {
	what := fmt.Sprintf("room of %d, from a new revocation list on: ", n)
	h := newHall(n)
	if err := h.furnish(links); err != nil {
		return err
	}
	h.pass(time.Second)
	other, out := h.people[1], h.people[n-1]
	start, began := h.now, time.Now()
	revoked := func(t *realm.Token) bool { return t.Key == out.token.Key }
	for _, g := range h.people[:n-1] {
		g.later(h.now, func() { g.core.HandleRevoked(g.now, revoked) })
	}
	rekeyed, err := h.until(10*time.Second, func() bool {
		return h.all(func(g *guest) bool { return g == out || g.room.Cause == "rekeyed" })
	})
	if err != nil {
		return fmt.Errorf("%sanother key: %w", what, err)
	}
	other.do("among ourselves")
	read, err := h.until(10*time.Second, func() bool {
		return h.all(func(g *guest) bool { return g == out || g == other || g.heard >= 1 })
	})
	if err != nil {
		return fmt.Errorf("%sthe new key: %w", what, err)
	}
	if out.heard > 0 {
		return errors.New(what + "who is shut out reads on")
	}
	say(what+"another key", "%v", rekeyed.Sub(start))
	say("  a message with it read by all others", "%v", read.Sub(start))
	say("  the work of all, one processor", "%v", time.Since(began).Round(time.Millisecond))
	return nil
}

// disable has an operator disable accounts, each a member of three rooms, one of
// the last one's own: processes of the real programs on an emulated LAN, in real
// time, from the command's start until no node that is left uses a key of theirs.
func disable(ctx context.Context, b *bench) (err error) {
	c, err := openCrowd(ctx, b, disabledNodes+1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.lab.Close()) }()
	var members []*member
	for i := range disabledNodes {
		m, err := c.member(i)
		if err != nil {
			return err
		}
		members = append(members, m)
	}
	stay := members[:disabledNodes-disabledTimes]
	rooms := map[string]*member{"#lab0": members[0], "#lab1": members[1], "#lab2": members[len(stay)]}
	for name, founder := range rooms {
		if err := founder.enter("/create "+name, name, "created"); err != nil {
			return err
		}
		in := []*member{founder}
		for _, m := range members {
			if m == founder {
				continue
			}
			if err := m.enter("/join "+name, name, "joined", in...); err != nil {
				return err
			}
			in = append(in, m)
		}
	}
	var took []time.Duration
	for i := range disabledTimes {
		out := members[disabledNodes-1-i]
		began := time.Now()
		if err := c.command("h1", "authd", "user", "disable", out.name, "--data", filepath.Join(b.dir, "realm")).Run(); err != nil {
			return fmt.Errorf("disabling %s: %w", out.name, err)
		}
		last := began
		for _, m := range stay {
			for name := range rooms {
				at, err := m.wait(name, "rekeyed", began)
				if err != nil {
					return err
				}
				if at.After(last) {
					last = at
				}
			}
		}
		took = append(took, last.Sub(began))
	}
	tell(fmt.Sprintf("disabled to out of all keys, %d programs (5 s)", disabledNodes), took)
	return nil
}

// enter has the member type what makes or enters a room, and waits until it and
// those who are in it say so.
func (m *member) enter(line, room, cause string, in ...*member) error {
	since := time.Now()
	if _, err := fmt.Fprintln(m.in, line); err != nil {
		return err
	}
	for _, o := range append(in, m) {
		if _, err := o.wait(room, cause, since); err != nil {
			return err
		}
	}
	return nil
}

// joinAll has people join one after the other.
func joinAll() error {
	h := newHall(roomJoins + 1)
	h.link(roomLinks)
	h.people[0].do("/create #lab")
	h.pass(time.Second)
	start, began := h.now, time.Now()
	for i, g := range h.people[1:] {
		g.do("/join #lab")
		if _, err := h.until(30*time.Second, func() bool { return len(g.room.Members) == i+2 }); err != nil {
			return fmt.Errorf("%s joins: %w", g.name, err)
		}
	}
	joined := h.now
	_, err := h.until(30*time.Second, func() bool {
		return h.all(func(g *guest) bool {
			return slices.Equal(g.room.Members, h.people[0].room.Members) && g.room.Seq == roomJoins && g.room.Epoch == h.people[0].room.Epoch
		})
	})
	if err != nil {
		return fmt.Errorf("after %d joins: %w", roomJoins, err)
	}
	what := fmt.Sprintf("%d joins one after the other: ", roomJoins)
	say(what+"all in", "%v", joined.Sub(start).Round(time.Microsecond))
	say(what+"all agree on members and epoch", "%v", h.now.Sub(start).Round(time.Microsecond))
	say(what+"the work of all, one processor", "%.1f s", time.Since(began).Seconds())
	return nil
}

// joinAtOnce has everybody type /join in the same moment.
func joinAtOnce() error {
	h := newHall(roomJoins + 1)
	h.link(roomLinks)
	h.people[0].do("/create #lab")
	h.pass(time.Second)
	start, began := h.now, time.Now()
	for _, g := range h.people[1:] {
		g.do("/join #lab")
	}
	in, err := h.until(60*time.Second, func() bool {
		return h.all(func(g *guest) bool { return len(g.room.Members) > 0 })
	})
	if err != nil {
		return fmt.Errorf("%d join at once: %w", roomJoins, err)
	}
	agreed, err := h.until(60*time.Second, func() bool {
		return h.all(func(g *guest) bool { return g.room.Seq == roomJoins && g.room.Epoch == h.people[0].room.Epoch })
	})
	if err != nil {
		return fmt.Errorf("after %d joins at once: %w", roomJoins, err)
	}
	what := fmt.Sprintf("%d joins at once: ", roomJoins)
	say(what+"all in", "%v", in.Sub(start).Round(time.Microsecond))
	say(what+"all agree on members and epoch", "%v", agreed.Sub(start).Round(time.Microsecond))
	say(what+"the work of all, one processor", "%.1f s", time.Since(began).Seconds())
	return nil
}

// evaluateLogs loads logs as long as a log gets.
func evaluateLogs() error {
	h := newHall(4)
	base, _, err := h.roomLog("#lab")
	if err != nil {
		return err
	}
	// Branch i is what person i signs, with nobody else there.
	entries := base.Since(0)
	var sides [][]*wire.Entry
	for i, g := range h.people {
		own, err := room.Load(benchRealm, base.Since(0), nil)
		if err != nil {
			return err
		}
		id := g.identity()
		length := roomEntries - base.Len()
		if i > 0 {
			length = (roomEntries - base.Len()) / len(h.people)
		}
		var side []*wire.Entry
		for k := range length {
			act, err := own.Claim(id, h.now)
			if i == 0 && k%10 > 0 {
				act, err = own.Settings(id, h.now, "#lab", fmt.Sprint(k), 0)
			} else if i > 0 && k > 0 {
				act, err = own.Rekey(id, h.now, nil)
			}
			if err != nil {
				return err
			}
			if _, err := own.Add(act.Entry); err != nil {
				return err
			}
			side = append(side, act.Entry)
		}
		sides = append(sides, side)
	}
	measure := func(what string, all []*wire.Entry) error {
		began := time.Now()
		l, err := room.Load(benchRealm, all, nil)
		if err != nil {
			return err
		}
		say(fmt.Sprintf("evaluating %d entries%s", l.Len(), what), "%v", time.Since(began).Round(time.Millisecond))
		return nil
	}
	if err := measure(" on one branch", slices.Concat(entries, sides[0])); err != nil {
		return err
	}
	began := time.Now()
	l, err := room.NewLog(benchRealm, entries[0])
	if err != nil {
		return err
	}
	if _, err := l.Add(slices.Concat(entries[1:], sides[0])...); err != nil {
		return err
	}
	say("  and verifying their signatures", "%v", time.Since(began).Round(time.Millisecond))
	forked := entries
	for k := range sides[1] { // as they come in turn
		for _, side := range sides {
			forked = append(forked, side[k])
		}
	}
	return measure(fmt.Sprintf(" on %d branches", len(sides)), forked)
}

// idleMemory measures what a room takes of a node in which nothing happens.
func idleMemory() error {
	h := newHall(roomMembers)
	state := chat.State{}
	for i := range idleRooms {
		log, secret, err := h.roomLog(fmt.Sprintf("#room%d", i))
		if err != nil {
			return err
		}
		add(&state, log, secret, h.people)
	}
	before := heapInUse()
	core, err := h.people[1].newCore(state)
	if err != nil {
		return err
	}
	state = chat.State{}
	core.Take() // what it tells at its start goes
	after := heapInUse()
	say(fmt.Sprintf("memory of an idle room of %d", roomMembers), "%d kB", (after-before)/idleRooms/1000)
	runtime.KeepAlive(core)
	return nil
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A hall is a LAN of cores in memory, with a time of its own. It does what the
// host does, without a disk.
type hall struct {
	now    time.Time
	people []*guest
	queue  happenings
	order  int
	by     map[wire.DeviceID]*guest
}

// A guest is a person's core and what surrounds it.
type guest struct {
	*hall
	name  string
	key   ed25519.PrivateKey
	token *realm.Token
	core  *chat.Core

	deadline time.Time
	question uint64
	asked    map[uint64]asked // of others, by the number it has here

	room  chat.Room // as last shown
	heard int       // messages
}

type asked struct {
	by *guest
	id uint64
}

// A happening is something at its time.
type happening struct {
	at    time.Time
	order int
	do    func()
}

type happenings []happening

func (q happenings) Len() int      { return len(q) }
func (q happenings) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q happenings) Less(i, j int) bool {
	return cmp.Or(q[i].at.Compare(q[j].at), cmp.Compare(q[i].order, q[j].order)) < 0
}
func (q *happenings) Push(x any) { *q = append(*q, x.(happening)) }
func (q *happenings) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// newHall returns people who do not know each other yet.
func newHall(n int) *hall {
	h := &hall{now: time.UnixMilli(1_700_000_000_000), by: map[wire.DeviceID]*guest{}}
	for i := range n {
		name := fmt.Sprintf("guest%d", i)
		seed, account := sha256.Sum256([]byte("device "+name)), sha256.Sum256([]byte("account "+name))
		g := &guest{hall: h, name: name, key: ed25519.NewKeyFromSeed(seed[:]), asked: map[uint64]asked{}}
		key := wire.KeyOf(g.key.Public().(ed25519.PublicKey))
		g.token = &realm.Token{Account: wire.AccountID(account[:16]), Device: key.Device(), Key: key, Serial: realm.Serial(seed[:16]), Name: name, NameSeq: 1, Leaf: []byte(name)}
		h.people = append(h.people, g)
		h.by[g.token.Device] = g
	}
	return h
}

func (g *guest) newCore(state chat.State) (*chat.Core, error) {
	return chat.New(g.now, chat.Config{Realm: benchRealm, Key: g.key, Token: g.token, Boot: 1, State: state,
		Rand: rand.NewChaCha8(sha256.Sum256([]byte(g.name)))})
}

func (g *guest) identity() room.Identity {
	return room.Identity{Realm: benchRealm, Account: g.token.Account, Name: g.name, Key: g.key}
}

// roomLog returns the log of a room of everybody, and the secret of its epoch.
func (h *hall) roomLog(name string) (*room.Log, room.EpochSecret, error) {
	id := h.people[0].identity()
	act, err := room.Create(id, h.now, name, 0)
	if err != nil {
		return nil, room.EpochSecret{}, err
	}
	log, err := room.NewLog(benchRealm, act.Entry)
	if err != nil {
		return nil, room.EpochSecret{}, err
	}
	keys, _ := room.NewKeyring(h.now, log, id.Device(), []room.EpochSecret{{Entry: act.Entry.Hash(), Secret: act.Secret}})
	for _, g := range h.people[1:] {
		act, err = log.Admit(id, h.now, keys, room.Person{Account: g.token.Account, Name: g.name, Devices: []wire.Device{{Key: g.token.Key}}})
		if err != nil {
			return nil, room.EpochSecret{}, err
		}
		change, err := log.Add(act.Entry)
		if err != nil {
			return nil, room.EpochSecret{}, err
		}
		keys.Update(h.now, change)
	}
	return log, room.EpochSecret{Entry: act.Entry.Hash(), Secret: act.Secret}, nil
}

// add puts a room into what a store holds, its members known.
func add(s *chat.State, log *room.Log, secret room.EpochSecret, people []*guest) {
	id := log.Room()
	s.Rooms = append(s.Rooms, chat.SaveRoom{Room: id})
	s.Numbers = append(s.Numbers, chat.SaveNumber{Room: id, Number: 1}) // everybody has said something
	for _, e := range log.Since(0) {
		s.Entries = append(s.Entries, chat.SaveEntry{Room: id, Hash: e.Hash(), Entry: e.Append(nil)})
	}
	s.Secrets = append(s.Secrets, chat.SaveSecret{Room: id, Epoch: secret.Entry, Secret: secret.Secret})
	for _, g := range people {
		if len(s.People) < len(people) {
			s.People = append(s.People, chat.SavePerson{Device: g.token.Device, Key: g.token.Key, Account: g.token.Account, Name: g.name, NameSeq: 1})
		}
		s.Authors = append(s.Authors, chat.SaveAuthor{Room: id, Device: g.token.Device, Replay: make([]byte, room.ReplaySize), Received: 1})
	}
}

// furnish starts everybody in one room, from their stores.
func (h *hall) furnish(links int) error {
	log, secret, err := h.roomLog("#lab")
	if err != nil {
		return err
	}
	state := chat.State{}
	add(&state, log, secret, h.people)
	for _, g := range h.people {
		if g.core, err = g.newCore(state); err != nil {
			return err
		}
	}
	h.link(links)
	return nil
}

// link has everybody linked with the first so many.
func (h *hall) link(most int) {
	for _, g := range h.people {
		if g.core == nil {
			var err error
			if g.core, err = g.newCore(chat.State{}); err != nil {
				panic(err) // without a state nothing can be wrong with it
			}
		}
	}
	for i, g := range h.people {
		for k, o := range h.people {
			if i != k && min(i, k) < most {
				g.core.LinkUp(h.now, o.token, nil)
			}
		}
		g.work()
	}
	h.pass(0)
}

// later has something happen to a guest.
func (g *guest) later(at time.Time, do func()) {
	g.order++
	heap.Push(&g.queue, happening{at, g.order, func() {
		do()
		g.work()
	}})
}

func (g *guest) do(line string) {
	g.core.Do(g.now, chat.Command{Line: line})
	g.work()
}

// work does what a core wants done.
func (g *guest) work() {
	for {
		w := g.core.Take()
		if w.Empty() {
			break
		}
		for _, s := range w.Sends {
			g.send(s)
		}
		for _, e := range w.Events {
			switch e := e.(type) {
			case chat.Room:
				g.room = e
			case chat.Message:
				g.heard++
			}
		}
	}
	if d := g.core.Deadline(); !d.Equal(g.deadline) && !d.IsZero() {
		g.deadline = d
		g.later(d, func() {
			if g.deadline.Equal(d) {
				g.deadline = time.Time{}
				g.core.Advance(g.now)
			}
		})
	}
}

func (g *guest) send(s chat.Send) {
	at := g.now.Add(latency)
	switch s := s.(type) {
	case chat.Multicast:
		for _, to := range g.people {
			if to != g {
				to.later(at, func() { to.core.HandlePacket(to.now, bytes.Clone(s.Packet)) })
			}
		}
	case chat.Push:
		if to := g.by[s.To]; to != nil {
			to.later(at, func() { to.core.HandleFrame(to.now, g.token.Device, s.Type, s.Body) })
		}
	case chat.Ask:
		to := g.by[s.To]
		to.later(at, func() {
			to.question++
			to.asked[to.question] = asked{g, s.Question}
			to.core.HandleQuestion(to.now, g.token.Device, to.question, s.Type, s.Body)
		})
	case chat.Answer:
		q := g.asked[s.Question]
		delete(g.asked, s.Question)
		q.by.later(at, func() { q.by.core.HandleAnswer(q.by.now, q.id, s.Frames, nil) })
	}
}

// step has the next thing happen that is due by end, and reports whether there
// was one.
func (h *hall) step(end time.Time) bool {
	if len(h.queue) == 0 || h.queue[0].at.After(end) {
		h.now = end
		return false
	}
	next := heap.Pop(&h.queue).(happening)
	if next.at.After(h.now) {
		h.now = next.at
	}
	next.do()
	return true
}

// pass lets time pass.
func (h *hall) pass(d time.Duration) {
	end := h.now.Add(d)
	for h.step(end) {
	}
}

// until lets time pass until something holds, and returns when.
func (h *hall) until(most time.Duration, holds func() bool) (time.Time, error) {
	end := h.now.Add(most)
	for !holds() {
		before := h.now
		for h.now.Equal(before) {
			if !h.step(end) {
				return h.now, fmt.Errorf("not within %v", most)
			}
		}
	}
	return h.now, nil
}

func (h *hall) all(holds func(*guest) bool) bool {
	return !slices.ContainsFunc(h.people, func(g *guest) bool { return !holds(g) })
}
