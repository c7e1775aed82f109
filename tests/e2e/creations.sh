#!/usr/bin/env bash
# Creations that are cut short by kill -9, at each step: of a tenant (the pageserver), of a branch with a CMK of its own (the
# pageserver, a safekeeper, the command itself). Afterwards it is there whole, or can be made again; nothing is left of the
# attempt, no file with a password, no key, no pin, no lease.
. "$(dirname "$0")/lib.sh"

export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=4s LOCH_KMS_SETTLE=1s
up
initdb() { compgen -G "$(scratch)/pageserver/node-*/initdb-*" >/dev/null; }
template() { compgen -G "$(scratch)/pageserver/node-*/template.tar"; }
password() { compgen -G "$(scratch)/pageserver/node-*/initdb-*/password" >/dev/null; }
rows_of() { q "SELECT count(*) FROM t" "$1"; }

# ---- a tenant ----
rm "$(template)" || fail "no template of new tenants"
"$LOCH" tenant create cut >"$WORK/cut" 2>&1 &
order=$!
wait_until 20 password || fail "no initdb: $(cat "$WORK/cut")"
kill -9 "$(daemon_pid pageserver)"
wait "$order" && fail "a tenant whose pageserver was killed was created"
initdb || fail "the kill left nothing to be swept"
"$LOCH" up >/dev/null || fail "up"
initdb && fail "an initdb directory survives a restart: $(find "$(scratch)/pageserver" -maxdepth 3)"
"$LOCH" tenant create cut >/dev/null || fail "the tenant cannot be created again"
rm "$(template)" || fail "no template after a tenant was made"
"$LOCH" tenant create cleaned >/dev/null || fail "a tenant without the template"
[ -f "$(template)" ] || fail "the template was not made again"
"$LOCH" tenant create copied >/dev/null || fail "a tenant of the new template"
"$LOCH" compute start copied --tenant copied >/dev/null || fail "its compute"
[ "$(q "SELECT count(*) FROM pg_class WHERE relname = 'pg_class'" copied)" = 1 ] || fail "its catalog"
"$LOCH" compute stop copied >/dev/null
for t in cut cleaned copied; do "$LOCH" tenant delete $t >/dev/null || fail "delete $t"; done
initdb && fail "a creation left its directory"
note "a tenant"

# ---- a branch with a CMK ----
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g"
DAEMONS="10 1 2 3"
ask() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch" -X -A -t -F '|' -c "$2"; }
branch_leases() { ask "$1" "SHOW LEASES" | awk -F'|' '$9 != ""'; }
traces() { # nothing else in this cluster has a CMK of its own
    local d
    for d in $DAEMONS; do
        ask "$d" "SHOW PINS" | sed "s/^/daemon $d, pin: /"
        branch_leases "$d" | sed "s/^/daemon $d, lease: /"
    done
    "$LOCH" branch list --json | grep -o '"cmk_of": *"[^"]*"' || true
    "$LOCH" key list | grep "own.key" | sed 's/^/key: /' || true
}
clean() { [ -z "$(traces)" ]; }
held_everywhere() { for d in $DAEMONS; do branch_leases "$d" | sees '|held|' || return 1; done; }
create() { "$LOCH" branch create own --kms-uri "file:$CMK" >"$WORK/out" 2>&1; }
there() { "$LOCH" branch list | sees '^own '; }
CMK=$WORK/own.key
head -c 32 /dev/urandom >"$CMK" && chmod 600 "$CMK"

create || fail "branch create: $(cat "$WORK/out")"
wait_until 20 held_everywhere || fail "its leases"
traces | sees '^key: ' || fail "its keys are not listed: $("$LOCH" key list)"
"$LOCH" branch delete own >/dev/null || fail "branch delete"
wait_until 20 clean || fail "a deleted branch leaves: $(traces)"
note "a deletion leaves nothing"

# reached STEP DAEMON: how far a creation is, by what it leaves.
store=$(sed -n '/^\[store\]/,/^\[/s/^path = //p' "$DIR/conf/pageserver.ini")
reached() {
    case $1 in
    directory) [ -n "$(find "$DIR/$2/tenants" -path '*/timelines/*' -type d -newer "$WORK/mark")" ] ;;
    pin) grep -qs "$CMK" "$DIR/$2/kms.pins" ;;
    keys) [ -n "$(find "$store/tenants" -name keyring -newer "$WORK/mark")" ] ;;
    manifest) [ -n "$(find "$store/tenants" -mindepth 2 -maxdepth 2 -name manifest -newer "$WORK/mark")" ] ;;
    members) [ -n "$(find "$store/tenants" -name members -newer "$WORK/mark")" ] ;;
    esac
}
whole=0 again=0 removed=0 kills=0
for round in pageserver/directory/pageserver pageserver/pin/pageserver pageserver/keys/pageserver pageserver/manifest/pageserver \
    command/pin/pageserver command/manifest/pageserver command/pin/safekeeper-1 command/pin/safekeeper-3 \
    command/directory/safekeeper-1 command/directory/safekeeper-3 command/members/pageserver \
    safekeeper-2/pin/safekeeper-1 safekeeper-2/directory/safekeeper-2 pageserver/pin/safekeeper-1; do
    IFS=/ read -r victim step where <<<"$round"
    touch "$WORK/mark"
    "$LOCH" branch create own --kms-uri "file:$CMK" >"$WORK/out" 2>&1 &
    order=$!
    pid=$([ "$victim" = command ] && echo "$order" || daemon_pid "$victim")
    until reached "$step" "$where" || ! kill -0 "$order" 2>/dev/null; do :; done
    kill -9 "$pid" 2>/dev/null && kills=$((kills + 1))
    wait "$order" && code=0 || code=$?
    "$LOCH" up >/dev/null 2>"$WORK/up" || fail "round $round: up: $(cat "$WORK/up")"
    decided() { there || clean; } # whose command was killed may still be at work on it
    wait_until 30 decided || fail "round $round: left: $(traces)"
    if there; then
        if create; then fail "round $round: a branch was created twice"; fi
        if grep -q "cut short" "$WORK/out"; then
            [ $code != 0 ] || fail "round $round: it was said to be created, but no safekeeper has it"
            "$LOCH" branch delete own >/dev/null || fail "round $round: what is left cannot be deleted"
            wait_until 20 clean || fail "round $round: left: $(traces)"
            create || fail "round $round: not again: $(cat "$WORK/out")"
            removed=$((removed + 1))
        else
            whole=$((whole + 1))
        fi
    else
        [ $code != 0 ] || fail "round $round: it was said to be created, and is not there"
        wait_until 20 clean || fail "round $round: left: $(traces)"
        create || fail "round $round: not again: $(cat "$WORK/out")"
        again=$((again + 1))
    fi
    wait_until 30 held_everywhere || fail "round $round: its leases: $(for d in $DAEMONS; do branch_leases "$d"; done); create said: $(cat "$WORK/out")"
    "$LOCH" compute start own --branch own >/dev/null 2>"$WORK/start" || fail "round $round: its compute: $(cat "$WORK/start")"
    [ "$(rows_of own)" = 1000 ] || fail "round $round: its rows"
    q "INSERT INTO t VALUES (0)" own || fail "round $round: it takes no rows"
    "$LOCH" compute stop own >/dev/null
    "$LOCH" branch delete own >/dev/null || fail "round $round: branch delete"
    wait_until 20 clean || fail "round $round: a deleted branch leaves: $(traces)"
done
[ "$(rows_of main)" = 1000 ] || fail "main"
note "$kills kills: $whole times it was there all the same, $again times made again, $removed times after its leftovers were deleted"
note PASSED
