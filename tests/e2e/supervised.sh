#!/usr/bin/env bash
# docker/compute, which containers and service units run: a compute that ends is started again, one that cannot start and
# one that was fenced take no other down, and it ends in an orderly stop.
. "$(dirname "$0")/lib.sh"

up
export PATH=$BUILD/bin:$PATH
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g"
"$LOCH" branch create other >/dev/null || fail "branch create"
"$LOCH" compute start other --branch other >/dev/null || fail "compute start"
"$ROOT/docker/compute" >"$WORK/out" 2>&1 &
supervisor=$!
BACKGROUND+=("$supervisor")
wait_until 60 grep -q '^name' "$WORK/out" || fail "its first loch up does not end: $(cat "$WORK/out")"
main=$(daemon_pid compute-main)
other=$(daemon_pid compute-other)

kill -9 "$other"
again() { # COMPUTE AGENT: another one serves
    [ "$(daemon_pid "compute-$1")" != "$2" ] && [ "$(q 'SELECT count(*) FROM t' "$1" 2>/dev/null)" = 1000 ]
}
wait_until 60 again other "$other" || fail "a compute that was killed is not started again: $(cat "$WORK/out")"
dead "$main" && fail "with it the other compute was ended: $(cat "$WORK/out")"
note "one that ends is started again"

# One that cannot start: a setting that there is not. (What an operator wrote stays there.)
other=$(daemon_pid compute-other)
"$LOCH" branch create bad >/dev/null || fail "branch create"
"$LOCH" compute start bad --branch bad >/dev/null || fail "compute start"
bad=$(daemon_pid compute-bad)
printf '[compute]\nno_such_setting = 1\n' >>"$DIR/conf/compute-bad.ini"
kill -9 "$bad"
tried() { [ "$(grep -c 'warning: compute bad does not start' "$WORK/out")" -ge 2 ]; }
wait_until 90 tried || fail "a compute that cannot start is not tried again: $(cat "$WORK/out")"
dead "$main" && fail "one that cannot start has ended main: $(cat "$WORK/out")"
dead "$other" && fail "one that cannot start has ended another tenant's compute: $(cat "$WORK/out")"
dead "$supervisor" && fail "it has given up: $(cat "$WORK/out")"
sed -i '/no_such_setting/d' "$DIR/conf/compute-bad.ini"
wait_until 90 again bad "$bad" || fail "it is not started when it could be: $(cat "$WORK/out")"
note "one that cannot start is tried again, and keeps nobody down"

# One that was fenced.
"$LOCH" compute start second --branch main >/dev/null || fail "the second compute does not come up"
second=$(daemon_pid compute-second)
wait_until 20 dead "$main" || fail "the first compute still lives"
sleep 12 # two looks
[ "$(field main state)" = fenced ] || fail "the fenced compute is $(field main state)"
dead "$second" && fail "the second was fenced in turn: $(cat "$WORK/out")"
[ "$(q 'SELECT count(*) FROM t' second)" = 1000 ] || fail "rows"
note "one that was fenced stays down"

kill -TERM "$supervisor"
code=0
wait "$supervisor" || code=$?
[ "$code" = 0 ] || fail "an orderly stop ends with $code: $(cat "$WORK/out")"
for pid in "$second" "$(daemon_pid compute-other)" "$(daemon_pid compute-bad)"; do dead "$pid" || fail "process $pid still lives"; done
note "passed"
