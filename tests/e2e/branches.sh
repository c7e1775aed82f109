#!/usr/bin/env bash
# Branches as people handle them: listed, shown, renamed, deleted and refused with the reason; each its own system
# identifier; prepared transactions kept when asked for; all of it the same after the pageserver died.
. "$(dirname "$0")/lib.sh"

says() { # TEXT COMMAND...: it fails and says so
    local text=$1
    shift
    if "$@" >"$WORK/out" 2>&1; then fail "went through: $*"; fi
    grep -qF "$text" "$WORK/out" || fail "$* says: $(cat "$WORK/out")"
}
shown() { "$LOCH" branch show "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0].get(sys.argv[1]))' "$2"; }

up
"$LOCH" compute stop main >/dev/null
"$LOCH" compute start main --set max_prepared_transactions=5 >/dev/null || fail "compute start"
q "CREATE TABLE t AS SELECT g AS n FROM generate_series(1, 1000) g; CREATE TABLE p (n int)"
q "BEGIN; INSERT INTO p VALUES (1); PREPARE TRANSACTION 'pending'"
"$LOCH" branch create a >/dev/null || fail "branch a"
"$LOCH" branch create kept --keep-prepared >/dev/null || fail "branch kept"
"$LOCH" branch create b --from a >/dev/null || fail "branch b of a"

# Prepared transactions: rolled back, or kept, by branch; a branch of the one that kept them decides anew.
"$LOCH" branch create kept-not --from kept >/dev/null || fail "branch of kept"
"$LOCH" compute start kept --branch kept --set max_prepared_transactions=5 >/dev/null || fail "compute on kept"
[ "$(q 'SELECT gid FROM pg_prepared_xacts' kept)" = pending ] || fail "the prepared transaction was not kept"
q "COMMIT PREPARED 'pending'" kept
[ "$(q 'SELECT count(*) FROM p' kept)" = 1 ] || fail "it did not commit in the branch"
for branch in a kept-not; do
    "$LOCH" compute start "$branch" --branch "$branch" --set max_prepared_transactions=5 >/dev/null || fail "compute on $branch"
    [ "$(q 'SELECT count(*) FROM pg_prepared_xacts' "$branch")" = 0 ] || fail "a prepared transaction came along to $branch"
    "$LOCH" compute stop "$branch" >/dev/null
done
q "ROLLBACK PREPARED 'pending'"

# What a branch is: whose child, from where, since when.
[ "$(shown b parent)" = a ] || fail "the parent of b: $(shown b parent)"
[ "$(shown a ancestor_lsn)" != None ] && [ "$(shown main ancestor_lsn)" = None ] || fail "ancestor LSNs"
python3 - "$(shown a created)" "$(shown a tip_time)" "$(shown a ancestor_time)" <<'PY' || fail "times of a"
import sys
from datetime import datetime, timezone, timedelta
now = datetime.now(timezone.utc)
for text in sys.argv[1:]:
    assert timedelta(0) <= now - datetime.fromisoformat(text.replace("Z", "+00:00")) < timedelta(minutes=10), text
PY
ids=$("$LOCH" branch list --json | python3 -c 'import json, sys; ids = [r["system_id"] for r in json.load(sys.stdin)]; print(len(ids), len(set(ids)))')
[ "$ids" = "5 5" ] || fail "system identifiers: $ids"
[ "$(q 'SELECT system_identifier FROM pg_control_system()' kept)" = "$(shown kept system_id)" ] || fail "the compute's system identifier"

# The pageserver dies right behind a branch's creation, then amid others: what was answered is there and holds the rows of
# its point, prepared transactions rolled back; what was not is there whole or not at all.
"$LOCH" branch create young >/dev/null || fail "branch young"
kill -9 "$(daemon_pid pageserver)"
up
"$LOCH" compute start young --branch young --set max_prepared_transactions=5 >/dev/null || fail "compute on young"
[ "$(q 'SELECT count(*) FROM t' young)" = 1000 ] || fail "rows of young"
"$LOCH" compute stop young >/dev/null
for round in 1 2; do
    : >"$WORK/made"
    for i in $(seq 40); do
        "$LOCH" branch create "r$round-$i" >/dev/null 2>&1 || break
        echo "r$round-$i" >>"$WORK/made"
    done &
    made() { [ "$(wc -l <"$WORK/made")" -ge 3 ]; }
    wait_until 60 made || fail "no branch is made"
    kill -9 "$(daemon_pid pageserver)"
    wait $!
    up
    "$LOCH" branch list --json | python3 -c '
import json, sys
rows = {r["name"]: r for r in json.load(sys.stdin)}
made = open(sys.argv[1]).read().split()
assert all(name in rows for name in made), (made, rows)
assert not any(r["problem"] for r in rows.values()), rows' "$WORK/made" || fail "branches after a death, round $round"
done
"$LOCH" compute start last --branch r2-1 --set max_prepared_transactions=5 >/dev/null || fail "compute on a branch of the last round"
[ "$(q 'SELECT count(*) FROM t' last)" = 1000 ] || fail "rows of a branch of the last round"
"$LOCH" compute stop last >/dev/null
# Those that were made at about the same time, and those that were found at a start, have manifests of their own soon.
names() { "$LOCH" branch list --json | python3 -c 'import json, sys; print(*[r["name"] for r in json.load(sys.stdin)])'; }
settled() { [ "$(find "$DIR"/store/tenants/*/timelines -name manifest | wc -l)" = "$(names | wc -w)" ]; }
wait_until 90 settled || fail "branches without a manifest: $(find "$DIR"/store/tenants/*/timelines -name manifest | wc -l) of $(names)"
for branch in $("$LOCH" branch list --json | python3 -c 'import json, sys; print(*[r["name"] for r in json.load(sys.stdin) if r["name"][0] in "ry"])'); do
    "$LOCH" branch delete "$branch" || fail "delete $branch"
done

# Renamed: the computes go with it, also after the pageserver died.
timeline=$(shown kept timeline)
"$LOCH" branch rename kept better || fail "rename"
says "there is no branch" "$LOCH" branch show kept
says "already" "$LOCH" branch rename better main
says "a name is a letter" "$LOCH" branch rename better 1st
says "there is no branch" "$LOCH" branch rename kept better # which went through, notes and all
"$LOCH" branch create main >/dev/null 2>&1 && code=0 || code=$?
[ $code = 1 ] || fail "what the pageserver refuses ended with code $code"
"$LOCH" branch create 'no name' >/dev/null 2>&1 && code=0 || code=$?
[ $code = 2 ] || fail "what nobody understands ended with code $code"
# Cut short behind the pageserver's part: the same command goes on.
"$LOCH" compute start look --read-only --branch better >/dev/null || fail "a read-only compute"
psql "host=$DIR/run port=$((PORT_BASE + 10)) dbname=loch" -Xq -c "RENAME BRANCH main $timeline TO best" || fail "rename by hand"
"$LOCH" branch rename better best 2>"$WORK/out" || fail "a rename that was cut short is not gone on with: $(cat "$WORK/out")"
[ "$(field kept branch)" = best ] && [ "$(field look branch)" = best ] || fail "computes after it: $("$LOCH" compute list)"
says "there is no branch" "$LOCH" branch rename better best
"$LOCH" branch rename best better || fail "rename back"
[ "$(field kept branch)" = better ] && [ "$(field look branch)" = better ] || fail "computes after the way back: $("$LOCH" compute list)"
"$LOCH" compute stop look >/dev/null || fail "stop look"
kill -9 "$(daemon_pid pageserver)"
up
[ "$(shown better timeline)" = "$timeline" ] || fail "the new name is lost"
[ "$(field kept branch)" = better ] || fail "the compute's branch"
destroy_compute kept
"$LOCH" compute start kept >/dev/null || fail "compute start after a rename"
[ "$(q 'SELECT count(*) FROM p' kept)" = 1 ] || fail "rows after a rename"

# Deleted, if nothing stands on it.
says "branch b stands on a" "$LOCH" branch delete a
says "compute kept runs on branch better" "$LOCH" branch delete better
"$LOCH" compute stop kept >/dev/null
says "branch kept-not stands on better" "$LOCH" branch delete better
for branch in kept-not better b a; do "$LOCH" branch delete "$branch" || fail "delete $branch"; done
[ "$("$LOCH" branch list --json | python3 -c 'import json, sys; print([r["name"] for r in json.load(sys.stdin)])')" = "['main']" ] || fail "branches left"
[ "$("$LOCH" compute list --json | python3 -c 'import json, sys; print([r["name"] for r in json.load(sys.stdin)])')" = "['main']" ] || fail "computes left"
[ "$(ls "$DIR"/pageserver/tenants/*/timelines | wc -l)" = 1 ] || fail "files of deleted branches are left"
[ "$(q 'SELECT count(*) FROM t')" = 1000 ] || fail "main lost rows"
note "passed"
