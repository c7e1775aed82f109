#!/usr/bin/env bash
# A branch is shredded after a delay and a second word: its objects, and every old version of the keyring that the test kept
# aside, cannot be opened any more; parent and sibling live on. Then a whole tenant.
. "$(dirname "$0")/lib.sh"

export LOCH_KMS_SHRED_DELAY=1h
up
new_key() { head -c 32 /dev/urandom >"$1" && chmod 600 "$1"; }
mkdir "$WORK/kms"
first=$WORK/kms/first.key
new_key "$first"
new_key "$WORK/second.key"
new_key "$WORK/third.key"
"$LOCH" tenant create ours --kms-uri "file:$first" >/dev/null || fail "tenant create"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "compute start"
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 2000) g" ours
for b in doomed sibling; do
    "$LOCH" branch create "$b" --tenant ours >/dev/null || fail "branch create"
    "$LOCH" compute start "$b" --tenant ours --branch "$b" >/dev/null || fail "compute start $b"
    q "CREATE TABLE of_$b AS SELECT g FROM generate_series(1, 1000) g" "$b"
done
id_of() { "$LOCH" branch show "$1" --tenant ours --json | sed -n 's/.*"timeline": "\([0-9a-f]*\)".*/\1/p'; }
doomed=$(id_of doomed)
main=$(id_of main)
tenant=$(tenant_of ours)
# Written out, so that there are layers; a branch of the doomed one stands in the way.
flushed() { # a FLUSH writes what is ingested by then
    ls "$DIR"/pageserver/tenants/*/timelines/"$doomed"/*.layer >/dev/null 2>&1 ||
        { psql "host=$DIR/run port=$((PORT_BASE + 10)) dbname=loch" -X -q -c "FLUSH $tenant $doomed" >/dev/null && return 1; }
}
wait_until 30 flushed || fail "no layer of the branch"
"$LOCH" key shred branch --branch main --tenant ours 2>/dev/null && fail "a parent with live children is shredded"

# A thief's copy of everything, at every generation of the keyring from here on.
mkdir "$WORK/aside"
keep() { cp -r "$DIR/store" "$WORK/aside/store-$1"; cp -r "$DIR/pageserver/tenants" "$WORK/aside/layers-$1"; }
keep 1
"$LOCH" key rotate kek --tenant ours >/dev/null || fail "rotate kek"
keep 2
said=$("$LOCH" key verify-shredded "$doomed" --tenant ours --aside "$WORK/aside" 2>&1) && fail "not shredded yet: $said"
grep -q OPENS <<<"$said" || fail "the control: the kept keyrings must open before the shred: $said"

order=$("$LOCH" key shred branch --branch doomed --tenant ours --json) || fail "key shred"
token=$(json "${order:1:-1}" token)
"$LOCH" key shred branch --branch doomed --tenant ours --confirm "$token" 2>/dev/null && fail "shredded before its time"
"$LOCH" key shred branch --branch doomed --tenant ours --confirm 0123 2>/dev/null && fail "shredded with another token"
[ "$(q 'SELECT count(*) FROM of_doomed' doomed)" = 1000 ] || fail "an order alone destroys nothing"
# From here on with a delay that ends soon; no order outlives the pageserver.
export LOCH_KMS_SHRED_DELAY=1s
kill -9 "$(daemon_pid pageserver)"
up
"$LOCH" key shred branch --branch doomed --tenant ours --confirm "$token" 2>/dev/null && fail "an order outlives the pageserver"
order=$("$LOCH" key shred branch --branch doomed --tenant ours --json) || fail "key shred"
token=$(json "${order:1:-1}" token)
"$LOCH" compute stop doomed >/dev/null

# Once they are due, a token serves for exactly what was ordered with it: not for a sibling, not for the tenant, nor the other way round.
order=$("$LOCH" key shred tenant --tenant ours --json) || fail "key shred tenant"
whole=$(json "${order:1:-1}" token)
when=$(json "${order:1:-1}" not_before)
due() { [ "$(date -u +%s)" -gt "$(date -u -d "$when" +%s)" ]; }
wait_until 20 due || fail "$when does not come"
refused() { # TOKEN WORDS...: told whose token it is
    local said t=$1
    shift
    said=$("$LOCH" key shred "$@" --confirm "$t" 2>&1) && fail "shredded $* with the token of something else"
    grep -q "that token is of the order to shred" <<<"$said" || fail "$* with the token of something else: $said"
}
"$LOCH" compute stop sibling >/dev/null
refused "$token" branch --branch sibling --tenant ours
refused "$whole" branch --branch sibling --tenant ours
refused "$whole" branch --branch doomed --tenant ours
"$LOCH" compute stop ours >/dev/null
refused "$token" tenant --tenant ours
psql "host=$DIR/run port=$((PORT_BASE + 10)) dbname=loch" -X -q -c "CANCEL SHRED $whole" >/dev/null || fail "cancel"
for b in sibling doomed ours; do
    "$LOCH" compute start "$b" >/dev/null || fail "compute start $b"
done
[ "$(q 'SELECT count(*) FROM of_doomed' doomed)" = 1000 ] || fail "rows of doomed after refusals"
[ "$(q 'SELECT count(*) FROM of_sibling' sibling)" = 1000 ] || fail "rows of the sibling after refusals"
"$LOCH" compute stop doomed >/dev/null

# While the key service is silent (in its grace) nothing changes at all.
shred_doomed() { "$LOCH" key shred branch --branch "$1" --tenant ours --confirm "$token" 2>&1; }
mv "$WORK/kms" "$WORK/kms.away"
said=$(shred_doomed doomed) && fail "shredded while the key service is silent"
mv "$WORK/kms.away" "$WORK/kms"
[ "$(id_of doomed)" = "$doomed" ] || fail "half shredded while the key service was silent: $said"
# Cut short behind the manifest, where the keyring cannot be put: it is repeated with the id, which the failure says.
mkdir "$DIR/store/tenants/$tenant/keyring.tmp"
said=$(shred_doomed doomed) && fail "shredded without a new keyring"
grep -q "repeat the command with --confirm $token --branch $doomed" <<<"$said" || fail "cut short, it says: $said"
"$LOCH" branch list --tenant ours --json | sees "$doomed" && fail "the manifest is not what failed"
"$LOCH" compute list | sees doomed && fail "the compute of a branch that is none any more is kept"
rmdir "$DIR/store/tenants/$tenant/keyring.tmp"
"$LOCH" key verify-shredded "$doomed" --tenant ours >/dev/null 2>&1 && fail "its keys are there still"
said=$(shred_doomed "$main") && fail "the token of a branch shreds another by its id"
said=$(shred_doomed "$doomed") || fail "cut short, it cannot be repeated: $said"
"$LOCH" tenant list | sees "removal failed" && fail "the tenant is broken still"
"$LOCH" key verify-shredded "$doomed" --tenant ours >/dev/null || fail "verify: $("$LOCH" key verify-shredded "$doomed" --tenant ours 2>&1)"
# What is kept aside opens as long as the CMK that wrapped it lives, and the command says so.
said=$("$LOCH" key verify-shredded "$doomed" --tenant ours --aside "$WORK/aside" 2>&1) && fail "the CMK still opens the copies"
"$LOCH" key rotate cmk --tenant ours --kms-uri "file:$WORK/second.key" >/dev/null || fail "move"
# The CMK that wraps the copies is pinned nowhere now, but alive: that is no proof.
kept() { "$LOCH" key verify-shredded "$doomed" --tenant ours --aside "$WORK/aside" "$@" 2>&1; }
said=$(kept) && fail "copies whose CMK was not tried pass for closed: $said"
grep -q "UNKNOWN.*$first.*--kms-uri" <<<"$said" || fail "what was not tried: $said"
said=$(kept --kms-uri "file:$first") && fail "copies and their CMK pass for closed: $said"
grep -q OPENS <<<"$said" || fail "what opens: $said"
shred -u "$first"
said=$(kept) && fail "copies whose CMK was not tried pass for closed, once it is destroyed: $said"
said=$(kept --kms-uri "file:$WORK/third.key file:$first") || fail "verify with copies: $said"
[ "$(grep -c 'does not open' <<<"$said")" -ge 2 ] || fail "the copies were not tried: $said"
n=0
for f in $(find "$WORK"/aside/layers-* -path "*$doomed*" -type f); do
    "$BUILD/bin/loch-dump" "$f" --store "$WORK/aside/store-2" --kms "file:$WORK/second.key" >/dev/null 2>&1 && fail "$f opens"
    "$BUILD/bin/loch-dump" "$f" --store "$DIR/store" --kms "file:$WORK/second.key" >/dev/null 2>&1 && fail "$f opens"
    n=$((n + 1))
done
[ "$n" -gt 0 ] || fail "no layer was kept"
# The control: a layer of the parent opens with the same command.
f=$(find "$DIR/pageserver/tenants" -path "*$main*" -type f | head -1)
"$BUILD/bin/loch-dump" "$f" --store "$DIR/store" --kms "file:$WORK/second.key" >/dev/null || fail "the control does not open"
note "shredded: $n layers and every kept keyring cannot be opened"
for b in ours sibling; do
    destroy_compute "$b"
    "$LOCH" compute start "$b" >/dev/null || fail "compute start $b"
    [ "$(q 'SELECT count(*) FROM t' "$b")" = 2000 ] || fail "rows of $b"
done
amcheck ours
[ "$(q 'SELECT count(*) FROM of_sibling' sibling)" = 1000 ] || fail "rows of the sibling"

# The whole tenant; of a branch's own CMK no pin is left anywhere.
"$LOCH" branch create locked --tenant ours --kms-uri "file:$WORK/third.key" >/dev/null || fail "branch create locked"
pins() { for d in 1 2 3 10; do psql "host=$DIR/run port=$((PORT_BASE + d)) dbname=loch" -X -A -t -q -c "SHOW PINS"; done; }
[ "$(pins | grep -c third.key)" = 4 ] || fail "pins of the branch: $(pins)"
[ -s "$DIR/secrets/ours" ] || fail "no password of the tenant"
"$LOCH" compute stop ours >/dev/null
"$LOCH" compute stop sibling >/dev/null
order=$("$LOCH" key shred tenant --tenant ours --json) || fail "key shred tenant"
token=$(json "${order:1:-1}" token)
confirm() { "$LOCH" key shred tenant --tenant ours --confirm "$token" >/dev/null 2>&1; }
wait_until 30 confirm || fail "the confirmation is refused"
"$LOCH" key verify-shredded "$tenant" --tenant "$tenant" >/dev/null || fail "verify: $("$LOCH" key verify-shredded "$tenant" --tenant "$tenant" 2>&1)"
[ -z "$(pins)" ] || fail "pins are left: $(pins)"
[ ! -e "$DIR/secrets/ours" ] || fail "the tenant's password is left"
[ "$(q 'SELECT 1' main)" = 1 ] || fail "the neighbour"
"$LOCH" key audit verify >/dev/null || fail "audit"
grep -q '"event":"shredded"' "$DIR/pageserver/audit.log" || fail "the shred is not in the audit log"
note "passed"
