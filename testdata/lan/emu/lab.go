//go:build linux

package emu

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A Config says what a Lab is made of.
type Config struct {
	Hosts []HostConfig
	Link  Link   // of every port, until changed
	Seed  uint64 // of the randomness of every port; zero means 1

	// Veth makes hosts' interfaces of veth pairs even where TAP devices, which are
	// faster, could be had.
	Veth bool
}

// A HostConfig describes one host. Its zero value is a host with eth0 on LAN 0.
type HostConfig struct {
	Name  string // "" means "h" and its number, counted from 1
	LANs  []int  // LANs[i], 0 to 99, is where its interface eth<i> is; nil means {0}
	Alone bool   // no interface but lo
	NoIPv4,
	NoIPv6 bool // without addresses of that family; NoIPv6 also on lo
	DefaultRoute bool // by eth0, though nobody is there to forward
	// Gateway is the address of a Router by which IPv4 goes to other LANs.
	Gateway netip.Addr
	Router  bool // forwards IPv4 between its LANs, no multicast
}

// Hosts returns the configuration of n plain hosts, h1 to h<n>, on LAN 0.
func Hosts(n int) []HostConfig { return make([]HostConfig, n) }

// A Lab is hosts and the LANs they meet on. Its methods may be called from any
// goroutine.
type Lab struct {
	config   Config
	cuts     atomic.Pointer[cutSet]
	watchers atomic.Pointer[[]*watcher]
	readers  sync.WaitGroup

	mu     sync.Mutex // guards what follows, and writes to the pointers above
	hosts  []*Host
	lans   map[int]*lan
	cmds   map[*Cmd]bool // started, not known to have ended
	panel  *Host         // the switch's ends of veth pairs are in it; nil if there are none
	veths  int           // made so far, for their names
	closed bool
}

// Start opens a Lab that lasts as long as the test, after [Need].
func Start(t testing.TB, c Config) *Lab {
	t.Helper()
	Need(t)
	lab, err := Open(c)
	if err != nil {
		t.Fatalf("opening the lab: %v", err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Errorf("closing the lab: %v", err)
		}
	})
	return lab
}

// Open makes a Lab. The process must be one that [Enter] or [Main] returned in. The
// caller closes the Lab.
func Open(c Config) (*Lab, error) {
	if !inside {
		return nil, errors.New("an emulated LAN needs namespaces: call emu.Main in TestMain")
	}
	if err := c.Link.Validate(); err != nil {
		return nil, err
	}
	if c.Seed == 0 {
		c.Seed = 1
	}
	lab := &Lab{config: c, lans: make(map[int]*lan), cmds: make(map[*Cmd]bool)}
	for _, hc := range c.Hosts {
		if _, err := lab.AddHost(hc); err != nil {
			return nil, errors.Join(err, lab.Close())
		}
	}
	return lab, nil
}

// AddHost adds a host, as a newcomer.
func (lab *Lab) AddHost(c HostConfig) (*Host, error) {
	lab.mu.Lock()
	defer lab.mu.Unlock()
	if lab.closed {
		return nil, errClosed
	}
	number := len(lab.hosts) + 1
	if number > 254 {
		return nil, errors.New("a lab has at most 254 hosts")
	}
	if c.Name == "" {
		c.Name = "h" + strconv.Itoa(number)
	}
	if lab.hostLocked(c.Name) != nil {
		return nil, fmt.Errorf("host %q exists", c.Name)
	}
	h, err := newHost(lab, number, c)
	if err != nil {
		return nil, fmt.Errorf("making host %q: %w", c.Name, err)
	}
	lab.hosts = append(lab.hosts, h)
	return h, nil
}

var errClosed = errors.New("the lab is closed")

// Hosts returns all hosts, in the order they were made.
func (lab *Lab) Hosts() []*Host {
	lab.mu.Lock()
	defer lab.mu.Unlock()
	return slices.Clone(lab.hosts)
}

// Host returns the host of that name, nil if there is none.
func (lab *Lab) Host(name string) *Host {
	lab.mu.Lock()
	defer lab.mu.Unlock()
	return lab.hostLocked(name)
}

func (lab *Lab) hostLocked(name string) *Host {
	i := slices.IndexFunc(lab.hosts, func(h *Host) bool { return h.name == name })
	if i < 0 {
		return nil
	}
	return lab.hosts[i]
}

// Stats returns the counters of all ports, in the order of hosts and interfaces.
func (lab *Lab) Stats() []Stats {
	var all []Stats
	for _, h := range lab.Hosts() {
		for _, p := range h.Ports() {
			all = append(all, p.Stats())
		}
	}
	return all
}

// Close kills every process in every host and takes the hosts apart. The calls to Wait
// of the processes return. It is safe to call twice.
func (lab *Lab) Close() error {
	lab.mu.Lock()
	if lab.closed {
		lab.mu.Unlock()
		return nil
	}
	lab.closed = true // nothing more can be started
	hosts := lab.hosts
	var cmds []*Cmd
	for c := range lab.cmds {
		cmds = append(cmds, c)
	}
	lab.mu.Unlock()

	err := lab.kill(hosts, cmds)
	for _, h := range hosts {
		h.close()
	}
	lab.readers.Wait()
	if lab.panel != nil {
		lab.panel.close()
	}
	return err
}

// kill kills the processes of hosts, those that nobody knows of as well, and waits
// until they are dead.
func (lab *Lab) kill(hosts []*Host, cmds []*Cmd) error {
	inodes := make(map[string]bool)
	for _, h := range hosts {
		inodes[h.inode] = true
	}
	for _, c := range cmds {
		c.Process.Kill()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		pids := processes(inodes) // one may have forked since the last look
		if len(pids) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %d survive SIGKILL", pids)
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	for _, c := range cmds {
		c.Wait() // how it died is for those to know who started it
	}
	return nil
}

// A cutSet holds who cannot reach whom. It does not change once published.
type cutSet struct {
	hosts map[*Host]bool
	pairs map[[2]*Host]bool // both ways round
}

// isCut reports whether nothing passes from a to b.
func (lab *Lab) isCut(a, b *Host) bool {
	c := lab.cuts.Load()
	return c != nil && (c.hosts[a] || c.hosts[b] || c.pairs[[2]*Host{a, b}])
}

// Cut lets nothing pass between a and b any more; with b nil, between a and anybody.
// Frames on their way (see [Link].Delay) still arrive.
func (lab *Lab) Cut(a, b *Host) {
	lab.changeCuts(func(c *cutSet) {
		if b == nil {
			c.hosts[a] = true
		} else {
			c.pairs[[2]*Host{a, b}], c.pairs[[2]*Host{b, a}] = true, true
		}
	})
}

// Heal undoes Cut(a, b). With b nil it undoes every cut that concerns a; with both
// nil, every cut.
func (lab *Lab) Heal(a, b *Host) {
	lab.changeCuts(func(c *cutSet) {
		for pair := range c.pairs {
			one := a == nil || pair[0] == a || pair[1] == a
			other := b == nil || pair[0] == b || pair[1] == b
			if one && other {
				delete(c.pairs, pair)
			}
		}
		for h := range c.hosts {
			if b == nil && (a == nil || a == h) {
				delete(c.hosts, h)
			}
		}
	})
}

func (lab *Lab) changeCuts(change func(*cutSet)) {
	lab.mu.Lock()
	defer lab.mu.Unlock()
	c := &cutSet{hosts: make(map[*Host]bool), pairs: make(map[[2]*Host]bool)}
	if old := lab.cuts.Load(); old != nil {
		for h := range old.hosts {
			c.hosts[h] = true
		}
		for p := range old.pairs {
			c.pairs[p] = true
		}
	}
	change(c)
	if len(c.hosts)+len(c.pairs) == 0 {
		c = nil
	}
	lab.cuts.Store(c)
}

// A Frame is one Ethernet frame as a host sent it.
type Frame struct {
	Time time.Time // when the switch read it
	From *Port     // nil in frames read from a file
	Data []byte    // without the frame check sequence; only valid until the callback returns
}

type watcher struct {
	mu   sync.Mutex
	f    func(Frame)
	done bool
}

// Watch calls f with every frame that any host sends from now on, once however many
// hosts it reaches, before anything is done to it: what is lost or cut is seen too.
// The switch waits for f, and calls it from one goroutine at a time. Once stop has
// returned f is not called any more; f must not call stop itself.
func (lab *Lab) Watch(f func(Frame)) (stop func()) {
	w := &watcher{f: f}
	lab.changeWatchers(func(ws []*watcher) []*watcher { return append(ws, w) })
	return func() {
		lab.changeWatchers(func(ws []*watcher) []*watcher {
			return slices.DeleteFunc(ws, func(o *watcher) bool { return o == w })
		})
		w.mu.Lock()
		w.done = true
		w.mu.Unlock()
	}
}

func (lab *Lab) changeWatchers(change func([]*watcher) []*watcher) {
	lab.mu.Lock()
	defer lab.mu.Unlock()
	var ws []*watcher
	if old := lab.watchers.Load(); old != nil {
		ws = slices.Clone(*old)
	}
	ws = change(ws)
	if len(ws) == 0 {
		lab.watchers.Store(nil)
		return
	}
	lab.watchers.Store(&ws)
}

// show gives a frame to the watchers.
func (lab *Lab) show(from *Port, frame []byte) {
	ws := lab.watchers.Load()
	if ws == nil {
		return
	}
	for _, w := range *ws {
		w.mu.Lock()
		if !w.done {
			w.f(Frame{Time: time.Now(), From: from, Data: frame})
		}
		w.mu.Unlock()
	}
}
