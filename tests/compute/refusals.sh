#!/usr/bin/env bash
# What a compute refuses because the scratch would fill up: replication slots made by SQL.
. "$(dirname "$0")/../e2e/lib.sh"

refused() { # pattern, sql
    local said
    said=$(q "$2" 2>&1) && fail "not refused: $2"
    grep -q "$1" <<<"$said" || fail "refused by other words: $said"
    note "ok   refused: $2"
}

up
for call in "pg_create_physical_replication_slot('s', true)" "pg_create_physical_replication_slot('s', false, true)" \
    "pg_copy_physical_replication_slot('loch_proposer', 's')" "pg_copy_physical_replication_slot('loch_proposer', 's', true)" \
    "pg_create_logical_replication_slot('s', 'test_decoding')" "pg_copy_logical_replication_slot('loch_proposer', 's')" \
    "pg_copy_logical_replication_slot('loch_proposer', 's', true)" "pg_copy_logical_replication_slot('loch_proposer', 's', true, 'x')"; do
    refused "replication slots .* not supported on Loch" "select $call"
done
[ "$(q "select string_agg(slot_name, ' ') from pg_replication_slots")" = loch_proposer ] || fail "slots"

note "passed"
