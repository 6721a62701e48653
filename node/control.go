package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/adrg/xdg"
)

// controlPath returns where the running node of a data directory listens for
// one-shot commands: beside the data, or in the runtime directory when that
// path is too long for a socket.
func controlPath(data string) (string, error) {
	abs, err := filepath.Abs(data)
	if err != nil {
		return "", err
	}
	if path := filepath.Join(abs, "node.sock"); len(path) <= maxSocketPath {
		return path, nil
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(xdg.RuntimeDir, "lanchat-"+hex.EncodeToString(sum[:8])+".sock"), nil
}

const maxSocketPath = 100 // bytes; the shortest limit of a platform is 104

// listenControl opens the control socket. The caller holds the directory's
// lock, so a socket that is there is a dead one.
func listenControl(data string) (net.Listener, error) {
	path, err := controlPath(data)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("closing the control socket to others: %w", err)
	}
	return ln, nil
}

// dialControl connects to the running node of a data directory; nil without
// an error: none is running.
func dialControl(data string) (net.Conn, error) {
	path, err := controlPath(data)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, nil
	}
	return conn, nil
}
