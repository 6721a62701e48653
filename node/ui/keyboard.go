package ui

import (
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/muesli/cancelreader"
)

// A keyboard is the terminal as Bubble Tea reads from it. Bubble Tea can end reads
// itself, but waits for that half a second only: on a machine under load it would
// close what it still reads. It leaves the end of reads to a keyboard, which waits, since
// that has no name and thus is not taken for a file.
type keyboard struct {
	tty
	reader  cancelreader.CancelReader
	reading sync.Mutex
}

// A tty is what Bubble Tea takes for one.
type tty interface {
	io.ReadWriteCloser
	Fd() uintptr
}

// newKeyboard returns what Bubble Tea shall read from, and what waits until it reads no
// more. On Windows a console is read as nothing else can be, by Bubble Tea alone.
func newKeyboard(f *os.File) (tty, func(), error) {
	if runtime.GOOS == "windows" {
		return f, func() {}, nil
	}
	r, err := cancelable(f)
	if err != nil {
		return nil, nil, err
	}
	k := &keyboard{tty: f, reader: r}
	return k, k.end, nil
}

// cancelable returns a reader of the terminal that can be told to read no more,
// except on Windows, where that would change what the console shows.
func cancelable(f *os.File) (cancelreader.CancelReader, error) {
	if runtime.GOOS == "windows" {
		return cancelreader.NewReader(struct{ io.Reader }{f})
	}
	return cancelreader.NewReader(f)
}

func (k *keyboard) Read(b []byte) (int, error) {
	k.reading.Lock()
	defer k.reading.Unlock()
	return k.reader.Read(b)
}

// end ends reads, the present one and those to come.
func (k *keyboard) end() {
	k.reader.Cancel()
	k.reading.Lock()
	defer k.reading.Unlock()
	k.reader.Close()
}
