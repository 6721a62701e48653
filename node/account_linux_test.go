//go:build linux

package main_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/testdata/lan/emu"
)

// A rename is seen by everybody at once, and after restarts; nothing is lost.
func TestRename(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(3)...)
	a := l.authd("h1", "authd")
	ann, bob := l.newcomer("h2", "ann"), l.newcomer("h3", "bob")
	ann.ready("ann", a)
	bob.ready("bob", a)
	meet(ann, bob)
	gather("#lab", ann, bob)
	tell("#lab", "reliable", "before", ann, bob)
	whisper("reliable", "psst", bob, ann)

	ann.refuses("", "/nick bob", "name_taken")
	ann.refuses("", "/nick root", "bad_name")
	l.run("h2", "", "node", l.as("ann", "rename", "Anna")...).exits(3).explains("2 to 24")
	l.run("h2", "", "node", l.as("ann", "rename", "anna")...).exits(0).says("anna")
	for _, n := range []*node{ann, bob} {
		n.want("renamed", "old", "ann", "new", "anna")
	}
	ann.object("cmd", "say", "chat", "#lab", "text", "after", "mode", "reliable", "ref", "after")
	bob.want("message", "chat", "#lab", "from", "anna", "text", "after")
	bob.object("cmd", "say", "chat", "@anna", "text", "hello anna", "mode", "reliable", "ref", "hello")
	ann.want("message", "chat", "@bob", "text", "hello anna")
	bob.refuses("@ann", "hello ann", "no_such_user", "anna")
	l.run("h3", "", "node", l.as("bob", "users")...).exits(0).says("anna (was ann)")
	l.run("h3", "", "node", l.as("bob", "history", "@anna")...).exits(0).says("psst", "hello anna")
	if got := strings.Join(l.accounts("h1", a), " "); got != "anna bob" {
		t.Errorf("authd has %s", got)
	}

	// The operator renames, too: connected nodes hear of it.
	l.run("h1", "", "authd", "user", "rename", "bob", "bert", "--data", l.path("authd")).exits(0)
	ann.want("renamed", "old", "bob", "new", "bert")
	bob.want("renamed", "old", "bob", "new", "bert")

	a.quit()
	ann.quit()
	bob.quit()
	ann, bob = l.node("h2", "ann"), l.node("h3", "bob") // without authd
	ann.ready("anna", nil)
	bob.ready("bert", nil)
	bob.want("peer", "user", "anna", "was", "ann", "state", "online")
	ann.want("room", "chat", "#lab", "members", []string{"anna", "bert"}, "cause", "restored")
	ann.object("cmd", "say", "chat", "#lab", "text", "still here", "mode", "reliable", "ref", "still")
	bob.want("message", "chat", "#lab", "from", "anna", "text", "still here")
	l.run("h2", "", "node", l.as("ann", "rename", "again")...).exits(4).explains("authd")
}

// sessions returns the devices of an account, as node sessions tells them.
func (l *lan) sessions(host, name string) (list []chat.Session) {
	l.t.Helper()
	r := l.run(host, "", "node", l.as(name, "sessions", "--json")...).exits(0)
	if err := json.Unmarshal([]byte(r.out), &list); err != nil {
		l.t.Fatalf("%s: %v: %s", r.did, err, r.out)
	}
	return list
}

// A changed password signs out the other devices, a revoked session is gone
// everywhere within seconds, and both are the person's own to do.
func TestSessions(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(4)...)
	a := l.authd("h1", "authd")
	ann, bob := l.newcomer("h2", "ann"), l.newcomer("h3", "bob")
	ann.ready("ann", a)
	bob.ready("bob", a)
	second := func(name, pw string) *node {
		n := l.node("h4", name, "--user", "ann", "--password-file", pw, "--trust", "first")
		n.ready("ann", a)
		return n
	}
	const changed, third = "brass-Lantern-quiver-27", "cobalt-Ferry-thimble-61"

	phone := second("phone", l.pw)
	device := phone.all("ready")[0].text("device")
	bob.want("peer", "user", "ann", "device", device, "state", "online")
	// Both devices show both sides of a chat.
	ann.want("notice", "code", "own_device_new")
	phone.want("peer", "user", "bob", "state", "online")
	ann.want("peer", "user", "ann", "device", device, "state", "online")
	for _, mode := range []string{"reliable", "fast"} {
		id := phone.say("@bob", mode, mode+" from the phone")
		bob.want("message", "id", id, "from", "ann", "mode", mode)
		ann.want("message", "id", id, "chat", "@bob", "from", "ann", "mode", mode, "text", mode+" from the phone")
		if got := phone.all("message", "id", id); len(got) > 0 {
			t.Errorf("what the phone wrote comes back to it: %v", got[0].fields)
		}
		id = bob.say("@ann", mode, mode+" to both")
		ann.want("message", "id", id, "chat", "@bob", "from", "bob")
		phone.want("message", "id", id, "chat", "@bob", "from", "bob")
	}
	list := l.sessions("h2", "ann")
	self := slices.IndexFunc(list, func(s chat.Session) bool { return s.Self })
	if len(list) != 2 || self < 0 || list[1-self].Self || list[1-self].Device != device || list[0].Revoked || list[1].Revoked {
		t.Fatalf("got %+v, want the phone %s and this device", list, device)
	}
	l.run("h2", "", "node", l.as("ann", "sessions", "revoke", "0123456789abcdef")...).exits(7).explains("no such device")
	l.run("h2", "", "node", l.as("ann", "sessions", "revoke", list[self].Device)...).exits(1).explains("node logout")
	l.run("h2", "", "node", l.as("ann", "sessions", "revoke", "phone")...).exits(2).explains("phone")
	begin := time.Now()
	l.run("h2", "", "node", l.as("ann", "sessions", "revoke", device)...).exits(0).says(device)
	bob.want("peer", "user", "ann", "device", device, "state", "left", "cause", "revoked")
	ann.want("peer", "user", "ann", "device", device, "state", "left", "cause", "revoked")
	t.Logf("the phone was gone after %v", time.Since(begin))
	phone.quit()
	for _, args := range []string{"users", "rooms", "send @bob hi"} { // the revocation is news to it
		l.run("h4", "", "node", l.as("phone", strings.Fields(args)...)...).exits(3).explains("revoked")
	}
	// What the device holds is its person's, whether or not the news has come.
	l.run("h4", "", "node", l.as("phone", "history", "@bob")...).exits(0).says("fast from the phone")
	l.run("h4", "", "node", l.as("phone", "search", "from the phone")...).exits(0).says("fast from the phone")
	if list := l.sessions("h2", "ann"); len(list) != 2 || list[1].Device != device || !list[1].Revoked {
		t.Errorf("got %+v, want the phone revoked, and last", list)
	}

	tablet := second("tablet", l.pw)
	device = tablet.all("ready")[0].text("device")
	bob.want("peer", "user", "ann", "device", device, "state", "online")
	passwd := func(stdin string, args ...string) result {
		t.Helper()
		return l.run("h2", stdin, "node", l.as("ann", append([]string{"passwd"}, args...)...)...)
	}
	ann.refuses("", "/passwd", "not_here", "node passwd")
	passwd("").exits(2).explains("first line")
	passwd("wrong\n" + changed + "\n").exits(3).explains("present password")
	passwd(password + "\n12345678\n").exits(3).explains("easy to guess")
	passwd(password+"\n"+changed+"\n", "--sign-out-others").exits(0).says("shut out")
	bob.want("peer", "user", "ann", "device", device, "state", "left", "cause", "revoked")
	l.run("h1", "", "node", "login", "--user", "ann", "--password-file", l.pw, "--trust", "first", "--data", l.path("thief")).exits(3).explains("password")
	l.run("h1", "", "node", "login", "--user", "ann", "--password-file", l.write("changed", changed+"\n"), "--trust", "first", "--data", l.path("again")).exits(0)

	// Without a node running: with authd directly.
	ann.quit()
	if list := l.sessions("h2", "ann"); len(list) != 4 {
		t.Errorf("got %+v, want four devices", list)
	}
	passwd(changed + "\n" + third + "\n").exits(0)
	a.quit()
	passwd(third + "\n" + changed + "\n").exits(4).explains("authd")
	l.run("h2", "", "node", l.as("ann", "sessions")...).exits(4).explains("authd")
	ann = l.node("h2", "ann")
	ann.ready("ann", nil)
	ann.want("authd", "state", "down")
	passwd(third + "\n" + changed + "\n").exits(4).explains("authd does not answer")
	ann.refuses("", "/nick anna", "authd_away", "authd does not answer")
	l.run("h4", "", "node", "sessions", "--data", l.path("nobody")).exits(3).explains("logged in")
}

// Who has forgotten the password sets a new one with the operator's code, once.
func TestForgottenPassword(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	l.authd("h1", "authd")
	const next = "brass-Lantern-quiver-27"
	login := func(dir, pw string) result {
		t.Helper()
		return l.run("h2", "", "node", "login", "--user", "ann", "--password-file", pw, "--trust", "first", "--data", l.path(dir))
	}
	l.run("h2", "", "node", "register", "--user", "ann", "--password-file", l.pw, "--trust", "first", "--data", l.path("first")).exits(0)
	l.run("h1", "", "authd", "user", "reset", "nobody", "--data", l.path("authd")).exits(1).explains("nobody")
	code := strings.TrimSpace(l.run("h1", "", "authd", "user", "reset", "ann", "--data", l.path("authd")).exits(0).out)
	login("second", l.write("code", code+"\n")).exits(2).explains("second line")
	login("second", l.write("weak", code+"\n12345678\n")).exits(3).explains("easy to guess")
	login("second", l.write("both", code+"\n"+next+"\n")).exits(0).says("logged in as ann")
	login("third", l.path("both")).exits(3).explains("one-time code", "authd user reset")
	login("third", l.pw).exits(3)
	login("third", l.write("next", next+"\n")).exits(0)
}

// Who may make an account is the operator's choice, and each no says what to
// do.
func TestRegistration(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	register := func(dir string, args ...string) result {
		t.Helper()
		return l.run("h2", "", "node", append([]string{"register", "--user", dir, "--password-file", l.pw, "--data", l.path(dir)}, args...)...)
	}
	a := l.authd("h1", "authd", "--registration", "invite")
	register("ann", "--trust", "first").exits(3).explains("invitation", "--join")
	code := strings.TrimSpace(l.run("h1", "", "authd", "code", "--data", l.path("authd")).exits(0).out)
	register("ann", "--join", code).exits(0).says("logged in as ann")
	register("root", "--join", code).exits(3).explains("reserved")
	register("Bob", "--join", code).exits(3).explains("2 to 24")
	a.quit()

	l.authd("h1", "authd", "--registration", "closed")
	register("bob", "--join", code).exits(3).explains("authd user add")
	l.run("h1", password+"\n", "authd", "user", "add", "bob", "--data", l.path("authd")).exits(0)
	l.run("h2", "", "node", "login", "--user", "bob", "--password-file", l.pw, "--join", code, "--data", l.path("bob")).exits(0)

	// Eight devices at most; the ninth is told what to do, and can come when one
	// was revoked.
	login := func(dir string) result {
		return l.run("h2", "", "node", "login", "--user", "bob", "--password-file", l.pw, "--join", code, "--data", l.path(dir))
	}
	for _, dir := range []string{"b2", "b3", "b4", "b5", "b6", "b7", "b8"} {
		login(dir).exits(0)
	}
	login("b9").exits(3).explains("node sessions", "revoke")
	list := l.sessions("h2", "b2")
	if len(list) != 8 {
		t.Fatalf("got %d devices, want 8", len(list))
	}
	for _, d := range list {
		if !d.Self {
			l.run("h2", "", "node", l.as("b2", "sessions", "revoke", d.Device)...).exits(0)
			break
		}
	}
	login("b9").exits(0)
}

// What a person does with the account, one call at a time and with nobody at a
// terminal: each ends with the exit status that says what became of it.
func TestAccountCommands(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(3)...)
	a := l.authd("h1", "authd")
	const next = "brass-Lantern-quiver-27"
	wrong := l.write("wrong", "not-the-Password-7\n")
	call := func(dir string, args ...string) result {
		t.Helper()
		return l.run("h2", "", "node", append(args, "--data", l.path(dir))...)
	}

	// Not yet, and not like that.
	call("ann", "login", "--user", "ann", "--password-file", l.pw).exits(5).explains("--trust")
	call("ann", "trust", "list").exits(0)
	call("ann", "login", "--user", "ann", "--password-file", l.pw, "--trust", "first").exits(3).explains("password")
	call("ann", "register", "--user", "ann", "--trust", "first").exits(2, 3).explains("--password-file")
	call("ann", "register", "--password-file", l.pw, "--trust", "first").exits(2, 3).explains("--user")
	call("ann", "register", "--user", "Ann", "--password-file", l.pw, "--trust", "first").exits(3).explains("2 to 24")
	passwd := func(dir, present, next string) result {
		t.Helper()
		return l.run("h2", present+"\n"+next+"\n", "node", "passwd", "--data", l.path(dir))
	}
	call("ann", "rename", "anna").exits(3).explains("log")
	call("ann", "logout").exits(3).explains("log")
	passwd("ann", password, next).exits(3).explains("log")

	call("ann", "register", "--user", "ann", "--password-file", l.pw, "--trust", "first").exits(0).says("ann")
	call("ann", "trust", "list").exits(0).says(a.fingerprint)
	call("eve", "register", "--user", "ann", "--password-file", l.pw, "--trust", "first").exits(3).explains("not available")

	// Who holds a token needs no password, and a wrong one does not matter.
	call("ann", "login", "--user", "ann", "--password-file", wrong).exits(0).says("logged in as ann")
	call("ann", "login").exits(0).says("logged in as ann")
	call("ann", "login", "--user", "bob", "--password-file", wrong).exits(1).explains("logged in as ann", "node logout")
	call("ann", "register", "--user", "ann", "--password-file", wrong).exits(1).explains("node logout")
	others := func() { // nothing is said in another's name
		t.Helper()
		for _, args := range []string{"--json", "send @cat hi", "users", "history @cat", "rename bobby", "sessions"} {
			call("ann", append(strings.Fields(args), "--user", "bob")...).exits(1).explains("logged in as ann", "node logout", "--data")
		}
	}
	others()
	ann := l.node("h2", "ann", "--user", "ann", "--password-file", wrong)
	ann.ready("ann", a)
	// While a node uses the directory: what needs no change is told, the rest
	// says what to do first.
	call("ann", "trust", "list").exits(0).says(a.fingerprint)
	others()
	call("ann", "login").exits(0).says("logged in as ann")
	call("ann", "login", "--user", "bob", "--password-file", wrong).exits(1).explains("logged in as ann", "node logout")
	call("ann", "register", "--user", "ann", "--password-file", wrong).exits(1).explains("node logout")
	for _, args := range []string{"logout", "trust replace " + a.code()} {
		call("ann", strings.Fields(args)...).exits(1).explains("a node runs on", "/quit")
	}
	ann.quit()
	call("bob", "login", "--user", "ann", "--password-file", wrong, "--trust", "first").exits(3).explains("password")

	call("ann", "rename").exits(2).explains("usage: node rename NEW")
	call("ann", "rename", "root").exits(3).explains("reserved")
	call("ann", "rename", "anna").exits(0).says("anna")
	call("ann", "users", "--user", "ann").exits(0).explains("whose name was changed") // scripts may have the old one
	passwd("ann", password, "password").exits(3).explains("easy to guess")
	passwd("ann", "not-the-Password-7", next).exits(3).explains("password")
	call("ann", "passwd").exits(2).explains("no terminal")
	passwd("ann", password, next).exits(0)
	call("bob", "login", "--user", "anna", "--password-file", l.pw, "--trust", "first").exits(3)
	call("bob", "login", "--user", "anna", "--password-file", l.write("next", next+"\n"), "--trust", "first").exits(0)
	call("bob", "logout").exits(0)
	l.run("h2", next+"\n", "node", "login", "--user", "anna", "--data", l.path("bob")).exits(0).says("anna")
	call("bob", "logout").exits(0)
	call("bob", "login", "--user", "anna").exits(3).explains("--password-file")
	call("bob", "rename", "bert").exits(3).explains("log")

	call("ann", "trust", "replace").exits(2).explains("usage: node trust replace CODE")
	call("ann", "trust", "replace", "nonsense").exits(2).explains("join code")
	call("ann", "trust", "nonsense").exits(2).explains("nonsense")

	// Without authd.
	a.quit()
	call("ann", "login").exits(0).says("logged in as anna")
	call("ann", "rename", "again").exits(4).explains("authd")
	call("ann", "trust", "list").exits(0).says(a.fingerprint)
}

// While a new password is typed, the terminal says after each key how hard it is
// to guess, and shows nothing of it: where an account is made, where node passwd
// asks and on the full screen.
func TestPasswordMeter(t *testing.T) {
	t.Parallel()
	l := newLAN(t, emu.Hosts(2)...)
	l.authd("h1", "authd")
	// fresh types a password that is too weak, mends it key by key and confirms it.
	fresh := func(p *person, question, again, pw string) {
		t.Helper()
		p.sees(question)
		p.press("pass")
		p.sees(question + " [----] very weak")
		p.press("word")
		p.press("\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f")
		half := len(pw) / 2
		p.press(pw[:half])
		p.misses("very weak")
		p.press(pw[half:])
		p.sees(question + " [####] strong")
		p.press("\r")
		p.sees(again)
		p.press(pw + "\r")
	}
	const second, third = "brass-Lantern-quiver-27", "cobalt-Ferry-thimble-61"
	p := l.sit("h2", "ann", 90, 24, "register", "--user", "ann", "--trust", "first")
	fresh(p, "New password:", "once more:", password)
	p.sees("logged in as ann")
	<-p.done

	p = l.sit("h2", "ann", 90, 24, "passwd")
	p.sees("Present password:")
	p.press(password + "\r")
	fresh(p, "New password:", "once more:", second)
	p.sees("Shut your other devices out?")
	p.press("n\r")
	p.sees("your password is changed")
	<-p.done

	p = l.sit("h2", "ann", 90, 24)
	p.sees("you are ann on")
	p.types("/passwd")
	p.sees("present password")
	p.press(second + "\r")
	fresh(p, "new password:", "once more", third)
	p.sees("/sessions lists them")
}

// Who is asked is told why, before there is a screen: what can be no name, what is
// taken, what is wrong, and that authd has gone.
func TestAskedAgain(t *testing.T) {
	t.Parallel()
	const offer = "Start one here, inside this program? [y/N]"
	l := newLAN(t, emu.Hosts(2)...)
	p := l.sit("h2", "bob", 90, 24)
	asked := func(question string) {
		t.Helper()
		p.until(func(screen string) bool { return strings.HasSuffix(strings.TrimSpace(screen), question) }, "end with %q", question)
	}
	answer := func(question, text string) {
		t.Helper()
		asked(question)
		p.press(text + "\r")
	}
	account := func(name, isNew string) {
		t.Helper()
		answer("Your user name:", name)
		answer("Is that a new account? [y/N]", isNew)
	}
	asked(offer) // which is taken back, and swallows nothing
	a := l.authd("h1", "authd")
	l.run("h2", "", "node", "register", "--user", "ann", "--password-file", l.pw, "--trust", "first", "--data", l.path("ann")).exits(0)
	p.sees("[y/N]\nFound the realm h1")
	answer("Trust it? [y/N]", "y")
	answer("Your user name:", "Bob")
	p.sees("2 to 24 characters")
	account("ann", "y")
	answer("New password:", password)
	answer("once more:", password)
	p.sees("not available: choose another")
	account("ann", "n")
	answer("Password:", "not-the-Password-7")
	p.sees("the user name or the password is wrong")
	account("ann", "n")
	a.quit()
	answer("Password:", password)
	answer(offer, "n")
	p.sees("! no authd answers at", "looking for it goes on")
	l.authd("h1", "authd")
	p.sees("you are ann on")
	p.press("/quit\r")
	<-p.done
}
