#!/usr/bin/env bash
# A branch is detached from its parent, which is then deleted: every row, index, map and counter that the two shared is the
# branch's own, and its own branches stand on it as before; also after the pageserver died.
. "$(dirname "$0")/lib.sh"

says() { # TEXT COMMAND...: it fails and says so
    local text=$1
    shift
    if "$@" >"$WORK/out" 2>&1; then fail "went through: $*"; fi
    grep -qF "$text" "$WORK/out" || fail "$* says: $(cat "$WORK/out")"
}
SUM="SELECT (SELECT count(*) || ' ' || sum(hashtext(t::text)) FROM t), (SELECT sum(n) FROM grown), (SELECT last_value FROM s), (SELECT length(string_agg(v, '')) FROM toasted)"
sum() { q "$SUM" "$1"; }

up
"$LOCH" compute stop main >/dev/null
"$LOCH" compute start main --set max_prepared_transactions=5 >/dev/null || fail "compute start"
q "CREATE TABLE t AS SELECT g AS n, md5(g::text) AS v FROM generate_series(1, 30000) g; CREATE INDEX ON t (v); ALTER TABLE t ADD PRIMARY KEY (n)"
q "CREATE TABLE grown (n int); INSERT INTO grown SELECT generate_series(1, 9000); TRUNCATE grown; INSERT INTO grown SELECT generate_series(1, 500)"
q "CREATE SEQUENCE s; SELECT nextval('s') FROM generate_series(1, 77)" >/dev/null
q "CREATE TABLE toasted AS SELECT g AS n, repeat(md5(g::text), 900) AS v FROM generate_series(1, 60) g; ALTER TABLE toasted ALTER v SET STORAGE EXTERNAL; UPDATE toasted SET v = v || 'x'"
q "CREATE UNLOGGED TABLE u (n int PRIMARY KEY)"
q "CREATE DATABASE other"
q "DELETE FROM t WHERE n % 7 = 0"
q "VACUUM t"
early=$(date -u +%FT%T.%6NZ) # the parent's last transaction is later, in whatever second
q "UPDATE t SET v = 'new ' || v WHERE n % 11 = 0"
q "BEGIN; INSERT INTO t VALUES (-9, 'pending'); PREPARE TRANSACTION 'pending'"
"$LOCH" branch create child --keep-prepared >/dev/null || fail "branch"
q "ROLLBACK PREPARED 'pending'"
"$LOCH" compute start child --branch child --set max_prepared_transactions=5 >/dev/null || fail "compute on the branch"
q "INSERT INTO t SELECT g, 'child' FROM generate_series(100001, 101000) g; TRUNCATE grown; INSERT INTO grown VALUES (42)" child
want=$(sum child)
"$LOCH" branch create grandchild --from child >/dev/null || fail "branch of the branch"
q "INSERT INTO t VALUES (-1, 'child only')" child
want_child=$(sum child)

says "has no parent" "$LOCH" branch detach main
says "compute child runs on branch child" "$LOCH" branch detach child
"$LOCH" compute stop child >/dev/null || fail "stop"
"$LOCH" compute stop main >/dev/null || fail "stop"
says "branch child stands on main" "$LOCH" branch delete main
"$LOCH" branch detach child || fail "detach"
"$LOCH" branch show child --json | sees '"parent": null' || fail "child still has a parent"
says "has no parent" "$LOCH" branch detach child
"$LOCH" branch delete main || fail "the parent cannot be deleted"
for round in "the deletion" "a crash of the pageserver"; do
    "$LOCH" compute start child --branch child --set max_prepared_transactions=5 >/dev/null || fail "compute start after $round"
    [ "$(sum child)" = "$want_child" ] || fail "after $round child has $(sum child), not $want_child"
    [ "$(q "SELECT gid FROM pg_prepared_xacts" child)" = pending ] || fail "the prepared transaction is lost after $round"
    [ "$(q "SELECT count(*) FROM u" child)" = 0 ] || fail "the unlogged table after $round"
    psql "$(url child | sed 's,/postgres$,/other,')" -XAtqc "SELECT count(*) > 50 FROM pg_class" | sees -x t || fail "the other database after $round"
    amcheck child
    "$LOCH" compute start grandchild --branch grandchild >/dev/null || fail "compute on the grandchild after $round"
    [ "$(sum grandchild)" = "$want" ] || fail "after $round grandchild has $(sum grandchild), not $want"
    destroy_compute child
    destroy_compute grandchild
    kill -9 "$(daemon_pid pageserver)"
    up
    for c in child grandchild; do "$LOCH" compute stop "$c" --immediate >/dev/null 2>&1; done
done
"$LOCH" compute start child >/dev/null || fail "compute start"
q "COMMIT PREPARED 'pending'" child
q "UPDATE t SET v = v || '!' WHERE n % 3 = 0" child
q "VACUUM FULL t" child
[ "$(q "SELECT count(*) FROM t WHERE n < 0" child)" = 2 ] || fail "rows after a commit of what was prepared"
# What lies before the branch's beginning was its parent's, and is gone.
says "lies before" "$LOCH" branch lsn child --at "$early"
"$LOCH" branch lsn child --at "$(date -u +%FT%T.%6NZ)" >/dev/null || fail "a moment of its own"

# What else ended within the second of the last transaction that it shares is not known here: refused, not guessed.
start=$("$LOCH" branch show child --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["start_lsn"])')
shared=$("$LOCH" branch time child --at "$start" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["time"][:19])') || fail "branch time"
says "within that second" "$LOCH" branch lsn child --at "$shared.999999Z"

# A restored branch stands alone.
q "DROP TABLE t" child
tip=$(q "SELECT pg_current_wal_insert_lsn()" child)
kept=$("$LOCH" branch restore child --at "$tip" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["kept_as"])') || fail "restore"
"$LOCH" compute stop child >/dev/null
"$LOCH" branch detach child || fail "detach of a restored branch"
"$LOCH" branch delete grandchild && "$LOCH" branch delete "$kept" || fail "what was kept cannot be deleted"
"$LOCH" compute start child >/dev/null || fail "compute on the restored, detached branch"
[ "$(q "SELECT sum(n) FROM grown" child)" = 42 ] || fail "rows of the restored branch"
[ "$("$LOCH" branch list --json | grep -c '"name"')" = 1 ] || fail "branches left"
# What it forgot of its parent's prepared transactions does not take away what was prepared on it since.
"$LOCH" compute stop child >/dev/null && "$LOCH" compute start child --set max_prepared_transactions=5 >/dev/null || fail "compute start"
q "BEGIN; INSERT INTO grown VALUES (7); PREPARE TRANSACTION 'late'" child
"$LOCH" branch create kept --from child --keep-prepared >/dev/null || fail "branch with what is prepared"
"$LOCH" branch detach kept || fail "detach of a branch of a branch that forgot"
"$LOCH" compute start kept --branch kept --set max_prepared_transactions=5 >/dev/null || fail "compute on it"
q "COMMIT PREPARED 'late'" kept
[ "$(q "SELECT sum(n) FROM grown" kept)" = 49 ] || fail "what was prepared is lost"
"$LOCH" compute stop kept >/dev/null && "$LOCH" branch delete kept || fail "delete"
q "ROLLBACK PREPARED 'late'" child
# The picture of its layers is one: an image of all that was copied, and something of its own.
"$LOCH" branch map child >"$WORK/map.svg" || fail "branch map"
python3 - "$WORK/map.svg" <<'PY' || fail "the picture: $(head -c 600 "$WORK/map.svg")"
import sys
import xml.etree.ElementTree as tree
rects = [r for r in tree.parse(sys.argv[1]).iter() if r.tag.endswith("rect") and len(r)]
print(len(rects), "layers drawn")
assert len(rects) >= 2 and all(float(r.get("width")) > 0 and float(r.get("height")) > 0 for r in rects)
PY
note "passed"
