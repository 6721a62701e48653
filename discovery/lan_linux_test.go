package discovery_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"lanchat/discovery"
	"lanchat/discovery/presence"
	"lanchat/testdata/lan/emu"
	"lanchat/wire"
)

// These tests run Services in processes of their own, on hosts of an emulated
// LAN: real sockets, real mDNS, and no default route anywhere.

// childVar tells the test binary to be a program in a host: "service" with
// serviceConfig in JSON, "browse", or "storm".
const childVar = "LANCHAT_DISCOVERY_TEST"

type serviceConfig struct {
	Device int
	Authd  bool
	Port   uint16
	Ifaces []string
	Say    string // multicast each 100 ms
}

// child is what runs in a host.
func child() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	what, arg, _ := strings.Cut(os.Getenv(childVar), " ")
	switch what {
	case "service":
		var c serviceConfig
		if err := json.Unmarshal([]byte(arg), &c); err != nil {
			panic(err)
		}
		runChildService(ctx, c)
	case "browse":
		discovery.Browse(ctx, nil, nil, func(h discovery.AuthdHint) {
			for _, a := range h.Addrs {
				fmt.Printf("hint %v %v %v\n", h.Realm, h.Device, a)
			}
		})
	case "storm":
		storm(ctx)
	}
}

func runChildService(ctx context.Context, c serviceConfig) {
	lines := make(chan string, 4096)
	role := wire.RoleNode
	if c.Authd {
		role = wire.RoleAuthd
	}
	s := discovery.New(discovery.Config{Realm: testRealm, Key: key(c.Device), Boot: uint64(time.Now().UnixNano()), Role: role,
		Port: c.Port, MDNS: true, Ifaces: c.Ifaces,
		Handle: func(e presence.Event) {
			lines <- fmt.Sprintf("%v %s", e.Kind, name(e.Device))
		},
		Packet: func(b []byte, from netip.AddrPort, link int) {
			select {
			case lines <- fmt.Sprintf("packet %s", b):
			default:
			}
		}})
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tick := time.NewTicker(100 * time.Millisecond)
	for {
		select {
		case l := <-lines:
			fmt.Println(l)
		case <-tick.C:
			if c.Say != "" {
				s.Multicast([]byte("\x11" + c.Say))
			}
			peers := s.Peers(ctx)
			fmt.Println("peers", len(peers))
			for _, p := range peers {
				fmt.Printf("peer %s %v %v %v %v\n", name(p.Device), p.Role, p.State, p.Via, p.Addrs)
			}
		case err := <-ended:
			st, _ := json.Marshal(s.Stats())
			fmt.Printf("stats %s\n", st)
			fmt.Println("ended", err)
			return
		}
	}
}

func name(d wire.DeviceID) string {
	for n := range 20 {
		if id(n) == d {
			return fmt.Sprint(n)
		}
	}
	return d.String()
}

// program is a child on a host.
type program struct {
	t     *testing.T
	cmd   *emu.Cmd
	lines chan string
	seen  []string
}

func launch(t *testing.T, h *emu.Host, what string) *program {
	t.Helper()
	p := &program{t: t, cmd: h.Command("/proc/self/exe"), lines: make(chan string, 1<<16)}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Path, p.cmd.Args = exe, []string{exe}
	p.cmd.Env = append(os.Environ(), childVar+"="+what)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return p
}

func service(t *testing.T, h *emu.Host, c serviceConfig) *program {
	t.Helper()
	if c.Port == 0 {
		c.Port = 5000
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return launch(t, h, "service "+string(b))
}

// wait waits for a line that has all the parts and returns it.
func (p *program) wait(parts ...string) string {
	p.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case l, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("the program ended without %q; its last words: %q", parts, p.tail())
			}
			p.seen = append(p.seen, l)
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(l, part) }) {
				return l
			}
		case <-timeout:
			p.t.Fatalf("no line with %q; the last were %q", parts, p.tail())
		}
	}
}

func (p *program) tail() []string { return p.seen[max(0, len(p.seen)-12):] }

// quit ends the program and returns its statistics.
func (p *program) quit() (st discovery.Stats) {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	l := p.wait("stats ")
	if err := json.Unmarshal([]byte(strings.TrimPrefix(l, "stats ")), &st); err != nil {
		p.t.Fatal(err)
	}
	p.wait("ended <nil>")
	return st
}

// allSee waits until every one of the programs knows every other by multicast
// and, nodes do, by mDNS.
func allSee(programs map[int]*program, authd int) {
	for n, p := range programs {
		p.t.Helper()
		for m := range programs {
			switch {
			case m == n:
			case n == authd:
				p.wait(fmt.Sprintf("peer %d node alive multicast [", m))
			case m == authd:
				p.wait(fmt.Sprintf("peer %d authd alive multicast+mdns [", m))
			default:
				p.wait(fmt.Sprintf("peer %d node alive multicast+mdns [", m))
			}
		}
	}
}

func TestOnLAN(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		host emu.HostConfig
	}{
		{"both families", emu.HostConfig{}},
		{"IPv4 only", emu.HostConfig{NoIPv6: true}},
		{"IPv6 only", emu.HostConfig{NoIPv4: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lab := emu.Start(t, emu.Config{Hosts: []emu.HostConfig{tt.host, tt.host, tt.host}})
			h := lab.Hosts()
			programs := map[int]*program{
				1: service(t, h[0], serviceConfig{Device: 1}),
				2: service(t, h[1], serviceConfig{Device: 2, Say: "hello"}),
				3: service(t, h[2], serviceConfig{Device: 3, Authd: true, Port: 4747}),
				// And a second node on the host of the first.
				4: service(t, h[0], serviceConfig{Device: 4, Port: 5001}),
			}
			allSee(programs, 3)
			for _, p := range programs {
				p.wait("packet \x11hello")
			}
			address := h[2].Port(0).IPv4().Addr().String() + ":4747"
			if tt.host.NoIPv4 {
				address = "[" + h[2].Port(0).IPv6().String() + "%eth0]:4747"
			}
			programs[1].wait("peer 3 authd", address)

			browse := launch(t, h[1], "browse")
			browse.wait("hint 0000000000000000 0000000000000000 127.0.0.1:4747")
			browse.wait("hint "+testRealm.Prefix().String(), id(3).String(), address)

			programs[4].quit()
			programs[1].wait("left 4")
			programs[3].wait("left 4")
			for n := 1; n <= 3; n++ {
				st := programs[n].quit()
				if st.TooLong+st.Dropped+st.Overrun+st.SendErrors+st.Presence.Forged+st.Presence.Malformed+st.MDNS.Failed+st.MDNS.Malformed != 0 {
					t.Errorf("device %d: %+v", n, st)
				}
			}
		})
	}
}

// Two programs and an authd on a machine with nothing but loopback.
func TestOffline(t *testing.T) {
	t.Parallel()
	lab := emu.Start(t, emu.Config{Hosts: []emu.HostConfig{{Alone: true}}})
	h := lab.Hosts()[0]
	programs := []*program{
		service(t, h, serviceConfig{Device: 1}),
		service(t, h, serviceConfig{Device: 2, Port: 5001, Say: "hello"}),
		service(t, h, serviceConfig{Device: 3, Authd: true, Port: 4747}),
	}
	programs[0].wait("peer 2 node alive multicast", "127.0.0.1:5001")
	programs[0].wait("packet \x11hello")
	programs[0].wait("peer 3 authd alive multicast", "127.0.0.1:4747")
	programs[1].wait("peer 1 node alive multicast", "127.0.0.1:5000")
	programs[2].wait("peer 1 node alive multicast", "127.0.0.1:5000")
}

// On a machine with two LANs each LAN learns the addresses that are its own.
func TestTwoLANs(t *testing.T) {
	t.Parallel()
	lab := emu.Start(t, emu.Config{Hosts: []emu.HostConfig{{LANs: []int{0, 1}}, {LANs: []int{0}}, {LANs: []int{1}}}})
	h := lab.Hosts()
	a := service(t, h[0], serviceConfig{Device: 1})
	b := service(t, h[1], serviceConfig{Device: 2})
	c := service(t, h[2], serviceConfig{Device: 3})
	want := func(p *program, n int, addrs ...string) {
		t.Helper()
		l := p.wait(fmt.Sprintf("peer %d node alive multicast+mdns ", n))
		for range 20 { // it does not get worse
			p.wait("peer ")
		}
		_, got, _ := strings.Cut(l, "[")
		got = strings.TrimSuffix(got, "]")
		list := strings.Fields(got)
		slices.Sort(list)
		slices.Sort(addrs)
		if !slices.Equal(list, addrs) {
			t.Errorf("addresses %v, want %v", list, addrs)
		}
	}
	v6 := func(h *emu.Host, n int) string {
		return fmt.Sprintf("[%v%%eth0]:5000", h.Port(n).IPv6())
	}
	want(b, 1, h[0].Port(0).IPv4().Addr().String()+":5000", v6(h[0], 0))
	want(c, 1, h[0].Port(1).IPv4().Addr().String()+":5000", v6(h[0], 1))
	a.wait("peer 2 node alive multicast+mdns ")
	a.wait("peer 3 node alive multicast+mdns ")
	b.cmd.Process.Signal(syscall.SIGTERM)
	for {
		l := b.wait("")
		if strings.HasPrefix(l, "peer 3") {
			t.Errorf("device 3 is on another LAN: %s", l)
		}
		if strings.HasPrefix(l, "ended") {
			break
		}
	}
}

// A new address, an adapter that comes back, a cable: found again each time.
func TestLinkChanges(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for silence three times")
	}
	t.Parallel()
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(2)})
	h := lab.Hosts()
	a := service(t, h[0], serviceConfig{Device: 1, Say: "one"})
	b := service(t, h[1], serviceConfig{Device: 2})
	b.wait("peer 1 node alive multicast+mdns", "10.77.0.1:5000")

	if err := h[0].Port(0).SetIPv4(netip.MustParsePrefix("10.77.0.99/24")); err != nil {
		t.Fatal(err)
	}
	b.wait("seen 1")
	b.wait("peer 1 node alive", "10.77.0.99:5000")

	h[0].Port(0).Remove()
	b.wait("lost 1")
	a.wait("lost 2")
	if _, err := h[0].Attach(0); err != nil {
		t.Fatal(err)
	}
	b.wait("seen 1")
	a.wait("seen 2")
	b.wait("packet \x11one")

	ports := h[0].Ports()
	last := ports[len(ports)-1]
	if err := last.SetCarrier(false); err != nil {
		t.Fatal(err)
	}
	b.wait("lost 1")
	if err := last.SetCarrier(true); err != nil {
		t.Fatal(err)
	}
	b.wait("seen 1")
	a.wait("seen 2")

	a.cmd.Process.Kill()
	b.wait("lost 1")
}

// Joining again is said on the wire, for switches that snoop, and what is sent to
// the group comes as before.
func TestRejoinIsSaid(t *testing.T) {
	t.Parallel()
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(2)})
	group, _ := discovery.GroupAddrs(testRealm)
	reports := make(chan bool, 100)
	stop := lab.Watch(func(f emu.Frame) {
		// An IGMPv3 report (RFC 3376, section 4.2), of 8 bytes and a record for a
		// group at least, behind Ethernet's header and IP's with an option.
		if ip := f.Data[min(14, len(f.Data)):]; len(ip) >= 24+16 && ip[9] == 2 && ip[24] == 0x22 && bytes.Contains(ip[32:], group.AsSlice()) {
			reports <- true
		}
	})
	defer stop()
	h := lab.Hosts()
	var conns []discovery.GroupConn
	for _, h := range h {
		if err := h.Do(func() error {
			ifi, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			link := presence.Link{Index: ifi.Index, Name: "eth0", Prefixes: []netip.Prefix{h.Port(0).IPv4()}}
			c, err := discovery.System{}.ListenGroup(link, netip.AddrPortFrom(group, discovery.GroupPort))
			conns = append(conns, c)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	defer conns[0].Close()
	defer conns[1].Close()
	await := func(n int, what string) {
		for range n {
			select {
			case <-reports:
			case <-time.After(time.Minute):
				t.Fatal("no report of ", what)
			}
		}
	}
	await(2*2, "joining, said twice by each (RFC 3376, section 8.1)")
	if err := conns[0].Rejoin(); err != nil {
		t.Fatal(err)
	}
	await(1, "joining again")
	if err := conns[1].Send([]byte("\x11hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, _, err := conns[0].ReadFrom(buf); err != nil || string(buf[:n]) != "\x11hello" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

// mDNS storms, foreign services, 10,000 entries: at most 16 candidates, no
// growth, and those who are there are found all the same.
func TestStorm(t *testing.T) {
	t.Parallel()
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(3)})
	h := lab.Hosts()
	launch(t, h[2], "storm").wait("storming")
	a := service(t, h[0], serviceConfig{Device: 1})
	service(t, h[1], serviceConfig{Device: 2})
	a.wait("peer 2 node alive multicast+mdns")
	for range 2000 {
		a.wait("peer ")
	}
	st := a.quit()
	if st.MDNS.Answers == 0 || st.MDNS.Malformed == 0 || st.MDNS.Foreign == 0 || st.MDNS.Excess == 0 {
		t.Errorf("the storm passed by: %+v", st.MDNS)
	}
	for _, l := range a.seen {
		if n := 0; strings.HasPrefix(l, "peers ") {
			if fmt.Sscanf(l, "peers %d", &n); n > 1100 {
				t.Fatalf("%d devices hinted at", n)
			}
		} else if _, addrs, ok := strings.Cut(l, "["); ok && strings.Count(addrs, " ") >= presence.MaxCandidates {
			t.Fatalf("too many candidates: %s", l)
		}
	}
}

// storm answers every question with ever new devices, some of other realms,
// and nonsense.
func storm(ctx context.Context) {
	ifi, err := net.InterfaceByName("eth0")
	if err != nil {
		panic(err)
	}
	c, err := net.ListenMulticastUDP("udp4", ifi, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
	if err != nil {
		panic(err)
	}
	context.AfterFunc(ctx, func() { c.Close() })
	fmt.Println("storming")
	buf := make([]byte, 9000)
	count := 0
	for {
		_, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		for range 600 {
			count++
			realm := testRealm.Prefix()
			b := bytes.Repeat([]byte{0xff}, count%64)
			switch count % 4 {
			case 1:
				realm[0]++
				fallthrough
			case 2, 3:
				b = stormAnswer(realm, count/2, "10.77.0.3", fmt.Sprintf("10.77.0.%d", count%250))
			}
			c.WriteToUDPAddrPort(b, from)
		}
	}
}

// stormAnswer is an answer that makes sense.
func stormAnswer(realm wire.RealmPrefix, device int, addrs ...string) []byte {
	full := fmt.Sprintf("x%d._lanchat._udp.local.", device)
	host := fmt.Sprintf("x%d.local.", device)
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}}
	records := []string{
		"_lanchat._udp.local. 120 IN PTR " + full,
		full + " 120 IN SRV 10 1 5000 " + host,
		fmt.Sprintf(`%s 120 IN TXT "txtvers=1" "realm=%v" "id=%016x" "port=5000"`, full, realm, device+1),
	}
	for _, a := range addrs {
		records = append(records, host+" 120 IN A "+a)
	}
	for _, s := range records {
		rr, err := dns.NewRR(s)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}
