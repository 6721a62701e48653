package chat_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// rename gives a person another name, as authd and the links do.
func (l *lan) rename(n *node, name string) {
	l.t.Helper()
	t := *n.token
	t.Name, t.NameSeq, t.Leaf = name, t.NameSeq+1, []byte("token of "+name)
	n.token = &t
	n.core.HandleToken(l.now, &t)
	for _, to := range l.nodes {
		if n.links[to] {
			to.core.HandlePeerToken(l.now, &t)
		}
	}
	l.settle()
}

// authdAnswers answers the one request that waits.
func (n *node) authdAnswers(a chat.AuthdAnswer) chat.AskAuthd {
	n.l.t.Helper()
	if len(n.requests) != 1 {
		n.l.t.Fatalf("%s asks authd for %+v, want one thing", n.name, n.requests)
	}
	q := n.requests[0]
	n.requests = nil
	n.core.HandleAuthdAnswer(n.l.now, q.Question, a)
	n.l.settle()
	return q
}

// last returns the newest notice of a code.
func (n *node) notice(code string) chat.Notice {
	n.l.t.Helper()
	for _, e := range slices.Backward(shown[chat.Notice](n)) {
		if e.Code == code {
			return e
		}
	}
	n.l.t.Fatalf("%s was shown no notice %q: %+v", n.name, code, n.events)
	return chat.Notice{}
}

func TestRenamed(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat").stored(t).room("#lab")
	ann, bob, cat := l.nodes[0], l.nodes[1], l.nodes[2]
	bob.do("/msg ann before", "/mute @ann", "/dm ann")
	ann.say("@bob", "reliable", "unread so far")
	unread := func(name string) (k int) {
		_, _, data := bob.answer("/chats")
		for _, s := range data.([]chat.Summary) {
			if s.Chat == name {
				k = s.Unread
			}
		}
		return k
	}
	if got := unread("@ann"); got != 1 {
		t.Errorf("%d messages are unread before", got)
	}
	l.unlink(ann, cat)
	l.clear()
	l.rename(ann, "anna")
	for _, n := range []*node{ann, bob} {
		if got := shown[chat.Renamed](n); !slices.Equal(got, []chat.Renamed{{Old: "ann", New: "anna"}}) {
			t.Errorf("%s: got %+v", n.name, got)
		}
	}
	if got := shown[chat.Renamed](cat); len(got) != 0 {
		t.Errorf("cat, who has no link: got %+v", got)
	}

	// Everywhere by both names, rooms and chats as before.
	if got, old := unread("@anna"), unread("@ann"); got != 1 || old != 0 {
		t.Errorf("%d messages are unread under the new name, %d under the old one", got, old)
	}
	bob.do("/users", "/whois anna", "/names #lab")
	for _, code := range []string{"users", "whois", "names"} {
		if got := bob.notice(code).Text; !strings.Contains(got, "anna (was ann)") {
			t.Errorf("/%s: %q", code, got)
		}
	}
	ann.do("/users")
	if got := ann.notice("users").Text; !strings.HasPrefix(got, "anna (was ann)  you\n") {
		t.Errorf("/users of ann: %q", got)
	}
	l.clear()
	bob.do("still here") // the chat that was open
	ann.say("#lab", "reliable", "hello")
	if got := ann.texts("@bob", "bob"); !slices.Equal(got, []string{"still here"}) {
		t.Errorf("ann got %q", got)
	}
	if got := bob.texts("#lab", "anna"); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("bob got %q", got)
	}
	ann.say("@bob", "reliable", "psst")
	if got := bob.texts("@anna", "anna"); !slices.Equal(got, []string{"psst"}) {
		t.Errorf("bob got %q", got)
	}
	for _, e := range shown[chat.Notify](bob) {
		if e.Chat != "#lab" {
			t.Errorf("a muted chat rings: %+v", e)
		}
	}

	// The old name leads to the new one, and nowhere else.
	l.clear()
	bob.do("/msg @ann hi")
	if e := shown[chat.Error](bob); len(e) != 1 || e[0].Code != "no_such_user" || !strings.Contains(e[0].Text, "ann is called anna now") {
		t.Errorf("got %+v", e)
	}

	// A restart keeps it, for seven days and not longer.
	l.clear()
	l.now = l.now.Add(3 * 24 * time.Hour)
	bob.start()
	l.link(ann, bob)
	if got := shown[chat.Peer](bob); len(got) == 0 || got[0].User != "anna" || got[0].Was != "ann" {
		t.Errorf("after a restart: got %+v", got)
	}
	bob.do("/users", "/msg ann hi")
	if got := bob.notice("users").Text; !strings.Contains(got, "anna (was ann)  online") {
		t.Errorf("after a restart: %q", got)
	}
	if e := shown[chat.Error](bob); len(e) != 1 || !strings.Contains(e[0].Text, "anna") {
		t.Errorf("after a restart: got %+v", e)
	}
	l.now = l.now.Add(4 * 24 * time.Hour)
	bob.do("/users")
	if got := bob.notice("users").Text; strings.Contains(got, "was ann") {
		t.Errorf("after seven days: %q", got)
	}

	// Who was away hears of it when they meet.
	l.clear()
	l.link(ann, cat)
	if got := shown[chat.Renamed](cat); !slices.Equal(got, []chat.Renamed{{Old: "ann", New: "anna"}}) {
		t.Errorf("cat: got %+v", got)
	}
}

// "Highest name_seq wins": tokens of a person's other devices, and late ones,
// say the old name for a month; it stays the old one. A name that was given up
// belongs to who carries it now.
func TestHighestNameSeqWins(t *testing.T) {
	l := newLAN(t, "ann", "bob", "cat")
	for _, n := range l.nodes[1:] {
		l.link(l.nodes[0], n)
	}
	ann, bob, cat := l.nodes[0], l.nodes[1], l.nodes[2]
	old := *bob.token
	l.rename(bob, "bert")
	l.clear()
	other := old // bob's other device
	other.Device, other.Key = wire.DeviceID{9}, wire.DeviceKey{9}
	ann.core.LinkUp(l.now, &other, nil)
	ann.core.HandlePeerToken(l.now, &old)
	l.settle()
	if got := shown[chat.Renamed](ann); len(got) != 0 {
		t.Errorf("renamed back: %+v", got)
	}
	ann.do("/whois bert")
	if got := ann.notice("whois").Text; strings.Count(got, "device ") != 2 {
		t.Errorf("bert has not both devices: %q", got)
	}
	// Two at once: the later number counts, in whatever order they come.
	for _, seq := range []uint64{4, 3} {
		tok := *bob.token
		tok.Name, tok.NameSeq = fmt.Sprintf("bert%d", seq), seq
		ann.core.HandlePeerToken(l.now, &tok)
	}
	l.settle()
	ann.do("/whois bert4")
	if got := ann.notice("whois").Text; !strings.HasPrefix(got, "bert4 (was bert)") {
		t.Errorf("got %q", got)
	}

	l.rename(cat, "bob") // after the quarantine
	l.clear()
	ann.say("@bob", "reliable", "hi")
	if got := cat.texts("@ann", "ann"); !slices.Equal(got, []string{"hi"}) || len(shown[chat.Error](ann)) > 0 {
		t.Errorf("cat, who is bob now, got %q; ann %+v", got, shown[chat.Error](ann))
	}
}

func TestNick(t *testing.T) {
	l := newLAN(t, "ann", "bob").room("#lab")
	ann := l.nodes[0]
	l.clear()
	ann.do("/nick anna", "while it waits")
	if len(ann.texts("#lab", "ann")) != 0 || len(shown[chat.Sent](ann)) != 0 {
		t.Error("the next command did not wait")
	}
	token := *ann.token
	token.Name, token.NameSeq = "anna", 2
	ann.core.HandleToken(l.now, &token)
	if q := ann.authdAnswers(chat.AuthdAnswer{}); q.Rename != "anna" {
		t.Errorf("asked for %+v", q)
	}
	if got := ann.notice("renamed").Text; !strings.Contains(got, "anna") || !strings.Contains(got, "ann is") && !strings.Contains(got, "name ann") {
		t.Errorf("got %q", got)
	}
	if len(shown[chat.Sent](ann)) != 1 {
		t.Error("what waited was not sent")
	}
	l.clear()
	ann.do("/nick bob")
	ann.authdAnswers(chat.AuthdAnswer{Error: &chat.Error{Code: "name_taken", Text: "choose another"}})
	if e := shown[chat.Error](ann); len(e) != 1 || e[0].Code != "name_taken" || e[0].Text != "choose another" {
		t.Errorf("got %+v", e)
	}
	ann.do("/users")
	if got := ann.notice("users").Text; !strings.HasPrefix(got, "anna (was ann)  you") {
		t.Errorf("got %q", got)
	}
}

func TestPasswd(t *testing.T) {
	l := newLAN(t, "ann")
	ann := l.nodes[0]
	ann.do("/passwd")
	if e := shown[chat.Error](ann); len(e) != 1 || !strings.Contains(e[0].Text, "node passwd") || len(ann.requests) > 0 {
		t.Errorf("typed: got %+v", e)
	}
	p := chat.Passwd{Present: "old secret", New: "new secret", SignOut: true}
	cmd := chat.Command{Passwd: &p, Ref: "r"}
	ann.core.Do(l.now, cmd)
	l.settle()
	if q := ann.authdAnswers(chat.AuthdAnswer{}); q.Passwd == nil || *q.Passwd != p {
		t.Errorf("asked for %+v", q)
	}
	if n := ann.notice("password_changed"); n.Ref != "r" || !strings.Contains(n.Text, "shut out") {
		t.Errorf("got %+v", n)
	}
	if s := fmt.Sprintf("%v %+v %#v %s %+v", p, p, p, p, cmd); strings.Contains(s, "secret") {
		t.Errorf("a password is printed: %s", s)
	}
}

func TestSessions(t *testing.T) {
	l := newLAN(t, "ann")
	ann := l.nodes[0]
	here := ann.token.Device
	ann.do("/sessions")
	ann.authdAnswers(chat.AuthdAnswer{Devices: []chat.AccountDevice{
		{ID: here, Name: "laptop", Created: l.now, Ends: l.now},
		{ID: wire.DeviceID{1}, Name: "ph\x1b[31mone", Created: l.now, Ends: l.now, Revoked: true},
	}})
	n := ann.notice("sessions")
	list, ok := n.Data.([]chat.Session)
	if !ok || len(list) != 2 || !list[0].Self || list[1].Self || !list[1].Revoked || list[1].Device != "0100000000000000" {
		t.Errorf("got %+v", n.Data)
	}
	if strings.Contains(n.Text+fmt.Sprint(list), "\x1b") {
		t.Errorf("a name is shown raw: %q", n.Text)
	}
	if lines := strings.Split(n.Text, "\n"); len(lines) != 2 || !strings.Contains(lines[0], "this device") || !strings.Contains(lines[1], "revoked") {
		t.Errorf("got %q", n.Text)
	}
	ann.do("/sessions revoke 0100000000000000")
	if q := ann.authdAnswers(chat.AuthdAnswer{}); q.Revoke != (wire.DeviceID{1}) {
		t.Errorf("asked for %+v", q)
	}
	if !strings.Contains(ann.notice("revoked").Text, "0100000000000000") {
		t.Error("it is not said which device was revoked")
	}
	l.clear()
	ann.do("/sessions revoke", "/sessions revoke xyz", "/sessions drop 0100000000000000")
	if e := shown[chat.Error](ann); len(e) != 3 || e[0].Code != "bad_argument" || e[1].Code != "bad_argument" || len(ann.requests) > 0 {
		t.Errorf("got %+v", e)
	}
}

func TestCommandOf(t *testing.T) {
	for line, want := range map[string]string{
		"/passwd": "passwd [] ", "/PASSW --sign-out-others": "passwd [--sign-out-others]", " /nick anna": "nick [anna]",
		"//passwd": "", "passwd": "", "/pa": "", "/nosuch": "", "": "", "/": "",
	} {
		name, args := chat.CommandOf(line)
		if got := fmt.Sprint(name, args); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want+map[bool]string{true: "[]"}[want == ""], " ", "") {
			t.Errorf("%q: got %s, want %s", line, got, want)
		}
	}
}
