package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// healthy is a network in which all is well; change spoils it.
func healthy(change func(*Facts)) *Facts {
	f := &Facts{
		Interfaces: []Interface{
			{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.77.0.2/24")}, Groups: []GroupFact{{Family: "IPv4", Back: true, Heard: 1}}},
			{Name: "docker0", Reason: "virtual (containers' bridge)"},
		},
		Authds: []AuthdFact{{Addr: netip.MustParseAddrPort("10.77.0.1:4747"), Via: []string{"mdns", "multicast"}, Realm: "workshop", RTT: time.Millisecond}},
		Pinned: "workshop",
		Others: []Other{{Name: "bob", Heard: true, Authd: true, Reached: true, Tried: true, OnLink: true, HearsUs: true, RTT: 300 * time.Microsecond}},
		Ahead:  time.Millisecond,
		User:   "ann", Until: now.Add(24 * time.Hour),
		System: System{OS: "linux", Buffer: 8 << 20},
	}
	change(f)
	return f
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Facts)
		check  string   // what is wrong; "": nothing
		cause  []string // is said of it
		fix    []string
	}{
		{name: "all is well", change: func(*Facts) {}},
		{"no network", func(f *Facts) { f.Interfaces = []Interface{{Name: "eth0", Reason: "down"}} },
			Interfaces, []string{"no network interface can be used", "eth0 is not used: down"}, []string{"ip link set eth0 up"}},
		{"only loopback", func(f *Facts) { f.Interfaces[0].Loopback = true }, Interfaces, []string{"there is no LAN"}, []string{"--iface docker0"}},
		{"an interface that is not there", func(f *Facts) { f.Named = []string{"wlan7"} }, Interfaces, []string{"--iface wlan7"}, []string{"ip -brief address"}},
		{"VPN", func(f *Facts) { f.Interfaces[0].Route = "tun0" }, Interfaces, []string{"leave by tun0", "VPN"}, []string{"split tunnelling"}},
		{"group refused", func(f *Facts) {
			f.Interfaces[0].Groups[0] = GroupFact{Family: "IPv4", Err: errors.New("operation not permitted")}
		},
			Multicast, []string{"eth0", "operation not permitted"}, []string{"firewall"}},
		{"another network on the same wire", func(f *Facts) {
			f.Interfaces[0].Groups[0].Foreign = []netip.Addr{netip.MustParseAddr("10.99.0.7")}
		},
			Interfaces, []string{"eth0 has 10.77.0.2/24", "heard from 10.99.0.7", "the address or the mask is wrong"}, []string{"DHCP"}},
		{"heard from another network", func(f *Facts) { f.Others[0].Reached, f.Others[0].OnLink = false, false },
			Peers, []string{"bob are heard by multicast and have no address in a network of this machine's"}, []string{"one network"}},
		{"authd is slow", func(f *Facts) { f.Authds[0].Err = fmt.Errorf("logging in: %w", context.DeadlineExceeded) },
			Authd, []string{"not in time", "packets are lost"}, []string{"wireless signal"}},
		{"authd is silent for too long", func(f *Facts) { f.Authds[0].Realm, f.Authds[0].Err = "", context.DeadlineExceeded },
			Authd, []string{"does not answer: it is off, or UDP between here and there is blocked"}, nil},
		{"the group's port is another program's", func(f *Facts) {
			f.Interfaces[0].Groups[0] = GroupFact{Family: "IPv4", Err: fmt.Errorf("%w 4748 and does not share it", ErrPort)}
		},
			Multicast, []string{"eth0 can't be used by IPv4: another program has the port 4748"}, []string{"ss -ulpn sport = 4748"}},
		{"nothing comes back", func(f *Facts) { f.Interfaces[0].Groups[0].Back = false }, Multicast, []string{"does not even come back"}, []string{"ufw allow", "firewall-cmd", "nft add rule"}},
		{"the firewall that is on", func(f *Facts) { f.Interfaces[0].Groups[0].Back = false; f.System.Firewall = "ufw" }, Multicast, nil, []string{"the firewall ufw is on; as root: ufw allow 4747:4749/udp"}},
		{"nobody heard", func(f *Facts) { f.Interfaces[0].Groups[0].Heard = 0; f.Others[0].Heard = false },
			Multicast, []string{"bob can be reached and nobody is heard"}, []string{"isolation", "querier"}},
		{"in WSL", func(f *Facts) { f.Interfaces[0].Groups[0].Heard = 0; f.Others[0].Heard = false; f.System.WSL = true },
			Multicast, []string{"networkingMode=mirrored"}, nil},
		{"one not heard", func(f *Facts) {
			f.Others = append(f.Others, Other{Name: "cat", Reached: true, Tried: true, OnLink: true, HearsUs: true})
		},
			Multicast, []string{"cat can be reached, others are heard"}, []string{"node doctor there"}},
		{"on another network", func(f *Facts) {
			f.Others = append(f.Others, Other{Name: "cat", Reached: true, Tried: true, HearsUs: true})
		}, "", nil, nil},
		{"not heard by another", func(f *Facts) { f.Others[0].HearsUs = false }, Multicast, []string{"bob do not hear this machine", "one direction"}, nil},
		{"mDNS blocked", func(f *Facts) { f.Authds[0].Via = []string{"multicast"} }, MDNS, []string{"heard at 10.77.0.1:4747 and answers no mDNS", "5353"}, []string{"5353/udp"}},
		{"mDNS not sent", func(f *Facts) { f.Interfaces[0].MDNS = errors.New("no route") }, MDNS, []string{"eth0: no route"}, nil},
		{"no authd", func(f *Facts) { f.Authds = nil }, Authd, []string{"the authd of workshop was not found"}, []string{"start authd", "--authd HOST:PORT"}},
		{"a silent authd", func(f *Facts) {
			f.Authds[0] = AuthdFact{Addr: f.Authds[0].Addr, Via: []string{"mdns"}, Err: errors.New("no answer")}
		},
			Authd, []string{"should be at 10.77.0.1:4747 (known by mdns)"}, []string{"4747"}},
		{"no authd on this machine", func(f *Facts) {
			f.Authds[0] = AuthdFact{Addr: f.Authds[0].Addr, Via: []string{"this machine"}, Err: errors.New("no answer")}
		},
			Authd, []string{"was not found"}, nil},
		{"another realm", func(f *Facts) { f.Authds[0].Err = errors.New("the key has changed") }, Authd, []string{"can't be used", "the key has changed"}, []string{"node trust"}},
		{"IGMP snooping without a querier", func(f *Facts) {
			f.Shared = true
			f.Others[0].Heard, f.Others[0].Anew = false, true
		},
			Multicast, []string{"did not hear bob until it joined the group anew", "the switch has forgotten"}, []string{"IGMP querier"}},
		{"port 5353 is taken", func(f *Facts) { f.Interfaces[0].MDNS = fmt.Errorf("%w 5353", ErrPort) }, MDNS, []string{"another program has the port 5353"}, []string{"ss -ulpn sport = 5353"}},
		{"the node's port is taken", func(f *Facts) { f.PortTaken = 4749 }, Interfaces, []string{"UDP port 4749 is in use by another program"}, []string{"ss -ulpn sport = 4749", "another --port"}},
		{"its own node has the port", func(f *Facts) { f.PortTaken, f.Shared = 4749, true }, "", nil, nil},
		{"firewalld", func(f *Facts) { f.Interfaces[0].Groups[0].Back = false; f.System.Firewall = "firewalld" }, Multicast, nil,
			[]string{"the firewall firewalld is on; as root: firewall-cmd --permanent --add-port=4747-4749/udp --add-port=5353/udp --add-protocol=igmp && firewall-cmd --reload"}},
		{"nftables", func(f *Facts) { f.Interfaces[0].Groups[0].Back = false; f.System.Firewall = "nftables" }, Multicast, nil,
			[]string{"nft add rule inet filter input udp dport '{ 4747-4749, 5353 }' accept"}},
		{"macOS", func(f *Facts) {
			f.Interfaces[0].Groups[0] = GroupFact{Family: "IPv4", Err: errors.New("no route to host")}
			f.System = System{OS: "darwin"}
		},
			Multicast, []string{"can't be used by IPv4: no route to host"}, []string{"Privacy & Security, Local Network: allow the terminal"}},
		{"Windows", func(f *Facts) { f.Interfaces[0].Groups[0].Back = false; f.System = System{OS: "windows"} }, Multicast, nil, []string{"Allow an app: node"}},
		{"in a container, alone", func(f *Facts) {
			f.Interfaces[0].Groups[0].Heard, f.Authds, f.Others, f.System.Container = 0, nil, nil, true
		}, Authd, []string{"This is a container", "--network host"}, nil},
		{"in WSL, without a network", func(f *Facts) { f.Interfaces, f.System.WSL = []Interface{{Name: "eth0", Reason: "down"}}, true }, Interfaces, []string{"This is WSL"}, nil},
		{"isolation", func(f *Facts) { f.Others[0].Reached = false }, Peers, []string{"bob are heard by multicast and can't be reached", "multicast from there passes, unicast does not", "by way of authd"}, []string{"isolation", "--port 4749"}},
		{"not there", func(f *Facts) { f.Others[0].Reached, f.Others[0].Heard = false, false }, Peers, []string{"authd, or a peer, says that bob are connected"}, []string{"--peer"}},
		{"nobody else", func(f *Facts) { f.Others = nil; f.Interfaces[0].Groups[0].Heard = 0 }, "", nil, nil},
		{"clock ahead", func(f *Facts) { f.Ahead = 72 * time.Hour }, Clock, []string{"72h0m0s ahead of authd's"}, []string{"timedatectl"}},
		{"clock behind", func(f *Facts) { f.Ahead = -time.Hour }, Clock, []string{"1h0m0s behind authd's"}, nil},
		{"clock unknown", func(f *Facts) { f.Ahead = 0 }, "", nil, nil},
		{"key files open", func(f *Facts) { f.Key = errors.New("device.key is open to other users: run chmod 600") }, Keys, []string{"chmod 600"}, nil},
		{"token ended", func(f *Facts) { f.Until = now.Add(-time.Hour) }, Keys, []string{"the token of ann ended"}, []string{"90 days"}},
		{"not logged in", func(f *Facts) { f.User, f.Others = "", nil }, "", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			findings := Judge(healthy(tt.change), now)
			checked := map[string]bool{}
			var wrong []Finding
			for _, f := range findings {
				checked[f.Check] = true
				if !f.OK && f.Fix == "" {
					t.Errorf("%+v does not say what to do", f)
				}
				if !f.OK && f.Fix != "mend the interfaces first" { // one fault may bring another
					wrong = append(wrong, f)
				}
			}
			if len(checked) != 7 {
				t.Errorf("got findings of %v, want of all seven checks", checked)
			}
			if Well(findings) != (len(wrong) == 0) { // whatever was left out above came with another
				t.Errorf("Well says %v of %v", Well(findings), findings)
			}
			if tt.check == "" {
				if len(wrong) > 0 {
					t.Errorf("got %+v, want all to be well", wrong)
				}
				return
			}
			if len(wrong) != 1 || wrong[0].Check != tt.check {
				t.Fatalf("got %+v, want one fault of %s", wrong, tt.check)
			}
			for _, want := range tt.cause {
				if !strings.Contains(wrong[0].Cause, want) {
					t.Errorf("got the cause %q, want it to say %q", wrong[0].Cause, want)
				}
			}
			for _, want := range append(tt.fix, "") {
				if !strings.Contains(wrong[0].Fix, want) {
					t.Errorf("got the fix %q, want it to say %q", wrong[0].Fix, want)
				}
			}
		})
	}
}

// Of who is well it is told by which way they are heard, how far they are and
// what is lost.
func TestPeersAreDescribed(t *testing.T) {
	for _, f := range Judge(healthy(func(f *Facts) { f.Others[0].Via, f.Others[0].Lost = []string{"multicast", "quic"}, 3 }), now) {
		if want := "bob by multicast, quic: 300µs, 3 % lost"; f.Check == Peers && f.Cause != want {
			t.Errorf("got %q, want %q", f.Cause, want)
		}
	}
}

// A small buffer is worth a word and no fault: nothing may ever be lost by it.
func TestBuffer(t *testing.T) {
	for _, f := range Judge(healthy(func(f *Facts) { f.System.Buffer = 212992 }), now) {
		if f.Check == Multicast && (!f.OK || !strings.Contains(f.Cause, "208 KiB") || !strings.Contains(f.Fix, "sysctl -w net.core.rmem_max=8388608")) {
			t.Errorf("got %+v", f)
		}
	}
}

func TestFirewall(t *testing.T) {
	for _, tt := range []struct{ file, content, want string }{
		{"etc/ufw/ufw.conf", "# on boot\nENABLED=yes\n", "ufw"},
		{"etc/ufw/ufw.conf", "# on boot\nENABLED=no\n", ""},
		{"run/firewalld/state", "", "firewalld"},
		{"proc/modules", "nf_tables 1 0 - Live 0x0\n", ""}, // loaded, and no rules of its own at boot
		{"etc/nothing", "", ""},
	} {
		root := t.TempDir() + "/"
		if err := os.MkdirAll(filepath.Dir(root+tt.file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+tt.file, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := firewall(root); got != tt.want {
			t.Errorf("%s %q: got %q, want %q", tt.file, tt.content, got, tt.want)
		}
	}
}

// Where an authd answers it is not said that none does.
func TestClockNotCompared(t *testing.T) {
	for _, tt := range []struct {
		change func(*Facts)
		want   string
	}{
		{func(f *Facts) { f.Ahead = 0 }, "not compared yet"},
		{func(f *Facts) { f.Ahead, f.Authds = 0, nil }, "no authd has answered"},
	} {
		for _, f := range Judge(healthy(tt.change), now) {
			if f.Check == Clock && (!f.OK || !strings.Contains(f.Cause, tt.want)) {
				t.Errorf("got %+v, want %q", f, tt.want)
			}
		}
	}
}
