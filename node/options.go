package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/adrg/xdg"
	"github.com/spf13/pflag"

	"lanchat/discovery"
	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/node/host"
	"lanchat/node/login"
	"lanchat/node/store"
	"lanchat/node/ui"
	"lanchat/node/ui/theme"
	"lanchat/wire"
	"lanchat/wire/clean"
	"lanchat/wire/private"
	"lanchat/wire/realm"
	"lanchat/wire/usage"
)

// options are the flags.
type options struct {
	data         string
	user         string
	passwordFile string
	register     bool
	authd        string
	peers        []string
	join         string
	trust        string
	host         bool
	ifaces       []string
	port         uint16
	mode         string
	color        string
	plain        bool
	json         bool
	debug        string
}

func (o *options) flags(f *pflag.FlagSet) {
	f.StringVar(&o.data, "data", filepath.Join(xdg.StateHome, "lanchat", "node"), "directory `DIR` of the key, the token and the history")
	f.StringVar(&o.user, "user", "", "user `NAME` to log in with")
	f.StringVar(&o.passwordFile, "password-file", "", "`FILE` whose first line is the password (or LANCHAT_PASSWORD)")
	f.BoolVar(&o.register, "register", false, "make the account if it does not exist")
	f.StringVar(&o.authd, "authd", "", "`HOST:PORT` of authd, instead of looking for it")
	f.StringArrayVar(&o.peers, "peer", nil, "`HOST:PORT` of a node to connect to; may be repeated")
	f.StringVar(&o.join, "join", "", "join `CODE` of the realm, as authd code prints it")
	f.StringVar(&o.trust, "trust", "ask", "which realm to trust: its `FINGERPRINT`, first, or ask")
	f.BoolVar(&o.host, "host", false, "start an authd inside this process if none answers")
	f.StringArrayVar(&o.ifaces, "iface", nil, "network interface `NAME` to use; may be repeated (default: every LAN)")
	f.Uint16Var(&o.port, "port", 0, "UDP port `N` (default: any)")
	f.StringVar(&o.mode, "mode", "reliable", "how messages of new chats travel: reliable or fast")
	f.StringVar(&o.color, "color", "auto", "colour: auto, always or never")
	f.BoolVar(&o.json, "json", false, "events as JSON, one a line; commands on standard input")
	f.StringVar(&o.debug, "log", "", "`FILE` to write a debug log to")
}

// check refuses flags that can't be right, before anything is done.
func (o *options) check(f *pflag.FlagSet) error {
	if _, err := theme.Enable(o.color, os.Stdout); err != nil {
		return usage.Errorf("%w", err)
	}
	if _, ok := chat.ParseMode(o.mode); !ok {
		return usage.Errorf("--mode %q: want reliable or fast", o.mode)
	}
	if o.json && o.plain {
		return usage.Errorf("--json and --plain are two faces: choose one")
	}
	if f.Changed("user") && o.user == "" {
		return usage.Errorf("--user is empty: want a user name")
	}
	if o.data == "" {
		return usage.Errorf("--data is empty: want a directory")
	}
	if slices.Contains(o.ifaces, "") {
		return usage.Errorf("--iface is empty: want the name of a network interface")
	}
	if _, err := parseAddrs("--authd", o.authd); err != nil {
		return err
	}
	for _, p := range o.peers {
		if !isHostPort(p) {
			return usage.Errorf("--peer %q: want HOST:PORT, such as 192.168.1.5:4749", p)
		}
	}
	return nil
}

// program is what the control socket is named after.
const program = "node"

var errNobodyToAsk = errors.New("not logged in, and nobody to ask")

// chat runs the faces that people and scripts stay in.
func (o *options) chat() error {
	if err := o.sameUser(); err != nil {
		return err
	}
	ask, err := ui.NewPrompter(os.Stdin, os.Stdout)
	if err != nil || o.json {
		ask = nil
	}
	ctx, stop := interruptible()
	defer stop()
	n, err := o.open(ask)
	if err != nil {
		return err
	}
	defer n.close()
	var face host.Face
	if o.json {
		face = ui.NewJSON(os.Stdin, os.Stdout)
	} else if !o.plain && theme.Terminal(os.Stdin) && theme.Terminal(os.Stdout) {
		face = ui.NewFull(ui.FullConfig{In: os.Stdin, Out: os.Stdout, Commands: chat.Usages(), First: n.profile.Token() == nil, Open: openLink, Notify: notify, Meter: passwordMeter(o.user)})
	} else {
		face = ui.NewLine(ui.LineConfig{In: os.Stdin, Out: os.Stdout, First: n.profile.Token() == nil, Receipts: true, Commands: chat.Usages(), Meter: passwordMeter(o.user), Open: openLink, Notify: notify})
	}
	go spare(ctx)
	err = n.run(ctx, face)
	if cerr := face.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, ui.ErrQuit) {
		return nil
	}
	if _, refused := errors.AsType[*login.RefusedError](err); refused && o.json {
		return &exitError{status: exitNotLoggedIn} // the event said it
	}
	return err
}

// spare gives unused memory back to the system now and then, until ctx ends: most
// of its life a node waits beside other programs. It leaves some 30 KB of garbage a
// second then, which would come to as much as it has in use before it is collected;
// a collection takes it a few milliseconds.
func spare(ctx context.Context) {
	for {
		select {
		case <-time.After(spareEvery):
			debug.FreeOSMemory()
		case <-ctx.Done():
			return
		}
	}
}

const spareEvery = 10 * time.Second

// openLink starts the platform's opener with a link, which has passed
// markup.Link, as its only argument; no shell sees it.
func openLink(link string) error {
	opener, args := "xdg-open", []string{link}
	switch runtime.GOOS {
	case "darwin":
		opener = "open"
	case "windows":
		opener, args = "rundll32", []string{"url.dll,FileProtocolHandler", link}
	}
	cmd := exec.Command(opener, args...)
	if err := cmd.Start(); errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("there is no %s here, which would; copy the address %s", opener, link)
	} else if err != nil {
		return err
	}
	go cmd.Wait() // so that no zombie is left
	return nil
}

// interruptible returns a context that SIGINT and SIGTERM end; a second
// signal ends the program at once.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// A node is what the flags and the data directory make: everything a host
// needs but its face.
type node struct {
	opts     *options
	profile  *login.Profile
	config   host.Config
	closers  []func() error
	ask      *ui.Prompter
	stdin    io.Reader // has the password where no flag and no person says it; nil: it does not
	account  accountIs
	patience time.Duration
}

func (n *node) close() {
	for i := len(n.closers) - 1; i >= 0; i-- {
		n.closers[i]()
	}
}

// inUse says that a node runs on the data directory.
type inUse struct{ data string }

func (e *inUse) Error() string {
	return fmt.Sprintf("another node uses %q: talk to it with node send and node tail, or give this one its own --data", e.data)
}

func (e *inUse) Unwrap() error { return private.ErrLocked }

// sameUser refuses --user where the data directory holds another person's token:
// what is said would be said in that person's name. Who was renamed may have
// begun under the name that is given.
func (o *options) sameUser() error {
	if o.user == "" {
		return nil
	}
	t, err := login.ReadToken(o.data)
	if t == nil || err != nil || t.Name == o.user {
		return nil // what is wrong with the files is said when they are opened
	}
	if t.NameSeq > 1 {
		fmt.Fprintf(os.Stderr, "node: --user %s: this device is logged in as %s, whose name was changed\n", clean.Line(o.user, 32), t.Name)
		return nil
	}
	return fmt.Errorf("--user %s: this device is logged in as %s already: node logout first, or give %[1]s a directory with --data", clean.Line(o.user, 32), t.Name)
}

// open opens the data directory and the socket. ask is nil where nobody can
// be asked.
func (o *options) open(ask *ui.Prompter) (*node, error) {
	n := &node{opts: o, ask: ask}
	if err := n.open(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *node) open() error {
	o, ask := n.opts, n.ask
	mode, _ := chat.ParseMode(o.mode)
	trust, err := o.trusting(ask)
	if err != nil {
		return err
	}
	authds, err := parseAddrs("--authd", o.authd)
	if err != nil {
		return err
	}
	if err := private.Dir(o.data); err != nil {
		return fmt.Errorf("opening the data directory: %w", err)
	}
	peers, err := readPeers(filepath.Join(o.data, peersFile))
	if err != nil {
		return err
	}
	log, err := n.logger()
	if err != nil {
		return err
	}
	all, _ := discovery.System{}.Interfaces() // without them: nothing to say
	for _, i := range discovery.Unusable(all, o.ifaces) {
		fmt.Fprintf(os.Stderr, "node: --iface %s can't be used now: %s\n", clean.Line(i.Name, 32), i.Reason)
	}
	unlock, err := private.Lock(filepath.Join(o.data, "lock"))
	if errors.Is(err, private.ErrLocked) {
		return &inUse{o.data}
	}
	if err != nil {
		return fmt.Errorf("locking the data directory: %w", err)
	}
	n.closers = append(n.closers, unlock)
	if n.profile, err = login.Open(o.data); err != nil {
		return fmt.Errorf("opening %q: %w", o.data, err)
	}
	if n.profile.Token() == nil {
		if _, _, err := o.password(); err != nil { // not only once authd was found
			return err
		}
	}
	st, err := store.Open(o.data)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, st.Close)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(o.port)})
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("UDP port %d is in use, perhaps by another node: choose another with --port, or none to have one chosen", o.port)
	}
	if err != nil {
		return fmt.Errorf("opening the socket: %w", err)
	}
	n.closers = append(n.closers, conn.Close)
	control, err := private.ListenSocket(o.data, program)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, control.Close)
	n.config = host.Config{
		Profile: n.profile, Store: st, Conn: conn, Network: network(o.ifaces, log),
		Authds: authds, Peers: append(peers, o.peers...), Mode: mode, Started: started, Logger: log,
		Enter:       host.Enter{Trust: trust, Asks: ask != nil, Credentials: n.credentials},
		Control:     control,
		ControlFace: func(c net.Conn) host.Face { return ui.NewJSON(c, c) },
	}
	if o.host || ask != nil {
		n.config.Host = n.hostAuthd
	}
	if !o.host && ask != nil {
		n.config.Enter.Offer = func(ctx context.Context) bool {
			yes, err := ask.Confirm(ctx, "No authd answers on this network. Start one here, inside this program?")
			return err == nil && yes
		}
	}
	return nil
}

// started is when the program started, or nearly.
var started = time.Now()

// run is the node's life with a face.
func (n *node) run(ctx context.Context, face host.Face) error {
	n.config.Face = face
	n.config.Enter.Patience = n.patience
	return host.Run(ctx, n.config)
}

// network is the machine's own network.
func network(ifaces []string, log *slog.Logger) host.Network {
	return host.Network{
		Browse: func(ctx context.Context, found func(netip.AddrPort)) {
			err := discovery.Browse(ctx, ifaces, log, func(h discovery.AuthdHint) {
				for _, a := range h.Addrs {
					found(a)
				}
			})
			if err != nil && ctx.Err() == nil {
				log.Warn("looking for authd", "err", err)
			}
		},
		Discover: discover(discovery.Config{Ifaces: ifaces, MDNS: true, Logger: log}),
	}
}

// discover makes a node's discovery with the settings of c.
func discover(c discovery.Config) func(host.Self, func(presence.Event), func([]byte, netip.AddrPort)) host.Discovery {
	return func(self host.Self, event func(presence.Event), packet func([]byte, netip.AddrPort)) host.Discovery {
		c.Realm, c.Key, c.Boot, c.Port, c.TokenHash = self.Realm, self.Key, self.Boot, self.Port, self.Token
		c.Role = wire.RoleNode
		c.Handle = event
		c.Packet = func(b []byte, from netip.AddrPort, _ int) { packet(b, from) }
		return discovery.New(c)
	}
}

func parseAddrs(flag string, list ...string) (addrs []netip.AddrPort, err error) {
	for _, s := range list {
		if s == "" {
			continue
		}
		if !isHostPort(s) {
			return nil, usage.Errorf("%s %q: want HOST:PORT, such as 192.168.1.5:%d", flag, s, discovery.AuthdPort)
		}
		a, err := net.ResolveUDPAddr("udp", s)
		if err != nil {
			return nil, usage.Errorf("%s %q: nobody knows where that is: %w", flag, s, err)
		}
		ap := a.AddrPort()
		addrs = append(addrs, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
	}
	return addrs, nil
}

// peersFile is the file in the data directory that names peers: HOST:PORT a
// line; empty lines and what begins with # are passed over.
const peersFile = "peers"

// readPeers reads the peers file, which need not be there. Names in it are not
// looked up yet: on the network of the moment nobody may know them.
func readPeers(path string) (peers []string, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the peers file: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if !isHostPort(line) {
			return nil, fmt.Errorf("%s, line %d: %q: want HOST:PORT, such as 192.168.1.5:4749", path, n, clean.Line(line, 100))
		}
		peers = append(peers, line)
	}
	if len(peers) > maxPeers {
		return nil, fmt.Errorf("%s names %d peers: %d will do, as peers tell of others", path, len(peers), maxPeers)
	}
	return peers, nil
}

// isHostPort reports whether s is HOST:PORT, with an address or a name.
func isHostPort(s string) bool {
	name, port, err := net.SplitHostPort(s)
	number, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil && number != 0 && name != ""
}

// maxPeers bounds the peers file: each of its peers is dialled again and again.
const maxPeers = 256

// trusting returns which realm to trust, as the flags say.
func (o *options) trusting(ask *ui.Prompter) (t login.Trust, err error) {
	switch {
	case o.join != "":
		code, err := realm.ParseJoinCode(o.join)
		if err != nil {
			return t, usage.Errorf("--join: %w", err)
		}
		t.Code = &code
	case o.trust == "first":
		t.First = true
	case o.trust == "ask":
		if ask != nil {
			t.Ask = asking(ask)
		}
	default:
		f, err := realm.ParseFingerprint(o.trust)
		if err != nil {
			return t, usage.Errorf("--trust %q: want first, ask or a fingerprint: %w", o.trust, err)
		}
		t.Fingerprint = &f
	}
	return t, nil
}

// asking asks once for each realm, however many addresses answer for it.
func asking(ask *ui.Prompter) func(realm.Realm) bool {
	var mu sync.Mutex
	said := map[wire.RealmID]bool{}
	return func(r realm.Realm) bool {
		mu.Lock()
		defer mu.Unlock()
		yes, asked := said[r.ID]
		if !asked {
			ask.Say("Found the realm " + clean.Line(r.Name, realm.MaxRealmName) + " with the fingerprint\n  " + r.Fingerprint().String() +
				"\nCompare it with what authd fingerprint prints, or ask who runs it.")
			yes, _ = ask.Confirm(context.Background(), "Trust it?")
			said[r.ID] = yes
		}
		return yes
	}
}

// credentials returns what to log in with: from the flags, or from the
// person.
func (n *node) credentials(ctx context.Context, r realm.Realm, problem error) (host.Credentials, error) {
	o := n.opts
	c := host.Credentials{Name: o.user, Register: o.register, LogIn: true, Device: deviceName()}
	if code, err := realm.ParseJoinCode(o.join); err == nil {
		c.Invite = code.Invite
	}
	if problem != nil && n.ask == nil {
		return c, problem
	}
	if problem == nil {
		password, next, err := o.password()
		if err != nil {
			return c, err
		}
		if password == "" && n.stdin != nil {
			if password, next, err = passwordFrom(n.stdin); err != nil {
				return c, err
			}
		}
		if password != "" && o.user != "" {
			c.Password = password
			if code, err := realm.ParseResetCode(password); err == nil {
				if next == "" {
					return c, usage.Errorf("that is a one-time code, which sets a new password: put the new one on the second line")
				}
				c.Code, c.Password = &code, next
			}
			return c, nil
		}
	}
	if n.ask == nil {
		return c, fmt.Errorf("%w: give --user NAME and --password-file FILE, with --register to make the account", errNobodyToAsk)
	}
	return n.askCredentials(ctx, c, problem)
}

// accountIs says what the command was about: an account that is there, a new
// one, or either.
type accountIs int

const (
	oldOrNew accountIs = iota
	oldAccount
	newAccount
)

func (n *node) askCredentials(ctx context.Context, c host.Credentials, problem error) (host.Credentials, error) {
	var err error
	if problem != nil {
		said := problem.Error()
		if refused, ok := errors.AsType[*login.RefusedError](problem); ok {
			said = host.RefusalWords(refused)
		}
		n.ask.Say(said)
	}
	if problem != nil || c.Name == "" || n.account == oldOrNew {
		if c.Name, err = n.askName(ctx, c.Name); err != nil {
			return c, err
		}
	}
	if !c.Register && n.account == oldOrNew {
		if c.Register, err = n.ask.Confirm(ctx, "Is that a new account?"); err != nil {
			return c, err
		}
		c.LogIn = !c.Register
	}
	if !c.Register {
		c.Password, err = n.ask.AskPassword(ctx, "Password")
		code, cerr := realm.ParseResetCode(c.Password)
		if err != nil || cerr != nil {
			return c, err
		}
		n.ask.Say("That is a one-time code: choose a new password.")
		c.Code = &code
	}
	c.Password, err = n.ask.NewPassword(ctx, "New password", passwordMeter(c.Name))
	return c, err
}

// askName asks until it gets what can be a user name.
func (n *node) askName(ctx context.Context, fallback string) (string, error) {
	for {
		name, err := n.ask.Ask(ctx, "Your user name", fallback)
		if err != nil {
			return "", err
		}
		wrong := realm.CheckName(name)
		if wrong == nil {
			return name, nil
		}
		n.ask.Say(wrong.Error())
		fallback = ""
	}
}

// passwordMeter judges what is to be the new password of a user.
func passwordMeter(name string) ui.Meter {
	return func(password string) (int, string) {
		score, err := realm.CheckPassword(password, realm.Policy{}, name)
		if err != nil {
			return score, err.Error()
		}
		return score, ""
	}
}

// password returns the password from the file or the environment, which then
// forgets it; "" if neither is given. Behind a one-time code the file has the
// new password.
func (o *options) password() (password, next string, err error) {
	if o.passwordFile != "" {
		f, err := os.Open(o.passwordFile)
		if err != nil {
			return "", "", fmt.Errorf("reading the password: %w", err)
		}
		defer f.Close()
		return passwordFrom(f)
	}
	return environmentPassword, "", nil
}

// passwordFrom reads a password and, behind a one-time code, the new one.
func passwordFrom(r io.Reader) (password, next string, err error) {
	lines, err := readLines(r, 2)
	return lines[0], lines[1], err
}

// readLines reads n lines, of which those behind the end of r are empty.
func readLines(r io.Reader, n int) ([]string, error) {
	lines, in := make([]string, n), bufio.NewReader(io.LimitReader(r, 4096))
	for i := range lines {
		line, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return lines, fmt.Errorf("reading the password: %w", err)
		}
		lines[i] = strings.TrimRight(line, "\r\n")
	}
	return lines, nil
}

// environmentPassword is LANCHAT_PASSWORD, taken out of the environment.
var environmentPassword = func() string {
	p := os.Getenv("LANCHAT_PASSWORD")
	os.Unsetenv("LANCHAT_PASSWORD")
	return p
}()

// deviceName is what this device is called in the person's list of devices.
func deviceName() string {
	name, _ := os.Hostname()
	return clean.Line(name, 32)
}

func (n *node) logger() (*slog.Logger, error) {
	if n.opts.debug == "" {
		return slog.New(slog.DiscardHandler), nil
	}
	f, err := os.OpenFile(n.opts.debug, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	n.closers = append(n.closers, f.Close)
	return slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug})), nil
}
