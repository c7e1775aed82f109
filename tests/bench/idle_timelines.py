#!/usr/bin/env python3
"""Memory, CPU and descriptors of one safekeeper that holds many idle timelines; JSON.

Usage: idle_timelines.py BUILD [--tenants 100] [--timelines 100] [--seconds 20] [--port-base 15000] [--dir /dev/shm] [--limit 900]
The daemon is restarted before it is measured, so every timeline is read from disk once. Files lie on a tmpfs unless --dir says
otherwise: making 10,000 timelines syncs some 80,000 times, which is not what is measured, and takes an hour on a busy disk.
Nothing takes longer than --limit seconds in all.
"""
import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time

p = argparse.ArgumentParser()
p.add_argument("build")
p.add_argument("--tenants", type=int, default=100)
p.add_argument("--timelines", type=int, default=100)
p.add_argument("--seconds", type=float, default=20)
p.add_argument("--port-base", type=int, default=15000)
p.add_argument("--dir", default="/dev/shm")
p.add_argument("--limit", type=float, default=900)
a = p.parse_args()
until = time.time() + a.limit

NODE, CLUSTER = "11" * 16, "22" * 16
work = tempfile.mkdtemp(prefix="idle-bench-", dir=a.dir)
port = a.port_base + 90


def left():
    return max(1, until - time.time())


def start():
    log = open(f"{work}/log", "a")
    d = subprocess.Popen([f"{a.build}/bin/loch-safekeeper", "--config", f"{work}/sk.ini"], stderr=log, stdout=log)
    while subprocess.run(console("SHOW STATUS"), capture_output=True).returncode != 0:
        if d.poll() is not None:
            raise SystemExit(open(f"{work}/log").read()[-2000:])
        time.sleep(0.1)
    return d


def console(command=None):
    base = ["psql", "-h", work, "-p", str(port), "-d", "loch", "-U", "loch", "-qAtX", "-v", "ON_ERROR_STOP=1"]
    return base + (["-c", command] if command else [])


def count(state):
    out = subprocess.run(console("SHOW TIMELINES"), capture_output=True, text=True, check=True).stdout
    return sum(line.split("|")[2] == state for line in out.splitlines())


def wait_active(n):
    while count("active") < n:
        if time.time() > until:
            raise SystemExit("the timelines do not open")
        time.sleep(0.5)


def usage(pid):
    status = open(f"/proc/{pid}/status").read()
    kib = {k: int(status.split(k + ":")[1].split()[0]) for k in ("VmRSS", "VmLck") if k + ":" in status}
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return kib, cpu, len(os.listdir(f"/proc/{pid}/fd"))


with open(f"{work}/sk.ini", "w") as f:
    f.write(f"[daemon]\ndir = {work}/sk\nconsole = {work}/.s.PGSQL.{port}\nlog = warn\n[cluster]\nid = {CLUSTER}\n"
            f"[safekeeper]\nnode = {NODE}\nlisten = 127.0.0.1:{port}\n[safekeepers]\n{NODE} = 127.0.0.1:{port}\n"
            f"[store]\npath = {work}/store\n[kms]\nuri = file:{work}/cmk.key\n")
ids = subprocess.run([f"{a.build}/bin/many_timelines", f"{work}/store", f"{work}/cmk.key", CLUSTER,
                      str(a.tenants), str(a.timelines)], capture_output=True, text=True, check=True, timeout=left()).stdout.split("\n")[:-1]
d = start()
try:
    sql = "".join(f"CREATE TIMELINE {i} START 0/1500140 PREV 0/15000C8 SYSID 77 PGVERSION 150020 SEGMENT 16777216;\n"
                  for i in ids)
    begun = time.time()
    subprocess.run(console(), input=sql, text=True, check=True, stdout=subprocess.DEVNULL, timeout=left())
    created = time.time() - begun
    d.terminate()
    d.wait()
    begun = time.time()
    d = start()
    wait_active(len(ids))
    opened = time.time() - begun
    time.sleep(3)
    kib, cpu, fds = usage(d.pid)
    time.sleep(a.seconds)
    after, cpu2, fds = usage(d.pid)
    print(json.dumps({"timelines": len(ids), "create_s": round(created, 1), "open_s": round(opened, 1),
                      "rss_mib": round(after["VmRSS"] / 1024, 1), "kib_per_timeline": round(after["VmRSS"] / len(ids), 2),
                      "cpu_percent": round(100 * (cpu2 - cpu) / a.seconds, 2), "descriptors": fds}))
finally:
    d.kill()
    d.wait()
    shutil.rmtree(work, ignore_errors=True)
