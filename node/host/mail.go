package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lanchat/node/chat"
	"lanchat/node/login"
	"lanchat/wire"
)

// askMail puts a request about mail to authd.
func (h *Host) askMail(q chat.AskMail) {
	s := h.session.Load()
	go func() {
		m, err := wire.AuthMessage(nil), error(login.ErrNoAnswer)
		if s != nil {
			m, err = s.Mail(context.Background(), q.Message) // bounded by the session's own limits
		}
		if r, ok := errors.AsType[*login.RefusedError](err); ok {
			err = &chat.MailRefusal{Code: r.Code, RetryAfter: r.RetryAfter}
		}
		if err != nil {
			m = nil
			h.log.Debug("asking authd about mail", "request", fmt.Sprintf("%T", q.Message), "err", err)
		}
		h.post(func(now time.Time) { h.core.HandleMailAnswer(now, q.Question, m, err) })
	}()
}
