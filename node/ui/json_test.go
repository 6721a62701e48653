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
	"testing"
	"testing/synctest"
	"time"

	"lanchat/node/chat"
)

var noon = time.Date(2025, 11, 24, 13, 2, 3, 4_560_000, time.FixedZone("CET", 3600))

// golden has every event with all its fields set and with none, and the line
// that scripts rely on.
var golden = []struct {
	e    chat.Event
	want string // behind "ts"
}{
	{chat.Ready{User: "ann", Device: "00112233aabbccdd", Realm: "LAB", Fingerprint: "ABCD-EFGH", Authd: "10.0.0.1:4747", MS: 12},
		`"user":"ann","device":"00112233aabbccdd","realm":"LAB","fingerprint":"ABCD-EFGH","authd":"10.0.0.1:4747","ms":12`},
	{chat.Ready{}, `"user":"","device":"","realm":"","fingerprint":"","authd":"","ms":0`},
	{chat.Authd{State: "down", Addr: "10.0.0.1:4747", Fingerprint: "ABCD"}, `"state":"down","addr":"10.0.0.1:4747","fingerprint":"ABCD"`},
	{chat.Authd{}, `"state":"","addr":"","fingerprint":""`},
	{chat.Peer{User: "bob", Device: "0011", State: "online", Cause: "hello", Via: []string{"multicast", "quic"}},
		`"user":"bob","device":"0011","state":"online","cause":"hello","via":["multicast","quic"]`},
	{chat.Peer{}, `"user":"","device":"","state":"","cause":"","via":[]`},
	{chat.Renamed{Old: "bob", New: "rob"}, `"old":"bob","new":"rob"`},
	{chat.Room{Chat: "#lab", Seq: 3, Epoch: 2, Members: []string{"ann", "bob"}, Admins: []string{"ann"}, Topic: "exam", Private: true, Cause: "joined", By: "ann", Whom: "bob", Ref: "r1"},
		`"chat":"#lab","seq":3,"epoch":2,"members":["ann","bob"],"admins":["ann"],"topic":"exam","private":true,"cause":"joined","by":"ann","whom":"bob","ref":"r1"`},
	{chat.Room{}, `"chat":"","seq":0,"epoch":0,"members":[],"admins":[],"topic":"","private":false,"cause":"","by":"","whom":""`},
	{chat.Message{ID: "m1", Chat: "#lab", From: "bob", Text: "hi <b> & 你 \"x\"\n\\", Mode: "fast", Replay: true, Edited: true, ReplyTo: "m0", Action: true, Late: true},
		`"id":"m1","chat":"#lab","from":"bob","text":"hi <b> & 你 \"x\"\n\\","mode":"fast","replay":true,"edited":true,"reply_to":"m0","action":true,"late":true`},
	{chat.Message{}, `"id":"","chat":"","from":"","text":"","mode":"","replay":false,"edited":false,"reply_to":""`},
	{chat.Sent{ID: "m1", Chat: "#lab", Mode: "reliable", Ref: "r1", Text: "not told", Action: true}, `"id":"m1","chat":"#lab","mode":"reliable","ref":"r1","online":0`},
	{chat.Receipt{ID: "m1", Chat: "#lab", By: "bob", Got: 1, Of: 3}, `"id":"m1","chat":"#lab","by":"bob","got":1,"of":3`},
	{chat.Receipt{}, `"id":"","chat":"","by":"","got":0,"of":0`},
	{chat.Gap{Chat: "#lab", From: "bob", Missing: 3, Healed: true, Mode: "reliable"}, `"chat":"#lab","from":"bob","missing":3,"healed":true,"mode":"reliable"`},
	{chat.Gap{}, `"chat":"","from":"","missing":0,"healed":false,"mode":""`},
	{chat.Notify{Chat: "@bob", ID: "m1", Why: "dm"}, `"chat":"@bob","id":"m1","why":"dm"`},
	{chat.Notice{Code: "users", Text: "bob\ncyd", Ref: "r1", Data: []string{"bob", "cyd"}}, `"code":"users","text":"bob\ncyd","ref":"r1","data":["bob","cyd"]`},
	{chat.Notice{}, `"code":"","text":""`},
	{chat.Error{Code: "no_such_user", Text: "nobody is called \"bo\"", Ref: "r1"}, `"code":"no_such_user","text":"nobody is called \"bo\"","ref":"r1"`},
	{chat.Error{}, `"code":"","text":"","ref":""`},
}

func TestAppendJSON(t *testing.T) {
	for _, tt := range golden {
		got := string(AppendJSON([]byte("x"), noon, tt.e))
		want := `x{"event":"` + tt.e.Name() + `","ts":"2025-11-24T12:02:03.004Z",` + tt.want + "}\n"
		if got != want {
			t.Errorf("%T:\n got %s\nwant %s", tt.e, got, want)
		}
		if !json.Valid([]byte(got[1:])) {
			t.Errorf("%T: not JSON: %s", tt.e, got)
		}
	}
}

// A program must get the text as it is; a terminal must not obey it.
func TestJSONIsHarmlessAndLossless(t *testing.T) {
	text := "a\x1b[2J\x7f\u009b31m\u202eb\U000e0041\u2028👩\u200d👧 é"
	line := AppendJSON(nil, noon, chat.Message{Text: text})
	for _, bad := range []string{"\x1b", "\x7f", "\u009b", "\u202e", "\U000e0041", "\u2028"} {
		if bytes.Contains(line, []byte(bad)) {
			t.Errorf("%q stands raw in %q", bad, line)
		}
	}
	if !bytes.Contains(line, []byte("👩\u200d👧 é")) {
		t.Errorf("harmless text is escaped: %q", line)
	}
	var m chat.Message
	if err := json.Unmarshal(line, &m); err != nil || m.Text != text {
		t.Errorf("got %q, %v, want %q", m.Text, err, text)
	}
}

func TestAppendJSONBadData(t *testing.T) {
	got := string(AppendJSON(nil, noon, chat.Notice{Code: "x", Data: func() {}}))
	if !strings.HasPrefix(got, `{"event":"error","ts":"2025-11-24T12:02:03.004Z","code":"internal"`) || !json.Valid([]byte(got)) {
		t.Errorf("got %s", got)
	}
}

type past struct {
	chat.Message
	at time.Time
}

func (p past) When() time.Time { return p.at }

func TestWhen(t *testing.T) {
	old := noon.Add(-24 * time.Hour)
	if got := when(past{at: old}, noon); !got.Equal(old) {
		t.Errorf("an event of the past is dated %v", got)
	}
	if got := when(past{}, noon); !got.Equal(noon) {
		t.Errorf("an event without a time is dated %v", got)
	}
	if got := when(chat.Message{}, noon); !got.Equal(noon) {
		t.Errorf("a message is dated %v", got)
	}
}

var commands = []struct {
	line string
	want chat.Command
	err  string // part of the error's text, "" if there is none
	ref  string // of the error
}{
	{`{"cmd":"say","chat":"#lab","text":"hi","mode":"fast","ref":"r1"}`, chat.Command{Say: true, Text: "hi", Chat: "#lab", Mode: "fast", Ref: "r1"}, "", ""},
	{`{"cmd":"say","text":"/hi"}`, chat.Command{Say: true, Text: "/hi"}, "", ""},
	{`{"cmd":"say","text":"a\nb","mode":""}`, chat.Command{Say: true, Text: "a\nb"}, "", ""},
	{`{"cmd":"do","line":"/kick bob","chat":"#lab","ref":"r2"}`, chat.Command{Line: "/kick bob", Chat: "#lab", Ref: "r2"}, "", ""},
	{` {"cmd":"say"`, chat.Command{Line: ` {"cmd":"say"`}, "", ""}, // does not begin with {
	{`hello`, chat.Command{Line: "hello"}, "", ""},
	{`/join #lab`, chat.Command{Line: "/join #lab"}, "", ""},
	{`//x`, chat.Command{Line: "//x"}, "", ""},
	{`"quoted"`, chat.Command{Line: `"quoted"`}, "", ""},

	{`{"cmd":"shout","text":"hi","ref":"r3"}`, chat.Command{}, `no such command "shout"`, "r3"},
	{`{"text":"hi","ref":"r4"}`, chat.Command{}, `"cmd" is missing`, "r4"},
	{`{}`, chat.Command{}, `"cmd" is missing`, ""},
	{`{`, chat.Command{}, "ends too early", ""},
	{`{"ref":"r5","cmd":"say","text":"hi"`, chat.Command{}, "ends too early", "r5"},
	{`{"cmd":"say","ref":"r6","text":"hi",}`, chat.Command{}, "not a command object", "r6"},
	{`{"cmd":"say","text":"hi"} {"cmd":"quit"}`, chat.Command{}, "something behind", ""},
	{`{"cmd":"say","text":"hi"}]`, chat.Command{}, "something behind", ""},
	{`{"cmd":"say","txt":"hi","ref":"r7"}`, chat.Command{}, `"txt"`, "r7"},
	{`{"cmd":"say","room":"#lab","text":"hi","ref":"r8"}`, chat.Command{}, `"room"`, "r8"},
	{`{"cmd":"say","ref":"r9"}`, chat.Command{}, `"text"`, "r9"},
	{`{"cmd":"say","text":"","ref":"r9"}`, chat.Command{}, `"text"`, "r9"},
	{`{"cmd":"say","text":null}`, chat.Command{}, `"text"`, ""},
	{`{"cmd":"say","text":5,"ref":"r10"}`, chat.Command{}, `in the field "text": want text in quotes, got number`, "r10"},
	{`{"cmd":"say","text":"hi","mode":"quick"}`, chat.Command{}, `"quick"`, ""},
	{`{"cmd":"say","text":"hi","line":"/x"}`, chat.Command{}, `"line"`, ""},
	{`{"cmd":"do","text":"/x"}`, chat.Command{}, `"line"`, ""},
	{`{"cmd":"do","line":" "}`, chat.Command{}, `"line"`, ""},
	{`{"cmd":"do","line":"/x","mode":"fast"}`, chat.Command{}, `"mode"`, ""},
	{`{"cmd":"do","line":"/x","ref":7}`, chat.Command{}, `in the field "ref": want text in quotes, got number`, ""},
	{`{"cmd":["say"]}`, chat.Command{}, `in the field "cmd": want text in quotes, got array`, ""},
	{`{"cmd":"passwd","sign_out":"yes"}`, chat.Command{}, `in the field "sign_out": want true or false, got string`, ""},
}

func TestCommands(t *testing.T) {
	for _, tt := range commands {
		t.Run(tt.line, func(t *testing.T) {
			done, shown := runJSON(t, tt.line+"\n")
			if tt.err == "" {
				if len(done) != 1 || done[0] != tt.want || len(shown) != 0 {
					t.Errorf("got %+v and %v, want %+v", done, shown, tt.want)
				}
				return
			}
			if len(done) != 0 || len(shown) != 1 {
				t.Fatalf("got %+v and %v, want an error only", done, shown)
			}
			if e := shown[0]; e["event"] != "error" || e["code"] != "bad_argument" || e["ref"] != tt.ref ||
				!strings.Contains(e["text"].(string), tt.err) {
				t.Errorf("got %v, want %q with ref %q", e, tt.err, tt.ref)
			}
		})
	}
}

// runJSON runs a JSON face over input and returns what it did and showed.
func runJSON(t *testing.T, input string) (done []chat.Command, shown []map[string]any) {
	t.Helper()
	var out bytes.Buffer
	j := NewJSON(strings.NewReader(input), &out)
	if err := j.Run(t.Context(), func(c chat.Command) { done = append(done, c) }); err != io.EOF {
		t.Errorf("Run returned %v, want io.EOF", err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for line := range strings.Lines(out.String()) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		shown = append(shown, e)
	}
	return done, shown
}

func TestLongLines(t *testing.T) {
	fits := strings.Repeat("x", maxInput)
	in := "one\r\n\n" + fits + "\n" + fits + "\r\n" +
		fits + "x\n" +
		`{"ref":"big","cmd":"say","text":"` + strings.Repeat("y", 3*maxInput) + "\"}\n" +
		"last"
	done, shown := runJSON(t, in)
	want := []chat.Command{{Line: "one"}, {Line: fits}, {Line: fits}, {Line: "last"}}
	if !reflect.DeepEqual(done, want) {
		t.Errorf("got %d commands, want %d", len(done), len(want))
		for _, c := range done {
			t.Logf("%.20q, %d bytes", c.Line, len(c.Line))
		}
	}
	if len(shown) != 2 || shown[0]["code"] != "too_long" || shown[1]["code"] != "too_long" || shown[0]["ref"] != "" || shown[1]["ref"] != "big" {
		t.Errorf("got %v", shown)
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, tt := range commands {
		f.Add([]byte(tt.line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := parseCommand(line)
		refOf(line)
		if err != nil {
			if (c != chat.Command{}) {
				t.Fatalf("%q is refused (%v) and yet read as %+v", line, err, c)
			}
			return
		}
		o := map[string]string{"cmd": "do", "chat": c.Chat, "ref": c.Ref, "line": c.Line}
		if c.Say {
			o = map[string]string{"cmd": "say", "chat": c.Chat, "ref": c.Ref, "text": c.Text, "mode": c.Mode}
		}
		again, _ := json.Marshal(o)
		if c2, err := parseCommand(again); err != nil || c2 != c {
			t.Fatalf("%q is %+v, written as %s it is %+v, %v", line, c, again, c2, err)
		}
		if got := refOf(again); got != c.Ref {
			t.Fatalf("%s: ref %q, want %q", again, got, c.Ref)
		}
	})
}

// A script that stops reading must not hold the core up, and must not miss
// events unawares.
func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		inR, inW := io.Pipe()
		j := NewJSON(inR, pw)
		j.feed.limit = 1 << 20
		ended := make(chan error)
		go func() { ended <- j.Run(t.Context(), func(chat.Command) {}) }()
		for i := range 5000 { // never blocks: the test would deadlock
			j.Show(chat.Message{ID: fmt.Sprint(i), Text: strings.Repeat("x", 1000)})
		}
		if err := <-ended; !errors.Is(err, ErrStalled) {
			t.Errorf("Run returned %v, want ErrStalled", err)
		}
		if err := j.Close(); !errors.Is(err, ErrStalled) {
			t.Errorf("Close returned %v, want ErrStalled", err)
		}
		pr.Close()
		inW.Close()
	})
}

// A terminal that stands still loses the oldest events, and is told how many.
func TestLossyFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10_000
		gate := make(chan struct{})
		var got []string
		dropped := 0
		f := newFeed(1<<20, true, func(batch []item, d int) error {
			<-gate
			dropped += d
			for _, it := range batch {
				got = append(got, it.e.(chat.Renamed).Old)
			}
			return nil
		})
		for i := range n {
			f.show(chat.Renamed{Old: fmt.Sprint(i)})
		}
		close(gate)
		if err := f.close(); err != nil {
			t.Error(err)
		}
		if dropped == 0 || len(got)+dropped != n {
			t.Errorf("%d were written and %d dropped, want %d together", len(got), dropped, n)
		}
		if last := got[len(got)-1]; last != fmt.Sprint(n-1) {
			t.Errorf("the last one written is %s", last)
		}
	})
}

// Close waits as long as a slow reader gets on, and not for one that does
// not.
func TestCloseDrains(t *testing.T) {
	const n = 1000
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		j := NewJSON(nil, pw)
		for range n {
			j.Show(chat.Renamed{Old: "a", New: "b"})
		}
		lines := make(chan int)
		go func() {
			got := 0
			buf := make([]byte, 8<<10)
			for {
				k, err := pr.Read(buf)
				got += bytes.Count(buf[:k], []byte("\n"))
				if err != nil {
					lines <- got
					return
				}
				time.Sleep(time.Second / 4)
			}
		}()
		if err := j.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		pw.Close()
		if got := <-lines; got != n {
			t.Errorf("%d events arrived, want %d", got, n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		j := NewJSON(nil, pw)
		j.Show(chat.Renamed{})
		if err := j.Close(); !errors.Is(err, ErrStalled) {
			t.Errorf("Close returned %v, want ErrStalled", err)
		}
		pr.Close()
	})
}

func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("the reason")
		ctx, cancel := context.WithCancelCause(t.Context())
		inR, inW := io.Pipe()
		j := NewJSON(inR, io.Discard)
		cancel(why)
		if err := j.Run(ctx, func(chat.Command) {}); err != why {
			t.Errorf("Run returned %v, want the context's cause", err)
		}
		inW.Close()

		pr, pw := io.Pipe()
		pr.Close()
		broken := NewJSON(nil, pw)
		broken.Show(chat.Renamed{})
		if err := broken.Run(t.Context(), func(chat.Command) {}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Run returned %v, want the output's error", err)
		}
		j.Close()
		broken.Close()
		broken.Show(chat.Renamed{}) // after Close: nothing happens
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	m := chat.Message{ID: "0123456789abcdef", Chat: "#lab", From: "bob", Text: strings.Repeat("some text ", 20), Mode: "reliable"}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendJSON(buf[:0], noon, m)
	}
}
