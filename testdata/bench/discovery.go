//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"lanchat/testdata/lan/emu"
)

// How often something is measured, and how long anything may take.
const (
	samples   = 20
	crowdWait = 30 * time.Second
	cutFor    = 10 * time.Second
	idleFor   = 20 * time.Second
)

// A member is a node of the crowd: a process of the real program.
type member struct {
	name string
	cmd  *emu.Cmd
	in   io.WriteCloser

	mu      sync.Mutex
	changed chan struct{}
	begun   time.Time                       // the program's start
	ready   time.Duration                   // since then; the program itself does not count what its packages do first
	since   time.Time                       // when it was ready
	failed  string                          // what went wrong last
	seen    map[string]map[string]time.Time // user -> state, or room -> cause -> when it said so last
}

// benchDiscovery measures how soon people see each other come and go: one who
// watches and many who move, each on a host of their own, in processes of the real
// program on an emulated LAN. Everything happens while all of them are there. One
// kernel bears thirty: its table of neighbours, which all namespaces share, has 1,024
// entries unless root raises net.ipv4.neigh.default.gc_thresh3, and each of 32 hosts
// has 31. Beyond, packets are lost.
func benchDiscovery(ctx context.Context, b *bench) (err error) {
	c, err := openCrowd(ctx, b, b.nodes+2)
	if err != nil {
		return err
	}
	lab := c.lab
	defer func() { err = errors.Join(err, lab.Close()) }()

	watcher, err := c.member(0)
	if err != nil {
		return err
	}
	members := make([]*member, b.nodes)
	for i := range members { // who never was here: log-in takes its time by design
		if members[i], err = c.member(i + 1); err != nil {
			return err
		}
	}
	seesAll := func(m *member) (last time.Time, err error) {
		for _, other := range append(members, watcher) {
			if other.name == m.name {
				continue
			}
			at, err := m.wait(other.name, "online", time.Time{})
			if err != nil {
				return last, err
			}
			if at.After(last) {
				last = at
			}
		}
		return last, nil
	}
	for _, m := range append(members, watcher) {
		if _, err := seesAll(m); err != nil {
			return err
		}
	}

	say(fmt.Sprintf("among %d, of %d samples each", b.nodes+1, min(samples, b.nodes)), "%10s %10s %10s", "median", "90 %", "most")
	var bye, start, come, all []time.Duration
	for i := range min(samples, b.nodes) { // with tokens now
		left, err := c.leave(watcher, members[i:i+1], syscall.SIGTERM, "left")
		if err != nil {
			return err
		}
		m, err := c.member(i + 1)
		if err != nil {
			return err
		}
		members[i] = m
		at, err := watcher.wait(m.name, "online", m.since.Add(-m.ready))
		if err != nil {
			return err
		}
		last, err := seesAll(m)
		if err != nil {
			return err
		}
		bye, start = append(bye, left...), append(start, m.ready)
		come, all = append(come, max(0, at.Sub(m.since))), append(all, max(0, last.Sub(m.since)))
	}
	tell("start to ready, with a token (target 300 ms)", start)
	tell("ready to seen by who watches (150 ms)", come)
	tell("ready to having seen everybody (1 s)", all)
	tell("goodbye to seen (50 ms)", bye)

	if err := members[0].idle(b.nodes); err != nil {
		return err
	}

	// The watcher's cable is out for a while.
	host := lab.Host("h2")
	lab.Cut(host, nil)
	time.Sleep(cutFor)
	mended := time.Now()
	lab.Heal(host, nil)
	var back []time.Duration
	for _, m := range members {
		at, err := watcher.wait(m.name, "online", mended)
		if err != nil {
			return err
		}
		back = append(back, at.Sub(mended))
	}
	tell("back after a cut of 10 s (2 s)", back)

	killed, err := c.leave(watcher, members, syscall.SIGKILL, "lost")
	if err != nil {
		return err
	}
	tell("kill to seen (7 s)", killed)
	return nil
}

// idle says what a node takes while nobody does anything.
func (m *member) idle(peers int) error {
	before, _, err := m.usage()
	if err != nil {
		return err
	}
	time.Sleep(idleFor)
	after, rss, err := m.usage()
	if err != nil {
		return err
	}
	say(fmt.Sprintf("idle, with links to %d", peers), "%.2f %% of a core (target 1 %%), %.1f MB (30 MB)", 100*(after-before).Seconds()/idleFor.Seconds(), rss)
	return nil
}

// usage returns the processor time that a node has used and the memory, in MB,
// that it has.
func (m *member) usage() (used time.Duration, rss float64, err error) {
	return usageOf(m.cmd.Process.Pid)
}

func usageOf(pid int) (used time.Duration, rss float64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// Fields are counted from behind the name, which may have anything in it; see proc(5).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	number := func(i int) float64 {
		n, nerr := strconv.ParseFloat(fields[i-3], 64)
		err = errors.Join(err, nerr)
		return n
	}
	used = time.Duration((number(14) + number(15)) / 100 * float64(time.Second)) // in ticks
	return used, number(24) * float64(os.Getpagesize()) / 1e6, err
}

func tell(what string, times []time.Duration) {
	ms := func(p float64) string { return fmt.Sprintf("%.0f ms", percentile(times, p).Seconds()*1000) }
	say(what, "%10s %10s %10s", ms(0.5), ms(0.9), ms(1))
}

// crowdLab runs the programs.
type crowdLab struct {
	b   *bench
	lab *emu.Lab
}

// openCrowd builds the programs, opens a LAN and starts authd on its first host.
func openCrowd(ctx context.Context, b *bench, hosts int) (*crowdLab, error) {
	for _, program := range []string{"authd", "node"} {
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.dir+"/", "lanchat/"+program).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building %s: %w\n%s", program, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(b.dir, "password"), []byte("plum-Kettle-orbit-93\n"), 0o600); err != nil {
		return nil, err
	}
	lab, err := emu.Open(emu.Config{Hosts: emu.Hosts(hosts)})
	if err != nil {
		return nil, err
	}
	c := &crowdLab{b: b, lab: lab}
	if err := c.command("h1", "authd", "--data", filepath.Join(b.dir, "realm")).Start(); err != nil {
		return nil, errors.Join(err, lab.Close())
	}
	return c, nil
}

func (c *crowdLab) command(host, program string, args ...string) *emu.Cmd {
	cmd := c.lab.Host(host).Command(filepath.Join(c.b.dir, program), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.b.dir, "XDG_RUNTIME_DIR=" + c.b.dir}
	return cmd
}

// member starts a node, the number n from 0, and waits until it is ready.
func (c *crowdLab) member(n int) (*member, error) {
	m := &member{name: "p" + strconv.Itoa(n), changed: make(chan struct{}), seen: map[string]map[string]time.Time{}}
	m.cmd = c.command("h"+strconv.Itoa(n+2), "node", "--json", "--data", filepath.Join(c.b.dir, m.name), "--register", "--user", m.name,
		"--password-file", filepath.Join(c.b.dir, "password"), "--trust", "first")
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	m.begun = time.Now()
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go m.read(out)
	return m, m.until(func() bool { return m.ready > 0 }, "to be ready")
}

// read takes in the events.
func (m *member) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Event, User, State, Chat, Cause, Text string
			TS                                    time.Time
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		m.mu.Lock()
		switch e.Event {
		case "ready":
			m.ready, m.since = max(1, e.TS.Sub(m.begun)), e.TS
		case "error":
			m.failed = e.Text
		case "peer", "room":
			name, state := cmp.Or(e.User, e.Chat), cmp.Or(e.State, e.Cause)
			if m.seen[name] == nil {
				m.seen[name] = map[string]time.Time{}
			}
			m.seen[name][state] = e.TS
		}
		close(m.changed)
		m.changed = make(chan struct{})
		m.mu.Unlock()
	}
}

func (m *member) until(ok func() bool, what string) error {
	deadline := time.After(crowdWait)
	for {
		m.mu.Lock()
		done, changed := ok(), m.changed
		m.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-deadline:
			m.mu.Lock()
			defer m.mu.Unlock()
			return fmt.Errorf("%s waits in vain %s; what it says went wrong: %s", m.name, what, cmp.Or(m.failed, "nothing"))
		}
	}
}

// wait waits until m said, since then, that somebody is in the state, and returns
// when it did.
func (m *member) wait(user, state string, since time.Time) (at time.Time, err error) {
	err = m.until(func() bool {
		at = m.seen[user][state]
		return !at.IsZero() && !at.Before(since.Truncate(time.Millisecond))
	}, "to see "+user+" "+state)
	return at, err
}

// leave ends the members by the signal and returns how long it took the watcher to
// say so.
func (c *crowdLab) leave(watcher *member, members []*member, s syscall.Signal, state string) (took []time.Duration, err error) {
	begin := make([]time.Time, len(members))
	seen := func(i int) error {
		at, err := watcher.wait(members[i].name, state, begin[i])
		took = append(took, at.Sub(begin[i]))
		return err
	}
	for i, m := range members {
		if _, err := watcher.wait(m.name, "online", time.Time{}); err != nil {
			return nil, err
		}
		begin[i] = time.Now()
		if err := m.cmd.Process.Signal(s); err != nil {
			return nil, err
		}
		if s == syscall.SIGTERM {
			if err := seen(i); err != nil {
				return nil, err
			}
		}
	}
	if s != syscall.SIGTERM { // all at once: it takes seconds
		for i := range members {
			if err := seen(i); err != nil {
				return nil, err
			}
		}
	}
	for _, m := range members {
		m.cmd.Wait() // how it ended is what was asked for
	}
	return took, nil
}
