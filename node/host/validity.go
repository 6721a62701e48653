package host

import (
	"errors"
	"fmt"
	"time"

	"lanchat/node/chat"
	"lanchat/wire/realm"
)

// Tokens end and clocks are wrong: what the person is told of it, and when.

const (
	checkEvery = time.Minute        // looks whether tokens have ended
	endsSoon   = 3 * 24 * time.Hour // before one's own does, it is spoken of
	clocksOff  = 2 * time.Minute    // beyond which a clock is spoken of
)

// checkTokens looks whether one's own token or a peer's has ended.
func (h *Host) checkTokens(now time.Time) {
	h.recheck(now)
	own := h.cfg.Profile.Token()
	left := own.NotAfter.Sub(h.now())
	grace := h.cfg.Profile.Verifier().Grace()
	switch {
	case left <= 0 && grace > 0 && h.cfg.Profile.Verifier().Check(own, h.now()) == nil:
		h.core.HandleTrouble(chat.Error{Code: "token_expired", Text: fmt.Sprintf(
			"your token ended on %s, and outage_grace lets this device go on until %s, with others that have set it, too: the token is renewed by itself, without a password, as soon as authd can be reached",
			date(own.NotAfter), date(own.NotAfter.Add(grace)))})
	case left <= 0:
		h.core.HandleTrouble(chat.Error{Code: "token_expired", Text: fmt.Sprintf(
			"your token ended on %s, and others take no links from this device: it is renewed by itself, without a password, as soon as authd can be reached; /set outage_grace 7d, on all devices, bridges the time until it is back", date(own.NotAfter))})
	case left < min(endsSoon, own.NotAfter.Sub(own.NotBefore.Add(realm.Backdate))/4) && !h.warned.Equal(own.NotAfter):
		h.warned = own.NotAfter
		h.show(chat.Notice{Code: "token_ends", Text: fmt.Sprintf(
			"your token is good until %s, and authd has not renewed it yet: after that others take no links from this device until authd is back", date(own.NotAfter))})
	}
}

// notAdmitted says why there is no link with a peer that is there: its token,
// or a clock. It says so once for each token.
func (h *Host) notAdmitted(now time.Time, c *contact, wrong *realm.TimeError) {
	if c.ended.Equal(wrong.NotAfter) {
		return
	}
	c.ended = wrong.NotAfter
	n := chat.Notice{Code: "peer_expired", Text: fmt.Sprintf(
		"the token of %s ended on %s, so there is no link with that device: it has to reach authd, which renews it without a password", wrong.Name, date(wrong.NotAfter))}
	if errors.Is(wrong, realm.ErrNotYetValid) {
		n = chat.Notice{Code: "peer_not_yet_valid", Text: fmt.Sprintf(
			"the token of %s begins on %s, and it is %s here, so there is no link with that device: set this machine's clock, or authd's if that is wrong", wrong.Name, date(wrong.NotBefore), date(wrong.Now))}
	}
	h.core.HandlePresence(now, c.device, "left", "expired", h.via(c))
	h.show(n)
}

// compareClocks says that the machine's clock is far from authd's, once until
// they agree again.
func (h *Host) compareClocks() {
	ahead := h.cfg.Profile.Clock().Ahead()
	off := ahead.Abs() > clocksOff
	if off && !h.ahead {
		how := "ahead of"
		if ahead < 0 {
			how = "behind"
		}
		h.post(func(time.Time) {
			h.show(chat.Notice{Code: "clock", Text: fmt.Sprintf(
				"your clock is %s %s the server: set this machine's clock, or have the server's set", roughly(ahead.Abs()), how)})
		})
	}
	h.ahead = off
}

// clockWords says that authd's certificate and a clock do not agree.
func clockWords(e *realm.TimeError) string {
	return fmt.Sprintf("it is %s by this machine's clock, and authd's certificate holds from %s to %s: one of the two clocks is wrong; set this machine's, or have the server's set",
		date(e.Now), date(e.NotBefore), date(e.NotAfter))
}

func date(t time.Time) string { return t.Local().Format("2 Jan 2006 15:04") }

// roughly is a duration as people say it.
func roughly(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{365 * day, "years"}, {day, "days"}, {time.Hour, "hours"}} {
		if d >= 2*u.of {
			return fmt.Sprintf("%d %s", int((d+u.of/2)/u.of), u.name)
		}
	}
	return fmt.Sprintf("%d minutes", int(d.Minutes()))
}
