package room

import (
	"errors"
	"slices"
	"testing"

	"lanchat/wire"
)

// exchange gives each desk what the other has.
func exchange(a, b *desk) {
	a.t.Helper()
	ea, eb := a.log.Since(1), b.log.Since(1)
	a.add(eb...)
	b.add(ea...)
	wantSame(a.t, a, b)
}

func wantSame(t testing.TB, desks ...*desk) {
	t.Helper()
	for _, d := range desks[1:] {
		if got, want := dump(d.log), dump(desks[0].log); got != want {
			t.Errorf("%s sees\n%s\n%s sees\n%s", d.self.Name, got, desks[0].self.Name, want)
		}
	}
}

// "Between branches, the one that contains an entry by the person with the
// front-most seat (seat order at the fork point) wins."
func TestFrontMostSeatWins(t *testing.T) {
	ann := found(t, "ann", "bob", "cat", "dan")
	bob, cat := ann.desks("bob", "cat")[0], ann.desks("cat")[0]
	bob.claim()
	bob.admit("eve")
	cat.claim()
	cat.kick("dan")
	cat.admit("fay")
	exchange(bob, cat)
	bob.wantSeats("ann* bob! cat dan eve")
	if c := cat.last; len(c.Dropped) != 3 || len(c.Applied) != 2 || !c.Merged() {
		t.Errorf("cat: %d dropped, %d applied; want 3, 2", len(c.Dropped), len(c.Applied))
	}
	// One entry of the admin on the loser turns everything around.
	annOnCats := ann.peer("ann")
	annOnCats.add(cat.log.Since(1)...)
	ann.topic("mine")
	exchange(ann, bob)
	ann.wantSeats("ann* bob cat dan")
	if bob.log.State().Topic != "mine" {
		t.Errorf("topic %q, want the admin's", bob.log.State().Topic)
	}
	if n := len(ann.log.Equivocations()); n > 0 {
		t.Errorf("%d equivocations among honest people", n)
	}
	// A losing device issues its entry again, under the same number: no alarm.
	bob.claim()
	bob.admit("eve")
	exchange(ann, bob)
	ann.wantSeats("ann* bob! cat dan eve")
	if n := len(ann.log.Equivocations()); n > 0 {
		t.Errorf("%d equivocations after issuing again", n)
	}
}

// "no two people can validly remove each other: the duel does not exist"
func TestNoDuel(t *testing.T) {
	ann := found(t, "ann", "bob", "cat")
	ann.promote("bob")
	bob := ann.desks("bob")[0]
	cat := ann.desks("cat")[0]
	bob.claim()
	bob.kick("cat")
	cat.claim()
	refused(t, "cat kicks bob", ErrBehind)(cat.log.Kick(cat.self, cat.now, bob.self.Account, "", nil))
	exchange(bob, cat)
	bob.wantSeats("ann* bob+!")
}

// "After a known LEAVE or TRANSFER by X, entries by X that are neither before
// nor after it in the chain are void."
func TestResignationBinds(t *testing.T) {
	ann := found(t, "ann", "bob", "cat")
	before := ann.peer("ann")
	ann.transfer("bob")
	bob := ann.desks("bob")[0]
	bob.topic("bob's")
	// ann backdates.
	before.kick("cat")
	before.ban("bob")
	bob.add(before.log.Since(1)...)
	bob.wantSeats("bob* ann+ cat")
	if len(bob.log.Suspended()) > 0 {
		t.Errorf("suspended %v by a void removal", bob.log.Suspended())
	}
	if len(bob.log.Equivocations()) != 1 {
		t.Errorf("%d equivocations, want 1: ann used a number twice", len(bob.log.Equivocations()))
	}
	// Somebody behind builds on it: no help.
	cat := before.peer("cat")
	if cat.log.State().Member(cat.self.Account) != nil {
		t.Fatal("cat was not kicked on ann's branch")
	}
}

// "unless somebody in front of X's seat has already built on them"
func TestResignationSpared(t *testing.T) {
	for _, built := range []bool{false, true} {
		// On one branch cat becomes admin and resigns. On the other cat was
		// regent and kicked dan, and then bob, in front of cat, went on.
		base := found(t, "ann", "bob", "cat", "dan")
		there := base.peer("ann")
		there.transfer("cat")
		catThere := there.peer("cat")
		catThere.transfer("bob")

		here := base.peer("cat")
		here.claimAndKick("dan")
		bob := here.peer("bob")
		if built {
			bob.claim()
		}
		bob.add(catThere.log.Since(1)...)
		bob.wantSeats("bob* cat+ ann+ dan")
		if got := bob.log.IsSuspended(who("dan").Account); got != built {
			t.Errorf("bob has built on it %v: dan suspended %v, want the same", built, got)
		}
	}
}

// "A node keeps the branch it applied first, shows the alarm …; a node that
// had applied neither holds the room read-only until … its user decides."
func TestSigningTwice(t *testing.T) {
	base := found(t, "ann", "bob", "cat", "dan")
	left, right := base.peer("ann"), base.peer("ann")
	left.topic("left")
	right.topic("right")
	left.self.Name, right.self.Name = "left", "right"

	bob, cat, dan := base.desks("bob")[0], base.desks("cat")[0], base.desks("dan")[0]
	l, r := left.log.Since(1), right.log.Since(1)
	bob.add(l...)
	if c := bob.add(r...); len(c.Equivocations) != 1 || c.Merged() || bob.log.State().Topic != "left" {
		t.Errorf("bob: %d equivocations, merged %v, topic %q", len(c.Equivocations), c.Merged(), bob.log.State().Topic)
	}
	cat.add(r...)
	if c := cat.add(l...); len(c.Equivocations) != 1 || c.Merged() || cat.log.State().Topic != "right" {
		t.Errorf("cat: %d equivocations, merged %v, topic %q", len(c.Equivocations), c.Merged(), cat.log.State().Topic)
	}
	if c := cat.add(l...); len(c.Equivocations) > 0 {
		t.Error("the same alarm twice")
	}

	// dan gets both at once: the first to arrive is applied first, so a node
	// that has applied neither is one that loads them, or was sent them from
	// behind. Here: both sides as orphans, then their predecessor.
	dan.log, _ = NewLog(testRealm, base.log.Genesis())
	dan.keys, _ = NewKeyring(dan.now, dan.log, dan.self.Device(), nil)
	loaded, err := Load(testRealm, append([]*wire.Entry{base.log.Genesis()}, append(base.log.Since(1), l[len(l)-1], r[len(r)-1])...), hashes(base.log.Since(0)))
	if err != nil {
		t.Fatal(err)
	}
	if !loaded.Held() || loaded.Head() != base.log.Head() && loaded.Head().Hash() != base.log.Head().Hash() {
		t.Fatalf("held %v at %v, want a hold where the branches part", loaded.Held(), loaded.Head().Op())
	}
	dan.log = loaded
	dan.keys, _ = NewKeyring(dan.now, dan.log, dan.self.Device(), nil)
	dan.take(base)
	if dan.keys.Current() != nil {
		t.Error("dan sends in a held room")
	}
	refused(t, "acts in a held room", ErrHeld)(dan.log.Claim(dan.self, dan.now))
	c, err := loaded.Decide(r[len(r)-1].Hash())
	if err != nil || loaded.Held() || loaded.State().Topic != "right" || len(c.Applied) != 1 {
		t.Errorf("decided: %v, held %v, topic %q, applied %d", err, loaded.Held(), loaded.State().Topic, len(c.Applied))
	}
	if _, err := loaded.Decide(wire.Hash{1}); !errors.Is(err, ErrUnknown) {
		t.Errorf("decided for nothing: %v", err)
	}
	// The decision survives a restart.
	again, err := Load(testRealm, loaded.Since(0), loaded.Applied())
	if err != nil || dump(again) != dump(loaded) {
		t.Errorf("loaded again, %v:\n%s\nwant\n%s", err, dump(again), dump(loaded))
	}

	// Two regencies of one person are settled by an entry of the admin.
	x, y := base.desks("bob")[0], base.desks("bob")[0]
	y.now = at(9)
	x.claim()
	y.claim()
	see := base.peer("dan")
	see.add(x.log.Since(1)...)
	if c := see.add(y.log.Since(1)...); len(c.Equivocations) != 1 || c.Merged() {
		t.Errorf("%d equivocations, merged %v; want 1, false", len(c.Equivocations), c.Merged())
	}
	ann := y.peer("ann")
	ann.topic("on the second")
	if c := see.add(ann.log.Since(1)...); len(c.Equivocations) > 0 || !c.Merged() || see.log.State().Topic != "on the second" {
		t.Errorf("%d new equivocations, merged %v, topic %q", len(c.Equivocations), c.Merged(), see.log.State().Topic)
	}
}

// An ex-admin's second resignation, with whatever device, does not undo the
// transfer where the first was applied, and is proof everywhere.
func TestSecondResignation(t *testing.T) {
	base := found(t, "ann", "bob", "cat")
	base.do(base.log.AddDevice(base.self, base.now, base.keys, base.self.Account, personOf("ann2").Devices[0]))
	for _, second := range []string{"ann", "ann2"} {
		first, other := base.desks("ann")[0], base.peer(second)
		first.transfer("bob")
		other.transfer("cat")
		bob := first.desks("bob")[0]
		bob.topic("bob's")
		for _, order := range [][]*wire.Entry{other.log.Since(1), slices.Concat(other.log.Since(1), bob.log.Since(1))} {
			see := base.peer("cat")
			see.add(bob.log.Since(1)...)
			see.add(order...)
			see.wantSeats("bob* ann+ cat")
			if len(see.log.Equivocations()) != 1 || see.log.Held() {
				t.Errorf("%s: %d equivocations, held %v; want 1 and no hold", second, len(see.log.Equivocations()), see.log.Held())
			}
		}
		// Who was offline has applied neither.
		n := len(base.log.Since(0))
		all := slices.Concat(base.log.Since(0), bob.log.Since(uint64(n)), other.log.Since(uint64(n)))
		l, err := Load(testRealm, all, hashes(base.log.Since(0)))
		if err != nil || !l.Held() || l.Head().Hash() != base.log.Head().Hash() {
			t.Errorf("%s: %v, held %v; want a hold before both", second, err, l.Held())
		}
	}
}

// "Two devices of the same account ⇒ honest race, lower hash wins, the other
// device re-issues."
func TestTwoDevicesRace(t *testing.T) {
	base := found(t, "ann", "bob")
	base.do(base.log.AddDevice(base.self, base.now, base.keys, base.self.Account, personOf("ann2").Devices[0]))
	one, two := base.desks("ann")[0], base.desks("ann2")[0]
	one.topic("one")
	two.topic("two")
	exchange(one, two)
	loser := one
	if one.log.State().Topic == "one" {
		loser = two
	}
	loser.topic("again")
	exchange(one, two)
	if one.log.State().Topic != "again" || len(one.log.Equivocations()) > 0 || one.log.Held() {
		t.Errorf("topic %q, %d equivocations, held %v; want the one issued again", one.log.State().Topic, len(one.log.Equivocations()), one.log.Held())
	}
}

// "removal of t on a losing, non-void branch by someone in front of t at the
// fork ⇒ t gets no keys until a RESOLVE by the writer"; "branches met ⇒ the
// writer rotates".
func TestSuspension(t *testing.T) {
	for _, uphold := range []bool{true, false} {
		ann := found(t, "ann", "bob", "cat", "dan")
		bob := ann.desks("bob")[0]
		removal := bob.claimAndKick("cat")
		ann.topic("ann is there")
		cat := ann.desks("cat")[0]
		exchange(ann, bob)
		ann.wantSeats("ann* bob cat dan")
		if !ann.log.IsSuspended(cat.self.Account) || len(ann.log.Suspended()) != 1 {
			t.Fatalf("suspended %v, want cat", ann.log.Suspended())
		}
		if ann.keys.Current() != nil {
			t.Error("ann sends although cat has the key")
		}
		if !ann.keys.RekeyDue(ann.now) {
			t.Error("no rekey due after a merge")
		}
		old := ann.log.State().Epoch.Entry
		ann.rekey()
		if ann.keys.Current() == nil || ann.keys.RekeyDue(ann.now) {
			t.Error("ann does not send after leaving cat out")
		}
		for _, entry := range []wire.Hash{old, ann.log.State().Epoch.Entry} {
			if _, err := ann.keys.Serve(cat.self.Device(), entry); !errors.Is(err, ErrNoSecret) {
				t.Errorf("a key for cat: %v, want %v", err, ErrNoSecret)
			}
		}
		if _, err := ann.keys.Serve(who("dan").Device(), ann.log.State().Epoch.Entry); err != nil {
			t.Errorf("no key for dan: %v", err)
		}
		// Who enters meanwhile does not let cat in again.
		ann.admit("eve")
		if _, ok := ann.log.State().Epoch.Slot(cat.self.Device()); ok {
			t.Error("cat is in the epoch again")
		}
		refused(t, "dan resolves", ErrNotAdmin)(ann.peer("dan").log.Resolve(who("dan"), ann.now, removal.Hash(), uphold, nil))
		ann.do(ann.log.Resolve(ann.self, ann.now, removal.Hash(), uphold, nil))
		refused(t, "resolves twice", ErrResolved)(ann.log.Resolve(ann.self, ann.now, removal.Hash(), uphold, nil))
		if len(ann.log.Suspended()) > 0 {
			t.Errorf("still suspended: %v", ann.log.Suspended())
		}
		if uphold {
			ann.wantSeats("ann* bob dan eve")
			continue
		}
		ann.wantSeats("ann* bob cat dan eve")
		ann.rekey()
		if _, err := ann.keys.Serve(cat.self.Device(), ann.log.State().Epoch.Entry); err != nil {
			t.Errorf("no key for cat after all: %v", err)
		}
	}
}

// Of what does not count the log says who sat in front, where the branches part,
// of those who wrote on the other one, or by what its author had resigned.
func TestLoss(t *testing.T) {
	ann := found(t, "ann", "bob", "cat", "dan")
	bob, fork := ann.desks("bob")[0], ann.log.Head()
	removal := bob.claimAndKick("cat")
	mine := ann.topic("ann is there")
	ann.transfer("dan")
	exchange(ann, bob)
	for _, d := range []*desk{ann, bob} {
		if loss, ok := d.log.Loss(removal.Hash()); !ok || loss != (Loss{Fork: fork.Hash(), Front: ann.self.Account}) {
			t.Errorf("the removal: %+v, %v", loss, ok)
		}
		for _, h := range []wire.Hash{mine.Hash(), {1}} {
			if loss, ok := d.log.Loss(h); ok {
				t.Errorf("%v: %+v", h, loss)
			}
		}
	}

	d := found(t, "ann", "bob")
	d.do(d.log.AddDevice(d.self, d.now, d.keys, d.self.Account, personOf("ann2").Devices[0]))
	ann2 := d.peer("ann2")
	d.transfer("bob")
	x := ann2.topic("too late")
	d.add(x)
	if loss, ok := d.log.Loss(x.Hash()); !ok || loss.Resigned != d.log.Head() {
		t.Errorf("what ann signs with another device: %+v, %v", loss, ok)
	}
}

// One new epoch is what a merge asks for, whether its secret is taken before
// or after the log's change.
func TestOneRekeyAfterMerge(t *testing.T) {
	for _, first := range []string{"the change", "the secret"} {
		ann := found(t, "ann", "bob", "cat", "dan")
		bob := ann.desks("bob")[0]
		bob.claimAndKick("cat")
		ann.topic("ann is there")
		ann.add(bob.log.Since(1)...)
		if !ann.keys.RekeyDue(ann.now) {
			t.Fatal("no rekey due after a merge")
		}
		a, err := ann.log.Rekey(ann.self, ann.now, ann.keys.Without())
		if err != nil {
			t.Fatal(err)
		}
		if first == "the change" {
			ann.do(a, nil)
		} else {
			c, err := ann.log.Add(a.Entry)
			if err != nil {
				t.Fatal(err)
			}
			ann.accept(a)
			ann.keys.Update(ann.now, c)
		}
		if ann.keys.RekeyDue(ann.now) || ann.keys.Current() == nil {
			t.Errorf("%s first: another rekey due", first)
		}
	}
}

// "by someone in front of t at the fork": who got in front of t only on the
// losing branch suspends nobody.
func TestNoSuspensionFromBehind(t *testing.T) {
	base := found(t, "ann", "bob", "dan")
	base.do(base.log.AddDevice(base.self, base.now, base.keys, base.self.Account, personOf("ann2").Devices[0]))
	losing := base.peer("ann")
	promoted := losing.promote("dan")
	dan := losing.peer("dan")
	dan.claimAndKick("bob")
	// The other device of ann wins the race with a lower hash.
	winning := base.peer("ann2")
	for i := 1; ; i++ {
		winning.now = at(float64(i))
		a, err := winning.log.Claim(winning.self, winning.now)
		if err != nil {
			t.Fatal(err)
		}
		low, high := a.Entry.Hash(), promoted.Hash()
		if slices.Compare(low[:], high[:]) < 0 {
			winning.do(a, nil)
			break
		}
	}
	winning.add(dan.log.Since(1)...)
	winning.wantSeats("ann* bob dan")
	if len(winning.log.Suspended()) > 0 {
		t.Errorf("suspended %v by dan, who sat behind", winning.log.Suspended())
	}
}

// Every entry finds its place in a moment, however long the log and however
// early it forked.
func BenchmarkAddToForkedLog(b *testing.B) {
	ann := found(b, "ann", "bob")
	fork := ann.log.State()
	ann.topic("x")
	ann.add(sign(who("bob"), fork, &wire.LogClaim{}))
	for ann.log.Len() < MaxEntries/2 {
		ann.add(sign(ann.self, ann.log.State(), &wire.LogClaim{}))
	}
	from := ann.log.state
	entries := make([]*wire.Entry, 0, 1000)
	for range cap(entries) {
		e := sign(ann.self, from, &wire.LogClaim{})
		from = ann.log.after(from, e)
		entries = append(entries, e)
	}
	b.ResetTimer()
	for i := range b.N {
		if i == len(entries) {
			b.Skip("more entries than a log holds")
		}
		ann.add(entries[i])
	}
}

func (d *desk) claimAndKick(name string) *wire.Entry {
	d.t.Helper()
	d.claim()
	return d.kick(name)
}

// "at most 4 live branches per room … are kept", the weakest go.
func TestTooManyBranches(t *testing.T) {
	ann := found(t, "ann", "bob", "cat", "dan", "eve", "fay", "gus")
	fork := ann.log.State()
	ann.topic("the one that counts")
	want := dump(ann.log)
	var tips []*wire.Entry
	for _, n := range []string{"gus", "fay", "eve", "dan", "cat", "bob"} {
		e := sign(who(n), fork, &wire.LogClaim{})
		tips = append(tips, e)
		c, err := ann.log.Add(e)
		if err != nil {
			t.Fatalf("%s: %v", n, err)
		}
		if len(tips) > MaxBranches-1 && len(c.Evicted) != 1 {
			t.Errorf("%s: evicted %d, want 1", n, len(c.Evicted))
		}
	}
	for i, e := range tips {
		if got, want := ann.log.Has(e.Hash()), i >= len(tips)-(MaxBranches-1); got != want {
			t.Errorf("claim of %s kept %v, want %v", nameOf(fork.owners[e.Author]), got, want)
		}
	}
	if c, err := ann.log.Add(tips[0]); !errors.Is(err, ErrLogFull) || len(c.Added) > 0 {
		t.Errorf("the weakest again: %v, added %d; want %v", err, len(c.Added), ErrLogFull)
	}
	if dump(ann.log) != want {
		t.Errorf("head moved:\n%s\nwant\n%s", dump(ann.log), want)
	}
}

// Whoever fills the places with branches of its own keeps no branch out that
// wins by what stands further along it.
func TestBranchesDoNotKeepTheAdminOut(t *testing.T) {
	base := found(t, "ann", "bob", "cat")
	// cat signs five claims, and shows the one with the highest hash to ann
	// and the others to bob.
	var claims []*wire.Entry
	for i := range MaxBranches + 1 {
		cat := base.peer("cat")
		cat.now = at(float64(i))
		claims = append(claims, cat.claim())
	}
	slices.SortFunc(claims, func(a, b *wire.Entry) int {
		x, y := a.Hash(), b.Hash()
		return slices.Compare(x[:], y[:])
	})
	ann, bob := base.desks("ann")[0], base.desks("bob")[0]
	ann.add(claims[MaxBranches])
	ann.topic("ann answers")
	bob.add(claims[:MaxBranches]...)
	if len(bob.log.tips) != MaxBranches {
		t.Fatalf("bob has %d branches, want %d", len(bob.log.tips), MaxBranches)
	}
	for name, pieces := range map[string][][]*wire.Entry{
		"as ann has it": {ann.log.Since(1)},
		"one by one":    {{claims[MaxBranches]}, {ann.log.Head()}, {claims[MaxBranches]}},
		"backwards":     {{ann.log.Head()}, {claims[MaxBranches]}},
	} {
		see := bob.peer("bob")
		for _, p := range pieces {
			see.log.Add(p...) // the first alone is the weakest, and is refused
		}
		if see.log.Head() != ann.log.Head() || len(see.log.tips) > MaxBranches {
			t.Errorf("%s: bob sees topic %q with %d branches, want ann's", name, see.log.State().Topic, len(see.log.tips))
		}
	}
}

// Who once sat in front pushes nobody's branch out by beginning many from there,
// or a long one: a suspension stays, whichever comes first.
func TestDemotedKeepsNoSuspensionOut(t *testing.T) {
	const spare = 20 // entries that there is room for
	many := func(d *desk, from *desk) {
		for i := range 2 * MaxBranches {
			dan := from.peer("dan")
			dan.now = at(float64(100 + i))
			d.log.Add(dan.claim())
		}
	}
	long := func(d *desk, from *desk) {
		dan := from.peer("dan")
		dan.claim()
		for range spare - 1 {
			dan.rekey()
		}
		d.log.Add(dan.log.Since(1)...)
	}
	for name, fill := range map[string]func(d, from *desk){"many": many, "long": long} {
		for _, filledFirst := range []bool{false, true} {
			ann := found(t, "ann", "bob", "cat", "dan", "eve")
			ann.promote("dan")
			before := ann.peer("dan")
			ann.do(ann.log.Demote(ann.self, ann.now, who("dan").Account))
			bob := ann.desks("bob")[0]
			bob.claimAndKick("eve")
			ann.topic("ann is there")
			ann.log.max = ann.log.Len() + spare
			if filledFirst {
				fill(ann, before)
			}
			ann.log.Add(bob.log.Since(1)...)
			fill(ann, before)
			ann.log.Add(bob.log.Since(1)...)
			if !ann.log.IsSuspended(who("eve").Account) {
				t.Errorf("%s, first %v: eve is suspended no longer", name, filledFirst)
			}
			if len(ann.log.tips) > MaxBranches || ann.log.Len() > ann.log.max {
				t.Errorf("%s: %d branches, %d entries, want at most %d, %d", name, len(ann.log.tips), ann.log.Len(), MaxBranches, ann.log.max)
			}
			if ann.log.State().Topic != "ann is there" {
				t.Errorf("%s: the topic is %q", name, ann.log.State().Topic)
			}
		}
	}
}

func TestFullLog(t *testing.T) {
	ann := found(t, "ann", "bob")
	if ann.log.max != MaxEntries {
		t.Errorf("a log holds %d entries, want %d", ann.log.max, MaxEntries)
	}
	ann.log.max = 3 * stateEvery // states are made from others behind here
	fork := ann.log.State()
	for ann.log.Len() < ann.log.max-1 {
		e := sign(ann.self, ann.log.State(), &wire.LogClaim{})
		if _, err := ann.log.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	side := sign(who("bob"), fork, &wire.LogClaim{})
	if _, err := ann.log.Add(side); err != nil {
		t.Fatal(err)
	}
	// The losing branch makes room; then the log is full.
	last := sign(ann.self, ann.log.State(), &wire.LogClaim{})
	if c, err := ann.log.Add(last); err != nil || len(c.Evicted) != 1 {
		t.Errorf("%v, evicted %d; want room made", err, len(c.Evicted))
	}
	if _, err := ann.log.Add(sign(ann.self, ann.log.State(), &wire.LogClaim{})); !errors.Is(err, ErrLogFull) {
		t.Errorf("one entry more: %v, want %v", err, ErrLogFull)
	}
	refused(t, "acts", ErrLogFull)(ann.log.Claim(ann.self, ann.now))
	l, err := Load(testRealm, ann.log.Since(0), nil)
	if err != nil || dump(l) != dump(ann.log) {
		t.Errorf("loaded: %v, differs %v", err, dump(l) != dump(ann.log))
	}
	for _, e := range l.Since(0) {
		if s := l.stateAt(l.nodes[e.Hash()]); s.Head != e.Hash() || s.Seq != e.Seq {
			t.Fatalf("state %d after entry %d", s.Seq, e.Seq)
		}
	}
}

// The last entries that a branch may have are the admin's: whoever stands in
// cannot fill a log so that the admin, back again, can do nothing about it.
func TestLastEntriesAreTheAdmins(t *testing.T) {
	d := found(t, "ann", "bob")
	s := d.log.State().clone()
	bob := who("bob")
	s.Regent = bob.Account
	s.Seq = MaxEntries - adminEntries - 2
	if err := s.checkAct(bob.Account, bob.Device(), &wire.LogRekey{}); err != nil {
		t.Errorf("the last but one: %v", err)
	}
	s.Seq++
	if err := s.checkAct(bob.Account, bob.Device(), &wire.LogRekey{}); !errors.Is(err, ErrLogFull) {
		t.Errorf("one more: %v, want %v", err, ErrLogFull)
	}
	if err := s.checkAct(d.self.Account, d.self.Device(), &wire.LogKick{Account: bob.Account, Marks: d.log.marks(bob.Account, nil)}); err != nil {
		t.Errorf("the admin: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	d := found(t, "ann", "bob", "cat")
	all := d.log.Since(0)
	if l, err := Load(testRealm, nil, nil); err == nil || l != nil {
		t.Error("loaded nothing")
	}
	if l, err := Load(testRealm, []*wire.Entry{all[0], all[2]}, nil); !errors.Is(err, ErrUnknown) || l != nil {
		t.Errorf("with a gap: %v, want %v", err, ErrUnknown)
	}
	if l, err := Load(testRealm, []*wire.Entry{all[1]}, nil); err == nil || l != nil {
		t.Error("loaded without a CREATE")
	}
	bad := sign(who("bob"), d.log.State(), &wire.LogRekey{})
	if l, err := Load(testRealm, append(all, bad), nil); !errors.Is(err, ErrNotAdmin) || l != nil {
		t.Errorf("with an invalid entry: %v, want %v", err, ErrNotAdmin)
	}
}
