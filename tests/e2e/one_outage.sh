#!/usr/bin/env bash
# The KMS is away for one safekeeper only, longer than the grace: that one goes dark, the compute goes on with the other two.
# A compute whose agent is stopped: its backends check the lease themselves, and a worker ends the server.
# Away for two of three, the compute ends; back, it comes back.
. "$(dirname "$0")/lib.sh"

export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=3500ms LOCH_KMS_GRACE=500ms LOCH_KMS_SETTLE=200ms
up
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 100) g"
"$LOCH" compute stop main >/dev/null
"$LOCH" down >/dev/null 2>&1
for n in 2 3; do # each with a way of its own to the same CMK
    mkdir "$WORK/kms-$n"
    cp -p "$DIR/cmk.key" "$WORK/kms-$n/cmk.key"
    sed -i "s|file:$DIR/cmk.key|file:$WORK/kms-$n/cmk.key|" "$DIR/conf/safekeeper-$n.ini"
    grep -q "kms-$n" "$DIR/conf/safekeeper-$n.ini" || fail "the configuration of safekeeper $n"
done
up
"$LOCH" compute start main >/dev/null || fail "compute start"
lease() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch" -X -A -t -F '|' -c "SHOW LEASES" | cut -d'|' -f2; }
lease_is() { [ "$(lease "$1")" = "$2" ]; }
state_is() { [ "$(field main state)" = "$1" ]; }
grep -q "kms-3" "$DIR/conf/safekeeper-3.ini" || fail "up wrote the configuration anew"

boot=$(field main pgdata)
mv "$WORK/kms-3" "$WORK/away-3"
wait_until 20 lease_is 3 outage || fail "safekeeper 3 is $(lease 3)"
refused() { grep -q 'safekeeper 3 at .* is away' "$DIR/log/compute-main.log"; }
wait_until 20 refused || fail "safekeeper 3 still takes the compute"
for n in $(seq 20); do q "INSERT INTO t VALUES ($n + 1000)" || fail "a commit with two of three"; done
state_is running && [ "$(field main pgdata)" = "$boot" ] || fail "the compute was started anew: $(field main state), $(field main pgdata), not $boot"
lease_is 1 held && lease_is 2 held && lease_is 10 held || fail "others went with it"
note "one safekeeper without KMS: the compute goes on"

# The agent stopped (SIGSTOP): when the lease has run out a new backend starts no statement, and a moment later there is no server.
agent=$(daemon_pid compute-main)
url=$(url)
kill -STOP "$agent"
refuses() {
    local said
    said=$(timeout 5 psql "$url" -X -q -c "SELECT count(*) FROM t" 2>&1 || true)
    grep -qE "lease on the tenant's key has run out|Connection refused" <<<"$said"
}
wait_until 10 refuses || { kill -CONT "$agent"; fail "backends go on without their agent"; }
kill -CONT "$agent"
note "the agent stopped: nothing is answered"
wait_until 30 state_is running || fail "the compute does not go on: $(field main state)"
served() { q "SELECT 1" >/dev/null 2>&1; }
wait_until 30 served || fail "the compute does not answer again"

boot=$(field main pgdata)
mv "$WORK/kms-2" "$WORK/away-2"
wait_until 20 state_is outage || fail "without a quorum that may, the compute is $(field main state)"
[ ! -e "$boot" ] || wait_until 5 test ! -e "$boot" || fail "its files are still there"
mv "$WORK/away-2" "$WORK/kms-2"
mv "$WORK/away-3" "$WORK/kms-3"
wait_until 30 state_is running || fail "the compute does not come back: $(field main state)"
[ "$(q 'SELECT count(*) FROM t')" = 120 ] || fail "rows"
wait_until 20 lease_is 3 held || fail "safekeeper 3 does not come back"
note "passed"
