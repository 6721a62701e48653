package room

import (
	"errors"
	"slices"
	"time"

	"lanchat/wire"
)

const (
	// ReadPrevious is how long a packet of the previous epoch may still come
	// (R4).
	ReadPrevious = 10 * time.Second
	// WipeAfter is when the secret of an epoch that was left is wiped (R4).
	WipeAfter = 2 * time.Minute
	// RotateAfter and RotatePackets are how long and for how many packets an
	// epoch is used (R6).
	RotateAfter   = 24 * time.Hour
	RotatePackets = 1 << 20
	// MergeAgain is the least time between two rotations because branches met:
	// somebody may make branches all day.
	MergeAgain = time.Minute

	maxEarly = 8 // secrets that came before their entry
)

// ErrStale means that a packet's epoch or its sender is not accepted any more.
var ErrStale = errors.New("room: packet of a past epoch")

// A Keyring holds the epoch secrets of one room. It says which epoch to send
// in, which packets are still taken, and who may be given a secret.
//
//	            KEY, own entry, step           another epoch begins
//	missing ─────────────────────────► current ────────────────────► previous
//	   ▲                                                  10 s: no longer readable
//	   └──────────────────── 2 min: wiped ◄───────────────────────────┘
//
// It does no I/O and never reads the clock; one goroutine owns it. What its
// methods return as Keys is stored before the next packet is sent.
type Keyring struct {
	self wire.DeviceKey
	log  *Log
	held map[wire.Hash]*heldEpoch // by entry
	byID map[wire.KeyID]*heldEpoch

	early      map[wire.Hash]Secret // their entry is not known, or does not count
	earlyOrder []wire.Hash

	current wire.Hash // entry of the epoch at the last Update
	packets int       // seen in it
	merged  bool      // branches met since it began
	mergeAt time.Time // when that is a reason for another one
	blocked bool      // it has readers it should not have, or not this device
	lacking bool      // a device that may read is not in it

	leaving  map[wire.AccountID]uint64 // and which stay of theirs: Member.Admitted
	revoked  map[wire.DeviceID]bool
	restored map[wire.DeviceID]bool // were revoked, and are not any more

	keys Keys // collected for the return of the method that runs
}

type heldEpoch struct {
	*Epoch
	until time.Time // readable before; zero: it is the current one
	wipe  time.Time // zero: it is the current one
}

// Keys is what the store has to do with secrets.
type Keys struct {
	Save []EpochSecret
	Drop []wire.Hash // entries whose secrets are wiped
}

// An EpochSecret is a secret and the entry it belongs to.
type EpochSecret struct {
	Entry  wire.Hash
	Secret Secret
}

// NewKeyring returns the keyring of a room for the device self, with the
// secrets the store has. Those of no use any more come back in Keys.Drop,
// the others of past epochs after WipeAfter.
func NewKeyring(now time.Time, log *Log, self wire.DeviceKey, stored []EpochSecret) (*Keyring, Keys) {
	k := &Keyring{
		self: self, log: log,
		held: map[wire.Hash]*heldEpoch{}, byID: map[wire.KeyID]*heldEpoch{}, early: map[wire.Hash]Secret{},
		leaving: map[wire.AccountID]uint64{}, revoked: map[wire.DeviceID]bool{}, restored: map[wire.DeviceID]bool{},
	}
	for _, s := range stored {
		info := log.EpochInfo(s.Entry)
		if info == nil || !log.Counts(s.Entry) || !fits(log.Room(), info, s.Secret) {
			k.keys.Drop = append(k.keys.Drop, s.Entry)
			continue
		}
		k.hold(info, s.Secret, now, now.Add(WipeAfter))
	}
	k.update(now)
	return k, k.done()
}

// done returns what the running method collected.
func (k *Keyring) done() (keys Keys) {
	keys, k.keys = k.keys, Keys{}
	return keys
}

// hold keeps a secret that fits.
func (k *Keyring) hold(info *EpochInfo, secret Secret, until, wipe time.Time) *heldEpoch {
	h := &heldEpoch{Epoch: newEpoch(k.log.Realm(), k.log.Room(), info, secret), until: until, wipe: wipe}
	k.held[info.Entry] = h
	k.byID[h.keyID] = h
	return h
}

// Update follows the log after Log.Add or Log.Decide.
func (k *Keyring) Update(now time.Time, c Change) Keys {
	// R6: "the writer rotates … after any merge". A branch that lost without
	// having let anybody in or out needs none.
	rekeyed := func(e *wire.Entry) bool { return changesKeys(e.Args) }
	lost := func(e *wire.Entry) bool { return rekeyed(e) && !k.log.Counts(e.Hash()) }
	k.update(now)
	k.merged = k.merged || slices.ContainsFunc(c.Dropped, rekeyed) || slices.ContainsFunc(c.Added, lost)
	return k.done()
}

// Accept takes a secret from a KEY, or that of an entry of one's own. It
// returns ErrCommitted if it is not the entry's: drop it and count. ErrUnknown
// means that the entry is not known or does not count here: the secret is kept
// for a while in case it will, and the log is to be pulled.
func (k *Keyring) Accept(now time.Time, entry wire.Hash, secret Secret) (Keys, error) {
	info := k.log.EpochInfo(entry)
	if info != nil && !fits(k.log.Room(), info, secret) {
		return Keys{}, ErrCommitted
	}
	if info == nil || !k.log.Counts(entry) {
		k.keepEarly(entry, secret)
		return Keys{}, ErrUnknown
	}
	k.take(now, info, secret)
	k.update(now)
	return k.done(), nil
}

// take holds a secret that is new. It is not readable by itself: update
// makes it so if it is the current one or leads there.
func (k *Keyring) take(now time.Time, info *EpochInfo, secret Secret) {
	if k.held[info.Entry] == nil {
		k.hold(info, secret, now, now.Add(WipeAfter))
		k.keys.Save = append(k.keys.Save, EpochSecret{Entry: info.Entry, Secret: secret})
	}
}

func (k *Keyring) keepEarly(entry wire.Hash, secret Secret) {
	if _, ok := k.early[entry]; !ok {
		if len(k.earlyOrder) == maxEarly {
			delete(k.early, k.earlyOrder[0])
			k.earlyOrder = slices.Delete(k.earlyOrder, 0, 1)
		}
		k.earlyOrder = append(k.earlyOrder, entry)
	}
	k.early[entry] = secret
}

// update makes the epoch of the log's head the current one.
func (k *Keyring) update(now time.Time) {
	s := k.log.State()
	entry := s.Epoch.Entry
	for _, e := range slices.Clone(k.earlyOrder) {
		info := k.log.EpochInfo(e)
		if info == nil || !k.log.Counts(e) {
			continue
		}
		if fits(k.log.Room(), info, k.early[e]) {
			k.take(now, info, k.early[e])
		}
		delete(k.early, e)
		k.earlyOrder = slices.DeleteFunc(k.earlyOrder, func(h wire.Hash) bool { return h == e })
	}
	if k.held[entry] == nil {
		k.step(now)
	}
	for e, h := range k.held {
		switch {
		case e == entry && !s.Unkeyed:
			h.until, h.wipe = time.Time{}, time.Time{}
		case h.wipe.IsZero():
			h.until, h.wipe = now.Add(ReadPrevious), now.Add(WipeAfter)
		}
	}
	if k.current != entry {
		if k.merged {
			k.mergeAt = now.Add(MergeAgain)
		}
		k.current, k.packets, k.merged = entry, 0, false
	}
	for a := range k.leaving {
		if !k.isLeaving(a) {
			delete(k.leaving, a)
		}
	}
	k.block()
}

// step computes the secret of the current epoch from the newest one that is
// held, if only people came since.
func (k *Keyring) step(now time.Time) {
	var todo []*node
	n := k.log.nodes[k.log.State().Epoch.Entry]
	for k.held[n.hash] == nil {
		if !steps(n.entry.Args) {
			return
		}
		todo = append(todo, n)
		for n = n.parent; !changesKeys(n.entry.Args); n = n.parent {
		}
	}
	from := k.held[n.hash]
	for _, n := range slices.Backward(todo) {
		info := k.log.EpochInfo(n.hash)
		secret := Step(k.log.Room(), from.Entry(), from.secret, n.entry.Args)
		if !fits(k.log.Room(), info, secret) {
			return // its author made another one: wait for the KEY
		}
		if !from.wipe.IsZero() { // others may still be a step behind
			from.until = now.Add(ReadPrevious)
		}
		from = k.hold(info, secret, now.Add(ReadPrevious), now.Add(WipeAfter))
		k.keys.Save = append(k.keys.Save, EpochSecret{Entry: n.hash, Secret: secret})
	}
}

// block finds out whether the current epoch is not to be sent in: a suspended
// person or a revoked device is in it ("A sender that has applied a removal
// never sends under the old epoch again"), or this device is not.
func (k *Keyring) block() {
	info := k.log.State().Epoch
	_, mine := info.Slot(k.self)
	k.blocked = !mine || slices.ContainsFunc(info.Slots, func(s Slot) bool {
		return k.revoked[s.Device] || k.log.IsSuspended(s.Account)
	})
	k.lacking = false
	for _, m := range k.log.State().Members {
		for _, d := range m.Devices {
			if _, in := info.Slot(d.Key); in || k.revoked[d.ID] || k.log.IsSuspended(m.Account) {
				continue
			}
			// Left out by somebody who knows why, unless that was settled since.
			k.lacking = k.lacking || !k.log.State().Without(d.ID) || k.restored[d.ID] || k.log.isExcused(m.Account)
		}
	}
}

// Current returns the epoch to send in. nil means that messages queue (R3):
// the secret is missing, the room has no key since its admin left, it stands
// still between two signatures, or somebody who should not read holds the key.
func (k *Keyring) Current() *Epoch {
	s := k.log.State()
	h := k.held[s.Epoch.Entry]
	if h == nil || s.Unkeyed || k.blocked || k.log.Held() {
		return nil
	}
	return h.Epoch
}

// Missing returns the entry whose secret is to be asked for; ok is false if
// none is.
func (k *Keyring) Missing() (entry wire.Hash, ok bool) {
	s := k.log.State()
	return s.Epoch.Entry, k.held[s.Epoch.Entry] == nil && !s.Unkeyed
}

// Lookup returns the epoch of a key id if its packets may still be read, else
// nil.
func (k *Keyring) Lookup(now time.Time, id wire.KeyID) *Epoch {
	h := k.byID[id]
	if h == nil || !h.readable(now) {
		return nil
	}
	return h.Epoch
}

func (h *heldEpoch) readable(now time.Time) bool { return h.until.IsZero() || now.Before(h.until) }

// Epochs returns the epochs that may be read now, as a snapshot for readers
// in other goroutines; what they open still passes Readable.
func (k *Keyring) Epochs(now time.Time) (epochs []*Epoch) {
	for _, h := range k.held {
		if h.readable(now) {
			epochs = append(epochs, h.Epoch)
		}
	}
	return epochs
}

// Readable returns nil if a packet of the device may be taken now, else
// ErrStale. "Receivers accept the previous epoch for 10 s, from remaining
// members only."
func (k *Keyring) Readable(now time.Time, entry wire.Hash, from Slot) error {
	h := k.held[entry]
	if h == nil || !h.readable(now) {
		return ErrStale
	}
	if a, ok := k.log.State().Owner(from.Key); !ok || a != from.Account {
		return ErrStale
	}
	return nil
}

// Serve returns the secret of an epoch for a device that asks over an
// authenticated link: ErrUnknown if it is not held, ErrNoSecret if the device
// must not have it. R5: "KEY is served only to device keys in effective
// members of e, not suspended at the server's head".
func (k *Keyring) Serve(to wire.DeviceKey, entry wire.Hash) (Secret, error) {
	h := k.held[entry]
	if h == nil {
		return Secret{}, ErrUnknown
	}
	slot, ok := h.info.Slot(to)
	if !ok || !k.log.Counts(entry) {
		return Secret{}, ErrNoSecret
	}
	who := h.info.Slots[slot]
	owner, ok := k.log.State().Owner(to)
	switch {
	case !ok || owner != who.Account:
		return Secret{}, ErrNoSecret // removed since
	case k.log.State().Without(who.Device), k.log.IsSuspended(owner), k.isLeaving(owner), k.revoked[who.Device]:
		return Secret{}, ErrNoSecret
	}
	return h.secret, nil
}

// Leaving notes that a plain member's signed leave was seen: "takes effect
// for key serving at once; the writer records it and rekeys".
func (k *Keyring) Leaving(a wire.AccountID) {
	if m := k.log.State().Member(a); m != nil {
		k.leaving[a] = m.Admitted
	}
}

// isLeaving reports whether a leave was seen that the log does not have yet;
// who was let in again since is not leaving.
func (k *Keyring) isLeaving(a wire.AccountID) bool {
	stay, ok := k.leaving[a]
	m := k.log.State().Member(a)
	return ok && m != nil && m.Admitted == stay
}

// Leavers returns the members who said that they leave, in seat order: the
// writer is to record it.
func (k *Keyring) Leavers() (leavers []wire.AccountID) {
	for _, m := range k.log.State().Members {
		if k.isLeaving(m.Account) {
			leavers = append(leavers, m.Account)
		}
	}
	return leavers
}

// Revoke notes that a device's token was revoked: it gets no secret, and
// nobody sends until an epoch leaves it out.
func (k *Keyring) Revoke(d wire.DeviceID) {
	k.revoked[d] = true
	delete(k.restored, d)
	k.block()
}

// Restore notes that a device has a good token again.
func (k *Keyring) Restore(d wire.DeviceID) {
	if k.revoked[d] {
		delete(k.revoked, d)
		k.restored[d] = true
		k.block()
	}
}

// Without returns the devices of members that a REKEY has to leave out now:
// those of suspended people and those revoked. Log.Rekey wants it.
func (k *Keyring) Without() (without []wire.DeviceID) {
	for _, m := range k.log.State().Members {
		suspended := k.log.IsSuspended(m.Account)
		for _, d := range m.Devices {
			if (suspended || k.revoked[d.ID]) && len(without) < wire.MaxWithout {
				without = append(without, d.ID)
			}
		}
	}
	slices.SortFunc(without, func(a, b wire.DeviceID) int { return slices.Compare(a[:], b[:]) })
	return without
}

// Packet counts a packet sent or taken in the current epoch.
func (k *Keyring) Packet() { k.packets++ }

// RekeyDue reports whether the writer should append a REKEY now: the admin
// before it left, somebody in the epoch should not read on or somebody who
// should is not in it, branches met, or the epoch was used enough (R6).
func (k *Keyring) RekeyDue(now time.Time) bool {
	s := k.log.State()
	begun := TimeOf(k.log.Get(s.Epoch.Entry).Time) // advisory, and only a habit hangs on it
	return s.Unkeyed || k.blocked && k.helps() || k.lacking || k.merged && !now.Before(k.mergeAt) || k.packets >= RotatePackets || now.Sub(begun) >= RotateAfter
}

// helps reports whether a REKEY would let this device in or leave out somebody
// who is in the current epoch. It cannot where more have to go than fit into
// one: those wait for KICK.
func (k *Keyring) helps() bool {
	info := k.log.State().Epoch
	_, mine := info.Slot(k.self)
	without := k.Without()
	return !mine || slices.ContainsFunc(info.Slots, func(s Slot) bool { return slices.Contains(without, s.Device) })
}

// Deadline returns when Advance next has work; zero: never.
func (k *Keyring) Deadline() (deadline time.Time) {
	for _, h := range k.held {
		if !h.wipe.IsZero() && (deadline.IsZero() || h.wipe.Before(deadline)) {
			deadline = h.wipe
		}
	}
	return deadline
}

// Advance tells the time: secrets of past epochs are wiped.
func (k *Keyring) Advance(now time.Time) Keys {
	for e, h := range k.held {
		if !h.wipe.IsZero() && !now.Before(h.wipe) {
			delete(k.held, e)
			delete(k.byID, h.keyID)
			h.secret.Wipe()
			k.keys.Drop = append(k.keys.Drop, e)
		}
	}
	return k.done()
}
