//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

// What the full screen is measured with.
const (
	uiChats    = 20
	uiEach     = 200 // messages in each chat, read once
	uiRate     = 1000
	uiKeyEvery = 250 * time.Millisecond
)

// benchUI measures the whole program at a terminal: its memory with twenty chats
// in which everything was read, what a thousand messages a second cost it, and
// how soon a key shows meanwhile.
func benchUI(ctx context.Context, b *bench) (err error) {
	c, err := openCrowd(ctx, b, 3)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.lab.Close()) }()
	bob, err := c.member(0)
	if err != nil {
		return err
	}
	ann, err := c.seat("h3", "ann")
	if err != nil {
		return err
	}
	defer ann.tty.Close()
	if err := ann.sees("you are ann on", "p0"); err != nil {
		return err
	}
	chat := func(n int) string { return fmt.Sprintf("#room%d", n) }
	for n := range uiChats {
		if _, err := fmt.Fprintf(bob.in, "/create %s\n", chat(n)); err != nil {
			return err
		}
		if _, err := bob.wait(chat(n), "created", time.Time{}); err != nil {
			return err
		}
		ann.press("/join " + chat(n))
		if err := ann.sees("/join " + chat(n)); err != nil {
			return err
		}
		ann.press("\r")
		if err := ann.sees("you joined " + chat(n) + ":"); err != nil {
			return err
		}
		for i := range uiEach {
			if err := speak(bob.in, chat(n), i); err != nil {
				return err
			}
		}
		if err := ann.sees(fmt.Sprintf("message %d of many", uiEach-1)); err != nil {
			return err
		}
		ann.press("\x1b[1;3H") // to the top, and what is older
		ann.press("\x1b[1;3F")
	}
	_, rss, err := usageOf(ann.pid)
	if err != nil {
		return err
	}
	say(fmt.Sprintf("%d chats of %d messages read", uiChats, uiEach), "%.1f MB (target 60 MB)", rss)

	// The flood, while somebody types.
	var keys []time.Duration
	before, _, err := usageOf(ann.pid)
	if err != nil {
		return err
	}
	begun := time.Now()
	spoken := make(chan error, 1)
	go func() {
		n := 0
		for elapsed := time.Duration(0); elapsed < b.each; elapsed = time.Since(begun) {
			for ; n < int(elapsed.Seconds()*uiRate); n++ {
				if err := speak(bob.in, chat(uiChats-1), n); err != nil {
					spoken <- err
					return
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
		spoken <- speak(bob.in, chat(uiChats-1), 1_000_000)
	}()
	typed := "> "
	for time.Since(begun) < b.each {
		time.Sleep(uiKeyEvery)
		at := time.Now()
		typed += string(rune('a' + len(keys)%26))
		ann.press(typed[len(typed)-1:])
		if err := ann.sees(typed); err != nil {
			return err
		}
		keys = append(keys, time.Since(at))
	}
	if err := <-spoken; err != nil {
		return err
	}
	if err := ann.sees("message 1000000 of many"); err != nil {
		return err
	}
	took := time.Since(begun)
	after, rss, err := usageOf(ann.pid)
	if err != nil {
		return err
	}
	say(fmt.Sprintf("%d messages a second, for %v", uiRate, b.each), "%.0f %% of a core (target 25 %%), all shown %v after the last was said, %.1f MB",
		100*(after-before).Seconds()/took.Seconds(), max(0, took-b.each).Round(10*time.Millisecond), rss)
	tell("a key shows, meanwhile: median, 90 %, most", keys)
	ann.press("\x03\x03\x03")
	return nil
}

// speak has a node say something of about a hundred bytes.
func speak(in io.Writer, chat string, n int) error {
	_, err := fmt.Fprintf(in, "{\"cmd\":\"say\",\"chat\":%q,\"text\":\"message %d of many: the **printer** works, see http://wiki.lan/printer for how it was mended\"}\n", chat, n)
	return err
}

// A seat is the real program at a terminal.
type seat struct {
	tty *os.File
	pid int

	mu       sync.Mutex
	changed  chan struct{}
	terminal *vt.Emulator
}

func (c *crowdLab) seat(host, name string) (*seat, error) {
	const width, height = 120, 40
	tty, line, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer line.Close()
	if err := pty.Setsize(tty, &pty.Winsize{Rows: height, Cols: width}); err != nil {
		return nil, err
	}
	s := &seat{tty: tty, changed: make(chan struct{}), terminal: vt.NewEmulator(width, height)}
	cmd := c.command(host, "node", "--data", filepath.Join(c.b.dir, name), "--register", "--user", name,
		"--password-file", filepath.Join(c.b.dir, "password"), "--trust", "first")
	cmd.Env = append(cmd.Env, "TERM=xterm-256color", "COLORTERM=truecolor")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = line, line, line
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.pid = cmd.Process.Pid
	go io.Copy(tty, s.terminal) // what a terminal answers when it is asked
	go func() {
		var buf [16 << 10]byte
		for {
			n, err := tty.Read(buf[:])
			s.mu.Lock()
			s.terminal.Write(buf[:n])
			close(s.changed)
			s.changed = make(chan struct{})
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s, nil
}

func (s *seat) press(keys string) { io.WriteString(s.tty, keys) }

// sees waits until the screen has all the words.
func (s *seat) sees(words ...string) error {
	deadline := time.After(crowdWait)
	for {
		s.mu.Lock()
		screen, changed := s.terminal.String(), s.changed
		s.mu.Unlock()
		missing := ""
		for _, w := range words {
			if !strings.Contains(screen, w) {
				missing = w
			}
		}
		if missing == "" {
			return nil
		}
		select {
		case <-changed:
		case <-deadline:
			return fmt.Errorf("the screen does not show %q:\n%s", missing, screen)
		}
	}
}
