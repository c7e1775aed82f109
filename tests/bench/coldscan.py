#!/usr/bin/env python3
"""Cold scans side by side in one run: a stock PostgreSQL and a Loch compute read the same table, with nothing in any cache
(the servers are started anew, and the files of both leave the kernel's cache). Prints one JSON object: the median
seconds of each scan on each side, and the ratios to stock's cold scan; and latencies of single rows by key (what pgbench -S
asks), four clients, likewise cold. Not a timed test: quote the ratios.

    tests/bench/coldscan.py [--mb 1024] [--rounds 5] [--port-base 24100] [--settings name=value,...]
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

from common import BIN, BUILD, as_postgres, note, run

SETTINGS = {"shared_buffers": "128MB", "autovacuum": "off", "jit": "off", "max_wal_size": "2GB"}
# Before what is timed, on both sides alike. What is read into memory that was free for two seconds or more costs a virtual
# machine far more than into what was freed just now (it has gone back to the host meanwhile: a stock server's parallel scan
# takes twice the time), and one side's restart is not to be timed by the other's.
REST_S = 6
ROW_BYTES = 134  # about 61 rows a page, as pgbench_accounts
SERIAL = "SET max_parallel_workers_per_gather = 0; "
PARALLEL = ("SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; "
            "SET min_parallel_table_scan_size = 0; ")
RANGE = SERIAL + "SET enable_seqscan = off; SET enable_bitmapscan = off; "
SCANS = {"serial": SERIAL + "SELECT sum(v) FROM t", "parallel": PARALLEL + "SELECT sum(v) FROM t",
         "index_range": RANGE + "SELECT sum(v) FROM t WHERE id BETWEEN 1 AND (SELECT {rows} / 8)"}


def sql(url, text):
    return run(["psql", url, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", text]).strip()


def uncache(folder):
    """Every file below leaves the kernel's cache."""
    for path in folder.glob("**/*"):
        if path.is_file() and not path.is_symlink():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def load(url, rows):
    sql(url, "CREATE TABLE t (id int, v int, filler char(84) DEFAULT '')")
    step = max(rows // 8, 1)
    for first in range(0, rows, step):
        sql(url, f"INSERT INTO t SELECT g, g % 1000 FROM generate_series({first + 1}, {min(first + step, rows)}) g")
    sql(url, "VACUUM (FREEZE, ANALYZE) t")
    sql(url, "ALTER TABLE t ADD PRIMARY KEY (id)")
    sql(url, "CHECKPOINT")


class Stock:
    def __init__(self, work, port):
        self.dir, self.proc = work / "stock", None
        self.dir.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.dir, "postgres", "postgres")
        run(as_postgres([BIN / "initdb", "-D", self.dir / "data", "-A", "trust", "-U", "postgres", "--locale=C",
                         "--encoding=UTF8"]))
        self.port, self.url = port, f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def start(self):
        options = [w for k, v in SETTINGS.items() for w in ("-c", f"{k}={v}")]
        with open(self.dir / "log", "a", encoding="utf8") as log:
            self.proc = subprocess.Popen(as_postgres([
                BIN / "postgres", "-D", self.dir / "data", "-p", self.port, "-c", "unix_socket_directories=",
                "-c", "listen_addresses=127.0.0.1", *options]), stdout=log, stderr=log)
        while subprocess.run([BIN / "pg_isready", "-q", "-d", self.url], check=False).returncode != 0:
            time.sleep(0.1)

    def stop(self):
        self.proc.send_signal(signal.SIGINT)
        self.proc.wait(120)

    def make_cold(self, _cache_mb):
        self.stop()
        uncache(self.dir / "data")
        self.start()


class Loch:
    def __init__(self, work, port, more):
        self.dir, self.port, self.more, self.url = work / "loch", port, more, None

    def loch(self, *words):
        return run([BUILD / "bin" / "loch", *words, "--dir", self.dir, "--port-base", self.port])

    def start_compute(self, cache_mb):
        settings = [f"{k}={v}" for k, v in SETTINGS.items()] + [f"loch.cache_size={cache_mb}MB"]
        self.loch("compute", "start", "main", "--set", ",".join(settings + self.more))
        self.url = json.loads(self.loch("compute", "list", "--json"))[0]["url"]

    def start(self):
        self.loch("up")
        self.loch("compute", "stop", "main")
        self.start_compute(0)

    def stop(self):
        self.loch("down", "--wipe")

    def make_cold(self, cache_mb):
        """The pageserver anew too; it is back where it was when the last WAL is in it."""
        self.loch("compute", "stop", "main")
        pid = json.loads((self.dir / "run" / "pageserver.json").read_text())["pid"]
        os.kill(pid, signal.SIGTERM)
        while pathlib.Path(f"/proc/{pid}").exists() and "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text():
            time.sleep(0.05)
        uncache(self.dir)
        self.loch("up")
        try:
            self.loch("compute", "stop", "main")
        except subprocess.CalledProcessError:
            pass
        self.start_compute(cache_mb)
        sql(self.url, "SELECT count(*) FROM pg_class")


def timed(url, text):
    begun = time.monotonic()
    answer = sql(url, text)
    return time.monotonic() - begun, answer


def points(url, rows):
    """p50 and p99, in ms, of 4000 single rows at random."""
    with tempfile.TemporaryDirectory(prefix="loch-bench.") as folder:
        script = pathlib.Path(folder) / "point.sql"
        script.write_text(f"\\set id random(1, {rows})\nSELECT v FROM t WHERE id = :id;\n")
        run([BIN / "pgbench", "-n", "-M", "prepared", "-c", 4, "-j", 2, "-t", 1000, "-f", script, "-l",
             "--log-prefix", pathlib.Path(folder) / "log", url])
        logs = [log.read_text() for log in pathlib.Path(folder).glob("log.*")]
    us = sorted(int(line.split()[2]) for log in logs for line in log.splitlines())
    return us[len(us) // 2] / 1000, us[len(us) * 99 // 100] / 1000


def rest_cold(side, cache_mb):
    side.make_cold(cache_mb)
    time.sleep(REST_S)


def measure(side, rows, cache_mb):
    out = {}
    for name, text in SCANS.items():
        rest_cold(side, 0)
        out[name], out["answer_" + name] = timed(side.url, text.format(rows=rows))
    rest_cold(side, 0)
    out["point_p50_ms"], out["point_p99_ms"] = points(side.url, rows)
    if cache_mb > 0:
        rest_cold(side, cache_mb)
        out["filling_the_cache"], _ = timed(side.url, SCANS["serial"])
        out["warm_cache"], _ = timed(side.url, SCANS["serial"])
        out["warm_cache_parallel"], _ = timed(side.url, SCANS["parallel"])
    return out


def ratios(stock, loch):
    base = {"filling_the_cache": "serial", "warm_cache": "serial", "warm_cache_parallel": "parallel"}
    return {k: round(v / stock[base.get(k, k)], 2) for k, v in loch.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("mb", 1024), ("rounds", 5), ("port-base", 24100)):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--settings", default="")
    args = p.parse_args()
    rows = args.mb * 1024 * 1024 // ROW_BYTES
    work = pathlib.Path(tempfile.mkdtemp(prefix="loch-bench.", dir="/tmp"))
    os.chmod(work, 0o711)
    sides = [Stock(work, args.port_base + 90), Loch(work, args.port_base, [s for s in args.settings.split(",") if s])]
    rounds = [[], []]
    try:
        for side in sides:
            side.start()
            load(side.url, rows)
            note(f"{type(side).__name__}: loaded {sql(side.url, 'SELECT pg_relation_size($$t$$) >> 20')} MB")
        for n in range(args.rounds):
            for i, side in enumerate(sides):
                rounds[i].append(measure(side, rows, 2 * args.mb if i == 1 else 0))
                note(f"{type(side).__name__}: round {n + 1}: {rounds[i][-1]}")
            for name in SCANS:
                if rounds[0][-1]["answer_" + name] != rounds[1][-1]["answer_" + name]:
                    raise SystemExit(f"{name}: the answers differ")
    finally:
        for side in sides:
            try:
                side.stop()
            except Exception as e:  # the other side's files must go too
                note(f"{type(side).__name__}: {e}")
        shutil.rmtree(work, ignore_errors=True)
    medians = [{k: round(statistics.median(r[k] for r in side), 3) for k in side[0] if not k.startswith("answer")}
               for side in rounds]
    print(json.dumps({"mb": args.mb, "rounds": args.rounds, "stock": medians[0], "loch": medians[1],
                      "ratio_to_stock_cold": ratios(*medians)}, indent=2))


if __name__ == "__main__":
    main()
