// Package delivery keeps the numbers of messages: what was sent and who has
// it, what came, what is missing and when to ask for it.
//
// It is a core: no I/O, no goroutine, no clock. It knows neither rooms' keys
// nor packets' layouts; node/chat seals, opens and sends. Start with Inbox
// (one sender, seen by a receiver) and Outgoing (a sender's own side of a
// room); Queue is the outbox of direct messages.
package delivery
