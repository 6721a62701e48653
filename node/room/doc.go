// Package room is the governance of rooms: the signed log that says who is a
// member, who may do what and which key is in use, and the keys themselves.
//
// It is a core: no I/O, no goroutine, no clock, no words for people. It does
// not send, store or ask anybody; node/chat does, and hands in the time. It
// knows nothing of messages either: delivery and order are node/delivery's.
//
// The parts, from the outside:
//
//	Create, Log.Admit, Log.Kick …   make a signed entry, or a Refusal     act.go
//	Log.Add                         takes entries, chooses the branch     log.go, evaluate.go
//	Log.State                       members in seat order, epoch          state.go
//	State.May                       what a member may ask for             rules.go
//	Keyring                         secrets: which to send with, which
//	                                are still readable, who may have one  keyring.go
//	Epoch                           seals, opens, verifies room packets   epoch.go, burst.go
//	Replay                          tells a packet that came before       replay.go
//
// Start with State, and with State.check in rules.go.
//
// # The rules
//
// Quotes above code and tests, here and in node/chat, are of these, some in other
// words.
//
//	1  One linear log. Entries are signed and hash-linked; the room's id is the
//	   hash of the first.
//	2  Seats. One ordered list: the admin, the co-admins in order of promotion,
//	   the members in order of admission. A person may act only on people behind
//	   them, so that no two can remove each other.
//	3  One writer. Only the admin appends. Others ask the writer: co-admins for
//	   removals, bans, silences and the topic, members to join, to leave, for their
//	   own devices, and for the topic where the room allows it.
//	4  Regency. If the writer has been silent for 45 s, counted from one's own
//	   start, or said goodbye, the front-most person heard in the last 45 s may
//	   append CLAIM, each present person further back 5 s later, and then admit,
//	   kick or ban people behind them, rekey, take in devices and settle removals
//	   (RegentMay). Not: promote, transfer, unban, touch seats in front. Any entry
//	   by the admin ends the regency. CLAIM is made when there is something to do.
//	5  Succession. Where the admin leaves, the next seat is the admin: the first
//	   co-admin, else the oldest member. TRANSFER moves a chosen person to the front.
//	6  Forks. Between branches, the one that contains an entry by the person with
//	   the front-most seat, in the order where they part, wins; if that is one
//	   person with two devices, the lower hash. What the other held is asked for
//	   again where still allowed; its removals suspend the named people, who get no
//	   keys until the writer upholds or dismisses them. Removals by who is banned on
//	   the branch that counts suspend nobody.
//	7  A resignation binds its signer. After a known LEAVE or TRANSFER by X, entries
//	   by X that are neither before nor after it in the chain are void, unless
//	   somebody in front of X's seat has already built on them.
//	8  Signing twice is never settled silently. Each entry has its device's own
//	   counter: one device with the same on two branches is proof that can be handed
//	   on. A node keeps the branch it applied first, tells of it, spreads both
//	   entries and serves no keys of the other branch; one that had applied neither
//	   holds the room until its person decides, or somebody in front of who signed
//	   goes on from where it stands still.
//
// By rules 1 to 7 the state of a room is a function of the set of known valid
// entries, whatever order they came in; only a proven double signature makes it
// depend on what was seen first.
//
// Keys:
//
//	R1  The secret is random at CREATE, and after everything by which somebody may
//	    read no longer; after an ADMIT, or a DEVICE that adds one, it is a step from
//	    the one before (wire/doc.go), since nobody went.
//	R2  An entry that changes who may read carries a commit made by its author, and
//	    one without is invalid. After the admin's own LEAVE there is no epoch to send
//	    in until the successor's REKEY.
//	R3  Who has applied a removal and has no new secret yet sends nothing: messages
//	    queue.
//	R4  The epoch before is readable for 10 s, from those who are still members;
//	    secrets are wiped after 2 min.
//	R5  A secret is served only to devices in the epoch whose people are members and
//	    not suspended at the server's head, over an authenticated link; old messages
//	    only to devices of their message's epoch.
//	R6  The writer rotates after 24 h or 2²⁰ packets, and after branches met, at most
//	    once a minute.
//	R7  A secret that does not fit the commit is dropped.
package room
