package delivery

import "time"

// A Path is what an Inbox has learned of the way that a device's packets come:
// how long a repair takes, and whether packets overtake each other. The zero
// value knows nothing yet.
type Path struct {
	// Spread returns how long to leave the asking to others; nil: not at all.
	Spread func() time.Duration

	srtt, rttvar time.Duration // of request and repair; 0: none measured
	shortest     time.Duration // of all round trips; 0: none measured
	reorder      time.Duration // how long a packet may be overtaken
	doubted      time.Time     // the latest request that brought a repair, or one before it did: it is not known which
	doubtful     int           // such requests in a row

	missed   uint64 // messages that were missing when they should have come
	repaired uint64 // and came after they were asked for
}

// RoundTrip returns the smoothed time from a request to its repair; 0: none
// was measured.
func (p *Path) RoundTrip() time.Duration { return p.srtt }

// Counts returns how many messages were missing when they should have come,
// and how many of them came after they were asked for.
func (p *Path) Counts() (missed, repaired uint64) { return p.missed, p.repaired }

// maxDoubtful is how many requests in a row may be doubtful by chance.
const maxDoubtful = 8

// patience returns how long a new gap waits for its first request.
func (p *Path) patience() time.Duration {
	if p.Spread == nil {
		return p.reorder
	}
	return p.reorder + p.Spread()
}

// pause returns how long to wait for the answer to request number tries.
func (p *Path) pause(tries int) time.Duration {
	d := askFirst
	if p.srtt > 0 {
		d = max(askMin, p.srtt+4*p.rttvar)
	}
	// Where all are asked for twice, because the pause is shorter than the way,
	// nothing would ever be learned of it.
	for range min(p.doubtful/maxDoubtful, 20) {
		d *= 2
	}
	for range min(tries-askSteady+1, 20) {
		d += d / 2
	}
	return min(d, askMax)
}

// closed learns from a message that closed a gap, or a part of it.
//
// A message that comes sooner than any repair could was overtaken, not lost.
// From what is sure to be a repair, because it was asked for once, the round
// trip is taken as TCP takes it (RFC 6298, section 2; Karn's rule).
func (p *Path) closed(now time.Time, g *gap) {
	age := now.Sub(g.since)
	if g.tries == 0 || p.shortest > 0 && now.Sub(g.asked) < p.shortest/2 && g.tries == 1 {
		if age <= reorderMax { // else it was the second copy, or this node was busy
			p.reorder = min(max(p.reorder, age+age/2), reorderMax)
		}
		p.missed -= min(p.missed, 1)
		p.shortest -= p.shortest / 4 // the way may have become shorter
		return
	}
	p.repaired++
	p.reorder -= p.reorder / 8
	if g.tries > 1 && p.srtt > 0 {
		if g.asked.After(p.doubted) {
			p.doubted = g.asked
			p.doubtful++
		}
		return
	}
	p.doubtful = 0
	rtt := max(now.Sub(g.begun), time.Microsecond) // that it was asked for first is all there is to go by at the start
	if p.shortest == 0 || rtt < p.shortest {
		p.shortest = rtt
	}
	switch {
	case p.srtt == 0:
		p.srtt, p.rttvar = rtt, rtt/2
	case rtt < p.srtt-p.rttvar:
		// The queues on the way have emptied. Who goes on waiting as long as
		// they made everybody wait holds up what comes behind.
		p.srtt, p.rttvar = (p.srtt+rtt)/2, p.rttvar/2
	default:
		p.rttvar += ((p.srtt - rtt).Abs() - p.rttvar) / 4
		p.srtt += (rtt - p.srtt) / 8
	}
}
