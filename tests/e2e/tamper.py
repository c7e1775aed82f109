"""What tests/e2e/tamper.sh does to files, and how it judges what the daemons said about it.

kinds DIR               fails when a file of the cluster is of no kind below
count DIR               how many files of each kind
hurt DIR OLD ROUND PLAN does what the round says to one file of each kind; PLAN: what was done
judge DIR ROUND PLAN    fails unless the logs name every file of the plan
"""
import json
import os
import re
import sys

ID = r"[0-9a-f]{32}"
TIMELINE = rf"tenants/{ID}/timelines/{ID}"
# What has to be noticed.
KINDS = {
    "layer": rf"pageserver/{TIMELINE}/{ID}-\d+\.layer",
    "timeline manifest": rf"store/{TIMELINE}/manifest",
    "tenant manifest": rf"store/tenants/{ID}/manifest",
    "keyring": rf"store/tenants/{ID}/keyring",
    "members": rf"store/{TIMELINE}/members",
    "archive": rf"store/{TIMELINE}/wal/[0-9a-f]{{16}}",
    "epoch": rf"store/{TIMELINE}/compute_epoch",
    "wal": rf"safekeeper-\d/{TIMELINE}/[0-9a-f]{{16}}\.wal",
    "control": rf"safekeeper-\d/{TIMELINE}/control",
    "node": r"safekeeper-\d/daemon\.node",
    "audit": r"(safekeeper-\d|pageserver)/audit\.log",
    "audit key": r"(safekeeper-\d|pageserver)/audit\.(key|pub)",
    "keyring witness": rf"(safekeeper-\d|pageserver)/keyrings-seen/{ID}",
    "manifest witness": rf"pageserver/manifests-seen/{ID}(\.{ID})?(\.epoch)?",
    "pins": r"(safekeeper-\d|pageserver)/kms\.pins",
    "node witness": rf"safekeeper-\d/daemon\.witness|store/nodes/{ID}/witness",
}
# What says nothing that anybody believes, or is the operator's own.
OTHERS = {
    "lock": r"store/.*/\.lock|.*/daemon\.pid",
    "reserve": r"safekeeper-\d/reserve",
    "spare": rf"safekeeper-\d/{TIMELINE}/[0-9a-f]{{16}}\.spare",  # a WAL file again only behind a new head; a start deletes it
    "operator's": r"(cluster|audit-heads)\.json|cmk\.key|computes/.*\.json|conf/.*\.ini|run/.*|secrets/.*|log/.*\.log",
}


def kind_of(name):
    for kinds in (KINDS, OTHERS):
        for kind, pattern in kinds.items():
            if re.fullmatch(pattern, name):
                return kind
    return None


def files(top):
    for where, _, names in os.walk(top):
        for name in names:
            path = os.path.join(where, name)
            if os.path.isfile(path):
                yield os.path.relpath(path, top)


def kinds(top):
    unknown = [n for n in files(top) if kind_of(n) is None]
    seen = {kind_of(n) for n in files(top)}
    for name in unknown:
        print("unknown kind of file:", name)
    for kind in KINDS.keys() - seen:
        print("no file of the kind", kind, "to try")
    return not unknown and not KINDS.keys() - seen


def load(path):
    with open(path, "rb") as f:
        return f.read()


def save(path, data):
    with open(path, "wb") as f:
        f.write(data)


class Site:
    """The cluster at rest; names as `loch branch list --json` had them."""

    def __init__(self, top, old):
        self.top, self.old = top, old
        with open(os.path.join(top, "..", "names.json")) as f:
            rows = json.load(f)
        self.ids = {(r["tenant_name"], r["name"]): (r["tenant"], r["timeline"]) for r in rows}

    def all(self, pattern):
        return sorted(n for n in files(self.top) if re.fullmatch(pattern, n))

    def place(self, tenant, branch):
        return "tenants/%s/timelines/%s" % self.ids[tenant, branch]

    def largest(self, pattern):
        return max(self.all(pattern), key=lambda n: os.path.getsize(os.path.join(self.top, n)))


def targets(s):
    """kind: the file, then its donors from another timeline and another tenant (None: there is none of another)."""
    main, lay = s.place("main", "main"), s.place("lay", "main")

    def tenant(name):
        return "store/tenants/" + s.ids[name, "main"][0]

    def layer(place):
        return s.largest("pageserver/" + place + r"/.*\.layer")

    def wal(node, place):
        big = [n for n in s.all(f"safekeeper-{node}/" + place + r"/.*\.wal") if os.path.getsize(os.path.join(s.top, n)) > 8000]
        return big[-1]

    def archive(place):
        return s.all("store/" + place + r"/wal/[0-9a-f]{16}")[0]

    return {
        "layer": (layer(lay), layer(s.place("main", "v2")), layer(main)),
        "timeline manifest": tuple("store/" + p + "/manifest" for p in (s.place("main", "v1"), s.place("main", "v2"), lay)),
        "tenant manifest": (tenant("man") + "/manifest", "store/" + s.place("man", "main") + "/manifest", tenant("main") + "/manifest"),
        "keyring": (tenant("ring") + "/keyring", tenant("ring") + "/manifest", tenant("main") + "/keyring"),
        "members": tuple("store/" + p + "/members" for p in (s.place("main", "v3"), s.place("main", "v4"), lay)),
        "archive": (archive(main), archive(lay), archive(lay)),
        "epoch": ("store/" + s.place("main", "v5") + "/compute_epoch", None, None),
        "wal": (wal(1, main), wal(2, main), wal(1, lay)),
        "control": tuple(f"safekeeper-{n}/" + p + "/control" for n, p in ((1, s.place("main", "v4")), (1, s.place("main", "v5")), (2, s.place("main", "v4")))),
    }


# What is rolled back: a file that has a newer version.
def rolled(s):
    lay, ids = s.place("lay", "main"), s.ids
    return {
        "timeline manifest": "store/" + lay + "/manifest",
        "tenant manifest": "store/tenants/" + ids["man", "main"][0] + "/manifest",
        "keyring": "store/tenants/" + ids["ring", "main"][0] + "/keyring",
        "epoch": "store/" + s.place("main", "v5") + "/compute_epoch",
        "control": "safekeeper-1/" + s.place("main", "v5") + "/control",
        "node witness": "safekeeper-2/daemon.witness",
    }


# What lies in a daemon's own directory and is no tenant's.
def own(s):
    return {
        "node": "safekeeper-1/daemon.node",
        "audit": "safekeeper-2/audit.log",
        "keyring witness": "pageserver/keyrings-seen/" + s.ids["ring", "main"][0],
        "manifest witness": "pageserver/manifests-seen/%s.%s" % s.ids["lay", "main"],
        "pins": "safekeeper-3/kms.pins",
    }


def which(s, round_):
    all_ = targets(s)
    if round_ == "back":
        return rolled(s)
    if round_ == "own":
        return own(s)
    if round_ == "block":
        return {kind: all_[kind][0] for kind in ("layer", "archive", "wal")}
    donor = {"timeline": 1, "tenant": 2}.get(round_, 0)
    return {kind: names[0] for kind, names in all_.items() if names[donor]}


def hurt(s, round_, plan):
    done = []
    for kind, name in which(s, round_).items():
        path = os.path.join(s.top, name)
        data = bytearray(load(path))
        if round_ == "flip":
            for at in range(400, len(data), 4000) if kind in ("layer", "wal") else [len(data) - 5]:
                data[at] ^= 4
        elif round_ == "cut":
            del data[1500 if kind == "wal" else len(data) * 3 // 5:]
        elif round_ == "own":
            data[-40 if kind == "pins" else len(data) // 2] ^= 4 if kind != "pins" else 0x80
        elif round_ == "block":  # every second kilobyte changes places with the one behind it
            for at in range(1024, len(data) - 2048, 2048):
                data[at:at + 2048] = data[at + 1024:at + 2048] + data[at:at + 1024]
        elif round_ == "back":
            data = load(os.path.join(s.old, name))
            assert data != load(path), f"{name} has no older version"
        else:
            data = load(os.path.join(s.top, targets(s)[kind][1 if round_ == "timeline" else 2]))
            assert data != load(path), f"{name} and its donor are one"
        save(path, data)
        done.append([kind, name])
    save(plan, json.dumps(done).encode())


def judge(top, round_, plan):
    said = []
    for name in os.listdir(os.path.join(top, "log")):
        with open(os.path.join(top, "log", name), errors="replace") as f:
            said += [f"{name}: {line}" for line in f]
    good = True
    for kind, name in json.loads(load(plan)):
        key = re.escape(name.split("/", 1)[1])  # where the daemon's own directory begins
        if kind == "layer":
            key = re.search(rf"({ID})-", name).group(1)
        elif kind == "control" and round_ == "back":
            key = os.path.dirname(name)  # which of the files there is the old one cannot be known
        elif kind == "node":
            key = r"safekeeper-1(/daemon\.node| belongs to node)"
        elif kind in ("audit", "pins"):
            key = re.escape(name)
        lines = [line for line in said if re.search(key, line)]
        good = good and bool(lines)
        print(f"{round_}: {kind}: {lines[-1].strip()[-230:] if lines else 'NOT NOTICED: ' + name}")
    return good


if __name__ == "__main__":
    command, top = sys.argv[1:3]
    if command == "kinds":
        sys.exit(not kinds(top))
    elif command == "count":
        seen = [kind_of(n) for n in files(top)]
        print(", ".join(f"{k} {seen.count(k)}" for k in KINDS))
    elif command == "hurt":
        hurt(Site(top, sys.argv[3]), *sys.argv[4:6])
    elif command == "judge":
        sys.exit(not judge(top, *sys.argv[3:5]))
