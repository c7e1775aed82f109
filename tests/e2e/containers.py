#!/usr/bin/env python3
"""docker/ as a user would run it, with podman in the place of Docker: the image is built by docker/Dockerfile on a
Debian 12 that debootstrap makes (no registry of images is asked), and docker/compose.yaml's services are run with the
options that it gives. Then commits go on while one container after another is killed, and nothing is lost. The units of
docker/systemd are verified by systemd-analyze.

usage: containers.py          (root; exit 0 passed, else the last line says why)
"""
import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCKER = os.path.join(ROOT, "docker")
PREFIX = "loch-test-%d" % os.getpid()
WORK = tempfile.mkdtemp(prefix="loch-containers.")
BASE = "docker.io/library/debian:12"
DAEMONS = ["safekeeper-1", "safekeeper-2", "safekeeper-3", "pageserver"]


def note(text):
    print(time.strftime("%T "), text, flush=True)


def fail(text):
    raise SystemExit("FAILED: " + text)


def run(*argv, check=True, **options):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if check and done.returncode != 0:
        fail("%s: exit %d: %s" % (shlex.join(argv)[:300], done.returncode, done.stdout[-2000:]))
    return done


def podman(*argv, **options):
    return run("podman", *argv, **options)


# ---- without containers ----
def check_compose(compose):
    """Every service is confined, and what it names is there."""
    for name, s in compose["services"].items():
        for key, wanted in {"cap_drop": ["ALL"], "read_only": True, "security_opt": ["no-new-privileges:true"]}.items():
            if s.get(key) != wanted:
                fail("service %s: %s is %s" % (name, key, s.get(key)))
        for key in ("mem_limit", "pids_limit", "command"):
            if key not in s:
                fail("service %s has no %s" % (name, key))
        if s.get("memswap_limit") != s["mem_limit"]:
            fail("service %s may be swapped out" % name)
        if name != "init" and "healthcheck" not in s:
            fail("service %s has no health check" % name)
        if s["user"] != ("root" if name == "compute" else "loch"):
            fail("service %s runs as %s" % (name, s["user"]))
        for volume in s["volumes"]:
            if volume.split(":")[0] not in compose["volumes"]:
                fail("service %s: no volume %s" % (name, volume))
        for other in s.get("depends_on", {}):
            if other not in compose["services"]:
                fail("service %s waits for no service %s" % (name, other))
        for port in s.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                fail("service %s is published to everybody: %s" % (name, port))
    note("compose.yaml: %d services are confined" % len(compose["services"]))


def check_units():
    """systemd-analyze knows every line. Its root holds the programs, and empty targets of the system."""
    root = os.path.join(WORK, "units")
    system = os.path.join(root, "etc/systemd/system")
    programs = os.path.join(root, "usr/lib/loch/bin")
    os.makedirs(system)
    os.makedirs(programs)
    for unit in glob.glob(os.path.join(DOCKER, "systemd/*")):
        shutil.copy(unit, system)
    for program in ("loch-safekeeper", "loch-pageserver", "compute"):
        with open(os.path.join(programs, program), "w") as f:
            os.fchmod(f.fileno(), 0o755)
    for target in ("sysinit", "basic", "shutdown", "network", "multi-user"):
        with open(os.path.join(system, target + ".target"), "w") as f:
            f.write("[Unit]\nDescription=stub\n")
    for slices in ("system", "system-loch\\x2dsafekeeper"):
        with open(os.path.join(system, slices + ".slice"), "w") as f:
            f.write("[Unit]\nDescription=stub\n")
    units = [os.path.join(system, u) for u in
             ("loch.target", "loch-safekeeper@.service", "loch-pageserver.service", "loch-computes.service")]

    def verify():
        return run("systemd-analyze", "verify", "--man=no", "--root=" + root, *units, check=False)

    done = verify()
    if done.returncode != 0 or done.stdout.strip():
        fail("systemd-analyze: " + done.stdout)
    with open(units[2], "a") as f:  # that it would say something
        f.write("[Service]\nProtectSystems=strict\n")
    if "ProtectSystems" not in verify().stdout:
        fail("systemd-analyze does not look at the units")
    note("systemd units: verified")


# ---- with containers ----
def build():
    if podman("image", "exists", BASE, check=False).returncode != 0:
        sources = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages").stdout
        mirror = re.search(r"^(\S+) bookworm$", sources, re.M)
        if mirror is None:
            fail("no package mirror of bookworm among: " + sources)
        base = os.path.join(WORK, "base")
        note("debootstrap")
        run("debootstrap", "--variant=minbase", "bookworm", base, mirror.group(1))
        run("tar", "-C", base, "--exclude=./proc/*", "--exclude=./sys/*", "-cf", WORK + "/base.tar", ".")
        podman("import", WORK + "/base.tar", BASE)
        shutil.rmtree(base)
    note("building the image")
    podman("build", "--pull=never", "--network", "host", "-f", DOCKER + "/Dockerfile", "-t", PREFIX, ROOT)


def start(compose, name):
    """One service by what compose.yaml says of it."""
    s = compose["services"][name]
    argv = ["run", "-d", "--name", "%s-%s" % (PREFIX, name), "--user", s["user"], "--init", "--read-only",
            "--memory", s["mem_limit"], "--memory-swap", s["memswap_limit"], "--pids-limit", str(s["pids_limit"]), "--ulimit", "nofile=8192:8192",
            "--ulimit", "nproc=4096:4096", "--shm-size", s.get("shm_size", "64m"),
            "--network", "%s-storage" % PREFIX, "--network-alias", name]
    for key, option in (("cap_drop", "--cap-drop"), ("cap_add", "--cap-add"), ("security_opt", "--security-opt"),
                        ("tmpfs", "--tmpfs")):
        for value in s.get(key, []):
            argv += [option, value]
    for key, value in s["ulimits"].items():
        argv += ["--ulimit", "%s=%d:%d" % (key, value, value)]
    for key, value in s.get("environment", {}).items():
        argv += ["-e", "%s=%s" % (key, value)]
    for volume in s["volumes"]:
        argv += ["-v", "%s-%s" % (PREFIX, volume)]
    for secret in s.get("secrets", []):
        argv += ["-v", "%s/cmk.key:/run/secrets/%s:ro" % (WORK, secret)]
    podman(*argv, PREFIX, *s["command"])


def logs(name):
    return podman("logs", "--tail", "20", "%s-%s" % (PREFIX, name), check=False).stdout


def inside(name, *argv, check=True):
    return podman("exec", "%s-%s" % (PREFIX, name), *argv, check=check)


def healthy(compose, name, seconds=60):
    """Its own health check passes."""
    test = compose["services"][name]["healthcheck"]["test"]
    until = time.monotonic() + seconds
    while inside(name, *test[1:], check=False).returncode != 0:
        if time.monotonic() > until:
            fail("%s is not healthy: %s" % (name, logs(name)))
        time.sleep(0.2)


def users(name):
    """Of every process but the container's own init: (user, command)."""
    out = podman("top", "%s-%s" % (PREFIX, name), "user", "comm").stdout.splitlines()[1:]
    return [line.split(None, 1) for line in out]


def sql(text, check=True):
    url = re.search(r'"url": "([^"]*)"', inside("compute", "loch", "compute", "list", "--json").stdout)
    if url is None:
        fail("no compute is known")
    done = inside("compute", "psql", url.group(1), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", text, check=False)
    if check and done.returncode != 0:
        fail("%s: %s" % (text, done.stdout))
    return done.stdout.strip() if done.returncode == 0 else None


def fights(compose):
    acked = 0

    def insert():
        nonlocal acked
        if sql("INSERT INTO t VALUES (%d)" % (acked + 1), check=False) is None:
            return False
        acked += 1
        return True

    sql("CREATE TABLE t (n int PRIMARY KEY)")
    for name in ("safekeeper-2", "pageserver", "compute", "safekeeper-1"):
        podman("kill", "-s", "KILL", "%s-%s" % (PREFIX, name))
        if name.startswith("safekeeper"):
            for _ in range(5):
                if not insert():
                    fail("no commit while %s is dead: %s" % (name, logs("compute")))
        podman("start", "%s-%s" % (PREFIX, name))
        healthy(compose, name)
        for _ in range(5):
            if not insert():
                fail("no commit after %s was killed: %s" % (name, logs("compute")))
        note("%s killed: %d commits so far" % (name, acked))
    if sql("SELECT count(*), max(n) FROM t") != "%d|%d" % (acked, acked):
        fail("rows: %s, acknowledged: %d" % (sql("SELECT count(*), max(n) FROM t"), acked))
    # An orderly stop ships the shutdown checkpoint, and says so by its exit code.
    podman("stop", "-t", "60", "%s-compute" % PREFIX)
    code = podman("inspect", "-f", "{{.State.ExitCode}}", "%s-compute" % PREFIX).stdout.strip()
    if code != "0":
        fail("the compute's container ended with %s: %s" % (code, logs("compute")))
    podman("start", "%s-compute" % PREFIX)
    healthy(compose, "compute")
    if sql("SELECT count(*) FROM t") != str(acked):
        fail("rows are missing after a stop and start")
    note("every acknowledged row is there")


def confined():
    for name in DAEMONS:
        if any(user == "root" for user, comm in users(name) if "init" not in comm):
            fail("%s runs processes of root: %s" % (name, users(name)))
    servers = {user for user, comm in users("compute") if comm.startswith("postgres")}
    if servers != {"postgres"}:
        fail("PostgreSQL runs as %s" % servers)
    # What a database superuser runs reaches no console and no file of the cluster.
    sql("CREATE TABLE out (line text)")
    if sql("COPY out FROM PROGRAM 'ls /var/lib/loch/run /var/lib/loch/store'", check=False) is not None:
        fail("a database superuser reads the cluster's directories")
    if sql("COPY out FROM PROGRAM 'true'", check=False) is None:
        fail("programs cannot be run at all: the check before says nothing")
    note("daemons run as loch, servers as postgres, and a superuser's program sees nothing of the cluster")


def containers(compose):
    build()
    with open(os.path.join(WORK, "cmk.key"), "wb") as f:
        f.write(os.urandom(32))
        os.fchmod(f.fileno(), 0o600)
        os.fchown(f.fileno(), 10001, 10001)
    podman("network", "create", "--internal", "%s-storage" % PREFIX)
    start(compose, "init")
    if podman("wait", "%s-init" % PREFIX).stdout.strip() != "0":
        fail("init: " + logs("init"))
    for name in DAEMONS:
        start(compose, name)
    for name in DAEMONS:
        healthy(compose, name)
    begun = time.monotonic()
    start(compose, "compute")
    healthy(compose, "compute")
    note("all services are healthy; the compute %.1f s after its start" % (time.monotonic() - begun))
    fights(compose)
    confined()


def cleanup():
    if shutil.which("podman") is not None:
        for name in ["init", "compute"] + DAEMONS:
            podman("rm", "-f", "-t", "0", "%s-%s" % (PREFIX, name), check=False)
        podman("network", "rm", "-f", "%s-storage" % PREFIX, check=False)
        for volume in ["admin", "conf", "run", "store"] + DAEMONS:
            podman("volume", "rm", "-f", "%s-%s" % (PREFIX, volume), check=False)
        podman("rmi", "-f", PREFIX, check=False)
    shutil.rmtree(WORK, ignore_errors=True)


def settings():
    """Of podman, here: a sandbox may know no systemd, and lets nobody raise limits."""
    path = os.path.join(WORK, "containers.conf")
    with open(path, "w") as f:
        f.write('[containers]\ndefault_ulimits = ["nofile=8192:8192", "nproc=4096:4096"]\n'
                '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n')
    os.environ["CONTAINERS_CONF"] = path


def main():
    os.chmod(WORK, 0o711)
    with open(os.path.join(DOCKER, "compose.yaml")) as f:
        compose = yaml.safe_load(f)
    try:
        check_compose(compose)
        check_units()
        settings()
        containers(compose)
        note("passed")
    finally:
        cleanup()


if __name__ == "__main__":
    sys.exit(main())
