package room

import (
	"errors"
	"slices"
	"testing"
	"time"

	"lanchat/wire"
)

// "State holds one ordered list: admin, then co-admins in order of promotion,
// then members in order of admission." "PROMOTE puts a member behind the last
// co-admin, DEMOTE back behind the co-admins by age; TRANSFER(x): x to front,
// old admin becomes first co-admin."
func TestSeatOrder(t *testing.T) {
	d := found(t, "ann", "bob", "cat", "dan", "eve")
	d.wantSeats("ann* bob cat dan eve")
	d.promote("dan")
	d.wantSeats("ann* dan+ bob cat eve")
	d.promote("cat")
	d.wantSeats("ann* dan+ cat+ bob eve")
	d.do(d.log.Demote(d.self, d.now, who("dan").Account))
	d.wantSeats("ann* cat+ bob dan eve")
	d.transfer("eve")
	d.wantSeats("eve* ann+ cat+ bob dan")

	eve := d.peer("eve")
	eve.do(eve.log.Demote(eve.self, eve.now, who("ann").Account))
	eve.wantSeats("eve* cat+ ann bob dan") // ann is the oldest
	eve.transfer("cat")
	eve.wantSeats("cat* eve+ ann bob dan")
	cat := eve.peer("cat")
	cat.do(cat.log.Left(cat.self, cat.now, who("eve").Account, nil))
	cat.wantSeats("cat* ann bob dan")
}

// "Admin leaves ⇒ the next seat (oldest member when there are no co-admins)
// *is* admin; a pure function of the log."
func TestSuccession(t *testing.T) {
	d := found(t, "ann", "bob", "cat", "dan")
	d.promote("cat")
	d.do(d.log.Leave(d.self, d.now))
	d.wantSeats("cat* bob dan")

	cat := d.peer("cat")
	cat.rekey()
	cat.do(cat.log.Leave(cat.self, cat.now))
	cat.wantSeats("bob* dan")

	// "last member leaves: room ends"
	bob := cat.peer("bob")
	bob.rekey()
	bob.kick("dan")
	bob.do(bob.log.Leave(bob.self, bob.now))
	bob.wantSeats("")
	if !bob.log.State().Ended() || bob.keys.Current() != nil {
		t.Errorf("ended %v, sending epoch %v; want an ended room without", bob.log.State().Ended(), bob.keys.Current())
	}
}

// "A person may act only on people *behind* them." "Only the admin appends."
func TestWhoMayAppend(t *testing.T) {
	d := found(t, "ann", "bob", "cat", "dan")
	d.promote("bob")
	acct := func(n string) wire.AccountID { return who(n).Account }
	for _, name := range []string{"bob", "cat"} {
		p := d.peer(name)
		no := func(what string) func(Act, error) { return refused(t, name+" "+what, ErrNotAdmin) }
		no("admits")(p.log.Admit(p.self, p.now, p.keys, personOf("eve")))
		no("kicks")(p.log.Kick(p.self, p.now, acct("dan"), "", nil))
		no("bans")(p.log.Ban(p.self, p.now, acct("eve"), "", time.Time{}, nil))
		no("leaves")(p.log.Leave(p.self, p.now))
		no("records")(p.log.Left(p.self, p.now, acct("dan"), nil))
		no("transfers")(p.log.Transfer(p.self, p.now, acct("dan")))
		no("promotes")(p.log.Promote(p.self, p.now, acct("dan")))
		no("silences")(p.log.Silence(p.self, p.now, acct("dan"), time.Time{}))
		no("rekeys")(p.log.Rekey(p.self, p.now, nil))
		no("sets")(p.log.Settings(p.self, p.now, "lab", "x", 0))
		_, err := p.log.Kick(p.self, p.now, acct("dan"), "", nil)
		var r *Refusal
		if !errors.As(err, &r) || r.Code != "not_admin" || !slices.Equal(r.Who, []wire.AccountID{acct("ann")}) {
			t.Errorf("%s kicks: %+v, want code not_admin and that ann may", name, r)
		}
	}
	eve := d.peer("eve")
	refused(t, "a stranger claims", ErrNotMember)(eve.log.Claim(eve.self, eve.now))
	ann2 := d.peer("ann2")
	refused(t, "a device of ann that is not in the log", ErrNotMember)(ann2.log.Rekey(ann2.self, ann2.now, nil))

	refused(t, "ann kicks herself", ErrSelf)(d.log.Kick(d.self, d.now, acct("ann"), "", nil))
	refused(t, "kick of a stranger", ErrNoSuchMember)(d.log.Kick(d.self, d.now, acct("eve"), "", nil))
	refused(t, "promotes a co-admin", ErrRole)(d.log.Promote(d.self, d.now, acct("bob")))
	refused(t, "demotes a member", ErrRole)(d.log.Demote(d.self, d.now, acct("cat")))
	refused(t, "admits a member", ErrMember)(d.log.Admit(d.self, d.now, d.keys, personOf("cat")))
	refused(t, "admits a device of another", ErrDevice)(d.log.Admit(d.self, d.now, d.keys, Person{Account: acct("eve"), Devices: personOf("cat").Devices}))
	refused(t, "admits nobody's device", ErrDevice)(d.log.Admit(d.self, d.now, d.keys, Person{Account: acct("eve")}))
	refused(t, "unbans who is not banned", ErrNotBanned)(d.log.Unban(d.self, d.now, acct("eve")))
	refused(t, "unsilences who is not silenced", ErrNotSilenced)(d.log.Unsilence(d.self, d.now, acct("cat")))
	refused(t, "resolves nothing", ErrResolved)(d.log.Resolve(d.self, d.now, wire.Hash{1}, true, nil))
	refused(t, "a room without a name", ErrTooLong)(d.log.Settings(d.self, d.now, "", "", 0))
	refused(t, "a reason that is not UTF-8", ErrTooLong)(d.log.Kick(d.self, d.now, acct("cat"), "\xff", nil))
	refused(t, "a room without a name", ErrTooLong)(Create(d.self, d.now, "", 0))
}

// "Regency: … may append CLAIM … and act: admit, kick/ban people behind them,
// rekey. Not: promote, transfer, unban, touch seats in front. Any entry by the
// admin ends the regency."
func TestRegency(t *testing.T) {
	d := found(t, "ann", "bob", "cat", "dan")
	d.promote("bob")
	d.ban("fay")
	d.do(d.log.Silence(d.self, d.now, who("dan").Account, time.Time{}))
	cat := d.desks("cat")[0]
	cat.claim()
	cat.wantSeats("ann* bob+ cat! dan")
	if w := cat.log.State().Writer(); w != cat.self.Account {
		t.Errorf("writer %s, want cat", nameOf(w))
	}
	refused(t, "claims twice", ErrNotAdmin)(cat.log.Claim(cat.self, cat.now))
	refused(t, "kicks in front", ErrBehind)(cat.log.Kick(cat.self, cat.now, who("bob").Account, "", nil))
	refused(t, "kicks the admin", ErrBehind)(cat.log.Kick(cat.self, cat.now, who("ann").Account, "", nil))
	refused(t, "promotes", ErrNotAdmin)(cat.log.Promote(cat.self, cat.now, who("dan").Account))
	refused(t, "transfers", ErrNotAdmin)(cat.log.Transfer(cat.self, cat.now, who("dan").Account))
	refused(t, "unbans", ErrNotAdmin)(cat.log.Unban(cat.self, cat.now, who("fay").Account))
	refused(t, "unsilences", ErrNotAdmin)(cat.log.Unsilence(cat.self, cat.now, who("dan").Account))
	refused(t, "sets", ErrNotAdmin)(cat.log.Settings(cat.self, cat.now, "lab", "x", 0))
	refused(t, "leaves", ErrNotAdmin)(cat.log.Leave(cat.self, cat.now))
	refused(t, "records a leave", ErrNotAdmin)(cat.log.Left(cat.self, cat.now, who("dan").Account, nil))
	refused(t, "leaves its own device out", ErrDevice)(cat.log.Rekey(cat.self, cat.now, []wire.DeviceID{device("cat")}))
	// A device of somebody in front may have been revoked. Nobody moves by it.
	cat.do(cat.log.Rekey(cat.self, cat.now, []wire.DeviceID{device("bob")}))
	cat.wantSeats("ann* bob+ cat! dan")
	if !cat.log.State().Without(device("bob")) {
		t.Error("bob's device is not left out")
	}
	cat.admit("eve")
	cat.kick("dan")
	cat.ban("gus")
	cat.rekey()
	cat.wantSeats("ann* bob+ cat! eve")

	bob := cat.peer("bob")
	bob.claim() // another may claim over a regent
	bob.wantSeats("ann* bob+! cat eve")
	ann := bob.peer("ann")
	ann.topic("back")
	ann.wantSeats("ann* bob+ cat eve")
	refused(t, "bob goes on", ErrNotAdmin)(ann.peer("bob").log.Rekey(who("bob"), start, nil))
}

func device(name string) wire.DeviceID { return who(name).Device().Device() }

// "not banned on ADMIT"; the time never decides what is valid.
func TestBans(t *testing.T) {
	d := found(t, "ann", "bob")
	until := at(3600)
	d.do(d.log.Ban(d.self, d.now, who("bob").Account, "rude", until, func(wire.DeviceKey) uint64 { return 17 }))
	d.wantSeats("ann*")
	b, ok := d.log.State().Ban(who("bob").Account)
	if !ok || !b.Until.Equal(until) || b.Reason != "rude" || b.By != d.self.Account {
		t.Errorf("ban %+v, %v", b, ok)
	}
	_, err := d.log.Admit(d.self, at(7200), d.keys, personOf("bob"))
	var r *Refusal
	if !errors.As(err, &r) || r.Code != "banned" || !r.Until.Equal(until) {
		t.Errorf("admitted after the end of the ban: %v, want it refused until it is lifted", err)
	}
	if got := d.log.State().Lapsed(until.Add(-1)); len(got) > 0 {
		t.Errorf("lapsed too early: %v", got)
	}
	if got := d.log.State().Lapsed(until); !slices.Equal(got, []wire.AccountID{who("bob").Account}) {
		t.Errorf("lapsed %v, want bob", got)
	}
	// "KICK, BAN and LEFT carry, for each device of the person, the highest rseq"
	key := personOf("bob").Devices[0].Key
	if c, ok := d.log.State().Cut(key); !ok || c != (Cut{Seq: 2, Number: 17}) {
		t.Errorf("cut %+v %v, want entry 2, number 17", c, ok)
	}
	d.do(d.log.Unban(d.self, d.now, who("bob").Account))
	d.admit("bob")
	d.wantSeats("ann* bob")
	d.ban("eve")
	if got := d.log.State().Lapsed(at(1e9)); len(got) > 0 {
		t.Errorf("a ban for good lapsed: %v", got)
	}
}

func TestSilence(t *testing.T) {
	d := found(t, "ann", "bob", "cat")
	d.do(d.log.Silence(d.self, d.now, who("bob").Account, at(60)))
	s := d.log.State()
	for _, tt := range []struct {
		name string
		at   time.Time
		want error
	}{{"ann", at(1), nil}, {"bob", at(59), ErrSilenced}, {"bob", at(60), nil}, {"eve", at(1), ErrNotMember}} {
		if err := s.MaySpeak(tt.at, who(tt.name).Account); !errors.Is(err, tt.want) {
			t.Errorf("%s at %v: %v, want %v", tt.name, tt.at.Sub(start), err, tt.want)
		}
	}
	d.do(d.log.Silence(d.self, d.now, who("cat").Account, time.Time{}))
	if _, silenced := d.log.State().Silenced(at(1e9), who("cat").Account); !silenced {
		t.Error("a silence without an end ended")
	}
	d.do(d.log.Unsilence(d.self, d.now, who("cat").Account))
	if _, silenced := d.log.State().Silenced(at(1), who("cat").Account); silenced {
		t.Error("still silenced after UNSILENCE")
	}
}

// "Members are pinned to device keys in the log. A new device comes in by
// DEVICE."
func TestDevices(t *testing.T) {
	d := found(t, "ann", "bob", "cat")
	add := func(p *desk, owner, name string) (Act, error) {
		return p.log.AddDevice(p.self, p.now, p.keys, who(owner).Account, personOf(name).Devices[0])
	}
	d.do(add(d, "bob", "bob2"))
	if _, ok := d.log.State().Epoch.Slot(personOf("bob2").Devices[0].Key); !ok {
		t.Error("bob's new device has no slot")
	}
	refused(t, "adds it again", ErrDevice)(add(d, "bob", "bob2"))
	refused(t, "adds it to another", ErrDevice)(add(d, "cat", "bob2"))
	refused(t, "adds to a stranger", ErrNoSuchMember)(add(d, "eve", "eve2"))
	d.do(add(d, "ann", "ann2"))
	remove := func(p *desk, owner, name string) (Act, error) {
		return p.log.RemoveDevice(p.self, p.now, who(owner).Account, personOf(name).Devices[0].Key, func(wire.DeviceKey) uint64 { return 5 })
	}
	refused(t, "removes the device that signs", ErrDevice)(remove(d, "ann", "ann"))
	refused(t, "removes the last device", ErrDevice)(remove(d, "cat", "cat"))
	refused(t, "removes another's", ErrDevice)(remove(d, "cat", "bob"))
	d.do(remove(d, "bob", "bob"))
	s := d.log.State()
	if _, ok := s.Owner(personOf("bob").Devices[0].Key); ok {
		t.Error("bob's old device is still his")
	}
	if c, ok := s.Cut(personOf("bob").Devices[0].Key); !ok || c.Number != 5 {
		t.Errorf("cut %+v %v, want number 5", c, ok)
	}
	d.do(remove(d, "ann", "ann2"))
	// A regent may add a device of people behind, or its own.
	bob2 := d.desks("bob2")[0]
	bob2.claim()
	refused(t, "adds a device in front", ErrBehind)(add(bob2, "ann", "ann3"))
	bob2.do(add(bob2, "cat", "cat2"))
	bob2.do(add(bob2, "bob", "bob3"))
}

// "co-admins: executed at once; members: join, leave, topic if allowed"
func TestMay(t *testing.T) {
	d := found(t, "ann", "bob", "cat", "dan")
	d.promote("bob")
	d.ban("gus")
	acct := func(n string) wire.AccountID { return who(n).Account }
	admit := func(n string) wire.Args {
		p := personOf(n)
		return &wire.LogAdmit{Account: p.Account, Devices: p.Devices}
	}
	topic := &wire.LogSettings{Name: "lab", Topic: "x"}
	check := func(name string, args wire.Args, want error) {
		t.Helper()
		if err := d.log.State().May(acct(name), args); !errors.Is(err, want) {
			t.Errorf("%s asks for %v: %v, want %v", name, args.Op(), err, want)
		}
	}
	check("bob", &wire.LogKick{Account: acct("cat")}, nil)
	check("bob", &wire.LogKick{Account: acct("ann")}, ErrBehind)
	check("bob", &wire.LogKick{Account: acct("bob")}, ErrSelf)
	check("bob", &wire.LogKick{Account: acct("eve")}, ErrNoSuchMember)
	check("bob", &wire.LogBan{Account: acct("eve")}, nil)
	check("bob", &wire.LogBan{Account: acct("ann")}, ErrBehind)
	check("bob", &wire.LogUnban{Account: acct("gus")}, nil)
	check("bob", &wire.LogSilence{Account: acct("cat")}, nil)
	check("bob", &wire.LogPromote{Account: acct("cat")}, ErrNotAdmin)
	check("bob", &wire.LogTransfer{Account: acct("cat")}, ErrNotAdmin)
	check("bob", topic, nil)
	check("bob", &wire.LogSettings{Name: "den"}, ErrNotAdmin)
	check("cat", &wire.LogKick{Account: acct("dan")}, ErrNotAdmin)
	check("cat", topic, ErrNotAdmin)
	check("cat", &wire.LogLeft{Account: acct("cat")}, nil)
	check("cat", &wire.LogLeft{Account: acct("dan")}, ErrNotAdmin)
	check("cat", &wire.LogDevice{Account: acct("cat")}, nil)
	check("cat", &wire.LogDevice{Account: acct("dan")}, ErrNotAdmin)
	check("cat", admit("eve"), nil)
	check("eve", admit("eve"), nil)
	check("eve", admit("fay"), ErrNotMember)
	check("gus", admit("gus"), ErrBanned)
	check("cat", admit("dan"), ErrMember)
	check("eve", topic, ErrNotMember)
	check("ann", &wire.LogPromote{Account: acct("cat")}, nil)

	d.do(d.log.Settings(d.self, d.now, "lab", "", wire.PolicyPrivate|wire.PolicyTopic))
	check("eve", admit("eve"), ErrNotAdmin)
	check("cat", admit("eve"), ErrNotAdmin)
	check("bob", admit("eve"), nil)
	check("cat", &wire.LogSettings{Name: "lab", Topic: "x", Policy: wire.PolicyPrivate | wire.PolicyTopic}, nil)
	check("cat", topic, ErrNotAdmin) // would change the policy
}

// "the front-most person *heard in the last 45 s*, oneself included, may
// append CLAIM, each present person further back 5 s later (absent seats cost
// nothing)"
func TestClaimAfter(t *testing.T) {
	s := found(t, "ann", "bob", "cat", "dan", "eve").log.State()
	present := func(names ...string) func(wire.AccountID) bool {
		return func(a wire.AccountID) bool { return slices.Contains(names, nameOf(a)) }
	}
	for _, tt := range []struct {
		self    string
		present []string
		want    time.Duration
		ok      bool
	}{
		{"ann", nil, 0, false},
		{"bob", nil, 0, true},
		{"dan", nil, 0, true},
		{"dan", []string{"ann"}, 0, true}, // the writer, who is silent
		{"dan", []string{"cat"}, ClaimStep, true},
		{"eve", []string{"bob", "cat"}, 2 * ClaimStep, true},
		{"fay", nil, 0, false},
	} {
		got, ok := s.ClaimAfter(who(tt.self).Account, present(tt.present...))
		if got != tt.want || ok != tt.ok {
			t.Errorf("%s with %v present: %v, %v; want %v, %v", tt.self, tt.present, got, ok, tt.want, tt.ok)
		}
	}
}

// Validity, entry by entry, as an attacker would make them.
func TestEntriesRefused(t *testing.T) {
	d := found(t, "ann", "bob", "cat")
	s := d.log.State()
	ann, bob, cat := who("ann"), who("bob"), who("cat")
	marks := []wire.Mark{{Key: cat.Device()}}
	change := func(author Identity, args wire.Args, f func(e *wire.Entry)) *wire.Entry {
		e := *sign(author, s, args)
		f(&e)
		return wire.SignEntry(testRealm, author.Key, e)
	}
	kick := &wire.LogKick{Account: cat.Account, Marks: marks}
	old := d.log.Get(s.Epoch.Entry).Commit
	for _, tt := range []struct {
		name  string
		entry *wire.Entry
		want  error
	}{
		{"another room", change(ann, &wire.LogClaim{}, func(e *wire.Entry) { e.Room[0]++ }), ErrOtherRoom},
		{"another realm's signature", wire.SignEntry(wire.RealmID{}, ann.Key, *sign(ann, s, &wire.LogClaim{})), wire.ErrSignature},
		{"seq skipped", change(ann, &wire.LogClaim{}, func(e *wire.Entry) { e.Seq++ }), ErrChain},
		{"author_n skipped", change(ann, &wire.LogClaim{}, func(e *wire.Entry) { e.AuthorN++ }), ErrChain},
		{"author_n repeated", change(ann, &wire.LogClaim{}, func(e *wire.Entry) { e.AuthorN-- }), ErrChain},
		{"a stranger", sign(who("eve"), s, &wire.LogClaim{}), ErrNotMember},
		{"a member kicks", sign(bob, s, kick), ErrNotAdmin},
		{"KICK without a commitment", change(ann, kick, func(e *wire.Entry) { e.Commit = wire.Hash{} }), ErrCommit},
		{"KICK with the commitment in use", change(ann, kick, func(e *wire.Entry) { e.Commit = old }), ErrCommit},
		{"CLAIM with a commitment", change(ann, &wire.LogClaim{}, func(e *wire.Entry) { e.Commit[0] = 1 }), ErrCommit},
		{"KICK without marks", sign(ann, s, &wire.LogKick{Account: cat.Account}), ErrChain},
		{"KICK with another's marks", sign(ann, s, &wire.LogKick{Account: cat.Account, Marks: []wire.Mark{{Key: bob.Device()}}}), ErrChain},
		{"BAN of a stranger with marks", sign(ann, s, &wire.LogBan{Account: who("eve").Account, Marks: marks}), ErrChain},
		{"RESOLVE of the admin", sign(ann, s, &wire.LogResolve{Removal: wire.Hash{1}, Account: ann.Account}), ErrSelf},
		{"a second CREATE", d.log.Genesis(), nil},
	} {
		c, err := d.log.Add(tt.entry)
		if !errors.Is(err, tt.want) || len(c.Added) > 0 || d.log.State() != s {
			t.Errorf("%s: %v, added %d; want %v", tt.name, err, len(c.Added), tt.want)
		}
	}
	for name, e := range map[string]*wire.Entry{
		"not a CREATE":             sign(ann, s, &wire.LogClaim{}),
		"CREATE by another device": wire.SignEntry(testRealm, bob.Key, *d.log.Genesis()),
		"CREATE without a commitment": wire.SignEntry(testRealm, ann.Key, wire.Entry{AuthorN: 1,
			Args: &wire.LogCreate{Account: ann.Account, Keys: []wire.DeviceKey{ann.Device()}, Name: "x"}}),
		"CREATE with number 2": wire.SignEntry(testRealm, ann.Key, wire.Entry{AuthorN: 2, Commit: old,
			Args: &wire.LogCreate{Account: ann.Account, Keys: []wire.DeviceKey{ann.Device()}, Name: "x"}}),
	} {
		if l, err := NewLog(testRealm, e); err == nil || l != nil {
			t.Errorf("%s: a log, want an error", name)
		}
	}
	if _, err := NewLog(wire.RealmID{}, d.log.Genesis()); !errors.Is(err, wire.ErrSignature) {
		t.Errorf("CREATE in another realm: %v, want %v", err, wire.ErrSignature)
	}
}

// "missing parent entry: hold ≤ 64, pull; never apply out of order"
func TestOrphans(t *testing.T) {
	d := found(t, "ann", "bob")
	for range 70 {
		d.rekey()
	}
	all := d.log.Since(1)
	late := d.peer("bob")
	late.log, _ = NewLog(testRealm, d.log.Genesis())
	for _, e := range slices.Backward(all[2:]) {
		c, err := late.log.Add(e)
		if err != nil || len(c.Added) > 0 {
			t.Fatalf("entry %d: added %d, %v; want it to wait", e.Seq, len(c.Added), err)
		}
	}
	if n := len(late.log.waiting); n != MaxOrphans {
		t.Errorf("%d entries wait, want %d", n, MaxOrphans)
	}
	if got := late.log.Missing(); !slices.Equal(got, []wire.Hash{all[1].Hash()}) {
		t.Errorf("missing %v, want entry 2, %v", got, all[1].Hash())
	}
	if got := hashes(d.log.Chain(all[1].Hash(), 2)); !slices.Equal(got, hashes(all[:2])) {
		t.Errorf("chain %v, want the first two", got)
	}
	c, err := late.log.Add(all[:2]...)
	if err != nil || len(c.Added) != 2+MaxOrphans || len(late.log.Missing()) > 0 {
		t.Errorf("added %d, missing %v, %v; want all that waited", len(c.Added), late.log.Missing(), err)
	}
}
