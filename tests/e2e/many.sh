#!/usr/bin/env bash
# Many branches of one parent: what one costs at the pageserver, however many there are and however large the parent;
# and how soon a compute on a new one answers. Prints figures; fails on what must hold on any machine.
#   many.sh [BRANCHES=1000] [ROWS=200000]
. "$(dirname "$0")/lib.sh"
BRANCHES=${1:-1000}
ROWS=${2:-200000}
console() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch user=loch" -X -A -t -q; }
# Makes the branches named on stdin at $1, and tells the safekeepers of each hundred; prints the median and the 99th
# percentile of the milliseconds that CREATE BRANCH took at the pageserver.
create() { # TIP
    local i part
    rm -f "$WORK/part"* "$WORK/times"
    split -l 20 - "$WORK/part-"
    for part in "$WORK"/part-*; do
        { echo '\timing on'; sed "s/.*/CREATE BRANCH main & FROM main AT ${1//\//\\\/};/" "$part"; } | console 10 >"$WORK/made" || fail "CREATE BRANCH"
        awk -F'|' '/\|/ {printf "CREATE TIMELINE %s %s START %s PREV %s SYSID %s PGVERSION %s SEGMENT %s;\n", $1, $2, $4, $5, $6, $7, $8}' "$WORK/made" >"$WORK/timelines"
        for i in 1 2 3; do console "$i" <"$WORK/timelines" >/dev/null || fail "safekeeper $i"; done
        sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' "$WORK/made" >>"$WORK/times"
    done
    sort -n "$WORK/times" | awk '{t[NR] = $1} END {print t[int((NR + 1) / 2)], t[int(NR * 0.99) + (NR < 100)]}'
}
# What the disk makes of it: milliseconds of one fsync of 4 KiB.
fsync_ms() {
    python3 -c '
import os, sys, time
took = []
for _ in range(30):
    fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.write(fd, bytes(4096))
    begun = time.monotonic()
    os.fsync(fd)
    took.append(time.monotonic() - begun)
    os.close(fd)
print("%.2f" % (sorted(took)[15] * 1000))' "$DIR/probe"
}
tip() { "$LOCH" branch show main --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["last_record_lsn"])'; }
memory() { awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$(daemon_pid pageserver)/status"; }

up
small=$(seq 20 | sed 's/^/s-/' | create "$(tip)")
note "branching an empty database, ms (median, p99): $small"
q "CREATE TABLE t AS SELECT g AS n, repeat('x', 400) AS pad FROM generate_series(1, $ROWS) g; CHECKPOINT"
q "CREATE INDEX ON t (n)"
large=$(seq 20 | sed 's/^/l-/' | create "$(tip)")
note "branching $(q "SELECT pg_size_pretty(pg_database_size('postgres'))"), ms: $large"
before=$(memory)
many=$(seq "$BRANCHES" | sed 's/^/b-/' | create "$(tip)")
note "an fsync takes $(fsync_ms) ms"
note "$BRANCHES branches of one parent, ms each: $many; the pageserver grew by $((($(memory) - before) * 1024 / BRANCHES)) KiB a branch"
[ "$("$LOCH" branch list --json | grep -c '"parent": "main"')" = $((BRANCHES + 40)) ] || fail "not all are there"
# None is in the way of another: the parent goes on, one branch is dropped, one gets a compute.
q "INSERT INTO t VALUES (-1, 'parent')"
"$LOCH" branch delete b-7 || fail "delete"
times=()
for i in 1 2 3 4 5; do
    begun=$(date +%s%N)
    "$LOCH" branch create "c-$i" >/dev/null 2>&1 || fail "branch create"
    made=$(date +%s%N)
    "$LOCH" compute start "c-$i" --branch "c-$i" >/dev/null || fail "compute start"
    [ "$(q 'SELECT n FROM t WHERE n = -1' "c-$i")" = -1 ] || fail "an acknowledged row is missing in a branch at the tip"
    times+=("$(((made - begun) / 1000000))+$((($(date +%s%N) - made) / 1000000))")
    "$LOCH" compute stop "c-$i" --immediate >/dev/null 2>&1
done
note "branch create + compute start to first answer, ms: ${times[*]}"
note "passed"
