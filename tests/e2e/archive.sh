#!/usr/bin/env bash
# Committed WAL goes to the archive, once; the safekeepers trim what the pageserver has persisted; trimmed WAL is
# read again from the archive, by a branch at an old LSN and by a safekeeper that was away; damage there is named.
. "$(dirname "$0")/lib.sh"
DUMP=$BUILD/bin/loch-dump
SIDE=$((16 * 1024 * 1024))

console() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch user=loch" -X -A -t -q -v ON_ERROR_STOP=1 -c "$2"; }
timeline() { "$LOCH" branch list --json | python3 -c 'import json, sys; print(next(b for b in json.load(sys.stdin) if b["name"] == sys.argv[1])[sys.argv[2]])' "$1" "$2"; }
# column SAFEKEEPER NAME: of SHOW TIMELINES, for main's timeline.
column() {
    psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch user=loch" -X -A -q -v ON_ERROR_STOP=1 -c 'SHOW TIMELINES' |
        python3 -c '
import sys
rows = [l.rstrip("\n").split("|") for l in sys.stdin]
print(next(r for r in rows if r[1] == sys.argv[1])[rows[0].index(sys.argv[2])])' "$MAIN" "$2"
}
lsn() { python3 -c 'import sys; a, b = sys.argv[1].split("/"); print(int(a, 16) << 32 | int(b, 16))' "$1"; }
is_at() { [ "$(lsn "$(column "$1" "$2")")" -ge "$3" ]; }
metric() { curl -sf "http://127.0.0.1:$((PORT_BASE + 20 + $1))/metrics" | sed -n "s/^$2 //p"; }
shown() { # what a safekeeper's metrics say of main's timeline: equal to its SHOW TIMELINES, in the end
    local column number
    for column in flush commit persisted archived trimmed; do
        number=$(curl -sf "http://127.0.0.1:$((PORT_BASE + 20 + $1))/metrics" |
            sed -n "s/^loch_safekeeper_timeline_${column}_lsn{.*timeline=\"$MAIN\"} //p")
        [ -n "$number" ] && [ "$number" -eq "$(lsn "$(column "$1" "${column}_lsn")")" ] || return 1
    done
}
bulk() { q "INSERT INTO t SELECT g, repeat(md5(g::text), 9) FROM generate_series($1, $2) g"; }

up
q "CREATE TABLE t (n int, pad text)"
bulk 1 20000
q "CREATE TABLE early AS SELECT generate_series(1, 1000) AS n"
at=$(q "SELECT pg_current_wal_insert_lsn()")
MAIN=$(timeline main timeline)
TENANT=$(timeline main tenant)
begun=$(lsn "$(column 1 start_lsn)")
q "DELETE FROM early WHERE n > 10"
kill -9 "$(daemon_pid safekeeper-3)" # away while all of this is archived and trimmed
bulk 20001 250000
tip=$(lsn "$(q "SELECT pg_current_wal_insert_lsn()")")
whole=$((tip / SIDE * SIDE))
[ "$whole" -ge $((begun + 4 * SIDE)) ] || fail "too little WAL for this test"
for n in 1 2; do
    wait_until 120 is_at $n archived_lsn "$whole" || fail "safekeeper $n has archived up to $(column $n archived_lsn)"
done
trimmed=$(column 1 trimmed_lsn)
disk=$(psql "host=$DIR/run port=$((PORT_BASE + 10)) dbname=loch user=loch" -X -A -q -c 'SHOW TIMELINES' |
    python3 -c 'import sys; r = [l.rstrip("\n").split("|") for l in sys.stdin]; print(r[1][r[0].index("disk_consistent_lsn")])')
[ "$(lsn "$trimmed")" -le "$(lsn "$disk")" ] || fail "trimmed up to $trimmed, persisted only up to $disk"
caught_up # what is not ingested yet is not written
console 10 "FLUSH $TENANT $MAIN"
for n in 1 2; do
    wait_until 60 is_at $n trimmed_lsn $((whole - 2 * SIDE)) || fail "safekeeper $n has trimmed up to $(column $n trimmed_lsn)"
done
few_files() { [ "$(column 1 wal_bytes)" -le $((4 * SIDE)) ]; } # the trim point is durable before files go
wait_until 20 few_files || fail "$(column 1 wal_bytes) bytes of WAL are left"
note "$((tip - begun)) bytes of WAL: archived up to $(column 1 archived_lsn), trimmed up to $(column 1 trimmed_lsn), on disk $(column 1 wal_bytes)"

# Every piece once, each proven, one chain from the timeline's first byte.
WAL=$DIR/store/tenants/$TENANT/timelines/$MAIN/wal
for n in 1 2; do
    wait_until 20 shown "$n" || fail "safekeeper $n's metrics do not say what SHOW TIMELINES says"
done
put=$(($(metric 1 loch_safekeeper_archived_bytes_total) + $(metric 2 loch_safekeeper_archived_bytes_total)))
at_lsn=$begun
pieces=0
for f in "$WAL"/????????????????; do # under its own name: one more may be on its way
    out=$("$DUMP" "$f" --store "$DIR/store" --kms "file:$DIR/cmk.key" 2>&1) || fail "$f: $out"
    grep -q '^proven: the file' <<<"$out" || fail "$f is not proven: $out"
    read -r from to < <(sed -n 's/^wal: \([^ ]*\) to \([^ ,]*\),.*/\1 \2/p' <<<"$out")
    [ "$(lsn "$from")" -eq "$at_lsn" ] || fail "$f begins at $from"
    at_lsn=$(lsn "$to")
    pieces=$((pieces + 1))
done
[ "$at_lsn" -ge "$whole" ] || fail "the archive ends at $at_lsn"
[ "$put" -le $((at_lsn - begun)) ] || fail "$put bytes were put, but the archive holds $((at_lsn - begun))"
[ "$(du -sb "$WAL" | cut -f1)" -lt $(((at_lsn - begun) * 3 / 4)) ] || fail "the archive is not compressed"
note "$pieces pieces, each put once, each proven, one chain"

# The one that was away fetches from its peers what they have only in the archive.
up
wait_until 120 is_at 3 flush_lsn "$tip" || fail "safekeeper 3 stays at $(column 3 flush_lsn)"
read_back=$(($(metric 1 loch_safekeeper_archive_reads_total) + $(metric 2 loch_safekeeper_archive_reads_total)))
[ "$read_back" -gt 0 ] || fail "safekeeper 3 came back without the archive"
wait_until 60 is_at 3 trimmed_lsn $((whole - 2 * SIDE)) || fail "safekeeper 3 has not heard what is persisted: $(column 3 trimmed_lsn)"
note "a safekeeper that was away is back, by $read_back reads from the archive, and has trimmed too"

# A restart knows what it has trimmed.
trimmed=$(column 1 trimmed_lsn)
kill -9 "$(daemon_pid safekeeper-1)"
up
wait_until 60 is_at 1 trimmed_lsn "$(lsn "$trimmed")" || fail "safekeeper 1 is at $(column 1 trimmed_lsn)"
[ "$(column 1 state)" = active ] || fail "safekeeper 1 is $(column 1 state)"

# A branch at an LSN whose WAL is nowhere but in the archive.
[ "$(lsn "$at")" -lt "$(lsn "$trimmed")" ] || fail "the branch point is not in the archive"
"$LOCH" branch create old --at "$at" >/dev/null || fail "branch at an archived LSN"
"$LOCH" compute start old --branch old >/dev/null || fail "compute on the branch"
[ "$(q 'SELECT (SELECT count(*) FROM early), (SELECT count(*) FROM t)' old)" = "1000|20000" ] ||
    fail "rows on the branch: $(q 'SELECT (SELECT count(*) FROM early), (SELECT count(*) FROM t)' old)"
[ "$(q 'SELECT (SELECT count(*) FROM early), (SELECT count(*) FROM t)')" = "10|250000" ] || fail "rows on main"
note "a branch at $at, from the archive, shows that LSN's rows"

# A damaged piece is refused and named; the timeline goes on.
piece=$WAL/$(printf '%016x' $(($(lsn "$at") / SIDE * SIDE)))
python3 - "$piece" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(5000)
    b = f.read(1)
    f.seek(5000)
    f.write(bytes([b[0] ^ 1]))
PY
"$LOCH" branch create older --at "$at" >"$WORK/out" 2>&1 &
BACKGROUND+=($!)
named() { grep -q "archived WAL .*wal/${piece##*/}" "$DIR"/log/safekeeper-*.log; }
wait_until 30 named || fail "no safekeeper names the damaged piece"
"$LOCH" branch list | sees older && fail "a branch out of damaged WAL"
q "INSERT INTO early VALUES (-1)"
[ "$(column 1 state)$(column 2 state)$(column 3 state)" = activeactiveactive ] || fail "a damaged piece broke a timeline"

# A timeline that no safekeeper knows any more is asked for ever more seldom.
"$LOCH" compute stop main --immediate
refusals() { metric 1 loch_safekeeper_refused_total; }
before=$(refusals)
for n in 1 2 3; do console $n "DROP TIMELINE $TENANT $MAIN" >/dev/null; done
refused() { [ "$(refusals)" -ge $((before + 3)) ] && grep -q "this safekeeper has no such timeline" "$DIR/log/safekeeper-1.log"; }
wait_until 20 refused || fail "nobody asks for the dropped timeline"
first=$(refusals)
sleep 5 # the measured span
asked=$(($(refusals) - first))
[ "$asked" -le 30 ] || fail "the dropped timeline was asked for $asked times in 5 s"
note "a timeline that no safekeeper has is asked for $asked times in 5 s"
note "passed"
