package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"lanchat/node/host"
	"lanchat/node/login"
	"lanchat/node/store"
	"lanchat/node/ui"
	"lanchat/wire/clean"
	"lanchat/wire/private"
	"lanchat/wire/realm"
	"lanchat/wire/usage"
)

// accountCommands are those about the person's account on this device.
func (o *options) accountCommands() []*cobra.Command {
	trust := &cobra.Command{Use: "trust", Short: "Shows or replaces the realm this directory trusts"}
	trust.AddCommand(&cobra.Command{
		Use: "list", Short: "Shows the realm this directory trusts", Args: usage.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return o.trustList() },
	})
	trust.AddCommand(&cobra.Command{
		Use: "replace CODE", Short: "Trusts another realm from now on, by its join code", Args: usage.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return o.trustReplace(args[0]) },
	})
	return []*cobra.Command{
		{Use: "login", Short: "Logs this device in to an account", Args: usage.Args(cobra.NoArgs), RunE: func(*cobra.Command, []string) error {
			return o.logIn(host.Credentials{LogIn: true})
		}},
		{Use: "register", Short: "Makes an account and logs this device in", Args: usage.Args(cobra.NoArgs), RunE: func(*cobra.Command, []string) error {
			return o.logIn(host.Credentials{Register: true})
		}},
		{Use: "logout", Short: "Removes the token from this device", Args: usage.Args(cobra.NoArgs), RunE: func(*cobra.Command, []string) error { return o.logOut() }},
		trust,
	}
}

// alone opens the data directory for what cannot be changed under a node that
// uses it.
func (o *options) alone(ask *ui.Prompter) (*node, error) {
	n, err := o.open(ask)
	if errors.Is(err, private.ErrLocked) {
		err = fmt.Errorf("a node runs on %q: end it first, with /quit, and try again", o.data)
	}
	return n, err
}

// logIn gets a token and keeps it. Who is logged in to the account already has
// what was asked for, without a password; a token that has ended is renewed.
func (o *options) logIn(how host.Credentials) error {
	ctx, stop := interruptible()
	defer stop()
	has := func(user string) error {
		if how.Register || o.user != "" && o.user != user {
			return fmt.Errorf("this device is logged in as %s already: node logout first", user)
		}
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, findAuthd)
	defer cancel()
	switch s, err := o.attach(soon); {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("a node runs on %q, and nobody is logged in there yet: log in in it, or end it first", o.data)
	case s != nil && err == nil: // else it has just ended
		s.close()
		if err := has(s.user); err != nil {
			return err
		}
		return saidLoggedIn(s.user, s.realm)
	}
	ask, err := ui.NewPrompter(os.Stdin, os.Stdout)
	if err != nil {
		ask = nil
	}
	n, err := o.alone(ask)
	if err != nil {
		return err
	}
	defer n.close()
	if t := n.profile.Token(); t != nil {
		if err := has(t.Name); err != nil {
			return err
		}
	}
	if ask == nil {
		n.stdin = os.Stdin
	}
	n.account = oldAccount
	if how.Register {
		n.account = newAccount
	}
	n.config.Enter.Credentials = func(ctx context.Context, r realm.Realm, problem error) (host.Credentials, error) {
		c, err := n.credentials(ctx, r, problem)
		c.Register, c.LogIn = how.Register, how.LogIn
		return c, err
	}
	n.opts.register = how.Register
	n.config.Enter.Patience = findAuthd
	n.config.Face = ui.NewLine(ui.LineConfig{}) // what is refused, the error says
	defer n.config.Face.Close()
	if err := host.LogIn(ctx, n.config); err != nil {
		return err
	}
	return saidLoggedIn(n.profile.Token().Name, n.profile.Pin().Name)
}

func saidLoggedIn(user, name string) error {
	_, err := fmt.Printf("logged in as %s in the realm %s\n", user, clean.Line(name, realm.MaxRealmName))
	return err
}

// logOut removes the token. A key that was revoked is of no use any more and
// goes with it, so that the next log-in makes this another device.
func (o *options) logOut() error {
	n, err := o.alone(nil)
	if err != nil {
		return err
	}
	defer n.close()
	token := n.profile.Token()
	if token == nil {
		return login.ErrNoToken
	}
	if n.profile.Verifier().CRL().Revokes(token) {
		return n.profile.ReplaceKey()
	}
	return n.profile.Forget()
}

// trustList prints the realm that the data directory trusts, whether a node
// uses it or not.
func (o *options) trustList() error {
	pin, err := login.ReadPin(o.data)
	if err != nil {
		return err
	}
	if pin == nil {
		_, err := fmt.Println("no realm is trusted yet")
		return err
	}
	_, err = fmt.Printf("%s  %s  since %s\n", pin.Fingerprint(), clean.Line(pin.Name, realm.MaxRealmName), pin.Since.Format("2006-01-02"))
	return err
}

// trustReplace makes another realm the trusted one. The token is of no use
// any more, nor are the rooms: the history is put aside, not deleted.
func (o *options) trustReplace(code string) error {
	join, err := realm.ParseJoinCode(code)
	if err != nil {
		return usage.Errorf("the join code: %w", err)
	}
	n, err := o.alone(nil)
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := interruptible()
	defer stop()
	old := n.profile.Pin()
	n.config.Enter.Trust = login.Trust{Code: &join, Replace: true}
	n.config.Enter.Patience = findAuthd
	n.config.Face = ui.NewLine(ui.LineConfig{})
	defer n.config.Face.Close()
	if err := host.Trust(ctx, n.config); err != nil {
		return err
	}
	pin := n.profile.Pin()
	if old != nil && old.ID != pin.ID {
		aside := filepath.Join(o.data, store.File+"."+strings.ReplaceAll(old.Fingerprint().String(), "-", ""))
		if err := n.config.Store.(*store.Store).Close(); err != nil {
			return fmt.Errorf("closing the history: %w", err)
		}
		if err := os.Rename(filepath.Join(o.data, store.File), aside); err != nil {
			return fmt.Errorf("putting the history aside: %w", err)
		}
		fmt.Printf("the history of the realm %s is in %s now\n", clean.Line(old.Name, realm.MaxRealmName), aside)
	}
	_, err = fmt.Printf("the realm %s is trusted, fingerprint %s; log in with node login or node register\n",
		clean.Line(pin.Name, realm.MaxRealmName), pin.Fingerprint())
	return err
}
