package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/gen2brain/beeep"
)

// notify shows a notification through the desktop's service: by D-Bus, or by
// notify-send where that answers no call.
func notify(title, text string) error {
	if err := localBus(); err != nil {
		return err
	}
	beeep.AppName = "lanchat"
	return beeep.Notify(unmarked.Replace(title), unmarked.Replace(text), "")
}

// unmarked takes out what some services take for markup, or platforms' openers
// for more than text.
var unmarked = strings.NewReplacer("<", "‹", ">", "›", "&", "＆", `"`, "'", "`", "'", "$", "＄", `\`, "＼")

// localBus makes sure that the session bus is a Unix socket. Its address may
// name a TCP port instead, and nothing here ever opens one; and where there is no
// address, none is to be started.
func localBus() error {
	const name = "DBUS_SESSION_BUS_ADDRESS"
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" {
		return nil
	}
	address := os.Getenv(name)
	if address == "" {
		socket := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus")
		if info, err := os.Stat(socket); err != nil || info.Mode().Type() != os.ModeSocket {
			return errors.New("there is no desktop session here")
		}
		address = "unix:path=" + socket
		os.Setenv(name, address)
	}
	for one := range strings.SplitSeq(address, ";") {
		if !strings.HasPrefix(one, "unix:") {
			return fmt.Errorf("the session bus is no Unix socket but %q", one)
		}
	}
	return nil
}
