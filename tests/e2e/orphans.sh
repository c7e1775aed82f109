#!/usr/bin/env bash
# An agent is killed while its server sorts, computes and sends marked rows: no process of the server outlives it, and
# nothing of what it leaves on the scratch outlives the denial of its tenant's key, though no agent can start any more.
. "$(dirname "$0")/lib.sh"

export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=1500ms LOCH_KMS_GRACE=12s LOCH_KMS_SETTLE=500ms
up
watch_machine
CMK=$WORK/ours.key
head -c 32 /dev/urandom >"$CMK" && chmod 600 "$CMK"
"$LOCH" tenant create ours --kms-uri "file:$CMK" >/dev/null || fail "tenant create"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "compute start"
place=$(scratch)/compute-ours
marker=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
q "CREATE TABLE secret AS SELECT g, '$marker' || md5(g::text) AS note FROM generate_series(1, 40000) g" ours
lease() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch" -X -A -t -F '|' -c "SHOW LEASES" | grep "^$tenant" | cut -d'|' -f2; }
tenant=$(tenant_of ours)
every_lease_is() { for d in 1 2 3 10; do [ "$(lease "$d")" = "$1" ] || return 1; done; }
state_is() { [ "$(field ours state)" = "$1" ]; }
marks() { grep -rlaF "$marker" "$place" 2>/dev/null || true; }
boots() { find "$place" -maxdepth 2 -name 'boot-*'; }

# ---- revoked under a living agent: what an earlier removal left goes with the rest ----
mkdir -p "$place/boot-left/data" && printf '%s' "$marker" >"$place/boot-left/data/rows"
kill -STOP "$(daemon_pid safekeeper-1)" "$(daemon_pid safekeeper-2)" # no quorum: nobody is elected, and begins a boot, any more
mv "$CMK" "$CMK.away"
gone_dark() { ! state_is running && [ "$(lease 3)" = revoked ]; }
wait_until 20 gone_dark || fail "safekeeper 3 has not revoked, or the compute is running"
no_marks() { [ -z "$(marks)" ]; }
wait_until 10 no_marks || fail "marks in the scratch of a revoked compute: $(marks)"
kill -CONT "$(daemon_pid safekeeper-1)" "$(daemon_pid safekeeper-2)"
mv "$CMK.away" "$CMK"
wait_until 60 state_is running || fail "the compute does not come back"

# ---- the log of a server that crashed, with a statement of the tenant's ----
q "SELECT '$marker', nonsense" ours 2>/dev/null && fail "nonsense"
kill -9 "$(head -1 "$(field ours pgdata)/postmaster.pid")"
wait_until 30 grep -qs "$marker" "$place/postgres-last.log" || fail "the log of a server that died is not kept"
answers() { [ "$(q 'SELECT 1' ours 2>/dev/null)" = 1 ]; }
wait_until 60 answers || fail "the compute does not start again"

# ---- the agent is killed ----
# Rows out of sorted runs on the scratch, each after some computing, to a client that reads as fast as it can; and a
# statement that neither reads nor sends anything at all.
: >"$WORK/rows"
psql "$(url ours)" -X -q -c "SET work_mem = '64kB'" -c "COPY (SELECT note, (SELECT count(*) FROM generate_series(1, 20000 + g % 2))
    FROM (SELECT * FROM secret ORDER BY md5(note)) s) TO STDOUT" >"$WORK/rows" 2>/dev/null &
BACKGROUND+=($!)
psql "$(url ours)" -X -q -c "DO 'BEGIN LOOP END LOOP; END'" >/dev/null 2>&1 &
BACKGROUND+=($!)
sends() { [ "$(wc -l <"$WORK/rows")" -ge 100 ]; }
computes() { [ "$(q "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'" ours)" = 1 ]; }
wait_until 30 sends || fail "no rows"
wait_until 30 computes || fail "no loop"
agent=$(daemon_pid compute-ours)
read -r -d '' -a server < <(compute_pids ours | tail -n +2) || true
[ "${#server[@]}" -ge 8 ] || fail "only ${#server[@]} processes of the server: ${server[*]}"
kill -9 "$agent"
killed=$(date +%s%3N)
left() { for pid in "${server[@]}"; do dead "$pid" || echo "$pid"; done; }
none_left() { [ -z "$(left)" ]; }
wait_until 10 none_left || fail "processes outlive the agent: $(for p in $(left); do tr '\0' ' ' <"/proc/$p/cmdline"; echo; done)"
took=$(($(date +%s%3N) - killed))
[ "$took" -le $((1000 + $(pause_ms))) ] || fail "they outlived it for $took ms"
note "${#server[@]} processes of the server: gone within $took ms of the agent"
if [ -z "$(boots)" ] || [ -z "$(marks)" ]; then fail "no mark is left at all: the search is blind"; fi

# ---- and the key is denied: no agent starts, and nothing stays ----
cp -a "$place" "$WORK/left"
mv "$CMK" "$CMK.away"
wait_until 20 every_lease_is revoked || fail "not every daemon has revoked"
"$LOCH" compute list >/dev/null || fail "compute list"
[ -z "$(boots)" ] || fail "compute list leaves the boots of a dead agent: $(boots)"
[ "$(marks)" = "$place/postgres-last.log" ] || fail "compute list is to leave the log alone: $(marks)"
# put_back: what the agent left, once more.
put_back() { cp -a "$WORK/left/." "$place/"; [ -n "$(boots)" ] || fail "nothing put back"; }
put_back
said=$("$LOCH" compute start ours 2>&1) && fail "a compute of a denied tenant starts"
[ -z "$(boots)$(marks)" ] || fail "a start that is refused ($said) leaves: $(boots) $(marks)"
put_back
"$LOCH" compute stop ours >/dev/null || fail "compute stop"
[ -z "$(boots)$(marks)" ] || fail "a stop leaves: $(boots) $(marks)"
put_back
"$BUILD/bin/loch-compute" --config "$DIR/conf/compute-ours.ini" 3<&- >"$WORK/alone" 2>&1 && fail "an agent starts without a credential"
grep -q 'no credential' "$WORK/alone" || fail "the agent says: $(cat "$WORK/alone")"
[ -z "$(boots)$(marks)" ] || fail "an agent without a credential leaves: $(boots) $(marks)"
note "denied: nothing of the dead agent's stays"

mv "$CMK.away" "$CMK"
wait_until 60 every_lease_is held || fail "the leases do not come back"
"$LOCH" compute start ours >/dev/null || fail "compute start"
[ "$(q "SELECT count(*) FROM secret WHERE note LIKE '$marker%'" ours)" = 40000 ] || fail "rows of the tenant"
note "passed"
