// Package chat is the program's core: what people type and what the network
// brings go in, together with the time; an ordered list of work comes out.
//
// A Core does no I/O, starts no goroutine and never reads the clock: one
// goroutine, the host's loop, owns it. It knows people, chats, rooms and
// messages; it does not know sockets, files or the terminal.
//
// The way of a message: Core.Do (command.go) finds the chat; Core.say
// (sending.go) has it wait for its turn, in which Core.pump numbers, seals and
// queues it in Work, or Core.sayDirect (direct.go) does so at once; the host
// stores, sends, shows. On the other side a Reader (reader.go) opens and
// verifies packets, Core.HandleRead (receiving.go) has their messages wait for
// their turn, and Core.deliver, or Core.HandleFrame (direct.go) for what comes
// over a link, hands each to Core.take (edit.go), which stores and shows it.
// Start with core.go.
package chat
