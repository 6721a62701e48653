package chat_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
	"lanchat/wire/realm"
)

func (n *node) notices(code string) (texts []string) {
	for _, e := range shown[chat.Notice](n) {
		if e.Code == code {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

// Both halves may act. After the heal all agree within 5 s, are told what was
// undone and why; who was let in on the side that lost is let in again; who
// was removed there, by a co-admin, is out.
func TestMerge(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "dan", "eve", "fay").stored(t)
	l.node("ann").do("/create #lab")
	for _, name := range []string{"bob", "cat", "dan", "eve"} {
		l.node(name).do("/join #lab")
	}
	l.node("ann").do("/op bob")
	l.pass(time.Minute)
	l.split("bob", "cat", "dan", "fay")
	l.pass(time.Minute)
	l.clear()
	l.node("ann").do("/topic ann's side")
	l.node("bob").do("/kick dan noisy")
	l.node("fay").do("/join #lab")
	l.pass(5 * time.Second)
	if got := l.node("fay").state("#lab").Members; !slices.Equal(got, []string{"ann", "bob", "cat", "eve", "fay"}) {
		t.Errorf("on bob's side there are %v", got)
	}
	l.heal()
	l.pass(5 * time.Second)
	for _, n := range []*node{l.node("bob"), l.node("cat")} {
		told := strings.Join(n.notices("merged"), " ")
		for _, part := range []string{"bob kicked dan", "bob let fay in", "ann"} {
			if !strings.Contains(told, part) {
				t.Errorf("%s is told %q, without %q", n.name, told, part)
			}
		}
	}
	// The side that won is told what the other had done, once.
	for _, n := range []*node{l.node("ann"), l.node("eve")} {
		told := n.notices("merged")
		if len(told) != 1 || !strings.Contains(told[0], "what ann did counts, who sits in front; undone there: bob kicked dan; bob let fay in") {
			t.Errorf("%s is told %q", n.name, told)
		}
	}
	for _, n := range l.nodes { // who was removed on one side is out on both
		if log := n.core.Log("#lab"); log != nil && log.State().Member(l.node("dan").token.Account) != nil {
			t.Errorf("%s has dan in the room", n.name)
		}
	}
	l.agree(t, "#lab", "ann", "bob", "cat", "eve", "fay")
	if s := l.node("fay").core.Log("#lab").State(); s.Topic != "ann's side" {
		t.Errorf("topic %q", s.Topic)
	}
	if n := len(l.node("ann").notices("resolve")); n != 0 {
		t.Errorf("ann is asked %d times about a removal by a co-admin", n)
	}
}

// A removal by a plain regent: the admin is asked, and until then the person
// has no keys. Either answer settles it.
func TestResolve(t *testing.T) {
	for _, answer := range []string{"uphold", "dismiss"} {
		t.Run(answer, func(t *testing.T) {
			l := newLAN(t, "ann", "bob", "cat", "dan").stored(t).room("#lab")
			l.pass(time.Minute)
			l.split("bob", "cat")
			l.pass(time.Minute)
			l.node("ann").do("/topic meanwhile")
			l.node("bob").do("/kick dan") // who is on ann's side
			l.pass(5 * time.Second)
			l.clear()
			l.heal()
			l.pass(5 * time.Second)
			asked := l.node("ann").notices("resolve")
			if len(asked) != 1 || !strings.Contains(asked[0], "/resolve dan uphold") {
				t.Fatalf("ann is asked %q", asked)
			}
			l.node("ann").say("#lab", "reliable", "not for dan")
			l.pass(time.Second)
			checkTexts(t, "dan hears", l.node("dan").texts("#lab", "ann"), nil)
			checkTexts(t, "cat hears", l.node("cat").texts("#lab", "ann"), []string{"not for dan"})
			l.node("bob").do("/resolve dan uphold")
			checkTexts(t, "bob decides", l.node("bob").errors(), []string{"not_admin"})
			l.node("ann").do("/resolve dan " + answer)
			l.pass(5 * time.Second)
			if answer == "uphold" {
				l.agree(t, "#lab", "ann", "bob", "cat")
			} else {
				l.agree(t, "#lab", "ann", "bob", "cat", "dan")
			}
			l.node("ann").do("/resolve dan uphold")
			checkTexts(t, "once more", l.node("ann").errors(), []string{"bad_argument"})
		})
	}
}

// Who was removed on the side that lost and is taken back returns by itself,
// wherever they were when that was decided, and whether or not their program was
// started anew meanwhile.
func TestDismissedReturns(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		for _, away := range []bool{false, true} { // when it is decided
			t.Run(fmt.Sprintf("restarted %v, away %v", restarted, away), func(t *testing.T) {
				l := newLAN(t, "ann", "bob", "cat", "dan", "eve").stored(t).room("#lab")
				l.pass(time.Minute)
				l.split("bob", "dan")
				l.pass(time.Minute)
				l.node("ann").do("/topic meanwhile")
				l.node("bob").do("/kick eve")
				l.pass(50 * time.Second)
				l.node("bob").do("/ban eve", "/ban eve", "/ban eve", "/ban eve", "/kick dan") // the side that loses is the longer one
				l.pass(5 * time.Second)
				if !l.node("dan").core.Head("#lab").IsZero() {
					t.Fatal("dan is in the room still")
				}
				l.split("dan") // alone
				for _, n := range []string{"ann", "cat"} {
					l.link(l.node("bob"), l.node(n))
				}
				l.pass(5 * time.Second)
				back := func() {
					l.heal()
					if restarted {
						l.quit("dan")
						l.back("dan")
					}
					l.pass(5 * time.Second)
				}
				if !away {
					back()
				}
				l.node("ann").do("/resolve eve uphold", "/resolve dan dismiss")
				l.pass(15 * time.Second)
				if away {
					back()
				}
				l.agree(t, "#lab", "ann", "bob", "cat", "dan")
			})
		}
	}
}

// An admin who comes back and has not heard yet that somebody was removed tells
// that person's node that it is in the room. What the node then asks for by
// itself undoes no removal that the admin has upheld by the time it is asked;
// the person's own /join does.
func TestUpheldMeanwhile(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").room("#lab")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	ann.do("/op bob")
	l.pass(time.Minute)
	l.split("ann")
	l.pass(time.Minute)
	ann.do("/topic meanwhile")
	bob.do("/kick cat")
	l.pass(5 * time.Second)
	if !cat.core.Head("#lab").IsZero() {
		t.Fatal("cat is in the room still")
	}
	l.clear()

	l.fate = func(from, to *node, _ []byte) []time.Duration { return nil }
	between := func(a, b *node) bool { return a == ann && b == bob || a == bob && b == ann }
	l.pushed = func(from, to *node, _ chat.Push) bool { return !between(from, to) }
	told, wanted := false, false
	l.asked = func(from, to *node, q chat.Ask) bool {
		if between(from, to) {
			return false
		}
		if from == cat && to == ann && (q.Type == wire.FrameJoin || q.Type == wire.FrameEnter) && !wanted {
			wanted = true
			told = ann.core.Log("#lab").State().Member(cat.token.Account) != nil
			for _, e := range bob.core.Log("#lab").Audit() {
				ann.core.HandleFrame(l.now, bob.token.Device, wire.FrameEntry, e.Append(nil))
			}
			if ann.core.Log("#lab").State().Member(cat.token.Account) != nil {
				t.Error("ann has not upheld the removal")
			}
		}
		return true
	}
	l.link(ann, bob)
	l.link(ann, cat)
	if !told || !wanted {
		t.Fatalf("cat is a member to ann at first: %v; cat's node asks by itself: %v", told, wanted)
	}
	l.fate, l.pushed, l.asked = nil, nil, nil
	l.heal()
	l.pass(10 * time.Second)
	if ops := ann.ops("#lab", 0); slices.Contains(ops[len(ops)-2:], "ADMIT") {
		t.Errorf("ann let somebody in: %v", ops)
	}
	l.agree(t, "#lab", "ann", "bob")
	enter := wire.Enter{Room: ann.core.RoomID("#lab")}
	cat.ask(ann, wire.FrameEnter, enter.Append(nil), func(frames []chat.Frame) {
		if len(frames) != 1 || frames[0].Type != wire.FrameRefused {
			t.Errorf("asked by a program that is modified, ann answers %+v", frames)
		}
	})
	cat.do("/join #lab")
	l.agree(t, "#lab", "ann", "bob", "cat")
}

// Who is suspended has no key until that is decided, perhaps for days, and does
// not ask for it each second meanwhile; it is there at once when it may be.
func TestSuspendedAsksLittle(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "dan").room("#lab")
	l.pass(time.Minute)
	l.split("ann", "dan")
	l.pass(time.Minute)
	l.node("ann").do("/topic meanwhile")
	l.node("bob").do("/kick dan")
	l.heal()
	l.pass(5 * time.Second)
	dan := l.node("dan")
	if !dan.core.Log("#lab").IsSuspended(dan.token.Account) {
		t.Fatal("dan is not suspended")
	}
	asked := 0
	l.asked = func(from, _ *node, q chat.Ask) bool {
		if from == dan && (q.Type == wire.FrameLog || q.Type == wire.FrameKeyOf) {
			asked++
		}
		return true
	}
	l.pass(15 * time.Minute)
	if asked > 30 {
		t.Errorf("dan asks %d times in a quarter of an hour, want 30 at most", asked)
	}
	l.node("ann").do("/resolve dan dismiss")
	l.pass(time.Second)
	l.agree(t, "#lab", "ann", "bob", "cat", "dan")
}

// "Admissions on a losing branch lapse; the inviter's client asks the writer
// again": but not for who was removed or left since, who asks again alone.
func TestAdmittedForOthers(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "dan")
	ann, bob, cat, dan := l.node("ann"), l.node("bob"), l.node("cat"), l.node("dan")
	ann.do("/create #lab")
	bob.do("/join #lab")
	for _, p := range []*node{cat, dan} {
		p.do("/join #lab")
		l.pass(time.Second)
	}
	ann.do("/kick cat")
	dan.do("/part #lab")
	l.pass(time.Minute)
	eve := l.add("eve")
	l.link(eve, ann)
	l.link(eve, bob)
	for _, p := range []*node{cat, dan, eve} {
		act := wire.Act{Room: ann.core.RoomID("#lab"), Args: &wire.LogAdmit{Account: p.token.Account, Name: p.name, Devices: []wire.Device{{Key: p.token.Key}}}}
		bob.ask(ann, wire.FrameAct, act.Append(nil), func(frames []chat.Frame) {
			if done, want := len(frames) == 1 && frames[0].Type == wire.FrameDone, p == eve; done != want {
				t.Errorf("bob asks for %s, granted: %v, want %v", p.name, done, want)
			}
		})
	}
}

// Two signed histories, of which this node had applied neither: it stands
// still until the person decides, also after a restart.
func TestDecide(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "dan").stored(t).room("#lab")
	l.pass(time.Second)
	ann, dan := l.node("ann"), l.node("dan")
	one, two := ann.core.Forge(l.now, "#lab", l.node("bob").token.Account), ann.core.Forge(l.now.Add(time.Second), "#lab", l.node("cat").token.Account)
	l.quit("ann", "bob", "cat")
	l.clear()
	dan.core.Hand(l.now, "#lab", one, two)
	l.settle()
	if got := dan.notices("double_signing"); len(got) != 1 || !strings.Contains(got[0], "/decide") || !dan.core.Log("#lab").Held() {
		t.Fatalf("dan is told %q, held %v", got, dan.core.Log("#lab").Held())
	}
	dan.say("#lab", "reliable", "hello?")
	dan.do("/decide 3")
	checkTexts(t, "dan's errors", dan.errors(), []string{"room_held", "bad_argument"})
	dan.start()
	if !dan.core.Log("#lab").Held() || len(dan.notices("double_signing")) != 2 {
		t.Error("the room does not stand still after a restart")
	}
	dan.do("/decide 2")
	for range 2 {
		s := dan.core.Log("#lab").State()
		if dan.core.Log("#lab").Held() || !s.CoAdmin(l.node("cat").token.Account) {
			t.Errorf("held %v, cat a co-admin: %v", dan.core.Log("#lab").Held(), s.CoAdmin(l.node("cat").token.Account))
		}
		dan.start() // and it is remembered
	}
	dan.do("/decide 1")
	if e := dan.errors(); e[len(e)-1] != "bad_argument" {
		t.Errorf("decides twice: %v", e)
	}
}

// A private room is entered with an invite only. It works while who invited is
// away, is kept across restarts, and is void once the person was removed.
func TestInvite(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "dan").stored(t)
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	ann.do("/create #den --private", "/invite bob")
	bob.do("/join #den")
	l.pass(5 * time.Second)
	l.clear()
	cat.do("/join #den")
	checkTexts(t, "cat without an invite", cat.errors(), []string{"no_such_room"})
	bob.do("/invite cat")
	checkTexts(t, "bob, who is no co-admin", bob.errors(), []string{"not_admin"})
	l.quit("cat")
	ann.do("/invite cat")
	l.pass(time.Second)
	l.back("cat")
	l.pass(5 * time.Second)
	if got := cat.notices("invited"); len(got) != 1 || !strings.Contains(got[0], "/join #den") {
		t.Errorf("cat is told %q", got)
	}
	l.quit("cat", "ann")
	l.pass(time.Minute)
	l.back("cat")
	l.pass(5 * time.Second)
	cat.do("/join #den")
	l.pass(time.Second)
	l.agree(t, "#den", "ann", "bob", "cat")
	l.back("ann")
	l.pass(5 * time.Second)
	l.agree(t, "#den", "ann", "bob", "cat")
	var r chat.Room
	for _, e := range shown[chat.Room](cat) {
		if e.Cause == "joined" && e.Whom == "cat" {
			r = e
		}
	}
	if r.By != "ann" || !r.Private {
		t.Errorf("cat joined: %+v", r)
	}
	l.clear()
	ann.do("/kick cat")
	l.pass(time.Second)
	cat.do("/join #den")
	l.pass(time.Second)
	checkTexts(t, "cat with the old invite", cat.errors(), []string{"no_such_room"})
	l.agree(t, "#den", "ann", "bob")

	// Who invited ends before it could be told, and tells it when both are there.
	l.quit("cat")
	ann.do("/invite cat")
	l.quit("ann")
	l.back("cat")
	l.clear()
	l.back("ann")
	l.pass(5 * time.Second)
	if got := cat.notices("invited"); len(got) != 1 {
		t.Errorf("cat is told %q", got)
	}
	cat.do("/join #den")
	l.pass(time.Second)
	l.agree(t, "#den", "ann", "bob", "cat")
}

// An invite from before a removal that was upheld counts no more than one from
// before a kick.
func TestInviteBeforeUpheldRemoval(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat")
	ann, bob, cat := l.node("ann"), l.node("bob"), l.node("cat")
	ann.do("/create #den --private", "/invite bob", "/invite cat")
	var join []byte
	l.asked = func(from, _ *node, q chat.Ask) bool {
		if from == cat && q.Type == wire.FrameJoin {
			join = q.Body
		}
		return true
	}
	bob.do("/join #den")
	cat.do("/join #den")
	ann.do("/op bob")
	l.pass(time.Minute)
	l.split("ann")
	l.pass(time.Minute)
	ann.do("/topic meanwhile")
	bob.do("/kick cat")
	l.heal()
	l.pass(5 * time.Second)
	l.agree(t, "#den", "ann", "bob")
	cat.ask(ann, wire.FrameJoin, join, func(frames []chat.Frame) {
		if len(frames) != 1 || frames[0].Type != wire.FrameRefused {
			t.Errorf("ann answers the old invite with %d frames", len(frames))
		}
	})
	l.agree(t, "#den", "ann", "bob")
}

// A second device of a person comes into that person's rooms by itself.
func TestSecondDevice(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	l.pass(5 * time.Second)
	l.clear()
	phone := l.second("bob2")
	l.pass(5 * time.Second)
	for _, n := range l.nodes {
		if n.core.Head("#lab") != l.node("ann").core.Head("#lab") {
			t.Errorf("%s has another log", n.name)
		}
	}
	if got := l.node("bob").notices("own_device"); len(got) != 1 || !strings.Contains(got[0], phone.token.Device.String()) {
		t.Errorf("bob is told %q", got)
	}
	l.clear()
	l.node("ann").say("#lab", "reliable", "both of you?")
	phone.say("#lab", "reliable", "yes")
	l.pass(time.Second)
	checkTexts(t, "the phone hears", phone.texts("#lab", "ann"), []string{"both of you?"})
	checkTexts(t, "cat hears", l.node("cat").texts("#lab", "bob"), []string{"yes"})
	if s := l.node("cat").core.Log("#lab").State(); len(s.Members) != 3 {
		t.Errorf("%d members", len(s.Members))
	}
}

// Without another device of the person there, the admin says yes.
func TestNewDeviceByAdmin(t *testing.T) {
	l := newLAN(t, "ann", "bob").stored(t).room("#lab")
	l.quit("bob")
	l.pass(5 * time.Second)
	phone := l.second("bob2")
	l.pass(5 * time.Second)
	if !phone.core.Head("#lab").IsZero() {
		t.Fatal("the phone came in by itself")
	}
	if got := l.node("ann").notices("new_device"); len(got) != 1 || !strings.Contains(got[0], "/device bob") {
		t.Fatalf("ann is asked %q", got)
	}
	l.node("ann").do("/device bob")
	l.pass(5 * time.Second)
	if phone.core.Head("#lab") != l.node("ann").core.Head("#lab") {
		t.Errorf("the phone is not in: %v", phone.errors())
	}
}

// second adds another device of a person, linked with all that are there.
func (l *lan) second(device string) *node {
	n := l.add(device)
	for _, o := range l.nodes {
		if o != n && !o.dead {
			l.link(n, o)
		}
	}
	return n
}

// "An absent admin keeps the seat; cure: re-found the room."
func TestRefound(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat", "dan").stored(t).room("#lab")
	l.node("ann").do("/topic ours")
	l.pass(5 * time.Second)
	l.quit("ann", "dan")
	l.pass(time.Minute)
	l.clear()
	l.node("bob").do("/refound #lab")
	l.pass(15 * time.Second)
	l.agree(t, "#lab", "bob", "cat")
	if got := l.node("cat").notices("refounded"); len(got) != 1 {
		t.Errorf("cat is told %q", got)
	}
	l.back("dan")
	l.pass(10 * time.Second)
	l.agree(t, "#lab", "bob", "cat", "dan")
	l.back("ann")
	l.pass(10 * time.Second)
	// ann sits in front: nobody moves the admin. She is invited.
	if got := l.node("ann").notices("refounded"); len(got)+len(l.node("ann").notices("invited")) != 1 {
		t.Errorf("ann is told %q", got)
	}
	if s := l.node("cat").core.Log("#lab").State(); s.Topic != "ours" || s.Admin() != l.node("bob").token.Account {
		t.Errorf("topic %q", s.Topic)
	}
}

// The room that another one takes the place of does not end, for its people: a
// present admin, who leaves it last, is told of no end. /join of a room one is in
// says so, and not that one has joined.
func TestRefoundByPresentAdmin(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	l.clear()
	l.node("ann").do("/refound #lab")
	l.pass(15 * time.Second)
	l.agree(t, "#lab", "ann", "bob", "cat")
	for _, n := range l.nodes {
		if got := n.notices("ended"); len(got) != 0 {
			t.Errorf("%s is told %q", n.name, got)
		}
	}
	l.clear()
	bob := l.node("bob")
	bob.do("/join #lab")
	if got := shown[chat.Room](bob); len(got) != 1 || got[0].Cause != "joined" || !got[0].Again {
		t.Errorf("got %+v, want that bob is in the room already", got)
	}
}

// Two rooms of one name, made in two halves: told apart by letters of their
// ids until one is renamed.
func TestSameName(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t)
	l.split("bob")
	l.node("ann").do("/create #lab")
	l.node("bob").do("/create #lab")
	l.heal()
	l.pass(5 * time.Second)
	ann, cat := l.node("ann"), l.node("cat")
	annLab, bobLab := ann.core.RoomID("#lab").String(), l.node("bob").core.RoomID("#lab").String()
	cat.do("/join #lab~"+annLab[:4], "/join #lab~"+bobLab[:4])
	l.pass(time.Second)
	checkTexts(t, "cat's errors", cat.errors(), nil)
	l.clear()
	cat.say("#lab~"+annLab[:4], "reliable", "for ann")
	cat.say("#lab~"+bobLab[:4], "reliable", "for bob")
	cat.say("#lab", "reliable", "for whom?")
	l.pass(time.Second)
	checkTexts(t, "ann hears", ann.texts("#lab", "cat"), []string{"for ann"})
	checkTexts(t, "bob hears", l.node("bob").texts("#lab", "cat"), []string{"for bob"})
	checkTexts(t, "cat's errors", cat.errors(), []string{"bad_argument"})
	l.clear()
	ann.core.Do(l.now, chat.Command{Line: "/rename #annex", Chat: "#lab"})
	l.settle()
	l.pass(time.Second)
	names := map[string]string{}
	for _, r := range shown[chat.Room](cat) {
		if r.Cause == "renamed" {
			names[r.Was] = r.Chat
		}
	}
	if names["#lab~"+annLab[:4]] != "#annex" || names["#lab~"+bobLab[:4]] != "#lab" {
		t.Errorf("cat is told %v", names)
	}
}

// A revoked device is out of the keys at once, made so by the admin's node or,
// when it is the admin's own device, by who stands in.
func TestRevokedDeviceLosesKeys(t *testing.T) {
	for _, gone := range []string{"ann", "bob"} {
		t.Run(gone, func(t *testing.T) {
			l := newLAN(t)
			for i, name := range []string{"ann", "bob", "cat", "dan"} {
				l.add(name).token.Serial = realm.Serial{byte(i + 1)}
			}
			l.stored(t).room("#lab")
			l.pass(10 * time.Second)
			l.clear()
			bad := l.node(gone)
			for _, n := range l.nodes {
				if n != bad {
					delete(n.links, bad)
					delete(bad.links, n)
					n.core.LinkDown(l.now, bad.token.Device)
					n.revoke(bad.token.Serial)
				}
			}
			l.pass(time.Second)
			for _, n := range l.nodes {
				if n != bad {
					n.say("#lab", "reliable", fmt.Sprint("secret of ", n.name))
					l.pass(500 * time.Millisecond)
				}
			}
			for _, n := range l.nodes {
				heard := 0
				for _, o := range l.nodes {
					heard += len(n.texts("#lab", o.name))
				}
				if want := map[bool]int{true: 0, false: 2}[n == bad]; heard != want {
					t.Errorf("%s hears %d messages, want %d", n.name, heard, want)
				}
				// Only who may is offered to remove the person, once.
				offers := 0
				for _, o := range shown[chat.Notice](n) {
					if o.Code == "shut_out" && strings.Contains(o.Text, "/kick bob") {
						offers++
					}
				}
				if want := map[bool]int{true: 1, false: 0}[n.name == "ann" && gone == "bob"]; offers != want {
					t.Errorf("%s is offered to remove %s %d times, want %d", n.name, gone, offers, want)
				}
			}
			if gone == "bob" {
				// Nor again at the next start.
				l.clear()
				ann := l.back("ann")
				ann.revoke(bad.token.Serial)
				l.pass(5 * time.Second)
				if got := ann.notices("shut_out"); len(got) > 0 {
					t.Errorf("ann is told once more: %q", got)
				}
				l.node("ann").do("/kick bob")
				l.pass(time.Second)
				for _, n := range []string{"ann", "cat", "dan"} {
					if got := l.node(n).core.Log("#lab").State().Members; len(got) != 3 {
						t.Errorf("%s sees %d members after the kick, want 3", n, len(got))
					}
				}
			}
		})
	}
}

// Members who have not heard of a revocation follow who has: they send with
// the key that the device has not got, and do not give it that.
func TestRevocationNotHeardOf(t *testing.T) {
	l := newLAN(t)
	for i, name := range []string{"ann", "bob", "cat", "mal"} {
		l.add(name).token.Serial = realm.Serial{byte(i + 1)}
	}
	l.stored(t).room("#lab")
	l.pass(time.Second)
	ann, bob, mal := l.node("ann"), l.node("bob"), l.node("mal")
	before := ann.core.Head("#lab")
	delete(ann.links, mal)
	delete(mal.links, ann)
	ann.core.LinkDown(l.now, mal.token.Device)
	ann.revoke(mal.token.Serial)
	l.pass(time.Second)
	if head := ann.core.Head("#lab"); head == before || bob.core.Head("#lab") != head {
		t.Fatal("the key was not changed, or bob has not heard of that")
	}
	l.clear()
	bob.say("#lab", "reliable", "not for mal")
	l.pass(time.Second)
	checkTexts(t, "cat", l.node("cat").texts("#lab", "bob"), []string{"not for mal"})
	checkTexts(t, "mal", mal.texts("#lab", "bob"), nil)
	q := wire.KeyRequest{Room: bob.core.RoomID("#lab"), Entry: ann.core.Head("#lab")}
	mal.ask(bob, wire.FrameKeyOf, q.Append(nil), func(frames []chat.Frame) {
		if len(frames) != 1 || frames[0].Type != wire.FrameRefused {
			t.Errorf("bob answers mal with %v", frames)
		}
	})
}

// newCrowd returns many people who are linked with the first; the benchmark has
// 200.
func newCrowd(t *testing.T, n int) *lan {
	l := newLAN(t)
	for i := range n {
		l.add(string([]rune{'p', rune('a' + i/26), rune('a' + i%26)}))
	}
	for _, b := range l.nodes[1:] {
		l.link(l.nodes[0], b)
	}
	return l
}

// "Joining 200 members one after the other ends with everybody agreeing", some
// of them leaving in between.
func TestManyJoinInTurn(t *testing.T) {
	l := newCrowd(t, 20)
	l.nodes[0].do("/create #lab")
	names := []string{l.nodes[0].name}
	for i, p := range l.nodes[1:] {
		p.do("/join #lab")
		if l.pass(100 * time.Millisecond); i%7 == 3 {
			p.do("/part #lab")
		} else {
			names = append(names, p.name)
		}
	}
	l.pass(3 * time.Second)
	l.agree(t, "#lab", names...)
}

// "200 people at once: all in within 30 s"; and one kick more, in use at once.
func TestManyJoinAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	l := newCrowd(t, 60)
	l.nodes[0].do("/create #lab")
	begin := l.now
	for _, p := range l.nodes[1:] {
		p.core.Do(l.now, chat.Command{Line: "/join #lab"})
	}
	l.settle()
	l.pass(5 * time.Second)
	head := l.nodes[0].core.Head("#lab")
	for _, p := range l.nodes {
		if p.core.Head("#lab") != head {
			t.Errorf("%s is not in after %v, or sees it otherwise", p.name, l.now.Sub(begin))
		}
	}
	l.clear()
	l.nodes[0].do("/kick pab")
	l.pass(2 * time.Second)
	head = l.nodes[0].core.Head("#lab")
	for _, p := range l.nodes[2:] {
		if p.core.Head("#lab") != head || !p.core.CanSend("#lab") {
			t.Errorf("%s has not the kick, or not its key, after 2 s", p.name)
		}
	}
}
