package room

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"lanchat/wire"
)

// Bounds of a log.
const (
	MaxEntries  = 10_000 // entries of a room, all branches
	MaxBranches = 4      // tips; of more, the weakest branch goes
	// As many tips may stand while an Add goes on: what a peer sends has as
	// many branches as that peer keeps, and only at their ends one sees which
	// of them, and of those here, is the weakest.
	maxNewBranches = 2 * MaxBranches
	MaxOrphans     = 64   // entries of one author that wait for a missing one
	maxWaiting     = 1024 // of all authors
	// A state is kept for every stateEvery-th entry; others are made from it.
	stateEvery = 256
)

// A Log is what is known of one room's log: a tree of valid entries, of which
// one branch counts. It verifies what it is given.
//
// One goroutine owns it. It does no I/O: the caller stores what a Change
// says was added, before it tells anybody.
type Log struct {
	realm wire.RealmID
	root  *node
	nodes map[wire.Hash]*node
	order []*node        // parents first, in the order they came
	tips  map[*node]bool // those without children

	max int // MaxEntries; tests fill smaller logs

	waiting []*wire.Entry // orphans, oldest first

	// Entries by device and number, and where that is more than one.
	numbers  map[number][]*node
	repeated map[number]bool

	applied map[wire.Hash]int // entries that were ever on the chosen branch: their rank
	ranks   int

	now   verdict
	runs  int    // of evaluate
	state *State // after now.head
}

// A node is an entry in its place.
type node struct {
	entry    *wire.Entry
	hash     wire.Hash
	parent   *node
	children []*node
	author   wire.AccountID
	state    *State // after the entry; nil where it is not kept, see stateAt
	// in and out number the nodes on the way down and up the tree, so that
	// two comparisons tell whether one is behind another. Only evaluate sets
	// and uses them.
	in, out int
	run     int   // of the last evaluate that had the node on the way to its head
	side    *side // of a losing branch's tip, if it was needed
}

// A number is an entry's place among those of one device.
type number struct {
	device wire.DeviceKey
	n      uint64
}

func numberOf(n *node) number { return number{n.entry.Author, n.entry.AuthorN} }

func (n *node) seq() uint64 { return n.entry.Seq }

// A Change is what Add did.
type Change struct {
	// Added are the entries that are new in the log, parents first. Each is
	// stored before anything that follows from it is sent or shown.
	Added []*wire.Entry
	// Applied are the entries that count now and did not before, in order.
	Applied []*wire.Entry
	// Dropped are the entries that counted before and do not any more, in
	// order: the room's history was merged. Whose device wrote them may issue
	// them again where still allowed, and the writer rotates the key (R6).
	Dropped []*wire.Entry
	// Signed twice, as far as not reported before.
	Equivocations []Equivocation
	// Evicted are entries of losing branches that went for want of room.
	Evicted []*wire.Entry
}

// Merged reports whether another branch won over what counted before.
func (c *Change) Merged() bool { return len(c.Dropped) > 0 }

// An Equivocation is two entries of one device with the same number on two
// branches, neither of which the other branch had overruled: proof that the
// device, or who copied its key, signed twice. Two resignations of one person
// on two branches are one too, whichever devices signed them. A says that it is
// the older one.
//
// The equal number alone is no proof: who issues an entry of a losing branch
// again on the winning one must use it again, since numbers have no gaps on
// any branch. That is excused by an entry of somebody in front of the author,
// or of another device of the author's account, before it on the new branch.
type Equivocation struct {
	Fork wire.Hash // the last entry common to both branches
	A, B *wire.Entry
}

// A Suspension is a person whose removal stands on a losing branch, made
// there by somebody in front: no keys for that person until the writer
// settles it by Resolve, or by a ban of the author.
type Suspension struct {
	Account wire.AccountID
	Removal *wire.Entry
	By      wire.AccountID // its author
}

// NewLog returns the log that genesis begins.
func NewLog(realm wire.RealmID, first *wire.Entry) (*Log, error) {
	if err := first.Verify(realm); err != nil {
		return nil, err
	}
	return newLog(realm, first)
}

func newLog(realm wire.RealmID, first *wire.Entry) (*Log, error) {
	s, err := genesis(first)
	if err != nil {
		return nil, err
	}
	root := &node{entry: first, hash: first.Hash(), author: s.Admin(), state: s}
	l := &Log{
		realm: realm, root: root, max: MaxEntries,
		nodes:   map[wire.Hash]*node{root.hash: root},
		order:   []*node{root},
		tips:    map[*node]bool{root: true},
		numbers: map[number][]*node{numberOf(root): {root}}, repeated: map[number]bool{},
		applied: map[wire.Hash]int{root.hash: 0}, ranks: 1,
		state: s,
	}
	l.now = verdict{head: root}
	return l, nil
}

// Load returns the log made of entries from one's own store, where they are
// parents first, the CREATE before all. Signatures are not verified again.
//
// applied is what Applied returned when the log was last changed; nil is as
// if the entries had come one by one in this order, which is the same unless
// Decide was called.
func Load(realm wire.RealmID, entries []*wire.Entry, applied []wire.Hash) (*Log, error) {
	if len(entries) == 0 {
		return nil, ErrUnknown
	}
	l, err := newLog(realm, entries[0])
	if err != nil {
		return nil, err
	}
	for i, h := range applied {
		l.applied[h], l.ranks = i, i+1
	}
	for _, e := range entries[1:] {
		parent := l.nodes[e.Prev]
		if parent == nil {
			return nil, fmt.Errorf("entry %v: %w", e.Hash(), ErrUnknown)
		}
		if l.nodes[e.Hash()] != nil {
			continue
		}
		if err := l.attach(parent, e); err != nil {
			return nil, fmt.Errorf("entry %v: %w", e.Hash(), err)
		}
		if applied == nil {
			l.settle(l.nodes[e.Hash()], nil)
		}
	}
	l.settle(nil, nil)
	return l, nil
}

// Add takes entries of the room, in any order, however often. One whose
// predecessor is not known waits (see Missing); one that is not valid is
// refused for good and is in the error. What else came is in the Change.
func (l *Log) Add(entries ...*wire.Entry) (Change, error) {
	var c Change
	var errs []error
	refused := func(e *wire.Entry, err error) {
		errs = append(errs, fmt.Errorf("entry %d %v: %w", e.Seq, e.Op(), err))
	}
	for _, e := range entries {
		if err := l.add(e, &c); err != nil {
			refused(e, err)
		}
	}
	for _, e := range l.trim(MaxBranches, &c) {
		if slices.Contains(entries, e) {
			refused(e, ErrLogFull)
		}
	}
	l.together(&c)
	return c, errors.Join(errs...)
}

// together sees to it that of two signatures of one device which came with one
// Add neither counts as applied before the other: "a node that had applied
// neither holds the room".
func (l *Log) together(c *Change) {
	for _, q := range c.Equivocations {
		if !slices.Contains(c.Added, q.A) || !slices.Contains(c.Added, q.B) {
			continue
		}
		for _, e := range c.Added {
			delete(l.applied, e.Hash())
		}
		l.settle(nil, c)
		return
	}
}

func (l *Log) add(e *wire.Entry, c *Change) error {
	if l.nodes[e.Hash()] != nil {
		return nil
	}
	if e.RoomID() != l.root.entry.RoomID() {
		return ErrOtherRoom
	}
	for _, w := range l.waiting {
		if w.Hash() == e.Hash() {
			return nil
		}
	}
	if err := e.Verify(l.realm); err != nil {
		return err
	}
	parent := l.nodes[e.Prev]
	if parent == nil {
		l.wait(e)
		return nil
	}
	if err := l.enter(parent, e, c); err != nil {
		return err
	}
	// Who waited for it. One that is not valid is dropped: it has been told
	// apart from a gap, and nobody is there to hear the error.
	for again := true; again; {
		again = false
		for i, w := range l.waiting {
			if parent := l.nodes[w.Prev]; parent != nil {
				l.waiting = slices.Delete(l.waiting, i, i+1)
				_ = l.enter(parent, w, c)
				again = true
				break
			}
		}
	}
	return nil
}

// enter attaches a verified entry and settles what counts.
func (l *Log) enter(parent *node, e *wire.Entry, c *Change) error {
	if l.Len() >= l.max && len(l.tips) == 1 {
		return ErrLogFull
	}
	if err := l.attach(parent, e); err != nil {
		return err
	}
	c.Added = append(c.Added, e)
	l.settle(l.nodes[e.Hash()], c)
	if slices.Contains(l.trim(maxNewBranches, c), e) {
		return ErrLogFull
	}
	return nil
}

// attach gives an entry its place if it is valid on its branch.
func (l *Log) attach(parent *node, e *wire.Entry) error {
	s := l.stateAt(parent)
	if err := s.check(e); err != nil {
		return err
	}
	n := &node{entry: e, hash: e.Hash(), parent: parent, author: s.owners[e.Author]}
	parent.children = append(parent.children, n)
	switch {
	case len(parent.children) > 1:
		parent.state = s // a fork is looked at again and again
	case parent.seq()%stateEvery != 0:
		parent.state = nil
	}
	delete(l.tips, parent)
	l.tips[n] = true
	k := numberOf(n)
	l.numbers[k] = append(l.numbers[k], n)
	if len(l.numbers[k]) > 1 {
		l.repeated[k] = true
	}
	l.nodes[n.hash] = n
	l.order = append(l.order, n)
	if e.Seq%stateEvery == 0 || parent != l.now.head { // settle makes the one after the head
		n.state = l.after(s, e)
	}
	return nil
}

// after returns the state after e, s being the one before it.
func (l *Log) after(s *State, e *wire.Entry) *State {
	s = s.clone()
	s.apply(e)
	return s
}

// stateAt returns the state after a node. It is not to be changed.
func (l *Log) stateAt(n *node) *State {
	if n == l.now.head {
		return l.state
	}
	var path []*node
	m := n
	for m.state == nil && m != l.now.head {
		path = append(path, m)
		m = m.parent
	}
	from := m.state
	if m == l.now.head {
		from = l.state
	}
	if len(path) == 0 {
		return from
	}
	s := from.clone()
	for _, p := range slices.Backward(path) {
		s.apply(p.entry)
	}
	if len(n.children) != 1 {
		n.state = s // a tip or a fork
	}
	return s
}

// settle evaluates the log, in which added is the one new node if not nil,
// and notes what changed.
func (l *Log) settle(added *node, c *Change) {
	before := l.now
	var now verdict
	var quick bool
	if added != nil {
		now, quick = l.extend(added)
	}
	if !quick {
		now = l.evaluate()
	}
	if now.head != before.head {
		state := l.stateAt(now.head)
		if c != nil {
			c.moved(before.head, now.head)
		}
		l.state = state
	}
	l.now = now
	l.apply(now.head)
	if c == nil {
		return
	}
	for _, q := range now.twice {
		if !slices.Contains(before.twice, q) {
			c.Equivocations = append(c.Equivocations, q)
		}
	}
}

// apply ranks a node and those before it that have no rank yet. What has one
// is behind others that have.
func (l *Log) apply(n *node) {
	var news []*node
	for ; n != nil; n = n.parent {
		if _, ok := l.applied[n.hash]; ok {
			break
		}
		news = append(news, n)
	}
	for _, n := range slices.Backward(news) {
		l.applied[n.hash] = l.ranks
		l.ranks++
	}
}

// moved notes the way of the head from one node to another.
func (c *Change) moved(from, to *node) {
	common := ancestor(from, to)
	for _, n := range path(common, from) {
		if i := slices.Index(c.Applied, n.entry); i >= 0 {
			c.Applied = slices.Delete(c.Applied, i, i+1) // came and went in one Add
		} else {
			c.Dropped = append(c.Dropped, n.entry)
		}
	}
	for _, n := range path(common, to) {
		if i := slices.Index(c.Dropped, n.entry); i >= 0 {
			c.Dropped = slices.Delete(c.Dropped, i, i+1)
		} else {
			c.Applied = append(c.Applied, n.entry)
		}
	}
}

// path returns the nodes behind from up to and including to, in order; with
// from nil, from the root on.
func path(from, to *node) (nodes []*node) {
	for n := to; n != from; n = n.parent {
		nodes = append(nodes, n)
	}
	slices.Reverse(nodes)
	return nodes
}

// ancestor returns the deepest common ancestor of two nodes.
func ancestor(a, b *node) *node {
	for a != b {
		if a.seq() >= b.seq() {
			a = a.parent
		} else {
			b = b.parent
		}
	}
	return a
}

// wait keeps an entry whose predecessor is missing, in place of the oldest
// one where there are too many.
func (l *Log) wait(e *wire.Entry) {
	mine := 0
	oldest := -1
	for i, w := range l.waiting {
		if w.Author == e.Author {
			if mine++; oldest < 0 {
				oldest = i
			}
		}
	}
	switch {
	case mine >= MaxOrphans:
		l.waiting = slices.Delete(l.waiting, oldest, oldest+1)
	case len(l.waiting) >= maxWaiting:
		l.waiting = slices.Delete(l.waiting, 0, 1)
	}
	l.waiting = append(l.waiting, e)
}

// trim takes the weakest losing branches away while there are too many
// branches or entries. It returns what went of the entries that are new.
func (l *Log) trim(branches int, c *Change) (refused []*wire.Entry) {
	var evicted []*wire.Entry
	for len(l.tips) > branches || l.Len() > l.max {
		n := l.weakest(len(l.tips) <= branches)
		for last := false; !last; n = n.parent {
			l.detach(n)
			evicted = append(evicted, n.entry)
			last = len(n.parent.children) > 0 || l.now.onPath(n.parent)
		}
	}
	if len(evicted) == 0 {
		return nil
	}
	l.settle(nil, c)
	for _, e := range evicted {
		if i := slices.Index(c.Added, e); i >= 0 {
			c.Added = slices.Delete(c.Added, i, i+1)
			refused = append(refused, e)
		} else {
			c.Evicted = append(c.Evicted, e)
		}
	}
	return refused
}

// weakest returns the tip of the losing branch that is to go first. It depends
// on the entries only, not on their order.
//
// Of branches that different people began, one of whoever began the most or,
// where the entries are too many, has the most there: so nobody can push out
// another's branch, and with it a suspension, by beginning many, or a long one,
// from wherever that person once sat in front. Of those it is the one
// furthest from winning: whose front-most author sits furthest back at the fork
// from the chosen branch, and of these the one with the highest hash. Where the
// room is held, what it is held between has several of one person too, so only
// the latter counts.
func (l *Log) weakest(long bool) *node {
	type branch struct {
		tip  *node
		by   wire.AccountID // who began it
		seat int            // of its front-most author
	}
	var losing []branch
	began := map[wire.AccountID]uint64{}
	for tip := range l.tips {
		if l.now.onPath(tip) {
			continue
		}
		fork := ancestor(tip, l.now.head)
		s := l.stateAt(fork)
		b := branch{tip: tip, seat: len(s.Members)}
		for n := tip; n != fork; n = n.parent {
			b.by, b.seat = n.author, min(b.seat, s.Seat(n.author))
		}
		losing = append(losing, b)
		switch {
		case l.now.held:
		case long:
			began[b.by] += tip.seq() - fork.seq()
		default:
			began[b.by]++
		}
	}
	return slices.MaxFunc(losing, func(a, b branch) int {
		return cmp.Or(cmp.Compare(began[a.by], began[b.by]), cmp.Compare(a.seat, b.seat), slices.Compare(a.tip.hash[:], b.tip.hash[:]))
	}).tip
}

// detach takes a tip out of the tree.
func (l *Log) detach(n *node) {
	n.parent.children = slices.DeleteFunc(n.parent.children, func(m *node) bool { return m == n })
	l.order = slices.DeleteFunc(l.order, func(m *node) bool { return m == n })
	delete(l.nodes, n.hash)
	delete(l.applied, n.hash)
	delete(l.tips, n)
	if len(n.parent.children) == 0 {
		l.tips[n.parent] = true
	}
	k := numberOf(n)
	l.numbers[k] = slices.DeleteFunc(l.numbers[k], func(m *node) bool { return m == n })
	switch len(l.numbers[k]) {
	case 0:
		delete(l.numbers, k)
	case 1:
		delete(l.repeated, k)
	}
}

// Room returns the room's id.
func (l *Log) Room() wire.RoomID { return l.root.entry.RoomID() }

// Realm returns the realm whose devices sign.
func (l *Log) Realm() wire.RealmID { return l.realm }

// Genesis returns the CREATE.
func (l *Log) Genesis() *wire.Entry { return l.root.entry }

// State returns what counts now. It never changes; the next Add makes
// another one.
func (l *Log) State() *State { return l.state }

// Head returns the last entry that counts.
func (l *Log) Head() *wire.Entry { return l.now.head.entry }

// Len returns the number of entries on all branches.
func (l *Log) Len() int { return len(l.order) }

// Has reports whether an entry is in the log, on whatever branch.
func (l *Log) Has(h wire.Hash) bool { return l.nodes[h] != nil }

// Get returns an entry on whatever branch, or nil.
func (l *Log) Get(h wire.Hash) *wire.Entry {
	if n := l.nodes[h]; n != nil {
		return n.entry
	}
	return nil
}

// Counts reports whether an entry is on the branch that counts.
func (l *Log) Counts(h wire.Hash) bool {
	n := l.nodes[h]
	return n != nil && l.now.onPath(n)
}

// A Loss is why an entry does not count.
type Loss struct {
	Fork wire.Hash // the last entry before it that does
	// Front is who sat in front there of all who wrote behind it on the branch
	// that counts; zero if nobody did.
	Front wire.AccountID
	// Resigned is by whom the entry is: the LEAVE or TRANSFER behind the fork
	// that binds them; nil: none.
	Resigned *wire.Entry
}

// Loss returns why an entry does not count; ok is false if it does, or is not
// known.
func (l *Log) Loss(h wire.Hash) (loss Loss, ok bool) {
	n := l.nodes[h]
	if n == nil || l.now.onPath(n) {
		return loss, false
	}
	fork := n.parent
	for !l.now.onPath(fork) {
		fork = fork.parent
	}
	loss.Fork = fork.hash
	s := l.stateAt(fork)
	seat := len(s.Members)
	for _, w := range path(fork, l.now.head) {
		if i := s.Seat(w.author); i < seat {
			seat, loss.Front = i, w.author
		}
		if loss.Resigned == nil && w.author == n.author && resigns(w) {
			loss.Resigned = w.entry
		}
	}
	return loss, true
}

// Since returns the entries of all branches from number seq on, parents
// first: what a member who lacks them is given.
func (l *Log) Since(seq uint64) (entries []*wire.Entry) {
	for _, n := range l.order {
		if n.seq() >= seq {
			entries = append(entries, n.entry)
		}
	}
	return entries
}

// Chain returns the entry h and up to n-1 before it, oldest first: what who
// has h as a missing one is given.
func (l *Log) Chain(h wire.Hash, n int) (entries []*wire.Entry) {
	for m := l.nodes[h]; m != nil && len(entries) < n; m = m.parent {
		entries = append(entries, m.entry)
	}
	slices.Reverse(entries)
	return entries
}

// Audit returns the entries that count, in order.
func (l *Log) Audit() (entries []*wire.Entry) {
	for _, n := range path(nil, l.now.head) {
		entries = append(entries, n.entry)
	}
	return entries
}

// Missing returns the hashes that entries wait for, each once.
func (l *Log) Missing() (missing []wire.Hash) {
	for _, w := range l.waiting {
		waits := slices.ContainsFunc(l.waiting, func(v *wire.Entry) bool { return v.Hash() == w.Prev })
		if !waits && !slices.Contains(missing, w.Prev) {
			missing = append(missing, w.Prev)
		}
	}
	return missing
}

// EpochInfo returns what the log says of the epoch that an entry, on whatever
// branch, began; nil if it is not known or began none.
func (l *Log) EpochInfo(entry wire.Hash) *EpochInfo {
	n := l.nodes[entry]
	if n == nil || !changesKeys(n.entry.Args) {
		return nil
	}
	return l.stateAt(n).Epoch
}

// Suspended returns who is suspended, and by what.
func (l *Log) Suspended() []Suspension { return slices.Clone(l.now.suspended) }

// IsSuspended reports whether a person gets no keys until the writer settles
// a removal on a losing branch.
func (l *Log) IsSuspended(a wire.AccountID) bool {
	return slices.ContainsFunc(l.now.suspended, func(s Suspension) bool { return s.Account == a })
}

// isExcused reports whether a person would be suspended, if the author of the
// removal were not banned.
func (l *Log) isExcused(a wire.AccountID) bool { return slices.Contains(l.now.excused, a) }

// Outranked reports whether an entry by a person behind prev would not come to
// count since somebody in front has written on the branch that does.
func (l *Log) Outranked(prev wire.Hash, a wire.AccountID) bool {
	fork := l.nodes[prev]
	if fork == nil {
		return false
	}
	for !l.now.onPath(fork) {
		fork = fork.parent
	}
	s := l.stateAt(fork)
	seat := s.Seat(a)
	return slices.ContainsFunc(path(fork, l.now.head), func(n *node) bool { return s.Seat(n.author) < seat })
}

// Between returns the entries that may come next where the room is held, for
// Decide: in the order of their own times, the same for everybody.
func (l *Log) Between() (entries []*wire.Entry) {
	for _, n := range l.now.between {
		entries = append(entries, n.entry)
	}
	slices.SortFunc(entries, compareSigned)
	return entries
}

func compareSigned(a, b *wire.Entry) int {
	p, q := a.Hash(), b.Hash()
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Time, b.Time), slices.Compare(p[:], q[:]))
}

// Equivocations returns who is known to have signed twice.
func (l *Log) Equivocations() []Equivocation { return slices.Clone(l.now.twice) }

// Held reports whether the room stands still at its head since it goes on
// twice, under two signatures of one device, and this node had applied
// neither: until somebody in front of the signer builds on one, or Decide.
func (l *Log) Held() bool { return l.now.held }

// HeldFor reports whether the room stands still for a person: whoever sits in
// front of the signer can go on from its head, and everybody does so then.
func (l *Log) HeldFor(a wire.AccountID) bool {
	return l.now.held && l.state.Seat(a) >= l.state.Seat(l.now.signer)
}

// Decide takes the branch with entry h for the one that was applied first
// here: the person's decision on an Equivocation. Applied changes by it.
func (l *Log) Decide(h wire.Hash) (Change, error) {
	var c Change
	n := l.nodes[h]
	if n == nil {
		return c, ErrUnknown
	}
	l.apply(n)
	l.settle(nil, &c)
	return c, nil
}

// Applied returns the entries that ever counted here, in the order in which
// they first did: what Load wants back.
func (l *Log) Applied() []wire.Hash {
	hashes := make([]wire.Hash, 0, len(l.applied))
	for h := range l.applied {
		hashes = append(hashes, h)
	}
	slices.SortFunc(hashes, func(a, b wire.Hash) int { return l.applied[a] - l.applied[b] })
	return hashes
}
