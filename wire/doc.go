// Package wire is the protocol: what lanchat puts on the network, byte for
// byte, as pairs of functions that append and parse. It holds no connection,
// keeps no state and decides nothing; who sends what and when is the business
// of authd, node and discovery.
//
// This comment is the protocol on one page. The layouts stand in the files it
// names, drawn above the types; known answers by which another implementation
// can check itself are in testdata/vectors. All is version 1.
//
// # Rules for all of it
//
// Everything is UDP. Numbers are unsigned and big endian. Texts are UTF-8 and
// have a limit in bytes. A length stands before what it measures and is
// checked before anything is allocated. A message has one spelling: unknown
// types, reserved bits that are set, fields over their limit, padding that is
// not zero and bytes left over are refused, and so is all of the packet or
// frame. Times are Unix milliseconds. Nothing is compressed and nothing is
// negotiated: the version is in the ALPN and in the first byte of a packet.
// Codes, kinds, ops and frame types are only added, never used again.
//
// Signatures are Ed25519ctx (RFC 8032) with a context for each use, hashes
// SHA-256, ids and names of keys as in id.go:
//
//	realm id    SHA-256 of the root key's SubjectPublicKeyInfo, DER (32)
//	device id   the first 8 bytes of SHA-256 of the device key's
//	account id  16 random bytes, chosen by authd; the user name can change
//	room id     SHA-256 of the room's first log entry (32)
//	message id  the first 8 bytes of SHA-256 of "lc1 id" ‖ room id, or the
//	            receiving account's id ‖ device id of the author ‖ mode
//	            (8; 0 reliable, 1 fast) ‖ number (64)
//
// # Ports, groups, names
//
//	authd           UDP 4747 unless told otherwise
//	node            one UDP port of its own choice, for every QUIC connection
//	realm's group   UDP 4748; with h = SHA-256("lanchat group v1" ‖ realm id):
//	                239.192.0.0/14 with its 18 free bits from h[0:3], and
//	                ff12::/16 with its 112 free bits from h[3:17], bit 31 of
//	                the last 32 set; TTL and hop limit 1
//	mDNS            _lanchat-auth._udp (authd) and _lanchat._udp (node), each
//	                instance <device id>-<interface index> with
//	                TXT txtvers=1 realm=<16 hex> id=<16 hex> port=<decimal>
//
// The join code that people type is in wire/realm (JoinCode): "LC1-", the realm
// in base32, an invite if the realm asks for one, and a check of 20 bits.
//
// The realm in TXT and in presence packets is the first 8 bytes of its id. On
// every link the group is sent to by IPv4 where there is an address, else by
// IPv6, and by both while somebody on the link has no IPv4. What mDNS says is a
// hint of an address to dial, never a fact; what the responder would answer is
// announced to all too, at the start, after a second and every 50 s. The
// loopback addresses with port 4747 are tried, too.
//
// # Presence (presence.go)
//
// First byte 0x21. Signed by the device key and in clear: who is there, at
// which port and addresses, no name, token or room. PROBE asks, HERE answers
// and is repeated every 2 s (more slowly from 100 nodes on), BYE is said twice
// at the end. A packet counts if its (boot, counter) is above the last of the
// device; an address counts if it is on-link where the packet came in. Its
// signature shows only that the same key speaks as before: who holds a token
// is found out by QUIC. A device is lost after 6.5 s of silence, or 3.5 of the
// periods it promised if those are longer than 2 s.
//
// # QUIC (wire/link)
//
// TLS 1.3 with a client certificate always, no resumption, no 0-RTT. There are
// no host names: the server name is "lanchat", and both sides check the other's
// certificates by the rules in wire/realm (Verifier). The chain is
//
//	realm root      Ed25519, self-signed, path length 1
//	 ├─ authd       URI lanchat://<realm id>/authd, serverAuth
//	 └─ issuing CA  path length 0
//	     ├─ token   URI lanchat://<realm id>/u/<account>/d/<device>, subject the
//	     │          account id, serverAuth and clientAuth; extension
//	     │          2.25.971095372.1 = SEQUENCE { name UTF8String, nameSeq INTEGER }
//	     └─ CRL     numbers strictly rising; an entry is for all tokens of a
//	                device of an account, and its serial number is
//	                SHA-256("lc1 revoked" ‖ account id ‖ device key)[:16], the
//	                first bit zero
//
// A token is valid for 30 days, from ten minutes before it was made; clocks
// may differ by ten minutes. A node may take those of other nodes for longer, up
// to 30 days, if its person says so, as long as it holds no revocation list that
// was signed after they ended: authd leaves out of those what has ended. With
// authd a node that has no token presents a self-signed certificate of its device
// key. With a peer the dialler checks that the device is the one it wanted.
//
// A stream carries frames: Length (32) of what follows, Type (8), Body of at
// most MaxFrame bytes. Application error codes of a close: 1 goodbye,
// 2 replaced by another connection, 3 revoked, 4 protocol, 5 refused,
// 6 expired, 7 unused.
//
// # With authd: ALPN lanchat-auth/1 (auth.go)
//
// Each request has a bidirectional stream of its own, opened by the node. To
// register or log in:
//
//	START (kind, method 1, name, invite)  ──►
//	                                      ◄──  CHALLENGE (salt, time, policy)
//	FINISH (prehash, device name)         ──►
//	                                      ◄──  GRANT (token, issuer, root, CRL, time)
//
// prehash = Argon2id(OpaqueString(password), salt = SHA-256("lc1 pw" ‖ realm
// id ‖ salt)[:16], t 3, 64 MiB, p 4, 32 bytes). An unknown name gets a salt,
// too, and takes as long. With a token: RENEW ► GRANT (accepted up to 90 days
// after the end of the old one), PING ► PONG, ROSTER ► ROSTER PAGE (who else
// is connected or newly so, their tokens, where authd sees them and where they
// say they are; asked for every 5 s). Instead of any answer
// there may be a REFUSAL with a Code. authd pushes the CRL at connect and when
// it changes, on a unidirectional stream each, and RENEW (empty) when the
// account has another name than the node's token says: the node renews it.
//
// What a person does with their account (owner.go) needs a token, too: RENAME
// ► GRANT, of a token with the new name; DEVICES ► DEVICE LIST; REVOKE ► DONE,
// for another device of the account; and to change the password
//
//	PASSWORD                                    ──►
//	                                            ◄──  CHALLENGE (salt, time, policy)
//	CHANGE (prehash, new salt, new prehash,
//	        whether to revoke other devices)    ──►
//	                                            ◄──  DONE
//
// Who has forgotten the password recovers with a one-time code of the
// operator's: START (kind recover) with SHA-256("lc1 reset" ‖ realm id ‖
// code)[:16] as the invite; the salt in CHALLENGE is that of the new password,
// whose prehash is in FINISH.
//
// Reliable direct messages for a device that is away can wait at authd
// (mailbox.go), 21 days at most and within bounds per account. A device says
// which key they are sealed to (MAIL KEY ► DONE, signed with "lanchat mailbox
// v1"); a sender asks for the keys of a person's devices (RECIPIENT ► MAIL
// KEYS), seals a Mail to each and leaves it (DEPOSIT ► DONE); a device asks for
// what waits (MAILBOX ► MAIL), when it connects and when authd pushes MAILBOX,
// and says what it has on its disk (TAKEN ► DONE). A Mail is sealed with HPKE,
// and inside are sender, message and the sender's signature ("lanchat mail
// v1", over realm id ‖ device key of the receiver ‖ the Mail): authd can
// neither read nor make one. The suite is at Mail.
//
// Names are counted: of two tokens of one account that with the higher name
// number tells its name. A name that was given up is nobody's until every token
// with it has ended.
//
// # Between nodes: ALPN lanchat-peer/1 (peer.go)
//
// Whoever hears of a device dials it, the one with the smaller device id
// first; of two connections made at the same moment that of the smaller id
// stays. The dialler opens the control stream and says Hello, the other answers
// with its own: only then is the peer authenticated for the dialler, since in
// TLS 1.3 a dialler is done before it was judged. Then, in any order:
//
//	control stream  Ping and Pong, Direct and DirectAck (reliable messages to
//	                a person, in order, cumulative acknowledgement once they
//	                are on disk), Copy, Key, Entry, Base, Signed, Packet, Mirror,
//	                Token (the sender has a new one), NewCRL, RoomInfo (the
//	                receiver was let into that room, or taken back: it enters)
//	DATAGRAM        DirectMessage, fast: one each, never repeated
//	question        a stream of its own, one frame, the answer's frames, end:
//
//	Rooms      ►  RoomInfo…            of private rooms to members only
//	Join       ►  Entry… Key Base      to the room's writer, who admits (and adds
//	              Bases                where the others' messages begin); with an
//	                                   invite (invite.go) to a private room.
//	                                   Others answer RoomInfo, which names the
//	                                   writer, and Refused
//	Enter      ►  Entry… Key Base      to any member: what a device needs that was
//	                                   told that it is in the room. Nobody is
//	                                   admitted for it, so a node that asks by
//	                                   itself undoes no removal; Join is for what
//	                                   a person wants
//	Act        ►  Done                 to the writer: an entry for the asker
//	Invite     ►  Done                 to who is invited
//	LogRange   ►  Entry…               all branches
//	KeyRequest ►  Key                  to devices in that epoch only
//	Part       ►  Done                 that the asker left, to any member
//	                                   (after the Entries on the control stream
//	                                   that it signed last: they may have come
//	                                   to nobody, an admin's LEAVE among them)
//	AskCRL     ►  CRL                  the revocation list with its issuer
//	AskPeers   ►  Peers…               whom the other has links with, and where
//	Vector     ►  Signed…              what the asker missed of a room, or has
//	                                   forgotten of its own
//	AskText    ►  Text                 of a long message, to its epoch's devices
//	anything   ►  …, Refused           ends an answer that was not granted
//
// A frame of an unknown type on the control stream is ignored.
//
// Reliable direct messages are numbered by the author's device for each
// account: they rise, and at each start to boot (32) ‖ 0 (30) at least, so that
// none is used twice even if an older copy of the store was put back. They go to
// every device of the account: each has a
// stream, in order, and acknowledges on its own. The first that does confirms
// the message; it stays in the author's outbox until all that were seen in the
// last 30 days have it, at most 1,000 beyond what is confirmed. A receiver
// counts, for each author's device, up to where it has the messages; what is
// not above that is a duplicate, whichever way it came. From a mailbox a message
// counts only in its turn: its Mail says which one comes before it.
//
// What a device writes to a person, in either mode, it also sends to the other
// devices of its own account (Copy), with the number and so the id that the
// person gets: reliably, numbered, kept and acknowledged like direct messages to
// oneself, over links and by mail. Nobody has to confirm them, at most 1,000 are
// kept, and only a device of the same account may send them.
//
// AskPeers goes to the first three peers after a start and after a change of
// the network, and to one at random every 30 s. The answer is hints, like those
// of mDNS: at most 256 devices of it are believed, and only a device's own key
// makes a link. So who reaches one node reaches all, without authd and without
// multicast.
//
// Hello says which revocation list the sender holds, NewCRL that it has got a
// newer one since. Who holds an older one asks for it, verifies it like one
// of authd's and tells others in turn, so that a revocation reaches nodes that
// cannot reach authd. On a new list every link is judged anew.
//
// People who compare keys see sixty digits, thirty for each of the two accounts:
// six groups of five, each from five bytes of SHA-512("lc1 verify" ‖ realm id ‖
// account id ‖ keys of its devices that are not revoked, in order), as a number
// modulo 100,000. The half of the smaller account id stands first.
//
// # Rooms: the log (entry.go; the rules are in node/room)
//
// A room is a log of entries that are linked by hash and signed by the author's
// device ("lanchat room log v1", over realm id ‖ entry). Only the writer
// appends: the admin, or a regent while the admin is silent. Behind the
// arguments stands who asked for it, if somebody did. Seats are admin,
// co-admins by promotion, members by age; one acts on people behind oneself
// only. All who hold the same entries compute the same members, admin and
// epoch, whatever the order they came in. An entry whose predecessor is missing
// waits; who handed it on is asked for that (LogRange), then any member, after 1 s,
// 2 s … 5 min.
//
// An entry that changes who may read begins an epoch. It commits to the epoch
// secret with SHA-256("lc1 commit" ‖ room id ‖ secret), room id zero in
// CREATE; e is its hash:
//
//	K_msg   = HKDF-Expand(secret, "lc1 msg"  ‖ room id ‖ e, 32)
//	key id  = HKDF-Expand(secret, "lc1 kid"  ‖ room id ‖ e, 8)
//	join    = HKDF-Expand(secret, "lc1 join" ‖ room id ‖ e, 32)
//	next    = HKDF-Expand(join, "lc1 next" ‖ SHA-256(op ‖ arguments), 32)
//
// next is the secret after an ADMIT, or a DEVICE that adds one: members compute
// it, the newcomer is given it (Key) and cannot go back. After anybody left or
// was removed the secret is random and is handed to each remaining device by
// QUIC. After an entry that begins an epoch nobody sends in an older one; one
// is read for 10 s more, from those who are still members, and wiped after
// 2 minutes.
//
// # Rooms: packets (packet.go)
//
// First byte 0x11, at most 1,200 bytes, one of four sizes, by multicast. Inside
// XChaCha20-Poly1305 (K_msg, random nonce, header as additional data) are the
// sender's slot in the epoch's device table, a sequence number, a clock, the
// kind, the body and the device's signature ("lanchat room packet v1", over
// realm id ‖ room id ‖ e ‖ plaintext). A receiver judges a packet in this
// order, cheapest and hardest to forge first, and drops it at the first no:
//
//	size, version, reserved bits
//	key id: an epoch that may be read
//	decryption, form, slot
//	sender still a member
//	sequence number not seen before: a window of 2,048 for each device (a
//	reliable message is told by its own number instead, below)
//	signature, unless the same one was found good over the same burst; then
//	the number counts as seen
//	body
//
// The kinds: message; log entry; beacon (head of the log, last numbers used);
// leave; acknowledgements; notice of a long message; repair request; pack of
// messages. Reliable messages of a device in a room are numbered from 1
// without gaps. Base says to who was let in where the numbers of its sender
// begin.
//
// What waits at the same moment shares a packet and its signature (pack), all
// of it reliable or all of it fast. What takes more packets than one is sent as
// bursts of 2, 4, 8 or 16 (Proof): their hashes are the leaves of a tree, its root
// is signed once, and each packet has the signature and its way to the root. A
// sender paces its packets: a token bucket
// that grows while members keep up and shrinks while one of them asks for more
// than 30 % again. No more than 32,768 messages, or 6 MB, are on their way to the
// slowest member that answers; one that is silent for 2 s holds nobody up.
//
// A receiver that misses some asks with a repair request, by unicast to the
// address that its link with the author has: at once; or after a moment, where
// packets were seen to overtake each other or more than eight devices are there;
// again after max(1.5 ms, smoothed round trip + 4 × its variance), or after
// 1.5 ms once a later request was answered. From the sixth time on that no later
// request was answered either, the pause grows by half, to 200 ms, and every
// other request goes to any member that is there; after 24 times in all, that
// goes on in any case. A round trip is what passes from a request to the repair
// of what was asked for once only; where eight requests in a row had to be
// repeated, the pause doubles. Requests and repairs to one device share the
// socket of QUIC: their first byte, 0x11, is none of QUIC's. A second socket was
// not needed: quic-go keeps 32 such packets for its reader, which does nothing
// but hand them on, and one that is lost is asked for again.
//
// The author sends the same sealed bytes again, to the one who asks, or by
// multicast where another asked in the last 5 ms, or over the link (Packet) to
// one that has fallen far behind. Where the author holds no packet any more, or
// one that can hardly be opened now since the epoch is another, and where the
// author is away, members send Signed: the plaintexts with their signatures, to
// devices of their epoch. Where more than 3 % is lost and there is room, each
// packet is sent a second time 1.5 ms later. After 10 s without an answer, what
// waited behind a gap is shown; what is missing is asked for after 5 s, 10 s …
// 5 min.
//
// A beacon tells the last number 4, 8, 16 … 1,024 ms after the last packet, until
// everybody who is there has acknowledged it; and about every 5 s in any case.
// What came is acknowledged for all authors at once, at a random time that is
// later where more are there, so that a room sees at most 20 such packets a
// second; and in a room of at most eight devices at once, where more than 8,192
// messages of an author have come since.
//
// A fast message that does not come is counted, by the numbers of those that do
// and of the beacons, and that is all. One member's fast messages beyond 500 a
// second (2,000 at once) are dropped.
//
// Sequence numbers, and numbers of fast messages, are boot (32) ‖ count (32):
// boot rises at each start of the device and is on disk before anything is
// sent, so that no packet costs a write.
//
// Numbers of reliable messages, and an author's of log entries, must not be used
// twice either, and the store may be an older copy that was put back. So after a
// start, and where it was let in, a device numbers no reliable message of a room
// and signs no entry until it has asked one member for the log (LogRange), and
// then (Vector, with HaveAll for all other devices) for its own messages behind
// its last, until none comes. It believes what it has signed itself, never a bare
// number: its numbers go on behind the highest of those. It waits 3 s for somebody
// to ask and 3 s for an answer, then goes on all the same; it asks again when a
// link comes up or a member's Acks or Vector claim more than it has, of each device
// three times at most. What it wrote under a number that turns out to be taken it
// says again, as a new message.
//
// Who has a link with a member and hears no multicast of it for two periods
// sends Mirror with each ping; the other then sends its packets of their rooms
// over the link too, until the time named is over: fast messages as DATAGRAMs,
// which begin with 0x11 as packets do and direct messages do not, the rest, and
// what is longer than 1,100 bytes, as Packet.
//
// Who was away, or misses messages that do not come, asks any member for them
// (Vector in history.go, on a stream of its own): it says how far it has each
// device's reliable messages, and is given the next page of what lies behind
// that, at most 512 as Signed, only what it is entitled to: messages of epochs
// whose table has the asking device. It asks again while something new comes,
// then the next member, until three in a row have nothing; one question of a
// room is under way at a time, and it begins 100 to 200 ms after a link came
// up, and 20 ms at random for each member more; as soon after a member
// acknowledges more of an author that is not online than has come here; and one to
// two seconds after it does so of one that is, or after a gap was told. A member
// that then has nothing new is not believed for 5 s, and each time twice as long,
// to a minute. What came is therefore acknowledged again with each beacon for a
// minute. Who serves eight pages already answers busy. An author who is gone counts
// up to the number in the entry that removed it, and is asked for up to there. Who is let in learns from
// the writer (Bases) where the messages of those begin who are away.
//
// A text of more than a packet takes, up to 64 KiB, is announced by a notice
// with its hash and length, reliable and numbered like a message, and asked for
// (AskText) of who handed the notice on, of the author, or of any member; it
// has arrived when the text has.
//
// The clock is a hybrid logical clock (Clock): 48 bits of milliseconds above a
// counter of 16; later than all one has seen, and one that is more than ten
// minutes ahead is not followed. It orders what is shown; the time in it is
// advisory. The id of a message that another answers, edits or deletes is in
// its Ref. An edit or a deletion counts if its author is the account that wrote
// the other, in the same chat, whichever comes first: the last text by the
// clock, and a deletion above all. Who deletes asks others not to show it any
// more; it goes on being handed on, as the numbers want it.
//
// # The seven conversations
//
// What people ask for, and what goes over the network for it. Codes are those
// of REFUSAL and Refused; events those of node --json.
//
//	log in              START(login), FINISH
//	  success           GRANT; event ready
//	  failure           REFUSAL bad_credentials, rate_limited, account_locked,
//	                    too_many_devices, device_of_other_account, …
//	register            START(register), FINISH
//	  success           GRANT; event ready
//	  failure           REFUSAL name_taken, bad_name, registration_closed,
//	                    invite_needed, …; weak_password is judged by the node,
//	                    authd never sees the password
//	chat room create    nothing to ask for: a CREATE entry, made by the creator
//	  success           event room, cause created
//	  failure           error name_taken, bad_argument
//	chat room join      question Join to the admin's node, or to that of
//	                    who stands in
//	  success           Entry…, Key, Base; an ADMIT for all others; event room,
//	                    cause joined
//	  failure           Refused banned, not_admin, no_such_room, room_full, …;
//	                    error admin_away where there is nobody to ask
//	chat room see       question Rooms to every peer
//	  success           RoomInfo…; notice rooms (/rooms, node rooms)
//	  failure           an empty list: there is no one who could refuse
//	chat room quit      member: Leave packet and question Part to the writer;
//	                    admin: a LEAVE entry
//	  success           Done, a LEFT entry and a new key; event room, cause left,
//	                    and succeeded when the admin left
//	  failure           error not_member, no_such_room. Leaving itself can't be
//	                    refused, and who leaves does not wait for the answer
//	private chat        Direct on the control stream, or a DATAGRAM
//	  success           DirectAck; event message there, receipt here
//	  failure           error no_such_user, too_long, unconfirmed (fast, and
//	                    nobody there). A reliable one waits until it can be
//	                    delivered, at authd too (DEPOSIT): notices waiting, kept
//
// # Where this differs from the first design, and why
//
//   - Presence says the sender's role and its period, so that silence is
//     measured by what was promised and authd's presence can be told from a
//     node's.
//   - The replay window is 2,048 numbers instead of 1,024: a repair sends the
//     same sealed bytes again, at full speed more than 1,024 packets later. It
//     takes the same 264 bytes, the highest number and a bit for each.
//   - Packets that wait together are signed together. One signature for each
//     costs its receivers ten times what the rest does, so the speed of a room
//     was that of Ed25519. Each packet of a burst still verifies by itself:
//     none waits for another, a repair is the same sealed bytes, and history
//     hands a message on with its author's signature as before, which a chain
//     of hashes that one signature closes would not allow. Hashes have their
//     full 32 bytes, so what a signature covers is as certain as it was; the
//     four sizes stay; and a packet that waits alone, as nearly all that people
//     type, is what it was, byte for byte.
//   - Sequence numbers and numbers of fast messages begin with the boot
//     number; else each packet would have to be stored before it is sent.
//   - REKEY lists devices it leaves out (suspended people's and revoked
//     ones), so that every sender sees in the log to whom an epoch is closed.
//   - REKEY may leave out anybody's devices, not only of people behind: who
//     stands in for an admin whose device is revoked has to. The admin's next
//     entry undoes it.
//   - A co-admin's request is a question over the link, which is as good as a
//     signature for who answers; "lanchat request v1" signs invites, which
//     others than their receiver have to judge. The entry names who asked.
//   - A regent records a member's leave as KICK on that member's own request.
//   - RESOLVE names the person beside the hash of the removal, so that an
//     entry can be judged by its own branch alone.
//   - A RESOLVE that upholds a BAN only removes: who wrote it writes a BAN of its
//     own next, for what is left of the time.
//   - Removals on a losing branch suspend nobody if their author is banned on
//     the one that counts: who was removed could sign more of them for ever,
//     behind an entry from before.
//   - Where somebody's two signatures hold the room, whoever sits in front of
//     that person may go on from where it stands still, and everybody does:
//     otherwise any member could stop a room.
//   - A merge asks for a new epoch at most once a minute, and who is in front
//     answers false CLAIMs by entries only so often: else who signs branches
//     all day would fill the log.
//   - From number 9,000 on only the admin may write: who stands in could fill
//     a log otherwise, so that the admin, back again, could do nothing.
//   - A DEVICE that adds a device steps the secret like ADMIT: nobody left.
//   - An address that mDNS hints at is found by a question from a socket of
//     discovery's own; the reasons stand at its askOnce.
//
// Reserved and not used yet: Version and Features of Hello, the ops VACATE and notary.
//
// # How to add a message
//
// Take the next free number of its conversation and say in the conversation's
// comment who sends it when. Write the struct with the unit and limit of each
// field, then append and parse so that both read like the layout, and name it
// in the switch that parses. Check values in both directions: append panics on
// what parse would refuse. Then its row in the test's table (value and hex,
// every prefix refused, one byte more refused), its bad cases, its seed in the
// fuzz target, and go test ./wire -update for the known answers. Older programs
// refuse a kind, op or code they do not know, so one that they must understand
// needs a new version in the ALPN and the first byte.
package wire
