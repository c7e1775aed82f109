#!/usr/bin/env bash
# Databases, rewrites, prepared transactions, truncation and cancel on a compute, then all of it again from storage alone.
. "$(dirname "$0")/../e2e/lib.sh"

URL=
connect() { URL=$(url); }
sql() { psql "${URL%/*}/${DB:-postgres}" -X -A -t -q -v ON_ERROR_STOP=1 "$@" | grep -v '^$' || true; }
expect() { # name, wanted, sql...
    local name=$1 wanted=$2 got
    shift 2
    got=$(for s in "$@"; do printf -- '%s;\n' "$s"; done | sql 2>&1 | tr '\n' ' ' | sed 's/ $//')
    [ "$got" = "$wanted" ] && note "ok   $name" || fail "$name: $got instead of $wanted"
}
reborn() {
    destroy_compute main
    "$LOCH" compute start main --set max_prepared_transactions=10,shared_buffers=4MB,loch.cache_size=0 >/dev/null || fail "compute start"
    connect
}

up
"$LOCH" compute stop main >/dev/null
"$LOCH" compute start main --set max_prepared_transactions=10,shared_buffers=4MB,loch.cache_size=0 >/dev/null
connect
psql "$URL" -Xq -f "$ROOT/tests/compute/functions.sql"
sql -c "create database d1"
DB=d1 sql >/dev/null <<'Q'
create table a as select g id, repeat('q', 100) t from generate_series(1, 20000) g;
create index on a(id);
create index on a using gin((array[id % 10]));
create unlogged table u as select * from a;
create index on u(id);
vacuum analyze a;
Q
sql -c "create database d2 template d1 strategy file_copy" -c "create database d3 template d1"
DB=d2 expect "a database copied by file_copy is logged page by page" "20000 200010000 20000 101 30000 3000" \
    "select count(*) from a" "select sum(id) from a" "select count(*) from u" "set enable_seqscan = off" \
    "select count(*) from a where id between 100 and 200" "insert into a select g, 'new' from generate_series(20001, 30000) g" \
    "select count(*) from a" "select count(*) from a where array[id % 10] @> array[3]"
DB=d3 expect "the rewrites" "20000 20000 200010000 20000" \
    "vacuum full pg_class" "vacuum full a" "alter table a set unlogged" "select count(*) from a" "alter table a set logged" \
    "select count(*) from a" "select sum(id) from a" "cluster a using a_id_idx" "select count(*) from a"
DB=d3 expect "prepared transactions" "20000 18001 40000" \
    "begin" "create table p2 as select * from a" "insert into p2 select * from p2" "prepare transaction 'x1'" \
    "begin" "delete from a where id < 1000" "savepoint s" "delete from a where id < 2000" "release s" "prepare transaction 'x2'" \
    "select count(*) from a" "checkpoint" "commit prepared 'x1'" "commit prepared 'x2'" "select count(*) from a" \
    "select count(*) from p2"
DB=d3 expect "truncation and savepoints" "500 20000" \
    "begin" "create table tr(i int)" "insert into tr select generate_series(1, 10000)" "truncate tr" \
    "insert into tr select generate_series(1, 500)" "savepoint z" "truncate tr" "insert into tr values (1)" "rollback to z" commit \
    "select count(*) from tr" "delete from a where id > 5000" "vacuum a" "truncate a" \
    "insert into a select g, 'w' from generate_series(1, 20000) g" "select count(*) from a"
sql -c "set allow_in_place_tablespaces = on" -c "create tablespace inplace location ''" -c "create table moved(a int) tablespace inplace" \
    -c "insert into moved select generate_series(1, 5000)" -c "create database d4 template d1 tablespace inplace"
DB=d4 expect "an in-place tablespace" "20000" "select count(*) from a"
sql -c "create database same oid 400000" && DB=same sql -c "create table x as select 1 old from generate_series(1, 10000)"
sql -c "drop database same" -c "create database same oid 400000"
DB=same sql -c "create table x as select 'new' n from generate_series(1, 7)"
DB=same expect "a database oid used again" "7" "select count(*) from x where n = 'new'"
sql -c "alter database d2 set tablespace inplace"
DB=d2 expect "a database moved to another tablespace" "30000 30000" "select count(*) from a" "set enable_seqscan = off" \
    "select count(*) from a where id > 0"
DB=d2 expect "a relation in the tablespace its database has left" "9 101" "create table back(i int primary key) tablespace pg_default" \
    "alter index back_pkey set tablespace pg_default" "insert into back select generate_series(1, 9)" "select count(*) from back" \
    "create index back_a on a(id) tablespace pg_default" "select count(*) from a where id between 100 and 200"

# A cancel while a read waits for a lagging pageserver: an ERROR, and the connection goes on in step.
pids="$(daemon_pid safekeeper-1) $(daemon_pid safekeeper-2)"
sql -c "create table lag(a int)" -c "insert into lag select generate_series(1, 1000)" -c "vacuum lag"
caught_up # but for what comes now
# shellcheck disable=SC2086
kill -STOP $pids
got=$(psql "$URL" -XAtq 2>&1 <<'Q' | tr '\n' ' '
set synchronous_commit = off;
update lag set a = -a where a = 1;
select t.evict('lag') \g /dev/null
set statement_timeout = '1s';
select sum(a) from lag;
\! true
set statement_timeout = 0;
select count(*) from pg_class where oid = 'lag'::regclass;
Q
)
# shellcheck disable=SC2086
kill -CONT $pids
case $got in
*"canceling statement"*" 1 ") note "ok   cancel of a waiting read" ;;
*) fail "cancel of a waiting read: $got" ;;
esac
expect "the connection after a cancel" "500498" "select sum(a) from lag"

# A pageserver that hangs: writers are slowed, not failed.
sql -c "alter system set loch.max_lag = '1MB'" -c "select pg_reload_conf()" >/dev/null
sql -c "create table th(a int, t text) with (autovacuum_enabled = off)" -c "insert into th values (0, '')" -c "select count(*) from th" >/dev/null
stopped=$(daemon_pid pageserver)
kill -STOP "$stopped"
(sleep 8; kill -CONT "$stopped") &
sql -c "set synchronous_commit = off" -c "insert into th select g, repeat('x', 200) from generate_series(1, 200000) g"
slowed=$(sql -c "select value from loch.stats where name = 'throttled'")
[ "$slowed" -gt 0 ] && note "ok   a lagging pageserver slows writers ($slowed rounds)" || fail "no backpressure"
wait $!
expect "rows written meanwhile" "200001" "select count(*) from th"
sql -c "alter system reset loch.max_lag" -c "select pg_reload_conf()" >/dev/null

# A termination reaches a read that waits for a hanging pageserver. Both sessions know their catalogs before it hangs.
session() { # NAME FD: psql in the background, fed through FD; what it says is in $WORK/NAME
    mkfifo "$WORK/$1.in"
    psql "$URL" -XAtq <"$WORK/$1.in" >"$WORK/$1" 2>&1 &
    BACKGROUND+=("$!")
    eval "exec $2>\"\$WORK/$1.in\""
}
answers() { grep -c 'that was it' "$WORK/$1" || true; }
ask() { # FD NAME SQL: its answer, at most a minute later
    local before
    before=$(answers "$2")
    answered() { [ "$(answers "$1")" -gt "$2" ]; }
    printf '%s\n\\echo that was it\n' "$3" >&"$1"
    wait_until 60 answered "$2" "$before" || fail "$2 does not answer: $(cat "$WORK/$2")"
    grep -v 'that was it' "$WORK/$2" | tail -n 1
}
waits="select count(*) from pg_stat_activity where application_name = 'reader' and wait_event_type = 'Extension';"
end_reader="select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'reader';"
session reader 8
session ender 9
ask 8 reader "set application_name = 'reader'; select count(*) from th;" >/dev/null
ask 9 ender "$waits ${end_reader/reader/nobody}" >/dev/null
sql -c "select t.evict('th')" >/dev/null
kill -STOP "$stopped"
(exec 8>&- 9>&-; sleep 100; kill -CONT "$stopped") >/dev/null 2>&1 & # should the test end before its time
BACKGROUND+=("$!")
echo "select count(*) from th;" >&8
reader_waits() { [ "$(ask 9 ender "$waits")" -ge 1 ]; } # its parallel workers wait, too
wait_until 30 reader_waits || { kill -CONT "$stopped"; fail "the reader does not wait"; }
ask 9 ender "$end_reader" >/dev/null
terminated() { grep -q "terminating connection" "$WORK/reader"; }
wait_until 30 terminated || { kill -CONT "$stopped"; fail "a waiting read is not terminated: $(cat "$WORK/reader")"; }
note "ok   termination of a waiting read"
kill -CONT "$stopped"
exec 8>&- 9>&-

# The pageserver goes away and comes back: queries wait, none fails.
kill -9 "$(daemon_pid pageserver)"
sql -c "select count(*), sum(length(t::text)) from (select * from moved) t" >"$WORK/waited" 2>&1 &
waiting=$!
sleep 1
up
wait "$waiting" || fail "a query failed while the pageserver was away: $(cat "$WORK/waited")"
note "ok   a query waits for the pageserver"

reborn
expect "moved rows" "5000" "select count(*) from moved"
for db in d1 d2 d3 d4 same; do DB=$db sql -c "create extension if not exists amcheck" -c "select count(bt_index_check(c.oid, true)) from pg_class c join pg_am a on a.oid = c.relam where a.amname = 'btree' and c.relkind = 'i'" >/dev/null; done
DB=d2 expect "reborn: the copied and moved database" "30000 0 3000" "select count(*) from a" "select count(*) from u" "set enable_seqscan = off" \
    "select count(*) from a where array[id % 10] @> array[3]"
DB=d2 expect "reborn: what lies in the tablespace its database has left" "9 1" "select count(*) from back" \
    "set enable_seqscan = off" "select count(*) from back where i = 5"
DB=d3 expect "reborn: rewrites, prepared, truncated" "20000 40000 500" "select count(*) from a" "select count(*) from p2" "select count(*) from tr"
DB=d4 expect "reborn: the in-place tablespace" "20000" "select count(*) from a"
DB=same expect "reborn: the database oid used again" "7" "select count(*) from x where n = 'new'"
note "passed"
