#!/usr/bin/env bash
# "At time T" is what recovery_target_time means: for many points in time the LSN that Loch finds is compared with what
# pg_waldump says of the very WAL; at some a stock server recovers that WAL from a FULL base of the pageserver, and its
# rows are compared with those of a branch.
#   moments.sh [POINTS=150]
. "$(dirname "$0")/lib.sh"
POINTS=${1:-150}
PG=/usr/lib/postgresql/15/bin
AS=()
[ "$(id -u)" != 0 ] || AS=(setpriv --reuid=postgres --regid=postgres --clear-groups)
STOCK_PORT=$((PORT_BASE + 98))
STOCK=$WORK/stock

stop_stock() { [ ! -d "$STOCK" ] || "${AS[@]}" "$PG/pg_ctl" -D "$STOCK" -m immediate -w stop >/dev/null 2>&1 || true; }
trap 'code=$?; set +e; stop_stock; (exit "$code"); cleanup' EXIT

console() { psql "host=$DIR/run port=$((PORT_BASE + 10)) dbname=loch user=loch" -X -A -t -q -c "$1"; }
field_of() { "$LOCH" branch show "${2:-main}" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0][sys.argv[1]])' "$1"; }
lsn_at() { "$LOCH" branch lsn "${2:-main}" --at "$1" --json | python3 -c 'import json, sys; r = json.load(sys.stdin)[0]; print(r["lsn"], r["next_time"])'; }

up
q "CREATE TABLE t (n bigserial, client int, at timestamptz DEFAULT clock_timestamp())"
q "CHECKPOINT"
"$LOCH" compute stop main >/dev/null || fail "compute stop"
lsn_at "$(date -u +%FT%T.%6NZ)" >/dev/null || fail "no tip" # nothing is later than now: it waits until all is ingested
tip() { [ "$(field_of last_record_lsn)" = "$base_lsn" ]; }
base_lsn=$(field_of last_record_lsn)
wait_until 20 tip || fail "the tip moves without a compute"
mkdir -m 755 "$WORK/wal"
mkdir -m 700 "$WORK/base"
chmod 711 "$WORK"
[ "$(id -u)" != 0 ] || chown postgres "$WORK/base" "$WORK/wal"
console "ISSUE CREDENTIAL main main 00000000000000000000000000000077" >"$WORK/credential"
"$BUILD/bin/full_base" "$base_lsn" "$(field_of term)" "$WORK/base" 3<"$WORK/credential" || fail "FULL base"
rm "$WORK/credential"
"$LOCH" compute start main --set wal_keep_size=2GB,max_wal_size=4GB,autovacuum=off >/dev/null || fail "compute start"

# Commits and aborts of many sessions: their times go back and forth in WAL order.
cat >"$WORK/load.sql" <<'SQL'
\set what random(1, 4)
BEGIN;
INSERT INTO t (client) VALUES (:client_id);
\if :what < 4
COMMIT;
\else
ROLLBACK;
\endif
SQL
"$PG/pgbench" -n -f "$WORK/load.sql" -c 24 -j 2 -t 40 "$(url)" >"$WORK/bench" 2>&1 || { cat "$WORK/bench"; fail "pgbench"; }
q "SELECT pg_sleep(1.2)" >/dev/null
q "BEGIN; INSERT INTO t (client) VALUES (-1); ROLLBACK" # an abort alone in its second
q "SELECT pg_sleep(1.2)" >/dev/null
"$PG/pgbench" -n -f "$WORK/load.sql" -c 24 -j 2 -t 20 "$(url)" >"$WORK/bench" 2>&1 || { cat "$WORK/bench"; fail "pgbench"; }
mid_lsn=$(q "SELECT pg_current_wal_insert_lsn()")
"$LOCH" branch create fork --at "$mid_lsn" >/dev/null || fail "branch"
q "INSERT INTO t (client) VALUES (-2)"
q "SELECT pg_switch_wal()" >/dev/null
q "INSERT INTO t (client) VALUES (-3)"

# Every end of a transaction in WAL order, by PostgreSQL's own reader.
last=$(q "SELECT pg_current_wal_flush_lsn()")
cp "$(field main pgdata)"/pg_wal/0000* "$WORK/wal/"
TZ=UTC "$PG/pg_waldump" -p "$WORK/wal" -s "$base_lsn" -e "$last" >"$WORK/dump" 2>"$WORK/dump.err" || true
cat >"$WORK/expect.py" <<'PY'
"""expect.py DUMP: lines 'T LSN NEXT', the boundary before the first end of a transaction later than T."""
import random, re, sys
from datetime import datetime, timedelta, timezone
ends, SEG, PAGE = [], 16 << 20, 8192
for line in open(sys.argv[1]):
    m = re.search(r"rmgr: Transaction .* lsn: ([0-9A-F]+)/([0-9A-F]+), .*desc: (?:COMMIT|ABORT)\S* (\d{4}-\S+ \d\d:\d\d:\d\d(?:\.\d+)?) UTC", line)
    if not m:
        continue
    start = int(m[1], 16) << 32 | int(m[2], 16)
    header = 40 if start % SEG == 40 else 24 if start % PAGE == 24 else 0
    when = datetime.fromisoformat(m[3].ljust(26, "0") if "." in m[3] else m[3]).replace(tzinfo=timezone.utc)
    ends.append((start - header, when))
backwards = sum(b[1] < a[1] for a, b in zip(ends, ends[1:]))
print(f"{len(ends)} ends of transactions, {backwards} go back in time", file=sys.stderr)
if len(ends) < 800:
    sys.exit("the load does not show what it should")
random.seed(int(sys.argv[2]))
us = timedelta(microseconds=1)
points = [ends[i][1] + d for i in random.sample(range(len(ends)), int(sys.argv[2]) // 3) for d in (-us, 0 * us, us)]
points += [ends[0][1] - us, ends[-1][1] - us]
points += [ends[0][1].replace(microsecond=0) + timedelta(seconds=s) for s in range(1, 4)]
for p in points:
    later = next(((lsn, when) for lsn, when in ends if when > p), None)
    if later:
        print(p.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "%X/%X" % (later[0] >> 32, later[0] & 0xffffffff), later[1].strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
PY
python3 "$WORK/expect.py" "$WORK/dump" "$POINTS" >"$WORK/points" || fail "expectations"
n=0
while read -r t want next; do
    got=$(lsn_at "$t") || fail "branch lsn --at $t"
    [ "$got" = "$want $next" ] || fail "at $t: found $got, recovery would stop at $want before $next"
    n=$((n + 1))
done <"$WORK/points"
note "$n points in time agree with PostgreSQL's own reading of the WAL"
[ "$n" -ge $((POINTS / 2)) ] || fail "hardly any points"

# The same through a branch of a branch's own history, its parent's and the border between them.
"$LOCH" compute start fork --branch fork >/dev/null || fail "compute on the branch"
q "INSERT INTO t (client) VALUES (-4)" fork
read -r t want next <<<"$(sed -n 5p "$WORK/points")"
[ "$(lsn_at "$t" fork)" = "$want $next" ] || fail "a moment of the parent's, asked of the branch"
forked=$(q "SELECT to_char((SELECT at FROM t WHERE client = -4) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')" fork)
read -r got next <<<"$(lsn_at "$forked" fork)"
[[ $next > $forked || $next = None ]] || fail "in the branch, before its row: $got $next"
"$LOCH" branch create both --from fork --at "$forked" >/dev/null || fail "branch of a branch at a time"
"$LOCH" compute start both --branch both >/dev/null || fail "compute on it"
[ "$(q "SELECT count(*) FILTER (WHERE client = -4), count(*) FILTER (WHERE client = -2) FROM t" both)" = "0|0" ] || fail "rows later than the moment"

# A stock server recovers the same WAL to the same time.
sum="SELECT count(*), sum(n), sum(hashtext(t::text)) FROM t"
for line in 7 "$((n / 2))" "$((n - 4))"; do
    read -r t want next <<<"$(sed -n "${line}p" "$WORK/points")"
    stop_stock
    rm -rf "$STOCK"
    cp -a "$WORK/base" "$STOCK"
    touch "$STOCK/recovery.signal"
    cat >>"$STOCK/postgresql.auto.conf" <<CONF
restore_command = 'cp $WORK/wal/%f %p'
recovery_target_time = '$(tr T ' ' <<<"${t%Z}")+00'
recovery_target_action = 'promote'
CONF
    chmod -R a+r "$WORK/wal"
    printf 'local all all trust\n' >"$STOCK/pg_hba.conf"
    [ "$(id -u)" != 0 ] || chown -R postgres "$STOCK"
    "${AS[@]}" "$PG/pg_ctl" -D "$STOCK" -w -t 60 -l "$STOCK/log" -o "-p $STOCK_PORT -k $STOCK -c listen_addresses='' -c fsync=off" start >/dev/null ||
        { tail -20 "$STOCK/log"; fail "stock recovery"; }
    promoted() { [ "$(psql -X -A -t -q -h "$STOCK" -p "$STOCK_PORT" -U postgres -d postgres -c 'SELECT pg_is_in_recovery()' 2>/dev/null)" = f ]; }
    wait_until 60 promoted || fail "the stock server does not promote"
    grep -o 'recovery stopping before .*' "$STOCK/log" | tail -1
    stock=$(psql -X -A -t -q -h "$STOCK" -p "$STOCK_PORT" -U postgres -d postgres -c "$sum")
    "$LOCH" branch create "at-$line" --at "$t" >/dev/null || fail "branch at $t"
    "$LOCH" compute start "at-$line" --branch "at-$line" >/dev/null || fail "compute at $t"
    ours=$(q "$sum" "at-$line")
    [ "$stock" = "$ours" ] || fail "at $t: stock has $stock, the branch $ours"
    "$LOCH" compute stop "at-$line" >/dev/null
    note "at $t: $ours, as stock recovery"
done

# What cannot be meant is said.
"$LOCH" branch lsn main --at 2999-01-01T00:00:00Z 2>"$WORK/err" && fail "the future was found"
grep -q "lies in the future" "$WORK/err" || fail "the future: $(cat "$WORK/err")"
"$LOCH" branch lsn main --at 2001-01-01 2>"$WORK/err" && fail "the time before the history was found"
grep -q "before the history" "$WORK/err" || fail "too early: $(cat "$WORK/err")"
"$LOCH" branch create x --at tomorrow 2>"$WORK/err" && fail "tomorrow was parsed"
grep -q "is not a time" "$WORK/err" || fail "no time: $(cat "$WORK/err")"
# Now: nothing later, so the tip; and the time of an LSN lies within a second below.
read -r got next <<<"$(lsn_at "$(date -u +%FT%T.%6NZ)")"
[ "$next" = None ] || fail "something is later than now: $got $next"
"$LOCH" branch time main --at "$want" --json >"$WORK/time" || fail "branch time"
python3 - "$WORK/time" "$next" "$t" <<'PY' || fail "branch time: $(cat "$WORK/time")"
import json, sys
row = json.load(open(sys.argv[1]))[0]
assert row["time"][:10] == sys.argv[3][:10] and row["time"] <= sys.argv[3], row
PY
kill -9 "$(daemon_pid pageserver)"
up
read -r t want next <<<"$(sed -n 9p "$WORK/points")"
[ "$(lsn_at "$t")" = "$want $next" ] || fail "another answer after a crash of the pageserver"
note "passed"
