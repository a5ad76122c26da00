CREATE TABLE edits (
    event_id        text PRIMARY KEY,
    id              bigint,
    domain          text NOT NULL,
    namespace       text NOT NULL,
    title           text NOT NULL,
    timestamp       timestamptz NOT NULL,
    user_name       text,
    user_type       text NOT NULL,
    old_length      bigint,
    new_length      bigint,
    type            text NOT NULL,
    wiki            text NOT NULL,
    namespace_id    bigint NOT NULL,
    namespace_local text NOT NULL,
    user_kind       text NOT NULL,
    revision_old    bigint,
    revision_new    bigint,
    minor           boolean,
    patrolled       boolean,
    comment         text,
    topic_id        uuid NOT NULL,
    partition       integer NOT NULL,
    seq             bigint NOT NULL,
    received_at     timestamptz NOT NULL,
    stored_at       timestamptz NOT NULL,
    -- "Exactly once" is also what the database itself insists on.
    CONSTRAINT edits_position UNIQUE (topic_id, partition, seq)
);

CREATE TABLE edits_rejected (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic_id  uuid NOT NULL,
    partition integer NOT NULL,
    seq       bigint NOT NULL,
    "offset"  bigint NOT NULL,
    reason    text NOT NULL,
    detail    text NOT NULL,
    value     bytea NOT NULL,
    told      boolean NOT NULL DEFAULT false,
    CONSTRAINT edits_rejected_position UNIQUE (topic_id, partition, seq)
);
CREATE INDEX edits_rejected_untold ON edits_rejected (topic_id, partition) WHERE NOT told;

CREATE TABLE sink_progress (
    topic_id        uuid NOT NULL,
    partition       integer NOT NULL,
    topic           text NOT NULL,
    base_seq        bigint NOT NULL,
    next_seq        bigint NOT NULL,
    next_offset     bigint NOT NULL,
    last_raw_offset bigint NOT NULL,
    owner           text NOT NULL,
    epoch           bigint NOT NULL,
    PRIMARY KEY (topic_id, partition)
-- Its few rows change with each write: room for the new versions beside the old ones.
) WITH (fillfactor = 20);

CREATE VIEW edits_per_minute AS
    SELECT date_trunc('minute', timestamp) AS minute, count(*) AS edits,
           count(*) FILTER (WHERE user_type = 'bot') AS by_bots
    FROM edits GROUP BY 1 ORDER BY 1 DESC;
CREATE VIEW busiest_pages AS
    SELECT wiki, title, count(*) AS edits, count(DISTINCT user_name) AS users
    FROM edits GROUP BY wiki, title ORDER BY edits DESC, wiki, title;
CREATE VIEW bots_and_humans AS
    SELECT user_kind, count(*) AS edits, sum(new_length - old_length) AS bytes_changed
    FROM edits GROUP BY user_kind ORDER BY edits DESC;
CREATE VIEW edits_by_wiki AS
    SELECT wiki, count(*) AS edits, count(DISTINCT title) AS pages
    FROM edits GROUP BY wiki ORDER BY edits DESC;

-- Where these roles exist they get what they need and no more; elsewhere the owner grants as he sees fit.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wiki_sink') THEN
        GRANT SELECT, INSERT ON edits TO wiki_sink;
        GRANT SELECT, INSERT ON edits_rejected TO wiki_sink;
        GRANT UPDATE (told) ON edits_rejected TO wiki_sink;
        GRANT SELECT, INSERT, UPDATE ON sink_progress TO wiki_sink;
        GRANT SELECT ON wiki_migrations TO wiki_sink;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wiki_reader') THEN
        GRANT SELECT ON edits, edits_rejected, sink_progress, wiki_migrations,
            edits_per_minute, busiest_pages, bots_and_humans, edits_by_wiki TO wiki_reader;
    END IF;
END
$$;
