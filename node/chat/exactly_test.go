package chat_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lanchat/node/chat"
	"lanchat/node/store"
	"lanchat/wire"
)

// weather is what a network does to a lan: it loses, doubles, delays and
// overtakes packets, and keeps people apart who find out some time later.
type weather struct {
	l           *lan
	chance      *rand.Rand
	loss, twice int // per cent
	delay       time.Duration
	apart       map[[2]*node]time.Time // who hears nothing of whom, and until when the link seems to be up
	died        map[*node]time.Time
}

const noticed = 6500 * time.Millisecond // until one who fell silent is lost

func newWeather(l *lan, seed uint64) *weather {
	w := &weather{l: l, chance: rand.New(rand.NewPCG(seed, 0)), apart: map[[2]*node]time.Time{}, died: map[*node]time.Time{}}
	l.fate = func(from, to *node, _ []byte) (delays []time.Duration) {
		if w.separated(from, to) || w.chance.IntN(100) < w.loss {
			return nil
		}
		for range 1 + min(1, w.chance.IntN(100)/(100-w.twice)) {
			delays = append(delays, time.Duration(w.chance.Int64N(int64(w.delay)+1)))
		}
		return delays
	}
	l.pushed = func(from, to *node, _ chat.Push) bool { return !w.separated(from, to) }
	l.asked = func(from, to *node, _ chat.Ask) bool { return !w.separated(from, to) }
	return w
}

func pair(a, b *node) [2]*node {
	if a.name > b.name {
		a, b = b, a
	}
	return [2]*node{a, b}
}

func (w *weather) separated(a, b *node) bool {
	_, apart := w.apart[pair(a, b)]
	return apart
}

// separate keeps two apart. Their link seems to be up for a while: what is sent
// on it is lost.
func (w *weather) separate(a, b *node) {
	if !w.separated(a, b) {
		w.apart[pair(a, b)] = w.l.now.Add(time.Duration(w.chance.Int64N(int64(noticed))))
	}
}

// mend ends all that.
func (w *weather) mend() {
	for p := range w.apart {
		if p[0].links[p[1]] {
			w.l.unlink(p[0], p[1]) // it has lost something
		}
	}
	clear(w.apart)
	w.connect()
}

// connect links all who can be.
func (w *weather) connect() {
	for i, a := range w.l.nodes {
		for _, b := range w.l.nodes[:i] {
			if !a.links[b] && !a.dead && !b.dead && !w.separated(a, b) {
				w.l.link(a, b)
			}
		}
	}
}

// restart starts anew who was killed.
func (w *weather) restart() {
	for _, n := range w.l.nodes {
		if n.dead {
			delete(w.died, n)
			n.start()
		}
	}
	w.connect()
}

// pass lets time pass: who fell silent is noticed.
func (w *weather) pass(d time.Duration) {
	end := w.l.now.Add(d)
	for w.l.now.Before(end) {
		w.l.pass(min(end.Sub(w.l.now), 500*time.Millisecond))
		for p, at := range w.apart {
			if p[0].links[p[1]] && !w.l.now.Before(at) {
				w.l.unlink(p[0], p[1])
			}
		}
		for _, n := range w.l.nodes {
			switch died, known := w.died[n]; {
			case n.dead && !known:
				w.died[n] = w.l.now
			case n.dead && w.l.now.Sub(died) >= noticed:
				n.lost()
			}
		}
	}
}

// lost has the others notice that a node is dead.
func (n *node) lost() {
	for _, o := range n.l.nodes {
		if n.links[o] {
			n.hangUp(o)
			delete(n.links, o)
			delete(o.links, n)
			o.core.LinkDown(n.l.now, n.token.Device)
			o.core.HandlePresence(n.l.now, n.token.Device, "lost", "silent", nil)
		}
	}
	n.l.settle()
}

// A talk is what people say in #lab: each numbers what it says.
type talk struct {
	l    *lan
	t    tb
	said map[*node]int

	room wire.RoomID
}

// say has somebody say something. Reliable texts are long now and then.
func (k *talk) say(n *node, mode string, long bool) {
	k.said[n]++
	text := fmt.Sprintf("%s %s %d", mode, n.name, k.said[n])
	if long {
		text += " " + strings.Repeat("long ", 400)
	}
	n.say("#lab", mode, text)
}

// number returns which of somebody's texts one is.
func (k *talk) number(text string) (mode string, number int) {
	var who string
	if _, err := fmt.Sscanf(text, "%s %s %d", &mode, &who, &number); err != nil {
		k.t.Fatalf("%q was never said", text)
	}
	return mode, number
}

// screens checks that nobody is shown anything twice, or in another order than
// its author wrote it.
func (k *talk) screens() {
	k.t.Helper()
	for _, n := range k.l.nodes {
		seen, last := map[string]bool{}, map[string]int{}
		for _, m := range shown[chat.Message](n) {
			if seen[m.ID] {
				k.t.Fatalf("%s is shown %q of %s twice", n.name, m.Text, m.From)
			}
			seen[m.ID] = true
			if mode, number := k.number(m.Text); mode == "reliable" && !m.Late {
				if number < last[m.From] {
					k.t.Fatalf("%s is shown message %d of %s after %d", n.name, number, m.From, last[m.From])
				}
				last[m.From] = number
			}
		}
		receipts := map[string]bool{}
		for _, r := range shown[chat.Receipt](n) {
			if receipts[r.ID+r.By] || r.Got > r.Of {
				k.t.Fatalf("%s is told again: %+v", n.name, r)
			}
			receipts[r.ID+r.By] = true
		}
	}
}

// history returns what a node has of #lab on its disk, in the order it shows it.
func (k *talk) history(n *node) []chat.SaveMessage {
	k.t.Helper()
	found, err := n.store.History(chat.ChatID{Room: k.room}, chat.MessageID{}, 1_000_000)
	if err != nil {
		k.t.Fatalf("%v", err)
	}
	return found
}

// equal checks that everybody in the room has every reliable message that it is
// entitled to, once, in the same order as all others.
func (k *talk) equal() {
	k.t.Helper()
	for _, n := range k.l.nodes {
		log := n.core.Log("#lab")
		if log == nil {
			continue
		}
		self, since := log.State().Member(n.token.Account), uint64(0)
		if self == nil {
			k.t.Fatalf("%s is in a room that it is no member of", n.name)
		}
		for _, e := range log.Audit() {
			if e.Op() == wire.OpAdmit && e.Args.(*wire.LogAdmit).Account == n.token.Account {
				since = e.Seq
			}
		}
		entitled := func(m chat.SaveMessage) bool {
			info := log.EpochInfo(m.Epoch)
			if info == nil || info.Seq < since {
				return false
			}
			// "Later messages of that device under old epochs are refused."
			author := k.l.of(m.Device)
			if cut, removed := log.State().Cut(author.token.Key); removed && info.Seq < cut.Seq {
				if m.Number > cut.Number {
					return false
				}
			} else if log.State().Member(m.Account) == nil {
				return false
			}
			_, in := info.Slot(n.token.Key)
			return in
		}
		has := map[chat.MessageID]bool{}
		for _, m := range k.history(n) {
			has[m.ID] = true
		}
		for _, from := range k.l.nodes {
			last := 0
			for _, m := range k.history(from) {
				if !m.Own || m.Mode != chat.Reliable {
					continue
				}
				_, number := k.number(m.Text)
				if number <= last {
					k.t.Fatalf("%s has said %d after %d", from.name, number, last)
				}
				last = number
				if entitled(m) && !has[m.ID] {
					k.t.Errorf("%s does not have %.30q", n.name, m.Text)
				}
			}
		}
	}
	k.sameOrder()
}

// sameOrder checks that of any two people what both have stands in one order.
func (k *talk) sameOrder() {
	k.t.Helper()
	for i, a := range k.l.nodes {
		for _, b := range k.l.nodes[:i] {
			place := map[chat.MessageID]int{}
			for j, m := range k.history(a) {
				if m.Mode == chat.Reliable {
					place[m.ID] = j
				}
			}
			last := -1
			for _, m := range k.history(b) {
				if j, both := place[m.ID]; both {
					if j < last {
						k.t.Fatalf("%s and %s have %.30q at another place", a.name, b.name, m.Text)
					}
					last = j
				}
			}
		}
	}
}

// "Arbitrary loss, delay, duplication, reordering, partitions, crashes between
// any two steps: reliable messages are shown exactly once, in each sender's
// order, to every member entitled to them."
func TestRoomExactlyOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLAN(rt, "ann", "bob", "cat", "dan")
		for _, n := range l.nodes {
			st, err := store.OpenMemory()
			if err != nil {
				rt.Fatalf("%v", err)
			}
			defer st.Close()
			n.store = st
			n.start()
		}
		w := newWeather(l, rapid.Uint64().Draw(rt, "seed"))
		w.connect()
		ann, dan := l.nodes[0], l.nodes[3]
		ann.do("/create #lab")
		l.nodes[1].do("/join #lab")
		l.nodes[2].do("/join #lab")
		w.pass(3 * time.Second)
		k := &talk{l: l, t: rt, said: map[*node]int{}, room: ann.core.RoomID("#lab")}
		rt.Repeat(map[string]func(*rapid.T){
			"say": func(t *rapid.T) {
				n := l.nodes[rapid.IntRange(0, 3).Draw(t, "who")]
				for range rapid.IntRange(1, 4).Draw(t, "n") {
					if !n.dead && n.core.Log("#lab") != nil {
						kind := rapid.IntRange(0, 9).Draw(t, "kind")
						k.say(n, []string{"reliable", "fast"}[kind/9], kind == 0)
					}
				}
			},
			"kill": func(t *rapid.T) {
				l.nodes[rapid.IntRange(0, 3).Draw(t, "who")].fuse = rapid.IntRange(1, 12).Draw(t, "steps")
			},
			"restart": func(*rapid.T) { w.restart() },
			"separate": func(t *rapid.T) {
				side := rapid.IntRange(1, 7).Draw(t, "side")
				for i, a := range l.nodes {
					for j, b := range l.nodes[:i] {
						if side>>i&1 != side>>j&1 {
							w.separate(a, b)
						}
					}
				}
			},
			"separate two": func(t *rapid.T) {
				i := rapid.IntRange(0, 3).Draw(t, "i")
				w.separate(l.nodes[i], l.nodes[(i+rapid.IntRange(1, 3).Draw(t, "j"))%4])
			},
			"mend": func(*rapid.T) { w.mend() },
			"weather": func(t *rapid.T) {
				w.loss = rapid.IntRange(0, 60).Draw(t, "loss")
				w.twice = rapid.IntRange(0, 50).Draw(t, "twice")
				w.delay = time.Duration(rapid.IntRange(0, 300).Draw(t, "delay")) * time.Millisecond
			},
			"come or go": func(*rapid.T) {
				if dan.core.Log("#lab") == nil {
					dan.do("/join #lab")
				} else {
					dan.do("/part #lab")
				}
			},
			"wait": func(t *rapid.T) {
				w.pass(time.Duration(rapid.IntRange(1, 20_000).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(*rapid.T) { k.screens() },
		})
		for _, n := range l.nodes {
			n.fuse = 0
		}
		w.loss, w.twice, w.delay = 0, 0, 0
		w.restart()
		w.mend()
		w.pass(time.Minute)
		k.screens()
		k.equal()
	})
}
