-- Pictures that a person showed with a message, as the engines take them.

CREATE TABLE pictures (
    message  TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    number   INTEGER NOT NULL,                  -- from 0, in the order in which they were shown
    address  TEXT NOT NULL,                     -- data:image/...;base64,...
    PRIMARY KEY (message, number)
) STRICT;

ALTER TABLE messages ADD COLUMN pictures INTEGER NOT NULL DEFAULT 0;  -- how many
ALTER TABLE messages ADD COLUMN reasoning TEXT;                       -- what the model thought before it spoke
