#!/usr/bin/env bash
# loch-bench measures what it says: every block of the relation is asked for, nothing fails, the rate of the open loop is
# kept, and nothing of it is left behind.
. "$(dirname "$0")/lib.sh"
BENCH=$BUILD/bin/loch-bench

up
q "CREATE TABLE t AS SELECT g AS n, repeat('x', 900) AS pad FROM generate_series(1, 8000) g"
relation=$(q "SELECT pg_relation_filepath('t')")
check() { # EXPRESSION ARGS...
    local expression=$1
    shift
    "$BENCH" "$@" --relation "$relation" --json >"$WORK/result" || fail "loch-bench $*"
    python3 - "$WORK/result" "$expression" <<'PY' || fail "$* does not hold: $expression"
import json, sys
r = json.load(open(sys.argv[1]))
m, echo = r[r["mode"]], r.get("echo")
print({k: m[k] for k in ("answers", "per_second", "server_cpu_us_per_answer")}, r.get("per_core_ratio"))
assert m["errors"] == 0 and m["answers"] > 0 and m["latency_us"]["p50"] <= m["latency_us"]["p99"] <= m["latency_us"]["max"]
assert eval(sys.argv[2]), r
PY
}
check 'r["blocks"] >= 1000 and echo["answers"] > 0 and r["per_core_ratio"] > 0' getpage --seconds 1 --connections 2
check 'm["answers"] >= r["blocks"] and echo is None' scan --seconds 1 --no-echo
check 'm["answers"] + m["late"] == 200 and m["late"] < 50' getpage --seconds 2 --rate 100 --no-echo
"$BENCH" getpage --relation base/5/4294967 --no-echo 2>"$WORK/err" && fail "a relation that is not there"
grep -q "is empty or not in branch" "$WORK/err" || fail "says: $(cat "$WORK/err")"
"$BENCH" getpage --relation ../x 2>"$WORK/err" && fail "no relation"
grep -q "pg_relation_filepath" "$WORK/err" || fail "says: $(cat "$WORK/err")"
# ingest: its own branch and compute; the open loop keeps its rate, the lag is that of the pageserver.
ingests() { # EXPRESSION ARGS...
    local expression=$1
    shift
    "$BENCH" ingest "$@" --json >"$WORK/result" || fail "loch-bench ingest $*"
    python3 - "$WORK/result" "$expression" <<'PY' || fail "ingest $* does not hold: $expression"
import json, sys
r = json.load(open(sys.argv[1]))
m = r["ingest"]
print({k: m[k] for k in ("commits", "per_second", "mib_per_second", "server_cpu_ms_per_mib")}, m["lag_us"]["p50"], m["lag_us"]["max"])
for h in (m["latency_us"], m["lag_us"]):
    assert 0 < h["p50"] <= h["p99"] <= h["max"]
assert m["ingested_s"] >= m["seconds"] and m["lag_us"]["max"] < m["ingested_s"] * 1e6
assert eval(sys.argv[2]), r
PY
}
ingests 'm["commits"] > 20 and m["wal_bytes"] > m["commits"] * 100 and m["late"] == 0' --seconds 2 --connections 2
ingests 'm["commits"] > 2 and m["wal_bytes"] > m["commits"] * 100000' --seconds 2 --load rows
ingests 'm["commits"] + m["late"] == 60 and m["late"] < 20' --seconds 2 --rate 30 --connections 3
"$BENCH" ingest --load nothing 2>"$WORK/err" && fail "a load that is none"
grep -q "updates or rows" "$WORK/err" || fail "says: $(cat "$WORK/err")"
"$BENCH" ingest --branch nowhere 2>"$WORK/err" && fail "a branch that is none"
grep -q nowhere "$WORK/err" || fail "says: $(cat "$WORK/err")"
[ "$("$LOCH" compute list --json | grep -c '"name"')" = 1 ] || fail "a compute is left"

[ "$("$LOCH" branch list --json | grep -c '"name"')" = 1 ] || fail "a branch is left"
[ "$(q 'SELECT count(*) FROM t')" = 8000 ] || fail "the compute was disturbed"
note "passed"
