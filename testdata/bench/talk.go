//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/discovery"
	"lanchat/discovery/presence"
	"lanchat/node/chat"
	"lanchat/node/host"
	"lanchat/node/login"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

// messageSize is the length of every message in the benchmark of delivery.
const messageSize = 200

// A talker sends messages and hears those of others: the node's engine, or what
// it is compared with.
type talker interface {
	// command prepares: "dial ADDR", or what a person would type.
	command(line string) error
	// say sends text; to and mode are the engine's words.
	say(to, mode, text string)
}

// talk is the helper that is one participant: KIND DIR NAME AUTHD PROFILE. It
// reads lines and answers each with one:
//
//	say TO MODE RATE COUNT   sends messages; 0 a second: as fast as it goes
//	meet N                   until N others are online
//	await N                  until the room has N members
//	report                   what was heard since the last report
//	anything else            talker.command
func talk(args []string) error {
	heard := &heard{}
	t, err := newTalker(args[0], args[1], args[2], args[3], heard)
	if err != nil {
		return err
	}
	return profiled(args[4], func() error {
		fmt.Println("ready")
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			reply, err := "ok", error(nil)
			switch f := strings.Fields(in.Text()); f[0] {
			case "say":
				rate, _ := strconv.Atoi(f[3])
				count, _ := strconv.Atoi(f[4])
				sayMany(t, f[1], f[2], rate, count)
			case "meet":
				n, _ := strconv.Atoi(f[1])
				err = heard.await(func() bool { return len(heard.online) >= n })
			case "await":
				n, _ := strconv.Atoi(f[1])
				err = heard.await(func() bool { return heard.members >= n })
			case "report":
				var b []byte
				b, err = json.Marshal(heard.report())
				reply = string(b)
			default:
				err = t.command(in.Text())
			}
			if err != nil {
				reply = "error " + err.Error()
			}
			fmt.Println(reply)
		}
		return nil
	})
}

func newTalker(kind, dir, name, authd string, heard *heard) (talker, error) {
	switch kind {
	case "engine":
		return newEngine(filepath.Join(dir, name), name, authd, heard)
	case "raw":
		return newRaw(heard)
	case "stream", "datagram":
		return newBareQUIC(kind == "stream", heard)
	}
	return nil, fmt.Errorf("no talker %q", kind)
}

// sayMany sends count messages, each with the moment it was handed over.
func sayMany(t talker, to, mode string, rate, count int) {
	begin := time.Now()
	for i := range count {
		if rate > 0 {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		}
		text := fmt.Sprintf("%d %d ", time.Now().UnixNano(), i)
		t.say(to, mode, text+strings.Repeat("x", messageSize-len(text)))
	}
}

// heard is what a participant hears.
type heard struct {
	mu      sync.Mutex
	r       report
	seen    []int64 // when message n was sent that came
	members int
	online  map[string]bool
}

// A report is what was heard of one sender.
type report struct {
	Got, Twice, Disorder int
	Took                 []time.Duration // of each, sorted
	First, Last          int64           // when the first was sent and the last was heard, in Unix nanoseconds
	CPU                  time.Duration   // of the process, since it started
	top                  int
}

func (h *heard) message(text string) {
	now := time.Now().UnixNano()
	at, rest, _ := strings.Cut(text, " ")
	count, _, _ := strings.Cut(rest, " ")
	sent, err1 := strconv.ParseInt(at, 10, 64)
	n, err2 := strconv.Atoi(count)
	if err1 != nil || err2 != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for n >= len(h.seen) {
		h.seen = append(h.seen, make([]int64, 1<<16)...)
	}
	if h.seen[n] == sent {
		h.r.Twice++
		return
	}
	h.seen[n] = sent
	if h.r.Got == 0 || sent < h.r.First {
		h.r.First = sent
	}
	if n < h.r.top {
		h.r.Disorder++
	}
	h.r.top, h.r.Last = max(h.r.top, n), now
	h.r.Got++
	h.r.Took = append(h.r.Took, time.Duration(now-sent))
}

func (h *heard) report() report {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.r
	slices.Sort(r.Took)
	h.r = report{}
	r.CPU = cpuTime()
	return r
}

func (h *heard) await(there func() bool) error {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		h.mu.Lock()
		ok := there()
		h.mu.Unlock()
		if ok {
			return nil
		}
	}
	return errors.New("the others do not come")
}

// ---- the engine: a node without its disk and its terminal

type engine struct {
	heard *heard
	do    chan func(chat.Command)
	send  func(chat.Command)
}

func newEngine(dir, name, authd string, heard *heard) (*engine, error) {
	profile, err := login.Open(dir)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddrPort(authd)
	if err != nil {
		return nil, err
	}
	e := &engine{heard: heard, do: make(chan func(chat.Command), 1)}
	heard.online = map[string]bool{}
	failed := make(chan error, 1)
	go func() {
		failed <- host.Run(context.Background(), host.Config{
			Profile: profile, Store: noStore{}, Conn: conn, Face: e, Authds: []netip.AddrPort{at},
			Network: host.Network{
				Browse: func(ctx context.Context, _ func(netip.AddrPort)) { <-ctx.Done() },
				Discover: func(self host.Self, event func(presence.Event), packet func([]byte, netip.AddrPort)) host.Discovery {
					return discovery.New(discovery.Config{Realm: self.Realm, Key: self.Key, Boot: self.Boot, Port: self.Port, TokenHash: self.Token,
						Role: wire.RoleNode, Handle: event, Packet: func(b []byte, from netip.AddrPort, _ int) { packet(b, from) }})
				},
			},
			Enter: host.Enter{Trust: login.Trust{First: true},
				Credentials: func(_ context.Context, _ realm.Realm, problem error) (host.Credentials, error) {
					return host.Credentials{Name: name, Password: rand.Text(), Device: "bench", Register: true}, problem
				}},
		})
	}()
	select {
	case e.send = <-e.do:
		return e, nil
	case err := <-failed:
		return nil, err
	}
}

func (e *engine) Run(ctx context.Context, do func(chat.Command)) error {
	e.do <- do
	<-ctx.Done()
	return nil
}

func (e *engine) Close() error { return nil }

func (e *engine) Show(ev chat.Event) {
	switch ev := ev.(type) {
	case chat.Message:
		e.heard.message(ev.Text)
	case chat.Room:
		e.heard.mu.Lock()
		e.heard.members = len(ev.Members)
		e.heard.mu.Unlock()
	case chat.Peer:
		e.heard.mu.Lock()
		if ev.State == "online" {
			e.heard.online[ev.User] = true
		} else {
			delete(e.heard.online, ev.User)
		}
		e.heard.mu.Unlock()
	case chat.Error:
		fmt.Fprintf(os.Stderr, "engine: %s: %s\n", ev.Code, ev.Text)
	}
}

func (e *engine) command(line string) error {
	e.send(chat.Command{Line: line})
	return nil
}

func (e *engine) say(to, mode, text string) {
	e.send(chat.Command{Say: true, Text: text, Chat: to, Mode: mode})
}

// noStore keeps nothing: what is measured with it is the engine alone. Whole
// nodes are measured with their own.
type noStore struct{}

func (noStore) Load() (chat.State, error)                                            { return chat.State{}, nil }
func (noStore) Apply([]chat.Record) error                                            { return nil }
func (noStore) NextBoot() (uint64, error)                                            { return 1, nil }
func (noStore) Unread() (map[chat.ChatID]int, error)                                 { return nil, nil }
func (noStore) Each(chat.ChatID, func(*chat.SaveMessage) error) error                { return nil }
func (noStore) Long(room wire.RoomID, id chat.MessageID) ([]chat.SaveMessage, error) { return nil, nil }
func (noStore) Message(chat.ChatID, chat.MessageID) ([]chat.SaveMessage, error)      { return nil, nil }
func (noStore) Nth(chat.ChatID, wire.AccountID, int) ([]chat.SaveMessage, error)     { return nil, nil }
func (noStore) Sweep(chat.ChatID, time.Time, int64, int) (int, error)                { return 0, nil }
func (noStore) History(chat.ChatID, chat.MessageID, int) ([]chat.SaveMessage, error) {
	return nil, nil
}
func (noStore) Search(string, int) ([]chat.SaveMessage, error) { return nil, nil }
func (noStore) Missed(wire.RoomID, []wire.Have, int) ([]chat.SaveMessage, error) {
	return nil, nil
}
func (noStore) Signed(wire.RoomID, wire.DeviceID, []wire.Range, int) ([]chat.SaveMessage, error) {
	return nil, nil
}

// ---- what it is compared with

// raw sends every message as a datagram to a multicast group.
type raw struct{ conn discovery.GroupConn }

func newRaw(heard *heard) (*raw, error) {
	ifi, err := net.InterfaceByName("eth0")
	if err != nil {
		return nil, err
	}
	conn, err := discovery.System{}.ListenGroup(presence.Link{Index: ifi.Index, Name: ifi.Name}, netip.MustParseAddrPort("239.193.7.7:5007"))
	if err != nil {
		return nil, err
	}
	go func() {
		b := make([]byte, 1500)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			heard.message(string(b[:n]))
		}
	}()
	return &raw{conn}, nil
}

func (r *raw) command(string) error { return nil }

func (r *raw) say(_, _, text string) {
	if err := r.conn.Send([]byte(text)); err != nil {
		fmt.Fprintln(os.Stderr, "raw:", err)
	}
}

// bareQUIC sends every message over one stream, or as a DATAGRAM, to each of
// those it has dialled, with the settings that nodes have.
type bareQUIC struct {
	streams bool
	tr      *quic.Transport
	tls     *tls.Config
	conns   []*quic.Conn
	out     []*quic.Stream
}

// barePort is where a bareQUIC listens.
const barePort = 5008

func newBareQUIC(streams bool, heard *heard) (*bareQUIC, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := realm.SelfSigned(key)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: barePort})
	if err != nil {
		return nil, err
	}
	q := &bareQUIC{streams: streams, tr: link.NewTransport(conn, nil), tls: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}, InsecureSkipVerify: true, NextProtos: []string{"bench"}}}
	ln, err := q.tr.Listen(q.tls, link.PeerConfig())
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			go q.hear(c, heard)
		}
	}()
	return q, nil
}

func (q *bareQUIC) hear(c *quic.Conn, heard *heard) {
	if !q.streams {
		for {
			b, err := c.ReceiveDatagram(c.Context())
			if err != nil {
				return
			}
			heard.message(string(b))
		}
	}
	s, err := c.AcceptStream(c.Context())
	if err != nil {
		return
	}
	in := bufio.NewReader(s)
	for {
		var size [2]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(in, b); err != nil {
			return
		}
		heard.message(string(b))
	}
}

func (q *bareQUIC) command(line string) error {
	addr, err := netip.ParseAddrPort(strings.TrimPrefix(line, "dial "))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := q.tr.Dial(ctx, net.UDPAddrFromAddrPort(addr), q.tls, link.PeerConfig())
	if err != nil {
		return err
	}
	q.conns = append(q.conns, c)
	if q.streams {
		s, err := c.OpenStreamSync(ctx)
		if err != nil {
			return err
		}
		q.out = append(q.out, s)
	}
	return nil
}

func (q *bareQUIC) say(_, _, text string) {
	var err error
	for _, s := range q.out {
		_, e := s.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...))
		err = errors.Join(err, e)
	}
	if !q.streams {
		for _, c := range q.conns {
			err = errors.Join(err, c.SendDatagram([]byte(text)))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quic:", err)
	}
}
