#!/usr/bin/env python3
"""Warm starts: transactions per second before a stop, and after the start, with the hot pages prewarmed and without, in turn
on one cluster. Prints one JSON object; `warm_ratio` is what the compute has reached five seconds after its start, relative to
before its stop. Not a timed test: figures of a shared machine are quoted as ratios.

    tests/bench/warmstart.py [--scale 30] [--clients 4] [--warmup 20] [--rounds 3] [--port-base 24100] [--write]
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

from common import BUILD, note


def run(argv):
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True, text=True)


class Cluster:
    def __init__(self, work, args):
        self.dir, self.args, self.url = work / "loch", args, ""

    def loch(self, *words):
        return run([BUILD / "bin" / "loch", *words, "--dir", self.dir, "--port-base", self.args.port_base]).stdout

    def start(self, prewarm):
        """Seconds that the start took."""
        begun = time.monotonic()
        self.loch("compute", "start", "main", "--set", f"shared_buffers=32MB,autovacuum=off,loch.prewarm={prewarm}")
        self.url = json.loads(self.loch("compute", "list", "--json"))[0]["url"]
        return time.monotonic() - begun

    def tps(self, seconds):
        """Of each second."""
        mode = [] if self.args.write else ["-S"]
        out = run(["pgbench", "-n", *mode, "-c", self.args.clients, "-j", 2, "-P", 1, "-T", seconds, self.url]).stderr
        return [float(x) for x in re.findall(r"progress: [\d.]+ s, ([\d.]+) tps", out)]


def one_round(c, args, prewarm):
    c.start("on")
    before = statistics.median(c.tps(args.warmup)[-5:])
    # The list is made when the prewarming of the last start is over and the server stops.
    c.loch("compute", "stop", "main")
    took = c.start("on" if prewarm else "off")
    after = c.tps(9)
    c.loch("compute", "stop", "main")
    got = {"before_tps": before, "first_second_tps": after[0], "after_5s_tps": statistics.median(after[5:8]),
           "start_s": round(took, 2)}
    got["ratio"] = round(got["after_5s_tps"] / before, 3)
    got["first_second_ratio"] = round(after[0] / before, 3)
    note(f"{'with' if prewarm else 'without'} prewarm: {got}")
    return got


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("scale", 30), ("clients", 4), ("warmup", 20), ("rounds", 3), ("port-base", 24100)):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--write", action="store_true", help="TPC-B instead of -S")
    args = p.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="loch-bench.", dir="/tmp"))
    os.chmod(work, 0o711)
    c = Cluster(work, args)
    try:
        c.loch("up")
        c.loch("compute", "stop", "main")
        c.start("on")
        note(f"loading scale {args.scale}")
        run(["pgbench", "-i", "-q", "-s", args.scale, c.url])
        c.loch("compute", "stop", "main")
        rounds = [(one_round(c, args, True), one_round(c, args, False)) for _ in range(args.rounds)]
    finally:
        subprocess.run([BUILD / "bin" / "loch", "down", "--immediate", "--wipe", "--dir", c.dir], check=False, capture_output=True)
        shutil.rmtree(work, ignore_errors=True)

    def median(i, key):
        return statistics.median(r[i][key] for r in rounds)
    print(json.dumps({"scale": args.scale, "clients": args.clients, "rounds": args.rounds, "workload": "tpcb" if args.write else "select",
                      "warm_ratio": median(0, "ratio"), "cold_ratio": median(1, "ratio"),
                      "warm_first_second_ratio": median(0, "first_second_ratio"),
                      "cold_first_second_ratio": median(1, "first_second_ratio"),
                      "warm": [r[0] for r in rounds], "cold": [r[1] for r in rounds]}, indent=2))


if __name__ == "__main__":
    main()
