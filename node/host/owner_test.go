package host_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

func renamed(from, to string) func(chat.Event) bool {
	return func(e chat.Event) bool { return e == chat.Renamed{Old: from, New: to} }
}

// device returns a further device of a person, which is not logged in.
func (l *lab) device(name, user string) *node {
	l.t.Helper()
	n := l.node(name)
	if err := os.RemoveAll(filepath.Join(l.dir, name)); err != nil { // of the one who has the name
		l.t.Fatal(err)
	}
	n.user = user
	return n
}

func (n *node) token() string {
	n.l.t.Helper()
	p, err := login.Open(filepath.Join(n.l.dir, n.name))
	if err != nil {
		n.l.t.Fatal(err)
	}
	return p.Token().Name
}

// A rename shows at once to everybody, with authd gone right after it; a
// person's other device carries it; rooms and direct messages go on.
func TestRename(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		l.inRoom("#lab", nodes)
		ann, bob, cat := nodes[0], nodes[1], nodes[2]
		phone := l.device("dan", "ann").start()
		bob.wait("ann's phone", 10*time.Second, peer("ann", "online"))
		phone.wait("everybody", 10*time.Second, peer("cat", "online"))

		ann.type_("/nick bob")
		ann.wait("a refusal", 5*time.Second, code("name_taken"))
		ann.type_("/nick anna")
		begin := ann.wait("the answer", 5*time.Second, code("renamed"))
		for _, n := range []*node{ann, bob, cat, phone} {
			if at := n.wait("the new name", 5*time.Second, renamed("ann", "anna")); at.Sub(begin) > time.Second {
				t.Errorf("%s heard of it after %v", n.name, at.Sub(begin))
			}
		}
		time.Sleep(5 * time.Second) // the phone gets its own token
		l.stopAuthd()
		ann.say("#lab", "reliable", "it is me")
		bob.wait("a message from anna", time.Second, func(e chat.Event) bool {
			m, ok := e.(chat.Message)
			return ok && m.Chat == "#lab" && m.From == "anna" && m.Text == "it is me"
		})
		bob.say("@anna", "reliable", "hi anna")
		ann.wait("hi", time.Second, message("@bob", "hi anna"))
		bob.say("@ann", "reliable", "hi ann")
		bob.wait("where ann is", time.Second, func(e chat.Event) bool {
			x, ok := e.(chat.Error)
			return ok && x.Code == "no_such_user" && strings.Contains(x.Text, "anna")
		})

		// A restart of either changes nothing.
		bob.stop()
		bob.mark()
		bob.start()
		bob.wait("anna (was ann)", 10*time.Second, func(e chat.Event) bool {
			p, ok := e.(chat.Peer)
			return ok && p.User == "anna" && p.Was == "ann" && p.State == "online"
		})
		if bob.count(renamed("ann", "anna")) != 0 {
			t.Error("bob is told again after a restart")
		}
		for _, n := range []*node{ann, phone} {
			n.stop()
			if got := n.token(); got != "anna" {
				t.Errorf("%s has the token of %s", n.name, got)
			}
		}
	})
}

// Without authd nothing of it can be done, which is said at once.
func TestOwnerWithoutAuthd(t *testing.T) {
	run(t, func(l *lab) {
		ann := l.together("ann", "bob")[0]
		l.stopAuthd()
		ann.wait("that authd is away", 20*time.Second, authdIs("down"))
		for _, line := range []string{"/nick anna", "/sessions", "/sessions revoke 0123456789abcdef"} {
			ann.mark()
			ann.type_(line)
			ann.wait(line, time.Second, code("authd_away"))
		}
		ann.mark()
		ann.do(chat.Command{Passwd: &chat.Passwd{Present: password, New: "another-otter-plinth"}})
		ann.wait("passwd", time.Second, code("authd_away"))
		ann.say("@bob", "reliable", "the chat goes on")
		ann.wait("a receipt", time.Second, receipt("@bob", "bob"))
	})
}

// A changed password signs out the other devices: their connections end, and
// everybody sees them go, within seconds.
func TestSignOutOthers(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		ann, bob := nodes[0], nodes[1]
		phone := l.device("dan", "ann").start()
		phone.wait("bob", 10*time.Second, peer("bob", "online"))
		phone.wait("authd", 10*time.Second, authdIs("up"))
		change := func(present, next string) {
			ann.mark()
			ann.do(chat.Command{Passwd: &chat.Passwd{Present: present, New: next, SignOut: true}})
		}
		change("wrong", "another-otter-plinth")
		ann.wait("a refusal", 10*time.Second, code("bad_credentials"))
		change(password, "short")
		ann.wait("a refusal", 10*time.Second, code("weak_password"))
		bob.mark()
		change(password, "another-otter-plinth")
		begin := ann.wait("the answer", 10*time.Second, code("password_changed"))
		at := bob.wait("ann's phone to go", 5*time.Second, func(e chat.Event) bool {
			p, ok := e.(chat.Peer)
			return ok && p.User == "ann" && p.State == "left" && p.Cause == "revoked"
		})
		if at.Sub(begin) > 5*time.Second {
			t.Errorf("bob saw it after %v", at.Sub(begin))
		}
		bob.say("@ann", "reliable", "still there?")
		ann.wait("a message", 5*time.Second, message("@bob", "still there?"))
	})
}

// A peer's new token counts if its handshake would have been accepted with it:
// another's, one cut short and one of a foreign realm change nothing.
func TestTokensOfPeers(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		ann, bob := nodes[0], nodes[1]
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		cat, err := login.Open(filepath.Join(l.dir, "cat"))
		must(err)
		tr, done := l.transport("cat's own program", ip("cat"))
		defer done()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c, control, err := hello(ctx, tr, cat.Identity, bob, wire.Hello{Version: 1, Boot: 1})
		must(err)
		defer c.CloseWithError(link.CloseGoodbye, "")
		bob.wait("cat", 5*time.Second, peer("cat", "online"))

		other, own := ann.profile.Token(), cat.Token()
		foreign, err := realm.SelfSigned(cat.Key())
		must(err)
		for _, body := range [][]byte{
			nil,
			{0, 1, 0x30, 0, 1, 0x30},
			(&wire.Token{Leaf: other.Leaf, Issuing: other.Issuing}).Append(nil),
			(&wire.Token{Leaf: own.Leaf, Issuing: own.Leaf}).Append(nil),
			(&wire.Token{Leaf: foreign.Raw, Issuing: own.Issuing}).Append(nil),
			(&wire.Token{Leaf: own.Issuing, Issuing: own.Issuing}).Append(nil),
		} {
			must(link.WriteFrame(control, wire.FrameToken, body))
		}
		must(link.WriteFrame(control, wire.FramePing, (&wire.Ping{}).Append(nil)))
		for typ := uint8(0); typ != wire.FramePong; { // what came before it was judged
			var err error
			typ, _, err = link.ReadFrame(control)
			must(err)
		}
		if got := len(bob.logged("a peer's new token is left out")); got != 6 {
			t.Errorf("%d tokens were refused, want 6:\n%s", got, strings.Join(bob.logged("token"), ""))
		}
		bob.type_("/whois cat", "/whois ann")
		bob.wait("cat as before", time.Second, func(e chat.Event) bool {
			n, ok := e.(chat.Notice)
			return ok && n.Code == "whois" && strings.HasPrefix(n.Text, "cat (account "+own.Account.String()) && strings.Count(n.Text, "device") == 1
		})
		bob.wait("ann as before", time.Second, func(e chat.Event) bool {
			n, ok := e.(chat.Notice)
			return ok && n.Code == "whois" && strings.HasPrefix(n.Text, "ann (account ") && strings.Count(n.Text, "device") == 1
		})
	})
}
