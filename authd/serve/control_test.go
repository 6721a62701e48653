package serve

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adrg/xdg"

	"lanchat/wire/private"
)

// Whoever has an authd inside their program has what operators ask it by.
func TestStatusInside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authd")
	if _, err := ReadStatus(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("before: %v, want %v", err, ErrNotRunning)
	}
	a, err := Open(Config{Data: dir, Name: "inside", Listen: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, Ifaces: []string{"lo"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- a.Run(ctx) }()
	s, err := ReadStatus(dir)
	if err != nil || s.Realm != "inside" || s.Address != a.Server.Addr().String() {
		t.Errorf("got %+v, %v", s, err)
	}
	if b, err := ReadMetrics(dir); err != nil || !strings.Contains(string(b), "\nauthd_accounts 0\n") {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := askControl(dir, "nonsense"); err == nil {
		t.Error("nonsense was answered")
	}
	stop()
	if err := errors.Join(<-ran, a.Close()); err != nil {
		t.Error(err)
	}
	if _, err := ReadStatus(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after: %v, want %v", err, ErrNotRunning)
	}
}

// A path that is too long for a socket gives way to one that is not.
func TestControlPathTooLong(t *testing.T) {
	saved := xdg.RuntimeDir
	xdg.RuntimeDir = t.TempDir()
	defer func() { xdg.RuntimeDir = saved }()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 20))
	path, err := private.SocketPath(dir, program)
	if err != nil || filepath.Dir(path) != xdg.RuntimeDir || len(path) > 100 {
		t.Fatalf("got %q, %v, want a short one in the runtime directory", path, err)
	}
	if again, _ := private.SocketPath(dir+"er", program); again == path {
		t.Errorf("two directories share %q", path)
	}
	c, err := startControl(dir, func(request string) ([]byte, error) { return []byte("to " + request), nil })
	if err != nil {
		t.Fatal(err)
	}
	// One that says nothing and goes away is in nobody's way.
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if b, err := askControl(dir, "question"); err != nil || string(b) != "to question" {
		t.Errorf("got %q, %v", b, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
