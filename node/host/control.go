package host

import (
	"context"
	"net"
	"time"
)

// control serves one-shot commands of the same data directory: each
// connection to the local socket is one more face, which is told first how
// things stand.
func (h *Host) control(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { h.cfg.Control.Close() })
	defer stop()
	for {
		conn, err := h.cfg.Control.Accept()
		if err != nil {
			return
		}
		go h.serveControl(ctx, conn)
	}
}

func (h *Host) serveControl(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	face := h.cfg.ControlFace(conn)
	h.post(func(now time.Time) {
		face.Show(h.ready)
		if h.authd.State != "" {
			face.Show(h.authd)
		}
		for _, e := range h.core.Snapshot(now) {
			face.Show(e)
		}
		h.faces[face] = true
	})
	if err := face.Run(ctx, h.do); err != nil {
		h.log.Debug("control connection ended", "err", err)
	}
	h.post(func(now time.Time) { delete(h.faces, face) })
	face.Close()
}
