package account

import (
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A throttle limits how often each source may begin something. Its buckets
// are full at first, so that a burst passes. It is safe for concurrent use.
type throttle struct {
	perMinute int
	max       int

	mu      sync.Mutex
	buckets map[netip.Prefix]*rate.Limiter
}

func newThrottle(perMinute, max int) *throttle {
	return &throttle{perMinute: perMinute, max: max, buckets: make(map[netip.Prefix]*rate.Limiter)}
}

// subnetShare is how many single addresses' share an IPv6 /64 has.
const subnetShare = 10

// take returns 0 if source may go on, else how long it should wait.
func (t *throttle) take(now time.Time, source netip.Addr) time.Duration {
	if t.perMinute == math.MaxInt {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	wait := t.takeFrom(now, netip.PrefixFrom(source, source.BitLen()), t.perMinute)
	if wait == 0 && source.Is6() {
		subnet, _ := source.Prefix(64) // cannot fail for IPv6
		wait = t.takeFrom(now, subnet, subnetShare*t.perMinute)
	}
	return wait
}

func (t *throttle) takeFrom(now time.Time, who netip.Prefix, perMinute int) time.Duration {
	b := t.buckets[who]
	if b == nil {
		makeRoom(t.buckets, t.max, func(b *rate.Limiter) bool { return b.TokensAt(now) >= float64(b.Burst()) })
		b = rate.NewLimiter(rate.Limit(perMinute)/60, perMinute)
		t.buckets[who] = b
	}
	r := b.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// delayKey is somebody trying an account.
type delayKey struct {
	name   string
	source netip.Addr
}

// A backoff makes who fails wait, longer each time. The key holds the exact
// address: wider ones would let a neighbour keep the owner out, and whoever
// changes addresses runs into the account's lock instead. It is safe for
// concurrent use.
type backoff struct {
	free     int
	min, max time.Duration
	maxLen   int

	mu     sync.Mutex
	failed map[delayKey]*failures
}

type failures struct {
	count int
	until time.Time // no attempt before
}

func newBackoff(free int, min, max time.Duration, maxLen int) *backoff {
	return &backoff{free: free, min: min, max: max, maxLen: maxLen, failed: make(map[delayKey]*failures)}
}

// wait returns how long key must still wait.
func (b *backoff) wait(now time.Time, key delayKey) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f := b.failed[key]; f != nil && now.Before(f.until) {
		return f.until.Sub(now)
	}
	return 0
}

// fail counts a failure of key. What is older than the longest delay is
// forgotten.
func (b *backoff) fail(now time.Time, key delayKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	forgotten := func(f *failures) bool { return !now.Before(f.until.Add(b.max)) }
	f := b.failed[key]
	if f == nil || forgotten(f) {
		if f == nil {
			makeRoom(b.failed, b.maxLen, forgotten)
		}
		f = new(failures)
		b.failed[key] = f
	}
	f.count++
	f.until = now
	if over := f.count - b.free; over >= 0 {
		f.until = now.Add(min(b.max, b.min<<min(over, 20))) // 2²⁰ times any sensible min is over max
	}
}

func (b *backoff) forget(key delayKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.failed, key)
}

// makeRoom keeps m below max entries: first what is idle goes, then, when
// that is not an eighth of it, any. An attacker who has that many verified
// addresses gains a fresh start for some of them, not memory.
func makeRoom[K comparable, V any](m map[K]V, max int, idle func(V) bool) {
	if len(m) < max {
		return
	}
	for k, v := range m {
		if idle(v) {
			delete(m, k)
		}
	}
	for k := range m {
		if len(m) <= max-max/8-1 {
			return
		}
		delete(m, k)
	}
}
