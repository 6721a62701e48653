package room

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"lanchat/wire"
)

// An Identity is who acts: a person on one device.
type Identity struct {
	Realm   wire.RealmID
	Account wire.AccountID
	Name    string // user name, a hint for the log
	Key     ed25519.PrivateKey
	// For is who asked self to act, as the log is to say; zero: nobody else.
	For wire.AccountID
	// Rand is where secrets come from; nil is crypto/rand.Reader.
	Rand io.Reader
}

// Device returns the public half of the device key.
func (i Identity) Device() wire.DeviceKey { return wire.KeyOf(i.Key.Public().(ed25519.PublicKey)) }

func (i Identity) secret() Secret {
	r := i.Rand
	if r == nil {
		r = rand.Reader
	}
	var s Secret
	if _, err := io.ReadFull(r, s[:]); err != nil {
		panic(fmt.Sprintf("room: no randomness: %v", err)) // nothing can be kept secret any more
	}
	return s
}

// An Act is a signed entry that is not in the log yet. It is stored first,
// with its secret, then added (Log.Add, Keyring.Accept), then sent: an entry
// that was sent and forgotten would be signed twice.
type Act struct {
	Entry *wire.Entry
	// Secret is the secret of the epoch the entry begins, if HasSecret.
	Secret    Secret
	HasSecret bool
	// Stepped says that members compute the secret by themselves and only who
	// was let in needs a KEY. Otherwise everybody in the epoch's device table
	// does.
	Stepped bool
}

// A Person is somebody to be let in: what its token says.
type Person struct {
	Account wire.AccountID
	Name    string
	Devices []wire.Device
}

// Marks returns the highest rseq held of a device: how a removal says where
// that device's messages end.
type Marks func(device wire.DeviceKey) uint64

// Create makes a room whose only member is self, with one device.
func Create(self Identity, now time.Time, name string, policy wire.Policy) (Act, error) {
	if !fitsText(name, 1, wire.MaxRoomName) || !fitsText(self.Name, 0, wire.MaxNameHint) {
		return Act{}, ErrTooLong
	}
	// The room's id is the hash of the entry, which covers the commitment:
	// this one is made without the id.
	secret := self.secret()
	e := wire.SignEntry(self.Realm, self.Key, wire.Entry{
		AuthorN: 1,
		Time:    millisOf(now),
		Commit:  Commit(wire.RoomID{}, secret),
		Args:    &wire.LogCreate{Policy: policy, Account: self.Account, Creator: self.Name, Keys: []wire.DeviceKey{self.Device()}, Name: name},
	})
	return Act{Entry: e, Secret: secret, HasSecret: true}, nil
}

// act makes the next entry of the log, if the rules allow it.
func (l *Log) act(self Identity, now time.Time, args wire.Args, secret func() (s Secret, stepped bool)) (Act, error) {
	s := l.state
	if l.HeldFor(self.Account) {
		return Act{}, ErrHeld
	}
	device := self.Device()
	if owner, ok := s.owners[device]; !ok || owner != self.Account {
		return Act{}, ErrNotMember
	}
	if err := s.checkAct(self.Account, device, args); err != nil {
		return Act{}, err
	}
	e := wire.Entry{
		Room: s.Room, Seq: s.Seq + 1, Prev: s.Head,
		AuthorN: s.counters[device] + 1,
		Time:    millisOf(now),
		Args:    args,
		For:     self.For,
	}
	var a Act
	if changesKeys(args) {
		a.HasSecret = true
		a.Secret, a.Stepped = secret()
		e.Commit = Commit(s.Room, a.Secret)
	}
	if l.Len() >= l.max && len(l.tips) == 1 {
		return Act{}, ErrLogFull
	}
	a.Entry = wire.SignEntry(self.Realm, self.Key, e)
	if err := s.check(a.Entry); err != nil {
		return Act{}, err
	}
	return a, nil
}

// fresh is a secret for an epoch that somebody leaves: R1, random.
func (i Identity) fresh() (Secret, bool) { return i.secret(), false }

// stepped is a secret for an epoch that somebody enters: stepped from the
// current one, or random if that is not held.
func (i Identity) stepped(l *Log, k *Keyring, args wire.Args) func() (Secret, bool) {
	return func() (Secret, bool) {
		if e := k.Current(); e != nil {
			return Step(l.Room(), e.Entry(), e.secret, args), true
		}
		return i.secret(), false
	}
}

// Act makes the entry that somebody asked for: one of those below, with the
// arguments of args and marks filled in here.
func (l *Log) Act(self Identity, now time.Time, keys *Keyring, args wire.Args, marks Marks) (Act, error) {
	switch a := args.(type) {
	case *wire.LogAdmit:
		return l.Admit(self, now, keys, Person{Account: a.Account, Name: a.Name, Devices: a.Devices})
	case *wire.LogKick:
		return l.Kick(self, now, a.Account, a.Reason, marks)
	case *wire.LogBan:
		return l.Ban(self, now, a.Account, a.Reason, TimeOf(a.Until), marks)
	case *wire.LogLeft:
		return l.Left(self, now, a.Account, marks)
	case *wire.LogDevice:
		if a.Remove {
			return l.RemoveDevice(self, now, a.Account, a.Key, marks)
		}
		return l.AddDevice(self, now, keys, a.Account, wire.Device{Key: a.Key, Cert: a.Cert})
	case *wire.LogSettings:
		return l.Settings(self, now, a.Name, a.Topic, a.Policy)
	case *wire.LogResolve:
		return l.Resolve(self, now, a.Removal, a.Uphold, marks)
	case *wire.LogUnban, *wire.LogTransfer, *wire.LogPromote, *wire.LogDemote, *wire.LogSilence, *wire.LogUnsilence:
		return l.act(self, now, args, nil)
	}
	return Act{}, refuse(ErrNotAdmin, l.state.front(args.Op())...)
}

// Admit lets a person in.
func (l *Log) Admit(self Identity, now time.Time, keys *Keyring, p Person) (Act, error) {
	if !fitsText(p.Name, 0, wire.MaxNameHint) {
		return Act{}, ErrTooLong
	}
	if !uniqueKeys(p.Devices) {
		return Act{}, ErrDevice
	}
	args := &wire.LogAdmit{Account: p.Account, Name: p.Name, Devices: p.Devices}
	return l.act(self, now, args, self.stepped(l, keys, args))
}

// Kick removes a member.
func (l *Log) Kick(self Identity, now time.Time, who wire.AccountID, reason string, marks Marks) (Act, error) {
	if !fitsText(reason, 0, wire.MaxReason) {
		return Act{}, ErrTooLong
	}
	return l.act(self, now, &wire.LogKick{Account: who, Reason: reason, Marks: l.marks(who, marks)}, self.fresh)
}

// Ban removes a member, or keeps somebody out who is none. A zero until is
// for good.
func (l *Log) Ban(self Identity, now time.Time, who wire.AccountID, reason string, until time.Time, marks Marks) (Act, error) {
	if !fitsText(reason, 0, wire.MaxReason) {
		return Act{}, ErrTooLong
	}
	args := &wire.LogBan{Account: who, Until: millisOf(until), Reason: reason, Marks: l.marks(who, marks)}
	return l.act(self, now, args, self.fresh)
}

// Unban lifts a ban.
func (l *Log) Unban(self Identity, now time.Time, who wire.AccountID) (Act, error) {
	return l.act(self, now, &wire.LogUnban{Account: who}, nil)
}

// Left records a member's signed leave.
func (l *Log) Left(self Identity, now time.Time, who wire.AccountID, marks Marks) (Act, error) {
	return l.act(self, now, &wire.LogLeft{Account: who, Marks: l.marks(who, marks)}, self.fresh)
}

// Leave is the admin leaving. Plain members send a wire.Leave.
func (l *Log) Leave(self Identity, now time.Time) (Act, error) {
	return l.act(self, now, &wire.LogLeave{}, nil)
}

// Transfer makes a member the admin; the admin becomes the first co-admin.
func (l *Log) Transfer(self Identity, now time.Time, who wire.AccountID) (Act, error) {
	return l.act(self, now, &wire.LogTransfer{Account: who}, nil)
}

// Promote makes a member a co-admin.
func (l *Log) Promote(self Identity, now time.Time, who wire.AccountID) (Act, error) {
	return l.act(self, now, &wire.LogPromote{Account: who}, nil)
}

// Demote makes a co-admin a member again.
func (l *Log) Demote(self Identity, now time.Time, who wire.AccountID) (Act, error) {
	return l.act(self, now, &wire.LogDemote{Account: who}, nil)
}

// Silence keeps a member from speaking, for good if until is zero.
func (l *Log) Silence(self Identity, now time.Time, who wire.AccountID, until time.Time) (Act, error) {
	return l.act(self, now, &wire.LogSilence{Account: who, Until: millisOf(until)}, nil)
}

// Unsilence lifts a silence.
func (l *Log) Unsilence(self Identity, now time.Time, who wire.AccountID) (Act, error) {
	return l.act(self, now, &wire.LogUnsilence{Account: who}, nil)
}

// Claim makes self the acting writer, or ends a regency if self is the admin.
func (l *Log) Claim(self Identity, now time.Time) (Act, error) {
	return l.act(self, now, &wire.LogClaim{}, nil)
}

// Rekey begins an epoch with a new random secret that the devices in without
// are not given: see Keyring.RekeyDue and Keyring.Without.
func (l *Log) Rekey(self Identity, now time.Time, without []wire.DeviceID) (Act, error) {
	without = slices.Clone(without)
	slices.SortFunc(without, func(a, b wire.DeviceID) int { return slices.Compare(a[:], b[:]) })
	without = slices.Compact(without)
	if len(without) > wire.MaxWithout {
		return Act{}, ErrTooLong
	}
	return l.act(self, now, &wire.LogRekey{Without: without}, self.fresh)
}

// Settings sets the room's name, topic and policy.
func (l *Log) Settings(self Identity, now time.Time, name, topic string, policy wire.Policy) (Act, error) {
	if !fitsText(name, 1, wire.MaxRoomName) || !fitsText(topic, 0, wire.MaxTopic) {
		return Act{}, ErrTooLong
	}
	return l.act(self, now, &wire.LogSettings{Policy: policy, Name: name, Topic: topic}, nil)
}

// AddDevice gives a member another device.
func (l *Log) AddDevice(self Identity, now time.Time, keys *Keyring, who wire.AccountID, d wire.Device) (Act, error) {
	args := &wire.LogDevice{Account: who, Key: d.Key, Cert: d.Cert}
	return l.act(self, now, args, self.stepped(l, keys, args))
}

// RemoveDevice takes a device from a member who has others.
func (l *Log) RemoveDevice(self Identity, now time.Time, who wire.AccountID, key wire.DeviceKey, marks Marks) (Act, error) {
	return l.act(self, now, &wire.LogDevice{Account: who, Remove: true, Key: key, Number: marks.of(key)}, self.fresh)
}

// Resolve settles a removal on a losing branch (Log.Suspended): uphold removes
// the person here too.
func (l *Log) Resolve(self Identity, now time.Time, removal wire.Hash, uphold bool, marks Marks) (Act, error) {
	i := slices.IndexFunc(l.now.suspended, func(s Suspension) bool { return s.Removal.Hash() == removal })
	if i < 0 {
		return Act{}, ErrResolved
	}
	args := &wire.LogResolve{Removal: removal, Account: l.now.suspended[i].Account, Uphold: uphold}
	if uphold {
		args.Marks = l.marks(args.Account, marks)
	}
	return l.act(self, now, args, self.fresh)
}

// marks returns the marks of a member's devices; nil for others.
func (l *Log) marks(who wire.AccountID, of Marks) (marks []wire.Mark) {
	if m := l.state.Member(who); m != nil {
		for _, d := range m.Devices {
			marks = append(marks, wire.Mark{Key: d.Key, Number: of.of(d.Key)})
		}
	}
	return marks
}

// of returns the mark of a device; without a function nothing is known of it.
func (m Marks) of(device wire.DeviceKey) uint64 {
	if m == nil {
		return 0
	}
	return m(device)
}

// fitsText reports whether an entry can hold the text.
func fitsText(s string, min, max int) bool {
	return len(s) >= min && len(s) <= max && utf8.ValidString(s)
}

func uniqueKeys(devices []wire.Device) bool {
	for i, d := range devices {
		if slices.ContainsFunc(devices[:i], func(o wire.Device) bool { return o.Key == d.Key }) {
			return false
		}
	}
	return len(devices) > 0 && len(devices) <= wire.MaxDevices
}
