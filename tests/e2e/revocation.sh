#!/usr/bin/env bash
# Two tenants under load, one with a CMK of its own that is taken away, black-holed and given back: nothing of it is
# served beyond the bound, the other feels nothing, and everything comes back by itself.
. "$(dirname "$0")/lib.sh"

export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=1500ms LOCH_KMS_GRACE=12s LOCH_KMS_SETTLE=1s
BOUND_MS=2000 # poll and lease
up
watch_machine
# What stood still for so long that a lease may have ended meanwhile: then computes end too, as they must.
stood_still() { [ "$(pause_ms)" -ge 1000 ]; }
mkdir "$WORK/kms" "$WORK/ledger"
CMK=$WORK/kms/ours.key
head -c 32 /dev/urandom >"$CMK" && chmod 600 "$CMK"
"$LOCH" tenant create ours --kms-uri "file:$CMK" >/dev/null || fail "tenant create"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "compute start"
tenant=$(tenant_of ours)
marker=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
q "CREATE TABLE secret AS SELECT g, '$marker' AS note FROM generate_series(1, 5000) g" ours
"$LEDGER" init --url "$(url ours)"
"$LEDGER" init --url "$(url main)"

# lease DAEMON COLUMN: of the tenant, as that daemon's console says.
lease() {
    local port=$((PORT_BASE + $1))
    psql "host=$DIR/run port=$port dbname=loch" -X -A -t -F '|' -c "SHOW LEASES" | grep "^$tenant" | cut -d'|' -f"$2"
}
DAEMONS="1 2 3 10"
every_lease_is() { for d in $DAEMONS; do [ "$(lease "$d" 2)" = "$1" ] || return 1; done; }
every_lease_is_wiped() { for d in $DAEMONS; do [ -n "$(lease "$d" 6)" ] || return 1; done; }
state_is() { [ "$(field ours state)" = "$1" ]; }
ms_of() { date -u -d "$1" +%s%3N; }
# In ms since 1970: the first denial that any daemon saw.
first_denial() { for d in $DAEMONS; do ms_of "$(lease "$d" 3)"; done | sort -n | head -1; }

"$LEDGER" run --url "$(url main)" --state "$WORK/ledger" --clients 2 --seconds 600 --stop-file "$WORK/stop" >"$WORK/other" &
other=$!
BACKGROUND+=("$other")

# load NAME: readers and writers on established connections; the last answer's time is the last line's.
load() {
    (cd "$WORK" && pgbench -n -M simple -c 4 -j 1 -T 300 -l --log-prefix="$1" -f - "$(url ours)" \
        <<<"SELECT count(*) FROM secret WHERE g < 100; UPDATE accounts SET balance = balance WHERE id = 1;") \
        >"$WORK/$1.out" 2>&1 &
    loader=$!
    BACKGROUND+=("$loader")
    wait_until 20 loaded || { cat "$WORK/$1.out"; fail "no load"; }
}
loaded() { [ "$(q "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench' AND query LIKE 'UPDATE%'" ours)" -ge 2 ]; }
last_answer() { cut -d' ' -f5,6 "$WORK/$1".*[0-9] | sort -k1,1n -k2,2n | tail -1 | awk '{printf "%.0f\n", $1 * 1000 + $2 / 1000}'; }

back() {
    wait_until 60 every_lease_is held || fail "the leases do not come back"
    wait_until 60 state_is running || fail "the compute does not come back: $(field ours state)"
    [ "$(q "SELECT count(*) FROM secret WHERE note = '$marker'" ours)" = 5000 ] || fail "rows of the tenant"
}

# ---- denied ----
load denied
pgdata=$(field ours pgdata)
victims=$(compute_pids ours | tail -n +2)
mv "$CMK" "$CMK.away"
wait_until 20 state_is revoked || fail "the compute is $(field ours state), not revoked"
wait_until 20 every_lease_is revoked || fail "not every daemon has revoked"
wait_until 20 every_lease_is_wiped || fail "not every daemon has wiped"
wait "$loader" || true
# shellcheck disable=SC2086
wait_gone $victims
for pid in $victims; do dead "$pid" || fail "process $pid of the revoked compute lives"; done
wait_until 20 test ! -e "$pgdata" || fail "the scratch is still there: $pgdata"
late=$(($(last_answer denied) - $(first_denial)))
note "denied: last answer $late ms after the first denial (bound $BOUND_MS ms); the machine's longest pause: $(pause_ms) ms"
[ "$late" -le $((BOUND_MS + $(pause_ms))) ] || fail "answers after the bound"
grep -rqaF "$marker" "$(scratch)/compute-ours" && fail "rows of the tenant lie in the scratch"
said=$("$LOCH" key receipt --tenant ours) || fail "no receipt"
[ "$(grep -c ' wiped .* good' <<<"$said") $(grep -c ' revoked .* good' <<<"$said")" = "4 4" ] || fail "receipt: $said"
psql "$(url ours)" -c 'SELECT 1' >/dev/null 2>&1 && fail "the revoked compute answers"
log=$(scratch)/compute-ours/postgres-last.log
[ ! -e "$log" ] || fail "the log of the revoked server is kept"
"$LOCH" tenant list --json | sees '"REVOKED"' || fail "tenant list does not say REVOKED"
curl -fs "http://127.0.0.1:$((PORT_BASE + 30))/metrics" | grep "^loch_key_state{tenant=\"$tenant\"} 3" >/dev/null || fail "metrics"
kill -0 "$other" || fail "the other tenant's load ended: $(cat "$WORK/other")"
# A daemon that restarts meanwhile stays dark, and so do all others.
kill -9 "$(daemon_pid safekeeper-2)"
up
wait_until 20 every_lease_is revoked || fail "a restart brought a revoked tenant back"
mv "$CMK.away" "$CMK"
back
note "denied: back by itself"

# ---- denied while no server is alive: the log of the one before goes all the same ----
q "SELECT '$marker', nonsense" ours 2>/dev/null && fail "nonsense"
kill -STOP "$(daemon_pid safekeeper-1)" "$(daemon_pid safekeeper-2)" # no quorum: nothing is started again
# shellcheck disable=SC2046
kill -9 $(compute_pids ours | tail -n +2)
wait_until 30 grep -qs "$marker" "$log" || fail "the log of a server that died is not kept"
mv "$CMK" "$CMK.away"
third_is_revoked() { [ "$(lease 3 2)" = revoked ]; }
wait_until 20 third_is_revoked || fail "safekeeper 3 has not revoked"
kill -CONT "$(daemon_pid safekeeper-1)" "$(daemon_pid safekeeper-2)"
wait_until 20 test ! -e "$log" || fail "the log of a server that died outlives the revocation"
wait_until 20 every_lease_is revoked || fail "not every daemon has revoked"
mv "$CMK.away" "$CMK"
back

# ---- black-holed, for less than the grace ----
mv "$WORK/kms" "$WORK/kms.away"
wait_until 20 every_lease_is grace || fail "an outage is called $(lease 10 2)"
[ "$(q "SELECT count(*) FROM secret" ours)" = 5000 ] || fail "not served within the grace"
mv "$WORK/kms.away" "$WORK/kms"
wait_until 20 every_lease_is held || fail "the grace does not end"
state_is running || { stood_still && wait_until 30 state_is running; } || fail "a short outage stopped the compute"

# ---- and for more ----
load outage
mv "$WORK/kms" "$WORK/kms.away"
wait_until 60 every_lease_is outage || fail "the grace does not end: $(lease 10 2)"
wait_until 60 state_is outage || fail "the compute is $(field ours state)"
wait "$loader" || true
kill -9 "$(daemon_pid pageserver)" # a restart in an outage fails closed
up
wait_until 60 every_lease_is outage || fail "a restart in an outage serves"
mv "$WORK/kms.away" "$WORK/kms"
back
note "outage: told apart, and back by itself"

touch "$WORK/stop"
wait "$other"
note "the other tenant: $(cat "$WORK/other")"
[ "$(json "$(cat "$WORK/other")" errors)" -eq 0 ] || stood_still || fail "the other tenant saw errors"
"$LOCH" key audit verify >/dev/null || fail "audit verify"
cp "$DIR/safekeeper-2/audit.log" "$WORK/whole.log"
sed -i '$d' "$DIR/safekeeper-2/audit.log" # a whole line less: signatures and chain are as they should be
said=$("$LOCH" key audit verify 2>&1) && fail "a cut audit log verifies"
grep -q "safekeeper-2/audit.log has been cut off" <<<"$said" || fail "audit verify says: $said"
cp "$WORK/whole.log" "$DIR/safekeeper-2/audit.log"
"$LOCH" key audit verify >/dev/null || fail "audit verify of the whole log"
sed -i '3s/"time":"2/"time":"3/' "$DIR/safekeeper-1/audit.log"
said=$("$LOCH" key audit verify 2>&1) && fail "an altered audit log verifies"
grep -q "safekeeper-1/audit.log line 3" <<<"$said" || fail "audit verify says: $said"
checked=$("$LEDGER" check --url "$(url main)" --state "$WORK/ledger") || fail "ledger: $checked"
note "passed"
