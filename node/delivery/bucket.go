package delivery

import "time"

// A Bucket is a token bucket: Rate tokens a second, Burst of them at most. It
// begins full.
type Bucket struct {
	Rate, Burst float64
	spent       float64   // tokens that are missing
	at          time.Time // when spent was right
}

// Allow takes a token, if there is one.
func (b *Bucket) Allow(now time.Time) bool {
	b.fill(now)
	if b.spent > b.Burst-1 {
		return false
	}
	b.spent++
	return true
}

func (b *Bucket) fill(now time.Time) {
	if !b.at.IsZero() {
		b.spent = max(b.spent-b.Rate*max(now.Sub(b.at), 0).Seconds(), 0)
	}
	b.at = now
}
