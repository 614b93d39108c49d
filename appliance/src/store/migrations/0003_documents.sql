-- Documents with their texts, passages and vectors; collections of them; the jobs that read them.

CREATE TABLE collections (
    id          TEXT PRIMARY KEY,
    person      TEXT NOT NULL REFERENCES persons (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (person, name)
) STRICT;

CREATE TABLE documents (
    key         INTEGER PRIMARY KEY,            -- what the large tables refer to
    id          TEXT NOT NULL UNIQUE,
    person      TEXT NOT NULL REFERENCES persons (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    source      TEXT NOT NULL,
    origin      TEXT,                           -- path or address
    bytes       INTEGER NOT NULL,
    sha256      TEXT NOT NULL,
    file        TEXT,                           -- relative to the data directory
    modified    INTEGER,                        -- of the file at `origin`, unix milliseconds
    status      TEXT NOT NULL,
    error_kind  TEXT,
    error       TEXT,
    title       TEXT,
    pages       INTEGER,
    passages    INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    indexed_at  INTEGER,
    cited_at    INTEGER,
    UNIQUE (person, sha256)
) STRICT;

CREATE INDEX documents_by_person ON documents (person, created_at DESC);
CREATE INDEX documents_by_origin ON documents (person, origin);

CREATE TABLE collected (
    collection  TEXT NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    document    INTEGER NOT NULL REFERENCES documents (key) ON DELETE CASCADE,
    PRIMARY KEY (collection, document)
) STRICT, WITHOUT ROWID;

CREATE INDEX collected_by_document ON collected (document);

-- The whole text as it was read; passages and citations are offsets into it.
CREATE TABLE texts (
    document    INTEGER PRIMARY KEY REFERENCES documents (key) ON DELETE CASCADE,
    content     TEXT NOT NULL,
    pages       TEXT NOT NULL,                  -- JSON: the offset at which each page begins
    headings    TEXT NOT NULL                   -- JSON: [offset, level, title]
) STRICT;

CREATE TABLE passages (
    id          INTEGER PRIMARY KEY,
    document    INTEGER NOT NULL REFERENCES documents (key) ON DELETE CASCADE,
    number      INTEGER NOT NULL,               -- place in the document, from 0
    first       INTEGER NOT NULL,               -- scalar values of the text
    past        INTEGER NOT NULL,
    page        INTEGER,
    headings    TEXT NOT NULL,                  -- joined by line feeds, outermost first
    text        TEXT NOT NULL,
    UNIQUE (document, number)
) STRICT;

CREATE VIRTUAL TABLE words USING fts5 (
    headings, text,
    content = 'passages', content_rowid = 'id',
    tokenize = 'porter unicode61 remove_diacritics 2'
);

-- What is deleted leaves no trace in the index.
INSERT INTO words (words, rank) VALUES ('secure-delete', 1);

CREATE TRIGGER passages_in AFTER INSERT ON passages BEGIN
    INSERT INTO words (rowid, headings, text) VALUES (new.id, new.headings, new.text);
END;

CREATE TRIGGER passages_out AFTER DELETE ON passages BEGIN
    INSERT INTO words (words, rowid, headings, text) VALUES ('delete', old.id, old.headings, old.text);
END;

CREATE TABLE vectors (
    passage  INTEGER PRIMARY KEY REFERENCES passages (id) ON DELETE CASCADE,
    vector   BLOB NOT NULL                      -- f32, little endian
) STRICT;

-- Those of the embedder that is to take over, while the vectors above still answer.
CREATE TABLE next_vectors (
    passage  INTEGER PRIMARY KEY REFERENCES passages (id) ON DELETE CASCADE,
    vector   BLOB NOT NULL
) STRICT;

-- The embedder whose vectors answer searches.
CREATE TABLE library (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    embedder  TEXT NOT NULL,
    next      TEXT                              -- the one that is to take over
) STRICT;

CREATE TABLE jobs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    document    INTEGER REFERENCES documents (key) ON DELETE CASCADE,   -- empty: every passage anew
    running     INTEGER NOT NULL DEFAULT 0,
    attempts    INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX jobs_by_document ON jobs (document);

-- Folders whose files are documents as long as they lie there.
CREATE TABLE watches (
    id          TEXT PRIMARY KEY,
    person      TEXT NOT NULL REFERENCES persons (id) ON DELETE CASCADE,
    path        TEXT NOT NULL,
    recursive   INTEGER NOT NULL,
    collection  TEXT REFERENCES collections (id) ON DELETE SET NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (person, path)
) STRICT;

-- What a chat is answered from: collections or single documents.
CREATE TABLE chat_shelves (
    chat   TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    shelf  TEXT NOT NULL,
    PRIMARY KEY (chat, shelf)
) STRICT, WITHOUT ROWID;

ALTER TABLE messages ADD COLUMN citations TEXT;  -- JSON: the passages that the answer was made from
