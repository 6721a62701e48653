package chat_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/node/room"
	"lanchat/node/store"
	"lanchat/wire"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata/scenario")

// The files of testdata/scenario are dialogues: what is done stands at the
// margin, and behind it, indented, what everybody is shown because of it.
// The second is compared with what happens, and rewritten by
//
//	go test ./node/chat -run TestScenarios -update
//
// to be read as a difference before it is kept. Receipts, rings and who is
// online are left out.
//
//	people ann bob cat     ann2 is a second device of ann
//	members ann bob cat    people, of whom ann has made #lab and the others joined
//	ann: /kick bob         ann types that; text goes to the chat that is open
//	wait 5s                time passes
//	cut ann bob | cat      the LAN falls apart; who is in no part is alone
//	heal                   and is whole again
//	kill cat · quit cat    a power cut; a goodbye
//	start cat              with what is on cat's disk
//	backup cat             a copy of that disk
//	restore cat            cat's disk is that copy: kill before, start after
//	x = cat signs KICK bob behind y to ann bob
//	                       a modified node signs what its rules may not allow,
//	                       behind an entry with a name or a number (the last
//	                       it has), and hands it to some (to everybody);
//	                       "again to": hands the entry x to others
//	state                  what everybody has
//	agree ann bob          that these have the same; all if none is named
//
// A line with "--" is a remark.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("../../testdata/scenario/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s is another story now (-update rewrites it):\n%s", file, difference(string(want), got))
			}
		})
	}
}

// difference shows the first lines in which two texts differ.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	i := 0
	for i < len(w) && i < len(g) && w[i] == g[i] {
		i++
	}
	from, b := max(0, i-6), &strings.Builder{}
	for _, side := range []struct {
		name  string
		lines []string
	}{{"want", w}, {"got", g}} {
		fmt.Fprintf(b, "%s, from line %d:\n%s\n", side.name, from+1, strings.Join(side.lines[min(from, len(side.lines)):min(i+8, len(side.lines))], "\n"))
	}
	return b.String()
}

// A stage is where a scenario is played.
type stage struct {
	*lan
	t       *testing.T
	parts   map[*node]int // part of the LAN each is in
	copies  map[string]chat.State
	entries map[string]*wire.Entry
	out     bytes.Buffer
}

const theRoom = "#lab" // of state, agree and signs

// play carries out what stands at the margin and returns the whole text.
func play(t *testing.T, text string) string {
	s := &stage{t: t, parts: map[*node]int{}, copies: map[string]chat.State{}, entries: map[string]*wire.Entry{}}
	blank := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "    "):
			continue
		case line == "":
			blank = true
			continue
		}
		if blank {
			s.out.WriteByte('\n')
			blank = false
		}
		s.out.WriteString(line + "\n")
		if !strings.HasPrefix(line, "--") {
			s.step(line)
		}
	}
	return s.out.String()
}

func (s *stage) step(line string) {
	s.t.Helper()
	words := strings.Fields(line)
	if who, said, ok := strings.Cut(line, ": "); ok && !strings.Contains(who, " ") {
		s.one(who).do(said)
		s.tell()
		return
	}
	if s.lan != nil && len(words) > 1 && words[1] == "signs" {
		words = append([]string{"x", "="}, words...)
	}
	switch {
	case words[0] == "people" || words[0] == "members":
		s.lan = newLAN(s.t, words[1:]...).stored(s.t)
		s.fate = func(from, to *node, _ []byte) []time.Duration {
			if from.dead || to.dead || s.parts[from] != s.parts[to] {
				return nil
			}
			return []time.Duration{time.Millisecond}
		}
		if words[0] == "members" {
			for i, n := range s.nodes {
				n.do([]string{"/create ", "/join "}[min(i, 1)] + theRoom)
				s.pass(10 * time.Millisecond)
			}
			s.clear()
		}
	case words[0] == "wait":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.pass(d)
	case words[0] == "cut":
		for i, n := range s.nodes {
			s.parts[n] = -i - 1
		}
		for i, part := range strings.Split(line[len("cut "):], "|") {
			for _, name := range strings.Fields(part) {
				s.parts[s.one(name)] = i + 1
			}
		}
		s.relink()
	case words[0] == "heal":
		clear(s.parts)
		s.relink()
	case words[0] == "kill":
		s.one(words[1]).dead = true
		s.relink()
	case words[0] == "quit":
		s.quit(s.one(words[1]))
	case words[0] == "start":
		n := s.one(words[1])
		n.dead = false
		n.start()
		s.relink()
	case words[0] == "backup":
		n := s.one(words[1])
		state, err := n.store.Load()
		if err != nil {
			s.t.Fatal(err)
		}
		s.copies[n.name] = state
	case words[0] == "restore":
		s.restore(s.one(words[1]))
	case words[0] == "state":
		for _, n := range s.nodes {
			if !n.dead {
				text := s.has(n)
				if log := n.core.Log(theRoom); log != nil && len(log.Equivocations()) > 0 {
					text += fmt.Sprintf(", %d signed twice", len(log.Equivocations()))
				}
				fmt.Fprintf(&s.out, "    %-5s %s\n", n.name, text)
			}
		}
	case words[0] == "agree":
		s.agree(words[1:])
	case len(words) > 3 && words[1] == "=" && words[3] == "signs":
		s.entries[words[0]] = s.sign(s.one(words[2]), words[4:])
	case len(words) > 2 && words[1] == "again":
		s.hand(s.entries[words[0]], words[3:])
	default:
		s.t.Fatalf("no such step: %s", line)
	}
	s.settle()
	s.tell()
}

func (s *stage) one(name string) *node {
	i := slices.IndexFunc(s.nodes, func(n *node) bool { return n.name == name })
	if i < 0 {
		s.t.Fatalf("nobody is called %q", name)
	}
	return s.nodes[i]
}

// relink has those linked who can reach each other.
func (s *stage) relink() {
	for i, a := range s.nodes {
		for _, b := range s.nodes[:i] {
			reach := !a.dead && !b.dead && s.parts[a] == s.parts[b]
			switch {
			case reach && !a.links[b]:
				s.link(a, b)
			case !reach && a.links[b]:
				s.unlink(a, b)
			}
		}
	}
}

// quit has a person close the program.
func (s *stage) quit(n *node) {
	for other := range n.links {
		delete(other.links, n)
		other.core.LinkDown(s.now, n.token.Device)
		other.core.HandlePresence(s.now, n.token.Device, "left", "goodbye", nil)
	}
	clear(n.links)
	n.dead = true
}

// restore gives a node the disk of its backup.
func (s *stage) restore(n *node) { n.restore(s.t, s.copies[n.name]) }

// restore gives a node another disk, with what was loaded from its own before.
// The number of its next start is higher all the same: see Store.NextBoot.
func (n *node) restore(t *testing.T, had chat.State) {
	st, err := store.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	var records []chat.Record
	add := func(r chat.Record) { records = append(records, r) }
	each(had.People, add)
	each(had.Settings, add)
	each(had.Outbox, add)
	each(had.Direct, add)
	each(had.Received, add)
	each(had.Acked, add)
	each(had.Rooms, add)
	each(had.Numbers, add)
	each(had.Entries, add)
	each(had.Secrets, add)
	each(had.Authors, add)
	if err := st.Apply(records); err != nil {
		t.Fatal(err)
	}
	n.store = st
}

func each[R chat.Record](records []R, f func(chat.Record)) {
	for _, r := range records {
		f(r)
	}
}

// sign makes an entry that asks no rule: OP [whom] [behind entry] [to …].
func (s *stage) sign(n *node, words []string) *wire.Entry {
	s.t.Helper()
	op, words := words[0], words[1:]
	log := n.core.Log(theRoom)
	for _, m := range s.nodes { // somebody else's for who is not in the room
		if log == nil {
			log = m.core.Log(theRoom)
		}
	}
	var whom *node
	if len(words) > 0 && words[0] != "behind" && words[0] != "to" {
		whom, words = s.one(words[0]), words[1:]
	}
	behind := log.Head()
	if len(words) > 0 && words[0] == "behind" {
		if seq, err := strconv.Atoi(words[1]); err == nil {
			behind = log.Audit()[seq]
		} else {
			behind = s.entries[words[1]]
		}
		words = words[2:]
	}
	to := s.nodes
	if len(words) > 0 && words[0] == "to" {
		to = nil
		for _, name := range words[1:] {
			to = append(to, s.one(name))
		}
	}
	// What a modified node knows is what all know who have the entries.
	var known []*wire.Entry
	for _, m := range s.nodes {
		if l := m.core.Log(theRoom); l != nil && len(known) == 0 {
			known = l.Chain(behind.Hash(), room.MaxEntries)
		}
	}
	branch, err := room.Load(testRealm, known, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	e := wire.SignEntry(testRealm, n.key, s.entry(branch.State(), n, op, whom))
	for _, m := range to {
		s.deliver(n, m, e)
	}
	return e
}

// entry is the next one behind a state.
func (s *stage) entry(at *room.State, n *node, op string, whom *node) wire.Entry {
	e := wire.Entry{Room: at.Room, Seq: at.Seq + 1, Prev: at.Head, AuthorN: at.AuthorN(n.token.Key) + 1, Time: uint64(s.now.UnixMilli())}
	var a wire.AccountID
	var marks []wire.Mark
	if whom != nil {
		a = whom.token.Account
		if m := at.Member(a); m != nil {
			for _, d := range m.Devices {
				marks = append(marks, wire.Mark{Key: d.Key})
			}
		}
	}
	random := func() { // nobody is told the secret
		for i := range e.Commit {
			e.Commit[i] = byte(rand.Uint32())
		}
	}
	switch op {
	case "CLAIM":
		e.Args = &wire.LogClaim{}
	case "KICK":
		e.Args = &wire.LogKick{Account: a, Marks: marks}
		random()
	case "BAN":
		e.Args = &wire.LogBan{Account: a, Marks: marks}
		random()
	case "TRANSFER":
		e.Args = &wire.LogTransfer{Account: a}
	case "PROMOTE":
		e.Args = &wire.LogPromote{Account: a}
	case "SILENCE":
		e.Args = &wire.LogSilence{Account: a}
	case "LEAVE":
		e.Args = &wire.LogLeave{}
	case "SETTINGS":
		e.Args = &wire.LogSettings{Name: at.Name, Topic: n.name + "'s", Policy: at.Policy}
	case "REKEY":
		e.Args = &wire.LogRekey{}
		random()
	case "ADMIT":
		e.Args = &wire.LogAdmit{Account: a, Name: whom.name, Devices: []wire.Device{{Key: whom.token.Key}}}
		random()
	default:
		s.t.Fatalf("nobody signs %s", op)
	}
	return e
}

// hand gives an entry to some over their links.
func (s *stage) hand(e *wire.Entry, names []string) {
	for _, name := range names {
		for _, from := range s.nodes {
			if to := s.one(name); from.links[to] {
				s.deliver(from, to, e)
				break
			}
		}
	}
}

func (s *stage) deliver(from, to *node, e *wire.Entry) {
	switch {
	case from == to && to.core.Log(theRoom) != nil:
		to.core.Apply(s.now, theRoom, e)
	case from.links[to]:
		to.core.HandleFrame(s.now, from.token.Device, wire.FrameEntry, e.Append(nil))
	}
}

// tell writes what everybody was shown.
func (s *stage) tell() {
	for _, n := range s.nodes {
		if len(n.events) > 500 {
			s.t.Fatalf("%s is shown %d events at once, the last %v", n.name, len(n.events), transcript(n.events[len(n.events)-1]))
		}
		for _, e := range n.events {
			if text := transcript(e); text != "" {
				for i, line := range strings.Split(text, "\n") {
					name := n.name
					if i > 0 {
						name = ""
					}
					fmt.Fprintln(&s.out, strings.TrimRight(fmt.Sprintf("    %-5s %s", name, line), " "))
				}
			}
		}
	}
	s.clear()
}

// transcript is an event as the files have it; "" for those they leave out.
func transcript(e chat.Event) string {
	switch e := e.(type) {
	case chat.Room:
		var who []string
		for _, m := range e.Members {
			switch i := slices.Index(e.Admins, m); {
			case i == 0:
				m += "*"
			case i > 0:
				m += "+"
			}
			who = append(who, m)
		}
		text := fmt.Sprintf("room %s %s", e.Chat, e.Cause)
		if e.Whom != "" {
			text += ": " + e.Whom
		}
		if e.By != "" {
			text += " by " + e.By
		}
		text += fmt.Sprintf(" | %d/%d %s", e.Seq, e.Epoch, strings.Join(who, " "))
		if e.Private {
			text += " (private)"
		}
		if e.Topic != "" {
			text += fmt.Sprintf(" %q", e.Topic)
		}
		return text
	case chat.Message:
		text := fmt.Sprintf("%s <%s> %s", e.Chat, e.From, e.Text)
		if e.Replay {
			text += " (replay)"
		}
		if e.Late {
			text += " (late)"
		}
		return text
	case chat.Sent:
		return fmt.Sprintf("%s sent: %s", e.Chat, e.Text)
	case chat.Gap:
		if e.Healed {
			return fmt.Sprintf("%s the gap in %s's messages is healed", e.Chat, e.From)
		}
		return fmt.Sprintf("%s %d of %s's messages are missing", e.Chat, e.Missing, e.From)
	case chat.Error:
		return "error " + e.Code + ": " + e.Text
	case chat.Notice:
		return "notice " + e.Code + ": " + e.Text
	}
	return ""
}

// has says what a node has of the room, with a name for its key.
func (s *stage) has(n *node) string {
	log := n.core.Log(theRoom)
	if log == nil {
		return "not in " + theRoom
	}
	st := log.State()
	var who []string
	for i, m := range st.Members {
		name := s.nameOf(m.Account)
		switch {
		case i == 0:
			name += "*"
		case i <= st.Mods:
			name += "+"
		}
		if m.Account == st.Regent {
			name += "!"
		}
		if log.IsSuspended(m.Account) {
			name += "(suspended)"
		}
		who = append(who, name)
	}
	text := fmt.Sprintf("%s %d/%d %s", theRoom, st.Seq, st.Epoch.Number, strings.Join(who, " "))
	if st.Topic != "" {
		text += fmt.Sprintf(" %q", st.Topic)
	}
	if log.Held() {
		text += ", held"
	}
	if n.core.Keys(theRoom).Current() == nil {
		text += ", no key"
	}
	return text
}

func (s *stage) nameOf(a wire.AccountID) string {
	for _, n := range s.nodes {
		if n.token.Account == a {
			return n.token.Name
		}
	}
	return "somebody"
}

// agree fails unless the nodes have the same head, and the same key if any.
func (s *stage) agree(names []string) {
	if len(names) == 0 {
		for _, n := range s.nodes {
			if !n.dead {
				names = append(names, n.name)
			}
		}
	}
	first := ""
	for _, name := range names {
		n := s.one(name)
		text := s.has(n)
		if log := n.core.Log(theRoom); log != nil {
			text += fmt.Sprint(" ", log.State().Head)
			if k := n.core.Keys(theRoom).Current(); k != nil {
				text += fmt.Sprint(" ", k.KeyID())
			}
		}
		if first == "" {
			first = text
			fmt.Fprintf(&s.out, "    all   %s\n", s.has(n))
		} else if text != first {
			s.t.Errorf("%s and %s do not agree:\n%s\n%s", names[0], name, first, text)
			fmt.Fprintf(&s.out, "    but   %s: %s\n", name, s.has(n))
		}
	}
}
