// Package checkup looks at the network for node doctor: it opens sockets, asks
// by mDNS and in the realm's group, tries authd and peers, and reads the key
// files. What that means is for package doctor to say. It changes nothing.
//
// Like a main it may know every part of the program; start at [Gather].
package checkup

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/discovery"
	"lanchat/discovery/presence"
	"lanchat/node/doctor"
	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/clean"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

const (
	listenFor  = 3500 * time.Millisecond // to the group and to mDNS: who is here speaks every 2 s
	reachFor   = 3 * time.Second         // for authd, and for a peer, to answer
	maxReached = 16                      // peers that are dialled
)

// Config says what to look at.
type Config struct {
	Data   string           // directory of key, token and history
	Ifaces []string         // the only interfaces to be used; none: every LAN
	Authds []netip.AddrPort // where authd is said to be; none: look for it
	Port   uint16           // of the socket to try with; 0: any
	// Running asks the node that runs on Data what /net shows, as JSON; nil or
	// an error: none runs.
	Running func(ctx context.Context) ([]byte, error)
}

// Gather looks at everything, for some ten seconds, and returns what it saw.
func Gather(ctx context.Context, cfg Config) (doctor.Facts, error) {
	c := &checkup{cfg: cfg, authds: map[netip.AddrPort]*doctor.AuthdFact{}, heard: map[wire.DeviceID]*heard{}}
	err := c.gather(ctx)
	return c.facts, err
}

// A checkup is one look at everything.
type checkup struct {
	cfg       Config
	facts     doctor.Facts
	profile   *login.Profile // nil: there is none that can be used
	transport *quic.Transport
	links     []presence.Link

	mu     sync.Mutex
	authds map[netip.AddrPort]*doctor.AuthdFact
	heard  map[wire.DeviceID]*heard
}

// heard is a device that was heard in the group.
type heard struct {
	role  wire.Role
	addrs []netip.AddrPort
}

func (c *checkup) gather(ctx context.Context) error {
	c.facts.System = doctor.ReadSystem()
	c.facts.Named = c.cfg.Ifaces
	named := c.cfg.Authds
	c.openProfile()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(c.cfg.Port)})
	if c.cfg.Port != 0 && errors.Is(err, syscall.EADDRINUSE) {
		c.facts.PortTaken = c.cfg.Port
		conn, err = net.ListenUDP("udp", nil)
	}
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer conn.Close()
	c.transport = link.NewTransport(conn, nil)
	defer c.transport.Close()
	if err := c.lookAround(); err != nil {
		return err
	}
	for _, a := range named {
		c.facts.AuthdNamed = a.String()
		c.sayAuthd(a, "named")
	}
	if pin := c.pin(); pin != nil && len(named) == 0 && pin.Address.IsValid() {
		c.sayAuthd(pin.Address, "remembered")
	}
	others := c.askRunning(ctx) // before it hears what a checkup says to the group
	c.listen(ctx, uint16(conn.LocalAddr().(*net.UDPAddr).Port), len(named) == 0)
	contacts := c.tryAuthds(ctx)
	if others != nil {
		c.facts.Shared, c.facts.Others = true, c.hearAnew(others)
	} else {
		c.reach(ctx, contacts)
	}
	return ctx.Err()
}

// openProfile reads the data directory, unless there is nothing there yet.
func (c *checkup) openProfile() {
	if _, err := os.Stat(c.cfg.Data); errors.Is(err, fs.ErrNotExist) {
		return // nothing is made only to be looked at
	}
	if c.profile, c.facts.Key = login.Open(c.cfg.Data); c.facts.Key != nil {
		return
	}
	if pin := c.profile.Pin(); pin != nil {
		c.facts.Pinned = clean.Line(pin.Name, realm.MaxRealmName)
	}
	if t := c.profile.Token(); t != nil {
		c.facts.User, c.facts.Until = t.Name, t.NotAfter
		if err := c.profile.Verifier().Check(t, c.profile.Now()); errors.Is(err, realm.ErrRevoked) {
			c.facts.Key = fmt.Errorf("this device was shut out of %s: node logout, then node login makes it another device", t.Name)
		}
	}
}

func (c *checkup) pin() *login.Pin {
	if c.profile == nil {
		return nil
	}
	return c.profile.Pin()
}

// lookAround looks at the interfaces.
func (c *checkup) lookAround() error {
	all, err := discovery.System{}.Interfaces()
	if err != nil {
		return err
	}
	var skipped []presence.Skipped
	c.links, skipped = discovery.Usable(all, c.cfg.Ifaces)
	for _, l := range c.links {
		c.facts.Interfaces = append(c.facts.Interfaces, doctor.Interface{Name: l.Name, Prefixes: l.Prefixes, Loopback: l.Loopback, Route: routeElsewhere(l, all)})
	}
	for _, s := range skipped {
		i := doctor.Interface{Name: s.Name, Reason: s.Reason}
		for _, a := range all {
			if a.Name == s.Name {
				i.Loopback, i.Prefixes = a.Flags&net.FlagLoopback != 0, a.Prefixes
			}
		}
		c.facts.Interfaces = append(c.facts.Interfaces, i)
	}
	return nil
}

// routeElsewhere returns the interface by which packets for the link's own IPv4
// network leave, if it is another. Nothing is sent to find out.
func routeElsewhere(l presence.Link, all []discovery.Interface) string {
	for _, p := range l.Prefixes {
		if !p.Addr().Is4() || p.Bits() > 30 || l.Loopback {
			continue
		}
		neighbour := p.Masked().Addr().Next()
		if neighbour == p.Addr() {
			neighbour = neighbour.Next()
		}
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(neighbour, discovery.GroupPort)))
		if err != nil {
			continue
		}
		source := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		conn.Close()
		for _, i := range all {
			has := func(q netip.Prefix) bool { return q.Addr() == source }
			same := func(q netip.Prefix) bool { return q.Masked() == p.Masked() } // two ways into one network
			if i.Index != l.Index && slices.ContainsFunc(i.Prefixes, has) && !slices.ContainsFunc(i.Prefixes, same) {
				return i.Name
			}
		}
	}
	return ""
}

func (c *checkup) sayAuthd(a netip.AddrPort, via string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.authds[a]
	if f == nil {
		f = &doctor.AuthdFact{Addr: a}
		c.authds[a] = f
	}
	if !slices.Contains(f.Via, via) {
		f.Via = append(f.Via, via)
	}
}

// listen asks by mDNS and in the realm's group who is here, and listens for a
// while.
func (c *checkup) listen(ctx context.Context, port uint16, browse bool) {
	ctx, cancel := context.WithTimeout(ctx, listenFor)
	defer cancel()
	var listening sync.WaitGroup
	if browse {
		for i, l := range c.links {
			c.facts.Interfaces[i].MDNS = tryMDNS(l)
		}
		listening.Go(func() { c.browse(ctx) })
	}
	var id wire.RealmID // without a realm the group of none does for trying
	if pin := c.pin(); pin != nil {
		id = pin.ID
	}
	v4, v6 := discovery.GroupAddrs(id)
	for i, l := range c.links {
		for _, f := range []struct {
			family string
			has    bool
			group  netip.Addr
		}{{"IPv4", l.HasIPv4(), v4}, {"IPv6", l.HasIPv6(), v6}} {
			if f.has {
				listening.Go(func() {
					g := c.group(ctx, id, l, netip.AddrPortFrom(f.group, discovery.GroupPort), port)
					g.Family = f.family
					c.mu.Lock()
					defer c.mu.Unlock()
					c.facts.Interfaces[i].Groups = append(c.facts.Interfaces[i].Groups, g)
				})
			}
		}
	}
	listening.Wait()
	for _, i := range c.facts.Interfaces {
		slices.SortFunc(i.Groups, func(a, b doctor.GroupFact) int { return cmp.Compare(a.Family, b.Family) })
	}
}

// tryMDNS says why mDNS cannot work on a link, if it can't.
func tryMDNS(l presence.Link) error { return taken(discovery.TryMDNS(l), 5353) }

// taken says of a port that programs share that one does not.
func taken(err error, port int) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w %d and does not share it", doctor.ErrPort, port)
	}
	return err
}

func (c *checkup) browse(ctx context.Context) {
	prefix := wire.RealmPrefix{}
	if pin := c.pin(); pin != nil {
		prefix = pin.ID.Prefix()
	}
	_ = discovery.Browse(ctx, c.cfg.Ifaces, nil, func(h discovery.AuthdHint) { // its error is ctx's
		if h.Realm != prefix && h.Realm != (wire.RealmPrefix{}) && prefix != (wire.RealmPrefix{}) {
			return // another realm's
		}
		via := "mdns"
		if h.Device.IsZero() {
			via = "this machine"
		}
		for _, a := range h.Addrs {
			c.sayAuthd(a, via)
		}
	})
}

// group says and asks something in the realm's group on one link, as a device
// that was never heard before and says goodbye at the end.
func (c *checkup) group(ctx context.Context, id wire.RealmID, l presence.Link, group netip.AddrPort, port uint16) (g doctor.GroupFact) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return doctor.GroupFact{Err: err}
	}
	conn, err := discovery.System{}.ListenGroup(l, group)
	if err != nil {
		return doctor.GroupFact{Err: taken(err, int(group.Port()))}
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	self := wire.KeyOf(pub)
	say := func(kind wire.PresenceKind, counter uint64) error {
		p := wire.Presence{Key: self, Boot: uint64(time.Now().UnixNano()), Counter: counter, Kind: kind, Role: wire.RoleNode, Port: port}
		return conn.Send(p.Append(nil, id, key))
	}
	if g.Err = say(wire.Probe, 1); g.Err != nil {
		return g
	}
	bye := time.AfterFunc(listenFor*3/4, func() { _ = say(wire.Bye, 2) })
	defer bye.Stop()
	seen := map[wire.DeviceID]bool{}
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			g.Heard = len(seen)
			return g
		}
		p, err := wire.ParsePresence(buf[:n], id)
		if err != nil || wire.VerifyPresence(buf[:n], id, p.Key) != nil {
			continue
		}
		switch device := p.Key.Device(); {
		case p.Key == self:
			g.Back = true
		case p.Period == 0 && p.Role == wire.RoleNode: // one of this checkup's, in another family or on another link
		case c.profile != nil && p.Key == c.profile.DeviceKey():
		default:
			if !c.hear(device, p, from, l) && !seen[device] {
				g.Foreign = append(g.Foreign, from.Addr().Unmap())
			}
			seen[device] = true
		}
	}
}

// hear notes who was heard on a link, and reports whether they can be dialled there.
func (c *checkup) hear(device wire.DeviceID, p *wire.Presence, from netip.AddrPort, l presence.Link) bool {
	var addrs []netip.AddrPort
	for _, a := range append([]netip.Addr{from.Addr().Unmap().WithZone("")}, p.Addrs...) {
		if l.OnLink(a) {
			addrs = append(addrs, netip.AddrPortFrom(l.Zoned(a), p.Port))
		}
	}
	if p.Role == wire.RoleAuthd {
		for _, a := range addrs {
			c.sayAuthd(a, "multicast")
		}
		return len(addrs) > 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.heard[device]
	if h == nil {
		h = &heard{role: p.Role}
		c.heard[device] = h
	}
	for _, a := range addrs {
		if !slices.Contains(h.addrs, a) {
			h.addrs = append(h.addrs, a)
		}
	}
	return len(addrs) > 0
}

// tryAuthds asks every authd there may be, and returns whom the first one that
// can be used knows to be connected.
func (c *checkup) tryAuthds(ctx context.Context) (contacts []login.Contact) {
	ctx, cancel := context.WithTimeout(ctx, reachFor)
	defer cancel()
	var trying sync.WaitGroup
	for a, f := range c.authds {
		trying.Go(func() {
			name, rtt, found, err := c.tryAuthd(ctx, a)
			c.mu.Lock()
			defer c.mu.Unlock()
			f.Realm, f.RTT, f.Err = name, rtt, err
			if err == nil && contacts == nil {
				contacts = found
			}
		})
	}
	trying.Wait()
	for _, f := range c.authds {
		c.facts.Authds = append(c.facts.Authds, *f)
	}
	slices.SortFunc(c.facts.Authds, func(a, b doctor.AuthdFact) int { return a.Addr.Compare(b.Addr) })
	if c.profile != nil {
		c.facts.Ahead = c.profile.Clock().Ahead()
	}
	return contacts
}

// tryAuthd asks one. Without a pinned realm it finds out whose it is and goes
// no further.
func (c *checkup) tryAuthd(ctx context.Context, a netip.AddrPort) (name string, rtt time.Duration, contacts []login.Contact, err error) {
	p := c.profile
	if p == nil {
		dir, err := os.MkdirTemp("", "lanchat-doctor-")
		if err != nil {
			return "", 0, nil, err
		}
		defer os.RemoveAll(dir)
		if p, err = login.Open(dir); err != nil {
			return "", 0, nil, err
		}
	}
	begin := time.Now()
	s, err := login.Dial(ctx, c.transport, a, login.Config{Profile: p})
	var untrusted *login.UntrustedError
	var changed *login.FingerprintChangedError
	var refused *login.RefusedError
	switch {
	case errors.As(err, &untrusted) && c.pin() == nil:
		return clean.Line(untrusted.Realm.Name, realm.MaxRealmName), time.Since(begin), nil, nil
	case errors.As(err, &untrusted):
		return clean.Line(untrusted.Realm.Name, realm.MaxRealmName), 0, nil, err
	case errors.As(err, &changed):
		return clean.Line(changed.FoundName, realm.MaxRealmName), 0, nil, err
	case errors.As(err, &refused):
		return c.facts.Pinned, 0, nil, err
	case err != nil:
		return "", 0, nil, err
	}
	defer s.Close()
	name = clean.Line(s.Realm().Name, realm.MaxRealmName)
	if s.Token() == nil {
		return name, time.Since(begin), nil, nil
	}
	if rtt, err = s.Ping(ctx); err != nil {
		return name, 0, nil, err
	}
	contacts, _, err = s.Roster(ctx, 0, nil)
	return name, rtt, contacts, err
}

// reach dials those who were heard or whom authd knows, as this device.
func (c *checkup) reach(ctx context.Context, contacts []login.Contact) {
	if c.profile == nil || c.profile.Token() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reachFor)
	defer cancel()
	type target struct {
		doctor.Other
		device wire.DeviceID
		addrs  []netip.AddrPort
	}
	var targets []*target
	for d, h := range c.heard {
		targets = append(targets, &target{doctor.Other{Name: "device " + d.String(), Heard: true, HearsUs: true, Via: []string{"multicast"}}, d, h.addrs})
	}
	for _, k := range contacts {
		i := slices.IndexFunc(targets, func(t *target) bool { return t.device == k.Token.Device })
		if i < 0 {
			i = len(targets)
			targets = append(targets, &target{device: k.Token.Device})
		}
		t := targets[i]
		t.Name, t.Authd, t.addrs, t.Via = k.Token.Name, true, append(t.addrs, k.Addrs...), append(t.Via, "authd")
	}
	slices.SortStableFunc(targets, func(a, b *target) int { // anybody can make up the others
		switch {
		case a.Authd == b.Authd:
			return 0
		case a.Authd:
			return -1
		}
		return 1
	})
	var reaching sync.WaitGroup
	for n, t := range targets {
		for _, l := range c.links {
			t.OnLink = t.OnLink || slices.ContainsFunc(t.addrs, func(a netip.AddrPort) bool { return l.OnLink(a.Addr()) })
		}
		if n >= maxReached {
			continue
		}
		t.Tried = true
		for _, a := range t.addrs {
			reaching.Go(func() {
				begin := time.Now()
				conn, _, err := link.DialPeer(ctx, c.transport, a, c.profile.Identity, c.profile.Verifier(), c.profile.Now, t.device)
				if err != nil {
					return
				}
				rtt := conn.ConnectionStats().SmoothedRTT
				conn.CloseWithError(link.CloseIdle, "")
				c.mu.Lock()
				defer c.mu.Unlock()
				if !t.Reached {
					t.Reached, t.RTT = true, max(rtt, min(time.Since(begin), time.Microsecond))
				}
			})
		}
	}
	reaching.Wait()
	for _, t := range targets {
		c.facts.Others = append(c.facts.Others, t.Other)
	}
	slices.SortFunc(c.facts.Others, func(a, b doctor.Other) int { return cmp.Compare(a.Name, b.Name) })
}

// askRunning asks the node that runs on the data directory, which knows more
// than a checkup can find out; nil: none runs.
func (c *checkup) askRunning(ctx context.Context) []running {
	if c.cfg.Running == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reachFor)
	defer cancel()
	answer, err := c.cfg.Running(ctx)
	if err != nil {
		return nil
	}
	var net struct {
		Peers []struct {
			User, Device, State, Mirror string
			Via                         []string
			Addr                        string
			RTT                         float64 `json:"rtt_ms"`
			Sent, Lost                  uint64
		}
	}
	if json.Unmarshal(answer, &net) != nil {
		return nil
	}
	others := []running{}
	for _, p := range net.Peers {
		name := p.User
		if name == "" {
			name = "device " + p.Device
		}
		x := doctor.Other{Name: name, Heard: slices.Contains(p.Via, "multicast"), Authd: slices.Contains(p.Via, "authd"), Reached: p.State == "online", Tried: true,
			HearsUs: p.Mirror != "to" && p.Mirror != "from and to", Via: p.Via, RTT: time.Duration(p.RTT * float64(time.Millisecond))}
		if p.Sent > 0 {
			x.Lost = 100 * float64(p.Lost) / float64(p.Sent)
		}
		if a, err := netip.ParseAddrPort(p.Addr); err == nil {
			x.OnLink = slices.ContainsFunc(c.links, func(l presence.Link) bool { return l.OnLink(a.Addr()) })
		}
		others = append(others, running{p.Device, x})
	}
	return others
}

// A running is what the node that runs says of a device.
type running struct {
	device string
	doctor.Other
}

// hearAnew says of those that the node does not hear whether this checkup did.
func (c *checkup) hearAnew(told []running) (others []doctor.Other) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range told {
		for device := range c.heard {
			r.Anew = r.Anew || device.String() == r.device
		}
		r.Anew = r.Anew && !r.Heard
		others = append(others, r.Other)
	}
	return others
}
