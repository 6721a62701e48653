// Package room is the governance of rooms: the signed log that says who is a
// member, who may do what and which key is in use, and the keys themselves.
//
// It is a core: no I/O, no goroutine, no clock, no words for people. It does
// not send, store or ask anybody; node/chat does, and hands in the time. It
// knows nothing of messages either: delivery and order are node/delivery's.
//
// The parts, from the outside:
//
//	Create, Log.Admit, Log.Kick …   make a signed entry, or a Refusal     act.go
//	Log.Add                         takes entries, chooses the branch     log.go, evaluate.go
//	Log.State                       members in seat order, epoch          state.go
//	State.May                       what a member may ask for             rules.go
//	Keyring                         secrets: which to send with, which
//	                                are still readable, who may have one  keyring.go
//	Epoch                           seals, opens, verifies room packets   epoch.go, burst.go
//	Replay                          tells a packet that came before       replay.go
//
// The state of a room is a pure function of the set of known valid entries;
// only a proven double signature makes it depend on what was seen first.
// Start with State, and with State.check in rules.go.
package room
