-- The fingerprint of the one key that may register the name, where the server binds names to keys. It outlives the
-- executor's records only until it is forgotten.

CREATE TABLE bound_keys (
    executor_id TEXT    NOT NULL PRIMARY KEY,
    key         TEXT    NOT NULL,
    bound_at    INTEGER NOT NULL
) STRICT;
