//go:build linux

package emu

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// A lan is one Ethernet switch. It learns who is where; what is for a group, or for
// somebody it has not heard of, goes to every port.
type lan struct {
	lab    *Lab
	number int
	ports  atomic.Pointer[[]*Port]
	macs   atomic.Pointer[map[mac]*Port]

	mu sync.Mutex // held to replace what the pointers point to, which does not change
}

type mac [6]byte

func newLAN(lab *Lab, number int) *lan {
	l := &lan{lab: lab, number: number}
	l.ports.Store(new([]*Port))
	l.macs.Store(new(map[mac]*Port))
	return l
}

func (l *lan) add(p *Port) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ports := append(slices.Clone(*l.ports.Load()), p)
	l.ports.Store(&ports)
}

func (l *lan) remove(p *Port) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ports := slices.DeleteFunc(slices.Clone(*l.ports.Load()), func(o *Port) bool { return o == p })
	l.ports.Store(&ports)
	macs := maps.Clone(*l.macs.Load())
	maps.DeleteFunc(macs, func(_ mac, o *Port) bool { return o == p })
	l.macs.Store(&macs)
}

// learn notes that addr is behind p.
func (l *lan) learn(addr mac, p *Port) {
	if (*l.macs.Load())[addr] == p || addr[0]&1 != 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	macs := maps.Clone(*l.macs.Load())
	if macs == nil || len(macs) >= 4096 { // as of a switch whose table is full of inventions
		macs = make(map[mac]*Port)
	}
	macs[addr] = p
	l.macs.Store(&macs)
}

// forward takes a frame that p's host sent. The frame is not kept.
func (l *lan) forward(from *Port, frame []byte) {
	if len(frame) < 14 {
		return
	}
	from.sent.add(frame)
	l.lab.show(from, frame)
	l.learn(mac(frame[6:12]), from)
	if from.link.Load().swallows(frame) {
		from.blocked.Add(1)
		return
	}
	if link := from.link.Load(); link.Forgot && isIGMP(frame) {
		remembers := *link
		remembers.Forgot = false
		from.link.CompareAndSwap(link, &remembers)
	}
	if to := (*l.macs.Load())[mac(frame[:6])]; to != nil {
		if to != from {
			to.receive(from, frame)
		}
		return
	}
	for _, to := range *l.ports.Load() {
		if to != from {
			to.receive(from, frame)
		}
	}
}

// isMulticast reports whether frame is one that a network without multicast swallows:
// an IPv4 packet to 224.0.0.0/4 or an IPv6 packet to ff00::/8. ICMPv6 neighbour
// discovery (types 133 to 137) is not, since unicast would die without; nor are
// broadcasts, of which ARP is one.
func isMulticast(frame []byte) bool {
	const ethernet, ipv6 = 14, 40
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		return len(frame) >= ethernet+20 && frame[ethernet+16]>>4 == 0xe
	case 0x86dd:
		if len(frame) < ethernet+ipv6 || frame[ethernet+24] != 0xff {
			return false
		}
		discovery := len(frame) > ethernet+ipv6 && frame[ethernet+6] == 58 &&
			133 <= frame[ethernet+ipv6] && frame[ethernet+ipv6] <= 137
		return !discovery
	}
	return false
}

// isIGMP reports whether frame is of IGMP: a host sends only reports of the groups
// that it joins and leaves.
func isIGMP(frame []byte) bool {
	const ethernet, igmp = 14, 2
	return binary.BigEndian.Uint16(frame[12:]) == 0x0800 && len(frame) >= ethernet+20 && frame[ethernet+9] == igmp
}

// isMDNS reports whether frame is UDP from or to port 5353, by IPv4 or IPv6.
func isMDNS(frame []byte) bool {
	const ethernet, ipv6, udp, port = 14, 40, 17, 5353
	at := 0
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		if len(frame) >= ethernet+20 && frame[ethernet+9] == udp {
			at = ethernet + int(frame[ethernet]&15)*4
		}
	case 0x86dd:
		if len(frame) >= ethernet+ipv6 && frame[ethernet+6] == udp {
			at = ethernet + ipv6
		}
	}
	return at > 0 && len(frame) >= at+4 &&
		(binary.BigEndian.Uint16(frame[at:]) == port || binary.BigEndian.Uint16(frame[at+2:]) == port)
}
