-- Agents, their runs with what happened in them, the owner's MCP servers, and notes that agents keep.

CREATE TABLE agents (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    description   TEXT NOT NULL,
    instructions  TEXT NOT NULL,
    tools         TEXT NOT NULL,                 -- JSON, a list of names
    starters      TEXT NOT NULL,                 -- JSON, a list of texts
    model         TEXT,
    steps         INTEGER NOT NULL,
    time_s        INTEGER NOT NULL,
    tokens        INTEGER NOT NULL
) STRICT;

CREATE TABLE runs (
    id          TEXT PRIMARY KEY,
    person      TEXT NOT NULL REFERENCES persons (id) ON DELETE CASCADE,
    agent       TEXT NOT NULL,
    model       TEXT NOT NULL,
    task        TEXT NOT NULL,
    chat        TEXT REFERENCES chats (id) ON DELETE CASCADE,
    message     TEXT REFERENCES messages (id) ON DELETE SET NULL,
    status      TEXT NOT NULL,
    answer      TEXT NOT NULL,
    error       TEXT,
    steps       INTEGER NOT NULL,
    tokens      INTEGER NOT NULL,
    request     TEXT NOT NULL,                   -- JSON, what a restart goes on by
    resumed     INTEGER NOT NULL DEFAULT 0,      -- how often a restart has taken it up
    created_at  INTEGER NOT NULL,
    ended_at    INTEGER
) STRICT;

CREATE INDEX runs_by_person ON runs (person, created_at DESC);
CREATE INDEX runs_by_chat ON runs (chat) WHERE chat IS NOT NULL;
CREATE INDEX runs_by_message ON runs (message) WHERE message IS NOT NULL;
CREATE INDEX runs_open ON runs (status) WHERE ended_at IS NULL;

CREATE TABLE run_events (
    run     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    event   TEXT NOT NULL,                       -- JSON
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE mcp_servers (
    name        TEXT PRIMARY KEY,
    reach       TEXT NOT NULL,                   -- JSON: a command, or an address
    enabled     INTEGER NOT NULL,
    trusted     TEXT NOT NULL,                   -- JSON, tools that need no asking
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE memories (
    id          INTEGER PRIMARY KEY,
    person      TEXT NOT NULL REFERENCES persons (id) ON DELETE CASCADE,
    note        TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX memories_by_person ON memories (person, created_at DESC);
