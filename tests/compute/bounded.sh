#!/usr/bin/env bash
# Without a quorum, whoever writes is slowed: autovacuum too, until it is cancelled; and with a loch.max_lag beyond
# max_slot_wal_keep_size as well, where too much WAL would cost the server its only way to the quorum. And the lag is looked at
# while the list of free space is made, and nobody is asked to come by more often than that.
. "$(dirname "$0")/../e2e/lib.sh"

up
start() { # SETTINGS
    "$LOCH" compute stop main >/dev/null || fail "compute stop"
    "$LOCH" compute start main --set "$1" >/dev/null || fail "compute start"
    URL=$(url)
}
sql() { timeout 80 psql "$URL" -X -A -t -q -v ON_ERROR_STOP=1 "$@"; }
quorum=("$(daemon_pid safekeeper-1)" "$(daemon_pid safekeeper-2)")
let_go() { kill -CONT "${quorum[@]}" 2>/dev/null || true; }
trap 'code=$?; set +e; let_go; (exit "$code"); cleanup' EXIT
stop_quorum() {
    caught_up
    kill -STOP "${quorum[@]}"
}
count() { sql -c "select value from loch.stats where name = 'throttled'"; }
slowed() { [ "$(count)" -gt 0 ]; }

start autovacuum_naptime=1,autovacuum_vacuum_cost_delay=0,shared_buffers=256MB
sql -c "create table worn (a int primary key) with (autovacuum_enabled = off)" \
    -c "insert into worn select g from generate_series(1, 1500000) g" -c "delete from worn" \
    -c "alter system set loch.max_lag = '1MB'" -c "select pg_reload_conf()" >/dev/null
worker() { sql -c "select pid from pg_stat_activity where backend_type = 'autovacuum worker' and query ~ 'worn'"; }
stop_quorum
before=$(count)
sql -c "set synchronous_commit = off" -c "alter table worn set (autovacuum_enabled = on)"
waits() { [ "$(count)" -gt "$before" ] && [ -n "$(worker)" ]; }
wait_until 60 waits || fail "autovacuum is not slowed: $(sql -c 'table loch.lag')"
stopped() { [ "$(sql -c "select ingest_lag_bytes >= 1 << 20 from loch.lag")" = t ] && [ -n "$(worker)" ]; }
wait_until 60 stopped || fail "autovacuum does not come to the limit: $(sql -c 'table loch.lag')"
pid=$(worker)
sql -c "select pg_cancel_backend($pid)" >/dev/null
gone() { [ "$(worker)" != "$pid" ]; }
wait_until 30 gone || fail "a cancelled autovacuum goes on waiting"
let_go
sql -c "alter system reset loch.max_lag" -c "select pg_reload_conf()" >/dev/null
note "ok   autovacuum is slowed, and ends when it is cancelled"

start autovacuum=off,loch.max_lag=4GB,max_slot_wal_keep_size=64MB
sql -c "create table much (a int, t text)"
stop_quorum
psql "$URL" -X -q -v ON_ERROR_STOP=1 -c "insert into much select g, repeat('m', 1000) from generate_series(1, 120000) g" >"$WORK/writer" 2>&1 &
writer=$!
BACKGROUND+=("$writer")
wait_until 60 slowed || fail "nobody is slowed: $(sql -c 'table loch.lag')"
sql -c checkpoint
[ "$(sql -c "select count(*) from pg_replication_slots where wal_status <> 'lost'")" = 1 ] ||
    fail "the slot is gone: $(sql -c 'table pg_replication_slots')"
let_go
wait "$writer" || fail "the writer: $(cat "$WORK/writer")"
[ "$(sql -c "select count(*) from much")" = 120000 ] || fail "rows"
note "ok   writers are slowed before the slot is lost"

# Thirty seconds at least, for a hundred relations that nobody has used since the start.
sql <<'Q'
select format('create table u%s as select %s a', g, g) from generate_series(1, 100) g \gexec
select format('vacuum u%s', g) from generate_series(1, 100) g \gexec
Q
sql -f "$ROOT/tests/compute/functions.sql"
start autovacuum=off,loch.prewarm_interval=1,loch.test_slow_listing=300,loch.max_lag=1MB
old() { [ "$(sql -c "select now() > pg_postmaster_start_time() + '4 s'")" = t ]; }
wait_until 60 old
seen=$(sql -c "select pageserver_answered_at from loch.lag")
looked_at() { [ "$(sql -c "select pageserver_answered_at > '$seen'::timestamptz + '1 s' from loch.lag")" = t ]; }
wait_until 20 looked_at || fail "while the list is made nobody looks at the lag: $(sql -c 'table loch.lag')"
[ "$(sql -c "select value from loch.stats where name = 'free_space_saved'")" = 0 ] || fail "the list was made too soon"
note "ok   the lag is looked at while the list of free space is made"

sql -c "select t.throttle_rounds()" >/dev/null
stop_quorum
psql "$URL" -X -q -c "set synchronous_commit = off" -c "insert into much select g, repeat('m', 1000) from generate_series(1, 2000000) g" >/dev/null 2>&1 &
BACKGROUND+=("$!")
wait_until 60 slowed || fail "nobody is slowed: $(sql -c 'table loch.lag')"
rounds=$(sql <<'Q'
select t.throttle_rounds() as before, clock_timestamp() as began \gset
select pg_sleep(2) \g /dev/null
select t.throttle_rounds() - :before <= extract(epoch from clock_timestamp() - :'began') * 20 + 2, t.throttle_rounds() - :before;
Q
)
[ "$(sql -c "select value from loch.stats where name = 'free_space_saved'")" = 0 ] || fail "the list was made too soon"
let_go
[ "${rounds%|*}" = t ] || fail "${rounds#*|} rounds within two seconds"
note "ok   ${rounds#*|} rounds within two seconds"
note "passed"
