#!/usr/bin/env bash
# CMK, KEK, TK and wire rotated under load, the tenant moved to another CMK and the old one destroyed: no error, nothing
# lost, and no data rewritten.
. "$(dirname "$0")/lib.sh"

export LOCH_KMS_POLL=500ms LOCH_KMS_LEASE=6s LOCH_KMS_GRACE=30s LOCH_KMS_SETTLE=1s LOCH_LAYERS_UPKEEP=2s
up
mkdir "$WORK/ledger"
new_key() { head -c 32 /dev/urandom >"$1" && chmod 600 "$1"; }
new_key "$WORK/first.key"
new_key "$WORK/second.key"
"$LOCH" tenant create ours --kms-uri "file:$WORK/first.key" >/dev/null || fail "tenant create"
"$LOCH" compute start ours --tenant ours >/dev/null || fail "compute start"
"$LEDGER" init --url "$(url ours)"
"$LEDGER" run --url "$(url ours)" --state "$WORK/ledger" --clients 4 --seconds 600 --stop-file "$WORK/stop" >"$WORK/ran" &
load=$!
BACKGROUND+=("$load")

# versions LEVEL STATE: how many the keyring has.
versions() {
    "$LOCH" key list --tenant ours --json | python3 -c '
import json, sys
print(sum(r["level"] == sys.argv[1] and r["state"] == sys.argv[2] for r in json.load(sys.stdin)))' "$1" "$2"
}
held() { [ "$("$LOCH" key status --tenant ours --json | grep -c '"state": "held"')" = 4 ]; }

for what in kek tk wire cmk; do
    said=$("$LOCH" key rotate "$what" --tenant ours --json) || fail "rotate $what: $said"
    note "rotated $what: $(tr -d '\n ' <<<"$said")"
    [ "$(json "${said:1:-1}" daemons)" = 4 ] || fail "not every daemon has the new keyring"
done
[ "$(versions kek active) $(versions kek retired)" = "4 4" ] || fail "KEKs: $("$LOCH" key list --tenant ours)"
[ "$(versions tk active)" -ge 3 ] && [ "$(versions tk active)" = "$(versions tk retired)" ] || # with those made ahead for branches
    fail "TKs: $("$LOCH" key list --tenant ours)"
# The compute that runs is handed every wire epoch: after three more, connections made anew are of the last, and those of
# the first would be refused.
server=$(head -1 "$(field ours pgdata)/postmaster.pid")
for epoch in 3 4 5; do
    "$LOCH" key rotate wire --tenant ours >/dev/null || fail "rotate wire to epoch $epoch"
    has_epoch() { [ "$(field ours wire_epoch)" = "$epoch" ]; }
    wait_until 20 has_epoch || fail "the compute is not given epoch $epoch: $("$LOCH" compute list --json)"
done
[ "$("$LOCH" key list --tenant ours --json | python3 -c '
import json, sys
print(sum(r["purpose"] == "wire" and r["level"] == "tk" and r["state"] in ("active", "retired") for r in json.load(sys.stdin)))')" = 2 ] ||
    fail "epochs before the last but one live on"
for daemon in safekeeper-1 safekeeper-2 safekeeper-3 pageserver; do
    kill -9 "$(daemon_pid $daemon)"
    "$LOCH" up >/dev/null 2>&1 || fail "up after the death of $daemon"
    all_three() { [ "$(q "SELECT count(*) FROM loch.safekeepers WHERE state = 'streaming'" ours)" = 3 ]; }
    wait_until 60 all_three || fail "after the death of $daemon: $(q "SELECT * FROM loch.safekeepers" ours)"
done
q "SELECT count(*) FROM pg_class" ours >/dev/null || fail "a new session reads no pages"
[ "$(head -1 "$(field ours pgdata)/postmaster.pid")" = "$server" ] || fail "the compute was started anew"
note "wire epoch 5 in the running compute; every daemon killed since"

"$LOCH" key rotate nonsense --tenant ours 2>/dev/null && fail "rotated nonsense"

# What the old timeline keys wrap is written anew in the background, and one can watch it.
left() { "$LOCH" key progress --tenant ours --json | python3 -c 'import json, sys; print(sum(int(r["old_bytes"]) for r in json.load(sys.stdin)))'; }
note "under retired timeline keys: $(left) bytes"
nothing_left() { [ "$(left)" = 0 ]; }
wait_until 120 nothing_left || fail "the rewrite does not end: $("$LOCH" key progress)"
tenant=$("$LOCH" branch list --tenant ours --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["tenant"])')
all_new() { # the files of what was rewritten go a moment after nothing names them any more
    local f said
    for f in "$DIR/pageserver/tenants/$tenant"/timelines/*/*.layer; do
        said=$("$BUILD/bin/loch-dump" "$f" 2>&1) || continue # a merge has removed it meanwhile
        grep -q '^key: .* version 2$' <<<"$said" || { echo "$said" >"$WORK/old-layer"; return 1; }
    done
}
wait_until 30 all_new || fail "still under the old key: $(cat "$WORK/old-layer")"
note "written anew: $("$LOCH" key progress --tenant ours | tail -1)"

# To another CMK. Where a daemon does not hear of it (its new keyring waits), the old one stays pinned everywhere; the same
# command again, when all are up, ends that. Then the old one is destroyed while the load goes on.
kill -9 "$(daemon_pid safekeeper-2)"
said=$("$LOCH" key rotate cmk --tenant ours --kms-uri "file:$WORK/second.key" 2>&1) || fail "move: $said"
grep -q "file:$WORK/first.key stays pinned.*once more" <<<"$said" || fail "a move that one daemon did not hear of says: $said"
[ "$(grep -ls first.key "$DIR"/*/kms.pins | wc -l)" = 4 ] || fail "unpinned before every daemon holds the new keyring"
"$LOCH" up >/dev/null 2>&1 || fail "up after a move"
wait_until 30 held || fail "leases after a move: $("$LOCH" key status --tenant ours)"
"$LOCH" key rotate cmk --tenant ours --kms-uri "file:$WORK/second.key" >/dev/null || fail "move"
shred -u "$WORK/first.key"
"$LOCH" key list --tenant ours | sees first.key && fail "something still hangs below the old CMK"
grep -hqs first.key "$DIR"/*/kms.pins && fail "the old CMK is still pinned"
acked() { cat "$WORK"/ledger/client-* | wc -l; }
before=$(acked)
asked() { "$LOCH" key status --tenant ours --json | python3 -c '
import json, sys
print(min(int(r["decrypts"]) for r in json.load(sys.stdin)))'; }
first=$(asked)
four_polls() { [ "$(asked)" -ge $((first + 4)) ]; }
wait_until 30 four_polls || fail "nobody asks the new CMK"
held || fail "leases: $("$LOCH" key status --tenant ours)"
[ "$(acked)" -gt "$before" ] || fail "the load stands still after the move"
touch "$WORK/stop"
wait "$load" || fail "load"
note "load: $(cat "$WORK/ran")"
[ "$(json "$(cat "$WORK/ran")" errors)" -eq 0 ] || fail "queries failed"

# A new credential is of the new wire epoch; everything opens after a restart of all.
"$LOCH" compute stop ours >/dev/null
"$LOCH" down >/dev/null 2>&1
"$LOCH" up >/dev/null 2>&1 || fail "up"
"$LOCH" compute start ours >/dev/null || fail "compute start"
checked=$("$LEDGER" check --url "$(url ours)" --state "$WORK/ledger") || fail "ledger: $checked"

# Two wire epochs at once, handed to nobody: who holds one of before, as this compute does, is cut off and stays so; the
# other tenant's goes on. A start has a new credential.
epoch=$(field ours wire_epoch)
server=$(head -1 "$(field ours pgdata)/postmaster.pid")
other=$(head -1 "$(field main pgdata)/postmaster.pid")
"$LOCH" key rotate wire-anew --tenant ours >/dev/null || fail "rotate wire-anew"
wait_until 120 dead "$server" || fail "the compute goes on with a wire key that has ended"
[ "$(field ours wire_epoch)" = "$epoch" ] || fail "the compute was handed epoch $(field ours wire_epoch)"
dead "$other" && fail "the other tenant's compute ended, too"
"$LOCH" compute stop ours --immediate >/dev/null || fail "compute stop"
"$LOCH" compute start ours >/dev/null || fail "compute start"
[ "$(field ours wire_epoch)" = $((epoch + 2)) ] || fail "a new credential is of wire epoch $(field ours wire_epoch)"
checked=$("$LEDGER" check --url "$(url ours)" --state "$WORK/ledger") || fail "ledger: $checked"
note "wire epoch $epoch ended at once, $((epoch + 2)) began"
"$LOCH" compute stop ours >/dev/null
"$LOCH" compute stop main >/dev/null

# What a rotation of CMK and KEK writes: keyrings, and nothing else.
settled() { [ -z "$(find "$DIR" -name '*.log' -prune -o -type f -newermt '-3 seconds' -print | grep -v /run/)" ]; }
wait_until 60 settled || fail "files do not come to rest: $(find "$DIR" -type f -newermt '-3 seconds')"
touch "$WORK/mark"
said=$("$LOCH" key rotate cmk --tenant ours --json) || fail "rotate cmk"
said2=$("$LOCH" key rotate kek --tenant ours --json) || fail "rotate kek"
written=$(find "$DIR" -type f -newer "$WORK/mark" ! -path '*/log/*' ! -path '*/run/*')
note "written by both: $(json "${said:1:-1}" bytes_written) and $(json "${said2:1:-1}" bytes_written) bytes of keyring; files: $(wc -l <<<"$written")"
grep -v -e '/keyring' -e '/audit.log' <<<"$written" | grep . && fail "a rotation rewrote data"
note "passed"
