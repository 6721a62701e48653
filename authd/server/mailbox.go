package server

import (
	"errors"
	"fmt"
	"time"

	"lanchat/authd/account"
	"lanchat/authd/mailbox"
	"lanchat/wire"
	"lanchat/wire/realm"
)

// Mail for devices that are away; see wire/mailbox.go.

// mailed answers what is asked about mail.
func (ses *session) mailed(now time.Time, token *realm.Token, m wire.AuthMessage) (wire.AuthMessage, error) {
	s := ses.s
	if s.mail == nil {
		return nil, &account.Refusal{Code: wire.CodeBadRequest, Text: "no mail is kept in this realm"}
	}
	switch m := m.(type) {
	case *wire.AuthMailKey:
		if err := wire.VerifyMailKey(ses.key, s.keys.Realm.ID, m.Public, m.Signature); err != nil {
			return nil, fmt.Errorf("%w: mail key: %w", errMalformed, err)
		}
		return &wire.AuthDone{}, s.mail.SetKey(mailbox.Key{Device: ses.key, Leaf: token.Leaf, Issuing: token.Issuing, Public: m.Public, Signature: m.Signature})
	case *wire.AuthRecipient:
		return ses.recipient(m)
	case *wire.AuthDeposit:
		fresh, err := s.mail.Deposit(now, token.Account, ses.key, m.To, m.Number, m.Sealed)
		if fresh {
			s.mailCame(m.To.Device())
		}
		return &wire.AuthDone{}, err
	case *wire.AuthMailbox:
		return s.mail.Page(ses.key, m.After)
	case *wire.AuthTaken:
		return &wire.AuthDone{}, s.mail.Take(ses.key, m.IDs)
	}
	return nil, fmt.Errorf("%w: type %#02x", errMalformed, m.FrameType())
}

func (ses *session) recipient(m *wire.AuthRecipient) (wire.AuthMessage, error) {
	id := m.Account
	if id.IsZero() {
		a, err := ses.s.cfg.Store.Find(m.Name)
		if err != nil {
			return &wire.AuthMailKeys{}, ignoreNotFound(err)
		}
		id = a.ID
	}
	keys, err := ses.s.mail.Keys(id)
	reply := &wire.AuthMailKeys{}
	for _, k := range keys {
		reply.Devices = append(reply.Devices, wire.MailDevice{Leaf: k.Leaf, Issuing: k.Issuing, Public: k.Public, Signature: k.Signature})
	}
	return reply, err
}

// mailCame tells a device that is connected of new mail.
func (s *Server) mailCame(d wire.DeviceID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, after := s.find(d)
	for _, ses := range s.roster[first:after] {
		ses.tell(newMail)
	}
}

func (ses *session) pushMailbox() error { return ses.pushMessage(&wire.AuthMailbox{}) }

// sweepMail forgets what has waited too long.
func (s *Server) sweepMail(now time.Time) {
	if s.mail == nil {
		return
	}
	dropped, err := s.mail.Sweep(now)
	switch {
	case err != nil:
		s.log.Warn("giving up old mail", "err", err)
	case dropped > 0:
		s.log.Info("old mail was given up", "messages", dropped)
	}
}

// mailUsage returns how much waits; nothing if that cannot be told.
func (s *Server) mailUsage() mailbox.Usage {
	if s.mail == nil {
		return mailbox.Usage{}
	}
	u, err := s.mail.Usage()
	if err != nil {
		s.log.Warn("counting the mail", "err", err)
	}
	return u
}

func ignoreNotFound(err error) error {
	if errors.Is(err, account.ErrNotFound) {
		return nil
	}
	return err
}
