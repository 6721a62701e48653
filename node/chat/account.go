package chat

import (
	"fmt"
	"strings"
	"time"

	"lanchat/wire"
	"lanchat/wire/clean"
)

// CommandOf returns the name of the command that a typed line is, without the
// slash, and its arguments; "" if the line is text or no command.
func CommandOf(line string) (name string, args []string) {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "/") || strings.HasPrefix(line, "//") {
		return "", nil
	}
	word, rest := cutWord(line[1:])
	v, err := findVerb(word, nil)
	if err != nil {
		return "", nil
	}
	return v.name, strings.Fields(rest)
}

// askAuthd asks authd for something; other commands wait until then was called
// or why not was shown.
func (c *Core) askAuthd(q AskAuthd, ref string, then func(now time.Time, a AuthdAnswer)) {
	end := c.begin()
	c.nextID++
	q.Question = c.nextID
	c.requests[q.Question] = func(now time.Time, a AuthdAnswer) {
		if a.Error != nil {
			c.refuse(ref, a.Error.Code, "%s", a.Error.Text)
		} else {
			then(now, a)
		}
		end(now)
	}
	c.send(q)
}

// HandleAuthdAnswer takes the answer to an AskAuthd.
func (c *Core) HandleAuthdAnswer(now time.Time, question uint64, a AuthdAnswer) {
	if then, ok := c.requests[question]; ok {
		delete(c.requests, question)
		then(now, a)
	}
}

func (c *Core) doNick(k *call) {
	old, name := c.self.name, strings.TrimPrefix(k.args[0], "@")
	c.askAuthd(AskAuthd{Rename: name}, k.ref, func(time.Time, AuthdAnswer) {
		c.show(Notice{Code: "renamed", Text: "your name is " + name + " now; nobody can take the name " + old + " until every token with it has ended", Ref: k.ref,
			Data: map[string]string{"old": old, "new": name}})
	})
}

// doPasswd is for faces that cannot ask: a password must be neither shown nor
// kept among the lines that were typed.
func (c *Core) doPasswd(k *call) {
	c.refuse(k.ref, "not_here", "a password is not typed into the chat: change it in a terminal, with node passwd")
}

func (c *Core) passwd(p Passwd, ref string) {
	c.askAuthd(AskAuthd{Passwd: &p}, ref, func(time.Time, AuthdAnswer) {
		text := "your password is changed; your other devices stay logged in: /sessions lists them"
		if p.SignOut {
			text = "your password is changed, and your other devices are shut out"
		}
		c.show(Notice{Code: "password_changed", Text: text, Ref: ref})
	})
}

// A Session is one of the person's devices, as the notice tells.
type Session struct {
	Device  string    `json:"device"`
	Name    string    `json:"name"`
	Self    bool      `json:"self"`
	Revoked bool      `json:"revoked"`
	Created time.Time `json:"created"`
	Ends    time.Time `json:"ends"` // of its last token
}

func (c *Core) doSessions(k *call) {
	switch {
	case len(k.args) == 0:
		c.askAuthd(AskAuthd{}, k.ref, func(now time.Time, a AuthdAnswer) { c.showSessions(a.Devices, k.ref) })
	case len(k.args) == 2 && k.args[0] == "revoke":
		device, err := wire.ParseDeviceID(k.args[1])
		if err != nil {
			c.refuse(k.ref, "bad_argument", "%q is no device: /sessions lists yours, with 16 digits each", k.args[1])
			return
		}
		c.askAuthd(AskAuthd{Revoke: device}, k.ref, func(time.Time, AuthdAnswer) {
			c.show(Notice{Code: "revoked", Text: "the device " + device.String() + " is shut out, for ever: everybody who is here hears of it within seconds", Ref: k.ref, Data: device.String()})
		})
	default:
		c.refuse(k.ref, "bad_argument", "usage: /sessions, or /sessions revoke DEVICE")
	}
}

func (c *Core) showSessions(devices []AccountDevice, ref string) {
	list := []Session{}
	var lines []string
	for _, d := range devices {
		s := NewSession(d, c.self.device)
		list = append(list, s)
		lines = append(lines, s.String())
	}
	c.show(Notice{Code: "sessions", Text: strings.Join(lines, "\n"), Ref: ref, Data: list})
}

// NewSession says what authd has on record, in what is to be shown on a device.
func NewSession(d AccountDevice, here wire.DeviceID) Session {
	return Session{d.ID.String(), clean.Line(d.Name, wire.MaxDeviceName), d.ID == here, d.Revoked, d.Created.UTC(), d.Ends.UTC()}
}

func (s Session) String() string {
	state := "token until " + s.Ends.Format(time.DateOnly)
	switch {
	case s.Revoked:
		state = "revoked"
	case s.Self:
		state += " (this device)"
	}
	return fmt.Sprintf("%s  %-16s  since %s  %s", s.Device, s.Name, s.Created.Format(time.DateOnly), state)
}
