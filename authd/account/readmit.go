package account

import (
	"encoding/hex"
	"errors"
	"time"

	"lanchat/wire"
	"lanchat/wire/realm"
)

// Readmit puts an account or a device on record again that a certificate of
// the realm vouches for and the store knows nothing of: it was made after the
// backup that the database was restored from, or by another authd of the
// realm. g is what the certificate says, which must be in force; the account
// gets its id and name back, and the certificate goes on record like one of
// ours. What is nowhere written any more is the password: the account has none
// until the operator gives it one.
//
// If somebody else has taken the name meanwhile, the account gets one made of
// it and of its id, which the person can change.
//
// It returns the account. The error is a *Refusal if there is nothing to
// readmit, or a failure of the store.
func (r *Registrar) Readmit(now time.Time, g realm.Grant) (Account, error) {
	defer r.turn(g.Name)()
	acct, err := r.store.Get(g.Account)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Account{}, err
	}
	if !known {
		var salt [16]byte
		var nobodys [32]byte // what no password hashes to
		if err := errors.Join(r.fill(salt[:]), r.fill(nobodys[:])); err != nil {
			return Account{}, err
		}
		if acct, err = r.newAccount(now, g.Name, salt, nobodys); err != nil {
			return Account{}, err
		}
		acct.ID, acct.NameSeq = g.Account, g.NameSeq
	} else if acct.Disabled {
		return Account{}, refuse(wire.CodeNotAuthenticated, "the operator has disabled this account")
	}
	if !known || g.NameSeq > acct.NameSeq && g.Name != acct.Name {
		if acct.Name, acct.NameSeq, err = r.nameAgain(now, g); err != nil {
			return Account{}, err
		}
	}
	d, err := r.device(now, acct, g.Key, "readmitted")
	if err != nil {
		return Account{}, err
	}
	d.Expires = g.NotAfter
	err = r.store.Readmit(acct, d, g, r.quarantined(now))
	return acct, r.refused(err)
}

// nameAgain returns the name an account is readmitted under, and its number.
func (r *Registrar) nameAgain(now time.Time, g realm.Grant) (string, uint64, error) {
	_, err := r.store.Find(g.Name)
	switch {
	case err == nil: // somebody else's now
		id := "-" + hex.EncodeToString(g.Account[:2])
		name := g.Name[:min(len(g.Name), realm.MaxName-len(id))] + id
		return name, g.NameSeq + 1, r.NameFree(now, name)
	case !errors.Is(err, ErrNotFound):
		return "", 0, err
	}
	// A name in quarantine is that of an account that was removed here.
	return g.Name, g.NameSeq, r.NameFree(now, g.Name)
}
