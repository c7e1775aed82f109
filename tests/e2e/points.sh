#!/usr/bin/env bash
# The past looked at by a read-only compute, and a branch restored to a point: its computes go on there under the same
# name, what it was is kept.
. "$(dirname "$0")/lib.sh"

names() { "$LOCH" branch list --json | python3 -c 'import json, sys; print(" ".join(sorted(r["name"] for r in json.load(sys.stdin))))'; }
refused() { # SQL: by PostgreSQL, as read-only
    psql "$(url look)" -X -A -t -q -v ON_ERROR_STOP=1 -c "$1" >"$WORK/out" 2>&1 && fail "went through: $1"
    grep -q "read-only transaction" "$WORK/out" || fail "$1 says: $(cat "$WORK/out")"
}
now() { date -u +%FT%T.%6NZ; }

up
q "CREATE TABLE t AS SELECT g AS n, 0 AS v FROM generate_series(1, 5000) g; CREATE SEQUENCE s"
q "CREATE TABLE log (at text)"
at=$(q "SELECT pg_current_wal_insert_lsn()")
q "UPDATE t SET v = 1"
q "INSERT INTO log VALUES ('before')"
then=$(now)
q "INSERT INTO log VALUES ('after')"
q "DELETE FROM t"

begun=$(date +%s%N)
"$LOCH" compute start look --read-only --at "$at" >/dev/null || fail "read-only compute"
[ "$(q 'SELECT count(*), sum(v) FROM t' look)" = "5000|0" ] || fail "the past: $(q 'SELECT count(*), sum(v) FROM t' look)"
note "read-only compute at an LSN, command to first answer: $((($(date +%s%N) - begun) / 1000000)) ms"
[ "$(field look read_only_at)" != "" ] && [ "$(field look branch)" = main ] || fail "compute list"
refused "INSERT INTO t VALUES (1)"
refused "BEGIN READ WRITE; UPDATE t SET v = 2"
refused "SET default_transaction_read_only = off; DELETE FROM t"
refused "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; CREATE TABLE x ()"
refused "BEGIN; SET TRANSACTION READ WRITE; TRUNCATE t"
refused "SELECT nextval('s')"
refused "DO \$\$ BEGIN INSERT INTO t VALUES (1); END \$\$"
refused "PREPARE i AS INSERT INTO t VALUES (1); EXECUTE i"
refused "COPY t FROM STDIN"
q "SELECT * FROM t WHERE n = 17" look >/dev/null
q "VACUUM t" look # reading and cleaning write WAL of their own
destroy_compute look
"$LOCH" compute start look >/dev/null || fail "rebirth of a read-only compute"
[ "$(q 'SELECT count(*), sum(v) FROM t' look)" = "5000|0" ] || fail "the past after a rebirth"
"$LOCH" compute start look --at "$at" --read-only 2>"$WORK/err" && fail "moved while it runs"
grep -q "stop it first" "$WORK/err" || fail "moving: $(cat "$WORK/err")"
"$LOCH" compute stop look || fail "stop"
[ "$(names)" = main ] || fail "its branch is left: $(names)"
"$LOCH" compute list --json | sees '"look"' && fail "its note is left"
"$LOCH" compute start look --read-only --at "$then" >/dev/null || fail "read-only compute at a time"
[ "$(q 'SELECT string_agg(at, $$,$$) FROM log' look)" = before ] || fail "the log at a time"
"$LOCH" compute stop look >/dev/null || fail "stop"
"$LOCH" compute start main --at "$at" 2>"$WORK/err" && fail "--at without --read-only"
grep -q "wants --read-only" "$WORK/err" || fail "--at: $(cat "$WORK/err")"
"$LOCH" compute start look --read-only --port $((PORT_BASE + 40)) 2>"$WORK/err" && fail "two computes on a port"
[ "$(names)" = main ] || fail "a read-only compute that was refused left $(names)"
"$LOCH" compute start look --read-only >/dev/null || fail "read-only compute at the tip"
kill -9 "$(daemon_pid pageserver)"
[ "$("$LOCH" compute stop look --json 2>"$WORK/err")" = "[]" ] || fail "stop without a pageserver: $(cat "$WORK/err")"
up
[ "$(names)" = main ] || fail "the branch did not go at the next up: $(names)"
# Its note says from the beginning that it only looks; killed before there is one, its branch goes at the next up.
"$LOCH" compute start look --read-only >/dev/null 2>&1 &
late=$((SECONDS + 60)) # nothing else is started in the loop: the note is wanted as it is at first
until { mapfile -t first <"$DIR/computes/look.json"; } 2>/dev/null; do [ "$SECONDS" -lt "$late" ] || fail "no note of a read-only compute"; done
[[ "${first[*]}" == *'"read_only": true'* ]] || fail "a note that lets it write: ${first[*]}"
wait $! || fail "read-only compute beside"
compgen -G "$DIR/run/*.side" >/dev/null && fail "the note of its branch stays beside the compute's"
"$LOCH" compute stop look >/dev/null || fail "stop"
"$LOCH" branch create read-only-look-0123abcd >/dev/null || fail "branch"
printf '{"tenant": "main", "branch": "read-only-look-0123abcd"}' >"$DIR/run/read-only-look-0123abcd.side"
up
[ "$(names)" = main ] || fail "a branch whose maker was killed stays: $(names)"
compgen -G "$DIR/run/*.side" >/dev/null && fail "its note stays"

# Restored while its compute runs: the same name, the same compute, the rows of then.
restored=$("$LOCH" branch restore main --at "$then" --json) || fail "restore"
kept=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])[0]["kept_as"])' "$restored")
[ "$(q 'SELECT count(*), sum(v) FROM t')" = "5000|5000" ] || fail "rows after the restore: $(q 'SELECT count(*), sum(v) FROM t')"
[ "$(q 'SELECT string_agg(at, $$,$$) FROM log')" = before ] || fail "the log after the restore"
[ "$(names)" = "$(printf '%s\n' main "$kept" | sort | paste -sd' ')" ] || fail "branches after the restore: $(names)"
q "INSERT INTO log VALUES ('new')"
destroy_compute main
kill -9 "$(daemon_pid pageserver)"
up
[ "$(q 'SELECT string_agg(at, $$,$$) FROM log')" = before,new ] || fail "the restored branch after deaths"
"$LOCH" compute start old --branch "$kept" >/dev/null || fail "compute on what was kept"
[ "$(q 'SELECT count(*) FROM t' old)|$(q 'SELECT string_agg(at, $$,$$) FROM log' old)" = "0|before,after" ] || fail "what was kept"
amcheck

# The answer to the exchange of names gets lost, and the compute does not start: restored all the same, and said so.
cat >"$WORK/lose.py" <<'PY'
"""A console in front of another one, that loses the answer to RENAME BRANCH and the connection with it."""
import asyncio, os, sys
path = sys.argv[1]

async def serve(reader, writer):
    there, back = await asyncio.open_unix_connection(path + ".real")
    asked = False

    async def up():
        nonlocal asked
        while data := await reader.read(1 << 16):
            asked = asked or b"RENAME BRANCH" in data
            back.write(data)
        back.close()

    async def down():
        while data := await there.read(1 << 16):
            if asked:
                break
            writer.write(data)
        writer.close()

    await asyncio.gather(up(), down())

async def main():
    os.rename(path, path + ".real")
    async with await asyncio.start_unix_server(serve, path) as server:
        await server.serve_forever()

asyncio.run(main())
PY
set_scratch() { # DIR, of the compute main
    python3 - "$DIR/computes/main.json" "$1" <<'PY'
import json, sys
note = json.load(open(sys.argv[1]))
print(note["scratch"])
note["scratch"] = sys.argv[2]
json.dump(note, open(sys.argv[1], "w"))
PY
}
console=$DIR/run/.s.PGSQL.$((PORT_BASE + 10))
python3 "$WORK/lose.py" "$console" 2>/dev/null &
loser=$!
BACKGROUND+=("$loser")
answers() { [ -e "$console.real" ] && "$LOCH" branch list >/dev/null 2>&1; }
wait_until 20 answers || fail "no console in front of the console"
was=$(set_scratch "$console") # no directory
"$LOCH" branch restore main --at "$at" --json >"$WORK/out" 2>"$WORK/err" && fail "a compute that does not start is no failure"
restored_at=$(date +%s)
kill "$loser"
mv "$console.real" "$console"
set_scratch "$was" >/dev/null
grep -q "the answer was lost" "$WORK/err" || fail "the lost answer: $(cat "$WORK/err")"
grep -q "branch main is restored, but not all of its computes run: compute main" "$WORK/err" || fail "the compute: $(cat "$WORK/err")"
second=$(python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["kept_as"])' <"$WORK/out") || fail "no result: $(cat "$WORK/out")"
[ "$(names)" = "$(printf '%s\n' main "$kept" "$second" | sort | paste -sd' ')" ] || fail "branches after the lost answer: $(names)"
"$LOCH" compute start main >/dev/null || fail "compute start"
[ "$(q 'SELECT count(*), sum(v) FROM t')|$(q 'SELECT count(*) FROM log')" = "5000|0|0" ] || fail "rows after the lost answer"
next_second() { [ "$(date +%s)" -gt "$restored_at" ]; } # the names of what is kept have a second's precision
wait_until 5 next_second

# Again, while no compute runs; a point that is not there changes nothing.
"$LOCH" compute stop main >/dev/null
before=$(names)
"$LOCH" branch restore main --at 2999-01-01 2>"$WORK/err" && fail "restored to the future"
grep -q "lies in the future" "$WORK/err" || fail "restore: $(cat "$WORK/err")"
"$LOCH" branch restore main --at FFFF/0 2>"$WORK/err" && fail "restored to an LSN that does not exist"
grep -q "beyond the tip" "$WORK/err" || fail "restore: $(cat "$WORK/err")"
[ "$(names)" = "$before" ] || fail "a refused restore left something: $(names)"
"$LOCH" branch restore main --at "$at" >/dev/null || fail "second restore, before the first one's point"
"$LOCH" compute start main >/dev/null || fail "compute start"
[ "$(q 'SELECT count(*), sum(v) FROM t')|$(q 'SELECT count(*) FROM log')" = "5000|0|0" ] || fail "rows after the second restore"
note "passed"
