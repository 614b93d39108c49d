-- What a chat is told and who answers in it; a number for every message, for clients that count them.

ALTER TABLE chats ADD COLUMN instructions TEXT;
ALTER TABLE chats ADD COLUMN agent TEXT;        -- empty: the model alone

CREATE TABLE message_numbers (
    number   INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice
    message  TEXT NOT NULL UNIQUE REFERENCES messages (id) ON DELETE CASCADE
) STRICT;

INSERT INTO message_numbers (message) SELECT id FROM messages ORDER BY created_at, rowid;

CREATE TRIGGER messages_counted AFTER INSERT ON messages BEGIN
    INSERT INTO message_numbers (message) VALUES (new.id);
END;
