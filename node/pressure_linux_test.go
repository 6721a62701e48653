package main_test

import (
	"fmt"
	"os"
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
