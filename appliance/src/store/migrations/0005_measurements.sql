-- What lanes do with models, as measured: averages that forget. Beside it what the owner chose about models.

CREATE TABLE measurements (
    lane        TEXT NOT NULL,                  -- such as llama.vulkan
    model       TEXT NOT NULL,                  -- the file's hash, or the name where there is no file
    rate        TEXT NOT NULL,                  -- such as decode
    value       REAL NOT NULL,
    count       INTEGER NOT NULL,               -- observations so far
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (lane, model, rate)
) STRICT, WITHOUT ROWID;

CREATE TABLE pins (
    model  TEXT PRIMARY KEY                     -- stays loaded
) STRICT, WITHOUT ROWID;

CREATE TABLE logical_models (
    name   TEXT NOT NULL,                       -- what requests say
    model  TEXT NOT NULL,                       -- one artifact that may answer
    PRIMARY KEY (name, model)
) STRICT, WITHOUT ROWID;
