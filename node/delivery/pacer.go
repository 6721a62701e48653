package delivery

import "time"

const (
	paceFirst = 5000   // packets a second at the start
	paceMin   = 500    // however much is lost
	paceMax   = 100000 // however little
	paceEvery = 50 * time.Millisecond
	paceBurst = 10 * time.Millisecond // of the rate, at least minBurst packets
	minBurst  = 64
	paceStep  = time.Millisecond
	// paceLoss is the share of packets a member may lose before the sender is
	// taken to be too fast for it: more than radio loses, less than a queue that
	// overflows.
	paceLoss = 0.30
)

// A pacer is a token bucket whose rate follows what is asked for again: it
// grows while it is used up and members keep up, and shrinks while one of them
// loses so much that it must be the speed.
//
// Unlike a Bucket it may be overdrawn: a packet that has to go goes.
type pacer struct {
	rate   float64 // packets a second
	tokens float64
	now    time.Time // the last told
	loss   float64   // of the member that loses most, smoothed

	since time.Time // when the counts below began
	sent  int
	dry   bool // the bucket was empty in this time
}

func newPacer() pacer { return pacer{rate: paceFirst, tokens: minBurst} }

func (p *pacer) burst() float64 { return max(minBurst, p.rate*paceBurst.Seconds()) }

// advance fills the bucket and, now and then, judges the rate.
func (p *pacer) advance(now time.Time, members []*member) {
	if !p.now.IsZero() {
		p.tokens = min(p.tokens+p.rate*max(now.Sub(p.now), 0).Seconds(), max(p.burst(), p.tokens))
	}
	p.now = now
	if now.Sub(p.since) < paceEvery {
		return
	}
	worst := 0
	for _, m := range members {
		if !m.out {
			worst = max(worst, m.asked)
		}
		m.asked = 0
	}
	if p.sent > 0 {
		share := min(float64(worst)/float64(p.sent), 1)
		p.loss += (share - p.loss) * min(float64(p.sent), 64) / 256
		switch {
		case p.sent >= minBurst && share > paceLoss:
			p.rate = max(p.rate*0.8, paceMin)
		case p.dry:
			p.rate = min(p.rate*1.25, paceMax)
		}
	}
	p.since, p.sent, p.dry = now, 0, false
}

// allow reports whether a packet may be sent now.
func (p *pacer) allow() bool {
	if p.tokens >= 1 {
		return true
	}
	p.dry = true
	return false
}

func (p *pacer) spend() { p.tokens-- }

// roomy reports whether there is room for more than what has to be sent.
func (p *pacer) roomy() bool { return p.tokens > p.burst()/2 }

// next returns when the bucket will have something again: what paceStep brings,
// since it costs more to wake for each packet than to send it.
func (p *pacer) next() time.Time {
	if p.tokens >= 1 {
		return p.now
	}
	want := max(1, p.rate*paceStep.Seconds())
	return p.now.Add(time.Duration((want - p.tokens) / p.rate * float64(time.Second)))
}
