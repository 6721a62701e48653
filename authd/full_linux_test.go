package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lanchat/authd/serve"
	"lanchat/authd/server"
	"lanchat/testdata/bench/light"
	"lanchat/testdata/lan/disk"
	"lanchat/wire"
	"lanchat/wire/link"
)

// TestFullDisk has authd serve from a small disk, which fills up, and is
// later mounted read-only.
func TestFullDisk(t *testing.T) {
	disk.Small(t, func(d disk.Disk) {
		dir := filepath.Join(d.Dir, "authd")
		var free func()
		refuses(t, dir, "disk is full", "free some space", func() { free = d.Fill(t) }, func() {
			for _, args := range []string{"user disable alice", "user add carol", "backup " + filepath.Join(d.Dir, "backup.tar")} {
				_, errs, status := runAuthd(t, testPassword, append(strings.Fields(args), "--data", dir)...)
				if status != 1 || !strings.Contains(errs, "full") && !strings.Contains(errs, "no space") {
					t.Errorf("%s: got status %d, %q", args, status, errs)
				}
			}
		}, func() { free() })
		d.ReadOnly(t)
		readOnly(t, dir)
	})
}

// The disk turns read-only while authd serves, as one does that has a fault,
// and is mended.
func TestDiskTurnsReadOnly(t *testing.T) {
	set := disk.Failing(t)
	refuses(t, filepath.Join(t.TempDir(), "authd"), "can't be written", "mount its disk for writing",
		func() { set(true) }, func() {}, func() { set(false) })
}

// refuses has a disk broken under an authd that serves, and mended: meanwhile it
// grants nothing and says why to all who ask, with what to do about it, once in
// its log; afterwards it goes on by itself.
func refuses(t *testing.T, dir, trouble, cure string, breaks, during, mends func()) {
	t.Helper()
	a := start(t, dir)
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	tr := link.NewTransport(pc, nil)
	defer tr.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// arrive renews the token, or makes the account of who has none.
	arrive := func(n *light.Node) error {
		conn, err := n.Dial(ctx, tr, netip.MustParseAddrPort(a.block["address"]))
		if err != nil {
			return err
		}
		defer conn.CloseWithError(link.CloseGoodbye, "")
		if n.Grant != nil {
			return n.Renew(ctx, conn)
		}
		return n.LogIn(ctx, conn, wire.AuthRegister)
	}
	get := func() (s serve.Status) {
		t.Helper()
		if err := json.Unmarshal([]byte(must(t, "", "status", "--json", "--data", dir)), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	alice := newLight(t, "alice")
	if err := arrive(alice); err != nil {
		t.Fatal(err)
	}
	if s := get(); s.Trouble != "" || s.TroubleSince != nil {
		t.Errorf("before: got trouble %q since %v", s.Trouble, s.TroubleSince)
	}
	certificates := func() (n int) {
		t.Helper()
		db, err := sql.Open("sqlite3", filepath.Join(dir, server.DatabaseFile))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.QueryRow("SELECT count(*) FROM certificate").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}

	breaks()
	before := certificates()
	for range 3 {
		for _, n := range []*light.Node{newLight(t, "bob"), alice} {
			err := arrive(n)
			if r, ok := errors.AsType[*light.Refusal](err); !ok || r.Code != wire.CodeUnavailable || r.RetryAfter == 0 {
				t.Fatalf("on a broken disk: got %v, want %v and when to try again", err, wire.CodeUnavailable)
			}
		}
	}
	if got := certificates(); got != before {
		t.Errorf("%d certificates on record, before %d", got, before)
	}
	if s := get(); !strings.Contains(s.Trouble, trouble) || s.TroubleSince == nil {
		t.Errorf("status: got trouble %q since %v", s.Trouble, s.TroubleSince)
	}
	for _, tt := range []struct{ args, want string }{
		{"status", trouble},
		{"status", cure},
		{"status --metrics", "\nauthd_store_ok 0\n"},
	} {
		if out := must(t, "", append(strings.Fields(tt.args), "--data", dir)...); !strings.Contains(out, tt.want) {
			t.Errorf("%s: no %q in\n%s", tt.args, tt.want, out)
		}
	}
	during()

	mends() // nothing has to be done about authd
	for tick := time.NewTicker(50 * time.Millisecond); get().Trouble != ""; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("still in trouble")
		}
	}
	for _, n := range []*light.Node{newLight(t, "bob"), alice} {
		if err := arrive(n); err != nil {
			t.Errorf("on a disk that works again: %v", err)
		}
	}
	if got := a.stop(syscall.SIGTERM); got != 0 {
		t.Errorf("got status %d", got)
	}
	for _, tt := range []struct {
		want string
		n    int
	}{{"level=ERROR", 1}, {cure, 1}, {"works again", 1}} {
		if got := strings.Count(a.stderr.String(), tt.want); got != tt.n {
			t.Errorf("%q is %d times in the log, want %d:\n%s", tt.want, got, tt.n, &a.stderr)
		}
	}
}

func readOnly(t *testing.T, dir string) {
	for _, args := range []string{"fingerprint", "code"} {
		must(t, "", args, "--data", dir)
	}
	for _, args := range []string{"--listen 127.0.0.1:0 --iface lo --no-mdns", "user add dave", "user disable alice"} {
		_, errs, status := runAuthd(t, testPassword, append(strings.Fields(args), "--data", dir)...)
		if status != 1 || !strings.Contains(errs, "read-only") && !strings.Contains(errs, "mount its disk for writing") || !strings.Contains(errs, dir) {
			t.Errorf("authd %s: got status %d, %q", args, status, errs)
		}
	}
}
