-- What clients have noted beside models: how one is to be loaded, what is to come, several under one name.

CREATE TABLE notes (
    kind  TEXT NOT NULL,                        -- options or registration
    name  TEXT NOT NULL,                        -- the model's, as requests use it
    body  TEXT NOT NULL,                        -- JSON, as it came
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
