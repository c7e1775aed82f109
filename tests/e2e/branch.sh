#!/usr/bin/env bash
# A branch at an LSN shows exactly that LSN's rows; both sides diverge; its creation copies nothing.
. "$(dirname "$0")/lib.sh"

up
"$LOCH" compute stop main >/dev/null
"$LOCH" compute start main --set max_prepared_transactions=5 >/dev/null || fail "compute start"
q "CREATE TABLE t AS SELECT g AS n, repeat('v', 200) AS pad FROM generate_series(1, 20000) g"
q "ALTER TABLE t ADD PRIMARY KEY (n)"
# Prepared in the parent, which alone will end it: rolled back in every branch, whose compute allows none at all.
q "CREATE TABLE p (n int)"
q "BEGIN; INSERT INTO p VALUES (1); PREPARE TRANSACTION 'parent'"
at=$(q "SELECT pg_current_wal_insert_lsn()")
q "INSERT INTO t SELECT g, 'late' FROM generate_series(20001, 20100) g; DELETE FROM t WHERE n <= 50"
sum_late=$(q "SELECT count(*), sum(n) FROM t")
size() { { du -sb --apparent-size "$DIR/store" "$DIR/pageserver" 2>/dev/null || true; } | awk '{s += $1} END {print s}'; } # a .tmp may go meanwhile
before=$(size)
"$LOCH" branch create old --at "$at" >/dev/null || fail "branch create"
grown=$(($(size) - before))
note "branch creation wrote $grown bytes"
[ "$grown" -lt 65536 ] || fail "that is not a branch without a copy"
"$LOCH" compute start old --branch old >/dev/null || fail "compute on the branch"
[ "$(q 'SELECT count(*), min(n), max(n) FROM t' old)" = "20000|1|20000" ] || fail "rows on the branch: $(q 'SELECT count(*), min(n), max(n) FROM t' old)"
[ "$(q 'SELECT count(*) FROM pg_prepared_xacts' old)" = 0 ] || fail "a parent's prepared transaction in a branch"
q "TRUNCATE p" old
q "INSERT INTO p VALUES (2)" old
q "COMMIT PREPARED 'parent'"
[ "$(q 'SELECT sum(n) FROM p')$(q 'SELECT sum(n) FROM p' old)" = 12 ] || fail "prepared in the parent, rolled back in the branch"
q "UPDATE t SET pad = 'branch' WHERE n % 2 = 0; INSERT INTO t VALUES (-1, 'branch')" old
[ "$(q "SELECT count(*), sum(n) FROM t")" = "$sum_late" ] || fail "the parent sees the branch"
q "INSERT INTO t VALUES (-2, 'parent')"
[ "$(q "SELECT count(*) FROM t WHERE n = -2" old)" = 0 ] || fail "the branch sees the parent"
"$LOCH" branch create tip >/dev/null || fail "branch at the tip"
"$LOCH" compute start tip --branch tip >/dev/null || fail "compute on the tip branch"
[ "$(q "SELECT count(*) FROM t WHERE n = -2" tip)" = 1 ] || fail "the tip branch lacks an acknowledged row"
amcheck old
destroy_compute old
"$LOCH" compute start old >/dev/null || fail "rebirth of the branch's compute"
[ "$(q "SELECT count(*) FROM t WHERE pad = 'branch'" old)" = 10001 ] || fail "the branch lost rows"
"$LOCH" branch delete main 2>/dev/null && fail "a branch with children was deleted"
note "passed"
