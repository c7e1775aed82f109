#!/usr/bin/env bash
# Statements that ask whether a database holds anything in a tablespace, on a compute that began anew and has made no file
# of it yet; and how databases may be made. Every answer is a stock server's, which is asked beside it.
. "$(dirname "$0")/../e2e/lib.sh"
BIN=/usr/lib/postgresql/15/bin
STOCK_PORT=$((PORT_BASE + 120))
as=()
[ "$(id -u)" != 0 ] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
export PGOPTIONS="-c allow_in_place_tablespaces=on -c client_min_messages=warning"
URL=

stock() { psql -h "$WORK/stock" -p "$STOCK_PORT" -U postgres -d "$DB" -XAtq "$@" 2>&1 || true; }
loch() { psql "${URL%/*}/$DB" -XAtq "$@" 2>&1 || true; }
both() { # database, sql...: the same words from both
    local DB=$1 wanted got args=() sql
    shift
    for sql in "$@"; do args+=(-c "$sql"); done
    wanted=$(stock "${args[@]}")
    got=$(loch "${args[@]}")
    [ "$got" = "$wanted" ] || fail "$DB: $*: $got; stock: $wanted"
    note "ok   $DB: $*: ${wanted//$'\n'/ }"
}
begin() {
    "$LOCH" compute start main --set loch.cache_size=0,loch.unlogged_max_size=0 >/dev/null || fail "compute start"
    URL=$(url)
}

up
"$LOCH" compute stop main >/dev/null
begin
mkdir -m 0777 "$WORK/stock"
"${as[@]}" "$BIN/initdb" -D "$WORK/stock/d" -U postgres -E UTF8 --locale C -A trust -N >/dev/null
"${as[@]}" "$BIN/pg_ctl" -D "$WORK/stock/d" -w -l "$WORK/stock/log" \
    -o "-p $STOCK_PORT -k $WORK/stock -c listen_addresses='' -c fsync=off" start >/dev/null || fail "the stock server"
BACKGROUND+=("$(head -1 "$WORK/stock/d/postmaster.pid")")

both postgres "create tablespace rows location ''" "create tablespace empty location ''" "create tablespace unlogged location ''" \
    "create tablespace own location ''" "create tablespace unused location ''" "create role nobody"
both postgres "create database d" "create database e" "create database u" "create database back tablespace own"
both d "create table t(a int) tablespace rows" "insert into t select generate_series(1, 1000)"
both e "create table z(a int) tablespace empty"
both u "create unlogged table n(a int) tablespace unlogged" "insert into n values (1)"
both back "create table p(a int primary key) tablespace pg_default" "insert into p select generate_series(1, 500)"

ask_all() {
    both postgres "alter database d set tablespace rows"
    both postgres "set role nobody" "alter database d set tablespace rows"
    both postgres "alter database e set tablespace empty"
    both postgres "alter database u set tablespace unlogged"
    both postgres "alter database back set tablespace pg_default"
    both postgres "alter database back set tablespace own"
    both postgres "create database c template d tablespace rows"
    both postgres "create database c template e tablespace empty"
    both postgres "create database c template back tablespace pg_default"
    both postgres "drop tablespace rows"
    both postgres "drop tablespace empty"
    both postgres "drop tablespace unlogged"
    both postgres "drop tablespace own"
    both postgres "begin" "drop tablespace rows"
    both postgres "drop tablespace nowhere" "drop tablespace if exists nowhere" "alter database nobody set tablespace rows"
    both d "select count(*), sum(a) from t"
    both e "select count(*) from z"
    both back "select count(*), sum(a) from p" "set enable_seqscan = off" "select a from p where a = 77"
}
ask_all # its own files are there
"$LOCH" compute stop main >/dev/null
begin
ask_all
destroy_compute main
begin
ask_all
left=$(find "$(field main pgdata)" -name 'loch.unmade.*')
[ -z "$left" ] || fail "left behind: $left"

# As the hints say: what is moved out of the way, or dropped, is in nobody's way.
both d "alter table t set tablespace pg_default"
both e "drop table z"
both postgres "alter database d set tablespace rows" "drop tablespace empty" "drop tablespace unused"
destroy_compute main
begin
both d "select count(*), sum(a) from t"
both postgres "drop tablespace rows" "create tablespace empty location ''" "alter database d set tablespace pg_default" "drop tablespace rows"
both d "select count(*), sum(a) from t"

both postgres "create database x strategy nonsense"
both postgres "create database x strategy wal_log strategy file_copy"
both postgres "create database x strategy file_copy" "create database y template d strategy = wal_log" "create database w strategy 'FILE_COPY'"
both y "select count(*), sum(a) from t"

# One record moves a whole database, which the pageserver has to copy in memory: a large one is refused, with the way around it.
both postgres "create database large"
both large "create table t as select g a, repeat('x', 200) b from generate_series(1, 60000) g" # 14 MB, the templates' 7 beside them
DB=postgres
said=$(loch -c "set loch.move_database_max_size = '16MB'" -c "alter database large set tablespace own")
case $said in
*"ERROR:  database \"large\" is too large to be moved"*"loch.move_database_max_size is 16 MB"*"CREATE DATABASE ... TEMPLATE"*) note "ok   refused: ${said//$'\n'/ }" ;;
*) fail "a large database is moved, or refused in other words: $said" ;;
esac
said=$(loch -c "set loch.move_database_max_size = '1GB'")
[[ $said == *"outside the valid range"* ]] || fail "loch.move_database_max_size has no limit: $said"
said=$(loch -c "set loch.move_database_max_size = 0" -c "alter database large set tablespace pg_default" -c "set role nobody" -c "alter database large set tablespace own")
[[ $said == "ERROR:  must be owner of database large" ]] || fail "who does not own it, or moves it nowhere, is answered otherwise: $said"
both postgres "create database larger template large tablespace own" "drop database large" "alter database larger rename to large"
both large "select count(*), sum(a), sum(length(b)) from t"
both postgres "alter database large set tablespace pg_default"
both large "select count(*), sum(a), sum(length(b)) from t"
destroy_compute main
begin
both large "select count(*), sum(a), sum(length(b)) from t"

# A move that is cancelled behind its copy, in the wait for a checkpoint, leaves nothing: the next one works, and the tablespace
# can go. (RM_DBASE_ID 4, XLOG_DBASE_CREATE_FILE_COPY 0)
both postgres "create tablespace target location ''" "create database vain"
both vain "create table t as select g a from generate_series(1, 1000) g"
DB=postgres
loch -f "$ROOT/tests/compute/functions.sql" >/dev/null
disable() { # FIX
    disabled() { [ "$(loch -c "show loch.test_disable")" = "$1" ]; }
    loch -c "alter system set loch.test_disable = '$1'" -c "select pg_reload_conf()" >/dev/null
    wait_until 20 disabled "$1" || fail "loch.test_disable = '$1' is not taken up"
}
in_vain() { # such a move, begun and cancelled
    local checkpointer
    loch -c "select t.pause_at(4, 0)" -c "alter database vain set tablespace target" >"$WORK/vain" 2>&1 &
    local mover=$!
    paused() { [ "$(loch -c "select t.is_paused()")" = t ]; }
    waits() { [ "$(loch -c "select count(*) from pg_stat_activity where wait_event like 'Checkpoint%' and query like 'alter database vain%'")" = 1 ]; }
    wait_until 60 paused || fail "the move does not come to its record: $(cat "$WORK/vain")"
    checkpointer=$(loch -c "select pid from pg_stat_activity where backend_type = 'checkpointer'")
    kill -STOP "$checkpointer"
    loch -c "select t.resume()" >/dev/null
    wait_until 60 waits || { kill -CONT "$checkpointer"; fail "the move does not wait for a checkpoint: $(cat "$WORK/vain")"; }
    loch -c "select pg_cancel_backend(pid) from pg_stat_activity where query like 'alter database vain%'" >/dev/null
    wait "$mover"
    kill -CONT "$checkpointer"
    grep -q "canceling statement due to user request" "$WORK/vain" || fail "the move is not cancelled: $(cat "$WORK/vain")"
}
disable move_undo
in_vain
said=$(loch -c "alter database vain set tablespace target")
[[ $said == *"already in tablespace"* ]] || fail "negative: without 'move_undo' nothing is left of a move: $said"
note "ok   negative: without 'move_undo': ${said%%$'\n'*}"
both postgres "drop database vain" "create database vain"
both vain "create table t as select g a from generate_series(1, 1000) g"
DB=postgres
disable ""
in_vain
both postgres "alter database vain set tablespace target" "drop tablespace target"
both vain "select count(*), sum(a) from t"
both postgres "alter database vain set tablespace pg_default" "drop tablespace target"
both vain "select count(*), sum(a) from t"
destroy_compute main
begin
both vain "select count(*), sum(a) from t"

note "passed"
