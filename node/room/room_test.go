package room

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"lanchat/wire"
)

// TestMain keeps the properties short unless -rapid.checks asks for more.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		if err := flag.Set("rapid.checks", "25"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

var (
	testRealm = wire.RealmID(sha256.Sum256([]byte("realm")))
	start     = time.UnixMilli(1_700_000_000_000)
)

// at returns a time some seconds after the start.
func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// identities of who; making a key costs more than most tests.
var identities = map[string]Identity{}

// who returns the identity of a person on the first device, or with a digit
// behind the name ("ann2") on another one.
func who(name string) Identity {
	if id, ok := identities[name]; ok {
		id.Rand = secretsOf(name)
		return id
	}
	person := strings.TrimRight(name, "0123456789")
	seed := sha256.Sum256([]byte("device " + name))
	account := sha256.Sum256([]byte("account " + person))
	id := Identity{
		Realm: testRealm, Account: wire.AccountID(account[:16]), Name: person,
		Key:  ed25519.NewKeyFromSeed(seed[:]),
		Rand: secretsOf(name),
	}
	identities[name] = id
	return id
}

// secretsOf returns a source of reproducible secrets.
func secretsOf(name string) io.Reader {
	return rand.NewChaCha8(sha256.Sum256([]byte("secrets " + name)))
}

func personOf(names ...string) Person {
	p := Person{Account: who(names[0]).Account, Name: who(names[0]).Name}
	for _, n := range names {
		id := who(n)
		p.Devices = append(p.Devices, wire.Device{Key: id.Device(), Cert: sha256.Sum256([]byte("cert " + n))})
	}
	return p
}

// nameOf is the inverse of who for the people of the tests.
func nameOf(a wire.AccountID) string {
	for _, n := range []string{"ann", "bob", "cat", "dan", "eve", "fay", "gus"} {
		if who(n).Account == a {
			return n
		}
	}
	return a.String()
}

// A desk is one person's device in a room: log and keys.
type desk struct {
	t    testing.TB
	self Identity
	log  *Log
	keys *Keyring
	now  time.Time
	last Change
}

// found makes a room by name, and lets the others in.
func found(t testing.TB, name string, others ...string) *desk {
	t.Helper()
	d := &desk{t: t, self: who(name), now: start}
	a, err := Create(d.self, d.now, "lab", 0)
	if err != nil {
		t.Fatal(err)
	}
	d.open(a.Entry)
	d.accept(a)
	for _, o := range others {
		d.admit(o)
	}
	return d
}

func (d *desk) open(first *wire.Entry) {
	d.t.Helper()
	log, err := NewLog(testRealm, first)
	if err != nil {
		d.t.Fatal(err)
	}
	d.log = log
	d.keys, _ = NewKeyring(d.now, log, d.self.Device(), nil)
}

// peer returns somebody else's desk with the same entries; it has no keys but
// those it computes.
func (d *desk) peer(name string) *desk {
	d.t.Helper()
	p := &desk{t: d.t, self: who(name), now: d.now}
	p.open(d.log.Genesis())
	p.add(d.log.Since(1)...)
	return p
}

// desks returns a desk for everybody with the current key, all at the same
// point.
func (d *desk) desks(names ...string) (desks []*desk) {
	d.t.Helper()
	for _, n := range names {
		p := d.peer(n)
		p.take(d)
		desks = append(desks, p)
	}
	return desks
}

// take has d given the current secret by another desk.
func (d *desk) take(from *desk) {
	d.t.Helper()
	entry := from.log.State().Epoch.Entry
	secret, err := from.keys.Serve(d.self.Device(), entry)
	if err != nil {
		d.t.Fatalf("%s asks %s for the key: %v", d.self.Name, from.self.Name, err)
	}
	if _, err := d.keys.Accept(d.now, entry, secret); err != nil {
		d.t.Fatal(err)
	}
}

// add gives the desk entries, which must be valid.
func (d *desk) add(entries ...*wire.Entry) Change {
	d.t.Helper()
	c, err := d.log.Add(entries...)
	if err != nil {
		d.t.Fatal(err)
	}
	d.last = c
	d.keys.Update(d.now, c)
	return c
}

func (d *desk) accept(a Act) {
	d.t.Helper()
	if !a.HasSecret {
		return
	}
	if _, err := d.keys.Accept(d.now, a.Entry.Hash(), a.Secret); err != nil {
		d.t.Fatal(err)
	}
}

// do appends an act to the desk's own log.
func (d *desk) do(a Act, err error) *wire.Entry {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	d.add(a.Entry)
	d.accept(a)
	return a.Entry
}

// Short forms of the deeds, by name.
func (d *desk) admit(names ...string) *wire.Entry {
	d.t.Helper()
	return d.do(d.log.Admit(d.self, d.now, d.keys, personOf(names...)))
}
func (d *desk) kick(name string) *wire.Entry {
	d.t.Helper()
	return d.do(d.log.Kick(d.self, d.now, who(name).Account, "", nil))
}
func (d *desk) ban(name string) *wire.Entry {
	d.t.Helper()
	return d.do(d.log.Ban(d.self, d.now, who(name).Account, "", time.Time{}, nil))
}
func (d *desk) claim() *wire.Entry {
	d.t.Helper()
	return d.do(d.log.Claim(d.self, d.now))
}
func (d *desk) promote(name string) *wire.Entry {
	d.t.Helper()
	return d.do(d.log.Promote(d.self, d.now, who(name).Account))
}
func (d *desk) transfer(name string) *wire.Entry {
	d.t.Helper()
	return d.do(d.log.Transfer(d.self, d.now, who(name).Account))
}
func (d *desk) rekey() *wire.Entry {
	d.t.Helper()
	return d.do(d.log.Rekey(d.self, d.now, d.keys.Without()))
}
func (d *desk) topic(s string) *wire.Entry {
	d.t.Helper()
	return d.do(d.log.Settings(d.self, d.now, "lab", s, 0))
}

// seats prints the seat order: "ann* bob+ cat" with the admin and co-admins
// marked, "!" for the regent.
func seats(s *State) string {
	var b []string
	for i, m := range s.Members {
		n := nameOf(m.Account)
		switch {
		case i == 0:
			n += "*"
		case i <= s.Mods:
			n += "+"
		}
		if m.Account == s.Regent {
			n += "!"
		}
		b = append(b, n)
	}
	return strings.Join(b, " ")
}

func (d *desk) wantSeats(want string) {
	d.t.Helper()
	if got := seats(d.log.State()); got != want {
		d.t.Errorf("%s sees %q, want %q", d.self.Name, got, want)
	}
}

// refused checks that a deed is refused by a rule.
func refused(t testing.TB, what string, want error) func(Act, error) {
	return func(a Act, err error) {
		t.Helper()
		if a.Entry != nil || !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
}

// sign makes an entry behind another one without asking any rule.
func sign(author Identity, s *State, args wire.Args) *wire.Entry {
	e := wire.Entry{Room: s.Room, Seq: s.Seq + 1, Prev: s.Head, AuthorN: s.AuthorN(author.Device()) + 1, Time: 1, Args: args}
	if changesKeys(args) {
		e.Commit = Commit(s.Room, author.secret())
	}
	return wire.SignEntry(testRealm, author.Key, e)
}

// dump describes everything that must be equal on two desks with the same
// entries.
func dump(l *Log) string {
	s := l.State()
	var b bytes.Buffer
	fmt.Fprintf(&b, "head %v held %v seats %q name %q topic %q policy %d unkeyed %v\n", s.Head, l.Held(), seats(s), s.Name, s.Topic, s.Policy, s.Unkeyed)
	fmt.Fprintf(&b, "epoch %d %v %v %v\n", s.Epoch.Number, s.Epoch.Entry, s.Epoch.Commit, s.Epoch.Slots)
	fmt.Fprintf(&b, "counters %v\nbans %v\nsilences %v\ncuts %v\nwithout %v\nresolved %v\nowners %v\n", s.counters, s.bans, s.silences, s.cuts, s.without, s.resolved, s.owners)
	for _, q := range l.Suspended() {
		fmt.Fprintf(&b, "suspended %s by %v\n", nameOf(q.Account), q.Removal.Hash())
	}
	for _, q := range l.Equivocations() {
		fmt.Fprintf(&b, "twice at %v: %v %v\n", q.Fork, q.A.Hash(), q.B.Hash())
	}
	return b.String()
}

func hashes(entries []*wire.Entry) (h []wire.Hash) {
	for _, e := range entries {
		h = append(h, e.Hash())
	}
	return h
}
