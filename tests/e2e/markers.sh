#!/usr/bin/env bash
# Incompressible marked rows, sorts and temporary tables that spill, literals in statements: no hit in any file below
# the cluster's directory, none on the wire, none in what core files of all processes would hold; planted controls are
# found by the same searches. (The scratch's raw image: scratch.sh.)
. "$(dirname "$0")/lib.sh"

marker=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
up
capture=$WORK/capture.pcap
tcpdump -i lo -s 0 -U -w "$capture" "portrange $((PORT_BASE + 1))-$((PORT_BASE + 10))" 2>"$WORK/tcpdump.err" &
dump=$!
BACKGROUND+=("$dump")
listening() { grep -q 'listening on' "$WORK/tcpdump.err"; }
wait_until 10 listening || fail "tcpdump does not start: $(cat "$WORK/tcpdump.err")"
# 24 hex digits of noise around each marker: nothing to compress away.
q "CREATE TABLE secret AS SELECT g, md5(random()::text) || '$marker' || md5(random()::text) AS note FROM generate_series(1, 20000) g"
q "CREATE INDEX ON secret (note)"
q "CHECKPOINT"
destroy_compute main
"$LOCH" compute start main >/dev/null || fail "compute start"
[ "$(q "SELECT count(*) FROM secret WHERE note LIKE '%$marker%'")" = 20000 ] || fail "rows lost"
# While a backend sorts them to disk: what cores would hold, of every process of the cluster.
cat >"$WORK/sort.sql" <<SQL
SET work_mem = '64kB'; SET temp_buffers = '800kB';
CREATE TEMP TABLE tt AS SELECT * FROM secret;
UPDATE secret SET note = note || '$marker' WHERE g % 3 = 0;
DECLARE c CURSOR WITH HOLD FOR SELECT * FROM tt ORDER BY md5(note);
SELECT count(*) FROM secret WHERE note LIKE '%$marker%'; \\echo sorted
SELECT pg_sleep(120);
SQL
: >"$WORK/sorted"
psql "$(url)" -X -q -f "$WORK/sort.sql" >"$WORK/sorted" 2>&1 &
BACKGROUND+=($!)
sorted() { grep -q sorted "$WORK/sorted"; }
wait_until 60 sorted || fail "the sort: $(cat "$WORK/sorted")"
[ -n "$(find "$(field main pgdata)/base/pgsql_tmp" -type f)" ] || fail "nothing was spilled"
workers=$(pgrep -P "$(daemon_pid pageserver)" || true)
# shellcheck disable=SC2046,SC2086
set -- $(daemon_pid safekeeper-1) $(daemon_pid safekeeper-2) $(daemon_pid safekeeper-3) $(daemon_pid pageserver) $(compute_pids main) $workers
python3 "$ROOT/tests/e2e/cores.py" --all "$marker" "$@" >"$WORK/memory" && fail "no mark in any memory: the search is blind"
grep -q '^loch-pageserver.* [1-9][0-9]* hits' "$WORK/memory" && grep -q '^postgres.* [1-9][0-9]* hits' "$WORK/memory" ||
    fail "the search does not find what must be there: $(cat "$WORK/memory")"
found=$(python3 "$ROOT/tests/e2e/cores.py" "$marker" "$@") || fail "cores would hold marked rows: $found"
note "cores of $# processes: no hit ($(awk '{s += $(NF-1)} END {print s}' <<<"$found") KiB; all of their memory: $(awk '{s += $3} END {print s}' "$WORK/memory") hits)"
printf 'import sys, time\nkept = bytearray(b"%s")\nprint("ready", flush=True)\ntime.sleep(60)\n' "$marker" >"$WORK/holder.py"
python3 "$WORK/holder.py" >"$WORK/held" &
holder=$!
BACKGROUND+=("$holder")
holds() { grep -q ready "$WORK/held"; }
wait_until 10 holds || fail "the control does not start"
python3 "$ROOT/tests/e2e/cores.py" "$marker" "$holder" >/dev/null && fail "the planted core is not found: the search is blind"
"$LOCH" compute stop main
"$LOCH" down >/dev/null 2>&1 || fail "down"
kill "$dump" && wait "$dump" || true
[ "$(stat -c %s "$capture")" -gt 1000000 ] || fail "the capture is too small to mean anything"
hits() { grep -rlaF "$marker" "$@" 2>/dev/null || true; }
cp "$capture" "$WORK/control"
printf '%s' "$marker" >>"$WORK/control"
[ -n "$(hits "$WORK/control")" ] || fail "the planted control is not found: the search is blind"
found=$(hits "$DIR")
[ -z "$found" ] || fail "the marker lies in clear in: $found"
[ -z "$(hits "$capture")" ] || fail "the marker went over the wire in clear"
note "searched $(du -sb "$DIR" | cut -f1) bytes of files and $(stat -c %s "$capture") bytes of capture: no hit"
note "passed"
