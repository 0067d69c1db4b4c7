-- The public key of the instance behind a registration, as JSON, if it has one.

ALTER TABLE registrations ADD COLUMN public_key TEXT;
