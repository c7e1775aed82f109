#!/usr/bin/env bash
# Rounds of kill -9 under the ledger's load: compute, one safekeeper or the pageserver, at random.
. "$(dirname "$0")/lib.sh"
ROUNDS=${1:-20}
SEED=${2:-$RANDOM}
RANDOM=$SEED
note "seed $SEED, $ROUNDS rounds"

up
mkdir "$WORK/ledger"
"$LEDGER" init --url "$(url)"
"$LEDGER" run --url "$(url)" --state "$WORK/ledger" --clients 8 --seconds 3600 --stop-file "$WORK/stop" \
    >"$WORK/run" 2>"$WORK/run.err" &
load=$!
BACKGROUND+=("$load")
acked() { { cat "$WORK"/ledger/client-* 2>/dev/null || true; } | wc -l; }
kills=""
slowest=0 # in ms: of a kill and the commands that start what was killed
for round in $(seq "$ROUNDS"); do
    before=$(acked)
    more() { [ "$(acked)" -ge $((before + 500)) ]; }
    wait_until 60 more || fail "round $round: fewer than 500 commits in 60 s after: $kills"
    kill -0 "$load" || fail "the load ended: $(cat "$WORK/run.err")"
    begun=$(date +%s%N)
    case $((RANDOM % 3)) in
    0)
        kills="compute"
        destroy_compute main
        "$LOCH" compute start main >/dev/null || fail "compute start"
        ;;
    1)
        kills="safekeeper-$((RANDOM % 3 + 1))"
        kill -9 "$(daemon_pid "$kills")"
        sleep 0.$((RANDOM % 10))
        up
        ;;
    2)
        kills="pageserver"
        kill -9 "$(daemon_pid pageserver)"
        sleep 0.$((RANDOM % 10))
        up
        ;;
    esac
    took=$((($(date +%s%N) - begun) / 1000000))
    [ "$took" -le "$slowest" ] || slowest=$took
    note "round $round: $kills killed after $(acked) acknowledged commits"
done
before=$(acked)
more() { [ "$(acked)" -ge $((before + 500)) ]; }
wait_until 60 more || fail "no progress after the last kill"
touch "$WORK/stop"
wait "$load"
ran=$(cat "$WORK/run")
note "load: $ran"
[ ! -s "$WORK/run.err" ] || cat "$WORK/run.err"
[ "$(json "$ran" errors)" -eq 0 ] || fail "queries failed"
[ "${ran##*longest_stall_ms\": }" != "$ran" ] && [ "$(json "$ran" longest_stall_ms)" -le $((10000 + slowest)) ] ||
    fail "a stall of 10 s beyond the $slowest ms that the slowest start took"
checked=$("$LEDGER" check --url "$(url)" --state "$WORK/ledger") || fail "ledger: $checked"
note "check: $checked"
destroy_compute main
"$LOCH" compute start main >/dev/null || fail "compute start"
checked=$("$LEDGER" check --url "$(url)" --state "$WORK/ledger") || fail "ledger after rebirth: $checked"
amcheck
note "passed"
