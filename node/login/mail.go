package login

import (
	"context"

	"lanchat/wire"
)

// Mail has authd answer a request about mail (wire/mailbox.go): the answer is
// of the type that belongs to the request.
func (s *Session) Mail(ctx context.Context, m wire.AuthMessage) (wire.AuthMessage, error) {
	if s.token == nil {
		return nil, ErrNoToken
	}
	switch m.(type) {
	case *wire.AuthRecipient:
		return request[*wire.AuthMailKeys](ctx, s, m)
	case *wire.AuthMailbox:
		return request[*wire.AuthMail](ctx, s, m)
	}
	return request[*wire.AuthDone](ctx, s, m)
}

// Mailed receives when authd says that something waits for this device.
func (s *Session) Mailed() <-chan struct{} { return s.mail }
