//go:build linux

package main_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lanchat/testdata/lan/emu"

	"golang.org/x/net/ipv4"
)

// The whole of it: people register, find each other, talk in a room and directly in
// both modes, leave, come back without a password, and go on without authd.
func TestConversation(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(4)...)
	a := l.authd("h1", "authd")
	ann, bob, carol := l.newcomer("h2", "ann"), l.newcomer("h3", "bob"), l.newcomer("h4", "carol")
	for _, n := range []*node{ann, bob, carol} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol)
	gather("#lab", ann, bob, carol)

	talk("#lab", "first day", ann, bob, carol)
	for _, mode := range []string{"reliable", "fast"} {
		whisper(mode, "to bob, "+mode, ann, bob)
		whisper(mode, "to ann, "+mode, bob, ann)
	}

	// What one types goes to the current chat, in its mode.
	ann.line("typed in a room")
	bob.want("message", "chat", "#lab", "from", "ann", "text", "typed in a room", "mode", "reliable")
	ann.object("cmd", "do", "line", "/mode fast", "chat", "#lab", "ref", "faster")
	ann.line("typed in a hurry")
	for _, n := range []*node{bob, carol} {
		n.want("message", "chat", "#lab", "from", "ann", "text", "typed in a hurry", "mode", "fast")
	}
	bob.line("typed by another, who did not choose")
	ann.want("message", "chat", "#lab", "from", "bob", "text", "typed by another, who did not choose", "mode", "reliable")
	ann.line("/msg bob psst")
	psst := bob.want("message", "chat", "@ann", "from", "ann", "text", "psst")
	bob.want("notify", "chat", "@ann", "id", psst.text("id"), "why", "dm")
	bob.line("/r what?")
	ann.want("message", "chat", "@bob", "from", "bob", "text", "what?")

	ann.line("/users")
	ann.want("notice", "text", containing("bob"))
	ann.line("/net")
	ann.want("notice", "code", "net", "text", containing("eth0", "used: 10.77.0.2/24", "authd", "bob", "by multicast", "connected with", "round trip"))
	ann.line("/ping bob")
	ann.want("notice", "code", "ping", "text", containing("bob answers after"))
	ann.line("/rooms")
	ann.want("notice", "text", containing("#lab"))
	ann.object("cmd", "do", "line", "/names", "chat", "#lab")
	ann.want("notice", "text", containing("carol"))

	for _, n := range []*node{ann, bob, carol} { // one's own words do not come back
		if own := n.all("message", "from", n.name); len(own) > 0 {
			t.Errorf("%s got its own message: %v", n.name, own[0].fields)
		}
	}

	// A goodbye is seen at once.
	carol.quit()
	ann.want("peer", "user", "carol", "state", "left", "cause", "goodbye")
	bob.want("peer", "user", "carol", "state", "left", "cause", "goodbye")
	bob.quit()
	ann.want("peer", "user", "bob", "state", "left", "cause", "goodbye")
	ann.quit()

	// The next day nobody needs a password. Who is away misses nothing.
	back := func(old *node, host string) *node {
		n := l.node(host, old.name)
		n.ready(old.name, a)
		n.want("room", "chat", "#lab", "cause", "restored", "members", []string{"ann", "bob", "carol"}, "admins", []string{"ann"})
		return n
	}
	ann, bob = back(ann, "h2"), back(bob, "h3")
	meet(ann, bob)
	id := ann.say("#lab", "reliable", "carol is not here yet")
	bob.want("message", "chat", "#lab", "id", id)
	carol = back(carol, "h4")
	meet(ann, bob, carol)
	carol.want("message", "chat", "#lab", "from", "ann", "text", "carol is not here yet", "id", id)
	talk("#lab", "second day", ann, bob, carol)

	// Without authd everything goes on, for those who are there and those who come.
	a.kill()
	talk("#lab", "authd is dead", ann, bob, carol)
	whisper("reliable", "it is dead", carol, bob)
	whisper("fast", "dead indeed", bob, carol)
	bob.quit()
	ann.want("peer", "user", "bob", "state", "left")
	for _, n := range []*node{ann, carol} {
		n.want("authd", "state", "down")
		n.fresh()
	}
	bob = l.node("h3", "bob")
	bob.ready("bob", nil)
	bob.want("room", "chat", "#lab", "cause", "restored", "members", []string{"ann", "bob", "carol"})
	meet(ann, bob)
	meet(bob, carol)
	talk("#lab", "authd is still dead", ann, bob, carol)
	whisper("reliable", "still dead", bob, ann)
	whisper("fast", "I know", ann, bob)

	// authd comes back, and is found.
	a = l.authd("h1", "authd")
	for _, n := range []*node{ann, bob, carol} {
		n.want("authd", "state", "up", "fingerprint", a.fingerprint)
	}
}

// A packet is what of a frame the tests look at.
type packet struct {
	proto    string // "ARP", "UDP", …
	src, dst netip.AddrPort
	payload  []byte // of UDP
}

// parsePacket reads an Ethernet frame.
func parsePacket(frame []byte) packet {
	etherType, ip := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	var src, dst netip.Addr
	var proto byte
	switch etherType {
	case 0x0806:
		return packet{proto: "ARP"}
	case 0x0800:
		proto = ip[9]
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		ip = ip[int(ip[0]&15)*4 : binary.BigEndian.Uint16(ip[2:])]
	case 0x86dd:
		proto = ip[6]
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		ip = ip[40 : 40+int(binary.BigEndian.Uint16(ip[4:]))]
		if proto == 0 { // hop-by-hop options, of MLD
			proto, ip = ip[0], ip[8+8*int(ip[1]):]
		}
	default:
		return packet{proto: fmt.Sprintf("EtherType %#04x", etherType)}
	}
	p := packet{src: netip.AddrPortFrom(src, 0), dst: netip.AddrPortFrom(dst, 0)}
	switch proto {
	case 1:
		p.proto = "ICMP"
		if ip[0] == 3 { // by a kernel, to who still talks to a program that ended
			p.proto = "ICMP unreachable"
		}
	case 2:
		p.proto = "IGMP"
	case 58:
		p.proto = "ICMPv6"
	case 17:
		p.proto = "UDP"
		p.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(ip))
		p.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(ip[2:]))
		p.payload = ip[8:]
	default:
		p.proto = fmt.Sprintf("IP protocol %d", proto)
	}
	return p
}

// First bytes of packets on port 4748.
const (
	roomPacket     = 0x11
	presencePacket = 0x21
)

// A tally counts what a host sends to a group.
type tally struct {
	mu              sync.Mutex
	changed         *sync.Cond
	rooms, unicast  int // room packets to the group, and to somebody
	presence, bytes int
	frames          int
}

// tally counts what a host sends from now on.
func (l *lan) tally(host string) *tally {
	c := &tally{}
	c.changed = sync.NewCond(&c.mu)
	addr := l.Host(host).Port(0).IPv4().Addr()
	mac := l.Host(host).Port(0)
	l.t.Cleanup(l.Watch(func(f emu.Frame) {
		if f.From != mac {
			return
		}
		p := parsePacket(f.Data)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.frames++
		c.bytes += len(f.Data)
		if len(p.payload) == 0 {
			return
		}
		switch {
		case p.payload[0] == roomPacket && p.dst.Addr().IsMulticast() && p.dst.Port() == 4748:
			c.rooms++
		case p.payload[0] == roomPacket && p.src.Addr() == addr && p.dst.Port() != 5353 && !p.dst.Addr().IsMulticast():
			c.unicast++
		case p.payload[0] == presencePacket && p.dst.Port() == 4748:
			c.presence++
		}
		c.changed.Broadcast()
	}))
	return c
}

// beats waits until the host has sent n more presence packets, and returns how many room
// packets it sent meanwhile: time told by the wire.
func (c *tally) beats(n int) (rooms int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n += c.presence
	before := c.rooms
	for c.presence < n {
		c.changed.Wait()
	}
	return c.rooms - before
}

func (c *tally) sent() (rooms, unicast, presence int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rooms, c.unicast, c.presence
}

// On the wire is nothing but UDP, and nothing in it that can be read. A message to a
// room costs its sender one packet, however many there are.
func TestWire(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(5)...)
	var file bytes.Buffer
	capture, err := l.Capture(&file)
	if err != nil {
		t.Fatal(err)
	}
	a := l.authd("h1", "authd")
	const chat = "#zqparlour"
	ann, bob := l.newcomer("h2", "quillon"), l.newcomer("h3", "barnabas")
	carol, dave := l.newcomer("h4", "celestine"), l.newcomer("h5", "dagobert")
	everybody := []*node{ann, bob, carol, dave}
	for _, n := range everybody {
		n.ready(n.name, a)
	}
	meet(everybody...)

	const messages, canary = 100, "xylophone"
	wire := l.tally("h2")
	count := func(others ...*node) {
		t.Helper()
		// What a host sends besides, idle: measured in two presence periods, it may be
		// twice that during the messages, and a little more.
		idle := wire.beats(2)
		rooms0, unicast0, beats0 := wire.sent()
		for i := range messages {
			tell(chat, "fast", fmt.Sprintf("%s %d of %d", canary, i, len(others)), ann, others...)
		}
		rooms, unicast, beats := wire.sent()
		got, slack := rooms-rooms0, 4+(beats-beats0+1)*max(1, idle)
		if got < messages || got > messages+slack {
			t.Errorf("%d fast messages to %d members are %d room packets, want %d and at most %d beacons",
				messages, len(others), got, messages, slack)
		}
		if unicast != unicast0 {
			t.Errorf("%d room packets by unicast where nothing was lost, want none", unicast-unicast0)
		}
	}
	gather(chat, ann, bob)
	ann.object("cmd", "do", "chat", chat, "line", "/topic "+canary)
	count(bob)
	for i, n := range []*node{carol, dave} {
		n.line("/join %s", chat)
		for _, m := range everybody[:i+3] {
			m.want("room", "chat", chat, "cause", "joined", "whom", n.name)
		}
	}
	count(bob, carol, dave)

	talk(chat, canary, everybody...)
	whisper("reliable", canary+" reliable", ann, carol)
	whisper("fast", canary+" fast", carol, ann)
	for _, n := range everybody {
		n.quit()
	}
	a.quit()
	if err := capture.Close(); err != nil {
		t.Fatal(err)
	}

	seen := map[string]int{}
	secrets := []string{canary, strings.TrimPrefix(chat, "#"), password}
	for _, n := range everybody {
		secrets = append(secrets, n.name)
	}
	for f, err := range emu.ReadPcap(&file) {
		if err != nil {
			t.Fatal(err)
		}
		seen[parsePacket(f.Data).proto]++
		for _, s := range secrets {
			if bytes.Contains(bytes.ToLower(f.Data), []byte(strings.ToLower(s))) {
				t.Errorf("%q in clear on the wire: %q", s, f.Data)
			}
		}
	}
	for proto, n := range seen {
		if !slices.Contains([]string{"UDP", "ARP", "ICMPv6", "ICMP unreachable", "IGMP"}, proto) {
			t.Errorf("%d frames of %s on the wire, want none", n, proto)
		}
	}
	if seen["UDP"] < messages {
		t.Errorf("%d frames of UDP on the wire: too few to have looked at", seen["UDP"])
	}
}

// Who dies without a goodbye is missed, and welcomed back.
func TestKilled(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(3)...)
	a := l.authd("h1", "authd")
	ann, bob, carol := l.newcomer("h1", "ann"), l.newcomer("h2", "bob"), l.newcomer("h3", "carol")
	for _, n := range []*node{ann, bob, carol} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol)
	gather("#lab", ann, bob, carol)
	tell("#lab", "reliable", "before", bob, ann, carol)
	bob.kill()
	for _, n := range []*node{ann, carol} {
		n.want("peer", "user", "bob", "state", "lost", "cause", "silent")
		n.fresh()
	}
	tell("#lab", "fast", "without bob", ann, carol)
	id := ann.say("#lab", "reliable", "for bob, too")
	carol.want("message", "id", id)
	bob = l.node("h2", "bob")
	bob.ready("bob", a)
	meet(ann, bob)
	meet(bob, carol)
	bob.want("message", "id", id, "text", "for bob, too", "from", "ann")
	talk("#lab", "after", ann, bob, carol)
}

// Everything on one machine, on a LAN and on none.
func TestOneHost(t *testing.T) {
	t.Parallel()
	for _, c := range []emu.HostConfig{{Name: "lan"}, {Name: "alone", Alone: true}} {
		t.Run(c.Name, func(t *testing.T) {
			l := newLAN(t, c)
			a := l.authd(c.Name, "authd")
			ann, bob := l.newcomer(c.Name, "ann"), l.newcomer(c.Name, "bob")
			ann.ready("ann", a)
			bob.ready("bob", a)
			meet(ann, bob)
			gather("#lab", ann, bob)
			talk("#lab", "here", ann, bob)
			whisper("reliable", "psst", ann, bob)
			whisper("fast", "what?", bob, ann)
			bob.quit()
			ann.want("peer", "user", "bob", "state", "left")
			bob = l.node(c.Name, "bob")
			bob.ready("bob", a)
			ann.want("peer", "user", "bob", "state", "online")
			bob.want("peer", "user", "ann", "state", "online")
			talk("#lab", "again", ann, bob)
		})
	}
}

// A realm is believed when the person said so, and no other in its place.
func TestTrust(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(3)...)
	a := l.authd("h1", "authd")
	other := l.run("h3", "", "authd", "code", "--data", l.path("other")) // a realm that is not here
	if other.code != 0 {                                                 // it may be made by serving only
		l.authd("h3", "other", "--no-mdns").quit()
		other = l.run("h3", "", "authd", "code", "--data", l.path("other")).exits(0)
	}
	otherCode := strings.TrimSpace(other.out)
	otherPrint := strings.TrimSpace(l.run("h3", "", "authd", "fingerprint", "--data", l.path("other")).exits(0).out)
	mistyped := []byte(a.code())
	if last := &mistyped[len(mistyped)-4]; *last == 'A' { // a letter before the last hyphen
		*last = 'B'
	} else {
		*last = 'A'
	}

	for _, c := range []struct {
		name string
		args []string
		want []int
	}{
		{"unknown realm, nobody to ask", nil, []int{5}},
		{"asking nobody", []string{"--trust", "ask"}, []int{5}},
		{"fingerprint of another realm", []string{"--trust", otherPrint}, []int{5}},
		{"no fingerprint", []string{"--trust", "nonsense"}, []int{2}},
		{"code of another realm", []string{"--join", otherCode}, []int{5}},
		{"mistyped code", []string{"--join", string(mistyped)}, []int{2, 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"--json", "--register", "--user", "eve", "--password-file", l.pw, "--data", l.path("eve")}, c.args...)
			n := l.start("h2", "eve", (*process).seeEvent, "node", args...) // its standard input stays open
			select {
			case <-n.done:
			case <-time.After(patience):
				t.Errorf("still runs; want exit status %v", c.want)
				n.kill()
			}
			if got := n.cmd.ProcessState.ExitCode(); !slices.Contains(c.want, got) {
				t.Errorf("exit status %d, want %v", got, c.want)
			}
			if errs := strings.Join(n.errout, "\n"); !strings.HasPrefix(errs, "node: ") {
				t.Errorf("standard error is %q, want a sentence that begins with %q", errs, "node: ")
			}
		})
	}
	if got := l.accounts("h1", a); len(got) > 0 {
		t.Errorf("authd has accounts %q of people who did not trust it", got)
	}

	for name, args := range map[string][]string{"ann": {"--trust", a.fingerprint}, "bob": {"--join", a.code()}} {
		n := l.node("h2", name, append(args, "--register", "--user", name, "--password-file", l.pw)...)
		n.ready(name, a)
		n.quit()
	}
	if got := l.accounts("h1", a); !slices.Equal(got, []string{"ann", "bob"}) {
		t.Errorf("authd has accounts %q, want ann and bob", got)
	}
}

// Another realm at the address where the trusted one was: a hard stop, for which there is
// one way out.
func TestChangedKey(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	a := l.authd("h1", "authd")
	ann := l.newcomer("h2", "ann")
	ann.ready("ann", a)
	ann.quit()
	l.run("h2", "", "node", l.as("ann", "trust", "list")...).exits(0).says(a.fingerprint)
	a.quit()
	b := l.authd("h1", "other")
	l.run("h2", "", "node", l.as("ann", "users", "--authd", b.addr)...).exits(5).explains("node trust replace")
	ann = l.node("h2", "ann", "--authd", b.addr)
	ann.want("error", "code", "fingerprint_changed")
	ann.want("authd", "state", "changed", "addr", b.addr, "fingerprint", b.fingerprint)
	ann.exits(5)
	l.run("h2", "", "node", l.as("ann", "trust", "replace", b.code())...).exits(0)
	ann = l.newcomer("h2", "ann", "--authd", b.addr)
	ann.ready("ann", b)
}

// Who may come in, and what is said to who may not.
func TestRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	a := l.authd("h1", "authd")
	ann := l.newcomer("h2", "ann")
	ann.ready("ann", a)

	wrong := l.write("wrong", "not-the-Password-7\n")
	weak := l.write("weak", "password\n")
	long := l.write("long", strings.Repeat("lotus-Ember-", 50)+"\n")
	for _, c := range []struct {
		name, user, file string
		register         bool
		want             string
	}{
		{"wrong password", "ann", wrong, false, "bad_credentials"},
		{"wrong password of who registers again", "ann", wrong, true, "bad_credentials"},
		{"unknown name", "zoe", l.pw, false, "bad_credentials"},
		{"bad name", "Ann Boleyn!", l.pw, true, "bad_name"},
		{"reserved name", "admin", l.pw, true, "bad_name"},
		{"weak password", "fred", weak, true, "weak_password"},
		{"endless password", "fred", long, true, "weak_password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"--user", c.user, "--password-file", c.file, "--trust", "first"}
			if c.register {
				args = append(args, "--register")
			}
			n := l.node("h1", "d"+strconv.Itoa(rand.N(1<<30)), args...)
			n.want("error", "code", c.want)
			n.exits(3)
			if got := n.all("ready"); len(got) > 0 {
				t.Errorf("ready nevertheless: %v", got[0].fields)
			}
		})
	}
	if got := l.accounts("h1", a); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("authd has accounts %q, want ann alone", got)
	}

	// The same person on another machine; registering again is logging in.
	again := l.node("h1", "again", "--register", "--user", "ann", "--password-file", l.pw, "--trust", "first")
	again.ready("ann", a)
	again.quit()

	missing := l.path("missing")
	l.run("h1", "", "node", "--json", "--data", l.path("new"), "--user", "fred", "--register", "--trust", "first",
		"--password-file", missing).exits(1).explains(missing)

	// A name that is taken.
	ben := l.newcomer("h1", "ben")
	ben.ready("ben", a)
	ben.quit()
}

// The machine's own refusals: what is wrong is said in a sentence, and the exit status is 1.
func TestRefusedByTheMachine(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	a := l.authd("h1", "authd")
	ann := l.newcomer("h2", "ann")
	ann.ready("ann", a)

	l.run("h2", "", "node", "--json", "--data", l.path("ann")).exits(1).explains(l.path("ann"))
	l.run("h1", "", "authd", "--data", a.data, "--listen", ":0").exits(1).explains(a.data)
	l.run("h1", "", "authd", "--data", l.path("second")).exits(1).explains("4747")
	taken := l.listen("h2", 4799)
	defer taken.Close()
	l.run("h2", "", "node", "--json", "--data", l.path("bob"), "--user", "bob", "--register", "--password-file", l.pw,
		"--trust", "first", "--port", "4799").exits(1).explains("4799")
	file := l.write("file", "")
	l.run("h2", "", "node", "--json", "--data", file).exits(1).explains(file)

	// ssh's rule: what others can read is no secret any more.
	ann.quit()
	a.quit()
	for program, dir := range map[string]string{"node": l.path("ann"), "authd": a.data} {
		start := []string{"--data", dir}
		if program == "node" {
			start = append(start, "--json")
		}
		chmod(t, dir, 0o755)
		l.run("h2", "", program, start...).exits(1).explains(dir)
		chmod(t, dir, 0o700)
		names := []string{}
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				names = append(names, path)
			}
			return err
		})
		if len(names) == 0 {
			t.Errorf("%s keeps nothing in %s", program, dir)
		}
		modes := map[string]fs.FileMode{}
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			modes[name] = info.Mode().Perm()
			if modes[name]&0o077 != 0 {
				t.Errorf("%s is %v: others can read it", name, modes[name])
			}
			chmod(t, name, 0o644)
		}
		l.run("h2", "", program, start...).exits(1).explains(dir)
		for name, mode := range modes {
			chmod(t, name, mode)
		}
	}
	a = l.authd("h1", "authd")
	ann = l.node("h2", "ann") // and all is well again
	ann.ready("ann", a)
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// What a person types wrong is explained, and changes nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	a := l.authd("h1", "authd")
	ann, bob := l.newcomer("h1", "ann"), l.newcomer("h2", "bob")
	ann.ready("ann", a)
	bob.ready("bob", a)
	meet(ann, bob)
	gather("#lab", ann, bob)
	tell("#lab", "reliable", "first", ann, bob)
	rooms := len(ann.all("room"))

	ann.refuses("#lab", "/frobnicate now", "unknown_command", "frobnicate")
	ann.refuses("#lab", "/wohis bob", "unknown_command", "/whois")
	ann.refuses("#lab", "/m bob", "unknown_command") // /me, /msg, /mode, /mute
	ann.refuses("#lab", "/msg nobody hello", "no_such_user", "nobody")
	ann.refuses("#lab", "/msg", "bad_argument")
	ann.refuses("#lab", "/kick", "bad_argument")
	ann.refuses("#lab", "/kick nobody", "no_such_user", "nobody")
	ann.refuses("#lab", "/join #nowhere", "no_such_room", "#nowhere")
	ann.refuses("#lab", "/join", "bad_argument")
	ann.refuses("#lab", "/create no spaces please", "bad_argument")
	ann.refuses("#lab", "/mode sideways", "bad_argument", "sideways")
	ann.refuses("#lab", "/silence bob 3x", "bad_argument", "3x")
	ann.refuses("", "/whois nobody", "no_such_user", "nobody")
	for _, c := range [][]string{
		{"no_such_room", "say", "#nowhere", "x"},
		{"no_such_user", "say", "@nobody", "x"},
		{"bad_argument", "say", "lab", "x"},
		{"bad_argument", "say", "#lab", ""},
		{"too_long", "say", "#lab", strings.Repeat("long ", 14_000)},
		{"too_long", "say", "@bob", strings.Repeat("long ", 14_000)},
	} {
		ref := fmt.Sprintf("%s %s %d", c[1], c[2], len(c[3]))
		ann.object("cmd", c[1], "chat", c[2], "text", c[3], "ref", ref)
		if got := ann.want("error", "ref", ref).text("code"); got != c[0] {
			t.Errorf("%s: error code %q, want %q", ref, got, c[0])
		}
	}
	ann.object("cmd", "say", "chat", "#lab", "text", "x", "mode", "sideways", "ref", "mode")
	ann.want("error", "ref", "mode", "code", "bad_argument")
	ann.object("cmd", "fly", "ref", "fly")
	ann.want("error", "ref", "fly")
	for _, bad := range []string{`{"cmd":`, `{}`, `{"cmd":7}`, `{"cmd":"say","chat":"#lab","text":"x"} trailing`, "{\x00}"} {
		ann.fresh()
		ann.line("%s", bad)
		ann.want("error", "text", containing(" "))
	}

	// Nothing was sent and nothing changed, and everything still works.
	tell("#lab", "reliable", "second", ann, bob)
	if got := bob.all("message"); len(got) != 2 {
		t.Errorf("bob got %d messages, want the first and the second", len(got))
	}
	if got := len(ann.all("sent")); got != 2 {
		t.Errorf("ann sent %d messages, want 2", got)
	}
	if got := ann.all("room"); len(got) != rooms {
		t.Errorf("a room changed: %v", got[len(got)-1].fields)
	}

	// A slash is sent by doubling it; a unique prefix will do.
	ann.line("//shrug")
	bob.want("message", "chat", "#lab", "from", "ann", "text", "/shrug")
	ann.line("/cre #den")
	ann.want("room", "chat", "#den", "cause", "created")

	// What only looks dangerous is text like any other.
	tell("#lab", "fast", `<red>{"event":"ready"}</> Grüße, 世界 👋 %s`, bob, ann)
}

// A message may have nearly 64 KiB, to a person and to a room; a longer one is
// refused and says so.
func TestLongMessage(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	a := l.authd("h1", "authd")
	ann, bob := l.newcomer("h1", "ann"), l.newcomer("h2", "bob")
	ann.ready("ann", a)
	bob.ready("bob", a)
	meet(ann, bob)
	gather("#lab", ann, bob)
	for _, tt := range []struct {
		chat, from string
		size       int
		fits       bool
	}{
		{"@ann", "@bob", 1000, true}, {"@ann", "@bob", 5000, true}, {"@ann", "@bob", 65_000, true}, {"@ann", "@bob", 70_000, false},
		{"#lab", "#lab", 1000, true}, {"#lab", "#lab", 1100, true}, {"#lab", "#lab", 65_000, true}, {"#lab", "#lab", 70_000, false},
	} {
		text := strings.Repeat("lang ", tt.size/5)
		ref := fmt.Sprintf("%d bytes to %s", tt.size, tt.chat)
		bob.object("cmd", "say", "chat", tt.chat, "text", text, "mode", "reliable", "ref", ref)
		e := bob.answer(ref)
		switch {
		case !tt.fits && (e.name != "error" || e.text("code") != "too_long"):
			t.Errorf("%s: %s %q, want it refused", ref, e.name, e.text("text"))
		case tt.fits && e.name != "sent":
			t.Errorf("%s: %s %q, want it sent", ref, e.name, e.text("text"))
		case tt.fits:
			ann.want("message", "chat", tt.from, "from", "bob", "text", text)
		}
	}
}

// The rules of a room are the rules for everybody in it.
func TestGovernance(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(4)...)
	a := l.authd("h1", "authd")
	ann, bob, carol := l.newcomer("h2", "ann"), l.newcomer("h3", "bob"), l.newcomer("h4", "carol")
	for _, n := range []*node{ann, bob, carol} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol)
	gather("#lab", ann, bob)

	carol.line("/rooms")
	carol.want("notice", "text", containing("#lab"))
	carol.object("cmd", "say", "chat", "#lab", "text", "let me in", "ref", "outside")
	carol.want("error", "ref", "outside", "code", "not_member")
	bob.refuses("#lab", "/kick ann", "not_admin")
	bob.refuses("#lab", "/ban ann", "not_admin")

	ann.object("cmd", "do", "chat", "#lab", "line", "/topic Hic sunt dracones")
	for _, n := range []*node{ann, bob} {
		n.want("room", "chat", "#lab", "topic", "Hic sunt dracones", "by", "ann")
	}
	ann.object("cmd", "do", "chat", "#lab", "line", "/silence bob 1h")
	bob.want("room", "chat", "#lab", "cause", "silenced", "by", "ann", "whom", "bob")
	bob.object("cmd", "say", "chat", "#lab", "text", "mmpf", "ref", "gagged")
	bob.want("error", "ref", "gagged", "code", "silenced")
	ann.object("cmd", "do", "chat", "#lab", "line", "/unsilence bob")
	bob.want("room", "chat", "#lab", "cause", "unsilenced", "by", "ann", "whom", "bob")
	tell("#lab", "reliable", "at last", bob, ann)

	ann.object("cmd", "do", "chat", "#lab", "line", "/kick bob for a while")
	bob.want("room", "chat", "#lab", "cause", "kicked", "by", "ann", "whom", "bob", "members", []string{"ann"})
	bob.object("cmd", "say", "chat", "#lab", "text", "why?", "ref", "kicked")
	bob.want("error", "ref", "kicked", "code", "not_member")
	bob.line("/join #lab")
	ann.want("room", "chat", "#lab", "cause", "joined", "whom", "bob", "members", []string{"ann", "bob"})
	bob.want("room", "chat", "#lab", "cause", "joined", "whom", "bob", "members", []string{"ann", "bob"})

	ann.object("cmd", "do", "chat", "#lab", "line", "/ban bob 7d enough")
	bob.want("room", "chat", "#lab", "cause", "banned", "by", "ann", "whom", "bob")
	bob.refuses("", "/join #lab", "banned")
	ann.object("cmd", "do", "chat", "#lab", "line", "/bans")
	ann.want("notice", "text", containing("bob"))
	ann.object("cmd", "do", "chat", "#lab", "line", "/unban bob")
	ann.want("room", "chat", "#lab", "cause", "unbanned", "whom", "bob")

	for i, n := range []*node{bob, carol} {
		n.line("/join #lab")
		for _, m := range []*node{ann, bob, carol}[:i+2] {
			m.want("room", "chat", "#lab", "cause", "joined", "whom", n.name)
		}
	}
	ann.object("cmd", "do", "chat", "#lab", "line", "/op carol")
	for _, n := range []*node{ann, bob, carol} {
		n.want("room", "chat", "#lab", "cause", "promoted", "whom", "carol", "admins", []string{"ann", "carol"}, "members", []string{"ann", "carol", "bob"})
	}
	ann.object("cmd", "do", "chat", "#lab", "line", "/part")
	for _, n := range []*node{bob, carol} {
		n.want("room", "chat", "#lab", "members", []string{"carol", "bob"}, "admins", []string{"carol"})
	}
	tell("#lab", "reliable", "without ann", carol, bob)
	tell("#lab", "fast", "indeed", bob, carol)
	ann.object("cmd", "say", "chat", "#lab", "text", "and me?", "ref", "parted")
	ann.want("error", "ref", "parted", "code", "not_member")
	carol.line("/audit")
	carol.want("notice", "text", containing("ban"))
}

// A node without an authd says so and keeps looking; a one-shot call gives up.
func TestNoAuthd(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	ann := l.newcomer("h2", "ann")
	ann.want("authd", "state", "down")
	l.run("h1", "", "node", "users", "--trust", "first", "--data", l.path("bob")).exits(4).explains()
	a := l.authd("h1", "authd")
	ann.ready("ann", a)
	if left := ann.all("error"); len(left) > 0 {
		t.Errorf("an error, where there was only patience to have: %v", left[0].fields)
	}
}

// All ways to end a node are a goodbye.
func TestEnd(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	early := l.newcomer("h2", "bob")
	early.want("authd", "state", "down")
	early.quit() // though it has not begun
	a := l.authd("h1", "authd")
	ann := l.newcomer("h1", "ann")
	ann.ready("ann", a)
	for _, end := range []struct {
		name string
		do   func(*node)
	}{
		{"end of input", func(n *node) { n.stdin.Close() }},
		{"SIGINT", func(n *node) { n.signal(syscall.SIGINT) }},
		{"SIGTERM", func(n *node) { n.signal(syscall.SIGTERM) }},
		{"/quit", func(n *node) { n.line("/quit") }},
		{"text and end of input", func(n *node) {
			n.object("cmd", "say", "chat", "@ann", "text", "my last words", "mode", "reliable")
			n.stdin.Close()
		}},
	} {
		ann.fresh()
		bob := l.newcomer("h2", "bob")
		bob.ready("bob", a)
		meet(ann, bob)
		ann.fresh()
		end.do(bob)
		bob.exits(0)
		ann.want("peer", "user", "bob", "state", "left", "cause", "goodbye")
		if t.Failed() {
			t.Fatalf("at %s", end.name)
		}
	}
	// On disk is not lost: it is sent now, if it was not then.
	l.newcomer("h2", "bob").ready("bob", a)
	ann.from = 0
	ann.want("message", "chat", "@bob", "text", "my last words")

	a.signal(syscall.SIGINT)
	a.exits(0)
}

// One-shot commands work beside a running node, through it, and without one.
func TestOneShot(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(3)...)
	a := l.authd("h1", "authd")
	ann, bob := l.newcomer("h2", "ann"), l.newcomer("h3", "bob")
	ann.ready("ann", a)
	bob.ready("bob", a)
	meet(ann, bob)
	gather("#lab", ann, bob)

	check := func(how string) {
		t.Helper()
		l.run("h2", "", "node", l.as("ann", "send", "#lab", "hi", "all", how)...).exits(0)
		bob.want("message", "chat", "#lab", "from", "ann", "text", "hi all "+how, "mode", "reliable")
		l.run("h2", "", "node", l.as("ann", "send", "@bob", "hi", how)...).exits(0)
		bob.want("message", "chat", "@ann", "from", "ann", "text", "hi "+how)
		l.run("h2", "one "+how+"\ntwo "+how+"\n", "node", l.as("ann", "send", "#lab")...).exits(0)
		bob.want("message", "chat", "#lab", "text", "one "+how)
		bob.want("message", "chat", "#lab", "text", "two "+how)
		l.run("h2", "", "node", l.as("ann", "send", "--mode", "fast", "#lab", "quick", how)...).exits(0)
		bob.want("message", "chat", "#lab", "from", "ann", "text", "quick "+how, "mode", "fast")

		l.run("h2", "", "node", l.as("ann", "send", "@nobody", "hi")...).exits(7).explains("nobody")
		l.run("h2", "", "node", l.as("ann", "send", "#nowhere", "hi")...).exits(7).explains("#nowhere")
		l.run("h2", "", "node", l.as("ann", "send", "lab", "hi")...).exits(2).explains("lab")
		l.run("h2", "", "node", l.as("ann", "send")...).exits(2).explains()

		for _, c := range []struct{ args, want string }{
			{"users", "bob"}, {"rooms", "#lab"}, {"history #lab", "hi all " + how}, {"search " + how, "hi all " + how},
		} {
			args := strings.Fields(c.args)
			r := l.run("h2", "", "node", l.as("ann", args...)...).exits(0).says(c.want)
			if strings.Contains(r.out, "\x1b") {
				t.Errorf("%s: escape sequences without a terminal: %q", r.did, r.out)
			}
			r = l.run("h2", "", "node", l.as("ann", append(args, "--json")...)...).exits(0)
			if found, err := jsonHas(r.out, c.want); err != nil || !found {
				t.Errorf("%s: %q not in JSON (%v)\nstdout: %s\nstderr: %s", r.did, c.want, err, r.out, r.errout)
			}
		}
		l.run("h2", "", "node", l.as("ann", "history", "#nowhere")...).exits(7).explains("#nowhere")
		l.run("h2", "", "node", l.as("ann", "tail", "#nowhere")...).exits(7).explains("#nowhere")
	}
	check("beside")

	typing := l.start("h2", "send", (*process).seeEvent, "node", l.as("ann", "send", "#lab")...) // its standard input stays open
	typing.line("typed")
	bob.want("message", "chat", "#lab", "text", "typed")
	typing.signal(syscall.SIGINT)
	typing.exits(1)

	tail := &node{l.start("h2", "tail", (*process).seeEvent, "node", l.as("ann", "tail", "#lab", "--json")...)}
	for i := 0; i < 200 && len(tail.all("message", "from", "bob", "replay", false)) == 0; i++ { // nobody can know when it listens
		tell("#lab", "reliable", "hello?", bob, ann)
	}
	tell("#lab", "reliable", "there you are", bob, ann)
	tail.want("message", "chat", "#lab", "from", "bob", "text", "there you are")
	tail.signal(syscall.SIGTERM)
	tail.exits(0)

	ann.quit()
	bob.want("peer", "user", "ann", "state", "left")
	check("alone")

	// Nobody is there to confirm.
	bob.quit()
	l.run("h2", "", "node", l.as("ann", "send", "--timeout", "2s", "@bob", "anybody?")...).exits(6).explains("bob")

	// The log-in by itself.
	l.run("h1", "", "node", "register", "--user", "cat", "--password-file", l.pw, "--trust", "first", "--data", l.path("cat")).exits(0)
	l.run("h1", "", "node", "login", "--user", "cat", "--password-file", l.pw, "--trust", "first", "--data", l.path("cat2")).exits(0)
	l.run("h1", "", "node", l.as("cat", "logout")...).exits(0)
	l.run("h1", "", "node", l.as("cat", "users")...).exits(3).explains()
}

// jsonHas reports whether JSON text, one value or several, holds s in some string.
func jsonHas(text, s string) (bool, error) {
	var holds func(v any) bool
	holds = func(v any) bool {
		switch v := v.(type) {
		case string:
			return strings.Contains(v, s)
		case []any:
			return slices.ContainsFunc(v, holds)
		case map[string]any:
			for _, e := range v {
				if holds(e) {
					return true
				}
			}
		}
		return false
	}
	in := json.NewDecoder(strings.NewReader(text))
	found := false
	for {
		var v any
		if err := in.Decode(&v); err == io.EOF {
			return found, nil
		} else if err != nil {
			return found, err
		}
		found = found || holds(v)
	}
}

// Line mode is for pipes and screen readers: text, line by line, and nothing else.
func TestPlain(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	a := l.authd("h1", "authd")
	ann := l.newcomer("h1", "ann")
	ann.ready("ann", a)
	ann.line("/create #lab")
	ann.want("room", "chat", "#lab")
	bob := l.start("h2", "bob", nil, "node", "--plain", "--data", l.path("bob"), "--register", "--user", "bob",
		"--password-file", l.pw, "--trust", "first")
	ann.want("peer", "user", "bob", "state", "online")
	bob.line("/join #lab")
	bob.waitFor("you", "#lab")
	bob.line("hello from a pipe")
	ann.want("message", "chat", "#lab", "from", "bob", "text", "hello from a pipe")
	ann.object("cmd", "say", "chat", "#lab", "text", "mind \x1b[31mthe\x07 \u202egap", "mode", "reliable")
	ann.say("#lab", "reliable", "welcome")
	bob.waitFor("ann", "welcome")
	bob.line("/quit")
	bob.exits(0)

	// Colour where it is asked for, in one-shot commands and in line mode; else not
	// in a pipe.
	coloured := func(want bool, args ...string) {
		t.Helper()
		r := l.run("h1", "/users\n", "node", append(l.as("ann"), args...)...)
		if got := strings.Contains(r.exits(0).out, "\x1b["); got != want || !strings.Contains(r.out, "ann") {
			t.Errorf("%s: coloured is %v, want %v: %q", r.did, got, want, r.out)
		}
	}
	for _, args := range [][]string{{"users"}, {"history", "#lab"}, {"search", "welcome"}} {
		coloured(false, args...)
		coloured(false, append(args, "--color", "never")...)
		coloured(true, append(args, "--color", "always")...)
	}
	ann.quit()
	coloured(true, "--plain", "--color", "always")
	coloured(false, "--plain", "--color", "never")
	coloured(false, "--plain")

	out := strings.Join(bob.out, "\n")
	for _, bad := range []string{"\x1b", "\x07", "\u202e", "\r"} {
		if strings.Contains(out, bad) {
			t.Errorf("line mode printed %q: %q", bad, out)
		}
	}
	if !strings.Contains(out, "gap") {
		t.Errorf("line mode did not print the message that was cleaned: %q", out)
	}
}

// Lines that come at once, as from a script, take effect one after the other.
func TestLinesInOrder(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	a := l.authd("h1", "authd")
	ann, bob := l.newcomer("h1", "ann"), l.newcomer("h2", "bob")
	ann.ready("ann", a)
	bob.ready("bob", a)
	meet(ann, bob)
	ann.line("/create #lab\ntalking to myself")
	ann.want("sent", "chat", "#lab")
	bob.line("/join #lab\nhello\n/part\n/quit")
	bob.exits(0)
	ann.want("room", "chat", "#lab", "cause", "joined", "whom", "bob")
	ann.want("message", "chat", "#lab", "from", "bob", "text", "hello")
	ann.want("room", "chat", "#lab", "cause", "left", "whom", "bob", "members", []string{"ann"})
	ann.want("peer", "user", "bob", "state", "left")
}

// One command on a fresh network is a chat.
func TestHost(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	ann := l.newcomer("h1", "ann", "--host")
	fingerprint := ann.want("notice", "code", "hosting").text("data")
	if got := ann.want("ready", "user", "ann").text("fingerprint"); got != fingerprint {
		t.Errorf("ann is in realm %q, want the one it says it hosts, %q", got, fingerprint)
	}
	bob := l.newcomer("h2", "bob")
	if got := bob.want("ready", "user", "bob").text("fingerprint"); got != fingerprint {
		t.Errorf("bob is in realm %q, want ann's, %q", got, fingerprint)
	}
	meet(ann, bob)
	gather("#lab", ann, bob)
	talk("#lab", "hosted", ann, bob)
	ann.quit()
	bob.want("peer", "user", "ann", "state", "left")
	bob.fresh()
	ann = l.node("h1", "ann", "--host") // the same realm again
	ann.want("notice", "code", "hosting", "data", fingerprint)
	ann.from = 0
	if got := ann.want("ready", "user", "ann").text("fingerprint"); got != fingerprint {
		t.Errorf("ann hosts realm %q, want %q again", got, fingerprint)
	}
	bob.want("peer", "user", "ann", "state", "online")
}

// The demo needs nothing.
func TestDemo(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.HostConfig{Name: "alone", Alone: true})
	if r := l.run("alone", "", "node", "demo").exits(0); len(r.out) < 200 {
		t.Errorf("the demo has little to say: %q", r.out)
	}
	l.run("alone", "", "node", "demo", "--loss", "10").exits(0)
	home, err := filepath.Glob(l.path("home/.*/*"))
	if err != nil || len(home) > 0 {
		t.Errorf("the demo left %q behind (%v)", home, err)
	}
}

// On a bad network reliable is reliable, and in order: with three nodes at 5 %
// loss, or as LANCHAT_LOSS says, "10 0 1 5 20 40" for ten nodes at each of these.
func TestLoss(t *testing.T) {
	t.Parallel()
	nodes, losses := 3, []int{5}
	if s := os.Getenv("LANCHAT_LOSS"); s != "" {
		losses = nil
		for i, f := range strings.Fields(s) {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatalf("LANCHAT_LOSS: %v", err)
			}
			if i == 0 {
				nodes = n
			} else {
				losses = append(losses, n)
			}
		}
	}
	l := newLAN(t, emu.Hosts(nodes+1)...)
	a := l.authd("h1", "authd")
	var everybody []*node
	for i := range nodes {
		everybody = append(everybody, l.newcomer(fmt.Sprint("h", i+2), "p"+string(rune('a'+i))))
	}
	for _, n := range everybody {
		n.ready(n.name, a)
	}
	meet(everybody...)
	gather("#lab", everybody...)
	writers := everybody[:2]
	const messages = 100 // of each writer, at each loss
	for round, loss := range losses {
		for _, h := range l.Hosts() {
			h.Impair(emu.Link{Loss: float64(loss)})
		}
		for i := range messages {
			for _, n := range writers {
				n.object("cmd", "say", "chat", "#lab", "text", fmt.Sprintf("%s %d", n.name, round*messages+i), "mode", "reliable")
			}
		}
		begin := time.Now()
		for _, to := range everybody {
			for _, from := range writers {
				if to != from {
					to.want("message", "chat", "#lab", "from", from.name, "text", fmt.Sprintf("%s %d", from.name, (round+1)*messages-1))
				}
			}
		}
		t.Logf("%d messages at %d %% loss were with all %d nodes after %v", 2*messages, loss, nodes, time.Since(begin))
		for _, from := range writers {
			for range messages {
				from.want("receipt", "chat", "#lab", "got", nodes-1, "of", nodes-1)
			}
		}
	}
	// Whatever was repaired too much has come before this.
	tell("#lab", "reliable", "the end", everybody[nodes-1], everybody[:nodes-1]...)
	for _, from := range writers {
		for _, to := range everybody {
			if to == from {
				continue
			}
			var got, want []string
			for _, e := range to.all("message", "chat", "#lab", "from", from.name) {
				got = append(got, e.text("text"))
			}
			for i := range messages * len(losses) {
				want = append(want, fmt.Sprintf("%s %d", from.name, i))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s got from %s %v, want %d in order", to.name, from.name, got, len(want))
			}
			// A gap that was shown is shown to heal.
			if gaps := to.all("gap", "chat", "#lab", "from", from.name); len(gaps) > 0 && gaps[len(gaps)-1].fields["healed"] != true {
				t.Errorf("%s was shown a gap of %s that did not heal: %v", to.name, from.name, gaps[len(gaps)-1].fields)
			}
		}
	}
	whisper("reliable", "through the noise", everybody[0], everybody[nodes-1])
}

// listen opens a UDP socket in a host.
func (l *lan) listen(host string, port int) *net.UDPConn {
	l.t.Helper()
	var c *net.UDPConn
	if err := l.Host(host).Do(func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	}); err != nil {
		l.t.Fatal(err)
	}
	return c
}

// caster opens a socket in a host, which has no route for groups, that can send
// to groups.
func (l *lan) caster(host string) *net.UDPConn {
	l.t.Helper()
	c := l.listen(host, 0)
	if err := l.Host(host).Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return ipv4.NewPacketConn(c).SetMulticastInterface(eth0)
	}); err != nil {
		l.t.Fatal(err)
	}
	return c
}

// What is no packet of ours harms nobody.
func TestGarbage(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(3)...)
	var mu sync.Mutex
	targets := map[netip.AddrPort]bool{} // wherever anything was sent to
	samples := map[byte][]byte{}         // a packet of each kind
	stop := l.Watch(func(f emu.Frame) {
		p := parsePacket(f.Data)
		if p.proto != "UDP" || !p.dst.Addr().Is4() || p.dst.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		targets[p.dst] = true
		if len(p.payload) > 0 && samples[p.payload[0]] == nil {
			samples[p.payload[0]] = slices.Clone(p.payload)
		}
	})
	a := l.authd("h1", "authd")
	ann, bob := l.newcomer("h1", "ann"), l.newcomer("h2", "bob")
	ann.ready("ann", a)
	bob.ready("bob", a)
	meet(ann, bob)
	gather("#lab", ann, bob)
	talk("#lab", "before", ann, bob)
	whisper("fast", "before", ann, bob)
	stop()
	for _, host := range []string{"h1", "h2"} {
		for _, port := range []uint16{4747, 4748, 5353} {
			targets[netip.AddrPortFrom(l.Host(host).Port(0).IPv4().Addr(), port)] = true
		}
	}
	group := false
	for to := range targets {
		group = group || to.Addr().IsMulticast() && to.Port() == 4748
	}
	if !group || samples[roomPacket] == nil || samples[presencePacket] == nil {
		t.Fatalf("the wire shows no group, no room packet or no presence packet: %v", targets)
	}

	random := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	garbage := [][]byte{{}, {0}, {roomPacket}, {presencePacket}, noise(1200), noise(1473), noise(65507), make([]byte, 65507)}
	for _, sample := range samples {
		for _, version := range []byte{0x01, 0x10, 0x12, 0x20, 0x22, 0x31, 0xc0, 0xff} {
			b := slices.Clone(sample)
			b[0] = version
			garbage = append(garbage, b)
		}
		for range 20 { // bits flipped
			b := slices.Clone(sample)
			b[random.IntN(len(b))] ^= 1 << random.IntN(8)
			garbage = append(garbage, b)
		}
		for n := 0; n < len(sample); n += 1 + len(sample)/20 { // cut short
			garbage = append(garbage, sample[:n])
		}
		garbage = append(garbage, sample, sample, append(slices.Clone(sample), 0)) // replayed, made longer
	}
	for range 200 {
		b := noise(random.IntN(1400))
		if len(b) > 0 && random.IntN(2) == 0 {
			b[0] = []byte{roomPacket, presencePacket, 0xc0, 0x40}[random.IntN(4)]
		}
		garbage = append(garbage, b)
	}
	c := l.caster("h3")
	defer c.Close()
	for i, b := range garbage {
		for to := range targets {
			// A full queue is as good as any other.
			if _, err := c.WriteToUDPAddrPort(b, to); err != nil && to.Addr().Is4() && !isQueueFull(err) {
				t.Fatalf("sending %d bytes of garbage to %v: %v", len(b), to, err)
			}
		}
		if i%50 == 0 {
			tell("#lab", "reliable", fmt.Sprintf("amid garbage %d", i), ann, bob)
		}
	}
	talk("#lab", "after", ann, bob)
	whisper("reliable", "after", ann, bob)
	whisper("fast", "after", bob, ann)
	carol := l.newcomer("h3", "carol")
	carol.ready("carol", a)
	meet(ann, carol)
	carol.line("/join #lab")
	carol.want("room", "chat", "#lab", "cause", "joined", "whom", "carol")
	for _, n := range []*node{ann, bob} {
		if texts := n.all("message", "from", func(v any) bool { return v != "ann" && v != "bob" }); len(texts) > 0 {
			t.Errorf("%s shows garbage: %v", n.name, texts[0].fields)
		}
		n.quit()
	}
	a.quit()
}

// isQueueFull reports whether err is the kernel having no room for a packet.
func isQueueFull(err error) bool {
	return errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ECONNREFUSED)
}

// A device that the operator shuts out is gone for everybody within seconds.
func TestRevoked(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(3)...)
	a := l.authd("h1", "authd")
	ann, bob := l.newcomer("h2", "ann"), l.newcomer("h3", "bob")
	ann.ready("ann", a)
	bob.ready("bob", a)
	meet(ann, bob)
	device := bob.all("ready")[0].text("device")
	l.run("h1", "", "authd", "device", "revoke", "bob", device, "--data", l.path("authd")).exits(0)
	ann.want("peer", "user", "bob", "device", device, "state", "left", "cause", "revoked")
}

// Who is on a port without multicast takes part like everybody else: authd is
// named, the roster tells of the others, and room packets come over links. ann
// came to authd by an IPv6 address without a network, by which alone nobody
// could tell carol where ann is.
func TestWithoutMulticast(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(4)...)
	l.Host("h4").Impair(emu.Link{NoMulticast: true})
	a := l.authd("h1", "authd")
	linkLocal := netip.AddrPortFrom(l.Host("h1").Port(0).IPv6().WithZone("eth0"), 4747)
	ann, bob, carol := l.newcomer("h2", "ann", "--authd", linkLocal.String()), l.newcomer("h3", "bob"), l.newcomer("h4", "carol", "--authd", a.addr)
	for _, n := range []*node{ann, bob, carol} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol)
	gather("#lab", ann, bob, carol)
	for _, n := range []*node{ann, bob, carol} { // until the links have taken over, reliable ones are repaired
		for _, other := range []*node{ann, bob, carol} {
			if n != other {
				other.want("message", "id", n.say("#lab", "reliable", "can you hear me, "+other.name), "from", n.name)
			}
		}
	}
	talk("#lab", "without multicast", ann, bob, carol)
	whisper("reliable", "psst", carol, ann)
	whisper("fast", "psst", ann, carol)
}
