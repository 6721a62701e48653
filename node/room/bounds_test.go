package room

import (
	"runtime"
	"slices"
	"testing"

	"lanchat/wire"
)

// longLog returns the entries of a room with members and as many entries as a
// log holds, of which every tenth begins an epoch.
func longLog(t testing.TB, members, entries int) []*wire.Entry {
	d := found(t, "ann")
	for i := range members - 1 {
		d.admit(guest(i))
	}
	s := d.log.State()
	all := d.log.Since(0)
	for i := range entries - len(all) {
		var args wire.Args = &wire.LogSettings{Name: "lab", Topic: string(rune('a' + i%26))}
		if i%10 == 0 {
			args = &wire.LogRekey{}
		}
		e := sign(d.self, s, args)
		if err := s.check(e); err != nil {
			t.Fatal(err)
		}
		s = s.clone()
		s.apply(e)
		all = append(all, e)
	}
	return all
}

func guest(i int) string {
	return "guest" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
}

// "evaluating a log of 10,000 entries under 1 s": from the store, where
// signatures were verified before.
func BenchmarkLoad(b *testing.B) {
	all := longLog(b, 64, MaxEntries)
	b.ResetTimer()
	for range b.N {
		if _, err := Load(testRealm, all, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// The same with four branches of equal length from the first entry on.
func BenchmarkLoadBranches(b *testing.B) {
	all := branches(b, MaxEntries)
	b.ResetTimer()
	for range b.N {
		if _, err := Load(testRealm, all, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// branches returns a log of four branches side by side, whose entries come in
// turn.
func branches(t testing.TB, entries int) []*wire.Entry {
	d := found(t, "ann", "bob", "cat", "dan", "eve")
	all := d.log.Since(0)
	var tips []*State
	var authors []Identity
	for _, name := range []string{"ann", "bob", "cat", "dan"} {
		tips, authors = append(tips, d.log.State()), append(authors, who(name))
	}
	for i := range entries - len(all) {
		who, s := authors[i%MaxBranches], tips[i%MaxBranches]
		var args wire.Args = &wire.LogRekey{}
		if s.Writer() != who.Account {
			args = &wire.LogClaim{}
		}
		e := sign(who, s, args)
		if err := s.check(e); err != nil {
			t.Fatal(err)
		}
		s = s.clone()
		s.apply(e)
		tips[i%MaxBranches] = s
		all = append(all, e)
	}
	return all
}

// One entry after the other on four branches, as they come from the LAN.
func BenchmarkAddBranches(b *testing.B) {
	all := branches(b, MaxEntries)
	for b.Loop() {
		l, err := newLog(testRealm, all[0])
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range all[1:] {
			var c Change
			if err := l.enter(l.nodes[e.Prev], e, &c); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// Entries cost what they are, however many came before: twice as many, twice
// the work and the memory, with a margin for a machine that is busy.
func TestLongLogIsLinear(t *testing.T) {
	all := longLog(t, 8, 4000)
	cost := func(n int) (bytes uint64) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l, err := Load(testRealm, all[:n], nil)
		runtime.ReadMemStats(&after)
		if err != nil || l.Len() != n {
			t.Fatalf("%v, %d entries", err, l.Len())
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	half, whole := cost(2000), cost(4000)
	if whole > 3*half {
		t.Errorf("2,000 entries allocate %d bytes, 4,000 allocate %d", half, whole)
	}
}

// Whatever a member signs, and strangers do, the log stays in its bounds and
// goes on.
func TestStormsStayInBounds(t *testing.T) {
	ann := found(t, "ann", "bob", "cat")
	ann.log.max = 600
	base := ann.log.State()
	bound := func(what string) {
		t.Helper()
		l := ann.log
		if len(l.waiting) > maxWaiting || len(l.tips) > MaxBranches || l.Len() > l.max || len(l.nodes) != l.Len() ||
			len(l.applied) > l.Len() || len(l.numbers) > l.Len() || len(l.repeated) > l.Len() {
			t.Errorf("%s: %d wait, %d branches, %d entries in %d places, %d applied", what, len(l.waiting), len(l.tips), l.Len(), len(l.nodes), len(l.applied))
		}
	}
	works := func(what string) {
		t.Helper()
		bound(what)
		before := ann.log.State().Seq
		if ann.topic(what); ann.log.State().Seq != before+1 {
			t.Errorf("%s: the admin's entry does not count", what)
		}
	}
	// Orphans, by members and by keys nobody knows, and foreign entries.
	for i := range 3 * maxWaiting {
		e := wire.Entry{Room: base.Room, Seq: 9, Prev: wire.Hash{byte(i), byte(i >> 8), 1}, AuthorN: 1, Args: &wire.LogClaim{}}
		author := who("bob")
		if i%2 == 0 {
			author = who(guest(i / 40))
		}
		ann.log.Add(wire.SignEntry(testRealm, author.Key, e))
		mine := 0
		for _, w := range ann.log.waiting {
			if w.Author == author.Device() {
				mine++
			}
		}
		if mine > MaxOrphans {
			t.Fatalf("%d entries of one author wait", mine)
		}
	}
	works("orphans")
	// Branches from everywhere, by everybody who may claim.
	for i := range 300 {
		s := ann.log.stateAt(ann.log.order[i%3+1])
		e := *sign(who([]string{"bob", "cat"}[i%2]), s, &wire.LogClaim{})
		e.Time = uint64(i)
		ann.log.Add(wire.SignEntry(testRealm, who([]string{"bob", "cat"}[i%2]).Key, e))
		bound("branches")
	}
	works("branches")
	// One branch without an end, behind an old entry.
	s := base
	for i := range 1000 {
		author := who([]string{"bob", "cat"}[i%2])
		e := sign(author, s, &wire.LogClaim{})
		ann.log.Add(e)
		s = s.clone()
		s.apply(e)
	}
	works("a long branch")
	// The admin's own entries push all that out, until the log is full of them.
	for ann.log.Len() < ann.log.max || len(ann.log.tips) > 1 {
		ann.topic("more")
		bound("full")
	}
	if got := ann.log.Since(0); len(got) != ann.log.max || !slices.Equal(hashes(got), hashes(ann.log.Audit())) {
		t.Errorf("%d entries, of which %d count", len(got), len(ann.log.Audit()))
	}
}

// A member that fills a losing branch makes nobody else work for it: an entry
// there costs about what one on the winning branch does.
func BenchmarkAddToLosingBranch(b *testing.B) {
	base := found(b, "ann", "bob", "cat")
	fork := base.log.State()
	base.topic("wins")
	s := fork
	var entries []*wire.Entry
	for i := range MaxEntries / 2 {
		author := who([]string{"bob", "cat"}[i%2])
		e := sign(author, s, &wire.LogClaim{})
		s = s.clone()
		s.apply(e)
		entries = append(entries, e)
	}
	b.ResetTimer()
	for i := range b.N {
		if i == len(entries) {
			b.Skip("more entries than a log holds")
		}
		var c Change
		if err := base.log.enter(base.log.nodes[entries[i].Prev], entries[i], &c); err != nil {
			b.Fatal(err)
		}
	}
}

// Whoever stands in lets in people that do not exist, with as many devices as
// there may be, and makes keys for them: the room gets full, and no fuller. The
// admin comes back to it and removes who did that; and the log is as quick to
// load as one of so many entries is.
func TestHostileRegent(t *testing.T) {
	d := found(t, "ann", "bob")
	bob := who("bob")
	s := d.log.State()
	var all []*wire.Entry
	add := func(args wire.Args) bool {
		e := sign(bob, s, args)
		if s.check(e) != nil {
			return false
		}
		s = s.clone()
		s.apply(e)
		all = append(all, e)
		return true
	}
	add(&wire.LogClaim{})
	admitted := 0
	for ; ; admitted++ {
		a := &wire.LogAdmit{Account: wire.AccountID{9, byte(admitted), byte(admitted >> 8)}, Name: "x"}
		for i := range wire.MaxDevices {
			a.Devices = append(a.Devices, wire.Device{Key: wire.DeviceKey{9, byte(admitted), byte(admitted >> 8), byte(i)}})
		}
		if !add(a) {
			break
		}
	}
	if admitted != MaxMembers-2 {
		t.Errorf("%d people were let in, want %d", admitted, MaxMembers-2)
	}
	for range 100 {
		add(&wire.LogRekey{})
	}
	before := heapInUse()
	d.add(all...)
	if got := int64(heapInUse()) - int64(before); got > 16<<20 {
		t.Errorf("the log of %d entries takes %d MB", d.log.Len(), got>>20)
	}
	d.do(d.log.Kick(d.self, d.now, bob.Account, "", nil))
	if s := d.log.State(); s.Regent == bob.Account || s.Member(bob.Account) != nil || s.Admin() != d.self.Account {
		t.Error("bob is in the room still")
	}
	if _, err := Load(testRealm, d.log.Since(0), nil); err != nil {
		t.Error(err)
	}
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
