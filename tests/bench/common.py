"""What the benchmarks that run a stock server beside a cluster share."""
import os
import pathlib
import subprocess
import sys
import time

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
