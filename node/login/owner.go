package login

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"lanchat/wire"
	"lanchat/wire/realm"
)

// What a person does with their account, in a session with a token.

// Recover logs this device in with a one-time code and sets a new password.
// The token is stored when it returns.
func (s *Session) Recover(ctx context.Context, name string, code realm.ResetCode, password, device string) (*realm.Token, error) {
	proof := code.Proof(s.realm.ID)
	return s.login(ctx, &wire.AuthStart{Kind: wire.AuthRecover, Method: wire.AuthPrehash, Name: name, Invite: proof[:]}, password, device)
}

// Rename gives the account another name. The token with it is stored when it
// returns.
func (s *Session) Rename(ctx context.Context, name string) (*realm.Token, error) {
	if err := realm.CheckName(name); err != nil {
		return nil, refusedHere(wire.CodeBadName, err)
	}
	t, err := s.newToken(ctx, &wire.AuthRename{Name: name})
	if err == nil && t.Name != name {
		err = fmt.Errorf("%w: token for %q instead of %q", ErrProtocol, t.Name, name)
	}
	return t, err
}

// ChangePassword changes the account's password, and revokes its other devices
// if signOut is true.
func (s *Session) ChangePassword(ctx context.Context, present, next string, signOut bool) error {
	if s.token == nil {
		return ErrNoToken
	}
	c, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	challenge, err := ask[*wire.AuthChallenge](c, &wire.AuthPassword{}, false)
	if err != nil {
		return err
	}
	if _, err := realm.CheckPassword(next, realm.Challenge(challenge), s.config.Profile.Token().Name, s.realm.Name); err != nil {
		return refusedHere(wire.CodeWeakPassword, err)
	}
	m := &wire.AuthChange{SignOut: signOut}
	rand.Read(m.Salt[:]) // never fails
	if m.Present, err = realm.Prehash(present, s.realm.ID, challenge.Salt); err != nil {
		return refusedHere(wire.CodeBadCredentials, err)
	}
	if m.Prehash, err = realm.Prehash(next, s.realm.ID, m.Salt); err != nil {
		return refusedHere(wire.CodeWeakPassword, err)
	}
	c.extend() // what the prehashes took on a slow machine
	_, err = ask[*wire.AuthDone](c, m, true)
	return err
}

// A Device is one device of the account, as authd has it on record.
type Device struct {
	ID      wire.DeviceID
	Name    string // chosen on that device: sanitise before showing
	Created time.Time
	Ends    time.Time // end of its last token
	Revoked bool
}

// Devices returns the account's devices: those that are not revoked first, and
// of each kind the one whose token ends last first.
func (s *Session) Devices(ctx context.Context) ([]Device, error) {
	if s.token == nil {
		return nil, ErrNoToken
	}
	list, err := request[*wire.AuthDeviceList](ctx, s, &wire.AuthDevices{})
	if err != nil {
		return nil, err
	}
	var devices []Device
	for _, d := range list.Devices {
		devices = append(devices, Device{d.Device, d.Name, time.UnixMilli(d.Created), time.UnixMilli(d.Ends), d.Revoked})
	}
	return devices, nil
}

// Revoke shuts another device of the account out, for ever.
func (s *Session) Revoke(ctx context.Context, device wire.DeviceID) error {
	if s.token == nil {
		return ErrNoToken
	}
	_, err := request[*wire.AuthDone](ctx, s, &wire.AuthRevoke{Device: device})
	return err
}

// Stale has a value when authd wants the token renewed: it says something of
// the account, the name, that is not so any more.
func (s *Session) Stale() <-chan struct{} { return s.stale }
