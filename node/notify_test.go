package main

import (
	"net"
	"path/filepath"
	"runtime"
	"testing"
)

// Rule: "UDP only". A session bus that is no Unix socket is not asked.
func TestNotifyStaysHere(t *testing.T) {
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" {
		t.Skip("there is no session bus here")
	}
	empty, desktop := t.TempDir(), t.TempDir()
	bus, err := net.Listen("unix", filepath.Join(desktop, "bus"))
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	for _, tt := range []struct {
		address, runtime string
		ok               bool
	}{
		{"unix:path=/run/user/1000/bus", empty, true},
		{"unix:path=/a;unix:abstract=/b", empty, true},
		{"tcp:host=10.0.0.1,port=12345", empty, false},
		{"unix:path=/a;tcp:host=10.0.0.1,port=12345", empty, false},
		{"unixexec:path=/bin/sh", empty, false},
		{"autolaunch:", desktop, false},
		{"", empty, false},
		{"", desktop, true},
	} {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", tt.address)
		t.Setenv("XDG_RUNTIME_DIR", tt.runtime)
		if err := localBus(); (err == nil) != tt.ok {
			t.Errorf("%q: got %v, want it asked: %v", tt.address, err, tt.ok)
		}
	}
	if got := unmarked.Replace(`<b onclick="x">$(id)&` + "`id`" + `\`); got != "‹b onclick='x'›＄(id)＆'id'＼" {
		t.Errorf("a service is handed %q", got)
	}
}
