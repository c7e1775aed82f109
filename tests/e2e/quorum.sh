#!/usr/bin/env bash
# Two safekeepers down: commits hang and acknowledge nothing, a cancel neither; one back: they complete. A compute that
# cannot stop cleanly is stopped hard by `down`, which removes nothing under one that lives.
. "$(dirname "$0")/lib.sh"

up
"$LOCH" compute stop main
"$LOCH" compute start main --set max_prepared_transactions=10 >/dev/null || fail "compute start --set"
q "CREATE TABLE t (n int PRIMARY KEY)"
q "INSERT INTO t VALUES (1)"
q "BEGIN; INSERT INTO t VALUES (6); PREPARE TRANSACTION 'six'"
kill -9 "$(daemon_pid safekeeper-1)"
q "INSERT INTO t VALUES (2)" # one down: goes on
kill -9 "$(daemon_pid safekeeper-2)"
psql "$(url)" -X -q -c "INSERT INTO t VALUES (3)" >"$WORK/three" 2>&1 &
three=$!
psql "$(url)" -X -q -c "INSERT INTO t VALUES (4)" >"$WORK/four" 2>&1 &
four=$!
psql "$(url)" -X -q -c "BEGIN; INSERT INTO t VALUES (5); PREPARE TRANSACTION 'five'" >"$WORK/five" 2>&1 &
five=$!
psql "$(url)" -X -q -c "COMMIT PREPARED 'six'" >"$WORK/six" 2>&1 &
six=$!
BACKGROUND+=("$three" "$four" "$five" "$six")
waiting() { [ "$(q "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")" -ge 4 ]; }
wait_until 60 waiting || fail "the commits do not wait for the quorum"
q "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO t VALUES (4)%' AND pid <> pg_backend_pid()" >/dev/null
q "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE (query LIKE 'COMMIT PREPARED%' OR query LIKE 'BEGIN; INSERT INTO t VALUES (5)%') AND pid <> pg_backend_pid()" >/dev/null
q "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO t VALUES (3)%' AND pid <> pg_backend_pid()" >/dev/null
for _ in $(seq 60); do
    for pid in "$three" "$four" "$five" "$six"; do
        kill -0 "$pid" 2>/dev/null || fail "a commit came back without a quorum: $(cat "$WORK/three" "$WORK/four" "$WORK/five" "$WORK/six")"
    done
    sleep 0.05
done
[ "$(q "SELECT count(*) FROM t WHERE n >= 3")" = 0 ] || fail "an unacknowledged row is visible"
note "commits hang without a quorum, through cancel and terminate"
up
ended() { ! kill -0 "$three" 2>/dev/null && ! kill -0 "$four" 2>/dev/null && ! kill -0 "$five" 2>/dev/null && ! kill -0 "$six" 2>/dev/null; }
wait_until 60 ended || fail "the commits do not complete after the quorum is back"
wait "$four" || fail "the cancelled commit failed: $(cat "$WORK/four")"
[ ! -s "$WORK/four" ] || note "cancelled commit said: $(cat "$WORK/four")"
[ "$(q "SELECT string_agg(n::text, ',' ORDER BY n) FROM t WHERE n <= 4")" = 1,2,3,4 ] || fail "rows: $(q 'TABLE t')"
destroy_compute main
"$LOCH" compute start main >/dev/null || fail "compute start"
[ "$(q "SELECT count(*) FROM t WHERE n IN (1, 2, 3, 4, 6)")" = 5 ] || fail "rows lost"
q "COMMIT PREPARED 'five'"
[ "$(q "SELECT count(*) FROM t")" = 6 ] || fail "a prepared transaction was lost"

# One safekeeper alone has the newest WAL when all others die: whichever it is, they get it from there, not from
# each other.
timelines() { psql -h "$DIR/run" -p $((PORT_BASE + $1)) -X -A -d loch -c 'SHOW TIMELINES'; }
column=$(timelines 1 | head -1 | tr '|' '\n' | grep -nx flush_lsn | cut -d: -f1)
has_all() { reached "$(timelines "$1" | sed -n 2p | cut -d'|' -f"$column")" "$(q 'SELECT pg_current_wal_insert_lsn()')"; }
rows=6
from_donor=0
for donor in 1 2 3 1 2 3; do
    for n in 1 2 3; do [ "$n" = "$donor" ] || kill -9 "$(daemon_pid "safekeeper-$n")"; done
    q "SET synchronous_commit = off; INSERT INTO t SELECT max(n) + g FROM t, generate_series(1, 50) g GROUP BY g"
    wait_until 60 has_all "$donor" || fail "safekeeper $donor does not get the WAL"
    destroy_compute main
    begun=$(date +%s)
    up
    note "safekeeper $donor ahead: started within $(($(date +%s) - begun)) s"
    have=$(q "SELECT count(*) FROM t") # nobody was promised the new rows: the other two may have elected without them
    [ "$have" = "$rows" ] || [ "$have" = $((rows + 50)) ] || fail "rows: $have after $rows and 50 more"
    [ "$have" = "$rows" ] || from_donor=$((from_donor + 1))
    rows=$have
done
[ "$from_donor" -gt 0 ] || fail "the one with the newest WAL was never asked"

# A compute that nothing ends: what it uses, and what knows of it, stays.
agent=$(daemon_pid compute-main)
place=$(scratch)
pgdata=$(field main pgdata)
postmaster=$(head -1 "$pgdata/postmaster.pid") # it ends by itself, too, once its lease is over
kill -STOP "$agent"
"$LOCH" down --wipe --timeout 1 2>"$WORK/err" && fail "down goes on though a compute lives"
grep -q "compute main (pid $agent) is still there" "$WORK/err" || fail "down says: $(cat "$WORK/err")"
[ -d "$pgdata" ] && [ "$(daemon_pid compute-main)" = "$agent" ] && [ -e "$DIR/cmk.key" ] || fail "something was removed under a compute"
[ "$("$LOCH" status | grep -E 'safekeeper|pageserver' | grep -c ' up ')" = 4 ] || fail "not all daemons run on: $("$LOCH" status)"
kill -9 "$agent" # as down says
wait_gone "$agent" "$postmaster"
"$LOCH" compute start main >/dev/null || fail "compute start"
[ "$(q "SELECT count(*) FROM t")" = "$rows" ] || fail "rows after a hard stop"

# Without a quorum there is no clean stop: a hard one, and only then the files go.
agent=$(daemon_pid compute-main)
postmaster=$(head -1 "$(field main pgdata)/postmaster.pid")
stopped=$(daemon_pid safekeeper-1 && daemon_pid safekeeper-2)
# shellcheck disable=SC2086
kill -STOP $stopped
"$LOCH" down --timeout 1 2>"$WORK/err" &
down=$!
wait_gone "$agent"
# shellcheck disable=SC2086
kill -CONT $stopped # they are being stopped, too
wait "$down" || fail "down without a quorum: $(cat "$WORK/err")"
grep -q "it is stopped hard now" "$WORK/err" || fail "a clean stop without a quorum: $(cat "$WORK/err")"
dead "$agent" && dead "$postmaster" || fail "a compute lives on after down"
[ ! -e "$place" ] || fail "down left the scratch"
up
[ "$(q "SELECT count(*) FROM t")" = "$rows" ] || fail "rows after down without a quorum"
note "passed"
