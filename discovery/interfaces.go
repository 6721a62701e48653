// Package discovery finds others on the LAN and keeps saying that this device
// is there: presence packets by multicast, and mDNS for first contact.
//
// It is the shell around package presence: sockets, interfaces, the clock. It
// believes nothing of what mDNS says (those are hints), holds no connection
// and knows no names of people. Nothing in it uses TCP.
//
// Start reading at [Service]; a program without a realm uses [Browse].
package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"lanchat/discovery/presence"
)

// An Interface is what the system says about a network interface.
type Interface struct {
	Index    int
	Name     string
	Flags    net.Flags
	Prefixes []netip.Prefix // addresses, each with its network's length; no zones
}

// virtual are the prefixes of the names of interfaces that lead to no LAN:
// bridges and cables of containers and virtual machines, and tunnels. What is
// named like one and is a LAN all the same is used by --iface.
var virtual = []struct{ prefix, what string }{
	{"docker", "containers' bridge"},
	{"br-", "containers' bridge"},
	{"podman", "containers' bridge"},
	{"cni", "containers' bridge"},
	{"lxc", "containers' bridge"},
	{"lxdbr", "containers' bridge"},
	{"veth", "container's cable"},
	{"cali", "container's cable"},
	{"flannel", "containers' overlay"},
	{"virbr", "virtual machines' bridge"},
	{"vnet", "virtual machine's cable"},
	{"vmnet", "virtual machines' network"},
	{"vboxnet", "virtual machines' network"},
	{"vEthernet", "virtual machines' network"},
	{"utun", "tunnel"},
	{"tun", "tunnel"},
	{"tap", "tunnel"},
	{"wg", "tunnel"},
	{"tailscale", "tunnel"},
	{"zt", "tunnel"},
	{"awdl", "Apple's own wireless link"},
	{"llw", "Apple's own wireless link"},
	{"anpi", "Apple's own wireless link"},
}

// Usable chooses the interfaces that are LANs. Names in only overrule
// everything but what cannot work: an interface that is down or has no
// address. Loopback is used when it is named, and when there is nothing else,
// so that programs on one machine find each other off-line.
func Usable(all []Interface, only []string) (links []presence.Link, skipped []presence.Skipped) {
	var loopback []presence.Link
	for _, i := range all {
		named := slices.Contains(only, i.Name)
		l := presence.Link{Index: i.Index, Name: i.Name, Prefixes: i.Prefixes, Loopback: i.Flags&net.FlagLoopback != 0}
		reason := unusable(i, named)
		switch {
		case reason == "" && len(only) > 0 && !named:
			skipped = append(skipped, presence.Skipped{Name: i.Name, Reason: "not among the interfaces asked for"})
		case reason != "":
			skipped = append(skipped, presence.Skipped{Name: i.Name, Reason: reason})
		case l.Loopback && !named:
			loopback = append(loopback, l)
		default:
			links = append(links, l)
		}
	}
	for _, name := range only {
		if !slices.ContainsFunc(all, func(i Interface) bool { return i.Name == name }) {
			skipped = append(skipped, presence.Skipped{Name: name, Reason: "does not exist"})
		}
	}
	if len(links) == 0 && len(only) == 0 {
		return loopback, skipped
	}
	for _, l := range loopback {
		skipped = append(skipped, presence.Skipped{Name: l.Name, Reason: "loopback, needed only where there is no LAN"})
	}
	return links, skipped
}

// Unusable returns which of the interfaces that were asked for can't be used
// now, and why. They may come later, and are used then.
func Unusable(all []Interface, only []string) []presence.Skipped {
	_, skipped := Usable(all, only)
	return slices.DeleteFunc(skipped, func(s presence.Skipped) bool { return !slices.Contains(only, s.Name) })
}

// unusable says why an interface cannot or need not be used, or "".
func unusable(i Interface, named bool) string {
	switch {
	case i.Flags&net.FlagUp == 0:
		return "down"
	case i.Flags&net.FlagRunning == 0:
		return "not connected"
	case len(i.Prefixes) == 0:
		return "no address"
	case named, i.Flags&net.FlagLoopback != 0:
		return "" // the loopback of a Linux network namespace lacks the multicast flag and does it all the same
	case i.Flags&net.FlagPointToPoint != 0:
		return "point to point"
	case i.Flags&net.FlagMulticast == 0:
		return "no multicast"
	}
	for _, v := range virtual {
		if strings.HasPrefix(i.Name, v.prefix) {
			return "virtual (" + v.what + ")"
		}
	}
	return ""
}

// Interfaces returns the machine's interfaces, in the order of their indexes.
func (System) Interfaces() ([]Interface, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing network interfaces: %w", err)
	}
	out := make([]Interface, 0, len(list))
	for _, n := range list {
		i := Interface{Index: n.Index, Name: n.Name, Flags: n.Flags}
		addrs, err := n.Addrs()
		if err != nil {
			continue // it went away in between
		}
		for _, a := range addrs {
			if ipn, ok := a.(*net.IPNet); ok {
				ip, _ := netip.AddrFromSlice(ipn.IP)
				bits, _ := ipn.Mask.Size()
				if ip.Is4In6() && len(ipn.Mask) == net.IPv6len {
					bits -= 96
				}
				i.Prefixes = append(i.Prefixes, netip.PrefixFrom(ip.Unmap(), bits))
			}
		}
		// The kernel's order changes with renewals of leases, which is no news.
		slices.SortFunc(i.Prefixes, func(a, b netip.Prefix) int {
			if c := a.Addr().Compare(b.Addr()); c != 0 {
				return c
			}
			return a.Bits() - b.Bits()
		})
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b Interface) int { return a.Index - b.Index })
	return out, nil
}
