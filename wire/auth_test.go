package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// authTests has every message: its value, and its body as a person can read it.
var authTests = []struct {
	name string
	m    AuthMessage
	want string // spaces are left out
}{
	{"START", &AuthStart{Kind: AuthRegister, Method: AuthPrehash, Name: "alice", Invite: []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		"01 01 05 616c696365 0008 0102030405060708"},
	{"START without invite", &AuthStart{Kind: AuthLogin, Method: 2, Name: ""},
		"02 02 00 0000"},
	{"CHALLENGE", &AuthChallenge{Salt: [16]byte{0xaa, 15: 0xbb}, Time: 0x0102030405060708, MinLength: 8, MinScore: 3},
		"aa0000000000000000000000000000bb 0102030405060708 08 03"},
	{"FINISH", &AuthFinish{Prehash: [32]byte{0xcc, 31: 0xdd}, Device: "Küche"},
		"cc000000000000000000000000000000000000000000000000000000000000dd 06 4bc3bc636865"},
	{"GRANT", &AuthGrant{Leaf: []byte{0x30, 1}, Issuing: []byte{0x30, 2}, Root: []byte{0x30, 3}, CRL: []byte{0x30, 4}, Time: 5},
		"0002 3001 0002 3002 0002 3003 0002 3004 0000000000000005"},
	{"GRANT without CRL", &AuthGrant{Leaf: []byte{0x30}, Issuing: []byte{0x31}, Root: []byte{0x32}, Time: math.MaxInt64},
		"0001 30 0001 31 0001 32 0000 7fffffffffffffff"},
	{"RENEW", &AuthRenew{}, ""},
	{"REFUSAL", &AuthRefusal{Code: CodeRateLimited, RetryAfter: 900, Text: "später"},
		"0005 00000384 0007 7370c3a4746572"},
	{"REFUSAL of a later version", &AuthRefusal{Code: 0xffff},
		"ffff 00000000 0000"},
	{"CRL", &AuthCRL{Issuing: []byte{0x30, 1}, CRL: []byte{0x30, 2}, Time: 6},
		"0002 3001 0002 3002 0000000000000006"},
	{"PING", &AuthPing{Nonce: 0x0102030405060708},
		"0102030405060708" + strings.Repeat("00", 56)},
	{"PONG", &AuthPong{Nonce: 7, Time: 8},
		"0000000000000007 0000000000000008" + strings.Repeat("00", 56)},
	{"ROSTER", &AuthRoster{After: DeviceID{1, 7: 2}}, "0100000000000002 0000000000000000 00"},
	{"ROSTER, of what is new", &AuthRoster{Since: 0x0102, Addrs: []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.1:4747"), netip.MustParseAddrPort("[2001:db8::1]:80")}},
		"0000000000000000 0000000000000102 02 04 c0000201 128b 06 20010db8000000000000000000000001 0050"},
	{"ROSTER PAGE", &AuthRosterPage{
		More:    true,
		Serial:  9,
		Issuers: [][]byte{{0x30, 1}},
		Entries: []RosterEntry{
			{Leaf: []byte{0x30, 2}, Addrs: []netip.AddrPort{
				netip.MustParseAddrPort("192.0.2.1:4747"), netip.MustParseAddrPort("[2001:db8::1]:80")}},
			{Leaf: []byte{0x30, 3}},
		},
	}, "01 0000000000000009 01 0002 3001 02 0002 3002 02 04 c0000201 128b 06 20010db8000000000000000000000001 0050 0002 3003 00"},
	{"ROSTER PAGE, empty", &AuthRosterPage{}, "00 0000000000000000 00 00"},
	{"START to recover", &AuthStart{Kind: AuthRecover, Method: AuthPrehash, Name: "al", Invite: []byte{1, 15: 16}},
		"03 01 02 616c 0010 01000000000000000000000000000010"},
	{"RENAME", &AuthRename{Name: "anna"}, "04 616e6e61"},
	{"PASSWORD", &AuthPassword{}, ""},
	{"CHANGE", &AuthChange{Present: [32]byte{0xaa, 31: 0xab}, Salt: [16]byte{0xcc, 15: 0xcd}, Prehash: [32]byte{0xee, 31: 0xef}, SignOut: true},
		"aa000000000000000000000000000000000000000000000000000000000000ab cc0000000000000000000000000000cd " +
			"ee000000000000000000000000000000000000000000000000000000000000ef 01"},
	{"DEVICES", &AuthDevices{}, ""},
	{"DEVICE LIST", &AuthDeviceList{Devices: []DeviceEntry{
		{Device: DeviceID{1, 7: 2}, Name: "Küche", Created: 5, Ends: 6}, {Device: DeviceID{3}, Revoked: true}}},
		"02 0100000000000002 06 4bc3bc636865 0000000000000005 0000000000000006 00 0300000000000000 00 0000000000000000 0000000000000000 01"},
	{"DEVICE LIST, empty", &AuthDeviceList{}, "00"},
	{"REVOKE", &AuthRevoke{Device: DeviceID{1, 7: 2}}, "0100000000000002"},
	{"DONE", &AuthDone{}, ""},
	{"MAIL KEY", &AuthMailKey{Public: []byte{1, 2}, Signature: [SignatureSize]byte{3, 63: 4}}, "0002 0102 03" + strings.Repeat("00", 62) + "04"},
	{"RECIPIENT", &AuthRecipient{Account: AccountID{1, 15: 2}}, "01000000000000000000000000000002 00"},
	{"RECIPIENT, by name", &AuthRecipient{Name: "al"}, strings.Repeat("00", 16) + "02 616c"},
	{"MAIL KEYS", &AuthMailKeys{Devices: []MailDevice{{Leaf: []byte{0x30, 1}, Issuing: []byte{0x30, 2}, Public: []byte{5}, Signature: [SignatureSize]byte{6}}}},
		"01 0002 3001 0002 3002 0001 05 06" + strings.Repeat("00", 63)},
	{"MAIL KEYS, none", &AuthMailKeys{}, "00"},
	{"DEPOSIT", &AuthDeposit{To: DeviceKey{1, 31: 2}, Number: 7, Sealed: []byte{8, 9}},
		"0100000000000000000000000000000000000000000000000000000000000002 0000000000000007 0002 0809"},
	{"MAILBOX", &AuthMailbox{After: 0x0102}, "0000000000000102"},
	{"MAIL", &AuthMail{More: true, Items: []MailItem{{ID: 5, Leaf: []byte{0x30}, Issuing: []byte{0x31}, Sealed: []byte{1, 2}}, {ID: 6}}},
		"01 02 0000000000000005 0001 30 0001 31 0002 0102 0000000000000006 0000 0000 0000"},
	{"MAIL, empty", &AuthMail{}, "00 00"},
	{"TAKEN", &AuthTaken{IDs: []uint64{1, 0x0203}}, "02 0000000000000001 0000000000000203"},
	{"TAKEN, nothing", &AuthTaken{}, "00"},
}

func authHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAuthMessages(t *testing.T) {
	seen := make(map[byte]bool)
	for _, tt := range authTests {
		body := authHex(t, tt.want)
		seen[tt.m.FrameType()] = true
		if got := tt.m.Append([]byte("before")); string(got) != "before"+string(body) {
			t.Errorf("%s: appended %x, want %x", tt.name, got, body)
		}
		got, err := ParseAuth(tt.m.FrameType(), body)
		if err != nil || !reflect.DeepEqual(got, tt.m) {
			t.Errorf("%s: parsed %+v, %v, want %+v", tt.name, got, err, tt.m)
		}
		for i := range body {
			if m, err := ParseAuth(tt.m.FrameType(), body[:i]); !errors.Is(err, ErrTruncated) || m != nil {
				t.Errorf("%s: the first %d bytes are parsed as %+v, %v", tt.name, i, m, err)
			}
		}
		if m, err := ParseAuth(tt.m.FrameType(), append(body, 0)); !errors.Is(err, ErrTrailing) {
			t.Errorf("%s: with one byte more it is parsed as %+v, %v", tt.name, m, err)
		}
	}
	for i := range 256 {
		if m, err := ParseAuth(byte(i), nil); seen[byte(i)] == errors.Is(err, ErrType) {
			t.Errorf("type %#x: %v, %v", i, m, err)
		}
	}
	if len(seen) != 25 {
		t.Errorf("%d of 25 messages are tested", len(seen))
	}
}

func TestAuthRefuses(t *testing.T) {
	tests := []struct {
		name      string
		frameType byte
		body      string
		want      error
	}{
		{"START of no kind", FrameAuthStart, "00 01 00 0000", ErrValue},
		{"START of a fourth kind", FrameAuthStart, "04 01 00 0000", ErrValue},
		{"START, long name", FrameAuthStart, "01 01 41" + strings.Repeat("61", 65) + "0000", ErrTooLong},
		{"START, name not UTF-8", FrameAuthStart, "01 01 01 ff 0000", ErrUTF8},
		{"START, long invite", FrameAuthStart, "01 01 00 0011" + strings.Repeat("00", 17), ErrTooLong},
		{"CHALLENGE, time before 1970", FrameAuthChallenge, strings.Repeat("00", 16) + "8000000000000000 08 03", ErrValue},
		{"CHALLENGE, score 5", FrameAuthChallenge, strings.Repeat("00", 16) + "0000000000000000 08 05", ErrValue},
		{"FINISH, long device name", FrameAuthFinish, strings.Repeat("00", 32) + "41" + strings.Repeat("61", 65), ErrTooLong},
		{"GRANT, long certificate", FrameAuthGrant, "0401" + strings.Repeat("00", 1025), ErrTooLong},
		{"CRL, long list", FrameAuthCRL, "0000 e001" + strings.Repeat("00", 0xe001), ErrTooLong},
		{"REFUSAL without code", FrameAuthRefusal, "0000 00000000 0000", ErrValue},
		{"REFUSAL, long text", FrameAuthRefusal, "0001 00000000 0201" + strings.Repeat("61", 513), ErrTooLong},
		{"PING, padding not zero", FrameAuthPing, "0000000000000001" + strings.Repeat("00", 55) + "01", ErrReserved},
		{"ROSTER, many addresses", FrameAuthRoster, "0000000000000000 0000000000000000 09", ErrTooLong},
		{"ROSTER, family 5", FrameAuthRoster, "0000000000000000 0000000000000000 01 05 00000000 0000", ErrValue},
		{"ROSTER PAGE, more than true", FrameAuthRosterPage, "02 0000000000000000 00 00", ErrValue},
		{"MAIL KEY, long", FrameAuthMailKey, "04c1" + strings.Repeat("00", 1217), ErrTooLong},
		{"RECIPIENT, long name", FrameAuthRecipient, strings.Repeat("00", 16) + "41" + strings.Repeat("61", 65), ErrTooLong},
		{"MAIL KEYS, many", FrameAuthMailKeys, "11", ErrTooLong},
		{"DEPOSIT, long", FrameAuthDeposit, strings.Repeat("00", 40) + "f001" + strings.Repeat("00", 0xf001), ErrTooLong},
		{"MAIL, many", FrameAuthMail, "00 41", ErrTooLong},
		{"ROSTER PAGE, many issuers", FrameAuthRosterPage, "00 0000000000000000 05", ErrTooLong},
		{"ROSTER PAGE, many entries", FrameAuthRosterPage, "00 0000000000000000 00 31", ErrTooLong},
		{"ROSTER PAGE, many addresses", FrameAuthRosterPage, "00 0000000000000000 00 01 0000 09", ErrTooLong},
		{"ROSTER PAGE, family 5", FrameAuthRosterPage, "00 0000000000000000 00 01 0000 01 05 00000000 0000", ErrValue},
		{"ROSTER PAGE, IPv4 in IPv6", FrameAuthRosterPage, "00 0000000000000000 00 01 0000 01 06 00000000000000000000ffffc0000201 0050", ErrValue},
		{"RENAME, long name", FrameAuthRename, "41" + strings.Repeat("61", 65), ErrTooLong},
		{"RENAME, not UTF-8", FrameAuthRename, "01 ff", ErrUTF8},
		{"CHANGE, more than true", FrameAuthChange, strings.Repeat("00", 80) + "02", ErrValue},
		{"DEVICE LIST, long name", FrameAuthDeviceList, "01 0000000000000000 41" + strings.Repeat("61", 65), ErrTooLong},
		{"DEVICE LIST, time before 1970", FrameAuthDeviceList, "01 0000000000000000 00 8000000000000000 0000000000000000 00", ErrValue},
		{"DEVICE LIST, more than true", FrameAuthDeviceList, "01 0000000000000000 00 0000000000000000 0000000000000000 02", ErrValue},
		{"type not used yet", 0xff, "", ErrType},
	}
	for _, tt := range tests {
		if m, err := ParseAuth(tt.frameType, authHex(t, tt.body)); !errors.Is(err, tt.want) || m != nil {
			t.Errorf("%s: %+v, %v, want %v", tt.name, m, err, tt.want)
		}
	}
}

// Whatever keeps to the limits fits a frame, and what does not panics.
func TestAuthLimits(t *testing.T) {
	cert, name := make([]byte, MaxCertificate), strings.Repeat("n", 64)
	page := &AuthRosterPage{}
	for range MaxRosterIssuers {
		page.Issuers = append(page.Issuers, cert)
	}
	v6 := netip.MustParseAddrPort("[fe80::1%eth0]:4747")
	for range MaxRosterEntries {
		page.Entries = append(page.Entries, RosterEntry{Leaf: cert, Addrs: []netip.AddrPort{v6, v6, v6, v6, v6, v6, v6, v6}})
	}
	devices := &AuthDeviceList{}
	for range MaxDeviceList {
		devices.Devices = append(devices.Devices, DeviceEntry{Name: name})
	}
	biggest := []AuthMessage{
		&AuthStart{Kind: 1, Name: name, Invite: make([]byte, MaxInvite)},
		&AuthFinish{Device: name},
		&AuthGrant{Leaf: cert, Issuing: cert, Root: cert, CRL: make([]byte, MaxCRL)},
		&AuthCRL{Issuing: cert, CRL: make([]byte, MaxCRL)},
		&AuthRefusal{Code: 1, Text: strings.Repeat("x", maxRefusalText)},
		page,
		&AuthRename{Name: name},
		devices,
	}
	for _, m := range biggest {
		b := m.Append(nil)
		if len(b) > MaxFrame {
			t.Errorf("the biggest %T has %d bytes, a frame %d", m, len(b), MaxFrame)
		}
		if _, err := ParseAuth(m.FrameType(), b); err != nil {
			t.Errorf("the biggest %T: %v", m, err)
		}
	}
	long := append(cert, 0)
	for _, m := range []AuthMessage{
		&AuthStart{Kind: 1, Name: name + "n"},
		&AuthStart{Kind: 1, Invite: make([]byte, MaxInvite+1)},
		&AuthStart{},
		&AuthChallenge{Time: -1},
		&AuthChallenge{MinScore: 5},
		&AuthFinish{Device: name + "n"},
		&AuthGrant{Leaf: long},
		&AuthCRL{CRL: make([]byte, MaxCRL+1)},
		&AuthRefusal{},
		&AuthRefusal{Code: 1, Text: strings.Repeat("x", maxRefusalText+1)},
		&AuthStart{Kind: 4},
		&AuthRename{Name: name + "n"},
		&AuthDeviceList{Devices: make([]DeviceEntry, MaxDeviceList+1)},
		&AuthDeviceList{Devices: []DeviceEntry{{Name: name + "n"}}},
		&AuthDeviceList{Devices: []DeviceEntry{{Created: -1}}},
		&AuthRosterPage{Issuers: make([][]byte, MaxRosterIssuers+1)},
		&AuthRosterPage{Entries: make([]RosterEntry, MaxRosterEntries+1)},
		&AuthRosterPage{Entries: []RosterEntry{{Addrs: make([]netip.AddrPort, 1)}}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v is appended", m)
				}
			}()
			m.Append(nil)
		}()
	}
}

// Addresses have one spelling: no zone, no IPv4 in IPv6.
func TestRosterAddresses(t *testing.T) {
	page := &AuthRosterPage{Entries: []RosterEntry{{Leaf: []byte{1}, Addrs: []netip.AddrPort{
		netip.MustParseAddrPort("[::ffff:192.0.2.1]:1"), netip.MustParseAddrPort("[fe80::1%eth0]:2")}}}}
	m, err := ParseAuth(FrameAuthRosterPage, page.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(m.(*AuthRosterPage).Entries[0].Addrs), "[192.0.2.1:1 [fe80::1]:2]"; got != want {
		t.Errorf("addresses %s, want %s", got, want)
	}
}

func TestCodes(t *testing.T) {
	for code, want := range map[Code]string{
		CodeBadCredentials: "bad_credentials", CodeNameTaken: "name_taken", CodeWeakPassword: "weak_password",
		CodeBadName: "bad_name", CodeRateLimited: "rate_limited", CodeNotAuthenticated: "not_authenticated",
		CodeDeviceOfOtherAccount: "device_of_other_account", CodeNoSuchDevice: "no_such_device", CodeMailboxFull: "mailbox_full", 0: "code_0", 19: "code_19", 0xffff: "code_65535",
	} {
		if got := code.String(); got != want {
			t.Errorf("code %d is %q, want %q", code, got, want)
		}
	}
	if len(codeNames) != 19 {
		t.Errorf("%d codes; they are only appended to", len(codeNames)-1)
	}
	for c, name := range codeNames[1:] {
		if name == "" {
			t.Errorf("code %d has no name", c+1)
		}
	}
}

func TestPrehashIsNotPrinted(t *testing.T) {
	m := AuthFinish{Prehash: [32]byte{0xab, 0xcd}, Device: "laptop"}
	c := AuthChange{Present: [32]byte{0xab, 0xcd}, Prehash: [32]byte{0xab, 0xcd}}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("said", "value", m, "pointer", &m, "change", c, "its pointer", &c)
	}
	for _, s := range []string{fmt.Sprint(m), fmt.Sprintf("%v %+v %#v %s", &m, &m, &m, m), fmt.Sprintf("%v %+v %#v %s", &c, &c, &c, c), log.String()} {
		if strings.Contains(s, "171") || strings.Contains(strings.ToLower(s), "abcd") || strings.Contains(s, "q80") || !strings.Contains(s, "redacted") {
			t.Errorf("the prehash is printed: %s", s)
		}
	}
}

func TestUnixMilli(t *testing.T) {
	for _, tt := range []struct {
		t    time.Time
		want int64
	}{{time.UnixMilli(5), 5}, {time.Unix(-1, 0), 0}, {time.Time{}, 0}} {
		if got := UnixMilli(tt.t); got != tt.want {
			t.Errorf("UnixMilli(%v) = %d, want %d", tt.t, got, tt.want)
		}
	}
}

func FuzzParseAuth(f *testing.F) {
	for _, tt := range authTests {
		f.Add(tt.m.FrameType(), authHex(f, tt.want))
	}
	f.Fuzz(func(t *testing.T, frameType byte, body []byte) {
		m, err := ParseAuth(frameType, body)
		if err != nil {
			return
		}
		if got := m.Append(nil); m.FrameType() != frameType || !bytes.Equal(got, body) {
			t.Errorf("%#x %x is parsed as %+v, which is appended as %#x %x", frameType, body, m, m.FrameType(), got)
		}
	})
}
