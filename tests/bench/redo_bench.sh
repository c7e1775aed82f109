#!/bin/bash
# Native redo beside the redo process on the WAL of a stock server: JSON lines on standard output.
# usage: redo_bench.sh [BUILD_DIR] [PORT]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$here/../../build}" && pwd)
port=${2:-21610}
bin=/usr/lib/postgresql/15/bin
work=$(mktemp -d /dev/shm/redo-bench-XXXXXX)
chmod 755 "$work"
as=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work"
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
cd "$work"
finish() {
    "${as[@]}" "$bin/pg_ctl" -D data -m immediate -w stop >/dev/null 2>&1 || true
    cd /
    rm -rf "$work"
}
trap finish EXIT
"${as[@]}" "$bin/initdb" -D base -A trust -U postgres -E UTF8 --locale C -N >/dev/null
start=$("${as[@]}" "$bin/pg_controldata" base | sed -n 's/^Latest checkpoint location: *//p')
"${as[@]}" cp -a base data
"${as[@]}" mkdir scratch
chmod 711 scratch
cat >>data/postgresql.conf <<END
port = $port
listen_addresses = ''
unix_socket_directories = '$work'
wal_keep_size = '20GB'
max_wal_size = '20GB'
fsync = off
full_page_writes = off
END
"${as[@]}" "$bin/pg_ctl" -D data -w -l log start >/dev/null
sql() { "${as[@]}" "$bin/psql" -X -q -h "$work" -p "$port" -U postgres -d postgres "$@" >>psql.out; }
sql -v ON_ERROR_STOP=1 <<'SQL'
CREATE TABLE accounts (id int PRIMARY KEY, n int, filler text) WITH (fillfactor = 70);
CREATE INDEX accounts_n ON accounts (n);
INSERT INTO accounts SELECT g, g % 50, repeat('f', 60) FROM generate_series(1, 20000) g;
CREATE TABLE log (a int, t text);
DO $$ BEGIN FOR i IN 1..400 LOOP
  UPDATE accounts SET filler = repeat(chr(97 + i % 26), 60) WHERE id BETWEEN i * 40 AND i * 40 + 60;
  UPDATE accounts SET n = n + 1 WHERE id BETWEEN i * 3 AND i * 3 + 20;
  INSERT INTO log SELECT g, 'line ' || g FROM generate_series(1, 20) g;
  COMMIT;
END LOOP; END $$;
COPY log TO '/dev/null';
BEGIN; SELECT count(*) FROM (SELECT 1 FROM accounts WHERE id % 9 = 0 FOR UPDATE) s; COMMIT;
DELETE FROM accounts WHERE id % 5 = 0;
VACUUM accounts; VACUUM FREEZE log;
CREATE INDEX log_t ON log (t);
INSERT INTO log SELECT g, 'more' FROM generate_series(1, 3000) g;
SQL
sql -c "COPY log TO '$work/rows.csv'" -c "COPY log FROM '$work/rows.csv'"
"${as[@]}" "$bin/pg_ctl" -D data -w -m fast stop >/dev/null
"$build/bin/redo_bench" base data/pg_wal "$start" scratch "$bin" | grep '^{'
