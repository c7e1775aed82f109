#!/usr/bin/env bash
# Five computes fight over one branch, under bank transfers, while safekeepers are killed, stopped, cut off and run out
# of disk. In a network and mount namespace of its own. The sum stays, and every acknowledged transfer is there.
# usage: fights.sh [SECONDS [SEED]]
if [ "${FIGHTS_INSIDE:-}" = "" ] && [ "$(id -u)" = 0 ] && unshare -n -m true 2>/dev/null; then
    FIGHTS_INSIDE=yes exec unshare -n -m "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
SECONDS_OF_FIGHT=${1:-45}
SEED=${2:-$RANDOM}
RANDOM=$SEED
note "seed $SEED, $SECONDS_OF_FIGHT s, namespaces: ${FIGHTS_INSIDE:-no}"
if [ -n "${FIGHTS_INSIDE:-}" ]; then
    ip link set lo up
    # Rules about ports come before the table of local addresses.
    ip rule add pref 100 lookup local && ip rule del pref 0
fi

trap 'code=$?; kill_all; umount -l "$DIR/safekeeper-3" 2>/dev/null; (exit $code); cleanup' EXIT

up
"$LOCH" compute stop main
small() { # safekeeper 3 on a small disk of its own
    kill -9 "$(daemon_pid safekeeper-3)"
    wait_gone "$(daemon_pid safekeeper-3)"
    cp -a "$DIR/safekeeper-3" "$WORK/moved"
    mount -t tmpfs -o size=512m tmpfs "$DIR/safekeeper-3" && cp -a "$WORK/moved/." "$DIR/safekeeper-3/" && rm -rf "$WORK/moved"
    up
}
[ -z "${FIGHTS_INSIDE:-}" ] || small

current=
hosts=
start() { # compute: it takes over from whoever runs
    local was=$current
    "$LOCH" compute start "$1" --branch main --port $((PORT_BASE + 50 + ${1#c})) >/dev/null 2>"$WORK/start" ||
        { note "compute $1 does not start yet: $(tail -1 "$WORK/start" | cut -c1-200)"; return 0; }
    current=$1
    starts=$((starts + 1))
    [ -z "$was" ] || [ "$was" = "$1" ] || "$LOCH" compute stop "$was" --immediate >/dev/null 2>&1 || true # unwanted, fenced or not
}
starts=0
start c1
[ "$current" = c1 ] || fail "the first compute does not start"
password=$(sed -n 's|.*postgres:\([^@]*\)@.*|\1|p' <<<"$(url c1)")
for k in 1 2 3 4 5; do hosts+=",127.0.0.1:$((PORT_BASE + 50 + k))"; done
bank="postgresql://postgres:$password@${hosts#,}/postgres"
mkdir "$WORK/ledger"
"$LEDGER" init --url "$bank"
"$LEDGER" run --url "$bank" --state "$WORK/ledger" --clients 4 --seconds 7200 --stop-file "$WORK/stop" \
    >"$WORK/run" 2>"$WORK/run.err" &
load=$!
BACKGROUND+=("$load")
acked() { { cat "$WORK"/ledger/client-* 2>/dev/null || true; } | wc -l; }

cut_off() { # safekeeper: nothing passes to or from its port
    for what in sport dport; do ip rule add pref 50 ipproto tcp $what $((PORT_BASE + $1)) blackhole; done
    ip route flush cache
}
join() { for what in sport dport; do ip rule del pref 50 ipproto tcp $what $((PORT_BASE + $1)) blackhole; done; }

until_=$((SECONDS + SECONDS_OF_FIGHT))
deeds=""
while [ "$SECONDS" -lt "$until_" ]; do
    before=$(acked)
    n=$((RANDOM % 3 + 1))
    case $((RANDOM % 7)) in
    0 | 1)
        deed="another compute"
        start "c$((RANDOM % 5 + 1))"
        ;;
    2)
        deed="safekeeper-$n killed"
        kill -9 "$(daemon_pid "safekeeper-$n")"
        sleep 0.$((RANDOM % 10))
        up
        ;;
    3)
        deed="safekeeper-$n stopped"
        kill -STOP "$(daemon_pid "safekeeper-$n")"
        sleep $((RANDOM % 3)).5
        kill -CONT "$(daemon_pid "safekeeper-$n")"
        ;;
    4) # a compute that sleeps while it is deposed, and wakes up not knowing it
        deed="$current stopped while another takes over"
        sleeper=$(compute_pids "$current")
        # shellcheck disable=SC2086
        kill -STOP $sleeper 2>/dev/null || true
        was=$current
        current= # nobody ends it for us
        next=$((RANDOM % 5 + 1))
        [ "c$next" != "$was" ] || next=$((next % 5 + 1))
        start "c$next"
        # shellcheck disable=SC2086
        kill -CONT $sleeper 2>/dev/null || true
        "$LOCH" compute stop "$was" --immediate >/dev/null 2>&1 || true
        [ -n "$current" ] || current=$was
        ;;
    5)
        deed="safekeeper-$n cut off"
        [ -n "${FIGHTS_INSIDE:-}" ] || continue
        cut_off "$n"
        sleep $((RANDOM % 3)).5
        join "$n"
        ;;
    6)
        deed="safekeeper-3's disk full"
        [ -n "${FIGHTS_INSIDE:-}" ] || continue
        dd if=/dev/zero of="$DIR/safekeeper-3/fill" bs=1M 2>/dev/null || true
        sleep 1
        rm -f "$DIR/safekeeper-3/fill"
        up
        ;;
    esac
    deeds+="$deed; "
    more() { [ "$(acked)" -ge $((before + 20)) ]; }
    if ! wait_until 20 more; then # who was deposed while it started leaves nobody: one more
        start "c$((RANDOM % 5 + 1))"
        wait_until 40 more || fail "no commits after: $deed (seed $SEED)"
    fi
done
note "deeds: $deeds"
[ "$starts" -ge 3 ] || fail "only $starts computes fought"
touch "$WORK/stop"
wait "$load" || fail "the load failed: $(cat "$WORK/run.err")"
note "load: $(cat "$WORK/run"), $starts starts of computes, $(grep -l 'fenced' "$DIR"/log/compute-c*.log | wc -l) computes were fenced"
[ "$(json "$(cat "$WORK/run")" errors)" -eq 0 ] || fail "queries failed: $(cat "$WORK/run.err")"
start c5
checked=$("$LEDGER" check --url "$(url "$current")" --state "$WORK/ledger") || fail "ledger: $checked"
note "check: $checked"
amcheck "$current"
note "passed"
