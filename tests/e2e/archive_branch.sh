#!/usr/bin/env bash
# An idle branch is archived and comes back: its layers are in the object store alone meanwhile, nobody can use it, everybody
# is told what to do, its parent and other branches go on; it survives restarts, and kills in the middle of either way; keys
# are rotated while it is away; deleting it leaves nothing.
. "$(dirname "$0")/lib.sh"

export LOCH_LAYERS_UPKEEP=200ms LOCH_PAGESERVER_OPEN_LAYER=1MiB LOCH_HISTORY_TIME=0 LOCH_HISTORY_BYTES=0 LOCH_HISTORY_LEASE=1ms
up
port=$(sed -n 's/^console = .*PGSQL\.//p' "$DIR/conf/pageserver.ini")
metrics=$(sed -n 's/^metrics = //p' "$DIR/conf/pageserver.ini")
store=$(sed -n '/^\[store\]/,/^\[/s/^path = //p' "$DIR/conf/pageserver.ini")
console() { psql "host=$DIR/run port=$port dbname=loch" -X -A -t -q -v ON_ERROR_STOP=1 -c "$1"; }
show() { "$LOCH" branch show "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0].get(sys.argv[1]) or "")' "$2"; }
files() { find "$DIR/pageserver/tenants" -path "*/timelines/$1/*" -name '*.layer' 2>/dev/null | wc -l; }
copies() { find "$store/tenants" -path "*/timelines/$1/layers/*.layer" 2>/dev/null | wc -l; }
says() { # PATTERN COMMAND...: it fails, and says so
    local pattern=$1 said
    shift
    said=$("$@" 2>&1) && fail "$* succeeded"
    grep -q "$pattern" <<<"$said" || fail "$* said: $said"
}
sum() { q "SELECT count(*), sum(n), md5(string_agg(pad, '' ORDER BY n)) FROM t" "${1:-main}"; }

q "CREATE TABLE t (n int, pad text); INSERT INTO t SELECT g, md5(g::text) || repeat('m', 200) FROM generate_series(1, 4000) g"
"$LOCH" branch create idle >/dev/null || fail "branch idle"
"$LOCH" branch create sibling >/dev/null || fail "branch sibling"
"$LOCH" compute start idle --branch idle >/dev/null || fail "compute idle"
q "INSERT INTO t SELECT g, md5(g::text) || repeat('i', 300) FROM generate_series(5001, 12000) g; UPDATE t SET pad = pad || 'u' WHERE n % 7 = 0" idle
sum_idle=$(sum idle)
idle=$(show idle timeline)
says "compute idle runs on branch idle" "$LOCH" branch archive idle
"$LOCH" compute stop idle >/dev/null || fail "stop"
"$LOCH" branch create child --from idle >/dev/null || fail "branch child"
child=$(show child timeline)
says "branch child stands on idle" "$LOCH" branch archive idle
says "there is no branch" "$LOCH" branch archive nobody

"$LOCH" branch archive child || fail "archive child"
"$LOCH" branch archive idle || fail "archive idle"
"$LOCH" branch archive idle || fail "archive again"
[ "$(show idle state)/$(show child state)/$(show sibling state)" = archived/archived/active ] || fail "states: $("$LOCH" branch list)"
"$LOCH" branch list | grep '^idle .* archived' >/dev/null || fail "not listed as archived: $("$LOCH" branch list)"
[ "$(files "$idle")" = 0 ] || fail "$(files "$idle") local files of an archived branch"
[ "$(copies "$idle")" -ge 1 ] || fail "no objects of an archived branch"
curl -s "http://$metrics/metrics" | grep "timeline=\"$idle\"" >/dev/null && fail "an archived timeline still has gauges"
[ "$(console 'SHOW STATUS' | cut -d'|' -f6)" = 0 ] || fail "an archived branch counts as broken"
note "archived: $(copies "$idle") objects, no file"

# Nobody can use it, and is told the cure.
cure="loch branch unarchive"
says "$cure" "$LOCH" compute start idle
says "$cure" "$LOCH" branch create more --from idle --at "$(show sibling ancestor_lsn)"
says "$cure" console "FLUSH main idle"
says "unarchive it first" console "DETACH BRANCH main idle"
says "idle, which child stands on, is archived" "$LOCH" branch unarchive child
says "branch sibling stands on main" console "ARCHIVE BRANCH main main"

# Its parent goes on: history passes the branch point, which stays; keys are rotated.
for i in 1 2 3; do
    q "UPDATE t SET pad = md5((n + $i)::text)"
    console "FLUSH main main" >/dev/null
done
console "COMPACT main main" >/dev/null || fail "compact"
"$LOCH" key rotate tk >/dev/null || fail "rotate"
console "SET HISTORY main TIME 7200 BYTES 3000000" >/dev/null || fail "SET HISTORY"
"$LOCH" branch rename idle away || fail "rename"
kill -9 "$(daemon_pid pageserver)"
"$LOCH" up >/dev/null || fail "up again"
[ "$(show away state)" = archived ] || fail "after a restart it is $(show away state)"
says "$cure" "$LOCH" compute start idle

# Kills in the middle of both ways; either can be asked for again.
ms() { sleep "$(printf '0.%03d' "$1")"; } # where in the way the kill falls, not a wait for anything
for round in 1 2 3 4 5 6; do
    way=$([ $((round % 2)) = 1 ] && echo unarchive || echo archive)
    state=$([ $way = archive ] && echo archived || echo active)
    "$LOCH" branch $way away >/dev/null 2>&1 &
    order=$!
    ms $((round * 17))
    kill -9 "$(daemon_pid pageserver)"
    wait "$order" || true
    "$LOCH" up >/dev/null || fail "up in round $round"
    [[ $(show away state) =~ ^(archived|active)$ ]] || fail "round $round: it is $(show away state): $(show away problem)"
    retry() { "$LOCH" branch $way away; }
    wait_until 60 retry || fail "$way again in round $round"
    [ "$(show away state)" = "$state" ] || fail "round $round: $(show away state) instead of $state"
    [ $way = unarchive ] || [ "$(files "$idle")" = 0 ] || fail "round $round: $(files "$idle") local files"
done
"$LOCH" branch unarchive away || fail "unarchive"
"$LOCH" branch unarchive away || fail "unarchive again"
"$LOCH" compute start idle >/dev/null || fail "compute on the unarchived branch"
[ "$(sum idle)" = "$sum_idle" ] || fail "rows: $(sum idle) instead of $sum_idle"
q "INSERT INTO t VALUES (-1, 'later')" idle || fail "it does not go on"
"$LOCH" branch unarchive child || fail "unarchive the child"
"$LOCH" compute start child --branch child >/dev/null || fail "compute on the child"
[ "$(sum child)" = "$sum_idle" ] || fail "the child's rows: $(sum child)"
[ "$(q 'SELECT count(*) FROM t')" = 4000 ] || fail "rows of main"
amcheck idle
console "SHOW HISTORY" | grep '^main|away|.*|7200|3000000|tenant|' >/dev/null || fail "its window is not what was set while it was away"
note "it came back with all of its $(cut -d'|' -f1 <<<"$sum_idle") rows"

# Damage while it is away is found before anything depends on it.
"$LOCH" compute stop child >/dev/null || fail "stop"
"$LOCH" branch archive child || fail "archive the child again"
victim=$(find "$store/tenants" -path "*/timelines/$child/layers/*.layer" | head -1)
if [ -n "$victim" ]; then
    cp -p "$victim" "$WORK/aside"
    python3 -c 'import sys; f = open(sys.argv[1], "r+b"); f.seek(300); b = f.read(1); f.seek(300); f.write(bytes([b[0] ^ 1]))' "$victim"
    says "damaged\|does not match\|no good copy" "$LOCH" branch unarchive child
    [ "$(show child state)" = archived ] || fail "after a failed unarchive it is $(show child state)"
    cp -p "$WORK/aside" "$victim"
    "$LOCH" branch unarchive child || fail "unarchive after the repair"
    "$LOCH" branch archive child || fail "archive"
fi
"$LOCH" branch delete child || fail "delete an archived branch"
[ "$(copies "$child")$(files "$child")" = 00 ] || fail "a deleted branch left objects"
note "passed"
