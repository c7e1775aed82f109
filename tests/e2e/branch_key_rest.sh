#!/usr/bin/env bash
# A branch with a CMK of its own whose tenant falls asleep (kms.idle), and one that is archived: through the loss of that CMK,
# its return, and its end. The tenant itself feels nothing of it.
. "$(dirname "$0")/lib.sh"

export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=4s LOCH_KMS_GRACE=2s LOCH_KMS_SETTLE=500ms LOCH_KMS_IDLE=3s LOCH_KMS_SHRED_DELAY=1s
export LOCH_LAYERS_UPKEEP=200ms LOCH_HISTORY_TIME=0 LOCH_HISTORY_BYTES=0 LOCH_HISTORY_LEASE=1ms
up
CMK=$WORK/own.key
OURS=$WORK/ours.key
for f in "$CMK" "$OURS"; do head -c 32 /dev/urandom >"$f" && chmod 600 "$f"; done
"$LOCH" tenant create ours --kms-uri "file:$OURS" >/dev/null || fail "tenant create"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "compute start ours"
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 3000) g" ours
"$LOCH" branch create own --tenant ours --kms-uri "file:$CMK" >/dev/null || fail "branch create --kms-uri"
"$LOCH" compute start own --tenant ours --branch own >/dev/null || fail "compute start own"
q "INSERT INTO t SELECT g FROM generate_series(3001, 5000) g" own
tenant=$(tenant_of ours)
show() { "$LOCH" branch show own --tenant ours --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0].get(sys.argv[1]) or "")' "$1"; }
own=$(show timeline)
DAEMONS="1 2 3 10"
ask() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch" -X -A -t -F '|' -c "$2"; }
# lease DAEMON COLUMN [BRANCH]: of the tenant ours, or of the branch.
lease() { ask "$1" "SHOW LEASES" | awk -F'|' -v t="$tenant" -v b="${3:-}" -v c="$2" '$1 == t && $9 == b { print $c }'; }
every_lease_is() { for d in $DAEMONS; do [ "$(lease "$d" 2 "${2:-}")" = "$1" ] || return 1; done; }
every_lease_is_wiped() { # now: the time of an earlier wipe stays when a lease is held again
    for d in $DAEMONS; do [ "$(lease "$d" 2 "$own")" = revoked ] && [ -n "$(lease "$d" 6 "$own")" ] || return 1; done
}
tenant_is_wiped() { for d in $DAEMONS; do [ -n "$(lease "$d" 6)" ] || return 1; done; }
decrypts() { echo $(($(for d in $DAEMONS; do ask "$d" "SHOW LEASES" | awk -F"|" -v t="$tenant" '$1 == t { n += $8 } END { print n + 0 }'; done | paste -sd+))); }
leases() { for d in $DAEMONS; do ask "$d" "SHOW LEASES" | grep "^$tenant" | cut -d'|' -f1,2,9; done | xargs; }
stop() { for c in "$@"; do "$LOCH" compute stop "$c" >/dev/null || fail "compute stop $c"; done; }
start_own() { "$LOCH" compute start own --tenant ours --branch own >"$WORK/start" 2>&1; }
# Right after its key came back: the command waits 3 s for that; where the machine takes longer, the compute comes by itself.
start_own_again() {
    local begun=$SECONDS
    start_own || { [ $((SECONDS - begun)) -ge 2 ] && grep -q "it comes back by itself" "$WORK/start" && wait_until 60 own_runs; }
}
own_runs() { [ "$(field own state)" = running ] && rows own >/dev/null 2>&1; }
asleep() {
    wait_until 60 every_lease_is asleep || fail "$1: not every daemon sleeps: $(leases)"
    wait_until 20 every_lease_is "" "$own" || fail "$1: the branch's lease goes on: $(leases)" # with the next look
    wait_until 20 tenant_is_wiped || fail "$1: not every daemon that sleeps has wiped: $(for d in $DAEMONS; do lease "$d" 6; done | xargs)"
}
rows() { q "SELECT count(*) FROM t" "$1"; }

# ---- asleep ----
wait_until 20 every_lease_is held "$own" || fail "the branch's leases: $(leases)"
stop ours own
asleep "nobody uses it"
before=$(decrypts)
main_asked() { [ "$(ask 10 "SHOW LEASES" | grep -v "^$tenant" | cut -d'|' -f8)" -ge $((main_before + 10)) ]; }
main_before=$(ask 10 "SHOW LEASES" | grep -v "^$tenant" | cut -d'|' -f8)
wait_until 60 main_asked || fail "the busy tenant's lease is not renewed"
[ "$(decrypts)" = "$before" ] || fail "$(($(decrypts) - before)) Decrypts for a sleeping tenant and its branch"
asleep "left alone"
start_own || fail "a compute of the sleeping branch: $(cat "$WORK/start")"
[ "$(rows own)" = 5000 ] || fail "rows after the sleep"
wait_until 20 every_lease_is held "$own" || fail "awake: $(leases)"
stop own
asleep "once more"
note "asleep, left alone, awake with its next use"

# ---- its CMK goes while the tenant sleeps: noticed with the next use, of it alone ----
mv "$CMK" "$CMK.away"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "the parent's compute, while the branch's CMK is away"
[ "$(rows ours)" = 3000 ] || fail "the parent's rows"
wait_until 20 every_lease_is revoked "$own" || fail "the branch whose CMK is away: $(leases)"
start_own && fail "a compute of the branch starts without its CMK"
every_lease_is held || fail "the tenant's own lease: $(leases)"
"$LOCH" compute stop own >/dev/null 2>&1 || true
# A branch that is dark keeps nobody awake, and takes no harm from the tenant's sleep.
stop ours
asleep "with a dark branch"
mv "$CMK.away" "$CMK"
start_own_again || fail "a compute of the branch when its CMK is back: $(cat "$WORK/start")"
wait_until 20 every_lease_is held "$own" || fail "the CMK is back: $(leases)"
[ "$(rows own)" = 5000 ] || fail "rows when the CMK is back"
q "INSERT INTO t SELECT g FROM generate_series(5001, 5500) g" own
note "its CMK went and came back while the tenant slept"

# ---- archived: through a loss and a return of its CMK, with a restart in between ----
"$LOCH" compute start ours --tenant ours >/dev/null || fail "compute start ours" # keeps the tenant awake
stop own
"$LOCH" branch archive own --tenant ours || fail "branch archive"
mv "$CMK" "$CMK.away"
wait_until 20 every_lease_is revoked "$own" || fail "an archived branch's lease: $(leases)"
wait_until 20 every_lease_is_wiped || fail "not every daemon has wiped: $(leases)"
"$LOCH" branch unarchive own --tenant ours >"$WORK/un" 2>&1 && fail "it is unarchived without its CMK"
grep -q "KEY_REVOKED\|DENIED\|gone" "$WORK/un" || fail "unarchive says: $(cat "$WORK/un")"
[ "$(show state)" = REVOKED ] || fail "after a refused unarchive it is $(show state)"
kill -9 "$(daemon_pid pageserver)"
"$LOCH" up >/dev/null 2>&1 || fail "up without the branch's CMK"
is_revoked() { [ "$(show state)" = REVOKED ]; }
wait_until 20 is_revoked || fail "after a restart it is $(show state): $(show problem)"
wait_until 20 every_lease_is revoked "$own" || fail "after the restart: $(leases)"
[ "$(rows ours)" = 3000 ] || fail "the parent's rows after the restart"
mv "$CMK.away" "$CMK"
wait_until 20 every_lease_is held "$own" || fail "the CMK is back: $(leases)"
is_archived() { [ "$(show state)" = archived ]; } # it is looked at anew a moment after its lease is held
wait_until 20 is_archived || fail "a branch comes back from the archive with its CMK: $(show state)"
"$LOCH" branch unarchive own --tenant ours || fail "unarchive"
start_own || fail "a compute of the unarchived branch: $(cat "$WORK/start")"
[ "$(rows own)" = 5500 ] || fail "rows of the unarchived branch: $(rows own)"
stop own
note "archived, revoked, restarted, and back with all of its rows"

# ---- the CMK goes in the middle of the way into the archive and out of it ----
ms() { sleep "$(printf '0.%03d' "$1")"; } # where in the way the loss falls, not a wait for anything
for round in 1 2 3 4; do
    way=$([ $((round % 2)) = 1 ] && echo archive || echo unarchive)
    "$LOCH" branch $way own --tenant ours >"$WORK/way" 2>&1 &
    order=$!
    ms $((round * 40))
    mv "$CMK" "$CMK.away"
    wait_until 20 every_lease_is_wiped || fail "round $round: not every daemon has wiped: $(leases)"
    wait "$order" || true
    mv "$CMK.away" "$CMK"
    wait_until 20 every_lease_is held "$own" || fail "round $round: $(leases)"
    # Safekeepers that were dark know what is flushed, and of what is committed only what they had noted.
    goes() {
        "$LOCH" branch $way own --tenant ours >"$WORK/way" 2>&1 && return
        ! grep -q "no compute settles it" "$WORK/way" || { start_own && stop own; }
        return 1
    }
    wait_until 60 goes || fail "round $round: $way when the CMK is back: $(cat "$WORK/way")"
done
start_own || fail "a compute after four losses: $(cat "$WORK/start")"
[ "$(rows own)" = 5500 ] || fail "rows after four losses"
stop own
note "lost four times on its way"

# ---- archived, its CMK destroyed, shredded ----
"$LOCH" branch archive own --tenant ours || fail "archive"
rm "$CMK"
wait_until 20 every_lease_is_wiped || fail "not every daemon has wiped: $(leases)"
order=$("$LOCH" key shred branch --branch own --tenant ours --json) || fail "key shred"
token=$(json "${order:1:-1}" token)
confirm() { "$LOCH" key shred branch --branch own --tenant ours --confirm "$token" >"$WORK/shred" 2>&1; }
wait_until 20 confirm || fail "an archived branch whose CMK is destroyed cannot be shredded: $(cat "$WORK/shred")"
"$LOCH" key verify-shredded "$own" --tenant ours >"$WORK/verify" || fail "something is left of it: $(cat "$WORK/verify")"
left() { find "$DIR" -path "*/timelines/$own/*" -type f ! -name .lock; }
[ -z "$(left)" ] || fail "files are left: $(left)"
gone() { every_lease_is "" "$own"; }
wait_until 20 gone || fail "its lease goes on: $(leases)"
[ "$(rows ours)" = 3000 ] || fail "the parent's rows in the end"
"$LOCH" key audit verify >/dev/null || fail "audit verify"
note "PASSED"
