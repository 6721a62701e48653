package store

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"lanchat/authd/account"
	"lanchat/wire"
	"lanchat/wire/dbfile"
	"lanchat/wire/realm"
)

// passwordMethod is the one way of authentication there is.
const passwordMethod = 1

const accountColumns = "id, name, name_seq, salt, salt2, verifier, disabled IS NOT NULL, created"

// A row is what *sql.Row and *sql.Rows have in common.
type row interface{ Scan(dest ...any) error }

func (s *Store) scanAccount(r row, more ...any) (account.Account, error) {
	var a account.Account
	var id, salt, salt2, verifier []byte
	var created int64
	dest := append([]any{&id, &a.Name, &a.NameSeq, &salt, &salt2, &verifier, &a.Disabled, &created}, more...)
	if err := r.Scan(dest...); err != nil {
		return account.Account{}, s.mapped(err)
	}
	copy(a.ID[:], id) // the schema checks the lengths
	copy(a.Salt[:], salt)
	copy(a.Salt2[:], salt2)
	copy(a.Verifier[:], verifier)
	a.Created = fromUnix(created)
	return a, nil
}

const deviceColumns = "key, account, name, created, expires, revoked IS NOT NULL"

func (s *Store) scanDevice(r row) (account.Device, error) {
	var d account.Device
	var key, id []byte
	var created, expires int64
	if err := r.Scan(&key, &id, &d.Name, &created, &expires, &d.Revoked); err != nil {
		return account.Device{}, s.mapped(err)
	}
	copy(d.Key[:], key)
	copy(d.Account[:], id)
	d.Created, d.Expires = fromUnix(created), fromUnix(expires)
	return d, nil
}

// Find implements account.Store.
func (s *Store) Find(name string) (account.Account, error) {
	return s.scanAccount(s.db.Read.QueryRow("SELECT "+accountColumns+" FROM account WHERE name = ?", name))
}

// Get implements account.Store.
func (s *Store) Get(id wire.AccountID) (account.Account, error) {
	return s.scanAccount(s.db.Read.QueryRow("SELECT "+accountColumns+" FROM account WHERE id = ?", id[:]))
}

const takenQuery = `SELECT EXISTS (SELECT 1 FROM account WHERE name = ?1)
	OR EXISTS (SELECT 1 FROM quarantine WHERE name = ?1 AND until > ?2)`

// Taken implements account.Store.
func (s *Store) Taken(name string, now time.Time) (taken bool, err error) {
	err = s.db.Read.QueryRow(takenQuery, name, toUnix(now)).Scan(&taken)
	return taken, s.mapped(err)
}

// Device implements account.Store.
func (s *Store) Device(key wire.DeviceKey) (account.Device, error) {
	return s.scanDevice(s.db.Read.QueryRow("SELECT "+deviceColumns+" FROM device WHERE key = ?", key[:]))
}

// Devices implements account.Store.
func (s *Store) Devices(id wire.AccountID) ([]account.Device, error) {
	rows, err := s.db.Read.Query("SELECT "+deviceColumns+" FROM device WHERE account = ? ORDER BY created, key", id[:])
	if err != nil {
		return nil, s.mapped(err)
	}
	defer rows.Close()
	var all []account.Device
	for rows.Next() {
		d, err := s.scanDevice(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, s.mapped(rows.Err())
}

// Create implements account.Store.
func (s *Store) Create(a account.Account, d account.Device, g realm.Grant) error {
	return s.update(func(tx *sql.Tx) error {
		if err := insertAccount(tx, a); err != nil {
			return err
		}
		if err := insertDevice(tx, d); err != nil {
			return err
		}
		return insertCertificate(tx, g)
	})
}

// Add implements account.Store.
func (s *Store) Add(a account.Account) error {
	return s.update(func(tx *sql.Tx) error { return insertAccount(tx, a) })
}

func insertAccount(tx *sql.Tx, a account.Account) error {
	var taken bool
	if err := tx.QueryRow(takenQuery, a.Name, toUnix(a.Created)).Scan(&taken); err != nil {
		return err
	}
	if taken {
		return account.ErrNameTaken
	}
	if _, err := tx.Exec("DELETE FROM quarantine WHERE name = ?", a.Name); err != nil {
		return err
	}
	_, err := tx.Exec("INSERT INTO account (id, name, name_seq, method, salt, salt2, verifier, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		a.ID[:], a.Name, a.NameSeq, passwordMethod, a.Salt[:], a.Salt2[:], a.Verifier[:], toUnix(a.Created))
	if dbfile.IsDuplicate(err) {
		return account.ErrNameTaken
	}
	return err
}

func insertDevice(tx *sql.Tx, d account.Device) error {
	_, err := tx.Exec("INSERT INTO device (key, account, name, created, expires) VALUES (?, ?, ?, ?, ?)",
		d.Key[:], d.Account[:], d.Name, toUnix(d.Created), toUnix(d.Expires))
	switch {
	case dbfile.IsDuplicate(err):
		return account.ErrDeviceTaken
	case dbfile.IsOrphan(err):
		return account.ErrNotFound
	}
	return err
}

func insertCertificate(tx *sql.Tx, g realm.Grant) error {
	_, err := tx.Exec("INSERT INTO certificate (serial, account, key, name, name_seq, not_before, not_after) VALUES (?, ?, ?, ?, ?, ?, ?)",
		g.Serial[:], g.Account[:], g.Key[:], g.Name, g.NameSeq, toUnix(g.From), toUnix(g.NotAfter))
	if err != nil {
		return err
	}
	_, err = tx.Exec(`DELETE FROM certificate WHERE serial IN (SELECT serial FROM certificate
		WHERE account = ?1 AND key = ?2 AND name = ?3 AND revoked IS NULL ORDER BY not_after DESC, serial LIMIT -1 OFFSET ?4)`,
		g.Account[:], g.Key[:], g.Name, account.MaxCertificates)
	return err
}

// Admit implements account.Store.
func (s *Store) Admit(d account.Device, g realm.Grant) error {
	return s.update(func(tx *sql.Tx) error { return admit(tx, d, g) })
}

func admit(tx *sql.Tx, d account.Device, g realm.Grant) error {
	err := one(tx.Exec("UPDATE device SET name = ?, expires = ? WHERE key = ? AND account = ?",
		d.Name, toUnix(d.Expires), d.Key[:], d.Account[:]))
	if errors.Is(err, account.ErrNotFound) {
		err = insertDevice(tx, d)
	}
	if err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM failure WHERE who = ?", d.Account[:]); err != nil {
		return err
	}
	return insertCertificate(tx, g)
}

// Renew implements account.Store.
func (s *Store) Renew(g realm.Grant) error {
	return s.update(func(tx *sql.Tx) error { return renew(tx, g) })
}

func renew(tx *sql.Tx, g realm.Grant) error {
	if err := one(tx.Exec("UPDATE device SET expires = ? WHERE key = ? AND account = ? AND revoked IS NULL",
		toUnix(g.NotAfter), g.Key[:], g.Account[:])); err != nil {
		return err
	}
	return insertCertificate(tx, g)
}

// Readmit implements account.Store.
func (s *Store) Readmit(a account.Account, d account.Device, g realm.Grant, until time.Time) error {
	return s.update(func(tx *sql.Tx) error {
		var seq sql.Null[uint64] // of the account on record
		var known bool
		err := tx.QueryRow(`SELECT (SELECT name_seq FROM account WHERE id = ?1),
			EXISTS (SELECT 1 FROM certificate WHERE serial = ?2 OR account = ?1 AND NOT EXISTS (SELECT 1 FROM account WHERE id = ?1))`,
			a.ID[:], g.Serial[:]).Scan(&seq, &known)
		switch {
		case err != nil:
			return err
		case known:
			return account.ErrNotFound
		case !seq.Valid:
			err = insertAccount(tx, a)
		case a.NameSeq > seq.V:
			err = rename(tx, a.ID, a.Name, a.NameSeq, d.Created, until)
		}
		if err != nil {
			return err
		}
		err = one(tx.Exec("UPDATE device SET expires = max(expires, ?) WHERE key = ? AND account = ? AND revoked IS NULL",
			toUnix(d.Expires), d.Key[:], d.Account[:]))
		if errors.Is(err, account.ErrNotFound) {
			err = insertDevice(tx, d)
		}
		if err != nil {
			return err
		}
		return insertCertificate(tx, g)
	})
}

// Failures implements account.Store.
func (s *Store) Failures(who []byte) (count int, err error) {
	err = s.db.Read.QueryRow("SELECT count FROM failure WHERE who = ?", who).Scan(&count)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return count, s.mapped(err)
}

// Fail implements account.Store.
func (s *Store) Fail(who []byte, now time.Time) error {
	_, err := s.db.Exec(`INSERT INTO failure (who, count, last) VALUES (?, 1, ?)
		ON CONFLICT (who) DO UPDATE SET count = count + 1, last = excluded.last`, who, toUnix(now))
	return s.mapped(err)
}

// ForgetFailures implements account.Store.
func (s *Store) ForgetFailures(who []byte) error {
	_, err := s.db.Exec("DELETE FROM failure WHERE who = ?", who)
	return s.mapped(err)
}

// SetPassword implements account.Store.
func (s *Store) SetPassword(id wire.AccountID, p account.Password) error {
	return s.update(func(tx *sql.Tx) error { return setPassword(tx, id, p) })
}

func setPassword(tx *sql.Tx, id wire.AccountID, p account.Password) error {
	if err := one(tx.Exec("UPDATE account SET salt = ?, salt2 = ?, verifier = ? WHERE id = ?",
		p.Salt[:], p.Salt2[:], p.Verifier[:], id[:])); err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM reset WHERE account = ?", id[:]); err != nil {
		return err
	}
	_, err := tx.Exec("DELETE FROM failure WHERE who = ?", id[:])
	return err
}

// SignOut implements account.Store.
func (s *Store) SignOut(id wire.AccountID, p account.Password, but wire.DeviceKey, now time.Time) error {
	return s.update(func(tx *sql.Tx) error {
		if err := setPassword(tx, id, p); err != nil {
			return err
		}
		for _, table := range []string{"device", "certificate"} {
			if _, err := tx.Exec("UPDATE "+table+" SET revoked = ? WHERE account = ? AND key <> ? AND revoked IS NULL",
				toUnix(now), id[:], but[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetReset implements account.Store.
func (s *Store) SetReset(id wire.AccountID, code [32]byte, until time.Time) error {
	return s.update(func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT OR REPLACE INTO reset (account, code, until) VALUES (?, ?, ?)", id[:], code[:], toUnix(until))
		if dbfile.IsOrphan(err) {
			return account.ErrNotFound
		}
		return err
	})
}

// Reset implements account.Store.
func (s *Store) Reset(id wire.AccountID, now time.Time) (code [32]byte, err error) {
	var b []byte
	err = s.db.Read.QueryRow("SELECT code FROM reset WHERE account = ? AND until > ?", id[:], toUnix(now)).Scan(&b)
	copy(code[:], b)
	return code, s.mapped(err)
}

// Recover implements account.Store.
func (s *Store) Recover(code [32]byte, p account.Password, d account.Device, g realm.Grant) error {
	return s.update(func(tx *sql.Tx) error {
		if err := one(tx.Exec("DELETE FROM reset WHERE account = ? AND code = ?", d.Account[:], code[:])); err != nil {
			return err
		}
		if err := setPassword(tx, d.Account, p); err != nil {
			return err
		}
		return admit(tx, d, g)
	})
}

// Disable implements account.Store.
func (s *Store) Disable(id wire.AccountID, now time.Time) error {
	return s.update(func(tx *sql.Tx) error {
		return one(tx.Exec("UPDATE account SET disabled = coalesce(disabled, ?) WHERE id = ?", toUnix(now), id[:]))
	})
}

// Enable implements account.Store.
func (s *Store) Enable(id wire.AccountID) error {
	return s.update(func(tx *sql.Tx) error {
		return one(tx.Exec("UPDATE account SET disabled = NULL WHERE id = ?", id[:]))
	})
}

// Revoke implements account.Store.
func (s *Store) Revoke(key wire.DeviceKey, now time.Time) error {
	return s.update(func(tx *sql.Tx) error {
		if err := one(tx.Exec("UPDATE device SET revoked = coalesce(revoked, ?) WHERE key = ?", toUnix(now), key[:])); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE certificate SET revoked = ? WHERE key = ? AND revoked IS NULL", toUnix(now), key[:])
		return err
	})
}

// one returns ErrNotFound if a statement changed no row.
func one(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = account.ErrNotFound
	}
	return err
}

// Remove implements account.Store.
func (s *Store) Remove(id wire.AccountID, now, until time.Time) error {
	return s.update(func(tx *sql.Tx) error {
		if err := quarantine(tx, id, until); err != nil {
			return err
		}
		for _, q := range []struct {
			sql  string
			args []any
		}{
			{"UPDATE certificate SET revoked = ? WHERE account = ? AND revoked IS NULL", []any{toUnix(now), id[:]}},
			{"DELETE FROM failure WHERE who = ?", []any{id[:]}},
			{"DELETE FROM account WHERE id = ?", []any{id[:]}}, // and its devices
		} {
			if _, err := tx.Exec(q.sql, q.args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// Rename implements account.Store.
func (s *Store) Rename(id wire.AccountID, name string, now, until time.Time, g *realm.Grant) error {
	return s.update(func(tx *sql.Tx) error {
		var seq uint64
		if err := tx.QueryRow("SELECT name_seq + 1 FROM account WHERE id = ?", id[:]).Scan(&seq); err != nil {
			return err
		}
		if err := rename(tx, id, name, seq, now, until); err != nil {
			return err
		}
		switch {
		case g == nil:
			return nil
		case g.NameSeq != seq:
			return account.ErrChanged
		}
		return renew(tx, *g)
	})
}

// rename gives an account that there is a name and its number.
func rename(tx *sql.Tx, id wire.AccountID, name string, seq uint64, now, until time.Time) error {
	var taken bool
	if err := tx.QueryRow(takenQuery, name, toUnix(now)).Scan(&taken); err != nil {
		return err
	}
	if taken {
		return account.ErrNameTaken
	}
	if err := quarantine(tx, id, until); err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM quarantine WHERE name = ?", name); err != nil {
		return err
	}
	_, err := tx.Exec("UPDATE account SET name = ?, name_seq = ? WHERE id = ?", name, seq, id[:])
	return err
}

// Names implements account.Store.
func (s *Store) Names(id wire.AccountID, now time.Time) (n int, err error) {
	err = s.db.Read.QueryRow("SELECT count(DISTINCT name) FROM certificate WHERE account = ? AND not_after > ?", id[:], toUnix(now)).Scan(&n)
	return n, s.mapped(err)
}

// quarantine keeps the account's name from others until the given time or the
// end of its last certificate with it, whichever is later.
func quarantine(tx *sql.Tx, id wire.AccountID, until time.Time) error {
	var name string
	if err := tx.QueryRow("SELECT name FROM account WHERE id = ?", id[:]).Scan(&name); err != nil {
		return err
	}
	var last sql.NullInt64
	if err := tx.QueryRow("SELECT max(not_after) FROM certificate WHERE account = ? AND name = ?", id[:], name).Scan(&last); err != nil {
		return err
	}
	_, err := tx.Exec("INSERT OR REPLACE INTO quarantine (name, until) VALUES (?, ?)", name, max(last.Int64, toUnix(until)))
	return err
}

// List implements account.Store.
func (s *Store) List() ([]account.Summary, error) {
	rows, err := s.db.Read.Query("SELECT " + accountColumns + `,
		(SELECT count(*) FROM device WHERE account = account.id AND revoked IS NULL)
		FROM account ORDER BY name`)
	if err != nil {
		return nil, s.mapped(err)
	}
	defer rows.Close()
	var all []account.Summary
	for rows.Next() {
		var sum account.Summary
		if sum.Account, err = s.scanAccount(rows, &sum.Devices); err != nil {
			return nil, err
		}
		all = append(all, sum)
	}
	return all, s.mapped(rows.Err())
}

// Count implements account.Store.
func (s *Store) Count() (n int, err error) {
	err = s.db.Read.QueryRow("SELECT count(*) FROM account").Scan(&n)
	return n, s.mapped(err)
}

// Version implements account.Store.
func (s *Store) Version() (v int64, err error) {
	err = s.db.DB.QueryRow("PRAGMA data_version").Scan(&v)
	return v, s.mapped(err)
}

// NextCRL implements account.Store. It also drops the certificates that ended
// before since: nothing refers to them any more.
func (s *Store) NextCRL(now, since time.Time) (number uint64, revoked []realm.Revoked, err error) {
	err = s.update(func(tx *sql.Tx) error {
		revoked = nil // of a run before
		if _, err := tx.Exec("DELETE FROM certificate WHERE not_after < ?", toUnix(since)); err != nil {
			return err
		}
		if err := tx.QueryRow("UPDATE realm SET crl_number = max(crl_number + 1, ?) RETURNING crl_number", toUnix(now)).Scan(&number); err != nil {
			return err
		}
		rows, err := tx.Query(`SELECT serial, account, key, revoked FROM certificate WHERE revoked IS NOT NULL
			UNION ALL SELECT serial, account, key, disabled FROM account JOIN certificate ON certificate.account = account.id
				WHERE disabled IS NOT NULL AND certificate.revoked IS NULL
			ORDER BY 4, 1`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var serial, account, key []byte
			var at int64
			if err := rows.Scan(&serial, &account, &key, &at); err != nil {
				return err
			}
			revoked = append(revoked, realm.Revoked{
				Serial: realm.Serial(serial), Account: wire.AccountID(account), Key: wire.DeviceKey(key), At: fromUnix(at),
			})
		}
		return rows.Err()
	})
	if err != nil {
		return 0, nil, fmt.Errorf("numbering a revocation list: %w", err)
	}
	return number, revoked, nil
}
