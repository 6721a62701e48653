package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lanchat/authd/serve"
	"lanchat/authd/server"
	"lanchat/testdata/bench/light"
	"lanchat/wire"
	"lanchat/wire/link"
)

// TestFullDisk has authd serve from a disk of 1 MB, which fills up and is later
// read-only: one in memory, mounted by a copy of the test in a namespace of its
// own.
func TestFullDisk(t *testing.T) {
	const inside = "LANCHAT_TEST_MOUNT"
	if dir := os.Getenv(inside); dir != "" {
		const options = "size=1m,mode=0700"
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
			t.Skipf("this machine forbids mounts in a namespace: %v", err)
		}
		fillsUp(t, filepath.Join(dir, "authd"), filepath.Join(dir, "ballast"))
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, options); err != nil {
			t.Fatal(err)
		}
		readOnly(t, filepath.Join(dir, "authd"))
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		t.Skipf("this machine forbids user namespaces: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Skipf("%s", out)
	}
}

func fillsUp(t *testing.T, dir, ballast string) {
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

	fill(t, ballast)
	before := certificates()
	for range 3 {
		for _, n := range []*light.Node{newLight(t, "bob"), alice} {
			err := arrive(n)
			if r, ok := errors.AsType[*light.Refusal](err); !ok || r.Code != wire.CodeUnavailable || r.RetryAfter == 0 {
				t.Fatalf("on a full disk: got %v, want %v and when to try again", err, wire.CodeUnavailable)
			}
		}
	}
	if got := certificates(); got != before {
		t.Errorf("%d certificates on record, before %d", got, before)
	}
	if s := get(); !strings.Contains(s.Trouble, "disk is full") || s.TroubleSince == nil {
		t.Errorf("status: got trouble %q since %v", s.Trouble, s.TroubleSince)
	}
	for _, tt := range []struct{ args, want string }{
		{"status", "disk is full"},
		{"status --metrics", "\nauthd_store_ok 0\n"},
	} {
		if out := must(t, "", append(strings.Fields(tt.args), "--data", dir)...); !strings.Contains(out, tt.want) {
			t.Errorf("%s: no %q in\n%s", tt.args, tt.want, out)
		}
	}
	for _, args := range []string{"user disable alice", "user add carol", "backup " + filepath.Join(filepath.Dir(ballast), "backup.tar")} {
		_, errs, status := runAuthd(t, testPassword, append(strings.Fields(args), "--data", dir)...)
		if status != 1 || !strings.Contains(errs, "full") && !strings.Contains(errs, "no space") {
			t.Errorf("%s: got status %d, %q", args, status, errs)
		}
	}

	// Space is back: nothing has to be done about authd.
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for tick := time.NewTicker(50 * time.Millisecond); get().Trouble != ""; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("still in trouble")
		}
	}
	for _, n := range []*light.Node{newLight(t, "bob"), alice} {
		if err := arrive(n); err != nil {
			t.Errorf("with space again: %v", err)
		}
	}
	if got := a.stop(syscall.SIGTERM); got != 0 {
		t.Errorf("got status %d", got)
	}
	for _, tt := range []struct {
		want string
		n    int
	}{{"level=ERROR", 1}, {"free some space", 1}, {"works again", 1}} {
		if got := strings.Count(a.stderr.String(), tt.want); got != tt.n {
			t.Errorf("%q is %d times in the log, want %d:\n%s", tt.want, got, tt.n, &a.stderr)
		}
	}
}

// fill writes until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want a full disk", err)
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
