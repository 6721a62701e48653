//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lanchat/testdata/lan/emu"
)

// TestMain makes this program lan itself where asked to, and else runs the tests, which
// then make LANs inside namespaces: nested.
func TestMain(m *testing.M) {
	if os.Getenv("LAN_TEST_MAIN") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(emu.Main(m))
}

// self returns the path of this program.
func self(t *testing.T) string {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// lan returns a command that runs this program as lan.
func lan(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(self(t), args...)
	cmd.Env = append(os.Environ(), "LAN_TEST_MAIN=1", "GORACE=atexit_sleep_ms=0", "XDG_RUNTIME_DIR="+t.TempDir())
	return cmd
}

// script starts a LAN in which sh runs text and returns what it printed.
func script(t *testing.T, flags []string, text string) (stdout, stderr string, status int) {
	t.Helper()
	emu.Need(t)
	cmd := lan(t, append(flags, "--", "sh", "-c", text)...)
	cmd.Dir = t.TempDir()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestSession(t *testing.T) {
	out, errs, status := script(t, []string{"-hosts", "2", "-host", "deep,lan=1,no6"}, `
		lan ctl hosts
		lan exec h2 hostname
		cd / && lan exec h2 pwd
		echo through | lan exec h1 cat
		lan exec h1 sh -c 'exit 7'; echo $?
		lan exec h1 no-such-program 2>&1; echo $?
		lan exec h1 sh -c 'kill -9 $$'; echo $?
		lan exec h1 lan exec h2 hostname
		lan exec h1 sh -c 'sleep 1000 >/dev/null 2>&1 & echo sleeping'
		exit 5`)
	want := `h1    eth0  LAN 0  10.77.0.1/24  fe80::4c:41ff:fe00:1
h2    eth0  LAN 0  10.77.0.2/24  fe80::4c:41ff:fe00:2
deep  eth0  LAN 1  10.78.0.3/24  -
h2
/
through
7
lan: exec: "no-such-program": executable file not found in $PATH
127
137
h2
sleeping
`
	if out != want {
		t.Errorf("printed\n%swant\n%s", out, want)
	}
	if !strings.HasPrefix(errs, "lan: h1 h2 deep; from another terminal: LANCHAT_LAN=") || strings.Count(errs, "\n") != 1 {
		t.Errorf("standard error: %s", errs)
	}
	if status != 5 {
		t.Errorf("status %d, want 5", status)
	}
}

func TestCtl(t *testing.T) {
	const status = "status "
	var text, want string
	for _, tt := range []struct {
		command string
		want    string // what it prints, both outputs
		status  int
	}{
		{"loss h1 5", "", 0},
		{"loss h1/eth0 5.5%", "", 0},
		{"dup all 1", "", 0},
		{"reorder h2 1", "", 0},
		{"delay h2 20ms", "", 0},
		{"jitter h2 5ms", "", 0},
		{"mcast h2 off", "", 0},
		{"mcast h2 on", "", 0},
		{"cut h1 h2", "", 0},
		{"cut h1", "", 0},
		{"heal h1 h2", "", 0},
		{"heal h1", "", 0},
		{"heal", "", 0},
		{"unplug h1", "", 0},
		{"plug h1", "", 0},
		{"down h1", "", 0},
		{"up h1", "", 0},
		{"addr h1 10.77.0.99/24", "", 0},
		{"addr h1 none", "", 0},
		{"attach h2", "eth1\n", 0},
		{"attach h2 3", "eth2\n", 0},
		{"remove h2/eth1", "", 0},
		{"pcap x.pcap", "", 0},
		{"pcap off", "", 0},
		{"pcap /no/such/dir/x", "lan: opening the capture file: open /no/such/dir/x: no such file or directory\n", 1},
		{"loss h9 5", "lan: no host \"h9\"; there are h1 h2\n", 1},
		{"loss h1/eth7 5", "lan: no interface \"h1/eth7\"\n", 1},
		{"cut h1 h9", "lan: no host \"h9\"; there are h1 h2\n", 1},
		{"", "lan: ctl needs a command\n", 2},
		{"nonsense", "lan: unknown command \"nonsense\"\n", 2},
		{"loss h1", "lan: usage: lan ctl loss TARGET PCT\n", 2},
		{"loss h1 101", "lan: loss of 101 % is not between 0 and 100\n", 2},
		{"loss h1 some", "lan: \"some\" is no percentage\n", 2},
		{"delay h1 20", "lan: \"20\" is no time; write as in 20ms\n", 2},
		{"mcast h1 maybe", "lan: mcast is on or off, not \"maybe\"\n", 2},
		{"addr h1 fe80::1/64", "lan: \"fe80::1/64\" is no IPv4 address with a prefix length\n", 2},
		{"cut", "lan: usage: lan ctl cut HOST [HOST]\n", 2},
		{"stats --xml", "lan: stats has no option \"--xml\"\n", 2},
	} {
		text += "lan ctl " + tt.command + " 2>&1; echo " + status + "$?\n"
		want += tt.want
		if tt.status == 2 {
			want += "Try \"lan -h\".\n"
		}
		want += fmt.Sprintf("%s%d\n", status, tt.status)
	}
	got, _, _ := script(t, []string{"-hosts", "2"}, text)
	gots, wants := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	for i := range min(len(gots), len(wants)) {
		if gots[i] != wants[i] {
			t.Fatalf("after\n%sgot  %swant %s", strings.Join(gots[:i], ""), gots[i], wants[i])
		}
	}
	if len(gots) != len(wants) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestCtlChangesTheNetwork(t *testing.T) {
	// What h1 sends to everybody on port 9 is lost on the way to h2, not to h3.
	out, _, status := script(t, []string{"-hosts", "3"}, `
		lan ctl loss h2 100
		lan ctl stats --json
		lan exec h1 `+self(t)+` shout
		lan ctl stats --json`)
	if status != 0 {
		t.Fatalf("status %d:\n%s", status, out)
	}
	var before, after []emu.Stats
	d := json.NewDecoder(strings.NewReader(out))
	if err := errors.Join(d.Decode(&before), d.Decode(&after)); err != nil || len(before) != 3 || len(after) != 3 {
		t.Fatalf("%v in\n%s", err, out)
	}
	if b, a := before[1], after[1]; a.Received != b.Received || a.Lost == b.Lost {
		t.Errorf("h2 counted\n%+v and then\n%+v", b, a)
	}
	if b, a := before[2], after[2]; a.Received.Frames == b.Received.Frames || a.Lost != 0 {
		t.Errorf("h3 counted\n%+v and then\n%+v", b, a)
	}
}

func TestPcapFlag(t *testing.T) {
	emu.Need(t)
	file := filepath.Join(t.TempDir(), "all.pcap")
	if out, errs, status := script(t, []string{"-hosts", "2", "-pcap", file}, "lan exec h1 "+self(t)+" shout"); status != 0 {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := false
	for frame, err := range emu.ReadPcap(f) {
		if err != nil {
			t.Fatal(err)
		}
		found = found || bytes.Contains(frame.Data, []byte(shouted))
	}
	if !found {
		t.Errorf("%q is not in the capture", shouted)
	}
}

const shouted = "is anybody there?"

// init makes "this program, shout" broadcast once. (The systems that run the tests
// need not have ping.)
func init() {
	if len(os.Args) != 2 || os.Args[1] != "shout" {
		return
	}
	c, err := net.Dial("udp4", "10.77.0.255:9")
	if err == nil {
		_, err = c.Write([]byte(shouted))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// From a terminal outside the LAN's namespaces, lan exec has to enter them.
func TestFromOutside(t *testing.T) {
	emu.Need(t)
	server := lan(t, "-hosts", "2", "--", "cat")
	in, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "x") // it comes back when the LAN stands
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	outside := func(args ...string) *exec.Cmd {
		cmd := lan(t, args...)
		cmd.Env = server.Env
		return cmd
	}
	here, _ := os.Hostname()
	for _, tt := range []struct{ args, want string }{
		{"exec h2 hostname", "h2\n"},
		{"exec h1 pwd", mustGetwd(t) + "\n"},
	} {
		got, err := outside(strings.Fields(tt.args)...).CombinedOutput()
		if err != nil || string(got) != tt.want {
			t.Errorf("lan %s: %q, %v, want %q", tt.args, got, err, tt.want)
		}
	}
	if now, _ := os.Hostname(); now != here {
		t.Errorf("this host is %q now", now)
	}
	got, err := outside("exec", "h1", "cat", "/proc/net/dev").Output()
	if err != nil || strings.Count(string(got), ":") != 2 {
		t.Errorf("h1 has\n%s%v, want two interfaces", got, err)
	}

	// A second LAN beside the first.
	second := outside("-hosts", "1", "--", "sh", "-c", "lan ctl hosts")
	if got, err := second.Output(); err != nil || strings.Count(string(got), "\n") != 1 {
		t.Errorf("second LAN: %s%v", got, err)
	}

	// Programs end with the LAN.
	sleeper := outside("exec", "h1", "sh", "-c", "echo ready; exec sleep 1000")
	ready, err := sleeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(ready, make([]byte, 6))
	in.Close()
	if err := server.Wait(); err != nil {
		t.Errorf("the LAN ended with %v", err)
	}
	hung := time.AfterFunc(10*time.Second, func() { sleeper.Process.Kill() })
	sleeper.Wait()
	if !hung.Stop() {
		t.Error("a program outlived its LAN")
	}
	if got := sleeper.ProcessState.ExitCode(); got != 137 {
		t.Errorf("lan exec ended with %d, want 137", got)
	}
	if got, err := outside("ctl", "hosts").CombinedOutput(); err == nil || !strings.Contains(string(got), "no LAN is running") {
		t.Errorf("after the end: %s%v", got, err)
	}
}

func mustGetwd(t *testing.T) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-nonsense", "flag provided but not defined: -nonsense"},
		{"-hosts 255", "a LAN has 0 to 254 hosts"},
		{"-loss 101", "loss of 101 % is not between 0 and 100"},
		{"-host h,lan=x", `invalid value "h,lan=x" for flag -host: "x" is no LAN`},
		{"-host h,what", `invalid value "h,what" for flag -host: host option "what"`},
		{"-host all", `invalid value "all" for flag -host: "all" is no name for a host`},
		{"nonsense", `unknown command "nonsense"; to run a program, write -- before it`},
		{"exec h1", "usage: lan exec HOST CMD…"},
		{"ctl", "ctl needs a command"},
	} {
		cmd := lan(t, strings.Fields(tt.args)...)
		out, _ := cmd.CombinedOutput()
		want := "lan: " + tt.want + "\nTry \"lan -h\".\n"
		if got := cmd.ProcessState.ExitCode(); got != 2 || string(out) != want {
			t.Errorf("lan %s: status %d and\n%swant 2 and\n%s", tt.args, got, out, want)
		}
	}
	out, err := lan(t, "-h").Output()
	if err != nil || string(out) != usage {
		t.Errorf("lan -h: %v and\n%s", err, out)
	}
}
