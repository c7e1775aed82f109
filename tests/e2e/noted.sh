#!/usr/bin/env bash
# What is started is noted, or does not run; and what runs though nobody noted it is not said to be stopped, nor are its
# files removed under it.
. "$(dirname "$0")/lib.sh"

up
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g"
running() { pgrep -f -- "--config $DIR/conf/$1.ini" >/dev/null; }

# Its note cannot be written (a directory is in its place).
first=$(daemon_pid safekeeper-1)
kill -9 "$first"
wait_gone "$first"
rm "$DIR/run/safekeeper-1.json"
mkdir "$DIR/run/safekeeper-1.json"
"$LOCH" up >/dev/null 2>"$WORK/err" || fail "up with two safekeepers: $(cat "$WORK/err")"
grep -q "safekeeper-1: cannot write $DIR/run/safekeeper-1.json" "$WORK/err" || fail "up says: $(cat "$WORK/err")"
running safekeeper-1 && fail "a safekeeper runs that nobody knows of"
[ -z "$(find "$DIR/run" -name '*.tmp')" ] || fail "left: $(ls "$DIR/run")"
"$LOCH" compute stop main >/dev/null 2>&1 || fail "compute stop"
rm "$DIR/run/compute-main.json"
mkdir "$DIR/run/compute-main.json"
"$LOCH" compute start main >/dev/null 2>"$WORK/err" && fail "a compute starts that cannot be noted"
running compute-main && fail "a compute runs that nobody knows of"
rmdir "$DIR/run/safekeeper-1.json" "$DIR/run/compute-main.json"
up
running safekeeper-1 || fail "safekeeper 1 does not come back"
[ "$(q 'SELECT count(*) FROM t')" = 1000 ] || fail "rows"
note "what cannot be noted does not run"

# Notes that are gone: of a compute, and of a safekeeper.
agent=$(daemon_pid compute-main)
mv "$DIR/run/compute-main.json" "$WORK/"
"$LOCH" compute stop main >/dev/null 2>"$WORK/err" && fail "a compute that runs is said to be stopped"
grep -q "compute-main runs (pid $agent, " "$WORK/err" || fail "compute stop says: $(cat "$WORK/err")"
place=$(scratch)
"$LOCH" down --wipe >/dev/null 2>"$WORK/err" && fail "a wipe under a compute that runs"
grep -q "compute main (pid $agent) is still there" "$WORK/err" || fail "down says: $(cat "$WORK/err")"
[ -d "$place/compute-main" ] && [ "$(q 'SELECT count(*) FROM t')" = 1000 ] || fail "the compute's files are gone under it"
mv "$WORK/compute-main.json" "$DIR/run/"
first=$(daemon_pid safekeeper-1)
mv "$DIR/run/safekeeper-1.json" "$WORK/"
"$LOCH" down --wipe >/dev/null 2>"$WORK/err" && fail "a wipe under a safekeeper that runs"
grep -q "safekeeper-1 runs (pid $first, " "$WORK/err" || fail "down says: $(cat "$WORK/err")"
dead "$first" && fail "it was ended"
[ -d "$DIR/safekeeper-1" ] && [ -f "$DIR/cluster.json" ] || fail "its files are gone under it"
mv "$WORK/safekeeper-1.json" "$DIR/run/"
"$LOCH" down --wipe >/dev/null 2>"$WORK/err" || fail "down --wipe: $(cat "$WORK/err")"
dead "$first" && [ ! -e "$DIR" ] || fail "after a wipe: $(ls "$DIR")"
note "passed"
