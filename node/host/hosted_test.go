package host

import (
	"net/netip"
	"testing"

	"lanchat/wire/realm"
)

// A dial that reaches the authd of this process before it is known which realm
// that has waits for it, and knows it then.
func TestHostedRealmNeedsNoAsking(t *testing.T) {
	var own, other realm.Realm
	other.ID[0] = 1
	var h hosted
	if h.is(own) {
		t.Error("a realm is one's own before any was started")
	}
	answer := make(chan bool, 1)
	h.start(func() (netip.AddrPort, realm.Fingerprint, error) {
		go func() { answer <- h.is(own) }()
		return netip.AddrPort{}, own.Fingerprint(), nil
	})
	if !<-answer {
		t.Error("one's own realm is asked about")
	}
	if h.is(other) {
		t.Error("another realm is not asked about")
	}
}
