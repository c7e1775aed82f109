#!/usr/bin/env python3
"""How often idle tenants ask the key service, counted at the key service (a double of Vault); JSON on the last line.

    idle_tenants.py [--tenants 4] [--seconds 60] [--idle 5s] [--port-base N]

A cluster with so many tenants under keys of Vault, none of which has a compute. Counted: requests to decrypt in so many seconds
with kms.idle = 0 (keys are kept), and, after every daemon says that all of them are asleep, with kms.idle; then how many it takes
to wake one of them for a compute, and how long that start takes beside the next one. Per tenant it does not depend on their number.
"""
import argparse
import csv
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOCH = os.path.join(os.environ.get("LOCH_BUILD", ROOT + "/build"), "bin/loch")

p = argparse.ArgumentParser()
p.add_argument("--tenants", type=int, default=4)
p.add_argument("--seconds", type=float, default=60)
p.add_argument("--idle", default="5s")
p.add_argument("--port-base", type=int, default=int(os.environ.get("LOCH_TEST_PORT_BASE", "23100")))
o = p.parse_args()
work = tempfile.mkdtemp(prefix="loch-bench.", dir="/tmp")
os.chmod(work, 0o711)
VAULT = o.port_base + 91
os.environ.update(LOCH_DIR=work + "/cluster", NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")


def loch(*words):
    return subprocess.run([LOCH, *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


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
    os.environ["LOCH_KMS_IDLE"] = "0"
    loch("up", "--port-base", str(o.port_base))
    names = [f"idle{i}" for i in range(o.tenants)]
    for name in names:
        loch("tenant", "create", name, "--kms-uri", f"vault:http://127.0.0.1:{VAULT}/transit/cmk-1?token-file={work}/token")
    wait_for("held", lambda: all_are("held"))
    kept = counted(o.seconds)
    restart(o.idle)
    wait_for("asleep", lambda: all_are("asleep"))
    asleep = counted(o.seconds)
    first = start(names[0])
    loch("compute", "stop", names[0])
    again = start(names[0])
    hour = 3600 / o.seconds
    print(json.dumps({"tenants": o.tenants, "seconds": o.seconds, "decrypts_kept": kept, "decrypts_asleep": asleep,
                      "per_hour_of_1000_tenants_kept": round(kept * hour * 1000 / o.tenants),
                      "per_hour_of_1000_tenants_asleep": round(asleep * hour * 1000 / o.tenants),
                      "start_of_a_sleeper": first, "start_of_one_awake": again}))
finally:
    double.kill()
    subprocess.run([LOCH, "down", "--immediate", "--wipe"], capture_output=True)
    shutil.rmtree(work, ignore_errors=True)
