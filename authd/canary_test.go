package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/authd/server"
	"lanchat/node/login"
	"lanchat/testdata/bench/light"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

// hostile is what somebody sends for a name: it would clear a terminal, hide
// text and begin lines of its own.
const hostile = "\x1b[2J\x1b]0;evil\a\u202eevil\r\nlevel=ERROR msg=evil \u200b<red>"

// TestNoSecretsNoRawBytes sends canaries through authd: passwords, what is made
// of them, codes, and names that would steer a terminal. No secret may be in
// the log, on standard output, in an answer to the operator, in the metrics or,
// as it is, in the database; nothing that somebody sent reaches any of those
// raw.
func TestNoSecretsNoRawBytes(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) { canaries(t, format) })
	}
}

func canaries(t *testing.T, format string) {
	dir, metrics := filepath.Join(t.TempDir(), "authd"), filepath.Join(t.TempDir(), "authd.prom")
	a := start(t, dir, "--registration", "invite", "--log-format", format, "--metrics-file", metrics)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	secrets := map[string][]byte{} // what nobody may find again, by what it is

	code, err := realm.ParseJoinCode(must(t, "", "code", "--data", dir))
	if err != nil {
		t.Fatal(err)
	}
	secrets["join code"], secrets["invite"] = []byte(code.String()), code.Invite
	const password, second, third = "canary wet herons one", "canary dry newts two", "canary old otters three"
	secrets["password"], secrets["second password"], secrets["third password"] = []byte(password), []byte(second), []byte(third)

	// The operator's part.
	must(t, password, "user", "add", "carol", "--data", dir)
	must(t, second, "user", "passwd", "carol", "--data", dir)
	reset, errs, status := runAuthd(t, "", "user", "reset", "carol", "--data", dir)
	if reset = strings.TrimSpace(reset); status != 0 || reset == "" {
		t.Fatalf("user reset: got status %d, %q, %q", status, reset, errs)
	}
	secrets["one-time code"] = []byte(reset)

	// People's: with the real log-in, and with the frames in hand.
	alice := newDevice(t)
	alice.with(a, func(s *login.Session) {
		if _, err := s.Register(ctx, "alice", third, nil, "laptop"); err == nil {
			t.Error("registered without an invite")
		}
	})
	alice.with(a, func(s *login.Session) {
		if _, err := s.Register(ctx, "alice", third, code.Invite, hostile); err != nil {
			t.Errorf("registering: %v", err)
		}
	})
	newDevice(t).with(a, func(s *login.Session) {
		if _, err := s.Login(ctx, "alice", password, hostile); err == nil {
			t.Error("logged in with a wrong password")
		}
	})
	resetCode, err := realm.ParseResetCode(reset)
	if err != nil {
		t.Fatal(err)
	}
	newDevice(t).with(a, func(s *login.Session) {
		if _, err := s.Recover(ctx, "carol", resetCode, third, "phone"); err != nil {
			t.Errorf("recovering: %v", err)
		}
	})
	r, _, err := server.ReadRealm(dir)
	if err != nil {
		t.Fatal(err)
	}
	st := openStore(t, dir)
	for name, password := range map[string]string{"alice": third, "carol": third} {
		acct, err := st.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := realm.Prehash(password, r.ID, acct.Salt)
		if err != nil {
			t.Fatal(err)
		}
		secrets[name+"'s prehash"] = hash[:]
	}
	rude(t, ctx, netip.MustParseAddrPort(a.block["address"]), secrets)

	// Where it may be found.
	places := map[string][]byte{}
	for _, args := range []string{"status", "status --json", "status --metrics", "user list", "user list --json", "device list alice"} {
		places[args] = []byte(must(t, "", append(strings.Fields(args), "--data", dir)...))
	}
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest := <-a.rest
	a.cmd.Wait()
	for _, v := range a.block {
		rest += v + "\n"
	}
	places["standard output"], places["standard error"] = []byte(rest), a.stderr.Bytes()
	if !bytes.Contains(places["standard error"], []byte("refused")) || !bytes.Contains(places["standard error"], []byte("alice")) {
		t.Errorf("the log is not that of what happened:\n%s", places["standard error"])
	}
	if format == "json" {
		for line := range bytes.Lines(places["standard error"]) {
			var said struct{ Msg, User, Device, From, Code string }
			if err := json.Unmarshal(line, &said); err != nil {
				t.Errorf("%v: %q", err, line)
			}
			if _, err := wire.ParseDeviceID(said.Device); said.Msg == "registered" && (err != nil || said.User == "" || said.From == "") ||
				said.Msg == "refused" && !strings.Contains(said.Code, "_") {
				t.Errorf("got %+v: %q", said, line)
			}
		}
	}
	if places["metrics file"], err = os.ReadFile(metrics); err != nil {
		t.Error(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, server.DatabaseFile+suffix))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		places["database"+suffix] = b
	}
	for where, b := range places {
		for what, secret := range secrets {
			for _, form := range [][]byte{secret, []byte(hex.EncodeToString(secret)), []byte(base64.StdEncoding.EncodeToString(secret))} {
				if bytes.Contains(b, form) {
					t.Errorf("%s: the %s is there", where, what)
				}
			}
		}
		if strings.HasPrefix(where, "database") {
			if bytes.Contains(b, []byte("\x1b[2J")) {
				t.Errorf("%s: control characters", where)
			}
			continue
		}
		for _, c := range string(b) {
			if c < ' ' && c != '\n' || c == 0x7f || c >= 0x80 && c < 0xa0 || c == '\u202e' || c == '\u200b' {
				t.Errorf("%s: the character %U is there", where, c)
				break
			}
		}
		if strings.HasPrefix(where, "standard") && bytes.Contains(b, []byte("evil")) {
			t.Errorf("%s: something that was sent is there:\n%s", where, b)
		}
	}
}

// rude sends what no node sends.
func rude(t *testing.T, ctx context.Context, to netip.AddrPort, secrets map[string][]byte) {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9)})
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	tr := link.NewTransport(pc, nil)
	defer tr.Close()
	on := func(f func(*quic.Conn)) {
		conn, err := newLight(t, "mallory").Dial(ctx, tr, to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseWithError(link.CloseGoodbye, hostile) // a reason of theirs
		f(conn)
	}
	name := hostile
	for _, m := range []wire.AuthMessage{
		&wire.AuthStart{Kind: wire.AuthRegister, Method: wire.AuthPrehash, Name: name, Invite: secrets["invite"]},
		&wire.AuthStart{Kind: wire.AuthRegister, Method: wire.AuthPrehash, Name: "mallory", Invite: []byte("evil\x1b[2J")},
		&wire.AuthStart{Kind: wire.AuthLogin, Method: 99, Name: name},
		&wire.AuthRename{Name: name},
		&wire.AuthRenew{},
	} {
		on(func(conn *quic.Conn) {
			if _, err := light.Ask(ctx, conn, m); err == nil {
				t.Errorf("%T with nonsense was answered with something but a refusal", m)
			}
		})
	}
	on(func(conn *quic.Conn) { // a log-in under a name that cannot be
		n := newLight(t, name)
		n.LogIn(ctx, conn, wire.AuthLogin)
	})
	for _, raw := range []string{hostile, "\x01\x00\x00\x00\x04evil", strings.Repeat("\x00", 100)} {
		on(func(conn *quic.Conn) {
			stream, err := conn.OpenStreamSync(ctx)
			if err != nil {
				t.Fatal(err)
			}
			stream.Write([]byte(raw))
			stream.Close()
			link.ReadAuth(stream) // a refusal or the end: it was read
		})
	}
}
