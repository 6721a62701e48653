package room

import (
	"slices"
	"time"

	"lanchat/wire"
)

// The rules: what may follow a state, and what members may ask for.

// adminEntries is how many of the entries that a branch may have, the last ones,
// only the admin may write: who stands in could fill it otherwise.
const adminEntries = 1000

// front returns the admin and, where it may do op, the regent.
func (s *State) front(op wire.Op) []wire.AccountID {
	who := []wire.AccountID{s.Admin()}
	if s.Regent != (wire.AccountID{}) && RegentMay(op) {
		who = append(who, s.Regent)
	}
	return who
}

// RegentMay reports whether a regent may do op: "author = acting writer and op ∈
// {ADMIT, KICK, BAN, REKEY, DEVICE, RESOLVE}".
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
	admins := s.Admins()
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
			return refuse(ErrNotAdmin, s.Admins()...)
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

// Admins returns the admin and then the co-admins in seat order.
func (s *State) Admins() (who []wire.AccountID) {
	for _, m := range s.Members[:min(1+s.Mods, len(s.Members))] {
		who = append(who, m.Account)
	}
	return who
}

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

// Whom returns the account that arguments are about; zero: nobody's.
func Whom(args wire.Args) wire.AccountID {
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
	case *wire.LogDevice:
		return a.Account
	case *wire.LogResolve:
		return a.Account
	}
	return wire.AccountID{}
}
