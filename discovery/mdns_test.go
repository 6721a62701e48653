package discovery

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"lanchat/discovery/presence"
	"lanchat/wire"
)

var (
	testLink = presence.Link{Index: 2, Name: "eth0", Prefixes: []netip.Prefix{
		netip.MustParsePrefix("10.77.0.1/24"), netip.MustParsePrefix("fe80::1/64")}}
	testPrefix = wire.RealmPrefix{1, 2, 3, 4, 5, 6, 7, 8}
	bothTypes  = []string{authdType, nodeType}
	goodTXT    = []string{"txtvers=1", "realm=0102030405060708", "id=00000000000000aa", "port=5000"}
)

// answer packs records written as in a zone file.
func answer(tb testing.TB, records ...string) []byte {
	tb.Helper()
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Authoritative: true}}
	for _, s := range records {
		rr, err := dns.NewRR(s)
		if err != nil {
			tb.Fatalf("%s: %v", s, err)
		}
		m.Answer = append(m.Answer, rr)
	}
	b, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// service returns the records of one instance.
func service(name, typ string, port int, txt []string, addrs ...string) (out []string) {
	full, host := name+"."+typ+".local.", name+".local."
	out = append(out, fmt.Sprintf("%s.local. 120 IN PTR %s", typ, full),
		fmt.Sprintf("%s 120 IN SRV 10 1 %d %s", full, port, host))
	for _, a := range addrs {
		kind := "A"
		if strings.Contains(a, ":") {
			kind = "AAAA"
		}
		out = append(out, fmt.Sprintf("%s 120 IN %s %s", host, kind, a))
	}
	if len(txt) > 0 {
		out = append(out, fmt.Sprintf("%s 120 IN TXT \"%s\"", full, strings.Join(txt, `" "`)))
	}
	return out
}

func addrPorts(list ...string) (out []netip.AddrPort) {
	for _, s := range list {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

func TestInstances(t *testing.T) {
	good := instance{role: wire.RoleNode, realm: testPrefix, device: wire.DeviceID{7: 0xaa}, addrs: addrPorts("10.77.0.5:5000")}
	change := func(old, new string) []string {
		return strings.Split(strings.Replace(strings.Join(goodTXT, ","), old, new, 1), ",")
	}
	for _, tt := range []struct {
		name      string
		records   []string
		want      []instance
		malformed uint64
		foreign   uint64
	}{
		{"a node", service("aa-2", nodeType, 5000, goodTXT, "10.77.0.5"), []instance{good}, 0, 0},
		{"in capitals", service("AA-2", "_LANCHAT._UDP", 5000, change("txtvers", "TXTVERS"), "10.77.0.5"), []instance{good}, 0, 0},
		{"an authd", service("aa-2", authdType, 5000, goodTXT, "10.77.0.5"),
			[]instance{{wire.RoleAuthd, testPrefix, good.device, good.addrs}}, 0, 0},
		{"several addresses, some of another LAN", service("aa-2", nodeType, 5000, goodTXT, "10.78.0.5", "10.77.0.5", "fe80::5", "fd00::5", "127.0.0.1", "10.77.0.5"),
			[]instance{{wire.RoleNode, testPrefix, good.device, addrPorts("10.77.0.5:5000", "[fe80::5%eth0]:5000")}}, 0, 0},
		{"two in one packet", append(service("aa-2", nodeType, 5000, goodTXT, "10.77.0.5"), service("bb-2", nodeType, 5000, change("00aa", "00bb"), "10.77.0.6", "10.77.0.5")...),
			[]instance{good, {wire.RoleNode, testPrefix, wire.DeviceID{7: 0xbb}, addrPorts("10.77.0.6:5000", "10.77.0.5:5000")}}, 0, 0},
		{"unknown keys and a second value", service("aa-2", nodeType, 5000, append(slices.Clone(goodTXT), "colour=red", "port=1", "flag"), "10.77.0.5"), []instance{good}, 0, 0},
		{"somebody's printer", service("printer", "_ipp._tcp", 631, nil, "10.77.0.5"), nil, 0, 0},
		{"a longer type", service("aa-2", "_not_lanchat._udp", 5000, goodTXT, "10.77.0.5"), nil, 0, 0},
		{"no TXT", service("aa-2", nodeType, 5000, nil, "10.77.0.5"), nil, 1, 0},
		{"no address", service("aa-2", nodeType, 5000, goodTXT), nil, 0, 1},
		{"addresses of another LAN only", service("aa-2", nodeType, 5000, goodTXT, "10.78.0.5"), nil, 0, 1},
		{"port 0", service("aa-2", nodeType, 0, change("5000", "0"), "10.77.0.5"), nil, 1, 0},
		{"two ports", service("aa-2", nodeType, 5001, goodTXT, "10.77.0.5"), nil, 1, 0},
		{"version 2", service("aa-2", nodeType, 5000, change("vers=1", "vers=2"), "10.77.0.5"), nil, 1, 0},
		{"no realm", service("aa-2", nodeType, 5000, change("realm", "r"), "10.77.0.5"), nil, 1, 0},
		{"short realm", service("aa-2", nodeType, 5000, change("0102", "02"), "10.77.0.5"), nil, 1, 0},
		{"realm no hex", service("aa-2", nodeType, 5000, change("0102", "01xx"), "10.77.0.5"), nil, 1, 0},
		{"device too long", service("aa-2", nodeType, 5000, change("00aa", "00aa00"), "10.77.0.5"), nil, 1, 0},
		{"device zero", service("aa-2", nodeType, 5000, change("00aa", "0000"), "10.77.0.5"), nil, 1, 0},
		{"the responder of another interface", service("aa-3", nodeType, 5000, goodTXT, "10.78.0.5", "fe80::6"), nil, 0, 1},
	} {
		var c mdnsCounters
		got := instances(answer(t, tt.records...), netip.MustParseAddr("10.77.0.5"), bothTypes, testLink, &c)
		if !reflect.DeepEqual(got, tt.want) || c.malformed.Load() != tt.malformed || c.foreign.Load() != tt.foreign {
			t.Errorf("%s: got %+v, malformed %d, foreign %d, want %+v, %d, %d", tt.name, got, c.malformed.Load(), c.foreign.Load(), tt.want, tt.malformed, tt.foreign)
		}
	}
	var c mdnsCounters
	if got := instances(answer(t, service("aa-2", nodeType, 5000, goodTXT, "10.77.0.5")...), netip.MustParseAddr("10.77.0.5"), []string{authdType}, testLink, &c); got != nil {
		t.Errorf("a type not asked for: %+v", got)
	}
}

// Nobody grows us: ≤ 16 candidates, ≤ 64 instances of a packet.
func TestInstancesBounded(t *testing.T) {
	var many, wide []string
	for n := range 100 {
		txt := slices.Clone(goodTXT)
		txt[2] = fmt.Sprintf("id=%016x", n+1)
		many = append(many, service(fmt.Sprintf("i%d", n), nodeType, 5000, txt, "10.77.0.5")...)
	}
	for n := range 200 {
		wide = append(wide, fmt.Sprintf("10.77.0.%d", n+2))
	}
	var c mdnsCounters
	if got := instances(answer(t, many...), netip.MustParseAddr("10.77.0.5"), bothTypes, testLink, &c); len(got) != maxInstances || c.excess.Load() != 1 {
		t.Errorf("%d instances, excess %d", len(got), c.excess.Load())
	}
	got := instances(answer(t, service("aa-2", nodeType, 5000, goodTXT, wide...)...), netip.MustParseAddr("10.77.0.5"), bothTypes, testLink, &c)
	if len(got) != 1 || len(got[0].addrs) != maxHintAddrs {
		t.Errorf("%+v", got)
	}
}

// 1, 2, 4 … 60 s apart, ± 10 %; at most 5 s while no authd is known.
func TestAskingPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mdnsLinks{counters: new(mdnsCounters), log: slog.New(slog.DiscardHandler)}
		m.authdKnown.Store(true)
		asked := make(chan time.Time, 1000)
		m.once = func(context.Context, presence.Link) { asked <- time.Now() }
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		m.askers.Go(func() { m.ask(ctx, presence.Link{}) })
		last := time.Now()
		next := func(lowest, highest time.Duration) {
			t.Helper()
			at := <-asked
			if d := at.Sub(last); d < lowest || d > highest {
				t.Errorf("asked after %v, want %v to %v", d, lowest, highest)
			}
			last = at
		}
		next(20*time.Millisecond, 120*time.Millisecond)
		for _, seconds := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
			next(seconds*900*time.Millisecond, seconds*1100*time.Millisecond)
		}
		time.Sleep(30 * time.Second)
		m.authdKnown.Store(false)
		next(30*time.Second, 31*time.Second)
		for range 20 {
			next(4500*time.Millisecond, 5*time.Second)
		}
		cancel()
		m.askers.Wait()
	})
}

// What our responder says is what we understand.
func TestRespondedIsUnderstood(t *testing.T) {
	for _, role := range []wire.Role{wire.RoleNode, wire.RoleAuthd} {
		zone, typ, err := zoneOf(testLink, role, testPrefix, wire.DeviceID{1, 2}, 5000)
		if err != nil {
			t.Fatal(err)
		}
		m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Compress: true,
			Answer: zone.Records(dns.Question{Name: typ + ".local.", Qtype: dns.TypePTR})}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var c mdnsCounters
		got := instances(b, netip.MustParseAddr("fe80::1%eth0"), bothTypes, testLink, &c)
		want := []instance{{role, testPrefix, wire.DeviceID{1, 2}, addrPorts("10.77.0.1:5000", "[fe80::1%eth0]:5000")}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %+v, want %+v", role, got, want)
		}
		if zone.Instance != "0102000000000000-2" || zone.HostName != "0102000000000000-2.local." || len(b) > 400 {
			t.Errorf("instance %q, host %q, %d bytes", zone.Instance, zone.HostName, len(b))
		}
	}
}

// Sixty thousand answers that are nothing, and ten thousand that name devices
// which are not there: what is nonsense hints at nobody, and of the rest nothing
// is kept here.
func TestMalformedAnswers(t *testing.T) {
	good := answer(t, service("aa-2", nodeType, 5000, goodTXT, "10.77.0.5", "fe80::5")...)
	from := netip.MustParseAddr("10.77.0.5")
	random := rand.New(rand.NewPCG(5, 6))
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var c mdnsCounters
	before := heap()
	malformed, fakes := 60_000/Bulk, 10_000/Bulk
	hinted := 0
	for n := range malformed {
		b := bytes.Clone(good)
		switch n % 6 {
		case 0:
			b[random.IntN(len(b))] ^= 1 << random.IntN(8)
		case 1:
			b = b[:random.IntN(len(b))]
		case 2: // counts that promise more than there is
			binary.BigEndian.PutUint16(b[4+2*random.IntN(4):], uint16(random.Uint32()))
		case 3: // a name that points at itself, or anywhere
			binary.BigEndian.PutUint16(b[12+random.IntN(len(b)-14):], 0xc000|uint16(random.IntN(len(b))))
		case 4:
			for i := range b[2:] {
				b[2+i] = byte(random.Uint32())
			}
		case 5: // now and then the largest that can be, all zeros behind the header
			if n%30 != 5 {
				break
			}
			b = append(b[:12:12], make([]byte, 8988)...)
			binary.BigEndian.PutUint16(b[6:], 65535)
		}
		for _, i := range instances(b, from, bothTypes, testLink, &c) {
			if i.device != (wire.DeviceID{7: 0xaa}) { // a flipped bit may make another of it
				hinted++
			}
		}
	}
	if hinted > malformed/20 || c.malformed.Load() < uint64(malformed/3) {
		t.Errorf("%d of %d hint at somebody, %d are malformed", hinted, malformed, c.malformed.Load())
	}
	txt := append(slices.Clone(goodTXT), strings.Repeat("x", 255), strings.Repeat("y", 255)) // to no end
	fake := answer(t, service("aa-2", nodeType, 5000, txt, "10.77.0.5", "192.0.2.1", "224.0.0.1")...)
	for n := range fakes {
		b := bytes.Replace(fake, []byte(goodTXT[2]), fmt.Appendf(nil, "id=%016x", n+1), 1)
		if got := instances(b, from, bothTypes, testLink, &c); len(got) != 1 || got[0].device == (wire.DeviceID{7: 0xaa}) && n+1 != 0xaa || len(got[0].addrs) != 1 {
			t.Fatalf("%+v, want one device at the address it came from", got)
		}
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
}

func FuzzInstances(f *testing.F) {
	f.Add(answer(f, service("aa-2", nodeType, 5000, goodTXT, "10.77.0.5", "fe80::5")...))
	f.Add(answer(f, service("printer", "_ipp._tcp", 631, nil, "10.77.0.5")...))
	f.Add([]byte{0, 0, 0x84, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0xc0, 0x0c})
	f.Fuzz(func(t *testing.T, b []byte) {
		var c mdnsCounters
		got := instances(b, netip.MustParseAddr("10.77.0.5"), bothTypes, testLink, &c)
		if len(got) > maxInstances {
			t.Fatalf("%d instances", len(got))
		}
		for _, i := range got {
			if len(i.addrs) == 0 || len(i.addrs) > maxHintAddrs || i.device.IsZero() || i.role == 0 {
				t.Fatalf("%+v", i)
			}
			for _, a := range i.addrs {
				if !testLink.OnLink(a.Addr()) || a.Port() == 0 {
					t.Fatalf("address %v", a)
				}
			}
		}
	})
}

func TestUsable(t *testing.T) {
	const up = net.FlagUp | net.FlagRunning | net.FlagMulticast
	p4 := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}
	all := []Interface{
		{1, "lo", net.FlagUp | net.FlagRunning | net.FlagLoopback, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
		{2, "eth0", up, p4},
		{3, "wlan0", up, p4},
		{4, "eth1", up &^ net.FlagUp, p4},
		{5, "eth2", up &^ net.FlagRunning, p4},
		{6, "eth3", up, nil},
		{7, "ppp0", up | net.FlagPointToPoint, p4},
		{8, "dummy0", up &^ net.FlagMulticast, p4},
		{9, "docker0", up, p4},
		{10, "br-0a1b2c", up, p4},
		{11, "veth12", up, p4},
		{12, "virbr0", up, p4},
		{13, "vmnet8", up, p4},
		{14, "utun3", up, p4},
		{15, "awdl0", up, p4},
		{16, "llw0", up, p4},
		{17, "tun0", up, p4},
		{18, "tap0", up, p4},
		{19, "br0", up, p4},
		{20, "wg0", up, p4},
		{21, "vEthernet (WSL)", up, p4},
	}
	for _, tt := range []struct {
		name    string
		all     []Interface
		only    []string
		want    string
		skipped map[string]string // some of them
	}{
		{"default", all, nil, "eth0 wlan0 br0", map[string]string{"docker0": "virtual (containers' bridge)", "eth1": "down", "eth2": "not connected",
			"eth3": "no address", "ppp0": "point to point", "dummy0": "no multicast", "lo": "loopback, needed only where there is no LAN"}},
		{"one asked for", all, []string{"wlan0"}, "wlan0", map[string]string{"eth0": "not among the interfaces asked for"}},
		{"virtual ones asked for", all, []string{"docker0", "tap0", "lo", "ppp0", "dummy0"}, "lo ppp0 dummy0 docker0 tap0", nil},
		{"what cannot work", all, []string{"eth1", "eth9"}, "", map[string]string{"eth1": "down", "eth9": "does not exist"}},
		{"off-line", all[:1], nil, "lo", nil},
		{"off-line but for containers", []Interface{all[0], all[8]}, nil, "lo", nil},
	} {
		links, skipped := Usable(tt.all, tt.only)
		var names []string
		for _, l := range links {
			names = append(names, l.Name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
		reasons := map[string]string{}
		for _, s := range skipped {
			reasons[s.Name] = s.Reason
		}
		for name, reason := range tt.skipped {
			if reasons[name] != reason {
				t.Errorf("%s: %s skipped as %q, want %q", tt.name, name, reasons[name], reason)
			}
		}
		if got := len(links) + len(skipped); got < len(tt.all) {
			t.Errorf("%s: %d of %d interfaces accounted for", tt.name, got, len(tt.all))
		}
	}
}
