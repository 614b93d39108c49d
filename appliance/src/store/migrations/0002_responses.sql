-- Answers of the Responses route that a later request may go on from.

CREATE TABLE responses (
    id          TEXT PRIMARY KEY,
    person      TEXT NOT NULL REFERENCES persons (id) ON DELETE CASCADE,
    previous    TEXT,                           -- the response that this one went on from, which may be gone
    input       TEXT NOT NULL,                  -- JSON: the items of the request
    body        TEXT NOT NULL,                  -- JSON: the response as it was sent
    created_at  INTEGER NOT NULL
) STRICT;
