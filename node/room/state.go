package room

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"lanchat/wire"
)

const (
	// MaxMembers is how many people a room holds.
	MaxMembers = 1024
	// adminEntries is how many of the entries that a branch may have, the last
	// ones, only the admin may write: who stands in could fill it otherwise.
	adminEntries = 1000
)

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
	until = timeOf(ms)
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

// front returns the admin and, where it may do op, the regent.
func (s *State) front(op wire.Op) []wire.AccountID {
	who := []wire.AccountID{s.Admin()}
	if s.Regent != (wire.AccountID{}) && RegentMay(op) {
		who = append(who, s.Regent)
	}
	return who
}

// RegentMay reports whether a regent may do op: "author = acting writer and op ∈ {ADMIT, KICK, BAN, REKEY,
// DEVICE, RESOLVE}".
func RegentMay(op wire.Op) bool {
	switch op {
	case wire.OpAdmit, wire.OpKick, wire.OpBan, wire.OpRekey, wire.OpDevice, wire.OpResolve:
		return true
	}
	return false
}

// check returns nil if e is valid as the next entry of the branch that s is
// the state of. The signature is not its business.
func (s *State) check(e *wire.Entry) error {
	if e.Room != s.Room {
		return ErrOtherRoom
	}
	if e.Seq != s.Seq+1 || e.Prev != s.Head {
		return ErrChain
	}
	// "author's device is in S"
	author, ok := s.owners[e.Author]
	if !ok {
		return ErrNotMember
	}
	// "author_n = last own + 1 on that branch"
	if e.AuthorN != s.counters[e.Author]+1 {
		return ErrChain
	}
	if err := s.checkAct(author, e.Author, e.Args); err != nil {
		return err
	}
	return s.checkCommit(e)
}

// checkAct returns nil if a person, with one of its devices, may append args.
func (s *State) checkAct(author wire.AccountID, device wire.DeviceKey, args wire.Args) error {
	op := args.Op()
	// "author is admin (any op), or author ≠ writer and op = CLAIM, or author
	// = acting writer and op ∈ …"
	switch {
	case op == wire.OpCreate:
		return ErrChain
	case author == s.Admin():
	case author != s.Writer() && op == wire.OpClaim:
	case author == s.Writer() && RegentMay(op):
	default:
		return refuse(ErrNotAdmin, s.front(op)...)
	}
	if author != s.Admin() && s.Seq+1 >= MaxEntries-adminEntries {
		return ErrLogFull
	}
	return s.checkTarget(author, device, args)
}

// checkTarget: "targets strictly behind the author; not banned on ADMIT", and
// that the deed makes sense.
func (s *State) checkTarget(author wire.AccountID, device wire.DeviceKey, args wire.Args) error {
	behind := func(a wire.AccountID) error { return s.Behind(author, a) }
	removal := func(a wire.AccountID, marks []wire.Mark) error {
		if err := behind(a); err != nil {
			return err
		}
		return s.checkMarks(s.Member(a), marks)
	}
	switch a := args.(type) {
	case *wire.LogAdmit:
		return s.checkAdmit(a)
	case *wire.LogKick:
		return removal(a.Account, a.Marks)
	case *wire.LogLeft:
		return removal(a.Account, a.Marks)
	case *wire.LogBan:
		if s.Member(a.Account) != nil {
			return removal(a.Account, a.Marks)
		}
		if len(a.Marks) > 0 {
			return ErrChain
		}
	case *wire.LogUnban:
		if _, ok := s.bans[a.Account]; !ok {
			return ErrNotBanned
		}
	case *wire.LogTransfer:
		return behind(a.Account)
	case *wire.LogPromote:
		if err := behind(a.Account); err != nil {
			return err
		}
		if s.Seat(a.Account) <= s.Mods {
			return ErrRole
		}
	case *wire.LogDemote:
		if err := behind(a.Account); err != nil {
			return err
		}
		if s.Seat(a.Account) > s.Mods {
			return ErrRole
		}
	case *wire.LogSilence:
		return behind(a.Account)
	case *wire.LogUnsilence:
		if _, ok := s.silences[a.Account]; !ok {
			return ErrNotSilenced
		}
	case *wire.LogRekey:
		// Anybody's devices may be left out but the one that signs: a regent
		// has to be able to do without a revoked device of the admin. Nobody
		// loses a seat by it, and who sits in front rekeys.
		if slices.Contains(a.Without, device.Device()) {
			return ErrDevice
		}
	case *wire.LogDevice:
		return s.checkDevice(author, device, a)
	case *wire.LogResolve:
		if s.resolved[a.Removal] {
			return ErrResolved
		}
		if a.Uphold {
			return removal(a.Account, a.Marks)
		}
		return behind(a.Account)
	}
	return nil
}

// over returns who may act on a person, in seat order: the admin and the
// co-admins in front.
func (s *State) over(a wire.AccountID) []wire.AccountID {
	admins := s.admins()
	return admins[:min(s.Seat(a), len(admins))]
}

// Behind returns nil if a member sits behind a person: "a person may act only
// on people behind them".
func (s *State) Behind(who, a wire.AccountID) error {
	switch seat := s.Seat(a); {
	case seat == len(s.Members):
		return ErrNoSuchMember
	case a == who:
		return ErrSelf
	case seat < s.Seat(who):
		return refuse(ErrBehind, s.over(a)...)
	}
	return nil
}

// checkMarks: "KICK, BAN and LEFT carry, for each device of the person, the
// highest rseq".
func (s *State) checkMarks(m *Member, marks []wire.Mark) error {
	if !slices.EqualFunc(m.Devices, marks, func(d Device, k wire.Mark) bool { return d.Key == k.Key }) {
		return ErrChain
	}
	return nil
}

func (s *State) checkAdmit(a *wire.LogAdmit) error {
	if s.Member(a.Account) != nil {
		return ErrMember
	}
	if b, ok := s.bans[a.Account]; ok {
		return refuseUntil(ErrBanned, millisOf(b.Until))
	}
	if len(s.Members) >= MaxMembers {
		return ErrFull
	}
	for _, d := range a.Devices {
		if _, taken := s.owners[d.Key]; taken {
			return ErrDevice
		}
	}
	// "After LEAVE the room has no sending epoch until the successor's
	// REKEY": a key stepped from the old one would be known to who left.
	if s.Unkeyed {
		return ErrRekeyFirst
	}
	return nil
}

// checkDevice: a person's own devices, or those of people behind. The device
// that signs cannot take itself away, and the last one goes by KICK.
func (s *State) checkDevice(author wire.AccountID, device wire.DeviceKey, a *wire.LogDevice) error {
	m := s.Member(a.Account)
	if m == nil {
		return ErrNoSuchMember
	}
	if a.Account != author && s.Seat(a.Account) < s.Seat(author) {
		return refuse(ErrBehind, s.over(a.Account)...)
	}
	owner, taken := s.owners[a.Key]
	if a.Remove {
		if !taken || owner != a.Account || a.Key == device || len(m.Devices) == 1 {
			return ErrDevice
		}
		return nil
	}
	if taken || len(m.Devices) >= wire.MaxDevices {
		return ErrDevice
	}
	if s.Unkeyed {
		return ErrRekeyFirst
	}
	return nil
}

// checkCommit: R2, "KICK, BAN, VACATE and LEFT MUST carry a new random commit
// made by their author; an entry without is invalid", and the same for every
// entry that changes who may read.
func (s *State) checkCommit(e *wire.Entry) error {
	if changesKeys(e.Args) == e.Commit.IsZero() || e.Commit == s.Epoch.Commit {
		return ErrCommit
	}
	return nil
}

// changesKeys reports whether an entry begins an epoch.
func changesKeys(args wire.Args) bool {
	switch a := args.(type) {
	case *wire.LogCreate, *wire.LogAdmit, *wire.LogKick, *wire.LogBan, *wire.LogLeft, *wire.LogRekey, *wire.LogDevice:
		return true
	case *wire.LogResolve:
		return a.Uphold
	}
	return false
}

// steps reports whether members compute the new secret from the old one: the
// new readers come in addition, nobody goes.
func steps(args wire.Args) bool {
	switch a := args.(type) {
	case *wire.LogAdmit:
		return true
	case *wire.LogDevice:
		return !a.Remove
	}
	return false
}

// removes returns whom an entry removes from the room, apart from its author.
func removes(args wire.Args) (a wire.AccountID, marks []wire.Mark, ok bool) {
	switch a := args.(type) {
	case *wire.LogKick:
		return a.Account, a.Marks, true
	case *wire.LogBan:
		return a.Account, a.Marks, true
	case *wire.LogLeft:
		return a.Account, a.Marks, true
	case *wire.LogResolve:
		return a.Account, a.Marks, a.Uphold
	}
	return wire.AccountID{}, nil, false
}

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
		mine(s, sharedBans, &s.bans)[a.Account] = Ban{Until: timeOf(a.Until), Reason: a.Reason, By: cmp.Or(e.For, author), Seq: e.Seq}
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

// May returns nil if a person may ask the writer for something, by rule 3:
// "co-admins: executed at once; members: join, leave, topic if allowed". The
// writer calls it before acting for somebody else, and everybody to tell a
// person no without asking. The admin may ask for what the admin may do.
//
// An ADMIT is asked for by who wants in: anybody in a public room, nobody in
// a private one, where the admin or a co-admin asks for it. In a public room
// members may bring others in, too.
func (s *State) May(who wire.AccountID, args wire.Args) error {
	seat := s.Seat(who)
	if a, ok := args.(*wire.LogAdmit); ok {
		if !(who == a.Account || seat < len(s.Members)) {
			return ErrNotMember
		}
		if s.Private() && seat > s.Mods {
			return refuse(ErrNotAdmin, s.admins()...)
		}
		if err := s.checkAdmit(a); err != ErrRekeyFirst { // the writer sees to that
			return err
		}
		return nil
	}
	if seat == len(s.Members) {
		return ErrNotMember
	}
	switch a := args.(type) {
	case *wire.LogLeft:
		if a.Account == who && seat > 0 {
			return nil
		}
	case *wire.LogDevice:
		if a.Account == who {
			return nil
		}
	case *wire.LogSettings:
		topicOnly := a.Name == s.Name && a.Policy == s.Policy
		if topicOnly && (seat <= s.Mods || s.Policy&wire.PolicyTopic != 0) {
			return nil
		}
	case *wire.LogKick, *wire.LogBan, *wire.LogUnban, *wire.LogSilence, *wire.LogUnsilence:
		if seat <= s.Mods {
			return s.mayActOn(who, args)
		}
		return refuse(ErrNotAdmin, s.over(Whom(args))...)
	}
	if seat > 0 {
		return refuse(ErrNotAdmin, s.Admin())
	}
	return s.mayActOn(who, args)
}

// mayActOn is checkTarget for a request, whose marks the writer fills in.
func (s *State) mayActOn(who wire.AccountID, args wire.Args) error {
	switch a := args.(type) {
	case *wire.LogKick:
		return s.checkTarget(who, wire.DeviceKey{}, &wire.LogSilence{Account: a.Account})
	case *wire.LogBan:
		if s.Member(a.Account) == nil {
			return nil
		}
		return s.checkTarget(who, wire.DeviceKey{}, &wire.LogSilence{Account: a.Account})
	case *wire.LogUnsilence:
		if err := s.Behind(who, a.Account); err != nil && err != ErrNoSuchMember {
			return err // who is gone may be silenced still
		}
	}
	return s.checkTarget(who, wire.DeviceKey{}, args)
}

// admins returns the admin and the co-admins.
func (s *State) admins() (who []wire.AccountID) {
	for _, m := range s.Members[:min(1+s.Mods, len(s.Members))] {
		who = append(who, m.Account)
	}
	return who
}

// Admins returns the admin and then the co-admins in seat order.
func (s *State) Admins() []wire.AccountID { return s.admins() }

// Regency, rule 4.
const (
	// RegencyAfter is how long the writer must have been silent, counted from
	// one's own start, before somebody else may claim to act for it.
	RegencyAfter = 45 * time.Second
	// ClaimStep is how much longer each present person further back waits.
	ClaimStep = 5 * time.Second
)

// ClaimAfter returns how long a member waits, from the moment the writer
// counts as silent, before it appends a CLAIM: no time for the front-most
// person present, ClaimStep more for each present one in front of it.
// present reports whether a person was heard in the last RegencyAfter; it is
// not asked about self or the writer. ok is false for who is no member or is
// the writer.
func (s *State) ClaimAfter(self wire.AccountID, present func(wire.AccountID) bool) (wait time.Duration, ok bool) {
	writer := s.Writer()
	if self == writer {
		return 0, false
	}
	for _, m := range s.Members {
		if m.Account == self {
			return wait, true
		}
		if m.Account != writer && present(m.Account) {
			wait += ClaimStep
		}
	}
	return 0, false
}
