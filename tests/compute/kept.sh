#!/usr/bin/env bash
# What a compute leaves for the next: statistics and unlogged relations over a clean stop, once, for the same branch; empty and
# reset after a crash, as stock; free space maps over both. usage: kept.sh [DEATHS=3]
. "$(dirname "$0")/../e2e/lib.sh"

URL=
sql() { timeout 200 psql "$URL" -X -A -t -q -v ON_ERROR_STOP=1 "$@" | grep -v '^$' || true; }
is() { [ "$2" = "$3" ] && note "ok   $1: $2" || fail "$1: $2 instead of $3"; }
start() { # SETTINGS
    "$LOCH" compute start "${2:-main}" --set "shared_buffers=4MB,autovacuum=off,max_prepared_transactions=4,allow_in_place_tablespaces=on$1" >/dev/null || fail "compute start"
    URL=$(url "${2:-main}")
}
stop() { "$LOCH" compute stop main >/dev/null || fail "compute stop"; }

up
"$LOCH" compute stop main >/dev/null
start ""
sql <<'Q'
create tablespace inplace location '';
create table seen(id int primary key, v int);
insert into seen select g, g from generate_series(1, 1000) g;
create unlogged table u(id int generated always as identity primary key, v int, pos point, tags int[], txt text) ;
create index on u using gist(pos);
create index on u using gin(tags);
create index on u using spgist(txt);
create index on u using hash(v);
create index on u using brin(v);
insert into u(v, pos, tags, txt) select g, point(g % 100, g % 77), array[g % 9, g % 31], repeat('t' || g, 20) from generate_series(1, 5000) g;
create unlogged table nothing(id int primary key);
create unlogged table there(id int) tablespace inplace;
insert into there select generate_series(1, 100);
create unlogged table made_logged(id int primary key);
insert into made_logged select generate_series(1, 300);
alter table made_logged set logged;
create table made_unlogged(id int primary key);
insert into made_unlogged select generate_series(1, 400);
alter table made_unlogged set unlogged;
create table room(id int primary key, pad text);
insert into room select g, repeat('r', 700) from generate_series(1, 4000) g;
delete from room where id % 2 = 0;
vacuum room;
create extension amcheck; create extension pg_freespacemap; create extension pageinspect;
Q
sql -c "begin" -c "insert into u(v, txt) values (-1, 'prepared')" -c "prepare transaction 'p'"
for _ in 1 2 3; do sql -c "select count(*) from seen" >/dev/null; done
# A session's statistics are told at its end, which psql does not wait for.
alone() { [ "$(sql -c "select count(*) from pg_stat_activity where backend_type = 'client backend'")" = 1 ]; }
wait_until 60 alone || fail "sessions do not end"
contents="select (select count(*) || ' ' || sum(v) || ' ' || sum(hashtext(txt)) from u), (select count(*) from nothing), (select count(*) from there), (select count(*) from made_logged), (select count(*) from made_unlogged)"
statistics="select seq_scan, n_tup_ins, n_live_tup from pg_stat_user_tables where relname = 'seen'"
map="select count(*), sum(avail), max(avail), md5(string_agg(blkno || ':' || avail, ',' order by blkno)) from pg_freespace('room')"
full=$(sql -c "$contents") counted=$(sql -c "$statistics") space=$(sql -c "$map") blocks=$(sql -c "select pg_relation_size('room')")
indexes() { # every index of u agrees with its heap
    local probe
    for probe in "pos <@ box '((0,0),(20,20))'" "tags @> array[7]" "txt ^@ 't1'" "v = 77" "v between 100 and 900" "id between 10 and 30"; do
        is "unlogged: $probe" "$(sql -c "set enable_seqscan = off" -c "select count(*) from u where $probe")" \
            "$(sql -c "set enable_indexscan = off" -c "set enable_bitmapscan = off" -c "set enable_indexonlyscan = off" -c "select count(*) from u where $probe")"
    done
    sql -c "select bt_index_check('u_pkey', true)" >/dev/null || fail "amcheck"
}

# ---- a clean stop ----
stop
start ""
is "statistics over a stop" "$(sql -c "$statistics")" "$counted"
is "unlogged relations over a stop" "$(sql -c "$contents")" "$full"
is "free space over a stop" "$(sql -c "$map")" "$space"
indexes
sql -c "insert into room select g, repeat('r', 700) from generate_series(10001, 11500) g"
is "the relation did not grow" "$(sql -c "select pg_relation_size('room')")" "$blocks"
sql -c "commit prepared 'p'"
is "a prepared transaction's unlogged row" "$(sql -c "select count(*) from u where v = -1")" 1
# Splits after the start: their counter goes on where it was.
before_lsn=$(sql -c "select max(lsn) from generate_series(0, pg_relation_size('u_pos_idx') / 8192 - 1) b, page_header(get_raw_page('u_pos_idx', b::int))")
sql -c "insert into u(v, pos, txt) select g, point(g % 100, g % 77), 'n' from generate_series(1, 3000) g"
is "made-up LSNs go on" "$(sql -c "select max(lsn) > '$before_lsn' from generate_series(0, pg_relation_size('u_pos_idx') / 8192 - 1) b, page_header(get_raw_page('u_pos_idx', b::int))")" t
indexes
sql -c "update u set v = v + 1 where id < 100" -c "insert into made_unlogged values (9999)"
full=$(sql -c "$contents")

# ---- twice in a row, nothing done in between ----
stop
start ""
stop
start ""
is "over two stops" "$(sql -c "$contents")" "$full"

# ---- a crash: as stock ----
counted=$(sql -c "$statistics")
[ -n "$counted" ] || fail "no statistics"
destroy_compute main
start ""
is "after a crash" "$(sql -c "$contents")" "|0|0|300|0"
is "statistics after a crash" "$(sql -c "$statistics")" "0|0|0"
# What the stop before the crash left is used up: another crash finds nothing of it either.
destroy_compute main
start ""
is "after another crash" "$(sql -c "$contents")" "|0|0|300|0"
sql -c "insert into u(v, txt) select g, 'again' from generate_series(1, 10) g"
indexes
is "the map is older than the crash and still there" "$(sql -c "select sum(avail) > 0 from pg_freespace('room')")" t

# ---- another branch gets none of it ----
stop
"$LOCH" branch create twig >/dev/null || fail "branch"
"$LOCH" compute start twig --branch twig --set autovacuum=off >/dev/null || fail "compute on the branch"
URL=$(url twig)
is "a branch's unlogged relations are empty" "$(sql -c "select count(*) from u")" 0
"$LOCH" compute stop twig >/dev/null || fail "compute stop"
start ""
is "the branch itself has them" "$(sql -c "select count(*) from u")" 10

# ---- a death in the middle of a stop: all or nothing ----
whole=0
for _ in $(seq "${1:-3}"); do
    [ "$(sql -c "select count(*) from u")" != 0 ] || sql -c "insert into u(v, pos, tags, txt) select g, point(g % 100, g % 77), array[g % 9], repeat('m' || g, 20) from generate_series(1, 4000) g"
    rows=$(sql -c "select count(*) || ' ' || sum(hashtext(txt)) from u")
    pids=$(compute_pids main)
    kill "$(daemon_pid compute-main)"
    sleep "0.$((RANDOM % 2))$((RANDOM % 10))"
    # shellcheck disable=SC2086
    kill -9 $pids 2>/dev/null || true
    wait_gone $pids
    start ""
    got=$(sql -c "select count(*) || ' ' || coalesce(sum(hashtext(txt)), 0) from u")
    [ "$got" = "$rows" ] || [ "$got" = "0 0" ] || fail "a death in a stop: $got of $rows"
    [ "$got" = "0 0" ] || whole=$((whole + 1))
    sql -c "select bt_index_check('u_pkey', true)" >/dev/null || fail "amcheck after a death in a stop"
    is "the index by v" "$(sql -c "set enable_seqscan = off" -c "select count(*) from u where v between 10 and 500")" \
        "$(sql -c "set enable_indexscan = off" -c "set enable_bitmapscan = off" -c "select count(*) from u where v between 10 and 500")"
done
note "deaths in a stop: $whole of ${1:-3} kept everything, the others nothing"

# ---- two deaths before anybody could log in: what the stop left is as old as the catalogs, or it is not there ----
server_log() { cat "$(scratch)"/compute-main/*.log "$(scratch)"/compute-main/*/*.log 2>/dev/null || true; }
logged() { server_log | grep -qE "$1"; }
last_record() { "$LOCH" branch show main --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["last_record_lsn"])'; }
begun_at() { server_log | sed -n 's/.*; branch [0-9a-f]* from \([0-9A-F]*\/[0-9A-F]*\) in term.*/\1/p' | tail -1; }
went_on() { [ "$(lsn_number "$(last_record)")" -gt "$(lsn_number "$(begun_at)")" ]; }
begin_and_die() { # LOG_LINE SETTINGS: a server that lets nobody in, until its log has the line and storage its first record
    local starting
    rm -f "$(scratch)"/compute-main/*.log "$(scratch)"/compute-main/*/*.log # of the one before
    "$LOCH" compute start main --set "log_min_messages=debug1,loch.test_keep_stop_state=on,$2" >/dev/null 2>&1 &
    starting=$!
    wait_until 120 logged "$1" || fail "no \"$1\" in the server's log"
    wait_until 120 went_on || fail "the start does not reach storage"
    destroy_compute main
    wait "$starting" && fail "somebody could log in" || true
}
two_deaths() { # LOG_LINE SETTING: prints rows, and what does not fit the catalogs
    sql <<'Q'
drop table if exists worn;
create unlogged table worn(id int, pad text) with (autovacuum_freeze_min_age = 0, autovacuum_freeze_table_age = 0, autovacuum_vacuum_threshold = 0,
    autovacuum_vacuum_scale_factor = 0, autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0);
insert into worn select g, repeat('w', 100) from generate_series(1, 2000) g;
update worn set pad = 'n' where id <= 1000;
select txid_current() from generate_series(1, 1);
Q
    stop
    begin_and_die "$1" "autovacuum=on,autovacuum_naptime=1,log_autovacuum_min_duration=0$2"
    begin_and_die "ready to accept connections" "autovacuum=off$2"
    start ""
    sql -c "select (select count(*) from worn) || ' rows, ' || count(*) || ' wrong' from verify_heapam('worn')"
}
got=$(two_deaths "launcher waits until what the last stop left is used up" "" | tail -1)
case $got in "2000 rows, 0 wrong" | "0 rows, 0 wrong") note "ok   two deaths in a start: $got" ;; *) fail "two deaths in a start: $got" ;; esac
for try in 1 2 3; do # what the worker did has reached storage when the server dies, or it has not
    got=$(two_deaths 'automatic analyze of table "postgres.public.worn"' ",loch.test_disable=stop_state" | tail -1)
    case $got in *" 0 wrong") ;; *) break ;; esac
done
case $got in *" 0 wrong" | "") fail "the negative: a worker's work before the last stop's leavings are used up does no harm: $got" ;; *) note "ok   negative: $got ($try)" ;; esac

# ---- too much of it, and none wanted ----
sql -c "insert into u(v, txt) select g, repeat(md5(g::text), 30) from generate_series(1, 20000) g"
sql -c "alter system set loch.unlogged_max_size = '5MB'" -c "select pg_reload_conf()" >/dev/null
stop
start ""
is "more than loch.unlogged_max_size" "$(sql -c "select count(*) from u")" 0
is "statistics all the same" "$(sql -c "select n_live_tup > 0 from pg_stat_user_tables where relname = 'u'")" t
sql -c "alter system reset loch.unlogged_max_size" -c "select pg_reload_conf()" >/dev/null

# ---- a quorum that takes nothing: the stop does not fill the scratch, and keeps nothing ----
sql -c "truncate u" -c "insert into u(v, txt) select g, repeat(md5(g::text), 60) from generate_series(1, 30000) g"
[ "$(sql -c "select pg_table_size('u') > 50000000")" = t ] || fail "not enough to keep"
caught_up
before=$(lsn_number "$(sql -c "select pg_current_wal_insert_lsn()")")
held="$(daemon_pid safekeeper-1) $(daemon_pid safekeeper-2)"
# shellcheck disable=SC2086
kill -STOP $held
"$LOCH" compute stop main >/dev/null 2>&1 &
stopping=$!
gave_up() { logged "the safekeepers do not take what is to be kept"; }
wait_until 60 gave_up || { kill -CONT $held; fail "the stop goes on without a quorum"; }
# shellcheck disable=SC2086
kill -CONT $held
wait "$stopping" || fail "compute stop"
start ""
is "what no quorum took" "$(sql -c "select count(*) from u")" 0
written=$(($(lsn_number "$(sql -c "select pg_current_wal_insert_lsn()")") - before))
[ "$written" -lt 30000000 ] || fail "the stop wrote $written bytes without a quorum"
note "ok   without a quorum the stop wrote $written bytes"

# ---- a map older than a truncation, a drop and a database's end does no harm ----
sql -c "create table short(pad text)" -c "insert into short select repeat('s', 700) from generate_series(1, 3000)" -c "delete from short where ctid > '(150,0)' and ctid < '(200,0)'" -c "vacuum short" \
    -c "create table dropped(pad text)" -c "insert into dropped select repeat('s', 700) from generate_series(1, 3000)" -c "delete from dropped where ctid > '(150,0)'" -c "vacuum (truncate off) dropped"
stop
start ",loch.prewarm_interval=0"
sql -c "delete from short where ctid >= '(20,0)'" -c "vacuum short" -c "drop table dropped"
is "short now" "$(sql -c "select pg_relation_size('short') / 8192")" 20
caught_up
destroy_compute main
start ""
sql -c "insert into short select repeat('n', 700) from generate_series(1, 500)"
is "no row is lost" "$(sql -c "select count(*) from short where pad ~ '^n'")" 500
is "nothing beyond the end" "$(sql -c "select count(*) from pg_freespace('short') where blkno >= pg_relation_size('short') / 8192")" 0
[ "$(sql -c "select value from loch.stats where name = 'free_space_restored'")" -gt 0 ] || fail "no map was restored"

# ---- without the fix ----
blocks=$(sql -c "select pg_relation_size('room')")
sql -c "delete from room where id > 10000" -c "vacuum (truncate off) room" -c "alter system set loch.test_disable = 'free_space'" -c "select pg_reload_conf()" >/dev/null
blocks=$(sql -c "select pg_relation_size('room')")
stop
start ""
sql -c "insert into room select g, repeat('r', 700) from generate_series(20001, 21000) g"
[ "$(sql -c "select pg_relation_size('room')")" -gt "$blocks" ] || fail "the negative: the relation did not grow without its map"
note "ok   negative: without its map the relation grows"
note "passed"
