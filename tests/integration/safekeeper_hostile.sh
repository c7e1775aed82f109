#!/bin/bash
# Bad input at a running safekeeper, from peers with valid credentials: every case of tests/tools/sk_hostile.c is
# refused with a reason, logged once, and changes nothing on disk, while another timeline of the same safekeeper is
# written all along; the process lives. Then files that belong elsewhere, put before it while it runs.
#
#   usage: tests/integration/safekeeper_hostile.sh [BUILD_DIR]    environment: PORT_BASE (21440)
set -u
cd "$(dirname "$0")/../.."
# shellcheck source=tests/integration/lib/safekeepers.sh
. tests/integration/lib/safekeepers.sh hostile 2 21440 "${1:-build}"
foreign=$(hex)
for i in 1 2; do write_ini $i; done
begin() { up "$1"; wait_up "$1" || exit 1; }
path_of() { echo "$dir/sk1/tenants/$tenant/timelines/$1"; }
hostile() { # epoch [case]
    "$build/bin/sk_hostile" "$dir/store" "file:$dir/cmk.key" "127.0.0.1:$((base + 1))" "$(path_of "$timeline")" "$sysid" "$1" \
        "$cluster" "$tenant" "$timeline" "$tenant2" "$other" "${node[1]}" "$stranger" ${2:+"$2"}
}

expect "keys are made" proposer setup "$timeline"
for tl in "$other" "$stranger" "$foreign"; do expect "keys of timeline ${tl:0:8}" proposer setup "$tl"; done
expect "keys of another tenant" proposer setup "$other" --tenant "$tenant2"
begin 1
for tl in "$timeline" "$other"; do
    expect "timeline ${tl:0:8} is created" create 1 "$tl"
    expect "with one member" alone "$tl"
done
expect "the other tenant has a timeline here too" create 1 "$other" "$tenant2"
expect "it is written" proposer run "$timeline" "${one[@]}" --epoch 5 --seconds 120 --commits 300
wal_files() { find "$(path_of "$timeline")" -name '*.wal' | wc -l; }
files=$(wal_files) # as many as the disk is fast

# ---- all cases, beside a timeline that is written all along ----
behind "$dir/beside" run "$other" "${one[@]}" --epoch 1 --seconds 900 --clients 4
goes_on "$other" || bad "the other timeline is not written"
began=$SECONDS
for round in 6 7; do
    before=$(acknowledged "$other")
    if hostile $round >"$dir/hostile.$round" 2>&1; then ok "round $((round - 5)): $(grep -c '^ok' "$dir/hostile.$round") cases"
    else bad "a case"; tail -3 "$dir/hostile.$round"; fi
    beyond "$other" "$before" && ok "the other timeline was written meanwhile" || bad "the other timeline stood still"
done
cases=$(grep -c '^ok' "$dir/hostile.6")
[ "$cases" -ge 59 ] && grep -q '^ok    half_a_record' "$dir/hostile.6" || bad "only $cases cases"
# Each reason once, though some came from several cases, and all of the first round's that name no LSN or term in the second.
grep -h '^said' "$dir/hostile.6" "$dir/hostile.7" | cut -c6- | sort -u >"$dir/reasons"
[ "$(wc -l <"$dir/reasons")" -ge 45 ] || bad "only $(wc -l <"$dir/reasons") reasons"
once=0 minutes=$(((SECONDS - began) / 60)) # one line a minute
while read -r reason; do
    n=$(grep -v -e 'more within a minute' -e "$tenant2" "$dir/sk1.log" | grep -cF -- "$reason")
    case $reason in *"hung up inside"* | "frame of "* | "epoch "*) [ "$n" -ge 1 ] && [ "$n" -le $((3 + minutes)) ] ;; *) [ "$n" -ge 1 ] && [ "$n" -le $((1 + minutes)) ] ;; esac && once=$((once + 1)) || bad "logged $n times: $reason"
done <"$dir/reasons"
ok "$once reasons are in the log, once"
lines=$(wc -l <"$dir/sk1.log")
for _ in $(seq 5); do hostile 7 wrong_page >/dev/null || bad "again and again"; done
lines=$(tail -n +$((lines + 1)) "$dir/sk1.log" | grep -c "refused")
[ "$lines" -le 5 ] && ok "and five more of one kind leave $lines lines" || bad "$lines lines for five refusals"
end_load $running || { bad "the run beside"; tail -3 "$dir/beside"; }
expect "what the other acknowledged is there" proposer check "$other" "${one[@]}" --epoch 100 --seconds 300
begun=$(($(wal_files) - files))
[ "$begun" -le 8 ] && ok "$begun more WAL files: one a start or cut" || bad "$begun more WAL files"

begun=$(grep -o 'timeline [0-9a-f]*: term [0-9]* begins' "$dir/sk1.log" | sort)
[ -z "$(uniq -d <<<"$begun")" ] && [ "$(wc -l <<<"$begun")" -ge 59 ] && ok "$(wc -l <<<"$begun") terms began, each once, and none that was refused" ||
    bad "terms in the log: $(uniq -d <<<"$begun" | head -2)"

# ---- files that belong elsewhere, put there while it runs ----
begin 2
expect "another safekeeper has a timeline" create 2 "$foreign"
cp -a "$dir/sk2/tenants/$tenant/timelines/$foreign" "$(path_of "$foreign")"
cp -a "$(path_of "$other")" "$(path_of "$stranger")"
python3 - "$(path_of "$stranger")/control" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(10)  # the least reader's version
    f.write(b"\xff\x00")
PY
for which in "$foreign" "$stranger"; do
    before=$(cd "$(path_of "$which")" && sha256sum ./* | sha256sum)
    if create 1 "$which" >"$dir/out" 2>&1; then bad "a timeline was created over files that are there"
    else ok "files that are there stay: $(head -1 "$dir/out" | cut -c1-150)"; fi
    [ "$(cd "$(path_of "$which")" && sha256sum ./* | sha256sum)" = "$before" ] || bad "something was changed on disk"
done
expect "and it serves on" proposer run "$other" "${one[@]}" --epoch 101 --seconds 120 --commits 100

# ---- the same after a restart ----
halt 1
before=$(cd "$dir/sk1/tenants/$tenant/timelines" && sha256sum "$foreign"/* "$stranger"/*)
begin 1
row_of() { console 1 "SHOW TIMELINES" | grep "$1"; }
for which in "$foreign" "$stranger" "$timeline" "$other"; do wait_open 1 "$which"; done
row_of "$foreign" | grep -q '|broken|.*belongs to another name or node' && ok "another node's directory is broken here" || bad "$(row_of "$foreign")"
row_of "$stranger" | grep -q '|waiting|.*wants a reader of' && ok "a control file from the future waits for a newer safekeeper" || bad "$(row_of "$stranger")"
[ "$(cd "$dir/sk1/tenants/$tenant/timelines" && sha256sum "$foreign"/* "$stranger"/*)" = "$before" ] || bad "something was changed on disk"
expect "the hostile compute's timeline is whole" hostile 8 wrong_crc
expect "and the other" proposer run "$other" "${one[@]}" --epoch 102 --seconds 120 --commits 100
echo "failures: $failures"
exit $((failures > 0))
