package host

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/wire"
)

// Peers hand on to each other whom they have links with, so that who sits
// behind an access point that passes no multicast finds everybody by any one
// of them, with authd or without. And a node remembers where it reached whom,
// to begin with that where nobody is heard.
const (
	peersFirst   = 3                // peers asked after a start, and after a change of the network
	peersAgain   = 30 * time.Second // one peer, at random, ± 10 %
	maxTold      = 1024             // devices told to one peer
	maxBelieved  = 256              // devices believed of one answer
	rememberTry  = time.Second      // after the start: who is heard by then needs no memory
	rememberMost = 64               // devices tried from memory
	rememberLife = 7 * 24 * time.Hour
)

// askPeersOf asks a peer whom it has links with. Its answer is hints.
func (h *Host) askPeersOf(l *peerLink) {
	go func() {
		frames, err := l.ask(wire.FrameAskPeers, nil)
		if err != nil {
			h.log.Debug("asking a peer for others", "device", l.token.Device, "err", err)
			return
		}
		var told []wire.PeerEntry
		for _, f := range frames {
			m, err := wire.ParsePeers(f.Body)
			if f.Type != wire.FramePeers || err != nil {
				h.log.Debug("a peer tells of others in a way that can't be read", "device", l.token.Device, "err", err)
				return
			}
			told = append(told, m.Entries...)
		}
		h.post(func(time.Time) {
			for _, e := range told[:min(len(told), maxBelieved)] {
				if h.linkTo(e.Device) == nil {
					h.discovery.Hint(presence.Hint{Device: e.Device, Addrs: e.Addrs, Via: presence.Authd})
				}
			}
		})
	}()
}

// askPeersDue asks a peer at random when it is time, and returns when it will
// be again; zero: nobody is there to be asked.
func (h *Host) askPeersDue(now time.Time) (again time.Time) {
	if h.links == 0 {
		return time.Time{}
	}
	if now.Before(h.peersNext) {
		return h.peersNext
	}
	if !h.peersNext.IsZero() {
		pick := rand.N(h.links)
		for _, c := range h.contacts {
			if c.link == nil {
				continue
			}
			if pick == 0 {
				h.askPeersOf(c.link)
				break
			}
			pick--
		}
	}
	h.peersNext = now.Add(peersAgain - peersAgain/10 + rand.N(peersAgain/5))
	return h.peersNext
}

// askNewPeer asks the peer of a new link, if few were asked since the start or
// since the network changed.
func (h *Host) askNewPeer(l *peerLink) {
	if links := h.discovery.Links(); !slices.EqualFunc(links, h.network, presence.Link.Equal) {
		h.network, h.peersLeft = links, peersFirst
	}
	if h.peersLeft > 0 {
		h.peersLeft--
		h.askPeersOf(l)
	}
}

// peersFrames is the answer to a peer that asks whom this node has links with.
func (h *Host) peersFrames(asker *peerLink) (frames []chat.Frame) {
	local := remote(asker).Addr().IsLoopback()
	var m wire.Peers
	flush := func() {
		if len(m.Entries) > 0 {
			frames = append(frames, chat.Frame{Type: wire.FramePeers, Body: m.Append(nil)})
			m.Entries = nil
		}
	}
	told := 0
	for device, c := range h.contacts {
		if c.link == nil || c.link == asker || told >= maxTold {
			continue
		}
		e := wire.PeerEntry{Device: device}
		for _, a := range append([]netip.AddrPort{remote(c.link)}, c.addrs...) {
			a = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
			if a.Addr().IsLoopback() == local && !slices.Contains(e.Addrs, a) && len(e.Addrs) < wire.MaxRosterAddresses {
				e.Addrs = append(e.Addrs, a)
			}
		}
		if len(e.Addrs) == 0 {
			continue
		}
		told++
		if m.Entries = append(m.Entries, e); len(m.Entries) == wire.MaxPeers {
			flush()
		}
	}
	flush()
	return frames
}

// remote returns the address at the other end of a link, where the device can
// be dialled as well: a node has one socket.
func remote(l *peerLink) netip.AddrPort {
	return l.conn.RemoteAddr().(*net.UDPAddr).AddrPort()
}

// remember keeps where a device was reached, if that is news.
func (h *Host) remember(now time.Time, l *peerLink) {
	a := remote(l)
	a = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()) // the zone may be another next time
	if device := l.token.Device; h.remembered[device] != a {
		h.remembered[device] = a
		h.saves = append(h.saves, chat.SaveAddress{Device: device, Addr: a, At: now})
	}
}

// tryRemembered hints at where devices were reached before, a moment after the
// start, if they are not linked by then.
func (h *Host) tryRemembered(now time.Time) {
	known := slices.DeleteFunc(h.known, func(s chat.SaveAddress) bool { return now.Sub(s.At) > rememberLife })
	slices.SortFunc(known, func(a, b chat.SaveAddress) int { return b.At.Compare(a.At) })
	for _, s := range known {
		h.remembered[s.Device] = s.Addr
	}
	known = known[:min(len(known), rememberMost)]
	go func() {
		select {
		case <-time.After(rememberTry):
		case <-h.quit:
			return
		}
		h.post(func(time.Time) {
			for _, s := range known {
				if h.linkTo(s.Device) == nil {
					h.discovery.Hint(presence.Hint{Device: s.Device, Addrs: []netip.AddrPort{s.Addr}, Via: presence.Memory})
				}
			}
		})
	}()
}

// earlier returns the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
