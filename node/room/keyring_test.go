package room

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"lanchat/wire"
)

// wait moves a desk's time on.
func (d *desk) wait(by time.Duration) Keys {
	d.now = d.now.Add(by)
	return d.keys.Advance(d.now)
}

// Everybody who has the key steps to the next one when somebody enters; the
// one who enters needs it and cannot go back.
func TestMembersStep(t *testing.T) {
	ann := found(t, "ann", "bob")
	bob := ann.desks("bob")[0]
	first := bob.log.State().Epoch.Entry
	ann.admit("cat")
	ann.admit("dan")
	c, err := bob.log.Add(ann.log.Since(1)...)
	if err != nil {
		t.Fatal(err)
	}
	keys := bob.keys.Update(bob.now, c)
	if len(keys.Save) != 2 || len(keys.Drop) != 0 {
		t.Errorf("to store: %d, to wipe: %d; want 2, 0", len(keys.Save), len(keys.Drop))
	}
	if a, b := ann.keys.Current(), bob.keys.Current(); a == nil || b == nil || a.KeyID() != b.KeyID() || a.secret != b.secret {
		t.Errorf("ann sends in %v, bob in %v; want one epoch", a, b)
	}
	dan := ann.peer("dan")
	if _, missing := dan.keys.Missing(); dan.keys.Current() != nil || !missing {
		t.Error("dan has a key without having been given one")
	}
	dan.take(bob)
	if _, missing := dan.keys.Missing(); dan.keys.Current() == nil || missing {
		t.Error("dan has no key after having been given one")
	}
	if len(dan.keys.held) != 1 {
		t.Errorf("dan holds %d secrets, want only the one given", len(dan.keys.held))
	}
	if _, err := bob.keys.Serve(who("dan").Device(), first); !errors.Is(err, ErrNoSecret) {
		t.Errorf("the key of before dan came: %v, want %v", err, ErrNoSecret)
	}
	// A joiner who was given the key of a moment ago steps on.
	cat := ann.peer("cat")
	entry := ann.log.Since(2)[0].Hash()
	secret, err := bob.keys.Serve(cat.self.Device(), entry)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := cat.keys.Accept(cat.now, entry, secret); err != nil || len(keys.Save) != 2 || cat.keys.Current() == nil {
		t.Errorf("cat: %v, to store %d, sends %v", err, len(keys.Save), cat.keys.Current() != nil)
	}
	if len(cat.keys.Epochs(cat.now)) != 2 {
		t.Error("cat does not read who is still a step behind")
	}
}

// R3: "a sender with an applied removal and no new secret queues". R5, R7:
// "a secret that fails the commit is dropped".
func TestRemovalStopsSending(t *testing.T) {
	ann := found(t, "ann", "bob", "cat", "dan")
	desks := ann.desks("bob", "dan")
	bob, dan := desks[0], desks[1]
	kick := ann.kick("dan")
	bob.add(kick)
	dan.add(kick)
	if bob.keys.Current() != nil || dan.keys.Current() != nil {
		t.Error("somebody sends under the old epoch after the kick")
	}
	if entry, missing := bob.keys.Missing(); !missing || entry != kick.Hash() {
		t.Errorf("missing %v %v, want the key of the kick", entry, missing)
	}
	if _, err := bob.keys.Accept(bob.now, kick.Hash(), Secret{9}); !errors.Is(err, ErrCommitted) || bob.keys.Current() != nil {
		t.Errorf("a wrong secret: %v, want %v", err, ErrCommitted)
	}
	if _, err := ann.keys.Serve(dan.self.Device(), kick.Hash()); !errors.Is(err, ErrNoSecret) {
		t.Errorf("dan asks for the new key: %v, want %v", err, ErrNoSecret)
	}
	if _, err := bob.keys.Serve(dan.self.Device(), kick.Hash()); !errors.Is(err, ErrUnknown) {
		t.Errorf("dan asks bob, who has none: %v, want %v", err, ErrUnknown)
	}
	bob.take(ann)
	if bob.keys.Current() == nil {
		t.Error("bob does not send with the new key")
	}
	// A malicious member gives it to dan all the same: dan's packets are not
	// taken, and dan's own node does not send.
	secret, _ := ann.keys.Serve(bob.self.Device(), kick.Hash())
	if _, err := dan.keys.Accept(dan.now, kick.Hash(), secret); err != nil || dan.keys.Current() != nil {
		t.Errorf("dan with a leaked key: %v, sends %v", err, dan.keys.Current() != nil)
	}
}

// R4: "previous epoch is readable for 10 s, current members only; secrets
// wiped after 2 min."
func TestPreviousEpoch(t *testing.T) {
	ann := found(t, "ann", "bob", "cat")
	old := ann.keys.Current()
	slotOf := func(e *Epoch, name string) Slot {
		i, _ := e.Info().Slot(who(name).Device())
		return e.Info().Slots[i]
	}
	ann.wait(time.Hour)
	ann.kick("cat")
	if ann.keys.Lookup(ann.now, old.KeyID()) != old || len(ann.keys.Epochs(ann.now)) < 2 {
		t.Error("the previous epoch is not readable")
	}
	if err := ann.keys.Readable(ann.now, old.Entry(), slotOf(old, "bob")); err != nil {
		t.Errorf("bob under the previous epoch: %v", err)
	}
	if err := ann.keys.Readable(ann.now, old.Entry(), slotOf(old, "cat")); !errors.Is(err, ErrStale) {
		t.Errorf("cat under the previous epoch: %v, want %v", err, ErrStale)
	}
	ann.wait(ReadPrevious - 1)
	if ann.keys.Lookup(ann.now, old.KeyID()) == nil {
		t.Error("unreadable before 10 s")
	}
	ann.wait(1)
	if ann.keys.Lookup(ann.now, old.KeyID()) != nil || len(ann.keys.Epochs(ann.now)) != 1 {
		t.Error("readable after 10 s")
	}
	if err := ann.keys.Readable(ann.now, old.Entry(), slotOf(old, "bob")); !errors.Is(err, ErrStale) {
		t.Errorf("bob after 10 s: %v, want %v", err, ErrStale)
	}
	if got, want := ann.keys.Deadline(), ann.now.Add(WipeAfter-ReadPrevious); !got.Equal(want) {
		t.Errorf("deadline %v, want %v", got, want)
	}
	if keys := ann.wait(WipeAfter - ReadPrevious - 1); len(keys.Drop) > 0 {
		t.Error("wiped before 2 min")
	}
	if keys := ann.wait(1); !slices.Equal(keys.Drop, []wire.Hash{old.Entry()}) || old.secret != (Secret{}) {
		t.Errorf("after 2 min: %v to wipe, want %v", keys.Drop, old.Entry())
	}
	if !ann.keys.Deadline().IsZero() {
		t.Error("still something to do")
	}
	now := ann.keys.Current()
	if err := ann.keys.Readable(ann.now, now.Entry(), slotOf(now, "bob")); err != nil {
		t.Errorf("bob under the current epoch: %v", err)
	}
}

// "After LEAVE (the admin's own) the room has *no* sending epoch until the
// successor's REKEY."
func TestAdminLeaves(t *testing.T) {
	ann := found(t, "ann", "bob", "cat")
	desks := ann.desks("bob", "cat")
	bob, cat := desks[0], desks[1]
	leave := ann.do(ann.log.Leave(ann.self, ann.now))
	bob.add(leave)
	cat.add(leave)
	if bob.keys.Current() != nil || cat.keys.Current() != nil || !bob.log.State().Unkeyed {
		t.Error("somebody sends between LEAVE and REKEY")
	}
	if _, missing := cat.keys.Missing(); missing {
		t.Error("cat asks for a key that does not exist")
	}
	if !bob.keys.RekeyDue(bob.now) {
		t.Error("no rekey due")
	}
	refused(t, "lets somebody in with a key ann would know", ErrRekeyFirst)(bob.log.Admit(bob.self, bob.now, bob.keys, personOf("dan")))
	rekey := bob.rekey()
	cat.add(rekey)
	if bob.keys.Current() == nil || cat.keys.Current() != nil {
		t.Error("bob does not send after REKEY, or cat without its key")
	}
	cat.take(bob)
	if cat.keys.Current() == nil {
		t.Error("cat does not send with the new key")
	}
	if _, err := bob.keys.Serve(ann.self.Device(), rekey.Hash()); !errors.Is(err, ErrNoSecret) {
		t.Errorf("ann asks for the new key: %v, want %v", err, ErrNoSecret)
	}
}

// "leave (signed, kind 4) of a plain member takes effect for key serving at
// once; the writer records it and rekeys."
func TestMemberLeaves(t *testing.T) {
	ann := found(t, "ann", "bob", "cat")
	bob := ann.desks("bob")[0]
	cat := who("cat").Device()
	entry := ann.log.State().Epoch.Entry
	if _, err := bob.keys.Serve(cat, entry); err != nil {
		t.Fatal(err)
	}
	bob.keys.Leaving(who("cat").Account)
	if _, err := bob.keys.Serve(cat, entry); !errors.Is(err, ErrNoSecret) {
		t.Errorf("cat, leaving, asks: %v, want %v", err, ErrNoSecret)
	}
	ann.do(ann.log.Left(ann.self, ann.now, who("cat").Account, nil))
	ann.admit("cat") // and is back
	bob.add(ann.log.Since(1)...)
	bob.take(ann)
	if _, err := bob.keys.Serve(cat, bob.log.State().Epoch.Entry); err != nil {
		t.Errorf("cat, back, asks: %v", err)
	}
}

// "revoked while connected: rooms shared with it have queued; the writer or
// regent rekeys at once without the suspended device"
func TestRevokedDevice(t *testing.T) {
	ann := found(t, "ann", "bob", "cat")
	bob := ann.desks("bob")[0]
	for _, d := range []*desk{ann, bob} {
		d.keys.Revoke(device("cat"))
		if d.keys.Current() != nil || !d.keys.RekeyDue(d.now) {
			t.Errorf("%s sends while a revoked device has the key", d.self.Name)
		}
	}
	if _, err := ann.keys.Serve(who("cat").Device(), ann.log.State().Epoch.Entry); !errors.Is(err, ErrNoSecret) {
		t.Errorf("the revoked device asks: %v, want %v", err, ErrNoSecret)
	}
	if got := ann.keys.Without(); !slices.Equal(got, []wire.DeviceID{device("cat")}) {
		t.Errorf("without %v, want cat's", got)
	}
	bob.add(ann.rekey())
	bob.take(ann)
	if ann.keys.Current() == nil || bob.keys.Current() == nil {
		t.Error("nobody sends after the rekey")
	}
	if ann.log.State().Member(who("cat").Account) == nil {
		t.Error("cat was removed, not left out")
	}
}

// A REKEY leaves out as many devices as fit; no second one is due for the rest,
// and nobody sends while they have the key.
func TestMoreRevokedThanFit(t *testing.T) {
	ann := found(t, "ann", "bob")
	for i := range wire.MaxWithout + 2 {
		name := fmt.Sprintf("guest%dx", i)
		ann.admit(name)
		ann.keys.Revoke(device(name))
	}
	if !ann.keys.RekeyDue(ann.now) {
		t.Fatal("no rekey due")
	}
	ann.rekey()
	if ann.keys.RekeyDue(ann.now) || ann.keys.Current() != nil {
		t.Errorf("rekey due %v, sends %v; want neither", ann.keys.RekeyDue(ann.now), ann.keys.Current() != nil)
	}
	for i := range 2 {
		ann.kick(fmt.Sprintf("guest%dx", i))
	}
	for range 3 { // those who had not fit do now
		if ann.keys.RekeyDue(ann.now) {
			ann.rekey()
		}
	}
	if ann.keys.Current() == nil || ann.keys.RekeyDue(ann.now) {
		t.Errorf("sends %v, rekey due %v; want true, false", ann.keys.Current() != nil, ann.keys.RekeyDue(ann.now))
	}
}

// R6: "the writer rotates at 24 h/2²⁰ packets".
func TestRotation(t *testing.T) {
	ann := found(t, "ann", "bob")
	if ann.keys.RekeyDue(ann.now.Add(RotateAfter - 1)) {
		t.Error("due before 24 h")
	}
	if !ann.keys.RekeyDue(ann.now.Add(RotateAfter)) {
		t.Error("not due after 24 h")
	}
	for range RotatePackets - 1 {
		ann.keys.Packet()
	}
	if ann.keys.RekeyDue(ann.now) {
		t.Error("due before 2^20 packets")
	}
	ann.keys.Packet()
	if !ann.keys.RekeyDue(ann.now) {
		t.Error("not due after 2^20 packets")
	}
	ann.rekey()
	if ann.keys.RekeyDue(ann.now) {
		t.Error("due right after a rekey")
	}
}

// A KEY may overtake its entry.
func TestEarlyKey(t *testing.T) {
	ann := found(t, "ann", "bob", "cat")
	bob := ann.desks("bob")[0]
	kick := ann.kick("cat")
	secret, err := ann.keys.Serve(bob.self.Device(), kick.Hash())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.keys.Accept(bob.now, kick.Hash(), secret); !errors.Is(err, ErrUnknown) {
		t.Errorf("before the entry: %v, want %v", err, ErrUnknown)
	}
	c, err := bob.log.Add(kick)
	if err != nil {
		t.Fatal(err)
	}
	if keys := bob.keys.Update(bob.now, c); len(keys.Save) != 1 || bob.keys.Current() == nil {
		t.Errorf("with the entry: %d to store, sends %v", len(keys.Save), bob.keys.Current() != nil)
	}
	for i := range 3 * maxEarly {
		bob.keys.Accept(bob.now, wire.Hash{byte(i), 1}, Secret{})
	}
	if len(bob.keys.early) != maxEarly || len(bob.keys.earlyOrder) != maxEarly {
		t.Errorf("%d secrets wait for entries, want %d", len(bob.keys.early), maxEarly)
	}
}

// What the store has is taken up again; what is of no use is wiped.
func TestKeyringRestored(t *testing.T) {
	ann := found(t, "ann", "bob")
	var stored []EpochSecret
	for e, h := range ann.keys.held {
		stored = append(stored, EpochSecret{Entry: e, Secret: h.secret})
	}
	stored = append(stored, EpochSecret{Entry: wire.Hash{1}}, EpochSecret{Entry: ann.log.Genesis().Hash(), Secret: Secret{9}})
	k, keys := NewKeyring(ann.now, ann.log, ann.self.Device(), stored)
	if k.Current() == nil || k.Current().KeyID() != ann.keys.Current().KeyID() {
		t.Error("no key after a restart")
	}
	if !slices.Contains(keys.Drop, wire.Hash{1}) || !slices.Contains(keys.Drop, ann.log.Genesis().Hash()) || len(keys.Drop) != 2 {
		t.Errorf("to wipe %v, want the two that do not fit", keys.Drop)
	}
	if got := len(k.Advance(ann.now.Add(WipeAfter)).Drop); got != 1 {
		t.Errorf("%d wiped later, want the previous epoch's", got)
	}
}

// Devices with equal entries read each other, and who was removed reads none.
func TestEqualEntriesEqualKeys(t *testing.T) {
	ann := found(t, "ann", "bob", "cat")
	desks := ann.desks("bob", "cat")
	ann.kick("cat")
	ann.admit("dan")
	ann.rekey()
	ann.admit("eve")
	for _, d := range desks {
		d.add(ann.log.Since(1)...)
	}
	bob := desks[0]
	bob.take(ann)
	eve := ann.peer("eve")
	eve.take(bob)
	for _, d := range []*desk{bob, eve} {
		a, b := ann.keys.Current(), d.keys.Current()
		if b == nil || a.KeyID() != b.KeyID() || !slices.Equal(a.Info().Slots, b.Info().Slots) {
			t.Fatalf("%s and ann differ", d.self.Name)
		}
		slot, _ := b.Info().Slot(d.self.Device())
		packet, _ := b.Seal(d.self.Key, &wire.Plain{Slot: slot, Seq: 1, Kind: wire.KindLeave, Body: make([]byte, 8)}, testNonce())
		o, err := a.Open(packet)
		if err != nil || o.Verify() != nil || o.From.Account != d.self.Account {
			t.Errorf("ann cannot read %s: %v", d.self.Name, err)
		}
	}
	if desks[1].keys.Current() != nil {
		t.Error("cat, kicked, sends")
	}
}
