#!/usr/bin/env bash
# Two sessions change postgresql.auto.conf, the second between the look at the first's file and the reading of it: what goes into
# the WAL is one of the two files, whole, and the next compute begins with it. Needs a build with LOCH_TEST_SWITCHES.
. "$(dirname "$0")/../e2e/lib.sh"

begin() { # SETTINGS
    "$LOCH" compute start main --set "autovacuum=off$1" >"$WORK/begun" 2>&1 || fail "compute start: $(cat "$WORK/begun")"
}
logged() { grep -q "postgresql.auto.conf has changed and is kept" "$log"; }
set_to() { psql "$at" -Xq -c "alter system set log_line_prefix = '$1'" >/dev/null 2>&1; }

up
"$LOCH" compute stop main >/dev/null || fail "compute stop"
begin ,loch.test_config_pause=5000
at=$(url)
log=$(field main pgdata)/../postgres.log
pids=$(compute_pids main)
long=$(printf 'l%.0s' $(seq 500))
! logged || fail "a file has changed before anybody changed one"
set_to '%m short ' &
sleep 1
set_to "%m $long " &
wait_until 120 logged || fail "no file is kept"
sleep 1 # for the quorum; the next look takes longer
# shellcheck disable=SC2086
kill -9 $pids
wait
destroy_compute main
begin ""
got=$(q "show log_line_prefix")
case $got in
"%m short " | "%m $long ") note "ok   kept as '${got:0:20}'" ;;
*) fail "ALTER SYSTEM to a short value, while another set a long one, left '$got'" ;;
esac
note "passed"
