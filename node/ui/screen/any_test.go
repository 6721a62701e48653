package screen

import (
	"math/rand/v2"
	"testing"
	"time"

	"lanchat/node/chat"
)

// Whatever is pressed, pasted, clicked and shown, in whatever size, nothing breaks
// and a picture comes of it.
func TestAnyKeys(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	word := func() string {
		return pick("hi", "", "ü", "🤦🏼‍♂️", "世界世界", "a\nb", "\x1b[31m", "**b** `c`", "http://wiki.lan/page?x=1", "> quote", "```\ncode\n```", "\u202e", "ann: hello", "/passwd", "/help", "/", "//x", "#lab", "@bob", "/join #x")
	}
	for range 10 {
		now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
		s := New(Config{Commands: chat.Usages(), First: random.IntN(2) == 0, Hyperlinks: random.IntN(2) == 0,
			Meter: func(p string) (int, string) { return len(p) % 7, pick("", "longer") }})
		for range 300 {
			now = now.Add(time.Duration(random.IntN(3000)) * time.Millisecond)
			switch random.IntN(12) {
			case 0:
				s.Resize(random.IntN(random.IntN(200)+1), random.IntN(random.IntN(60)+1))
			case 1:
				s.Paste(word() + pick("", "\n", "\r\n\r\n\n\n\n\nx") + word())
			case 2:
				s.Click(now, random.IntN(200)-2, random.IntN(60)-2)
			case 3:
				s.Wheel(now, random.IntN(2) == 0)
			case 4:
				s.Focus(now, random.IntN(2) == 0)
			case 5, 6:
				s.Show(now, []Item{{now, anyEvent(random, pick, word)}}, random.IntN(50)/49)
			case 7:
				text := word()
				s.Key(now, text, text)
			default:
				s.Key(now, pick("ctrl+c", "enter", "tab", "ctrl+n", "ctrl+p", "alt+a", "pgup", "pgdown", "alt+end", "alt+home", "f1", "f7", "f8", "ctrl+l", "ctrl+r", "ctrl+f", "esc", "alt+0", "alt+1", "alt+9",
					"backspace", "delete", "left", "right", "up", "down", "home", "end", "ctrl+a", "ctrl+e", "ctrl+k", "ctrl+u", "ctrl+w", "alt+b", "alt+f", "alt+d", "ctrl+left", "ctrl+right", "alt+enter", "ctrl+g", "ctrl+h", "ctrl+y", "ctrl+t", "y", "n"), "")
			}
			s.Advance(now)
			for _, c := range s.Take().Commands {
				if random.IntN(3) == 0 {
					s.Show(now, []Item{{now, chat.Notice{Code: pick("history", "set", "alias", "chats", "mode", "help", "users", "search"), Text: word(), Ref: c.Ref}}}, 0)
				} else if random.IntN(3) == 0 {
					s.Show(now, []Item{{now, chat.Error{Code: "bad_argument", Text: word(), Ref: c.Ref}}}, 0)
				} else {
					s.Show(now, []Item{{now, chat.Sent{ID: pick("1", "2", "3"), Chat: pick("#lab", "@bob"), Text: word(), Ref: c.Ref, Online: random.IntN(3)}}}, 0)
				}
			}
			s.View()
			s.Deadline()
		}
	}
}

func anyEvent(random *rand.Rand, pick func(...string) string, word func() string) chat.Event {
	in, who := pick("#lab", "@bob", "#"+word(), ""), pick("ann", "bob", "cat", word())
	switch random.IntN(14) {
	case 0:
		return chat.Ready{User: "ann", Realm: word()}
	case 1:
		return chat.Authd{State: pick("up", "down", "changed"), Addr: word()}
	case 2:
		return chat.Peer{User: who, State: pick("online", "away", "left", "lost"), Cause: word()}
	case 3:
		return chat.Renamed{Old: who, New: pick("ann", "bob", "dan")}
	case 4, 5:
		return chat.Room{Chat: in, Members: []string{"ann", who}, Admins: []string{who}, Topic: word(), Cause: pick("restored", "joined", "left", "kicked", "banned", "renamed"), By: who, Whom: pick("ann", who)}
	case 6:
		return chat.Receipt{ID: pick("1", "2", "3"), Chat: in, By: who, Got: random.IntN(4), Of: random.IntN(4)}
	case 7:
		return chat.Gap{Chat: in, From: who, Missing: uint64(random.IntN(3))}
	case 8:
		return chat.Notify{Chat: in, ID: pick("1", "2"), Why: pick("dm", "mention", "message")}
	case 9:
		return chat.Notice{Code: pick("current", "clear", "waiting", "kept", "opening", "invited", "sent_all"), Text: word(), Data: pick("#lab", "@bob", "")}
	}
	return chat.Message{ID: pick("1", "2", "3", "4"), Chat: in, From: who, Text: word(), Mode: pick("reliable", "fast"), Edited: random.IntN(9) == 0, Deleted: random.IntN(9) == 0, ReplyTo: pick("", "1", "9"), Replay: random.IntN(4) == 0}
}
