#!/usr/bin/env python3
"""How often idle tenants ask the key service, counted at the key service (a double of Vault); JSON on the last line.

    idle_tenants.py [--tenants 4] [--seconds 60] [--idle 5s] [--poll 3] [--port-base N]

A cluster with so many tenants under keys of Vault, none of which has a compute. Measured: how long making one takes, in the first and
the last hundred. Counted: requests to decrypt in so many seconds with kms.idle, after every daemon says that all of them are asleep;
how many it takes to wake one of them for a compute, and how long that start takes beside the next one; then with kms.idle = 0 (keys
are kept). Per tenant the counts do not depend on their number. --poll: kms.poll in seconds (kms.lease is a second more than twice
that). A thousand tenants that are awake ask 1,333 times a second at the default of 3: more than a small machine's double answers.
"""
import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request

from common import note

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOCH = os.path.join(os.environ.get("LOCH_BUILD", ROOT + "/build"), "bin/loch")

p = argparse.ArgumentParser()
p.add_argument("--tenants", type=int, default=4)
p.add_argument("--seconds", type=float, default=60)
p.add_argument("--idle", default="5s")
p.add_argument("--poll", type=int, default=3)
p.add_argument("--port-base", type=int, default=int(os.environ.get("LOCH_TEST_PORT_BASE", "23100")))
o = p.parse_args()
work = tempfile.mkdtemp(prefix="loch-bench.", dir="/tmp")
os.chmod(work, 0o711)
VAULT = o.port_base + 91
os.environ.update(LOCH_DIR=work + "/cluster", NO_PROXY="127.0.0.1", no_proxy="127.0.0.1", LOCH_KMS_IDLE=o.idle,
                  LOCH_KMS_POLL=f"{o.poll}s", LOCH_KMS_LEASE=f"{2 * o.poll + 1}s")


def loch(*words):
    done = subprocess.run([LOCH, *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"loch {' '.join(words)}: {done.stderr}")
    return done.stdout


def decrypts():
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{VAULT}/_control", data=b"{}") as answer:
        return json.load(answer)["counts"].get("decrypt", 0)


def wait_for(what, condition, seconds=900):
    until = time.time() + seconds
    while not condition():
        if time.time() > until:
            raise SystemExit(f"timed out: {what}")
        time.sleep(0.1)


def leases(port):
    """(tenant, state) of every tenant, as one daemon's console has them."""
    table = subprocess.run(["psql", "-h", work + "/cluster/run", "-p", str(o.port_base + port), "-X", "--csv", "-d", "loch", "-c", "SHOW LEASES"],
                           check=True, stdout=subprocess.PIPE, text=True).stdout
    return [(row["tenant"], row["state"]) for row in csv.DictReader(table.splitlines())]


def all_are(state):
    """All tenants but `main` (under the cluster's own key), in all four daemons."""
    ids = {t["tenant"] for t in json.loads(loch("tenant", "list", "--json")) if t["name"] != "main"}
    rows = [s for port in (1, 2, 3, 10) for t, s in leases(port) if t in ids]
    return len(ids) == o.tenants and len(rows) == 4 * o.tenants and all(s == state for s in rows)


def restart(idle):
    os.environ["LOCH_KMS_IDLE"] = idle
    loch("down")
    loch("up")


def timed(*words):
    begun = time.time()
    loch(*words)
    return time.time() - begun


def memory():
    """KiB of memory, and how much of that is locked, of each daemon."""
    out = {}
    for name in ("pageserver", "safekeeper-1", "safekeeper-2", "safekeeper-3"):
        with open(f"{work}/cluster/run/{name}.json") as f:
            status = open(f"/proc/{json.load(f)['pid']}/status").read()
        out[name] = [int(status.split(k + ":")[1].split()[0]) for k in ("VmRSS", "VmLck")]
    return out


def counted(seconds):
    before = decrypts()
    time.sleep(seconds)
    return decrypts() - before


def start(name):
    before, begun = decrypts(), time.time()
    loch("compute", "start", name, "--tenant", name)
    return {"seconds": round(time.time() - begun, 2), "decrypts": decrypts() - before}


double = subprocess.Popen(["node", ROOT + "/tests/kms/vault_double.mjs", str(VAULT)], stdout=subprocess.PIPE, text=True)
try:
    if "ready" not in double.stdout.readline():
        raise SystemExit("the double of Vault does not start")
    with open(work + "/token", "w") as f:
        f.write("hvs.forever\n")
    os.chmod(work + "/token", 0o600)
    loch("up", "--port-base", str(o.port_base))
    empty = memory()
    names = [f"idle{i}" for i in range(o.tenants)]
    uri = f"vault:http://127.0.0.1:{VAULT}/transit/cmk-1?token-file={work}/token"
    took = []
    for i, name in enumerate(names):
        took.append(timed("tenant", "create", name, "--kms-uri", uri))
        if i % 100 == 99:
            note(f"{i + 1} tenants, {statistics.median(took[-100:]):.2f} s each")
    wait_for("asleep", lambda: all_are("asleep"))
    note("all are asleep")
    asleep, memory_asleep = counted(o.seconds), memory()
    note(f"{asleep} Decrypts in {o.seconds:g} s; memory in KiB (of it locked): before {empty}, now {memory_asleep}")
    first = start(names[0])
    loch("compute", "stop", names[0])
    again = start(names[0])
    loch("compute", "stop", names[0])
    restart("0")
    wait_for("held", lambda: all_are("held"))
    note("all are awake")
    kept, memory_kept = counted(o.seconds), memory()
    hour = 3600 / o.seconds
    each = {d: {"asleep": round((memory_asleep[d][0] - empty[d][0]) / o.tenants, 1),
                "awake": round((memory_kept[d][0] - empty[d][0]) / o.tenants, 1)} for d in empty}
    print(json.dumps({"tenants": o.tenants, "seconds": o.seconds, "poll_s": o.poll, "decrypts_kept": kept, "decrypts_asleep": asleep,
                      "per_hour_of_1000_tenants_kept": round(kept * hour * 1000 / o.tenants),
                      "per_hour_of_1000_tenants_asleep": round(asleep * hour * 1000 / o.tenants),
                      "create_s_first_100": round(statistics.median(took[:100]), 2),
                      "create_s_last_100": round(statistics.median(took[-100:]), 2),
                      "kib_per_tenant": each, "start_of_a_sleeper": first, "start_of_one_awake": again}))
finally:
    double.kill()
    subprocess.run([LOCH, "down", "--immediate", "--wipe"], capture_output=True)
    shutil.rmtree(work, ignore_errors=True)
