"""Reads a strace of loch-safekeeper (LOCH_NO_URING=1, -f -yy) that served one proposer with one record
outstanding, and checks the order of every commit: no byte is sent to a peer while WAL that was written
is not synced. The sync counts for the writes that had ended when it began, and from when it has ended.
Zeros written ahead are no WAL: a frame never begins with zeros.
"""
import re
import sys

LINE = re.compile(r"^(\d+)\s+(.*)$")
START = re.compile(r"^(\w+)\((\d+)<([^>]*)>")
RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>")

dirty = {}      # file -> writes that ended and were not yet covered by an ended fdatasync
covering = {}   # thread -> (file, writes that an fdatasync in flight covers)
open_call = {}  # thread -> (call, path)
writes = syncs = sends = early = 0
acks = 0

for line in open(sys.argv[1], errors="replace"):
    m = LINE.match(line)
    if not m:
        continue
    thread, rest = m.group(1), m.group(2)
    start = START.match(rest)
    resumed = RESUMED.match(rest)
    if start:
        call, path = start.group(1), start.group(3)
        if call == "pwrite64" and '"\\0\\0\\0\\0' in rest:
            path = "zeros"
        unfinished = "<unfinished" in rest
    elif resumed and thread in open_call:
        call, path = open_call.pop(thread)
        unfinished = False
    else:
        continue
    wal = path.endswith(".wal")
    if start and call == "fdatasync" and wal:
        covering[thread] = (path, dirty.get(path, 0))
    if start and unfinished:
        open_call[thread] = (call, path)
        if not (call in ("write", "writev", "sendmsg", "sendto") and "TCP" in path):
            continue
    if call == "pwrite64" and wal and not unfinished:
        dirty[path] = dirty.get(path, 0) + 1
        writes += 1
    elif call == "fdatasync" and wal and not unfinished:
        if rest.rstrip().endswith("= 0"):
            path, n = covering.pop(thread, (path, 0))
            dirty[path] = dirty.get(path, 0) - n
            syncs += 1
            acks += n
    elif start and call in ("write", "writev", "sendmsg", "sendto") and "TCP" in path:
        sends += 1
        if any(n > 0 for n in dirty.values()):
            early += 1

print(f"WAL writes {writes}, syncs {syncs}, sends {sends}, sends while a write was not synced {early}")
if min(writes, syncs, sends, acks) < 50:
    sys.exit("too little was traced")
# A heartbeat's reply may fall between a write and its sync by chance; an ack before its sync would make
# about every send early.
if early > sends // 50:
    sys.exit("acks leave before their sync")
