#!/usr/bin/env bash
# What a compute refuses because rows would be lost, or the scratch would fill up: replication slots made by SQL, and settings
# that the quorum rests on.
. "$(dirname "$0")/../e2e/lib.sh"

refused() { # pattern, sql
    local said
    said=$(q "$2" 2>&1) && fail "not refused: $2"
    grep -q "$1" <<<"$said" || fail "refused by other words: $said"
    note "ok   refused: $2"
}

up
refuse_slots() {
    local call
    for call in "pg_create_physical_replication_slot('s', true)" "pg_create_physical_replication_slot('s', false, true)" \
        "pg_copy_physical_replication_slot('loch_proposer', 's')" "pg_copy_physical_replication_slot('loch_proposer', 's', true)" \
        "pg_create_logical_replication_slot('s', 'test_decoding')" "pg_copy_logical_replication_slot('loch_proposer', 's')" \
        "pg_copy_logical_replication_slot('loch_proposer', 's', true)" "pg_copy_logical_replication_slot('loch_proposer', 's', true, 'x')"; do
        refused "replication slots .* not supported on Loch" "select $call"
    done
}
refuse_slots
# Compiled code finds a function by its symbol, not in the table of built-in ones.
export PGOPTIONS="-c jit=on -c jit_above_cost=0 -c jit_inline_above_cost=0 -c jit_optimize_above_cost=0"
[ "$(q "select pg_jit_available()")" = t ] || fail "no JIT: is llvmjit.so not installed?"
refuse_slots
unset PGOPTIONS
[ "$(q "select string_agg(slot_name, ' ') from pg_replication_slots")" = loch_proposer ] || fail "slots"

"$LOCH" compute stop main >/dev/null
for setting in max_wal_senders=0 max_wal_senders=010 max_replication_slots=2 synchronous_standby_names= fsync=on shared_memory_type=sysv; do
    "$LOCH" compute start main --set "$setting" >"$WORK/said" 2>&1 && fail "--set $setting is taken"
    grep -q "${setting%=*} \(must be\|is set by the agent\)" "$WORK/said" || fail "--set $setting: $(cat "$WORK/said")"
    note "ok   refused: --set $setting: $(tail -1 "$WORK/said")"
done
"$LOCH" compute start main --set max_wal_senders=12,max_replication_slots=11 >/dev/null || fail "greater values"
[ "$(q "select current_setting('max_wal_senders') || ' ' || current_setting('max_replication_slots')")" = "12 11" ] || fail "greater values are not taken"
q "alter system set max_wal_senders = 0"
"$LOCH" compute stop main >/dev/null
"$LOCH" compute start main >/dev/null || fail "compute start"
[ "$(q "show max_wal_senders")" -ge 10 ] || fail "ALTER SYSTEM lowers max_wal_senders"
note "passed"
