//go:build linux

package emu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The process that calls Enter becomes three, each the same program with the same
// arguments, told apart by stageVar:
//
//	outer ──clone──► init (pid 1) ──fork──► inner
//	 waits            reaps                  returns from Enter
//
// init exists because somebody must reap what is orphaned in a PID namespace, and
// because signals with default actions do not work on a process 1.
const (
	stageVar  = "LANCHAT_EMU_STAGE" // "init NETNS" or "inner NETNS", NETNS that of outer; unset: outer
	demandVar = "LANCHAT_EMU"       // "require": Need fails where it would skip
)

// inside is whether this process is an inner one.
var inside bool

// unavailable is why Main could not enter; nil when it could.
var unavailable error

// Main runs the tests of m inside namespaces of their own (see [Enter]) and returns
// their exit status, for os.Exit in TestMain. Where the machine forbids namespaces it
// runs them outside, and [Need] skips those that need a Lab.
func Main(m *testing.M) int {
	unavailable = Enter()
	return m.Run()
}

// Need skips the test, with the reason, on a machine that forbids making a Lab. With
// LANCHAT_EMU=require in the environment it fails instead.
func Need(t testing.TB) {
	t.Helper()
	err := unavailable
	if err == nil {
		err = probe()
	}
	switch {
	case err == nil:
	case forbidden(err) && os.Getenv(demandVar) != "require":
		t.Skipf("this machine forbids an emulated LAN: %v", err)
	default:
		t.Fatalf("no emulated LAN: %v", err)
	}
}

// probe makes the smallest Lab, once.
var probe = sync.OnceValue(func() error {
	lab, err := Open(Config{Hosts: Hosts(1)})
	if err != nil {
		return err
	}
	return lab.Close()
})

// forbidden reports whether err is the machine saying no, rather than a bug of ours.
func forbidden(err error) bool {
	for _, no := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.ENOSYS, unix.EOPNOTSUPP, unix.ENODEV, unix.EUSERS, fs.ErrPermission} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// Enter moves the program into fresh network, mount, process and UTS namespaces (and a user
// namespace when it is not root). It returns nil inside them; the process that called
// it first waits there for the one inside, passes signals in and exits with its status.
// It returns an error, still outside, where the machine forbids this.
//
// Call it first thing: what the program did before is done again inside. Everything
// started inside dies with the process inside, and that one with the outer.
func Enter() error {
	stage, outerNet, _ := strings.Cut(os.Getenv(stageVar), " ")
	os.Unsetenv(stageVar) // whoever we start may enter namespaces of its own
	switch stage {
	case "init":
		syscall.Exit(runInit(outerNet)) // not os.Exit, which sleeps 1 s with -race
	case "inner":
		if err := checkIsolated(outerNet); err != nil {
			return err
		}
		inside = true
		return nil
	}
	return runOuter()
}

// runOuter starts init in new namespaces and exits with its status.
func runOuter() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	outerNet, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return fmt.Errorf("reading the network namespace: %w", err)
	}
	runtime.LockOSThread() // Pdeathsig goes by the death of the thread
	command := func(flags uintptr) *exec.Cmd {
		cmd := exec.Command(self, os.Args[1:]...)
		cmd.Args[0] = os.Args[0]
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), stageVar+"=init "+outerNet)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | flags,
			Pdeathsig:  syscall.SIGKILL,
		}
		if flags&syscall.CLONE_NEWUSER != 0 {
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
		}
		return cmd
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedOn...)
	cmd := command(0)
	err = unix.EPERM
	if os.Geteuid() == 0 {
		err = cmd.Start()
	}
	if errors.Is(err, unix.EPERM) {
		cmd = command(syscall.CLONE_NEWUSER)
		err = cmd.Start()
	}
	if err != nil {
		signal.Stop(signals)
		runtime.UnlockOSThread()
		return fmt.Errorf("making namespaces: %w", err)
	}
	go func() {
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	cmd.Wait()                                                            // its error is in the status
	syscall.Exit(exitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus))) // as in Enter
	panic("unreachable")
}

var passedOn = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2}

// exitStatus returns what a shell would: the status, or 128 and the signal.
func exitStatus(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// runInit is process 1: it starts inner, reaps, and returns inner's status.
func runInit(outerNet string) int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedOn...)
	privateMounts()
	if lo, err := netlink.LinkByName("lo"); err == nil {
		netlink.LinkSetUp(lo) // where this is forbidden, Need finds out
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintf(os.Stderr, "emu: finding this program: %v\n", err)
		return 1
	}
	inner, err := syscall.ForkExec(self, os.Args, &syscall.ProcAttr{
		Env:   append(os.Environ(), stageVar+"=inner "+outerNet),
		Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "emu: starting %s: %v\n", self, err)
		return 1
	}
	go func() {
		for s := range signals {
			syscall.Kill(inner, s.(syscall.Signal))
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			fmt.Fprintf(os.Stderr, "emu: waiting: %v\n", err)
			return 1
		case pid == inner:
			return exitStatus(status)
		}
	}
}

// privateMounts gives the mount namespace a /proc that shows its own processes and
// hides the sockets by which a program could ask a daemon of the machine (Avahi, over
// the system bus) to talk on the real network. All of it is forbidden in some
// containers, where the Lab works without.
func privateMounts() {
	unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	for _, dir := range []string{"/run/dbus", "/run/avahi-daemon"} {
		unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=64k,mode=755")
	}
}

// checkIsolated returns an error unless this process is in a network namespace other
// than outerNet in which nothing but loopback is up.
func checkIsolated(outerNet string) error {
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return fmt.Errorf("reading the network namespace: %w", err)
	}
	if here == outerNet {
		return fmt.Errorf("still in the network namespace of the machine, %s", here)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("listing interfaces: %w", err)
	}
	for _, l := range links {
		if a := l.Attrs(); a.Flags&1 != 0 && a.Name != "lo" {
			return fmt.Errorf("interface %q is up in a namespace that should be empty", a.Name)
		}
	}
	return nil
}

// processes returns the ids of the processes, other than this one, whose network
// namespace is one of inodes; nil where /proc is that of another PID namespace.
func processes(inodes map[string]bool) []int {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return nil
	}
	var pids []int
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range links {
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		if ns, err := os.Readlink(link); err == nil && inodes[ns] && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}
