// Package usage is what both programs say of a command line that can't be
// right: what is wrong with it, in words for people, and what comes near it.
package usage

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lanchat/wire/words"
)

// An Error is a command line that can't be right. The program exits with
// Status.
type Error struct{ error }

func (e Error) Unwrap() error { return e.error }

// Status is the exit status of wrong usage.
const Status = 2

// Errorf returns an Error.
func Errorf(format string, args ...any) error { return Error{fmt.Errorf(format, args...)} }

// Is reports whether err is about the command line.
func Is(err error) bool {
	_, ok := errors.AsType[Error](err)
	return ok
}

// Args makes wrong arguments an Error, which says what is wanted where
// arguments are, and which command was meant where there is no such command.
func Args(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, got []string) error {
		err := args(cmd, got)
		switch {
		case err == nil:
			return nil
		case cmd.HasSubCommands() && len(got) > 0:
			return noCommand(cmd, got[0])
		case strings.Contains(cmd.Use, " "):
			return Errorf("usage: %s", strings.TrimSuffix(cmd.UseLine(), " [flags]"))
		case len(got) > 0:
			return Errorf("%s takes no arguments, and was given %q", cmd.CommandPath(), got[0])
		}
		return Error{err}
	}
}

func noCommand(cmd *cobra.Command, name string) error {
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	said := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), name)
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		said += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return Error{errors.New(said)}
}

// Set prepares a program's root command and those below it, once all of them
// are there: what is wrong with a flag or with what help is asked about is an
// Error, and so is a command that needs one of those below it and has none;
// --version says which build this is.
func Set(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return Error{flagError(cmd, err)} })
	root.Version = version()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		switch {
		case cmd.HasSubCommands() && (!cmd.Runnable() || cmd.Name() == "completion"):
			parent(cmd)
		case cmd.Name() == "help":
			cmd.Run = nil
			cmd.RunE = func(_ *cobra.Command, args []string) error {
				about, rest, err := root.Find(args)
				if err != nil || len(rest) > 0 {
					return noCommand(about, rest[0])
				}
				about.InitDefaultHelpFlag()
				return about.Help()
			}
		}
	}
}

// version is that of the build, as the toolchain noted it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return cmp.Or(info.Main.Version, "unknown")
}

// parent makes cmd one that is nothing without one of the commands below it.
func parent(cmd *cobra.Command) {
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	last := len(names) - 1
	cmd.Args = Args(cobra.NoArgs)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return Errorf("%s: want %s or %s", cmd.CommandPath(), strings.Join(names[:last], ", "), names[last])
	}
}

// flagError says what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		f := wrong.GetFlag()
		return fmt.Errorf("--%s %q: want %s", f.Name, wrong.GetValue(), wanted(f.Value.Type()))
	}
	if none, ok := errors.AsType[*pflag.NotExistError](err); ok && len(none.GetSpecifiedName()) > 1 {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := words.Nearest(none.GetSpecifiedName(), names); near != "" {
			return fmt.Errorf("%w; did you mean --%s?", err, near)
		}
	}
	return err
}

// wanted says what the values of a type of flag look like.
func wanted(typ string) string {
	switch typ {
	case "int":
		return "a whole number"
	case "uint16":
		return fmt.Sprintf("a number from 0 to %d", math.MaxUint16)
	case "duration":
		return "a time with its unit, such as 500ms, 10s or 2m"
	case "bool":
		return "true or false"
	}
	return "a " + typ
}
