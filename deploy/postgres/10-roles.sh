#!/bin/sh
# Three roles: one owns the tables, one stores edits and can do no more, one reads. Run once, for a new database.
set -eu
psql --set ON_ERROR_STOP=1 --no-psqlrc \
    --set owner="$WIKI_OWNER_PASSWORD" --set sink="$WIKI_SINK_PASSWORD" --set reader="$WIKI_READER_PASSWORD" <<'SQL'
CREATE ROLE wiki_owner LOGIN PASSWORD :'owner';
CREATE ROLE wiki_sink LOGIN PASSWORD :'sink';
CREATE ROLE wiki_reader LOGIN PASSWORD :'reader';
ALTER DATABASE wikipedia OWNER TO wiki_owner;
REVOKE ALL ON DATABASE wikipedia FROM PUBLIC;
GRANT CONNECT ON DATABASE wikipedia TO wiki_sink, wiki_reader;
SQL
