"""What the benchmarks that run a stock server beside a cluster share."""
import glob
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("LOCH_BUILD", ROOT / "build"))
BIN = pathlib.Path("/usr/lib/postgresql/15/bin")


def note(text):
    print(f"{time.strftime('%T')}  {text}", file=sys.stderr, flush=True)


def run(argv, **more):
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True, text=True, **more).stdout


def as_postgres(argv):
    if os.geteuid() != 0:
        return [str(a) for a in argv]
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *map(str, argv)]


def sql(url, text):
    return run(["psql", url, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", text]).strip()


def lsn_number(lsn):
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def cpu_seconds(roots):
    """User and system time of the processes and all their descendants, reaped ones included."""
    ticks, children = {}, {}
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            text = pathlib.Path(stat).read_text()
        except OSError:
            continue
        pid, rest = int(text.split(" ", 1)[0]), text.rpartition(")")[2].split()
        children.setdefault(int(rest[1]), []).append(pid)
        ticks[pid] = sum(map(int, rest[11:15]))
    total, todo = 0, list(roots)
    while todo:
        pid = todo.pop()
        total += ticks.get(pid, 0)
        todo += children.get(pid, [])
    return total / os.sysconf("SC_CLK_TCK")


class Cluster:
    """A local cluster of ours in `folder`: three safekeepers, a pageserver, one compute."""

    def __init__(self, folder, port_base):
        self.dir, self.port_base, self.url = folder, port_base, None

    def loch(self, *words):
        return run([BUILD / "bin" / "loch", *words, "--dir", self.dir, "--port-base", self.port_base])

    def start(self, settings):
        """Up, with a compute that has these PostgreSQL settings."""
        self.loch("up")
        self.loch("compute", "stop", "main")
        self.loch("compute", "start", "main", "--set", ",".join(f"{k}={v}" for k, v in settings.items()))
        self.url = json.loads(self.loch("compute", "list", "--json"))[0]["url"]

    def roots(self):
        """Of its processes, those that it was started with."""
        return [json.loads(p.read_text())["pid"] for p in (self.dir / "run").glob("*.json")]

    def console(self, command):
        """Of the pageserver."""
        return run(["psql", f"host={self.dir}/run port={self.port_base + 10} dbname=loch user=loch", "-XAtq", "-c", command])

    def branch(self, name="main", tenant="main"):
        """What `loch branch list` says of it, LSNs as numbers."""
        row = next(b for b in json.loads(self.loch("branch", "list", "--tenant", tenant, "--json")) if b["name"] == name)
        return {key: lsn_number(value) if key.endswith("lsn") and value else value for key, value in row.items()}

    def metrics(self, daemon):
        """Values by name, those with several labels added up."""
        conf = (self.dir / "conf" / f"{daemon}.ini").read_text()
        where = next(line.split("=")[1].strip() for line in conf.splitlines() if line.startswith("metrics"))
        values = {}
        with urllib.request.urlopen(f"http://{where}/metrics", timeout=60) as page:
            for line in page.read().decode().splitlines():
                if line and not line.startswith("#"):
                    name, value = line.rsplit(" ", 1)
                    name = name.split("{")[0]
                    values[name] = values.get(name, 0) + float(value)
        return values

    def stop(self):
        self.loch("down", "--immediate", "--wipe")
