package link

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"lanchat/wire"
)

func TestFrame(t *testing.T) {
	tests := []struct {
		frameType byte
		body      []byte
		want      string
	}{
		{0x05, nil, "00000001" + "05"},
		{0x41, []byte("ab"), "00000003" + "41" + "6162"},
		{0xff, bytes.Repeat([]byte{7}, 300), "0000012d" + "ff" + hex.EncodeToString(bytes.Repeat([]byte{7}, 300))},
	}
	for _, tt := range tests {
		b := AppendFrame([]byte("before"), tt.frameType, tt.body)
		if got := hex.EncodeToString(b[len("before"):]); got != tt.want || string(b[:6]) != "before" {
			t.Errorf("AppendFrame(%#x, %x) = %s, want %s", tt.frameType, tt.body, got, tt.want)
		}
		b = b[len("before"):]
		var w bytes.Buffer
		if err := WriteFrame(&w, tt.frameType, tt.body); err != nil || !bytes.Equal(w.Bytes(), b) {
			t.Errorf("WriteFrame wrote %x, %v", w.Bytes(), err)
		}
		r := bytes.NewReader(append(b, "next"...))
		frameType, body, err := ReadFrame(r)
		if err != nil || frameType != tt.frameType || !bytes.Equal(body, tt.body) || r.Len() != len("next") {
			t.Errorf("ReadFrame(%x) = %#x, %x, %v, %d bytes left", b, frameType, body, err, r.Len())
		}
		for i := range b {
			want := io.ErrUnexpectedEOF
			if i == 0 {
				want = io.EOF
			}
			if _, _, err := ReadFrame(bytes.NewReader(b[:i])); err != want {
				t.Errorf("ReadFrame of the first %d bytes: %v, want %v", i, err, want)
			}
		}
	}
}

// The length is judged before anything is allocated or waited for.
func TestFrameLength(t *testing.T) {
	for _, tt := range []struct {
		header string
		want   error
	}{
		{"00000000", ErrFrame},
		{"00010002", ErrFrame},
		{"7fffffff", ErrFrame},
		{"80000001", ErrFrame},
		{"ffffffff", ErrFrame},
		{"00010001", io.ErrUnexpectedEOF}, // possible: the biggest
	} {
		b, _ := hex.DecodeString(tt.header)
		var err error
		n := testing.AllocsPerRun(1, func() { _, _, err = ReadFrame(bytes.NewReader(b)) })
		if !errors.Is(err, tt.want) || n > 10 {
			t.Errorf("length %s: %v after %v allocations, want %v", tt.header, err, n, tt.want)
		}
	}
	full := AppendFrame(nil, 1, make([]byte, wire.MaxFrame))
	if _, body, err := ReadFrame(bytes.NewReader(full)); err != nil || len(body) != wire.MaxFrame {
		t.Errorf("the biggest frame: %d bytes, %v", len(body), err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a frame is appended that can't be read")
		}
	}()
	AppendFrame(nil, 1, make([]byte, wire.MaxFrame+1))
}

func TestAuthFrame(t *testing.T) {
	var w bytes.Buffer
	if err := WriteAuth(&w, &wire.AuthPing{Nonce: 5}); err != nil {
		t.Fatal(err)
	}
	if got := w.Len(); got != 4+1+64 {
		t.Errorf("PING has %d bytes", got)
	}
	m, err := ReadAuth(&w)
	if p, ok := m.(*wire.AuthPing); err != nil || !ok || p.Nonce != 5 {
		t.Errorf("ReadAuth = %v, %v", m, err)
	}
	WriteFrame(&w, 0x7f, nil)
	if m, err := ReadAuth(&w); !errors.Is(err, wire.ErrType) {
		t.Errorf("ReadAuth of an unknown type = %v, %v", m, err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(AppendFrame(nil, 1, nil))
	f.Add(AppendFrame(nil, 0x41, []byte("body")))
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		frameType, body, err := ReadFrame(r)
		if err != nil {
			return
		}
		if got := AppendFrame(nil, frameType, body); !bytes.Equal(got, b[:len(b)-r.Len()]) {
			t.Errorf("%x is read as %#x %x", b, frameType, body)
		}
	})
}
