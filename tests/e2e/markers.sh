#!/usr/bin/env bash
# Incompressible marked rows: no hit in any file below the cluster's directory, none on the wire; a planted
# control is found by the same search.
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
