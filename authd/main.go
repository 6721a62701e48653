// Authd serves a realm: it registers people, logs them in and gives their
// devices the tokens with which they then talk to each other, without it.
//
//	authd                      serves; the first start makes the realm
//	authd fingerprint          prints what people compare
//	authd code                 prints the code that newcomers join with
//	authd user list [--json]   who has an account
//	authd user add NAME        makes an account; the password is asked for
//	authd user passwd NAME     sets a new password
//	authd user rename OLD NEW  gives an account another name
//	authd user reset NAME      prints a one-time code for a new password
//	authd user disable NAME    shuts an account out, until authd user enable
//	authd user unlock NAME     after too many failed log-ins
//	authd user remove NAME     removes an account; --all --force every one
//	authd device list NAME     a person's devices
//	authd device revoke NAME DEVICE
//	authd backup FILE          writes accounts and keys to a file
//	authd restore FILE         puts them back; authd must not be running
//	authd status [--json|--metrics]  how the running authd is doing
//
// Running nodes hear of what is shut out in seconds.
//
// It uses UDP only. Its data directory holds the realm's keys and the
// database; who has those is the realm.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"

	"github.com/adrg/xdg"
	"github.com/spf13/cobra"

	"lanchat/authd/account"
	"lanchat/authd/serve"
	"lanchat/authd/server"
	"lanchat/authd/store"
	"lanchat/discovery"
	"lanchat/wire/private"
	"lanchat/wire/realm"
	"lanchat/wire/usage"
)

func main() {
	// quic-go would write to standard error that it wants larger buffers.
	os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	private.NoCoreDumps()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run does what the arguments say and returns the exit status: 0 done, 1
// failure, 2 wrong usage.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cmd := command()
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.Execute()
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "authd: %v\n", err)
	if usage.Is(err) {
		fmt.Fprintln(stderr, "authd: see authd --help")
		return usage.Status
	}
	return 1
}

// options are the flags.
type options struct {
	data         string
	listen       string
	name         string
	ifaces       []string
	registration string
	metricsFile  string
	logFormat    string
	noMDNS       bool
}

func command() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "authd",
		Short: "Serves a lanchat realm",
		Long:  "Authd registers people and gives their devices the tokens with which they then chat, without it.\nWithout a command it serves; the first start makes the realm.",
		Args:  usage.Args(cobra.NoArgs),
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if o.data == "" {
				return usage.Errorf("--data is empty: want a directory")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return o.serve(cmd) },
	}
	root.PersistentFlags().StringVar(&o.data, "data", filepath.Join(xdg.StateHome, "lanchat", "authd"), "directory `DIR` of the realm's keys and database")
	f := root.Flags()
	f.StringVar(&o.listen, "listen", ":4747", "`HOST:PORT` to serve at (UDP); port 0 picks one")
	f.StringVar(&o.name, "name", "", "`REALM`'s name, for the first start (default: this host's name)")
	f.StringArrayVar(&o.ifaces, "iface", nil, "network interface `NAME` to be found on; may be repeated (default: every usable LAN)")
	f.StringVar(&o.registration, "registration", "open", "who may make an account: open, invite or closed")
	f.StringVar(&o.metricsFile, "metrics-file", "", "`FILE` to write metrics to every 15 s, in Prometheus's text format")
	f.StringVar(&o.logFormat, "log-format", "text", "of the log on standard error: text or json")
	f.BoolVar(&o.noMDNS, "no-mdns", false, "do not advertise by mDNS")

	root.AddCommand(
		&cobra.Command{
			Use: "fingerprint", Short: "Prints the realm's fingerprint", Args: usage.Args(cobra.NoArgs),
			RunE: func(cmd *cobra.Command, _ []string) error {
				r, _, err := o.realm()
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), r.Fingerprint())
				return err
			},
		},
		&cobra.Command{
			Use: "code", Short: "Prints the code that newcomers join with", Args: usage.Args(cobra.NoArgs),
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, code, err := o.realm()
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), code)
				return err
			},
		},
		o.userCommand(),
		o.deviceCommand(),
		o.backupCommand(),
		o.restoreCommand(),
		o.statusCommand(),
	)
	usage.Set(root)
	return root
}

// realm returns the realm in the data directory and its join code.
func (o *options) realm() (realm.Realm, realm.JoinCode, error) {
	r, code, err := server.ReadRealm(o.data)
	if errors.Is(err, server.ErrNoRealm) {
		err = fmt.Errorf("%w: %q is made by the first start of authd", err, o.data)
	}
	return r, code, err
}

// defaultName returns this host's name as far as a realm can have it.
func defaultName() string {
	host, _ := os.Hostname()
	host, _, _ = strings.Cut(host, ".")
	if realm.CheckRealmName(host) != nil {
		return "lanchat"
	}
	return host
}

func (o *options) logger(w io.Writer) (*slog.Logger, error) {
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: inWords})), nil
	}
	return nil, usage.Errorf("--log-format %q: want text or json", o.logFormat)
}

// inWords has the log as JSON say what the log as text does: ids and codes, not
// the numbers they are made of.
func inWords(_ []string, a slog.Attr) slog.Attr {
	if s, ok := a.Value.Any().(fmt.Stringer); ok && a.Value.Kind() == slog.KindAny {
		a.Value = slog.StringValue(s.String())
	}
	return a
}

// serve is authd itself.
func (o *options) serve(cmd *cobra.Command) (err error) {
	log, err := o.logger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	registration, err := account.ParseRegistration(o.registration)
	if err != nil {
		return usage.Errorf("--%w", err)
	}
	addr, err := parseListen(o.listen)
	if err != nil {
		return usage.Errorf("%w", err)
	}
	if slices.Contains(o.ifaces, "") {
		return usage.Errorf("--iface is empty: want the name of a network interface")
	}
	name := o.name
	if !cmd.Flags().Changed("name") {
		name = defaultName()
	} else if err := realm.CheckRealmName(name); err != nil {
		return usage.Errorf("--name %w", err)
	}

	// Before anything is printed: who reads it may send a signal at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once

	a, err := serve.Open(serve.Config{
		Data: o.data, Name: name, Listen: addr, Ifaces: o.ifaces, MDNS: !o.noMDNS,
		Rules: account.Config{Registration: registration}, Logger: log,
	})
	if err != nil {
		return listenError(addr, err)
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if o.name != "" && o.name != a.Keys.Realm.Name {
		log.Warn("--name is for the first start, the realm keeps its name", "realm", a.Keys.Realm.Name)
	}
	all, _ := discovery.System{}.Interfaces() // without them: nothing to say
	for _, i := range discovery.Unusable(all, o.ifaces) {
		log.Warn("an interface can't be used now", "iface", i.Name, "why", i.Reason)
	}
	if err := announce(cmd.OutOrStdout(), o, a.Server, a.Store); err != nil {
		return fmt.Errorf("writing to standard output: %w", err)
	}

	var wg sync.WaitGroup
	wg.Go(func() { serve.TendMemory(ctx) })
	if o.metricsFile != "" {
		wg.Go(func() { writeMetrics(ctx, o.metricsFile, a, log) })
	}
	err = a.Run(ctx)
	stop()
	wg.Wait()
	return err
}

// parseListen reads HOST:PORT. The host is an address; none means all.
func parseListen(s string) (*net.UDPAddr, error) {
	wrong := fmt.Errorf("--listen %q: want HOST:PORT with an address of this host or none, such as :4747", s)
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return nil, wrong
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, wrong
	}
	a := &net.UDPAddr{Port: int(n)}
	switch host {
	case "":
		return a, nil
	case "localhost":
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil, wrong
	}
	a.IP, a.Zone = ip.AsSlice(), ip.Zone()
	return a, nil
}

func listenError(addr *net.UDPAddr, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("UDP port %d is in use, perhaps by another authd: choose another with --listen :PORT (0 picks one)", addr.Port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%v is not an address of this host: leave it out (--listen :%d) to serve at all of them", addr.IP, addr.Port)
	}
	return err
}

// announce prints the block that people and scripts read the realm from.
func announce(w io.Writer, o *options, srv *server.Server, st *store.Store) error {
	accounts, err := st.Count()
	if err != nil {
		return err
	}
	data, err := filepath.Abs(o.data)
	if err != nil {
		return err
	}
	_, code, err := server.ReadRealm(o.data)
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "realm\t%s\n", srv.Realm().Name)
	fmt.Fprintf(tw, "fingerprint\t%s\n", srv.Realm().Fingerprint())
	for _, a := range addresses(srv.Addr().(*net.UDPAddr), o.ifaces) {
		fmt.Fprintf(tw, "address\t%s\n", a)
	}
	fmt.Fprintf(tw, "accounts\t%d\n", accounts)
	fmt.Fprintf(tw, "data\t%s\n", data)
	if len(code.Invite) == 0 { // else it is a secret: authd code prints it
		fmt.Fprintf(tw, "code\t%s\n", code)
	}
	return tw.Flush()
}

// addresses returns where the socket is reached from the LAN, those that can
// be typed first.
func addresses(bound *net.UDPAddr, ifaces []string) []netip.AddrPort {
	ap := bound.AddrPort()
	if ip := ap.Addr().Unmap(); !ip.IsUnspecified() {
		return []netip.AddrPort{netip.AddrPortFrom(ip, ap.Port())}
	}
	var global, local []netip.AddrPort
	all, _ := discovery.System{}.Interfaces() // without them: loopback
	links, _ := discovery.Usable(all, ifaces)
	for _, l := range links {
		for _, p := range l.Prefixes {
			if ip := p.Addr(); ip.Is6() && ip.IsLinkLocalUnicast() {
				local = append(local, netip.AddrPortFrom(ip.WithZone(l.Name), ap.Port()))
			} else {
				global = append(global, netip.AddrPortFrom(ip.Unmap(), ap.Port()))
			}
		}
	}
	switch {
	case len(global) > 0:
		return global
	case len(local) > 0:
		return local
	}
	return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), ap.Port())}
}
