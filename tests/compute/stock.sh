#!/bin/bash
# The extension in a stock server, without a pageserver: inertness, refusals, the seam's self-check, replication refused,
# commits that no cancel can acknowledge. usage: stock.sh LIBDIR [PORT]
set -u
here=$(cd "$(dirname "$0")" && pwd)
lib=$(cd "${1:?directory of loch.so}" && pwd)
port=${2:-21700}
bin=${PGBIN:-/usr/lib/postgresql/15/bin}
work=$(mktemp -d /dev/shm/loch-stock-XXXXXX)
data=$work/d
server=
passed=0
failed=0

as_postgres() {
    if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$work" "$@"; else "$@"; fi
}
stop() {
    [ -n "$server" ] && kill -QUIT "$(head -1 "$data/postmaster.pid")" 2>/dev/null && wait "$server" 2>/dev/null
    server=
}
trap 'stop; rm -rf "$work"' EXIT
ok() { if [ "$1" = 0 ]; then passed=$((passed + 1)); echo "ok   $2"; else failed=$((failed + 1)); echo "FAIL $2"; fi; }
sql() { psql -XAtq -h "$data" -p "$port" -U postgres -d postgres "$@"; }
fresh() { # a start without a pageserver forgets pages: every one gets its own copy
    rm -rf "$data"
    cp -a "$work/pristine" "$data"
}
start() { # options...: leaves $server, waits until it answers or is gone
    as_postgres python3 "$here/stock_start.py" "$lib" "$data" "$port" "$@" >"$work/log" 2>&1 &
    server=$!
    for _ in $(seq 600); do
        sql -c "select 1" >/dev/null 2>&1 && return 0
        kill -0 "$server" 2>/dev/null || { server=; return 1; }
        sleep 0.1
    done
    return 1
}
until_true() { # WORDS...: within a minute
    for _ in $(seq 600); do "$@" && return 0; sleep 0.1; done
    return 1
}
gone() { ! kill -0 "$1" 2>/dev/null; }
refused() { # name, pattern, options...
    local name=$1 pattern=$2
    shift 2
    if start "$@"; then stop; ok 1 "$name: the server started"; return; fi
    grep -q "$pattern" "$work/log"
    ok $? "refused: $name"
}

[ "$(id -u)" = 0 ] && chown postgres "$work"
as_postgres "$bin/initdb" -D "$data" -U postgres --no-sync -A trust >/dev/null || exit 1

# An ordinary server loads it by CREATE FUNCTION: nothing changes.
as_postgres "$bin/postgres" -D "$data" -p "$port" -k "$data" -c listen_addresses= -c fsync=off \
    -c dynamic_library_path="$lib:\$libdir" >"$work/log" 2>&1 &
server=$!
for _ in $(seq 600); do sql -c "select 1" >/dev/null 2>&1 && break; sleep 0.1; done
sql -v ON_ERROR_STOP=1 -f "$lib/loch.sql"
ok $? "loch.sql in an ordinary server"
[ "$(sql -c 'create table t(a int)' -c 'insert into t select generate_series(1, 1000)' -c checkpoint \
    -c "select count(*) from loch.stats" -c 'select count(*) from t' | tr '\n' ' ')" = "0 1000 " ]
ok $? "inert when it is not preloaded"
sql -c "create table gone(a int)" -c "vacuum freeze" -c checkpoint
stop_fast() { as_postgres "$bin/pg_ctl" -D "$data" -m fast -w stop >/dev/null; wait "$server" 2>/dev/null; server=; }
stop_fast
mv "$data" "$work/pristine"
fresh

refused "wal_level=minimal" "wal_level must not be minimal" -c wal_level=minimal -c max_wal_senders=0
refused "wal_level=logical" "logical" -c wal_level=logical
refused "max_wal_senders=0" "max_wal_senders must not be 0" -c max_wal_senders=0
refused "restart_after_crash=on" "restart_after_crash must be off" -c restart_after_crash=on
refused "no credential" "no credential" --no-credential
refused "bad tenant" "settings" -c loch.tenant=xyz
refused "bad pageserver" "host:port" -c loch.pageserver=nowhere
refused "identity of another timeline" "another tenant or timeline" -c loch.timeline=ffffffffffffffffffffffffffffffff
as_postgres "$bin/pg_checksums" -e -D "$data" >/dev/null
refused "data checksums" "checksums" -c wal_level=replica
as_postgres "$bin/pg_checksums" -d -D "$data" >/dev/null

fresh
start -c synchronous_standby_names=loch_proposer -c synchronous_commit=on
ok $? "the seam is found, swapped and probed"
[ "$(sql -c "select value > 0 from loch.stats where name = 'read_local'")" = t ]
ok $? "reads come through the seam"
grep -Pzq "replication connections(.|\n)*loch branch export" <(as_postgres "$bin/pg_basebackup" -h "$data" -p "$port" -U postgres -D "$work/bb" 2>&1)
ok $? "pg_basebackup is refused and told where to go"
grep -q "replication connections" <(psql "host=$data port=$port user=postgres dbname=postgres replication=database" \
    -c IDENTIFY_SYSTEM 2>&1)
ok $? "a logical replication connection is refused"
grep -q "not supported on Loch" <(sql -c "create tablespace x location '$work'" 2>&1)
ok $? "a tablespace with a location is refused"

# Commits wait for the quorum and nothing acknowledges them early.
held() { sql -c "select pid from pg_stat_activity where wait_event='SyncRep' and application_name='$1'"; }
hold() { # application: its backend, once that waits for the quorum
    local back
    for _ in $(seq 300); do
        back=$(held "$1")
        [ -z "$back" ] || break
        sleep 0.1
    done
    echo "$back"
}
receiver=
quorum() { # from here on commits are acknowledged
    as_postgres "$bin/pg_receivewal" -D "$work" --synchronous --no-loop \
        -d "host=$data port=$port user=postgres application_name=loch_proposer" >"$work/receive" 2>&1 &
    receiver=$!
}
no_quorum() {
    pkill -TERM -P "$receiver" 2>/dev/null
    kill "$receiver" 2>/dev/null
    wait "$receiver" 2>/dev/null
    rm -f "$work"/0000*
}
waits() { # name, sql, [PGOPTIONS]: the statement must not come back while there is no quorum
    local name=$1 statement=$2 pid back
    PGOPTIONS=${3:-} sql -c "set application_name='waiter'" -c "$statement" >"$work/out" 2>&1 &
    pid=$!
    back=$(hold waiter)
    sleep 1.2 # longer than its time-out
    [ -n "$back" ] && [ "$(held waiter)" = "$back" ]
    ok $? "$name: waits for the quorum"
    sql -c "select pg_cancel_backend($back)" -c "select pg_terminate_backend($back)" >/dev/null
    sleep 0.5
    kill -0 "$pid" 2>/dev/null && [ ! -s "$work/out" ]
    ok $? "$name: neither cancel nor termination acknowledges it"
    quorum
    until_true gone "$pid"
    ok $? "$name: comes back with the quorum"
    no_quorum
    wait "$pid" 2>/dev/null
}
waits "insert" "insert into t values (1)" "-c statement_timeout=1000"
waits "synchronous_commit=local" "insert into t values (2)" "-c synchronous_commit=local -c statement_timeout=1000"
waits "synchronous_commit=remote_write" "insert into t values (2)" "-c synchronous_commit=remote_write"
sql -c "set synchronous_commit=off" -c "insert into t values (3)" >/dev/null
ok $? "synchronous_commit=off stays PostgreSQL's own trade"
stop

# What PostgreSQL commits synchronously at any level: prepared transactions, and what removes files.
OFF="-c synchronous_commit=off"
fresh
start -c synchronous_standby_names=loch_proposer -c synchronous_commit=on -c max_prepared_transactions=5
waits "prepare" "begin; insert into t values (4); prepare transaction 'a'"
waits "commit prepared" "commit prepared 'a'"
waits "prepare, off" "begin; insert into t values (5); prepare transaction 'b'" "$OFF"
waits "rollback prepared, off" "rollback prepared 'b'" "$OFF"
waits "prepare, off, again" "begin; insert into t values (5); prepare transaction 'c'" "$OFF"
waits "commit prepared, off" "commit prepared 'c'" "$OFF"
waits "drop table, off" "drop table gone" "$OFF"
stop

# The same waits, with the fix off, must fail: the test sees what it claims to see.
early() { # name, fix, sql
    fresh
    start -c synchronous_standby_names=loch_proposer -c max_prepared_transactions=5 -c "loch.test_disable=$2" || return
    quorum
    sql -c "begin" -c "insert into t values (6)" -c "prepare transaction 'c$2'"
    no_quorum
    timeout 60 psql -XAtq -h "$data" -p "$port" -U postgres -d postgres -c "$3" >"$work/out" 2>&1 &
    local pid=$!
    hold psql >/dev/null
    sql -c "select pg_cancel_backend(pid) from pg_stat_activity where wait_event='SyncRep'" >/dev/null
    wait "$pid"
    grep -q "canceling wait for synchronous replication" "$work/out"
    ok $? "negative: without '$2' $1 is acknowledged early"
    stop
}
early "a cancelled commit" commit "insert into t values (7)"
early "a cancelled COMMIT PREPARED" commit_prepared "commit prepared 'ccommit_prepared'"
comes_back() { # fix, name, level, sql...: nobody acknowledges
    local fix=$1 name=$2 level=$3 args=() statement
    shift 3
    for statement in "$@"; do args+=(-c "$statement"); done
    fresh
    start -c synchronous_standby_names=loch_proposer -c max_prepared_transactions=5 -c loch.test_disable="$fix"
    PGOPTIONS="-c synchronous_commit=$level" timeout 30 psql -XAtq -h "$data" -p "$port" -U postgres -d postgres "${args[@]}" >/dev/null
    ok $? "negative: without '$fix' $name does not wait"
    stop
}
comes_back sync_level "a local commit" local "insert into t values (8)"
comes_back sync_always "what removes files" off "drop table gone"
comes_back sync_always "a prepared transaction" off "begin" "insert into t values (8)" "prepare transaction 'd'" "commit prepared 'd'"

# A cancel that comes while a procedure commits is for what the procedure does next.
fresh
start -c synchronous_standby_names=loch_proposer
quorum
sql -c "create procedure commits() language plpgsql as 'begin loop insert into t values (9); commit; end loop; end'"
no_quorum
sql -c "set application_name='waiter'" -c "call commits()" >"$work/out" 2>&1 &
calling=$!
back=$(hold waiter)
sql -c "select pg_cancel_backend($back)" >/dev/null
quorum
until_true gone "$calling"
grep -q "canceling statement due to user request" "$work/out"
ok $? "a cancel during a procedure's commit ends the procedure"
no_quorum
kill "$calling" 2>/dev/null
wait "$calling" 2>/dev/null
stop

# The lease that the agent renews in a file: when it does not, the server ends, with what runs in it.
lease() { # seconds from now on; written over, as the agent does
    [ -e "$work/lease" ] || : >"$work/lease"
    python3 - "$work/lease" "$1" <<'P'
import struct, sys, time
with open(sys.argv[1], "r+b") as f:
    f.write(struct.pack("<Q", time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(sys.argv[2]) * 10**9))
P
}
says() { grep -q "$1" "$work/out"; }
fresh
lease 3600
start
ok $? "a server with a lease"
mkfifo "$work/in"
psql -XAtq -h "$data" -p "$port" -U postgres -d postgres <"$work/in" >"$work/out" 2>&1 &
session=$!
exec 9>"$work/in"
printf '%s;' "begin; declare c cursor for select 'row ' || g from generate_series(1, 1000) g; fetch 1 from c" >&9
echo >&9
until_true says "row 1"
ok $? "a cursor under a lease"
watcher=$(pgrep -P "$(head -1 "$data/postmaster.pid")" -f "loch throttle")
kill -STOP "$watcher" # so that the session meets the check of its own
lease -1
echo "fetch 1 from c;" >&9
until_true says "lease on the tenant's key has run out"
ok $? "a FETCH after the lease is refused"
says "row 2" && ok 1 "a row after the lease"
kill -CONT "$watcher"
exec 9>&-
until_true gone "$server"
ok $? "the server ends after its lease"
wait "$session" "$server" 2>/dev/null
server=
fresh
lease 3600
start
sql -c "select pg_sleep(3600)" >"$work/out" 2>&1 &
session=$!
asleep() { [ -n "$(sql -c "select 1 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active' and wait_event = 'PgSleep'")" ]; }
until_true asleep
lease -1
until_true gone "$server"
ok $? "a statement that runs ends with the lease"
wait "$session" "$server" 2>/dev/null
server=
rm -f "$work/lease"

echo "stock: $passed passed, $failed failed"
[ "$failed" = 0 ]
