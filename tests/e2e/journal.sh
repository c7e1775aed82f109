#!/usr/bin/env bash
# Five branches write at the same time, so that their small appends share the safekeepers' journals; one safekeeper, and
# then all three, are killed -9 meanwhile. A journal's contents are put in place at the start, and every row that was
# acknowledged is there. At last a journal that is missing: that safekeeper refuses to start, and says why.
. "$(dirname "$0")/lib.sh"

# It would rest while records take long: on a busy machine it does, and then nothing is tested.
export LOCH_SAFEKEEPER_JOURNAL=on LOCH_SAFEKEEPER_JOURNAL_SLOW_US=60000000
BRANCHES="main b1 b2 b3 b4"

up
for b in b1 b2 b3 b4; do
    "$LOCH" branch create "$b" >/dev/null || fail "branch create $b"
    "$LOCH" compute start "$b" --branch "$b" >/dev/null || fail "compute start $b"
done
echo "INSERT INTO t VALUES (:client_id)" >"$WORK/insert.sql"
for b in $BRANCHES; do
    ready() { q "SELECT 1" "$b" >/dev/null 2>&1; }
    wait_until 30 ready || fail "$b does not answer"
    q "CREATE TABLE t (n int)" "$b"
done

loads=()
for b in $BRANCHES; do
    pgbench -n -f "$WORK/insert.sql" -c 4 -T 3600 "$(url "$b")" >"$WORK/load-$b" 2>&1 &
    loads+=("$!")
done
BACKGROUND+=("${loads[@]}")
# Kill when a journal is in use.
used() { grep -q "share a journal" "$DIR"/log/safekeeper-*.log; }
wait_until 60 used || fail "no safekeeper has begun a journal"
held() { grep -hoE 'the journal held [0-9]+' "$DIR"/log/safekeeper-*.log | awk '{ n += $4 } END { print n + 0 }'; }
rounds=0
while [ "$(held)" -eq 0 ] || [ "$rounds" -lt 2 ]; do
    [ "$rounds" -lt 8 ] || fail "no journal held anything"
    names=safekeeper-1
    [ $((rounds % 2)) -eq 0 ] || names="safekeeper-1 safekeeper-2 safekeeper-3"
    before=$(grep -c "share a journal" "$DIR/log/safekeeper-1.log" || true)
    for name in $names; do kill -9 "$(daemon_pid "$name")"; done
    up
    rounds=$((rounds + 1))
    again() { [ "$(grep -c "share a journal" "$DIR/log/safekeeper-1.log")" -gt "$before" ]; }
    wait_until 60 again || fail "the journal is not used again"
done
# A load ends when its table has another name, and says how much was acknowledged.
for b in $BRANCHES; do q "ALTER TABLE t RENAME TO u" "$b"; done
for pid in "${loads[@]}"; do wait "$pid" || true; done
for b in $BRANCHES; do
    others=$(grep error "$WORK/load-$b" | grep -v -e 'relation "t" does not exist' -e 'Run was aborted' || true)
    [ -z "$others" ] || fail "$b: a load ended with an error: $others"
done
note "$rounds rounds, the journals held $(held) appends"
for b in $BRANCHES; do
    acked=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$WORK/load-$b")
    rows=$(q "SELECT count(*) FROM u" "$b")
    note "$b: $acked acknowledged, $rows there"
    [ "$rows" -ge "$acked" ] && [ "$rows" -le $((acked + 4)) ] || fail "$b: $acked acknowledged, $rows there"
done

# Without its journal a safekeeper has lost what it acknowledged.
kill -9 "$(daemon_pid safekeeper-2)"
wait_gone "$(daemon_pid safekeeper-2)"
if grep -q '^journal ' "$DIR/safekeeper-2/daemon.node"; then
    mv "$DIR/safekeeper-2/journal" "$WORK/journal"
    "$LOCH" up --port-base "$PORT_BASE" >"$WORK/up" 2>&1 || true
    grep -q "journal is missing" "$DIR/log/safekeeper-2.log" || fail "started without its journal: $(cat "$WORK/up")"
    mv "$WORK/journal" "$DIR/safekeeper-2/journal"
fi
up
q "SELECT 1" >/dev/null || fail "the branch does not answer in the end"
note "passed"
