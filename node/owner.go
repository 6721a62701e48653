package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"lanchat/node/chat"
	"lanchat/node/host"
	"lanchat/node/login"
	"lanchat/node/ui"
	"lanchat/wire"
	"lanchat/wire/clean"
	"lanchat/wire/usage"
)

// ownerCommands are what people do with their account: through the node that
// runs on the data directory, or else with authd directly.
func (o *options) ownerCommands() []*cobra.Command {
	var signOut bool
	passwd := &cobra.Command{
		Use: "passwd", Short: "Changes your password; asked for, or the present and the new one as two lines of standard input", Args: usage.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.changePassword(signOut, cmd.Flags().Changed("sign-out-others"))
		},
	}
	passwd.Flags().BoolVar(&signOut, "sign-out-others", false, "shut your other devices out")
	sessions := &cobra.Command{
		Use: "sessions", Short: "Lists your account's devices", Args: usage.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return o.sessions() },
	}
	sessions.AddCommand(&cobra.Command{
		Use: "revoke DEVICE", Short: "Shuts another device of yours out, for ever; DEVICE as node sessions shows it", Args: usage.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return o.revokeSession(args[0]) },
	})
	return []*cobra.Command{
		{Use: "rename NEW", Short: "Changes your user name, for everybody and everywhere", Args: usage.Args(cobra.ExactArgs(1)),
			RunE: func(_ *cobra.Command, args []string) error { return o.rename(args[0]) }},
		passwd, sessions,
	}
}

// owner gives the running node a command and returns the notice that answers
// it, or has direct do the same with authd, and returns no notice.
func (o *options) owner(cmd map[string]any, direct func(context.Context, *login.Session) error) (*event, error) {
	if err := o.sameUser(); err != nil {
		return nil, err
	}
	ctx, stop := interruptible()
	defer stop()
	s, err := o.attach(ctx)
	if err != nil {
		return nil, err
	}
	if s != nil {
		defer s.close()
		e, err := s.order(ctx, cmd)
		return &e, err
	}
	n, err := o.open(nil)
	if err != nil {
		return nil, err
	}
	defer n.close()
	n.config.Enter.Patience = findAuthd
	n.config.Face = ui.NewLine(ui.LineConfig{}) // what is refused, the error says
	defer n.config.Face.Close()
	err = host.WithAuthd(ctx, n.config, direct)
	if refused, ok := errors.AsType[*login.RefusedError](err); ok {
		return nil, refusal(event{Code: refused.Code.String(), Text: clean.Text(host.OwnerWords(refused), 1000)})
	}
	if errors.Is(err, host.ErrNoAuthd) {
		return nil, fmt.Errorf("%w. This needs it: try again when it is back, or say where it is with --authd", err)
	}
	return nil, err
}

func (o *options) rename(name string) error {
	_, err := o.owner(map[string]any{"cmd": "do", "line": "/nick " + name}, func(ctx context.Context, s *login.Session) error {
		_, err := s.Rename(ctx, name)
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Printf("your name is %s now\n", name)
	return err
}

// changePassword asks for the passwords where somebody can be asked.
func (o *options) changePassword(signOut, decided bool) error {
	present, next, signOut, err := o.passwords(signOut, decided)
	if err != nil {
		return err
	}
	_, err = o.owner(map[string]any{"cmd": "passwd", "present": present, "new": next, "sign_out": signOut}, func(ctx context.Context, s *login.Session) error {
		return s.ChangePassword(ctx, present, next, signOut)
	})
	if err != nil {
		return err
	}
	said := "your password is changed; your other devices stay logged in: node sessions lists them"
	if signOut {
		said = "your password is changed, and your other devices are shut out"
	}
	_, err = fmt.Println(said)
	return err
}

func (o *options) passwords(signOut, decided bool) (present, next string, _ bool, err error) {
	ask, err := ui.NewPrompter(os.Stdin, os.Stdout)
	if err != nil {
		lines, err := readLines(os.Stdin, 2)
		if err == nil && (lines[0] == "" || lines[1] == "") {
			err = usage.Errorf("standard input is no terminal: give the present password on its first line and the new one on the second")
		}
		return lines[0], lines[1], signOut, err
	}
	ctx, stop := interruptible()
	defer stop()
	if present, err = ask.AskPassword(ctx, "Present password"); err != nil {
		return "", "", false, err
	}
	if next, err = ask.NewPassword(ctx, "New password", passwordMeter(o.user)); err != nil {
		return "", "", false, err
	}
	if !decided {
		signOut, err = ask.Confirm(ctx, "Shut your other devices out?")
	}
	return present, next, signOut, err
}

func (o *options) sessions() error {
	var list []chat.Session
	e, err := o.owner(map[string]any{"cmd": "do", "line": "/sessions"}, func(ctx context.Context, s *login.Session) error {
		devices, err := s.Devices(ctx)
		for _, d := range devices {
			list = append(list, chat.NewSession(chat.AccountDevice(d), s.Token().Device))
		}
		return err
	})
	if err == nil && e != nil {
		if err = json.Unmarshal(e.Data, &list); err != nil {
			err = fmt.Errorf("reading the list of devices: %w", err)
		}
	}
	if err != nil {
		return err
	}
	if o.json {
		return json.NewEncoder(os.Stdout).Encode(list)
	}
	for _, s := range list {
		if _, err := fmt.Println(s); err != nil {
			return err
		}
	}
	return nil
}

func (o *options) revokeSession(arg string) error {
	device, err := wire.ParseDeviceID(arg)
	if err != nil {
		return usage.Errorf("%q is no device: node sessions lists yours, with 16 digits each", arg)
	}
	_, err = o.owner(map[string]any{"cmd": "do", "line": "/sessions revoke " + device.String()}, func(ctx context.Context, s *login.Session) error {
		return s.Revoke(ctx, device)
	})
	if err != nil {
		return err
	}
	_, err = fmt.Printf("the device %v is shut out\n", device)
	return err
}
