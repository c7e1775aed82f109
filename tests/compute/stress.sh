#!/usr/bin/env bash
# Every index type under load with subtransactions, ON CONFLICT, self-INSERT, cursors, index builds, VACUUM, cancels and
# terminations at random, connections to the pageserver cut at random bytes, small buffers and a pageserver that dies; then the
# sums, the ledger, every index against its heap and amcheck, on this compute and on the one reborn after it.
# usage: stress.sh [SECONDS=30] [CLIENTS=8]
. "$(dirname "$0")/../e2e/lib.sh"
seconds=${1:-30}
clients=${2:-8}

start() {
    "$LOCH" compute start main --set "shared_buffers=2MB,autovacuum_naptime=2,max_prepared_transactions=10,loch.cache_size=2MB,loch.test_cut_every=300" >/dev/null || fail "compute start"
    URL=$(url)
}
up
"$LOCH" compute stop main >/dev/null
start
pgbench -i -s 3 -q "$URL" >/dev/null 2>&1 || fail "pgbench -i"
"$LEDGER" init --url "$URL" >/dev/null || fail "ledger init"
psql "$URL" -Xq -v ON_ERROR_STOP=1 <<'Q' || fail "tables"
create extension amcheck; create extension pg_visibility;
create table docs(id serial primary key, tags int[], pos point, txt text, bal int default 0);
create index on docs using gin(tags); create index on docs using gist(pos); create index on docs using spgist(txt);
create index on docs using hash(txt); create index on docs using brin(id);
insert into docs(tags, pos, txt) select array[g%50, g%31], point(g%100, g%77), 'w'||g from generate_series(1, 5000) g;
create table acct(id int primary key, bal bigint);
insert into acct select g, 1000 from generate_series(1, 2000) g;
create index on acct(bal);
create table own(client int, n int, pad text default repeat('o', 100));
create index on own(client, n);
-- What a statement and a cursor see is what there was when they began.
create function right_count(what text, got bigint, wanted bigint) returns void language plpgsql as $$ begin
    if got <> wanted then raise exception 'WRONG: % rows by %, not %', got, what, wanted; end if; end $$;
create function own_rows(me int) returns void language plpgsql as $$
declare
    c cursor for select n from own where client = me;
    m bigint := 0;
    row record;
begin
    insert into own select me, g from generate_series(1, 150) g;
    insert into own select me, n + 1000 from own where client = me;
    get diagnostics m = row_count;
    perform right_count('an INSERT from itself', m, 150);
    open c;
    for i in 1 .. 20 loop fetch c into row; end loop;
    insert into own select me, n + 5000 from own where client = me and n <= 100;
    update own set n = n + 1 where client = me and n > 5000;
    m := 20;
    loop
        fetch c into row;
        exit when not found;
        m := m + 1;
    end loop;
    close c;
    perform right_count('a cursor', m, 300);
    for i in 1 .. 5 loop
        begin
            update own set pad = repeat('p', 120) where client = me and n = i;
            insert into own values (me, -i);
            if i % 2 = 0 then raise exception 'back' using errcode = 'ZZ001'; end if;
        exception when sqlstate 'ZZ001' then null;
        end;
    end loop;
    select count(*) into m from own where client = me and n < 0;
    perform right_count('subtransactions', m, 3);
    delete from own where client = me;
    get diagnostics m = row_count;
    perform right_count('a DELETE', m, 403);
end $$;
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
cat >"$WORK/own.sql" <<'Q'
\set t random(100, 2000)
set statement_timeout = :t;
select own_rows(:client_id);
Q
check() { # WHEN
    [ "$(q "select sum(bal) from acct")" = 2000000 ] || fail "$1: the accounts' sum is $(q "select sum(bal) from acct")"
    q "select sum(abalance) = (select coalesce(sum(delta), 0) from pgbench_history) from pgbench_accounts" | grep -qx t || fail "$1: pgbench's sums"
    [ "$(q "select count(*) from own")" = 0 ] || fail "$1: rows that were deleted"
    local probe
    for probe in "tags @> array[7]" "pos <@ box '((0,0),(20,20))'" "txt ^@ 'c1'" "txt = 'w777'" "id between 100 and 900"; do
        [ "$(q "set enable_seqscan = off; select count(*) from docs where $probe")" = \
            "$(q "set enable_indexscan = off; set enable_bitmapscan = off; set enable_indexonlyscan = off; select count(*) from docs where $probe")" ] ||
            fail "$1: an index disagrees with its heap on $probe"
    done
    [ "$(q "select (select count(*) from pg_check_visible('docs')) + (select count(*) from pg_check_visible('acct')) + (select count(*) from pg_check_frozen('docs'))")" = 0 ] ||
        fail "$1: the visibility map is wrong"
    amcheck
    checked=$("$LEDGER" check --url "$(url)" --state "$WORK/ledger") || fail "$1: ledger: $checked"
    note "$1: $(q "select count(*) || ' documents, ' || (select count(*) from pgbench_history) || ' transfers' from docs"), ledger $checked"
}
mkdir "$WORK/ledger"
"$LEDGER" run --url "$URL" --state "$WORK/ledger" --clients 2 --seconds 36000 --stop-file "$WORK/stop" >"$WORK/ledger.log" 2>&1 &
ledger=$!
BACKGROUND+=("$ledger")
load() { # what ends only by an error of the kind that must not be
    while [ ! -e "$WORK/stop" ]; do
        timeout 60 pgbench -n -f "$WORK/mixed.sql@8" -f "$WORK/own.sql@2" -b tpcb-like@2 -c "$clients" -j 2 -T 5 "$URL" 2>&1 |
            grep -E "PANIC|corrupt|could not read|invalid page|unexpected (data|zero|chunk|request|frame)|WRONG|non-speculative|frame type|answer to" >>"$WORK/bad" || true
    done
}
builds() {
    local kind=(gin\(tags\) gist\(pos\) spgist\(txt\) btree\(txt\)) n=0 how
    while [ ! -e "$WORK/stop" ]; do
        [ $((n % 3)) = 0 ] && how=concurrently || how=
        timeout 60 psql "$URL" -Xqc "create index $how built on docs using ${kind[$((n % 4))]}" >>"$WORK/builds.log" 2>&1 &&
            echo "${kind[$((n % 4))]}" >>"$WORK/built"
        timeout 60 psql "$URL" -Xqc "drop index if exists built" >>"$WORK/builds.log" 2>&1 || true
        n=$((n + 1))
    done
}
cancels() { # and every now and then an end
    local n=0 how
    while [ ! -e "$WORK/stop" ]; do
        [ $((n % 20)) = 19 ] && how=terminate || how=cancel
        psql "$URL" -Xqtc "select count(pg_${how}_backend(pid)) from (select pid from pg_stat_activity
            where backend_type = 'client backend' and state = 'active' and pid <> pg_backend_pid()
            order by random() limit 1) p" >>"$WORK/cancelled" 2>/dev/null || true
        n=$((n + 1))
        sleep 0.2
    done
}
load & BACKGROUND+=($!) loads=$!
builds & BACKGROUND+=($!) loads="$loads $!"
cancels & BACKGROUND+=($!) loads="$loads $!"
reconnects() { q "select value from loch.stats where name = 'reconnects'"; }
: >"$WORK/built"
: >"$WORK/cancelled"
# For so long, and on a slow machine until a pageserver has died, an index was built, and enough connections were cut.
until=$((SECONDS + seconds)) loops=0
enough() { [ "$loops" -ge 2 ] && [ -s "$WORK/built" ] && grep -q 1 "$WORK/cancelled" && [ "$(reconnects)" -gt $((seconds * 2)) ] 2>/dev/null; }
while [ "$SECONDS" -lt "$until" ] || { [ "$SECONDS" -lt $((until + 120)) ] && ! enough; }; do
    sleep 4
    for t in docs acct own; do psql "$URL" -Xqc "vacuum $t" >/dev/null 2>&1 || true; done
    psql "$URL" -Xqc checkpoint >/dev/null 2>&1 || true
    loops=$((loops + 1))
    if [ $((loops % 2)) = 0 ]; then
        kill -9 "$(daemon_pid pageserver)"
        sleep 0.5
        up
    fi
done
: >"$WORK/stop"
# shellcheck disable=SC2086
wait $loads $ledger 2>/dev/null || true
[ ! -s "$WORK/bad" ] || fail "errors under load: $(sort "$WORK/bad" | uniq -c | head -5)"
grep -E "PANIC|corrupt|invalid page|unexpected data|WRONG" "$(field main pgdata)/../postgres.log" | head -3 | grep . && fail "errors in the server's log"
note "$loops rounds, $(wc -l <"$WORK/built") indexes built, $(grep -c '1' "$WORK/cancelled") cancels, $(reconnects) connections to the pageserver; ledger $(cat "$WORK/ledger.log")"
enough || fail "$loops rounds, or no index was built, nothing cancelled, hardly any connection cut"
check "after the load"
q "select string_agg(name || ' ' || value, ', ') from loch.stats where value > 0"
destroy_compute main
start
check "reborn"
note "passed"
