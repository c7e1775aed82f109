#!/usr/bin/env bash
# Warm starts: what was hot when a compute stopped, or at the last list before it died, is in the next one's cache without
# anybody asking; under writes, over dropped, truncated and unlogged relations, sequences and a cancel, no page is stale.
. "$(dirname "$0")/../e2e/lib.sh"

URL=
sql() { timeout 200 psql "$URL" -X -A -t -q -v ON_ERROR_STOP=1 "$@" | grep -v '^$' || true; }
is() { [ "$2" = "$3" ] && note "ok   $1: $2" || fail "$1: $2 instead of $3"; }
stat_of() { sql -c "select value from loch.stats where name = '$1'"; }
start() { # SETTINGS
    "$LOCH" compute start main --set "shared_buffers=8MB,autovacuum=off,max_prepared_transactions=4$1" >/dev/null || fail "compute start"
    URL=$(url)
}
over() { [ "$(sql -c "select count(*) from pg_stat_activity where backend_type = 'loch prewarm'")" = 0 ]; }
begun() { [ "$(stat_of prewarm_listed)" -gt 0 ]; }
warm() {
    wait_until 60 begun || fail "prewarming does not begin"
    wait_until 60 over || fail "prewarming does not end"
    is "every page listed is accounted for" "$(sql -c "select sum(case name when 'prewarm_listed' then value when 'prewarm_loaded' then -value when 'prewarm_left_out' then -value else 0 end) from loch.stats")" 0
}
scan_is_warm() { # NAME: the sum, and few pages from the pageserver
    local before after
    before=$(stat_of read_remote)
    is "$1" "$(sql -c "select sum(v), count(*) from hot")" "2000000|20000"
    after=$(stat_of read_remote)
    [ $((after - before)) -lt 100 ] || fail "$1: $((after - before)) pages came from the pageserver"
    note "ok   $1: $((after - before)) pages came from the pageserver"
}

up
"$LOCH" compute stop main >/dev/null
start ""
sql >/dev/null <<'Q'
create table hot(id int primary key, v int, pad text);
insert into hot select g, 100, repeat('h', 300) from generate_series(1, 20000) g;
create table gone as select g, repeat('g', 500) t from generate_series(1, 2000) g;
create table cut as select g, repeat('c', 500) t from generate_series(1, 2000) g;
create table turned as select g, repeat('t', 500) t from generate_series(1, 2000) g;
create sequence sq;
select nextval('sq') from generate_series(1, 5);
vacuum hot;
checkpoint;
select sum(length(pad)) from hot;
select sum(length(t)) from gone;
Q
"$LOCH" compute stop main >/dev/null
start ""
warm
[ "$(stat_of prewarm_loaded)" -gt 900 ] || fail "only $(stat_of prewarm_loaded) pages were brought in"
scan_is_warm "after a stop"

# Stopped in the middle of it: half of what was hot does not take the place of the whole.
for round in 1 2 3; do
    "$LOCH" compute stop main >/dev/null
    start ""
done
warm
[ "$(stat_of prewarm_listed)" -gt 900 ] || fail "after three short lives only $(stat_of prewarm_listed) pages are listed"

# A prewarmed index page is the first of its relation that anybody touches, and is written.
"$LOCH" compute stop main >/dev/null
start ""
warm
is "a prewarmed page is written" "$(sql -c "insert into hot values (20001, 0, 'x')" -c checkpoint -c "delete from hot where id = 20001 returning v")" 0

# What the list names may be gone, shorter or something else by then.
sql -c "select sum(length(t)) from cut" -c "select sum(length(t)) from turned" -c "select last_value from sq" >/dev/null
"$LOCH" compute stop main >/dev/null
start ",loch.prewarm=off"
is "nothing is brought in when off" "$(stat_of prewarm_loaded)" 0
sql -c "drop table gone" -c "truncate cut" -c "alter table turned set unlogged" -c "insert into cut select 7, repeat('n', 400) from generate_series(1, 100)" >/dev/null
"$LOCH" compute stop main >/dev/null
start ""
cat >"$WORK/move.sql" <<'Q'
\set x random(1, 20000)
\set y random(1, 20000)
begin;
update hot set v = v - 1 where id = least(:x, :y);
update hot set v = v + 1 where id = greatest(:x, :y);
select nextval('sq');
commit;
Q
pgbench -n -c 2 -t 300 -f "$WORK/move.sql" "$URL" >"$WORK/pgbench.log" 2>&1 || fail "pgbench: $(tail -3 "$WORK/pgbench.log")"
warm
is "under writes" "$(sql -c "select sum(v), count(*) from hot")" "2000000|20000"
is "truncated and turned unlogged" "$(sql -c "select (select count(*) || ' ' || min(g) from cut), (select count(*) from turned)")" "100 7|2000"
is "a sequence does not go back" "$(sql -c "select nextval('sq') >= 606")" t

# A crash: the list made at intervals.
sql -c "alter system set loch.prewarm_interval = '1s'" -c "select pg_reload_conf()" >/dev/null
sql -c "select sum(v) from hot" >/dev/null
listed() { [ "$(stat_of prewarm_saved)" -gt 900 ]; }
wait_until 30 listed || fail "no list is made"
destroy_compute main
start ""
warm
scan_is_warm "after a crash"

# Cancelled: it ends, and the next start begins anew.
"$LOCH" compute stop main >/dev/null
start ""
sql -c "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'loch prewarm'" >/dev/null
wait_until 30 over || fail "prewarming does not end when it is cancelled"
"$LOCH" compute stop main >/dev/null
start ""
warm
is "after a cancel" "$(sql -c "select sum(v), count(*) from hot")" "2000000|20000"
sql -F ' ' -c "select name, value from loch.stats where name ~ 'prewarm'"
note "passed"
