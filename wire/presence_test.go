package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"lanchat/testdata/vectors"
)

var (
	presenceRealm = RealmID(bytes.Repeat([]byte{0xa1, 0xb2, 0xc3, 0xd4}, 8))
	presenceSeed  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
)

func presenceKey() DeviceKey { return KeyOf(presenceSeed.Public().(ed25519.PublicKey)) }

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// The layouts of presence.go, in hexadecimal without the signature.
var presenceTable = []struct {
	name  string
	value Presence
	want  string
}{
	{"probe, nothing optional",
		Presence{Key: presenceKey(), Boot: 1, Counter: 2, Kind: Probe, Role: RoleNode, Port: 0x1234},
		"21 00 a1b2c3d4a1b2c3d4 ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c" +
			"0000000000000001 0000000000000002 01 01 0000 1234 00 0000000000000000"},
	{"authd's here with addresses",
		Presence{Key: presenceKey(), Boot: 1 << 40, Counter: 1<<64 - 1, Kind: Here, Role: RoleAuthd, Period: 2 * time.Second, Port: 4747,
			Addrs: addrs("10.77.0.1", "fe80::1"), Token: TokenHash{1, 2, 3, 4, 5, 6, 7, 8}},
		"21 00 a1b2c3d4a1b2c3d4 ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c" +
			"0000010000000000 ffffffffffffffff 02 02 0014 128b 02 04 0a4d0001 06 fe800000000000000000000000000001 0102030405060708"},
	{"goodbye of the longest kind",
		Presence{Key: presenceKey(), Counter: 1, Kind: Bye, Role: RoleNode, Period: 6553500 * time.Millisecond, Port: 65535,
			Addrs: addrs("::1", "::2", "::3", "::4", "::5", "::6", "::7", "::8")},
		"21 00 a1b2c3d4a1b2c3d4 ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c" +
			"0000000000000000 0000000000000001 03 01 ffff ffff 08" +
			"06 00000000000000000000000000000001 06 00000000000000000000000000000002" +
			"06 00000000000000000000000000000003 06 00000000000000000000000000000004" +
			"06 00000000000000000000000000000005 06 00000000000000000000000000000006" +
			"06 00000000000000000000000000000007 06 00000000000000000000000000000008 0000000000000000"},
}

func TestPresence(t *testing.T) {
	for _, tt := range presenceTable {
		t.Run(tt.name, func(t *testing.T) {
			want, err := hex.DecodeString(strings.ReplaceAll(tt.want, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			front := []byte("before")
			b := tt.value.Append(front, presenceRealm, presenceSeed)
			if !bytes.HasPrefix(b, front) {
				t.Fatalf("append changed what was there: %x", b)
			}
			b = b[len(front):]
			if got := b[:len(b)-ed25519.SignatureSize]; !bytes.Equal(got, want) {
				t.Errorf("appended\n%x, want\n%x", got, want)
			}
			if len(b) > MaxPresence || len(b) > 300 {
				t.Errorf("packet of %d bytes", len(b))
			}
			got, err := ParsePresence(b, presenceRealm)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, tt.value) {
				t.Errorf("parsed %+v, want %+v", *got, tt.value)
			}
			if err := VerifyPresence(b, presenceRealm, got.Key); err != nil {
				t.Errorf("own signature: %v", err)
			}
			for n := range b {
				if _, err := ParsePresence(b[:n], presenceRealm); err == nil {
					t.Errorf("prefix of %d bytes accepted", n)
				}
			}
			if _, err := ParsePresence(append(bytes.Clone(b), 0), presenceRealm); err == nil {
				t.Error("one byte more accepted")
			}
			for i := range b {
				bad := bytes.Clone(b)
				bad[i] ^= 0x10
				p, err := ParsePresence(bad, presenceRealm)
				if err == nil && VerifyPresence(bad, presenceRealm, p.Key) == nil {
					t.Errorf("bit of byte %d flipped: accepted", i)
				}
			}
		})
	}
}

func TestPresenceVectors(t *testing.T) {
	var got []vectors.Vector
	for n, name := range []string{"probe", "here", "bye"} {
		got = append(got, vectors.Vector{Name: name, Bytes: presenceTable[n].value.Append(nil, presenceRealm, presenceSeed)})
	}
	vectors.Check(t, "presence.hex", `Presence packets, signed by the key with seed 07 … 07 (32 times)
in the realm a1b2c3d4 … a1b2c3d4.`, got)
}

func TestPresenceRefused(t *testing.T) {
	good := presenceTable[1].value.Append(nil, presenceRealm, presenceSeed)
	change := func(at int, bytes ...byte) []byte {
		b := append([]byte(nil), good...)
		copy(b[at:], bytes)
		return b
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, ErrTruncated},
		{"too long for any", make([]byte, MaxPresence+1), ErrTooLong},
		{"other type", change(0, 0x11), ErrType},
		{"reserved", change(1, 1), ErrReserved},
		{"other realm", change(2, 0), ErrRealm},
		{"counter 0", change(50, 0, 0, 0, 0, 0, 0, 0, 0), ErrValue},
		{"kind 0", change(58, 0), ErrValue},
		{"kind 4", change(58, 4), ErrValue},
		{"role 0", change(59, 0), ErrValue},
		{"role 3", change(59, 3), ErrValue},
		{"port 0", change(62, 0, 0), ErrValue},
		{"nine addresses", change(64, 9), ErrTooLong},
		{"one address less than there is", change(64, 1), ErrTrailing},
		{"one more", change(64, 3), ErrType},
		{"family 5", change(65, 5), ErrType},
		{"address 0.0.0.0", change(66, 0, 0, 0, 0), ErrValue},
		{"multicast address", change(66, 224, 0, 0, 1), ErrValue},
		{"IPv4 in IPv6", change(71, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff), ErrValue},
	} {
		if p, err := ParsePresence(tt.b, presenceRealm); !errors.Is(err, tt.want) || p != nil {
			t.Errorf("%s: got %+v, %v, want %v", tt.name, p, err, tt.want)
		}
	}
	if err := VerifyPresence(nil, presenceRealm, presenceKey()); !errors.Is(err, ErrTruncated) {
		t.Errorf("verifying nothing: %v", err)
	}
	// The signature is over the whole realm id, of which the packet tells 8 bytes.
	other := presenceRealm
	other[31] ^= 1
	if _, err := ParsePresence(good, other); err != nil {
		t.Errorf("realm of the same prefix: %v", err)
	}
	if err := VerifyPresence(good, other, presenceKey()); !errors.Is(err, ErrSignature) {
		t.Errorf("signature under a realm of the same prefix: %v, want %v", err, ErrSignature)
	}
	// Plain Ed25519, as TLS uses it, is another thing than a presence signature.
	plain := append([]byte(nil), good[:len(good)-64]...)
	plain = append(plain, ed25519.Sign(presenceSeed, presenceSigned(presenceRealm, plain))...)
	if err := VerifyPresence(plain, presenceRealm, presenceKey()); !errors.Is(err, ErrSignature) {
		t.Errorf("signature without context: %v, want %v", err, ErrSignature)
	}
}

func TestPresenceAppendPanics(t *testing.T) {
	for name, p := range map[string]Presence{
		"no counter":      {Key: presenceKey(), Kind: Here, Role: RoleNode, Port: 1},
		"no port":         {Key: presenceKey(), Counter: 1, Kind: Here, Role: RoleNode},
		"odd period":      {Key: presenceKey(), Counter: 1, Kind: Here, Role: RoleNode, Port: 1, Period: time.Millisecond},
		"nine addresses":  {Key: presenceKey(), Counter: 1, Kind: Here, Role: RoleNode, Port: 1, Addrs: make([]netip.Addr, 9)},
		"address, zoned":  {Key: presenceKey(), Counter: 1, Kind: Here, Role: RoleNode, Port: 1, Addrs: addrs("fe80::1%eth0")},
		"address, 4 in 6": {Key: presenceKey(), Counter: 1, Kind: Here, Role: RoleNode, Port: 1, Addrs: addrs("::ffff:10.0.0.1")},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: appended", name)
				}
			}()
			p.Append(nil, presenceRealm, presenceSeed)
		}()
	}
}

func FuzzPresence(f *testing.F) {
	for _, tt := range presenceTable {
		f.Add(tt.value.Append(nil, presenceRealm, presenceSeed))
	}
	f.Add([]byte{TypePresence})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePresence(b, presenceRealm)
		if err != nil {
			if p != nil {
				t.Fatalf("%+v with error %v", p, err)
			}
			return
		}
		again := p.Append(nil, presenceRealm, presenceSeed)
		cut := len(b) - ed25519.SignatureSize
		if !bytes.Equal(again[:len(again)-ed25519.SignatureSize], b[:cut]) {
			t.Errorf("accepted %x, written back as %x", b[:cut], again[:len(again)-ed25519.SignatureSize])
		}
	})
}
