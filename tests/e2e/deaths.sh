#!/usr/bin/env bash
# Rounds of kill -9 of several processes at once under the ledger's load: both others of a quorum, all
# safekeepers, the agent alone, the postmaster alone, everything; `loch up` at once after each.
. "$(dirname "$0")/lib.sh"
ROUNDS=${1:-14}
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
progress() {
    local before
    before=$(acked)
    more() { [ "$(acked)" -ge $((before + 200)) ]; }
    wait_until 60 more || fail "fewer than 200 commits in 60 s after: $1"
}
pids() { for p in "$@"; do daemon_pid "$p"; done; }
victims="nothing"
for round in $(seq "$ROUNDS"); do
    progress "$victims"
    case $((RANDOM % 7)) in
    0) victims="safekeeper-1 safekeeper-3" ;;
    1) victims="compute-main" ;;
    2) victims="postmaster" ;;
    3) victims="safekeeper-1 safekeeper-2 safekeeper-3" ;;
    4) victims="compute-main safekeeper-1 safekeeper-2 safekeeper-3 pageserver" ;;
    5) victims="compute-main safekeeper-2" ;;
    6) victims="compute-main pageserver" ;;
    esac
    if [ "$victims" = postmaster ]; then
        kill -9 "$(head -1 "$(field main pgdata)/postmaster.pid")"
    else
        # shellcheck disable=SC2046,SC2086
        kill -9 $(pids $victims)
    fi
    up
    note "round $round: $victims after $(acked) acknowledged commits"
done
progress "$victims"
touch "$WORK/stop"
wait "$load"
ran=$(cat "$WORK/run")
note "load: $ran"
[ "$(json "$ran" errors)" -eq 0 ] || fail "queries failed: $(cat "$WORK/run.err")"
checked=$("$LEDGER" check --url "$(url)" --state "$WORK/ledger") || fail "ledger: $checked"
note "check: $checked"
amcheck
note "passed"
