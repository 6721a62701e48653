package host_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lanchat/authd/account"
	"lanchat/authd/server"
	authdstore "lanchat/authd/store"
	"lanchat/node/chat"
	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

func left(user, cause string) func(chat.Event) bool {
	return func(e chat.Event) bool {
		p, ok := e.(chat.Peer)
		return ok && p.User == user && p.State == "left" && p.Cause == cause
	}
}

// "Lower CRL number pulls": a revocation reaches nodes that cannot reach authd,
// through those that can, within seconds.
func TestRevocationSpreads(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat", "dan")
		ann, bob, cat, dan := nodes[0], nodes[1], nodes[2], nodes[3]
		for _, n := range nodes {
			n.wait("authd", 5*time.Second, authdIs("up"))
		}
		// Only ann reaches authd; dan hears of ann by cat alone.
		for _, n := range []*node{bob, cat, dan} {
			l.net.Cut(n.host, l.authd.host)
			n.wait("no authd", 20*time.Second, authdIs("down"))
		}
		l.net.Cut(ann.host, dan.host)
		dan.wait("ann is lost", 30*time.Second, peer("ann", "lost"))
		for _, n := range nodes {
			n.mark()
		}

		begin := time.Now()
		l.authd.revoke(bob)
		for _, n := range []*node{ann, cat, dan} {
			if took := n.wait("bob is revoked", 10*time.Second, left("bob", "revoked")).Sub(begin); took > 5*time.Second {
				t.Errorf("%s hears of it after %v", n.name, took)
			}
		}
		bob.wait("that it is bob who is revoked", 5*time.Second, code("revoked"))

		// It stays so, also after a restart without authd, and for who was away.
		time.Sleep(time.Minute)
		cat.stop()
		cat.mark()
		cat.start()
		cat.wait("dan", 10*time.Second, peer("dan", "online"))
		time.Sleep(time.Minute)
		for _, n := range []*node{ann, cat, dan} {
			if n.count(peer("bob", "online")) != 0 {
				t.Errorf("%s is linked with bob again:\n%s", n.name, n.log())
			}
			if k := n.count(left("bob", "revoked")); k > 1 {
				t.Errorf("%s was told %d times that bob is revoked", n.name, k)
			}
		}
	})
}

// A device that holds the list which names it says so without authd, and lets its
// person read what is there; it says nothing to others. authd's word counts
// more than the list.
func TestStartRevoked(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		ann, bob := nodes[0], nodes[1]
		for _, n := range nodes {
			n.wait("authd", 5*time.Second, authdIs("up"))
		}
		ann.say("@bob", "reliable", "remember this")
		bob.wait("the message", 10*time.Second, message("@ann", "remember this"))
		l.authd.operate(func(st *authdstore.Store) error { return st.Disable(bob.profile.Token().Account, time.Now()) })
		ann.wait("bob is shut out", 10*time.Second, left("bob", "revoked"))
		bob.stop()
		list := ann.profile.Verifier().CRL()
		if _, err := bob.profile.SetCRL(list.Issuing, list.DER); err != nil {
			t.Fatal(err) // its disk has the list for sure now
		}
		l.stopAuthd()

		bob.own = true
		bob.mark()
		bob.start()
		bob.wait("that it is shut out", 5*time.Second, code("revoked"))
		bob.type_("/history @ann")
		bob.wait("the history", 5*time.Second, func(e chat.Event) bool {
			n, ok := e.(chat.Notice)
			return ok && strings.Contains(n.Text, "remember this")
		})
		bob.say("@ann", "reliable", "still here?")
		bob.wait("that nothing is said", 5*time.Second, code("not_authenticated"))
		bob.stop()

		bob.own, bob.patience = false, 10*time.Second
		bob.mark()
		bob.start()
		bob.wait("that it is shut out", 5*time.Second, code("revoked"))
		bob.cancel = nil // it ends by itself
		if refused, ok := errors.AsType[*login.RefusedError](<-bob.ended); !ok || refused.Code != wire.CodeRevoked {
			t.Errorf("got %v, want it to end since it is revoked", refused)
		}

		l.authd.operate(func(st *authdstore.Store) error { return st.Enable(bob.profile.Token().Account) })
		l.authd.start()
		bob.mark()
		bob.start()
		bob.wait("that it is let in again", 10*time.Second, func(e chat.Event) bool { return e.Name() == "ready" })
	})
}

// "A disabled account's devices are out of every room's keys within 5 s of the
// operator's command", with the admin there and with somebody standing in.
func TestDisabledIsOutOfEveryRoom(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat", "dan")
		ann, cat, dan := nodes[0], nodes[2], nodes[3]
		l.inRoom("#lab", nodes[:3])
		l.inRoom("#den", []*node{dan, nodes[1], cat})
		dan.stop() // and cat stands in
		ann.mark()
		cat.mark()
		begin := time.Now()
		l.authd.operate(func(st *authdstore.Store) error { return st.Disable(nodes[1].profile.Token().Account, begin) })
		for _, n := range []*node{ann, cat} {
			for _, room := range map[*node][]string{ann: {"#lab"}, cat: {"#lab", "#den"}}[n] {
				if took := n.wait("another key of "+room, 20*time.Second, rekeyed(room)).Sub(begin); took > 5*time.Second {
					t.Errorf("%s has another key of %s after %v, want 5 s at most", n.name, room, took)
				}
			}
		}
	})
}

func rekeyed(inChat string) func(chat.Event) bool {
	return func(e chat.Event) bool {
		r, ok := e.(chat.Room)
		return ok && r.Chat == inChat && r.Cause == "rekeyed"
	}
}

// A lister is a device of the realm that offers revocation lists of its own
// making.
type lister struct {
	number uint64 // that its Hello names
	answer *wire.CRL
}

// link connects the lister with a node under the name of a person of the
// realm, and answers when it is asked for its list. It returns after a while,
// with how often it was asked.
func (q lister) link(l *lab, name string, to *node) (asked int) {
	l.t.Helper()
	must := func(err error) {
		l.t.Helper()
		if err != nil {
			l.t.Fatal(err)
		}
	}
	p, err := login.Open(filepath.Join(l.dir, name))
	must(err)
	tr, done := l.transport(name+" as lister", ip(name))
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, control, err := hello(ctx, tr, p.Identity, to, wire.Hello{Version: 1, Boot: 1, CRLNumber: q.number})
	must(err)
	defer c.CloseWithError(link.CloseGoodbye, "")
	for {
		s, err := c.AcceptStream(ctx)
		if err != nil {
			return asked
		}
		s.ReleaseStreamCredit()
		typ, _, err := link.ReadFrame(s)
		must(err)
		if typ == wire.FrameAskCRL {
			asked++
			if q.answer != nil {
				must(link.WriteFrame(s, wire.FrameCRL, q.answer.Append(nil)))
			}
			again := wire.NewCRL{Number: math.MaxInt64} // nothing may come of it
			must(link.WriteFrame(control, wire.FrameNewCRL, again.Append(nil)))
		}
		s.Close()
	}
}

// A list counts by authd's signature and its number: what a member makes up is
// ignored and counted, and it is not asked again.
func TestListsOfPeers(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		ann, bob := nodes[0], nodes[1]
		ann.wait("authd", 5*time.Second, authdIs("up"))
		time.Sleep(5 * time.Second)
		held := ann.profile.Verifier().CRL()
		root, err := realm.NewRoot(rand.Reader, "another realm", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		issuing, err := root.IssueCA(rand.Reader, time.Now(), 0)
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := issuing.RevocationList(held.Number+100, []realm.Revoked{{Serial: bob.profile.Token().Serial, At: time.Now()}}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		bad := 0
		for _, tt := range []struct {
			name   string
			number uint64
			answer *wire.CRL
			asked  int
		}{
			{"an older one", held.Number - 1, nil, 0},
			{"the same", held.Number, nil, 0},
			{"nothing", held.Number + 1, nil, 1},
			{"the one held", held.Number + 1, &wire.CRL{Issuing: held.Issuing, List: held.DER}, 1},
			{"no list", math.MaxUint64, &wire.CRL{Issuing: held.Issuing, List: []byte("list")}, 1},
			{"one of another realm", held.Number + 100, &wire.CRL{Issuing: issuing.Cert.Raw, List: foreign}, 1},
			{"one of another realm under our issuer", held.Number + 100, &wire.CRL{Issuing: held.Issuing, List: foreign}, 1},
		} {
			bad += tt.asked
			if asked := (lister{tt.number, tt.answer}).link(l, "cat", ann); asked != tt.asked {
				t.Errorf("%s: asked for the list %d times, want %d", tt.name, asked, tt.asked)
			}
			if got := ann.profile.Verifier().CRL(); got.Number != held.Number {
				t.Errorf("%s: list %d is in force, want %d", tt.name, got.Number, held.Number)
			}
			if got := len(ann.logged("does not have the revocation list")); got != bad {
				t.Errorf("%s: counted %d bad lists, want %d", tt.name, got, bad)
			}
		}
		ann.say("@bob", "reliable", "still there?")
		bob.wait("the message", time.Second, message("@ann", "still there?"))
	})
}

// authdAt is the news that an authd answers at an address.
func authdAt(state string, a *authd) func(chat.Event) bool {
	return func(e chat.Event) bool {
		n, ok := e.(chat.Authd)
		return ok && n.State == state && n.Addr == fmt.Sprintf("%s:%d", a.addr, a.port)
	}
}

// "authd's address or port changed": nodes find it by themselves, though the
// address they remember is dead.
func TestAuthdMoves(t *testing.T) {
	run(t, func(l *lab) {
		ann := l.node("ann")
		ann.look = true
		ann.start()
		ann.wait("authd", 5*time.Second, authdIs("up"))
		for _, tt := range []struct {
			name string
			move func()
		}{
			{"another port", func() { l.authd.port = 5000 }},
			{"another address", func() {
				l.authd.addr = "10.77.0.200"
				l.authd.host.SetAddrs("eth0", "10.77.0.200/24")
			}},
		} {
			ann.mark()
			l.authd.halt()
			ann.wait(tt.name+": authd is away", 2*time.Second, authdIs("down"))
			time.Sleep(time.Minute)
			tt.move()
			l.authd.start()
			ann.wait(tt.name+": authd is back", 5*time.Second, authdAt("up", l.authd))
			ann.wait(tt.name+": elsewhere", time.Second, authdAt("changed", l.authd))
			time.Sleep(time.Minute)
			if k := ann.count(func(e chat.Event) bool { return e.Name() == "authd" }); k != 3 {
				t.Errorf("%s: %d lines about authd, want down, up, changed:\n%s", tt.name, k, ann.log())
			}
		}
		// And while the node was off.
		ann.stop()
		ann.mark()
		l.authd.halt()
		l.authd.port = 6000
		l.authd.start()
		ann.start()
		ann.wait("authd where it was never seen", 5*time.Second, authdAt("up", l.authd))
	})
}

// copyAuthd returns another machine that serves the same realm, from what an
// operator's backup holds: with the same keys, and from then on on its own.
func (l *lab) copyAuthd(name, addr string) *authd {
	l.t.Helper()
	a := l.newAuthd(name, addr)
	if err := os.CopyFS(a.dir, os.DirFS(l.authd.dir)); err != nil {
		l.t.Fatal(err)
	}
	closeDirs(l.t, a.dir)
	return a
}

// "Several authd with the right key": nodes accept them all, prefer the last
// good one, and move to another within seconds when one dies.
func TestSeveralAuthds(t *testing.T) {
	run(t, func(l *lab) {
		l.authd.halt()
		second := l.copyAuthd("second authd", "10.77.0.101")
		if err := os.Remove(filepath.Join(second.dir, "authd.pem")); err != nil {
			t.Fatal(err)
		}
		l.authd.start()
		second.start()
		ann, bob := l.node("ann"), l.node("bob")
		for _, n := range []*node{ann, bob} {
			n.look = true
			n.start()
			n.wait("the authd of last time", 5*time.Second, authdAt("up", l.authd))
			n.mark()
		}
		time.Sleep(time.Minute)

		begin := time.Now()
		l.authd.halt()
		for _, n := range []*node{ann, bob} {
			if took := n.wait("the other authd", 30*time.Second, authdAt("changed", second)).Sub(begin); took > 3*time.Second {
				t.Errorf("%s finds the other authd after %v", n.name, took)
			}
		}
		l.authd.start()
		time.Sleep(time.Minute)
		for _, n := range []*node{ann, bob} {
			if k := n.count(func(e chat.Event) bool { return e.Name() == "authd" }); k != 1 {
				t.Errorf("%s: %d lines about authd, want one:\n%s", n.name, k, n.log())
			}
			n.mark()
		}
		// It dies without a word.
		for _, n := range []*node{ann, bob} {
			l.net.Cut(n.host, second.host)
			if took := n.wait("the first authd again", 30*time.Second, authdAt("changed", l.authd)).Sub(begin); took > 90*time.Second {
				t.Errorf("%s finds the first authd after %v", n.name, took)
			}
			l.net.Mend(n.host, second.host)
		}
	})
}

// Two that have the same authd.pem, too, look like one that is in two places:
// they are told apart more slowly, and do no other harm.
func TestAuthdsOfOneKey(t *testing.T) {
	run(t, func(l *lab) {
		l.authd.halt()
		second := l.copyAuthd("second authd", "10.77.0.101")
		l.authd.start()
		second.start()
		ann := l.node("ann")
		ann.look = true
		ann.start()
		ann.wait("the authd of last time", 5*time.Second, authdAt("up", l.authd))
		time.Sleep(time.Minute)
		ann.mark()
		begin := time.Now()
		l.authd.halt()
		if took := ann.wait("the other authd", 30*time.Second, authdAt("changed", second)).Sub(begin); took > 10*time.Second {
			t.Errorf("the other authd is found after %v", took)
		}
	})
}

// "authd restored from an old backup": accounts that it does not know come
// back by their tokens, under another name if somebody has taken theirs, and
// the number of the revocation list does not fall.
func TestOldBackup(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		ann, bob := nodes[0], nodes[1]
		for _, n := range nodes {
			n.wait("authd", 5*time.Second, authdIs("up"))
		}
		time.Sleep(10 * time.Second)
		before := ann.profile.Verifier().CRL().Number
		l.authd.halt()
		for _, n := range nodes {
			n.wait("no authd", 5*time.Second, authdIs("down"))
			n.mark()
		}
		// As it was before anybody had registered.
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(filepath.Join(l.authd.dir, "authd.db"+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		l.authd.operate(func(st *authdstore.Store) error {
			return st.Add(account.Account{ID: wire.AccountID{9}, Name: "dan", NameSeq: 1, Created: time.Now()})
		})
		l.authd.start()
		for _, n := range nodes {
			n.wait("authd again", 10*time.Second, authdIs("up"))
		}
		dan := l.node("dan").start()
		dan.wait("authd", 10*time.Second, authdIs("up"))
		renamed := func(e chat.Event) bool {
			r, ok := e.(chat.Renamed)
			return ok && r.Old == "dan" && strings.HasPrefix(r.New, "dan-")
		}
		dan.wait("the new name", 10*time.Second, renamed)

		// They renew when their tokens are a day old, and are on record.
		for _, n := range []*node{ann, bob, dan} {
			n.stop()
		}
		time.Sleep(24 * time.Hour)
		for _, n := range []*node{ann, bob, dan} {
			n.start()
		}
		time.Sleep(11 * time.Minute)
		for _, n := range []*node{ann, bob, dan} {
			if n.asked != 0 || n.count(isError) != 0 {
				t.Errorf("%s had trouble:\n%s", n.name, n.log())
			}
			if age := time.Since(n.profile.Token().NotBefore); age > 26*time.Hour {
				t.Errorf("the token of %s is %v old", n.name, age)
			}
		}
		l.authd.operate(func(st *authdstore.Store) error {
			all, err := st.List()
			if len(all) != 4 {
				t.Errorf("on record are %v", all)
			}
			return err
		})
		if now := ann.profile.Verifier().CRL().Number; now <= before {
			t.Errorf("the number of the revocation list went from %d to %d", before, now)
		}
	})
}

func notice(code, text string) func(chat.Event) bool {
	return func(e chat.Event) bool {
		switch e := e.(type) {
		case chat.Notice:
			return e.Code == code && strings.Contains(e.Text, text)
		case chat.Error:
			return e.Code == code && strings.Contains(e.Text, text)
		}
		return false
	}
}

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// "authd may be down ≥ 29 days": the chat goes on with the tokens there are.
// Then they end, which is said beforehand, and authd renews them by the device
// key alone, up to 90 days later.
func TestAuthdAwayForWeeks(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		l.inRoom("#lab", nodes)
		ann, bob := nodes[0], nodes[1]
		both := func(what string, f func(n, other *node)) {
			t.Helper()
			for _, n := range nodes {
				n.mark()
			}
			f(ann, bob)
			f(bob, ann)
		}
		l.authd.halt()
		l.pause(29*day, nodes)
		both("29 days", func(n, other *node) {
			n.wait(other.name, 10*time.Second, peer(other.name, "online"))
			n.wait("no authd", 10*time.Second, authdIs("down"))
			n.wait("the warning", 2*time.Minute, notice("token_ends", "your token is good until 31 Jan 2000 00:00"))
		})
		ann.say("#lab", "reliable", "still here")
		bob.wait("still here", time.Second, message("#lab", "still here"))
		bob.say("@ann", "reliable", "me too")
		ann.wait("me too", time.Second, message("@bob", "me too"))

		// While they run: the links end with the tokens, and new ones are refused.
		l.pause(day-10*time.Minute, nodes)
		both("the last minutes", func(n, other *node) {
			n.wait(other.name, 10*time.Second, peer(other.name, "online"))
		})
		time.Sleep(30 * time.Minute)
		both("after them", func(n, other *node) {})
		for _, n := range nodes {
			n.marked = 0
			n.wait("that the token has ended", time.Minute, notice("token_expired", "without a password"))
		}
		ann.wait("that bob's has", time.Minute, notice("peer_expired", "the token of bob ended on 31 Jan 2000 00:00"))
		ann.wait("bob is gone", time.Minute, left("bob", "expired"))
		ann.mark()
		ann.say("@bob", "reliable", "when you are back")

		// authd comes back: nobody is asked for a password.
		l.authd.start()
		both("authd is back", func(n, other *node) {
			n.wait("authd", 10*time.Second, authdIs("up"))
			n.wait(other.name, time.Minute, peer(other.name, "online"))
		})
		bob.wait("what was said meanwhile", time.Minute, message("@ann", "when you are back"))

		// 90 days after the end is just in time; authd demands a log-in after that.
		for _, n := range nodes {
			n.stop()
		}
		l.authd.halt()
		time.Sleep(30*day + 89*day)
		l.authd.start()
		ann.mark()
		ann.start()
		ann.wait("authd", 10*time.Second, authdIs("up"))
		ann.stop()
		l.authd.halt()
		time.Sleep(2 * day)
		l.authd.start()
		bob.mark()
		bob.start()
		bob.wait("authd", 10*time.Second, authdIs("up"))
		if ann.asked != 0 || bob.asked != 1 {
			t.Errorf("asked for a password: ann %d times, want none; bob %d, want once", ann.asked, bob.asked)
		}
	})
}

// Who has set outage_grace goes on, after the tokens' end, with others that have
// set it: those who have not take no links from them.
func TestOutageGrace(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "carol")
		ann, bob, carol := nodes[0], nodes[1], nodes[2]
		l.inRoom("#lab", nodes)
		for _, n := range []*node{ann, bob} {
			n.type_("/set outage_grace 7d")
			n.wait("the setting", time.Second, notice("set", "outage_grace is 7d"))
		}
		l.authd.halt()
		carol.asked = 0
		for _, n := range nodes {
			n.stop()
		}
		nodes = nodes[:2] // carol has no token to start with, and waits for authd
		l.pause(33*day, nodes)
		for i, n := range nodes {
			other := nodes[1-i]
			n.wait(other.name, 10*time.Second, peer(other.name, "online"))
			n.wait("what is so", 2*time.Minute, notice("token_expired", "outage_grace lets this device go on until 7 Feb 2000 00:00"))
		}
		ann.say("#lab", "reliable", "nobody looks after authd")
		bob.wait("the room", 5*time.Second, message("#lab", "nobody looks after authd"))
		bob.say("@ann", "reliable", "so it seems")
		ann.wait("directly", 5*time.Second, message("@bob", "so it seems"))
		if ann.asked+bob.asked != 0 {
			t.Error("they were asked for a password")
		}

		// Without it on one side there is no link; with it there is again.
		bob.mark()
		bob.type_("/set outage_grace 0")
		bob.wait("ann is gone", 2*time.Minute, left("ann", "expired"))
		bob.wait("why", time.Minute, notice("peer_expired", "the token of ann ended on 31 Jan 2000 00:00"))
		bob.mark()
		bob.type_("/set outage_grace 30d")
		bob.wait("ann again", 2*time.Minute, peer("ann", "online"))

		// It ends: ann's does, and so there is no link.
		l.pause(5*day, nodes)
		bob.wait("that the token has ended", 2*time.Minute, notice("token_expired", "outage_grace lets this device go on until 1 Mar 2000 00:00"))
		time.Sleep(time.Minute)
		if bob.count(peer("ann", "online")) != 0 {
			t.Error("a link after ann's grace has ended")
		}

		// authd is back: without a password all is as before.
		l.authd.start()
		nodes = append(nodes, carol.start())
		for _, n := range nodes {
			n.wait("authd", 20*time.Second, authdIs("up"))
		}
		for i, n := range nodes {
			for j, other := range nodes {
				if i != j {
					n.wait(other.name, time.Minute, peer(other.name, "online"))
				}
			}
		}
		if ann.asked+bob.asked+carol.asked != 0 {
			t.Error("somebody was asked for a password")
		}
	})
}

// A clock that is wrong, here or at authd, is spoken of, and locks nobody out
// once it is right again.
func TestWrongClocks(t *testing.T) {
	t.Run("of a node", func(t *testing.T) {
		run(t, func(l *lab) {
			ann := l.together("ann")[0]
			bob := l.node("bob")
			for _, tt := range []struct {
				ahead time.Duration
				says  string
			}{
				{3 * day, "your clock is 3 days ahead of the server"},
				{-2 * year, "your clock is 2 years behind the server"},
				{-5 * time.Minute, "your clock is 5 minutes behind the server"},
			} {
				bob.clock.set(tt.ahead)
				ann.mark()
				bob.mark()
				bob.start()
				bob.wait(tt.says, 30*time.Second, notice("clock", tt.says))
				bob.wait("ann", 10*time.Second, peer("ann", "online"))
				ann.wait("bob", 10*time.Second, peer("bob", "online"))
				time.Sleep(2 * time.Minute)
				if k := bob.count(notice("clock", "")); k != 1 {
					t.Errorf("%v ahead: said %d times", tt.ahead, k)
				}
				bob.stop()
			}

			// So far ahead that authd's certificate seems to have ended: nothing of
			// authd is believed, and both times are named.
			bob.clock.set(2 * year)
			bob.mark()
			bob.start()
			bob.wait("both times", 10*time.Second, notice("clock", "and authd's certificate holds from 31 Dec 1999"))
			bob.clock.set(0)
			bob.wait("ann", 20*time.Second, peer("ann", "online"))

			// Set while it runs.
			for _, ahead := range []time.Duration{2 * year, -2 * year, 0} {
				bob.clock.set(ahead)
				time.Sleep(30 * time.Second)
				bob.mark()
				ann.say("@bob", "reliable", fmt.Sprint("by then ", ahead))
				bob.wait("a message", 5*time.Second, message("@ann", fmt.Sprint("by then ", ahead)))
			}
			if bob.asked != 0 {
				t.Errorf("bob was asked for a password %d times", bob.asked)
			}
		})
	})
	t.Run("of authd", func(t *testing.T) {
		run(t, func(l *lab) {
			nodes := l.together("ann", "bob")
			for _, n := range nodes {
				n.wait("authd", 5*time.Second, authdIs("up"))
				n.mark()
			}
			// Three days ahead while it runs: it renews tokens that are not valid
			// yet, and takes them for others once its clock is right.
			l.authd.clock.set(3 * day)
			for _, n := range nodes {
				n.wait("the difference", 10*time.Second, notice("clock", "your clock is 3 days behind the server"))
			}
			for _, n := range nodes {
				n.stop()
				n.start()
			}
			time.Sleep(11 * time.Minute) // longer than renewals are spread
			for _, n := range nodes {
				if ahead := time.Until(n.profile.Token().NotBefore); ahead < 2*day {
					t.Fatalf("the token of %s begins in %v, want one from the future", n.name, ahead)
				}
				n.mark()
			}
			l.authd.clock.set(0)
			time.Sleep(time.Minute)
			for _, n := range nodes {
				if ahead := time.Until(n.profile.Token().NotBefore); ahead > 0 {
					t.Errorf("the token of %s still begins in %v", n.name, ahead)
				}
			}

			// Two years ahead at its start.
			l.authd.halt()
			l.authd.clock.set(2 * year)
			for _, n := range nodes {
				n.wait("no authd", 10*time.Second, authdIs("down"))
				n.mark()
			}
			l.authd.start()
			for _, n := range nodes {
				n.wait("both times", 10*time.Second, notice("clock", "and authd's certificate holds from 31 Dec 2001"))
			}
			nodes[0].say("@bob", "reliable", "the chat goes on")
			nodes[1].wait("a message", 5*time.Second, message("@ann", "the chat goes on"))
			l.authd.clock.set(0)
			for _, n := range nodes {
				n.wait("authd", 20*time.Second, authdIs("up"))
			}

			// And everybody still takes everybody's token.
			for _, n := range nodes {
				n.stop()
				n.mark()
				n.start()
			}
			for i, n := range nodes {
				n.wait("the other", 10*time.Second, peer(nodes[1-i].name, "online"))
				if n.asked != 0 {
					t.Errorf("%s was asked for a password", n.name)
				}
			}
		})
	})
}

// A stolen data directory, used on another machine beside its owner's, is found
// out, and once the device is revoked nobody talks to either.
func TestStolenProfile(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		ann, bob, cat := nodes[0], nodes[1], nodes[2]
		for _, n := range nodes {
			n.wait("authd", 5*time.Second, authdIs("up"))
		}
		// On the machine that stands for dan's, started later.
		time.Sleep(5 * time.Second)
		thief := l.node("dan")
		if err := os.RemoveAll(filepath.Join(l.dir, "dan")); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(l.dir, "dan"), os.DirFS(filepath.Join(l.dir, "ann"))); err != nil {
			t.Fatal(err)
		}
		closeDirs(t, filepath.Join(l.dir, "dan"))
		thief.start()
		ann.wait("the alarm", 20*time.Second, code("cloned"))

		for _, n := range nodes {
			n.mark()
		}
		begin := time.Now()
		l.authd.revoke(ann)
		for _, n := range []*node{bob, cat} {
			if took := n.wait("ann is revoked", 10*time.Second, left("ann", "revoked")).Sub(begin); took > 5*time.Second {
				t.Errorf("%s hears of it after %v", n.name, took)
			}
			n.mark()
		}
		for _, n := range []*node{ann, thief} {
			n.wait("that it is revoked", 30*time.Second, code("revoked"))
		}
		time.Sleep(time.Minute)
		for _, n := range []*node{ann, thief} { // authd has said it by now
			n.say("@bob", "reliable", "anybody?")
			n.wait("that nobody would hear it", time.Second, code("not_authenticated"))
		}
		for _, n := range []*node{bob, cat} {
			if n.count(peer("ann", "online")) != 0 {
				t.Errorf("%s is linked with ann's device again:\n%s", n.name, n.log())
			}
		}
	})
}

// Who shows a node anything but a token of the realm that is in force, with its
// key, is refused and never shown as online.
func TestImpostors(t *testing.T) {
	run(t, func(l *lab) {
		ann := l.together("ann")[0]
		ann.wait("authd", 5*time.Second, authdIs("up"))
		issuing := readCA(t, filepath.Join(l.authd.dir, "issuing.pem"))
		authdCert := readCA(t, filepath.Join(l.authd.dir, "authd.pem"))
		foreignRoot, err := realm.NewRoot(rand.Reader, "test realm", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := foreignRoot.IssueCA(rand.Reader, time.Now(), 0)
		if err != nil {
			t.Fatal(err)
		}
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		token := func(ca *realm.CA, from, until time.Duration) []*x509.Certificate {
			leaf, err := ca.IssueToken(rand.Reader, realm.Grant{Account: wire.AccountID{7}, Key: wire.KeyOf(key.Public().(ed25519.PublicKey)),
				Name: "mallory", NameSeq: 1, From: time.Now().Add(from), NotAfter: time.Now().Add(until)})
			if err != nil {
				t.Fatal(err)
			}
			return []*x509.Certificate{leaf, ca.Cert}
		}
		bobs, err := login.Open(filepath.Join(l.dir, "bob"))
		if err != nil {
			t.Fatal(err)
		}
		stolen, err := bobs.Identity()
		if err != nil {
			t.Fatal(err)
		}
		selfSigned, err := realm.SelfSigned(key)
		if err != nil {
			t.Fatal(err)
		}
		tr, done := l.transport("mallory", "10.77.0.66")
		defer done()
		dial := func(id link.Identity) error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			c, control, err := hello(ctx, tr, id, ann, wire.Hello{Version: 1, Boot: 1})
			if err != nil {
				return err
			}
			defer c.CloseWithError(link.CloseGoodbye, "")
			control.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, _, err = link.ReadFrame(control)
			return err
		}
		for name, id := range map[string]link.Identity{
			"a foreign realm of the same name": link.Fixed(key, token(foreign, 0, day)...),
			"expired":                          link.Fixed(key, token(issuing, -2*time.Hour, -time.Hour)...),
			"not yet valid":                    link.Fixed(key, token(issuing, time.Hour, day)...),
			"an issuing CA":                    link.Fixed(issuing.Key, issuing.Cert),
			"authd":                            link.Fixed(authdCert.Key, authdCert.Cert),
			"no token":                         link.Fixed(key, selfSigned),
			"a copied token without its key": func() (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: stolen.Certificate, PrivateKey: key}, nil
			},
		} {
			if err := dial(id); err == nil {
				t.Errorf("%s: ann says hello", name)
			}
		}
		time.Sleep(time.Minute)
		if k := ann.count(func(e chat.Event) bool { return e.Name() == "peer" }); k != 0 {
			t.Errorf("ann was shown somebody:\n%s", ann.log())
		}
		if err := dial(link.Fixed(key, token(issuing, 0, day)...)); err != nil {
			t.Errorf("a token of the realm: %v", err)
		}
		ann.wait("who has one", time.Second, peer("mallory", "online"))
	})
}

// readCA reads a certificate and its key as authd keeps them.
func readCA(t *testing.T, path string) *realm.CA {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	certBlock, rest := pem.Decode(b)
	keyBlock, _ := pem.Decode(rest)
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := server.ReadRealm(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	return &realm.CA{Realm: r.ID, Cert: cert, Key: key.(ed25519.PrivateKey)}
}
