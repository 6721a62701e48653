// Package doctor judges a network: from what was observed it concludes what is
// wrong, says how it came to that, and what to do about it.
//
// It observes nothing itself, but for the machine's settings that System
// reads: node's checkup opens sockets, asks authd and hands the Facts to
// Judge. Start there.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The checks, in the order they are told.
const (
	Interfaces = "interfaces"
	Multicast  = "multicast"
	MDNS       = "mdns"
	Authd      = "authd"
	Peers      = "peers"
	Clock      = "clock"
	Keys       = "keys"
)

// A Finding is the outcome of a check: one that is OK, or one problem.
type Finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Cause string `json:"cause"` // what was found, and how that was concluded
	Fix   string `json:"fix"`   // what to do; "" if nothing
}

// Facts are what was observed.
type Facts struct {
	Interfaces []Interface
	Named      []string // what --iface named
	PortTaken  uint16   // what --port named and somebody else has, 0: nothing
	Shared     bool     // a node runs on this data directory; it told of Peers
	AuthdNamed string   // what --authd named, "" if nothing

	Authds []AuthdFact
	Pinned string        // name of the realm that is trusted, "" if none is yet
	Ahead  time.Duration // of this machine's clock before authd's; 0: unknown
	Others []Other       // other devices of the realm, heard or heard of

	Key   error     // why the key files can't be used; nil: they can
	User  string    // whose token there is, "" if there is none
	Until time.Time // its end

	System System
}

// An Interface is a network interface and what happened on it.
type Interface struct {
	Name     string
	Reason   string // why it is not used; "": it is
	Prefixes []netip.Prefix
	Loopback bool
	Groups   []GroupFact // the realm's group, by family
	MDNS     error       // asking failed
	Route    string      // another interface, by which packets for its network leave
}

// A GroupFact is what happened in the group on one interface in one family.
type GroupFact struct {
	Family string // "IPv4", "IPv6"
	Err    error  // it could not be joined or sent to
	Back   bool   // one's own packet came back
	Heard  int    // devices heard, without this one

	// Foreign is where those sent from who have no address in a network of the
	// interface's: they are on the same wire and can't be dialled.
	Foreign []netip.Addr
}

// ErrPort says that a port is another program's.
var ErrPort = errors.New("another program has the port")

// The ports that programs share.
const (
	mdnsPort  = 5353
	groupPort = 4748
)

// portCure says what to do about a port that another program has.
func portCure(port int) string {
	return fmt.Sprintf("see which program has it and does not share it, and end that: ss -ulpn sport = %d", port)
}

// back reports whether something came back, in whichever family.
func (i *Interface) back() bool {
	return slices.ContainsFunc(i.Groups, func(g GroupFact) bool { return g.Back })
}

// An AuthdFact is an authd that is there, or is said to be.
type AuthdFact struct {
	Addr  netip.AddrPort
	Via   []string // "multicast", "mdns", "remembered", "named", "this machine"
	Realm string   // what it calls its realm; "": no answer
	Err   error    // why it can't be used; nil: it can
	RTT   time.Duration
}

// silent reports whether the authd gave no answer, rather than a bad one.
func (a *AuthdFact) silent() bool { return a.Err != nil && a.Realm == "" }

// An Other is a device of the realm.
type Other struct {
	Name    string   // of its user, or "device …"
	Heard   bool     // by multicast, here
	Authd   bool     // authd told of it
	Reached bool     // by QUIC
	Tried   bool     // to be reached
	OnLink  bool     // an address of it is in a network of this machine's
	HearsUs bool     // by multicast; as far as known
	Anew    bool     // the node that runs did not hear it, and since it joined the group anew it is heard
	Via     []string // ways it is heard of, as /net names them
	RTT     time.Duration
	Lost    float64 // per cent of the packets to it
}

// maxClockError is how wrong a clock may be before it is worth a word.
const maxClockError = 2 * time.Minute

// Judge concludes: at least one finding for each check, in their order.
func Judge(f *Facts, now time.Time) []Finding {
	var out []Finding
	for _, check := range []struct {
		name  string
		judge func(*report, *Facts, time.Time)
	}{
		{Interfaces, judgeInterfaces}, {Multicast, judgeMulticast}, {MDNS, judgeMDNS}, {Authd, judgeAuthd},
		{Peers, judgePeers}, {Clock, judgeClock}, {Keys, judgeKeys},
	} {
		r := &report{check: check.name}
		check.judge(r, f, now)
		out = append(out, r.findings...)
	}
	return out
}

// Well reports whether nothing is wrong.
func Well(findings []Finding) bool {
	return !slices.ContainsFunc(findings, func(f Finding) bool { return !f.OK })
}

// A report collects the findings of one check.
type report struct {
	check    string
	findings []Finding
}

func (r *report) ok(fix, cause string, args ...any) {
	r.findings = append(r.findings, Finding{r.check, true, fmt.Sprintf(cause, args...), fix})
}

func (r *report) bad(fix, cause string, args ...any) {
	r.findings = append(r.findings, Finding{r.check, false, fmt.Sprintf(cause, args...), fix})
}

func (f *Facts) used() (used []Interface) {
	for _, i := range f.Interfaces {
		if i.Reason == "" {
			used = append(used, i)
		}
	}
	return used
}

func judgeInterfaces(r *report, f *Facts, _ time.Time) {
	var used, unused []string
	lan := false
	for _, i := range f.Interfaces {
		if i.Reason != "" {
			unused = append(unused, i.Name+" is not used: "+i.Reason)
			continue
		}
		lan = lan || !i.Loopback
		used = append(used, i.Name+" ("+prefixes(i.Prefixes)+")")
		if i.Route != "" {
			r.bad("end the VPN, or allow local networks in its settings (often called split tunnelling or LAN access)",
				"packets for the network of %s leave by %s: a VPN has taken its route", i.Name, i.Route)
		}
	}
	for _, i := range f.used() {
		var from []string
		for _, g := range i.Groups {
			for _, a := range g.Foreign {
				from = append(from, a.String())
			}
		}
		if len(from) > 0 {
			r.bad("give "+i.Name+" an address in their network: by DHCP, or by hand with the same mask as theirs",
				"%s has %s, and others on the same wire are heard from %s, which is no network of it: the address or the mask is wrong, here or there. Neither side can answer the other", i.Name, prefixes(i.Prefixes), people(from))
		}
	}
	for _, name := range f.Named {
		if !slices.ContainsFunc(f.Interfaces, func(i Interface) bool { return i.Name == name && i.Reason == "" }) {
			r.bad("name one that is up and has an address: ip -brief address lists them", "--iface %s can't be used", name)
		}
	}
	if f.PortTaken != 0 && !f.Shared {
		r.bad("find who has it: ss -ulpn sport = "+fmt.Sprint(f.PortTaken)+"; or name another --port", "UDP port %d is in use by another program, so node can't start with it", f.PortTaken)
	}
	all := strings.Join(append(used, unused...), "; ")
	switch {
	case len(used) == 0:
		r.bad(cureInterfaces(f), "no network interface can be used: %s%s", cmp.Or(all, "there is none"), f.System.hint())
	case !lan && len(f.Named) == 0:
		r.bad(cureInterfaces(f), "there is no LAN, only this machine itself: %s%s", all, f.System.hint())
	case len(r.findings) == 0:
		r.ok("", "%s", all)
	}
}

func prefixes(list []netip.Prefix) string {
	var out []string
	for _, p := range list {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}

// cureInterfaces says how an interface that is not used could be.
func cureInterfaces(f *Facts) string {
	for _, i := range f.Interfaces {
		switch {
		case i.Reason == "down" && !i.Loopback:
			return "switch it on: ip link set " + i.Name + " up"
		case i.Reason == "not connected":
			return "plug in the cable of " + i.Name + ", or join a wireless network"
		case i.Reason == "no address":
			return "give " + i.Name + " an address: by DHCP, or ip address add 169.254.7.7/16 dev " + i.Name
		case strings.HasPrefix(i.Reason, "virtual"), i.Reason == "point to point":
			return "if that is the network you want, start with --iface " + i.Name
		}
	}
	return "connect this machine to a network"
}

func judgeMulticast(r *report, f *Facts, _ time.Time) {
	heard := 0
	var tested []string
	for _, i := range f.used() {
		for _, g := range i.Groups {
			heard += g.Heard
			tested = append(tested, fmt.Sprintf("%s %s: own packets come back, heard from %d more", i.Name, g.Family, g.Heard))
			switch {
			case i.Loopback && i.back(): // one family does, within a machine
			case errors.Is(g.Err, ErrPort):
				r.bad(portCure(groupPort), "the group on %s can't be used by %s: %v", i.Name, g.Family, g.Err)
			case g.Err != nil:
				r.bad("look for a firewall or a sandbox on this machine that keeps programs from multicast; "+f.System.openPorts(),
					"the group on %s can't be used by %s: %v", i.Name, g.Family, g.Err)
			case !g.Back:
				r.bad(f.System.openPorts(), "what this machine says to the group on %s by %s does not even come back to itself: a firewall on this machine is in the way", i.Name, g.Family)
			}
		}
	}
	if len(tested) == 0 {
		r.bad("mend the interfaces first", "nothing to test: no interface is used")
		return
	}
	if len(r.findings) > 0 {
		return
	}
	// Somebody who is reached, on the same network, and is not heard.
	var deaf, unheard, forgotten []string
	for _, o := range f.Others {
		switch {
		case o.Anew && !o.Heard:
			forgotten = append(forgotten, o.Name)
		case o.Reached && o.OnLink && !o.Heard:
			unheard = append(unheard, o.Name)
		}
		if o.Reached && o.Heard && !o.HearsUs {
			deaf = append(deaf, o.Name)
		}
	}
	switch {
	case len(forgotten) > 0:
		r.bad("switch on an IGMP querier (and an MLD one) at the switch or the router, or IGMP snooping off. The node joins anew every two minutes meanwhile",
			"the node that runs here did not hear %s until it joined the group anew, just now, and they are heard since: the switch has forgotten who is in the group. It snoops on IGMP, and nobody asks from time to time who is in which group",
			people(forgotten))
		return
	case len(unheard) > 0 && heard == 0:
		r.bad(f.System.openPorts()+"; else have the access point or switch pass multicast: no client or AP isolation, and IGMP snooping only with a querier",
			"%s can be reached and nobody is heard by multicast, though own packets come back: what others send to the group does not arrive, because of a firewall here, or a network that passes no multicast%s. Chats work over connections meanwhile",
			people(unheard), f.System.hint())
		return
	case len(unheard) > 0:
		r.bad("look at the firewall and the network of those machines: node doctor there",
			"%s can be reached, others are heard by multicast, and they are not. Their chats come over connections meanwhile", people(unheard))
		return
	case len(deaf) > 0:
		r.bad("run node doctor there; if nobody hears this machine, its own outgoing multicast is blocked: "+f.System.openPorts(),
			"%s do not hear this machine by multicast, while it hears them: one direction is shut", people(deaf))
		return
	}
	r.ok(f.System.bufferFix(), "%s%s", strings.Join(tested, "; "), f.System.bufferNote())
}

func judgeMDNS(r *report, f *Facts, _ time.Time) {
	for _, i := range f.used() {
		if i.MDNS != nil {
			cure := f.System.openPorts()
			if errors.Is(i.MDNS, ErrPort) {
				cure = portCure(mdnsPort)
			}
			r.bad(cure, "mDNS does not work on %s: %v", i.Name, i.MDNS)
		}
	}
	var by, otherwise []string
	for _, a := range f.Authds {
		switch {
		case slices.Contains(a.Via, "mdns"):
			by = append(by, a.Addr.String())
		case slices.Contains(a.Via, "multicast") && !a.Addr.Addr().IsLoopback(): // there is no mDNS on that
			otherwise = append(otherwise, a.Addr.String())
		}
	}
	switch {
	case len(r.findings) > 0:
	case f.AuthdNamed != "":
		r.ok("", "nothing was asked, as authd is named: %s", f.AuthdNamed)
	case len(by) > 0:
		r.ok("", "authd answers at %s", strings.Join(by, ", "))
	case len(otherwise) > 0:
		r.bad(f.System.openPorts()+"; presence by multicast does the same work meanwhile",
			"authd is heard at %s and answers no mDNS question: UDP port 5353 is blocked here or there, or it runs with --no-mdns", strings.Join(otherwise, ", "))
	default:
		r.ok("", "questions go out; no authd answers, and none is heard otherwise, so that says nothing about mDNS")
	}
}

func judgeAuthd(r *report, f *Facts, _ time.Time) {
	var silent, slow, wrong []string
	lan := slices.ContainsFunc(f.used(), func(i Interface) bool { return !i.Loopback })
	for i := range f.Authds {
		a := &f.Authds[i]
		switch {
		case a.Err == nil:
			r.ok("", "the authd of %s answers at %v after %v (known by %s)", a.Realm, a.Addr, a.RTT.Round(10*time.Microsecond), strings.Join(a.Via, ", "))
			return
		case a.silent() && !slices.Equal(a.Via, []string{"this machine"}):
			silent = append(silent, fmt.Sprintf("%v (known by %s)", a.Addr, strings.Join(a.Via, ", ")))
		case !a.silent() && errors.Is(a.Err, context.DeadlineExceeded):
			slow = append(slow, a.Addr.String())
		case !a.silent():
			wrong = append(wrong, fmt.Sprintf("%v: %v", a.Addr, a.Err))
		}
	}
	switch {
	case len(wrong) > 0:
		r.bad("compare fingerprints with whoever runs authd; node trust list shows what is trusted here, node trust replace CODE changes it",
			"an authd answers and can't be used: %s", strings.Join(wrong, "; "))
	case len(slow) > 0:
		r.bad("look for what loses packets: a weak wireless signal, a bad cable, a network that is full. What can be said without authd goes on",
			"authd answers at %s, and not in time for a conversation: many packets are lost on the way, or it has too much to do", strings.Join(slow, ", "))
	case len(silent) > 0 && !lan:
		r.bad("mend the interfaces first", "authd should be at %s and does not answer: there is no network to reach it by", strings.Join(silent, ", "))
	case len(silent) > 0:
		r.bad("see that authd runs there, and that its machine's firewall lets UDP port 4747 in; "+f.System.openPorts(),
			"authd should be at %s and does not answer: it is off, or UDP between here and there is blocked%s", strings.Join(silent, ", "), f.System.hint())
	case f.AuthdNamed != "":
		r.bad("check the address; authd prints its own when it starts", "no authd answers at %s", f.AuthdNamed)
	default:
		what := "no authd was found"
		if f.Pinned != "" {
			what = "the authd of " + f.Pinned + " was not found"
		}
		r.bad("start authd on one machine of this network (or node --host here); if it is on another network, name it with --authd HOST:PORT. Who has a token chats without it",
			"%s: no answer by mDNS, nothing heard by multicast, nothing on this machine%s", what, f.System.hint())
	}
}

// mostPeers is how many are described each.
const mostPeers = 50

func judgePeers(r *report, f *Facts, _ time.Time) {
	var well, shut, elsewhere, gone []string
	for _, o := range f.Others {
		how := o.Name
		if len(o.Via) > 0 {
			how += " by " + strings.Join(o.Via, ", ") + ":"
		}
		switch {
		case o.Reached:
			if o.RTT > 0 {
				how += " " + o.RTT.Round(10*time.Microsecond).String()
			}
			if o.Lost >= 1 {
				how += fmt.Sprintf(", %.0f %% lost", o.Lost)
			}
			well = append(well, how)
		case o.Heard && o.Tried && !o.OnLink:
			elsewhere = append(elsewhere, o.Name)
		case o.Heard && o.Tried:
			shut = append(shut, o.Name)
		case o.Tried:
			gone = append(gone, o.Name)
		default:
			well = append(well, how+" (heard)")
		}
	}
	if len(shut) > 0 {
		r.bad("switch off client or AP isolation on the access point, or open the nodes' UDP ports: start them with --port 4749; "+f.System.openPorts(),
			"%s are heard by multicast and can't be reached directly: the network or a firewall keeps its machines from talking to each other: multicast from there passes, unicast does not. What is said in rooms is heard, and reliable direct messages go by way of authd; fast ones do not go", people(shut))
	}
	if len(elsewhere) > 0 {
		r.bad("see that the addresses of this machine and of theirs are of one network; what interfaces says above",
			"%s are heard by multicast and have no address in a network of this machine's, so they can't be reached directly. What is said in rooms is heard", people(elsewhere))
	}
	if len(gone) > 0 {
		r.bad("run node doctor there; on another network, --peer HOST:PORT names them; on the same, see the network's isolation and both firewalls: "+f.System.openPorts(),
			"authd, or a peer, says that %s are connected; they are not heard and can't be reached from here%s", people(gone), f.System.hint())
	}
	switch {
	case len(r.findings) > 0:
	case len(well) > mostPeers:
		r.ok("", "%s; and %d others", strings.Join(well[:mostPeers], "; "), len(well)-mostPeers)
	case len(well) > 0:
		r.ok("", "%s", strings.Join(well, "; "))
	case f.User == "":
		r.ok("", "not looked for: this device is not logged in yet")
	default:
		r.ok("", "nobody else is heard, and authd knows of nobody else")
	}
}

func judgeClock(r *report, f *Facts, _ time.Time) {
	switch {
	case f.Ahead == 0 && slices.ContainsFunc(f.Authds, func(a AuthdFact) bool { return a.Err == nil }):
		r.ok("", "not compared yet: start node, which learns the time from the authd that answers once it trusts it")
	case f.Ahead == 0:
		r.ok("", "nothing to compare with: no authd has answered")
	case f.Ahead.Abs() <= maxClockError:
		r.ok("", "right to within %v of authd's", f.Ahead.Abs().Round(time.Millisecond))
	case f.Ahead > 0:
		r.bad("set it: timedatectl set-ntp true, or date -s; if it is authd's that is wrong, set that one", "this machine's clock is %v ahead of authd's", f.Ahead.Round(time.Second))
	default:
		r.bad("set it: timedatectl set-ntp true, or date -s; if it is authd's that is wrong, set that one", "this machine's clock is %v behind authd's", -f.Ahead.Round(time.Second))
	}
}

func judgeKeys(r *report, f *Facts, now time.Time) {
	switch {
	case f.Key != nil:
		r.bad("do as it says, then start node again", "%v", f.Key)
	case f.User == "":
		r.ok("", "in order; this device is not logged in yet: start node")
	case now.After(f.Until):
		r.bad("start node where authd can be reached: the device's key alone renews it for 90 days", "the token of %s ended on %s", f.User, f.Until.Format("2006-01-02 15:04"))
	default:
		r.ok("", "the token of %s is good until %s", f.User, f.Until.Format("2006-01-02 15:04"))
	}
}

// people joins names, not too many of them.
func people(names []string) string {
	const most = 5
	if n := len(names) - most; n > 1 {
		return fmt.Sprintf("%s and %d others", strings.Join(names[:most], ", "), n)
	}
	return strings.Join(names, ", ")
}
