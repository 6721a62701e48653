package discovery

import "golang.org/x/sys/windows"

// share lets several programs of this machine bind the port.
func share(fd uintptr) error {
	return windows.SetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, windows.SO_REUSEADDR, 1)
}
