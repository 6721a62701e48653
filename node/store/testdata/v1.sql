-- A database of schema version 1 with something in every table. Never changed
-- once that version is released.

PRAGMA application_id = 0x6c636e64; -- "lcnd"

-- One row.
CREATE TABLE node (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    boot   INTEGER NOT NULL CHECK (boot < 4294967296), -- rises at each start; the high half of packet numbers
    closed INTEGER NOT NULL CHECK (closed IN (0, 1))   -- the last run ended with Close
) STRICT;

INSERT INTO node (one, boot, closed) VALUES (1, 0, 1);

-- History. Messages outlive the room they were written in.
--
-- place is where a message stands among those of its chat: the author's clock,
-- but never before an earlier number of the same sender (device and mode) nor
-- behind a later one, and never further ahead of the time it came than a clock
-- may be.
CREATE TABLE message (
    key      INTEGER PRIMARY KEY,
    id       BLOB    NOT NULL UNIQUE CHECK (length(id) = 8),
    chat     BLOB    NOT NULL CHECK (length(chat) IN (16, 32)),
    device   BLOB    NOT NULL CHECK (length(device) = 8),
    mode     INTEGER NOT NULL,
    number   BLOB    NOT NULL CHECK (length(number) = 8),
    place    BLOB    NOT NULL CHECK (length(place) = 8),
    clock    BLOB    NOT NULL CHECK (length(clock) = 8),
    at       INTEGER NOT NULL,
    own      INTEGER NOT NULL CHECK (own IN (0, 1)),
    read     INTEGER NOT NULL CHECK (read IN (0, 1)),
    action   INTEGER NOT NULL CHECK (action IN (0, 1)),
    reply_to BLOB    NOT NULL CHECK (length(reply_to) = 8), -- zeros: to none
    account  BLOB    NOT NULL CHECK (length(account) = 16),
    name     TEXT    NOT NULL, -- the author's user name then
    text     TEXT    NOT NULL,
    epoch    BLOB    NOT NULL CHECK (length(epoch) = 32),   -- zeros: none, as in direct messages
    raw      BLOB              -- the signed plaintext; NULL: none
) STRICT;

CREATE INDEX message_display ON message (chat, place, device, number, mode);
CREATE INDEX message_sender ON message (chat, device, mode, number);
CREATE INDEX message_unread ON message (chat, place) WHERE read = 0;

CREATE TABLE person (
    device   BLOB    PRIMARY KEY CHECK (length(device) = 8),
    key      BLOB    NOT NULL CHECK (length(key) = 32),
    account  BLOB    NOT NULL CHECK (length(account) = 16),
    name     TEXT    NOT NULL,
    name_seq BLOB    NOT NULL CHECK (length(name_seq) = 8),
    seen     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    chat        BLOB    PRIMARY KEY CHECK (length(chat) IN (16, 32)),
    mode        INTEGER NOT NULL,
    notify      INTEGER NOT NULL,
    muted_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Reliable direct messages that nobody has acknowledged.
CREATE TABLE outbox (
    account BLOB NOT NULL CHECK (length(account) = 16),
    number  BLOB NOT NULL CHECK (length(number) = 8),
    id      BLOB NOT NULL CHECK (length(id) = 8),
    body    BLOB NOT NULL,
    PRIMARY KEY (account, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE direct (
    account BLOB PRIMARY KEY CHECK (length(account) = 16),
    sent    BLOB NOT NULL CHECK (length(sent) = 8)
) STRICT, WITHOUT ROWID;

CREATE TABLE received (
    device BLOB PRIMARY KEY CHECK (length(device) = 8),
    number BLOB NOT NULL CHECK (length(number) = 8)
) STRICT, WITHOUT ROWID;

-- The rooms one is in. What else is kept of them goes with them.
CREATE TABLE room (
    id     BLOB    PRIMARY KEY CHECK (length(id) = 32),
    joined INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The last number of this device's reliable messages in each room it was ever
-- in: who comes back goes on counting.
CREATE TABLE own (
    room   BLOB PRIMARY KEY CHECK (length(room) = 32),
    number BLOB NOT NULL CHECK (length(number) = 8)
) STRICT, WITHOUT ROWID;

CREATE TABLE entry (
    key   INTEGER PRIMARY KEY, -- in the order they were saved
    room  BLOB    NOT NULL REFERENCES room (id) ON DELETE CASCADE,
    hash  BLOB    NOT NULL CHECK (length(hash) = 32),
    entry BLOB    NOT NULL,
    UNIQUE (room, hash)
) STRICT;

CREATE TABLE secret (
    room   BLOB NOT NULL REFERENCES room (id) ON DELETE CASCADE,
    epoch  BLOB NOT NULL CHECK (length(epoch) = 32),
    secret BLOB NOT NULL CHECK (length(secret) = 32),
    PRIMARY KEY (room, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE author (
    room     BLOB NOT NULL REFERENCES room (id) ON DELETE CASCADE,
    device   BLOB NOT NULL CHECK (length(device) = 8),
    replay   BLOB NOT NULL,
    received BLOB NOT NULL CHECK (length(received) = 8),
    missing  BLOB NOT NULL CHECK (length(missing) % 16 = 0), -- pairs of numbers: first, last
    since    BLOB NOT NULL CHECK (length(since) = 8),
    PRIMARY KEY (room, device)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 1;

UPDATE node SET boot = 4200000000, closed = 0;

INSERT INTO message (key, id, chat, device, mode, number, place, clock, at, own, read, action, reply_to, account, name, text, epoch, raw) VALUES
    (1, x'0100000000000000', x'0100000000000000000000000000000000000000000000000000000000000000', x'0300000000000000', 0, x'0000000000000001', x'01a3185c50000000', x'01a3185c50000000', 1800000000123, 0, 0, 1, x'0000000000000000', x'02000000000000000000000000000000', 'alice', 'waves', x'0500000000000000000000000000000000000000000000000000000000000000', x'0102'),
    (2, x'0200000000000000', x'02000000000000000000000000000000', x'0300000000000000', 1, x'ffffffffffffffff', x'01a3185c50000001', x'01a3185c50000001', 1800000000456, 0, 1, 0, x'0100000000000000', x'02000000000000000000000000000000', 'alice', 'psst', x'0000000000000000000000000000000000000000000000000000000000000000', NULL);
INSERT INTO person (device, key, account, name, name_seq, seen) VALUES (x'0300000000000000', x'0400000000000000000000000000000000000000000000000000000000000000', x'02000000000000000000000000000000', 'alice', x'0000000000000007', 1800000000000);
INSERT INTO settings (chat, mode, notify, muted_until) VALUES (x'0100000000000000000000000000000000000000000000000000000000000000', 1, 2, 1800000000000);
INSERT INTO outbox (account, number, id, body) VALUES (x'02000000000000000000000000000000', x'0000000000000003', x'0300000000000000', x'ff');
INSERT INTO direct (account, sent) VALUES (x'02000000000000000000000000000000', x'0000000000000003');
INSERT INTO received (device, number) VALUES (x'0300000000000000', x'0000000000000009');
INSERT INTO room (id, joined) VALUES (x'0100000000000000000000000000000000000000000000000000000000000000', 1800000000000);
INSERT INTO own (room, number) VALUES (x'0100000000000000000000000000000000000000000000000000000000000000', x'0000000000000005');
INSERT INTO entry (key, room, hash, entry) VALUES (1, x'0100000000000000000000000000000000000000000000000000000000000000', x'0600000000000000000000000000000000000000000000000000000000000000', x'0a0b');
INSERT INTO secret (room, epoch, secret) VALUES (x'0100000000000000000000000000000000000000000000000000000000000000', x'0500000000000000000000000000000000000000000000000000000000000000', x'5e00000000000000000000000000000000000000000000000000000000000000');
INSERT INTO author (room, device, replay, received, missing, since) VALUES (x'0100000000000000000000000000000000000000000000000000000000000000', x'0300000000000000', x'0c', x'0000000000000004', x'00000000000000020000000000000003', x'0000000000000001');
