#!/usr/bin/env bash
# A daemon that is told to stop in the middle of a command's work ends, though that work does not: nothing that it uses is
# released under it. The command can be given again afterwards.
. "$(dirname "$0")/lib.sh"

up
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g"
"$LOCH" branch create one >/dev/null || fail "branch create"
lock=$(find "$DIR" -path '*/timelines' -prune -o -path '*/tenants/*/.lock' -print) # of the tenant's manifest
[ -f "$lock" ] || fail "where is the lock of the tenant's manifest: $lock"

# A put waits for that lock as long as somebody else holds it.
python3 -c '
import fcntl, signal, sys
lock = open(sys.argv[1], "r+")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
signal.pause()' "$lock" >"$WORK/holder" &
holder=$!
BACKGROUND+=("$holder")
wait_until 20 grep -q held "$WORK/holder" || fail "the lock is not taken"
inode=$(stat -c %i "$lock")
waits() { grep -E "^[0-9]+: -> .*:$inode " /proc/locks >/dev/null; }

"$LOCH" branch rename one two >"$WORK/rename" 2>&1 &
order=$!
wait_until 20 waits || fail "the rename does not wait for the lock: $(cat "$WORK/rename")"
pageserver=$(daemon_pid pageserver)
kill -TERM "$pageserver"
wait_gone "$pageserver"
dead "$pageserver" || fail "the pageserver does not end while a command's work goes on"
wait "$order" && fail "a command was done whose pageserver had ended"
kill "$holder"
wait "$holder" 2>/dev/null || true

"$LOCH" up >/dev/null || fail "up"
"$LOCH" branch rename one two >/dev/null || fail "the rename cannot be repeated"
"$LOCH" compute start two --branch two >/dev/null || fail "a compute on the renamed branch"
[ "$(q "SELECT count(*) FROM t" two)" = 1000 ] || fail "rows of the renamed branch"
[ "$(q "SELECT count(*) FROM t")" = 1000 ] || fail "rows"
