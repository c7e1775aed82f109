#!/usr/bin/env python3
"""Holds the house to its plan: reads the room table out of docs/architecture.md and fails on an include
that enters a room, or a foreign library, which the table does not list; and on a cycle in the table."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FREE = set("""assert.h ctype.h errno.h fcntl.h inttypes.h limits.h math.h pthread.h setjmp.h signal.h stdarg.h
stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h strings.h time.h unistd.h link.h dirent.h ftw.h
poll.h semaphore.h pwd.h grp.h endian.h malloc.h sched.h netdb.h elf.h immintrin.h dlfcn.h""".split())  # the C library and the kernel
FREE_DIRS = ("sys/", "netinet/", "arpa/", "linux/", "net/")
FOREIGN = (  # header prefix, the name the table uses
    ("xxhash.h", "xxhash"), ("isa-l", "isa-l"), ("uthash.h", "uthash"), ("utlist.h", "uthash"),
    ("bsd/", "libbsd"), ("openssl/ssl", "openssl/ssl"), ("openssl/tls1", "openssl/ssl"),
    ("openssl/x509", "openssl/ssl"), ("openssl/evp", "openssl/evp"), ("openssl/hmac", "openssl/evp"),
    ("openssl/sha", "openssl/evp"), ("openssl/kdf", "openssl/kdf"), ("openssl/params", "openssl/params"),
    ("openssl/core_names", "openssl/params"), ("openssl/", "openssl/crypto"), ("zstd", "zstd"), ("lz4", "lz4"),
    ("uv.h", "uv"), ("liburing.h", "liburing"), ("libpq-fe.h", "libpq-fe"), ("curl/", "curl"),
    ("expat.h", "expat"), ("jansson.h", "jansson"), ("ini.h", "inih"), ("getopt.h", "getopt"),
    ("microhttpd.h", "microhttpd"), ("p11-kit/", "p11-kit"), ("seccomp.h", "seccomp"),
)
FOLDERS = {"src/agent": "agent", "safekeeper": "safekeeper", "pageserver": "pageserver",
           "compute-ext": "compute-ext"}
POSTGRES = ("compute-ext/", "pageserver/redo-worker/")


def table():
    rooms = {}
    for line in (ROOT / "docs/architecture.md").read_text().splitlines():
        m = re.match(r"\|\s*([a-z-]+)\s*\|\s*([^|]*)\|\s*([^|]*)\|", line)
        if m and m.group(1) != "room" and set(m.group(1)) - {"-"}:
            may = {w for w in re.findall(r"[a-z-]+", re.sub(r"\(.*?\)", "", m.group(2))) if w != "-"}
            rooms[m.group(1)] = (may, m.group(3))
    return rooms


def room_of(path):
    for folder, room in FOLDERS.items():
        if path.startswith(folder + "/"):
            return room
    m = re.match(r"(?:src|include/loch)/([a-z-]+)/", path)
    return m.group(1) if m else None


def cycles(rooms):
    done, active = set(), []

    def visit(room):
        if room in active:
            return ["cycle in the room table: " + " -> ".join(active + [room])]
        if room in done or room not in rooms:
            return []
        active.append(room)
        found = [e for other in sorted(rooms[room][0]) for e in visit(other)]
        active.pop()
        done.add(room)
        return found

    return [e for room in rooms for e in visit(room)]


def check_include(path, room, rooms, inc, quoted):
    may, foreign = rooms[room]
    m = re.match(r"loch/([a-z-]+)/", inc)
    if m:
        return None if m.group(1) in may | {room} else f"{room} may not enter {m.group(1)} ({inc})"
    if quoted or inc in FREE or inc.startswith(FREE_DIRS) or path.startswith(POSTGRES):
        return None  # what lives inside PostgreSQL has its headers for a world
    for prefix, name in FOREIGN:
        if inc.startswith(prefix):
            return None if name in foreign else f"{room} may not include {inc} ({name} is not in its row)"
    return f"{room} includes {inc}, which no row lists"


def check_file(p, rooms):
    path = str(p.relative_to(ROOT))
    room = room_of(path)
    if room in (None, "tools"):
        return
    if room not in rooms:
        yield f"{path}: room {room} is not in the table"
        return
    for n, line in enumerate(p.read_text(errors="replace").splitlines(), 1):
        m = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
        why = m and check_include(path, room, rooms, m.group(2), m.group(1) == '"')
        if why:
            yield f"{path}:{n}: {why}"


def main():
    rooms = table()
    errors = cycles(rooms)
    files = [p for pattern in ("src/**/*.[ch]", "include/**/*.[ch]", "safekeeper/**/*.[ch]",
                               "pageserver/**/*.[ch]", "compute-ext/**/*.[ch]") for p in ROOT.glob(pattern)]
    if not rooms or not files:
        errors.append("no room table or no sources found")
    for p in files:
        errors.extend(check_file(p, rooms))
    homes = sorted((ROOT / "src").iterdir()) + [ROOT / "safekeeper", ROOT / "pageserver", ROOT / "compute-ext"]
    errors += [f"{p.relative_to(ROOT)}: the room has no README.md" for p in homes
               if p.is_dir() and p.name != "tools" and not (p / "README.md").exists()]
    print("\n".join(errors + [f"rooms: {len(rooms)} rooms, {len(files)} files, {len(errors)} errors"]))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
