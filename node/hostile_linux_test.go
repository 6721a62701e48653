package main_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"lanchat/discovery"
	"lanchat/node/login"
	"lanchat/testdata/lan/emu"
	"lanchat/wire"
)

// Somebody on the LAN answers every mDNS question with devices that are not
// there, says by signed presence that thousands more are, at bob's address, and
// sends what is nothing at all. ann shows bob and nobody else, does not grow, logs
// nothing of it, and the two talk.
func TestHostile(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(4)...)
	a := l.authd("h1", "authd")
	for host, name := range map[string]string{"h2": "ann", "h3": "bob"} {
		n := l.newcomer(host, name)
		n.ready(name, a)
		n.quit()
	}
	profile, err := login.Open(l.path("ann"))
	if err != nil {
		t.Fatal(err)
	}
	id := profile.Pin().ID

	answered := l.answerAll("h4", id)
	ann, bob := l.node("h2", "ann"), l.node("h3", "bob") // with tokens: without the memory that a password takes
	ann.ready("ann", a)
	bob.ready("bob", a)
	meet(ann, bob)
	gather("#lab", ann, bob)
	talk("#lab", "before", ann, bob)

	c := l.caster("h4")
	defer c.Close()
	group, _ := discovery.GroupAddrs(id)
	send := func(b []byte, to netip.AddrPort) {
		if _, err := c.WriteToUDPAddrPort(b, to); err != nil && !isQueueFull(err) {
			t.Fatal(err)
		}
	}
	const devices = 1500
	random := rand.New(rand.NewPCG(7, 8))
	for n := range devices {
		seed := make([]byte, ed25519.SeedSize)
		binary.BigEndian.PutUint32(seed, uint32(n))
		key := ed25519.NewKeyFromSeed(seed)
		p := wire.Presence{Key: wire.KeyOf(key.Public().(ed25519.PublicKey)), Boot: 1, Counter: 1, Kind: wire.Here, Role: wire.RoleNode,
			Period: 360 * time.Second, Port: uint16(1024 + n), Addrs: []netip.Addr{l.Host("h3").Port(0).IPv4().Addr()}}
		packet := p.Append(nil, id, key)
		send(packet, netip.AddrPortFrom(group, discovery.GroupPort))
		for _, to := range []netip.AddrPort{netip.AddrPortFrom(group, discovery.GroupPort), netip.MustParseAddrPort("224.0.0.251:5353"),
			netip.AddrPortFrom(l.Host("h2").Port(0).IPv4().Addr(), 5353)} {
			b := bytes.Clone(packet)
			b[random.IntN(len(b))] ^= 1 << random.IntN(8)
			send(b[:random.IntN(len(b))], to)
			send(b, to)
		}
		if n%500 == 0 {
			tell("#lab", "reliable", fmt.Sprint("amid lies ", n), ann, bob)
		}
	}
	talk("#lab", "after", ann, bob)
	whisper("reliable", "after", ann, bob)
	whisper("fast", "after", bob, ann)
	if answered.Load() == 0 {
		t.Error("no question was answered")
	}
	ann.line("/users")
	if text := ann.want("notice", "code", "users").text("text"); strings.Count(text, "\n") != 1 || !strings.Contains(text, "bob  online") {
		t.Errorf("/users shows %q, want ann and bob", text)
	}
	ann.line("/net")
	if text := ann.want("notice", "code", "net").text("text"); strings.Count(text, "\n") > 20 || !strings.Contains(text, "more devices of which nothing is known") {
		t.Errorf("/net shows %q, want few of those that were made up", text)
	}
	for _, n := range []*node{ann, bob} {
		if lies := n.all("peer", "user", func(v any) bool { return v != "ann" && v != "bob" }); len(lies) > 0 {
			t.Errorf("%s shows somebody who is not there: %v", n.name, lies[0].fields)
		}
		if gone := n.all("peer", "state", func(v any) bool { return v != "online" }); len(gone) > 0 {
			t.Errorf("%s lost somebody: %v", n.name, gone[0].fields)
		}
		n.mu.Lock()
		if len(n.errout) > 10 {
			t.Errorf("%s logs %d lines, as in %q", n.name, len(n.errout), n.errout[0])
		}
		n.mu.Unlock()
		if rss := residentKiB(t, n.cmd.Process.Pid); rss > 96<<10 {
			t.Errorf("%s has %d KiB of memory", n.name, rss)
		}
	}
}

// residentKiB returns the memory that a process has.
func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == "VmRSS:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// answerAll answers every mDNS question that a host hears with three hundred new
// devices and authds of the realm, at the host's own address and with long TXT
// records, until the test ends. It returns how many it answered.
func (l *lan) answerAll(host string, id wire.RealmID) *atomic.Int64 {
	l.t.Helper()
	var c *net.UDPConn
	if err := l.Host(host).Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		c, err = net.ListenMulticastUDP("udp4", eth0, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
		return err
	}); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	own := l.Host(host).Port(0).IPv4().Addr()
	var answered atomic.Int64
	go func() {
		buf := make([]byte, 9000)
		for device := 1; ; {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			var question dns.Msg
			if question.Unpack(buf[:n]) != nil || question.Response || len(question.Question) == 0 {
				continue
			}
			answered.Add(1)
			for range 300 {
				device++
				typ := []string{"_lanchat._udp.local.", "_lanchat-auth._udp.local."}[device/100%2]
				c.WriteToUDPAddrPort(fakeAnswer(typ, id.Prefix(), device, own), from)
			}
		}
	}()
	return &answered
}

func fakeAnswer(typ string, realm wire.RealmPrefix, device int, addr netip.Addr) []byte {
	name, host := fmt.Sprintf("x%d.%s", device, typ), fmt.Sprintf("x%d.local.", device)
	h := func(name string, typ uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassINET, Ttl: 120}
	}
	m := dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Answer: []dns.RR{
		&dns.SRV{Hdr: h(name, dns.TypeSRV), Port: uint16(1024 + device%60000), Target: host},
		&dns.TXT{Hdr: h(name, dns.TypeTXT), Txt: []string{"txtvers=1", fmt.Sprint("realm=", realm), fmt.Sprintf("id=%016x", device), fmt.Sprint("port=", 1024+device%60000),
			strings.Repeat("x", 255), strings.Repeat("y", 255)}},
		&dns.A{Hdr: h(host, dns.TypeA), A: addr.AsSlice()},
	}}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}
