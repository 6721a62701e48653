package host

import (
	"time"

	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/wire"
	"lanchat/wire/link"
)

// mirrorFor is how long one request for a peer's room packets over its link
// lasts, in seconds. It is repeated at every ping, a presence period apart.
const mirrorFor = 15

// presence takes what discovery tells; it is called by discovery's goroutine
// and returns at once.
func (h *Host) presence(e presence.Event) {
	select {
	case h.seen <- &e:
	default:
		h.log.Warn("too much news of presence at once, some dropped")
	}
}

func (h *Host) handlePresence(now time.Time, e presence.Event) {
	if e.Role == wire.RoleAuthd {
		h.handleAuthdPresence(e)
		return
	}
	switch e.Kind {
	case presence.Seen, presence.Restarted:
		c := h.contact(e.Device)
		if e.Kind == presence.Restarted && e.Boot > c.boot {
			c.boot = e.Boot
			h.core.HandleRestarted(now, e.Device, e.Via.Strings())
			if c.link != nil && c.link.hello.Boot < e.Boot {
				h.dropLink(now, c, link.CloseReplaced)
			}
		}
		if !c.alive {
			c.tries, c.next = 0, now
			if smaller(h.self, e.Device) != h.self {
				c.next = now.Add(politeness)
			}
		}
		c.alive, c.heard, c.vouched = true, e.State == presence.StateAlive, e.Vouched
		c.addrs, c.via = e.Addrs, e.Via.Strings()
		h.moved(now, c)
	case presence.Left:
		h.gone(now, e.Device, "left", "goodbye")
	case presence.Lost:
		h.gone(now, e.Device, "lost", "silent")
	case presence.Expired:
		if c := h.contact(e.Device); c.link == nil {
			h.gone(now, e.Device, "lost", "silent")
		}
	case presence.Ping:
		if l := h.linkTo(e.Device); l != nil {
			h.lastID++
			ping := wire.Ping{Nonce: h.lastID}
			l.push(chat.Frame{Type: wire.FramePing, Body: ping.Append(nil)})
			// It is linked and not heard by multicast: its rooms' packets have to
			// come over the link, as long as that is so.
			mirror := wire.Mirror{Seconds: mirrorFor}
			l.push(chat.Frame{Type: wire.FrameMirror, Body: mirror.Append(nil)})
		}
	case presence.Cloned:
		h.show(chat.Notice{Code: "cloned", Text: "another machine uses this device's key: somebody has copied the data directory; log out there, or log in anew on one of the two"})
	}
}

// handleAuthdPresence passes news of authd to who looks for it.
func (h *Host) handleAuthdPresence(e presence.Event) {
	switch e.Kind {
	case presence.Seen, presence.Restarted:
		h.mu.Lock()
		h.authdAddrs[e.Device] = e.Addrs
		h.mu.Unlock()
		signal(h.authdSeen)
	case presence.Left, presence.Lost, presence.Expired:
		h.mu.Lock()
		delete(h.authdAddrs, e.Device)
		h.mu.Unlock()
		signal(h.authdLost)
	}
}
