#!/bin/bash
# Three safekeepers under a synthetic proposer: killed with -9 again and again, nothing acknowledged is
# lost and all logs match; two down acknowledge nothing; damage and garbage are refused by name.
#
#   usage: tests/integration/safekeeper_kill.sh [BUILD_DIR]    environment: ROUNDS (8), PORT_BASE (21400)
set -u
cd "$(dirname "$0")/../.."
# shellcheck source=tests/integration/lib/safekeepers.sh
. tests/integration/lib/safekeepers.sh kill 3 21400 "${1:-build}"
rounds=${ROUNDS:-8}
unknown=$(hex)
epoch=0

run() { epoch=$((epoch + 1)); proposer run "$timeline" --epoch $epoch "${all[@]}" "$@"; }
load() { epoch=$((epoch + 1)); behind "$dir/run" run "$timeline" --epoch $epoch "${all[@]}" --seconds 900 "$@"; } # until end_load
says() { sed -n "s/^.*\\b$1 \\([0-9]*\\).*/\\1/p" "$dir/run" | tail -1; } # commits, longest_stall_ms
knows() { # safekeeper LSN: that it is committed
    local lsn
    lsn=$(console "$1" "SHOW TIMELINES" 2>/dev/null | awk -F'|' -v t="$timeline" '$2 == t {print $9}')
    [ -n "$lsn" ] && [ $(((16#${lsn%/*} << 32) + 16#${lsn#*/})) -ge "$2" ]
}
catches_up() { wait_for 300 knows "$1" "$(acknowledged "$timeline")"; } # safekeeper: to what is acknowledged by now
comes_back() { # text safekeeper...: under a light load each gets all that it has missed
    local text=$1 i; shift
    load --clients 4
    goes_on "$timeline" || bad "nothing is acknowledged"
    for i in "$@"; do
        catches_up "$i" && ok "$text${2:+ ($i)}" || bad "$text: $(tail -2 "$dir/sk$i.log")"
    done
    end_load $running || { bad "the load beside"; cat "$dir/run"; }
}
check() { proposer check "$timeline" --epoch $((epoch + 100)) --seconds 300 "${all[@]}"; }

for i in 1 2 3; do write_ini $i; done
expect "settings are checked" "$build/bin/loch-safekeeper" --config "$dir/sk1.ini" --check-config
expect "keys are made" proposer setup "$timeline"
expect "keys of a second timeline are made" proposer setup "$other"
for i in 1 2 3; do up $i; done
for i in 1 2 3; do wait_up $i || exit 1; done
for i in 1 2 3; do
    expect "timeline is created on $i" create $i "$timeline"
    expect "and again, which does nothing" create $i "$timeline"
    expect "a second timeline is created on $i" create $i "$other"
done
expect "the membership is formed" form "$timeline"
expect "and the other's" form "$other"
if "$build/bin/loch-safekeeper" --config "$dir/sk1.ini" >"$dir/out" 2>&1; then bad "a second daemon started on one directory"
else ok "a second daemon on one directory is refused: $(tail -1 "$dir/out" | cut -c1-150)"; fi

expect "a run without faults" run --seconds 300 --commits 3000 --clients 32
cat "$dir/out"
expect "all logs match" check

# ---- kill -9, one at a time, under load ----
commits=0
for round in $(seq "$rounds"); do
    victim=$((RANDOM % 3 + 1))
    load --clients 16 --record 300
    goes_on "$timeline" || bad "round $round: nothing is acknowledged"
    sleep "0.$((RANDOM % 9 + 1))"; slay $victim
    goes_on "$timeline" 100000 || bad "round $round: nothing is acknowledged without safekeeper $victim"
    sleep "0.$((RANDOM % 9 + 1))"; up $victim; wait_up $victim
    catches_up $victim || bad "round $round: safekeeper $victim does not catch up"
    goes_on "$timeline" 100000 || bad "round $round: nothing is acknowledged when safekeeper $victim is back"
    end_load $running; code=$?
    n=$(says commits) stall=$(says longest_stall_ms)
    if [ $code = 0 ] && [ "${stall:-99999}" -le 10000 ]; then
        ok "round $round: safekeeper $victim killed, $n commits, longest stall $stall ms"
    else bad "round $round: exit $code, $n commits, stall ${stall:-?} ms"; cat "$dir/run"; fi
    commits=$((commits + ${n:-0}))
done
expect "all logs match after $rounds kills and $commits commits" check
cat "$dir/out"

# ---- one is away for longer than the proposer remembers: it recovers from its peers ----
slay 3
expect "two of three go on" run --seconds 600 --mib 100 --clients 64 --record 20000
grep commits "$dir/out"
up 3; wait_up 3
comes_back "the third hears of it" 3
expect "the third has caught up" check
cat "$dir/out"
grep -q "recovering WAL" "$dir/sk3.log" && ok "it recovered from its peers" || bad "no recovery from peers"

# ---- the peer that it recovers from is stopped, and holds its connection: another one gives the rest ----
metric() { curl -sf "http://127.0.0.1:$((base + 20 + $1))/metrics" | sed -n "s/^loch_safekeeper_$2 //p"; }
gives() { [ "$(metric 1 pulled_bytes_total)" -gt "$gave1" ] || [ "$(metric 2 pulled_bytes_total)" -gt "$gave2" ]; }
for _ in 1 2 3 4 5; do # until we are there in time
    slay 3
    expect "two of three go on" run --seconds 600 --mib 300 --clients 64 --record 20000
    gave1=$(metric 1 pulled_bytes_total) gave2=$(metric 2 pulled_bytes_total)
    load --clients 4
    up 3
    for _ in $(seq 12000); do gives && break; sleep 0.005; done
    kill -STOP "${pid[3]}" # while we look who gives
    gives1=$(($(metric 1 pulled_bytes_total) - gave1)) gives2=$(($(metric 2 pulled_bytes_total) - gave2))
    [ $((gives1 + gives2)) -gt $((200 << 20)) ] || break
    kill -CONT "${pid[3]}"
    catches_up 3 || bad "the third does not catch up"
    end_load $running || { bad "the load beside"; cat "$dir/run"; }
done
donor=2; [ "$gives1" -gt "$gives2" ] && donor=1
kill -STOP "${pid[$donor]}"; kill -CONT "${pid[3]}"
began=$SECONDS
goes_on "$timeline" 1000 && ok "donor $donor was stopped after $((gives1 + gives2)) bytes: commits go on after $((SECONDS - began)) s" ||
    bad "a stopped donor holds commits up: $(tail -2 "$dir/sk3.log")"
kill -CONT "${pid[$donor]}"
for i in 1 2 3; do catches_up $i || bad "safekeeper $i does not catch up"; done
end_load $running && ok "and the run ends well: $(grep commits "$dir/run")" || { bad "the run beside a stopped donor"; cat "$dir/run"; }
expect "all logs match" check

# ---- all killed at once ----
load --clients 16
goes_on "$timeline" 100000 || bad "nothing is acknowledged"
for i in 1 2 3; do slay $i; done
for i in 1 2 3; do up $i; done; for i in 1 2 3; do wait_up $i; done
goes_on "$timeline" 100000 || bad "nothing is acknowledged after all three were killed"
for i in 1 2 3; do catches_up $i || bad "safekeeper $i does not catch up"; done
end_load $running && ok "all three killed at once: $(tail -1 "$dir/run")" || { bad "all killed at once"; cat "$dir/run"; }
expect "all logs match" check

# ---- a full disk: the safekeeper ends with a clear message, the others go on, nothing is lost ----
halt 3
mkdir "$dir/small"
used=$(du -sm "$dir/sk3" | cut -f1)
if mount -t tmpfs -o size=$((used + 8))m tmpfs "$dir/small" 2>/dev/null; then
    cp -a "$dir/sk3/." "$dir/small/"
    sed -e "s|^dir = .*|dir = $dir/small|" -e 's|^\[safekeeper\]|&\nmin_free = 0|' "$dir/sk3.ini" >"$dir/small.ini"
    up 3 "$dir/small.ini"; wait_up 3; wait_open 3 "$timeline"
    expect "a run that fills the third's disk" run --seconds 600 --mib 100 --clients 64 --record 20000
    wait "${pid[3]}"; code=$?
    [ $code = 3 ] && grep -q "No space left" "$dir/sk3.log" && ok "it ended: $(grep "No space left" "$dir/sk3.log" | tail -1 | cut -c26-170)" ||
        { bad "a full disk: exit $code"; tail -3 "$dir/sk3.log"; }
    mount -o remount,size=2g "$dir/small"
    up 3 "$dir/small.ini"; wait_up 3; wait_open 3 "$timeline"
    comes_back "with room again, it catches up" 3
    expect "all logs match" check
    # With a limit it stays, says why it takes no more, and goes on when there is room.
    halt 3
    sed -i 's|^min_free = 0|min_free = 64MiB|' "$dir/small.ini"
    mount -o remount,size=$(($(du -sm "$dir/small" | cut -f1) + 80))m "$dir/small"
    up 3 "$dir/small.ini"; wait_up 3; wait_open 3 "$timeline"
    says_full() { console 3 "SHOW TIMELINES" | grep -q "disk is full.*make room"; }
    load --clients 64 --record 20000 --mib 200
    wait_for 300 says_full && kill -0 "${pid[3]}" && ok "it says that its disk is full, and lives" ||
        { bad "a disk all but full"; tail -3 "$dir/sk3.log"; console 3 "SHOW TIMELINES"; }
    join $running && ok "a run against a third that is full: $(grep commits "$dir/run")" || { bad "a run against a third that is full"; cat "$dir/run"; }
    mount -o remount,size=2g "$dir/small"
    comes_back "with room again, it catches up" 3
    expect "all logs match" check
    halt 3
    rm -rf "$dir/sk3"; cp -a "$dir/small" "$dir/sk3"; umount "$dir/small"
else echo "skip  a full disk (cannot mount)"; fi
up 3; wait_up 3

# ---- two down: nothing is acknowledged ----
slay 1; slay 2
before=$(acknowledged "$timeline")
load --clients 8
sleep 3
[ "$(acknowledged "$timeline")" = "$before" ] && ok "two down: nothing acknowledged in 3 s" || bad "acknowledged without a quorum"
up 2; wait_up 2; wait_open 2 "$timeline"
goes_on "$timeline" 100000 || bad "nothing is acknowledged after one is back"
end_load $running && ok "one back: $(says commits) commits" || { bad "the run after one is back"; cat "$dir/run"; }
up 1; wait_up 1

# ---- a second proposer fences the first ----
# What the first proposes after the second's start belongs to nobody: it writes into files of its own.
cp "$dir/truth.$timeline" "$dir/truth.first"; cp "$dir/journal.$timeline" "$dir/journal.first"
load --clients 8 --truth "$dir/truth.first" --journal "$dir/journal.first"
first=$running
goes_on first 100000 || bad "nothing is acknowledged to the first"
expect "a second proposer takes over" proposer run "$timeline" --epoch $epoch "${all[@]}" --seconds 120 --mib 1 --clients 8
join $first; [ $? = 7 ] && ok "the first is fenced: $(grep fenced "$dir/run")" || { bad "the first was not fenced"; cat "$dir/run"; }
took=$(sed -n 's/^elected term [0-9]* at \([0-9A-F/]*\),.*/\1/p' "$dir/out" | head -1)
took=$(((16#${took%/*} << 32) + 16#${took#*/}))
[ "$(acknowledged first)" -le "$took" ] && ok "and had nothing acknowledged behind the second's start" || bad "the first had WAL acknowledged that the second does not have"
head -c $((took - (16#${start%/*} << 32) - 16#${start#*/})) "$dir/truth.first" | dd of="$dir/truth.$timeline" bs=64k conv=notrunc status=none
expect "an old epoch cannot campaign" bash -c "! $(printf '%q ' "$build/bin/sk_proposer") run --store '$dir/store' --kms 'file:$dir/cmk.key' --cluster $cluster --tenant $tenant --timeline $timeline --start $start --truth '$dir/truth.x' --journal '$dir/journal.x' --epoch 1 ${all[*]} --seconds 2 | grep -q elected"
comes_back "all are up to date" 1 2 3
expect "all logs match" check

# ---- clean stop and start ----
for i in 1 2 3; do
    halt $i
    up $i; wait_up $i
done
expect "all logs match after clean restarts" check

# ---- garbage on every port ----
for port in $((base + 1)) $((base + 21)); do
    for _ in 1 2 3; do (head -c 3000 /dev/urandom >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; done
done
for type in 1 2 3 5 7 16 19 31 77; do
    seconds=60; [ $type != 31 ] || seconds=3 # an ERROR, which a peer may send
    "$build/bin/sk_proposer" junk --store "$dir/store" --kms "file:$dir/cmk.key" --cluster "$cluster" --tenant "$tenant" \
        --timeline "$timeline" --epoch $type --member "${node[1]}=127.0.0.1:$((base + 1))" --seconds $seconds >"$dir/out" 2>&1
    grep -q "closed the connection" "$dir/out" || { [ $type = 31 ] || bad "junk of type $type was not refused"; }
done
ok "junk frames end their connection"
kill -0 "${pid[1]}" && ok "safekeeper 1 lives" || bad "garbage ended safekeeper 1"
expect "and serves" run --seconds 120 --mib 1 --clients 8

# ---- credentials of others ----
expect "keys of a second tenant are made" proposer setup "$other" --tenant "$tenant2"
expect "keys of a third tenant are made" proposer setup "$other" --tenant "$unknown"
expect "the second tenant has a timeline on 1" create 1 "$other" "$tenant2"
for as in "--as-timeline $other" "--as-tenant $tenant2 --as-timeline $other"; do
    # shellcheck disable=SC2086
    behind "$dir/out" run "$timeline" --epoch 9999 "${one[@]}" $as --seconds 120
    wait_for 60 grep -q -E "says|elected" "$dir/out"
    end_load $running
    grep -q "says denied" "$dir/out" && ! grep -q elected "$dir/out" && ok "denied: $as" || { bad "not denied: $as"; cat "$dir/out"; }
done
proposer run "$timeline" --epoch 9999 "${one[@]}" --as-tenant "$unknown" --as-timeline "$other" --seconds 1 >"$dir/out" 2>&1
grep -q -E "says|elected" "$dir/out" && bad "a tenant that is not served got in" || ok "a tenant that is not served does not pass the handshake"
expect "the second tenant is dropped" console 1 "DROP TENANT $tenant2"

# ---- a stranger's timeline, a flipped byte ----
if create 1 "$stranger" >"$dir/out" 2>&1; then bad "a timeline without keys was created"
else ok "a timeline without keys is refused: $(head -1 "$dir/out" | cut -c1-120)"; fi
tl_dir=$dir/sk1/tenants/$tenant/timelines/$timeline
halt 1
file=$(ls "$tl_dir"/*.wal | tail -1)
cp "$file" "$dir/saved.wal"
printf '\x5a\xa5' | dd of="$file" bs=1 seek=700 conv=notrunc status=none
up 1; wait_up 1; wait_open 1 "$timeline"
row=$(console 1 "SHOW TIMELINES" | grep "$timeline")
case "$row" in *"|broken|"*"$(basename "$file")"*) ok "a flipped byte is found: $(echo "$row" | awk -F'|' '{print $NF}' | cut -c1-200)";; *) bad "a flipped byte: $row";; esac
console 1 "SHOW TIMELINES" | grep "$other" | grep -q '|active|' && ok "the other timeline is served" || bad "the other timeline is not served"
expect "the other two go on" run --seconds 120 --mib 1 --clients 8
halt 1; cp "$dir/saved.wal" "$file"
cp "$tl_dir/control" "$dir/saved.control"; head -c 300 "$dir/saved.control" >"$tl_dir/control"
up 1; wait_up 1; wait_open 1 "$timeline"
console 1 "SHOW TIMELINES" | grep "$timeline" | grep -q "|broken|.*control" && ok "a cut control file is found" || bad "a cut control file"
halt 1; cp "$dir/saved.control" "$tl_dir/control"
up 1; wait_up 1; wait_open 1 "$timeline"
comes_back "whole again, it catches up" 1
expect "all logs match" check
expect "a timeline is dropped" console 1 "DROP TIMELINE $tenant $other"
[ "$(console 1 "SHOW TIMELINES" | wc -l)" = 1 ] && ok "and is gone" || bad "it is still there"
halt 1; up 1; wait_up 1
[ "$(console 1 "SHOW TIMELINES" | wc -l)" = 1 ] && ok "also after a restart" || bad "it came back"

# ---- sync before ack, in a syscall trace (of the thread pool, for io_uring hides its operations) ----
# One safekeeper is the whole quorum and one record is outstanding: append, write, sync, ack, in turn.
if command -v strace >/dev/null; then
    solo=$(hex)
    expect "keys of a third timeline are made" proposer setup "$solo"
    expect "it is created on 1" create 1 "$solo"
    expect "and is its only member" alone "$solo"
    halt 1
    LOCH_NO_URING=1 strace -f -yy -e trace=pwrite64,fdatasync,write,writev,sendmsg,sendto -o "$dir/trace" \
        "$build/bin/loch-safekeeper" --config "$dir/sk1.ini" >>"$dir/sk1.log" 2>&1 &
    tracer=$!
    wait_up 1; wait_open 1 "$solo"
    expect "a run under trace" proposer run "$solo" "${one[@]}" --seconds 300 --commits 500 --clients 1
    kill "$(pgrep -P $tracer | head -1)"; wait $tracer
    expect "every ack comes after the sync of what it covers" python3 tests/integration/sync_before_ack.py "$dir/trace"
    cat "$dir/out"
    pid[1]=
fi
echo "failures: $failures"
exit $((failures > 0))
