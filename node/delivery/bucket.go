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
	if !b.Has(now, 1) {
		return false
	}
	b.spent++
	return true
}

// Charge takes n tokens, whether or not there are so many.
func (b *Bucket) Charge(now time.Time, n int) {
	b.fill(now)
	b.spent = min(b.spent+float64(n), 2*b.Burst)
}

// Has reports whether there are n tokens.
func (b *Bucket) Has(now time.Time, n int) bool {
	b.fill(now)
	return b.spent <= b.Burst-float64(n)
}

func (b *Bucket) fill(now time.Time) {
	if !b.at.IsZero() {
		b.spent = max(b.spent-b.Rate*max(now.Sub(b.at), 0).Seconds(), 0)
	}
	b.at = now
}
