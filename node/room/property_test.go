package room

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lanchat/wire"
)

// A forest grows logs at random: anybody signs anything that is valid, behind
// any entry.
type forest struct {
	t   *rapid.T
	log *Log // everything
	// honest keeps entries out by which a device signs twice.
	honest bool
	// calm keeps resignations out, for what happens only where there is none.
	calm bool
}

var testPeople = []string{"ann", "bob", "cat", "dan", "bob2"}

func newForest(t *rapid.T, base *desk, honest bool) *forest {
	log, err := Load(testRealm, base.log.Since(0), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &forest{t: t, log: log, honest: honest}
}

// args draws what an entry could do.
func (f *forest) args(s *State) wire.Args {
	pick := func() wire.AccountID {
		return who(rapid.SampledFrom([]string{"ann", "bob", "cat", "dan", "eve"}).Draw(f.t, "whom")).Account
	}
	marks := func(a wire.AccountID) []wire.Mark { return marksOf(s, a) }
	a := pick()
	op := rapid.IntRange(0, 20).Draw(f.t, "op")
	if f.calm && op >= 5 && op <= 7 {
		op = 20
	}
	switch op {
	case 0, 1:
		n := nameOf(a)
		if n == "bob" {
			return &wire.LogAdmit{Account: a, Devices: personOf("bob", "bob2").Devices}
		}
		return &wire.LogAdmit{Account: a, Devices: personOf(n).Devices}
	case 2:
		return &wire.LogKick{Account: a, Marks: marks(a)}
	case 3:
		return &wire.LogBan{Account: a, Marks: marks(a)}
	case 4:
		return &wire.LogUnban{Account: a}
	case 5:
		return &wire.LogLeave{}
	case 6, 7:
		return &wire.LogTransfer{Account: a}
	case 8:
		return &wire.LogPromote{Account: a}
	case 9:
		return &wire.LogDemote{Account: a}
	case 10:
		return &wire.LogSilence{Account: a, Until: 5}
	case 11:
		return &wire.LogRekey{}
	case 12:
		if n := len(f.log.Suspended()); n > 0 {
			q := f.log.Suspended()[rapid.IntRange(0, n-1).Draw(f.t, "suspension")]
			if rapid.Bool().Draw(f.t, "dismiss") {
				return &wire.LogResolve{Removal: q.Removal.Hash(), Account: q.Account}
			}
			return &wire.LogResolve{Removal: q.Removal.Hash(), Account: q.Account, Uphold: true, Marks: marks(q.Account)}
		}
		return &wire.LogSettings{Name: "lab", Topic: "x"}
	case 13:
		return &wire.LogLeft{Account: a, Marks: marks(a)}
	case 14:
		return &wire.LogUnsilence{Account: a}
	case 15:
		return &wire.LogResolve{Removal: wire.Hash{byte(rapid.IntRange(1, 2).Draw(f.t, "nothing"))}, Account: a, Uphold: true, Marks: marks(a)}
	case 16:
		key := who(nameOf(a) + rapid.SampledFrom([]string{"", "2"}).Draw(f.t, "device")).Device()
		if rapid.Bool().Draw(f.t, "remove") {
			return &wire.LogDevice{Account: a, Remove: true, Key: key}
		}
		return &wire.LogDevice{Account: a, Key: key}
	case 17:
		return &wire.LogRekey{Without: []wire.DeviceID{who(nameOf(a)).Device().Device()}}
	default:
		return &wire.LogClaim{}
	}
}

// plots are histories that drawing seldom comes upon: who signs what, on
// which branch behind the base.
var plots = [][][]move{
	{ // rule 7: bob, in front of cat, may have built on what cat resigned from
		{{"ann", transfer("cat")}, {"cat", transfer("bob")}},
		{{"cat", claims}, {"cat", kick("dan")}, {"bob", claims}},
	},
	{ // the same with an admin who comes back to a branch of its own
		{{"ann", transfer("bob")}, {"bob", transfer("cat")}},
		{{"bob", claims}, {"bob", kick("dan")}, {"ann", claims}},
		{{"bob2", claims}, {"dan", claims}},
	},
	{ // two resignations with one device, one of them built on
		{{"ann", transfer("bob")}, {"bob", claims}},
		{{"ann", transfer("cat")}, {"cat", kick("bob")}},
	},
	{ // two with different devices, behind and beside each other
		{{"ann", transfer("bob")}, {"bob2", transfer("cat")}, {"cat", claims}},
		{{"ann", transfer("bob")}, {"bob", leaves}, {"ann", rekeys}},
	},
	{ // one removal on a losing branch by who sat in front, one by who did not
		{{"cat", claims}, {"cat", kick("dan")}},
		{{"ann", promote("dan")}, {"dan", claims}, {"dan", kick("bob")}},
		{{"ann", claims}},
	},
}

// A move is one step of a plot.
type move struct {
	by   string
	args func(s *State) wire.Args
}

func transfer(to string) func(*State) wire.Args {
	return func(*State) wire.Args { return &wire.LogTransfer{Account: who(to).Account} }
}
func promote(name string) func(*State) wire.Args {
	return func(*State) wire.Args { return &wire.LogPromote{Account: who(name).Account} }
}
func kick(name string) func(*State) wire.Args {
	return func(s *State) wire.Args {
		return &wire.LogKick{Account: who(name).Account, Marks: marksOf(s, who(name).Account)}
	}
}
func claims(*State) wire.Args { return &wire.LogClaim{} }
func leaves(*State) wire.Args { return &wire.LogLeave{} }
func rekeys(*State) wire.Args { return &wire.LogRekey{} }

func marksOf(s *State, a wire.AccountID) (marks []wire.Mark) {
	if m := s.Member(a); m != nil {
		for _, d := range m.Devices {
			marks = append(marks, wire.Mark{Key: d.Key, Number: 1})
		}
	}
	return marks
}

// plot begins with a part of one of the plots, or with none and stays calm.
func (f *forest) plot() {
	if f.calm = rapid.Bool().Draw(f.t, "calm"); f.calm {
		return
	}
	root := f.log.now.head
	for _, branch := range rapid.SampledFrom(plots).Draw(f.t, "plot") {
		at := root
		for _, m := range branch[:rapid.IntRange(len(branch)-1, len(branch)).Draw(f.t, "moves")] {
			s := f.log.stateAt(at)
			e := sign(who(m.by), s, m.args(s))
			if f.refused(s, e) {
				break
			}
			if _, err := f.log.Add(e); err != nil {
				f.t.Fatal(err)
			}
			at = f.log.nodes[e.Hash()]
		}
	}
}

// refused reports whether an entry is not valid, or not to be drawn.
func (f *forest) refused(s *State, e *wire.Entry) bool {
	if s.check(e) != nil {
		return true
	}
	if !f.honest {
		return false
	}
	trial, err := Load(testRealm, append(f.log.Since(0), e), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return len(trial.Equivocations()) > 0
}

// place draws an entry to build on: mostly a tip, and only a tip where there
// are branches enough.
func (f *forest) place() *node {
	var tips []*node
	for _, n := range f.log.order {
		if f.log.tips[n] {
			tips = append(tips, n)
		}
	}
	if len(tips) >= MaxBranches || rapid.IntRange(0, 4).Draw(f.t, "fork") > 0 {
		return rapid.SampledFrom(tips).Draw(f.t, "tip")
	}
	last := f.log.order[max(0, len(f.log.order)-10):]
	return rapid.SampledFrom(last).Draw(f.t, "behind")
}

// author draws who signs: often somebody who may do something there.
func (f *forest) author(s *State, by []string) Identity {
	if rapid.Bool().Draw(f.t, "writer") {
		for _, n := range by {
			id := who(n)
			if a, ok := s.Owner(id.Device()); ok && a == s.Writer() {
				return id
			}
		}
	}
	return who(rapid.SampledFrom(by).Draw(f.t, "by"))
}

// grow adds up to n entries and returns those that were valid.
func (f *forest) grow(n int, by ...string) (grown []*wire.Entry) {
	for range n {
		node := f.place()
		s := f.log.stateAt(node)
		e := sign(f.author(s, by), s, f.args(s))
		if f.refused(s, e) {
			continue
		}
		if c, err := f.log.Add(e); err != nil {
			f.t.Fatalf("%v by %s: %v", e.Op(), nameOf(s.owners[e.Author]), err)
		} else if len(c.Added) > 0 {
			grown = append(grown, e)
		}
	}
	return grown
}

func baseRoom(t testing.TB) *desk {
	d := found(t, "ann", "bob", "cat", "dan")
	d.do(d.log.AddDevice(d.self, d.now, d.keys, who("bob").Account, personOf("bob2").Devices[0]))
	d.promote("cat")
	return d
}

// evaluate(set) is independent of order and duplicates; incremental =
// from scratch. Every pair of devices with equal entries derives equal
// keys, for which equal epochs are what it takes.
func TestOrderDoesNotMatter(t *testing.T) {
	base := baseRoom(t)
	rapid.Check(t, func(t *rapid.T) {
		f := newForest(t, base, true)
		f.plot()
		f.grow(30, testPeople...)
		if len(f.log.Equivocations()) > 0 {
			t.Fatalf("honest people signed twice")
		}
		all := f.log.Since(1)
		order := rapid.Permutation(slices.Concat(all, all[:len(all)/2])).Draw(t, "order")
		other, err := NewLog(testRealm, f.log.Genesis())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range order {
			if _, err := other.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := dump(other), dump(f.log); got != want {
			t.Fatalf("in another order:\n%s\nwant\n%s", got, want)
		}
		scratch, err := Load(testRealm, f.log.Since(0), []wire.Hash{f.log.Genesis().Hash()})
		if err != nil || dump(scratch) != dump(f.log) {
			t.Fatalf("from scratch, %v:\n%s\nwant\n%s", err, dump(scratch), dump(f.log))
		}
		replayed := other.root.state
		for _, e := range other.Audit()[1:] {
			replayed = other.after(replayed, e)
		}
		if replayed.Head != other.State().Head || seats(replayed) != seats(other.State()) || replayed.Epoch.Commit != other.State().Epoch.Commit {
			t.Fatalf("the state is not what the entries make")
		}
	})
}

// Where somebody signed twice, what was applied here first goes in: the same
// entries and the same Applied make the same room.
func TestIncrementalIsFromScratch(t *testing.T) {
	base := baseRoom(t)
	rapid.Check(t, func(t *rapid.T) {
		f := newForest(t, base, false)
		f.plot()
		f.grow(40, testPeople...)
		applied, err := Load(testRealm, f.log.Since(0), f.log.Applied())
		if err != nil || dump(applied) != dump(f.log) {
			t.Fatalf("from scratch, %v:\n%s\nwant\n%s", err, dump(applied), dump(f.log))
		}
		replayed, err := Load(testRealm, f.log.Since(0), nil)
		if err != nil || dump(replayed) != dump(f.log) {
			t.Fatalf("one by one, %v:\n%s\nwant\n%s", err, dump(replayed), dump(f.log))
		}
	})
}

// An honest admin is never orphaned, whatever the others sign.
func TestHonestAdminIsNeverOrphaned(t *testing.T) {
	base := baseRoom(t)
	rapid.Check(t, func(t *rapid.T) {
		f := newForest(t, base, false)
		admin, err := Load(testRealm, base.log.Since(0), nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			f.grow(8, "bob", "bob2", "cat", "dan", "eve")
			// The admin has seen some of it and acts on what it sees.
			all := f.log.Since(1)
			for _, e := range all[:rapid.IntRange(0, len(all)).Draw(t, "seen")] {
				admin.Add(e)
			}
			s := admin.State()
			e := sign(who("ann"), s, &wire.LogSettings{Name: "lab", Topic: "mine"})
			if err := s.check(e); err != nil {
				t.Fatal(err)
			}
			for _, l := range []*Log{admin, f.log} {
				if _, err := l.Add(e); err != nil {
					t.Fatal(err)
				}
				if !l.Counts(e.Hash()) {
					t.Fatalf("the admin's entry does not count")
				}
			}
		}
		for _, e := range f.log.Since(0) {
			if a, ok := f.log.stateAt(f.log.nodes[e.Hash()]).Owner(e.Author); ok && nameOf(a) == "ann" && !f.log.Counts(e.Hash()) {
				t.Fatalf("the admin's entry %d does not count in the end", e.Seq)
			}
		}
	})
}

// Nobody is removed by somebody behind. Removed people are in no later
// device table.
func TestRemovals(t *testing.T) {
	base := baseRoom(t)
	rapid.Check(t, func(t *rapid.T) {
		f := newForest(t, base, false)
		f.plot()
		f.grow(40, testPeople...)
		out := map[wire.AccountID]bool{}
		for _, e := range f.log.Audit()[1:] {
			before := f.log.stateAt(f.log.nodes[e.Prev])
			author := before.owners[e.Author]
			if a, _, ok := removes(e.Args); ok {
				if before.Member(a) != nil && before.Seat(a) <= before.Seat(author) {
					t.Fatalf("%s removed %s in front", nameOf(author), nameOf(a))
				}
				out[a] = true
			}
			switch a := e.Args.(type) {
			case *wire.LogAdmit:
				delete(out, a.Account)
			case *wire.LogLeave:
				out[author] = true
			}
			after := f.log.stateAt(f.log.nodes[e.Hash()])
			for a := range out {
				if after.Member(a) != nil {
					t.Fatalf("%s is a member after the removal", nameOf(a))
				}
				if changesKeys(e.Args) && slices.ContainsFunc(after.Epoch.Slots, func(s Slot) bool { return s.Account == a }) {
					t.Fatalf("%s has a slot after the removal", nameOf(a))
				}
			}
			if after.Mods > max(len(after.Members)-1, 0) {
				t.Fatalf("%d co-admins of %d members", after.Mods, len(after.Members))
			}
			plain := after.Members[min(1+after.Mods, len(after.Members)):]
			if !slices.IsSortedFunc(plain, func(a, b *Member) int { return int(a.Admitted) - int(b.Admitted) }) {
				t.Fatalf("members are not in order of age: %s", seats(after))
			}
		}
	})
}

// After an honest transfer the old admin cannot change anything with what
// it signs elsewhere, and whatever it signs there is proof.
func TestOldAdminCannotChangeAnything(t *testing.T) {
	base := baseRoom(t)
	rapid.Check(t, func(t *rapid.T) {
		see, err := Load(testRealm, base.log.Since(0), nil)
		if err != nil {
			t.Fatal(err)
		}
		add := func(e *wire.Entry) {
			if _, err := see.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		transfer := sign(who("ann"), see.State(), &wire.LogTransfer{Account: who("bob").Account})
		add(transfer)
		add(sign(who("bob"), see.State(), &wire.LogSettings{Name: "lab", Topic: "bob's"}))
		head, members := see.State().Head, seats(see.State())

		f := newForest(t, base, false) // knows nothing of the transfer
		for _, e := range f.grow(25, "ann", "dan", "cat") {
			if see.Has(e.Prev) { // not behind what was evicted
				see.Add(e)
			}
		}
		if see.State().Head != head || seats(see.State()) != members || see.Held() {
			t.Fatalf("%s, held %v; want %s", seats(see.State()), see.Held(), members)
		}
		for _, e := range see.Since(1) {
			behind := slices.ContainsFunc(see.Chain(e.Hash(), MaxEntries), func(x *wire.Entry) bool { return x == transfer })
			if behind || see.Counts(e.Hash()) || e.Author != who("ann").Device() {
				continue // the same transfer was drawn again, and ann goes on behind it
			}
			if len(see.Equivocations()) == 0 {
				t.Fatalf("ann signed %v on another branch, and there is no proof", e.Op())
			}
		}
	})
}

// A KEY is served if and only if R5 allows it.
func TestKeysAreServedByTheRule(t *testing.T) {
	base := baseRoom(t)
	rapid.Check(t, func(t *rapid.T) {
		f := newForest(t, base, false)
		holder := &desk{t: base.t, self: who("ann"), now: start}
		var err error
		if holder.log, err = Load(testRealm, base.log.Since(0), nil); err != nil {
			t.Fatal(err)
		}
		holder.keys, _ = NewKeyring(start, holder.log, holder.self.Device(), nil)
		// Whoever signs tells the secret, so that the holder has as many as
		// it can.
		secrets := map[wire.Hash]Secret{}
		for range 30 {
			s := f.log.stateAt(f.place())
			author := f.author(s, testPeople)
			args := f.args(s)
			e := wire.Entry{Room: s.Room, Seq: s.Seq + 1, Prev: s.Head, AuthorN: s.AuthorN(author.Device()) + 1, Args: args}
			secret := Secret{byte(f.log.Len()), 7}
			if changesKeys(args) {
				e.Commit = Commit(s.Room, secret)
			}
			signed := wire.SignEntry(testRealm, author.Key, e)
			if s.check(signed) != nil {
				continue
			}
			f.log.Add(signed)
			secrets[signed.Hash()] = secret
			c, err := holder.log.Add(signed)
			if err != nil {
				t.Fatal(err)
			}
			holder.keys.Update(start, c)
			if changesKeys(args) {
				holder.keys.Accept(start, signed.Hash(), secret)
			}
		}
		s := holder.log.State()
		leaves := rapid.Bool().Draw(t, "dan leaves")
		if leaves {
			holder.keys.Leaving(who("dan").Account)
		}
		if rapid.Bool().Draw(t, "bob2 is revoked") {
			holder.keys.Revoke(device("bob2"))
		}
		for entry := range holder.keys.held {
			info := holder.log.EpochInfo(entry)
			for _, n := range []string{"ann", "bob", "bob2", "cat", "dan", "eve"} {
				key := who(n).Device()
				member := s.Member(who(n).Account)
				has := member != nil && slices.ContainsFunc(member.Devices, func(d Device) bool { return d.Key == key })
				inEpoch := slices.ContainsFunc(info.Slots, func(x Slot) bool { return x.Key == key && x.Account == who(n).Account })
				want := has && inEpoch && holder.log.Counts(entry) && !holder.log.IsSuspended(who(n).Account) &&
					!(n == "dan" && leaves && member != nil) && !holder.keys.revoked[device(n)] && !s.Without(device(n))
				secret, err := holder.keys.Serve(key, entry)
				if got := err == nil; got != want {
					t.Fatalf("%s is served %v, want %v", n, got, want)
				}
				if err == nil && Commit(s.Room, secret) != info.Commit && info.Seq > 0 {
					t.Fatalf("%s is served a secret that does not fit", n)
				}
			}
		}
	})
}

// Every pair of devices with equal entries derives equal keys, whatever
// they did, in whatever order they learnt of it, and however they came by
// each secret: made, stepped to, or handed on.
func TestDevicesAgreeOnKeys(t *testing.T) {
	base := baseRoom(t)
	agreed := 0
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"ann", "bob", "bob2", "cat", "dan"}
		desks := base.desks(names...)
		all := base.log.Since(0) // every entry there is
		ask := func(d, from *desk) {
			entry, missing := d.keys.Missing()
			if !missing {
				return
			}
			if secret, err := from.keys.Serve(d.self.Device(), entry); err == nil {
				if _, err := d.keys.Accept(d.now, entry, secret); err != nil {
					t.Fatalf("%s serves %s what does not fit: %v", from.self.Name, d.self.Name, err)
				}
			}
		}
		learn := func(d *desk, entries ...*wire.Entry) {
			c, err := d.log.Add(entries...)
			if err != nil {
				t.Fatal(err)
			}
			d.keys.Update(d.now, c)
		}
		for range rapid.IntRange(5, 25).Draw(t, "steps") {
			d := rapid.SampledFrom(desks).Draw(t, "who")
			other := rapid.SampledFrom(desks).Draw(t, "other")
			whom := who(rapid.SampledFrom([]string{"bob", "cat", "dan", "eve"}).Draw(t, "whom"))
			d.now = d.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			d.keys.Advance(d.now)
			var a Act
			var err error
			switch rapid.IntRange(0, 12).Draw(t, "step") {
			case 0, 1:
				a, err = d.log.Admit(d.self, d.now, d.keys, personOf(whom.Name))
			case 2:
				a, err = d.log.Kick(d.self, d.now, whom.Account, "", nil)
			case 3:
				a, err = d.log.Rekey(d.self, d.now, d.keys.Without())
			case 4:
				a, err = d.log.Leave(d.self, d.now)
			case 5:
				a, err = d.log.Claim(d.self, d.now)
			case 6:
				a, err = d.log.AddDevice(d.self, d.now, d.keys, whom.Account, personOf(whom.Name + "3").Devices[0])
			case 7:
				a, err = d.log.Transfer(d.self, d.now, whom.Account)
			case 8, 9:
				learn(d, all[1:rapid.IntRange(1, len(all)).Draw(t, "seen")]...)
			default:
				ask(d, other)
			}
			if err == nil && a.Entry != nil && len(d.log.tips) < MaxBranches {
				learn(d, a.Entry)
				if a.HasSecret {
					if _, err := d.keys.Accept(d.now, a.Entry.Hash(), a.Secret); err != nil {
						t.Fatal(err)
					}
				}
				trial, err := Load(testRealm, append(slices.Clone(all), a.Entry), nil)
				if err == nil && len(trial.tips) <= MaxBranches {
					all = append(all, a.Entry)
				} else {
					t.Skip("more branches than are kept")
				}
			}
		}
		for _, d := range desks {
			learn(d, all[1:]...)
		}
		for range desks {
			for _, d := range desks {
				for _, from := range desks {
					ask(d, from)
				}
			}
		}
		for i, d := range desks {
			for _, o := range desks[:i] {
				if d.log.State().Head != o.log.State().Head {
					continue // somebody signed twice: bob and bob2 go on side by side
				}
				a, b := d.keys.Current(), o.keys.Current()
				if a != nil && b != nil {
					agreed++
					if a.KeyID() != b.KeyID() || a.secret != b.secret || !slices.Equal(a.Info().Slots, b.Info().Slots) {
						t.Fatalf("%s and %s have the same entries and not the same key", d.self.Name, o.self.Name)
					}
				}
				for e, h := range d.keys.held {
					if g := o.keys.held[e]; g != nil && (g.secret != h.secret || g.keyID != h.keyID) {
						t.Fatalf("%s and %s hold different secrets of %v", d.self.Name, o.self.Name, e)
					}
				}
			}
		}
	})
	if agreed == 0 {
		t.Error("no two devices ever had a key")
	}
}

func FuzzEvaluate(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	f.Add([]byte{255, 6, 0, 128, 13, 1, 3, 2, 2, 9, 6, 3, 13, 5, 2, 7, 6, 1})
	base := baseRoom(f)
	genesis := base.log.Since(0)
	f.Fuzz(func(t *testing.T, program []byte) {
		rapid.MakeFuzz(func(t *rapid.T) {
			fo := newForest(t, base, false)
			fo.grow(30, testPeople...)
			again, err := Load(testRealm, fo.log.Since(0), fo.log.Applied())
			if err != nil || dump(again) != dump(fo.log) {
				t.Fatalf("from scratch, %v:\n%s\nwant\n%s", err, dump(again), dump(fo.log))
			}
			if !slices.Equal(hashes(fo.log.Audit()[:len(genesis)]), hashes(genesis)) && len(fo.log.tips) == 1 {
				t.Fatal("the one branch lost")
			}
		})(t, program)
	})
}
