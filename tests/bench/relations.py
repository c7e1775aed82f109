#!/usr/bin/env python3
"""Many relations side by side in one run, a stock PostgreSQL and a Loch compute: created, measured, some of them read, dropped.
Progress on standard error; one JSON object on the last line of standard output.

    tests/bench/relations.py [--relations 100000] [--parts 10] [--batch 500] [--no-read] [--port-base 24100] [--dir DIR]

For each part of the relations and each side: seconds to create them (batches of one transaction each) and, for Loch, the CPU seconds and the
memory of the pageserver (with all of it written to layers), the bytes of WAL that it was behind at the end, and how long until it had
them. Then both servers are started anew, and for each part: the size of each of its relations, and a scan of every hundredth; then all
are dropped, as they were created. `last_to_first` compares the last part with the first (Loch, and stock beside it: a catalog that grows
costs both). Exit 1 when it is not flat: the pageserver's CPU for the second half of the relations more than 1.5 times that for the
first, or its memory after them more than 1.25 times what it was after the first half, and 32 MiB. (Its caches are made small; what each
relation costs is its part of the layers' indexes.)
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from common import BIN, BUILD, as_postgres, lsn_number, note, run

SETTINGS = {"shared_buffers": "512MB", "autovacuum": "off", "max_wal_size": "20GB", "checkpoint_timeout": "1h",
            "max_locks_per_transaction": "1024", "max_files_per_process": "500"}
# Small, so that they are full at once, and what grows is not they.
CACHES = {"LOCH_PAGESERVER_PAGE_CACHE": "8MiB", "LOCH_PAGESERVER_FRAME_CACHE": "8MiB"}
LOOK_S = 6
TICK = os.sysconf("SC_CLK_TCK")


class Side:
    """One psql session on a server."""

    def connect(self):
        self.psql = subprocess.Popen(["psql", self.url, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)

    def ask(self, text):
        self.psql.stdin.write(text + ";\n\\echo done\n")
        self.psql.stdin.flush()
        lines = []
        while (line := self.psql.stdout.readline()) != "done\n":
            if not line:
                raise SystemExit(f"{self.name}: no answer to {text[:100]}")
            lines.append(line.strip())
        return lines

    def disconnect(self):
        self.psql.stdin.close()
        self.psql.wait()

    def restart(self):
        """What the server has in memory is gone."""
        self.disconnect()
        self.end()
        self.begin()
        self.connect()


class Stock(Side):
    name = "stock"

    def __init__(self, work, port):
        self.dir, self.port = work / "stock", port
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def start(self):
        self.dir.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.dir, "postgres", "postgres")
        run(as_postgres([BIN / "initdb", "-D", self.dir / "data", "-A", "trust", "-U", "postgres", "--locale=C",
                         "--encoding=UTF8"]))
        self.begin()

    def begin(self):
        options = [w for k, v in SETTINGS.items() for w in ("-c", f"{k}={v}")]
        with open(self.dir / "log", "a", encoding="utf8") as log:
            self.proc = subprocess.Popen(as_postgres([
                BIN / "postgres", "-D", self.dir / "data", "-p", self.port, "-c", "unix_socket_directories=",
                "-c", "listen_addresses=127.0.0.1", *options]), stdout=log, stderr=log)
        while subprocess.run([BIN / "pg_isready", "-q", "-d", self.url], check=False).returncode != 0:
            if self.proc.poll() is not None:
                raise SystemExit((self.dir / "log").read_text())
            time.sleep(0.1)

    def end(self):
        self.proc.send_signal(signal.SIGINT)
        self.proc.wait(600)

    def stop(self):
        self.proc.send_signal(signal.SIGQUIT)  # its checkpoint would take long
        self.proc.wait(120)


class Loch(Side):
    name = "loch"

    def __init__(self, work, port):
        self.dir, self.port = work / "loch", port

    def loch(self, *words):
        return run([BUILD / "bin" / "loch", *words, "--dir", self.dir, "--port-base", self.port])

    def start(self):
        self.loch("up")
        self.end()
        self.begin()

    def end(self):
        self.loch("compute", "stop", "main")

    def begin(self):
        self.loch("compute", "start", "main", "--set", ",".join(f"{k}={v}" for k, v in SETTINGS.items()))
        self.url = json.loads(self.loch("compute", "list", "--json"))[0]["url"]
        self.pid = json.loads((self.dir / "run" / "pageserver.json").read_text())["pid"]

    def stop(self):
        self.loch("down", "--immediate", "--wipe")

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory_kb(self):
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0])

    def wait(self, lsn, column):
        """Bytes up to `lsn` that the pageserver did not have in memory or on disk, and seconds until it had."""
        begun, first = time.monotonic(), None
        while True:
            row = next(b for b in json.loads(self.loch("branch", "list", "--json")) if b["name"] == "main")
            lag = max(lsn_number(lsn) - lsn_number(row[column]), 0)
            first = lag if first is None else first
            if lag == 0:
                return first, round(time.monotonic() - begun, 2)
            if time.monotonic() > begun + 600:
                raise SystemExit(f"{column} stays {lag} bytes behind {lsn}")
            time.sleep(0.02)

    def settle(self):
        """The lag in bytes, and seconds until there is none. A record of our own ends the WAL that is waited for."""
        return self.wait(self.mark(), "last_record_lsn")

    def mark(self):
        return self.ask("SELECT pg_logical_emit_message(true, '', '')")[0]

    def flushed_kb(self):
        """Its memory with nothing of the branch that is not in layers; the least within some seconds, for merges come and go."""
        lsn = self.mark()
        self.wait(lsn, "last_record_lsn")
        run(["psql", "-h", self.dir / "run", "-p", self.port + 10, "-d", "loch", "-X", "-c", "FLUSH main main"])
        self.wait(lsn, "disk_consistent_lsn")
        least, until = self.memory_kb(), time.monotonic() + LOOK_S
        while time.monotonic() < until:
            time.sleep(0.2)
            least = min(least, self.memory_kb())
        return least


def each(side, first, count, batch, statement):
    """The statement for each of the relations, so many in a transaction; seconds."""
    begun, end = time.monotonic(), first + count
    for start in range(first, end, batch):
        side.ask(f"DO $$BEGIN FOR i IN {start}..{min(start + batch, end) - 1} LOOP EXECUTE format('{statement}', i); "
                 "END LOOP; END$$")
    return round(time.monotonic() - begun, 2)


def timed(side, text, expected):
    begun = time.monotonic()
    answer = side.ask(text)
    if answer != [expected]:
        raise SystemExit(f"{side.name}: {text} answers {answer}, not {expected}")
    return round(time.monotonic() - begun, 2)


def phase(sides, o, what, work):
    """The work of one phase, part after part, the sides taking turns; a list of rows for each side."""
    rows = {side.name: [] for side in sides}
    size = o.relations // o.parts
    for part in range(o.parts):
        for side in sides:
            ours = isinstance(side, Loch)
            cpu = side.cpu_s() if ours else 0
            row = {"seconds": work(side, part * size, size)}
            if ours:
                row["lag_bytes"], row["lag_s"] = side.settle()
                row["pageserver_cpu_s"], row["pageserver_kb"] = round(side.cpu_s() - cpu, 2), side.flushed_kb()
            rows[side.name].append(row)
            note(f"{what} {part + 1}/{o.parts} {side.name}: {row}")
    return rows


def phases(sides, o):
    """Of a hundredth of each part's relations each gets a row."""
    def create(side, first, count):
        seconds = each(side, first, count, o.batch, "CREATE TABLE r%s (id int)")
        return round(seconds + each(side, first, count // 100, o.batch, "INSERT INTO r%1$s VALUES (%1$s)"), 2)

    def sizes(side, first, count):
        return timed(side, f"SELECT count(pg_relation_size('r' || g)) FROM generate_series({first}, {first + count - 1}) g",
                     str(count))

    def scans(side, first, count):
        begun = time.monotonic()
        for i in range(first, first + count // 100):
            timed(side, f"SELECT id FROM r{i}", str(i))
        return round(time.monotonic() - begun, 2)

    def drop(side, first, count):
        return each(side, first, count, o.batch, "DROP TABLE r%s")

    rows = {"create": phase(sides, o, "create", create)}
    if o.read:
        for side in sides:
            side.restart()
        rows |= {what: phase(sides, o, what, work) for what, work in (("size", sizes), ("scan", scans))}
    return rows | {"drop": phase(sides, o, "drop", drop)}


def flat(rows):
    half = len(rows) // 2
    first, second = (sum(r["pageserver_cpu_s"] for r in part) for part in (rows[:half], rows[len(rows) - half:]))
    return {"cpu": second <= 1.5 * first, "memory": rows[-1]["pageserver_kb"] <= 1.25 * rows[half - 1]["pageserver_kb"] + 32 * 1024}


def last_to_first(rows, key):
    return round(rows[-1][key] / rows[0][key], 2) if rows[0].get(key) else None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("relations", 100_000), ("parts", 10), ("batch", 500),
                        ("port-base", int(os.environ.get("LOCH_TEST_PORT_BASE", 24100)))):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--dir")
    p.add_argument("--no-read", dest="read", action="store_false")
    o = p.parse_args()
    if o.parts < 2:
        p.error("--parts: at least 2, to compare")
    work = pathlib.Path(o.dir or tempfile.mkdtemp(prefix="loch-bench.", dir="/tmp"))
    work.chmod(0o711)
    os.environ.update(CACHES)
    sides = [Stock(work, o.port_base + 90), Loch(work, o.port_base)]
    try:
        for side in sides:
            side.start()
            side.connect()
        before_kb = sides[1].memory_kb()
        result = phases(sides, o)
        for side in sides:
            side.disconnect()
    finally:
        for side in sides:
            try:
                side.stop()
            except Exception as e:  # the other side's files must go too
                note(f"{side.name}: {e}")
        if o.dir is None:
            shutil.rmtree(work, ignore_errors=True)
    is_flat = {what: flat(result[what]["loch"]) for what in ("create", "drop")}
    summary = {what: {"stock_s": round(sum(r["seconds"] for r in rows["stock"]), 1),
                      "loch_s": round(sum(r["seconds"] for r in rows["loch"]), 1),
                      "last_to_first": {"stock": last_to_first(rows["stock"], "seconds"),
                                        "loch": last_to_first(rows["loch"], "seconds"),
                                        "pageserver_cpu": last_to_first(rows["loch"], "pageserver_cpu_s")}}
               for what, rows in result.items()}
    print(json.dumps({"relations": o.relations, "pageserver_kb_before": before_kb, "flat": is_flat, "summary": summary,
                      "parts": result}))
    sys.exit(0 if all(all(f.values()) for f in is_flat.values()) else 1)


if __name__ == "__main__":
    main()
