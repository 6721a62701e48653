package store

import (
	_ "embed"

	"lanchat/wire/dbfile"
)

//go:embed schema.sql
var schema string

// format is that of a node's database. Migrations are only appended to.
var format = dbfile.Format{
	ApplicationID: 0x6c636e64, // "lcnd"
	Migrations:    []string{schema},
	Readers:       readers,
	Mark:          "node",
	Large:         []string{"message"},
	Cure:          "move it away, and the node begins a new one",
}
