//go:build !windows

package main

import "syscall"

// noCoreDumps keeps the kernel from writing the process's memory to disk. It
// does what it can: a failure changes nothing.
func noCoreDumps() {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
