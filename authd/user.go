package main

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"lanchat/authd/account"
	"lanchat/authd/server"
	"lanchat/authd/store"
	"lanchat/wire"
	"lanchat/wire/realm"
	"lanchat/wire/usage"
	"lanchat/wire/words"
)

// userCommand is what operators do with accounts. It works on the database
// itself, whether or not an authd serves from it: that one looks for changes
// every other second.
func (o *options) userCommand() *cobra.Command {
	user := &cobra.Command{Use: "user", Short: "Lists, adds, changes and removes accounts"}
	var asJSON bool
	list := &cobra.Command{
		Use: "list", Short: "Lists the accounts", Args: usage.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.operate(func(st *store.Store, _ *account.Registrar, _ realm.Realm) error {
				return listUsers(cmd.OutOrStdout(), st, asJSON)
			})
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "as a JSON array")

	var all, force bool
	remove := &cobra.Command{
		Use: "remove NAME | --all --force", Short: "Removes an account, or with --all --force every one",
		Args: usage.Args(func(cmd *cobra.Command, args []string) error {
			if all != (len(args) == 0) || len(args) > 1 {
				return errors.New("user remove: want a NAME, or --all --force")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.operate(func(st *store.Store, reg *account.Registrar, _ realm.Realm) error {
				if all {
					return removeAll(cmd.OutOrStdout(), st, reg, force)
				}
				return noSuchUser(args[0], reg.Remove(time.Now(), args[0]))
			})
		},
	}
	remove.Flags().BoolVar(&all, "all", false, "remove every account")
	remove.Flags().BoolVar(&force, "force", false, "really")

	user.AddCommand(list, remove,
		&cobra.Command{
			Use: "add NAME", Short: "Makes an account; the password is asked for, or the first line of standard input",
			Args: usage.Args(cobra.ExactArgs(1)),
			RunE: func(cmd *cobra.Command, args []string) error {
				return o.operate(func(_ *store.Store, reg *account.Registrar, r realm.Realm) error {
					return addUser(cmd, reg, r, args[0])
				})
			},
		},
		&cobra.Command{
			Use: "passwd NAME", Short: "Sets a new password, asked for as with add; devices stay logged in",
			Args: usage.Args(cobra.ExactArgs(1)),
			RunE: func(cmd *cobra.Command, args []string) error {
				return o.operate(func(st *store.Store, reg *account.Registrar, r realm.Realm) error {
					return setPassword(cmd, st, reg, r, args[0])
				})
			},
		},
		&cobra.Command{
			Use: "rename OLD NEW", Short: "Gives an account another name; connected nodes carry it within seconds",
			Args: usage.Args(cobra.ExactArgs(2)),
			RunE: func(_ *cobra.Command, args []string) error {
				return o.operate(func(_ *store.Store, reg *account.Registrar, _ realm.Realm) error {
					err := reg.Rename(time.Now(), args[0], args[1])
					if _, ok := errors.AsType[*account.Refusal](err); ok {
						return fmt.Errorf("%q: %w", args[1], err)
					}
					return noSuchUser(args[0], err)
				})
			},
		},
		&cobra.Command{
			Use: "reset NAME", Short: "Prints a one-time code with which the person sets a new password, within a day",
			Args: usage.Args(cobra.ExactArgs(1)),
			RunE: func(cmd *cobra.Command, args []string) error {
				return o.operate(func(_ *store.Store, reg *account.Registrar, r realm.Realm) error {
					return resetUser(cmd, reg, r, args[0])
				})
			},
		},
		o.onUser("disable NAME", "Shuts an account out until it is enabled again", func(reg *account.Registrar, name string) error {
			return reg.Disable(time.Now(), name)
		}),
		o.onUser("enable NAME", "Takes disable back", (*account.Registrar).Enable),
		o.onUser("unlock NAME", "Lets an account log in again after too many failures", (*account.Registrar).Unlock),
	)
	return user
}

// onUser returns a command that does f to the account it is given.
func (o *options) onUser(use, short string, f func(*account.Registrar, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: usage.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			return o.operate(func(_ *store.Store, reg *account.Registrar, _ realm.Realm) error {
				return noSuchUser(args[0], f(reg, args[0]))
			})
		},
	}
}

// deviceCommand is what operators do with a person's devices.
func (o *options) deviceCommand() *cobra.Command {
	device := &cobra.Command{Use: "device", Short: "Lists and revokes a person's devices"}
	device.AddCommand(
		&cobra.Command{
			Use: "list NAME", Short: "Lists the account's devices", Args: usage.Args(cobra.ExactArgs(1)),
			RunE: func(cmd *cobra.Command, args []string) error {
				return o.operate(func(st *store.Store, _ *account.Registrar, _ realm.Realm) error {
					devices, err := devicesOf(st, args[0])
					if err != nil {
						return err
					}
					tw := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
					for _, d := range devices {
						state := "token until " + d.Expires.Format(time.DateOnly)
						if d.Revoked {
							state = "revoked"
						}
						fmt.Fprintf(tw, "%s\t%q\tsince %s\t%s\n", d.Key.Device(), d.Name, d.Created.Format(time.DateOnly), state)
					}
					return tw.Flush()
				})
			},
		},
		&cobra.Command{
			Use: "revoke NAME DEVICE", Short: "Shuts a device out, for ever; DEVICE as device list shows it",
			Args: usage.Args(cobra.ExactArgs(2)),
			RunE: func(_ *cobra.Command, args []string) error {
				id, err := wire.ParseDeviceID(args[1])
				if err != nil {
					return usage.Errorf("%w: authd device list %s shows them", err, args[0])
				}
				return o.operate(func(st *store.Store, _ *account.Registrar, _ realm.Realm) error {
					devices, err := devicesOf(st, args[0])
					if err != nil {
						return err
					}
					for _, d := range devices {
						if d.Key.Device() == id {
							return st.Revoke(d.Key, time.Now())
						}
					}
					return fmt.Errorf("%q has no device %v: see authd device list", args[0], id)
				})
			},
		},
	)
	return device
}

func devicesOf(st *store.Store, name string) ([]account.Device, error) {
	a, err := st.Find(name)
	if err != nil {
		return nil, noSuchUser(name, err)
	}
	return st.Devices(a.ID)
}

// operate runs f on the database of the realm in the data directory.
func (o *options) operate(f func(*store.Store, *account.Registrar, realm.Realm) error) (err error) {
	r, _, err := o.realm()
	if err != nil {
		return err
	}
	pepper, err := server.ReadPepper(o.data)
	if err != nil {
		return err
	}
	st, err := store.Open(filepath.Join(o.data, server.DatabaseFile), r.ID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return f(st, account.New(account.Config{Pepper: pepper}, st), r)
}

// removeAll removes every account, with force; without, it says what that
// would delete.
func removeAll(w io.Writer, st *store.Store, reg *account.Registrar, force bool) error {
	users, err := st.List()
	if err != nil {
		return err
	}
	var names []string
	devices := 0
	for _, u := range users {
		names = append(names, u.Name)
		devices += u.Devices
	}
	what := fmt.Sprintf("%s with %s", words.Count(len(users), "account", "accounts"), words.Count(devices, "device", "devices"))
	if len(names) > 0 {
		what += " (" + strings.Join(names[:min(len(names), 20)], ", ")
		if len(names) > 20 {
			what += ", …"
		}
		what += ")"
	}
	if !force {
		return usage.Errorf("user remove --all: this would delete %s for ever and shut everybody out; their names are nobody's for %v days. "+
			"Nothing was deleted: add --force to do it", what, int(reg.TokenLife().Hours()/24))
	}
	for _, name := range names {
		if err := reg.Remove(time.Now(), name); err != nil && !errors.Is(err, account.ErrNotFound) {
			return err
		}
	}
	_, err = fmt.Fprintf(w, "deleted %s\n", what)
	return err
}

// resetUser makes a one-time code and prints it, alone on standard output.
func resetUser(cmd *cobra.Command, reg *account.Registrar, r realm.Realm, name string) error {
	code, err := realm.NewResetCode(rand.Reader)
	if err != nil {
		return err
	}
	if err := reg.SetReset(time.Now(), name, code.Proof(r.ID)); err != nil {
		return noSuchUser(name, err)
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), code.Text()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "Hand this to %s and to nobody else: typed as the password at node login it sets a new one, once, within %v hours.\n",
		name, account.ResetLife.Hours())
	return err
}

func noSuchUser(name string, err error) error {
	if errors.Is(err, account.ErrNotFound) {
		return fmt.Errorf("no user %q: see authd user list", name)
	}
	return err
}

func listUsers(w io.Writer, st *store.Store, asJSON bool) error {
	users, err := st.List()
	if err != nil {
		return err
	}
	if asJSON {
		type user struct {
			Name    string    `json:"name"`
			Enabled bool      `json:"enabled"`
			Devices int       `json:"devices"`
			Created time.Time `json:"created"`
		}
		all := make([]user, 0, len(users))
		for _, u := range users {
			all = append(all, user{u.Name, !u.Disabled, u.Devices, u.Created.UTC()})
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, u := range users {
		state := "enabled"
		if u.Disabled {
			state = "disabled"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\tsince %s\n", u.Name, state, words.Count(u.Devices, "device", "devices"), u.Created.Format(time.DateOnly))
	}
	return tw.Flush()
}

func addUser(cmd *cobra.Command, reg *account.Registrar, r realm.Realm, name string) error {
	if err := reg.NameFree(time.Now(), name); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	salt, hash, err := newPassword(cmd, reg, r, name)
	if err != nil {
		return err
	}
	_, err = reg.Add(time.Now(), name, salt, hash)
	return err
}

func setPassword(cmd *cobra.Command, st *store.Store, reg *account.Registrar, r realm.Realm, name string) error {
	if _, err := st.Find(name); err != nil {
		return noSuchUser(name, err)
	}
	salt, hash, err := newPassword(cmd, reg, r, name)
	if err != nil {
		return err
	}
	return noSuchUser(name, reg.SetPassword(name, salt, hash))
}

// newPassword asks for a good password and returns what a node would make of
// it, with the salt it made that with.
func newPassword(cmd *cobra.Command, reg *account.Registrar, r realm.Realm, name string) (salt [16]byte, hash [32]byte, err error) {
	password, err := askPassword(cmd)
	if err != nil {
		return salt, hash, err
	}
	if _, err := realm.CheckPassword(password, realm.Policy{}, name, r.Name); err != nil {
		return salt, hash, err
	}
	if salt, err = reg.Salt(); err != nil {
		return salt, hash, err
	}
	hash, err = realm.Prehash(password, r.ID, salt)
	return salt, hash, err
}

// askPassword asks for a password, twice, without showing it. Where standard
// input is no terminal its first line is taken.
func askPassword(cmd *cobra.Command) (string, error) {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if line == "" {
			return "", errors.New("no password on standard input")
		}
		return line, nil
	}
	var typed [2]string
	for i, prompt := range []string{"Password: ", "Once more: "} {
		fmt.Fprint(cmd.ErrOrStderr(), prompt)
		b, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		typed[i] = string(b)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ")
	}
	return typed[0], nil
}
