-- Sequence numbers that no row will have: what was lost before a log that was emptied. From the first up to, not
-- including, the second.
CREATE TABLE sink_stretches (
    topic_id  uuid NOT NULL,
    partition integer NOT NULL,
    from_seq  bigint NOT NULL,
    to_seq    bigint NOT NULL,
    PRIMARY KEY (topic_id, partition, from_seq)
);
-- A record that comes again is known by its id at its place.
ALTER TABLE edits_rejected ADD COLUMN event_id text;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wiki_sink') THEN
        GRANT SELECT, INSERT ON sink_stretches TO wiki_sink;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wiki_reader') THEN
        GRANT SELECT ON sink_stretches TO wiki_reader;
    END IF;
END
$$;
