-- What executors are told of a client. Where nothing was said of that, as by every version before this one, it is the labels.

ALTER TABLE tokens ADD COLUMN client_labels TEXT;
