package room

import (
	"cmp"
	"slices"

	"lanchat/wire"
)

// A verdict is what evaluate finds: which branch counts, and what is wrong
// with the others.
type verdict struct {
	head      *node
	held      bool
	signer    wire.AccountID // between whose signatures
	between   []*node        // first on the branches that it is held between
	twice     []Equivocation
	suspended []Suspension
	excused   []wire.AccountID // would be suspended, if it were not for a ban

	// What extend needs. In a log of one branch all of it is zero.
	branches bool                    // onPath has to look
	run      int                     // nodes on the branch to head carry it
	tied     bool                    // at some fork the front-most author did not decide
	resigned bool                    // somebody did, behind the first fork
	bound    map[wire.AccountID]bool // resigned on a losing branch, not void
	lost     []Suspension            // removals on losing branches that may suspend
}

// onPath reports whether a node counts.
func (v *verdict) onPath(n *node) bool { return !v.branches || n.run == v.run }

// evaluate finds what counts among the entries of the tree, which are valid,
// each on its branch. Beside them only l.applied goes in, the entries that
// were ever applied here, and that matters only where a device signed twice.
//
//	for r in LEAVE and TRANSFER entries, not void, in order (see resignations):
//	    for x by the same author, neither ancestor nor descendant of r:
//	        P = deepest common ancestor of x and r
//	        if a non-void descendant of x is by somebody in front of r's author in S(P): leave x
//	        else: x and its descendants are void
//	cur = genesis
//	while cur has non-void children:
//	    take the child whose subtree has the front-most author, by the seats of S(cur)
//	    that person signed twice: what was applied first here; none: stop, hold
//	    same account, another device: lower hash
func (l *Log) evaluate() verdict {
	if len(l.tips) == 1 {
		for tip := range l.tips {
			return verdict{head: tip}
		}
	}
	ev := evaluation{Log: l, void: map[*node]bool{}, seats: map[*node]map[wire.AccountID]int{}}
	ev.span()
	ev.findVoid()
	v := ev.descend()
	l.runs++
	v.branches, v.run = true, l.runs
	for n := v.head; n != nil; n = n.parent {
		n.run = v.run
	}
	v.bound = map[wire.AccountID]bool{}
	for _, n := range ev.region {
		if resigns(n) {
			v.resigned = true
			v.bound[n.author] = v.bound[n.author] || !v.onPath(n) && !ev.void[n]
		}
	}
	v.twice = ev.findTwice()
	v.lost = ev.findLost(&v)
	v.suspend(l.stateAt(v.head))
	return v
}

// extend is evaluate for the case of every day: n is new, alone behind the
// head, and can change nothing but that it counts. That holds if no fork was
// decided by a tie, n is no resignation and not bound by one, and its device
// has used its number once.
func (l *Log) extend(n *node) (v verdict, ok bool) {
	v = l.now
	if v.held || resigns(n) || len(l.numbers[numberOf(n)]) > 1 {
		return v, false
	}
	if n.parent != v.head {
		return l.extendSide(n)
	}
	if v.tied || v.bound[n.author] {
		return v, false
	}
	v.head, n.run = n, v.run
	if len(v.lost) > 0 {
		v.suspend(l.stateAt(n))
	}
	return v, true
}

// extendSide is extend for an entry at the end of a losing branch, so that who
// fills one makes nobody evaluate the whole for each. It can change nothing but
// who is suspended if its author has an entry on that branch already, and no
// resignation makes anything void or is spared for it.
func (l *Log) extendSide(n *node) (v verdict, ok bool) {
	v = l.now
	if v.resigned || !v.branches || v.onPath(n.parent) || len(n.parent.children) > 1 {
		return v, false
	}
	side := l.sideOf(n.parent)
	if !side.authors[n.author] {
		return v, false
	}
	n.side, n.parent.side = side, nil
	if q, ok := losing(n, l.stateAt(side.fork).Seat); ok {
		v.lost = slices.Clone(v.lost)
		i, _ := slices.BinarySearchFunc(v.lost, q, compareSuspensions)
		v.lost = slices.Insert(v.lost, i, q)
		v.suspend(l.state)
	}
	return v, true
}

// A side is what stands on a losing branch up to its tip, which has it, as of
// one run of evaluate.
type side struct {
	run     int
	fork    *node // where it left the branch that counts
	authors map[wire.AccountID]bool
}

func (l *Log) sideOf(tip *node) *side {
	if s := tip.side; s != nil && s.run == l.runs {
		return s
	}
	s := &side{run: l.runs, fork: tip, authors: map[wire.AccountID]bool{}}
	for ; !l.now.onPath(s.fork); s.fork = s.fork.parent {
		s.authors[s.fork.author] = true
	}
	return s
}

// An evaluation is one run of evaluate over a tree with several branches.
type evaluation struct {
	*Log
	void map[*node]bool
	// region is all nodes behind the first fork, parents first: those before
	// it are on every branch and beyond dispute.
	region []*node
	fork   *node                            // the first fork
	seats  map[*node]map[wire.AccountID]int // seat order at forks
}

// span finds the region and numbers its nodes.
func (ev *evaluation) span() {
	ev.fork = ev.root
	for len(ev.fork.children) == 1 {
		ev.fork = ev.fork.children[0]
	}
	for _, n := range ev.order {
		if n.seq() > ev.fork.seq() {
			ev.region = append(ev.region, n)
		}
	}
	clock := 0
	type visit struct {
		n    *node
		next int
	}
	stack := []visit{{n: ev.fork}}
	for len(stack) > 0 {
		v := &stack[len(stack)-1]
		if v.next == 0 {
			v.n.in = clock
			clock++
		}
		if v.next < len(v.n.children) {
			v.next++
			stack = append(stack, visit{n: v.n.children[v.next-1]})
			continue
		}
		v.n.out = clock
		stack = stack[:len(stack)-1]
	}
}

// below reports whether n is m or behind it, both in the region.
func (ev *evaluation) below(n, m *node) bool { return m.in <= n.in && n.out <= m.out }

// seat returns a person's seat at a fork; behind everybody for who is no
// member there.
func (ev *evaluation) seat(fork *node, a wire.AccountID) int {
	seats := ev.seats[fork]
	if seats == nil {
		seats = map[wire.AccountID]int{}
		for i, m := range ev.stateAt(fork).Members {
			seats[m.Account] = i
		}
		ev.seats[fork] = seats
	}
	if i, ok := seats[a]; ok {
		return i
	}
	return MaxMembers
}

// live calls f for m and every node behind it that is not void, until f
// returns false for one: then not for those behind that one.
func (ev *evaluation) live(m *node, f func(*node) bool) {
	stack := []*node{m}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !ev.void[n] && f(n) {
			stack = append(stack, n.children...)
		}
	}
}

// findVoid is rule 7: "After a known LEAVE or TRANSFER by X, entries by X that
// are neither before nor after it in the chain are void — unless somebody in
// front of X's seat has already built on them."
//
// Of two resignations by one person on two branches the one applied here
// binds. Where neither was, neither makes the other's branch void: choose
// holds the room where they part (rule 8).
func (ev *evaluation) findVoid() {
	for _, r := range ev.resignations() {
		if ev.void[r] {
			continue
		}
		rivals := ev.rivals(r)
		for _, x := range ev.region {
			if x.author != r.author || ev.void[x] || ev.comparable(x, r) {
				continue
			}
			if slices.ContainsFunc(rivals, func(q *node) bool { return ev.comparable(x, q) }) || ev.builtOn(x, r) {
				continue
			}
			var void []*node
			ev.live(x, func(n *node) bool {
				void = append(void, n)
				return true
			})
			for _, n := range void {
				ev.void[n] = true
			}
		}
	}
}

// comparable reports whether one of two nodes is on the other's branch.
func (ev *evaluation) comparable(a, b *node) bool { return ev.below(a, b) || ev.below(b, a) }

// builtOn reports whether somebody in front of r's author, by the seats where
// the branches of x and r part, has built on x.
func (ev *evaluation) builtOn(x, r *node) (built bool) {
	fork := ancestor(x, r)
	seat := ev.seat(fork, r.author)
	ev.live(x, func(n *node) bool {
		built = built || n != x && ev.seat(fork, n.author) < seat
		return !built
	})
	return built
}

// rivals returns, for a resignation that was never applied here, the others
// by the same person on other branches of which that is true too.
func (ev *evaluation) rivals(r *node) (rivals []*node) {
	if _, applied := ev.applied[r.hash]; applied {
		return nil
	}
	for _, q := range ev.region {
		if _, applied := ev.applied[q.hash]; !applied && !ev.void[q] && resigns(q) && q.author == r.author && !ev.comparable(q, r) {
			rivals = append(rivals, q)
		}
	}
	return rivals
}

func resigns(n *node) bool {
	return n.entry.Op() == wire.OpLeave || n.entry.Op() == wire.OpTransfer
}

// resignations returns the LEAVE and TRANSFER entries in the order in which
// they bind: by the author's seat, which is 0 for all since only the admin
// resigns, then by number, then by hash.
//
// Between resignations of one person the ones applied here come first, in the
// order they were. Between those of different people what was seen first must
// not matter: all who know the same entries have to agree unless somebody
// signed twice. It is the person that counts, not the device: otherwise an
// ex-admin could take a transfer back with a second device.
func (ev *evaluation) resignations() []*node {
	var all []*node
	byAuthor := map[wire.AccountID][]int{} // places in all
	for _, n := range ev.region {
		if resigns(n) {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b *node) int {
		return cmp.Or(cmp.Compare(a.seq(), b.seq()), slices.Compare(a.hash[:], b.hash[:]))
	})
	for i, n := range all {
		byAuthor[n.author] = append(byAuthor[n.author], i)
	}
	for _, places := range byAuthor {
		mine := make([]*node, len(places))
		for i, p := range places {
			mine[i] = all[p]
		}
		slices.SortStableFunc(mine, func(a, b *node) int { return cmp.Compare(ev.rank(a), ev.rank(b)) })
		for i, p := range places {
			all[p] = mine[i]
		}
	}
	return all
}

// rank returns when a node was first applied here; behind all others if never.
func (ev *evaluation) rank(n *node) int {
	if r, ok := ev.applied[n.hash]; ok {
		return r
	}
	return ev.ranks
}

// descend goes from the root to the head.
func (ev *evaluation) descend() (v verdict) {
	cur := ev.root
	for {
		var children []*node
		for _, c := range cur.children {
			if !ev.void[c] {
				children = append(children, c)
			}
		}
		next := (*node)(nil)
		switch len(children) {
		case 0:
		case 1:
			next = children[0]
		default:
			winners, front := ev.choose(cur, children)
			v.tied = v.tied || !front.IsZero()
			if len(winners) > 1 {
				v.held, v.signer, v.between = true, front, winners
				break
			}
			next = winners[0]
		}
		if next == nil {
			v.head = cur
			return v
		}
		cur = next
	}
}

// choose is rule 6: "Between branches, the one that contains an entry by the
// person with the front-most seat (seat order at the fork point) wins."
// It returns several if only somebody's decision can tell; front is who is in
// front on several sides, zero if nobody is.
func (ev *evaluation) choose(fork *node, children []*node) (winners []*node, front wire.AccountID) {
	best := MaxMembers
	for _, c := range children {
		seat := MaxMembers
		ev.live(c, func(n *node) bool {
			seat = min(seat, ev.seat(fork, n.author))
			return true
		})
		if seat < best {
			best, winners = seat, nil
		}
		if seat == best {
			winners = append(winners, c)
		}
	}
	if len(winners) == 1 {
		return winners, front
	}
	// The same person in front on several sides. With different devices that
	// is an honest race; the one device went on after the other is no
	// contradiction, so only its first entries on each side count.
	front = ev.stateAt(fork).Members[best].Account
	// To resign on several sides is one with any device.
	seen := map[wire.DeviceKey]bool{}
	twice := false
	resigned := 0
	for _, c := range winners {
		first := map[wire.DeviceKey]bool{}
		ev.live(c, func(n *node) bool {
			if n.author != front {
				return true
			}
			first[n.entry.Author] = true
			return false
		})
		for k := range first {
			twice = twice || seen[k]
			seen[k] = true
		}
		resigns := slices.ContainsFunc(ev.region, func(n *node) bool {
			return resigns(n) && n.author == front && !ev.void[n] && ev.below(n, c)
		})
		if resigns {
			resigned++
		}
	}
	twice = twice || resigned > 1
	lower := func(a, b *node) int { return slices.Compare(a.hash[:], b.hash[:]) }
	if !twice {
		return []*node{slices.MinFunc(winners, lower)}, front
	}
	first := slices.MinFunc(winners, func(a, b *node) int { return cmp.Compare(ev.rank(a), ev.rank(b)) })
	if _, applied := ev.applied[first.hash]; !applied {
		return winners, front
	}
	return []*node{first}, front
}

// findTwice returns the equivocations among all entries, void ones too: of
// each device, at each fork, the first entry on either side, and of each
// person the resignations on two branches (see Equivocation).
func (ev *evaluation) findTwice() (twice []Equivocation) {
	found := func(a, b *node, first bool) {
		fork := ancestor(a, b)
		if !ev.clean(fork, a, first) || !ev.clean(fork, b, first) {
			return
		}
		if compareSigned(a.entry, b.entry) > 0 {
			a, b = b, a
		}
		q := Equivocation{Fork: fork.hash, A: a.entry, B: b.entry}
		if !slices.Contains(twice, q) {
			twice = append(twice, q)
		}
	}
	for k := range ev.repeated {
		nodes := ev.numbers[k]
		for i, n := range nodes {
			for _, m := range nodes[:i] {
				found(m, n, true)
			}
		}
	}
	resigned := map[wire.AccountID][]*node{}
	for _, n := range ev.region {
		if !resigns(n) {
			continue
		}
		for _, m := range resigned[n.author] {
			if !ev.comparable(m, n) {
				found(m, n, false)
			}
		}
		resigned[n.author] = append(resigned[n.author], n)
	}
	slices.SortFunc(twice, func(p, q Equivocation) int {
		pa, qa, pb, qb := p.A.Hash(), q.A.Hash(), p.B.Hash(), q.B.Hash()
		return cmp.Or(slices.Compare(pa[:], qa[:]), slices.Compare(pb[:], qb[:]))
	})
	return twice
}

// clean reports whether nothing between the fork and x had overruled the other
// branch before x was signed: no entry by somebody in front of x's author,
// and with first none by that person itself, so that x is the first one here.
func (ev *evaluation) clean(fork, x *node, first bool) bool {
	seat := ev.seat(fork, x.author)
	for n := x.parent; n != fork; n = n.parent {
		if first && n.author == x.author || ev.seat(fork, n.author) < seat {
			return false
		}
	}
	return true
}

// findLost: "removal of t on a losing, non-void branch by someone in front of
// t at the fork".
func (ev *evaluation) findLost(v *verdict) (lost []Suspension) {
	for _, n := range ev.region {
		if _, _, ok := removes(n.entry.Args); !ok || v.onPath(n) || ev.void[n] {
			continue
		}
		fork := ancestor(n, v.head)
		if q, ok := losing(n, func(a wire.AccountID) int { return ev.seat(fork, a) }); ok {
			lost = append(lost, q)
		}
	}
	slices.SortFunc(lost, compareSuspensions)
	return lost
}

// losing returns whom a node on a losing branch suspends, by the seats where
// the branch began.
func losing(n *node, seat func(wire.AccountID) int) (q Suspension, ok bool) {
	who, _, ok := removes(n.entry.Args)
	return Suspension{Account: who, Removal: n.entry, By: n.author}, ok && seat(n.author) < seat(who)
}

func compareSuspensions(p, q Suspension) int {
	a, b := p.Removal.Hash(), q.Removal.Hash()
	return slices.Compare(a[:], b[:])
}

// suspend: "t gets no keys until a RESOLVE by the writer". s is the state at
// the head.
//
// Removals by somebody who is banned there suspend nobody: who was removed
// could sign more of them for ever, behind an entry from before.
func (v *verdict) suspend(s *State) {
	v.suspended, v.excused = nil, nil
	for _, q := range v.lost {
		if s.Member(q.Account) == nil || s.resolved[q.Removal.Hash()] {
			continue
		}
		if _, banned := s.bans[q.By]; banned {
			v.excused = append(v.excused, q.Account)
		} else {
			v.suspended = append(v.suspended, q)
		}
	}
}
