#!/usr/bin/env bash
# Every kind of file that a cluster stores, flipped, cut, put in another's place (file, timeline, tenant) and rolled
# back while nothing runs: the daemons notice, name the file, and no wrong row is ever read. A kind of file that
# this test does not know fails it. tamper.sh [ROUND...]
. "$(dirname "$0")/lib.sh"

export LOCH_SAFEKEEPER_FILE_BYTES=1MiB LOCH_PAGESERVER_OPEN_LAYER=1MiB LOCH_LAYERS_UPKEEP=1h
KEY=$WORK/own.key
head -c 32 /dev/urandom >"$KEY" && chmod 600 "$KEY"
console() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch user=loch" -X -A -t -q -v ON_ERROR_STOP=1 -c "$2"; }
flush() { # TENANT BRANCH
    local ids
    ids=$("$LOCH" branch list --tenant "$1" --json | python3 -c '
import json, sys
b = next(b for b in json.load(sys.stdin) if b["name"] == sys.argv[1])
print(b["tenant"], b["timeline"])' "$2")
    console 10 "FLUSH $ids" >/dev/null
}
rows() { q "SELECT count(*) || '/' || sum(g) || '/' || sum(length(m)) FROM t" "$1"; }
ingested() { # TENANT: the pageserver has all WAL of its branch main
    local at
    at=$(q 'SELECT pg_current_wal_insert_lsn()' "$1")
    reached "$("$LOCH" branch list --tenant "$1" --json | python3 -c '
import json, sys
print(next(b["last_record_lsn"] for b in json.load(sys.stdin) if b["name"] == "main"))')" "$at"
}
flush_all() { for c in main lay; do wait_until 60 ingested $c || fail "the pageserver does not catch up with $c"; flush $c main; done; }
rest() { # all computes and daemons, and a copy of everything
    local name
    for name in "$@"; do "$LOCH" compute stop "$name" >/dev/null; done
    "$LOCH" down >/dev/null 2>&1
}

up
at=
"$LOCH" tenant create lay >/dev/null || fail "tenant lay"
"$LOCH" tenant create man >/dev/null || fail "tenant man"
"$LOCH" tenant create ring --kms-uri "file:$KEY" >/dev/null || fail "tenant ring"
"$LOCH" compute start lay --tenant lay >/dev/null || fail "compute lay"
for c in main lay; do
    q "CREATE TABLE t AS SELECT g, md5(g::text || '$c') AS m FROM generate_series(1, 5000) g" "$c"
    [ $c = lay ] || at=$(q "SELECT pg_current_wal_insert_lsn()")
    q "SELECT pg_switch_wal()" "$c" >/dev/null # a whole piece of WAL for the archive
    q "INSERT INTO t VALUES (0, 'more')" "$c"
done
"$LOCH" branch create man2 --tenant man >/dev/null
"$LOCH" branch create ring2 --tenant ring >/dev/null
for b in v1 v2 v3 v4 v5; do "$LOCH" branch create $b >/dev/null || fail "branch $b"; done
"$LOCH" compute start v5 --branch v5 >/dev/null || fail "compute v5"
archived() { # under its own name: not on its way
    local t
    for t in main lay; do
        compgen -G "$DIR/store/tenants/$(tenant_of $t)/timelines/*/wal/????????????????" >/dev/null || return 1
    done
}
wait_until 60 archived || fail "nothing is archived"
flush_all
settled() { [ "$(find "$DIR/store" -path '*/timelines/*/manifest' -type f | wc -l)" -ge 11 ]; } # a branch's own comes some seconds later
wait_until 60 settled || fail "branches without a manifest"
rest main lay v5
# At rest: nothing is on its way to its place under a name for the while, and what still has one was forgotten.
kinds=$(python3 "$ROOT/tests/e2e/tamper.py" kinds "$DIR") || fail "a kind of file that this test does not know: $kinds"
note "$(python3 "$ROOT/tests/e2e/tamper.py" count "$DIR")"
cp -a "$DIR" "$WORK/old"

# Later: everything that can has a newer version.
up
for c in main lay; do
    "$LOCH" compute start $c --tenant $c >/dev/null || fail "compute $c"
    q "UPDATE t SET m = m || 'new'" "$c"
    q "INSERT INTO t SELECT g, md5(g::text) FROM generate_series(5001, 9000) g" "$c"
done
"$LOCH" compute start v5 --branch v5 >/dev/null || fail "compute v5"
main=$(rows main)
lay=$(rows lay)
for t in main ring; do "$LOCH" key rotate kek --tenant $t >/dev/null || fail "rotate"; done
"$LOCH" branch rename man2 man3 --tenant man >/dev/null || fail "rename"
"$LOCH" branch delete ring2 --tenant ring >/dev/null || fail "delete"
flush_all
for t in main lay man ring; do "$LOCH" branch list --tenant $t --json; done | python3 -c '
import json, sys
text, at, rows = sys.stdin.read(), 0, []
while at < len(text.rstrip()):
    more, at = json.JSONDecoder().raw_decode(text, at + (len(text[at:]) - len(text[at:].lstrip())))
    rows += more
json.dump(rows, open(sys.argv[1], "w"))' "$WORK/names.json"
rest main lay v5
cp -a "$DIR" "$WORK/new"

for round in ${*:-flip cut block timeline tenant back own}; do
    rm -rf "$DIR" && cp -a "$WORK/new" "$DIR" && rm -rf "$DIR"/log/* "$(scratch)"/compute-*
    python3 "$ROOT/tests/e2e/tamper.py" hurt "$DIR" "$WORK/old" "$round" "$WORK/plan" || fail "$round"
    "$LOCH" up >/dev/null 2>&1 || true
    for c in main lay; do
        [ "$round" != own ] || continue # most safekeepers are down
        if "$LOCH" compute start $c --tenant $c >/dev/null 2>>"$DIR/log/cli.log" && got=$(rows $c 2>>"$DIR/log/cli.log"); then
            [ "$got" = "${!c}" ] || fail "$round: wrong rows of $c: $got, not ${!c}"
            note "$round: $c: served, rows as they were"
        else
            note "$round: $c: refused: $(tail -1 "$DIR/log/cli.log" | cut -c1-260)"
        fi
    done
    [ "$round" = own ] || "$LOCH" compute start v5 --branch v5 >/dev/null 2>>"$DIR/log/cli.log" || true
    older=
    if [ "$round" != own ]; then # reads the archive, again and again where that is damaged
        timeout 60 "$LOCH" branch create older --at "$at" >/dev/null 2>&1 &
        older=$!
        BACKGROUND+=("$older")
    fi
    judged() { python3 "$ROOT/tests/e2e/tamper.py" judge "$DIR" "$round" "$WORK/plan" >"$WORK/judged"; }
    wait_until 30 judged || { cat "$WORK/judged"; fail "$round: not everything was noticed"; }
    cat "$WORK/judged"
    [ -z "$older" ] || { kill "$older" 2>/dev/null || true; wait "$older" 2>/dev/null || true; }
    "$LOCH" down --immediate >/dev/null 2>&1 || true
done
note "passed"
