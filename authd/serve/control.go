package serve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"time"

	"lanchat/wire/private"
)

// program is what the control socket is named after.
const program = "authd"

// controlTimeout bounds one conversation over the control socket.
const controlTimeout = 5 * time.Second

// Bounds of a request and of an answer, in bytes.
const (
	maxControlRequest = 64
	maxControlAnswer  = 1 << 20
)

// ErrNotRunning says that no authd serves from a data directory.
var ErrNotRunning = errors.New("authd is not running")

// A control answers the operator's commands that need the running authd. A
// request is a line of one word, the answer whatever comes until the end.
// Nobody else can reach it: the socket is 0600 in a directory that is 0700.
type control struct {
	ln     net.Listener
	answer func(request string) ([]byte, error)
	done   chan struct{}
}

// startControl opens the control socket. The caller holds the directory's
// lock, so a socket that is there is a dead one; and closes what it returns.
// Requests are answered one after the other, from a goroutine.
func startControl(data string, answer func(request string) ([]byte, error)) (*control, error) {
	ln, err := private.ListenSocket(data, program)
	if err != nil {
		return nil, err
	}
	c := &control{ln, answer, make(chan struct{})}
	go c.run()
	return c, nil
}

func (c *control) run() {
	defer close(c.done)
	for {
		conn, err := c.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files: that passes
			time.Sleep(100 * time.Millisecond)
			continue
		}
		c.handle(conn)
	}
}

func (c *control) handle(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(controlTimeout))
	request, err := bufio.NewReader(io.LimitReader(conn, maxControlRequest)).ReadString('\n')
	if err != nil {
		return
	}
	// An answer that is cut short or missing is the client's to notice.
	if b, err := c.answer(strings.TrimSuffix(request, "\n")); err == nil {
		conn.Write(b)
	}
}

// Close closes the socket, once a request that is being answered is.
func (c *control) Close() error {
	err := c.ln.Close()
	<-c.done
	return err
}

// askControl has the running authd of a data directory answer a request.
func askControl(data, request string) ([]byte, error) {
	conn, err := private.DialSocket(data, program)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		return nil, fmt.Errorf("%w on %q", ErrNotRunning, data)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(controlTimeout))
	var b []byte
	if _, err = io.WriteString(conn, request+"\n"); err == nil {
		b, err = io.ReadAll(io.LimitReader(conn, maxControlAnswer))
	}
	if err == nil && len(b) == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("asking the running authd: %w", err)
	}
	return b, nil
}
