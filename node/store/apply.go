package store

import (
	"database/sql"
	"fmt"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
)

// Apply stores the records of one turn, in order and in one transaction: all
// or, with an error, none. The Store keeps nothing of them. After a *DiskError
// the same records can be applied again.
//
// A secret or a room that is dropped is gone from the files when Apply
// returns, as far as a file system overwrites what a program overwrites.
func (s *Store) Apply(records []chat.Record) error {
	if len(records) == 0 {
		return nil
	}
	err := s.update(func(tx *sql.Tx) error {
		for i, r := range records {
			if err := apply(tx, r); err != nil {
				return fmt.Errorf("record %d of %d, %T: %w", i+1, len(records), r, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range records {
		switch r.(type) {
		case chat.DropSecret, chat.DropRoom:
			s.wipe.Store(s.read != s.db)
		}
	}
	if s.wipe.Load() {
		s.scrub()
	}
	return nil
}

// The columns of a message in the order that saveMessage and scanMessage have
// them in; place is the store's own.
const messageColumns = `id, chat, device, mode, number, clock, at, own, read, action, reply_to, account, name, text, epoch, raw`

const insertMessage = `INSERT INTO message (` + messageColumns + `, place)
	VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
		max(?17, ifnull((SELECT place FROM message
			WHERE chat = ?2 AND device = ?3 AND mode = ?4 AND number < ?5 ORDER BY number DESC LIMIT 1), x'')))
	ON CONFLICT (id) DO NOTHING`

// apply stores one record. The rows of a room need the room: one that is
// saved without it is a fault of the core, and fails.
func apply(tx *sql.Tx, r chat.Record) error {
	exec := func(query string, args ...any) error {
		_, err := tx.Exec(query, args...)
		return err
	}
	switch r := r.(type) {
	case chat.SaveMessage:
		return exec(insertMessage, r.ID[:], chatID(r.Chat), r.Device[:], r.Mode, number(r.Number), number(r.Clock), moment(r.At),
			r.Own, r.Read, r.Action, r.ReplyTo[:], r.Account[:], r.From, r.Text, r.Epoch[:], r.Raw, number(placeOf(r.Clock, r.At)))
	case chat.SavePerson:
		return exec("INSERT OR REPLACE INTO person (device, key, account, name, name_seq, seen) VALUES (?, ?, ?, ?, ?, ?)",
			r.Device[:], r.Key[:], r.Account[:], r.Name, number(r.NameSeq), moment(r.Seen))
	case chat.SaveSettings:
		return exec("INSERT OR REPLACE INTO settings (chat, mode, notify, muted_until) VALUES (?, ?, ?, ?)",
			chatID(r.Chat), r.Mode, r.Notify, moment(r.MutedUntil))
	case chat.SaveOutbox:
		return exec("INSERT OR REPLACE INTO outbox (account, number, id, body) VALUES (?, ?, ?, ?)",
			r.Account[:], number(r.Number), r.ID[:], r.Body)
	case chat.DropOutbox:
		return exec("DELETE FROM outbox WHERE account = ? AND number <= ?", r.Account[:], number(r.Number))
	case chat.SaveDirect:
		return exec("INSERT OR REPLACE INTO direct (account, sent) VALUES (?, ?)", r.Account[:], number(r.Sent))
	case chat.SaveReceived:
		return exec("INSERT OR REPLACE INTO received (device, number) VALUES (?, ?)", r.Device[:], number(r.Number))
	case chat.SaveRoom: // not REPLACE, which would delete the room and with it all that refers to it
		return exec(`INSERT INTO room (id, number, joined) VALUES (?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET number = excluded.number, joined = excluded.joined`,
			r.Room[:], number(r.Number), moment(r.Joined))
	case chat.DropRoom:
		return exec("DELETE FROM room WHERE id = ?", r.Room[:])
	case chat.SaveEntry:
		return exec("INSERT INTO entry (room, hash, entry) VALUES (?, ?, ?) ON CONFLICT (room, hash) DO NOTHING",
			r.Room[:], r.Hash[:], r.Entry)
	case chat.SaveSecret:
		return exec("INSERT OR REPLACE INTO secret (room, epoch, secret) VALUES (?, ?, ?)", r.Room[:], r.Epoch[:], r.Secret[:])
	case chat.DropSecret:
		return exec("DELETE FROM secret WHERE room = ? AND epoch = ?", r.Room[:], r.Epoch[:])
	case chat.SaveAuthor:
		return exec("INSERT OR REPLACE INTO author (room, device, replay, received, based) VALUES (?, ?, ?, ?, ?)",
			r.Room[:], r.Device[:], r.Replay, number(r.Received), r.Based)
	}
	return fmt.Errorf("the store does not know this record")
}

// placeOf returns the clock by which a message that came at a time is put in
// order. One that is further ahead than others would follow counts as that far
// ahead: a wrong or lying clock can't hold a place at the end for ever.
func placeOf(c wire.Clock, at time.Time) wire.Clock {
	return min(c, wire.ClockAt(at.Add(wire.MaxClockAhead)))
}
