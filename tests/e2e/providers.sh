#!/usr/bin/env bash
# A tenant per key service (an HSM, AWS KMS, Vault; the last two are doubles), all under load: each is disabled at its
# owner's while the others go on, is dark on every daemon within the bound, and comes back whole when it is enabled. A key
# service that falls silent, or whose credentials of ours end, stops nobody within the grace.
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/kms/lib.sh"

export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=1500ms LOCH_KMS_GRACE=60s LOCH_KMS_SETTLE=1s
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
BOUND_MS=2000 # poll and lease
AWS_PORT=$((PORT_BASE + 90))
VAULT_PORT=$((PORT_BASE + 91))

# ---- the three services ----
mkdir "$WORK/tokens"
printf 'directories.tokendir = %s/tokens\nlog.level = ERROR\n' "$WORK" >"$WORK/softhsm2.conf"
export SOFTHSM2_CONF=$WORK/softhsm2.conf
owner() { "$BUILD/bin/p11_admin" /usr/lib/softhsm/libsofthsm2.so loch 4711 "$@" || fail "p11_admin $*"; }
owner init
owner generate cmk
printf '4711\n' >"$WORK/pin" && chmod 600 "$WORK/pin"

unset AWS_PROFILE AWS_SESSION_TOKEN
export AWS_ACCESS_KEY_ID=AKIDLOCHTEST AWS_SECRET_ACCESS_KEY=loch/test+secret
kms_packages "$BUILD" || fail "npm packages"
kms_double "$BUILD/npm/aws_double.mjs" "$AWS_PORT" "$WORK/aws.log" || fail "the double of AWS KMS"
BACKGROUND+=("$KMS_DOUBLE")
kms_double "$ROOT/tests/kms/vault_double.mjs" "$VAULT_PORT" "$WORK/vault.log" || fail "the double of Vault"
BACKGROUND+=("$KMS_DOUBLE")
printf 'hvs.forever\n' >"$WORK/token" && chmod 600 "$WORK/token"
order() { curl -fsS --noproxy '*' -d "$2" "http://127.0.0.1:$1/_control" || fail "order to a double: $2"; }
arn=$(json "$(order "$AWS_PORT" '{}')" arn)

declare -A URI=(
    [hsm]="pkcs11:token=loch;object=cmk?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:$WORK/pin"
    [aws]="aws-kms:$arn?endpoint=http://127.0.0.1:$AWS_PORT"
    [vault]="vault:http://127.0.0.1:$VAULT_PORT/transit/cmk-1?token-file=$WORK/token"
)
disable() {
    case $1 in
    hsm) owner disable cmk ;;
    aws) order "$AWS_PORT" '{"key": "Disabled"}' ;;
    vault) order "$VAULT_PORT" '{"policy_denies": true}' ;;
    esac >/dev/null
}
enable() {
    case $1 in
    hsm) owner enable cmk ;;
    aws) order "$AWS_PORT" '{"key": "Enabled"}' ;;
    vault) order "$VAULT_PORT" '{"policy_denies": false}' ;;
    esac >/dev/null
}

# The cluster itself under the HSM's key, too: no key file is made.
"$LOCH" up --port-base "$PORT_BASE" --kms-uri "${URI[hsm]}" >/dev/null || fail "loch up --kms-uri"
[ ! -e "$DIR/cmk.key" ] || fail "a key file was made"
"$LOCH" up --kms-uri "${URI[aws]}" >/dev/null 2>&1 && fail "a cluster's CMK was changed by loch up"
declare -A ID
for t in hsm aws vault; do
    "$LOCH" tenant create "$t" --kms-uri "${URI[$t]}" >/dev/null || fail "tenant $t"
    "$LOCH" compute start "$t" --tenant "$t" >/dev/null || fail "compute $t"
    q "CREATE TABLE secret AS SELECT g FROM generate_series(1, 2000) g" "$t"
    ID[$t]=$("$LOCH" tenant list --json | python3 -c '
import json, sys
print(next(r["tenant"] for r in json.load(sys.stdin) if r["name"] == sys.argv[1]))' "$t")
done
note "three tenants under $(echo "${!URI[@]}")"

# lease TENANT DAEMON COLUMN
lease() {
    psql "host=$DIR/run port=$((PORT_BASE + $2)) dbname=loch" -X -A -t -F '|' -c "SHOW LEASES" | grep "^${ID[$1]}" | cut -d'|' -f"$3"
}
every_lease_is() { for d in 1 2 3 10; do [ "$(lease "$1" "$d" 2)" = "$2" ] || return 1; done; }
state_is() { [ "$(field "$1" state)" = "$2" ]; }
first_denial() { for d in 1 2 3 10; do date -u -d "$(lease "$1" "$d" 3)" +%s%3N; done | sort -n | head -1; }
last_answer() { cut -d' ' -f5,6 "$WORK/load-$1".*[0-9] | sort -n | tail -1 | awk '{printf "%.0f\n", $1 * 1000 + $2 / 1000}'; }
answers() { [ "$(q 'SELECT count(*) FROM secret' "$1" 2>/dev/null)" = 2000 ]; }
busy() { [ "$(q "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'" "$1")" -ge 2 ]; }

for t in hsm aws vault; do
    (cd "$WORK" && pgbench -n -M simple -c 2 -j 1 -T 120 -l --log-prefix="load-$t" -f - "$(url "$t")" \
        <<<"SELECT count(*) FROM secret WHERE g < 50;") >"$WORK/load-$t.out" 2>&1 &
    loader=$!
    BACKGROUND+=("$loader")
    wait_until 20 busy "$t" || { cat "$WORK/load-$t.out"; fail "no load on $t"; }
    disable "$t"
    wait_until 30 every_lease_is "$t" revoked || fail "$t: not every daemon has revoked ($(lease "$t" 10 2))"
    wait_until 20 state_is "$t" revoked || fail "$t: the compute is $(field "$t" state)"
    wait "$loader" || true
    late=$(($(last_answer "$t") - $(first_denial "$t")))
    [ "$late" -le "$BOUND_MS" ] || fail "$t: an answer $late ms after the first denial"
    for o in hsm aws vault main; do
        [ "$o" = "$t" ] || [ "$o" = main ] || answers "$o" || fail "$o suffers from $t's denial"
    done
    enable "$t"
    wait_until 60 every_lease_is "$t" held || fail "$t: the leases do not come back ($(lease "$t" 10 2))"
    wait_until 60 answers "$t" || fail "$t: the rows are not back ($(field "$t" state))"
    note "$t: denied, last answer $late ms after the first denial (bound $BOUND_MS ms), back by itself"
done

# ---- no verdict: served within the grace, and told apart ----
no_verdict() { # TENANT WHAT ON OFF PORT
    order "$5" "$3" >/dev/null
    wait_until 30 every_lease_is "$1" grace || fail "$1, $2: called $(lease "$1" 10 2)"
    answers "$1" || fail "$1, $2: not served within the grace"
    order "$5" "$4" >/dev/null
    wait_until 30 every_lease_is "$1" held || fail "$1, $2: called $(lease "$1" 10 2) afterwards"
    state_is "$1" running || fail "$1, $2: the compute is $(field "$1" state)"
    note "$1, $2: grace, then held again"
}
no_verdict aws "silent" '{"silent": true}' '{"silent": false}' "$AWS_PORT"
no_verdict aws "throttled" '{"throttles": 100000}' '{"throttles": 0}' "$AWS_PORT"
no_verdict aws "credentials expired" '{"expired": true}' '{"expired": false}' "$AWS_PORT"
no_verdict vault "sealed" '{"sealed": true}' '{"sealed": false}' "$VAULT_PORT"
no_verdict vault "token ended" '{"end_token": "hvs.forever"}' '{"begin_token": "hvs.forever"}' "$VAULT_PORT"
