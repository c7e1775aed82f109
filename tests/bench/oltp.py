#!/usr/bin/env python3
"""TPC-B side by side in one run: a stock PostgreSQL with three synchronous pg_receivewal (ANY 2 of 3) against a Loch
cluster, on the same disk, rounds in turn. Prints one JSON object: transactions per second, p99 latency, WAL bytes,
bytes on the loopback and CPU seconds per transaction of each, and their ratios. Not a timed test: figures of a shared
machine are quoted as ratios.

    tests/bench/oltp.py [--scale 60] [--clients 16] [--seconds 60] [--rounds 3] [--warmup 15]
                        [--script tpcb-like|simple-update] [--protocol simple|prepared] [--mbit N]

--mbit: all of it, clients included, in a network namespace of its own whose loopback carries N Mbit/s from the warm-up
on (needs root). link_share says how much of that was used: well below 1, something else was the limit.
"""
import argparse
import json
import os
import pathlib
import pwd
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

from common import BIN, Cluster, as_postgres, cpu_seconds, lsn_number, note, run, sql

SETTINGS = {"shared_buffers": "128MB", "checkpoint_timeout": "30s", "max_connections": "100",
            "autovacuum_naptime": "10s"}
STOCK_PORT = 24001
LOCH_PORT_BASE = 24100


def capped(mbit):
    """Starts this program over in a network namespace; it vanishes with its last process."""
    os.execvp("unshare", ["unshare", "--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh", os.sys.executable,
                          *os.sys.argv, "--capped"])


def cap_link(mbit):
    """From now on; 0: no longer."""
    run(["tc", "qdisc", "replace", "dev", "lo", "root", *(["tbf", "rate", f"{mbit}mbit", "burst", "256kb", "latency",
                                                           "200ms"] if mbit else ["noqueue"])])


def link_bytes():
    return int(pathlib.Path("/proc/net/dev").read_text().split("lo:")[1].split()[8])


class Stock:
    """A stock server with fsync on, and three receivers whose fsync answers commits."""

    def __init__(self, work):
        self.dir, self.procs = work / "stock", []
        self.dir.mkdir()
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.dir, user.pw_uid, user.pw_gid)
        run(as_postgres([BIN / "initdb", "-D", self.dir / "data", "-A", "trust", "-U", "postgres", "--locale=C",
                         "--encoding=UTF8"]))
        self.url = f"postgresql://postgres@127.0.0.1:{STOCK_PORT}/postgres"

    def start(self):
        options = {**SETTINGS, "synchronous_standby_names": "'ANY 2 (r1, r2, r3)'", "unix_socket_directories": "''",
                   "listen_addresses": "'127.0.0.1'", "port": STOCK_PORT, "synchronous_commit": "on"}
        conf = "".join(f"{k} = {v if str(v).startswith(chr(39)) else repr(str(v))}\n" for k, v in options.items())
        with open(self.dir / "data" / "postgresql.auto.conf", "a", encoding="utf8") as f:
            f.write(conf)
        log = open(self.dir / "log", "w", encoding="utf8")
        self.spawn([BIN / "postgres", "-D", self.dir / "data"], log)
        for _ in range(200):
            if subprocess.run([BIN / "pg_isready", "-q", "-d", self.url], check=False).returncode == 0:
                break
            time.sleep(0.1)
        for n in (1, 2, 3):
            (self.dir / f"r{n}").mkdir()
            if os.geteuid() == 0:
                shutil.chown(self.dir / f"r{n}", "postgres", "postgres")
            self.spawn([BIN / "pg_receivewal", "-D", self.dir / f"r{n}", "--synchronous", "-d",
                        f"{self.url.rsplit('/', 1)[0]}/?application_name=r{n}"], log)

    def spawn(self, argv, log):
        self.procs.append(subprocess.Popen(as_postgres(argv), stdout=log, stderr=log))

    def roots(self):
        return [p.pid for p in self.procs]

    def settle(self):
        """Its receivers sync what they have at each commit."""

    def stop(self):
        for p in reversed(self.procs):
            p.send_signal(signal.SIGINT)
        for p in reversed(self.procs):
            p.wait(60)


class Loch(Cluster):
    def __init__(self, work):
        super().__init__(work / "loch", LOCH_PORT_BASE)

    def start(self):
        super().start(SETTINGS)

    def settle(self):
        """Until the pageserver has all of it in layers."""
        lsn = sql(self.url, "SELECT pg_logical_emit_message(true, '', '')")
        while self.branch()["last_record_lsn"] < lsn_number(lsn):
            time.sleep(0.05)
        self.console("FLUSH main main")
        while self.branch()["disk_consistent_lsn"] < lsn_number(lsn):
            time.sleep(0.05)


def wal_bytes(url):
    return int(sql(url, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


def load(side, args, seconds, *more):
    return run(["pgbench", "-n", "-b", args.script, "-M", args.protocol, "-c", args.clients, "-j", 2, "-T", seconds,
                *more, side.url])


def measure(side, args, work):
    """One pgbench run against a running side."""
    logs = pathlib.Path(tempfile.mkdtemp(dir=work))
    cpu, wal, link = cpu_seconds(side.roots()), wal_bytes(side.url), link_bytes()
    out = load(side, args, args.seconds, "-l", "--log-prefix", logs / "l")
    cpu, wal, link = cpu_seconds(side.roots()) - cpu, wal_bytes(side.url) - wal, link_bytes() - link
    latency = sorted(int(line.split()[2]) for f in logs.iterdir() for line in f.open())
    shutil.rmtree(logs)
    tps = float(next(line for line in out.splitlines() if line.startswith("tps")).split()[2])
    return {"tps": round(tps, 1), "p50_ms": latency[len(latency) // 2] / 1000,
            "p99_ms": latency[int(len(latency) * 0.99)] / 1000, "max_ms": latency[-1] / 1000,
            "transactions": len(latency), "wal_bytes_per_tx": round(wal / len(latency)),
            "link_bytes_per_tx": round(link / len(latency)),
            "link_share": round(link * 8e-6 / args.seconds / args.mbit, 3) if args.mbit else None,
            "cpu_ms_per_tx": round(cpu * 1000 / len(latency), 3)}


def settle(side):
    """Nothing of a round is left for the other side's: all that was dirty is written."""
    sql(side.url, "CHECKPOINT")
    side.settle()


def bench(sides, args, work):
    """Both sides run; rounds in turn. The medians of each."""
    rounds = {side: [] for side in sides}
    started = []
    try:
        for side in sides:
            side.start()
            started.append(side)
            note(f"{type(side).__name__}: loading scale {args.scale}")
            run(["pgbench", "-i", "-q", "-s", args.scale, side.url])
            settle(side)
        if args.mbit:
            cap_link(args.mbit)
        for side in sides:
            load(side, args, args.warmup)
            settle(side)
        for n in range(args.rounds):
            for side in sides:
                rounds[side].append(measure(side, args, work))
                note(f"{type(side).__name__}: round {n + 1}: {rounds[side][-1]}")
                settle(side)
    finally:
        if args.mbit:
            cap_link(0)
        for side in started:
            side.stop()
    return [{k: statistics.median(r[k] for r in rows) if rows[0][k] is not None else None for k in rows[0]}
            for rows in rounds.values()]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("scale", 60), ("clients", 16), ("seconds", 60), ("rounds", 3), ("warmup", 15)):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--script", choices=("tpcb-like", "simple-update"), default="tpcb-like")
    p.add_argument("--protocol", choices=("simple", "prepared"), default="simple")
    p.add_argument("--mbit", type=int, default=0)
    p.add_argument("--capped", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.mbit and not args.capped:
        capped(args.mbit)
    work = pathlib.Path(tempfile.mkdtemp(prefix="loch-bench.", dir="/tmp"))
    os.chmod(work, 0o711)
    try:
        stock, loch = bench([Stock(work), Loch(work)], args, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(json.dumps({"scale": args.scale, "clients": args.clients, "seconds": args.seconds, "rounds": args.rounds,
                      "script": args.script, "protocol": args.protocol, "mbit": args.mbit,
                      "stock_quorum": stock, "loch": loch,
                      "tps_ratio": round(loch["tps"] / stock["tps"], 3),
                      "wal_ratio": round(loch["wal_bytes_per_tx"] / stock["wal_bytes_per_tx"], 3),
                      "cpu_ratio": round(loch["cpu_ms_per_tx"] / stock["cpu_ms_per_tx"], 3)}, indent=2))


if __name__ == "__main__":
    main()
