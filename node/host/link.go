package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/node/chat"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

const (
	helloWait   = 5 * time.Second // for the other side's Hello
	answerWait  = 5 * time.Second // for the whole answer to a question
	maxQueued   = 8 << 20         // bytes waiting for one slow peer; beyond, its link is cut
	maxWrite    = 16 << 10        // bytes from which on what waits is not gathered into one write
	maxFast     = 256             // datagrams waiting for one peer; beyond, the oldest goes
	maxAnswer   = 16 << 20        // bytes of one answer
	frameTakes  = 64              // bytes that a frame takes here beside its body: empty ones are counted too
	maxQuestion = 16              // questions of one peer being answered at once
)

// A peerLink is an authenticated QUIC connection to another device. Its
// fields are set before it is announced and not changed afterwards, except
// token, which the loop owns then; the loop owns the map of links.
type peerLink struct {
	conn    *quic.Conn
	control *quic.Stream
	token   *realm.Token
	hello   wire.Hello
	dialled bool // by us

	// Owned by the loop.
	since     time.Time
	heard     time.Time // last
	suspected time.Time // of being dead; zero: not
	told      uint64    // the number of our revocation list that the other side knows of
	offered   uint64    // the number of its own, as it says
	empty     bool      // it did not have what it offered, and is not asked again

	mu     sync.Mutex
	frames []chat.Frame // waiting to be written to control
	queued int          // bytes in frames
	fast   [][]byte     // waiting to be sent as datagrams
	wake   chan struct{}
	wakeDG chan struct{}
}

// greet exchanges Hellos on a connection whose TLS handshake is done, and
// returns the link. In TLS 1.3 a dialler is through before the other side has
// judged its certificate: only the Hello says that it was accepted.
func greet(ctx context.Context, conn *quic.Conn, token *realm.Token, dialled bool, mine wire.Hello) (*peerLink, error) {
	ctx, cancel := context.WithTimeout(ctx, helloWait)
	defer cancel()
	l := &peerLink{conn: conn, token: token, dialled: dialled, told: mine.CRLNumber, wake: make(chan struct{}, 1), wakeDG: make(chan struct{}, 1)}
	var err error
	if dialled {
		l.control, err = conn.OpenStreamSync(ctx)
	} else {
		l.control, err = conn.AcceptStream(ctx)
		if err == nil {
			l.control.ReleaseStreamCredit()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the control stream: %w", err)
	}
	deadline, _ := ctx.Deadline()
	l.control.SetDeadline(deadline)
	if dialled {
		if err := link.WriteFrame(l.control, wire.FrameHello, mine.Append(nil)); err != nil {
			return nil, fmt.Errorf("saying hello: %w", err)
		}
	}
	typ, body, err := link.ReadFrame(l.control)
	if err != nil {
		return nil, fmt.Errorf("waiting for hello: %w", err)
	}
	if typ != wire.FrameHello {
		return nil, fmt.Errorf("waiting for hello: frame %#x: %w", typ, wire.ErrType)
	}
	hello, err := wire.ParseHello(body)
	if err != nil {
		return nil, err
	}
	l.hello = *hello
	if !dialled {
		if err := link.WriteFrame(l.control, wire.FrameHello, mine.Append(nil)); err != nil {
			return nil, fmt.Errorf("answering hello: %w", err)
		}
	}
	return l, l.control.SetDeadline(time.Time{})
}

// push queues a frame for the control stream. A peer that does not read is
// cut: what it has not acknowledged waits in the outbox.
func (l *peerLink) push(f chat.Frame) {
	l.mu.Lock()
	l.frames = append(l.frames, f)
	l.queued += len(f.Body)
	full := l.queued > maxQueued
	l.mu.Unlock()
	if full {
		l.close(link.CloseRefused, "too slow")
		return
	}
	signal(l.wake)
}

// datagram queues a DATAGRAM. quic-go's own queue blocks when the path is
// dead; ours forgets the oldest instead.
func (l *peerLink) datagram(b []byte) {
	l.mu.Lock()
	if len(l.fast) >= maxFast {
		l.fast = l.fast[1:]
	}
	l.fast = append(l.fast, b)
	l.mu.Unlock()
	signal(l.wakeDG)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *peerLink) close(code quic.ApplicationErrorCode, why string) {
	l.conn.CloseWithError(code, why)
}

// writeFrames writes what push queued until the connection ends.
func (l *peerLink) writeFrames() {
	for {
		select {
		case <-l.wake:
		case <-l.conn.Context().Done():
			return
		}
		l.mu.Lock()
		frames := l.frames
		l.frames, l.queued = nil, 0
		l.mu.Unlock()
		var b []byte // frames that wait together are written together
		for i, f := range frames {
			b = link.AppendFrame(b, f.Type, f.Body)
			if len(b) < maxWrite && i < len(frames)-1 {
				continue
			}
			if _, err := l.control.Write(b); err != nil {
				l.close(link.CloseProtocol, "control stream broken")
				return
			}
			b = b[:0]
		}
	}
}

func (l *peerLink) writeDatagrams() {
	for {
		select {
		case <-l.wakeDG:
		case <-l.conn.Context().Done():
			return
		}
		for {
			l.mu.Lock()
			if len(l.fast) == 0 {
				l.mu.Unlock()
				break
			}
			b := l.fast[0]
			l.fast = l.fast[1:]
			l.mu.Unlock()
			if err := l.conn.SendDatagram(b); err != nil && l.conn.Context().Err() != nil {
				return
			}
		}
	}
}

// readFrames hands every frame of the control stream to handle.
func (l *peerLink) readFrames(handle func(typ uint8, body []byte)) {
	in := bufio.NewReaderSize(l.control, 512) // long frames pass it by
	for {
		typ, body, err := link.ReadFrame(in)
		if err != nil {
			l.close(link.CloseProtocol, "control stream ended")
			return
		}
		handle(typ, body)
	}
}

func (l *peerLink) readDatagrams(handle func(body []byte)) {
	for {
		b, err := l.conn.ReceiveDatagram(l.conn.Context())
		if err != nil {
			return
		}
		handle(b)
	}
}

// ask puts one question and reads the whole answer.
func (l *peerLink) ask(typ uint8, body []byte) ([]chat.Frame, error) {
	ctx, cancel := context.WithTimeout(l.conn.Context(), answerWait)
	defer cancel()
	s, err := l.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening a stream: %w", err)
	}
	defer s.CancelRead(0)
	s.SetDeadline(time.Now().Add(answerWait))
	if err := link.WriteFrame(s, typ, body); err != nil {
		return nil, fmt.Errorf("asking: %w", err)
	}
	s.Close()
	var frames []chat.Frame
	for size := 0; size <= maxAnswer; {
		typ, body, err := link.ReadFrame(s)
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the answer: %w", err)
		}
		size += len(body) + frameTakes
		frames = append(frames, chat.Frame{Type: typ, Body: body})
	}
	return nil, errors.New("reading the answer: it is too long")
}

// questions hands every question of the peer to handle, with the stream the
// answer goes to.
func (l *peerLink) questions(handle func(typ uint8, body []byte, s *quic.Stream)) {
	slots := make(chan struct{}, maxQuestion)
	for {
		s, err := l.conn.AcceptStream(l.conn.Context())
		if err != nil {
			return
		}
		slots <- struct{}{}
		go func() {
			defer func() {
				s.ReleaseStreamCredit()
				<-slots
			}()
			s.SetReadDeadline(time.Now().Add(answerWait))
			typ, body, err := link.ReadFrame(s)
			if err != nil {
				s.CancelRead(0)
				s.CancelWrite(0)
				return
			}
			handle(typ, body, s)
		}()
	}
}

// answer writes the frames of an answer and ends the stream.
func answer(s *quic.Stream, frames []chat.Frame) {
	s.SetWriteDeadline(time.Now().Add(answerWait))
	for _, f := range frames {
		if err := link.WriteFrame(s, f.Type, f.Body); err != nil {
			s.CancelWrite(0)
			return
		}
	}
	s.Close()
}
