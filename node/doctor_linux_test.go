package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"lanchat/node/doctor"
	"lanchat/testdata/lan/emu"
)

// checkup runs node doctor on a host and returns what is wrong, by check, with
// cause and fix in one text.
func (l *lan) checkup(host string, args ...string) map[string]string {
	l.t.Helper()
	r := l.run(host, "", "node", append([]string{"doctor", "--json"}, args...)...)
	checked, wrong := map[string]bool{}, map[string]string{}
	for line := range strings.Lines(r.out) {
		var f doctor.Finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			l.t.Fatalf("doctor on %s says %q: %v", host, line, err)
		}
		checked[f.Check] = true
		if !f.OK {
			wrong[f.Check] += f.Cause + " → " + f.Fix + "\n"
		}
	}
	if len(checked) != 7 {
		l.t.Errorf("doctor on %s checked %v, want all seven; it said %s%s", host, checked, r.out, r.errout)
	}
	if len(wrong) == 0 {
		r.exits(0)
	} else {
		r.exits(1)
	}
	return wrong
}

// wantWrong checks that exactly these checks fail, each saying the words.
func wantWrong(t *testing.T, where string, wrong map[string]string, want map[string]string) {
	t.Helper()
	for check, text := range wrong {
		if !strings.Contains(text, want[check]) || want[check] == "" {
			t.Errorf("%s: doctor says of %s: %s want %q", where, check, text, want[check])
		}
	}
	for check, words := range want {
		if wrong[check] == "" {
			t.Errorf("%s: doctor says that %s is well, want %q", where, check, words)
		}
	}
}

// What node doctor says of networks that are well and of some that are not,
// with the node of the data directory running and without it.
func TestDoctor(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(4)...)
	wantWrong(t, "nobody there", l.checkup("h4", "--data", l.path("fresh")), map[string]string{"authd": "no authd was found"})
	a := l.authd("h1", "authd")
	wantWrong(t, "not logged in", l.checkup("h4", "--data", l.path("fresh")), nil)
	ann, bob := l.newcomer("h2", "ann"), l.newcomer("h3", "bob")
	ann.ready("ann", a)
	bob.ready("bob", a)
	meet(ann, bob)
	beacons := l.tally("h3")
	beacons.beats(4) // until ann's kernel has said the second time that she is in the group
	l.Host("h2").Impair(emu.Link{Forgot: true})
	beacons.beats(8) // of 2 s, which ann does not hear
	wantWrong(t, "a switch that forgets", l.checkup("h2", l.as("ann")...), map[string]string{"multicast": "the switch has forgotten who is in the group"})
	carol := l.newcomer("h4", "carol")
	carol.ready("carol", a)
	carol.quit() // its data directory is for checkups
	wantWrong(t, "all is well, running", l.checkup("h2", l.as("ann")...), nil)
	wantWrong(t, "all is well", l.checkup("h4", l.as("carol")...), nil)

	l.Host("h4").Impair(emu.Link{NoMulticast: true})
	wantWrong(t, "deaf port", l.checkup("h4", l.as("carol", "--authd", a.addr)...), map[string]string{"multicast": "can be reached and nobody is heard"})
	l.Host("h4").Impair(emu.Link{})

	l.Host("h4").Port(0).SetUp(false)
	wantWrong(t, "switched off", l.checkup("h4", l.as("carol")...),
		map[string]string{"interfaces": "there is no LAN", "authd": "does not answer"})
	l.Host("h4").Port(0).SetUp(true)

	if err := addAdapter(l.Host("h4"), "utun3", "10.8.0.2/24", "10.77.0.0/25"); err != nil {
		t.Fatal(err)
	}
	wrong := l.checkup("h4", l.as("carol")...)
	if want := "leave by utun3: a VPN has taken its route"; !strings.Contains(wrong["interfaces"], want) { // by IPv6 all is well
		t.Errorf("behind a VPN: doctor says %v, want %q", wrong, want)
	}
	if err := l.Host("h4").Do(func() error {
		utun, err := netlink.LinkByName("utun3")
		if err != nil {
			return err
		}
		return netlink.LinkDel(utun)
	}); err != nil {
		t.Fatal(err)
	}

	// A program that does not share the port of mDNS or of the group, and one that has
	// the node's.
	for port, want := range map[int][2]string{5353: {"mdns", "another program has the port 5353"}, 4748: {"multicast", "another program has the port 4748"}, 4749: {"interfaces", "UDP port 4749 is in use by another program"}} {
		var taken *net.UDPConn
		if err := l.Host("h4").Do(func() (err error) {
			taken, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		wantWrong(t, fmt.Sprint("port ", port, " is taken"), l.checkup("h4", l.as("carol", "--port", "4749")...), map[string]string{want[0]: want[1]})
		taken.Close()
	}

	a.kill()
	wrong = l.checkup("h4", l.as("carol")...)
	wantWrong(t, "authd killed", wrong, map[string]string{"authd": "does not answer"})
}
