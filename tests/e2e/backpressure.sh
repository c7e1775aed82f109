#!/usr/bin/env bash
# A bulk load while there is no quorum is slowed, not failed: the WAL kept on the scratch stays bounded, none
# of it is removed before it was sent, and the load completes when the quorum is back.
. "$(dirname "$0")/lib.sh"

up
"$LOCH" compute stop main
"$LOCH" compute start main --set loch.max_lag=128MB >/dev/null || fail "compute start"
q "CREATE TABLE t (n int, b text)"
wal=$(field main pgdata)/pg_wal
kill -9 "$(daemon_pid safekeeper-1)" "$(daemon_pid safekeeper-2)"
psql "$(url)" -X -q -v ON_ERROR_STOP=1 -c \
    "INSERT INTO t SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 450000) g" >"$WORK/load" 2>&1 &
load=$!
BACKGROUND+=("$load")
kept() { { du -sm "$wal" 2>/dev/null || true; } | cut -f1; } # a file may be renamed meanwhile
slowed() { [ "$(kept)" -ge 128 ]; }
wait_until 60 slowed || fail "the load does not get that far"
sleep 5
before=$(kept)
sleep 4
after=$(kept)
kill -0 "$load" || fail "the load ended without a quorum: $(cat "$WORK/load")"
[ "$after" -le 320 ] || fail "$after MiB of WAL on the scratch"
[ $((after - before)) -le 40 ] || fail "it still grows by $((after - before)) MiB in 4 s"
note "slowed at $after MiB of WAL on the scratch"
up
ended() { ! kill -0 "$load" 2>/dev/null; }
wait_until 240 ended || fail "the load does not go on after the quorum is back"
wait "$load" || fail "the load failed: $(cat "$WORK/load")"
[ "$(q "SELECT count(*) FROM t")" = 450000 ] || fail "rows: $(q 'SELECT count(*) FROM t')"
[ "$(grep -c 'running: port' "$DIR/log/compute-main.log")" = 2 ] || fail "the compute was started again"
note "passed"
