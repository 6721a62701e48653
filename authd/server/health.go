package server

import (
	"errors"
	"sync"
	"time"

	"lanchat/authd/account"
)

// A health remembers whether the store takes what is to be stored. While it
// does not, requests are refused with "try later" and nothing is issued; it is
// said once in the log and shown by authd status.
type health struct {
	mu      sync.Mutex
	trouble string // "": none
	since   time.Time
}

// note takes in what the store said to a change. It reports whether that is
// news, and how long it had been otherwise. What a rule said no to, and other
// failures, say nothing about the store.
func (h *health) note(now time.Time, err error) (news bool, after time.Duration) {
	trouble := ""
	if err != nil {
		if !errors.Is(err, account.ErrUnavailable) {
			return false, 0
		}
		trouble = err.Error()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if (h.trouble == "") == (trouble == "") {
		return false, 0
	}
	after = now.Sub(h.since)
	h.trouble, h.since = trouble, now
	return true, after
}

// state returns what is wrong, or "", and since when.
func (h *health) state() (trouble string, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trouble, h.since
}

// stored takes in what the store said to a change, and tells the log when that
// is news.
func (s *Server) stored(now time.Time, err error) {
	switch news, after := s.health.note(now, err); {
	case news && err != nil:
		s.log.Error("the database takes nothing: nobody can register, log in or renew until that is mended; it is tried again by itself", "err", err)
	case news:
		s.log.Info("the database works again", "after", after.Round(time.Second))
	}
}
