#!/usr/bin/env bash
# A second compute on the same branch: the first is gone within a second, lost nothing it acknowledged,
# and does not come back, neither by itself nor by `loch up`, until somebody asks for it.
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

# Everything that is missing is started: not that one, whatever is left of what it said itself.
[ "$(field main state)" = fenced ] || fail "the fenced compute is $(field main state)"
serving=$(daemon_pid compute-second)
stays() { # HOW: the second's server is the same, and what was connected to it is so still
    "$LOCH" up >/dev/null 2>"$WORK/up" || fail "up $1: $(cat "$WORK/up")"
    gone || fail "up $1: the fenced compute came back"
    [ "$(daemon_pid compute-second)" = "$serving" ] && ! dead "$serving" || fail "up $1: the second was fenced in turn"
}
psql "$(url second)" -X -q -c "SELECT pg_sleep(600)" >"$WORK/connection" 2>&1 &
connection=$!
BACKGROUND+=("$connection")
stays "after the takeover"
rm -f "$(scratch)/compute-main/agent.json" # as after a restart of the machine
stays "without its state file"
dead "$connection" && fail "a connection was ended: $(cat "$WORK/connection")"
# As it is when the takeover's command was killed: then the compute's own account is what is heeded.
"$LOCH" compute start main >/dev/null 2>"$WORK/back" || fail "the fenced compute is not taken back: $(cat "$WORK/back")"
grep -q "compute main has taken over the branch of compute second" "$WORK/back" || fail "taking it back says: $(cat "$WORK/back")"
wait_until 20 dead "$serving" || fail "the second still lives"
python3 - "$DIR/computes/second.json" <<'PY'
import json, sys
with open(sys.argv[1]) as f:
    compute = json.load(f)
compute["wanted"] = True
compute.pop("fenced_agent", None)
with open(sys.argv[1], "w") as f:
    json.dump(compute, f)
PY
serving=$(daemon_pid compute-main)
"$LOCH" up >/dev/null 2>"$WORK/up" || fail "up: $(cat "$WORK/up")"
grep -q "compute second stays down: another compute has taken over its branch" "$WORK/up" || fail "up says: $(cat "$WORK/up")"
[ "$(daemon_pid compute-main)" = "$serving" ] && ! dead "$serving" || fail "up: the first was fenced in turn"
[ "$(field second state)" = fenced ] || fail "the second is $(field second state)"
note "passed"
