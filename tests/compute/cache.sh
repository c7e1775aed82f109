#!/usr/bin/env bash
# The local cache on a compute with 1 MB of shared buffers: right under updates, truncation and new databases while it is resized
# to nothing and back; off, and the answers still right, after every kind of error; sealed, re-keyed, counted.
. "$(dirname "$0")/../e2e/lib.sh"

URL=
sql() { timeout 200 psql "$URL" -X -A -t -q -v ON_ERROR_STOP=1 "$@" | grep -v '^$' || true; }
is() { [ "$2" = "$3" ] && note "ok   $1: $2" || fail "$1: $2 instead of $3"; }
cache() { sql -c "select $1 from loch.cache"; }
hits() { cache hits; }
used_at_most() { [ "$(cache used_bytes)" -le "$1" ]; }
resize() { # MB
    sql -c "alter system set loch.cache_size = '$1MB'" -c "select pg_reload_conf()" >/dev/null
    in_force() { [ "$(cache 'size_bytes >> 20')" = "$1" ]; }
    wait_until 60 in_force "$1" || fail "the size does not become $1 MB but $(cache size_bytes)"
}
scan() { sql -c "select sum(v) from a"; }

up
URL=$(url)
is "switched on by default" "$(cache "is_on, size_bytes >> 20 between 64 and 4096")" "t|t"
sql -c "alter system set loch.cache_size = '256MB'" >/dev/null
"$LOCH" compute stop main >/dev/null
"$LOCH" compute start main --set shared_buffers=1MB,autovacuum_naptime=1s,loch.cache_max_size=96MB >/dev/null || fail "compute start"
URL=$(url)
log=$(field main pgdata)/../postgres.log
is "a size above the limit raises the limit" "$(cache "is_on, size_bytes >> 20")" "t|256"
resize 64
sql -f "$ROOT/tests/compute/functions.sql" >/dev/null
sql >/dev/null <<'Q'
create extension amcheck;
create table a(id int primary key, v int, pad text);
insert into a select g, 100, 'planted-' || repeat('a', 292) from generate_series(1, 60000) g;
create index a_v on a((id % 50));
vacuum analyze a;
select t.evict('a');
Q
is "the first scan" "$(scan)" 6000000
before=$(hits)
is "the second scan" "$(scan)" 6000000
[ $(($(hits) - before)) -gt 2000 ] || fail "$(($(hits) - before)) pages of 2500 were found in the cache"
note "ok   $(($(hits) - before)) pages of the second scan were found in the cache"
is "a backend's own counters" "$(sql <<'Q' | tail -n 1
select sum(v) from a;
select value > 2000 from loch.backend_stats where pid = pg_backend_pid() and name = 'cache_hit';
Q
)" t

# Sealed, and nothing that has a name.
file=$(find "/proc/$(head -1 "$(field main pgdata)/postmaster.pid")/fd" -lname '*/loch-cache.*' | head -1)
[ -n "$file" ] || fail "the postmaster has no cache file open"
is "names in the data directory" "$(find "$(field main pgdata)/" -name 'loch-cache*' | wc -l)" 0
[ "$(head -c 67108864 "$file" | wc -c)" -gt 20000000 ] || fail "the cache's file is empty"
is "rows in clear in the cache's file" "$(head -c 67108864 "$file" | grep -ac planted- || true)" 0
grep -qa planted- "$(field main pgdata)"/pg_wal/0* || fail "the marker is not found where it must be"

# Errors: the cache goes off, says why, gives its space back, and comes back with a reload.
after_error() { # WHAT TEXT
    is "$1: the scan" "$(scan)" 6000000
    is "$1: the cache" "$(cache "is_on, used_bytes")" "f|0"
    grep -q "the local cache is switched off.*$2" "$log" || fail "$1: the log does not say why"
    is "$1: bytes left in the file" "$(stat -Lc %s "$file")" 0
    sql -c "select pg_reload_conf()" >/dev/null
    on() { [ "$(cache is_on)" = t ]; }
    wait_until 60 on || fail "$1: the cache does not come back"
    is "$1: filled again" "$(scan)" 6000000
}
sql -c "select t.cache_fault(50, 5)" >/dev/null
after_error "a read that fails" "Input/output error"
sql -c "update a set v = v" -c "vacuum a" -c "select t.cache_fault(1, 28)" -c "update a set v = v where id % 7 = 0" >/dev/null
after_error "a full scratch" "No space left on device"
sql -c "select t.cache_damage()" >/dev/null
after_error "a changed file" "tag"
is "times it was switched off" "$(cache switched_off)" 3

# The same by somebody else's hand, on the file of the running server; `put back` is an old state of the same places.
cat >"$WORK/harm.py" <<'P'
import sys
what, path, aside = sys.argv[1:4]
BLOCK, AREA = 8192, 64 << 20
with open(path, "r+b") as f:
    old = f.read(AREA)
    if what == "keep":
        open(aside, "wb").write(old)
        sys.exit()
    if what == "back":
        new = open(aside, "rb").read()
    elif what == "flip":  # one bit in the middle of each block
        new = bytearray(old)
        for at in range(BLOCK // 2, len(new), BLOCK):
            new[at] ^= 1
    else:  # each block to its neighbour's place
        new = old[BLOCK:] + old[:BLOCK]
    assert new != old
    f.seek(0)
    f.write(new)
P
harm() { python3 "$WORK/harm.py" "$1" "$file" "$WORK/aside" || fail "harm: $1"; }
harm flip
after_error "bits flipped in the file" "tag"
harm move
after_error "blocks in each other's places" "tag"
is "filled, to be put back" "$(scan)" 6000000
harm keep
sql -c "update a set v = v" -c "vacuum a" -c "select t.evict('a')" >/dev/null
is "written anew" "$(scan)" 6000000
harm back
after_error "the file put back from before" "tag"
is "times it was switched off then" "$(cache switched_off)" 6

# The key changes in the middle of a scan's fills.
sql -c "select t.cache_counter(4294967296 - 500)" -c "update a set v = v" -c "select t.evict('a')" >/dev/null
before=$(hits)
is "across a change of keys" "$(scan) $(scan)" "6000000 6000000"
[ "$(cache blocks_sealed)" -gt 4294967296 ] || fail "the counter did not get there"
[ $(($(hits) - before)) -gt 2000 ] || fail "only $(($(hits) - before)) hits across the change of keys"

# Updates, vacuum, truncation and databases while the size goes up and down.
cat >"$WORK/move.sql" <<'Q'
\set x random(1, 60000)
\set y random(1, 60000)
begin;
update a set v = v - 1, pad = repeat(md5(:x::text), 1 + :y % 12) where id = least(:x, :y);
update a set v = v + 1 where id = greatest(:x, :y);
commit;
Q
cat >"$WORK/again.sql" <<'Q'
begin; create table n:client_id (a int, t text); insert into n:client_id select g, repeat('n', 900) from generate_series(1, 200) g; commit;
select 1 / (count(*) = 200)::int from n:client_id;
truncate n:client_id;
insert into n:client_id select g, repeat('m', 900) from generate_series(1, 100) g;
select 1 / (count(*) = 100 and min(t) = repeat('m', 900))::int from n:client_id;
drop table n:client_id;
Q
pgbench -n -c 2 -T "${LOCH_TEST_SECONDS:-15}" -f "$WORK/move.sql@20" -f "$WORK/again.sql@1" "$URL" >"$WORK/pgbench.log" 2>&1 &
moving=$!
BACKGROUND+=("$moving")
rounds=0
while kill -0 "$moving" 2>/dev/null; do
    for mb in 0 4 64 1; do
        resize "$mb"
        is "a scan at $mb MB" "$(scan) $(sql -c "set enable_seqscan = off" -c "select sum(v) from a where id % 50 < 51")" "6000000 6000000"
        used_at_most $((mb << 20)) || fail "$(cache used_bytes) bytes are used of $mb MB"
    done
    sql -c "create database d" >/dev/null
    psql "${URL%/*}/d" -Xqc "create table x as select g from generate_series(1, 50000) g" -c "select 1 / (count(*) = 50000)::int from x" -o /dev/null || fail "a new database"
    sql -c "drop database d" >/dev/null
    rounds=$((rounds + 1))
done
wait "$moving" || fail "pgbench: $(tail -3 "$WORK/pgbench.log")"
[ "$rounds" -gt 0 ] || fail "no round was finished"
sql -c "select bt_index_check(c, true) from unnest('{a_pkey,a_v}'::regclass[]) c" -c "select * from verify_heapam('a')" >"$WORK/check.out" 2>&1
[ ! -s "$WORK/check.out" ] || fail "amcheck: $(cat "$WORK/check.out")"

# Larger than what was allowed for at the start.
sql -c "alter system set loch.cache_size = '1GB'" -c "select pg_reload_conf()" >/dev/null
limited() { grep -q 'loch.cache_size is limited to 256 MB' "$log"; }
wait_until 60 limited || fail "the log does not say that the size is limited"
sql -F ' ' -c "select name, value from loch.stats where name ~ 'cache|read_remote'"
note "passed"
