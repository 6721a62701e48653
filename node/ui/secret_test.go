package ui

import (
	"io"
	"os"
	"strings"
	"testing"

	"lanchat/node/chat"
)

// byLength is a meter that counts.
func byLength(password string) (int, string) {
	if n := len([]rune(password)); n < 12 {
		return n / 4, "longer"
	}
	return 4, ""
}

func TestSecretKeys(t *testing.T) {
	for _, tt := range []struct {
		typed, want string
		err         error
	}{
		{"secret\r", "secret", nil},
		{"secret\n", "secret", nil},
		{"sex\x7fcret\r", "secret", nil},
		{"Kü\x08ü\r", "Kü", nil},
		{"\x7f\x08a\r", "a", nil},
		{"wrong\x15right\r", "right", nil},
		{"wrong one\x17right\r", "right", nil},
		{"a\x1b[Db\x1bOAc\x1b[3~d\r", "abcd", nil},
		{"\x1b[200~pasted\x1b[201~\r", "pasted", nil},
		{"a\x00\x01\tb\r", "ab", nil},
		{"a\x04b\r", "ab", nil},
		{"a\x03", "", ErrQuit},
		{"a\x1d", "", ErrQuit},
		{"\x04", "", io.EOF},
		{"cut", "", io.EOF},
		{strings.Repeat("x", maxSecret+5) + "\r", strings.Repeat("x", maxSecret), nil},
	} {
		for _, meter := range []Meter{nil, byLength} {
			var out strings.Builder
			s := &secret{question: "q", out: &out, meter: meter}
			in := strings.NewReader(tt.typed + "rest")
			if tt.typed == "cut" {
				in = strings.NewReader(tt.typed)
			}
			got, err := s.read(in)
			if got != tt.want || err != tt.err {
				t.Errorf("%q: got %q, %v, want %q, %v", tt.typed, got, err, tt.want, tt.err)
			}
			if rest, _ := io.ReadAll(in); err == nil && string(rest) != "rest" {
				t.Errorf("%q: %q is left for the next reader", tt.typed, rest)
			}
			if !strings.HasSuffix(out.String(), "\r\n") {
				t.Errorf("%q: the line is not ended: %q", tt.typed, out.String())
			}
		}
	}
}

// The meter follows every key, and nothing of the password is drawn.
func TestMeterIsLive(t *testing.T) {
	t.Setenv("TERM", "xterm")
	s, tty := openPTY(t)
	p, err := NewPrompter(tty, tty)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() {
		pw, err := p.NewPassword(t.Context(), "new", byLength)
		if err != nil {
			t.Error(err)
		}
		got <- pw
	}()
	shown := s.wait("new: ")
	s.press("zzzz")
	shown += s.wait("new: [#---] weak")
	s.press("zzzz")
	shown += s.wait("new: [##--] fair")
	s.press("\x7f")
	shown += s.wait("new: [#---] weak")
	s.press("\r")
	shown += s.wait("strength: weak; longer")
	shown += s.wait("new: ")
	s.press("zzzzzzzzzzzz")
	shown += s.wait("new: [####] strong")
	s.press("\r")
	shown += s.wait("once more: ")
	s.press("zzzzzzzzzzzz\r")
	if pw := <-got; pw != "zzzzzzzzzzzz" {
		t.Errorf("got %q", pw)
	}
	if strings.Contains(shown, "z") {
		t.Errorf("the password is drawn: %q", shown)
	}
}

// /passwd asks without showing anything; what comes in meanwhile is shown, and
// what follows is read as lines again.
func TestPasswdOnTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	s, tty := openPTY(t)
	line := NewLine(LineConfig{In: tty, Out: tty, Meter: byLength})
	did, ended := make(chan chat.Command, 10), make(chan error, 1)
	go func() {
		ended <- line.Run(t.Context(), func(c chat.Command) {
			if c.Ref != refOwn {
				did <- c
			}
		})
	}()
	shown := s.wait("> ")
	s.press("/passw --sign-out-others\r")
	s.wait("Present password: ")
	line.Show(chat.Message{Chat: "#lab", From: "bob", Text: "hi", Mode: "reliable"})
	shown += s.wait("bob: hi")
	shown += s.wait("Present password: ") // drawn again below
	s.press("zzzzz zz\rzzzzzzzzzzzzz\r")
	shown += s.wait("New password: [####] strong")
	shown += s.wait("once more: ")
	s.press("zzzzzzzzzzzzz\r")
	c := <-did
	if c.Passwd == nil || *c.Passwd != (chat.Passwd{Present: "zzzzz zz", New: "zzzzzzzzzzzzz", SignOut: true}) || c.Line != "" {
		t.Errorf("got %+v", c.Passwd)
	}
	shown += s.wait("> ")
	s.press("hello\r")
	if c := <-did; c.Line != "hello" || c.Passwd != nil {
		t.Errorf("got %+v, want the line after it", c)
	}
	shown += s.wait("hello")
	if strings.Contains(shown, "z") {
		t.Errorf("a password is drawn: %q", shown)
	}

	// Ctrl+C leaves everything as it is. What was typed ahead of the question
	// answers it; no part of it is sent.
	s.press("/passwd\rtyped ahead\r")
	s.wait("New password: ")
	s.press("\x03")
	s.wait("your password stays as it is")
	s.press("bye\r")
	if c := <-did; c.Line != "bye" {
		t.Errorf("got %+v", c)
	}
	s.press("\x04")
	if err := <-ended; err != io.EOF {
		t.Errorf("Run returned %v", err)
	}
	if err := line.Close(); err != nil {
		t.Error(err)
	}
}

// Where nothing can be asked for, /passwd is the core's to answer.
func TestPasswdWithoutTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	line := NewLine(LineConfig{In: r, Meter: byLength})
	defer line.Close()
	io.WriteString(w, "/passwd\n")
	w.Close()
	var got []chat.Command
	if err := line.Run(t.Context(), func(c chat.Command) { got = append(got, c) }); err != io.EOF {
		t.Errorf("Run returned %v", err)
	}
	if len(got) != 1 || got[0].Line != "/passwd" || got[0].Passwd != nil {
		t.Errorf("got %+v", got)
	}
}
