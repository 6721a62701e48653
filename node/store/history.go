package store

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"lanchat/node/chat"
	"lanchat/wire"
)

// ErrNoMessage says that there is no message of that id in the chat.
var ErrNoMessage = errors.New("no such message")

// Messages of a chat stand in display order: by clock across senders (by
// device where clocks are equal), and by number for each sender always. See
// schema.sql on place.
const (
	oldestFirst = "place, device, number, mode"
	newestFirst = "place DESC, device DESC, number DESC, mode DESC"
)

func scanMessage(scan func(...any) error, m *chat.SaveMessage) error {
	return scan(into(m.ID[:]), (*chatID)(&m.Chat), into(m.Device[:]), &m.Mode, (*number)(&m.Number), (*number)(&m.Clock), (*moment)(&m.At),
		&m.Own, &m.Read, &m.Action, into(m.ReplyTo[:]), into(m.Account[:]), &m.From, &m.Text, into(m.Epoch[:]), &m.Verb, amendedInto{m}, &m.Long, &m.Raw)
}

// History returns at most limit messages of a chat, in display order: those
// that stand just before the message before, or the last ones if that is zero.
// It returns ErrNoMessage if the chat has no such message.
func (s *Store) History(in chat.ChatID, before chat.MessageID, limit int) ([]chat.SaveMessage, error) {
	query, args := "SELECT "+messageColumns+" FROM message WHERE chat = ? AND verb = 0", []any{chatID(in)}
	if before != (chat.MessageID{}) {
		if err := s.has(in, before); err != nil {
			return nil, err
		}
		query += " AND (" + oldestFirst + ") < (SELECT " + oldestFirst + " FROM message WHERE id = ?)"
		args = append(args, before[:])
	}
	query += " ORDER BY " + newestFirst + " LIMIT ?"
	args = append(args, max(limit, 0))
	found, err := collect(s.db.Read, scanMessage, query, args...)
	if err != nil {
		return nil, fmt.Errorf("reading history: %w", s.db.Mapped(err))
	}
	slices.Reverse(found)
	return found, nil
}

// Message returns a message of a chat that is shown, alone, or nothing.
func (s *Store) Message(in chat.ChatID, id chat.MessageID) ([]chat.SaveMessage, error) {
	return s.some("id = ? AND chat = ?", id[:], chatID(in))
}

// Nth returns the n-th last message of a chat that is shown and not deleted, of
// an account or, if that is zero, of anybody; alone, or nothing.
func (s *Store) Nth(in chat.ChatID, of wire.AccountID, n int) ([]chat.SaveMessage, error) {
	return s.some("chat = ?1 AND edited < 2 AND (account = ?2 OR ?2 = zeroblob(16)) ORDER BY "+newestFirst+" LIMIT 1 OFFSET ?3",
		chatID(in), of[:], max(n-1, 0))
}

func (s *Store) some(where string, args ...any) ([]chat.SaveMessage, error) {
	found, err := collect(s.db.Read, scanMessage, "SELECT "+messageColumns+" FROM message WHERE verb = 0 AND "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("reading history: %w", s.db.Mapped(err))
	}
	return found, nil
}

// Long returns the message of a room whose text was announced, alone, or nothing.
func (s *Store) Long(room wire.RoomID, id chat.MessageID) ([]chat.SaveMessage, error) {
	found, err := collect(s.db.Read, scanMessage, "SELECT "+messageColumns+" FROM message WHERE id = ? AND chat = ? AND long <> ''", id[:], room[:])
	if err != nil {
		return nil, fmt.Errorf("reading a long message: %w", s.db.Mapped(err))
	}
	return found, nil
}

// Each calls f with every message of a chat that is shown, in display order,
// until f returns an error, which it returns.
func (s *Store) Each(in chat.ChatID, f func(*chat.SaveMessage) error) error {
	rows, err := s.db.Read.Query("SELECT "+messageColumns+" FROM message WHERE chat = ? AND verb = 0 ORDER BY "+oldestFirst, chatID(in))
	if err != nil {
		return fmt.Errorf("reading history: %w", s.db.Mapped(err))
	}
	defer rows.Close()
	for rows.Next() {
		var m chat.SaveMessage
		if err := scanMessage(rows.Scan, &m); err != nil {
			return fmt.Errorf("reading history: %w", err)
		}
		if err := f(&m); err != nil {
			return err
		}
	}
	return s.db.Mapped(rows.Err())
}

// Sweep forgets at most limit messages and returns how many: of a chat; or, if
// that is zero, those that came before a time; or, if that is zero too, the
// oldest while the database has more than so many bytes in use. What was
// received stays known, so none of it comes again.
func (s *Store) Sweep(in chat.ChatID, before time.Time, bytes int64, limit int) (n int, err error) {
	err = s.db.Update(func(tx *sql.Tx) error {
		n = 0 // of a run before
		where, args := "TRUE", []any{}
		switch {
		case in != chat.ChatID{}:
			where, args = "chat = ?", append(args, chatID(in))
		case !before.IsZero():
			where, args = "at < ?", append(args, moment(before))
		default:
			var used int64
			err := tx.QueryRow("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size").Scan(&used)
			if err != nil || used <= bytes {
				return err
			}
		}
		res, err := tx.Exec("DELETE FROM message WHERE key IN (SELECT key FROM message WHERE "+where+" ORDER BY key LIMIT ?)", append(args, limit)...)
		if err != nil {
			return err
		}
		deleted, err := res.RowsAffected()
		n = int(deleted)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("forgetting messages: %w", err)
	}
	return n, nil
}

// has returns ErrNoMessage if the chat does not have the message.
func (s *Store) has(in chat.ChatID, id chat.MessageID) error {
	var one int
	err := s.db.Read.QueryRow("SELECT 1 FROM message WHERE id = ? AND chat = ?", id[:], chatID(in)).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNoMessage
	}
	return s.db.Mapped(err)
}

// Signed returns at most limit reliable messages of a device in a room, with
// the numbers of the ranges, by number: those that are kept with their signed
// plaintext (SaveMessage.Raw), to be handed on.
func (s *Store) Signed(room wire.RoomID, device wire.DeviceID, ranges []wire.Range, limit int) (found []chat.SaveMessage, err error) {
	for _, r := range ranges {
		some, err := collect(s.db.Read, scanMessage, "SELECT "+messageColumns+` FROM message
			WHERE chat = ? AND device = ? AND mode = ? AND number BETWEEN ? AND ? AND packet IS NOT NULL ORDER BY number LIMIT ?`,
			room[:], device[:], chat.Reliable, number(r.First), number(r.Last), max(limit-len(found), 0))
		if err != nil {
			return nil, fmt.Errorf("reading signed messages: %w", s.db.Mapped(err))
		}
		found = append(found, some...)
	}
	return found, nil
}

// Missed returns at most limit reliable messages of a room, of each device
// those after the given number, in display order: those that are kept with
// their signed plaintext, to be handed on.
func (s *Store) Missed(room wire.RoomID, after []wire.Have, limit int) ([]chat.SaveMessage, error) {
	if len(after) == 0 || limit <= 0 {
		return nil, nil
	}
	args := make([]any, 0, 2*len(after)+3)
	for _, h := range after {
		args = append(args, h.Device[:], number(h.Number))
	}
	args = append(args, room[:], chat.Reliable, limit)
	// In two steps, so that only keys are sorted.
	found, err := collect(s.db.Read, scanMessage, "WITH want (device, number) AS (VALUES "+strings.Repeat("(?, ?), ", len(after)-1)+`(?, ?))
		SELECT `+messageColumns+` FROM message WHERE key IN (
			SELECT key FROM want CROSS JOIN message ON message.device = want.device AND message.number > want.number
			WHERE chat = ? AND mode = ? AND packet IS NOT NULL ORDER BY place, message.device, message.number LIMIT ?
		) ORDER BY `+oldestFirst, args...)
	if err != nil {
		return nil, fmt.Errorf("reading what was missed: %w", s.db.Mapped(err))
	}
	return found, nil
}

// maxSearch bounds what Search looks for, in bytes.
const maxSearch = 1000

// Search returns at most limit messages, of all chats, that have text in
// theirs, upper or lower case: the last ones that came, the newest first. Empty
// text finds nothing.
func (s *Store) Search(text string, limit int) ([]chat.SaveMessage, error) {
	switch {
	case text == "" || limit <= 0:
		return nil, nil
	case len(text) > maxSearch:
		return nil, fmt.Errorf("the text has %d bytes, at most %d can be searched for", len(text), maxSearch)
	}
	found, err := s.search(text, limit)
	if err != nil {
		return nil, fmt.Errorf("searching: %w", s.db.Mapped(err))
	}
	return found, nil
}

func (s *Store) search(text string, limit int) ([]chat.SaveMessage, error) {
	spans, bare, err := s.suspects(text)
	if err != nil {
		return nil, err
	}
	var where []string
	var args []any
	for _, p := range patterns(text) {
		where = append(where, "text GLOB ?")
		args = append(args, p)
	}
	var keys []int64
	query := "SELECT key FROM message WHERE verb = 0 AND (" + strings.Join(where, " OR ") + ") AND key BETWEEN ? AND ? ORDER BY key DESC LIMIT ?"
	for _, sp := range spans {
		some, err := collect(s.db.Read, func(scan func(...any) error, key *int64) error { return scan(key) },
			query, append(args[:len(args):len(args)], sp.first, sp.last, limit-len(keys))...)
		if err != nil {
			return nil, err
		}
		if keys = append(keys, some...); len(keys) >= limit {
			break
		}
	}
	list, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	found, err := collect(s.db.Read, scanMessage,
		"SELECT "+messageColumns+" FROM message WHERE key IN (SELECT value FROM json_each(?)) ORDER BY "+newestFirst, string(list))
	s.heal(bare)
	return found, err
}

// patterns returns GLOB patterns one of which matches messages that have text,
// which is not empty, in theirs, upper or lower case: each letter stands for
// all its cases. (LIKE knows those of ASCII only.) The first is looked for as it
// stands, one pattern for each case, which is five times as fast as a set.
func patterns(text string) (all []string) {
	first, size := utf8.DecodeRuneInString(text)
	var rest strings.Builder
	for _, r := range text[size:] {
		rest.WriteString(set(cases(r)))
	}
	for _, r := range cases(first) {
		all = append(all, "*"+set([]rune{r})+rest.String()+"*")
	}
	return all
}

// set returns what matches any of some characters in a GLOB pattern.
func set(any []rune) string {
	if len(any) == 1 && !strings.ContainsRune("*?[", any[0]) {
		return string(any)
	}
	return "[" + string(any) + "]"
}

// cases returns a letter in all its cases, anything else as it stands.
func cases(r rune) []rune {
	all := []rune{r}
	for c := unicode.SimpleFold(r); c != r; c = unicode.SimpleFold(c) {
		all = append(all, c)
	}
	return all
}

// Unread returns how many messages of each chat were not read; chats without
// any are not in it.
func (s *Store) Unread() (map[chat.ChatID]int, error) {
	type count struct {
		chat chat.ChatID
		n    int
	}
	counts, err := collect(s.db.Read, func(scan func(...any) error, c *count) error {
		return scan((*chatID)(&c.chat), &c.n)
	}, "SELECT chat, count(*) FROM message WHERE read = 0 GROUP BY chat")
	if err != nil {
		return nil, fmt.Errorf("counting what is unread: %w", s.db.Mapped(err))
	}
	unread := make(map[chat.ChatID]int, len(counts))
	for _, c := range counts {
		unread[c.chat] = c.n
	}
	return unread, nil
}
