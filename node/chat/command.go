package chat

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"lanchat/wire"
	"lanchat/wire/clean"
	"lanchat/wire/realm"
	"lanchat/wire/words"
)

// A saying is text on its way to a chat.
type saying struct {
	text    string
	mode    Mode
	action  bool
	verb    wire.Verb // Edit or Delete, of the message replyTo; else 0
	replyTo MessageID
	was     string // text of the message that is edited or deleted
	ref     string
}

// A call is one command being carried out.
type call struct {
	now  time.Time
	verb string
	args []string // words behind the command
	rest string   // everything behind the command, as typed
	chat string   // the chat it is about: the command's own, or the current one
	ref  string
}

// A verb is a command of the chat: "/name".
type verb struct {
	name  string
	alias string // another full name
	args  string // usage, behind the name
	help  string // one line
	min   int    // arguments at least
	max   int    // arguments at most; -1: any
	do    func(*Core, *call)
}

// verbs is every command, by name. It is filled in init since help lists it.
var verbs []verb

func init() {
	verbs = []verb{
		{name: "alias", args: "[name [text]]", help: "give a command a name of your own: /alias hi /me waves", max: -1, do: (*Core).doAlias},
		{name: "audit", args: "[#room]", help: "the room's signed log: who did what", max: 1, do: (*Core).doAudit},
		{name: "ban", args: "user [duration] [reason]", help: "remove a person and keep them out", min: 1, max: -1, do: (*Core).doBan},
		{name: "bans", help: "who is banned from the room", do: (*Core).doBans},
		{name: "chats", help: "your chats, with what is unread in them", do: (*Core).doChats},
		{name: "clear", help: "empty the screen; the history stays", do: (*Core).doClear},
		{name: "create", args: "#room [--private]", help: "make a room; you are its admin", min: 1, max: 2, do: (*Core).doCreate},
		{name: "decide", args: "n", help: "which of the signed histories of the room counts", min: 1, max: 1, do: (*Core).doDecide},
		{name: "delete", args: "[id|n]", help: "take back your last (n-th last) message", max: 1, do: (*Core).doDelete},
		{name: "deop", args: "user", help: "make a co-admin a member again", min: 1, max: 1, do: (*Core).doDeop},
		{name: "device", args: "user", help: "let a member's new device into the room", min: 1, max: 1, do: (*Core).doDevice},
		{name: "dm", args: "user [text]", help: "make the chat with a person the current one, and write there", min: 1, max: -1, do: (*Core).doDM},
		{name: "dnd", args: "[22:00-07:00|duration|off]", help: "keep alerts quiet at these hours, or for a time", max: 1, do: (*Core).doDND},
		{name: "edit", args: "[id|n] text", help: "give your last (n-th last) message another text", min: 1, max: -1, do: (*Core).doEdit},
		{name: "export", args: "[chat] [json|text] file", help: "write the history of a chat to a new file", min: 1, max: 3, do: (*Core).doExport},
		{name: "fingerprint", help: "show the realm's fingerprint and this device's id", do: (*Core).doFingerprint},
		{name: "forget", args: "chat", help: "forget the history of a chat on this device", min: 1, max: 1, do: (*Core).doForget},
		{name: "help", args: "[command]", help: "list the commands, or explain one", max: 1, do: (*Core).doHelp},
		{name: "history", args: "[chat] [id]", help: "the last messages of a chat, or those before one", max: 2, do: (*Core).doHistory},
		{name: "ignore", args: "[user] [duration]", help: "see nothing of a person; alone: whom you ignore", max: 2, do: (*Core).doIgnore},
		{name: "invite", args: "user", help: "let a person into the room by /join", min: 1, max: 1, do: (*Core).doInvite},
		{name: "join", args: "#room", help: "enter a room", min: 1, max: 1, do: (*Core).doJoin},
		{name: "kick", args: "user [reason]", help: "remove a person from the room", min: 1, max: -1, do: (*Core).doKick},
		{name: "links", help: "the links in the last messages, numbered", do: (*Core).doLinks},
		{name: "me", args: "text", help: "say what you do: /me waves", min: 1, max: -1, do: (*Core).doMe},
		{name: "mode", args: "[reliable|fast]", help: "how your messages of this chat travel", max: 1, do: (*Core).doMode},
		{name: "msg", args: "user text", help: "write to one person", min: 2, max: -1, do: (*Core).doMsg},
		{name: "mute", args: "[chat] [duration]", help: "silence a chat's alerts: /mute #lab 2h", max: 2, do: (*Core).doMute},
		{name: "names", args: "[#room]", help: "who is in the room", max: 1, do: (*Core).doNames},
		{name: "net", help: "how the network looks from here: interfaces, and who is reached how", do: (*Core).doNet},
		{name: "nick", args: "name", help: "change your user name, for everybody and everywhere", min: 1, max: 1, do: (*Core).doNick},
		{name: "notify", args: "[all|mentions|none]", help: "what of this chat rings", max: 1, do: (*Core).doNotify},
		{name: "op", alias: "promote", args: "user", help: "make a member a co-admin", min: 1, max: 1, do: (*Core).doOp},
		{name: "open", args: "n", help: "open link n of /links, after asking", min: 1, max: 1, do: (*Core).doOpen},
		{name: "part", args: "[#room]", help: "leave a room for good", max: 1, do: (*Core).doPart},
		{name: "passwd", args: "[--sign-out-others]", help: "change your password", max: 1, do: (*Core).doPasswd},
		{name: "ping", args: "user", help: "how long an answer takes", min: 1, max: 1, do: (*Core).doPing},
		{name: "quit", alias: "q", help: "say goodbye and end the program", do: (*Core).doQuit},
		{name: "quote", args: "[id|n] text", help: "answer the last (n-th last) message of the chat", min: 1, max: -1, do: (*Core).doQuote},
		{name: "r", args: "text", help: "answer who wrote to you last", min: 1, max: -1, do: (*Core).doReply},
		{name: "read", args: "[chat]", help: "mark everything in a chat as read", max: 1, do: (*Core).doRead},
		{name: "refound", args: "[#room]", help: "make the room anew with its members, and you as admin", max: 1, do: (*Core).doRefound},
		{name: "rename", args: "#name", help: "give the room another name", min: 1, max: 1, do: (*Core).doRename},
		{name: "resolve", args: "user uphold|dismiss", help: "settle a removal made on the other side of a split", min: 2, max: 2, do: (*Core).doResolve},
		{name: "rooms", help: "which rooms there are", do: (*Core).doRooms},
		{name: "search", args: "text", help: "find messages in all chats", min: 1, max: -1, do: (*Core).doSearch},
		{name: "sessions", args: "[revoke DEVICE]", help: "your account's devices; revoke shuts one out for ever", max: 2, do: (*Core).doSessions},
		{name: "set", args: "[name [value]]", help: "your settings: theme, bell, notifications, retention, outage_grace", max: 2, do: (*Core).doSet},
		{name: "silence", args: "user [duration]", help: "keep a member from speaking", min: 1, max: 2, do: (*Core).doSilence},
		{name: "topic", args: "[text]", help: "show or set the room's topic", max: -1, do: (*Core).doTopic},
		{name: "transfer", args: "user", help: "make a member the admin in your place", min: 1, max: 1, do: (*Core).doTransfer},
		{name: "unalias", args: "name", help: "forget a command of your own", min: 1, max: 1, do: (*Core).doUnalias},
		{name: "unban", args: "user", help: "lift a ban", min: 1, max: 1, do: (*Core).doUnban},
		{name: "unignore", args: "user", help: "see a person's messages again", min: 1, max: 1, do: (*Core).doUnignore},
		{name: "unmute", args: "[chat]", help: "let a chat ring again", max: 1, do: (*Core).doUnmute},
		{name: "unsilence", args: "user", help: "let a silenced member speak again", min: 1, max: 1, do: (*Core).doUnsilence},
		{name: "users", help: "who is here", do: (*Core).doUsers},
		{name: "verify", args: "user [yes|no]", help: "compare keys with a person: sixty digits", min: 1, max: 2, do: (*Core).doVerify},
		{name: "who-got", args: "[n]", help: "who has your last (n-th last) message", max: 1, do: (*Core).doWhoGot},
		{name: "whois", args: "user", help: "what is known of a person", min: 1, max: 1, do: (*Core).doWhois},
	}
}

// Usages returns how each command is written, without the slash: "mode
// [reliable|fast]".
func Usages() []string {
	usages := make([]string, len(verbs))
	for i, v := range verbs {
		usages[i] = v.usage()[1:]
	}
	return usages
}

// Do carries out a command. What is refused shows an Error and changes
// nothing. Commands take effect one after another: those typed while one
// waits for an answer from others wait too.
//
// A node that has just started has not met everybody yet: a command about a
// person of whom nothing was heard, or about who is here, is tried again for a
// while, as one about a room is.
func (c *Core) Do(now time.Time, cmd Command) {
	c.starting = !c.busy && now.Sub(c.started) < lookPatient
	c.do(now, cmd)
	c.starting = false
	if !c.unmet {
		return
	}
	c.unmet = false
	end := c.begin()
	c.after(now, lookAgain, func(now time.Time) {
		c.queued = slices.Insert(c.queued, 0, cmd)
		end(now)
	})
}

func (c *Core) do(now time.Time, cmd Command) {
	c.now = now
	if c.busy {
		if len(c.queued) >= maxQueued {
			c.refuse(cmd.Ref, "busy", "%d commands wait already: try again in a moment", len(c.queued))
			return
		}
		c.queued = append(c.queued, cmd)
		return
	}
	chat := cmp.Or(cmd.Chat, c.current)
	if cmd.Say {
		c.sayTo(now, chat, cmd.Text, cmd.Mode, false, cmd.Ref)
		return
	}
	if cmd.Passwd != nil {
		c.passwd(*cmd.Passwd, cmd.Ref)
		return
	}
	line := c.expand(strings.TrimRight(cmd.Line, "\r\n"))
	switch {
	case strings.TrimSpace(line) == "":
		return
	case strings.HasPrefix(line, "//"):
		c.sayTo(now, chat, line[1:], cmd.Mode, false, cmd.Ref)
		return
	case !strings.HasPrefix(line, "/"):
		c.sayTo(now, chat, line, cmd.Mode, false, cmd.Ref)
		return
	}
	name, rest := cutWord(line[1:])
	v, err := findVerb(name, c.aliases())
	if err != nil {
		c.refuse(cmd.Ref, "unknown_command", "%v", err)
		return
	}
	args := strings.Fields(rest)
	if len(args) < v.min || v.max >= 0 && len(args) > v.max {
		c.refuse(cmd.Ref, "bad_argument", "usage: %s", v.usage())
		return
	}
	v.do(c, &call{now: now, verb: v.name, args: args, rest: rest, chat: chat, ref: cmd.Ref})
}

const maxQueued = 10_000

// Busy reports whether commands wait, for their turn or for what they are to
// show, or what was said is not stored yet.
func (c *Core) Busy() bool {
	for _, m := range c.rooms {
		if len(m.waiting) > 0 && m.keys.Current() != nil || len(m.recount.then) > 0 || m.leaving {
			return true
		}
	}
	return c.busy || c.awaited > 0 || len(c.requests) > 0 || len(c.pinged) > 0
}

// begin keeps other commands waiting until end is called, once.
func (c *Core) begin() (end func(now time.Time)) {
	c.busy = true
	return func(now time.Time) {
		c.busy = false
		for len(c.queued) > 0 && !c.busy {
			cmd := c.queued[0]
			c.queued = c.queued[1:]
			c.Do(now, cmd)
		}
	}
}

// cutWord returns the first word of s and what stands behind it.
func cutWord(s string) (word, rest string) {
	s = strings.TrimSpace(s)
	if i := strings.IndexFunc(s, unicode.IsSpace); i >= 0 {
		return s[:i], strings.TrimSpace(s[i:])
	}
	return s, ""
}

func (v *verb) usage() string { return strings.TrimSpace("/" + v.name + " " + v.args) }

func (v *verb) says() string {
	if v.alias != "" {
		return v.help + "; also /" + v.alias
	}
	return v.help
}

// Quits reports whether a command ends the program.
func Quits(cmd Command) bool {
	line, isCommand := strings.CutPrefix(strings.TrimSpace(cmd.Line), "/")
	if cmd.Say || cmd.Passwd != nil || !isCommand {
		return false
	}
	v, err := findVerb(line, nil)
	return err == nil && v.name == "quit"
}

// findVerb returns the command of that name, or the only one it begins. own are
// commands of one's own, one of which may have been meant.
func findVerb(name string, own Aliases) (*verb, error) {
	name = strings.ToLower(name)
	var begins []string
	var found *verb
	for i := range verbs {
		v := &verbs[i]
		if v.name == name || v.alias == name && name != "" {
			return v, nil
		}
		if name != "" && strings.HasPrefix(v.name, name) {
			begins = append(begins, "/"+v.name)
			found = v
		}
	}
	switch {
	case len(begins) == 1:
		return found, nil
	case len(begins) > 1:
		return nil, fmt.Errorf("/%s can be %s: type more of it", name, strings.Join(begins, ", "))
	}
	if near := words.Nearest(name, slices.Concat(own, commandNames())); near != "" {
		return nil, fmt.Errorf("there is no command /%s; did you mean /%s?", name, near)
	}
	return nil, fmt.Errorf("there is no command /%s; /help lists them, and //%s sends it as text", name, name)
}

func commandNames() (names []string) {
	for _, v := range verbs {
		names = append(names, v.name)
	}
	return names
}

// meant asks whether the nearest word of a list was meant, if there is one.
func meant(name string, list ...string) string {
	if near := words.Nearest(name, list); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// sayTo sends text to the chat a person named.
func (c *Core) sayTo(now time.Time, chat, text, mode string, action bool, ref string) {
	s := saying{text: clean.Text(text, maxSaid), action: action, ref: ref}
	if strings.TrimSpace(s.text) == "" {
		c.refuse(ref, "bad_argument", "there is nothing to send: type some text")
		return
	}
	if c.refuseMuzzled(ref) {
		return
	}
	r, p, ok := c.findChat(chat, ref)
	if !ok {
		return
	}
	id := ChatID{}
	if r != nil {
		id.Room = r.id
	} else {
		id.Account = p.account
	}
	s.mode = c.settingsOf(id).mode
	if mode != "" {
		if s.mode, ok = ParseMode(mode); !ok {
			c.refuseMode(mode, ref)
			return
		}
	}
	if r != nil {
		c.say(now, r, s)
	} else {
		c.sayDirect(now, p, s)
	}
}

// findChat returns the room one is in, or the person, that chat names; or
// says why there is none.
func (c *Core) findChat(chat, ref string) (*membership, *person, bool) {
	switch {
	case chat == "":
		c.refuse(ref, "bad_argument", "no chat is open: /join #room, /create #room or /msg user text")
	case strings.HasPrefix(chat, "@"):
		if p := c.mustFindPerson(chat, ref); p != nil {
			return nil, p, true
		}
	case strings.HasPrefix(chat, "#"):
		if r := c.findRoom(chat); r != nil {
			return r, nil, true
		}
		if same := c.sameName(chat); len(same) > 1 {
			c.refuse(ref, "bad_argument", "several rooms are called %s: say which, %s", chat, strings.Join(same, " or "))
			return nil, nil, false
		}
		c.refuseRoom(chat, ref)
	default:
		c.refuse(ref, "bad_argument", "a chat is #room or @user, not %q", chat)
	}
	return nil, nil, false
}

// refuseRoom says that one is not in a room, or that there is none of that name
// as far as others know, who are asked about it now and then.
func (c *Core) refuseRoom(chat, ref string) {
	refuse := func() {
		if c.offerOf(chat) != nil {
			c.refuse(ref, "not_member", "you are not in %s: /join %s first", chat, chat)
		} else {
			c.refuse(ref, "no_such_room", "no room %s is known here: /rooms lists them, /create %s makes it", chat, chat)
		}
	}
	if c.busy || c.offerOf(chat) != nil || c.now.Sub(c.lookedAt) < lookPause {
		refuse()
		return
	}
	c.lookedAt = c.now
	end := c.begin()
	c.look(c.now, func() bool { return true }, func(now time.Time) {
		defer end(now)
		refuse()
	})
}

// lookPause is between questions to all about rooms that were misspelled, say.
const lookPause = time.Second

// mustFindPerson returns the person of that name, or says that there is none.
func (c *Core) mustFindPerson(name, ref string) *person {
	p := c.findPerson(name)
	if p == nil {
		old := strings.ToLower(strings.TrimPrefix(name, "@"))
		if who := c.people.former[old]; who != nil {
			c.refuse(ref, "no_such_user", "%s is called %s now: write @%s", old, who.name, who.name)
			return nil
		}
		if c.starting {
			c.unmet = true
			return nil
		}
		c.refuse(ref, "no_such_user", "nobody called %q has been seen here: /users lists who is", strings.TrimPrefix(name, "@"))
	}
	return p
}

// myRoom returns the room a command names, or the current one.
func (c *Core) myRoom(k *call) *membership {
	chat := k.chat
	if len(k.args) > 0 {
		chat = k.args[0]
	}
	if !strings.HasPrefix(chat, "#") {
		c.refuse(k.ref, "bad_argument", "name a room: /%s #room", k.verb)
		return nil
	}
	r, _, _ := c.findChat(chat, k.ref)
	return r
}

// open makes a chat the current one.
func (c *Core) open(chat, ref string) {
	if c.current == chat {
		return
	}
	c.current = chat
	c.show(Notice{Code: "current", Text: "you are talking in " + chat, Ref: ref, Data: chat})
}

// quitWait is how long what was typed before /quit may take.
const quitWait = 5 * time.Second

func (c *Core) doQuit(k *call) { c.quit(k.now, k.now.Add(quitWait)) }

// quit ends the program once what was typed before is done, at the latest at
// until.
func (c *Core) quit(now, until time.Time) {
	if !c.Busy() || !now.Before(until) {
		c.work.Quit = true
		return
	}
	c.after(now, 5*time.Millisecond, func(now time.Time) { c.quit(now, until) })
}

func (c *Core) doMe(k *call) { c.sayTo(k.now, k.chat, k.rest, "", true, k.ref) }

func (c *Core) doMsg(k *call) {
	_, text := cutWord(k.rest)
	if p := c.mustFindPerson(k.args[0], k.ref); p != nil {
		c.sayTo(k.now, "@"+p.name, text, "", false, k.ref)
	}
}

func (c *Core) doReply(k *call) {
	if c.lastFrom == nil {
		c.refuse(k.ref, "bad_argument", "nobody has written to you yet: /msg user text")
		return
	}
	c.sayTo(k.now, "@"+c.lastFrom.name, k.rest, "", false, k.ref)
}

func (c *Core) doDM(k *call) {
	p := c.mustFindPerson(k.args[0], k.ref)
	switch {
	case p == nil:
	case p.account == c.self.account:
		c.refuse(k.ref, "bad_argument", "that is you: choose somebody else to write to")
	default:
		c.open("@"+p.name, k.ref)
		if _, text := cutWord(k.rest); text != "" {
			c.sayTo(k.now, "@"+p.name, text, "", false, k.ref)
		}
	}
}

// chatOf returns the id of the chat a command is about.
func (c *Core) chatOf(chat, ref string) (ChatID, string, bool) {
	r, p, ok := c.findChat(chat, ref)
	switch {
	case !ok:
		return ChatID{}, "", false
	case r != nil:
		return ChatID{Room: r.id}, r.chat(), true
	}
	return ChatID{Account: p.account}, "@" + p.name, true
}

func (c *Core) doMute(k *call) {
	chat, args := k.chat, k.args
	if len(args) > 0 && strings.IndexAny(args[0], "#@") == 0 {
		chat, args = args[0], args[1:]
	}
	id, chat, ok := c.chatOf(chat, k.ref)
	if !ok {
		return
	}
	until, text := forever, chat+" is muted; /unmute "+chat+" lets it ring again"
	if len(args) > 0 {
		d, err := parseDuration(args[0])
		if err != nil || len(args) > 1 {
			c.refuseDuration(k, strings.Join(args, " "), "")
			return
		}
		until, text = k.now.Add(d), chat+" is muted for "+args[0]
	}
	s := c.settingsOf(id)
	s.mutedUntil = until
	c.setSettings(id, s)
	c.show(Notice{Code: "muted", Text: text, Ref: k.ref, Data: map[string]any{"chat": chat, "muted": true}})
}

// forever is far enough in the future for a mute without a duration.
var forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func (c *Core) doUnmute(k *call) {
	chat := k.chat
	if len(k.args) > 0 {
		chat = k.args[0]
	}
	id, chat, ok := c.chatOf(chat, k.ref)
	if !ok {
		return
	}
	s := c.settingsOf(id)
	s.mutedUntil = time.Time{}
	c.setSettings(id, s)
	c.show(Notice{Code: "unmuted", Text: chat + " rings again", Ref: k.ref, Data: map[string]any{"chat": chat, "muted": false}})
}

func (c *Core) doNotify(k *call) {
	id, chat, ok := c.chatOf(k.chat, k.ref)
	if !ok {
		return
	}
	s := c.settingsOf(id)
	if len(k.args) > 0 {
		levels := map[string]Level{"all": NotifyAll, "mentions": NotifyMentions, "none": NotifyNone}
		if s.notify, ok = levels[strings.ToLower(k.args[0])]; !ok {
			c.refuse(k.ref, "bad_argument", "%q is none of all, mentions and none%s", k.args[0], meant(k.args[0], "all", "mentions", "none"))
			return
		}
		c.setSettings(id, s)
	}
	text := "what rings of " + chat + ": " + s.notify.String()
	if k.now.Before(s.mutedUntil) {
		text += "; it is muted now: /unmute " + chat
	}
	c.show(Notice{Code: "notify", Text: text, Ref: k.ref, Data: s.notify.String()})
}

// parseDuration reads "45s", "30m", "2h" or "7d".
func parseDuration(s string) (time.Duration, error) {
	var n int64
	var unit string
	if _, err := fmt.Sscanf(s, "%d%s", &n, &unit); err != nil {
		return 0, err
	}
	units := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	if units[unit] == 0 || n <= 0 || n > 36500 {
		return 0, fmt.Errorf("%q is no duration", s)
	}
	return time.Duration(n) * units[unit], nil
}

func (c *Core) doUsers(k *call) {
	type user struct {
		User    string   `json:"user"`
		Online  bool     `json:"online"`
		Self    bool     `json:"self"`
		Was     string   `json:"was"`
		Devices []string `json:"devices"`
		Reason  string   `json:"reason,omitempty"` // of oneself: why nobody else is online
	}
	me := c.people.accounts[c.self.account]
	list := []user{{User: me.name, Online: true, Self: true, Was: me.before(k.now), Devices: []string{c.self.device.String()}}}
	rows := [][]string{{me.shown(k.now), "you"}}
	for _, p := range c.others() {
		u := user{User: p.name, Online: p.online(), Was: p.before(k.now), Devices: []string{}}
		for _, d := range p.devices {
			u.Devices = append(u.Devices, d.id.String())
		}
		list = append(list, u)
		state := "away"
		if u.Online {
			state = "online"
		}
		rows = append(rows, []string{p.shown(k.now), state})
	}
	lines := table(rows)
	show := func() { c.show(Notice{Code: "users", Text: strings.Join(lines, "\n"), Ref: k.ref, Data: list}) }
	if slices.ContainsFunc(list, func(u user) bool { return u.Online && !u.Self }) {
		show()
		return
	}
	if c.starting {
		c.unmet = true
		return
	}
	c.lookUp(Survey{func(n Network) { // an empty list carries its reason
		list[0].Reason = c.whyNobody(n)
		lines = append(lines, list[0].Reason)
		show()
	}})
}

func (c *Core) doWhois(k *call) {
	p := c.mustFindPerson(k.args[0], k.ref)
	if p == nil {
		return
	}
	lines := []string{p.shown(k.now) + " (account " + p.account.String() + ")"}
	for _, d := range p.devices {
		state := "away"
		if d.online || d.id == c.self.device {
			state = "online"
		}
		lines = append(lines, "device "+d.id.String()+" "+state)
	}
	if p.account != c.self.account {
		lines = append(lines, c.verifiedWords(p))
	}
	c.show(Notice{Code: "whois", Text: strings.Join(lines, "\n"), Ref: k.ref})
}

func (c *Core) doFingerprint(k *call) {
	f := realm.FingerprintOf(c.cfg.Realm).String()
	c.show(Notice{Code: "fingerprint", Text: "realm " + f + "\nthis device " + c.self.device.String(), Ref: k.ref,
		Data: map[string]string{"realm": f, "device": c.self.device.String()}})
}

func (c *Core) doHelp(k *call) {
	if len(k.args) > 0 {
		name := strings.ToLower(strings.TrimPrefix(k.args[0], "/"))
		if text := c.personal["alias/"+name]; text != "" {
			c.show(Notice{Code: "help", Text: "/" + name + " stands for " + text + "\na command of your own; /alias lists them", Ref: k.ref})
			return
		}
		v, err := findVerb(name, c.aliases())
		if err != nil {
			c.refuse(k.ref, "unknown_command", "%v", err)
			return
		}
		c.show(Notice{Code: "help", Text: v.usage() + "\n" + v.says(), Ref: k.ref})
		return
	}
	lines := make([]string, 0, len(verbs)+1)
	for _, v := range verbs {
		lines = append(lines, fmt.Sprintf("%-31s %s", v.usage(), v.says()))
	}
	lines = append(lines, "anything else is sent to the current chat; //x sends /x")
	c.show(Notice{Code: "help", Text: strings.Join(lines, "\n"), Ref: k.ref})
}

// sortedRooms returns the rooms one is in, by name.
func (c *Core) sortedRooms() []*membership {
	return slices.SortedFunc(maps.Values(c.rooms), func(a, b *membership) int { return cmp.Compare(a.chat(), b.chat()) })
}
