#!/bin/bash
# Ingest of WAL beside a stock server that replays the same WAL, and beside a sealed sequential write of it: JSON lines.
# usage: ingest_bench.sh [BUILD_DIR] [PORT] [SCALE] [TRANSACTIONS]
#
# Two stretches of WAL as a compute writes it (full_page_writes = off): TRANSACTIONS of `pgbench` on tables of SCALE, and a bulk
# load (COPY, an index). TRANSACTIONS: enough for several layers, or no layer is written while the next one fills. The replay is a stock server's archive recovery with its settings as initdb makes them, from WAL in its pg_wal, by
# what it logs itself ("redo done ... elapsed"); its page cache is warm, as the ingest's. What was written before is synced before
# either begins.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$here/../../build}" && pwd)
port=${2:-21620}
scale=${3:-20}
transactions=${4:-300000}
bin=/usr/lib/postgresql/15/bin
work=$(mktemp -d "${TMPDIR:-/tmp}/ingest-bench-XXXXXX")
chmod 755 "$work"
as=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work"
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
cd "$work"
finish() {
    rc=$?
    for d in data replay; do
        if [ -f "$d/postmaster.pid" ]; then
            "${as[@]}" "$bin/pg_ctl" -D "$d" -m immediate -w stop >/dev/null 2>&1 || true
        fi
    done
    cd /
    rm -rf "$work"
    exit "$rc"
}
trap finish EXIT
sql() { "${as[@]}" "$bin/psql" -X -q -A -t -h "$work" -p "$port" -U postgres -d postgres -v ON_ERROR_STOP=1 "$@"; }
ctl() { "${as[@]}" "$bin/pg_ctl" -D "$1" -l "$work/$1.log" -w -t 120 "${@:2}" >/dev/null; }

configure() { # DIR: where the server listens
    printf "port = %s\nlisten_addresses = ''\nunix_socket_directories = '%s'\n" "$port" "$work" >>"$1/postgresql.conf"
}

# replay BASE WAL: seconds that the stock server's redo takes
replay() {
    rm -rf replay replay.log
    "${as[@]}" cp -a "$1" replay
    "${as[@]}" cp "$2"/* replay/pg_wal/
    "${as[@]}" touch replay/recovery.signal
    printf "restore_command = 'false'\nlog_line_prefix = ''\n" >>replay/postgresql.conf
    sync -f "$work"
    ctl replay start
    for _ in $(seq 1200); do # it takes connections before its redo is done
        if grep -q 'redo done at' replay.log; then
            break
        fi
        sleep 0.1
    done
    ctl replay -m immediate stop
    sed -n 's/.*redo done at .* elapsed: \([0-9.]*\) s.*/\1/p' replay.log
}

# measure NAME BASE: what the server in data did since BASE was copied from it
measure() {
    local end wal=wal-$1 seconds=() line
    end=$(sql -c 'SELECT pg_current_wal_flush_lsn()')
    ctl data -m immediate stop
    rm -rf "$wal"
    "${as[@]}" cp -a data/pg_wal "$wal"
    rm -rf "$wal/archive_status"
    for _ in 1 2 3; do
        seconds+=("$(replay "$2" "$wal")")
    done
    sync -f "$work"
    line=$("$build/bin/ingest_bench" "$2" "$wal" "$end" "$work/scratch" | grep '^{')
    python3 - "$1" "$line" "${seconds[@]}" <<'END'
import json, statistics, sys
row = {"what": "ingest", "wal": sys.argv[1], **json.loads(sys.argv[2])}
row["replay_s"] = statistics.median(float(s) for s in sys.argv[3:])
row["times_replay"] = round(row["replay_s"] / row["ingest_s"], 2)
print(json.dumps(row), flush=True)
END
}

# A new server that runs, and keeps all WAL that it writes.
fresh() {
    "${as[@]}" "$bin/initdb" -D data -A trust -U postgres -E UTF8 --locale C -N >/dev/null
    configure data
    "${as[@]}" tee -a data/postgresql.conf >/dev/null <<END
wal_keep_size = '20GB'
max_wal_size = '20GB'
checkpoint_timeout = '1h'
autovacuum = off
fsync = off
full_page_writes = off
END
    ctl data start
}

fresh
"${as[@]}" "$bin/pgbench" -q -i -s "$scale" -h "$work" -p "$port" -U postgres postgres >/dev/null 2>&1
ctl data -m fast stop
# The stock server that replays has the settings of initdb.
base() { # NAME
    "${as[@]}" cp -a data "$1"
    "${as[@]}" cp /dev/null "$1/postgresql.conf"
    rm -f "$1"/pg_wal/0*
    configure "$1"
    "${as[@]}" cp data/pg_wal/"$("${as[@]}" "$bin/pg_controldata" data | sed -n "s/^Latest checkpoint's REDO WAL file: *//p")" "$1/pg_wal/"
}
base base-1
ctl data start
"${as[@]}" "$bin/pgbench" -c 4 -t $((transactions / 4)) -M prepared -h "$work" -p "$port" -U postgres postgres >/dev/null 2>&1
measure pgbench base-1
rm -rf data base-1 wal-pgbench
fresh
ctl data -m fast stop
base base-2
ctl data start
sql -c "CREATE TABLE rows (id int, pad text)" \
    -c "COPY rows FROM PROGRAM 'seq 1 2000000 | awk \"{print \\\$1 \\\"\\t\\\" \\\$1 * 7919 % 1000003 \\\"-of-a-row-that-has-some-more-text-in-it\\\"}\"'" \
    -c "CREATE INDEX ON rows (id)"
measure bulk base-2
