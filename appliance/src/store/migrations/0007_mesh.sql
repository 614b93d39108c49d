-- Tunnels of the built-in mesh, and devices that came in through one: they end with it.

CREATE TABLE mesh_peers (
    device      TEXT PRIMARY KEY REFERENCES credentials (id) ON DELETE CASCADE,
    public_key  BLOB NOT NULL UNIQUE,           -- the private one is on the device alone
    number      INTEGER NOT NULL UNIQUE,        -- the last part of its address inside
    endpoint    TEXT,                           -- where it was last, to greet it after a restart
    created_at  INTEGER NOT NULL
) STRICT;

ALTER TABLE credentials ADD COLUMN via TEXT REFERENCES credentials (id) ON DELETE CASCADE;

CREATE INDEX credentials_via ON credentials (via) WHERE via IS NOT NULL;
