package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// busConfig is that of a session bus that starts nothing by itself.
const busConfig = `<busconfig>
	<type>session</type>
	<listen>unix:path=%s</listen>
	<auth>EXTERNAL</auth>
	<policy context="default">
		<allow send_destination="*" eavesdrop="true"/>
		<allow eavesdrop="true"/>
		<allow own="*"/>
	</policy>
</busconfig>
`

// A desktop is a notification service, as far as it is called. It takes the
// methods of org.freedesktop.Notifications.
type desktop struct{ shown chan [3]string }

func (d *desktop) Notify(app string, _ uint32, _, title, text string, _ []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	d.shown <- [3]string{app, title, text}
	return 1, nil
}

func (d *desktop) GetServerInformation() (name, vendor, version, spec string, _ *dbus.Error) {
	return "test", "test", "1", "1.2", nil
}

func (d *desktop) GetCapabilities() ([]string, *dbus.Error) { return []string{"body"}, nil }

func (d *desktop) CloseNotification(uint32) *dbus.Error { return nil }

// startBus starts a session bus of the test's own.
func startBus(t *testing.T) (address string) {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("dbus-daemon is not installed: no notification is tried against a real bus")
	}
	dir := t.TempDir()
	socket, config := filepath.Join(dir, "bus"), filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	bus := exec.Command("dbus-daemon", "--nofork", "--print-address", "--config-file="+config)
	bus.Stderr = t.Output()
	out, err := bus.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		bus.Process.Kill()
		bus.Wait()
	})
	if address, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the bus says no address: %v", err)
	}
	return strings.TrimSpace(address)
}

// A notification reaches the desktop's service over a real session bus, and
// without what the service could take for markup. Where nobody serves, the person
// is told.
func TestNotifyByBus(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", startBus(t))
	t.Setenv("PATH", t.TempDir()) // no notify-send to fall back on
	if err := notify("lanchat: #lab", "bob: hi"); err == nil {
		t.Error("nobody serves notifications, and one was shown")
	}

	conn, err := dbus.ConnectSessionBus()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d := &desktop{shown: make(chan [3]string, 10)}
	const name = "org.freedesktop.Notifications"
	if err := conn.Export(d, "/org/freedesktop/Notifications", name); err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("serving notifications: %v, %v", reply, err)
	}
	for range 2 { // and again
		if err := notify("lanchat: #lab", "bob: <b>hi</b> & bye"); err != nil {
			t.Fatal(err)
		}
		if got, want := <-d.shown, [3]string{"lanchat", "lanchat: #lab", "bob: ‹b›hi‹/b› ＆ bye"}; got != want {
			t.Errorf("the desktop shows %q, want %q", got, want)
		}
	}
}
