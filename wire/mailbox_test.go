package wire

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"reflect"
	"testing"
)

var mailTo = DeviceKey{7, 31: 8}

func mailKey() (ed25519.PrivateKey, DeviceKey) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, ed25519.SeedSize))
	return key, KeyOf(key.Public().(ed25519.PublicKey))
}

// A mail counts only as its author wrote it, in the realm and for the device it
// was written for.
func TestMail(t *testing.T) {
	key, from := mailKey()
	realm := RealmID{1}
	m := &Mail{From: from, Kind: MailMessage, After: 0x0102, Body: []byte{1, 2, 3}}
	b := m.Sign([]byte("before"), key, realm, mailTo)[len("before"):]
	want := append(append(append([]byte{}, from[:]...), 1, 0, 0, 0, 0, 0, 0, 1, 2), 1, 2, 3)
	if !bytes.Equal(b[:len(b)-SignatureSize], want) {
		t.Errorf("appended %x, want %x and a signature", b, want)
	}
	got, err := ParseMail(b, realm, mailTo)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("parsed %+v, %v, want %+v", got, err, m)
	}
	for n := range b {
		if m, err := ParseMail(b[:n], realm, mailTo); err == nil {
			t.Errorf("the first %d bytes parse as %+v", n, m)
		}
		bad := bytes.Clone(b)
		bad[n] ^= 1
		if m, err := ParseMail(bad, realm, mailTo); err == nil {
			t.Errorf("with byte %d changed it parses as %+v", n, m)
		}
	}
	if _, err := ParseMail(append(b, 0), realm, mailTo); !errors.Is(err, ErrSignature) {
		t.Errorf("one byte more: %v", err)
	}
	if _, err := ParseMail(b, RealmID{2}, mailTo); !errors.Is(err, ErrSignature) {
		t.Errorf("in another realm: %v", err)
	}
	if _, err := ParseMail(b, realm, DeviceKey{}); !errors.Is(err, ErrSignature) {
		t.Errorf("for another device: %v", err)
	}
}

func TestMailKey(t *testing.T) {
	key, device := mailKey()
	sig := SignMailKey(key, RealmID{1}, []byte{1, 2})
	if err := VerifyMailKey(device, RealmID{1}, []byte{1, 2}, sig); err != nil {
		t.Errorf("the key: %v", err)
	}
	for name, err := range map[string]error{
		"another key":           VerifyMailKey(device, RealmID{1}, []byte{1, 3}, sig),
		"another realm":         VerifyMailKey(device, RealmID{2}, []byte{1, 2}, sig),
		"another device's word": VerifyMailKey(mailTo, RealmID{1}, []byte{1, 2}, sig),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v, want %v", name, err, ErrSignature)
		}
	}
}

// The largest of everything fits a frame.
func TestMailFits(t *testing.T) {
	item := MailItem{ID: 1, Leaf: make([]byte, MaxCertificate), Issuing: make([]byte, MaxCertificate), Sealed: make([]byte, MaxSealed)}
	page := AuthMail{Items: []MailItem{item}}
	if got, want := len(page.Append(nil)), 2+item.Len(); got != want {
		t.Errorf("a page of one item has %d bytes, want %d", got, want)
	}
	device := MailDevice{Leaf: item.Leaf, Issuing: item.Issuing, Public: make([]byte, MaxMailKey)}
	keys := AuthMailKeys{Devices: make([]MailDevice, MaxMailKeys)}
	for i := range keys.Devices {
		keys.Devices[i] = device
	}
	deposit := AuthDeposit{Sealed: item.Sealed}
	for _, m := range []AuthMessage{&keys, &deposit} {
		if n := len(m.Append(nil)); n > MaxFrame {
			t.Errorf("%T has %d bytes, a frame at most %d", m, n, MaxFrame)
		}
	}
}

func FuzzMail(f *testing.F) {
	key, from := mailKey()
	f.Add((&Mail{From: from, Kind: MailAck, Body: make([]byte, 8)}).Sign(nil, key, RealmID{}, mailTo))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMail(b, RealmID{}, mailTo)
		if err == nil && !bytes.Equal(m.Sign(nil, key, RealmID{}, mailTo), b) {
			t.Errorf("accepted %x, which is not what is written for %+v", b, m)
		}
	})
}
