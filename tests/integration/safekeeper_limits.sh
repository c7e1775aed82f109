#!/bin/bash
# What a safekeeper refuses before it is too late: settings that would hold writers for ever, timelines and memberships
# that nobody could read, and files for which there is no room when many timelines begin one at once.
#
#   usage: tests/integration/safekeeper_limits.sh [BUILD_DIR]    environment: PORT_BASE (21480)
set -u
cd "$(dirname "$0")/../.."
# shellcheck source=tests/integration/lib/safekeepers.sh
. tests/integration/lib/safekeepers.sh limits 1 21480 "${1:-build}"
write_ini 1

expect "keys are made" proposer setup "$timeline"

# ---- a limit below which nothing could ever be trimmed ----
sed 's|^\[safekeeper\]|&\ntimeline_limit = 20MiB|' "$dir/sk1.ini" >"$dir/small.ini"
refused "a timeline_limit of 20 MiB" "timeline_limit of 20971520 .*Set it to at least 25165824" timeout 20 "$build/bin/loch-safekeeper" --config "$dir/small.ini"
sed -i 's|^timeline_limit = .*|timeline_limit = 24MiB|' "$dir/small.ini"
up 1 "$dir/small.ini"; wait_up 1 || exit 1
ok "one of 24 MiB is taken, with files of 2 MiB"

# ---- a timeline that could not be opened, a membership that could not be read ----
at() { console 1 "CREATE TIMELINE $tenant $timeline START $1 PREV $2 SYSID $sysid PGVERSION 150020 SEGMENT 16777216"; }
for where in "0/1500008 0/15000C0" "0/1500008 0/14FFF00" "0/1000010 0/FFFF00" "FFFFFFFF/FFFFFFF8 0/15000C8" "0/1500144 0/15000C8" "0/1500140 0/1500141" "0/0 0/0"; do
    # shellcheck disable=SC2086
    refused "START ${where% *} PREV ${where#* }" "cannot be the end and the start of a record" at $where
done
[ -e "$dir/sk1/tenants/$tenant/timelines/$timeline" ] && bad "a directory is left" || ok "nothing is left of it"
expect "where a record can end, it is created" create 1 "$timeline"
me=$(member_id 1 "$timeline")
refused "an address that is not ASCII" "printable ASCII" console 1 "FORM MEMBERS $tenant $timeline $me@${node[1]}@café:1"
refused "one with a blank" "" console 1 "FORM MEMBERS $tenant $timeline '$me@${node[1]}@127.0.0.1 1'"
expect "the membership can still be formed" alone "$timeline"
expect "and the timeline is written" proposer run "$timeline" "${one[@]}" --epoch 1 --seconds 120 --commits 100
halt 1

# ---- many timelines begin a file at once, and there is room for some ----
many=12
mkdir "$dir/small"
if mount -t tmpfs -o size=150m tmpfs "$dir/small" 2>/dev/null; then
    sed -e "s|^dir = .*|dir = $dir/small|" -e 's|^file_bytes = .*|file_bytes = 16MiB|' "$dir/sk1.ini" >"$dir/small.ini"
    up 1 "$dir/small.ini"; wait_up 1 || exit 1
    for i in $(seq $many); do
        tl[i]=$(hex)
        proposer setup "${tl[i]}" >/dev/null && create 1 "${tl[i]}" && alone "${tl[i]}" >/dev/null || bad "timeline $i"
    done
    for i in $(seq $many); do
        behind "$dir/run.$i" run "${tl[i]}" "${one[@]}" --epoch 1 --seconds 600 --mib 1 --clients 4
        writer[i]=$running
    done
    held() { [ "$(console 1 "SHOW TIMELINES" | grep -c "disk is full.*make room")" -gt 0 ]; }
    wait_for 120 held && ok "$(console 1 "SHOW TIMELINES" | grep -c "disk is full") of $many timelines wait" || { bad "nobody waits"; tail -3 "$dir/sk1.log"; }
    left=$(df -m --output=avail "$dir/small" | tail -1 | tr -d ' ')
    [ "$left" -ge 9 ] && ok "$left MiB are free" || bad "only $left MiB are free"
    mount -o remount,size=600m "$dir/small"
    for i in $(seq $many); do
        join "${writer[i]}" || { bad "the writer of timeline $i"; tail -2 "$dir/run.$i"; }
    done
    kill -0 "${pid[1]}" 2>/dev/null && ok "the safekeeper lives, and with room all were written" || { bad "the safekeeper ended"; tail -3 "$dir/sk1.log"; }

    # ---- a disk that fills while it is down: what it has to write at a start takes the place of its reserve ----
    wait_for 60 [ -e "$dir/small/reserve" ] && ok "there is a reserve" || bad "no reserve"
    halt 1
    dd if=/dev/zero of="$dir/small/filler" bs=1M >/dev/null 2>&1
    dd if=/dev/zero of="$dir/small/filler2" bs=4k >/dev/null 2>&1
    [ "$(df --output=avail "$dir/small" | tail -1 | tr -d ' ')" = 0 ] || bad "the disk is not full"
    up 1 "$dir/small.ini"; wait_up 1 && ok "it starts on a full disk" || tail -2 "$dir/sk1.log"
    [ -e "$dir/small/reserve" ] && bad "the reserve is still there"
    rm -f "$dir/small/filler" "$dir/small/filler2"
    wait_for 60 [ -e "$dir/small/reserve" ] && ok "and with room it has one again" || bad "no reserve"
    expect "and takes WAL" proposer run "${tl[1]}" "${one[@]}" --epoch 2 --seconds 120 --commits 100
    halt 1
    umount "$dir/small"
else echo "skip  a full disk (cannot mount)"; fi
echo "failures: $failures"
exit $((failures > 0))
