package chat

import (
	"time"

	"lanchat/wire"
)

// Seal makes a packet that this core signs and would never send by itself.
func (c *Core) Seal(inRoom string, kind wire.Kind, reliable bool, body []byte) []byte {
	packet, _ := c.seal(c.findRoom(inRoom), kind, reliable, body)
	return packet
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
