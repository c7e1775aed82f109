#!/usr/bin/env bash
# A tenant that nobody uses falls asleep on every daemon: its keys are wiped, the key service is left alone. The next use
# wakes it, whole: a compute, a branch, a console command. A CMK that was taken away meanwhile is noticed then.
. "$(dirname "$0")/lib.sh"

export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=4s LOCH_KMS_SETTLE=500ms LOCH_KMS_IDLE=3s LOCH_KMS_SHRED_DELAY=1s
up
mkdir "$WORK/ledger"
CMK=$WORK/ours.key
head -c 32 /dev/urandom >"$CMK" && chmod 600 "$CMK"
"$LOCH" tenant create ours --kms-uri "file:$CMK" >/dev/null || fail "tenant create"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "compute start"
tenant=$(tenant_of ours)
DAEMONS="1 2 3 10"
ask() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch" -X -A -t -F '|' -c "$2"; }
lease() { ask "$1" "SHOW LEASES" | grep "^$tenant" | cut -d'|' -f"$2"; }
every_lease_is() { for d in $DAEMONS; do [ "$(lease "$d" 2)" = "$1" ] || return 1; done; }
decrypts() { echo $(($(for d in $DAEMONS; do lease "$d" 8; done | paste -sd+))); }
wiped() { for d in $DAEMONS; do [ -n "$(lease "$d" 6)" ] || return 1; done; }
asleep() {
    wait_until 60 every_lease_is asleep ||
        fail "$1: not every daemon sleeps: $(for d in $DAEMONS; do lease "$d" 2; done | xargs); $(ask 10 "SHOW TIMELINES" | grep "^$tenant")"
    wait_until 20 wiped || fail "$1: not every daemon that sleeps has wiped: $(for d in $DAEMONS; do lease "$d" 6; done | xargs)"
}

# Two tenants are copies of one initdb: what tells clusters apart, and lets people in, is not.
control() { /usr/lib/postgresql/15/bin/pg_controldata "$(field "$1" pgdata)" | grep "^$2"; }
for fact in "Database system identifier" "Mock authentication nonce"; do
    [ -n "$(control main "$fact")" ] && [ "$(control main "$fact")" != "$(control ours "$fact")" ] || fail "two tenants have one: $(control ours "$fact")"
done
password=$(url main | sed 's|.*//postgres:\([^@]*\)@.*|\1|')
psql "$(url ours | sed "s|//postgres:[^@]*@|//postgres:$password@|")" -X -c "SELECT 1" >/dev/null 2>&1 && fail "the password of one tenant opens another"

"$LEDGER" init --url "$(url ours)"
"$LEDGER" run --url "$(url ours)" --state "$WORK/ledger" --clients 2 --seconds 5 >"$WORK/run" || fail "ledger: $(cat "$WORK/run")"
before=$(lease 10 8)
asked_more() { [ "$(lease 10 8)" -ge $((before + 15)) ]; } # 7.5 s, more than twice kms.idle
wait_until 60 asked_more || fail "no Decrypts"
none_sleeps() { for d in $DAEMONS; do [ "$(lease "$d" 2)" != asleep ] || return 1; done; }
none_sleeps || fail "a tenant with a running compute sleeps: $(for d in $DAEMONS; do lease "$d" 2; done | xargs)"

# ---- asleep ----
"$LOCH" compute stop ours >/dev/null || fail "compute stop"
asleep "without a compute"
curl -fs "http://127.0.0.1:$((PORT_BASE + 30))/metrics" | grep "^loch_key_state{tenant=\"$tenant\"} 5" >/dev/null || fail "metrics"
"$LOCH" tenant list --json | sees '"asleep"' || fail "tenant list: $("$LOCH" tenant list)"
curl -fs "http://127.0.0.1:$((PORT_BASE + 30))/healthz" >/dev/null || fail "healthz"
for d in 21 22 23; do
    curl -fs "http://127.0.0.1:$((PORT_BASE + d))/healthz" >/dev/null || fail "a sleeping tenant counts as broken: healthz of $d"
done
ask 10 "SHOW STATUS" | sees '|0|up$' || fail "a sleeping tenant counts as broken: $(ask 10 "SHOW STATUS")"
before=$(decrypts)
main_before=$(ask 10 "SHOW LEASES" | grep -v "^$tenant" | cut -d'|' -f8)
main_asked() { [ "$(ask 10 "SHOW LEASES" | grep -v "^$tenant" | cut -d'|' -f8)" -ge $((main_before + 10)) ]; }
wait_until 60 main_asked || fail "the busy tenant's lease is not renewed"
every_lease_is asleep || fail "something wakes an idle tenant: $(for d in $DAEMONS; do lease "$d" 2; done | xargs)"
[ "$(decrypts)" = "$before" ] || fail "$(($(decrypts) - before)) Decrypts for a sleeping tenant"
q "SELECT 1" main >/dev/null || fail "the busy tenant"
"$LOCH" up >/dev/null 2>"$WORK/up" || fail "loch up beside a sleeper: $(cat "$WORK/up")"
every_lease_is asleep || fail "loch up wakes who sleeps: $(for d in $DAEMONS; do lease "$d" 2; done | xargs); $(cat "$WORK/up")"
[ "$(decrypts)" = "$before" ] || fail "$(($(decrypts) - before)) Decrypts for a sleeping tenant, by loch up"

# ---- awake by its next use ----
"$LOCH" branch create twig --tenant ours >/dev/null || fail "a branch of a sleeping tenant"
"$LOCH" branch delete twig --tenant ours >/dev/null || fail "branch delete"
asleep "after a branch"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "a compute of a sleeping tenant"
wait_until 60 every_lease_is held || fail "awake: $(for d in $DAEMONS; do lease "$d" 2; done | xargs)"
checked=$("$LEDGER" check --url "$(url ours)" --state "$WORK/ledger") || fail "ledger: $checked"
"$LOCH" compute stop ours >/dev/null || fail "compute stop"
asleep "once more"
note "asleep, left alone, and awake by a branch and by a compute"

# ---- a branch is shredded: ordered, asleep, confirmed ----
"$LOCH" branch create doomed --tenant ours >/dev/null || fail "branch create"
order=$("$LOCH" key shred branch --branch doomed --tenant ours --json) || fail "key shred"
token=$(json "${order:1:-1}" token)
asleep "after an order"
said=$(ask 10 "CONFIRM SHRED $token OF ours doomed" 2>&1) || fail "confirmed while asleep: $said"
wait_until 60 every_lease_is asleep || fail "not asleep after a confirmation"

# ---- the keys are turned while it sleeps ----
said=$("$LOCH" key rotate tk --tenant ours) || fail "rotation of a sleeping tenant's keys: $said"
grep -q "daemons *4\|4 *$" <<<"$said" || fail "rotation: $said"

# ---- the CMK is taken away while it sleeps: noticed with the next use ----
asleep "after a rotation"
mv "$CMK" "$CMK.away"
"$LOCH" compute start ours --tenant ours >"$WORK/start" 2>&1 && fail "a compute starts without the CMK"
grep -q KEY_REVOKED "$WORK/start" || fail "the start says: $(cat "$WORK/start")"
[ "$(lease 10 2)" = revoked ] || fail "the pageserver says $(lease 10 2)"
"$LOCH" key receipt --tenant ours | sees ' wiped .* good' || fail "no receipt: $("$LOCH" key receipt --tenant ours)"
mv "$CMK.away" "$CMK"
back() { [ "$(lease 10 2)" = held ]; }
wait_until 60 back || fail "not back: $(lease 10 2)"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "a compute after the CMK is back"
checked=$("$LEDGER" check --url "$(url ours)" --state "$WORK/ledger") || fail "ledger: $checked"
"$LOCH" key audit verify >/dev/null || fail "audit verify"
note "passed"
