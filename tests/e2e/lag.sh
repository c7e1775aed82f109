#!/usr/bin/env bash
# A safekeeper that was away for longer than the compute's memory reaches recovers from its peers and counts
# again; one that hangs holds nobody up; the agent's death takes its server along; stops work at any time.
. "$(dirname "$0")/lib.sh"

up
"$LOCH" compute stop main
"$LOCH" compute start main --set autovacuum=off >/dev/null || fail "compute start"
q "CREATE TABLE t (n int, b text)"
kill -9 "$(daemon_pid safekeeper-1)"
q "INSERT INTO t SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 100000) g" # above 64 MiB of WAL
wal=$(q "SELECT pg_size_pretty(pg_current_wal_lsn() - '0/1500000'::pg_lsn)")
up
recovers() { grep -q 'recovering WAL' "$DIR/log/safekeeper-1.log" && q "SELECT 1" >/dev/null; }
wait_until 60 recovers || fail "safekeeper 1 does not recover from its peers"
note "safekeeper 1 recovers $wal of WAL from its peers"
kill -9 "$(daemon_pid safekeeper-2)"
begun=$(date +%s)
timeout 120 psql "$(url)" -X -q -v ON_ERROR_STOP=1 -c "INSERT INTO t VALUES (0, 'one and three')" || # once 1 has it all
    fail "no commit with safekeepers 1 and 3"
note "safekeepers 1 and 3 are a quorum after $(($(date +%s) - begun)) s"
up
streaming() { [ "$(q "SELECT count(*) FROM loch.safekeepers WHERE state = 'streaming'")" = 3 ]; }
wait_until 60 streaming || fail "not all three stream again: $(q "SELECT * FROM loch.safekeepers")"

stopped=$(daemon_pid safekeeper-3)
kill -STOP "$stopped"
begun=$(date +%s)
timeout 30 psql "$(url)" -X -q -v ON_ERROR_STOP=1 -c "INSERT INTO t VALUES (0, 'three hangs')" ||
    { kill -CONT "$stopped"; fail "a safekeeper that hangs holds up commits"; }
kill -CONT "$stopped"
note "a hanging safekeeper held nobody up ($(($(date +%s) - begun)) s)"

postmaster=$(head -1 "$(field main pgdata)/postmaster.pid")
kill -9 "$(daemon_pid compute-main)"
wait_gone "$postmaster"
dead "$postmaster" || fail "the server outlives its agent"
up
postmaster=$(head -1 "$(field main pgdata)/postmaster.pid")
kill -9 "$postmaster"
answers() { [ "$(q "SELECT count(*) FROM t WHERE n = 0" 2>/dev/null)" = 2 ]; }
wait_until 60 answers || fail "the agent does not start a crashed server again"
note "a crashed agent and a crashed server are started again"

kill -9 "$(daemon_pid safekeeper-2)" "$(daemon_pid safekeeper-3)"
"$LOCH" compute stop main --immediate >/dev/null || fail "compute stop --immediate without a quorum"
"$LOCH" compute start main >/dev/null 2>&1 &
start=$!
waiting() { grep -q 'waiting for a quorum of safekeepers: safekeeper 2' "$DIR/log/compute-main.log"; }
wait_until 60 waiting || fail "the log does not say what the compute waits for"
"$LOCH" compute stop main >/dev/null || fail "compute stop during an election"
wait "$start" || true
up
"$LOCH" compute start main >/dev/null || fail "compute start"
[ "$(q "SELECT count(*) FROM t")" = 100002 ] || fail "rows: $(q 'SELECT count(*) FROM t')"
note "passed"
