#!/usr/bin/env bash
# A branch with a CMK of its own, and its child: with that CMK they go dark in all daemons and come back by themselves,
# while the parent's load feels nothing; with the tenant's everything goes. Shredded, it opens nowhere; the rest lives.
. "$(dirname "$0")/lib.sh"

export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=4s LOCH_KMS_GRACE=500ms LOCH_KMS_SETTLE=1s LOCH_KMS_SHRED_DELAY=1s
up
mkdir "$WORK/kms" "$WORK/ledger"
CMK=$WORK/kms/branch.key
CMK2=$WORK/kms/second.key
for f in "$CMK" "$CMK2"; do head -c 32 /dev/urandom >"$f" && chmod 600 "$f"; done
q "CREATE TABLE old AS SELECT g FROM generate_series(1, 2000) g"
"$LOCH" branch create own --kms-uri "file:$CMK" >/dev/null || fail "branch create --kms-uri"
"$LOCH" compute start own --branch own >/dev/null || fail "compute start own"
q "CREATE TABLE mine AS SELECT g, md5(g::text) AS m FROM generate_series(1, 5000) g" own
"$LOCH" branch create child --from own >/dev/null || fail "a child of it"
"$LOCH" compute start child --branch child >/dev/null || fail "compute start child"
q "INSERT INTO mine SELECT 5000 + g, 'child' FROM generate_series(1, 100) g" child
"$LOCH" branch create nested --from own --kms-uri "file:$CMK2" >/dev/null 2>&1 && fail "a CMK below a CMK is taken"
"$LOCH" branch detach child >/dev/null 2>&1 && fail "a child leaves the branch that holds its keys"
cmk_of() { "$LOCH" branch list --json | python3 -c '
import json, sys
print(next(b["cmk_of"] for b in json.load(sys.stdin) if b["name"] == sys.argv[1]))' "$1"; }
[ "$(cmk_of own) $(cmk_of child) $(cmk_of main)" = "own own None" ] || fail "cmk_of: $(cmk_of own) $(cmk_of child) $(cmk_of main)"

"$LEDGER" init --url "$(url main)"
"$LEDGER" run --url "$(url main)" --state "$WORK/ledger" --clients 2 --seconds 600 --stop-file "$WORK/stop" >"$WORK/other" 2>&1 &
other=$!
BACKGROUND+=("$other")

branch=$("$LOCH" branch list --json | python3 -c '
import json, sys
print(next(b["timeline"] for b in json.load(sys.stdin) if b["name"] == "own"))')
# lease DAEMON COLUMN [BRANCH]: of the branch, or (empty) the tenant.
lease() {
    psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch" -X -A -t -F '|' -c "SHOW LEASES" |
        awk -F'|' -v b="${3-$branch}" -v c="$2" '$9 == b { print $c }'
}
DAEMONS="1 2 3 10"
every_lease_is() { for d in $DAEMONS; do [ "$(lease "$d" 2 "${2-$branch}")" = "$1" ] || return 1; done; }
every_lease_is_wiped() { # now: the time of an earlier wipe stays when a lease is held again
    for d in $DAEMONS; do [ "$(lease "$d" 2)" = revoked ] && [ -n "$(lease "$d" 6)" ] || return 1; done
}
state_is() { [ "$(field "$1" state)" = "$2" ]; }
rows_are() {
    [ "$(q "SELECT count(*) FROM mine" own)" = 5000 ] && [ "$(q "SELECT count(*) FROM old" own)" = 2000 ] &&
        [ "$(q "SELECT count(*) FROM mine" child)" = 5100 ]
}
back() {
    wait_until 60 every_lease_is held || fail "the branch's leases do not come back"
    for c in own child; do wait_until 60 state_is $c running || fail "$c does not come back: $(field $c state)"; done
    rows_are || fail "rows after $1"
}
parent_lives() {
    kill -0 "$other" || fail "the parent's load ended: $(cat "$WORK/other")"
    every_lease_is held "" || fail "the tenant's lease is not held"
    state_is main running || fail "main is $(field main state)"
    q "SELECT count(*) FROM old" >/dev/null || fail "main does not answer"
}
every_lease_is held || fail "the branch's leases are not held"
rows_are || fail "rows at the start"

note "denied"
mv "$CMK" "$CMK.away"
for c in own child; do wait_until 20 state_is $c revoked || fail "$c is $(field $c state), not revoked"; done
wait_until 20 every_lease_is revoked || fail "not every daemon has revoked"
wait_until 20 every_lease_is_wiped || fail "not every daemon has wiped"
parent_lives
said=$("$LOCH" key receipt --branch own) || fail "no receipt"
[ "$(grep -c " branch_wiped .* good .*$branch" <<<"$said") $(grep -c " branch_revoked .* good .*$branch" <<<"$said")" = "4 4" ] || fail "receipt: $said"
"$LOCH" key receipt >/dev/null 2>&1 && fail "a receipt for the tenant's own key"
"$LOCH" branch list | grep -c REVOKED | sees -x 2 || fail "branch list: $("$LOCH" branch list)"
"$LOCH" branch create late --from own >/dev/null 2>&1 && fail "a dark branch is branched from"
"$LOCH" branch create beside >/dev/null || fail "the tenant's other branches"
mv "$CMK.away" "$CMK"
back denied
parent_lives
touch "$WORK/stop"
wait "$other" || fail "the parent's load: $(cat "$WORK/other")"
checked=$("$LEDGER" check --url "$(url main)" --state "$WORK/ledger") || fail "the parent's ledger: $checked"

note "restart while it is away"
mv "$CMK" "$CMK.away"
wait_until 20 every_lease_is_wiped || fail "not every daemon has wiped"
"$LOCH" down --immediate >/dev/null
"$LOCH" up >/dev/null || fail "loch up without the branch's key"
wait_until 30 state_is main running || fail "main does not start without the branch's CMK"
wait_until 20 every_lease_is revoked || fail "a daemon opened the branch without its CMK"
mv "$CMK.away" "$CMK"
wait_until 30 every_lease_is held || fail "the branch does not come back after the restart"
"$LOCH" up >/dev/null || fail "loch up, with the key back"
back restart

note "rotated"
"$LOCH" key rotate tk --branch own >/dev/null || fail "rotate tk --branch"
"$LOCH" key rotate cmk --branch own --kms-uri "file:$CMK2" >/dev/null || fail "rotate cmk --branch"
said=$("$LOCH" key rotate cmk --branch child 2>&1) && fail "a child has no CMK of its own"
grep -q "held by that of branch own" <<<"$said" || fail "whose CMK it is: $said"
grep -qrh "branch_rotated_cmk.*branch $branch: .*CMK file:$CMK2" "$DIR/pageserver" || fail "no record names the branch and its CMK"
rm "$CMK"
CMK=$CMK2
rows_are || fail "rows after the rotation"

note "unavailable"
mkdir "$WORK/elsewhere"
mv "$WORK/kms" "$WORK/elsewhere/kms"
wait_until 30 every_lease_is outage || fail "no outage"
mv "$WORK/elsewhere/kms" "$WORK/kms"
back outage

note "destroyed, and shredded"
"$LOCH" compute stop child >/dev/null
"$LOCH" branch delete child >/dev/null || fail "delete child"
"$LOCH" compute stop own >/dev/null
mkdir "$WORK/aside"
find "$DIR" -name keyring -type f -exec cp {} "$WORK/aside" \;
[ -s "$WORK/aside/keyring" ] || fail "no keyring to keep aside"
cp "$CMK" "$WORK/cmk.kept"
rm "$CMK"
wait_until 20 every_lease_is_wiped || fail "not every daemon has wiped"
order=$("$LOCH" key shred branch --branch own --json) || fail "key shred"
token=$(json "${order:1:-1}" token)
confirm() { "$LOCH" key shred branch --branch own --confirm "$token" >/dev/null 2>&1; }
wait_until 20 confirm || fail "a branch whose CMK is destroyed cannot be shredded"
"$LOCH" key verify-shredded "$branch" --tenant main >/dev/null || fail "something is left of it"
kept() { "$LOCH" key verify-shredded "$branch" --tenant main --aside "$WORK/aside" "$@" >"$WORK/kept" 2>&1; }
kept && fail "a copy whose CMK was not tried passes for closed"
grep -q "UNKNOWN.*--kms-uri" "$WORK/kept" || fail "what was not tried: $(cat "$WORK/kept")"
kept --kms-uri "file:$CMK" || fail "a copy opens without its CMK: $(cat "$WORK/kept")"
grep -q "does not open" "$WORK/kept" || fail "what does not open: $(cat "$WORK/kept")"
cp "$WORK/cmk.kept" "$CMK"
kept --kms-uri "file:$CMK" && fail "a copy and its CMK pass for closed"
grep -q "OPENS" "$WORK/kept" || fail "what opens: $(cat "$WORK/kept")"
rm "$CMK"
"$LOCH" key list | sees "$branch" && fail "its keys are left"
"$LOCH" key receipt --branch "$branch" | sees " branch_wiped " || fail "no receipt for the branch that is gone"
every_lease_is held "" || fail "the tenant's lease is not held"
[ "$(q "SELECT count(*) FROM old")" = 2000 ] || fail "main"
note "PASSED"
