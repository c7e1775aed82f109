#!/usr/bin/env bash
# A second compute on the same branch: the first is gone within a second, lost nothing it acknowledged,
# and does not come back.
. "$(dirname "$0")/lib.sh"

up
mkdir "$WORK/ledger"
"$LEDGER" init --url "$(url)"
first_url=$(url)
agent=$(daemon_pid compute-main)
postmaster=$(head -1 "$(field main pgdata)/postmaster.pid")
"$LEDGER" run --url "$first_url" --state "$WORK/ledger" --clients 8 --seconds 600 --stop-file "$WORK/stop" >"$WORK/run" &
load=$!
BACKGROUND+=("$load")
busy() { [ "$(cat "$WORK"/ledger/client-* 2>/dev/null | wc -l)" -ge 500 ]; }
wait_until 60 busy || fail "no load"
watch_machine
"$LOCH" compute start second --branch main >/dev/null &
second=$!
# From the election of the second on, the first may live for one second.
elected() { grep -q . "$(scratch)/compute-second/agent.json" 2>/dev/null; }
wait_until 60 elected || fail "the second compute does not start"
wait "$second" || fail "the second compute does not come up"
begun=$(date +%s%N)
gone() { dead "$agent" && dead "$postmaster"; }
wait_until 60 gone || fail "the first compute still lives"
took=$((($(date +%s%N) - begun) / 1000000))
note "the first was gone at most $took ms after the second answered; the machine's longest pause: $(pause_ms) ms"
[ "$took" -le $((1000 + $(pause_ms))) ] || fail "it took more than a second"
touch "$WORK/stop"
wait "$load"
note "load: $(cat "$WORK/run")"
checked=$("$LEDGER" check --url "$(url second)" --state "$WORK/ledger") || fail "ledger: $checked"
note "check: $checked"
sleep 1
gone || fail "the fenced compute came back"
[ "$(q 'SELECT count(*) > 0 FROM transfers' second)" = t ] || fail "the second does not serve"
note "passed"
