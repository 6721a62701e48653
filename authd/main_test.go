package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lanchat/authd/account"
	"lanchat/authd/server"
	"lanchat/authd/store"
	"lanchat/wire"
	"lanchat/wire/realm"
)

// The test program is authd itself when this is set.
const asAuthd = "AUTHD_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asAuthd) != "" {
		main()
	}
	// With the race detector authd would sleep a second each time before it ends well.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}

// runAuthd runs a command that ends by itself, inside this process.
func runAuthd(t testing.TB, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(args, strings.NewReader(stdin), &out, &errs)
	return out.String(), errs.String(), status
}

func want(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// A running authd, on the loopback interface only.
type running struct {
	t      testing.TB
	cmd    *exec.Cmd
	block  map[string]string // what it printed at start, by label
	stderr bytes.Buffer
	rest   chan string // what it printed later, at the end
}

func start(t testing.TB, dir string, args ...string) *running {
	t.Helper()
	args = append([]string{"--data", dir, "--listen", "127.0.0.1:0", "--iface", "lo", "--no-mdns"}, args...)
	r := &running{t: t, cmd: exec.Command(os.Args[0], args...), block: make(map[string]string), rest: make(chan string, 1)}
	r.cmd.Env = append(os.Environ(), asAuthd+"=1")
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stderr = &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.cmd.Process.Kill(); r.cmd.Wait() }) // in vain when it was stopped
	lines := bufio.NewReader(out)
	for r.block["data"] == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			r.cmd.Wait()
			t.Fatalf("no block of labelled lines: %v; standard error:\n%s", err, &r.stderr)
		}
		label, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		r.block[label] = strings.TrimSpace(value)
	}
	go func() {
		b, _ := io.ReadAll(lines)
		r.rest <- string(b)
	}()
	return r
}

// stop ends it by a signal and returns its status.
func (r *running) stop(sig os.Signal) int {
	r.t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		r.t.Fatal(err)
	}
	<-r.rest
	r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

func TestServes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "authd")
	a := start(t, dir, "--name", "lab seven")
	want(t, "realm", a.block["realm"], "lab seven")
	want(t, "accounts", a.block["accounts"], "0")
	want(t, "data", a.block["data"], dir)
	if !regexp.MustCompile(`^([A-Z2-7]{4}-){6}[A-Z2-7]{2}$`).MatchString(a.block["fingerprint"]) {
		t.Errorf("fingerprint: got %q", a.block["fingerprint"])
	}
	addr, err := netip.ParseAddrPort(a.block["address"])
	if err != nil || !addr.Addr().IsLoopback() || addr.Port() == 0 {
		t.Errorf("address: got %q", a.block["address"])
	}
	fingerprint := a.block["fingerprint"]

	// Whether or not it runs:
	for _, running := range []bool{true, false} {
		out, errs, status := runAuthd(t, "", "fingerprint", "--data", dir)
		want(t, "fingerprint", out, fingerprint+"\n")
		if status != 0 || errs != "" {
			t.Errorf("fingerprint: got status %d, %q", status, errs)
		}
		out, _, status = runAuthd(t, "", "--data", dir, "code")
		code, err := realm.ParseJoinCode(out)
		if status != 0 || err != nil || code.Realm.String() != fingerprint {
			t.Errorf("code: got %q, status %d, %v", out, status, err)
		}
		if running {
			_, errs, status = runAuthd(t, "", "--data", dir, "--listen", "127.0.0.1:0", "--iface", "lo", "--no-mdns")
			if status != 1 || !strings.Contains(errs, "another authd is running") || !strings.Contains(errs, dir) {
				t.Errorf("a second one: got status %d, %q", status, errs)
			}
			if got := a.stop(syscall.SIGTERM); got != 0 {
				t.Errorf("after SIGTERM: got status %d, standard error %q", got, &a.stderr)
			}
			want(t, "standard error", a.stderr.String(), "")
		}
	}

	// The realm outlives the process.
	b := start(t, dir, "--name", "other")
	want(t, "fingerprint", b.block["fingerprint"], fingerprint)
	want(t, "realm", b.block["realm"], "lab seven")
	if got := b.stop(os.Interrupt); got != 0 {
		t.Errorf("after SIGINT: got status %d", got)
	}
	if !strings.Contains(b.stderr.String(), "--name") {
		t.Errorf("nothing said about the name: %q", &b.stderr)
	}
}

func TestCommandLine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	for _, tt := range []struct {
		args   string
		status int
		want   string // in standard error
	}{
		{"--nonsense", 2, "--nonsense"},
		{"--lsten :0", 2, "did you mean --listen?"},
		{"nonsense", 2, "nonsense"},
		{"stats", 2, "did you mean status?"},
		{"user lst", 2, "did you mean list?"},
		{"help nonsense", 2, "nonsense"},
		{"completion bsh", 2, "did you mean bash or"},
		{"code extra", 2, "extra"},
		{"--registration maybe", 2, `"maybe"`},
		{"--log-format xml", 2, `"xml"`},
		{"--listen 4747", 2, `"4747"`},
		{"--listen :99999", 2, `":99999"`},
		{"--listen example.org:4747", 2, "example.org"},
		{"--name \x1b[31m", 2, "--name"},
		{"--name=", 2, "--name"},
		{"--iface=", 2, "--iface"},
		{"user", 2, "list"},
		{"user add", 2, "usage: authd user add NAME\n"},
		{"user remove", 2, "--all"},
		{"user remove --all", 1, "no realm"},
		{"user remove bob --all --force", 2, "--all"},
		{"device", 2, "revoke"},
		{"device revoke bob", 2, "usage: authd device revoke NAME DEVICE\n"},
		{"device revoke bob laptop", 2, "laptop"},
		{"backup", 2, "usage: authd backup FILE\n"},
		{"restore", 2, "usage: authd restore FILE\n"},
		{"restore a b", 2, "usage: authd restore FILE\n"},
		{"status --json --metrics", 2, "not both"},
		{"status extra", 2, "extra"},
		{"status", 1, "no realm"},
		{"backup nowhere", 1, "no realm"},
		{"restore nowhere", 1, "nowhere"},
		{"fingerprint", 1, "no realm"},
		{"code", 1, "no realm"},
		{"user list", 1, "no realm"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			out, errs, status := runAuthd(t, "", append(strings.Fields(tt.args), "--data", dir)...)
			if status != tt.status || !strings.HasPrefix(errs, "authd: ") || !strings.Contains(errs, tt.want) || out != "" {
				t.Errorf("got status %d, %q, %q; want %d with %q", status, out, errs, tt.status, tt.want)
			}
			if strings.Contains(errs, "\x1b") {
				t.Errorf("control characters in %q", errs)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("a data directory was made")
			}
		})
	}
	if _, errs, status := runAuthd(t, "", "status", "--data="); status != 2 || !strings.Contains(errs, "--data is empty") {
		t.Errorf("without a data directory: status %d, %q", status, errs)
	}
	out, _, status := runAuthd(t, "", "--help")
	for _, flag := range []string{"--data", "--listen", "--name", "--iface", "--registration", "--metrics-file", "--log-format", "--no-mdns", "fingerprint", "code", "user"} {
		if !strings.Contains(out, flag) {
			t.Errorf("--help (status %d) lacks %s:\n%s", status, flag, out)
		}
	}
}

func TestPortInUse(t *testing.T) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	port := fmt.Sprint(pc.LocalAddr().(*net.UDPAddr).Port)
	_, errs, status := runAuthd(t, "", "--data", t.TempDir(), "--listen", "127.0.0.1:"+port, "--iface", "lo", "--no-mdns")
	if status != 1 || !strings.Contains(errs, port) || !strings.Contains(errs, "--listen") {
		t.Errorf("got status %d, %q, want the port and the flag", status, errs)
	}
}

func TestUsers(t *testing.T) {
	dir := t.TempDir()
	a := start(t, dir) // the commands work beside it
	user := func(stdin string, args ...string) (string, string, int) {
		t.Helper()
		return runAuthd(t, stdin, append([]string{"user", "--data", dir}, args...)...)
	}
	out, errs, status := user("", "list", "--json")
	if status != 0 || strings.TrimSpace(out) != "[]" {
		t.Errorf("nobody: got %q, %q, status %d", out, errs, status)
	}
	const password = "seventeen wet herons"
	if _, errs, status := user(password+"\n", "add", "alice"); status != 0 {
		t.Fatalf("add: got status %d, %q", status, errs)
	}
	for _, tt := range []struct{ stdin, name, want string }{
		{password, "alice", "not available"},
		{password, "admin", "reserved"},
		{password, "Bob", "a-z"},
		{"12345678", "bob", "too easy"},
		{"short", "bob", "too short"},
		{"", "bob", "no password"},
	} {
		out, errs, status := user(tt.stdin, "add", tt.name)
		if status != 1 || !strings.Contains(errs, tt.want) || out != "" {
			t.Errorf("add %s with %q: got status %d, %q, want %q", tt.name, tt.stdin, status, errs, tt.want)
		}
	}
	out, _, _ = user("", "list", "--json")
	var users []map[string]any
	if err := json.Unmarshal([]byte(out), &users); err != nil || len(users) != 1 {
		t.Fatalf("list --json: got %q, %v", out, err)
	}
	if u := users[0]; len(u) != 4 || u["name"] != "alice" || u["enabled"] != true || u["devices"] != 0.0 {
		t.Errorf("got %v", u)
	} else if at, err := time.Parse(time.RFC3339, fmt.Sprint(u["created"])); err != nil || time.Since(at) > time.Hour {
		t.Errorf("created: got %v, %v", u["created"], err)
	}
	if out, _, _ := user("", "list"); !strings.HasPrefix(out, "alice ") {
		t.Errorf("list: got %q", out)
	}
	for _, tt := range []struct {
		cmd     string
		enabled bool
	}{{"unlock", true}, {"disable", false}, {"enable", true}} {
		_, errs, status := user("", tt.cmd, "alice")
		out, _, _ := user("", "list", "--json")
		if status != 0 || !strings.Contains(out, fmt.Sprintf(`"enabled": %v`, tt.enabled)) {
			t.Errorf("%s: got status %d, %q, then %s", tt.cmd, status, errs, out)
		}
	}
	if _, errs, status := user("12345678", "passwd", "alice"); status != 1 || !strings.Contains(errs, "too easy") {
		t.Errorf("passwd with a bad one: got status %d, %q", status, errs)
	}
	if _, errs, status := user("eighteen dry newts", "passwd", "alice"); status != 0 {
		t.Errorf("passwd: got status %d, %q", status, errs)
	}
	for _, cmd := range []string{"unlock", "remove", "passwd", "disable", "enable", "reset"} {
		if _, errs, status := user("", cmd, "nobody"); status != 1 || !strings.Contains(errs, `"nobody"`) {
			t.Errorf("%s nobody: got status %d, %q", cmd, status, errs)
		}
	}
	if _, errs, status := user("", "remove", "alice"); status != 0 {
		t.Errorf("remove: got status %d, %q", status, errs)
	}
	if out, _, _ := user("", "list", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("after remove: got %q", out)
	}
	if _, errs, status := user(password, "add", "bob"); status != 0 {
		t.Errorf("add bob: got status %d, %q", status, errs)
	}
	if _, errs, status := user("", "remove", "--all"); status != 2 || !strings.Contains(errs, "1 account with 0 devices (bob)") || !strings.Contains(errs, "--force") {
		t.Errorf("remove --all: got status %d, %q, want what it would delete", status, errs)
	}
	if out, _, _ := user("", "list"); !strings.HasPrefix(out, "bob ") {
		t.Errorf("after remove --all without --force: got %q", out)
	}
	if out, errs, status := user("", "remove", "--all", "--force"); status != 0 || !strings.Contains(out, "deleted 1 account") {
		t.Errorf("remove --all --force: got status %d, %q, %q", status, out, errs)
	}
	if out, _, _ := user("", "list", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("after remove --all: got %q", out)
	}
	if got := a.stop(os.Interrupt); got != 0 {
		t.Errorf("got status %d", got)
	}
	if strings.Contains(a.stderr.String(), password) {
		t.Errorf("a password is in the log: %s", &a.stderr)
	}
}

func TestInviteCode(t *testing.T) {
	dir := t.TempDir()
	a := start(t, dir, "--registration", "invite")
	out, _, status := runAuthd(t, "", "code", "--data", dir)
	code, err := realm.ParseJoinCode(out)
	if status != 0 || err != nil || len(code.Invite) != realm.InviteSize {
		t.Errorf("got %q, status %d, %v, want a code with an invite", out, status, err)
	}
	if a.stop(os.Interrupt); a.block["code"] != "" {
		t.Errorf("the invite was printed at start: %q", a.block["code"])
	}
}

func TestTooOpenKeyFile(t *testing.T) {
	dir := t.TempDir()
	start(t, dir).stop(os.Interrupt)
	path := filepath.Join(dir, "root.pem")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, errs, status := runAuthd(t, "", "--data", dir, "--listen", "127.0.0.1:0", "--iface", "lo", "--no-mdns")
	if status != 1 || !strings.Contains(errs, "chmod 600 "+path) {
		t.Errorf("got status %d, %q, want the chmod that cures it", status, errs)
	}
}

// Killed, it leaves nothing that keeps the next from starting.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	a := start(t, dir)
	if _, errs, status := runAuthd(t, "seventeen wet herons", "user", "add", "alice", "--data", dir); status != 0 {
		t.Fatalf("got status %d, %q", status, errs)
	}
	a.stop(os.Kill)
	b := start(t, dir)
	want(t, "accounts", b.block["accounts"], "1")
	want(t, "fingerprint", b.block["fingerprint"], a.block["fingerprint"])
	b.stop(os.Interrupt)
}

func TestMetricsFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(t.TempDir(), "authd.prom")
	a := start(t, dir, "--metrics-file", path)
	if got := a.stop(os.Interrupt); got != 0 {
		t.Errorf("got status %d, %q", got, &a.stderr)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"authd_accounts 0\n", "authd_online 0\n", "authd_logins_total 0\n"} {
		if !strings.Contains(string(b), "\n"+line) {
			t.Errorf("no line %q in\n%s", line, b)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestParseListen(t *testing.T) {
	for in, want := range map[string]string{
		":4747":             ":4747",
		":0":                ":0",
		"127.0.0.1:4747":    "127.0.0.1:4747",
		"localhost:1":       "127.0.0.1:1",
		"[::1]:4747":        "[::1]:4747",
		"[fe80::1%eth0]:80": "[fe80::1%eth0]:80",
	} {
		if got, err := parseListen(in); err != nil || got.String() != want {
			t.Errorf("%q: got %v, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "4747", ":", ":x", ":-1", ":65536", "host:1", "::1:4747", "1.2.3.4.5:1"} {
		if got, err := parseListen(in); err == nil {
			t.Errorf("%q: got %v, want an error", in, got)
		}
	}
}

func TestDevices(t *testing.T) {
	dir := t.TempDir()
	start(t, dir).stop(os.Interrupt)
	r, _, err := server.ReadRealm(dir)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(filepath.Join(dir, server.DatabaseFile), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	now := time.Now()
	a := account.Account{ID: wire.AccountID{1}, Name: "alice", NameSeq: 1, Created: now}
	d := account.Device{Key: wire.DeviceKey{1}, Account: a.ID, Name: "laptop", Created: now, Expires: now.Add(time.Hour)}
	g := realm.Grant{Serial: realm.Serial{1}, Account: a.ID, Key: d.Key, Name: "alice", NameSeq: 1, From: now, NotAfter: d.Expires}
	if err := st.Create(a, d, g); err != nil {
		t.Fatal(err)
	}
	id := d.Key.Device().String()
	device := func(args ...string) (string, string, int) {
		t.Helper()
		return runAuthd(t, "", append([]string{"device", "--data", dir}, args...)...)
	}
	out, errs, status := device("list", "alice")
	if status != 0 || !strings.HasPrefix(out, id+"  \"laptop\"  ") || strings.Contains(out, "revoked") {
		t.Errorf("list: got %q, %q, status %d", out, errs, status)
	}
	for _, args := range [][]string{{"list", "bob"}, {"revoke", "bob", id}, {"revoke", "alice", "0123456789abcdef"}} {
		if _, errs, status := device(args...); status != 1 || !strings.Contains(errs, args[1]) {
			t.Errorf("%v: got %q, status %d", args, errs, status)
		}
	}
	if _, errs, status := device("revoke", "alice", id); status != 0 {
		t.Errorf("revoke: got %q, status %d", errs, status)
	}
	if out, _, _ := device("list", "alice"); !strings.Contains(out, "revoked") {
		t.Errorf("list after revoke: got %q", out)
	}
}
