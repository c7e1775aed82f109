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
"$LOCH" tenant list --json | sees '"bad"' && fail "a failed creation left a tenant"
grep -hs "nosuch\|magic" "$DIR"/*/kms.pins && fail "a failed creation left a pin"

"$LOCH" tenant create ours --kms-uri "file:$CMK" >/dev/null || fail "tenant create --kms-uri"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "a compute of the tenant"
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g" ours
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 500) g" main
id=$(tenant_of ours)
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
"$LOCH" tenant list --json | sees 'the CMK file .* is gone' || fail "tenant list does not say why: $("$LOCH" tenant list)"
said=$("$LOCH" tenant create ours 2>&1) && fail "another tenant of the name of one that is dark"
grep -q "$id has no name" <<<"$said" || fail "tenant create of a dark one's name says: $said"
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

# A safekeeper that lost its pins gets them again from the next `up`.
"$LOCH" down >/dev/null
rm "$DIR/safekeeper-2/kms.pins"
"$LOCH" up >/dev/null 2>&1 || fail "up"
grep -q "^$id file:$CMK$" "$DIR/safekeeper-2/kms.pins" || fail "a lost pin is not given again"
"$LOCH" key pins --json | sees '"not customer-held"' || fail "key pins: $("$LOCH" key pins)"

"$LOCH" key check "file:$CMK" --json | sees '"result": "ok"' || fail "key check of a good CMK"
said=$("$LOCH" key check "file:$CMK.nosuch" 2>&1) && fail "key check of a missing CMK"
grep -q 'DENIED' <<<"$said" || fail "key check: $said"

# A tenant whose CMK is in an HSM: disabled there by its owner, enabled again.
mkdir "$WORK/tokens"
printf 'directories.tokendir = %s/tokens\nlog.level = ERROR\n' "$WORK" >"$WORK/softhsm2.conf"
export SOFTHSM2_CONF=$WORK/softhsm2.conf
owner() { "$BUILD/bin/p11_admin" /usr/lib/softhsm/libsofthsm2.so loch 4711 "$@" || fail "p11_admin $*"; }
owner init
owner generate cmk
printf '4711\n' >"$WORK/pin" && chmod 600 "$WORK/pin"
HSM="pkcs11:token=loch;object=cmk?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:$WORK/pin"
"$LOCH" key check "$HSM" | sees ' customer-held' || fail "key check of a token"
"$LOCH" down >/dev/null # the daemons are to have the owner's environment
"$LOCH" up >/dev/null || fail "up"
# A move to a CMK that the pageserver alone can use: nothing moves, and nothing of it is left for later rotations.
kill -9 "$(daemon_pid pageserver)"
OURS_PIN=4711 "$LOCH" up >/dev/null 2>&1 || fail "up"
HALF=${HSM%%pin-source=*}pin-source=env:OURS_PIN
too_few() { # once the pageserver has taken it: see below about SoftHSM
    said=$("$LOCH" key rotate cmk --tenant ours --kms-uri "$HALF" 2>&1) && fail "a move to what no safekeeper can use"
    grep -q 'only 0 safekeepers .* nothing has moved' <<<"$said"
}
wait_until 60 too_few || fail "a move to what no safekeeper can use says: $said"
grep -hs OURS_PIN "$DIR"/*/kms.pins && fail "a move that failed leaves a pin"
"$LOCH" key rotate kek --tenant ours >/dev/null || fail "rotate kek after a move that failed"
"$LOCH" key list --tenant ours | sees OURS_PIN && fail "a move that failed wraps: $("$LOCH" key list --tenant ours)"
note "a move that too few daemons can follow leaves nothing"
"$LOCH" tenant create hsm --kms-uri "$HSM" >/dev/null || fail "a tenant under a token's key"
hsm=$(tenant_of hsm)
"$LOCH" compute start hsm --tenant hsm >/dev/null || fail "a compute under a token's key"
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 300) g" hsm
"$LOCH" compute stop hsm >/dev/null
owner disable cmk
"$LOCH" down >/dev/null
"$LOCH" up >/dev/null || fail "up while a token's key is disabled"
"$LOCH" compute start hsm >/dev/null 2>&1 && fail "a compute started under a disabled key"
"$LOCH" compute stop hsm >/dev/null
# SoftHSM now and then has no token while several processes open it: that is an outage, which passes.
says_why() { "$LOCH" tenant list --json | sees 'CKR_KEY_FUNCTION_NOT_PERMITTED'; }
wait_until 60 says_why || fail "tenant list does not say why: $("$LOCH" tenant list)"
[ "$(q 'SELECT count(*) FROM t' ours)" = 1000 ] || fail "the other tenant's rows"
# Nobody knows its name now, had it been imported: there is no password of it here. Then two have it, and none is taken for the other.
mv "$DIR/secrets/hsm" "$WORK/secret"
"$LOCH" tenant create hsm >/dev/null || fail "a tenant of a name that nobody knows"
twin=$(tenant_of hsm)
owner enable cmk
"$LOCH" down >/dev/null
"$LOCH" up >/dev/null 2>&1 || fail "up"
two_of_them() { said=$("$LOCH" tenant delete hsm 2>&1) || grep -q "$hsm.*$twin\|$twin.*$hsm" <<<"$said"; }
wait_until 60 two_of_them || fail "a deletion by the name of two says: $said"
"$LOCH" tenant list | grep -q "$hsm" || fail "deleted by a name that two have"
"$LOCH" branch create b --tenant hsm >/dev/null 2>&1 && fail "a branch of one of two"
"$LOCH" tenant delete "$twin" >/dev/null || fail "delete by id"
mv "$WORK/secret" "$DIR/secrets/hsm"
hsm_starts() { "$LOCH" compute start hsm >/dev/null; }
wait_until 60 hsm_starts || fail "a compute with the key enabled: $("$LOCH" tenant list)"
[ "$(q 'SELECT count(*) FROM t' hsm)" = 300 ] || fail "rows under a token's key"
note "a token's key: disabled, enabled, all rows back"

"$LOCH" tenant delete ours >/dev/null 2>&1 && fail "a tenant with a running compute is deleted"
"$LOCH" compute stop ours >/dev/null
"$LOCH" tenant delete ours >/dev/null || fail "tenant delete"
[ -e "$DIR/computes/ours.json" ] && fail "a deleted tenant's compute stays"
grep -hs "^$id" "$DIR"/*/kms.pins && fail "a deleted tenant's pin stays"
note "a tenant's own CMK decides over that tenant alone"
