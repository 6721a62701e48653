-- authd's database, version 1. Times are Unix seconds; ids, keys, salts and
-- serials are raw bytes. Later versions are migrations on top of this file
-- (migrations.go); this file never changes again.

PRAGMA application_id = 0x6c636164; -- "lcad"

-- The realm this database belongs to: one row.
CREATE TABLE realm (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    id         BLOB    NOT NULL CHECK (length(id) = 32),
    crl_number INTEGER NOT NULL DEFAULT 0, -- only ever rises
    boot       INTEGER NOT NULL DEFAULT 0  -- rises at each start
) STRICT;

CREATE TABLE account (
    id       BLOB    PRIMARY KEY CHECK (length(id) = 16),
    name     TEXT    NOT NULL UNIQUE,
    name_seq INTEGER NOT NULL,
    method   INTEGER NOT NULL,  -- of authentication: 1 is a pre-hashed password
    salt     BLOB    NOT NULL CHECK (length(salt) = 16),
    salt2    BLOB    NOT NULL CHECK (length(salt2) = 16),
    verifier BLOB    NOT NULL CHECK (length(verifier) = 32),
    disabled INTEGER,           -- since when, or NULL
    created  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE device (
    key     BLOB    PRIMARY KEY CHECK (length(key) = 32),
    account BLOB    NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name    TEXT    NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,   -- end of its newest certificate
    revoked INTEGER             -- when, or NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX device_account ON device (account);

-- Every certificate, recorded before it was signed. Rows outlive account and
-- device: the revocation list and the quarantine of names need them.
CREATE TABLE certificate (
    serial     BLOB    PRIMARY KEY CHECK (length(serial) = 16),
    account    BLOB    NOT NULL,
    key        BLOB    NOT NULL,
    name       TEXT    NOT NULL,
    name_seq   INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    not_after  INTEGER NOT NULL,
    revoked    INTEGER          -- when, or NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX certificate_account ON certificate (account);
CREATE INDEX certificate_not_after ON certificate (not_after);
CREATE INDEX certificate_revoked ON certificate (revoked) WHERE revoked IS NOT NULL;

-- Names that nobody may take yet.
CREATE TABLE quarantine (
    name  TEXT    PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Log-ins that failed in a row: by account id, or by bucket of unknown names.
CREATE TABLE failure (
    who   BLOB    PRIMARY KEY,
    count INTEGER NOT NULL,
    last  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
