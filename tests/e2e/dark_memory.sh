#!/usr/bin/env bash
# A tenant with marked rows in every cache, queue and open layer of the daemons loses its key: when a daemon says that it has
# wiped, its whole memory is searched, freed pieces of its heap too. The same search finds the marks before.
. "$(dirname "$0")/lib.sh"

export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=1500ms LOCH_KMS_GRACE=3s LOCH_KMS_SETTLE=1s
export LOCH_PAGESERVER_OPEN_LAYER=4MiB LOCH_LAYERS_UPKEEP=200ms
up
CMK=$WORK/ours.key
head -c 32 /dev/urandom >"$CMK" && chmod 600 "$CMK"
"$LOCH" tenant create ours --kms-uri "file:$CMK" >/dev/null || fail "tenant create"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "compute start"
tenant=$(tenant_of ours)
marker=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
lease() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch" -X -A -t -F '|' -c "SHOW LEASES" | grep "^$tenant" | cut -d'|' -f"$2"; }
wiped() { for d in 1 2 3 10; do [ -n "$(lease "$d" 6)" ] || return 1; done; }
search() { python3 "$ROOT/tests/e2e/cores.py" --all "$marker" "$(daemon_pid safekeeper-1)" "$(daemon_pid safekeeper-2)" "$(daemon_pid safekeeper-3)" "$(daemon_pid pageserver)" "$(daemon_pid compute-ours)"; }

# load ROUND: rows of every size, indexes, updates and reads that come from the pageserver.
load() {
    q "CREATE TABLE small$1 AS SELECT g, '$marker' || md5(random()::text) AS note FROM generate_series(1, 30000) g" ours
    q "CREATE TABLE long$1 (g int, note text)" ours
    q "ALTER TABLE long$1 ALTER note SET STORAGE EXTERNAL" ours
    q "INSERT INTO long$1 SELECT g, repeat('$marker', 100 * g) FROM generate_series(1, 60) g" ours
    q "CREATE INDEX ON small$1 (note)" ours
    q "UPDATE small$1 SET note = note || '$marker' WHERE g % 5 = 0" ours
    q "CHECKPOINT" ours
}
load 1
destroy_compute ours # what it reads now comes from layers and memory of the pageserver
"$LOCH" compute start ours >/dev/null || fail "compute start"
[ "$(q "SELECT count(*) FROM small1 WHERE note LIKE '$marker%'" ours)" = 30000 ] || fail "rows of the tenant"
load 2
for i in $(seq 1 200); do echo "INSERT INTO small2 VALUES ($i, '$marker one by one');"; done | psql "$(url ours)" -X -q || fail "single rows"
search >"$WORK/before" && fail "no mark in any memory: the search is blind"
[ "$(awk '$3 > 0' "$WORK/before" | wc -l)" = 5 ] || fail "not every daemon has marks: $(cat "$WORK/before")"
mv "$CMK" "$CMK.away"
wait_until 30 wiped || fail "not every daemon has wiped"
agent_has_ended_it() { [ "$(field ours state)" = revoked ] && [ -z "$(field ours pgdata)" ]; } # its server and what it held
wait_until 30 agent_has_ended_it || fail "the compute is $(field ours state), with $(field ours pgdata)"
search >"$WORK/after" || fail "marked rows are left after the wipe: $(cat "$WORK/after") (before: $(cat "$WORK/before"))"
[ "$(q "SELECT 1" main)" = 1 ] || fail "the neighbour"
note "passed: $(awk '{s += $3} END {print s}' "$WORK/before") marks before, none after"
