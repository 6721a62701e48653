//go:build linux

package emu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Host is one machine of a [Lab]: a network namespace, and a host name.
type Host struct {
	lab    *Lab
	config HostConfig
	number int    // from 1
	name   string // also the host name its programs see
	net    int    // its network namespace; owned
	uts    int    // its UTS namespace; owned
	inode  string // of net, as /proc has it: "net:[4026532000]"
	nl     *netlink.Handle

	mu    sync.Mutex
	ports []*Port // by interface number; nil where one was removed
}

// openThreadNS opens the namespace of the calling thread; kind as in /proc/PID/ns.
func openThreadNS(kind string) (int, error) {
	fd, err := unix.Open("/proc/thread-self/ns/"+kind, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening the %s namespace: %w", kind, err)
	}
	return fd, nil
}

// newHost makes a host with its interfaces. lab.mu is held.
func newHost(lab *Lab, number int, c HostConfig) (*Host, error) {
	h := &Host{lab: lab, config: c, number: number, name: c.Name, net: -1, uts: -1}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with this goroutine, and nobody else ever
		// runs in its namespaces.
		runtime.LockOSThread()
		done <- h.unshare()
	}()
	err := <-done
	lans := c.LANs
	if lans == nil {
		lans = []int{0}
	}
	if c.Alone {
		lans = nil
	}
	for _, n := range lans {
		if err == nil {
			_, err = h.attachLocked(n)
		}
	}
	if err == nil && c.DefaultRoute && len(h.ports) > 0 {
		err = h.routeBy(h.ports[0])
	}
	if err == nil && c.Gateway.IsValid() {
		_, everywhere, _ := net.ParseCIDR("0.0.0.0/0") // cannot fail
		if err = h.nl.RouteAdd(&netlink.Route{Dst: everywhere, Gw: c.Gateway.AsSlice()}); err != nil {
			err = fmt.Errorf("adding the gateway %v: %w", c.Gateway, err)
		}
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// unshare moves the calling thread into new namespaces and makes them the host's.
func (h *Host) unshare() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("making its namespaces: %w", err)
	}
	var err error
	if h.net, err = openThreadNS("net"); err != nil {
		return err
	}
	if h.uts, err = openThreadNS("uts"); err != nil {
		return err
	}
	if h.inode, err = os.Readlink("/proc/thread-self/ns/net"); err != nil {
		return fmt.Errorf("reading its namespace: %w", err)
	}
	if err := unix.Sethostname([]byte(h.name)); err != nil {
		return fmt.Errorf("naming it: %w", err)
	}
	if h.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	// Where an interface is set down and up again the kernel makes the link-local
	// address anew; let it be usable at once then too. And there is no router to call
	// for. Neither is allowed everywhere.
	for _, conf := range []string{"all", "default"} {
		os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/accept_dad", []byte("0"), 0)
		os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/router_solicitations", []byte("0"), 0)
	}
	if h.config.Router {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			return fmt.Errorf("making it a router: %w", err)
		}
	}
	if h.config.NoIPv6 {
		for _, conf := range []string{"all", "default"} {
			err := os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/disable_ipv6", []byte("1"), 0)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("switching IPv6 off: %w", err)
			}
		}
	}
	lo, err := h.nl.LinkByName("lo")
	if err == nil {
		err = h.nl.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("setting lo up: %w", err)
	}
	return nil
}

// routeBy makes p's interface the default route.
func (h *Host) routeBy(p *Port) error {
	for _, all := range []struct {
		dst  string
		skip bool
	}{{"0.0.0.0/0", h.config.NoIPv4}, {"::/0", h.config.NoIPv6}} {
		if all.skip {
			continue
		}
		_, dst, _ := net.ParseCIDR(all.dst) // cannot fail
		r := netlink.Route{LinkIndex: p.index, Dst: dst, Scope: netlink.SCOPE_LINK}
		if err := h.nl.RouteAdd(&r); err != nil {
			return fmt.Errorf("adding a default route: %w", err)
		}
	}
	return nil
}

// close takes the host apart. Nothing may run in it any more.
func (h *Host) close() {
	for _, p := range h.Ports() {
		p.Remove()
	}
	if h.nl != nil {
		h.nl.Close()
	}
	for _, fd := range []int{h.net, h.uts} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// Namespaces returns the network and the UTS namespace of the host as file
// descriptors, which the Lab owns.
func (h *Host) Namespaces() (net, uts int) { return h.net, h.uts }

// Ports returns the host's ports by interface: eth0's first.
func (h *Host) Ports() []*Port {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.ports), func(p *Port) bool { return p == nil })
}

// Port returns the port of interface eth<n>, nil if there is none.
func (h *Host) Port(n int) *Port {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n < 0 || n >= len(h.ports) {
		return nil
	}
	return h.ports[n]
}

// Attach adds an interface on LAN lan, as when an adapter is put in. It is given the
// lowest number that is free, and the MAC and addresses that go with it.
func (h *Host) Attach(lan int) (*Port, error) {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	if h.lab.closed {
		return nil, errClosed
	}
	return h.attachLocked(lan)
}

// Impair sets the link of all the host's ports; see [Port.Impair].
func (h *Host) Impair(l Link) {
	for _, p := range h.Ports() {
		p.Impair(l)
	}
}

// Do runs f in the host: the sockets that it opens, and the interfaces that it lists,
// are the host's. They stay so, and can be used anywhere. This is so for the goroutine
// of f only, not for those that it starts; a program that opens sockets later runs by
// [Host.Command]. What f panics with, and its runtime.Goexit, pass through.
func (h *Host) Do(f func() error) error {
	runtime.LockOSThread()
	here := [2]int{-1, -1}
	restore := func() {
		for i, kind := range []int{unix.CLONE_NEWNET, unix.CLONE_NEWUTS} {
			if here[i] < 0 {
				continue
			}
			err := unix.Setns(here[i], kind)
			unix.Close(here[i])
			if err != nil {
				// The thread stays locked to this goroutine, and dies with it.
				panic(fmt.Sprintf("emu: leaving host %s: %v", h.name, err))
			}
		}
		runtime.UnlockOSThread()
	}
	defer restore()
	for i, ns := range []struct {
		kind string
		flag int
		fd   int
	}{{"net", unix.CLONE_NEWNET, h.net}, {"uts", unix.CLONE_NEWUTS, h.uts}} {
		fd, err := openThreadNS(ns.kind)
		if err != nil {
			return err
		}
		here[i] = fd
		if err := unix.Setns(ns.fd, ns.flag); err != nil {
			return fmt.Errorf("entering host %s: %w", h.name, err)
		}
	}
	return f()
}

// A Cmd is an [exec.Cmd] whose process runs in a [Host]. It is killed when the Lab is
// closed, and with it whatever it started.
type Cmd struct {
	*exec.Cmd
	host *Host
	wait func() error // Cmd.Wait, once
}

// Command returns a command to be run in the host. Its fields are those of [exec.Cmd].
func (h *Host) Command(name string, args ...string) *Cmd {
	return h.wrap(exec.Command(name, args...))
}

// CommandContext is Command with a context, as [exec.CommandContext].
func (h *Host) CommandContext(ctx context.Context, name string, args ...string) *Cmd {
	return h.wrap(exec.CommandContext(ctx, name, args...))
}

func (h *Host) wrap(cmd *exec.Cmd) *Cmd {
	c := &Cmd{Cmd: cmd, host: h}
	c.wait = sync.OnceValue(func() error {
		err := cmd.Wait()
		h.lab.mu.Lock()
		delete(h.lab.cmds, c)
		h.lab.mu.Unlock()
		return err
	})
	return c
}

// Start starts the process and does not wait for it.
func (c *Cmd) Start() error {
	lab := c.host.lab
	lab.mu.Lock()
	defer lab.mu.Unlock()
	if lab.closed {
		return errClosed
	}
	if err := c.host.Do(c.Cmd.Start); err != nil {
		return err
	}
	lab.cmds[c] = true
	return nil
}

// Wait is [exec.Cmd.Wait], but may be called more than once and from several
// goroutines.
func (c *Cmd) Wait() error {
	if c.Process == nil {
		return errors.New("waiting for a command that was not started")
	}
	return c.wait()
}

// Run starts the process and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the process and returns what it wrote on standard output; what it wrote
// on standard error is in the [exec.ExitError] unless Stderr is set.
func (c *Cmd) Output() ([]byte, error) {
	var out, errs bytes.Buffer
	c.Stdout = &out
	capture := c.Stderr == nil
	if capture {
		c.Stderr = &errs
	}
	err := c.Run()
	if ee, ok := err.(*exec.ExitError); ok && capture {
		ee.Stderr = errs.Bytes()
	}
	return out.Bytes(), err
}

// CombinedOutput runs the process and returns all that it wrote.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}
