//go:build linux

package emu

import (
	"container/heap"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Link is what happens to the frames on their way *to* a port's host, to each port's
// by its own dice; those that the host sends are harmed on the other ports, by their
// links. Only NoMulticast, Mute, NoMDNS and Isolated are about what it sends as well.
// The zero Link is perfect.
type Link struct {
	Loss    float64 // this percentage of frames vanishes
	Dup     float64 // this percentage of what is left arrives twice
	Reorder float64 // this percentage is held back for 3 ms, to be overtaken

	Delay  time.Duration // everything comes later by this; up to 1 ms more, as timers are
	Jitter time.Duration // and by a random 0 to this, though in order

	// NoMulticast drops multicast to and from the host, like an access point that
	// does not forward it: IPv4 to 224.0.0.0/4 and IPv6 to ff00::/8, except ICMPv6
	// neighbour discovery. Broadcast, and with it ARP, passes.
	NoMulticast bool
	Deaf        bool // drops multicast to the host only
	Mute        bool // drops multicast from the host only
	// Forgot drops multicast to the host until it says by IGMP that it is in a
	// group: like a switch that snoops on IGMP and has not heard of it for long.
	Forgot bool

	NoMDNS   bool // drops UDP from and to port 5353, to and from the host
	Isolated bool // drops unicast between the host and others that are isolated, too
}

// swallows reports whether the link drops a frame that its host sent.
func (l *Link) swallows(frame []byte) bool {
	return (l.NoMulticast || l.Mute) && isMulticast(frame) || l.NoMDNS && isMDNS(frame)
}

// refuses reports whether the link drops a frame to its host that one with the link
// from sent.
func (l *Link) refuses(frame []byte, from *Link) bool {
	return (l.NoMulticast || l.Deaf || l.Forgot) && isMulticast(frame) || l.NoMDNS && isMDNS(frame) ||
		l.Isolated && from.Isolated && frame[0]&1 == 0
}

const reorderHold = 3 * time.Millisecond

// Validate returns an error that names a field out of its range.
func (l Link) Validate() error {
	for _, f := range []struct {
		name    string
		percent float64
	}{{"loss", l.Loss}, {"dup", l.Dup}, {"reorder", l.Reorder}} {
		if !(f.percent >= 0 && f.percent <= 100) {
			return fmt.Errorf("%s of %v %% is not between 0 and 100", f.name, f.percent)
		}
	}
	if l.Delay < 0 {
		return fmt.Errorf("delay of %v is negative", l.Delay)
	}
	if l.Jitter < 0 {
		return fmt.Errorf("jitter of %v is negative", l.Jitter)
	}
	return nil
}

// A Port is where an interface of a host meets a LAN.
type Port struct {
	host   *Host
	lan    *lan
	number int // of the interface
	name   string
	index  int // of the interface, in the host
	dev    device
	link   atomic.Pointer[Link]
	sent, received,
	lost, blocked, overflowed, duplicated, reordered counter

	addrMu sync.Mutex
	ipv4   netip.Prefix
	ipv6   netip.Prefix

	mu      sync.Mutex // guards what follows
	rand    *rand.Rand
	queue   queue
	turns   uint64        // so many were ever queued
	lastDue time.Time     // of what is in the queue in order
	ordered int           // so many of those are not yet written
	wake    chan struct{} // has room for one; closed by Remove; nil until something was queued
	removed bool
}

// A counter counts frames, their bytes and how many of them are multicast.
type counter struct {
	frames, bytes, multicast atomic.Uint64
}

func (c *counter) add(frame []byte) {
	c.frames.Add(1)
	c.bytes.Add(uint64(len(frame)))
	if frame[0]&1 != 0 && mac(frame[:6]) != (mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) {
		c.multicast.Add(1)
	}
}

func (c *counter) Add(n uint64) { c.frames.Add(n) }

func (c *counter) count() Count {
	return Count{c.frames.Load(), c.bytes.Load(), c.multicast.Load()}
}

// A Count is of Ethernet frames.
type Count struct {
	Frames    uint64 `json:"frames"`
	Bytes     uint64 `json:"bytes"`     // with Ethernet headers, without check sequences
	Multicast uint64 `json:"multicast"` // frames among Frames to a group, broadcast not counted
}

// Stats is what a port has counted. Except Sent, it is about frames on their way to
// the host.
type Stats struct {
	Host       string `json:"host"`
	Port       string `json:"port"` // "eth0"
	LAN        int    `json:"lan"`
	Sent       Count  `json:"sent"`       // by the host
	Received   Count  `json:"received"`   // given to the host, duplicates too
	Lost       uint64 `json:"lost"`       // by Link.Loss
	Blocked    uint64 `json:"blocked"`    // by Cut and what its Link drops whole, in both directions
	Duplicated uint64 `json:"duplicated"` // by Link.Dup
	Reordered  uint64 `json:"reordered"`  // by Link.Reorder
	Overflowed uint64 `json:"overflowed"` // dropped because 50,000 wait to be delayed
	Overrun    uint64 `json:"overrun"`    // sent by the host faster than the switch read
}

const maxQueue = 50_000 // frames

// attachLocked makes the next interface of h; lab.mu is held.
func (h *Host) attachLocked(lanNumber int) (*Port, error) {
	if lanNumber < 0 || lanNumber > 99 {
		return nil, fmt.Errorf("LAN %d is not between 0 and 99", lanNumber)
	}
	l := h.lab.lans[lanNumber]
	if l == nil {
		l = newLAN(h.lab, lanNumber)
		h.lab.lans[lanNumber] = l
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	n := slices.Index(h.ports, nil)
	if n < 0 {
		n = len(h.ports)
	}
	last := byte(h.number)
	for _, o := range h.ports {
		if o != nil && o.lan == l {
			last = 255 - last
		}
	}
	p := &Port{host: h, lan: l, number: n, name: fmt.Sprintf("eth%d", n)}
	p.rand = rand.New(rand.NewPCG(h.lab.config.Seed, uint64(h.number)<<16|uint64(n)))
	link := h.lab.config.Link
	p.link.Store(&link)
	hw := mac{0x02, 'L', 'A', byte(n), byte(lanNumber), byte(h.number)}
	if !h.config.NoIPv4 {
		p.ipv4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77 + byte(lanNumber), 0, last}), 24)
	}
	if !h.config.NoIPv6 {
		p.ipv6 = netip.PrefixFrom(linkLocal(hw), 64)
	}
	if err := p.open(hw); err != nil {
		return nil, fmt.Errorf("making %s: %w", p.name, err)
	}
	if n == len(h.ports) {
		h.ports = append(h.ports, p)
	} else {
		h.ports[n] = p
	}
	return p, nil
}

// linkLocal returns the IPv6 address that a kernel makes of a MAC.
func linkLocal(hw mac) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: hw[0] ^ 2, hw[1], hw[2], 0xff, 0xfe, hw[3], hw[4], hw[5]})
}

// open makes the interface and begins to switch what it sends.
func (p *Port) open(hw mac) error {
	var err error
	if p.host.lab.config.Veth {
		err = errors.ErrUnsupported
	} else {
		p.dev, err = openTAP(p.host, p.name)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, errors.ErrUnsupported) {
		p.dev, err = openVeth(p.host, p.name)
	}
	if err != nil {
		return err
	}
	if err := p.configure(hw); err != nil {
		p.dev.close()
		return err
	}
	p.lan.add(p)
	p.host.lab.readers.Go(p.read)
	return nil
}

// configure names the interface's addresses and sets it up.
func (p *Port) configure(hw mac) error {
	l, err := p.host.nl.LinkByName(p.name)
	if err != nil {
		return fmt.Errorf("finding the interface: %w", err)
	}
	p.index = l.Attrs().Index
	if err := p.host.nl.LinkSetHardwareAddr(l, net.HardwareAddr(hw[:])); err != nil {
		return fmt.Errorf("setting its MAC: %w", err)
	}
	// What a kernel sends in a burst waits here for the switch; there is no back pressure.
	if err := p.host.nl.LinkSetTxQLen(l, 8192); err != nil {
		return fmt.Errorf("setting its queue: %w", err)
	}
	return p.SetUp(true)
}

// SetUp sets the interface up or down, as its host's administrator would.
func (p *Port) SetUp(up bool) error {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: p.index, Name: p.name}}
	if !up {
		if err := p.host.nl.LinkSetDown(l); err != nil {
			return fmt.Errorf("setting %s down: %w", p.name, err)
		}
		return nil
	}
	// When an interface goes up the kernel makes an IPv6 address that is usable only
	// after a while, and when it goes down takes all away. So ours comes first, but not
	// before the interface is up: what announces it would get lost.
	const none, eui64 = 1, 0 // IN6_ADDR_GEN_MODE_…
	genMode := func(mode int) error {
		if p.ipv6.IsValid() {
			if err := p.host.nl.LinkSetIP6AddrGenMode(l, mode); err != nil {
				return fmt.Errorf("setting how %s makes addresses: %w", p.name, err)
			}
		}
		return nil
	}
	if err := genMode(none); err != nil {
		return err
	}
	if err := p.host.nl.LinkSetUp(l); err != nil {
		return fmt.Errorf("setting %s up: %w", p.name, err)
	}
	p.addrMu.Lock()
	defer p.addrMu.Unlock()
	for _, prefix := range []netip.Prefix{p.ipv4, p.ipv6} {
		if prefix.IsValid() {
			if err := p.host.nl.AddrReplace(l, address(prefix)); err != nil {
				return fmt.Errorf("giving %s the address %v: %w", p.name, prefix, err)
			}
		}
	}
	return genMode(eui64)
}

// address returns prefix for netlink. Duplicate address detection is off: the address
// is usable at once.
func address(prefix netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{
		IP:   prefix.Addr().AsSlice(),
		Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}}
	if prefix.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// SetIPv4 replaces the interface's IPv4 address; the zero Prefix leaves it without.
func (p *Port) SetIPv4(prefix netip.Prefix) error {
	p.addrMu.Lock()
	defer p.addrMu.Unlock()
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: p.index, Name: p.name}}
	if p.ipv4.IsValid() {
		if err := p.host.nl.AddrDel(l, address(p.ipv4)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("taking %v from %s: %w", p.ipv4, p.name, err)
		}
	}
	p.ipv4 = netip.Prefix{}
	if prefix.IsValid() {
		if err := p.host.nl.AddrAdd(l, address(prefix)); err != nil {
			return fmt.Errorf("giving %s the address %v: %w", p.name, prefix, err)
		}
	}
	p.ipv4 = prefix
	return nil
}

// SetCarrier plugs the cable in or out: the interface stays up, but without carrier.
func (p *Port) SetCarrier(on bool) error {
	if err := p.dev.setCarrier(on); err != nil {
		return fmt.Errorf("setting the carrier of %s: %w", p.name, err)
	}
	return nil
}

// Remove takes the interface out of its host, like a USB adapter. See [Host.Attach].
func (p *Port) Remove() {
	p.mu.Lock()
	if p.removed {
		p.mu.Unlock()
		return
	}
	p.removed = true
	if p.wake != nil {
		close(p.wake)
	}
	p.mu.Unlock()
	p.lan.remove(p)
	p.dev.close() // and p.read ends
	p.host.mu.Lock()
	p.host.ports[p.number] = nil
	p.host.mu.Unlock()
}

// Host returns the host whose port it is.
func (p *Port) Host() *Host { return p.host }

// Name returns the interface's name, "eth0".
func (p *Port) Name() string { return p.name }

// LAN returns the number of the LAN the port is on.
func (p *Port) LAN() int { return p.lan.number }

// IPv4 returns the interface's IPv4 address as the Lab set it, zero if none.
func (p *Port) IPv4() netip.Prefix {
	p.addrMu.Lock()
	defer p.addrMu.Unlock()
	return p.ipv4
}

// IPv6 returns the interface's link-local address, without zone; zero if none.
func (p *Port) IPv6() netip.Addr {
	p.addrMu.Lock()
	defer p.addrMu.Unlock()
	return p.ipv6.Addr()
}

// Link returns the port's link.
func (p *Port) Link() Link { return *p.link.Load() }

// Impair sets the port's link. It panics if l is not valid.
func (p *Port) Impair(l Link) {
	if err := l.Validate(); err != nil {
		panic("emu: " + err.Error())
	}
	p.link.Store(&l)
}

// Stats returns what the port has counted.
func (p *Port) Stats() Stats {
	s := Stats{
		Host: p.host.name, Port: p.name, LAN: p.lan.number,
		Sent: p.sent.count(), Received: p.received.count(),
		Lost: p.lost.frames.Load(), Blocked: p.blocked.frames.Load(), Overflowed: p.overflowed.frames.Load(),
		Duplicated: p.duplicated.frames.Load(), Reordered: p.reordered.frames.Load(),
	}
	if l, err := p.host.nl.LinkByIndex(p.index); err == nil && l.Attrs().Statistics != nil {
		s.Overrun = l.Attrs().Statistics.TxDropped
	}
	return s
}

// read switches what the host sends until the device is closed.
func (p *Port) read() {
	frame := make([]byte, 1<<16)
	for {
		n, err := p.dev.file.Read(frame)
		if err == nil {
			p.lan.forward(p, frame[:n])
			continue
		}
		p.mu.Lock()
		removed := p.removed
		p.mu.Unlock()
		if removed {
			return
		}
		time.Sleep(time.Millisecond) // an interface that is down says so once
	}
}

// write gives a frame to the host.
func (p *Port) write(frame []byte) {
	if _, err := p.dev.file.Write(frame); err == nil {
		p.received.add(frame)
	}
}

// receive takes a frame that is on its way to the host. The frame is not kept.
func (p *Port) receive(from *Port, frame []byte) {
	l := p.link.Load()
	if p.host.lab.isCut(from.host, p.host) || l.refuses(frame, from.link.Load()) {
		p.blocked.Add(1)
		return
	}
	now := 0
	p.mu.Lock()
	if !p.chance(l.Loss, &p.lost) {
		now += p.passLocked(l, frame)
		if p.chance(l.Dup, &p.duplicated) {
			now += p.passLocked(l, frame)
		}
	}
	p.mu.Unlock()
	for range now {
		p.write(frame)
	}
}

// chance reports whether what happens in percent of cases happens now, and counts it.
// p.mu is held.
func (p *Port) chance(percent float64, count *counter) bool {
	if percent == 0 || p.rand.Float64()*100 >= percent {
		return false
	}
	count.Add(1)
	return true
}

// passLocked puts a copy of frame in the queue and returns 0, or returns 1 if the
// frame is due now.
func (p *Port) passLocked(l *Link, frame []byte) int {
	reorder := p.chance(l.Reorder, &p.reordered)
	if l.Delay == 0 && l.Jitter == 0 && !reorder && p.ordered == 0 {
		return 1
	}
	if p.removed {
		return 0
	}
	if len(p.queue) >= maxQueue {
		p.overflowed.Add(1)
		return 0
	}
	due := time.Now().Add(l.Delay)
	if l.Jitter > 0 {
		due = due.Add(time.Duration(p.rand.Int64N(int64(l.Jitter) + 1)))
	}
	if reorder {
		due = due.Add(reorderHold)
	} else {
		if due.Before(p.lastDue) {
			due = p.lastDue
		}
		p.lastDue = due
		p.ordered++
	}
	if p.wake == nil {
		p.wake = make(chan struct{}, 1)
		p.host.lab.readers.Go(p.drain)
	}
	p.turns++
	heap.Push(&p.queue, queued{due: due, turn: p.turns, ordered: !reorder, frame: slices.Clone(frame)})
	if p.queue[0].turn == p.turns { // the next thing to do is another
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	return 0
}

// A queued frame waits to be written.
type queued struct {
	due     time.Time
	turn    uint64 // of the frames due at one time the lower goes first
	ordered bool
	frame   []byte
}

type queue []queued

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].due.Before(q[j].due) || q[i].due.Equal(q[j].due) && q[i].turn < q[j].turn
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(queued)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	(*q)[last] = queued{}
	*q = (*q)[:last]
	return x
}

// drain writes what is in the queue when it is due, until the port is removed.
func (p *Port) drain() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		p.mu.Lock()
		for len(p.queue) > 0 && !p.queue[0].due.After(time.Now()) {
			q := heap.Pop(&p.queue).(queued)
			p.mu.Unlock()
			p.write(q.frame)
			p.mu.Lock()
			if q.ordered {
				p.ordered--
			}
		}
		wait := time.Hour
		if len(p.queue) > 0 {
			wait = time.Until(p.queue[0].due)
		}
		p.mu.Unlock()
		timer.Reset(wait)
		select {
		case _, ok := <-p.wake:
			if !ok {
				return
			}
		case <-timer.C:
		}
	}
}
