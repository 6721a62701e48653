//go:build linux

package emu

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"
)

// The pcap format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html
const (
	pcapMicros   = 0xa1b2c3d4 // microseconds in the time stamps
	pcapNanos    = 0xa1b23c4d // nanoseconds
	pcapEthernet = 1          // LINKTYPE_ETHERNET
	pcapSnapLen  = 1 << 18
)

// A Capture writes the frames of a Lab in pcap format, which tcpdump and Wireshark
// read. Time stamps are in nanoseconds.
type Capture struct {
	stop func()
	quit chan struct{} // closed by Close
	done chan struct{} // closed by the flusher
	mu   sync.Mutex
	w    *bufio.Writer
}

// Capture begins to write to w every frame that a host sends, as [Lab.Watch] shows
// them. Those who read the file meanwhile see them after at most 0.1 s. The caller closes
// the Capture, and then w.
func (lab *Lab) Capture(w io.Writer) (*Capture, error) {
	c := &Capture{w: bufio.NewWriterSize(w, 1<<16), quit: make(chan struct{}), done: make(chan struct{})}
	b := binary.LittleEndian.AppendUint32(nil, pcapNanos)
	b = binary.LittleEndian.AppendUint16(b, 2) // major version
	b = binary.LittleEndian.AppendUint16(b, 4) // minor version
	b = binary.LittleEndian.AppendUint64(b, 0) // reserved
	b = binary.LittleEndian.AppendUint32(b, pcapSnapLen)
	b = binary.LittleEndian.AppendUint32(b, pcapEthernet)
	c.w.Write(b)
	if err := c.Flush(); err != nil {
		return nil, err
	}
	c.stop = lab.Watch(c.write)
	go func() {
		defer close(c.done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.Flush()
			case <-c.quit:
				return
			}
		}
	}()
	return c, nil
}

func (c *Capture) write(f Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var h [16]byte
	b := binary.LittleEndian.AppendUint32(h[:0], uint32(f.Time.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(f.Time.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Data))) // captured
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Data))) // original
	c.w.Write(b)                                                 // bufio remembers its error for Flush
	c.w.Write(f.Data)
}

// Flush writes what is buffered, and returns the first error of writing.
func (c *Capture) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.w.Flush(); err != nil {
		return fmt.Errorf("writing pcap: %w", err)
	}
	return nil
}

// Close ends the capture and flushes it. It must be called once, before or after the
// Lab is closed.
func (c *Capture) Close() error {
	c.stop()
	close(c.quit)
	<-c.done
	return c.Flush()
}

// ReadPcap yields the frames of a pcap file of Ethernet frames in this machine's or
// the other byte order, and the error that ended them, unless that was the file's end.
// Frames do not know their port. Data may be kept.
func ReadPcap(r io.Reader) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		br := bufio.NewReader(r)
		var head [24]byte
		if _, err := io.ReadFull(br, head[:]); err != nil {
			yield(Frame{}, fmt.Errorf("reading pcap header: %w", err))
			return
		}
		var order binary.ByteOrder = binary.LittleEndian
		if m := order.Uint32(head[:]); m != pcapNanos && m != pcapMicros {
			order = binary.BigEndian
		}
		unit := time.Nanosecond
		switch m := order.Uint32(head[:]); m {
		case pcapNanos:
		case pcapMicros:
			unit = time.Microsecond
		default:
			yield(Frame{}, fmt.Errorf("not a pcap file: it begins with %x", head[:4]))
			return
		}
		if link := order.Uint32(head[20:]) & 0xffff; link != pcapEthernet {
			yield(Frame{}, fmt.Errorf("pcap of link type %d, not Ethernet", link))
			return
		}
		for {
			var h [16]byte
			if _, err := io.ReadFull(br, h[:]); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				yield(Frame{}, fmt.Errorf("reading pcap: %w", err))
				return
			}
			n := order.Uint32(h[8:])
			if n > pcapSnapLen {
				yield(Frame{}, fmt.Errorf("reading pcap: frame of %d bytes", n))
				return
			}
			f := Frame{
				Time: time.Unix(int64(order.Uint32(h[:])), int64(order.Uint32(h[4:]))*int64(unit)),
				Data: make([]byte, n),
			}
			if _, err := io.ReadFull(br, f.Data); err != nil {
				yield(Frame{}, fmt.Errorf("reading pcap: %w", err))
				return
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}
