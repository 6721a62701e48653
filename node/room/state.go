package room

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"lanchat/wire"
)

// MaxMembers is how many people a room holds.
const MaxMembers = 1024

// A State is a room after one entry of its log: what all who know the same
// entries agree on. A State that Log.State returned never changes.
//
// Seats: Members[0] is the admin, the next Mods are the co-admins in order of
// promotion, the rest are members by age.
type State struct {
	Room   wire.RoomID
	Name   string
	Topic  string
	Policy wire.Policy

	Seq  uint64    // of the entry this is the state after
	Head wire.Hash // its hash

	Members []*Member
	Mods    int
	Regent  wire.AccountID // acts for the silent admin; zero: nobody does

	Epoch *EpochInfo
	// Unkeyed says that the admin left: nobody sends until the successor, or
	// a regent, has begun a new epoch with a secret of its own.
	Unkeyed bool

	owners   map[wire.DeviceKey]wire.AccountID
	counters map[wire.DeviceKey]uint64 // author_n of the last entry of each device
	bans     map[wire.AccountID]Ban
	silences map[wire.AccountID]uint64 // until, Unix milliseconds, 0: until lifted
	cuts     map[wire.DeviceKey]Cut
	without  map[wire.DeviceID]bool // left out of device tables
	resolved map[wire.Hash]bool     // removals on losing branches that were settled

	own shared // of these maps, those that are no other state's too
}

// shared names the maps of a State. An entry changes one or two of them, and
// whoever stands in can let thousands of devices in: apply copies what it changes.
type shared uint8

const (
	sharedOwners shared = 1 << iota
	sharedBans
	sharedSilences
	sharedCuts
	sharedWithout
	sharedResolved
)

// mine makes a map of s one that apply may change.
func mine[K comparable, V any](s *State, which shared, m *map[K]V) map[K]V {
	if s.own&which == 0 {
		*m = maps.Clone(*m)
		s.own |= which
	}
	return *m
}

// A Member is a person in a room. It never changes; a new one takes its place.
type Member struct {
	Account  wire.AccountID
	Name     string // user name when admitted, a hint: the token is the authority
	Devices  []Device
	Admitted uint64 // seq of the entry that let the person in: age
}

// A Device is a device of a member.
type Device struct {
	Key  wire.DeviceKey
	ID   wire.DeviceID
	Cert wire.Hash // SHA-256 of the certificate the writer saw; zero for the creator's
}

// A Ban keeps a person out.
type Ban struct {
	Until  time.Time // when the writer may lift it; zero: never by itself
	Reason string
	By     wire.AccountID
	Seq    uint64 // of the entry
}

// A Cut is the end of a removed device's reliable messages: those of epochs
// begun before entry Seq and above Number are refused.
type Cut struct {
	Seq    uint64
	Number uint64
}

// An EpochInfo is what the log says of an epoch. It never changes.
type EpochInfo struct {
	Number uint64 // counts the epochs of the room on this branch, from 1
	Seq    uint64 // of the entry that began it
	Entry  wire.Hash
	Commit wire.Hash
	Slots  []Slot // the device table
}

// A Slot is a device that may send in an epoch.
type Slot struct {
	Account wire.AccountID
	Key     wire.DeviceKey
	Device  wire.DeviceID
}

// Slot returns the slot of a device; ok is false if it may not send.
func (e *EpochInfo) Slot(key wire.DeviceKey) (slot uint16, ok bool) {
	i := slices.IndexFunc(e.Slots, func(s Slot) bool { return s.Key == key })
	return uint16(max(i, 0)), i >= 0
}

// genesis returns the state after a CREATE.
func genesis(e *wire.Entry) (*State, error) {
	a, ok := e.Args.(*wire.LogCreate)
	if !ok {
		return nil, ErrChain
	}
	if e.AuthorN != 1 || !slices.Contains(a.Keys, e.Author) {
		return nil, ErrChain
	}
	if e.Commit.IsZero() {
		return nil, ErrCommit
	}
	s := &State{
		Room: e.RoomID(), Name: a.Name, Policy: a.Policy, Head: e.Hash(),
		owners:   map[wire.DeviceKey]wire.AccountID{},
		counters: map[wire.DeviceKey]uint64{e.Author: 1},
		bans:     map[wire.AccountID]Ban{},
		silences: map[wire.AccountID]uint64{},
		cuts:     map[wire.DeviceKey]Cut{},
		without:  map[wire.DeviceID]bool{},
		resolved: map[wire.Hash]bool{},
	}
	m := &Member{Account: a.Account, Name: a.Creator}
	for _, k := range a.Keys {
		m.Devices = append(m.Devices, Device{Key: k, ID: k.Device()})
		s.owners[k] = a.Account
	}
	s.Members = []*Member{m}
	s.begin(e)
	return s, nil
}

// clone returns a copy that apply may change.
func (s *State) clone() *State {
	n := *s
	n.Members = slices.Clone(s.Members)
	n.counters = maps.Clone(s.counters) // every entry changes it
	n.own, s.own = 0, 0
	return &n
}

// Seat returns a person's place in the seat order, 0 for the admin; for who
// is no member it is behind everybody: len(Members).
func (s *State) Seat(a wire.AccountID) int {
	for i, m := range s.Members {
		if m.Account == a {
			return i
		}
	}
	return len(s.Members)
}

// Member returns a member, or nil.
func (s *State) Member(a wire.AccountID) *Member {
	if i := s.Seat(a); i < len(s.Members) {
		return s.Members[i]
	}
	return nil
}

// Owner returns whose device a key is, among the members.
func (s *State) Owner(key wire.DeviceKey) (a wire.AccountID, ok bool) {
	a, ok = s.owners[key]
	return a, ok
}

// Admin returns the person in front; zero if the room has ended.
func (s *State) Admin() wire.AccountID {
	if len(s.Members) == 0 {
		return wire.AccountID{}
	}
	return s.Members[0].Account
}

// Writer returns who appends now: the regent if there is one, else the admin.
func (s *State) Writer() wire.AccountID {
	if s.Regent != (wire.AccountID{}) {
		return s.Regent
	}
	return s.Admin()
}

// CoAdmin reports whether a person is a co-admin.
func (s *State) CoAdmin(a wire.AccountID) bool {
	i := s.Seat(a)
	return i > 0 && i <= s.Mods
}

// Private reports whether the room is for its members' eyes only.
func (s *State) Private() bool { return s.Policy&wire.PolicyPrivate != 0 }

// Ended reports whether the last member has left.
func (s *State) Ended() bool { return len(s.Members) == 0 }

// Ban returns a person's ban.
func (s *State) Ban(a wire.AccountID) (b Ban, ok bool) {
	b, ok = s.bans[a]
	return b, ok
}

// Bans returns all bans. The map is the caller's.
func (s *State) Bans() map[wire.AccountID]Ban { return maps.Clone(s.bans) }

// Lapsed returns whose ban has come to its end and waits for the admin to
// lift it by Unban, lowest id first: the time never lifts a ban by itself,
// since clocks differ and every member must judge the log alike.
func (s *State) Lapsed(now time.Time) (lapsed []wire.AccountID) {
	for a, b := range s.bans {
		if !b.Until.IsZero() && !now.Before(b.Until) {
			lapsed = append(lapsed, a)
		}
	}
	slices.SortFunc(lapsed, func(a, b wire.AccountID) int { return slices.Compare(a[:], b[:]) })
	return lapsed
}

// Silenced reports whether a person may not speak, and until when; a zero
// time is until lifted.
func (s *State) Silenced(now time.Time, a wire.AccountID) (until time.Time, silenced bool) {
	ms, ok := s.silences[a]
	if !ok {
		return time.Time{}, false
	}
	until = TimeOf(ms)
	return until, until.IsZero() || now.Before(until)
}

// MaySpeak returns nil, ErrNotMember or ErrSilenced.
func (s *State) MaySpeak(now time.Time, a wire.AccountID) error {
	if s.Member(a) == nil {
		return ErrNotMember
	}
	if until, silenced := s.Silenced(now, a); silenced {
		return refuseUntil(ErrSilenced, millisOf(until))
	}
	return nil
}

// Cut returns where a removed device's messages end; a device that was let in
// again still has the cut for epochs before its removal.
func (s *State) Cut(key wire.DeviceKey) (c Cut, ok bool) {
	c, ok = s.cuts[key]
	return c, ok
}

// CutBy returns where the messages end of the devices that the entry with a
// number removed.
func (s *State) CutBy(seq uint64) (marks []wire.Mark) {
	for key, c := range s.cuts {
		if c.Seq == seq {
			marks = append(marks, wire.Mark{Key: key, Number: c.Number})
		}
	}
	return marks
}

// Without reports whether a device is left out of the device tables, by the
// last REKEY.
func (s *State) Without(d wire.DeviceID) bool { return s.without[d] }

// AuthorN returns the number of a device's last entry on this branch.
func (s *State) AuthorN(key wire.DeviceKey) uint64 { return s.counters[key] }

// apply makes s the state after e, for which check returned nil.
func (s *State) apply(e *wire.Entry) {
	author := s.owners[e.Author]
	s.Seq, s.Head = e.Seq, e.Hash()
	s.counters[e.Author] = e.AuthorN
	// "Any entry by the admin ends the regency."
	if author == s.Admin() {
		s.Regent = wire.AccountID{}
	} else if e.Op() == wire.OpClaim {
		s.Regent = author
	}
	if who, marks, ok := removes(e.Args); ok {
		s.remove(who)
		for _, m := range marks {
			mine(s, sharedCuts, &s.cuts)[m.Key] = Cut{Seq: e.Seq, Number: m.Number}
		}
	}
	switch a := e.Args.(type) {
	case *wire.LogAdmit:
		m := &Member{Account: a.Account, Name: a.Name, Admitted: e.Seq}
		for _, d := range a.Devices {
			m.Devices = append(m.Devices, Device{Key: d.Key, ID: d.Key.Device(), Cert: d.Cert})
			mine(s, sharedOwners, &s.owners)[d.Key] = a.Account
		}
		s.Members = append(s.Members, m)
	case *wire.LogBan:
		mine(s, sharedBans, &s.bans)[a.Account] = Ban{Until: TimeOf(a.Until), Reason: a.Reason, By: cmp.Or(e.For, author), Seq: e.Seq}
	case *wire.LogUnban:
		delete(mine(s, sharedBans, &s.bans), a.Account)
	case *wire.LogLeave:
		s.remove(author)
		s.Unkeyed = true
	case *wire.LogTransfer:
		s.transfer(a.Account)
	case *wire.LogPromote:
		m := s.take(a.Account)
		s.Mods++
		s.Members = slices.Insert(s.Members, s.Mods, m)
	case *wire.LogDemote:
		m := s.take(a.Account)
		i := 1 + s.Mods
		for i < len(s.Members) && s.Members[i].Admitted < m.Admitted {
			i++
		}
		s.Members = slices.Insert(s.Members, i, m)
	case *wire.LogSilence:
		mine(s, sharedSilences, &s.silences)[a.Account] = a.Until
	case *wire.LogUnsilence:
		delete(mine(s, sharedSilences, &s.silences), a.Account)
	case *wire.LogRekey:
		s.without = make(map[wire.DeviceID]bool, len(a.Without))
		s.own |= sharedWithout
		for _, d := range a.Without {
			s.without[d] = true
		}
	case *wire.LogSettings:
		s.Policy, s.Name, s.Topic = a.Policy, a.Name, a.Topic
	case *wire.LogDevice:
		s.device(e, a)
	case *wire.LogResolve:
		mine(s, sharedResolved, &s.resolved)[a.Removal] = true
		if m := s.Member(a.Account); m != nil {
			for _, d := range m.Devices {
				delete(mine(s, sharedWithout, &s.without), d.ID)
			}
		}
	}
	if changesKeys(e.Args) {
		s.begin(e)
	}
}

// begin makes e the entry of the current epoch. It comes last in apply: the
// device table is that of the state after e.
func (s *State) begin(e *wire.Entry) {
	info := &EpochInfo{Number: 1, Seq: e.Seq, Entry: e.Hash(), Commit: e.Commit}
	if s.Epoch != nil {
		info.Number = s.Epoch.Number + 1
	}
	info.Slots = make([]Slot, 0, len(s.owners))
	for _, m := range s.Members {
		for _, d := range m.Devices {
			if !s.without[d.ID] {
				info.Slots = append(info.Slots, Slot{Account: m.Account, Key: d.Key, Device: d.ID})
			}
		}
	}
	s.Epoch, s.Unkeyed = info, false
}

// take takes a person out of the seat order and returns it.
func (s *State) take(a wire.AccountID) *Member {
	i := s.Seat(a)
	m := s.Members[i]
	s.Members = slices.Delete(s.Members, i, i+1)
	// "Admin leaves ⇒ the next seat is admin": a co-admin who moves to the
	// front is none any more.
	if i <= s.Mods && s.Mods > 0 {
		s.Mods--
	}
	return m
}

// remove removes a person who may be a member.
func (s *State) remove(a wire.AccountID) {
	if s.Member(a) == nil {
		return
	}
	for _, d := range s.take(a).Devices {
		delete(mine(s, sharedOwners, &s.owners), d.Key)
		delete(mine(s, sharedWithout, &s.without), d.ID)
	}
	if s.Regent == a {
		s.Regent = wire.AccountID{}
	}
}

// transfer: "TRANSFER(x): x to front, old admin becomes first co-admin".
func (s *State) transfer(a wire.AccountID) {
	m := s.take(a)
	s.Members = slices.Insert(s.Members, 0, m)
	s.Mods++
}

func (s *State) device(e *wire.Entry, a *wire.LogDevice) {
	i := s.Seat(a.Account)
	m := *s.Members[i]
	m.Devices = slices.Clone(m.Devices)
	if a.Remove {
		m.Devices = slices.DeleteFunc(m.Devices, func(d Device) bool { return d.Key == a.Key })
		delete(mine(s, sharedOwners, &s.owners), a.Key)
		delete(mine(s, sharedWithout, &s.without), a.Key.Device())
		mine(s, sharedCuts, &s.cuts)[a.Key] = Cut{Seq: e.Seq, Number: a.Number}
	} else {
		m.Devices = append(m.Devices, Device{Key: a.Key, ID: a.Key.Device(), Cert: a.Cert})
		mine(s, sharedOwners, &s.owners)[a.Key] = a.Account
	}
	s.Members[i] = &m
}
