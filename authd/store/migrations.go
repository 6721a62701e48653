package store

import (
	_ "embed"

	"lanchat/wire/dbfile"
)

//go:embed schema.sql
var schema string

// format is that of authd's database. Migrations are only appended to.
var format = dbfile.Format{
	ApplicationID: 0x6c636164, // "lcad"
	Migrations:    []string{schema, resets},
	Readers:       2, // look-ups do not wait for the disk
	Cure:          "put back a backup of it, with the keys beside it",
}

// resets are version 2: one-time codes of people who have forgotten their
// password.
const resets = `
CREATE TABLE reset (
    account BLOB    PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    code    BLOB    NOT NULL CHECK (length(code) = 32), -- a hash of it
    until   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`
