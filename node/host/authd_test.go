package host

import (
	"net/netip"
	"testing"

	"lanchat/wire"
)

// An authd that answers at another of its addresses has not moved.
func TestSamePlace(t *testing.T) {
	list := func(addrs ...string) (out []netip.AddrPort) {
		for _, a := range addrs {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	own := []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fe80::1")}
	heard := map[wire.DeviceID][]netip.AddrPort{
		{1}: list("10.77.0.5:4747", "[fe80::5%eth0]:4747"),
		{2}: list("10.77.0.6:4747"),
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"10.77.0.9:4747", "10.77.0.9:4747", true},
		{"10.77.0.5:4747", "[fe80::5%eth0]:4747", true},
		{"127.0.0.1:4747", "[::1]:4747", true},
		{"127.0.0.1:4747", "10.77.0.1:4747", true},
		{"[fe80::1%eth0]:4747", "127.0.0.1:4747", true},
		{"127.0.0.1:4747", "127.0.0.1:5000", false},
		{"127.0.0.1:4747", "10.77.0.5:4747", false},
		{"10.77.0.5:4747", "10.77.0.6:4747", false},
		{"10.77.0.5:4747", "10.77.0.9:4747", false},
	} {
		for _, swap := range []bool{false, true} {
			a, b := netip.MustParseAddrPort(tt.a), netip.MustParseAddrPort(tt.b)
			if swap {
				a, b = b, a
			}
			if got := samePlace(a, b, own, heard); got != tt.want {
				t.Errorf("%v and %v: got %v, want %v", a, b, got, tt.want)
			}
		}
	}
}
