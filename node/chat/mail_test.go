package chat_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lanchat/node/chat"
	"lanchat/node/store"
	"lanchat/wire"
	"lanchat/wire/realm"
)

// An office is authd as far as mail goes. It keeps what it is told, and may
// change it.
type office struct {
	l      *lan
	up     bool
	keys   map[wire.DeviceKey]wire.MailDevice
	items  []deposited
	lastID uint64
	full   bool
	// change is what a bad authd does with what it hands out; nil: nothing.
	change func(to wire.DeviceKey, i *wire.MailItem)
}

type deposited struct {
	id       uint64
	from, to wire.DeviceKey
	number   uint64
	sealed   []byte
}

var errAway = errors.New("authd is away")

// open starts an authd for everybody.
func (l *lan) open() *office {
	l.office = &office{l: l, keys: map[wire.DeviceKey]wire.MailDevice{}}
	l.office.start()
	return l.office
}

func (o *office) start() {
	o.up = true
	for _, n := range o.l.nodes {
		if !n.dead {
			n.core.MailUp(o.l.now)
		}
	}
	o.l.settle()
}

func (o *office) stop() {
	o.up = false
	for _, n := range o.l.nodes {
		n.core.MailDown()
	}
}

func (o *office) answer(n *node, m wire.AuthMessage) (wire.AuthMessage, error) {
	if o == nil || !o.up {
		return nil, errAway
	}
	switch m := m.(type) {
	case *wire.AuthMailKey:
		if err := wire.VerifyMailKey(n.token.Key, testRealm, m.Public, m.Signature); err != nil {
			o.l.t.Fatalf("%s gives a key that it has not signed", n.name)
		}
		o.keys[n.token.Key] = wire.MailDevice{Leaf: n.token.Leaf, Public: m.Public, Signature: m.Signature}
	case *wire.AuthRecipient:
		reply := &wire.AuthMailKeys{}
		for _, other := range o.l.nodes {
			if k, ok := o.keys[other.token.Key]; ok && other.token.Account == m.Account {
				reply.Devices = append(reply.Devices, k)
			}
		}
		return reply, nil
	case *wire.AuthDeposit:
		if o.full {
			return nil, &chat.MailRefusal{Code: wire.CodeMailboxFull, RetryAfter: time.Minute}
		}
		if len(m.Sealed) > wire.MaxSealed {
			o.l.t.Fatalf("%s leaves %d bytes", n.name, len(m.Sealed))
		}
		same := func(d deposited) bool { return d.from == n.token.Key && d.to == m.To && d.number == m.Number }
		if !slices.ContainsFunc(o.items, same) {
			o.lastID++
			o.items = append(o.items, deposited{o.lastID, n.token.Key, m.To, m.Number, slices.Clone(m.Sealed)})
			if to := o.l.of(m.To.Device()); to != nil && !to.dead {
				to.core.HandleMailbox(o.l.now)
			}
		}
	case *wire.AuthMailbox:
		reply := &wire.AuthMail{}
		for _, d := range o.items {
			if d.to != n.token.Key || d.id <= m.After {
				continue
			}
			if reply.More = len(reply.Items) == 3; reply.More {
				break
			}
			i := wire.MailItem{ID: d.id, Leaf: o.keys[d.from].Leaf, Sealed: d.sealed}
			if o.change != nil {
				o.change(d.to, &i)
			}
			reply.Items = append(reply.Items, i)
		}
		return reply, nil
	case *wire.AuthTaken:
		o.items = slices.DeleteFunc(o.items, func(d deposited) bool { return d.to == n.token.Key && slices.Contains(m.IDs, d.id) })
	}
	return &wire.AuthDone{}, nil
}

// judge knows the tokens of everybody.
func (l *lan) judge(leaf, _ []byte) (*realm.Token, error) {
	for _, n := range l.nodes {
		if bytes.Equal(leaf, n.token.Leaf) {
			return n.token, nil
		}
	}
	return nil, realm.ErrRevoked
}

// comes starts a node anew, where authd is and nobody else.
func (n *node) comes() {
	n.start()
	if n.l.office != nil && n.l.office.up {
		n.core.MailUp(n.l.now)
	}
	n.l.settle()
}

// goes ends a node.
func (n *node) goes() {
	for _, other := range n.l.nodes {
		if n.links[other] {
			n.l.unlink(n, other)
		}
	}
	n.dead = true
}

// "A sealed mailbox at authd delivers a reliable DM even when sender and
// receiver are never online together", in order and once, and the sender learns
// of both, that it is kept and that it has arrived.
func TestMailboxDelivers(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t)
	o := l.open()
	ann, bob := l.node("ann"), l.node("bob")
	bob.goes()
	l.clear()
	for i := range 10 {
		ann.say("@bob", "reliable", fmt.Sprint("ann ", i+1))
	}
	l.pass(5 * time.Second)
	kept := 0
	for _, n := range shown[chat.Notice](ann) {
		if n.Code == "kept" {
			kept++
		}
	}
	if kept != 10 || len(o.items) != 10 {
		t.Errorf("ann is told of %d that are kept, and authd has %d, want 10", kept, len(o.items))
	}
	if r := shown[chat.Receipt](ann); len(r) != 0 {
		t.Errorf("receipts of what nobody has: %v", r)
	}
	ann.goes()
	bob.comes()
	l.pass(5 * time.Second)
	checkTexts(t, "bob sees", bob.texts("@ann", "ann"), numbered("ann", 1, 10))
	if len(o.items) == 0 {
		t.Error("no acknowledgement waits for ann")
	}
	bob.goes()
	l.clear()
	ann.comes()
	l.pass(5 * time.Second)
	if r := shown[chat.Receipt](ann); len(r) != 10 || ann.core.Pending() != 0 {
		t.Errorf("%d receipts, %d wait", len(r), ann.core.Pending())
	}
	if len(o.items) != 0 {
		t.Errorf("authd still has %d", len(o.items))
	}
	bob.comes()
	l.link(ann, bob)
	l.pass(time.Minute)
	if m := shown[chat.Message](bob); len(m) != 0 {
		t.Errorf("bob sees again: %v", m)
	}
}

// A person's devices each get it, by whatever way; the receipt comes once.
func TestMailboxOfSeveralDevices(t *testing.T) {
	l := newLAN(t, "ann", "bob", "bob2", "bob3").stored(t)
	o := l.open()
	ann := l.node("ann")
	l.node("bob2").goes()
	l.node("bob3").goes()
	l.clear()
	ann.say("@bob", "reliable", "hi")
	l.pass(time.Second)
	checkTexts(t, "bob's first device sees", l.node("bob").texts("@ann", "ann"), []string{"hi"})
	if r := shown[chat.Receipt](ann); len(r) != 1 || r[0].Got != 1 || r[0].Of != 1 {
		t.Errorf("receipts: %v", r)
	}
	l.node("bob2").comes()
	l.pass(time.Second)
	checkTexts(t, "bob's second device sees", l.node("bob2").texts("@ann", "ann"), []string{"hi"})
	o.stop()
	o.items = nil
	l.node("bob3").comes()
	l.link(ann, l.node("bob3"))
	l.pass(time.Second)
	checkTexts(t, "bob's third device sees", l.node("bob3").texts("@ann", "ann"), []string{"hi"})
	if r := shown[chat.Receipt](ann); len(r) != 1 {
		t.Errorf("receipts: %v", r)
	}
	state, err := ann.store.Load()
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Outbox) != 0 {
		t.Errorf("%d messages stay in the outbox", len(state.Outbox))
	}
}

// What comes over a link before what waits at authd is not shown again, nor
// does a hole in the mailbox lose anything.
func TestMailboxWithHole(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t)
	o := l.open()
	ann, bob := l.node("ann"), l.node("bob")
	bob.goes()
	for i := range 5 {
		ann.say("@bob", "reliable", fmt.Sprint("ann ", i+1))
	}
	l.pass(5 * time.Second)
	o.items = slices.Delete(o.items, 1, 2) // authd lost one
	l.clear()
	bob.comes()
	l.pass(5 * time.Second)
	checkTexts(t, "bob sees", bob.texts("@ann", "ann"), numbered("ann", 1, 1))
	l.link(ann, bob)
	l.pass(5 * time.Second)
	checkTexts(t, "bob sees", bob.texts("@ann", "ann"), numbered("ann", 1, 5))
	o.stop()
	o.start()
	l.pass(5 * time.Second)
	checkTexts(t, "bob sees in the end", bob.texts("@ann", "ann"), numbered("ann", 1, 5))
	if len(o.items) != 0 {
		t.Errorf("authd still has %d", len(o.items))
	}
}

// "authd cannot read it, cannot forge it": what it changes, swaps or hands to
// another is dropped, and what it keeps does not hold the text.
func TestMailboxOfABadAuthd(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(l *lan, to wire.DeviceKey, i *wire.MailItem)
	}{
		{"a bit", func(_ *lan, _ wire.DeviceKey, i *wire.MailItem) {
			i.Sealed = slices.Clone(i.Sealed)
			i.Sealed[len(i.Sealed)/2] ^= 1
		}},
		{"cut", func(_ *lan, _ wire.DeviceKey, i *wire.MailItem) { i.Sealed = i.Sealed[:100] }},
		{"for another", func(l *lan, to wire.DeviceKey, i *wire.MailItem) {
			for _, d := range l.office.items {
				if d.to != to {
					i.Sealed = d.sealed
				}
			}
		}},
	} {
		l := newLAN(t, "ann", "bob", "cat").stored(t)
		o := l.open()
		ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
		bob.goes()
		cat.goes()
		ann.say("@bob", "reliable", "the secret word")
		ann.say("@cat", "reliable", "another word")
		l.pass(5 * time.Second)
		for _, i := range o.items {
			if bytes.Contains(i.sealed, []byte("word")) {
				t.Error("authd can read it")
			}
		}
		o.change = func(to wire.DeviceKey, i *wire.MailItem) { tt.change(l, to, i) }
		l.clear()
		bob.comes()
		l.pass(5 * time.Second)
		if m := shown[chat.Message](bob); len(m) != 0 || bob.core.Stats().Malformed == 0 {
			t.Errorf("%s: bob sees %v, %d malformed", tt.name, m, bob.core.Stats().Malformed)
		}
		o.change = nil
		l.link(ann, bob)
		l.pass(5 * time.Second)
		checkTexts(t, tt.name+": bob sees in the end", bob.texts("@ann", "ann"), []string{"the secret word"})
	}
}

// What authd cannot take waits with the sender, and so does what is too long.
func TestMailboxFull(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t)
	o := l.open()
	o.full = true
	ann, bob := l.node("ann"), l.node("bob")
	bob.goes()
	ann.say("@bob", "reliable", "one")
	l.pass(5 * time.Second)
	o.full = false
	l.pass(20 * time.Minute)
	long := string(bytes.Repeat([]byte("x"), wire.MaxDirectText))
	ann.say("@bob", "reliable", long)
	ann.say("@bob", "reliable", "three")
	l.pass(5 * time.Second)
	if len(o.items) != 1 {
		t.Errorf("authd has %d, want 1", len(o.items))
	}
	l.clear()
	bob.comes()
	l.pass(5 * time.Second)
	checkTexts(t, "bob sees by mail", bob.texts("@ann", "ann"), []string{"one"})
	l.link(ann, bob)
	checkTexts(t, "bob sees over the link", bob.texts("@ann", "ann"), []string{"one", long, "three"})
}

// "Both devices have both directions of a chat": what is written on one device
// appears on the others of the same person, once and in order, whether they are
// there or come later, over links and by mail; it rings nowhere, and never comes
// back to the device that wrote it.
func TestOwnDevices(t *testing.T) {
	l := newLAN(t, "ann", "bob", "bob2").stored(t)
	o := l.open()
	ann, bob, phone := l.node("ann"), l.node("bob"), l.node("bob2")
	phone.say("@ann", "reliable", "one")
	phone.say("@ann", "fast", "two")
	phone.do("/msg ann three")
	edit := func(n *node, line string) {
		n.core.Do(l.now, chat.Command{Line: line, Chat: "@ann"})
		l.settle()
	}
	edit(phone, "/edit three, and more")
	ann.say("@bob", "reliable", "four")
	l.pass(time.Second)
	checkTexts(t, "ann sees", ann.texts("@bob", "bob"), []string{"one", "two", "three", "three, and more"})
	checkTexts(t, "the other device sees", bob.texts("@ann", "bob"), []string{"one", "two", "three", "three, and more"})
	checkTexts(t, "the writing device sees", phone.texts("@ann", "bob"), nil)
	for _, n := range []*node{bob, phone} {
		checkTexts(t, n.name+" sees", n.texts("@ann", "ann"), []string{"four"})
		if got := shown[chat.Notify](n); len(got) != 1 {
			t.Errorf("%s rings for %+v", n.name, got)
		}
		unread, err := n.store.Unread()
		if err != nil || unread[chat.ChatID{Account: ann.token.Account}] != 1 {
			t.Errorf("%s has %v unread (%v)", n.name, unread, err)
		}
	}
	// Either device can edit and answer what the other wrote.
	bob.do("/msg ann five")
	edit(bob, "/edit 2 three, after all")
	l.pass(time.Second)
	checkTexts(t, "the phone sees", phone.texts("@ann", "bob"), []string{"five", "three, after all"})
	checkTexts(t, "ann sees", ann.texts("@bob", "bob")[4:], []string{"five", "three, after all"})

	// Away: over the link when they meet, with acknowledgements that get lost.
	l.clear()
	bob.goes()
	for i := range 5 {
		phone.say("@ann", "reliable", fmt.Sprint("away ", i+1))
	}
	l.pass(time.Second)
	o.stop()
	o.items = nil
	acks := 0
	l.pushed = func(_, _ *node, p chat.Push) bool {
		acks++
		return p.Type != wire.FrameDirectAck || acks > 2
	}
	bob.start()
	l.link(bob, phone)
	bob.start() // kill -9
	l.link(bob, phone)
	l.pass(time.Second)
	checkTexts(t, "the other device sees", bob.texts("@ann", "bob"), numbered("away", 1, 5))
	// By mail, and never together.
	l.clear()
	o.start()
	bob.goes()
	phone.comes()
	for i := range 5 {
		phone.say("@ann", "reliable", fmt.Sprint("mailed ", i+1))
	}
	l.pass(5 * time.Second)
	if got := phone.notices("kept"); len(got) != 5 { // of those for ann
		t.Errorf("the phone is told %q", got)
	}
	phone.goes()
	bob.comes()
	l.pass(5 * time.Second)
	checkTexts(t, "the other device sees", bob.texts("@ann", "bob"), numbered("mailed", 1, 5))
	bob.goes()
	phone.comes()
	l.pass(5 * time.Second)
	l.link(ann, phone)
	l.pass(time.Second)
	checkTexts(t, "ann sees", ann.texts("@bob", "bob"), numbered("mailed", 1, 5))
	state, err := phone.store.Load()
	if err != nil || len(state.Outbox) != 0 || phone.core.Pending() != 0 {
		t.Errorf("%d messages stay in the outbox, %d wait (%v)", len(state.Outbox), phone.core.Pending(), err)
	}
}

// Copies count from one's own devices only, and to others only; nobody keeps any
// who has one device.
func TestCopiesAreForOneself(t *testing.T) {
	l := newLAN(t, "ann", "bob", "bob2", "cat").stored(t)
	ann, bob, phone, cat := l.node("ann"), l.node("bob"), l.node("bob2"), l.node("cat")
	l.pass(time.Second)
	l.clear()
	hand := func(from *node, number uint64, to *node) {
		m := wire.Copy{Number: number, To: to.token.Account, DirectMessage: wire.DirectMessage{Message: wire.Message{Number: 1, Text: "forged"}}}
		bob.core.HandleFrame(l.now, from.token.Device, wire.FrameCopy, m.Append(nil))
		direct := wire.DirectMessage{Message: wire.Message{Number: number, Text: "from oneself"}}
		if from == phone {
			bob.core.HandleFrame(l.now, from.token.Device, wire.FrameDirect, direct.Append(nil))
		}
		l.settle()
	}
	before := bob.core.Stats().Forbidden
	hand(ann, 1<<50, cat)
	hand(phone, 1<<51, bob)
	if got := shown[chat.Message](bob); len(got) > 0 || bob.core.Stats().Forbidden != before+3 {
		t.Errorf("bob sees %+v, %d are forbidden", got, bob.core.Stats().Forbidden-before)
	}
	ann.say("@cat", "reliable", "hi")
	l.unlink(bob, phone)
	for range 1500 {
		bob.say("@ann", "fast", "many")
	}
	for _, tt := range []struct {
		n    *node
		most int
	}{{ann, 0}, {bob, 1000}} {
		if state, err := tt.n.store.Load(); err != nil || len(state.Outbox) != tt.most {
			t.Errorf("%s keeps %d, want %d (%v)", tt.n.name, len(state.Outbox), tt.most, err)
		}
	}
	l.clear()
	l.pass(40 * 24 * time.Hour)
	bob.say("@ann", "reliable", "much later")
	if state, err := bob.store.Load(); err != nil || len(state.Outbox) != 0 {
		t.Errorf("bob keeps %d for a device that was not seen for long (%v)", len(state.Outbox), err)
	}
}

// "Exactly once on screen, whichever ways it came, across restarts of either
// side": links, mail, lost acknowledgements and kill -9 between any two steps.
// All devices of the two people have both sides of the chat in the end.
func TestDirectExactlyOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLAN(rt, "ann", "bob", "bob2")
		for _, n := range l.nodes {
			st, err := store.OpenMemory()
			if err != nil {
				rt.Fatalf("%v", err)
			}
			defer st.Close()
			n.store = st
			n.start()
		}
		pairs := [][2]*node{{l.nodes[0], l.nodes[1]}, {l.nodes[0], l.nodes[2]}, {l.nodes[1], l.nodes[2]}}
		for _, p := range pairs {
			l.link(p[0], p[1])
		}
		o := l.open()
		said := map[*node]int{}
		restart := func() {
			for _, n := range l.nodes {
				if n.dead {
					n.comes()
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"say": func(t *rapid.T) {
				n := l.nodes[rapid.IntRange(0, 2).Draw(t, "who")]
				for range rapid.IntRange(1, 3).Draw(t, "n") {
					if n.dead {
						return
					}
					said[n]++
					text := fmt.Sprint(n.name, " ", said[n])
					n.say(map[string]string{"ann": "@bob", "bob": "@ann"}[n.token.Name], "reliable", text)
					if n.dead && !stored(rt, n, text) {
						said[n]-- // it was killed before it had it
					}
				}
			},
			"kill": func(t *rapid.T) {
				n := l.nodes[rapid.IntRange(0, len(l.nodes)-1).Draw(t, "who")]
				n.fuse = rapid.IntRange(1, 6).Draw(t, "steps")
			},
			"restart": func(*rapid.T) { restart() },
			"link": func(t *rapid.T) {
				if p := pairs[rapid.IntRange(0, 2).Draw(t, "who")]; !p[0].dead && !p[1].dead && !p[0].links[p[1]] {
					l.link(p[0], p[1])
				}
			},
			"unlink": func(t *rapid.T) {
				if p := pairs[rapid.IntRange(0, 2).Draw(t, "who")]; p[0].links[p[1]] {
					l.unlink(p[0], p[1])
				}
			},
			"lose": func(t *rapid.T) {
				lost := rapid.IntRange(0, 3).Draw(t, "acks")
				l.pushed = func(_, _ *node, p chat.Push) bool {
					lost--
					return lost < 0 || p.Type != wire.FrameDirectAck
				}
			},
			"authd": func(*rapid.T) {
				if o.up {
					o.stop()
				} else {
					o.start()
				}
			},
			"wait": func(t *rapid.T) { l.pass(time.Duration(rapid.IntRange(1, 20).Draw(t, "s")) * time.Second) },
			"": func(*rapid.T) {
				for _, n := range l.nodes {
					seen := map[string]bool{}
					for _, m := range shown[chat.Message](n) {
						if seen[m.ID] || strings.HasPrefix(m.Text, n.name+" ") {
							rt.Fatalf("%s sees %q again", n.name, m.Text)
						}
						seen[m.ID] = true
					}
				}
			},
		})
		for _, n := range l.nodes {
			n.fuse = 0
		}
		restart()
		l.pushed = nil
		for _, p := range pairs {
			if p[0].links[p[1]] {
				l.unlink(p[0], p[1]) // what was lost on it comes with a new one
			}
			l.link(p[0], p[1])
		}
		l.pass(time.Minute)
		for _, n := range l.nodes {
			other := l.nodes[0]
			if n == other {
				other = l.nodes[1]
			}
			found, err := n.store.History(chat.ChatID{Account: other.token.Account}, chat.MessageID{}, 1000)
			if err != nil {
				rt.Fatalf("%v", err)
			}
			for _, from := range l.nodes {
				var got []string
				for _, m := range found {
					if m.Device == from.token.Device {
						got = append(got, m.Text)
					}
				}
				checkTexts(rt, n.name+" has of "+from.name, got, numbered(from.name, 1, said[from]))
			}
			if n.core.Pending() != 0 {
				rt.Errorf("%d messages wait at %s", n.core.Pending(), n.name)
			}
		}
	})
}

// stored reports whether a node has a text of its own on disk.
func stored(t tb, n *node, text string) bool {
	t.Helper()
	found, err := n.store.Search(text, 10)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return slices.ContainsFunc(found, func(m chat.SaveMessage) bool { return m.Text == text })
}
