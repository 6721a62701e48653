// Package emu is an emulated LAN for trying whole programs: hosts with kernels'
// network stacks of their own, meeting in an Ethernet switch made of goroutines
// that loses, delays, duplicates, reorders and cuts as it is told.
//
// A [Lab] is a number of hosts and the LANs they meet on. Every [Host] is a Linux
// network namespace: its own interfaces, routes, sockets, ports and host name, but
// the files and users of the machine. A [Port] is where one of its interfaces
// (eth0, eth1, …) meets a LAN; what goes wrong on the way is set there, as a [Link].
//
//	h1 ─ eth0 ─ port ─┐                 ┌─ port ─ eth0 ─ h3
//	                  ├─ LAN 0 (switch)─┤
//	h2 ─ eth0 ─ port ─┘                 └─ port ─ eth0 ─ h4
//
// Everything happens in namespaces in which no real interface exists, so no packet
// can leave the machine. A test binary gets there by [Main]:
//
//	func TestMain(m *testing.M) { os.Exit(emu.Main(m)) }
//
//	func TestTalk(t *testing.T) {
//		lab := emu.Start(t, emu.Config{Hosts: emu.Hosts(3)})
//		lab.Host("h2").Impair(emu.Link{Loss: 5})
//		out, err := lab.Host("h1").Command("node", "--json").Output()
//		…
//	}
//
// # What programs in a host find
//
// The interface lo, and eth0 with a MAC that never changes, an IPv4 address and a
// link-local IPv6 address usable at once. Host N on LAN K is 10.(77+K).0.N/24 and
// 02:4c:41:<interface>:K:N. (A second interface on one LAN is 10.(77+K).0.(255-N).) There
// is no default route, no DNS and no system bus.
//
// # What it is not
//
// It measures no radio: a LAN has no rate limit and its frames no airtime. What a
// host sends faster than the switch reads is dropped in that host's own queue
// ([Stats].Overrun).
//
// It works for root and, where user namespaces are allowed, for everybody. Where
// neither is so, [Need] skips the test and says why.
//
// Start reading at [Open], then [Port].
package emu
