#!/usr/bin/env bash
# Five computes fight over one branch, under bank transfers, while safekeepers are killed, stopped, cut off and run out
# of disk. Each safekeeper has a network namespace and a small disk of its own. The sum stays, and every acknowledged
# transfer is there, in order.
# usage: fights.sh [SECONDS [SEED [THINK_MS]]]     THINK_MS: each of four clients pauses so long between transfers
if [ "${FIGHTS_INSIDE:-}" = "" ] && [ "$(id -u)" = 0 ] && unshare -n -m true 2>/dev/null; then
    FIGHTS_INSIDE=yes exec unshare -n -m "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
SECONDS_OF_FIGHT=${1:-45}
SEED=${2:-$RANDOM}
RANDOM=$SEED
INSIDE=${FIGHTS_INSIDE:-}
[ -n "$INSIDE" ] || note "no namespaces here (want root): nobody is cut off, no disk is small"
note "seed $SEED, $SECONDS_OF_FIGHT s"

safekeeper_pid=(0 0 0 0)
pageserver_pid=0
end_all() {
    local code=$? pid n
    kill_all # the computes
    for pid in "${safekeeper_pid[@]:1}" "$pageserver_pid"; do kill -9 "$pid" 2>/dev/null || true; done
    { wait || true; } 2>/dev/null
    [ -z "$INSIDE" ] || for n in 1 2 3; do umount -l "$DIR/safekeeper-$n" 2>/dev/null || true; done
    rm -rf "$(scratch)-pageserver"
    set +e
    (exit "$code")
    cleanup
}
trap end_all EXIT

# ---- the machines ----
network() { # of safekeeper n: namespace s<n>, address 10.77.0.<n>; all the others live at 10.77.0.100
    local n
    mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns # of this mount namespace only
    ip link set lo up
    ip link add bridge type bridge && ip addr add 10.77.0.100/24 dev bridge && ip link set bridge up
    for n in 1 2 3; do
        ip netns add "s$n"
        ip link add "v$n" type veth peer name eth0 netns "s$n"
        ip link set "v$n" master bridge up
        ip -n "s$n" link set lo up
        ip -n "s$n" addr add "10.77.0.$n/24" dev eth0
        ip -n "s$n" link set eth0 up
    done
}
at() { # N COMMAND...: on safekeeper N's machine
    local n=$1
    shift
    if [ -n "$INSIDE" ]; then exec ip netns exec "s$n" "$@"; else exec "$@"; fi
}
run_safekeeper() {
    at "$1" "$PROGRAMS/bin/loch-safekeeper" --config "$DIR/conf/safekeeper-$1.ini" >>"$DIR/log/safekeeper-$1.log" 2>&1 &
    safekeeper_pid[$1]=$!
}
console() { psql -h "$DIR/run" -p $((PORT_BASE + $1)) -U loch -d loch -X -q -A -t -c 'SHOW STATUS' >/dev/null 2>&1; }
# CODE N: safekeeper N has ended, with that exit code, and runs again.
again() {
    local code=0
    { wait "${safekeeper_pid[$2]}" || code=$?; } 2>/dev/null # no word of the shell about who was killed
    [ "$code" -eq "$1" ] || fail "safekeeper-$2 ended with code $code, not $1 (seed $SEED)"
    run_safekeeper "$2"
    wait_until 20 console "$2" || fail "safekeeper-$2 does not start"
}

# The servers' user must be able to read the libraries.
PROGRAMS=$WORK/programs
mkdir -p "$PROGRAMS/bin" "$PROGRAMS/lib"
cp "$BUILD"/bin/loch "$BUILD"/bin/loch-* "$LEDGER" "$PROGRAMS/bin"
cp "$BUILD"/lib/loch* "$PROGRAMS/lib"
LOCH=$PROGRAMS/bin/loch
LEDGER=$PROGRAMS/bin/ledger
hosts=127.0.0.1,127.0.0.1,127.0.0.1,127.0.0.1
if [ -n "$INSIDE" ]; then
    network
    hosts=10.77.0.1,10.77.0.2,10.77.0.3,10.77.0.100
fi
refused() { # WHY COMMAND...
    local why=$1
    shift
    ! "$LOCH" "$@" 2>"$WORK/refused" && grep -q "$why" "$WORK/refused" || fail "loch $*: $(cat "$WORK/refused")"
}
refused "not a list of hosts" init --hosts a,b,c
refused "not a list of hosts" init --hosts a,b,c,d,e
refused "not a list of hosts" init --hosts a,b,c,d:7
refused "want --hosts" init
"$LOCH" init --hosts "$hosts" --port-base "$PORT_BASE" || fail "loch init"
refused "there is a cluster" init --hosts "$hosts"
refused "started by something else" safekeeper add
refused "started by something else" down --wipe
refused "does it run" up
for n in 1 2 3; do
    [ -z "$INSIDE" ] || mount -t tmpfs -o size=512m,mode=0700 tmpfs "$DIR/safekeeper-$n"
    run_safekeeper "$n"
done
"$PROGRAMS/bin/loch-pageserver" --config "$DIR/conf/pageserver.ini" >>"$DIR/log/pageserver.log" 2>&1 &
pageserver_pid=$!
up
"$LOCH" compute stop main

# ---- the computes ----
current=
starts=0
filled= # whose disk was full last: it may die of that a moment after there is room again
start() { # compute: it takes over from whoever runs
    local was=$current
    "$LOCH" compute start "$1" --branch main --port $((PORT_BASE + 50 + ${1#c})) >/dev/null 2>"$WORK/start" ||
        fail "compute $1 does not start after: $last (seed $SEED): $(tail -1 "$WORK/start")"
    current=$1
    starts=$((starts + 1))
    [ -z "$was" ] || [ "$was" = "$1" ] || "$LOCH" compute stop "$was" --immediate >/dev/null 2>&1 || true # unwanted, fenced or not
}
another() { # a compute other than the current one
    local k=$((RANDOM % 5 + 1))
    [ "c$k" != "$current" ] || k=$((k % 5 + 1))
    start "c$k"
}
maybe_another() { [ $((RANDOM % 3)) -ne 0 ] || another; }

last="nothing"
start c1
[ "$current" = c1 ] || fail "the first compute does not start"
password=$(sed -n 's|.*postgres:\([^@]*\)@.*|\1|p' <<<"$(url c1)")
computes=
for k in 1 2 3 4 5; do computes+=",127.0.0.1:$((PORT_BASE + 50 + k))"; done
bank="postgresql://postgres:$password@${computes#,}/postgres"
mkdir "$WORK/ledger"
"$LEDGER" init --url "$bank"
"$LEDGER" run --url "$bank" --state "$WORK/ledger" --clients 4 --seconds 7200 --think-ms "${3:-0}" --stop-file "$WORK/stop" \
    >"$WORK/run" 2>"$WORK/run.err" &
load=$!
BACKGROUND+=("$load")
acked() { { cat "$WORK"/ledger/client-* 2>/dev/null || true; } | wc -l; }

# ---- the deeds ----
a_while() { sleep $((RANDOM % 3)).$((RANDOM % 10)); }
deed_kill() { # one or two
    local n
    for n in $1 ${2:-}; do kill -9 "${safekeeper_pid[$n]}"; done
    sleep 0.$((RANDOM % 10))
    for n in $1 ${2:-}; do again 137 "$n"; done
}
deed_stop() { # one or two
    local n
    for n in $1 ${2:-}; do kill -STOP "${safekeeper_pid[$n]}"; done
    [ -n "${2:-}" ] || maybe_another
    a_while
    for n in $1 ${2:-}; do kill -CONT "${safekeeper_pid[$n]}"; done
}
deed_cut() { # one or two, from everybody
    local n
    for n in $1 ${2:-}; do ip link set "v$n" down; done
    [ -n "${2:-}" ] || maybe_another
    a_while
    for n in $1 ${2:-}; do ip link set "v$n" up; done
}
deed_mute() { # what one says to ADDRESS is lost; it hears
    ip -n "s$1" rule add pref 0 to "$2" blackhole
    ip -n "s$1" route flush cache
    maybe_another
    a_while
    ip -n "s$1" rule del pref 0 to "$2" blackhole
    ip -n "s$1" route flush cache
}
deed_fill() {
    dd if=/dev/zero of="$DIR/safekeeper-$1/fill" bs=1M 2>/dev/null || true
    maybe_another
    a_while
    rm -f "$DIR/safekeeper-$1/fill"
    filled=$1
}
deed_sleeper() { # a compute that sleeps while it is deposed, and wakes up not knowing it
    local sleeper was=$current
    sleeper=$(compute_pids "$current")
    # shellcheck disable=SC2086
    kill -STOP $sleeper 2>/dev/null || true
    another_without_stop
    # shellcheck disable=SC2086
    kill -CONT $sleeper 2>/dev/null || true
    [ "$current" = "$was" ] || "$LOCH" compute stop "$was" --immediate >/dev/null 2>&1 || true
}
another_without_stop() {
    local was=$current k=$((RANDOM % 5 + 1))
    [ "c$k" != "$was" ] || k=$((k % 5 + 1))
    current= # nobody ends it for us
    start "c$k"
}

declare -A deeds=()
deed() { # one at random
    local n=$((RANDOM % 3 + 1)) m kinds=(another another kill kill-two stop stop-two sleeper)
    m=$((n % 3 + 1))
    filled=
    [ -z "$INSIDE" ] || kinds+=(cut cut cut-two mute mute-peer fill fill)
    kind=${kinds[$((RANDOM % ${#kinds[@]}))]}
    case $kind in
    another) another ;;
    kill) deed_kill "$n" ;;
    kill-two) deed_kill "$n" "$m" ;;
    stop) deed_stop "$n" ;;
    stop-two) deed_stop "$n" "$m" ;;
    sleeper) deed_sleeper ;;
    cut) deed_cut "$n" ;;
    cut-two) deed_cut "$n" "$m" ;;
    mute) deed_mute "$n" 10.77.0.0/24 ;;
    mute-peer) deed_mute "$n" "10.77.0.$m" ;;
    fill) deed_fill "$n" ;;
    esac
    deeds[$kind]=$((${deeds[$kind]:-0} + 1))
    last="$kind $n"
}
alive() {
    local n
    for n in 1 2 3; do
        dead "${safekeeper_pid[$n]}" || continue
        [[ $filled == *$n* ]] || fail "safekeeper-$n ended by itself after: $last (seed $SEED)"
        again 3 "$n" # what it died of, an answer of code 3 is the promise
    done
    ! dead "$pageserver_pid" || fail "the pageserver ended by itself after: $last (seed $SEED)"
    kill -0 "$load" || fail "the load ended after: $last: $(cat "$WORK/run.err")"
}

# One after the other has no room: one of them is whom the pageserver takes its WAL from, and it must turn to another.
if [ -n "$INSIDE" ]; then
    for n in 1 2 3; do
        last="$n is full"
        dd if=/dev/zero of="$DIR/safekeeper-$n/fill" bs=1M 2>/dev/null || true
        begun=$SECONDS
        another
        [ $((SECONDS - begun)) -le 20 ] || fail "a start took $((SECONDS - begun)) s while safekeeper-$n was full"
        rm -f "$DIR/safekeeper-$n/fill"
        filled+=$n
        alive
    done
fi
until_=$((SECONDS + SECONDS_OF_FIGHT))
while [ "$SECONDS" -lt "$until_" ] || [ "$starts" -lt 3 ]; do
    before=$(acked)
    deed
    alive
    more() { alive && [ "$(acked)" -ge $((before + 20)) ]; }
    if ! wait_until 20 more; then # who was deposed while it started leaves nobody: one more
        note "20 s without commits after: $last; another compute"
        another
        wait_until 40 more || fail "no commits after: $last (seed $SEED)"
    fi
done
summary=
for kind in "${!deeds[@]}"; do summary+=", $kind ${deeds[$kind]}"; done
note "deeds: ${summary#, }"
touch "$WORK/stop"
wait "$load" || fail "the load failed: $(cat "$WORK/run.err")"
note "load: $(cat "$WORK/run"), $starts starts of computes, $(grep -h 'fenced' "$DIR"/log/compute-c*.log | wc -l) lines say fenced"
[ "$(json "$(cat "$WORK/run")" errors)" -eq 0 ] || fail "queries failed: $(cat "$WORK/run.err")"
start c5
checked=$("$LEDGER" check --url "$(url "$current")" --state "$WORK/ledger") || fail "ledger: $checked"
note "check: $checked"
# The check itself is checked: an acknowledgement moved behind all others must be seen.
cp -r "$WORK/ledger" "$WORK/planted"
sed -i '1s/^\([0-9]*\) .*/\1 9000000000000000 9000000000000001/' "$WORK/planted/client-0"
! "$LEDGER" check --url "$(url "$current")" --state "$WORK/planted" >"$WORK/planted.out" || fail "the ledger sees no disorder"
[ "$(json "$(cat "$WORK/planted.out")" out_of_order)" -eq 1 ] || fail "the ledger sees another disorder: $(cat "$WORK/planted.out")"
amcheck "$current"
note "passed"
