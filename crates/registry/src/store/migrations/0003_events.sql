-- What happened, for those who watch. An id is never used again, also when the oldest have given way: sqlite_sequence has the
-- highest. `exedra restore` raises that to the time in milliseconds since 1970, so that what comes has higher ids than
-- anything that happened after the backup; ids may leap therefore, and say nothing about how many there are.

CREATE TABLE events (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    executor_id TEXT,
    detail      TEXT    NOT NULL
) STRICT;
