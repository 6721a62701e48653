package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"lanchat/node/ui/theme"
	"lanchat/node/ui/view"
	"lanchat/wire/clean"
)

// ErrNoTerminal says that there is nobody to ask.
var ErrNoTerminal = errors.New("not a terminal")

// A Prompter asks the person at the terminal, before a face runs. Its methods may
// be called at the same time: one question waits for the other's answer.
type Prompter struct {
	in, out *os.File
	asking  sync.Mutex
}

// NewPrompter returns a Prompter for a terminal, [ErrNoTerminal] where one
// of the two is none.
func NewPrompter(in, out *os.File) (*Prompter, error) {
	if !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return nil, ErrNoTerminal
	}
	return &Prompter{in: in, out: out}, nil
}

// Say prints a line, or several, once no question is open.
func (p *Prompter) Say(text string) {
	p.asking.Lock()
	defer p.asking.Unlock()
	fmt.Fprintln(p.out, clean.Text(text, 0))
}

// Ask asks for a line and returns it without spaces around; an empty one is
// fallback. At the end of the input it returns io.EOF.
func (p *Prompter) Ask(ctx context.Context, question, fallback string) (string, error) {
	q := clean.Line(question, 0)
	if fallback != "" {
		q += " [" + clean.Line(fallback, 0) + "]"
	}
	p.asking.Lock()
	defer p.asking.Unlock()
	fmt.Fprint(p.out, q+": ")
	line, err := p.read(ctx, readLine)
	if err != nil {
		fmt.Fprintln(p.out)
		return "", err
	}
	if line = strings.TrimSpace(line); line == "" {
		line = fallback
	}
	return line, nil
}

// Confirm asks a question that is answered with yes or no; anything but a
// clear yes is no.
func (p *Prompter) Confirm(ctx context.Context, question string) (bool, error) {
	p.asking.Lock()
	defer p.asking.Unlock()
	fmt.Fprint(p.out, clean.Text(question, 0)+" [y/N] ")
	line, err := p.read(ctx, readLine)
	if err != nil {
		fmt.Fprintln(p.out)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

// AskPassword asks for a password without showing it. The terminal is silent
// before the question appears, so that nothing typed at once is shown either
// (term.ReadPassword is silent a moment too late). Ctrl+C returns [ErrQuit],
// Ctrl+D io.EOF.
func (p *Prompter) AskPassword(ctx context.Context, question string) (string, error) {
	return p.askSecret(ctx, question, nil)
}

func (p *Prompter) askSecret(ctx context.Context, question string, meter Meter) (string, error) {
	p.asking.Lock()
	defer p.asking.Unlock()
	fd := int(p.in.Fd())
	saved, err := term.MakeRaw(fd)
	if err != nil {
		return "", fmt.Errorf("reading a password: %w", err)
	}
	s := &secret{question: question, out: p.out, meter: meter}
	password, err := p.read(ctx, s.read)
	if ctx.Err() != nil {
		s.end()
	}
	if err := term.Restore(fd, saved); err != nil {
		return "", fmt.Errorf("restoring the terminal: %w", err)
	}
	return password, err
}

// NewPassword asks for a new password until it is good enough and typed twice
// alike. The meter is shown while the password is typed, or behind it where the
// terminal cannot draw a line anew.
func (p *Prompter) NewPassword(ctx context.Context, question string, meter Meter) (string, error) {
	return newPassword(p.Say, question, meter, theme.Terminal(p.out), func(question string, meter Meter) (string, error) {
		return p.askSecret(ctx, question, meter)
	})
}

// newPassword asks for a new password until it is good enough and typed twice
// alike; say tells what was wrong. ask shows the meter it is given; live says
// whether it can.
func newPassword(say func(string), question string, meter Meter, live bool, ask func(question string, meter Meter) (string, error)) (string, error) {
	shown := meter
	if !live {
		shown = nil
	}
	for {
		password, err := ask(question, shown)
		if err != nil {
			return "", err
		}
		score, advice := meter(password)
		weak := view.Weak(score, advice)
		if weak || !live {
			say(view.StrengthWords(score, advice))
		}
		if weak {
			say("please choose a stronger one: a few unrelated words do well")
			continue
		}
		again, err := ask("once more", nil)
		if err != nil {
			return "", err
		}
		if again == password {
			return password, nil
		}
		say("the two differ; please try again")
	}
}

// readLine reads to the end of the line and not a byte further: what is
// typed ahead belongs to whoever reads next.
func readLine(in io.Reader) (string, error) {
	var line []byte
	var b [1]byte
	for len(line) < 4096 {
		n, err := in.Read(b[:])
		if n == 0 && err == nil {
			continue
		}
		if err != nil {
			if errors.Is(err, io.EOF) && len(line) > 0 {
				break
			}
			return "", err
		}
		if b[0] == '\n' || b[0] == '\r' {
			break
		}
		line = append(line, b[0])
	}
	return clean.Line(string(line), 0), nil
}

// read reads what the person types until ctx ends; what comes later is left to
// whoever reads next, where reads can be ended.
func (p *Prompter) read(ctx context.Context, read func(io.Reader) (string, error)) (string, error) {
	in, err := cancelable(p.in)
	if err != nil {
		return "", fmt.Errorf("reading the terminal: %w", err)
	}
	defer in.Close()
	type answer struct {
		s   string
		err error
	}
	got := make(chan answer, 1)
	go func() {
		s, err := read(in)
		got <- answer{s, err}
	}()
	select {
	case a := <-got:
		return a.s, a.err
	case <-ctx.Done():
		if in.Cancel() {
			<-got
		}
		return "", context.Cause(ctx)
	}
}
