#!/usr/bin/env python3
"""GetPage of a page that is an image beside one that is an image and ten records, by the page service: same shape of
table, same layers, all of it on disk. Progress on standard error; one JSON object on the last line of standard output.

    tests/bench/chain.py [--pages 4000] [--rounds 5] [--seconds 3] [--connections 1] [--port-base 24100] [--dir DIR]

A stock cluster with two such tables is imported; each page of one gets ten HOT updates. Measured first as it was written (the
records in a layer above the images'), then merged (a page's image and records in one block). The pageserver has no page cache
to speak of; opened blocks of several pages are cached (frame_cache, 64 MiB by default), an image's is opened for each read.
Compared is the pageserver's CPU of an answer, round by round; `records` says what a read applied, `image_again` is the noise.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

from common import BIN, BUILD, Cluster, as_postgres, note, run

ROWS_A_PAGE = 18  # with that fill factor
RECORDS = 10


def stock(folder, port, pages):
    """A data directory with the tables `image` and `chain`, cleanly stopped."""
    data = folder / "data"
    folder.mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    run(as_postgres([BIN / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--locale=C", "--encoding=UTF8"]))
    control = [BIN / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o",
               f"-p {port} -c unix_socket_directories= -c listen_addresses=127.0.0.1"]
    run(as_postgres([*control, "start"]))
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    for table in ("image", "chain"):
        run(["psql", url, "-Xq", "-v", "ON_ERROR_STOP=1", "-c", f"CREATE TABLE {table} (id int, n int, pad text) WITH (fillfactor = 40)",
             "-c", f"INSERT INTO {table} SELECT g, 0, repeat(md5(g::text), 4) FROM generate_series(0, {pages * ROWS_A_PAGE - 1}) g",
             "-c", f"VACUUM (FREEZE) {table}"])
    run(as_postgres([*control, "stop"]))
    return data


def prepare(cluster, data):
    """The tenant, its table's rows updated, all of it in layers; the paths of the tables."""
    cluster.loch("up")
    cluster.loch("tenant", "create", "bench", "--import", data)
    cluster.loch("compute", "start", "bench", "--tenant", "bench", "--set", "autovacuum=off")
    url = next(c["url"] for c in json.loads(cluster.loch("compute", "list", "--json")) if c["name"] == "bench")
    run(["psql", url, "-Xqc", "ALTER TABLE chain SET (fillfactor = 100)"])  # nothing is pruned before the page is full
    for _ in range(RECORDS):  # one row of each page
        run(["psql", url, "-Xqc", "UPDATE chain SET n = n + 1 WHERE n > 0 OR (ctid::text::point)[1] = 1"])
    paths = run(["psql", url, "-XAtqc", "SELECT pg_relation_filepath(x) FROM unnest('{image,chain}'::regclass[]) x"]).split()
    cluster.loch("compute", "stop", "bench")
    branch = cluster.branch(tenant="bench")
    name = f"{branch['tenant']} {branch['timeline']}"
    cluster.console(f"FLUSH {name}")
    return name, paths


def read_records(cluster):
    """So far; the pageserver notes it at each upkeep."""
    time.sleep(2)
    return cluster.metrics("pageserver")["loch_pageserver_read_records"]


def measure(cluster, relation, o):
    before = read_records(cluster)
    got = json.loads(run([BUILD / "bin" / "loch-bench", "getpage", "--dir", cluster.dir, "--tenant", "bench", "--relation", relation,
                          "--connections", o.connections, "--seconds", o.seconds, "--no-echo", "--json"]))["getpage"]
    records = read_records(cluster) - before
    return {"cpu_us": got["server_cpu_us_per_answer"], "per_second": got["per_second"], "p50_us": got["latency_us"]["p50"],
            "records": records / got["answers"]}


def compare(cluster, image, chain, o):
    rounds = {"image": [], "chain": [], "image_again": []}
    for _ in range(o.rounds):
        for what, relation in (("image", image), ("chain", chain), ("image_again", image)):
            rounds[what].append(measure(cluster, relation, o))
            note(f"{what}: {rounds[what][-1]}")
    ratios = [2 * chain["cpu_us"] / (image["cpu_us"] + again["cpu_us"]) for image, chain, again in zip(*rounds.values())]
    medians = {what: {key: round(statistics.median(r[key] for r in rows), 2) for key in rows[0]} for what, rows in rounds.items()}
    return {**medians, "cpu_ratio": round(statistics.median(ratios), 3)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("pages", 4000), ("rounds", 5), ("seconds", 3), ("connections", 1), ("port-base", 24100)):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--dir", default="/tmp")
    o = p.parse_args()
    os.environ.update(LOCH_PAGESERVER_PAGE_CACHE="1MiB", LOCH_LAYERS_UPKEEP="1s")  # which notes what was read
    work = pathlib.Path(tempfile.mkdtemp(prefix="loch-bench.", dir=o.dir))
    os.chmod(work, 0o711)
    cluster = Cluster(work / "loch", o.port_base)
    try:
        branch, (image, chain) = prepare(cluster, stock(work / "stock", o.port_base + 99, o.pages))
        measure(cluster, image, o)
        result = {"as_written": compare(cluster, image, chain, o)}
        cluster.console(f"COMPACT {branch}")
        measure(cluster, image, o)
        result["merged"] = compare(cluster, image, chain, o)
    finally:
        cluster.stop()
        shutil.rmtree(work, ignore_errors=True)
    print(json.dumps({"what": "chain", "pages": o.pages, **result}))


if __name__ == "__main__":
    main()
