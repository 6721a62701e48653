package account

import (
	"crypto/sha256"
	"hash"
)

// CountHashes has n count the hashes that are begun.
func (r *Registrar) CountHashes(n *int) {
	r.sha256 = func() hash.Hash {
		*n++
		return sha256.New()
	}
}
