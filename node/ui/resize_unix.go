//go:build unix

package ui

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyResize makes c hear of changes of the terminal's size.
func notifyResize(c chan<- os.Signal) { signal.Notify(c, syscall.SIGWINCH) }
