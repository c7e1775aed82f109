#!/usr/bin/env bash
# Ledger load, the whole compute killed and erased, reborn from storage: nothing acknowledged is missing;
# ten rebirths timed.
#   rebirth.sh [SECONDS_OF_LOAD=20] [LIMIT_MS=1000]
. "$(dirname "$0")/lib.sh"
SECONDS_OF_LOAD=${1:-20}
LIMIT_MS=${2:-1000}

up
mkdir "$WORK/ledger"
"$LEDGER" init --url "$(url)"
acked() { { cat "$WORK"/ledger/client-* 2>/dev/null || true; } | wc -l; }
at_least() { [ "$(acked)" -ge "$1" ]; }
"$LEDGER" run --url "$(url)" --state "$WORK/ledger" --clients 8 --seconds 3600 --stop-file "$WORK/stop" >"$WORK/run" &
load=$!
BACKGROUND+=("$load")
begun=$SECONDS
wait_until 150 at_least 500 || fail "hardly any progress"
enough() { [ $((SECONDS - begun)) -ge "$SECONDS_OF_LOAD" ]; }
wait_until $((SECONDS_OF_LOAD + 1)) enough || true
touch "$WORK/stop"
wait "$load"
ran=$(cat "$WORK/run")
note "load: $ran"
[ "$(json "$ran" errors)" -eq 0 ] || fail "queries failed"

# Killed while it works, not at rest.
rm "$WORK/stop"
"$LEDGER" run --url "$(url)" --state "$WORK/ledger" --clients 8 --seconds 3600 --stop-file "$WORK/stop" >"$WORK/run2" &
load=$!
BACKGROUND+=("$load")
wait_until 60 at_least $(($(acked) + 100)) || fail "it does not go on"
destroy_compute main
"$LOCH" compute start main >/dev/null || fail "compute start after kill -9"
touch "$WORK/stop"
wait "$load"
note "load across the kill: $(cat "$WORK/run2")"
checked=$("$LEDGER" check --url "$(url)" --state "$WORK/ledger") || fail "ledger: $checked"
note "check: $checked"
amcheck

# A setting is safe when ALTER SYSTEM has returned, also while the pageserver is away; an edit before a stop is kept.
for mb in 11 12 13; do
    [ "$mb" != 13 ] || kill -9 "$(daemon_pid pageserver)"
    q "ALTER SYSTEM SET work_mem = '${mb}MB'"
    destroy_compute main
    [ "$mb" != 13 ] || up
    "$LOCH" compute start main >/dev/null || fail "compute start"
    [ "$(q 'SHOW work_mem')" = "${mb}MB" ] || fail "ALTER SYSTEM was lost: work_mem is $(q 'SHOW work_mem'), not ${mb}MB"
done
printf 'host all nobody 192.0.2.1/32 reject\n' >>"$(field main pgdata)/pg_hba.conf"
"$LOCH" compute stop main >/dev/null || fail "clean stop"
"$LOCH" compute start main >/dev/null || fail "start after an edit"
[ "$(q "SELECT count(*) FROM pg_hba_file_rules WHERE user_name = '{nobody}'")" = 1 ] || fail "an edit of pg_hba.conf was lost"

times=()
for _ in $(seq 10); do
    destroy_compute main
    begun=$(date +%s%N)
    "$LOCH" compute start main >/dev/null || fail "rebirth"
    [ "$(q 'SELECT 1')" = 1 ] || fail "SELECT 1"
    times+=($((($(date +%s%N) - begun) / 1000000)))
done
median=$(printf '%s\n' "${times[@]}" | sort -n | sed -n 6p)
note "rebirths, command to first SELECT, ms: ${times[*]}; median $median"
[ "$median" -le "$LIMIT_MS" ] || fail "median rebirth above $LIMIT_MS ms"
checked=$("$LEDGER" check --url "$(url)" --state "$WORK/ledger") || fail "ledger: $checked"
"$LOCH" compute stop main || fail "clean stop"
"$LOCH" compute start main >/dev/null || fail "start after a clean stop"
checked=$("$LEDGER" check --url "$(url)" --state "$WORK/ledger") || fail "ledger: $checked"
note "passed"
