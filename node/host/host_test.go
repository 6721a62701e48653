package host_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lanchat/discovery/memnet"
	"lanchat/node/chat"
	"lanchat/node/host"
	"lanchat/node/login"
	"lanchat/wire/realm"
)

func receipt(inChat, by string) func(chat.Event) bool {
	return func(e chat.Event) bool {
		r, ok := e.(chat.Receipt)
		return ok && r.Chat == inChat && r.By == by
	}
}

func isError(e chat.Event) bool { return e.Name() == "error" }

// once checks that a node was shown a text exactly once.
func (n *node) once(inChat, text string) {
	n.l.t.Helper()
	if k := n.count(message(inChat, text)); k != 1 {
		n.l.t.Errorf("%s was shown %q in %s %d times", n.name, text, inChat, k)
	}
}

// Rooms and direct messages in both modes, with receipts.
func TestConversation(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		l.inRoom("#lab", nodes)
		ann, bob, cat := nodes[0], nodes[1], nodes[2]
		for _, mode := range []string{"reliable", "fast"} {
			text := "hello, " + mode
			ann.say("#lab", mode, text)
			bob.say("@ann", mode, text)
			for _, n := range []*node{bob, cat} {
				n.wait(text, time.Second, message("#lab", text))
			}
			ann.wait(text, time.Second, message("@bob", text))
		}
		ann.wait("receipts of both", time.Second, func(e chat.Event) bool {
			r, ok := e.(chat.Receipt)
			return ok && r.Chat == "#lab" && r.Got == 2 && r.Of == 2
		})
		bob.wait("a receipt", time.Second, receipt("@ann", "ann"))
		time.Sleep(time.Minute)
		for _, text := range []string{"hello, reliable", "hello, fast"} {
			bob.once("#lab", text)
			cat.once("#lab", text)
			ann.once("@bob", text)
			if k := ann.count(message("#lab", text)) + bob.count(message("@ann", text)) + cat.count(message("@bob", text)); k != 0 {
				t.Errorf("%q was shown %d times to people it was not for", text, k)
			}
		}
		if k := ann.count(func(e chat.Event) bool { return e.Name() == "receipt" }); k != 2 {
			t.Errorf("%d receipts for one reliable message with two readers", k)
		}
		for _, n := range nodes {
			if k := n.count(isError); k != 0 {
				t.Errorf("%s saw errors:\n%s", n.name, n.log())
			}
		}
	})
}

// Where nobody is asked, what is typed is read from the start: /quit and the
// end of the input end a node that is still looking for authd, the latter once
// that had time to come.
func TestEndOfInputWithoutAuthd(t *testing.T) {
	say := chat.Command{Say: true, Chat: "#lab", Text: "hi", Ref: "r1"}
	for _, tt := range []struct {
		name  string
		piped []chat.Command
		comes time.Duration // authd; 0: it does not
		after time.Duration // the node ends
		want  error
	}{
		{"quit", []chat.Command{{Line: "/q"}}, 0, 0, nil},
		{"quit behind a message", []chat.Command{say, {Line: "/quit"}}, 0, 0, nil},
		{"the end", []chat.Command{}, 0, 10 * time.Second, host.ErrNoAuthd},
		{"the end behind a message", []chat.Command{say}, 0, 10 * time.Second, host.ErrNoAuthd},
		{"authd comes", []chat.Command{say}, 5 * time.Second, 5 * time.Second, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(l *lab) {
				l.stopAuthd()
				if err := os.RemoveAll(filepath.Join(l.dir, "dan")); err != nil {
					t.Fatal(err)
				}
				dan := l.node("dan")
				dan.piped = tt.piped
				begin := time.Now()
				dan.start()
				dan.cancel = nil // it ends by itself
				if tt.comes > 0 {
					time.Sleep(tt.comes)
					l.authd.start()
				}
				err := <-dan.ended
				if took := time.Since(begin); !errors.Is(err, tt.want) || took < tt.after || took > tt.after+4*time.Second {
					t.Errorf("ended after %v with %v, want %v with %v", took, err, tt.after, tt.want)
				}
				if tt.comes > 0 {
					dan.wait("the answer to what was piped", time.Second, func(e chat.Event) bool { x, ok := e.(chat.Error); return ok && x.Ref == "r1" })
				}
			})
		})
	}
}

// "authd may be switched off afterwards; the chat goes on."
func TestAuthdAway(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		l.inRoom("#lab", nodes)
		ann, bob := nodes[0], nodes[1]
		for _, n := range nodes {
			n.wait("authd", 5*time.Second, authdIs("up"))
			n.mark()
		}
		l.stopAuthd()
		for _, n := range nodes {
			n.wait("no authd", time.Second, authdIs("down"))
		}
		time.Sleep(time.Minute)
		ann.say("#lab", "reliable", "still here")
		bob.wait("still here", time.Second, message("#lab", "still here"))
		bob.say("@ann", "reliable", "me too")
		ann.wait("me too", time.Second, message("@bob", "me too"))
		// Who has a token needs no authd to come in.
		cat := l.node("cat").start()
		ann.wait("cat", 5*time.Second, peer("cat", "online"))
		cat.wait("bob", 5*time.Second, peer("bob", "online"))
		cat.type_("/join #lab")
		cat.wait("the room", 5*time.Second, members("#lab", "ann", "bob", "cat"))
		for _, n := range nodes {
			if k := n.count(authdIs("down")); k != 1 {
				t.Errorf("%s was told %d times that authd is away", n.name, k)
			}
			n.mark()
		}
		l.startAuthd()
		for _, n := range append(nodes, cat) {
			n.wait("authd again", 5*time.Second, authdIs("up"))
		}
		if cat.asked != 0 {
			t.Error("cat was asked for a password")
		}
	})
}

// An authd that vanishes without a goodbye is missed soon, and found again.
func TestAuthdKilled(t *testing.T) {
	run(t, func(l *lab) {
		ann := l.together("ann", "bob")[0]
		ann.wait("authd", 5*time.Second, authdIs("up"))
		ann.mark()
		l.net.Cut(ann.host, l.authd.host)
		ann.wait("no authd", 15*time.Second, authdIs("down"))
		l.net.Mend(ann.host, l.authd.host)
		ann.wait("authd again", 10*time.Second, authdIs("up"))
	})
}

// "Cable to Wi-Fi, address change, 1 min suspend, adapter re-created: back within
// 5 s of the network being back; reliable messages lose nothing; nobody has to
// type anything." And "recovery after a 10 s cut within 2 s".
func TestMoving(t *testing.T) {
	eth0 := func(n *node) string { return ip(n.name) + "/24" }
	for _, tt := range []struct {
		name   string
		away   time.Duration
		leave  func(l *lab, n *node)
		back   func(l *lab, n *node)
		within time.Duration
	}{
		{"cable to Wi-Fi", 2 * time.Second,
			func(_ *lab, n *node) { n.host.Detach("eth0") },
			func(_ *lab, n *node) { n.host.Attach("wlan0", "lan", "10.77.0.77/24") }, 5 * time.Second},
		{"cable to Wi-Fi at once", 0,
			func(_ *lab, n *node) { n.host.Attach("wlan0", "lan", "10.77.0.77/24"); n.host.Detach("eth0") },
			func(*lab, *node) {}, 5 * time.Second},
		{"another address", 0,
			func(_ *lab, n *node) { n.host.SetAddrs("eth0", "10.77.0.88/24") },
			func(*lab, *node) {}, 5 * time.Second},
		{"another address after a while", time.Minute,
			func(_ *lab, n *node) { n.host.SetAddrs("eth0") },
			func(_ *lab, n *node) { n.host.SetAddrs("eth0", "10.77.0.88/24") }, 5 * time.Second},
		{"an adapter made anew", 3 * time.Second,
			func(_ *lab, n *node) { n.host.Detach("eth0") },
			func(_ *lab, n *node) { n.host.Attach("eth0", "lan", eth0(n)) }, 5 * time.Second},
		{"a minute of nothing", time.Minute,
			func(_ *lab, n *node) { n.host.SetUp("eth0", false) },
			func(_ *lab, n *node) { n.host.SetUp("eth0", true) }, 5 * time.Second},
		{"a cut of 10 s", 10 * time.Second,
			func(l *lab, n *node) {
				for _, h := range []*memnet.Host{l.nodes[1].host, l.authd.host} {
					l.net.Cut(n.host, h)
				}
			},
			func(l *lab, n *node) {
				for _, h := range []*memnet.Host{l.nodes[1].host, l.authd.host} {
					l.net.Mend(n.host, h)
				}
			}, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(l *lab) {
				nodes := l.together("ann", "bob")
				l.inRoom("#lab", nodes)
				ann, bob := nodes[0], nodes[1]
				time.Sleep(10 * time.Second)
				var want, answers []string
				say := func(text string) {
					want, answers = append(want, text), append(answers, "bob "+text)
					for _, chat := range []string{"#lab", "@bob"} {
						ann.say(chat, "reliable", text)
					}
					for _, chat := range []string{"#lab", "@ann"} {
						bob.say(chat, "reliable", "bob "+text)
					}
				}
				say("before")
				time.Sleep(time.Second)
				tt.leave(l, ann)
				say("between")
				time.Sleep(tt.away / 2)
				say("still between")
				time.Sleep(tt.away - tt.away/2)
				tt.back(l, ann)
				begin := time.Now()
				say("after")
				for _, m := range []struct {
					to       *node
					chat, by string
					text     string
					all      []string
				}{
					{bob, "#lab", "ann", "after", want}, {bob, "@ann", "ann", "after", want},
					{ann, "#lab", "bob", "bob after", answers}, {ann, "@bob", "bob", "bob after", answers},
				} {
					if took := m.to.wait("after", 30*time.Second, message(m.chat, m.text)).Sub(begin); took > tt.within {
						t.Errorf("what %s says in %s comes after %v", m.by, m.chat, took)
					}
					if got := m.to.texts(m.chat, m.by); !slices.Equal(got, m.all) {
						t.Errorf("in %s %s got %q", m.chat, m.to.name, got)
					}
				}
			})
		})
	}
}

// One more face, of a one-shot command, is told first how things stand, and
// commands from it are carried out.
func TestControl(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		l.inRoom("#lab", nodes)
		ann, bob := nodes[0], nodes[1]
		ann.wait("authd", 5*time.Second, authdIs("up"))
		bob.stop()
		ann.wait("bob's goodbye", time.Second, peer("bob", "left"))
		bob.control = &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		bob.mark()
		bob.start()
		bob.wait("ann", 5*time.Second, peer("ann", "online"))
		bob.wait("authd", 5*time.Second, authdIs("up"))
		here, there := net.Pipe()
		defer here.Close()
		bob.control.conns <- there
		face := bob.control.face(l)
		face.wait("ready", time.Second, func(e chat.Event) bool { r, ok := e.(chat.Ready); return ok && r.User == "bob" })
		face.wait("authd", time.Second, authdIs("up"))
		face.wait("ann", time.Second, peer("ann", "online"))
		face.wait("the room", time.Second, members("#lab", "ann", "bob"))
		face.say("#lab", "reliable", "from a script")
		ann.wait("the message", time.Second, message("#lab", "from a script"))
		ann.say("#lab", "reliable", "an answer")
		face.wait("the answer", time.Second, message("#lab", "an answer"))
		bob.wait("the answer", time.Second, message("#lab", "an answer"))
	})
}

// People take their time with name and password, longer than authd waits for
// them, and authd can go away meanwhile or while the password is hashed: nobody
// is asked again for that.
func TestSlowTyping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, t.TempDir())
		defer l.close()
		l.startAuthd()
		back := make(chan struct{})
		for name, typing := range map[string]func(){
			"ann": func() { time.Sleep(3 * time.Minute) },
			"bob": func() {
				l.authd.halt()
				time.AfterFunc(20*time.Second, func() {
					l.authd.start()
					close(back)
				})
			},
		} {
			n := l.node(name)
			n.typing = typing
			n.start().wait("ready", 4*time.Minute, func(e chat.Event) bool {
				r, ok := e.(chat.Ready)
				return ok && r.User == name
			})
			if n.asked != 1 || n.count(func(e chat.Event) bool { _, is := e.(chat.Error); return is }) != 0 {
				t.Errorf("%s was asked %d times, want once, without an error:\n%s", name, n.asked, n.log())
			}
		}
		<-back
	})
}

// A token that lives two minutes is renewed by itself, and new links are made
// with the new one.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, t.TempDir())
		l.life = 2 * time.Minute
		defer l.close()
		l.startAuthd()
		nodes := l.together("ann", "bob")
		ann, bob := nodes[0], nodes[1]
		begin := time.Now()
		time.Sleep(3*time.Minute + realm.Tolerance) // the first token is good for nothing by now
		for _, n := range nodes {
			if k := n.count(isError) + n.count(peer("ann", "lost")) + n.count(peer("bob", "lost")); k != 0 {
				t.Errorf("%s saw trouble:\n%s", n.name, n.log())
			}
		}
		bob.stop()
		ann.mark()
		bob.mark()
		bob.start()
		ann.wait("bob again", 5*time.Second, peer("bob", "online"))
		bob.wait("ann again", 5*time.Second, peer("ann", "online"))
		ann.say("@bob", "reliable", "hi")
		bob.wait("hi", time.Second, message("@ann", "hi"))
		if bob.asked != 1 {
			t.Errorf("bob was asked for his password %d times", bob.asked)
		}
		bob.stop()
		p, err := login.Open(filepath.Join(l.dir, "bob"))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Token().NotAfter; got.Before(begin.Add(realm.Tolerance)) {
			t.Errorf("bob's token ends at %v, the test began at %v", got, begin)
		}
	})
}

// "Receiver is away: kept in the sender's outbox across restarts."
func TestOutbox(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		l.inRoom("#lab", nodes)
		ann, bob := nodes[0], nodes[1]
		bob.stop()
		ann.wait("bob's goodbye", time.Second, peer("bob", "left"))
		texts := []string{"one", "two", "three"}
		for _, text := range texts {
			ann.say("@bob", "reliable", text)
		}
		ann.wait("the notice", time.Second, code("waiting"))
		ann.stop()
		time.Sleep(time.Hour)
		ann.mark()
		ann.start()
		ann.wait("the room", time.Second, func(e chat.Event) bool {
			r, ok := e.(chat.Room)
			return ok && r.Chat == "#lab" && r.Cause == "restored" && slices.Equal(r.Members, []string{"ann", "bob"})
		})
		bob.mark()
		bob.start()
		bob.wait("the last of them", 5*time.Second, message("@ann", "three"))
		if got := bob.texts("@ann", "ann"); !slices.Equal(got, texts) {
			t.Errorf("bob got %q", got)
		}
		ann.wait("the receipt", time.Second, func(e chat.Event) bool { return e.Name() == "receipt" })
		time.Sleep(10 * time.Second)
		if k := ann.count(receipt("@bob", "bob")); k != 3 {
			t.Errorf("%d receipts of three messages", k)
		}
		for range 2 {
			bob.stop()
			bob.start()
			bob.wait("ann", 5*time.Second, peer("ann", "online"))
			time.Sleep(10 * time.Second)
		}
		if got := bob.texts("@ann", "ann"); !slices.Equal(got, texts) {
			t.Errorf("after more starts bob got %q", got)
		}
		if ann.asked+bob.asked != 0 {
			t.Error("a password was asked for")
		}
	})
}

// "A goodbye at once", under 50 ms; "a kill -9 is seen within 7 s".
func TestGoing(t *testing.T) {
	run(t, func(l *lab) {
		l.net.SetDelay(time.Millisecond)
		nodes := l.together("ann", "bob", "cat", "dan")
		ann, bob, cat, dan := nodes[0], nodes[1], nodes[2], nodes[3]
		time.Sleep(10 * time.Second)
		begin := time.Now()
		dan.stop()
		for _, n := range nodes[:3] {
			if took := n.wait("dan's goodbye", time.Second, peer("dan", "left")).Sub(begin); took > 50*time.Millisecond {
				t.Errorf("%s learned of dan's goodbye after %v", n.name, took)
			}
		}
		for _, n := range append(l.nodes, nil) {
			if n != nil && n != cat {
				l.net.Cut(n.host, cat.host)
			}
		}
		l.net.Cut(l.authd.host, cat.host)
		begin = time.Now()
		for _, n := range []*node{ann, bob} {
			if took := n.wait("cat's loss", 10*time.Second, peer("cat", "lost")).Sub(begin); took > 7*time.Second {
				t.Errorf("%s learned of cat's loss after %v", n.name, took)
			}
			cat.wait(n.name+" gone", 10*time.Second, peer(n.name, "lost"))
		}
		time.Sleep(2 * time.Minute)
		for _, n := range []*node{ann, bob, cat} {
			n.mark()
		}
		ann.say("@cat", "reliable", "are you there?")
		for _, n := range l.nodes {
			l.net.Mend(n.host, cat.host)
		}
		l.net.Mend(l.authd.host, cat.host)
		for _, n := range []*node{ann, bob} {
			n.wait("cat again", 10*time.Second, peer("cat", "online"))
			cat.wait(n.name+" again", 10*time.Second, peer(n.name, "online"))
		}
		cat.wait("the message", 10*time.Second, message("@ann", "are you there?"))
		cat.once("@ann", "are you there?")
	})
}

// "Nothing lost, in order, confirmed", whatever multicast loses.
func TestLoss(t *testing.T) {
	const each = 300
	for _, percent := range []float64{5, 20} {
		t.Run(fmt.Sprintf("%v %%", percent), func(t *testing.T) {
			run(t, func(l *lab) {
				nodes := l.together("ann", "bob", "cat")
				l.inRoom("#lab", nodes)
				for _, n := range nodes {
					n.setLoss(percent)
				}
				var want [2][]string
				for i := range each {
					for s, n := range nodes[:2] {
						text := fmt.Sprintf("%s %d", n.name, i)
						want[s] = append(want[s], text)
						n.say("#lab", "reliable", text)
					}
					time.Sleep(5 * time.Millisecond)
				}
				time.Sleep(time.Minute)
				for s, sender := range nodes[:2] {
					for _, n := range nodes {
						if n == sender {
							continue
						}
						if got := n.texts("#lab", sender.name); !slices.Equal(got, want[s]) {
							t.Errorf("%s got %d of %d messages of %s, or in another order: %q", n.name, len(got), each, sender.name, got)
						}
					}
					if k := sender.count(func(e chat.Event) bool { r, ok := e.(chat.Receipt); return ok && r.Got == 2 && r.Of == 2 }); k != each {
						t.Errorf("%d of %d messages of %s are known to have come to all", k, each, sender.name)
					}
				}
				for _, n := range nodes {
					open := map[string]bool{}
					for _, s := range n.since() {
						if g, ok := s.e.(chat.Gap); ok {
							open[g.From] = !g.Healed
						}
					}
					for from, still := range open {
						if still {
							t.Errorf("%s has an open gap from %s", n.name, from)
						}
					}
				}
			})
		})
	}
}

// The first message after a room has its members is as reliable as any other.
func TestFirstMessageLost(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		l.inRoom("#lab", nodes)
		bob, cat := nodes[1], nodes[2]
		cat.setLoss(100)
		bob.say("#lab", "reliable", "one")
		time.Sleep(20 * time.Millisecond)
		cat.setLoss(0)
		bob.say("#lab", "reliable", "two")
		cat.wait("two", 15*time.Second, message("#lab", "two"))
		if got := cat.texts("#lab", "bob"); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("cat got %q", got)
		}
	})
}

// A member leaves: recorded, others rekey, the leaver reads nothing later, and
// may come back.
func TestPart(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		l.inRoom("#lab", nodes)
		ann, bob, cat := nodes[0], nodes[1], nodes[2]
		cat.say("#lab", "reliable", "before")
		ann.wait("before", time.Second, message("#lab", "before"))
		cat.mark()
		cat.type_("/part #lab")
		cat.wait("having left", time.Second, func(e chat.Event) bool { r, ok := e.(chat.Room); return ok && r.Cause == "left" })
		for _, n := range nodes[:2] {
			n.wait("cat's leaving", time.Second, func(e chat.Event) bool {
				r, ok := e.(chat.Room)
				return ok && r.Cause == "left" && r.Whom == "cat" && slices.Equal(r.Members, []string{"ann", "bob"})
			})
		}
		ann.say("#lab", "reliable", "without cat")
		bob.wait("without cat", time.Second, message("#lab", "without cat"))
		ann.say("#lab", "fast", "without cat, fast")
		bob.wait("without cat", time.Second, message("#lab", "without cat, fast"))
		time.Sleep(time.Minute)
		if k := cat.count(func(e chat.Event) bool { return e.Name() == "message" }); k != 0 {
			t.Errorf("cat reads what was said after leaving:\n%s", cat.log())
		}
		cat.say("#lab", "", "let me talk")
		cat.wait("a refusal", time.Second, isError)

		for _, n := range nodes {
			n.mark()
		}
		cat.type_("/join #lab")
		for _, n := range nodes {
			n.wait("cat's return", 5*time.Second, members("#lab", "ann", "bob", "cat"))
		}
		for _, mode := range []string{"reliable", "fast"} {
			cat.say("#lab", mode, "again, "+mode)
			ann.say("#lab", mode, "welcome, "+mode)
			for _, n := range nodes[:2] {
				n.wait("cat's word", time.Second, message("#lab", "again, "+mode))
			}
			cat.wait("ann's word", time.Second, message("#lab", "welcome, "+mode))
		}
		if k := cat.count(message("#lab", "without cat")); k != 0 {
			t.Error("cat reads what was said while she was not in the room")
		}
	})
}

// The admin leaves: the oldest member succeeds and the room goes on.
func TestAdminParts(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		l.inRoom("#lab", nodes)
		ann, bob, cat := nodes[0], nodes[1], nodes[2]
		ann.mark()
		ann.type_("/part #lab")
		ann.wait("having left", time.Second, func(e chat.Event) bool { r, ok := e.(chat.Room); return ok && r.Cause == "left" })
		for _, n := range nodes[1:] {
			n.wait("ann's leaving", time.Second, func(e chat.Event) bool {
				r, ok := e.(chat.Room)
				return ok && r.Cause == "left" && r.Whom == "ann" && slices.Equal(r.Members, []string{"bob", "cat"})
			})
			n.wait("bob's succession", time.Second, func(e chat.Event) bool {
				r, ok := e.(chat.Room)
				return ok && r.Cause == "succeeded" && r.Whom == "bob" && slices.Equal(r.Admins, []string{"bob"})
			})
		}
		bob.say("#lab", "reliable", "mine now")
		cat.wait("mine now", 2*time.Second, message("#lab", "mine now"))
		cat.say("#lab", "reliable", "fine")
		bob.wait("fine", 2*time.Second, message("#lab", "fine"))
		time.Sleep(10 * time.Second)
		if k := ann.count(func(e chat.Event) bool { return e.Name() == "message" }); k != 0 {
			t.Errorf("ann reads what was said after leaving:\n%s", ann.log())
		}
		// bob lets people in.
		ann.type_("/join #lab")
		ann.wait("the room", 5*time.Second, members("#lab", "bob", "cat", "ann"))
		ann.say("#lab", "reliable", "back")
		cat.wait("back", 2*time.Second, message("#lab", "back"))
	})
}

// The admin's leaving is not heard by multicast: the others learn of it all
// the same.
func TestAdminPartsUnheard(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		l.inRoom("#lab", nodes)
		ann, bob, cat := nodes[0], nodes[1], nodes[2]
		time.Sleep(10 * time.Second)
		bob.setLoss(100)
		cat.setLoss(100)
		ann.mark()
		ann.type_("/part #lab")
		ann.wait("having left", time.Second, func(e chat.Event) bool { r, ok := e.(chat.Room); return ok && r.Cause == "left" })
		time.Sleep(100 * time.Millisecond)
		bob.setLoss(0)
		cat.setLoss(0)
		for _, n := range []*node{bob, cat} {
			n.wait("ann's leaving", 30*time.Second, members("#lab", "bob", "cat"))
		}
	})
}

// Both sides of a split network talk on; together again, all have all. The
// admin leaves meanwhile, and who was cut off learns it from the others.
func TestSplit(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		l.inRoom("#lab", nodes)
		ann, bob, cat := nodes[0], nodes[1], nodes[2]
		time.Sleep(10 * time.Second)
		l.net.Cut(cat.host, ann.host)
		l.net.Cut(cat.host, bob.host)
		bob.wait("cat gone", 10*time.Second, peer("cat", "lost"))
		want := map[*node][]string{}
		for i := range 20 {
			for _, n := range []*node{bob, cat} {
				text := fmt.Sprint(n.name, " ", i)
				want[n] = append(want[n], text)
				n.say("#lab", "reliable", text)
			}
			time.Sleep(time.Second)
		}
		for _, n := range nodes {
			n.mark()
		}
		l.net.Mend(cat.host, bob.host)
		for from, to := range map[*node]*node{bob: cat, cat: bob} {
			to.wait("the last word", 20*time.Second, message("#lab", want[from][19]))
			if got := to.texts("#lab", from.name); !slices.Equal(got, want[from]) {
				t.Errorf("%s got %q", to.name, got)
			}
		}
		ann.type_("/part #lab") // cat cannot hear it
		cat.wait("ann's leaving", 20*time.Second, members("#lab", "bob", "cat"))
		l.net.Mend(cat.host, ann.host)
		bob.say("#lab", "reliable", "on we go")
		cat.wait("bob's word", 5*time.Second, message("#lab", "on we go"))
		cat.say("#lab", "reliable", "yes")
		bob.wait("cat's word", 5*time.Second, message("#lab", "yes"))
	})
}

// Two members whom a third one reaches, and who do not reach each other, read
// each other's words by way of it soon: in the moment after one of them was let
// in, while they still take each other for online, and later.
func TestCutFromOne(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		ann, bob, cat := nodes[0], nodes[1], nodes[2]
		ann.type_("/create #lab")
		ann.wait("the room", 5*time.Second, members("#lab", "ann"))
		ann.say("#lab", "reliable", "early")
		cat.type_("/join #lab")
		ann.wait("cat", 5*time.Second, members("#lab", "ann", "cat"))
		ann.say("#lab", "reliable", "between")
		bob.type_("/join #lab")
		ann.wait("bob", 5*time.Second, members("#lab", "ann", "cat", "bob"))
		ann.say("#lab", "reliable", "before")
		bob.wait("before", time.Second, message("#lab", "before"))
		l.net.Cut(ann.host, bob.host)
		from, to := ann, bob
		for i := range 8 {
			text := fmt.Sprint("word ", i)
			from.say("#lab", "reliable", text)
			to.wait(text, 4*time.Second, message("#lab", text))
			from, to = to, from
			time.Sleep(time.Second)
		}
	})
}

// Two nodes that dial each other at the same moment keep one link.
func TestSimultaneousDials(t *testing.T) {
	run(t, func(l *lab) {
		l.net.SetDelay(300 * time.Millisecond) // longer than one side lets the other go first
		nodes := l.together("ann", "bob", "cat")
		time.Sleep(30 * time.Second)
		twice := false
		for _, n := range nodes {
			n.mu.Lock()
			for d, k := range n.links {
				if k != 1 {
					t.Errorf("%s has %d links with %v", n.name, k, d)
				}
			}
			if len(n.links) != 2 {
				t.Errorf("%s has links with %d devices", n.name, len(n.links))
			}
			n.linked = 0
			n.mu.Unlock()
			for _, p := range nodes {
				twice = twice || p != n && n.shakesWith(p) > 1
			}
		}
		if !twice {
			t.Error("no two nodes dialled each other: the test tests nothing")
		}
		time.Sleep(2 * time.Minute)
		for _, n := range nodes {
			n.mu.Lock()
			if n.linked != 0 {
				t.Errorf("%s made %d more links", n.name, n.linked)
			}
			n.mu.Unlock()
			for _, p := range nodes {
				if n != p {
					n.say("@"+p.name, "reliable", "hi")
				}
			}
		}
		time.Sleep(10 * time.Second)
		for _, n := range nodes {
			for _, p := range nodes {
				if n != p {
					n.once("@"+p.name, "hi")
				}
			}
		}
	})
}

// While the disk takes nothing, nothing is sent or shown that is not stored;
// one error says so, and everything goes on afterwards.
func TestDiskFull(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		l.inRoom("#lab", nodes)
		ann, bob := nodes[0], nodes[1]
		time.Sleep(10 * time.Second)
		ann.mark()
		bob.mark()
		bob.disk.fill(true)
		ann.say("@bob", "reliable", "direct")
		ann.say("#lab", "reliable", "in the room")
		bob.wait("the error", time.Second, code("store_full"))
		bob.say("#lab", "reliable", "from bob")
		time.Sleep(20 * time.Second)
		if got := bob.since(); len(got) != 1 {
			t.Errorf("bob was shown more than the error:\n%s", bob.log())
		}
		if k := ann.count(func(e chat.Event) bool { return e.Name() == "receipt" || e.Name() == "message" }); k != 0 {
			t.Errorf("ann heard of bob, who can't store:\n%s", ann.log())
		}
		bob.disk.fill(false)
		bob.wait("the notice", time.Second, code("store_ok"))
		bob.wait("the direct message", 5*time.Second, message("@ann", "direct"))
		bob.wait("the room's message", 15*time.Second, message("#lab", "in the room"))
		ann.wait("bob's message", 15*time.Second, message("#lab", "from bob"))
		ann.wait("a receipt", 15*time.Second, receipt("@bob", "bob"))
		ann.wait("a receipt", 15*time.Second, receipt("#lab", "bob"))
		bob.once("@ann", "direct")
		bob.once("#lab", "in the room")
		ann.once("#lab", "from bob")
	})
}

// What was said in a room while a member was away comes when it is back.
func TestRoomWhileAway(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		l.inRoom("#lab", nodes)
		ann, bob := nodes[0], nodes[1]
		ann.say("#lab", "reliable", "zero")
		bob.wait("zero", time.Second, message("#lab", "zero"))
		time.Sleep(time.Second)
		bob.stop()
		var want []string
		for i := range 20 {
			text := fmt.Sprint("while away ", i)
			want = append(want, text)
			ann.say("#lab", "reliable", text)
			time.Sleep(time.Second)
		}
		bob.mark()
		bob.start()
		bob.wait("the last", 20*time.Second, message("#lab", want[len(want)-1]))
		if got := bob.texts("#lab", "ann"); !slices.Equal(got, want) {
			t.Errorf("bob got %q", got)
		}
		ann.wait("bob's receipt", 5*time.Second, receipt("#lab", "bob"))
	})
}

// A member that hears no multicast is served over its links within seconds,
// without anybody choosing, and sees nothing twice when multicast is back.
func TestDeaf(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		l.inRoom("#lab", nodes)
		ann, bob := nodes[0], nodes[1]
		time.Sleep(10 * time.Second)
		bob.host.Deafen(true)
		time.Sleep(7 * time.Second)
		var want []string
		say := func(modes ...string) {
			for _, mode := range modes {
				text := fmt.Sprint(mode, " ", len(want))
				want = append(want, text)
				ann.say("#lab", mode, text)
				bob.wait(text, time.Second, message("#lab", text))
			}
		}
		say("fast", "reliable", "fast", "reliable")
		time.Sleep(time.Minute)
		say("fast", "reliable")
		bob.host.Deafen(false)
		say("fast", "reliable", "fast")
		time.Sleep(time.Minute)
		say("reliable", "fast")
		if got := bob.texts("#lab", "ann"); !slices.Equal(got, want) {
			t.Errorf("bob got %q, want %q", got, want)
		}
	})
}
