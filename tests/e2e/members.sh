#!/usr/bin/env bash
# Safekeepers come and go under load: a dead one is replaced, the new one is the donor when the others die; the
# membership grows and moves; a lost disk and a late start mend themselves with `up`. Nothing acknowledged is lost.
. "$(dirname "$0")/lib.sh"

members() { # generation, set and address of each member as safekeeper N knows the authority's
    psql -h "$DIR/run" -p $((PORT_BASE + $1)) -X -A -t -d loch -c "SHOW MEMBERS $TENANT $TIMELINE"
}
states() { psql -h "$DIR/run" -p $((PORT_BASE + $1)) -X -A -d loch -c "SHOW MEMBER STATES"; }
state_of() { # safekeeper, column
    states "$1" | python3 -c '
import sys
rows = [line.rstrip("\n").split("|") for line in sys.stdin if "|" in line]
print(next((r[rows[0].index(sys.argv[1])] for r in rows[1:] if r[1] == sys.argv[2]), ""))' "$2" "$TIMELINE"
}
# The longest time without an acknowledgement among the ledger's clients so far, and their errors.
begin_load() {
    rm -f "$WORK/stop"
    mkdir -p "$WORK/ledger"
    "$LEDGER" run --url "$(url)" --state "$WORK/ledger" --clients 4 --seconds 600 --stop-file "$WORK/stop" >"$WORK/load.json" &
    load=$!
    BACKGROUND+=("$load")
    wait_until 60 test -s "$WORK/ledger/client-0" || fail "no transfer is acknowledged"
    watch_machine
}
end_load() { # what happened, stall allowed in ms
    touch "$WORK/stop"
    wait "$load" || fail "the ledger failed: $(cat "$WORK/load.json")"
    note "$1: $(cat "$WORK/load.json")"
    [ "$(json "$(cat "$WORK/load.json")" errors)" = 0 ] || fail "errors under $1"
    # A change takes some durable writes one after the other, none of which may have been as quick as on a machine at rest.
    [ "$(json "$(cat "$WORK/load.json")" longest_stall_ms)" -le $(($2 + 10 * $(pause_ms))) ] ||
        fail "a commit was slower than $2 ms under $1; the machine's longest pause: $(pause_ms) ms"
    "$LEDGER" check --url "$(url)" --state "$WORK/ledger" --accounts 1000 || fail "the ledger after $1"
}
sk() { "$LOCH" safekeeper "$@" >"$WORK/sk.out" 2>&1 || fail "loch safekeeper $*: $(cat "$WORK/sk.out")"; }

up
row=$("$LOCH" branch list --json)
TENANT=$(python3 -c 'import json,sys; print(json.loads(sys.argv[1])[0]["tenant"])' "$row")
TIMELINE=$(python3 -c 'import json,sys; print(json.loads(sys.argv[1])[0]["timeline"])' "$row")
[ "$(members 1 | cut -d'|' -f1 | sort -u)" = 1 ] || fail "the first generation: $(members 1)"

# ---- a dead one is replaced, under load ----
sk add
"$LEDGER" init --url "$(url)" --accounts 1000 || fail "ledger init"
begin_load
agent=$(daemon_pid compute-main)
kill -9 "$(daemon_pid safekeeper-1)"
sk replace safekeeper-1 safekeeper-4
members 4 | sees "127.0.0.1:$((PORT_BASE + 1))" && fail "the dead one is a member still"
[ "$(members 4 | wc -l)" = 3 ] || fail "members: $(members 4)"
end_load "the replacement of a dead safekeeper" 2000
[ "$(daemon_pid compute-main)" = "$agent" ] || fail "the compute was started anew"
followed() { grep -q "3 safekeepers (generation 3)" "$DIR/log/compute-main.log"; }
wait_until 20 followed || fail "the compute did not follow"

# ---- the new one is the donor ----
q "CREATE TABLE only_there AS SELECT generate_series(1, 2000) n"
has_it() { reached "$(state_of 4 flush_lsn)" "$(q 'SELECT pg_current_wal_insert_lsn()')"; }
wait_until 60 has_it || fail "the new safekeeper lags"
for n in 2 3; do kill -9 "$(daemon_pid "safekeeper-$n")"; done
destroy_compute main
up
[ "$(q 'SELECT count(*) FROM only_there')" = 2000 ] || fail "rows are lost"
"$LEDGER" check --url "$(url)" --state "$WORK/ledger" --accounts 1000 || fail "the ledger from the new donor"
note "the new safekeeper served while the two others were gone"

# ---- grow to five, move all, under load ----
begin_load
sk add
sk members 1,2,3,4,5
[ "$(members 5 | wc -l)" = 5 ] || fail "not five members: $(members 5)"
sk members 1,4,5
end_load "growing to five and moving" 2000
[ "$(members 5 | wc -l)" = 3 ] || fail "not three members"
sk remove safekeeper-2
"$LOCH" safekeeper remove safekeeper-4 >"$WORK/out" 2>&1 && fail "a member was removed"
grep -q "keeps the WAL" "$WORK/out" || fail "no cause is named: $(cat "$WORK/out")"

# ---- a change that was killed as soon as the newcomer had the timeline: the tip is that of the members, not of the newcomer ----
sk add
made() { # the words of CREATE TIMELINE for what safekeeper N has
    echo "START $(state_of "$1" start_lsn) PREV $(state_of "$1" prev_lsn) SYSID $(state_of "$1" system_id) PGVERSION $(state_of "$1" pg_version) SEGMENT $(state_of "$1" segment_bytes)"
}
psql -h "$DIR/run" -p $((PORT_BASE + 2)) -X -q -d loch -c "CREATE TIMELINE $TENANT $TIMELINE $(made 5)" || fail "CREATE TIMELINE"
wish() { # as a command writes it down before it has moved anything
    cp "$DIR/cluster.json" "$WORK/wish.json"
    python3 -c '
import json, sys
wish = json.load(open(sys.argv[1]))
wish["members"] = [sys.argv[3]]
json.dump(wish, open(sys.argv[2], "w"))' "$WORK/wish.json" "$DIR/cluster.json" "$1"
}
wish safekeeper-2
q "CREATE TABLE late_branch AS SELECT 1 AS n"
acknowledged=$(q 'SELECT pg_current_wal_flush_lsn()')
"$LOCH" branch create tip >/dev/null 2>"$WORK/out" || fail "branch create while a change waits: $(cat "$WORK/out")"
tip=$("$LOCH" branch show tip --json | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["ancestor_lsn"])')
reached "$tip" "$acknowledged" || fail "the branch at the tip begins at $tip, and $acknowledged was acknowledged"
"$LOCH" branch delete tip || fail "branch delete"
sk members 1,4,5
[ "$(members 5 | wc -l)" = 3 ] || fail "members after the change was given up: $(members 5)"

# ---- a newcomer that is down is refused, and the refusal leaves nothing for `up` to stumble over ----
pid=$(daemon_pid safekeeper-2)
kill -9 "$pid"
wait_gone "$pid"
mv "$DIR/conf/safekeeper-2.ini" "$WORK"
cp "$DIR/cluster.json" "$WORK/before.json"
for command in "members 2" "members 1,2,4,5" "replace 1 2"; do
    # shellcheck disable=SC2086
    "$LOCH" safekeeper $command >"$WORK/out" 2>&1 && fail "safekeeper $command with 2 down"
    cmp "$DIR/cluster.json" "$WORK/before.json" || fail "the refused $command was written down"
    grep -q "safekeeper 2 does not answer" "$WORK/out" || fail "no cause is named: $(cat "$WORK/out")"
done
pid=$(daemon_pid safekeeper-5)
kill -9 "$pid"
wait_gone "$pid"
"$LOCH" safekeeper members 5 >"$WORK/out" 2>&1 && fail "safekeeper members 5 with 5 down"
cmp "$DIR/cluster.json" "$WORK/before.json" || fail "a change to a member that is down was written down: $(cat "$WORK/out")"
up
wish safekeeper-2 # it died later, before it was a member
"$LOCH" up >"$WORK/out" 2>&1 && fail "up without a quorum of those that shall keep the WAL"
grep -q "loch safekeeper abort" "$WORK/out" || fail "no cure is named: $(cat "$WORK/out")"
sk abort
up
mv "$WORK/safekeeper-2.ini" "$DIR/conf"
sk remove safekeeper-2

# ---- only one is left, and one more comes in its place ----
sk members 4
q "INSERT INTO only_there VALUES (2001)"
sk members 1
[ "$(members 1 | wc -l)" = 1 ] || fail "not one member"
q "INSERT INTO only_there VALUES (2002)"
sk members 1,3,5

# ---- a lost disk: what comes back is another member ----
was=$(state_of 3 member)
kill -9 "$(daemon_pid safekeeper-3)"
wait_gone "$(daemon_pid safekeeper-3)"
rm -rf "$DIR/safekeeper-3/tenants"
q "INSERT INTO only_there VALUES (2003)"
up
[ -n "$(state_of 3 member)" ] && [ "$(state_of 3 member)" != "$was" ] || fail "the lost member is back: $(states 3)"
[ "$(members 1 | wc -l)" = 3 ] || fail "members after a lost disk: $(members 1)"
members 1 | sees "$was" && fail "the lost member is a member still"

# ---- without a compute; a branch made while one was down; a broken timeline ----
"$LOCH" compute stop main
kill -9 "$(daemon_pid safekeeper-5)"
"$LOCH" branch create late >/dev/null 2>"$WORK/out" || fail "branch create with one down: $(cat "$WORK/out")"
up
late=$("$LOCH" branch list --json | python3 -c 'import json,sys; print(next(b["timeline"] for b in json.load(sys.stdin) if b["name"] == "late"))')
[ "$(psql -h "$DIR/run" -p $((PORT_BASE + 1)) -X -A -t -d loch -c "SHOW MEMBERS $TENANT $late" | wc -l)" = 3 ] ||
    fail "the late safekeeper did not join"
control_of() { echo "$DIR/safekeeper-$1/tenants/$TENANT/timelines/$TIMELINE/control"; }
cp "$(control_of 5)" "$WORK/control"
for n in 3 5; do
    pid=$(daemon_pid "safekeeper-$n")
    kill -9 "$pid"
    wait_gone "$pid"
    printf 'damage' | dd of="$(control_of $n)" bs=1 seek=300 conv=notrunc 2>/dev/null
done
up
state_is() { [ "$(state_of "$1" state)" = "$2" ]; } # a timeline is opened while the safekeeper answers already
for n in 3 5; do wait_until 20 state_is $n broken || fail "the damage is not seen: $(states $n)"; done
"$LOCH" safekeeper settle >"$WORK/out" 2>&1 && fail "two of three copies were thrown away"
grep -q "no quorum" "$WORK/out" || fail "no cause is named: $(cat "$WORK/out")"
for n in 3 5; do [ "$(state_of $n state)" = broken ] || fail "a broken copy is gone: $(states $n)"; done
pid=$(daemon_pid safekeeper-5)
kill -9 "$pid"
wait_gone "$pid"
rm "$(control_of 5)"
mkdir "$(control_of 5)" # what cannot be read is not damaged: it waits
up
wait_until 20 state_is 5 waiting || fail "an unreadable file is damage: $(states 5)"
rmdir "$(control_of 5)"
cp "$WORK/control" "$(control_of 5)"
wait_until 30 state_is 5 active || fail "it is not tried again: $(states 5)"
sk settle
wait_until 20 state_is 3 active || fail "the broken timeline is not replaced: $(states 3)"
"$LOCH" compute start main >/dev/null || fail "compute start"
[ "$(q 'SELECT count(*) FROM only_there')" = 2003 ] || fail "rows are lost at the end"
"$LEDGER" check --url "$(url)" --state "$WORK/ledger" --accounts 1000 || fail "the ledger at the end"

# ---- when nobody answers, nothing is certain and nothing goes ----
cp "$DIR/cluster.json" "$WORK/before.json"
for n in 1 3 4 5; do kill -9 "$(daemon_pid "safekeeper-$n")"; done
for command in "members 4" "settle" "abort" "remove safekeeper-4"; do
    # shellcheck disable=SC2086
    "$LOCH" safekeeper $command >"$WORK/out" 2>&1 && fail "safekeeper $command with nobody there"
done
grep -q "cannot tell" "$WORK/out" || fail "no cause is named: $(cat "$WORK/out")"
cmp "$DIR/cluster.json" "$WORK/before.json" || fail "a refused command was written down"
[ -d "$DIR/safekeeper-4/tenants" ] || fail "the refused removal removed"
up
[ "$(q 'SELECT count(*) FROM only_there')" = 2003 ] || fail "rows are lost after the refusals"
sk remove safekeeper-4
note "PASSED: replaced, donor, grown, moved, lost disk, late start, broken timelines"
