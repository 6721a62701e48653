package room

import (
	"encoding/binary"
	"fmt"

	"lanchat/wire"
)

const (
	// ReplayWindow is how far behind the newest packet of a device an older
	// one may come in. Repair sends the same sealed bytes again, at full
	// speed more than 1,024 packets after the first time; 2,048 fit into the
	// same 264 bytes.
	ReplayWindow = 2048
	// ReplaySize is the size of a marshalled Replay in bytes.
	ReplaySize = 8 + ReplayWindow/8
)

// A Replay remembers which packets of one device in one room came before,
// across all epochs. The zero value has seen nothing.
//
// It is a bit for each of the last ReplayWindow numbers, in a ring (RFC 6479).
// One goroutine owns it.
type Replay struct {
	top  uint64 // the highest number seen
	ring [ReplayWindow / 64]uint64
}

// Seen reports whether a packet came before, or is too old to tell.
func (w *Replay) Seen(seq uint64) bool {
	switch {
	case seq == 0:
		return true
	case seq > w.top:
		return false
	case w.top-seq >= ReplayWindow:
		return true
	}
	return w.ring[seq/64%uint64(len(w.ring))]&(1<<(seq%64)) != 0
}

// Mark notes a packet whose signature was verified and reports whether it is
// new: what it returns false for is dropped.
func (w *Replay) Mark(seq uint64) bool {
	if w.Seen(seq) {
		return false
	}
	if seq > w.top {
		if seq-w.top >= ReplayWindow {
			clear(w.ring[:])
		} else {
			for n := w.top + 1; n < seq; n++ {
				w.ring[n/64%uint64(len(w.ring))] &^= 1 << (n % 64)
			}
		}
		w.top = seq
	}
	w.ring[seq/64%uint64(len(w.ring))] |= 1 << (seq % 64)
	return true
}

// Top returns the highest number seen.
func (w *Replay) Top() uint64 { return w.top }

// Append appends the ReplaySize bytes of the window for the store.
func (w *Replay) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, w.top)
	for _, word := range w.ring {
		b = binary.BigEndian.AppendUint64(b, word)
	}
	return b
}

// ParseReplay reads what Append wrote.
func ParseReplay(b []byte) (Replay, error) {
	var w Replay
	r := wire.NewReader(b)
	w.top = r.Uint64()
	for i := range w.ring {
		w.ring[i] = r.Uint64()
	}
	if err := r.Done(); err != nil {
		return Replay{}, fmt.Errorf("replay window: %w", err)
	}
	return w, nil
}
