package view

import (
	"maps"
	"slices"
	"sync"

	"lanchat/node/chat"
)

// A Model is what a face remembers of the events it showed: enough to draw
// the prompt, to complete a word and to leave out what says nothing new.
type Model struct {
	mu      sync.Mutex
	me      string
	current string                       // chat, "" if none
	rooms   map[string][]string          // members, by chat
	people  map[string]map[string]string // state of each device here ("online", "away"), by user

	settings []chat.Setting // as they were told last
	aliases  chat.Aliases
	offered  []string // rooms one is not in
}

// NewModel returns one that has seen nothing.
func NewModel() *Model {
	return &Model{rooms: make(map[string][]string), people: make(map[string]map[string]string)}
}

// Apply learns from e and reports whether it says something new: the second
// device of a person who is here already does not.
func (m *Model) Apply(e chat.Event) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e := e.(type) {
	case chat.Ready:
		m.me = e.User
	case chat.Peer:
		before := m.presence(e.User)
		switch e.State {
		case "online", "away":
			if m.people[e.User] == nil {
				m.people[e.User] = make(map[string]string)
			}
			m.people[e.User][e.Device] = e.State
		default:
			delete(m.people[e.User], e.Device)
			if len(m.people[e.User]) == 0 {
				delete(m.people, e.User)
			}
		}
		// Somebody who was never seen may still leave.
		return m.presence(e.User) != before || before == "" && e.State != "online" && e.State != "away"
	case chat.Renamed:
		if m.me == e.Old {
			m.me = e.New
		}
		if d, ok := m.people[e.Old]; ok {
			delete(m.people, e.Old)
			m.people[e.New] = d
		}
		if m.current == "@"+e.Old {
			m.current = "@" + e.New
		}
		for _, members := range m.rooms {
			if i := slices.Index(members, e.Old); i >= 0 {
				members[i] = e.New
			}
		}
	case chat.Room:
		m.room(e)
	case chat.Notice:
		switch data := e.Data.(type) {
		case string:
			if e.Code == "current" {
				m.current = data
			}
		case []chat.Setting:
			for _, s := range data {
				if i := slices.IndexFunc(m.settings, func(old chat.Setting) bool { return old.Name == s.Name }); i >= 0 {
					m.settings[i] = s
				} else {
					m.settings = append(m.settings, s)
				}
			}
		case chat.Aliases:
			m.aliases = data
		case []chat.RoomSummary:
			m.offered = nil
			for _, r := range data {
				if !r.Joined {
					m.offered = append(m.offered, r.Chat)
				}
			}
		}
	}
	return true
}

func (m *Model) room(e chat.Room) {
	who := e.Whom
	if who == "" {
		who = e.By
	}
	mine := who == m.me && m.me != ""
	if e.Was != "" {
		delete(m.rooms, e.Was)
		if m.current == e.Was {
			m.current = e.Chat
		}
	}
	switch e.Cause {
	case "left", "kicked", "banned":
		if mine {
			delete(m.rooms, e.Chat)
			if m.current == e.Chat {
				m.current = ""
			}
			return
		}
	case "created", "joined":
		if mine {
			m.current = e.Chat
		}
	}
	m.rooms[e.Chat] = slices.Clone(e.Members)
}

func (m *Model) presence(user string) string {
	best := ""
	for _, state := range m.people[user] {
		if state == "online" {
			return state
		}
		best = state
	}
	return best
}

// Presence returns the best state of a user's devices, "" for none.
func (m *Model) Presence(user string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.presence(user)
}

// Self returns one's own user name, "" before it is known.
func (m *Model) Self() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.me
}

// Chat returns the current chat, "" if there is none.
func (m *Model) Chat() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

// Settings returns the person's settings, as far as they were told.
func (m *Model) Settings() []chat.Setting {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.settings)
}

// Setting returns the value of a setting, fallback before it is known.
func (m *Model) Setting(name, fallback string) string {
	for _, s := range m.Settings() {
		if s.Name == name && s.Value != "" {
			return s.Value
		}
	}
	return fallback
}

// Aliases returns the names of the person's own commands.
func (m *Model) Aliases() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.aliases
}

// Rooms returns the rooms one is in, sorted.
func (m *Model) Rooms() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.rooms))
}

// Offered returns the rooms one is not in that "/rooms" told of last.
func (m *Model) Offered() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.offered
}

// Users returns everybody who is here or in a room of one's own, without
// oneself, sorted.
func (m *Model) Users() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	set := make(map[string]bool)
	for user := range m.people {
		set[user] = true
	}
	for _, members := range m.rooms {
		for _, user := range members {
			set[user] = true
		}
	}
	delete(set, m.me)
	return slices.Sorted(maps.Keys(set))
}
