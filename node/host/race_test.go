//go:build race

package host_test

import "runtime"

// With the race detector a timer of a synctest bubble that is polled while another
// one runs can crash the program: the runtime (Go 1.26) lends both the bubble's one
// context of the detector, which may be used by one thread at a time. So there is
// one. What races is found by what happens before what, not by happening at once.
func init() { runtime.GOMAXPROCS(1) }
