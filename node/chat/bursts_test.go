package chat

import (
	"crypto/ed25519"
	"sync"
	"sync/atomic"
	"testing"

	"lanchat/node/room"
	"lanchat/wire"
)

// openedBurst returns the packets of a burst, opened, and one of them with a
// signature that is not good.
func openedBurst(t *testing.T) (all []*room.Opened, bad *room.Opened) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	id, secret := wire.RoomID{1}, room.Secret{2}
	device := wire.DeviceKey(key.Public().(ed25519.PublicKey))
	info := &room.EpochInfo{Seq: 1, Commit: room.Commit(id, secret), Slots: []room.Slot{{Key: device, Device: device.Device()}}}
	e, err := room.NewEpoch(wire.RealmID{}, id, info, secret)
	if err != nil {
		t.Fatal(err)
	}
	var plains []*wire.Plain
	for i := range uint64(wire.MaxBurst) {
		plains = append(plains, &wire.Plain{Seq: i + 1, Kind: wire.KindMessage, Body: wire.AppendBody(nil, &wire.Message{Number: i + 1, Text: "hi"})})
	}
	_, signed := e.SealBurst(key, plains, make([][wire.NonceSize]byte, len(plains)))
	open := func(b []byte) *room.Opened {
		o, err := room.OpenSigned(wire.RealmID{}, id, info, b)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	for _, b := range signed {
		all = append(all, open(b))
	}
	signed[0][len(signed[0])-1] ^= 1
	return all, open(signed[0])
}

// One check of a signature serves all packets of the burst, however many readers
// have some at once, and none that says something else.
func TestBurstIsCheckedOnce(t *testing.T) {
	all, bad := openedBurst(t)
	k := &bursts{known: map[room.Burst]*burst{}}
	var checks atomic.Int32
	check := func(o *room.Opened) verdict {
		return k.check(o, func() verdict {
			checks.Add(1)
			if o.Verify() != nil {
				return malformed
			}
			return fine
		})
	}
	var running sync.WaitGroup
	for _, o := range all {
		running.Go(func() {
			if v := check(o); v != fine {
				t.Errorf("packet %d: verdict %d", o.Seq, v)
			}
		})
	}
	running.Wait()
	if n := checks.Load(); n != 1 {
		t.Errorf("%d checks of one signature", n)
	}
	for i := range 2 {
		if v := check(bad); v != malformed || checks.Load() != int32(2+i) {
			t.Errorf("another signature: verdict %d, %d checks", v, checks.Load())
		}
	}
	for i := range 2 * maxBursts {
		k.of(room.Burst{Entry: wire.Hash{byte(i), byte(i >> 8), 1}})
	}
	if len(k.known) != maxBursts || len(k.order) != maxBursts {
		t.Errorf("%d and %d bursts are remembered", len(k.known), len(k.order))
	}
	if v := check(all[3]); v != fine {
		t.Errorf("a burst that was forgotten: verdict %d", v)
	}
}
