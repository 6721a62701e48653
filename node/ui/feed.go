package ui

import (
	"fmt"
	"sync"
	"time"

	"lanchat/node/chat"
)

const (
	feedLimit  = 64 << 20        // bytes of memory that waiting events may take, about
	feedBatch  = 256             // events written at one go
	closeGrace = 2 * time.Second // without progress, before Close gives up
)

// An item is an event and when it was shown.
type item struct {
	at time.Time
	e  chat.Event
}

// when returns the time an event bears: its own if it knows one, as history
// does, else that of the call.
func when(e chat.Event, now time.Time) time.Time {
	if t, ok := e.(interface{ When() time.Time }); ok && !t.When().IsZero() {
		return t.When()
	}
	return now
}

// weight is about how much memory e takes, in bytes.
func weight(e chat.Event) int {
	n := 512
	switch e := e.(type) {
	case chat.Message:
		n += len(e.Text)
	case chat.Sent:
		n += len(e.Text)
	case chat.Notice:
		n += 2 * len(e.Text)
	case chat.Room:
		n += 32 * (len(e.Members) + len(e.Admins))
	}
	return n
}

// A feed is the queue between the core and the goroutine that writes.
type feed struct {
	limit int  // bytes
	lossy bool // when full, drop the oldest instead of failing
	write func(batch []item, dropped int) error

	wake chan struct{} // holds one token when there is something to do
	gone chan struct{} // closed when the writer has ended
	down chan struct{} // closed when ended

	mu      sync.Mutex
	items   []item
	size    int // bytes
	dropped int // since the last batch
	written int // batches, ever
	closed  bool
	ended   bool // nothing is written any more
	err     error
}

// newFeed starts a goroutine that calls write with what is shown; it ends
// with close.
func newFeed(limit int, lossy bool, write func(batch []item, dropped int) error) *feed {
	f := &feed{
		limit: limit,
		lossy: lossy,
		write: write,
		wake:  make(chan struct{}, 1),
		gone:  make(chan struct{}),
		down:  make(chan struct{}),
	}
	go f.run()
	return f
}

func (f *feed) show(e chat.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.ended {
		return
	}
	w := weight(e)
	if f.size+w > f.limit && len(f.items) > 0 {
		if !f.lossy {
			f.failLocked(ErrStalled)
			return
		}
		half := (len(f.items) + 1) / 2 // by halves, so that dropping is cheap
		for _, it := range f.items[:half] {
			f.size -= weight(it.e)
		}
		f.dropped += half
		f.items = append([]item(nil), f.items[half:]...)
	}
	f.size += w
	f.items = append(f.items, item{when(e, time.Now()), e})
	f.kick()
}

func (f *feed) kick() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *feed) failLocked(err error) {
	if !f.ended {
		f.ended, f.err = true, err
		f.items, f.size, f.dropped = nil, 0, 0
		close(f.down)
	}
}

func (f *feed) run() {
	defer close(f.gone)
	for {
		f.mu.Lock()
		n := min(len(f.items), feedBatch)
		batch, dropped := f.items[:n:n], f.dropped
		f.items, f.dropped = f.items[n:], 0
		if len(f.items) == 0 {
			f.items = nil
		}
		for _, it := range batch {
			f.size -= weight(it.e)
		}
		end := f.closed || f.ended
		f.mu.Unlock()

		if len(batch) == 0 && dropped == 0 {
			if end {
				return
			}
			<-f.wake
			continue
		}
		err := f.write(batch, dropped)
		f.mu.Lock()
		f.written++
		if err != nil {
			f.failLocked(fmt.Errorf("writing events: %w", err))
		}
		f.mu.Unlock()
	}
}

// fail takes the feed down: what waits is dropped, and so is what is shown
// later. Without an err it just is no longer wanted.
func (f *feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failLocked(err)
}

// failure returns why the feed is down, nil if it is not.
func (f *feed) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// close lets the writer finish and waits for it as long as it gets on.
func (f *feed) close() error {
	f.mu.Lock()
	f.closed = true
	last := f.written
	f.mu.Unlock()
	f.kick()
	timer := time.NewTimer(closeGrace)
	defer timer.Stop()
	for {
		select {
		case <-f.gone:
			return f.failure()
		case <-timer.C:
		}
		f.mu.Lock()
		if f.written == last {
			f.failLocked(ErrStalled)
			f.mu.Unlock()
			return ErrStalled
		}
		last = f.written
		f.mu.Unlock()
		timer.Reset(closeGrace)
	}
}
