#!/usr/bin/env bash
# History is kept for a window and where branches and leases hold it; the rest is removed and layers are merged, while the
# table is updated and the pageserver is killed in the middle of it. What can be read is what was there; what cannot is
# refused with the reason.
. "$(dirname "$0")/lib.sh"

export LOCH_PAGESERVER_OPEN_LAYER=1MiB LOCH_LAYERS_COMPACT=3 LOCH_LAYERS_TARGET=256KiB LOCH_LAYERS_UPKEEP=100ms
export LOCH_HISTORY_TIME=0 LOCH_HISTORY_BYTES=0 LOCH_HISTORY_LEASE=10s
up
port=$(sed -n 's/^console = .*PGSQL\.//p' "$DIR/conf/pageserver.ini")
metrics=$(sed -n 's/^metrics = //p' "$DIR/conf/pageserver.ini")
console() { psql "host=$DIR/run port=$port dbname=loch" -X -A -t -q -v ON_ERROR_STOP=1 -c "$1"; }
metric() { curl -s "http://$metrics/metrics" | awk -v n="loch_pageserver_$1" '$1 == n {print $2}'; }
tenant=$(console "SHOW TENANTS" | head -1 | cut -d'|' -f1)
begins_at() { console "SHOW HISTORY" | awk -F'|' '$2 == "main" {print $3}'; }
newer() { [ "$(q "SELECT '$1'::pg_lsn > '$2'::pg_lsn")" = t ]; }

q "CREATE TABLE t (id int PRIMARY KEY, v int, pad text) WITH (fillfactor = 50)"
q "INSERT INTO t SELECT g, 0, repeat('p', 300) FROM generate_series(1, 3000) g"
round=0
work() { round=$((round + 1)); q "UPDATE t SET v = $round"; console "FLUSH $tenant main" >/dev/null; }
sum() { q "SELECT count(*), sum(v) FROM t" "${1:-main}"; }

work; work
at_branch=$(q "SELECT pg_current_wal_insert_lsn()"); sum_branch=$(sum)
"$LOCH" branch create kept --at "$at_branch" >/dev/null || fail "branch"
work
at_lease=$(q "SELECT pg_current_wal_insert_lsn()"); sum_lease=$(sum)
wait_until 30 console "LEASE $tenant main $at_lease FOR test" >/dev/null 2>&1 || fail "no lease: $(console "LEASE $tenant main $at_lease FOR test" 2>&1)"
(while console "LEASE $tenant main $at_lease FOR test" >/dev/null 2>&1 || sleep 0.2; do sleep 0.5; done) &
BACKGROUND+=($!)
work
at_nothing=$(q "SELECT pg_current_wal_insert_lsn()")

# Until the window has passed all three.
passed() { work; newer "$(begins_at)" "$at_nothing"; }
wait_until 90 passed || fail "history begins at $(begins_at), not behind $at_nothing"
note "history begins at $(begins_at); $(metric merges_total) merges, $(metric removed_bytes_total) bytes removed"
[[ $(console "SHOW HOLDS") == *'|test|'* ]] || fail "the lease is not shown: $(console 'SHOW HOLDS')"

said=$("$LOCH" branch create gone --at "$at_nothing" 2>&1) && fail "a branch where history is gone"
grep -q 'older than the history that is kept: it begins at .*, reached by' <<<"$said" || fail "the refusal: $said"
note "refused: $(tail -1 <<<"$said" | cut -c1-180)"
"$LOCH" branch create leased --at "$at_lease" >/dev/null || fail "a branch at a leased LSN"
for b in kept leased; do "$LOCH" compute start $b --branch $b >/dev/null || fail "compute on $b"; done
[ "$(sum kept)" = "$sum_branch" ] || fail "branch: $(sum kept) instead of $sum_branch"
[ "$(sum leased)" = "$sum_lease" ] || fail "leased: $(sum leased) instead of $sum_lease"

# kill -9 while it merges and collects.
merges=0
for _ in 1 2 3; do
    work; work
    kill -9 "$(daemon_pid pageserver)"
    "$LOCH" up >/dev/null || fail "up again"
    work
    merged() { merges=$(metric merges_total); [ "${merges:-0}" -gt 0 ]; }
    more() { work; merged; }
    wait_until 120 more || fail "no merge after a restart"
done
[ "$(sum)" = "3000|$((round * 3000))" ] || fail "rows of main: $(sum)"
[ "$(sum kept)" = "$sum_branch" ] || fail "branch in the end: $(sum kept)"
[ "$(sum leased)" = "$sum_lease" ] || fail "leased in the end: $(sum leased)"

# A compute that is born now reads nothing but layers.
before=$(console "SHOW HISTORY" | awk -F'|' '$2 == "main" {print $8 " layers, " $10 " bytes"}')
# It moves to a moment when something was flushed, noted every 10 s at most, once the leases of before the restart have run out.
compacted() { work; console "COMPACT $tenant main" >/dev/null && [ "$(metric removed_bytes_total)" -gt 0 ]; }
wait_until 120 compacted || fail "nothing was removed"
after=$(console "SHOW HISTORY" | awk -F'|' '$2 == "main" {print $8 " layers, " $10 " bytes"}')
console "SHOW LAYERS $tenant main" | awk -F'|' '{print $2}' | sort | uniq -c | tr '\n' ' '
note "COMPACT: $before became $after"
destroy_compute main
"$LOCH" compute start main >/dev/null || fail "rebirth"
[ "$(sum)" = "3000|$((round * 3000))" ] || fail "rows after the rebirth: $(sum)"
amcheck
# One page, changed many thousand times: no read applies more than the bound, whenever it was.
q "CREATE TABLE hot (n int) WITH (fillfactor = 10); INSERT INTO hot VALUES (0)"
q "DO 'BEGIN FOR i IN 1..20000 LOOP UPDATE hot SET n = n + 1; IF i % 500 = 0 THEN COMMIT; END IF; END LOOP; END'"
console "FLUSH $tenant main" >/dev/null
"$LOCH" branch create warm >/dev/null || fail "branch warm"
"$LOCH" compute start warm --branch warm >/dev/null || fail "compute on warm"
[ "$(q 'SELECT n FROM hot' warm)" = 20000 ] || fail "the hot row: $(q 'SELECT n FROM hot' warm)"
told() { [ "$(metric read_records_most)" -gt 0 ]; } # the gauge is set at each upkeep
wait_until 30 told || fail "no read applied a record"
most=$(metric read_records_most)
[ "$most" -gt 0 ] && [ "$most" -le 32 ] || fail "a read applied $most records"
note "the most that a read applied: $most records"
console "SET HISTORY $tenant TIME 3600 BYTES 1000000" >/dev/null || fail "SET HISTORY"
console "SHOW HISTORY" | grep '|3600|1000000|tenant|' >/dev/null || fail "SET HISTORY is not shown"
[ "$(metric upkeep_failures_total)" = 0 ] || fail "upkeep failed: $(console "SHOW HISTORY")"
# Nothing is left over, once the upkeep has come to rest.
tidy() {
    local named shown
    named=$(find "$DIR/pageserver" -name "*.layer" | wc -l)
    shown=$(for b in main kept leased warm; do console "SHOW LAYERS $tenant $b"; done | wc -l)
    [ "$named" = "$shown" ]
}
wait_until 30 tidy || fail "layer files that nobody uses"
note "passed"
