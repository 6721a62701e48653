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
	Migrations:    []string{schema, resets, mail},
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

// mail is version 3: messages for devices that are away, sealed to them.
const mail = `
CREATE TABLE mail_key (
    device    BLOB PRIMARY KEY REFERENCES device (key) ON DELETE CASCADE,
    leaf      BLOB NOT NULL, -- its token then, and the token's issuer
    issuing   BLOB NOT NULL,
    public    BLOB NOT NULL,
    signature BLOB NOT NULL CHECK (length(signature) = 64)
) STRICT, WITHOUT ROWID;

CREATE TABLE mail (
    id      INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again: what was taken does not hide what is new
    device  BLOB    NOT NULL REFERENCES device (key) ON DELETE CASCADE, -- that it is for
    account BLOB    NOT NULL, -- whose that is
    origin  BLOB    NOT NULL REFERENCES device (key) ON DELETE CASCADE, -- that it is of
    sender  BLOB    NOT NULL, -- whose that is
    number  INTEGER NOT NULL, -- the origin's
    at      INTEGER NOT NULL,
    sealed  BLOB    NOT NULL,
    UNIQUE (device, origin, number)
) STRICT;

CREATE INDEX mail_account ON mail (account);
CREATE INDEX mail_sender ON mail (sender);
CREATE INDEX mail_at ON mail (at);
`
