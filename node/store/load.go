package store

import (
	"database/sql"
	"fmt"
	"net/netip"

	"lanchat/node/chat"
	"lanchat/wire"
)

// Load returns the sum of all records applied so far, without the messages.
// The caller owns it.
func (s *Store) Load() (chat.State, error) {
	tx, err := s.db.Read.Begin()
	if err != nil {
		return chat.State{}, s.db.Mapped(err)
	}
	defer tx.Rollback() // it only read
	var st chat.State
	for _, load := range []func(*sql.Tx, *chat.State) error{
		loadPeople, loadFormer, loadSettings, loadPersonal, loadOutbox, loadDirect, loadReceived, loadAcked, loadRooms, loadNumbers, loadEntries, loadApplied, loadInvites, loadPartings, loadSecrets, loadAuthors, loadOrphans, loadAddresses, loadClock,
	} {
		if err := load(tx, &st); err != nil {
			return chat.State{}, s.db.Mapped(err)
		}
	}
	return st, nil
}

// A queryer is a *sql.DB or a *sql.Tx.
type queryer interface {
	Query(query string, args ...any) (*sql.Rows, error)
}

// collect returns what scan makes of each row.
func collect[T any](q queryer, scan func(scan func(dest ...any) error, v *T) error, query string, args ...any) ([]T, error) {
	rows, err := q.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var v T
		if err := scan(rows.Scan, &v); err != nil {
			return nil, fmt.Errorf("reading a row of %q: %w", query, err)
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

func loadPeople(tx *sql.Tx, st *chat.State) (err error) {
	st.People, err = collect(tx, func(scan func(...any) error, v *chat.SavePerson) error {
		return scan(into(v.Device[:]), into(v.Key[:]), into(v.Account[:]), &v.Name, (*number)(&v.NameSeq), (*moment)(&v.Seen), into(v.Serial[:]))
	}, "SELECT device, key, account, name, name_seq, seen, serial FROM person ORDER BY device")
	return err
}

func loadAddresses(tx *sql.Tx, st *chat.State) error {
	type row struct {
		chat.SaveAddress
		addr string
	}
	rows, err := collect(tx, func(scan func(...any) error, v *row) error {
		return scan(into(v.Device[:]), &v.addr, (*moment)(&v.At))
	}, "SELECT device, addr, at FROM address ORDER BY at DESC, device")
	for _, v := range rows {
		if v.Addr, err = netip.ParseAddrPort(v.addr); err != nil {
			return fmt.Errorf("reading an address: %w", err)
		}
		st.Addresses = append(st.Addresses, v.SaveAddress)
	}
	return err
}

func loadFormer(tx *sql.Tx, st *chat.State) (err error) {
	st.Former, err = collect(tx, func(scan func(...any) error, v *chat.SaveFormer) error {
		return scan(&v.Name, into(v.Account[:]), (*moment)(&v.At))
	}, "SELECT name, account, at FROM former ORDER BY at, name")
	return err
}

func loadSettings(tx *sql.Tx, st *chat.State) (err error) {
	st.Settings, err = collect(tx, func(scan func(...any) error, v *chat.SaveSettings) error {
		return scan((*chatID)(&v.Chat), &v.Mode, &v.Notify, (*moment)(&v.MutedUntil))
	}, "SELECT chat, mode, notify, muted_until FROM settings ORDER BY chat")
	return err
}

func loadPersonal(tx *sql.Tx, st *chat.State) (err error) {
	st.Personal, err = collect(tx, func(scan func(...any) error, v *chat.SavePersonal) error {
		return scan(&v.Name, &v.Value)
	}, "SELECT name, value FROM personal ORDER BY name")
	return err
}

func loadOutbox(tx *sql.Tx, st *chat.State) (err error) {
	st.Outbox, err = collect(tx, func(scan func(...any) error, v *chat.SaveOutbox) error {
		return scan(into(v.Account[:]), (*number)(&v.Number), into(v.ID[:]), &v.Body)
	}, "SELECT account, number, id, body FROM outbox ORDER BY account, number")
	return err
}

func loadDirect(tx *sql.Tx, st *chat.State) (err error) {
	st.Direct, err = collect(tx, func(scan func(...any) error, v *chat.SaveDirect) error {
		return scan(into(v.Account[:]), (*number)(&v.Sent))
	}, "SELECT account, sent FROM direct ORDER BY account")
	return err
}

func loadReceived(tx *sql.Tx, st *chat.State) (err error) {
	st.Received, err = collect(tx, func(scan func(...any) error, v *chat.SaveReceived) error {
		return scan(into(v.Device[:]), (*number)(&v.Number))
	}, "SELECT device, number FROM received ORDER BY device")
	return err
}

func loadAcked(tx *sql.Tx, st *chat.State) (err error) {
	st.Acked, err = collect(tx, func(scan func(...any) error, v *chat.SaveAcked) error {
		return scan(into(v.Device[:]), (*number)(&v.Number))
	}, "SELECT device, number FROM acked ORDER BY device")
	return err
}

func loadRooms(tx *sql.Tx, st *chat.State) (err error) {
	st.Rooms, err = collect(tx, func(scan func(...any) error, v *chat.SaveRoom) error {
		return scan(into(v.Room[:]), (*moment)(&v.Joined))
	}, "SELECT id, joined FROM room ORDER BY id")
	return err
}

func loadNumbers(tx *sql.Tx, st *chat.State) (err error) {
	st.Numbers, err = collect(tx, func(scan func(...any) error, v *chat.SaveNumber) error {
		return scan(into(v.Room[:]), (*number)(&v.Number))
	}, "SELECT room, number FROM own ORDER BY room")
	return err
}

func loadEntries(tx *sql.Tx, st *chat.State) (err error) {
	st.Entries, err = collect(tx, func(scan func(...any) error, v *chat.SaveEntry) error {
		return scan(into(v.Room[:]), into(v.Hash[:]), &v.Entry)
	}, "SELECT room, hash, entry FROM entry ORDER BY key")
	return err
}

func loadApplied(tx *sql.Tx, st *chat.State) (err error) {
	st.Applied, err = collect(tx, func(scan func(...any) error, v *chat.SaveApplied) error {
		return scan(into(v.Room[:]), into(v.Hash[:]))
	}, "SELECT room, hash FROM applied ORDER BY key")
	return err
}

func loadInvites(tx *sql.Tx, st *chat.State) (err error) {
	st.Invites, err = collect(tx, func(scan func(...any) error, v *chat.SaveInvite) error {
		return scan(into(v.Room[:]), into(v.Account[:]), &v.Invite)
	}, "SELECT room, account, invite FROM invite ORDER BY room, account")
	return err
}

func loadPartings(tx *sql.Tx, st *chat.State) (err error) {
	st.Partings, err = collect(tx, func(scan func(...any) error, v *chat.SaveParting) error {
		return scan(into(v.Room[:]), (*accounts)(&v.Members), (*blobs)(&v.Entries))
	}, "SELECT room, members, entries FROM parting ORDER BY room")
	return err
}

func loadSecrets(tx *sql.Tx, st *chat.State) (err error) {
	st.Secrets, err = collect(tx, func(scan func(...any) error, v *chat.SaveSecret) error {
		return scan(into(v.Room[:]), into(v.Epoch[:]), into(v.Secret[:]))
	}, "SELECT room, epoch, secret FROM secret ORDER BY room, epoch")
	return err
}

func loadAuthors(tx *sql.Tx, st *chat.State) (err error) {
	st.Authors, err = collect(tx, func(scan func(...any) error, v *chat.SaveAuthor) error {
		return scan(into(v.Room[:]), into(v.Device[:]), &v.Replay, (*number)(&v.Received), (*ranges)(&v.Missing), (*number)(&v.Since))
	}, "SELECT room, device, replay, received, missing, since FROM author ORDER BY room, device")
	return err
}

// loadClock returns the last place in any chat. It goes from chat to chat in the
// index rather than over all messages.
func loadClock(tx *sql.Tx, st *chat.State) error {
	var last sql.Null[number]
	err := tx.QueryRow(`WITH RECURSIVE one (chat) AS (
			SELECT min(chat) FROM message UNION ALL SELECT (SELECT min(chat) FROM message WHERE chat > one.chat) FROM one WHERE chat IS NOT NULL)
		SELECT max((SELECT max(place) FROM message WHERE chat = one.chat)) FROM one`).Scan(&last)
	st.Clock = wire.Clock(last.V)
	return err
}

func loadOrphans(tx *sql.Tx, st *chat.State) (err error) {
	st.Orphans, err = collect(tx, func(scan func(...any) error, v *chat.MessageID) error {
		return scan(into(v[:]))
	}, `SELECT DISTINCT reply_to FROM message AS amending WHERE verb IN (2, 3)
		AND NOT EXISTS (SELECT 1 FROM message WHERE id = amending.reply_to) ORDER BY reply_to`)
	return err
}
