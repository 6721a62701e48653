package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

type appender interface{ Append([]byte) []byte }

// peerParsers takes every body of the peer conversation apart, by frame type.
var peerParsers = map[uint8]func([]byte) (appender, error){
	FrameHello:     erase(ParseHello),
	FramePing:      erase(ParsePing),
	FrameDirect:    erase(ParseDirectMessage),
	FrameDirectAck: erase(ParseDirectAck),
	FrameCopy:      erase(ParseCopy),
	FrameKey:       erase(ParseKey),
	FrameRoomInfo:  erase(ParseRoomInfo),
	FrameJoin:      erase(ParseJoin),
	FrameEnter:     erase(ParseEnter),
	FrameAct:       erase(ParseAct),
	FrameInvite:    erase(ParseInvite),
	FrameBase:      erase(ParseBase),
	FrameLog:       erase(ParseLogRange),
	FrameKeyOf:     erase(ParseKeyRequest),
	FramePart:      erase(ParsePart),
	FrameSigned:    erase(ParseSigned),
	FrameMirror:    erase(ParseMirror),
	FrameToken:     erase(ParseToken),
	FrameNewCRL:    erase(ParseNewCRL),
	FrameCRL:       erase(ParseCRL),
	FramePull:      erase(ParseVector),
	FrameAskText:   erase(ParseAskText),
	FrameRefused:   erase(ParseRefused),
	FramePeers:     erase(ParsePeers),
}

func erase[T appender](parse func([]byte) (T, error)) func([]byte) (appender, error) {
	return func(b []byte) (appender, error) {
		m, err := parse(b)
		if err != nil {
			return nil, err
		}
		return m, nil
	}
}

var peerTable = []struct {
	name string
	typ  uint8
	m    appender
	hex  string
	tail bool // the last field takes what is left, so prefixes and more bytes parse too
}{
	{"hello", FrameHello, &Hello{Version: 1, Boot: 2, Time: 0x0102030405, CRLNumber: 7},
		"0001 0000000000000002 0000000102030405 0000000000000007 00000000", false},
	{"ping", FramePing, &Ping{Nonce: 0xabcdef}, "0000000000abcdef" + strings.Repeat("00", pingPadding), false},
	{"direct message", FrameDirect, &DirectMessage{Clock: 0x10001, Message: Message{Number: 3, Ref: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, Text: "hi ✓"}},
		"0000000000010001 0000000000000003 04 0102030405060708 686920e29c93", true},
	{"action", FrameDirect, &DirectMessage{Message: Message{Number: 1, Verb: Action, Text: "waves"}},
		"0000000000000000 0000000000000001 01 7761766573", true},
	{"copy", FrameCopy, &Copy{Number: 5, To: account(2), Fast: true, DirectMessage: DirectMessage{Clock: 0x10001, Message: Message{Number: 3, Text: "hi"}}},
		"0000000000000005" + two + "01 0000000000010001 0000000000000003 00 6869", true},
	{"direct ack", FrameDirectAck, &DirectAck{Number: 9}, "0000000000000009", false},
	{"key", FrameKey, &Key{Room: RoomID{1}, Entry: Hash{2}, Secret: [32]byte{3}},
		"01" + strings.Repeat("00", 31) + "02" + strings.Repeat("00", 31) + "03" + strings.Repeat("00", 31), false},
	{"room info", FrameRoomInfo, &RoomInfo{Room: RoomID{1}, Admin: AccountID{2}, Writer: AccountID{8}, Seq: 5, Head: Hash{3}, Members: 4, Member: true, Name: "#lab", Topic: "t"},
		"01" + strings.Repeat("00", 31) + "02" + strings.Repeat("00", 15) + "08" + strings.Repeat("00", 15) + "0000000000000005" + "03" + strings.Repeat("00", 31) +
			"0004 00 01 04 236c6162 0001 74", false},
	{"join", FrameJoin, &Join{Room: RoomID{9}, Invite: []byte{1}}, "09" + strings.Repeat("00", 31) + "01", true},
	{"enter", FrameEnter, &Enter{Room: RoomID{9}}, "09" + strings.Repeat("00", 31), false},
	{"act", FrameAct, &Act{Room: RoomID{9}, Args: &LogKick{Account: account(2), Reason: "rude"}}, "09" + strings.Repeat("00", 31) + "03" + two + "04 72756465 00", false},
	{"act without arguments", FrameAct, &Act{Room: RoomID{9}, Args: &LogClaim{}}, "09" + strings.Repeat("00", 31) + "0d", false},
	{"invite", FrameInvite, SignInvite(entryRealm, entryKey, Invite{Room: RoomID{9}, Account: account(2), Seq: 7, Instead: RoomID{11}, Name: "#lab"}),
		"09" + strings.Repeat("00", 31) + two + "0000000000000007" + "0b" + strings.Repeat("00", 31) + "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c 04 236c6162" + inviteSignature, false},
	{"base", FrameBase, &Base{Room: RoomID{1}, Number: 2}, "01" + strings.Repeat("00", 31) + "0000000000000002", false},
	{"log range", FrameLog, &LogRange{Room: RoomID{1}, From: 4}, "01" + strings.Repeat("00", 31) + "0000000000000004", false},
	{"key request", FrameKeyOf, &KeyRequest{Room: RoomID{1}, Entry: Hash{2}}, "01" + strings.Repeat("00", 31) + "02" + strings.Repeat("00", 31), false},
	{"part", FramePart, &Part{Room: RoomID{1}, Packet: []byte{0x11, 0}}, "01" + strings.Repeat("00", 31) + "1100", true},
	{"mirror", FrameMirror, &Mirror{Seconds: 10}, "000a", false},
	{"token", FrameToken, &Token{Leaf: []byte{0x30, 1}, Issuing: []byte{0x30, 2, 3}}, "0002 3001 0003 300203", false},
	{"new crl", FrameNewCRL, &NewCRL{Number: 1_700_000_000}, "000000006553f100", false},
	{"crl", FrameCRL, &CRL{Issuing: []byte{0x30, 1}, List: []byte{0x30, 2, 3}}, "0002 3001 0003 300203", false},
	{"signed", FrameSigned, &Signed{Room: RoomID{1}, Entry: Hash{2}, Signed: []byte{3, 4}},
		"01" + strings.Repeat("00", 31) + "02" + strings.Repeat("00", 31) + "0304", true},
	{"vector", FramePull, &Vector{Room: RoomID{1}, After: DeviceID{2}, Has: []Have{{DeviceID{2, 7: 1}, 3}, {DeviceID{4}, 5}}},
		"01" + strings.Repeat("00", 31) + "0200000000000000 0200000000000001 0000000000000003 0400000000000000 0000000000000005", true},
	{"ask text", FrameAskText, &AskText{Room: RoomID{1}, Message: [8]byte{2, 7: 3}}, "01" + strings.Repeat("00", 31) + "0200000000000003", false},
	{"peers", FramePeers, &Peers{Entries: []PeerEntry{
		{Device: DeviceID{1}, Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.77.0.2:4749"), netip.MustParseAddrPort("[fe80::1]:1")}}, {Device: DeviceID{2}}}},
		"02 0100000000000000 02 04 0a4d0002 128d 06 fe800000000000000000000000000001 0001 0200000000000000 00", false},
	{"no peers", FramePeers, &Peers{}, "00", false},
	{"refused", FrameRefused, &Refused{Code: "banned", Text: "no"}, "06 62616e6e6564 0002 6e6f", false},
}

func TestPeerMessages(t *testing.T) {
	for _, tt := range peerTable {
		t.Run(tt.name, func(t *testing.T) {
			want, err := hex.DecodeString(strings.ReplaceAll(tt.hex, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			got := tt.m.Append([]byte("before"))
			if !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Errorf("appended\n%x, want\n%x", got[6:], want)
			}
			parse := peerParsers[tt.typ]
			m, err := parse(want)
			if err != nil {
				t.Fatalf("parsing: %v", err)
			}
			if !reflect.DeepEqual(m, tt.m) {
				t.Errorf("parsed %+v, want %+v", m, tt.m)
			}
			if tt.tail {
				return
			}
			for n := range want {
				if m, err := parse(want[:n]); err == nil {
					t.Errorf("the first %d bytes parsed as %+v", n, m)
				}
			}
			if _, err := parse(append(want, 0)); !errors.Is(err, ErrTrailing) {
				t.Errorf("one byte more: %v, want %v", err, ErrTrailing)
			}
		})
	}
}

// inviteSignature is a known answer.
const inviteSignature = "981d8551efcb60f830c47776a125a42bbc0648fa167b7c434d55fbebf27376d3e3508175957b63b6383a72391dc71165791833033b22f9649720c22a6f8ce507"

// An invite counts with its author's signature, in its realm.
func TestInviteSignature(t *testing.T) {
	m := SignInvite(entryRealm, entryKey, Invite{Room: RoomID{9}, Account: account(2), Seq: 7, Instead: RoomID{11}, Name: "#lab"})
	if err := m.Verify(entryRealm); err != nil {
		t.Error(err)
	}
	if err := m.Verify(RealmID{}); !errors.Is(err, ErrSignature) {
		t.Errorf("in another realm: %v", err)
	}
	b := m.Append(nil)
	for i := range b {
		b[i] ^= 1
		if m, err := ParseInvite(b); err == nil && m.Verify(entryRealm) == nil {
			t.Errorf("byte %d changed, and the signature fits", i)
		}
		b[i] ^= 1
	}
}

func TestPeerMessagesRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		typ  uint8
		hex  string
		want error
	}{
		{"direct message number 0", FrameDirect, "0000000000000000 0000000000000000 00 61", ErrValue},
		{"direct message reserved bit", FrameDirect, "0000000000000000 0000000000000001 08 61", ErrReserved},
		{"direct message not UTF-8", FrameDirect, "0000000000000000 0000000000000001 00 ff", ErrUTF8},
		{"direct message cut short", FrameDirect, "0000000000000000 0000000000000001", ErrTruncated},
		{"copy number 0", FrameCopy, "0000000000000000" + two + "00 0000000000000000 0000000000000001 00 61", ErrValue},
		{"copy that is neither fast nor not", FrameCopy, "0000000000000001" + two + "02 0000000000000000 0000000000000001 00 61", ErrValue},
		{"copy of nothing", FrameCopy, "0000000000000001" + two + "00", ErrTruncated},
		{"act of an unknown op", FrameAct, strings.Repeat("00", 32) + "12", ErrType},
		{"act with too much", FrameAct, strings.Repeat("00", 32) + "0d" + strings.Repeat("00", MaxArgs+1), ErrTooLong},
		{"invite with a long name", FrameInvite, strings.Repeat("00", 120) + "41" + strings.Repeat("61", 65) + strings.Repeat("00", 64), ErrTooLong},
		{"ping with padding", FramePing, "0000000000000001" + strings.Repeat("00", pingPadding-1) + "01", ErrReserved},
		{"token with a long leaf", FrameToken, "0401" + strings.Repeat("00", MaxCertificate+1) + "0000", ErrTooLong},
		{"crl with a long issuer", FrameCRL, "0401" + strings.Repeat("30", 1025) + "0000", ErrTooLong},
		{"crl too long", FrameCRL, "0000 e001" + strings.Repeat("30", 56<<10+1), ErrTooLong},
		{"vector cut short", FramePull, strings.Repeat("00", 40) + "0100000000000000 00000000000000", ErrTruncated},
		{"vector out of order", FramePull, strings.Repeat("00", 40) + "0200000000000000 0000000000000001 0100000000000000 0000000000000001", ErrValue},
		{"vector with a device twice", FramePull, strings.Repeat("00", 40) + "0200000000000000 0000000000000001 0200000000000000 0000000000000001", ErrValue},
		{"vector with a device before its beginning", FramePull, strings.Repeat("00", 32) + "0200000000000000 0200000000000000 0000000000000001", ErrValue},
		{"vector with number 0", FramePull, strings.Repeat("00", 40) + "0100000000000000 0000000000000000", ErrValue},
		{"vector too long", FramePull, strings.Repeat("00", 40) + strings.Repeat("01", (MaxHave+1)*haveSize), ErrTooLong},
		{"too many peers", FramePeers, "41" + strings.Repeat("0100000000000000 00", 65), ErrTooLong},
		{"a peer with too many addresses", FramePeers, "01 0100000000000000 09" + strings.Repeat("04 0a4d0002 128d", 9), ErrTooLong},
		{"a peer without an address family", FramePeers, "01 0100000000000000 01 05 0a4d0002 128d", ErrValue},
		{"refused with a long code", FrameRefused, "41" + strings.Repeat("61", 65) + "0000", ErrTooLong},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(tt.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := peerParsers[tt.typ](b); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// Whatever is accepted is written back byte for byte.
func FuzzParsePeer(f *testing.F) {
	for _, tt := range peerTable {
		f.Add(tt.typ, tt.m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, typ uint8, b []byte) {
		parse := peerParsers[typ]
		if parse == nil {
			return
		}
		m, err := parse(b)
		if err != nil {
			return
		}
		if got := m.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%#x: accepted %x, wrote back %x", typ, b, got)
		}
	})
}
