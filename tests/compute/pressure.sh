#!/usr/bin/env bash
# Writers under pressure and what users see of it: the views of schema loch; a pageserver that stands still, then a quorum
# that is missing, while pgbench writes: no error, a bounded lag, waits that show, name their cause and can be cancelled.
# usage: pressure.sh [SECONDS=6]: how long the pageserver stands still
. "$(dirname "$0")/../e2e/lib.sh"
still=${1:-6}
LIMIT_MB=32

URL=
sql() { timeout 200 psql "$URL" -X -A -t -q -v ON_ERROR_STOP=1 "$@" | grep -v '^$' || true; }
is() { [ "$2" = "$3" ] && note "ok   $1: $2" || fail "$1: $2 instead of $3"; }
lag_mb() { ask "select ingest_lag_bytes >> 20 from loch.lag"; }

# One session that is asked while the pageserver stands still: a new one would need pages of the catalog to begin with.
begin_asking() {
    coproc ASKED { exec psql "$URL" -X -A -t -q 2>&1; }
    exec 8<&"${ASKED[0]}" 9>&"${ASKED[1]}"
    ask "set synchronous_commit = off"
}
ask() { # QUERY: its lines; 1 when they do not come within a minute
    local line
    printf '%s;\n\\echo that was it\n' "$1" >&9
    while read -r -t 60 -u 8 line; do
        [ "$line" != "that was it" ] || return 0
        echo "$line"
    done
    return 1
}

up
"$LOCH" compute stop main >/dev/null
"$LOCH" compute start main --set shared_buffers=64MB,autovacuum=off,loch.max_lag=${LIMIT_MB}MB >/dev/null || fail "compute start"
URL=$(url)
log=$(field main pgdata)/../postgres.log
sql >/dev/null <<'Q'
create table w(id bigint generated always as identity, b text);
create role someone;
Q

# Everybody may look; the numbers are alive.
for view in stats backend_stats cache lag safekeepers connections prefetch kept_pages; do
    sql -c "set role someone" -c "select count(*) from loch.$view" >"$WORK/count"
    [ "$(cat "$WORK/count")" -ge 1 ] || fail "loch.$view has no rows"
done
three() { [ "$(sql -c "select string_agg(number || state, ' ' order by number) from loch.safekeepers")" = "1streaming 2streaming 3streaming" ]; }
wait_until 60 three || fail "the safekeepers: $(sql -c 'table loch.safekeepers')"
caught_up() { [ "$(sql -c "select ingest_lag_bytes = 0 and commit_lag_bytes = 0 and writers_wait_us = 0 and pageserver_answered_at > now() - interval '5 s' from loch.lag")" = t ]; }
wait_until 60 caught_up || fail "the lag: $(sql -c 'table loch.lag')"
is "last-written LSNs" "$(sql -c "insert into w(b) values ('x')" -c checkpoint -c "select loch.last_written_lsn('w') > loch.last_written_lsn('w', 4000)")" t
sql -c "select count(*) from pg_attribute" -c "select count(*) from pg_depend" -c "select pages_read > 0 and average_read_us > 0 and longest_read_us >= last_read_us from loch.connections where pid = pg_backend_pid()" | tail -n 1 >"$WORK/own"
is "one's own connection" "$(cat "$WORK/own")" t

# A transaction that writes here and, by postgres_fdw, in a stock server.
both_session() {
    local as=()
    [ "$(id -u)" != 0 ] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    mkdir -m 0777 "$WORK/stock"
    "${as[@]}" /usr/lib/postgresql/15/bin/initdb -D "$WORK/stock/d" -U postgres -A trust -N >/dev/null
    "${as[@]}" /usr/lib/postgresql/15/bin/pg_ctl -D "$WORK/stock/d" -w -l "$WORK/stock/log" \
        -o "-p $((PORT_BASE + 120)) -k $WORK/stock -c listen_addresses='' -c fsync=off" start >/dev/null || fail "the stock server"
    BACKGROUND+=("$(head -1 "$WORK/stock/d/postmaster.pid")")
    there -c "create table there(a int)"
    sql -v stock="$WORK/stock" -v port="$((PORT_BASE + 120))" >/dev/null <<'Q'
create extension postgres_fdw;
create server stock foreign data wrapper postgres_fdw options (host :'stock', port :'port', dbname 'postgres');
create user mapping for public server stock options (user 'postgres');
create foreign table there(a int) server stock;
create table here(a int);
Q
    mkfifo "$WORK/both"
    psql "$URL" -XAtq <"$WORK/both" >"$WORK/both.out" 2>&1 &
    BACKGROUND+=("$!")
    exec 7>"$WORK/both"
    echo "set application_name = 'both'; set synchronous_commit = off;" >&7
}
there() { psql -h "$WORK/stock" -p "$((PORT_BASE + 120))" -U postgres -d postgres -XAtq "$@"; }
write_both() { echo "begin; insert into here values ($1); insert into there values ($1); commit; \\! echo $1 >>'$WORK/both.done'" >&7; }
wrote_both() { grep -qsx "$1" "$WORK/both.done"; }
both_waits() { [ "$(ask "select count(*) from pg_stat_get_activity(null) where application_name = 'both' and wait_event_type = 'Extension'")" = 1 ]; }

stopped() { [ "$(ask "select writers_slowed and ingest_lag_bytes >= $LIMIT_MB << 20 from loch.lag")" = t ]; }
# (pg_stat_activity without its joins: they would read the catalog.)
waiting() { [ "$(ask "select count(*) > 0 from pg_stat_get_activity(null) where backend_type = 'client backend' and wait_event_type = 'Extension'")" = t ]; }
within() { [ "$(ask "select ingest_lag_bytes < $LIMIT_MB << 20 and pageserver_answered_at > now() - interval '3 s' from loch.lag")" = t ]; }
over() { grep -q 'writers are no longer slowed' "$log"; }
why() { ask "select why from loch.lag"; }
look() { lag_mb; stopped || true; why; waiting || true; over || true; within || true; } >/dev/null # its plans come in

# The pageserver stands still while three clients write.
cat >"$WORK/write.sql" <<'Q'
set synchronous_commit = off;
insert into w(b) select repeat(md5(g::text), 30) from generate_series(1, 300) g;
Q
writing() { # runs pgbench in the background
    pgbench -n -c 3 -T 3600 -P 1 -f "$WORK/write.sql" "$URL" >"$WORK/pgbench.log" 2>&1 &
    load=$!
    BACKGROUND+=("$load")
}
moved() { [ "$(grep -c '^progress' "$WORK/pgbench.log")" -ge "$1" ]; }
rate() { sed -n 's/^progress: .*, \([0-9.]*\) tps.*/\1/p' "$WORK/pgbench.log" | tail -n 1 | cut -d. -f1; }
writing
wait_until 60 moved 2 || fail "pgbench does not begin"
before=$(rate)
begin_asking
look
both_session
write_both 1
wait_until 60 wrote_both 1 || fail "no transaction on both sides: $(cat "$WORK/both.out")"
both_waits || true # its plan
both=$(sql -c "select pid from pg_stat_activity where application_name = 'both'")
pageserver=$(daemon_pid pageserver)
kill -STOP "$pageserver"
trap 'code=$?; set +e; kill -CONT "$pageserver" 2>/dev/null; (exit "$code"); cleanup' EXIT
wait_until 60 stopped || fail "the writers are not slowed: $(ask 'table loch.lag')"
highest=0
until=$((SECONDS + still))
while [ "$SECONDS" -lt "$until" ]; do
    now=$(lag_mb)
    [ "${now:-0}" -le "$highest" ] || highest=$now
    sleep 0.3
done
[ "$highest" -le $((LIMIT_MB * 2)) ] || fail "the lag grew to $highest MB with a limit of $LIMIT_MB MB"
note "ok   the pageserver stood still for $still s; the lag stayed at $highest MB"
does_not_answer() { why | grep -q 'the pageserver at .* does not answer'; }
wait_until 30 does_not_answer || fail "loch.lag does not say why: $(why)"
wait_until 30 waiting || fail "no wait shows in pg_stat_activity"
begun=$(date +%s%N)
ask "set statement_timeout = 1500; insert into w(b) select repeat(md5(g::text), 30) from generate_series(1, 3000000) g" >"$WORK/cancelled" ||
    fail "a waiting writer is not cancelled"
took=$((($(date +%s%N) - begun) / 1000000))
grep -q 'statement timeout' "$WORK/cancelled" || fail "not a timeout: $(cat "$WORK/cancelled")"
[ "$took" -le 10000 ] || fail "a timeout of 1.5 s ended a waiting writer after $took ms"
note "ok   a waiting writer's statement_timeout of 1500 ms came after $took ms"
ask "reset statement_timeout"

# Who is slowed can be cancelled before anything is decided: never when others have committed elsewhere.
write_both 2
wait_until 30 both_waits || fail "a transaction on both sides is not slowed: $(cat "$WORK/both.out")"
kill -INT "$both" # as pg_cancel_backend does, whose catalog entry would have to be read
wait_until 30 wrote_both 2 || fail "a transaction on both sides is not cancelled: $(cat "$WORK/both.out")"
grep -q 'canceling statement due to user request' "$WORK/both.out" || fail "not a cancel: $(cat "$WORK/both.out")"
kill -CONT "$pageserver"
wait_until 60 within || fail "the lag is $(lag_mb) MB when the pageserver is back"
goes_on() { [ "$(rate)" -ge $((before / 4)) ]; }
wait_until 60 goes_on || fail "throughput does not recover: $(rate) of $before transactions a second"
note "ok   $before transactions a second before, $(rate) after"
is "a cancelled transaction on both sides" "$(sql -c "select count(*) from here where a = 2")" "$(there -c "select count(*) from there where a = 2")"
exec 7>&-
kill -0 "$load" || fail "pgbench ended: $(tail -3 "$WORK/pgbench.log")"

# No quorum: the same, with another cause.
keepers=("$(daemon_pid safekeeper-2)" "$(daemon_pid safekeeper-3)")
kill -9 "${keepers[@]}"
named() { grep -q 'writers wait: no WAL reaches the pageserver: safekeeper 2 at .* unreachable since .*; safekeeper 3 at' "$log"; }
wait_until 60 named || fail "the log does not name the cause"
missing() { [ "$(sql -c "select string_agg(number || ' ' || state, ', ' order by number) from loch.safekeepers where state <> 'streaming'")" = "2 unreachable, 3 unreachable" ]; }
wait_until 30 missing || fail "who is missing: $(sql -c 'table loch.safekeepers')"
up
wait_until 60 three || fail "the safekeepers do not come back"
wait_until 60 within || fail "the lag is $(lag_mb) MB when the quorum is back"
kill "$load"
wait "$load" || true
grep -E 'ERROR|FATAL|aborted' "$WORK/pgbench.log" | head -3 | grep . && fail "writers saw errors"
wait_until 60 over || fail "the log does not say that it is over"
wait_until 60 caught_up || fail "the pageserver does not catch up"
sql -F ' ' -c "select name, value from loch.stats where name ~ 'throttled'"
note "passed"
