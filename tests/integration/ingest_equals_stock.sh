#!/bin/bash
# Every page equals stock's: a stock server runs a workload that reaches every resource manager; its WAL is
# then ingested over an import of the directory it began with, with small layers and restarts on the way,
# and every page, SLRU page and control value is compared with what the server left.
# usage: ingest_equals_stock.sh [BUILD_DIR] [PORT] [full_page_writes on|off]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$here/../../build}" && pwd)
port=${2:-21500}
fpw=${3:-off}
bin=/usr/lib/postgresql/15/bin
work=$(mktemp -d /dev/shm/ingest-XXXXXX)
chmod 755 "$work"
as=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work"
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
cd "$work"
finish() {
    "${as[@]}" "$bin/pg_ctl" -D "$work/data" -m immediate -w stop >/dev/null 2>&1 || true
    cd /
    [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap finish EXIT
"${as[@]}" "$bin/initdb" -D data -A trust -U postgres -E UTF8 --locale C -N >/dev/null
"${as[@]}" cp -a data base
"${as[@]}" mkdir scratch
chmod 755 scratch
cat >>data/postgresql.conf <<END
port = $port
listen_addresses = ''
unix_socket_directories = '$work'
wal_keep_size = '20GB'
max_wal_size = '20GB'
shared_buffers = '64MB'
fsync = off
full_page_writes = $fpw
max_prepared_transactions = 5
autovacuum_naptime = '2s'
track_commit_timestamp = on
END
psql() { "${as[@]}" "$bin/psql" -X -q -h "$work" -p "$port" -U postgres "$@"; }
"${as[@]}" "$bin/pg_ctl" -D data -w -l log start >/dev/null
psql -d postgres -v csv="$work/rows.csv" -f "$here/redo_consistency.sql" >psql.out 2>psql.err ||
    { cat psql.err; exit 1; }
psql -d postgres -f "$here/ingest_equals_stock.sql" >psql.out 2>psql.err || { cat psql.err; exit 1; }
"${as[@]}" "$bin/pgbench" -h "$work" -p "$port" -U postgres -i -q -s 5 postgres 2>/dev/null
"${as[@]}" "$bin/pgbench" -h "$work" -p "$port" -U postgres -n -c 4 -t "${TRANSACTIONS:-1500}" postgres >/dev/null 2>&1
"${as[@]}" "$bin/pg_ctl" -D data -w -m fast stop >/dev/null
"$build/bin/ingest_check" "$work/base" "$work/data" "$work/scratch" "$build/lib" layer=4194304 restarts=3
