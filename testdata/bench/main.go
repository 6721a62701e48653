//go:build linux

// Bench measures what the project's parts sustain on this machine and prints
// it. It is not a test: nothing fails by being slow.
//
//	go run ./testdata/bench [-time D] [-full] [-nodes N] [-profile DIR] NAME…
//
// NAME is one of
//
//	auth      log-ins, renewals, memory and storms of one authd
//	discovery how soon people see each other come and go
//	delivery  messages in rooms and directly, with and without loss
//	rooms     kicks, joins, logs and memory of rooms, in virtual time, and how
//	          soon a disabled account is out of their keys, in processes too
//	ui        memory, a flood of messages and the keys typed meanwhile, at a terminal
//
// Everything runs on the loopback interface of a network namespace of its own, or
// on an emulated LAN in it, in processes that bench starts from its own binary. What is compared with
// something is measured in the same run as that.
//
// A benchmark is a file here with a function in benchmarks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"lanchat/testdata/lan/emu"
)

// benchmarks by name. Each prints its results through b.
var benchmarks = map[string]func(ctx context.Context, b *bench) error{
	"auth":      benchAuth,
	"delivery":  benchDelivery,
	"discovery": benchDiscovery,
	"rooms":     benchRooms,
	"ui":        benchUI,
}

// helpers are what bench starts further processes of itself as, by name.
var helpers = map[string]func(args []string) error{
	"authd": serveAuthd,
	"bare":  serveBare,
	"talk":  talk,
}

// helperVar names the helper that this process is to be.
const helperVar = "LANCHAT_BENCH_HELPER"

// profileVar says that it is to have its heap profiled finely.
const profileVar = "LANCHAT_BENCH_PROFILE"

// A bench is one run.
type bench struct {
	each    time.Duration // how long something is measured
	full    bool          // measure more cases, in some ten minutes
	nodes   int           // so many take part, where it is people who come and go
	profile string        // directory for profiles of helpers; "": none
	dir     string        // for files, removed at the end
}

func main() {
	os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	if name := os.Getenv(helperVar); name != "" {
		if os.Getenv(profileVar) != "" {
			runtime.MemProfileRate = 1 << 10
		}
		if err := helpers[name](os.Args[1:]); err != nil {
			fail(err)
		}
		return
	}
	if err := emu.Enter(); err != nil {
		fail(fmt.Errorf("this machine forbids a network of one's own: %w", err))
	}
	b := new(bench)
	flag.DurationVar(&b.each, "time", 5*time.Second, "`how long` each rate is measured")
	flag.BoolVar(&b.full, "full", false, "measure more cases, where there are more")
	flag.IntVar(&b.nodes, "nodes", 30, "`how many` nodes discovery is measured with, besides one that watches")
	flag.StringVar(&b.profile, "profile", "", "`DIR` to write profiles of the measured processes to, of the processor's time and the heap")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: bench [-time D] [-full] [-nodes N] [-profile DIR] NAME...\nNAME: %s\n", strings.Join(names(), ", "))
	}
	flag.Parse()
	if flag.NArg() == 0 || b.nodes < 1 {
		flag.Usage()
		os.Exit(2)
	}
	for _, name := range flag.Args() {
		if benchmarks[name] == nil {
			fmt.Fprintf(os.Stderr, "bench: no benchmark %q: there are %s\n", name, strings.Join(names(), ", "))
			os.Exit(2)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx, flag.Args()); err != nil {
		fail(err)
	}
}

func names() (all []string) {
	for name := range benchmarks {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func (b *bench) run(ctx context.Context, names []string) (err error) {
	if b.dir, err = os.MkdirTemp("", "lanchat-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	fmt.Printf("%s, %d processors, everything shares the machine\n", runtime.Version(), runtime.NumCPU())
	for _, name := range names {
		fmt.Printf("\n%s\n", name)
		if err := benchmarks[name](ctx, b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// say prints one result.
func say(what, format string, args ...any) {
	fmt.Printf("  %-52s %s\n", what, fmt.Sprintf(format, args...))
}

// percentile returns the smallest of the times that p of them (0 to 1) do not
// exceed. It sorts them.
func percentile(times []time.Duration, p float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(int(p*float64(len(times))), len(times)-1)]
}

// profiled runs f and writes a CPU profile of it to the file, unless that is "".
func profiled(file string, f func() error) error {
	if file == "" {
		return f()
	}
	w, err := os.Create(filepath.Clean(file))
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(w); err != nil {
		return err
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, w.Close())
}

// heapProfile writes what is on the heap to the file.
func heapProfile(file string) error {
	w, err := os.Create(filepath.Clean(file))
	if err != nil {
		return err
	}
	return errors.Join(pprof.WriteHeapProfile(w), w.Close())
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "bench: %v\n", err)
	os.Exit(1)
}
