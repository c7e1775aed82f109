#!/usr/bin/env bash
# Deletions that are cut short, or that a safekeeper does not hear of: afterwards `loch up` or `loch safekeeper settle` leaves
# nothing of them anywhere, and nothing else is touched: not what is dark, not served, archived, nor what the pageserver cannot
# say of. And creations of tenants that were cut short before any safekeeper heard of them.
. "$(dirname "$0")/lib.sh"

export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=1500ms LOCH_KMS_SETTLE=1s
ask() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch" -X -A -t -F '|' -c "$2"; }
show() { "$LOCH" branch list "$@" --json; }
id_of() { show "${@:2}" | python3 -c 'import json, sys; print(next(r["timeline"] for r in json.load(sys.stdin) if r["name"] == sys.argv[1]))' "$1"; }
keepers() { # of a timeline, or tenant: which safekeepers have it
    local n
    for n in 1 2 3; do ask $n "SHOW MEMBER STATES" 2>/dev/null | grep -q "$1" && printf '%s ' $n; done
    true
}
kept_by() { [ "$(keepers "$1")" = "$2" ]; }
stop() { kill -9 "$(daemon_pid "$1")"; wait_gone "$(daemon_pid "$1")"; }
settle() { "$LOCH" safekeeper settle >"$WORK/settle" 2>&1; }

# ---- the first `up` is cut short while the pageserver makes the tenant ----
"$LOCH" up --port-base "$PORT_BASE" >"$WORK/up" 2>&1 &
order=$!
ordered() { grep -qs "CREATE TENANT main" "$DIR/log/pageserver.log"; }
wait_until 60 ordered || fail "up makes no tenant: $(cat "$WORK/up")"
kill -9 $order
wait $order 2>/dev/null && fail "up was not cut short"
made() { "$LOCH" tenant list 2>/dev/null | grep -q '^[0-9a-f]* *main '; }
wait_until 60 made || fail "the pageserver does not go on: $("$LOCH" tenant list)"
"$LOCH" up >"$WORK/up" 2>&1 && fail "up with a tenant that never works: $(cat "$WORK/up")"
grep -q "cut short.*loch tenant delete main" "$WORK/up" || fail "no way out is named: $(cat "$WORK/up")"
"$LOCH" tenant create main >"$WORK/out" 2>&1 && fail "main was created twice"
grep -q "cut short" "$WORK/out" || fail "no cause is named: $(cat "$WORK/out")"
"$LOCH" tenant delete main 2>"$WORK/out" || fail "the way out: $(cat "$WORK/out")"
up
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g" || fail "the first compute"
TENANT=$(tenant_of main)
note "a first up that was cut short"

# ---- a safekeeper is down ----
"$LOCH" branch create away >/dev/null || fail "branch create"
away=$(id_of away)
kept_by "$away" "1 2 3 " || fail "a new branch is kept by $(keepers "$away")"
stop safekeeper-3
"$LOCH" branch delete away 2>"$WORK/out" || fail "branch delete: $(cat "$WORK/out")"
grep -q "next .loch up" "$WORK/out" || fail "nobody says what becomes of it: $(cat "$WORK/out")"
"$LOCH" up >/dev/null 2>"$WORK/up" || fail "up: $(cat "$WORK/up")"
kept_by "$away" "" || fail "a deleted branch is kept by $(keepers "$away"): $(cat "$WORK/up")"
grep -q "safekeeper 3: timeline ${away:0:8} was deleted" "$WORK/up" || fail "nobody says so: $(cat "$WORK/up")"

"$LOCH" compute start look --read-only >/dev/null || fail "read-only compute"
look=$(show | python3 -c 'import json, sys; print(next(r["timeline"] for r in json.load(sys.stdin) if r["name"].startswith("read-only-look")))')
stop safekeeper-2
"$LOCH" compute stop look >/dev/null 2>&1 || fail "stop of a read-only compute"
"$LOCH" up >/dev/null 2>"$WORK/up" || fail "up: $(cat "$WORK/up")"
kept_by "$look" "" || fail "the branch of a stopped compute is kept by $(keepers "$look"): $(cat "$WORK/up")"
note "a safekeeper was down"

# ---- the command is killed behind the pageserver's part ----
for n in 1 2 3 4; do
    "$LOCH" branch create "half$n" >/dev/null || fail "branch create"
    half[n]=$(id_of "half$n")
    [ $n = 4 ] || ask 10 "DROP BRANCH $TENANT ${half[n]}" >/dev/null || fail "drop"
done
"$LOCH" branch delete "${half[1]}" >/dev/null 2>&1 || fail "a delete is not repeated by the id"
kept_by "${half[1]}" "" || fail "a repeated delete leaves it with $(keepers "${half[1]}")"
stop safekeeper-1 # which cannot open it any more
"$LOCH" compute start look --read-only >/dev/null || fail "read-only compute"
look=$(show | python3 -c 'import json, sys; print(next(r["timeline"] for r in json.load(sys.stdin) if r["name"].startswith("read-only-look")))')
ask 10 "DROP BRANCH $TENANT $look" >/dev/null 2>&1 || fail "drop"
"$LOCH" compute stop look --immediate >/dev/null 2>"$WORK/out" || fail "the stop is not repeated: $(cat "$WORK/out")"
kept_by "$look" "" || fail "a repeated stop leaves it with $(keepers "$look")"
"$LOCH" compute list | grep -q look && fail "its note is left"

# Nothing goes while the pageserver cannot be asked.
stop pageserver
settle || true
kept_by "${half[2]}" "2 3 " || fail "without a pageserver it is kept by $(keepers "${half[2]}"): $(cat "$WORK/settle")"
# It lacks the tenant: its store is not what it was.
mv "$DIR/store/tenants/$TENANT/manifest" "$WORK/manifest"
"$LOCH" up >/dev/null 2>"$WORK/up" && fail "up without main"
ask 10 "SHOW TENANTS" | grep -q "$TENANT" && fail "the tenant is listed without its manifest"
kept_by "${half[2]}" "1 2 3 " && kept_by "${half[4]}" "1 2 3 " || fail "a tenant that is not listed lost WAL: $(cat "$WORK/up")"
grep -q "does not know.*loch tenant delete $TENANT" "$WORK/up" || fail "nobody says so: $(cat "$WORK/up")"
stop pageserver
mv "$WORK/manifest" "$DIR/store/tenants/$TENANT/manifest"
# It is dark.
mv "$DIR/cmk.key" "$WORK/cmk.key"
head -c 32 /dev/urandom >"$DIR/cmk.key" && chmod 600 "$DIR/cmk.key" # another
"$LOCH" up >/dev/null 2>"$WORK/up" || true
settle && fail "settled without keys"
ask 10 "SHOW TENANTS" | grep -q "$TENANT||0|REVOKED" || fail "the tenant is not dark from the start on: $(ask 10 "SHOW TENANTS")"
kept_by "${half[2]}" "1 2 3 " && kept_by "${half[4]}" "1 2 3 " || fail "a dark tenant lost WAL: $(cat "$WORK/up" "$WORK/settle")"
ask 10 "DROP BRANCH $TENANT ${half[4]}" >"$WORK/out" 2>&1 && fail "a branch of a dark tenant was removed"
grep -q "not known now" "$WORK/out" || fail "a branch of a dark tenant is not there, or: $(cat "$WORK/out")"
stop pageserver
mv "$WORK/cmk.key" "$DIR/cmk.key"
"$LOCH" up >/dev/null 2>&1 || true
served() { ask 10 "SHOW TENANTS" 2>/dev/null | grep -q "|main|.*|active|"; }
wait_until 30 served || fail "the tenant does not come back: $(ask 10 "SHOW TENANTS")"
# Of another than what the safekeeper has seen: both the pageserver and the store fell back to before the branch was made.
"$LOCH" compute stop main >/dev/null
stop pageserver
cp -a "$DIR/pageserver" "$WORK/pageserver" && cp -a "$DIR/store" "$WORK/store"
"$LOCH" up >/dev/null 2>"$WORK/up" || fail "up: $(cat "$WORK/up")"
kept_by "${half[2]}" "" && kept_by "${half[3]}" "" || fail "kept by $(keepers "${half[2]}"): $(cat "$WORK/up")"
kept_by "${half[4]}" "1 2 3 " || fail "another branch is gone"
for n in $(seq 10); do "$LOCH" branch create "newer$n" >/dev/null || fail "branch create"; done
newer=$(id_of newer10) # the copy has no keys for it yet
stop pageserver
mv "$DIR/pageserver" "$WORK/pageserver.now" && mv "$DIR/store" "$WORK/store.now"
mv "$WORK/pageserver" "$DIR/pageserver" && mv "$WORK/store" "$DIR/store"
"$LOCH" up >/dev/null 2>"$WORK/up" || true
settle || true
show | grep -q "$newer" && fail "the copy names the newer branch"
kept_by "$newer" "1 2 3 " || fail "a store put back from an older copy lost WAL: $(cat "$WORK/up" "$WORK/settle")"
grep -q "safekeeper 2 keeps WAL of timeline ${newer:0:8}.*does not prove" "$WORK/up" || fail "nobody says so: $(cat "$WORK/up")"
stop pageserver
rm -rf "$DIR/pageserver" "$DIR/store"
mv "$WORK/pageserver.now" "$DIR/pageserver" && mv "$WORK/store.now" "$DIR/store"
"$LOCH" up >/dev/null 2>"$WORK/up" || fail "up: $(cat "$WORK/up")"
settle || fail "settle: $(cat "$WORK/settle")"
for branch in $(seq -f newer%.0f 10) half4; do "$LOCH" branch delete $branch || fail "delete $branch"; done
note "the command was killed, and what is no proof"

# ---- the pageserver is killed on the way; by kill at any moment it is there whole, or nowhere ----
for round in 1 2 3; do
    "$LOCH" branch create round >/dev/null || fail "branch create"
    id=$(id_of round)
    touch "$WORK/mark"
    "$LOCH" branch delete round >/dev/null 2>&1 &
    order=$!
    until [ -n "$(find "$DIR/store/tenants" -mindepth 2 -maxdepth 2 -name manifest -newer "$WORK/mark")" ] || ! kill -0 $order 2>/dev/null; do :; done
    kill -9 "$(daemon_pid pageserver)"
    [ $round != 3 ] || kill -9 $order 2>/dev/null || true
    wait $order 2>/dev/null || true
    "$LOCH" up >/dev/null 2>"$WORK/up" || fail "up: $(cat "$WORK/up")"
    settle || fail "settle: $(cat "$WORK/settle")"
    if show | grep -q "$id"; then
        "$LOCH" branch delete round || fail "delete"
    fi
    kept_by "$id" "" || fail "round $round: kept by $(keepers "$id")"
done
note "the pageserver was killed"

# ---- tenants ----
"$LOCH" tenant create one >/dev/null && "$LOCH" tenant create two >/dev/null && "$LOCH" tenant create three >/dev/null || fail "tenants"
one=$(tenant_of one) two=$(tenant_of two) three=$(tenant_of three)
stop safekeeper-3
"$LOCH" tenant delete one 2>"$WORK/out" || fail "tenant delete: $(cat "$WORK/out")"
"$LOCH" tenant create one >/dev/null 2>&1 || fail "the name cannot be had again" # with a password of its own
"$LOCH" up >/dev/null 2>"$WORK/up" || fail "up: $(cat "$WORK/up")"
kept_by "$one" "" || fail "a deleted tenant is kept by $(keepers "$one"): $(cat "$WORK/up")"
[ -s "$DIR/secrets/one" ] || fail "the password of the new tenant went with the old"
[ -z "$(ls "$DIR/deleting")" ] || fail "notes of deletions are left: $(ls "$DIR/deleting")"
ask 10 "DROP TENANT $two" >/dev/null || fail "drop"
settle && fail "settled though a tenant is not known"
grep -q "does not know.*loch tenant delete $two" "$WORK/settle" || fail "nobody says so: $(cat "$WORK/settle")"
"$LOCH" tenant delete "$two" 2>"$WORK/out" || fail "a delete is not repeated by the id: $(cat "$WORK/out")"
kept_by "$two" "" || fail "a repeated delete leaves it with $(keepers "$two")"
"$LOCH" tenant delete three >/dev/null 2>&1 &
order=$!
until [ -e "$DIR/deleting/$three.json" ] || ! kill -0 $order 2>/dev/null; do :; done
kill -9 $order 2>/dev/null || true
wait $order 2>/dev/null || true
"$LOCH" up >/dev/null 2>"$WORK/up" || fail "up: $(cat "$WORK/up")"
[ -z "$(ls "$DIR/deleting")" ] || fail "a note is left: $(cat "$WORK/up")"
if "$LOCH" tenant list | grep -q "$three"; then # the order did not get through
    kept_by "$three" "1 2 3 " || fail "a tenant that is there is kept by $(keepers "$three")"
    "$LOCH" tenant delete three || fail "delete three"
fi
kept_by "$three" "" || fail "kept by $(keepers "$three")"
# Cut short within the removal: the keys are gone, the manifest is there; it has no name any more.
one=$(tenant_of one)
mv "$DIR/store/tenants/$one/keyring" "$WORK/keyring"
stop pageserver
"$LOCH" up >/dev/null 2>"$WORK/up" || fail "up: $(cat "$WORK/up")"
kept_by "$one" "1 2 3 " || fail "a broken tenant lost WAL"
"$LOCH" tenant delete one 2>/dev/null && fail "it has its name yet"
"$LOCH" tenant delete "$one" 2>"$WORK/out" || fail "by its id: $(cat "$WORK/out")"
kept_by "$one" "" || fail "kept by $(keepers "$one")"
settle || fail "settle at the end: $(cat "$WORK/settle")"
"$LOCH" compute start main >/dev/null || fail "compute start"
[ "$(q "SELECT count(*) FROM t")" = 1000 ] || fail "rows of main"
note PASSED
