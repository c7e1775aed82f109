# Sourced by the end-to-end tests: a local cluster of our own, and what every test asks of it.
# Each test is a program: exit 0 passed, anything else failed; its last lines say why.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${LOCH_BUILD:-$ROOT/build}
LOCH=$BUILD/bin/loch
LEDGER=$BUILD/bin/ledger
PORT_BASE=${LOCH_TEST_PORT_BASE:-22000}
WORK=$(mktemp -d /tmp/loch-e2e.XXXXXX)
chmod 0711 "$WORK"
DIR=$WORK/cluster
export LOCH_DIR=$DIR
BACKGROUND=()

note() { printf '%s  %s\n' "$(date +%T)" "$*"; }
fail() { FAILURE="FAILED: $*"; note "$FAILURE"; exit 1; }
FAILURE=

# Who waits for what, as far as the compute main still answers: for a test that was ended because it hung.
what_waits() {
    local at
    at=$(timeout 5 "$LOCH" compute list --json 2>/dev/null | sed -n 's/.*"url": *"\([^"]*\)".*/\1/p' | head -1)
    [ -z "$at" ] || timeout 5 psql "$at" -Xq \
        -c "SELECT pid, state, wait_event_type, wait_event, now() - xact_start AS since, left(query, 60) AS query FROM pg_stat_activity WHERE pid <> pg_backend_pid()" \
        -c "SELECT * FROM loch.lag" -c "SELECT * FROM loch.safekeepers" -c "SELECT * FROM loch.connections" 2>&1 || true
}

cleanup() {
    local code=$? pid
    [ "$code" -eq 0 ] || what_waits
    for pid in "${BACKGROUND[@]}"; do kill "$pid" 2>/dev/null || true; done
    if [ "$code" -ne 0 ] && [ -d "$DIR/log" ]; then
        for f in "$DIR"/log/*.log; do printf -- '--- %s\n' "${f##*/}"; tail -n 15 "$f"; done
        for f in "$(scratch)"/compute-*/*.log "$(scratch)"/compute-*/*/*.log; do
            [ -f "$f" ] && { printf -- '--- %s\n' "${f##*/}"; tail -n 15 "$f"; }
        done
        note "${FAILURE:-FAILED: a command ended with code $code}" # again, below the logs
    fi
    "$LOCH" down --immediate --wipe >/dev/null 2>&1 || { kill_all; rm -rf "$(scratch)"; }
    [ -n "${LOCH_KEEP:-}" ] || rm -rf "$WORK"
    exit "$code"
}
trap cleanup EXIT

# Where this cluster keeps its computes' files (a name that cannot be empty or the root).
scratch() { sed -n 's/.*"scratch": "\(\/dev\/shm\/loch-[^"]*\)".*/\1/p' "$DIR/cluster.json" 2>/dev/null || echo /nonexistent; }

up() { "$LOCH" up --port-base "$PORT_BASE" >/dev/null || fail "loch up"; }

# As grep -q, at the end of a pipeline: that one ends at the first hit, and whoever still writes fails of it (pipefail).
sees() { grep "$@" >/dev/null; }

# field NAME KEY: of `loch compute list`, for the compute NAME.
field() {
    "$LOCH" compute list --json | python3 -c '
import json, sys
print(next(c[sys.argv[2]] for c in json.load(sys.stdin) if c["name"] == sys.argv[1]))' "$1" "$2"
}
url() { field "${1:-main}" url; }
q() { psql "$(url "${2:-main}")" -X -A -t -q -v ON_ERROR_STOP=1 -c "$1"; }

# json TEXT KEY
json() { python3 -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$1" "$2"; }

# The id of the tenant with that name.
tenant_of() {
    "$LOCH" tenant list --json | python3 -c '
import json, sys
print(next(t["tenant"] for t in json.load(sys.stdin) if t["name"] == sys.argv[1]))' "$1"
}

daemon_pid() { sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$DIR/run/$1.json"; }

# Every process of a compute: its agent, the postmaster and all of its children.
compute_pids() {
    local agent pgdata pm
    agent=$(daemon_pid "compute-$1")
    pgdata=$(field "$1" pgdata)
    pm=$(head -1 "$pgdata/postmaster.pid" 2>/dev/null || true)
    echo "$agent"
    [ -z "$pm" ] || { echo "$pm"; pgrep -P "$pm" || true; }
}

# kill -9 of all of them, and the data directory gone.
destroy_compute() {
    local pgdata pids
    pgdata=$(field "$1" pgdata)
    pids=$(compute_pids "$1")
    # shellcheck disable=SC2086
    kill -9 $pids 2>/dev/null || true
    wait_gone $pids
    [ -z "$pgdata" ] || rm -rf "$pgdata"
}

# A zombie does nothing any more; some containers' process 1 takes its time to reap.
dead() { ! kill -0 "$1" 2>/dev/null || grep -qs '^State:.Z' "/proc/$1/status"; }

wait_gone() {
    local pid until=$((SECONDS + 60))
    for pid in "$@"; do
        until dead "$pid" || [ "$SECONDS" -ge "$until" ]; do sleep 0.01; done
    done
}

kill_all() {
    local f pid
    for f in "$DIR"/run/*.json; do
        [ -f "$f" ] || continue
        pid=$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$f")
        [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    done
}

# wait_until SECONDS COMMAND...: until the command succeeds.
wait_until() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.05
    done
}

# What the machine itself takes: from watch_machine on somebody sleeps 50 ms and writes 4 KiB durably, again and again;
# pause_ms says how much longer than its sleep the longest of these rounds took. A bound in time that the product promises
# holds for a machine that runs: it is compared with what was measured less the pauses of the machine.
watch_machine() {
    [ -z "${WATCHER:-}" ] || { kill "$WATCHER" && wait "$WATCHER" || true; } # anew
    rm -f "$WORK/pause"
    python3 -c '
import os, sys, time
fd = os.open(sys.argv[1] + ".probe", os.O_CREAT | os.O_WRONLY, 0o600)
most = -1
while True:
    begun = time.monotonic()
    time.sleep(0.05)
    os.pwrite(fd, bytes(4096), 0)
    os.fdatasync(fd)
    took = max(0, int((time.monotonic() - begun) * 1000) - 50)
    if took > most:
        most = took
        with open(sys.argv[1] + ".new", "w") as f:
            print(most, file=f)
        os.rename(sys.argv[1] + ".new", sys.argv[1])' "$WORK/pause" &
    WATCHER=$!
    BACKGROUND+=("$WATCHER")
    wait_until 60 test -s "$WORK/pause" || fail "nobody watches the machine"
}
pause_ms() { sleep 0.1; cat "$WORK/pause"; } # a pause that has just ended is written down by then

lsn_number() { echo $(((16#${1%/*} << 32) + 16#${1#*/})); }
reached() { # LSN WANTED, where a page header may stand between the last record and the end of WAL
    local wanted
    wanted=$(lsn_number "$2")
    [ $((wanted % 8192)) -gt 40 ] || wanted=$((wanted - wanted % 8192))
    [ "$(lsn_number "$1")" -ge "$wanted" ]
}
has_ingested() { # LSN: the pageserver has all WAL of the branch main up to it
    reached "$("$LOCH" branch list --json | python3 -c '
import json, sys
print(next(b["last_record_lsn"] for b in json.load(sys.stdin) if b["name"] == "main"))')" "$1"
}
# Until the pageserver has what the compute has written so far.
caught_up() { wait_until 60 has_ingested "$(q 'SELECT pg_current_wal_insert_lsn()')" || fail "the pageserver does not catch up"; }

amcheck() {
    q "CREATE EXTENSION IF NOT EXISTS amcheck" "${1:-main}"
    local n
    n=$(q "SELECT count(bt_index_check(c.oid, true)) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
           WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't'" "${1:-main}")
    q "SELECT count(*) FROM pg_class c, LATERAL verify_heapam(c.oid) v
       WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'" "${1:-main}" | grep -qx 0 ||
        fail "verify_heapam found corruption"
    note "amcheck: $n B-tree indexes and every heap are clean"
}
