-- Sequence numbers that no row will have: what was lost before a log that was emptied. From the first up to, not
-- including, the second.
CREATE TABLE sink_stretches (
    topic_id  TEXT NOT NULL,
    partition INTEGER NOT NULL,
    from_seq  INTEGER NOT NULL,
    to_seq    INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition, from_seq)
) WITHOUT ROWID;
-- A record that comes again is known by its id at its place.
ALTER TABLE edits_rejected ADD COLUMN event_id TEXT;
