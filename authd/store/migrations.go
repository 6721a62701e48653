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
	Migrations:    []string{schema},
	Cure:          "put back a backup of it, with the keys beside it",
}
