#!/usr/bin/env bash
# Memory for what is not written yet has one bound over all timelines: several branches, each with far less WAL than fills
# an open layer, together with far more than the bound; the largest open layers are written early, and WAL waits at the
# bound. Nothing is lost by that, also when the pageserver is killed in the middle. And what is little is written in time.
. "$(dirname "$0")/lib.sh"
BRANCHES=5
BOUND=$((8 << 20))

export LOCH_PAGESERVER_MEMORY_LAYERS=8MiB LOCH_PAGESERVER_OPEN_LAYER=64MiB LOCH_PAGESERVER_CHECKPOINT=1h
up
metrics=$(sed -n 's/^metrics = //p' "$DIR/conf/pageserver.ini")
metric() { curl -s "http://$metrics/metrics" | awk -v n="loch_pageserver_$1" '$1 == n {print $2}'; }
q "CREATE TABLE t (n int, pad text)"
names=(main)
for i in $(seq $BRANCHES); do
    "$LOCH" branch create "b$i" >/dev/null || fail "branch b$i"
    "$LOCH" compute start "b$i" --branch "b$i" >/dev/null || fail "compute b$i"
    names+=("b$i")
done

# Text that does not compress; about 6 MiB of WAL each.
fill() { q "INSERT INTO t SELECT g, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 60 + 0 * g)) FROM generate_series(1, 3000) g" "$1"; }
watch() { # the highest that is seen
    local most=0 now
    while [ ! -e "$WORK/written" ]; do
        now=$(metric memory_layer_bytes)
        [ "${now:-0}" -le "$most" ] || { most=$now; echo "$most" >"$WORK/most"; }
        sleep 0.02
    done
}
taken_in() { local now; now=$(metric memory_layer_bytes); [ -n "$now" ] && [ "$now" != "$at_rest" ]; }
round() {
    local name pids=()
    rm -f "$WORK/written" "$WORK/most"
    at_rest=$(metric memory_layer_bytes)
    watch &
    BACKGROUND+=($!)
    local watcher=$!
    for name in "${names[@]}"; do
        fill "$name" &
        pids+=($!)
    done
    if [ -n "${1:-}" ]; then # in the middle: some of this round's WAL is in memory
        wait_until 60 taken_in || fail "nothing of the round is ingested"
        kill -9 "$(daemon_pid pageserver)"
        "$LOCH" up >/dev/null || fail "up again"
    fi
    for name in "${pids[@]}"; do wait "$name" || fail "an INSERT"; done
    caught_up
    touch "$WORK/written"
    wait "$watcher" || true
}
all_ingested() {
    local name at
    for name in "${names[@]}"; do
        at=$(q 'SELECT pg_current_wal_insert_lsn()' "$name")
        reached "$("$LOCH" branch show "$name" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["last_record_lsn"])')" "$at" || return 1
    done
}
round
wait_until 60 all_ingested || fail "WAL is not ingested"
# One piece of WAL of each timeline may be on its way when the bound is reached.
most=$(cat "$WORK/most")
note "memory for layers: at most $most of $BOUND; $(metric early_flushes_total) written early, WAL waited $(metric memory_pauses_total) times"
[ "$most" -le $((BOUND * 3 / 2)) ] || fail "$most bytes in memory instead of $BOUND"
[ "$most" -ge $((BOUND / 2)) ] || fail "the test did not come near the bound"
[ "$(metric early_flushes_total)" -ge 3 ] || fail "nothing was written early"
rested() { [ "$(metric memory_layer_bytes)" -le $((BOUND * 3 / 4)) ]; }
wait_until 60 rested || fail "$(metric memory_layer_bytes) bytes stay in memory"

round killed
wait_until 60 all_ingested || fail "WAL is not ingested after a kill"
for name in "${names[@]}"; do
    destroy_compute "$name"
    "$LOCH" compute start "$name" >/dev/null || fail "rebirth of $name"
    [ "$(q 'SELECT count(*), count(DISTINCT n), min(length(pad)) FROM t' "$name")" = "6000|3000|1920" ] || fail "rows of $name: $(q 'SELECT count(*), count(DISTINCT n), min(length(pad)) FROM t' "$name")"
done
amcheck

# What is little is written after pageserver.checkpoint.
export LOCH_PAGESERVER_CHECKPOINT=1s
kill -9 "$(daemon_pid pageserver)"
"$LOCH" up >/dev/null || fail "up with a short checkpoint"
empty() { [ "$(metric memory_layer_bytes)" = 0 ]; }
wait_until 60 all_ingested || fail "WAL is not ingested after a start" # before that nothing is in memory, either
wait_until 60 empty || fail "$(metric memory_layer_bytes) bytes of before the kill are still in memory only"
early=$(metric early_flushes_total) # what comes again after a kill may pass the bound
q "INSERT INTO t VALUES (-1, 'late')"
caught_up
wait_until 30 empty || fail "$(metric memory_layer_bytes) bytes are still in memory only"
[ "$(metric early_flushes_total)" = "$early" ] || fail "written early without need"
note "passed"
