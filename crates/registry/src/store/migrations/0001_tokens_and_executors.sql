-- Who may, and who exists. Times are seconds since 1970.

CREATE TABLE tokens (
    id          TEXT    NOT NULL PRIMARY KEY,
    hash        BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    name        TEXT    NOT NULL,
    role        TEXT    NOT NULL CHECK (role IN ('executor', 'client', 'admin')),
    executors   TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER
) STRICT;

-- epoch is that of the current registration.
CREATE TABLE executors (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        TEXT,
    labels      TEXT    NOT NULL,
    metadata    TEXT    NOT NULL,
    epoch       INTEGER NOT NULL,
    last_seen   INTEGER
) STRICT;

CREATE TABLE registrations (
    executor_id     TEXT    NOT NULL REFERENCES executors (id) ON DELETE CASCADE,
    epoch           INTEGER NOT NULL,
    id              TEXT    NOT NULL UNIQUE,
    idempotency_id  TEXT    NOT NULL,
    token_id        TEXT    NOT NULL REFERENCES tokens (id),
    created_at      INTEGER NOT NULL,
    PRIMARY KEY (executor_id, epoch)
) STRICT;
