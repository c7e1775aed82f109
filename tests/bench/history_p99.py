#!/usr/bin/env python3
"""GetPage under a running update load, from the first of the history to the last: does what is kept make reads slower?
Progress on standard error; one JSON object on the last line of standard output.

    tests/bench/history_p99.py [--seconds 900] [--tps 400] [--scale 20] [--clients 4] [--rate 1000] [--sample 5]
                               [--port-base 24100] [--dir DIR]

pgbench updates at a fixed rate (simple-update, random accounts; 900 s at 400/s are as many as an hour at 100/s). Meanwhile
loch-bench reads random pages of pgbench_accounts at the tip at another fixed rate (open loop: a late answer counts from
when it was due), a sample after the other; each sees nothing in the pageserver's page cache but what it has read itself.
`last_to_first`: the median p99 of the samples of the last fifth over that of the first fifth. Beside it what a read had to
apply, and what the pageserver holds. Exit 1 when pgbench could not keep its rate (its last line says so) or a read failed.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from common import BUILD, Cluster, note, run

SETTINGS = {"shared_buffers": "64MB", "autovacuum": "on", "checkpoint_timeout": "30s"}


def sample(cluster, relation, o):
    before = cluster.metrics("pageserver")
    got = json.loads(run([BUILD / "bin" / "loch-bench", "getpage", "--dir", cluster.dir, "--relation", relation, "--no-echo",
                          "--rate", o.rate, "--seconds", o.sample, "--json"]))["getpage"]
    after = cluster.metrics("pageserver")
    return {"p50_us": got["latency_us"]["p50"], "p99_us": got["latency_us"]["p99"], "reads": got["answers"],
            "records_a_read": round((after["loch_pageserver_read_records"] - before["loch_pageserver_read_records"]) /
                                    max(got["answers"], 1), 2),
            "most_records": after["loch_pageserver_read_records_most"], "layers": after["loch_pageserver_layers"],
            "layer_mb": round(after["loch_pageserver_layer_file_bytes"] / 1e6)}


def measure(cluster, o):
    run(["pgbench", "-i", "-q", "-s", o.scale, cluster.url])
    relation = run(["psql", cluster.url, "-XAtqc", "SELECT pg_relation_filepath('pgbench_accounts')"]).strip()
    load = subprocess.Popen([str(w) for w in ("pgbench", "-n", "-N", "-c", o.clients, "-j", 1, "-R", o.tps, "-T", o.seconds,
                                              cluster.url)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    begun, samples = time.monotonic(), []
    while time.monotonic() + o.sample < begun + o.seconds:
        row = {"at_s": round(time.monotonic() - begun), **sample(cluster, relation, o)}
        samples.append(row)
        note(str(row))
    said = load.communicate()[0]
    if load.returncode != 0:
        raise SystemExit(said)
    return samples, float(re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)[1])


def fifth(samples, o, which):
    own = [s for s in samples if which * o.seconds / 5 <= s["at_s"] < (which + 1) * o.seconds / 5]
    return {key: statistics.median(s[key] for s in own) for key in own[0] if key != "at_s"}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("seconds", 900), ("tps", 400), ("scale", 20), ("clients", 4), ("rate", 1000), ("sample", 5),
                        ("port-base", 24100)):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--dir", default="/tmp")
    o = p.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="loch-bench.", dir=o.dir))
    os.chmod(work, 0o711)
    cluster = Cluster(work / "loch", o.port_base)
    try:
        cluster.start(SETTINGS)
        samples, tps = measure(cluster, o)
    finally:
        cluster.stop()
        shutil.rmtree(work, ignore_errors=True)
    first, last = fifth(samples, o, 0), fifth(samples, o, 4)
    print(json.dumps({"what": "history_p99", "seconds": o.seconds, "tps": tps, "rate": o.rate, "first_fifth": first,
                      "last_fifth": last, "last_to_first": round(last["p99_us"] / first["p99_us"], 3)}))
    return 0 if tps > 0.9 * o.tps else 1


if __name__ == "__main__":
    raise SystemExit(main())
