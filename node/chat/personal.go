package chat

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lanchat/wire"
	"lanchat/wire/clean"
	"lanchat/wire/realm"
)

// What a person here chose for themselves, beyond single chats: the settings of
// "/set", hours without alerts, people ignored, commands of their own. Each is
// one line of text under a name, kept by SavePersonal.

// A Setting is one choice of "/set".
type Setting struct {
	Name    string   `json:"name"`
	Value   string   `json:"value"`
	Choices []string `json:"choices"` // the first is the default
	Help    string   `json:"help"`

	check func(value string) error // of what is none of Choices; nil: nothing else is allowed
}

var settingList = []Setting{
	{Name: "bell", Choices: []string{"on", "off"}, Help: "ring the terminal's bell"},
	{Name: "content", Choices: []string{"show", "hide"}, Help: "show what was said in notifications"},
	{Name: "desktop", Choices: []string{"on", "off", "service"}, Help: "notify through the terminal (OSC 9, 777, 99), or through the desktop's service"},
	{Name: "links", Choices: []string{"auto", "numbered", "plain"}, Help: "a number behind each link, for /open; auto: where the terminal may not open it by a click"},
	{Name: "mouse", Choices: []string{"on", "off"}, Help: "click and scroll; with on, Shift selects text"},
	{Name: graceSetting, Choices: []string{"0", "7d", "30d"}, check: checkGrace,
		Help: "how long after their end tokens still open links here, if authd has been away ever since; at most 30d"},
	{Name: "presence", Choices: []string{"all", "spoke", "none"}, Help: "lines about people coming and going: all, those who spoke lately, none"},
	{Name: "receipts", Choices: []string{"on", "off"}, Help: "line mode: a line for every receipt"},
	{Name: "retention", Choices: []string{"off", "90d", "1GB"}, check: checkRetention, Help: "how long history is kept: a time such as 90d, a size such as 1GB"},
	{Name: "theme", Choices: []string{"auto", "dark", "light"}, Help: "colours of the full screen"},
}

// graceSetting is the "/set" value of OutageGrace.
const graceSetting = "outage_grace"

// OutageGrace returns how long tokens are to be taken for good after their end,
// as the person chose it.
func (c *Core) OutageGrace() time.Duration { return outageGrace(c.personal["set/"+graceSetting]) }

// OutageGrace is Core.OutageGrace before there is a core.
func (s *State) OutageGrace() time.Duration {
	for _, p := range s.Personal {
		if p.Name == "set/"+graceSetting {
			return outageGrace(p.Value)
		}
	}
	return 0
}

func outageGrace(value string) time.Duration {
	d, err := parseDuration(value)
	if err != nil || d > realm.MaxGrace {
		return 0 // "0", or nothing that was accepted
	}
	return d
}

// checkGrace says what is wrong with a value of "/set outage_grace".
func checkGrace(s string) error {
	if d, err := parseDuration(s); s != "0" && (err != nil || d > realm.MaxGrace) {
		return fmt.Errorf("%s is a time such as 7d, at most 30d, or 0, not %q", graceSetting, s)
	}
	return nil
}

// settings returns the person's choices, and the defaults elsewhere.
func (c *Core) settings() []Setting {
	list := slices.Clone(settingList)
	for i := range list {
		list[i].Value = cmp.Or(c.personal["set/"+list[i].Name], list[i].Choices[0])
	}
	return list
}

func (c *Core) setPersonal(name, value string) {
	if value == "" {
		delete(c.personal, name)
	} else {
		c.personal[name] = value
	}
	c.save(SavePersonal{Name: name, Value: value})
}

// doSet answers with all settings in Data, so that faces learn of them.
func (c *Core) doSet(k *call) {
	list := c.settings()
	lines := []string{}
	for _, s := range list {
		lines = append(lines, fmt.Sprintf("%-12s %-6s %s (%s)", s.Name, s.Value, s.Help, strings.Join(s.Choices, "|")))
	}
	if len(k.args) > 0 {
		i := slices.IndexFunc(list, func(s Setting) bool { return s.Name == strings.ToLower(k.args[0]) })
		if i < 0 {
			names := []string{}
			for _, s := range list {
				names = append(names, s.Name)
			}
			c.refuse(k.ref, "bad_argument", "there is no setting %q: %s%s", k.args[0], strings.Join(names, ", "), meant(k.args[0], names...))
			return
		}
		if len(k.args) > 1 {
			value := strings.ToLower(k.args[1])
			if check := list[i].check; check != nil && check(value) != nil {
				c.refuse(k.ref, "bad_argument", "%v", check(value))
				return
			} else if check == nil && !slices.Contains(list[i].Choices, value) {
				c.refuse(k.ref, "bad_argument", "%s is one of %s, not %q%s", list[i].Name, strings.Join(list[i].Choices, ", "), k.args[1], meant(value, list[i].Choices...))
				return
			}
			c.setPersonal("set/"+list[i].Name, value)
			if list[i].Name == "retention" {
				c.sweepOnce(k.now)
			}
			list = c.settings()
		}
		lines = []string{list[i].Name + " is " + list[i].Value + ": " + list[i].Help}
	}
	c.show(Notice{Code: "set", Text: strings.Join(lines, "\n"), Ref: k.ref, Data: list})
}

// ---- hours without alerts

const clockTime = "15:04"

func (c *Core) doDND(k *call) {
	if len(k.args) > 0 {
		arg := strings.ToLower(k.args[0])
		from, to, hours := strings.Cut(arg, "-")
		_, err1 := time.Parse(clockTime, from)
		_, err2 := time.Parse(clockTime, to)
		d, err := parseDuration(arg)
		switch {
		case arg == "off":
			c.setPersonal("dnd", "")
		case hours && err1 == nil && err2 == nil && from != to:
			c.setPersonal("dnd", from+"-"+to)
		case err == nil:
			c.setPersonal("dnd", k.now.Add(d).UTC().Format(time.RFC3339))
		default:
			c.refuse(k.ref, "bad_argument", "%q is neither hours nor a duration: /dnd 22:00-07:00, /dnd 2h or /dnd off%s", k.args[0], meant(arg, "off"))
			return
		}
	}
	text := "alerts ring at all hours; /dnd 22:00-07:00 or /dnd 2h keeps them quiet"
	if v := c.personal["dnd"]; v != "" {
		if until, err := time.Parse(time.RFC3339, v); err == nil {
			v = "until " + until.In(k.now.Location()).Format("2006-01-02 "+clockTime)
		}
		text = "do not disturb: " + v + "; /dnd off ends it"
	}
	c.show(Notice{Code: "dnd", Text: text, Ref: k.ref, Data: map[string]string{"dnd": c.personal["dnd"]}})
}

// undisturbed reports whether now is a time without alerts.
func (c *Core) undisturbed(now time.Time) bool {
	v := c.personal["dnd"]
	if v == "" {
		return false
	}
	if until, err := time.Parse(time.RFC3339, v); err == nil {
		return now.Before(until)
	}
	from, to, _ := strings.Cut(v, "-")
	t := now.Format(clockTime)
	if from = pad(from); from < pad(to) {
		return from <= t && t < pad(to)
	}
	return t >= from || t < pad(to) // over midnight
}

// pad makes "7:00" comparable with "22:00".
func pad(clock string) string { return strings.Repeat("0", max(0, 5-len(clock))) + clock }

// ---- people ignored

func ignoreKey(a wire.AccountID) string { return "ignore/" + a.String() }

// ignored reports whether the person here wants to see nothing of an account.
func (c *Core) ignored(now time.Time, a wire.AccountID) bool {
	v := c.personal[ignoreKey(a)]
	if v == "" {
		return false
	}
	until, err := time.Parse(time.RFC3339, v)
	return err != nil || now.Before(until)
}

func (c *Core) doIgnore(k *call) {
	if len(k.args) == 0 {
		list := []string{}
		for name := range c.personal {
			id, ok := strings.CutPrefix(name, "ignore/")
			if a, err := hex.DecodeString(id); ok && err == nil && len(a) == len(wire.AccountID{}) && c.ignored(k.now, wire.AccountID(a)) {
				list = append(list, c.people.nameOf(wire.AccountID(a)))
			}
		}
		slices.Sort(list)
		text := "you ignore " + strings.Join(list, ", ")
		if len(list) == 0 {
			text = "you ignore nobody"
		}
		c.show(Notice{Code: "ignored", Text: text, Ref: k.ref, Data: list})
		return
	}
	p := c.mustFindPerson(k.args[0], k.ref)
	switch {
	case p == nil:
		return
	case p.account == c.self.account:
		c.refuse(k.ref, "bad_argument", "that is you: choose somebody else to ignore")
		return
	}
	value, text := "always", "you ignore "+p.name
	if len(k.args) > 1 {
		d, err := parseDuration(k.args[1])
		if err != nil {
			c.refuseDuration(k, k.args[1], "")
			return
		}
		value, text = k.now.Add(d).UTC().Format(time.RFC3339), text+" for "+k.args[1]
	}
	c.setPersonal(ignoreKey(p.account), value)
	c.show(Notice{Code: "ignored", Text: text + ": their messages are kept, not shown; /unignore " + p.name + " shows them again", Ref: k.ref, Data: []string{p.name}})
}

func (c *Core) doUnignore(k *call) {
	p := c.mustFindPerson(k.args[0], k.ref)
	if p == nil {
		return
	}
	c.setPersonal(ignoreKey(p.account), "")
	c.show(Notice{Code: "unignored", Text: "you see what " + p.name + " writes again", Ref: k.ref})
}

// ---- commands of one's own

const maxAlias = 500 // bytes

func (c *Core) doAlias(k *call) {
	name, text := cutWord(k.rest)
	name = strings.ToLower(strings.TrimPrefix(name, "/"))
	text = clean.Line(text, maxAlias)
	if text == "" {
		c.listAliases(name, k.ref)
		return
	}
	if strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }) || name == "" {
		c.refuse(k.ref, "bad_argument", "%q is no name for a command: letters, digits and -", name)
		return
	}
	for i := range verbs {
		if verbs[i].name == name || verbs[i].alias == name {
			c.refuse(k.ref, "bad_argument", "/%s is a command already: choose another name", name)
			return
		}
	}
	c.setPersonal("alias/"+name, text)
	c.show(Notice{Code: "alias", Text: "/" + name + " stands for " + text, Ref: k.ref, Data: c.aliases()})
}

// Aliases are the names of the person's own commands: the Data of the notice
// "alias", so that faces can complete them.
type Aliases []string

func (c *Core) aliases() Aliases {
	list := Aliases{}
	for _, key := range slices.Sorted(maps.Keys(c.personal)) {
		if name, ok := strings.CutPrefix(key, "alias/"); ok {
			list = append(list, name)
		}
	}
	return list
}

func (c *Core) listAliases(name, ref string) {
	var lines []string
	for _, n := range c.aliases() {
		if name == "" || n == name {
			lines = append(lines, "/"+n+" stands for "+c.personal["alias/"+n])
		}
	}
	switch {
	case len(lines) > 0:
	case name == "":
		lines = []string{"you have no commands of your own; /alias hi /me waves makes one"}
	default:
		name = clean.Line(name, maxAlias)
		lines = []string{"/" + name + " is no command of your own; /alias " + name + " text makes it one"}
	}
	c.show(Notice{Code: "alias", Text: strings.Join(lines, "\n"), Ref: ref, Data: c.aliases()})
}

func (c *Core) doUnalias(k *call) {
	name := strings.ToLower(strings.TrimPrefix(k.args[0], "/"))
	if c.personal["alias/"+name] == "" {
		c.refuse(k.ref, "bad_argument", "there is no alias /%s: /alias lists them%s", name, meant(name, c.aliases()...))
		return
	}
	c.setPersonal("alias/"+name, "")
	c.show(Notice{Code: "alias", Text: "/" + name + " stands for nothing any more", Ref: k.ref, Data: c.aliases()})
}

// expand returns the line that an alias stands for, with what was typed behind
// it. An alias is not looked for in what another stands for.
func (c *Core) expand(line string) string {
	name, rest := cutWord(strings.TrimPrefix(line, "/"))
	if text := c.personal["alias/"+strings.ToLower(name)]; text != "" && strings.HasPrefix(line, "/") {
		return strings.TrimSpace(text + " " + rest)
	}
	return line
}
