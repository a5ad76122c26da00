#!/bin/sh
# Three roles: one owns the tables, one stores edits and can do no more, one reads. Run once, for a new database.
# Passwords come from the environment, or from files where it has none.
set -eu
password() {
    if [ -n "${2:-}" ]; then printf '%s' "$2"; else cat "/run/secrets/role-$1"; fi
}
psql --set ON_ERROR_STOP=1 --no-psqlrc \
    --set owner="$(password owner "${WIKI_OWNER_PASSWORD:-}")" \
    --set sink="$(password sink "${WIKI_SINK_PASSWORD:-}")" \
    --set reader="$(password reader "${WIKI_READER_PASSWORD:-}")" <<'SQL'
CREATE ROLE wiki_owner LOGIN PASSWORD :'owner';
CREATE ROLE wiki_sink LOGIN PASSWORD :'sink';
CREATE ROLE wiki_reader LOGIN PASSWORD :'reader';
ALTER DATABASE wikipedia OWNER TO wiki_owner;
REVOKE ALL ON DATABASE wikipedia FROM PUBLIC;
GRANT CONNECT ON DATABASE wikipedia TO wiki_sink, wiki_reader;
SQL
