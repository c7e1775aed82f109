#!/usr/bin/env bash
# The safekeepers' disk is full for longer than a compute may be without them: writers wait, reads go on, the server is
# the one it was, and when there is room again the commit returns.
if [ "${HELD_INSIDE:-}" = "" ] && [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
    HELD_INSIDE=yes exec unshare -m "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
if [ "${HELD_INSIDE:-}" = "" ]; then
    note "skipped: no small disk can be mounted here (want root)"
    exit 0
fi
export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=1500ms # 2 s in all
HELD_SECONDS=10
end_all() { # as cleanup, which cannot remove what is mounted
    local code=$?
    (
        set +e
        LOCH_KEEP=yes
        (exit "$code")
        cleanup
    )
    umount -l "$WORK/small"
    [ -n "${LOCH_KEEP:-}" ] || rm -rf "$WORK"
    exit "$code"
}
mkdir "$WORK/small"
mount -t tmpfs -o size=1g tmpfs "$WORK/small" # of this mount namespace only
trap end_all EXIT
DIR=$WORK/small/cluster
export LOCH_DIR=$DIR

up
q "CREATE TABLE t (n int)"
q "INSERT INTO t VALUES (1)"
postmaster() { head -1 "$(field main pgdata)/postmaster.pid"; }
before=$(postmaster)

# 16 MiB stay: a 16th of the disk, 64 MiB, is what the safekeepers leave free.
fallocate -l $(($(df --output=avail -B1 "$WORK/small" | tail -1) - (16 << 20))) "$WORK/small/filler" || fail "cannot fill the disk"
held() { # all three
    local n
    for n in 1 2 3; do
        psql "host=$DIR/run port=$((PORT_BASE + n)) dbname=loch user=loch" -XAtq -c 'SHOW TIMELINES' | sees "disk is full" || return 1
    done
}
wait_until 30 held || fail "the safekeepers do not hold the branch"
q "INSERT INTO t VALUES (2)" >"$WORK/writer" 2>&1 &
writer=$!
BACKGROUND+=("$writer")
told() { grep -q "it says: .*disk is full" "$DIR/log/compute-main.log"; }
wait_until 30 told || fail "the compute's log does not say why its writer waits"
reads=0
until=$((SECONDS + HELD_SECONDS))
while [ "$SECONDS" -lt "$until" ]; do
    [ "$(timeout 10 psql "$(url)" -XAtq -c 'SELECT count(*) FROM t')" = 1 ] || fail "a read, after $reads: $(field main state)"
    [ "$(postmaster)" = "$before" ] || fail "the server is another one, after $reads reads"
    dead "$writer" && fail "the commit did not wait: $(cat "$WORK/writer")"
    reads=$((reads + 1))
done
! grep "PostgreSQL is killed" "$DIR/log/compute-main.log" || fail "the server was killed"
note "$reads reads while the disk was full for $HELD_SECONDS s"

rm "$WORK/small/filler"
wait_until 30 dead "$writer" || fail "the writer still waits"
wait "$writer" || fail "the writer failed: $(cat "$WORK/writer")"
[ "$(q 'SELECT count(*) FROM t')" = 2 ] || fail "rows: $(q 'SELECT count(*) FROM t')"
[ "$(postmaster)" = "$before" ] || fail "the server is another one"
note "passed"
