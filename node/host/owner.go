package host

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"lanchat/node/chat"
	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/clean"
	"lanchat/wire/realm"
)

// askAuthd has authd do what the person wants done with the account.
func (h *Host) askAuthd(q chat.AskAuthd) {
	s := h.session.Load()
	if s == nil {
		h.tryPost(func(now time.Time) { h.core.HandleAuthdAnswer(now, q.Question, chat.AuthdAnswer{Error: h.away(nil)}) })
		return
	}
	go func() {
		token, devices, err := deed(s, q)
		h.post(func(now time.Time) {
			if token != nil {
				h.newToken(now, token)
			}
			a := chat.AuthdAnswer{Devices: devices}
			if err != nil {
				a.Error = h.away(err)
			}
			h.core.HandleAuthdAnswer(now, q.Question, a)
		})
	}()
}

// deed does it. The session's own limits bound the time it takes.
func deed(s *login.Session, q chat.AskAuthd) (token *realm.Token, devices []chat.AccountDevice, err error) {
	ctx := context.Background()
	switch {
	case q.Rename != "":
		token, err = s.Rename(ctx, q.Rename)
	case q.Passwd != nil:
		err = s.ChangePassword(ctx, q.Passwd.Present, q.Passwd.New, q.Passwd.SignOut)
	case !q.Revoke.IsZero():
		err = s.Revoke(ctx, q.Revoke)
	default:
		var list []login.Device
		list, err = s.Devices(ctx)
		for _, d := range list {
			devices = append(devices, chat.AccountDevice(d))
		}
	}
	return token, devices, err
}

// away returns why authd did not do it: it refused, or it is not there (nil).
func (h *Host) away(err error) *chat.Error {
	if refused, ok := errors.AsType[*login.RefusedError](err); ok {
		return &chat.Error{Code: refused.Code.String(), Text: clean.Text(OwnerWords(refused), 1000)}
	}
	text := "authd does not answer"
	if at := h.lastAuthd(); at != "" {
		text += " at " + at
	}
	text += ", and this needs it: try again when it is back; the chat goes on meanwhile"
	if err != nil {
		h.log.Warn("asking authd", "err", err)
	}
	return &chat.Error{Code: "authd_away", Text: text}
}

// newToken takes this device's new token into use: links that are up are told,
// those to come show it in their handshake.
func (h *Host) newToken(now time.Time, t *realm.Token) {
	h.renewed = now
	h.core.HandleToken(now, t)
	h.ready.User = t.Name
	for _, c := range h.contacts {
		if c.link != nil {
			c.link.push(h.tokenFrame())
		}
	}
}

func (h *Host) tokenFrame() chat.Frame {
	t := h.cfg.Profile.Token()
	m := wire.Token{Leaf: t.Leaf, Issuing: t.Issuing}
	return chat.Frame{Type: wire.FrameToken, Body: m.Append(nil)}
}

// peerToken takes a peer's new token, if it is one that its handshake would
// have been accepted with.
func (h *Host) peerToken(now time.Time, l *peerLink, body []byte) {
	t, err := h.verified(body)
	if err == nil && (t.Key != l.token.Key || t.Account != l.token.Account) {
		err = fmt.Errorf("token of %v, account %v: %w", t.Device, t.Account, realm.ErrKeyMismatch)
	}
	if err != nil {
		h.log.Debug("a peer's new token is left out", "device", l.token.Device, "err", err)
		return
	}
	if slices.Equal(t.Leaf, l.token.Leaf) {
		return
	}
	l.token = t
	h.core.HandlePeerToken(now, t)
}

// verified returns the token in the body of a frame.
func (h *Host) verified(body []byte) (*realm.Token, error) {
	m, err := wire.ParseToken(body)
	if err != nil {
		return nil, err
	}
	return h.tokenOf(m.Leaf, m.Issuing)
}

// tokenOf returns the token that a certificate is, if it is in force.
func (h *Host) tokenOf(leaf, issuing []byte) (*realm.Token, error) {
	var chain []*x509.Certificate
	for _, der := range [][]byte{leaf, issuing} {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		chain = append(chain, cert)
	}
	return h.cfg.Profile.Verifier().Device(chain, h.now())
}

// WithAuthd finds authd, calls do with a session that has the profile's token,
// and returns.
func WithAuthd(ctx context.Context, cfg Config, do func(context.Context, *login.Session) error) error {
	if cfg.Profile.Token() == nil {
		return login.ErrNoToken
	}
	return withSession(ctx, cfg, func(s *login.Session) error {
		if s.Token() == nil {
			return login.ErrNoToken
		}
		return do(ctx, s)
	})
}

// OwnerWords says what authd refused to do with the person's account, and what
// to do.
func OwnerWords(r *login.RefusedError) string {
	switch r.Code {
	case wire.CodeBadCredentials:
		return "that is not your present password: try again"
	case wire.CodeNameTaken:
		return "that name is not available: somebody has it, or gave it up not long ago: choose another"
	case wire.CodeBadName:
		return "a user name is 2 to 24 characters, a letter a-z, then a-z 0-9 . _ -; a few, such as admin, are reserved: choose another"
	case wire.CodeNoSuchDevice:
		return "your account has no such device: /sessions (or node sessions) lists them"
	case wire.CodeBadRequest:
		return "authd does not do that; to remove the token from this device itself use node logout"
	}
	return RefusalWords(r)
}
