package chat_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
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
	for end := w.l.now.Add(d); w.l.now.Before(end); {
		next := end
		sooner := func(t time.Time) {
			if t.After(w.l.now) && t.Before(next) {
				next = t
			}
		}
		for _, at := range w.apart {
			sooner(at)
		}
		for _, n := range w.l.nodes {
			if n.fuse > 0 {
				sooner(w.l.now.Add(500 * time.Millisecond)) // it may end at any time
			}
			if died, ok := w.died[n]; ok {
				sooner(died.Add(noticed))
			}
		}
		w.l.pass(next.Sub(w.l.now))
		for p, at := range w.apart {
			if p[0].links[p[1]] && !w.l.now.Before(at) {
				w.l.unlink(p[0], p[1])
			}
		}
		for _, n := range w.l.nodes {
			switch died, known := w.died[n]; {
			case n.dead && !known && len(n.links) > 0:
				w.died[n] = w.l.now
			case known && w.l.now.Sub(died) >= noticed:
				delete(w.died, n)
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

// A talk is what people say in #lab, and what is shown of it: each numbers what
// it says.
type talk struct {
	l        *lan
	t        tb
	room     wire.RoomID
	said     map[*node]int
	seen     map[*node]map[string]bool // messages on a screen, by id
	last     map[[2]string]int         // the last number of somebody, on somebody's screen
	receipts map[string]bool
}

func newTalk(t tb, l *lan, room wire.RoomID) *talk {
	k := &talk{l: l, t: t, room: room, said: map[*node]int{}, seen: map[*node]map[string]bool{}, last: map[[2]string]int{}, receipts: map[string]bool{}}
	for _, n := range l.nodes {
		k.seen[n] = map[string]bool{}
	}
	return k
}

// say has somebody say something, which is long now and then.
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

// screens checks that nobody was shown anything twice, or in another order than
// its author wrote it, and clears the screens.
func (k *talk) screens() {
	k.t.Helper()
	for _, n := range k.l.nodes {
		for _, m := range shown[chat.Message](n) {
			if k.seen[n][m.ID] {
				k.t.Fatalf("%s is shown %q of %s twice", n.name, m.Text, m.From)
			}
			k.seen[n][m.ID] = true
			if mode, number := k.number(m.Text); mode == "reliable" && !m.Late {
				if last := k.last[[2]string{n.name, m.From}]; number < last {
					k.t.Fatalf("%s is shown message %d of %s after %d", n.name, number, m.From, last)
				}
				k.last[[2]string{n.name, m.From}] = number
			}
		}
		for _, r := range shown[chat.Receipt](n) {
			if k.receipts[r.ID+r.By] || r.Got > r.Of {
				k.t.Fatalf("%s is told again: %+v", n.name, r)
			}
			k.receipts[r.ID+r.By] = true
		}
	}
	k.l.clear()
}

// history returns the reliable messages that a node has of #lab on its disk, in
// the order it shows them.
func (k *talk) history(n *node) []chat.SaveMessage {
	k.t.Helper()
	found, err := n.store.History(chat.ChatID{Room: k.room}, chat.MessageID{}, 1_000_000)
	if err != nil {
		k.t.Fatalf("%v", err)
	}
	return slices.DeleteFunc(found, func(m chat.SaveMessage) bool { return m.Mode != chat.Reliable })
}

// equal checks that everybody in the room has every reliable message that it is
// entitled to, once, and that any two have what both have in one order.
func (k *talk) equal() {
	k.t.Helper()
	history, own := map[*node][]chat.SaveMessage{}, []chat.SaveMessage{}
	place := map[*node]map[chat.MessageID]int{}
	for _, n := range k.l.nodes {
		history[n], place[n] = k.history(n), map[chat.MessageID]int{}
		last := 0
		for i, m := range history[n] {
			place[n][m.ID] = i
			if m.Own {
				own = append(own, m)
				_, number := k.number(m.Text)
				if number <= last {
					k.t.Fatalf("%s has said %d after %d", n.name, number, last)
				}
				last = number
			}
		}
	}
	for i, n := range k.l.nodes {
		if n.core.Log("#lab") == nil {
			continue
		}
		entitled := k.entitled(n)
		for _, m := range own {
			if _, has := place[n][m.ID]; !has && entitled(m) {
				k.t.Errorf("%s does not have %.30q", n.name, m.Text)
			}
		}
		for _, other := range k.l.nodes[:i] {
			last := -1
			for _, m := range history[n] {
				if j, both := place[other][m.ID]; both && j < last {
					k.t.Fatalf("%s and %s have %.30q at another place", n.name, other.name, m.Text)
				} else if both {
					last = j
				}
			}
		}
	}
}

// entitled returns whether a message is for somebody: written in an epoch that
// has its device, since it was let in last, and by one who was not removed
// before. "Later messages of that device under old epochs are refused."
func (k *talk) entitled(n *node) func(m chat.SaveMessage) bool {
	log, since := n.core.Log("#lab"), uint64(0)
	if log.State().Member(n.token.Account) == nil {
		k.t.Fatalf("%s is in a room that it is no member of", n.name)
	}
	for _, e := range log.Audit() {
		if e.Op() == wire.OpAdmit && e.Args.(*wire.LogAdmit).Account == n.token.Account {
			since = e.Seq
		}
	}
	return func(m chat.SaveMessage) bool {
		info := log.EpochInfo(m.Epoch)
		if info == nil || info.Seq < since {
			return false
		}
		if cut, removed := log.State().Cut(k.l.of(m.Device).token.Key); removed && info.Seq < cut.Seq {
			if m.Number > cut.Number {
				return false
			}
		} else if log.State().Member(m.Account) == nil {
			return false
		}
		_, in := info.Slot(n.token.Key)
		return in
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
		l.clear()
		k := newTalk(rt, l, ann.core.RoomID("#lab"))
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

// "A week of virtual time with 50 nodes that come and go ends with equal
// histories." LANCHAT_NODES and LANCHAT_DAYS say how many and how long; else it
// is eight for two days. They come at about the same hours, if they come, and say
// goodbye or are killed. The network is bad, and parts for minutes.
func TestComeAndGo(t *testing.T) {
	setting := func(name string, value int) int {
		if s := os.Getenv(name); s != "" {
			var err error
			if value, err = strconv.Atoi(s); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		return value
	}
	nodes, days := setting("LANCHAT_NODES", 8), setting("LANCHAT_DAYS", 2)
	var names []string
	for i := range nodes {
		names = append(names, "p"+string(rune('a'+i/26))+string(rune('a'+i%26)))
	}
	l := newLAN(t, names...).stored(t)
	w := newWeather(l, 1)
	chance := w.chance
	early := nodes - nodes/8 // the others come on a later day for the first time
	l.nodes[0].do("/create #lab")
	for _, n := range l.nodes[1:early] {
		n.do("/join #lab")
	}
	w.pass(5 * time.Second)
	for _, n := range l.nodes {
		n.goes()
	}
	l.clear()
	k := newTalk(t, l, l.nodes[0].core.RoomID("#lab"))
	begin := l.now
	const everyHours = 8
	for hour := 0; hour < days*24; hour += everyHours {
		w.pass(begin.Add(time.Duration(hour) * time.Hour).Sub(l.now))
		w.loss, w.twice, w.delay = chance.IntN(20), chance.IntN(20), time.Duration(chance.IntN(50))*time.Millisecond
		comes, goes := map[*node]int{}, map[*node]int{} // minutes
		for i, n := range l.nodes {
			if chance.IntN(2) == 0 && (i < early || hour > 24) {
				comes[n] = chance.IntN(10)
				goes[n] = comes[n] + 2 + chance.IntN(10)
			}
		}
		for minute := range 25 {
			for _, n := range l.nodes {
				from, here := comes[n]
				switch {
				case here && minute == from:
					n.start()
					w.connect()
					if n.core.Log("#lab") == nil {
						n.do("/join #lab")
					}
				case here && minute == goes[n] && chance.IntN(4) > 0:
					l.quit(n.name)
				case here && minute == goes[n]:
					n.fuse = 1 + chance.IntN(10)
				case minute == 24 && !n.dead: // the fuse was too long
					l.quit(n.name)
				}
			}
			switch chance.IntN(20) {
			case 0:
				for i, a := range l.nodes {
					for _, b := range l.nodes[:i] {
						if chance.IntN(3) == 0 {
							w.separate(a, b)
						}
					}
				}
			case 1, 2:
				w.mend()
			}
			for second := 0; second < 60; second += 5 {
				for _, n := range l.nodes {
					if !n.dead && n.fuse == 0 && n.core.Log("#lab") != nil && chance.IntN(20) == 0 {
						k.say(n, "reliable", chance.IntN(20) == 0)
					}
				}
				w.pass(5 * time.Second)
			}
			k.screens()
		}
	}
	w.loss, w.twice, w.delay = 0, 0, 0
	for _, n := range l.nodes {
		n.fuse = 0
	}
	w.restart()
	w.mend()
	for _, n := range l.nodes[early:] {
		n.do("/join #lab") // who has not been here yet
	}
	w.pass(5 * time.Minute)
	k.screens()
	k.equal()
	said := 0
	for _, n := range k.said {
		said += n
	}
	t.Logf("%d people in %d days said %d things", nodes, days, said)
	if said < 10*days {
		t.Errorf("only %d things were said", said)
	}
}
