package host_test

import (
	"slices"
	"testing"
	"time"

	"lanchat/node/chat"
)

// Without authd, and where nobody hears multicast, who knows of one finds all
// that one is linked with.
func TestPeersHandOn(t *testing.T) {
	run(t, func(l *lab) {
		l.stopAuthd()
		ann, bob, cat, dan := l.node("ann"), l.node("bob"), l.node("cat"), l.node("dan")
		for _, n := range l.nodes {
			n.host.Deafen(true)
		}
		ann.start()
		bob.peers = []string{ann.addr.String()}
		bob.start()
		bob.wait("ann", 10*time.Second, peer("ann", "online"))
		cat.peers = []string{"10.77.0.250:1", ann.addr.String()} // nobody is at the first
		cat.start()
		cat.wait("ann", 10*time.Second, peer("ann", "online"))
		cat.wait("bob, of whom ann tells", time.Second, peer("bob", "online"))
		ann.say("@bob", "reliable", "hi")
		bob.wait("the message", time.Second, message("@ann", "hi"))

		// Who came earlier learns of who comes later within half a minute.
		dan.peers = []string{cat.addr.String()}
		dan.start()
		dan.wait("all", 45*time.Second, peer("ann", "online"))
		dan.wait("all", 45*time.Second, peer("bob", "online"))
	})
}

// A node begins with where it reached others before.
func TestRemembered(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		ann, bob := nodes[0], nodes[1]
		l.stopAuthd()
		ann.stop()
		bob.wait("ann's goodbye", time.Second, peer("ann", "left"))
		for _, n := range l.nodes {
			n.host.Deafen(true)
		}
		bob.mark()
		ann.mark()
		ann.start()
		ann.wait("bob, from memory", 3*time.Second, peer("bob", "online"))
		bob.wait("ann, who dials", time.Second, peer("ann", "online"))
	})
}

// Who is there and cannot be reached is away: not online, and not gone.
func TestAway(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob", "cat")
		ann, bob := nodes[0], nodes[1]
		for _, n := range nodes {
			n.mark()
		}
		l.net.CutUnicast(ann.host, bob.host)
		ann.wait("bob away", time.Minute, peer("bob", "away"))
		bob.wait("ann away", time.Minute, peer("ann", "away"))
		time.Sleep(5 * time.Minute)
		for _, n := range nodes {
			if k := n.count(func(e chat.Event) bool { _, ok := e.(chat.Peer); return ok }); k > 1 || n == nodes[2] && k > 0 {
				t.Errorf("%s was told %d times that somebody comes or goes", n.name, k)
			}
		}
		ann.mark()
		l.net.Mend(ann.host, bob.host)
		ann.wait("bob again", 20*time.Second, peer("bob", "online"))
	})
}

// Who comes and goes all the time is spoken of six times a minute at most, and in
// the end it is said how it is. Who is lost once is spoken of once, and once when
// they are back.
func TestFlapping(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		ann, bob := nodes[0], nodes[1]
		time.Sleep(10 * time.Second)
		ann.mark()
		l.net.Cut(ann.host, bob.host)
		ann.wait("bob lost", 10*time.Second, peer("bob", "lost"))
		time.Sleep(time.Minute)
		l.net.Mend(ann.host, bob.host)
		ann.wait("bob again", 10*time.Second, peer("bob", "online"))
		time.Sleep(5 * time.Minute)
		if got := ann.causes("bob"); len(got) != 2 {
			t.Errorf("one loss was told like this: %v", got)
		}
		ann.mark()
		const turns = 30
		begin := time.Now()
		for range turns {
			l.net.Cut(ann.host, bob.host)
			time.Sleep(8 * time.Second)
			l.net.Mend(ann.host, bob.host)
			time.Sleep(4 * time.Second)
		}
		ann.wait("bob, who stays", 30*time.Second, peer("bob", "online"))
		said := ann.since()
		byMinute := map[time.Duration]int{}
		for _, s := range said {
			if p, ok := s.e.(chat.Peer); ok && p.User == "bob" {
				byMinute[s.at.Sub(begin).Truncate(time.Minute)]++
			}
		}
		if len(byMinute) == 0 {
			t.Error("nothing was told of who comes and goes")
		}
		for minute, n := range byMinute {
			if n > 6 {
				t.Errorf("in minute %v bob was spoken of %d times", minute, n)
			}
		}
		time.Sleep(time.Minute)
		var last chat.Peer
		for _, s := range ann.since() {
			if p, ok := s.e.(chat.Peer); ok && p.User == "bob" {
				last = p
			}
		}
		if last.State != "online" {
			t.Errorf("in the end it was said of bob: %+v", last)
		}
	})
}

// A restart is noticed as one: who is back before it was missed was never gone.
func TestRestart(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		ann, bob := nodes[0], nodes[1]
		time.Sleep(10 * time.Second)
		l.net.Cut(ann.host, bob.host) // nothing is heard of the end, as after kill -9
		bob.stop()
		ann.mark()
		l.net.Mend(ann.host, bob.host)
		bob.start()
		ann.wait("bob restarted", 5*time.Second, func(e chat.Event) bool {
			p, ok := e.(chat.Peer)
			return ok && p.User == "bob" && p.State == "online" && p.Cause == "restarted"
		})
		time.Sleep(time.Minute)
		if got := ann.causes("bob"); !slices.Equal(got, []string{"restarted"}) {
			t.Errorf("ann was told of bob: %v", got)
		}
		ann.say("@bob", "reliable", "welcome back")
		bob.wait("the message", time.Second, message("@ann", "welcome back"))
	})
}

// causes returns why the person came and went since the mark.
func (n *node) causes(user string) (causes []string) {
	for _, s := range n.since() {
		if p, ok := s.e.(chat.Peer); ok && p.User == user {
			causes = append(causes, p.Cause)
		}
	}
	return causes
}
