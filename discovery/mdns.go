package discovery

import (
	"context"
	"encoding/hex"
	"fmt"
	"log"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/mdns"
	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"lanchat/discovery/presence"
	"lanchat/wire"
)

// What is said by mDNS (DNS-SD): a service type per role, and a TXT record of
//
//	txtvers=1  realm=<16 hex digits>  id=<16 hex digits>  port=<decimal>
//
// An instance is named <device id>-<interface index>, its host the same with
// ".local". No user names and no rooms: everybody on the LAN reads it.
const (
	authdType = "_lanchat-auth._udp"
	nodeType  = "_lanchat._udp"
	domain    = "local."
)

// All that mDNS says is a hint that anybody may have made up, and is bounded:
const (
	maxInstances = 64  // believed of one packet
	maxAnswers   = 512 // packets read for one query
	maxHints     = 256 // devices hinted at by one query
	maxHintAddrs = 16  // addresses of one of them
	answerTime   = 400 * time.Millisecond
	mdnsPort     = 5353
	askAtLeast   = 5 * time.Second // while no authd is known
	askAtMost    = time.Minute
)

var (
	mdns4 = netip.AddrPortFrom(netip.MustParseAddr("224.0.0.251"), mdnsPort)
	mdns6 = netip.AddrPortFrom(netip.MustParseAddr("ff02::fb"), mdnsPort)
)

// MDNSStats counts what was seen by mDNS.
type MDNSStats struct {
	Queries   uint64
	Failed    uint64 // queries that could not be sent
	Answers   uint64 // packets
	Malformed uint64 // packets that are no DNS, and instances of ours that say nonsense
	Foreign   uint64 // instances of other realms, and of other interfaces
	Excess    uint64 // beyond a bound
	Complaint uint64 // lines that the responder would have logged
}

type mdnsCounters struct {
	queries, failed, answers, malformed, foreign, excess, complaints atomic.Uint64
}

func (c *mdnsCounters) stats() MDNSStats {
	return MDNSStats{c.queries.Load(), c.failed.Load(), c.answers.Load(), c.malformed.Load(), c.foreign.Load(),
		c.excess.Load(), c.complaints.Load()}
}

// An instance is one that mDNS says there is.
type instance struct {
	role   wire.Role
	realm  wire.RealmPrefix
	device wire.DeviceID
	addrs  []netip.AddrPort // on the link, with zones where needed
}

// mdnsLinks is mDNS on all links: on each, a responder that makes this device
// visible and an asker. Only the loop touches it, but for authdKnown.
type mdnsLinks struct {
	on         bool
	visible    func(presence.Link) (*mdns.Server, error) // nil: invisible
	announce   func(context.Context, presence.Link)      // until the context ends; nil: does not
	types      []string                                  // asked for; none: does not ask
	once       func(context.Context, presence.Link)      // askOnce
	found      func(instance, presence.Link)
	counters   *mdnsCounters
	log        *slog.Logger
	authdKnown atomic.Bool

	links  []*mdnsLink
	askers sync.WaitGroup
}

type mdnsLink struct {
	presence.Link
	server *mdns.Server // nil: none yet
	failed bool         // and that was told
	cancel context.CancelFunc
}

func (s *Service) newMDNS() *mdnsLinks {
	_, system := s.c.Net.(System) // never real packets from a network in memory
	m := &mdnsLinks{on: s.c.MDNS && system, counters: &s.mdns, log: s.c.Logger}
	m.once = m.askOnce
	self := wire.KeyOf(publicOf(s.c.Key)).Device()
	m.visible = func(l presence.Link) (*mdns.Server, error) {
		return newResponder(l, s.c.Role, s.c.Realm.Prefix(), self, s.c.Port, &s.mdns)
	}
	m.announce = func(ctx context.Context, l presence.Link) {
		zone, service, err := zoneOf(l, s.c.Role, s.c.Realm.Prefix(), self, s.c.Port)
		if err == nil {
			m.announceZone(ctx, l, zone, service)
		}
	}
	if s.c.Role == wire.RoleNode { // authd is asked and has nobody to ask for
		m.types = []string{authdType, nodeType}
	}
	m.found = func(i instance, _ presence.Link) {
		switch {
		case i.realm != s.c.Realm.Prefix():
			s.mdns.foreign.Add(1)
		case i.device != self:
			s.Hint(presence.Hint{Device: i.device, Role: i.role, Addrs: i.addrs, Via: presence.MDNS})
		}
	}
	return m
}

// setLinks starts mDNS on new links and ends it on those that are gone. A
// changed link is a new one: the responder's addresses cannot be changed. With
// all, every link is taken for new.
func (m *mdnsLinks) setLinks(links []presence.Link, all bool) {
	if !m.on {
		return
	}
	old := m.links
	m.links = nil
	for _, o := range old {
		if !all && slices.ContainsFunc(links, o.Link.Equal) {
			m.links = append(m.links, o)
		} else {
			m.end(o)
		}
	}
	for _, l := range links {
		if l.Loopback || slices.ContainsFunc(m.links, func(o *mdnsLink) bool { return o.Link.Equal(l) }) {
			continue // mDNS does not work on the loopback interface; the group does
		}
		ctx, cancel := context.WithCancel(context.Background())
		ml := &mdnsLink{Link: l, cancel: cancel}
		if len(m.types) > 0 {
			m.askers.Go(func() { m.ask(ctx, l) })
		}
		if m.announce != nil {
			m.askers.Go(func() { m.announce(ctx, l) })
		}
		m.links = append(m.links, ml)
	}
	for _, l := range m.links {
		m.respond(l)
	}
}

// respond starts the responder of a link if it has none. What fails is tried
// again at the next look at the interfaces, and told once.
func (m *mdnsLinks) respond(l *mdnsLink) {
	if m.visible == nil || l.server != nil {
		return
	}
	server, err := m.visible(l.Link)
	if err == nil {
		l.server = server
	} else if !l.failed {
		l.failed = true
		m.log.Warn("starting the mDNS responder", "interface", l.Name, "err", err)
	}
}

func (m *mdnsLinks) end(l *mdnsLink) {
	l.cancel()
	if l.server != nil {
		l.server.Shutdown()
	}
}

// When a device announces itself: at once, soon again, and before what others
// keep of it ends (RFC 6762, sections 8.3 and 10).
const (
	announceAgain = time.Second
	announceEvery = 50 * time.Second
)

// announceZone multicasts what the responder of a link says, without being
// asked, until ctx ends, and then takes it back. The responder answers to the
// asker alone; on a machine where another mDNS program (avahi, say) listens too,
// such an answer goes to whichever came last, and that program would never see
// us, nor anybody else.
func (m *mdnsLinks) announceZone(ctx context.Context, l presence.Link, zone mdns.Zone, service string) {
	say := func(ttl uint32) {
		msg := new(dns.Msg)
		msg.Response, msg.Authoritative = true, true
		msg.Answer = zone.Records(dns.Question{Name: service + "." + domain, Qtype: dns.TypePTR, Qclass: dns.ClassINET})
		for _, rr := range msg.Answer {
			rr.Header().Ttl = ttl
		}
		packed, err := msg.Pack()
		if err != nil {
			return
		}
		for _, to := range []netip.AddrPort{mdns4, mdns6} {
			if to.Addr().Is4() && !l.HasIPv4() || to.Addr().Is6() && !l.HasIPv6() {
				continue
			}
			// Bound to the group's address and port 5353, which answers have to come
			// from, it takes no one's unicast away.
			c, err := System{}.ListenGroup(l, to)
			if err == nil {
				err = c.Send(packed)
				c.Close()
			}
			if err != nil {
				m.log.Debug("announcing by mDNS", "interface", l.Name, "err", err)
			}
		}
	}
	for wait := announceAgain; ; wait = announceEvery {
		say(announceTTL)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			say(0)
			return
		}
	}
}

// announceTTL is how long others may keep what is announced, in seconds.
const announceTTL = 120

// close ends everything and waits for the askers.
func (m *mdnsLinks) close() {
	for _, l := range m.links {
		m.end(l)
	}
	m.links = nil
	m.askers.Wait()
}

// newResponder starts a responder for one link. Of the library's traps: it has
// one instance, since its own client is confused by two in one answer; the
// addresses are given, since it would ask DNS for them for half a minute; the
// host name is one that nothing else has; and its log lines, of which every
// malformed packet on the LAN causes one, are counted and dropped.
func newResponder(l presence.Link, role wire.Role, realm wire.RealmPrefix, self wire.DeviceID, port uint16, c *mdnsCounters) (*mdns.Server, error) {
	zone, _, err := zoneOf(l, role, realm, self, port)
	if err != nil {
		return nil, err
	}
	return mdns.NewServer(&mdns.Config{Zone: zone, Iface: netInterface(l), Logger: log.New(complaints{c}, "", 0)})
}

// zoneOf returns what the responder of a link says, and its service type.
func zoneOf(l presence.Link, role wire.Role, realm wire.RealmPrefix, self wire.DeviceID, port uint16) (*mdns.MDNSService, string, error) {
	service := nodeType
	if role == wire.RoleAuthd {
		service = authdType
	}
	name := fmt.Sprintf("%v-%d", self, l.Index)
	var ips []net.IP
	for _, p := range l.Prefixes {
		ips = append(ips, p.Addr().AsSlice())
	}
	txt := []string{"txtvers=1", "realm=" + realm.String(), "id=" + self.String(), "port=" + strconv.Itoa(int(port))}
	zone, err := mdns.NewMDNSService(name, service, domain, name+"."+domain, int(port), ips, txt)
	return zone, service, err
}

// complaints counts the lines of a log.
type complaints struct{ c *mdnsCounters }

func (w complaints) Write(b []byte) (int, error) {
	w.c.complaints.Add(1)
	return len(b), nil
}

// ask asks on a link until ctx ends: soon, then after 1, 2, 4 … 60 seconds
// ± 10 % (RFC 6762, section 5.2), at most 5 s apart while no authd is known.
func (m *mdnsLinks) ask(ctx context.Context, l presence.Link) {
	pause, wait := time.Second, 20*time.Millisecond+mathrand.N(100*time.Millisecond)
	for {
		last := time.Now()
		for left := wait; left > 0; left = wait - time.Since(last) {
			// Authd may go away in the middle of a long pause.
			if !m.authdKnown.Load() && wait > askAtLeast {
				wait = askAtLeast - mathrand.N(askAtLeast/10)
				continue
			}
			select {
			case <-time.After(min(left, time.Second)):
			case <-ctx.Done():
				return
			}
		}
		m.once(ctx, l)
		wait, pause = pause, min(2*pause, askAtMost)
		wait += mathrand.N(wait/5) - wait/10
	}
}

// askOnce asks once by each family that the link has and waits for answers.
//
// The question is asked by a socket of our own, in place of the library's
// client: that one cannot ask by IPv4 on a machine without a default route
// (which is what an isolated LAN is), finds one of several instances in one
// packet, mixes up addresses of different interfaces, multicasts a question
// for every half of an answer that anybody sends it, keeps all of them, and
// changes entries after it handed them out.
func (m *mdnsLinks) askOnce(ctx context.Context, l presence.Link) {
	var families sync.WaitGroup
	for _, to := range []netip.AddrPort{mdns4, mdns6} {
		if to.Addr().Is4() && !l.HasIPv4() || to.Addr().Is6() && !l.HasIPv6() {
			continue
		}
		families.Go(func() {
			if err := m.askFamily(ctx, l, to); err != nil {
				m.counters.failed.Add(1)
				m.log.Debug("asking by mDNS", "interface", l.Name, "to", to, "err", err)
			}
		})
	}
	families.Wait()
}

func (m *mdnsLinks) askFamily(ctx context.Context, l presence.Link, to netip.AddrPort) error {
	packed, err := question(m.types...)
	if err != nil {
		return err
	}
	c, err := openAsker(l, to.Addr().Is4())
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	c.SetReadDeadline(time.Now().Add(answerTime))
	if ctx.Err() != nil {
		return nil
	}
	if _, err := c.WriteToUDPAddrPort(packed, to); err != nil {
		return err
	}
	m.counters.queries.Add(1)

	buf := make([]byte, 9000) // RFC 6762, section 17
	hinted := make(map[wire.DeviceID]bool)
	for range maxAnswers {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return nil // the time is over
		}
		if from.Port() != mdnsPort || !l.OnLink(from.Addr()) {
			continue
		}
		m.counters.answers.Add(1)
		for _, i := range instances(buf[:n], from.Addr().Unmap(), m.types, l, m.counters) {
			hinted[i.device] = true
			if len(hinted) > maxHints {
				m.counters.excess.Add(1)
				return nil
			}
			m.found(i, l)
		}
	}
	m.counters.excess.Add(1)
	return nil
}

// question asks who offers services of the types.
func question(types ...string) ([]byte, error) {
	m := new(dns.Msg)
	for _, t := range types {
		m.Question = append(m.Question, dns.Question{Name: t + "." + domain, Qtype: dns.TypePTR, Qclass: dns.ClassINET})
	}
	return m.Pack()
}

// openAsker opens a socket that sends to multicast addresses by the link.
func openAsker(l presence.Link, is4 bool) (*net.UDPConn, error) {
	network := "udp6"
	if is4 {
		network = "udp4"
	}
	c, err := net.ListenUDP(network, nil)
	if err != nil {
		return nil, err
	}
	if is4 {
		p := ipv4.NewPacketConn(c)
		if err = p.SetMulticastInterface(netInterface(l)); err == nil {
			err = p.SetMulticastTTL(255)
		}
	} else {
		p := ipv6.NewPacketConn(c)
		if err = p.SetMulticastInterface(netInterface(l)); err == nil {
			err = p.SetMulticastHopLimit(255)
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// instances reads an answer and returns the instances of the service types in
// it that make sense, at most maxInstances.
//
// On a machine with two LANs the responder of one answers questions from the
// other as well, with its own addresses, of which link-local ones look like
// good ones there. So an instance must name the address it came from.
func instances(packet []byte, from netip.Addr, types []string, l presence.Link, c *mdnsCounters) []instance {
	var msg dns.Msg
	if msg.Unpack(packet) != nil || !msg.Response || msg.Opcode != dns.OpcodeQuery {
		c.malformed.Add(1)
		return nil
	}
	records := append(msg.Answer, msg.Extra...)
	names := make([]string, len(records))
	for n, rr := range records {
		names[n] = dns.CanonicalName(rr.Header().Name)
	}
	var out []instance
	tried := 0
	for n, rr := range records {
		srv, ok := rr.(*dns.SRV)
		if !ok {
			continue
		}
		role, ok := roleOf(names[n], types)
		if !ok {
			continue // somebody's printer
		}
		if tried++; tried > maxInstances {
			c.excess.Add(1)
			break
		}
		i := instance{role: role}
		target := dns.CanonicalName(srv.Target)
		said := false
		for k, rr := range records {
			switch rr := rr.(type) {
			case *dns.TXT:
				if !said && names[k] == names[n] {
					said = i.read(rr.Txt, srv.Port)
				}
			case *dns.A:
				if names[k] == target {
					i.add(rr.A, srv.Port, l)
				}
			case *dns.AAAA:
				if names[k] == target {
					i.add(rr.AAAA, srv.Port, l)
				}
			}
		}
		if !said {
			c.malformed.Add(1)
			continue
		}
		if !slices.Contains(i.addrs, netip.AddrPortFrom(from, srv.Port)) {
			c.foreign.Add(1)
			continue
		}
		out = append(out, i)
	}
	return out
}

// roleOf returns the role of an instance by its canonical name.
func roleOf(name string, types []string) (wire.Role, bool) {
	for _, t := range types {
		if strings.HasSuffix(name, "."+t+"."+domain) {
			if t == authdType {
				return wire.RoleAuthd, true
			}
			return wire.RoleNode, true
		}
	}
	return 0, false
}

// read reads a TXT record and reports whether it makes sense. Keys have no
// case, the first of equal ones counts, and unknown ones are passed by (RFC
// 6763, section 6.4).
func (i *instance) read(txt []string, port uint16) bool {
	values := make(map[string]string, 4)
	for _, s := range txt {
		key, value, _ := strings.Cut(s, "=")
		key = strings.ToLower(key)
		if _, seen := values[key]; !seen && len(values) < 32 {
			values[key] = value
		}
	}
	realm, err := hex.DecodeString(values["realm"])
	if err != nil || len(realm) != len(i.realm) {
		return false
	}
	device, err := wire.ParseDeviceID(values["id"])
	if err != nil || device.IsZero() {
		return false
	}
	if values["txtvers"] != "1" || port == 0 || values["port"] != strconv.Itoa(int(port)) {
		return false
	}
	i.realm, i.device = wire.RealmPrefix(realm), device
	return true
}

// add adds an address if it is one of the link: responders on machines with
// several LANs are known to answer with those of another.
func (i *instance) add(ip net.IP, port uint16, l presence.Link) {
	a, ok := netip.AddrFromSlice(ip)
	a = a.Unmap()
	if !ok || !l.OnLink(a) || len(i.addrs) >= maxHintAddrs {
		return
	}
	if a.Is6() && a.IsLinkLocalUnicast() {
		a = a.WithZone(l.Name)
	}
	if ap := netip.AddrPortFrom(a, port); !slices.Contains(i.addrs, ap) {
		i.addrs = append(i.addrs, ap)
	}
}

// TryMDNS says whether this machine can take part in mDNS on a link: whether its
// port can be shared with who has it, and a question be sent.
func TryMDNS(l presence.Link) error {
	if l.Loopback {
		return nil // there is none
	}
	for _, to := range []netip.AddrPort{mdns4, mdns6} {
		if to.Addr().Is4() && !l.HasIPv4() || to.Addr().Is6() && (!l.HasIPv6() || l.HasIPv4()) {
			continue
		}
		c, err := net.ListenMulticastUDP(map[bool]string{true: "udp4", false: "udp6"}[to.Addr().Is4()], netInterface(l), net.UDPAddrFromAddrPort(to))
		if err != nil {
			return fmt.Errorf("listening on port %d: %w", mdnsPort, err)
		}
		c.Close()
		asker, err := openAsker(l, to.Addr().Is4())
		if err != nil {
			return fmt.Errorf("opening a socket to ask with: %w", err)
		}
		ask, err := question(authdType)
		if err == nil {
			_, err = asker.WriteToUDPAddrPort(ask, to)
		}
		asker.Close()
		if err != nil {
			return fmt.Errorf("asking: %w", err)
		}
	}
	return nil
}

func netInterface(l presence.Link) *net.Interface {
	return &net.Interface{Index: l.Index, Name: l.Name}
}

// An AuthdHint says where an authd may be.
type AuthdHint struct {
	Realm  wire.RealmPrefix // zero: not told
	Device wire.DeviceID    // zero: not told
	Addrs  []netip.AddrPort
}

// AuthdPort is the port that authd listens on unless told otherwise.
const AuthdPort = 4747

// localAuthd are where an authd on this machine listens.
var localAuthd = []netip.AddrPort{
	netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), AuthdPort),
	netip.AddrPortFrom(netip.IPv6Loopback(), AuthdPort),
}

// localAgain is how often the addresses of this machine are hinted at.
const localAgain = 2 * time.Second

// Browse looks for authds of any realm until ctx ends, for a node that has no
// realm yet. found is called by one goroutine at a time, again and again for
// the same authd as long as it answers: an authd that was busy is tried again.
// The addresses of this machine are always among the hints. ifaces names the
// only interfaces to be used; none means every LAN. A logger of nil discards.
func Browse(ctx context.Context, ifaces []string, log *slog.Logger, found func(AuthdHint)) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var one sync.Mutex
	tell := func(h AuthdHint) {
		one.Lock()
		defer one.Unlock()
		if ctx.Err() == nil {
			found(h)
		}
	}
	m := &mdnsLinks{on: true, types: []string{authdType}, counters: new(mdnsCounters), log: log}
	m.once = m.askOnce
	m.found = func(i instance, _ presence.Link) {
		tell(AuthdHint{Realm: i.realm, Device: i.device, Addrs: i.addrs})
	}
	defer m.close()
	poll := time.NewTicker(pollPeriod)
	defer poll.Stop()
	local := time.Time{}
	for {
		if all, err := (System{}).Interfaces(); err != nil {
			log.Warn("looking at the interfaces", "err", err)
		} else {
			links, _ := Usable(all, ifaces)
			m.setLinks(links, false)
		}
		if now := time.Now(); local.IsZero() || now.Sub(local) >= localAgain {
			local = now
			tell(AuthdHint{Addrs: slices.Clone(localAuthd)})
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil
		}
	}
}
