-- Persons own rows. Chats are trees of messages. Models are files that have been imported.

CREATE TABLE persons (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

INSERT INTO persons (id, name, created_at) VALUES ('owner', 'Owner', unixepoch() * 1000);

CREATE TABLE chats (
    id          TEXT PRIMARY KEY,
    person      TEXT NOT NULL REFERENCES persons (id) ON DELETE CASCADE,
    title       TEXT NOT NULL,
    model       TEXT,
    pinned      INTEGER NOT NULL DEFAULT 0,
    head        TEXT,                           -- the leaf that the page shows
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX chats_by_person ON chats (person, updated_at DESC);

CREATE TABLE messages (
    id             TEXT PRIMARY KEY,
    chat           TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    parent         TEXT REFERENCES messages (id) ON DELETE CASCADE,
    role           TEXT NOT NULL,
    content        TEXT NOT NULL,
    model          TEXT,
    finish_reason  TEXT,                        -- empty while the answer is being written
    stats          TEXT,                        -- JSON, as the page reads it
    created_at     INTEGER NOT NULL
) STRICT;

CREATE INDEX messages_by_chat ON messages (chat, created_at);
CREATE INDEX messages_by_parent ON messages (parent);

CREATE TABLE models (
    id                     TEXT PRIMARY KEY,
    name                   TEXT NOT NULL,
    format                 TEXT NOT NULL,
    file                   TEXT NOT NULL,       -- relative to the data directory
    file_bytes             INTEGER NOT NULL,
    sha256                 TEXT NOT NULL,
    architecture           TEXT NOT NULL,
    quantisation           TEXT NOT NULL,
    context_length         INTEGER NOT NULL,
    kv_bytes_per_position  INTEGER NOT NULL,
    has_template           INTEGER NOT NULL,
    imported_at            INTEGER NOT NULL
) STRICT;

CREATE TABLE settings (
    person  TEXT NOT NULL REFERENCES persons (id) ON DELETE CASCADE,
    key     TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (person, key)
) STRICT, WITHOUT ROWID;
