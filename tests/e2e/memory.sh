#!/usr/bin/env bash
# What a secret's process may not do: dump core (limit 0, in every process of the cluster), nor be looked at by its own
# user (not dumpable, also after exec); secrets lie in memory that is locked or secret.
. "$(dirname "$0")/lib.sh"

export LOCH_PAGESERVER_NATIVE_REDO=off # so that there are redo workers to look at
up
q "CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 20000) g"
q "UPDATE t SET md5 = md5 || 'x'"
destroy_compute main # so that the pageserver has pages to redo
"$LOCH" compute start main >/dev/null || fail "compute start"
psql "$(url)" -X -q -c "SELECT count(*) FROM t" -c "SELECT pg_sleep(60)" >/dev/null 2>&1 &
BACKGROUND+=($!)
workers() { pgrep -P "$(daemon_pid pageserver)"; }
has_workers() { [ -n "$(workers)" ]; }
wait_until 60 has_workers || fail "no redo worker is running"
backend() { pgrep -P "$(head -1 "$(field main pgdata)/postmaster.pid")" -f pg_sleep || pgrep -P "$(head -1 "$(field main pgdata)/postmaster.pid")" -f 'idle|SELECT'; }
has_backend() { [ -n "$(backend)" ]; }
wait_until 60 has_backend || fail "no backend is running"

n=0
as_user=0
for pid in $(daemon_pid safekeeper-1) $(daemon_pid safekeeper-2) $(daemon_pid safekeeper-3) $(daemon_pid pageserver) \
    $(compute_pids main) $(workers); do
    [ -d "/proc/$pid" ] || continue # a worker of PostgreSQL that has ended
    grep -Eqs '^Max core file size +0 +0 ' "/proc/$pid/limits" || dead "$pid" || fail "process $pid may dump core: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
    # The files of a process that is not dumpable belong to root, whoever it runs as.
    uid=$(awk '/^Uid:/ {print $2}' "/proc/$pid/status" 2>/dev/null) || continue
    if [ "$uid" != 0 ]; then
        [ "$(stat -c %u "/proc/$pid/environ" 2>/dev/null)" = 0 ] || dead "$pid" || fail "process $pid is dumpable: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
        as_user=$((as_user + 1))
    fi
    n=$((n + 1))
done
[ "$n" -ge 9 ] || fail "only $n processes were looked at"
[ "$(id -u)" != 0 ] || [ "$as_user" -ge 4 ] || fail "only $as_user of them are PostgreSQL's"
for log in "$DIR"/log/safekeeper-*.log "$DIR/log/pageserver.log" "$DIR/log/compute-main.log"; do
    grep -Eq 'secrets: (memfd_secret|mlock)' "$log" || fail "secrets are not kept from disk: $(grep -h secrets: "$log")"
done
# And really: the signal that dumps core leaves none.
pid=$(daemon_pid safekeeper-3)
kill -ABRT "$pid"
wait_gone "$pid"
[ -z "$(find "$WORK" "$(scratch)" -name 'core*' -type f)" ] || fail "a core file"
note "$n processes, $as_user of them PostgreSQL's: none dumps core, none is dumpable"
note "passed"
