package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"lanchat/node/chat"
	"lanchat/wire/clean"
)

// stamp is RFC 3339 with milliseconds; always in UTC.
const stamp = "2006-01-02T15:04:05.000Z07:00"

// JSON is the face for programs: one event a line on the output, one command
// a line from the input.
//
// A line of input that begins with { is a command object, any other what a
// person would type. What is wrong with a line is answered with an error
// event and has no other effect.
type JSON struct {
	feed *feed
	in   io.Reader
}

var _ Face = (*JSON)(nil)

// NewJSON returns a face that reads from in (nil: no input, and no end of
// it) and writes to out. Close ends the goroutine it starts.
func NewJSON(in io.Reader, out io.Writer) *JSON {
	var buf []byte
	return &JSON{in: in, feed: newFeed(feedLimit, false, func(batch []item, _ int) error {
		buf = buf[:0]
		for _, it := range batch {
			buf = AppendJSON(buf, it.at, it.e)
		}
		_, err := out.Write(buf)
		return err
	})}
}

// Show implements [Face].
func (j *JSON) Show(e chat.Event) { j.feed.show(e) }

// Close implements [Face].
func (j *JSON) Close() error { return j.feed.close() }

// Run implements [Face].
func (j *JSON) Run(ctx context.Context, do func(chat.Command)) error {
	return j.feed.runLines(ctx, j.in, func(in input) {
		switch {
		case in.long:
			j.Show(tooLong(in.line))
		case len(bytes.TrimSpace(in.line)) == 0:
		case in.line[0] == '{':
			c, err := parseCommand(in.line)
			if err != nil {
				j.Show(chat.Error{Code: "bad_argument", Text: err.Error(), Ref: refOf(in.line)})
				return
			}
			do(c)
		default:
			do(chat.Command{Line: string(in.line)})
		}
	})
}

// tooLong is the answer to a line over maxInput, of which start is the
// beginning.
func tooLong(start []byte) chat.Error {
	e := chat.Error{
		Code: "too_long",
		Text: fmt.Sprintf("the line is longer than %d KiB and was ignored; a message has at most 64 KiB", maxInput>>10),
	}
	if len(start) > 0 && start[0] == '{' {
		e.Ref = refOf(start)
	}
	return e
}

// AppendJSON appends e as one line with its \n: the event's name, the time
// in UTC, then its fields, each of them present.
//
// Text stands in it as UTF-8. The runes that could steer a terminal, which
// JSON leaves alone (DEL, C1, bidirectional controls), are escaped: a program
// reads the same text, and a person who looks at the stream is safe.
func AppendJSON(b []byte, at time.Time, e chat.Event) []byte {
	fields, err := marshal(withLists(e))
	if err != nil { // only a Notice's Data can do that
		return AppendJSON(b, at, chat.Error{Code: "internal", Text: fmt.Sprintf("an event %q could not be written: %v", e.Name(), err)})
	}
	b = append(b, `{"event":"`...)
	b = append(b, e.Name()...)
	b = append(b, `","ts":"`...)
	b = at.UTC().AppendFormat(b, stamp)
	b = append(b, '"')
	if len(fields) > len("{}") {
		b = append(b, ',')
	}
	b = appendVisible(b, fields[1:])
	return append(b, '\n')
}

// marshal is json.Marshal without the escapes for HTML.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// withLists returns e with empty lists for nil ones, which JSON would call
// null.
func withLists(e chat.Event) chat.Event {
	list := func(s []string) []string {
		if s == nil {
			return []string{}
		}
		return s
	}
	switch e := e.(type) {
	case chat.Peer:
		e.Via = list(e.Via)
		return e
	case chat.Room:
		e.Members, e.Admins = list(e.Members), list(e.Admins)
		return e
	}
	return e
}

// appendVisible appends JSON with the runes escaped that clean forbids.
func appendVisible(b, js []byte) []byte {
	for len(js) > 0 {
		if js[0] < 0x7f {
			b = append(b, js[0])
			js = js[1:]
			continue
		}
		r, n := utf8.DecodeRune(js)
		switch {
		case !clean.Forbidden(r):
			b = append(b, js[:n]...)
		case r < 0x10000:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
		js = js[n:]
	}
	return b
}

// parseCommand reads a command object. Fields that the command does not have
// are refused: a misspelt "chat" must not send the text to another chat.
func parseCommand(line []byte) (chat.Command, error) {
	var o struct {
		Cmd  string  `json:"cmd"`
		Line *string `json:"line"`
		Text *string `json:"text"`
		Mode *string `json:"mode"`
		Chat string  `json:"chat"`
		Ref  string  `json:"ref"`

		Present *string `json:"present"`
		New     *string `json:"new"`
		SignOut *bool   `json:"sign_out"`
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it ends too early")
		}
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			want := "text in quotes"
			if wrong.Type.Kind() == reflect.Bool {
				want = "true or false"
			}
			return chat.Command{}, fmt.Errorf("in the field %q: want %s, got %s", strings.TrimPrefix(wrong.Field, "."), want, wrong.Value)
		}
		return chat.Command{}, fmt.Errorf("not a command object: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return chat.Command{}, errors.New("not a command object: there is something behind it")
	}
	c := chat.Command{Chat: o.Chat, Ref: o.Ref}
	if o.Cmd != "passwd" && (o.Present != nil || o.New != nil || o.SignOut != nil) {
		return chat.Command{}, errors.New(`"present", "new" and "sign_out" are fields of "passwd" only`)
	}
	switch o.Cmd {
	case "passwd":
		if o.Present == nil || o.New == nil || o.Text != nil || o.Line != nil || o.Mode != nil || o.Chat != "" {
			return chat.Command{}, errors.New(`"passwd" needs the fields "present" and "new", and has "sign_out" besides`)
		}
		c.Passwd = &chat.Passwd{Present: *o.Present, New: *o.New, SignOut: o.SignOut != nil && *o.SignOut}
	case "say":
		switch {
		case o.Line != nil:
			return chat.Command{}, errors.New(`"say" has no field "line"; did you mean "text"?`)
		case o.Text == nil || *o.Text == "":
			return chat.Command{}, errors.New(`"say" needs a field "text" that is not empty`)
		}
		c.Say, c.Text = true, *o.Text
		if o.Mode != nil && *o.Mode != "" {
			if _, ok := chat.ParseMode(*o.Mode); !ok {
				return chat.Command{}, fmt.Errorf("no such mode %q: reliable or fast", *o.Mode)
			}
			c.Mode = *o.Mode
		}
	case "do":
		switch {
		case o.Text != nil || o.Mode != nil:
			return chat.Command{}, errors.New(`"do" has no fields "text" and "mode"; the command goes into "line"`)
		case o.Line == nil || strings.TrimSpace(*o.Line) == "":
			return chat.Command{}, errors.New(`"do" needs a field "line" that is not empty`)
		}
		c.Line = *o.Line
	case "":
		return chat.Command{}, errors.New(`the field "cmd" is missing: "say", "do" or "passwd"`)
	default:
		return chat.Command{}, fmt.Errorf("no such command %q: \"say\", \"do\" or \"passwd\"", o.Cmd)
	}
	return c, nil
}

// refOf returns the "ref" of an object that may be broken further behind, or
// "".
func refOf(line []byte) string {
	dec := json.NewDecoder(bytes.NewReader(line))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return ""
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return ""
		}
		var ref string
		if key == "ref" && json.Unmarshal(value, &ref) == nil {
			return ref
		}
	}
	return ""
}
