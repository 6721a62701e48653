package chat

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lanchat/wire"
	"lanchat/wire/clean"
)

// What the host knows of the network and the core does not, for people who
// want to know why somebody is there or is not.

// A Survey asks the host how the network looks from here; it answers by
// HandleSurvey.
type Survey struct{ then func(Network) }

// A PingDevice has the host ping a device over its link; it answers by
// HandlePong, unless the device does not.
type PingDevice struct {
	To  wire.DeviceID
	ref string
}

func (Survey) send()     {}
func (PingDevice) send() {}

// A Network is what a Survey found.
type Network struct {
	Interfaces []NetInterface
	Peers      []NetPeer
}

// A NetInterface is a network interface and what is done with it.
type NetInterface struct {
	Name   string   `json:"name"`
	Used   bool     `json:"used"`
	Reason string   `json:"reason"` // why it is not used, "" if it is
	Addrs  []string `json:"addrs"`
}

// A NetPeer is a device as the network shows it.
type NetPeer struct {
	Device wire.DeviceID
	Authd  bool     // it is an authd
	Here   bool     // heard itself, not only of
	Via    []string // by which ways, or of it
	Addrs  []string // candidates, the best first
	Link   *NetLink // nil: none
}

// A NetLink is a QUIC connection with a device.
type NetLink struct {
	Addr  string
	Since time.Time
	RTT   time.Duration
	Sent  uint64 // packets
	Lost  uint64 // of them
}

// HandleSurvey takes the answer to a Survey.
func (c *Core) HandleSurvey(q Survey, n Network) {
	c.awaited--
	q.then(n)
}

// pingWait is how long a device may take to answer a ping.
const pingWait = 3 * time.Second

func (c *Core) doPing(k *call) {
	p := c.mustFindPerson(k.args[0], k.ref)
	if p == nil {
		return
	}
	linked := p.linked()
	if len(linked) == 0 {
		c.refuse(k.ref, "unreachable", "there is no connection with %s: /net and node doctor say what is known", p.name)
		return
	}
	for _, d := range linked {
		c.pinged[d.id] = k.ref
		c.send(PingDevice{To: d.id, ref: k.ref})
		c.after(k.now, pingWait, func(time.Time) {
			if ref, waiting := c.pinged[d.id]; waiting && ref == k.ref {
				delete(c.pinged, d.id)
				c.refuse(k.ref, "unreachable", "%s does not answer: the connection is there, and nothing came back within %v", p.name, pingWait)
			}
		})
	}
}

// HandlePong takes the answer to a PingDevice.
func (c *Core) HandlePong(q PingDevice, n NetPeer, rtt time.Duration) {
	d := c.people.devices[q.To]
	if ref, waiting := c.pinged[q.To]; !waiting || ref != q.ref || d == nil {
		return
	}
	delete(c.pinged, q.To)
	c.show(Notice{Code: "ping", Ref: q.ref, Data: map[string]any{"user": d.person.name, "device": d.id.String(), "ms": milliseconds(rtt), "via": n.Via},
		Text: fmt.Sprintf("%s answers after %s (device %s, heard by %s)", d.person.name, rounded(rtt), d.id, strings.Join(n.Via, ", "))})
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// rounded words a round trip: "2.81 ms", "45 ms".
func rounded(d time.Duration) string {
	digits := 2
	if d >= 10*time.Millisecond {
		digits = 0
	}
	return strconv.FormatFloat(milliseconds(d), 'f', digits, 64) + " ms"
}

// maxStrangersShown is how many devices are listed of which nothing but an id is
// known.
const maxStrangersShown = 8

func (c *Core) doNet(k *call) { c.lookUp(Survey{func(n Network) { c.showNetwork(k, n) }}) }

// showNetwork shows what /net is about: the interfaces, authd, and by which
// way everybody is heard.
func (c *Core) showNetwork(k *call, n Network) {
	type peer struct {
		User   string   `json:"user"`
		Device string   `json:"device"`
		State  string   `json:"state"` // "online", "authd", "unlinked", "heard of"
		Via    []string `json:"via"`
		Addr   string   `json:"addr"`
		RTT    float64  `json:"rtt_ms"`
		Sent   uint64   `json:"sent"`
		Lost   uint64   `json:"lost"`
		Mirror string   `json:"mirror"` // "to": our room packets go over the link; "from": theirs come over it
	}
	var lines []string
	for _, i := range n.Interfaces {
		if i.Used {
			lines = append(lines, fmt.Sprintf("%-10s used: %s", clean.Line(i.Name, 32), strings.Join(i.Addrs, ", ")))
		} else {
			lines = append(lines, fmt.Sprintf("%-10s not used: %s", clean.Line(i.Name, 32), i.Reason))
		}
	}
	if c.authd.State != "" {
		lines = append(lines, fmt.Sprintf("%-10s %s, %s", "authd", c.authd.State, cmp.Or(c.authd.Addr, "nowhere known")))
	}
	peers, strangers := []peer{}, 0
	for _, p := range n.Peers {
		if p.Authd {
			continue
		}
		v := peer{Device: p.Device.String(), Via: p.Via, State: "heard of", User: ""}
		dev := c.people.devices[p.Device]
		if dev != nil {
			v.User = dev.person.name
		}
		if dev == nil && p.Link == nil {
			if strangers++; strangers > maxStrangersShown {
				continue
			}
		}
		if len(p.Addrs) > 0 {
			v.Addr = p.Addrs[0]
		}
		line := fmt.Sprintf("%-10s by %s", cmp.Or(v.User, "device "+v.Device), strings.Join(p.Via, ", "))
		switch {
		case p.Link != nil:
			v.State, v.Addr, v.RTT, v.Sent, v.Lost = "online", p.Link.Addr, milliseconds(p.Link.RTT), p.Link.Sent, p.Link.Lost
			line += fmt.Sprintf("; connected with %s, round trip %s, lost %s", v.Addr, rounded(p.Link.RTT), percent(v.Lost, v.Sent))
			if !slices.Contains(p.Via, "multicast") {
				v.Mirror = "from"
				line += "; not heard by multicast, so rooms come over the connection"
			}
		case p.Here:
			v.State = "unlinked"
			line += fmt.Sprintf("; no connection with %s", cmp.Or(strings.Join(p.Addrs, ", "), "any address"))
		default:
			line += fmt.Sprintf("; not heard itself, tried at %s", cmp.Or(strings.Join(p.Addrs, ", "), "no address"))
		}
		if dev != nil && !c.mirrors[dev].IsZero() {
			v.Mirror = strings.TrimPrefix(v.Mirror+" and to", " and ")
			line += "; does not hear our multicast"
		}
		peers, lines = append(peers, v), append(lines, line)
	}
	if more := strangers - maxStrangersShown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more devices of which nothing is known: anybody can make them up", more))
	}
	if len(peers) == 0 {
		lines = append(lines, c.whyNobody(n))
	}
	s := c.stats
	lines = append(lines, fmt.Sprintf("dropped    %d malformed, %d of unknown rooms, %d replayed, %d not allowed", s.Malformed, s.UnknownKey, s.Replayed, s.Forbidden))
	c.show(Notice{Code: "net", Text: strings.Join(lines, "\n"), Ref: k.ref, Data: map[string]any{
		"interfaces": n.Interfaces, "authd": c.authd, "peers": peers,
		"dropped": map[string]uint64{"malformed": s.Malformed, "unknown_key": s.UnknownKey, "replayed": s.Replayed, "forbidden": s.Forbidden, "duplicates": s.Duplicates},
	}})
}

func percent(part, of uint64) string {
	return fmt.Sprintf("%.1f %%", share(part, of))
}

// whyNobody says why nobody else is to be seen.
func (c *Core) whyNobody(n Network) string {
	var used, unused []string
	for _, i := range n.Interfaces {
		if i.Used {
			used = append(used, clean.Line(i.Name, 32))
		} else {
			unused = append(unused, clean.Line(i.Name, 32)+" is "+i.Reason)
		}
	}
	heardOf := 0
	for _, p := range n.Peers {
		if !p.Authd {
			heardOf++
		}
	}
	switch {
	case len(used) == 0 && len(unused) == 0:
		return "nobody else is here: this machine has no network"
	case len(used) == 0:
		return "nobody else is here: no network can be used (" + strings.Join(unused, "; ") + ")"
	case heardOf > 0:
		return fmt.Sprintf("nobody else is here, and who is known of (%d) cannot be reached; node doctor says why", heardOf)
	case c.authd.State != "up":
		return "nobody else is here: nobody was heard on " + strings.Join(used, ", ") + ", and authd, which would know of others, is not found; node doctor looks closer"
	}
	return "nobody else is here: nobody was heard on " + strings.Join(used, ", ") + ", and authd knows of nobody else who is connected"
}
