CREATE TABLE edits (
    event_id        TEXT PRIMARY KEY,
    id              INTEGER,
    domain          TEXT NOT NULL,
    namespace       TEXT NOT NULL,
    title           TEXT NOT NULL,
    timestamp       TEXT NOT NULL,
    user_name       TEXT,
    user_type       TEXT NOT NULL,
    old_length      INTEGER,
    new_length      INTEGER,
    type            TEXT NOT NULL,
    wiki            TEXT NOT NULL,
    namespace_id    INTEGER NOT NULL,
    namespace_local TEXT NOT NULL,
    user_kind       TEXT NOT NULL,
    revision_old    INTEGER,
    revision_new    INTEGER,
    minor           INTEGER,
    patrolled       INTEGER,
    comment         TEXT,
    topic_id        TEXT NOT NULL,
    partition       INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    received_at     INTEGER NOT NULL,
    stored_at       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX edits_position ON edits (topic_id, partition, seq);

CREATE TABLE edits_rejected (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    topic_id  TEXT NOT NULL,
    partition INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    "offset"  INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    detail    TEXT NOT NULL,
    value     BLOB NOT NULL,
    told      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic_id, partition, seq)
);
CREATE INDEX edits_rejected_untold ON edits_rejected (told) WHERE told = 0;

CREATE TABLE sink_progress (
    topic_id        TEXT NOT NULL,
    partition       INTEGER NOT NULL,
    topic           TEXT NOT NULL,
    base_seq        INTEGER NOT NULL,
    next_seq        INTEGER NOT NULL,
    next_offset     INTEGER NOT NULL,
    last_raw_offset INTEGER NOT NULL,
    owner           TEXT NOT NULL,
    epoch           INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition)
) WITHOUT ROWID;

CREATE VIEW edits_per_minute AS
    SELECT substr(timestamp, 1, 16) AS minute, count(*) AS edits, sum(user_type = 'bot') AS by_bots
    FROM edits GROUP BY minute ORDER BY minute DESC;
CREATE VIEW busiest_pages AS
    SELECT wiki, title, count(*) AS edits, count(DISTINCT user_name) AS users
    FROM edits GROUP BY wiki, title ORDER BY edits DESC, wiki, title;
CREATE VIEW bots_and_humans AS
    SELECT user_kind, count(*) AS edits, sum(new_length - old_length) AS bytes_changed
    FROM edits GROUP BY user_kind ORDER BY edits DESC;
CREATE VIEW edits_by_wiki AS
    SELECT wiki, count(*) AS edits, count(DISTINCT title) AS pages
    FROM edits GROUP BY wiki ORDER BY edits DESC;
