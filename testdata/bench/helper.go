//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A usage is what a process takes just now.
type usage struct {
	Heap       uint64 // bytes in use after a collection
	Stacks     uint64 // bytes
	RSS        uint64 // bytes, after unused memory was given back
	Goroutines int
	CPU        time.Duration // since its start
}

// A helper is a process of this binary that serves until it is told to end. It
// prints one line when it is ready, and answers each line of its standard input
// with its usage.
type helper struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	ready string // its first line
}

func (b *bench) start(name string, args ...string) (*helper, error) {
	if b.profile != "" {
		args = append(args, filepath.Join(b.profile, name+".pprof"))
	} else {
		args = append(args, "")
	}
	h := &helper{cmd: exec.Command("/proc/self/exe", args...)}
	h.cmd.Env = append(os.Environ(), helperVar+"="+name, profileVar+"="+b.profile)
	h.cmd.Stderr = os.Stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = bufio.NewReader(out)
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	if h.ready, err = h.out.ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), h.kill())
	}
	h.ready = strings.TrimSpace(h.ready)
	return h, nil
}

func (h *helper) usage() (u usage, err error) {
	if _, err = io.WriteString(h.stdin, "usage\n"); err != nil {
		return u, err
	}
	line, err := h.out.ReadBytes('\n')
	if err != nil {
		return u, err
	}
	return u, json.Unmarshal(line, &u)
}

// stop has it end by itself.
func (h *helper) stop() error { return errors.Join(h.stdin.Close(), h.cmd.Wait()) }

// kill ends it as a power cut would.
func (h *helper) kill() error {
	err := h.cmd.Process.Kill()
	h.cmd.Wait()
	return err
}

// answer is the helper's side: it says what it is ready for, and answers until
// its standard input ends. With a file for a profile it writes one of the heap
// beside it, each time it is asked.
func answer(ready, profile string) error {
	fmt.Println(ready)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		u, err := myUsage()
		if err == nil && profile != "" {
			err = heapProfile(profile + ".heap")
		}
		if err != nil {
			return err
		}
		line, err := json.Marshal(u)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", line)
	}
	return nil
}

// cpuTime returns the processor time that this process took since its start.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // cannot fail
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func myUsage() (u usage, err error) {
	debug.FreeOSMemory() // which collects first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Heap, u.Stacks, u.Goroutines = m.HeapAlloc, m.StackInuse, runtime.NumGoroutine()
	u.CPU = cpuTime()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return u, err
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	kib, err := strconv.ParseUint(strings.Fields(string(rest))[0], 10, 64)
	u.RSS = kib << 10
	return u, err
}
