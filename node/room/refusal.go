package room

import (
	"errors"
	"time"

	"lanchat/wire"
)

// A Refusal says that a rule of the room does not allow something. Compare
// with errors.Is against the values below, which ignores Who and Until.
type Refusal struct {
	Code string // stable, snake case, as in the program's contract
	Rule string
	// Who may do it instead, in seat order, where that is the question.
	Who []wire.AccountID
	// Until is when a ban or a silence may end; zero: no end is set.
	Until time.Time
}

func (r *Refusal) Error() string { return "room: " + r.Rule }

// Is reports whether target is a refusal by the same rule.
func (r *Refusal) Is(target error) bool {
	t, ok := target.(*Refusal)
	return ok && t.Rule == r.Rule
}

// The rules that refuse.
var (
	ErrNotMember    = &Refusal{Code: "not_member", Rule: "you are not a member"}
	ErrNoSuchMember = &Refusal{Code: "not_member", Rule: "that person is not a member"}
	ErrMember       = &Refusal{Code: "already_member", Rule: "that person is a member already"}
	ErrNotAdmin     = &Refusal{Code: "not_admin", Rule: "you may not do that here"}
	ErrBehind       = &Refusal{Code: "not_admin", Rule: "that person sits in front of you in the order of /names"}
	ErrSelf         = &Refusal{Code: "bad_argument", Rule: "that is you: choose somebody else"}
	ErrRole         = &Refusal{Code: "bad_argument", Rule: "that person has that role already"}
	ErrBanned       = &Refusal{Code: "banned", Rule: "banned from the room"}
	ErrNotBanned    = &Refusal{Code: "bad_argument", Rule: "that person is not banned"}
	ErrSilenced     = &Refusal{Code: "silenced", Rule: "silenced in the room"}
	ErrNotSilenced  = &Refusal{Code: "bad_argument", Rule: "that person is not silenced"}
	ErrDevice       = &Refusal{Code: "bad_argument", Rule: "the device does not fit"}
	ErrRekeyFirst   = &Refusal{Code: "room_rekey", Rule: "the room needs a new key first"}
	ErrResolved     = &Refusal{Code: "bad_argument", Rule: "the removal does not stand open"}
	ErrTooLong      = &Refusal{Code: "too_long", Rule: "the text is too long, empty or not UTF-8"}
	ErrFull         = &Refusal{Code: "room_full", Rule: "the room is full"}
	ErrLogFull      = &Refusal{Code: "room_full", Rule: "the room's history is full: /refound makes the room anew"}
	ErrHeld         = &Refusal{Code: "room_held", Rule: "the room waits for a decision between two signatures"}
	ErrNoSecret     = &Refusal{Code: "room_key", Rule: "the key is not for this device"}
)

// What is wrong with an entry apart from the rules.
var (
	ErrOtherRoom = errors.New("room: entry of another room")
	ErrChain     = errors.New("room: entry does not fit its predecessor")
	ErrCommit    = errors.New("room: commitment missing, not new, or out of place")
	ErrUnknown   = errors.New("room: unknown entry")
)

func refuse(r *Refusal, who ...wire.AccountID) *Refusal {
	n := *r
	n.Who = who
	return &n
}

func refuseUntil(r *Refusal, until uint64) *Refusal {
	n := *r
	n.Until = TimeOf(until)
	return &n
}

// TimeOf returns the time of Unix milliseconds on the wire; 0 is no time.
func TimeOf(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(min(ms, maxMillis)))
}

// millisOf is the inverse of TimeOf.
func millisOf(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(t.UnixMilli(), 1))
}

const maxMillis = 1<<48 - 1
