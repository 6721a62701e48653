package host

import (
	"context"
	"crypto/ed25519"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/wire"
)

// packets is the way of room packets to the loop, in the order they came. Those
// that pile up are opened and verified by workers meanwhile, on as many cores as
// there are; the loop opens one that it has come to first itself, so that a
// single packet waits for nobody.
//
//	sockets ──► order ─────────────────► loop
//	              └──► jobs ──► workers ──┘
type packets struct {
	order   chan *job
	jobs    chan *job
	reader  atomic.Pointer[chat.Reader]
	dropped atomic.Uint64 // for which there was no room
}

// A job is a room packet on its way.
type job struct {
	raw   []byte
	from  netip.AddrPort
	group bool // it came by multicast

	claimed atomic.Bool // somebody reads it
	done    chan struct{}
	packet  *chat.Packet // once done is closed
}

// maxPackets is how many packets may wait for the loop; the sockets' buffers
// come on top.
const maxPackets = 4096

func newPackets() *packets {
	return &packets{order: make(chan *job, maxPackets), jobs: make(chan *job, maxPackets)}
}

// offer takes a packet that came, unless there are too many: they may be lost.
func (p *packets) offer(raw []byte, from netip.AddrPort, group bool) {
	j := &job{raw: raw, from: from, group: group, done: make(chan struct{})}
	select {
	case p.order <- j:
	default:
		p.dropped.Add(1)
		return
	}
	if len(p.order) > 1 {
		select {
		case p.jobs <- j:
		default: // the loop reads it
		}
	}
}

// work reads packets until ctx ends.
func (p *packets) work(ctx context.Context) {
	for {
		select {
		case j := <-p.jobs:
			p.read(j)
		case <-ctx.Done():
			return
		}
	}
}

// read reads a packet unless somebody else does.
func (p *packets) read(j *job) {
	if j.claimed.CompareAndSwap(false, true) {
		j.packet = p.reader.Load().Read(time.Now(), j.from, j.raw)
		close(j.done)
	}
}

// take hands the packet to the core.
func (h *Host) take(j *job) {
	h.packets.read(j)
	<-j.done
	if from, ok := j.packet.From(); ok && j.group {
		h.discovery.Heard(from, presence.Multicast)
	}
	h.core.HandleRead(time.Now(), j.packet)
}

// readUnicast takes the room packets that share the socket of QUIC: requests
// for repair, and repairs for one.
func (h *Host) readUnicast(ctx context.Context) {
	buf := make([]byte, wire.MaxPacket+1)
	for {
		n, from, err := h.transport.ReadNonQUICPacket(ctx, buf)
		if err != nil {
			return
		}
		if udp, ok := from.(*net.UDPAddr); ok && n > 0 && buf[0] == wire.PacketType {
			h.packets.offer(append([]byte(nil), buf[:n]...), udp.AddrPort(), false)
		}
	}
}

// unicast sends a packet to the address of a device's link.
func (h *Host) unicast(s chat.Unicast) {
	l := h.linkTo(s.To)
	if l == nil {
		return
	}
	if _, err := h.transport.WriteTo(s.Packet, l.conn.RemoteAddr()); err != nil {
		h.log.Debug("sending to one device", "device", s.To, "err", err)
	}
}

// workers is how many goroutines read packets.
func workers() int { return runtime.GOMAXPROCS(0) }

// checksPerSecond measures how many signatures a core checks.
func checksPerSecond(key ed25519.PrivateKey) float64 {
	const checks = 8
	opts := &ed25519.Options{Context: wire.PacketContext}
	message := make([]byte, 512)
	sig, err := key.Sign(nil, message, opts)
	if err != nil {
		return 0 // cannot fail with a good key
	}
	begin := time.Now()
	for range checks {
		_ = ed25519.VerifyWithOptions(key.Public().(ed25519.PublicKey), message, sig, opts)
	}
	return checks / max(time.Since(begin), time.Microsecond).Seconds()
}
