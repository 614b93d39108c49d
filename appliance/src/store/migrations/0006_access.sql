-- Devices and keys, of whose secrets only hashes are kept, and what was done with them.

CREATE TABLE credentials (
    id          TEXT PRIMARY KEY,
    person      TEXT NOT NULL REFERENCES persons (id) ON DELETE CASCADE,
    kind        TEXT NOT NULL,                  -- device or key
    name        TEXT NOT NULL,
    scope       TEXT NOT NULL,
    secret      BLOB NOT NULL,                  -- SHA-256 of 256 random bits
    previous    BLOB,                           -- that of the secret before, while a renewal may be under way
    confirmed   INTEGER NOT NULL DEFAULT 1,     -- whether the present secret has been used
    renewed_at  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    seen_at     INTEGER,
    seen_from   TEXT,
    expires_at  INTEGER
) STRICT;

CREATE TABLE audit (
    id       INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    event    TEXT NOT NULL,
    subject  TEXT NOT NULL,
    address  TEXT NOT NULL
) STRICT;
