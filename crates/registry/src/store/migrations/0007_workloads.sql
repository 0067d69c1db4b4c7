-- Whose a token is that stands for a workload: who vouches for it, who it is there, and by which rule it is let in.

ALTER TABLE tokens ADD COLUMN issuer TEXT;
ALTER TABLE tokens ADD COLUMN subject TEXT;
ALTER TABLE tokens ADD COLUMN rule TEXT;
