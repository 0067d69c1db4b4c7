-- What happened, for those who watch. An id is never used again, also when the oldest have given way.

CREATE TABLE events (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    executor_id TEXT,
    detail      TEXT    NOT NULL
) STRICT;
