package serve

import (
	"context"
	"os"
	"runtime/debug"
	rtm "runtime/metrics"
	"time"
)

// Garbage is collected when this much of it has come together, within the
// bounds. Every handshake leaves some 300 KB behind between the little that stays
// while a node is connected, and what lies between that is not given back. With
// Go's own rule, as much as is in use, a thousand nodes take 72 KiB each, with
// this one 61; a handshake costs the same.
const (
	headroom   = 16 << 20
	minPercent = 25  // of what is in use, where there are thousands: or most of the time would go into collections
	maxPercent = 150 // while there is nobody: or an idle authd would be large
	tendEvery  = time.Second
)

// TendMemory keeps the process small while many nodes are connected, until ctx
// ends. It is for a program that does nothing else, and leaves the collector
// alone where GOGC is set.
func TendMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	used := []rtm.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for set := 0; ; {
		rtm.Read(used)
		if p := percent(used[0].Value.Uint64() + used[1].Value.Uint64()); p != set {
			debug.SetGCPercent(p)
			set = p
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// percent returns how much garbage there may be, in percent of what is in use.
func percent(inUse uint64) int {
	return int(min(max(headroom*100/max(inUse, 1), minPercent), maxPercent))
}
