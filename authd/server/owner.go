package server

import (
	"fmt"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/authd/account"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

// What people do with their own account; see wire/owner.go.

func (ses *session) rename(now time.Time, token *realm.Token, m *wire.AuthRename) (wire.AuthMessage, error) {
	s := ses.s
	grant, err := s.reg.RenameOwn(now, token.Account, ses.key, m.Name, ses.source())
	if err != nil {
		return nil, err
	}
	reply, err := ses.sign(now, grant)
	if err != nil {
		return nil, err
	}
	s.log.Info("renamed", "user", grant.Name, "before", token.Name, "device", ses.device, "from", ses.source())
	s.look() // for the person's other devices
	return reply, nil
}

// changePassword has the longer conversation: PASSWORD, CHALLENGE, CHANGE, and
// the DONE that it returns.
func (ses *session) changePassword(stream *quic.Stream, token *realm.Token) (wire.AuthMessage, error) {
	s := ses.s
	stream.SetDeadline(time.Now().Add(strangerLife)) // the client hashes meanwhile, twice
	now := s.cfg.Now()
	attempt, err := s.reg.StartChange(now, token.Account, ses.key, ses.source())
	if err != nil {
		return nil, err
	}
	change, err := challenged[*wire.AuthChange](ses, stream, attempt, now)
	if err != nil {
		return nil, err
	}
	err = s.reg.FinishChange(s.cfg.Now(), attempt, token.Account, ses.key, account.Change{
		Present: change.Present, Salt: change.Salt, Prehash: change.Prehash, SignOut: change.SignOut,
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("password changed", "user", token.Name, "device", ses.device, "from", ses.source(), "others_signed_out", change.SignOut)
	if change.SignOut {
		s.look()
	}
	return &wire.AuthDone{}, nil
}

// challenged sends the attempt's CHALLENGE and reads what answers it.
func challenged[M wire.AuthMessage](ses *session, stream *quic.Stream, attempt *account.Attempt, now time.Time) (M, error) {
	var none M
	challenge := &wire.AuthChallenge{
		Salt:      attempt.Salt,
		Time:      wire.UnixMilli(now),
		MinLength: uint8(max(ses.s.cfg.MinPassword, realm.DefaultMinLength)),
		MinScore:  uint8(min(max(ses.s.cfg.MinScore, realm.DefaultMinScore), 4)),
	}
	if err := link.WriteAuth(stream, challenge); err != nil {
		return none, fmt.Errorf("%w: %w", errMalformed, err)
	}
	next, err := link.ReadAuth(stream)
	if err != nil {
		return none, fmt.Errorf("%w: %w", errMalformed, err)
	}
	m, ok := next.(M)
	if !ok {
		return none, fmt.Errorf("%w: type %#02x instead of %#02x", errMalformed, next.FrameType(), none.FrameType())
	}
	return m, nil
}

func (ses *session) devices(now time.Time, token *realm.Token) (wire.AuthMessage, error) {
	s := ses.s
	devices, err := s.reg.DevicesOf(now, token.Account, ses.key, ses.source())
	if err != nil {
		return nil, err
	}
	m := &wire.AuthDeviceList{}
	for _, d := range devices[:min(len(devices), wire.MaxDeviceList)] {
		m.Devices = append(m.Devices, wire.DeviceEntry{
			Device: d.Key.Device(), Name: d.Name, Created: wire.UnixMilli(d.Created), Ends: wire.UnixMilli(d.Expires), Revoked: d.Revoked,
		})
	}
	return m, nil
}

func (ses *session) revoke(now time.Time, token *realm.Token, m *wire.AuthRevoke) (wire.AuthMessage, error) {
	s := ses.s
	err := s.reg.RevokeOwn(now, token.Account, ses.key, m.Device, ses.source())
	if err != nil {
		return nil, err
	}
	s.log.Info("revoked by its owner", "user", token.Name, "device", m.Device, "by", ses.device, "from", ses.source())
	s.look()
	return &wire.AuthDone{}, nil
}

// pushRenew has the other side renew its token, which says something of the
// account that is not so any more.
func (ses *session) pushRenew() error {
	return ses.pushMessage(&wire.AuthRenew{})
}
