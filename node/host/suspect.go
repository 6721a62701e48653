package host

import (
	"net/netip"
	"slices"
	"time"

	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/wire"
	"lanchat/wire/link"
)

// When a machine moves to another address, its links may lead nowhere: QUIC
// follows who dialled, not who was dialled, and notices a dead link after 15
// seconds only. So a link that may be dead has to show within a moment that it
// is not; else the device is dialled where it is now.
const (
	networkEvery = time.Second     // looks whether this machine's network changed, or it slept
	suspectWait  = 2 * time.Second // for a sign of life
)

// suspect asks the other end of a contact's link for a sign of life.
func (h *Host) suspect(now time.Time, c *contact) {
	l := c.link
	if l == nil || !l.suspected.IsZero() {
		return
	}
	l.suspected = now
	h.lastID++
	ping := wire.Ping{Nonce: h.lastID}
	l.push(chat.Frame{Type: wire.FramePing, Body: ping.Append(nil)})
	go func() {
		select {
		case <-time.After(suspectWait):
		case <-h.quit:
			return
		}
		h.post(func(now time.Time) {
			if c.link != l {
				return
			}
			if l.heard.Before(l.suspected) {
				h.log.Debug("a link is dead", "device", c.device, "addr", l.conn.RemoteAddr())
				h.dropLink(now, c, link.CloseIdle)
			}
			l.suspected = time.Time{}
		})
	}()
}

// moved suspects the link of a device that is not where the link leads, as far
// as its presence tells.
func (h *Host) moved(now time.Time, c *contact) {
	if c.link != nil && !slices.ContainsFunc(c.addrs, func(a netip.AddrPort) bool { return sameAddr(a, remote(c.link)) }) {
		h.suspect(now, c)
	}
}

func sameAddr(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Addr().Unmap().WithZone("") == b.Addr().Unmap().WithZone("")
}

// watchNetwork suspects all links when this machine has another network than
// before, or has slept, and asks authd too then. While it has no network there is
// nothing to be found out.
func (h *Host) watchNetwork(now time.Time) {
	slept := !h.looked.IsZero() && presence.StoodStill(h.looked, now, networkEvery)
	h.looked = now
	links := h.discovery.Links()
	if slices.EqualFunc(links, h.watched, presence.Link.Equal) && !slept {
		return
	}
	first := h.watched == nil
	h.watched = links
	if first || !slices.ContainsFunc(links, func(l presence.Link) bool { return !l.Loopback }) {
		return
	}
	for _, c := range h.contacts {
		h.suspect(now, c)
	}
	if slept {
		signal(h.authdLost)
	}
}
