package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"testing"
)

// The id of a device is the beginning of the hash of what certificates have as its key.
func TestDeviceIsHashOfKeyInfo(t *testing.T) {
	for range 3 {
		public, _, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		info, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(info)
		if got, want := DeviceKey(public).Device(), DeviceID(sum[:8]); got != want {
			t.Errorf("the device of %x is %v, want %v", public, got, want)
		}
	}
}
