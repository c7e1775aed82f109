# shellcheck shell=bash
# Sourced by the tests that run safekeepers under synthetic proposers: daemons 1 to COUNT on ports from PORT_BASE on, their
# settings, consoles, keys and timelines, and what a test says.
#
#   . tests/integration/lib/safekeepers.sh NAME COUNT PORT BUILD_DIR       environment: PORT_BASE (PORT), PSQL
name=$1 count=$2
base=${PORT_BASE:-$3}
build=$(readlink -f "$4")
psql=${PSQL:-/usr/lib/postgresql/15/bin/psql}
dir=$(mktemp -d "${TMPDIR:-/tmp}/safekeeper-$name-XXXXXX")
failures=0
declare -A pid=()

hex() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
cluster=$(hex) tenant=$(hex) tenant2=$(hex) timeline=$(hex) other=$(hex) stranger=$(hex)
node=("")
for ((i = 1; i <= count; i++)); do node[i]=$(hex); done
start=0/1500140 prev=0/15000C8 sysid=7300000000000000001

ok() { echo "ok    $*"; }
bad() { echo "FAIL  $*"; failures=$((failures + 1)); }
expect() { # text command...: the command succeeds
    local text=$1; shift
    if "$@" >"$dir/out" 2>&1; then ok "$text"; else bad "$text"; tail -5 "$dir/out"; fi
}
refused() { # text, what it says, command...: fails, and says so
    local text=$1 says=$2; shift 2
    if "$@" >"$dir/out" 2>&1; then bad "$text: it was taken"
    elif grep -q -- "$says" "$dir/out"; then ok "$text: $(grep -m 1 -- "$says" "$dir/out" | cut -c1-170)"
    else bad "$text"; tail -3 "$dir/out"; fi
}
wait_for() { # seconds command...: until it succeeds; 1 when it does not
    local until=$((SECONDS + $1)); shift
    until "$@"; do [ "$SECONDS" -lt "$until" ] || return 1; sleep 0.05; done
}
cleanup() {
    local i
    for i in "${!pid[@]}"; do [ -z "${pid[$i]}" ] || kill -9 "${pid[$i]}" 2>/dev/null; done
    wait 2>/dev/null
    mountpoint -q "$dir/small" && umount "$dir/small"
    if [ $failures = 0 ]; then rm -rf "$dir"; else echo "kept: $dir"; fi
}
trap cleanup EXIT

peers() { local i; for ((i = 1; i <= count; i++)); do echo "${node[i]} = 127.0.0.1:$((base + i))"; done; }
write_ini() {
    cat >"$dir/sk$1.ini" <<END
[daemon]
dir = $dir/sk$1
console = $dir/.s.PGSQL.$((base + $1))
metrics = 127.0.0.1:$((base + 20 + $1))
[store]
path = $dir/store
[kms]
uri = file:$dir/cmk.key
[cluster]
id = $cluster
[safekeepers]
$(peers)
[pageserver]
[safekeeper]
node = ${node[$1]}
listen = 127.0.0.1:$((base + $1))
file_bytes = ${FILE_BYTES:-2MiB}
END
}
console() { "$psql" -h "$dir" -p $((base + $1)) -d loch -U loch -qAtX -c "$2"; }
up() { # safekeeper [settings]
    "$build/bin/loch-safekeeper" --config "${2:-$dir/sk$1.ini}" >>"$dir/sk$1.log" 2>&1 &
    pid[$1]=$!
}
wait_up() {
    wait_for 120 console "$1" "SHOW STATUS" >/dev/null 2>&1 && return 0
    bad "safekeeper $1 did not come up"; tail -5 "$dir/sk$1.log"; return 1
}
state_of() { console "$1" "SHOW TIMELINES" 2>/dev/null | awk -F'|' -v t="$2" '$2 == t {print $3}'; }
wait_open() { # safekeeper, timeline: until it is not opening any more
    is_open() { local state; state=$(state_of "$1" "$2"); [ -n "$state" ] && [ "$state" != opening ]; }
    wait_for 120 is_open "$1" "$2" || bad "timeline $2 of safekeeper $1 is '$(state_of "$1" "$2")'"
}
slay() { kill -9 "${pid[$1]}" 2>/dev/null; wait "${pid[$1]}" 2>/dev/null; }
halt() { kill "${pid[$1]}" 2>/dev/null; wait "${pid[$1]}" 2>/dev/null; }
member_id() { console "$1" "SHOW MEMBER STATES" | awk -F'|' -v t="$2" '$2 == t {print $4}'; }
alone() { # timeline: safekeeper 1 becomes its only member
    console 1 "FORM MEMBERS $tenant $1 $(member_id 1 "$1")@${node[1]}@127.0.0.1:$((base + 1))"
}
form() { # timeline: all become its members
    local list="" i
    for ((i = 1; i <= count; i++)); do list+=",$(member_id $i "$1")@${node[i]}@127.0.0.1:$((base + i))"; done
    console 1 "FORM MEMBERS $tenant $1 ${list#,}" || return 1
    for ((i = 2; i <= count; i++)); do console $i "SHOW MEMBERS $tenant $1" || return 1; done
}
create() { # safekeeper timeline [tenant]
    console "$1" "CREATE TIMELINE ${3:-$tenant} $2 START $start PREV $prev SYSID $sysid PGVERSION 150020 SEGMENT 16777216"
}
words_for() { # mode timeline options...: sets words, the command
    words=("$build/bin/sk_proposer" "$1" --store "$dir/store" --kms "file:$dir/cmk.key" --cluster "$cluster" --tenant "$tenant"
        --timeline "$2" --sysid "$sysid" --start "$start" --truth "$dir/truth.$2" --journal "$dir/journal.$2" "${@:3}")
}
proposer() { local words; words_for "$@"; "${words[@]}"; }
behind() { # output mode timeline options...: the same in the background, its pid in running
    local words output=$1; shift
    words_for "$@"
    "${words[@]}" >"$output" 2>&1 &
    running=$!
    pid[proposer$running]=$running
}
join() { # pid: its exit code
    local code=0
    wait "$1" || code=$?
    unset "pid[proposer$1]"
    return $code
}
end_load() { kill "$1" 2>/dev/null; join "$1"; } # pid of a run: it tells every member what is committed, and ends well
acknowledged() { local lsn; lsn=$(od -An -tu8 -N8 "$dir/journal.$1" 2>/dev/null | tr -d ' '); echo "${lsn:-0}"; }
beyond() { [ "$(acknowledged "$1")" -gt "$2" ]; } # timeline LSN
goes_on() { wait_for 120 beyond "$1" $(($(acknowledged "$1") + ${2:-0})); } # timeline [bytes]: more is acknowledged from now on
one=(--member "${node[1]}=127.0.0.1:$((base + 1))")
all=()
for ((i = 1; i <= count; i++)); do all+=(--member "${node[i]}=127.0.0.1:$((base + i))"); done
