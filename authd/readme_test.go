package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lanchat/wire/link"
)

// What the README's commands need of a machine that a test must leave alone.
// The rest they do as they stand there, on another directory.
const readmePrelude = `set -eu
go() { :; }
useradd() { :; }
journalctl() { :; }
install() { case "$1$2" in -d*) mkdir -m 700 -p "$BACKUPS";; esac; }
sudo() { if [ "$1" = -u ]; then shift 2; fi; "$@"; }
authd() { echo 'seventeen wet herons' | "$EXE" --data "$DATA" "$@"; }
systemctl() {
	case "$1" in
	stop) kill "$pid"; wait "$pid"; echo "stopped with $?";;
	start|enable)
		"$EXE" --data "$DATA" --listen 127.0.0.1:0 --iface lo --no-mdns & pid=$!
		until authd status >/dev/null 2>&1; do kill -0 "$pid"; sleep 0.1; done;;
	restart) systemctl stop; systemctl start;;
	esac
}
`

// TestREADME does what the README tells operators to do, in its order, on a
// fresh directory.
func TestREADME(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell")
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(readme), "\n## Operating authd\n")
	section, _, end := strings.Cut(section, "\n## ")
	if !found || !end {
		t.Fatal("the README has no such section")
	}
	data, backups := filepath.Join(t.TempDir(), "authd"), filepath.Join(t.TempDir(), "backups")
	script := readmePrelude
	commands := 0
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			commands++
			script += "echo " + "'$ " + strings.ReplaceAll(strings.TrimSpace(command), "'", `'\''`) + "'\n" + command
		}
	}
	script += "systemctl stop\n"
	script = strings.NewReplacer("/var/lib/lanchat-authd", data, "/var/backups/lanchat", backups).Replace(script)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, sh, "-c", script)
	cmd.Env = append(os.Environ(), asAuthd+"=1", "EXE="+os.Args[0], "DATA="+data, "BACKUPS="+backups)
	out, err := cmd.CombinedOutput()
	if err != nil || commands < 20 {
		t.Fatalf("%v, after %d commands:\n%s", err, commands, out)
	}
	for _, want := range []string{"accounts     0\n", "LC1-", "ann  enabled", "accounts     1\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is nowhere in\n%s", want, out)
		}
	}
	if got := strings.Count(string(out), "stopped with 0\n"); got != 3 {
		t.Errorf("it was stopped %d times, want 3:\n%s", got, out)
	}
	if b, err := os.ReadFile(filepath.Join(data, rootFile)); err != nil || strings.Contains(string(b), "PRIVATE KEY") {
		t.Errorf("the root key is still there, %v", err)
	}
	// A node is served without the root's key.
	a := start(t, data)
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	tr := link.NewTransport(pc, nil)
	defer tr.Close()
	conn, err := newLight(t, "bob").Dial(ctx, tr, netip.MustParseAddrPort(a.block["address"]))
	if err != nil {
		t.Fatal(err)
	}
	conn.CloseWithError(link.CloseGoodbye, "")
}
