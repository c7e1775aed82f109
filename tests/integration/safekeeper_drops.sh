#!/bin/bash
# Drops that fail and creations that fail: nobody is told that something is gone while it stands there, and nothing that is
# made later falls to what was left.
#
#   usage: tests/integration/safekeeper_drops.sh [BUILD_DIR]    environment: PORT_BASE (21520)
set -u
cd "$(dirname "$0")/../.."
# shellcheck source=tests/integration/lib/safekeepers.sh
. tests/integration/lib/safekeepers.sh drops 1 21520 "${1:-build}"
write_ini 1
state_is() { [ "$(state_of 1 "$timeline")" = "$2" ] && ok "$1: $2" || bad "$1: '$(state_of 1 "$timeline")', not '$2'"; }
empty() { [ -z "$(ls -A "$tl" 2>/dev/null)" ] && ok "$1: no file is left" || bad "$1: $(ls -A "$tl" | tr '\n' ' ')"; }
tl=$dir/sk1/tenants/$tenant/timelines/$timeline

expect "keys are made" proposer setup "$timeline"
up 1; wait_up 1 || exit 1

# ---- a drop that fails, half way: a directory cannot be unlinked ----
expect "the timeline is created" create 1 "$timeline"
expect "and is its own quorum" alone "$timeline"
expect "and is written" proposer run "$timeline" "${one[@]}" --epoch 1 --seconds 120 --commits 100
mkdir "$tl/stuck"
refused "a drop that fails" "stuck" console 1 "DROP TIMELINE $tenant $timeline"
state_is "afterwards" "dropping"
refused "the same again" "stuck" console 1 "DROP TIMELINE $tenant $timeline"
refused "the tenant" "stuck" console 1 "DROP TENANT $tenant"
refused "a creation in its place" "being dropped" create 1 "$timeline"
rmdir "$tl/stuck"
expect "once it can be, it is dropped" console 1 "DROP TIMELINE $tenant $timeline"
state_is "afterwards" ""
empty "the drop"
expect "what is not there is dropped" console 1 "DROP TIMELINE $tenant $timeline"

# ---- a creation that fails behind its control file ----
fail_behind() {
    mkdir -p "$tl"
    echo "an older copy" >"$tl/put-back"
    refused "a creation that fails" "put back" create 1 "$timeline"
}
fail_behind
[ -e "$tl/control" ] || bad "there is no control file: this tests nothing"
state_is "what is left of it" "broken"
refused "the same again" "broken" create 1 "$timeline"
expect "it is dropped" console 1 "DROP TIMELINE $tenant $timeline"
empty "the drop"
fail_behind
rm -r "$tl"
expect "without its directory it is dropped, too" console 1 "DROP TIMELINE $tenant $timeline"
expect "and can be created" create 1 "$timeline"
expect "the tenant is dropped" console 1 "DROP TENANT $tenant"
empty "the drop"

# ---- the mark of a drop that was cut short ----
timeline=$other tl=$dir/sk1/tenants/$tenant/timelines/$other
expect "keys of another timeline are made" proposer setup "$timeline"
mkdir -p "$tl"
echo dropped >"$tl/dropped"
expect "a creation over a drop's mark" create 1 "$timeline"
expect "is its own quorum" alone "$timeline"
expect "and is written" proposer run "$timeline" "${one[@]}" --epoch 1 --seconds 120 --commits 100
halt 1; up 1; wait_up 1; wait_open 1 "$timeline"
state_is "after a restart" "active"
halt 1
echo "failures: $failures"
exit $((failures > 0))
