package realm

import (
	"sync"
	"time"
)

// A Clock is the realm's idea of the time. It is never behind what the realm
// has signed, so that setting a machine's clock back revives no expired
// certificate; and what authd answers overrules the machine's clock either
// way. Members' times never count. The zero Clock is the machine's clock. It
// may be used from several goroutines.
type Clock struct {
	mu     sync.Mutex
	signed time.Time // the highest time seen in something the realm signed
	answer time.Time // authd's newest answer, zero: none
	at     time.Time // the machine's clock then
}

// Signed tells the clock that the realm has signed something at t.
func (c *Clock) Signed(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.signed) {
		c.signed = t
	}
}

// Answer tells the clock that authd, asked over an authenticated connection,
// has just said that it is t. local is the machine's clock.
func (c *Clock) Answer(local, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer, c.at = t, local
}

// Now returns the realm's time. local is the machine's clock; with a reading
// of the monotonic clock in it (time.Now has one), setting the machine's clock
// does not move what authd has answered.
func (c *Clock) Now(local time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.answer.IsZero() {
		return c.answer.Add(local.Sub(c.at))
	}
	if local.Before(c.signed) {
		return c.signed
	}
	return local
}

// Ahead returns how far the machine's clock was ahead of authd's when authd
// last answered; negative: behind; 0: authd has not answered.
func (c *Clock) Ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answer.IsZero() {
		return 0
	}
	return c.at.Sub(c.answer)
}
