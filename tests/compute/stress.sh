#!/usr/bin/env bash
# Every index type under load with cancels, savepoints, vacuum, small buffers and a pageserver that dies; then the sums, every
# index against its heap and amcheck, on this compute and on the one reborn after it. usage: stress.sh [SECONDS=30]
. "$(dirname "$0")/../e2e/lib.sh"
seconds=${1:-30}

start() {
    "$LOCH" compute start main --set shared_buffers=2MB,autovacuum_naptime=2,max_prepared_transactions=10 >/dev/null || fail "compute start"
    URL=$(url)
}
up
"$LOCH" compute stop main >/dev/null
start
pgbench -i -s 3 -q "$URL" >/dev/null 2>&1 || fail "pgbench -i"
psql "$URL" -Xq -v ON_ERROR_STOP=1 <<'Q' || fail "tables"
create extension amcheck; create extension pg_visibility;
create table docs(id serial primary key, tags int[], pos point, txt text, bal int default 0);
create index on docs using gin(tags); create index on docs using gist(pos); create index on docs using spgist(txt);
create index on docs using hash(txt); create index on docs using brin(id);
insert into docs(tags, pos, txt) select array[g%50, g%31], point(g%100, g%77), 'w'||g from generate_series(1, 5000) g;
create table acct(id int primary key, bal bigint);
insert into acct select g, 1000 from generate_series(1, 2000) g;
create index on acct(bal);
Q
cat >"$WORK/mixed.sql" <<'Q'
\set a random(1, 2000)
\set b random(1, 2000)
\set d random(1, 5000)
\set t random(20, 400)
set statement_timeout = :t;
begin;
update acct set bal = bal - 10 where id = least(:a, :b);
savepoint s;
insert into docs(tags, pos, txt) values (array[:a, :b % 50], point(:a % 100, :b % 100), 'n'||:a||'_'||:b);
update docs set bal = bal + 1, txt = txt||'x' where id = :d;
rollback to s;
insert into docs(tags, pos, txt) select tags, pos, 'c'||:b from docs where id between :d and :d + 5;
delete from docs where id between :d + 100 and :d + 102;
insert into acct values (:b, 0) on conflict (id) do nothing;
update acct set bal = bal + 10 where id = greatest(:a, :b);
end;
Q
check() { # WHEN
    [ "$(q "select sum(bal) from acct")" = 2000000 ] || fail "$1: the accounts' sum is $(q "select sum(bal) from acct")"
    q "select sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts" | grep -qx t || fail "$1: pgbench's sums"
    local probe
    for probe in "tags @> array[7]" "pos <@ box '((0,0),(20,20))'" "txt ^@ 'c1'" "txt = 'w777'" "id between 100 and 900"; do
        [ "$(q "set enable_seqscan = off; select count(*) from docs where $probe")" = \
            "$(q "set enable_indexscan = off; set enable_bitmapscan = off; set enable_indexonlyscan = off; select count(*) from docs where $probe")" ] ||
            fail "$1: an index disagrees with its heap on $probe"
    done
    [ "$(q "select (select count(*) from pg_check_visible('docs')) + (select count(*) from pg_check_visible('acct')) + (select count(*) from pg_check_frozen('docs'))")" = 0 ] ||
        fail "$1: the visibility map is wrong"
    amcheck
    note "$1: $(q "select count(*) || ' documents, ' || (select count(*) from pgbench_history) || ' transfers' from docs")"
}
loops=0
(
    while true; do
        pgbench -n -f "$WORK/mixed.sql@8" -b tpcb-like@2 -c 8 -j 2 -T 5 "$URL" 2>&1 | grep -E "PANIC|corrupt|could not read|invalid page|unexpected" >>"$WORK/bad" || true
    done
) &
load=$!
BACKGROUND+=("$load")
until=$((SECONDS + seconds))
while [ "$SECONDS" -lt "$until" ]; do
    sleep 4
    psql "$URL" -Xqc "vacuum docs" -c "vacuum acct" >/dev/null 2>&1 || true
    psql "$URL" -Xqc checkpoint >/dev/null 2>&1 || true
    loops=$((loops + 1))
    if [ $((loops % 2)) = 0 ]; then
        kill -9 "$(daemon_pid pageserver)"
        sleep 0.5
        up
    fi
done
kill "$load" 2>/dev/null || true
pkill -P "$load" 2>/dev/null || true
sleep 6
[ ! -s "$WORK/bad" ] || fail "errors under load: $(sort "$WORK/bad" | uniq -c | head -5)"
grep -E "PANIC|corrupt|invalid page|unexpected data" "$(field main pgdata)/../postgres.log" | head -3 | grep . && fail "errors in the server's log"
check "after the load"
q "select string_agg(name || ' ' || value, ', ') from loch.stats where value > 0"
destroy_compute main
start
check "reborn"
note "passed"
