package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

const (
	stagger     = 250 * time.Millisecond // between dials to the addresses of one device (RFC 8305, section 5)
	dialWait    = 4 * time.Second        // for one device, all its addresses
	politeness  = 400 * time.Millisecond // the side with the larger device id lets the other dial first
	redialFirst = 500 * time.Millisecond
	redialMost  = 15 * time.Second
	sameMoment  = 5 * time.Second      // two links younger than that were dialled together
	peerEvery   = 5 * time.Second      // between dials to an address that the person gave
	handshake   = dialWait + helloWait // at most, from a certificate shown to the link in use
	awayAfter   = 2                    // dials in vain, and a device that is there is away
	maxLinks    = 512
)

// A contact is what the host knows of the ways to a device. It is owned by
// the loop.
type contact struct {
	device  wire.DeviceID
	addrs   []netip.AddrPort
	via     []string
	alive   bool      // heard, or hinted at, and not gone since
	heard   bool      // itself
	vouched bool      // a token of it was checked
	boot    uint64    // of its last start known; 0: none is
	link    *peerLink // nil: none
	dialing bool
	tries   int       // dials since there was a link, or since it was heard anew
	next    time.Time // when to dial again
	ended   time.Time // the end of its token, if the person was told that it cannot be used
}

// accept takes in connections of other nodes until the transport closes.
func (h *Host) accept(ctx context.Context, ln *quic.Listener) {
	for {
		conn, err := ln.Accept(ctx)
		if err != nil {
			return
		}
		go func() {
			token, err := link.PeerToken(conn, h.cfg.Profile.Verifier(), h.now())
			if err != nil {
				conn.CloseWithError(link.CloseRefused, "")
				return
			}
			h.establish(ctx, conn, token, false)
		}()
	}
}

// establish greets the other side of a fresh connection, hands the link to
// the loop and serves it until it ends.
func (h *Host) establish(ctx context.Context, conn *quic.Conn, token *realm.Token, dialled bool) {
	l, err := greet(ctx, conn, token, dialled, h.hello())
	if err != nil {
		h.log.Debug("greeting a peer", "device", token.Device, "err", err)
		conn.CloseWithError(link.CloseProtocol, "")
		return
	}
	h.post(func(now time.Time) { h.linkUp(now, l) })
}

// linkUp takes a greeted link into use. Two nodes that dial each other at the
// same moment have two: both keep the one dialled by the smaller device id,
// unless one of the two devices has started anew.
func (h *Host) linkUp(now time.Time, l *peerLink) {
	device := l.token.Device
	if device == h.self {
		l.close(link.CloseRefused, "that is you")
		return
	}
	c := h.contact(device)
	if old := c.link; old != nil {
		together := now.Sub(old.since) < sameMoment && l.hello.Boot == old.hello.Boot
		if together && h.dialler(old) == smaller(h.self, device) && h.dialler(l) != h.dialler(old) {
			l.close(link.CloseReplaced, "")
			return
		}
		h.dropLink(now, c, link.CloseReplaced)
	}
	if h.links >= maxLinks {
		l.close(link.CloseRefused, "too many links")
		return
	}
	h.links++
	l.since, l.offered = now, l.hello.CRLNumber
	c.link, c.tries, c.alive = l, 0, true
	h.discovery.Linked(device)
	h.core.LinkUp(now, l.token, h.via(c))
	if c.boot != 0 && l.hello.Boot > c.boot {
		h.core.HandleRestarted(now, device, h.via(c))
	}
	c.boot = max(c.boot, l.hello.Boot)
	if now.Sub(h.renewed) < handshake { // the other side may have seen the old one
		l.push(h.tokenFrame())
	}
	go l.writeFrames()
	go l.writeDatagrams()
	go l.readFrames(func(typ uint8, body []byte) {
		h.post(func(now time.Time) { h.frame(now, l, typ, body) })
	})
	go l.readDatagrams(func(body []byte) {
		h.post(func(now time.Time) {
			if c.link == l {
				h.core.HandleDatagram(now, device, body)
			}
		})
	})
	go l.questions(func(typ uint8, body []byte, s *quic.Stream) {
		h.post(func(now time.Time) {
			if c.link != l {
				s.CancelWrite(0)
				return
			}
			switch typ {
			case wire.FrameAskCRL:
				go answer(s, h.listFrames())
				return
			case wire.FrameAskPeers:
				go answer(s, h.peersFrames(l))
				return
			}
			h.lastID++
			h.answers[h.lastID] = s
			h.core.HandleQuestion(now, device, h.lastID, typ, body)
		})
	})
	context.AfterFunc(l.conn.Context(), func() {
		code, closed := link.Closed(context.Cause(l.conn.Context()))
		h.post(func(now time.Time) {
			if c.link != l {
				return
			}
			h.dropLink(now, c, link.CloseGoodbye)
			if closed && code == link.CloseReplaced {
				// The other side has a link with this device that is not ours:
				// somebody else has the same key. The two must not drive each
				// other out as fast as they can dial.
				c.next = now.Add(sameMoment)
			}
			if closed && code == link.CloseRevoked {
				h.selfRevoked(l.token.Name + " says that ")
			}
			if closed && code == link.CloseGoodbye {
				h.discovery.Goodbye(device)
				h.gone(now, device, "left", "goodbye")
			}
		})
	})
	h.remember(now, l)
	h.askNewPeer(l)
	h.recheck(now) // a list may have come since the handshake
	h.tellList()
	h.pullList()
}

// dialler returns which device dialled the link.
func (h *Host) dialler(l *peerLink) wire.DeviceID {
	if l.dialled {
		return h.self
	}
	return l.token.Device
}

func smaller(a, b wire.DeviceID) wire.DeviceID {
	if bytes.Compare(a[:], b[:]) < 0 {
		return a
	}
	return b
}

// frame takes a frame of a control stream: pings are answered here, the rest
// is the core's.
func (h *Host) frame(now time.Time, l *peerLink, typ uint8, body []byte) {
	device := l.token.Device
	if h.contact(device).link != l {
		return
	}
	l.heard = now
	h.discovery.Heard(device, presence.QUIC)
	switch typ {
	case wire.FramePing:
		if _, err := wire.ParsePing(body); err == nil {
			l.push(chat.Frame{Type: wire.FramePong, Body: body})
		}
	case wire.FramePong: // mostly, being heard is all it is for
		if m, err := wire.ParsePing(body); err == nil {
			h.pong(now, device, m.Nonce)
		}
	case wire.FrameToken:
		h.peerToken(now, l, body)
	case wire.FrameNewCRL:
		if m, err := wire.ParseNewCRL(body); err == nil {
			h.listOffered(l, m.Number)
		}
	default:
		h.core.HandleFrame(now, device, typ, body)
	}
}

// dropLink takes the link of a contact out of use.
func (h *Host) dropLink(now time.Time, c *contact, code quic.ApplicationErrorCode) {
	l := c.link
	if l == nil {
		return
	}
	c.link = nil
	h.links--
	l.close(code, "")
	h.discovery.Unlinked(c.device)
	h.core.LinkDown(now, c.device)
	c.next = now // dial again at once, if it is still there
}

// gone says that a device is no longer there.
func (h *Host) gone(now time.Time, device wire.DeviceID, state, cause string) {
	c := h.contact(device)
	c.alive = false
	via := h.via(c)
	if c.link != nil {
		h.dropLink(now, c, link.CloseIdle)
	}
	h.core.HandlePresence(now, device, state, cause, via)
	h.forget(c)
}

// forget drops a contact that nothing is going on with: whoever can send a
// packet can make one.
func (h *Host) forget(c *contact) {
	if c.link == nil && !c.dialing && !c.alive {
		delete(h.contacts, c.device)
		h.met.Store(int64(len(h.contacts)))
	}
}

func (h *Host) contact(device wire.DeviceID) *contact {
	c := h.contacts[device]
	if c == nil {
		c = &contact{device: device}
		h.contacts[device] = c
		h.met.Store(int64(len(h.contacts)))
	}
	return c
}

// via returns the ways a device is reached: those it was heard by, and the
// link if there is one.
func (h *Host) via(c *contact) []string {
	via := append([]string{}, c.via...)
	if c.link != nil && !slices.Contains(via, "quic") {
		via = append(via, "quic")
	}
	return via
}

// dialDue dials every device that is there, has no link and whose time has
// come, and returns when to look again; zero: no need. Those that anybody may
// have made up wait for each other, and for their addresses; see targets.
func (h *Host) dialDue(ctx context.Context, now time.Time) (again time.Time) {
	strangers := 0
	for _, c := range h.contacts {
		if c.dialing && !h.isKnown(c) {
			strangers++
		}
	}
	for _, c := range h.contacts {
		if !c.alive || c.link != nil || c.dialing || len(c.addrs) == 0 {
			continue
		}
		if now.Before(c.next) {
			if again.IsZero() || c.next.Before(again) {
				again = c.next
			}
			continue
		}
		addrs := append([]netip.AddrPort{}, c.addrs...)
		known := h.isKnown(c)
		if !known {
			if strangers >= maxStrangers {
				continue // one of those that are dialled ends, and then it is looked at again
			}
			if addrs = h.targets.choose(now, addrs); len(addrs) == 0 {
				c.next = now.Add(redialFirst)
				again = earlier(again, c.next)
				continue
			}
			strangers++
		}
		c.dialing = true
		go func() {
			conn, token, err := h.dial(ctx, addrs, c.device)
			var answered netip.Addr
			if err == nil {
				answered = conn.RemoteAddr().(*net.UDPAddr).AddrPort().Addr()
			}
			h.post(func(now time.Time) {
				if !known {
					h.targets.done(now, addrs, answered)
				}
				c.dialing = false
				c.tries++
				c.next = now.Add(min(redialFirst<<min(c.tries, 10), redialMost))
				if err != nil && c.tries >= awayAfter && c.alive && c.link == nil && (c.heard || slices.Contains(c.via, presence.Authd.String())) {
					h.core.HandleAway(now, c.device, h.via(c))
				}
				h.forget(c)
			})
			if err != nil {
				h.log.Debug("dialling a peer", "device", c.device, "err", err)
				if wrong, ok := errors.AsType[*realm.TimeError](err); ok {
					h.post(func(now time.Time) { h.notAdmitted(now, c, wrong) })
				}
				return
			}
			h.establish(ctx, conn, token, true)
		}()
	}
	return again
}

// dialPeers dials the addresses the person gave, of devices that are not known
// yet, until each has led to a link.
func (h *Host) dialPeers(ctx context.Context) {
	for _, addr := range h.cfg.Peers {
		go func() {
			for {
				conn, token, err := h.dialNamed(ctx, addr)
				if err == nil {
					h.establish(ctx, conn, token, true)
					<-conn.Context().Done()
				} else {
					h.log.Debug("dialling a peer", "addr", addr, "err", err)
				}
				select {
				case <-time.After(peerEvery):
				case <-ctx.Done():
					return
				}
			}
		}()
	}
}

// dialNamed connects to whichever device is at HOST:PORT. A name is looked up
// each time: another network may know it, or know better.
func (h *Host) dialNamed(ctx context.Context, addr string) (conn *quic.Conn, token *realm.Token, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	name, number, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the address: %w", err)
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the port: %w", err)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, nil, fmt.Errorf("looking up the name: %w", err)
	}
	for _, ip := range ips {
		conn, token, err = link.DialAny(ctx, h.transport, netip.AddrPortFrom(ip.Unmap(), uint16(port)), h.cfg.Profile.Identity, h.cfg.Profile.Verifier(), h.now)
		if err == nil {
			break
		}
	}
	return conn, token, err
}

// dial connects to the device at whichever of its addresses answers first,
// trying them one after another without waiting for the last to fail.
func (h *Host) dial(ctx context.Context, addrs []netip.AddrPort, device wire.DeviceID) (*quic.Conn, *realm.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	type result struct {
		conn  *quic.Conn
		token *realm.Token
		err   error
	}
	results := make(chan result)
	for i, addr := range addrs {
		go func() {
			var r result
			select {
			case <-time.After(time.Duration(i) * stagger):
				r.conn, r.token, r.err = link.DialPeer(ctx, h.transport, addr, h.cfg.Profile.Identity, h.cfg.Profile.Verifier(), h.now, device)
			case <-ctx.Done():
				r.err = ctx.Err()
			}
			results <- r
		}()
	}
	var won result
	for range addrs {
		r := <-results
		switch {
		case r.err != nil && won.conn == nil:
			won.err = r.err
		case r.err == nil && won.conn == nil:
			won = r
			cancel() // the others
		case r.err == nil:
			r.conn.CloseWithError(link.CloseReplaced, "")
		}
	}
	return won.conn, won.token, won.err
}
