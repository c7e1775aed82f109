#!/usr/bin/env bash
# A compute that subscribes to an outside publisher, which forgets what it is told is flushed here: that is what the quorum
# has. The quorum is away while a row is applied, then the compute dies; nothing of the publisher's is missing afterwards.
. "$(dirname "$0")/../e2e/lib.sh"
BIN=/usr/lib/postgresql/15/bin
PUBLISHER=$((PORT_BASE + 120))
as=()
[ "$(id -u)" != 0 ] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
there() { psql -h "$WORK/publisher" -p "$PUBLISHER" -U postgres -d postgres -XAtq "$@"; }
here() { timeout 50 psql "$(url)" -XAtq -v ON_ERROR_STOP=1 "$@"; }
begin() { "$LOCH" compute start main --set autovacuum=off,max_prepared_transactions=5,wal_receiver_status_interval=1s >/dev/null || fail "compute start"; }
rows() { here -c "select count(*) from s"; }
has() { [ "$(rows)" = "$1" ]; }
told() { [ "$(there -c "select confirmed_flush_lsn >= '$1' from pg_replication_slots where slot_name = 's'")" = t ]; }

mkdir -m 0777 "$WORK/publisher"
"${as[@]}" "$BIN/initdb" -D "$WORK/publisher/d" -U postgres -A trust -N >/dev/null
"${as[@]}" "$BIN/pg_ctl" -D "$WORK/publisher/d" -w -l "$WORK/publisher/log" \
    -o "-p $PUBLISHER -k $WORK/publisher -c listen_addresses='' -c fsync=off -c wal_level=logical -c max_prepared_transactions=5" start >/dev/null || fail "the publisher"
BACKGROUND+=("$(head -1 "$WORK/publisher/d/postmaster.pid")")
there -c "create table s(a int)" -c "create table two(a int)" -c "create publication two for table two" -c "create publication p for table s" -c "insert into s values (0)"

up
"$LOCH" compute stop main >/dev/null
begin
here -c "create table s(a int)" \
    -c "create subscription s connection 'host=$WORK/publisher port=$PUBLISHER user=postgres dbname=postgres' publication p" >/dev/null 2>&1
ready() { [ "$(here -c "select string_agg(srsubstate::text, '') from pg_subscription_rel")" = r ] && has 1; }
wait_until 60 ready || fail "the subscription does not begin"
[ "$(here -c "select subsynccommit from pg_subscription")" = off ] || fail "a subscription is not made with synchronous_commit = off"

# While the quorum is away: a row of the publisher's, and five times as long as the worker's reports are apart. WHAT comes
# before the row, and what after it.
away() { # ROW [WHAT]
    keepers=("$(daemon_pid safekeeper-1)" "$(daemon_pid safekeeper-2)")
    caught_up
    kill -STOP "${keepers[@]}"
    [ $# = 1 ] || "$2" before
    there -c "insert into s values ($1)"
    row=$(there -c "select pg_current_wal_lsn()")
    [ $# = 1 ] || "$2" after
    heard=no
    ! wait_until 5 told "$row" || heard=yes
    destroy_compute main
    kill -CONT "${keepers[@]}"
    begin
}
away 1
[ "$heard" = no ] || fail "the publisher hears that a row is flushed which no quorum has"
wait_until 60 told "$row" || fail "the publisher does not hear that the row is flushed"
wait_until 60 has 2 || fail "the compute has $(rows) rows instead of 2"
note "ok   a publisher hears of what the quorum has; nothing is missing after the compute's death"

# Its worker is terminated while it is slowed, just before its commit: that is no reason to commit without the quorum.
slowed() { [ "$(here -c "select writers_wait_us > 1000000000 from loch.lag")" = t ]; }
worker_waits() {
    worker=$(here -c "select pid from pg_stat_activity where backend_type = 'logical replication worker' and wait_event = 'Extension'")
    [ -n "$worker" ]
}
terminated() { # before, or after
    if [ "$1" = before ]; then
        psql "$(url)" -Xq -c "set synchronous_commit = off" \
            -c "insert into filler select repeat('x', 1000) from generate_series(1, 20000)" >/dev/null 2>&1 &
        BACKGROUND+=("$!")
        wait_until 40 slowed || fail "writers are not slowed"
    else
        wait_until 40 worker_waits || fail "the worker is not slowed"
        sleep 1 # it waits for that, not for a page
        worker_waits || fail "the worker was slowed for a moment only"
        here -c "select pg_terminate_backend($worker)" >/dev/null
    fi
}
here -c "create table filler(b text)" -c "alter system set loch.max_lag = '1MB'" -c "select pg_reload_conf()" >/dev/null
away 2 terminated
[ "$heard" = no ] || fail "a worker that is terminated while it is slowed commits without the quorum"
here -c "alter system reset loch.max_lag" -c "select pg_reload_conf()" >/dev/null
wait_until 60 told "$row" || fail "the publisher does not hear that the row is flushed"
wait_until 60 has 3 || fail "the compute has $(rows) rows instead of 3"
note "ok   a worker that is terminated while it is slowed waits for the quorum all the same"

# What the publisher prepares is not taken: a worker would commit it outside of any statement.
subscribe() { # OPTIONS
    here -c "create subscription two connection 'host=$WORK/publisher port=$PUBLISHER user=postgres dbname=postgres' publication two with ($1)" >"$WORK/said" 2>&1
}
logged() { grep -q "$1" "$(field main pgdata)/../postgres.log"; }
unsubscribe() {
    here -c "alter subscription two disable" -c "alter subscription two set (slot_name = none)" -c "drop subscription two"
}
here -c "create table two(a int)"
! subscribe "two_phase = true" || fail "a subscription with two_phase is made"
grep -q "two_phase are not supported on Loch" "$WORK/said" || fail "a subscription with two_phase: $(cat "$WORK/said")"
[ "$(there -c "select count(*) from pg_replication_slots where slot_name = 'two'")" = 0 ] || fail "the refusal leaves a slot"
subscribe "two_phase = true, connect = false" || fail "a dump's subscription: $(cat "$WORK/said")"
here -c "alter subscription two enable"
wait_until 30 logged 'subscription "two" has two_phase' || fail "the worker of a dump's subscription does not refuse"
unsubscribe
there -c "select pg_create_logical_replication_slot('two', 'pgoutput', false, true)" >/dev/null
subscribe "create_slot = false" || fail "a subscription without two_phase: $(cat "$WORK/said")"
prepared() { [ "$(here -c "select count(*) from pg_prepared_xacts")" = 1 ]; }
there -c "begin" -c "insert into two values (1)" -c "prepare transaction 'one'"
wait_until 30 logged "the publisher sends prepared transactions" || fail "the worker takes what a slot with two_phase sends"
! prepared || fail "a worker has prepared a transaction"
there -c "rollback prepared 'one'"
unsubscribe
note "ok   refused: two_phase, in the statement, in a worker that is there, and as a slot sends it"

disabled() { [ "$(here -c "show loch.test_disable")" = "$1" ]; }
disable() {
    here -c "alter system set loch.test_disable = '$1'" -c "select pg_reload_conf()" >/dev/null
    wait_until 20 disabled "$1" || fail "loch.test_disable is not taken up"
}
# Without the refusal: one cancel, and the publisher hears of a COMMIT PREPARED that no quorum has.
waits_for_quorum() {
    worker=$(here -c "select pid from pg_stat_activity where backend_type = 'logical replication worker' and wait_event = 'SyncRep'")
    [ -n "$worker" ]
}
told_two() { [ "$(there -c "select confirmed_flush_lsn >= '$row' from pg_replication_slots where slot_name = 'two'")" = t ]; }
begun_two() { [ "$(here -c "select string_agg(s.subtwophasestate::text || r.srsubstate::text, '') from pg_subscription s join pg_subscription_rel r on s.oid = r.srsubid where s.subname = 'two'")" = er ]; }
there -c "select pg_drop_replication_slot('two')" >/dev/null
disable two_phase
subscribe "two_phase = true" || fail "negative: $(cat "$WORK/said")"
wait_until 60 begun_two || fail "negative: the subscription does not begin"
there -c "begin" -c "insert into two values (2)" -c "prepare transaction 'two'"
wait_until 30 prepared || fail "negative: nothing is prepared"
caught_up
kill -STOP "${keepers[@]}"
there -c "commit prepared 'two'"
row=$(there -c "select pg_current_wal_lsn()")
wait_until 30 waits_for_quorum || fail "negative: the worker does not wait for the quorum"
here -c "select pg_cancel_backend($worker)" >/dev/null
wait_until 20 told_two || fail "negative: without the refusal the publisher hears of nothing either"
kill -CONT "${keepers[@]}"
note "ok   negative: with two_phase a cancelled worker tells the publisher of what no quorum has"
unsubscribe

disable sync_always
here -c "alter subscription s disable" -c "alter subscription s enable" # a worker anew: one that is raised stays so
there -c "insert into s values (3)"
wait_until 60 has 4 || fail "the row before the last does not come"
away 4
[ "$heard" = yes ] || fail "negative: without 'sync_always' the publisher hears of nothing either"
note "ok   negative: without 'sync_always' the publisher hears of a row that no quorum has"
note "passed"
