package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"lanchat/wire"
	"lanchat/wire/clean"
	"lanchat/wire/words"
)

// How long history is kept, and how it leaves the program.

// An Export asks the host to write the history of a chat to a file that is not
// there yet; it answers by HandleExported.
type Export struct {
	Chat ChatID
	File string
	JSON bool   // an object a line, else text
	name string // of the chat
	ref  string
}

func (Export) send() {}

// Line returns a message as it stands in the file.
func (e *Export) Line(m *SaveMessage) []byte {
	text := clean.Text(m.Text, 0)
	if e.JSON {
		b, err := json.Marshal(Past{ID: m.ID.String(), At: m.At.UTC().Truncate(time.Second), Chat: e.name, From: clean.Line(m.From, wire.MaxNameHint),
			Text: text, Mode: m.Mode.String(), Own: m.Own, Action: m.Action, Read: m.Read, ReplyTo: m.ReplyTo.String(),
			Edited: m.Edited || m.Deleted, Deleted: m.Deleted})
		if err != nil {
			panic(fmt.Sprintf("chat: writing a message as JSON: %v", err)) // nothing in it can fail
		}
		return append(b, '\n')
	}
	switch {
	case m.Deleted:
		text = "(deleted)"
	case m.Edited:
		text += " (edited)"
	}
	if m.Action {
		text = "* " + text
	}
	return fmt.Appendf(nil, "%s %s: %s\n", m.At.Format("2006-01-02 15:04:05"), clean.Line(m.From, wire.MaxNameHint), strings.ReplaceAll(text, "\n", "\n    "))
}

func (c *Core) doExport(k *call) {
	e := Export{File: k.args[len(k.args)-1], ref: k.ref}
	if strings.ContainsFunc(e.File, clean.Forbidden) {
		c.refuse(k.ref, "bad_argument", "%q has characters that nobody sees: choose another file name", e.File)
		return
	}
	chat, ok := k.chat, false
	e.JSON = strings.HasSuffix(strings.ToLower(e.File), ".json")
	for _, a := range k.args[:len(k.args)-1] {
		switch {
		case strings.IndexAny(a, "#@") == 0:
			chat = a
		case strings.EqualFold(a, "json"), strings.EqualFold(a, "text"):
			e.JSON = strings.EqualFold(a, "json")
		default:
			c.refuse(k.ref, "bad_argument", "%q is neither a chat nor json nor text: /export #lab json lab.json", a)
			return
		}
	}
	if e.Chat, e.name, ok = c.chatOf(chat, k.ref); ok {
		c.lookUp(e)
	}
}

// HandleExported says what became of an export: how many messages are in which
// file.
func (c *Core) HandleExported(e Export, file string, n int, err error) {
	c.awaited--
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			c.refuse(e.ref, "failed", "there is a file %s already: choose another name", e.File)
			return
		}
		c.refuse(e.ref, "failed", "exporting %s: %v", e.name, err)
		return
	}
	c.show(Notice{Code: "exported", Text: fmt.Sprintf("%s holds %s of %s", file, words.Count(n, "message", "messages"), e.name), Ref: e.ref,
		Data: map[string]any{"chat": e.name, "file": file, "messages": n}})
}

// A Sweep asks the host to forget history, a little at a time: of one chat, or
// what is older than a time, or the oldest beyond a size. HandleSwept answers.
type Sweep struct {
	Chat   ChatID    // of this chat, all; zero: of all chats …
	Before time.Time // … what came before this
	Bytes  int64     // … or what is beyond so many bytes of the database
	name   string
	ref    string
}

func (Sweep) send() {}

// doForget forgets the history of a chat, here and nowhere else.
func (c *Core) doForget(k *call) {
	id, name, ok := c.chatOf(k.args[0], k.ref)
	if ok {
		c.lookUp(Sweep{Chat: id, name: name, ref: k.ref})
	}
}

// HandleSwept says how many messages are forgotten.
func (c *Core) HandleSwept(q Sweep, n int, err error) {
	if q.name != "" { // a command waits for it
		c.awaited--
	}
	switch {
	case err != nil:
		c.refuse(q.ref, "failed", "forgetting old messages: %v", err)
	case q.name != "":
		c.show(Notice{Code: "forgotten", Text: fmt.Sprintf("%s of %s forgotten on this device; others still have theirs", words.Count(n, "message", "messages"), q.name), Ref: q.ref,
			Data: map[string]any{"chat": q.name, "messages": n}})
	}
}

const (
	sweepFirst = time.Minute // after the start
	sweepEvery = time.Hour
)

// sweep has what is beyond the person's "/set retention" forgotten, and again
// from time to time.
func (c *Core) sweep(now time.Time) {
	c.sweepOnce(now)
	c.after(now, sweepEvery, c.sweep)
}

func (c *Core) sweepOnce(now time.Time) {
	age, bytes, err := parseRetention(c.personal["set/retention"])
	switch {
	case err != nil: // off
	case age > 0:
		c.send(Sweep{Before: now.Add(-age)})
	case bytes > 0:
		c.send(Sweep{Bytes: bytes})
	}
}

// parseRetention reads "90d" or "1GB".
func parseRetention(s string) (age time.Duration, bytes int64, err error) {
	for unit, size := range map[string]int64{"mb": 1 << 20, "gb": 1 << 30} {
		if digits, ok := strings.CutSuffix(strings.ToLower(s), unit); ok {
			n, err := strconv.ParseInt(digits, 10, 32)
			if err != nil || n <= 0 {
				return 0, 0, fmt.Errorf("%q is no size", s)
			}
			return 0, n * size, nil
		}
	}
	age, err = parseDuration(s)
	return age, 0, err
}

// checkRetention says what is wrong with a value of "/set retention".
func checkRetention(s string) error {
	if s == "off" {
		return nil
	}
	if _, _, err := parseRetention(s); err != nil {
		return fmt.Errorf("retention is a time such as 90d, a size such as 1GB, or off, not %q", s)
	}
	return nil
}
