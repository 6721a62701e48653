package room

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lanchat/wire"
)

// The rules of a room written down a second time, as plainly as they are
// stated and with no thought of speed, to compare the real ones with.

// A refState is a room after one entry: admin, co-admins in order of
// promotion, everybody else by age.
type refState struct {
	room wire.RoomID
	seq  uint64
	head wire.Hash

	admin    wire.AccountID // zero: the room has ended
	coadmins []wire.AccountID
	admitted map[wire.AccountID]uint64 // of all members
	devices  map[wire.AccountID][]wire.DeviceKey
	regent   wire.AccountID

	counter  map[wire.DeviceKey]uint64
	banned   map[wire.AccountID]bool
	silenced map[wire.AccountID]bool
	resolved map[wire.Hash]bool
	without  map[wire.DeviceID]bool

	commit  wire.Hash
	table   []wire.DeviceKey // of the epoch
	unkeyed bool
	policy  wire.Policy
	name    string
	topic   string
}

func refGenesis(e *wire.Entry) *refState {
	c := e.Args.(*wire.LogCreate)
	return &refState{
		room: e.RoomID(), head: e.Hash(), admin: c.Account,
		admitted: map[wire.AccountID]uint64{c.Account: 0},
		devices:  map[wire.AccountID][]wire.DeviceKey{c.Account: c.Keys},
		counter:  map[wire.DeviceKey]uint64{e.Author: 1},
		banned:   map[wire.AccountID]bool{}, silenced: map[wire.AccountID]bool{},
		resolved: map[wire.Hash]bool{}, without: map[wire.DeviceID]bool{},
		commit: e.Commit, table: c.Keys, policy: c.Policy, name: c.Name,
	}
}

// order: "admin, then co-admins in order of promotion, then members in order
// of admission".
func (s *refState) order() []wire.AccountID {
	if s.admin.IsZero() {
		return nil
	}
	order := append([]wire.AccountID{s.admin}, s.coadmins...)
	var plain []wire.AccountID
	for a := range s.admitted {
		if !slices.Contains(order, a) {
			plain = append(plain, a)
		}
	}
	slices.SortFunc(plain, func(a, b wire.AccountID) int { return cmp.Compare(s.admitted[a], s.admitted[b]) })
	return append(order, plain...)
}

// seat returns a person's place, behind everybody for who is no member.
func (s *refState) seat(a wire.AccountID) int {
	if i := slices.Index(s.order(), a); i >= 0 {
		return i
	}
	return math.MaxInt
}

func (s *refState) member(a wire.AccountID) bool { _, ok := s.admitted[a]; return ok }

// owner returns whose device a key is; zero: nobody's.
func (s *refState) owner(k wire.DeviceKey) (owner wire.AccountID) {
	for a, keys := range s.devices {
		if slices.Contains(keys, k) {
			owner = a
		}
	}
	return owner
}

func (s *refState) copy() *refState {
	n := *s
	n.coadmins = slices.Clone(s.coadmins)
	n.admitted, n.devices = refCopy(s.admitted), refCopy(s.devices)
	n.counter, n.banned, n.silenced = refCopy(s.counter), refCopy(s.banned), refCopy(s.silenced)
	n.resolved, n.without = refCopy(s.resolved), refCopy(s.without)
	return &n
}

func refCopy[K comparable, V any](m map[K]V) map[K]V {
	n := map[K]V{}
	for k, v := range m {
		n[k] = v
	}
	return n
}

// valid: "author's device is in S; author is admin (any op), or author ≠
// writer and op = CLAIM, or author = acting writer and op ∈ {ADMIT, KICK, BAN,
// REKEY, DEVICE, RESOLVE}; targets strictly behind the author; not banned on
// ADMIT; seq = parent+1; author_n = last own +1 on that branch; R2".
func (s *refState) valid(e *wire.Entry) bool {
	author := s.owner(e.Author)
	if author.IsZero() || e.Room != s.room || e.Prev != s.head || e.Seq != s.seq+1 || e.AuthorN != s.counter[e.Author]+1 {
		return false
	}
	op := e.Op()
	writer := s.admin
	if !s.regent.IsZero() {
		writer = s.regent
	}
	inRegency := slices.Contains([]wire.Op{wire.OpAdmit, wire.OpKick, wire.OpBan, wire.OpRekey, wire.OpDevice, wire.OpResolve}, op)
	if author != s.admin && !(author != writer && op == wire.OpClaim) && !(author == writer && inRegency) {
		return false
	}
	// R2: "KICK, BAN, VACATE and LEFT MUST carry a new random commit made by
	// their author", and whoever else changes who may read.
	if refRekeys(e) == e.Commit.IsZero() || e.Commit == s.commit {
		return false
	}
	behind := func(a wire.AccountID) bool { return s.member(a) && s.seat(a) > s.seat(author) }
	// "KICK, BAN and LEFT carry, for each device of the person, the highest
	// rseq its author has".
	marked := func(a wire.AccountID, marks []wire.Mark) bool {
		var keys []wire.DeviceKey
		for _, m := range marks {
			keys = append(keys, m.Key)
		}
		return slices.Equal(keys, s.devices[a])
	}
	switch a := e.Args.(type) {
	case *wire.LogCreate:
		return false
	case *wire.LogAdmit:
		free := !slices.ContainsFunc(a.Devices, func(d wire.Device) bool { return !s.owner(d.Key).IsZero() })
		return !s.member(a.Account) && !s.banned[a.Account] && free && !s.unkeyed
	case *wire.LogKick:
		return behind(a.Account) && marked(a.Account, a.Marks)
	case *wire.LogLeft:
		return behind(a.Account) && marked(a.Account, a.Marks)
	case *wire.LogBan:
		return (behind(a.Account) || !s.member(a.Account)) && marked(a.Account, a.Marks)
	case *wire.LogUnban:
		return s.banned[a.Account]
	case *wire.LogTransfer:
		return behind(a.Account)
	case *wire.LogPromote:
		return behind(a.Account) && !slices.Contains(s.coadmins, a.Account)
	case *wire.LogDemote:
		return slices.Contains(s.coadmins, a.Account)
	case *wire.LogSilence:
		return behind(a.Account)
	case *wire.LogUnsilence:
		return s.silenced[a.Account]
	case *wire.LogRekey:
		return !slices.Contains(a.Without, e.Author.Device())
	case *wire.LogDevice:
		if !s.member(a.Account) || a.Account != author && !behind(a.Account) {
			return false
		}
		if a.Remove {
			return s.owner(a.Key) == a.Account && a.Key != e.Author && len(s.devices[a.Account]) > 1
		}
		return s.owner(a.Key).IsZero() && len(s.devices[a.Account]) < 8 && !s.unkeyed
	case *wire.LogResolve:
		return behind(a.Account) && !s.resolved[a.Removal] && (!a.Uphold || marked(a.Account, a.Marks))
	}
	return true
}

// refRekeys reports whether an entry begins an epoch: section 5's table.
func refRekeys(e *wire.Entry) bool {
	switch a := e.Args.(type) {
	case *wire.LogCreate, *wire.LogAdmit, *wire.LogKick, *wire.LogBan, *wire.LogLeft, *wire.LogRekey, *wire.LogDevice:
		return true
	case *wire.LogResolve:
		return a.Uphold
	}
	return false
}

// refRemoves returns whom an entry removes, apart from its author.
func refRemoves(e *wire.Entry) wire.AccountID {
	switch a := e.Args.(type) {
	case *wire.LogKick:
		return a.Account
	case *wire.LogBan:
		return a.Account
	case *wire.LogLeft:
		return a.Account
	case *wire.LogResolve:
		if a.Uphold {
			return a.Account
		}
	}
	return wire.AccountID{}
}

// after returns the state behind a valid entry.
func (s *refState) after(e *wire.Entry) *refState {
	author := s.owner(e.Author)
	n := s.copy()
	n.seq, n.head = e.Seq, e.Hash()
	n.counter[e.Author] = e.AuthorN
	switch { // "Any entry by the admin ends the regency."
	case author == s.admin:
		n.regent = wire.AccountID{}
	case e.Op() == wire.OpClaim:
		n.regent = author
	}
	if out := refRemoves(e); !out.IsZero() {
		n.remove(out)
	}
	switch a := e.Args.(type) {
	case *wire.LogAdmit:
		n.admitted[a.Account] = e.Seq
		n.devices[a.Account] = nil
		for _, d := range a.Devices {
			n.devices[a.Account] = append(n.devices[a.Account], d.Key)
		}
	case *wire.LogBan:
		n.banned[a.Account] = true
	case *wire.LogUnban:
		delete(n.banned, a.Account)
	case *wire.LogLeave:
		n.remove(author)
		n.unkeyed = true // "no sending epoch until the successor's REKEY"
	case *wire.LogTransfer: // "x to front, old admin becomes first co-admin"
		n.drop(a.Account)
		n.admin, n.coadmins = a.Account, append([]wire.AccountID{s.admin}, n.coadmins...)
	case *wire.LogPromote: // "puts a member behind the last co-admin"
		n.coadmins = append(n.coadmins, a.Account)
	case *wire.LogDemote: // "back behind the co-admins by age"
		n.drop(a.Account)
	case *wire.LogSilence:
		n.silenced[a.Account] = true
	case *wire.LogUnsilence:
		delete(n.silenced, a.Account)
	case *wire.LogSettings:
		n.policy, n.name, n.topic = a.Policy, a.Name, a.Topic
	case *wire.LogRekey:
		n.without = map[wire.DeviceID]bool{}
		for _, d := range a.Without {
			n.without[d] = true
		}
	case *wire.LogDevice:
		if a.Remove {
			n.devices[a.Account] = slices.DeleteFunc(slices.Clone(s.devices[a.Account]), func(k wire.DeviceKey) bool { return k == a.Key })
			delete(n.without, a.Key.Device())
		} else {
			n.devices[a.Account] = append(slices.Clone(s.devices[a.Account]), a.Key)
		}
	case *wire.LogResolve:
		n.resolved[a.Removal] = true
		for _, k := range s.devices[a.Account] {
			delete(n.without, k.Device())
		}
	}
	if refRekeys(e) {
		n.commit, n.unkeyed, n.table = e.Commit, false, nil
		for _, a := range n.order() {
			for _, k := range n.devices[a] {
				if !n.without[k.Device()] {
					n.table = append(n.table, k)
				}
			}
		}
	}
	return n
}

// drop takes a person from among the co-admins.
func (s *refState) drop(a wire.AccountID) {
	s.coadmins = slices.DeleteFunc(slices.Clone(s.coadmins), func(c wire.AccountID) bool { return c == a })
}

// remove: "Admin leaves ⇒ the next seat (oldest member when there are no
// co-admins) is admin".
func (s *refState) remove(a wire.AccountID) {
	if !s.member(a) {
		return
	}
	if a == s.admin {
		next := wire.AccountID{}
		if order := s.order(); len(order) > 1 {
			next = order[1]
		}
		s.admin = next
	}
	s.drop(a)
	s.drop(s.admin)
	for _, k := range s.devices[a] {
		delete(s.without, k.Device())
	}
	delete(s.admitted, a)
	delete(s.devices, a)
	if s.regent == a {
		s.regent = wire.AccountID{}
	}
}

func (s *refState) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "head %v seq %d commit %v unkeyed %v policy %d name %q topic %q\n", s.head, s.seq, s.commit, s.unkeyed, s.policy, s.name, s.topic)
	fmt.Fprintf(&b, "seats %v co-admins %v regent %v\n", s.order(), s.coadmins, s.regent)
	for _, a := range s.order() {
		fmt.Fprintf(&b, "%v admitted %d devices %v\n", a, s.admitted[a], s.devices[a])
	}
	fmt.Fprintf(&b, "counters %v\nbanned %v silenced %v resolved %v without %v\ntable %v\n", s.counter, s.banned, s.silenced, s.resolved, s.without, s.table)
	return b.String()
}

// asReference writes a real state the way refState does.
func asReference(s *State) string {
	r := refState{room: s.Room, seq: s.Seq, head: s.Head, admin: s.Admin(), regent: s.Regent, counter: s.counters,
		admitted: map[wire.AccountID]uint64{}, devices: map[wire.AccountID][]wire.DeviceKey{},
		banned: map[wire.AccountID]bool{}, silenced: map[wire.AccountID]bool{}, resolved: s.resolved, without: s.without,
		commit: s.Epoch.Commit, unkeyed: s.Unkeyed, policy: s.Policy, name: s.Name, topic: s.Topic}
	for i, m := range s.Members {
		r.admitted[m.Account] = m.Admitted
		for _, d := range m.Devices {
			r.devices[m.Account] = append(r.devices[m.Account], d.Key)
		}
		if i > 0 && i <= s.Mods {
			r.coadmins = append(r.coadmins, m.Account)
		}
	}
	for a := range s.bans {
		r.banned[a] = true
	}
	for a := range s.silences {
		r.silenced[a] = true
	}
	for _, x := range s.Epoch.Slots {
		r.table = append(r.table, x.Key)
	}
	return r.String()
}

// A refNode is a valid entry in its place.
type refNode struct {
	entry    *wire.Entry
	parent   *refNode
	children []*refNode
	author   wire.AccountID
	state    *refState
	void     bool
}

func (n *refNode) behind(m *refNode) bool { // or m itself
	for ; n != nil; n = n.parent {
		if n == m {
			return true
		}
	}
	return false
}

func refFork(a, b *refNode) *refNode {
	for ; !b.behind(a); a = a.parent {
	}
	return a
}

// below calls f for n and all behind it.
func (n *refNode) below(f func(*refNode)) {
	f(n)
	for _, c := range n.children {
		c.below(f)
	}
}

func (n *refNode) resigns() bool {
	return n.entry.Op() == wire.OpLeave || n.entry.Op() == wire.OpTransfer
}

// A reference is what evaluate says of a set of entries, and of those in it
// that were ever applied here, in the order they were.
type reference struct {
	nodes     map[wire.Hash]*refNode
	head      *refNode
	held      bool
	suspended map[string]bool
	twice     map[string]bool
}

func refEvaluate(entries []*wire.Entry, applied []wire.Hash) *reference {
	r := &reference{nodes: map[wire.Hash]*refNode{}, suspended: map[string]bool{}, twice: map[string]bool{}}
	// "keep entries whose parent chain reaches the genesis of this room;
	// replay each branch; drop what is not valid there"
	var root *refNode
	for again := true; again; {
		again = false
		for _, e := range entries {
			parent := r.nodes[e.Prev]
			switch {
			case r.nodes[e.Hash()] != nil:
			case e.Op() == wire.OpCreate:
				root = &refNode{entry: e, state: refGenesis(e)}
				root.author = root.state.admin
				r.nodes[e.Hash()] = root
				again = true
			case parent != nil && parent.state.valid(e):
				n := &refNode{entry: e, parent: parent, author: parent.state.owner(e.Author), state: parent.state.after(e)}
				parent.children = append(parent.children, n)
				r.nodes[e.Hash()] = n
				again = true
			}
		}
	}
	rank := func(n *refNode) int {
		if i := slices.Index(applied, n.entry.Hash()); i >= 0 {
			return i
		}
		return math.MaxInt
	}
	r.findVoid(root, rank)
	// "cur = genesis; while cur has non-void children: choose the child whose
	// subtree has the front-most author (seats of S(cur)); same device on both
	// sides: branch applied first here (none: stop, hold); same account, other
	// device: lower hash"
	r.head = root
	for !r.held {
		var children []*refNode
		for _, c := range r.head.children {
			if !c.void {
				children = append(children, c)
			}
		}
		if len(children) == 0 {
			break
		}
		if next := refChoose(r.head.state, children, rank); next != nil {
			r.head = next
		} else {
			r.held = true
		}
	}
	for _, n := range r.nodes {
		out := refRemoves(n.entry)
		if out.IsZero() || n.void || r.head.behind(n) {
			continue
		}
		// "removal of t on a losing, non-void branch by someone in front of t
		// at the fork ⇒ t gets no keys until a RESOLVE by the writer"
		fork := refFork(n, r.head).state
		// … or the author is banned
		if fork.seat(n.author) < fork.seat(out) && r.head.state.member(out) && !r.head.state.resolved[n.entry.Hash()] && !r.head.state.banned[n.author] {
			r.suspended[fmt.Sprint(out, n.entry.Hash())] = true
		}
	}
	r.findTwice()
	return r
}

// findVoid: "for r in LEAVE and TRANSFER entries, ordered by (already applied
// here first, seat of author at r's parent, seq, hash), skipping void r: for x
// by the same author, x neither ancestor nor descendant of r: P = deepest
// common ancestor of x and r; if some non-void descendant of x is by a person
// in front of r.author in S(P): leave x; else: x and its descendants are void".
//
// "applied here" matters only between the resignations of one person, and
// where neither of two was applied, neither makes the other's branch void: "a
// node that had applied neither holds the room".
func (r *reference) findVoid(root *refNode, rank func(*refNode) int) {
	var resignations []*refNode
	root.below(func(n *refNode) {
		if n.resigns() {
			resignations = append(resignations, n)
		}
	})
	slices.SortFunc(resignations, func(a, b *refNode) int {
		ha, hb := a.entry.Hash(), b.entry.Hash()
		return cmp.Or(cmp.Compare(a.entry.Seq, b.entry.Seq), bytes.Compare(ha[:], hb[:]))
	})
	for i := range resignations { // the applied ones of a person to the front of that person's places
		for j := range resignations[:i] {
			for k := j + 1; k <= i; k++ {
				if a, b := resignations[j], resignations[k]; a.author == b.author && rank(b) < rank(a) {
					resignations[j], resignations[k] = b, a
				}
			}
		}
	}
	applied := func(n *refNode) bool { return rank(n) < math.MaxInt }
	apart := func(a, b *refNode) bool { return !a.behind(b) && !b.behind(a) }
	for _, res := range resignations {
		if res.void {
			continue
		}
		rivals := slices.DeleteFunc(slices.Clone(resignations), func(q *refNode) bool {
			return applied(res) || applied(q) || q.void || q.author != res.author || !apart(q, res)
		})
		root.below(func(x *refNode) {
			if x.void || x.author != res.author || !apart(x, res) || slices.ContainsFunc(rivals, func(q *refNode) bool { return !apart(x, q) }) {
				return
			}
			fork := refFork(x, res).state
			spared := false
			x.below(func(d *refNode) {
				spared = spared || d != x && !d.void && fork.seat(d.author) < fork.seat(res.author)
			})
			if !spared {
				x.below(func(d *refNode) { d.void = true })
			}
		})
	}
}

func refChoose(fork *refState, children []*refNode, rank func(*refNode) int) *refNode {
	front := func(c *refNode) (best int) {
		best = math.MaxInt
		c.below(func(n *refNode) {
			if !n.void {
				best = min(best, fork.seat(n.author))
			}
		})
		return best
	}
	best := math.MaxInt
	for _, c := range children {
		best = min(best, front(c))
	}
	children = slices.DeleteFunc(children, func(c *refNode) bool { return front(c) != best })
	if len(children) == 1 {
		return children[0]
	}
	person := fork.order()[best]
	// Signed twice is, with one device, the person's first entry on two sides,
	// or, with whatever device, a resignation on two sides.
	devices := map[wire.DeviceKey]int{}
	resigned := 0
	for _, c := range children {
		mine := map[wire.DeviceKey]bool{}
		resigns := false
		c.below(func(n *refNode) {
			if n.void || n.author != person {
				return
			}
			first := true
			for p := n; p != c; {
				p = p.parent
				first = first && p.author != person
			}
			mine[n.entry.Author] = mine[n.entry.Author] || first
			resigns = resigns || n.resigns()
		})
		for k, first := range mine {
			if first {
				devices[k]++
			}
		}
		if resigns {
			resigned++
		}
	}
	twice := resigned > 1
	for _, n := range devices {
		twice = twice || n > 1
	}
	slices.SortFunc(children, func(a, b *refNode) int {
		ha, hb := a.entry.Hash(), b.entry.Hash()
		if twice {
			return cmp.Or(cmp.Compare(rank(a), rank(b)), bytes.Compare(ha[:], hb[:]))
		}
		return bytes.Compare(ha[:], hb[:])
	})
	if twice && rank(children[0]) == math.MaxInt {
		return nil
	}
	return children[0]
}

// findTwice: "One device with the same counter on two branches is transferable
// proof of misbehaviour", unless a branch was overruled when it signed there:
// see Equivocation.
func (r *reference) findTwice() {
	for _, a := range r.nodes {
		for _, b := range r.nodes {
			if a == b || a.parent == nil || b.parent == nil || a.author != b.author || a.behind(b) || b.behind(a) {
				continue
			}
			fork := refFork(a, b)
			overruled := func(n *refNode, byOneself bool) bool {
				for p := n.parent; p != fork; p = p.parent {
					if fork.state.seat(p.author) < fork.state.seat(n.author) || byOneself && p.author == n.author {
						return true
					}
				}
				return false
			}
			same := a.entry.Author == b.entry.Author && a.entry.AuthorN == b.entry.AuthorN
			if same && !overruled(a, true) && !overruled(b, true) ||
				a.resigns() && b.resigns() && !overruled(a, false) && !overruled(b, false) {
				r.twice[refPair(a.entry, b.entry)] = true
			}
		}
	}
}

func refPair(a, b *wire.Entry) string {
	x, y := a.Hash(), b.Hash()
	if bytes.Compare(x[:], y[:]) > 0 {
		x, y = y, x
	}
	return fmt.Sprint(x, y)
}

func (r *reference) String() string {
	return fmt.Sprintf("held %v suspended %v twice %v\n%v", r.held, r.suspended, r.twice, r.head.state)
}

// verdictOf writes what the real log says the way reference does.
func verdictOf(l *Log) string {
	suspended, twice := map[string]bool{}, map[string]bool{}
	for _, q := range l.Suspended() {
		suspended[fmt.Sprint(q.Account, q.Removal.Hash())] = true
	}
	for _, q := range l.Equivocations() {
		twice[refPair(q.A, q.B)] = true
	}
	return fmt.Sprintf("held %v suspended %v twice %v\n%v", l.Held(), suspended, twice, asReference(l.State()))
}

// The rules of validity, applied to whatever somebody may sign, valid or not.
func TestValidityIsTheReferences(t *testing.T) {
	base := baseRoom(t)
	rapid.Check(t, func(t *rapid.T) {
		real := base.log.State()
		ref := refGenesis(base.log.Genesis())
		for _, e := range base.log.Audit()[1:] {
			if !ref.valid(e) {
				t.Fatalf("%v refused", e.Op())
			}
			ref = ref.after(e)
		}
		f := forest{t: t, log: base.log}
		for range 25 {
			author := f.author(real, []string{"ann", "bob", "cat", "dan", "bob2", "eve"})
			e := sign(author, real, f.args(real))
			if rapid.IntRange(0, 9).Draw(t, "twist") == 0 {
				e = f.twist(author, real, e)
			}
			err := real.check(e)
			if want := ref.valid(e); want != (err == nil) {
				t.Fatalf("%v by %s is refused with %v; allowed by the reference: %v\n%v", e.Op(), author.Name, err, want, ref)
			}
			if err != nil {
				continue
			}
			real, ref = base.log.after(real, e), ref.after(e)
			if got, want := asReference(real), ref.String(); got != want {
				t.Fatalf("after %v by %s:\n%s\nwant\n%s", e.Op(), author.Name, got, want)
			}
		}
	})
}

// twist signs an entry again with something about it wrong.
func (f *forest) twist(author Identity, s *State, e *wire.Entry) *wire.Entry {
	x := *e
	switch rapid.IntRange(0, 6).Draw(f.t, "twisted") {
	case 0:
		x.Seq += uint64(rapid.IntRange(0, 2).Draw(f.t, "seq"))
	case 1:
		x.AuthorN = uint64(rapid.IntRange(1, 4).Draw(f.t, "author_n"))
	case 2:
		x.Prev[0]++
	case 3:
		x.Room[0]++
	case 4:
		x.Commit = s.Epoch.Commit
	case 5:
		x.Commit = wire.Hash{}
	case 6:
		x.Commit = wire.Hash{1}
	}
	return wire.SignEntry(testRealm, author.Key, x)
}

// "State = f(set of known valid entries)": the log, fed with anything in any
// order, says at every moment what the reference says of the entries it has.
func TestEvaluateIsTheReference(t *testing.T) {
	base := baseRoom(t)
	rapid.Check(t, func(t *rapid.T) {
		f := newForest(t, base, rapid.Bool().Draw(t, "honest"))
		f.plot()
		f.grow(20, testPeople...)
		all := f.log.Since(1)
		order := rapid.Permutation(slices.Concat(all, all[:len(all)/3])).Draw(t, "order")
		log, err := NewLog(testRealm, f.log.Genesis())
		if err != nil {
			t.Fatal(err)
		}
		entries := []*wire.Entry{log.Genesis()}
		applied := []wire.Hash{log.Genesis().Hash()}
		for _, e := range order {
			before := log.Len()
			if _, err := log.Add(e); err != nil {
				t.Fatal(err)
			}
			entries = append(entries, e)
			if log.Len() > before+1 {
				// Several at once: what was applied in between is the log's
				// word, but it never goes back on what it said before.
				now := log.Applied()
				if !slices.Equal(now[:len(applied)], applied) {
					t.Fatalf("applied was %v and is %v", applied, now)
				}
				applied = now
			}
			ref := refEvaluate(entries, applied)
			for _, e := range path(nil, log.nodes[ref.head.entry.Hash()]) {
				if !slices.Contains(applied, e.hash) {
					applied = append(applied, e.hash)
				}
			}
			if got, want := verdictOf(log), ref.String(); got != want {
				t.Fatalf("with %d entries:\n%s\nwant\n%s", log.Len(), got, want)
			}
		}
		// A node that has applied less than that before it learnt all at once.
		had := log.Applied()
		had = had[:rapid.IntRange(1, len(had)).Draw(t, "had")]
		late, err := Load(testRealm, log.Since(0), had)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := verdictOf(late), refEvaluate(entries, had).String(); got != want {
			t.Fatalf("having applied %d before:\n%s\nwant\n%s", len(had), got, want)
		}
		if f.honest {
			if got, want := verdictOf(log), refEvaluate(entries, nil).String(); got != want {
				t.Fatalf("by the set alone:\n%s\nwant\n%s", got, want)
			}
		}
	})
}

// The reference itself: hand-made cases it must get right for the comparison
// to be worth anything.
func TestReference(t *testing.T) {
	ann := found(t, "ann", "bob", "cat", "dan")
	bob := ann.desks("bob")[0]
	bob.claimAndKick("cat")
	ann.topic("ann is there")
	entries := slices.Concat(ann.log.Since(0), bob.log.Since(0))
	r := refEvaluate(entries, nil)
	if r.head.entry != ann.log.Head() || len(r.suspended) != 1 || len(r.twice) != 0 || r.held {
		t.Errorf("%v; want ann's topic to win and cat suspended", r)
	}
	again := ann.peer("ann")
	again.log, _ = Load(testRealm, ann.log.Since(0)[:4], nil)
	other := again.topic("another")
	r = refEvaluate(append(entries, other), nil)
	if !r.held || len(r.twice) != 1 {
		t.Errorf("%v; want a hold", r)
	}
	r = refEvaluate(append(entries, other), []wire.Hash{other.Hash()})
	if r.held || r.head.entry != other {
		t.Errorf("%v; want the branch that was applied first", r)
	}
}
