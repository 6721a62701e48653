package host_test

import (
	"slices"
	"testing"
	"time"

	"lanchat/discovery/memnet"
	"lanchat/node/chat"
	"lanchat/wire"
)

// backWithin is how long after waking up somebody may be away.
const backWithin = 5 * time.Second

// A machine that slept for a minute is back within five seconds of waking up:
// linked, seen and seeing, with what was written meanwhile, and with authd.
func TestAsleep(t *testing.T) {
	for _, tt := range []struct {
		name string
		wake func(l *lab, bob *node)
	}{
		{"where it was", func(_ *lab, bob *node) { bob.host.Thaw() }},
		{"with another adapter in its place", func(_ *lab, bob *node) { // and so in no group any more
			bob.host.Attach("eth0", "lan", ip("bob")+"/24")
			bob.host.Thaw()
		}},
		{"elsewhere", func(_ *lab, bob *node) {
			bob.host.Detach("eth0")
			bob.host.Attach("wlan0", "lan", "10.77.0.77/24")
			bob.host.Thaw()
		}},
		{"and its network comes a while later", func(_ *lab, bob *node) {
			bob.host.SetUp("eth0", false)
			bob.host.Thaw()
			time.Sleep(20 * time.Second)
			bob.host.SetUp("eth0", true)
		}},
		{"and authd was started anew", func(l *lab, bob *node) {
			l.stopAuthd()
			l.startAuthd()
			time.Sleep(time.Second)
			bob.host.Thaw()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(l *lab) {
				ann, bob := l.asleep(func(bob *node) { bob.host.Freeze() }, time.Minute)
				tt.wake(l, bob)
				l.wantBack(ann, bob)
			})
		})
	}
}

// The clock that timers run by stands still while a machine sleeps. It does not
// know that time has passed then: its links are alive, it thinks, and the others
// have given them up.
func TestLinksThatOneSideGaveUp(t *testing.T) {
	run(t, func(l *lab) {
		ann, bob := l.asleep(func(bob *node) {
			others := []*memnet.Host{l.nodes[0].host, l.authd.host}
			for _, h := range others {
				l.net.Mute(bob.host, h)
			}
			time.Sleep(3500 * time.Millisecond)
			for _, h := range others { // before they say so
				l.net.Cut(bob.host, h)
			}
		}, 0)
		device := ann.profile.DeviceKey().Device()
		if bob.linkedTo(device) == 0 || ann.linkedTo(bob.profile.DeviceKey().Device()) != 0 {
			t.Fatalf("this is not the case that is meant: bob has %d links, ann %d\n%s", bob.linkedTo(device), ann.linkedTo(bob.profile.DeviceKey().Device()), bob.log())
		}
		l.net.Mend(bob.host, ann.host)
		l.net.Mend(bob.host, l.authd.host)
		l.wantBack(ann, bob)
	})
}

// asleep has two talk and one of them fall asleep for a while, in which the other
// misses and writes to them.
func (l *lab) asleep(sleep func(bob *node), last time.Duration) (ann, bob *node) {
	nodes := l.together("ann", "bob")
	l.inRoom("#lab", nodes)
	ann, bob = nodes[0], nodes[1]
	time.Sleep(10 * time.Second)
	ann.mark()
	bob.mark()
	sleep(bob)
	begin := time.Now()
	ann.wait("bob lost", 8*time.Second, peer("bob", "lost"))
	ann.say("#lab", "reliable", "while you slept")
	ann.say("@bob", "reliable", "while you slept")
	time.Sleep(last - time.Since(begin))
	ann.mark()
	return ann, bob
}

// wantBack wants bob to be back in time.
func (l *lab) wantBack(ann, bob *node) {
	l.t.Helper()
	woke := time.Now()
	bob.wait("what was said in the room", backWithin, message("#lab", "while you slept"))
	bob.wait("what was said to bob", backWithin-time.Since(woke), message("@ann", "while you slept"))
	ann.wait("bob online", backWithin-time.Since(woke), peer("bob", "online"))
	for ann.linkedTo(bob.profile.DeviceKey().Device()) != 1 || bob.linkedTo(ann.profile.DeviceKey().Device()) != 1 {
		if time.Since(woke) > backWithin {
			l.t.Fatal("ann and bob have no link")
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(backWithin - time.Since(woke))
	for _, n := range []*node{ann, bob} {
		if got := n.last(); len(got) > 0 && got[0] != "online" {
			l.t.Errorf("%s was told that the other is %q; it saw\n%s", n.name, got[0], n.log())
		}
	}
	if got := bob.authdState(); got != "up" {
		l.t.Errorf("authd is %q for bob; it saw\n%s", got, bob.log())
	}
	for _, want := range []struct {
		n        *node
		to, from string
	}{{bob, "#lab", "ann"}, {bob, "@ann", "ann"}} {
		if got := want.n.texts(want.to, want.from); !slices.Equal(got, []string{"while you slept"}) {
			l.t.Errorf("in %s %s got %q", want.to, want.n.name, got)
		}
	}
	bob.say("#lab", "reliable", "good morning")
	ann.wait("good morning", time.Second, message("#lab", "good morning"))
}

// last returns in which state the others were told to be last, if anything was
// told of them.
func (n *node) last() (state []string) {
	for _, s := range slices.Backward(n.since()) {
		if p, ok := s.e.(chat.Peer); ok {
			return []string{p.State}
		}
	}
	return nil
}

// authdState returns what was last told of authd.
func (n *node) authdState() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range slices.Backward(n.events) {
		if a, ok := s.e.(chat.Authd); ok && a.State != "changed" {
			return a.State
		}
	}
	return ""
}

// linkedTo returns how many links there are with a device.
func (n *node) linkedTo(device wire.DeviceID) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[device]
}
