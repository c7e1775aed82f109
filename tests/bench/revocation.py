#!/usr/bin/env python3
"""How long a revoked tenant is still served: rounds of taking its CMK away under load on established connections.

    revocation.py [--rounds 50] [--port-base N] [--poll 1s --lease 3s] [--window 2] [--branch] [--seconds N]

Two tenants under load all the while. Each round: the CMK file of one is moved away, all daemons must say revoked and
wiped, the compute must be gone; then the CMK comes back and so must the compute, by itself. The revoked tenant's clients
(pgbench, a ledger that remembers what was acknowledged, and a COPY that never ends) come through a relay that notes when the last
byte from the server came. Measured per round: that byte after the first denial that any daemon was told (negative: before it) and
after the file was moved, the time from the denial until the last daemon had wiped, and from giving the CMK back until the first query.
The other tenant's transactions are counted in windows of each round: before (both loaded), from the moving on, after (both loaded again).
With --branch it is a branch with a CMK of its own that goes dark, and its parent's compute, of the same tenant, that goes on. With
--seconds no round begins later than that. At the end the ledger of what was revoked must be complete. Prints one JSON object; exit 1 when a byte came after poll and lease.
"""
import argparse
import asyncio
import bisect
import datetime
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.join(os.environ.get("LOCH_BUILD", ROOT + "/build"), "bin")
running = []  # to be ended with the cluster, whatever happens
LOCH, LEDGER = BIN + "/loch", BIN + "/ledger"


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


tenant = "ours"  # whose lease is watched: its own, or (main) that of its branch with a CMK


def leases():
    rows = json.loads(loch("key", "status", "--tenant", tenant, "--json"))
    return [r for r in rows if bool(r.get("branch")) == (tenant == "main")]


def all_are(state):
    rows = leases()
    return len(rows) == 4 and all(r["state"] == state and (state == "held" or r["wiped_at"]) for r in rows)


class Relay:
    """Between clients and a compute; last_ms: when the last byte from the server came, bytes: how many did."""

    def __init__(self, port, to_port):
        self.port, self.to_port, self.last_ms, self.bytes = port, to_port, 0.0, 0
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.serve(ready)), daemon=True).start()
        if not ready.wait(20):
            raise SystemExit("the relay does not listen")

    async def serve(self, ready):
        server = await asyncio.start_server(self.accept, "127.0.0.1", self.port)
        ready.set()
        await server.serve_forever()

    async def accept(self, reader, writer):
        try:
            server = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self.pump(reader, server[1], False), self.pump(server[0], writer, True))

    async def pump(self, reader, writer, from_server):
        try:
            while data := await reader.read(65536):
                if from_server:
                    self.last_ms = time.time() * 1000
                    self.bytes += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


def pgbench(url, work, prefix, seconds):
    script = os.path.join(work, "script.sql")
    with open(script, "w") as f:
        f.write("\\set i random(1, 1000)\nSELECT count(*) FROM b WHERE g < :i;\nUPDATE b SET n = n + 1 WHERE g = :i;\n")
    return subprocess.Popen(["pgbench", "-n", "-c", "4", "-j", "1", "-T", str(seconds), "-l",
                             "--log-prefix", os.path.join(work, prefix), "-f", script, url],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def endless_copy(url):
    """One statement that sends some 8 kB every 5 ms for as long as it is let."""
    sql = "COPY (SELECT repeat('x', 9000), pg_sleep(0.005) FROM generate_series(1, 1000000)) TO STDOUT"
    return subprocess.Popen(["psql", url, "-Xqc", sql], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def prepare(url):
    subprocess.run(["psql", url, "-Xqc", "CREATE TABLE b AS SELECT g, 0 AS n FROM generate_series(1, 1000) g"], check=True)


def answers(url):
    return subprocess.run(["psql", url, "-XAtqc", "SELECT 1"], capture_output=True, text=True).stdout.strip() == "1"


class Load:
    """What a revoked round ends: begun anew with every round."""

    def __init__(self, url, direct, work, relay, n):
        self.url, self.relay = url, relay
        self.runs = [pgbench(url, work, f"round{n}", 600), endless_copy(url)]
        active = ("SELECT count(*) FILTER (WHERE application_name = 'pgbench' AND query LIKE 'UPDATE%') > 0 AND "
                  "count(*) FILTER (WHERE query LIKE 'COPY%') > 0 FROM pg_stat_activity")
        wait_for("load", lambda: subprocess.run(["psql", direct, "-XAtqc", active], capture_output=True,
                                                text=True).stdout.strip() == "t")
        before = relay.bytes
        wait_for("bytes through the relay", lambda: relay.bytes > before + 100000)

    def alive(self):
        return all(r.poll() is None for r in self.runs)

    def wait(self):
        for r in self.runs:
            r.wait(120)


def one_round(n, work, cmk, relay, window):
    direct = compute("ours")["url"]
    url = direct.replace(f":{relay.to_port}/", f":{relay.port}/")
    load = Load(url, direct, work, relay, 2 * n)
    loaded = time.time()
    time.sleep(window)
    if not load.alive():
        raise SystemExit("the load ended before the key was taken: the machine stood still for a lease")
    taken = time.time()
    os.rename(cmk, cmk + ".away")
    wait_for("revoked", lambda: all_are("revoked"))
    wait_for("compute", lambda: compute("ours")["state"] == "revoked")
    load.wait()
    last = relay.last_ms
    rows = leases()
    denied = min(ms(r["since"]) for r in rows)
    wiped = max(ms(r["wiped_at"]) for r in rows)
    wait_for("the dark window", lambda: time.time() >= taken + window)
    os.rename(cmk + ".away", cmk)
    given = time.time()
    wait_for("back", lambda: compute("ours")["state"] == "running" and answers(direct))
    back = time.time()
    load = Load(url, direct, work, relay, 2 * n + 1)
    again = time.time()
    time.sleep(window)
    for r in load.runs:
        r.terminate()
    load.wait()
    figures = {"late_ms": last - denied, "after_taken_ms": last - taken * 1000, "wiped_ms": wiped - denied,
               "back_ms": (back - given) * 1000}
    return figures, {"before": loaded, "dark": taken, "after": again}


def percentiles(values):
    v = sorted(values)
    return {"p50": round(v[len(v) // 2], 1), "p99": round(v[min(len(v) - 1, int(len(v) * 0.99))], 1), "max": round(v[-1], 1)}


def windows_of(work, rounds, window):
    """The other tenant's transactions a second in each kind of window: medians and what they lie between."""
    times = sorted(int(f[4]) + int(f[5]) / 1e6 for path in glob.glob(work + "/other.*") for line in open(path)
                   if len(f := line.split()) == 6)
    out = {}
    for kind in ("before", "dark", "after"):
        tps = sorted((bisect.bisect(times, w[kind] + window) - bisect.bisect(times, w[kind])) / window for w in rounds)
        out[kind] = {"median": statistics.median(tps), "min": tps[0], "max": tps[-1]}
    return out


def seconds_of(text):
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text[:-1])


def ledger(*words):
    return json.loads(subprocess.run([LEDGER, *words], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def run(o, work, cmk):
    loch("up", "--port-base", o.port_base)
    if o.branch:
        loch("branch", "create", "ours", "--kms-uri", "file:" + cmk)
        loch("compute", "start", "ours", "--branch", "ours")
    else:
        loch("tenant", "create", "ours", "--kms-uri", "file:" + cmk)
        loch("compute", "start", "ours", "--tenant", "ours")
    for name in ("ours", "main"):
        prepare(compute(name)["url"])
    ours = compute("ours")
    relay = Relay(int(o.port_base) + 95, ours["port"])
    url = ours["url"].replace(f":{ours['port']}/", f":{relay.port}/")
    os.mkdir(work + "/ledger")
    subprocess.run([LEDGER, "init", "--url", url], check=True, stdout=subprocess.DEVNULL)
    bank = subprocess.Popen([LEDGER, "run", "--url", url, "--state", work + "/ledger", "--clients", "2", "--seconds", "36000",
                             "--think-ms", "5", "--stop-file", work + "/stop"], stdout=subprocess.PIPE, text=True)
    other = pgbench(compute("main")["url"], work, "other", 36000)
    running.extend([bank, other])
    rounds = []
    until = time.time() + o.seconds
    for n in range(o.rounds):
        if time.time() > until:
            break
        rounds.append(one_round(n, work, cmk, relay, o.window))
        print(f"round {n + 1}: " + ", ".join(f"{k} {v:.0f}" for k, v in rounds[-1][0].items()), file=sys.stderr)
    if other.poll() is not None or bank.poll() is not None:
        raise SystemExit("the other tenant's load or the ledger has ended by itself")
    other.terminate()
    other.wait()
    open(work + "/stop", "w").close()
    said = json.loads(bank.communicate()[0].splitlines()[-1])
    checked = ledger("check", "--url", ours["url"], "--state", work + "/ledger")
    figures = [r[0] for r in rounds]
    bound_ms = 1000 * (seconds_of(o.poll) + seconds_of(o.lease))
    print(json.dumps({"rounds": len(rounds), "of": "branch" if o.branch else "tenant", "poll": o.poll, "lease": o.lease, "bound_ms": bound_ms,
                      **{k: percentiles([f[k] for f in figures]) for k in figures[0]},
                      "bytes_through_relay": relay.bytes,
                      "other_tps": windows_of(work, [r[1] for r in rounds], o.window),
                      "ledger_run": said, "ledger_check": checked}, indent=1))
    return max(f["late_ms"] for f in figures) <= bound_ms


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=50)
    p.add_argument("--port-base", default=os.environ.get("LOCH_TEST_PORT_BASE", "23100"))
    p.add_argument("--poll", default="1s")
    p.add_argument("--lease", default="3s")
    p.add_argument("--window", type=float, default=2)
    p.add_argument("--branch", action="store_true")
    p.add_argument("--seconds", type=float, default=36000)
    o = p.parse_args()
    global tenant
    tenant = "main" if o.branch else "ours"
    work = tempfile.mkdtemp(prefix="loch-bench.", dir="/tmp")
    os.chmod(work, 0o711)
    os.environ.update(LOCH_DIR=work + "/cluster", LOCH_KMS_POLL=o.poll, LOCH_KMS_LEASE=o.lease, LOCH_KMS_SETTLE="500ms")
    cmk = work + "/ours.key"
    with open(cmk, "wb") as f:
        f.write(os.urandom(32))
    os.chmod(cmk, 0o600)
    try:
        sys.exit(0 if run(o, work, cmk) else 1)
    finally:
        for each in running:
            each.kill()
        subprocess.run([LOCH, "down", "--immediate", "--wipe"], capture_output=True)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
