package store

import (
	_ "embed"

	"lanchat/wire/dbfile"
)

//go:embed schema.sql
var schema string

// Version 2: the serial number of a device's token, by which revocation lists
// name it; zeros where no token was seen since.
const tokenSerial = `ALTER TABLE person ADD COLUMN serial BLOB NOT NULL
	DEFAULT x'00000000000000000000000000000000' CHECK (length(serial) = 16)`

// Version 3: what the person chose that is not of one chat.
const personal = `CREATE TABLE personal (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID`

// Version 5: what rooms that govern themselves keep. Invites are one's own,
// until they are used, and those for people who have not got them yet; a
// parting is a room one has left, and who else was in it; applied is
// what of a log ever counted here, once a person has decided on it.
const governance = `
CREATE TABLE invite (
	room    BLOB NOT NULL CHECK (length(room) = 32),
	account BLOB NOT NULL CHECK (length(account) = 16), -- who is invited
	invite  BLOB NOT NULL,
	PRIMARY KEY (room, account)
) STRICT, WITHOUT ROWID;

CREATE TABLE parting (
	room    BLOB PRIMARY KEY CHECK (length(room) = 32),
	members BLOB NOT NULL CHECK (length(members) % 16 = 0) -- accounts, in seat order
) STRICT, WITHOUT ROWID;

CREATE TABLE applied (
	key  INTEGER PRIMARY KEY, -- in the order in which they counted first
	room BLOB NOT NULL REFERENCES room (id) ON DELETE CASCADE,
	hash BLOB NOT NULL CHECK (length(hash) = 32),
	UNIQUE (room, hash)
) STRICT;
`

// Version 9: where devices were reached last.
const addresses = `
CREATE TABLE address (
	device BLOB    PRIMARY KEY CHECK (length(device) = 8),
	addr   TEXT    NOT NULL,
	at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`

// Version 11: how far authors were heard outlives the room, as one's own numbers
// do: who comes back is shown nothing again.
const heard = `
CREATE TABLE heard (
	room     BLOB NOT NULL CHECK (length(room) = 32),
	device   BLOB NOT NULL CHECK (length(device) = 8),
	replay   BLOB NOT NULL,
	received BLOB NOT NULL CHECK (length(received) = 8),
	missing  BLOB NOT NULL CHECK (length(missing) % 16 = 0), -- pairs of numbers: first, last
	since    BLOB NOT NULL CHECK (length(since) = 8),
	PRIMARY KEY (room, device)
) STRICT, WITHOUT ROWID;
INSERT INTO heard SELECT room, device, replay, received, missing, since FROM author;
DROP TABLE author;
ALTER TABLE heard RENAME TO author;
`

// Version 12: the signed plaintext of a packet is stored once, however many
// messages it has, and goes with the last of them.
const packets = `
CREATE TABLE packet (
	key INTEGER PRIMARY KEY,
	raw BLOB    NOT NULL
) STRICT;
INSERT INTO packet (key, raw) SELECT min(key), raw FROM message WHERE raw IS NOT NULL GROUP BY chat, device, raw;
CREATE INDEX packet_raw ON packet (raw);
ALTER TABLE message ADD COLUMN packet INTEGER REFERENCES packet (key); -- NULL: none
UPDATE message SET packet = (SELECT key FROM packet WHERE packet.raw = message.raw) WHERE raw IS NOT NULL;
DROP INDEX packet_raw;
ALTER TABLE message DROP COLUMN raw;
CREATE INDEX message_packet ON message (packet) WHERE packet IS NOT NULL;
CREATE TRIGGER packet_unused AFTER DELETE ON message WHEN OLD.packet IS NOT NULL BEGIN
	DELETE FROM packet WHERE key = OLD.packet AND NOT EXISTS (SELECT 1 FROM message WHERE packet = OLD.packet);
END;
`

// Version 13: entries of the log of a room that was left, for those who have not
// heard of them, each with its length (32) before it.
const partingEntries = `ALTER TABLE parting ADD COLUMN entries BLOB NOT NULL DEFAULT x''`

// format is that of a node's database. Migrations are only appended to.
var format = dbfile.Format{
	ApplicationID: 0x6c636e64, // "lcnd"
	Migrations:    []string{schema, tokenSerial, personal, formerNames, governance, acknowledged, amended, long, addresses, gists, heard, packets, partingEntries},
	Readers:       readers,
	Mark:          "node",
	Large:         []string{"message", "packet"},
	Cure:          "move it away, and the node begins a new one",
}

// Version 4: the user names that people gave up.
const formerNames = `
CREATE TABLE former (
    name    TEXT    PRIMARY KEY,
    account BLOB    NOT NULL CHECK (length(account) = 16),
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`

// Version 6: how far devices have acknowledged the direct messages to their
// person.
const acknowledged = `
CREATE TABLE acked (
    device BLOB PRIMARY KEY CHECK (length(device) = 8),
    number BLOB NOT NULL CHECK (length(number) = 8)
) STRICT, WITHOUT ROWID;
`

// Version 7: messages that edit or delete others, and what became of those. verb
// is that of chat.SaveMessage; edited is 1, or 2 for deleted.
const amended = `
ALTER TABLE message ADD COLUMN verb INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN edited INTEGER NOT NULL DEFAULT 0 CHECK (edited IN (0, 1, 2));
CREATE INDEX message_amends ON message (reply_to) WHERE verb IN (2, 3);
`

// Version 8: texts that were announced, as they were written.
const long = `ALTER TABLE message ADD COLUMN long TEXT NOT NULL DEFAULT ''`
