#!/usr/bin/env bash
# A redo worker that hangs holds up its tenant's pages, and nobody else: with more connections of the tenant waiting for it
# than the pageserver has pool threads, another tenant's reads and ingest go on. When the worker has been replaced, all who
# waited get what is right.
. "$(dirname "$0")/lib.sh"
READERS=12
export LOCH_PAGESERVER_REDO_WORKERS=1
SETTINGS=loch.cache_size=0,loch.prewarm=off

cold() { # COMPUTE: the same again, with nothing of its pages here
    destroy_compute "$1"
    "$LOCH" compute start "$1" ${2:+--tenant "$2"} --set "$SETTINGS" >/dev/null || fail "compute start $1"
}
# A GIN index is what native redo leaves to a worker.
ask() { psql "$MAIN" -XAtq -v ON_ERROR_STOP=1 -c "SET enable_seqscan = off" -c "SELECT count(*) FROM g$1 WHERE v @> array[1]"; }
workers() { pgrep -P "$(daemon_pid pageserver)" -x postgres || true; }
ours() { timeout 60 psql "$OURS" -XAtq -v ON_ERROR_STOP=1 -c "$1"; }
ours_ingested() { # LSN
    local at
    at=$(curl -s "http://$metrics/metrics" | awk -v n="loch_pageserver_last_record_lsn{tenant=\"$tenant\"" 'index($0, n) == 1 {print $2}')
    reached "$(printf '%X/%08X' $((at >> 32)) $((at & 0xFFFFFFFF)))" "$1"
}
# One that takes the place of one that was killed hangs too, while the other tenant is looked at.
hang() { while [ ! -e "$WORK/seen" ]; do kill -STOP $(workers) 2>/dev/null || true; sleep 0.1; done; }

up
"$LOCH" tenant create ours >/dev/null || fail "tenant create"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "compute start ours"
q "CREATE TABLE t AS SELECT g a, repeat('x', 200) b FROM generate_series(1, 5000) g" ours
for i in $(seq 0 $READERS); do # an index of each reader's own: who wants the same page waits in the server
    printf 'CREATE TABLE g%s (v int[]); CREATE INDEX ON g%s USING gin(v) WITH (fastupdate = off);\n' "$i" "$i"
    printf 'INSERT INTO g%s SELECT array[1, n] FROM generate_series(1, 70) n;\n' "$i"
done | psql "$(url main)" -Xq -v ON_ERROR_STOP=1
caught_up
cold main
cold ours ours
MAIN=$(url main)
OURS=$(url ours)
postmaster=$(head -1 "$(field main pgdata)/postmaster.pid")
tenant=$(tenant_of ours)
metrics=$(sed -n 's/^metrics = //p' "$DIR/conf/pageserver.ini")

[ "$(ask 0)" = 70 ] || fail "a GIN index answers otherwise"
[ "$(workers | wc -l)" = 1 ] || fail "redo workers: $(workers | xargs), not one"
stopped=$(workers)
began=$(date +%s%N)
hang &
BACKGROUND+=($!)
hanging=$!
is_stopped() { grep -qs '^State:.T' "/proc/$stopped/status"; }
wait_until 5 is_stopped || fail "the worker does not stop"
pids=()
for i in $(seq $READERS); do
    ask "$i" >"$WORK/answer.$i" 2>&1 &
    pids+=($!)
done
# A new session would need pages of its own to be asked.
waiting() { pgrep -c -P "$postmaster" -f ' SELECT$' || true; }
enough_wait() { [ "$(waiting)" -ge 8 ]; } # the pageserver's pool threads
wait_until 9 enough_wait || fail "of $READERS readers $(waiting) wait"

[ "$(ours "SELECT count(*), sum(length(b)) FROM t")" = "5000|1000000" ] || fail "the other tenant's rows"
ours "INSERT INTO t SELECT g, repeat('y', 200) FROM generate_series(1, 5000) g"
wait_until 15 ours_ingested "$(ours 'SELECT pg_current_wal_insert_lsn()')" || fail "the other tenant's WAL is not ingested"
for i in "${pids[@]}"; do kill -0 "$i" 2>/dev/null || fail "the other tenant had to wait for the readers of the first: $(tail -n 2 "$WORK"/answer.*)"; done
took=$((($(date +%s%N) - began) / 1000000))
note "with a worker that hangs and $READERS readers waiting for it, another tenant reads, and its WAL is ingested: $took ms"

touch "$WORK/seen"
wait "$hanging" || true
for i in "${pids[@]}"; do wait "$i" || fail "a reader: $(tail -n 2 "$WORK"/answer.*)"; done
[ "$(cat "$WORK"/answer.* | sort | uniq -c | xargs)" = "$READERS 70" ] || fail "answers: $(cat "$WORK"/answer.*)"
dead "$stopped" || fail "the worker that hung is still there"
note "passed"
