#!/usr/bin/env bash
# A whole safekeeper directory is put back from an older copy: it has forgotten what it acknowledged, and with the one
# that never had it would lose it. It is noticed, named and not served; `settle` makes a member of it again.
. "$(dirname "$0")/lib.sh"

export LOCH_SAFEKEEPER_WITNESS=1s
up
q "CREATE TABLE t (n int PRIMARY KEY)"
q "INSERT INTO t VALUES (0)"
witnessed() { # SAFEKEEPER: the beat that the store has seen of it
    local node
    node=$(sed -n 's/^node //p' "$DIR/safekeeper-$1/daemon.node")
    grep -a '^beat ' "$DIR/store/nodes/$node/witness" | cut -d' ' -f2
}
spare() { # SAFEKEEPER...: they cannot start until they are mended
    local n
    for n in "$@"; do mv "$DIR/safekeeper-$n/daemon.node" "$WORK/node-$n" && echo aside >"$DIR/safekeeper-$n/daemon.node"; done
}
mend() { local n; for n in "$@"; do mv "$WORK/node-$n" "$DIR/safekeeper-$n/daemon.node"; done; }
kill_safekeepers() { local n; for n in "$@"; do kill -9 "$(daemon_pid "safekeeper-$n")" && wait_gone "$(daemon_pid "safekeeper-$n")"; done; }
# What can be started is; the command goes on waiting for those that cannot, which nobody waits for here.
start_some() {
    "$LOCH" up >"$WORK/up" 2>&1 &
    waiting=$!
    BACKGROUND+=("$waiting")
}
started_some() { kill "$waiting" 2>/dev/null || true; wait "$waiting" 2>/dev/null || true; }
timelines() { psql -h "$DIR/run" -p $((PORT_BASE + $1)) -X -A -t -d loch -c 'SHOW TIMELINES'; }

# The copy; then what only 1 and 2 have, acknowledged; then 1 is put back, and 2 is away.
kill_safekeepers 1
cp -a "$DIR/safekeeper-1" "$WORK/copy"
up
before=$(witnessed 1)
kill_safekeepers 3
q "INSERT INTO t SELECT generate_series(1, 500)"
beaten() { [ "$(witnessed 1)" -gt "$before" ]; }
wait_until 60 beaten || fail "the store hears nothing of safekeeper-1's work: beat $before"
destroy_compute main
kill_safekeepers 1 2
mv "$DIR/safekeeper-1" "$WORK/newest" && cp -a "$WORK/copy" "$DIR/safekeeper-1"
spare 2
start_some
noticed() { grep -q "safekeeper-1 was put back from an older copy" "$DIR/log/safekeeper-1.log"; }
wait_until 30 noticed || fail "it is not noticed"
note "$(grep -o 'daemon.witness is of beat.*seen [0-9]*' "$DIR/log/safekeeper-1.log" | head -1)"
broken() { timelines 1 2>/dev/null | grep "broken.*put back from an older copy" >/dev/null; }
wait_until 30 broken || fail "the timeline is served: $(timelines 1)"
started_some
timeout 8 "$LOCH" compute start main >/dev/null 2>&1 && fail "a compute started on a safekeeper that forgot and one that never had it"
kill -9 "$(daemon_pid safekeeper-1)"; wait_gone "$(daemon_pid safekeeper-1)"
start_some
wait_until 30 broken || fail "a second start forgives: $(timelines 1)"
started_some

# With 2 again there is a quorum that knows.
mend 2
"$LOCH" up >/dev/null 2>&1 || true
"$LOCH" compute start main >/dev/null 2>&1 || true
answers() { [ "$(q "SELECT count(*) FROM t" 2>/dev/null)" = 501 ]; }
wait_until 90 answers || fail "rows: $(q "SELECT count(*) FROM t")"
"$LOCH" safekeeper settle >"$WORK/settle" 2>&1 || fail "settle: $(cat "$WORK/settle")"
whole() { [ "$(q "SELECT count(*) FROM loch.safekeepers WHERE state = 'streaming'")" = 3 ]; }
wait_until 60 whole || fail "the safekeeper does not join anew: $(q "SELECT * FROM loch.safekeepers")"
timelines 1 | sees broken && fail "still broken: $(timelines 1)"
q "INSERT INTO t VALUES (501)"
kill_safekeepers 1
up
timelines_active() { timelines 1 | sees active; }
wait_until 20 timelines_active || fail "the directory is not believed after it joined anew: $(timelines 1)"

# What is no putting back: the newest directory, though killed at any moment; an empty one.
for n in 1 2 3; do
    q "INSERT INTO t VALUES ($((600 + n)))"
    kill_safekeepers "$n"
    up
done
grep -l "was put back" "$DIR"/log/safekeeper-[23].log && fail "a crash was taken for a putting back"
"$LOCH" down >/dev/null 2>&1

# A stop leaves nothing unwitnessed: a copy of seconds before is noticed as well.
up
"$LOCH" compute start main >/dev/null 2>&1 || true
q "INSERT INTO t VALUES (700)"
kill_safekeepers 3
cp -a "$DIR/safekeeper-3" "$WORK/copy-3"
up
q "INSERT INTO t VALUES (701)"
"$LOCH" down >/dev/null 2>&1
rm -rf "$DIR/safekeeper-3" && cp -a "$WORK/copy-3" "$DIR/safekeeper-3"
"$LOCH" up >/dev/null 2>&1 || true
grep -q "safekeeper-3 was put back" "$DIR/log/safekeeper-3.log" || fail "a copy of before a stop is believed"
note "passed"
