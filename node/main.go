// Node is a person's chat on the LAN.
//
//	node                       chat: full screen on a terminal, lines on a pipe
//	node --plain               line mode: no cursor movement
//	node --json                events on standard output, commands on standard input
//	node --host                the same, with an authd of its own if there is none
//	node send CHAT [TEXT…]     sends one message, or each line of standard input
//	node tail [CHAT…]          prints messages as they come
//	node users, node rooms     who is here, which rooms there are
//	node login, register, logout
//	node rename NEW, node passwd, node sessions
//	node trust list            the realm this directory trusts
//	node doctor                says what is wrong with the network
//	node demo                  shows the whole thing at work, in itself
//
// It needs no configuration: it finds authd and other nodes by itself, asks
// for a name and a password once, and keeps the token in its data directory.
// It uses UDP only.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"lanchat/node/host"
	"lanchat/node/login"
	"lanchat/wire/clean"
	"lanchat/wire/private"
	"lanchat/wire/usage"
)

func main() { os.Exit(run()) }

// Exit statuses, as the program's contract has them.
const (
	exitFailure      = 1
	exitUsage        = usage.Status
	exitNotLoggedIn  = 3
	exitNoAuthd      = 4
	exitUntrusted    = 5
	exitUnconfirmed  = 6
	exitNoSuchTarget = 7
)

// run is main with an exit status.
func run() int {
	// quic-go would write to the terminal that it wants larger buffers.
	os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	private.NoCoreDumps()
	cmd := command()
	err := cmd.Execute()
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		if exit.err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "node: %v\n", exit.err)
		}
		return exit.status
	}
	said := err.Error()
	if errors.Is(err, context.Canceled) {
		said = "interrupted"
	}
	if refused, ok := errors.AsType[*login.RefusedError](err); ok {
		said = fmt.Sprintf("%v: %s", refused.Code, clean.Text(host.RefusalWords(refused), 1000))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "node: %s\n", said)
	if usage.Is(err) {
		fmt.Fprintln(cmd.ErrOrStderr(), "node: see node --help")
	}
	return status(err)
}

// status returns the exit status an error stands for.
func status(err error) int {
	var refused *login.RefusedError
	switch {
	case usage.Is(err):
		return exitUsage
	case errors.As(err, &refused), errors.Is(err, errNobodyToAsk), errors.Is(err, login.ErrNoToken):
		return exitNotLoggedIn
	case errors.Is(err, host.ErrNoAuthd):
		return exitNoAuthd
	case errors.Is(err, login.ErrUntrusted), errors.Is(err, login.ErrFingerprintChanged):
		return exitUntrusted
	}
	return exitFailure
}

// An exitError ends the program with a status of its own. Without err
// everything was said already.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d: %v", e.status, e.err) }

func command() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:               "node",
		Short:             "A chat for people on one network",
		Long:              "Node finds the network's authd and other nodes by itself, asks for a name and a password once, and chats.\n/help inside it lists what can be typed.",
		Args:              usage.Args(cobra.NoArgs),
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return o.check(cmd.Flags()) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return o.chat() },
	}
	o.flags(root.PersistentFlags())
	root.Flags().BoolVar(&o.plain, "plain", false, "line mode: no cursor movement; fit for screen readers and pipes")
	root.AddCommand(o.oneShots()...)
	root.AddCommand(o.accountCommands()...)
	root.AddCommand(o.ownerCommands()...)
	root.AddCommand(o.demoCommand(), o.doctorCommand(), o.manCommand())
	usage.Set(root)
	return root
}
