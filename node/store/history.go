package store

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"lanchat/node/chat"
)

// Messages of a chat stand in display order: by clock across senders (by
// device where clocks are equal), and by number for each sender always. See
// schema.sql on place.
const (
	oldestFirst = "place, device, number, mode"
	newestFirst = "place DESC, device DESC, number DESC, mode DESC"
)

func scanMessage(scan func(...any) error, m *chat.SaveMessage) error {
	return scan(into(m.ID[:]), (*chatID)(&m.Chat), into(m.Device[:]), &m.Mode, (*number)(&m.Number), (*number)(&m.Clock), (*moment)(&m.At),
		&m.Own, &m.Read, &m.Action, into(m.ReplyTo[:]), into(m.Account[:]), &m.From, &m.Text, into(m.Epoch[:]), &m.Raw)
}

// History returns at most limit messages of a chat, in display order: those
// that stand just before the message before, or the last ones if that is zero.
// It returns ErrNoMessage if the chat has no such message.
func (s *Store) History(in chat.ChatID, before chat.MessageID, limit int) ([]chat.SaveMessage, error) {
	query, args := "SELECT "+messageColumns+" FROM message WHERE chat = ?", []any{chatID(in)}
	if before != (chat.MessageID{}) {
		if err := s.has(in, before); err != nil {
			return nil, err
		}
		query += " AND (" + oldestFirst + ") < (SELECT " + oldestFirst + " FROM message WHERE id = ?)"
		args = append(args, before[:])
	}
	query += " ORDER BY " + newestFirst + " LIMIT ?"
	args = append(args, max(limit, 0))
	found, err := collect(s.read, scanMessage, query, args...)
	if err != nil {
		return nil, fmt.Errorf("reading history: %w", s.mapped(err))
	}
	slices.Reverse(found)
	return found, nil
}

// has returns ErrNoMessage if the chat does not have the message.
func (s *Store) has(in chat.ChatID, id chat.MessageID) error {
	var one int
	err := s.read.QueryRow("SELECT 1 FROM message WHERE id = ? AND chat = ?", id[:], chatID(in)).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNoMessage
	}
	return s.mapped(err)
}

// maxSearch bounds what Search looks for, in bytes.
const maxSearch = 1000

// Search returns at most limit messages, of all chats, that have text in
// theirs, upper or lower case: the newest first. Empty text finds nothing.
func (s *Store) Search(text string, limit int) ([]chat.SaveMessage, error) {
	switch {
	case text == "" || limit <= 0:
		return nil, nil
	case len(text) > maxSearch:
		return nil, fmt.Errorf("the text has %d bytes, at most %d can be searched for", len(text), maxSearch)
	}
	like, exact := pattern(text)
	query, args := "SELECT "+messageColumns+` FROM message WHERE text LIKE ? ESCAPE '\' ORDER BY `+newestFirst, []any{like}
	if exact {
		query += " LIMIT ?"
		args = append(args, limit)
	}
	rows, err := s.read.Query(query, args...)
	if err != nil {
		return nil, fmt.Errorf("searching: %w", s.mapped(err))
	}
	defer rows.Close()
	var found []chat.SaveMessage
	folded := strings.Map(fold, text)
	for len(found) < limit && rows.Next() {
		var m chat.SaveMessage
		if err := scanMessage(rows.Scan, &m); err != nil {
			return nil, fmt.Errorf("searching: %w", err)
		}
		if exact || strings.Contains(strings.Map(fold, m.Text), folded) {
			found = append(found, m)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("searching: %w", s.mapped(err))
	}
	return found, nil
}

// pattern returns what LIKE, to which only the letters of ASCII have two
// cases, finds a text by. Where other letters with cases are in it (exact is
// false) it lets any letter stand for those, and finds too much.
func pattern(text string) (like string, exact bool) {
	var b strings.Builder
	b.WriteByte('%')
	exact = true
	for _, r := range text {
		switch {
		case r >= utf8.RuneSelf && unicode.SimpleFold(r) != r:
			b.WriteByte('_')
			exact = false
			continue
		case r == '%' || r == '_' || r == '\\':
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	b.WriteByte('%')
	return b.String(), exact
}

// fold returns the same rune for all cases of a letter.
func fold(r rune) rune {
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return least
}

// Unread returns how many messages of each chat were not read; chats without
// any are not in it.
func (s *Store) Unread() (map[chat.ChatID]int, error) {
	type count struct {
		chat chat.ChatID
		n    int
	}
	counts, err := collect(s.read, func(scan func(...any) error, c *count) error {
		return scan((*chatID)(&c.chat), &c.n)
	}, "SELECT chat, count(*) FROM message WHERE read = 0 GROUP BY chat")
	if err != nil {
		return nil, fmt.Errorf("counting what is unread: %w", s.mapped(err))
	}
	unread := make(map[chat.ChatID]int, len(counts))
	for _, c := range counts {
		unread[c.chat] = c.n
	}
	return unread, nil
}

// MarkRead notes that the messages of a chat were read, up to and including
// upTo in display order, or all if that is zero. It returns ErrNoMessage if the
// chat has no such message.
func (s *Store) MarkRead(in chat.ChatID, upTo chat.MessageID) error {
	query, args := "UPDATE message SET read = 1 WHERE chat = ? AND read = 0", []any{chatID(in)}
	if upTo != (chat.MessageID{}) {
		if err := s.has(in, upTo); err != nil {
			return err
		}
		query += " AND (" + oldestFirst + ") <= (SELECT " + oldestFirst + " FROM message WHERE id = ?)"
		args = append(args, upTo[:])
	}
	_, err := s.db.Exec(query, args...)
	if err != nil {
		return fmt.Errorf("marking as read: %w", s.mapped(err))
	}
	return nil
}
