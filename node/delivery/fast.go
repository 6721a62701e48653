package delivery

// maxJump bounds what one number can say is missing: beyond it is no loss but
// an absence, or a lie.
const maxJump = 1 << 16

// A FastIn counts what is missing of one device's fast messages in one chat.
// Their numbers are boot (32) ‖ count (32). Nothing is repaired or waited for,
// and what was sent before the first number heard is not missing.
type FastIn struct {
	top  uint64 // highest number known to exist
	lost uint64 // of those, how many have not come
	told uint64 // what Told returned last
}

// Handle takes the number of a message that has come and reports whether a
// later one came before. That it is no duplicate, its packet has shown.
func (f *FastIn) Handle(n uint64) (late bool) {
	if f.top > 0 && n <= f.top {
		if n>>32 == f.top>>32 && f.lost > 0 {
			f.lost-- // it counted as missing
		}
		return true
	}
	f.skip(n - 1)
	f.top = n
	return false
}

// Exists says that the device has sent messages up to n.
func (f *FastIn) Exists(n uint64) {
	if n <= f.top || n<<32 == 0 {
		return
	}
	f.skip(n)
	f.top = n
}

// skip counts the numbers behind top up to n as missing.
func (f *FastIn) skip(n uint64) {
	from := f.top
	switch {
	case f.top == 0:
		return // the first that is heard of
	case n>>32 != f.top>>32:
		from = n >> 32 << 32 // the device has started anew, and counts from 1
	}
	if n > from {
		f.lost += min(n-from, maxJump)
	}
}

// Lost returns how many did not come.
func (f *FastIn) Lost() uint64 { return f.lost }

// Told returns how many did not come since it was called last.
func (f *FastIn) Told() (lost uint64) {
	if f.lost > f.told {
		lost = f.lost - f.told
	}
	f.told = f.lost
	return lost
}
