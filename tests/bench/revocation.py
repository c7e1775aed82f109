#!/usr/bin/env python3
"""How long a revoked tenant is still served: rounds of taking its CMK away under load on established connections.

    revocation.py [--rounds 50] [--port-base N] [--poll 1s --lease 3s]

Each round: pgbench on the tenant (reads and writes), the CMK file is moved away, all daemons must say revoked and wiped,
the compute's files must be gone; then the CMK comes back and so must the compute, by itself. Measured per round: the last
answer that any connection got after the first denial that any daemon saw (negative: before), the time from the denial
until the last daemon had wiped, and from giving the CMK back until the first query. Another tenant runs pgbench
all the while, and a baseline before. Prints one JSON object.
"""
import argparse
import datetime
import glob
import json
import os
import shutil
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOCH = os.path.join(os.environ.get("LOCH_BUILD", ROOT + "/build"), "bin/loch")


def loch(*words):
    return subprocess.run([LOCH, *words], check=True, capture_output=True, text=True).stdout


def compute(name):
    return next(c for c in json.loads(loch("compute", "list", "--json")) if c["name"] == name)


def wait_for(what, condition, seconds=60):
    until = time.time() + seconds
    while not condition():
        if time.time() > until:
            raise SystemExit(f"timed out: {what}")
        time.sleep(0.02)


def ms(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000


def leases():
    return json.loads(loch("key", "status", "--tenant", "ours", "--json"))


def all_are(state):
    rows = leases()
    return len(rows) == 4 and all(r["state"] == state and (state == "held" or r["wiped_at"]) for r in rows)


def pgbench(url, work, prefix, seconds):
    script = os.path.join(work, "script.sql")
    with open(script, "w") as f:
        f.write("\\set i random(1, 1000)\nSELECT count(*) FROM b WHERE g < :i;\nUPDATE b SET n = n + 1 WHERE g = :i;\n")
    return subprocess.Popen(["pgbench", "-n", "-c", "4", "-j", "1", "-T", str(seconds), "-l",
                             "--log-prefix", os.path.join(work, prefix), "-f", script, url],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def last_answer(work, prefix):
    last = 0.0
    for path in glob.glob(os.path.join(work, prefix + ".*")):
        for line in open(path):
            fields = line.split()
            last = max(last, int(fields[4]) * 1000 + int(fields[5]) / 1000)
    return last


def prepare(url):
    subprocess.run(["psql", url, "-Xqc", "CREATE TABLE b AS SELECT g, 0 AS n FROM generate_series(1, 1000) g"], check=True)


def answers(url):
    return subprocess.run(["psql", url, "-XAtqc", "SELECT 1"], capture_output=True, text=True).stdout.strip() == "1"


def one_round(n, work, cmk):
    prefix = f"round{n}"
    url = compute("ours")["url"]
    load = pgbench(url, work, prefix, 300)
    active = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench' AND query LIKE 'UPDATE%'"

    def loaded():
        nonlocal load
        if load.poll() is not None:  # a machine that stood still for a lease: the compute was started anew
            load = pgbench(url, work, prefix, 300)
        return int(subprocess.run(["psql", url, "-XAtqc", active], capture_output=True, text=True).stdout or 0) >= 1

    wait_for("load", loaded)
    taken = time.time() * 1000
    os.rename(cmk, cmk + ".away")
    wait_for("revoked", lambda: all_are("revoked"))
    wait_for("compute", lambda: compute("ours")["state"] == "revoked")
    load.wait()
    rows = leases()
    denied = min(ms(r["since"]) for r in rows)
    wiped = max(ms(r["wiped_at"]) for r in rows)
    os.rename(cmk + ".away", cmk)
    given = time.time()
    wait_for("back", lambda: compute("ours")["state"] == "running" and answers(url))
    return {"late_ms": last_answer(work, prefix) - denied, "after_taken_ms": last_answer(work, prefix) - taken,
            "wiped_ms": wiped - denied, "back_ms": (time.time() - given) * 1000}


def percentiles(values):
    v = sorted(values)
    return {"p50": round(v[len(v) // 2], 1), "p99": round(v[min(len(v) - 1, int(len(v) * 0.99))], 1), "max": round(v[-1], 1)}


def tps(text):
    return float(next(line for line in text.splitlines() if line.startswith("tps")).split()[2])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=50)
    p.add_argument("--port-base", default="23100")
    p.add_argument("--poll", default="1s")
    p.add_argument("--lease", default="3s")
    o = p.parse_args()
    work = tempfile.mkdtemp(prefix="loch-bench.", dir="/tmp")
    os.chmod(work, 0o711)
    os.environ.update(LOCH_DIR=work + "/cluster", LOCH_KMS_POLL=o.poll, LOCH_KMS_LEASE=o.lease, LOCH_KMS_SETTLE="500ms")
    cmk = work + "/ours.key"
    with open(cmk, "wb") as f:
        f.write(os.urandom(32))
    os.chmod(cmk, 0o600)
    try:
        loch("up", "--port-base", o.port_base)
        loch("tenant", "create", "ours", "--kms-uri", "file:" + cmk)
        loch("compute", "start", "ours", "--tenant", "ours")
        for name in ("ours", "main"):
            prepare(compute(name)["url"])
        busy = pgbench(compute("ours")["url"], work, "both", 20)
        before = tps(pgbench(compute("main")["url"], work, "before", 20).communicate()[0])
        busy.wait()
        other = pgbench(compute("main")["url"], work, "other", 3600)
        rounds = [one_round(n, work, cmk) for n in range(o.rounds)]
        other.terminate()
        seconds = last = 0
        for path in glob.glob(work + "/other.*"):
            times = [int(line.split()[4]) for line in open(path) if len(line.split()) == 6]
            seconds, last = times[-1] - times[0], len(times)
        print(json.dumps({"rounds": o.rounds, "poll": o.poll, "lease": o.lease,
                          **{k: percentiles([r[k] for r in rounds]) for k in rounds[0]},
                          "other_tps_beside_load": round(before, 1),
                          "other_tps_during_rounds": round(last / max(seconds, 1), 1)}, indent=1))
    finally:
        subprocess.run([LOCH, "down", "--immediate", "--wipe"], capture_output=True)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
