package ui

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// maxInput is how long a line of input may be, in bytes. The longest message
// (64 KiB) fits even where JSON spells each of its bytes as \u00xx.
const maxInput = 512 << 10

// An input is one line of input without its line end; long says that it was
// over maxInput, of which line is the beginning.
type input struct {
	line []byte
	long bool
}

// readLines calls handle with each line of r until r ends or handle returns
// false. The last line need not end in \n, and \r\n counts as \n. A line over
// maxInput is handed over once, as its beginning; the next line is whole
// again.
func readLines(r io.Reader, handle func(input) bool) error {
	b := newLineReader(r)
	for {
		in, err := b.next()
		if err != nil && len(in.line) == 0 && !in.long {
			return err
		}
		if !handle(in) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// runLines takes lines from r to handle until r ends (io.EOF), ctx does, or the
// feed is down. handle is called by this goroutine only. A nil r never ends.
func (f *feed) runLines(ctx context.Context, r io.Reader, handle func(input)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lines := make(chan input)
	ended := make(chan error, 1)
	if r != nil {
		go func() {
			ended <- readLines(r, func(in input) bool {
				in.line = bytes.Clone(in.line)
				select {
				case lines <- in:
					return true
				case <-ctx.Done():
					return false
				}
			})
		}()
	}
	for {
		select {
		case in := <-lines:
			handle(in)
		case err := <-ended:
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("reading commands: %w", err)
			}
			return io.EOF
		case <-f.down:
			return f.failure()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A lineReader cuts a stream into lines of bounded length.
type lineReader struct {
	r   *bufio.Reader
	buf []byte
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// next returns the next line. It is valid until the following call. At the
// end it returns what is left together with the error.
func (l *lineReader) next() (input, error) {
	l.buf = l.buf[:0]
	long := false
	for {
		part, err := l.r.ReadSlice('\n')
		if room := maxInput + 2 - len(l.buf); len(part) > room {
			part, long = part[:room], true
		}
		l.buf = append(l.buf, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		line := bytes.TrimSuffix(l.buf, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) > maxInput {
			line, long = line[:maxInput], true
		}
		return input{line, long}, err
	}
}
