"""What core files of processes would hold: cores.py PATTERN PID... prints a line a process.

By the kernel's rules (core(5)): nothing of areas that are marked MADV_DONTDUMP or are devices' (smaps: dd, io), and of
the others what /proc/PID/coredump_filter asks for. With --all everything that can be read is searched: the control, which
shows that there was something to find. Exit code: 0 no hit, 3 hits. Needs root.
"""
import re
import sys

CHUNK = 16 << 20


def areas(pid):
    """(begin, end, permissions, inode, VmFlags) of each area."""
    with open(f"/proc/{pid}/smaps") as f:
        head = None
        for line in f:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)", line)
            if m:
                head = (int(m[1], 16), int(m[2], 16), m[3], int(m[4]))
            elif line.startswith("VmFlags:"):
                yield (*head, line.split()[1:])


def in_core(mode, inode, flags, wanted):
    if "dd" in flags or "io" in flags or "pf" in flags:
        return False
    shared = mode[3] == "s"
    bit = (3 if shared else 2) if inode else (1 if shared else 0)
    return bool(wanted >> bit & 1)


def search(pid, pattern, everything):
    """Hits, and bytes searched."""
    with open(f"/proc/{pid}/coredump_filter") as f:
        wanted = int(f.read() or "0", 16)  # nothing: a zombie
    hits = size = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for begin, end, mode, inode, flags in areas(pid):
            if "r" not in mode or not (everything or in_core(mode, inode, flags, wanted)):
                continue
            tail = b""
            for at in range(begin, end, CHUNK):
                try:
                    mem.seek(at)
                    data = mem.read(min(CHUNK, end - at))
                except (OSError, OverflowError, ValueError):
                    break
                size += len(data)
                hits += (tail + data).count(pattern)
                tail = data[-len(pattern) + 1:]
    return hits, size


def main():
    everything = sys.argv[1] == "--all"
    pattern, *pids = sys.argv[2:] if everything else sys.argv[1:]
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/comm") as f:
                name = f.read().strip()
            hits, size = search(pid, pattern.encode(), everything)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended, maybe while it was searched
        total += hits
        print(f"{name} {pid}: {hits} hits in {size >> 10} KiB")
    sys.exit(3 if total else 0)


main()
