// Package chat is the program's core: what people type and what the network
// brings go in, together with the time; an ordered list of work comes out.
//
// A Core does no I/O, starts no goroutine and never reads the clock: one
// goroutine, the host's loop, owns it. It knows people, chats, rooms and
// messages; it does not know sockets, files or the terminal.
//
// The way of a message: Core.Do (command.go) finds the chat, Core.say
// (rooms.go) or Core.sayDirect (direct.go) numbers, seals and queues it in
// Work; the host stores, sends, shows. On the other side Core.HandlePacket or
// Core.HandleFrame opens, orders and queues what is to be stored and shown.
// Start with core.go.
package chat
