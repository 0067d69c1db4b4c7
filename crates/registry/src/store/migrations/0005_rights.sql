-- What a token allows beyond its role, join tokens, what an administrator says of an executor, and who asked for what.

CREATE TABLE tokens_5 (
    id              TEXT    NOT NULL PRIMARY KEY,
    hash            BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    name            TEXT    NOT NULL,
    role            TEXT    NOT NULL CHECK (role IN ('executor', 'client', 'admin', 'join')),
    executors       TEXT    NOT NULL,
    labels          TEXT    NOT NULL DEFAULT '{}',
    rights          TEXT    NOT NULL DEFAULT 'exec,files,http,pty',
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER,
    revoked_at      INTEGER,
    last_used       INTEGER,
    -- The secret before the last rotation, good until then.
    old_hash        BLOB    UNIQUE CHECK (length(old_hash) = 32),
    old_until       INTEGER,
    -- Of a join token: how often it can still be traded.
    uses_left       INTEGER CHECK (uses_left >= 0),
    -- The join token that this one was traded for.
    joined_with     TEXT    REFERENCES tokens_5 (id)
) STRICT;
INSERT INTO tokens_5 (id, hash, name, role, executors, created_at, expires_at, revoked_at)
    SELECT id, hash, name, role, executors, created_at, expires_at, revoked_at FROM tokens ORDER BY rowid;

CREATE TABLE registrations_5 (
    executor_id     TEXT    NOT NULL REFERENCES executors (id) ON DELETE CASCADE,
    epoch           INTEGER NOT NULL,
    id              TEXT    NOT NULL UNIQUE,
    idempotency_id  TEXT    NOT NULL,
    token_id        TEXT    NOT NULL REFERENCES tokens_5 (id),
    created_at      INTEGER NOT NULL,
    transport       TEXT    NOT NULL DEFAULT 'direct' CHECK (transport IN ('direct', 'relay', 'noise')),
    public_key      TEXT,
    PRIMARY KEY (executor_id, epoch)
) STRICT;
INSERT INTO registrations_5 (executor_id, epoch, id, idempotency_id, token_id, created_at, transport, public_key)
    SELECT executor_id, epoch, id, idempotency_id, token_id, created_at, transport, public_key FROM registrations;

DROP TABLE registrations;
DROP TABLE tokens;
ALTER TABLE tokens_5 RENAME TO tokens;
ALTER TABLE registrations_5 RENAME TO registrations;
CREATE INDEX tokens_by_executors ON tokens (executors) WHERE joined_with IS NOT NULL;

-- Labels that an administrator gave, and since when no new client is let in.
ALTER TABLE executors ADD COLUMN assigned_labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE executors ADD COLUMN draining_since INTEGER;

CREATE TABLE access_log (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    request_id  TEXT    NOT NULL,
    address     TEXT,
    token_id    TEXT,
    role        TEXT,
    action      TEXT    NOT NULL,
    executor_id TEXT,
    outcome     TEXT    NOT NULL,
    count       INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE TRIGGER access_log_is_not_changed BEFORE UPDATE ON access_log
    BEGIN SELECT RAISE(ABORT, 'the access log is append-only'); END;
CREATE TRIGGER access_log_is_not_shortened BEFORE DELETE ON access_log
    BEGIN SELECT RAISE(ABORT, 'the access log is append-only'); END;
CREATE TRIGGER access_log_is_not_replaced BEFORE INSERT ON access_log
    WHEN EXISTS (SELECT 1 FROM access_log WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'the access log is append-only'); END;
