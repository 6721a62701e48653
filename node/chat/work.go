package chat

import (
	"time"

	"lanchat/wire"
)

// Work is what the core wants done, in this order: what is in First, everything
// in Save in one transaction, then every Send, then every Event. What a Send
// acknowledges or an Event shows is on disk by then. First is requests for
// repair and what is sent again: it was stored before or need not be, and who
// misses something does not wait for this node's disk.
type Work struct {
	First  []Send
	Save   []Record
	Sends  []Send
	Events []Event
	Quit   bool // the person wants to leave; the program ends after this work
}

// Empty reports whether there is nothing to do.
func (w *Work) Empty() bool {
	return len(w.First) == 0 && len(w.Save) == 0 && len(w.Sends) == 0 && len(w.Events) == 0 && !w.Quit
}

// A Send is one thing for the network. The host owns the bytes afterwards.
type Send interface{ send() }

// Multicast sends a room packet to the realm's group, once per link.
type Multicast struct{ Packet []byte }

// Unicast sends a room packet to the address that a device's link has. Without
// a link it is dropped.
type Unicast struct {
	To     wire.DeviceID
	Packet []byte
}

// Push sends a frame on the control stream of the link with a device. Without
// a link it is dropped; the core learns of links by LinkUp and LinkDown.
type Push struct {
	To   wire.DeviceID
	Type uint8
	Body []byte
}

// Datagram sends a QUIC DATAGRAM on the link with a device, or drops it.
type Datagram struct {
	To   wire.DeviceID
	Body []byte
}

// Ask puts a question to a device on a stream of its own. The host answers
// every one with HandleAnswer, within a few seconds and be it with an error.
type Ask struct {
	Question uint64
	To       wire.DeviceID
	Type     uint8
	Body     []byte
}

// Answer is the answer to a question a device put to us (HandleQuestion).
type Answer struct {
	Question uint64
	Frames   []Frame
}

// AskAuthd asks authd to do something with the person's account: one of the
// fields behind Question is set, or none, which asks for the account's devices.
// The host answers every one with HandleAuthdAnswer.
type AskAuthd struct {
	Question uint64
	Rename   string
	Passwd   *Passwd
	Revoke   wire.DeviceID
}

// An AuthdAnswer says what became of an AskAuthd. A new token is handed over
// before, by HandleToken.
type AuthdAnswer struct {
	Devices []AccountDevice
	Error   *Error // nil: it is done
}

// An AccountDevice is one device of the person's account, as authd has it on
// record.
type AccountDevice struct {
	ID            wire.DeviceID
	Name          string    // not sanitised
	Created, Ends time.Time // Ends: of its last token
	Revoked       bool
}

// A Frame is one frame of a stream: its type and its body.
type Frame struct {
	Type uint8
	Body []byte
}

func (Multicast) send() {}
func (Unicast) send()   {}
func (Push) send()      {}
func (Datagram) send()  {}
func (Ask) send()       {}
func (Answer) send()    {}
func (AskAuthd) send()  {}
