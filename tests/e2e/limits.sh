#!/usr/bin/env bash
# A branch whose WAL cannot leave the safekeepers is held at its limit: its writers wait, its user reads why, the
# other branch goes on; when the archive works again, so do the writers, and nothing is lost.
. "$(dirname "$0")/lib.sh"
MIB=$((1024 * 1024))
export LOCH_SAFEKEEPER_TIMELINE_LIMIT=96MiB LOCH_PAGESERVER_OPEN_LAYER=16MiB

detail() {
    psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch user=loch" -X -A -q -v ON_ERROR_STOP=1 -c 'SHOW TIMELINES' |
        python3 -c '
import sys
rows = [l.rstrip("\n").split("|") for l in sys.stdin]
print(next(r for r in rows if r[1] == sys.argv[1])[rows[0].index(sys.argv[2])])' "$2" "$3"
}
timeline() { "$LOCH" branch list --json | python3 -c 'import json, sys; print(next(b for b in json.load(sys.stdin) if b["name"] == sys.argv[1])[sys.argv[2]])' "$1" "$2"; }
held() { detail "$1" "$MAIN" detail | sees 'the limit is 96'; }
metric() { curl -sf "http://127.0.0.1:$((PORT_BASE + 20 + $1))/metrics" | sed -n "s/^$2 //p"; }

up
"$LOCH" branch create other >/dev/null || fail "branch create"
"$LOCH" compute start other --branch other >/dev/null || fail "compute on the branch"
q "CREATE TABLE t (n int, pad text)"
q "CREATE TABLE t (n int)" other
MAIN=$(timeline main timeline)
TENANT=$(timeline main tenant)
# A file where the archive's directory belongs: main's WAL cannot be archived.
: >"$DIR/store/tenants/$TENANT/timelines/$MAIN/wal"
for i in 1 2 3 4 5; do
    q "INSERT INTO t SELECT g, repeat(md5(g::text), 9) FROM generate_series(1, 100000) g" || exit 1
done >"$WORK/bulk" 2>&1 &
bulk=$!
BACKGROUND+=($bulk)
wait_until 120 held 1 || fail "safekeeper 1 does not hold main: $(detail 1 "$MAIN" detail)"
wait_until 30 held 2 || wait_until 30 held 3 || fail "only one safekeeper holds main"
counted() { [ "$(metric 1 loch_safekeeper_timelines_held)" = 1 ]; } # the gauge is set once a second
wait_until 20 counted || fail "timelines_held: $(metric 1 loch_safekeeper_timelines_held)"
told() { grep -q 'safekeeper .* is away: it says: .*the limit is 96' "$DIR/log/compute-main.log"; }
wait_until 60 told || fail "the compute's log does not say why its writers wait"
note "held: $(detail 1 "$MAIN" detail)"
seq 200 | sed 's/.*/INSERT INTO t VALUES (&);/' | timeout 120 psql "$(url other)" -X -q -v ON_ERROR_STOP=1 || fail "the other branch's writers"
[ "$(q 'SELECT count(*) FROM t' other)" = 200 ] || fail "the other branch"
kill -0 $bulk 2>/dev/null || fail "main's writer did not wait"
for n in 1 2 3; do
    bytes=$(detail $n "$MAIN" wal_bytes)
    [ "$bytes" -lt $((160 * MIB)) ] || fail "safekeeper $n went on to $bytes bytes"
done
note "the other branch made 200 commits meanwhile"

rm "$DIR/store/tenants/$TENANT/timelines/$MAIN/wal"
wait_until 240 dead $bulk || fail "main's writer still waits: $(detail 1 "$MAIN" detail)"
wait $bulk || fail "main's writer failed: $(tail -3 "$WORK/bulk")"
[ "$(q 'SELECT count(*) FROM t')" = 500000 ] || fail "rows: $(q 'SELECT count(*) FROM t')"
released() { ! held 1 && ! held 2 && ! held 3; }
wait_until 60 released || fail "still held: $(detail 1 "$MAIN" detail)"
note "passed"
