package main_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"lanchat/testdata/lan/emu"
)

// texts returns what a node has shown of a person in a chat, in order.
func (n *node) texts(chat, from string) (texts []string) {
	for _, e := range n.all("message", "chat", chat, "from", from) {
		texts = append(texts, e.text("text"))
	}
	return texts
}

// sees waits until a node has shown as many messages of a person in a chat, and
// checks that they are those, in order.
func (n *node) sees(chat, from string, want []string) {
	n.t.Helper()
	count := func() (k int) {
		for _, e := range n.events {
			if e.matches("message", []any{"chat", chat, "from", from}) {
				k++
			}
		}
		return k
	}
	if !n.until(func() bool { return count() >= len(want) }) {
		n.t.Fatalf("%s sees %d of %d messages of %s", n.name, len(n.texts(chat, from)), len(want), from)
	}
	if got := n.texts(chat, from); !slices.Equal(got, want) {
		n.t.Errorf("%s sees %d messages of %s in %s, in another order or others than the %d that were written", n.name, len(got), from, chat, len(want))
	}
}

// resident returns how many bytes of memory a process takes.
func (p *process) resident() int {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kB, err := strconv.Atoi(f[1])
			if err != nil {
				p.t.Fatal(err)
			}
			return kB << 10
		}
	}
	p.t.Fatal("no VmRSS")
	return 0
}

// A paste, a bot as fast as its pipe, and a member whose process stands still:
// everything arrives once and in order, who writes is slowed and never ended,
// others stay fluent, and memory stays bounded.
func TestPressure(t *testing.T) {
	t.Parallel()
	pasted, botted := 1000, 10_000
	if raceEnabled() {
		botted = 2000
	}
	l := newLAN(t, emu.Hosts(4)...)
	a := l.authd("h1", "authd")
	ann, bob, carol := l.newcomer("h2", "ann", "--authd", a.addr), l.newcomer("h3", "bob", "--authd", a.addr), l.newcomer("h4", "carol", "--authd", a.addr)
	for _, n := range []*node{ann, bob, carol} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol)
	gather("#lab", ann, bob, carol)

	var want []string
	var paste strings.Builder
	for i := range pasted {
		want = append(want, fmt.Sprintf("pasted line %d", i))
		fmt.Fprintln(&paste, want[i])
	}
	if _, err := ann.stdin.Write([]byte(paste.String())); err != nil {
		t.Fatal(err)
	}
	bob.sees("#lab", "ann", want)
	carol.sees("#lab", "ann", want)

	// carol's process stands still while a bot writes.
	if err := carol.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var bot strings.Builder
	for i := range botted {
		want = append(want, fmt.Sprintf("bot line %d %s", i, strings.Repeat("x", 150)))
		fmt.Fprintf(&bot, `{"cmd":"say","chat":"#lab","text":%q}`+"\n", want[pasted+i])
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := ann.stdin.Write([]byte(bot.String()))
		wrote <- err
	}()
	// Others go on talking to each other meanwhile, and to the one who writes.
	for i := range 5 {
		text := fmt.Sprint("are you there ", i)
		bob.object("cmd", "say", "chat", "@ann", "text", text, "ref", text)
		ann.want("message", "chat", "@bob", "text", text)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	bob.sees("#lab", "ann", want)
	if rss := ann.resident(); rss > 400<<20 && !raceEnabled() {
		t.Errorf("ann takes %d MB", rss>>20)
	}
	if errs := ann.all("error"); len(errs) > 0 {
		t.Errorf("ann was told %v", errs[0].fields)
	}
	if err := carol.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	carol.sees("#lab", "ann", want)
}

// A disk is a small file system in memory under a node's data directory.
type disk struct {
	t   *testing.T
	dir string
}

// disk mounts one for somebody who has not started yet.
func (l *lan) disk(name string) *disk {
	l.t.Helper()
	d := &disk{l.t, l.path(name)}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		l.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, "size=32m,mode=0700"); err != nil {
		l.t.Skipf("this machine forbids mounts in a namespace: %v", err)
	}
	l.t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, 0); err != nil {
			l.t.Errorf("unmounting: %v", err)
		}
	})
	return d
}

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves no room at all.
func (d *disk) fill() {
	d.t.Helper()
	f, err := os.Create(d.ballast())
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatal(err)
	}
}

func (d *disk) free() {
	d.t.Helper()
	if err := os.Remove(d.ballast()); err != nil {
		d.t.Fatal(err)
	}
}

// A bot writes as fast as its pipe while there is no room on its disk, and then on
// a receiver's: who it concerns is told, nobody is ended, others stay fluent,
// memory stays bounded, and once there is room everything comes, once and in
// order.
func TestFullDisks(t *testing.T) {
	t.Parallel()
	count := 5000
	if raceEnabled() {
		count = 1000
	}
	l := newLAN(t, emu.Hosts(4)...)
	a := l.authd("h1", "authd")
	anns, bobs := l.disk("ann"), l.disk("bob")
	ann, bob, carol := l.newcomer("h2", "ann", "--authd", a.addr), l.newcomer("h3", "bob", "--authd", a.addr), l.newcomer("h4", "carol", "--authd", a.addr)
	for _, n := range []*node{ann, bob, carol} {
		n.ready(n.name, a)
	}
	meet(ann, bob, carol)
	gather("#lab", ann, bob, carol)

	var want []string
	wrote := make(chan error, 1)
	bot := func(n int) {
		var lines strings.Builder
		for range n {
			want = append(want, fmt.Sprintf("bot line %d %s", len(want), strings.Repeat("x", 150)))
			fmt.Fprintf(&lines, `{"cmd":"say","chat":"#lab","text":%q}`+"\n", want[len(want)-1])
		}
		go func() {
			_, err := ann.stdin.Write([]byte(lines.String()))
			wrote <- err
		}()
	}
	anns.fill()
	bot(count)
	ann.want("error", "code", "store_full")
	for i := range 5 {
		bob.want("message", "id", carol.say("#lab", "reliable", fmt.Sprint("are you there ", i)))
		whisper("reliable", fmt.Sprint("and you ", i), bob, carol)
	}
	if got := bob.texts("#lab", "ann"); len(got) > 0 {
		t.Errorf("bob sees %q, which is on no disk", got[0])
	}
	if rss := ann.resident(); rss > 400<<20 && !raceEnabled() {
		t.Errorf("ann takes %d MB", rss>>20)
	}
	anns.free()
	ann.want("notice", "code", "store_ok")
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	bob.sees("#lab", "ann", want)
	carol.sees("#lab", "ann", want)

	bobs.fill()
	// What he has on disk already has room for some more.
	for i := 0; i < 20 && len(bob.all("error", "code", "store_full")) == 0; i++ {
		bot(500)
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		carol.sees("#lab", "ann", want)
	}
	bob.want("error", "code", "store_full")
	whisper("reliable", "only bob has no room", ann, carol)
	bobs.free()
	bob.want("notice", "code", "store_ok")
	bob.sees("#lab", "ann", want)
}
