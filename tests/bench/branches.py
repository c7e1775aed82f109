#!/usr/bin/env python3
"""Branches of one parent, one after the other, asked of the pageserver's console by one session: what each takes there, in
the first and the last hundred, what the pageserver's memory grows by, and how soon computes answer on five more of them.
Prints one JSON object.

    tests/bench/branches.py [--branches 1000] [--mb 100 | --import PGDATA] [--port-base 24100] [--dir DIR]

--mb: what the parent holds (a table of that size is written and is in layers before the first branch).
--import: the parent is a tenant of its own, imported from this cleanly stopped cluster.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

from common import BUILD, note

ROW_BYTES = 1000


class Cluster:
    def __init__(self, folder, port, tenant):
        self.dir, self.port, self.tenant = folder, port, tenant

    def loch(self, *words):
        return subprocess.run([BUILD / "bin" / "loch", *words, "--dir", self.dir, "--port-base", str(self.port)], check=True,
                              capture_output=True, text=True).stdout

    def rows(self, *words):
        return json.loads(self.loch(*words, "--json"))

    def sql(self, text, name="main"):
        url = next(c["url"] for c in self.rows("compute", "list") if c["name"] == name)
        return subprocess.run(["psql", url, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", text], check=True,
                              capture_output=True, text=True).stdout.strip()

    def main_branch(self):
        return next(b for b in self.rows("branch", "list", "--tenant", self.tenant) if b["name"] == "main")

    def pageserver_kb(self):
        pid = json.loads((self.dir / "run" / "pageserver.json").read_text())["pid"]
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def fill(cluster, mb):
    rows = mb * 1048576 // ROW_BYTES
    cluster.sql("CREATE TABLE t (id int, pad text); ALTER TABLE t ALTER pad SET STORAGE PLAIN")
    for first in range(0, rows, 100_000):
        cluster.sql(f"INSERT INTO t SELECT g, repeat('x', {ROW_BYTES - 40}) FROM generate_series({first + 1}, "
                    f"{min(first + 100_000, rows)}) g")
    cluster.sql("CHECKPOINT")
    cluster.loch("compute", "stop", "main")


class Console:
    """One session at a daemon's console."""

    def __init__(self, cluster, port):
        self.psql = subprocess.Popen(["psql", f"host={cluster.dir}/run port={port} dbname=loch user=loch", "-X", "-q", "-A",
                                      "-P", "footer=off"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask("SHOW STATUS")  # connected, before anything is timed

    def ask(self, command):
        """Its first row as a dictionary, and the seconds until all of it was there."""
        begun, lines = time.monotonic(), []
        self.psql.stdin.write(f"{command};\n\\echo done\n")
        self.psql.stdin.flush()
        while (line := self.psql.stdout.readline().strip()) != "done":
            if not line:
                raise SystemExit(f"no answer to {command}")
            lines.append(line)
        took = time.monotonic() - begun
        return (dict(zip(lines[0].split("|"), lines[1].split("|"))) if len(lines) > 1 else {}), took

    def close(self):
        self.psql.stdin.close()
        self.psql.wait()


def create(cluster, tenant, parent, count):
    """Seconds of each CREATE BRANCH at the pageserver. The safekeepers are told, as `loch branch create` does."""
    pageserver = Console(cluster, cluster.port + 10)
    safekeepers = [Console(cluster, cluster.port + n) for n in (1, 2, 3)]
    seconds = []
    for i in range(count):
        row, took = pageserver.ask(f"CREATE BRANCH {tenant} b{i} FROM {parent}")
        seconds.append(took)
        for console in safekeepers:
            console.ask(f"CREATE TIMELINE {tenant} {row['timeline']} START {row['start_lsn']} PREV {row['prev_lsn']} "
                        f"SYSID {row['system_id']} PGVERSION {row['pg_version']} SEGMENT {row['segment_bytes']}")
    for console in (pageserver, *safekeepers):
        console.close()
    return seconds


def ms(seconds):
    ordered = sorted(seconds)
    return {"median": round(statistics.median(ordered) * 1e3, 2), "p99": round(ordered[len(ordered) * 99 // 100] * 1e3, 2),
            "max": round(ordered[-1] * 1e3, 2)}


def answers(cluster, rounds=5):
    """Seconds from the command to the branch, and to an answer of a compute on it; the medians, and the slowest answer."""
    made, answered = [], []
    for i in range(rounds):
        begun = time.monotonic()
        cluster.loch("branch", "create", f"answers{i}", "--tenant", cluster.tenant)
        made.append(time.monotonic() - begun)
        cluster.loch("compute", "start", f"answers{i}", "--tenant", cluster.tenant, "--branch", f"answers{i}")
        cluster.sql("SELECT count(*) FROM pg_class", f"answers{i}")
        answered.append(time.monotonic() - begun)
        cluster.loch("compute", "stop", f"answers{i}")
    return [round(s, 3) for s in (statistics.median(made), statistics.median(answered), max(answered))]


def sync_ms(folder, rounds=50):
    """What a file costs here by itself: written, synced, renamed, its directory synced."""
    took, fd_dir = [], os.open(folder, os.O_RDONLY)
    for _ in range(rounds):
        begun = time.monotonic()
        with open(folder / "probe.tmp", "wb") as f:
            f.write(b"x" * 4000)
            f.flush()
            os.fdatasync(f.fileno())
        os.rename(folder / "probe.tmp", folder / "probe")
        os.fsync(fd_dir)
        took.append(time.monotonic() - begun)
    os.close(fd_dir)
    return ms(took)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--branches", type=int, default=1000)
    p.add_argument("--mb", type=int, default=100)
    p.add_argument("--import", dest="pgdata")
    p.add_argument("--port-base", type=int, default=int(os.environ.get("LOCH_TEST_PORT_BASE", 24100)))
    p.add_argument("--dir")
    a = p.parse_args()
    work = pathlib.Path(a.dir or tempfile.mkdtemp(prefix="loch-branches."))
    work.chmod(0o711)
    cluster = Cluster(work / "cluster", a.port_base, "main" if a.pgdata is None else "imported")
    try:
        cluster.loch("up")
        if a.pgdata is None:
            note(f"loading {a.mb} MB")
            fill(cluster, a.mb)
        else:
            a.mb = sum(f.stat().st_size for f in pathlib.Path(a.pgdata, "base").rglob("*") if f.is_file()) >> 20
            note(f"importing {a.mb} MB")
            cluster.loch("tenant", "create", cluster.tenant, "--import", a.pgdata)
        main_branch = cluster.main_branch()
        before_kb = cluster.pageserver_kb()
        note("branching")
        seconds = create(cluster, main_branch["tenant"], main_branch["timeline"], a.branches)
        part = max(min(100, len(seconds) // 2), 1)
        grown = cluster.pageserver_kb() - before_kb
        made, answered, slowest = answers(cluster)
        print(json.dumps({"branches": len(seconds), "mb": a.mb, "file_synced_ms": sync_ms(work),
                          "first_ms": ms(seconds[:part]), "last_ms": ms(seconds[-part:]), "all_ms": ms(seconds), "under_10_ms": sum(s < 0.01 for s in seconds),
                          "pageserver_kb_a_branch": round(grown / len(seconds), 1),
                          "branch_command_s": made, "compute_answers_s": answered,
                          "compute_answers_max_s": slowest}, indent=1))
    finally:
        subprocess.run([BUILD / "bin" / "loch", "down", "--dir", cluster.dir, "--immediate", "--wipe"], check=False,
                       capture_output=True)
        if a.dir is None:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
