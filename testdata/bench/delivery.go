//go:build linux

package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lanchat/testdata/lan/emu"
)

// The benchmark of delivery: one sender and some receivers, each a process on a
// host of its own in an emulated LAN on which every receiver loses packets by
// its own dice. The node's engine (real core, real sockets, every packet signed
// and encrypted, no disk) stands beside raw multicast in the same run, direct
// messages beside bare quic-go, and whole nodes, from a line on one's standard
// input to the event on the other's standard output, by themselves.
func benchDelivery(ctx context.Context, b *bench) error {
	receivers, losses := []int{4}, []float64{0, 5, 20}
	if b.full {
		receivers, losses = []int{1, 4, 8}, []float64{0, 1, 5, 20}
	}
	for _, n := range receivers {
		if err := b.rooms(n, losses); err != nil {
			return err
		}
	}
	if err := b.directs(losses); err != nil {
		return err
	}
	return b.wholeNodes([]float64{0, 20})
}

// A stage is an emulated LAN on which h1 talks and the others listen.
type stage struct {
	lab *emu.Lab
	dir string
}

// A part is one participant.
type part struct {
	cmd   *emu.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
}

func (b *bench) stage(receivers int) (*stage, error) {
	lab, err := emu.Open(emu.Config{Hosts: emu.Hosts(1 + receivers)})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "stage-")
	return &stage{lab: lab, dir: dir}, err
}

// impair has every receiver lose this percentage of what comes to it.
func (s *stage) impair(loss float64) {
	for _, h := range s.lab.Hosts()[1:] {
		h.Impair(emu.Link{Loss: loss})
	}
}

// run starts a process on a host.
func (s *stage) run(h *emu.Host, env []string, args ...string) (*part, error) {
	p := &part{cmd: h.Command(args[0], args[1:]...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = os.Stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReaderSize(out, 1<<20)
	return p, p.cmd.Start()
}

func (b *bench) helperOn(s *stage, h *emu.Host, name string, args ...string) (*part, error) {
	profile := ""
	if b.profile != "" {
		profile = filepath.Join(b.profile, strings.Join([]string{name, filepath.Base(args[0]), filepath.Base(s.dir), h.Name()}, "-")+".pprof")
	}
	p, err := s.run(h, []string{helperVar + "=" + name}, append(append([]string{"/proc/self/exe"}, args...), profile)...)
	if err != nil {
		return nil, err
	}
	_, err = p.out.ReadString('\n')
	return p, err
}

// ask sends a line and returns the answer.
func (p *part) ask(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(p.stdin, format+"\n", args...); err != nil {
		return "", err
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return "", err
	}
	if e, bad := strings.CutPrefix(line, "error "); bad {
		return "", errors.New(strings.TrimSpace(e))
	}
	return strings.TrimSpace(line), nil
}

func (p *part) report() (r report, err error) {
	line, err := p.ask("report")
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(line), &r)
}

func (p *part) end() {
	p.stdin.Close()
	p.cmd.Wait()
}

// A cast is a sender and its receivers, of one kind.
type cast struct {
	s    *stage
	all  []*part
	kind string
}

// cast starts participants and has them meet.
func (b *bench) cast(s *stage, kind string) (c *cast, err error) {
	c = &cast{s: s, kind: kind}
	hosts := s.lab.Hosts()
	authd := hosts[0].Port(0).IPv4().Addr().String() + ":4747"
	for i, h := range hosts {
		p, err := b.helperOn(s, h, "talk", kind, s.dir, fmt.Sprintf("p%d", i+1), authd)
		if err != nil {
			return nil, fmt.Errorf("%s on %s: %w", kind, h.Name(), err)
		}
		c.all = append(c.all, p)
	}
	for _, p := range c.all {
		if kind == "engine" {
			if _, err := p.ask("meet %d", len(c.all)-1); err != nil {
				return nil, err
			}
		}
	}
	for i, p := range c.all {
		switch {
		case kind == "engine" && i == 0:
			_, err = p.ask("/create #bench")
		case kind == "engine":
			_, err = p.ask("/join #bench")
		case i > 0 && kind != "raw":
			_, err = c.all[0].ask("dial %s:%d", hosts[i].Port(0).IPv4().Addr(), barePort)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, p := range c.all {
		if kind == "engine" {
			if _, err := p.ask("await %d", len(c.all)); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

func (c *cast) end() {
	for _, p := range c.all {
		p.end()
	}
}

// An outcome is what one run came to: the worst of all receivers.
type outcome struct {
	delivered     float64 // of all messages
	p50, p99, max time.Duration
	perMessage    float64 // packets on the sender's link
	rate          float64 // messages a second at the slowest receiver
	twice         int
	sender        time.Duration // processor time a message
	receiver      time.Duration // likewise, of the receiver that takes most
}

// cpu says what a message costs.
func (r outcome) cpu() string {
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return fmt.Sprintf("cpu/message %.1f µs sender, %.1f µs receiver", us(r.sender), us(r.receiver))
}

func (r outcome) String() string {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	s := fmt.Sprintf("%.4f  p50 %6.2f  p99 %7.2f  max %7.2f ms  %.2f packets", r.delivered, ms(r.p50), ms(r.p99), ms(r.max), r.perMessage)
	if r.twice > 0 {
		s += fmt.Sprintf("  %d shown twice", r.twice)
	}
	return s
}

// measure has the sender talk and waits until nothing comes any more: a while
// for what is sent once, longer for what is repaired and not there yet, since who
// asks in vain asks ever less often.
func (c *cast) measure(to, mode string, rate, count int) (r outcome, err error) {
	total := make([]report, len(c.all))
	for i, p := range c.all {
		if total[i], err = p.report(); err != nil {
			return r, err
		}
		total[i] = report{CPU: total[i].CPU}
	}
	port := c.s.lab.Hosts()[0].Port(0)
	before := port.Stats()
	if _, err = c.all[0].ask("say %s %s %d %d", to, mode, rate, count); err != nil {
		return r, err
	}
	all := func() bool {
		return !slices.ContainsFunc(total[1:], func(t report) bool { return t.Got < count })
	}
	for idle := 0; idle < 4 || mode == "reliable" && idle < 80 && !all(); idle++ {
		time.Sleep(150 * time.Millisecond)
		for i, p := range c.all[1:] {
			got, err := p.report()
			if err != nil {
				return r, err
			}
			if got.Got > 0 {
				idle = -1
			}
			t := &total[1+i]
			t.Got, t.Twice, t.Took = t.Got+got.Got, t.Twice+got.Twice, append(t.Took, got.Took...)
			if got.Got > 0 {
				t.First, t.Last = cmp.Or(t.First, got.First), got.Last
			}
		}
	}
	after := port.Stats()
	r.delivered, r.rate = 1, 1e12
	for i, p := range c.all {
		now, err := p.report()
		if err != nil {
			return r, err
		}
		if cpu := (now.CPU - total[i].CPU) / time.Duration(count); i == 0 {
			r.sender = cpu
		} else {
			r.receiver = max(r.receiver, cpu)
		}
	}
	for _, t := range total[1:] {
		r.delivered = min(r.delivered, float64(t.Got)/float64(count))
		r.p50, r.p99 = max(r.p50, percentile(t.Took, 0.5)), max(r.p99, percentile(t.Took, 0.99))
		r.max = max(r.max, percentile(t.Took, 1))
		r.twice += t.Twice
		if span := time.Duration(t.Last - t.First); span > 0 {
			r.rate = min(r.rate, float64(t.Got)/span.Seconds())
		}
	}
	r.perMessage = float64(after.Sent.Frames+after.Received.Frames-before.Sent.Frames-before.Received.Frames) / float64(count)
	return r, nil
}

// rooms measures rooms with so many receivers.
func (b *bench) rooms(receivers int, losses []float64) error {
	s, err := b.stage(receivers)
	if err != nil {
		return err
	}
	defer s.lab.Close()
	authd, err := b.helperOn(s, s.lab.Hosts()[0], "authd", filepath.Join(s.dir, "authd"), "0.0.0.0:4747")
	if err != nil {
		return err
	}
	defer authd.end()
	engine, err := b.cast(s, "engine")
	if err != nil {
		return err
	}
	defer engine.end()
	plain, err := b.cast(s, "raw")
	if err != nil {
		return err
	}
	defer plain.end()
	seconds := max(int(b.each.Seconds())/2, 1)
	for _, loss := range losses {
		s.impair(loss)
		fmt.Printf("\n  a room with %d receivers, %v %% lost, %d bytes\n", receivers, loss, messageSize)
		base, err := plain.measure("#bench", "fast", 1000, 1000*seconds)
		if err != nil {
			return err
		}
		say("raw multicast, 1,000 messages/s", "%v", base)
		reliable, err := engine.measure("#bench", "reliable", 1000, 1000*seconds)
		if err != nil {
			return err
		}
		say("reliable", "%v  (p50 %.2f × raw)  %s", reliable, ratio(reliable.p50, base.p50), reliable.cpu())
		fast, err := engine.measure("#bench", "fast", 400, 400*seconds)
		if err != nil {
			return err
		}
		say("fast, 400 messages/s", "%v  (p50 %.2f × raw)", fast, ratio(fast.p50, base.p50))
		flat, err := engine.measure("#bench", "reliable", 0, 30_000*seconds)
		if err != nil {
			return err
		}
		say("reliable, as fast as it goes", "%.4f  %.0f messages/s to each  %.2f packets  %s", flat.delivered, flat.rate, flat.perMessage, flat.cpu())
	}
	return nil
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }

// directs measures direct messages beside bare quic-go.
func (b *bench) directs(losses []float64) error {
	s, err := b.stage(1)
	if err != nil {
		return err
	}
	defer s.lab.Close()
	authd, err := b.helperOn(s, s.lab.Hosts()[0], "authd", filepath.Join(s.dir, "authd"), "0.0.0.0:4747")
	if err != nil {
		return err
	}
	defer authd.end()
	engine, err := b.cast(s, "engine")
	if err != nil {
		return err
	}
	defer engine.end()
	seconds := max(int(b.each.Seconds())/2, 1)
	for _, kind := range []struct{ bare, mode string }{{"stream", "reliable"}, {"datagram", "fast"}} {
		bare, err := b.cast(s, kind.bare)
		if err != nil {
			return err
		}
		for _, loss := range losses {
			s.impair(loss)
			base, err := bare.measure("@p2", kind.mode, 1000, 1000*seconds)
			if err != nil {
				return err
			}
			ours, err := engine.measure("@p2", kind.mode, 1000, 1000*seconds)
			if err != nil {
				return err
			}
			fmt.Printf("\n  direct messages, 1,000/s, %v %% lost\n", loss)
			say("bare quic-go "+kind.bare, "%v", base)
			say(kind.mode, "%v  (p50 %.2f × bare)", ours, ratio(ours.p50, base.p50))
		}
		s.impair(0)
		bare.end()
	}
	return nil
}

// wholeNodes measures node processes as a person has them: from the line on
// one's standard input to the event on the other's standard output, both stores
// with their commits in between.
func (b *bench) wholeNodes(losses []float64) error {
	program := filepath.Join(b.dir, "node")
	if out, err := exec.Command("go", "build", "-o", program, "./node").CombinedOutput(); err != nil {
		return fmt.Errorf("building node: %w\n%s", err, out)
	}
	s, err := b.stage(1)
	if err != nil {
		return err
	}
	defer s.lab.Close()
	hosts := s.lab.Hosts()
	authd, err := b.helperOn(s, hosts[0], "authd", filepath.Join(s.dir, "authd"), "0.0.0.0:4747")
	if err != nil {
		return err
	}
	defer authd.end()
	password := filepath.Join(s.dir, "password")
	if err := os.WriteFile(password, []byte("vexed-otter-plinth\n"), 0o600); err != nil {
		return err
	}
	var nodes []*part
	for i, h := range hosts {
		p, err := s.run(h, []string{"HOME=" + s.dir}, program, "--json", "--data", filepath.Join(s.dir, fmt.Sprint("node", i)), "--user", fmt.Sprintf("p%d", i+1),
			"--password-file", password, "--register", "--trust", "first", "--authd", hosts[0].Port(0).IPv4().Addr().String()+":4747")
		if err != nil {
			return err
		}
		defer p.end()
		nodes = append(nodes, p)
	}
	events := make(chan event, 1<<16)
	for i, p := range nodes {
		go func() {
			for {
				line, err := p.out.ReadBytes('\n')
				if err != nil {
					return
				}
				e := event{node: i, at: time.Now()}
				if json.Unmarshal(line, &e) == nil {
					events <- e
				}
			}
		}()
	}
	until := func(what string, ok func(e event) bool) error {
		for end := time.After(20 * time.Second); ; {
			select {
			case e := <-events:
				if ok(e) {
					return nil
				}
			case <-end:
				return fmt.Errorf("%s: not within 20 s", what)
			}
		}
	}
	steps := []struct {
		what string
		node int
		line string
		ok   func(event) bool
	}{
		{"seeing each other", -1, "", func(e event) bool { return e.Event == "peer" && e.State == "online" }},
		{"making a room", 0, "/create #bench", func(e event) bool { return e.Event == "room" }},
		{"joining it", 1, "/join #bench", func(e event) bool { return e.node == 1 && e.Event == "room" && len(e.Members) == 2 }},
	}
	for _, step := range steps {
		if step.node >= 0 {
			fmt.Fprintln(nodes[step.node].stdin, step.line)
		}
		if err := until(step.what, step.ok); err != nil {
			return err
		}
	}
	for _, loss := range losses {
		s.impair(loss)
		fmt.Printf("\n  whole nodes, %v %% lost: from one's standard input to the other's standard output, 100 messages/s\n", loss)
		for _, chat := range []string{"#bench", "@p2"} {
			count := max(int(100*b.each.Seconds()), 100)
			var took []time.Duration
			sent := map[string]time.Time{}
			collect := func(wait time.Duration) {
				for end := time.After(wait); len(took) < count; {
					select {
					case e := <-events:
						if begun, mine := sent[e.Text]; mine && e.node == 1 && e.Event == "message" {
							took = append(took, e.at.Sub(begun))
							delete(sent, e.Text)
						}
					case <-end:
						return
					}
				}
			}
			for i := range count {
				text := fmt.Sprintf("%s %v %d", chat, loss, i)
				sent[text] = time.Now()
				if _, err := fmt.Fprintf(nodes[0].stdin, `{"cmd":"say","chat":%q,"text":%q}`+"\n", chat, text); err != nil {
					return err
				}
				collect(10 * time.Millisecond)
			}
			collect(5 * time.Second)
			slices.Sort(took)
			say(chat+", reliable", "%v", outcome{delivered: float64(len(took)) / float64(count), p50: percentile(took, 0.5), p99: percentile(took, 0.99), max: percentile(took, 1)})
		}
	}
	return nil
}

// An event is what a node prints.
type event struct {
	node    int
	at      time.Time
	Event   string   `json:"event"`
	State   string   `json:"state"`
	Text    string   `json:"text"`
	Members []string `json:"members"`
}
