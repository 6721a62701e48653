package host

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"time"

	"lanchat/node/chat"
)

// export writes the history of a chat to a file that is not there yet.
func (h *Host) export(e chat.Export) {
	file, n, err := h.writeExport(&e)
	h.post(func(time.Time) { h.core.HandleExported(e, file, n, err) })
}

func (h *Host) writeExport(e *chat.Export) (file string, n int, err error) {
	if file, err = filepath.Abs(e.File); err != nil {
		return "", 0, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return file, 0, err // and what is there stays as it is
	}
	w := bufio.NewWriter(f)
	err = h.cfg.Store.Each(e.Chat, func(m *chat.SaveMessage) error {
		n++
		_, err := w.Write(e.Line(m))
		return err
	})
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(file) // half a history is none
	}
	return file, n, err
}

const (
	sweepBatch = 500                   // messages forgotten in one transaction
	sweepPause = 50 * time.Millisecond // between two, for what else is to be stored
)

// sweep forgets history in small steps beside everything else.
func (h *Host) sweep(q chat.Sweep) {
	total := 0
	for {
		n, err := h.cfg.Store.Sweep(q.Chat, q.Before, q.Bytes, sweepBatch)
		total += n
		if n < sweepBatch || err != nil {
			h.post(func(time.Time) { h.core.HandleSwept(q, total, err) })
			return
		}
		select {
		case <-time.After(sweepPause):
		case <-h.quit:
			return
		}
	}
}
