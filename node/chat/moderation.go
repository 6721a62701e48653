package chat

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lanchat/node/room"
	"lanchat/wire"
	"lanchat/wire/clean"
)

// The commands by which people govern a room. The rules are node/room's: each
// builder there makes a signed entry or says why not.

// roomOf returns the room a command is given in.
func (c *Core) roomOf(k *call) *membership {
	if !strings.HasPrefix(k.chat, "#") {
		c.refuse(k.ref, "bad_argument", "/%s is about a room: open one first, /join #room", k.verb)
		return nil
	}
	m, _, _ := c.findChat(k.chat, k.ref)
	return m
}

// target returns the room and the person a command names.
func (c *Core) target(k *call) (*membership, *person) {
	m := c.roomOf(k)
	if m == nil {
		return nil, nil
	}
	if p := c.neverMet(m, k.args[0]); p != nil {
		return m, p
	}
	p := c.mustFindPerson(k.args[0], k.ref)
	if p == nil {
		return nil, nil
	}
	return m, p
}

// neverMet returns the one member of a room that is called so and was never
// met; nil: none.
func (c *Core) neverMet(m *membership, name string) (p *person) {
	name = strings.ToLower(strings.TrimPrefix(name, "@"))
	for _, o := range m.log.State().Members {
		if c.people.accounts[o.Account] == nil && c.people.nameOf(o.Account) == name {
			if p != nil {
				return nil // several: by name nobody can tell which
			}
			p = &person{account: o.Account, name: name}
		}
	}
	return p
}

// reason returns what stands behind the first n words of a command, or
// refuses it.
func (c *Core) reason(k *call, n int) (reason string, ok bool) {
	reason = clean.Line(strings.Join(k.args[min(n, len(k.args)):], " "), 0)
	if len(reason) > wire.MaxReason {
		c.refuse(k.ref, "too_long", "a reason has at most %d bytes and this one %d: shorten it", wire.MaxReason, len(reason))
		return "", false
	}
	return reason, true
}

// refuseDuration says what a duration looks like, and which one may have been
// meant: 2h by "2hours".
func (c *Core) refuseDuration(k *call, word, or string) {
	var n int
	var unit string
	if fmt.Sscanf(word, "%d%s", &n, &unit); unit != "" {
		short := strings.ToLower(fmt.Sprint(n, unit[:1]))
		if _, err := parseDuration(short); err == nil {
			or += "; did you mean " + short + "?"
		}
	}
	c.refuse(k.ref, "bad_argument", "%q is no duration: write 30m, 2h or 7d%s", word, or)
}

// millis returns a time as it stands in an entry: 0 is none.
func millis(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMilli())
}

func (c *Core) doKick(k *call) {
	m, p := c.target(k)
	if m == nil {
		return
	}
	if reason, ok := c.reason(k, 1); ok {
		c.govern(k, m, &wire.LogKick{Account: p.account, Reason: reason})
	}
}

func (c *Core) doBan(k *call) {
	m, p := c.target(k)
	if m == nil {
		return
	}
	var until time.Time
	behind := 1
	if len(k.args) > 1 {
		number := strings.TrimLeft(k.args[1], "+-.")
		switch d, err := parseDuration(k.args[1]); {
		case err == nil:
			until, behind = k.now.Add(d), 2
		case number != "" && number[0] >= '0' && number[0] <= '9': // a slip would ban for good
			c.refuseDuration(k, k.args[1], ", or begin the reason with another word")
			return
		}
	}
	if reason, ok := c.reason(k, behind); ok {
		c.govern(k, m, &wire.LogBan{Account: p.account, Reason: reason, Until: millis(until)})
	}
}

func (c *Core) doUnban(k *call) {
	if m, p := c.target(k); m != nil {
		c.govern(k, m, &wire.LogUnban{Account: p.account})
	}
}

func (c *Core) doBans(k *call) {
	m := c.roomOf(k)
	if m == nil {
		return
	}
	type ban struct {
		User   string `json:"user"`
		By     string `json:"by"`
		Reason string `json:"reason"`
		Until  string `json:"until"` // RFC 3339, "" for good
	}
	list := []ban{}
	lines := []string{}
	for a, b := range m.log.State().Bans() {
		e := ban{User: c.people.nameOf(a), By: c.people.nameOf(b.By), Reason: clean.Line(b.Reason, wire.MaxReason)}
		line := e.User + ", by " + e.By
		if !b.Until.IsZero() {
			e.Until = b.Until.UTC().Format(time.RFC3339)
			line += ", until " + b.Until.Format("2006-01-02 15:04")
		}
		if e.Reason != "" {
			line += ": " + e.Reason
		}
		list, lines = append(list, e), append(lines, line)
	}
	slices.Sort(lines)
	slices.SortFunc(list, func(a, b ban) int { return strings.Compare(a.User, b.User) })
	if len(lines) == 0 {
		lines = []string{"nobody is banned from " + m.chat()}
	}
	c.show(Notice{Code: "bans", Text: strings.Join(lines, "\n"), Ref: k.ref, Data: list})
}

func (c *Core) doOp(k *call) {
	if m, p := c.target(k); m != nil {
		c.govern(k, m, &wire.LogPromote{Account: p.account})
	}
}

func (c *Core) doDeop(k *call) {
	if m, p := c.target(k); m != nil {
		c.govern(k, m, &wire.LogDemote{Account: p.account})
	}
}

func (c *Core) doTransfer(k *call) {
	if m, p := c.target(k); m != nil {
		c.govern(k, m, &wire.LogTransfer{Account: p.account})
	}
}

func (c *Core) doSilence(k *call) {
	m, p := c.target(k)
	if m == nil {
		return
	}
	var until time.Time
	if len(k.args) > 1 {
		d, err := parseDuration(k.args[1])
		if err != nil {
			c.refuseDuration(k, k.args[1], "")
			return
		}
		until = k.now.Add(d)
	}
	c.govern(k, m, &wire.LogSilence{Account: p.account, Until: millis(until)})
}

func (c *Core) doUnsilence(k *call) {
	if m, p := c.target(k); m != nil {
		c.govern(k, m, &wire.LogUnsilence{Account: p.account})
	}
}

func (c *Core) doTopic(k *call) {
	m := c.roomOf(k)
	if m == nil {
		return
	}
	s := m.log.State()
	if k.rest == "" {
		topic := clean.Line(s.Topic, wire.MaxTopic)
		text := "the topic of " + m.chat() + ": " + topic
		if topic == "" {
			text = m.chat() + " has no topic; /topic text sets one"
		}
		c.show(Notice{Code: "topic", Text: text, Ref: k.ref, Data: topic})
		return
	}
	topic, err := clean.Topic(k.rest)
	if err != nil {
		c.refuse(k.ref, "too_long", "%v: shorten it", err)
		return
	}
	c.govern(k, m, &wire.LogSettings{Name: s.Name, Topic: topic, Policy: s.Policy})
}

func (c *Core) doRename(k *call) {
	m := c.roomOf(k)
	if m == nil {
		return
	}
	name, err := clean.RoomName(k.args[0])
	if err != nil || !strings.HasPrefix(k.args[0], "#") {
		c.refuse(k.ref, "bad_argument", "%q is no room name: %v", k.args[0], clean.ErrRoomName)
		return
	}
	if other := c.findRoom(name); other != nil && other != m || c.offerOf(name) != nil {
		c.refuse(k.ref, "name_taken", "there is a room %s: choose another name", name)
		return
	}
	s := m.log.State()
	c.govern(k, m, &wire.LogSettings{Name: name, Topic: s.Topic, Policy: s.Policy})
}

// doAudit prints the room's signed log, as far as it counts, and verifies once
// more that it is signed and linked, which needs no authd: each entry was
// verified when it came, but the store may not be what it was.
func (c *Core) doAudit(k *call) {
	m := c.myRoom(k)
	if m == nil {
		return
	}
	type entry struct {
		Seq    uint64 `json:"seq"`
		Time   string `json:"time"` // RFC 3339, the author's word
		Op     string `json:"op"`
		By     string `json:"by"`
		For    string `json:"for"` // who asked for it, "" if nobody else did
		Whom   string `json:"whom"`
		Reason string `json:"reason"`
		Hash   string `json:"hash"`
		Good   bool   `json:"good"` // the signature verifies
	}
	list := []entry{}
	var lines []string
	bad := 0
	for _, e := range m.log.Audit() {
		at := time.UnixMilli(int64(e.Time))
		by := "device " + e.Author.Device().String()
		if d := c.people.devices[e.Author.Device()]; d != nil {
			by = d.person.name
		}
		v := entry{Seq: e.Seq, Time: at.UTC().Format(time.RFC3339), Op: e.Op().String(), By: by, Hash: e.Hash().String()}
		line := fmt.Sprintf("%4d  %s  %-10s by %s", e.Seq, at.Format("2006-01-02 15:04"), causes[e.Op()], by)
		if !e.For.IsZero() {
			v.For = c.people.nameOf(e.For)
			line += " for " + v.For
		}
		if w := room.Whom(e.Args); !w.IsZero() {
			v.Whom = c.people.nameOf(w)
			line += ": " + v.Whom
		}
		if v.Reason = clean.Line(reasonOf(e.Args), wire.MaxReason); v.Reason != "" {
			line += " (" + v.Reason + ")"
		}
		if v.Good = e.Verify(c.cfg.Realm) == nil; !v.Good {
			bad++
			line += "  NOT SIGNED BY THAT DEVICE"
		}
		list, lines = append(list, v), append(lines, line)
	}
	verdict := fmt.Sprintf("%d entries, each signed by the device it names and linked to the one before", len(list))
	switch {
	case bad == 0 && len(list) == 1:
		verdict = "1 entry, signed by the device it names"
	case bad > 0:
		verdict = fmt.Sprintf("%d of %d entries are NOT signed by the device they name: what this device keeps was changed", bad, len(list))
	}
	lines = append(lines, verdict)
	c.show(Notice{Code: "audit", Text: strings.Join(lines, "\n"), Ref: k.ref, Data: list})
}

// reasonOf returns what an entry says about itself.
func reasonOf(args wire.Args) string {
	switch a := args.(type) {
	case *wire.LogKick:
		return a.Reason
	case *wire.LogBan:
		return a.Reason
	case *wire.LogSettings:
		return a.Topic
	}
	return ""
}

// doWhoGot names who has a reliable message of one's own in the room, and who
// has not: the last one, or the n-th last.
func (c *Core) doWhoGot(k *call) {
	if strings.HasPrefix(k.chat, "@") {
		c.whoGotDirect(k)
		return
	}
	m := c.roomOf(k)
	if m == nil {
		return
	}
	n := 1
	if len(k.args) > 0 {
		var err error
		if n, err = strconv.Atoi(k.args[0]); err != nil || n < 1 {
			c.refuse(k.ref, "bad_argument", "%q is no number: /who-got 2 is about your last message but one", k.args[0])
			return
		}
	}
	if len(m.tracked) == 0 {
		c.refuse(k.ref, "bad_argument", "you have sent nothing reliable to %s since the start", m.chat())
		return
	}
	if n > len(m.tracked) {
		c.refuse(k.ref, "bad_argument", "of your reliable messages in %s since the start only the last %d are known", m.chat(), len(m.tracked))
		return
	}
	t := m.tracked[len(m.tracked)-n]
	got, missing := []string{}, []string{}
	for _, p := range m.log.State().Members {
		switch name := c.people.nameOf(p.Account); {
		case p.Account == c.self.account:
		case slices.Contains(t.got, p.Account):
			got = append(got, name)
		default:
			missing = append(missing, name)
		}
	}
	text := fmt.Sprintf("%q\ngot it: %s", clean.Line(t.text, 60), list(got))
	if len(missing) > 0 {
		text += "\nnot confirmed: " + list(missing)
	}
	c.show(Notice{Code: "who_got", Text: text, Ref: k.ref, Data: map[string]any{"id": t.id.String(), "got": got, "missing": missing}})
}

// list joins names for people.
func list(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
