#!/usr/bin/env python3
"""What encryption costs: a build as it is beside one with LOCH_NULL_CIPHER (nothing encrypted, at rest or on the wire).

usage: cipher.py prepare|measure|refuse|stop DIR BUILD BUILD_NULL [ROUNDS [SECONDS]]

prepare   two clusters of their own below DIR, one of each build, with the same data
measure   rounds, both builds one after the other in each: GetPage (loch-bench, pages from the pageserver's cache, and
          with its caches too small for anything: every read opens a layer's frame), the same pages read by a query (a
          sequential scan by a compute that has no room for them) and commits (pgbench -N, 4 clients). And the system as
          a whole: pgbench, 8 clients, transactions (tpcb-like), and selects by that compute, most of whose pages come
          from the pageserver; with the CPU that all of a cluster's processes take for each. What it costs is the median over
          the rounds of one build beside the other (which is first changes from round to round); JSON on the last line
refuse    each build's pageserver is started on the other's data and has to serve none of it; its own serves it again
stop      both are gone

A build without cipher: cmake -S . -B build-null -G Ninja -DLOCH_NULL_CIPHER=ON
"""
import json
import os
import pathlib
import re
import select
import signal
import statistics
import subprocess
import sys
import time

from common import cpu_seconds

COMMAND, DIR, *BUILDS = sys.argv[1:5]
ROUNDS = int(sys.argv[5]) if len(sys.argv) > 5 else 5
SECONDS = sys.argv[6] if len(sys.argv) > 6 else "5"
BASE = int(os.environ.get("LOCH_TEST_PORT_BASE", "22000"))
# name: build, environment of its daemons
CLUSTERS = {
    "cipher": (BUILDS[0], {}),
    "null": (BUILDS[1], {}),
    "cipher-cold": (BUILDS[0], {"LOCH_PAGESERVER_PAGE_CACHE": "1MiB", "LOCH_PAGESERVER_FRAME_CACHE": "1MiB"}),
    "null-cold": (BUILDS[1], {"LOCH_PAGESERVER_PAGE_CACHE": "1MiB", "LOCH_PAGESERVER_FRAME_CACHE": "1MiB"}),
}


def run(name, *args, program="loch"):
    build, env = CLUSTERS[name]
    env = {**os.environ, **env, "LOCH_DIR": os.path.join(DIR, name)}
    path = program if "/" in program else os.path.join(build, "bin", program)
    return subprocess.run([path, *args], env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def url(name):
    return json.loads(run(name, "compute", "list", "--json"))[0]["url"]


def sql(name, text):
    return subprocess.run(["psql", url(name), "-XAtq", "-c", text], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def prepare():
    os.makedirs(DIR, mode=0o711, exist_ok=True)
    for i, name in enumerate(CLUSTERS):
        run(name, "up", "--port-base", str(BASE + 40 * i))
        sql(name, "CREATE TABLE t AS SELECT g AS n, md5(g::text) || repeat(md5((g * 7)::text), 25) AS pad FROM generate_series(1, 60000) g")
        subprocess.run(["pgbench", "-i", "-q", "-s", "5", url(name)], check=True, stderr=subprocess.DEVNULL)
        tenant = json.loads(run(name, "branch", "list", "--json"))[0]
        subprocess.run(["psql", f"host={DIR}/{name}/run port={BASE + 40 * i + 10} dbname=loch user=loch", "-Xq", "-c",
                        f"FLUSH {tenant['tenant']} {tenant['timeline']}"], check=True, stdout=subprocess.DEVNULL)
        if name.endswith("-cold"):
            run(name, "compute", "stop", "main")
            run(name, "compute", "start", "main", "--set", "shared_buffers=1MB,loch.cache_size=0,autovacuum=off")
            sql(name, "VACUUM t")  # no scan writes hint bits


def getpage(name):
    out = json.loads(run(name, "getpage", "--relation", sql(name, "SELECT pg_relation_filepath('t')"), "--seconds", SECONDS,
                         "--connections", "4", "--no-echo", "--json", program="loch-bench"))
    return out["getpage"]["per_second"]


def scanned(name):
    """Pages a second."""
    query = "SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM t; "
    begun = time.monotonic()
    sql(name, query * 5)
    return 5 * int(sql(name, "SELECT pg_relation_size('t') / 8192")) / (time.monotonic() - begun)


def pgbench(name, *args):
    return subprocess.run(["pgbench", "-n", "-T", SECONDS, *args, url(name)], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True).stdout


def commits(name):
    return float(re.search(r"latency average = ([0-9.]+) ms", pgbench(name, "-N", "-c", "4", "-j", "1"))[1])


def cpu(name):
    """Seconds, of all its processes."""
    return cpu_seconds(json.loads(p.read_text())["pid"] for p in (pathlib.Path(DIR) / name / "run").glob("*.json"))


def whole(name, script):
    """Transactions a second, and CPU milliseconds of each."""
    before = cpu(name)
    said = pgbench(name, "-b", script, "-c", "8", "-j", "2")
    done = int(re.search(r"transactions actually processed: ([0-9]+)", said)[1])
    return float(re.search(r"tps = ([0-9.]+)", said)[1]), (cpu(name) - before) * 1000 / done


def measure_one(build):
    transactions, transaction_cpu = whole(build, "tpcb-like")
    selects, select_cpu = whole(build + "-cold", "select-only")
    return {"getpage_per_second": getpage(build), "getpage_cold_per_second": getpage(build + "-cold"),
            "pages_scanned_per_second": scanned(build + "-cold"), "commit_latency_ms": commits(build),
            "transactions_per_second": transactions, "transaction_cpu_ms": transaction_cpu,
            "cold_selects_per_second": selects, "cold_select_cpu_ms": select_cpu}


def measure():
    rounds = []
    for i in range(ROUNDS):
        order = ("cipher", "null") if i % 2 == 0 else ("null", "cipher")
        rounds.append({build: measure_one(build) for build in order})
    result = {}
    for what in rounds[0]["cipher"]:
        costs = [r["null"][what] / r["cipher"][what] if what.endswith("second") else r["cipher"][what] / r["null"][what] for r in rounds]
        cipher, null = (statistics.median(r[b][what] for r in rounds) for b in ("cipher", "null"))
        percent = round(100 * (statistics.median(costs) - 1), 1)
        result[what] = {"cipher": cipher, "null": null, "cost_percent": percent, "rounds_percent": [round(100 * (c - 1), 1) for c in costs]}
        print(f"{what}: {cipher:.3f} with, {null:.3f} without: costs {percent} %")
    print(json.dumps(result))


def end_pageserver(name):
    """Not `loch down`: that takes away the libraries that every build's pageserver loads."""
    with open(os.path.join(DIR, name, "run", "pageserver.json")) as f:
        pid = json.load(f)["pid"]
    ended = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    if not select.select([ended], [], [], 60)[0]:
        raise SystemExit(f"the pageserver of {name} does not end")
    os.close(ended)


def refuse():
    for name, other in (("cipher", "null"), ("null", "cipher")):
        run(name, "compute", "stop", "main")
        end_pageserver(name)
        started = subprocess.Popen([os.path.join(CLUSTERS[other][0], "bin", "loch-pageserver"), "--config",
                                    os.path.join(DIR, name, "conf", "pageserver.ini")], stderr=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL, text=True)
        said = ""
        for line in started.stderr:
            said += line
            if "is not served" in line or "cannot start" in line:
                break
        started.kill()
        started.wait()
        refusal = [line for line in said.splitlines() if "is not served" in line]
        assert refusal, f"{other} on the data of {name}: {said}"
        print(f"{other} on the data of {name}: {refusal[0]}")
        run(name, "up")
        run(name, "compute", "start", "main")
        assert sql(name, "SELECT count(*) FROM t") == "60000", f"{name} is not as it was"


def stop():
    for name in CLUSTERS:
        subprocess.run([os.path.join(CLUSTERS[name][0], "bin", "loch"), "down", "--immediate", "--wipe", "--dir",
                        os.path.join(DIR, name)], check=False, stdout=subprocess.DEVNULL)


{"prepare": prepare, "measure": measure, "refuse": refuse, "stop": stop}[COMMAND]()
