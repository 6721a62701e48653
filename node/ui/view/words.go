// Package view is what the faces for people have in common: the words for what
// happens ([Words]), what is remembered of the events shown ([Model]), and the
// completion of what is typed. It draws nothing and does no I/O.
package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lanchat/node/chat"
	"lanchat/node/ui/theme"
	"lanchat/wire/clean"
	"lanchat/wire/words"
)

// Help is what a person sees at the very first start in line mode, HelpScreen in
// the full screen: five lines at most.
var (
	Help = []string{
		"type a line and press Enter: it goes to the chat named in the prompt",
		"/create #lab makes a room, /join #lab enters one, /rooms lists them",
		"/msg bob hi writes to one person, /users shows who is here",
		"Tab completes names, the arrow keys bring back what you typed",
		"/help lists everything, /quit (or Ctrl+C twice) ends it",
	}
	HelpScreen = []string{ // beside the chats in 80 columns
		"type, then Enter: it goes to the chat in the prompt",
		"/create #lab makes a room, /join #lab enters one",
		"/msg bob hi is for bob alone, /users: who is here",
		"Alt+2 goes to chat 2, Tab completes names",
		"/help lists everything, /quit ends it",
	}
)

// OnceMore is the answer to the first Ctrl+C.
const OnceMore = "press Ctrl+C once more to quit"

// Words says an event in the words of this program, and of what kind it is.
// me is one's own user name. Events that are no line of their own give "":
// messages, sent, notify. Text of several lines
// comes from notices and errors only. What comes back has been cleaned.
func Words(e chat.Event, me string) (theme.Kind, string) {
	switch e := e.(type) {
	case chat.Ready:
		return theme.Notice, fmt.Sprintf("you are %s on %s (fingerprint %s)", Name(e.User), One(e.Realm), One(e.Fingerprint))
	case chat.Authd:
		return authdWords(e, me)
	case chat.Peer:
		return peerWords(e, me)
	case chat.Renamed:
		if e.New == me || e.Old == me {
			return theme.People, fmt.Sprintf("you are now called %s (before: %s)", Name(e.New), Name(e.Old))
		}
		return theme.People, fmt.Sprintf("%s is now called %s", Name(e.Old), Name(e.New))
	case chat.Room:
		return theme.Rooms, roomWords(e, me)
	case chat.Receipt:
		return theme.Quiet, fmt.Sprintf("%s: %s %s it (%d of %d)", One(e.Chat), who(e.By, me), has(e.By, me), e.Got, e.Of)
	case chat.Gap:
		if e.Mode == chat.Fast.String() {
			return theme.Quiet, fmt.Sprintf("%s: %s of %s did not come", One(e.Chat), words.Count(e.Missing, "fast message", "fast messages"), Name(e.From))
		}
		if e.Healed {
			return theme.Rooms, fmt.Sprintf("%s: the missing messages of %s came", One(e.Chat), Name(e.From))
		}
		return theme.Trouble, fmt.Sprintf("%s: %s missing from %s; asking for %s", One(e.Chat),
			words.Count(e.Missing, "message is", "messages are"), Name(e.From), map[bool]string{true: "it", false: "them"}[e.Missing == 1])
	case chat.Notice:
		return theme.Notice, clean.Text(e.Text, 0)
	case chat.Error:
		return theme.Error, clean.Text(cmp.Or(e.Text, e.Code), 0)
	}
	return theme.Plain, ""
}

func authdWords(e chat.Authd, me string) (theme.Kind, string) {
	switch e.State {
	case "up":
		return theme.Notice, at("authd is up", e.Addr)
	case "down":
		if me == "" { // without a token nothing goes on
			return theme.Trouble, at("no authd answers", e.Addr) + "; looking for it goes on, Ctrl+C ends it"
		}
		return theme.Trouble, at("authd is away", e.Addr) + ": no new accounts until it is back; everything else goes on"
	case "changed":
		if e.Other {
			return theme.Trouble, at("another realm answers", e.Addr) + ", fingerprint " + One(e.Fingerprint)
		}
		return theme.Notice, "authd is now at " + cmp.Or(One(e.Addr), "another address")
	}
	return theme.Notice, at("authd: "+One(e.State), e.Addr)
}

func at(s, addr string) string {
	if addr == "" {
		return s
	}
	return s + " at " + One(addr)
}

func peerWords(e chat.Peer, me string) (theme.Kind, string) {
	user := Name(e.User)
	if e.Was != "" {
		user += " (was " + Name(e.Was) + ")"
	}
	if e.User == me {
		user = "your other device"
	}
	switch e.State {
	case "online":
		return theme.People, user + " is online"
	case "away":
		return theme.People, user + " is away"
	case "left":
		if e.Cause == "revoked" {
			return theme.Trouble, user + " left: the device was revoked"
		}
		return theme.People, user + " left"
	case "lost":
		if e.Cause == "silent" || e.Cause == "" {
			return theme.Trouble, user + " is lost (no sign for 7 s)"
		}
		return theme.Trouble, user + " is lost (" + One(e.Cause) + ")"
	}
	return theme.People, user + ": " + One(e.State)
}

func roomWords(e chat.Room, me string) string {
	room := One(e.Chat)
	by, whom := who(e.By, me), who(e.Whom, me)
	actor := by // who did what has no object
	if e.Whom != "" {
		actor = whom
	}
	switch e.Cause {
	case "restored":
		return roomLine(e, me)
	case "created":
		if e.By == me {
			return room + " created; you are the admin"
		}
		return by + " created " + room
	case "joined":
		switch {
		case actor == "you" && e.Again:
			return "you are in " + roomLine(e, me)
		case actor == "you":
			return "you joined " + roomLine(e, me)
		}
		return actor + " joined " + room
	case "left":
		return actor + " left " + room
	case "kicked":
		return by + " kicked " + whom + " from " + room + reason(e)
	case "banned":
		return by + " banned " + whom + " from " + room + reason(e)
	case "unbanned":
		return by + " lifted the ban on " + whom + " in " + room
	case "invited":
		return by + " invited " + whom + " to " + room
	case "promoted":
		return by + " made " + whom + " a co-admin of " + room
	case "demoted":
		return by + " made " + whom + " an ordinary member of " + room
	case "transferred":
		return by + " handed " + room + " over to " + whom
	case "succeeded":
		if actor == "you" {
			return "you are the admin of " + room + " now"
		}
		return actor + " is the admin of " + room + " now"
	case "silenced":
		return by + " silenced " + whom + " in " + room
	case "unsilenced":
		return by + " let " + whom + " speak again in " + room
	case "topic":
		if e.Topic == "" {
			return by + " removed the topic of " + room
		}
		return by + " set the topic of " + room + ": " + One(e.Topic)
	case "renamed":
		if e.By == "" {
			return One(e.Was) + " is called " + room + " here now"
		}
		return by + " renamed " + One(e.Was) + " to " + room
	case "claimed":
		if len(e.Admins) > 0 && e.Admins[0] == e.By {
			return by + " " + be(e.By, me) + " back and in charge of " + room
		}
		return by + " " + stand(e.By, me) + " in for the admin of " + room
	case "device":
		if whom == "you" {
			return "your devices in " + room + " have changed"
		}
		return "the devices of " + whom + " in " + room + " have changed"
	case "resolved":
		if slices.Contains(e.Members, e.Whom) {
			return by + " took back that " + whom + " " + was(e.Whom, me) + " removed from " + room
		}
		return by + " upheld that " + whom + " " + was(e.Whom, me) + " removed from " + room + reason(e)
	case "rekeyed":
		return fmt.Sprintf("%s has a new key (epoch %d)", room, e.Epoch)
	case "merged":
		return "after the merge " + room + " has " + members(e)
	}
	s := room + ": " + One(strings.ReplaceAll(e.Cause, "_", " "))
	if e.By != "" {
		s += " by " + by
	}
	if e.Whom != "" {
		s += " (" + whom + ")"
	}
	return s
}

// reason returns why somebody was removed, as the end of a sentence.
func reason(e chat.Room) string {
	if e.Reason == "" {
		return ""
	}
	return ": " + One(e.Reason)
}

func be(user, me string) string {
	if user == me && me != "" {
		return "are"
	}
	return "is"
}

func was(user, me string) string {
	if user == me && me != "" {
		return "were"
	}
	return "was"
}

func stand(user, me string) string {
	if user == me && me != "" {
		return "stand"
	}
	return "stands"
}

// roomLine introduces a room.
func roomLine(e chat.Room, me string) string {
	s := One(e.Chat)
	if e.Private {
		s += " (private)"
	}
	s += ": " + members(e)
	if len(e.Admins) > 0 {
		if e.Admins[0] == me {
			s += ", you are the admin"
		} else {
			s += ", the admin is " + Name(e.Admins[0])
		}
	}
	if e.Topic != "" {
		s += "; topic: " + One(e.Topic)
	}
	return s
}

func members(e chat.Room) string { return words.Count(len(e.Members), "member", "members") }

// strengths is what the password meter says, by zxcvbn's score.
var strengths = [5]string{"very weak", "weak", "fair", "good", "strong"}

// Weak reports whether a new password of that score, of 4, and with that advice
// is to be refused.
func Weak(score int, advice string) bool { return score < 3 || advice != "" }

// StrengthBar draws the meter.
func StrengthBar(score int) string {
	score = min(max(score, 0), 4)
	return "[" + strings.Repeat("#", score) + strings.Repeat("-", 4-score) + "] " + strengths[score]
}

// StrengthWords reads the meter out.
func StrengthWords(score int, advice string) string {
	s := "strength: " + strengths[min(max(score, 0), 4)]
	if advice != "" {
		s += "; " + clean.Line(advice, 200)
	}
	return s
}

// Marks returns what is to be known about a message besides its text.
func Marks(m chat.Message) string {
	var list []string
	if m.Replay {
		list = append(list, "earlier")
	}
	if m.Late {
		list = append(list, "late")
	}
	switch {
	case m.Deleted:
		list = append(list, "deleted")
	case m.Edited:
		list = append(list, "edited")
	}
	if len(list) == 0 {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}

// Skipped says that a terminal that stood still missed lines.
func Skipped(n int) string {
	return words.Count(n, "line was", "lines were") + " skipped while the terminal stood still; messages are in the history"
}

// who returns "you" for oneself, else the name.
func who(user, me string) string {
	if user == me && me != "" {
		return "you"
	}
	return Name(user)
}

func has(user, me string) string {
	if user == me && me != "" {
		return "have"
	}
	return "has"
}

// Name returns a user name fit to be drawn; one without a name is somebody.
func Name(user string) string { return cmp.Or(clean.Line(user, 64), "somebody") }

// One returns s on one line, fit to be drawn.
func One(s string) string { return clean.Line(s, 300) }
