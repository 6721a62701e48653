package store

import (
	"database/sql"
	"time"

	"lanchat/authd/account"
	"lanchat/authd/mailbox"
	"lanchat/wire"
	"lanchat/wire/dbfile"
)

var _ mailbox.Store = (*Store)(nil)

// SetMailKey implements mailbox.Store.
func (s *Store) SetMailKey(k mailbox.Key) error {
	return s.update(func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT OR REPLACE INTO mail_key (device, leaf, issuing, public, signature) VALUES (?, ?, ?, ?, ?)",
			k.Device[:], k.Leaf, k.Issuing, k.Public, k.Signature[:])
		if dbfile.IsOrphan(err) {
			return account.ErrNotFound
		}
		return err
	})
}

// good are the devices that are not shut out.
const good = "JOIN device ON device.key = mail_key.device JOIN account ON account.id = device.account WHERE device.revoked IS NULL AND account.disabled IS NULL"

// MailKeys implements mailbox.Store.
func (s *Store) MailKeys(id wire.AccountID) ([]mailbox.Key, error) {
	rows, err := s.db.Read.Query("SELECT device, leaf, issuing, public, signature FROM mail_key "+good+" AND account.id = ? ORDER BY device.created, device.key", id[:])
	if err != nil {
		return nil, s.mapped(err)
	}
	defer rows.Close()
	var keys []mailbox.Key
	for rows.Next() {
		var k mailbox.Key
		var device, sig []byte
		if err := rows.Scan(&device, &k.Leaf, &k.Issuing, &k.Public, &sig); err != nil {
			return nil, s.mapped(err)
		}
		copy(k.Device[:], device) // the schema checks the lengths
		copy(k.Signature[:], sig)
		keys = append(keys, k)
	}
	return keys, s.mapped(rows.Err())
}

// MailOwner implements mailbox.Store.
func (s *Store) MailOwner(device wire.DeviceKey) (id wire.AccountID, err error) {
	var b []byte
	if err := s.db.Read.QueryRow("SELECT account.id FROM mail_key "+good+" AND mail_key.device = ?", device[:]).Scan(&b); err != nil {
		return id, s.mapped(err)
	}
	copy(id[:], b)
	return id, nil
}

func (s *Store) mailUsage(where string, args ...any) (u mailbox.Usage, err error) {
	err = s.db.DB.QueryRow("SELECT count(*), coalesce(sum(length(sealed)), 0) FROM mail"+where, args...).Scan(&u.Items, &u.Bytes)
	return u, s.mapped(err)
}

// MailFor implements mailbox.Store.
func (s *Store) MailFor(id wire.AccountID) (mailbox.Usage, error) {
	return s.mailUsage(" WHERE account = ?", id[:])
}

// MailOf implements mailbox.Store.
func (s *Store) MailOf(id wire.AccountID) (mailbox.Usage, error) {
	return s.mailUsage(" WHERE sender = ?", id[:])
}

// AllMail implements mailbox.Store.
func (s *Store) AllMail() (mailbox.Usage, error) { return s.mailUsage("") }

// PutMail implements mailbox.Store.
func (s *Store) PutMail(i mailbox.Item) (fresh bool, err error) {
	err = s.update(func(tx *sql.Tx) error {
		res, err := tx.Exec(`INSERT INTO mail (device, account, origin, sender, number, at, sealed) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (device, origin, number) DO NOTHING`,
			i.To[:], i.Account[:], i.From.Device[:], i.Sender[:], int64(i.Number), toUnix(i.At), i.Sealed)
		if dbfile.IsOrphan(err) {
			return account.ErrNotFound
		}
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		fresh = n > 0
		return err
	})
	return fresh, err
}

// Mail implements mailbox.Store.
func (s *Store) Mail(device wire.DeviceKey, after uint64, limit int) ([]mailbox.Item, error) {
	rows, err := s.db.Read.Query(`SELECT mail.id, origin, sender, leaf, issuing, number, at, sealed
		FROM mail JOIN mail_key ON mail_key.device = origin WHERE mail.device = ? AND mail.id > ? ORDER BY mail.id LIMIT ?`,
		device[:], int64(after), limit)
	if err != nil {
		return nil, s.mapped(err)
	}
	defer rows.Close()
	var items []mailbox.Item
	for rows.Next() {
		i := mailbox.Item{To: device}
		var origin, sender []byte
		var id, number, at int64
		if err := rows.Scan(&id, &origin, &sender, &i.From.Leaf, &i.From.Issuing, &number, &at, &i.Sealed); err != nil {
			return nil, s.mapped(err)
		}
		i.ID, i.Number, i.At = uint64(id), uint64(number), fromUnix(at)
		copy(i.From.Device[:], origin)
		copy(i.Sender[:], sender)
		items = append(items, i)
	}
	return items, s.mapped(rows.Err())
}

// TakeMail implements mailbox.Store.
func (s *Store) TakeMail(device wire.DeviceKey, ids []uint64) error {
	return s.update(func(tx *sql.Tx) error {
		for _, id := range ids {
			if _, err := tx.Exec("DELETE FROM mail WHERE id = ? AND device = ?", int64(id), device[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// DropMail implements mailbox.Store.
func (s *Store) DropMail(before time.Time) (dropped int, err error) {
	err = s.update(func(tx *sql.Tx) error {
		const shut = "(SELECT key FROM device WHERE revoked IS NOT NULL)"
		res, err := tx.Exec("DELETE FROM mail WHERE at < ? OR device IN "+shut+" OR origin IN "+shut, toUnix(before))
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		dropped = int(n)
		return err
	})
	return dropped, err
}
