#!/usr/bin/env bash
# Read-ahead on a compute with 1 MB of shared buffers: while rows move about, every setting sees the same snapshot; nothing
# wedges when a process asks and never reads, is cancelled, finds its relation truncated, or loses the pageserver.
. "$(dirname "$0")/../e2e/lib.sh"

URL=
sql() { timeout 200 psql "$URL" -X -A -t -q -v ON_ERROR_STOP=1 "$@" | grep -v '^$' || true; }
# loch.stats is cluster-wide; one number of it
stat_of() { sql -c "select value from loch.stats where name = '$1'"; }
restart_compute() {
    "$LOCH" compute stop main >/dev/null
    "$LOCH" compute start main --set shared_buffers=1MB,autovacuum_naptime=1s,effective_io_concurrency=8,loch.cache_size=0 >/dev/null || fail "compute start"
    URL=$(url)
}
is() { [ "$2" = "$3" ] && note "ok   $1: $2" || fail "$1: $2 instead of $3"; }

up
restart_compute
sql -f "$ROOT/tests/compute/functions.sql" >/dev/null
sql >/dev/null <<'Q'
create extension amcheck;
create extension pg_prewarm;
create table a(id int primary key, v int, pad text);
insert into a select g, 100, repeat('a', 300) from generate_series(1, 20000) g;
create index a_v on a((id % 50));
vacuum analyze a;
Q
cat >"$WORK/move.sql" <<'Q'
\set x random(1, 20000)
\set y random(1, 20000)
begin;
update a set v = v - 1, pad = repeat(md5(:x::text), 1 + :y % 12) where id = least(:x, :y);
update a set v = v + 1 where id = greatest(:x, :y);
commit;
Q

# One snapshot, every setting, both kinds of scan; the total never changes.
pgbench -n -c 2 -T "${LOCH_TEST_SECONDS:-25}" -f "$WORK/move.sql" "$URL" >"$WORK/pgbench.log" 2>&1 &
moving=$!
BACKGROUND+=("$moving")
rounds=0
while kill -0 "$moving" 2>/dev/null; do
    for setting in 0 1 16 64; do
        cat <<Q
set loch.read_ahead = $setting;
set enable_seqscan = on; set enable_bitmapscan = off; set enable_indexscan = off; set max_parallel_workers_per_gather = 0;
select count(*), sum(v), sum(hashtext(id || '.' || v || '.' || pad)) from a;
set max_parallel_workers_per_gather = 2; set min_parallel_table_scan_size = 0; set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
select count(*), sum(v), sum(hashtext(id || '.' || v || '.' || pad)) from a;
set enable_seqscan = off; set enable_bitmapscan = on; set max_parallel_workers_per_gather = 0;
select count(*), sum(v), sum(hashtext(id || '.' || v || '.' || pad)) from a where id % 50 in (3, 7);
Q
    done >"$WORK/scan.sql"
    (echo "begin isolation level repeatable read read only;"; cat "$WORK/scan.sql"; echo "commit;") |
        sql >"$WORK/scan.out" 2>&1
    [ "$(wc -l <"$WORK/scan.out")" = 12 ] || fail "scans: $(cat "$WORK/scan.out")"
    [ "$(sort -u "$WORK/scan.out" | wc -l)" = 2 ] || fail "the settings disagree: $(cat "$WORK/scan.out")"
    grep -q '^20000|2000000|' "$WORK/scan.out" || fail "the total changed: $(cat "$WORK/scan.out")"
    for setting in 0 1 16 64; do
        sql -c "set loch.read_ahead = $setting" -c "vacuum a" -c "select bt_index_check(c, true) from unnest('{a_pkey,a_v}'::regclass[]) c" \
            -c "select * from verify_heapam('a')" >"$WORK/check.out" 2>&1
        [ ! -s "$WORK/check.out" ] || fail "vacuum or amcheck with $setting: $(cat "$WORK/check.out")"
    done
    rounds=$((rounds + 1))
done
wait "$moving" || fail "pgbench: $(tail -3 "$WORK/pgbench.log")"
[ "$rounds" -gt 0 ] || fail "no round was finished"
note "ok   $rounds rounds of every setting under $(sed -n 's/^tps = //p' "$WORK/pgbench.log") transactions"
sql -F ' ' -c "select name, value from loch.stats where name ~ 'read_ahead|read_remote'"
[ "$(stat_of read_ahead_used)" -gt 100 ] || fail "read-ahead is hardly used"

ahead=$(sql -c "show loch.read_ahead")
# Off means off: nobody else reads while it is counted.
alone() { [ "$(sql -c "select current_setting('loch.read_ahead'), current_setting('autovacuum'), count(*) from pg_stat_activity where backend_type = 'autovacuum worker'")" = "$1|off|0" ]; }
sql -c "alter system set loch.read_ahead = 0" -c "alter system set autovacuum = off" -c "select pg_reload_conf()" >/dev/null
wait_until 60 alone 0 || fail "loch.read_ahead = 0 is not taken up, or autovacuum does not end"
before=$(stat_of read_ahead_sent)
sql -c "select sum(v) from a" >/dev/null
is "nothing is asked for ahead when off" "$(stat_of read_ahead_sent)" "$before"
sql -c "alter system reset loch.read_ahead" -c "select pg_reload_conf()" >/dev/null
wait_until 60 alone "$ahead" || fail "loch.read_ahead is not reset"

# A scan's pages come packed, or not at all where that is off; the rows are the same.
packed() { curl -sf "http://127.0.0.1:$((PORT_BASE + 30))/metrics" | sed -n 's/^loch_pageserver_packed_answers_total //p'; }
scan="select count(*), sum(v), sum(hashtext(pad)) from a"
before=$(packed)
rows=$(sql -c "$scan")
[ "$(packed)" -gt $((before + 100)) ] || fail "a scan's pages do not come packed: $before, then $(packed)"
sql -c "alter system set loch.packed_pages = off" -c "select pg_reload_conf()" >/dev/null
plain() { [ "$(sql -c "show loch.packed_pages")" = off ]; }
wait_until 20 plain || fail "loch.packed_pages = off is not taken up"
before=$(packed)
is "a scan with packed pages, and without" "$(sql -c "$scan")" "$rows"
is "none comes packed when off" "$(packed)" "$before"
sql -c "alter system reset loch.packed_pages" -c "alter system reset autovacuum" -c "select pg_reload_conf()" >/dev/null

# Asked for and never read: bounded, and the process goes on.
got=$(sql <<'Q' | tail -n 1
set loch.read_ahead = 64;
select pg_prewarm('a', 'prefetch') > 600 \g /dev/null
select pg_prewarm('a', 'prefetch') > 600 \g /dev/null
select sum(v) from a;
Q
)
is "a prefetch of everything, then a scan" "$got" 2000000

# Pages asked for ahead of a relation that another session truncates, drops and makes again.
got=$(sql -v url="$URL" <<'Q' | tr '\n' ' '
create table tr(a int, pad text);
insert into tr select g, repeat('t', 1000) from generate_series(1, 700) g;
select t.evict('tr') \g /dev/null
select count(*) from tr where ctid < '(6,0)' \g /dev/null
\setenv OTHER :url
\! psql "$OTHER" -Xqc "truncate tr" -c "insert into tr select 7, repeat('n', 1000) from generate_series(1, 350)" -c "select t.evict('tr')" -o /dev/null
select count(*), min(a) from tr;
select t.evict('tr') \g /dev/null
select count(*) from tr where ctid < '(6,0)' \g /dev/null
\! psql "$OTHER" -Xqc "delete from tr where ctid > '(8,0)'" -c "vacuum tr" -c "insert into tr select 9, repeat('m', 1000) from generate_series(1, 300)" -c "select t.evict('tr')" -o /dev/null
select count(*) filter (where a = 7) < 70, count(*) filter (where a = 9) from tr;
Q
)
is "truncated and made again meanwhile" "$got" "350|7 t|300 "

# Cancelled at any moment, the connection stays in step.
for ms in 1 2 3 5 8 13 20 30 40 60; do echo "set statement_timeout = $ms; select sum(v) from a; set statement_timeout = 0;
select pg_prewarm('a', 'prefetch') > 600; set statement_timeout = $ms; select sum(hashtext(pad)) from a where id % 50 = 4;"; done >"$WORK/cancel.sql"
echo "set statement_timeout = 0; select 'total', sum(v) from a;" >>"$WORK/cancel.sql"
timeout 200 psql "$URL" -XAtq -f "$WORK/cancel.sql" >"$WORK/cancel.out" 2>&1 || true
is "after $(grep -c 'canceling' "$WORK/cancel.out") cancels" "$(tail -n 1 "$WORK/cancel.out")" "total|2000000"

# The pageserver dies in the middle of scans: they go on until it has died.
done_pairs() { wc -l <"$WORK/pairs"; }
scans_without_end() {
    local sent=0
    while [ ! -e "$WORK/died" ] || [ "$sent" -lt 8 ]; do
        echo "set loch.read_ahead = 64; select sum(v) from a; set enable_seqscan = off; select sum(v) from a where id % 50 < 51; set enable_seqscan = on;"
        echo "\\! echo >>'$WORK/pairs'"
        sent=$((sent + 1))
        while [ "$(done_pairs)" -lt $((sent - 1)) ] && [ ! -e "$WORK/over" ]; do sleep 0.01; done # one is always under way, and one waits
    done
    echo $((2 * sent)) >"$WORK/sent"
}
for _ in 1 2; do
    rm -f "$WORK/died" "$WORK/over"
    : >"$WORK/pairs"
    scans_without_end | { sql; : >"$WORK/over"; } >"$WORK/killed" 2>&1 &
    waiting=$!
    scanning() { [ "$(done_pairs)" -gt 0 ]; }
    wait_until 60 scanning || fail "no scan is done"
    kill -9 "$(daemon_pid pageserver)"
    : >"$WORK/died"
    sleep 0.5
    up
    wait "$waiting" || fail "a scan failed"
    is "scans while the pageserver dies" "$(sort -u "$WORK/killed" | tr '\n' ' ')$(wc -l <"$WORK/killed")" "2000000 $(cat "$WORK/sent")"
done
sql -F ' ' -c "select name, value from loch.stats where name ~ 'read_ahead|read_remote|reconnects'"
got=$(sql -c "select sum(case when name = 'read_ahead_sent' then value else -value end) >= 0 from loch.stats where name ~ '^read_ahead_'")
is "nothing is accounted for twice" "$got" t
note "passed"
