package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"lanchat/node/chat"
	"lanchat/node/host"
	"lanchat/node/ui"
	"lanchat/wire/clean"
	"lanchat/wire/private"
	"lanchat/wire/usage"
)

const (
	findAuthd = 10 * time.Second       // one-shot commands look that long
	settle    = 500 * time.Millisecond // without news of peers: everybody is there
	settled   = 3 * time.Second        // at the latest
)

// A session is a conversation with a node in events and commands: with the
// one that runs on the data directory, or with one inside this process.
type session struct {
	events  chan event
	out     *json.Encoder
	conn    io.Closer
	running bool       // a node ran already
	user    string     // who is logged in
	realm   string     // its name
	shutOut error      // authd does not take this device any more
	ended   chan error // the inner node's end
	cancel  context.CancelFunc
	refs    int
}

// An event is one line of the JSON stream, as far as one-shot commands look
// at it.
type event struct {
	Event  string          `json:"event"`
	Chat   string          `json:"chat"`
	ID     string          `json:"id"`
	Ref    string          `json:"ref"`
	Code   string          `json:"code"`
	Text   string          `json:"text"`
	Got    int             `json:"got"`
	Online int             `json:"online"`
	User   string          `json:"user"`
	Realm  string          `json:"realm"`
	Data   json.RawMessage `json:"data"`
	line   []byte
}

// connect begins a session; it is ready when connect returns. A node that
// holds the data directory and can't be talked to yet, or not any more, is
// another one-shot command that begins or ends. own says that the session is
// about what this device holds and about nothing else.
func (o *options) connect(ctx context.Context, own bool) (*session, error) {
	if err := o.sameUser(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(findAuthd); ; {
		s, err := o.attach(ctx)
		if s == nil && err == nil {
			s, err = o.inside(ctx, own)
		}
		if !errors.Is(err, private.ErrLocked) && !errors.Is(err, errNodeEnded) || time.Now().After(deadline) {
			return s, err
		}
		select {
		case <-time.After(connectAgain):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

const connectAgain = 50 * time.Millisecond

// errNodeEnded says that the running node ended under a session.
var errNodeEnded = errors.New("the running node ended")

// inside begins a session with a node inside this process.
func (o *options) inside(ctx context.Context, own bool) (*session, error) {
	ask, err := ui.NewPrompter(os.Stdin, os.Stdout)
	if err != nil {
		ask = nil
	}
	n, err := o.open(ask)
	if err != nil {
		return nil, err
	}
	n.config.Enter.Own = own
	n.patience = findAuthd
	s := &session{events: make(chan event, 256), ended: make(chan error, 1)}
	conn, inner := net.Pipe()
	face := ui.NewJSON(inner, inner)
	ctx, s.cancel = context.WithCancel(ctx)
	go func() {
		err := n.run(ctx, face)
		face.Close()
		n.close()
		inner.Close()
		s.ended <- err
	}()
	if err := s.begin(ctx, conn); err != nil {
		return nil, err
	}
	s.settle()
	return s, nil
}

// attach begins a session with the node that runs on the data directory; nil
// if none does.
func (o *options) attach(ctx context.Context) (*session, error) {
	conn, err := private.DialSocket(o.data, program)
	if err != nil {
		return nil, nil // none is running
	}
	s := &session{events: make(chan event, 256), running: true, cancel: func() {}}
	return s, s.begin(ctx, conn)
}

// begin waits until the node at the other end is ready.
func (s *session) begin(ctx context.Context, conn net.Conn) error {
	s.conn, s.out = conn, json.NewEncoder(conn)
	s.out.SetEscapeHTML(false)
	go s.read(conn)
	ready, err := s.wait(ctx, func(e event) bool { return e.Event == "ready" })
	if err != nil {
		s.close()
	}
	s.user, s.realm = ready.User, ready.Realm
	return err
}

func (s *session) read(r io.Reader) {
	defer close(s.events)
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		e := event{line: line}
		if json.Unmarshal(line, &e) == nil {
			s.events <- e
		}
	}
}

// settle waits until nobody new turns up. authd has been asked meanwhile if it
// is there, so whose device is shut out knows that.
func (s *session) settle() {
	deadline := time.After(settled)
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				return
			}
			if e.Event == "error" && (e.Code == "revoked" || e.Code == "not_authenticated") {
				s.shutOut = refusal(e)
				return
			}
		case <-time.After(settle):
			return
		case <-deadline:
			return
		}
	}
}

// wait returns the first event that is wanted. At the end of the session it
// returns why that ended.
func (s *session) wait(ctx context.Context, wanted func(event) bool) (event, error) {
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				return event{}, s.why()
			}
			if wanted(e) {
				return e, nil
			}
		case <-ctx.Done():
			return event{}, ctx.Err()
		}
	}
}

func (s *session) why() error {
	if s.running {
		return errNodeEnded
	}
	err := <-s.ended
	s.ended <- err
	return cmp.Or(err, errors.New("the node ended"))
}

// do sends a command object and returns its ref.
func (s *session) do(cmd map[string]any) (ref string, err error) {
	s.refs++
	ref = "cli-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(s.refs)
	cmd["ref"] = ref
	if err = s.out.Encode(cmd); err != nil {
		err = s.why() // more than that nobody reads any more
	}
	return ref, err
}

// ask types a line and returns the notice that answers it.
func (s *session) ask(ctx context.Context, line string) (event, error) {
	return s.order(ctx, map[string]any{"cmd": "do", "line": line})
}

// order gives a command object and returns the notice that answers it.
func (s *session) order(ctx context.Context, cmd map[string]any) (event, error) {
	ref, err := s.do(cmd)
	if err != nil {
		return event{}, err
	}
	e, err := s.wait(ctx, func(e event) bool { return e.Ref == ref && (e.Event == "notice" || e.Event == "error") })
	if err == nil && e.Event == "error" {
		err = refusal(e)
	}
	return e, err
}

// refusal is an error event as the end of the program.
func refusal(e event) error {
	x := &exitError{status: exitFailure, err: errors.New(e.Text)}
	switch e.Code {
	case "no_such_user", "no_such_room", "no_such_device":
		x.status = exitNoSuchTarget
	case "authd_away":
		x.status = exitNoAuthd
	case "bad_credentials", "name_taken", "bad_name", "weak_password", "rate_limited", "account_locked", "not_authenticated", "revoked":
		x.status = exitNotLoggedIn
	case "bad_argument", "too_long", "unknown_command":
		x.status = exitUsage
	}
	return x
}

// close ends the session; an inner node says goodbye.
func (s *session) close() {
	if !s.running {
		s.cancel()
		go func() { // so that the node is not held up by unread events
			for range s.events {
			}
		}()
		s.ended <- <-s.ended
	}
	s.conn.Close()
}

func (o *options) oneShots() []*cobra.Command {
	var timeout time.Duration
	send := &cobra.Command{
		Use: "send CHAT [TEXT…]", Short: "Sends one message, or each line of standard input, and exits", Args: usage.Args(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return o.send(args[0], args[1:], timeout) },
	}
	send.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to wait until everybody online has it")
	tail := &cobra.Command{
		Use: "tail [CHAT…]", Short: "Prints messages as they come",
		RunE: func(_ *cobra.Command, args []string) error { return o.tail(args) },
	}
	list := func(name, short string, first ui.Column) *cobra.Command {
		return &cobra.Command{
			Use: name, Short: short, Args: usage.Args(cobra.NoArgs),
			RunE: func(*cobra.Command, []string) error { return o.list("/"+name, false, first) },
		}
	}
	history := &cobra.Command{
		Use: "history CHAT", Short: "Prints the last messages of a chat", Args: usage.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkChat(args[0]); err != nil {
				return err
			}
			return o.list("/history "+args[0], true, ui.ColumnTime, ui.ColumnChat, ui.ColumnName)
		},
	}
	search := &cobra.Command{
		Use: "search TEXT", Short: "Prints the messages that contain a text", Args: usage.Args(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			text := strings.Join(args, " ")
			if strings.TrimSpace(text) == "" {
				return usage.Errorf("there is nothing to look for: node search TEXT")
			}
			return o.list("/search "+text, true, ui.ColumnTime, ui.ColumnChat, ui.ColumnName)
		},
	}
	return []*cobra.Command{send, tail, history, search, list("users", "Lists who is here", ui.ColumnName), list("rooms", "Lists which rooms there are", ui.ColumnChat)}
}

// list prints the answer to a question, about what this device holds or about
// others: nobody tells of those to a device that is shut out.
func (o *options) list(line string, own bool, columns ...ui.Column) error {
	ctx, stop := interruptible()
	defer stop()
	s, err := o.connect(ctx, own)
	if err != nil {
		return err
	}
	defer s.close()
	if !own && s.shutOut != nil {
		return s.shutOut
	}
	e, err := s.ask(ctx, line)
	if err != nil {
		return err
	}
	if o.json {
		_, err = fmt.Println(string(e.Data))
	} else {
		_, err = fmt.Println(ui.Answer(e.Text, columns...))
	}
	return err
}

// checkChat refuses what can't name a chat.
func checkChat(s string) error {
	if len(s) < 2 || s[0] != '#' && s[0] != '@' || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || clean.Forbidden(r) }) {
		return usage.Errorf("%q is no chat: write '#room' or '@user'", s)
	}
	return nil
}

// send sends text, or each line of standard input, to a chat.
func (o *options) send(to string, words []string, timeout time.Duration) error {
	if err := checkChat(to); err != nil {
		return err
	}
	if text := strings.Join(words, " "); len(words) > 0 && strings.TrimSpace(text) == "" {
		return usage.Errorf("there is nothing to send: node send %s TEXT", to)
	}
	if timeout < 0 {
		return usage.Errorf("--timeout %v: want a time that is not negative", timeout)
	}
	ctx, stop := interruptible()
	defer stop()
	s, err := o.connect(ctx, false)
	if err != nil {
		return err
	}
	defer s.close()
	if s.shutOut != nil {
		return s.shutOut
	}
	if len(words) > 0 {
		return s.say(ctx, to, strings.Join(words, " "), o.mode, timeout)
	}
	lines, end := inputLines(ctx)
	var worst error
	for {
		select {
		case line := <-lines:
			err := s.say(ctx, to, line, o.mode, timeout)
			if x, ok := errors.AsType[*exitError](err); err != nil && (!ok || x.status != exitUnconfirmed) {
				return err
			}
			worst = cmp.Or(err, worst)
		case err := <-end:
			return cmp.Or(err, worst)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inputLines returns the lines of standard input that are not empty and then, by
// end, why there are no more: nil at the end. Reading goes on by itself, as
// nothing interrupts it on a terminal.
func inputLines(ctx context.Context) (lines <-chan string, end <-chan error) {
	out, ended := make(chan string), make(chan error, 1)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			if strings.TrimSpace(in.Text()) == "" {
				continue
			}
			select {
			case out <- in.Text():
			case <-ctx.Done():
				return
			}
		}
		err := in.Err()
		if errors.Is(err, bufio.ErrTooLong) {
			err = errors.New("a line of standard input is longer than 1 MiB, and a message has at most 64 KiB: send it in parts")
		} else if err != nil {
			err = fmt.Errorf("reading standard input: %w", err)
		}
		ended <- err
	}()
	return out, ended
}

// say sends one message and waits until everybody who is online has it.
func (s *session) say(ctx context.Context, to, text, mode string, timeout time.Duration) error {
	ref, err := s.do(map[string]any{"cmd": "say", "chat": to, "text": text, "mode": mode})
	if err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	got, online, sent := 0, 1, ""
	late, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var refused error
	_, err = s.wait(late, func(e event) bool {
		switch {
		case e.Event == "error" && e.Ref == ref:
			refused = refusal(e)
			return true
		case e.Event == "sent" && e.Ref == ref:
			sent = e.ID
			if strings.HasPrefix(to, "#") {
				online = e.Online
			}
		case e.Event == "receipt" && e.ID == sent:
			got = max(got, e.Got)
		}
		return sent != "" && (mode == "fast" || got >= online)
	})
	switch {
	case refused != nil:
		return refused
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return &exitError{exitUnconfirmed, fmt.Errorf("sent to %s, not confirmed within %v: who is away gets it later", to, timeout)}
	}
	return err
}

// tail prints messages until it is interrupted.
func (o *options) tail(chats []string) error {
	for _, c := range chats {
		if err := checkChat(c); err != nil {
			return err
		}
	}
	ctx, stop := interruptible()
	defer stop()
	s, err := o.connect(ctx, false)
	if err != nil {
		return err
	}
	defer s.close()
	if s.shutOut != nil {
		return s.shutOut
	}
	for _, c := range chats {
		if _, err := s.ask(ctx, "/history "+c); err != nil {
			return err // there is no such chat
		}
	}
	var face host.Face
	if !o.json {
		line := ui.NewLine(ui.LineConfig{Out: os.Stdout})
		defer line.Close()
		face = line
	}
	_, err = s.wait(ctx, func(e event) bool {
		if e.Event != "message" || len(chats) > 0 && !slices.Contains(chats, e.Chat) {
			return false
		}
		if face == nil {
			os.Stdout.Write(e.line)
			return false
		}
		var m chat.Message
		if json.Unmarshal(e.line, &m) == nil {
			face.Show(m)
		}
		return false
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
