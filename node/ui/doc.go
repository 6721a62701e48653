// Package ui is everything a person or a script sees of a node: the full screen
// ([Full]), line mode ([Line]), the JSON stream ([JSON]), and the questions
// before any of them runs ([Prompter]).
//
// It is not where anything is decided. A face takes what was typed to the
// chat core as it stands and shows the events that come back; it keeps only
// what it needs to show them. Text of others has passed wire/clean before it
// was stored; it passes again before it is drawn.
//
// Start with [Face]. Package screen says what the full screen shows, view how
// events read, theme how they look, node/markup what **bold** and links are.
package ui

import (
	"context"
	"errors"

	"lanchat/node/chat"
)

// A Face shows events and takes commands.
//
// Events are shown in the order of the calls to Show, and a face that cannot
// keep up never holds the core up: Show puts the event into a queue, which a
// goroutine of the face writes out. What happens when the queue is full
// (some 64 MiB) depends on who looks:
//
//   - A script must not miss events unawares. Nothing is dropped: the face
//     fails, Run returns [ErrStalled].
//   - A terminal that stands still (Ctrl+S) loses the oldest lines and says
//     how many; they are in the history.
//
// Commands are not held back while events wait: a script may write all it
// has to say before it reads.
type Face interface {
	// Show shows e, now or after what waits before it, and returns at once.
	// The face keeps e: nobody may change it, or what it points to, any more.
	// Show may be called from any goroutine, before, during and after Run.
	Show(e chat.Event)

	// Run hands what is typed to do, one call at a time, until
	//
	//   - the input ends: io.EOF (a script has said all; Ctrl+D),
	//   - the person wants out by keyboard: [ErrQuit],
	//   - ctx ends: its cause,
	//   - the output fails or stalls: that error ([ErrStalled]).
	//
	// Commands like /quit are the core's. A read from the input cannot be
	// interrupted: after ctx ended, what is typed next may be swallowed.
	Run(ctx context.Context, do func(chat.Command)) error

	// Close writes out what is still queued, for as long as somebody reads
	// it, and gives the terminal back. Events shown later are dropped.
	Close() error
}

var (
	// ErrQuit says that the person pressed Ctrl+C twice.
	ErrQuit = errors.New("quit by keyboard")
	// ErrStalled says that nobody reads what the face writes.
	ErrStalled = errors.New("nobody reads the events")
)
