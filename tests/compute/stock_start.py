#!/usr/bin/env python3
"""Starts a stock PostgreSQL with the extension preloaded and a made-up credential, for tests that need no
pageserver. usage: stock_start.py LIBDIR DATADIR PORT [postgres options...]; becomes the server."""
import os
import struct
import sys

libdir, data, port = sys.argv[1:4]
some_id = bytes(range(16))
identity = bytes([1, 1, 3, 4]) + struct.pack("<II", 1, 1) + some_id * 6 + struct.pack("<Q", 1)
settings = {
    "listen_addresses": "", "fsync": "off", "restart_after_crash": "off", "autovacuum": "off",
    "shared_preload_libraries": "loch", "dynamic_library_path": libdir + ":$libdir",
    "loch.pageserver": "127.0.0.1:1", "loch.tenant": some_id.hex(), "loch.timeline": some_id.hex(), "loch.term": "1",
    "loch.compute_epoch": "1", "loch.start_lsn": "0/1000028",
}
if "--no-credential" not in sys.argv:
    reading, writing = os.pipe()
    os.write(writing, struct.pack("<H", len(identity)) + identity.ljust(256, b"\0") + b"k" * 48)
    os.close(writing)
    os.dup2(reading, 3)
    os.set_inheritable(3, True)
    os.environ["LOCH_KEY_FD"] = "3"
args = [os.environ.get("PGBIN", "/usr/lib/postgresql/15/bin") + "/postgres", "-D", data, "-p", port, "-k", data]
for name, value in settings.items():
    args += ["-c", f"{name}={value}"]
os.execv(args[0], args + [a for a in sys.argv[4:] if a != "--no-credential"])
