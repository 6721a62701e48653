package clean

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// MaxTopic is how long a topic may be, in runes.
const MaxTopic = 64

// MaxRoomName is how long a room name may be, in bytes after the '#'.
const MaxRoomName = 32

var (
	// ErrRoomName says that a string is no room name.
	ErrRoomName = errors.New("a room name is # and 1 to 32 letters a-z, digits, dots, dashes or underscores, with a letter or digit first")
	// ErrTopic says that a topic is too long.
	ErrTopic = errors.New("a topic has at most 64 characters")
)

// RoomName returns the one spelling of a room name: '#' and
// [a-z0-9][a-z0-9._-]{0,31}. The '#' may be missing in s and ASCII capitals
// are folded; everything else is refused with [ErrRoomName]. Names are ASCII
// because no profile of other scripts keeps look-alikes apart, and a room
// that looks like another one catches what was meant for it.
func RoomName(s string) (string, error) {
	name := strings.TrimPrefix(s, "#")
	if len(name) < 1 || len(name) > MaxRoomName {
		return "", ErrRoomName
	}
	b := make([]byte, 1, 1+len(name))
	b[0] = '#'
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return "", ErrRoomName
		}
		b = append(b, c)
	}
	return string(b), nil
}

// Topic returns a topic as [Line] leaves it, or [ErrTopic] if that is longer
// than [MaxTopic] runes. The empty topic is one.
func Topic(s string) (string, error) {
	t := Line(s, 0)
	if utf8.RuneCountInString(t) > MaxTopic {
		return "", ErrTopic
	}
	return t, nil
}
