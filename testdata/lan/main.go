//go:build linux

// Lan makes an emulated LAN and runs a command that can use it.
//
//	lan [-hosts N] [-host SPEC]… [-loss PCT] [-seed N] [-pcap FILE] [-socket PATH] [-veth] [-- CMD…]
//	lan exec HOST CMD…
//	lan ctl COMMAND…
//
// The first makes N hosts (default 4), h1 to h<N>, on one LAN and runs CMD, by default
// a shell. The LAN lasts as long as CMD; lan exits with its status. Within CMD, and in
// any other terminal of the same user, the other two work on the running LAN:
//
//	$ go run ./testdata/lan -hosts 3
//	lan: h1 h2 h3; from another terminal: LANCHAT_LAN=/run/user/1000/lanchat-lan/lan.sock lan …
//	$ lan exec h1 node
//	$ lan ctl loss h2 5
//	$ lan ctl stats
//
// A host is a Linux network namespace with a kernel's network stack of its own; it
// shares files and users with the machine. Nothing in it reaches a real interface.
//
// Hosts beside the N are described by -host NAME[,lan=0+1][,no4][,no6][,alone][,route]:
// the LANs its interfaces are on, without IPv4, without IPv6, with loopback only, with a
// default route.
//
// # lan exec
//
// Runs CMD in HOST with the caller's terminal, directory and environment and exits with
// its status; 127 if there is no such program.
//
// # lan ctl
//
//	hosts                      names and addresses
//	loss TARGET PCT            PCT % of the frames to TARGET vanish
//	dup TARGET PCT             arrive twice
//	reorder TARGET PCT         are overtaken by those behind
//	delay TARGET TIME          come later by TIME, as in 20ms
//	jitter TARGET TIME         and by up to TIME more, in order
//	mcast TARGET on|off        multicast to and from TARGET
//	cut HOST [HOST]            nothing passes between the two, or between the one and any
//	heal [HOST [HOST]]         undoes cuts: all, of one host, between two
//	unplug|plug TARGET         the cable
//	down|up TARGET             the interface
//	addr TARGET PREFIX|none    another IPv4 address, as in 10.77.0.99/24
//	remove TARGET              takes the interface out
//	attach HOST [LAN]          puts one in
//	stats [--json]             frames counted per port
//	pcap FILE|off              writes all frames that hosts send
//
// TARGET is a HOST, one interface of it as in h1/eth1, or all.
//
// # Environment and exit status
//
// LANCHAT_LAN is the path of the running LAN's control socket. Without it the LAN
// started first is meant. Exit status: that of CMD; else 0 done, 1 failure, 2 usage.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"lanchat/testdata/lan/emu"
)

const usage = `usage: lan [-hosts N] [-host SPEC]... [-loss PCT] [-seed N] [-pcap FILE]
           [-socket PATH] [-veth] [-- CMD...]
       lan exec HOST CMD...
       lan ctl COMMAND...

Makes an emulated LAN of hosts h1 to hN (default 4) and runs CMD, by default a
shell. There, and in other terminals, "lan exec" runs programs in a host and
"lan ctl" changes the network.

SPEC is NAME[,lan=0+1][,no4][,no6][,alone][,route].

lan ctl:
  hosts                     names and addresses
  loss|dup|reorder TARGET PCT
  delay|jitter TARGET TIME  as in 20ms
  mcast TARGET on|off
  cut HOST [HOST]           nothing passes between the two, or from the one to any
  heal [HOST [HOST]]
  unplug|plug TARGET        the cable
  down|up TARGET            the interface
  addr TARGET PREFIX|none   another IPv4 address, as in 10.77.0.99/24
  remove TARGET             takes the interface out
  attach HOST [LAN]         puts one in
  stats [--json]
  pcap FILE|off

TARGET is a HOST, an interface as in h1/eth1, or all.
`

// A usageError is a command line that makes no sense.
type usageError string

func (e usageError) Error() string { return string(e) }

// A statusError is the status of a program that was run for the caller.
type statusError int

func (e statusError) Error() string { return "exit status " + strconv.Itoa(int(e)) }

func main() {
	err := run(os.Args[1:])
	var status statusError
	var wrong usageError
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
	case errors.As(err, &status):
		os.Exit(int(status))
	case errors.As(err, &wrong):
		fmt.Fprintf(os.Stderr, "lan: %v\nTry \"lan -h\".\n", err)
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "lan: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "exec":
			return runExec(args[1:])
		case "ctl":
			return runCtl(args[1:])
		case "help":
			return flag.ErrHelp
		}
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	return serve(o)
}

// options is the command line that makes a LAN.
type options struct {
	config emu.Config
	pcap   string // a file; "" means none
	socket string // "" means the default
	cmd    []string
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("lan", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	n := f.Int("hosts", 4, "")
	f.StringVar(&o.pcap, "pcap", "", "")
	f.StringVar(&o.socket, "socket", "", "")
	f.Float64Var(&o.config.Link.Loss, "loss", 0, "")
	f.Uint64Var(&o.config.Seed, "seed", 1, "")
	f.BoolVar(&o.config.Veth, "veth", false, "")
	var more []emu.HostConfig
	f.Func("host", "", func(spec string) error {
		h, err := parseHost(spec)
		more = append(more, h)
		return err
	})
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return o, err
	} else if err != nil {
		return o, usageError(err.Error())
	}
	if *n < 0 || *n+len(more) > 254 {
		return o, usageError("a LAN has 0 to 254 hosts")
	}
	if err := o.config.Link.Validate(); err != nil {
		return o, usageError(err.Error())
	}
	o.config.Hosts = append(emu.Hosts(*n), more...)
	o.cmd = f.Args()
	if before := args[:len(args)-len(o.cmd)]; len(o.cmd) > 0 && (len(before) == 0 || before[len(before)-1] != "--") {
		return o, usageError(fmt.Sprintf("unknown command %q; to run a program, write -- before it", o.cmd[0]))
	}
	return o, nil
}

// parseHost parses the SPEC of -host.
func parseHost(spec string) (emu.HostConfig, error) {
	fields := strings.Split(spec, ",")
	h := emu.HostConfig{Name: fields[0]}
	if h.Name == "" || strings.ContainsAny(h.Name, "/ ") || h.Name == "all" {
		return h, fmt.Errorf("%q is no name for a host", h.Name)
	}
	for _, field := range fields[1:] {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "lan":
			for _, s := range strings.Split(value, "+") {
				lan, err := strconv.Atoi(s)
				if err != nil || lan < 0 || lan > 99 {
					return h, fmt.Errorf("%q is no LAN", s)
				}
				h.LANs = append(h.LANs, lan)
			}
		case "no4":
			h.NoIPv4 = true
		case "no6":
			h.NoIPv6 = true
		case "alone":
			h.Alone = true
		case "route":
			h.DefaultRoute = true
		default:
			return h, fmt.Errorf("host option %q", field)
		}
	}
	return h, nil
}

// newSocketVar hands the path of the control socket to the process inside the
// namespaces, which can no longer tell who the user is.
const newSocketVar = "LANCHAT_LAN_NEW"

// serve makes the LAN and runs the command.
func serve(o options) error {
	path := os.Getenv(newSocketVar)
	if path == "" {
		var err error
		if path, err = newSocketPath(o.socket); err != nil {
			return err
		}
		os.Setenv(newSocketVar, path)
	}
	if err := emu.Enter(); err != nil {
		return fmt.Errorf("making an emulated LAN: %w", err)
	}
	os.Unsetenv(newSocketVar)
	os.Setenv(socketVar, path)

	lab, err := emu.Open(o.config)
	if err != nil {
		return fmt.Errorf("making an emulated LAN: %w", err)
	}
	defer lab.Close()
	s, err := listen(lab, path)
	if err != nil {
		return err
	}
	defer s.close()
	if o.pcap != "" {
		if err := s.setPcap(o.pcap); err != nil {
			return err
		}
	}
	bin, remove, err := ownDir()
	if err != nil {
		return err
	}
	defer remove()
	os.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	var names []string
	for _, h := range lab.Hosts() {
		names = append(names, h.Name())
	}
	fmt.Fprintf(os.Stderr, "lan: %s; from another terminal: LANCHAT_LAN=%s lan …\n", strings.Join(names, " "), path)

	cmd := o.cmd
	if len(cmd) == 0 {
		cmd = []string{"/bin/sh"}
		if shell := os.Getenv("SHELL"); shell != "" {
			cmd[0] = shell
		}
	}
	return pass(cmd)
}

// ownDir returns a directory in which this program is called lan, and what removes it
// if it was made for that.
func ownDir() (dir string, remove func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("finding this program: %w", err)
	}
	if filepath.Base(self) == "lan" {
		return filepath.Dir(self), func() {}, nil
	}
	dir, err = os.MkdirTemp("", "lan")
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, "lan"))
	}
	if err != nil {
		return "", nil, fmt.Errorf("making a directory for PATH: %w", err)
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}

// pass runs a program with this one's terminal and returns its status as a
// statusError, nil for 0. The program does not outlive this one.
func pass(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig goes by the death of the thread
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return notRun(err)
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				// A terminal sends the other two to the program itself as well.
				if s != syscall.SIGINT && s != syscall.SIGQUIT {
					cmd.Process.Signal(s)
				}
			case <-done:
				return
			}
		}
	}()
	cmd.Wait() // its error is in the status
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ws.Signaled():
		return statusError(128 + ws.Signal())
	case ws.ExitStatus() != 0:
		return statusError(ws.ExitStatus())
	}
	return nil
}

// notRun says why a program did not start, and returns the status that a shell would.
func notRun(err error) error {
	fmt.Fprintf(os.Stderr, "lan: %v\n", err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return statusError(127)
	}
	return statusError(126)
}
