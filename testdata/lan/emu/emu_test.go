//go:build linux

package emu_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lanchat/testdata/lan/emu"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(emu.Main(m)) }

// listen opens a UDP socket in h, on any address.
func listen(t testing.TB, h *emu.Host, network string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := h.Do(func() error {
		var err error
		c, err = net.ListenUDP(network, nil)
		return err
	})
	if err != nil {
		t.Fatalf("listening in %s: %v", h.Name(), err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func port(c *net.UDPConn) uint16 { return c.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

func v4(h *emu.Host, c *net.UDPConn) netip.AddrPort {
	return netip.AddrPortFrom(h.Port(0).IPv4().Addr(), port(c))
}

// say sends text; want receives it.
func say(t testing.TB, c *net.UDPConn, to netip.AddrPort, text string) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort([]byte(text), to); err != nil {
		t.Fatalf("sending %q: %v", text, err)
	}
}

func want(t testing.TB, c *net.UDPConn, text string) netip.AddrPort {
	t.Helper()
	b := make([]byte, 2000)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatalf("waiting for %q: %v", text, err)
	}
	if got := string(b[:n]); got != text {
		t.Fatalf("got %q, want %q", got, text)
	}
	return from
}

func TestUnicast(t *testing.T) {
	for _, veth := range []bool{false, true} {
		t.Run(fmt.Sprintf("veth=%v", veth), func(t *testing.T) {
			lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(2), Veth: veth})
			h1, h2 := lab.Host("h1"), lab.Host("h2")
			a, b := listen(t, h1, "udp"), listen(t, h2, "udp")
			say(t, a, v4(h2, b), "four")
			say(t, b, want(t, b, "four"), "and back")
			want(t, a, "and back")

			sayIPv6(t, h1, a, h2, b, "six")
			from := want(t, b, "six")
			if got, want := from.Addr().WithZone(""), h1.Port(0).IPv6(); got != want {
				t.Errorf("came from %v, want %v", got, want)
			}
		})
	}
}

func sayIPv6(t testing.TB, from *emu.Host, a *net.UDPConn, to *emu.Host, b *net.UDPConn, text string) {
	t.Helper()
	dst := netip.AddrPortFrom(to.Port(0).IPv6().WithZone("eth0"), port(b))
	err := from.Do(func() error { // the zone is looked up where we are
		_, err := a.WriteToUDPAddrPort([]byte(text), dst)
		return err
	})
	if err != nil {
		t.Fatalf("sending %q: %v", text, err)
	}
}

// The kernel has to cut what a program hands over in one piece before it leaves.
func TestSegmentationOffload(t *testing.T) {
	for _, veth := range []bool{false, true} {
		t.Run(fmt.Sprintf("veth=%v", veth), func(t *testing.T) {
			lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(2), Veth: veth})
			a, b := listen(t, lab.Host("h1"), "udp4"), listen(t, lab.Host("h2"), "udp4")
			raw, err := a.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1000) })
			if err != nil {
				t.Skipf("this kernel has no UDP segmentation: %v", err)
			}
			parts := []string{strings.Repeat("a", 1000), strings.Repeat("b", 1000), strings.Repeat("c", 500)}
			say(t, a, v4(lab.Host("h2"), b), strings.Join(parts, ""))
			for _, p := range parts {
				want(t, b, p)
			}
		})
	}
}

var group = netip.MustParseAddrPort("239.192.1.1:4748")

// joined opens a socket in h that is in group, and sends to it by eth0.
func joined(t testing.TB, h *emu.Host) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := h.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if c, err = net.ListenMulticastUDP("udp4", eth0, net.UDPAddrFromAddrPort(group)); err != nil {
			return err
		}
		return ipv4.NewPacketConn(c).SetMulticastInterface(eth0)
	})
	if err != nil {
		t.Fatalf("joining in %s: %v", h.Name(), err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// sendBy makes c, a socket of h, send multicast by that interface.
func sendBy(t testing.TB, h *emu.Host, c *net.UDPConn, name string) {
	t.Helper()
	err := h.Do(func() error {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		return ipv4.NewPacketConn(c).SetMulticastInterface(ifi)
	})
	if err != nil {
		t.Fatalf("sending by %s of %s: %v", name, h.Name(), err)
	}
}

func TestMulticastReachesAll(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(4)})
	var conns []*net.UDPConn
	for _, h := range lab.Hosts() {
		conns = append(conns, joined(t, h))
	}
	say(t, conns[0], group, "hello")
	for i, c := range conns[1:] {
		from := want(t, c, "hello")
		if got, want := from.Addr().Unmap(), lab.Host("h1").Port(0).IPv4().Addr(); got != want {
			t.Errorf("h%d heard it from %v, want %v", i+2, got, want)
		}
	}
}

// settled waits until ok; what it waits for takes microseconds.
func settled(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

func TestLoss(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(2)})
	a, b := listen(t, lab.Host("h1"), "udp4"), listen(t, lab.Host("h2"), "udp4")
	say(t, a, v4(lab.Host("h2"), b), "hello") // so that the addresses are resolved
	want(t, b, "hello")
	p := lab.Host("h2").Port(0)
	before := p.Stats()
	p.Impair(emu.Link{Loss: 20})
	const n = 4000
	for range n {
		say(t, a, v4(lab.Host("h2"), b), "x")
	}
	var lost, got uint64
	settled(t, "all to be handled", func() bool {
		s := p.Stats()
		lost, got = s.Lost, s.Received.Frames-before.Received.Frames
		return lost+got >= n
	})
	// Of 4000 lost with probability 0.2 the standard deviation is 25.
	if lost < 650 || lost > 950 {
		t.Errorf("lost %d of %d at 20 %%, want 650 to 950", lost, n)
	}
	if s := lab.Host("h1").Port(0).Stats(); s.Lost != 0 {
		t.Errorf("lost %d to h1, whose link is perfect", s.Lost)
	}
}

// drain returns what waits in c.
func drain(c *net.UDPConn) []string {
	var texts []string
	b := make([]byte, 2000)
	for {
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, _, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return texts
		}
		texts = append(texts, string(b[:n]))
	}
}

func TestLossIsIndependentPerReceiver(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(3), Link: emu.Link{Loss: 50}})
	a, b, c := joined(t, lab.Host("h1")), joined(t, lab.Host("h2")), joined(t, lab.Host("h3"))
	const n = 100
	sent := lab.Host("h1").Port(0).Stats().Sent.Frames
	for i := range n {
		say(t, a, group, fmt.Sprint(i))
	}
	settled(t, "all to be sent", func() bool { return lab.Host("h1").Port(0).Stats().Sent.Frames >= sent+n })
	two, three := drain(b), drain(c)
	for _, got := range [][]string{two, three} {
		if len(got) < 10 || len(got) > 90 {
			t.Errorf("got %d of %d at 50 %%", len(got), n)
		}
	}
	if slices.Equal(two, three) {
		t.Errorf("two receivers got the same %d", len(two))
	}
}

func TestSeedChangesWhatIsLost(t *testing.T) {
	run := func(seed uint64) []string {
		lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(2), Seed: seed})
		defer lab.Close()
		a, b := listen(t, lab.Host("h1"), "udp4"), listen(t, lab.Host("h2"), "udp4")
		say(t, a, v4(lab.Host("h2"), b), "hello")
		want(t, b, "hello")
		settled(t, "the start-up chatter to end", quiet(lab))
		lab.Host("h2").Impair(emu.Link{Loss: 50})
		sent := lab.Host("h1").Port(0).Stats().Sent.Frames
		for i := range 100 {
			say(t, a, v4(lab.Host("h2"), b), fmt.Sprint(i))
		}
		settled(t, "all to be sent", func() bool { return lab.Host("h1").Port(0).Stats().Sent.Frames >= sent+100 })
		return drain(b)
	}
	if one, other := run(1), run(2); slices.Equal(one, other) {
		t.Errorf("seeds 1 and 2 let the same %d pass", len(one))
	}
}

func TestCutAndHeal(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(3)})
	h1, h2, h3 := lab.Host("h1"), lab.Host("h2"), lab.Host("h3")
	a, b, c := listen(t, h1, "udp4"), listen(t, h2, "udp4"), listen(t, h3, "udp4")
	talk := func(text string) {
		t.Helper()
		say(t, a, v4(h2, b), text)
		want(t, b, text)
		say(t, a, v4(h3, c), text)
		want(t, c, text)
	}
	// blocked sends what must not arrive: had it passed, it would be the next that want gets.
	blocked := func(from, to *net.UDPConn, at *emu.Host) {
		t.Helper()
		was := at.Port(0).Stats().Blocked
		say(t, from, v4(at, to), "through the cut")
		settled(t, "the frame to be blocked", func() bool { return at.Port(0).Stats().Blocked > was })
	}
	talk("before")
	lab.Cut(h1, h2)
	blocked(a, b, h2)
	blocked(b, a, h1)
	say(t, c, v4(h2, b), "from h3")
	want(t, b, "from h3")
	lab.Heal(h1, h2)
	talk("healed")
	lab.Cut(h1, nil)
	blocked(a, b, h2)
	blocked(c, a, h1)
	lab.Heal(h2, nil)
	blocked(a, b, h2)
	lab.Heal(h1, nil)
	talk("healed again")
	lab.Cut(h1, h2)
	lab.Cut(h3, nil)
	lab.Heal(nil, nil)
	talk("all healed")
}

func TestWithoutMulticast(t *testing.T) {
	for _, deaf := range []string{"h1", "h2"} {
		t.Run(deaf, func(t *testing.T) {
			lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(3)})
			h1, h2 := lab.Host("h1"), lab.Host("h2")
			a, b, c := joined(t, h1), joined(t, h2), joined(t, lab.Host("h3"))
			lab.Host(deaf).Impair(emu.Link{NoMulticast: true})
			was := lab.Host(deaf).Port(0).Stats().Blocked
			say(t, a, group, "to the group")
			settled(t, "the frame to be blocked", func() bool { return lab.Host(deaf).Port(0).Stats().Blocked > was })
			if deaf == "h2" {
				want(t, c, "to the group")
			}
			// "Broadcast, and with it ARP, passes", and neighbour discovery.
			say(t, a, v4(h2, b), "to you")
			want(t, b, "to you")
			a6, b6 := listen(t, h1, "udp6"), listen(t, h2, "udp6")
			sayIPv6(t, h1, a6, h2, b6, "to you by six")
			want(t, b6, "to you by six")
			lab.Host(deaf).Impair(emu.Link{})
			say(t, a, group, "again")
			want(t, b, "again")
		})
	}
}

// blocked waits until another frame to the host, or from it, was blocked by do.
func blocked(t testing.TB, h *emu.Host, do func()) {
	t.Helper()
	was := h.Port(0).Stats().Blocked
	do()
	settled(t, "the frame to be blocked", func() bool { return h.Port(0).Stats().Blocked > was })
}

// One direction of multicast, one port, or one pair of hosts can be shut.
func TestShut(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(3)})
	h1, h2, h3 := lab.Host("h1"), lab.Host("h2"), lab.Host("h3")
	a, b, c := joined(t, h1), joined(t, h2), joined(t, h3)

	h2.Impair(emu.Link{Deaf: true})
	blocked(t, h2, func() { say(t, a, group, "to the deaf") })
	want(t, c, "to the deaf")
	say(t, b, group, "from the deaf")
	want(t, a, "from the deaf")
	want(t, c, "from the deaf")

	h2.Impair(emu.Link{Mute: true})
	blocked(t, h2, func() { say(t, b, group, "from the mute") })
	say(t, a, group, "to the mute")
	want(t, b, "to the mute")
	want(t, c, "to the mute")

	h2.Impair(emu.Link{Isolated: true})
	say(t, a, v4(h2, b), "one is isolated")
	want(t, b, "one is isolated")
	h1.Impair(emu.Link{Isolated: true})
	blocked(t, h2, func() { say(t, a, v4(h2, b), "both are") })
	say(t, a, v4(h3, c), "to one who is not")
	want(t, c, "to one who is not")
	say(t, a, group, "and to all")
	want(t, b, "and to all")
	want(t, c, "and to all")

	h2.Impair(emu.Link{NoMDNS: true})
	say(t, a, v4(h2, b), "not to 5353")
	want(t, b, "not to 5353")
	mdns := netip.AddrPortFrom(h2.Port(0).IPv4().Addr(), 5353)
	blocked(t, h2, func() { say(t, a, mdns, "to 5353") })
	b6 := netip.AddrPortFrom(h2.Port(0).IPv6().WithZone("eth0"), 5353)
	a6 := listen(t, h1, "udp6")
	blocked(t, h2, func() {
		if err := h1.Do(func() error { _, err := a6.WriteToUDPAddrPort([]byte("to 5353"), b6); return err }); err != nil {
			t.Fatal(err)
		}
	})
}

// A router forwards what is for one address, and nothing that is for a group.
func TestRouter(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: []emu.HostConfig{
		{LANs: []int{0, 1}, Router: true},
		{Gateway: netip.MustParseAddr("10.77.0.1")},
		{LANs: []int{1}, Gateway: netip.MustParseAddr("10.78.0.1")},
	}})
	here, there := lab.Host("h2"), lab.Host("h3")
	a, b := joined(t, here), joined(t, there)
	say(t, a, group, "to the group")
	say(t, a, v4(there, b), "there")
	if from := want(t, b, "there"); from != v4(here, a) {
		t.Errorf("came from %v, want %v", from, v4(here, a))
	}
	say(t, b, v4(here, a), "and back")
	want(t, a, "and back")
}

func TestDup(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(2), Link: emu.Link{Dup: 100}})
	a, b := listen(t, lab.Host("h1"), "udp4"), listen(t, lab.Host("h2"), "udp4")
	for _, text := range []string{"one", "two"} {
		say(t, a, v4(lab.Host("h2"), b), text)
		want(t, b, text)
		want(t, b, text)
	}
}

// quiet returns whether the hosts sent nothing since the call before.
func quiet(lab *emu.Lab) func() bool {
	last, at := uint64(0), time.Now()
	return func() bool {
		n := uint64(0)
		for _, s := range lab.Stats() {
			n += s.Sent.Frames
		}
		if n != last {
			last, at = n, time.Now()
		}
		return time.Since(at) > 100*time.Millisecond
	}
}

// numbered sends the numbers to n-1 from h1 to h2 and returns them as they came.
func numbered(t *testing.T, l emu.Link, n int) (got []int, took time.Duration) {
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(2)})
	a, b := listen(t, lab.Host("h1"), "udp4"), listen(t, lab.Host("h2"), "udp4")
	say(t, a, v4(lab.Host("h2"), b), "hello")
	want(t, b, "hello")
	lab.Host("h2").Impair(l)
	start := time.Now()
	for i := range n {
		say(t, a, v4(lab.Host("h2"), b), fmt.Sprint(i))
	}
	buf := make([]byte, 100)
	b.SetReadDeadline(time.Now().Add(10 * time.Second))
	for range n {
		k, _, err := b.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(got), n, err)
		}
		took = max(took, time.Since(start))
		i, err := strconv.Atoi(string(buf[:k]))
		if err != nil {
			t.Fatalf("got %q", buf[:k])
		}
		got = append(got, i)
		if len(got) == 1 {
			took = time.Since(start)
		}
	}
	return got, took
}

func TestReorder(t *testing.T) {
	got, _ := numbered(t, emu.Link{Reorder: 30}, 200)
	if slices.IsSorted(got) {
		t.Error("200 in order at 30 %")
	}
	slices.Sort(got)
	for i, n := range got {
		if i != n {
			t.Fatalf("%d is missing or doubled", i)
		}
	}
}

func TestDelayAndJitterKeepOrder(t *testing.T) {
	const delay = 60 * time.Millisecond
	got, took := numbered(t, emu.Link{Delay: delay, Jitter: 20 * time.Millisecond}, 200)
	if !slices.IsSorted(got) {
		t.Errorf("came as %d", got)
	}
	if took < delay {
		t.Errorf("took %v, want at least %v", took, delay)
	}
}

func TestOrderIsKeptWhenDelayEnds(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(2)})
	h2 := lab.Host("h2")
	a, b := listen(t, lab.Host("h1"), "udp4"), listen(t, h2, "udp4")
	say(t, a, v4(h2, b), "hello")
	want(t, b, "hello")
	h2.Impair(emu.Link{Delay: 100 * time.Millisecond})
	sent := lab.Host("h1").Port(0).Stats().Sent.Frames
	say(t, a, v4(h2, b), "slow")
	settled(t, "it to be sent", func() bool { return lab.Host("h1").Port(0).Stats().Sent.Frames > sent })
	h2.Impair(emu.Link{})
	say(t, a, v4(h2, b), "fast")
	want(t, b, "slow")
	want(t, b, "fast")
}

func TestCaptureAndStats(t *testing.T) {
	// Without IPv6 and without members of the group, the kernels say nothing of their own.
	lab := emu.Start(t, emu.Config{Hosts: []emu.HostConfig{{NoIPv6: true}, {NoIPv6: true}, {NoIPv6: true}}})
	h1, h2, h3 := lab.Host("h1"), lab.Host("h2"), lab.Host("h3")
	a, b := listen(t, h1, "udp4"), listen(t, h2, "udp4")
	sendBy(t, h1, a, "eth0")
	say(t, a, v4(h2, b), "hello") // so that the addresses are resolved
	want(t, b, "hello")
	var file bytes.Buffer
	capture, err := lab.Capture(&file)
	if err != nil {
		t.Fatal(err)
	}
	before := lab.Stats()
	begin := time.Now().Add(-time.Millisecond)
	say(t, a, v4(h2, b), "unicast")
	say(t, a, group, "multicast")
	want(t, b, "unicast")
	settled(t, "the multicast", func() bool {
		return h2.Port(0).Stats().Received.Frames >= before[1].Received.Frames+2 &&
			h3.Port(0).Stats().Received.Frames >= before[2].Received.Frames+1
	})
	h2.Impair(emu.Link{Loss: 100})
	say(t, a, v4(h2, b), "lost")
	settled(t, "the loss", func() bool { return h2.Port(0).Stats().Lost >= 1 })
	after := lab.Stats()
	if err := capture.Close(); err != nil {
		t.Fatal(err)
	}
	sent := h1.Port(0).Stats().Sent
	say(t, a, group, "not captured")
	settled(t, "it to be sent", func() bool { return h1.Port(0).Stats().Sent != sent })

	var got []string
	for f, err := range emu.ReadPcap(bytes.NewReader(file.Bytes())) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Time.Before(begin) || f.Time.After(time.Now()) {
			t.Errorf("time stamp %v, before %v", f.Time, begin)
		}
		if len(f.Data) > 42 && f.Data[23] == 17 { // UDP over IPv4
			got = append(got, strings.TrimRight(string(f.Data[42:]), "\x00"))
		}
	}
	if want := []string{"unicast", "multicast", "lost"}; !slices.Equal(got, want) {
		t.Errorf("captured %q, want %q", got, want)
	}
	const unicast, multicast, lost = 42 + 7, 42 + 9, 42 + 4 // with the headers
	for i, want := range []emu.Stats{
		{Sent: emu.Count{Frames: 3, Bytes: unicast + multicast + lost, Multicast: 1}},
		{Received: emu.Count{Frames: 2, Bytes: unicast + multicast, Multicast: 1}, Lost: 1},
		{Received: emu.Count{Frames: 1, Bytes: multicast, Multicast: 1}},
	} {
		x, y := after[i], before[i]
		got := emu.Stats{
			Sent:     emu.Count{Frames: x.Sent.Frames - y.Sent.Frames, Bytes: x.Sent.Bytes - y.Sent.Bytes, Multicast: x.Sent.Multicast - y.Sent.Multicast},
			Received: emu.Count{Frames: x.Received.Frames - y.Received.Frames, Bytes: x.Received.Bytes - y.Received.Bytes, Multicast: x.Received.Multicast - y.Received.Multicast},
			Lost:     x.Lost - y.Lost,
		}
		if got != want {
			t.Errorf("h%d counted\n%+v, want\n%+v", i+1, got, want)
		}
	}
}

func TestReadPcapOfOthers(t *testing.T) {
	// Big-endian, microseconds: one frame of 3 bytes at 1 s and 2 µs.
	const head = "a1b2c3d4 0002 0004 00000000 00000000 0000ffff 00000001"
	for _, tt := range []struct{ name, hex, err string }{
		{"one frame", head + "00000001 00000002 00000003 00000003 010203", ""},
		{"empty", "", "reading pcap header: EOF"},
		{"not pcap", strings.Repeat("00", 24), "not a pcap file: it begins with 00000000"},
		{"not Ethernet", head[:len(head)-2] + "71", "pcap of link type 113, not Ethernet"},
		{"cut off", head + "00000001 00000002 00000003 00000003 0102", "reading pcap: unexpected EOF"},
		{"too long", head + "00000001 00000002 ffffffff ffffffff", "reading pcap: frame of 4294967295 bytes"},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(tt.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		n, got := 0, ""
		for f, err := range emu.ReadPcap(bytes.NewReader(b)) {
			if err != nil {
				got = err.Error()
				continue
			}
			n++
			if !f.Time.Equal(time.Unix(1, 2000)) || !bytes.Equal(f.Data, []byte{1, 2, 3}) {
				t.Errorf("%s: got %v %x", tt.name, f.Time, f.Data)
			}
		}
		if got != tt.err || (n == 1) != (tt.err == "") {
			t.Errorf("%s: got %d frames and %q, want %q", tt.name, n, got, tt.err)
		}
	}
}

func names(t testing.TB, do func(func() error) error) []string {
	t.Helper()
	var names []string
	err := do(func() error {
		ifs, err := net.Interfaces()
		for _, i := range ifs {
			if i.Flags&net.FlagUp != 0 {
				names = append(names, i.Name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestNothingRealIsInReach(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(1)})
	here := func(f func() error) error { return f() }
	if got, want := names(t, here), []string{"lo"}; !slices.Equal(got, want) {
		t.Errorf("the test sees %q, want %q", got, want)
	}
	if got, want := names(t, lab.Host("h1").Do), []string{"lo", "eth0"}; !slices.Equal(got, want) {
		t.Errorf("h1 sees %q, want %q", got, want)
	}
	if got := names(t, here); slices.Contains(got, "eth0") {
		t.Errorf("after Do the test sees %q", got)
	}
	err := lab.Host("h1").Do(func() error {
		_, err := net.Dial("udp", "192.0.2.1:9")
		return err
	})
	if !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("dialling elsewhere: %v, want %v", err, unix.ENETUNREACH)
	}
}

func TestDoPassesPanicsThroughAndComesBack(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(1)})
	func() {
		defer func() {
			if got := recover(); got != "oh" {
				t.Errorf("recovered %v, want oh", got)
			}
		}()
		lab.Host("h1").Do(func() error { panic("oh") })
	}()
	if got := names(t, func(f func() error) error { return f() }); slices.Contains(got, "eth0") {
		t.Errorf("after a panic the test sees %q", got)
	}
}

func TestHostOptions(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: []emu.HostConfig{
		{Name: "both", LANs: []int{0, 1}},
		{Name: "four", NoIPv6: true},
		{Name: "six", NoIPv4: true, LANs: []int{1}},
		{Name: "alone", Alone: true},
		{Name: "routed", DefaultRoute: true},
		{Name: "far", LANs: []int{1}},
	}})
	for _, tt := range []struct {
		host  string
		addrs string
	}{
		{"both", "127.0.0.1/8 ::1/128 10.77.0.1/24 fe80::4c:41ff:fe00:1/64 10.78.0.1/24 fe80::4c:41ff:fe01:101/64"},
		{"four", "127.0.0.1/8 10.77.0.2/24"},
		{"six", "127.0.0.1/8 ::1/128 fe80::4c:41ff:fe00:103/64"},
		{"alone", "127.0.0.1/8 ::1/128"},
	} {
		var got []string
		err := lab.Host(tt.host).Do(func() error {
			addrs, err := net.InterfaceAddrs()
			for _, a := range addrs {
				got = append(got, a.String())
			}
			return err
		})
		want := strings.Fields(tt.addrs)
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s has %q, %v, want %q", tt.host, got, err, want)
		}
	}
	if lab.Host("nobody") != nil {
		t.Error("there is a host that was not made")
	}
	err := lab.Host("routed").Do(func() error {
		c, err := net.Dial("udp", "192.0.2.1:9")
		if err == nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		t.Errorf("with a default route: %v", err)
	}

	// LANs do not meet: had "far" heard the first, it would get it first.
	four, both, far := joined(t, lab.Host("four")), joined(t, lab.Host("both")), joined(t, lab.Host("far"))
	say(t, four, group, "on LAN 0")
	want(t, both, "on LAN 0")
	sendBy(t, lab.Host("both"), both, "eth1")
	say(t, both, group, "on LAN 1")
	want(t, far, "on LAN 1")
}

func TestCommand(t *testing.T) {
	lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(2)})
	h := lab.Host("h2")
	out, err := h.Command("hostname").Output()
	if err != nil || string(out) != "h2\n" {
		t.Errorf("hostname: %q, %v", out, err)
	}
	cat := h.Command("cat")
	in, _ := cat.StdinPipe()
	cat.Stdout = new(bytes.Buffer)
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(in, "through cat")
	in.Close()
	if err := cat.Wait(); err != nil {
		t.Error(err)
	}
	if got := cat.Stdout.(*bytes.Buffer).String(); got != "through cat" {
		t.Errorf("got %q", got)
	}
	_, err = h.Command("sh", "-c", "echo why >&2; exit 3").Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || string(exit.Stderr) != "why\n" {
		t.Errorf("exit 3: %v", err)
	}
	if err := h.Command("no such program").Run(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("starting nothing: %v", err)
	}
	devices, err := h.Command("cat", "/proc/net/dev").Output()
	if err != nil || strings.Count(string(devices), ":") != 2 {
		t.Errorf("h2 has\n%s%v, want two interfaces", devices, err)
	}
}

func TestCloseKillsEverything(t *testing.T) {
	emu.Need(t)
	lab, err := emu.Open(emu.Config{Hosts: emu.Hosts(1)})
	if err != nil {
		t.Fatal(err)
	}
	cmd := lab.Host("h1").Command("sh", "-c", "sleep 1000 & setsid sleep 1000 & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("before Close: %v", err)
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the shell ended well")
	}
	settled(t, "the orphan to be reaped", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
	if err := lab.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if _, err := lab.AddHost(emu.HostConfig{}); err == nil {
		t.Error("a host could be added after Close")
	}
}

func TestInterfacesChange(t *testing.T) {
	for _, veth := range []bool{false, true} {
		t.Run(fmt.Sprintf("veth=%v", veth), func(t *testing.T) {
			lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(2), Veth: veth})
			h1, h2 := lab.Host("h1"), lab.Host("h2")
			a, b := listen(t, h1, "udp4"), listen(t, h2, "udp4")
			p := h2.Port(0)
			running := func() bool {
				var r bool
				h2.Do(func() error {
					i, err := net.InterfaceByName("eth0")
					r = err == nil && i.Flags&net.FlagRunning != 0
					return nil
				})
				return r
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(p.SetCarrier(false))
			settled(t, "the carrier to go", func() bool { return !running() })
			must(p.SetCarrier(true))
			settled(t, "the carrier to come", running)
			must(p.SetUp(false))
			must(p.SetUp(true))
			must(p.SetIPv4(netip.MustParsePrefix("10.77.0.99/24")))
			settled(t, "the interface to run", running)
			say(t, a, netip.AddrPortFrom(netip.MustParseAddr("10.77.0.99"), port(b)), "to 99")
			want(t, b, "to 99")
			a6, b6 := listen(t, h1, "udp6"), listen(t, h2, "udp6")
			sayIPv6(t, h1, a6, h2, b6, "six survived")
			want(t, b6, "six survived")

			p.Remove()
			if got := names(t, h2.Do); !slices.Equal(got, []string{"lo"}) {
				t.Errorf("after Remove h2 has %q", got)
			}
			q, err := h2.Attach(0)
			must(err)
			if q.Name() != "eth0" || q.IPv4().Addr().String() != "10.77.0.2" {
				t.Errorf("attached %s with %v", q.Name(), q.IPv4())
			}
			say(t, a, v4(h2, b), "back")
			want(t, b, "back")
			second, err := h2.Attach(0)
			must(err)
			if second.Name() != "eth1" || second.IPv4().Addr().String() != "10.77.0.253" {
				t.Errorf("attached %s with %v", second.Name(), second.IPv4())
			}
		})
	}
}

func TestLinkIsChecked(t *testing.T) {
	for _, l := range []emu.Link{{Loss: -1}, {Dup: 101}, {Reorder: math.NaN()}, {Delay: -1}, {Jitter: -1}} {
		if l.Validate() == nil {
			t.Errorf("%+v is valid", l)
		}
	}
	if err := (emu.Link{Loss: 100, Dup: 100, Reorder: 0.1, Delay: 1}).Validate(); err != nil {
		t.Error(err)
	}
}

// BenchmarkSwitch sends packets of 200 bytes from h1 to a group of four.
func BenchmarkSwitch(b *testing.B) {
	for _, hosts := range []int{2, 5} {
		b.Run(fmt.Sprintf("receivers=%d", hosts-1), func(b *testing.B) {
			lab := emu.Start(b, emu.Config{Hosts: emu.Hosts(hosts)})
			h1 := lab.Host("h1")
			c := joined(b, h1)
			text := make([]byte, 200)
			received := func() uint64 { return lab.Host("h2").Port(0).Stats().Received.Frames }
			was := received()
			for i := 0; i < b.N; i++ {
				c.WriteToUDPAddrPort(text, group)
				for i%1024 == 0 && uint64(i) > received()-was+4096 {
					time.Sleep(100 * time.Microsecond) // or the host's own queue overruns
				}
			}
			for received()-was < uint64(b.N) {
				time.Sleep(100 * time.Microsecond)
			}
			b.ReportMetric(float64(b.N*(hosts-1))/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}
