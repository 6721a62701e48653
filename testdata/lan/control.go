//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"lanchat/testdata/lan/emu"

	"golang.org/x/sys/unix"
)

// socketVar names the control socket of the running LAN.
const socketVar = "LANCHAT_LAN"

// One connection carries one request and, until its end, one response, both JSON.
type (
	request struct {
		Exec string   // a host whose namespaces are wanted
		Ctl  []string // or the arguments of lan ctl, file names absolute
	}
	// With the first byte come the namespaces that Exec asked for, in joinFD's order.
	response struct {
		Output string
		Error  string
		Usage  bool // the error is one of usage
	}
)

// defaultSocket returns the path of the LAN that the user started first.
func defaultSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return filepath.Join(dir, "lanchat-lan", "lan.sock")
		}
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("lanchat-lan-%d", os.Getuid()), "lan.sock")
}

// socketPath returns the path of the LAN that is meant.
func socketPath() string {
	if path := os.Getenv(socketVar); path != "" {
		return path
	}
	return defaultSocket()
}

// newSocketPath returns where a new LAN listens: path, or if that is "" the default,
// or if that is taken one beside it.
func newSocketPath(path string) (string, error) {
	if path != "" {
		return filepath.Abs(path)
	}
	path = defaultSocket()
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("making a directory for the control socket: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("looking at the control socket's directory: %w", err)
	}
	// Whoever can connect can run programs as this user.
	if sys := st.Sys().(*syscall.Stat_t); !st.IsDir() || int(sys.Uid) != os.Getuid() || st.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s is not a private directory of this user", dir)
	}
	if answers(path) {
		path = filepath.Join(dir, fmt.Sprintf("lan-%d.sock", os.Getpid()))
	}
	return path, nil
}

// answers reports whether somebody listens at path.
func answers(path string) bool {
	c, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// A server answers lan exec and lan ctl.
type server struct {
	lab      *emu.Lab
	listener *net.UnixListener

	mu      sync.Mutex
	capture *emu.Capture // nil when there is none
	file    *os.File     // that it writes to
}

func listen(lab *emu.Lab, path string) (*server, error) {
	if answers(path) {
		return nil, fmt.Errorf("another LAN listens at %s", path)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == fs.ModeSocket {
		os.Remove(path) // left by one that was killed
	}
	old := syscall.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	s := &server{lab: lab, listener: l}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return // closed
			}
			go s.handle(c)
		}
	}()
	return s, nil
}

func (s *server) close() {
	s.listener.Close() // removes the socket
	if err := s.setPcap("off"); err != nil {
		fmt.Fprintf(os.Stderr, "lan: %v\n", err)
	}
}

func (s *server) handle(c *net.UnixConn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	var q request
	if err := json.NewDecoder(c).Decode(&q); err != nil {
		return
	}
	var out string
	var rights []byte
	var err error
	if q.Exec != "" {
		var files []*os.File
		if files, rights, err = s.namespaces(q.Exec); err == nil {
			defer func() {
				for _, f := range files {
					f.Close()
				}
			}()
		}
	} else {
		out, err = s.ctl(q.Ctl)
	}
	r := response{Output: out}
	if err != nil {
		r.Error = err.Error()
		_, r.Usage = errors.AsType[usageError](err)
	}
	b, _ := json.Marshal(r) // cannot fail
	if _, _, err := c.WriteMsgUnix(b[:1], rights, nil); err == nil {
		c.Write(b[1:])
	}
}

// namespaces returns the namespaces of a host as a control message. The caller closes
// the files when it is sent.
func (s *server) namespaces(host string) ([]*os.File, []byte, error) {
	h, err := s.host(host)
	if err != nil {
		return nil, nil, err
	}
	var files []*os.File
	var fds []int
	for _, kind := range []string{"user", "mnt", "pid"} {
		f, err := os.Open("/proc/self/ns/" + kind)
		if err != nil {
			return files, nil, fmt.Errorf("opening the %s namespace: %w", kind, err)
		}
		files = append(files, f)
		fds = append(fds, int(f.Fd()))
	}
	net, uts := h.Namespaces()
	return files, unix.UnixRights(append(fds, uts, net)...), nil
}

func (s *server) host(name string) (*emu.Host, error) {
	if h := s.lab.Host(name); h != nil {
		return h, nil
	}
	var names []string
	for _, h := range s.lab.Hosts() {
		names = append(names, h.Name())
	}
	return nil, fmt.Errorf("no host %q; there are %s", name, strings.Join(names, " "))
}

// ports returns what a TARGET names.
func (s *server) ports(target string) ([]*emu.Port, error) {
	if target == "all" {
		var all []*emu.Port
		for _, h := range s.lab.Hosts() {
			all = append(all, h.Ports()...)
		}
		return all, nil
	}
	name, eth, one := strings.Cut(target, "/")
	h, err := s.host(name)
	if err != nil {
		return nil, err
	}
	ports := h.Ports()
	if one {
		ports = slices.DeleteFunc(ports, func(p *emu.Port) bool { return p.Name() != eth })
	}
	if len(ports) == 0 {
		return nil, fmt.Errorf("no interface %q", target)
	}
	return ports, nil
}

// ctl does one command of lan ctl and returns what it prints.
func (s *server) ctl(args []string) (string, error) {
	if len(args) == 0 {
		return "", usageError("ctl needs a command")
	}
	name, args := args[0], args[1:]
	wants := func(min, max int, words string) error {
		if len(args) < min || len(args) > max {
			return usageError(strings.TrimSpace("usage: lan ctl " + name + " " + words))
		}
		return nil
	}
	switch name {
	case "hosts":
		if err := wants(0, 0, ""); err != nil {
			return "", err
		}
		return s.hosts(), nil
	case "stats":
		if err := wants(0, 1, "[--json]"); err != nil {
			return "", err
		}
		if len(args) == 1 && args[0] != "--json" {
			return "", usageError(fmt.Sprintf("stats has no option %q", args[0]))
		}
		return s.stats(len(args) == 1), nil
	case "pcap":
		if err := wants(1, 1, "FILE|off"); err != nil {
			return "", err
		}
		return "", s.setPcap(args[0])
	case "cut", "heal":
		min, words := 0, "[HOST [HOST]]"
		if name == "cut" {
			min, words = 1, "HOST [HOST]"
		}
		if err := wants(min, 2, words); err != nil {
			return "", err
		}
		var hosts [2]*emu.Host
		for i, arg := range args {
			var err error
			if hosts[i], err = s.host(arg); err != nil {
				return "", err
			}
		}
		if name == "heal" {
			s.lab.Heal(hosts[0], hosts[1])
		} else {
			s.lab.Cut(hosts[0], hosts[1])
		}
		return "", nil
	case "attach":
		if err := wants(1, 2, "HOST [LAN]"); err != nil {
			return "", err
		}
		lan := 0
		if len(args) == 2 {
			var err error
			if lan, err = strconv.Atoi(args[1]); err != nil {
				return "", usageError(fmt.Sprintf("%q is no LAN", args[1]))
			}
		}
		h, err := s.host(args[0])
		if err != nil {
			return "", err
		}
		p, err := h.Attach(lan)
		if err != nil {
			return "", err
		}
		return p.Name() + "\n", nil
	}
	return "", s.ctlPorts(name, args, wants)
}

// ctlPorts does the commands about a TARGET.
func (s *server) ctlPorts(name string, args []string, wants func(min, max int, words string) error) error {
	var do func(*emu.Port) error
	impair := func(change func(*emu.Link)) {
		do = func(p *emu.Port) error {
			l := p.Link()
			change(&l)
			if err := l.Validate(); err != nil {
				return usageError(err.Error())
			}
			p.Impair(l)
			return nil
		}
	}
	arg := ""
	switch name {
	case "plug", "unplug", "up", "down", "remove":
		if err := wants(1, 1, "TARGET"); err != nil {
			return err
		}
	default:
		words := map[string]string{
			"loss": "PCT", "dup": "PCT", "reorder": "PCT", "delay": "TIME", "jitter": "TIME",
			"mcast": "on|off", "addr": "PREFIX|none",
		}[name]
		if words == "" {
			return usageError(fmt.Sprintf("unknown command %q", name))
		}
		if err := wants(2, 2, "TARGET "+words); err != nil {
			return err
		}
		arg = args[1]
	}
	switch name {
	case "loss", "dup", "reorder":
		percent, err := strconv.ParseFloat(strings.TrimSuffix(arg, "%"), 64)
		if err != nil {
			return usageError(fmt.Sprintf("%q is no percentage", arg))
		}
		impair(func(l *emu.Link) {
			*map[string]*float64{"loss": &l.Loss, "dup": &l.Dup, "reorder": &l.Reorder}[name] = percent
		})
	case "delay", "jitter":
		d, err := time.ParseDuration(arg)
		if err != nil {
			return usageError(fmt.Sprintf("%q is no time; write as in 20ms", arg))
		}
		impair(func(l *emu.Link) {
			*map[string]*time.Duration{"delay": &l.Delay, "jitter": &l.Jitter}[name] = d
		})
	case "mcast":
		if arg != "on" && arg != "off" {
			return usageError(fmt.Sprintf("mcast is on or off, not %q", arg))
		}
		impair(func(l *emu.Link) { l.NoMulticast = arg == "off" })
	case "addr":
		var prefix netip.Prefix
		if arg != "none" {
			var err error
			if prefix, err = netip.ParsePrefix(arg); err != nil || !prefix.Addr().Is4() {
				return usageError(fmt.Sprintf("%q is no IPv4 address with a prefix length", arg))
			}
		}
		do = func(p *emu.Port) error { return p.SetIPv4(prefix) }
	case "plug", "unplug":
		do = func(p *emu.Port) error { return p.SetCarrier(name == "plug") }
	case "up", "down":
		do = func(p *emu.Port) error { return p.SetUp(name == "up") }
	case "remove":
		do = func(p *emu.Port) error { p.Remove(); return nil }
	}
	ports, err := s.ports(args[0])
	if err != nil {
		return err
	}
	for _, p := range ports {
		if err := do(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) hosts() string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, h := range s.lab.Hosts() {
		if len(h.Ports()) == 0 {
			fmt.Fprintf(w, "%s\tlo\t\t\t\n", h.Name())
		}
		for _, p := range h.Ports() {
			v4, v6 := "-", "-"
			if p.IPv4().IsValid() {
				v4 = p.IPv4().String()
			}
			if p.IPv6().IsValid() {
				v6 = p.IPv6().String()
			}
			fmt.Fprintf(w, "%s\t%s\tLAN %d\t%s\t%s\n", h.Name(), p.Name(), p.LAN(), v4, v6)
		}
	}
	w.Flush()
	return b.String()
}

func (s *server) stats(asJSON bool) string {
	stats := s.lab.Stats()
	if asJSON {
		b, _ := json.MarshalIndent(stats, "", "  ") // cannot fail
		return string(b) + "\n"
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "port\tsent\tbytes\tmcast\treceived\tbytes\tmcast\tlost\tblocked\tdup\treordered\toverflowed\toverrun\t\n")
	for _, p := range stats {
		fmt.Fprintf(w, "%s/%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", p.Host, p.Port,
			p.Sent.Frames, p.Sent.Bytes, p.Sent.Multicast, p.Received.Frames, p.Received.Bytes, p.Received.Multicast,
			p.Lost, p.Blocked, p.Duplicated, p.Reordered, p.Overflowed, p.Overrun)
	}
	w.Flush()
	return b.String()
}

// setPcap ends the capture there is, and begins one unless name is "off".
func (s *server) setPcap(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.capture != nil {
		err := errors.Join(s.capture.Close(), s.file.Close())
		s.capture, s.file = nil, nil
		if err != nil {
			return err
		}
	}
	if name == "off" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("opening the capture file: %w", err)
	}
	c, err := s.lab.Capture(f)
	if err != nil {
		f.Close()
		return err
	}
	s.capture, s.file = c, f
	return nil
}

// ask sends a request to the running LAN. The caller closes the files.
func ask(q request) (response, []int, error) {
	var r response
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socketPath(), Net: "unix"})
	if err != nil {
		return r, nil, fmt.Errorf("no LAN is running (start one with \"lan\", or set %s): %w", socketVar, err)
	}
	defer c.Close()
	if err := json.NewEncoder(c).Encode(q); err != nil {
		return r, nil, fmt.Errorf("asking the LAN: %w", err)
	}
	first, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(5*4))
	_, n, _, _, err := c.ReadMsgUnix(first, rights)
	if err != nil {
		return r, nil, fmt.Errorf("hearing from the LAN: %w", err)
	}
	var fds []int
	if messages, err := unix.ParseSocketControlMessage(rights[:n]); err == nil && len(messages) == 1 {
		fds, _ = unix.ParseUnixRights(&messages[0])
	}
	if err := json.NewDecoder(io.MultiReader(bytes.NewReader(first), c)).Decode(&r); err != nil {
		return r, fds, fmt.Errorf("hearing from the LAN: %w", err)
	}
	if r.Usage {
		return r, fds, usageError(r.Error)
	}
	if r.Error != "" {
		return r, fds, errors.New(r.Error)
	}
	return r, fds, nil
}

// runCtl is lan ctl.
func runCtl(args []string) error {
	if len(args) == 0 {
		return usageError("ctl needs a command")
	}
	if args[0] == "pcap" && len(args) == 2 && args[1] != "off" {
		abs, err := filepath.Abs(args[1])
		if err != nil {
			return fmt.Errorf("finding this directory: %w", err)
		}
		args = []string{"pcap", abs}
	}
	r, _, err := ask(request{Ctl: args})
	fmt.Print(r.Output)
	return err
}

// runExec is lan exec. The process asks for the namespaces and becomes one that has a
// child in them (see join.go). The child comes here a second time and becomes the
// program, in the process group and with the terminal of the caller.
func runExec(args []string) error {
	if len(args) < 2 {
		return usageError("usage: lan exec HOST CMD…")
	}
	if os.Getenv(joinVar) != "" {
		os.Unsetenv(joinVar)
		program, err := exec.LookPath(args[1])
		if err == nil {
			err = unix.Exec(program, args[1:], os.Environ())
		}
		return notRun(err)
	}
	_, fds, err := ask(request{Exec: args[0]})
	if err != nil {
		return err
	}
	if len(fds) != 5 {
		return fmt.Errorf("got %d namespaces of the LAN, not 5", len(fds))
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	os.Setenv(socketVar, socketPath()) // inside, the user would be another
	for i, fd := range fds {
		if err := unix.Dup3(fd, joinFD+i, 0); err != nil {
			return fmt.Errorf("handing a namespace on: %w", err)
		}
	}
	err = unix.Exec(self, append([]string{os.Args[0], "exec"}, args...), append(os.Environ(), joinVar+"=1"))
	return fmt.Errorf("running %s: %w", self, err)
}
