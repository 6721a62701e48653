package store

import (
	"database/sql"
	"slices"
	"unicode"
)

// A gist says what texts may have in them: one bit for each run of one, two and
// three letters, upper or lower case alike, of a block of messages. A search
// looks only at the blocks whose gist has all that the text looked for has, which
// are few unless what is looked for is common; and then it is soon found.
//
// Gists are made when a block is full. A trigger removes that of a block in which
// a text changed or a message was deleted, so no gist knows of a text that is
// gone; the next search makes it anew.
type gist [gistBytes]byte

const (
	gistBytes = 1000 // four to a page of the file
	gistBlock = 64   // messages, by key
	maxHealed = 1000 // gists that one search makes

	gramLength = 3
)

// Version 10: gists of blocks of messages.
const gists = `
CREATE TABLE gist (
	block INTEGER PRIMARY KEY, -- of the messages whose key / 64 it is
	bits  BLOB NOT NULL CHECK (length(bits) = 1000)
) STRICT;

CREATE TRIGGER gist_changed AFTER UPDATE OF text ON message WHEN old.text <> new.text
	BEGIN DELETE FROM gist WHERE block = old.key / 64; END;
CREATE TRIGGER gist_deleted AFTER DELETE ON message
	BEGIN DELETE FROM gist WHERE block = old.key / 64; END;
`

// grams calls f with the bit of each run of letters of text: those of one, two
// and three, or, for what is looked for, only the longest there are.
func grams(text string, longest bool, f func(bit uint32)) {
	var runes []rune
	for _, r := range text {
		runes = append(runes, fold(r))
	}
	short := 1
	if longest {
		short = min(gramLength, len(runes))
	}
	for n := short; n <= gramLength; n++ {
		for i := range max(0, len(runes)-n+1) {
			h := uint64(n)
			for _, r := range runes[i : i+n] {
				h = (h ^ uint64(r)) * 0x9e3779b97f4a7c15
				h ^= h >> 29
			}
			f(uint32(h % (8 * gistBytes)))
		}
	}
}

// fold returns the first of all cases of a letter.
func fold(r rune) rune {
	if 'a' <= r && r <= 'z' { // what is common need not be looked up
		return r - 'a' + 'A'
	}
	first := r
	for c := unicode.SimpleFold(r); c != r; c = unicode.SimpleFold(c) {
		first = min(first, c)
	}
	return first
}

func (g *gist) add(text string) {
	grams(text, false, func(bit uint32) { g[bit/8] |= 1 << (bit % 8) })
}

// A span is the messages with keys from first to last.
type span struct{ first, last int64 }

// suspects returns the spans in which messages may have text in theirs, the
// newest first, and the full blocks without a gist.
func (s *Store) suspects(text string) (spans []span, bare []int64, err error) {
	var first, last int64
	err = s.db.Read.QueryRow("SELECT coalesce((SELECT min(key) FROM message), 0), coalesce((SELECT max(key) FROM message), 0)").Scan(&first, &last)
	if err != nil {
		return nil, nil, err
	}
	var wanted []uint32
	grams(text, true, func(bit uint32) { wanted = append(wanted, bit) })
	rows, err := s.db.Read.Query("SELECT block, bits FROM gist ORDER BY block DESC")
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	look := func(block int64) {
		if n := len(spans) - 1; n >= 0 && spans[n].first == (block+1)*gistBlock {
			spans[n].first = block * gistBlock
			return
		}
		spans = append(spans, span{block * gistBlock, (block+1)*gistBlock - 1})
	}
	next := last / gistBlock // the block that was not looked at yet
	for rows.Next() {
		var block int64
		var bits sql.RawBytes
		if err := rows.Scan(&block, &bits); err != nil {
			return nil, nil, err
		}
		for ; next > block; next-- {
			look(next)
			bare = append(bare, next)
		}
		if !slices.ContainsFunc(wanted, func(bit uint32) bool { return bits[bit/8]&(1<<(bit%8)) == 0 }) {
			look(block)
		}
		next = min(next, block-1)
	}
	for ; next >= first/gistBlock; next-- {
		look(next)
		bare = append(bare, next)
	}
	bare = slices.DeleteFunc(bare, func(block int64) bool { return block == last/gistBlock })
	return spans, bare, rows.Err()
}

// digest makes the gist of a block.
func digest(tx *sql.Tx, block int64) error {
	texts, err := collect(tx, func(scan func(...any) error, text *string) error { return scan(text) },
		"SELECT text FROM message WHERE key BETWEEN ? AND ? AND verb = 0", block*gistBlock, (block+1)*gistBlock-1)
	if err != nil {
		return err
	}
	var g gist
	for _, text := range texts {
		g.add(text)
	}
	_, err = tx.Exec("INSERT OR REPLACE INTO gist (block, bits) VALUES (?, ?)", block, g[:])
	return err
}

// heal makes the gists of full blocks that have none. Where the disk does not
// take them nothing is lost: the next search takes as long again, and Apply tells
// of the disk.
func (s *Store) heal(bare []int64) {
	if len(bare) == 0 {
		return
	}
	_ = s.db.Update(func(tx *sql.Tx) error {
		for _, block := range bare[:min(len(bare), maxHealed)] {
			if err := digest(tx, block); err != nil {
				return err
			}
		}
		return nil
	})
}
