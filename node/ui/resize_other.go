//go:build !unix

package ui

import "os"

// notifyResize does nothing: here nobody tells of the terminal's size. It is
// read again whenever something is shown.
func notifyResize(chan<- os.Signal) {}
