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
    for _ in $(seq 400); do console "$1" "SHOW STATUS" >/dev/null 2>&1 && return 0; sleep 0.05; done
    bad "safekeeper $1 did not come up"; tail -5 "$dir/sk$1.log"; return 1
}
state_of() { console "$1" "SHOW TIMELINES" 2>/dev/null | awk -F'|' -v t="$2" '$2 == t {print $3}'; }
wait_open() { # safekeeper, timeline: until it is not opening any more
    local state
    for _ in $(seq 1000); do
        state=$(state_of "$1" "$2")
        [ -n "$state" ] && [ "$state" != opening ] && return 0; sleep 0.05
    done
    bad "timeline $2 of safekeeper $1 is '$state'"
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
proposer() { # mode timeline options...
    local mode=$1 tl=$2; shift 2
    "$build/bin/sk_proposer" "$mode" --store "$dir/store" --kms "file:$dir/cmk.key" --cluster "$cluster" --tenant "$tenant" \
        --timeline "$tl" --sysid "$sysid" --start "$start" --truth "$dir/truth.$tl" --journal "$dir/journal.$tl" "$@"
}
one=(--member "${node[1]}=127.0.0.1:$((base + 1))")
all=()
for ((i = 1; i <= count; i++)); do all+=(--member "${node[i]}=127.0.0.1:$((base + i))"); done
