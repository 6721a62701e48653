package delivery

// A Queue is the outbox of reliable direct messages to one person. A message
// stays until HandleAck; each link to a device of that person is given
// everything that waits, in order, once.
//
// It does no I/O, starts no goroutine and never reads the clock.
type Queue struct {
	last uint64
	wait []Queued // by number
}

// Queued is one message that waits.
type Queued struct {
	Number uint64
	ID     [8]byte
	Body   []byte
}

// NewQueue returns the queue of a person to whom last was the last number
// used and wait, by number, is not acknowledged. It keeps wait.
func NewQueue(last uint64, wait []Queued) *Queue {
	return &Queue{last: last, wait: wait}
}

// Next returns the number of the next message and counts it as used.
func (q *Queue) Next() uint64 {
	q.last++
	return q.last
}

// Last returns the last number used.
func (q *Queue) Last() uint64 { return q.last }

// First returns the lowest number that waits, or would.
func (q *Queue) First() uint64 {
	if len(q.wait) > 0 {
		return q.wait[0].Number
	}
	return q.last + 1
}

// Len returns how many messages wait.
func (q *Queue) Len() int { return len(q.wait) }

// Add queues a message; its number must come from Next.
func (q *Queue) Add(m Queued) { q.wait = append(q.wait, m) }

// Number returns the number of what waits at place i, from 0.
func (q *Queue) Number(i int) uint64 { return q.wait[i].Number }

// Before returns the number of the message that waits before number n, 0 if
// none does.
func (q *Queue) Before(n uint64) (before uint64) {
	for _, m := range q.wait {
		if m.Number >= n {
			break
		}
		before = m.Number
	}
	return before
}

// After returns what waits behind number n, in order.
func (q *Queue) After(n uint64) []Queued {
	for i, m := range q.wait {
		if m.Number > n {
			return q.wait[i:]
		}
	}
	return nil
}

// HandleAck removes and returns what need not wait any longer: everything up to
// and including number n.
func (q *Queue) HandleAck(n uint64) (done []Queued) {
	i := 0
	for i < len(q.wait) && q.wait[i].Number <= n {
		i++
	}
	done = q.wait[:i:i]
	q.wait = q.wait[i:]
	return done
}
