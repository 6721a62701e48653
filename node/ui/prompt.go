package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"lanchat/wire/clean"
)

// ErrNoTerminal says that there is nobody to ask.
var ErrNoTerminal = errors.New("not a terminal")

// MinStrength is the score a new password needs, out of 4.
const MinStrength = 3

// A Prompter asks the person at the terminal, before a face runs.
type Prompter struct {
	in, out *os.File
}

// NewPrompter returns a Prompter for a terminal, [ErrNoTerminal] where one
// of the two is none.
func NewPrompter(in, out *os.File) (*Prompter, error) {
	if !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return nil, ErrNoTerminal
	}
	return &Prompter{in, out}, nil
}

// Say prints a line, or several.
func (p *Prompter) Say(text string) {
	fmt.Fprintln(p.out, clean.Text(text, 0))
}

// Ask asks for a line and returns it without spaces around; an empty one is
// fallback. At the end of the input it returns io.EOF.
func (p *Prompter) Ask(ctx context.Context, question, fallback string) (string, error) {
	q := clean.Line(question, 0)
	if fallback != "" {
		q += " [" + clean.Line(fallback, 0) + "]"
	}
	fmt.Fprint(p.out, q+": ")
	line, err := await(ctx, p.readLine)
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
	fmt.Fprint(p.out, clean.Text(question, 0)+" [y/N] ")
	line, err := await(ctx, p.readLine)
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
	fd := int(p.in.Fd())
	saved, err := term.MakeRaw(fd)
	if err != nil {
		return "", fmt.Errorf("reading a password: %w", err)
	}
	password, err := await(ctx, func() (string, error) {
		return term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{oneByOne{p.in}, p.out}, "").ReadPassword(clean.Line(question, 0) + ": ")
	})
	if err != nil {
		io.WriteString(p.out, "\r\n")
	}
	if err := term.Restore(fd, saved); err != nil {
		return "", fmt.Errorf("restoring the terminal: %w", err)
	}
	return password, err
}

// oneByOne reads no further than asked for by a reader that looks at every
// byte: what is typed ahead belongs to the next question. Ctrl+C is its error.
type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(b []byte) (int, error) {
	n, err := o.r.Read(b[:min(1, len(b))])
	if n == 1 && b[0] == ctrlC {
		return 0, ErrQuit
	}
	return n, err
}

// NewPassword asks for a new password until it is good enough and typed
// twice alike. meter returns zxcvbn's score (0 to 4) and what would make the
// password better; nil takes any.
func (p *Prompter) NewPassword(ctx context.Context, question string, meter func(password string) (score int, advice string)) (string, error) {
	for {
		password, err := p.AskPassword(ctx, question)
		if err != nil {
			return "", err
		}
		if meter != nil {
			score, advice := meter(password)
			p.Say(strengthWords(score, advice))
			if score < MinStrength {
				p.Say("please choose a stronger one: a few unrelated words do well")
				continue
			}
		}
		again, err := p.AskPassword(ctx, "once more")
		if err != nil {
			return "", err
		}
		if again == password {
			return password, nil
		}
		p.Say("the two differ; please try again")
	}
}

// readLine reads to the end of the line and not a byte further: what is
// typed ahead belongs to whoever reads next.
func (p *Prompter) readLine() (string, error) {
	var line []byte
	var b [1]byte
	for len(line) < 4096 {
		n, err := p.in.Read(b[:])
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

// await runs read, which cannot be interrupted, and stops waiting for it
// when ctx ends.
func await(ctx context.Context, read func() (string, error)) (string, error) {
	type answer struct {
		s   string
		err error
	}
	got := make(chan answer, 1)
	go func() {
		s, err := read()
		got <- answer{s, err}
	}()
	select {
	case a := <-got:
		return a.s, a.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
