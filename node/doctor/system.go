package doctor

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// A System is what the machine itself is like, as far as it bears on its
// network.
type System struct {
	OS        string
	Firewall  string // "ufw", "firewalld", "nftables": found to be on; "": unknown
	Container bool
	WSL       bool
	Buffer    int // the most that a receive buffer may have, in bytes; 0: unknown
}

const (
	wantedBuffer = 8 << 20 // what the sockets ask for
	leastBuffer  = 1 << 20 // less is worth a word
)

// ReadSystem looks at the machine.
func ReadSystem() System {
	s := System{OS: runtime.GOOS}
	if s.OS != "linux" {
		return s
	}
	if b, err := os.ReadFile("/proc/sys/net/core/rmem_max"); err == nil {
		s.Buffer, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if b, err := os.ReadFile("/proc/version"); err == nil {
		s.WSL = strings.Contains(strings.ToLower(string(b)), "microsoft")
	}
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(mark); err == nil {
			s.Container = true
		}
	}
	s.Firewall = firewall("/")
	return s
}

// firewall tells by its traces below root which firewall is on.
func firewall(root string) string {
	if b, err := os.ReadFile(root + "etc/ufw/ufw.conf"); err == nil && strings.Contains(strings.ToLower(string(b)), "\nenabled=yes") {
		return "ufw"
	}
	if entries, err := os.ReadDir(root + "run/firewalld"); err == nil && len(entries) > 0 {
		return "firewalld"
	}
	if b, err := os.ReadFile(root + "proc/modules"); err == nil && strings.Contains(string(b), "nf_tables ") {
		if _, err := os.Stat(root + "etc/nftables.conf"); err == nil {
			return "nftables"
		}
	}
	return ""
}

// Lines that let lanchat through. A node's own port is of its choice unless
// --port says otherwise: 4749 stands for that.
var firewallLines = map[string]string{
	"ufw":       "ufw allow 4747:4749/udp && ufw allow 5353/udp && ufw allow in proto igmp from any to 224.0.0.0/4",
	"firewalld": "firewall-cmd --permanent --add-port=4747-4749/udp --add-port=5353/udp --add-protocol=igmp && firewall-cmd --reload",
	"nftables":  "nft add rule inet filter input udp dport '{ 4747-4749, 5353 }' accept && nft add rule inet filter input ip protocol igmp accept",
}

// openPorts says how to open the firewall: the line for the one that is on, or
// for each.
func (s System) openPorts() string {
	const port = " (and start node with --port 4749)"
	if line := firewallLines[s.Firewall]; line != "" {
		return "the firewall " + s.Firewall + " is on; as root: " + line + port
	}
	switch s.OS {
	case "darwin":
		return "System Settings, Privacy & Security, Local Network: allow the terminal; and Network, Firewall, Options: allow node"
	case "windows":
		return "Windows Security, Firewall, Allow an app: node, on private networks"
	}
	return "let UDP ports 4747 to 4749 and 5353 in" + port + ". With ufw: " + firewallLines["ufw"] +
		". With firewalld: " + firewallLines["firewalld"] + ". With nftables: " + firewallLines["nftables"]
}

// hint says what about this machine may be behind it all.
func (s System) hint() string {
	switch {
	case s.WSL:
		return ". This is WSL: unless .wslconfig has networkingMode=mirrored, it is on a network of its own behind Windows"
	case s.Container:
		return ". This is a container: with a network of its own it is not on the LAN (run it with --network host)"
	}
	return ""
}

func (s System) bufferNote() string {
	if s.Buffer == 0 || s.Buffer >= leastBuffer {
		return ""
	}
	return fmt.Sprintf("; receive buffers are limited to %d KiB, so that packets of a burst may be lost and come late", s.Buffer>>10)
}

func (s System) bufferFix() string {
	if s.bufferNote() == "" {
		return ""
	}
	return fmt.Sprintf("as root: sysctl -w net.core.rmem_max=%d", wantedBuffer)
}
