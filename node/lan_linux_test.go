//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lanchat/testdata/lan/emu"
)

// The scenarios run both programs as people do: as processes, each with its own data
// directory, in the hosts of an emulated LAN, told things on standard input and
// believed by what they print. Nothing here knows how they work inside.

func TestMain(m *testing.M) {
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p.Value.String() == p.DefValue { // they wait, mostly
		p.Value.Set(strconv.Itoa(max(4, runtime.GOMAXPROCS(0))))
	}
	os.Setenv("GORACE", endAtOnce)
	code := emu.Main(m)
	if programsDir != "" {
		os.RemoveAll(programsDir)
	}
	os.Exit(code)
}

const (
	// patience is how long anything may take. Waits end early; only what never
	// happens takes this long.
	patience = 2 * time.Minute

	// password is everybody's. Finding it in any output fails the test.
	password = "plum-Kettle-orbit-93"

	// endAtOnce is GORACE for the programs. Built with the race detector they would
	// sleep a second each time before they end well, in case something races meanwhile.
	endAtOnce = "atexit_sleep_ms=0"
)

var programsDir string // made by programs

// programs builds authd and node, once, with the race detector if the tests have it,
// and returns the directory they are in.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lanchat")
	if err != nil {
		return "", err
	}
	programsDir = dir
	args := []string{"build", "-o", dir + "/"}
	if raceEnabled() {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "lanchat/authd", "lanchat/node")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	return dir, nil
})

// raceEnabled reports whether the tests were built with -race.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// A lan is an emulated LAN with the programs to run on it.
type lan struct {
	*emu.Lab
	t   *testing.T
	bin string // directory of the programs
	dir string // of everything they keep
	pw  string // file with the password
}

func newLAN(t *testing.T, hosts ...emu.HostConfig) *lan {
	t.Helper()
	lab := emu.Start(t, emu.Config{Hosts: hosts})
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	l := &lan{Lab: lab, t: t, bin: bin, dir: t.TempDir()}
	for _, dir := range []string{"home", "run"} {
		if err := os.Mkdir(l.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l.pw = l.write("password", password+"\n")
	return l
}

// path returns the path of what is called name in the LAN's directory.
func (l *lan) path(name string) string { return filepath.Join(l.dir, name) }

// write makes a private file and returns its path.
func (l *lan) write(name, content string) string {
	l.t.Helper()
	if err := os.WriteFile(l.path(name), []byte(content), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return l.path(name)
}

// command returns a command of one of the programs, to be run in a host.
func (l *lan) command(ctx context.Context, host, program string, args ...string) *emu.Cmd {
	cmd := l.Host(host).CommandContext(ctx, filepath.Join(l.bin, program), args...)
	cmd.Dir = l.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.path("home"), "XDG_RUNTIME_DIR=" + l.path("run"),
		"GORACE=" + endAtOnce}
	cmd.WaitDelay = time.Second
	return cmd
}

// A result is what a command left behind.
type result struct {
	t           *testing.T
	did         string // the command line
	code        int
	out, errout string
}

// run runs a program to its end.
func (l *lan) run(host, stdin, program string, args ...string) result {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := l.command(ctx, host, program, args...)
	var out, errout bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errout
	err := cmd.Run()
	did := program + " " + strings.Join(args, " ")
	if ctx.Err() != nil {
		l.t.Errorf("%s: still running after %v\nstdout: %sstderr: %s", did, 2*patience, out.Bytes(), errout.Bytes())
	} else if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		l.t.Fatalf("%s: %v", did, err)
	}
	clean(l.t, did, out.String()+errout.String())
	return result{l.t, did, cmd.ProcessState.ExitCode(), out.String(), errout.String()}
}

// exits fails the test unless the command's exit status was one of codes.
func (r result) exits(codes ...int) result {
	r.t.Helper()
	if !slices.Contains(codes, r.code) {
		r.t.Errorf("%s: exit status %d, want %v\nstdout: %s\nstderr: %s", r.did, r.code, codes, r.out, r.errout)
	}
	return r
}

// says fails the test unless the command wrote all of words.
func (r result) says(words ...string) result {
	r.t.Helper()
	for _, w := range words {
		if !strings.Contains(strings.ToLower(r.out+r.errout), strings.ToLower(w)) {
			r.t.Errorf("%s: says nothing of %q\nstdout: %s\nstderr: %s", r.did, w, r.out, r.errout)
		}
	}
	return r
}

// explains fails the test unless the command wrote a clear sentence on standard error:
// one that begins with the program's name and is not a Go program's dying words.
func (r result) explains(words ...string) result {
	r.t.Helper()
	if program, _, _ := strings.Cut(r.did, " "); !strings.HasPrefix(r.errout, program+": ") {
		r.t.Errorf("%s: standard error is %q, want it to begin with %q", r.did, r.errout, program+": ")
	}
	return r.says(words...)
}

// clean fails the test if output holds what none may hold.
func clean(t testing.TB, who, output string) {
	t.Helper()
	for _, bad := range []string{password, "panic:", "goroutine 1 [", "WARNING: DATA RACE", "fatal error:"} {
		if i := strings.Index(output, bad); i >= 0 {
			t.Errorf("%s wrote %q:\n%s", who, bad, output[max(0, i-500):min(len(output), i+4000)])
		}
	}
}

// A process is a program that runs in a host.
type process struct {
	t     *testing.T
	name  string // in messages: a person's, or "authd"
	cmd   *emu.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when it has ended and all its output was read

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced at every change below
	transcript []string      // what it printed and was told
	out        []string      // lines of standard output
	errout     []string      // lines of standard error
	events     []event       // a node's
	from       int           // events before it are not looked at by want any more
}

// start runs a program in a host and reads what it prints; each line of standard output
// is handed to see, if given, with mu held.
func (l *lan) start(host, name string, see func(p *process, line string), program string, args ...string) *process {
	l.t.Helper()
	p := &process{t: l.t, name: name, done: make(chan struct{}), changed: make(chan struct{})}
	p.cmd = l.command(context.Background(), host, program, args...)
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		l.t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	p.note("$ %s %s", program, strings.Join(args, " "))
	if err := p.cmd.Start(); err != nil {
		l.t.Fatalf("starting %s: %v", name, err)
	}
	var readers sync.WaitGroup
	read := func(r io.Reader, mark string, lines *[]string) {
		in := bufio.NewScanner(r)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			p.mu.Lock()
			*lines = append(*lines, in.Text())
			if mark == "" && see != nil {
				see(p, in.Text())
			}
			p.mu.Unlock()
			p.note("%s%s", mark, in.Text())
		}
		io.Copy(io.Discard, r)
	}
	readers.Go(func() { read(stdout, "", &p.out) })
	readers.Go(func() { read(stderr, "stderr: ", &p.errout) })
	go func() {
		readers.Wait()
		p.cmd.Wait()
		p.note("exit status: %v", p.cmd.ProcessState)
		close(p.done)
	}()
	l.t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		clean(l.t, name, strings.Join(p.out, "\n")+strings.Join(p.errout, "\n"))
		if l.t.Failed() {
			l.t.Logf("%s:\n\t%s", name, strings.Join(abridged(p.transcript), "\n\t"))
		}
	})
	return p
}

// abridged leaves out the middle of what is too long to read, and shortens long lines.
func abridged(lines []string) []string {
	const head, tail, width = 40, 60, 500
	lines = slices.Clone(lines)
	if n := len(lines) - head - tail; n > 1 {
		lines = slices.Replace(lines, head, head+n, fmt.Sprintf("… %d lines …", n))
	}
	for i, line := range lines {
		if len(line) > width {
			lines[i] = line[:width] + "…"
		}
	}
	return lines
}

// note adds to the transcript and wakes who waits.
func (p *process) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.transcript = append(p.transcript, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
	close(p.changed)
	p.changed = make(chan struct{})
}

// until waits until ready, called with mu held, returns true; it reports whether it did.
func (p *process) until(ready func() bool) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for done := p.done; ; {
		p.mu.Lock()
		ok, changed := ready(), p.changed
		p.mu.Unlock()
		switch {
		case ok:
			return true
		case done == nil:
			return false
		}
		select {
		case <-changed:
		case <-done:
			done = nil // look once more
		case <-deadline.C:
			return false
		}
	}
}

// waitFor waits for a line of output that contains all of words.
func (p *process) waitFor(words ...string) {
	p.t.Helper()
	if !p.until(func() bool {
		return slices.ContainsFunc(p.out, func(line string) bool { return containing(words...)(line) })
	}) {
		p.t.Fatalf("%s printed no line with %q", p.name, words)
	}
}

// line sends a line, as if typed.
func (p *process) line(format string, args ...any) {
	p.t.Helper()
	line := fmt.Sprintf(format, args...)
	p.note("> %s", line)
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.t.Fatalf("%s does not read %.100q: %v", p.name, line, err)
	}
}

// kill ends the process without giving it a chance, as kill -9 does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// signal sends a signal.
func (p *process) signal(s os.Signal) {
	p.note("signal: %v", s)
	p.cmd.Process.Signal(s)
}

// exits waits for the end and fails the test unless the exit status is code.
func (p *process) exits(code int) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s still runs, want exit status %d", p.name, code)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("%s: exit status %d (%v), want %d", p.name, got, p.cmd.ProcessState, code)
	}
}

// quit asks the process to end, as a session manager does.
func (p *process) quit() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// authd is a running authd.
type authd struct {
	*process
	data        string
	fingerprint string
	addr        string // HOST:PORT on eth0, of a host that has one
}

// authd starts an authd that keeps its realm in the directory called name.
func (l *lan) authd(host, name string, args ...string) *authd {
	l.t.Helper()
	a := &authd{data: l.path(name)}
	a.process = l.start(host, name, nil, "authd", append([]string{"--data", a.data}, args...)...)
	if got := a.says("data"); got != a.data {
		l.t.Fatalf("%s serves what is in %q, want %q", name, got, a.data)
	}
	a.fingerprint = a.says("fingerprint")
	if p := l.Host(host).Port(0); p != nil {
		a.addr = netip.AddrPortFrom(p.IPv4().Addr(), 4747).String()
	}
	return a
}

// says waits for a line of the block that authd prints at its start, and returns what
// it says.
func (a *authd) says(label string) string {
	a.t.Helper()
	var value string
	if !a.until(func() bool {
		return slices.ContainsFunc(a.out, func(s string) (found bool) {
			value, found = strings.CutPrefix(s, label+" ")
			return found
		})
	}) {
		a.t.Fatalf("%s does not say its %s", a.name, label)
	}
	return strings.TrimSpace(value)
}

// code returns the join code of a realm with open registration.
func (a *authd) code() string { a.t.Helper(); return a.says("code") }

// accounts returns the names of authd's accounts, sorted.
func (l *lan) accounts(host string, a *authd) []string {
	l.t.Helper()
	r := l.run(host, "", "authd", "user", "list", "--json", "--data", a.data).exits(0)
	var list []struct{ Name string }
	if err := json.Unmarshal([]byte(r.out), &list); err != nil {
		l.t.Fatalf("%s: %v\n%s", r.did, err, r.out)
	}
	names := []string{}
	for _, a := range list {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return names
}

// A node is a running node with the JSON face.
type node struct{ *process }

// node starts a node that keeps its data in the directory called name.
func (l *lan) node(host, name string, args ...string) *node {
	l.t.Helper()
	return &node{l.start(host, name, (*process).seeEvent, "node", append([]string{"--json", "--data", l.path(name)}, args...)...)}
}

// newcomer starts a node that has never been anywhere, registers the user name and
// trusts the first realm it meets.
func (l *lan) newcomer(host, name string, args ...string) *node {
	l.t.Helper()
	return l.node(host, name, append([]string{
		"--register", "--user", name, "--password-file", l.pw, "--trust", "first"}, args...)...)
}

// as returns the arguments of a one-shot command of node for the user name.
func (l *lan) as(name string, args ...string) []string {
	return append(args, "--data", l.path(name))
}

// An event is one line of a node's output.
type event struct {
	name    string
	fields  map[string]any
	claimed bool // want has returned it
}

func (e event) text(field string) string { s, _ := e.fields[field].(string); return s }

// eventFields are the fields that events always have, with what they are; an event
// may have others.
var eventFields = map[string]map[string]any{
	"ready":   {"user": "", "device": "", "realm": "", "fingerprint": "", "authd": "", "ms": 0.},
	"authd":   {"state": "", "addr": "", "fingerprint": ""},
	"peer":    {"user": "", "device": "", "state": "", "cause": "", "via": []any{}},
	"renamed": {"old": "", "new": ""},
	"room": {"chat": "", "seq": 0., "epoch": nil, "members": []any{}, "admins": []any{}, "topic": "", "private": false,
		"cause": "", "by": "", "whom": ""},
	"message": {"id": "", "chat": "", "from": "", "text": "", "mode": "", "replay": false, "edited": false, "reply_to": ""},
	"sent":    {"id": "", "chat": "", "mode": "", "ref": ""},
	"receipt": {"id": "", "chat": "", "by": "", "got": 0., "of": 0.},
	"gap":     {"chat": "", "from": "", "missing": 0.},
	"notify":  {"chat": "", "id": "", "why": ""},
	"notice":  {"code": "", "text": ""},
	"error":   {"code": "", "text": "", "ref": ""},
}

var (
	timestamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)$`) // RFC 3339, milliseconds
	snakeCase = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
)

// seeEvent takes a line of a node's output, and fails the test if it is not as every
// event must be.
func (p *process) seeEvent(line string) {
	e := event{fields: map[string]any{}}
	if err := json.Unmarshal([]byte(line), &e.fields); err != nil {
		p.t.Errorf("%s printed %q, which is no JSON object: %v", p.name, line, err)
		return
	}
	e.name = e.text("event")
	if ts := e.text("ts"); !timestamp.MatchString(ts) {
		p.t.Errorf("%s: ts is %q, want RFC 3339 with milliseconds: %s", p.name, ts, line)
	}
	for field, is := range eventFields[e.name] {
		got, ok := e.fields[field]
		if !ok {
			p.t.Errorf("%s: field %q is missing: %s", p.name, field, line)
		} else if is != nil && fmt.Sprintf("%T", got) != fmt.Sprintf("%T", is) {
			p.t.Errorf("%s: field %q is %T, want %T: %s", p.name, field, got, is, line)
		}
	}
	if code := e.text("code"); e.name == "error" && !snakeCase.MatchString(code) {
		p.t.Errorf("%s: code %q is not in snake case: %s", p.name, code, line)
	}
	p.events = append(p.events, e)
}

// matches reports whether e is the event called name and has the fields: names and
// values by turns. A value is a string, an int, a bool, a []string, or a func(any) bool.
func (e event) matches(name string, fields []any) bool {
	if e.name != name {
		return false
	}
	for i := 0; i < len(fields); i += 2 {
		got := e.fields[fields[i].(string)]
		switch want := fields[i+1].(type) {
		case func(any) bool:
			if !want(got) {
				return false
			}
		case int:
			if got != float64(want) {
				return false
			}
		case []string:
			list, ok := got.([]any)
			if !ok || !slices.EqualFunc(list, want, func(a any, b string) bool { return a == b }) {
				return false
			}
		default:
			if got != want {
				return false
			}
		}
	}
	return true
}

// containing is a value of want: text that contains all of words.
func containing(words ...string) func(any) bool {
	return func(got any) bool {
		text, _ := got.(string)
		for _, w := range words {
			if !strings.Contains(strings.ToLower(text), strings.ToLower(w)) {
				return false
			}
		}
		return true
	}
}

// want waits for an event and returns it; what was returned once is not returned again.
func (n *node) want(name string, fields ...any) event {
	n.t.Helper()
	var found event
	if !n.until(func() bool {
		for i := n.from; i < len(n.events); i++ {
			if e := &n.events[i]; !e.claimed && e.matches(name, fields) {
				e.claimed, found = true, *e
				return true
			}
		}
		return false
	}) {
		select {
		case <-n.done:
			n.t.Fatalf("%s ended (%v) without event %q %v", n.name, n.cmd.ProcessState, name, fields)
		default:
			n.t.Fatalf("%s waits in vain for event %q %v", n.name, name, fields)
		}
	}
	return found
}

// fresh makes want look at nothing that has been printed so far.
func (n *node) fresh() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.from = len(n.events)
}

// all returns the events so far that match.
func (n *node) all(name string, fields ...any) []event {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found []event
	for _, e := range n.events {
		if e.matches(name, fields) {
			found = append(found, e)
		}
	}
	return found
}

// object sends a command object.
func (n *node) object(fields ...string) {
	n.t.Helper()
	m := map[string]string{}
	for i := 0; i < len(fields); i += 2 {
		m[fields[i]] = fields[i+1]
	}
	b, err := json.Marshal(m)
	if err != nil {
		n.t.Fatal(err)
	}
	n.line("%s", b)
}

// say sends text to a chat in a mode, waits for it to be sent, and returns its id.
func (n *node) say(chat, mode, text string) string {
	n.t.Helper()
	n.object("cmd", "say", "chat", chat, "text", text, "mode", mode, "ref", text)
	return n.want("sent", "chat", chat, "mode", mode, "ref", text).text("id")
}

// answer waits for what a command with the ref caused first: sent, or an error.
func (n *node) answer(ref string) event {
	n.t.Helper()
	var e event
	if !n.until(func() bool {
		i := slices.IndexFunc(n.events, func(e event) bool { return e.text("ref") == ref })
		if i >= 0 {
			e = n.events[i]
		}
		return i >= 0
	}) {
		n.t.Fatalf("%s waits in vain for anything with ref %q", n.name, ref)
	}
	return e
}

// refuses types a line in a chat and waits for the error with the code.
func (n *node) refuses(chat, line, code string, words ...string) {
	n.t.Helper()
	n.object("cmd", "do", "chat", chat, "line", line, "ref", line)
	e := n.want("error", "ref", line)
	if got := e.text("code"); got != code {
		n.t.Errorf("%s: %q: error code %q (%q), want %q", n.name, line, got, e.text("text"), code)
	}
	if !containing(words...)(e.text("text")) || e.text("text") == "" {
		n.t.Errorf("%s: %q: error text %q, want it to mention %q", n.name, line, e.text("text"), words)
	}
}

// ready waits until the node holds a token and has met authd.
func (n *node) ready(user string, a *authd) {
	n.t.Helper()
	e := n.want("ready", "user", user)
	if got := e.text("fingerprint"); a != nil && got != a.fingerprint {
		n.t.Errorf("%s: ready in realm %s, want %s", n.name, got, a.fingerprint)
	}
	if a != nil {
		n.want("authd", "state", "up", "fingerprint", a.fingerprint)
	}
}

// meet waits until every node sees every other one online: the last it said of them.
func meet(nodes ...*node) {
	for _, n := range nodes {
		n.t.Helper()
		for _, other := range nodes {
			if other != n && !n.until(func() bool {
				state := ""
				for _, e := range n.events {
					if e.name == "peer" && e.text("user") == other.name {
						state = e.text("state")
					}
				}
				return state == "online"
			}) {
				n.t.Fatalf("%s waits in vain to see %s online", n.name, other.name)
			}
		}
	}
}

// gather makes a room of the first node, has the others join it in turn, and waits
// until everybody has the same members.
func gather(chat string, nodes ...*node) {
	first := nodes[0]
	first.t.Helper()
	first.line("/create %s", chat)
	first.want("room", "chat", chat, "cause", "created", "members", []string{first.name})
	members := []string{first.name}
	for i, n := range nodes[1:] {
		members = append(members, n.name)
		n.line("/join %s", chat)
		for _, m := range nodes[:i+2] {
			m.want("room", "chat", chat, "cause", "joined", "whom", n.name, "members", members, "admins", []string{first.name})
		}
	}
}

// tell has one node say text in a room and waits until the others have it, in mode.
func tell(chat, mode, text string, from *node, to ...*node) {
	from.t.Helper()
	id := from.say(chat, mode, text)
	for _, n := range to {
		n.want("message", "chat", chat, "from", from.name, "text", text, "mode", mode, "id", id, "replay", false)
	}
	if mode == "reliable" {
		from.want("receipt", "id", id, "chat", chat, "got", len(to), "of", len(to))
	}
}

// whisper has one node send another a direct message, and waits until it came.
func whisper(mode, text string, from, to *node) {
	from.t.Helper()
	id := from.say("@"+to.name, mode, text)
	to.want("message", "chat", "@"+from.name, "from", from.name, "text", text, "mode", mode, "id", id, "replay", false)
	if mode == "reliable" {
		from.want("receipt", "id", id, "chat", "@"+to.name, "by", to.name, "got", 1, "of", 1)
	}
}

// talk has everybody tell everybody something, in both modes.
func talk(chat, what string, nodes ...*node) {
	nodes[0].t.Helper()
	for i, n := range nodes {
		others := slices.Delete(slices.Clone(nodes), i, i+1)
		for _, mode := range []string{"reliable", "fast"} {
			tell(chat, mode, fmt.Sprintf("%s, %s, %s", n.name, mode, what), n, others...)
		}
	}
}
