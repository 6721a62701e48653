package store

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"

	"lanchat/node/chat"
	"lanchat/wire"
)

// maxAddresses is how many devices' addresses are kept, the newest.
const maxAddresses = 512

// Apply stores the records of one turn, in order and in one transaction: all
// or, with an error, none. The Store keeps nothing of them. After a
// *dbfile.DiskError the same records can be applied again.
//
// A secret or a room that is dropped is gone from the files when Apply
// returns, as far as a file system overwrites what a program overwrites.
func (s *Store) Apply(records []chat.Record) error {
	if len(records) == 0 {
		return nil
	}
	s.applying.Lock()
	defer s.applying.Unlock()
	err := s.db.Update(func(tx *sql.Tx) error {
		s.packet = packet{}
		for i, r := range records {
			switch r.(type) {
			case chat.DropSecret, chat.DropRoom:
				s.db.Wipe()
			}
			if err := s.apply(tx, r); err != nil {
				return fmt.Errorf("record %d of %d, %T: %w", i+1, len(records), r, err)
			}
		}
		return nil
	})
	s.packet = packet{}
	if err != nil {
		clear(s.tails) // they ran ahead of what is stored
	}
	return err
}

// apply stores one record. The rows of a room need the room: one that is
// saved without it is a fault of the core, and fails.
func (s *Store) apply(tx *sql.Tx, r chat.Record) error {
	exec := func(query string, args ...any) error {
		_, err := tx.Exec(query, args...)
		return err
	}
	switch r := r.(type) {
	case chat.SaveMessage:
		return s.saveMessage(tx, &r)
	case chat.DropMessage:
		s.packet = packet{} // it may go with the message
		return exec("DELETE FROM message WHERE id = ? OR reply_to = ? AND verb IN (2, 3)", r.ID[:], r.ID[:])
	case chat.SavePerson:
		return exec("INSERT OR REPLACE INTO person (device, key, account, name, name_seq, seen, serial) VALUES (?, ?, ?, ?, ?, ?, ?)",
			r.Device[:], r.Key[:], r.Account[:], r.Name, number(r.NameSeq), moment(r.Seen), r.Serial[:])
	case chat.SaveAddress:
		if err := exec("INSERT OR REPLACE INTO address (device, addr, at) VALUES (?, ?, ?)", r.Device[:], r.Addr.String(), moment(r.At)); err != nil {
			return err
		}
		return exec("DELETE FROM address WHERE device NOT IN (SELECT device FROM address ORDER BY at DESC, device LIMIT ?)", maxAddresses)
	case chat.SaveFormer:
		return exec("INSERT OR REPLACE INTO former (name, account, at) VALUES (?, ?, ?)", r.Name, r.Account[:], moment(r.At))
	case chat.SaveSettings:
		return exec("INSERT OR REPLACE INTO settings (chat, mode, notify, muted_until) VALUES (?, ?, ?, ?)",
			chatID(r.Chat), r.Mode, r.Notify, moment(r.MutedUntil))
	case chat.SaveRead:
		return exec("UPDATE message SET read = 1 WHERE chat = ? AND read = 0", chatID(r.Chat))
	case chat.SavePersonal:
		if r.Value == "" {
			return exec("DELETE FROM personal WHERE name = ?", r.Name)
		}
		return exec("INSERT OR REPLACE INTO personal (name, value) VALUES (?, ?)", r.Name, r.Value)
	case chat.SaveOutbox:
		return exec("INSERT OR REPLACE INTO outbox (account, number, id, body) VALUES (?, ?, ?, ?)",
			r.Account[:], number(r.Number), r.ID[:], r.Body)
	case chat.DropOutbox:
		return exec("DELETE FROM outbox WHERE account = ? AND number <= ?", r.Account[:], number(r.Number))
	case chat.SaveDirect:
		return exec("INSERT OR REPLACE INTO direct (account, sent) VALUES (?, ?)", r.Account[:], number(r.Sent))
	case chat.SaveReceived:
		return exec("INSERT OR REPLACE INTO received (device, number) VALUES (?, ?)", r.Device[:], number(r.Number))
	case chat.SaveAcked:
		return exec("INSERT OR REPLACE INTO acked (device, number) VALUES (?, ?)", r.Device[:], number(r.Number))
	case chat.SaveRoom: // not REPLACE, which would delete the room and with it all that refers to it
		return exec("INSERT INTO room (id, joined) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET joined = excluded.joined",
			r.Room[:], moment(r.Joined))
	case chat.SaveNumber:
		return exec("INSERT OR REPLACE INTO own (room, number) VALUES (?, ?)", r.Room[:], number(r.Number))
	case chat.DropRoom:
		return exec("DELETE FROM room WHERE id = ?", r.Room[:])
	case chat.SaveEntry:
		return exec("INSERT INTO entry (room, hash, entry) VALUES (?, ?, ?) ON CONFLICT (room, hash) DO NOTHING",
			r.Room[:], r.Hash[:], r.Entry)
	case chat.DropEntry:
		return exec("DELETE FROM entry WHERE room = ? AND hash = ?", r.Room[:], r.Hash[:])
	case chat.SaveApplied:
		return exec("INSERT INTO applied (room, hash) VALUES (?, ?) ON CONFLICT (room, hash) DO NOTHING", r.Room[:], r.Hash[:])
	case chat.SaveInvite:
		return exec("INSERT OR REPLACE INTO invite (room, account, invite) VALUES (?, ?, ?)", r.Room[:], r.Account[:], r.Invite)
	case chat.DropInvite:
		return exec("DELETE FROM invite WHERE room = ? AND account = ?", r.Room[:], r.Account[:])
	case chat.SaveParting:
		return exec("INSERT OR REPLACE INTO parting (room, members, entries) VALUES (?, ?, ?)", r.Room[:], accounts(r.Members), blobs(r.Entries))
	case chat.DropParting:
		return exec("DELETE FROM parting WHERE room = ?", r.Room[:])
	case chat.SaveSecret:
		return exec("INSERT OR REPLACE INTO secret (room, epoch, secret) VALUES (?, ?, ?)", r.Room[:], r.Epoch[:], r.Secret[:])
	case chat.DropSecret:
		return exec("DELETE FROM secret WHERE room = ? AND epoch = ?", r.Room[:], r.Epoch[:])
	case chat.SaveAuthor:
		return exec("INSERT OR REPLACE INTO author (room, device, replay, received, missing, since) VALUES (?, ?, ?, ?, ?, ?)",
			r.Room[:], r.Device[:], r.Replay, number(r.Received), ranges(r.Missing), number(r.Since))
	}
	return fmt.Errorf("the store does not know this record")
}

// The columns of a message in the order that saveMessage and scanMessage have
// them in; place and packet are the store's own.
const (
	ownColumns     = `id, chat, device, mode, number, clock, at, own, read, action, reply_to, account, name, text, epoch, verb, edited, long`
	messageColumns = ownColumns + `, (SELECT raw FROM packet WHERE packet.key = message.packet)`
)

// A packet is the last one whose plaintext was stored in a transaction: the
// messages of a pack come one after the other.
type packet struct {
	raw []byte
	key sql.Null[int64]
}

// keep stores the plaintext of a packet, unless that is stored already, and
// reports whether it did.
func (p *packet) keep(tx *sql.Tx, raw []byte) (fresh bool, err error) {
	if bytes.Equal(p.raw, raw) {
		return false, nil
	}
	*p = packet{}
	if raw == nil {
		return false, nil
	}
	res, err := tx.Exec("INSERT INTO packet (raw) VALUES (?)", raw)
	if err == nil {
		p.raw = raw
		p.key.Valid = true
		p.key.V, err = res.LastInsertId()
	}
	return true, err
}

// undo forgets a packet no message of which is new.
func (p *packet) undo(tx *sql.Tx) error {
	_, err := tx.Exec("DELETE FROM packet WHERE key = ?", p.key)
	*p = packet{}
	return err
}

// A sender is who a message is numbered by.
type sender struct {
	chat   chat.ChatID
	device wire.DeviceID
	mode   chat.Mode
}

// A tail is number and place of the last message of a sender.
type tail struct{ number, place number }

// maxTails bounds Store.tails; beyond, it begins anew.
const maxTails = 4096

// saveMessage stores a message at its place: where its clock says, but between
// its neighbours of the same sender, and not further ahead than others would
// follow a clock. So a sender stays in order whatever its clocks say, a wrong or
// lying one holds no place at the end for ever, and what was stored stays put.
//
// Nearly all come in order, and for those the tail is all there is to know. It
// is kept in memory: SQLite prepares a query with ORDER BY and parameters anew
// whenever they change, which was measured to cost as much as the insertion.
func (s *Store) saveMessage(tx *sql.Tx, m *chat.SaveMessage) error {
	if err := s.readEarly(tx); err != nil {
		return err
	}
	from, n := sender{m.Chat, m.Device, m.Mode}, number(m.Number)
	last, ok := s.tails[from]
	if !ok {
		var err error
		if last, err = first(tx, from, "TRUE ORDER BY number DESC"); err != nil {
			return err
		}
	}
	place := number(min(m.Clock, wire.ClockAt(m.At.Add(wire.MaxClockAhead))))
	if n > last.number {
		place = max(place, last.place)
	} else {
		var err error
		if place, err = between(tx, from, n, place); err != nil {
			return err
		}
	}
	fresh, err := s.packet.keep(tx, m.Raw)
	if err != nil {
		return err
	}
	res, err := tx.Exec("INSERT INTO message ("+ownColumns+`, packet, place)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		m.ID[:], chatID(m.Chat), m.Device[:], m.Mode, n, number(m.Clock), moment(m.At), m.Own, m.Read, m.Action,
		m.ReplyTo[:], m.Account[:], m.From, m.Text, m.Epoch[:], m.Verb, amendment{m.Edited, m.Deleted}, m.Long, s.packet.key, place)
	if err != nil {
		return err
	}
	added, err := res.RowsAffected()
	if err == nil && added == 0 && fresh {
		err = s.packet.undo(tx)
	}
	if err == nil && added > 0 {
		switch m.Verb {
		case 0:
			if s.early.has(m.ID) {
				_, err = amend(tx, m.Chat, m.Account, m.ID)
			}
		case wire.Edit, wire.Delete:
			var n int64
			if n, err = amend(tx, m.Chat, m.Account, m.ReplyTo); n == 0 {
				s.early.add(m.ReplyTo)
			}
		}
	}
	if err == nil && added > 0 {
		key, kerr := res.LastInsertId()
		if err = kerr; err == nil && key%gistBlock == gistBlock-1 {
			err = digest(tx, key/gistBlock)
		}
	}
	if err == nil && added > 0 && n >= last.number {
		if len(s.tails) >= maxTails {
			clear(s.tails)
		}
		s.tails[from] = tail{n, place}
	}
	return err
}

// Early is the messages that were edited or deleted before they came, and
// perhaps others: to ask about each that comes was measured to cost a third of
// storing it.
type early struct {
	ids map[chat.MessageID]bool
	any bool // there were too many: it may be any
}

const maxEarly = 10_000

func (e *early) add(id chat.MessageID) {
	switch {
	case len(e.ids) >= maxEarly:
		e.ids, e.any = nil, true
	case !e.any:
		e.ids[id] = true
	}
}

// has reports whether a message may have been amended before it came.
func (e *early) has(id chat.MessageID) bool { return e.any || e.ids[id] }

// readEarly reads what came before the first message of this run.
func (s *Store) readEarly(tx *sql.Tx) error {
	if s.early != nil {
		return nil
	}
	var st chat.State
	if err := loadOrphans(tx, &st); err != nil {
		return err
	}
	s.early = &early{ids: map[chat.MessageID]bool{}}
	for _, id := range st.Orphans {
		s.early.add(id)
	}
	return nil
}

// amend applies to a message of an account what that account has said about it:
// the last text, or that it is deleted, whatever else was said. It returns how
// many messages that changed: none where it has not come.
func amend(tx *sql.Tx, in chat.ChatID, author wire.AccountID, id chat.MessageID) (n int64, err error) {
	var verb wire.Verb
	var text string
	err = tx.QueryRow(`SELECT verb, text FROM message WHERE reply_to = ? AND verb IN (2, 3) AND chat = ? AND account = ?
		ORDER BY verb DESC, clock DESC, device DESC, number DESC LIMIT 1`, id[:], chatID(in), author[:]).Scan(&verb, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	var res sql.Result
	if err == nil {
		res, err = tx.Exec("UPDATE message SET text = ?, edited = ? WHERE id = ? AND chat = ? AND account = ? AND verb = 0",
			text, amendment{true, verb == wire.Delete}, id[:], chatID(in), author[:])
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// between returns the place nearest to the one wanted that keeps message n of a
// sender between its neighbours.
func between(tx *sql.Tx, from sender, n, wanted number) (number, error) {
	before, err := first(tx, from, "number < ? ORDER BY number DESC", n)
	if err != nil {
		return 0, err
	}
	after, err := first(tx, from, "number > ? ORDER BY number", n)
	if err != nil {
		return 0, err
	}
	if after.number > 0 {
		wanted = min(wanted, after.place)
	}
	return max(wanted, before.place), nil
}

// first returns number and place of the first message of a sender that the rest
// of the query, with its parameters, finds; zeros if there is none.
func first(tx *sql.Tx, of sender, rest string, args ...any) (t tail, err error) {
	err = tx.QueryRow("SELECT number, place FROM message WHERE chat = ? AND device = ? AND mode = ? AND "+rest+" LIMIT 1",
		append([]any{chatID(of.chat), of.device[:], of.mode}, args...)...).Scan(&t.number, &t.place)
	if errors.Is(err, sql.ErrNoRows) {
		return tail{}, nil
	}
	return t, err
}
