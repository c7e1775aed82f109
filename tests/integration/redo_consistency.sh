#!/bin/bash
# Redo under wal_consistency_checking=all: a stock server runs a workload that reaches every resource
# manager; every page's chain of records then goes through the redo pool, and every recorded after-image
# is compared; and natively, which must give the same bytes. Then a smaller workload with full-page images,
# once for each compression. usage: redo_consistency.sh [BUILD_DIR] [PORT]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$here/../../build}" && pwd)
port=${2:-21600}
bin=/usr/lib/postgresql/15/bin
work=$(mktemp -d /dev/shm/redo-XXXXXX)
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
    rm -rf "$work"
}
trap finish EXIT
"${as[@]}" "$bin/initdb" -D base -A trust -U postgres -E UTF8 --locale C -N >/dev/null
start=$("${as[@]}" "$bin/pg_controldata" base | sed -n 's/^Latest checkpoint location: *//p')

# check SQL COMPRESSION FULL_PAGE_WRITES [partial]
check() {
    local sql=$1 compression=$2 images=$3
    shift 3
    rm -rf data scratch rows.csv
    "${as[@]}" cp -a base data
    "${as[@]}" mkdir scratch
    chmod 711 scratch
    cat >>data/postgresql.conf <<END
port = $port
listen_addresses = ''
unix_socket_directories = '$work'
wal_consistency_checking = 'all'
wal_keep_size = '20GB'
max_wal_size = '20GB'
shared_buffers = '64MB'
fsync = off
full_page_writes = $images
wal_compression = $compression
max_prepared_transactions = 5
autovacuum_naptime = '2s'
END
    "${as[@]}" "$bin/pg_ctl" -D data -w -l log start >/dev/null
    "${as[@]}" "$bin/psql" -X -q -h "$work" -p "$port" -U postgres -d postgres -v csv="$work/rows.csv" \
        -f "$here/$sql" >psql.out 2>psql.err || { cat psql.err; exit 1; }
    "${as[@]}" "$bin/pg_ctl" -D data -w -m fast stop >/dev/null
    echo "== $sql, wal_compression $compression"
    "$build/bin/redo_check" base data/pg_wal "$start" scratch "$bin" "$@" | tee check.out
}

check redo_consistency.sql off off
for compression in off pglz lz4 zstd; do
    check redo_images.sql "$compression" on partial
    grep -q "native images:.*${compression/off/plain} [1-9]" check.out || { echo "no image of that kind"; exit 1; }
done
