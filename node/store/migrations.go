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

// format is that of a node's database. Migrations are only appended to.
var format = dbfile.Format{
	ApplicationID: 0x6c636e64, // "lcnd"
	Migrations:    []string{schema, tokenSerial, personal, formerNames},
	Readers:       readers,
	Mark:          "node",
	Large:         []string{"message"},
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
