-- How the executor of a registration is reached.

ALTER TABLE registrations ADD COLUMN transport TEXT NOT NULL DEFAULT 'direct'
    CHECK (transport IN ('direct', 'relay', 'noise'));
