package private

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

// maxSocketPath is in bytes; the shortest limit of a platform is 104.
const maxSocketPath = 100

// SocketPath returns where the running program of a data directory listens
// for its operator: beside the data, or in the runtime directory when that
// path is too long for a socket.
func SocketPath(dir, program string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if path := filepath.Join(abs, program+".sock"); len(path) <= maxSocketPath {
		return path, nil
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(xdg.RuntimeDir, "lanchat-"+program+"-"+hex.EncodeToString(sum[:8])+".sock"), nil
}

// ListenSocket opens that socket, for its owner only. The caller holds the
// directory's lock, so a socket that is there is a dead one.
func ListenSocket(dir, program string) (net.Listener, error) {
	path, err := SocketPath(dir, program)
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

// DialSocket connects to the running program of a data directory. An error is
// that none is running.
func DialSocket(dir, program string) (net.Conn, error) {
	path, err := SocketPath(dir, program)
	if err != nil {
		return nil, err
	}
	return net.Dial("unix", path)
}
