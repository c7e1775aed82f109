#!/usr/bin/env bash
# A branch whose CMK lies in a key service that does not answer holds up nobody: not its tenant and the other branches at a
# start of the pageserver or a safekeeper, not changes of the tenant, not the return of another branch. It comes with its key.
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/kms/lib.sh"

export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=4s LOCH_KMS_GRACE=10s LOCH_KMS_SETTLE=1s
VAULT_PORT=$((PORT_BASE + 91))
kms_double "$ROOT/tests/kms/vault_double.mjs" "$VAULT_PORT" "$WORK/vault.log" || fail "no double of Vault"
BACKGROUND+=("$KMS_DOUBLE")
printf 'hvs.forever\n' >"$WORK/token" && chmod 600 "$WORK/token"
order() { curl -fsS --noproxy '*' -d "$1" "http://127.0.0.1:$VAULT_PORT/_control" >/dev/null || fail "order $1"; }
vault_uri() { echo "vault:http://127.0.0.1:$VAULT_PORT/transit/$1?token-file=$WORK/token"; }
mkdir "$WORK/kms"
CMK=$WORK/kms/own.key
head -c 32 /dev/urandom >"$CMK" && chmod 600 "$CMK"

up
"$LOCH" tenant create other >/dev/null || fail "tenant create"
"$LOCH" branch create own --kms-uri "file:$CMK" >/dev/null || fail "branch create own"
"$LOCH" branch create far1 --kms-uri "$(vault_uri cmk-1)" >/dev/null || fail "branch create far1"
"$LOCH" branch create far2 --kms-uri "$(vault_uri cmk-2)" >/dev/null || fail "branch create far2"
"$LOCH" compute start own --branch own >/dev/null || fail "compute start own"
q "CREATE TABLE mine AS SELECT g FROM generate_series(1, 1000) g" own
id_of() { "$LOCH" branch list --json | python3 -c '
import json, sys
print(next(b["timeline"] for b in json.load(sys.stdin) if b["name"] == sys.argv[1]))' "$1"; }
own=$(id_of own) far1=$(id_of far1) far2=$(id_of far2)
con() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch" -X -A -t -F '|' -c "$2"; }
lease() { con "$1" "SHOW LEASES" | awk -F'|' -v b="$2" '$9 == b { print $2 }'; }
# Where timelines stand on the pageserver: state_of NAME
state_of() {
    psql "host=$DIR/run port=$((PORT_BASE + 10)) dbname=loch" -X -A -F '|' -c "SHOW TIMELINES" | awk -F'|' -v n="$1" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
        $at["name"] == n && !seen++ { print $at["state"] }'
}
served() { [ "$(state_of "$1")" = active ]; }
waits() { case $(lease "$1" "$2") in opening | outage) ;; *) return 1 ;; esac; }
main_answers() { [ "$(q "SELECT 1")" = 1 ]; }
active_on_1() { con 1 "SHOW TIMELINES" | grep -E "$own|$(id_of main)" | grep -c "|active" | sees -x 2; }

note "its key service is silent, and the daemons start"
order '{"silent": true}'
for d in pageserver safekeeper-1; do pid=$(daemon_pid $d) && kill -9 "$pid" && wait_gone "$pid"; done
"$LOCH" up >/dev/null 2>&1 || fail "loch up beside a silent key service"
con 10 "SHOW TENANTS" | awk -F'|' '$4 != "active" { bad = 1 } END { exit bad || NR != 2 }' || fail "tenants: $(con 10 "SHOW TENANTS")"
# One request to a silent service ends after 4 s; two services, one after the other, would hold them up for 8.
wait_until 7 served own || fail "own is $(state_of own): $(con 10 "SHOW LEASES")"
wait_until 7 active_on_1 || fail "safekeeper 1: $(con 1 "SHOW TIMELINES")"
waits 10 "$far1" && waits 10 "$far2" && waits 1 "$far1" || fail "leases: $(con 10 "SHOW LEASES")"
served far1 && fail "far1 is served without its CMK"
wait_until 30 main_answers || fail "main does not answer"

note "changes of its tenant, and the return of another branch"
began=$SECONDS
"$LOCH" branch create beside >/dev/null || fail "a branch beside it"
[ $((SECONDS - began)) -lt 8 ] || fail "a branch beside it took $((SECONDS - began)) s"
m=$(find "$DIR/store" -path "*timelines/$own/manifest" -type f | head -1)
gone() { [ "$(lease 10 "$own")" = revoked ]; }
held() { [ "$(lease 10 "$own")" = held ]; }
mv "$CMK" "$CMK.away"
wait_until 20 gone || fail "own is not revoked"
[ -n "$m" ] && mv "$m" "$m.kept" && mkdir "$m" # and the store fails when it comes back
mv "$CMK.away" "$CMK"
wait_until 20 held || fail "own's lease does not come back"
sees_the_store() { con 10 "SHOW TIMELINES" | grep "|own|" | sees "broken.*anifest"; }
wait_until 20 sees_the_store || fail "own: $(con 10 "SHOW TIMELINES" | grep "|own|")"
rmdir "$m" && mv "$m.kept" "$m"
wait_until 20 served own || fail "own does not come back: $(con 10 "SHOW TIMELINES" | grep "|own|")"
own_answers() { [ "$(q "SELECT count(*) FROM mine" own 2>/dev/null)" = 1000 ]; }
wait_until 30 own_answers || fail "own's compute does not come back"

note "its key service answers"
order '{"silent": false}'
far_is_back() { for d in 1 2 3 10; do for b in "$far1" "$far2"; do [ "$(lease $d "$b")" = held ] || return 1; done; done; }
wait_until 20 far_is_back || fail "leases: $(con 10 "SHOW LEASES")"
wait_until 20 served far1 || fail "far1 is $(state_of far1)"
wait_until 20 served far2 || fail "far2 is $(state_of far2)"
"$LOCH" compute start far --branch far1 >/dev/null || fail "compute start far"
[ "$(q "SELECT 1" far)" = 1 ] || fail "far1 does not answer"

note "its key service is slow: what is asked of the branch at once waits for the answer"
order '{"latency_ms": 500}'
seen=
for _ in 1 2 3 4 5; do # until one look, right behind the start, meets it on its way
    pid=$(daemon_pid pageserver) && kill -9 "$pid" && wait_gone "$pid"
    "$LOCH" up >/dev/null 2>&1 &
    up=$!
    seen() { seen=$(lease 10 "$far2" 2>/dev/null) && [ -n "$seen" ]; }
    wait_until 20 seen || fail "the pageserver does not start beside a slow key service"
    [ "$seen" != opening ] || break
    wait "$up" || fail "loch up beside a slow key service"
done
[ "$seen" = opening ] || fail "the test came too late five times: far2's lease is $seen"
"$LOCH" compute start far2 --branch far2 >"$WORK/start" 2>&1 || fail "compute start far2: $(cat "$WORK/start")"
wait "$up" || fail "loch up beside a slow key service"
[ "$(q "SELECT 1" far2)" = 1 ] || fail "far2 does not answer"
note "PASSED"
