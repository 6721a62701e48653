package main_test

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"lanchat/testdata/lan/emu"
)

// A networkRow is a network that nodes have to do with. authd is on h1, ann on
// h2, bob on h3 and carol on h4, unless the row says otherwise. Everybody has a
// token, and remembers authd and each other at addresses that nobody has here.
type networkRow struct {
	name  string
	hosts []emu.HostConfig
	links map[string]emu.Link
	who   map[string]string   // person -> host; nil: ann and bob
	args  map[string][]string // of authd and of the people
	apart []string            // a pair of people between whom no unicast passes
	dead  bool                // no authd
	first string              // who makes the room; "": ann

	before func(s *stage) // the programs start
	then   func(s *stage) // after everybody talked; everybody talks again
	check  string         // whose doctor is asked; "": ann's
	doctor map[string]string
}

// A stage is a network with people on it.
type stage struct {
	*lan
	row    *networkRow
	authd  *authd
	people map[string]*node
}

// host returns where somebody is.
func (s *stage) host(name string) *emu.Host {
	if name == "authd" {
		return s.Host("h1")
	}
	return s.Host(s.row.places()[name])
}

func (r *networkRow) places() map[string]string {
	if r.who == nil {
		return map[string]string{"ann": "h2", "bob": "h3"}
	}
	return r.who
}

var (
	three   = map[string]string{"ann": "h2", "bob": "h3", "carol": "h4"}
	routed  = []emu.HostConfig{{LANs: []int{0, 1}, Router: true}, {Gateway: netip.MustParseAddr("10.77.0.1")}, {LANs: []int{1}, Gateway: netip.MustParseAddr("10.78.0.1")}}
	deaf    = emu.Link{NoMulticast: true}
	byAuthd = []string{"--authd", "10.77.0.1:4747"}
)

func networks() []networkRow {
	hosts := func(c emu.HostConfig, n int) (all []emu.HostConfig) {
		for range n {
			all = append(all, c)
		}
		return all
	}
	return []networkRow{ // those that take longest first
		{name: "asleep", hosts: emu.Hosts(3), then: func(s *stage) {
			bob := s.people["bob"]
			bob.signal(syscall.SIGSTOP)
			s.people["ann"].want("peer", "user", "bob", "state", "lost")
			s.people["ann"].object("cmd", "say", "chat", "#lab", "text", "while bob sleeps", "mode", "reliable")
			s.tally("h2").beats(10) // of 2 s: no link is left. How soon bob is back after a minute: TestAsleep of node/host
			bob.signal(syscall.SIGCONT)
			bob.want("message", "chat", "#lab", "text", "while bob sleeps")
			s.people["ann"].want("peer", "user", "bob", "state", "online")
		}},
		{name: "no default route", hosts: emu.Hosts(4), who: three},
		{name: "default route", hosts: hosts(emu.HostConfig{DefaultRoute: true}, 3)},
		{name: "two LANs", hosts: []emu.HostConfig{{LANs: []int{0, 1}}, {LANs: []int{0, 1}}, {LANs: []int{1}}, {LANs: []int{0}}},
			who: three, apart: []string{"bob", "carol"}, check: "bob", doctor: map[string]string{"peers": "carol are connected; they are not heard"}},
		{name: "two interfaces, one person", hosts: []emu.HostConfig{{}, {LANs: []int{0, 0}}, {}}, then: func(s *stage) {
			if devices := s.people["bob"].all("peer", "user", "ann", "state", "online"); len(devices) != 1 {
				s.t.Errorf("bob saw ann come %d times", len(devices))
			}
		}},
		{name: "docker, VMs and a VPN beside", hosts: emu.Hosts(3), before: func(s *stage) {
			s.adapter("ann", "docker0", "172.17.0.1/16")
			s.adapter("bob", "docker0", "172.17.0.1/16")
			s.adapter("bob", "virbr0", "192.168.122.1/24")
			s.adapter("ann", "utun3", "10.8.0.2/24")
		}, then: func(s *stage) {
			s.people["ann"].line("/net")
			s.people["ann"].want("notice", "code", "net", "text", containing("docker0", "not used: virtual", "utun3"))
		}},
		{name: "IPv6 only", hosts: hosts(emu.HostConfig{NoIPv4: true}, 3)},
		{name: "IPv4 only", hosts: hosts(emu.HostConfig{NoIPv6: true}, 3)},
		{name: "loopback only", hosts: []emu.HostConfig{{Alone: true}}, who: map[string]string{"ann": "h1", "bob": "h1"},
			doctor: map[string]string{"interfaces": "there is no LAN, only this machine itself"}},
		{name: "one host and another", hosts: emu.Hosts(2), who: map[string]string{"ann": "h1", "bob": "h1", "carol": "h2"}},
		{name: "beside avahi", hosts: emu.Hosts(3), before: (*stage).avahi, then: (*stage).avahiSees},
		{name: "bob hears no multicast", hosts: emu.Hosts(3), links: map[string]emu.Link{"bob": {Deaf: true}},
			check: "bob", doctor: map[string]string{"multicast": "nobody is heard by multicast"}},
		{name: "nobody hears bob's multicast", hosts: emu.Hosts(3), links: map[string]emu.Link{"bob": {Mute: true}}, args: map[string][]string{"bob": byAuthd},
			doctor: map[string]string{"multicast": "bob can be reached, others are heard by multicast, and they are not"}},
		{name: "two ports without multicast", hosts: emu.Hosts(4), who: three, links: map[string]emu.Link{"bob": deaf, "carol": deaf},
			args: map[string][]string{"bob": byAuthd, "carol": byAuthd}, check: "bob", doctor: map[string]string{"multicast": "nobody is heard by multicast"}},
		{name: "no mDNS", hosts: emu.Hosts(3), links: map[string]emu.Link{"authd": {NoMDNS: true}, "ann": {NoMDNS: true}, "bob": {NoMDNS: true}},
			doctor: map[string]string{"mdns": "answers no mDNS question"}},
		{name: "unicast between clients blocked", hosts: emu.Hosts(4), who: three, links: map[string]emu.Link{"ann": {Isolated: true}, "bob": {Isolated: true}},
			apart: []string{"ann", "bob"}, first: "carol", doctor: map[string]string{"peers": "bob are heard by multicast and can't be reached directly"}},
		{name: "another subnet, --authd", hosts: routed, args: map[string][]string{"bob": byAuthd}, check: "bob"},
		{name: "another subnet, --peer", hosts: routed, dead: true, args: map[string][]string{"ann": {"--port", "4749"}, "bob": {"--peer", "10.77.0.2:4749"}},
			doctor: map[string]string{"authd": "does not answer"}},
		{name: "another subnet, peers file", hosts: routed, dead: true, args: map[string][]string{"ann": {"--port", "4749"}}, before: func(s *stage) {
			s.write("bob/peers", "# the office\n\n10.77.0.2:4749 # ann\nnobody.invalid:4749\n")
		}, doctor: map[string]string{"authd": "does not answer"}},
		{name: "a port without multicast, authd dead", hosts: emu.Hosts(4), who: three, dead: true, links: map[string]emu.Link{"bob": deaf},
			args: map[string][]string{"ann": {"--port", "4749"}, "bob": {"--peer", "10.77.0.2:4749"}}, doctor: map[string]string{"authd": "does not answer", "multicast": "bob can be reached"}},
		{name: "authd moves", hosts: emu.Hosts(4), then: func(s *stage) {
			s.authd.kill()
			s.lan.authd("h4", "authd")
			for _, n := range s.people {
				n.want("authd", "state", "changed")
			}
		}},
		{name: "another address", hosts: emu.Hosts(3), then: func(s *stage) {
			s.must(s.host("bob").Port(0).SetIPv4(netip.MustParsePrefix("10.77.0.99/24")))
			s.back("bob", "10.77.0.99")
		}},
		{name: "an adapter made anew", hosts: emu.Hosts(3), then: func(s *stage) {
			s.host("bob").Port(0).Remove()
			_, err := s.host("bob").Attach(0)
			s.must(err)
			s.back("bob", "10.77.0.3")
		}},
		{name: "from cable to Wi-Fi", hosts: emu.Hosts(3), then: func(s *stage) {
			_, err := s.host("bob").Attach(0)
			s.must(err)
			s.must(s.host("bob").Port(0).SetUp(false))
			s.back("bob", "10.77.0.252")
		}},
		{name: "the network is unreachable for a moment", hosts: emu.Hosts(3), then: func(s *stage) {
			ann, bob := s.people["ann"], s.people["bob"]
			s.must(s.host("bob").Port(0).SetUp(false))
			bob.object("cmd", "say", "chat", "#lab", "text", "into the void", "mode", "reliable")
			s.tally("h2").beats(1)
			s.must(s.host("bob").Port(0).SetUp(true))
			ann.want("message", "chat", "#lab", "text", "into the void")
			if lost := append(ann.all("peer", "state", "lost"), bob.all("peer", "state", "lost")...); len(lost) > 0 {
				s.t.Errorf("somebody was lost: %v", lost[0].fields)
			}
		}},
	}
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// back waits until who else is there has a link to somebody at the address, or
// at the link-local one, which is the same before and after.
func (s *stage) back(name, addr string) {
	s.t.Helper()
	for _, n := range s.people {
		if n.name == name {
			continue
		}
		look := time.NewTicker(100 * time.Millisecond)
		defer look.Stop()
		late := time.After(patience)
		for there := false; !there; {
			n.line("/net")
			text := n.want("notice", "code", "net").text("text")
			there = strings.Contains(text, "connected with "+addr) || strings.Contains(text, "connected with [fe80")
			select {
			case <-look.C:
			case <-late:
				s.t.Fatalf("%s has no link to %s at %s: %s", n.name, name, addr, text)
			}
		}
	}
}

// adapter gives somebody's host an interface that leads nowhere.
func (s *stage) adapter(who, name, prefix string) {
	s.t.Helper()
	s.must(addAdapter(s.host(who), name, prefix))
}

// addAdapter gives a host an interface that leads nowhere, and takes the routes
// to networks.
func addAdapter(h *emu.Host, name, prefix string, networks ...string) error {
	return h.Do(func() error {
		l := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "veth" + name}
		if err := netlink.LinkAdd(l); err != nil {
			return fmt.Errorf("adding %s: %w", name, err)
		}
		addr, err := netlink.ParseAddr(prefix)
		if err != nil {
			return err
		}
		for _, n := range []string{l.Name, l.PeerName} {
			i, err := netlink.LinkByName(n)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(i); err != nil {
				return err
			}
			if n == name {
				if err := netlink.AddrAdd(i, addr); err != nil {
					return err
				}
				for _, n := range networks {
					dst, err := netlink.ParseIPNet(n)
					if err != nil {
						return err
					}
					if err := netlink.RouteAdd(&netlink.Route{LinkIndex: i.Attrs().Index, Dst: dst}); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

// avahi runs avahi on ann's host.
func (s *stage) avahi() {
	for _, program := range []string{"dbus-daemon", "avahi-daemon", "avahi-browse", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			s.t.Skipf("%s is not installed: apt-get install avahi-daemon avahi-utils dbus", program)
		}
	}
	const ownRun = "mount -t tmpfs none /run && mkdir /run/avahi-daemon && "
	unshare, err := exec.LookPath("unshare")
	s.must(err)
	if s.Host("h2").Command(unshare, "--mount", "sh", "-c", ownRun+"chown avahi:avahi /run/avahi-daemon").Run() != nil {
		s.t.Skip("avahi-daemon can't start: it wants a directory to be the user avahi's, whom this user namespace does not have")
	}
	bus := s.path("bus")
	s.write("bus.conf", `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=`+bus+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`)
	s.write("avahi.conf", "[server]\nhost-name=annsbox\nuse-ipv4=yes\nuse-ipv6=yes\nenable-dbus=yes\n[publish]\npublish-workstation=no\n[rlimits]\n")
	s.beside("h2", "dbus-daemon", "--nofork", "--config-file="+s.path("bus.conf"))
	// With a /run of its own: it refuses to start where another one runs, or seems
	// to. And once the bus is there: it ends where there is none.
	s.beside("h2", "unshare", "--mount", "sh", "-c",
		ownRun+"until [ -S "+bus+" ]; do sleep 0.05; done && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f "+s.path("avahi.conf"))
}

// beside starts a program of the system in a host; it ends with the lab.
func (s *stage) beside(host, program string, args ...string) *emu.Cmd {
	s.t.Helper()
	path, err := exec.LookPath(program)
	s.must(err)
	cmd := s.Host(host).Command(path, args...)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+s.path("bus"))
	s.must(cmd.Start())
	return cmd
}

// avahiSees has avahi on ann's host look for lanchat, as other tools do, until
// it sees authd.
func (s *stage) avahiSees() {
	path, err := exec.LookPath("avahi-browse")
	s.must(err)
	for deadline := 0; ; deadline++ {
		cmd := s.Host("h2").Command(path, "--parsable", "--resolve", "--terminate", "_lanchat-auth._udp")
		cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+s.path("bus"))
		out, err := cmd.CombinedOutput()
		if err == nil && containing("10.77.0.1;4747")(string(out)) {
			return
		}
		if deadline == 20 {
			s.t.Fatalf("avahi does not see authd: %v\n%s", err, out)
		}
		s.tally("h2").beats(1)
	}
}

// Everybody is seen who can be reached by any way there is, and doctor says why
// somebody is not.
func TestNetworks(t *testing.T) {
	t.Parallel()
	registered := registeredDirs(t)
	for _, row := range networks() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := &stage{lan: newLAN(t, row.hosts...), row: &row, people: map[string]*node{}}
			s.must(copyPrivate(registered, s.dir))
			for who, link := range row.links {
				s.host(who).Impair(link)
			}
			if row.before != nil {
				row.before(s)
			}
			if !row.dead {
				s.authd = s.lan.authd("h1", "authd", row.args["authd"]...)
			}
			var all []*node
			for _, name := range []string{"ann", "bob", "carol"} {
				if host := row.places()[name]; host != "" {
					n := s.node(host, name, row.args[name]...)
					n.ready(name, s.authd)
					s.people[name] = n
					all = append(all, n)
				}
			}
			if i := slices.IndexFunc(all, func(n *node) bool { return n.name == row.first }); i > 0 {
				all[0], all[i] = all[i], all[0]
			}
			s.meet(all)
			gather("#lab", all...)
			s.converse("first", all)
			if row.then != nil {
				row.then(s)
				s.meet(all)
				s.converse("after", all)
			}
			who := row.check
			if who == "" {
				who = "ann"
			}
			wrong := s.checkup(row.places()[who], s.as(who, row.args[who]...)...)
			wantWrong(t, row.name+", "+who, wrong, row.doctor)
		})
	}
}

// reach reports whether two people can reach each other.
func (s *stage) reach(a, b *node) bool {
	return !slices.Contains(s.row.apart, a.name) || !slices.Contains(s.row.apart, b.name)
}

// meet waits until everybody sees everybody: online, or away if there is no way.
func (s *stage) meet(all []*node) {
	s.t.Helper()
	for i, a := range all {
		for _, b := range all[i+1:] {
			if s.reach(a, b) {
				meet(a, b)
				continue
			}
			a.want("peer", "user", b.name, "state", "away", "cause", "unreachable")
			b.want("peer", "user", a.name, "state", "away", "cause", "unreachable")
		}
	}
}

// converse has everybody say something to the room and to everybody they reach,
// in both modes, and checks that it comes once.
func (s *stage) converse(what string, all []*node) {
	s.t.Helper()
	for _, n := range all { // where multicast is not heard, links take over by then
		for _, other := range all {
			if other != n {
				other.want("message", "id", n.say("#lab", "reliable", fmt.Sprint(what, ", can you hear me, ", other.name)), "from", n.name)
			}
		}
	}
	if s.row.apart == nil {
		talk("#lab", what, all...)
	} else {
		s.talkApart(what, all)
	}
	for _, a := range all {
		for _, b := range all {
			if a == b {
				continue
			}
			whisper("reliable", what+", reliable", a, b) // by way of authd, where there is no other
			if s.reach(a, b) {
				whisper("fast", what+", fast", a, b)
			}
		}
	}
	for _, n := range all {
		times := map[string]int{}
		for _, e := range n.all("message") {
			if id := e.text("id"); id != "" {
				if times[id]++; times[id] == 2 {
					s.t.Errorf("%s got a message twice: %v", n.name, e.fields)
				}
			}
		}
	}
}

// hears reports whether what one says in a room comes to the other directly: by
// multicast where only unicast is blocked. What is reliable comes by way of others
// too.
func (s *stage) hears(from, to *node) bool {
	return s.reach(from, to) || s.row.links[s.row.apart[0]].Isolated
}

// talkApart has everybody tell everybody something, where two do not reach each
// other.
func (s *stage) talkApart(what string, all []*node) {
	s.t.Helper()
	for _, n := range all {
		for _, mode := range []string{"reliable", "fast"} {
			id := n.say("#lab", mode, fmt.Sprint(n.name, ", ", mode, ", ", what))
			for _, other := range all {
				if other != n && (mode == "reliable" || s.hears(n, other)) {
					other.want("message", "chat", "#lab", "from", n.name, "id", id, "mode", mode)
				}
			}
		}
	}
}

// registeredDirs returns a directory with those of an authd and of people who
// have tokens of it. They met at addresses that no row has.
func registeredDirs(t *testing.T) string {
	t.Helper()
	l := newLAN(t, emu.Hosts(34)...)
	a := l.authd("h31", "authd")
	var all []*node
	for i, name := range []string{"ann", "bob", "carol"} {
		n := l.newcomer(fmt.Sprint("h", 32+i), name)
		n.ready(name, a)
		all = append(all, n)
	}
	meet(all...)
	for _, n := range all {
		n.quit()
	}
	a.quit()
	return l.dir
}

// copyPrivate copies the directories of authd and people, for their owner only.
func copyPrivate(from, to string) error {
	for _, name := range []string{"authd", "ann", "bob", "carol"} {
		if err := os.CopyFS(filepath.Join(to, name), os.DirFS(filepath.Join(from, name))); err != nil {
			return err
		}
		err := filepath.WalkDir(filepath.Join(to, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				return os.Chmod(path, 0o700)
			}
			return os.Chmod(path, 0o600)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
