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

// RoomID returns the id of a room one is in.
func (c *Core) RoomID(inRoom string) wire.RoomID { return c.findRoom(inRoom).id }

// ParseDuration is parseDuration.
func ParseDuration(s string) (time.Duration, error) { return parseDuration(s) }
