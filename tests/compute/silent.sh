#!/usr/bin/env bash
# A pageserver that takes requests and answers nothing: a statement ends when it is cancelled, whoever waits is told for what, a
# transaction that drops a table nobody has touched here ends without asking, a prepared one as well, and all goes on when it
# answers again.
. "$(dirname "$0")/../e2e/lib.sh"

up
URL=$(url)
sql() { timeout 80 psql "$URL" -X -A -t -q -v ON_ERROR_STOP=1 "$@"; }
sql -c "create table big as select g, repeat('b', 500) t from generate_series(1, 20000) g" \
    -c "create table warm (a int)" -c "create table cold (a int)" -c "create table colder (a int)" \
    -c "create table cut (a int)" -c "insert into cut values (1)"
destroy_compute main
"$LOCH" compute start main --set autovacuum=off,loch.prewarm=off,max_prepared_transactions=2 >/dev/null || fail "compute start"
URL=$(url)
cancel_reader() { sql -c "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'reader'" >/dev/null; }
# The catalogs are warm, the tables are not.
cancel_reader
sql -c "drop table warm" -c "select count(*) from pg_depend, (select count(*) from pg_class, pg_attribute, pg_shdepend) x" >/dev/null
sql -c "begin" -c "drop table cold" -c "rollback" -c "begin" -c "lock table cut in access exclusive mode" -c "rollback"
sql -c "begin" -c "drop table colder" -c "prepare transaction 'drops'"
pageserver=$(daemon_pid pageserver)
LOG=$(field main pgdata)/../postgres.log
kill -STOP "$pageserver"
let_go() { kill -CONT "$pageserver" 2>/dev/null || true; }
(sleep 150; kill -CONT "$pageserver" 2>/dev/null) >/dev/null 2>&1 & # should the test end before its time
BACKGROUND+=($!)

began=$SECONDS
if ! timeout 40 psql "$URL" -X -q -v ON_ERROR_STOP=1 -c "drop table cold" >"$WORK/drop" 2>&1; then
    let_go
    fail "a table that was not touched here is not dropped: $(cat "$WORK/drop")"
fi
note "dropped without asking, in $((SECONDS - began)) s"
began=$SECONDS
if ! timeout 40 psql "$URL" -X -q -v ON_ERROR_STOP=1 -c "commit prepared 'drops'" >"$WORK/prepared" 2>&1; then
    let_go
    fail "a prepared transaction that drops what was not touched here does not end: $(cat "$WORK/prepared")"
fi
note "a prepared drop is committed without asking, in $((SECONDS - began)) s"

psql "$URL" -X -A -t -q -c "set application_name = 'reader'" -c "select sum(length(t)) from big" >"$WORK/reader" 2>&1 &
reader=$!
named() { grep -A1 "waiting for the pageserver" "$LOG" | grep -q "has not answered for"; }
wait_until 40 named || { let_go; fail "the log does not say what is waited for"; }
cancel_reader
ended() { ! kill -0 "$reader" 2>/dev/null; }
wait_until 30 ended || { let_go; fail "a cancelled statement goes on waiting"; }
grep -q "cancel" "$WORK/reader" || { let_go; fail "the reader says: $(cat "$WORK/reader")"; }
note "named in the log, and cancelled"

let_go
[ "$(sql -c "select sum(length(t)) from big")" = 10000000 ] || fail "rows when it answers again"
[ "$(sql -c "select count(*) from pg_class where relname in ('cold', 'colder')")" = 0 ] || fail "the table is there again"
note "passed"
