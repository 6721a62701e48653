//go:build linux

package main_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/discovery"
	"lanchat/node/login"
	"lanchat/node/room"
	"lanchat/node/store"
	"lanchat/testdata/lan/emu"
	"lanchat/wire"
	"lanchat/wire/link"
)

// A rogue is a modified node: it has all that a real one had when its
// directory was copied, forgets nothing, obeys nobody, records every room
// packet on the wire and asks everybody for everything.
type rogue struct {
	l       *lan
	host    string
	profile *login.Profile
	log     *room.Log // what it had, and what it was told since
	secrets []room.Secret
	quic    *quic.Transport

	mu    sync.Mutex
	heard [][]byte
	links map[*quic.Conn]*quic.Stream // on which frames are pushed
}

// copyOf copies the directory of a node that does not run.
func (l *lan) copyOf(name string) (dir string) {
	l.t.Helper()
	dir = l.path(name + "-copy")
	if err := os.CopyFS(dir, os.DirFS(l.path(name))); err != nil {
		l.t.Fatal(err)
	}
	closeDir(l.t, dir)
	return dir
}

// closeDir takes a copied directory from everybody else again.
func closeDir(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Type().IsRegular() {
			if err := os.Chmod(dir+"/"+f.Name(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// rogue starts one in a host, from a copied directory of somebody who is in one
// room.
func (l *lan) rogue(host, dir string) *rogue {
	l.t.Helper()
	r := &rogue{l: l, host: host, links: map[*quic.Conn]*quic.Stream{}}
	var err error
	if r.profile, err = login.Open(dir); err != nil {
		l.t.Fatal(err)
	}
	r.log, r.secrets = l.roomOf(dir, r.profile)
	c := l.listen(host, 0)
	r.quic = link.NewTransport(c, nil)
	l.t.Cleanup(func() { r.quic.Close(); c.Close() })
	l.t.Cleanup(l.Watch(func(f emu.Frame) {
		if p := parsePacket(f.Data); p.proto == "UDP" && len(p.payload) > 0 && p.payload[0] == roomPacket {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.heard = append(r.heard, slices.Clone(p.payload))
		}
	}))
	return r
}

// roomOf returns the log and the secrets of the one room in a directory whose
// node does not run.
func (l *lan) roomOf(dir string, p *login.Profile) (log *room.Log, secrets []room.Secret) {
	l.t.Helper()
	st, err := store.Open(dir)
	if err != nil {
		l.t.Fatal(err)
	}
	defer st.Close()
	state, err := st.Load()
	if err != nil {
		l.t.Fatal(err)
	}
	var entries []*wire.Entry
	for _, s := range state.Entries {
		e, err := wire.ParseEntry(s.Entry)
		if err != nil {
			l.t.Fatal(err)
		}
		entries = append(entries, e)
	}
	if log, err = room.Load(p.Pin().ID, entries, nil); err != nil {
		l.t.Fatal(err)
	}
	for _, s := range state.Secrets {
		secrets = append(secrets, s.Secret)
	}
	return log, secrets
}

// dial links with a node; nil: that did not let it in.
func (r *rogue) dial(addr string) *quic.Conn {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := link.DialAny(ctx, r.quic, netip.MustParseAddrPort(addr), r.profile.Identity, r.profile.Verifier(), time.Now)
	if err != nil {
		return nil
	}
	control, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil
	}
	hello := wire.Hello{Version: 1, Boot: uint64(time.Now().Unix()), Time: uint64(time.Now().UnixMilli())}
	if link.WriteFrame(control, wire.FrameHello, hello.Append(nil)) != nil {
		return nil
	}
	control.SetReadDeadline(time.Now().Add(patience))
	if typ, _, err := link.ReadFrame(control); err != nil || typ != wire.FrameHello {
		return nil
	}
	control.SetReadDeadline(time.Time{})
	r.mu.Lock()
	r.links[conn] = control
	r.mu.Unlock()
	go func() { // what is pushed
		for {
			typ, body, err := link.ReadFrame(control)
			if err != nil {
				return
			}
			r.take(typ, body)
		}
	}()
	return conn
}

// push sends an entry over a link.
func (r *rogue) push(conn *quic.Conn, e *wire.Entry) {
	r.l.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := link.WriteFrame(r.links[conn], wire.FrameEntry, e.Append(nil)); err != nil {
		r.l.t.Fatal(err)
	}
}

// take keeps what somebody gave it.
func (r *rogue) take(typ uint8, body []byte) (key bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch typ {
	case wire.FrameKey:
		if k, err := wire.ParseKey(body); err == nil {
			r.secrets = append(r.secrets, k.Secret)
			return true
		}
	case wire.FrameEntry:
		if e, err := wire.ParseEntry(body); err == nil {
			r.log.Add(e)
		}
	default:
		r.heard = append(r.heard, slices.Clone(body))
	}
	return false
}

// ask puts a question and returns how many keys the answer held, and whether
// there was one.
func (r *rogue) ask(conn *quic.Conn, typ uint8, body []byte) (keys int, answered bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return 0, false
	}
	s.SetDeadline(time.Now().Add(patience))
	if link.WriteFrame(s, typ, body) != nil || s.Close() != nil {
		return 0, false
	}
	for {
		typ, body, err := link.ReadFrame(s)
		if err != nil {
			return keys, answered
		}
		answered = true
		if r.take(typ, body) {
			keys++
		}
	}
}

// askAll asks a peer for the key of every epoch, those it is told of included,
// for the log, for rooms, for messages; and returns how many keys it got.
// It fails the test if the peer does not answer at all.
func (r *rogue) askAll(conn *quic.Conn, epochs []wire.Hash) (keys int) {
	r.l.t.Helper()
	id := r.log.Room()
	all := wire.LogRange{Room: id}
	_, answered := r.ask(conn, wire.FrameLog, all.Append(nil))
	if !answered {
		r.l.t.Error("the peer answers nothing: no wonder there are no keys")
	}
	r.mu.Lock()
	for _, e := range r.log.Since(0) {
		epochs = append(epochs, e.Hash())
	}
	r.mu.Unlock()
	for _, e := range epochs {
		q := wire.KeyRequest{Room: id, Entry: e}
		n, _ := r.ask(conn, wire.FrameKeyOf, q.Append(nil))
		keys += n
	}
	enter, vector := wire.Enter{Room: id}, wire.Vector{Room: id}
	for typ, body := range map[uint8][]byte{wire.FrameRooms: nil, wire.FrameEnter: enter.Append(nil), wire.FramePull: vector.Append(nil)} {
		n, _ := r.ask(conn, typ, body)
		keys += n
	}
	return keys
}

// epochs returns every epoch of a log that it has the secret of, those that
// follow by a step included; the newest last.
func (r *rogue) epochs(log *room.Log) (epochs []*room.Epoch) {
	secrets := map[wire.Hash]room.Secret{}
	for _, e := range log.Since(0) {
		info := log.EpochInfo(e.Hash())
		if info == nil {
			continue
		}
		try := slices.Clone(r.secrets)
		for entry, s := range secrets {
			try = append(try, room.Step(log.Room(), entry, s, e.Args))
		}
		for _, s := range try {
			if epoch, err := room.NewEpoch(r.profile.Pin().ID, log.Room(), info, s); err == nil {
				secrets[e.Hash()] = s
				epochs = append(epochs, epoch)
				break
			}
		}
	}
	return epochs
}

// reads returns all it can make out, with the log of somebody who is in the
// room yet: more than it was ever told.
func (r *rogue) reads(log *room.Log) (text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	epochs := r.epochs(log)
	var b strings.Builder
	for _, packet := range r.heard {
		b.Write(packet) // in clear
		b.WriteByte('\n')
		for _, e := range epochs {
			if o, err := e.Open(packet); err == nil {
				b.Write(o.Body)
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}

// multicast sends entries to the room as a member does, sealed with the newest
// key it has.
func (r *rogue) multicast(entries ...*wire.Entry) {
	r.l.t.Helper()
	epochs := r.epochs(r.log)
	if len(epochs) == 0 {
		r.l.t.Fatal("the rogue has no key of the room")
	}
	epoch := epochs[len(epochs)-1]
	slot, ok := epoch.Info().Slot(r.profile.DeviceKey())
	if !ok {
		r.l.t.Fatal("the rogue is not in the room's epoch")
	}
	c := r.l.caster(r.host)
	defer c.Close()
	group, _ := discovery.GroupAddrs(r.profile.Pin().ID)
	for i, e := range entries {
		var nonce [wire.NonceSize]byte
		rand.Read(nonce[:])
		packet, _ := epoch.Seal(r.profile.Key(), &wire.Plain{Slot: slot, Seq: uint64(time.Now().Add(time.Minute).Unix())<<32 + uint64(i), Kind: wire.KindLogEntry,
			Body: wire.AppendBody(nil, &wire.LogEntry{Entry: e.Append(nil)})}, nonce)
		if _, err := c.WriteToUDPAddrPort(packet, netip.AddrPortFrom(group, discovery.GroupPort)); err != nil {
			r.l.t.Fatal(err)
		}
	}
}

// identity is who signs the rogue's entries.
func (r *rogue) identity() room.Identity {
	t := r.profile.Token()
	return room.Identity{Realm: r.profile.Pin().ID, Account: t.Account, Name: t.Name, Key: r.profile.Key()}
}

// hashes returns those of all entries that a node's /audit lists.
func (n *node) hashes(chat string) (all []wire.Hash) {
	n.t.Helper()
	n.object("cmd", "do", "chat", chat, "line", "/audit", "ref", "audit of "+chat)
	list, _ := n.want("notice", "code", "audit", "ref", "audit of "+chat).fields["data"].([]any)
	for _, e := range list {
		text, _ := e.(map[string]any)["hash"].(string)
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(wire.Hash{}) {
			n.t.Fatalf("%s: /audit tells of an entry %v", n.name, e)
		}
		all = append(all, wire.Hash(b))
	}
	return all
}
