package host

import (
	"context"
	"time"

	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/wire"
)

// surveyWait is how long discovery may take to say what it knows.
const surveyWait = 2 * time.Second

// survey tells the core how the network looks from here.
func (h *Host) survey(q chat.Survey) {
	ctx, cancel := context.WithTimeout(context.Background(), surveyWait)
	defer cancel()
	n := chat.Network{Interfaces: []chat.NetInterface{}}
	for _, l := range h.discovery.Links() {
		i := chat.NetInterface{Name: l.Name, Used: true, Addrs: []string{}}
		for _, p := range l.Prefixes {
			i.Addrs = append(i.Addrs, p.String())
		}
		n.Interfaces = append(n.Interfaces, i)
	}
	for _, s := range h.discovery.Skipped() {
		n.Interfaces = append(n.Interfaces, chat.NetInterface{Name: s.Name, Reason: s.Reason, Addrs: []string{}})
	}
	peers := h.discovery.Peers(ctx)
	h.discovery.Rejoin() // whoever asks misses somebody, perhaps; doctor looks at what comes of it
	h.post(func(time.Time) {
		for _, p := range peers {
			if p.State == presence.StateLeft || p.State == presence.StateLost || p.State == presence.StateHinted && p.Via == 0 {
				continue // the last is only remembered
			}
			v := chat.NetPeer{Device: p.Device, Authd: p.Role == wire.RoleAuthd, Here: p.State == presence.StateAlive,
				Via: p.Via.Strings(), Addrs: []string{}, Link: h.netLink(p.Device)}
			for _, a := range p.Addrs {
				v.Addrs = append(v.Addrs, a.String())
			}
			n.Peers = append(n.Peers, v)
		}
		h.core.HandleSurvey(q, n)
	})
}

// netLink describes the link with a device; nil: there is none.
func (h *Host) netLink(device wire.DeviceID) *chat.NetLink {
	l := h.linkTo(device)
	if l == nil {
		return nil
	}
	s := l.conn.ConnectionStats()
	return &chat.NetLink{Addr: l.conn.RemoteAddr().String(), Since: l.since, RTT: s.SmoothedRTT, Sent: s.PacketsSent, Lost: s.PacketsLost}
}

// pinged is a ping that a command asked for.
type pinged struct {
	chat.PingDevice
	at time.Time
}

// maxPings bounds the pings that wait for an answer.
const maxPings = 256

func (h *Host) ping(q chat.PingDevice) {
	l := h.linkTo(q.To)
	if l == nil {
		return
	}
	if len(h.pings) >= maxPings {
		clear(h.pings)
	}
	h.lastID++
	h.pings[h.lastID] = pinged{q, time.Now()}
	m := wire.Ping{Nonce: h.lastID}
	l.push(chat.Frame{Type: wire.FramePing, Body: m.Append(nil)})
}

func (h *Host) pong(now time.Time, from wire.DeviceID, nonce uint64) {
	p, ok := h.pings[nonce]
	if !ok || p.To != from {
		return
	}
	delete(h.pings, nonce)
	h.core.HandlePong(p.PingDevice, chat.NetPeer{Device: from, Via: h.via(h.contact(from)), Link: h.netLink(from)}, now.Sub(p.at))
}
