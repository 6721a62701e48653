package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// What a member missed and gets from whoever has it, over QUIC: questions of
// the conversation in peer.go.

// A Vector says how far somebody has the reliable messages of a room: for each
// device the number up to which none is missing; a device that is not named
// has 0. It covers the devices above After, and those up to its last one if it
// is full (MaxHave).
//
// As a question (FramePull) it is the asker's own, and asks for what is behind
// it. In the answer to Join (FrameBases) it says where the messages of others
// begin for who was let in, as far as the writer knows.
type Vector struct {
	Room  RoomID
	After DeviceID
	Has   []Have // by Device, rising, above After; at most MaxHave
}

// A Have is how far somebody has the reliable messages of one device.
type Have struct {
	Device DeviceID
	Number uint64 // at least 1
}

// HaveAll, as a Have's number in a question, says that nothing is asked for of
// the device.
const HaveAll = math.MaxUint64

// MaxHave is how many devices fit into one Vector.
const MaxHave = (MaxFrame - vectorHeader) / haveSize

const (
	vectorHeader = 40
	haveSize     = 16
)

func (m *Vector) valid() bool {
	after := m.After
	for _, h := range m.Has {
		if bytes.Compare(h.Device[:], after[:]) <= 0 || h.Number == 0 {
			return false
		}
		after = h.Device
	}
	return len(m.Has) <= MaxHave
}

// Covers reports whether the vector says something of a device.
func (m *Vector) Covers(d DeviceID) bool {
	if bytes.Compare(d[:], m.After[:]) <= 0 {
		return false
	}
	return len(m.Has) < MaxHave || bytes.Compare(d[:], m.Has[MaxHave-1].Device[:]) <= 0
}

func (m *Vector) Append(b []byte) []byte {
	if !m.valid() {
		panic(fmt.Sprintf("wire: vector of %d devices: too many, or out of order", len(m.Has)))
	}
	b = append(b, m.Room[:]...)  // Room (256)
	b = append(b, m.After[:]...) // After (64)
	for _, h := range m.Has {
		b = append(b, h.Device[:]...)                  // Device (64)
		b = binary.BigEndian.AppendUint64(b, h.Number) // Number (64)
	}
	return b
}

func ParseVector(b []byte) (*Vector, error) {
	r := NewReader(b)
	m := &Vector{}
	r.Fill(m.Room[:])
	r.Fill(m.After[:])
	if r.Len() > MaxHave*haveSize {
		r.Fail(ErrTooLong)
	}
	for r.Len() > 0 {
		var h Have
		r.Fill(h.Device[:])
		h.Number = r.Uint64()
		m.Has = append(m.Has, h)
	}
	if !m.valid() {
		r.Fail(ErrValue)
	}
	return parsed("vector", m, r)
}

// An AskText asks for the text of a message that a Notice announced. The
// answer is one FrameText with the text as it was written, whose hash and
// length the asker checks, or Refused.
type AskText struct {
	Room    RoomID
	Message [8]byte // its id
}

func (m *AskText) Append(b []byte) []byte {
	b = append(b, m.Room[:]...)       // Room (256)
	return append(b, m.Message[:]...) // Message (64)
}

func ParseAskText(b []byte) (*AskText, error) {
	r := NewReader(b)
	m := &AskText{}
	r.Fill(m.Room[:])
	r.Fill(m.Message[:])
	return parsed("ask text", m, r)
}
