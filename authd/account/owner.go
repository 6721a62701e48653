package account

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/netip"
	"slices"
	"time"

	"lanchat/wire"
)

// What people do with their own account. The connection has proved the key of
// a device, and its certificate named the account: Allowed is asked again
// each time.

// RenameOwn gives the account another name, as Rename does, and the device a
// certificate that carries it. Other devices get theirs when they renew.
//
// The error is a *Refusal, or a failure of the store.
func (r *Registrar) RenameOwn(now time.Time, id wire.AccountID, key wire.DeviceKey, name string, source netip.Addr) (*Grant, error) {
	defer r.turn(string(id[:]))()
	acct, err := r.own(now, id, key, source)
	if err != nil {
		return nil, err
	}
	if name == acct.Name {
		return nil, refuse(wire.CodeNameTaken, "that is your name already")
	}
	if err := r.NameFree(now, name); err != nil {
		return nil, err
	}
	used, err := r.store.Names(id, now)
	if err != nil {
		return nil, err
	}
	if used >= maxNames {
		return nil, &Refusal{Code: wire.CodeRateLimited, RetryAfter: renameAgain,
			Text: "you have changed your name too often: wait until tokens with the older names have ended (30 days), or ask the operator (authd user rename)"}
	}
	acct.Name, acct.NameSeq = name, acct.NameSeq+1
	g, err := r.grant(now, acct, key)
	if err != nil {
		return nil, err
	}
	if err := r.store.Rename(id, name, now, r.quarantined(now), &g); err != nil {
		return nil, r.refused(err)
	}
	return &Grant{Grant: g}, nil
}

// renameAgain is when one who has used up the names may look again.
const renameAgain = 24 * time.Hour

// StartChange judges the first half of a change of password; the Attempt has
// the salt of the present one.
//
// The error is a *Refusal, or a failure of the store.
func (r *Registrar) StartChange(now time.Time, id wire.AccountID, key wire.DeviceKey, source netip.Addr) (*Attempt, error) {
	acct, err := r.own(now, id, key, source)
	if err != nil {
		return nil, err
	}
	a := &Attempt{name: acct.Name, source: source.WithZone("").Unmap(), Salt: acct.Salt}
	return a, r.mayTry(now, a, acct, true)
}

// A Change is the second half of a change of password.
type Change struct {
	Present [32]byte // prehash of the present password
	Salt    [16]byte // of the new one
	Prehash [32]byte // of the new one
	SignOut bool     // revoke the other devices
}

// FinishChange judges the second half, and changes the password. A wrong
// present password counts like one at a log-in.
//
// The error is a *Refusal, or a failure of the store.
func (r *Registrar) FinishChange(now time.Time, a *Attempt, id wire.AccountID, key wire.DeviceKey, c Change) error {
	defer r.turn(a.name)()
	acct, err := r.Allowed(now, id, key)
	if err != nil {
		return err
	}
	if err := r.verify(now, a, acct, true, c.Present); err != nil {
		if r, ok := errors.AsType[*Refusal](err); ok && r.Code == wire.CodeBadCredentials {
			r.Text = "that is not the present password"
		}
		return err
	}
	p, err := r.newPassword(c.Salt, c.Prehash)
	if err != nil {
		return err
	}
	if c.SignOut {
		err = r.store.SignOut(id, p, key, now)
	} else {
		err = r.store.SetPassword(id, p)
	}
	if err != nil {
		return r.refused(err)
	}
	r.delays.forget(delayKey{a.name, a.source})
	return nil
}

// DevicesOf returns the account's devices: those that are not revoked first,
// and of each kind the one whose certificate ends last first.
//
// The error is a *Refusal, or a failure of the store.
func (r *Registrar) DevicesOf(now time.Time, id wire.AccountID, key wire.DeviceKey, source netip.Addr) ([]Device, error) {
	if _, err := r.own(now, id, key, source); err != nil {
		return nil, err
	}
	devices, err := r.store.Devices(id)
	slices.SortStableFunc(devices, func(a, b Device) int {
		if a.Revoked != b.Revoked {
			if a.Revoked {
				return 1
			}
			return -1
		}
		return b.Expires.Compare(a.Expires)
	})
	return devices, err
}

// RevokeOwn shuts another device of the account out, for ever.
//
// The error is a *Refusal, or a failure of the store.
func (r *Registrar) RevokeOwn(now time.Time, id wire.AccountID, key wire.DeviceKey, device wire.DeviceID, source netip.Addr) error {
	if _, err := r.own(now, id, key, source); err != nil {
		return err
	}
	if device == key.Device() {
		return refuse(wire.CodeBadRequest, "that is this device itself: node logout removes its token")
	}
	devices, err := r.store.Devices(id)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(devices, func(d Device) bool { return d.Key.Device() == device })
	if i < 0 {
		return refuse(wire.CodeNoSuchDevice, "your account has no such device: node sessions lists them")
	}
	return r.refused(r.store.Revoke(devices[i].Key, now))
}

// own begins each of the above.
func (r *Registrar) own(now time.Time, id wire.AccountID, key wire.DeviceKey, source netip.Addr) (Account, error) {
	if err := r.throttled(now, source.WithZone("").Unmap()); err != nil {
		return Account{}, err
	}
	return r.Allowed(now, id, key)
}

// ResetLife is how long a one-time code is good.
const ResetLife = 24 * time.Hour

// SetReset has the one-time code with the proof be good for the account for
// ResetLife, in place of an older one. The password stays until the code is
// used. ErrNotFound.
func (r *Registrar) SetReset(now time.Time, name string, proof [16]byte) error {
	a, err := r.store.Find(name)
	if err != nil {
		return err
	}
	return r.store.SetReset(a.ID, r.resetHash(proof[:]), now.Add(ResetLife))
}

// resetHash is what is kept of a code. It has 128 random bits, so the hash
// need not be slow.
func (r *Registrar) resetHash(proof []byte) [32]byte {
	h := hmac.New(sha256.New, r.cfg.Pepper[:])
	h.Write([]byte("lc1 reset code")) // no verifier's input is this short
	h.Write(proof)
	return [32]byte(h.Sum(nil))
}

// startRecovery judges the first half of a recovery. Failures delay their
// source, and only that: nobody guesses 128 bits, and who knows the code is
// not to be locked out by those who guess passwords.
func (r *Registrar) startRecovery(now time.Time, a *Attempt, proof []byte) (*Attempt, error) {
	a.proof = append([]byte{}, proof...)
	if _, _, err := r.recovering(now, a); err != nil {
		return nil, err
	}
	return a, r.fill(a.Salt[:])
}

// recovering returns the account whose one-time code the attempt knows, and
// the code's hash.
func (r *Registrar) recovering(now time.Time, a *Attempt) (Account, [32]byte, error) {
	none := Account{}
	if err := r.delayed(now, a); err != nil {
		return none, [32]byte{}, err
	}
	acct, known, err := r.find(a.name)
	if err != nil {
		return none, [32]byte{}, err
	}
	want, err := r.store.Reset(acct.ID, now)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return none, [32]byte{}, err
	}
	got := r.resetHash(a.proof)
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || err != nil || !known || acct.Disabled {
		r.delays.fail(now, delayKey{a.name, a.source})
		return none, [32]byte{}, refuse(wire.CodeBadCredentials, "the user name or the one-time code is wrong, or the code was used or is older than a day")
	}
	return acct, got, nil
}

// recover judges the second half: the new password and the device.
func (r *Registrar) recover(now time.Time, a *Attempt, prehash [32]byte, key wire.DeviceKey, deviceName string) (*Grant, error) {
	acct, code, err := r.recovering(now, a)
	if err != nil {
		return nil, err
	}
	p, err := r.newPassword(a.Salt, prehash)
	if err != nil {
		return nil, err
	}
	d, g, err := r.admission(now, acct, key, deviceName)
	if err != nil {
		return nil, err
	}
	if err := r.store.Recover(code, p, d, g); err != nil {
		return nil, r.refused(err)
	}
	r.delays.forget(delayKey{a.name, a.source})
	return &Grant{Grant: g}, nil
}
