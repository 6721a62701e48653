package chat

import (
	"time"

	"lanchat/node/room"
	"lanchat/wire"
)

// Seal makes a packet that this core signs and would never send by itself.
func (c *Core) Seal(inRoom string, kind wire.Kind, reliable bool, body []byte) []byte {
	m := c.findRoom(inRoom)
	packets, _ := c.sealAll(m, []*wire.Plain{c.plain(m, m.keys.Current(), kind, reliable, body)})
	return packets[0]
}

// SealAs makes a packet that claims to be another device's.
func (c *Core) SealAs(inRoom string, as wire.DeviceKey, kind wire.Kind, body []byte) []byte {
	epoch := c.findRoom(inRoom).keys.Current()
	slot, _ := epoch.Info().Slot(as)
	packet, _ := epoch.Seal(c.cfg.Key, &wire.Plain{Slot: slot, Seq: 1 << 40, Clock: c.clock, Kind: kind, Body: body}, [wire.NonceSize]byte{1})
	return packet
}

// RoomID returns the id of a room one is in.
func (c *Core) RoomID(inRoom string) wire.RoomID { return c.findRoom(inRoom).id }

// ParseDuration is parseDuration.
func ParseDuration(s string) (time.Duration, error) { return parseDuration(s) }

// Settings has an admin set any name and topic, fit or not.
func (c *Core) Settings(now time.Time, inRoom, name, topic string) error {
	m := c.findRoom(inRoom)
	act, err := m.log.Settings(c.identity(), now, name, topic, m.log.State().Policy)
	if err != nil {
		return err
	}
	return c.act(now, m, act, "")
}

// Revoked reports whether the newest list names the device's token.
func (c *Core) Revoked(id wire.DeviceID) bool { return c.people.devices[id].revoked }

// Apply has a core take an entry into its own log, as if its rules allowed it.
func (c *Core) Apply(now time.Time, inRoom string, e *wire.Entry) {
	m := c.findRoom(inRoom)
	change, _ := m.log.Add(e)
	c.changed(now, m, change, "")
	c.schedule(m)
}

// Log returns the log of a room one is in; nil if one is in none of that name.
func (c *Core) Log(inRoom string) *room.Log {
	if m := c.findRoom(inRoom); m != nil {
		return m.log
	}
	return nil
}

// Keys returns the keyring of a room one is in.
func (c *Core) Keys(inRoom string) *room.Keyring { return c.findRoom(inRoom).keys }

// Head returns the last entry that counts in a room; zero if one is not in it.
func (c *Core) Head(inRoom string) wire.Hash {
	if m := c.findRoom(inRoom); m != nil {
		return m.log.State().Head
	}
	return wire.Hash{}
}

// CanSend reports whether a message to the room would go out now.
func (c *Core) CanSend(inRoom string) bool { return c.findRoom(inRoom).keys.Current() != nil }

// FalseClaim has a modified program claim to stand in, whoever is there, and
// kick somebody.
func (c *Core) FalseClaim(now time.Time, inRoom string, who wire.AccountID) error {
	m := c.findRoom(inRoom)
	if err := c.append(now, m)(m.log.Claim(c.identity(), now)); err != nil {
		return err
	}
	return c.append(now, m)(m.log.Kick(c.identity(), now, who, "", m.mark))
}

// Forge signs, for the admin, that somebody becomes a co-admin, and keeps it to
// itself.
func (c *Core) Forge(now time.Time, inRoom string, who wire.AccountID) *wire.Entry {
	act, err := c.findRoom(inRoom).log.Promote(c.identity(), now, who)
	if err != nil {
		panic(err)
	}
	return act.Entry
}

// Hand gives a core entries of a room at once, as an answer to a question does.
func (c *Core) Hand(now time.Time, inRoom string, entries ...*wire.Entry) {
	m := c.findRoom(inRoom)
	change, _ := m.log.Add(entries...)
	c.changed(now, m, change, "")
	c.schedule(m)
}

// SaidHere reports whether what a device said at a time is news, though another
// hands it on.
func (c *Core) SaidHere(now, said time.Time, author, from wire.DeviceID) bool {
	return c.saidHere(now, &room.Opened{From: room.Slot{Device: author}, Plain: wire.Plain{Clock: wire.ClockAt(said)}}, from)
}

// Answered gives a core what a device answered about a room's log.
func (c *Core) Answered(now time.Time, inRoom string, entries [][]byte, from wire.DeviceID) {
	c.addEntries(now, c.findRoom(inRoom), entries, from)
}

// Waiting returns how much waits to be sent in a room.
func (c *Core) Waiting(inRoom string) int {
	m := c.findRoom(inRoom)
	return len(m.waiting) + m.out.Waiting()
}
