package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"lanchat/wire"
)

// A frame is what streams carry:
//
//	Length (32)  bytes that follow, 1 to 1 + wire.MaxFrame
//	Type (8)
//	Body (..)

// ErrFrame says that a frame's length can't be.
var ErrFrame = errors.New("frame of impossible length")

const frameHeader = 4 + 1

// AppendFrame appends a frame. It panics when the body is longer than
// wire.MaxFrame.
func AppendFrame(b []byte, frameType byte, body []byte) []byte {
	if len(body) > wire.MaxFrame {
		panic(fmt.Sprintf("link: frame of %d bytes", len(body)))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(1+len(body))) // Length (32)
	b = append(b, frameType)                                  // Type (8)
	return append(b, body...)                                 // Body (..)
}

// WriteFrame writes a frame in one call of w.Write.
func WriteFrame(w io.Writer, frameType byte, body []byte) error {
	_, err := w.Write(AppendFrame(make([]byte, 0, frameHeader+len(body)), frameType, body))
	return err
}

// ReadFrame reads a frame. At the end of the stream it returns io.EOF, in the
// middle of a frame io.ErrUnexpectedEOF. The length is checked before anything
// is allocated; the body is the caller's. It waits for as long as r does: set
// a deadline.
func ReadFrame(r io.Reader) (frameType byte, body []byte, err error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:4]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[:4])
	if n == 0 || n > 1+wire.MaxFrame {
		return 0, nil, fmt.Errorf("%d bytes: %w", n, ErrFrame)
	}
	if _, err := io.ReadFull(r, h[4:]); err != nil {
		return 0, nil, unexpected(err)
	}
	body = make([]byte, n-1)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, unexpected(err)
	}
	return h[4], body, nil
}

// unexpected turns the end of the stream into one that came too early.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// WriteAuth writes a message of the conversation with authd.
func WriteAuth(w io.Writer, m wire.AuthMessage) error {
	return WriteFrame(w, m.FrameType(), m.Append(nil))
}

// ReadAuth reads a message of the conversation with authd.
func ReadAuth(r io.Reader) (wire.AuthMessage, error) {
	t, body, err := ReadFrame(r)
	if err != nil {
		return nil, err
	}
	return wire.ParseAuth(t, body)
}
