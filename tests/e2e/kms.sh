#!/usr/bin/env bash
# A tenant with a CMK of its own beside one with the daemon's: pinned outside the store, demanded at every start; without
# it the one tenant stays dark and the other is served; with it back, everything is there.
. "$(dirname "$0")/lib.sh"

up
CMK=$WORK/ours.key
head -c 32 /dev/urandom >"$CMK" && chmod 600 "$CMK"

said=$("$LOCH" tenant create bad --kms-uri "file:$WORK/nosuch.key" 2>&1) && fail "a tenant under a CMK that is not there"
grep -q 'nosuch.key is gone' <<<"$said" || fail "a missing CMK is called: $said"
said=$("$LOCH" tenant create bad --kms-uri "magic:x" 2>&1) && fail "a tenant under an unknown provider"
"$LOCH" tenant list --json | grep -q '"bad"' && fail "a failed creation left a tenant"
grep -hs "nosuch\|magic" "$DIR"/*/kms.pins && fail "a failed creation left a pin"

"$LOCH" tenant create ours --kms-uri "file:$CMK" >/dev/null || fail "tenant create --kms-uri"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "a compute of the tenant"
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g" ours
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 500) g" main
id=$("$LOCH" tenant list --json | python3 -c '
import json, sys
print(next(t["tenant"] for t in json.load(sys.stdin) if t["name"] == "ours"))')
[ "$(grep -l "^$id file:$CMK$" "$DIR"/{pageserver,safekeeper-1,safekeeper-2,safekeeper-3}/kms.pins | wc -l)" = 4 ] ||
    fail "not every daemon has the pin"
grep -rqs "$id" "$DIR"/store/*pins* && fail "a pin stands in the store"
note "tenant ours is pinned to its own CMK on 4 daemons"

# Everything restarted without that CMK: the other tenant is served, this one is dark and says why.
"$LOCH" compute stop ours >/dev/null
"$LOCH" down >/dev/null
mv "$CMK" "$CMK.away"
"$LOCH" up >/dev/null || fail "a cluster does not start without one tenant's CMK"
[ "$(q 'SELECT count(*) FROM t')" = 500 ] || fail "the other tenant's rows"
said=$("$LOCH" compute start ours 2>&1) && fail "a compute started without the tenant's CMK"
"$LOCH" compute stop ours >/dev/null
"$LOCH" tenant list --json | grep -q 'the CMK file .* is gone' || fail "tenant list does not say why: $("$LOCH" tenant list)"
note "dark: $(tail -1 <<<"$said" | cut -c1-160)"

# A pin that is lost is asked for by name, and given again with one command.
"$LOCH" down >/dev/null
mv "$CMK.away" "$CMK"
rm "$DIR"/*/kms.pins
"$LOCH" up >/dev/null || fail "up"
"$LOCH" compute start ours >/dev/null 2>&1 && fail "a keyring chose its CMK by itself"
"$LOCH" compute stop ours >/dev/null
"$LOCH" key pin "$id" --kms-uri "file:$CMK" >/dev/null || fail "key pin"
"$LOCH" down >/dev/null
"$LOCH" up >/dev/null || fail "up"
"$LOCH" compute start ours >/dev/null || fail "a compute with the CMK back"
[ "$(q 'SELECT count(*) FROM t' ours)" = 1000 ] || fail "rows of the tenant"

"$LOCH" key check "file:$CMK" --json | grep -q '"result": "ok"' || fail "key check of a good CMK"
said=$("$LOCH" key check "file:$CMK.nosuch" 2>&1) && fail "key check of a missing CMK"
grep -q 'DENIED' <<<"$said" || fail "key check: $said"

"$LOCH" compute stop ours >/dev/null
"$LOCH" tenant delete ours >/dev/null || fail "tenant delete"
grep -hs "^$id" "$DIR"/*/kms.pins && fail "a deleted tenant's pin stays"
note "a tenant's own CMK decides over that tenant alone"
